//! The agent's choice: which pair carries a component's media, its channel at a relay, and the peer's consent.

use std::net::SocketAddr;
use std::time::Instant;

use stun_proto::types::message::Message;

use super::super::candidate::priority;
use super::super::checks::Event;
use super::super::consent::{Consent, Due};
use super::super::{
    CandidateKind, Credentials, MediaPath, Output, Role, SelectedPair, State, StreamId, stun,
};
use super::IceAgent;
use crate::turn::Way;

/// The pair that carries a component's media.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) component: u16,
    base: SocketAddr,
    remote: SocketAddr,
    relayed: bool,
    generation: u32,
    nominated: bool,
    channel: Option<u16>,
    /// As whom the peer saw us on this path when it was chosen.
    seen: Option<SocketAddr>,
    told: Option<SelectedPair>,
    local: Credentials,
    peer: Credentials,
    consent: Option<Consent>,
}

impl Chosen {
    pub(super) fn wake(&self) -> Option<Instant> {
        self.consent.as_ref().map(Consent::wake)
    }

    pub(super) fn ask_now(&mut self, now: Instant) {
        if let Some(consent) = &mut self.consent {
            consent.hurry(now);
        }
    }

    pub(super) fn base(&self) -> SocketAddr {
        self.base
    }
}

impl IceAgent {
    /// Leads all that the parts want to where it belongs, until none has anything left.
    pub(super) fn drain(&mut self) {
        loop {
            let mut busy = self.drain_gathering();
            for place in 0..self.checks.len() {
                while let Some((component, event)) =
                    self.checks.get_mut(place).and_then(|(of, checks)| Some((*of, checks.poll_event()?)))
                {
                    busy = true;
                    self.check_event(component, event);
                }
            }
            self.settle();
            if !busy {
                return;
            }
        }
    }

    fn check_event(&mut self, component: u16, event: Event) {
        match event {
            Event::Transmit { base, remote, bytes } => self.send(base, remote, bytes),
            Event::Valid { base, remote, seen } => {
                self.seen_by_peer.retain(|(known, _)| *known != (base, remote));
                self.seen_by_peer.push(((base, remote), seen));
                self.consider(component, base, remote);
            }
            Event::Selected { base, remote } => self.choose(component, base, remote, true),
        }
    }

    /// The pairs that the peer has nominated and that have answered (RFC 8445 section 7.3.1.5), where it is for the peer to
    /// say and every component has one.
    fn nominations(&self) -> Vec<(u16, (SocketAddr, SocketAddr))> {
        if self.role == Role::Controlling {
            return Vec::new();
        }
        let pairs: Vec<_> = (1..=self.components)
            .filter_map(|component| {
                let (_, checks) = self.checks.iter().find(|(of, _)| *of == component)?;
                let answered = |pair: &&(SocketAddr, SocketAddr)| {
                    checks.is_base(pair.0) && self.seen_by_peer.iter().any(|(known, _)| known == *pair)
                };
                self.asked.iter().rev().find(answered).map(|pair| (component, *pair))
            })
            .collect();
        if pairs.len() < usize::from(self.components) { Vec::new() } else { pairs }
    }

    fn follows(&self, component: u16, pair: (SocketAddr, SocketAddr)) -> bool {
        self.chosen.iter().any(|chosen| {
            (chosen.component, (chosen.base, chosen.remote)) == (component, pair)
                && chosen.nominated
                && chosen.generation == self.generation
                && chosen.consent.is_some()
        })
    }

    /// All that the peer has nominated is chosen: what is missing is a channel at a relay.
    pub(super) fn follows_nominations(&self) -> bool {
        let pairs = self.nominations();
        !pairs.is_empty() && pairs.iter().all(|(component, pair)| self.follows(*component, *pair))
    }

    /// Takes the pairs that the peer has nominated. Answers whether every component has one.
    pub(super) fn follow_nominations(&mut self) -> bool {
        let pairs = self.nominations();
        for (component, (base, remote)) in &pairs {
            if !self.follows(*component, (*base, *remote)) {
                self.choose(*component, *base, *remote, true);
            }
        }
        !pairs.is_empty()
    }

    /// A pair that works but is not nominated carries media when there is none yet, or only one by way of a relay.
    fn consider(&mut self, component: u16, base: SocketAddr, remote: SocketAddr) {
        let relayed = self.is_relayed(component, base, remote);
        let generation = self.generation;
        let better = self.chosen.iter().find(|chosen| chosen.component == component).is_none_or(|chosen| {
            chosen.consent.is_none()
                || (chosen.generation == generation && !chosen.nominated && chosen.relayed && !relayed)
                || (chosen.generation != generation && self.watch.is_stale())
        });
        if better {
            self.choose(component, base, remote, false);
        }
    }

    /// Media of the peer comes to one of our relays before anything is nominated, and there is no channel for it: it would
    /// not be heard. The controlled side, which sends straight to the peer's relay, goes the same way then, so that the two
    /// do not cross at two relays. It does so once: from then on it sends by the relay.
    pub(super) fn follow_media(&mut self, component: u16, base: SocketAddr, from: SocketAddr) {
        let generation = self.generation;
        let crosses = self.chosen.iter().any(|chosen| {
            chosen.component == component
                && chosen.generation == generation
                && !chosen.nominated
                && chosen.relayed
                && self.component_of(chosen.base).is_some()
        });
        let is_valid = self.seen_by_peer.iter().any(|(known, _)| *known == (base, from));
        if self.role == Role::Controlled && crosses && is_valid && self.component_of(base).is_none() {
            self.choose(component, base, from, false);
        }
    }

    fn is_relayed(&self, component: u16, base: SocketAddr, remote: SocketAddr) -> bool {
        self.checks.iter().any(|(of, checks)| *of == component && checks.is_relayed(base, remote))
    }

    fn choose(&mut self, component: u16, base: SocketAddr, remote: SocketAddr, nominated: bool) {
        let Some(peer) = self.remote.as_ref().map(|remote| remote.credentials.clone()) else { return };
        self.watch.path_found();
        let relayed = self.is_relayed(component, base, remote);
        let consent = Consent::new(self.now, &mut self.rng);
        let known = self.chosen.iter().position(|chosen| chosen.component == component);
        let known = known.map(|place| self.chosen.swap_remove(place));
        let same = known.filter(|known| known.base == base && known.remote == remote);
        self.chosen.push(Chosen {
            component,
            base,
            remote,
            relayed,
            generation: self.generation,
            nominated,
            seen: self.seen_by_peer.iter().find(|(pair, _)| *pair == (base, remote)).map(|(_, seen)| *seen),
            channel: same.as_ref().and_then(|same| same.channel),
            told: same.and_then(|same| same.told),
            local: self.local.clone(),
            peer,
            consent: Some(consent),
        });
        self.chosen.sort_by_key(|chosen| chosen.component);
        let now = self.clock.at(self.now);
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.allocation.owns(base)) {
            relay.allocation.bind(now, remote);
        }
        self.tell(component);
    }

    /// Tells of a component's path, when it is complete and new.
    fn tell(&mut self, component: u16) {
        let Some(place) = self.chosen.iter().position(|chosen| chosen.component == component) else { return };
        let Some(chosen) = self.chosen.get(place) else { return };
        let relay = self.relays.iter().find(|relay| relay.allocation.owns(chosen.base));
        let path = match (relay, chosen.channel) {
            (None, _) => MediaPath::Direct { base: chosen.base, remote: chosen.remote },
            (Some(relay), Some(channel)) => match relay.allocation.way {
                Way::Base(base) => {
                    MediaPath::Channel { base, server: relay.server.address, channel, peer: chosen.remote }
                }
                Way::Stream(stream) => {
                    MediaPath::Stream { stream: StreamId(stream), channel, peer: chosen.remote }
                }
            },
            (Some(_), None) => return,
        };
        let candidates = self.remote.iter().flat_map(|remote| &remote.candidates);
        let remote = candidates
            .filter(|candidate| candidate.component == component && candidate.address == chosen.remote)
            .map(|candidate| candidate.kind)
            .next();
        let selected = SelectedPair {
            component,
            path,
            local: if relay.is_some() { CandidateKind::Relayed } else { CandidateKind::Host },
            remote: remote.unwrap_or(CandidateKind::PeerReflexive),
            nominated: chosen.nominated,
        };
        if chosen.told != Some(selected) {
            if let Some(chosen) = self.chosen.get_mut(place) {
                chosen.told = Some(selected);
            }
            self.outputs.push_back(Output::Selected(selected));
        }
    }

    pub(super) fn channel_bound(&mut self, ours: &[SocketAddr], peer: SocketAddr, channel: Option<u16>) {
        let place =
            self.chosen.iter().position(|chosen| ours.contains(&chosen.base) && chosen.remote == peer);
        let Some(chosen) = place.and_then(|place| self.chosen.get_mut(place)) else { return };
        let component = chosen.component;
        match channel {
            Some(_) => {
                chosen.channel = channel;
                self.tell(component);
            }
            None => self.lose(component),
        }
    }

    /// Addresses at a relay are gone, and with them the paths that begin there.
    pub(super) fn relay_lost(&mut self, ours: &[SocketAddr]) {
        self.forget_paths(ours);
    }

    pub(super) fn forget_paths(&mut self, bases: &[SocketAddr]) {
        let lost: Vec<u16> = self
            .chosen
            .iter()
            .filter(|chosen| bases.contains(&chosen.base))
            .map(|chosen| chosen.component)
            .collect();
        for component in lost {
            self.lose(component);
        }
    }

    fn lose(&mut self, component: u16) {
        if let Some(chosen) = self.chosen.iter_mut().find(|chosen| chosen.component == component) {
            chosen.consent = None;
            // While checks run for another path, nothing else tells of it.
            if chosen.told.take().is_some() {
                self.outputs.push_back(Output::Withdrawn { component });
            }
            if self.checks.is_empty() {
                self.set_state(State::Lost);
            }
        }
    }

    /// The checks of a component are over when its pair is nominated; those of the agent when all are.
    fn settle(&mut self) {
        let mut role = self.role;
        for (_, checks) in &self.checks {
            role = if checks.is_controlling() { Role::Controlling } else { Role::Controlled };
        }
        self.role = role;
        let generation = self.generation;
        let nominated = |component: u16| {
            self.chosen.iter().any(|chosen| {
                let complete = chosen.nominated && chosen.told.is_some() && chosen.generation == generation;
                chosen.component == component && complete
            })
        };
        if !self.checks.is_empty() && (1..=self.components).all(nominated) {
            self.checks.clear();
            self.checks_end = None;
            self.set_state(State::Connected);
        }
    }

    pub(super) fn ask_for_consent(&mut self) {
        let controlling = self.role == Role::Controlling;
        let mut questions = Vec::new();
        let mut lost = Vec::new();
        for chosen in &mut self.chosen {
            let Some(consent) = &mut chosen.consent else { continue };
            match consent.due(self.now) {
                Some(Due::Lost) => lost.push(chosen.component),
                Some(Due::Ask) => {
                    let rank = priority(CandidateKind::PeerReflexive, 0, chosen.component);
                    let question =
                        stun::check_request(&chosen.local, &chosen.peer, controlling, self.tie_breaker, rank);
                    if let Some((id, bytes)) = question {
                        consent.asked(self.now, id, &mut self.rng);
                        questions.push((chosen.base, chosen.remote, bytes));
                    }
                }
                None => {}
            }
        }
        for (base, remote, bytes) in questions {
            self.send(base, remote, bytes);
        }
        for component in lost {
            self.lose(component);
        }
    }

    /// Takes an answer to a question for consent.
    pub(super) fn consent_answer(
        &mut self,
        component: u16,
        base: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
    ) -> bool {
        let id = message.transaction_id();
        let asked = |chosen: &&mut Chosen| {
            chosen.component == component
                && chosen.consent.as_ref().is_some_and(|consent| consent.is_ours(id))
        };
        let Some(chosen) = self.chosen.iter_mut().find(asked) else { return false };
        let signed =
            chosen.base == base && chosen.remote == from && stun::is_signed(message, &chosen.peer.password);
        if let Some(consent) = &mut chosen.consent
            && signed
            && let Some(seen) = stun::mapped_address(message)
        {
            consent.given(self.now, id);
            // The answer finds us, since it goes back where the question came from; the peer's media does not.
            match *chosen.seen.get_or_insert(seen) == seen {
                true => self.watch.path_holds(self.now),
                false => self.watch.moved(),
            }
        }
        true
    }
}
