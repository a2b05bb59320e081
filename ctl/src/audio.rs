//! `voipctl audio`, and `voipctl call --audio -`: a call joined to standard input and output.

use std::fs::{File, FileType};
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;
use voipd_dbus::{AudioOptions, CallProxy, CallState, Dict, Error};

use crate::call::path_of;
use crate::cli::{AudioArgs, JoinArgs, Mode};
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::objects::{Fit, Object};
use crate::output::{Output, dict_to_json};
use crate::text::table;
use crate::wav::{self, Sound, StreamHeader};

/// From when the peer's jitter buffer has played what was sent last.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long the reader of standard output may take for what is left when the call has ended.
const FLUSH: Duration = Duration::from_secs(2);
const PIECE: usize = 4096;

/// `voipctl audio`.
pub(crate) async fn run(daemon: &Daemon, out: Output, args: AudioArgs) -> Result<(), Failure> {
    let path = path_of(daemon, args.call.call.as_ref(), Fit::Unended).await?;
    let call = daemon.call(&path).await?;
    if args.list {
        return list(&call, out).await;
    }
    let joins =
        args.mode.is_none() && args.join.listen.is_none() && !args.socket && brings_sound(&io::stdin());
    let mode = args.mode.unwrap_or(if joins { Mode::Inject } else { Mode::Tap });
    if args.socket {
        let side =
            if args.join.listen.is_none() && mode != Mode::Tap { Some("none") } else { args.join.side() };
        let options = AudioOptions {
            mode: Some(mode.word().to_owned()),
            side: side.map(str::to_owned),
            end_with_input: Some(mode != Mode::Tap && !args.join.stay),
            ..args.join.options()
        };
        let path = call.open_audio_socket(&options).await?;
        return match out.json {
            true => out.document(&serde_json::json!({ "socket": path })),
            false => out.line(&path),
        };
    }
    let listens = mode == Mode::Tap || args.join.listen.is_some() || (joins && takes_sound(&io::stdout()));
    if listens && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is a terminal: send the sound to a file or a program, or give some on standard input.",
        ));
    }
    let mut interrupts = Interrupts::take(&[SignalKind::interrupt()])?;
    // Asked for first, so that the call does not end unseen.
    let mut events = daemon.events().await?;
    if CallState::from_word(&call.state().await?) == Some(CallState::Ended) {
        return Err(Failure::failed("the call has ended. 'voipctl calls' shows the calls."));
    }
    let speaks = (mode != Mode::Tap).then_some(mode);
    let mut joined = Joined::open(&call, &args.join, speaks, listens).await?;
    loop {
        tokio::select! {
            over = joined.next() => match over {
                Over::Input(end) => {
                    end?;
                    if !args.join.stay {
                        return joined.leave().await;
                    }
                }
                Over::Output(end) => end?,
            },
            event = events.next() => {
                if event.ends(&path)? {
                    return joined.finish().await;
                }
            }
            () = interrupts.next() => return joined.leave().await,
            failure = out.reader_left(), if listens => return Err(failure),
        }
    }
}

/// Whether somebody has given a program or a file to read from: what services and shells give otherwise is a device.
fn brings_sound(input: &impl AsFd) -> bool {
    kind_of(input).is_some_and(|kind| kind.is_file() || kind.is_fifo() || kind.is_socket())
}

/// Whether somebody wants the sound: a service's journal, which is a socket, does not.
fn takes_sound(output: &impl AsFd) -> bool {
    kind_of(output).is_some_and(|kind| kind.is_file() || kind.is_fifo())
}

fn kind_of(stream: &impl AsFd) -> Option<FileType> {
    let file = File::from(stream.as_fd().try_clone_to_owned().ok()?);
    Some(file.metadata().ok()?.file_type())
}

async fn list(call: &CallProxy<'_>, out: Output) -> Result<(), Failure> {
    let ports = call.list_ports().await?;
    if out.json {
        let ports: serde_json::Value =
            ports.iter().map(|port| serde_json::Value::from(dict_to_json(port))).collect();
        return out.document(&ports);
    }
    if ports.is_empty() {
        return out.line("No file and no program has joined the call.");
    }
    let row = |port: Dict| {
        let port = Object { path: String::new(), properties: port };
        let number =
            |key| Some(port.number(key)).filter(|n| *n > 0).map(|n| n.to_string()).unwrap_or_default();
        vec![
            port.text("kind").to_owned(),
            if port.flag("open") { "open" } else { "waits" }.to_owned(),
            port.text("mode").to_owned(),
            port.text("side").to_owned(),
            port.text("format").to_owned(),
            number("rate"),
            format!("{} ms", port.number("dropped-ms")),
        ]
    };
    let rows: Vec<_> = ports.into_iter().map(row).collect();
    out.lines(&table(&["KIND", "STATE", "MODE", "HEARS", "FORMAT", "RATE", "DROPPED"], &rows))
}

/// What goes on beside something else.
type Work = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

/// A call's sound at standard input and output.
pub(crate) struct Joined {
    /// Until the peer has heard all of standard input.
    said: Option<Work>,
    /// Until the call has ended, or nobody reads standard output.
    heard: Option<oneshot::Receiver<io::Result<()>>>,
    /// Where what is heard comes from.
    source: Option<UnixStream>,
}

impl Joined {
    /// Begins to move sound. `speaks`: how standard input is heard; `listens`: the call goes to standard output.
    pub(crate) async fn open(
        call: &CallProxy<'static>,
        args: &JoinArgs,
        speaks: Option<Mode>,
        listens: bool,
    ) -> Result<Self, Failure> {
        let mut joined = Self { said: None, heard: None, source: None };
        if listens {
            let options = AudioOptions { side: args.side().map(str::to_owned), ..args.options() };
            if let Some(socket) = join(call, &options).await? {
                joined.source = socket.try_clone().ok();
                let header = args.wav.then(|| args.header());
                joined.heard = Some(spawn("output", move || write_out(socket, header))?);
            }
        }
        if let Some(mode) = speaks {
            let options = AudioOptions {
                mode: Some(mode.word().to_owned()),
                side: Some("none".to_owned()),
                end_with_input: Some(!args.stay),
                ..args.options()
            };
            joined.said = Some(Box::pin(say(call.clone(), options, args.stay)));
        }
        Ok(joined)
    }

    /// What is over next. Never, when nothing is left.
    pub(crate) async fn next(&mut self) -> Over {
        let Self { said, heard, .. } = self;
        tokio::select! {
            end = wait(said) => {
                *said = None;
                Over::Input(end)
            }
            end = wait(heard) => {
                *heard = None;
                Over::Output(end.unwrap_or(Ok(())).map_err(unwritable))
            }
        }
    }

    /// Leaves a call that goes on.
    pub(crate) async fn leave(self) -> Result<(), Failure> {
        if let Some(source) = &self.source {
            // What has come is still read. Who has left already needs no more.
            let _ = source.shutdown(Shutdown::Read);
        }
        self.finish().await
    }

    /// What the call has said last is written, too.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        let Some(heard) = self.heard.take() else { return Ok(()) };
        match tokio::time::timeout(FLUSH, heard).await {
            Ok(Ok(end)) => end.map_err(unwritable),
            _ => Ok(()),
        }
    }
}

/// What has come to its end. That of the call is told by an event.
pub(crate) enum Over {
    /// The peer has heard all of standard input, but for what its jitter buffer holds.
    Input(Result<(), Failure>),
    /// The call has ended, or nobody reads standard output.
    Output(Result<(), Failure>),
}

/// What something comes to; never, where there is nothing.
async fn wait<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Standard input to the peer. It may have nothing to say for as long as the call lasts.
async fn say(call: CallProxy<'static>, mut options: AudioOptions, stays: bool) -> Result<(), Failure> {
    let recognised = spawn("input", || wav::recognise(&mut io::stdin().lock()))?;
    let sound = recognised.await.map_err(|_| Failure::failed("standard input cannot be read."))?;
    let sound = sound.map_err(|why| Failure::failed(format!("standard input: {why}")))?;
    if let Some(rate) = sound.rate() {
        (options.rate, options.format) = (Some(rate), Some("s16le".to_owned()));
    }
    if let Some(socket) = join(&call, &options).await? {
        let heard = spawn("input", move || read_in(sound, socket, stays))?;
        if let Ok(Ok(())) = heard.await {
            return Ok(());
        }
    }
    // The call has ended before, or standard input broke off.
    std::future::pending().await
}

/// The other end of a program's socket; nothing where the call has ended.
async fn join(call: &CallProxy<'static>, options: &AudioOptions) -> Result<Option<UnixStream>, Failure> {
    match call.open_audio(options).await {
        Ok(socket) => Ok(Some(UnixStream::from(OwnedFd::from(socket)))),
        Err(error) if error.is_gone() || matches!(error, Error::InvalidState(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn unwritable(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::BrokenPipe),
        _ => Failure::failed(format!("cannot write to standard output: {error}")),
    }
}

/// What a thread comes to, which may wait for as long as it likes: nobody waits for its end.
fn spawn<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Failure> {
    let (tell, told) = oneshot::channel();
    let started =
        thread::Builder::new().name(format!("voipctl-{what}")).spawn(move || drop(tell.send(work())));
    match started {
        Ok(_) => Ok(told),
        Err(error) => Err(Failure::failed(format!("no thread for the sound: {error}"))),
    }
}

/// Until the call has ended.
fn write_out(mut socket: UnixStream, header: Option<StreamHeader>) -> io::Result<()> {
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    if let Some(header) = &header {
        stdout.write_all(&header.bytes(None))?;
    }
    let (mut piece, mut written) = ([0; PIECE], 0);
    loop {
        let count = match socket.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The call's end may be told so.
            Err(_) => break,
        };
        stdout.write_all(&piece[..count])?;
        written += count as u64;
    }
    match header {
        Some(header) => header.complete(&mut stdout, written),
        None => Ok(()),
    }
}

/// Until all has been heard, or the call has ended. Who stays keeps the place of a microphone that it has taken.
fn read_in(mut sound: Sound, mut socket: UnixStream, stays: bool) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let mut bytes = Vec::with_capacity(PIECE);
    while sound.read(&mut stdin, &mut bytes)? {
        socket.write_all(&bytes)?;
    }
    if !stays {
        socket.shutdown(Shutdown::Write)?;
    }
    // voipd closes its end when the peer has heard it all, or with the call.
    io::copy(&mut socket, &mut io::sink())?;
    Ok(())
}
