//! Whom to ask for the public address: the configuration's servers, the accounts' own, and those that the accounts'
//! domains offer. It asks name servers, and nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::future::join_all;
use voipd_agent::ice_settings::{RelayTransport, StunServer};
use voipd_agent::{AccountId, AccountSettings, AccountView, view::AccountState};
use voipd_nat::stun::Source;
use voipd_sip::endpoint::{NextHop, Transport as Protocol};
use voipd_sip::uri::{Host, Uri};

use crate::transport::Resolver;

/// Most names that are looked up for a round. Those of the configuration come first.
const MOST_NAMES: usize = 32;

/// A place to look for servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As people know it.
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Host(Host, u16),
    /// Where the domain has servers, its SRV records say so (RFC 8489 section 8). Where it has none, it is not asked.
    Domain(String),
}

/// A wanted server with all its addresses, or why it has none.
pub(super) struct Found {
    pub(super) wanted: Wanted,
    pub(super) addresses: Result<Vec<SocketAddr>, String>,
}

/// All sources as they are now.
pub(super) struct Sources {
    configured: Vec<Wanted>,
    accounts: BTreeMap<AccountId, Vec<Wanted>>,
}

impl Sources {
    pub(super) fn new(configured: &[StunServer]) -> Self {
        let configured = configured.iter().map(|server| of_server(server, Source::Configuration)).collect();
        Self { configured, accounts: BTreeMap::new() }
    }

    /// An account as it is now; answers whether its servers are not those of before.
    pub(super) fn put_account(&mut self, view: &AccountView) -> bool {
        let wanted =
            if view.state == AccountState::Disabled { Vec::new() } else { of_account(&view.settings) };
        if self.accounts.get(&view.id).map_or(&[][..], Vec::as_slice) == wanted.as_slice() {
            return false;
        }
        self.accounts.insert(view.id, wanted);
        true
    }

    /// As above, of an account that is no more.
    pub(super) fn remove_account(&mut self, id: AccountId) -> bool {
        self.accounts.remove(&id).is_some_and(|wanted| !wanted.is_empty())
    }

    /// Each place once.
    pub(super) fn all(&self) -> Vec<Wanted> {
        let mut all: Vec<Wanted> = Vec::new();
        for wanted in self.configured.iter().chain(self.accounts.values().flatten()) {
            if all.len() < MOST_NAMES && !all.iter().any(|known| known.place == wanted.place) {
                all.push(wanted.clone());
            }
        }
        all
    }
}

fn of_server(server: &StunServer, source: Source) -> Wanted {
    Wanted { name: server.to_string(), source, place: Place::Host(server.host(), server.port) }
}

fn of_account(settings: &AccountSettings) -> Vec<Wanted> {
    let source = || Source::Account(settings.name.clone());
    let stun = settings.ice.stun.iter().map(|server| of_server(server, source()));
    // A relay is a STUN server too (RFC 8656 section 1).
    let relays = settings.ice.relays.iter().filter(|relay| relay.transport == RelayTransport::Udp);
    let relays = relays.map(|relay| Wanted {
        name: relay.to_string(),
        source: source(),
        place: Place::Host(relay.host(), relay.port),
    });
    let domain = match &settings.address {
        Some(Uri::Sip(uri)) => match &uri.host {
            Host::Name(name) => Some(name.to_ascii_lowercase()),
            Host::Ip(_) => None,
        },
        _ => None,
    };
    let domain = domain.map(|domain| Wanted {
        name: format!("stun:{domain}"),
        source: source(),
        place: Place::Domain(domain),
    });
    stun.chain(relays).chain(domain).collect()
}

/// Looks up all names at once. Domains without servers are left out.
pub(super) async fn find(resolver: &Resolver, wanted: Vec<Wanted>) -> Vec<Found> {
    let found = join_all(wanted.into_iter().map(|wanted| async move {
        let addresses = match &wanted.place {
            Place::Host(host, port) => {
                let next_hop = NextHop {
                    host: host.clone(),
                    port: Some(*port),
                    transport: Some(Protocol::Udp),
                    secure: false,
                };
                let places = resolver.resolve(&next_hop).await;
                places
                    .map(|places| places.into_iter().map(|place| place.remote).collect())
                    .map_err(|error| format!("cannot be found: {error}"))
            }
            Place::Domain(domain) => {
                let servers = resolver.service(["_stun", "_udp"], domain).await;
                if servers.is_empty() {
                    return None;
                }
                Ok(servers)
            }
        };
        Some(Found { wanted, addresses })
    }));
    found.await.into_iter().flatten().collect()
}
