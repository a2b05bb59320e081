//! Digits: one after the other, with pauses, to peers that take them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::peer::Peer;
use common::{HostId, Pair, World};
use voipd_agent::view::CallId;
use voipd_agent::{AgentError, Output};
use voipd_audio::plan::EngineEvent;

fn send(world: &mut World, host: HostId, call: CallId, digits: &str) -> Result<(), AgentError> {
    world.act(host, |agent, now| agent.send_dtmf(now, call, digits))
}

/// Digits that the engine was asked to send since the last time.
fn asked(world: &mut World, host: HostId) -> String {
    let outputs = world.outputs(host);
    let digits = outputs.iter().filter_map(|output| match output {
        Output::SendDtmf { digit, duration_ms: 120, .. } => Some(*digit),
        _ => None,
    });
    digits.collect()
}

#[test]
fn digits_arrive_in_order_and_commas_pause() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    send(world, pair.alice, out, "12,*d").unwrap();
    assert_eq!(asked(world, pair.alice), "1", "one at a time");
    world.run_ms(175);
    assert_eq!(asked(world, pair.alice), "2");
    world.run_ms(180);
    assert_eq!(world.digits_heard(pair.bob, inb), "12");
    // The pause.
    world.run_ms(1900);
    assert_eq!(asked(world, pair.alice), "");
    world.run_s(1);
    assert_eq!(world.digits_heard(pair.bob, inb), "12*D");
    // Later digits come behind those that wait.
    send(world, pair.alice, out, "3,").unwrap();
    send(world, pair.alice, out, "4").unwrap();
    world.run_s(3);
    assert_eq!(world.digits_heard(pair.bob, inb), "12*D34");
    assert_eq!(world.digits_heard(pair.alice, out), "");
}

#[test]
fn what_cannot_be_sent_is_refused_with_a_reason() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    let early = send(world, pair.alice, out, "1").unwrap_err();
    assert_eq!(early.to_string(), "sending digits is not possible: the call is ringing");
    world.accept(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(send(world, pair.alice, out, "12x"), Err(AgentError::BadDigit('X')));
    assert_eq!(send(world, pair.alice, out, &"1".repeat(129)), Err(AgentError::TooManyDigits(128)));
    assert_eq!(asked(world, pair.alice), "", "all or nothing");
    assert_eq!(send(world, pair.alice, out, &"1".repeat(128)), Ok(()));
    // One is under way.
    assert_eq!(send(world, pair.alice, out, "12"), Err(AgentError::TooManyDigits(128)));
}

#[test]
fn digits_that_wait_are_forgotten_on_hold() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    send(world, pair.alice, out, "1,2").unwrap();
    world.run_ms(500);
    world.hold(pair.alice, out);
    world.run_ms(100);
    let held = send(world, pair.alice, out, "3").unwrap_err();
    assert_eq!(held.to_string(), "sending digits is not possible: the call is held");
    let held = send(world, pair.bob, inb, "3").unwrap_err();
    assert_eq!(held.to_string(), "sending digits is not possible: the call is held");
    world.resume(pair.alice, out);
    world.run_s(5);
    assert_eq!(world.digits_heard(pair.bob, inb), "1");
    send(world, pair.alice, out, "4").unwrap();
    world.run_s(1);
    assert_eq!(world.digits_heard(pair.bob, inb), "14");
}

#[test]
fn a_lost_report_of_the_engine_does_not_stop_the_queue() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let answer = common::peer::sdp("192.0.2.9", 4000, "sendrecv");
    Peer::called(raw, alice, &invite).answer(&mut world, &invite, 200, &answer);
    world.run_ms(50);
    world.deaf_engine = true;
    send(&mut world, alice, call, "12").unwrap();
    assert_eq!(asked(&mut world, alice), "1");
    world.run_s(1);
    assert_eq!(asked(&mut world, alice), "");
    world.run(Duration::from_millis(1500));
    assert_eq!(asked(&mut world, alice), "2");
}

#[test]
fn a_peer_without_telephone_event_gets_none() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let plain = "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
    Peer::called(raw, alice, &invite).answer(&mut world, &invite, 200, plain);
    world.run_ms(50);
    assert_eq!(send(&mut world, alice, call, "1"), Err(AgentError::NoDtmf));
}

#[test]
fn digits_after_the_end_are_nobodys() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let port = world.stream_port(pair.alice, out);
    send(world, pair.alice, out, "1,2").unwrap();
    world.hang_up(pair.alice, out);
    world.outputs(pair.alice);
    world.engine_says(pair.alice, EngineEvent::DtmfReceived { port, digit: '1', duration_ms: 100 });
    world.engine_says(pair.alice, EngineEvent::DtmfSent { port, digit: '1' });
    world.run_s(5);
    assert_eq!(asked(world, pair.alice), "");
    assert_eq!(world.digits_heard(pair.alice, out), "");
}
