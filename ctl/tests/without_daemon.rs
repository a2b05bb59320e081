//! What voipctl does where no daemon runs, in a bus of its own or without any.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// voipctl with two buses that are not there.
fn voipctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voipctl"));
    command.args(arguments).stdin(Stdio::null());
    for bus in ["DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"] {
        command.env(bus, "unix:path=/nonexistent/bus");
    }
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("voipctl runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    for arguments in
        [&["status"][..], &["call", "sip:echo@127.0.0.1"], &["wait", "ended"], &["monitor", "--json"]]
    {
        let (code, stdout, stderr) = run(&mut voipctl(arguments));
        assert_eq!((code, stdout.as_str()), (3, ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("voipctl: voipd does not run. Start it"), "{stderr}");
        assert!(stderr.contains("systemctl --user start voipd"), "{stderr}");
    }
}

#[test]
fn a_chosen_bus_that_is_not_there_is_named() {
    let (code, _, stderr) = run(&mut voipctl(&["--session", "status"]));
    assert_eq!(code, 3);
    assert!(stderr.starts_with("voipctl: the session bus cannot be reached: "), "{stderr}");
    assert!(stderr.contains("DBUS_SESSION_BUS_ADDRESS is set"), "{stderr}");
    let (code, _, stderr) = run(&mut voipctl(&["--system", "status"]));
    assert_eq!(code, 3);
    assert!(stderr.starts_with("voipctl: the system bus cannot be reached: "), "{stderr}");
    assert!(stderr.contains("sudo systemctl start dbus"), "{stderr}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["dial"][..],
        &["call"],
        &["hold", "seven"],
        &["--system", "--session", "calls"],
        &["--system", "calls", "--session"],
    ] {
        let (code, _, stderr) = run(&mut voipctl(arguments));
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let (code, stdout, _) = run(&mut voipctl(&["--help"]));
    assert_eq!(code, 0);
    for line in
        ["  0  done", "  3  voipd does not run", " 10  the peer is busy", " 16  user name or password"]
    {
        assert!(stdout.contains(line), "{line}\n{stdout}");
    }
}

/// A directory where voipctl can be linked to.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// A voipd that writes down its arguments and ends with a code of its own, in a directory with voipctl.
fn beside(directory: &Path, code: u8) -> Command {
    let voipctl = directory.join("voipctl");
    // Nothing that is to be run is written by this process: while another test's child is being started, it holds
    // the file open, and a file that is open for writing cannot be run.
    if !voipctl.exists() {
        std::fs::hard_link(env!("CARGO_BIN_EXE_voipctl"), &voipctl).expect("linked");
    }
    let script = format!("#!/bin/sh\necho \"$@\"\necho voipd.toml:3:1: wrong >&2\nexit {code}\n");
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", &script])
        .arg(directory.join("voipd"))
        .status();
    assert!(written.expect("a shell").success());
    let mut command = Command::new(voipctl);
    for bus in ["DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"] {
        command.env(bus, "unix:path=/nonexistent/bus");
    }
    command
}

#[test]
fn config_check_is_voipds_judgement() {
    let directory = directory();
    let mut good = beside(directory.path(), 0);
    // Where no daemon runs, the one is meant that this user would start.
    let own = if rustix::process::geteuid().is_root() { "--system" } else { "--session" };
    assert_eq!(
        run(good.args(["config", "check"])),
        (0, format!("{own} --check-config\n"), "voipd.toml:3:1: wrong\n".into())
    );
    let mut bad = beside(directory.path(), 7);
    let (code, stdout, _) = run(bad.args(["--session", "config", "check", "my voipd.toml"]));
    assert_eq!((code, stdout.as_str()), (7, "--session --check-config --config my voipd.toml\n"));
}

#[test]
fn config_check_without_voipd_says_so() {
    let directory = directory();
    let mut command = beside(directory.path(), 0);
    std::fs::remove_file(directory.path().join("voipd")).expect("removed");
    let (code, _, stderr) = run(command.env("PATH", "/nonexistent").args(["config", "check"]));
    assert_eq!(code, 1);
    assert!(stderr.starts_with("voipctl: cannot run voipd"), "{stderr}");
}

/// A bus where nobody owns org.voipd, but where a service file would start one.
struct PrivateBus {
    daemon: std::process::Child,
    directory: tempfile::TempDir,
}

impl PrivateBus {
    /// `None` where it cannot be started.
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let place = directory.path().display();
        let services = directory.path().join("services");
        std::fs::create_dir(&services).ok()?;
        let service = format!("[D-BUS Service]\nName=org.voipd\nExec=/usr/bin/touch {place}/started\n");
        std::fs::write(services.join("org.voipd.service"), service).ok()?;
        let config = directory.path().join("bus.conf");
        std::fs::write(
            &config,
            format!(
                "<busconfig><type>session</type><listen>unix:path={place}/bus</listen><servicedir>{place}/services</servicedir>\
                 <policy context='default'><allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/>\
                 </policy></busconfig>"
            ),
        )
        .ok()?;
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        // The address is printed once clients can connect.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(daemon.stdout.take()?), &mut line).ok()?;
        Some(Self { daemon, directory })
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn asking_for_a_daemon_starts_none() {
    let bus = PrivateBus::start().expect("a bus: dbus-daemon is to be installed");
    for (arguments, words) in [
        (&["status"][..], "voipd does not run."),
        (&["--session", "status"], "voipd does not run on the session bus."),
    ] {
        let (code, _, stderr) = run(voipctl(arguments).env("DBUS_SESSION_BUS_ADDRESS", bus.address()));
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    assert!(!bus.directory.path().join("started").exists(), "voipctl started a service");
}
