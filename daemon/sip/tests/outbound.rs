//! Registrations as flows (RFC 5626): how they are asked for, two of them by two servers, and what becomes of them when
//! one or both are lost.

use std::time::Duration;

use crate::common::home::*;
use crate::common::*;
use voipd_sip::endpoint::{InviteOptions, RegistrationState, Transport, TransportError};
use voipd_sip::message::{Message, Request};

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn reg_id(request: &Request) -> Option<String> {
    let contact = request.headers.contacts().unwrap().remove(0);
    contact.params.value("reg-id").map(str::to_owned)
}

/// Two servers that bind flows, and a telephone that is registered at both.
fn with_two() -> (Home, HostId) {
    let mut home = Home::open(telephone());
    let second = home.second_server();
    let mut home = home.registered(BINDS_FLOWS);
    home.net.run_ms(1000);
    assert_eq!((home.registers(home.server).len(), home.registers(second).len()), (1, 1));
    home.states();
    (home, second)
}

/// Where an INVITE of the telephone's goes first, and what its Contact is.
fn invite(home: &mut Home) -> (String, String) {
    let (id, phone) = (home.id, home.phone);
    let target = "sip:bob@example.org".parse().unwrap();
    let session = home.net.with(phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    home.net.with(phone, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    let last = home.net.capture.iter().rev().find(|(.., bytes)| bytes.starts_with(b"INVITE"));
    let (_, _, to, bytes) = last.unwrap();
    let Message::Request(request) = read(bytes) else { panic!() };
    let found = (to.to_string(), request.headers.get("Contact").unwrap().to_owned());
    home.net.with(phone, |e, now| e.hangup(now, session)).unwrap();
    found
}

// Asking.

#[test]
fn register_names_the_device_the_binding_and_what_we_can() {
    let mut home = Home::open(telephone()).registered(BINDS_FLOWS);
    let (_, request) = home.registers(home.server).remove(0);
    let contact = request.headers.contacts().unwrap().remove(0);
    assert_eq!(contact.params.value("+sip.instance"), Some(format!("<{INSTANCE}>").as_str()));
    assert_eq!(reg_id(&request).as_deref(), Some("1"));
    assert_eq!(request.headers.tokens("Supported"), ["path", "outbound"]);
    // Always the same, after a start as well (section 4.2.1).
    home.register();
    assert_eq!(reg_id(&home.registers(home.server)[0].1).as_deref(), Some("1"));
}

#[test]
fn without_an_instance_there_is_no_reg_id() {
    let mut home = Home::open(subscriber("<sip:alice@example.org>", "sip:example.org", "a", "b"));
    home = home.registered(&[]);
    let (_, request) = home.registers(home.server).remove(0);
    assert_eq!((reg_id(&request), request.headers.tokens("Supported")), (None, vec!["path"]));
}

#[test]
fn a_first_hop_that_lacks_outbound_is_registered_with_all_the_same() {
    let mut home = Home::open(telephone());
    home.set(|request| match reg_id(request) {
        Some(_) => answer(request, 439, "registrar"),
        None => grant(request, &[]),
    });
    home.register();
    assert!(matches!(home.state(), Some(RegistrationState::Registered { .. })));
    assert_eq!(home.registers(home.server).len(), 2);
}

#[test]
fn a_flow_that_has_failed_at_the_edge_is_made_anew() {
    let mut home = Home::open(telephone()).registered(BINDS_FLOWS);
    home.registers(home.server);
    let mut refused = false;
    home.set(move |request| match std::mem::replace(&mut refused, true) {
        false => answer(request, 430, "edge"),
        true => grant(request, BINDS_FLOWS),
    });
    home.register();
    assert!(matches!(home.state(), None | Some(RegistrationState::Registered { .. })));
    assert_eq!(home.registers(home.server).len(), 2, "section 11.5");
}

#[test]
fn dialogs_are_to_come_by_the_flow_that_carries_the_binding() {
    let mut home = Home::open(telephone()).registered(BINDS_FLOWS);
    let (_, contact) = invite(&mut home);
    assert!(contact.contains(";ob>"), "section 4.3: {contact}");
    let mut home = Home::open(telephone()).registered(&[]);
    let (_, contact) = invite(&mut home);
    assert!(!contact.contains("ob"), "{contact}");
}

// Two of them.

#[test]
fn two_addresses_of_one_name_carry_a_binding_each() {
    let mut home = Home::open(telephone());
    let second = home.second_server();
    let mut home = home.registered(BINDS_FLOWS);
    home.net.run_ms(1000);
    let (_, first) = home.registers(home.server).remove(0);
    let (_, other) = home.registers(second).remove(0);
    assert_eq!((reg_id(&first).unwrap(), reg_id(&other).unwrap()), ("1".into(), "2".into()));
    assert_ne!(first.call_id, other.call_id, "section 4.2.1: a unique Call-ID for each");
    let instance = |request: &Request| {
        request.headers.contacts().unwrap()[0].params.value("+sip.instance").map(str::to_owned)
    };
    assert_eq!(instance(&first), instance(&other));
}

#[test]
fn two_outbound_proxies_carry_a_binding_each() {
    let proxies = ["sip:one.example.org", "sip:two.example.org"];
    let outbound_proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
    let mut home = Home::open(voipd_sip::endpoint::Identity { outbound_proxies, ..telephone() });
    let second = home.second_server();
    home.net.name("one.example.org", &[REGISTRAR]);
    home.net.name("two.example.org", &[SECOND]);
    let mut home = home.registered(BINDS_FLOWS);
    home.net.run_ms(1000);
    for (server, name, expected) in [(home.server, "one", "1"), (second, "two", "2")] {
        let (_, request) = home.registers(server).remove(0);
        assert_eq!(reg_id(&request).as_deref(), Some(expected));
        assert_eq!(request.headers.get("Route"), Some(format!("<sip:{name}.example.org;lr>").as_str()));
    }
    assert_eq!(invite(&mut home).0, REGISTRAR);
    home.net.close(home.server);
    home.register();
    home.net.run(minutes(1));
    assert_eq!(invite(&mut home).0, SECOND, "calls go where a binding stands");
}

#[test]
fn a_registrar_that_binds_no_flows_gets_one_binding() {
    let mut home = Home::open(telephone());
    let second = home.second_server();
    let mut home = home.registered(&[]);
    home.net.run(minutes(5));
    assert!(home.registers(second).is_empty());
}

#[test]
fn one_server_carries_one_binding() {
    let mut home = Home::open(telephone()).registered(BINDS_FLOWS);
    home.net.run(minutes(30));
    assert_eq!(home.registers(home.server).len(), 1);
}

#[test]
fn both_bindings_are_refreshed_and_both_are_taken_back() {
    let (mut home, second) = with_two();
    home.net.run(minutes(62));
    assert!(!home.registers(home.server).is_empty() && !home.registers(second).is_empty());
    let id = home.id;
    home.net.with(home.phone, |e, now| e.unregister(now, id)).unwrap();
    home.net.run_ms(500);
    for (server, number) in [(home.server, "1"), (second, "2")] {
        let (_, last) = home.registers(server).pop().unwrap();
        assert_eq!(contacts(&last)[0].1, "0");
        assert_eq!(reg_id(&last).as_deref(), Some(number), "section 6: it is removed as it was made");
    }
    assert_eq!(home.states(), [RegistrationState::Unregistered]);
    home.net.run(minutes(62));
    assert!(home.registers(second).is_empty());
}

#[test]
fn while_one_stands_the_identity_is_registered_and_calls_go_by_it() {
    let (mut home, _) = with_two();
    assert_eq!(invite(&mut home).0, REGISTRAR);
    home.net.run(minutes(5));
    home.net.close(home.server);
    // Whatever is sent there comes back.
    home.register();
    home.net.run(Duration::from_secs(40));
    assert_eq!(home.states(), [], "nobody need know");
    assert_eq!(invite(&mut home).0, SECOND);
}

// Recovery (section 4.5).

/// When REGISTER went to a server, in seconds from `since` on.
fn tries(home: &Home, to: &str, since: u64) -> Vec<u64> {
    let to = to.parse().unwrap();
    let tries = home
        .net
        .capture
        .iter()
        .filter(|(_, _, remote, bytes)| *remote == to && bytes.starts_with(b"REGISTER"));
    tries.map(|(at, ..)| at.as_secs()).filter(|at| *at >= since).collect()
}

#[test]
fn one_that_is_lost_is_tried_at_leisure_while_another_stands() {
    let (mut home, _) = with_two();
    home.net.run(minutes(5));
    home.net.close(home.server);
    let since = home.net.elapsed().as_secs();
    home.register();
    home.net.run(minutes(120));
    let tries = tries(&home, REGISTRAR, since);
    // 90 s and up, to half an hour: two REGISTERs of one start are one try.
    let pauses: Vec<u64> =
        tries.windows(2).map(|pair| pair[1] - pair[0]).filter(|pause| *pause > 5).collect();
    assert!(pauses.len() >= 4 && pauses[0] >= 85, "{tries:?}");
    assert!(pauses.iter().all(|pause| *pause <= 1805) && *pauses.iter().max().unwrap() >= 700, "{tries:?}");
    let script = home.script();
    home.net.serve_anew(home.server, script);
    home.net.run(minutes(35));
    assert_eq!(home.registers(home.server).len(), 1);
    assert_eq!(invite(&mut home).0, REGISTRAR, "the first is preferred again");
}

#[test]
fn when_all_are_lost_the_tries_are_closer_and_differ_between_telephones() {
    let mut seen = Vec::new();
    for seed in 1..=5 {
        let mut home = Home::open(telephone());
        home.net = Net::seeded(seed);
        home.phone = home.net.agent(INSIDE);
        home.net.name("example.org", &[REGISTRAR]);
        home.server = home.net.closed(REGISTRAR);
        home.id = home.net.with(home.phone, |e, _| e.add_identity(telephone()));
        home.register();
        home.net.run(minutes(30));
        let tries = tries(&home, REGISTRAR, 0);
        let pauses: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Often while the outage is young, so that a router that restarts costs seconds; then ever more rarely.
        assert!(tries.iter().filter(|at| **at < 90).count() <= 25, "{tries:?}");
        assert!(pauses.iter().all(|pause| *pause <= 301), "{tries:?}");
        let late = tries.windows(2).filter(|pair| pair[0] >= 900).map(|pair| pair[1] - pair[0]);
        assert!(late.clone().count() >= 2 && late.min() >= Some(119), "{tries:?}");
        seen.push(tries);
    }
    seen.dedup();
    assert!(seen.len() > 2, "{seen:?}");
}

#[test]
fn a_lost_connection_costs_its_own_binding_alone() {
    let mut home = Home::open(telephone());
    let second = home.second_server();
    home.net.name_on("example.org", &[(Transport::Tcp, REGISTRAR), (Transport::Tcp, SECOND)]);
    let mut home = home.registered(BINDS_FLOWS);
    home.net.run(minutes(5));
    home.states();
    home.registers(second);
    home.registers(home.server);
    home.net.cut(home.phone, home.server);
    home.net.run(Duration::from_secs(3));
    assert_eq!(home.states(), []);
    assert_eq!((home.registers(home.server).len(), home.registers(second).len()), (1, 0));
    home.net.fault(Transport::Tcp, REGISTRAR, Some(TransportError::Refused));
    home.net.run(minutes(5));
    home.net.cut(home.phone, home.server);
    home.net.run(minutes(10));
    assert_eq!(home.states(), []);
    assert_eq!(invite(&mut home).0, SECOND);
}
