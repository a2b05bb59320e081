//! Calls by way of a proxy whose connection is lost: it is made anew, and the peer's requests come by it.

use std::time::Duration;

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, World, sip};
use voipd_agent::AccountId;
use voipd_agent::view::{AccountState, CallId, CallState, Reason};
use voipd_sip::message::Request;

const SERVER: &str = "198.51.100.10:5060";

/// Alice, registered by TCP with a proxy, and in a call from a peer behind it.
struct Talk {
    world: World,
    alice: HostId,
    server: HostId,
    account: AccountId,
    peer: Peer,
    call: CallId,
}

impl Talk {
    /// In a call that begins so long after the registration.
    fn after(registered: Duration) -> Self {
        let mut world = World::new();
        let server = world.registrar(SERVER, "alice", "secret-word");
        world.takes_connections(server);
        world.registrar_at(server).passes_on = true;
        let alice = world.agent("192.0.2.1:5060");
        let settings = sip("home", "sip:alice@198.51.100.10;transport=tcp", "secret-word");
        let account = world.account(alice, settings);
        world.run_s(1);
        assert_eq!(world.account_state(alice, account), AccountState::Registered);
        world.run(registered);
        let contact = world.registrar_at(server).binding.clone().unwrap();
        assert!(contact.contains("transport=tcp"), "{contact}");
        let mut peer = Peer::calling(&world, server, alice, &contact);
        peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
        world.speakers.insert("192.0.2.9:4000".parse().unwrap());
        world.run_ms(50);
        let call = world.live_call(alice);
        world.accept(alice, call);
        world.run_ms(50);
        let answers = world.said_to(alice, server);
        let ok = answers.iter().rev().find(|text| text.starts_with("SIP/2.0 200")).unwrap();
        let voipd_sip::message::Message::Response(ok) = crate::common::read(ok.as_bytes()) else { panic!() };
        peer.learn(&ok);
        peer.request(&mut world, "ACK", "");
        world.run_s(2);
        assert_eq!(world.state(alice, call), CallState::Active);
        world.registrar_at(server).seen.clear();
        Self { world, alice, server, account, peer, call }
    }

    /// What has come to the proxy since the last time, while it answers what it is offered.
    fn pass(&mut self, time: Duration) -> Vec<Request> {
        let (until, mut all) = (self.world.now + time, Vec::new());
        while self.world.now < until {
            self.world.run_ms(20);
            for request in std::mem::take(&mut self.world.registrar_at(self.server).seen) {
                if request.method.as_str() == "INVITE" {
                    let answer = sdp("192.0.2.9", 4000, "sendrecv");
                    self.peer.answer(&mut self.world, &request, 200, &answer);
                }
                all.push(request);
            }
        }
        all
    }
}

fn names(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.method.as_str()).collect()
}

#[test]
fn a_proxy_that_restarts_in_a_call_is_found_in_seconds_and_the_peer_is_told() {
    // Right after the registration, and when the connection has lasted.
    for registered in [Duration::ZERO, Duration::from_secs(300)] {
        let mut talk = Talk::after(registered);
        talk.world.goes_down(talk.server, talk.alice);
        assert!(talk.pass(Duration::from_secs(10)).is_empty());
        assert!(talk.world.refused(talk.server) >= 2, "it is looked for");
        assert_ne!(talk.world.account_state(talk.alice, talk.account), AccountState::Registered);
        assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
        talk.world.comes_up(talk.server);
        let heard = talk.pass(Duration::from_secs(10));
        // The binding comes first: without it the proxy would not know us. Then the peer, once.
        let invites = heard.iter().filter(|request| request.method.as_str() == "INVITE");
        assert_eq!(names(&heard)[0], "REGISTER", "{:?}", names(&heard));
        assert_eq!(invites.count(), 1, "{:?}", names(&heard));
        let invite = heard.iter().find(|request| request.method.as_str() == "INVITE").unwrap();
        assert_eq!(invite.call_id, talk.peer.call_id());
        assert!(invite.to.tag().is_some(), "within the dialog");
        assert_eq!(talk.world.account_state(talk.alice, talk.account), AccountState::Registered);
        // What the peer sends by it arrives.
        talk.peer.request(&mut talk.world, "BYE", "");
        talk.world.run_s(1);
        assert_eq!(talk.world.end(talk.alice, talk.call).0, Reason::Remote);
    }
}

#[test]
fn a_connection_that_is_cut_is_made_anew_within_two_seconds() {
    let mut talk = Talk::after(Duration::from_secs(300));
    talk.world.cut(talk.server, talk.alice);
    let heard = talk.pass(Duration::from_secs(3));
    assert_eq!(names(&heard).iter().filter(|name| **name == "INVITE").count(), 1, "{:?}", names(&heard));
    // Nothing is told for ever, and nothing twice.
    let later = talk.pass(Duration::from_secs(60));
    assert!(!names(&later).contains(&"INVITE"), "{:?}", names(&later));
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
    // Our own requests go by the new connection.
    talk.world.hang_up(talk.alice, talk.call);
    talk.world.run_ms(50);
    let heard = std::mem::take(&mut talk.world.registrar_at(talk.server).seen);
    assert_eq!(names(&heard), ["BYE"]);
}

#[test]
fn an_offer_that_meets_a_proxy_which_is_down_again_is_made_once_more() {
    let mut talk = Talk::after(Duration::from_secs(300));
    talk.world.cut(talk.server, talk.alice);
    // As soon as the binding stands, the proxy goes down a second time, and the offer comes to nothing.
    while talk.world.account_state(talk.alice, talk.account) != AccountState::Registered {
        talk.world.run_ms(1);
    }
    talk.world.registrar_at(talk.server).seen.clear();
    talk.world.goes_down(talk.server, talk.alice);
    talk.pass(Duration::from_secs(4));
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
    talk.world.comes_up(talk.server);
    let heard = talk.pass(Duration::from_secs(65));
    assert!(names(&heard).contains(&"INVITE"), "{:?}", names(&heard));
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
}
