//! kamailio as registrar and proxy, with the digest algorithm of choice.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::authority::Certificate;
use crate::host::program_in;
use crate::netlab::Namespace;
use crate::process::{Process, program};
use crate::sockets::{Transport, listens};
use crate::{Lab, SOON, pause, until};

/// The algorithm of its challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// RFC 2617.
    Md5,
    /// RFC 8760.
    Sha256,
}

const SIP_PORT: u16 = 5060;
const TLS_PORT: u16 = 5061;
/// Files of its directory.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A running registrar; its users are `alice` and `bob`, their passwords `alice-secret` and `bob-secret`.
#[derive(Debug)]
pub struct Kamailio {
    /// Where it listens: for datagrams and TCP on port 5060, for TLS, if at all, on port 5061.
    pub address: Ipv4Addr,
    definitions: Vec<String>,
    /// The namespace that it runs in.
    host: Option<String>,
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
        Self::start_at(lab, digest, lab.address(), None).await
    }

    /// Starts one at an address of [`Lab::address`], which takes TLS too where it has a certificate.
    pub async fn start_at(
        lab: &Lab,
        digest: Digest,
        address: Ipv4Addr,
        certificate: Option<&Certificate>,
    ) -> Self {
        let directory = lab.directory("kamailio");
        if let Some(certificate) = certificate {
            std::fs::write(directory.join(CERTIFICATE), &certificate.chain).unwrap();
            std::fs::write(directory.join(KEY), &certificate.key).unwrap();
        }
        let mut definitions = Vec::new();
        if digest == Digest::Sha256 {
            definitions.push("SHA256".to_owned());
        }
        if certificate.is_some() {
            for (name, file) in [("CERTIFICATE", CERTIFICATE), ("KEY", KEY)] {
                definitions.push(format!("{name}=\"{}\"", directory.join(file).display()));
            }
        }
        Self::run(address, definitions, None, directory).await
    }

    /// Starts one that binds the flows of registrations and answers STUN (RFC 5626).
    pub async fn start_with_flows(lab: &Lab, address: Ipv4Addr) -> Self {
        Self::run(address, vec!["FLOWS".to_owned()], None, lab.directory("kamailio")).await
    }

    /// Starts one on a host of the NAT laboratory. It answers where requests come from, and reaches its users there.
    pub async fn start_on(lab: &Lab, digest: Digest, host: &Namespace, address: Ipv4Addr) -> Self {
        let mut definitions = vec!["BEHIND_NAT".to_owned()];
        if digest == Digest::Sha256 {
            definitions.push("SHA256".to_owned());
        }
        Self::run(address, definitions, Some(host.name().to_owned()), lab.directory("kamailio")).await
    }

    async fn run(
        address: Ipv4Addr,
        definitions: Vec<String>,
        host: Option<String>,
        directory: PathBuf,
    ) -> Self {
        let process = start(address, &definitions, host.as_deref(), &directory).await;
        Self { address, definitions, host, directory, process }
    }

    /// Ends it as a crash does: all registrations are forgotten.
    pub fn crash(&mut self) {
        self.process.cut();
    }

    /// Starts it again after [`crash`](Self::crash).
    pub async fn revive(&mut self) {
        self.process = start(self.address, &self.definitions, self.host.as_deref(), &self.directory).await;
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

async fn start(address: Ipv4Addr, definitions: &[String], host: Option<&str>, directory: &Path) -> Process {
    let process = serve("kamailio.cfg", host, address, definitions, directory).await;
    let secured = definitions.iter().any(|definition| definition.starts_with("CERTIFICATE"));
    let port = if secured { TLS_PORT } else { SIP_PORT };
    until("kamailio takes connections", SOON, async || {
        listens(process.id(), Transport::Tcp, Some(address), port).then_some(())
    })
    .await;
    process
}

/// Runs kamailio, in a namespace or here, with a configuration of `tests/interop` and definitions for it, until it
/// listens.
pub(crate) async fn serve(
    config: &str,
    host: Option<&str>,
    address: Ipv4Addr,
    definitions: &[impl AsRef<str>],
    directory: &Path,
) -> Process {
    let log = directory.join("log");
    // What was said before a crash is not to be taken for what is said after it.
    let _ = std::fs::remove_file(&log);
    let mut command = match host {
        Some(host) => program_in(host, "/usr/sbin/kamailio"),
        None => program("/usr/sbin/kamailio"),
    };
    // Not a daemon, log to standard error, little memory.
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(interop(config));
    command.arg("-Y").arg(directory).arg("-w").arg(directory);
    command.arg("-A").arg(format!("ADDRESS={address}"));
    for definition in definitions {
        command.args(["-A", definition.as_ref()]);
    }
    let mut process = Process::start("kamailio", command, &log);
    for _ in 0..300 {
        assert!(process.ended().is_none(), "kamailio does not start:\n{}", process.output());
        if listens(process.id(), Transport::Udp, Some(address), SIP_PORT) {
            return process;
        }
        pause(0.02).await;
    }
    panic!("kamailio does not listen:\n{}", process.output());
}
