//! The relay's clients whose network lets no datagrams through: connections, cut into messages. Knows neither logins nor
//! allocations; whoever shows none in time is let go by the relay.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use voipd_nat::turn::frame::{CHANNEL_HEADER, channel_data, message_length, stream_padding};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 512;
/// Most from one address: some friends may be behind one NAT.
const MAX_FROM_ADDRESS: usize = 32;
/// How long a connection may be without an allocation.
const SHY: Duration = Duration::from_secs(20);
/// Messages that wait to be written: what TCP cannot carry in time is of no use later.
const QUEUE: usize = 64;
/// Longest message read: sound and signalling are far below.
const LONGEST: usize = 4096;
/// How long the far end may take no bytes that we have for it.
const STALLED: Duration = Duration::from_secs(10);

/// What the connections tell.
pub(super) enum Happened {
    /// A message without its padding.
    Said { client: SocketAddr, bytes: Vec<u8> },
    /// The connection is over.
    Gone { client: SocketAddr, number: u64 },
}

struct Connection {
    number: u64,
    since: Instant,
    orders: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the module.
pub(super) struct Streams {
    listener: Option<TcpListener>,
    map: BTreeMap<SocketAddr, Connection>,
    last: u64,
    happened: mpsc::Sender<Happened>,
}

impl Streams {
    /// Listens at an address.
    ///
    /// # Errors
    /// Somebody else does.
    pub(super) fn listen(at: SocketAddr, happened: mpsc::Sender<Happened>) -> io::Result<Self> {
        let socket = std::net::TcpListener::bind(at)?;
        socket.set_nonblocking(true)?;
        let listener = Some(TcpListener::from_std(socket)?);
        Ok(Self { listener, map: BTreeMap::new(), last: 0, happened })
    }

    /// No connections at all.
    pub(super) fn none(happened: mpsc::Sender<Happened>) -> Self {
        Self { listener: None, map: BTreeMap::new(), last: 0, happened }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// The next connection; never ends where none can come.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.listener {
            Some(listener) => listener.accept().await,
            None => std::future::pending().await,
        }
    }

    /// Serves a connection, if there is room.
    pub(super) fn take(&mut self, now: Instant, stream: TcpStream, client: SocketAddr) {
        let from = |ip: IpAddr| self.map.keys().filter(|known| known.ip() == ip).count();
        if self.map.len() >= MAX_CONNECTIONS || from(client.ip()) >= MAX_FROM_ADDRESS {
            return log::debug!("the relay has too many connections: {client} is not heard");
        }
        // Sound does not wait for company.
        let _ = stream.set_nodelay(true);
        self.last += 1;
        let number = self.last;
        let (orders, waiting) = mpsc::channel(QUEUE);
        let happened = self.happened.clone();
        let task = tokio::spawn(async move {
            let (reader, writer) = stream.into_split();
            tokio::select! {
                () = read(reader, client, &happened) => {}
                () = write(writer, waiting) => {}
            }
            let _ = happened.send(Happened::Gone { client, number }).await;
        });
        self.map.insert(client, Connection { number, since: now, orders, task });
    }

    /// `false`: that was another connection from the same place.
    pub(super) fn gone(&mut self, client: SocketAddr, number: u64) -> bool {
        let is_this = self.map.get(&client).is_some_and(|connection| connection.number == number);
        if is_this {
            self.map.remove(&client);
        }
        is_this
    }

    pub(super) fn send(&self, client: SocketAddr, bytes: &[u8]) {
        if let Some(connection) = self.map.get(&client) {
            let mut message = bytes.to_vec();
            message.resize(bytes.len() + stream_padding(bytes.len()), 0);
            // What finds no room is lost, as on any path.
            let _ = connection.orders.try_send(message);
        }
    }

    /// Lets those go who have had their time and nothing to show.
    pub(super) fn sweep(&mut self, now: Instant, is_served: impl Fn(SocketAddr) -> bool) {
        self.map.retain(|client, connection| {
            now.saturating_duration_since(connection.since) < SHY || is_served(*client)
        });
    }

    /// When [`Streams::sweep`] has something to do.
    pub(super) fn has_any(&self) -> bool {
        !self.map.is_empty()
    }
}

async fn read(mut reader: OwnedReadHalf, client: SocketAddr, happened: &mpsc::Sender<Happened>) {
    let mut held = Vec::with_capacity(LONGEST);
    while let Ok(1..) = reader.read_buf(&mut held).await {
        let mut rest = held.as_slice();
        loop {
            let length = match message_length(rest) {
                Ok(Some(length)) if length > LONGEST => return,
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => break,
                Err(_) => return,
            };
            let (message, behind) = rest.split_at(length);
            rest = behind;
            // The padding is the stream's alone.
            let bytes = match channel_data(message) {
                Some((_, data)) => message.get(..CHANNEL_HEADER + data.len()).unwrap_or_default(),
                None => message,
            };
            // Whoever sends faster than it is relayed waits.
            if happened.send(Happened::Said { client, bytes: bytes.to_vec() }).await.is_err() {
                return;
            }
        }
        let taken = held.len() - rest.len();
        held.drain(..taken);
    }
}

async fn write(mut writer: OwnedWriteHalf, mut orders: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = orders.recv().await {
        if !matches!(timeout(STALLED, writer.write_all(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}
