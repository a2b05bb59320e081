//! What ICE adds to session descriptions (RFC 8839, RFC 8840): candidates, credentials and options, read and written. It
//! checks no path and gathers nothing.

mod fragment;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Media, Session};

pub(crate) use self::fragment::{DEFAULT_MID, token};
pub use self::fragment::{Fragment, FragmentError};

/// Most candidates of a peer that are looked at; what follows is left out. RFC 8445 section 6.1.2.5 would have an agent
/// check a hundred pairs at most, and our own list is short.
const MAX_CANDIDATES: usize = 24;
/// RTP and RTCP.
const COMPONENTS: std::ops::RangeInclusive<u8> = 1..=2;
/// Lengths of a user name fragment and of a password that a peer may use (RFC 8839 section 5.4).
const UFRAG_LENGTH: std::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 22..=256;

/// Where media can be received (RFC 8839 section 5.1). UDP alone: TCP candidates (RFC 6544) are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The same for candidates whose fate is likely to be the same: 1 to 32 letters, digits, `+` and `/`.
    pub foundation: String,
    /// 1 for RTP, 2 for RTCP.
    pub component: u8,
    /// Higher is better; 1 to 2³¹ - 1.
    pub priority: u32,
    /// Where packets go.
    pub address: SocketAddr,
    /// How it was found.
    pub kind: CandidateKind,
    /// What it was found from, where it is not a host candidate and the peer says so.
    pub related: Option<SocketAddr>,
}

/// How a candidate was found (RFC 8445 section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of the machine.
    Host,
    /// The address that a STUN server saw.
    ServerReflexive,
    /// The address that the peer saw.
    PeerReflexive,
    /// An address at a TURN server.
    Relayed,
}

impl CandidateKind {
    const ALL: [Self; 4] = [Self::Host, Self::ServerReflexive, Self::PeerReflexive, Self::Relayed];

    /// As it is written after `typ`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }
}

/// User name fragment and password of one ICE session (RFC 8839 section 5.4). Another pair of them is an ICE restart.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Letters, digits, `+` and `/`.
    pub ufrag: String,
    /// Letters, digits, `+` and `/`.
    pub password: String,
}

impl Credentials {
    /// `None` where a length or a character is not as RFC 8839 section 5.4 has it.
    pub fn new(ufrag: &str, password: &str) -> Option<Self> {
        let good = is_ice_text(ufrag, UFRAG_LENGTH) && is_ice_text(password, PASSWORD_LENGTH);
        good.then(|| Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// What this side says about ICE in its next descriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalIce {
    /// Ours.
    pub credentials: Credentials,
    /// In the order in which they are written.
    pub candidates: Vec<Candidate>,
    /// Candidates may follow by themselves (RFC 8840), and are taken so.
    pub trickle: bool,
    /// No candidate will follow (RFC 8840 section 4.5).
    pub complete: bool,
    /// The peer's candidates of the selected pairs by component, once ICE has concluded and we control
    /// (RFC 8839 section 5.2).
    pub remote_candidates: Vec<(u8, SocketAddr)>,
}

/// What the peer says about ICE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerIce {
    /// Nothing that could be used: the call goes without ICE (RFC 8839 section 4.2.5).
    #[default]
    Absent,
    /// Somebody on the way has changed the peer's address: where it wants its media is none of its candidates
    /// (RFC 8839 section 4.2.5). No ICE; the media goes where the address now says.
    Mismatch,
    /// The peer has found that of ours (`a=ice-mismatch`).
    Refused,
    /// It wants ICE.
    Offered(Box<RemoteIce>),
}

impl PeerIce {
    /// The peer's side of ICE, where it wants it.
    pub fn offered(&self) -> Option<&RemoteIce> {
        match self {
            Self::Offered(ice) => Some(ice),
            Self::Absent | Self::Mismatch | Self::Refused => None,
        }
    }
}

/// The peer's side of ICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteIce {
    /// The peer's.
    pub credentials: Credentials,
    /// Those that we can use, in the peer's order.
    pub candidates: Vec<Candidate>,
    /// The peer only answers checks (RFC 8445 section 2.5): we control, whoever offered.
    pub lite: bool,
    /// It is built to RFC 8445 (`ice2`): the default candidates need not be put right by an offer of their own once a pair
    /// is nominated (RFC 8839 section 4.3.4).
    pub ice2: bool,
    /// More candidates may follow in INFO, and ours may (RFC 8840).
    pub trickle: bool,
    /// Nothing follows.
    pub complete: bool,
    /// What it takes for our end of the selected pairs, by component (`a=remote-candidates`).
    pub remote_candidates: Vec<(u8, SocketAddr)>,
}

/// An audio line's ways, for the check that they are among the candidates.
pub(crate) struct Defaults {
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: SocketAddr,
    pub(crate) rtcp_mux: bool,
}

/// What the peer's description says of one stream.
pub(crate) fn read(session: &Session, media: &Media, defaults: &Defaults) -> PeerIce {
    if media.attributes.iter().any(|attribute| is(attribute, "ice-mismatch")) {
        return PeerIce::Refused;
    }
    let at_either = |name: &str| {
        let mut levels = [&media.attributes, &session.attributes].into_iter();
        levels.find_map(|level| value(level, name))
    };
    let credentials = at_either("ice-ufrag").zip(at_either("ice-pwd"));
    let Some(credentials) = credentials.and_then(|(ufrag, password)| Credentials::new(ufrag, password))
    else {
        return PeerIce::Absent;
    };
    let has_option = |wanted: &str| {
        let options = [&media.attributes, &session.attributes].into_iter().flat_map(|level| level.iter());
        let options = options.filter(|attribute| is(attribute, "ice-options"));
        let mut words = options.filter_map(|option| option.value.as_deref()).flat_map(str::split_whitespace);
        words.any(|option| option == wanted)
    };
    let flag = |name: &str| {
        [&media.attributes, &session.attributes].into_iter().flatten().any(|attribute| is(attribute, name))
    };
    let lines = media.attributes.iter().filter(|attribute| is(attribute, "candidate"));
    let Listed { candidates, hidden } = list(lines.filter_map(|line| line.value.as_deref()));
    let trickle = has_option("trickle");
    // RFC 8839 section 4.2.5. A name in place of an address may well stand for the default one.
    if !hidden && !candidates.is_empty() && !defaults.are_among(&candidates) {
        return PeerIce::Mismatch;
    }
    // Whose candidates are all of other kinds can be met where its description says, and not by checks.
    if candidates.is_empty() && !hidden && !trickle {
        return PeerIce::Absent;
    }
    PeerIce::Offered(Box::new(RemoteIce {
        credentials,
        candidates,
        lite: session.attributes.iter().any(|attribute| is(attribute, "ice-lite")),
        ice2: has_option("ice2"),
        trickle,
        complete: !trickle || flag("end-of-candidates"),
        remote_candidates: value(&media.attributes, "remote-candidates")
            .map(read_remote_candidates)
            .unwrap_or_default(),
    }))
}

impl Defaults {
    /// Whether media would come to a candidate also without ICE. Nobody's address (of a peer that holds as RFC 2543 has
    /// it, or that trickles: RFC 8840 section 4.1.1) is none that could have been changed.
    fn are_among(&self, candidates: &[Candidate]) -> bool {
        let known = |component: u8, default: SocketAddr| {
            let mut same = candidates.iter().filter(|candidate| candidate.component == component).peekable();
            default.ip().is_unspecified()
                || same.peek().is_none()
                || same.any(|candidate| candidate.address == default)
        };
        known(1, self.rtp) && (self.rtcp_mux || known(2, self.rtcp))
    }
}

/// The candidates of one stream.
struct Listed {
    candidates: Vec<Candidate>,
    /// Some stand behind names that nobody is asked for.
    hidden: bool,
}

/// `lines`: the values of a=candidate.
fn list<'a>(lines: impl Iterator<Item = &'a str>) -> Listed {
    let mut listed = Listed { candidates: Vec::new(), hidden: false };
    for line in lines {
        match read_candidate(line) {
            Some(Line::Candidate(candidate)) if listed.candidates.len() < MAX_CANDIDATES => {
                let known = |other: &Candidate| {
                    (other.component, other.address) == (candidate.component, candidate.address)
                };
                if !listed.candidates.iter().any(known) {
                    listed.candidates.push(candidate);
                }
            }
            Some(Line::Name) => listed.hidden = true,
            Some(Line::Candidate(_)) | None => {}
        }
    }
    listed
}

/// A usable a=candidate line.
enum Line {
    Candidate(Candidate),
    /// A host name instead of an address. mDNS names (`.local`) can be asked for in the peer's own network alone, where
    /// checks that come from the peer show its address as well; others are to be ignored (RFC 8839 section 5.1).
    Name,
}

/// The value of an a=candidate line, as descriptions and trickled fragments have it; `None` where we can make no use of
/// it: another transport, an unknown kind, another component, no address that could be sent to.
fn read_candidate(value: &str) -> Option<Line> {
    let mut words = value.split_ascii_whitespace();
    let foundation = words.next().filter(|foundation| is_ice_text(foundation, 1..=32))?;
    let component = words.next()?.parse().ok().filter(|component| COMPONENTS.contains(component))?;
    words.next().filter(|transport| transport.eq_ignore_ascii_case("udp"))?;
    let priority = words.next()?.parse().ok().filter(|priority| (1..=0x7fff_ffff_u32).contains(priority))?;
    let (host, port) = (words.next()?, words.next()?.parse().ok().filter(|port: &u16| *port != 0)?);
    words.next().filter(|word| word.eq_ignore_ascii_case("typ"))?;
    let kind = words.next()?;
    let kind = CandidateKind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind))?;
    let Ok(address) = host.parse::<IpAddr>() else { return Some(Line::Name) };
    let mut related = (None, None);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            "raddr" => related.0 = value.parse::<IpAddr>().ok(),
            "rport" => related.1 = value.parse::<u16>().ok(),
            _ => {}
        }
    }
    let address = SocketAddr::new(address, port);
    is_destination(address).then(|| {
        Line::Candidate(Candidate {
            foundation: foundation.to_owned(),
            component,
            priority,
            address,
            kind,
            related: related.0.zip(related.1).map(SocketAddr::from),
        })
    })
}

/// One host, and somebody's.
fn is_destination(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast && address.port() != 0
}

/// `component address port` again and again.
fn read_remote_candidates(value: &str) -> Vec<(u8, SocketAddr)> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(3 * usize::from(*COMPONENTS.end())).collect();
    let read = |words: &[&str]| {
        let [component, address, port] = words else { return None };
        let component = component.parse().ok().filter(|component| COMPONENTS.contains(component))?;
        Some((component, SocketAddr::new(address.parse().ok()?, port.parse().ok()?)))
    };
    words.chunks(3).filter_map(read).collect()
}

fn is(attribute: &Attribute, name: &str) -> bool {
    attribute.attribute.trim().eq_ignore_ascii_case(name)
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| is(attribute, name))?.value.as_deref().map(str::trim)
}

/// So many of the characters that ICE's words are made of.
fn is_ice_text(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The attributes of our audio line. RTCP's candidates are left out where it shares the port of RTP. `mid`: by which
/// fragments that follow are told to belong to it (RFC 8840 section 4.4).
pub(crate) fn attributes(ice: &LocalIce, rtcp_mux_agreed: bool, mid: Option<&str>) -> Vec<Attribute> {
    let options = if ice.trickle { "ice2 trickle" } else { "ice2" };
    let mut attributes: Vec<Attribute> =
        mid.filter(|_| ice.trickle).map(|mid| Attribute::with_value("mid", mid)).into_iter().collect();
    attributes.extend([
        Attribute::with_value("ice-options", options),
        Attribute::with_value("ice-ufrag", &ice.credentials.ufrag),
        Attribute::with_value("ice-pwd", &ice.credentials.password),
    ]);
    let wanted = |component: u8| component == 1 || !rtcp_mux_agreed;
    let candidates = ice.candidates.iter().filter(|candidate| wanted(candidate.component));
    attributes.extend(candidates.map(|candidate| Attribute::with_value("candidate", candidate)));
    let remote: Vec<String> = ice
        .remote_candidates
        .iter()
        .filter(|(component, _)| wanted(*component))
        .map(|(component, address)| format!("{component} {} {}", address.ip(), address.port()))
        .collect();
    if !remote.is_empty() {
        attributes.push(Attribute::with_value("remote-candidates", remote.join(" ")));
    }
    if ice.trickle && ice.complete {
        attributes.push(Attribute::new("end-of-candidates"));
    }
    attributes
}

impl fmt::Display for Candidate {
    /// The value of its a=candidate line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, component, priority, address, kind, related } = self;
        let (ip, port) = (address.ip(), address.port());
        write!(f, "{foundation} {component} UDP {priority} {ip} {port} typ {}", kind.name())?;
        match related {
            Some(related) => write!(f, " raddr {} rport {}", related.ip(), related.port()),
            None => Ok(()),
        }
    }
}
