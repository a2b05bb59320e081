//! voipctl as a script runs it: exit code and both outputs are kept apart, and it is never waited for without end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::{SOON, pause};

/// How long a command may take that does something and ends.
const END: Duration = Duration::from_secs(30);

/// A running `voipctl`. It is ended with the test.
#[derive(Debug)]
pub struct Voipctl {
    line: String,
    child: Child,
    input: Option<ChildStdin>,
    directory: TempDir,
}

impl Voipctl {
    /// Starts a command of [`Voipd::voipctl`](crate::Voipd::voipctl), or one like it.
    pub fn start(mut command: Command) -> Self {
        let directory = tempfile::Builder::new().prefix("voipctl.").tempdir().unwrap();
        let file = |name| File::create(directory.path().join(name)).unwrap();
        command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        Self { line: words.join(" "), child, input, directory }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input and closes that.
    pub fn is_told(&mut self, text: &str) {
        self.input.take().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> String {
        self.read("out")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    /// Waits until its standard output holds a text.
    pub async fn says(&mut self, text: &str) {
        let end = Instant::now() + SOON;
        loop {
            let status = self.child.try_wait().unwrap();
            let output = self.output();
            if output.contains(text) {
                return;
            }
            let errors = self.read("err");
            assert!(
                status.is_none() && Instant::now() < end,
                "{} has not said '{text}' ({status:?}):\n{output}\n{errors}",
                self.line
            );
            pause(0.01).await;
        }
    }

    /// Sends it a signal, once it is voipctl and not what prepares it (see [`program`](crate::process::program)).
    pub fn signal(&self, signal: Signal) {
        let process = self.child.id();
        let end = Instant::now() + SOON;
        let is_voipctl =
            || std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == "voipctl\n");
        while !is_voipctl() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(i32::try_from(process).unwrap()), signal);
    }

    /// Waits until it ends by itself.
    pub async fn ends(mut self) -> Ended {
        // What reads to the end of its input reads nothing.
        self.input = None;
        let end = Instant::now() + END;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let (line, output) = (&self.line, self.output());
            assert!(Instant::now() < end, "{line} still runs after {END:?}:\n{output}{}", self.read("err"));
            pause(0.005).await;
        };
        // A signal's number as shells show it.
        let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap();
        Ended { line: self.line.clone(), code, output: self.output(), errors: self.read("err") }
    }
}

impl Drop for Voipctl {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a `voipctl` ended, and what it wrote.
#[derive(Clone, Debug)]
pub struct Ended {
    line: String,
    /// Exit code; 128 and the signal's number after a signal.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Ended {
    /// Panics unless it succeeded without a complaint; gives its output.
    #[track_caller]
    pub fn well(&self) -> &str {
        assert_eq!((self.code, self.errors.as_str()), (0, ""), "{}: {}", self.line, self.output);
        &self.output
    }

    /// Panics unless it succeeded without a complaint and without output.
    #[track_caller]
    pub fn silent(&self) {
        assert_eq!(self.well(), "", "{}", self.line);
    }

    /// The JSON document of its output, whatever the exit code.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output)
            .unwrap_or_else(|error| panic!("{}: {error}:\n{}\n{}", self.line, self.output, self.errors))
    }

    /// Panics unless it failed with a code and one complaint in which all these words stand.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}: {}\n{}", self.line, self.output, self.errors);
        assert_eq!(self.output, "", "{}", self.line);
        // Clap complains in its own form.
        let own = self.errors.starts_with("voipctl: ") || self.errors.starts_with("error: ");
        assert!(own && self.errors.split_whitespace().count() > 5, "{}: {}", self.line, self.errors);
        assert!(!self.errors.contains("panicked"), "{}: {}", self.line, self.errors);
        for word in words {
            assert!(self.errors.contains(word), "{}: no '{word}' in: {}", self.line, self.errors);
        }
    }
}
