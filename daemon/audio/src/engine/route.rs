//! Where a stream's packets go and whose packets it believes: symmetric RTP (RFC 4961) that one forged packet, or a
//! handful, cannot turn away.

use std::net::SocketAddr;

use crate::plan::Path;

/// Packets in a row that show that an address is the peer's.
const SETTLED: u8 = 4;
/// The same for the address at which the peer is no more, by its own word: a second of packets of 20 ms.
const STALE: u8 = 50;
/// A peer that was silent for so long may come back from elsewhere with another SSRC.
const SILENT_NANOS: u64 = 1_000_000_000;
/// Sequence numbers may skip so far and still count as "in a row": packets get lost.
const LARGEST_STEP: u16 = 3;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    /// Accept it; `remote` is from now on where the stream is sent to.
    AcceptAndMove {
        remote: SocketAddr,
    },
    /// The address is taken for the peer's from now on: so is its SSRC.
    AcceptNewcomer {
        moved: Option<SocketAddr>,
    },
    Foreign,
}

/// The two ends of a stream's path.
pub(crate) struct Route {
    path: Path,
    /// Where we send.
    remote: SocketAddr,
    /// Where the peer is no more, by its own word: packets from there are stragglers, until they are too many for that.
    stale: Option<SocketAddr>,
    heard: Option<Run>,
    heard_nanos: u64,
    /// Another address that may become the one we hear.
    candidate: Option<Run>,
}

/// Packets in a row from one address with one SSRC.
#[derive(Clone, Copy)]
struct Run {
    source: SocketAddr,
    ssrc: u32,
    sequence: u16,
    length: u8,
}

impl Run {
    fn new(source: SocketAddr, ssrc: u32, sequence: u16, length: u8) -> Self {
        Run { source, ssrc, sequence, length }
    }

    /// Whether it shows that its address is the peer's.
    fn is_settled(&self, stale: Option<SocketAddr>) -> bool {
        self.length >= if Some(self.source) == stale { STALE } else { SETTLED }
    }

    /// Whether the packet goes on where this run stopped.
    fn extend(&mut self, source: SocketAddr, ssrc: u32, sequence: u16) -> bool {
        let step = sequence.wrapping_sub(self.sequence);
        let fits = self.source == source && self.ssrc == ssrc && (1..=LARGEST_STEP).contains(&step);
        if fits {
            self.sequence = sequence;
            self.length = self.length.saturating_add(1);
        }
        fits
    }
}

impl Route {
    pub(crate) fn new(path: Path) -> Self {
        Route { path, remote: path.remote(), stale: None, heard: None, heard_nanos: 0, candidate: None }
    }

    /// A new plan's path. The same path keeps what was learned; to another one is sent at once, while the old address
    /// is believed until the new one is heard.
    pub(crate) fn replace(&mut self, path: Path) {
        if path == self.path {
            return;
        }
        if let Some(heard) = &mut self.heard {
            heard.length = heard.length.min(1);
            // Of a peer that was where it had said to be, stragglers say nothing against the new address. A peer behind
            // NAT never was there: where it is heard is still right.
            if heard.source == self.path.remote() {
                self.stale = Some(heard.source);
            }
        }
        self.stale = self.stale.filter(|stale| *stale != path.remote());
        (self.path, self.remote, self.candidate) = (path, path.remote(), None);
    }

    /// Where packets go now.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// A packet that is right in every other respect. `known`: the SSRC that is being received.
    pub(crate) fn judge(
        &mut self,
        source: SocketAddr,
        ssrc: u32,
        sequence: u16,
        now_nanos: u64,
        known: Option<u32>,
    ) -> Verdict {
        let symmetric = self.path.is_symmetric();
        let believed = match &mut self.heard {
            None => true,
            Some(heard) if heard.source == source => true,
            // Where the peer said that it is needs no proof; where it was found may be somebody else's.
            Some(_) => source == self.path.remote(),
        };
        if !believed {
            return self.judge_candidate(source, ssrc, sequence, now_nanos, known);
        }
        self.heard_nanos = now_nanos;
        self.candidate = None;
        let heard = self.heard.get_or_insert(Run::new(source, ssrc, sequence.wrapping_sub(1), 0));
        if heard.extend(source, ssrc, sequence) {
            if heard.is_settled(self.stale) && symmetric && source != self.remote {
                self.remote = source;
                return Verdict::AcceptAndMove { remote: source };
            }
        } else if heard.source == source && heard.ssrc == ssrc {
            // Losses and late packets break no run, or a bad path would never settle.
            if sequence.wrapping_sub(heard.sequence) as i16 > 0 {
                heard.sequence = sequence;
            }
        } else {
            *heard = Run::new(source, ssrc, sequence, 1);
        }
        Verdict::Accept
    }

    fn judge_candidate(
        &mut self,
        source: SocketAddr,
        ssrc: u32,
        sequence: u16,
        now_nanos: u64,
        known: Option<u32>,
    ) -> Verdict {
        let symmetric = self.path.is_symmetric();
        let begun = Run::new(source, ssrc, sequence, 1);
        let candidate = self.candidate.get_or_insert(Run::new(source, ssrc, sequence.wrapping_sub(1), 0));
        if !candidate.extend(source, ssrc, sequence) {
            *candidate = begun;
        }
        let candidate = *candidate;
        let settled = self.heard.is_some_and(|heard| heard.is_settled(self.stale));
        let silent = now_nanos.saturating_sub(self.heard_nanos) >= SILENT_NANOS;
        // A peer whose NAT gave it another address goes on with the SSRC it had.
        if !candidate.is_settled(self.stale) || (settled && !silent && known != Some(ssrc)) {
            return Verdict::Foreign;
        }
        (self.heard, self.heard_nanos, self.candidate) = (Some(candidate), now_nanos, None);
        let moved = (symmetric && source != self.remote).then_some(source);
        self.remote = moved.unwrap_or(self.remote);
        Verdict::AcceptNewcomer { moved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 4000))
    }

    fn route(symmetric: bool) -> Route {
        Route::new(Path::Udp { remote: address(1), symmetric })
    }

    fn feed(
        route: &mut Route,
        from: u8,
        ssrc: u32,
        sequences: std::ops::Range<u16>,
        at: u64,
    ) -> Vec<Verdict> {
        sequences.map(|sequence| route.judge(address(from), ssrc, sequence, at, Some(7))).collect()
    }

    #[test]
    fn a_peer_behind_nat_is_heard_at_once_and_sent_to_after_some_packets() {
        let mut route = route(true);
        let verdicts = feed(&mut route, 2, 7, 0..4, 0);
        assert_eq!(verdicts[..3], [Verdict::Accept; 3]);
        assert_eq!(verdicts[3], Verdict::AcceptAndMove { remote: address(2) });
        assert_eq!(route.remote(), address(2));
    }

    #[test]
    fn without_symmetric_rtp_the_remote_stays() {
        let mut route = route(false);
        assert_eq!(feed(&mut route, 2, 7, 0..10, 0), [Verdict::Accept; 10]);
        assert_eq!(route.remote(), address(1));
    }

    #[test]
    fn a_forged_packet_first_does_not_shut_out_the_peer() {
        let mut route = route(true);
        assert_eq!(feed(&mut route, 9, 66, 500..501, 0), [Verdict::Accept]);
        assert_eq!(feed(&mut route, 1, 7, 0..1, 0), [Verdict::Accept]);
        assert_eq!(feed(&mut route, 9, 66, 501..502, 0), [Verdict::Foreign]);
    }

    #[test]
    fn a_running_stream_is_not_taken_over_by_another_ssrc() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        assert_eq!(feed(&mut route, 9, 66, 0..50, 1), [Verdict::Foreign; 50]);
        assert_eq!(route.remote(), address(1));
    }

    #[test]
    fn packets_between_break_a_forgers_run() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        for sequence in 10..100 {
            assert_eq!(feed(&mut route, 9, 7, sequence..sequence + 3, 0), [Verdict::Foreign; 3]);
            assert_eq!(feed(&mut route, 1, 7, sequence..sequence + 1, 0), [Verdict::Accept]);
        }
    }

    #[test]
    fn a_peer_whose_nat_rebinds_is_followed() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        let verdicts = feed(&mut route, 3, 7, 10..14, 0);
        assert_eq!(verdicts[..3], [Verdict::Foreign; 3]);
        assert_eq!(verdicts[3], Verdict::AcceptNewcomer { moved: Some(address(3)) });
    }

    #[test]
    fn a_silent_peer_may_come_back_with_another_ssrc() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        let verdicts = feed(&mut route, 3, 8, 0..4, SILENT_NANOS);
        assert_eq!(verdicts[3], Verdict::AcceptNewcomer { moved: Some(address(3)) });
    }

    #[test]
    fn who_has_taken_a_silent_peers_place_loses_it_to_the_address_that_was_signalled() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        let verdicts = feed(&mut route, 9, 66, 0..4, SILENT_NANOS);
        assert_eq!(verdicts[3], Verdict::AcceptNewcomer { moved: Some(address(9)) });
        for n in 0..10 {
            feed(&mut route, 9, 66, 4 + n..5 + n, SILENT_NANOS);
            assert_ne!(feed(&mut route, 1, 7, 10 + n..11 + n, SILENT_NANOS), [Verdict::Foreign]);
        }
        assert_eq!(route.remote(), address(1));
    }

    #[test]
    fn another_path_is_sent_to_at_once_and_the_old_one_heard_until_then() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        route.replace(Path::Udp { remote: address(5), symmetric: true });
        assert_eq!(route.remote(), address(5));
        assert_eq!(feed(&mut route, 1, 7, 10..12, 0), [Verdict::Accept; 2]);
        assert_eq!(route.remote(), address(5));
        assert_eq!(feed(&mut route, 5, 7, 12..13, 0), [Verdict::Accept]);
        assert_eq!(feed(&mut route, 1, 7, 13..14, 0), [Verdict::Foreign]);
    }

    #[test]
    fn a_peer_behind_nat_whose_private_address_changes_is_still_sent_to_where_it_is() {
        let mut route = route(true);
        feed(&mut route, 2, 7, 0..10, 0);
        route.replace(Path::Udp { remote: address(5), symmetric: true });
        assert_eq!(route.remote(), address(5));
        let verdicts = feed(&mut route, 2, 7, 10..13, 0);
        assert_eq!(verdicts[2], Verdict::AcceptAndMove { remote: address(2) });
    }

    #[test]
    fn what_still_comes_from_an_address_of_before_turns_nothing_until_a_second_has_passed() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        for (last, sequences) in [(5, 10..20), (6, 20..30)] {
            route.replace(Path::Udp { remote: address(last), symmetric: true });
            assert_eq!(feed(&mut route, 1, 7, sequences, 0), [Verdict::Accept; 10]);
            assert_eq!(route.remote(), address(last));
        }
        // Nobody has come to the new ones.
        let verdicts = feed(&mut route, 1, 7, 30..80, 0);
        assert!(verdicts.contains(&Verdict::AcceptAndMove { remote: address(1) }));
    }

    #[test]
    fn a_packet_from_the_new_address_makes_stragglers_no_truer() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        route.replace(Path::Udp { remote: address(5), symmetric: true });
        feed(&mut route, 5, 7, 20..21, 0);
        assert_eq!(feed(&mut route, 1, 7, 10..20, 0), [Verdict::Foreign; 10]);
        assert_eq!(feed(&mut route, 5, 7, 21..25, 0), [Verdict::Accept; 4]);
        assert_eq!(route.remote(), address(5));
    }

    #[test]
    fn an_address_that_is_named_again_is_not_one_of_before() {
        let mut route = route(true);
        feed(&mut route, 1, 7, 0..10, 0);
        route.replace(Path::Udp { remote: address(5), symmetric: true });
        route.replace(Path::Udp { remote: address(1), symmetric: true });
        feed(&mut route, 1, 7, 10..14, 0);
        assert_eq!(feed(&mut route, 9, 66, 0..10, 1), [Verdict::Foreign; 10]);
    }

    #[test]
    fn the_same_path_again_keeps_what_was_learned() {
        let mut route = route(true);
        feed(&mut route, 2, 7, 0..4, 0);
        route.replace(Path::Udp { remote: address(1), symmetric: true });
        assert_eq!(route.remote(), address(2));
    }
}
