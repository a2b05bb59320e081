//! Concealment of G.711: how near to what was lost it comes, and that it does not click.

use crate::support::{Random, energy, rms, segmental_snr, sine, snr, spectral_distance, speech};
use voipd_audio::Codec;
use voipd_audio::codec::{Decoder, Encoder, EncoderSettings};

const RATE: u32 = 8000;
/// Samples of a packet, and of a tick.
const PACKET: usize = 160;
const TICK: usize = 80;

fn encoded(samples: &[f32]) -> Vec<u8> {
    let settings = EncoderSettings::new(Codec::Pcmu, 5);
    let mut payload = vec![0; samples.len()];
    Encoder::new(settings).unwrap().encode(samples, &mut payload).unwrap();
    payload
}

/// What is heard of `samples` when the packets that `lost` names do not come: (concealed, silence in their place).
fn hear(samples: &[f32], lost: impl Fn(usize) -> bool) -> (Vec<f32>, Vec<f32>) {
    let payload = encoded(samples);
    let mut decoder = Decoder::new(Codec::Pcmu).unwrap();
    let (mut concealed, mut silenced) = (vec![0.0; samples.len()], vec![0.0; samples.len()]);
    let packets = payload.chunks(PACKET).zip(concealed.chunks_mut(PACKET)).zip(silenced.chunks_mut(PACKET));
    for (number, ((payload, concealed), silenced)) in packets.enumerate() {
        if lost(number) {
            concealed.chunks_mut(TICK).for_each(|tick| decoder.conceal(tick));
        } else {
            decoder.decode(payload, concealed).unwrap();
            Decoder::new(Codec::Pcmu).unwrap().decode(payload, silenced).unwrap();
        }
    }
    (concealed, silenced)
}

fn largest_jump(samples: &[f32]) -> f32 {
    samples.windows(2).fold(0.0, |largest, pair| largest.max((pair[1] - pair[0]).abs()))
}

#[test]
fn a_steady_vowel_goes_on_through_a_lost_packet() {
    for pitch in [70.0, 100.0, 141.0, 190.0, 250.0] {
        let mut samples = vec![0.0; 8000];
        for (harmonic, amplitude) in [(1.0, 0.2), (2.0, 0.15), (3.0, 0.1), (5.0, 0.05)] {
            for (sample, more) in samples.iter_mut().zip(sine(pitch * harmonic, amplitude, RATE, 8000)) {
                *sample += more;
            }
        }
        let (concealed, _) = hear(&samples, |number| number == 20);
        // The first 10 ms are whole, the second are faded by a fifth at most.
        let gap = 20 * PACKET..20 * PACKET + TICK;
        let close = snr(&samples[gap.clone()], &concealed[gap]);
        assert!(close > 12.0, "{pitch} Hz: {close} dB");
    }
}

#[test]
fn speech_with_gaps_is_nearer_to_itself_concealed_than_silenced() {
    for (seed, loss) in [(1, 0.03), (2, 0.05), (3, 0.1)] {
        let samples = speech(RATE, 20.0, seed);
        let mut random = Random::new(seed);
        let lost: Vec<bool> =
            (0..samples.len() / PACKET).map(|number| number > 5 && random.unit() < loss).collect();
        let (concealed, silenced) = hear(&samples, |number| lost[number]);
        // Only the lost packets are compared; all others are alike.
        let (mut s, mut c, mut z) = (Vec::new(), Vec::new(), Vec::new());
        for number in (0..lost.len()).filter(|number| lost[*number]) {
            let place = number * PACKET..(number + 1) * PACKET;
            s.extend_from_slice(&samples[place.clone()]);
            c.extend_from_slice(&concealed[place.clone()]);
            z.extend_from_slice(&silenced[place]);
        }
        let gain = segmental_snr(&s, &c, RATE) - segmental_snr(&s, &z, RATE);
        let (near, far) = (spectral_distance(&s, &c, RATE), spectral_distance(&s, &z, RATE));
        println!(
            "loss {loss}: segmental SNR {gain:+.2} dB, spectral distance {near:.1} dB, silenced {far:.1} dB"
        );
        assert!(near < 0.5 * far, "loss {loss}: {near} dB, silenced {far} dB");
    }
}

#[test]
fn a_gap_is_filled_better_when_what_follows_it_is_known() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let rate = codec.sample_rate();
        let packet = rate as usize / 50;
        let samples = speech(rate, 20.0, 4);
        let settings = EncoderSettings::new(codec, 5);
        let mut encoder = Encoder::new(settings).unwrap();
        let payloads: Vec<Vec<u8>> = samples
            .chunks_exact(packet)
            .map(|samples| {
                let mut payload = vec![0; packet];
                let length = encoder.encode(samples, &mut payload).unwrap();
                payload.truncate(length);
                payload
            })
            .collect();
        let hear = |two_sided: bool| -> Vec<f32> {
            let mut decoder = Decoder::new(codec).unwrap();
            let mut heard = Vec::new();
            for (number, payload) in payloads.iter().enumerate() {
                let mut room = vec![0.0; packet];
                let lost = number % 9 == 7;
                let next = payloads.get(number + 1).filter(|_| two_sided);
                match next {
                    _ if !lost => assert_eq!(decoder.decode(payload, &mut room), Ok(packet)),
                    Some(next) => assert_eq!(decoder.interpolate(next, &mut room), Some(packet)),
                    None => room.chunks_mut(packet / 2).for_each(|tick| decoder.conceal(tick)),
                }
                heard.extend(room);
            }
            heard
        };
        let (one, two) = (hear(false), hear(true));
        let gain = segmental_snr(&samples, &two, rate) - segmental_snr(&samples, &one, rate);
        println!("{codec:?}: segmental SNR {gain:+.2} dB");
        assert!(gain > 2.0, "{codec:?}: {gain} dB");
    }
}

#[test]
fn no_length_and_no_neighbour_breaks_the_filling_of_a_gap() {
    let loud: Vec<f32> = sine(150.0, 0.5, RATE, 800);
    for codec in [Codec::Pcmu, Codec::G722] {
        let mut random = Random::new(3);
        let noise: Vec<u8> = (0..800).map(|_| random.next() as u8).collect();
        let mut decoder = Decoder::new(codec).unwrap();
        let mut room = vec![0.0; 1600];
        decoder.decode(&encoded(&loud), &mut room).unwrap();
        for length in [0, 1, 79, 80, 160, 240, 320, 481, 1000] {
            for next in [0, 1, 20, 40, 41, 80, 160, 800] {
                let mut samples = vec![7.0; length];
                match decoder.interpolate(&noise[..next], &mut samples) {
                    Some(made) => assert!(made == length && samples.iter().all(|sample| sample.abs() <= 1.0)),
                    None => assert!(samples.iter().all(|sample| *sample == 7.0), "untouched"),
                }
            }
        }
    }
    // At 48 kHz it would take too much of a tick.
    let mut wide = Decoder::new(Codec::L16Full).unwrap();
    assert!(!wide.looks_ahead() && wide.interpolate(&[1; 960], &mut [0.0; 480]).is_none());
    assert!(Decoder::new(Codec::L16Wide).unwrap().looks_ahead());
    // Silence on both sides stays silent.
    let mut decoder = Decoder::new(Codec::Pcmu).unwrap();
    let mut samples = [1.0; PACKET];
    assert_eq!(decoder.interpolate(&[0xFF; PACKET], &mut samples), Some(PACKET));
    assert_eq!(energy(&samples), 0.0);
}

#[test]
fn no_join_jumps_further_than_the_speech_itself() {
    for seed in 0..20 {
        let samples = speech(RATE, 10.0, seed);
        let mut random = Random::new(seed);
        let lost: Vec<bool> = (0..samples.len() / PACKET).map(|_| random.unit() < 0.15).collect();
        let (concealed, _) = hear(&samples, |number| lost[number]);
        let (own, joined) = (largest_jump(&samples), largest_jump(&concealed));
        assert!(joined <= 1.1 * own, "seed {seed}: {joined}, speech itself {own}");
    }
    // A low tone moves slowly: here a join shows that hides between the jumps of speech.
    let samples = sine(133.0, 0.5, RATE, 16_000);
    for first in 10..18 {
        let (concealed, _) = hear(&samples, |number| (first..first + 2).contains(&number));
        let own = largest_jump(&samples);
        assert!(largest_jump(&concealed) < 1.5 * own, "{} against {own}", largest_jump(&concealed));
    }
}

#[test]
fn a_long_gap_fades_to_silence_in_60_ms() {
    let samples = speech(RATE, 2.0, 9);
    let start = (20..80).max_by(|a, b| level(&samples, *a).total_cmp(&level(&samples, *b))).unwrap();
    let (concealed, _) = hear(&samples, |number| number >= start);
    let gap = &concealed[start * PACKET..];
    let levels: Vec<f64> = gap.chunks(TICK).map(rms).collect();
    assert!(levels[0] > 0.3 * rms(&samples[(start - 1) * PACKET..start * PACKET]));
    assert!(levels[4] < 0.5 * levels[0], "{levels:?}");
    assert_eq!(energy(&gap[480..]), 0.0);
}

fn level(samples: &[f32], packet: usize) -> f64 {
    rms(&samples[packet * PACKET..(packet + 1) * PACKET])
}

#[test]
fn nothing_is_made_out_of_nothing() {
    let mut decoder = Decoder::new(Codec::Pcma).unwrap();
    let mut samples = [1.0; TICK];
    for _ in 0..10 {
        decoder.conceal(&mut samples);
        assert_eq!(energy(&samples), 0.0);
    }
}

#[test]
fn a_reset_forgets_the_voice() {
    let mut decoder = Decoder::new(Codec::Pcmu).unwrap();
    let mut samples = [0.0; 8000];
    decoder.decode(&encoded(&sine(150.0, 0.5, RATE, 8000)), &mut samples).unwrap();
    decoder.reset();
    decoder.conceal(&mut samples[..TICK]);
    assert_eq!(energy(&samples[..TICK]), 0.0);
}

#[test]
fn any_length_can_be_concealed() {
    let mut decoder = Decoder::new(Codec::Pcmu).unwrap();
    let payload = encoded(&sine(150.0, 0.5, RATE, 800));
    for length in [0, 1, 7, 79, 80, 81, 200, 1000] {
        let mut samples = vec![0.0; 1000];
        decoder.decode(&payload, &mut samples).unwrap();
        decoder.conceal(&mut samples[..length]);
        decoder.decode(&payload[..1], &mut samples).unwrap();
        assert!(samples.iter().all(|sample| sample.abs() < 1.0));
    }
}
