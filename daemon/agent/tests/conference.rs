//! Conferences: each hears all but itself, the sound device takes part or does not, members are muted, come and go.

use std::collections::BTreeSet;

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT};
use voipd_agent::view::{CallId, CallState, SoundPlace};
use voipd_agent::{
    Agent, AgentError, ConferenceId, ConferenceView, DevicePart, MOST_CONFERENCES, Output, PortRole,
    SoundChoice, Voice,
};
use voipd_audio::PortId;

use crate::common::{HostId, World};

/// A host, and three that it can call.
struct Room {
    world: World,
    host: HostId,
    others: [HostId; 3],
    conferences: Vec<ConferenceView>,
    gone: Vec<ConferenceId>,
}

impl Room {
    fn new() -> Self {
        let mut world = World::new();
        let host = world.phone("192.0.2.1:5060");
        let others = ["192.0.2.2:5060", "192.0.2.3:5060", "192.0.2.4:5060"].map(|at| world.phone(at));
        Self { world, host, others, conferences: Vec::new(), gone: Vec::new() }
    }

    /// Talks to one of the others.
    fn call(&mut self, other: usize) -> CallId {
        self.call_with(other, SoundChoice::default())
    }

    fn call_with(&mut self, other: usize, sound: SoundChoice) -> CallId {
        let call = self.world.dial_with(self.host, &format!("sip:192.0.2.{}", other + 2), sound);
        self.answer(other);
        call
    }

    fn answer(&mut self, other: usize) {
        self.world.run_ms(100);
        let there = self.world.live_call(self.others[other]);
        self.world.accept(self.others[other], there);
        self.world.run_ms(200);
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Agent, std::time::Instant) -> R) -> R {
        let result = self.world.act(self.host, act);
        self.world.run_ms(200);
        for output in self.world.outputs(self.host) {
            match output {
                Output::ConferenceChanged(view) => {
                    self.conferences.retain(|known| known.id != view.id);
                    self.conferences.push(*view);
                }
                Output::ConferenceRemoved(id) => {
                    self.conferences.retain(|known| known.id != id);
                    self.gone.push(id);
                }
                _ => {}
            }
        }
        result
    }

    fn open(&mut self, calls: &[CallId], device: DevicePart) -> ConferenceId {
        self.act(|agent, now| agent.open_conference(now, calls, device)).unwrap()
    }

    fn ports(&self, calls: &[CallId]) -> Vec<PortId> {
        calls.iter().map(|call| self.world.stream_port(self.host, *call)).collect()
    }

    fn heard_by(&self, call: CallId) -> Vec<PortId> {
        self.world.heard_at(self.host, self.world.stream_port(self.host, call))
    }

    fn heard_here(&self) -> Vec<PortId> {
        self.world.heard_at(self.host, DEVICE_OUTPUT)
    }

    fn states(&self, calls: &[CallId]) -> Vec<CallState> {
        calls.iter().map(|call| self.world.state(self.host, *call)).collect()
    }
}

fn with_device(mut ports: Vec<PortId>) -> Vec<PortId> {
    ports.insert(0, DEVICE_INPUT);
    ports
}

#[test]
fn three_calls_and_who_is_here_hear_all_but_themselves() {
    let mut room = Room::new();
    let [a, b, c] = [0, 1, 2].map(|other| room.call(other));
    assert_eq!(room.states(&[a, b, c]), [CallState::Held, CallState::Held, CallState::Active]);
    let id = room.open(&[a, b, c], DevicePart::Joined);
    assert_eq!(room.states(&[a, b, c]), [CallState::Active; 3], "those on hold are taken back");
    for (call, others) in [(a, [b, c]), (b, [a, c]), (c, [a, b])] {
        assert_eq!(room.heard_by(call), with_device(room.ports(&others)));
        let view = room.world.view(room.host, call);
        assert_eq!((view.conference, view.sound, view.mixed), (Some(id), SoundPlace::Conference, true));
    }
    assert_eq!(room.heard_here(), room.ports(&[a, b, c]));
    let members = vec![(a, false), (b, false), (c, false)];
    assert_eq!(room.conferences, [ConferenceView { id, members, device: DevicePart::Joined }]);
}

#[test]
fn a_conference_goes_on_without_the_sound_device() {
    let mut room = Room::new();
    let [a, b] = [0, 1].map(|other| room.call(other));
    let id = room.open(&[a, b], DevicePart::Away);
    assert_eq!(room.heard_by(a), room.ports(&[b]));
    assert_eq!(room.heard_by(b), room.ports(&[a]));
    assert!(room.heard_here().is_empty() && !room.world.device_open(room.host));
    assert!(!room.world.view(room.host, a).mixed);

    room.act(|agent, now| agent.set_conference_device(now, id, DevicePart::Listening)).unwrap();
    assert_eq!(room.heard_here(), room.ports(&[a, b]));
    assert_eq!(room.heard_by(a), room.ports(&[b]), "the microphone is not heard");
    assert!(room.world.device_open(room.host));

    // Another call takes the device, and nobody in the conference notices.
    let c = room.call(2);
    assert_eq!(room.states(&[a, b, c]), [CallState::Active; 3]);
    assert_eq!(room.heard_here(), room.ports(&[c]));
    assert_eq!((room.heard_by(a), room.heard_by(c)), (room.ports(&[b]), vec![DEVICE_INPUT]));

    // And the conference takes it back: the other call is held.
    room.act(|agent, now| agent.set_conference_device(now, id, DevicePart::Joined)).unwrap();
    assert_eq!(room.states(&[a, b, c]), [CallState::Active, CallState::Active, CallState::Held]);
    assert_eq!(room.heard_by(b), with_device(room.ports(&[a])));
    assert_eq!(room.conferences[0].device, DevicePart::Joined);
}

#[test]
fn a_member_is_muted_for_the_others_and_goes_on_hearing() {
    let mut room = Room::new();
    let [a, b] = [0, 1].map(|other| room.call(other));
    let id = room.open(&[a, b], DevicePart::Joined);
    room.act(|agent, now| agent.mute_in_conference(now, id, a, true)).unwrap();
    assert_eq!(room.heard_by(a), with_device(room.ports(&[b])));
    assert_eq!(room.heard_by(b), [DEVICE_INPUT]);
    assert_eq!(room.heard_here(), room.ports(&[b]));
    assert_eq!(room.conferences[0].members, [(a, true), (b, false)]);
    room.act(|agent, now| agent.mute_in_conference(now, id, a, false)).unwrap();
    assert_eq!(room.heard_by(b), with_device(room.ports(&[a])));
}

#[test]
fn a_program_instead_of_the_microphone_leaves_the_others_to_be_heard() {
    let mut room = Room::new();
    let [a, b] = [0, 1].map(|other| room.call(other));
    let id = room.open(&[a, b], DevicePart::Joined);
    let role = PortRole::Program(Voice::Instead);
    let program = room.act(|agent, now| agent.open_port(now, a, role)).unwrap();
    let b_and_program = [room.ports(&[b]), vec![program]].concat();
    assert_eq!(room.heard_by(a), b_and_program);
    assert_eq!(room.heard_by(b), with_device(room.ports(&[a])), "it speaks to one peer alone");
    room.act(|agent, now| agent.set_conference_device(now, id, DevicePart::Away)).unwrap();
    assert_eq!(room.heard_by(a), b_and_program);
    room.act(|agent, now| agent.set_conference_device(now, id, DevicePart::Joined)).unwrap();
    room.act(|agent, now| agent.close_port(now, a, program));
    assert_eq!(room.heard_by(a), with_device(room.ports(&[b])));
}

#[test]
fn a_file_instead_of_the_microphone_leaves_calls_that_are_mixed_to_be_heard() {
    let mut room = Room::new();
    let a = room.call(0);
    let b = room.call_with(1, SoundChoice { mix: true, ..SoundChoice::default() });
    let role = PortRole::Player(Voice::Instead);
    let player = room.act(|agent, now| agent.open_port(now, a, role)).unwrap();
    assert_eq!(room.heard_by(a), [room.ports(&[b]), vec![player]].concat());
    assert_eq!(room.heard_by(b), with_device(room.ports(&[a])));
    assert_eq!(room.heard_here(), room.ports(&[a, b]));
}

#[test]
fn who_holds_the_conference_plays_it_no_music() {
    let mut room = Room::new();
    let [a, b] = [0, 1].map(|other| room.call(other));
    room.open(&[a, b], DevicePart::Joined);
    let there = room.world.live_call(room.others[0]);
    room.world.hold(room.others[0], there);
    room.act(|_, _| ());
    assert!(room.world.view(room.host, a).remote_hold);
    assert_eq!((room.heard_by(b), room.heard_here()), (vec![DEVICE_INPUT], room.ports(&[b])));
    room.world.resume(room.others[0], there);
    room.act(|_, _| ());
    assert_eq!(room.heard_by(b), with_device(room.ports(&[a])));
}

#[test]
fn calls_are_dialled_and_accepted_into_a_conference() {
    let mut room = Room::new();
    let id = room.open(&[], DevicePart::Joined);
    let sound = SoundChoice { conference: Some(id), ..SoundChoice::default() };
    let a = room.call_with(0, sound);
    room.world.dial(room.others[1], "sip:192.0.2.1");
    room.world.run_ms(100);
    let b = *room.world.calls(room.host).last().unwrap();
    let refused = room.act(|agent, now| agent.join_conference(now, id, b));
    assert!(matches!(refused, Err(AgentError::WrongState { .. })), "{refused:?}");
    room.world.accept_with(room.host, b, sound);
    room.act(|_, _| ());
    assert_eq!(room.states(&[a, b]), [CallState::Active; 2], "neither holds the other");
    assert_eq!(room.heard_by(a), with_device(room.ports(&[b])));

    // One that rings is not heard by the others, and is as soon as it answers.
    let c = room.world.dial_with(room.host, "sip:192.0.2.4", sound);
    room.world.run_ms(100);
    assert_eq!(room.world.state(room.host, c), CallState::Ringing);
    assert_eq!(room.heard_by(a), with_device(room.ports(&[b])));
    room.answer(2);
    assert_eq!(room.heard_by(a), with_device(room.ports(&[b, c])));

    let nowhere = SoundChoice { conference: Some(ConferenceId(9)), ..SoundChoice::default() };
    let calls = room.world.calls(room.host).len();
    let refused = room.act(|agent, now| agent.dial(now, "sip:192.0.2.2", None, nowhere));
    assert_eq!(refused, Err(AgentError::NoSuchConference(9)));
    assert_eq!(room.world.calls(room.host).len(), calls, "nobody was called");
}

#[test]
fn who_leaves_is_held_and_the_last_one_ends_the_conference() {
    let mut room = Room::new();
    let [a, b] = [0, 1].map(|other| room.call(other));
    let id = room.open(&[a, b], DevicePart::Joined);
    room.act(|agent, now| agent.leave_conference(now, id, a)).unwrap();
    assert_eq!(room.states(&[a, b]), [CallState::Held, CallState::Active]);
    assert_eq!(room.world.view(room.host, a).conference, None);
    assert_eq!(room.heard_by(b), [DEVICE_INPUT]);
    let again = room.act(|agent, now| agent.leave_conference(now, id, a));
    assert_eq!(again, Err(AgentError::NotInConference { call: a.0, conference: id.0 }));

    // Resuming it takes the device from the conference.
    room.world.resume(room.host, a);
    room.act(|_, _| ());
    assert_eq!(room.conferences[0].device, DevicePart::Away);
    assert_eq!((room.heard_by(a), room.heard_by(b)), (vec![DEVICE_INPUT], vec![]));

    room.world.hang_up(room.host, b);
    room.act(|_, _| ());
    assert_eq!((room.conferences.len(), room.gone.clone()), (0, vec![id]));
    assert_eq!(room.world.state(room.host, a), CallState::Active);
    let over = room.act(|agent, now| agent.join_conference(now, id, a));
    assert_eq!(over, Err(AgentError::NoSuchConference(id.0)));
}

#[test]
fn a_call_changes_from_one_conference_to_another() {
    let mut room = Room::new();
    let [a, b, c] = [0, 1, 2].map(|other| room.call(other));
    let first = room.open(&[a, b], DevicePart::Joined);
    let second = room.open(&[c], DevicePart::Joined);
    let device = |room: &Room, id| room.conferences.iter().find(|view| view.id == id).unwrap().device;
    assert_eq!((device(&room, first), device(&room, second)), (DevicePart::Away, DevicePart::Joined));
    room.act(|agent, now| agent.join_conference(now, second, b)).unwrap();
    assert_eq!(room.heard_by(a), []);
    assert_eq!(room.heard_by(b), with_device(room.ports(&[c])));

    // A member on hold keeps its place.
    room.world.hold(room.host, b);
    room.act(|_, _| ());
    assert_eq!(room.heard_by(c), [DEVICE_INPUT]);
    room.world.resume(room.host, b);
    room.act(|_, _| ());
    assert_eq!(room.heard_by(c), with_device(room.ports(&[b])));
    assert_eq!(room.states(&[a, b, c]), [CallState::Active; 3]);
}

#[test]
fn the_end_of_a_conference_hangs_up_its_calls_alone() {
    let mut room = Room::new();
    let [a, b, c] = [0, 1, 2].map(|other| room.call(other));
    let id = room.open(&[a, b], DevicePart::Away);
    room.act(|agent, now| agent.end_conference(now, id)).unwrap();
    assert_eq!(room.states(&[a, b, c]), [CallState::Ended, CallState::Ended, CallState::Active]);
    assert_eq!(room.gone, [id]);
    let empty = room.open(&[], DevicePart::Away);
    room.act(|agent, now| agent.end_conference(now, empty)).unwrap();
    assert_eq!(room.gone, [id, empty]);
    assert_eq!(room.world.view(room.host, a).conference, None);
}

#[test]
fn conferences_are_limited_and_need_calls_that_are_there() {
    let mut room = Room::new();
    let refused = room.act(|agent, now| agent.open_conference(now, &[CallId(7)], DevicePart::Joined));
    assert_eq!(refused, Err(AgentError::NoSuchCall(7)));
    assert!(room.conferences.is_empty());
    for _ in 0..MOST_CONFERENCES {
        room.open(&[], DevicePart::Away);
    }
    let refused = room.act(|agent, now| agent.open_conference(now, &[], DevicePart::Away));
    assert_eq!(refused, Err(AgentError::TooManyConferences(MOST_CONFERENCES)));
}

/// Moments at which the host wants to be woken, within a minute.
fn wakes_in_a_minute(room: &mut Room) -> usize {
    let mut moments = BTreeSet::new();
    for _ in 0..6000 {
        room.world.run_ms(10);
        moments.extend(room.world.wakes_at(room.host));
    }
    moments.len()
}

#[test]
fn three_calls_wake_the_host_no_more_often_than_one() {
    let mut room = Room::new();
    let first = room.call(0);
    room.world.run_s(10);
    let alone = wakes_in_a_minute(&mut room);
    let calls = [first, room.call(1), room.call(2)];
    room.open(&calls, DevicePart::Away);
    room.world.run_s(10);
    assert_eq!(room.states(&calls), [CallState::Active; 3]);
    let together = wakes_in_a_minute(&mut room);
    assert!(together <= alone + 5, "{alone} moments with one call, {together} with three");
}
