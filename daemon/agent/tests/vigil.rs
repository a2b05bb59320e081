//! Ways that break in mid-call, found out by what is not heard any more; and peers that merely say nothing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::ice::{Two, asks, kinds};
use crate::common::internet::nat::Kind;
use crate::common::internet::{SECOND_TURN, STUN, TURN, address};
use voipd_agent::view::CallState;
use voipd_media::ice::CandidateKind::Relayed;

/// How long nothing may be heard when a way breaks. The world's links take 20 ms.
const SILENCE: Duration = Duration::from_millis(1500);
const RELAYS: [&str; 2] = ["turn:198.51.100.9", "turn:198.51.100.10"];

#[test]
fn a_router_with_another_address_is_noticed_within_a_second() {
    for kinds in [
        [Kind::PortRestricted, Kind::PortRestricted],
        [Kind::FullCone, Kind::AddressRestricted],
        [Kind::Symmetric, Kind::Open],
    ] {
        for router in [0, 1] {
            let mut two = Two::new(kinds, [asks(&[]), asks(&[])]);
            let (out, inb) = two.talking();
            two.speak(out, inb, Duration::from_secs(7));
            if kinds[router] == Kind::Open {
                continue;
            }
            two.world.internet.nats[router].rebind("203.0.113.99");
            let longest = two.speak(out, inb, Duration::from_secs(8));
            assert!(longest.iter().all(|silence| *silence < SILENCE), "{kinds:?}, {router}: {longest:?}");
            assert_eq!(two.flows(out, inb), [true, true]);
            // Whose router has changed has told it, once; the other one has let it.
            let told = [two.alice, two.bob].map(|host| two.world.count_said(host, "INVITE"));
            let expected = if router == 0 { [2, 0] } else { [1, 1] };
            assert_eq!(told, expected, "{kinds:?}, {router}");
        }
    }
}

#[test]
fn behind_relays_a_router_with_another_address_costs_little_more() {
    for router in [0, 1] {
        let mut two = Two::new([Kind::Symmetric, Kind::Symmetric], [asks(&RELAYS), asks(&RELAYS)]);
        let (out, inb) = two.talking();
        two.speak(out, inb, Duration::from_secs(7));
        two.world.internet.nats[router].rebind("203.0.113.99");
        let longest = two.speak(out, inb, Duration::from_secs(10));
        assert!(longest.iter().all(|silence| *silence < 2 * SILENCE), "{router}: {longest:?}");
        assert_eq!(two.flows(out, inb), [true, true], "{router}");
    }
}

#[test]
fn a_relay_that_is_gone_gives_way_to_the_other_one() {
    let mut two = Two::new([Kind::Symmetric, Kind::Symmetric], [asks(&RELAYS), asks(&RELAYS)]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(7));
    assert!(
        [(two.alice, out), (two.bob, inb)].iter().any(|end| kinds(&two.world, end.0, end.1).0 == Relayed)
    );
    two.world.internet.dark.push(address(TURN));
    // What it relays is gone with it.
    two.world.internet.dark.extend((49152..49252).map(|port| address(&format!("198.51.100.9:{port}"))));
    let longest = two.speak(out, inb, Duration::from_secs(10));
    assert!(longest.iter().all(|silence| *silence < 2 * SILENCE), "{longest:?}");
    assert_eq!(two.flows(out, inb), [true, true]);
    assert!(two.world.asked(SECOND_TURN));
}

#[test]
fn without_a_server_that_could_tell_whoever_controls_looks_for_a_way_first() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(7));
    two.world.internet.dark.push(address(STUN));
    two.world.internet.nats[0].rebind("203.0.113.99");
    let longest = two.speak(out, inb, Duration::from_secs(8));
    assert!(longest.iter().all(|silence| *silence < 2 * SILENCE), "{longest:?}");
    assert_eq!(two.world.count_said(two.bob, "INVITE"), 0);
}

#[test]
fn a_peer_that_says_nothing_is_asked_and_left_in_peace() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(2));
    let before = [two.alice, two.bob].map(|host| two.world.count_said(host, "INVITE"));
    // Neither sends a packet of sound; questions of ICE go through.
    two.world.run_s(25);
    assert_eq!([two.alice, two.bob].map(|host| two.world.count_said(host, "INVITE")), before);
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
    let local = two.world.local_media(two.alice, out);
    let remote = two.world.plan(two.alice, out).path.remote();
    two.world.internet.sent.clear();
    two.world.run_s(10);
    let asked = two.world.internet.sent.iter().filter(|sent| **sent == (local, remote)).count();
    assert!((8..=25).contains(&asked), "{asked} questions in 10 s");
    // A line that is dead for a moment is none that has to be looked for elsewhere.
    two.speak(out, inb, Duration::from_secs(2));
    two.world.media_loss = 1000;
    two.speak(out, inb, Duration::from_millis(1500));
    two.world.media_loss = 0;
    two.speak(out, inb, Duration::from_secs(3));
    assert_eq!([two.alice, two.bob].map(|host| two.world.count_said(host, "INVITE")), before);
}

#[test]
fn nothing_is_asked_while_the_call_is_held() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(2));
    two.world.hold(two.alice, out);
    two.world.run_s(1);
    two.world.internet.asked.clear();
    two.world.run_s(20);
    let stun = address(STUN);
    assert!(!two.world.internet.asked.contains(&stun), "no server is asked either");
    two.world.resume(two.alice, out);
    let longest = two.speak(out, inb, Duration::from_secs(3));
    assert!(longest.iter().all(|silence| *silence < Duration::from_secs(1)), "{longest:?}");
}

#[test]
fn a_dead_line_is_looked_for_a_few_times_and_comes_back() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(3));
    two.world.media_loss = 1000;
    two.speak(out, inb, Duration::from_secs(20));
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
    let told = two.world.count_said(two.alice, "INVITE") + two.world.count_said(two.bob, "INVITE");
    assert!((2..=8).contains(&told), "{told}");
    two.world.media_loss = 0;
    two.speak(out, inb, Duration::from_secs(20));
    let longest = two.speak(out, inb, Duration::from_secs(3));
    assert!(longest.iter().all(|silence| *silence < Duration::from_secs(1)), "{longest:?}");
}

#[test]
fn nothing_is_sent_to_a_peer_that_has_vanished_whatever_is_tried_meanwhile() {
    let mut two = Two::new([Kind::Open, Kind::Open], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(7));
    // By signalling it is there, and answers each restart.
    let socket = two.world.local_media(two.bob, inb);
    let rtcp = SocketAddr::new(socket.ip(), socket.port() + 1);
    two.world.internet.dark.extend([socket, rtcp]);
    two.speak(out, inb, Duration::from_secs(31));
    for _ in 0..50 {
        two.speak(out, inb, Duration::from_secs(1));
        assert!(
            two.world.plan(two.alice, out).send.is_none(),
            "{:?}",
            two.world.view(two.alice, out).media_way
        );
    }
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
    assert!(two.world.count_said(two.alice, "INVITE") >= 3, "another way is looked for");
    // It is back.
    two.world.internet.dark.clear();
    two.speak(out, inb, Duration::from_secs(40));
    assert_eq!(two.flows(out, inb), [true, true]);
}
