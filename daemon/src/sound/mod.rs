//! The sound hardware: microphones, loudspeakers and ringers by stable name, over cpal, and WAV files in their place.
//!
//! [`SoundSystem`] is the driver's handle. Opening, listing and closing devices can block or hang, so all of it runs on
//! threads of its own: wishes go in by a channel, [`SoundEvent`]s come back. Each [`DeviceRole`] has a
//! [`DevicePort`] of its own, in one direction: microphone and loudspeaker may have different clocks, and the engine
//! corrects the drift of each.

mod cards;
mod choice;
mod decode;
mod hardware;
mod listing;
mod name;
mod player;
mod record;
mod server;
mod stream;
mod wav;
mod worker;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc as async_mpsc, oneshot};
use voipd_audio::BUS_RATE;
use voipd_audio::engine::{Clip, DevicePort, Listener, ProgramPort};

use voipd_audio::resample::Resampler;

use crate::api::ports::RecordWish;
use crate::api::{DeviceRole, DeviceView};
use hardware::{Hosts, OpenError};
use worker::{Message, Ticket, Told, Worker};

pub use name::{DeviceName, HostKind, NameError};
pub use record::RECORDING_RATE;
pub use stream::SoundCounters;

/// Sound in the place of a tone is kept in memory.
const LONGEST_CLIP: Duration = Duration::from_secs(60);

/// Looking at a file's header takes longer than this only where its file system hangs.
const FILE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a sound system may take to say whether it has a device.
const FIND_TIMEOUT: Duration = Duration::from_secs(3);

/// What happened to a device. Of what a later wish for the same role has overtaken, nothing is told.
pub enum SoundEvent {
    /// The role's device runs.
    Opened {
        /// The role it was opened for.
        role: DeviceRole,
        /// Its end for the engine; both rings are `None` for silence.
        port: DevicePort,
        /// The device that was found: never `default`.
        name: DeviceName,
        /// For people; with the reason, where `default` had to become silence.
        description: String,
    },
    /// The role's device could not be opened.
    Failed {
        /// The role it was to be opened for.
        role: DeviceRole,
        /// Plain words.
        reason: String,
    },
    /// The role's device ran and is gone; it has been closed, and may be opened again.
    Lost {
        /// The role it was opened for.
        role: DeviceRole,
        /// Plain words.
        reason: String,
    },
}

/// A recording being made: the engine's end, and what becomes of the file.
pub struct Recording {
    /// Dropping it (closing its port) completes the file.
    pub port: ProgramPort,
    /// Answers once the file is complete, or says in words why it broke off.
    pub finished: oneshot::Receiver<Result<(), String>>,
}

/// Why a device cannot be chosen, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// There is none of that name, or it has not this direction.
    #[error("{0}")]
    NoSuchDevice(String),
    /// Its sound system lets nobody look.
    #[error("{0}")]
    Unavailable(String),
}

/// The driver's handle of the sound hardware. Dropping it closes all devices.
pub struct SoundSystem {
    worker: mpsc::Sender<Message>,
    events: async_mpsc::UnboundedReceiver<Told>,
    /// The latest wish for each role.
    wanted: [Option<Ticket>; 3],
    tickets: Ticket,
    counters: Arc<SoundCounters>,
}

impl SoundSystem {
    /// Starts the thread that serves it; opens nothing.
    pub fn start() -> io::Result<Self> {
        let counters = Arc::new(SoundCounters::default());
        let (worker, messages) = mpsc::channel();
        let (tell, events) = async_mpsc::unbounded_channel();
        let hosts = Arc::new(Hosts::new(counters.clone()));
        let serving = Worker::new(hosts, worker.clone(), tell, counters.clone());
        thread::Builder::new().name("voipd-sound".to_owned()).spawn(move || serving.run(&messages))?;
        Ok(Self { worker, events, wanted: [None; 3], tickets: 0, counters })
    }

    /// Opens a device for a role, in place of what it had. [`SoundEvent::Opened`] or [`SoundEvent::Failed`] follows.
    pub fn open(&mut self, role: DeviceRole, name: DeviceName) {
        self.tickets += 1;
        self.wanted[role_index(role)] = Some(self.tickets);
        self.send(Message::Open { role, ticket: self.tickets, name });
    }

    /// Closes a role's device, or stops opening it. No event follows.
    pub fn close(&mut self, role: DeviceRole) {
        self.wanted[role_index(role)] = None;
        self.send(Message::Close { role });
    }

    /// What happened next. Waits until something has; cancelling it loses nothing.
    pub async fn next_event(&mut self) -> SoundEvent {
        loop {
            let Some(Told { ticket, event }) = self.events.recv().await else {
                // The worker lives as long as this handle.
                return std::future::pending().await;
            };
            let role = match &event {
                SoundEvent::Opened { role, .. }
                | SoundEvent::Failed { role, .. }
                | SoundEvent::Lost { role, .. } => *role,
            };
            if self.wanted[role_index(role)] == Some(ticket) {
                return event;
            }
        }
    }

    /// All devices that can be chosen now, and those that cannot, with the reason. Takes up to a few seconds when a
    /// sound server hangs. The future does not borrow the handle.
    pub fn list(&self) -> impl Future<Output = Vec<DeviceView>> + Send + use<> {
        let (reply, views) = oneshot::channel();
        self.send(Message::List { reply });
        async { views.await.unwrap_or_default() }
    }

    /// Whether there is such a device for the role now; of `default`: whether it leads to one, or to silence. Takes up to
    /// a few seconds when a sound server hangs. The future does not borrow the handle.
    ///
    /// # Errors
    /// [`FindError`] with what to do.
    pub fn find(
        &self,
        role: DeviceRole,
        name: DeviceName,
    ) -> impl Future<Output = Result<(), FindError>> + Send + use<> {
        let (reply, found) = oneshot::channel();
        let asked = match &name {
            DeviceName::Host(kind, _) => Some(kind.to_string()),
            DeviceName::Default => Some("the sound system".to_owned()),
            DeviceName::Null | DeviceName::File(_) => None,
        };
        if asked.is_some() {
            self.send(Message::Find { name, role, reply });
        }
        async move {
            let Some(asked) = asked else { return Ok(()) };
            match tokio::time::timeout(FIND_TIMEOUT, found).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(OpenError::Absent(words)))) => Err(FindError::NoSuchDevice(words)),
                Ok(Ok(Err(OpenError::Refused(words)))) => Err(FindError::Unavailable(words)),
                Ok(Err(_)) | Err(_) => {
                    Err(FindError::Unavailable(format!("{asked} does not answer: try again")))
                }
            }
        }
    }

    /// Figures of all devices since the start.
    pub fn counters(&self) -> &SoundCounters {
        &self.counters
    }

    fn send(&self, message: Message) {
        // The worker ends only after this handle.
        let _ = self.worker.send(message);
    }
}

impl Drop for SoundSystem {
    fn drop(&mut self) {
        self.send(Message::Stop);
    }
}

/// Each role has its place in arrays.
fn role_index(role: DeviceRole) -> usize {
    match role {
        DeviceRole::Input => 0,
        DeviceRole::Output => 1,
        DeviceRole::Ringer => 2,
    }
}

/// Says in a sentence which of a call's files cannot be used, before the call is placed or answered.
pub async fn check_files(play: Option<OwnedFd>, record: Option<OwnedFd>) -> Result<(), String> {
    on_thread(move || {
        let play = play.map_or(Ok(()), |file| player::check_to_play(File::from(file)));
        play.map_err(|words| format!("the file to be played cannot be used: {words}"))?;
        let record = record.map_or(Ok(()), |file| record::check_to_record(&File::from(file)));
        record.map_err(|words| format!("the file to be recorded into cannot be used: {words}"))
    })
    .await
}

/// Plays a sound file that a client has opened, once or again and again. The engine hears of the end by the abandoned ring.
pub async fn play_file(file: OwnedFd, looped: bool) -> Result<DevicePort, String> {
    on_thread(move || player::play(File::from(file), looped)).await
}

/// Reads a sound file that is heard in the place of a tone: a minute of it at most.
pub async fn read_clip(path: PathBuf) -> Result<Clip, String> {
    on_thread(move || {
        let words = |why: String| format!("{}: {why}", path.display());
        let (samples, rate) = player::read_all(wav::open_to_play(&path)?, LONGEST_CLIP).map_err(words)?;
        let mut sound =
            vec![0.0; (samples.len() as u64 * u64::from(BUS_RATE) / u64::from(rate.max(1))) as usize];
        Resampler::new(rate, BUS_RATE, BUS_RATE as usize / 100).process(&samples, &mut sound);
        Ok(Clip::new(&sound))
    })
    .await
}

/// Records into a file that a client has opened for writing, from its beginning, at [`RECORDING_RATE`]. What finds no room
/// is counted in `dropped`.
pub async fn record_file(
    file: OwnedFd,
    wish: RecordWish,
    dropped: Arc<AtomicU64>,
) -> Result<Recording, String> {
    let (told, finished) = oneshot::channel();
    let done = move |result: Result<(), String>| {
        if let Err(reason) = &result {
            log::warn!("a recording broke off: {reason}");
        }
        let _ = told.send(result);
    };
    let channels = wish.side.channels();
    let ring = on_thread(move || record::record(File::from(file), wish.format, channels, done)).await?;
    let listener = Some(Listener { side: wish.side, ring, dropped });
    let port = ProgramPort { source: None, listener, rate: RECORDING_RATE };
    Ok(Recording { port, finished })
}

/// A file may lie where nothing answers: the driver waits for a thread, and not for long.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (reply, answer) = oneshot::channel();
    thread::Builder::new()
        .name("voipd-file".to_owned())
        .spawn(move || reply.send(work()).is_ok())
        .map_err(|error| format!("no thread to open the file: {error}"))?;
    match tokio::time::timeout(FILE_TIMEOUT, answer).await {
        Ok(Ok(result)) => result,
        _ => Err("the file's storage does not answer".to_owned()),
    }
}
