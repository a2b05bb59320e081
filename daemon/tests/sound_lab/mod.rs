//! A private sound session for tests: PulseAudio with null sinks in place of a card, in a scratch folder. Knows how to
//! speak into its microphone and to hear its loudspeaker.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panic")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use voipd::api::DeviceRole;
use voipd::sound::{DeviceName, SoundEvent, SoundSystem};
use voipd_audio::engine::{DevicePort, Pace};

pub const RATE: u32 = 48_000;
/// Set in the process that runs inside a session.
const INSIDE: &str = "VOIPD_TEST_SOUND_SESSION";

/// The left channel of `dual` is what the microphone hears, the right one what the loudspeaker plays: its monitor
/// records both sample-aligned.
const PULSE_SCRIPT: &str = "
load-module module-native-protocol-unix auth-anonymous=1 socket=pulse.sock
load-module module-null-sink sink_name=dual rate=48000 channels=2 channel_map=front-left,front-right format=s16le
load-module module-remap-sink sink_name=mic master=dual channels=1 channel_map=mono master_channel_map=front-left \
remix=no
load-module module-remap-sink sink_name=spk master=dual channels=1 channel_map=mono master_channel_map=front-right \
remix=no
load-module module-remap-source source_name=micsrc master=dual.monitor channels=1 channel_map=mono \
master_channel_map=front-left remix=no
set-default-sink spk
set-default-source micsrc
";

const ALSA_CONFIGURATION: &str = r#"
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.voipmic { type pulse device "micsrc" hint { show on description "test mic" } }
pcm.voipspk { type pulse device "spk" hint { show on description "test speaker" } }
"#;

/// How ALSA clients of the session see sound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// By the server's own protocol.
    Server,
    /// Through ALSA's configuration and its plugin, too.
    AlsaPlugin,
}

/// Sound is real time: one session at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs the ignored test `case` of this binary in a process of its own, inside a fresh session.
pub fn in_session(case: &str, reach: Reach) {
    if !installed("pulseaudio") {
        eprintln!("skipped {case}: pulseaudio is not installed");
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let output = inner_command(case)
        .env(INSIDE, folder.path())
        .env("HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("PULSE_SERVER", format!("unix:{}", folder.path().join("pulse.sock").display()))
        .envs((reach == Reach::AlsaPlugin).then(|| ("ALSA_CONFIG_PATH", folder.path().join("asound.conf"))))
        .output()
        .unwrap();
    report(case, &output);
}

/// Runs the ignored test `case` in a process of its own with the given environment and no sound at all.
pub fn without_sound(case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = inner_command(case)
        .env(INSIDE, folder.path())
        .env("HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .output()
        .unwrap();
    report(case, &output);
}

pub fn inner_command(case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", case, "--ignored", "--nocapture", "--test-threads=1"]);
    for name in ["PULSE_SERVER", "PULSE_RUNTIME_PATH", "PULSE_COOKIE", "ALSA_CONFIG_PATH", "PIPEWIRE_REMOTE"]
    {
        command.env_remove(name);
    }
    command
}

fn report(case: &str, output: &std::process::Output) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{case}:\n{text}");
    assert!(text.len() < 20_000, "{case} floods the log with {} bytes", text.len());
}

/// The folder of the session, in the process that runs inside it; `None` when started in another way.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

pub fn installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// A running PulseAudio, ended with this handle.
pub struct Server(Child);

impl Server {
    pub fn start(folder: &Path) -> Self {
        std::fs::write(folder.join("pulse.pa"), PULSE_SCRIPT).unwrap();
        std::fs::write(folder.join("asound.conf"), ALSA_CONFIGURATION).unwrap();
        let socket = folder.join("pulse.sock");
        let _ = std::fs::remove_file(&socket);
        let child = Command::new("pulseaudio")
            .args(["-n", "-F"])
            .arg(folder.join("pulse.pa"))
            .args(["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit"])
            .args(["--log-level=error", "--realtime=yes"])
            .current_dir(folder)
            .env("PULSE_RUNTIME_PATH", folder)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        let ready = || {
            let output = Command::new("pactl").arg("info").output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains("Default Source: micsrc")
        };
        wait_until(Duration::from_secs(10), "PulseAudio starts", ready);
        server
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_until(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Records both channels of the session: (microphone, loudspeaker).
pub struct Ear(Child);

impl Ear {
    pub fn open() -> Self {
        let child = Command::new("parec")
            .args(["-d", "dual.monitor", "--channels=2", "--channel-map=front-left,front-right"])
            .args(["--rate=48000", "--format=s16le", "--latency-msec=20"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn hear(&mut self, seconds: f32) -> (Vec<f32>, Vec<f32>) {
        let mut bytes = vec![0; (seconds * RATE as f32) as usize * 4];
        self.0.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        let sample = |bytes: &[u8]| f32::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 32_768.0;
        bytes.chunks_exact(4).map(|frame| (sample(&frame[..2]), sample(&frame[2..]))).unzip()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn write_wav(path: &Path, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// Speaks a file into the microphone.
pub fn speak(path: &Path) -> Child {
    Command::new("paplay").args(["-d", "mic", "--latency-msec=50"]).arg(path).spawn().unwrap()
}

pub fn sine(frequency: f32, amplitude: f32, rate: u32, count: usize) -> Vec<f32> {
    let step = std::f32::consts::TAU * frequency / rate as f32;
    (0..count).map(|n| amplitude * (step * n as f32).sin()).collect()
}

pub fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// How much of the energy of `samples` is at `frequency`: 0.0 to 1.0 (Goertzel's algorithm).
pub fn purity(samples: &[f32], frequency: f32, rate: u32) -> f32 {
    let step = std::f64::consts::TAU * f64::from(frequency) / f64::from(rate);
    let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let sample = f64::from(*sample);
        re += sample * (step * n as f64).cos();
        im += sample * (step * n as f64).sin();
        energy += sample * sample;
    }
    (2.0 * (re * re + im * im) / (samples.len() as f64 * energy).max(1e-12)) as f32
}

/// Runs a future as the daemon does.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The next event, which must come within `seconds`.
pub async fn event(sound: &mut SoundSystem, seconds: u64) -> SoundEvent {
    tokio::time::timeout(Duration::from_secs(seconds), sound.next_event()).await.expect("no event came")
}

/// Opens a device that must open: its port, name and description.
pub async fn open(sound: &mut SoundSystem, role: DeviceRole, name: &str) -> (DevicePort, DeviceName, String) {
    sound.open(role, name.parse().unwrap());
    match event(sound, 8).await {
        SoundEvent::Opened { role: opened, port, name, description } => {
            assert_eq!(opened, role);
            println!("{role:?}: {name}, {description}, {:?} at {} Hz", port.pace, port.rate);
            (port, name, description)
        }
        SoundEvent::Failed { reason, .. } | SoundEvent::Lost { reason, .. } => panic!("{name}: {reason}"),
    }
}

/// Why a device does not open.
pub async fn refusal(sound: &mut SoundSystem, role: DeviceRole, name: &str) -> String {
    sound.open(role, name.parse().unwrap());
    match event(sound, 8).await {
        SoundEvent::Failed { reason, .. } => reason,
        SoundEvent::Opened { name, .. } => panic!("{name} opened"),
        SoundEvent::Lost { reason, .. } => panic!("{name} was lost: {reason}"),
    }
}

pub fn target(port: &DevicePort) -> usize {
    match port.pace {
        Pace::Device { target } => target,
        Pace::Tick => panic!("a device has a clock of its own"),
    }
}
