//! STUN servers and relays of all accounts: where they are, how far away, and which a call takes. It asks nobody itself:
//! names are resolved and round trips measured by whoever drives the agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_nat::turn::{RelayServer, RelayTransport};
use voipd_sip::uri::Host;

use crate::account::AccountId;
use crate::agent::Agent;
use crate::ice_settings::{IcePolicy, IceSettings, Lent, MAX_SERVERS};
use crate::output::{Output, Weight};

/// How long what is known of a server holds.
const FRESH: Duration = Duration::from_secs(300);
/// How soon a server that was not found, or did not answer, is asked again.
const AGAIN: Duration = Duration::from_secs(60);
/// How long an answer may take.
const GIVE_UP: Duration = Duration::from_secs(15);
/// What stands for the round trip to a relay that has not been measured yet.
const UNMEASURED: Duration = Duration::from_millis(150);
/// Most relays that one call takes.
const TAKEN: usize = 2;

/// A server, in questions about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(u64);

impl ServerId {
    /// Never used twice.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A relay as front ends see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayView {
    /// `turn:HOST…` or `turns:HOST…`.
    pub uri: String,
    /// How it fares.
    pub state: RelayState,
    /// To it and back, as last measured.
    pub round_trip: Option<Duration>,
    /// The friend who lends it.
    pub friend: Option<String>,
}

/// How a relay fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// Nothing has come back from it yet.
    Unknown,
    /// It has answered.
    Reachable,
    /// It does not answer, or turns us away; why, for people to read.
    Failed(String),
}

/// Which server, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    host: String,
    port: u16,
    /// `None`: it is asked as a STUN server only.
    relay: Option<RelayTransport>,
}

struct Known {
    id: ServerId,
    host: Host,
    uri: String,
    addresses: Vec<IpAddr>,
    state: RelayState,
    round_trip: Option<Duration>,
    friend: Option<String>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    /// Nothing is under way; it is looked after anew then.
    Rest(Instant),
    /// Given up then.
    Asked(Instant),
}

impl Step {
    fn due(self) -> Instant {
        match self {
            Step::Rest(at) | Step::Asked(at) => at,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Servers {
    last: u64,
    known: BTreeMap<Place, Known>,
    /// STUN servers that are everybody's.
    common: Vec<SocketAddr>,
    shown: Vec<RelayView>,
}

impl Servers {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.known.values().map(|known| known.step.due()).min()
    }

    /// Whether there is anything to ask for an account with these settings.
    pub(crate) fn has_any(&self, settings: &IceSettings) -> bool {
        settings.has_servers() || !self.common.is_empty()
    }

    /// Addresses of STUN servers that can be asked from sockets of these families (whether each is IPv4).
    pub(crate) fn stun_for(&self, settings: &IceSettings, families: &[bool]) -> Vec<SocketAddr> {
        let own = settings.stun.iter().flat_map(|server| {
            let place = Place { host: server.host.clone(), port: server.port, relay: None };
            let of = |ipv4| families.contains(&ipv4).then(|| self.address(&place, ipv4)).flatten();
            [of(true), of(false)].into_iter().flatten()
        });
        let common = self.common.iter().copied().filter(|server| families.contains(&server.is_ipv4()));
        let mut all: Vec<SocketAddr> = Vec::new();
        for server in own.chain(common) {
            if !all.contains(&server) {
                all.push(server);
            }
        }
        all
    }

    /// The relays that a call takes, the nearest first. Connections are worth their cost only where no relay is known to
    /// answer by UDP. `families`: of the sockets (whether each is IPv4), the most liked first.
    pub(crate) fn relays_for(&self, settings: &IceSettings, families: &[bool]) -> Vec<RelayServer> {
        let mut found: Vec<(&Known, RelayServer)> = Vec::new();
        for (relay, login, _) in settings.all_relays() {
            let Some(login) = login else { continue };
            let place = relay_place(relay);
            let address = match relay.transport {
                RelayTransport::Udp => families.iter().find_map(|ipv4| self.address(&place, *ipv4)),
                // A connection does not begin at the media's socket.
                RelayTransport::Tcp | RelayTransport::Tls => {
                    let first = families.first().copied().unwrap_or(true);
                    self.address(&place, first).or_else(|| self.address(&place, !first))
                }
            };
            let (Some(address), Some(known)) = (address, self.known.get(&place)) else { continue };
            let server = RelayServer {
                name: relay.host.clone(),
                address,
                transport: relay.transport,
                username: login.user.clone(),
                password: login.password.expose().to_owned(),
            };
            found.push((known, server));
        }
        found.sort_by_key(|(known, _)| {
            (matches!(known.state, RelayState::Failed(_)), known.round_trip.unwrap_or(UNMEASURED))
        });
        let by_udp = |(known, server): &(&Known, RelayServer)| {
            server.transport == RelayTransport::Udp && known.state == RelayState::Reachable
        };
        if found.iter().any(by_udp) {
            found.retain(|(_, server)| server.transport == RelayTransport::Udp);
        } else if let Some(by_connection) =
            found.iter().position(|(_, server)| server.transport != RelayTransport::Udp)
            && by_connection >= TAKEN
        {
            // Where UDP is blocked, nothing else goes through.
            found.swap(by_connection, TAKEN - 1);
        }
        found.into_iter().take(TAKEN).map(|(_, server)| server).collect()
    }

    fn address(&self, place: &Place, ipv4: bool) -> Option<SocketAddr> {
        let known = self.known.get(place)?;
        let ip = known.addresses.iter().find(|ip| ip.is_ipv4() == ipv4)?;
        Some(SocketAddr::new(*ip, place.port))
    }

    /// All relays, by their addresses.
    fn relays(&self) -> Vec<RelayView> {
        let relays = self.known.iter().filter(|(place, _)| place.relay.is_some());
        let view = |(_, known): (&Place, &Known)| RelayView {
            uri: known.uri.clone(),
            state: known.state.clone(),
            round_trip: known.round_trip,
            friend: known.friend.clone(),
        };
        relays.map(view).collect()
    }

    fn of(&mut self, id: ServerId) -> Option<(&Place, &mut Known)> {
        self.known.iter_mut().find(|(_, known)| known.id == id)
    }
}

fn relay_place(relay: &crate::ice_settings::Relay) -> Place {
    Place { host: relay.host.clone(), port: relay.port, relay: Some(relay.transport) }
}

impl Agent {
    /// Addresses of STUN servers that serve all accounts besides their own.
    pub fn set_stun_servers(&mut self, addresses: Vec<SocketAddr>) {
        self.servers.common = addresses;
    }

    /// The answer to [`Output::ResolveServer`]: all addresses of the name, best first, or a sentence for the log.
    pub fn handle_server_resolved(
        &mut self,
        now: Instant,
        id: ServerId,
        result: Result<Vec<IpAddr>, String>,
    ) {
        self.server_resolved(now, id, result);
        self.settle(now);
    }

    /// The answer to [`Output::MeasureRelay`]: the time of one round trip, or a sentence that says why there is none.
    pub fn handle_relay_measured(&mut self, now: Instant, id: ServerId, result: Result<Duration, String>) {
        if let Some((_, known)) = self.servers.of(id) {
            let failed = result.is_err();
            (known.state, known.round_trip) = match result {
                Ok(round_trip) => (RelayState::Reachable, Some(round_trip)),
                Err(why) => (RelayState::Failed(why), known.round_trip),
            };
            known.step = Step::Rest(now + if failed { AGAIN } else { FRESH });
            self.show_relays();
        }
        self.settle(now);
    }

    /// Relays that an account's own server lends it, its own and friends', and what opens them for a while: they are taken
    /// where the configuration names none, in place of those that were lent before.
    pub fn lend_relays(&mut self, now: Instant, id: AccountId, mut lent: Lent) {
        lent.relays.truncate(MAX_SERVERS);
        lent.of_friends.truncate(MAX_SERVERS);
        if self.accounts.lend_relays(id, lent) {
            self.account_changed(id);
            self.review_servers(now);
            self.settle(now);
        }
    }

    /// Which servers the accounts name has changed.
    pub(crate) fn review_servers(&mut self, now: Instant) {
        let mut wanted: Vec<(Place, Host, String, Option<String>)> = Vec::new();
        for (_, account) in self.accounts.iter() {
            let ice = &account.settings.ice;
            if !account.settings.enabled || ice.policy == IcePolicy::Off {
                continue;
            }
            wanted.extend(ice.stun.iter().map(|server| {
                let place = Place { host: server.host.clone(), port: server.port, relay: None };
                (place, server.host(), server.to_string(), None)
            }));
            wanted.extend(ice.all_relays().map(|(relay, _, friend)| {
                (relay_place(relay), relay.host(), relay.to_string(), friend.map(str::to_owned))
            }));
        }
        let trickles = self
            .accounts
            .iter()
            .any(|(_, account)| account.settings.enabled && account.settings.ice.policy != IcePolicy::Off);
        self.endpoint.announce_trickle(trickles);
        let servers = &mut self.servers;
        servers.known.retain(|place, _| wanted.iter().any(|(wanted, ..)| wanted == place));
        for (place, host, uri, friend) in wanted {
            if let Some(known) = servers.known.get_mut(&place) {
                known.friend = friend;
                continue;
            }
            servers.last += 1;
            let known = Known {
                id: ServerId(servers.last),
                host,
                uri,
                addresses: Vec::new(),
                state: RelayState::Unknown,
                round_trip: None,
                friend,
                step: Step::Rest(now),
            };
            servers.known.insert(place, known);
        }
        self.server_timeouts(now);
        self.show_relays();
    }

    pub(crate) fn server_timeouts(&mut self, now: Instant) {
        let mut literal = Vec::new();
        for known in self.servers.known.values_mut().filter(|known| known.step.due() <= now) {
            if matches!(known.step, Step::Asked(_)) {
                known.step = Step::Rest(now + AGAIN);
                continue;
            }
            known.step = Step::Asked(now + GIVE_UP);
            match &known.host {
                Host::Ip(ip) => literal.push((known.id, *ip)),
                Host::Name(name) => {
                    self.outputs.push_back(Output::ResolveServer { id: known.id, name: name.clone() });
                }
            }
        }
        for (id, ip) in literal {
            self.server_resolved(now, id, Ok(vec![ip]));
        }
    }

    fn server_resolved(&mut self, now: Instant, id: ServerId, result: Result<Vec<IpAddr>, String>) {
        let Some((place, known)) = self.servers.of(id) else { return };
        match result {
            Ok(addresses) if !addresses.is_empty() => {
                known.addresses = addresses.into_iter().map(|ip| ip.to_canonical()).collect();
                let first = known.addresses.first().copied();
                match (place.relay, first) {
                    (Some(transport), Some(ip)) => {
                        let address = SocketAddr::new(ip, place.port);
                        known.step = Step::Asked(now + GIVE_UP);
                        self.outputs.push_back(Output::MeasureRelay { id, address, transport });
                    }
                    _ => known.step = Step::Rest(now + FRESH),
                }
            }
            failed => {
                let why = failed.err().unwrap_or_else(|| "the name has no address".to_owned());
                // Addresses that were good may still be.
                known.step = Step::Rest(now + AGAIN);
                let text = format!("{}: {why}", known.uri);
                let new = known.state != RelayState::Failed(why.clone());
                known.state = RelayState::Failed(why);
                if new {
                    self.note(Weight::Warning, None, text);
                }
                self.show_relays();
            }
        }
    }

    /// A call has found that a relay does not work.
    pub(crate) fn relay_failed(&mut self, now: Instant, name: &str, why: &str) {
        let relays = self.servers.known.iter_mut().filter(|(place, _)| place.relay.is_some());
        for (_, known) in relays.filter(|(place, _)| place.host == name) {
            known.state = RelayState::Failed(why.to_owned());
            known.step = Step::Rest(now + AGAIN);
        }
        self.show_relays();
    }

    fn show_relays(&mut self) {
        let relays = self.servers.relays();
        if relays != self.servers.shown {
            self.servers.shown.clone_from(&relays);
            self.outputs.push_back(Output::RelaysChanged(relays));
        }
    }
}
