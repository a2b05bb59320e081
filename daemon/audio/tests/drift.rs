//! Clocks that do not agree: the sender's and ours, and those of the sound cards at both ends.

use std::f64::consts::TAU;

use rtrb::{Consumer, Producer};

use crate::support::fit_sine;
use crate::world::sound::{find, rms, speech};
use crate::world::{LATENCY, STREAM, TAPE, World, address, plan, rtp};
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::engine::{DevicePort, Pace};
use voipd_audio::plan::Codec;
use voipd_audio::{PortId, TICK_NANOS};

const CARD: PortId = PortId(5);

/// A telephone whose clock runs `ppm` too fast, sending sound that repeats every second.
struct Peer {
    encoder: Encoder,
    second: Vec<f32>,
    period: f64,
    sent: u32,
}

impl Peer {
    fn new(ppm: f64, second: Vec<f32>) -> Self {
        let settings = EncoderSettings::new(Codec::Pcmu, 0);
        let encoder = Encoder::new(settings).unwrap();
        Peer { encoder, second, period: 20e6 / (1.0 + ppm * 1e-6), sent: 0 }
    }

    /// Sends what is due by `now`, counted from the start.
    fn run(&mut self, world: &World, now: u64) {
        while (f64::from(self.sent) * self.period) as u64 <= now {
            let late = now - (f64::from(self.sent) * self.period) as u64;
            let from = self.sent as usize * 160 % self.second.len();
            let mut payload = [0; 160];
            self.encoder.encode(&self.second[from..from + 160], &mut payload).unwrap();
            let packet = rtp(0, self.sent as u16, self.sent.wrapping_mul(160), 7, &payload);
            // As if it had been sent when it was due.
            world.network().weather = Box::new(move |_| vec![LATENCY - late]);
            world.network().send(address(1), address(0), &packet);
            self.sent += 1;
        }
    }
}

fn alone() -> (World, crate::world::Tape) {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    let tape = world.sides[0].open_tape(TAPE, 8000);
    world.sides[0].controller.connect(TAPE, &[STREAM]).unwrap();
    (world, tape)
}

/// An hour of a tone in which every 20 ms are looked at, and the delay in every second.
fn an_hour(ppm: f64) {
    let (mut world, mut tape) = alone();
    let tone: Vec<f32> =
        (0..8000).map(|n| (0.4 * (TAU * 440.0 * f64::from(n) / 8000.0).sin()) as f32).collect();
    let mut peer = Peer::new(ppm, tone);
    let start = world.network().now_nanos;
    let mut seconds = Vec::new();
    for second in 0..3600_u64 {
        for tick in 0..100 {
            peer.run(&world, (second * 100 + tick) * TICK_NANOS);
            world.tick();
        }
        world.network().sent.clear();
        assert_eq!(world.network().now_nanos - start, (second + 1) * 100 * TICK_NANOS);
        let heard = tape.recorded();
        let counters = world.sides[0].counters(STREAM);
        if second < 2 {
            continue;
        }
        seconds.push(counters.buffer_us);
        for piece in heard.chunks_exact(160) {
            let (amplitude, residue) = fit_sine(piece, 440.0, 8000);
            // -22 dB, for one piece each half a minute; the codec's own noise is 38 dB below.
            assert!(
                (0.37..0.43).contains(&amplitude) && residue < 0.08 * amplitude,
                "{ppm} ppm, second {second}: amplitude {amplitude}, residue {residue}, {counters:?}"
            );
        }
    }
    let counters = world.sides[0].counters(STREAM);
    let (least, most) = (seconds.iter().min().unwrap(), seconds.iter().max().unwrap());
    println!("{ppm} ppm: delay {least} to {most} us, {counters:?}");
    assert!(*least >= 20_000 && *most <= 45_000, "{ppm} ppm: delay {least} to {most} us");
    assert_eq!((counters.packets_lost, counters.packets_late, counters.packets_discarded), (0, 0, 0));
    assert!(counters.frames_concealed <= 2, "{counters:?}");
    // What the clocks differ by is left out, or put in, and hardly more.
    let (accelerated, expanded) = (counters.accelerated_us as f64, counters.expanded_us as f64);
    let wanted = ppm * 3600.0;
    assert!((accelerated - expanded - wanted).abs() < 30_000.0, "{counters:?}");
    assert!(accelerated.min(expanded) < 0.2 * wanted.abs() + 20_000.0, "{counters:?}");
}

#[test]
fn an_hour_of_a_tone_from_a_clock_that_is_300_ppm_fast() {
    an_hour(300.0);
}

#[test]
fn an_hour_of_a_tone_from_a_clock_that_is_300_ppm_slow() {
    an_hour(-300.0);
}

/// A call from one sound card to another: what each card records and plays.
fn cards(world: &mut World, codec: Codec) -> [(Producer<f32>, Consumer<f32>); 2] {
    [0, 1].map(|this| {
        let side = &mut world.sides[this];
        let socket = side.socket(address(this));
        side.controller.open_stream(STREAM, plan(codec, this, address(1 - this)), socket).unwrap();
        let (record, capture) = rtrb::RingBuffer::new(48_000);
        let (playback, play) = rtrb::RingBuffer::new(48_000);
        let pace = Pace::Device { target: 960 };
        let device = DevicePort { capture: Some(capture), playback: Some(playback), rate: 48_000, pace };
        side.controller.open_device(CARD, device).unwrap();
        side.controller.connect(STREAM, &[CARD]).unwrap();
        side.controller.connect(CARD, &[STREAM]).unwrap();
        (record, play)
    })
}

/// Speech from card to card: `near` and `far` are what the cards' clocks are off against the ticks of their engines, and
/// `peer` what the far engine's clock is off against the near one's, all in parts per million.
fn card_to_card(codec: Codec, near_ppm: f64, far_ppm: f64, peer_ppm: f64) {
    let mut world = World::new(2);
    let [(mut mouth, mut unheard), (_silent, mut ear)] = cards(&mut world, codec);
    let words = speech(48_000, 46.0, 31);
    let mut heard = Vec::new();
    // Everything in the near engine's time: when the far one ticks, and how many samples the cards have moved.
    let (start, mut far_ticks, mut spoken, mut taken) = (world.network().now_nanos, 0_u64, 0_usize, 0_usize);
    let far_tick = 1e7 / (1.0 + peer_ppm * 1e-6);
    for tick in 1..=4_500_u64 {
        let now = tick as f64 * 1e7;
        let due = (now * 48e-6 * (1.0 + near_ppm * 1e-6)) as usize;
        while spoken + 240 <= due {
            let _ = mouth.push_entire_slice(&words[spoken..spoken + 240]);
            for _ in 0..240 {
                let _ = unheard.pop();
            }
            spoken += 240;
        }
        world.network().now_nanos = start + tick * TICK_NANOS;
        world.sides[0].processor.tick(start + tick * TICK_NANOS, 0);
        world.sides[0].controller.service();
        while (far_ticks + 1) as f64 * far_tick <= now {
            far_ticks += 1;
            // The far engine knows no time but its own.
            let own = start + far_ticks * TICK_NANOS;
            world.network().clock = Some((own, start + (far_ticks as f64 * far_tick) as u64));
            world.sides[1].processor.tick(own, 0);
            world.sides[1].controller.service();
            world.network().clock = None;
            let due = (far_ticks as f64 * 480.0 * (1.0 + far_ppm * 1e-6)) as usize;
            while taken + 240 <= due {
                heard.extend((0..240).map(|_| ear.pop().unwrap_or(9.0)));
                taken += 240;
            }
        }
        if tick % 1000 == 0 {
            world.network().sent.clear();
        }
    }
    // What the far card plays is slower or faster than what was said by all three; from there on the delay is constant.
    let ratio = (1.0 + far_ppm * 1e-6) * (1.0 + peer_ppm * 1e-6) / (1.0 + near_ppm * 1e-6);
    let mut delays = Vec::new();
    for second in 5..43 {
        let part = &words[second * 48_000..second * 48_000 + 24_000];
        if rms(part) < 0.02 {
            continue;
        }
        let from = (second as f64 * 48_000.0 * ratio) as usize;
        let (correlation, lag) = find_quickly(part, &heard[from..(from + 24_000 + 9_600).min(heard.len())]);
        assert!(correlation > 0.5, "second {second}: {correlation}");
        delays.push(lag as f64 / 48.0);
    }
    let (least, most) = delays.iter().fold((f64::MAX, 0.0_f64), |(a, b), lag| (a.min(*lag), b.max(*lag)));
    let counters = world.sides[1].counters(STREAM);
    println!("{codec:?} {near_ppm}/{far_ppm}/{peer_ppm} ppm: {least:.1} to {most:.1} ms, {counters:?}");
    assert!(most - least < 16.0, "{least} to {most} ms: {delays:?}");
    assert!(most < 140.0, "{most} ms");
    assert_eq!(heard[48_000 * 5..].iter().filter(|sample| **sample > 1.5).count(), 0, "the card ran dry");
    assert_eq!((counters.packets_lost, counters.packets_late, counters.frames_concealed), (0, 0, 0));
}

/// As [`find`], first in every sixth sample of both, and then around what is found there.
fn find_quickly(part: &[f32], heard: &[f32]) -> (f32, usize) {
    let coarse =
        |samples: &[f32]| -> Vec<f32> { samples.chunks_exact(6).map(|six| six.iter().sum()).collect() };
    let (_, rough) = find(&coarse(part), &coarse(heard), 1_600);
    let from = (rough * 6).saturating_sub(6);
    let (correlation, lag) = find(part, &heard[from..], 13);
    (correlation, from + lag)
}

#[test]
fn cards_and_engines_that_all_run_apart_keep_their_delay() {
    card_to_card(Codec::Pcmu, 150.0, -150.0, 300.0);
    card_to_card(Codec::G722, -300.0, 300.0, -300.0);
}

/// Seconds from one chirp to the next.
const CHIRPS: usize = 10;
/// Samples of a chirp, and of the silence on each side of it.
const CHIRP: usize = 4_800;
const HUSH: usize = 9_600;

/// At 48 kHz, again and again: silence, a chirp, silence, and a tone for the rest of ten seconds.
fn chirp_and_tone() -> Vec<f32> {
    (0..CHIRPS * 48_000)
        .map(|n| {
            let (now, into) = (n as f64 / 48_000.0, n as f64 / 48_000.0 - HUSH as f64 / 48_000.0);
            match n {
                ..HUSH => 0.0,
                n if n < HUSH + CHIRP => 0.4 * (TAU * (400.0 + 10_000.0 * into) * into).sin(),
                n if n < 2 * HUSH + CHIRP => 0.0,
                _ => 0.4 * (TAU * 440.0 * now).sin(),
            }
        })
        .map(|sample| sample as f32)
        .collect()
}

/// One card's clock runs 150 ppm fast and the other's 150 ppm slow, each against its engine's.
fn an_hour_from_card_to_card(codec: Codec) {
    const PPM: f64 = 150.0;
    let mut world = World::new(2);
    let [(mut mouth, mut unheard), (_silent, mut ear)] = cards(&mut world, codec);
    let (words, mut spoken, mut taken) = (chirp_and_tone(), 0_usize, 0_usize);
    let part = &words[HUSH..HUSH + CHIRP];
    let (mut heard, mut delays, mut worst) = (Vec::new(), Vec::new(), 0.0_f64);
    for tick in 1..=360_000_u64 {
        let due = |ppm: f64| (tick as f64 * 480.0 * (1.0 + ppm * 1e-6)) as usize;
        while spoken + 240 <= due(PPM) {
            let from = spoken % words.len();
            let _ = mouth.push_entire_slice(&words[from..from + 240]);
            for _ in 0..240 {
                let _ = unheard.pop();
            }
            spoken += 240;
        }
        world.tick();
        while taken + 240 <= due(-PPM) {
            heard.extend((0..240).map(|_| ear.pop().unwrap_or(9.0)));
            taken += 240;
        }
        if tick % (100 * CHIRPS as u64) != 0 {
            continue;
        }
        world.network().sent.clear();
        // What the far card plays is all that was said in these ten seconds but the delay's last part.
        let round = tick / (100 * CHIRPS as u64);
        let begun = ((round - 1) as usize * words.len()) as f64 / (1.0 + PPM * 1e-6) * (1.0 - PPM * 1e-6);
        let first = begun as usize - (taken - heard.len());
        let heard_here = &heard[first..];
        let (correlation, lag) = find_quickly(part, &heard_here[HUSH..HUSH + CHIRP + 9_600]);
        assert!(correlation > 0.9, "{codec:?}, round {round}: {correlation}");
        if round > 1 {
            delays.push(lag as f64 / 48.0);
            for piece in heard_here[4 * HUSH..9 * 48_000].chunks_exact(960) {
                let (amplitude, residue) = fit_sine(piece, 440.0, 48_000);
                assert!((0.36..0.44).contains(&amplitude), "{codec:?}, round {round}: amplitude {amplitude}");
                worst = worst.max(residue / amplitude);
            }
        }
        let seen = heard.len() - 48_000;
        heard.drain(..seen);
    }
    let (least, most) = delays.iter().fold((f64::MAX, 0.0_f64), |(a, b), lag| (a.min(*lag), b.max(*lag)));
    let counters = world.sides[1].counters(STREAM);
    println!("{codec:?}: delay {least:.1} to {most:.1} ms, residue {worst:.3}, {counters:?}");
    assert!(most - least < 8.0, "{least} to {most} ms: {delays:?}");
    assert!(worst < 0.08, "{worst}");
    assert_eq!((counters.packets_lost, counters.packets_late, counters.frames_concealed), (0, 0, 0));
}

#[test]
fn an_hour_from_card_to_card_300_ppm_apart() {
    an_hour_from_card_to_card(Codec::Pcmu);
}
