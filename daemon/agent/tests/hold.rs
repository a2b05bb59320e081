//! Hold and resume, from either side and from both, alone and in each other's way.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, Pair, World, direction};
use voipd_agent::output::Output;
use voipd_agent::view::{CallId, CallState, Reason, SoundPlace};

/// State, own hold, peer's hold, sends, plays.
fn seen(world: &World, host: HostId, call: CallId) -> (CallState, bool, bool, bool, bool) {
    let (view, plan) = (world.view(host, call), world.plan(host, call));
    (view.state, view.local_hold, view.remote_hold, plan.send.is_some(), plan.play)
}

const TALKING: (CallState, bool, bool, bool, bool) = (CallState::Active, false, false, true, true);
const HOLDING: (CallState, bool, bool, bool, bool) = (CallState::Held, true, false, false, false);

#[test]
fn either_side_holds_and_resumes() {
    for holder_is_caller in [true, false] {
        let mut pair = Pair::new();
        let (out, inb) = pair.talking();
        let (alice, bob) = ((pair.alice, out), (pair.bob, inb));
        let ((holder, hc), (held, kc)) = if holder_is_caller { (alice, bob) } else { (bob, alice) };
        let world = &mut pair.world;

        world.hold(holder, hc);
        // At once here, whatever the network does.
        assert_eq!(seen(world, holder, hc), HOLDING);
        assert_eq!(world.view(holder, hc).reason, Reason::Local);
        assert!(!world.device_open(holder), "the sound device is free");
        world.run_ms(200);
        assert_eq!(direction(&world.last_sdp(holder)), "sendonly");
        assert_eq!(direction(&world.last_sdp(held)), "recvonly");
        assert_eq!(seen(world, holder, hc), HOLDING);
        assert_eq!(seen(world, held, kc), (CallState::Held, false, true, false, true));
        assert_eq!(world.view(held, kc).reason, Reason::Remote);
        assert_eq!(world.view(holder, hc).sound, SoundPlace::None);

        world.resume(holder, hc);
        world.run_ms(200);
        assert_eq!(direction(&world.last_sdp(holder)), "sendrecv");
        assert_eq!(direction(&world.last_sdp(held)), "sendrecv");
        assert_eq!(seen(world, holder, hc), TALKING);
        assert_eq!(seen(world, held, kc), TALKING);
        assert_eq!(world.view(held, kc).reason, Reason::Remote);
        assert!(world.device_open(holder));
    }
}

#[test]
fn both_hold_and_resume_one_after_the_other() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let (alice, bob) = (pair.alice, pair.bob);
    let world = &mut pair.world;
    world.hold(alice, out);
    world.run_ms(200);
    world.hold(bob, inb);
    world.run_ms(200);
    assert_eq!(direction(&world.last_sdp(bob)), "sendonly");
    assert_eq!(direction(&world.last_sdp(alice)), "inactive");
    let both = (CallState::Held, true, true, false, false);
    assert_eq!(seen(world, alice, out), both);
    assert_eq!(world.view(bob, inb).state, CallState::Held);
    assert!(world.view(bob, inb).local_hold && world.plan(bob, inb).send.is_none());

    world.resume(alice, out);
    world.run_ms(200);
    assert_eq!(world.view(alice, out).state, CallState::Held, "Bob still holds");
    assert!(world.view(alice, out).remote_hold && !world.view(alice, out).local_hold);
    world.resume(bob, inb);
    world.run_ms(200);
    assert_eq!(seen(world, alice, out), TALKING);
    assert_eq!(seen(world, bob, inb), TALKING);
}

#[test]
fn both_hold_at_the_same_moment() {
    for seed in 0..20 {
        let mut pair = Pair::seeded(seed);
        let (out, inb) = pair.talking();
        let (alice, bob) = (pair.alice, pair.bob);
        let world = &mut pair.world;
        world.hold(alice, out);
        world.hold(bob, inb);
        world.run_ms(50);
        assert_eq!(world.count_said(alice, "491") + world.count_said(bob, "491"), 2, "glare");
        world.run_s(10);
        for (host, call) in [(alice, out), (bob, inb)] {
            let view = world.view(host, call);
            assert!(view.state == CallState::Held && view.local_hold, "{view:?}");
            assert!(world.plan(host, call).send.is_none());
        }
        world.resume(alice, out);
        world.run_s(10);
        assert!(world.view(bob, inb).local_hold && !world.view(bob, inb).remote_hold);
        assert!(world.view(alice, out).remote_hold && !world.view(alice, out).local_hold);
        world.resume(bob, inb);
        world.run_s(10);
        assert_eq!(seen(world, alice, out), TALKING, "seed {seed}");
        assert_eq!(seen(world, bob, inb), TALKING, "seed {seed}");
    }
}

#[test]
fn wishes_that_change_during_a_reinvite_end_consistent() {
    for seed in 0..20 {
        let mut pair = Pair::seeded(seed);
        let (out, inb) = pair.talking();
        let (alice, bob) = (pair.alice, pair.bob);
        let world = &mut pair.world;
        // Several changes of mind before the first is answered, and glare with the other side.
        world.hold(alice, out);
        world.hold(bob, inb);
        world.run_ms(seed % 7);
        world.resume(alice, out);
        world.run_ms(5 + seed % 11);
        world.hold(alice, out);
        world.resume(bob, inb);
        world.run_s(20);
        assert_eq!(seen(world, alice, out), HOLDING, "seed {seed}");
        assert_eq!(seen(world, bob, inb), (CallState::Held, false, true, false, true), "seed {seed}");
        world.resume(alice, out);
        world.run_s(20);
        assert_eq!(seen(world, alice, out), TALKING, "seed {seed}");
        assert_eq!(seen(world, bob, inb), TALKING, "seed {seed}");
    }
}

#[test]
fn holding_twice_and_resuming_twice_says_nothing_new() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let invites = |world: &World, alice| world.count_said(alice, "INVITE");
    world.hold(pair.alice, out);
    world.run_ms(200);
    let before = invites(world, pair.alice);
    world.hold(pair.alice, out);
    world.run_ms(200);
    assert_eq!(invites(world, pair.alice), before);
    world.resume(pair.alice, out);
    world.run_ms(200);
    world.resume(pair.alice, out);
    world.run_ms(200);
    assert_eq!(invites(world, pair.alice), before + 1);
}

#[test]
fn hold_before_the_acknowledgement_is_told_after_it() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.accept(pair.bob, inb);
    world.hold(pair.bob, inb);
    assert_eq!(world.count_said(pair.bob, "INVITE"), 0, "not before the ACK");
    world.run_ms(200);
    assert_eq!(world.count_said(pair.bob, "INVITE"), 1);
    assert!(world.view(pair.alice, out).remote_hold);
}

/// A call that the agent at 192.0.2.2 has taken from a scripted peer.
fn taken() -> (World, HostId, CallId, Peer) {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
    peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let call = world.live_call(bob);
    world.accept(bob, call);
    world.run_ms(50);
    peer.learn(&world.responses(raw).pop().unwrap());
    peer.request(&mut world, "ACK", "");
    world.run_ms(50);
    (world, bob, call, peer)
}

/// The final response to the peer's last request.
fn last_status(world: &mut World, peer: &Peer) -> u16 {
    world.responses(peer.host).pop().unwrap().status.get()
}

#[test]
fn a_peer_that_holds_without_an_address_gets_no_packets() {
    let (mut world, bob, call, mut peer) = taken();
    peer.request(&mut world, "INVITE", &sdp("0.0.0.0", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(last_status(&mut world, &peer), 200);
    peer.request(&mut world, "ACK", "");
    assert_eq!(seen(&world, bob, call), (CallState::Held, false, true, false, true));
    assert_eq!(world.view(bob, call).remote_media, None);
    let before = world.rtcp.len();
    world.run_s(25);
    assert_eq!(world.rtcp.len(), before, "RTCP to nowhere");
    // It comes back with an address.
    peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    peer.request(&mut world, "ACK", "");
    assert_eq!(seen(&world, bob, call), TALKING);
    world.run_s(20);
    assert!(world.rtcp.len() > before);
    // Ended while held: the goodbye has nowhere to go either.
    peer.request(&mut world, "INVITE", &sdp("0.0.0.0", 4000, "inactive"));
    world.run_ms(50);
    peer.request(&mut world, "ACK", "");
    world.run_ms(50);
    let before = world.rtcp.len();
    world.hang_up(bob, call);
    assert_eq!(world.rtcp.len(), before);
}

#[test]
fn what_sends_nothing_keeps_the_way_open_unless_something_else_does() {
    let (mut world, bob, call, mut peer) = taken();
    assert_eq!(world.plan(bob, call).keep_open, None, "sound keeps it open");
    let renewed = |world: &mut World, peer: &mut Peer, description: &str| {
        peer.request(world, "INVITE", description);
        world.run_ms(50);
        assert_eq!(last_status(world, peer), 200);
        peer.request(world, "ACK", "");
        world.run_ms(50);
        world.plan(bob, call).keep_open
    };
    for direction in ["sendonly", "inactive"] {
        let description = sdp("192.0.2.9", 4000, direction);
        assert_eq!(renewed(&mut world, &mut peer, &description), Some(127), "{direction}");
        // RTCP goes the same way.
        let description = description + "a=rtcp-mux\n";
        assert_eq!(renewed(&mut world, &mut peer, &description), None, "{direction}");
    }
    assert_eq!(renewed(&mut world, &mut peer, &sdp("0.0.0.0", 4000, "inactive")), None, "there is no way");
    assert_eq!(renewed(&mut world, &mut peer, &sdp("192.0.2.9", 4000, "sendrecv")), None);
    world.hold(bob, call);
    assert_eq!(world.plan(bob, call).keep_open, Some(127));

    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    pair.world.hold(pair.alice, out);
    assert_eq!(pair.world.plan(pair.alice, out).keep_open, None, "both take RTCP on the port of RTP");
}

#[test]
fn a_new_offer_that_cannot_be_taken_keeps_the_call() {
    let (mut world, bob, call, mut peer) = taken();
    let plan = world.plan(bob, call);
    for (offer, status) in
        [("nonsense\n".to_owned(), 400), (crate::common::peer::strange_sdp("192.0.2.9", 4000), 488)]
    {
        peer.request(&mut world, "INVITE", &offer);
        world.run_ms(50);
        assert_eq!(last_status(&mut world, &peer), status);
        peer.request(&mut world, "ACK", "");
        world.run_ms(50);
        assert_eq!(seen(&world, bob, call), TALKING);
        assert_eq!(world.plan(bob, call), plan);
    }
    // And it can still be changed.
    peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendonly"));
    world.run_ms(50);
    assert_eq!(last_status(&mut world, &peer), 200);
    assert_eq!(direction(&world.last_sdp(bob)), "recvonly");
    assert_eq!(world.view(bob, call).state, CallState::Held);
}

#[test]
fn a_reinvite_without_an_offer_is_answered_with_one() {
    let (mut world, bob, call, mut peer) = taken();
    world.hold(bob, call);
    world.run_ms(50);
    let offer = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &offer, 200, &sdp("192.0.2.9", 4000, "recvonly"));
    world.run_ms(50);
    world.inbox(peer.host);
    peer.request(&mut world, "INVITE", "");
    world.run_ms(50);
    assert_eq!(last_status(&mut world, &peer), 200);
    assert_eq!(direction(&world.last_sdp(bob)), "sendonly", "our offer says that we hold");
    peer.request(&mut world, "ACK", &sdp("192.0.2.9", 4000, "recvonly"));
    world.run_ms(50);
    assert_eq!(seen(&world, bob, call), HOLDING);
    world.resume(bob, call);
    world.run_ms(50);
    assert_eq!(world.requests(peer.host).pop().unwrap().method.as_str(), "INVITE");
}

#[test]
fn hold_is_told_after_glare_with_an_offer_that_is_refused() {
    let (mut world, bob, call, mut peer) = taken();
    world.hold(bob, call);
    world.run_ms(50);
    let offer = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &offer, 491, "");
    peer.request(&mut world, "INVITE", "nonsense\n");
    world.run_ms(50);
    let messages = world.inbox(peer.host);
    let mut offers = messages.iter().filter_map(|message| match message {
        voipd_sip::message::Message::Request(request) => Some(request),
        _ => None,
    });
    let offer = offers.next_back().expect("the hold is told again").clone();
    assert!(String::from_utf8_lossy(&offer.body).contains("a=sendonly"));
    peer.answer(&mut world, &offer, 200, &sdp("192.0.2.9", 4000, "recvonly"));
    world.run_s(10);
    assert_eq!(seen(&world, bob, call), HOLDING);
    assert_eq!(world.count_said(bob, "INVITE"), 2);
}

#[test]
fn a_peer_that_refuses_hold_is_held_all_the_same() {
    let (mut world, bob, call, peer) = taken();
    world.hold(bob, call);
    world.run_ms(50);
    let offer = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &offer, 488, "");
    world.run_s(10);
    assert_eq!(seen(&world, bob, call), HOLDING);
    assert_eq!(world.count_said(bob, "INVITE"), 1, "what was refused is not asked again and again");
    assert!(world.log(bob).iter().any(|line| line.contains("refused with 488")));
    world.resume(bob, call);
    world.run_ms(50);
    let offer = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &offer, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(seen(&world, bob, call), TALKING);
}

#[test]
fn another_codec_with_another_clock_is_another_source() {
    let (mut world, bob, call, mut peer) = taken();
    let narrow = world.plan(bob, call);
    let opus = "v=0\no=- 1 2 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=audio 4000 RTP/AVP 96 97\n\
                a=rtpmap:96 opus/48000/2\na=rtpmap:97 telephone-event/8000\n";
    peer.request(&mut world, "INVITE", opus);
    world.run_ms(50);
    let wide = world.plan(bob, call);
    assert_eq!(wide.send.unwrap().codec, voipd_audio::Codec::Opus);
    assert_ne!(wide.ssrc, narrow.ssrc);
    assert_eq!(wide.send.unwrap().events, Some((97, 8000)), "events keep their own clock");
    assert_eq!(world.view(bob, call).codec, "opus");
    assert!(world.outputs(bob).iter().any(|output| matches!(output, Output::UpdateStream { .. })));
}
