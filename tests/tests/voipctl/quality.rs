//! How a call sounds, and who talks in it, as people and scripts see it.

use voipd_tests::{Lab, timely};

use super::{ctl, echo_at, friend, phone, start, talk};

/// A second of noise, a second of silence, and so on for a minute.
fn talk_spurts(lab: &Lab) -> String {
    let path = lab.path("spurts.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&path, spec).unwrap();
    let mut noise = 1_u32;
    for sample in 0..60 * 8000 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let loud = sample / 8000 % 2 == 0;
        file.write_sample(if loud { (noise >> 16) as i16 / 8 } else { 0 }).unwrap();
    }
    file.finalize().unwrap();
    path.display().to_string()
}

#[timely]
async fn figures_talk_and_the_way_of_the_sound_are_shown() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    talk(&phone, &echo_at(&friend), &["--play", &talk_spurts(&lab)]).await;
    let mut watch = start(&phone, &["stats", "--watch", "--json"]);
    // The echo comes back from the peer.
    for direction in ["near", "far"] {
        for talking in [true, false] {
            let event = format!("\"direction\":\"{direction}\",\"event\":\"activity\",\"talking\":{talking}");
            watch.says(&event).await;
        }
    }
    watch.says("\"event\":\"statistics\"").await;

    let stats = ctl(&phone, &["stats", "--json"]).await.json();
    let mos = stats["mos_conversation_in"].as_f64().unwrap();
    assert!((3.5..4.5).contains(&mos), "{stats}");
    let graph = ctl(&phone, &["graph"]).await;
    for part in ["player", "mixer", "encoder opus", "path plain", "jitter buffer", "decoder opus"] {
        assert!(graph.well().contains(part), "{part}: {}", graph.output);
    }
    assert!(ctl(&phone, &["graph", "--dot"]).await.well().starts_with("digraph call {"));

    ctl(&phone, &["hangup"]).await.silent();
    watch.ends().await.well();
    phone.stop().await;
    friend.stop().await;
}
