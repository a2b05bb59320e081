//! In which order the answers of name servers are tried: services of NAPTR, servers of SRV, addresses of two families.
//! It asks nothing.

use std::collections::VecDeque;
use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use voipd_sip::endpoint::Transport;

/// Most SRV records of one service that are looked at: an answer may be a forger's.
pub const MAX_SERVERS: usize = 64;

/// A way to reach a domain by SIP, as NAPTR offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Services of a higher order are not looked at when one of a lower order is there (RFC 3403 section 4.1).
    pub order: u16,
    /// What carries it.
    pub transport: Transport,
    /// Where the SRV records are.
    pub servers: Name,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Those with the lowest are tried first.
    pub priority: u16,
    /// Its chance among those of its priority.
    pub weight: u16,
    /// Whose addresses it has; never the root.
    pub target: Name,
    /// Never 0.
    pub port: u16,
}

impl Server {
    /// `None` where the domain says that there is no such service (target `.`, RFC 2782), or names no port.
    pub fn of(record: &SRV) -> Option<Self> {
        let SRV { priority, weight, port, .. } = *record;
        let there = port != 0 && !record.target.is_root();
        there.then(|| Self { priority, weight, target: record.target.clone(), port })
    }
}

/// The SIP services among NAPTR records (RFC 3263 section 4.1), first the one to try first; others are left out.
pub fn services(records: &[NAPTR]) -> Vec<Service> {
    let mut sorted: Vec<&NAPTR> = records.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |record: &NAPTR| (record.order, record.preference, record.services.to_ascii_lowercase());
        key(a).cmp(&key(b)).then_with(|| a.replacement.cmp(&b.replacement))
    });
    let mut services: Vec<Service> = Vec::new();
    for record in sorted {
        let Some(transport) = transport_of(&record.services) else { continue };
        // RFC 3263 section 4.1: the replacement is the name of SRV records, and there is no expression.
        if !record.flags.eq_ignore_ascii_case(b"s")
            || !record.regexp.is_empty()
            || record.replacement.is_root()
        {
            continue;
        }
        let service = Service { order: record.order, transport, servers: record.replacement.clone() };
        if !services.iter().any(|known| known.transport == transport && known.servers == service.servers) {
            services.push(service);
        }
    }
    services
}

fn transport_of(services: &[u8]) -> Option<Transport> {
    let known =
        [(&b"SIP+D2U"[..], Transport::Udp), (b"SIP+D2T", Transport::Tcp), (b"SIPS+D2T", Transport::Tls)];
    known.iter().find(|(name, _)| services.eq_ignore_ascii_case(name)).map(|(_, transport)| *transport)
}

/// Servers by priority; within one by lot, where those with more weight win more often (RFC 2782). `draw(n)` answers
/// with a number from 0 to `n`, each as likely as the others.
pub fn order_servers(mut servers: Vec<Server>, draw: &mut impl FnMut(u32) -> u32) -> Vec<Server> {
    // Those without weight stand first, so that they too win now and then. The rest of the key makes the order of the
    // answer, which name servers rotate, irrelevant.
    servers.sort_by(|a, b| {
        let key = |server: &Server| (server.priority, server.weight, server.port);
        key(a).cmp(&key(b)).then_with(|| a.target.cmp(&b.target))
    });
    servers.truncate(MAX_SERVERS);
    let mut waiting = VecDeque::from(servers);
    let mut ordered = Vec::with_capacity(waiting.len());
    while let Some(priority) = waiting.front().map(|first| first.priority) {
        let rivals = || waiting.iter().take_while(|server| server.priority == priority);
        let sum: u32 = rivals().map(|server| u32::from(server.weight)).sum();
        let lot = draw(sum);
        let mut running = 0;
        let winner = rivals().position(|server| {
            running += u32::from(server.weight);
            running >= lot
        });
        ordered.extend(waiting.remove(winner.unwrap_or(0)));
    }
    ordered
}

/// Families take turns, beginning with IPv6 (RFC 8305 section 4); addresses without a route come last.
pub fn take_turns(addresses: Vec<IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (near, far): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| has_route(*address));
    let mut turns = alternate(near);
    turns.extend(alternate(far));
    turns
}

fn alternate(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

/// An address that one machine can have. What stands for all, none or many is no server, whoever says so.
pub fn single_host(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    let many = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    (!address.is_unspecified() && !address.is_multicast() && !many).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn server(priority: u16, weight: u16, target: &str) -> Server {
        Server::of(&SRV::new(priority, weight, 5060, name(target))).unwrap()
    }

    fn naptr(
        order: u16,
        preference: u16,
        flags: &str,
        service: &str,
        regexp: &str,
        replacement: &str,
    ) -> NAPTR {
        let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        NAPTR::new(order, preference, bytes(flags), bytes(service), bytes(regexp), name(replacement))
    }

    fn targets(servers: &[Server]) -> Vec<String> {
        servers.iter().map(|server| server.target.to_ascii()).collect()
    }

    /// Every lot, in a fixed order: a generator without luck.
    fn counter(seed: u32) -> impl FnMut(u32) -> u32 {
        let mut state = seed;
        move |most| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u32::try_from((u64::from(state) * (u64::from(most) + 1)) >> 32).unwrap()
        }
    }

    #[test]
    fn naptr_services_stand_by_order_then_preference_and_unknown_ones_are_left_out() {
        // The example of RFC 3263 section 4.1, and records that no SIP client may use.
        let found = services(&[
            naptr(100, 50, "s", "SIP+D2U", "", "_sip._udp.example.com."),
            naptr(90, 50, "S", "sip+d2t", "", "_sip._tcp.example.com."),
            naptr(90, 40, "s", "SIP+D2S", "", "_sip._sctp.example.com."),
            naptr(50, 50, "s", "SIPS+D2T", "", "_sips._tcp.example.com."),
            naptr(10, 1, "u", "E2U+sip", "!^.*$!sip:info@example.com!", "."),
            naptr(10, 2, "s", "SIP+D2U", "!^.*$!x!", "_sip._udp.forged.example."),
            naptr(10, 3, "a", "SIP+D2U", "", "host.example.com."),
            naptr(10, 4, "s", "SIP+D2U", "", "."),
            naptr(100, 60, "s", "SIP+D2U", "", "_SIP._udp.example.com."),
        ]);
        let transports: Vec<Transport> = found.iter().map(|service| service.transport).collect();
        assert_eq!(transports, [Transport::Tls, Transport::Tcp, Transport::Udp]);
        assert_eq!(found[2].servers, name("_sip._udp.example.com."));
    }

    #[test]
    fn srv_priorities_stand_upwards_whatever_the_lot() {
        for seed in 0..50 {
            let servers =
                vec![server(20, 100, "c."), server(10, 0, "a."), server(30, 5, "d."), server(10, 0, "b.")];
            let ordered = order_servers(servers, &mut counter(seed));
            let priorities: Vec<u16> = ordered.iter().map(|server| server.priority).collect();
            assert_eq!(priorities, [10, 10, 20, 30]);
        }
    }

    #[test]
    fn srv_weights_are_chances_of_being_first() {
        let mut draw = counter(7);
        let mut first = [0u32; 3];
        for _ in 0..10_000 {
            let servers = vec![server(1, 60, "a."), server(1, 30, "b."), server(1, 10, "c.")];
            let ordered = order_servers(servers, &mut draw);
            assert_eq!(ordered.len(), 3);
            let index =
                ["a.", "b.", "c."].iter().position(|name| *name == ordered[0].target.to_ascii()).unwrap();
            first[index] += 1;
        }
        for (count, share) in first.iter().zip([6000u32, 3000, 1000]) {
            assert!(count.abs_diff(share) < 300, "{first:?}");
        }
    }

    #[test]
    fn a_server_without_weight_is_drawn_only_by_the_lot_nought() {
        let servers = || vec![server(1, 10, "heavy."), server(1, 0, "light.")];
        assert_eq!(targets(&order_servers(servers(), &mut |_| 0)), ["light.", "heavy."]);
        assert_eq!(targets(&order_servers(servers(), &mut |_| 1)), ["heavy.", "light."]);
        assert_eq!(targets(&order_servers(servers(), &mut |most| most)), ["heavy.", "light."]);
    }

    #[test]
    fn the_same_lots_give_the_same_order_however_the_answer_was_rotated() {
        let servers = [server(1, 5, "a."), server(1, 5, "b."), server(1, 5, "c."), server(2, 1, "d.")];
        let mut rotated = servers.to_vec();
        rotated.rotate_left(2);
        assert_eq!(order_servers(servers.to_vec(), &mut counter(3)), order_servers(rotated, &mut counter(3)));
    }

    #[test]
    fn thousands_of_servers_in_one_answer_are_cut_down() {
        let servers: Vec<Server> = (0..3000).map(|n| server(n % 7, 1, &format!("h{n}."))).collect();
        assert_eq!(order_servers(servers, &mut counter(1)).len(), MAX_SERVERS);
    }

    #[test]
    fn a_root_target_or_port_nought_is_no_server() {
        assert_eq!(Server::of(&SRV::new(0, 0, 5060, Name::root())), None);
        assert_eq!(Server::of(&SRV::new(0, 0, 0, name("a."))), None);
    }

    #[test]
    fn families_take_turns_and_those_without_a_route_come_last() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let all = ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]);
        assert_eq!(
            take_turns(all.clone(), |_| true),
            ips(&["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"])
        );
        assert_eq!(
            take_turns(all, |address| address.is_ipv4()),
            ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"])
        );
    }

    #[test]
    fn addresses_that_no_single_machine_has_are_left_out() {
        let host = |text: &str| single_host(text.parse().unwrap());
        for none in ["0.0.0.0", "::", "224.0.1.75", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert_eq!(host(none), None, "{none}");
        }
        assert_eq!(host("::ffff:192.0.2.7"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(host("127.0.0.1"), Some("127.0.0.1".parse().unwrap()));
    }
}
