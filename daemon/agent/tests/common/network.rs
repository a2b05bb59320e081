//! Where an agent is in the network, and how that changes: its addresses, and which of them faces whom.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use voipd_agent::{Agent, Network, NetworkChange};
use voipd_audio::PortId;
use voipd_media::LocalMedia;
use voipd_sip::endpoint::{Flow, TransportError};
use voipd_sip::faces::{Face, Faces, Way};

use super::{CallId, HostId, Role, World, udp};

/// What a change makes of an agent's network.
#[derive(Default)]
pub struct Place {
    /// No network at all.
    offline: bool,
    /// It has its address, and no route leads anywhere.
    unrouted: bool,
    /// Other addresses, and who is reached from them: for signalling and for media.
    routes: Vec<(Network, IpAddr)>,
    /// It has changed: what is sent from addresses that are gone is told to be undeliverable.
    roams: bool,
}

impl World {
    // Changing.

    /// The agent has another address from now on, and is told.
    pub fn move_to(&mut self, host: HostId, address: &str) {
        self.move_to_and(host, address, |_, _| ());
    }

    /// The agent has no network from now on, and is told.
    pub fn go_offline(&mut self, host: HostId) {
        self.station(host).place.offline = true;
        self.network_changed(host, false);
    }

    /// The agent keeps its address, from which nobody is reached from now on, and is told.
    pub fn lose_route(&mut self, host: HostId) {
        self.station(host).place.unrouted = true;
        self.network_changed(host, false);
    }

    /// The agent's network is there again as it was, and it is told.
    pub fn come_back(&mut self, host: HostId) {
        let place = &mut self.station(host).place;
        (place.offline, place.unrouted) = (false, false);
        self.network_changed(host, false);
    }

    /// From now on the agent reaches these networks from those addresses, which it has beside its own; and is told.
    pub fn route(&mut self, host: HostId, routes: &[(&str, &str)]) {
        let routes = routes.iter().map(|(to, from)| (to.parse().unwrap(), from.parse().unwrap()));
        self.station(host).place.routes = routes.collect();
        self.network_changed(host, false);
    }

    /// As [`World::move_to`]; `then` comes before anything that the agent asks for is carried out.
    pub fn move_to_and(&mut self, host: HostId, address: &str, then: impl FnOnce(&mut Agent, Instant)) {
        self.hosts[host.0].address = address.parse().unwrap();
        self.station(host).place.offline = false;
        self.network_changed_and(host, false, then);
    }

    /// Tells an agent how everybody is reached now.
    pub fn network_changed(&mut self, host: HostId, recheck: bool) {
        self.network_changed_and(host, recheck, |_, _| ());
    }

    fn network_changed_and(&mut self, host: HostId, recheck: bool, then: impl FnOnce(&mut Agent, Instant)) {
        self.station(host).place.roams = true;
        let faced = self.station(host).agent.faced();
        let own = self.own(host);
        let faces = |ways: BTreeSet<Way>| Faces {
            ways: ways.iter().map(|way| (*way, self.face(host, *way))).collect(),
            gone: ways.iter().map(|(local, _)| *local).filter(|local| !own.contains(local)).collect(),
            recheck,
        };
        let (signalling, media) = (faces(faced.signalling), faces(faced.media));
        self.act(host, |agent, now| {
            agent.handle_network_changed(now, NetworkChange { signalling, media });
            then(agent, now);
        });
    }

    // Looking.

    fn face(&self, host: HostId, (local, remote): Way) -> Face {
        match self.socket_towards(host, remote) {
            None => Face::Nowhere,
            Some(socket) if socket.ip() == local => Face::Same,
            Some(socket) => Face::Moved(socket.ip()),
        }
    }

    fn place(&self, host: HostId) -> Option<&Place> {
        match &self.hosts[host.0].role {
            Role::Agent(station) => Some(&station.place),
            _ => None,
        }
    }

    /// All addresses of an agent.
    fn own(&self, host: HostId) -> BTreeSet<IpAddr> {
        let Some(place) = self.place(host).filter(|place| !place.offline) else { return BTreeSet::new() };
        let others = place.routes.iter().map(|(_, ip)| *ip);
        others.chain([self.address(host).ip()]).collect()
    }

    /// Our socket of signalling that faces `remote`.
    pub(super) fn socket_towards(&self, host: HostId, remote: IpAddr) -> Option<SocketAddr> {
        let address = self.address(host);
        let place = self.place(host).filter(|place| !place.offline && !place.unrouted)?;
        let route = place.routes.iter().find(|(network, _)| network.contains(remote));
        let socket = SocketAddr::new(route.map_or(address.ip(), |(_, ip)| *ip), address.port());
        (socket.is_ipv4() == remote.is_ipv4()).then_some(socket)
    }

    /// Our address that faces a peer's media.
    pub(super) fn media_towards(&mut self, host: HostId, peer: Option<IpAddr>) -> Option<IpAddr> {
        let peer = peer?;
        let faces = &self.station(host).faces;
        let facing = faces.iter().find(|(network, _)| network.contains(peer)).map(|(_, ip)| *ip);
        let roams = self.station(host).place.roams;
        facing.or_else(|| self.socket_towards(host, peer).filter(|_| roams).map(|socket| socket.ip()))
    }

    /// Who is at an address.
    pub(super) fn host_at(&self, address: SocketAddr) -> Option<HostId> {
        (0..self.hosts.len()).map(HostId).find(|host| match self.place(*host) {
            Some(_) => {
                address.port() == self.address(*host).port() && self.own(*host).contains(&address.ip())
            }
            None => self.address(*host) == address,
        })
    }

    /// Sound gets from one call's stream to the other's: where the one sends, the other is.
    pub fn is_heard_by(&self, (from, sender): (HostId, CallId), (to, listener): (HostId, CallId)) -> bool {
        let (Some(sender), Some(listener)) =
            (self.books(from).stream_of(sender), self.books(to).stream_of(listener))
        else {
            return false;
        };
        let remote = sender.plan.path.remote();
        let at_home =
            self.own(from).contains(&sender.local.ip()) && self.own(to).contains(&listener.local.ip());
        sender.plan.send.is_some() && listener.plan.play && remote == listener.local && at_home
    }

    // Sending.

    /// As the sockets of a machine do it that may have lost an address.
    pub(super) fn set_out(&mut self, host: HostId, flow: Flow, bytes: &[u8]) {
        let own = self.own(host);
        if own.contains(&flow.local.ip()) {
            assert_eq!(flow.local.port(), self.address(host).port());
            if self.place(host).is_some_and(|place| place.unrouted) || self.is_refused(host, flow) {
                return;
            }
            return self.transmit(flow.local, flow.remote, bytes.to_vec());
        }
        let place = self.place(host).expect("an agent");
        assert!(place.roams, "sends from {}, which it never had", flow.local);
        // Without any network, what is sent is lost as on the air.
        if !place.offline {
            let now = self.now;
            let failed = udp(flow.local, flow.remote);
            self.station(host).agent.handle_failed(now, failed, TransportError::NoRoute);
        }
    }

    /// Binds new sockets for a call's stream.
    pub(super) fn move_media(
        &mut self,
        host: HostId,
        call: CallId,
        port: PortId,
        address: IpAddr,
        peer: Option<IpAddr>,
    ) {
        let now = self.now;
        let address = self.media_towards(host, peer).unwrap_or(address);
        let result = if self.own(host).contains(&address) {
            let station = self.station(host);
            let rtp_port = station.next_port;
            station.next_port += 2;
            let local = LocalMedia { address, rtp_port, rtcp_port: rtp_port + 1 };
            station.books.move_to(call, port, local);
            Ok(local)
        } else {
            Err(format!("{address} is gone"))
        };
        self.station(host).agent.handle_media_bound(now, call, result);
    }
}
