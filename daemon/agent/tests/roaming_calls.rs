//! Calls whose network changes: they go on from another address, wait where there is none, and end where none comes.

use std::time::Duration;

use crate::common::peer::{Called, Peer, sdp};
use crate::common::{Pair, World, direction, first_line, sip};
use voipd_agent::AccountSettings;
use voipd_agent::dialplan::{DialPlan, NumberUri};
use voipd_agent::view::{CallId, CallNetwork, CallState, Reason};

/// How long until both hear each other again, looked at every ten milliseconds; at most ten seconds.
fn silence(pair: &mut Pair, (out, inb): (CallId, CallId)) -> Duration {
    let (alice, bob) = ((pair.alice, out), (pair.bob, inb));
    let start = pair.world.now;
    while !(pair.world.is_heard_by(alice, bob) && pair.world.is_heard_by(bob, alice)) {
        pair.world.run_ms(10);
        assert!(pair.world.now - start < Duration::from_secs(10), "they never hear each other again");
    }
    pair.world.now - start
}

/// What the peer is told, in order.
fn requests(world: &World, method: &str) -> Vec<String> {
    let is_it = |bytes: &Vec<u8>| first_line(bytes).starts_with(method);
    let texts = world.capture.iter().filter(|(_, _, bytes)| is_it(bytes));
    texts.map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
}

#[test]
fn a_call_goes_on_from_another_address() {
    for caller_moves in [true, false] {
        let mut pair = Pair::new();
        let calls = pair.talking();
        pair.world.run_s(5);
        let (host, call) = if caller_moves { (pair.alice, calls.0) } else { (pair.bob, calls.1) };
        pair.world.move_to(host, "192.0.2.77:5060");
        assert_eq!(pair.world.view(host, call).network, CallNetwork::Moving);
        let silence = silence(&mut pair, calls);
        assert!(silence < Duration::from_millis(100), "{silence:?}");
        let world = &mut pair.world;
        world.run_s(1);
        let invite = requests(world, "INVITE").pop().unwrap();
        assert!(invite.contains("@192.0.2.77:5060>") && invite.contains("c=IN IP4 192.0.2.77"), "{invite}");
        assert_eq!(world.view(host, call).network, CallNetwork::Ok);
        // The peer's requests find us.
        let (other, theirs) = if caller_moves { (pair.bob, calls.1) } else { (pair.alice, calls.0) };
        world.hang_up(other, theirs);
        world.run_s(1);
        assert_eq!(world.end(host, call).0, Reason::Remote);
        assert_eq!((world.media_open(pair.alice), world.media_open(pair.bob)), (0, 0));
    }
}

#[test]
fn a_call_goes_on_within_three_seconds_on_a_bad_network() {
    for seed in 1..=30 {
        let mut pair = Pair::seeded(seed);
        let calls = pair.talking();
        pair.world.link.loss = 200;
        pair.world.link.jitter = Duration::from_millis(50);
        pair.world.move_to(pair.alice, "192.0.2.77:5060");
        let silence = silence(&mut pair, calls);
        assert!(silence < Duration::from_secs(3), "seed {seed}: {silence:?}");
    }
}

#[test]
fn both_ends_move_at_the_same_time() {
    // Neither's re-INVITE finds the other, who is gone; a server that knows where both are would pass them on. Here each
    // keeps an ear on where it was for a moment, as with two interfaces, and the two offers meet.
    let mut pair = Pair::new();
    let calls = pair.talking();
    let world = &mut pair.world;
    world.route(pair.alice, &[("192.0.2.2/32", "192.0.2.77")]);
    world.route(pair.bob, &[("192.0.2.1/32", "192.0.2.88"), ("192.0.2.77/32", "192.0.2.88")]);
    let silence = silence(&mut pair, calls);
    assert!(silence < Duration::from_secs(3), "{silence:?}");
    let world = &mut pair.world;
    world.run_s(10);
    assert!(
        world.count_said(pair.alice, "491") + world.count_said(pair.bob, "491") > 0,
        "the offers have met"
    );
    for (host, call) in [(pair.alice, calls.0), (pair.bob, calls.1)] {
        assert_eq!(world.view(host, call).network, CallNetwork::Ok);
        assert_eq!(world.state(host, call), CallState::Active);
    }
    assert!(world.local_media(pair.alice, calls.0).ip().to_string() == "192.0.2.77");
    assert!(world.local_media(pair.bob, calls.1).ip().to_string() == "192.0.2.88");
}

#[test]
fn a_held_call_moves_and_stays_held() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.hold(pair.alice, out);
    world.run_s(1);
    world.move_to(pair.alice, "192.0.2.77:5060");
    world.run_s(1);
    assert_eq!(direction(&world.last_sdp(pair.alice)), "sendonly");
    assert_eq!(
        (world.state(pair.alice, out), world.state(pair.bob, inb)),
        (CallState::Held, CallState::Held)
    );
    world.resume(pair.alice, out);
    silence(&mut pair, (out, inb));
}

#[test]
fn an_unrelated_interface_changes_nothing() {
    let mut pair = Pair::new();
    pair.talking();
    pair.world.run_s(1);
    let said = pair.world.capture.len();
    pair.world.route(pair.alice, &[("10.0.0.0/8", "10.9.9.9")]);
    pair.world.run_s(5);
    assert_eq!(pair.world.capture.len(), said, "nobody has to know");
    assert_eq!(
        pair.world.outputs(pair.alice).iter().filter(|o| format!("{o:?}").contains("MoveMedia")).count(),
        0
    );
}

#[test]
fn a_vpn_that_leads_to_the_peer_takes_its_call() {
    let mut pair = Pair::new();
    let calls = pair.talking();
    pair.world.route(pair.alice, &[("192.0.2.2/32", "10.9.9.9")]);
    silence(&mut pair, calls);
    assert_eq!(pair.world.local_media(pair.alice, calls.0).ip().to_string(), "10.9.9.9");
    // And it comes back when the VPN ends.
    pair.world.route(pair.alice, &[]);
    silence(&mut pair, calls);
    assert_eq!(pair.world.local_media(pair.alice, calls.0).ip().to_string(), "192.0.2.1");
}

#[test]
fn a_call_waits_for_a_network_and_goes_on() {
    for address in ["192.0.2.1:5060", "192.0.2.77:5060"] {
        let mut pair = Pair::new();
        let calls = pair.talking();
        pair.world.run_s(5);
        pair.world.go_offline(pair.alice);
        assert_eq!(pair.world.view(pair.alice, calls.0).network, CallNetwork::Waiting);
        pair.world.run_s(50);
        assert_eq!(pair.world.state(pair.alice, calls.0), CallState::Active);
        pair.world.move_to(pair.alice, address);
        let silence = silence(&mut pair, calls);
        assert!(silence < Duration::from_secs(3), "{silence:?}");
        pair.world.run_s(120);
        assert_eq!(pair.world.view(pair.alice, calls.0).network, CallNetwork::Ok);
        assert_eq!(pair.world.state(pair.bob, calls.1), CallState::Active);
    }
}

#[test]
fn a_call_does_not_wait_for_ever() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    pair.world.go_offline(pair.alice);
    pair.world.run_s(59);
    assert_eq!(pair.world.state(pair.alice, out), CallState::Active);
    pair.world.run_s(2);
    assert_eq!(pair.world.end(pair.alice, out).0, Reason::Network);
    assert_eq!(pair.world.media_open(pair.alice), 0);
}

#[test]
fn a_peer_that_hung_up_meanwhile_is_found_out_at_once() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.go_offline(pair.alice);
    world.run_s(3);
    world.hang_up(pair.bob, inb);
    world.run_s(40);
    world.come_back(pair.alice);
    world.run_s(1);
    assert_eq!(world.state(pair.alice, out), CallState::Ended);
}

#[test]
fn a_call_that_is_hung_up_without_a_network_ends_at_the_other_end_too() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.go_offline(pair.alice);
    world.run_s(1);
    world.hang_up(pair.alice, out);
    world.run_s(5);
    world.move_to(pair.alice, "192.0.2.77:5060");
    world.run_s(5);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Remote);
}

#[test]
fn a_refused_move_is_not_tried_for_ever() {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.inbox(raw);
    world.move_to(alice, "192.0.2.77:5060");
    let mut offers = std::collections::BTreeSet::new();
    for _ in 0..25 {
        world.run_ms(1000);
        for request in world.requests(raw) {
            if request.method.as_str() == "INVITE" {
                // A repetition is the same offer.
                offers.insert(request.cseq);
                peer.answer(&mut world, &request, 503, "");
            }
        }
    }
    assert_eq!(offers.len(), 5, "{offers:?}");
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(world.view(alice, call).network, CallNetwork::Ok);
}

// Calls that are not answered yet.

#[test]
fn a_ringing_call_is_placed_again_from_the_new_address() {
    let mut pair = Pair::new();
    let (out, first) = pair.ringing();
    let world = &mut pair.world;
    world.move_to(pair.alice, "192.0.2.77:5060");
    world.run_s(1);
    // The first is taken back, and Bob's phone rings for the second.
    assert_eq!(world.end(pair.bob, first).0, Reason::Cancelled);
    let second = world.live_call(pair.bob);
    assert_eq!(world.state(pair.alice, out), CallState::Ringing);
    world.accept(pair.bob, second);
    silence(&mut pair, (out, second));
    let world = &mut pair.world;
    world.run_s(40);
    assert_eq!(
        (world.state(pair.alice, out), world.state(pair.bob, second)),
        (CallState::Active, CallState::Active)
    );
}

#[test]
fn a_number_that_rings_is_called_again_from_the_new_address() {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let server = world.raw("203.0.113.1:5060");
    world.name("example.org", &["203.0.113.1:5060"]);
    let country = Some("49".to_owned());
    let dial_plan = DialPlan { country, uri: NumberUri::Tel, ..DialPlan::default() };
    let account =
        AccountSettings { register: false, dial_plan, ..sip("work", "sip:alice@example.org", "secret") };
    world.account(alice, account);
    let call = world.dial(alice, "030 1234567");
    world.run_ms(300);
    let first = world.requests(server).remove(0);
    let peer = Peer::called(server, alice, &first);
    peer.answer(&mut world, &first, 180, "");
    world.run_ms(50);
    let called = world.view(alice, call).peer;
    world.move_to(alice, "192.0.2.77:5060");
    world.run_s(1);
    let requests = world.requests(server);
    assert!(requests.iter().any(|request| request.method.as_str() == "CANCEL"), "{requests:?}");
    let again = requests.iter().find(|request| request.method.as_str() == "INVITE").expect("another");
    assert_eq!([&first, again].map(|invite| invite.uri.to_string()), ["tel:+49301234567"; 2]);
    assert_eq!(world.view(alice, call).peer, called, "nobody has redirected it");
    peer.answer(&mut world, again, 180, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Ringing);
    world.hang_up(alice, call);
    world.run_s(70);
    assert!(world.station(alice).agent.is_idle());
}

#[test]
fn a_cancel_that_is_sent_again_from_the_new_address_is_known_to_have_arrived() {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    peer.answer(&mut world, &invite, 180, "");
    world.run_ms(50);
    world.hang_up(alice, call);
    world.run_ms(50);
    let first = world.requests(raw).remove(0);
    world.move_to(alice, "192.0.2.77:5060");
    world.run_ms(50);
    let again = world.requests(raw).remove(0);
    assert_eq!([&first, &again].map(|cancel| cancel.method.as_str()), ["CANCEL"; 2]);
    peer.answer(&mut world, &again, 200, "");
    world.run_s(5);
    assert_eq!(requests(&world, "CANCEL").len(), 2, "its answer is heard");
}

#[test]
fn a_ringing_call_whose_answer_can_still_come_moves_when_it_has() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.route(pair.alice, &[("192.0.2.2/32", "10.9.9.9")]);
    world.run_s(1);
    assert_eq!(world.count_said(pair.alice, "CANCEL"), 0);
    world.accept(pair.bob, inb);
    world.run_ms(500);
    silence(&mut pair, (out, inb));
    assert_eq!(pair.world.local_media(pair.alice, out).ip().to_string(), "10.9.9.9");
}

#[test]
fn an_incoming_call_is_answered_from_the_new_address() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.move_to(pair.bob, "192.0.2.77:5060");
    world.run_s(1);
    world.accept(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    silence(&mut pair, (out, inb));
    assert_eq!(pair.world.local_media(pair.bob, inb).ip().to_string(), "192.0.2.77");
    pair.world.hang_up(pair.alice, out);
    pair.world.run_s(1);
    assert_eq!(pair.world.end(pair.bob, inb).0, Reason::Remote);
}

#[test]
fn early_sound_moves_by_update() {
    let Called { mut world, alice, raw, call, invite, peer } = Called::new();
    let reliably = "Require: 100rel\nRSeq: 1\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK";
    peer.answer_with(&mut world, &invite, 183, reliably, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let prack = world.requests(raw).remove(0);
    peer.answer(&mut world, &prack, 200, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Early);
    // The old address is still there, as with two interfaces: the INVITE's answer will come to it.
    world.route(alice, &[("192.0.2.9/32", "10.9.9.9")]);
    world.run_ms(50);
    let update = world.requests(raw).remove(0);
    assert_eq!(update.method.as_str(), "UPDATE");
    let told = String::from_utf8_lossy(&update.body).into_owned();
    assert!(told.contains("c=IN IP4 10.9.9.9"), "{told}");
    assert!(update.headers.get("Contact").unwrap().contains("10.9.9.9"));
    assert_eq!(world.local_media(alice, call).ip().to_string(), "10.9.9.9");
}

#[test]
fn after_a_sleep_a_call_is_asked_for_a_sign_of_life() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.network_changed(pair.alice, true);
    world.run_ms(100);
    assert_eq!(world.count_said(pair.alice, "OPTIONS"), 1);
    assert_eq!(
        (world.state(pair.alice, out), world.state(pair.bob, inb)),
        (CallState::Active, CallState::Active)
    );
}
