//! Prints what each real-time call of the signal processing costs: `cargo run --release -p voipd-audio --example cost`.

use std::hint::black_box;
use std::time::Instant;

use voipd_audio::Codec;
use voipd_audio::codec::{Decoder, Encoder, EncoderSettings};
use voipd_audio::jitter::{Arrival, JitterBuffer, Next};
use voipd_audio::resample::Resampler;
use voipd_audio::stretch::Cut;
use voipd_audio::tone::{Generator, Tone};

/// Mean nanoseconds of a call, the best of five rounds.
fn cost(name: &str, mut call: impl FnMut()) {
    const CALLS: u32 = 500;
    let round = |_| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    let best = (0..5).map(round).fold(f64::MAX, f64::min);
    println!("{name:<64} {:>9.2} us", best / 1000.0);
}

fn main() {
    let voice = |rate: u32, count: usize| -> Vec<f32> {
        let step = std::f64::consts::TAU / f64::from(rate);
        let sample = |index: usize| {
            let time = step * index as f64;
            (0.3 * (180.0 * time).sin() + 0.1 * (720.0 * time).sin() + 0.05 * (2500.0 * time).sin()) as f32
        };
        (0..count).map(sample).collect()
    };
    let built = Codec::ALL.into_iter().filter(|codec| codec.is_built() && *codec != Codec::Opus);
    for codec in built {
        let tick = codec.sample_rate() as usize / 100;
        // L16 at 48 kHz has packets of one tick.
        let length = if codec == Codec::L16Full { tick } else { 2 * tick };
        let ms = 1000 * length / codec.sample_rate() as usize;
        let samples = voice(codec.sample_rate(), length);
        let mut payload = [0; 1400];
        let mut encoder = Encoder::new(EncoderSettings::new(codec, 0)).expect("it is built");
        let octets = encoder.encode(&samples, &mut payload).expect("it fits");
        cost(&format!("{codec:?} encode {ms} ms"), || {
            let _ = black_box(encoder.encode(black_box(&samples), &mut payload));
        });
        let payload = &payload[..octets];
        let mut decoder = Decoder::new(codec).expect("it is built");
        let mut out = vec![0.0; samples.len()];
        cost(&format!("{codec:?} decode {ms} ms"), || {
            let _ = black_box(decoder.decode(black_box(payload), &mut out));
        });
        cost(&format!("{codec:?} decode {ms} ms, make up 10 ms from one side"), || {
            let _ = decoder.decode(black_box(payload), &mut out);
            decoder.conceal(black_box(&mut out[..tick]));
        });
        let work = decoder.interpolation_work(length);
        if work > 0 {
            cost(&format!("{codec:?} fill {ms} ms from both sides ({work} multiplications)"), || {
                let _ = black_box(decoder.interpolate(black_box(payload), &mut out));
            });
        }
    }

    let samples = voice(48_000, 960 * 50);
    for complexity in [0, 5, 9, 10] {
        let mut encoder =
            Encoder::new(EncoderSettings::new(Codec::Opus, complexity)).expect("libopus is there");
        let mut payload = [0; 1400];
        let mut packets = samples.chunks_exact(960).cycle();
        cost(&format!("Opus encode 20 ms, complexity {complexity}"), || {
            if let Some(samples) = packets.next() {
                let _ = black_box(encoder.encode(samples, &mut payload));
            }
        });
    }
    let mut encoder = Encoder::new(EncoderSettings::new(Codec::Opus, 9)).expect("libopus is there");
    let mut payload = [0; 1400];
    let length = encoder.encode(&samples[..960], &mut payload).expect("it fits");
    let mut decoder = Decoder::new(Codec::Opus).expect("libopus is there");
    let mut out = [0.0; 960];
    cost("Opus decode 20 ms", || {
        let _ = black_box(decoder.decode(black_box(&payload[..length]), &mut out));
    });
    cost("Opus conceal 10 ms", || decoder.conceal(black_box(&mut out[..480])));

    for (from, to) in [(8000, 48_000), (48_000, 8000), (44_100, 48_000), (48_000, 44_100), (48_000, 48_000)] {
        for ppm in [0.0, 50.0] {
            let frame = to as usize / 100;
            let mut resampler = Resampler::new(from, to, frame);
            resampler.set_drift_ppm(ppm);
            let input = voice(from, from as usize / 100 + 8);
            let mut output = vec![0.0; frame];
            cost(&format!("resample {from} to {to}, 10 ms, {ppm} ppm"), || {
                let needed = resampler.input_needed(frame);
                resampler.process(black_box(&input[..needed]), &mut output);
            });
        }
    }

    let mut buffer = JitterBuffer::new(20, 200);
    let (mut sequence, payload) = (0_u32, [0; 160]);
    cost("jitter buffer, one packet in and out", || {
        let now = u64::from(sequence) * 20_000_000;
        buffer.insert(Arrival {
            sequence: sequence as u16,
            timestamp: sequence.wrapping_mul(160),
            clock_rate: 8000,
            ssrc: 1,
            payload_type: 0,
            marker: false,
            at_nanos: now + u64::from(sequence * 7919 % 40) * 1_000_000,
            duration: 160,
            payload: &payload,
        });
        sequence += 1;
        if let Next::Packet { payload, .. } = buffer.next(now + 40_000_000) {
            black_box(payload);
        }
    });

    for rate in [8_000_u32, 16_000, 48_000] {
        let (sound, ms) = (voice(rate, rate as usize / 10), rate as usize / 1000);
        let mut samples = sound.clone();
        cost(&format!("leave out up to 15 ms of 30 at {rate} Hz"), || {
            samples.copy_from_slice(&sound);
            let mut cut = Cut { samples: &mut samples, end: 50 * ms, place: 20 * ms, rate };
            black_box(cut.shorten(15 * ms, 0.0));
        });
    }

    let mut tone = Generator::new(Tone::RING, 48_000);
    let mut frame = [0.0; 480];
    cost("tone of two frequencies, 10 ms at 48 kHz", || {
        frame.fill(0.0);
        black_box(tone.mix_into(&mut frame));
    });
}
