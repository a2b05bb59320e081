//! Servers that a domain offers for a service other than SIP, by its SRV records (RFC 2782).

use std::net::SocketAddr;
use std::time::Instant;

use hickory_resolver::proto::rr::Name;
use voipd_sip::endpoint::Transport;

use super::order::Service;
use super::{DEADLINE, Resolver};

impl Resolver {
    /// All addresses of a domain's servers for a service, such as `_stun` by `_udp`, best first. Empty where it offers
    /// none, or none that can be found: then there is nothing to ask.
    pub async fn service(&self, labels: [&str; 2], domain: &str) -> Vec<SocketAddr> {
        let name = Name::from_labels(labels.map(str::as_bytes)).ok();
        let domain = Name::from_ascii(domain).ok().map(|mut domain| {
            domain.set_fqdn(true);
            domain
        });
        let servers = name.zip(domain).and_then(|(name, domain)| name.append_domain(&domain).ok());
        let Some(servers) = servers else { return Vec::new() };
        let until = Instant::now() + DEADLINE;
        // What carries it is for the caller to know.
        let service = Service { order: 0, transport: Transport::Udp, servers };
        let group = self.servers(service, until).await;
        let found = self.follow(&[group], until).await.ok().flatten().unwrap_or_default();
        found.into_iter().map(|place| place.remote).collect()
    }
}
