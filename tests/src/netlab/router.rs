//! A router: translates addresses in one of the ways that are found in homes and at carriers.

use std::cell::Cell;
use std::net::Ipv4Addr;

use super::Namespace;

/// How a router translates (in words of RFC 4787).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Endpoint-independent mapping, address- and port-dependent filtering: the usual router.
    Cone,
    /// Endpoint-independent mapping and filtering: who is told the mapping can use it.
    FullCone,
    /// Address- and port-dependent mapping: each destination sees another port.
    Symmetric,
    /// Like [`Nat::Cone`], and no datagram passes but to and from name servers, as in some offices and hotels.
    TcpOnly,
}

/// A router with a network on each side.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    nat: Nat,
    /// The host on the inside.
    client: Ipv4Addr,
    outside: Cell<Ipv4Addr>,
    default_route: Ipv4Addr,
}

impl Router {
    /// Interface of the outer network.
    pub(super) const WAN: &str = "wan0";
    /// Interface of the inner network.
    pub(super) const LAN: &str = "lan0";

    /// Takes a namespace with both interfaces up into service. `default_route` is where
    /// everything goes.
    pub(super) fn new(
        namespace: Namespace,
        nat: Nat,
        client: Ipv4Addr,
        outside: Ipv4Addr,
        default_route: Ipv4Addr,
    ) -> Self {
        namespace.sysctl("net/ipv4/ip_forward", "1");
        let router = Self { namespace, nat, client, outside: Cell::new(outside), default_route };
        router.load(router.nat);
        router
    }

    /// Its place.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address on the outer network now.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside.get()
    }

    /// Its address on the inner network.
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.client.octets();
        Ipv4Addr::new(a, b, c, 1)
    }

    /// Gets another address, as after a reconnect at night: what the old one was known for is lost.
    pub fn rebind(&self) -> Ipv4Addr {
        let old = self.outside.get();
        let [a, b, c, d] = old.octets();
        // No router's first address is that high.
        let new = Ipv4Addr::new(a, b, c, if d < 100 { d + 100 } else { d - 100 });
        let (wan, gateway) = (Self::WAN, self.default_route);
        self.namespace.ip(&format!(
            "address delete {old}/24 dev {wan}\naddress add {new}/24 dev {wan}\n\
             route replace default via {gateway}\n"
        ));
        self.namespace.forget_connections();
        self.outside.set(new);
        new
    }

    /// Lets nothing pass, or everything again: a line can be dead though the plug is in.
    pub fn blackout(&self, on: bool) {
        let rule = if on { "add rule inet nat blackout drop\n" } else { "" };
        self.namespace.nft(&format!("flush chain inet nat blackout\n{rule}"));
    }

    /// Lets nothing pass but SIP and connections, or everything again: whoever is behind it has vanished for media alone.
    pub fn media_blackout(&self, on: bool) {
        let rule = match on {
            true => "add rule inet nat blackout udp sport != 5060 udp dport != 5060 drop\n",
            false => "",
        };
        self.namespace.nft(&format!("flush chain inet nat blackout\n{rule}"));
    }

    /// Rewrites addresses in SIP over UDP to and from port 5060, as the "SIP ALG" of many routers does.
    pub fn sip_alg(&self, on: bool) {
        let rule = if on { "add rule inet nat helpers udp dport 5060 ct helper set \"sip\"\n" } else { "" };
        self.namespace.nft(&format!("flush chain inet nat helpers\n{rule}"));
        self.namespace.forget_connections();
    }

    fn load(&self, nat: Nat) {
        let (wan, lan, client) = (Self::WAN, Self::LAN, self.client);
        // Who has sent from a port can be reached there for a while by everybody.
        let opens =
            format!("iifname {lan} meta l4proto {{ tcp, udp }} update @opened {{ meta l4proto . th sport }}");
        let opened = format!("iifname {wan} meta l4proto . th dport @opened dnat ip to {client}");
        let (forward, prerouting, masquerade) = match nat {
            Nat::Cone => (String::new(), String::new(), "masquerade"),
            Nat::FullCone => (opens, opened, "masquerade"),
            Nat::Symmetric => (String::new(), String::new(), "masquerade random,fully-random"),
            Nat::TcpOnly => {
                ("ct direction original udp dport != 53 drop".into(), String::new(), "masquerade")
            }
        };
        self.namespace.nft(&format!(
            "table inet nat {{
                ct helper sip {{ type \"sip\" protocol udp; }}
                set opened {{ type inet_proto . inet_service; flags dynamic,timeout; timeout 2m; }}
                chain helpers {{ type filter hook prerouting priority -150; policy accept; }}
                chain input {{
                    type filter hook input priority 0; policy drop;
                    iifname {{ lo, {lan} }} accept
                    meta l4proto {{ icmp, ipv6-icmp }} accept
                    ct state established,related accept
                }}
                chain blackout {{ }}
                chain forward {{
                    type filter hook forward priority 0; policy drop;
                    jump blackout
                    {forward}
                    ct state established,related accept
                    iifname {lan} accept
                    ct status dnat accept
                }}
                chain prerouting {{
                    type nat hook prerouting priority -100;
                    {prerouting}
                }}
                chain postrouting {{
                    type nat hook postrouting priority 100;
                    oifname {wan} meta nfproto ipv4 {masquerade}
                }}
            }}\n"
        ));
    }
}
