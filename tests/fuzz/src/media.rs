//! Parsers of what media peers say beside the sound: SDP, fragments of it, and RTCP.

use std::time::{Duration, Instant};

use voipd_media::ice::{Candidate, CandidateKind, Credentials, Fragment, LocalIce};
use voipd_media::rtcp::{RtcpSession, SentCounters};
use voipd_media::{Codec, Direction, LocalMedia, Negotiation, Preferences};

/// Seconds from 1900 to some day, in NTP's fixed point.
const NTP: u64 = 3_976_214_400 << 32;

fn preferences() -> Preferences {
    Preferences {
        codecs: vec![Codec::Opus, Codec::Pcma, Codec::Pcmu],
        ptime_ms: 20,
        redundancy: true,
        silence_suppression: false,
    }
}

fn here(six: bool) -> LocalMedia {
    let address = if six { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() } else { [192, 0, 2, 1].into() };
    LocalMedia { address, rtp_port: 4000, rtcp_port: 4001 }
}

/// One host candidate, so that what the peer says about ICE counts.
fn ice() -> Option<LocalIce> {
    let candidate = Candidate {
        foundation: "1".to_owned(),
        component: 1,
        priority: 2_130_706_431,
        address: ([192, 0, 2, 1], 4000).into(),
        kind: CandidateKind::Host,
        related: None,
    };
    Some(LocalIce {
        credentials: Credentials::new("8hhY", "asd88fgpdd777uzjYhagZg")?,
        candidates: vec![candidate],
        trickle: false,
        complete: true,
        remote_candidates: Vec::new(),
    })
}

/// A text as offer and as answer: what we say to it obeys the grammar, and our next offer is one that we read.
pub fn sdp(bytes: &[u8]) {
    let mut callee = Negotiation::new(1, preferences());
    callee.set_ice(ice());
    match callee.handle_offer(bytes) {
        Ok(()) => {
            let local = here(callee.offered_address().is_some_and(|address| address.is_ipv6()));
            if let Ok((answer, agreement)) = callee.make_answer(local, Direction::SendRecv) {
                assert!(answer.len() <= 3 * bytes.len() + 1000, "{} bytes of answer", answer.len());
                assert!(
                    answer.split(|byte| *byte == b'\n').all(|line| line.iter().all(|b| (9..127).contains(b)))
                );
                assert!(agreement.send.payload_type < 128);
                assert!(agreement.ice.offered().is_none_or(|ice| ice.candidates.len() <= 24));
                let offer = callee.make_offer(local, Direction::SendRecv);
                let mut other = Negotiation::new(2, preferences());
                assert!(other.handle_offer(&offer).is_ok(), "our own offer is refused");
            }
        }
        Err(error) => assert!(error.to_string().bytes().all(|byte| (b' '..127).contains(&byte)), "{error}"),
    }
    let mut caller = Negotiation::new(1, preferences());
    caller.set_ice(ice());
    caller.make_offer(here(false), Direction::SendRecv);
    if let Err(error) = caller.handle_answer(bytes) {
        assert!(error.to_string().bytes().all(|byte| (b' '..127).contains(&byte)), "{error}");
    }
}

/// A fragment of a description that brings candidates later: what was understood reads the same once we have written it.
pub fn fragment(bytes: &[u8]) {
    for mid in [Some("0"), None] {
        match Fragment::read(bytes, mid) {
            Ok(read) => {
                assert!(read.candidates.len() <= 24, "{} candidates", read.candidates.len());
                let credentials = Credentials::new(&read.ufrag, "asd88fgpdd777uzjYhagZg");
                let again = LocalIce {
                    credentials: credentials.expect("a name fragment that was let in"),
                    candidates: read.candidates.clone(),
                    trickle: true,
                    complete: read.complete,
                    remote_candidates: Vec::new(),
                };
                assert_eq!(Fragment::read(&again.fragment(mid, false), mid).as_ref(), Ok(&read));
            }
            Err(error) => assert!((400..500).contains(&error.status()), "{error}"),
        }
    }
}

/// RTCP packets, each led by its length in two bytes, to a session that reports: its figures stay figures.
pub fn rtcp(bytes: &[u8]) {
    let start = Instant::now();
    let mut session = RtcpSession::new(start, 0x0a0b_0c0d, "us".to_owned(), 8000, 1);
    let sent = SentCounters { packets: 100, octets: 16_000, rtp_timestamp: 16_000, active: true };
    let (mut rest, mut now) = (bytes, start);
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (packet, tail) = tail.split_at(length);
        let events = session.handle_packet(now, NTP, packet);
        assert!(events.len() <= packet.len(), "{} events of {} bytes", events.len(), packet.len());
        now += Duration::from_millis(500);
        if session.poll_timeout() <= now {
            session.poll_packet(now, NTP, &sent, &[]);
        }
        rest = tail;
    }
    if let Some(view) = session.remote_view() {
        assert!((0.0..=1.0).contains(&view.fraction_lost), "{view:?}");
        assert!(view.round_trip.is_none_or(|time| time < Duration::from_secs(3600)), "{view:?}");
    }
}
