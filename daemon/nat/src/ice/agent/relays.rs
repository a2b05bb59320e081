//! Relays as the agent uses them: allocations for each component, and what goes and comes by way of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use stun_proto::types::AddressFamily;
use stun_proto::types::message::Message;

use super::super::candidate::priority;
use super::super::checks::LocalBase;
use super::super::{Base, CandidateKind, Output, RELAYS, RelayServer, StreamId, stun};
use super::IceAgent;
use super::gathering::{GATHERING_LIMIT, KEEP_ALIVE};
use crate::turn::{Allocation, Event, RelayError, RelayTransport, Way};

/// How often a server may send us to another one.
const ALTERNATES: usize = 3;

/// An allocation of one component at one relay.
#[derive(Debug)]
pub(crate) struct Relay {
    /// As it was configured.
    configured: RelayServer,
    /// Who has sent us on, each to the next (RFC 8489 section 10).
    left: Vec<SocketAddr>,
    /// Who is asked.
    pub(super) server: RelayServer,
    pub(super) index: u16,
    pub(super) allocation: Allocation,
    pub(super) base: Option<SocketAddr>,
    /// The connection stands, or none is needed.
    pub(super) open: bool,
    pub(super) answered: bool,
    /// When the NAT before a relay that is not used has to be reminded of us.
    keep: Option<Instant>,
}

impl Relay {
    pub(super) fn wake(&self) -> Option<stun_proto::Instant> {
        if self.open { self.allocation.wake() } else { None }
    }

    pub(super) fn keep(&self) -> Option<Instant> {
        self.keep
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, at: stun_proto::Instant) {
        if self.open {
            self.allocation.handle_timeout(at);
        }
        if self.keep.is_some_and(|keep| keep <= now) {
            self.keep = Some(now + KEEP_ALIVE);
            if let Some(indication) = stun::indication() {
                self.allocation.send_to_server(indication);
            }
        }
    }

    /// A relay in the Internet does not lead into anybody's private network. coturn 4.6 gives an allocation up when the
    /// system has no route to where it shall send.
    fn leads_to(&self, peer: IpAddr) -> bool {
        is_private(self.server.address.ip()) || !is_private(peer)
    }

    /// Relayed addresses rank by the order of the relays, connections behind datagrams.
    fn preference(&self) -> u16 {
        let behind = match self.server.transport {
            RelayTransport::Udp => 0,
            RelayTransport::Tcp => 0x4000,
            RelayTransport::Tls => 0x5000,
        };
        0xFFFF - behind - self.index.saturating_mul(16)
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

impl IceAgent {
    pub(super) fn add_relays(&mut self, relays: Vec<RelayServer>) {
        let room = RELAYS.saturating_sub(self.settings.relays.len());
        let known = &self.settings.relays;
        let new: Vec<_> = relays.into_iter().filter(|relay| !known.contains(relay)).take(room).collect();
        self.settings.relays.extend_from_slice(&new);
        self.allocate(&new);
    }

    /// One allocation for each relay and component. A TURN server is a STUN server, too (RFC 8656 section 3.1).
    pub(super) fn allocate(&mut self, servers: &[RelayServer]) {
        for server in servers.iter().take(RELAYS) {
            let index = self.settings.relays.iter().position(|known| known == server);
            let index = u16::try_from(index.unwrap_or(RELAYS)).unwrap_or(u16::MAX);
            for component in 1..=self.components {
                let held =
                    |relay: &Relay| relay.configured == *server && relay.allocation.component == component;
                if self.relays.iter().any(held) {
                    continue;
                }
                let same_family = |base: &&Base| {
                    base.component == component && base.address.is_ipv4() == server.address.is_ipv4()
                };
                let base = self.bases.iter().filter(same_family).max_by_key(|base| base.preference).copied();
                let (way, base) = match server.transport {
                    RelayTransport::Udp => {
                        let Some(base) = base else { continue };
                        if !self.relays_only {
                            self.gatherer.ask(self.now, component, base.address, server.address);
                        }
                        (Way::Base(base.address), Some(base.address))
                    }
                    RelayTransport::Tcp | RelayTransport::Tls => {
                        self.next_stream += 1;
                        let stream = StreamId(self.next_stream);
                        self.outputs.push_back(Output::OpenStream { stream, server: server.clone() });
                        (Way::Stream(self.next_stream), None)
                    }
                };
                let mut allocation = Allocation::new(server, component, way, &self.families());
                let open = base.is_some();
                if open {
                    allocation.pump(self.clock.at(self.now));
                }
                let (configured, server) = (server.clone(), server.clone());
                let keep = base.map(|_| self.now + KEEP_ALIVE);
                let left = Vec::new();
                self.relays.push(Relay {
                    configured,
                    left,
                    server,
                    index,
                    allocation,
                    base,
                    open,
                    answered: false,
                    keep,
                });
                self.gathering_ends.get_or_insert(self.now + GATHERING_LIMIT);
            }
        }
    }

    /// An address of each family that the peer may have: whoever has an IPv6 address asks for one at the relay, too.
    fn families(&self) -> Vec<AddressFamily> {
        if self.bases.iter().any(|base| base.address.is_ipv6()) {
            vec![AddressFamily::IPV4, AddressFamily::IPV6]
        } else {
            vec![AddressFamily::IPV4]
        }
    }

    pub(super) fn relayed_bases(&self, component: u16) -> Vec<LocalBase> {
        let relays = self.relays.iter().filter(|relay| relay.allocation.component == component);
        relays
            .flat_map(|relay| {
                let priority = priority(CandidateKind::Relayed, relay.preference(), component);
                let relayed = relay.allocation.relayed().iter();
                let connected = relay.server.transport != RelayTransport::Udp;
                relayed.map(move |address| LocalBase {
                    address: *address,
                    priority,
                    relayed: true,
                    connected,
                })
            })
            .collect()
    }

    pub(super) fn permit(&mut self, component: u16, peer: SocketAddr) {
        let now = self.clock.at(self.now);
        let of_component = |relay: &&mut Relay| relay.allocation.component == component;
        for relay in self.relays.iter_mut().filter(of_component).filter(|relay| relay.leads_to(peer.ip())) {
            relay.allocation.permit(now, peer.ip());
        }
    }

    /// What a peer sent by way of a relay, if `from` is one: component, our address there, the peer's, the bytes.
    pub(super) fn receive_by_relay(
        &mut self,
        base: SocketAddr,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<(u16, SocketAddr, SocketAddr, Vec<u8>)> {
        // A server that is asked as a STUN server, too, answers from the same address.
        let gathered = stun::is_stun(bytes)
            && Message::from_bytes(bytes)
                .is_ok_and(|message| self.gatherer.is_ours(message.transaction_id()));
        if gathered {
            return None;
        }
        let now = self.clock.at(self.now);
        let way = Way::Base(base);
        let relay = self.relays.iter_mut().find(|relay| {
            relay.allocation.way == way && relay.server.address == from && !relay.allocation.is_over()
        })?;
        let received = relay.allocation.receive(now, bytes);
        received.map(|(relayed, peer, data)| (relay.allocation.component, relayed, peer, data))
    }

    pub(super) fn receive_by_stream(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
    ) -> Option<(u16, SocketAddr, SocketAddr, Vec<u8>)> {
        let now = self.clock.at(self.now);
        let relay = self.relays.iter_mut().find(|relay| relay.allocation.way == Way::Stream(stream.0))?;
        let received = relay.allocation.receive(now, bytes);
        received.map(|(relayed, peer, data)| (relay.allocation.component, relayed, peer, data))
    }

    pub(super) fn stream_opened(&mut self, stream: StreamId) {
        let now = self.clock.at(self.now);
        if let Some(relay) =
            self.relays.iter_mut().find(|relay| relay.allocation.way == Way::Stream(stream.0))
        {
            relay.open = true;
            relay.allocation.pump(now);
        }
    }

    pub(super) fn stream_closed(&mut self, stream: StreamId, reason: &str) {
        if let Some(relay) =
            self.relays.iter_mut().find(|relay| relay.allocation.way == Way::Stream(stream.0))
        {
            relay.open = false;
            relay.allocation.disconnected(reason.to_owned());
        }
    }

    pub(super) fn send_by_relay(&mut self, base: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let now = self.clock.at(self.now);
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.allocation.owns(base))
            && relay.leads_to(to.ip())
        {
            relay.allocation.send(now, to, bytes);
        }
    }

    /// Gives allocations back and closes their connections.
    pub(super) fn close_relays(&mut self, which: impl Fn(&Relay) -> bool) {
        let now = self.clock.at(self.now);
        let mut kept = Vec::new();
        for mut relay in std::mem::take(&mut self.relays) {
            if which(&relay) {
                relay.allocation.delete(now);
                send_all(&mut relay, &mut self.outputs);
                if let Way::Stream(stream) = relay.allocation.way {
                    self.outputs.push_back(Output::CloseStream { stream: StreamId(stream) });
                }
            } else {
                kept.push(relay);
            }
        }
        self.relays = kept;
    }

    pub(super) fn relay_event(&mut self, place: usize, event: Event) {
        let Some(relay) = self.relays.get_mut(place) else { return };
        let component = relay.allocation.component;
        match event {
            Event::Allocated(address) => {
                relay.answered = true;
                let (preference, index) = (relay.preference(), relay.index);
                let related = relay.base;
                let local = LocalBase {
                    address,
                    priority: priority(CandidateKind::Relayed, preference, component),
                    relayed: true,
                    connected: relay.server.transport != RelayTransport::Udp,
                };
                // The peer does not learn of a socket that is not offered to it.
                let related = related.filter(|_| !self.relays_only).or(Some(unspecified(address)));
                self.add_candidate(CandidateKind::Relayed, component, preference, address, related, index);
                for (of, checks) in &mut self.checks {
                    if *of == component {
                        checks.add_local(local);
                    }
                }
                let peers: Vec<SocketAddr> = self
                    .remote
                    .iter()
                    .flat_map(|remote| &remote.candidates)
                    .filter(|candidate| candidate.component == component)
                    .map(|candidate| candidate.address)
                    .collect();
                for peer in peers {
                    self.permit(component, peer);
                }
                self.look_again();
            }
            Event::Failed(error) => {
                let name = relay.server.name.clone();
                let addresses = relay.allocation.relayed().to_vec();
                if let Way::Stream(stream) = relay.allocation.way
                    && !matches!(error, RelayError::Connection(_))
                {
                    self.outputs.push_back(Output::CloseStream { stream: StreamId(stream) });
                }
                self.candidates.retain(|candidate| !addresses.contains(&candidate.address));
                self.outputs.push_back(Output::RelayFailed { name, error });
                self.relay_lost(&addresses);
            }
            Event::Elsewhere(address) => self.ask_elsewhere(place, address),
            Event::Bound { peer, channel } => {
                let addresses = relay.allocation.relayed().to_vec();
                self.channel_bound(&addresses, peer, Some(channel));
            }
            Event::Unbound { peer } => {
                let addresses = relay.allocation.relayed().to_vec();
                self.channel_bound(&addresses, peer, None);
            }
        }
    }

    /// A server sends us to another one. The new one is reached as the old one was, over TLS by the old one's name.
    fn ask_elsewhere(&mut self, place: usize, address: SocketAddr) {
        let families = self.families();
        let Some(relay) = self.relays.get_mut(place) else { return };
        let name = relay.server.name.clone();
        let is_known = relay.server.address == address || relay.left.contains(&address);
        let nowhere = address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast();
        let leads = relay.leads_to(address.ip()) && !nowhere;
        // A socket of one family reaches no server of the other.
        let reached = relay.base.is_none_or(|base| base.is_ipv4() == address.is_ipv4());
        if is_known || !leads || !reached || relay.left.len() >= ALTERNATES {
            let reason = format!("it sends us to {address}, where there is nothing for us");
            let error = RelayError::Refused { code: 300, reason };
            if let Way::Stream(stream) = relay.allocation.way {
                self.outputs.push_back(Output::CloseStream { stream: StreamId(stream) });
            }
            return self.outputs.push_back(Output::RelayFailed { name, error });
        }
        relay.left.push(relay.server.address);
        relay.server.address = address;
        let way = match relay.allocation.way {
            Way::Base(base) => Way::Base(base),
            Way::Stream(stream) => {
                self.outputs.push_back(Output::CloseStream { stream: StreamId(stream) });
                self.next_stream += 1;
                let stream = StreamId(self.next_stream);
                self.outputs.push_back(Output::OpenStream { stream, server: relay.server.clone() });
                relay.open = false;
                Way::Stream(self.next_stream)
            }
        };
        relay.allocation = Allocation::new(&relay.server, relay.allocation.component, way, &families);
        if relay.open {
            relay.allocation.pump(self.clock.at(self.now));
        }
    }
}

/// What it has to say to the server.
pub(super) fn send_all(relay: &mut Relay, outputs: &mut VecDeque<Output>) {
    let remote = relay.server.address;
    while let Some(bytes) = relay.allocation.poll_transmit() {
        outputs.push_back(match relay.allocation.way {
            Way::Base(base) => Output::Transmit { base, remote, bytes },
            Way::Stream(stream) => Output::TransmitStream { stream: StreamId(stream), bytes },
        });
    }
}

fn unspecified(like: SocketAddr) -> SocketAddr {
    if like.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 9)) } else { SocketAddr::from(([0_u16; 8], 9)) }
}
