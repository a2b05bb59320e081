//! Pauses: what is sent of them where silence is suppressed, and what is heard of them.

use crate::support::{Random, rms, speech};
use crate::world::{STREAM, World, address, payload_type, plan, rtp};
use voipd_audio::plan::{ReceiveKind, SendPlan, StreamCounters, StreamPlan};
use voipd_audio::{Codec, PortId};

const NOISE: u8 = 13;

/// Two who suppress silence, the first talking for two seconds over soft noise and then silent.
fn call(codec: Codec, pause_seconds: usize) -> (World, Vec<f32>) {
    let rate = codec.sample_rate();
    let (mut world, mut near, mut far) = World::call(codec, rate);
    for (this, other) in [(0, 1), (1, 0)] {
        let mut wanted = StreamPlan { generation: 2, ..plan(codec, this, address(other)) };
        wanted.send.as_mut().unwrap().comfort_noise = Some(NOISE);
        wanted.receive.push((NOISE, ReceiveKind::ComfortNoise(codec.clock_rate())));
        world.sides[this].controller.update_stream(STREAM, wanted).unwrap();
    }
    let mut seeded = Random::new(3);
    let mut said = speech(rate, 2.0, 1);
    said.resize((2 + pause_seconds) * rate as usize, 0.0);
    said.extend(speech(rate, 1.0, 2));
    said.iter_mut().for_each(|sample| *sample += (seeded.unit() as f32 - 0.5) * 0.004);
    let seconds = said.len() / rate as usize;
    near.feed(&said);
    far.feed(&vec![0.0; said.len()]);
    world.run_ms(seconds as u64 * 1000);
    (world, far.recorded())
}

#[test]
fn a_pause_costs_nearly_nothing_and_sounds_like_the_room() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::L16Wide] {
        let rate = codec.sample_rate() as usize;
        let (world, heard) = call(codec, 6);
        let sent = world.network().sent_from(address(0));
        let began = sent[0].at_nanos;
        let pause = |at: u64| (3_500_000_000..7_800_000_000).contains(&(at - began));
        let packets: Vec<_> = sent.iter().filter(|packet| pause(packet.at_nanos)).collect();
        assert!((3..=6).contains(&packets.len()), "{codec:?}: {} packets in 4.3 s", packets.len());
        assert!(packets.iter().all(|packet| packet.payload_type() == NOISE && !packet.marker()));
        let octets: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
        assert!(octets <= 6 * 23, "{codec:?}: {octets} octets");
        // The first word after it begins a talk spurt.
        let after = sent.iter().skip_while(|packet| packet.at_nanos - began < 7_800_000_000);
        let word = after.clone().find(|packet| packet.payload_type() == payload_type(codec)).unwrap();
        assert!(word.marker());
        // What is heard in the pause is as loud as the noise that is there; its like was there before.
        let level = |from: usize, to: usize| rms(&heard[from * rate / 10..to * rate / 10]);
        let room = 0.004 / 12_f64.sqrt();
        let pause = level(40, 75);
        assert!(pause > room * 0.7 && pause < room * 1.4, "{codec:?}: {pause} where {room} is");
        assert!(level(83, 88) > 5.0 * pause, "{codec:?}: the word is heard again");
    }
}

#[test]
fn a_pause_that_is_told_on_another_clock_is_no_loss_either() {
    let mut world = World::new(1);
    let basis = plan(Codec::L16Wide, 0, address(1));
    // The static payload type is of 8 kHz, whatever the sound's clock is.
    let mut receive = basis.receive.clone();
    receive.push((NOISE, ReceiveKind::ComfortNoise(8000)));
    let socket = world.sides[0].socket(address(0));
    let wanted = StreamPlan { receive, ..basis };
    world.sides[0].controller.open_stream(STREAM, wanted, socket).unwrap();
    let sound = payload_type(Codec::L16Wide);
    let (mut sequence, mut timestamp) = (0_u16, 0_u32);
    for _ in 0..3 {
        for _ in 0..50 {
            let datagram = rtp(sound, sequence, timestamp, 7, &[1; 640]);
            world.network().send(address(1), address(0), &datagram);
            (sequence, timestamp) = (sequence + 1, timestamp + 320);
            world.run_ms(20);
        }
        world.network().send(address(1), address(0), &rtp(NOISE, sequence, timestamp / 2, 7, &[60]));
        (sequence, timestamp) = (sequence + 1, timestamp + 16_000);
        world.run_ms(1000);
    }
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(counters.packets_lost, 0, "{counters:?}");
    assert!(counters.frames_concealed <= 3, "{counters:?}");
}

#[test]
fn a_pause_is_no_loss() {
    let (world, _) = call(Codec::Pcmu, 6);
    let counters = world.sides[1].counters(STREAM);
    assert_eq!((counters.packets_lost, counters.packets_late), (0, 0));
    assert!(counters.frames_concealed < 20, "{} frames made up", counters.frames_concealed);
    assert!(counters.buffer_us < 80_000, "a delay of {} us", counters.buffer_us);
    let sent = world.sides[0].counters(STREAM);
    // Of nine seconds, three and two hangovers are talk.
    assert!(sent.packets_sent < 200, "{} packets", sent.packets_sent);
}

#[test]
fn a_pause_in_which_opus_sends_next_to_nothing_is_no_loss_either() {
    let (mut world, mut near, _far) = World::call(Codec::Opus, 48_000);
    let call = StreamPlan { generation: 2, ..plan(Codec::Opus, 0, address(1)) };
    let send = SendPlan { dtx: true, ..call.send.unwrap() };
    world.sides[0].controller.update_stream(STREAM, StreamPlan { send: Some(send), ..call }).unwrap();
    let mut said = speech(48_000, 5.0, 1);
    said.resize(15 * 48_000, 0.0);
    near.feed(&said);
    world.run_ms(15_000);
    let sent = world.sides[0].counters(STREAM);
    assert!(sent.packets_sent < 450, "{} packets", sent.packets_sent);
    let heard = world.sides[1].counters(STREAM);
    assert_eq!((heard.packets_lost, heard.packets_late), (0, 0));
    assert!(heard.frames_concealed < 60, "{} frames made up", heard.frames_concealed);
}

/// A second of sound, nothing for the time of `gap` packets, of which `lost` got lost and the others were never sent, and two
/// seconds of sound again.
fn interrupted(gap: u16, lost: u16) -> StreamCounters {
    let mut world = World::new(1);
    let socket = world.sides[0].socket(address(0));
    world.sides[0].controller.open_stream(STREAM, plan(Codec::Pcmu, 0, address(1)), socket).unwrap();
    for number in 0..150 + gap {
        if !(50..50 + gap).contains(&number) {
            let sequence = if number < 50 { number } else { number - gap + lost };
            let packet = rtp(0, sequence, u32::from(number) * 160, 9, &[0x9f; 160]);
            world.network().send(address(1), address(0), &packet);
        }
        world.run_ms(20);
    }
    let counters = world.sides[0].counters(STREAM);
    assert_eq!(counters.packets_lost, u64::from(lost));
    counters
}

#[test]
fn a_gap_is_a_pause_where_the_sender_says_so_and_else_a_loss() {
    for lost in [0, 20] {
        let counters = interrupted(20, lost);
        assert_eq!(counters.frames_concealed >= 30, lost > 0, "{counters:?}");
        assert!(counters.frames_concealed < 50, "{counters:?}");
    }
}

#[test]
fn all_of_an_outage_counts_as_made_up_and_nothing_of_a_long_pause() {
    // Of five seconds, all, nothing or one packet got lost.
    for (lost, made_up) in [(250, 490..=510), (0, 0..=2), (1, 45..=55)] {
        let counters = interrupted(250, lost);
        assert!(made_up.contains(&counters.frames_concealed), "{lost} lost: {counters:?}");
    }
}

#[test]
fn without_a_number_for_it_silence_is_sent_as_sound() {
    let (mut world, mut near, _far) = World::call(Codec::Pcmu, 8000);
    near.feed(&[0.0; 16_000]);
    world.run_ms(2000);
    assert!(world.sides[0].counters(STREAM).packets_sent > 95);
}

#[test]
fn a_peer_that_tells_of_noise_unasked_is_understood() {
    let mut world = World::new(1);
    let wanted = StreamPlan {
        receive: vec![(0, ReceiveKind::Audio(Codec::Pcmu)), (NOISE, ReceiveKind::ComfortNoise(8000))],
        ..plan(Codec::Pcmu, 0, address(1))
    };
    let side = &mut world.sides[0];
    let socket = side.socket(address(0));
    side.controller.open_stream(STREAM, wanted, socket).unwrap();
    let mut tape = side.open_tape(PortId(2), 8000);
    side.controller.connect(PortId(2), &[STREAM]).unwrap();
    let mut sequence = 7;
    let mut send = |world: &mut World, tick: u32, payload_type, payload: &[u8]| {
        let packet = rtp(payload_type, sequence, tick * 80, 9, payload);
        world.network().send(address(1), address(0), &packet);
        sequence += 1;
    };
    // A second of sound, two of noise at -40 dBov with one description that is malformed, and sound again.
    for tick in 0..400 {
        match tick {
            0..100 | 300.. if tick % 2 == 0 => send(&mut world, tick, 0, &[0x9f; 160]),
            100 => send(&mut world, tick, NOISE, &[40]),
            200 => {
                send(&mut world, tick, NOISE, &[40, 127, 127, 127, 0, 255, 127, 127, 127, 127, 127, 127, 127])
            }
            _ => {}
        }
        world.tick();
    }
    let heard = tape.recorded();
    let level = |from: usize, to: usize| 20.0 * rms(&heard[from * 80..to * 80]).log10();
    assert!((level(120, 190) + 40.0).abs() < 1.0, "{} dBov", level(120, 190));
    assert!((level(220, 290) + 40.0).abs() < 4.0, "{} dBov", level(220, 290));
    assert!(level(340, 390) > -30.0, "{} dBov", level(340, 390));
    assert_eq!(world.sides[0].counters(STREAM).packets_invalid, 0);
}
