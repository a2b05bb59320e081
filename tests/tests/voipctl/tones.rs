//! The tones of a telephone as they are heard at its loudspeaker, which is a file here.

use voipd_tests::judge::Sound;
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely, until};

use super::{at, ctl, echo_at, friend, talk};

/// The level of each 50 ms, in decibels below full scale.
fn levels(sound: &Sound) -> Vec<f64> {
    let count = (sound.seconds() / 0.05) as usize;
    (0..count).map(|n| sound.between(n as f64 * 0.05, (n + 1) as f64 * 0.05).level()).collect()
}

/// Lengths of the beats between silences, in multiples of 50 ms, without the last, which may be cut off.
fn beats(sound: &Sound) -> Vec<usize> {
    let levels = levels(sound);
    let heard: Vec<bool> = levels.iter().map(|level| *level > -40.0).collect();
    let mut beats: Vec<usize> =
        heard.split(|heard| !heard).map(<[bool]>::len).filter(|length| *length > 0).collect();
    if heard.last() == Some(&true) {
        beats.pop();
    }
    beats
}

#[timely]
async fn each_tone_is_heard_at_its_moment() {
    let lab = Lab::shared();
    let file = lab.path("loudspeaker.wav");
    let config = Config::at(lab.address())
        .line("audio", format!("output = \"file:{}\"", file.display()))
        // 350 and 440 Hz, and each signal unlike the others.
        .line("audio", "tones = \"us\"");
    let phone = Voipd::start(&lab, "phone", config).await;
    let friend = friend(&lab).await;
    // The file is complete when the daemon has let it go, which may be a moment after the device is told to be closed.
    let held = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", phone.id())).unwrap();
        open.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == file))
    };
    let closed = async || {
        until("the loudspeaker is closed", SOON, async || {
            let audio = ctl(&phone, &["status", "--json"]).await.json();
            (audio["audio"]["state"] == "closed" && !held()).then_some(())
        })
        .await;
        Sound::load(&file)
    };

    ctl(&phone, &["dial-tone", "on"]).await.silent();
    assert_eq!(ctl(&phone, &["dial-tone"]).await.well().trim(), "on");
    pause(0.6).await;
    ctl(&phone, &["dial-tone", "off"]).await.silent();
    let heard = closed().await;
    assert!(
        (heard.strongest_frequency() - 350.0).abs() < 8.0
            || (heard.strongest_frequency() - 440.0).abs() < 8.0
    );
    assert!(beats(&heard).len() <= 1 && heard.level() > -30.0, "without a pause: {:?}", beats(&heard));

    // It rings at the other end, which is busy then; who hears that it is lifts the receiver again.
    let call = ctl(&phone, &["call", &at(&friend), "--detach"]).await;
    call.well();
    until("it rings there", SOON, async || {
        (ctl(&friend, &["calls", "--json"]).await.json()[0]["state"] == "incoming").then_some(())
    })
    .await;
    pause(0.7).await;
    ctl(&phone, &["dial-tone", "on"]).await.fails(1, &["hold it or hang it up first"]);
    ctl(&friend, &["reject", "--busy"]).await.silent();
    ctl(&phone, &["wait", "ended"]).await.well();
    let heard = closed().await;
    // Ringback is one long beat of 440 and 480 Hz, busy many of half a second of 480 and 620 Hz.
    let all = beats(&heard);
    assert!(all.len() >= 3, "{all:?}");
    assert!(all.iter().rev().take(2).all(|length| (9..=11).contains(length)), "{all:?}");
    assert!(heard.seconds() > 3.0, "{} s", heard.seconds());

    // In a call, somebody else calls.
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    pause(0.3).await;
    ctl(&friend, &["call", &at(&phone), "--detach"]).await.well();
    until("somebody else calls", SOON, async || {
        let calls = ctl(&phone, &["calls", "--json"]).await.json();
        calls.as_array().unwrap().iter().any(|call| call["state"] == "incoming").then_some(())
    })
    .await;
    pause(0.6).await;
    ctl(&phone, &["reject"]).await.silent();
    ctl(&phone, &["hangup", &number]).await.silent();
    let heard = closed().await;
    assert!((heard.strongest_frequency() - 440.0).abs() < 8.0, "{} Hz", heard.strongest_frequency());
    // Before it, it may have rung for a moment.
    let last = beats(&heard).pop();
    assert!(last.is_some_and(|length| (6..=7).contains(&length)), "{:?}", beats(&heard));
    phone.stop().await;
    friend.stop().await;
}
