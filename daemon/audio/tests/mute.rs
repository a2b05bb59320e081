//! Muted: the peer gets packets and hears nothing.

use crate::world::sound::{rms, speech};
use crate::world::{STREAM, TAPE, World, address};
use voipd_audio::plan::Codec;

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
