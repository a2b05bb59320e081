//! Trickle ICE (RFC 8838): candidates that come after the description, in any order, too many of them.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{LATENCY, Setup, TURN, World, address};
use voipd_nat::ice::{Candidate, CandidateKind, MediaPath, Remote, State};

#[test]
fn candidates_trickle_while_checks_run() {
    for kind in [Kind::Open, Kind::PortRestricted, Kind::Symmetric] {
        let mut world = World::new([Setup::new(kind), Setup::new(kind)]);
        // Descriptions go out before anything is gathered but host addresses.
        let [offer, answer] = [0, 1].map(|peer| Remote { trickles: true, ..world.describe(peer) });
        let now = world.now;
        world.peers[1].agent.set_remote(now, offer);
        world.run_for(LATENCY * 2);
        let now = world.now;
        world.peers[0].agent.set_remote(now, answer);
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
    let answer = Remote { candidates: vec![], trickles: true, ..world.describe(1) };
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
    let mut answer = Remote { trickles: true, ..world.describe(1) };
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

/// Both behind NATs, and know nothing of each other but addresses at the relay; what was held back.
fn by_relay_at_first() -> (World, [Vec<Candidate>; 2]) {
    let mut world = World::new([Setup::new(Kind::PortRestricted), Setup::new(Kind::PortRestricted)]);
    world.gather();
    let mut later = [Vec::new(), Vec::new()];
    for (from, kept) in later.iter_mut().enumerate() {
        let all = world.describe(from);
        let relayed = |candidate: &Candidate| candidate.kind == CandidateKind::Relayed;
        let (candidates, held) = all.candidates.iter().cloned().partition(relayed);
        *kept = held;
        let told = Remote { candidates, trickles: true, ..all };
        let now = world.now;
        world.peers[1 - from].agent.set_remote(now, told);
    }
    (world, later)
}

#[test]
fn a_way_that_comes_to_light_late_is_taken_in_place_of_a_relay() {
    let (mut world, later) = by_relay_at_first();
    // Media goes by the relay meanwhile.
    assert!(world.run_until(Duration::from_secs(2), |world| world.peers.iter().all(|p| !p.paths.is_empty())));
    assert!(matches!(world.path(0), MediaPath::Channel { .. }));
    world.run_for(Duration::from_secs(2) - LATENCY);
    assert_ne!(world.states(), [State::Connected; 2]);
    for (from, candidates) in later.into_iter().enumerate() {
        for candidate in candidates {
            let now = world.now;
            world.peers[1 - from].agent.add_remote_candidate(now, candidate);
        }
    }
    world.expect_connected();
    assert!(matches!(world.path(0), MediaPath::Direct { .. }), "{:?}", world.path(0));
    assert_eq!(world.media_flows(), [true; 2]);
}

#[test]
fn a_relay_is_kept_waiting_no_longer_than_the_peer_says() {
    let (mut world, _) = by_relay_at_first();
    let now = world.now;
    let begun = world.elapsed();
    world.peers[0].agent.end_of_remote_candidates(now);
    world.expect_connected();
    assert!(world.elapsed() - begun < Duration::from_secs(2), "{:?}", world.elapsed() - begun);
    let (mut world, _) = by_relay_at_first();
    let begun = world.elapsed();
    world.expect_connected();
    let waited = world.elapsed() - begun;
    assert!((Duration::from_secs(3)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
}

#[test]
fn what_comes_after_the_end_of_candidates_is_not_looked_at() {
    let (mut world, later) = by_relay_at_first();
    for peer in &mut world.peers {
        peer.agent.end_of_remote_candidates(world.now);
    }
    for (from, candidates) in later.into_iter().enumerate() {
        for candidate in candidates {
            let now = world.now;
            world.peers[1 - from].agent.add_remote_candidate(now, candidate);
        }
    }
    world.expect_connected();
    assert!(matches!(world.path(0), MediaPath::Channel { .. }));
}

#[test]
fn an_address_that_comes_after_all_others_have_failed_is_tried() {
    let mut world = World::new([Setup::new(Kind::Open), Setup::new(Kind::Open)]);
    world.gather();
    let nowhere: Candidate = "x 1 UDP 1000 192.0.2.77 9999 typ host".parse().unwrap();
    let [offer, answer] = [0, 1].map(|peer| world.describe(peer));
    let told = |all: &Remote| Remote { candidates: vec![nowhere.clone()], trickles: true, ..all.clone() };
    let now = world.now;
    world.peers[1].agent.set_remote(now, told(&offer));
    world.peers[0].agent.set_remote(now, told(&answer));
    world.dark.push(address(TURN));
    assert!(world.run_until(Duration::from_secs(30), |world| world.states() == [State::Failed; 2]));
    let now = world.now;
    for (peer, late) in [(0, answer), (1, offer)] {
        for candidate in late.candidates {
            world.peers[peer].agent.add_remote_candidate(now, candidate);
        }
    }
    world.expect_connected();
    assert_eq!(world.media_flows(), [true; 2]);
}
