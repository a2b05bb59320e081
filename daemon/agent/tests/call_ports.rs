//! Players, recorders and programs at a call: from when sound flows at them, and who is heard.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, Pair, World};
use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, Output};
use voipd_agent::view::{CallId, CallState, SoundPlace};
use voipd_agent::{AgentError, MOST_CALL_PORTS, PortRole, SoundChoice, Voice};
use voipd_audio::PortId;

fn open(world: &mut World, host: HostId, call: CallId, role: PortRole) -> PortId {
    world.act(host, |agent, now| agent.open_port(now, call, role)).unwrap()
}

fn opened(world: &mut World, host: HostId) -> Vec<PortId> {
    let port = |output| match output {
        Output::OpenPort { port, .. } => Some(port),
        _ => None,
    };
    world.outputs(host).into_iter().filter_map(port).collect()
}

#[test]
fn sound_flows_from_the_answer_on_and_not_before() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial_with(
        alice,
        "sip:peer@192.0.2.9",
        SoundChoice { ports: true, mix: false, conference: None },
    );
    let player = open(&mut world, alice, call, PortRole::Player(Voice::Instead));
    let recorder = open(&mut world, alice, call, PortRole::Recorder);
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let stream = world.stream_port(alice, call);
    assert_eq!(world.heard_at(alice, stream), []);
    assert_eq!(opened(&mut world, alice), []);

    peer.answer(&mut world, &invite, 200, "");
    world.run_ms(50);
    assert_eq!(opened(&mut world, alice), [player, recorder]);
    assert_eq!(world.heard_at(alice, stream), [player]);
    let view = world.view(alice, call);
    assert_eq!((view.sound, view.playing, view.recording), (SoundPlace::Files, true, true));
    assert!(!world.device_open(alice), "files need no sound card");
    // Socket, stream, player, recorder.
    assert_eq!(world.media_open(alice), 4);
    world.hang_up(alice, call);
    assert_eq!(world.media_open(alice), 0);
}

#[test]
fn a_program_speaks_beside_the_microphone_or_instead_of_it() {
    let mut pair = Pair::new();
    let (call, _) = pair.talking();
    let (world, alice) = (&mut pair.world, pair.alice);
    let stream = world.stream_port(alice, call);
    let beside = open(world, alice, call, PortRole::Program(Voice::Beside));
    assert_eq!(opened(world, alice).last(), Some(&beside), "at once: the call is answered");
    assert_eq!(world.heard_at(alice, stream), [DEVICE_INPUT, beside]);
    let instead = open(world, alice, call, PortRole::Program(Voice::Instead));
    assert_eq!(world.heard_at(alice, stream), [beside, instead]);
    assert_eq!(world.heard_at(alice, DEVICE_OUTPUT), [stream], "the loudspeaker goes on");
    assert_eq!(world.view(alice, call).sound, SoundPlace::Device);
    let listener = open(world, alice, call, PortRole::Listener);
    assert_eq!(world.heard_at(alice, stream), [beside, instead]);
    for port in [instead, listener, beside] {
        world.act(alice, |agent, now| agent.close_port(now, call, port));
    }
    assert_eq!(world.heard_at(alice, stream), [DEVICE_INPUT]);
    let closed = |output: &Output| matches!(output, Output::ClosePort { .. });
    assert_eq!(world.outputs(alice).iter().filter(|output| closed(output)).count(), 3);
    world.act(alice, |agent, now| agent.close_port(now, call, beside));
    assert!(!world.outputs(alice).iter().any(closed), "it is gone");
}

#[test]
fn the_microphone_that_is_replaced_is_not_heard_before_the_answer_either() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    open(&mut world, alice, call, PortRole::Program(Voice::Instead));
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 183, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, call), CallState::Early);
    let stream = world.stream_port(alice, call);
    assert_eq!(world.heard_at(alice, stream), []);
}

#[test]
fn playing_and_recording_show_as_long_as_they_last() {
    let mut pair = Pair::new();
    let (call, _) = pair.talking();
    let (world, alice) = (&mut pair.world, pair.alice);
    let shown = |world: &World| {
        let view = world.view(alice, call);
        (view.playing, view.recording)
    };
    assert_eq!(shown(world), (false, false));
    let player = open(world, alice, call, PortRole::Player(Voice::Beside));
    let recorder = open(world, alice, call, PortRole::Recorder);
    assert_eq!(shown(world), (true, true));
    world.act(alice, |agent, now| agent.close_port(now, call, player));
    assert_eq!(shown(world), (false, true));
    world.act(alice, |agent, now| agent.close_port(now, call, recorder));
    assert_eq!(shown(world), (false, false));
}

#[test]
fn an_ended_call_takes_nothing_and_an_open_one_not_everything() {
    let mut pair = Pair::new();
    let (call, _) = pair.talking();
    let (world, alice) = (&mut pair.world, pair.alice);
    for _ in 0..MOST_CALL_PORTS {
        open(world, alice, call, PortRole::Listener);
    }
    let more = world.act(alice, |agent, now| agent.open_port(now, call, PortRole::Recorder));
    assert_eq!(more, Err(AgentError::TooManyPorts(MOST_CALL_PORTS)));
    world.hang_up(alice, call);
    assert_eq!(world.media_open(alice), 0);
    let late = world.act(alice, |agent, now| agent.open_port(now, call, PortRole::Recorder));
    assert_eq!(late, Err(AgentError::WrongState { what: "recording", state: CallState::Ended }));
    let nowhere = world.act(alice, |agent, now| agent.open_port(now, CallId(99), PortRole::Recorder));
    assert_eq!(nowhere, Err(AgentError::NoSuchCall(99)));
}
