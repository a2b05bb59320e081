//! What a person does with a call: sound from and to files, hold, mix, mute, digits.

use voipd_tests::judge::Sound;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Lab, SOON, Voipd, timely, until};

use super::{at, ctl, echo_at, friend, phone, start, talk};

/// What a codec may make of silence.
const SILENCE: f64 = 0.001;

/// A call's property, as scripts see it.
async fn property(voipd: &Voipd, number: &str, key: &str) -> serde_json::Value {
    let calls = ctl(voipd, &["calls", "--json"]).await.json();
    let found = calls.as_array().unwrap().iter().find(|call| call["number"].as_u64() == number.parse().ok());
    found.unwrap_or_else(|| panic!("no call {number}: {calls}"))[key].clone()
}

/// Waits until a call's property has a value.
async fn becomes(voipd: &Voipd, number: &str, key: &str, value: impl Into<serde_json::Value>) {
    let value = value.into();
    until(&format!("{key} of call {number} becomes {value}"), SOON, async || {
        (property(voipd, number, key).await == value).then_some(())
    })
    .await;
}

/// The loudest sample of a recording, which is well formed and of this length, give or take.
fn loudest(file: &std::path::Path, seconds: std::ops::Range<f64>) -> f64 {
    let sound = Sound::load(file);
    assert!(seconds.contains(&sound.seconds()), "{}: {} s", file.display(), sound.seconds());
    sound.samples.iter().fold(0.0, |loudest, sample| sample.abs().max(loudest))
}

#[timely]
async fn a_file_is_played_and_another_recorded_until_the_end() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let (said, heard) = (speech(Speaker::Alice, 8000), lab.path("heard.wav"));
    std::fs::write(&heard, "an older recording, longer than nothing").unwrap();
    let (said, echo) = (said.display().to_string(), echo_at(&friend));
    let files = ["--play", &said, "--record", heard.to_str().unwrap()];
    let call = ctl(&phone, &[&["call", &echo, "--wait", "--hangup-after", "2"], &files[..]].concat()).await;
    let lines: Vec<_> = call.well().lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    // The echo of the speech, and nothing else to wait for: the file is whole when the command ends.
    assert!(loudest(&heard, 1.0..60.0) > 0.1);

    // The other side can do the same.
    let call = start(&phone, &["call", &at(&friend), "--json", "--record", heard.to_str().unwrap()]);
    friend.incoming().await;
    let at_friend = lab.path("at-friend.wav");
    ctl(&friend, &["answer", "--play", &said, "--record", at_friend.to_str().unwrap()]).await.silent();
    ctl(&friend, &["wait", "active", "--timeout", "10"]).await.well();
    until("the speech has begun", SOON, async || {
        let stats = ctl(&friend, &["stats", "--json"]).await.json();
        (stats["packets_sent"].as_u64().unwrap() > 75).then_some(())
    })
    .await;
    ctl(&friend, &["hangup"]).await.silent();
    let report = call.ends().await;
    report.well();
    assert_eq!(report.json()["sound"], "none", "the call is over");
    assert!(loudest(&heard, 0.5..60.0) > 0.1, "the caller heard the speech");
    assert!(loudest(&at_friend, 0.5..60.0) < SILENCE, "the caller's microphone is the null device");
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn files_that_cannot_be_used_are_told_before_anybody_rings() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let text = lab.path("text.wav");
    std::fs::write(&text, "these are words, not sounds").unwrap();
    let text = text.to_str().unwrap();
    let target = at(&friend);
    for (options, words) in [
        (&["--play", "/nonexistent/a.wav"][..], &["/nonexistent/a.wav", "to play it", "No such file"][..]),
        (&["--record", "/nonexistent/a.wav"], &["/nonexistent/a.wav", "to record", "No such file"]),
        (&["--play", text], &["not a WAV file"]),
        (&["--record", "/dev/full"], &["recorded into cannot be used"]),
    ] {
        ctl(&phone, &[&["call", &target], options].concat()).await.fails(1, words);
    }
    // As long as nobody has answered, an older recording is kept.
    let kept = lab.path("kept.wav");
    std::fs::write(&kept, "an older recording").unwrap();
    let (nobody, record) = (format!("sip:{}:9", lab.address()), kept.to_str().unwrap());
    ctl(&phone, &["call", &target, "--play", text, "--record", record]).await.fails(1, &["not a WAV file"]);
    assert_eq!(ctl(&phone, &["call", &nobody, "--record", record]).await.code, 13);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "an older recording");
    assert_eq!(ctl(&friend, &["calls"]).await.well(), "There are no calls.\n");
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn hold_and_resume_reach_the_peer() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    ctl(&phone, &["resume"]).await.fails(1, &["there is no call on hold"]);
    ctl(&phone, &["hold"]).await.silent();
    becomes(&phone, &number, "state", "held").await;
    becomes(&friend, "1", "remote_hold", true).await;
    let list = ctl(&phone, &["calls"]).await;
    let line = list.well().lines().nth(1).unwrap();
    assert!(line.starts_with("1 ") && line.contains("held, by this side"), "{line}");
    assert!(ctl(&friend, &["calls"]).await.well().contains("held, by the peer"));
    ctl(&phone, &["dtmf", "5"]).await.fails(1, &["there is no call that can take digits"]);
    ctl(&phone, &["dtmf", &number, "5"]).await.fails(1, &["the call is held"]);
    ctl(&phone, &["hold"]).await.fails(1, &["there is no call that can be held"]);
    // Who is held by the peer can hold as well.
    ctl(&friend, &["hold"]).await.silent();
    becomes(&phone, &number, "remote_hold", true).await;
    ctl(&phone, &["resume"]).await.silent();
    becomes(&friend, "1", "remote_hold", false).await;
    assert_eq!(property(&friend, "1", "state").await, "held");
    ctl(&friend, &["resume", "1"]).await.silent();
    becomes(&phone, &number, "state", "active").await;
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_second_call_holds_the_first_unless_they_are_mixed() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let echo = echo_at(&friend);
    let first = talk(&phone, &echo, &[]).await;
    let second = talk(&phone, &echo, &[]).await;
    becomes(&phone, &first, "local_hold", true).await;
    ctl(&phone, &["hold", &second]).await.silent();
    // Two are on hold: which one is meant has to be said.
    let ambiguous = ctl(&phone, &["resume"]).await;
    ambiguous.fails(
        2,
        &["there are several calls on hold: name one of them", "\n  1  held  sip:echo@", "\n  2  held  "],
    );
    ctl(&phone, &["resume", &second]).await.silent();
    becomes(&phone, &second, "state", "active").await;
    ctl(&phone, &["resume", &first, "--mix"]).await.silent();
    becomes(&phone, &first, "state", "active").await;
    assert_eq!(property(&phone, &second, "state").await, "active");
    assert_eq!(property(&phone, &first, "mixed").await, true);
    assert_eq!(property(&phone, &second, "mixed").await, true);
    let list = ctl(&phone, &["calls"]).await;
    assert_eq!(list.well().matches("active, mixed").count(), 2, "{}", list.output);
    // A third one can join at once.
    let third = talk(&phone, &echo, &["--mix"]).await;
    for number in [&first, &second, &third] {
        assert_eq!(property(&phone, number, "state").await, "active", "call {number}");
    }
    // Without --mix, one has the sound device alone.
    ctl(&phone, &["hold", &first]).await.silent();
    becomes(&phone, &first, "state", "held").await;
    ctl(&phone, &["resume", &first]).await.silent();
    for number in [&second, &third] {
        becomes(&phone, number, "local_hold", true).await;
    }
    ctl(&phone, &["hangup"]).await.fails(2, &["several calls that go on", "\n  1  ", "\n  3  "]);
    ctl(&phone, &["hangup", "--all"]).await.silent();
    ctl(&phone, &["wait", "ended", "--timeout", "10"]).await.silent();
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn mute_silences_this_side_alone() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let heard = lab.path("heard.wav");
    let said = speech(Speaker::Alice, 8000);
    let files = ["--play", said.to_str().unwrap(), "--record", heard.to_str().unwrap()];
    // Muted before the answer: not a word gets through.
    let call = start(&phone, &[&["call", "--wait", &at(&friend)], &files[..]].concat());
    let incoming = friend.incoming().await;
    ctl(&phone, &["mute"]).await.silent();
    assert_eq!(property(&phone, "1", "muted").await, true);
    let at_friend = lab.path("at-friend.wav");
    ctl(&friend, &["answer", "--play", said.to_str().unwrap(), "--record", at_friend.to_str().unwrap()])
        .await
        .silent();
    incoming.is("active").await;
    until("sound flows", SOON, async || (incoming.figures().await.packets_received > 75).then_some(())).await;
    assert!(ctl(&phone, &["calls"]).await.well().contains("active, muted"));
    ctl(&phone, &["hangup"]).await.silent();
    call.ends().await.well();
    assert!(loudest(&heard, 0.5..60.0) > 0.1, "the muted side goes on hearing");
    assert!(loudest(&at_friend, 0.5..60.0) < SILENCE, "the other one hears silence");

    let number = talk(&phone, &echo_at(&friend), &[]).await;
    ctl(&phone, &["mute", &number]).await.silent();
    ctl(&phone, &["mute", &number]).await.silent();
    ctl(&phone, &["unmute", &number]).await.silent();
    assert_eq!(property(&phone, &number, "muted").await, false);
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn digits_arrive_in_order_once_each() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let mut digits = start(&friend, &["monitor"]);
    digits.says("watching voipd").await;
    ctl(&phone, &["dtmf", "0123456789"]).await.silent();
    ctl(&phone, &["dtmf", &number, "*#ABCD"]).await.silent();
    digits.says("digit D").await;
    let received: String =
        digits.output().lines().filter_map(|line| line.split_once(" digit ")?.1.chars().next()).collect();
    assert_eq!(received, "0123456789*#ABCD");
    for (arguments, words) in [
        (&["12x"][..], "is no DTMF digit"),
        (&[""], "send 1 to 128"),
        (&[&*"1".repeat(129)], "send 1 to 128"),
        (&["7", "1"], "there is no call 7"),
    ] {
        ctl(&phone, &[&["dtmf"], arguments].concat()).await.fails(1, &[words]);
    }
    phone.stop().await;
    friend.stop().await;
}

#[timely]
async fn a_silenced_call_goes_on_ringing_at_the_caller() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let mut call = start(&phone, &["call", &at(&friend)]);
    call.says("call 1: ringing").await;
    ctl(&friend, &["silence"]).await.silent();
    assert_eq!(property(&friend, "1", "state").await, "incoming");
    assert_eq!(property(&phone, "1", "state").await, "ringing");
    ctl(&friend, &["answer", "1"]).await.silent();
    call.says("call 1: active").await;
    ctl(&friend, &["silence"]).await.fails(1, &["there is no call that rings here"]);
    ctl(&friend, &["silence", "1"]).await.fails(1, &["the call is active"]);
    ctl(&friend, &["hangup"]).await.silent();
    call.ends().await.well();
    phone.stop().await;
    friend.stop().await;
}
