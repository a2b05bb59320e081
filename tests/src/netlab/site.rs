//! A site: a client, and what stands between it and the public network.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Internet, Namespace, Nat, Router};

/// What stands between a client and the public network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the client has a public address.
    Open,
    /// One router.
    Behind(Nat),
    /// A router behind a carrier's.
    TwoNats,
    /// A router behind another one of the same home.
    TwoRouters,
}

impl Kind {
    /// Those that the tests pair with each other.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Behind(Nat::FullCone),
        Self::Behind(Nat::Cone),
        Self::Behind(Nat::Symmetric),
        Self::TwoNats,
        Self::Behind(Nat::TcpOnly),
    ];

    /// Whether datagrams pass.
    pub fn passes_datagrams(self) -> bool {
        self != Self::Behind(Nat::TcpOnly)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Behind(Nat::FullCone) => "full cone",
            Self::Behind(Nat::Cone) => "cone",
            Self::Behind(Nat::Symmetric) => "symmetric",
            Self::Behind(Nat::TcpOnly) => "UDP blocked",
            Self::TwoNats => "two NATs",
            Self::TwoRouters => "two routers",
        })
    }
}

/// A client with its routers.
#[derive(Debug)]
pub struct Site {
    /// What it is.
    pub kind: Kind,
    /// The client's address on its own network.
    pub address: Ipv4Addr,
    number: u8,
    client: Namespace,
    /// From the client's on.
    routers: Vec<Router>,
}

impl Site {
    pub(super) fn new(internet: &Internet, number: u8, home: u8, kind: Kind, delay: Duration) -> Self {
        let laboratory = &internet.laboratory;
        let client = Namespace::new(laboratory, &format!("client{number}"));
        let nats: &[Nat] = match kind {
            Kind::Open => {
                let address = internet.plug(&client, "eth0", delay);
                return Self { kind, address, number, client, routers: Vec::new() };
            }
            Kind::Behind(nat) => &[nat],
            // A carrier's NAT is made for many: it keeps mappings, and filters as the home router does.
            Kind::TwoNats | Kind::TwoRouters => &[Nat::Cone, Nat::Cone],
        };
        let home = Network { prefix: [192, 168, home] };
        let carrier =
            Network { prefix: if kind == Kind::TwoRouters { [10, 64, number] } else { [100, 64, number] } };
        let mut routers: Vec<Router> = Vec::new();
        for (index, nat) in nats.iter().enumerate() {
            let namespace = Namespace::new(laboratory, &format!("router{number}-{index}"));
            // The network behind this router and the host on it.
            let (inner, host, interface) = match routers.last() {
                None => (&home, &client, "eth0"),
                Some(router) => (&carrier, router.namespace(), Router::WAN),
            };
            inner.join(&namespace, host, interface);
            routers.push(if index + 1 == nats.len() {
                let outside = internet.plug(&namespace, Router::WAN, delay);
                Router::new(namespace, *nat, inner.host(), outside, Internet::SERVER)
            } else {
                Router::new(namespace, *nat, inner.host(), carrier.host(), carrier.gateway())
            });
        }
        Self { kind, address: home.host(), number, client, routers }
    }

    /// Lays a second way out for the client, as mobile data beside Wi-Fi: another network, behind a router of its own. It
    /// is not there before [`SecondWay::appears`].
    pub fn second_way(&self, internet: &Internet, nat: Nat) -> SecondWay {
        let namespace = Namespace::new(&internet.laboratory, &format!("mobile{}", self.number));
        let network = Network { prefix: [10, 20, self.number] };
        self.client.join(SecondWay::INTERFACE, &namespace, Router::LAN);
        let (lan, gateway) = (Router::LAN, network.gateway());
        namespace.ip(&format!("address add {gateway}/24 dev {lan}\nlink set {lan} up\n"));
        let outside = internet.plug(&namespace, Router::WAN, Duration::ZERO);
        let router = Router::new(namespace, nat, network.host(), outside, Internet::SERVER);
        SecondWay { router, address: network.host(), gateway }
    }

    /// The client's IPv6 address, where it has one.
    pub fn address6(&self) -> Ipv6Addr {
        self.network6(10)
    }

    fn network6(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, self.number.into(), 0, 0, 0, host)
    }

    /// Gives the site an IPv6 network of its own; panics where there is no router.
    pub(super) fn add_ipv6(&self, core: &Namespace) {
        let router = self.router().namespace();
        for host in [router, &self.client] {
            host.enable_ipv6();
        }
        let outside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, self.number.into());
        let (wan, lan, gateway) = (Router::WAN, Router::LAN, self.network6(1));
        router.sysctl("net/ipv6/conf/all/forwarding", "1");
        router.ip(&format!(
            "address add {outside}/64 dev {wan} nodad\naddress add {gateway}/64 dev {lan} nodad\n\
             route add default via {}\n",
            Internet::SERVER6
        ));
        core.ip(&format!("route add {}/64 via {outside}\n", self.network6(0)));
        let address = self.address6();
        self.client
            .ip(&format!("address add {address}/64 dev eth0 nodad\nroute add default via {gateway}\n"));
    }

    /// Takes IPv4 away from the client.
    pub fn remove_ipv4(&self) {
        self.client.ip(&format!("address delete {}/24 dev eth0\n", self.address));
    }

    /// The client's place.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The client's own router; panics where there is none.
    pub fn router(&self) -> &Router {
        self.routers.first().expect("this site has no router")
    }

    /// The router with the public address; panics where there is none.
    pub fn last_router(&self) -> &Router {
        self.routers.last().expect("this site has no router")
    }

    /// The address that others see.
    pub fn public_address(&self) -> Ipv4Addr {
        self.routers.last().map_or(self.address, Router::outside)
    }
}

/// A client's second way out.
#[derive(Debug)]
pub struct SecondWay {
    /// Behind which it is.
    pub router: Router,
    /// The client's address there.
    pub address: Ipv4Addr,
    gateway: Ipv4Addr,
}

impl SecondWay {
    const INTERFACE: &str = "wwan0";

    /// Comes up on its client; the way that is there already goes on being preferred.
    pub fn appears(&self, site: &Site) {
        let Self { address, gateway, .. } = self;
        let interface = Self::INTERFACE;
        site.client.ip(&format!(
            "link set {interface} up\naddress add {address}/24 dev {interface}\n\
             route add default via {gateway} dev {interface} metric 700\n"
        ));
    }
}

/// A network of one router and one host.
struct Network {
    prefix: [u8; 3],
}

impl Network {
    fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, 1)
    }

    fn host(&self) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, 10)
    }

    /// Joins the router's inner interface to one of the host.
    fn join(&self, router: &Namespace, host: &Namespace, interface: &str) {
        let (lan, gateway) = (Router::LAN, self.gateway());
        host.join(interface, router, lan);
        router.ip(&format!("address add {gateway}/24 dev {lan}\nlink set {lan} up\n"));
        host.ip(&format!(
            "address add {}/24 dev {interface}\nlink set {interface} up\nroute add default via {gateway}\n",
            self.host()
        ));
    }
}
