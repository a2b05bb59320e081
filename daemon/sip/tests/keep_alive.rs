//! Keep-alives: which are sent and when, and what is done where they are not answered (RFC 5626 sections 3.5 and 4.4,
//! RFC 6223).

use std::time::Duration;

use crate::common::home::*;
use crate::common::nat::Mapping;
use crate::common::*;
use voipd_sip::endpoint::{Event, RegistrationState, SessionId, Transport};

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn pauses(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The registrar's request for a call of bob's to this contact.
fn invite(transport: &str, user: &str, number: u32) -> String {
    format!(
        "INVITE {user} SIP/2.0
Via: SIP/2.0/{transport} 198.51.100.1:5060;branch=z9hG4bKcall{number}
Max-Forwards: 70
From: <sip:bob@example.org>;tag=bob
To: <sip:alice@example.org>
Call-ID: call-{number}
CSeq: 1 INVITE
Contact: <sip:bob@198.51.100.1:5060;transport={transport}>
Content-Length: 0

"
    )
}

// Which, and when.

#[test]
fn behind_a_translation_line_ends_go_out_every_24_to_29_seconds() {
    let mut home = Home::new().registered(&[]);
    home.net.run(minutes(10));
    let pings = home.pings();
    assert!((19..=26).contains(&pings.len()), "{pings:?}");
    // A refresh in between begins the time anew.
    assert!(pauses(&pings).iter().all(|pause| (23..=58).contains(pause)), "{pings:?}");
    assert!(home.stun_requests().is_empty(), "the registrar has not said that it knows STUN");
}

#[test]
fn a_call_comes_in_after_an_hour_though_the_router_forgets_after_half_a_minute() {
    let mut home = Home::new().registered(&[]);
    home.net.run(minutes(60));
    let (_, register) = home.registers(home.server).pop().unwrap();
    let (place, _) = contacts(&register)[0].clone();
    let user = register.headers.contacts().unwrap()[0].uri.to_string();
    let invite = invite("UDP", &user, 1);
    home.net.send_to(home.server, &place, crlf(&invite).as_bytes());
    home.net.run_ms(100);
    incoming(&home.net.events(home.phone));
}

#[test]
fn nothing_is_sent_where_nothing_translates_or_on_this_machine() {
    let mut home = Home::open(telephone()).registered(&[]);
    home.net.run(minutes(60));
    assert!(home.pings().is_empty() && home.stun_requests().is_empty());
    // Not even where the registrar would take it.
    let mut net = Net::new();
    let phone = net.agent("127.0.0.2:5060");
    net.server("127.0.0.1:5060", |_, request| {
        vec![grant(request, &[("Require", "outbound"), ("Flow-Timer", "20")])]
    });
    net.name("example.org", &["127.0.0.1:5060"]);
    let id = net.with(phone, |e, _| e.add_identity(telephone()));
    net.with(phone, |e, now| e.register(now, id)).unwrap();
    net.run(minutes(60));
    assert!(net.capture.iter().all(|(.., bytes)| bytes.len() > 20));
}

#[test]
fn a_public_ipv6_address_has_a_firewall_before_it() {
    for (local, remote, expected) in [
        ("[2001:db8::1]:5060", "[2001:db8::2]:5060", true),
        ("[fd00::1]:5060", "[fd00::2]:5060", false),
        ("[fe80::1]:5060", "[fe80::2]:5060", false),
    ] {
        let mut net = Net::new();
        let phone = net.agent(local);
        net.server(remote, |_, request| vec![grant(request, &[])]);
        net.name("example.org", &[remote]);
        let id = net.with(phone, |e, _| e.add_identity(telephone()));
        net.with(phone, |e, now| e.register(now, id)).unwrap();
        net.run(minutes(5));
        let any = net.capture.iter().any(|(.., bytes)| bytes == b"\r\n\r\n");
        assert_eq!(any, expected, "{local}");
    }
}

#[test]
fn a_registrar_that_binds_flows_is_asked_by_stun() {
    let mut home = Home::new().registered(BINDS_FLOWS);
    home.net.run(minutes(5));
    let requests = home.stun_requests();
    assert!((10..=12).contains(&requests.len()), "{requests:?}");
    assert!(pauses(&requests).iter().all(|pause| (23..=29).contains(pause)), "{requests:?}");
    assert!(home.pings().is_empty() && home.states().is_empty());
}

#[test]
fn the_registrar_s_flow_timer_is_its_patience() {
    let mut home =
        Home::behind(Mapping::Cone, minutes(5)).registered(&[("Require", "outbound"), ("Flow-Timer", "60")]);
    home.net.run(minutes(9));
    let requests = home.stun_requests();
    assert!(pauses(&requests).iter().all(|pause| (47..=60).contains(pause)), "{requests:?}");
    // And no patience is so short that we would do nothing else.
    let mut home = Home::new().registered(&[("Require", "outbound"), ("Flow-Timer", "1")]);
    home.net.run(minutes(5));
    let requests = home.stun_requests();
    assert!(pauses(&requests).iter().all(|pause| (7..=10).contains(pause)), "{requests:?}");
}

#[test]
fn a_server_that_takes_keep_alives_says_how_often() {
    let mut home = Home::new();
    home.set(|request| {
        assert_eq!(request.via[0].params.get("keep"), Some(None), "RFC 6223 section 4.1: they are offered");
        let mut response = grant(request, &[]);
        response.via[0].params.set("keep", Some("20"));
        response
    });
    home.register();
    home.net.run(minutes(5));
    let requests = home.stun_requests();
    assert!((14..=19).contains(&requests.len()), "{requests:?}");
    assert!(pauses(&requests).iter().all(|pause| (15..=20).contains(pause)), "{requests:?}");
}

// What is done without an answer.

#[test]
fn a_flow_whose_stun_requests_are_not_answered_fails_in_ten_seconds() {
    let mut home = Home::new().registered(BINDS_FLOWS);
    home.net.run(minutes(5));
    home.registers(home.server);
    home.net.stun = false;
    let before = home.stun_requests().len();
    let silent_from = home.net.elapsed().as_secs();
    home.net.run(Duration::from_secs(45));
    let requests = home.stun_requests();
    let asked = requests[before];
    // RFC 8489 section 6.2.1: repeated, with doubled waits.
    assert_eq!(requests[before..].iter().filter(|at| **at < asked + 10).count(), 5, "{requests:?}");
    let (again, _) = home.registers(home.server).remove(0);
    assert!((asked + 9..=asked + 13).contains(&again.as_secs()), "asked {asked}, registered {again:?}");
    assert!(again.as_secs() - silent_from < 45);
}

#[test]
fn a_server_that_never_answers_stun_is_not_asked_for_ever() {
    // kamailio without its module stun promises outbound, and has no STUN.
    let mut home = Home::new();
    home.net.stun = false;
    let mut home = home.registered(BINDS_FLOWS);
    home.net.run(minutes(60));
    let last = home.stun_requests().last().copied().unwrap();
    assert!(last < 300, "{last}");
    home.states();
    let pings = home.pings();
    assert!(pings.len() > 100, "line ends hold the translation: {pings:?}");
    assert_eq!(
        home.net.with(home.phone, |e, _| e.registered_on(home.id)).unwrap().remote,
        home.net.address(home.server)
    );
}

#[test]
fn another_mapped_address_is_another_flow() {
    let mut home = Home::new().registered(BINDS_FLOWS);
    home.net.run(minutes(5));
    home.registers(home.server);
    home.net.restart_router(OUTSIDE);
    home.net.run(Duration::from_secs(35));
    // RFC 5626 section 4.4.2.
    assert_eq!(home.registers(home.server).len(), 1);
    assert!(matches!(
        home.states()[..],
        [RegistrationState::Registering, RegistrationState::Registered { .. }]
    ));
}

#[test]
fn a_router_that_translates_each_packet_anew_does_not_make_us_a_flood() {
    let mut home = Home::behind(Mapping::EachPacket, minutes(5)).registered(BINDS_FLOWS);
    home.net.run(minutes(60));
    let registers = home.registers(home.server).len();
    assert!(registers < 40, "{registers} REGISTERs in an hour");
}

#[test]
fn translations_that_are_forgotten_sooner_are_kept_open_more_often() {
    let mut home = Home::behind(Mapping::Cone, Duration::from_secs(15)).registered(BINDS_FLOWS);
    home.net.run(minutes(20));
    home.registers(home.server);
    let requests = home.stun_requests().len();
    home.net.run(minutes(20));
    let requests = home.stun_requests().split_off(requests);
    assert!(pauses(&requests).iter().all(|pause| *pause <= 15), "{requests:?}");
    let registers = home.registers(home.server).len();
    assert!(registers <= 1, "none but for the life of the binding: {registers}");
}

#[test]
fn an_icmp_error_makes_the_binding_anew_in_seconds() {
    let mut home = Home::new().registered(&[]);
    home.net.run(minutes(5));
    home.states();
    home.net.close(home.server);
    home.net.run(Duration::from_secs(31));
    let states = home.states();
    assert!(
        matches!(states[..], [RegistrationState::Registering, .., RegistrationState::Failed { .. }]),
        "{states:?}"
    );
    let script = home.script();
    home.net.serve_anew(home.server, script);
    home.net.run(minutes(6));
    assert!(matches!(home.state(), Some(RegistrationState::Registered { .. })));
}

// Connections.

fn by_tcp() -> Home {
    let mut home = Home::open(telephone());
    home.net.name_on("example.org", &[(Transport::Tcp, REGISTRAR)]);
    home
}

#[test]
fn a_missing_pong_of_a_server_that_promised_them_ends_the_flow_after_ten_seconds() {
    let mut home = by_tcp().registered(BINDS_FLOWS);
    home.net.run(minutes(10));
    assert_eq!(home.net.connected(home.phone, home.server), 1);
    home.states();
    let pings = home.pings().len();
    home.net.connections.mute = true;
    home.net.run(minutes(3));
    let ping = home.pings()[pings];
    let states = home.net.timed_events(home.phone);
    let lost = states.iter().find_map(|(at, event)| match event {
        Event::Registration { state: RegistrationState::Registering, .. } => Some(at.as_secs()),
        _ => None,
    });
    let lost = lost.unwrap();
    assert!((ping + 10..=ping + 11).contains(&lost), "pinged {ping}, lost {lost}");
    assert!(home.net.connected(home.phone, home.server) >= 2, "on a new connection");
}

#[test]
fn anything_that_comes_on_a_connection_is_a_sign_of_life() {
    let mut home = by_tcp().registered(BINDS_FLOWS);
    home.net.run(minutes(10));
    home.states();
    home.net.connections.mute = true;
    let options = "OPTIONS sip:alice@192.168.1.2 SIP/2.0
Via: SIP/2.0/TCP 198.51.100.1:5060;branch=z9hG4bKo
Max-Forwards: 70
From: <sip:registrar@example.org>;tag=o
To: <sip:alice@example.org>
Call-ID: o
CSeq: 1 OPTIONS
Content-Length: 0

";
    for _ in 0..60 {
        home.net.say_on(home.server, home.phone, crlf(options).as_bytes());
        home.net.run(Duration::from_secs(5));
    }
    assert_eq!((home.states(), home.net.connected(home.phone, home.server)), (vec![], 1));
}

#[test]
fn a_server_that_never_ponged_and_promised_nothing_owes_nothing() {
    let mut home = by_tcp();
    home.net.connections.mute = true;
    let mut home = home.registered(&[]);
    home.net.run(minutes(30));
    assert!(home.pings().len() >= 14);
    assert_eq!((home.states(), home.net.connected(home.phone, home.server)), (vec![], 1));
}

#[test]
fn a_server_that_has_ponged_once_is_expected_to_go_on() {
    let mut home = by_tcp().registered(&[]);
    home.net.run(minutes(10));
    home.states();
    home.net.connections.mute = true;
    home.net.run(minutes(3));
    assert!(!home.states().is_empty());
}

// While there are calls.

/// What the registrar calls us by.
fn contact(home: &mut Home) -> String {
    let (_, register) = home.registers(home.server).pop().unwrap();
    register.headers.contacts().unwrap()[0].uri.to_string()
}

/// Bob calls for the so many-th time; answers the session that rings.
fn called(home: &mut Home, user: &str, number: u32) -> SessionId {
    home.net.say_on(home.server, home.phone, crlf(&invite("TCP", user, number)).as_bytes());
    home.net.run_ms(100);
    incoming(&home.net.events(home.phone))
}

#[test]
fn a_connection_that_dies_without_a_word_while_there_is_a_call_is_found_in_seconds() {
    let mut home = by_tcp().registered(BINDS_FLOWS);
    let user = contact(&mut home);
    called(&mut home, &user, 1);
    home.net.run(Duration::from_secs(20));
    home.states();
    let died = home.net.elapsed().as_secs();
    home.net.connections.mute = true;
    home.net.run(Duration::from_secs(25));
    let (again, _) = home.registers(home.server).remove(0);
    assert!((died + 10..=died + 23).contains(&again.as_secs()), "died {died}, registered anew {again:?}");
}

#[test]
fn the_haste_of_keep_alives_ends_with_the_last_call() {
    let mut home = by_tcp().registered(BINDS_FLOWS);
    home.net.run(minutes(1));
    let user = contact(&mut home);
    let session = called(&mut home, &user, 1);
    let begun = home.pings().len();
    home.net.run(minutes(2));
    let during = home.pings().split_off(begun);
    assert!((9..=12).contains(&during.len()), "{during:?}");
    assert!(pauses(&during).iter().all(|pause| (8..=12).contains(pause)), "{during:?}");
    home.net.with(home.phone, |e, now| e.reject(now, session, status(486), None)).unwrap();
    let ended = home.pings().len();
    home.net.run(minutes(20));
    let after = pauses(&home.pings().split_off(ended + 1));
    assert!(after.iter().all(|pause| (94..=120).contains(pause)), "{after:?}");
}

#[test]
fn short_calls_one_after_another_do_not_put_keep_alives_off() {
    let mut home = by_tcp().registered(BINDS_FLOWS);
    home.net.run(minutes(1));
    let user = contact(&mut home);
    let begun = home.pings().len();
    for number in 0..20 {
        let session = called(&mut home, &user, number);
        home.net.with(home.phone, |e, now| e.reject(now, session, status(486), None)).unwrap();
        home.net.run(Duration::from_secs(6));
    }
    assert!(home.pings().len() - begun >= 5, "{:?}", home.pings());
}
