//! Of several relays the one is taken by which both ends together are nearest, whoever nominates.

use std::net::IpAddr;
use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{SECOND_TURN, Setup, TURN, World, address, relay_at};
use voipd_nat::ice::{MediaPath, Role, State};
use voipd_nat::turn::RelayTransport;

/// Milliseconds one way from each of the two peers, and from relay to relay.
struct Distances {
    first: [u64; 2],
    second: [u64; 2],
    between: u64,
}

/// Two peers whom nothing but a relay connects; each has its nearest relay first.
fn world(distances: &Distances, roles: [Role; 2]) -> World {
    let relays = |peer: usize| {
        let mut relays = [TURN, SECOND_TURN];
        if distances.second[peer] < distances.first[peer] {
            relays.reverse();
        }
        relays.map(|at| relay_at(at, RelayTransport::Udp)).to_vec()
    };
    let setup = |peer: usize| Setup { relays: relays(peer), ..Setup::new(Kind::Symmetric) };
    let mut world = World::with_roles([(setup(0), roles[0]), (setup(1), roles[1])]);
    let peers = ["203.0.113.10", "203.0.113.11"].map(|peer| peer.parse::<IpAddr>().unwrap());
    let [first, second] = [TURN, SECOND_TURN].map(|relay| address(relay).ip());
    let ms = Duration::from_millis;
    for (place, peer) in peers.into_iter().enumerate() {
        world.distances.push(([peer, first], ms(distances.first[place])));
        world.distances.push(([peer, second], ms(distances.second[place])));
    }
    world.distances.push(([first, second], ms(distances.between)));
    world
}

/// The relays by which a peer's media goes.
fn relays_of(world: &World, peer: usize) -> Vec<IpAddr> {
    let known = [TURN, SECOND_TURN].map(|relay| address(relay).ip());
    let ends = match world.path(peer) {
        MediaPath::Direct { remote, .. } => vec![remote.ip()],
        MediaPath::Channel { server, peer, .. } => vec![server.ip(), peer.ip()],
        MediaPath::Stream { .. } => panic!("no connection was needed"),
    };
    let mut relays: Vec<IpAddr> = ends.into_iter().filter(|end| known.contains(end)).collect();
    relays.dedup();
    relays
}

const BOTH_WAYS: [[Role; 2]; 2] =
    [[Role::Controlling, Role::Controlled], [Role::Controlled, Role::Controlling]];

#[test]
fn the_sum_of_both_ends_ways_decides() {
    let cases = [
        // The first is next to one peer, and far from the other.
        (Distances { first: [5, 120], second: [40, 30], between: 100 }, SECOND_TURN),
        (Distances { first: [30, 40], second: [120, 5], between: 100 }, TURN),
        // Each has one of its own, and one of them is the less bad for the other.
        (Distances { first: [10, 60], second: [90, 10], between: 200 }, TURN),
        (Distances { first: [10, 90], second: [60, 10], between: 200 }, SECOND_TURN),
    ];
    for (distances, best) in &cases {
        for roles in BOTH_WAYS {
            let mut world = world(distances, roles);
            world.connect();
            world.expect_connected();
            for peer in 0..2 {
                assert_eq!(relays_of(&world, peer), [address(best).ip()], "{:?}", world.path(peer));
            }
            assert_eq!(world.media_flows(), [true; 2]);
        }
    }
}

#[test]
fn two_relays_are_taken_where_the_way_between_them_is_so_much_shorter() {
    for roles in BOTH_WAYS {
        let mut world = world(&Distances { first: [5, 150], second: [150, 5], between: 10 }, roles);
        world.connect();
        world.expect_connected();
        for peer in 0..2 {
            assert_eq!(relays_of(&world, peer).len(), 2, "{:?}", world.path(peer));
        }
        assert_eq!(world.media_flows(), [true; 2]);
    }
}

#[test]
fn one_relay_is_taken_where_two_would_be_hardly_shorter() {
    for roles in BOTH_WAYS {
        let mut world = world(&Distances { first: [5, 24], second: [24, 5], between: 10 }, roles);
        world.connect();
        world.expect_connected();
        for peer in 0..2 {
            assert_eq!(relays_of(&world, peer).len(), 1, "{:?}", world.path(peer));
        }
    }
}

/// Where both begin by sending straight to the other's relay, each would hear nothing of the other but by a relay that has
/// no channel for it.
#[test]
fn two_who_begin_at_each_others_relay_are_heard_before_one_is_nominated() {
    let mut crossed = 0;
    let near_and_far = [5, 20, 60];
    let all = near_and_far.iter().flat_map(|own| near_and_far.iter().map(move |other| (*own, *other)));
    for ((own, other), later) in all.flat_map(|ways| [0, 40, 120, 400].map(|later| (ways, later))) {
        for roles in BOTH_WAYS {
            let mut world =
                world(&Distances { first: [own, other], second: [other, own], between: other }, roles);
            world.gather();
            let [offer, answer] = [world.describe(0), world.describe(1)];
            world.peers[1].agent.set_remote(world.now, offer);
            world.run_for(Duration::from_millis(later));
            world.peers[0].agent.set_remote(world.now, answer);
            let has_path = |world: &World| world.peers.iter().all(|peer| peer.paths.contains_key(&1));
            assert!(world.run_until(Duration::from_secs(2), has_path));
            let straight = |peer| matches!(world.path(peer), MediaPath::Direct { .. });
            let crosses = straight(0) && straight(1);
            // The first packets show the way.
            world.media_flows();
            world.media_flows();
            let flows = world.media_flows();
            if crosses && world.peers.iter().all(|peer| !peer.paths[&1].nominated) {
                assert_eq!(flows, [true; 2], "{:?} {:?}", world.path(0), world.path(1));
                crossed += 1;
            }
            world.expect_connected();
        }
    }
    assert!(crossed > 0, "nothing was shown");
}

#[test]
fn who_waits_for_a_channel_at_its_relay_sleeps_meanwhile() {
    let alone = Setup { relays: vec![], ..Setup::new(Kind::Symmetric) };
    let mut world = World::new([alone, Setup::new(Kind::Symmetric)]);
    world.servers.loses_channels = true;
    world.connect();
    world.run_for(Duration::from_secs(8));
    let before = world.peers[1].timeouts;
    world.run_for(Duration::from_secs(4));
    let wakes = world.peers[1].timeouts - before;
    assert_eq!(world.states(), [State::Connected, State::Checking]);
    assert!(wakes < 2000, "{wakes} wakes in four seconds");
}

/// Before a relay of ours has a channel for the peer, what comes by it is told to the owner, who plays it.
#[test]
fn nothing_is_missed_of_what_a_relay_without_a_channel_brings() {
    let (mut told, mut never) = (0, 0);
    for (own, other) in [(5, 20), (5, 60), (20, 60)] {
        for roles in BOTH_WAYS {
            let mut world =
                world(&Distances { first: [own, other], second: [other, own], between: other }, roles);
            world.gather();
            let [offer, answer] = [world.describe(0), world.describe(1)];
            world.peers[1].agent.set_remote(world.now, offer);
            world.peers[0].agent.set_remote(world.now, answer);
            let has_path = |world: &World| world.peers.iter().all(|peer| peer.paths.contains_key(&1));
            assert!(world.run_until(Duration::from_secs(2), has_path));
            world.run_for(Duration::from_millis(300));
            for from in 0..2 {
                let to = 1 - from;
                world.peers[to].received.clear();
                let played = world.media_flows()[from];
                let handed = !world.peers[to].received.is_empty();
                assert!(played || handed, "{:?} {:?}", world.path(0), world.path(1));
                told += usize::from(!played);
                never += usize::from(played);
            }
            world.expect_connected();
        }
    }
    assert!(told > 0 && never > 0, "nothing was shown: {told} {never}");
}
