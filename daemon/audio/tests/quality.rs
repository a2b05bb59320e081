//! What is heard of speech behind losses, through two engines: limits that a change for the worse would break. `make
//! quality` measures the same by PESQ, with real voices.

use crate::support::{Random, segmental_snr, spectral_distance, speech};
use crate::world::{LATENCY, World, address};
use voipd_audio::plan::Codec;

/// Segmental SNR and spectral distance, in dB, of what comes out of a call of 20 s that loses `percent` of its packets.
fn heard(codec: Codec, percent: f64, seed: u64) -> (f64, f64) {
    let rate = codec.sample_rate();
    let words = speech(rate, 20.0, seed);
    let (mut world, mut near, mut far) = World::call(codec, rate);
    let mut random = Random::new(seed);
    world.network().weather = Box::new(move |sent| {
        let lost = sent.from == address(0) && random.unit() * 100.0 < percent;
        if lost { vec![] } else { vec![LATENCY] }
    });
    near.feed(&words);
    world.run_ms(20_300);
    let recorded = far.recorded();
    // Delay changes once, when the first loss shows that it pays to know what follows: the last fifteen seconds are judged.
    let from = 5 * rate as usize;
    let (likeness, at) =
        crate::world::sound::find(&words[from..2 * from], &recorded[from..], rate as usize / 4);
    assert!(likeness > 0.5, "{codec:?} at {percent} %: correlation {likeness}");
    let (sent, heard) = (&words[from..], &recorded[from + at..]);
    let length = sent.len().min(heard.len());
    let (sent, heard) = (&sent[..length], &heard[..length]);
    (segmental_snr(sent, heard, rate), spectral_distance(sent, heard, rate))
}

#[test]
fn speech_behind_losses_keeps_its_quality() {
    // Signal to noise at least, spectral distance at most: what is measured now and a little for other processors' rounding.
    for (codec, percent, least, most) in [
        (Codec::Pcmu, 0.0, 34.9, 2.2),
        (Codec::Pcmu, 3.0, 32.5, 2.5),
        (Codec::Pcmu, 10.0, 28.5, 2.9),
        (Codec::G722, 10.0, 18.0, 3.2),
    ] {
        let (near, far) = heard(codec, percent, 5);
        println!("{codec:?} at {percent} %: {near:.2} dB, spectral distance {far:.2} dB");
        let _ = (least, most);
        assert!(near > least && far < most, "{codec:?} at {percent} %: {near} dB, {far} dB");
    }
}
