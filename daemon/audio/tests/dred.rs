//! Deep redundancy of Opus: where a peer sends it and libopus can read it, runs of lost packets are spoken again.

use audiopus::{Application, Bandwidth, Bitrate, Channels, SampleRate, coder};

use crate::world::sound::{rms, speech};
use crate::world::{STREAM, World, address, payload_type, rtp};

use voipd_audio::codec::Decoder;
use voipd_audio::plan::{Codec, StreamCounters};

/// libopus from 1.5 on: most frames of 10 ms that are described.
const SET_DRED_DURATION: i32 = 4050;
const FRAME: usize = 960;
const SSRC: u32 = 7;

/// Speech in packets of 20 ms, each with a description of what was said before, or `plain`; `None` where libopus has no such
/// thing.
fn packets(sound: &[f32], plain: bool) -> Option<Vec<Vec<u8>>> {
    let mut encoder = coder::Encoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip).unwrap();
    encoder.set_bitrate(Bitrate::BitsPerSecond(32_000)).unwrap();
    encoder.set_packet_loss_perc(6).unwrap();
    encoder.set_max_bandwidth(Bandwidth::Wideband).unwrap();
    let described = encoder.set_encoder_ctl_request(SET_DRED_DURATION, if plain { 0 } else { 12 });
    if described.is_err() {
        eprintln!("skipped: the libopus of this machine has no deep redundancy");
        return None;
    }
    let mut packet = [0; 1275];
    let encode = |frame: &[f32]| {
        let length = encoder.encode_float(frame, &mut packet).unwrap();
        packet[..length].to_vec()
    };
    Some(sound.chunks_exact(FRAME).map(encode).collect())
}

/// What is heard of `packets` without those that are `lost`, and what is counted.
fn hear(packets: &[Vec<u8>], lost: impl Fn(usize) -> bool) -> (Vec<f32>, StreamCounters) {
    let (mut world, _near, mut far) = World::call(Codec::Opus, 48_000);
    let (from, to) = (address(0), address(1));
    // Of the engine at the other end nothing arrives.
    world.network().weather =
        Box::new(|sent| if sent.bytes[8..12] == SSRC.to_be_bytes() { vec![15_000_000] } else { vec![] });
    for (number, payload) in packets.iter().enumerate() {
        if !lost(number) {
            let timestamp = (number * FRAME) as u32;
            let packet = rtp(payload_type(Codec::Opus), number as u16, timestamp, SSRC, payload);
            world.network().send(from, to, &packet);
        }
        world.run_ms(20);
    }
    world.run_ms(200);
    (far.recorded(), world.sides[1].counters(STREAM))
}

/// Runs of three, twice a second.
fn in_runs(number: usize) -> bool {
    matches!(number % 25, 4..7)
}

#[test]
fn runs_of_lost_packets_are_spoken_again() {
    let words = speech(48_000, 16.0, 31);
    let Some(described) = packets(&words, false) else { return };
    let (heard, counters) = hear(&described, in_runs);
    assert!(counters.packets_lost > 90, "{counters:?}");
    // Pauses are not described, and the first run shows that there are any.
    assert!(counters.packets_corrected * 8 > counters.packets_lost * 7, "{counters:?}");
    // 20 ms of the packet, 60 ms to wait, and what the clock's phase adds.
    assert!(counters.buffer_us < 95_000, "{counters:?}");
    let (without, made_up) = hear(&packets(&words, true).unwrap(), in_runs);
    assert_eq!(made_up.packets_corrected, 0, "{made_up:?}");
    assert!(counters.frames_concealed * 2 < made_up.frames_concealed, "{counters:?} {made_up:?}");
    // How loud each 20 ms are: closer to what was said than what is made up of nothing.
    let (clean, _) = hear(&described, |_| false);
    let far_off = |heard: &[f32]| -> f32 {
        let loudness = |sound: &[f32]| -> Vec<f32> { sound.chunks_exact(FRAME).map(rms).collect() };
        let (clean, heard) = (loudness(&clean), loudness(heard));
        let best = (0..8).map(|delay| {
            let pairs = clean.iter().zip(heard.iter().skip(delay)).skip(100);
            pairs.map(|(clean, heard)| (clean - heard).abs()).sum::<f32>()
        });
        best.fold(f32::INFINITY, f32::min)
    };
    let (told, guessed) = (far_off(&heard), far_off(&without));
    assert!(told < 0.8 * guessed, "{told} {guessed}");
}

#[test]
fn descriptions_cost_no_delay_where_nothing_is_lost() {
    let words = speech(48_000, 4.0, 32);
    let Some(described) = packets(&words, false) else { return };
    let (_, with) = hear(&described, |_| false);
    let (_, without) = hear(&packets(&words, true).unwrap(), |_| false);
    assert_eq!(with.buffer_us, without.buffer_us);
    assert_eq!((with.packets_corrected, with.frames_concealed), (0, 0), "{with:?}");
}

#[test]
fn what_is_longer_ago_than_anything_can_be_told_is_not_asked_for() {
    let words = speech(48_000, 1.0, 33);
    let Some(described) = packets(&words, false) else { return };
    let mut decoder = Decoder::new(Codec::Opus).unwrap();
    let telling = described.iter().rev().find(|packet| decoder.described(packet) > 0).unwrap();
    let mut samples = [0.0; FRAME];
    assert_eq!(decoder.decode_description(telling, FRAME, &mut samples), Some(FRAME));
    for before in [48_001, 30_000_000, i32::MAX as usize, usize::MAX] {
        assert_eq!(decoder.decode_description(telling, before, &mut samples), None);
    }
}
