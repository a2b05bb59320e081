//! Who wants to hear of talk and silence in which call, and whose patience with silence is at its end. It sends nothing
//! and asks nothing: it says what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{replace, take};
use std::time::Duration;

use tokio::time::Instant;
use voipd_agent::view::CallId;
use voipd_audio::plan::Heard;
use voipd_dbus::Error;
use zbus::names::OwnedUniqueName;

use super::outcome::{Failure, invalid};

/// Longest silence that can be asked for, in seconds.
const LONGEST_SILENCE: u32 = 86_400;
/// Most calls that one client can listen to, and most listeners altogether.
const MOST_BY_ONE: usize = 64;
const MOST: usize = 1024;

/// The word on the bus.
pub(super) const fn direction(heard: Heard) -> &'static str {
    match heard {
        Heard::Near => "near",
        Heard::Far => "far",
    }
}

struct Listener {
    /// `None`: silence is no event.
    silence: Option<Duration>,
    /// When the time-out of a direction comes; `None` while there is talk, while silence does not count, and after it was
    /// told.
    near: Option<Instant>,
    far: Option<Instant>,
}

impl Listener {
    fn due(&mut self, heard: Heard) -> &mut Option<Instant> {
        match heard {
            Heard::Near => &mut self.near,
            Heard::Far => &mut self.far,
        }
    }
}

/// Who talks in a call that somebody listens to.
#[derive(Default)]
struct Talk {
    near: bool,
    far: bool,
    /// Which change it was that the peer began to talk with.
    began: u64,
    /// The driver has been asked to tell.
    asked: bool,
    /// The call is active. That nothing is heard while it rings or is held says nothing.
    counts: bool,
}

/// A silence that has lasted as long as somebody wanted to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimedOut {
    pub(super) call: CallId,
    pub(super) who: OwnedUniqueName,
    pub(super) heard: Heard,
    pub(super) seconds: u32,
}

/// All who listen.
#[derive(Default)]
pub(super) struct Listeners {
    by: BTreeMap<(CallId, OwnedUniqueName), Listener>,
    talk: BTreeMap<CallId, Talk>,
    changes: u64,
    /// Calls that are listened to for who speaks in a conference.
    members: BTreeSet<CallId>,
}

impl Listeners {
    /// The call whose peer talks; of several the one that began last: he has interrupted the others.
    pub(super) fn speaker(&self) -> Option<CallId> {
        let talking = self.talk.iter().filter(|(_, talk)| talk.far);
        talking.max_by_key(|(_, talk)| talk.began).map(|(call, _)| *call)
    }

    /// The call among these whose peer talks.
    pub(super) fn speaker_among(&self, calls: impl Iterator<Item = CallId>) -> Option<CallId> {
        let talking = calls.filter_map(|call| Some((call, self.talk.get(&call).filter(|talk| talk.far)?)));
        talking.max_by_key(|(_, talk)| talk.began).map(|(call, _)| call)
    }

    /// Calls to listen to though nobody wants to hear of them one by one.
    pub(super) fn set_members(&mut self, members: BTreeSet<CallId>) {
        for call in &members {
            self.talk.entry(*call).or_default();
        }
        self.members = members;
    }

    /// Begins to listen, or changes the patience with silence (seconds, 0: endless). Answers who is talking just now.
    /// Silence counts only once [`Listeners::count_silence`] has said so.
    pub(super) fn listen(
        &mut self,
        call: CallId,
        who: OwnedUniqueName,
        silence: u32,
        now: Instant,
    ) -> Result<Vec<Heard>, Failure> {
        if silence > LONGEST_SILENCE {
            return Err(invalid(format!(
                "a silence of {silence} s is too long: give 0 to {LONGEST_SILENCE}"
            )));
        }
        let key = (call, who);
        if !self.by.contains_key(&key) {
            let by_one = self.by.keys().filter(|(_, other)| *other == key.1).count();
            if by_one >= MOST_BY_ONE || self.by.len() >= MOST {
                let message =
                    "there are too many listeners: call UnwatchActivity on what is no longer needed";
                return Err(Box::new(Error::LimitReached(message.to_owned())));
            }
        }
        let talk = self.talk.entry(call).or_default();
        let silence = (silence > 0).then(|| Duration::from_secs(silence.into()));
        let counts = talk.counts;
        let due = |talking: bool| silence.filter(|_| counts && !talking).map(|silence| now + silence);
        let listener = Listener { silence, near: due(talk.near), far: due(talk.far) };
        let talking = [(Heard::Near, talk.near), (Heard::Far, talk.far)];
        self.by.insert(key, listener);
        Ok(talking.into_iter().filter(|(_, talking)| *talking).map(|(heard, _)| heard).collect())
    }

    /// Whether silence counts in the call: it does while the call is active. Time before the answer or in a hold is no
    /// part of a silence: each begins anew when silence counts again.
    pub(super) fn count_silence(&mut self, call: CallId, counts: bool, now: Instant) {
        let Some(talk) = self.talk.get_mut(&call) else { return };
        if replace(&mut talk.counts, counts) == counts {
            return;
        }
        let (near, far) = (talk.near, talk.far);
        for (_, listener) in self.by.iter_mut().filter(|((other, _), _)| *other == call) {
            let silence = listener.silence;
            let due = |talking: bool| silence.filter(|_| counts && !talking).map(|silence| now + silence);
            (listener.near, listener.far) = (due(near), due(far));
        }
    }

    pub(super) fn leave(&mut self, call: CallId, who: &OwnedUniqueName) {
        self.by.remove(&(call, who.clone()));
    }

    /// The listener has left the bus.
    pub(super) fn left(&mut self, who: &OwnedUniqueName) {
        self.by.retain(|(_, other), _| other != who);
    }

    /// The call has ended: nobody talks in it any more. Answers who is to be told whose talk is over.
    pub(super) fn ended(&mut self, call: CallId) -> Vec<(OwnedUniqueName, Heard)> {
        let Some(talk) = self.talk.get_mut(&call) else { return Vec::new() };
        let talked = [(Heard::Near, take(&mut talk.near)), (Heard::Far, take(&mut talk.far))];
        let mut told = Vec::new();
        for (_, who) in self.by.keys().filter(|(other, _)| *other == call) {
            told.extend(talked.iter().filter(|(_, talked)| *talked).map(|(heard, _)| (who.clone(), *heard)));
        }
        told
    }

    /// The call is no more.
    pub(super) fn removed(&mut self, call: CallId) {
        self.by.retain(|(other, _), _| *other != call);
        self.members.remove(&call);
        self.talk.remove(&call);
    }

    pub(super) fn has(&self, who: &OwnedUniqueName) -> bool {
        self.by.keys().any(|(_, other)| other == who)
    }

    /// What the driver has to be told: calls that it shall listen to from now on, or no more. Those are taken for told
    /// for which `tell` answers so.
    pub(super) fn review(&mut self, mut tell: impl FnMut(CallId, bool) -> bool) {
        let (by, members) = (&self.by, &self.members);
        self.talk.retain(|call, talk| {
            let wanted = members.contains(call) || by.keys().any(|(other, _)| other == call);
            if wanted != talk.asked && tell(*call, wanted) {
                talk.asked = wanted;
            }
            wanted || talk.asked
        });
    }

    /// Somebody has begun to talk, or has stopped; answers who is to be told.
    pub(super) fn heard(
        &mut self,
        call: CallId,
        heard: Heard,
        talking: bool,
        now: Instant,
    ) -> Vec<OwnedUniqueName> {
        let Some(talk) = self.talk.get_mut(&call) else { return Vec::new() };
        match heard {
            Heard::Near => talk.near = talking,
            Heard::Far => {
                self.changes += 1;
                (talk.far, talk.began) = (talking, self.changes);
            }
        }
        let counts = talk.counts;
        let listeners = self.by.iter_mut().filter(|((other, _), _)| *other == call);
        listeners
            .map(|((_, who), listener)| {
                let silence = listener.silence.filter(|_| counts && !talking);
                *listener.due(heard) = silence.map(|silence| now + silence);
                who.clone()
            })
            .collect()
    }

    /// When the next silence has lasted long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by.values().flat_map(|listener| [listener.near, listener.far]).flatten().min()
    }

    /// Silences that have lasted as long as somebody wanted to know; each is told once.
    pub(super) fn timed_out(&mut self, now: Instant) -> Vec<TimedOut> {
        let mut all = Vec::new();
        for ((call, who), listener) in &mut self.by {
            let seconds = listener.silence.map_or(0, |silence| silence.as_secs() as u32);
            for heard in [Heard::Near, Heard::Far] {
                if listener.due(heard).take_if(|due| *due <= now).is_some() {
                    all.push(TimedOut { call: *call, who: who.clone(), heard, seconds });
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(number: u32) -> OwnedUniqueName {
        OwnedUniqueName::try_from(format!(":1.{number}")).unwrap()
    }

    fn told(listeners: &mut Listeners) -> Vec<(u32, bool)> {
        let mut told = Vec::new();
        listeners.review(|call, on| {
            told.push((call.0, on));
            true
        });
        told
    }

    #[test]
    fn the_driver_listens_as_long_as_anybody_does() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        listeners.listen(CallId(1), who(1), 0, now).unwrap();
        listeners.listen(CallId(1), who(2), 0, now).unwrap();
        listeners.review(|_, _| false);
        assert_eq!(told(&mut listeners), [(1, true)], "what the driver did not take is told again");
        assert_eq!(told(&mut listeners), []);
        listeners.leave(CallId(1), &who(1));
        assert_eq!(told(&mut listeners), []);
        assert!(listeners.has(&who(2)) && !listeners.has(&who(1)));
        listeners.left(&who(2));
        assert_eq!(told(&mut listeners), [(1, false)]);
        assert_eq!(told(&mut listeners), []);
    }

    #[test]
    fn who_comes_late_hears_who_is_talking() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        assert_eq!(listeners.listen(CallId(1), who(1), 0, now).unwrap(), []);
        assert_eq!(listeners.heard(CallId(1), Heard::Far, true, now), [who(1)]);
        assert_eq!(listeners.listen(CallId(1), who(2), 5, now).unwrap(), [Heard::Far]);
        assert!(listeners.heard(CallId(2), Heard::Far, true, now).is_empty());
    }

    #[test]
    fn the_speaker_is_who_began_last_and_still_talks() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        for call in 1..=3 {
            listeners.listen(CallId(call), who(1), 0, now).unwrap();
        }
        assert_eq!(listeners.speaker(), None);
        for (call, heard, talking, speaker) in [
            (1, Heard::Near, true, None),
            (1, Heard::Far, true, Some(1)),
            (3, Heard::Far, true, Some(3)),
            (2, Heard::Far, true, Some(2)),
            (3, Heard::Far, false, Some(2)),
            (2, Heard::Far, false, Some(1)),
            (1, Heard::Far, false, None),
        ] {
            listeners.heard(CallId(call), heard, talking, now);
            assert_eq!(listeners.speaker(), speaker.map(CallId), "{call} {heard:?} {talking}");
        }
        listeners.heard(CallId(2), Heard::Far, true, now);
        listeners.removed(CallId(2));
        assert_eq!(listeners.speaker(), None);
    }

    #[test]
    fn silence_is_told_once_and_only_while_it_lasts() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        listeners.listen(CallId(1), who(1), 5, now).unwrap();
        listeners.listen(CallId(1), who(2), 0, now).unwrap();
        listeners.count_silence(CallId(1), true, now);
        listeners.heard(CallId(1), Heard::Near, true, now);
        assert_eq!(listeners.next_due(), Some(later(5)));
        assert_eq!(listeners.timed_out(later(4)), []);
        let far = TimedOut { call: CallId(1), who: who(1), heard: Heard::Far, seconds: 5 };
        assert_eq!(listeners.timed_out(later(5)), [far]);
        assert_eq!((listeners.timed_out(later(60)), listeners.next_due()), (vec![], None));
        listeners.heard(CallId(1), Heard::Near, false, later(60));
        assert_eq!(listeners.next_due(), Some(later(65)));
        listeners.removed(CallId(1));
        assert_eq!(listeners.next_due(), None);
    }

    #[test]
    fn silence_counts_from_the_answer_and_from_the_resume_on() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        let silent = |listeners: &mut Listeners, seconds| {
            let silent = listeners.timed_out(later(seconds));
            silent.into_iter().map(|silent| (silent.who, silent.heard)).collect::<Vec<_>>()
        };
        let both = [(who(1), Heard::Near), (who(1), Heard::Far)];
        listeners.listen(CallId(1), who(1), 10, now).unwrap();
        listeners.count_silence(CallId(1), false, now);
        listeners.heard(CallId(1), Heard::Far, true, later(1));
        listeners.heard(CallId(1), Heard::Far, false, later(2));
        assert_eq!((silent(&mut listeners, 15), listeners.next_due()), (vec![], None), "it rings");
        listeners.count_silence(CallId(1), true, later(15));
        // Another change of the call leaves the time as it is.
        listeners.count_silence(CallId(1), true, later(20));
        assert_eq!(silent(&mut listeners, 24), []);
        assert_eq!(silent(&mut listeners, 25), both);
        assert_eq!(listeners.next_due(), None, "each silence is told once");

        listeners.heard(CallId(1), Heard::Near, true, later(26));
        listeners.count_silence(CallId(1), false, later(27));
        listeners.heard(CallId(1), Heard::Near, false, later(28));
        listeners.listen(CallId(1), who(1), 10, later(29)).unwrap();
        assert_eq!((silent(&mut listeners, 60), listeners.next_due()), (vec![], None), "it is held");
        listeners.count_silence(CallId(1), true, later(60));
        assert_eq!(silent(&mut listeners, 69), []);
        assert_eq!(silent(&mut listeners, 70), both);

        listeners.count_silence(CallId(1), false, later(71));
        listeners.heard(CallId(1), Heard::Far, true, later(72));
        listeners.count_silence(CallId(1), true, later(73));
        assert_eq!(silent(&mut listeners, 90), [(who(1), Heard::Near)], "who talks is not silent");
    }

    #[test]
    fn a_call_listened_to_for_its_conference_counts_silence_for_who_comes_late() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        listeners.set_members([CallId(1)].into());
        for number in 1..=2 {
            listeners.listen(CallId(1), who(number), 5, now).unwrap();
            listeners.count_silence(CallId(1), true, now);
        }
        let silent = listeners.timed_out(now + Duration::from_secs(5));
        assert_eq!(silent.len(), 4, "{silent:?}");
    }

    #[test]
    fn in_a_call_that_has_ended_nobody_talks_and_silence_is_no_event() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        listeners.listen(CallId(1), who(1), 5, now).unwrap();
        listeners.listen(CallId(2), who(1), 5, now).unwrap();
        listeners.count_silence(CallId(1), true, now);
        listeners.count_silence(CallId(2), true, now);
        listeners.heard(CallId(1), Heard::Far, true, now);
        assert_eq!(listeners.speaker(), Some(CallId(1)));
        listeners.count_silence(CallId(1), false, now);
        assert_eq!(listeners.ended(CallId(1)), [(who(1), Heard::Far)]);
        assert_eq!(listeners.speaker(), None);
        assert_eq!(listeners.ended(CallId(1)), [], "it is told once");
        listeners.listen(CallId(1), who(2), 5, now).unwrap();
        let silent = listeners.timed_out(now + Duration::from_secs(60));
        assert!(silent.len() == 2 && silent.iter().all(|silent| silent.call == CallId(2)), "{silent:?}");
    }

    #[test]
    fn patience_and_listeners_are_limited() {
        let (mut listeners, now) = (Listeners::default(), Instant::now());
        assert!(listeners.listen(CallId(1), who(1), 86_401, now).is_err());
        for call in 0..MOST_BY_ONE as u32 {
            listeners.listen(CallId(call), who(1), 86_400, now).unwrap();
        }
        assert!(listeners.listen(CallId(99), who(1), 1, now).is_err());
        assert!(listeners.listen(CallId(3), who(1), 1, now).is_ok());
        assert!(listeners.listen(CallId(99), who(2), 1, now).is_ok());
    }
}
