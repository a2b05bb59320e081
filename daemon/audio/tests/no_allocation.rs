//! After `new`, nothing on the signal path allocates or frees: every call is made under a counting allocator. It sees
//! Rust's allocations only; what libopus does inside is for the test of the whole tick, which interposes malloc.

use crate::counting::allocations;
use voipd_audio::Codec;
use voipd_audio::activity::ActivityDetector;
use voipd_audio::codec::{Decoder, Encoder, EncoderSettings};
use voipd_audio::comfort::{self, Analysis, Description};
use voipd_audio::jitter::{Advice, Arrival, JitterBuffer, Next};
use voipd_audio::resample::{DriftControl, Resampler};
use voipd_audio::stretch::{Cut, go_on};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Generator, Signal, Tone};

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn codecs_and_concealment() {
    for codec in Codec::ALL.into_iter().filter(|codec| codec.is_built()) {
        let packet = codec.sample_rate() as usize / 50;
        let settings = EncoderSettings { fec: true, dtx: true, ..EncoderSettings::new(codec, 10) };
        let mut encoder = Encoder::new(settings).unwrap();
        let mut decoder = Decoder::new(codec).unwrap();
        let (mut payload, mut samples) = ([0; 2000], vec![0.0; packet]);
        let counted = allocations(|| {
            encoder.set_fec(true);
            encoder.set_bitrate(Some(24_000));
            for round in 0..200 {
                for (index, sample) in samples.iter_mut().enumerate() {
                    *sample =
                        if round % 50 < 40 { ((index * index * 31 % 97) as f32 - 48.0) / 200.0 } else { 0.0 };
                }
                encoder.set_complexity(round % 11);
                let length = encoder.encode(&samples, &mut payload).unwrap();
                match round % 5 {
                    0 => decoder.conceal(&mut samples),
                    1 if round % 2 == 1 => drop(decoder.interpolate(&payload[..length], &mut samples)),
                    1 => drop(decoder.decode_fec(&payload[..length], &mut samples)),
                    _ => drop(decoder.decode(&payload[..length], &mut samples)),
                }
                // Errors as well, and payloads that are none.
                let _ = decoder.decode(&[0xff; 3], &mut samples);
                let _ = decoder.decode(&payload[..length], &mut samples[..1]);
                let _ = encoder.encode(&samples[..7], &mut payload[..1]);
            }
            decoder.reset();
        });
        assert_eq!(counted, 0, "{codec:?}");
    }
}

#[test]
fn the_jitter_buffer() {
    let mut buffer = JitterBuffer::new(20, 200);
    let payload = [0; 160];
    let counted = allocations(|| {
        let mut heard = 0;
        for number in 0..20_000_u64 {
            // Loss, reordering, duplicates, a new source now and then, and bursts.
            let sent = if number % 17 == 3 { number.saturating_sub(2) } else { number };
            if number % 13 != 5 {
                buffer.insert(Arrival {
                    sequence: sent as u16,
                    timestamp: (sent * 160) as u32,
                    clock_rate: [8000, 48_000][(number / 700 % 2) as usize],
                    ssrc: (number / 3000) as u32,
                    payload_type: 0,
                    marker: false,
                    at_nanos: number * 20_000_000 + number % 7 * 9_000_000,
                    duration: 160,
                    payload: &payload,
                });
            }
            let listening = number / 500 % 2 == 0;
            if listening && let Next::Packet { payload, .. } = buffer.next(number * 20_000_000) {
                heard += payload.len();
            }
            if buffer.advise(number * 20_000_000, number % 30 * 1_000_000, || true) != Advice::Keep {
                buffer.stretched(number * 20_000_000, -1_000_000);
            }
            if number % 5000 == 4999 {
                buffer.restart();
            }
        }
        assert!(heard > 0);
        std::hint::black_box(buffer.figures());
    });
    assert_eq!(counted, 0);
}

#[test]
fn time_stretching() {
    for rate in [8_000_u32, 16_000, 48_000] {
        let ms = rate as usize / 1000;
        let mut samples: Vec<f32> = (0..80 * ms).map(|n| (n as f32 * 0.05).sin()).collect();
        let mut tail = vec![0.0; 10 * ms];
        let counted = allocations(|| {
            for round in 0..200 {
                let likeness = (round % 10) as f32 / 10.0;
                let mut cut = Cut { samples: &mut samples, end: 50 * ms, place: 20 * ms, rate };
                cut.shorten(round % 20 * ms, likeness);
                cut.lengthen(15 * ms, likeness);
                go_on(&samples[..20 * ms], rate, &mut tail);
            }
        });
        assert_eq!(counted, 0, "{rate} Hz");
    }
}

#[test]
fn resampling_and_drift_control() {
    for (from, to) in
        [(8000, 48_000), (48_000, 8000), (8000, 16_000), (16_000, 48_000), (44_100, 48_000), (48_000, 47_999)]
    {
        let mut resampler = Resampler::new(from, to, 480);
        let mut control = DriftControl::new(from, 960);
        let (input, mut output) = ([0.1; 3000], [0.0; 480]);
        let counted = allocations(|| {
            for round in 0..1000 {
                resampler.set_drift_ppm(control.update(900 + round % 100));
                let length = if round % 3 == 0 { 480 } else { 80 };
                let needed = resampler.input_needed(length);
                resampler.process(&input[..needed], &mut output[..length]);
            }
        });
        assert_eq!(counted, 0, "{from} to {to}");
    }
}

#[test]
fn tones() {
    let waiting = Country::by_letters("za").unwrap().tone(Signal::CallWaiting);
    let mut generator = Generator::new(Tone { length_ms: Some(9000), ..waiting }, 48_000);
    let mut samples = [0.0; 480];
    assert_eq!(allocations(|| while generator.mix_into(&mut samples) {}), 0);
}

#[test]
fn comfort_noise() {
    let (mut analysis, mut generator) = (Analysis::default(), comfort::Generator::default());
    let (mut payload, mut samples) = ([0; 20], [0.0; 480]);
    let counted = allocations(|| {
        for round in 0..200_usize {
            for (index, sample) in samples.iter_mut().enumerate() {
                *sample = ((index + round) * 31 % 97) as f32 / 9700.0;
            }
            analysis.frame(&samples);
            let octets = analysis.description().write(round % (comfort::ORDER + 1), &mut payload);
            let Some(description) = Description::read(&payload[..octets]) else { continue };
            match round % 10 {
                0 => generator.restart(description),
                _ => generator.describe(description),
            }
            generator.fill(&mut samples);
        }
        assert!(samples.iter().any(|sample| *sample != 0.0));
    });
    assert_eq!(counted, 0);
}

#[test]
fn the_activity_detector() {
    let mut detector = ActivityDetector::new(48_000, 200);
    let mut frame = [0.0; 480];
    let counted = allocations(|| {
        for round in 0..1000_usize {
            let level = if round / 100 % 2 == 0 { 0.3 } else { 0.001 };
            for (index, sample) in frame.iter_mut().enumerate() {
                *sample = level * (((index + round) * 31 % 97) as f32 - 48.0) / 48.0;
            }
            std::hint::black_box(detector.frame(&frame));
            std::hint::black_box(detector.pause());
        }
    });
    assert_eq!(counted, 0);
}
