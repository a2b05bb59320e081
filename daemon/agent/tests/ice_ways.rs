//! Ways that are lost, hidden, refused or rewritten: restarts, relays, peers that begin anew, application-level gateways.

use std::time::Duration;

use crate::common::ice::{Two, asks, hides, kinds, off};
use crate::common::internet::nat::Kind;
use crate::common::internet::{SECOND_TURN, TURN, address};
use crate::common::peer::Peer;
use crate::common::{HostId, World, direct};
use voipd_agent::view::{CallId, CallState, MediaWay, Reason};
use voipd_agent::{AccountSettings, AgentError, RelayState};
use voipd_audio::plan::Path;
use voipd_media::ice::CandidateKind::{Host, Relayed};

const RELAY: &str = "turn:198.51.100.9";
const SECOND_RELAY: &str = "turn:198.51.100.10";
const BY_TCP: &str = "turn:198.51.100.9?transport=tcp";

#[test]
fn behind_two_symmetric_nats_a_relay_carries_the_call() {
    let mut two = Two::new([Kind::Symmetric, Kind::Symmetric], [asks(&[RELAY]), asks(&[RELAY])]);
    let (out, inb) = two.talking();
    two.world.run_s(3);
    assert_eq!(two.flows(out, inb), [true, true]);
    let ends = [kinds(&two.world, two.alice, out).0, kinds(&two.world, two.bob, inb).0];
    assert!(ends.contains(&Relayed), "{ends:?}");
    two.world.hang_up(two.alice, out);
    two.world.run_s(5);
    assert_eq!(two.world.internet.servers.allocations, 0, "relays are given back");
}

#[test]
fn a_side_that_hides_shows_relays_alone() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [hides(&[RELAY]), asks(&[])]);
    let (out, inb) = two.talking();
    let offer = two.world.last_sdp(two.alice);
    assert!(!offer.contains("10.0.0.2") && !offer.contains("203.0.113.10"), "{offer}");
    assert!(offer.contains("c=IN IP4 198.51.100.9") && offer.contains("typ relay raddr 0.0.0.0"), "{offer}");
    assert_eq!(kinds(&two.world, two.alice, out).0, Relayed);
    assert!(matches!(two.world.plan(two.alice, out).path, Path::TurnChannel { .. }));
    assert_eq!(two.flows(out, inb), [true, true]);
    // Nothing but the relay has heard of the machine.
    let sent = two.world.internet.sent_from(two.world.local_media(two.alice, out));
    assert!(sent.iter().all(|to| *to == address(TURN)), "{sent:?}");
}

#[test]
fn a_side_that_hides_answers_so_as_well() {
    let mut two = Two::new([Kind::Open, Kind::PortRestricted], [asks(&[]), hides(&[RELAY])]);
    let (out, inb) = two.talking();
    let answer = two.world.last_sdp(two.bob);
    assert!(!answer.contains("10.1.0.2") && !answer.contains("203.0.113.11"), "{answer}");
    assert_eq!(kinds(&two.world, two.bob, inb).0, Relayed);
    assert_eq!(two.flows(out, inb), [true, true]);
}

#[test]
fn without_its_relay_a_side_that_hides_does_not_call() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [hides(&[RELAY]), asks(&[])]);
    two.world.internet.dark.push(address(TURN));
    let call = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    assert_eq!(two.world.end(two.alice, call).0, Reason::Network);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), 0);
    assert!(two.world.log(two.alice).iter().any(|line| line.contains("no relay has given an address")));
}

#[test]
fn a_side_that_hides_sends_nothing_to_a_peer_without_ice() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [hides(&[RELAY]), off()]);
    let call = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_s(1);
    assert_eq!(two.world.end(two.alice, call).0, Reason::Policy);
    let sent = two.world.internet.sent_from(address("10.0.0.2:10000"));
    assert!(sent.iter().all(|to| *to == address(TURN)), "{sent:?}");
    // And an inbound call without ICE is refused.
    let call = two.world.dial(two.bob, "sip:alice@192.0.2.1");
    two.world.run_s(1);
    assert_eq!(two.world.end(two.bob, call).1, 488);
}

#[test]
fn where_udp_is_blocked_a_connection_with_the_relay_carries_the_call() {
    let mut two = Two::new([Kind::UdpBlocked, Kind::Open], [asks(&[BY_TCP]), asks(&[])]);
    let (out, inb) = two.talking();
    two.world.run_s(2);
    assert_eq!(kinds(&two.world, two.alice, out).0, Relayed);
    assert!(matches!(two.world.plan(two.alice, out).path, Path::Stream { .. }));
    assert_eq!(two.flows(out, inb), [true, true]);
    two.world.internet.rtcp.clear();
    two.world.run_s(10);
    let bob = two.world.local_media(two.bob, inb);
    assert!(two.world.internet.rtcp.iter().any(|(at, _)| *at == bob), "RTCP goes there, too");
}

#[test]
fn the_nearest_relays_are_offered() {
    let all = [RELAY, SECOND_RELAY, "turn:198.51.100.77", "turn:198.51.100.78"];
    let mut two = Two::new([Kind::Symmetric, Kind::Open], [asks(&all), off()]);
    two.world.run_s(1);
    let relays = two.world.relays(two.alice);
    assert_eq!(relays.len(), 4);
    let of = |uri: &str| relays.iter().find(|relay| relay.uri == uri).unwrap();
    assert_eq!(of(RELAY).round_trip, Some(Duration::from_millis(40)), "{relays:?}");
    assert!(matches!(of("turn:198.51.100.77").state, RelayState::Failed(_)), "{relays:?}");
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let offer = two.world.last_sdp(two.alice);
    let relayed = |host: &str| {
        let mut lines =
            offer.lines().filter(|line| line.starts_with("a=candidate:") && line.contains("typ relay"));
        lines
            .find(|line| line.contains(&format!(" {host} ")))
            .map(|line| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap())
    };
    let (near, far) = (relayed("198.51.100.9"), relayed("198.51.100.10"));
    assert!(near > far && far.is_some(), "{near:?} {far:?}");
    assert!(!two.world.internet.asked.contains(&address("198.51.100.77:3478")), "the others are left alone");
}

#[test]
fn the_order_of_relays_follows_what_is_measured() {
    let mut two = Two::new([Kind::Open, Kind::Open], [asks(&[RELAY, SECOND_RELAY]), off()]);
    two.world.run_s(1);
    two.world.internet.round_trips.insert(address(SECOND_TURN), Duration::from_millis(5));
    // They are measured again every five minutes.
    two.world.run_s(301);
    let trips: Vec<_> = two.world.relays(two.alice).iter().map(|relay| relay.round_trip).collect();
    assert!(trips.contains(&Some(Duration::from_millis(5))), "{trips:?}");
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let offer = two.world.last_sdp(two.alice);
    let best = offer
        .lines()
        .filter(|line| line.contains("typ relay"))
        .max_by_key(|line| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap());
    assert!(best.unwrap().contains("198.51.100.10"), "{offer}");
}

#[test]
fn relays_with_names_are_found_and_those_without_address_are_told() {
    let relays = ["turn:relay.example.org", "turn:nowhere.example.org"];
    let mut world = World::new();
    world.name("relay.example.org", &[TURN]);
    let alice = world.agent("192.0.2.1:5060");
    world.account(alice, AccountSettings { ice: asks(&relays), ..direct() });
    world.run_s(1);
    let states: Vec<_> = world.relays(alice).iter().map(|relay| relay.state.clone()).collect();
    assert!(states.contains(&RelayState::Reachable), "{states:?}");
    assert!(world.log(alice).iter().any(|line| line.contains("nowhere.example.org")));
    // Once.
    world.run_s(600);
    let told = world.log(alice).iter().filter(|line| line.contains("nowhere.example.org")).count();
    assert_eq!(told, 1);
}

#[test]
fn a_lost_way_is_found_again_by_a_restart() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    // The router at Alice's forgets everything, and has another address from now on.
    two.world.internet.nats[0].rebind("203.0.113.99");
    two.world.run_s(45);
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert!(matches!(two.world.view(two.alice, out).media_way, MediaWay::Selected { .. }));
}

#[test]
fn a_restart_on_demand_tells_other_credentials_and_keeps_the_sound() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    let ufrag = |sdp: String| sdp.lines().find(|line| line.starts_with("a=ice-ufrag:")).map(str::to_owned);
    let before = [two.alice, two.bob].map(|host| ufrag(two.world.last_sdp(host)));
    two.world.act(two.alice, |agent, now| agent.restart_media(now, out)).unwrap();
    two.world.run_ms(25);
    assert_eq!(two.flows(out, inb), [true, true], "by the old way");
    two.world.run_s(3);
    let after = [two.alice, two.bob].map(|host| ufrag(two.world.last_sdp(host)));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(kinds(&two.world, two.alice, out).0, Host);
    // From the other side as well.
    two.world.act(two.bob, |agent, now| agent.restart_media(now, inb)).unwrap();
    two.world.run_s(3);
    assert_eq!(two.flows(out, inb), [true, true]);
}

#[test]
fn a_call_without_ice_has_no_other_way() {
    let mut two = Two::new([Kind::Open, Kind::Open], [off(), off()]);
    let (out, _) = two.talking();
    let error = two.world.act(two.alice, |agent, now| agent.restart_media(now, out)).unwrap_err();
    assert_eq!(error, AgentError::NoIce(out.0));
}

#[test]
fn restarts_from_both_sides_at_once_end_in_one_way() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    two.world.act(two.alice, |agent, now| agent.restart_media(now, out)).unwrap();
    two.world.act(two.bob, |agent, now| agent.restart_media(now, inb)).unwrap();
    two.world.run_s(20);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert!(matches!(two.world.view(two.alice, out).media_way, MediaWay::Selected { .. }));
    assert!(matches!(two.world.view(two.bob, inb).media_way, MediaWay::Selected { .. }));
}

// Scripted peers.

fn scripted() -> (World, HostId, HostId) {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    world.account(alice, AccountSettings { ice: asks(&[]), ..direct() });
    let raw = world.raw("192.0.2.9:5060");
    (world, alice, raw)
}

fn with_ice(address: &str, candidate: &str) -> String {
    format!(
        "v=0\no=- 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio 4000 RTP/AVP 0\na=rtcp-mux\n\
         a=ice-ufrag:9uB6\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh\na=candidate:1 1 UDP 2130706431 {candidate} 4000 typ host\n"
    )
}

/// A call that the scripted peer has answered with this.
fn answered_with(sdp: &str) -> (World, HostId, CallId, Peer) {
    let (mut world, alice, raw) = scripted();
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_s(1);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 200, sdp);
    world.run_s(1);
    (world, alice, call, peer)
}

#[test]
fn an_answer_that_a_gateway_has_rewritten_is_followed_without_ice() {
    let (world, alice, call, _) = answered_with(&with_ice("192.0.2.9", "10.9.9.9"));
    assert_eq!(world.state(alice, call), CallState::Active);
    let plan = world.plan(alice, call);
    assert_eq!(plan.path, Path::Udp { remote: "192.0.2.9:4000".parse().unwrap(), symmetric: true });
    assert!(plan.send.is_some());
    assert!(world.log(alice).iter().any(|line| line.contains("somebody on the way")));
}

#[test]
fn a_peer_that_finds_our_address_rewritten_is_followed_without_ice() {
    let sdp = "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=audio 4000 RTP/AVP 0\na=ice-mismatch\n";
    let (world, alice, call, _) = answered_with(sdp);
    assert_eq!(world.plan(alice, call).path.remote(), "192.0.2.9:4000".parse().unwrap());
    assert!(matches!(world.view(alice, call).media_way, MediaWay::Plain { .. }));
}

#[test]
fn a_peer_without_ice_is_told_where_media_comes_to_after_a_move() {
    let (mut world, alice, call, peer) =
        answered_with(&crate::common::peer::sdp("192.0.2.9", 4000, "sendrecv"));
    assert!(matches!(world.view(alice, call).media_way, MediaWay::Plain { .. }));
    for address in ["192.0.2.77", "192.0.2.78"] {
        world.requests(peer.host);
        world.move_to(alice, &format!("{address}:5060"));
        world.run_ms(200);
        let invite = world.requests(peer.host).remove(0);
        let offer = String::from_utf8_lossy(&invite.body).into_owned();
        let port = world.local_media(alice, call).port();
        assert!(offer.contains(&format!("c=IN IP4 {address}\r\n")), "{offer}");
        assert!(offer.contains(&format!("m=audio {port} ")), "{offer}");
        peer.answer(&mut world, &invite, 200, &crate::common::peer::sdp("192.0.2.9", 4000, "sendrecv"));
        world.run_ms(200);
    }
}

#[test]
fn an_offer_that_a_gateway_has_rewritten_is_answered_with_mismatch() {
    let (mut world, alice, raw) = scripted();
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    peer.request(&mut world, "INVITE", &with_ice("192.0.2.9", "10.9.9.9"));
    world.run_ms(100);
    let call = world.live_call(alice);
    world.accept(alice, call);
    world.run_s(1);
    let answer = world.last_sdp(alice);
    assert!(answer.contains("a=ice-mismatch") && !answer.contains("a=candidate"), "{answer}");
    assert_eq!(world.plan(alice, call).path.remote(), "192.0.2.9:4000".parse().unwrap());
}

#[test]
fn sound_begins_where_the_peer_says_before_the_checks_end() {
    let (world, alice, call, _) = answered_with(&with_ice("192.0.2.9", "192.0.2.9"));
    let plan = world.plan(alice, call);
    assert!(plan.send.is_some());
    assert_eq!(plan.path.remote(), "192.0.2.9:4000".parse().unwrap());
    assert_eq!(world.view(alice, call).media_way, MediaWay::Checking);
}

#[test]
fn checks_that_all_fail_leave_the_way_that_the_peer_says() {
    let (mut world, alice, call, _) = answered_with(&with_ice("192.0.2.9", "192.0.2.9"));
    world.run_s(30);
    assert_eq!(world.view(alice, call).media_way, MediaWay::Failed);
    assert!(world.plan(alice, call).send.is_some());
    assert_eq!(world.state(alice, call), CallState::Active);
}

#[test]
fn a_peer_that_takes_no_restart_keeps_its_call() {
    let (mut world, alice, call, peer) = answered_with(&with_ice("192.0.2.9", "192.0.2.9"));
    world.inbox(peer.host);
    world.act(alice, |agent, now| agent.restart_media(now, call)).unwrap();
    world.run_ms(600);
    let invite = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &invite, 488, "");
    world.run_s(2);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert!(world.plan(alice, call).send.is_some());
}

#[test]
fn a_reinvite_without_ice_ends_it() {
    let (mut world, alice, call, mut peer) = answered_with(&with_ice("192.0.2.9", "192.0.2.9"));
    peer.request(&mut world, "INVITE", &crate::common::peer::sdp("192.0.2.77", 5000, "sendrecv"));
    world.run_s(1);
    assert_eq!(world.plan(alice, call).path.remote(), "192.0.2.77:5000".parse().unwrap());
    assert!(!world.last_sdp(alice).contains("a=ice"));
    assert!(matches!(world.view(alice, call).media_way, MediaWay::Plain { .. }));
}

#[test]
fn each_of_two_callees_may_have_ice_or_not() {
    let (mut world, alice, raw) = scripted();
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_s(1);
    let invite = world.requests(raw).remove(0);
    let mut first = Peer::called(raw, alice, &invite);
    first.tag = "first";
    first.answer(&mut world, &invite, 183, &with_ice("192.0.2.9", "192.0.2.9"));
    world.run_s(1);
    assert_eq!(world.view(alice, call).media_way, MediaWay::Checking);
    let mut second = Peer::called(raw, alice, &invite);
    second.tag = "second";
    second.answer(&mut world, &invite, 200, &crate::common::peer::sdp("192.0.2.77", 5000, "sendrecv"));
    world.run_s(1);
    assert_eq!(world.state(alice, call), CallState::Active);
    assert_eq!(world.plan(alice, call).path.remote(), "192.0.2.77:5000".parse().unwrap());
    assert!(matches!(world.view(alice, call).media_way, MediaWay::Plain { .. }));
}

#[test]
fn each_of_two_callees_has_its_own_credentials() {
    let (mut world, alice, raw) = scripted();
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_s(1);
    let invite = world.requests(raw).remove(0);
    for (tag, code, address) in [("first", 183, "192.0.2.9"), ("second", 200, "192.0.2.77")] {
        let mut callee = Peer::called(raw, alice, &invite);
        callee.tag = tag;
        let sdp = with_ice(address, address).replace("9uB6", tag);
        callee.answer(&mut world, &invite, code, &sdp);
        world.run_s(1);
        assert_eq!(world.plan(alice, call).path.remote().ip().to_string(), address);
        assert!(
            world.internet.asked.contains(&format!("{address}:4000").parse().unwrap()),
            "{tag} is checked"
        );
        world.internet.asked.clear();
    }
    assert_eq!(world.state(alice, call), CallState::Active);
}

#[test]
fn rtcp_has_candidates_of_its_own_where_the_peer_wants_a_port_for_it() {
    let separate = with_ice("192.0.2.9", "192.0.2.9").replace("a=rtcp-mux\n", "")
        + "a=candidate:1 2 UDP 2130706430 192.0.2.9 4001 typ host\n";
    let (world, alice, call, _) = answered_with(&separate);
    assert_eq!(world.view(alice, call).media_way, MediaWay::Checking);
    for port in [4000, 4001] {
        let to = format!("192.0.2.9:{port}").parse().unwrap();
        let from: Vec<_> =
            world.internet.sent.iter().filter(|(_, at)| *at == to).map(|(from, _)| *from).collect();
        let local = world.local_media(alice, call);
        let own = std::net::SocketAddr::new(local.ip(), local.port() + port - 4000);
        assert!(from.contains(&own), "component of port {port}: {from:?}");
    }
}

#[test]
fn nothing_that_strangers_send_to_media_sockets_ends_a_call() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[RELAY]), asks(&[])]);
    let (out, inb) = two.talking();
    let way = two.world.view(two.alice, out).media_way;
    let stranger = address("198.51.100.66:666");
    let mut random = 1_u64;
    for round in 0..2000_usize {
        let mut packet: Vec<u8> = (0..round % 120 + 2)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        // STUN with a right head now and then, and channels.
        if round % 3 == 0 && packet.len() >= 20 {
            let length = (packet.len() - 20) as u16 & !3;
            packet[..2].copy_from_slice(&[(round % 2) as u8, 1]);
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        } else {
            packet[0] = [0, 1, 2, 3, 64, 79][round % 6];
        }
        let source = if round % 5 == 0 { address(TURN) } else { stranger };
        let (rtp, rtcp) = (address("10.0.0.2:10000"), address("10.0.0.2:10001"));
        two.world.act(two.alice, |agent, now| {
            let at = if round.is_multiple_of(2) { rtp } else { rtcp };
            agent.handle_stun(now, out, at, source, &packet);
        });
    }
    two.world.run_s(5);
    assert_eq!(two.world.view(two.alice, out).media_way, way);
    assert_eq!(two.flows(out, inb), [true, true]);
}
