//! Sound before the answer.

use crate::common::World;
use crate::common::peer::{Peer, sdp};
use voipd_agent::SoundChoice;
use voipd_agent::output::{DEVICE_OUTPUT, Output};
use voipd_agent::view::{CallId, CallState, Reason, SoundPlace};
use voipd_audio::plan::EngineEvent;
use voipd_audio::tone::Signal;
use voipd_audio::tone::national::Country;
use voipd_sip::message::Request;

/// A call to a scripted peer, and the INVITE that it got.
fn dialled(sound: SoundChoice) -> (World, crate::common::HostId, CallId, Peer, Request) {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial_with(alice, "sip:peer@192.0.2.9", sound);
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    (world, alice, call, peer, invite)
}

#[test]
fn a_183_with_sound_is_heard_before_the_answer() {
    let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
    peer.answer(&mut world, &invite, 180, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Ringing);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), Some(Country::RECOMMENDED.tone(Signal::Ringback)));

    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let view = world.view(alice, call);
    assert_eq!((view.state, view.reason, view.sip_status), (CallState::Early, Reason::Remote, 183));
    assert_eq!((view.codec, view.sound, view.answered_at), ("PCMU", SoundPlace::Device, 0));
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), None, "the network's own ringback is heard");
    assert_eq!(world.heard_at(alice, DEVICE_OUTPUT), [world.stream_port(alice, call)]);
    assert!(world.plan(alice, call).play);

    // The answer without a description: the early one was it.
    peer.answer(&mut world, &invite, 200, "");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(world.plan(alice, call).generation, 1, "nothing has changed for the stream");
    use CallState::{Active, Dialing, Early, Ringing};
    assert_eq!(world.states(alice, call), [Dialing, Ringing, Early, Active]);
}

#[test]
fn ringing_without_early_sound_is_made_here_until_sound_comes() {
    let ringback = Some(Country::RECOMMENDED.tone(Signal::Ringback));
    for described_before in [true, false] {
        let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
        let description = sdp("192.0.2.9", 4000, "sendrecv");
        if described_before {
            peer.answer(&mut world, &invite, 183, &description);
            world.run_ms(50);
            assert_eq!(world.tone(alice, DEVICE_OUTPUT), None, "nobody has said that it rings");
            peer.answer(&mut world, &invite, 180, "");
        } else {
            peer.answer(&mut world, &invite, 180, &description);
        }
        world.run_ms(2000);
        assert_eq!(world.state(alice, call), CallState::Early);
        assert_eq!(world.tone(alice, DEVICE_OUTPUT), ringback, "described before: {described_before}");

        let port = world.stream_port(alice, call);
        world.engine_says(alice, EngineEvent::FirstPacket { port });
        assert_eq!(world.tone(alice, DEVICE_OUTPUT), None, "the peer's own sound is heard");
        peer.answer(&mut world, &invite, 180, "");
        world.run_ms(50);
        assert_eq!(world.tone(alice, DEVICE_OUTPUT), None, "it is heard already");
    }
}

#[test]
fn ringing_beside_early_sound_leaves_that_alone() {
    let (mut world, alice, _, peer, invite) = dialled(SoundChoice::default());
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_s(5);
    peer.answer(&mut world, &invite, 180, "");
    world.run_ms(50);
    assert_eq!(world.tone(alice, DEVICE_OUTPUT), None);
}

#[test]
fn the_answer_may_come_from_elsewhere_than_the_early_sound() {
    let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.50", 4000, "sendrecv"));
    world.run_ms(50);
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 6000, "sendrecv"));
    world.run_ms(50);
    let remote = world.plan(alice, call).path.remote();
    assert_eq!(remote, "192.0.2.9:6000".parse().unwrap());
    assert_eq!(world.plan(alice, call).generation, 2);
}

#[test]
fn early_sound_and_then_a_refusal() {
    let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    peer.answer(&mut world, &invite, 486, "");
    world.run_ms(50);
    assert_eq!(world.end(alice, call), (Reason::Busy, 486));
    assert_eq!(world.media_open(alice), 0);
}

#[test]
fn a_description_that_cannot_be_read_is_passed_over() {
    let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
    peer.answer(&mut world, &invite, 183, "v=0\nnonsense\n");
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Dialing);
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Active);
}

#[test]
fn digits_can_be_sent_to_an_announcement() {
    let (mut world, alice, call, peer, invite) = dialled(SoundChoice::default());
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    world.act(alice, |agent, now| agent.send_dtmf(now, call, "5")).unwrap();
    assert!(world.outputs(alice).iter().any(|output| matches!(output, Output::SendDtmf { digit: '5', .. })));
}
