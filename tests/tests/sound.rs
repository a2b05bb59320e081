//! Real sound devices: PulseAudio's null sinks stand in for the cards.

use std::time::Duration;

use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::pulse::Pulse;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, until};

/// A telephone with the microphone and the loudspeaker of one of the two people.
async fn phone(lab: &Lab, pulse: &Pulse, name: &str) -> Voipd {
    let config = Config::at(lab.address())
        .environment("PULSE_SERVER", pulse.server())
        .line("audio", format!("input = \"pulseaudio:{name}-microphone\""))
        .line("audio", format!("output = \"pulseaudio:{name}-loudspeaker\""))
        .line("audio", "ringer = \"pulseaudio:bell\"")
        .line("direct", "codecs = [\"PCMU\"]");
    Voipd::start(lab, name, config).await
}

#[tokio::test]
async fn what_one_says_into_the_microphone_comes_out_of_the_others_loudspeaker() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let alice = phone(&lab, &pulse, "alice").await;
    let bob = phone(&lab, &pulse, "bob").await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    assert_eq!(call.proxy.sound().await.unwrap(), "device");
    let audio = alice.audio().await;
    until("the device is open", SOON, async || (audio.state().await.unwrap() == "open").then_some(())).await;
    // Rings and drift correction settle in the first two seconds.
    pause(2.0).await;

    let directions =
        [("alice-to-bob", "alice-mouth", Speaker::Alice), ("bob-to-alice", "bob-mouth", Speaker::Bob)];
    let mut recorders = Vec::new();
    let mut speakers = Vec::new();
    for (direction, mouth, speaker) in directions {
        recorders.push(pulse.record(direction, &lab.path(direction)).await);
        speakers.push(pulse.speak(mouth, &speech(speaker, 48_000)));
    }
    for speaker in &mut speakers {
        assert!(speaker.wait(Duration::from_secs(15)).await.success());
    }
    pause(0.7).await;
    for recorder in &mut recorders {
        recorder.stop().await;
    }
    println!("{:?}\n{:?}", call.figures().await, answered.figures().await);
    println!("{:?}", audio.counters().await.unwrap());
    for (direction, _, speaker) in directions {
        let mouth = Sound::channel(&lab.path(direction), 0);
        let ear = Sound::channel(&lab.path(direction), 1);
        let said = Sound::load(&speech(speaker, 48_000));
        let spoken = compare(&said, &mouth, Codec::Waveform);
        let heard = compare(&said, &ear, Codec::Waveform);
        println!("{direction}: mouth to ear {:.1} ms", heard.lag_ms - spoken.lag_ms);
        spoken.assert_heard(&format!("{direction}: at the mouth"), 0.99);
        println!("{direction}: at the ear: {heard}");
        // Two cards, two clocks and a sound server that is no real-time program: a slip is allowed, a lost word is not.
        assert!(heard.correlation > 0.9 && heard.missing_ms() <= 60, "{direction}: at the ear: {heard}");
        let delay = heard.lag_ms - spoken.lag_ms;
        assert!((5.0..400.0).contains(&delay), "{direction}: mouth to ear {delay} ms");
    }
    call.hang_up().await;
    until("the device is closed", SOON, async || (audio.state().await.unwrap() == "closed").then_some(()))
        .await;
    until("the real-time thread rests", SOON, async || audio.parked().await.unwrap().then_some(())).await;
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_call_rings_at_the_bell_and_the_caller_hears_ringback() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let alice = phone(&lab, &pulse, "alice").await;
    let bob = phone(&lab, &pulse, "bob").await;
    let mut bell = pulse.record("bell", &lab.path("bell.wav")).await;
    let mut ear = pulse.record("bob-to-alice", &lab.path("ear.wav")).await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    let answered = bob.incoming().await;
    pause(2.5).await;
    bell.stop().await;
    ear.stop().await;
    answered.proxy.reject("busy").await.unwrap();
    call.ended().await;
    let rung = Sound::channel(&lab.path("bell.wav"), 0);
    assert!(rung.level() > -45.0, "the bell is silent: {} dBFS", rung.level());
    let ringback = Sound::channel(&lab.path("ear.wav"), 1);
    assert!(ringback.level() > -50.0, "no ringback: {} dBFS", ringback.level());
    let hertz = ringback.strongest_frequency();
    assert!((300.0..600.0).contains(&hertz), "ringback at {hertz} Hz");
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn devices_are_listed_chosen_and_remembered() {
    let lab = Lab::shared();
    let pulse = Pulse::start(&lab).await;
    let config = Config::at(lab.address()).environment("PULSE_SERVER", pulse.server());
    let mut phone = Voipd::start(&lab, "voipd", config).await;
    let audio = phone.audio().await;
    let devices = audio.list_devices().await.unwrap();
    let names: Vec<String> =
        devices.iter().map(|device| String::try_from(device["name"].try_clone().unwrap()).unwrap()).collect();
    for wanted in ["pulseaudio:alice-microphone", "pulseaudio:bob-loudspeaker", "pulseaudio:bell", "null"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
    }
    audio.select_device("input", "pulseaudio:alice-microphone").await.unwrap();
    let before = audio.output().await.unwrap();
    let refused = audio.select_device("output", "trombone").await.unwrap_err();
    assert_eq!(refused.kind(), Some("NoSuchDevice"), "{refused}");
    for (role, name) in
        [("output", "pulseaudio:trombone"), ("input", "pulseaudio:bell"), ("output", "alsa:trombone")]
    {
        let refused = audio.select_device(role, name).await.unwrap_err();
        assert_eq!(refused.kind(), Some("NoSuchDevice"), "{role} {name}: {refused}");
        assert!(refused.to_string().contains("voipctl devices"), "{refused}");
    }
    assert_eq!(audio.output().await.unwrap(), before, "a refused choice changes nothing");
    phone.restart().await;
    assert_eq!(phone.audio().await.input().await.unwrap(), "pulseaudio:alice-microphone");
    phone.stop().await;
}

#[tokio::test]
async fn the_test_plays_a_tone() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let alice = phone(&lab, &pulse, "alice").await;
    let mut ear = pulse.record("bob-to-alice", &lab.path("ear.wav")).await;
    let audio = alice.audio().await;
    let options = voipd_dbus::TestOptions { output: Some(true), input: Some(true) };
    audio.start_test(&options).await.unwrap();
    pause(2.5).await;
    audio.stop_test().await.unwrap();
    ear.stop().await;
    let heard = Sound::channel(&lab.path("ear.wav"), 1);
    assert!(heard.level() > -45.0, "no tone: {} dBFS", heard.level());
    alice.stop().await;
}

#[tokio::test]
async fn a_sound_server_that_goes_away_does_not_end_the_call() {
    let lab = Lab::alone();
    let mut pulse = Pulse::start(&lab).await;
    let alice = phone(&lab, &pulse, "alice").await;
    let bob = Voipd::start(&lab, "bob", Config::at(lab.address())).await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    bob.incoming().await.accept().await;
    call.is("active").await;
    let audio = alice.audio().await;
    until("the device is open", SOON, async || (audio.state().await.unwrap() == "open").then_some(())).await;
    pulse.crash();
    until("the loss is told", SOON, async || (audio.state().await.unwrap() == "unavailable").then_some(()))
        .await;
    let reason = audio.reason().await.unwrap();
    assert!(!reason.is_empty());
    let before = call.figures().await;
    pause(0.5).await;
    let after = call.figures().await;
    assert_eq!(call.state().await, "active");
    assert!(after.packets_sent > before.packets_sent + 20, "{before:?} {after:?}");
    call.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}
