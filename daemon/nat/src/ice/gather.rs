//! Asks STUN servers from each base which address they see (RFC 8445 section 5.1.1.2). Knows neither peers nor relays.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_proto::types::message::{Message, TransactionId};

use super::stun;

/// Ta: between two new questions (RFC 8445 section 14.2).
const PACE: Duration = Duration::from_millis(20);
/// RTO of the first try (RFC 8489 section 6.2.1); doubles.
const RTO: Duration = Duration::from_millis(500);
/// Tries of a question: at 0, 0.5, 1.5 and 3.5 s.
const TRIES: u32 = 4;

/// One question to one server from one base.
#[derive(Debug)]
struct Question {
    id: TransactionId,
    component: u16,
    base: SocketAddr,
    server: SocketAddr,
    bytes: Vec<u8>,
    tries: u32,
    due: Instant,
}

/// A server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reflexive {
    pub(crate) component: u16,
    pub(crate) base: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) address: SocketAddr,
}

/// The questions that are still open.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    open: Vec<Question>,
    next: Option<Instant>,
}

impl Gatherer {
    pub(crate) fn ask(&mut self, now: Instant, component: u16, base: SocketAddr, server: SocketAddr) {
        let same = |question: &Question| question.base == base && question.server == server;
        if base.is_ipv4() != server.is_ipv4() || self.open.iter().any(same) {
            return;
        }
        let Some((id, bytes)) = stun::server_request() else { return };
        let due = self.next.map_or(now, |next| next.max(now));
        self.next = Some(due + PACE);
        self.open.push(Question { id, component, base, server, bytes, tries: 0, due });
    }

    pub(crate) fn forget_base(&mut self, base: SocketAddr) {
        self.open.retain(|question| question.base != base);
    }

    pub(crate) fn forget_component(&mut self, component: u16) {
        self.open.retain(|question| question.component != component);
    }

    pub(crate) fn is_ours(&self, id: TransactionId) -> bool {
        self.open.iter().any(|question| question.id == id)
    }

    /// Takes an answer, if it is one.
    pub(crate) fn answer(
        &mut self,
        base: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
    ) -> Option<Option<Reflexive>> {
        let id = message.transaction_id();
        let place =
            self.open.iter().position(|open| open.id == id && open.server == from && open.base == base)?;
        let question = self.open.swap_remove(place);
        let address = stun::mapped_address(message);
        Some(address.filter(|address| address.is_ipv4() == base.is_ipv4()).map(|address| Reflexive {
            component: question.component,
            base: question.base,
            server: from,
            address,
        }))
    }

    /// What to send now: base, server, bytes.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.open.retain(|question| question.tries < TRIES || question.due > now);
        let question = self.open.iter_mut().find(|question| question.due <= now)?;
        question.due = now + RTO * 2_u32.saturating_pow(question.tries);
        question.tries += 1;
        Some((question.base, question.server, question.bytes.clone()))
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        self.open.iter().map(|question| question.due).min()
    }

    /// This server has been asked from this base, and has not answered yet.
    pub(crate) fn waits_for(&self, base: SocketAddr, server: SocketAddr) -> bool {
        let asked = |open: &Question| open.tries > 0 && open.base == base && open.server == server;
        self.open.iter().any(asked)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty()
    }
}
