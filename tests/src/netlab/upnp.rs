//! miniupnpd on a router: port mappings by UPnP, NAT-PMP and PCP.

use std::fmt::Write;

use super::Router;
use crate::process::Process;
use crate::sockets::{Transport, listens};
use crate::{Lab, SOON, until};

/// A protocol that asks a router for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Internet Gateway Device.
    Upnp,
    /// RFC 6886.
    NatPmp,
    /// RFC 6887.
    Pcp,
}

/// A running service on a router.
#[derive(Debug)]
pub struct Miniupnpd {
    process: Process,
}

impl Miniupnpd {
    /// Starts it with some of the protocols: the router takes no notice of others.
    pub async fn start(lab: &Lab, router: &Router, protocols: &[Protocol]) -> Self {
        Self::start_with(lab, router, protocols, "").await
    }

    /// The same, with further lines of its configuration, such as an `ext_ip` that is not the router's address.
    pub async fn start_with(lab: &Lab, router: &Router, protocols: &[Protocol], lines: &str) -> Self {
        let directory = lab.directory(&format!("{}-upnp", router.namespace().name()));
        let speaks = |protocol| protocols.contains(&protocol);
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let (wan, lan) = (Router::WAN, Router::LAN);
        let mut config = format!(
            "ext_ifname={wan}\nlistening_ip={lan}\nhttp_port=5000\nsecure_mode=yes\nmin_lifetime=1\n\
             system_uptime=no\nuuid=5f2f5c0e-6b1c-4d35-9b0e-3f1c8f2a7d11\n\
             upnp_table_name=nat\nupnp_nat_table_name=mappings\nupnp_forward_chain=forward_ports\n\
             upnp_nat_chain=inbound_ports\nupnp_nat_postrouting_chain=outbound_ports\n\
             allow 1024-65535 192.168.0.0/16 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        );
        let by_datagrams = speaks(Protocol::NatPmp) || speaks(Protocol::Pcp);
        config.push_str(lines);
        writeln!(config, "enable_upnp={}", yes(speaks(Protocol::Upnp))).unwrap();
        writeln!(config, "enable_natpmp={}", yes(by_datagrams)).unwrap();
        // Both share a port and begin with their version, 0 and 2; the program has one switch for both.
        let mut unspoken = String::new();
        for (protocol, version) in [(Protocol::NatPmp, 0), (Protocol::Pcp, 2)] {
            if !speaks(protocol) {
                writeln!(unspoken, "udp dport 5351 @th,64,8 {version} drop").unwrap();
            }
        }
        router.namespace().nft(&format!(
            "table inet mappings {{
                chain input {{
                    type filter hook input priority -10;
                    {unspoken}
                }}
                chain inbound {{ type nat hook prerouting priority -101; policy accept; jump inbound_ports; }}
                chain inbound_ports {{ }}
                chain outbound {{ type nat hook postrouting priority 99; policy accept; jump outbound_ports; }}
                chain outbound_ports {{ }}
            }}
            add chain inet nat forward_ports
            insert rule inet nat forward jump forward_ports\n"
        ));
        let file = directory.join("miniupnpd.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = router.namespace().program("miniupnpd");
        command.arg("-d").arg("-f").arg(&file).arg("-P").arg(directory.join("pid"));
        let mut process = Process::start("miniupnpd", command, &directory.join("log"));
        let port = if by_datagrams { 5351 } else { 1900 };
        until("miniupnpd listens", SOON, async || {
            assert!(process.ended().is_none(), "miniupnpd does not start:\n{}", process.output());
            listens(process.id(), Transport::Udp, None, port).then_some(())
        })
        .await;
        Self { process }
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
