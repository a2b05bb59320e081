//! Calls over links of 64, 32 and 20 kbit/s from their first packet on, both ends with all that the daemon makes of counters
//! and reports: how long the queue stays below 200 ms, whatever the router's queue holds and however the peer reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_agent::adaptation::Adaptation;
use voipd_audio::plan::StreamCounters;
use voipd_media::rtcp::{ReceivedCounters, RtcpEvent, RtcpSession, SentCounters};

use crate::adaptation::OPUS;

const STEP: Duration = Duration::from_millis(10);
const LATENCY: Duration = Duration::from_millis(40);
/// How often the daemon looks at counters at the most and at the least, in steps.
const WATCH: u64 = 10;
const LOOK: u64 = 25;
const OVERHEAD: u64 = 40;
const LIMIT: Duration = Duration::from_millis(200);
const SEEDS: u64 = 12;
const ROUTERS: [u64; 4] = [200, 500, 1000, 3000];

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Peer {
    /// Another voipd, which speaks as well.
    Voipd,
    /// Reports every five seconds and speaks at this rate in bits per second, headers included, whatever becomes of it.
    Slow(f64),
}

/// Which direction is narrow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Narrow {
    /// What the first end sends.
    There,
    /// Both.
    Both,
}

struct Random(u64);

impl Random {
    /// In [0, 1).
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

enum Cargo {
    Sound { sequence: u64, sent: Instant, bytes: u64 },
    Report(Vec<u8>),
}

/// A router: what it cannot send at once waits, and what would wait for longer than `longest` is dropped.
struct Link {
    rate: f64,
    longest: Duration,
    jitter: Duration,
    free_at: Instant,
    under_way: VecDeque<(Instant, Cargo)>,
}

impl Link {
    fn queue(&self, now: Instant) -> Duration {
        self.free_at.saturating_duration_since(now)
    }

    fn send(&mut self, now: Instant, bytes: u64, cargo: Cargo, random: &mut Random) {
        if self.queue(now) > self.longest {
            return;
        }
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate);
        let sum: f64 = (0..12).map(|_| random.draw()).sum();
        let due = self.free_at + LATENCY + self.jitter.mul_f64((sum - 6.0).abs());
        let due = self.under_way.back().map_or(due, |(before, _)| due.max(*before));
        self.under_way.push_back((due, cargo));
    }

    fn arrived(&mut self, now: Instant) -> Option<Cargo> {
        let due = self.under_way.front().is_some_and(|(at, _)| *at <= now);
        due.then(|| self.under_way.pop_front().expect("it is there").1)
    }
}

/// One end of the call: what it counts, reports and makes of reports.
struct End {
    ssrc: u32,
    /// Bits per second that are sent come what may.
    fixed: Option<f64>,
    adaptation: Adaptation,
    rtcp: RtcpSession,
    counters: StreamCounters,
    next_packet: Instant,
    /// The packets of the last 200 ms: arrival, and time on the way in seconds.
    recent: VecDeque<(Instant, f64)>,
    fastest: f64,
    transit: Option<f64>,
    jitter: f64,
    /// How loud this second is.
    loudness: f64,
}

impl End {
    fn new(now: Instant, ssrc: u32, fixed: Option<f64>, seed: u64) -> Self {
        End {
            ssrc,
            fixed,
            adaptation: Adaptation::new(OPUS),
            rtcp: RtcpSession::new(now, ssrc, "0123456789abcdef01234567".to_owned(), 48_000, seed),
            counters: StreamCounters { sent_ssrc: ssrc, sent_sequence: 100, ..StreamCounters::default() },
            next_packet: now,
            recent: VecDeque::new(),
            fastest: f64::MAX,
            transit: None,
            jitter: 0.0,
            loudness: 1.0,
        }
    }

    /// Milliseconds and bytes of the next packet's payload.
    fn packet(&self, random: &mut Random) -> (u64, u64) {
        if let Some(fixed) = self.fixed {
            return (20, (fixed * 0.02 / 8.0) as u64 - OVERHEAD);
        }
        let steering = self.adaptation.steering();
        let ms = u64::from(steering.ptime_ms.unwrap_or(OPUS.ptime_ms));
        let bytes = f64::from(steering.bitrate.expect("Opus")) * ms as f64 / 8000.0;
        (ms, (bytes * self.loudness * (0.9 + 0.2 * random.draw())) as u64)
    }

    fn speak(&mut self, now: Instant, link: &mut Link, random: &mut Random) {
        while self.next_packet <= now {
            let (ms, bytes) = self.packet(random);
            let sequence = 100 + self.counters.packets_sent;
            let cargo = Cargo::Sound { sequence, sent: self.next_packet, bytes };
            link.send(now, bytes + OVERHEAD, cargo, random);
            self.counters.packets_sent += 1;
            self.counters.octets_sent += bytes;
            (self.counters.sent_sequence, self.counters.send_ptime_ms) = (sequence as u16 + 1, ms as u16);
            self.next_packet += Duration::from_millis(ms);
        }
    }

    fn hear(&mut self, now: Instant, sequence: u64, sent: Instant, bytes: u64) {
        let counters = &mut self.counters;
        counters.packets_received += 1;
        counters.octets_received += bytes;
        (counters.base_extended_seq, counters.remote_ssrc) = (100, 3 - self.ssrc);
        counters.highest_extended_seq = counters.highest_extended_seq.max(sequence as u32);
        let transit = now.duration_since(sent).as_secs_f64();
        let before = self.transit.replace(transit).unwrap_or(transit);
        self.jitter += ((transit - before).abs() - self.jitter) / 16.0;
        counters.jitter_timestamp_units = (self.jitter * 48_000.0) as u32;
        self.fastest = self.fastest.min(transit);
        self.recent.push_back((now, transit));
        while self.recent.front().is_some_and(|(at, _)| now - *at > Duration::from_millis(200)) {
            self.recent.pop_front();
        }
        let least = self.recent.iter().map(|(_, transit)| *transit).fold(f64::MAX, f64::min);
        counters.queued_now_us = ((least - self.fastest) * 1e6) as u64;
        counters.queued_us = counters.queued_now_us;
    }

    /// What the daemon does when it looks at the counters.
    fn look(&mut self, now: Instant, ntp: u64) -> Option<Vec<u8>> {
        self.adaptation.counted(now, &self.counters);
        if let Some(bandwidth) = self.adaptation.wants_report(now, &self.counters) {
            self.rtcp.hurry(now, bandwidth);
        }
        let report = self.report(now, ntp);
        if report.is_some() {
            self.adaptation.told(&self.counters);
        }
        report
    }

    fn report(&mut self, now: Instant, ntp: u64) -> Option<Vec<u8>> {
        let counters = &self.counters;
        let heard = (counters.packets_received > 0).then_some(ReceivedCounters {
            ssrc: counters.remote_ssrc,
            base_extended_seq: counters.base_extended_seq,
            highest_extended_seq: counters.highest_extended_seq,
            packets: counters.packets_received as u32,
            jitter: counters.jitter_timestamp_units,
        });
        let sent = SentCounters {
            packets: counters.packets_sent as u32,
            octets: counters.octets_sent as u32,
            rtp_timestamp: 0,
            active: true,
        };
        self.rtcp.poll_packet(now, ntp, &sent, heard.as_slice())
    }

    fn take_report(&mut self, now: Instant, ntp: u64, bytes: &[u8]) {
        self.adaptation.counted(now, &self.counters);
        let queued = Duration::from_micros(self.counters.queued_us);
        for event in self.rtcp.handle_packet(now, ntp, bytes) {
            if let RtcpEvent::Report(view) = event {
                self.adaptation.reported(now, &view, queued);
            }
        }
    }
}

struct Call {
    start: Instant,
    steps: u64,
    random: Random,
    peer: Peer,
    ends: [End; 2],
    /// From each end to the other.
    links: [Link; 2],
    /// The longest queue there in each tenth of a second, in milliseconds, and what was sent in it, in bits.
    queues: Vec<u64>,
    bits: Vec<f64>,
    sent_before: f64,
    /// Octets of RTCP of both ends.
    rtcp: u64,
}

impl Call {
    fn new(kbits: u64, router: u64, narrow: Narrow, peer: Peer, seed: u64) -> Self {
        let start = Instant::now();
        let link = |rate: u64| Link {
            rate: rate as f64 * 1000.0,
            longest: Duration::from_millis(router),
            jitter: Duration::ZERO,
            free_at: start,
            under_way: VecDeque::new(),
        };
        let back = if narrow == Narrow::Both { kbits } else { 10_000 };
        let fixed = match peer {
            Peer::Voipd => None,
            Peer::Slow(rate) => Some(rate),
        };
        Call {
            start,
            steps: 0,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            peer,
            ends: [End::new(start, 1, None, seed), End::new(start, 2, fixed, seed + 1000)],
            links: [link(kbits), link(back)],
            queues: Vec::new(),
            bits: Vec::new(),
            sent_before: 0.0,
            rtcp: 0,
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.step();
        }
    }

    fn step(&mut self) {
        let step = self.steps;
        self.steps += 1;
        let now = self.start + STEP * self.steps as u32;
        let ntp = (1_000_u64 << 32) + (self.steps as f64 / 100.0 * 4_294_967_296.0) as u64;
        if step.is_multiple_of(100) {
            for end in &mut self.ends {
                end.loudness = 0.75 + 0.5 * self.random.draw();
            }
        }
        for from in 0..2 {
            let silent = from == 1 && self.peer == Peer::Slow(0.0);
            if !silent {
                self.ends[from].speak(now, &mut self.links[from], &mut self.random);
            }
            while let Some(cargo) = self.links[from].arrived(now) {
                let end = &mut self.ends[1 - from];
                match cargo {
                    Cargo::Sound { sequence, sent, bytes } => end.hear(now, sequence, sent, bytes),
                    Cargo::Report(bytes) => end.take_report(now, ntp, &bytes),
                }
            }
        }
        for from in 0..2 {
            let end = &mut self.ends[from];
            let report = if from == 1 && self.peer != Peer::Voipd {
                let due = self.steps.is_multiple_of(500);
                due.then(|| end.rtcp.hurry(now, 1e9)).and_then(|()| end.report(now, ntp))
            } else {
                let every = if end.adaptation.is_watchful() { WATCH } else { LOOK };
                step.is_multiple_of(every).then(|| end.look(now, ntp)).flatten()
            };
            if let Some(report) = report {
                let bytes = report.len() as u64 + 28;
                self.rtcp += bytes;
                self.links[from].send(now, bytes, Cargo::Report(report), &mut self.random);
            }
        }
        let queue = self.links[0].queue(now).as_millis() as u64;
        if step.is_multiple_of(10) {
            let counters = &self.ends[0].counters;
            let sent = (counters.octets_sent + counters.packets_sent * OVERHEAD) as f64 * 8.0;
            self.bits.push(sent - self.sent_before);
            self.sent_before = sent;
            self.queues.push(queue);
        }
        let last = self.queues.last_mut().expect("there is one");
        *last = queue.max(*last);
    }

    /// Seconds of the time from `from` on in which the queue was as long as the limit.
    fn beyond(&self, from: usize) -> f64 {
        let late = self.queues.iter().skip(from * 10);
        late.filter(|queue| **queue >= LIMIT.as_millis() as u64).count() as f64 / 10.0
    }

    fn longest(&self, from: usize) -> u64 {
        self.queues.iter().skip(from * 10).copied().max().unwrap_or(0)
    }

    /// Bits per second from this second on.
    fn sent(&self, from: usize) -> f64 {
        let late = self.bits.iter().skip(from * 10);
        late.clone().sum::<f64>() * 10.0 / late.count() as f64
    }
}

/// Each call of 60 s over a link of so many kbit/s, for all routers and seeds.
fn calls(peer: Peer, narrow: Narrow, kbits: u64) -> Vec<Call> {
    let each = ROUTERS.iter().flat_map(|router| (1..=SEEDS).map(move |seed| (*router, seed)));
    each.map(|(router, seed)| {
        let mut call = Call::new(kbits, router, narrow, peer, seed);
        call.run(60);
        call
    })
    .collect()
}

/// Seconds beyond the limit from `from` on: the most of a call, and their mean; and the longest queue in milliseconds.
fn crowded(calls: &[Call], from: usize) -> (f64, f64, u64) {
    let beyond = calls.iter().map(|call| call.beyond(from));
    let mean = beyond.clone().sum::<f64>() / calls.len() as f64;
    let longest = calls.iter().map(|call| call.longest(from)).max().expect("there are calls");
    (beyond.fold(0.0, f64::max), mean, longest)
}

fn least_sent(calls: &[Call]) -> f64 {
    calls.iter().map(|call| call.sent(20)).fold(f64::MAX, f64::min)
}

#[test]
fn a_peer_that_reports_at_once_has_the_queue_gone_after_three_seconds() {
    for (narrow, kbits, mean_limit) in [
        (Narrow::There, 20, 0.3),
        (Narrow::There, 32, 0.05),
        (Narrow::Both, 20, 0.3),
        (Narrow::Both, 32, 0.3),
    ] {
        let calls = calls(Peer::Voipd, narrow, kbits);
        let (most, mean, longest) = crowded(&calls, 3);
        let sent = least_sent(&calls);
        println!("{narrow:?} {kbits}: {most:.1} s, mean {mean:.2} s, {longest} ms, {sent:.0} bit/s");
        assert!(
            mean <= mean_limit && most <= 4.0 && longest <= 800,
            "{narrow:?} {kbits}: {most} {mean} {longest}"
        );
        assert!(sent >= 0.4 * 1000.0 * kbits as f64, "{narrow:?} {kbits}: {sent}");
    }
}

#[test]
fn a_peer_that_reports_seldom_has_it_gone_after_its_second_report() {
    for (peer, narrow, kbits, mean_limit, longest_limit) in [
        (Peer::Slow(48_000.0), Narrow::There, 20, 0.3, 350),
        (Peer::Slow(0.0), Narrow::There, 20, 0.5, 450),
        (Peer::Slow(48_000.0), Narrow::Both, 20, 0.01, 200),
        (Peer::Slow(48_000.0), Narrow::Both, 32, 0.01, 200),
        // That the link carries 32 kbit/s is found by a try for more, once.
        (Peer::Slow(48_000.0), Narrow::There, 32, 1.5, 1300),
        (Peer::Slow(0.0), Narrow::There, 32, 1.5, 1300),
    ] {
        let calls = calls(peer, narrow, kbits);
        let (most, mean, longest) = crowded(&calls, 10);
        let sent = least_sent(&calls);
        println!("{peer:?} {narrow:?} {kbits}: {most:.1} s, mean {mean:.2} s, {longest} ms, {sent:.0} bit/s");
        assert!(
            mean <= mean_limit && longest <= longest_limit,
            "{peer:?} {narrow:?} {kbits}: {mean} {longest}"
        );
        assert!(sent >= 0.4 * 1000.0 * kbits as f64, "{peer:?} {narrow:?} {kbits}: {sent}");
    }
}

#[test]
fn a_link_that_is_wide_enough_is_found_so() {
    for peer in [Peer::Voipd, Peer::Slow(48_000.0), Peer::Slow(0.0)] {
        for kbits in [64, 10_000] {
            for call in calls(peer, Narrow::Both, kbits) {
                assert!(call.longest(0) < 60, "{peer:?} {kbits}: {} ms", call.longest(0));
                // The second report of a slow peer has seen all of it.
                let from = if peer == Peer::Voipd { 2 } else { 11 };
                let sent = call.sent(from);
                assert!((44_000.0..52_000.0).contains(&sent), "{peer:?} {kbits}: {sent}");
                let full = call.ends[0].adaptation.steering();
                assert_eq!((full.bitrate, full.ptime_ms), (Some(32_000), None), "{peer:?} {kbits}");
            }
        }
    }
}

#[test]
fn jitter_is_no_narrow_link() {
    for peer in [Peer::Voipd, Peer::Slow(48_000.0)] {
        for seed in 1..=SEEDS {
            let mut call = Call::new(10_000, 1000, Narrow::Both, peer, seed);
            for link in &mut call.links {
                link.jitter = Duration::from_millis(30);
            }
            call.run(60);
            let from = if peer == Peer::Voipd { 5 } else { 45 };
            assert!(call.sent(from) > 40_000.0, "{peer:?} {seed}: {}", call.sent(from));
        }
    }
}

#[test]
fn reports_take_a_twentieth_of_the_bandwidth() {
    for kbits in [20, 32] {
        for call in calls(Peer::Voipd, Narrow::Both, kbits) {
            let seconds = call.queues.len() as f64 / 10.0;
            let both = call.rtcp as f64 * 8.0 / seconds;
            assert!(both <= 0.05 * 2.0 * 1000.0 * kbits as f64, "{kbits}: {both}");
        }
    }
}
