//! A network namespace: one host of the laboratory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::{NAMESPACES, inside, locks, number, program_in};
use crate::process::program;

/// The lock files' kind, and how the namespaces' names begin.
const KIND: &str = "netlab";

/// One host. It is removed on drop, with every process that is still in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    _laboratory: Arc<Laboratory>,
}

/// The right to namespaces with a number in their names; the last of them to go gives it back.
#[derive(Debug)]
pub(super) struct Laboratory {
    number: u8,
    _lock: File,
}

impl Laboratory {
    /// One that nobody else has. What killed tests left is removed.
    pub(super) fn new() -> Arc<Self> {
        sweep();
        let (number, lock) = number(KIND);
        Arc::new(Self { number, _lock: lock })
    }
}

impl Namespace {
    /// A new host without addresses. IPv6 is off, so that nothing finds a way around the NAT.
    pub(super) fn new(laboratory: &Arc<Laboratory>, role: &str) -> Self {
        let name = format!("voipd-{KIND}-{}-{role}", laboratory.number);
        let namespace = Self { name, _laboratory: Arc::clone(laboratory) };
        remove(&namespace.name);
        feed(program("ip").args(["netns", "add", &namespace.name]), "");
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        namespace.ip("link set lo up\n");
        namespace
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command for a program on this host.
    pub fn program(&self, name: impl AsRef<OsStr>) -> Command {
        program_in(&self.name, name)
    }

    /// Does something on this host, such as opening a socket, which then belongs to it for good.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.name, work)
    }

    /// Runs lines of `ip`, without the word itself.
    pub fn ip(&self, lines: &str) {
        feed(program("ip").args(["-n", &self.name, "-batch", "-"]), lines);
    }

    /// Loads a set of nftables rules.
    pub fn nft(&self, rules: &str) {
        feed(self.program("nft").args(["-f", "-"]), rules);
    }

    /// Forgets all connections, as a router does that is switched off and on.
    pub fn forget_connections(&self) {
        feed(self.program("conntrack").args(["-F"]), "");
    }

    /// Sets one of the kernel's settings of this host; `name` is a path below `/proc/sys`.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{name}");
        self.inside(|| fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    pub(super) fn enable_ipv6(&self) {
        self.sysctl("net/ipv6/conf/all/disable_ipv6", "0");
        self.sysctl("net/ipv6/conf/default/disable_ipv6", "0");
    }

    /// Makes a cable from an interface of this host to one of another.
    pub(super) fn join(&self, interface: &str, other: &Self, its: &str) {
        self.ip(&format!("link add {interface} type veth peer name {its} netns {}\n", other.name));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace, if it is there, with the processes in it: those outlive a test that was killed which a server
/// has started, and they would keep the namespace alive.
fn remove(name: &str) {
    if fs::exists(format!("{NAMESPACES}/{name}")).is_ok_and(|there| !there) {
        return;
    }
    let processes = program("ip").args(["netns", "pids", name]).output().unwrap();
    for process in String::from_utf8_lossy(&processes.stdout).split_whitespace() {
        // It may end by itself meanwhile.
        let _ = kill(Pid::from_raw(process.parse().unwrap()), Signal::SIGKILL);
    }
    let _ = program("ip").args(["netns", "delete", name]).output();
}

/// The right to a number, as a laboratory has it: until the file is closed, nobody removes what bears it.
pub fn own(number: u8) -> File {
    let lock = File::create(locks().join(format!("{KIND}-{number}"))).unwrap();
    lock.lock().unwrap();
    lock
}

/// Removes the namespaces of laboratories whose owner is gone.
fn sweep() {
    let Ok(names) = fs::read_dir(NAMESPACES) else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let number = name.strip_prefix(&format!("voipd-{KIND}-")).and_then(|rest| rest.split('-').next());
        let Some(number) = number else { continue };
        let lock = File::create(locks().join(format!("{KIND}-{number}"))).unwrap();
        if lock.try_lock().is_ok() {
            remove(&name);
        }
    }
}

/// Runs a command with a text as its input; panics when it fails.
fn feed(command: &mut Command, text: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    // A program that fails early closes its input: its message tells more than this.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {error}\n{text}", output.status);
}
