//! How a call sounds, and who talks in it, as people and scripts see it.

use std::time::Duration;

use voipd_tests::host::Wire;
use voipd_tests::{Config, Lab, Voipd, needs_root, timely, until};

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

#[tokio::test]
async fn a_call_without_sound_is_silent() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let closed = format!("sip:bob@{}:9", lab.address());
    assert_eq!(ctl(&phone, &["call", &closed]).await.code, 13);
    let stats = ctl(&phone, &["stats"]).await;
    assert_eq!(stats.well().matches("silent").count(), 2, "{}", stats.output);
    phone.stop().await;
}

/// Some seconds are judged together, and reports come every five seconds.
const LATE: Duration = Duration::from_secs(40);

#[timely]
async fn a_call_that_sounds_bad_is_warned_of_and_said_to_be_well_again() {
    if !needs_root("a_call_that_sounds_bad_is_warned_of_and_said_to_be_well_again") {
        return;
    }
    let (lab, wire) = (Lab::shared(), Wire::new());
    let phone = Voipd::start(&lab, "phone", Config::at(wire.here)).await;
    let account = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"198.18.0.0/15\"]";
    let echo = Config::beyond(&wire).account(account);
    let friend = Voipd::start(&lab, "friend", echo).await;
    talk(&phone, &echo_at(&friend), &["--play", &talk_spurts(&lab)]).await;
    let mut watch = start(&phone, &["stats", "--watch", "--json"]);
    watch.says("\"event\":\"statistics\"").await;
    assert!(!watch.output().contains("\"event\":\"quality\""), "{}", watch.output());
    // What the phone sends gets lost: it is the peer who hears badly, and tells.
    wire.drop_rtp(50);
    let says = async |quality: &str| {
        let told = |line: &str| {
            ["\"event\":\"quality\"", "\"direction\":\"outbound\"", quality]
                .iter()
                .all(|part| line.contains(part))
        };
        until(quality, LATE, async || watch.output().lines().any(told).then_some(())).await;
    };
    says("\"quality\":\"poor\"").await;
    let stats = ctl(&phone, &["stats", "--json"]).await.json();
    assert!(stats["mos_conversation_out"].as_f64().unwrap() < 3.5, "{stats}");
    wire.drop_rtp(0);
    says("\"quality\":\"good\"").await;

    ctl(&phone, &["hangup"]).await.silent();
    watch.ends().await.well();
    phone.stop().await;
    friend.stop().await;
}
