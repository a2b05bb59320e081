//! Whether anything of what we send arrives, by the highest sequence number in the peer's reports. It knows no ratings.

use std::time::{Duration, Instant};

use voipd_media::rtcp::RemoteView;

/// Reports that are closer together show nothing: what they speak of may be under way.
const APART: Duration = Duration::from_secs(2);
/// So much must have been sent between them.
const SENT: Duration = Duration::from_secs(1);

/// Compares reports of the peer. Where nothing has come since its last one, RFC 3550 finds nothing expected and so nothing
/// lost (appendix A.3), and the highest number stands still.
#[derive(Debug, Default)]
pub(super) struct Reach {
    mark: Option<Mark>,
    /// Packets sent by the last look.
    sent: u64,
    /// The number has been seen to rise: there are peers whose reports never tell any.
    rises: bool,
    stuck: bool,
}

/// A report, to be compared with a later one.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    highest: u32,
    /// Packets sent by the first look after it.
    sent: u64,
}

impl Reach {
    /// Takes in the last report, and the packets of `packet_ms` sent so far; answers whether nothing arrives.
    pub(super) fn is_stuck(
        &mut self,
        view: Option<(Instant, RemoteView)>,
        sent: u64,
        packet_ms: u16,
    ) -> bool {
        // The report came after the last look: at least so much had been sent then.
        let before = std::mem::replace(&mut self.sent, sent);
        let Some((at, view)) = view else {
            *self = Reach { sent, ..Reach::default() };
            return false;
        };
        let new = Mark { at, highest: view.highest_seq, sent };
        match self.mark {
            Some(mark) if mark.highest == new.highest => {
                if at.saturating_duration_since(mark.at) <= APART {
                    return self.stuck;
                }
                let meanwhile = before.saturating_sub(mark.sent).saturating_mul(packet_ms.into());
                self.stuck = self.rises && u128::from(meanwhile) >= SENT.as_millis();
            }
            former => (self.rises, self.stuck) = (self.rises || former.is_some(), false),
        }
        self.mark = Some(new);
        self.stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs through seconds with the number of packets sent in each and the highest number of a report that comes in each
    /// fourth; answers in which seconds nothing is found to arrive.
    fn stuck(seconds: impl IntoIterator<Item = (u64, u32)>) -> Vec<u64> {
        let start = Instant::now();
        let (mut reach, mut sent, mut view, mut found) = (Reach::default(), 0, None, Vec::new());
        for (second, (packets, highest_seq)) in (0..).zip(seconds) {
            sent += packets;
            if second % 4 == 0 {
                view = Some((
                    start + Duration::from_secs(second),
                    RemoteView { highest_seq, ..RemoteView::default() },
                ));
            }
            if reach.is_stuck(view, sent, 20) {
                found.push(second);
            }
        }
        found
    }

    #[test]
    fn a_number_that_stands_still_while_much_is_sent_shows_that_nothing_arrives() {
        // It stands still in the reports of seconds 8, 12 and 16.
        let outage = (0..24).map(|second| (50, if (4..20).contains(&second) { 200 } else { second * 50 }));
        assert_eq!(stuck(outage), (8..20).collect::<Vec<_>>());
    }

    #[test]
    fn where_nothing_is_sent_nothing_need_arrive() {
        let hold = (0..24).map(|second| if (5..20).contains(&second) { (0, 200) } else { (50, second * 50) });
        assert!(stuck(hold).is_empty());
        // Sent again just before the report.
        let resumed = (0..13).map(|second| match second {
            5..12 => (0, 200),
            12 => (50, 200),
            _ => (50, second * 50),
        });
        assert!(stuck(resumed).is_empty());
    }

    #[test]
    fn a_peer_that_never_tells_a_number_is_not_believed() {
        assert!(stuck([(50, 0); 40]).is_empty());
    }
}
