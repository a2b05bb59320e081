//! Connections with TURN servers over TCP and TLS: made and closed on the agent's wish, each served by a task of its own.
//! Media goes through rings between the task and the real-time thread, all else through the driver. It knows nothing of
//! TURN but where a message ends.

mod connection;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use voipd_agent::view::CallId;
use voipd_audio::engine::{RelayEnds, RelayPort, relay_rings};
use voipd_nat::ice::StreamId;
use voipd_nat::turn::{RelayServer, RelayTransport};

use crate::tls::Requirement;

/// Messages that wait for the driver; a connection that brings more waits.
const EVENTS: usize = 256;
/// Messages that wait to be sent by one connection; more are dropped, as the network might have done.
const ORDERS: usize = 64;
/// Connections that there may be.
const CONNECTIONS: usize = 256;

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayEvent {
    /// Whose it is.
    pub call: CallId,
    /// Which of the call's.
    pub stream: StreamId,
    /// What happened.
    pub happened: RelayHappened,
}

/// See [`RelayEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayHappened {
    /// It stands.
    Opened,
    /// A whole message came that is not media.
    Message(Vec<u8>),
    /// It could not be made, or is over, though nobody here wanted that; why, for people to read.
    Closed(String),
}

/// All connections with relays.
pub struct Relays {
    connections: BTreeMap<(CallId, StreamId), Connection>,
    events: mpsc::Sender<RelayEvent>,
}

/// Dropped, it lets its task send what waits, and close.
struct Connection {
    orders: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What a connection's task has in common with the driver.
struct Shared {
    /// Something may wait in the ring.
    kick: Notify,
    media: Mutex<Option<RelayEnds>>,
}

impl Shared {
    /// Both sides run on the driver's thread: nobody ever waits here.
    fn with_media<T>(&self, act: impl FnOnce(&mut Option<RelayEnds>) -> T) -> T {
        act(&mut self.media.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Relays {
    /// The second value gives what happens to connections.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<RelayEvent>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Relays { connections: BTreeMap::new(), events }, receiver)
    }

    /// Connects to a relay; within 4 s an event tells how that went. `tls`: what the server must prove; needed where the
    /// relay is reached by TLS, and of no meaning elsewhere.
    pub fn open(
        &mut self,
        call: CallId,
        stream: StreamId,
        server: &RelayServer,
        tls: Option<Arc<Requirement>>,
    ) {
        let refusal = match server.transport {
            RelayTransport::Udp => Some("a relay reached by UDP needs no connection"),
            RelayTransport::Tls if tls.is_none() => {
                Some("it is not known what the relay's certificate must prove")
            }
            _ if self.connections.len() >= CONNECTIONS => Some("there are too many connections with relays"),
            RelayTransport::Tcp | RelayTransport::Tls => None,
        };
        if let Some(reason) = refusal {
            let happened = RelayHappened::Closed(reason.to_owned());
            let _ = self.events.try_send(RelayEvent { call, stream, happened });
            return;
        }
        let (orders, inlet) = mpsc::channel(ORDERS);
        let shared = Arc::new(Shared { kick: Notify::new(), media: Mutex::new(None) });
        let requirement = tls.filter(|_| server.transport == RelayTransport::Tls);
        let outlet = connection::Outlet { call, stream, events: self.events.clone() };
        let task = connection::run(server.address, requirement, inlet, Arc::clone(&shared), outlet);
        let task = tokio::spawn(task).abort_handle();
        self.connections.insert((call, stream), Connection { orders, shared, task });
    }

    /// Sends a message; it is padded as streams want it.
    pub fn send(&self, call: CallId, stream: StreamId, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get(&(call, stream))
            && connection.orders.try_send(bytes).is_err()
        {
            log::debug!(call = call.0; "a message to a relay is dropped: the connection takes too little");
        }
    }

    /// Makes the rings of a connection's media, for [`voipd_audio::engine::Controller::attach_relay`]; those that were
    /// are of no use any more. `None`: there is no such connection.
    pub fn attach(&mut self, call: CallId, stream: StreamId) -> Option<RelayPort> {
        let connection = self.connections.get(&(call, stream))?;
        let (port, ends) = relay_rings();
        connection.shared.with_media(|media| *media = Some(ends));
        Some(port)
    }

    /// The real-time thread may have sent something: to be called after each wake of the engine.
    pub fn kick(&self) {
        for connection in self.connections.values() {
            connection.shared.kick.notify_one();
        }
    }

    /// Takes note of an event before it goes to the agent.
    pub fn note(&mut self, event: &RelayEvent) {
        if matches!(event.happened, RelayHappened::Closed(_)) {
            self.connections.remove(&(event.call, event.stream));
        }
    }

    /// Closes a connection when all that waits is sent.
    pub fn close(&mut self, call: CallId, stream: StreamId) {
        self.connections.remove(&(call, stream));
    }

    /// Closes all connections of a call.
    pub fn close_call(&mut self, call: CallId) {
        self.connections.retain(|(of, _), _| *of != call);
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        for connection in self.connections.values() {
            connection.task.abort();
        }
    }
}
