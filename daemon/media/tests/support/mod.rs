//! What the behaviour tests share: a side of a call, and looking into written descriptions.

// Each test file takes what it needs.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::IpAddr;

use voipd_media::ice::{Candidate, CandidateKind, Credentials, LocalIce};
use voipd_media::{Codec, LocalMedia, Negotiation, Preferences};

pub const ALL: [Codec; 3] = [Codec::Opus, Codec::Pcma, Codec::Pcmu];

/// One side of a call with these codecs.
pub fn side(codecs: &[Codec]) -> Negotiation {
    Negotiation::new(
        4711,
        Preferences { codecs: codecs.to_vec(), ptime_ms: 20, redundancy: false, silence_suppression: false },
    )
}

/// One that offers and takes redundant audio data as well.
pub fn redundant_side(codecs: &[Codec]) -> Negotiation {
    Negotiation::new(
        4711,
        Preferences { codecs: codecs.to_vec(), ptime_ms: 20, redundancy: true, silence_suppression: false },
    )
}

/// Where `address` receives.
pub fn local(address: &str) -> LocalMedia {
    let address: IpAddr = address.parse().unwrap();
    LocalMedia { address, rtp_port: 30_000, rtcp_port: 30_001 }
}

pub fn here() -> LocalMedia {
    local("192.0.2.1")
}

pub fn there() -> LocalMedia {
    local("192.0.2.2")
}

/// The lines of a written description, without their ends, which must be CR LF.
pub fn lines(sdp: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(sdp).unwrap();
    assert!(text.ends_with("\r\n"));
    text.strip_suffix("\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
}

/// The lines that begin so.
pub fn lines_with(sdp: &[u8], start: &str) -> Vec<String> {
    lines(sdp).into_iter().filter(|line| line.starts_with(start)).collect()
}

pub fn has_line(sdp: &[u8], line: &str) -> bool {
    lines(sdp).iter().any(|l| l == line)
}

/// The o= version.
pub fn version(sdp: &[u8]) -> u64 {
    let origin = lines_with(sdp, "o=").remove(0);
    origin.split(' ').nth(2).unwrap().parse().unwrap()
}

/// A peer's description at 192.0.2.2 port 4000 with these media lines and attributes.
pub fn peer(rest: &str) -> Vec<u8> {
    let rest = rest.trim().lines().map(|line| format!("{}\r\n", line.trim())).collect::<String>();
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n{rest}").into_bytes()
}

/// A host candidate for each component of [`here`], and what goes with them.
pub fn ice() -> LocalIce {
    let candidate = |component: u8| Candidate {
        foundation: "1".to_owned(),
        component,
        priority: 2_130_706_431 - u32::from(component - 1),
        address: (here().address, 29_999 + u16::from(component)).into(),
        kind: CandidateKind::Host,
        related: None,
    };
    LocalIce {
        credentials: Credentials::new("8hhY", "asd88fgpdd777uzjYhagZg").unwrap(),
        candidates: vec![candidate(1), candidate(2)],
        trickle: false,
        complete: true,
        remote_candidates: Vec::new(),
    }
}
