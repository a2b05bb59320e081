//! As whom others see us: what the far ends of flows have noted in the topmost Via of their responses (RFC 3581); not
//! what is made of it.

use std::net::{IpAddr, SocketAddr};

use crate::endpoint::{Flow, Transport};
use crate::headers::Via;
use crate::uri::Host;

/// Most far ends that are remembered; the oldest is forgotten first.
const MAX_KNOWN: usize = 64;

/// Where our messages come from, as each far end sees it; only where that is another address than our own.
#[derive(Default)]
pub(crate) struct Reflexive {
    known: Vec<(Transport, SocketAddr, IpAddr, SocketAddr)>,
}

impl Reflexive {
    /// Takes what a response to a request on `flow` says; answers whether it is new.
    pub(crate) fn learn(&mut self, flow: Flow, via: Option<&Via>) -> bool {
        let Some(via) = via.filter(|via| via.transport.eq_ignore_ascii_case(flow.transport.name())) else {
            return false;
        };
        let seen = seen(flow, via);
        let is_new = self.of(flow) != seen;
        if is_new {
            self.known.retain(|(transport, local, remote, _)| {
                (*transport, *local, *remote) != (flow.transport, flow.local, flow.remote.ip())
            });
            if self.known.len() >= MAX_KNOWN {
                self.known.remove(0);
            }
            self.known.extend(seen.map(|seen| (flow.transport, flow.local, flow.remote.ip(), seen)));
        }
        is_new
    }

    /// Our address as the far end of `flow` sees it, where somebody on the way has translated it.
    pub(crate) fn of(&self, flow: Flow) -> Option<SocketAddr> {
        let is_of = |(transport, local, remote, _): &&(Transport, SocketAddr, IpAddr, SocketAddr)| {
            (*transport, *local, *remote) == (flow.transport, flow.local, flow.remote.ip())
        };
        self.known.iter().find(is_of).map(|(.., seen)| *seen)
    }
}

/// Another address than our own in `received` and `rport`.
///
/// RFC 3581 section 4 has a server write both: where `received` is missing, a SIP ALG has tampered, or the server knows
/// no `rport` and has found our address to be right. Of a connection the port says nothing: it is never the one that we
/// listen on.
fn seen(flow: Flow, via: &Via) -> Option<SocketAddr> {
    let received = via.params.value("received")?;
    let Ok(Host::Ip(ip)) = received.parse().or_else(|_| format!("[{received}]").parse()) else { return None };
    let ip = ip.to_canonical();
    let port = via.params.value("rport").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    let seen = SocketAddr::new(ip, port.unwrap_or(flow.local.port()));
    let is_own = match flow.transport {
        Transport::Udp => seen == flow.local,
        Transport::Tcp | Transport::Tls => ip == flow.local.ip(),
    };
    let is_address = !ip.is_unspecified() && !ip.is_multicast() && ip.is_ipv4() == flow.local.is_ipv4();
    // Who is on this machine comes from here, whatever anybody says.
    let is_possible = ip.is_loopback() == flow.local.ip().is_loopback();
    (!is_own && is_address && is_possible).then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::TlsRequirement;

    fn flow(transport: Transport) -> Flow {
        Flow {
            transport,
            local: "192.168.1.2:5060".parse().unwrap(),
            remote: "198.51.100.1:5060".parse().unwrap(),
            tls: TlsRequirement::default(),
        }
    }

    fn seen_in(transport: Transport, params: &str) -> Option<String> {
        let via = format!("SIP/2.0/{} 192.168.1.2:5060;branch=z9hG4bKx{params}", transport.name());
        let mut reflexive = Reflexive::default();
        reflexive.learn(flow(transport), Some(&via.parse().unwrap()));
        reflexive.of(flow(transport)).map(|seen| seen.to_string())
    }

    #[test]
    fn another_address_is_one_that_somebody_has_translated() {
        let udp = |params| seen_in(Transport::Udp, params);
        assert_eq!(udp(";received=203.0.113.5;rport=40000").as_deref(), Some("203.0.113.5:40000"));
        assert_eq!(udp(";received=192.168.1.2;rport=1024").as_deref(), Some("192.168.1.2:1024"));
        assert_eq!(udp(";received=203.0.113.5").as_deref(), Some("203.0.113.5:5060"));
        for nothing in [
            "",
            ";rport=40000",
            ";received=192.168.1.2;rport=5060",
            ";received=0.0.0.0;rport=5060",
            ";received=127.0.0.1;rport=5060",
            ";received=224.0.0.1;rport=5060",
            ";received=2001:db8::1;rport=5060",
            ";received=nonsense;rport=5060",
        ] {
            assert_eq!(udp(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn the_port_of_a_connection_is_no_sign_of_a_translation() {
        let tcp = |params| seen_in(Transport::Tcp, params);
        assert_eq!(tcp(";received=192.168.1.2;rport=39000"), None);
        assert_eq!(tcp(";received=203.0.113.5;rport=39000").as_deref(), Some("203.0.113.5:39000"));
    }

    #[test]
    fn not_more_than_a_few_are_remembered_and_what_is_right_again_is_forgotten() {
        let mut reflexive = Reflexive::default();
        let at = |number: u8| Flow { remote: ([198, 51, 100, number], 5060).into(), ..flow(Transport::Udp) };
        let via: Via = "SIP/2.0/UDP 192.168.1.2:5060;received=203.0.113.5;rport=9".parse().unwrap();
        assert!((0..=MAX_KNOWN as u8).all(|number| reflexive.learn(at(number), Some(&via))));
        assert_eq!(reflexive.known.len(), MAX_KNOWN);
        assert!(!reflexive.learn(at(3), Some(&via)));
        let own: Via = "SIP/2.0/UDP 192.168.1.2:5060;received=192.168.1.2;rport=5060".parse().unwrap();
        assert!(reflexive.learn(at(3), Some(&own)));
        assert_eq!((reflexive.of(at(3)), reflexive.known.len()), (None, MAX_KNOWN - 1));
    }
}
