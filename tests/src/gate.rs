//! Two kamailio servers in a row: an edge proxy that wants the password, and behind it a home server that wants it, too.

use std::net::Ipv4Addr;

use crate::Lab;
use crate::kamailio::serve;
use crate::process::Process;

/// The two servers. Their users are `alice` and `bob`, their passwords `alice-secret` and `bob-secret`; the edge is the
/// realm `edge.test` with SHA-256, the home server `home.test` with MD5.
#[derive(Debug)]
pub struct Gate {
    /// Where the edge listens, on port 5060.
    pub edge: Ipv4Addr,
    /// Where the home server listens, on port 5060.
    pub home: Ipv4Addr,
    edge_process: Process,
    home_process: Process,
}

impl Gate {
    /// Starts both.
    pub async fn start(lab: &Lab) -> Self {
        let (edge, home) = (lab.address(), lab.address());
        let edge_definitions = ["EDGE".to_owned(), format!("PEER=\"{home}\"")];
        let home_definitions = ["HOME_SERVER".to_owned(), format!("PEER=\"{edge}\"")];
        let edge_process = serve("gate.cfg", None, edge, &edge_definitions, &lab.directory("edge")).await;
        let home_process = serve("gate.cfg", None, home, &home_definitions, &lab.directory("home")).await;
        Self { edge, home, edge_process, home_process }
    }

    /// The edge's log.
    pub fn edge_log(&self) -> String {
        self.edge_process.output()
    }

    /// The home server's log.
    pub fn home_log(&self) -> String {
        self.home_process.output()
    }

    /// The lines of a voipd configuration for one of the users, who goes by the edge.
    pub fn account(&self, user: &str) -> String {
        let Self { edge, home, .. } = self;
        format!(
            "name = \"{user}\"\naddress = \"sip:{user}@{home}\"\noutbound-proxy = \"sip:{edge}\"\n\
             password = \"{user}-secret\"\nrealm = [\"edge.test\", \"home.test\"]"
        )
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for log in [self.edge_log(), self.home_log()] {
            if !std::thread::panicking() && log.contains("MALFORMED") {
                panic!("a server was sent a malformed message:\n{log}");
            }
        }
    }
}
