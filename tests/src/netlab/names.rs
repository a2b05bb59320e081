//! dnsmasq on a host: a name server with the records of a zone.

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::Namespace;
use crate::process::Process;
use crate::sockets::{Transport, listens};
use crate::{Lab, SOON, until};

/// A running name server.
#[derive(Debug)]
pub struct NameServer {
    process: Process,
}

impl NameServer {
    /// Starts one at port 53 of an address. The records are written as in a zone file (RFC 1035), with whole names, one a
    /// line: A, SRV and NAPTR. It knows no others.
    pub async fn start(lab: &Lab, host: &Namespace, address: Ipv4Addr, zone: &str) -> Self {
        let directory = lab.directory("dnsmasq");
        let mut config = format!(
            "keep-in-foreground\nno-resolv\nno-hosts\nbind-interfaces\nlisten-address={address}\nport=53\n\
             log-queries\nlog-facility=-\npid-file\nuser\n\
             local=/#/\n"
        );
        for line in zone.lines().filter(|line| !line.trim().is_empty()) {
            writeln!(config, "{}", option(line)).unwrap();
        }
        let file = directory.join("dnsmasq.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = host.program("dnsmasq");
        command.arg(format!("--conf-file={}", file.display()));
        let mut process = Process::start("dnsmasq", command, &directory.join("log"));
        until("the name server listens", SOON, async || {
            assert!(process.ended().is_none(), "dnsmasq does not start:\n{}", process.output());
            listens(process.id(), Transport::Udp, Some(address), 53).then_some(())
        })
        .await;
        Self { process }
    }

    /// Its log, with every question.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// A record as dnsmasq's configuration writes it.
fn option(line: &str) -> String {
    // It knows names without the dot at their end, and texts without quotation marks.
    let fields: Vec<&str> =
        line.split_whitespace().map(|field| field.trim_matches('"').trim_end_matches('.')).collect();
    match fields[..] {
        [name, "IN", "A", address] => format!("host-record={name},{address}"),
        [name, "IN", "SRV", priority, weight, port, target] => {
            format!("srv-host={name},{target},{port},{priority},{weight}")
        }
        [name, "IN", "NAPTR", order, preference, flags, service, pattern, replacement] => {
            format!("naptr-record={name},{order},{preference},{flags},{service},{pattern},{replacement}")
        }
        _ => panic!("not a record that is known here: {line}"),
    }
}
