//! All connections: those that came, and those that are made when something is sent. One flow is one connection
//! (RFC 5923): what belongs to a flow goes by the connection that is there, whoever made it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::client::ClientConnection;
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use voipd_agent::account::TlsSettings;
use voipd_sip::endpoint::{Flow, PATIENCE, TlsRequirement, Transport as Protocol, TransportError};
use voipd_sip::uri::Host;

use super::Arrival;
use super::connection::{self, Inlet, Origin, Outlet};
use super::limits::{self, Limits};
use crate::tls::{self, Requirement, TlsClient, TlsError, TlsServer};

/// How long a connection may take to come about, TLS and all: the next server is tried then.
const CONNECT: Duration = Duration::from_secs(4);
/// How long the handshake of a client may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most connections that we make.
const MOST_OUTBOUND: usize = 256;
/// Most of them to one network: whoever asks us to answer him at ever new ports must leave room for others.
const MOST_OUTBOUND_TO_ONE: usize = 64;
/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long the system rests that gives us no more connections.
const REST: Duration = Duration::from_millis(100);
/// When TCP asks whether the far end is still there, and how often before it gives up.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
/// How long closing all connections may take.
const CLOSE: Duration = Duration::from_millis(1500);

/// What connections and listeners tell.
#[derive(Debug)]
pub(super) enum Event {
    Arrival(Arrival),
    /// A connection came.
    Opened {
        flow: Flow,
        connection: Connection,
    },
    /// A connection is over; `None`: because we wanted it so.
    Ended {
        flow: Flow,
        id: u64,
        error: Option<TransportError>,
    },
}

/// A connection as its owner sees it.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    outlet: Outlet,
    task: AbortHandle,
    origin: Origin,
    security: Option<oneshot::Receiver<Security>>,
}

/// How a TLS connection of ours is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// Its cipher suite, as IANA names it.
    pub cipher: String,
    /// Whose certificate was verified.
    pub peer: String,
    /// The session of an earlier connection went on (RFC 8446 section 2.2).
    pub resumed: bool,
}

/// All connections of the daemon.
pub(super) struct Streams {
    connections: HashMap<Flow, Connection>,
    client: TlsClient,
    common: Common,
    listeners: Vec<JoinHandle<()>>,
    /// Each connection's task holds the other end.
    all_ended: mpsc::Receiver<()>,
    /// How the newest connection of each TLS flow is protected.
    security: HashMap<Flow, Security>,
    /// How often no connection was made because there were too many.
    refused: u64,
}

/// What every connection's task needs.
#[derive(Clone, Debug)]
struct Common {
    events: mpsc::Sender<Event>,
    limits: Limits,
    last_id: Arc<AtomicU64>,
    _alive: mpsc::Sender<()>,
}

impl Streams {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        let (alive, all_ended) = mpsc::channel(1);
        let common = Common { events, limits: Limits::default(), last_id: Arc::default(), _alive: alive };
        Self {
            connections: HashMap::new(),
            client: TlsClient::default(),
            common,
            listeners: Vec::new(),
            all_ended,
            security: HashMap::new(),
            refused: 0,
        }
    }

    /// Accepts connections from now on, with TLS where `tls` is given.
    pub(super) fn listen(&mut self, listener: TcpListener, tls: Option<Arc<TlsServer>>) {
        self.listeners.push(tokio::spawn(accept(listener, tls, self.common.clone())));
    }

    /// The number of what a TLS server must prove.
    pub(super) fn require(
        &mut self,
        name: &Host,
        settings: &TlsSettings,
    ) -> Result<TlsRequirement, TlsError> {
        let connections = &self.connections;
        self.client.require(name, settings, |number| connections.keys().any(|flow| flow.tls == number))
    }

    /// The same as it is.
    pub(super) fn requirement(
        &mut self,
        name: &Host,
        settings: &TlsSettings,
    ) -> Result<Arc<Requirement>, TlsError> {
        let number = self.require(name, settings)?;
        // It was just made, or found.
        let forgotten = || TlsError("what the server must prove is forgotten".to_owned());
        self.client.get(number).map(Arc::clone).ok_or_else(forgotten)
    }

    /// Sends a message on a flow's connection, which is made where there is none.
    pub(super) fn send(&mut self, flow: &Flow, bytes: &[u8]) -> Result<(), TransportError> {
        if !self.connections.contains_key(flow) {
            let connection = self.connect(*flow)?;
            self.connections.insert(*flow, connection);
        }
        let Some(connection) = self.connections.get(flow) else { return Err(TransportError::Closed) };
        if connection.outlet.send(bytes).is_err() {
            log::info!("the connection with {} is closed: it takes too little of what is sent", flow.remote);
            connection.task.abort();
            self.connections.remove(flow);
            return Err(TransportError::Closed);
        }
        Ok(())
    }

    /// Closes a connection when all is written.
    pub(super) fn close(&mut self, flow: &Flow) {
        self.connections.remove(flow);
    }

    /// Drops connections without a word to anybody.
    pub(super) fn abandon(&mut self, which: impl Fn(&Flow) -> bool) {
        self.connections.retain(|flow, connection| {
            let drops = which(flow);
            if drops {
                connection.task.abort();
            }
            !drops
        });
    }

    /// Drops a connection at once.
    pub(super) fn disconnect(&mut self, flow: &Flow) {
        if let Some(connection) = self.connections.remove(flow) {
            log::info!("the connection with {} is dropped: its far end is gone", flow.remote);
            connection.task.abort();
        }
    }

    /// Takes note of what a task told; answers with what the driver should hear.
    pub(super) fn handle(&mut self, event: Event) -> Option<Arrival> {
        match event {
            Event::Arrival(arrival) => Some(arrival),
            Event::Opened { flow, connection } => {
                self.connections.insert(flow, connection);
                None
            }
            Event::Ended { flow, id, error } => {
                // A newer connection may have taken its place.
                if self.connections.get(&flow).is_some_and(|connection| connection.id == id) {
                    self.connections.remove(&flow);
                    return error.map(|error| Arrival::Failed { flow, error });
                }
                None
            }
        }
    }

    /// How the connection of a flow is protected; `None` without a connection, or without TLS.
    pub(super) fn security(&mut self, flow: &Flow) -> Option<Security> {
        let connection = self.connections.get_mut(flow)?;
        if let Some(told) = &mut connection.security
            && let Ok(security) = told.try_recv()
        {
            self.security.insert(*flow, security);
        }
        let connections = &self.connections;
        self.security.retain(|flow, _| connections.contains_key(flow));
        self.security.get(flow).cloned()
    }

    /// Stops listening, lets each connection write what it has, and closes it.
    pub(super) async fn close_all(self) {
        let Self { connections, common, listeners, mut all_ended, .. } = self;
        listeners.iter().for_each(JoinHandle::abort);
        drop((connections, common));
        // Listeners that were aborted let go of their end too.
        let _ = timeout(CLOSE, all_ended.recv()).await;
    }

    fn connect(&mut self, flow: Flow) -> Result<Connection, TransportError> {
        let outbound = self.connections.iter().filter(|(_, there)| there.origin == Origin::Outbound);
        let network = limits::network(flow.remote.ip());
        let (mut all, mut to_one) = (0, 0);
        for (there, _) in outbound {
            all += 1;
            to_one += usize::from(limits::network(there.remote.ip()) == network);
        }
        if all >= MOST_OUTBOUND || to_one >= MOST_OUTBOUND_TO_ONE {
            // In a flood, each power of two is enough.
            self.refused += 1;
            if self.refused.is_power_of_two() {
                log::warn!(
                    "no connection is made with {}: there are {all} already, {to_one} of them with its network ({} \
                     refused so far)",
                    flow.remote,
                    self.refused
                );
            }
            return Err(TransportError::NoRoute);
        }
        let requirement = match flow.transport {
            Protocol::Udp => return Err(TransportError::NoRoute),
            Protocol::Tcp => None,
            // Who came to us by TLS and has gone cannot be called back: nothing says whose certificate to expect.
            Protocol::Tls => Some(Arc::clone(self.client.get(flow.tls).ok_or(TransportError::Closed)?)),
        };
        let link = self.common.link(flow, Origin::Outbound, requirement);
        let (outlet, inlet) = connection::queue();
        let id = link.id;
        let (tell, security) = oneshot::channel();
        let task = tokio::spawn(dial(link, inlet, tell)).abort_handle();
        Ok(Connection { id, outlet, task, origin: Origin::Outbound, security: Some(security) })
    }
}

impl Common {
    fn link(&self, flow: Flow, origin: Origin, requirement: Option<Arc<Requirement>>) -> Link {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        Link { flow, id, origin, requirement, common: self.clone(), heard: AtomicBool::new(false) }
    }
}

/// What the task of a connection knows of it.
struct Link {
    flow: Flow,
    id: u64,
    origin: Origin,
    requirement: Option<Arc<Requirement>>,
    common: Common,
    heard: AtomicBool,
}

impl Link {
    async fn tell(&self, event: Event) {
        // Nobody listens when the transport is gone.
        let _ = self.common.events.send(event).await;
    }

    async fn ended(&self, error: Option<TransportError>) {
        self.tell(Event::Ended { flow: self.flow, id: self.id, error }).await;
    }

    fn was_asked(&self) -> bool {
        self.requirement.as_ref().is_some_and(|requirement| requirement.was_asked())
    }

    /// A server that hangs up without a word, though it has asked for a certificate that we do not have, means that.
    fn understood(&self, error: TransportError) -> TransportError {
        let misses =
            |requirement: &Arc<Requirement>| requirement.was_asked() && !requirement.has_certificate();
        let heard = self.heard.load(Ordering::Relaxed);
        match error {
            TransportError::Closed if !heard && self.requirement.as_ref().is_some_and(misses) => {
                TransportError::ClientCertificate
            }
            error => error,
        }
    }
}

impl connection::Owner for Link {
    async fn message(&self, bytes: Vec<u8>) {
        self.heard.store(true, Ordering::Relaxed);
        self.tell(Event::Arrival(Arrival::Message { flow: self.flow, bytes })).await;
    }

    async fn pong(&self) {
        self.tell(Event::Arrival(Arrival::Pong { flow: self.flow })).await;
    }

    async fn idle(&self) {
        self.tell(Event::Arrival(Arrival::Idle { flow: self.flow })).await;
    }

    fn idle_limit(&self) -> Duration {
        match self.origin {
            Origin::Inbound => self.common.limits.idle(),
            Origin::Outbound => limits::IDLE,
        }
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TransportError> {
        // The handshake is over: what else is wrong with TLS now is a broken connection.
        tls::failure(error, self.was_asked()).filter(|error| *error != TransportError::Handshake)
    }
}

/// Makes a connection and serves it.
async fn dial(link: Link, inlet: Inlet, tell: oneshot::Sender<Security>) {
    let remote = link.flow.remote;
    let mut connecting = pin!(timeout(CONNECT, connect(&link)));
    let connected = match timeout(PATIENCE, &mut connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            // Nothing goes by TLS that could go otherwise.
            if link.flow.transport == Protocol::Tcp {
                link.tell(Event::Arrival(Arrival::Slow { flow: link.flow })).await;
            }
            connecting.await
        }
    };
    let connected = connected.unwrap_or(Err(Unconnected::TimedOut));
    let error = match connected {
        Ok(Connected::Plain(stream)) => connection::serve(stream, remote, link.origin, inlet, &link).await,
        Ok(Connected::Secured(stream, security)) => {
            log::info!(
                "{remote} is {}: {} {}{}",
                security.peer,
                security.version,
                security.cipher,
                if security.resumed { ", resumed" } else { "" }
            );
            // Nobody asks for it when the flow is closed already.
            let _ = tell.send(security);
            connection::serve(*stream, remote, link.origin, inlet, &link).await
        }
        Err(error) => {
            let (error, detail) = error.into_parts();
            log::info!("no connection with {remote} by {}: {error}{detail}", link.flow.transport.name());
            Some(error)
        }
    };
    link.ended(error.map(|error| link.understood(error))).await;
}

enum Connected {
    Plain(TcpStream),
    Secured(Box<tokio_rustls::client::TlsStream<TcpStream>>, Security),
}

/// Why a connection did not come about.
enum Unconnected {
    TimedOut,
    Tcp(io::Error),
    /// `asked`: the server had asked for our certificate.
    Tls {
        error: io::Error,
        asked: bool,
    },
}

impl Unconnected {
    /// What it means, and what the log says besides.
    fn into_parts(self) -> (TransportError, String) {
        match self {
            Self::TimedOut => (TransportError::TimedOut, String::new()),
            Self::Tcp(error) => {
                let meaning = match error.kind() {
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                        TransportError::Refused
                    }
                    io::ErrorKind::TimedOut => TransportError::TimedOut,
                    _ => TransportError::NoRoute,
                };
                (meaning, format!(" ({error})"))
            }
            Self::Tls { error, asked } => {
                let meaning = tls::failure(&error, asked).unwrap_or(TransportError::Handshake);
                (meaning, format!(" ({error})"))
            }
        }
    }
}

async fn connect(link: &Link) -> Result<Connected, Unconnected> {
    let Flow { local, remote, .. } = link.flow;
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(Unconnected::Tcp)?;
    socket.bind(SocketAddr::new(local.ip(), 0)).map_err(Unconnected::Tcp)?;
    let stream = socket.connect(remote).await.map_err(Unconnected::Tcp)?;
    prepare(&stream);
    let Some(requirement) = &link.requirement else { return Ok(Connected::Plain(stream)) };
    let connector = TlsConnector::from(Arc::clone(&requirement.config));
    match connector.connect(requirement.indication.clone(), stream).await {
        Ok(stream) => {
            let security = security(requirement, stream.get_ref().1);
            Ok(Connected::Secured(Box::new(stream), security))
        }
        Err(error) => Err(Unconnected::Tls { error, asked: requirement.was_asked() }),
    }
}

fn security(requirement: &Requirement, connection: &ClientConnection) -> Security {
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or_default();
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    Security {
        version: version.replace("TLSv1_", "TLSv1."),
        cipher: suite.unwrap_or_default().replace("TLS13_", "TLS_"),
        peer: requirement.name.to_string(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Opens a socket that connections come to.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a daemon that has just ended must not keep the next one from listening.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes connections one after the other; each is served, its handshake too, by a task of its own.
async fn accept(listener: TcpListener, tls: Option<Arc<TlsServer>>, common: Common) {
    let mut refused = 0_u64;
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("no connection can be accepted: {error}");
                sleep(REST).await;
                continue;
            }
        };
        let Some(room) = common.limits.admit(remote.ip()) else {
            // In a flood, each power of two is enough.
            refused += 1;
            if refused.is_power_of_two() {
                log::warn!(
                    "a connection from {remote} is refused: there are too many ({refused} refused so far)"
                );
            }
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        prepare(&stream);
        let transport = if tls.is_some() { Protocol::Tls } else { Protocol::Tcp };
        let flow = Flow { transport, local, remote, tls: TlsRequirement::default() };
        let (link, tls) = (common.link(flow, Origin::Inbound, None), tls.clone());
        tokio::spawn(async move {
            let _room = room;
            match tls {
                None => take(link, stream).await,
                Some(server) => match handshake(&link, &server, stream).await {
                    Ok(stream) => take(link, stream).await,
                    Err(why) => log::debug!("no TLS with {remote}: {why}"),
                },
            }
        });
    }
}

async fn handshake(
    link: &Link,
    server: &TlsServer,
    stream: TcpStream,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, String> {
    let room = link.common.limits.admit_handshake(link.flow.remote.ip());
    let Some(_room) = room else { return Err("too many handshakes are under way".to_owned()) };
    let acceptor = TlsAcceptor::from(Arc::clone(&server.config));
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the handshake takes too long".to_owned()),
    }
}

/// Serves a connection that came.
async fn take<S>(link: Link, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let (outlet, inlet) = connection::queue();
    let Link { flow, id, origin, .. } = link;
    let events = link.common.events.clone();
    // Told before anything that comes on it.
    let (begin, begun) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        if begun.await.is_ok() {
            let error = connection::serve(stream, flow.remote, link.origin, inlet, &link).await;
            link.ended(error).await;
        }
    });
    let connection = Connection { id, outlet, task: task.abort_handle(), origin, security: None };
    if events.send(Event::Opened { flow, connection }).await.is_ok() {
        let _ = begin.send(());
    }
    // The room that it takes is free again when it has ended.
    let _ = task.await;
}

fn prepare(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    let prepared = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&probes))
        .and_then(|()| socket.set_tcp_user_timeout(Some(connection::STALLED)));
    if let Err(error) = prepared {
        log::debug!("a connection cannot be prepared: {error}");
    }
}
