//! The thread that serves the driver's wishes. It never calls a sound library itself: every call runs on a thread that
//! may hang without anything else hanging with it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc as async_mpsc, oneshot};
use voipd_audio::engine::{DevicePort, Pace};

use super::cards::Cards;
use super::hardware::{Direction, Hosts, OpenError, OpenStream, Opened, User};
use super::name::{DeviceName, HOST_DEFAULT, HostKind};
use super::server::{Servers, default_host};
use super::stream::{Lost, SoundCounters};
use super::{SoundEvent, listing, player, record, role_index, wav};
use crate::api::ports::RecordFormat;
use crate::api::{DeviceRole, DeviceView};
use crate::realtime::serve_devices_in_time;

/// How long opening may take before the driver hears that it failed.
const OPEN_TIMEOUT: Duration = Duration::from_secs(6);
/// How long opening waits for streams that are still being closed: a card may be free only after that.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// How often running streams are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A stream without callbacks for this long is lost. PulseAudio may take two seconds for the first.
const STALL_LIMIT: Duration = Duration::from_secs(5);
/// A call that hangs costs a thread each time. So many in opening and closing, and no device is opened any more; so many
/// in looking for one, and none is looked for.
const MOST_HANGING: usize = 16;
/// Why `default` is silence on a machine without sound.
const NO_SOUND: &str = "no sound server and no sound card was found";

/// Tells one wish from another.
pub(super) type Ticket = u64;

/// An event, and the wish that it belongs to.
pub(super) struct Told {
    pub(super) ticket: Ticket,
    pub(super) event: SoundEvent,
}

pub(super) enum Message {
    Open {
        role: DeviceRole,
        ticket: Ticket,
        name: DeviceName,
    },
    Close {
        role: DeviceRole,
    },
    Find {
        name: DeviceName,
        role: DeviceRole,
        reply: oneshot::Sender<Result<(), OpenError>>,
    },
    List {
        reply: oneshot::Sender<Vec<DeviceView>>,
    },
    Stop,
    /// From the thread that opened.
    Done {
        role: DeviceRole,
        ticket: Ticket,
        result: Result<Box<Device>, String>,
    },
    /// From a device's own threads.
    Lost {
        role: DeviceRole,
        ticket: Ticket,
        reason: String,
    },
    /// From the thread that listed.
    Listed(Vec<DeviceView>),
}

/// A device that has been opened.
pub(super) struct Device {
    port: DevicePort,
    /// Files and silence have none.
    stream: Option<OpenStream>,
    name: DeviceName,
    description: String,
}

/// What a role has.
enum Slot {
    Closed,
    Opening { ticket: Ticket, deadline: Instant },
    Open { ticket: Ticket, stream: Option<OpenStream>, beats: u64, beaten: Instant },
}

pub(super) struct Worker {
    hosts: Arc<Hosts>,
    /// For the threads that work for this one.
    to_self: Sender<Message>,
    tell: async_mpsc::UnboundedSender<Told>,
    slots: [(DeviceRole, Slot); 3],
    /// Who waits for the listing that is being made.
    listing: Vec<oneshot::Sender<Vec<DeviceView>>>,
    bin: Bin,
    /// Each thread that opens, or looks for, a device holds one.
    openers: Arc<()>,
    finders: Arc<()>,
    /// As these do in listing.
    askers: Arc<listing::Askers>,
    counters: Arc<SoundCounters>,
    /// When running streams are looked at again.
    look_at: Instant,
}

impl Worker {
    pub(super) fn new(
        hosts: Arc<Hosts>,
        to_self: Sender<Message>,
        tell: async_mpsc::UnboundedSender<Told>,
        counters: Arc<SoundCounters>,
    ) -> Self {
        let slots =
            [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer].map(|role| (role, Slot::Closed));
        Self {
            hosts,
            to_self,
            tell,
            slots,
            listing: Vec::new(),
            bin: Bin::default(),
            openers: Arc::default(),
            finders: Arc::default(),
            askers: Arc::default(),
            counters,
            look_at: Instant::now(),
        }
    }

    /// Serves until [`Message::Stop`].
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match self.next_look() {
                Some(at) => match messages.recv_timeout(at.saturating_duration_since(Instant::now())) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
                },
                None => Some(messages.recv().unwrap_or(Message::Stop)),
            };
            match message {
                Some(Message::Open { role, ticket, name }) => self.open(role, ticket, name),
                Some(Message::Close { role }) => self.set(role, Slot::Closed),
                Some(Message::Find { name, role, reply }) => self.find(name, role, reply),
                Some(Message::List { reply }) => self.list(reply),
                Some(Message::Stop) => {
                    for role in [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer] {
                        self.set(role, Slot::Closed);
                    }
                    return;
                }
                Some(Message::Done { role, ticket, result }) => self.done(role, ticket, result),
                Some(Message::Lost { role, ticket, reason }) => self.lost(role, ticket, reason),
                Some(Message::Listed(views)) => {
                    for reply in self.listing.drain(..) {
                        // Who asked may have gone.
                        let _ = reply.send(views.clone());
                    }
                }
                None => {}
            }
            // However many messages come, streams are looked at in time.
            if self.next_look().is_some_and(|at| at <= Instant::now()) {
                self.look();
            }
        }
    }

    fn slot(&mut self, role: DeviceRole) -> &mut Slot {
        &mut self.slots[role_index(role)].1
    }

    /// Puts a role into a new state; what it had is closed.
    fn set(&mut self, role: DeviceRole, slot: Slot) {
        if let Slot::Open { stream: Some(stream), .. } = std::mem::replace(self.slot(role), slot) {
            self.bin.throw(stream);
        }
    }

    fn tell(&self, ticket: Ticket, event: SoundEvent) {
        // Nobody hears it while the daemon ends.
        let _ = self.tell.send(Told { ticket, event });
    }

    fn open(&mut self, role: DeviceRole, ticket: Ticket, name: DeviceName) {
        self.set(role, Slot::Closed);
        if self.bin.hanging() + at_work(&self.openers) >= MOST_HANGING {
            let reason = "the sound library hangs: restart voipd".to_owned();
            return self.tell(ticket, SoundEvent::Failed { role, reason });
        }
        let (hosts, bin, to_self) = (self.hosts.clone(), self.bin.clone(), self.to_self.clone());
        let (told, opener) = (self.to_self.clone(), self.openers.clone());
        let lost: Lost = Arc::new(move |reason| {
            let _ = told.send(Message::Lost { role, ticket, reason });
        });
        let opening = move || {
            serve_devices_in_time();
            bin.wait(CLOSE_PATIENCE);
            let result = open_device(&hosts, role, name, &lost).map(Box::new);
            // If nobody waits any more, the device closes here.
            let _ = to_self.send(Message::Done { role, ticket, result });
            drop(opener);
        };
        match thread::Builder::new().name("voipd-open".to_owned()).spawn(opening) {
            Ok(_) => self.set(role, Slot::Opening { ticket, deadline: Instant::now() + OPEN_TIMEOUT }),
            Err(error) => {
                let reason = format!("no thread to open the device: {error}");
                self.tell(ticket, SoundEvent::Failed { role, reason });
            }
        }
    }

    fn done(&mut self, role: DeviceRole, ticket: Ticket, result: Result<Box<Device>, String>) {
        if !matches!(self.slot(role), Slot::Opening { ticket: current, .. } if *current == ticket) {
            // Overtaken by another wish, or given up.
            if let Some(stream) = result.ok().and_then(|device| device.stream) {
                self.bin.throw(stream);
            }
            return;
        }
        match result {
            Ok(device) => {
                let Device { port, stream, name, description } = *device;
                self.set(role, Slot::Open { ticket, stream, beats: 0, beaten: Instant::now() });
                self.tell(ticket, SoundEvent::Opened { role, port, name, description });
            }
            Err(reason) => {
                self.set(role, Slot::Closed);
                self.tell(ticket, SoundEvent::Failed { role, reason });
            }
        }
    }

    fn lost(&mut self, role: DeviceRole, ticket: Ticket, reason: String) {
        match self.slot(role) {
            Slot::Open { ticket: current, .. } if *current == ticket => {
                self.set(role, Slot::Closed);
                self.tell(ticket, SoundEvent::Lost { role, reason });
            }
            // Lost before it was known to be open.
            Slot::Opening { ticket: current, .. } if *current == ticket => {
                self.set(role, Slot::Closed);
                self.tell(ticket, SoundEvent::Failed { role, reason });
            }
            _ => {}
        }
    }

    /// When to look at deadlines and streams again, if at all: an idle daemon is not woken.
    fn next_look(&self) -> Option<Instant> {
        let due = |(_, slot): &(DeviceRole, Slot)| match slot {
            Slot::Opening { deadline, .. } => Some(*deadline),
            Slot::Open { stream: Some(_), .. } => Some(self.look_at),
            Slot::Closed | Slot::Open { stream: None, .. } => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    fn look(&mut self) {
        let now = Instant::now();
        self.look_at = now + WATCH_INTERVAL;
        let mut fallen = Vec::new();
        for (role, slot) in &mut self.slots {
            match slot {
                Slot::Opening { ticket, deadline } if *deadline <= now => fallen.push((*role, *ticket, None)),
                Slot::Open { ticket, stream: Some(stream), beats, beaten } => {
                    let count = stream.pulse.count();
                    if count != *beats {
                        (*beats, *beaten) = (count, now);
                    } else if now - *beaten >= STALL_LIMIT {
                        fallen.push((*role, *ticket, Some("the device stands still".to_owned())));
                    }
                }
                _ => {}
            }
        }
        for (role, ticket, stalled) in fallen {
            if stalled.is_some() {
                self.counters.losses.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            } else {
                self.hosts.forget_connection(User::Role(role));
            }
            self.lost(role, ticket, stalled.unwrap_or_else(|| "the sound system does not answer".to_owned()));
        }
    }

    /// Where there is no thread for it the reply is dropped, which counts as no answer.
    fn find(&self, name: DeviceName, role: DeviceRole, reply: oneshot::Sender<Result<(), OpenError>>) {
        if at_work(&self.finders) >= MOST_HANGING {
            return;
        }
        let (hosts, finder) = (self.hosts.clone(), self.finders.clone());
        let find = move || {
            // Who asked may have gone.
            let _ = reply.send(find_device(&hosts, role, &name));
            drop(finder);
        };
        let _ = thread::Builder::new().name("voipd-find".to_owned()).spawn(find);
    }

    fn list(&mut self, reply: oneshot::Sender<Vec<DeviceView>>) {
        self.listing.push(reply);
        if self.listing.len() > 1 {
            return;
        }
        let (hosts, askers, to_self) = (self.hosts.clone(), self.askers.clone(), self.to_self.clone());
        let listing = move || to_self.send(Message::Listed(listing::list(&hosts, &askers))).is_ok();
        if thread::Builder::new().name("voipd-list".to_owned()).spawn(listing).is_err() {
            self.listing.clear();
        }
    }
}

/// How many threads there are that hold one.
pub(super) fn at_work(held: &Arc<()>) -> usize {
    Arc::strong_count(held) - 1
}

/// Looks for what a name means for a role, and opens nothing. May block or hang.
fn find_device(hosts: &Hosts, role: DeviceRole, name: &DeviceName) -> Result<(), OpenError> {
    match name {
        DeviceName::Null | DeviceName::File(_) => Ok(()),
        DeviceName::Host(kind, name) => hosts.find(*kind, name, role),
        DeviceName::Default => {
            let servers = Servers::of_environment();
            match default_host(&Cards::of_system(), |kind| servers.reach(kind).is_ok()) {
                Some(kind) => hosts.find_default(kind, role),
                None => Err(OpenError::Absent(NO_SOUND.to_owned())),
            }
        }
    }
}

/// Opens what a name means for a role. May block or hang.
fn open_device(hosts: &Hosts, role: DeviceRole, name: DeviceName, lost: &Lost) -> Result<Device, String> {
    match name {
        DeviceName::Default => open_default(hosts, role, lost),
        DeviceName::Null => Ok(silence(String::new())),
        DeviceName::File(path) => {
            let port = match Direction::of(role) {
                Direction::Capture => player::play(wav::open_to_play(&path)?, false),
                Direction::Playback => {
                    let lost = lost.clone();
                    let ring =
                        record::record(record::open_to_record(&path)?, RecordFormat::Wav, 1, move |result| {
                            if let Err(reason) = result {
                                lost(reason);
                            }
                        });
                    ring.map(|playback| DevicePort {
                        capture: None,
                        playback: Some(playback),
                        rate: record::RECORDING_RATE,
                        pace: Pace::Tick,
                    })
                }
            };
            let port = port.map_err(|reason| format!("{}: {reason}", path.display()))?;
            let description = format!("the file {}", path.display());
            Ok(Device { port, stream: None, name: DeviceName::File(path), description })
        }
        DeviceName::Host(kind, id) => match hosts.open(kind, &id, role, lost) {
            Ok(opened) => Ok(running(kind, opened)),
            Err(OpenError::Absent(reason) | OpenError::Refused(reason)) => Err(reason),
        },
    }
}

/// The user's sound server, else the first card, else silence. What is there but cannot be had is an error: silence
/// would hide it.
fn open_default(hosts: &Hosts, role: DeviceRole, lost: &Lost) -> Result<Device, String> {
    let cards = Cards::of_system();
    let servers = Servers::of_environment();
    let Some(kind) = default_host(&cards, |kind| servers.reach(kind).is_ok()) else {
        return Ok(silence(NO_SOUND.to_owned()));
    };
    match hosts.open(kind, HOST_DEFAULT, role, lost) {
        Ok(opened) => Ok(running(kind, opened)),
        Err(OpenError::Absent(reason)) => Ok(silence(reason)),
        Err(OpenError::Refused(reason)) if kind == HostKind::Alsa && cards.pcms().is_empty() => {
            Ok(silence(reason))
        }
        Err(OpenError::Refused(reason)) => Err(reason),
    }
}

fn running(kind: HostKind, opened: Opened) -> Device {
    let Opened { port, stream, name, description } = opened;
    Device { port, stream: Some(stream), name: DeviceName::Host(kind, name), description }
}

fn silence(reason: String) -> Device {
    let port = DevicePort { capture: None, playback: None, rate: record::RECORDING_RATE, pace: Pace::Tick };
    let description = if reason.is_empty() { "silence".to_owned() } else { format!("silence: {reason}") };
    Device { port, stream: None, name: DeviceName::Null, description }
}

/// Where streams are closed, which can take for ever: each on a thread of its own.
#[derive(Clone, Default)]
struct Bin(Arc<(Mutex<usize>, Condvar)>);

impl Bin {
    fn throw(&self, stream: OpenStream) {
        let (count, _) = &*self.0;
        *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let bin = self.clone();
        let closing = move || {
            drop(stream);
            let (count, changed) = &*bin.0;
            *count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            changed.notify_all();
        };
        // Without a thread the closure is dropped, and the stream with it, here.
        let _ = thread::Builder::new().name("voipd-close".to_owned()).spawn(closing);
    }

    fn hanging(&self) -> usize {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all is closed, but not for long.
    fn wait(&self, patience: Duration) {
        let (count, changed) = &*self.0;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(count, patience, |count| *count > 0));
    }
}
