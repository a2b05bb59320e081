//! What a router says before anything is mapped, and how long a call waits for its ports.

use std::time::Duration;

use crate::mapping_common::*;
use voipd_nat::mapping::{MappingId, PATIENCE, Problem, Protocol, Refusal, SURVEY, Spoken};

/// The two ports of a call, and whether they were there when it had waited as long as it may.
fn call(world: &mut World, eagerly: bool) -> (Duration, bool) {
    let until = world.mapper.worth_waiting(world.now, eagerly);
    let ids: [MappingId; 2] = [rtp(20_000), rtp(20_001)].map(|want| world.add(want));
    let waits = until.map_or(Duration::ZERO, |until| until - world.now);
    world.pass(waits);
    (waits, ids.iter().all(|id| world.external(*id).is_some()))
}

/// A router of UPnP that takes its time to be found.
fn slow() -> World {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.search = secs(3);
    world
}

#[test]
fn a_look_maps_nothing_and_knows_what_each_protocol_says() {
    let mut world = World::new(&[Protocol::Pcp, Protocol::Upnp]);
    world.look();
    world.look();
    assert_eq!(world.looked.len(), 3, "one look at a time");
    world.pass(SURVEY - Duration::from_millis(1));
    assert!(world.mapper.surveyed().1);
    world.pass(Duration::from_millis(1));
    let (spoken, more) = world.mapper.surveyed();
    assert!(!more);
    assert_eq!(spoken[&Protocol::Pcp], Spoken::Answers(None));
    assert_eq!(spoken[&Protocol::Upnp], Spoken::Answers(Some(PUBLIC)));
    assert_eq!(spoken[&Protocol::NatPmp], Spoken::Refused(Refusal::NoAnswer));
    assert_eq!((world.asked.len(), world.table()), (0, Vec::new()));
}

#[test]
fn the_first_call_behind_a_router_of_upnp_waits_until_it_is_found() {
    for begun in [0, 1500, 2900] {
        let mut world = slow();
        world.look();
        world.pass(Duration::from_millis(begun));
        let (waits, mapped) = call(&mut world, true);
        assert!(mapped, "begun {begun} ms after the look");
        assert!(waits <= SURVEY + PATIENCE, "{waits:?}");
    }
}

#[test]
fn once_the_router_is_found_half_a_second_is_enough() {
    let mut world = slow();
    world.look();
    world.pass(SURVEY);
    assert_eq!(call(&mut world, true), (PATIENCE, true));
}

#[test]
fn without_a_look_the_first_call_would_go_out_before_its_ports_are_mapped() {
    let mut world = slow();
    assert_eq!(call(&mut world, true), (PATIENCE, false));
}

#[test]
fn a_call_that_can_tell_its_peer_later_does_not_wait_for_the_look() {
    let mut world = slow();
    world.look();
    assert_eq!(call(&mut world, false), (PATIENCE, false));
}

#[test]
fn where_one_protocol_has_answered_nobody_waits_for_the_others() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.look();
    world.pass(Duration::from_millis(100));
    assert!(world.mapper.surveyed().1, "UPnP may still be found");
    assert_eq!(call(&mut world, true), (PATIENCE, true));
}

#[test]
fn no_call_waits_for_a_router_that_is_of_no_use() {
    for (speaks, external, problem) in [
        (&[][..], PUBLIC, Problem::Silent),
        (&[Protocol::NatPmp, Protocol::Pcp], "100.64.0.7".parse().unwrap(), {
            Problem::NotPublic("100.64.0.7".parse().unwrap())
        }),
        (&[Protocol::Upnp], "0.0.0.0".parse().unwrap(), Problem::NoExternal),
    ] {
        let mut world = World::new(speaks);
        world.router.external = external;
        world.look();
        world.pass(SURVEY);
        assert_eq!(world.mapper.worth_waiting(world.now, true), None, "{problem:?}");
        // It is told why, and tried all the same: what the router said may have been wrong.
        let id = world.add(rtp(20_000));
        assert!(!world.asked.is_empty());
        world.pass(secs(20));
        assert_eq!(world.view(id).problem, Some(problem));
    }
}

#[test]
fn a_router_that_has_come_to_life_is_asked_at_once() {
    let mut world = World::new(&[]);
    let id = world.add(sip());
    world.pass(secs(3600));
    assert_eq!(world.view(id).problem, Some(Problem::Silent));
    world.router.speaks = [Protocol::Pcp].into();
    world.look();
    world.pass(secs(1));
    assert!(world.external(id).is_some(), "without waiting for the next attempt");
}

#[test]
fn what_another_router_said_does_not_count() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.look();
    world.pass(SURVEY);
    world.set_gateway(Some(OTHER_GATEWAY));
    assert!(world.mapper.surveyed().0.is_empty());
    world.look();
    // Answers of the first one that come late.
    world.pass(SURVEY);
    let silent = |spoken: &Spoken| *spoken == Spoken::Refused(Refusal::NoAnswer);
    assert!(world.mapper.surveyed().0.values().all(silent));
    world.set_gateway(None);
    world.look();
    assert!(world.mapper.surveyed().0.is_empty());
    assert_eq!(world.mapper.worth_waiting(world.now, true), None);
}
