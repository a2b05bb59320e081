//! A conference of real calls by the command line alone: each hears all but itself.

use std::path::Path;

use voipd_tests::judge::Sound;
use voipd_tests::process::Process;
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely, until};

use super::{at, ctl};

/// What each of them hums, in hertz.
const PITCHES: [f64; 3] = [480.0, 800.0, 1360.0];

/// How long one says something and then nothing, in seconds: what never pauses is taken for noise.
const PHRASE: f64 = 1.1;

/// A minute of it.
fn hum_of(pitch: f64) -> Sound {
    let mut sound = Sound::tone(16_000, pitch, 60.0, 0.3);
    let phrase = (PHRASE * 16_000.0) as usize;
    for (n, sample) in sound.samples.iter_mut().enumerate() {
        if n % phrase > phrase * 2 / 5 {
            *sample = 0.0;
        }
    }
    sound
}

/// How loud a pitch is in a sound, in decibels below full scale.
fn loudness(sound: &Sound, hertz: f64) -> f64 {
    let step = 2.0 * std::f64::consts::PI * hertz / f64::from(sound.rate);
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (n, sample) in sound.samples.iter().enumerate() {
        real += sample * (step * n as f64).cos();
        imaginary += sample * (step * n as f64).sin();
    }
    let amplitude = 2.0 * f64::hypot(real, imaginary) / sound.samples.len().max(1) as f64;
    20.0 * amplitude.max(1e-6).log10()
}

/// Who is heard in a recording.
fn heard(recording: &Path) -> [bool; 3] {
    let sound = Sound::load(recording);
    let end = sound.seconds();
    let last = sound.between((end - PHRASE).max(0.0), end);
    PITCHES.map(|pitch| {
        let level = loudness(&last, pitch);
        assert!(!(-45.0..-30.0).contains(&level), "{pitch} Hz is neither heard nor silent: {level}");
        level > -30.0
    })
}

#[timely]
async fn each_of_three_hears_all_but_itself_and_no_one_who_is_muted() {
    let lab = Lab::shared();
    let room = Voipd::start(&lab, "room", Config::at(lab.address())).await;
    let path = ctl(&room, &["conference", "open", "--device", "away"]).await;
    assert_eq!(path.well().trim(), "/org/voipd/conference/1");
    let mut members = Vec::new();
    for (number, pitch) in PITCHES.into_iter().enumerate() {
        let name = format!("member-{number}");
        // Codecs of different rates: nobody may notice.
        let codecs = ["PCMU", "G722", "opus"][number];
        let member = Voipd::start(&lab, &name, Config::at(lab.address())).await;
        let hum = lab.path(&format!("{name}.wav"));
        hum_of(pitch).save(&hum);
        ctl(&room, &["call", &at(&member), "--conference", "1", "--codecs", codecs, "--detach"]).await.well();
        until("it rings", SOON, async || {
            let calls = ctl(&member, &["calls", "--json"]).await.json();
            (calls[0]["state"] == "incoming").then_some(())
        })
        .await;
        ctl(&member, &["answer", "--play", hum.to_str().unwrap()]).await.silent();
        members.push(member);
    }
    until("all are there", SOON, async || {
        let calls = ctl(&room, &["calls", "--json"]).await.json();
        let active = calls.as_array().unwrap().iter().filter(|call| call["state"] == "active");
        (active.count() == 3).then_some(())
    })
    .await;
    let listed = ctl(&room, &["conference", "--json"]).await.json();
    assert_eq!(listed[0]["members"].as_array().unwrap().len(), 3);
    assert_eq!(listed[0]["device"], "away");

    // Who speaks shows while somebody watches.
    let mut watch = Process::start("watch", room.voipctl(&["conference", "watch"]), &lab.path("watch.log"));
    until("a speaker is named", SOON, async || watch.output().contains(" speaks").then_some(())).await;
    watch.stop().await;

    // The room records as well: a call with both its sides is the whole conference, near alone what the others say.
    let sides =
        [("1", "both"), ("2", "near")].map(|(call, side)| (call, side, lab.path(&format!("{side}.wav"))));
    for (call, side, file) in &sides {
        ctl(&room, &["record", call, file.to_str().unwrap(), "--side", side]).await.silent();
    }
    record_all(&lab, &members, "all").await;
    for (call, ..) in &sides {
        ctl(&room, &["record", "--stop", call]).await.silent();
    }
    assert_eq!(sides.map(|(.., file)| heard(&file)), [[true; 3], [true, false, true]]);
    for (number, _) in members.iter().enumerate() {
        let mut wanted = [true; 3];
        wanted[number] = false;
        assert_eq!(heard(&lab.path(&format!("all-{number}.wav"))), wanted, "member {number}");
    }

    // The first is muted, and the last leaves: the others hear neither.
    ctl(&room, &["conference", "mute", "1"]).await.silent();
    ctl(&room, &["conference", "leave", "3"]).await.silent();
    until("it is on hold", SOON, async || {
        (ctl(&room, &["calls", "--json"]).await.json()[2]["state"] == "held").then_some(())
    })
    .await;
    record_all(&lab, &members[..2], "two").await;
    assert_eq!(heard(&lab.path("two-0.wav")), [false, true, false], "it goes on hearing");
    assert_eq!(heard(&lab.path("two-1.wav")), [false, false, false]);

    ctl(&room, &["conference", "leave", "3"]).await.fails(1, &["call 3 is in no conference"]);
    ctl(&room, &["conference", "join", "9"]).await.fails(1, &["there is no call 9"]);
    ctl(&room, &["conference", "end", "7"]).await.fails(1, &["there is no conference 7"]);
    ctl(&room, &["conference", "end"]).await.silent();
    ctl(&room, &["conference"]).await.well();
    until("it is over", SOON, async || {
        ctl(&room, &["conference"]).await.well().contains("no conferences").then_some(())
    })
    .await;
    ctl(&room, &["conference", "end"]).await.fails(1, &["'voipctl conference open' opens one"]);
    room.stop().await;
    for member in members {
        member.stop().await;
    }
}

/// What each of these hears for a moment, at the same time.
async fn record_all(lab: &Lab, members: &[Voipd], name: &str) {
    for (number, member) in members.iter().enumerate() {
        let file = lab.path(&format!("{name}-{number}.wav"));
        ctl(member, &["record", file.to_str().unwrap()]).await.silent();
    }
    pause(1.5).await;
    for member in members {
        ctl(member, &["record", "--stop"]).await.silent();
    }
}
