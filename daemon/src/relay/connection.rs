//! One connection with a relay: bytes cut into messages one way, messages and media written the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use voipd_agent::view::CallId;
use voipd_audio::engine::RelayPacket;
use voipd_nat::ice::StreamId;
use voipd_nat::turn::frame::{CHANNEL_HEADER, channel_data, message_length, stream_padding};

use super::{RelayEvent, RelayHappened, Shared};
use crate::realtime::monotonic_nanos;
use crate::tls::{self, Requirement};

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(4);
/// How long the far end may take no bytes that we have for it.
const STALLED: Duration = Duration::from_secs(10);
/// How long what is left may take to be written when we close.
const FAREWELL: Duration = Duration::from_secs(1);
const BUFFER: usize = 4 * 1024;

/// The task's way to the driver.
pub(super) struct Outlet {
    pub(super) call: CallId,
    pub(super) stream: StreamId,
    pub(super) events: mpsc::Sender<RelayEvent>,
}

impl Outlet {
    async fn tell(&self, happened: RelayHappened) {
        // Nobody listens when the driver is gone.
        let _ = self.events.send(RelayEvent { call: self.call, stream: self.stream, happened }).await;
    }
}

/// Makes the connection and serves it to its end, which is told unless it is ours.
pub(super) async fn run(
    server: SocketAddr,
    requirement: Option<Arc<Requirement>>,
    orders: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    outlet: Outlet,
) {
    let connecting = async {
        let stream = TcpStream::connect(server).await?;
        // What is sent is sent at once: sound does not wait for company.
        stream.set_nodelay(true)?;
        Ok(match &requirement {
            None => Connected::Plain(stream),
            Some(requirement) => {
                let connector = TlsConnector::from(Arc::clone(&requirement.config));
                Connected::Secured(Box::new(connector.connect(requirement.indication.clone(), stream).await?))
            }
        })
    };
    let connected = match timeout(CONNECT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    let end = match connected {
        Ok(Connected::Plain(stream)) => serve(stream, orders, &shared, &outlet).await,
        Ok(Connected::Secured(stream)) => serve(*stream, orders, &shared, &outlet).await,
        Err(error) => Some(explain(&error, requirement.as_deref())),
    };
    if let Some(reason) = end {
        outlet.tell(RelayHappened::Closed(reason)).await;
    }
}

enum Connected {
    Plain(TcpStream),
    Secured(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Why there is no connection, for people to read.
fn explain(error: &io::Error, requirement: Option<&Requirement>) -> String {
    let asked = requirement.is_some_and(Requirement::was_asked);
    match tls::failure(error, asked) {
        Some(meaning) => format!("{meaning} ({error})"),
        None => match error.kind() {
            io::ErrorKind::TimedOut => "the relay does not answer".to_owned(),
            _ => error.to_string(),
        },
    }
}

/// `None` when we closed it, else why it is over.
async fn serve<S>(
    stream: S,
    mut orders: mpsc::Receiver<Vec<u8>>,
    shared: &Shared,
    outlet: &Outlet,
) -> Option<String>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    outlet.tell(RelayHappened::Opened).await;
    let end = tokio::select! {
        reason = read(&mut reader, shared, outlet) => Some(reason),
        end = write(&mut writer, &mut orders, shared) => end,
    };
    if end.is_none() {
        let _ = timeout(FAREWELL, writer.shutdown()).await;
    }
    end
}

/// Answers why there is nothing more to read.
async fn read<R: AsyncRead + Unpin>(reader: &mut R, shared: &Shared, outlet: &Outlet) -> String {
    let mut held = Vec::with_capacity(BUFFER);
    loop {
        match reader.read_buf(&mut held).await {
            Ok(0) => return "closed by the relay".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        let at_nanos = monotonic_nanos();
        let mut rest = held.as_slice();
        loop {
            let length = match message_length(rest) {
                Ok(Some(length)) if length <= rest.len() => length,
                // The rest is to come; a message is at most 64 KiB long.
                Ok(_) => break,
                Err(error) => return error.to_string(),
            };
            let (message, behind) = rest.split_at(length);
            rest = behind;
            if !play(message, at_nanos, shared) {
                outlet.tell(RelayHappened::Message(message.to_vec())).await;
            }
        }
        let taken = held.len() - rest.len();
        held.drain(..taken);
    }
}

/// Hands a packet of sound to the real-time thread; `false` when it is none, or nobody plays it.
fn play(message: &[u8], at_nanos: u64, shared: &Shared) -> bool {
    let Some((_, data)) = channel_data(message) else { return false };
    // RTP and not RTCP (RFC 7983, RFC 5761 section 4).
    if !matches!(data, [128..=191, 0..=191 | 224..=255, ..]) {
        return false;
    }
    let whole = message.get(..CHANNEL_HEADER + data.len()).unwrap_or_default();
    let Some(packet) = RelayPacket::new(whole, at_nanos) else { return false };
    shared.with_media(|media| media.as_mut().map(|ends| ends.push(packet)).is_some())
}

/// Writes what is ordered and what the real-time thread sends, until nobody wants that any more (`None`) or it cannot be
/// written. What the far end does not take waits in the rings, which drop and count.
async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    orders: &mut mpsc::Receiver<Vec<u8>>,
    shared: &Shared,
) -> Option<String> {
    let mut bytes = Vec::with_capacity(BUFFER);
    loop {
        bytes.clear();
        let mut open = true;
        tokio::select! {
            order = orders.recv() => match order {
                Some(message) => add(&mut bytes, &message),
                None => open = false,
            },
            () = shared.kick.notified() => {}
        }
        while let Ok(message) = orders.try_recv() {
            add(&mut bytes, &message);
        }
        shared.with_media(|media| {
            while let Some(packet) = media.as_mut().and_then(|ends| ends.outgoing.pop().ok()) {
                add(&mut bytes, packet.message());
            }
        });
        if !bytes.is_empty() {
            let writing = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            match timeout(STALLED, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(error.to_string()),
                Err(_) => return Some("the relay takes nothing any more".to_owned()),
            }
        }
        if !open {
            return None;
        }
    }
}

/// A message, with the padding that streams want behind ChannelData (RFC 8656 section 12.5).
fn add(bytes: &mut Vec<u8>, message: &[u8]) {
    bytes.extend_from_slice(message);
    bytes.resize(bytes.len() + stream_padding(message.len()), 0);
}
