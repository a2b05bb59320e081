//! Voice processing in rooms made of numbers: echo, talk at both ends, noise, level, and switching.

use crate::support::{Random, energy, rms, sine, speech};
use crate::world::sound::find;
use voipd_audio::voice::{Block, EchoFigures, Stages, VoiceProcessor};

const ECHO: Stages = Stages { echo: true, ..Stages::NONE };
const NOISE: Stages = Stages { noise: true, ..Stages::NONE };
const GAIN: Stages = Stages { gain: true, ..Stages::NONE };
const RATE: u32 = 48_000;
const SECOND: usize = RATE as usize;

/// A room's answer to an impulse: nothing for `delay_ms`, the direct sound, then 200 ms of reverberation that decays by
/// 60 dB; all of it 6 dB below what was played.
fn room(delay_ms: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let tail = SECOND / 5;
    let mut answer = vec![0.0_f32; delay_ms * SECOND / 1000];
    answer.push(0.5);
    for place in 1..tail {
        let size = if random.unit() < 0.15 { 0.3 * (random.unit() - 0.5) } else { 0.0 };
        answer.push((size * (-6.9 * place as f64 / tail as f64).exp()) as f32);
    }
    let whole = energy(&answer).sqrt();
    answer.iter_mut().for_each(|tap| *tap *= (0.5 / whole) as f32);
    answer
}

/// What the microphone hears of `played`.
fn echo(played: &[f32], room: &[f32]) -> Vec<f32> {
    let mut heard = vec![0.0_f32; played.len()];
    for (delay, tap) in room.iter().enumerate().filter(|(_, tap)| **tap != 0.0) {
        for (to, from) in heard.iter_mut().skip(delay).zip(played) {
            *to += tap * from;
        }
    }
    heard
}

fn noise(level: f32, count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    // Of a uniform distribution, the standard deviation is the width by the root of 12.
    (0..count).map(|_| (random.unit() as f32 - 0.5) * 12.0_f32.sqrt() * level).collect()
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn decibels(power: f64) -> f64 {
    10.0 * power.max(1e-12).log10()
}

/// One microphone's processing, block after block.
#[derive(Default)]
struct Desk {
    voice: VoiceProcessor,
    number: u64,
}

impl Desk {
    fn process(&mut self, stages: Stages, rate: u32, played: &[f32], heard: &[f32]) -> Vec<f32> {
        let frame = rate as usize / 100;
        let mut cleaned = Vec::with_capacity(heard.len());
        for (played, heard) in played.chunks_exact(frame).zip(heard.chunks_exact(frame)) {
            let (mut microphone, mut reference) = ([0.0; 480], [0.0; 480]);
            microphone[..frame].copy_from_slice(heard);
            reference[..frame].copy_from_slice(played);
            let mut block =
                Block { number: self.number, stages, rate, reference_rate: rate, microphone, reference };
            self.number += 1;
            self.voice.process(&mut block);
            cleaned.extend_from_slice(&block.microphone[..frame]);
        }
        cleaned
    }

    fn alone(&mut self, stages: Stages, heard: &[f32]) -> Vec<f32> {
        self.process(stages, RATE, &vec![0.0; heard.len()], heard)
    }
}

/// Echo return loss enhancement in dB.
fn enhancement(heard: &[f32], cleaned: &[f32]) -> f64 {
    decibels(energy(heard) / energy(cleaned))
}

#[test]
fn the_echo_of_speech_is_cancelled_in_a_room_behind_80_ms() {
    let played = speech(RATE, 8.0, 11);
    let heard = echo(&played, &room(80, 5));
    let mut desk = Desk::default();
    let cleaned = desk.process(ECHO, RATE, &played, &heard);
    let by_second: Vec<f64> = heard
        .chunks_exact(SECOND)
        .zip(cleaned.chunks_exact(SECOND))
        .map(|(heard, cleaned)| enhancement(heard, cleaned))
        .collect();
    println!("{by_second:.1?} dB, {:?}", desk.voice.echo_figures());
    assert!(enhancement(&heard[2 * SECOND..], &cleaned[2 * SECOND..]) >= 30.0, "{by_second:.1?}");
    assert!(by_second.iter().all(|second| *second >= 15.0), "{by_second:.1?}");
}

#[test]
fn the_delay_of_the_echo_is_found_whatever_it_is() {
    for delay in [20, 150, 250, 500] {
        let played = speech(RATE, 5.0, 21);
        let heard = echo(&played, &room(delay, 6));
        let mut desk = Desk::default();
        let cleaned = desk.process(ECHO, RATE, &played, &heard);
        let by = enhancement(&heard[3 * SECOND..], &cleaned[3 * SECOND..]);
        let EchoFigures { delay_ms, .. } = desk.voice.echo_figures();
        println!("{delay} ms: {by:.1} dB, found {delay_ms:?}");
        assert!(by >= 25.0, "{delay} ms: {by:.1} dB");
        let found = delay_ms.expect("an echo is found") as usize;
        assert!(found.abs_diff(delay) <= 12, "{delay} ms: found {found}");
    }
}

#[test]
fn a_telephone_rate_is_processed_too() {
    let played: Vec<f32> = speech(8000, 6.0, 31);
    let heard: Vec<f32> =
        (0..played.len()).map(|n| if n < 640 { 0.0 } else { 0.4 * played[n - 640] }).collect();
    let cleaned = Desk::default().process(ECHO, 8000, &played, &heard);
    assert!(enhancement(&heard[16_000..], &cleaned[16_000..]) >= 25.0);
}

#[test]
fn who_speaks_against_the_loudspeaker_is_not_chopped() {
    let played = speech(RATE, 10.0, 41);
    let heard = echo(&played, &room(80, 7));
    // The far end has spoken for five seconds when the near end begins to, 6 dB above the echo.
    let mut near = speech(RATE, 10.0, 42);
    near[..5 * SECOND].fill(0.0);
    let scale = (2.0 * rms(&heard) / rms(&near[5 * SECOND..])) as f32;
    near.iter_mut().for_each(|sample| *sample *= scale);
    let cleaned = Desk::default().process(ECHO, RATE, &played, &sum(&heard, &near));
    // The same voice against silence: what the canceller's filters alone make of it.
    let alone = Desk::default().alone(ECHO, &near);
    let window = SECOND / 10;
    let parts = |sound: &[f32]| -> Vec<Vec<f32>> {
        sound[5 * SECOND..].chunks_exact(window).map(<[f32]>::to_vec).collect()
    };
    let (mut all, mut kept, mut whole) = (0, 0, 0);
    let mut ratios = Vec::new();
    for ((cleaned, alone), echo) in parts(&cleaned).iter().zip(parts(&alone)).zip(parts(&heard)) {
        // Where the voice is weaker than the echo, nothing can tell them apart.
        if energy(&alone) > energy(&echo) && rms(&alone) > 0.01 {
            let ratio = decibels(energy(cleaned) / energy(&alone));
            let (similar, _) = find(&alone, &[cleaned, &[0.0][..]].concat(), 1);
            all += 1;
            kept += usize::from(ratio > -10.0);
            whole += usize::from(similar > 0.7);
            ratios.push(ratio);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("of {all} windows {kept} kept, {whole} whole: {ratios:.1?} dB");
    assert!(all >= 25);
    assert!(10 * kept >= 9 * all, "{kept} of {all}: {ratios:.1?}");
    assert!(10 * whole >= 8 * all, "{whole} of {all}");
    assert!(ratios[all / 2] > -2.0 && ratios[all - 1] < 3.0, "{ratios:.1?}");
}

/// How much quieter what is heard of `near` has become, in dB, second by second, by the energy of `cleaned`.
fn loss_by_second(near: &[f32], cleaned: &[f32]) -> Vec<f64> {
    near.chunks_exact(SECOND)
        .zip(cleaned.chunks_exact(SECOND))
        .map(|(near, cleaned)| enhancement(near, cleaned))
        .collect()
}

#[test]
fn without_an_echo_who_speaks_at_the_same_time_stays_as_loud_as_before() {
    let mut unfound = 0;
    for (seed, rate) in [(101, RATE), (104, RATE), (105, 8000), (106, 16_000)] {
        let second = rate as usize;
        let played = speech(rate, 14.0, seed);
        let near = sum(&speech(rate, 14.0, seed + 100), &noise(0.0005, 14 * second, seed));
        let mut desk = Desk::default();
        let cleaned = desk.process(ECHO, rate, &played, &near);
        // Against the same voice without a far end: its lowest tones are always filtered out.
        let alone = Desk::default().process(ECHO, rate, &vec![0.0; near.len()], &near);
        let loss: Vec<f64> = (6..14)
            .map(|n| n * second..(n + 1) * second)
            .map(|part| enhancement(&alone[part.clone()], &cleaned[part]))
            .collect();
        let (similar, _) =
            find(&alone[6 * second..14 * second], &[&cleaned[6 * second..], &[0.0][..]].concat(), 1);
        println!("{loss:.2?} dB, {similar}");
        assert!(loss.iter().all(|loss| loss.abs() <= 1.0), "{seed} at {rate} Hz: {loss:.2?}");
        assert!(similar > 0.95, "{similar}");
        unfound += usize::from(desk.voice.echo_figures() == EchoFigures::default());
    }
    // Chance makes signs of an echo where both speak all the time, which are believed for a second.
    assert!(unfound >= 3, "{unfound} of 4");
}

#[test]
fn an_echo_that_appears_in_mid_call_is_cancelled_within_two_seconds() {
    for (seed, near_level) in [(111, 1.0), (112, 0.0)] {
        let played = speech(RATE, 14.0, seed);
        // A headset until the sixth second, then the loudspeaker; the near end is silent from then on.
        let mut near = speech(RATE, 14.0, seed + 100);
        near.iter_mut().for_each(|sample| *sample *= near_level);
        near[6 * SECOND..].fill(0.0);
        let mut echoed = echo(&played, &room(80, seed));
        echoed[..6 * SECOND].fill(0.0);
        let heard = sum(&sum(&near, &echoed), &noise(0.0002, 14 * SECOND, seed));
        let cleaned = Desk::default().process(ECHO, RATE, &played, &heard);
        let by_second = loss_by_second(&heard, &cleaned);
        println!("{by_second:.1?}");
        assert!(by_second[7] >= 15.0, "{by_second:.1?}");
        assert!(by_second[8..].iter().all(|second| *second >= 25.0), "{by_second:.1?}");
    }
}

#[test]
fn an_echo_is_not_taken_for_none_while_both_speak() {
    let played = speech(RATE, 16.0, 121);
    let echoed = echo(&played, &room(80, 12));
    // As loud as the echo, from the beginning on; silent in the end, so that the echo alone is left.
    let mut near = speech(RATE, 16.0, 122);
    let scale = (rms(&echoed) / rms(&near)) as f32;
    near.iter_mut().for_each(|sample| *sample *= scale);
    near[12 * SECOND..].fill(0.0);
    let cleaned = Desk::default().process(ECHO, RATE, &played, &sum(&echoed, &near));
    let last = enhancement(&echoed[12 * SECOND + SECOND / 10..], &cleaned[12 * SECOND + SECOND / 10..]);
    println!("{last:.1}");
    assert!(last >= 25.0, "{last:.1} dB");
}

#[test]
fn the_canceller_costs_seven_milliseconds() {
    // Telephone speech is brought to 16 kHz and back, which also moves it by half a sample.
    for (rate, least, most, alike) in [(RATE, 6.0, 7.2, 0.9), (16_000, 5.5, 6.5, 0.9), (8000, 8.5, 10.0, 0.6)]
    {
        let second = rate as usize;
        let near = noise(0.05, 4 * second, 131);
        let cleaned = Desk::default().process(ECHO, rate, &vec![0.0; near.len()], &near);
        let (similar, delay) = find(&near[2 * second..3 * second], &cleaned[2 * second..], second / 20);
        let delay = delay as f64 * 1000.0 / f64::from(rate);
        println!("{rate} Hz: {delay} ms, {similar}");
        assert!(similar > alike && (least..most).contains(&delay), "{rate} Hz: {delay} ms, {similar}");
    }
}

#[test]
fn steady_noise_is_suppressed_and_speech_is_not() {
    let hiss = noise(0.01, 8 * SECOND, 52);
    let quiet = Desk::default().alone(NOISE, &hiss);
    let by = enhancement(&hiss[2 * SECOND..], &quiet[2 * SECOND..]);
    assert!((14.0..30.0).contains(&by), "{by:.1} dB");
    let near = speech(RATE, 8.0, 51);
    let cleaned = Desk::default().alone(NOISE, &sum(&near, &hiss));
    let (similar, delay) = find(&near[4 * SECOND..5 * SECOND], &cleaned[4 * SECOND..], SECOND / 50);
    assert!(similar > 0.9, "{similar}");
    assert!(delay < SECOND / 100, "{delay} samples");
    let level = decibels(energy(&cleaned[2 * SECOND..]) / energy(&near[2 * SECOND..]));
    assert!(level.abs() < 2.0, "{level:.1} dB");
}

#[test]
fn gain_brings_voices_nearer_to_each_other() {
    let near = speech(RATE, 8.0, 61);
    let levels: Vec<(f64, f64)> = [0.003, 0.03, 0.3]
        .iter()
        .map(|level| {
            let scale = level / rms(&near) as f32;
            let near: Vec<f32> = near.iter().map(|sample| (sample * scale).clamp(-1.0, 1.0)).collect();
            let levelled = Desk::default().alone(GAIN, &near);
            assert!(levelled.iter().all(|sample| sample.abs() <= 1.0));
            let decibels = |sound: &[f32]| 20.0 * rms(&sound[4 * SECOND..]).log10();
            (decibels(&near), decibels(&levelled))
        })
        .collect();
    let apart = |pick: fn(&(f64, f64)) -> f64| pick(&levels[2]) - pick(&levels[0]);
    assert!(apart(|level| level.0) > 35.0, "{levels:.1?}");
    assert!(apart(|level| level.1) < 20.0, "{levels:.1?}");
    assert!(levels[0].1 > levels[0].0 + 15.0, "{levels:.1?}");
    assert!((levels[2].1 - levels[2].0).abs() < 3.0, "{levels:.1?}");
}

/// The largest second difference: that of a sine is known, that of a click is much greater.
fn roughness(samples: &[f32]) -> f32 {
    samples.windows(3).map(|three| (three[0] - 2.0 * three[1] + three[2]).abs()).fold(0.0, f32::max)
}

#[test]
fn stages_are_switched_without_a_click_and_without_forgetting_the_room() {
    let tone = sine(440.0, 0.3, RATE, SECOND / 2);
    let whole = [&tone[..], &tone[..], &tone[..], &tone[..]].concat();
    let mut desk = Desk::default();
    let mut heard = Vec::new();
    for (stages, part) in
        [Stages::NONE, GAIN, Stages::NONE, ECHO].into_iter().zip(whole.chunks_exact(tone.len()))
    {
        heard.extend(desk.alone(stages, part));
    }
    heard.extend(desk.alone(Stages::NONE, &tone));
    assert_eq!(heard[..tone.len()], tone, "nothing switched on changes nothing");
    let smooth = roughness(&tone);
    // The gain raises the tone.
    assert!(roughness(&heard) < 8.0 * smooth, "{} against {smooth}", roughness(&heard));
    assert_eq!(heard[4 * tone.len() + SECOND / 100..], tone[SECOND / 100..], "all is off again");

    let played = speech(RATE, 6.0, 71);
    let echoed = echo(&played, &room(80, 8));
    let mut desk = Desk::default();
    let (first, second) = (4 * SECOND, 6 * SECOND);
    desk.process(ECHO, RATE, &played[..first], &echoed[..first]);
    let both = Stages { noise: true, ..ECHO };
    let cleaned = desk.process(both, RATE, &played[first..second], &echoed[first..second]);
    assert!(enhancement(&echoed[first..second], &cleaned) >= 25.0);
}
