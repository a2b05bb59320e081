//! How calls come to nothing or to an end, and what either side is told.

use std::time::Duration;

use crate::common::peer::{Peer, sdp, strange_sdp};
use crate::common::{Pair, World, config};
use voipd_agent::view::{CallState, Reason};
use voipd_media::Codec;

#[test]
fn rejecting_tells_the_caller_why() {
    for (reason, here, there, status) in [
        (Reason::Busy, Reason::Busy, Reason::Busy, 486),
        (Reason::Declined, Reason::Declined, Reason::Declined, 603),
        (Reason::NoAnswer, Reason::Local, Reason::NoAnswer, 480),
    ] {
        let mut pair = Pair::new();
        let (out, inb) = pair.ringing();
        let world = &mut pair.world;
        world.act(pair.bob, |agent, now| agent.reject(now, inb, reason)).unwrap();
        world.run_ms(100);
        assert_eq!(world.end(pair.bob, inb), (here, status));
        assert_eq!(world.end(pair.alice, out), (there, status));
        assert_eq!(world.media_open(pair.alice), 0);
    }
}

#[test]
fn hanging_up_a_call_that_rings_here_declines_it() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    pair.world.hang_up(pair.bob, inb);
    pair.world.run_ms(100);
    assert_eq!(pair.world.end(pair.bob, inb), (Reason::Local, 603));
    assert_eq!(pair.world.end(pair.alice, out), (Reason::Declined, 603));
}

#[test]
fn the_caller_gives_up() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.hang_up(pair.alice, out);
    world.run_ms(100);
    assert_eq!(world.end(pair.alice, out).0, Reason::Local);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Cancelled);
    assert_eq!(world.view(pair.bob, inb).answered_at, 0);
    assert_eq!(world.count_said(pair.alice, "CANCEL"), 1);
}

#[test]
fn the_caller_gives_up_before_any_answer() {
    let mut pair = Pair::new();
    let world = &mut pair.world;
    let out = world.dial(pair.alice, "sip:bob@192.0.2.2");
    world.hang_up(pair.alice, out);
    assert_eq!(world.end(pair.alice, out), (Reason::Local, 0));
    world.run_ms(200);
    // CANCEL waited for the provisional response (RFC 3261 section 9.1), and then reached Bob.
    let inb = world.calls(pair.bob)[0];
    assert_eq!(world.end(pair.bob, inb).0, Reason::Cancelled);
    assert_eq!(world.states(pair.bob, inb), [CallState::Incoming, CallState::Ended]);
}

#[test]
fn nobody_answers_and_the_caller_stops_ringing() {
    let mut world = World::new();
    let patience = |seconds| {
        let mut config = config();
        config.ring_timeout = Duration::from_secs(seconds);
        config
    };
    let alice = world.agent_with("192.0.2.1:5060", patience(30));
    let bob = world.agent_with("192.0.2.2:5060", patience(120));
    world.account(alice, crate::common::direct());
    world.account(bob, crate::common::direct());
    let out = world.dial(alice, "sip:bob@192.0.2.2");
    world.run_s(29);
    let inb = world.live_call(bob);
    assert_eq!(world.state(alice, out), CallState::Ringing);
    world.run_s(2);
    assert_eq!(world.end(alice, out).0, Reason::NoAnswer);
    assert_eq!(world.end(bob, inb).0, Reason::Cancelled);
}

#[test]
fn nobody_answers_and_the_callee_stops_ringing() {
    let mut world = World::new();
    let patience = |seconds| {
        let mut config = config();
        config.ring_timeout = Duration::from_secs(seconds);
        config
    };
    let alice = world.agent_with("192.0.2.1:5060", patience(120));
    let bob = world.agent_with("192.0.2.2:5060", patience(30));
    world.account(alice, crate::common::direct());
    world.account(bob, crate::common::direct());
    let out = world.dial(alice, "sip:bob@192.0.2.2");
    world.run_s(31);
    let inb = world.calls(bob)[0];
    assert_eq!(world.end(bob, inb), (Reason::NoAnswer, 480));
    assert_eq!(world.end(alice, out), (Reason::NoAnswer, 480));
}

#[test]
fn what_cannot_be_reached_is_told_apart() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    world.closed("192.0.2.66:5060");
    let refused = world.dial(alice, "sip:192.0.2.66");
    let silent = world.dial(alice, "sip:192.0.2.67");
    let unknown = world.dial(alice, "sip:bob@nowhere.invalid");
    assert_eq!(world.end(alice, unknown), (Reason::Unresolvable, 0));
    let routeless = world.dial(alice, "sip:[2001:db8::1]");
    assert_eq!(world.end(alice, routeless), (Reason::Unreachable, 0));
    world.run_ms(100);
    assert_eq!(world.end(alice, refused), (Reason::Unreachable, 0));
    assert_eq!(world.state(alice, silent), CallState::Dialing);
    // Timer B: 64 times half a second.
    world.run_s(31);
    assert_eq!(world.calls(alice).len(), 1, "only the silent one is left");
    assert_eq!(world.state(alice, silent), CallState::Dialing);
    world.run_s(1);
    assert_eq!(world.end(alice, silent), (Reason::Unreachable, 0));
    assert_eq!(world.media_open(alice), 0);
}

#[test]
fn final_responses_have_their_reasons() {
    for (code, reason) in [
        (404, Reason::NotFound),
        (408, Reason::NoAnswer),
        (415, Reason::NoCommonCodec),
        (480, Reason::NoAnswer),
        (484, Reason::NotFound),
        (486, Reason::Busy),
        (488, Reason::NoCommonCodec),
        (500, Reason::Rejected),
        (302, Reason::Redirected),
        (407, Reason::Credentials),
        (600, Reason::Busy),
        (603, Reason::Declined),
    ] {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let raw = world.raw("192.0.2.9:5060");
        let call = world.dial(alice, "sip:peer@192.0.2.9");
        world.run_ms(50);
        let invite = world.requests(raw).remove(0);
        Peer::called(raw, alice, &invite).answer(&mut world, &invite, code, "");
        world.run_ms(50);
        assert_eq!(world.end(alice, call), (reason, code));
        assert_eq!(world.states(alice, call), [CallState::Dialing, CallState::Ended]);
    }
}

#[test]
fn without_a_common_codec_the_caller_is_told() {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let bob = world.agent("192.0.2.2:5060");
    let mut only_opus = crate::common::direct();
    only_opus.codecs = vec![Codec::Opus];
    let mut only_pcmu = crate::common::direct();
    only_pcmu.codecs = vec![Codec::Pcmu];
    world.account(alice, only_opus);
    world.account(bob, only_pcmu);
    let out = world.dial(alice, "sip:bob@192.0.2.2");
    world.run_ms(100);
    assert_eq!(world.end(alice, out), (Reason::NoCommonCodec, 488));
    // The callee rings for nobody, and can read afterwards who called in vain.
    let inb = world.calls(bob)[0];
    assert_eq!(world.states(bob, inb), [CallState::Ended]);
    assert_eq!(world.end(bob, inb), (Reason::NoCommonCodec, 488));
    assert!(!world.ringer_open(bob));
    let why = "no common codec: the peer has opus, this account has PCMU";
    assert!(world.log(bob).iter().any(|line| line.contains(why)), "{:?}", world.log(bob));
    assert_eq!(world.count_said(bob, "180"), 0);
}

#[test]
fn an_offer_that_cannot_be_read_is_the_peers_fault() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
    peer.request(&mut world, "INVITE", "this is no session description\n");
    world.run_ms(50);
    let inb = world.calls(bob)[0];
    assert_eq!(world.end(bob, inb), (Reason::Protocol, 400));
}

#[test]
fn an_answer_without_a_common_codec_ends_the_call() {
    for (answer, reason) in [
        (strange_sdp("192.0.2.9", 4000), Reason::NoCommonCodec),
        (String::new(), Reason::Protocol),
        ("v=0\nnonsense\n".to_owned(), Reason::Protocol),
    ] {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let raw = world.raw("192.0.2.9:5060");
        let call = world.dial(alice, "sip:peer@192.0.2.9");
        world.run_ms(50);
        let invite = world.requests(raw).remove(0);
        Peer::called(raw, alice, &invite).answer(&mut world, &invite, 200, &answer);
        world.run_ms(50);
        assert_eq!(world.end(alice, call).0, reason, "{answer}");
        let methods: Vec<String> =
            world.requests(raw).iter().map(|request| request.method.as_str().to_owned()).collect();
        assert_eq!(methods, ["ACK", "BYE"]);
        assert_eq!(world.media_open(alice), 0);
    }
}

#[test]
fn media_sockets_that_cannot_be_bound_end_the_call_with_a_reason() {
    let mut pair = Pair::new();
    let world = &mut pair.world;
    world.station(pair.alice).no_sockets = Some("no free RTP port in 10000-10001".to_owned());
    let out = world.dial(pair.alice, "sip:bob@192.0.2.2");
    assert_eq!(world.end(pair.alice, out), (Reason::Network, 0));
    assert!(world.log(pair.alice).iter().any(|line| line.contains("no free RTP port")));
    assert_eq!(world.said(pair.alice).len(), 0, "nothing was sent");

    world.station(pair.alice).no_sockets = None;
    world.station(pair.bob).no_sockets = Some("no free RTP port in 10000-10001".to_owned());
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.accept(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(world.end(pair.bob, inb), (Reason::Network, 500));
    assert_eq!(world.end(pair.alice, out), (Reason::Rejected, 500));
}

#[test]
fn sockets_that_come_too_late_are_closed() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.station(pair.bob).hold_binding = true;
    world.accept(pair.bob, inb);
    world.hang_up(pair.alice, out);
    world.run_ms(100);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Cancelled);
    world.bind_held(pair.bob);
    assert_eq!(world.media_open(pair.bob), 0);
}

#[test]
fn the_answer_crosses_the_cancellation() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.accept(pair.bob, inb);
    world.hang_up(pair.alice, out);
    world.run_s(1);
    assert_eq!(world.end(pair.alice, out).0, Reason::Local);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Remote);
    assert_eq!(world.count_said(pair.alice, "BYE"), 1);
}

#[test]
fn both_hang_up_at_once() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.hang_up(pair.alice, out);
    world.hang_up(pair.bob, inb);
    world.run_s(1);
    assert_eq!(world.end(pair.alice, out).0, Reason::Local);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Local);
}

#[test]
fn an_answer_that_is_never_acknowledged_ends_the_call() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
    peer.request(&mut world, "INVITE", &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let inb = world.live_call(bob);
    world.accept(bob, inb);
    world.run_s(31);
    assert_eq!(world.state(bob, inb), CallState::Active);
    world.run_s(2);
    assert_eq!(world.end(bob, inb).0, Reason::Network);
    assert!(world.count_said(bob, "BYE") > 0);
}

#[test]
fn an_offer_in_the_answer_is_settled_by_the_acknowledgement() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    for (answer, ends) in
        [(sdp("192.0.2.9", 4000, "sendrecv"), None), (String::new(), Some(Reason::Protocol))]
    {
        let mut peer = Peer::calling(&world, raw, bob, "sip:bob@192.0.2.2");
        peer.request(&mut world, "INVITE", "");
        world.run_ms(50);
        let inb = world.live_call(bob);
        world.accept(bob, inb);
        world.run_ms(50);
        let ok = world.responses(raw).pop().unwrap();
        assert_eq!(ok.status.get(), 200);
        assert!(!ok.body.is_empty(), "the 200 carries the offer");
        assert!(!world.has_stream(bob, inb));
        peer.learn(&ok);
        peer.request(&mut world, "ACK", &answer);
        world.run_ms(50);
        match ends {
            None => {
                assert!(world.plan(bob, inb).send.is_some());
                world.hang_up(bob, inb);
            }
            Some(reason) => assert_eq!(world.end(bob, inb).0, reason),
        }
        world.run_ms(50);
    }
}

#[test]
fn text_of_strangers_is_shown_without_control_characters() {
    let mut world = World::new();
    let bob = world.phone("192.0.2.2:5060");
    let raw = world.raw("192.0.2.9:5060");
    let body = crate::common::crlf(&sdp("192.0.2.9", 4000, "sendrecv"));
    let text = format!(
        "INVITE sip:bob@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\nMax-Forwards: 70\n\
         From: \"Eve\u{1b}[31m\u{7f}!\" <sip:eve@192.0.2.9>;tag=1\nTo: <sip:bob@192.0.2.2>\nCall-ID: 1\n\
         CSeq: 1 INVITE\nContact: <sip:eve@192.0.2.9>\nContent-Type: application/sdp\nContent-Length: {}\n\n{body}",
        body.len()
    );
    world.say(raw, bob, &text);
    world.run_ms(50);
    let view = world.view(bob, world.live_call(bob));
    assert_eq!((view.peer_name.as_str(), view.peer.as_str()), ("Eve[31m!", "sip:eve@192.0.2.9"));
}
