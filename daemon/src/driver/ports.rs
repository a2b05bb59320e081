//! What the ports of calls are: programs, players and recorders, from the wish for them until they or the call are over.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;
use voipd_agent::view::CallId;
use voipd_agent::{PortRole, Voice};
use voipd_audio::PortId;
use voipd_audio::engine::{DevicePort, ProgramPort};

use super::{Driver, Finished};
use crate::api::ports::{AudioMode, AudioWish, PlayWish, PortView, PortsRequest, RecordWish};
use crate::api::{CallSound, ErrorKind, Reply, RequestError};
use crate::programs::Program;
use crate::sound::{RECORDING_RATE, Recording};

/// Most programs that are joined to calls at once.
const MOST_PROGRAMS: usize = 64;

/// The ports of all calls, besides their streams.
#[derive(Default)]
pub(super) struct Ports {
    /// Where sockets with names are made.
    directory: Option<PathBuf>,
    entries: BTreeMap<PortId, Entry>,
    /// Who waits for a recording to be complete.
    stopping: BTreeMap<PortId, Reply<()>>,
}

struct Entry {
    call: CallId,
    what: What,
}

enum What {
    Program {
        program: Program,
        /// Until sound flows.
        port: Option<ProgramPort>,
    },
    Player {
        /// Until sound flows.
        file: Option<OwnedFd>,
        looped: bool,
    },
    Recorder {
        /// Until sound flows.
        file: Option<OwnedFd>,
        wish: RecordWish,
        dropped: Arc<AtomicU64>,
    },
}

impl What {
    fn view(&self) -> PortView {
        match self {
            What::Program { program, .. } => PortView {
                kind: "program",
                open: program.has_begun(),
                program: Some(program.wish()),
                dropped_ms: program.dropped_ms(),
            },
            What::Player { file, .. } => {
                PortView { kind: "player", open: file.is_none(), program: None, dropped_ms: 0 }
            }
            What::Recorder { file, dropped, .. } => PortView {
                kind: "recorder",
                open: file.is_none(),
                program: None,
                dropped_ms: dropped.load(Ordering::Relaxed) * 1000 / u64::from(RECORDING_RATE),
            },
        }
    }
}

impl Ports {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, ..Self::default() }
    }

    fn of_call(&self, call: CallId) -> impl Iterator<Item = (PortId, &Entry)> {
        self.entries.iter().filter(move |(_, entry)| entry.call == call).map(|(port, entry)| (*port, entry))
    }

    /// What a port is: `program`, `player` or `recorder`.
    pub(super) fn kind(&self, port: PortId) -> Option<&'static str> {
        self.entries.get(&port).map(|entry| entry.what.view().kind)
    }

    fn player(&self, call: CallId) -> Option<PortId> {
        self.of_call(call).find(|(_, entry)| matches!(entry.what, What::Player { .. })).map(|(port, _)| port)
    }

    fn recorder(&self, call: CallId) -> Option<PortId> {
        self.of_call(call)
            .find(|(_, entry)| matches!(entry.what, What::Recorder { .. }))
            .map(|(port, _)| port)
    }
}

impl Driver {
    pub(super) fn ports_request(&mut self, now: Instant, request: PortsRequest) {
        match request {
            PortsRequest::OpenAudio { call, wish, reply } => {
                let result = self.open_audio(now, call, wish);
                self.answer(reply, result);
            }
            PortsRequest::OpenAudioSocket { call, wish, reply } => {
                let result = self.open_audio_socket(now, call, wish);
                self.answer(reply, result);
            }
            PortsRequest::Play { call, file, wish, reply } => {
                let result = self.play(now, call, file, wish);
                self.answer(reply, result);
            }
            PortsRequest::StopPlaying { call, reply } => {
                let result = self.stop_playing(now, call);
                self.answer(reply, result);
            }
            PortsRequest::StartRecording { call, file, wish, reply } => {
                let result = self.record(now, call, file, wish);
                self.answer(reply, result);
            }
            PortsRequest::StopRecording { call, reply } => self.stop_recording(now, call, reply),
            PortsRequest::List { call, reply } => {
                let known = self.agent.find_call(call).map_err(RequestError::from);
                let views = known.map(|()| {
                    self.call_ports.of_call(call).map(|(_, entry)| entry.what.view()).collect::<Vec<_>>()
                });
                self.answer(reply, views);
            }
        }
    }

    /// The files that a call was dialled or accepted with.
    pub(super) fn add_files(&mut self, now: Instant, call: CallId, sound: CallSound) {
        let CallSound { play, record, record_format: format, .. } = sound;
        if let Some(file) = play {
            let wish = PlayWish { instead: true, looped: false };
            report(call, "played", self.play(now, call, file, wish));
        }
        if let Some(file) = record {
            report(
                call,
                "recorded into",
                self.record(now, call, file, RecordWish { format, ..RecordWish::default() }),
            );
        }
    }

    fn open_audio(&mut self, now: Instant, call: CallId, wish: AudioWish) -> Result<OwnedFd, RequestError> {
        let (port, over) = self.program_port(now, call, wish)?;
        let joined = Program::join(wish, over).map_err(|error| failed("there is no socket", &error));
        let (program, ring, descriptor) = joined.inspect_err(|_| self.agent.close_port(now, call, port))?;
        self.joined(call, port, program, ring);
        Ok(descriptor)
    }

    fn open_audio_socket(
        &mut self,
        now: Instant,
        call: CallId,
        wish: AudioWish,
    ) -> Result<String, RequestError> {
        let directory = self.call_ports.directory.clone().ok_or_else(|| RequestError {
            kind: ErrorKind::Failed,
            message: "there is no runtime directory to make a socket in: set XDG_RUNTIME_DIR".to_owned(),
        })?;
        let (port, over) = self.program_port(now, call, wish)?;
        let name = format!("call-{}-{}.sock", call.0, port.0);
        let joined = Program::listen(wish, &directory, &name, over)
            .map_err(|error| failed(&format!("no socket can be made in {}", directory.display()), &error));
        let (program, ring, path) = joined.inspect_err(|_| self.agent.close_port(now, call, port))?;
        self.joined(call, port, program, ring);
        Ok(path.to_string_lossy().into_owned())
    }

    /// A port for a program, and what is to be called when it has left.
    fn program_port(
        &mut self,
        now: Instant,
        call: CallId,
        wish: AudioWish,
    ) -> Result<(PortId, impl FnOnce() + Send + 'static), RequestError> {
        let programs = self
            .call_ports
            .entries
            .values()
            .filter(|entry| matches!(entry.what, What::Program { .. }))
            .count();
        if programs >= MOST_PROGRAMS {
            return Err(RequestError {
                kind: ErrorKind::LimitReached,
                message: format!(
                    "{MOST_PROGRAMS} programs are joined to calls already: end one of them first"
                ),
            });
        }
        let role = match wish.mode {
            AudioMode::Tap => PortRole::Listener,
            AudioMode::Inject => PortRole::Program(Voice::Beside),
            AudioMode::Replace => PortRole::Program(Voice::Instead),
        };
        let port = self.agent.open_port(now, call, role)?;
        let finished = self.finished.clone();
        // The driver is gone when nobody listens.
        Ok((port, move || drop(finished.send(Finished::PortOver { port }))))
    }

    fn joined(&mut self, call: CallId, port: PortId, program: Program, ring: ProgramPort) {
        log::info!(call = call.0; "a program has joined the call: {}", program.wish().mode.name());
        let what = What::Program { program, port: Some(ring) };
        self.call_ports.entries.insert(port, Entry { call, what });
    }

    fn play(
        &mut self,
        now: Instant,
        call: CallId,
        file: OwnedFd,
        wish: PlayWish,
    ) -> Result<(), RequestError> {
        self.agent.find_call(call)?;
        if self.call_ports.player(call).is_some() {
            return Err(invalid_state("a file is being played to this call: stop it first"));
        }
        let voice = if wish.instead { Voice::Instead } else { Voice::Beside };
        let port = self.agent.open_port(now, call, PortRole::Player(voice))?;
        let what = What::Player { file: Some(file), looped: wish.looped };
        self.call_ports.entries.insert(port, Entry { call, what });
        Ok(())
    }

    fn stop_playing(&mut self, now: Instant, call: CallId) -> Result<(), RequestError> {
        self.agent.find_call(call)?;
        let player = self.call_ports.player(call);
        let port = player.ok_or_else(|| invalid_state("no file is being played to this call"))?;
        self.agent.close_port(now, call, port);
        Ok(())
    }

    fn record(
        &mut self,
        now: Instant,
        call: CallId,
        file: OwnedFd,
        wish: RecordWish,
    ) -> Result<(), RequestError> {
        self.agent.find_call(call)?;
        if self.call_ports.recorder(call).is_some() {
            return Err(invalid_state("this call is being recorded: stop that first"));
        }
        let port = self.agent.open_port(now, call, PortRole::Recorder)?;
        let what = What::Recorder { file: Some(file), wish, dropped: Arc::default() };
        self.call_ports.entries.insert(port, Entry { call, what });
        Ok(())
    }

    fn stop_recording(&mut self, now: Instant, call: CallId, reply: Reply<()>) {
        if let Err(error) = self.agent.find_call(call) {
            return self.answer(reply, Err(error.into()));
        }
        let Some(port) = self.call_ports.recorder(call) else {
            return self.answer(reply, Err(invalid_state("this call is not being recorded")));
        };
        let begun = self.call_ports.entries.get(&port).is_some_and(|entry| entry.what.view().open);
        self.agent.close_port(now, call, port);
        if begun {
            self.call_ports.stopping.insert(port, reply);
        } else {
            self.answer(reply, Ok(()));
        }
    }

    /// The call is answered: sound flows at one of its ports.
    pub(super) fn open_port(&mut self, call: CallId, port: PortId, stream: PortId) {
        let Some(entry) = self.call_ports.entries.get_mut(&port) else {
            return log::error!(call = call.0; "a port was to be opened that nobody asked for");
        };
        let finished = self.finished.clone();
        match &mut entry.what {
            What::Program { program, port: ring } => {
                let Some(ring) = ring.take() else { return };
                program.begin();
                super::report("join a program", self.patchbay.open_program(port, ring, stream));
            }
            What::Player { file, looped } => {
                let (Some(file), looped) = (file.take(), *looped) else { return };
                tokio::spawn(async move {
                    let device = crate::sound::play_file(file, looped).await;
                    let _ = finished.send(Finished::PlayerOpened { call, port, device });
                });
            }
            What::Recorder { file, wish, dropped } => {
                let Some(file) = file.take() else { return };
                let (wish, dropped) = (*wish, dropped.clone());
                self.updates.recording(call);
                tokio::spawn(async move {
                    let recording = crate::sound::record_file(file, wish, dropped).await;
                    follow_recording(call, port, stream, recording, finished).await;
                });
            }
        }
    }

    /// The agent needs the port no longer.
    pub(super) fn close_port(&mut self, port: PortId) {
        self.patchbay.forget(port);
        self.call_ports.entries.remove(&port);
    }

    pub(super) fn player_opened(&mut self, call: CallId, port: PortId, device: Result<DevicePort, String>) {
        // It may have been stopped meanwhile.
        if !self.call_ports.entries.contains_key(&port) {
            return;
        }
        let opened = device
            .and_then(|device| self.patchbay.open_device(port, device).map_err(|error| error.to_string()));
        self.give_up(call, port, "played", opened);
    }

    pub(super) fn recorder_opened(
        &mut self,
        call: CallId,
        port: PortId,
        recorder: Result<(ProgramPort, PortId), String>,
    ) {
        let stopped = !self.call_ports.entries.contains_key(&port);
        let opened = match recorder {
            // Without its port the file is soon complete.
            Ok(_) if stopped => return,
            Ok((recorder, stream)) => {
                self.patchbay.open_program(port, recorder, stream).map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        self.give_up(call, port, "recorded into", opened);
    }

    fn give_up(&mut self, call: CallId, port: PortId, what: &str, opened: Result<(), String>) {
        if let Err(why) = opened {
            log::warn!(call = call.0; "a file of the call cannot be {what}: {why}");
            self.agent.close_port(Instant::now(), call, port);
        }
    }

    pub(super) fn recording_done(&mut self, call: CallId, port: PortId, result: Result<(), String>) {
        if let Some(reply) = self.call_ports.stopping.remove(&port) {
            let result = result.map_err(|message| RequestError { kind: ErrorKind::Failed, message });
            self.answer(reply, result);
        } else if self.call_ports.entries.contains_key(&port) {
            // It broke off, or has become as long as it can be.
            self.agent.close_port(Instant::now(), call, port);
        }
        if self.call_ports.recorder(call).is_none() {
            self.updates.recorded(call);
        }
    }

    /// A program has left or never come, or a player has given its last sample.
    pub(super) fn port_over(&mut self, port: PortId) {
        if let Some(entry) = self.call_ports.entries.get(&port) {
            self.agent.close_port(Instant::now(), entry.call, port);
        }
    }
}

/// Tells the driver how a recording has begun, then how it has ended.
async fn follow_recording(
    call: CallId,
    port: PortId,
    stream: PortId,
    recording: Result<Recording, String>,
    finished: UnboundedSender<Finished>,
) {
    let (recorder, done) = match recording {
        Ok(recording) => (Ok((recording.port, stream)), Ok(recording.finished)),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    let _ = finished.send(Finished::RecorderOpened { call, port, recorder });
    let result = match done {
        Ok(done) => done.await.unwrap_or_else(|_| {
            log::error!(call = call.0; "the thread of a recording has died");
            Err("the recording broke off".to_owned())
        }),
        Err(why) => Err(why),
    };
    let _ = finished.send(Finished::RecordingDone { call, port, result });
}

fn report(call: CallId, what: &str, result: Result<(), RequestError>) {
    if let Err(error) = result {
        log::warn!(call = call.0; "a file of the call cannot be {what}: {error}");
    }
}

fn invalid_state(sentence: &str) -> RequestError {
    RequestError { kind: ErrorKind::InvalidState, message: sentence.to_owned() }
}

fn failed(what: &str, error: &std::io::Error) -> RequestError {
    RequestError { kind: ErrorKind::Failed, message: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    fn full<T>() -> Result<T, String> {
        Err("the disk is full".to_owned())
    }

    /// What is told of a recording at its end, and whether it has begun.
    async fn told(recording: Result<Recording, String>) -> (bool, Result<(), String>) {
        let (finished, mut told) = mpsc::unbounded_channel();
        follow_recording(CallId(1), PortId(2), PortId(3), recording, finished).await;
        let Some(Finished::RecorderOpened { recorder, .. }) = told.recv().await else {
            panic!("no beginning")
        };
        let Some(Finished::RecordingDone { result, .. }) = told.recv().await else { panic!("no end") };
        (recorder.is_ok(), result)
    }

    #[tokio::test]
    async fn only_a_file_that_was_written_to_its_end_is_told_as_complete() {
        assert_eq!(told(full()).await, (false, full()));
        for (end, expected) in [
            (Some(Ok(())), Ok(())),
            (Some(full()), full()),
            // The recorder's thread has died.
            (None, Err("the recording broke off".to_owned())),
        ] {
            let (tell, finished) = oneshot::channel();
            match end {
                Some(end) => tell.send(end).unwrap(),
                None => drop(tell),
            }
            let port = ProgramPort { source: None, listener: None, rate: RECORDING_RATE };
            assert_eq!(told(Ok(Recording { port, finished })).await, (true, expected));
        }
    }
}
