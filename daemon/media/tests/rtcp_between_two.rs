//! Two RTCP sessions over a link with delay and loss, in virtual time: each learns how the other hears it.

use std::time::{Duration, Instant};

use voipd_media::rtcp::{ReceivedCounters, RemoteView, RtcpEvent, RtcpSession, SentCounters};

const STEP: Duration = Duration::from_millis(1);
/// 1 January 2026, in NTP seconds.
const NTP_START: u64 = 3_976_214_400;

/// One side: its session, its stream, what it hears.
struct Side {
    session: RtcpSession,
    ssrc: u32,
    sends: bool,
    first_seq: u32,
    sent: u32,
    received: Option<ReceivedCounters>,
    /// What it will claim about the jitter of what it hears.
    jitter: u32,
    events: Vec<(Duration, RtcpEvent)>,
    reports: Vec<Duration>,
}

impl Side {
    fn new(now: Instant, ssrc: u32, clock_rate: u32, jitter: u32) -> Self {
        Side {
            session: RtcpSession::new(now, ssrc, format!("side-{ssrc}"), clock_rate, u64::from(ssrc)),
            ssrc,
            sends: true,
            first_seq: ssrc % 60_000,
            sent: 0,
            received: None,
            jitter,
            events: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn counters(&self) -> SentCounters {
        let (packets, octets) = (self.sent, self.sent.wrapping_mul(160));
        SentCounters { packets, octets, rtp_timestamp: octets, active: self.sends && self.sent > 0 }
    }

    fn hear(&mut self, ssrc: u32, seq: u32) {
        let new =
            ReceivedCounters { ssrc, base_extended_seq: seq, jitter: self.jitter, ..Default::default() };
        let counters = self.received.get_or_insert(new);
        counters.highest_extended_seq = seq;
        counters.packets += 1;
    }

    fn view(&self) -> RemoteView {
        self.session.remote_view().unwrap()
    }
}

/// Something under way to a side.
enum Packet {
    Rtp { ssrc: u32, seq: u32 },
    Rtcp(Vec<u8>),
}

/// The link; `a` is side 0.
struct Link {
    start: Instant,
    elapsed: Duration,
    sides: [Side; 2],
    /// One-way delay towards each side.
    delays: [Duration; 2],
    /// Of this many packets towards a side the last is lost.
    loses_one_in: [Option<u32>; 2],
    under_way: Vec<(Duration, usize, Packet)>,
}

impl Link {
    fn new(delays_ms: [u64; 2], loses_one_in: [Option<u32>; 2]) -> Self {
        let start = Instant::now();
        // Side 0 sends Opus; side 1 hears it with 240 units of jitter (5 ms). Side 1 sends G.711.
        let sides = [Side::new(start, 111_111, 48_000, 80), Side::new(start, 222_222, 8_000, 240)];
        let delays = delays_ms.map(Duration::from_millis);
        Link { start, elapsed: Duration::ZERO, sides, delays, loses_one_in, under_way: Vec::new() }
    }

    fn ntp(&self) -> u64 {
        let seconds = NTP_START + self.elapsed.as_secs();
        let fraction = (u64::from(self.elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        (seconds << 32) | fraction
    }

    fn run(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while self.elapsed < end {
            self.step();
            self.elapsed += STEP;
        }
    }

    fn step(&mut self) {
        let (now, ntp, elapsed) = (self.start + self.elapsed, self.ntp(), self.elapsed);
        let (due, rest) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= elapsed);
        self.under_way = rest;
        for (_, to, packet) in due {
            let side = &mut self.sides[to];
            match packet {
                Packet::Rtp { ssrc, seq } => side.hear(ssrc, seq),
                Packet::Rtcp(bytes) => {
                    let events = side.session.handle_packet(now, ntp, &bytes);
                    side.events.extend(events.into_iter().map(|event| (elapsed, event)));
                }
            }
        }
        for from in 0..2 {
            let to = 1 - from;
            let side = &mut self.sides[from];
            if side.sends && elapsed.as_millis().is_multiple_of(20) {
                side.sent += 1;
                let lost = self.loses_one_in[to].is_some_and(|n| side.sent.is_multiple_of(n));
                if !lost {
                    let packet = Packet::Rtp { ssrc: side.ssrc, seq: side.first_seq + side.sent - 1 };
                    self.under_way.push((elapsed + self.delays[to], to, packet));
                }
            }
            assert!(side.session.poll_timeout() <= now + Duration::from_secs(7));
            let received: Vec<_> = side.received.into_iter().collect();
            if let Some(bytes) = side.session.poll_packet(now, ntp, &side.counters(), &received) {
                side.reports.push(elapsed);
                self.under_way.push((elapsed + self.delays[to], to, Packet::Rtcp(bytes)));
            }
        }
    }
}

fn near(a: Duration, b: Duration, tolerance: Duration) -> bool {
    a.abs_diff(b) <= tolerance
}

#[test]
fn both_learn_the_round_trip_whatever_its_halves() {
    for delays in [[40, 70], [1, 1], [3, 250]] {
        let mut link = Link::new(delays, [None, None]);
        link.run(Duration::from_secs(60));
        let expected = Duration::from_millis(delays[0] + delays[1]);
        for side in &link.sides {
            let measured: Vec<_> = side
                .events
                .iter()
                .filter_map(|(_, event)| match event {
                    RtcpEvent::Report(view) => view.round_trip,
                    RtcpEvent::Bye { .. } | RtcpEvent::Collision => None,
                })
                .collect();
            assert!(measured.len() >= 5, "{measured:?}");
            for trip in measured {
                assert!(near(trip, expected, Duration::from_micros(50)), "{trip:?} for {delays:?}");
            }
        }
    }
}

#[test]
fn the_sender_learns_the_loss_of_each_interval_and_of_the_whole() {
    // One in ten is lost on the way to side 1, none on the way to side 0.
    let mut link = Link::new([20, 20], [None, Some(10)]);
    link.run(Duration::from_secs(60));
    let views: Vec<RemoteView> = link.sides[0]
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            RtcpEvent::Report(view) => Some(*view),
            RtcpEvent::Bye { .. } | RtcpEvent::Collision => None,
        })
        .collect();
    // Intervals of 100 packets or more, one packet more or less at each end; 1/256 of rounding.
    for view in &views[1..] {
        assert!((view.fraction_lost - 0.1).abs() < 0.02, "{view:?}");
    }
    let (at, _) = link.sides[0].events.last().unwrap();
    let sent_by_then = (at.as_millis() - 40) / 20;
    let lost = views.last().unwrap().cumulative_lost;
    assert!((lost - sent_by_then as i32 / 10).abs() <= 1, "{lost} of {sent_by_then}");
    assert_eq!(link.sides[1].view().cumulative_lost, 0);
    assert_eq!(link.sides[1].view().fraction_lost, 0.0);
}

#[test]
fn jitter_is_told_in_time_of_the_senders_clock() {
    let mut link = Link::new([20, 20], [None, None]);
    link.run(Duration::from_secs(20));
    assert_eq!(link.sides[0].view().jitter, Duration::from_millis(5), "240 units of 48000 Hz");
    assert_eq!(link.sides[1].view().jitter, Duration::from_millis(10), "80 units of 8000 Hz");
}

#[test]
fn reports_keep_their_pace() {
    let mut link = Link::new([20, 20], [None, None]);
    link.run(Duration::from_secs(600));
    for side in &link.sides {
        assert!(side.reports[0] >= Duration::from_secs(1) && side.reports[0] <= Duration::from_secs(4));
        for pair in side.reports.windows(2) {
            let interval = pair[1] - pair[0];
            assert!(interval >= Duration::from_secs(2) && interval <= Duration::from_millis(6_200));
        }
        assert!((120..180).contains(&side.reports.len()), "{}", side.reports.len());
    }
}

#[test]
fn a_side_that_does_not_send_still_reports() {
    let mut link = Link::new([20, 30], [None, None]);
    link.sides[1].sends = false;
    link.run(Duration::from_secs(30));
    let trip = link.sides[0].view().round_trip.unwrap();
    assert!(near(trip, Duration::from_millis(50), Duration::from_micros(50)), "{trip:?}");
    assert_eq!(link.sides[1].session.remote_view(), None, "nobody hears it");
}

#[test]
fn a_side_that_falls_silent_is_no_longer_reported() {
    let mut link = Link::new([20, 20], [None, None]);
    link.run(Duration::from_secs(30));
    link.sides[0].sends = false;
    link.run(Duration::from_secs(10));
    let before = link.sides[0].events.len();
    link.run(Duration::from_secs(30));
    assert_eq!(link.sides[0].events.len(), before);
}

#[test]
fn a_goodbye_ends_its_senders_stream() {
    let mut link = Link::new([20, 20], [None, None]);
    link.run(Duration::from_secs(10));
    let (now, ntp) = (link.start + link.elapsed, link.ntp());
    let [a, b] = &mut link.sides;
    let bytes = a.session.goodbye(ntp, &a.counters(), &[]).unwrap();
    assert_eq!(b.session.handle_packet(now, ntp, &bytes), [RtcpEvent::Bye { ssrc: a.ssrc }]);
    // The same for someone who never reported.
    let ignored = b.session.ignored();
    let mut stranger = bytes.clone();
    let last = stranger.len() - 1;
    stranger[last] ^= 1;
    assert_eq!(b.session.handle_packet(now, ntp, &stranger), []);
    assert_eq!(b.session.ignored(), ignored + 1);
}

#[test]
fn who_never_spoke_leaves_silently() {
    let now = Instant::now();
    let mut session = RtcpSession::new(now, 1, "a".to_owned(), 8_000, 1);
    assert_eq!(session.goodbye(0, &SentCounters::default(), &[]), None);
    let spoken = SentCounters { packets: 1, octets: 160, rtp_timestamp: 0, active: true };
    assert!(session.goodbye(0, &spoken, &[]).is_some());
}

mod extended {
    //! Extended reports (RFC 3611) between two.

    use std::time::{Duration, Instant};

    use voipd_media::rtcp::{ReceivedCounters, RtcpSession, SentCounters, VoipMetrics};

    const NTP: u64 = 3_976_214_400 << 32;

    fn pair(now: Instant) -> (RtcpSession, RtcpSession) {
        let session = |ssrc, name: &str| RtcpSession::new(now, ssrc, name.to_owned(), 8_000, 1);
        (session(1, "a"), session(2, "b"))
    }

    fn report(from: &mut RtcpSession, ntp: u64, active: bool) -> (Instant, Vec<u8>) {
        let at = from.poll_timeout();
        let sent = SentCounters { packets: 10, octets: 1600, rtp_timestamp: 0, active };
        (at, from.poll_packet(at, ntp, &sent, &[]).unwrap())
    }

    #[test]
    fn a_report_is_known_with_its_time() {
        let now = Instant::now();
        let (mut a, mut b) = pair(now);
        assert_eq!(b.dated_view(), None);
        let heard = ReceivedCounters { ssrc: 2, highest_extended_seq: 9, packets: 10, ..Default::default() };
        let at = a.poll_timeout();
        let packet = a.poll_packet(at, NTP, &SentCounters::default(), &[heard]).unwrap();
        let arrived = at + Duration::from_millis(50);
        b.handle_packet(arrived, NTP, &packet);
        let (dated, view) = b.dated_view().unwrap();
        assert_eq!((dated, view.highest_seq, b.remote_view()), (arrived, 9, Some(view)));
        b.change_source(9, 8_000);
        assert_eq!(b.dated_view(), None);
    }

    #[test]
    fn metrics_reach_the_peer() {
        let now = Instant::now();
        let (mut a, mut b) = pair(now);
        let metrics = VoipMetrics {
            loss: 0.125,
            rating: Some(80),
            listening_opinion: Some(4.0),
            ..VoipMetrics::default()
        };
        a.set_metrics(2, metrics);
        let (at, packet) = report(&mut a, NTP, true);
        b.handle_packet(at, NTP, &packet);
        let told = Some((at, metrics));
        assert_eq!(b.remote_metrics(), told);
        assert_eq!(a.remote_metrics(), None);
        // What is said of somebody else is none of b's business.
        a.set_metrics(3, VoipMetrics::default());
        let (at, packet) = report(&mut a, NTP, true);
        let ignored = b.ignored();
        b.handle_packet(at, NTP, &packet);
        assert_eq!((b.remote_metrics(), b.ignored()), (told, ignored + 1));
        // Under another name nothing is known any more.
        b.change_source(9, 8_000);
        assert_eq!(b.remote_metrics(), None);
    }

    #[test]
    fn who_only_listens_learns_the_round_trip_too() {
        let now = Instant::now();
        let (mut a, mut b) = pair(now);
        let (asked, question) = report(&mut a, NTP, false);
        // 40 ms there, 3 s until b reports, 40 ms back.
        let arrived = NTP + (5_u64 << 32);
        b.handle_packet(asked + Duration::from_millis(40), arrived, &question);
        let (_, answer) = report(&mut b, arrived + (3 << 32), true);
        a.handle_packet(asked + Duration::from_millis(3080), NTP, &answer);
        let trip = a.round_trip().unwrap();
        assert!((79..=81).contains(&trip.as_millis()), "{trip:?}");
        // The same answer again is no other question's; one to a question never asked tells nothing.
        let (mut stranger, _) = pair(now);
        stranger.handle_packet(asked, NTP, &answer);
        assert_eq!(stranger.round_trip(), None);
    }

    #[test]
    fn our_own_extended_report_come_back_tells_nothing() {
        let now = Instant::now();
        let (mut a, _) = pair(now);
        a.set_metrics(1, VoipMetrics::default());
        let (at, packet) = report(&mut a, NTP, false);
        a.handle_packet(at, NTP, &packet);
        assert_eq!(a.remote_metrics(), None);
    }
}
