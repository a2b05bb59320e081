//! What calls make of offers outside of INVITE and its 2xx: early media that is held or moved, offers while it rings,
//! several callees, and the session timer.

use crate::common::peer::{Called, Peer, sdp};
use crate::common::{HostId, Pair, World};
use voipd_agent::Output;
use voipd_agent::view::{CallId, CallState, Reason};
use voipd_sip::message::{Request, Response};

const UPDATES: &str = "Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE\n";

fn direction(sdp: &str) -> &str {
    let known = |line: &&str| ["sendrecv", "sendonly", "recvonly", "inactive"].contains(&&line[2..]);
    &sdp.lines().filter(|line| line.starts_with("a=")).find(known).unwrap()[2..]
}

fn remote(world: &World, host: HostId, call: CallId) -> String {
    let remote = world.plan(host, call).path.remote();
    remote.to_string()
}

/// A call to a scripted peer that has answered early and reliably.
fn early() -> (World, HostId, CallId, Peer, Request) {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    let headers = format!("{UPDATES}Require: 100rel\nRSeq: 1\n");
    peer.answer_with(&mut world, &invite, 183, &headers, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let prack = world.requests(raw).remove(0);
    assert_eq!(prack.method.as_str(), "PRACK");
    peer.answer(&mut world, &prack, 200, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Early);
    (world, alice, call, peer, invite)
}

#[test]
fn early_media_that_gives_up_the_device_is_held_by_update() {
    let (mut world, alice, call, peer, invite) = early();
    world.raw("192.0.2.10:5060");
    let second = world.dial(alice, "sip:other@192.0.2.10");
    world.run_ms(50);
    assert!(world.view(alice, call).local_hold);
    let hold = world.requests(peer.host).remove(0);
    assert_eq!(hold.method.as_str(), "UPDATE");
    assert_eq!(direction(&String::from_utf8_lossy(&hold.body)), "sendonly");
    peer.answer(&mut world, &hold, 200, &sdp("192.0.2.9", 4000, "recvonly"));
    world.run_ms(50);
    world.hang_up(alice, second);
    // Back before the answer.
    world.resume(alice, call);
    world.run_ms(50);
    let resume = world.requests(peer.host).remove(0);
    assert_eq!(resume.method.as_str(), "UPDATE");
    assert_eq!(direction(&String::from_utf8_lossy(&resume.body)), "sendrecv");
    peer.answer(&mut world, &resume, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert!(world.plan(alice, call).send.is_some());
    assert_eq!(world.count_said(alice, "INVITE"), 2, "one for each call: the answer needs no other");
}

#[test]
fn early_media_of_a_peer_without_update_is_held_when_it_answers() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    world.raw("192.0.2.10:5060");
    world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.dial(alice, "sip:other@192.0.2.10");
    world.run_ms(50);
    assert!(world.requests(raw).is_empty());
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let requests = world.requests(raw);
    let methods: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["ACK", "INVITE"]);
    let sdp = String::from_utf8_lossy(&requests[1].body).into_owned();
    assert_eq!(direction(&sdp), "sendonly");
    // Nothing was written that was not sent: versions follow each other (RFC 3264 section 8).
    let version = |sdp: &str| -> u64 {
        let origin = sdp.lines().find(|line| line.starts_with("o=")).unwrap();
        origin.split(' ').nth(2).unwrap().parse().unwrap()
    };
    assert_eq!(version(&sdp), version(&String::from_utf8_lossy(&invite.body)) + 1);
}

#[test]
fn the_peer_moves_its_early_media() {
    let (mut world, alice, call, mut peer, invite) = early();
    peer.request(&mut world, "UPDATE", &sdp("192.0.2.50", 5000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.responses(peer.host)[0].status.get(), 200);
    assert_eq!(remote(&world, alice, call), "192.0.2.50:5000");
    peer.request(&mut world, "UPDATE", &crate::common::peer::strange_sdp("192.0.2.50", 5000));
    world.run_ms(50);
    assert_eq!(world.responses(peer.host)[0].status.get(), 488);
    // The 2xx says again what was said first; it is not what holds.
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(remote(&world, alice, call), "192.0.2.50:5000");
    peer.request(&mut world, "UPDATE", &sdp("192.0.2.50", 5000, "sendonly"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Held);
}

#[test]
fn the_callee_that_answers_is_heard_whoever_sounded_before() {
    let (mut world, alice, call, mut peer, invite) = early();
    // The first moves its sound; then another callee sounds, and the first answers the call.
    peer.request(&mut world, "UPDATE", &sdp("192.0.2.50", 5000, "sendrecv"));
    world.run_ms(50);
    let mut other = Peer::called(peer.host, alice, &invite);
    other.tag = "other";
    other.answer(&mut world, &invite, 183, &sdp("192.0.2.60", 6000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(remote(&world, alice, call), "192.0.2.60:6000");
    peer.answer(&mut world, &invite, 200, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(remote(&world, alice, call), "192.0.2.50:5000");
}

#[test]
fn another_callee_s_answer_comes_after_the_first_has_moved() {
    let (mut world, alice, call, mut peer, invite) = early();
    peer.request(&mut world, "UPDATE", &sdp("192.0.2.50", 5000, "sendonly"));
    world.run_ms(50);
    let mut other = Peer::called(peer.host, alice, &invite);
    other.tag = "other";
    other.answer(&mut world, &invite, 200, &sdp("192.0.2.60", 6000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(remote(&world, alice, call), "192.0.2.60:6000");
    assert!(world.plan(alice, call).send.is_some());
}

/// A peer that calls without an offer, and wants reliable responses.
fn calls_without_offer(world: &mut World, bob: HostId) -> Peer {
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(world, raw, bob, "sip:bob@192.0.2.2");
    peer.request_with(world, "INVITE", &format!("{UPDATES}Require: 100rel\n"), "");
    world.run_ms(50);
    peer
}

fn prack(world: &mut World, peer: &mut Peer, response: &Response, sdp: &str) {
    peer.learn(response);
    let rack = format!("RAck: {} {}\n", response.headers.get("RSeq").unwrap(), response.cseq);
    peer.request_with(world, "PRACK", &rack, sdp);
    world.run_ms(50);
}

#[test]
fn a_caller_that_wants_the_offer_with_the_ringing_gets_it() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let mut peer = calls_without_offer(&mut world, bob);
    let invite = peer.cseq;
    let early = world.responses(peer.host).pop().unwrap();
    assert_eq!(early.status.get(), 183);
    assert_eq!(direction(&String::from_utf8_lossy(&early.body)), "sendrecv");
    let call = world.live_call(bob);
    assert_eq!(world.state(bob, call), CallState::Incoming);
    prack(&mut world, &mut peer, &early, &sdp("192.0.2.9", 4000, "sendrecv"));
    assert_eq!(world.responses(peer.host).pop().unwrap().status.get(), 200);
    assert!(!world.has_stream(bob, call), "nobody has answered: nothing is sent");
    world.accept(bob, call);
    world.run_ms(50);
    let ok = world.responses(peer.host).pop().unwrap();
    assert_eq!((ok.status.get(), ok.body.is_empty()), (200, true));
    peer.cseq = invite;
    peer.request(&mut world, "ACK", "");
    world.run_ms(50);
    assert_eq!(world.state(bob, call), CallState::Active);
    assert_eq!(remote(&world, bob, call), "192.0.2.9:4000");
    assert_eq!(world.view(bob, call).codec, "PCMU");
}

#[test]
fn an_acceptance_before_the_sockets_or_the_prack_waits_for_both() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    world.station(bob).hold_binding = true;
    let mut peer = calls_without_offer(&mut world, bob);
    let call = world.live_call(bob);
    world.bind_held(bob);
    world.run_ms(50);
    let early = world.responses(peer.host).pop().unwrap();
    world.accept(bob, call);
    world.run_ms(50);
    assert!(world.responses(peer.host).is_empty());
    prack(&mut world, &mut peer, &early, &sdp("192.0.2.9", 4000, "sendrecv"));
    let codes: Vec<u16> = world.responses(peer.host).iter().map(|r| r.status.get()).collect();
    assert_eq!(codes, [200, 200]);
    assert_eq!(remote(&world, bob, call), "192.0.2.9:4000");

    // Accepted before there are sockets: the offer goes with the 2xx.
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    world.station(bob).hold_binding = true;
    let mut peer = calls_without_offer(&mut world, bob);
    let call = world.live_call(bob);
    world.accept(bob, call);
    world.bind_held(bob);
    world.run_ms(50);
    let ok = world.responses(peer.host).pop().unwrap();
    assert_eq!(ok.status.get(), 200);
    assert_eq!(direction(&String::from_utf8_lossy(&ok.body)), "sendrecv");
    peer.learn(&ok);
    peer.request(&mut world, "ACK", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(bob, call), CallState::Active);
    assert_eq!(remote(&world, bob, call), "192.0.2.9:4000");
}

#[test]
fn an_answer_in_prack_that_cannot_be_taken_refuses_the_call() {
    for answer in [crate::common::peer::strange_sdp("192.0.2.9", 4000), String::new()] {
        let mut world = World::new();
        let bob = world.phone("192.0.2.2:5060");
        let mut peer = calls_without_offer(&mut world, bob);
        let call = world.live_call(bob);
        let early = world.responses(peer.host).pop().unwrap();
        prack(&mut world, &mut peer, &early, &answer);
        let refusal = world.responses(peer.host).pop().unwrap();
        assert!(refusal.status.get() >= 400 && refusal.cseq.method.as_str() == "INVITE");
        assert_eq!(world.state(bob, call), CallState::Ended);
        assert_eq!(world.media_open(bob), 0);
    }
}

#[test]
fn an_early_offer_without_sockets_refuses_the_call() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    world.station(bob).no_sockets = Some("no port is free".to_owned());
    let peer = calls_without_offer(&mut world, bob);
    assert_eq!(world.responses(peer.host).pop().unwrap().status.get(), 500);
}

#[test]
fn a_call_is_refreshed_by_a_reinvite_that_changes_nothing() {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    let timer = "Require: timer\nSession-Expires: 90;refresher=uac\n";
    peer.answer_with(&mut world, &invite, 200, timer, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.requests(raw);
    let plan = world.plan(alice, call);
    let mut bodies = Vec::new();
    for _ in 0..3 {
        world.run_s(45);
        let refresh = world.requests(raw).remove(0);
        assert_eq!(refresh.method.as_str(), "INVITE");
        assert_eq!(refresh.headers.get("Session-Expires"), Some("90;refresher=uac"));
        peer.answer_with(&mut world, &refresh, 200, timer, &sdp("192.0.2.9", 4000, "sendrecv"));
        world.run_ms(50);
        world.requests(raw);
        bodies.push(refresh.body);
    }
    assert_eq!(
        (&bodies[0], &bodies[1]),
        (&bodies[1], &bodies[2]),
        "the same version of the same description"
    );
    assert_eq!(world.plan(alice, call), plan, "nothing has changed for the stream");
    assert_eq!(world.state(alice, call), CallState::Active);
    // The peer falls silent: the call ends a while before its time.
    world.run_s(65);
    assert_eq!(world.end(alice, call).0, Reason::Network);
}

#[test]
fn two_agents_refresh_without_a_word_to_anyone() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let (alice, bob) = (pair.alice, pair.bob);
    let before = (pair.world.states(alice, out), pair.world.states(bob, inb));
    pair.world.run_s(4000);
    assert!(pair.world.count_said(alice, "UPDATE") >= 4);
    assert_eq!(pair.world.count_said(alice, "INVITE"), 1);
    assert_eq!((pair.world.states(alice, out), pair.world.states(bob, inb)), before);
}

#[test]
fn an_offer_that_changes_the_bandwidth_alone_is_obeyed() {
    let Called { mut world, alice, raw, call, invite, .. } = Called::new();
    let offer = String::from_utf8_lossy(&invite.body).into_owned();
    let mut formats = offer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:"));
    let number = formats.find_map(|format| format.strip_suffix(" opus/48000/2")).unwrap();
    let sdp = |version, bandwidth| {
        format!(
            "v=0\no=- 1 {version} IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\n{bandwidth}t=0 0\n\
             m=audio 4000 RTP/AVP {number}\na=rtpmap:{number} opus/48000/2\n"
        )
    };
    let mut peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 200, &sdp(1, ""));
    // The peer never reports, and so nothing is held back after a while.
    world.run_s(20);
    assert_eq!(world.state(alice, call), CallState::Active);
    let before = world.plan(alice, call);
    world.outputs(alice);
    peer.request(&mut world, "INVITE", &sdp(2, "b=AS:30\n"));
    world.run_ms(50);
    assert_eq!(world.plan(alice, call), before);
    let steered = world.outputs(alice).into_iter().find_map(|output| match output {
        Output::SteerStream { steering, .. } => steering.bitrate,
        _ => None,
    });
    assert!(steered.is_some_and(|bitrate| bitrate < 30_000), "{steered:?}");
}
