//! A call from its first digit to its end, seen from both sides.

use std::time::Duration;

use crate::common::{EPOCH, Pair};
use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT};
use voipd_agent::view::{CallDirection, CallState, Reason, SoundPlace};
use voipd_agent::{AgentError, SoundChoice};

#[test]
fn both_sides_see_a_call_go_its_way() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    assert_eq!(world.state(pair.alice, out), CallState::Ringing);
    let ringing = world.view(pair.bob, inb);
    assert_eq!(ringing.state, CallState::Incoming);
    assert_eq!((ringing.direction, ringing.reason), (CallDirection::Inbound, Reason::Remote));
    assert_eq!(ringing.sound, SoundPlace::None);
    assert_eq!((ringing.codec, ringing.remote_media), ("", None));
    world.accept(pair.bob, inb);
    world.run_ms(100);

    for (host, call) in [(pair.alice, out), (pair.bob, inb)] {
        let view = world.view(host, call);
        assert_eq!((view.state, view.sip_status), (CallState::Active, 200));
        assert_eq!((view.codec, view.sound), ("opus", SoundPlace::Device));
        assert!(!view.local_hold && !view.remote_hold && !view.mixed && !view.muted);
        let stream = world.stream_port(host, call);
        assert_eq!(world.heard_at(host, stream), [DEVICE_INPUT]);
        assert_eq!(world.heard_at(host, DEVICE_OUTPUT), [stream]);
        assert!(world.device_open(host));
    }
    let (a, b) = (world.plan(pair.alice, out), world.plan(pair.bob, inb));
    assert!(a.send.is_some() && a.play && b.send.is_some() && b.play);
    assert_eq!(world.view(pair.alice, out).remote_media, Some(world.local_media(pair.bob, inb)));
    assert_eq!(world.view(pair.bob, inb).remote_media, Some(world.local_media(pair.alice, out)));

    world.run_s(10);
    world.hang_up(pair.alice, out);
    assert_eq!(world.end(pair.alice, out).0, Reason::Local);
    world.run_ms(100);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Remote);
    use CallState::{Active, Dialing, Ended, Incoming, Ringing};
    assert_eq!(world.states(pair.alice, out), [Dialing, Ringing, Active, Ended]);
    assert_eq!(world.states(pair.bob, inb), [Incoming, Active, Ended]);
    for host in [pair.alice, pair.bob] {
        assert_eq!(world.media_open(host), 0);
        assert!(!world.device_open(host) && !world.ringer_open(host));
    }
    let view = world.view(pair.alice, out);
    assert_eq!(view.created_at, EPOCH);
    assert!(view.answered_at > EPOCH + 100_000 && view.answered_at < EPOCH + 200_000, "{view:?}");
    assert!(view.ended_at > view.answered_at + 10_000_000, "{view:?}");
}

#[test]
fn the_callee_hangs_up() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.hang_up(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(world.end(pair.bob, inb).0, Reason::Local);
    assert_eq!(world.end(pair.alice, out).0, Reason::Remote);
    assert_eq!(world.view(pair.alice, out).sound, SoundPlace::None);
}

#[test]
fn an_ended_call_can_be_read_for_thirty_seconds() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.hang_up(pair.alice, out);
    world.run(Duration::from_millis(29_900));
    assert_eq!(world.calls(pair.alice), [out]);
    assert_eq!(world.calls(pair.bob), [inb]);
    world.run_s(1);
    assert_eq!(world.calls(pair.alice), []);
    assert_eq!(world.calls(pair.bob), []);
    let gone = world.act(pair.alice, |agent, now| agent.hang_up(now, out));
    assert_eq!(gone, Err(AgentError::NoSuchCall(out.0)));
}

#[test]
fn reports_of_both_sides_tell_the_round_trip() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(30);
    let view = world.act(pair.alice, |agent, _| agent.remote_view(out)).unwrap();
    // Twice the latency of 10 ms.
    let round_trip = view.round_trip.unwrap().as_millis();
    assert!((19..=21).contains(&round_trip), "{round_trip}");
}

#[test]
fn a_stepping_wall_clock_does_not_spoil_the_round_trip() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    for second in 0..30 {
        world.run_s(1);
        let time = EPOCH + if second % 2 == 0 { 0 } else { 3_600_000_000 };
        world.act(pair.bob, |agent, now| agent.set_wall_clock(now, time));
    }
    let view = world.act(pair.alice, |agent, _| agent.remote_view(out)).unwrap();
    let round_trip = view.round_trip.unwrap().as_millis();
    assert!((19..=21).contains(&round_trip), "{round_trip}");
}

#[test]
fn commands_in_the_wrong_state_say_so() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    let text = |result: Result<(), AgentError>| result.unwrap_err().to_string();
    let answer = world.act(pair.alice, |agent, now| agent.accept(now, out, SoundChoice::default()));
    assert_eq!(text(answer), "answering is not possible: the call is ringing");
    let hold = world.act(pair.bob, |agent, now| agent.hold(now, inb));
    assert_eq!(text(hold), "holding is not possible: the call is incoming");
    world.hang_up(pair.alice, out);
    for result in [
        world.act(pair.alice, |agent, now| agent.hang_up(now, out)),
        world.act(pair.alice, |agent, now| agent.set_muted(now, out, true)),
        world.act(pair.alice, |agent, now| agent.send_dtmf(now, out, "1")),
    ] {
        assert!(text(result).ends_with("the call is ended"));
    }
}

#[test]
fn a_caller_without_an_address_of_record_can_be_called_back() {
    let mut pair = Pair::new();
    let (_, inb) = pair.ringing();
    let peer = pair.world.view(pair.bob, inb).peer;
    let alice = pair.world.address(pair.alice);
    assert_eq!(peer, format!("sip:voipd@{}", alice.ip()));
    let back = pair.world.dial(pair.bob, &peer);
    pair.world.run_ms(100);
    assert_eq!(pair.world.state(pair.bob, back), CallState::Ringing);
}
