//! Candidates of ICE: what they are, how they rank (RFC 8445 section 5.1.2) and how SDP writes them (RFC 8839 section 5.1).
//! Knows neither how they are gathered nor how they are checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// How an address was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of this machine.
    Host,
    /// What a NAT shows to the peer; learned in checks.
    PeerReflexive,
    /// What a NAT shows to a STUN server, or a mapping that a router has made.
    ServerReflexive,
    /// An address at a TURN server.
    Relayed,
}

impl CandidateKind {
    /// The type preference that RFC 8445 section 5.1.2.2 recommends.
    const fn preference(self) -> u32 {
        match self {
            CandidateKind::Host => 126,
            CandidateKind::PeerReflexive => 110,
            CandidateKind::ServerReflexive => 100,
            CandidateKind::Relayed => 0,
        }
    }

    /// The word that SDP has for it: `host`, `prflx`, `srflx`, `relay`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::Relayed => "relay",
        }
    }
}

/// RFC 8445 section 5.1.2.1, with a local preference of 0 to 65535.
pub(crate) fn priority(kind: CandidateKind, local_preference: u16, component: u16) -> u32 {
    (kind.preference() << 24)
        + (u32::from(local_preference) << 8)
        + 256_u32.saturating_sub(u32::from(component))
}

/// An address at which one of two peers may be reached over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Equal for candidates that will probably fare alike.
    pub foundation: String,
    /// 1: RTP, 2: RTCP.
    pub component: u16,
    /// The greater, the better.
    pub priority: u32,
    /// Where packets are sent to.
    pub address: SocketAddr,
    /// How it was learned.
    pub kind: CandidateKind,
    /// `raddr` and `rport`: for reflexive ones the base, for relayed ones what the TURN server saw. Of no use but for
    /// whoever looks for a fault.
    pub related: Option<SocketAddr>,
}

/// Why a candidate line of a peer's cannot be used. All but `Malformed` are no fault of the peer's: leave the line out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// Not what the grammar of RFC 8839 section 5.1 allows.
    #[error("the candidate line is malformed")]
    Malformed,
    /// Not UDP.
    #[error("candidates of this transport are not used")]
    Transport,
    /// A host name, such as an mDNS name.
    #[error("candidates with a host name are not used")]
    Name,
    /// A type of which RFC 8445 knows nothing.
    #[error("candidates of this type are not used")]
    Kind,
}

impl fmt::Display for Candidate {
    /// The value of an `a=candidate:` attribute.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} UDP {} {} {} typ {}",
            self.foundation,
            self.component,
            self.priority,
            self.address.ip(),
            self.address.port(),
            self.kind.name()
        )?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        Ok(())
    }
}

impl FromStr for Candidate {
    type Err = CandidateError;

    /// Reads the value of an `a=candidate:` attribute. Extensions are passed over.
    fn from_str(value: &str) -> Result<Self, CandidateError> {
        let mut words = value.split(' ').filter(|word| !word.is_empty());
        let mut next = || words.next().ok_or(CandidateError::Malformed);
        let foundation = next()?;
        let component = next()?;
        let transport = next()?;
        let priority = next()?;
        let address = next()?;
        let port = next()?;
        let typ = next()?;
        let kind = next()?;
        let ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        // Chrome writes a minus before some of its foundations' digits.
        if foundation.len() > 32 || !foundation.chars().all(|c| ice_char(c) || c == '-') || typ != "typ" {
            return Err(CandidateError::Malformed);
        }
        if !transport.eq_ignore_ascii_case("udp") {
            return Err(CandidateError::Transport);
        }
        let kind = match kind {
            "host" => CandidateKind::Host,
            "prflx" => CandidateKind::PeerReflexive,
            "srflx" => CandidateKind::ServerReflexive,
            "relay" => CandidateKind::Relayed,
            _ => return Err(CandidateError::Kind),
        };
        let component = component.parse().map_err(|_| CandidateError::Malformed)?;
        let priority = priority.parse().map_err(|_| CandidateError::Malformed)?;
        let port = port.parse().map_err(|_| CandidateError::Malformed)?;
        if !(1..=256).contains(&component) {
            return Err(CandidateError::Malformed);
        }
        let ip: IpAddr = address.parse().map_err(|_| {
            let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if address.chars().all(name) { CandidateError::Name } else { CandidateError::Malformed }
        })?;
        let mut related_ip: Option<IpAddr> = None;
        let mut related_port: Option<u16> = None;
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "raddr" => related_ip = value.parse().ok(),
                "rport" => related_port = value.parse().ok(),
                _ => {}
            }
        }
        Ok(Candidate {
            foundation: foundation.to_owned(),
            component,
            priority,
            address: SocketAddr::new(ip, port),
            kind,
            related: related_ip.zip(related_port).map(SocketAddr::from),
        })
    }
}

/// The one address for peers that know no ICE, and for the `c=` and `m=` lines (RFC 8445 section 5.1.3, RFC 8839 section
/// 4.2.1.2): relayed if there is one, else server reflexive, else host; among equals the one of the highest priority,
/// IPv4 first.
#[must_use]
pub fn default_candidate(candidates: &[Candidate], component: u16) -> Option<&Candidate> {
    candidates.iter().filter(|candidate| candidate.component == component).max_by_key(|candidate| {
        let rank = match candidate.kind {
            CandidateKind::Relayed => 3,
            CandidateKind::ServerReflexive => 2,
            CandidateKind::Host => 1,
            CandidateKind::PeerReflexive => 0,
        };
        (rank, candidate.address.is_ipv4(), candidate.priority)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_written() {
        let line = "842163049 1 udp 1677729535 203.0.113.1 46154 typ srflx raddr 10.0.0.17 rport 46154 generation 0 network-cost 999";
        let candidate: Candidate = line.parse().unwrap();
        assert_eq!(candidate.kind, CandidateKind::ServerReflexive);
        assert_eq!(candidate.related, Some("10.0.0.17:46154".parse().unwrap()));
        let written = candidate.to_string();
        assert_eq!(
            written,
            "842163049 1 UDP 1677729535 203.0.113.1 46154 typ srflx raddr 10.0.0.17 rport 46154"
        );
        assert_eq!(written.parse(), Ok(candidate));
        let v6 = "H1 2 UDP 1 2001:db8::1 9 typ host".parse::<Candidate>().unwrap();
        assert_eq!(v6.address, "[2001:db8::1]:9".parse().unwrap());
        assert_eq!(v6.to_string().parse(), Ok(v6));
    }

    #[test]
    fn what_is_not_used_is_told_from_what_is_wrong() {
        let parse = |line: &str| line.parse::<Candidate>().unwrap_err();
        assert_eq!(parse("1 1 TCP 1 192.0.2.1 9 typ host tcptype active"), CandidateError::Transport);
        assert_eq!(
            parse("1 1 UDP 1 1f4712db-ea17-4bcf-a596-105139dfd8bf.local 9 typ host"),
            CandidateError::Name
        );
        assert_eq!(parse("1 1 UDP 1 192.0.2.1 9 typ carrier"), CandidateError::Kind);
        for wrong in [
            "",
            "1 1 UDP 1 192.0.2.1 9",
            "1 0 UDP 1 192.0.2.1 9 typ host",
            "1 257 UDP 1 192.0.2.1 9 typ host",
            "1 1 UDP 4294967296 192.0.2.1 9 typ host",
            "1 1 UDP 1 192.0.2.1 65536 typ host",
            "1 1 UDP 1 <evil> 9 typ host",
            "f,oo 1 UDP 1 192.0.2.1 9 typ host",
            "123456789012345678901234567890123 1 UDP 1 192.0.2.1 9 typ host",
        ] {
            assert_eq!(parse(wrong), CandidateError::Malformed, "{wrong}");
        }
    }

    #[test]
    fn the_default_is_relayed_then_reflexive_then_host() {
        let all: Vec<Candidate> = [
            "1 1 UDP 2130706431 192.168.0.2 5000 typ host",
            "2 1 UDP 1694498815 203.0.113.2 5000 typ srflx raddr 192.168.0.2 rport 5000",
            "3 1 UDP 16777215 198.51.100.2 5000 typ relay raddr 203.0.113.2 rport 5000",
            "3 2 UDP 16777214 198.51.100.2 5002 typ relay raddr 203.0.113.2 rport 5000",
        ]
        .iter()
        .map(|line| line.parse().unwrap())
        .collect();
        for upto in 1..=3 {
            assert_eq!(default_candidate(&all[..upto], 1), all.get(upto - 1));
        }
        assert_eq!(default_candidate(&all[..3], 2), None);
        assert_eq!(default_candidate(&all, 2), all.get(3));
    }
}
