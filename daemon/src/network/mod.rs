//! The network as the system tells of it: addresses, links and routes (netlink), and sleep (logind and the clocks). It
//! knows no call and no account.

mod beside;
mod netlink;
mod sleep;
mod snapshot;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use snapshot::{Address, AddressState, DefaultRoute, Interface, NetworkState, Snapshot};

/// What the watchers tell. Each says everything that is new: there is no use in many that wait.
const QUEUE: usize = 8;

/// What has happened to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkEvent {
    /// Addresses, links or routes are others than before.
    Changed(Snapshot),
    /// The system is going to sleep.
    Suspending,
    /// The system has slept: connections and mappings may be over, and whoever we talked to may have given up.
    Resumed,
}

/// Watches the network until it is dropped.
pub struct NetworkWatch {
    events: mpsc::Receiver<NetworkEvent>,
    tasks: [JoinHandle<()>; 2],
}

impl NetworkWatch {
    /// What the network is now, and the watch on what becomes of it. Where the system tells nothing, nothing is ever
    /// told, and the log says why.
    pub async fn start() -> (Snapshot, Self) {
        let (sender, events) = mpsc::channel(QUEUE);
        let (first, watching) = netlink::watch(sender.clone()).await;
        let sleeping = tokio::spawn(sleep::watch(sender));
        (first, Self { events, tasks: [watching, sleeping] })
    }

    /// The next thing that happens.
    pub async fn next(&mut self) -> NetworkEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

impl Drop for NetworkWatch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
