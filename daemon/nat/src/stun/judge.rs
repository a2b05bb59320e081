//! What the addresses that servers see say about the NAT in between. It asks nobody.

use std::net::{IpAddr, SocketAddr};

use super::{Mapping, Ports};

/// One server's view of one local socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    /// The socket that sent.
    pub(super) local: SocketAddr,
    /// To which address.
    pub(super) server: SocketAddr,
    /// As whom it was seen there.
    pub(super) public: SocketAddr,
}

/// Without those of servers on our own side of a NAT, where others are on the far side: they say nothing about it.
pub(super) fn from_outside(observations: &[Observation]) -> Vec<Observation> {
    let is_outside = |one: &&Observation| one.public.ip() != one.local.ip();
    let outside: Vec<_> = observations.iter().filter(is_outside).copied().collect();
    if outside.is_empty() { observations.to_vec() } else { outside }
}

/// How the NAT maps, as far as these observations tell (RFC 5780 section 4.3). Sockets are compared only with
/// themselves; what two sockets show of one network adds up.
pub(super) fn mapping(observations: &[Observation]) -> Mapping {
    if observations.is_empty() {
        return Mapping::Unknown;
    }
    if observations.iter().all(|one| one.public == one.local) {
        return Mapping::None;
    }
    // Who has a word that says more is heard.
    [
        Mapping::EndpointIndependent,
        Mapping::AddressAndPortDependent,
        Mapping::AddressDependent,
        Mapping::DestinationDependent,
    ]
    .into_iter()
    .find(|mapping| observations.iter().any(|one| of_socket(one.local, observations) == *mapping))
    .unwrap_or(Mapping::Unknown)
}

fn of_socket(local: SocketAddr, observations: &[Observation]) -> Mapping {
    let pairs = || {
        let own = || observations.iter().filter(move |one| one.local == local).enumerate();
        own().flat_map(move |(i, one)| own().filter(move |(j, _)| i < *j).map(move |(_, two)| (one, two)))
    };
    // Two machines that see the same address and port: with a mapping for each of them, they could not.
    if pairs().any(|(one, two)| one.server.ip() != two.server.ip() && one.public == two.public) {
        return Mapping::EndpointIndependent;
    }
    let mut at_two_ports = pairs()
        .filter(|(one, two)| one.server.ip() == two.server.ip() && one.server != two.server)
        .map(|(one, two)| one.public == two.public)
        .peekable();
    let two_machines = pairs().any(|(one, two)| one.server.ip() != two.server.ip());
    match (at_two_ports.peek().is_some(), two_machines) {
        (true, _) if at_two_ports.any(|same| !same) => Mapping::AddressAndPortDependent,
        (true, true) => Mapping::AddressDependent,
        (false, true) => Mapping::DestinationDependent,
        (_, false) => Mapping::Unknown,
    }
}

/// Whether servers see the ports that were sent from (RFC 4787 section 4.2.1).
pub(super) fn ports(observations: &[Observation]) -> Ports {
    match observations {
        [] => Ports::Unknown,
        all if all.iter().all(|one| one.local.port() == one.public.port()) => Ports::Preserved,
        _ => Ports::Changed,
    }
}

/// The address and port that several machines see, where one of them sees something else.
pub(super) fn outvoted(one: &Observation, observations: &[Observation]) -> Option<SocketAddr> {
    let votes = |public: SocketAddr| {
        let mut voters: Vec<IpAddr> = observations
            .iter()
            .filter(|other| other.local == one.local && other.public == public)
            .map(|other| other.server.ip())
            .collect();
        voters.sort_unstable();
        voters.dedup();
        voters.len()
    };
    let own = votes(one.public);
    let others = observations.iter().filter(|other| other.local == one.local).map(|other| other.public);
    others.filter(|public| votes(*public) >= 2.max(own + 1)).max_by_key(|public| votes(*public))
}

/// The public IP addresses, first the one that most observations have.
pub(super) fn addresses(observations: &[Observation]) -> Vec<IpAddr> {
    let mut counted: Vec<(IpAddr, usize)> = Vec::new();
    for one in observations {
        let ip = one.public.ip();
        match counted.iter_mut().find(|(known, _)| *known == ip) {
            Some((_, count)) => *count += 1,
            None => counted.push((ip, 1)),
        }
    }
    // Stable: among equals, the first stays first.
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counted.into_iter().map(|(ip, _)| ip).collect()
}

/// Why an address that a server names cannot be this machine's public one; `None` where it can.
pub(super) fn implausible(local: SocketAddr, public: SocketAddr, server: SocketAddr) -> Option<&'static str> {
    let ip = public.ip().to_canonical();
    if public.is_ipv4() != local.is_ipv4() {
        return Some("which is of another family");
    }
    if public.port() == 0 || reach(ip) == Reach::Nobody {
        return Some("which no machine has");
    }
    // RFC 4787 section 6 aside, who is called from the Internet sees no address that is used behind a NAT.
    let seen_from = reach(server.ip().to_canonical());
    (public.ip() != local.ip() && reach(ip) < seen_from).then_some("which cannot be seen from there")
}

/// Whether a server's other address (RFC 5780 section 7.4) can be asked: another machine's as far as anyone sees, and
/// no nearer to us than the server itself.
pub(super) fn usable_other(server: SocketAddr, other: SocketAddr) -> bool {
    server.is_ipv4() == other.is_ipv4()
        && other.port() != 0
        && other.ip() != server.ip()
        && other.port() != server.port()
        && reach(other.ip().to_canonical()) >= reach(server.ip().to_canonical())
}

/// From how far an address can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// It stands for none or for many.
    Nobody,
    Machine,
    Link,
    Site,
    World,
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            match (a, b) {
                (0 | 224..=255, _) => Reach::Nobody,
                (127, _) => Reach::Machine,
                (169, 254) => Reach::Link,
                // RFC 1918, and RFC 6598 for carriers' NATs.
                (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) => Reach::Site,
                _ => Reach::World,
            }
        }
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_multicast() => Reach::Nobody,
        IpAddr::V6(ip) if ip.is_loopback() => Reach::Machine,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Reach::Link,
        IpAddr::V6(ip) if ip.is_unique_local() => Reach::Site,
        IpAddr::V6(_) => Reach::World,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What each server sees of one socket.
    fn seen(pairs: &[(&str, &str)]) -> Vec<Observation> {
        let one = |(server, public): &(&str, &str)| Observation {
            local: at("192.168.1.7:5000"),
            server: at(server),
            public: at(public),
        };
        pairs.iter().map(one).collect()
    }

    const A: &str = "198.51.100.1:3478";
    const A2: &str = "198.51.100.1:3479";
    const B: &str = "198.51.100.2:3478";
    const C: &str = "198.51.100.3:3478";

    #[test]
    fn the_mapping_is_what_the_servers_together_show_and_no_more() {
        let [one, two, three] = ["203.0.113.9:1", "203.0.113.9:2", "203.0.113.9:3"];
        for (pairs, wanted) in [
            (&[][..], Mapping::Unknown),
            (&[(A, "192.168.1.7:5000")], Mapping::None),
            (&[(A, one)], Mapping::Unknown),
            (&[(A, one), (A2, one)], Mapping::Unknown),
            (&[(A, one), (A2, two)], Mapping::AddressAndPortDependent),
            (&[(A, one), (B, one)], Mapping::EndpointIndependent),
            (&[(A, one), (B, two)], Mapping::DestinationDependent),
            (&[(A, one), (A2, one), (B, two)], Mapping::AddressDependent),
            (&[(A, one), (A2, three), (B, two)], Mapping::AddressAndPortDependent),
            // One of them lies.
            (&[(A, one), (B, one), (C, "203.0.113.77:4")], Mapping::EndpointIndependent),
        ] {
            assert_eq!(mapping(&seen(pairs)), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn sockets_are_compared_with_themselves_alone() {
        let mut both = seen(&[(A, "203.0.113.9:1")]);
        both.push(Observation { local: at("192.168.1.7:5060"), server: at(B), public: at("203.0.113.9:2") });
        assert_eq!(mapping(&both), Mapping::Unknown);
        assert_eq!(addresses(&both), [at("203.0.113.9:1").ip()]);
    }

    #[test]
    fn a_server_on_our_side_of_the_nat_says_nothing_about_it() {
        let mixed =
            seen(&[("192.168.1.1:3478", "192.168.1.7:5000"), (A, "203.0.113.9:1"), (B, "203.0.113.9:1")]);
        assert_eq!(from_outside(&mixed), mixed[1..]);
        assert_eq!(from_outside(&mixed[..1]), mixed[..1]);
    }

    #[test]
    fn who_sees_what_nobody_else_sees_is_outvoted_by_two_who_agree() {
        let all = seen(&[(A, "203.0.113.9:1"), (B, "203.0.113.9:1"), (C, "203.0.113.66:1")]);
        let outvoted: Vec<_> = all.iter().map(|one| outvoted(one, &all)).collect();
        assert_eq!(outvoted, [None, None, Some(at("203.0.113.9:1"))]);
        let apart = seen(&[(A, "203.0.113.9:1"), (A2, "203.0.113.9:1"), (C, "203.0.113.9:2")]);
        assert!(apart.iter().all(|one| super::outvoted(one, &apart).is_none()), "one machine has one vote");
    }

    #[test]
    fn addresses_that_cannot_be_are_told() {
        let wrong = |public, server| implausible(at("192.168.1.7:5000"), at(public), at(server)).is_some();
        for public in ["0.0.0.0:7", "203.0.113.9:0", "255.255.255.255:7", "224.0.0.1:7", "[2001:db8::1]:7"] {
            assert!(wrong(public, A), "{public}");
        }
        for public in ["10.0.0.1:7", "127.0.0.1:7", "169.254.1.1:7", "100.64.0.1:7", "192.168.1.8:7"] {
            assert!(wrong(public, A), "{public}");
        }
        assert!(!wrong("203.0.113.9:7", A));
        assert!(!wrong("192.168.1.7:5000", A), "the server may be beside us, whatever its address");
        assert!(!wrong("10.0.0.1:7", "10.0.0.2:3478") && wrong("127.0.0.1:7", "10.0.0.2:3478"));
    }

    #[test]
    fn another_address_of_a_server_is_of_another_machine_and_not_nearer() {
        for (other, usable) in [
            ("198.51.100.2:3479", true),
            ("198.51.100.1:3479", false),
            ("198.51.100.2:3478", false),
            ("192.168.1.1:3479", false),
            ("127.0.0.1:3479", false),
            ("0.0.0.0:3479", false),
            ("198.51.100.2:0", false),
            ("[2001:db8::1]:3479", false),
        ] {
            assert_eq!(usable_other(at(A), at(other)), usable, "{other}");
        }
        assert!(usable_other(at("127.0.0.1:3478"), at("127.0.0.2:3479")));
    }
}
