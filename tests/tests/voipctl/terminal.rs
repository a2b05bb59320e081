//! voipctl on a terminal: the live line, its keys, and the question for a password.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use voipd_tests::process::program;
use voipd_tests::voipd::built;
use voipd_tests::{Lab, SOON, Voipd, pause, until};

use super::{at, ctl, echo_at, friend, phone, talk};

/// A terminal with a command in its foreground.
struct Terminal {
    screen: File,
    child: Child,
    shown: String,
}

impl Terminal {
    fn start(voipd: &Voipd, arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut command: Command = program("setsid");
        command.arg("--ctty").arg(built("voipctl")).args(arguments);
        for (name, value) in voipd.voipctl(&[]).get_envs() {
            command.env(name, value.unwrap());
        }
        let end = || pair.slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen: pair.master.into(), child, shown: String::new() }
    }

    /// Waits until it has shown a text since it was last asked.
    async fn shows(&mut self, text: &str) {
        let end = Instant::now() + SOON;
        while !self.shown.contains(text) {
            assert!(Instant::now() < end && self.look(), "'{text}' is not shown: {:?}", self.shown);
            pause(0.01).await;
        }
        self.shown.clear();
    }

    /// Reads what is there; false when nobody can write any more.
    fn look(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.screen.read(&mut bytes) {
                Ok(length) => self.shown.push_str(&String::from_utf8_lossy(&bytes[..length])),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until it takes Ctrl-C itself: before, it would just die of it.
    async fn takes_interrupts(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        until("it takes interrupts", SOON, async || {
            let status = std::fs::read_to_string(&status).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught & (1 << (Signal::SIGINT as i32 - 1)) != 0).then_some(())
        })
        .await;
    }

    /// Are typed characters shown?
    fn echoes(&self) -> bool {
        tcgetattr(&self.screen).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Waits until the command has ended. Gives its exit code and what it showed last.
    async fn ends(&mut self) -> (Option<i32>, String) {
        let end = Instant::now() + 2 * SOON;
        loop {
            self.look();
            if let Some(status) = self.child.try_wait().unwrap() {
                self.look();
                return (status.code(), std::mem::take(&mut self.shown));
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown);
            pause(0.01).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_live_line_shows_the_call_and_its_keys_steer_it() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let mut terminal = Terminal::start(&phone, &["call", &at(&friend)]);
    terminal.shows("Keys: 0-9 * # A-D send digits, m mute, h hold, q hang up").await;
    terminal.shows("ringing").await;
    let call = friend.incoming().await;
    call.accept().await;
    terminal.shows("active  ").await;
    terminal.shows("opus  loss ").await;
    let mut monitor = super::start(&friend, &["monitor"]);
    monitor.says("watching voipd").await;
    terminal.types("5#");
    monitor.says("call 1 digit 5").await;
    monitor.says("call 1 digit #").await;
    terminal.types("m");
    terminal.shows("active, muted").await;
    terminal.types("mh");
    terminal.shows("held, by this side").await;
    terminal.types("1");
    terminal.shows("sending digits is not possible").await;
    terminal.types("h");
    terminal.shows("active  ").await;
    ctl(&friend, &["dtmf", "9"]).await.silent();
    terminal.shows("the peer sent 9").await;
    terminal.types("q");
    let (code, last) = terminal.ends().await;
    assert_eq!(code, Some(0), "{last}");
    assert!(last.contains(": hung up here after ") && last.contains(" packets sent, "), "{last}");
    assert!(terminal.echoes(), "the terminal is as it was");
    assert_eq!(call.ended().await.0, "remote");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn ctrl_c_hangs_up_and_gives_the_terminal_back() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let mut terminal = Terminal::start(&phone, &["call", &echo_at(&friend)]);
    terminal.shows("active").await;
    assert!(!terminal.echoes(), "keys are not shown");
    terminal.types("\u{3}");
    let (code, last) = terminal.ends().await;
    assert_eq!(code, Some(0), "{last}");
    assert!(last.contains(": hung up here after "), "{last}");
    assert!(terminal.echoes(), "the terminal is as it was");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn ctrl_c_ends_a_program_that_has_said_nothing_yet() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    let mut terminal = Terminal::start(&phone, &["audio", &number, "--mode", "inject"]);
    terminal.takes_interrupts().await;
    terminal.types("\u{3}");
    let (code, last) = terminal.ends().await;
    assert_eq!(code, Some(0), "{last}");
    assert_eq!(ctl(&phone, &["calls", "--json"]).await.json()[0]["state"], "active");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn sound_comes_from_no_terminal_and_goes_to_none() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let mut terminal = Terminal::start(&phone, &["call", "sip:a@192.0.2.1", "--audio", "-"]);
    let (code, last) = terminal.ends().await;
    assert_eq!(code, Some(2), "{last}");
    assert!(last.contains("standard input and output are a terminal"), "{last}");
    assert_eq!(ctl(&phone, &["calls"]).await.well(), "There are no calls.\n");
    phone.stop().await;
}

#[tokio::test]
async fn a_password_is_asked_for_and_not_shown() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let add = |name| ["account", "add", name, "--address", "sip:a@192.0.2.1", "--no-register"];
    let mut terminal = Terminal::start(&phone, &add("work"));
    terminal.shows("Password for sip:a@192.0.2.1 (empty for none): ").await;
    assert!(!terminal.echoes(), "what is typed now is a secret");
    terminal.types("geheim\n");
    let (code, last) = terminal.ends().await;
    assert_eq!(code, Some(0), "{last}");
    assert!(last.contains("/org/voipd/account/2") && !last.contains("geheim"), "{last}");
    let has_password =
        async |name| ctl(&phone, &["account", "show", name, "--json"]).await.json()["has_password"].clone();
    assert_eq!(has_password("work").await, true);
    let mut terminal = Terminal::start(&phone, &add("open"));
    terminal.shows("(empty for none): ").await;
    terminal.types("\n");
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(has_password("open").await, false);
    // Ctrl-C adds nothing.
    let mut terminal = Terminal::start(&phone, &add("none"));
    terminal.shows("(empty for none): ").await;
    terminal.types("\u{3}");
    assert_ne!(terminal.ends().await.0, Some(0));
    ctl(&phone, &["account", "show", "none"]).await.fails(1, &["there is no account 'none'"]);
    phone.stop().await;
}
