//! Devices of a real PipeWire, through its own protocol.
#![cfg(feature = "pipewire")]
#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

mod sound_lab;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sound_lab::*;
use voipd::api::DeviceRole;
use voipd::sound::{SoundEvent, SoundSystem};

/// A loudspeaker and a microphone, both without hardware, driven by one clock.
const CONFIGURATION: &str = r#"
context.properties = { core.daemon = true core.name = pipewire-0 default.clock.rate = 48000 default.clock.quantum = 480 default.clock.min-quantum = 64 }
context.spa-libs = { audio.convert.* = audioconvert/libspa-audioconvert support.* = support/libspa-support }
context.modules = [
  { name = libpipewire-module-protocol-native }
  { name = libpipewire-module-metadata }
  { name = libpipewire-module-spa-node-factory }
  { name = libpipewire-module-client-node }
  { name = libpipewire-module-adapter }
  { name = libpipewire-module-link-factory }
  { name = libpipewire-module-session-manager }
  { name = libpipewire-module-access }
]
context.objects = [
  { factory = spa-node-factory args = { factory.name = support.node.driver node.name = Dummy-Driver node.group = pipewire.dummy priority.driver = 20000 } }
  { factory = adapter args = { factory.name = support.null-audio-sink node.name = "voip-speaker" node.description = "test speaker" media.class = Audio/Sink audio.position = [ FL FR ] monitor.channel-volumes = true object.linger = true } }
  { factory = adapter args = { factory.name = support.null-audio-sink node.name = "voip-microphone" node.description = "test microphone" media.class = Audio/Source/Virtual audio.position = [ MONO ] object.linger = true } }
]
"#;

/// A process, and whether it ends by itself once PipeWire has.
struct Daemon {
    child: Child,
    follows: bool,
}

impl Daemon {
    fn start(program: &str, arguments: &[&str], follows: bool) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, follows }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended by force, dbus-run-session would leave its bus behind.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.follows
            && self.child.try_wait().is_ok_and(|ended| ended.is_none())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pipewire_devices_are_listed_and_run() {
    if !["pipewire", "wireplumber", "dbus-run-session"].into_iter().all(installed) {
        eprintln!(
            "skipped pipewire_devices_are_listed_and_run: pipewire, wireplumber or dbus-run-session is not installed"
        );
        return;
    }
    without_sound("inside_pipewire_devices_are_listed_and_run");
}

fn start(folder: &Path) -> Vec<Daemon> {
    let configuration = folder.join("pipewire.conf");
    std::fs::write(&configuration, CONFIGURATION).unwrap();
    let mut daemons = vec![Daemon::start("pipewire", &["-c", configuration.to_str().unwrap()], false)];
    wait_until(Duration::from_secs(10), "PipeWire starts", || folder.join("pipewire-0").exists());
    daemons.push(Daemon::start("dbus-run-session", &["--", "wireplumber"], true));
    let defaults = || {
        let output = Command::new("pw-metadata").arg("0").output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("default.audio.sink")
    };
    wait_until(Duration::from_secs(10), "the session manager chooses a loudspeaker", defaults);
    daemons
}

#[test]
#[ignore = "runs inside a private sound session"]
fn inside_pipewire_devices_are_listed_and_run() {
    let Some(folder) = inside() else { return };
    let daemons = start(&folder);
    let mut sound = SoundSystem::start().unwrap();
    run(async {
        let views = sound.list().await;
        println!("{views:#?}");
        let speaker =
            views.iter().find(|view| view.name == "pipewire:voip-speaker").expect("the speaker is listed");
        assert_eq!((speaker.description.as_str(), speaker.output), ("test speaker", true));

        for name in ["pipewire:voip-speaker", "default"] {
            let (mut port, ..) = open(&mut sound, DeviceRole::Output, name).await;
            let ring = port.playback.as_mut().unwrap();
            let capacity = ring.buffer().capacity();
            // Taken at the device's pace: two seconds of sound are gone after about two seconds.
            let start = Instant::now();
            let mut given = 0;
            while given < 2 * RATE as usize {
                let room = ring.slots().saturating_sub(capacity / 2);
                ring.push_entire_slice(&vec![0.1; room]).unwrap();
                given += room;
                assert!(start.elapsed() < Duration::from_secs(8), "only {given} samples were taken");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(start.elapsed() > Duration::from_millis(1500), "taken in {:?}", start.elapsed());
        }
        drop(daemons);
        let SoundEvent::Lost { reason, .. } = event(&mut sound, 10).await else { panic!("not lost") };
        println!("lost: {reason}");
    });
}
