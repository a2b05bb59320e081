//! Every codec that this build has: how long its packets are, how near to the original it sounds, and what it makes of
//! payloads that are none.

use crate::support::{Random, rms, speech};
use voipd_audio::Codec;
use voipd_audio::codec::{CodecError, Decoder, Encoder, EncoderSettings};

const LONGEST: usize = 5760;

fn encoder(codec: Codec) -> Encoder {
    Encoder::new(EncoderSettings::new(codec, 9)).unwrap()
}

fn built() -> impl Iterator<Item = Codec> {
    Codec::ALL.into_iter().filter(|codec| codec.is_built())
}

/// Octets of 20 ms, least likeness of speech, and most milliseconds of delay.
fn expected(codec: Codec) -> (std::ops::RangeInclusive<usize>, f64, usize) {
    match codec {
        Codec::Opus => (20..=200, 0.8, 10),
        Codec::Pcmu | Codec::Pcma => (160..=160, 0.995, 0),
        Codec::G722 => (160..=160, 0.99, 2),
        Codec::L16Narrow => (320..=320, 0.9999, 0),
        Codec::L16Wide => (640..=640, 0.9999, 0),
        Codec::L16Full => (1920..=1920, 0.9999, 0),
        Codec::G726 | Codec::G726Aal2 => (80..=80, 0.98, 0),
        Codec::Gsm => (33..=33, 0.85, 5),
        Codec::SpeexNarrow => (38..=38, 0.85, 20),
        Codec::SpeexWide => (70..=70, 0.85, 20),
        Codec::G729 => (20..=20, 0.6, 15),
    }
}

/// Normalised correlation of two pieces of the same length.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let product = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt().max(1e-12)
}

#[test]
fn speech_is_known_again() {
    for codec in built() {
        let rate = codec.sample_rate();
        let (octets, likeness, most_delay) = expected(codec);
        let said = speech(rate, 2.0, 1);
        let (mut encoder, mut decoder) = (encoder(codec), Decoder::new(codec).unwrap());
        let (mut payload, mut samples, mut heard) = ([0; 2000], [0.0; LONGEST], Vec::new());
        for packet in said.chunks_exact(rate as usize / 50) {
            let length = encoder.encode(packet, &mut payload).unwrap();
            assert!(octets.contains(&length), "{codec:?}: {length} octets");
            assert_eq!(decoder.duration(&payload[..length]), Ok(packet.len()), "{codec:?}");
            let length = decoder.decode(&payload[..length], &mut samples).unwrap();
            heard.extend_from_slice(&samples[..length]);
        }
        let delays = 0..=most_delay * rate as usize / 1000;
        let alike = |delay: usize| correlation(&said[..said.len() - delay], &heard[delay..]);
        let (found, delay) =
            delays.map(|delay| (alike(delay), delay)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!("{codec:?}: {found:.4} at {delay}");
        assert!(found > likeness, "{codec:?}: {found}");
    }
}

#[test]
fn packets_of_several_frames_are_played_whole() {
    for codec in built() {
        let frame = codec.sample_rate() as usize / 50;
        let said = speech(codec.sample_rate(), 0.12, 2);
        for frames in [2, 3] {
            let (mut payload, mut samples) = ([0; 6000], [0.0; LONGEST]);
            let packet = &said[..frames * frame];
            let length = encoder(codec).encode(packet, &mut payload).unwrap();
            let heard = Decoder::new(codec).unwrap().decode(&payload[..length], &mut samples).unwrap();
            assert_eq!(heard, packet.len(), "{codec:?}");
        }
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    for codec in built() {
        let frame = codec.sample_rate() as usize / 50;
        let (mut encoder, mut decoder) = (encoder(codec), Decoder::new(codec).unwrap());
        let mut payload = [0; 2000];
        let length = encoder.encode(&vec![0.1; frame], &mut payload).unwrap();
        // Opus makes do with what it gets.
        if codec != Codec::Opus {
            assert_eq!(encoder.encode(&vec![0.1; frame], &mut [0; 1]), Err(CodecError::Buffer), "{codec:?}");
        }
        let decoded = decoder.decode(&payload[..length], &mut [0.0; 79]);
        assert_eq!(decoded, Err(CodecError::Buffer), "{codec:?}");
        assert_eq!(decoder.decode(&[], &mut [0.0; LONGEST]), Err(CodecError::Malformed), "{codec:?}");
    }
}

#[test]
fn any_payload_gives_sound_of_the_length_it_tells_or_an_error() {
    for codec in built() {
        let mut random = Random::new(codec as u64 + 1);
        let mut decoder = Decoder::new(codec).unwrap();
        let mut samples = vec![0.0; 4 * LONGEST];
        let (mut taken, mut payload) = (0, [0; 300]);
        for round in 0..6000 {
            let length = random.next() as usize % payload.len();
            payload[..length].iter_mut().for_each(|octet| *octet = random.next() as u8);
            // Frames that begin as real ones do go deeper.
            if codec == Codec::Gsm {
                payload.chunks_mut(33).for_each(|frame| frame[0] = 0xd0 | frame[0] & 0x0f);
            }
            let length = if codec == Codec::Gsm { length / 33 * 33 } else { length };
            let told = decoder.duration(&payload[..length]);
            let heard = decoder.decode(&payload[..length], &mut samples);
            if let Ok(heard) = heard {
                taken += 1;
                assert_eq!(Ok(heard), told, "{codec:?}");
                assert!(samples[..heard].iter().all(|sample| sample.is_finite()), "{codec:?}");
            }
            if round % 7 == 0 {
                decoder.conceal(&mut samples[..codec.sample_rate() as usize / 100]);
            }
            if round % 1000 == 999 {
                decoder.reset();
            }
        }
        assert!(taken > 0, "{codec:?}");
    }
}

#[test]
fn what_is_lost_is_made_up_and_fades() {
    for codec in built() {
        let rate = codec.sample_rate() as usize;
        let said = speech(codec.sample_rate(), 1.0, 3);
        let (mut encoder, mut decoder) = (encoder(codec), Decoder::new(codec).unwrap());
        let (mut payload, mut samples) = ([0; 2000], [0.0; LONGEST]);
        let mut loudness = 0.0_f32;
        for packet in said.chunks_exact(rate / 50).take(25) {
            let length = encoder.encode(packet, &mut payload).unwrap();
            let heard = decoder.decode(&payload[..length], &mut samples).unwrap();
            loudness = loudness.max(rms(&samples[..heard]) as f32);
        }
        let mut made_up = vec![0.0; rate];
        made_up.chunks_exact_mut(rate / 100).for_each(|frame| decoder.conceal(frame));
        let end = rms(&made_up[rate - rate / 10..]) as f32;
        assert!(end < loudness / 4.0, "{codec:?}: {end} after {loudness}");
    }
}
