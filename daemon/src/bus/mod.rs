//! The daemon on D-Bus. It translates between messages and [`Request`]s and [`Update`]s, and decides nothing about
//! calls.
//!
//! One task does everything, in one order, and holds no lock: it takes method calls and hands them on to the driver,
//! and it writes what the driver tells (`InterfacesAdded`, replies, changes, signals, `InterfacesRemoved`) in the order
//! in which it was told. An answer that has not come yet holds up nothing else. zbus's object server is not used: it
//! holds its tree locked while a property is read, so that a property that asks the driver and a writer that adds an
//! object wait for each other; and its setters send change signals of their own.

mod account;
mod activity;
mod audio;
mod call;
mod call_ports;
mod conference;
mod dispatch;
mod friends;
mod manager;
mod mappings;
mod nat;
mod options;
mod outcome;
mod server;
mod speakers;
mod statistics;
mod tree;
mod watch;

use std::time::Duration;

use tokio::sync::{mpsc, watch as cell};
use tokio::task::JoinHandle;
use voipd_dbus::names::BUS_NAME;
use zbus::MessageStream;
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, RequestNameFlags, RequestNameReply};

use crate::api::{Request, Update};
use crate::config::Scope;
use server::Server;
use tree::Tree;

/// How long a closing connection may take to write what is still to be told.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the daemon is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no bus, or it does not let us in.
    #[error("cannot reach the {scope} bus: {error}; {}", remedy(*scope))]
    Unreachable {
        /// Which bus.
        scope: Scope,
        /// What zbus says.
        error: zbus::Error,
    },
    /// Somebody owns the name.
    #[error("another voipd serves the {0} bus already (it owns the name org.voipd); stop that one first")]
    NameTaken(Scope),
    /// The bus's policy does not let us have the name.
    #[error("the {scope} bus does not let this user own the name org.voipd: {error}; {}", remedy(*scope))]
    Refused {
        /// Which bus.
        scope: Scope,
        /// What the bus says.
        error: zbus::Error,
    },
    /// The connection is gone.
    #[error("the connection to the bus is lost")]
    Lost,
}

fn remedy(scope: Scope) -> &'static str {
    match scope {
        Scope::System => "is dbus running and org.voipd.conf installed in /usr/share/dbus-1/system.d?",
        Scope::Session => "start voipd from within a session, where DBUS_SESSION_BUS_ADDRESS is set",
    }
}

/// The daemon's place on the bus.
#[derive(Debug)]
pub struct Bus {
    lost: cell::Receiver<bool>,
    task: JoinHandle<()>,
}

/// Connects to the bus of `scope`, takes the name `org.voipd` and serves until the sender of `updates` is dropped.
pub async fn connect(
    scope: Scope,
    do_not_disturb: bool,
    requests: mpsc::Sender<Request>,
    updates: mpsc::UnboundedReceiver<Update>,
) -> Result<Bus, BusError> {
    let builder = match scope {
        Scope::System => Builder::system(),
        Scope::Session => Builder::session(),
    };
    serve(builder, scope, do_not_disturb, requests, updates).await
}

/// As [`connect`], on the bus at a D-Bus address such as `unix:path=/tmp/bus`.
pub async fn connect_at(
    address: &str,
    scope: Scope,
    do_not_disturb: bool,
    requests: mpsc::Sender<Request>,
    updates: mpsc::UnboundedReceiver<Update>,
) -> Result<Bus, BusError> {
    serve(Builder::address(address), scope, do_not_disturb, requests, updates).await
}

async fn serve(
    builder: Builder<'_>,
    scope: Scope,
    do_not_disturb: bool,
    requests: mpsc::Sender<Request>,
    updates: mpsc::UnboundedReceiver<Update>,
) -> Result<Bus, BusError> {
    let unreachable = |error| BusError::Unreachable { scope, error };
    let connection = builder.build().await.map_err(unreachable)?;
    // The stream is there before the name is ours: no call is missed.
    let calls = MessageStream::from(&connection);
    let dbus = DBusProxy::new(&connection).await.map_err(unreachable)?;
    let name = BUS_NAME.try_into().map_err(|error: zbus::Error| unreachable(error))?;
    match dbus.request_name(name, RequestNameFlags::DO_NOT_QUEUE).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => {}
        Ok(RequestNameReply::Exists | RequestNameReply::InQueue) => return Err(BusError::NameTaken(scope)),
        Err(error) => return Err(BusError::Refused { scope, error: error.into() }),
    }
    let (tell_lost, lost) = cell::channel(false);
    let server = Server::new(connection, calls, Tree::new(scope, do_not_disturb), requests, updates);
    // Unconstrained: tokio's cooperative budget would make an answer that is there look as if it were not, and what
    // happened after it would be written before it.
    let task = tokio::spawn(tokio::task::unconstrained(async move {
        if let Err(error) = server.run().await {
            log::debug!("the bus: {error}");
            let _ = tell_lost.send(true);
            // `lost` is told for as long as anyone listens.
            tell_lost.closed().await;
        }
    }));
    Ok(Bus { lost, task })
}

impl Bus {
    /// Ready when the connection to the bus is lost; never otherwise.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost).await.is_err() {
            // The server has ended in good order.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until all updates are on the bus, and leaves it. Their sender must be gone.
    pub async fn close(self) {
        drop(self.lost);
        if tokio::time::timeout(CLOSING, self.task).await.is_err() {
            log::warn!("the bus did not take the last messages in time");
        }
    }
}
