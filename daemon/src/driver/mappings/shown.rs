//! Port mappings and pinholes as the bus shows them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use voipd_nat::mapping::{MappingId, MappingView, PinholeView, Protocol};

use crate::api::Update;
use crate::api::mappings as api;
use crate::driver::{Driver, unix_micros};

impl Driver {
    /// A number for a pinhole, which is shown beside mappings.
    pub(in crate::driver) fn pinhole_number(&mut self) -> MappingId {
        self.mappings.mapper.next_number()
    }

    pub(in crate::driver) fn publish_mappings(&mut self, now: Instant) {
        let views: Vec<MappingView> = self.mappings.mapper.views().collect();
        let pinholes: Vec<PinholeView> = self.door.views().collect();
        if views == self.mappings.told && pinholes == self.mappings.told_pinholes {
            return;
        }
        let unix = unix_micros() / 1_000_000;
        let expires = |at: Instant| unix + at.saturating_duration_since(now).as_secs();
        let shown = views.iter().map(|view| api::MappingView {
            id: view.id.0,
            transport: view.want.transport,
            internal_address: view.local.map(IpAddr::V4),
            internal_port: view.want.internal_port,
            external: view.external.map(SocketAddr::V4),
            purpose: view.want.purpose,
            call: self.mappings.call_of(view.id),
            by: view.protocol,
            expires: view.expires.map(expires),
            reason: view.problem.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        let let_in = pinholes.iter().map(|view| api::MappingView {
            id: view.id.0,
            transport: view.transport,
            internal_address: view.address.map(IpAddr::V6),
            internal_port: view.port,
            external: view.open_until.and(view.address).map(|ip| (ip, view.port).into()),
            purpose: view.purpose,
            call: self.door.call_of(view.id),
            by: view.open_until.map(|_| Protocol::Pcp),
            expires: view.open_until.map(expires),
            reason: view.problem.map(|problem| problem.to_string()).unwrap_or_default(),
        });
        let mut all: Vec<api::MappingView> = shown.chain(let_in).collect();
        all.sort_by_key(|view| view.id);
        let update = Update::PortMappings(all);
        (self.mappings.told, self.mappings.told_pinholes) = (views, pinholes);
        self.tell(update);
    }
}
