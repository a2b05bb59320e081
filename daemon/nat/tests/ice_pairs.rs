//! Every pair of networks connects, by the kind of path that the two NATs leave.

use std::time::Duration;

use crate::world::nat::{ALL, Kind};
use crate::world::{LATENCY, Setup, World, relay};
use voipd_nat::ice::{CandidateKind, MediaPath};
use voipd_nat::turn::RelayTransport;

/// Whether two peers can reach each other without a relay.
fn is_direct(one: Kind, two: Kind) -> bool {
    let hard = |kind| matches!(kind, Kind::Symmetric | Kind::PortRestricted);
    match (one, two) {
        (Kind::UdpBlocked, _) | (_, Kind::UdpBlocked) => false,
        (Kind::Symmetric, other) | (other, Kind::Symmetric) => !hard(other),
        _ => true,
    }
}

fn setup(kind: Kind) -> Setup {
    Setup { relays: vec![relay(RelayTransport::Udp), relay(RelayTransport::Tcp)], ..Setup::new(kind) }
}

#[test]
fn every_pair_connects_by_the_expected_kind_of_path() {
    for (place, one) in ALL.into_iter().enumerate() {
        for two in ALL.into_iter().skip(place) {
            for (one, two) in [(one, two), (two, one)] {
                let mut world = World::new([setup(one), setup(two)]);
                world.connect();
                world.expect_connected();
                let relayed = world.peers.iter().any(|peer| {
                    let selected = peer.paths[&1];
                    selected.local == CandidateKind::Relayed || selected.remote == CandidateKind::Relayed
                });
                assert_eq!(relayed, !is_direct(one, two), "{one:?} {two:?}: {:?}", world.peers[0].paths);
                for (kind, peer) in [(one, &world.peers[0]), (two, &world.peers[1])] {
                    let stream = matches!(peer.paths[&1].path, MediaPath::Stream { .. });
                    assert_eq!(stream, kind == Kind::UdpBlocked, "{one:?} {two:?}");
                }
                assert_eq!(world.media_flows(), [true; 2], "{one:?} {two:?}");
            }
        }
    }
}

#[test]
fn a_relayed_path_carries_media_before_it_is_nominated() {
    let mut world = World::new([setup(Kind::Symmetric), setup(Kind::Symmetric)]);
    world.connect();
    let begun = world.elapsed();
    let heard = |world: &World| world.peers.iter().all(|peer| !peer.paths.is_empty());
    assert!(world.run_until(Duration::from_secs(20), heard));
    let after = world.elapsed() - begun;
    assert!(after < LATENCY * 30, "a path after {after:?}");
    assert!(world.peers.iter().all(|peer| !peer.paths[&1].nominated));
    world.expect_connected();
    assert!(world.peers.iter().all(|peer| peer.paths[&1].nominated));
}

#[test]
fn two_components_get_a_pair_each() {
    for kind in [Kind::Open, Kind::PortRestricted, Kind::Symmetric] {
        let two = |kind| Setup { components: 2, ..setup(kind) };
        let mut world = World::new([two(kind), two(kind)]);
        world.connect();
        world.expect_connected();
        for peer in &world.peers {
            assert_eq!(peer.paths.keys().copied().collect::<Vec<_>>(), [1, 2], "{kind:?}");
            assert_ne!(peer.paths[&1].path, peer.paths[&2].path);
        }
    }
}

#[test]
fn who_rings_for_long_is_not_forgotten_by_the_nats() {
    let setup = || Setup { relays: vec![], ..Setup::new(Kind::PortRestricted) };
    let mut world = World::new([setup(), setup()]);
    world.gather();
    world.run_for(Duration::from_secs(50));
    world.exchange();
    world.expect_connected();
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn a_tenth_of_all_datagrams_may_be_lost() {
    for kind in [Kind::PortRestricted, Kind::Symmetric] {
        let mut world = World::new([setup(kind), setup(kind)]);
        world.loses = Some(10);
        world.connect();
        world.expect_connected();
    }
}
