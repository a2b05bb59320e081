//! A stream that hears itself sends back what it receives.

use crate::world::sound::{assert_same, find, speech};
use crate::world::{STREAM, World};
use voipd_audio::plan::Codec;

fn echo(codec: Codec, rate: u32) -> (Vec<f32>, Vec<f32>) {
    let (mut world, mut near, _far) = World::call(codec, rate);
    world.sides[1].controller.connect(STREAM, &[STREAM]).unwrap();
    let words = speech(rate, 4.0, 5);
    near.feed(&words);
    world.run_ms(4400);
    assert_eq!(world.sides[0].counters(STREAM).frames_concealed, 0);
    (words, near.recorded())
}

#[test]
fn in_narrow_band() {
    let (words, heard) = echo(Codec::Pcma, 8000);
    assert_same(&words, &heard, 8000, 0.99);
}

#[test]
fn in_full_band() {
    let (words, heard) = echo(Codec::Opus, 48_000);
    // Coded twice at 32 kbit/s, single syllables keep little of their wave's shape; the whole keeps enough.
    let (correlation, delay) = find(&words[24_000..168_000], &heard[24_000 + 2400..], 2400);
    assert!(correlation > 0.5, "{correlation} at {delay}");
}
