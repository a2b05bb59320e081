//! Conferences: which calls are in one, who of them is heard, and whether the sound device takes part. It knows nothing
//! of how voices are mixed.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::agent::Agent;
use crate::call::{Call, Phase, Sound};
use crate::error::AgentError;
use crate::output::Output;
use crate::view::{CallId, ConferenceId, ConferenceView, DevicePart};

/// Most conferences at once.
pub const MOST_CONFERENCES: usize = 32;

/// All conferences. Who is in which stands at the calls: see [`Seat`].
#[derive(Default)]
pub(crate) struct Conferences {
    last: u32,
    by_id: BTreeMap<ConferenceId, Conference>,
}

struct Conference {
    device: DevicePart,
    /// One that nobody has joined yet waits for its first call.
    met: bool,
    /// What front ends were told last.
    published: Option<ConferenceView>,
}

/// A call's place in a conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) conference: ConferenceId,
    /// The others do not hear this one.
    pub(crate) muted: bool,
}

/// Those who hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Circle {
    /// At microphone and loudspeaker, whether by a conference or without.
    Device,
    /// In a conference that goes on without the sound device.
    Conference(ConferenceId),
}

impl Conferences {
    /// What the sound device is to a conference.
    pub(crate) fn device(&self, id: ConferenceId) -> DevicePart {
        self.by_id.get(&id).map_or(DevicePart::Away, |conference| conference.device)
    }

    fn find(&mut self, id: ConferenceId) -> Result<&mut Conference, AgentError> {
        self.by_id.get_mut(&id).ok_or(AgentError::NoSuchConference(id.0))
    }

    /// # Errors
    /// There is no such conference.
    pub(crate) fn check(&self, id: ConferenceId) -> Result<(), AgentError> {
        self.by_id.get(&id).map(|_| ()).ok_or(AgentError::NoSuchConference(id.0))
    }

    /// All conferences but one leave the sound device.
    pub(crate) fn yield_device(&mut self, to: Option<ConferenceId>) {
        for (id, conference) in &mut self.by_id {
            if Some(*id) != to {
                conference.device = DevicePart::Away;
            }
        }
    }

    /// A call takes its place.
    pub(crate) fn seat(&mut self, id: ConferenceId) -> Seat {
        if let Some(conference) = self.by_id.get_mut(&id) {
            conference.met = true;
        }
        Seat { conference: id, muted: false }
    }
}

impl Call {
    /// What the others of its conference hear: nothing before the answer, nor what a peer plays to those it holds.
    pub(crate) fn is_heard_by_others(&self) -> bool {
        self.seat.is_none_or(|seat| !seat.muted && !self.remote_hold() && self.phase == Phase::Active)
    }

    /// What is heard at the loudspeaker, early media included.
    pub(crate) fn is_heard_here(&self) -> bool {
        self.seat.is_none_or(|seat| !seat.muted && !self.remote_hold())
    }
}

impl Agent {
    /// Opens a conference in which these calls hear each other, and with them whoever is at the sound device, if that
    /// is to take part. Calls on hold are taken back. The conference is over when the last call has left it; without a
    /// first one it waits for calls that are dialled, accepted or joined into it.
    ///
    /// # Errors
    /// A call that is not there, has ended or is not answered by this side; too many conferences.
    pub fn open_conference(
        &mut self,
        now: Instant,
        calls: &[CallId],
        device: DevicePart,
    ) -> Result<ConferenceId, AgentError> {
        for call in calls {
            self.in_phase(*call, JOINING, can_join)?;
        }
        if self.conferences.by_id.len() >= MOST_CONFERENCES {
            return Err(AgentError::TooManyConferences(MOST_CONFERENCES));
        }
        self.conferences.last += 1;
        let id = ConferenceId(self.conferences.last);
        let conference = Conference { device: DevicePart::Away, met: false, published: None };
        self.conferences.by_id.insert(id, conference);
        for call in calls {
            self.take_seat(now, *call, id);
        }
        self.place_device(now, id, device);
        // It is there before a call says that it is in it.
        self.publish_conference(id);
        self.settle(now);
        Ok(id)
    }

    /// Takes a call into a conference, out of another one if need be, and off hold.
    ///
    /// # Errors
    /// There is no such conference or call; the call has ended or is not answered by this side.
    pub fn join_conference(
        &mut self,
        now: Instant,
        id: ConferenceId,
        call: CallId,
    ) -> Result<(), AgentError> {
        self.conferences.check(id)?;
        self.in_phase(call, JOINING, can_join)?;
        self.take_seat(now, call, id);
        self.settle(now);
        Ok(())
    }

    /// Takes a call out of a conference. One that would be at the sound device is put on hold: nobody is heard unasked.
    ///
    /// # Errors
    /// There is no such conference, or the call is not in it.
    pub fn leave_conference(
        &mut self,
        now: Instant,
        id: ConferenceId,
        call: CallId,
    ) -> Result<(), AgentError> {
        self.seat_of(id, call)?;
        if let Some(left) = self.calls.get_mut(&call) {
            left.seat = None;
            self.touched.insert(call);
            if left.sound == Sound::Device {
                self.set_hold(now, call, true);
            }
        }
        self.settle(now);
        Ok(())
    }

    /// Whether the others of a conference, and who is at the sound device, hear this one.
    ///
    /// # Errors
    /// There is no such conference, or the call is not in it.
    pub fn mute_in_conference(
        &mut self,
        now: Instant,
        id: ConferenceId,
        call: CallId,
        muted: bool,
    ) -> Result<(), AgentError> {
        let seat = self.seat_of(id, call)?;
        if let Some(call) = self.calls.get_mut(&call) {
            call.seat = Some(Seat { muted, ..seat });
        }
        self.settle(now);
        Ok(())
    }

    /// What the sound device is to a conference. Where it takes part, other calls at the device are held, and other
    /// conferences go on without it.
    ///
    /// # Errors
    /// There is no such conference.
    pub fn set_conference_device(
        &mut self,
        now: Instant,
        id: ConferenceId,
        device: DevicePart,
    ) -> Result<(), AgentError> {
        self.conferences.check(id)?;
        self.place_device(now, id, device);
        self.settle(now);
        Ok(())
    }

    /// Hangs up all calls of a conference, and so ends it.
    ///
    /// # Errors
    /// There is no such conference.
    pub fn end_conference(&mut self, now: Instant, id: ConferenceId) -> Result<(), AgentError> {
        self.conferences.find(id)?.met = true;
        self.hang_up_all(now, |call| call.seat.is_some_and(|seat| seat.conference == id));
        self.settle(now);
        Ok(())
    }

    /// Who hears a call, and whom it hears; `None`: files, programs or itself alone.
    pub(crate) fn circle(&self, call: &Call) -> Option<Circle> {
        match call.seat {
            Some(seat) if self.conferences.device(seat.conference) == DevicePart::Away => {
                Some(Circle::Conference(seat.conference))
            }
            Some(_) => Some(Circle::Device),
            None => (call.sound == Sound::Device).then_some(Circle::Device),
        }
    }

    pub(crate) fn uses_device(&self, call: &Call) -> bool {
        self.circle(call) == Some(Circle::Device)
    }

    /// Whether the peer of a call hears the microphone.
    pub(crate) fn hears_microphone(&self, call: &Call) -> bool {
        self.uses_device(call)
            && call.seat.is_none_or(|seat| self.conferences.device(seat.conference) == DevicePart::Joined)
    }

    /// Tells front ends what has become of the conferences, and forgets those that are over.
    pub(crate) fn publish_conferences(&mut self) {
        let ids: Vec<ConferenceId> = self.conferences.by_id.keys().copied().collect();
        for id in ids {
            let over = self.conferences.by_id.get(&id).is_some_and(|conference| conference.met)
                && !self.calls.values().any(|call| call.conference() == Some(id));
            if over {
                self.conferences.by_id.remove(&id);
                self.outputs.push_back(Output::ConferenceRemoved(id));
            } else {
                self.publish_conference(id);
            }
        }
    }

    fn publish_conference(&mut self, id: ConferenceId) {
        let seats = self.calls.values().filter_map(|call| Some((call.id, call.seat?)));
        let seats = seats.filter(|(_, seat)| seat.conference == id);
        let members = seats.map(|(call, seat)| (call, seat.muted)).collect();
        let view = ConferenceView { id, members, device: self.conferences.device(id) };
        if let Some(conference) = self.conferences.by_id.get_mut(&id)
            && conference.published.as_ref() != Some(&view)
        {
            conference.published = Some(view.clone());
            self.outputs.push_back(Output::ConferenceChanged(Box::new(view)));
        }
    }

    fn take_seat(&mut self, now: Instant, call: CallId, id: ConferenceId) {
        let Some(joined) = self.calls.get_mut(&call) else { return };
        if joined.conference() != Some(id) {
            joined.seat = Some(self.conferences.seat(id));
        }
        self.touched.insert(call);
        self.set_hold(now, call, false);
    }

    fn place_device(&mut self, now: Instant, id: ConferenceId, device: DevicePart) {
        let Ok(conference) = self.conferences.find(id) else { return };
        let before = std::mem::replace(&mut conference.device, device);
        if before == DevicePart::Away && device != DevicePart::Away {
            self.yield_device_to(now, None, Some(id));
        }
    }

    fn seat_of(&mut self, id: ConferenceId, call: CallId) -> Result<Seat, AgentError> {
        self.conferences.check(id)?;
        let found = self.calls.get(&call).ok_or(AgentError::NoSuchCall(call.0))?;
        let seat = found.seat.filter(|seat| seat.conference == id);
        seat.ok_or(AgentError::NotInConference { call: call.0, conference: id.0 })
    }
}

const JOINING: &str = "joining a conference";

/// Calls that are answered, or that the peer has to answer.
fn can_join(phase: Phase) -> bool {
    !matches!(phase, Phase::Incoming { .. } | Phase::Ended { .. })
}
