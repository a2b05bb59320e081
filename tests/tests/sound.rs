//! Real sound devices: PulseAudio's null sinks stand in for the cards.

use std::time::Duration;

use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::pulse::Pulse;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely, until};

/// A telephone with the microphone and the loudspeaker of one of the two people, who are not in one room.
async fn phone(lab: &Lab, pulse: &Pulse, name: &str) -> Voipd {
    let config = Config::at(lab.address())
        .environment("PULSE_SERVER", pulse.server())
        .line("audio", format!("input = \"pulseaudio:{name}-microphone\""))
        .line("audio", format!("output = \"pulseaudio:{name}-loudspeaker\""))
        .line("audio", "ringer = \"pulseaudio:bell\"")
        .line("audio", "echo-cancellation = false")
        .line("direct", "codecs = [\"PCMU\"]");
    Voipd::start(lab, name, config).await
}

#[timely]
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

#[timely]
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

#[timely]
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

#[timely]
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

/// The device that is open for a role.
async fn in_use(phone: &Voipd, role: &str) -> Option<String> {
    phone.audio().await.in_use().await.unwrap().remove(role)
}

#[timely]
async fn a_device_that_is_not_there_is_stood_in_for_until_it_is_and_again_when_it_goes() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let config = Config::at(lab.address())
        .environment("PULSE_SERVER", pulse.server())
        .line("audio", "input = \"pulseaudio:headset.monitor\"")
        .line("audio", "output = \"pulseaudio:headset\"");
    let alice = Voipd::start(&lab, "alice", config).await;
    let bob = Voipd::start(&lab, "bob", Config::at(lab.address())).await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    bob.incoming().await.accept().await;
    call.is("active").await;
    let both = async |input: &str, output: &str| {
        let what = format!("{input} and {output} are used");
        until(&what, SOON, async || {
            let used = (in_use(&alice, "input").await?, in_use(&alice, "output").await?);
            (used == (format!("pulseaudio:{input}"), format!("pulseaudio:{output}"))).then_some(())
        })
        .await;
    };
    both("alice-microphone", "alice-loudspeaker").await;
    let audio = alice.audio().await;
    assert_eq!(audio.state().await.unwrap(), "open");
    let reason = audio.reason().await.unwrap();
    assert!(reason.contains("headset") && reason.contains("until it is back"), "{reason}");
    assert_eq!(audio.output().await.unwrap(), "pulseaudio:headset", "the choice stays");
    // Settings belong to the device that is chosen.
    alice.ctl(&["devices", "volume", "output", "40"]);

    let plugged = pulse.control(&["load-module", "module-null-sink", "sink_name=headset", "channels=1"]);
    both("headset.monitor", "headset").await;
    until("nothing is amiss any more", SOON, async || audio.reason().await.unwrap().is_empty().then_some(()))
        .await;
    assert_eq!(alice.ctl(&["devices", "volume", "output"]).trim(), "40 %");

    // From one that goes while it is used, PulseAudio itself leads the sound to its default, and says nothing.
    let number_of = |sink: &str| {
        let sinks = pulse.control(&["list", "short", "sinks"]);
        let line = sinks.lines().find(|line| line.split_whitespace().nth(1) == Some(sink)).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().next().map(str::to_owned))
    };
    let plays_at = |sink: &str| {
        let (number, streams) = (number_of(sink), pulse.control(&["list", "short", "sink-inputs"]));
        let ours = streams.lines().find(|line| line.contains("protocol-native"));
        ours.is_some_and(|line| line.split_whitespace().nth(1) == number.as_deref())
    };
    assert!(plays_at("headset"));
    pulse.control(&["unload-module", plugged.trim()]);
    until("the sound is led elsewhere", SOON, async || plays_at("alice-loudspeaker").then_some(())).await;
    both("alice-microphone", "alice-loudspeaker").await;
    let reason = audio.reason().await.unwrap();
    assert!(reason.contains("`headset.monitor` now") && reason.contains("until it is back"), "{reason}");
    let before = call.figures().await;
    until("the call goes on", SOON, async || {
        (call.figures().await.packets_sent > before.packets_sent + 20).then_some(())
    })
    .await;
    assert_eq!((call.state().await.as_str(), audio.state().await.unwrap().as_str()), ("active", "open"));

    pulse.control(&["load-module", "module-null-sink", "sink_name=headset", "channels=1"]);
    both("headset.monitor", "headset").await;
    until("the sound is back at the headset", SOON, async || plays_at("headset").then_some(())).await;
    assert_eq!(call.state().await, "active");
    call.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}

#[timely]
async fn where_nothing_may_stand_in_a_device_that_goes_leaves_silence() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let plug = || pulse.control(&["load-module", "module-null-sink", "sink_name=headset", "channels=1"]);
    let plugged = plug();
    let config = Config::at(lab.address())
        .environment("PULSE_SERVER", pulse.server())
        .line("audio", "fallback = false")
        .line("audio", "output = \"pulseaudio:headset\"");
    let alice = Voipd::start(&lab, "alice", config).await;
    let bob = Voipd::start(&lab, "bob", Config::at(lab.address())).await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    bob.incoming().await.accept().await;
    call.is("active").await;
    let used = async |wanted: Option<&str>| {
        until(&format!("the output is {wanted:?}"), SOON, async || {
            (in_use(&alice, "output").await.as_deref() == wanted).then_some(())
        })
        .await;
    };
    used(Some("pulseaudio:headset")).await;
    pulse.control(&["unload-module", plugged.trim()]);
    used(None).await;
    let streams = pulse.control(&["list", "short", "sink-inputs"]);
    assert!(!streams.contains("protocol-native"), "something else plays it: {streams}");
    plug();
    used(Some("pulseaudio:headset")).await;
    assert_eq!(call.state().await, "active");
    call.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}

#[timely]
async fn one_card_rings_and_plays() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    let config = Config::at(lab.address())
        .environment("PULSE_SERVER", pulse.server())
        .line("audio", "input = \"pulseaudio:bob-microphone\"")
        .line("audio", "output = \"pulseaudio:bell\"")
        .line("audio", "ringer = \"pulseaudio:bell\"");
    let bob = Voipd::start(&lab, "bob", config).await;
    let alice = Voipd::start(&lab, "alice", Config::at(lab.address())).await;
    bob.ctl(&["devices", "mute", "output"]);
    let mut bell = pulse.record("bell", &lab.path("bell.wav")).await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    let answered = bob.incoming().await;
    until("it rings at the output's device", SOON, async || {
        (in_use(&bob, "ringer").await? == "pulseaudio:bell").then_some(())
    })
    .await;
    let streams = pulse.control(&["list", "short", "sink-inputs"]);
    // The others are the laboratory's own.
    let of_clients = streams.lines().filter(|line| line.contains("protocol-native")).count();
    assert_eq!(of_clients, 1, "opened once: {streams}");
    pause(2.0).await;
    bell.stop().await;
    let rung = Sound::channel(&lab.path("bell.wav"), 0);
    assert!(rung.level() > -45.0, "the ringer is not muted with the output: {} dBFS", rung.level());
    answered.accept().await;
    call.is("active").await;
    until("the ring is over", SOON, async || in_use(&bob, "ringer").await.is_none().then_some(())).await;
    assert_eq!(in_use(&bob, "output").await.as_deref(), Some("pulseaudio:bell"), "the device stays open");
    call.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}

#[timely]
async fn the_peer_does_not_hear_itself_out_of_a_loudspeaker_beside_the_microphone() {
    let lab = Lab::alone();
    let pulse = Pulse::start(&lab).await;
    // Alice's loudspeaker is heard by her microphone, as loud as it plays, a while later.
    pulse.control(&[
        "load-module",
        "module-remap-source",
        "source_name=alice-room",
        "master=bob-to-alice.monitor",
        "channels=1",
        "channel_map=mono",
        "master_channel_map=front-right",
        "remix=no",
    ]);
    pulse.control(&[
        "load-module",
        "module-loopback",
        "source=alice-room",
        "sink=alice-mouth",
        "latency_msec=80",
    ]);
    let alice = phone(&lab, &pulse, "alice").await;
    let bob =
        Voipd::start(&lab, "bob", Config::at(lab.address()).line("direct", "codecs = [\"PCMU\"]")).await;
    alice.ctl(&["devices", "processing", "echo", "on"]);
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    let (words, heard) = (speech(Speaker::Bob, 8000), lab.path("heard.wav"));
    let answered = bob.incoming().await;
    answered.accept_speaking(&words, &heard).await;
    call.is("active").await;
    let found = async |key: &str| {
        let counters = alice.audio().await.counters().await.unwrap();
        counters.get(key).copied().unwrap_or_default()
    };
    until("the echo is found", SOON, async || (found("echo-delay-ms").await > 0).then_some(())).await;
    pause(Sound::load(&words).seconds() - 1.0).await;
    let (blocks, late) = (found("voice-blocks").await, found("voice-blocks-late").await);
    println!("echo {} ms behind, {late} of {blocks} blocks late", found("echo-delay-ms").await);
    answered.hang_up().await;
    call.ended().await;
    let (said, heard) = (Sound::load(&words), Sound::load(&heard));
    // The first half teaches, the second tests; behind the sentence there is silence.
    let (half, end) = (said.seconds() / 2.0, said.seconds() - 0.5);
    let (said, heard) = (said.between(half, end).level(), heard.between(half, end).level());
    println!("said at {said:.1} dBFS, echo at {heard:.1} dBFS");
    assert!(heard < said - 12.0, "said at {said:.1} dBFS, echo at {heard:.1} dBFS");
    alice.stop().await;
    bob.stop().await;
}
