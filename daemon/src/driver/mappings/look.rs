//! What the router says of itself: asked before anybody needs a port, and for the doctor.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use tokio::sync::oneshot;
use voipd_nat::mapping::{Gateway, Refusal, RequestId};

use super::Mappings;
use crate::doctor::RouterFacts;
use crate::driver::Driver;

impl Mappings {
    /// Whether a port that this router opens could lead to us: who listens on the loopback alone needs none.
    pub(super) fn serves(&self, gateway: Option<Gateway>) -> bool {
        let local = gateway.map(|gateway| IpAddr::V4(gateway.local));
        self.sip.iter().any(|(_, at)| at.ip().is_unspecified() || Some(at.ip()) == local)
    }

    /// What is to be known of the router now.
    fn facts(&self) -> RouterFacts {
        let gateway = self.mapper.gateway();
        RouterFacts {
            enabled: self.enabled,
            gateway: gateway.filter(|_| self.serves(gateway)),
            spoken: self.mapper.surveyed().0.clone(),
            mappings: self.mapper.views().collect(),
            ..RouterFacts::default()
        }
    }
}

impl Driver {
    pub(in crate::driver) fn router_seen(&mut self, id: RequestId, seen: Result<Option<Ipv4Addr>, Refusal>) {
        let now = Instant::now();
        self.mappings.mapper.handle_seen(now, id, seen);
        self.serve_mappings(now);
    }

    /// What the router says of itself, asked anew.
    pub(in crate::driver) fn look_at_router(&mut self) -> oneshot::Receiver<RouterFacts> {
        let now = Instant::now();
        let (tell, told) = oneshot::channel();
        if self.mappings.enabled {
            self.mappings.look_around(now, false);
            if self.mappings.serves(self.mappings.mapper.gateway()) {
                self.mappings.mapper.look(now);
            }
        }
        self.mappings.curious.push(tell);
        self.serve_mappings(now);
        told
    }

    /// The network has changed: the way out may be another one. If this machine has `slept`, what the router had for us may
    /// be gone.
    pub(in crate::driver) fn mappings_moved(&mut self, slept: bool) {
        self.mappings.stale = true;
        self.mappings.slept |= slept;
        self.review_mappings();
    }

    /// Tells those who asked, once everything was said.
    pub(super) fn satisfy_the_curious(&mut self) {
        if !self.mappings.curious.is_empty() && !self.mappings.mapper.surveyed().1 {
            let (ipv6, pinholes) = (self.door.has_way(), self.door.views().collect());
            let facts = RouterFacts { ipv6, pinholes, ..self.mappings.facts() };
            for tell in self.mappings.curious.drain(..) {
                // Who has gone wants to know nothing.
                let _ = tell.send(facts.clone());
            }
        }
    }
}
