//! Encoders and decoders together: fidelity, packet lengths, loss, and payloads that are none.

use crate::support::{Random, energy, rms, segmental_snr, sine, snr, speech};
use voipd_audio::Codec;
use voipd_audio::codec::{CodecError, Decoder, Encoder, EncoderSettings, OPUS_BITRATE};

fn settings(codec: Codec) -> EncoderSettings {
    EncoderSettings::new(codec, 9)
}

fn packets(encoder: &mut Encoder, samples: &[f32], packet: usize) -> Vec<Vec<u8>> {
    let mut payload = [0; 1400];
    samples
        .chunks_exact(packet)
        .map(|samples| {
            let length = encoder.encode(samples, &mut payload).unwrap();
            payload[..length].to_vec()
        })
        .collect()
}

fn decoded(decoder: &mut Decoder, packets: &[Vec<u8>]) -> Vec<f32> {
    let mut samples = [0.0; 5760];
    let decode = |packet: &Vec<u8>| {
        let length = decoder.decode(packet, &mut samples).unwrap();
        samples[..length].to_vec()
    };
    packets.iter().flat_map(decode).collect()
}

/// Best segmental SNR over the delays that a codec may have, and that delay.
fn best_match(sent: &[f32], heard: &[f32], rate: u32) -> (f64, usize) {
    let snr_at = |delay: usize| segmental_snr(&sent[..sent.len() - delay], &heard[delay..], rate);
    (0..rate as usize / 100).map(|delay| (snr_at(delay), delay)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn g711_keeps_a_tone_at_its_theoretical_distance_from_noise() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        // G.712 wants at least 33 dB from 0 down to -30 dBm0; an ideal 8-bit companding law gives 36 to 38.
        for level in [0.9, 0.3, 0.1, 0.03] {
            let samples = sine(1020.0, level, 8000, 8000);
            let payload = packets(&mut Encoder::new(settings(codec)).unwrap(), &samples, 160);
            let heard = decoded(&mut Decoder::new(codec).unwrap(), &payload);
            let snr = snr(&samples, &heard);
            println!("{codec:?} at {level}: {snr:.1} dB");
            assert!(snr > 35.0, "{codec:?} at {level}: {snr} dB");
        }
    }
}

#[test]
fn every_g711_code_survives_decoding_and_encoding() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let codes: Vec<u8> = (0..=255).collect();
        let mut samples = [0.0; 256];
        Decoder::new(codec).unwrap().decode(&codes, &mut samples).unwrap();
        let mut again = [0; 256];
        Encoder::new(settings(codec)).unwrap().encode(&samples, &mut again).unwrap();
        for (code, again) in codes.iter().zip(again) {
            // µ-law's negative zero has the value of its positive zero.
            assert!(*code == again || (codec == Codec::Pcmu && *code == 0x7f && again == 0xff), "{code}");
        }
    }
}

#[test]
fn opus_keeps_speech_recognisable_at_every_packet_time() {
    let samples = speech(48_000, 4.0, 5);
    for packet in [480, 960, 1920, 2880] {
        let payload = packets(&mut Encoder::new(settings(Codec::Opus)).unwrap(), &samples, packet);
        let mut decoder = Decoder::new(Codec::Opus).unwrap();
        assert!(payload.iter().all(|payload| decoder.duration(payload) == Ok(packet)));
        let heard = decoded(&mut decoder, &payload);
        let (snr, delay) = best_match(&samples[..heard.len()], &heard, 48_000);
        let octets: usize = payload.iter().map(Vec::len).sum();
        let bitrate = octets as f64 * 8.0 / (heard.len() as f64 / 48_000.0);
        println!("{packet}: {snr:.1} dB, delay {delay}, {bitrate:.0} bit/s");
        assert!(snr > 8.0, "packets of {packet}: {snr} dB at delay {delay}");
        assert!(bitrate < 1.15 * f64::from(OPUS_BITRATE), "packets of {packet}: {bitrate} bit/s");
    }
}

#[test]
fn the_peers_greatest_bit_rate_is_respected_and_ours_not_exceeded() {
    let samples = speech(48_000, 4.0, 6);
    for (wanted, most) in
        [(Some(12_000), 12_000.0), (Some(510_000), f64::from(OPUS_BITRATE)), (Some(1), 6_000.0)]
    {
        let mut encoder = Encoder::new(EncoderSettings { bitrate: wanted, ..settings(Codec::Opus) }).unwrap();
        let octets: usize = packets(&mut encoder, &samples, 960).iter().map(Vec::len).sum();
        let bitrate = octets as f64 * 8.0 / 4.0;
        assert!(bitrate < 1.15 * most, "{wanted:?}: {bitrate} bit/s");
    }
}

#[test]
fn opus_with_dtx_sends_nothing_while_there_is_nothing() {
    let mut samples = speech(48_000, 2.0, 7);
    samples.extend(vec![0.0; 96_000]);
    let mut encoder = Encoder::new(EncoderSettings { dtx: true, ..settings(Codec::Opus) }).unwrap();
    let payload = packets(&mut encoder, &samples, 960);
    let unsent = |range: &[Vec<u8>]| range.iter().filter(|payload| payload.is_empty()).count();
    assert!(unsent(&payload[140..]) > 50, "{} of 60", unsent(&payload[140..]));
    assert!(unsent(&payload[..90]) < 20);

    let mut encoder = Encoder::new(settings(Codec::Opus)).unwrap();
    assert_eq!(unsent(&packets(&mut encoder, &samples, 960)), 0);
}

#[test]
fn opus_fec_brings_back_more_of_a_lost_packet_than_concealment() {
    let samples = speech(48_000, 6.0, 8);
    let mut encoder =
        Encoder::new(EncoderSettings { fec: true, bitrate: Some(24_000), ..settings(Codec::Opus) }).unwrap();
    assert!(encoder.set_fec(true));
    let payload = packets(&mut encoder, &samples, 960);
    let mut whole = Decoder::new(Codec::Opus).unwrap();
    let (mut with_fec, mut without) =
        (Decoder::new(Codec::Opus).unwrap(), Decoder::new(Codec::Opus).unwrap());
    let (mut sent, mut fec, mut concealed, mut found) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (number, packet) in payload.iter().enumerate() {
        let mut samples = [[0.0; 960]; 3];
        whole.decode(packet, &mut samples[0]).unwrap();
        if number % 7 == 5 && number + 1 < payload.len() {
            match with_fec.decode_fec(&payload[number + 1], &mut samples[1]) {
                Some(length) => {
                    assert_eq!(length, 960);
                    found += 1;
                }
                None => with_fec.conceal(&mut samples[1]),
            }
            samples[2].chunks_mut(480).for_each(|tick| without.conceal(tick));
            sent.extend(samples[0]);
            fec.extend(samples[1]);
            concealed.extend(samples[2]);
        } else {
            with_fec.decode(packet, &mut samples[1]).unwrap();
            without.decode(packet, &mut samples[2]).unwrap();
        }
    }
    let (fec, concealed) = (segmental_snr(&sent, &fec, 48_000), segmental_snr(&sent, &concealed, 48_000));
    println!("FEC {fec:.1} dB, concealment {concealed:.1} dB, {found} of {} packets", sent.len() / 960);
    assert!(found * 2 > sent.len() / 960);
    assert!(fec > concealed + 1.5, "FEC {fec} dB, concealment {concealed} dB");
}

#[test]
fn fec_is_spent_only_where_it_is_wanted_and_the_peer_can_use_it() {
    let samples = speech(48_000, 2.0, 8);
    let carries = |fec: bool, wanted: bool| {
        let mut encoder =
            Encoder::new(EncoderSettings { fec, bitrate: Some(24_000), ..settings(Codec::Opus) }).unwrap();
        assert_eq!(encoder.set_fec(wanted), fec && wanted);
        let mut decoder = Decoder::new(Codec::Opus).unwrap();
        let mut out = [0.0; 960];
        packets(&mut encoder, &samples, 960)
            .iter()
            .filter(|packet| decoder.decode_fec(packet, &mut out).is_some())
            .count()
    };
    assert_eq!((carries(true, false), carries(false, true)), (0, 0));
    assert!(carries(true, true) > 30);
}

#[test]
fn fec_has_its_bits_on_narrow_links_as_well() {
    let samples = speech(48_000, 4.0, 8);
    for (bitrate, complexity) in [(18_500, 9), (22_000, 9), (24_000, 5), (26_000, 5), (40_000, 9)] {
        let mut encoder =
            Encoder::new(EncoderSettings { fec: true, complexity, ..settings(Codec::Opus) }).unwrap();
        encoder.set_fec(true);
        encoder.set_bitrate(Some(bitrate));
        let packets = packets(&mut encoder, &samples, 1920);
        let decoder = Decoder::new(Codec::Opus).unwrap();
        let found = packets.iter().filter(|packet| decoder.carries_fec(packet)).count();
        assert!(found * 2 > packets.len(), "{bitrate}: {found} of {}", packets.len());
    }
}

#[test]
fn opus_conceals_from_what_it_heard() {
    let samples = sine(220.0, 0.3, 48_000, 48_000);
    let payload = packets(&mut Encoder::new(settings(Codec::Opus)).unwrap(), &samples, 960);
    let mut decoder = Decoder::new(Codec::Opus).unwrap();
    decoded(&mut decoder, &payload);
    let mut tick = [0.0; 480];
    decoder.conceal(&mut tick);
    assert!(rms(&tick) > 0.1);
    decoder.reset();
    decoder.conceal(&mut tick);
    assert!(energy(&tick) < 1e-6);
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let mut small = [0; 10];
    for codec in [Codec::Pcmu, Codec::Pcma] {
        assert_eq!(
            Encoder::new(settings(codec)).unwrap().encode(&[0.0; 160], &mut small),
            Err(CodecError::Buffer)
        );
        let mut decoder = Decoder::new(codec).unwrap();
        assert_eq!(decoder.decode(&[0; 160], &mut [0.0; 80]), Err(CodecError::Buffer));
        assert_eq!(decoder.decode(&[], &mut [0.0; 80]), Err(CodecError::Malformed));
    }
    let mut encoder = Encoder::new(settings(Codec::Opus)).unwrap();
    assert_eq!(encoder.encode(&[0.0; 1440], &mut [0; 1400]), Err(CodecError::Buffer), "Opus has no 30 ms");
    assert_eq!(encoder.encode(&[0.0; 960], &mut []), Err(CodecError::Buffer));
    let length = encoder.encode(&[0.1; 960], &mut [0; 1400]).unwrap();
    assert!(length > 0);
    let mut decoder = Decoder::new(Codec::Opus).unwrap();
    assert_eq!(decoder.decode(&[0x08, 1, 2, 3], &mut [0.0; 480]), Err(CodecError::Buffer));
    assert_eq!(decoder.decode(&[], &mut [0.0; 480]), Err(CodecError::Malformed));
}

#[test]
fn no_payload_whatever_harms_the_opus_decoder() {
    let mut random = Random::new(4);
    let mut decoder = Decoder::new(Codec::Opus).unwrap();
    let mut samples = [0.0; 5760];
    let mut good = 0;
    for _ in 0..20_000 {
        let payload: Vec<u8> = (0..random.next() % 100).map(|_| random.next() as u8).collect();
        let duration = decoder.duration(&payload);
        let _ = decoder.decode_fec(&payload, &mut samples[..960]);
        match decoder.decode(&payload, &mut samples) {
            Ok(length) => {
                assert_eq!(Ok(length), duration);
                assert!(samples[..length].iter().all(|sample| sample.abs() <= 1.0));
                good += 1;
            }
            Err(error) => assert_eq!(error, CodecError::Malformed),
        }
    }
    assert!(good > 1000, "{good}: random bytes are often packets");
}
