//! Contact as it is seen from outside: learned from the topmost Via of responses (RFC 3581), written into REGISTER and
//! dialogs, and what it named before taken back.

use std::time::Duration;

use crate::common::home::*;
use crate::common::nat::Mapping;
use crate::common::*;
use voipd_sip::endpoint::{ContactPolicy, Event, Identity, InviteOptions, RegistrationState, Transport};
use voipd_sip::message::{Message, Request};

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn bound(requests: &[(Duration, Request)]) -> Vec<Vec<(String, String)>> {
    requests.iter().map(|(_, request)| contacts(request)).collect()
}

fn pair(place: &str, expires: &str) -> (String, String) {
    (place.to_owned(), expires.to_owned())
}

#[test]
fn every_request_asks_for_the_way_back_by_rport() {
    let mut home = Home::new().registered(&[]);
    let target = "sip:bob@example.org".parse().unwrap();
    let id = home.id;
    let session =
        home.net.with(home.phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    home.net.with(home.phone, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    home.net.run_ms(100);
    for (.., bytes) in home.net.capture.iter().filter(|(_, from, ..)| *from == home.net.address(home.phone)) {
        let Message::Request(request) = read(bytes) else { panic!() };
        assert!(request.via[0].params.get("rport").is_some(), "{}", request.method.as_str());
    }
}

#[test]
fn a_registrar_without_a_challenge_is_told_at_once_and_what_was_wrong_is_taken_back() {
    let mut home = Home::new().registered(&[]);
    let seen = home.registers(home.server);
    assert_eq!(
        bound(&seen),
        [vec![pair(INSIDE, "3600")], vec![pair("203.0.113.5:40001", "3600"), pair(INSIDE, "0")],]
    );
    home.net.run(minutes(62));
    // Refreshes say no more than is new.
    let seen = home.registers(home.server);
    assert!(bound(&seen).iter().all(|contacts| *contacts == [pair("203.0.113.5:40001", "3600")]), "{seen:?}");
    assert!(!seen.is_empty());
}

#[test]
fn a_challenge_tells_in_time_for_the_first_binding_to_be_right() {
    let mut home = Home::new();
    home.set(|request| match request.headers.get("Authorization") {
        None => {
            let mut response = answer(request, 401, "registrar");
            response.headers.push("WWW-Authenticate", "Digest realm=\"example.org\", nonce=\"n\"");
            response
        }
        Some(_) => grant(request, &[]),
    });
    home.register();
    let seen = home.registers(home.server);
    assert_eq!(bound(&seen), [vec![pair(INSIDE, "3600")], vec![pair("203.0.113.5:40001", "3600")]]);
}

#[test]
fn a_mapping_that_has_moved_is_followed() {
    let mut home = Home::new().registered(&[]);
    home.net.run(minutes(5));
    home.registers(home.server);
    home.net.restart_router(OUTSIDE);
    home.register();
    assert_eq!(
        bound(&home.registers(home.server)),
        [
            vec![pair("203.0.113.5:40001", "3600")],
            vec![pair("203.0.113.5:40002", "3600"), pair("203.0.113.5:40001", "0")],
        ]
    );
    assert_eq!(home.states(), [], "nobody need know");
}

#[test]
fn a_router_that_translates_each_packet_anew_is_followed_a_few_times_only() {
    let mut home = Home::behind(Mapping::EachPacket, minutes(5)).registered(&[]);
    let count = home.registers(home.server).len();
    assert_eq!(count, 4, "three times");
    home.net.run(minutes(120));
    let count = home.registers(home.server).len();
    assert!(count <= 5, "and none but for the life of the binding: {count}");
    assert!(matches!(home.state(), None | Some(RegistrationState::Registered { .. })));
}

#[test]
fn the_account_may_keep_to_its_own_address() {
    let mut home = Home::open(Identity { contact: ContactPolicy::Local, ..telephone() });
    home.net.nat(INSIDE, OUTSIDE, Mapping::Cone, Duration::from_secs(30));
    let mut home = home.registered(&[]);
    assert_eq!(bound(&home.registers(home.server)), [vec![pair(INSIDE, "3600")]]);
    home.net.run(minutes(2));
    assert!(!home.pings().is_empty(), "the translation is kept open all the same");
}

#[test]
fn where_the_registrar_binds_flows_the_address_in_contact_is_nobody_s_concern() {
    let mut home = Home::new().registered(BINDS_FLOWS);
    assert_eq!(bound(&home.registers(home.server)), [vec![pair(INSIDE, "3600")]]);
}

#[test]
fn a_connection_is_named_as_its_far_end_sees_it() {
    let mut home = Home::new();
    home.net.name_on("example.org", &[(Transport::Tcp, REGISTRAR)]);
    let mut home = home.registered(&[]);
    let seen = home.registers(home.server);
    let last = bound(&seen).pop().unwrap();
    assert_eq!(last, [pair("203.0.113.5:40000", "3600"), pair(INSIDE, "0")]);
    let contact = seen[1].1.headers.get("Contact").unwrap();
    assert!(contact.contains(":40000;transport=tcp"), "{contact}");
    // Without a router, the port where we listen is the one to call.
    let mut home = Home::open(telephone());
    home.net.name_on("example.org", &[(Transport::Tcp, REGISTRAR)]);
    let mut home = home.registered(&[]);
    assert_eq!(bound(&home.registers(home.server)), [vec![pair(INSIDE, "3600")]]);
}

#[test]
fn calls_name_the_address_that_the_server_sees() {
    let mut home = Home::new().registered(&[]);
    let target = "sip:bob@example.org".parse().unwrap();
    let id = home.id;
    let session =
        home.net.with(home.phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    home.net.with(home.phone, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    home.net.run_ms(100);
    let seen = home.net.seen(home.server);
    let invite = seen.iter().find(|(_, request)| request.method == method("INVITE")).unwrap();
    assert!(invite.1.headers.get("Contact").unwrap().contains("@203.0.113.5:40001>"));
}

#[test]
fn the_owner_hears_as_whom_we_are_seen() {
    let mut home = Home::new();
    home.register();
    let seen: Vec<_> = home
        .net
        .events(home.phone)
        .into_iter()
        .filter_map(|event| match event {
            Event::Seen { identity, address, .. } if identity == home.id => Some(address),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [Some("203.0.113.5:40001".parse().unwrap())]);
    let mut home = Home::open(telephone());
    home.register();
    assert!(!home.net.events(home.phone).iter().any(|event| matches!(event, Event::Seen { .. })));
}
