//! Neighbours: telephones of the local network found by multicast DNS (RFC 6762) and DNS-SD (RFC 6763), and our own
//! announcement to them. It believes nothing that they say but their name and an address of the own network.

mod responder;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::mpsc;
use voipd_agent::Neighbour;

pub use responder::answers;
use table::Table;

/// RFC 3261's service name in DNS (RFC 3263), in the domain of the local network.
const SERVICE: &str = "_sip._udp.local.";
/// How long a stop waits for the goodbye to go out.
const GOODBYE: Duration = Duration::from_millis(500);

/// What `[direct]` says about neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// The name to announce ourselves by; `None`: not at all.
    pub announce: Option<String>,
    /// Others are looked for.
    pub discover: bool,
}

/// How the announcement and the search fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What was asked for.
    pub config: NeighbourConfig,
    /// The name that the network knows us by, where we are announced.
    pub announced: Option<String>,
    /// How many others are known.
    pub known: usize,
    /// Why it does not work at all.
    pub failure: Option<String>,
}

/// What is known of it, shared with who looks.
pub type SharedHealth = Arc<Mutex<Health>>;

fn note(health: &SharedHealth, change: impl FnOnce(&mut Health)) {
    change(&mut health.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A running announcement and search; it ends with [`Neighbours::stop`].
pub struct Neighbours {
    daemon: ServiceDaemon,
    /// Full name of our own announcement.
    announced: Option<String>,
}

impl Neighbours {
    /// Announces and searches as the configuration says; `port` is where SIP over UDP is taken, `id` makes our host's name
    /// unique. What is found goes to `found`, whole, whenever it changes. `None` where nothing is wanted, or possible.
    pub fn start(
        config: &NeighbourConfig,
        port: Option<u16>,
        id: u32,
        found: mpsc::UnboundedSender<Vec<Neighbour>>,
        health: &SharedHealth,
    ) -> Option<Self> {
        note(health, |health| health.config = config.clone());
        if config.announce.is_none() && !config.discover {
            return None;
        }
        match Self::try_start(config, port, id, found, health) {
            Ok(neighbours) => Some(neighbours),
            Err(error) => {
                log::warn!("neighbours cannot be found: {error}");
                note(health, |health| health.failure = Some(error.to_string()));
                None
            }
        }
    }

    fn try_start(
        config: &NeighbourConfig,
        port: Option<u16>,
        id: u32,
        found: mpsc::UnboundedSender<Vec<Neighbour>>,
        health: &SharedHealth,
    ) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        let mut announced = None;
        match (&config.announce, port) {
            (Some(name), Some(port)) => {
                let host = format!("voipd-{id:08x}.local.");
                let properties = [("txtvers", "1")];
                let info =
                    ServiceInfo::new(SERVICE, name, &host, "", port, &properties[..])?.enable_addr_auto();
                announced = Some(info.get_fullname().to_owned());
                daemon.register(info)?;
                note(health, |health| health.announced = Some(name.clone()));
                log::info!("announced to the local network as '{name}'");
            }
            (Some(_), None) => {
                let why = "SIP over UDP is not taken at any IPv4 address";
                log::warn!("nothing is announced: {why}");
                note(health, |health| health.failure = Some(why.to_owned()));
            }
            (None, _) => {}
        }
        let events = config.discover.then(|| daemon.browse(SERVICE)).transpose()?;
        let renamed = daemon.monitor()?;
        let own = announced.clone();
        let health = Arc::clone(health);
        tokio::spawn(async move {
            let mut table = Table::new(own);
            loop {
                let event = async {
                    match &events {
                        Some(events) => events.recv_async().await,
                        None => std::future::pending().await,
                    }
                };
                let changed = tokio::select! {
                    event = event => match event {
                        Ok(ServiceEvent::ServiceResolved(service)) => table.resolved(&service),
                        Ok(ServiceEvent::ServiceRemoved(_, name)) => table.removed(&name),
                        Ok(_) => false,
                        Err(_) => return,
                    },
                    event = renamed.recv_async() => match event {
                        Ok(DaemonEvent::NameChange(change)) => {
                            log::warn!(
                                "another telephone is called '{}': announced as '{}' instead",
                                table::printable(&change.original),
                                table::printable(&change.new_name)
                            );
                            let name = table::instance(&change.new_name);
                            note(&health, |health| health.announced = Some(name));
                            table.renamed(&change.original, change.new_name);
                            true
                        }
                        Ok(_) => false,
                        Err(_) => return,
                    },
                };
                if changed {
                    let neighbours = table.neighbours();
                    note(&health, |health| health.known = neighbours.len());
                    if found.send(neighbours).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { daemon, announced })
    }

    /// Says goodbye to the neighbours, so that they need not find out.
    pub async fn stop(self) {
        let goodbye = async {
            if let Some(name) = &self.announced
                && let Ok(done) = self.daemon.unregister(name)
            {
                let _ = done.recv_async().await;
            }
            if let Ok(done) = self.daemon.shutdown() {
                let _ = done.recv_async().await;
            }
        };
        // A network that is gone hears no goodbye.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}
