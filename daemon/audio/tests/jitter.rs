//! The jitter buffer on a simulated wire: what is played, sample for sample, and with how much delay.

use crate::support::Random;
use voipd_audio::jitter::{Advice, Arrival, CAPACITY, Inserted, JitterBuffer, MAX_PAYLOAD, Next};

const MS: u64 = 1_000_000;
const RATE: u32 = 8000;

/// A packet on its way; the payload is its number.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u32,
    sequence: u16,
    timestamp: u32,
    clock_rate: u32,
    ssrc: u32,
    payload_type: u8,
    duration: u32,
    at: u64,
}

impl Sent {
    fn insert(&self, buffer: &mut JitterBuffer) -> Inserted {
        buffer.insert(Arrival {
            sequence: self.sequence,
            timestamp: self.timestamp,
            clock_rate: self.clock_rate,
            ssrc: self.ssrc,
            payload_type: self.payload_type,
            marker: false,
            at_nanos: self.at,
            duration: self.duration,
            payload: &self.number.to_be_bytes(),
        })
    }
}

/// A talker of 20 ms packets from `start` on, as if the wire were perfect.
fn talk(count: u32, start: u64) -> Vec<Sent> {
    (0..count)
        .map(|number| Sent {
            number,
            sequence: 65_500_u16.wrapping_add(number as u16),
            timestamp: 0xffff_f000_u32.wrapping_add(160 * number),
            clock_rate: RATE,
            ssrc: 7,
            payload_type: 0,
            duration: 160,
            at: start + u64::from(number) * 20 * MS,
        })
        .collect()
}

/// What was heard in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Began to play this packet.
    Packet(u32),
    /// Goes on with the packet before.
    More,
    Lost {
        fec: Option<u32>,
    },
    Empty,
    Silence,
}

/// Ear and clock: a tick every 10 ms, packets handed over at the first tick after their arrival. Sound is stretched as the
/// buffer advises, 8 ms at a time.
struct Ear {
    buffer: JitterBuffer,
    now: u64,
    /// Nanoseconds of samples that the decoder still has, and of the last packet.
    unplayed: u64,
    packet: u64,
    heard: Vec<(u64, Heard)>,
    /// Stretched, in nanoseconds: how often, and to what end.
    stretched: (u32, i64),
    /// The voice never pauses.
    voice: bool,
}

const STRETCH: i64 = 8 * MS as i64;

impl Ear {
    fn new(buffer: JitterBuffer) -> Self {
        let (packet, heard) = (20 * MS, Vec::new());
        Ear { buffer, now: 0, unplayed: 0, packet, heard, stretched: (0, 0), voice: true }
    }

    fn pull(&mut self) {
        let heard = match self.buffer.next(self.now) {
            Next::Packet { payload, duration, skip, .. } => {
                self.packet = duration;
                self.unplayed += duration - skip;
                Heard::Packet(number(payload))
            }
            Next::Lost { later } => {
                self.unplayed += self.packet;
                Heard::Lost { fec: (later.distance == 0).then(|| number(later.payload)) }
            }
            Next::Empty => {
                self.unplayed += 10 * MS;
                Heard::Empty
            }
            Next::Silence => {
                self.unplayed = 10 * MS;
                Heard::Silence
            }
        };
        self.heard.push((self.now, heard));
    }

    fn tick(&mut self) {
        if self.unplayed >= 10 * MS {
            self.heard.push((self.now, Heard::More));
        }
        while self.unplayed < 10 * MS {
            self.pull();
        }
        let voice = self.voice;
        let by = match self.buffer.advise(self.now, self.unplayed, || !voice) {
            Advice::Shorten { most, .. } => {
                while self.unplayed < 30 * MS && self.buffer.is_next_here() {
                    self.pull();
                }
                -most.min(STRETCH).min(self.unplayed as i64 - 5 * MS as i64)
            }
            Advice::Lengthen { .. } => STRETCH,
            Advice::Keep => 0,
        };
        if by != 0 {
            self.buffer.stretched(self.now, by);
            self.unplayed = (self.unplayed as i64 + by) as u64;
            self.stretched = (self.stretched.0 + 1, self.stretched.1 + by);
        }
        while self.unplayed < 10 * MS {
            self.pull();
        }
        self.unplayed -= 10 * MS;
        self.now += 10 * MS;
    }

    /// Delivers packets in the order of their arrival and listens until `until`.
    fn listen(&mut self, mut wire: Vec<Sent>, until: u64) -> Vec<Inserted> {
        wire.sort_by_key(|sent| sent.at);
        let mut wire = wire.into_iter().peekable();
        let mut inserted = Vec::new();
        while self.now < until {
            while let Some(sent) = wire.next_if(|sent| sent.at <= self.now) {
                inserted.push(sent.insert(&mut self.buffer));
            }
            self.tick();
        }
        inserted
    }

    fn played(&self) -> Vec<u32> {
        let packet = |(_, heard): &(u64, Heard)| match heard {
            Heard::Packet(number) => Some(*number),
            _ => None,
        };
        self.heard.iter().filter_map(packet).collect()
    }

    fn count(&self, from: u64, matches: fn(&Heard) -> bool) -> usize {
        self.heard.iter().filter(|(at, heard)| *at >= from && matches(heard)).count()
    }

    /// When a packet began to play.
    fn when(&self, number: u32) -> Option<u64> {
        self.heard.iter().find(|(_, heard)| *heard == Heard::Packet(number)).map(|(at, _)| *at)
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

fn made_up(heard: &Heard) -> bool {
    matches!(heard, Heard::Empty | Heard::Lost { .. })
}

fn buffer() -> JitterBuffer {
    JitterBuffer::new(20, 200)
}

#[test]
fn a_clean_wire_is_played_whole_across_both_wraps_within_30_ms_of_delay() {
    for phase in 0..10 {
        let mut ear = Ear::new(buffer());
        let wire = talk(3000, 5 * MS + phase * MS);
        ear.listen(wire, 61_000 * MS);
        assert_eq!(ear.played(), (0..3000).collect::<Vec<_>>());
        assert_eq!(ear.count(0, |heard| matches!(heard, Heard::Lost { .. })), 0);
        let held = ear.buffer.figures().held_us;
        // The packet itself, the 2 ms that the target asks for, and what is left to the next tick.
        assert!((22_000..32_000).contains(&held), "{held} us at phase {phase}");
        assert_eq!(ear.buffer.figures().lost, 0);
    }
}

#[test]
fn losses_take_their_own_time_and_no_more() {
    let mut random = Random::new(1);
    let mut ear = Ear::new(buffer());
    let sent = talk(5000, 3 * MS);
    let wire: Vec<_> = sent.iter().filter(|sent| sent.number == 0 || random.unit() > 0.1).copied().collect();
    let arrived: Vec<_> = wire.iter().map(|sent| sent.number).collect();
    let last = *arrived.last().unwrap();
    ear.listen(wire, 99_000 * MS);
    let played = ear.played();
    assert_eq!(played, arrived[..played.len()], "everything that came is played, in order");
    assert!(played.len() as f64 > 0.98 * arrived.len() as f64);
    // Not one tick is added or missing: every packet plays as long after the first as it was sent after it.
    let start = ear.when(0).unwrap();
    for number in &played {
        assert_eq!(ear.when(*number).unwrap() - start, u64::from(*number) * 20 * MS);
    }
    let missing = u64::from(played.last().unwrap() + 1) - played.len() as u64;
    assert!(
        ear.buffer.figures().lost.abs_diff(missing) <= 2,
        "{:?}, {missing} of {last}",
        ear.buffer.figures()
    );
}

#[test]
fn a_lost_packet_comes_with_the_one_behind_it_for_fec() {
    let mut ear = Ear::new(JitterBuffer::new(40, 200));
    let wire = talk(100, 0).into_iter().filter(|sent| sent.number % 10 != 5).collect();
    ear.listen(wire, 1990 * MS);
    for lost in (5..95).step_by(10) {
        assert!(ear.heard.iter().any(|(_, heard)| *heard == Heard::Lost { fec: Some(lost + 1) }), "{lost}");
    }
}

#[test]
fn reordered_packets_are_put_in_order_and_duplicates_dropped() {
    let mut ear = Ear::new(JitterBuffer::new(60, 200));
    let mut wire = talk(1000, 0);
    for pair in wire.chunks_exact_mut(2) {
        pair[0].at += 25 * MS;
    }
    let twice = wire.clone();
    wire.extend(twice.iter().filter(|sent| sent.number % 3 == 0));
    let inserted = ear.listen(wire, 21_000 * MS);
    assert_eq!(ear.played(), (0..1000).collect::<Vec<_>>());
    assert_eq!(inserted.iter().filter(|inserted| **inserted == Inserted::Duplicate).count(), 334);
    let figures = ear.buffer.figures();
    assert_eq!((figures.duplicate, figures.reordered, figures.late, figures.lost), (334, 500, 0, 0));
}

#[test]
fn a_packet_behind_its_time_is_late_and_no_longer_lost() {
    let mut ear = Ear::new(buffer());
    let mut wire = talk(100, 0);
    wire[50].at += 150 * MS;
    let inserted = ear.listen(wire, 2000 * MS);
    assert_eq!(inserted.iter().filter(|inserted| **inserted == Inserted::Late).count(), 1);
    assert_eq!((ear.buffer.figures().late, ear.buffer.figures().lost), (1, 0));
    assert_eq!(ear.played(), (0..100).filter(|number| *number != 50).collect::<Vec<_>>());
}

#[test]
fn jitter_costs_concealment_but_no_packet() {
    // Gamma-like delay: mostly a few milliseconds, at times 60 and more; order is kept as most networks keep it.
    let mut random = Random::new(2);
    let mut last = 0;
    let wire: Vec<_> = talk(6000, 0)
        .into_iter()
        .map(|sent| {
            let delay = -15.0 * random.unit().max(1e-9).ln();
            last = last.max(sent.at + (delay.min(120.0) * MS as f64) as u64);
            Sent { at: last, ..sent }
        })
        .collect();
    let mut ear = Ear::new(buffer());
    ear.listen(wire, 121_000 * MS);
    let figures = ear.buffer.figures();
    assert_eq!((figures.lost, figures.late), (0, 0));
    let played = ear.played();
    assert_eq!(played.len() as u64 + figures.discarded, 6000);
    assert!(played.is_sorted());
    // From the tenth second on: the target has been learnt.
    let made_up = ear.count(10_000 * MS, made_up) as f64 / 11_000.0;
    let dropped = figures.discarded as f64 / 6000.0;
    println!("made up {:.2} %, dropped {:.2} %, {figures:?}", made_up * 100.0, dropped * 100.0);
    assert!(made_up < 0.02 && dropped < 0.01, "made up {made_up}, dropped {dropped}");
    assert!((50_000..130_000).contains(&figures.target_us), "{figures:?}");
}

#[test]
fn delay_grows_in_a_burst_and_shrinks_after_it() {
    let mut ear = Ear::new(buffer());
    // For three seconds the wire stops for 150 ms again and again.
    let wire: Vec<_> = talk(4500, 0)
        .into_iter()
        .map(|sent| {
            let stalled = (10_000..13_000).contains(&(sent.at / MS));
            let at = if stalled { (sent.at / (150 * MS) + 1) * 150 * MS } else { sent.at };
            Sent { at, ..sent }
        })
        .collect();
    ear.listen(wire.clone(), 13_000 * MS);
    let grown = ear.buffer.figures().held_us;
    assert!(grown > 130_000, "{grown} us");
    let rest: Vec<_> = wire.into_iter().filter(|sent| sent.at >= 13_000 * MS).collect();
    let mut shrunk = None;
    for second in 14..90_u64 {
        let now = |sent: &&Sent| (second - 1..second).contains(&(sent.at / 1000 / MS));
        ear.listen(rest.iter().filter(now).copied().collect(), second * 1000 * MS);
        if shrunk.is_none() && ear.buffer.figures().held_us < 55_000 {
            shrunk = Some(second - 13);
        }
    }
    println!("grown to {grown} us, shrunk in {shrunk:?} s");
    assert!(shrunk.is_some_and(|seconds| seconds < 40), "{shrunk:?}");
    let figures = ear.buffer.figures();
    assert!(figures.held_us < 55_000, "{figures:?}");
    assert_eq!((figures.lost, figures.late), (0, 0));
    let before = ear.count(0, made_up);
    assert!(before <= 20, "{before}");
}

#[test]
fn a_wire_that_delivers_all_at_once_is_cut_to_the_bound() {
    let mut ear = Ear::new(buffer());
    // Silence from the hundredth packet on for a second and a half, then all of it at once.
    let hold =
        |sent: Sent| Sent { at: if sent.number < 100 { sent.at } else { sent.at.max(3500 * MS) }, ..sent };
    ear.listen(talk(500, 0).into_iter().map(hold).collect(), 9_980 * MS);
    assert!(ear.buffer.figures().held_us <= 240_000, "{:?}", ear.buffer.figures());
    assert!(ear.played().last() >= Some(&488), "{:?}", ear.played().last());
    assert!(ear.buffer.figures().discarded > 50);
}

#[test]
fn clock_drift_neither_starves_nor_fills_the_buffer() {
    for ppm in [-300_i64, -50, 50, 300] {
        let mut ear = Ear::new(buffer());
        let wire: Vec<_> = talk(30_000, 1_000 * MS)
            .into_iter()
            .map(|sent| Sent { at: (sent.at as i64 - sent.at as i64 / 1_000_000 * ppm) as u64, ..sent })
            .collect();
        ear.listen(wire, 590_000 * MS);
        let figures = ear.buffer.figures();
        assert!(figures.held_us < 70_000, "{ppm} ppm: {figures:?}");
        assert_eq!((figures.lost, figures.late), (0, 0));
        // 590 s of 300 ppm are 177 ms: nine packets too many, or eighteen ticks to be made up.
        let bound = ppm.unsigned_abs() * 590 / 1000;
        assert!(figures.discarded <= bound / 20 + 1, "{ppm} ppm: {figures:?}");
        let made_up = ear.count(2_000 * MS, made_up) as u64;
        assert!(made_up <= bound / 10 + 2 * figures.discarded + 2, "{ppm} ppm: {made_up} made up");
    }
}

#[test]
fn a_pause_is_silence_and_the_next_spurt_starts_when_it_is_due() {
    let mut ear = Ear::new(buffer());
    let mut wire = talk(200, 0);
    for sent in &mut wire[100..] {
        sent.timestamp = sent.timestamp.wrapping_add(16_000);
        sent.at += 2000 * MS;
    }
    ear.listen(wire, 6_000 * MS);
    assert_eq!(ear.played(), (0..200).collect::<Vec<_>>());
    let (end, start) = (ear.when(99).unwrap(), ear.when(100).unwrap());
    assert_eq!(start - end, 2020 * MS, "the pause is as long as it was");
    let pause: Vec<_> = ear.heard.iter().filter(|(at, _)| (end + 20 * MS..start).contains(at)).collect();
    // Half a second in which sound may yet come, then silence.
    assert!(pause[..50].iter().all(|(_, heard)| *heard == Heard::Empty));
    assert!(pause[51..].iter().all(|(_, heard)| *heard == Heard::Silence));
    assert_eq!(ear.buffer.figures().lost, 0);
}

#[test]
fn a_short_pause_is_kept_although_its_end_is_already_here() {
    let mut ear = Ear::new(JitterBuffer::new(120, 200));
    let mut wire = talk(100, 0);
    for sent in &mut wire[50..] {
        sent.timestamp = sent.timestamp.wrapping_add(480);
        sent.at += 60 * MS;
    }
    ear.listen(wire, 3000 * MS);
    assert_eq!(ear.when(50).unwrap() - ear.when(49).unwrap(), 80 * MS);
    assert_eq!(ear.buffer.figures().lost, 0);
}

#[test]
fn a_telephone_event_takes_its_place_without_counting_as_lost() {
    let mut ear = Ear::new(buffer());
    let mut wire = talk(100, 0);
    for sent in &mut wire[40..50] {
        sent.timestamp = 0xffff_f000_u32.wrapping_add(40 * 160);
        sent.duration = 0;
    }
    ear.listen(wire, 1990 * MS);
    assert_eq!(ear.played(), (0..40).chain(50..ear.played().last().unwrap() + 1).collect::<Vec<_>>());
    assert_eq!(ear.when(50).unwrap() - ear.when(39).unwrap(), 220 * MS);
    assert_eq!(ear.buffer.figures().lost, 0);
}

#[test]
fn one_stray_packet_does_not_reset_the_stream() {
    let stray = |number: u32, change: fn(&mut Sent)| {
        let mut stray = Sent { number: 9999, ..talk(100, 0)[number as usize] };
        stray.at += 5 * MS;
        change(&mut stray);
        stray
    };
    let mut wire = talk(100, 0);
    wire.push(stray(20, |sent| sent.ssrc = 8));
    wire.push(stray(40, |sent| sent.sequence = sent.sequence.wrapping_add(20_000)));
    wire.push(stray(60, |sent| sent.timestamp = sent.timestamp.wrapping_add(800_000)));
    let mut ear = Ear::new(buffer());
    let inserted = ear.listen(wire, 2100 * MS);
    assert!(!inserted.contains(&Inserted::Restarted));
    assert_eq!(ear.played(), (0..100).collect::<Vec<_>>());
    assert_eq!(ear.buffer.figures().lost, 0);
}

#[test]
fn a_new_stream_takes_over_with_its_second_packet_and_loses_nothing() {
    let changes: [fn(&mut Sent); 4] = [
        |sent| sent.ssrc = 8,
        |sent| sent.sequence = sent.sequence.wrapping_add(30_000),
        |sent| sent.timestamp = sent.timestamp.wrapping_sub(123_456),
        |sent| (sent.ssrc, sent.sequence, sent.timestamp) = (9, sent.number as u16, 160 * sent.number),
    ];
    for change in changes {
        let mut wire = talk(100, 0);
        wire[50..].iter_mut().for_each(change);
        let mut ear = Ear::new(buffer());
        let inserted = ear.listen(wire, 2100 * MS);
        assert_eq!(inserted.iter().filter(|inserted| **inserted == Inserted::Restarted).count(), 1);
        assert_eq!(ear.played(), (0..100).collect::<Vec<_>>());
        assert_eq!((ear.buffer.figures().lost, ear.buffer.figures().discarded), (0, 0));
    }
}

#[test]
fn a_second_talker_on_the_same_port_does_not_break_in() {
    let mut wire = talk(200, 0);
    let other: Vec<_> =
        wire.iter().map(|sent| Sent { ssrc: 8, number: 9999, at: sent.at + 3 * MS, ..*sent }).collect();
    wire.extend(other);
    let mut ear = Ear::new(buffer());
    ear.listen(wire, 4100 * MS);
    assert_eq!(ear.played(), (0..200).collect::<Vec<_>>());
}

#[test]
fn packet_time_and_payload_type_may_change_in_mid_stream() {
    let mut wire = talk(50, 0);
    let (mut timestamp, mut at) = (wire[49].timestamp.wrapping_add(160), wire[49].at + 20 * MS);
    for (number, ms) in (50..).zip([30_u32; 20].into_iter().chain([10; 20]).chain([60; 10]).chain([20; 20])) {
        let duration = ms * RATE / 1000;
        let sequence = 65_500_u16.wrapping_add(number as u16);
        at += u64::from(ms.saturating_sub(20)) * MS;
        wire.push(Sent {
            number,
            sequence,
            timestamp,
            duration,
            payload_type: 8,
            at,
            ssrc: 7,
            clock_rate: RATE,
        });
        timestamp = timestamp.wrapping_add(duration);
        at += 20 * MS;
    }
    let mut ear = Ear::new(buffer());
    ear.listen(wire, 4000 * MS);
    assert_eq!(ear.played(), (0..120).collect::<Vec<_>>());
    assert_eq!(ear.buffer.figures().lost, 0);
}

#[test]
fn an_outage_counts_its_packets_as_lost_and_ends_at_once() {
    let mut ear = Ear::new(buffer());
    let wire = talk(500, 0).into_iter().filter(|sent| !(100..250).contains(&sent.number)).collect();
    ear.listen(wire, 9_900 * MS);
    assert_eq!(ear.buffer.figures().lost, 150);
    assert_eq!(ear.when(250).unwrap() - ear.when(99).unwrap(), 151 * 20 * MS);
    assert!(ear.buffer.figures().held_us < 35_000);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut buffer = buffer();
    let long = [0; MAX_PAYLOAD + 1];
    let arrival = Arrival {
        sequence: 1,
        timestamp: 1,
        clock_rate: RATE,
        ssrc: 1,
        payload_type: 0,
        marker: true,
        at_nanos: 1,
        duration: 160,
        payload: &long,
    };
    assert_eq!(buffer.insert(arrival), Inserted::Discarded);
    assert_eq!(buffer.figures().discarded, 1);
}

#[test]
fn hostile_numbers_neither_crash_nor_pile_up() {
    let mut random = Random::new(3);
    for round in 0..50 {
        let mut buffer = JitterBuffer::new(20, 200);
        let mut now = random.next() >> 1;
        let mut kept = 0;
        for given in 0..5000_u32 {
            // Half of it plausible, so that all states are reached.
            let wild = random.unit() < 0.3;
            let arrival = Arrival {
                sequence: if wild { random.next() as u16 } else { given as u16 },
                timestamp: if wild { random.next() as u32 } else { given * 160 },
                clock_rate: if wild { random.next() as u32 } else { [8000, 48_000][round % 2] },
                ssrc: u32::from(random.unit() < 0.1),
                payload_type: random.next() as u8,
                marker: wild,
                at_nanos: if random.unit() < 0.05 { random.next() >> 1 } else { now },
                duration: if wild { random.next() as u32 } else { 160 },
                payload: &[0; MAX_PAYLOAD][..(random.next() % MAX_PAYLOAD as u64) as usize],
            };
            kept += u64::from(buffer.insert(arrival) == Inserted::Kept);
            if random.unit() < 0.8 {
                let _ = buffer.next(now);
            }
            now += 10 * MS;
        }
        assert!(kept > CAPACITY as u64);
    }
}
