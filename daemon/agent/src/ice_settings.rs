//! What an account is configured to do about the way of its media: whether it uses ICE, which STUN servers it asks and
//! which relays it has. It knows no addresses and asks nobody.

use std::fmt;
use std::str::FromStr;

pub use voipd_nat::turn::RelayTransport;
use voipd_sip::digest::Secret;
use voipd_sip::uri::Host;

/// Most STUN servers, and most relays, of an account.
pub const MAX_SERVERS: usize = 16;
/// Longest host name (RFC 1035 section 2.3.4).
const LONGEST_HOST: usize = 253;

/// How an account's media finds its way.
#[derive(Clone, Debug, Default)]
pub struct IceSettings {
    /// Whether it uses ICE.
    pub policy: IcePolicy,
    /// Asked which address they see.
    pub stun: Vec<StunServer>,
    /// Any number up to [`MAX_SERVERS`]; the nearest are used.
    pub relays: Vec<Relay>,
    /// For all relays.
    pub login: Option<RelayLogin>,
    /// Those of friends, which the account's meeting point has told of.
    pub lent: Vec<LentRelay>,
}

/// A relay that a friend lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentRelay {
    /// Who.
    pub friend: String,
    /// Where it is.
    pub relay: Relay,
    /// What opens it, and no other.
    pub login: RelayLogin,
}

/// What an account's meeting point lends it.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    /// Its own relays.
    pub relays: Vec<Relay>,
    /// What opens those.
    pub login: Option<RelayLogin>,
    /// Relays of friends.
    pub of_friends: Vec<LentRelay>,
}

impl IceSettings {
    /// There is a server that can tell or give an address which the machine does not have itself.
    pub fn has_servers(&self) -> bool {
        !self.stun.is_empty() || self.all_relays().next().is_some()
    }

    /// Each relay with what opens it, and the friend who lends it.
    pub(crate) fn all_relays(&self) -> impl Iterator<Item = (&Relay, Option<&RelayLogin>, Option<&str>)> {
        let own = self.relays.iter().map(|relay| (relay, self.login.as_ref(), None));
        own.chain(self.lent.iter().map(|lent| (&lent.relay, Some(&lent.login), Some(lent.friend.as_str()))))
    }
}

/// Whether an account uses ICE (RFC 8445).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcePolicy {
    /// It is offered where there is more than the machine's own address to offer, and taken where the peer offers it.
    #[default]
    Auto,
    /// It is never offered and never taken.
    Off,
    /// It is always offered, and nothing but relays is used: the peer does not learn this machine's addresses.
    Relay,
}

/// A STUN server, `stun:HOST[:PORT]` (RFC 7064).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StunServer {
    /// Name, or address without brackets.
    pub host: String,
    /// 3478 where none is written.
    pub port: u16,
}

/// A relay, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]` (RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relay {
    /// Name, or address without brackets.
    pub host: String,
    /// 3478, or 5349 for `turns:`, where none is written.
    pub port: u16,
    /// How it is reached. What it relays is UDP in any case.
    pub transport: RelayTransport,
}

/// Who we are to relays (long-term credentials, RFC 8489 section 9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLogin {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// Why a text is no STUN server and no relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not `stun:`.
    #[error("'{0}' is no STUN server: write stun:HOST or stun:HOST:PORT")]
    Stun(String),
    /// Neither `turn:` nor `turns:`.
    #[error("'{0}' is no relay: write turn:HOST, turn:HOST:PORT?transport=tcp or turns:HOST")]
    Relay(String),
}

impl FromStr for StunServer {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let bad = || ServerError::Stun(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        if !scheme.eq_ignore_ascii_case("stun") {
            return Err(bad());
        }
        let (host, port) = place(rest).ok_or_else(bad)?;
        Ok(Self { host, port: port.unwrap_or(3478) })
    }
}

impl FromStr for Relay {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let bad = || ServerError::Relay(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(bad)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let named = match query.map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("transport=udp") => Some(RelayTransport::Udp),
            Some("transport=tcp") => Some(RelayTransport::Tcp),
            Some(_) => return Err(bad()),
        };
        let (transport, default_port) = match (scheme.to_ascii_lowercase().as_str(), named) {
            ("turn", named) => (named.unwrap_or(RelayTransport::Udp), 3478),
            ("turns", None | Some(RelayTransport::Tcp)) => (RelayTransport::Tls, 5349),
            // DTLS to the relay would protect what is on its way to somebody else unprotected.
            _ => return Err(bad()),
        };
        let (host, port) = place(rest).ok_or_else(bad)?;
        Ok(Self { host, port: port.unwrap_or(default_port), transport })
    }
}

/// `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
fn place(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || text.starts_with('[');
    if host.is_empty() || host.len() > LONGEST_HOST || !host.chars().all(known) {
        return None;
    }
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host.to_ascii_lowercase(), port))
}

impl StunServer {
    /// For the resolver.
    pub fn host(&self) -> Host {
        host(&self.host)
    }
}

impl Relay {
    /// For the resolver.
    pub fn host(&self) -> Host {
        host(&self.host)
    }
}

fn host(text: &str) -> Host {
    text.parse().map_or_else(|_| Host::Name(text.to_owned()), Host::Ip)
}

/// IPv6 addresses stand in brackets.
fn write_place(f: &mut fmt::Formatter<'_>, host: &str, port: u16, default_port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]")?,
        false => f.write_str(host)?,
    }
    if port == default_port { Ok(()) } else { write!(f, ":{port}") }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stun:")?;
        write_place(f, &self.host, self.port, 3478)
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port, query) = match self.transport {
            RelayTransport::Udp => ("turn:", 3478, ""),
            RelayTransport::Tcp => ("turn:", 3478, "?transport=tcp"),
            RelayTransport::Tls => ("turns:", 5349, ""),
        };
        f.write_str(scheme)?;
        write_place(f, &self.host, self.port, port)?;
        f.write_str(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_read_as_they_are_written() {
        for text in ["stun:stun.example.org", "stun:192.0.2.1:3479", "stun:[2001:db8::1]:19302"] {
            assert_eq!(text.parse::<StunServer>().unwrap().to_string(), text);
        }
        for text in [
            "turn:relay.example.org",
            "turn:192.0.2.1:443?transport=tcp",
            "turns:relay.example.org:443",
            "turn:[2001:db8::1]",
        ] {
            assert_eq!(text.parse::<Relay>().unwrap().to_string(), text);
        }
        let relay = "TURNS:Relay.Example.org?transport=tcp".parse::<Relay>().unwrap();
        assert_eq!(relay.to_string(), "turns:relay.example.org");
        assert_eq!((relay.port, relay.transport), (5349, RelayTransport::Tls));
        assert_eq!(
            "turn:[2001:db8::1]".parse::<Relay>().unwrap().host(),
            Host::Ip("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_server_is_refused() {
        let long = format!("stun:{}", "x".repeat(254));
        for text in
            ["", "stun", "stun:", "stun:a:0", "stun:a:b", "stun://a", "stun:a b", "turn:a", "stun:[a]", &long]
        {
            assert!(text.parse::<StunServer>().is_err(), "{text}");
        }
        for text in [
            "stun:a",
            "turn:",
            "turn:a?transport=sctp",
            "turns:a?transport=udp",
            "turn:a:99999",
            "turn:user@a",
        ] {
            assert!(text.parse::<Relay>().is_err(), "{text}");
        }
    }
}
