//! Doubts about the path: when the peer was last heard, and whether it is our side that has changed. What follows from it is
//! the owner's affair; it hears what this agent cannot, media above all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::IceAgent;

/// A server that is near enough to be of use has answered by then.
const ANSWER: Duration = Duration::from_millis(400);

/// What an agent knows of its path beyond consent.
#[derive(Debug, Default)]
pub(super) struct Watch {
    heard: Option<Instant>,
    doubt: Option<Doubt>,
    /// The path that was chosen is not worth keeping while another one works.
    stale: bool,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Instant,
    /// A server sees another address than before.
    moved: bool,
    /// A server has answered.
    answered: bool,
}

impl Watch {
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The peer has answered on the chosen path: it leads there, and back.
    pub(super) fn path_holds(&mut self, now: Instant) {
        self.hear(now);
        (self.doubt, self.stale) = (None, false);
    }

    pub(super) fn path_found(&mut self) {
        (self.doubt, self.stale) = (None, false);
    }

    pub(super) fn server_answered(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.answered = true;
        }
    }

    pub(super) fn moved(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.moved = true;
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }
}

impl IceAgent {
    /// When something came that the peer has signed, by whatever path.
    #[must_use]
    pub fn heard_at(&self) -> Option<Instant> {
        self.watch.heard
    }

    /// Asks the peer at once, and not only when consent (RFC 7675) has to be renewed, whether it is there: its answer shows
    /// in [`Self::heard_at`].
    pub fn ask_now(&mut self, now: Instant) {
        self.now = now;
        self.chosen.iter_mut().for_each(|chosen| chosen.ask_now(now));
        self.ask_for_consent();
        self.drain();
    }

    /// The owner has reason to believe that the path leads nowhere any more: all servers are asked anew as whom they see us,
    /// so that [`Self::is_at_fault`] can tell; and after the next restart, the first path that works is taken for media,
    /// without waiting for its nomination.
    pub fn look_around(&mut self, now: Instant) {
        self.now = now;
        self.watch.doubt = Some(Doubt { since: now, moved: false, answered: false });
        self.watch.stale = true;
        self.gather_again();
        self.drain();
    }

    /// Since [`Self::look_around`], it has turned out that our side must look for another path: a NAT has given us another
    /// address, or our relay is silent while other servers answer. `false`: it is not known, or it is the peer's affair.
    #[must_use]
    pub fn is_at_fault(&self, now: Instant) -> bool {
        self.watch.doubt.is_some_and(|doubt| doubt.moved) || !self.silent_relays(now).is_empty()
    }

    /// Relays that have not answered since [`Self::look_around`], while others have, are given up: the next description does
    /// not name them.
    pub fn give_up_silent_relays(&mut self, now: Instant) {
        self.now = now;
        let silent = self.silent_relays(now);
        for relay in &mut self.relays {
            if relay.base.is_some_and(|base| silent.contains(&(base, relay.server.address))) {
                relay.allocation.give_up();
            }
        }
        self.drain();
    }

    /// Base and server of the relays that carry media and do not answer.
    fn silent_relays(&self, now: Instant) -> Vec<(SocketAddr, SocketAddr)> {
        let in_doubt = |doubt: Doubt| doubt.answered && doubt.since + ANSWER <= now;
        if !self.watch.doubt.is_some_and(in_doubt) {
            return Vec::new();
        }
        let carries =
            |relayed: &[SocketAddr]| self.chosen.iter().any(|chosen| relayed.contains(&chosen.base()));
        let carrying = self.relays.iter().filter(|relay| carries(relay.allocation.relayed()));
        carrying
            .filter_map(|relay| Some((relay.base?, relay.server.address)))
            .filter(|(base, server)| self.gatherer.waits_for(*base, *server))
            .collect()
    }
}
