//! What a relay gives is kept: allocation (10 to 30 min), permissions (5 min), channels (10 min), nonces.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{Setup, World, relay};
use voipd_nat::ice::{MediaPath, State};
use voipd_nat::turn::RelayTransport;

const MINUTE: Duration = Duration::from_secs(60);

fn call(transport: RelayTransport, kind: Kind) -> World {
    let setup = || Setup { relays: vec![relay(transport)], ..Setup::new(kind) };
    let mut world = World::new([setup(), setup()]);
    world.connect();
    world.expect_connected();
    world
}

#[test]
fn a_relayed_call_lasts_for_an_hour() {
    for (transport, kind) in [
        (RelayTransport::Udp, Kind::Symmetric),
        (RelayTransport::Tcp, Kind::UdpBlocked),
        (RelayTransport::Tls, Kind::UdpBlocked),
    ] {
        let mut world = call(transport, kind);
        for minute in 0..60 {
            world.run_for(MINUTE);
            assert_eq!(world.states(), [State::Connected; 2], "{transport:?} after {minute} min");
            assert_eq!(world.media_flows(), [true; 2], "{transport:?} after {minute} min");
        }
        let channel = |path| matches!(path, MediaPath::Channel { .. } | MediaPath::Stream { .. });
        assert!(channel(world.path(0)) || channel(world.path(1)));
    }
}

#[test]
fn nonces_that_expire_end_nothing() {
    let setup = || Setup::new(Kind::Symmetric);
    let mut world = World::new([setup(), setup()]);
    world.servers.set_nonce_lifetime(Duration::from_secs(45));
    world.connect();
    world.expect_connected();
    for minute in 0..25 {
        world.run_for(MINUTE);
        assert_eq!(world.media_flows(), [true; 2], "after {minute} min");
    }
}

#[test]
fn a_relay_that_is_not_used_is_kept_for_a_restart_and_given_back_at_the_end() {
    let setup = || Setup::new(Kind::PortRestricted);
    let mut world = World::new([setup(), setup()]);
    world.connect();
    world.expect_connected();
    assert!(matches!(world.path(0), MediaPath::Direct { .. }));
    world.run_for(45 * MINUTE);
    assert_eq!(world.servers.allocations, 2);
    let now = world.now;
    world.peers[0].agent.close(now);
    world.peers[1].agent.close(now);
    world.run_for(MINUTE);
    assert_eq!(world.servers.allocations, 0);
}

#[test]
fn a_quiet_agent_sleeps() {
    let mut world = call(RelayTransport::Udp, Kind::Symmetric);
    let before = world.peers[0].timeouts;
    world.run_for(10 * MINUTE);
    let wakes = world.peers[0].timeouts - before;
    assert!(wakes < 2000, "{wakes} wakes in ten minutes");
}
