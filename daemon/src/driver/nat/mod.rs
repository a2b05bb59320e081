//! What the daemon knows of the way through NAT, kept together for `org.voipd.Nat1`: discovery with its sockets and
//! sources.

mod registrations;
mod sockets;
mod sources;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use voipd_agent::{AccountId, AccountView, RelayView};
use voipd_nat::stun::{Discovery, Gathered, Output, Server, ServerState, Source};
use voipd_sip::endpoint::Flow;

use super::Driver;
use crate::api::Update;
use crate::api::nat::{NatView, OfferView};
use crate::config::NatConfig;
use crate::network::Snapshot;
use crate::transport::{Resolver, local_ip_towards_ip};
use registrations::Registrations;
use sockets::{Incoming, Sockets};
use sources::{Found, Sources};

/// What comes to discovery from outside.
pub(in crate::driver) struct NatEvent(Event);

enum Event {
    Packet(Incoming),
    /// The names of a round's servers have been looked up.
    Found(u32, Vec<Found>),
}

/// The way through NAT as far as it is known.
pub(super) struct Nat {
    discovery: Discovery,
    sources: Sources,
    registrations: Registrations,
    sockets: Sockets,
    resolver: Arc<Resolver>,
    found: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    wake_at: Option<Instant>,
    relays: Vec<RelayView>,
    offers: Vec<OfferView>,
    /// As it was told last.
    told: Option<NatView>,
}

impl Nat {
    pub(super) fn new(config: &NatConfig, resolver: Arc<Resolver>, seed: [u8; 32]) -> Self {
        Self {
            discovery: Discovery::new(Instant::now(), seed),
            sources: Sources::new(&config.stun),
            registrations: Registrations::default(),
            sockets: Sockets::default(),
            resolver,
            found: mpsc::unbounded_channel(),
            wake_at: Some(Instant::now()),
            relays: Vec::new(),
            offers: Vec::new(),
            told: None,
        }
    }

    /// The next thing that [`Nat::handle_event`] is to hear of.
    pub(super) async fn next_event(&mut self) -> NatEvent {
        NatEvent(tokio::select! {
            packet = self.sockets.receive() => Event::Packet(packet),
            Some(found) = self.found.1.recv() => found,
        })
    }

    pub(super) fn handle_event(&mut self, NatEvent(event): NatEvent) {
        let now = Instant::now();
        match event {
            Event::Packet(Incoming { socket, from, bytes: Some(bytes) }) => {
                self.discovery.handle_datagram(now, socket, from, &bytes);
            }
            Event::Packet(Incoming { socket, from, bytes: None }) => {
                self.discovery.handle_unreachable(now, socket, from);
            }
            Event::Found(number, found) if self.discovery.awaits(number) => {
                self.sockets = Sockets::default();
                let gathered = gathered(&mut self.sockets, found);
                self.discovery.handle_gathered(now, number, gathered);
            }
            // The sockets of the round that is under way stay.
            Event::Found(..) => {}
        }
    }

    /// An account is there, or has changed.
    pub(super) fn put_account(&mut self, view: &AccountView) {
        self.registrations.put_account(view, &mut self.discovery);
        if self.sources.put_account(view) {
            self.discovery.ask_again(Instant::now());
        }
    }

    /// An account is no more.
    pub(super) fn remove_account(&mut self, id: AccountId) {
        self.registrations.remove_account(id, &mut self.discovery);
        if self.sources.remove_account(id) {
            self.discovery.ask_again(Instant::now());
        }
    }

    /// A server of the account sees us under another address than before; `None`: under our own.
    pub(super) fn seen_as(&mut self, id: AccountId, flow: Flow, address: Option<SocketAddr>) {
        self.registrations.seen(id, flow, address, &mut self.discovery);
    }

    /// Addresses or routes have changed, or somebody wants everything to be found out anew.
    pub(super) fn network_changed(&mut self) {
        self.discovery.network_changed(Instant::now());
        self.registrations.tell_all(&mut self.discovery);
    }

    /// When [`Nat::handle_timeout`] wants to be called.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.discovery.handle_timeout(now);
        }
    }

    /// How the relays of all accounts fare.
    pub(super) fn set_relays(&mut self, relays: Vec<RelayView>) {
        self.relays = relays;
    }

    /// What has become of the relay of this machine.
    pub(super) fn set_offers(&mut self, offers: Vec<OfferView>) {
        self.offers = offers;
    }

    /// Carries out what discovery asks for.
    fn serve(&mut self) {
        loop {
            match self.discovery.poll_output() {
                Output::Timeout(at) => {
                    self.wake_at = at;
                    return;
                }
                Output::Gather(number) => self.gather(number),
                Output::Transmit(transmit) => {
                    if let Err(error) = self.sockets.send(&transmit) {
                        log::debug!("no STUN request to {}: {error}", transmit.to);
                        self.discovery.handle_unreachable(Instant::now(), transmit.socket, transmit.to);
                    }
                }
                Output::Close => self.sockets = Sockets::default(),
                // The view is compared anyway.
                Output::Changed => {}
            }
        }
    }

    fn gather(&self, number: u32) {
        let (resolver, done) = (Arc::clone(&self.resolver), self.found.0.clone());
        let wanted = self.sources.all();
        tokio::spawn(async move {
            let found = sources::find(&resolver, wanted).await;
            // The driver is gone when nobody listens.
            let _ = done.send(Event::Found(number, found));
        });
    }

    /// What is known by now.
    pub(super) fn view(&self, network: &Snapshot) -> NatView {
        NatView {
            network: network.state(),
            local_addresses: network.addresses(),
            discovery: self.discovery.report().clone(),
            relays: self.relays.clone(),
            offers: self.offers.clone(),
        }
    }

    /// The view, when it is not as it was told.
    fn changed_view(&mut self, network: &Snapshot) -> Option<NatView> {
        let view = self.view(network);
        if self.told.as_ref() == Some(&view) {
            return None;
        }
        self.told = Some(view.clone());
        Some(view)
    }
}

impl Driver {
    /// Carries out what the way through NAT asks for, and tells the bus what has changed.
    pub(super) fn serve_nat(&mut self) {
        self.nat.serve();
        if let Some(view) = self.nat.changed_view(&self.network) {
            // Who has answered discovery answers calls as well; registrars, which tell of us too, speak no STUN.
            let works = view.discovery.servers.iter().filter(|server| {
                server.state == ServerState::Works && !matches!(server.source, Source::Registration(_))
            });
            self.agent.set_stun_servers(works.filter_map(|server| server.address).collect());
            self.tell(Update::Nat(Box::new(view)));
        }
    }
}

/// Servers with the sockets that lead to them: for each name, one address of each family.
fn gathered(sockets: &mut Sockets, found: Vec<Found>) -> Gathered {
    let mut servers: Vec<Server> = Vec::new();
    // Paths of IPv4 come first: what a NAT does is asked of them.
    let mut ways: Vec<(usize, bool, Server)> = Vec::new();
    for (index, Found { wanted, addresses }) in found.into_iter().enumerate() {
        let server = |place| Server { name: wanted.name.clone(), source: wanted.source.clone(), place };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(reason) => {
                ways.push((index, false, server(Err(reason))));
                continue;
            }
        };
        let reachable = |six: bool| {
            let of_family = addresses
                .iter()
                .find(|address| address.is_ipv6() == six && local_ip_towards_ip(address.ip()).is_some());
            of_family.copied()
        };
        let [four, six] = [reachable(false), reachable(true)];
        if four.is_none() && six.is_none() {
            let reason = "cannot be reached: this machine has no route to it".to_owned();
            ways.push((index, false, server(Err(reason))));
        }
        for address in [four, six].into_iter().flatten() {
            ways.push((index, address.is_ipv6(), server(Ok((0, address)))));
        }
    }
    ways.sort_by_key(|(_, six, _)| *six);
    let mut known: Vec<SocketAddr> = Vec::new();
    let mut placed: Vec<(usize, Server)> = Vec::new();
    for (index, _, mut server) in ways {
        if let Ok((_, address)) = server.place {
            if known.contains(&address) {
                continue;
            }
            known.push(address);
            let path = match local_ip_towards_ip(address.ip()) {
                Some(local) => sockets.path_from(local).map_err(|error| error.to_string()),
                None => Err("the route has just gone".to_owned()),
            };
            server.place = match path {
                Ok(path) => Ok((path, address)),
                Err(reason) => Err(format!("cannot be asked: {reason}")),
            };
        }
        placed.push((index, server));
    }
    // People see them in the order in which they named them.
    placed.sort_by_key(|(index, _)| *index);
    servers.extend(placed.into_iter().map(|(_, server)| server));
    Gathered { paths: sockets.paths(), servers }
}

#[cfg(test)]
mod tests {
    use voipd_sip::uri::Host;

    use super::sources::{Place, Wanted};
    use super::*;
    use crate::transport::ResolverSettings;

    #[tokio::test]
    async fn a_look_up_that_comes_too_late_leaves_the_sockets_of_the_round_that_is_under_way() {
        let resolver = Resolver::new(ResolverSettings {
            name_servers: Vec::new(),
            transports: Vec::new(),
            seed: [1; 32],
        });
        let config = NatConfig { stun: Vec::new(), port_mapping: false };
        let mut nat = Nat::new(&config, Arc::new(resolver), [2; 32]);
        nat.network_changed();
        nat.network_changed();
        let server: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let place = Place::Host(Host::Ip(server.ip()), server.port());
        let wanted = Wanted { name: server.to_string(), source: Source::Configuration, place };
        let found = vec![Found { wanted, addresses: Ok(vec![server]) }];
        nat.handle_event(NatEvent(Event::Found(2, found)));
        let paths = nat.sockets.paths();
        assert_eq!(paths.len(), 1);
        nat.handle_event(NatEvent(Event::Found(1, Vec::new())));
        assert_eq!(nat.sockets.paths(), paths);
    }
}
