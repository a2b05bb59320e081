//! Role conflicts (RFC 8445 section 7.3.1.1), and peers that only answer (lite).

use crate::world::nat::Kind;
use crate::world::{Setup, World};
use voipd_nat::ice::{Remote, Role, State};

#[test]
fn a_role_conflict_is_settled() {
    for role in [Role::Controlling, Role::Controlled] {
        for kind in [Kind::Open, Kind::PortRestricted, Kind::Symmetric] {
            let mut world = World::with_roles([(Setup::new(kind), role), (Setup::new(kind), role)]);
            world.connect();
            world.expect_connected();
            let roles = [world.peers[0].agent.role(), world.peers[1].agent.role()];
            assert_ne!(roles[0], roles[1], "{role:?} {kind:?}");
            assert_eq!(world.media_flows(), [true; 2], "{role:?} {kind:?}");
        }
    }
}

/// A lite peer never begins a check; here it is an agent that has not been told of us: it only answers.
#[test]
fn a_lite_peer_makes_us_controlling_and_is_connected_to() {
    let mut world = World::with_roles([
        (Setup::new(Kind::PortRestricted), Role::Controlled),
        (Setup::new(Kind::Open), Role::Controlled),
    ]);
    world.gather();
    let lite = Remote { lite: true, ..world.describe(1) };
    let now = world.now;
    world.peers[0].agent.set_remote(now, lite);
    let connected = |world: &World| world.states()[0] == State::Connected;
    assert!(world.run_until(std::time::Duration::from_secs(10), connected));
    assert_eq!(world.peers[0].agent.role(), Role::Controlling);
}
