//! Names to addresses: SRV where no port is given, then A and AAAA (RFC 3263 section 4).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use voipd_sip::endpoint::{NextHop, ResolveError, Transport};
use voipd_sip::uri::Host;

/// How long one name server has for an answer.
const TRY: Duration = Duration::from_secs(2);
/// Most SRV targets followed.
const MAX_TARGETS: usize = 8;

/// Where a request can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What carries it.
    pub transport: Transport,
    /// To which socket.
    pub remote: SocketAddr,
}

/// Asks the system's name servers; `/etc/hosts` comes first.
#[derive(Clone)]
pub struct Resolver {
    inner: Option<TokioResolver>,
}

impl Resolver {
    /// Reads the system's configuration. A machine without one still resolves address literals and `localhost`.
    pub fn new() -> Self {
        let inner = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = TRY;
            options.attempts = 2;
            builder.build()
        });
        if let Err(error) = &inner {
            log::warn!("names cannot be resolved: {error}. Check /etc/resolv.conf");
        }
        Self { inner: inner.ok() }
    }

    /// All places of a next hop, best first.
    ///
    /// # Errors
    /// No such host, or no answer.
    pub async fn resolve(&self, next_hop: &NextHop) -> Result<Vec<Place>, ResolveError> {
        let default = if next_hop.secure { Transport::Tls } else { Transport::Udp };
        let transport = next_hop.transport.unwrap_or(default);
        let found = self.find(next_hop, transport).await?;
        Ok(found.into_iter().map(|remote| Place { transport, remote }).collect())
    }

    async fn find(&self, next_hop: &NextHop, transport: Transport) -> Result<Vec<SocketAddr>, ResolveError> {
        let default_port = transport.default_port();
        let name = match &next_hop.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, next_hop.port.unwrap_or(default_port))]),
            Host::Name(name) => name.as_str(),
        };
        if name.eq_ignore_ascii_case("localhost") {
            let port = next_hop.port.unwrap_or(default_port);
            return Ok(vec![
                ([127, 0, 0, 1], port).into(),
                (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port).into(),
            ]);
        }
        if let Some(port) = next_hop.port {
            return self.addresses(name, port).await;
        }
        let mut found = Vec::new();
        for (target, port) in self.services(name, transport).await {
            found.extend(self.addresses(&target, port).await.unwrap_or_default());
        }
        if found.is_empty() { self.addresses(name, default_port).await } else { Ok(found) }
    }

    /// SRV targets by priority, then weight.
    async fn services(&self, name: &str, transport: Transport) -> Vec<(String, u16)> {
        let Some(resolver) = &self.inner else { return Vec::new() };
        let service = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
        };
        let Ok(lookup) = resolver.lookup(format!("{service}.{name}."), RecordType::SRV).await else {
            return Vec::new();
        };
        let mut services: Vec<_> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => {
                    Some((srv.priority, u16::MAX - srv.weight, srv.target.to_utf8(), srv.port))
                }
                _ => None,
            })
            .collect();
        services.sort();
        services.truncate(MAX_TARGETS);
        services.into_iter().map(|(_, _, target, port)| (target, port)).collect()
    }

    async fn addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let unavailable = || ResolveError::Unavailable(name.to_owned());
        let resolver = self.inner.as_ref().ok_or_else(unavailable)?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                Err(ResolveError::NoSuchHost(name.to_owned()))
            }
            Err(_) => Err(unavailable()),
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}
