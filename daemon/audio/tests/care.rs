//! Where the tick cannot afford all care for all, streams whose bits are scarce have more of it.

use crate::world::sound::speech;
use crate::world::{STREAM, World, address};
use voipd_audio::TICK_NANOS;
use voipd_audio::plan::{Codec, Steering};

/// The payloads of a stream, while its ticks take some of their time or none.
fn sent(loaded: bool, careful: bool) -> Vec<Vec<u8>> {
    let (mut world, mut near, _far) = World::call(Codec::Opus, 48_000);
    let steering = Steering { bitrate: Some(16_000), careful, ..Steering::default() };
    world.sides[0].controller.steer(STREAM, steering).unwrap();
    near.feed(&speech(48_000, 4.0, 34));
    for tick in 0..400 {
        // Too much for two steps, and then neither too much nor little.
        let share = if tick < 130 { 50 } else { 30 };
        world.sides[0].processor.tick_took(if loaded { TICK_NANOS * share / 100 } else { 0 });
        world.tick();
    }
    world.network().sent_from(address(0)).iter().map(|sent| sent.payload().to_vec()).collect()
}

#[test]
fn a_careful_stream_is_encoded_under_load_as_it_is_without() {
    let free = sent(false, false);
    assert!(sent(true, false) != free, "the load is felt");
    assert!(sent(true, true) == free);
}
