//! What the daemon knows of the way through NAT, kept together for `org.voipd.Nat1`.

use crate::api::Update;
use crate::api::nat::{NatState, NatView, ServerState, ServerView};
use crate::config::{NatConfig, StunServer};
use crate::network::Snapshot;

use super::Driver;

/// The way through NAT as far as it is known.
pub(super) struct Nat {
    servers: Vec<StunServer>,
    /// As it was told last.
    told: Option<NatView>,
}

impl Nat {
    pub(super) fn new(config: NatConfig) -> Self {
        Self { servers: config.stun, told: None }
    }

    fn view(&self, network: &Snapshot) -> NatView {
        let server = |server: &StunServer| ServerView {
            name: server.to_string(),
            source: "configuration".to_owned(),
            address: None,
            state: ServerState::Unknown,
            reason: String::new(),
            rtt: None,
            public: None,
        };
        NatView {
            network: network.state(),
            local_addresses: network.addresses(),
            state: NatState::Unknown,
            reason: "no server was asked for the public address".to_owned(),
            paths: Vec::new(),
            servers: self.servers.iter().map(server).collect(),
        }
    }

    /// The view, when it is not as it was told.
    fn changed_view(&mut self, network: &Snapshot) -> Option<NatView> {
        let view = self.view(network);
        if self.told.as_ref() == Some(&view) {
            return None;
        }
        self.told = Some(view.clone());
        Some(view)
    }
}

impl Driver {
    /// Tells the bus what has changed.
    pub(super) fn publish_nat(&mut self) {
        if let Some(view) = self.nat.changed_view(&self.network) {
            self.tell(Update::Nat(Box::new(view)));
        }
    }
}
