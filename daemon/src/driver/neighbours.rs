//! Neighbours: what is found on the local network is told to the agent and the bus.

use tokio::sync::mpsc;
use voipd_agent::Neighbour;

use super::Driver;
use crate::api::Update;
use crate::neighbours::{NeighbourConfig, Neighbours};

impl Driver {
    /// Begins to announce and to search, where the configuration wants it.
    pub(super) fn find_neighbours(
        &self,
        config: &NeighbourConfig,
        found: mpsc::UnboundedSender<Vec<Neighbour>>,
    ) -> Option<Neighbours> {
        let (port, number) = (self.mappings.sip_port(), self.mappings.number());
        Neighbours::start(config, port, number, found, &self.doctor.neighbours)
    }

    pub(super) fn neighbours_found(&mut self, neighbours: Vec<Neighbour>) {
        log::debug!(
            "neighbours: {}",
            neighbours.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        self.agent.set_neighbours(neighbours.clone());
        self.tell(Update::Neighbours(neighbours));
    }
}
