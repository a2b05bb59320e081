//! Ports that a router has mapped: peers outside the local network are told the router's address, others ours.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, World, direct};
use voipd_agent::view::{CallId, CallNetwork, CallState};
use voipd_media::LocalMedia;
use voipd_sip::endpoint::Transport;

const INSIDE: &str = "192.168.1.10:5060";
const OUTSIDE: &str = "198.51.100.8:5060";

fn mapped(port: u16) -> Option<LocalMedia> {
    Some(LocalMedia { address: "203.0.113.5".parse().unwrap(), rtp_port: port, rtcp_port: port + 1 })
}

fn caller() -> (World, HostId) {
    let mut world = World::new();
    let alice = world.agent(INSIDE);
    world.account(alice, direct());
    (world, alice)
}

/// A call whose media sockets are bound, and mapped if its peer is outside.
fn dialled(world: &mut World, alice: HostId, target: &str) -> (CallId, bool) {
    world.station(alice).hold_binding = true;
    let id = world.dial(alice, target);
    world.run_ms(50);
    let wanted = world.act(alice, |agent, _| agent.wants_mapping(id));
    if wanted {
        world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(41_000)));
    }
    world.bind_held(alice);
    world.run_ms(50);
    (id, wanted)
}

#[test]
fn a_peer_outside_is_offered_the_mapped_ports() {
    let (mut world, alice) = caller();
    let bob = world.raw(OUTSIDE);
    let (_, wanted) = dialled(&mut world, alice, "sip:bob@198.51.100.8");
    assert!(wanted);
    let invite = world.requests(bob).remove(0);
    let offer = String::from_utf8(invite.body.clone()).unwrap();
    assert!(offer.contains("c=IN IP4 203.0.113.5\r\n") && offer.contains("m=audio 41000 "), "{offer}");
}

#[test]
fn a_peer_in_the_own_network_is_offered_our_own_ports() {
    let (mut world, alice) = caller();
    let bob = world.raw("192.168.1.20:5060");
    let (_, wanted) = dialled(&mut world, alice, "sip:bob@192.168.1.20");
    assert!(!wanted);
    let offer = String::from_utf8(world.requests(bob).remove(0).body).unwrap();
    assert!(offer.contains("c=IN IP4 192.168.1.10\r\n"), "{offer}");
}

#[test]
fn where_a_callers_media_is_decides_not_where_its_server_is() {
    for (media, wanted) in [("198.51.100.9", true), ("192.168.1.20", false), ("10.0.0.3", false)] {
        let (mut world, alice) = caller();
        world.station(alice).hold_binding = true;
        let bob = world.raw(OUTSIDE);
        let mut settings = direct();
        settings.name = "open".to_owned();
        settings.allow_from = vec!["0.0.0.0/0".parse().unwrap()];
        world.account(alice, settings);
        let mut peer = Peer::calling(&world, bob, alice, "sip:alice@192.168.1.10");
        peer.request(&mut world, "INVITE", &sdp(media, 4000, "sendrecv"));
        world.run_ms(50);
        let id = world.live_call(alice);
        assert_eq!(world.act(alice, |agent, _| agent.wants_mapping(id)), wanted, "{media}");
    }
}

#[test]
fn a_mapping_that_moves_in_a_call_is_told_to_a_peer_that_relies_on_it_alone() {
    let (mut world, alice) = caller();
    let bob = world.raw(OUTSIDE);
    let (id, _) = dialled(&mut world, alice, "sip:bob@198.51.100.8");
    let invite = world.requests(bob).remove(0);
    let peer = Peer::called(bob, alice, &invite);
    peer.answer(&mut world, &invite, 200, &sdp("198.51.100.8", 5000, "sendrecv"));
    world.run_ms(50);
    assert_eq!(world.state(alice, id), CallState::Active);
    world.requests(bob);
    // The same news again is no news.
    world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(41_000)));
    world.run_ms(50);
    assert!(world.requests(bob).is_empty());
    world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(42_000)));
    world.run_ms(50);
    let offer = String::from_utf8(world.requests(bob).remove(0).body).unwrap();
    assert!(offer.contains("m=audio 42000 "), "{offer}");
}

#[test]
fn after_a_move_a_peer_is_told_our_own_ports_until_those_are_mapped() {
    // The router that mapped the ports may be gone with the network, which is known at once or never.
    for known in [true, false] {
        let (mut world, alice) = caller();
        let bob = world.raw(OUTSIDE);
        let (id, _) = dialled(&mut world, alice, "sip:bob@198.51.100.8");
        let invite = world.requests(bob).remove(0);
        let peer = Peer::called(bob, alice, &invite);
        let answer = sdp("198.51.100.8", 5000, "sendrecv");
        peer.answer(&mut world, &invite, 200, &answer);
        world.run_ms(50);
        world.requests(bob);
        world.move_to_and(alice, "192.168.1.77:5060", |agent, now| {
            if known {
                agent.handle_media_mapped(now, id, None);
            }
        });
        world.run_ms(50);
        let moved = world.requests(bob).remove(0);
        let offer = String::from_utf8_lossy(&moved.body).into_owned();
        let port = world.local_media(alice, id).port();
        assert!(offer.contains("c=IN IP4 192.168.1.77\r\n"), "{offer}");
        assert!(offer.contains(&format!("m=audio {port} ")), "{offer}");
        peer.answer(&mut world, &moved, 200, &answer);
        world.run_ms(50);
        world.requests(bob);
        world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(43_000)));
        world.run_ms(50);
        let offer = String::from_utf8(world.requests(bob).remove(0).body).unwrap();
        assert!(offer.contains("c=IN IP4 203.0.113.5\r\n") && offer.contains("m=audio 43000 "), "{offer}");
    }
}

#[test]
fn a_call_whose_router_is_gone_with_the_network_waits_and_tells_its_peer_afterwards() {
    for address in [INSIDE, "192.168.1.77:5060"] {
        let (mut world, alice) = caller();
        let bob = world.raw(OUTSIDE);
        let (id, _) = dialled(&mut world, alice, "sip:bob@198.51.100.8");
        let invite = world.requests(bob).remove(0);
        let peer = Peer::called(bob, alice, &invite);
        let answer = sdp("198.51.100.8", 5000, "sendrecv");
        peer.answer(&mut world, &invite, 200, &answer);
        world.run_ms(50);
        world.requests(bob);
        world.go_offline(alice);
        world.act(alice, |agent, now| agent.handle_media_mapped(now, id, None));
        // Longer than a re-INVITE waits for its answer.
        world.run_s(50);
        assert_eq!(world.state(alice, id), CallState::Active);
        assert_eq!(world.view(alice, id).network, CallNetwork::Waiting);
        world.move_to(alice, address);
        world.run_ms(50);
        let back = world.requests(bob).remove(0);
        let offer = String::from_utf8_lossy(&back.body).into_owned();
        let local = world.local_media(alice, id);
        assert_eq!(local.ip(), world.address(alice).ip());
        assert!(offer.contains(&format!("c=IN IP4 {}\r\n", local.ip())), "{offer}");
        assert!(offer.contains(&format!("m=audio {} ", local.port())), "{offer}");
        peer.answer(&mut world, &back, 200, &answer);
        world.run_ms(50);
        assert_eq!(world.view(alice, id).network, CallNetwork::Ok);
        world.requests(bob);
        world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(43_000)));
        world.run_ms(50);
        let offer = String::from_utf8(world.requests(bob).remove(0).body).unwrap();
        assert!(offer.contains("c=IN IP4 203.0.113.5\r\n") && offer.contains("m=audio 43000 "), "{offer}");
    }
}

#[test]
fn ports_that_are_mapped_late_are_told_to_a_peer_that_was_told_our_own() {
    for ringing in [false, true] {
        let (mut world, alice) = caller();
        let bob = world.raw(OUTSIDE);
        let id = world.dial(alice, "sip:bob@198.51.100.8");
        world.run_ms(50);
        let invite = world.requests(bob).remove(0);
        assert!(String::from_utf8_lossy(&invite.body).contains("c=IN IP4 192.168.1.10\r\n"));
        let peer = Peer::called(bob, alice, &invite);
        let answer = sdp("198.51.100.8", 5000, "sendrecv");
        if ringing {
            peer.answer(&mut world, &invite, 180, "");
            world.run_ms(50);
            world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(41_000)));
            peer.answer(&mut world, &invite, 200, &answer);
        } else {
            peer.answer(&mut world, &invite, 200, &answer);
            world.run_ms(50);
            world.act(alice, |agent, now| agent.handle_media_mapped(now, id, mapped(41_000)));
        }
        world.run_ms(50);
        let told = world.requests(bob).into_iter().find(|request| request.method.to_string() == "INVITE");
        let offer = String::from_utf8(told.expect("a re-INVITE").body).unwrap();
        assert!(offer.contains("c=IN IP4 203.0.113.5\r\n") && offer.contains("m=audio 41000 "), "{offer}");
    }
}

#[test]
fn a_contact_without_a_server_is_where_the_router_lets_calls_in_but_not_for_neighbours() {
    for (target, peer, host) in [
        ("sip:bob@198.51.100.8", OUTSIDE, "203.0.113.5:50600"),
        ("sip:bob@192.168.1.20", "192.168.1.20:5060", "192.168.1.10:5060"),
    ] {
        let (mut world, alice) = caller();
        let bob = world.raw(peer);
        let external = "203.0.113.5:50600".parse().unwrap();
        world.act(alice, |agent, _| agent.handle_sip_mapped(Transport::Udp, 5060, Some(external)));
        world.dial(alice, target);
        world.run_ms(50);
        let invite = world.requests(bob).remove(0);
        let contact = invite.headers.get("Contact").unwrap();
        assert!(contact.contains(&format!("@{host}>")), "{contact}");
    }
    // The mapping is gone: so is its address.
    let (mut world, alice) = caller();
    let bob = world.raw(OUTSIDE);
    let external = "203.0.113.5:50600".parse().unwrap();
    world.act(alice, |agent, _| agent.handle_sip_mapped(Transport::Udp, 5060, Some(external)));
    world.act(alice, |agent, _| agent.handle_sip_mapped(Transport::Udp, 5060, None));
    world.dial(alice, "sip:bob@198.51.100.8");
    world.run_ms(50);
    let contact = world.requests(bob).remove(0).headers.get("Contact").unwrap().to_owned();
    assert!(contact.contains("@192.168.1.10:5060>"), "{contact}");
}
