//! Calls without ICE whose account's server sees us elsewhere than before: their peers are told by a re-INVITE.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, World, direct, sip};
use voipd_agent::view::{AccountState, CallId, CallState};

const SERVER: &str = "198.51.100.10:5060";
const PEER: &str = "198.51.100.20:5060";
/// Where the peer's sound comes from.
const SOUND: &str = "198.51.100.20:4000";
const FIRST: &str = "203.0.113.5:40000";
const SECOND: &str = "203.0.113.99:41000";

/// Alice behind a router, registered, in a call by that account with a peer who speaks.
struct Talk {
    world: World,
    alice: HostId,
    server: HostId,
    peer: HostId,
    call: CallId,
    /// Numbers of the re-INVITEs that were answered.
    offers: BTreeSet<u32>,
}

impl Talk {
    fn new() -> Self {
        let mut world = World::new();
        let server = world.registrar(SERVER, "alice", "secret-word");
        world.registrar_at(server).sees = Some(FIRST.parse().unwrap());
        let alice = world.agent("192.168.1.10:5060");
        let account = world.account(alice, sip("home", "sip:alice@198.51.100.10", "secret-word"));
        world.run_s(1);
        assert_eq!(world.account_state(alice, account), AccountState::Registered);
        let peer = world.raw(PEER);
        let call = world.dial(alice, "sip:bob@198.51.100.20");
        world.run_ms(50);
        let invite = world.requests(peer).remove(0);
        let bob = Peer::called(peer, alice, &invite);
        bob.answer(&mut world, &invite, 200, &sdp("198.51.100.20", 4000, "sendrecv"));
        world.speakers.insert(SOUND.parse().unwrap());
        world.run_s(5);
        assert_eq!(world.state(alice, call), CallState::Active);
        world.requests(peer);
        world.registrar_at(server).seen.clear();
        Self { world, alice, server, peer, call, offers: BTreeSet::new() }
    }

    /// Lets time pass, in which the peer answers what it is offered.
    fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        while self.world.now < until {
            self.world.run_ms(20);
            for request in self.world.requests(self.peer) {
                let answer = match request.method.as_str() {
                    "INVITE" => {
                        self.offers.insert(request.cseq);
                        sdp("198.51.100.20", 4000, "sendrecv")
                    }
                    "ACK" => continue,
                    _ => String::new(),
                };
                let peer = Peer::called(self.peer, self.alice, &request);
                peer.answer(&mut self.world, &request, 200, &answer);
            }
        }
    }

    fn asked(&mut self) -> usize {
        self.world.registrar_at(self.server).seen.len()
    }
}

#[test]
fn a_peer_that_is_not_heard_any_more_is_told_as_soon_as_the_server_sees_us_elsewhere() {
    let mut talk = Talk::new();
    talk.world.registrar_at(talk.server).sees = Some(SECOND.parse().unwrap());
    talk.world.speakers.clear();
    talk.pass(Duration::from_secs(1));
    assert_eq!(talk.asked(), 0, "a second without sound is nothing");
    talk.pass(Duration::from_millis(1500));
    assert!(talk.asked() > 0, "the server is asked as whom it sees us");
    assert_eq!(talk.offers.len(), 1, "the peer is told");
    // It hears, and speaks: no more is said.
    talk.world.speakers.insert(SOUND.parse().unwrap());
    talk.pass(Duration::from_secs(60));
    assert_eq!(talk.offers.len(), 1);
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
}

#[test]
fn a_peer_that_falls_silent_is_left_in_peace_where_the_server_sees_us_where_we_were() {
    let mut talk = Talk::new();
    talk.world.speakers.clear();
    talk.pass(Duration::from_secs(20));
    assert!(talk.asked() > 0);
    assert_eq!(talk.offers.len(), 0, "nothing shows that it is our side");
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
}

#[test]
fn what_a_renewal_finds_is_told_also_where_sound_still_comes() {
    let mut talk = Talk::new();
    talk.world.registrar_at(talk.server).sees = Some(SECOND.parse().unwrap());
    // The binding of 600 s is renewed before it ends.
    talk.pass(Duration::from_secs(600));
    assert_eq!(talk.offers.len(), 1);
}

#[test]
fn calls_of_other_accounts_are_not_told() {
    let mut talk = Talk::new();
    talk.world.account(talk.alice, direct());
    let neighbour = talk.world.raw("192.0.2.9:5060");
    let mut caller = Peer::calling(&talk.world, neighbour, talk.alice, "sip:alice@192.168.1.10");
    caller.request(&mut talk.world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    talk.world.run_ms(50);
    let inbound = talk.world.calls(talk.alice).into_iter().find(|call| *call != talk.call).unwrap();
    talk.world.accept(talk.alice, inbound);
    talk.world.run_ms(50);
    caller.request(&mut talk.world, "ACK", "");
    talk.world.run_ms(50);
    // The first one is put on hold.
    talk.pass(Duration::from_secs(1));
    talk.offers.clear();
    talk.world.requests(neighbour);
    talk.world.registrar_at(talk.server).sees = Some(SECOND.parse().unwrap());
    talk.pass(Duration::from_secs(600));
    assert_eq!(talk.offers.len(), 1);
    let told = talk.world.requests(neighbour);
    assert!(told.iter().all(|request| request.method.as_str() != "INVITE"), "{told:?}");
}

#[test]
fn a_router_that_translates_each_packet_anew_makes_no_storm() {
    let mut talk = Talk::new();
    for port in 0..30 {
        talk.world.registrar_at(talk.server).sees = Some(([203, 0, 113, 5], 50_000 + port).into());
        let home = talk.world.act(talk.alice, |agent, _| agent.find_account("home")).unwrap();
        talk.world.act(talk.alice, |agent, now| agent.register_account(now, home, true)).unwrap();
        talk.pass(Duration::from_secs(1));
    }
    assert!((1..=2).contains(&talk.offers.len()), "{} offers in half a minute", talk.offers.len());
    assert_eq!(talk.world.state(talk.alice, talk.call), CallState::Active);
}
