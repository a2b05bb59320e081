//! ICE restart (RFC 8445 section 9): other credentials, a new path when it is found, the old one until then.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{Setup, World};
use voipd_nat::ice::{Base, Role, State};

fn connected(kinds: [Kind; 2]) -> World {
    let mut world = World::new(kinds.map(Setup::new));
    world.connect();
    world.expect_connected();
    world
}

/// What two user agents do when `from` offers a restart.
fn restart(world: &mut World, from: usize, bases: Option<Vec<Base>>) {
    let now = world.now;
    let other = 1 - from;
    world.peers[from].agent.restart(now, bases);
    world.gather();
    let offer = world.describe(from);
    assert!(world.peers[other].agent.is_peer_restart(&offer.credentials));
    world.run_for(Duration::from_millis(50));
    world.peers[other].agent.restart(world.now, None);
    world.gather();
    let answer = world.describe(other);
    world.peers[other].agent.set_remote(world.now, offer);
    world.run_for(Duration::from_millis(50));
    world.peers[from].agent.set_remote(world.now, answer);
}

#[test]
fn media_flows_by_the_old_path_until_the_new_one_is_found() {
    for kinds in [[Kind::PortRestricted; 2], [Kind::Symmetric; 2]] {
        let mut world = connected(kinds);
        let credentials = world.peers[0].agent.credentials().clone();
        let before = world.path(0);
        restart(&mut world, 0, None);
        assert_eq!(world.path(0), before);
        assert_eq!(world.media_flows(), [true; 2], "{kinds:?}");
        world.expect_connected();
        assert_ne!(*world.peers[0].agent.credentials(), credentials);
        assert_eq!(world.media_flows(), [true; 2], "{kinds:?}");
    }
}

#[test]
fn a_restart_after_the_router_has_another_address_moves_the_path() {
    for kind in [Kind::FullCone, Kind::PortRestricted, Kind::Symmetric] {
        let mut world = connected([kind, Kind::PortRestricted]);
        world.peers[0].nat.rebind("203.0.113.77");
        let base = Base { component: 1, address: world.peers[0].nat.base(1), preference: 65535 };
        restart(&mut world, 0, Some(vec![base]));
        world.expect_connected();
        assert_eq!(world.media_flows(), [true; 2], "{kind:?}");
    }
}

#[test]
fn a_restart_on_another_network_forgets_the_old_one() {
    let mut world = connected([Kind::Open, Kind::PortRestricted]);
    let old = world.peers[0].nat.base(1);
    world.peers[0].nat.rebind("203.0.113.88");
    let base = Base { component: 1, address: world.peers[0].nat.base(1), preference: 65535 };
    restart(&mut world, 0, Some(vec![base]));
    assert!(world.peers[0].agent.candidates().iter().all(|candidate| candidate.address != old));
    world.expect_connected();
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn the_answerer_may_restart_and_roles_stay_as_they_are_agreed() {
    let mut world = connected([Kind::AddressRestricted; 2]);
    world.peers[1].agent.set_role(Role::Controlling);
    world.peers[0].agent.set_role(Role::Controlled);
    restart(&mut world, 1, None);
    world.expect_connected();
    assert_eq!(world.peers[1].agent.role(), Role::Controlling);
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn a_lost_peer_comes_back_by_a_restart() {
    let mut world = connected([Kind::PortRestricted; 2]);
    let peer = "203.0.113.10";
    world.peers[0].nat.rebind("203.0.113.99");
    world.dark.extend((40000..40100).map(|port| crate::world::address(&format!("{peer}:{port}"))));
    assert!(world.run_until(Duration::from_secs(40), |world| world.states()[1] == State::Lost));
    let base = Base { component: 1, address: world.peers[0].nat.base(1), preference: 65535 };
    restart(&mut world, 0, Some(vec![base]));
    world.expect_connected();
    assert_eq!(world.media_flows(), [true; 2]);
}

/// A router that restarts gives everybody another address and another mapping, while the machine behind it keeps its own.
#[test]
fn a_restart_finds_that_the_router_has_forgotten_us_and_allocates_anew() {
    for kinds in [[Kind::Symmetric; 2], [Kind::PortRestricted, Kind::Symmetric], [Kind::PortRestricted; 2]] {
        let mut world = connected(kinds);
        world.run_for(Duration::from_secs(20));
        world.peers[0].nat.rebind("203.0.113.77");
        restart(&mut world, 0, None);
        world.expect_connected();
        assert_eq!(world.media_flows(), [true; 2], "{kinds:?}");
        let old =
            |candidate: &&voipd_nat::ice::Candidate| candidate.address.ip().to_string() == "203.0.113.10";
        assert_eq!(world.peers[0].agent.candidates().iter().filter(old).count(), 0, "{kinds:?}");
    }
}

#[test]
fn a_restart_connects_again_with_a_relay_that_has_hung_up() {
    use voipd_nat::ice::MediaPath;
    use voipd_nat::turn::RelayTransport;
    let setup =
        || Setup { relays: vec![crate::world::relay(RelayTransport::Tcp)], ..Setup::new(Kind::UdpBlocked) };
    let mut world = World::new([setup(), setup()]);
    world.connect();
    world.expect_connected();
    for peer in 0..2 {
        let streams: Vec<_> = world.peers[peer].streams.keys().copied().collect();
        let now = world.now;
        for stream in streams {
            world.peers[peer].agent.handle_stream_closed(now, stream, "the relay restarts");
        }
    }
    world.run_for(Duration::from_millis(100));
    restart(&mut world, 0, None);
    world.expect_connected();
    assert!(matches!(world.path(0), MediaPath::Stream { .. }));
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn consent_runs_out_though_another_path_is_looked_for() {
    let mut world = connected([Kind::PortRestricted; 2]);
    world.run_for(Duration::from_secs(60));
    let begun = world.elapsed();
    world.dark.extend((40000..40100).map(|port| crate::world::address(&format!("203.0.113.11:{port}"))));
    world.run_for(Duration::from_secs(14));
    restart(&mut world, 0, None);
    world.run_for(Duration::from_secs(18));
    assert_eq!(world.states()[0], State::Checking);
    let withdrawn: Vec<Duration> = world.peers[0].withdrawn.iter().map(|(at, _)| *at - begun).collect();
    let [first, ..] = withdrawn[..] else { panic!("nothing is withdrawn: {:?}", world.peers[0].states) };
    assert!(first > Duration::from_secs(23) && first <= Duration::from_secs(31), "{first:?}");
}
