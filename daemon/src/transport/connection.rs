//! One connection: bytes cut into messages one way, messages written the other, and the time that each may take. It
//! knows neither who made the connection nor whether TLS lies below.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use voipd_sip::endpoint::TransportError;
use voipd_sip::wire::stream::{Frame, StreamReader};

/// How long the rest of a message may take.
pub(super) const HALF_MESSAGE: Duration = Duration::from_secs(20);
/// How long a connection that came to us may be without a first message.
pub(super) const SILENT: Duration = Duration::from_secs(30);
/// How long the far end may take no bytes that we have for it.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// Most bytes that wait to be written; a far end that leaves more is hung up on.
pub(super) const QUEUE: usize = 512 * 1024;
/// How long what is left may take to be written when we close.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the far end's reason is waited for when it takes nothing any more.
const LAST_WORDS: Duration = Duration::from_millis(500);
const BUFFER: usize = 16 * 1024;
/// How often a connection is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// A ping, as signalling sends it to keep a connection, and the answer to one (RFC 5626 section 3.5.1).
const TWO_LINE_ENDS: &[u8] = b"\r\n\r\n";
const LINE_END: &[u8] = b"\r\n";

/// The way into a connection. Dropped, it lets the connection write what it has, and close.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// Why a message could not be given to a connection.
#[derive(Debug)]
pub(super) struct Overrun;

impl Outlet {
    /// Queues a message.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Overrun> {
        // An empty queue takes a message of any size.
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        if waiting > 0 && waiting + bytes.len() > QUEUE {
            return Err(Overrun);
        }
        // A connection that has just ended is reported as such, and with it all that was sent on it.
        let _ = self.sender.send(bytes.to_vec());
        Ok(())
    }
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Inlet {
    receiver: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

/// Both ends of a queue of messages.
pub(super) fn queue() -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Outlet { sender, waiting: Arc::clone(&waiting) }, Inlet { receiver, waiting })
}

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It came to us.
    Inbound,
    /// We made it.
    Outbound,
}

/// Where a connection's messages go, and how it asks whether it is still wanted.
pub(super) trait Owner: Send + Sync {
    /// A whole message came.
    fn message(&self, bytes: Vec<u8>) -> impl Future<Output = ()> + Send;
    /// The far end has answered a ping.
    fn pong(&self) -> impl Future<Output = ()> + Send;
    /// Nothing but signs of life has crossed for a while.
    fn idle(&self) -> impl Future<Output = ()> + Send;
    /// How long that may be.
    fn idle_limit(&self) -> Duration;
    /// What an error of the stream means, if it is one of TLS.
    fn tls_failure(&self, error: &io::Error) -> Option<TransportError>;
}

/// Serves a connection until it ends: `None` when we closed it, else why it does not deliver any more.
pub(super) async fn serve<S, O>(
    stream: S,
    remote: SocketAddr,
    origin: Origin,
    inlet: Inlet,
    owner: &O,
) -> Option<TransportError>
where
    S: AsyncRead + AsyncWrite + Send,
    O: Owner,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let life = Life::new();
    let end = {
        let (signs, wanted) = mpsc::channel(1);
        let reading = read(&mut reader, remote, &life, &signs, owner);
        let writing = write(&mut writer, inlet, wanted, &life);
        tokio::pin!(reading, writing);
        tokio::select! {
            end = &mut reading => end,
            end = &mut writing => match end {
                // The far end may have said why it takes nothing any more: a TLS alert that is on its way.
                End::Failed(error) => match timeout(LAST_WORDS, &mut reading).await {
                    Ok(End::Failed(reason)) => End::Failed(reason),
                    _ => End::Failed(error),
                },
                end => end,
            },
            () = silence(&life, origin) => End::hang_up("it sent no message"),
            never = watch(&life, owner) => match never {},
        }
    };
    match end {
        End::Failed(error) => Some(owner.tls_failure(&error).unwrap_or(TransportError::Closed)),
        End::Farewell => {
            farewell(&mut writer, None).await;
            None
        }
        End::HangUp { why, answer } => {
            log::info!("the connection with {remote} is closed: {why}");
            farewell(&mut writer, answer).await;
            Some(TransportError::Closed)
        }
    }
}

/// How a connection comes to its end.
enum End {
    /// Nobody here wants it any more, and all is written.
    Farewell,
    /// It is of no more use; `answer` is the last that the far end hears.
    HangUp { why: String, answer: Option<Vec<u8>> },
    /// It broke.
    Failed(io::Error),
}

impl End {
    fn hang_up(why: &str) -> Self {
        Self::HangUp { why: why.to_owned(), answer: None }
    }
}

/// What crossed a connection, and when.
struct Life(Mutex<Signs>);

struct Signs {
    /// A message went either way: not the far end's pings, which would let strangers hold a connection for ever.
    used: Instant,
    had_message: bool,
}

impl Life {
    fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Signs { used: now, had_message: false }))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Signs) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, frame: &Frame) {
        if let Frame::Message(_) = frame {
            self.with(|signs| {
                signs.used = Instant::now();
                signs.had_message = true;
            });
        }
    }

    fn sent(&self, bytes: &[u8]) {
        if bytes != TWO_LINE_ENDS {
            self.with(|signs| signs.used = Instant::now());
        }
    }
}

async fn read<O: Owner>(
    reader: &mut (impl AsyncRead + Unpin),
    remote: SocketAddr,
    life: &Life,
    signs: &mpsc::Sender<&'static [u8]>,
    owner: &O,
) -> End {
    let mut cutter = StreamReader::new(remote);
    let mut buffer = vec![0; BUFFER];
    // When the message that is under way began.
    let mut begun: Option<Instant> = None;
    loop {
        let read = match begun {
            None => reader.read(&mut buffer).await,
            Some(begun) => match timeout_at(begun + HALF_MESSAGE, reader.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => return End::hang_up("the rest of a message did not come"),
            },
        };
        let bytes = match read {
            Ok(0) => return End::hang_up("the far end closed it"),
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) => return End::Failed(error),
        };
        cutter.push(bytes);
        let mut answered = false;
        loop {
            let frame = match cutter.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return End::HangUp { why: error.what, answer: error.reply },
            };
            begun = None;
            life.note(&frame);
            match frame {
                Frame::Message(message) => owner.message(message).await,
                // One that waits already answers this question too.
                Frame::Ping => {
                    // Its first half was no answer.
                    answered = false;
                    let _ = signs.try_send(LINE_END);
                }
                Frame::Pong => answered = true,
            }
        }
        cutter.pause();
        if answered {
            owner.pong().await;
        }
        begun = cutter.is_half_sent().then(|| begun.unwrap_or_else(Instant::now));
    }
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    mut inlet: Inlet,
    mut signs: mpsc::Receiver<&'static [u8]>,
    life: &Life,
) -> End {
    loop {
        let written = tokio::select! {
            biased;
            Some(sign) = signs.recv() => put(writer, sign).await,
            message = inlet.receiver.recv() => match message {
                None => return End::Farewell,
                Some(message) => {
                    life.sent(&message);
                    let written = put(writer, &message).await;
                    inlet.waiting.fetch_sub(message.len(), Ordering::Relaxed);
                    written
                }
            },
        };
        if let Err(error) = written {
            return End::Failed(error);
        }
    }
}

async fn put(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let written = async {
        writer.write_all(bytes).await?;
        writer.flush().await
    };
    timeout(STALLED, written).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn farewell(writer: &mut (impl AsyncWrite + Unpin), answer: Option<Vec<u8>>) {
    let said = async {
        if let Some(answer) = answer {
            writer.write_all(&answer).await?;
        }
        writer.shutdown().await
    };
    // The connection ends all the same.
    let _ = timeout(FAREWELL, said).await;
}

/// Ends when a stranger has sent no message for too long.
async fn silence(life: &Life, origin: Origin) {
    if origin == Origin::Inbound {
        sleep(SILENT).await;
        if !life.with(|signs| signs.had_message) {
            return;
        }
    }
    std::future::pending().await
}

/// Tells the owner whenever the connection has been idle for too long.
async fn watch<O: Owner>(life: &Life, owner: &O) -> Infallible {
    let mut told = Instant::now();
    loop {
        sleep(WATCH_INTERVAL).await;
        let since = life.with(|signs| signs.used).max(told);
        if since.elapsed() >= owner.idle_limit() {
            told = Instant::now();
            owner.idle().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A connection whose idle limit is a minute, and its far end.
    struct Line {
        far: DuplexStream,
        outlet: Outlet,
        messages: mpsc::Receiver<Vec<u8>>,
        idle: Arc<AtomicBool>,
        pongs: Arc<AtomicUsize>,
        task: tokio::task::JoinHandle<Option<TransportError>>,
    }

    struct Ears {
        messages: mpsc::Sender<Vec<u8>>,
        idle: Arc<AtomicBool>,
        pongs: Arc<AtomicUsize>,
    }

    impl Owner for Ears {
        async fn message(&self, bytes: Vec<u8>) {
            let _ = self.messages.send(bytes).await;
        }
        async fn pong(&self) {
            self.pongs.fetch_add(1, Ordering::Relaxed);
        }
        async fn idle(&self) {
            self.idle.store(true, Ordering::Relaxed);
        }
        fn idle_limit(&self) -> Duration {
            Duration::from_secs(60)
        }
        fn tls_failure(&self, _: &io::Error) -> Option<TransportError> {
            None
        }
    }

    impl Line {
        fn new(origin: Origin) -> Self {
            let (near, far) = duplex(1024);
            let (outlet, inlet) = queue();
            let (sender, messages) = mpsc::channel(8);
            let idle = Arc::new(AtomicBool::new(false));
            let pongs = Arc::new(AtomicUsize::new(0));
            let ears = Ears { messages: sender, idle: Arc::clone(&idle), pongs: Arc::clone(&pongs) };
            let task = tokio::spawn(async move {
                serve(near, "192.0.2.1:5060".parse().unwrap(), origin, inlet, &ears).await
            });
            Self { far, outlet, messages, idle, pongs, task }
        }

        /// How long it takes until the connection ends.
        async fn ends(self) -> (Option<TransportError>, Duration) {
            let begun = Instant::now();
            let Self { far: _far, outlet: _outlet, messages: _messages, task, .. } = self;
            (task.await.unwrap(), begun.elapsed())
        }
    }

    const MESSAGE: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_half_sent_message_is_waited_for_twenty_seconds_in_all() {
        let mut line = Line::new(Origin::Outbound);
        line.far.write_all(MESSAGE).await.unwrap();
        assert_eq!(line.messages.recv().await.unwrap(), MESSAGE);
        // A byte now and then gains no time.
        for byte in MESSAGE.iter().take(9) {
            line.far.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_secs(2)).await;
        }
        let (error, took) = line.ends().await;
        assert_eq!(error, Some(TransportError::Closed));
        assert_eq!(took.as_secs(), HALF_MESSAGE.as_secs() - 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_who_sends_no_message_is_hung_up_on_though_it_shows_signs_of_life() {
        let mut line = Line::new(Origin::Inbound);
        sleep(Duration::from_secs(10)).await;
        line.far.write_all(TWO_LINE_ENDS).await.unwrap();
        let (error, took) = line.ends().await;
        assert_eq!((error, took.as_secs()), (Some(TransportError::Closed), SILENT.as_secs() - 10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_connection_is_told_and_stays_until_its_owner_lets_go() {
        let mut line = Line::new(Origin::Inbound);
        line.far.write_all(MESSAGE).await.unwrap();
        line.messages.recv().await.unwrap();
        sleep(Duration::from_secs(50)).await;
        // Using it begins the time anew.
        line.outlet.send(b"x").unwrap();
        sleep(Duration::from_secs(50)).await;
        assert!(!line.idle.load(Ordering::Relaxed));
        sleep(Duration::from_secs(20)).await;
        assert!(line.idle.load(Ordering::Relaxed));
        assert!(!line.task.is_finished());
        let Line { mut far, outlet, task, .. } = line;
        drop(outlet);
        assert_eq!(task.await.unwrap(), None);
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"x");
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_no_use_of_a_connection() {
        for origin in [Origin::Inbound, Origin::Outbound] {
            let mut line = Line::new(origin);
            line.far.write_all(MESSAGE).await.unwrap();
            line.messages.recv().await.unwrap();
            let mut pong = [0; 2];
            for _ in 0..4 {
                assert!(!line.idle.load(Ordering::Relaxed));
                sleep(Duration::from_secs(14)).await;
                line.far.write_all(TWO_LINE_ENDS).await.unwrap();
                line.far.read_exact(&mut pong).await.unwrap();
            }
            sleep(Duration::from_secs(14)).await;
            assert!(line.idle.load(Ordering::Relaxed), "{origin:?}");
            assert!(!line.task.is_finished(), "its owner decides");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_bytes_is_hung_up_on() {
        let line = Line::new(Origin::Outbound);
        line.outlet.send(&[b'x'; 5000]).unwrap();
        let (error, took) = line.ends().await;
        assert_eq!((error, took.as_secs()), (Some(TransportError::Closed), STALLED.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_but_takes_any_one_message() {
        let line = Line::new(Origin::Outbound);
        line.outlet.send(&vec![b'x'; QUEUE + 1]).unwrap();
        assert!(line.outlet.send(b"x").is_err());
    }

    /// RFC 5626 section 3.5.1.
    #[tokio::test(start_paused = true)]
    async fn answers_to_pings_are_told_and_pings_are_answered() {
        let mut line = Line::new(Origin::Outbound);
        let mut ping = [0; 4];
        for answers in 1..=3 {
            line.outlet.send(TWO_LINE_ENDS).unwrap();
            line.far.read_exact(&mut ping).await.unwrap();
            line.far.write_all(LINE_END).await.unwrap();
            sleep(Duration::from_secs(100)).await;
            assert_eq!(line.pongs.load(Ordering::Relaxed), answers);
        }
        // Questions of its own are no answers.
        line.far.write_all(TWO_LINE_ENDS).await.unwrap();
        let mut pong = [0; 2];
        line.far.read_exact(&mut pong).await.unwrap();
        assert_eq!((pong.as_slice(), line.pongs.load(Ordering::Relaxed)), (LINE_END, 3));
        assert!(!line.task.is_finished());
    }
}
