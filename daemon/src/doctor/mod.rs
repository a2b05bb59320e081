//! What works and what does not, in plain words, with what to do about it: `org.voipd.Manager1.Diagnose`. The judgement
//! is made of facts that others have gathered; it changes nothing.

mod clock;
mod judge;
mod nat;
mod neighbours;
mod router;
mod servers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use voipd_agent::AccountView;
use voipd_sip::endpoint::Flow;

use crate::api::nat::NatView;
use crate::api::{AudioView, DeviceView};
use crate::config::{self, Scope};
use crate::neighbours::{self as mdns, Health};
use crate::tls::Requirement;
use crate::transport::Resolver;

pub use router::RouterFacts;
pub use servers::server_of;

/// How long one look at something may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// Most accounts whose servers are looked at; more would be a load test.
const MOST_ACCOUNTS: usize = 16;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is: `realtime`, `sound.input`, `account.home`, …
    pub id: String,
    /// How it is.
    pub state: CheckState,
    /// How it is, in words.
    pub sentence: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// It could not be looked at, or need not.
    Skipped,
    /// It works.
    Ok,
    /// It works, and could work better.
    Warning,
    /// It does not work.
    Failed,
}

impl CheckState {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl Check {
    fn new(
        id: impl Into<String>,
        state: CheckState,
        sentence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { id: id.into(), state, sentence: sentence.into(), remedy: remedy.into() }
    }

    fn ok(id: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self::new(id, CheckState::Ok, sentence, "")
    }

    fn skipped(id: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self::new(id, CheckState::Skipped, sentence, "")
    }

    fn warning(id: impl Into<String>, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(id, CheckState::Warning, sentence, remedy)
    }

    fn failed(id: impl Into<String>, sentence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(id, CheckState::Failed, sentence, remedy)
    }
}

/// Where the configuration came from.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// The file that was named on the command line.
    pub named: Option<PathBuf>,
    /// For whom the daemon runs.
    pub scope: Scope,
    /// When it was read.
    pub read_at: SystemTime,
}

/// An account with what is to be known to look at its servers.
pub struct Patient {
    /// As front ends see it.
    pub view: AccountView,
    /// By which way it is registered.
    pub registered_on: Option<Flow>,
    /// What its server must prove over TLS, where it could be asked to.
    pub tls: Option<Arc<Requirement>>,
}

/// What the driver knows by itself.
pub struct Facts {
    /// Sound and scheduling.
    pub audio: AudioView,
    /// All accounts.
    pub accounts: Vec<Patient>,
    /// The way through NAT.
    pub nat: NatView,
    /// What the router says of itself, as soon as it has been asked.
    pub router: oneshot::Receiver<RouterFacts>,
    /// How telephones of the local network find each other.
    pub neighbours: Health,
    /// Where the configuration came from.
    pub config: ConfigSource,
    /// Finds servers.
    pub resolver: Arc<Resolver>,
    /// From which random values are drawn.
    pub seed: [u8; 32],
}

/// Looks at everything, all at once: it takes as long as its slowest part, 9 s at most.
pub async fn examine(facts: Facts, devices: impl Future<Output = Vec<DeviceView>>) -> Vec<Check> {
    let Facts { audio, accounts, nat, router, neighbours, config, resolver, seed } = facts;
    let scope = config.scope;
    let looks = tokio::task::spawn_blocking(move || {
        let loaded = config::load(config.named.as_deref(), scope);
        (judge::configuration(&config.named, scope, loaded, config.read_at), clock::look())
    });
    let servers = accounts.iter().take(MOST_ACCOUNTS).enumerate().map(|(index, patient)| {
        let mut seed = seed;
        seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
        servers::examine(&resolver, patient, seed)
    });
    let announced = neighbours.announced.is_some();
    let found = async {
        match announced {
            true => Some(mdns::answers(u16::from_be_bytes([seed[30], seed[31]])).await),
            false => None,
        }
    };
    let (looks, devices, servers, router, found) =
        tokio::join!(looks, tokio::time::timeout(PATIENCE, devices), join_all(servers), router, found);
    let mut checks = Vec::new();
    let clock = match looks {
        Ok((configuration, clock)) => {
            checks.push(configuration);
            Some(clock)
        }
        Err(_) => None,
    };
    checks.push(judge::realtime(&audio));
    checks.extend(judge::sound(&audio, devices.ok().as_deref(), scope));
    for (patient, of_server) in accounts.iter().zip(servers) {
        checks.push(judge::account(&patient.view));
        checks.extend(of_server);
    }
    checks.extend(nat::judge(&nat));
    // Without it, the driver is gone.
    checks.extend(router.iter().flat_map(|router| router::judge(router, &nat)));
    checks.push(neighbours::judge(&neighbours, found));
    checks.extend(clock.map(|clock| clock.judge()));
    checks
}
