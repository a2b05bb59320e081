//! Every timer of the endpoint under its RFC name, and the one queue that they wait in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::endpoint::{ResolveId, SessionId};
use crate::registration::BindingId;
use crate::transaction::{ClientId, ServerId};

/// Round-trip time estimate (RFC 3261 section 17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// Longest retransmission interval of non-INVITE requests and INVITE responses.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// Longest time that a message stays in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// How long a server may say nothing before the next one is asked, where there is one. RFC 3263 section 4.3 would wait
/// for the transaction's end; a caller does not.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);
/// How long a transaction or an unacknowledged 2xx is kept up: 64*T1.
pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(32);

/// A timer and what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Client(ClientId, ClientTimer),
    Server(ServerId, ServerTimer),
    Session(SessionId, SessionTimer),
    Registration(BindingId, RegistrationTimer),
    /// The resolver took too long.
    Resolve(ResolveId),
}

/// Timers of client transactions (RFC 3261 table 4, RFC 6026).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientTimer {
    /// INVITE retransmission.
    A,
    /// INVITE transaction timeout.
    B,
    /// Wait for retransmitted final responses to INVITE.
    D,
    /// Non-INVITE retransmission.
    E,
    /// Non-INVITE transaction timeout.
    F,
    /// Wait for retransmitted final responses to non-INVITE.
    K,
    /// Wait for retransmitted 2xx, and 2xx of other forks.
    M,
}

/// Timers of server transactions (RFC 3261 table 4, RFC 6026).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerTimer {
    /// 100 is sent where the user has not answered an INVITE within 200 ms (RFC 3261 section 17.2.1).
    Trying,
    /// INVITE response retransmission.
    G,
    /// Wait for ACK.
    H,
    /// Wait for retransmitted ACKs.
    I,
    /// Wait for retransmitted non-INVITE requests.
    J,
    /// Wait for retransmitted INVITEs after a 2xx.
    L,
}

/// Timers of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SessionTimer {
    /// Repeat the provisional response, so that proxies do not give up (RFC 3261 section 13.3.1.1).
    Provisional,
    /// The caller's Expires has passed (RFC 3261 section 13.3.1).
    Expires,
    /// Retransmit our 2xx (RFC 3261 section 13.3.1.4) or reliable provisional response (RFC 3262 section 3).
    Retransmit,
    /// No ACK came for our 2xx, or no PRACK for our reliable provisional response.
    Acknowledge,
    /// Make our offer again after 491 (RFC 3261 section 14.1).
    Glare,
    /// The server that our INVITE went to says nothing: the next one is asked too (RFC 3263 section 4.3).
    NextServer,
    /// Refresh the session (RFC 4028 section 10).
    Refresh,
    /// The session was not refreshed (RFC 4028 section 10).
    Expiry,
    /// An INVITE that was cancelled, or whose session is over, never got its final response (RFC 3261 section 9.1).
    Cancel,
}

/// Timers of registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RegistrationTimer {
    /// Refresh the binding before it expires.
    Refresh,
    /// Show the flow that carries the binding to be in use (RFC 5626 section 4.4).
    KeepAlive,
    /// A keep-alive is not answered yet (RFC 5626 section 4.4).
    Answer,
    /// The registrar says nothing: the next one is asked (RFC 3263 section 4.3).
    NextServer,
    /// Try again after a failure.
    Retry,
}

/// The timers that are set, by time.
pub(crate) struct Timers<T = Timer> {
    due: BTreeSet<(Instant, T)>,
    set: BTreeMap<T, Instant>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), set: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> Timers<T> {
    /// Sets `timer`, anew where it was set already.
    pub(crate) fn set(&mut self, timer: T, at: Instant) {
        if let Some(before) = self.set.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    pub(crate) fn stop(&mut self, timer: T) {
        if let Some(at) = self.set.remove(&timer) {
            self.due.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: T) -> bool {
        self.set.contains_key(&timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes the next timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let &(at, timer) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, timer));
        self.set.remove(&timer);
        Some(timer)
    }
}

impl Timers {
    pub(crate) fn stop_client(&mut self, id: ClientId) {
        self.stop_range(Timer::Client(id, ClientTimer::A), Timer::Client(id, ClientTimer::M));
    }

    pub(crate) fn stop_server(&mut self, id: ServerId) {
        self.stop_range(Timer::Server(id, ServerTimer::Trying), Timer::Server(id, ServerTimer::L));
    }

    pub(crate) fn stop_session(&mut self, id: SessionId) {
        let (first, last) = (SessionTimer::Provisional, SessionTimer::Cancel);
        self.stop_range(Timer::Session(id, first), Timer::Session(id, last));
    }

    pub(crate) fn stop_registration(&mut self, id: BindingId) {
        let (first, last) = (RegistrationTimer::Refresh, RegistrationTimer::Retry);
        self.stop_range(Timer::Registration(id, first), Timer::Registration(id, last));
    }

    fn stop_range(&mut self, first: Timer, last: Timer) {
        while let Some((&timer, _)) = self.set.range(first..=last).next() {
            self.stop(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_time_order_and_only_when_due() {
        let start = Instant::now();
        let (a, b) = (Timer::Client(ClientId(1), ClientTimer::A), Timer::Client(ClientId(1), ClientTimer::B));
        let mut timers = Timers::default();
        timers.set(b, start + TRANSACTION_TIMEOUT);
        timers.set(a, start + T2);
        timers.set(a, start + T1);
        assert_eq!(timers.next(), Some(start + T1));
        assert_eq!(timers.pop_due(start), None);
        assert_eq!(timers.pop_due(start + T1), Some(a));
        assert_eq!(timers.pop_due(start + T2), None);
        assert_eq!(timers.next(), Some(start + TRANSACTION_TIMEOUT));
    }

    #[test]
    fn stopping_an_owner_leaves_others() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(Timer::Client(ClientId(1), ClientTimer::E), start);
        timers.set(Timer::Client(ClientId(1), ClientTimer::F), start);
        let other = Timer::Client(ClientId(2), ClientTimer::A);
        timers.set(other, start);
        timers.stop_client(ClientId(1));
        assert_eq!(timers.pop_due(start), Some(other));
        assert_eq!(timers.next(), None);
    }
}
