//! What discovery says about each kind of NAT, in virtual time.

use std::net::IpAddr;
use std::time::Duration;

use crate::stun_lab::{By, Lab, Nat, StunServer, only_path, server};
use voipd_nat::stun::{Filtering, Hairpin, Mapping, Ports, State};

const FIRST: &str = "198.51.100.1:3478";
const OTHER: &str = "198.51.100.2:3479";
const SECOND: &str = "198.51.100.77:3478";

fn full() -> Vec<StunServer> {
    vec![StunServer::full(FIRST, OTHER)]
}

fn two_plain() -> Vec<StunServer> {
    vec![StunServer::plain(FIRST), StunServer::plain(SECOND)]
}

/// Mapping and filtering as one server that knows RFC 5780 shows them.
fn behaviour(nat: Nat) -> (Mapping, Filtering) {
    let report = Lab::first_round(nat, full());
    let path = only_path(&report);
    (path.mapping, path.filtering)
}

#[test]
fn a_machine_with_a_public_address_has_no_nat() {
    let report = Lab::first_round(Nat::firewall(By::Nothing), full());
    let path = only_path(&report);
    assert_eq!((path.mapping, path.filtering), (Mapping::None, Filtering::None));
    assert_eq!((path.ports, path.hairpin), (Ports::Preserved, Hairpin::Unknown));
    assert_eq!(path.public, [path.local]);
}

#[test]
fn a_firewall_without_nat_is_known_by_its_filter() {
    for (filter, wanted) in
        [(By::Address, Filtering::AddressDependent), (By::AddressAndPort, Filtering::AddressAndPortDependent)]
    {
        assert_eq!(behaviour(Nat::firewall(filter)), (Mapping::None, wanted));
    }
}

#[test]
fn each_mapping_and_each_filter_is_told_from_the_others() {
    let mappings = [
        (By::Nothing, Mapping::EndpointIndependent),
        (By::Address, Mapping::AddressDependent),
        (By::AddressAndPort, Mapping::AddressAndPortDependent),
    ];
    let filters = [
        (By::Nothing, Filtering::EndpointIndependent),
        (By::Address, Filtering::AddressDependent),
        (By::AddressAndPort, Filtering::AddressAndPortDependent),
    ];
    for (by, mapping) in mappings {
        for (filter, filtering) in filters {
            assert_eq!(behaviour(Nat::new(by, filter)), (mapping, filtering), "{by:?} {filter:?}");
        }
    }
}

#[test]
fn the_public_address_is_the_routers_and_the_server_shows_its_round_trip() {
    let report = Lab::first_round(Nat::new(By::Nothing, By::AddressAndPort), full());
    assert_eq!(only_path(&report).public, ["203.0.113.9".parse::<IpAddr>().unwrap()]);
    let server = server(&report, FIRST);
    assert_eq!(server.rtt, Some(Duration::from_millis(20)));
    assert_eq!(server.public.unwrap().ip(), only_path(&report).public[0]);
}

#[test]
fn two_servers_that_know_no_rfc_5780_show_what_they_can() {
    let of = |by| {
        let report = Lab::first_round(Nat::new(by, By::AddressAndPort), two_plain());
        let path = only_path(&report);
        (path.mapping, path.filtering)
    };
    assert_eq!(of(By::Nothing), (Mapping::EndpointIndependent, Filtering::Unknown));
    assert_eq!(of(By::Address), (Mapping::DestinationDependent, Filtering::Unknown));
    assert_eq!(of(By::AddressAndPort), (Mapping::DestinationDependent, Filtering::Unknown));
}

#[test]
fn one_plain_server_tells_the_address_and_not_the_behaviour() {
    let report =
        Lab::first_round(Nat::new(By::AddressAndPort, By::AddressAndPort), vec![StunServer::plain(FIRST)]);
    let path = only_path(&report);
    assert_eq!((path.mapping, path.filtering), (Mapping::Unknown, Filtering::Unknown));
    assert_eq!(path.public.len(), 1);
}

#[test]
fn a_nat_that_turns_packets_back_and_keeps_ports_is_known_by_it() {
    for (hairpin, filtering, wanted) in [
        (true, By::Nothing, Hairpin::Works),
        (true, By::AddressAndPort, Hairpin::Works),
        (false, By::Nothing, Hairpin::Fails),
    ] {
        let nat = Nat { hairpin, preserves_ports: true, ..Nat::new(By::Nothing, filtering) };
        let report = Lab::first_round(nat, full());
        let path = only_path(&report);
        assert_eq!((path.hairpin, path.ports), (wanted, Ports::Preserved), "{hairpin} {filtering:?}");
        assert_eq!(path.mapping, Mapping::EndpointIndependent);
    }
    let report = Lab::first_round(Nat::new(By::Nothing, By::Nothing), two_plain());
    assert_eq!(only_path(&report).ports, Ports::Changed);
}

#[test]
fn a_symmetric_nat_is_not_asked_to_turn_packets_back() {
    let mut lab = Lab::new(Nat::new(By::AddressAndPort, By::AddressAndPort), full());
    lab.run_round();
    assert_eq!(only_path(&lab.report()).hairpin, Hairpin::Unknown);
    assert!(lab.sent.iter().all(|to| Some(to.ip()) != lab.nat.public));
}

#[test]
fn where_udp_is_blocked_that_is_said() {
    let nat = Nat { blocked: true, ..Nat::new(By::Nothing, By::Nothing) };
    let report = Lab::first_round(nat, two_plain());
    assert_eq!(report.state, State::Failed);
    assert!(report.reason.contains("UDP is blocked"), "{}", report.reason);
    assert!(report.paths.iter().all(|path| path.public.is_empty()));
}
