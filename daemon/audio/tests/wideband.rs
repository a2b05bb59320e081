//! G.722: 16 kHz of sound under a clock of 8 kHz, its fidelity, its concealment and its company in the mixer.

use crate::support::{rms, segmental_snr, sine, snr, speech as voice};
use crate::world::sound::{amplitude, assert_same, speech};
use crate::world::{STREAM, TAPE, World, address, payload_type, plan, rtp};
use voipd_audio::StreamPlan;
use voipd_audio::codec::{CodecError, Decoder, Encoder, EncoderSettings};
use voipd_audio::plan::{Codec, ReceiveKind};

const RATE: u32 = 16_000;
/// Samples of a packet of 20 ms, and of a tick.
const PACKET: usize = 320;
const TICK: usize = 160;
/// Delay of both mirror filters, in samples.
const DELAY: usize = 22;

fn settings() -> EncoderSettings {
    EncoderSettings::new(Codec::G722, 9)
}

fn encoded(samples: &[f32]) -> Vec<u8> {
    let mut payload = vec![0; samples.len() / 2];
    assert_eq!(Encoder::new(settings()).unwrap().encode(samples, &mut payload), Ok(payload.len()));
    payload
}

/// What is heard of `samples` when the packets that `lost` names do not come.
fn hear(samples: &[f32], lost: impl Fn(usize) -> bool) -> Vec<f32> {
    let payload = encoded(samples);
    let mut decoder = Decoder::new(Codec::G722).unwrap();
    let mut heard = vec![0.0; samples.len()];
    for (number, (payload, heard)) in payload.chunks(PACKET / 2).zip(heard.chunks_mut(PACKET)).enumerate() {
        if lost(number) {
            heard.chunks_mut(TICK).for_each(|tick| decoder.conceal(tick));
        } else {
            assert_eq!(decoder.decode(payload, heard), Ok(PACKET));
        }
    }
    heard
}

#[test]
fn both_bands_carry_a_tone() {
    for (hertz, least) in [(300.0, 40.0), (1000.0, 40.0), (3000.0, 30.0), (5000.0, 15.0), (6500.0, 15.0)] {
        let tone = sine(hertz, 0.3, RATE, RATE as usize);
        let heard = hear(&tone, |_| false);
        let snr = snr(&tone[1000..8000], &heard[1000 + DELAY..8000 + DELAY]);
        println!("{hertz} Hz: {snr:.1} dB");
        assert!(snr > least, "{hertz} Hz: {snr} dB");
    }
}

#[test]
fn speech_keeps_its_wave() {
    let samples = voice(RATE, 6.0, 3);
    let heard = hear(&samples, |_| false);
    let end = samples.len() - DELAY;
    let snr = segmental_snr(&samples[..end], &heard[DELAY..], RATE);
    println!("speech: {snr:.1} dB");
    assert!(snr > 20.0, "{snr} dB");
}

#[test]
fn studio_sound_in_packets_that_no_ethernet_frame_holds_is_heard() {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::L16Full, 0, address(1)), socket).unwrap();
    let mut tape = world.sides[0].open_tape(TAPE, 48_000);
    world.sides[0].controller.connect(TAPE, &[STREAM]).unwrap();
    let words = speech(48_000, 3.0, 12);
    for (number, packet) in words.chunks_exact(960).enumerate() {
        let samples = packet.iter().flat_map(|sample| ((sample * 32_767.0) as i16).to_be_bytes());
        let payload: Vec<u8> = samples.collect();
        assert_eq!(payload.len(), 1920);
        let datagram = rtp(payload_type(Codec::L16Full), number as u16, number as u32 * 960, 7, &payload);
        world.network().send(address(1), address(0), &datagram);
        world.run_ms(20);
    }
    world.run_ms(200);
    let counters = world.sides[0].counters(STREAM);
    assert_eq!((counters.packets_invalid, counters.packets_discarded), (0, 0), "{counters:?}");
    assert_same(&words[4800..110_000], &tape.recorded()[4800..], 48_000, 0.98);
}

#[test]
fn an_octet_is_two_samples_and_one_unit_of_time() {
    assert_eq!((Codec::G722.sample_rate(), Codec::G722.clock_rate()), (16_000, 8_000));
    let mut decoder = Decoder::new(Codec::G722).unwrap();
    assert_eq!(decoder.duration(&[0; 160]), Ok(320));
    assert_eq!(decoder.duration(&[]), Err(CodecError::Malformed));
    assert_eq!(decoder.decode(&[0; 160], &mut [0.0; 319]), Err(CodecError::Buffer));
    assert_eq!(Encoder::new(settings()).unwrap().encode(&[0.0; 320], &mut [0; 159]), Err(CodecError::Buffer));
}

#[test]
fn a_lost_packet_is_made_up_and_the_decoder_finds_back_soon() {
    let samples = voice(RATE, 20.0, 4);
    let whole = hear(&samples, |_| false);
    let lost = |number: usize| number > 5 && number.is_multiple_of(13);
    let concealed = hear(&samples, lost);
    // The lost packets themselves: concealed against silenced.
    let (mut true_sound, mut made_up) = (Vec::new(), Vec::new());
    // The second packet after each: what the decoder still owes to the gap.
    let (mut behind, mut behind_gap) = (Vec::new(), Vec::new());
    for number in (0..samples.len() / PACKET - 2).filter(|number| lost(*number)) {
        let place = number * PACKET..(number + 1) * PACKET;
        true_sound.extend_from_slice(&whole[place.clone()]);
        made_up.extend_from_slice(&concealed[place.clone()]);
        let place = place.start + 2 * PACKET..place.end + 2 * PACKET;
        behind.extend_from_slice(&whole[place.clone()]);
        behind_gap.extend_from_slice(&concealed[place]);
    }
    let gain = segmental_snr(&true_sound, &made_up, RATE);
    let recovered = segmental_snr(&behind, &behind_gap, RATE);
    println!("made up {gain:.1} dB, 20 ms after it {recovered:.1} dB");
    assert!(gain > 2.0, "{gain} dB");
    assert!(recovered > 10.0, "{recovered} dB");
}

#[test]
fn a_long_gap_fades_to_silence_in_60_ms() {
    let samples = sine(200.0, 0.4, RATE, RATE as usize);
    let heard = hear(&samples, |number| number >= 25);
    let gap = &heard[25 * PACKET..];
    assert!(rms(&gap[..TICK]) > 0.2);
    assert!(rms(&gap[4 * TICK..5 * TICK]) < 0.5 * rms(&gap[..TICK]));
    assert_eq!(rms(&gap[6 * TICK..]), 0.0);
}

/// One call in G.722 with tapes at `rate`; answers what the far side hears of `sent`.
fn through_a_call(rate: u32, sent: &[f32]) -> Vec<f32> {
    let (mut world, mut near, mut far) = World::call(Codec::G722, rate);
    near.feed(sent);
    world.run_ms(sent.len() as u64 * 1000 / u64::from(rate) + 400);
    let counters = world.sides[1].counters(STREAM);
    let trouble = [
        counters.packets_lost,
        counters.packets_late,
        counters.packets_invalid,
        counters.packets_discarded,
        counters.frames_concealed,
        counters.jitter_us,
    ];
    assert_eq!(trouble, [0; 6], "{counters:?}");
    for pair in world.network().sent_from(address(0)).windows(2) {
        assert_eq!(pair[0].payload().len(), 160);
        assert_eq!(pair[1].timestamp().wrapping_sub(pair[0].timestamp()), 160, "RFC 3551: 8000 Hz");
    }
    far.recorded()
}

#[test]
fn speech_crosses_a_call_at_every_rate_of_the_device() {
    // At 8 kHz a delay of half a sample shows in the upper overtones.
    for (rate, least) in [(8000, 0.9), (16_000, 0.98), (44_100, 0.95), (48_000, 0.95)] {
        let words = speech(rate, 4.0, 5);
        let heard = through_a_call(rate, &words);
        let delay = assert_same(&words, &heard, rate, least);
        assert!(delay <= rate as usize * 90 / 1000, "{delay} samples at {rate} Hz");
    }
}

#[test]
fn what_lies_above_the_telephone_band_arrives() {
    for rate in [16_000, 48_000] {
        for hertz in [200.0, 3700.0, 5500.0, 6500.0] {
            let heard = through_a_call(rate, &sine(hertz as f64, 0.3, rate, rate as usize));
            let middle = &heard[rate as usize / 2..rate as usize];
            let level = 20.0 * (amplitude(middle, hertz, rate) / 0.3).log10();
            println!("{hertz} Hz at {rate}: {level:+.1} dB");
            assert!(level.abs() < 1.0, "{hertz} Hz at {rate}: {level} dB");
        }
    }
}

#[test]
fn three_calls_in_three_bands_hear_each_other() {
    let codecs = [Codec::Pcmu, Codec::G722, Codec::Opus];
    let mut world = World::new(4);
    let mut tapes = Vec::new();
    // Side 3 mixes; each of the others is in one of its calls.
    for (side, codec) in codecs.into_iter().enumerate() {
        let call = voipd_audio::PortId(100 + side as u32);
        let socket = world.sides[3].socket(address(10 + side));
        let there = plan(codec, 3, address(side));
        world.sides[3]
            .controller
            .open_stream(call, StreamPlan { ssrc: 77 + side as u32, ..there }, socket)
            .unwrap();
        let socket = world.sides[side].socket(address(side));
        world.sides[side]
            .controller
            .open_stream(STREAM, plan(codec, side, address(10 + side)), socket)
            .unwrap();
        let tape = world.sides[side].open_tape(TAPE, codec.sample_rate());
        world.sides[side].controller.connect(STREAM, &[TAPE]).unwrap();
        world.sides[side].controller.connect(TAPE, &[STREAM]).unwrap();
        tapes.push(tape);
    }
    let calls = [100, 101, 102].map(voipd_audio::PortId);
    for call in calls {
        let others: Vec<_> = calls.into_iter().filter(|other| *other != call).collect();
        world.sides[3].controller.connect(call, &others).unwrap();
    }
    let tones = [400.0, 1100.0, 2300.0];
    for ((tape, codec), hertz) in tapes.iter_mut().zip(codecs).zip(tones) {
        let rate = codec.sample_rate();
        tape.feed(&sine(hertz, 0.2, rate, 3 * rate as usize));
    }
    world.run_ms(2500);
    for (side, codec) in codecs.into_iter().enumerate() {
        let rate = codec.sample_rate();
        let heard = tapes[side].recorded();
        let middle = &heard[rate as usize..2 * rate as usize];
        for (from, hertz) in tones.into_iter().enumerate() {
            let level = amplitude(middle, hertz as f32, rate);
            let wanted = if from == side { 0.0 } else { 0.2 };
            assert!((level - wanted).abs() < 0.03, "{codec:?} hears {hertz} Hz at {level}");
        }
    }
}

#[test]
fn a_peer_that_changes_between_g711_and_g722_keeps_its_clock_and_loses_nothing() {
    let mut world = World::new(2);
    for (this, other) in [(0, 1), (1, 0)] {
        let (pcmu, g722) = (plan(Codec::Pcmu, this, address(other)), plan(Codec::G722, this, address(other)));
        let receive = [pcmu.receive.clone(), vec![(9, ReceiveKind::Audio(Codec::G722))]].concat();
        assert_eq!(g722.ssrc, pcmu.ssrc);
        let socket = world.sides[this].socket(address(this));
        world.sides[this].controller.open_stream(STREAM, StreamPlan { receive, ..pcmu }, socket).unwrap();
    }
    let mut tapes = Vec::new();
    for side in &mut world.sides {
        tapes.push(side.open_tape(TAPE, RATE));
        side.controller.connect(STREAM, &[TAPE]).unwrap();
        side.controller.connect(TAPE, &[STREAM]).unwrap();
    }
    let words = speech(RATE, 6.0, 6);
    tapes[0].feed(&words);
    for (generation, codec) in [(2, Codec::G722), (3, Codec::Pcmu), (4, Codec::G722)] {
        world.run_ms(1500);
        let receive = vec![
            (0, ReceiveKind::Audio(Codec::Pcmu)),
            (9, ReceiveKind::Audio(Codec::G722)),
            (101, ReceiveKind::Events(8000)),
        ];
        let change = StreamPlan { generation, receive, ..plan(codec, 0, address(1)) };
        world.sides[0].controller.update_stream(STREAM, change).unwrap();
    }
    world.run_ms(1900);
    let counters = world.sides[1].counters(STREAM);
    assert_eq!((counters.packets_lost, counters.packets_invalid, counters.packets_late), (0, 0, 0));
    // A change begins a packet on its phase: at most one packet time is not sent.
    assert!(counters.frames_concealed <= 6, "{counters:?}");
    let heard = tapes[1].recorded();
    for start in [0, 3 * RATE as usize / 2, 3 * RATE as usize, 9 * RATE as usize / 2] {
        let part = &words[start + 4000..start + 20_000];
        let (correlation, _) = crate::world::sound::find(part, &heard[start + 4000..], 4000);
        assert!(correlation > 0.9, "from sample {start} on: {correlation}");
    }
}
