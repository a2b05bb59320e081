//! One mapping that is wanted, and how far it has come.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::{Granted, Lease, MappingId, MappingView, Memory, Problem, Protocol, RequestId, Want};

/// A mapping that is wanted.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) want: Want,
    pub(super) nonce: [u32; 3],
    /// Nobody wants it any more from then on.
    pub(super) ends: Option<Instant>,
    pub(super) state: State,
    /// What was last told.
    pub(super) told: Option<MappingView>,
}

#[derive(Debug)]
pub(super) enum State {
    /// Nothing is under way.
    Waiting(Waiting),
    /// Routers are asked.
    Asking(Race),
    /// It is there.
    Mapped(Mapped),
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// When it is tried again; `None`: when there is a gateway.
    pub(super) at: Option<Instant>,
    pub(super) failures: u32,
    pub(super) problem: Option<Problem>,
}

/// Protocols that run against each other.
#[derive(Debug, Default)]
pub(super) struct Race {
    pub(super) pending: BTreeMap<Protocol, RequestId>,
    /// Attempts that came to nothing before this one.
    pub(super) failures: u32,
    /// The most telling reason why there is no winner yet.
    pub(super) problem: Option<Problem>,
    /// How often another port was asked for.
    pub(super) conflicts: u32,
    /// What could be had for good, if there is nothing better.
    pub(super) permanent: Option<Lease>,
    /// What was wrong before; shown until there is news.
    pub(super) before: Option<Problem>,
}

/// A mapping that is there.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) lease: Lease,
    pub(super) external: SocketAddrV4,
    /// `None`: permanent.
    pub(super) expires: Option<Instant>,
    pub(super) renew_at: Instant,
    pub(super) asked_at: Instant,
    pub(super) pending: Option<RequestId>,
    /// Others that have made the same mapping in the same router: all of them are told when it is not wanted any more.
    pub(super) sharers: Vec<Protocol>,
}

impl Mapped {
    pub(super) fn new(now: Instant, lease: Lease, granted: &Granted, asked: Duration) -> Self {
        let external = granted.external;
        let lease = Lease { external_port: external.port(), ..lease };
        let mut mapped = Self {
            lease,
            external,
            expires: None,
            renew_at: now,
            asked_at: now,
            pending: None,
            sharers: Vec::new(),
        };
        mapped.prolong(now, granted, asked);
        mapped
    }

    /// Takes what the router has granted anew; `asked`: the lease that was asked for. A router that grants a longer one
    /// still hears of us as often.
    pub(super) fn prolong(&mut self, now: Instant, granted: &Granted, asked: Duration) {
        self.external = granted.external;
        self.lease.external_port = granted.external.port();
        // Routers that show no leases in their tables keep them all the same.
        if granted.memory != Memory::Kept || granted.lifetime.is_some() {
            self.expires = granted.lifetime.map(|lifetime| now + lifetime);
        }
        // RFC 6886 section 3.3 and RFC 6887 section 11.2.1: at half of the lifetime.
        if granted.memory != Memory::Kept {
            self.renew_at = now + granted.lifetime.unwrap_or(asked).min(asked) / 2;
        }
        self.pending = None;
    }
}

impl Entry {
    /// The lease to ask for now.
    pub(super) fn lease_time(&self, now: Instant) -> Duration {
        let lease = self.want.purpose.lease();
        let left = self.ends.map(|ends| ends.saturating_duration_since(now));
        // What ends soon is removed by us; the router need not count seconds.
        left.map_or(lease, |left| left.clamp(Duration::from_secs(120), lease.max(Duration::from_secs(120))))
    }

    pub(super) fn mapped(&self) -> Option<&Mapped> {
        match &self.state {
            State::Mapped(mapped) => Some(mapped),
            _ => None,
        }
    }

    pub(super) fn mapped_mut(&mut self) -> Option<&mut Mapped> {
        match &mut self.state {
            State::Mapped(mapped) => Some(mapped),
            _ => None,
        }
    }

    pub(super) fn view(&self, id: MappingId, local: Option<Ipv4Addr>) -> MappingView {
        let mapped = self.mapped();
        MappingView {
            id,
            want: self.want,
            local,
            external: mapped.map(|mapped| mapped.external),
            protocol: mapped.map(|mapped| mapped.lease.protocol),
            expires: mapped.and_then(|mapped| mapped.expires),
            permanent: mapped.is_some_and(|mapped| mapped.expires.is_none()),
            problem: match &self.state {
                State::Waiting(waiting) => waiting.problem.clone(),
                State::Asking(race) => race.before.clone(),
                State::Mapped(_) => None,
            },
        }
    }
}
