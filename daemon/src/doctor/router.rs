//! What the router's ports mean for calls from outside: whether it opens any, and whether that is of use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use voipd_agent::RelayState;
use voipd_nat::mapping::{
    self, Gateway, MappingView, PinholeProblem, PinholeView, Protocol, Refusal, Spoken,
};
use voipd_nat::stun::Mapping;

use super::Check;
use crate::api::nat::NatView;

const ID: &str = "router";

/// What the driver knows of port mappings.
#[derive(Clone, Debug, Default)]
pub struct RouterFacts {
    /// Routers are asked at all.
    pub enabled: bool,
    /// The router, where one stands between this machine and the Internet.
    pub gateway: Option<Gateway>,
    /// What it says of itself.
    pub spoken: BTreeMap<Protocol, Spoken>,
    /// All that are wanted.
    pub mappings: Vec<MappingView>,
    /// There is a way out by IPv6, before which a firewall must be expected.
    pub ipv6: bool,
    /// What that firewall shall let in.
    pub pinholes: Vec<PinholeView>,
}

/// The router, and the ports that it shall have open now.
pub(super) fn judge(facts: &RouterFacts, nat: &NatView) -> Vec<Check> {
    let mut checks = vec![router(facts, nat)];
    if facts.enabled && facts.gateway.is_some() {
        checks.push(ports(&facts.mappings));
    }
    if facts.enabled && facts.ipv6 {
        checks.push(pinholes(&facts.pinholes));
    }
    checks
}

fn router(facts: &RouterFacts, nat: &NatView) -> Check {
    if !facts.enabled {
        let sentence = "the router is not asked to open ports: port-mapping is off in the configuration";
        return Check::skipped(ID, sentence);
    }
    let Some(Gateway { router, .. }) = facts.gateway else {
        let sentence = "there is no router to be asked for ports: this machine is not behind one, or voipd listens at \
                        other addresses";
        return Check::skipped(ID, sentence);
    };
    let speaks = |spoken: &Spoken| matches!(spoken, Spoken::Answers(_));
    let by: Vec<&str> = facts
        .spoken
        .iter()
        .filter(|(_, spoken)| speaks(spoken))
        .map(|(protocol, _)| title(*protocol))
        .collect();
    if by.is_empty() {
        return silent(facts, nat, router);
    }
    let mut outside: BTreeSet<Ipv4Addr> =
        facts.spoken.values().filter_map(Spoken::external).flatten().collect();
    outside.extend(facts.mappings.iter().filter_map(|view| view.external).map(|external| *external.ip()));
    let by = by.join(" and ");
    let mut told = outside.iter();
    match (told.next(), told.next()) {
        (None, _) => Check::ok(
            ID,
            format!(
                "the router {router} opens ports by {by}, and tells its address outside with the first one"
            ),
        ),
        (Some(address), None) => outside_address(router, &by, *address, nat),
        (Some(_), Some(_)) => Check::warning(
            ID,
            format!("the router {router} names several addresses of its own: {}", list(&outside)),
            "switch all but one of PCP, NAT-PMP and UPnP off in its settings",
        ),
    }
}

/// The router names one address of its own: can it be reached?
fn outside_address(router: Ipv4Addr, by: &str, address: Ipv4Addr, nat: &NatView) -> Check {
    if address.is_unspecified() {
        return Check::warning(
            ID,
            format!("the router {router} has no address outside: it has no connection to the Internet"),
            "look whether its line is up",
        );
    }
    if is_carriers(address) {
        return Check::warning(
            ID,
            format!(
                "the provider lets many customers share one public address (carrier-grade NAT): that of the router \
                 {router} outside is {address}, and ports that it opens are not reached from there"
            ),
            "ask the provider for a public IPv4 address, or name a relay, as relays in the account",
        );
    }
    if !mapping::is_public(address) {
        return Check::warning(
            ID,
            format!(
                "two routers stand in a row (double NAT): that of this network, {router}, has the private address \
                 {address} outside, so that ports that it opens are not reached from the Internet"
            ),
            "let the outer one pass everything to the inner one (bridge, DMZ or exposed host), or name a relay, as \
             relays in the account",
        );
    }
    let seen: BTreeSet<Ipv4Addr> = nat
        .discovery
        .paths
        .iter()
        .flat_map(|path| &path.public)
        .filter_map(|ip| match ip.to_canonical() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect();
    if !seen.is_empty() && !seen.contains(&address) {
        return Check::warning(
            ID,
            format!(
                "the router {router} says that its address outside is {address}, but servers see {}: whatever comes \
                 to its ports comes to another machine",
                list(&seen)
            ),
            "is a VPN in use, or a second line? Else another NAT stands before the router: name a relay, as relays in \
             the account",
        );
    }
    let agree = if seen.is_empty() { "" } else { ", as servers see it" };
    Check::ok(ID, format!("the router {router} opens ports by {by}; its address outside is {address}{agree}"))
}

/// None of the protocols is answered with a yes.
fn silent(facts: &RouterFacts, nat: &NatView, router: Ipv4Addr) -> Check {
    let refused = facts.spoken.iter().find_map(|(protocol, spoken)| match spoken {
        Spoken::Refused(Refusal::NoAnswer | Refusal::Unsupported) | Spoken::Asked | Spoken::Answers(_) => {
            None
        }
        Spoken::Refused(refusal) => Some((title(*protocol), refusal)),
    });
    let sentence = match refused {
        Some((protocol, refusal)) => format!("the router {router} opens no ports ({protocol}: {refusal})"),
        None => format!("the router {router} opens no ports: it answers neither PCP nor NAT-PMP nor UPnP"),
    };
    let relayed = nat.relays.iter().any(|relay| relay.state == RelayState::Reachable);
    let gets_through = |path: &voipd_nat::stun::PathReport| {
        matches!(path.mapping, Mapping::None | Mapping::EndpointIndependent)
    };
    if relayed || nat.discovery.paths.first().is_some_and(gets_through) {
        return Check::ok(ID, format!("{sentence}; calls find their way without"));
    }
    let remedy = "switch one of them on in its settings, or name a STUN server (stun under [nat]) or a relay (relays in \
                  the account)";
    Check::warning(ID, sentence, remedy)
}

/// Those that are wanted now.
fn ports(mappings: &[MappingView]) -> Check {
    const ID: &str = "mappings";
    let name = |view: &MappingView| {
        format!("{} port {}", view.want.transport.name().to_uppercase(), view.want.internal_port)
    };
    let problem = |view: &MappingView| Some((name(view), view.problem.as_ref()?.to_string()));
    if let Some((port, problem)) = mappings.iter().find_map(problem) {
        let failed = mappings.iter().filter(|view| view.problem.is_some()).count();
        let others = if failed > 1 { format!(", and {} more", failed - 1) } else { String::new() };
        return Check::warning(
            ID,
            format!("{port}{others} is not open at the router: {problem}"),
            "`voipctl nat` shows all of them; what is needed is asked for again and again",
        );
    }
    let open: Vec<String> = mappings
        .iter()
        .filter_map(|view| {
            let by = view.protocol.map_or("", title);
            Some(format!("{} at {} ({by})", name(view), view.external?))
        })
        .collect();
    match open.as_slice() {
        [] => Check::ok(ID, "no port has to be open now: those of a call are while it lasts"),
        [first] => Check::ok(ID, format!("the router has open for us: {first}")),
        [first, rest @ ..] => {
            Check::ok(ID, format!("the router has open for us: {first}, and {} more", rest.len()))
        }
    }
}

/// What is let in by IPv6 now.
fn pinholes(wanted: &[PinholeView]) -> Check {
    const ID: &str = "pinholes";
    let name = |view: &PinholeView| format!("{} port {}", view.transport.name().to_uppercase(), view.port);
    let failed: Vec<(String, PinholeProblem)> =
        wanted.iter().filter_map(|view| Some((name(view), view.problem?))).collect();
    if let Some((port, problem)) = failed.first() {
        let others =
            if failed.len() > 1 { format!(", and {} more", failed.len() - 1) } else { String::new() };
        return Check::warning(
            ID,
            format!("{port}{others} is not let in by IPv6, if the router has a firewall: {problem}"),
            "switch PCP on in its settings, or let the port in there; calls between telephones with ICE need none",
        );
    }
    let open: Vec<String> = wanted
        .iter()
        .filter_map(|view| {
            let address = view.open_until.and(view.address)?;
            Some(format!("{} at [{address}]:{} (PCP)", name(view), view.port))
        })
        .collect();
    match open.as_slice() {
        [] if wanted.is_empty() => Check::ok(ID, "nothing has to be let in by IPv6 now"),
        [] => Check::skipped(ID, "the router is just being asked to let calls in by IPv6"),
        [first] => Check::ok(ID, format!("the router lets in by IPv6: {first}")),
        [first, rest @ ..] => {
            Check::ok(ID, format!("the router lets in by IPv6: {first}, and {} more", rest.len()))
        }
    }
}

/// As people write it.
fn title(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Upnp => "UPnP",
        Protocol::NatPmp => "NAT-PMP",
        Protocol::Pcp => "PCP",
    }
}

fn list(addresses: &BTreeSet<Ipv4Addr>) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}

/// RFC 6598.
fn is_carriers(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && (64..128).contains(&second)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use voipd_agent::RelayView;
    use voipd_nat::mapping::{MappingId, Purpose, Transport};
    use voipd_nat::stun::{Filtering, Hairpin, PathReport, Ports, Report, State};

    use super::super::CheckState;
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn facts(spoken: &[(Protocol, Spoken)]) -> RouterFacts {
        let local = Ipv4Addr::new(192, 168, 1, 10);
        RouterFacts {
            enabled: true,
            gateway: Some(Gateway { router: ROUTER, local }),
            spoken: spoken.iter().cloned().collect(),
            mappings: Vec::new(),
            ipv6: false,
            pinholes: Vec::new(),
        }
    }

    fn answers(address: &str) -> [(Protocol, Spoken); 1] {
        [(Protocol::Upnp, Spoken::Answers(Some(address.parse().unwrap())))]
    }

    fn seen(public: &str, mapping: Mapping) -> NatView {
        let path = PathReport {
            local: "192.168.1.10".parse().unwrap(),
            public: vec![public.parse().unwrap()],
            mapping,
            filtering: Filtering::Unknown,
            ports: Ports::Changed,
            hairpin: Hairpin::Unknown,
        };
        let discovery =
            Report { state: State::Known, reason: String::new(), paths: vec![path], servers: Vec::new() };
        NatView { discovery, ..NatView::default() }
    }

    fn is(check: &Check, state: CheckState, words: &str) {
        assert_eq!(check.state, state, "{check:?}");
        assert!(check.sentence.contains(words), "{check:?}");
        assert_eq!(check.remedy.is_empty(), state != CheckState::Warning, "{check:?}");
    }

    #[test]
    fn an_address_outside_is_judged_by_its_range_and_by_what_servers_see() {
        let nat = seen("203.0.113.9", Mapping::Unknown);
        for (address, state, words) in [
            (
                "203.0.113.9",
                CheckState::Ok,
                "opens ports by UPnP; its address outside is 203.0.113.9, as servers",
            ),
            ("198.51.100.1", CheckState::Warning, "but servers see 203.0.113.9"),
            ("192.168.0.2", CheckState::Warning, "double NAT"),
            ("100.64.3.2", CheckState::Warning, "carrier-grade NAT"),
            ("100.128.3.2", CheckState::Warning, "but servers see"),
            ("0.0.0.0", CheckState::Warning, "has no address outside"),
        ] {
            is(&router(&facts(&answers(address)), &nat), state, words);
        }
        // Nobody has seen us: nothing is contradicted.
        is(&router(&facts(&answers("198.51.100.1")), &NatView::default()), CheckState::Ok, "198.51.100.1");
    }

    #[test]
    fn protocols_that_contradict_each_other_are_told() {
        let two = [
            (Protocol::Upnp, Spoken::Answers(Some("203.0.113.9".parse().unwrap()))),
            (Protocol::NatPmp, Spoken::Answers(Some("203.0.113.10".parse().unwrap()))),
        ];
        is(&router(&facts(&two), &NatView::default()), CheckState::Warning, "203.0.113.9, 203.0.113.10");
        let pcp =
            [(Protocol::Pcp, Spoken::Answers(None)), (Protocol::Upnp, Spoken::Refused(Refusal::NoAnswer))];
        is(&router(&facts(&pcp), &NatView::default()), CheckState::Ok, "by PCP, and tells its address");
    }

    #[test]
    fn a_router_that_opens_nothing_is_a_reason_to_worry_only_where_nothing_else_helps() {
        let silent = facts(&Protocol::ALL.map(|protocol| (protocol, Spoken::Refused(Refusal::NoAnswer))));
        is(&router(&silent, &NatView::default()), CheckState::Warning, "neither PCP nor NAT-PMP nor UPnP");
        let cone = seen("203.0.113.9", Mapping::EndpointIndependent);
        is(&router(&silent, &cone), CheckState::Ok, "find their way without");
        let symmetric = seen("203.0.113.9", Mapping::AddressAndPortDependent);
        is(&router(&silent, &symmetric), CheckState::Warning, "opens no ports");
        let relay =
            RelayView { uri: "turn:r".into(), state: RelayState::Reachable, round_trip: None, friend: None };
        is(&router(&silent, &NatView { relays: vec![relay], ..symmetric }), CheckState::Ok, "without");
        let forbidden = facts(&[(Protocol::Upnp, Spoken::Refused(Refusal::NotAuthorized))]);
        is(&router(&forbidden, &NatView::default()), CheckState::Warning, "UPnP: not allowed");
    }

    #[test]
    fn what_is_let_in_by_ipv6_stands_beside_the_mappings() {
        let of = |open: bool, problem| PinholeView {
            id: MappingId(7),
            transport: Transport::Udp,
            port: 5060,
            purpose: Purpose::Sip,
            address: Some("2001:db8::7".parse().unwrap()),
            open_until: open.then(Instant::now),
            problem,
        };
        let says = |wanted: &[PinholeView]| {
            let facts = RouterFacts { ipv6: true, pinholes: wanted.to_vec(), ..facts(&[]) };
            judge(&facts, &NatView::default()).pop().unwrap()
        };
        is(&says(&[]), CheckState::Ok, "nothing has to be let in");
        is(&says(&[of(true, None)]), CheckState::Ok, "UDP port 5060 at [2001:db8::7]:5060 (PCP)");
        is(&says(&[of(true, None), of(true, None)]), CheckState::Ok, ", and 1 more");
        is(&says(&[of(false, None)]), CheckState::Skipped, "just being asked");
        let refused = of(false, Some(PinholeProblem::Silent));
        is(&says(&[of(true, None), refused]), CheckState::Warning, "UDP port 5060 is not let in");
        let without = RouterFacts { ipv6: false, ..facts(&[]) };
        assert!(judge(&without, &NatView::default()).iter().all(|check| check.id != "pinholes"));
    }

    #[test]
    fn who_asks_no_router_is_told_so() {
        let off = RouterFacts { enabled: false, ..facts(&[]) };
        is(&judge(&off, &NatView::default())[0], CheckState::Skipped, "port-mapping is off");
        let none = RouterFacts { gateway: None, ..facts(&[]) };
        let checks = judge(&none, &NatView::default());
        assert_eq!(checks.len(), 1);
        is(&checks[0], CheckState::Skipped, "no router");
    }
}
