//! Who wants to know who speaks in which conference, and how often that is told. It listens to nobody itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use voipd_agent::view::CallId;
use voipd_agent::{ConferenceId, ConferenceView};
use voipd_dbus::Error;
use zbus::names::OwnedUniqueName;

use super::outcome::Failure;

/// Shortest time between two speakers: quicker than this nobody can follow.
const PACE: Duration = Duration::from_millis(333);
/// Most watchers altogether.
const MOST: usize = 1024;

/// All who watch, and what they were told.
#[derive(Default)]
pub(super) struct Speakers {
    watchers: BTreeSet<(ConferenceId, OwnedUniqueName)>,
    told: BTreeMap<ConferenceId, Told>,
}

#[derive(Default)]
struct Told {
    speaker: Option<CallId>,
    /// Until then, no other is told.
    until: Option<Instant>,
    /// Another one waits to be told.
    due: bool,
}

impl Speakers {
    pub(super) fn watch(&mut self, conference: ConferenceId, who: OwnedUniqueName) -> Result<(), Failure> {
        if self.watchers.len() >= MOST && !self.watchers.contains(&(conference, who.clone())) {
            let message = "there are too many watchers: call UnwatchSpeaker on what is no longer needed";
            return Err(Box::new(Error::LimitReached(message.to_owned())));
        }
        self.watchers.insert((conference, who));
        Ok(())
    }

    pub(super) fn unwatch(&mut self, conference: ConferenceId, who: &OwnedUniqueName) {
        self.watchers.remove(&(conference, who.clone()));
    }

    /// The watcher has left the bus.
    pub(super) fn left(&mut self, who: &OwnedUniqueName) {
        self.watchers.retain(|(_, other)| other != who);
    }

    /// The conference is no more.
    pub(super) fn removed(&mut self, conference: ConferenceId) {
        self.watchers.retain(|(other, _)| *other != conference);
        self.told.remove(&conference);
    }

    pub(super) fn has(&self, who: &OwnedUniqueName) -> bool {
        self.watchers.iter().any(|(_, other)| other == who)
    }

    pub(super) fn is_watched(&self, conference: ConferenceId) -> bool {
        self.watchers.iter().any(|(other, _)| *other == conference)
    }

    /// Who is to be shown as the speaker of a conference now, given who speaks: the same as before for a third of a
    /// second, so that a lively conference does not flood the bus.
    pub(super) fn shown(
        &mut self,
        conference: ConferenceId,
        speaks: Option<CallId>,
        now: Instant,
    ) -> Option<CallId> {
        if !self.is_watched(conference) {
            self.told.remove(&conference);
            return None;
        }
        let told = self.told.entry(conference).or_default();
        let waits = told.until.is_some_and(|until| until > now);
        told.due = told.speaker != speaks && waits;
        if told.speaker != speaks && !waits {
            (told.speaker, told.until) = (speaks, Some(now + PACE));
        }
        told.speaker
    }

    /// When a speaker that waits may be told.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.told.values().filter(|told| told.due).filter_map(|told| told.until).min()
    }
}

/// Those whom the others of a conference hear: not who has not answered, nor what a peer plays to those it holds.
pub(super) fn heard(
    conference: &ConferenceView,
    is_active: impl Fn(CallId) -> bool,
) -> impl Iterator<Item = CallId> {
    conference.members.iter().filter(move |(call, muted)| !muted && is_active(*call)).map(|(call, _)| *call)
}

#[cfg(test)]
mod tests {
    use voipd_agent::view::DevicePart;

    use super::*;

    #[test]
    fn those_whom_nobody_hears_are_no_speakers() {
        let members = [(1, false), (2, true), (3, false)].map(|(call, muted)| (CallId(call), muted)).to_vec();
        let conference = ConferenceView { id: ConferenceId(1), members, device: DevicePart::Joined };
        assert_eq!(heard(&conference, |call| call != CallId(3)).collect::<Vec<_>>(), [CallId(1)]);
    }

    #[test]
    fn speakers_are_told_to_watchers_at_a_pace_that_people_can_follow() {
        let who = OwnedUniqueName::try_from(":1.1").unwrap();
        let (mut speakers, now, id) = (Speakers::default(), Instant::now(), ConferenceId(1));
        let call = |number| Some(CallId(number));
        assert_eq!(speakers.shown(id, call(1), now), None, "nobody watches");
        speakers.watch(id, who.clone()).unwrap();
        assert_eq!(speakers.shown(id, call(1), now), call(1));
        assert_eq!((speakers.shown(id, call(2), now), speakers.next_due()), (call(1), Some(now + PACE)));
        assert_eq!((speakers.shown(id, call(1), now), speakers.next_due()), (call(1), None));
        assert_eq!(speakers.shown(id, call(3), now), call(1));
        assert_eq!((speakers.shown(id, call(3), now + PACE), speakers.next_due()), (call(3), None));
        speakers.left(&who);
        assert_eq!(speakers.shown(id, call(3), now + PACE), None);
        speakers.watch(id, who.clone()).unwrap();
        speakers.removed(id);
        assert!(!speakers.has(&who) && !speakers.is_watched(id));
    }
}
