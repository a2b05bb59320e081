//! Machines with several addresses: all of them are offered, and media takes the one that leads to the peer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::HostId;
use crate::common::ice::{Two, asks, hides, kinds};
use crate::common::internet::nat::Kind;
use voipd_agent::view::CallState;
use voipd_media::LocalMedia;
use voipd_media::ice::CandidateKind::Host;

const ALICE6: &str = "2001:db8::a";
const BOB6: &str = "2001:db8::b";

/// Gives a machine further addresses.
fn beside(two: &mut Two, host: HostId, addresses: &[&str]) {
    two.world.station(host).beside = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
}

/// Lets media of a machine have this address, and no other.
fn only(two: &mut Two, host: HostId, address: &str) {
    two.world.station(host).media_at = Some(address.parse().unwrap());
}

#[test]
fn a_peer_with_ipv6_alone_is_called_from_a_machine_with_both() {
    for (caller_has_both, nat) in [(true, Kind::PortRestricted), (false, Kind::Symmetric)] {
        let nats = if caller_has_both { [nat, Kind::Open] } else { [Kind::Open, nat] };
        let mut two = Two::new(nats, [asks(&[]), asks(&[])]);
        let (both, alone) = if caller_has_both { (two.alice, two.bob) } else { (two.bob, two.alice) };
        beside(&mut two, both, &[BOB6]);
        only(&mut two, alone, ALICE6);
        let (out, inb) = two.talking();
        let call = if caller_has_both { out } else { inb };
        assert_eq!(two.flows(out, inb), [true, true], "{caller_has_both}");
        let socket: SocketAddr = two.world.local_media(both, call);
        assert_eq!(socket.ip().to_string(), BOB6);
        let longest = two.speak(out, inb, Duration::from_secs(7));
        assert!(longest.iter().all(|silence| *silence < Duration::from_millis(200)), "{longest:?}");
        // Reports take the same way.
        two.world.internet.rtcp.clear();
        two.world.run_s(10);
        // What was agreed stays through hold and resume.
        two.world.hold(two.alice, out);
        two.world.run_s(1);
        two.world.resume(two.alice, out);
        two.world.run_s(1);
        assert_eq!(two.flows(out, inb), [true, true], "{caller_has_both}");
        two.world.hang_up(two.alice, out);
        two.world.run_s(1);
        assert_eq!(two.world.media_open(both), 0);
    }
}

#[test]
fn every_address_is_a_candidate_and_families_take_turns() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), asks(&[])]);
    let alice = two.alice;
    beside(&mut two, alice, &[ALICE6, "192.0.2.55"]);
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let offer = two.world.last_sdp(two.alice);
    assert!(offer.contains("c=IN IP4 203.0.113.10"), "who knows no ICE is told one address: {offer}");
    let priority = |address: &str| {
        let mut lines = offer.lines().filter(|line| line.starts_with("a=candidate:"));
        let line = lines.find(|line| line.contains(&format!(" {address} ")) && line.contains(" 1 UDP "));
        line.unwrap_or_else(|| panic!("no {address}: {offer}"))
            .split(' ')
            .nth(3)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert!(priority("10.0.0.2") > priority(ALICE6) && priority(ALICE6) > priority("192.0.2.55"));
}

#[test]
fn the_better_way_of_two_is_taken() {
    // Behind two symmetric NATs, and on one IPv6 Internet.
    let mut two = Two::new([Kind::Symmetric, Kind::Symmetric], [asks(&["turn:198.51.100.9"]), asks(&[])]);
    let (alice, bob) = (two.alice, two.bob);
    beside(&mut two, alice, &[ALICE6]);
    beside(&mut two, bob, &[BOB6]);
    let (out, inb) = two.talking();
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!((kinds(&two.world, alice, out), kinds(&two.world, bob, inb)), ((Host, Host), (Host, Host)));
}

#[test]
fn a_way_between_further_addresses_that_breaks_gives_way_to_another() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (alice, bob) = (two.alice, two.bob);
    beside(&mut two, alice, &[ALICE6]);
    beside(&mut two, bob, &[BOB6]);
    // Nothing is heard but what is spoken.
    two.world.media_cut = true;
    let (out, inb) = two.talking();
    two.speak(out, inb, Duration::from_secs(3));
    let socket = two.world.local_media(alice, out);
    let peer = two.world.local_media(bob, inb);
    two.world.internet.dark.extend([socket, peer]);
    let longest = two.speak(out, inb, Duration::from_secs(8));
    assert!(longest.iter().all(|silence| *silence < Duration::from_secs(3)), "{longest:?}");
    assert_ne!(two.world.local_media(alice, out), socket);
    assert_eq!(two.flows(out, inb), [true, true]);
}

#[test]
fn who_hides_has_no_use_for_further_addresses() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [hides(&["turn:198.51.100.9"]), asks(&[])]);
    let alice = two.alice;
    beside(&mut two, alice, &[ALICE6]);
    two.talking();
    assert!(!two.world.last_sdp(alice).contains(ALICE6));
}

#[test]
fn a_mapping_that_comes_while_it_rings_is_in_the_answer() {
    let mut two = Two::new([Kind::Symmetric, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let inb = two.world.live_call(two.bob);
    let mapped = LocalMedia { address: "203.0.113.11".parse().unwrap(), rtp_port: 41_000, rtcp_port: 41_001 };
    two.world.act(two.bob, |agent, now| agent.handle_media_mapped(now, inb, Some(mapped)));
    two.world.accept(two.bob, inb);
    two.world.run_s(1);
    let answer = two.world.last_sdp(two.bob);
    assert!(answer.contains(" 203.0.113.11 41000 typ srflx raddr 10.1.0.2"), "{answer}");
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
}
