//! Next hops to places: which transport, which server, which address, and in which order (RFC 3263 section 4). It sends
//! no SIP.
//!
//! All questions about a domain are asked at once: its NAPTR records, the SRV records of each transport, and its own
//! addresses, which count only where there are no such records. Then follow the SRV records that NAPTR named elsewhere,
//! and the addresses of the servers: at most 5 + [`MAX_SERVICES`] + 2 · [`MAX_TARGETS`] questions, and
//! [`DEADLINE`] in all. What is known by then is used.

mod ask;
pub mod order;
mod service;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use voipd_sip::endpoint::{NextHop, ResolveError, Transport};
use voipd_sip::uri::Host;

use ask::{Asker, Silence};
use order::{Server, Service};

/// How long all questions about one next hop may take. A second more than the name servers have for a question.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long NAPTR and SRV records are waited for: some name servers in routers never answer such questions, and the
/// domain's addresses will do then.
const SERVICE_DEADLINE: Duration = Duration::from_secs(3);
/// Most services of NAPTR followed.
const MAX_SERVICES: usize = 4;
/// Most servers of SRV followed, over all services.
const MAX_TARGETS: usize = 8;
/// Most places answered with.
const MAX_PLACES: usize = 32;

/// What is taken where nothing says which (RFC 3263 section 4.1), most wanted first.
const PREFERENCE: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

/// Where a request can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What carries it.
    pub transport: Transport,
    /// To which socket.
    pub remote: SocketAddr,
}

/// What a [`Resolver`] goes by.
#[derive(Clone, Debug)]
pub struct ResolverSettings {
    /// The only name servers to ask; empty: the system's.
    pub name_servers: Vec<SocketAddr>,
    /// What this daemon can send by. Servers of other transports are passed over.
    pub transports: Vec<Transport>,
    /// Seeds the lots that are drawn among servers of one priority.
    pub seed: [u8; 32],
}

/// Finds places. Any number of questions can be under way at once; none waits for another.
pub struct Resolver {
    asker: Asker,
    transports: Vec<Transport>,
    rng: Mutex<ChaCha8Rng>,
}

/// Why a domain leads nowhere.
enum Nowhere {
    Silence(Silence),
    /// It says so itself, or offers only transports that we cannot use.
    NoService,
}

/// A service with its servers, or why it has none. An empty list: the domain says that there is no such service.
struct Group {
    service: Service,
    servers: Result<Vec<Server>, Silence>,
}

impl Resolver {
    /// Reads the system's configuration, and again whenever it has changed. A machine without one still resolves
    /// address literals, `localhost` and what stands in the hosts file.
    pub fn new(settings: ResolverSettings) -> Self {
        Self {
            asker: Asker::new(settings.name_servers),
            transports: settings.transports,
            rng: Mutex::new(ChaCha8Rng::from_seed(settings.seed)),
        }
    }

    /// Forgets what name servers have said: on another network they may say something else.
    pub fn network_changed(&self) {
        self.asker.forget();
    }

    /// All places of a next hop, best first: never empty.
    ///
    /// # Errors
    /// [`ResolveError`] tells a name that does not exist from name servers that fail and from those that say nothing.
    pub async fn resolve(&self, next_hop: &NextHop) -> Result<Vec<Place>, ResolveError> {
        let transport = self.default_transport(next_hop)?;
        let port = next_hop.port.unwrap_or(transport.default_port());
        let text = match &next_hop.host {
            Host::Ip(ip) => return Ok(places(transport, port, [*ip])),
            Host::Name(name) => name.as_str(),
        };
        if is_this_machine(text) {
            return Ok(places(transport, port, [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        let name = Name::from_ascii(text).map_err(|_| ResolveError::NoSuchHost(text.to_owned()))?;
        let until = Instant::now() + DEADLINE;
        // A name without dots is no domain but a host of this network, whose domain the system's search list knows.
        // What the hosts file or the local link knows is a host as well.
        let is_host = next_hop.port.is_some()
            || name.num_labels() < 2
            || ask::is_link_local(&name)
            || !self.asker.in_hosts_file(&name).is_empty();
        if is_host {
            let found = self.asker.addresses(&name, until).await.map_err(|why| complaint(why, text))?;
            return Ok(places(transport, port, in_turns(found)));
        }
        self.domain(next_hop, transport, &name, until).await.map_err(|why| match why {
            Nowhere::Silence(silence) => complaint(silence, text),
            Nowhere::NoService => ResolveError::NoService(text.to_owned()),
        })
    }

    /// What carries a request where no record says so: what the URI asks for, else what we like best.
    fn default_transport(&self, next_hop: &NextHop) -> Result<Transport, ResolveError> {
        let usable = |transport: &Transport| self.transports.contains(transport);
        let found = match wanted(next_hop) {
            Some(wanted) => Some(wanted).filter(usable),
            None => PREFERENCE.into_iter().find(usable),
        };
        found.ok_or_else(|| ResolveError::NoService(next_hop.host.to_string()))
    }

    /// The places of a domain.
    async fn domain(
        &self,
        next_hop: &NextHop,
        default: Transport,
        name: &Name,
        until: Instant,
    ) -> Result<Vec<Place>, Nowhere> {
        let mut domain = name.clone();
        domain.set_fqdn(true);
        let services_until = until - (DEADLINE - SERVICE_DEADLINE);
        let usual = self.usual(wanted(next_hop), default, &domain);
        let (offered, usual, own) = tokio::join!(
            self.offered(next_hop, &domain, services_until),
            join_all(usual.into_iter().map(|service| self.servers(service, services_until))),
            self.asker.addresses(name, until),
        );
        let offered = offered?;
        let fallback = offered.first().map_or(default, |service| service.transport);
        let groups = match offered.is_empty() {
            true => usual,
            false => self.servers_of(offered, usual, until).await,
        };
        if let Some(found) = self.follow(&groups, until).await? {
            return Ok(found);
        }
        // RFC 3263 section 4.2: without SRV records, the domain's name is that of its server.
        match own {
            Ok(own) => Ok(places(fallback, fallback.default_port(), in_turns(own))),
            Err(why) => {
                let others = groups.iter().filter_map(|group| group.servers.as_ref().err());
                Err(Nowhere::Silence(others.copied().fold(why, Silence::max)))
            }
        }
    }

    /// The services that are asked for where NAPTR names none.
    fn usual(&self, wanted: Option<Transport>, default: Transport, domain: &Name) -> Vec<Service> {
        let mut transports: Vec<Transport> = match wanted {
            Some(wanted) => vec![wanted],
            // RFC 3263 section 4.1: `_sip` for SIP URIs; TLS is for those who ask for it.
            None => {
                [Transport::Udp, Transport::Tcp].into_iter().filter(|t| self.transports.contains(t)).collect()
            }
        };
        if transports.is_empty() {
            transports.push(default);
        }
        let service = |transport| {
            let servers = service_name(transport).append_domain(domain).ok()?;
            Some(Service { order: 0, transport, servers })
        };
        transports.into_iter().filter_map(service).collect()
    }

    /// The services that NAPTR names and we can use (RFC 3263 section 4.1); none where the URI says the transport.
    async fn offered(
        &self,
        next_hop: &NextHop,
        domain: &Name,
        until: Instant,
    ) -> Result<Vec<Service>, Nowhere> {
        if next_hop.transport.is_some() {
            return Ok(Vec::new());
        }
        let pick = |data: &RData| match data {
            RData::NAPTR(naptr) => Some(naptr.clone()),
            _ => None,
        };
        // Name servers that cannot answer this may still know SRV records or addresses.
        let records = self.asker.records(domain, RecordType::NAPTR, until, pick).await.unwrap_or_default();
        let mut services = order::services(&records);
        let any = !services.is_empty();
        let fits = |transport| !next_hop.secure || transport == Transport::Tls;
        services.retain(|service| fits(service.transport) && self.transports.contains(&service.transport));
        services.truncate(MAX_SERVICES);
        // Nothing but TLS is ever tried for `sips:`, whatever else there is.
        if any && services.is_empty() && !next_hop.secure {
            return Err(Nowhere::NoService);
        }
        Ok(services)
    }

    /// Asks for the servers of `services`, unless they are `known` already.
    async fn servers_of(&self, services: Vec<Service>, known: Vec<Group>, until: Instant) -> Vec<Group> {
        let known = &known;
        join_all(services.into_iter().map(|service| async move {
            let same = |group: &&Group| group.service.servers == service.servers;
            match known.iter().find(same) {
                Some(group) => Group { service, servers: group.servers.clone() },
                None => self.servers(service, until).await,
            }
        }))
        .await
    }

    /// The servers of one service in the order of RFC 2782.
    async fn servers(&self, service: Service, until: Instant) -> Group {
        let pick = |data: &RData| match data {
            RData::SRV(srv) => Some(Server::of(srv)),
            _ => None,
        };
        let records = self.asker.records(&service.servers, RecordType::SRV, until, pick).await;
        let servers = records.map(|records| {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            let mut draw = |most: u32| draw(rng.next_u32(), most);
            order::order_servers(records.into_iter().flatten().collect(), &mut draw)
        });
        Group { service, servers }
    }

    /// The places of all servers; `None` where no service has SRV records.
    async fn follow(&self, groups: &[Group], until: Instant) -> Result<Option<Vec<Place>>, Nowhere> {
        if groups.iter().all(|group| group.servers.is_err()) {
            return Ok(None);
        }
        let mut targets: Vec<&Name> = Vec::new();
        for server in groups.iter().flat_map(|group| group.servers.iter().flatten()) {
            if targets.len() < MAX_TARGETS && !targets.contains(&&server.target) {
                targets.push(&server.target);
            }
        }
        let addresses = join_all(targets.iter().map(|target| self.asker.addresses(target, until))).await;
        let address_of = |server: &Server| {
            let index = targets.iter().position(|target| **target == server.target)?;
            addresses.get(index)?.clone().ok()
        };
        let mut found: Vec<Place> = Vec::new();
        let mut last: Option<&Service> = None;
        for Group { service, servers } in groups {
            // RFC 3403 section 4.1: the first order that leads somewhere is the only one. And who was led to TLS is not
            // led away from it.
            if last.is_some_and(|last| last.order < service.order || last.transport == Transport::Tls) {
                break;
            }
            let before = found.len();
            for server in servers.iter().flatten() {
                let addresses = address_of(server).unwrap_or_default();
                for place in places(service.transport, server.port, in_turns(addresses)) {
                    if !found.contains(&place) {
                        found.push(place);
                    }
                }
            }
            if found.len() > before {
                last = Some(service);
            }
        }
        found.truncate(MAX_PLACES);
        match (found.is_empty(), addresses.iter().filter_map(|found| found.as_ref().err()).max()) {
            (false, _) => Ok(Some(found)),
            (true, Some(why)) => Err(Nowhere::Silence(*why)),
            (true, None) => Err(Nowhere::NoService),
        }
    }
}

/// What the URI asks for: `sips:` TLS, whatever else it says.
fn wanted(next_hop: &NextHop) -> Option<Transport> {
    if next_hop.secure { Some(Transport::Tls) } else { next_hop.transport }
}

fn places(transport: Transport, port: u16, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Place> {
    let at = |ip| Place { transport, remote: SocketAddr::new(ip, port) };
    addresses.into_iter().map(at).collect()
}

fn in_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    order::take_turns(addresses, |address| super::local_ip_towards_ip(address).is_some())
}

/// RFC 3263 section 4.1.
fn service_name(transport: Transport) -> Name {
    let labels: [&[u8]; 2] = match transport {
        Transport::Udp => [b"_sip", b"_udp"],
        Transport::Tcp => [b"_sip", b"_tcp"],
        Transport::Tls => [b"_sips", b"_tcp"],
    };
    // Two short labels are a name.
    Name::from_labels(labels).unwrap_or_default()
}

/// RFC 6761 section 6.3: never asked of anybody.
fn is_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// A number from 0 to `most`, each as likely, from 32 random bits.
fn draw(random: u32, most: u32) -> u32 {
    let scaled = (u64::from(random) * (u64::from(most) + 1)) >> 32;
    u32::try_from(scaled).unwrap_or(most)
}

fn complaint(silence: Silence, name: &str) -> ResolveError {
    match silence {
        Silence::Nothing => ResolveError::NoSuchHost(name.to_owned()),
        Silence::Failure => ResolveError::ServerFailure(name.to_owned()),
        Silence::NoAnswer => ResolveError::Unavailable(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lot_is_from_nought_to_most() {
        assert_eq!((draw(0, 10), draw(u32::MAX, 10), draw(u32::MAX, 0)), (0, 10, 0));
        assert_eq!(draw(u32::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn services_have_their_names_and_ports() {
        let domain = Name::from_ascii("example.org.").unwrap();
        let names = PREFERENCE.map(|t| service_name(t).append_domain(&domain).unwrap().to_ascii());
        assert_eq!(names, ["_sip._udp.example.org.", "_sip._tcp.example.org.", "_sips._tcp.example.org."]);
        assert_eq!(PREFERENCE.map(Transport::default_port), [5060, 5060, 5061]);
    }
}
