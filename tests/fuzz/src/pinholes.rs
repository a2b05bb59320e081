//! What somebody on the port of a router says to who wants pinholes of it.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use voipd_nat::mapping::{MappingId, PinholeOutput, Pinholes, Purpose, Transport};

const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Most that one answer, or one moment, may have us send.
const MOST_REQUESTS: usize = 8;
/// Octets of a request and of its answer (RFC 6887 section 11.1).
const LENGTH: usize = 60;

/// Answers, each led by a byte of what is done with it and a byte of its length.
pub fn pinholes(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut pinholes = Pinholes::new([3; 32]);
    pinholes.set_address(now, Some(OURS));
    assert!(pinholes.open(now, MappingId(1), Transport::Udp, 5060, Purpose::Sip));
    let mut asked = drain(&mut pinholes).unwrap_or_default();
    let mut rest = bytes;
    for _ in 0..64 {
        let Some(([what, length], tail)) = rest.split_first_chunk::<2>() else { return };
        let (said, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        let mut answer = said.to_vec();
        // As one who saw the request would: the nonce, the protocol and the port are right.
        if what & 1 != 0 && answer.len() >= LENGTH && asked.len() == LENGTH {
            answer[24..42].copy_from_slice(&asked[24..42]);
        }
        if what & 2 != 0 && answer.len() >= LENGTH {
            answer[..4].copy_from_slice(&[2, 0x81, 0, 0]);
        }
        pinholes.handle_datagram(now, &answer);
        asked = drain(&mut pinholes).unwrap_or(asked);
        now += [0, 250, 10_000, 700_000].map(Duration::from_millis)[usize::from(what >> 6)];
        pinholes.handle_timeout(now);
        asked = drain(&mut pinholes).unwrap_or(asked);
        assert_eq!(pinholes.views().count(), 1, "nobody can have it forgotten");
        rest = tail;
    }
}

/// The last request.
fn drain(pinholes: &mut Pinholes) -> Option<Vec<u8>> {
    let mut last = None;
    let mut requests = 0;
    loop {
        match pinholes.poll_output() {
            PinholeOutput::Send(request) => {
                assert_eq!(request.len(), LENGTH);
                requests += 1;
                assert!(requests <= MOST_REQUESTS, "a flood of requests");
                last = Some(request);
            }
            PinholeOutput::Changed => {}
            PinholeOutput::Timeout(_) => return last,
        }
    }
}
