//! Muted: the peer gets packets and hears nothing.

use crate::world::sound::{rms, speech};
use crate::world::{STREAM, TAPE, World, address, plan};
use voipd_audio::plan::{Codec, SendPlan, StreamPlan};

#[test]
fn a_muted_stream_and_a_muted_device_send_silence() {
    for muted in [STREAM, TAPE] {
        let (mut world, mut near, mut far) = World::call(Codec::Pcmu, 8000);
        near.feed(&speech(8000, 5.0, 11));
        far.feed(&speech(8000, 5.0, 12));
        world.run_ms(1000);
        assert!(world.sides[0].counters(STREAM).level_out_dbov > -40);
        world.sides[0].controller.set_muted(muted, true).unwrap();
        world.run_ms(200);
        far.recorded();
        near.recorded();
        world.run_ms(1000);
        assert!(rms(&far.recorded()) < 0.001);
        assert!(rms(&near.recorded()) > 0.05, "the other way goes on");
        assert_eq!(world.sides[0].counters(STREAM).level_out_dbov, -127);
        let levels = world.sides[0].controller.device_levels(TAPE).unwrap();
        assert_eq!(levels.0 == -127, muted == TAPE, "{levels:?}");
        world.sides[0].controller.set_muted(muted, false).unwrap();
        world.run_ms(200);
        far.recorded();
        world.run_ms(1000);
        assert!(rms(&far.recorded()) > 0.05);
        let sent = world.network().sent_from(address(0));
        assert!(sent.windows(2).all(|pair| pair[1].at_nanos - pair[0].at_nanos == 20_000_000));
    }
}

#[test]
fn a_stream_without_sources_sends_silence() {
    let (mut world, mut near, mut far) = World::call(Codec::Pcma, 8000);
    near.feed(&speech(8000, 5.0, 13));
    world.sides[0].controller.connect(STREAM, &[]).unwrap();
    world.run_ms(1000);
    assert!(rms(&far.recorded()) < 0.001);
    assert!(world.network().sent_from(address(0)).len() >= 49);
}

#[test]
fn what_begins_or_ends_within_a_packet_is_sent_with_the_silence_beside_it() {
    for ptime_ms in [20, 60] {
        let (mut world, mut near, _far) = World::call(Codec::L16Wide, 16_000);
        let plan = StreamPlan { generation: 2, ..plan(Codec::L16Wide, 0, address(1)) };
        let send = SendPlan { ptime_ms, ..plan.send.unwrap() };
        world.sides[0].controller.update_stream(STREAM, StreamPlan { send: Some(send), ..plan }).unwrap();
        // Each row of six ticks that sound or do not.
        let said: Vec<f32> = (0..64_u32)
            .flat_map(|ticks| (0..6).map(move |tick| ticks >> tick & 1))
            .zip(1..)
            .flat_map(|(sounds, value)| vec![sounds as f32 * value as f32 / 1024.0; 160])
            .collect();
        near.feed(&said);
        world.run_ms(5000);
        let sent = world.network().sent_from(address(0));
        let bytes = sent.iter().flat_map(|packet| packet.payload().as_chunks().0);
        let heard: Vec<f32> = bytes.map(|word| f32::from(i16::from_be_bytes(*word)) / 32_768.0).collect();
        let begins = heard.iter().position(|sample| *sample != 0.0).unwrap();
        let spoken = said.iter().position(|sample| *sample != 0.0).unwrap();
        let wrong = said[spoken..].iter().zip(&heard[begins..]).position(|(a, b)| (a - b).abs() > 1e-4);
        assert_eq!(wrong, None, "{ptime_ms} ms");
    }
}
