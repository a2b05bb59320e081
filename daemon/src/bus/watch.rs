//! Who wants figures how often. Each watcher gets unicast signals until it unwatches, the object goes, or it leaves the
//! bus; without watchers nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use voipd_agent::view::CallId;
use voipd_agent::{ConferenceId, ConferenceView};
use voipd_audio::plan::Heard;
use voipd_dbus::Error;
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, MatchRule, MessageStream};

use super::activity::Listeners;
use super::outcome::{Failure, invalid};
use super::speakers::{Speakers, heard};
use super::tree::Object;

/// Shortest and longest interval in milliseconds.
const INTERVALS: std::ops::RangeInclusive<u32> = 100..=60_000;
/// Most objects that one client can watch, and most watches altogether.
const MOST_BY_ONE: usize = 64;
const MOST: usize = 1024;

struct Watch {
    interval: Duration,
    due: Instant,
}

/// All watches.
pub(super) struct Watches {
    connection: Connection,
    by: BTreeMap<(Object, OwnedUniqueName), Watch>,
    /// For each watcher the task that waits for it to leave.
    departures: BTreeMap<OwnedUniqueName, AbortHandle>,
    gone: mpsc::UnboundedSender<OwnedUniqueName>,
    /// Objects whose figures are on their way.
    asked: BTreeSet<Object>,
    /// Who wants to know of talk and silence.
    listeners: Listeners,
    /// Who wants to know who speaks in a conference.
    speakers: Speakers,
}

impl Watches {
    /// Watchers that have left are told to the receiver: hand them to [`Watches::left`].
    pub(super) fn new(connection: Connection) -> (Self, mpsc::UnboundedReceiver<OwnedUniqueName>) {
        let (gone, left) = mpsc::unbounded_channel();
        let (listeners, speakers) = (Listeners::default(), Speakers::default());
        let (by, departures, asked) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        (Self { connection, by, departures, gone, asked, listeners, speakers }, left)
    }

    /// Begins to watch, or changes the interval.
    pub(super) fn watch(
        &mut self,
        object: Object,
        who: OwnedUniqueName,
        interval_ms: u32,
    ) -> Result<(), Failure> {
        if !INTERVALS.contains(&interval_ms) {
            let (least, most) = (INTERVALS.start(), INTERVALS.end());
            return Err(invalid(format!("the interval is {interval_ms} ms: give {least} to {most}")));
        }
        let key = (object, who.clone());
        if !self.by.contains_key(&key) {
            let by_one = self.by.keys().filter(|(_, other)| *other == who).count();
            if by_one >= MOST_BY_ONE || self.by.len() >= MOST {
                let message = "there are too many watchers: call Unwatch on what is no longer needed";
                return Err(Box::new(Error::LimitReached(message.to_owned())));
            }
        }
        let interval = Duration::from_millis(interval_ms.into());
        self.by.insert(key, Watch { interval, due: Instant::now() + interval });
        self.follow(who);
        Ok(())
    }

    /// Begins to listen for talk and silence; answers who is talking just now.
    pub(super) fn listen(
        &mut self,
        call: CallId,
        who: OwnedUniqueName,
        silence: u32,
    ) -> Result<Vec<Heard>, Failure> {
        let talking = self.listeners.listen(call, who.clone(), silence, Instant::now())?;
        self.follow(who);
        Ok(talking)
    }

    /// No more of that.
    pub(super) fn stop_listening(&mut self, call: CallId, who: &OwnedUniqueName) {
        self.listeners.leave(call, who);
        self.forget_idle();
    }

    /// Begins to watch who speaks in a conference.
    pub(super) fn watch_speaker(
        &mut self,
        conference: ConferenceId,
        who: OwnedUniqueName,
    ) -> Result<(), Failure> {
        self.speakers.watch(conference, who.clone())?;
        self.follow(who);
        Ok(())
    }

    /// No more of that.
    pub(super) fn unwatch_speaker(&mut self, conference: ConferenceId, who: &OwnedUniqueName) {
        self.speakers.unwatch(conference, who);
        self.forget_idle();
    }

    /// Looks who is listened to for the conferences, and who speaks in each that is watched.
    pub(super) fn review_speakers<'c>(
        &mut self,
        conferences: impl Iterator<Item = &'c ConferenceView> + Clone,
        is_active: impl Fn(CallId) -> bool + Copy,
        now: Instant,
    ) -> Vec<(ConferenceId, Option<CallId>)> {
        let watched = conferences.clone().filter(|conference| self.speakers.is_watched(conference.id));
        self.listeners.set_members(watched.flat_map(|conference| heard(conference, is_active)).collect());
        conferences
            .map(|conference| {
                let speaks = self.listeners.speaker_among(heard(conference, is_active));
                (conference.id, self.speakers.shown(conference.id, speaks, now))
            })
            .collect()
    }

    /// When another speaker may be told.
    pub(super) fn next_speaker_due(&self) -> Option<Instant> {
        self.speakers.next_due()
    }

    /// Who listens, for events and time-outs.
    pub(super) fn listeners(&mut self) -> &mut Listeners {
        &mut self.listeners
    }

    /// Waits for the client to leave the bus.
    fn follow(&mut self, who: OwnedUniqueName) {
        if !self.departures.contains_key(&who) {
            let (connection, gone, name) = (self.connection.clone(), self.gone.clone(), who.clone());
            let wait = tokio::spawn(async move {
                if let Err(error) = departure(&connection, &name).await {
                    log::debug!("cannot see whether {name} leaves the bus: {error}");
                }
                let _ = gone.send(name);
            });
            self.departures.insert(who, wait.abort_handle());
        }
    }

    pub(super) fn unwatch(&mut self, object: Object, who: &OwnedUniqueName) {
        self.by.remove(&(object, who.clone()));
        self.forget_idle();
    }

    /// The object is no more.
    pub(super) fn removed(&mut self, object: Object) {
        self.by.retain(|(watched, _), _| *watched != object);
        match object {
            Object::Call(call) => self.listeners.removed(call),
            Object::Conference(conference) => self.speakers.removed(conference),
            _ => {}
        }
        self.forget_idle();
    }

    /// The watcher has left the bus.
    pub(super) fn left(&mut self, who: &OwnedUniqueName) {
        self.by.retain(|(_, other), _| other != who);
        self.listeners.left(who);
        self.speakers.left(who);
        self.forget_idle();
    }

    /// When the next figures are due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by.values().map(|watch| watch.due).min()
    }

    /// The objects whose figures are due, each with its watchers. An object whose last figures have not come yet is
    /// left out.
    pub(super) fn due(&mut self, now: Instant) -> BTreeMap<Object, Vec<OwnedUniqueName>> {
        let mut due: BTreeMap<Object, Vec<OwnedUniqueName>> = BTreeMap::new();
        for ((object, who), watch) in &mut self.by {
            if watch.due > now {
                continue;
            }
            // In step with the first, unless a whole interval was missed.
            let next = watch.due + watch.interval;
            watch.due = if next > now { next } else { now + watch.interval };
            if !self.asked.contains(object) {
                due.entry(*object).or_default().push(who.clone());
            }
        }
        self.asked.extend(due.keys());
        due
    }

    /// The figures have come: those of `watchers` that still want them.
    pub(super) fn answered(
        &mut self,
        object: Object,
        watchers: Vec<OwnedUniqueName>,
    ) -> Vec<OwnedUniqueName> {
        self.asked.remove(&object);
        watchers.into_iter().filter(|who| self.by.contains_key(&(object, who.clone()))).collect()
    }

    fn forget_idle(&mut self) {
        let (by, listeners, speakers) = (&self.by, &self.listeners, &self.speakers);
        self.departures.retain(|who, wait| {
            let watches = by.keys().any(|(_, other)| other == who) || listeners.has(who) || speakers.has(who);
            if !watches {
                wait.abort();
            }
            watches
        });
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.departures.values().for_each(AbortHandle::abort);
    }
}

/// Ready when the name has left the bus.
async fn departure(connection: &Connection, name: &OwnedUniqueName) -> zbus::Result<()> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .add_arg(name.as_str())
        .build()?;
    let mut changes = MessageStream::for_match_rule(rule, connection, NonZeroUsize::new(1)).await?;
    // It may have left before the rule was there.
    let there = DBusProxy::new(connection).await?.name_has_owner(BusName::from(name.as_ref())).await?;
    if there {
        // A unique name is never given twice: its first change is its last.
        changes.next().await;
    }
    Ok(())
}
