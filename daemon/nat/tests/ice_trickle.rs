//! Trickle ICE (RFC 8838): candidates that come after the description, in any order, too many of them.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{LATENCY, Setup, World};
use voipd_nat::ice::{Candidate, Remote, State};

#[test]
fn candidates_trickle_while_checks_run() {
    for kind in [Kind::Open, Kind::PortRestricted, Kind::Symmetric] {
        let mut world = World::new([Setup::new(kind), Setup::new(kind)]);
        // Descriptions go out before anything is gathered but host addresses.
        world.exchange();
        assert!(!world.peers[0].agent.is_gathered());
        let mut rounds = 0;
        while world.states() != [State::Connected; 2] && rounds < 200 {
            for from in 0..2 {
                while let Some(candidate) = world.peers[from].trickled.pop_front() {
                    let now = world.now;
                    world.peers[1 - from].agent.add_remote_candidate(now, candidate);
                }
            }
            world.run_for(LATENCY * 5);
            rounds += 1;
        }
        assert_eq!(world.states(), [State::Connected; 2], "{kind:?}");
        assert_eq!(world.media_flows(), [true; 2], "{kind:?}");
    }
}

#[test]
fn a_peer_without_candidates_is_found_by_its_checks() {
    let mut world = World::new([Setup::new(Kind::Open), Setup::new(Kind::PortRestricted)]);
    world.gather();
    let offer = world.describe(0);
    let answer = Remote { candidates: vec![], ..world.describe(1) };
    let now = world.now;
    world.peers[1].agent.set_remote(now, offer);
    world.run_for(LATENCY * 2);
    let now = world.now;
    world.peers[0].agent.set_remote(now, answer);
    world.peers[0].agent.end_of_remote_candidates(now);
    world.expect_connected();
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn checks_that_come_before_the_answer_are_answered_and_used() {
    let mut world = World::new([Setup::new(Kind::Open), Setup::new(Kind::Open)]);
    world.gather();
    let offer = world.describe(0);
    let answer = world.describe(1);
    let now = world.now;
    world.peers[1].agent.set_remote(now, offer);
    // The answerer has its path before the offerer knows of it: media may come at once.
    let heard = |world: &World| world.peers[1].paths.contains_key(&1);
    assert!(world.run_until(Duration::from_secs(2), heard));
    assert!(!world.peers[1].paths[&1].nominated);
    let now = world.now;
    world.peers[0].agent.set_remote(now, Remote { candidates: vec![], ..answer });
    world.expect_connected();
}

#[test]
fn too_many_candidates_cost_neither_the_call_nor_memory() {
    let mut world = World::new([Setup::new(Kind::Open), Setup::new(Kind::Open)]);
    world.gather();
    let offer = world.describe(0);
    let mut answer = world.describe(1);
    let junk: Vec<Candidate> = (0..5000_u32)
        .map(|n| format!("j 1 UDP 1 192.0.2.{} {} typ host", n % 250 + 1, 1024 + n).parse().unwrap())
        .collect();
    answer.candidates.extend(junk.clone());
    let now = world.now;
    world.peers[1].agent.set_remote(now, offer);
    world.peers[0].agent.set_remote(now, answer);
    for candidate in junk {
        world.peers[0].agent.add_remote_candidate(now, candidate);
    }
    let before = world.datagrams;
    world.expect_connected();
    assert!(world.datagrams - before < 100, "{}", world.datagrams - before);
}

#[test]
fn nobody_there_fails_in_twenty_seconds() {
    let mut world = World::new([Setup::new(Kind::Open), Setup::new(Kind::Open)]);
    world.gather();
    let answer = world.describe(1);
    world.dark.push(world.peers[1].nat.base(1));
    world.dark.push(crate::world::address(crate::world::TURN));
    let begun = world.elapsed();
    let now = world.now;
    world.peers[0].agent.set_remote(now, answer);
    assert!(world.run_until(Duration::from_secs(30), |world| world.states()[0] == State::Failed));
    assert_eq!(world.elapsed() - begun, Duration::from_secs(20));
}
