//! GSM and L16 with Debian's baresip: the sentence of each side is heard at the other. Its `G726-32` is packed as AAL2, and
//! is understood too late in a sentence to be judged here (docs/decisions.md).

use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, Voipd, needs_root, pause, timely};

/// A codec by both names, the module that has it there, and how it is judged.
struct Case {
    ours: &'static str,
    theirs: &'static str,
    module: &'static str,
    rate: u32,
    kind: Codec,
    likeness: f64,
}

async fn crosses(lab: &Lab, case: &Case) {
    let Case { ours, theirs, module, rate, kind, likeness } = *case;
    let wire = Wire::new();
    let config = Config::at(wire.here).line("direct", format!("codecs = [\"{ours}\"]"));
    let phone = Voipd::start(lab, &format!("voipd-{}", wire.name()), config).await;
    let mut baresip =
        Baresip::start_with(lab, &wire, theirs, Answer::Auto, &format!("module {module}\n")).await;
    let (said, heard) = (speech(Speaker::Alice, rate), lab.path(&format!("heard-{}.wav", wire.name())));
    let call = phone.dial_speaking(&format!("sip:bob@{}", wire.there), &said, &heard).await;
    baresip.event("CALL_ESTABLISHED").await;
    call.is("active").await;
    assert_eq!(call.proxy.codec().await.unwrap(), ours);
    pause(6.0).await;
    let figures = call.figures().await;
    assert_eq!(figures.packets_invalid, 0, "{ours}: {figures:?}");
    call.hang_up().await;
    baresip.event("CALL_CLOSED").await;
    pause(0.3).await;
    let (bob, alice) = (Sound::load(&speech(Speaker::Bob, rate)), Sound::load(&said));
    for (place, said, heard) in [("voipd", &bob, &Sound::load(&heard)), ("baresip", &alice, &baresip.heard())]
    {
        let verdict = compare(said, heard, kind);
        println!("{ours} at {place}: {verdict}");
        // Several calls at once on a machine that does other things as well: a late packet is no fault of the codec's.
        assert!(
            verdict.correlation > likeness && verdict.missing_ms() <= 200,
            "{ours} at {place}: {verdict}"
        );
    }
    phone.stop().await;
}

#[timely]
async fn gsm_and_l16_cross_to_baresip_both_ways() {
    if !needs_root("gsm_and_l16_cross_to_baresip_both_ways") {
        return;
    }
    let lab = Lab::alone();
    let case =
        |ours, theirs, module, rate, kind, likeness| Case { ours, theirs, module, rate, kind, likeness };
    let gsm = case("GSM", "GSM/8000/1", "gsm.so", 8000, Codec::Perceptual, 0.9);
    let narrow = case("L16/8000", "L16/8000/1", "l16.so", 8000, Codec::Waveform, 0.97);
    let wide = case("L16/16000", "L16/16000/1", "l16.so", 16_000, Codec::Wideband, 0.97);
    tokio::join!(crosses(&lab, &gsm), crosses(&lab, &narrow), crosses(&lab, &wide));
}
