//! coturn: STUN with two addresses (RFC 5780) and TURN.

use std::net::Ipv4Addr;

use super::Namespace;
use crate::process::Process;
use crate::sockets::{Transport, listens};
use crate::{Lab, SOON, until};

/// A running server. Its users are `alice` and `bob`, their passwords `alice-secret` and `bob-secret`.
#[derive(Debug)]
pub struct Coturn {
    /// Its address; STUN and TURN are on port 3478, for datagrams and connections.
    pub address: Ipv4Addr,
    process: Process,
}

impl Coturn {
    /// Port of STUN and TURN.
    pub const PORT: u16 = 3478;

    /// Starts one on a host, at its addresses; the first is the one where it relays.
    pub async fn start(lab: &Lab, name: &str, host: &Namespace, addresses: &[Ipv4Addr]) -> Self {
        let directory = lab.directory(name);
        let mut command = host.program("turnserver");
        // Without its configuration file, which belongs to the machine.
        command.args(["-n", "--lt-cred-mech", "--realm=voipd.test", "--no-cli", "--no-tls", "--no-dtls"]);
        command.args(["--user=alice:alice-secret", "--user=bob:bob-secret"]);
        command.args(["--min-port=50000", "--max-port=50999", "--log-file=stdout", "--simple-log"]);
        command.arg(format!("--listening-port={}", Self::PORT)).arg(format!("--relay-ip={}", addresses[0]));
        command.arg(format!("--userdb={}", directory.join("turndb").display()));
        command.arg(format!("--pidfile={}", directory.join("pid").display()));
        command.args(addresses.iter().map(|address| format!("--listening-ip={address}")));
        let mut process = Process::start(name, command, &directory.join("log"));
        let address = addresses[0];
        until(&format!("{name} listens"), SOON, async || {
            assert!(process.ended().is_none(), "{name} does not start:\n{}", process.output());
            let at = |transport| listens(process.id(), transport, Some(address), Self::PORT);
            (at(Transport::Udp) && at(Transport::Tcp)).then_some(())
        })
        .await;
        Self { address, process }
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Ends it at once, as a power cut does.
    pub fn cut(&mut self) {
        self.process.cut();
    }
}
