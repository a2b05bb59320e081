//! A laboratory for the way through NAT: a public network with servers, and sites behind routers of every kind, all in
//! network namespaces of this test's own, without a way to the machine's own network. It knows nothing of voipd. Needs
//! root.
//!
//! ```text
//!  client 192.168.1.10 ── router ── 12.34.56.10 ─┐
//!                                                ├─ the Internet: 12.34.56.1, 12.34.56.2
//!  client 192.168.2.10 ── router ── carrier ─────┘
//! ```
//!
//! Addresses are the same in each laboratory, since nothing of one can be seen from another. They look public, because
//! programs treat addresses that are reserved for documentation or tests as private ones.

mod names;
mod namespace;
mod router;
mod site;
mod turn;
mod upnp;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

pub use names::NameServer;
pub use namespace::{Namespace, own};
pub use router::{Nat, Router};
pub use site::{Kind, SecondWay, Site};
pub use turn::Coturn;
pub use upnp::{Miniupnpd, Protocol};

use namespace::Laboratory;
use wire::Wire;

/// The public network with its servers' host. When it is dropped, all of it is gone.
#[derive(Debug)]
pub struct Internet {
    wires: RefCell<Vec<Wire>>,
    core: Namespace,
    laboratory: Arc<Laboratory>,
    /// How many public addresses are given out.
    hosts: Cell<u8>,
    sites: Cell<u8>,
    ipv6: Cell<bool>,
}

/// A host with a public address and a namespace of its own.
#[derive(Debug)]
pub struct Host {
    /// Its place.
    pub namespace: Namespace,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Internet {
    /// The servers' address.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(12, 34, 56, 1);
    /// Another address of the same host, for servers that need two (RFC 5780).
    pub const SECOND: Ipv4Addr = Ipv4Addr::new(12, 34, 56, 2);
    /// The servers' IPv6 address.
    pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

    /// Makes the public network.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let laboratory = Laboratory::new();
        let core = Namespace::new(&laboratory, "core");
        // Packets to addresses that are nowhere vanish without an error, as they do in the real Internet: a relay that is
        // told of an error takes its client for gone.
        core.ip(&format!(
            "link add net type bridge\nlink set net up\naddress add {}/24 dev net\naddress add {}/24 dev net\n\
             neighbour add 12.34.56.254 lladdr 02:00:00:00:00:01 dev net nud permanent\n\
             route add default via 12.34.56.254\n",
            Self::SERVER,
            Self::SECOND,
        ));
        let (hosts, sites, ipv6) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Self { wires: RefCell::default(), core, laboratory, hosts, sites, ipv6 }
    }

    /// The servers' host.
    pub fn core(&self) -> &Namespace {
        &self.core
    }

    /// Gives the servers' host and some sites IPv6: without translation, but behind a firewall that lets nothing in
    /// unasked.
    pub fn add_ipv6(&self, sites: &[&Site]) {
        self.ipv6.set(true);
        self.core.enable_ipv6();
        self.core.sysctl("net/ipv6/conf/all/forwarding", "1");
        self.core.ip(&format!("address add {}/64 dev net nodad\n", Self::SERVER6));
        for site in sites {
            site.add_ipv6(&self.core);
        }
    }

    /// The servers' IPv6 address, if they have it.
    pub fn server6(&self) -> Option<Ipv6Addr> {
        self.ipv6.get().then_some(Self::SERVER6)
    }

    /// A further host with a public address.
    pub fn host(&self, role: &str) -> Host {
        self.distant_host(role, Duration::ZERO)
    }

    /// A further host with a public address; packets take this long to come there, and as long to come back.
    pub fn distant_host(&self, role: &str, delay: Duration) -> Host {
        let namespace = Namespace::new(&self.laboratory, role);
        let address = self.plug(&namespace, "eth0", delay);
        Host { namespace, address }
    }

    /// Gives a host another address besides its own.
    pub fn second_address(&self, host: &Host) -> Ipv4Addr {
        let address = self.free_address();
        host.namespace.ip(&format!("address add {address}/24 dev eth0\n"));
        address
    }

    /// A site with a client behind a NAT of a kind.
    pub fn site(&self, kind: Kind) -> Site {
        self.distant_site(kind, Duration::ZERO)
    }

    /// A site with a client behind a NAT of a kind; packets take this long to come there, and as long to come back.
    pub fn distant_site(&self, kind: Kind, delay: Duration) -> Site {
        let number = self.sites.get() + 1;
        self.sites.set(number);
        Site::new(self, number, number, kind, delay)
    }

    /// A site whose inner network has the same addresses as that of another one, as in many homes.
    pub fn twin(&self, kind: Kind, of: &Site) -> Site {
        let number = self.sites.get() + 1;
        self.sites.set(number);
        let [_, _, home, _] = of.address.octets();
        Site::new(self, number, home, kind, Duration::ZERO)
    }

    fn free_address(&self) -> Ipv4Addr {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        // From 100 on they are those that routers get for another.
        assert!(number < 90, "the public network is full");
        Ipv4Addr::new(12, 34, 56, 9 + number)
    }

    /// Joins an interface of a namespace to the public network; answers its address.
    fn plug(&self, namespace: &Namespace, interface: &str, delay: Duration) -> Ipv4Addr {
        let address = self.free_address();
        let port = format!("port{}", address.octets()[3]);
        if delay.is_zero() {
            namespace.join(interface, &self.core, &port);
        } else {
            let wire = Wire::new([(namespace, interface), (&self.core, &port)], delay);
            self.wires.borrow_mut().push(wire);
        }
        self.core.ip(&format!("link set {port} master net up\n"));
        // The default route leads where nobody forwards: an address that is nowhere is silent, not unreachable.
        namespace.ip(&format!(
            "address add {address}/24 dev {interface}\nlink set {interface} up\nroute add default via {}\n",
            Self::SERVER
        ));
        address
    }
}
