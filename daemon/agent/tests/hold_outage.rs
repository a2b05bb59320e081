//! Hold and resume while the network is down: they take effect here at once, the peer is told when it is reached again, and
//! the call goes on; it ends where nobody is reached for long.

use std::time::Duration;

use crate::common::peer::{Called, sdp};
use crate::common::{HostId, Pair, World, direction};
use voipd_agent::view::{CallId, CallNetwork, CallState, Reason};
use voipd_media::Codec;

/// How the network of a telephone goes and comes, whose address is 192.0.2.1.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Its address is gone, and comes back.
    Offline,
    /// Its address is gone, and it gets another.
    Elsewhere,
    /// It has its address, and no route.
    Unrouted,
    /// Nothing gets through, and nobody is told.
    Unnoticed,
}

const KNOWN: [Outage; 3] = [Outage::Offline, Outage::Elsewhere, Outage::Unrouted];

impl Outage {
    fn begin(self, world: &mut World, host: HostId) {
        match self {
            Self::Offline | Self::Elsewhere => world.go_offline(host),
            Self::Unrouted => world.lose_route(host),
            Self::Unnoticed => world.blackout = true,
        }
    }

    fn end(self, world: &mut World, host: HostId) {
        match self {
            Self::Offline | Self::Unrouted => world.come_back(host),
            Self::Elsewhere => world.move_to(host, "192.0.2.77:5060"),
            Self::Unnoticed => world.blackout = false,
        }
    }
}

/// Nothing of the microphone leaves, nothing is played.
fn is_silent(world: &World, host: HostId, call: CallId) -> bool {
    let plan = world.plan(host, call);
    plan.send.is_none() && !plan.play && !world.device_open(host)
}

fn talk(world: &World, (one, out): (HostId, CallId), (other, inb): (HostId, CallId)) -> bool {
    let active = [world.state(one, out), world.state(other, inb)] == [CallState::Active; 2];
    active && world.is_heard_by((one, out), (other, inb)) && world.is_heard_by((other, inb), (one, out))
}

/// An established call with a scripted peer, which sends sound.
fn called() -> Called {
    let mut called = Called::new();
    let Called { world, raw, invite, peer, .. } = &mut called;
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    peer.answer(world, invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.inbox(*raw);
    called
}

#[test]
fn a_call_that_is_held_without_a_network_is_held_at_once_and_the_peer_hears_of_it_later() {
    for outage in KNOWN {
        let mut pair = Pair::new();
        let (out, inb) = pair.talking();
        let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
        outage.begin(world, alice);
        world.run_s(1);
        let offers = world.count_said(alice, "INVITE");
        world.hold(alice, out);
        assert!(is_silent(world, alice, out), "{outage:?}");
        world.run_s(50);
        assert_eq!(world.state(alice, out), CallState::Held, "{outage:?}");
        assert_eq!(world.view(alice, out).network, CallNetwork::Waiting, "{outage:?}");
        assert_eq!(world.count_said(alice, "INVITE"), offers, "{outage:?}: nothing goes into nothing");
        outage.end(world, alice);
        world.run_ms(500);
        assert!(world.view(bob, inb).remote_hold, "{outage:?}");
        assert!(is_silent(world, alice, out), "{outage:?}");
        world.resume(alice, out);
        world.run_s(2);
        assert!(talk(world, (alice, out), (bob, inb)), "{outage:?}");
    }
}

#[test]
fn a_call_that_is_resumed_without_a_network_goes_on_with_it() {
    for outage in KNOWN {
        let mut pair = Pair::new();
        let (out, inb) = pair.talking();
        let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
        world.hold(alice, out);
        world.run_s(1);
        outage.begin(world, alice);
        world.resume(alice, out);
        assert!(!world.view(alice, out).local_hold && world.device_open(alice), "{outage:?}");
        world.run_s(50);
        outage.end(world, alice);
        world.run_s(2);
        assert!(talk(world, (alice, out), (bob, inb)), "{outage:?}");
        world.run_s(120);
        assert!(talk(world, (alice, out), (bob, inb)), "{outage:?}");
    }
}

#[test]
fn a_hold_that_the_outage_swallows_is_told_again_after_it() {
    for outage in KNOWN.into_iter().chain([Outage::Unnoticed]) {
        let mut pair = Pair::new();
        let (out, inb) = pair.talking();
        let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
        // Its re-INVITE goes out, a moment before anything is known.
        world.blackout = true;
        world.hold(alice, out);
        assert!(is_silent(world, alice, out), "{outage:?}");
        world.run_s(2);
        world.blackout = false;
        outage.begin(world, alice);
        world.run_s(40);
        assert_eq!(world.state(alice, out), CallState::Held, "{outage:?}");
        outage.end(world, alice);
        // A re-INVITE under way is repeated less and less often.
        world.run_s(10);
        assert!(world.view(bob, inb).remote_hold, "{outage:?}");
        assert_eq!(world.view(alice, out).network, CallNetwork::Ok, "{outage:?}");
        world.resume(alice, out);
        world.run_s(2);
        assert!(talk(world, (alice, out), (bob, inb)), "{outage:?}");
    }
}

#[test]
fn a_hold_of_which_the_peer_s_answer_was_lost_is_taken_back_after_the_outage() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
    world.hold(alice, out);
    world.run_ms(15);
    assert!(world.view(bob, inb).remote_hold);
    // His answer does not come.
    world.go_offline(alice);
    world.run_s(1);
    world.resume(alice, out);
    world.run_s(10);
    world.come_back(alice);
    world.run_s(5);
    assert!(talk(world, (alice, out), (bob, inb)));
}

#[test]
fn a_peer_that_is_never_reached_again_ends_the_call() {
    // It goes on sending sound, so that nothing else would end the call; it answers nothing.
    let Called { mut world, alice, raw, call, .. } = called();
    world.hold(alice, call);
    world.run_s(60);
    assert_eq!(world.state(alice, call), CallState::Held);
    world.run_s(8);
    assert_eq!(world.end(alice, call).0, Reason::Network);
    let requests = world.requests(raw);
    assert_eq!(requests.last().unwrap().method.as_str(), "BYE");
    world.run_s(60);
    assert!(world.station(alice).agent.is_idle());
}

#[test]
fn a_peer_that_its_server_does_not_reach_again_ends_the_call() {
    let Called { mut world, alice, raw, call, peer, .. } = called();
    world.hold(alice, call);
    for _ in 0..2 {
        assert_eq!(world.state(alice, call), CallState::Held);
        world.run_ms(50);
        let offer = world.requests(raw).into_iter().find(|request| request.method.as_str() == "INVITE");
        // The server is there, and gives its next hop the time of a transaction.
        peer.answer(&mut world, offer.as_ref().unwrap(), 100, "");
        world.run_s(32);
        peer.answer(&mut world, offer.as_ref().unwrap(), 408, "");
        world.run_ms(2050);
    }
    assert_eq!(world.end(alice, call), (Reason::Network, 408));
}

#[test]
fn an_outage_after_another_is_outlasted_like_the_first() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
    for _ in 0..3 {
        world.blackout = true;
        world.hold(alice, out);
        world.run_s(40);
        world.blackout = false;
        world.run_s(10);
        assert!(world.view(bob, inb).remote_hold);
        world.resume(alice, out);
        world.run_s(60);
        assert!(talk(world, (alice, out), (bob, inb)));
    }
}

#[test]
fn a_hold_that_somebody_on_the_way_could_not_deliver_is_told_again() {
    for status in [408, 480, 503] {
        let Called { mut world, alice, raw, call, peer, .. } = called();
        world.hold(alice, call);
        world.run_ms(50);
        let first = world.requests(raw).remove(0);
        peer.answer(&mut world, &first, status, "");
        world.run_ms(1900);
        let acks = world.requests(raw);
        assert!(acks.iter().all(|request| request.method.as_str() == "ACK"), "{status}: not at once");
        world.run_ms(200);
        let again = world.requests(raw).remove(0);
        assert_eq!(again.method.as_str(), "INVITE", "{status}");
        assert_eq!(direction(&String::from_utf8_lossy(&again.body)), "sendonly", "{status}");
        peer.answer(&mut world, &again, 200, &sdp("192.0.2.9", 4000, "recvonly"));
        world.run_s(10);
        assert_eq!(world.view(alice, call).network, CallNetwork::Ok, "{status}");
        assert!(world.requests(raw).iter().all(|request| request.method.as_str() == "ACK"), "{status}");
    }
}

#[test]
fn another_codec_that_was_not_asked_for_in_the_outage_is_asked_for_after_it() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
    assert_eq!(world.view(alice, out).codec, "opus");
    world.blackout = true;
    world.act(alice, |agent, now| agent.set_codec(now, out, Codec::Pcma)).unwrap();
    world.run_s(2);
    world.blackout = false;
    world.go_offline(alice);
    world.run_s(40);
    world.come_back(alice);
    world.run_s(3);
    assert_eq!([world.view(alice, out).codec, world.view(bob, inb).codec], ["PCMA"; 2]);
}

#[test]
fn another_codec_that_could_not_be_asked_for_is_asked_for_again_and_not_at_once() {
    let Called { mut world, alice, raw, call, peer, .. } = called();
    world.act(alice, |agent, now| agent.set_codec(now, call, Codec::Pcma)).unwrap();
    let mut asked = Vec::new();
    for _ in 0..25 {
        world.run_ms(1000);
        let at = world.elapsed().as_secs();
        for request in world.requests(raw).iter().filter(|request| request.method.as_str() == "INVITE") {
            if asked.last().is_none_or(|(cseq, _)| *cseq != request.cseq) {
                asked.push((request.cseq, at));
                assert!(String::from_utf8_lossy(&request.body).contains("RTP/AVP 8 "), "{request:?}");
            }
            peer.answer(&mut world, request, 503, "");
        }
    }
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.windows(2).all(|two| two[1].1 >= two[0].1 + 2), "{asked:?}");
    assert_eq!(world.state(alice, call), CallState::Active);
}

#[test]
fn a_refresh_that_falls_into_an_outage_ends_no_call() {
    for outage in KNOWN.into_iter().chain([Outage::Unnoticed]) {
        for caller_loses_it in [true, false] {
            let mut pair = Pair::new();
            let (out, inb) = pair.talking();
            let (alice, bob, world) = (pair.alice, pair.bob, &mut pair.world);
            world.run(Duration::from_millis(895_000));
            let host = if caller_loses_it { alice } else { bob };
            outage.begin(world, host);
            // Longer than an UPDATE is repeated, and shorter than a silent peer is waited for.
            world.run_s(45);
            outage.end(world, host);
            world.run_s(2000);
            assert!(talk(world, (alice, out), (bob, inb)), "{outage:?}, caller: {caller_loses_it}");
        }
    }
}

#[test]
fn a_call_whose_outage_is_noticed_late_waits_for_a_network_all_the_same() {
    let Called { mut world, alice, raw, call, .. } = called();
    world.blackout = true;
    world.hold(alice, call);
    world.run_s(35);
    assert_eq!(world.state(alice, call), CallState::Held);
    // The second try is under way.
    world.blackout = false;
    world.lose_route(alice);
    world.run_s(55);
    assert_eq!(world.state(alice, call), CallState::Held);
    world.inbox(raw);
    world.come_back(alice);
    world.run_ms(50);
    let offer = world.requests(raw).into_iter().find(|request| request.method.as_str() == "INVITE");
    assert_eq!(direction(&String::from_utf8_lossy(&offer.unwrap().body)), "sendonly");
}

/// A peer that was asked for life 31 s after nothing came any more, and whose answer is awaited.
fn asked_for_life() -> Called {
    let mut called = called();
    let Called { world, alice, .. } = &mut called;
    world.blackout = true;
    world.run_s(31);
    assert!(world.count_said(*alice, "OPTIONS") > 0);
    world.blackout = false;
    called
}

#[test]
fn a_peer_that_is_asked_for_life_is_not_given_up_because_the_network_goes() {
    for outage in KNOWN {
        let Called { mut world, alice, call, .. } = asked_for_life();
        outage.begin(&mut world, alice);
        world.run_s(50);
        assert_eq!(world.state(alice, call), CallState::Active, "{outage:?}");
        world.run_s(20);
        assert_eq!(world.end(alice, call).0, Reason::Network, "{outage:?}");
    }
}

#[test]
fn a_peer_that_is_asked_for_life_from_an_address_that_is_gone_is_looked_for_from_the_next() {
    let Called { mut world, alice, raw, call, peer, .. } = asked_for_life();
    world.inbox(raw);
    world.move_to(alice, "192.0.2.77:5060");
    world.run_ms(50);
    let offer = world.requests(raw).pop().unwrap();
    assert_eq!(offer.method.as_str(), "INVITE");
    peer.answer(&mut world, &offer, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_s(5);
    assert_eq!(world.state(alice, call), CallState::Active);
}
