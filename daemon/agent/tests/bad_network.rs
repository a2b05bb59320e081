//! Calls through a network that loses, doubles and reorders SIP.

use std::time::Duration;

use crate::common::{Link, Pair};
use voipd_agent::view::{CallState, Reason};

fn bad() -> Link {
    Link { latency: Duration::from_millis(20), loss: 200, doubling: 100, jitter: Duration::from_millis(120) }
}

#[test]
fn calls_complete_whatever_is_lost() {
    for seed in 0..100 {
        let mut pair = Pair::seeded(seed);
        pair.world.link = bad();
        let world = &mut pair.world;
        let out = world.dial(pair.alice, "sip:bob@192.0.2.2");
        world.run_s(20);
        let inb = world.live_call(pair.bob);
        world.accept(pair.bob, inb);
        world.run_s(20);
        assert_eq!(world.state(pair.alice, out), CallState::Active, "seed {seed}");

        world.hold(pair.alice, out);
        world.run_s(30);
        assert!(world.view(pair.bob, inb).remote_hold, "seed {seed}");
        world.hold(pair.bob, inb);
        world.resume(pair.alice, out);
        world.run_s(40);
        let (alice, bob) = (world.view(pair.alice, out), world.view(pair.bob, inb));
        assert_eq!((alice.local_hold, alice.remote_hold), (false, true), "seed {seed}");
        assert_eq!((bob.local_hold, bob.remote_hold), (true, false), "seed {seed}");
        world.resume(pair.bob, inb);
        world.run_s(30);
        for (host, call) in [(pair.alice, out), (pair.bob, inb)] {
            let plan = world.plan(host, call);
            assert!(plan.send.is_some() && plan.play, "seed {seed}");
            assert_eq!(world.state(host, call), CallState::Active, "seed {seed}");
        }
        world.hang_up(pair.bob, inb);
        // BYE is repeated for 32 seconds; the answer's loss does not matter.
        world.run_s(35);
        assert_eq!(world.calls(pair.bob), [], "seed {seed}");
        assert_eq!(world.media_open(pair.alice), 0, "seed {seed}");
        let ended = world.calls(pair.alice);
        if let Some(call) = ended.first() {
            assert_eq!(world.end(pair.alice, *call).0, Reason::Remote, "seed {seed}");
        }
    }
}

#[test]
fn giving_up_reaches_the_other_side() {
    for seed in 0..100 {
        let mut pair = Pair::seeded(seed);
        pair.world.link = bad();
        let world = &mut pair.world;
        let out = world.dial(pair.alice, "sip:bob@192.0.2.2");
        world.run_ms(seed * 40);
        world.hang_up(pair.alice, out);
        world.run_s(45);
        for call in world.calls(pair.bob) {
            assert_eq!(world.end(pair.bob, call).0, Reason::Cancelled, "seed {seed}");
        }
        assert!(!world.ringer_open(pair.bob), "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let history = |seed| {
        let mut pair = Pair::seeded(seed);
        pair.world.link = bad();
        let out = pair.world.dial(pair.alice, "sip:bob@192.0.2.2");
        pair.world.run_s(5);
        for call in pair.world.calls(pair.bob) {
            pair.world.accept(pair.bob, call);
        }
        pair.world.run_s(20);
        if pair.world.state(pair.alice, out) != CallState::Ended {
            pair.world.hang_up(pair.alice, out);
        }
        pair.world.run_s(20);
        pair.world.capture
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}
