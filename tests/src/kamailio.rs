//! kamailio as registrar and proxy, with the digest algorithm of choice.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::process::{Process, program};
use crate::{Lab, pause};

/// The algorithm of its challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// RFC 2617.
    Md5,
    /// RFC 8760.
    Sha256,
}

/// A running registrar; its users are `alice` and `bob`, their passwords `alice-secret` and `bob-secret`.
#[derive(Debug)]
pub struct Kamailio {
    /// Where it listens, on port 5060.
    pub address: Ipv4Addr,
    digest: Digest,
    directory: PathBuf,
    process: Process,
}

/// A file of the sources' directory `tests/interop`.
pub fn interop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

impl Kamailio {
    /// Starts one at an address of its own.
    pub async fn start(lab: &Lab, digest: Digest) -> Self {
        let address = lab.address();
        let directory = lab.directory("kamailio");
        let process = start(address, digest, &directory).await;
        Self { address, digest, directory, process }
    }

    /// Ends it as a crash does: all registrations are forgotten.
    pub fn crash(&mut self) {
        self.process.cut();
    }

    /// Starts it again after [`crash`](Self::crash).
    pub async fn revive(&mut self) {
        self.process = start(self.address, self.digest, &self.directory).await;
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// The lines of a voipd configuration for one of its users.
    pub fn account(&self, user: &str) -> String {
        let address = self.address;
        format!(
            "name = \"{user}\"\naddress = \"sip:{user}@{address}\"\npassword = \"{user}-secret\"\nrealm = \"voipd.test\""
        )
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.log().contains("MALFORMED") {
            panic!("kamailio was sent a malformed message:\n{}", self.log());
        }
    }
}

async fn start(address: Ipv4Addr, digest: Digest, directory: &Path) -> Process {
    let sha_256: &[&str] = if digest == Digest::Sha256 { &["SHA256"] } else { &[] };
    serve("kamailio.cfg", address, sha_256, directory).await
}

/// Runs kamailio with a configuration of `tests/interop` and definitions for it, until it listens.
pub(crate) async fn serve(
    config: &str,
    address: Ipv4Addr,
    definitions: &[impl AsRef<str>],
    directory: &Path,
) -> Process {
    let log = directory.join("log");
    // What was said before a crash is not to be taken for what is said after it.
    let _ = std::fs::remove_file(&log);
    let mut command = program("/usr/sbin/kamailio");
    // Not a daemon, log to standard error, little memory.
    command.args(["-DD", "-E", "-m", "32", "-M", "4", "-f"]).arg(interop(config));
    command.arg("-Y").arg(directory).arg("-w").arg(directory);
    command.arg("-A").arg(format!("ADDRESS={address}"));
    for definition in definitions {
        command.args(["-A", definition.as_ref()]);
    }
    let mut process = Process::start("kamailio", command, &log);
    for _ in 0..300 {
        assert!(process.ended().is_none(), "kamailio does not start:\n{}", process.output());
        if listens(address) {
            return process;
        }
        pause(0.02).await;
    }
    panic!("kamailio does not listen:\n{}", process.output());
}

/// Whether somebody has UDP port 5060 of an address.
pub fn listens(address: Ipv4Addr) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let wanted = format!("{:08X}:{:04X}", u32::from(address).swap_bytes(), 5060);
    sockets.lines().any(|line| line.split_whitespace().nth(1) == Some(&wanted))
}
