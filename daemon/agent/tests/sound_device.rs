//! One call has the sound device; the others are held, or mixed only when asked. Tones, and when the device is open.

use crate::common::peer::Peer;
use crate::common::{HostId, Pair, World};
use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, RINGER};
use voipd_agent::view::{CallId, CallState, Reason, SoundPlace};
use voipd_agent::{AgentError, SoundChoice};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Signal, Tone};

const MIX: SoundChoice = SoundChoice { ports: false, mix: true, conference: None };

/// Alice, and two that she can call.
struct Three {
    world: World,
    alice: HostId,
    bob: HostId,
    carol: HostId,
}

impl Three {
    fn new() -> Self {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let bob = world.phone("192.0.2.2:5060");
        let carol = world.phone("192.0.2.3:5060");
        Self { world, alice, bob, carol }
    }

    fn answer(&mut self, host: HostId) {
        self.world.run_ms(100);
        let call = self.world.live_call(host);
        self.world.accept(host, call);
        self.world.run_ms(200);
    }

    /// Alice talks to Bob.
    fn with_bob(&mut self) -> CallId {
        let call = self.world.dial(self.alice, "sip:192.0.2.2");
        self.answer(self.bob);
        call
    }

    fn with_carol(&mut self, sound: SoundChoice) -> CallId {
        let call = self.world.dial_with(self.alice, "sip:192.0.2.3", sound);
        self.answer(self.carol);
        call
    }

    fn states(&self, calls: [CallId; 2]) -> [CallState; 2] {
        calls.map(|call| self.world.state(self.alice, call))
    }
}

#[test]
fn a_second_call_holds_the_first_and_resuming_swaps() {
    let mut three = Three::new();
    let bob = three.with_bob();
    let carol = three.world.dial(three.alice, "sip:192.0.2.3");
    assert_eq!(three.world.state(three.alice, bob), CallState::Held, "as soon as another is dialled");
    three.answer(three.carol);
    let calls = [bob, carol];
    assert_eq!(three.states(calls), [CallState::Held, CallState::Active]);
    let alice = three.alice;
    let heard = |three: &Three, call| [three.world.stream_port(alice, call)];
    assert_eq!(three.world.heard_at(alice, DEVICE_OUTPUT), heard(&three, carol));
    assert!(!three.world.view(alice, carol).mixed);

    three.world.resume(alice, bob);
    three.world.run_ms(200);
    assert_eq!(three.states(calls), [CallState::Active, CallState::Held]);
    assert_eq!(three.world.heard_at(alice, DEVICE_OUTPUT), heard(&three, bob));
    let at_carol = three.world.live_call(three.carol);
    assert!(three.world.view(three.carol, at_carol).remote_hold);
    assert_eq!(three.world.view(alice, carol).sound, SoundPlace::None);

    // The end of one does not fetch the other back by itself: nobody should be heard who does not know it.
    three.world.hang_up(alice, bob);
    three.world.run_ms(200);
    assert_eq!(three.states(calls), [CallState::Ended, CallState::Held]);
    assert!(!three.world.device_open(alice));
}

#[test]
fn mixing_joins_everybody() {
    let mut three = Three::new();
    let bob = three.with_bob();
    let carol = three.with_carol(MIX);
    let alice = three.alice;
    assert_eq!(three.states([bob, carol]), [CallState::Active, CallState::Active]);
    assert!(three.world.view(alice, bob).mixed && three.world.view(alice, carol).mixed);
    let (b, c) = (three.world.stream_port(alice, bob), three.world.stream_port(alice, carol));
    assert_eq!(three.world.heard_at(alice, DEVICE_OUTPUT), [b, c]);
    assert_eq!(three.world.heard_at(alice, b), [DEVICE_INPUT, c]);
    assert_eq!(three.world.heard_at(alice, c), [DEVICE_INPUT, b]);

    // Resuming one without mixing takes it out of the conference.
    three.world.resume(alice, bob);
    three.world.run_ms(200);
    assert_eq!(three.states([bob, carol]), [CallState::Active, CallState::Held]);
    assert!(!three.world.view(alice, bob).mixed);
    assert_eq!(three.world.heard_at(alice, b), [DEVICE_INPUT]);
    three.world.act(alice, |agent, now| agent.resume(now, carol, true)).unwrap();
    three.world.run_ms(200);
    assert!(three.world.view(alice, bob).mixed && three.world.view(alice, carol).mixed);
    three.world.hang_up(alice, carol);
    assert!(!three.world.view(alice, bob).mixed);
    assert_eq!(three.world.heard_at(alice, b), [DEVICE_INPUT]);
}

#[test]
fn accepting_a_second_call_holds_the_first() {
    let mut three = Three::new();
    let bob = three.with_bob();
    let alice = three.alice;
    let at_carol = three.world.dial(three.carol, "sip:192.0.2.1");
    three.world.run_ms(100);
    let carol = *three.world.calls(alice).last().unwrap();
    assert_eq!(three.states([bob, carol]), [CallState::Active, CallState::Incoming]);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::CallWaiting)));
    assert!(!three.world.ringer_open(alice), "no ringing into a conversation");
    three.world.accept(alice, carol);
    three.world.run_ms(200);
    assert_eq!(three.states([bob, carol]), [CallState::Held, CallState::Active]);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), None);
    assert_eq!(three.world.state(three.carol, at_carol), CallState::Active);
}

#[test]
fn the_last_command_has_the_device_when_both_answer() {
    let mut three = Three::new();
    let alice = three.alice;
    let bob = three.world.dial(alice, "sip:192.0.2.2");
    let carol = three.world.dial(alice, "sip:192.0.2.3");
    assert!(three.world.view(alice, bob).local_hold);
    three.answer(three.carol);
    three.answer(three.bob);
    assert_eq!(three.states([bob, carol]), [CallState::Held, CallState::Active]);
    let at_bob = three.world.live_call(three.bob);
    assert!(three.world.view(three.bob, at_bob).remote_hold, "Bob knows that he is not heard");
    assert_eq!(three.world.heard_at(alice, DEVICE_OUTPUT), [three.world.stream_port(alice, carol)]);
    three.world.resume(alice, bob);
    three.world.run_ms(200);
    assert_eq!(three.states([bob, carol]), [CallState::Active, CallState::Held]);
}

#[test]
fn a_call_held_before_its_answer_can_be_resumed_before_it() {
    let mut three = Three::new();
    let alice = three.alice;
    let bob = three.world.dial(alice, "sip:192.0.2.2");
    let carol = three.world.dial(alice, "sip:192.0.2.3");
    three.world.run_ms(100);
    three.world.hang_up(alice, carol);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), None, "a held call is not listened to");
    three.world.resume(alice, bob);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::Ringback)));
    three.answer(three.bob);
    assert_eq!(three.world.state(alice, bob), CallState::Active);
    let at_bob = three.world.live_call(three.bob);
    assert!(!three.world.view(three.bob, at_bob).remote_hold);
}

#[test]
fn calls_with_files_leave_the_device_alone() {
    let mut three = Three::new();
    let bob = three.with_bob();
    let carol = three.with_carol(SoundChoice { ports: true, mix: false, conference: None });
    assert_eq!(three.states([bob, carol]), [CallState::Active, CallState::Active]);
    let alice = three.alice;
    assert!(!three.world.view(alice, bob).mixed && !three.world.view(alice, carol).mixed);
    assert_eq!(three.world.heard_at(alice, DEVICE_OUTPUT), [three.world.stream_port(alice, bob)]);
    assert_eq!(three.world.view(alice, carol).sound, SoundPlace::Files);
}

#[test]
fn tones_sound_where_they_belong() {
    let mut pair = Pair::new();
    let (alice, bob) = (pair.alice, pair.bob);
    let world = &mut pair.world;
    let out = world.dial(alice, "sip:bob@192.0.2.2");
    assert!(world.device_open(alice), "ready before the peer speaks");
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), None, "nobody rings yet");
    world.run_ms(100);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::Ringback)));
    assert_eq!(world.tone(bob, RINGER), Some(Tone::RING));
    assert!(world.ringer_open(bob) && !world.device_open(bob));

    let inb = world.live_call(bob);
    world.act(bob, |agent, now| agent.silence(now, inb)).unwrap();
    assert_eq!(world.tone(bob, RINGER), None);
    assert!(!world.ringer_open(bob));
    world.run_ms(100);
    assert_eq!(world.state(alice, out), CallState::Ringing, "the caller hears it ring on");
    assert_eq!(world.state(bob, inb), CallState::Incoming);

    world.act(bob, |agent, now| agent.reject(now, inb, Reason::Busy)).unwrap();
    world.run_ms(100);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::Busy)));
    world.run_ms(2800);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::Busy)));
    world.run_ms(300);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), None);
    assert!(!world.device_open(alice), "closed when the tone is over");
}

#[test]
fn no_busy_tone_for_who_gives_up_himself() {
    let mut pair = Pair::new();
    let (out, _) = pair.ringing();
    pair.world.hang_up(pair.alice, out);
    pair.world.run_ms(100);
    assert_eq!(pair.world.tone(pair.alice, DEVICE_OUTPUT), None);
    assert!(!pair.world.device_open(pair.alice));
}

#[test]
fn no_busy_tone_while_another_call_is_dialled() {
    let mut three = Three::new();
    let alice = three.alice;
    three.world.dial(alice, "sip:192.0.2.2");
    three.world.run_ms(100);
    three.world.dial(alice, "sip:192.0.2.200");
    let at_bob = three.world.live_call(three.bob);
    three.world.act(three.bob, |agent, now| agent.reject(now, at_bob, Reason::Busy)).unwrap();
    three.world.run_ms(100);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), None, "it would be taken for the other one's");
}

#[test]
fn each_refusal_has_its_tone() {
    for (status, signal) in [
        (486, Signal::Busy),
        (600, Signal::Busy),
        (603, Signal::Busy),
        (480, Signal::Busy),
        (408, Signal::Congestion),
        (403, Signal::Congestion),
        (500, Signal::Congestion),
        (503, Signal::Congestion),
        (404, Signal::Information),
        (410, Signal::Information),
        (484, Signal::Information),
        (604, Signal::Information),
    ] {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let host = world.raw("192.0.2.9:5060");
        let call = world.dial(alice, "sip:peer@192.0.2.9");
        world.run_ms(50);
        let invite = world.requests(host).remove(0);
        Peer::called(host, alice, &invite).answer(&mut world, &invite, status, "");
        world.run_ms(50);
        assert_eq!(world.state(alice, call), CallState::Ended, "{status}");
        let tone = Some(Country::RECOMMENDED.tone(signal));
        assert_eq!(world.tone(alice, DEVICE_OUTPUT), tone, "{status}");
    }
}

#[test]
fn the_dial_tone_sounds_until_somebody_dials() {
    let mut pair = Pair::new();
    let alice = pair.alice;
    let world = &mut pair.world;
    let dial_tone = |world: &mut World, on| world.act(alice, |agent, now| agent.set_dial_tone(now, on));
    let sounding = Some(Country::RECOMMENDED.tone(Signal::Dial));
    dial_tone(world, true).unwrap();
    assert_eq!((world.tone(alice, DEVICE_OUTPUT), world.device_open(alice)), (sounding, true));
    assert_eq!(told_dial_tone(world, alice), [true]);

    // The first digit ends it, and so does a call.
    dial_tone(world, false).unwrap();
    assert_eq!((world.tone(alice, DEVICE_OUTPUT), world.device_open(alice)), (None, false));
    dial_tone(world, true).unwrap();
    let call = world.dial(alice, "sip:bob@192.0.2.2");
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), None);
    assert_eq!(told_dial_tone(world, alice), [false, true, false]);
    assert_eq!(dial_tone(world, true), Err(AgentError::DeviceInUse));

    // Who hears that the callee is busy and lifts the receiver again may dial.
    world.run_ms(100);
    let inb = world.live_call(pair.bob);
    world.act(pair.bob, |agent, now| agent.reject(now, inb, Reason::Busy)).unwrap();
    world.run_ms(100);
    assert_eq!(world.state(alice, call), CallState::Ended);
    dial_tone(world, true).unwrap();
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), sounding);

    // Nobody dials.
    world.run_s(29);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), sounding);
    world.run_s(2);
    assert_eq!((world.tone(alice, DEVICE_OUTPUT), world.device_open(alice)), (None, false));
    assert_eq!(told_dial_tone(world, alice), [true, false]);
}

#[test]
fn the_dial_tone_is_that_of_the_country() {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let mut settings = crate::common::direct();
    settings.dial_plan.country = Some("44".to_owned());
    world.account(alice, settings);
    world.act(alice, |agent, now| agent.set_dial_tone(now, true)).unwrap();
    let british = Country::by_letters("gb").unwrap().tone(Signal::Dial);
    assert_ne!(british, Country::RECOMMENDED.tone(Signal::Dial));
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), Some(british));
}

/// What front ends were told of the dial tone since they were last asked.
fn told_dial_tone(world: &mut World, host: HostId) -> Vec<bool> {
    let outputs = world.outputs(host);
    let told = outputs.iter().filter_map(|output| match output {
        voipd_agent::Output::DialTone(on) => Some(*on),
        _ => None,
    });
    told.collect()
}

#[test]
fn ringing_stops_when_one_of_two_is_answered() {
    let mut three = Three::new();
    let alice = three.alice;
    three.world.dial(three.bob, "sip:192.0.2.1");
    three.world.dial(three.carol, "sip:192.0.2.1");
    three.world.run_ms(100);
    let calls = three.world.calls(alice);
    assert_eq!(three.world.tone(alice, RINGER), Some(Tone::RING));
    three.world.accept(alice, calls[0]);
    assert_eq!(three.world.tone(alice, RINGER), None);
    assert_eq!(three.world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::CallWaiting)));
    three.world.hang_up(alice, calls[0]);
    assert_eq!(three.world.tone(alice, RINGER), Some(Tone::RING), "the other one still waits");
}

#[test]
fn mute_is_kept_from_before_the_answer() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    world.act(pair.alice, |agent, now| agent.set_muted(now, out, true)).unwrap();
    assert!(world.view(pair.alice, out).muted);
    assert!(!muting(world, pair.alice).contains(&true), "there is no stream to mute yet");
    world.accept(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(muting(world, pair.alice), [true]);
    world.act(pair.alice, |agent, now| agent.set_muted(now, out, false)).unwrap();
    assert_eq!(muting(world, pair.alice), [false]);
    world.act(pair.alice, |agent, now| agent.set_muted(now, out, false)).unwrap();
    assert!(!world.view(pair.alice, out).muted);
}

/// What the engine was told about muting since it was last asked.
fn muting(world: &mut World, host: HostId) -> Vec<bool> {
    let outputs = world.outputs(host);
    let muted = outputs.iter().filter_map(|output| match output {
        voipd_agent::Output::SetMuted { muted, .. } => Some(*muted),
        _ => None,
    });
    muted.collect()
}
