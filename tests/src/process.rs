//! Programs that a test starts: each is ended with its test, also when the test panics or is killed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a program may take to end when it is asked to.
const END: Duration = Duration::from_secs(5);

/// A command for a program that dies with the thread that starts it (PR_SET_PDEATHSIG), so that nothing is left over
/// even when the test runner is killed. Signals mean to it what they mean to a program in a terminal, however the runner
/// itself was started (`nohup`, a shell's background).
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,QUIT", "setpriv", "--pdeathsig", "KILL", "--"]);
    command.arg(name).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
    command
}

/// The same command for a program that sends sound by its own clock: it runs before everything ordinary, where the
/// system allows it, so that what other programs do on the machine does not show in the sound.
pub fn on_time(command: &Command) -> Command {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    let mut timely = Command::new("chrt");
    timely.args(["--rr", "1"]);
    let allowed = || {
        let mut probe = Command::new("chrt");
        probe.args(["--rr", "1", "true"]).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    if !ALLOWED.get_or_init(allowed) {
        timely = Command::new("env");
    }
    timely.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timely.env(name, value),
            None => timely.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        timely.current_dir(directory);
    }
    timely
}

/// The same for a program that takes that scheduling off when it starts.
pub fn keep_on_time(process: u32) {
    // Refused to who is not root: then the machine has to be idle.
    let _ = Command::new("chrt")
        .args(["--rr", "--pid", "1", &process.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// A running program whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts a command made by [`program`]; both its outputs go to `output`.
    pub fn start(name: &str, mut command: Command, output: &Path) -> Self {
        let file = File::options().create(true).append(true).open(output).unwrap();
        // With what it starts itself, it is a group that can be ended as a whole.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, output: output.to_owned() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until its output holds `text`; panics when it ends before.
    pub async fn says(&mut self, text: &str) {
        let end = Instant::now() + crate::SOON;
        loop {
            let ended = self.ended();
            let output = self.output();
            if output.contains(text) {
                return;
            }
            let name = &self.name;
            assert!(ended.is_none(), "{name} ended ({ended:?}) before it said '{text}':\n{output}");
            assert!(Instant::now() < end, "{name} did not say '{text}':\n{output}");
            crate::pause(0.01).await;
        }
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "{} still runs after {limit:?}:\n{}", self.name, self.output());
            crate::pause(0.01).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself: then there is nothing to tell it.
        let _ = kill(self.pid(), signal);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Asks it to end and waits for that; panics when it does not.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(END).await
    }

    /// Ends it and its children at once, as a power cut does.
    pub fn cut(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.signal(Signal::SIGTERM);
            let end = Instant::now() + END;
            while self.child.try_wait().ok().flatten().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.cut();
        }
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines.len().saturating_sub(120);
            eprintln!("--- the end of what {} said ---\n{}", self.name, lines[tail..].join("\n"));
        }
    }
}

/// Runs a command to its end and gives its standard output; panics when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
