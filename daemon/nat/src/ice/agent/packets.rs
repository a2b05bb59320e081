//! The agent's packets: what comes from peers is told apart and led on, what goes out finds its socket or its relay.

use std::net::SocketAddr;

use stun_proto::types::message::{BINDING, Message, MessageClass};

use super::super::{Output, stun};
use super::IceAgent;

/// Most nominated pairs that are remembered: each component has one, and a peer may change its mind.
const NOMINATIONS: usize = 8;
/// Requests of the peer that came before its description.
const EARLY: usize = 32;
/// Datagrams for the owner that nobody asked for.
const RECEIVED: usize = 64;

impl IceAgent {
    pub(super) fn component_of(&self, base: SocketAddr) -> Option<u16> {
        self.bases.iter().find(|known| known.address == base).map(|known| known.component)
    }

    /// A packet of somebody who says to be the peer, to an address of ours.
    pub(super) fn peer_packet(&mut self, component: u16, base: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        if !stun::is_stun(bytes) {
            self.follow_media(component, base, from);
            // A permission at a relay names an address and no port: what has not answered a check is nobody's.
            let is_peer = self.seen_by_peer.iter().any(|(known, _)| *known == (base, from));
            if is_peer && self.component_of(base).is_none() && self.received < RECEIVED {
                self.received += 1;
                self.outputs.push_back(Output::Received { component, bytes: bytes.to_vec() });
            }
            return;
        }
        let Ok(message) = Message::from_bytes(bytes) else { return };
        if !message.has_method(BINDING) {
            return;
        }
        match message.class() {
            MessageClass::Request => self.request(base, from, bytes),
            MessageClass::Success | MessageClass::Error => self.response(component, base, from, &message),
            MessageClass::Indication => {}
        }
    }

    pub(super) fn request(&mut self, base: SocketAddr, from: SocketAddr, bytes: &[u8]) {
        if self.relays_only && self.component_of(base).is_some() {
            return;
        }
        let Ok(message) = Message::from_bytes(bytes) else { return };
        let previous = self.previous.as_ref().filter(|previous| stun::is_for(&message, previous));
        let answer = if stun::is_for(&message, &self.local) {
            self.watch.hear(self.now);
            if stun::nominates(&message)
                && self.asked.len() < NOMINATIONS
                && !self.asked.contains(&(base, from))
            {
                self.asked.push((base, from));
            }
            let checks = self.checks.iter_mut().find(|(_, checks)| checks.is_base(base));
            if checks.is_some_and(|(_, checks)| checks.request(self.now, base, from, &message)) {
                return;
            }
            if self.remote.is_none() {
                if self.early.len() >= EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((base, from, bytes.to_vec()));
            }
            stun::success(&message, from, &self.local)
        } else if let Some(previous) = previous {
            stun::success(&message, from, previous)
        } else {
            stun::unauthorized(&message)
        };
        if let Some(answer) = answer {
            self.send(base, from, answer);
        }
    }

    pub(super) fn response(
        &mut self,
        component: u16,
        base: SocketAddr,
        from: SocketAddr,
        message: &Message<'_>,
    ) {
        if let Some(answer) = self.gatherer.answer(base, from, message) {
            self.watch.server_answered();
            if let Some(reflexive) = answer {
                self.seen_from_outside(reflexive);
            }
            return;
        }
        if self.consent_answer(component, base, from, message) {
            return;
        }
        let Some(remote) = &self.remote else { return };
        if stun::is_signed(message, &remote.credentials.password)
            && let Some((_, checks)) = self.checks.iter_mut().find(|(_, checks)| checks.is_base(base))
        {
            self.watch.hear(self.now);
            checks.response(self.now, base, from, message);
        }
    }

    /// A packet from a base, which may be one at a relay.
    pub(super) fn send(&mut self, base: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.bases.iter().any(|known| known.address == base) {
            self.outputs.push_back(Output::Transmit { base, remote: to, bytes });
        } else {
            self.send_by_relay(base, to, bytes);
        }
    }
}
