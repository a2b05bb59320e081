//! Telephones of the local network that announce themselves: bare names that the built-in account for calls without a
//! server can call. How they are found is the daemon's business.

use std::net::SocketAddr;

use voipd_sip::Uri;
use voipd_sip::uri::{Host, SipUri};

use crate::agent::Agent;
use crate::dialplan::Number;
use crate::target::Target;

/// A telephone that has announced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What it calls itself; fit for people's eyes.
    pub name: String,
    /// Where it takes SIP over UDP.
    pub address: SocketAddr,
}

impl Agent {
    /// The telephones of the local network that can be called by name from now on.
    pub fn set_neighbours(&mut self, neighbours: Vec<Neighbour>) {
        self.neighbours = neighbours;
    }

    /// Whom a bare name means on the local network. Nothing that could be a number, an address or a host is a name, so that
    /// nobody on the network can put himself in the way of those.
    pub(crate) fn neighbour(&self, text: &str) -> Option<Target> {
        let text = text.trim();
        if Number::read(text).is_some() || text.contains(['@', '.', ':', '[']) {
            return None;
        }
        let fits = |neighbour: &&Neighbour| neighbour.name.to_lowercase() == text.to_lowercase();
        let neighbour = self.neighbours.iter().find(fits)?;
        let uri = SipUri::new(None, Host::Ip(neighbour.address.ip()), Some(neighbour.address.port()));
        Some(Target { uri: Uri::Sip(uri), emergency: false })
    }
}
