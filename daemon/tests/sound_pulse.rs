//! Devices of a real PulseAudio: names, sound both ways, delay, and what happens when the server dies.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod sound_lab;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sound_lab::*;
use voipd::api::DeviceRole;
use voipd::sound::{SoundEvent, SoundSystem};

const TICK: Duration = Duration::from_millis(10);

/// Feeds a loudspeaker as the engine's tick does.
fn play(port: &mut voipd_audio::engine::DevicePort, samples: &[f32]) {
    let target = target(port);
    let ring = port.playback.as_mut().unwrap();
    let capacity = ring.buffer().capacity();
    let mut rest = samples;
    while !rest.is_empty() {
        let filled = capacity - ring.slots();
        let (now, later) = rest.split_at(target.saturating_sub(filled).min(rest.len()));
        ring.push_entire_slice(now).unwrap();
        rest = later;
        std::thread::sleep(TICK / 4);
    }
}

fn record(port: &mut voipd_audio::engine::DevicePort, count: usize) -> Vec<f32> {
    let ring = port.capture.as_mut().unwrap();
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < count {
        assert!(start.elapsed() < Duration::from_secs(10), "the microphone gives no samples");
        while let Ok(sample) = ring.pop() {
            samples.push(sample);
        }
        std::thread::sleep(TICK);
    }
    samples
}

/// Most of the sound is this tone. Not all: a machine that is busy with something else may tear it, and a tear within
/// spoils only its window.
fn assert_tone(samples: &[f32], frequency: f32, amplitude: f32) {
    let windows: Vec<(f32, f32)> = samples
        .chunks_exact(RATE as usize / 20)
        .map(|window| (rms(window) * std::f32::consts::SQRT_2 / amplitude, purity(window, frequency, RATE)))
        .collect();
    let good =
        windows.iter().filter(|(level, purity)| (0.95..1.05).contains(level) && *purity > 0.99).count();
    assert!(10 * good >= 8 * windows.len(), "{good} of {} windows are the tone: {windows:?}", windows.len());
}

#[test]
fn devices_are_listed_by_name() {
    in_session("inside_devices_are_listed_by_name", Reach::Server);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_devices_are_listed_by_name() {
    let Some(folder) = inside() else { return };
    let server = Server::start(&folder);
    let sound = SoundSystem::start().unwrap();
    let views = run(sound.list());
    let find = |name: &str| {
        views.iter().find(|view| view.name == name).unwrap_or_else(|| panic!("{name}: {views:#?}"))
    };
    let speaker = find("pulseaudio:spk");
    assert!(speaker.output && !speaker.input && speaker.default && speaker.available);
    let microphone = find("pulseaudio:micsrc");
    assert!(microphone.input && !microphone.output && microphone.default);
    assert!(!find("pulseaudio:mic").default);
    assert_eq!(find("default").host, "pulseaudio");
    assert!(find("null").input && find("null").output);

    // A sound server's client must not cost a thread for each listing.
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..20 {
        assert_eq!(run(sound.list()), views);
    }
    wait_until(Duration::from_secs(5), "no threads are left over", || threads() <= before);
    drop(server);
    let views = run(sound.list());
    assert!(views.iter().all(|view| view.host != "pulseaudio"), "{views:#?}");
}

#[test]
fn what_is_played_comes_out_of_the_default_loudspeaker() {
    in_session("inside_what_is_played_comes_out_of_the_default_loudspeaker", Reach::Server);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_what_is_played_comes_out_of_the_default_loudspeaker() {
    let Some(folder) = inside() else { return };
    let _server = Server::start(&folder);
    loudspeaker("default", "pulseaudio:spk");
}

fn loudspeaker(asked: &str, opened: &str) {
    let mut sound = SoundSystem::start().unwrap();
    let (mut port, name, description) = run(open(&mut sound, DeviceRole::Output, asked));
    assert_eq!(name.to_string(), opened);
    assert!(!description.is_empty());
    let mut ear = Ear::open();
    let playing = std::thread::spawn(move || {
        play(&mut port, &sine(1000.0, 0.3, RATE, 5 * RATE as usize));
        port
    });
    let (mouth, heard) = ear.hear(4.0);
    // The first callbacks may stall for two seconds.
    assert_tone(&heard[2 * RATE as usize..], 1000.0, 0.3);
    assert_eq!(rms(&mouth), 0.0, "nothing reaches the microphone");
    drop(playing.join().unwrap());
    sound.close(DeviceRole::Output);
}

#[test]
fn what_is_spoken_arrives_from_the_default_microphone() {
    in_session("inside_what_is_spoken_arrives_from_the_default_microphone", Reach::Server);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_what_is_spoken_arrives_from_the_default_microphone() {
    let Some(folder) = inside() else { return };
    let _server = Server::start(&folder);
    microphone(&folder, "default", "pulseaudio:micsrc");
}

fn microphone(folder: &std::path::Path, asked: &str, opened: &str) {
    let speech = folder.join("speech.wav");
    write_wav(&speech, &sine(700.0, 0.4, RATE, 6 * RATE as usize));
    let mut sound = SoundSystem::start().unwrap();
    let (mut port, name, _) = run(open(&mut sound, DeviceRole::Input, asked));
    assert_eq!(name.to_string(), opened);
    let mut mouth = speak(&speech);
    let samples = record(&mut port, 4 * RATE as usize);
    assert_tone(&samples[2 * RATE as usize..], 700.0, 0.4);
    let _ = mouth.kill();
    let _ = mouth.wait();
}

#[test]
fn alsa_devices_work_through_the_plugin() {
    in_session("inside_alsa_devices_work_through_the_plugin", Reach::AlsaPlugin);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_alsa_devices_work_through_the_plugin() {
    let Some(folder) = inside() else { return };
    let _server = Server::start(&folder);
    let sound = SoundSystem::start().unwrap();
    let views = run(sound.list());
    let view = views.iter().find(|view| view.name == "alsa:voipspk").unwrap_or_else(|| panic!("{views:#?}"));
    assert_eq!((view.description.as_str(), view.host.as_str()), ("test speaker", "alsa"));
    assert!(views.iter().all(|view| !view.name.contains("samplerate")), "{views:#?}");
    drop(sound);
    loudspeaker("alsa:voipspk", "alsa:voipspk");
    microphone(&folder, "alsa:voipmic", "alsa:voipmic");
}

#[test]
fn a_dead_server_is_a_loss_and_can_come_back() {
    in_session("inside_a_dead_server_is_a_loss_and_can_come_back", Reach::Server);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_a_dead_server_is_a_loss_and_can_come_back() {
    let Some(folder) = inside() else { return };
    let mut server = Server::start(&folder);
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        let mut ports = Vec::new();
        for role in [DeviceRole::Input, DeviceRole::Output, DeviceRole::Ringer] {
            ports.push(open(&mut sound, role, "default").await.0);
        }
        server.kill();
        losses(&mut sound, 3).await;
        let (port, name, description) = open(&mut sound, DeviceRole::Output, "default").await;
        assert!(port.playback.is_none());
        assert_eq!((name.to_string().as_str(), description.starts_with("silence: ")), ("null", true));
        let leads = |sound: &SoundSystem| sound.find(DeviceRole::Output, "default".parse().unwrap());
        assert!(leads(&sound).await.is_err());
        let reason = refusal(&mut sound, DeviceRole::Output, "pulseaudio:spk").await;
        assert!(reason.contains("does not run"), "{reason}");

        let _server = Server::start(&folder);
        assert_eq!(leads(&sound).await, Ok(()));
        let (_, name, _) = open(&mut sound, DeviceRole::Output, "default").await;
        assert_eq!(name.to_string(), "pulseaudio:spk");
        let reason = refusal(&mut sound, DeviceRole::Input, "pulseaudio:spk").await;
        assert!(reason.contains("no microphone `spk`"), "{reason}");
    });
}

#[test]
fn a_dead_server_behind_alsa_is_a_loss_without_a_storm() {
    in_session("inside_a_dead_server_behind_alsa_is_a_loss_without_a_storm", Reach::AlsaPlugin);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_a_dead_server_behind_alsa_is_a_loss_without_a_storm() {
    let Some(folder) = inside() else { return };
    let mut server = Server::start(&folder);
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        let (_input, ..) = open(&mut sound, DeviceRole::Input, "alsa:voipmic").await;
        let (_output, ..) = open(&mut sound, DeviceRole::Output, "alsa:voipspk").await;
        server.kill();
        losses(&mut sound, 2).await;
    });
    let before = cpu_ticks();
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_ticks() - before;
    assert!(used < 100, "the dead streams use {used} of 200 ticks of CPU time");
    let errors = sound.counters().errors.load(Ordering::Relaxed);
    assert!(errors < 100, "{errors} errors were let through");

    let _server = Server::start(&folder);
    run(open(&mut sound, DeviceRole::Output, "alsa:voipspk"));
}

async fn losses(sound: &mut SoundSystem, count: usize) {
    let start = Instant::now();
    for _ in 0..count {
        match event(sound, 8).await {
            SoundEvent::Lost { role, reason } => {
                println!("{role:?} lost after {:?}: {reason}", start.elapsed())
            }
            SoundEvent::Opened { name, .. } => panic!("{name} opened"),
            SoundEvent::Failed { reason, .. } => panic!("{reason}"),
        }
    }
}

/// CPU time of this process in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_click_crosses_from_microphone_to_loudspeaker_quickly() {
    in_session("inside_a_click_crosses_from_microphone_to_loudspeaker_quickly", Reach::Server);
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_a_click_crosses_from_microphone_to_loudspeaker_quickly() {
    let Some(folder) = inside() else { return };
    let _server = Server::start(&folder);
    let clicks = folder.join("clicks.wav");
    let mut sound_of_clicks = vec![0.0; 6 * RATE as usize];
    for second in 0..6 {
        sound_of_clicks[second * RATE as usize + 9_000..][..24].fill(0.8);
    }
    write_wav(&clicks, &sound_of_clicks);

    for direct in [true, false] {
        let mut sound = SoundSystem::start().unwrap();
        let (mut input, ..) = run(open(&mut sound, DeviceRole::Input, "default"));
        let (mut output, ..) = run(open(&mut sound, DeviceRole::Output, "default"));
        let (target_in, target_out) = (target(&input), target(&output));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let bridge = std::thread::spawn(move || {
            let (from, to) = (input.capture.as_mut().unwrap(), output.playback.as_mut().unwrap());
            let capacity = to.buffer().capacity();
            let mut due = Instant::now();
            while matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                if direct {
                    while let Ok(sample) = from.pop() {
                        let _ = to.push(sample);
                    }
                    std::thread::sleep(TICK / 10);
                    continue;
                }
                // As the engine: 480 samples on each tick, both rings near their targets (seen before the tick).
                due += TICK;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                while from.slots() > target_in + 480 {
                    let _ = from.pop();
                }
                while capacity - to.slots() + 480 < target_out {
                    let _ = to.push(0.0);
                }
                if from.slots() >= 480 && capacity - to.slots() + 480 <= target_out + 480 {
                    for _ in 0..480 {
                        let _ = to.push(from.pop().unwrap_or(0.0));
                    }
                }
            }
        });
        // The first callbacks may stall.
        std::thread::sleep(Duration::from_secs(2));
        let mut ear = Ear::open();
        let mut mouth = speak(&clicks);
        let (spoken, heard) = ear.hear(5.0);
        let _ = mouth.wait();
        drop(stop);
        bridge.join().unwrap();
        let onsets = |samples: &[f32]| {
            let mut onsets: Vec<usize> = Vec::new();
            for (at, sample) in samples.iter().enumerate() {
                if sample.abs() > 0.2 && onsets.last().is_none_or(|last| at - last > 4_800) {
                    onsets.push(at);
                }
            }
            onsets
        };
        let (spoken, heard) = (onsets(&spoken), onsets(&heard));
        let delays: Vec<f32> = spoken
            .iter()
            .filter_map(|at| {
                heard
                    .iter()
                    .find(|later| (*at..at + 24_000).contains(later))
                    .map(|later| (later - at) as f32 / 48.0)
            })
            .collect();
        println!(
            "{} bridge: {delays:?} ms, underruns {}, trimmed {}",
            if direct { "direct" } else { "10 ms tick" },
            sound.counters().underruns.load(Ordering::Relaxed),
            sound.counters().trimmed.load(Ordering::Relaxed),
        );
        assert!(delays.len() >= 3, "{spoken:?} {heard:?}");
        // Load from elsewhere adds to a bridge that does not steer its rings; trimming bounds it.
        let shortest = delays.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(shortest < 60.0 && delays.iter().all(|delay| *delay < 250.0), "{delays:?} ms");
    }
}
