//! Questions to name servers, the hosts file and the system's own resolver. It knows no SIP.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::{Semaphore, oneshot};

use super::order::single_host;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How long the name servers have for one try at a question; the question is repeated on the way (RFC 1035).
const TRY: Duration = Duration::from_secs(2);
/// Tries after the first.
const RETRIES: usize = 1;
/// Longest that an answer is kept, whatever it says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Longest that "there is no such name" is kept: a mended zone is not to wait for its own old mistake (RFC 2308
/// section 5 allows hours).
const LONGEST_REFUSAL: Duration = Duration::from_secs(300);
/// Most questions whose answers are kept.
const CACHED: u64 = 4096;
/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 16;
/// Most threads that wait for the system's resolver at once: it cannot be told to stop.
const MAX_THREADS: usize = 8;

/// Why a question has no answer; the greater, the less is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Silence {
    /// The name does not exist, or not with such a record.
    Nothing,
    /// The name servers have trouble of their own (SERVFAIL, REFUSED), or their answer makes no sense.
    Failure,
    /// No name server answers, or there is none.
    NoAnswer,
}

/// Whom to ask. What they said is kept as long as they allowed.
pub(super) struct Asker {
    /// The only name servers; empty: the system's.
    servers: Vec<SocketAddr>,
    sources: Mutex<Sources>,
    threads: Arc<Semaphore>,
}

/// What was read from the system, and what it looked like then.
#[derive(Clone)]
struct Sources {
    dns: Option<TokioResolver>,
    hosts: Arc<Hosts>,
    stamps: [Stamp; 2],
}

/// When a file was changed last, and how long it is; `None` when it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Asker {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        let sources = Mutex::new(Sources::read(&servers));
        Self { servers, sources, threads: Arc::new(Semaphore::new(MAX_THREADS)) }
    }

    /// What was kept is asked for anew.
    pub(super) fn forget(&self) {
        if let Some(dns) = self.sources().dns {
            dns.clear_cache();
        }
    }

    /// Asks for the records of one type; `pick` takes their data apart. Aliases (CNAME) are followed. A name that is not
    /// fully qualified is tried with the system's search list too.
    pub(super) async fn records<T>(
        &self,
        name: &Name,
        kind: RecordType,
        until: Instant,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, Silence> {
        let Some(dns) = self.sources().dns else { return Err(Silence::NoAnswer) };
        let answer = tokio::time::timeout_at(until.into(), dns.lookup(name.clone(), kind)).await;
        let lookup = answer.map_err(|_| Silence::NoAnswer)?.map_err(|error| silence(&error))?;
        let records: Vec<T> = lookup.answers().iter().filter_map(|record| pick(&record.data)).collect();
        // An alias that leads nowhere is no answer.
        if records.is_empty() { Err(Silence::Nothing) } else { Ok(records) }
    }

    /// Asks for the IPv4 and the IPv6 addresses of a name, both at once. What the hosts file knows is not asked of name
    /// servers, and names of the local link (`.local`, RFC 6762) only of the system's resolver.
    pub(super) async fn addresses(&self, name: &Name, until: Instant) -> Result<Vec<IpAddr>, Silence> {
        let mut found = self.in_hosts_file(name);
        if found.is_empty() && is_link_local(name) {
            found = self.ask_system(name, until).await?;
        } else if found.is_empty() {
            let (four, six) = tokio::join!(
                self.records(name, RecordType::A, until, RData::ip_addr),
                self.records(name, RecordType::AAAA, until, RData::ip_addr),
            );
            found = match (four, six) {
                (Err(four), Err(six)) => return Err(four.max(six)),
                (four, six) => {
                    // Neither family may crowd out the other.
                    let some = |addresses: Result<Vec<IpAddr>, Silence>| {
                        addresses.unwrap_or_default().into_iter().take(MAX_ADDRESSES / 2)
                    };
                    some(four).chain(some(six)).collect()
                }
            };
        }
        found.truncate(MAX_ADDRESSES);
        let found: Vec<IpAddr> = found.into_iter().filter_map(single_host).collect();
        if found.is_empty() { Err(Silence::Nothing) } else { Ok(found) }
    }

    /// The hosts file has this name.
    pub(super) fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let hosts = self.sources().hosts;
        let lines = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        lines.flat_map(|lookup| addresses_of(lookup.answers().iter().map(|record| &record.data))).collect()
    }

    /// What `getaddrinfo` says. It blocks for as long as it likes, so that it has a thread for itself.
    async fn ask_system(&self, name: &Name, until: Instant) -> Result<Vec<IpAddr>, Silence> {
        let permit = Arc::clone(&self.threads).try_acquire_owned().map_err(|_| Silence::NoAnswer)?;
        let (answer, answered) = oneshot::channel();
        let text = name.to_ascii();
        let question = move || {
            let found = (text.trim_end_matches('.'), 0).to_socket_addrs();
            let found = found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>());
            // Nobody waits any more when it took too long.
            let _ = answer.send(found);
            drop(permit);
        };
        let thread = std::thread::Builder::new().name("names".to_owned()).spawn(question);
        thread.map_err(|_| Silence::Failure)?;
        match tokio::time::timeout_at(until.into(), answered).await {
            Ok(Ok(found)) => found.map_err(|_| Silence::Nothing),
            _ => Err(Silence::NoAnswer),
        }
    }

    /// What the system says now: another network brings other name servers.
    fn sources(&self) -> Sources {
        let mut sources = self.lock();
        if sources.stamps != stamps() {
            *sources = Sources::read(&self.servers);
        }
        sources.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources {
    fn read(servers: &[SocketAddr]) -> Self {
        let stamps = stamps();
        let dns = match open(servers) {
            Ok(dns) => Some(dns),
            Err(error) => {
                log::warn!(
                    "names cannot be resolved: {error}. Check {RESOLV_CONF}, or set [sip] name-servers"
                );
                None
            }
        };
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        Self { dns, hosts, stamps }
    }
}

fn open(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = TRY;
    options.attempts = RETRIES;
    options.cache_size = CACHED;
    options.positive_max_ttl = Some(LONGEST_LIFE);
    options.negative_max_ttl = Some(LONGEST_REFUSAL);
    builder.build()
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn silence(error: &NetError) -> Silence {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => Silence::Nothing,
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) | NetError::Busy => Silence::NoAnswer,
        _ => Silence::Failure,
    }
}

fn addresses_of<'a>(data: impl Iterator<Item = &'a RData>) -> Vec<IpAddr> {
    data.filter_map(RData::ip_addr).collect()
}

pub(super) fn is_link_local(name: &Name) -> bool {
    name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"local"))
}

fn stamps() -> [Stamp; 2] {
    [RESOLV_CONF, HOSTS].map(|file| {
        let file = std::fs::metadata(Path::new(file)).ok()?;
        Some((file.modified().ok()?, file.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_local_link_are_known_by_their_last_label() {
        let link_local = |text: &str| is_link_local(&Name::from_ascii(text).unwrap());
        assert!(link_local("door.local") && link_local("Door.LOCAL."));
        assert!(!link_local("local.example.org") && !link_local("door.locale"));
    }
}
