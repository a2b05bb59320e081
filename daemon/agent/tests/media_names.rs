//! Host names in session descriptions (RFC 8866 section 5.7): asked for without holding anything else up, answered late,
//! not at all, or after the call is over.

use crate::common::peer::{Called, Peer, sdp};
use crate::common::{HostId, Pair, World};
use voipd_agent::MediaNameId;
use voipd_agent::view::{CallId, CallState, Reason};

const NAME: &str = "media.example";

/// Alice's phone, and a scripted peer that calls it from a host whose media has a name.
fn called_from_a_name() -> (World, HostId, Peer) {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    peer.request(&mut world, "INVITE", &sdp(NAME, 4000, "sendrecv"));
    world.run_ms(50);
    (world, alice, peer)
}

fn answer(world: &mut World, alice: HostId, id: MediaNameId, result: Result<&str, &str>) {
    let result = match result {
        Ok(address) => Ok(vec![address.parse().unwrap()]),
        Err(why) => Err(why.to_owned()),
    };
    world.act(alice, |agent, now| agent.handle_media_resolved(now, id, result));
    world.run_ms(50);
}

fn question(world: &mut World) -> MediaNameId {
    let (_, id, name) = world.media_questions.remove(0);
    assert_eq!(name, NAME);
    id
}

fn remote(world: &World, host: HostId, call: CallId) -> String {
    let remote = world.plan(host, call).path.remote();
    remote.to_string()
}

#[test]
fn an_offer_with_a_name_rings_when_the_name_has_an_address() {
    let (mut world, alice, mut peer) = called_from_a_name();
    assert!(world.calls(alice).is_empty(), "nothing rings yet");
    assert!(!world.ringer_open(alice));
    let id = question(&mut world);
    answer(&mut world, alice, id, Ok("192.0.2.44"));
    let call = world.live_call(alice);
    assert_eq!(world.state(alice, call), CallState::Incoming);
    world.accept(alice, call);
    world.run_ms(50);
    let ok = world.responses(peer.host).pop().unwrap();
    peer.learn(&ok);
    peer.request(&mut world, "ACK", "");
    world.run_ms(50);
    assert_eq!(remote(&world, alice, call), "192.0.2.44:4000");
}

#[test]
fn a_name_without_an_address_refuses_the_call_by_name() {
    let (mut world, alice, peer) = called_from_a_name();
    let id = question(&mut world);
    answer(&mut world, alice, id, Err("no such host"));
    let call = world.calls(alice)[0];
    assert_eq!(world.end(alice, call), (Reason::NoCommonCodec, 488));
    let refusal = world.responses(peer.host).pop().unwrap();
    assert!(refusal.headers.get("Warning").unwrap().contains(NAME));
    assert!(world.log(alice).iter().any(|line| line.contains(NAME) && line.contains("no such host")));
    assert!(world.media_questions.is_empty(), "asked once");
}

#[test]
fn a_name_server_that_says_nothing_is_given_up_after_five_seconds() {
    let (mut world, alice, _) = called_from_a_name();
    let id = question(&mut world);
    world.run_ms(4800);
    assert!(world.calls(alice).is_empty());
    world.run_ms(400);
    let call = world.calls(alice)[0];
    assert_eq!(world.end(alice, call).1, 488);
    // An answer that comes too late changes nothing.
    answer(&mut world, alice, id, Ok("192.0.2.44"));
    assert_eq!(world.calls(alice), [call]);
}

#[test]
fn several_names_are_given_up_together() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    let offer = sdp(NAME, 4000, "sendrecv") + "a=rtcp:4001 IN IP4 other.example\n";
    peer.request(&mut world, "INVITE", &offer);
    world.run_ms(50);
    assert_eq!(world.media_questions.len(), 2);
    world.run_ms(5200);
    let call = world.calls(alice)[0];
    assert_eq!(world.end(alice, call).1, 488);
    assert_eq!(world.media_questions.len(), 2, "each is asked for once");
}

#[test]
fn a_caller_that_gives_up_meanwhile_leaves_nothing() {
    let (mut world, alice, mut peer) = called_from_a_name();
    peer.request(&mut world, "CANCEL", "");
    world.run_ms(50);
    let id = question(&mut world);
    answer(&mut world, alice, id, Ok("192.0.2.44"));
    assert!(world.calls(alice).is_empty(), "no call out of a stale answer");
}

#[test]
fn a_question_holds_up_no_other_call() {
    let (mut world, alice, _) = called_from_a_name();
    let bob = world.phone("192.0.2.2:5060");
    let call = world.dial(bob, "sip:alice@192.0.2.1");
    world.run_ms(100);
    let ringing = world.live_call(alice);
    world.accept(alice, ringing);
    world.run_ms(100);
    assert_eq!(world.state(bob, call), CallState::Active);
}

#[test]
fn strangers_get_no_names_looked_up() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    // Outside of what the account allows.
    let raw = world.raw("203.0.113.9:5060");
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    peer.request(&mut world, "INVITE", &sdp(NAME, 4000, "sendrecv"));
    world.run_ms(50);
    assert!(world.media_questions.is_empty());
    assert_eq!(world.responses(raw).pop().unwrap().status.get(), 404);
}

#[test]
fn an_answer_with_a_name_starts_the_stream_when_it_is_known_and_what_follows_waits_behind_it() {
    let Called { mut world, alice, call, invite, peer, .. } = Called::new();
    peer.answer(&mut world, &invite, 183, &sdp(NAME, 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Dialing);
    peer.answer(&mut world, &invite, 200, &sdp(NAME, 4000, "sendrecv"));
    world.run_ms(50);
    assert!(!world.has_stream(alice, call));
    let id = question(&mut world);
    assert!(world.media_questions.is_empty(), "one name is one question");
    answer(&mut world, alice, id, Ok("192.0.2.44"));
    assert_eq!(world.state(alice, call), CallState::Active, "both, in the order in which they came");
    assert_eq!(remote(&world, alice, call), "192.0.2.44:4000");
}

#[test]
fn a_reinvite_with_a_name_moves_the_media_and_the_call_goes_on_meanwhile() {
    let Called { mut world, alice, raw, call, invite, mut peer } = Called::new();
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.inbox(raw);
    peer.request(&mut world, "INVITE", &sdp(NAME, 4444, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(remote(&world, alice, call), "192.0.2.9:4000");
    let id = question(&mut world);
    answer(&mut world, alice, id, Ok("192.0.2.45"));
    let ok = world.responses(raw).pop().unwrap();
    assert_eq!(ok.status.get(), 200);
    assert_eq!(remote(&world, alice, call), "192.0.2.45:4444");
}

#[test]
fn a_flood_of_names_is_bounded() {
    let mut world = World::new();
    let roomy = voipd_agent::AgentConfig { max_calls: 200, ..crate::common::config() };
    let alice = world.agent_with("192.0.2.1:5060", roomy);
    world.account(alice, crate::common::direct());
    let raw = world.raw("192.0.2.9:5060");
    for number in 0..100 {
        let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
        peer.request(&mut world, "INVITE", &sdp(&format!("host{number}.example"), 4000, "sendrecv"));
    }
    world.run_ms(100);
    assert_eq!(world.media_questions.len(), 64);
    world.run_s(40);
    assert!(world.calls(alice).iter().all(|call| world.state(alice, *call) == CallState::Ended));
}

#[test]
fn two_phones_are_not_asked_for_names_at_all() {
    let mut pair = Pair::new();
    pair.talking();
    assert!(pair.world.media_questions.is_empty());
}
