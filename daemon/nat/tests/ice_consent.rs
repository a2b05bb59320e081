//! Consent (RFC 7675): asked for every 4 to 6 s, gone after 30 s without an answer; it also keeps NATs open.

use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{Setup, World};
use voipd_nat::ice::State;

fn connected(kinds: [Kind; 2]) -> World {
    let mut world = World::new(kinds.map(Setup::new));
    world.connect();
    world.expect_connected();
    world
}

#[test]
fn consent_is_asked_for_every_five_seconds_and_keeps_the_nats_open() {
    for kinds in [[Kind::PortRestricted; 2], [Kind::Symmetric, Kind::Open], [Kind::Symmetric; 2]] {
        let mut world = connected(kinds);
        let before = world.datagrams;
        world.run_for(Duration::from_secs(600));
        assert_eq!(world.states(), [State::Connected; 2], "{kinds:?}");
        let relayed = kinds[1] == Kind::Symmetric;
        let each = if relayed { 4 } else { 2 };
        // Two peers, a question every 5 s on average and its answer, by a relay each leg on its own; some refreshes.
        let asked = (world.datagrams - before) / (2 * each);
        assert!((100..=160).contains(&asked), "{kinds:?}: {asked}");
        assert_eq!(world.media_flows(), [true; 2], "{kinds:?}");
    }
}

#[test]
fn consent_is_lost_thirty_seconds_after_the_last_answer() {
    let mut world = connected([Kind::PortRestricted; 2]);
    world.run_for(Duration::from_secs(60));
    let begun = world.elapsed();
    world.dark.extend((40000..40100).map(|port| crate::world::address(&format!("203.0.113.11:{port}"))));
    assert!(world.run_until(Duration::from_secs(60), |world| world.states()[0] == State::Lost));
    let after = world.elapsed() - begun;
    assert!(Duration::from_secs(23) < after && after <= Duration::from_secs(31), "{after:?}");
    let before = world.datagrams;
    world.run_for(Duration::from_secs(20));
    // The other one has lost us, too: nobody sends to anybody any more, but for the relay's refreshes.
    assert!(world.datagrams - before < 20, "{}", world.datagrams - before);
}

#[test]
fn a_few_lost_questions_are_no_lost_consent() {
    let mut world = connected([Kind::PortRestricted; 2]);
    world.loses = Some(10);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.states(), [State::Connected; 2]);
}
