//! Our SSRC in somebody else's packets (RFC 3550 section 8.2).

use std::net::SocketAddr;

use crate::common::{HostId, Pair, World};
use voipd_agent::view::{CallId, CallState};
use voipd_audio::plan::EngineEvent;

fn collide(world: &mut World, host: HostId, call: CallId, source: SocketAddr) {
    let port = world.stream_port(host, call);
    world.engine_says(host, EngineEvent::SsrcCollision { port, source });
}

/// SSRCs that said goodbye in RTCP from a host.
fn goodbyes(world: &World, from: SocketAddr) -> Vec<u32> {
    let mut gone = Vec::new();
    for (_, _, bytes) in world.rtcp.iter().filter(|(source, ..)| source.ip() == from.ip()) {
        let mut rest = &bytes[..];
        while rest.len() >= 8 {
            let length = (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1) * 4;
            if rest[1] == 203 {
                gone.push(u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]));
            }
            rest = &rest[length..];
        }
    }
    gone
}

#[test]
fn the_first_collision_takes_another_ssrc_with_a_goodbye_and_the_call_goes_on() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(10);
    let before = world.plan(pair.alice, out);
    let there = world.local_media(pair.bob, world.live_call(pair.bob));
    collide(world, pair.alice, out, there);
    let after = world.plan(pair.alice, out);
    assert_ne!(after.ssrc, before.ssrc);
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!(after.send, before.send);
    let here = world.local_media(pair.alice, out);
    assert_eq!(goodbyes(world, here), [before.ssrc]);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    // Reports go on under the new one, and count from its beginning.
    world.rtcp.clear();
    world.run_s(10);
    let reports: Vec<_> = world.rtcp.iter().filter(|(from, ..)| from.ip() == here.ip()).collect();
    assert!(!reports.is_empty());
    for (_, _, bytes) in reports {
        assert_eq!(bytes[4..8], after.ssrc.to_be_bytes());
        let packets = u32::from_be_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]);
        assert!(packets < 11 * 50, "{packets} since the change");
    }
}

#[test]
fn a_peer_that_takes_another_ssrc_is_reported_on_from_its_beginning() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.run_s(10);
    let here = world.local_media(pair.alice, out);
    collide(world, pair.bob, inb, here);
    let theirs = world.plan(pair.bob, inb).ssrc.to_be_bytes();
    world.rtcp.clear();
    world.run_s(20);
    // What a sender report says of the peer follows 28 bytes of its own.
    let reports = world.rtcp.iter().filter(|(from, ..)| from.ip() == here.ip());
    let of_theirs = reports.map(|(_, _, bytes)| &bytes[28..]).filter(|block| block.starts_with(&theirs));
    let losses: Vec<_> = of_theirs.map(|block| block[4..8].to_vec()).collect();
    assert!(!losses.is_empty());
    assert!(losses.iter().all(|lost| *lost == [0; 4]), "share and number: {losses:?}");
}

#[test]
fn what_a_reflector_sends_back_changes_nothing_and_is_noted() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let before = world.plan(pair.alice, out);
    let (port, source) = (world.stream_port(pair.alice, out), "192.0.2.2:10000".parse().unwrap());
    world.engine_says(pair.alice, EngineEvent::Reflected { port, source });
    assert_eq!(world.plan(pair.alice, out), before);
    assert!(world.log(pair.alice).iter().any(|line| line.contains("comes back")));
}

#[test]
fn the_same_address_again_changes_nothing_more() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    world.run_s(5);
    let there = "192.0.2.2:10000".parse().unwrap();
    collide(world, pair.alice, out, there);
    let changed = world.plan(pair.alice, out);
    for _ in 0..5 {
        collide(world, pair.alice, out, there);
    }
    assert_eq!(world.plan(pair.alice, out), changed);
    assert!(world.log(pair.alice).iter().any(|line| line.contains("goes on using our SSRC")));
}

#[test]
fn a_flood_of_addresses_does_not_change_it_for_ever() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let first = world.plan(pair.alice, out).generation;
    for port in 1000..1100 {
        collide(world, pair.alice, out, SocketAddr::from(([192, 0, 2, 2], port)));
    }
    assert_eq!(world.plan(pair.alice, out).generation, first + 4);
}

#[test]
fn a_report_under_our_ssrc_is_a_collision_too_unless_it_is_our_own() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    world.run_s(10);
    let (here, there) = (world.local_media(pair.alice, out), world.local_media(pair.bob, inb));
    let own = world.rtcp.iter().rfind(|(from, ..)| from.ip() == here.ip()).unwrap().2.clone();
    let before = world.plan(pair.alice, out);
    world.act(pair.alice, |agent, now| agent.handle_rtcp(now, out, there, &own));
    assert_eq!(world.plan(pair.alice, out), before, "our own report has come back");

    let [a, b, c, d] = before.ssrc.to_be_bytes();
    let foreign = [0x80, 201, 0, 1, a, b, c, d, 0x81, 202, 0, 2, a, b, c, d, 1, 1, b'x', 0];
    let stranger = "203.0.113.5:9".parse().unwrap();
    world.act(pair.alice, |agent, now| agent.handle_rtcp(now, out, stranger, &foreign));
    assert_eq!(world.plan(pair.alice, out), before, "a stranger is not believed");
    world.act(pair.alice, |agent, now| agent.handle_rtcp(now, out, there, &foreign));
    assert_ne!(world.plan(pair.alice, out).ssrc, before.ssrc);
}

#[test]
fn the_peer_may_change_its_ssrc_at_any_time() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let before = world.plan(pair.alice, out);
    let port = world.stream_port(pair.alice, out);
    world.engine_says(pair.alice, EngineEvent::SsrcChanged { port, ssrc: 99 });
    world.run_s(10);
    assert_eq!(world.plan(pair.alice, out), before);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
}
