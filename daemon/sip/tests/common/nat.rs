//! A router between one host and all others: it translates the host's address, forgets translations that are not used,
//! and may meddle with SIP.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Net;

/// Which packets of a host share a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// All (endpoint-independent, RFC 4787).
    Cone,
    /// Those to one address and port.
    Symmetric,
    /// None: each packet is translated anew.
    EachPacket,
}

/// Which way a message goes through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

/// What a SIP ALG makes of a message, given the addresses inside and outside.
pub type Alg = Box<dyn FnMut(Way, SocketAddr, SocketAddr, String) -> String>;

pub struct Nat {
    inside: SocketAddr,
    public: IpAddr,
    mapping: Mapping,
    /// How long a translation lasts that nothing uses.
    life: Duration,
    next_port: u16,
    known: Vec<Known>,
    pub alg: Option<Alg>,
}

struct Known {
    port: u16,
    remote: SocketAddr,
    used: Instant,
}

impl Nat {
    /// What a datagram of the host looks like outside.
    fn out(&mut self, now: Instant, to: SocketAddr, bytes: Vec<u8>) -> (SocketAddr, Vec<u8>) {
        let life = self.life;
        self.known.retain(|known| now.saturating_duration_since(known.used) < life);
        let fits = |known: &&mut Known| match self.mapping {
            Mapping::Cone => true,
            Mapping::Symmetric => known.remote == to,
            Mapping::EachPacket => false,
        };
        let port = match self.known.iter_mut().find(fits) {
            Some(known) => {
                known.used = now;
                known.port
            }
            None => {
                self.next_port += 1;
                self.next_port
            }
        };
        if !self.known.iter().any(|known| known.port == port && known.remote == to) {
            self.known.push(Known { port, remote: to, used: now });
        }
        let outside = SocketAddr::new(self.public, port);
        (outside, self.meddle(Way::Out, outside, bytes))
    }

    /// What a datagram for the public address looks like inside; `None`: it is dropped.
    fn inward(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let life = self.life;
        let is_of = |known: &&mut Known| {
            known.port == to.port()
                && known.remote == from
                && now.saturating_duration_since(known.used) < life
        };
        self.known.iter_mut().find(is_of)?.used = now;
        Some((self.inside, self.meddle(Way::In, to, bytes)))
    }

    fn meddle(&mut self, way: Way, outside: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
        match (&mut self.alg, String::from_utf8(bytes)) {
            (Some(alg), Ok(text)) if text.contains("SIP/2.0") => {
                alg(way, self.inside, outside, text).into_bytes()
            }
            (_, Ok(text)) => text.into_bytes(),
            (_, Err(error)) => error.into_bytes(),
        }
    }
}

impl Net {
    /// Puts a router with this public address before a host.
    pub fn nat(&mut self, inside: &str, public: &str, mapping: Mapping, life: Duration) {
        self.nats.push(Nat {
            inside: inside.parse().unwrap(),
            public: public.parse().unwrap(),
            mapping,
            life,
            next_port: 40_000,
            known: Vec::new(),
            alg: None,
        });
    }

    /// The router with this public address.
    pub fn router(&mut self, public: &str) -> &mut Nat {
        let public: IpAddr = public.parse().unwrap();
        self.nats.iter_mut().find(|nat| nat.public == public).unwrap()
    }

    /// The router starts anew: all translations are forgotten.
    pub fn restart_router(&mut self, public: &str) {
        self.router(public).known.clear();
    }

    pub(super) fn translate_out(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> (SocketAddr, Vec<u8>) {
        let now = self.now;
        match self.nats.iter_mut().find(|nat| nat.inside == from) {
            Some(nat) => nat.out(now, to, bytes),
            None => (from, bytes),
        }
    }

    /// As whom a host's connections are seen.
    pub(super) fn public_ip(&self, ip: IpAddr) -> IpAddr {
        self.nats.iter().find(|nat| nat.inside.ip() == ip).map_or(ip, |nat| nat.public)
    }

    pub(super) fn translate_in(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let now = self.now;
        match self.nats.iter_mut().find(|nat| nat.public == to.ip()) {
            Some(nat) => nat.inward(now, from, to, bytes),
            None => Some((to, bytes)),
        }
    }
}

/// The answer to a STUN Binding request from `source` (RFC 8489).
pub fn stun_answer(request: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    if request.get(..8)? != [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42] {
        return None;
    }
    let cookie_and_id = &request[4..20];
    let ip: Vec<u8> = match source.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut answer = vec![1, 1, 0, 8 + ip.len() as u8];
    answer.extend(cookie_and_id);
    answer.extend([0, 0x20, 0, 4 + ip.len() as u8, 0, if source.is_ipv4() { 1 } else { 2 }]);
    answer.extend((source.port() ^ 0x2112).to_be_bytes());
    answer.extend(ip.iter().zip(cookie_and_id).map(|(byte, mask)| byte ^ mask));
    Some(answer)
}
