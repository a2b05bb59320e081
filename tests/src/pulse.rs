//! A PulseAudio server whose sound cards are null sinks: what is played into one end can be recorded at the other.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Process, keep_on_time, on_time, program, run};
use crate::{Lab, SOON, until};

/// A running sound server with two telephones' microphones and loudspeakers: see `sound/cards.pa`.
#[derive(Debug)]
pub struct Pulse {
    directory: PathBuf,
    server: Process,
}

impl Pulse {
    /// Starts the server.
    pub async fn start(lab: &Lab) -> Self {
        let directory = lab.directory("pulse");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sound/cards.pa");
        let mut command = program("pulseaudio");
        command.args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit"]);
        command.args(["--disable-shm=yes", "--realtime=yes", "-F"]).arg(script);
        command.env("XDG_RUNTIME_DIR", &directory).env("HOME", &directory);
        let server = Process::start("pulseaudio", command, &directory.join("log"));
        let pulse = Self { directory, server };
        until("PulseAudio answers", SOON, async || {
            let answer = pulse.client("pactl").args(["list", "short", "sources"]).output().ok()?;
            String::from_utf8_lossy(&answer.stdout).contains("bob-microphone").then_some(())
        })
        .await;
        keep_on_time(pulse.server.id());
        pulse
    }

    /// What `PULSE_SERVER` must say.
    pub fn server(&self) -> String {
        format!("unix:{}/pulse/pulse.sock", self.directory.display())
    }

    /// A command for one of PulseAudio's clients.
    pub fn client(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env("PULSE_SERVER", self.server()).env("HOME", &self.directory);
        command.env("XDG_RUNTIME_DIR", &self.directory);
        command
    }

    /// Records both ends of a direction (`alice-to-bob` or `bob-to-alice`), sample by sample: first channel the mouth,
    /// second the ear.
    pub async fn record(&self, direction: &str, file: &Path) -> Process {
        let mut command = self.client("parec");
        command.args(["--device", &format!("{direction}.monitor"), "--rate=48000", "--channels=2"]);
        command.args(["--channel-map=front-left,front-right", "--format=s16le", "--latency-msec=20"]);
        command.args(["--file-format=wav"]).arg(file);
        let recorder =
            Process::start("parec", on_time(&command), &self.directory.join(format!("{direction}.log")));
        until("the recorder writes", SOON, async || {
            std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 4096).then_some(())
        })
        .await;
        recorder
    }

    /// Speaks a file into a microphone (`alice-mouth` or `bob-mouth`) and waits until it is over.
    pub fn speak(&self, mouth: &str, file: &Path) -> Process {
        let mut command = self.client("paplay");
        command.args(["--device", mouth]).arg(file);
        Process::start("paplay", on_time(&command), &self.directory.join(format!("{mouth}.log")))
    }

    /// Ends the server without a word to its clients.
    pub fn crash(&mut self) {
        self.server.cut();
    }

    /// Runs `pactl` and gives what it prints.
    pub fn control(&self, arguments: &[&str]) -> String {
        run(self.client("pactl").args(arguments))
    }
}
