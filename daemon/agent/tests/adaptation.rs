//! What is sent follows the network: links of 20 to 64 kbit/s, losses and both, over minutes of virtual time. The link is
//! a queue with a rate and a limit; RTCP is spoken by the real sessions of both sides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_agent::adaptation::{Adaptation, Limits};
use voipd_audio::Codec;
use voipd_audio::plan::{Steering, StreamCounters};
use voipd_media::rtcp::{ReceivedCounters, RtcpEvent, RtcpSession, SentCounters};

const LATENCY: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(10);
const OVERHEAD: u64 = 40;

pub(crate) const OPUS: Limits = Limits {
    codec: Codec::Opus,
    ptime_ms: 20,
    max_ptime_ms: 60,
    max_bitrate: None,
    bandwidth: None,
    fec: true,
    copies: 2,
    packet_overhead: 28,
};
const PCMU: Limits = Limits { codec: Codec::Pcmu, max_ptime_ms: 20, fec: false, ..OPUS };

/// What travels.
enum Cargo {
    Sound { sequence: u64, sent: Instant, bytes: u64 },
    Report(Vec<u8>),
}

/// A link as a router makes it: what it cannot send at once waits, and what would wait too long is dropped.
pub(crate) struct Link {
    /// Bits per second; 0: no limit.
    pub(crate) rate: f64,
    pub(crate) longest: Duration,
    pub(crate) latency: Duration,
    /// Of 1000 packets of sound.
    pub(crate) losses: u64,
    /// What somebody else sends over it, in bits per second.
    pub(crate) others: f64,
    /// Deviation of the normal distribution whose magnitude packets come later by; they keep their order.
    pub(crate) jitter: Duration,
    random: u64,
    free_at: Instant,
    under_way: VecDeque<(Instant, Cargo)>,
}

impl Link {
    fn queue(&self, now: Instant) -> Duration {
        self.free_at.saturating_duration_since(now)
    }

    fn send(&mut self, now: Instant, bytes: u64, cargo: Cargo) {
        let drawn = self.draw();
        let sound = matches!(cargo, Cargo::Sound { .. });
        if self.queue(now) > self.longest || (sound && drawn % 1000 < self.losses) {
            return;
        }
        if self.rate > 0.0 {
            let time = Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate);
            self.free_at = self.free_at.max(now) + time;
        } else {
            self.free_at = now;
        }
        let mut due = self.free_at + self.latency;
        if !self.jitter.is_zero() {
            // Twelve evenly distributed numbers make a normal one.
            let sum: f64 = (0..12).map(|_| self.draw() as f64 / f64::from(1_u32 << 31)).sum();
            due += self.jitter.mul_f64((sum - 6.0).abs());
        }
        let due = self.under_way.back().map_or(due, |(before, _)| due.max(*before));
        self.under_way.push_back((due, cargo));
    }

    /// 31 bits.
    fn draw(&mut self) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Somebody else's packets of one step.
    fn carry_others(&mut self, now: Instant) {
        if self.rate > 0.0 && self.queue(now) <= self.longest {
            let time = STEP.mul_f64(self.others / self.rate);
            self.free_at = self.free_at.max(now) + time;
        }
    }

    fn arrived(&mut self, now: Instant) -> Option<Cargo> {
        let due = self.under_way.front().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.under_way.pop_front().expect("it is there").1)
    }
}

/// A second as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second {
    /// Longest queue.
    pub(crate) queue: Duration,
    steering: Steering,
    /// Sent, in bits per second, headers included.
    pub(crate) sent: f64,
}

/// One direction of sound, and reports both ways.
pub(crate) struct Trial {
    start: Instant,
    now: Instant,
    pub(crate) there: Link,
    pub(crate) back: Link,
    limits: Limits,
    adaptation: Adaptation,
    sender: RtcpSession,
    receiver: RtcpSession,
    /// The other end's view of what it receives: it decides when reports are in a hurry.
    listener: Adaptation,
    sent: StreamCounters,
    sequence: u64,
    next_packet: Instant,
    highest: u64,
    received: u32,
    octets_received: u64,
    transit: Option<f64>,
    /// Seconds.
    jitter: f64,
    pub(crate) seconds: Vec<Second>,
}

impl Trial {
    fn new(limits: Limits) -> Self {
        Trial::seeded(limits, 7)
    }

    pub(crate) fn seeded(limits: Limits, seed: u64) -> Self {
        let start = Instant::now();
        let link = || Link {
            rate: 0.0,
            longest: Duration::from_secs(4),
            latency: LATENCY,
            losses: 0,
            others: 0.0,
            jitter: Duration::ZERO,
            random: seed,
            free_at: start,
            under_way: VecDeque::new(),
        };
        let session = |ssrc, seed| RtcpSession::new(start, ssrc, "someone".to_owned(), 48_000, seed);
        Trial {
            start,
            now: start,
            there: link(),
            back: link(),
            limits,
            adaptation: Adaptation::new(limits),
            sender: session(1, seed - 4),
            receiver: session(2, seed - 3),
            listener: Adaptation::new(limits),
            sent: StreamCounters { sent_ssrc: 1, sent_sequence: 100, ..StreamCounters::default() },
            sequence: 100,
            next_packet: start,
            highest: 99,
            received: 0,
            octets_received: 0,
            transit: None,
            jitter: 0.0,
            seconds: Vec::new(),
        }
    }

    /// Bytes of a packet of sound, without headers.
    fn payload(&self, steering: Steering, ptime: u64) -> u64 {
        let rate = match self.limits.codec {
            Codec::Opus => u64::from(steering.bitrate.unwrap_or(32_000)),
            _ => 64_000,
        };
        let frame = rate * ptime / 8000;
        // Speech is not even: a third more and a third less, by turns of a second.
        let turn = self.now.duration_since(self.start).as_secs().is_multiple_of(2);
        let frame = match (self.limits.codec, turn) {
            (Codec::Opus, true) => frame * 5 / 4,
            (Codec::Opus, false) => frame * 3 / 4,
            _ => frame,
        };
        let copies = u64::from(steering.copies);
        frame * (1 + copies) + if copies > 0 { 1 + 4 * copies } else { 0 }
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let (mut longest, before) = (Duration::ZERO, self.sent);
            for _ in 0..100 {
                self.step();
                longest = longest.max(self.there.queue(self.now));
            }
            self.adaptation.counted(self.now, &self.sent);
            let octets = self.sent.octets_sent - before.octets_sent;
            let packets = self.sent.packets_sent - before.packets_sent;
            let sent = (octets + packets * OVERHEAD) as f64 * 8.0;
            self.seconds.push(Second { queue: longest, steering: self.adaptation.steering(), sent });
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        self.there.carry_others(now);
        let ntp = (1_000_u64 << 32) + (now.duration_since(self.start).as_secs_f64() * 4_294_967_296.0) as u64;
        while self.next_packet <= now {
            let steering = self.adaptation.steering();
            let ptime = u64::from(steering.ptime_ms.unwrap_or(self.limits.ptime_ms));
            let bytes = self.payload(steering, ptime);
            self.there.send(
                now,
                bytes + OVERHEAD,
                Cargo::Sound { sequence: self.sequence, sent: now, bytes },
            );
            self.sequence += 1;
            self.sent.packets_sent += 1;
            self.sent.octets_sent += bytes;
            (self.sent.sent_sequence, self.sent.send_ptime_ms) = (self.sequence as u16, ptime as u16);
            self.next_packet += Duration::from_millis(ptime);
        }
        let sent = SentCounters { packets: 1, octets: 1, rtp_timestamp: 0, active: true };
        if let Some(report) = self.sender.poll_packet(now, ntp, &sent, &[]) {
            self.there.send(now, report.len() as u64 + 28, Cargo::Report(report));
        }
        while let Some(cargo) = self.there.arrived(now) {
            match cargo {
                Cargo::Sound { sequence, sent, bytes } => {
                    self.highest = self.highest.max(sequence);
                    self.received += 1;
                    self.octets_received += bytes;
                    // RFC 3550 section 6.4.1.
                    let transit = now.duration_since(sent).as_secs_f64();
                    let before = self.transit.replace(transit).unwrap_or(transit);
                    self.jitter += ((transit - before).abs() - self.jitter) / 16.0;
                }
                Cargo::Report(bytes) => drop(self.receiver.handle_packet(now, ntp, &bytes)),
            }
        }
        let heard = ReceivedCounters {
            ssrc: 1,
            base_extended_seq: 100,
            highest_extended_seq: self.highest as u32,
            packets: self.received,
            jitter: (self.jitter * 48_000.0) as u32,
        };
        let received = StreamCounters {
            packets_received: self.received.into(),
            octets_received: self.octets_received,
            ..StreamCounters::default()
        };
        self.listener.counted(now, &received);
        if let Some(bandwidth) = self.listener.wants_report(now, &received) {
            self.receiver.hurry(now, bandwidth);
        }
        if let Some(report) = self.receiver.poll_packet(now, ntp, &SentCounters::default(), &[heard]) {
            self.listener.told(&received);
            self.back.send(now, report.len() as u64 + 28, Cargo::Report(report));
        }
        while let Some(cargo) = self.back.arrived(now) {
            let Cargo::Report(bytes) = cargo else { continue };
            self.adaptation.counted(now, &self.sent);
            for event in self.sender.handle_packet(now, ntp, &bytes) {
                if let RtcpEvent::Report(view) = event {
                    self.adaptation.reported(now, &view, Duration::ZERO);
                }
            }
        }
    }

    /// The seconds from here on.
    pub(crate) fn since(&self, second: usize) -> &[Second] {
        &self.seconds[second..]
    }

    fn show(&self) {
        for (number, second) in self.seconds.iter().enumerate() {
            println!(
                "{number:4} {:6.0} bit/s, queue {:4} ms, {:?}",
                second.sent,
                second.queue.as_millis(),
                second.steering
            );
        }
    }
}

fn longest_queue(seconds: &[Second]) -> Duration {
    seconds.iter().map(|second| second.queue).max().expect("seconds")
}

pub(crate) fn mean_sent(seconds: &[Second]) -> f64 {
    seconds.iter().map(|second| second.sent).sum::<f64>() / seconds.len() as f64
}

fn changes<T: PartialEq>(seconds: &[Second], what: impl Fn(&Second) -> T) -> usize {
    seconds.windows(2).filter(|pair| what(&pair[0]) != what(&pair[1])).count()
}

#[test]
fn a_free_network_is_left_as_it_is() {
    let mut trial = Trial::new(OPUS);
    let before = trial.adaptation.steering();
    assert_eq!((before.bitrate, before.ptime_ms, before.fec, before.copies), (Some(32_000), None, false, 0));
    trial.run(120);
    assert!(trial.seconds.iter().all(|second| second.steering == before));
}

#[test]
fn opus_shrinks_until_a_narrow_link_has_no_queue() {
    for (kbits, least) in [(64, 0.6), (32, 0.6), (20, 0.6)] {
        let mut trial = Trial::new(OPUS);
        trial.there.rate = f64::from(kbits) * 1000.0;
        trial.run(300);
        trial.show();
        let settled = trial.since(40);
        println!("{kbits} kbit/s: queue {:?}, {:.0} bit/s", longest_queue(settled), mean_sent(settled));
        assert!(longest_queue(settled) < Duration::from_millis(200), "{kbits}: {:?}", longest_queue(settled));
        assert!(
            mean_sent(settled) > least * f64::from(kbits.min(48)) * 1000.0,
            "{kbits}: {}",
            mean_sent(settled)
        );
        assert!(changes(settled, |second| second.steering.ptime_ms) <= 2, "{kbits} kbit/s");
    }
}

#[test]
fn a_link_that_recovers_is_used_again() {
    let mut trial = Trial::new(OPUS);
    trial.run(30);
    trial.there.rate = 24_000.0;
    trial.run(90);
    assert!(
        longest_queue(trial.since(70)) < Duration::from_millis(200),
        "{:?}",
        longest_queue(trial.since(70))
    );
    trial.there.rate = 0.0;
    trial.run(180);
    trial.show();
    let last = trial.seconds.last().unwrap().steering;
    assert_eq!((last.bitrate, last.ptime_ms), (Some(32_000), None));
}

#[test]
fn a_short_queue_loses_packets_and_is_found_all_the_same() {
    let mut trial = Trial::new(OPUS);
    (trial.there.rate, trial.there.longest) = (32_000.0, Duration::from_millis(50));
    trial.run(200);
    trial.show();
    assert!(mean_sent(trial.since(30)) < 33_000.0, "{}", mean_sent(trial.since(30)));
    assert!(mean_sent(trial.since(30)) > 18_000.0, "{}", mean_sent(trial.since(30)));
}

#[test]
fn random_losses_are_met_with_protection_and_no_less_sound() {
    for losses in [30, 100, 200] {
        let mut trial = Trial::new(OPUS);
        trial.there.losses = losses;
        trial.run(300);
        trial.show();
        let settled = trial.since(60);
        let protected = settled.iter().filter(|second| second.steering.fec).count();
        assert!(protected * 10 > settled.len() * 9, "{losses}: {protected} of {}", settled.len());
        // Headers that longer packets save pay for the protection.
        assert!(
            mean_sent(settled) > 40_000.0 && mean_sent(settled) < 52_000.0,
            "{losses}: {}",
            mean_sent(settled)
        );
        assert!(changes(settled, |second| second.steering.ptime_ms) <= 4, "{losses}");
        trial.there.losses = 0;
        trial.run(120);
        let last = trial.seconds.last().unwrap().steering;
        assert_eq!((last.fec, last.bitrate, last.ptime_ms), (false, Some(32_000), None), "{losses}");
    }
}

#[test]
fn packets_are_long_enough_for_protection_on_a_narrow_link() {
    for (bandwidth, ptime, fec) in
        [(32_000, 40, true), (28_000, 40, true), (25_000, 60, true), (20_000, 60, false)]
    {
        let mut trial = Trial::new(Limits { bandwidth: Some(bandwidth), ..OPUS });
        trial.there.losses = 50;
        trial.run(60);
        let steering = trial.adaptation.steering();
        assert_eq!((steering.ptime_ms, steering.fec), (Some(ptime), fec), "{bandwidth}: {steering:?}");
        // libopus sends none below 18 kbit/s.
        assert_eq!(steering.bitrate.unwrap() >= 18_000, fec, "{bandwidth}: {steering:?}");
    }
}

#[test]
fn more_care_is_taken_where_packets_get_lost_or_bits_are_scarce() {
    let settled = |bandwidth, losses| {
        let mut trial = Trial::new(Limits { bandwidth, ..OPUS });
        trial.there.losses = losses;
        trial.run(60);
        trial.adaptation.steering().careful
    };
    assert!(!settled(None, 0));
    assert!(settled(None, 50));
    assert!(settled(Some(32_000), 0));
    let mut trial = Trial::new(PCMU);
    trial.there.losses = 50;
    trial.run(60);
    assert!(!trial.adaptation.steering().careful, "there is but one way to encode");
}

#[test]
fn a_peer_without_error_correction_gets_copies_and_one_without_either_nothing() {
    let settled = |limits: Limits| {
        let mut trial = Trial::new(limits);
        trial.there.losses = 50;
        trial.run(60);
        trial.seconds.last().unwrap().steering
    };
    let copies = settled(Limits { fec: false, ..OPUS });
    assert_eq!((copies.copies, copies.fec, copies.ptime_ms), (1, false, Some(40)));
    let neither = settled(Limits { fec: false, copies: 0, ..OPUS });
    assert_eq!((neither.copies, neither.fec), (0, false));
    assert_eq!(settled(Limits { copies: 0, ..PCMU }).copies, 0);
    assert_eq!(settled(PCMU).copies, 1);
    // 64 kbit/s of sound twice, and headers, is more than the peer wants.
    assert_eq!(settled(Limits { bandwidth: Some(128_000), ..PCMU }).copies, 0);
    assert_eq!(settled(Limits { max_ptime_ms: 20, ..OPUS }).ptime_ms, None);
}

#[test]
fn copies_that_the_link_does_not_carry_are_given_up() {
    let mut trial = Trial::new(PCMU);
    (trial.there.rate, trial.there.losses) = (100_000.0, 50);
    trial.run(300);
    trial.show();
    let with_copies = trial.since(60).iter().filter(|second| second.steering.copies > 0).count();
    assert!(with_copies < 60, "{with_copies} seconds");
    let crowded = trial.since(60).iter().filter(|second| second.queue > Duration::from_millis(300)).count();
    assert!(crowded < 40, "{crowded} seconds");
}

#[test]
fn longer_packets_spare_a_link_the_headers_that_it_does_not_carry() {
    // 80 kbit/s with packets of 20 ms, 72 with 40, 69 with 60.
    let limits = Limits { max_ptime_ms: 60, copies: 0, ..PCMU };
    for rate in [71_000.0, 76_000.0] {
        let mut trial = Trial::new(limits);
        trial.there.rate = rate;
        trial.run(300);
        trial.show();
        let settled = trial.since(60);
        let crowded = settled.iter().filter(|second| second.queue > Duration::from_millis(200)).count();
        assert!(crowded * 10 < settled.len(), "{rate}: {crowded} of {} seconds", settled.len());
        trial.there.rate = 0.0;
        trial.run(180);
        assert_eq!(trial.seconds.last().unwrap().steering.ptime_ms, None, "{rate}: all is well again");
    }
    // Losses alone say nothing against headers.
    for losses in [30, 100, 200] {
        let mut trial = Trial::new(limits);
        trial.there.losses = losses;
        trial.run(300);
        assert!(trial.seconds.iter().all(|second| second.steering.ptime_ms.is_none()), "{losses}");
    }
    let modest = Limits { bandwidth: Some(64_000), ..limits };
    assert_eq!(Adaptation::new(modest).steering().ptime_ms, None, "the peer has agreed to it");
}

#[test]
fn what_the_peer_wants_is_not_exceeded() {
    let mut trial = Trial::new(Limits { bandwidth: Some(32_000), ..OPUS });
    let before = trial.adaptation.steering();
    assert_eq!((before.bitrate, before.ptime_ms), (Some(24_000), Some(40)));
    trial.there.losses = 50;
    trial.run(60);
    let after = trial.adaptation.steering();
    assert_eq!((after.bitrate, after.ptime_ms, after.fec), (Some(24_000), Some(40), true));
    let modest = Adaptation::new(Limits { max_bitrate: Some(12_000), ..OPUS }).steering();
    assert_eq!((modest.bitrate, modest.ptime_ms), (Some(12_000), None));
}

#[test]
fn a_longer_way_is_no_queue() {
    let mut trial = Trial::new(OPUS);
    let ways = |trial: &mut Trial, latency| {
        (trial.there.latency, trial.back.latency) = (latency, latency);
        trial.adaptation.way_changed(trial.now);
    };
    let before = trial.adaptation.steering();
    for ms in [20, 120, 30, 250] {
        ways(&mut trial, Duration::from_millis(ms));
        trial.run(70);
    }
    trial.show();
    assert!(trial.seconds.iter().all(|second| second.steering == before));
    // A queue on it is one, all the same.
    trial.there.rate = 24_000.0;
    trial.run(90);
    let settled = trial.since(340);
    assert!(longest_queue(settled) < Duration::from_millis(500), "{:?}", longest_queue(settled));
}

#[test]
fn what_a_link_carries_is_known_where_packets_have_just_got_smaller_headers() {
    let mut trial = Trial::new(Limits { packet_overhead: 68, ..OPUS });
    trial.run(60);
    trial.adaptation.set_limits(OPUS);
    trial.there.rate = 36_000.0;
    trial.run(20);
    trial.show();
    assert!(mean_sent(trial.since(68)) > 16_000.0, "{}", mean_sent(trial.since(68)));
}

#[test]
fn a_peer_without_reports_is_sent_less_for_as_long_as_it_queues() {
    // Tenths of a second; the queue comes when nobody waits for a report any more.
    for (queue_ends, rate_recovers) in [(206, true), (1000, false)] {
        let (start, mut adaptation) = (Instant::now(), Adaptation::new(OPUS));
        let full = adaptation.steering();
        let mut counters = StreamCounters { sent_ssrc: 1, send_ptime_ms: 20, ..StreamCounters::default() };
        for tenth in 0..600_u32 {
            (counters.packets_sent, counters.octets_sent) = (5 * u64::from(tenth), 400 * u64::from(tenth));
            counters.sent_sequence = 5 * tenth as u16;
            (counters.packets_received, counters.octets_received) =
                (2 * u64::from(tenth), 160 * u64::from(tenth));
            let queues = (200..queue_ends).contains(&tenth);
            counters.queued_now_us = if queues { 30_000 * u64::from((tenth - 199).min(6)) } else { 0 };
            adaptation.counted(start + tenth * Duration::from_millis(100), &counters);
            if tenth == 199 || tenth == 380 {
                assert_eq!(adaptation.steering() == full, tenth == 199, "{queue_ends}: {tenth}");
            }
        }
        assert_eq!(adaptation.steering() == full, rate_recovers, "{queue_ends}");
    }
}
