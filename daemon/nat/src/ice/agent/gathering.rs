//! The agent's local side: bases, reflexive addresses, and the candidates that come of them and of relays.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::candidate::priority;
use super::super::gather::Reflexive;
use super::super::{BASES, Base, Candidate, CandidateKind, Output, STUN_SERVERS, State};
use super::IceAgent;
use super::relays::{Relay, send_all};

/// Gathering is declared complete after this long, whatever has not answered.
pub(super) const GATHERING_LIMIT: Duration = Duration::from_secs(5);
/// Mappings of datagrams may be forgotten after 30 s (RFC 4787 has two minutes, which few keep).
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Candidates of ours.
const CANDIDATES: usize = 64;

impl IceAgent {
    pub(super) fn gather(&mut self, bases: &[Base]) {
        let settings = self.settings.clone();
        for base in bases {
            let unusable = base.component == 0
                || base.component > self.components
                || base.address.ip().is_unspecified()
                || self.bases.len() >= BASES
                || self.bases.iter().any(|known| known.address == base.address);
            if !unusable {
                self.bases.push(*base);
                self.add_candidate(
                    CandidateKind::Host,
                    base.component,
                    base.preference,
                    base.address,
                    None,
                    0,
                );
            }
        }
        self.gathering_ends = Some(self.now + GATHERING_LIMIT);
        self.ask(&settings.stun_servers);
        self.allocate(&settings.relays);
    }

    pub(super) fn add_stun_servers(&mut self, servers: Vec<SocketAddr>) {
        let room = STUN_SERVERS.saturating_sub(self.settings.stun_servers.len());
        let known = &self.settings.stun_servers;
        let new: Vec<_> = servers.into_iter().filter(|server| !known.contains(server)).take(room).collect();
        self.settings.stun_servers.extend_from_slice(&new);
        self.ask(&new);
    }

    fn ask(&mut self, servers: &[SocketAddr]) {
        let wanted = if self.relays_only { 0 } else { STUN_SERVERS };
        for server in servers.iter().take(wanted) {
            for base in &self.bases {
                self.gatherer.ask(self.now, base.component, base.address, *server);
            }
        }
        if !self.gatherer.is_done() {
            self.gathering_ends.get_or_insert(self.now + GATHERING_LIMIT);
        }
    }

    /// Asks all servers once more which addresses they see, and allocates where there is nothing left.
    pub(super) fn gather_again(&mut self) {
        let relays =
            self.relays.iter().filter(|relay| relay.base.is_some()).map(|relay| relay.server.address);
        let servers: Vec<SocketAddr> = self.settings.stun_servers.iter().copied().chain(relays).collect();
        self.ask(&servers);
        self.allocate(&self.settings.relays.clone());
    }

    /// A server has told which address it sees. Another one than before means that the NAT has forgotten us: what the
    /// peer was told, and what the relay has for the old address, leads nowhere any more.
    pub(super) fn seen_from_outside(&mut self, seen: Reflexive) {
        let Reflexive { component, base, server, address } = seen;
        self.keep.get_or_insert(self.now + KEEP_ALIVE);
        let before = self.seen.insert((base, server), address).filter(|before| *before != address);
        if let Some(before) = before {
            self.watch.moved();
            self.candidates.retain(|candidate| {
                candidate.kind != CandidateKind::ServerReflexive
                    || candidate.related != Some(base)
                    || candidate.address != before
            });
            let gone = |relay: &Relay| relay.base == Some(base) && relay.server.address == server;
            let lost: Vec<SocketAddr> = self
                .relays
                .iter()
                .filter(|relay| gone(relay))
                .flat_map(|relay| relay.allocation.relayed().to_vec())
                .collect();
            self.relays.retain(|relay| !gone(relay));
            self.candidates.retain(|candidate| !lost.contains(&candidate.address));
            self.forget_paths(&lost);
            self.allocate(&self.settings.relays.clone());
        }
        self.add_reflexive(component, base, address);
    }

    /// Until there is a path, one server is asked again and again from each base, so that the NAT does not forget it while
    /// the telephone rings (RFC 8445 section 5.1.1.4). What goes to a relay serves the base that it goes from as well.
    pub(super) fn keep_reflexive(&mut self) {
        if self.keep.is_none_or(|keep| keep > self.now) {
            return;
        }
        self.keep = None;
        if !matches!(self.state, State::New | State::Checking) {
            return;
        }
        self.keep = Some(self.now + KEEP_ALIVE);
        for base in &self.bases {
            let is_kept = self.relays.iter().any(|relay| relay.base == Some(base.address));
            let server = self.seen.keys().find(|(seen, _)| *seen == base.address).map(|(_, server)| *server);
            if !is_kept && let Some(server) = server {
                self.gatherer.ask(self.now, base.component, base.address, server);
            }
        }
    }

    pub(super) fn add_reflexive(&mut self, component: u16, base: SocketAddr, address: SocketAddr) {
        let Some(preference) =
            self.bases.iter().find(|known| known.address == base).map(|known| known.preference)
        else {
            return;
        };
        let known = |candidate: &Candidate| candidate.component == component && candidate.address == address;
        if address.ip().is_unspecified() || address.port() == 0 || self.candidates.iter().any(known) {
            return;
        }
        self.add_candidate(CandidateKind::ServerReflexive, component, preference, address, Some(base), 0);
    }

    pub(super) fn add_candidate(
        &mut self,
        kind: CandidateKind,
        component: u16,
        preference: u16,
        address: SocketAddr,
        related: Option<SocketAddr>,
        server: u16,
    ) {
        if self.candidates.len() >= CANDIDATES || (self.relays_only && kind != CandidateKind::Relayed) {
            return;
        }
        let ip = match kind {
            CandidateKind::Relayed | CandidateKind::Host => address.ip(),
            CandidateKind::ServerReflexive | CandidateKind::PeerReflexive => related.unwrap_or(address).ip(),
        };
        let same = |candidate: &&Candidate| {
            let other = match kind {
                CandidateKind::Relayed | CandidateKind::Host => candidate.address,
                _ => candidate.related.unwrap_or(candidate.address),
            };
            candidate.kind == kind && other.ip() == ip
        };
        // The same for both components (RFC 8445 section 5.1.1.3), and never again for anything else.
        let foundation = self.candidates.iter().find(same).map_or_else(
            || format!("{}{}", kind.name(), self.candidates.len() + usize::from(server)),
            |candidate| candidate.foundation.clone(),
        );
        let priority = priority(kind, preference, component);
        let candidate = Candidate { foundation, component, priority, address, kind, related };
        self.candidates.push(candidate.clone());
        self.outputs.push_back(Output::Candidate(candidate));
    }

    /// Other sockets than before: what stays keeps its candidates and relays, what goes takes them along.
    pub(super) fn replace_bases(&mut self, bases: Vec<Base>) {
        let stays = |address: SocketAddr| bases.iter().any(|base| base.address == address);
        let gone: Vec<SocketAddr> =
            self.bases.iter().map(|base| base.address).filter(|address| !stays(*address)).collect();
        for base in &gone {
            self.gatherer.forget_base(*base);
        }
        // Connections belong to the network that is gone, like everything else.
        self.close_relays(|relay| relay.base.is_none_or(|base| gone.contains(&base)));
        self.bases.retain(|base| !gone.contains(&base.address));
        self.seen.retain(|(base, _), _| !gone.contains(base));
        let relayed: Vec<SocketAddr> =
            self.relays.iter().flat_map(|relay| relay.allocation.relayed().to_vec()).collect();
        self.candidates.retain(|candidate| match candidate.kind {
            CandidateKind::Host => !gone.contains(&candidate.address),
            CandidateKind::Relayed => relayed.contains(&candidate.address),
            _ => candidate.related.is_some_and(|related| !gone.contains(&related)),
        });
        self.forget_paths(&gone);
        self.settings.bases.clone_from(&bases);
        self.gather(&bases);
    }

    pub(super) fn drop_component(&mut self, component: u16) {
        self.bases.retain(|base| base.component != component);
        self.candidates.retain(|candidate| candidate.component != component);
        self.checks.retain(|(of, _)| *of != component);
        self.chosen.retain(|chosen| chosen.component != component);
        self.gatherer.forget_component(component);
        self.close_relays(|relay| relay.allocation.component == component);
    }

    /// What gatherer and relays have to say.
    pub(super) fn drain_gathering(&mut self) -> bool {
        let mut busy = false;
        while let Some((base, remote, bytes)) = self.gatherer.poll(self.now) {
            self.outputs.push_back(Output::Transmit { base, remote, bytes });
        }
        let mut events = Vec::new();
        for (place, relay) in self.relays.iter_mut().enumerate() {
            send_all(relay, &mut self.outputs);
            while let Some(event) = relay.allocation.poll_event() {
                events.push((place, event));
            }
        }
        for (place, event) in events {
            busy = true;
            self.relay_event(place, event);
        }
        self.relays.retain(|relay| !relay.allocation.is_over());
        self.watch_gathering();
        busy
    }

    fn watch_gathering(&mut self) {
        let Some(end) = self.gathering_ends else { return };
        let done = self.gatherer.is_done() && self.relays.iter().all(|relay| relay.answered);
        if done || end <= self.now {
            self.gathering_ends = None;
            self.outputs.push_back(Output::GatheringComplete);
        }
    }
}
