//! The driver and the network: what its changes mean to the ways that accounts and calls use.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use voipd_agent::NetworkChange;
use voipd_agent::view::CallId;
use voipd_audio::PortId;
use voipd_media::LocalMedia;
use voipd_sip::endpoint::{TlsRequirement, Transport as Protocol};
use voipd_sip::faces::{Face, Faces, Way};

use super::Driver;
use crate::network::{NetworkEvent, NetworkState, Snapshot};
use crate::transport::{Place, local_ip_towards_ip};

/// Any port will do: routes know none.
const ANY_PORT: u16 = 9;

impl Driver {
    pub(super) fn network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Changed(snapshot) => {
                let addresses: Vec<String> = snapshot.addresses().iter().map(IpAddr::to_string).collect();
                log::info!("the network is {}: {}", snapshot.state().name(), addresses.join(", "));
                self.network = snapshot;
                self.resolver.network_changed();
                self.nat.network_changed();
                // Calls that move have to know it before they hear that a router is gone.
                self.check_network(false);
                self.mappings_moved(false);
            }
            // Calls and registrations outlast a short sleep, and telling everybody would keep the system awake.
            NetworkEvent::Suspending => log::info!("the system goes to sleep"),
            NetworkEvent::Resumed => {
                log::info!("the system has slept: looking after calls and registrations");
                // The clock of timers stood still meanwhile.
                self.follow_wall_clock();
                self.transport.abandon(|_| true);
                self.nat.network_changed();
                self.check_network(true);
                self.mappings_moved(true);
            }
        }
    }

    /// Tells the agent what has become of the ways that it uses.
    pub(super) fn check_network(&mut self, recheck: bool) {
        let faced = self.agent.faced();
        let signalling = self.faces(&faced.signalling, recheck, |driver, remote| {
            let place = Place { transport: Protocol::Udp, remote: SocketAddr::new(remote, ANY_PORT) };
            driver.transport.flow_to(place, TlsRequirement::default()).map(|flow| flow.local.ip())
        });
        let media = self.faces(&faced.media, recheck, |driver, remote| {
            driver.media.fixed_address(remote).or_else(|| local_ip_towards_ip(remote))
        });
        let gone = signalling.gone.clone();
        self.transport.abandon(|flow| gone.contains(&flow.local.ip()));
        self.agent.handle_network_changed(Instant::now(), NetworkChange { signalling, media });
    }

    fn faces(
        &self,
        ways: &BTreeSet<Way>,
        recheck: bool,
        towards: impl Fn(&Self, IpAddr) -> Option<IpAddr>,
    ) -> Faces {
        let gone = |local: &IpAddr| !is_there(&self.network, *local);
        Faces {
            ways: ways
                .iter()
                // Without the number of its link, nothing can be said of the way to a link-local address.
                .filter(|(_, remote)| !is_link_local(*remote))
                .map(|way| (*way, face(&self.network, *way, towards(self, way.1))))
                .collect(),
            gone: ways.iter().map(|(local, _)| *local).filter(gone).collect(),
            recheck,
        }
    }

    /// There is no network at all: what is sent is lost as on the air, and repeated by whoever sends it.
    pub(super) fn is_offline(&self) -> bool {
        self.network.state() == NetworkState::Offline
    }

    /// Lets a call's stream go on with sockets on another address.
    pub(super) fn move_media(
        &mut self,
        call: CallId,
        port: PortId,
        address: IpAddr,
    ) -> Result<LocalMedia, String> {
        let local = self.bind_media(call, address)?;
        let socket = self.media.take_rtp(call, port).ok_or("the sockets are taken")?;
        self.patchbay.controller().move_stream(port, socket).map_err(|error| error.to_string())?;
        Ok(local)
    }
}

/// What has become of a way; `route`: the address that the system would send from.
fn face(network: &Snapshot, (local, _): Way, route: Option<IpAddr>) -> Face {
    // An address without a carrier leads nowhere, whatever the table of routes says.
    match route.filter(|ip| is_there(network, *ip)) {
        None => Face::Nowhere,
        Some(ip) if ip == local => Face::Same,
        // Another address of the same interface is no other network: what was agreed on with this one goes on.
        Some(ip) if is_there(network, local) && same_interface(network, ip, local) => Face::Same,
        Some(ip) => Face::Moved(ip),
    }
}

fn same_interface(network: &Snapshot, one: IpAddr, two: IpAddr) -> bool {
    let index = |ip| network.interface_of(ip).map(|interface| interface.index);
    index(one).is_some() && index(one) == index(two)
}

/// This machine has the address, and can use it.
fn is_there(network: &Snapshot, ip: IpAddr) -> bool {
    let unplugged = network.interface_of(ip).is_some_and(|interface| !interface.running);
    let refused = || UdpSocket::bind((ip, 0)).is_err_and(|e| e.kind() == ErrorKind::AddrNotAvailable);
    !unplugged && !refused()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Address, AddressState, Interface};

    fn network() -> Snapshot {
        let address = |ip: &str, prefix| Address {
            ip: ip.parse().unwrap(),
            prefix,
            state: AddressState::Preferred,
            link_local: false,
            temporary: false,
        };
        let interface = |index, name: &str, running, addresses| Interface {
            index,
            name: name.to_owned(),
            running,
            loopback: name == "lo",
            point_to_point: false,
            addresses,
        };
        Snapshot {
            interfaces: vec![
                interface(1, "lo", true, vec![address("127.0.0.1", 8)]),
                interface(2, "eth0", false, vec![address("192.0.2.7", 24)]),
            ],
            ..Snapshot::default()
        }
    }

    fn way(local: &str) -> Way {
        (local.parse().unwrap(), "127.9.9.9".parse().unwrap())
    }

    #[test]
    fn another_address_of_the_same_interface_is_no_change() {
        let network = network();
        let route = |ip: &str| Some(ip.parse().unwrap());
        assert_eq!(face(&network, way("127.0.0.1"), route("127.0.0.1")), Face::Same);
        assert_eq!(face(&network, way("127.77.0.3"), route("127.0.0.1")), Face::Same);
        assert_eq!(
            face(&network, way("192.0.2.7"), route("127.0.0.1")),
            Face::Moved("127.0.0.1".parse().unwrap())
        );
        assert_eq!(face(&network, way("127.0.0.1"), None), Face::Nowhere);
    }

    #[test]
    fn an_address_without_a_carrier_leads_nowhere() {
        let network = network();
        assert!(!is_there(&network, "192.0.2.7".parse().unwrap()));
        assert!(!is_there(&network, "203.0.113.200".parse().unwrap()), "and one that is nobody's");
        assert!(is_there(&network, "127.0.0.1".parse().unwrap()));
        assert_eq!(face(&network, way("127.0.0.1"), Some("192.0.2.7".parse().unwrap())), Face::Nowhere);
    }
}
