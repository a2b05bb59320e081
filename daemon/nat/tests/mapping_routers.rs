//! Routers that lie, refuse, or know less than they should.

use crate::mapping_common::*;
use voipd_nat::mapping::{Action, Problem, Protocol, Refusal};

#[test]
fn an_external_address_of_zero_is_no_address() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        world.router.external = "0.0.0.0".parse().unwrap();
        let id = world.add(sip());
        world.pass(secs(20));
        assert_eq!(world.external(id), None);
        assert_eq!(world.view(id).problem, Some(Problem::NoExternal), "{protocol:?}");
        assert_eq!(world.table(), [], "what is of no use is taken back");
        // The line comes up.
        world.router.external = PUBLIC;
        world.pass(secs(40));
        assert!(world.external(id).is_some());
    }
}

#[test]
fn a_router_behind_another_nat_is_of_no_use_and_says_so() {
    for address in ["192.168.178.2", "10.0.0.3", "100.70.1.2"] {
        let mut world = World::new(&Protocol::ALL);
        world.router.external = address.parse().unwrap();
        let id = world.add(rtp(20_000));
        world.pass(secs(20));
        let view = world.view(id);
        assert_eq!(
            (view.external, view.problem.clone()),
            (None, Some(Problem::NotPublic(address.parse().unwrap())))
        );
        assert!(view.problem.unwrap().to_string().contains("another NAT"));
        assert_eq!(world.mapper.worth_waiting(world.now, true), None, "no call waits for it");
        assert_eq!(world.table(), []);
        let asked = world.asked.len();
        world.pass(secs(500));
        assert_eq!(world.asked.len(), asked, "it is not asked again soon");
    }
}

#[test]
fn a_public_address_that_turns_private_ends_the_mapping() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(sip());
    world.pass(secs(1));
    world.router.external = "100.64.9.9".parse().unwrap();
    world.pass(secs(62));
    assert_eq!(world.external(id), None);
    assert_eq!(world.table(), []);
}

#[test]
fn a_good_answer_wins_over_a_useless_one_that_came_first() {
    // Two boxes answer: PCP by the carrier's, with its private address, UPnP by the router.
    let mut world = World::new(&[Protocol::NatPmp, Protocol::Upnp]);
    world.router.delay.insert(Protocol::Upnp, secs(2));
    world.router.external = "0.0.0.0".parse().unwrap();
    let id = world.add(sip());
    world.router.external = PUBLIC;
    world.pass(secs(60));
    assert!(world.external(id).is_some());
}

#[test]
fn a_router_with_permanent_mappings_only_gets_one_that_is_remembered_and_removed() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.permanent_only = true;
    let id = world.add(rtp(20_000));
    world.pass(secs(20));
    let view = world.view(id);
    assert!(view.external.is_some() && view.permanent && view.expires.is_none());
    assert_eq!(world.remembered.len(), 1);
    world.pass(secs(7200));
    assert_eq!(world.table().len(), 1);
    world.remove(id);
    world.pass(secs(1));
    assert_eq!((world.table(), world.remembered.len()), (vec![], 0));
}

#[test]
fn a_lease_that_the_router_does_not_show_is_not_made_permanent() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.shows_no_lease = true;
    let id = world.add(sip());
    world.pass(secs(3700));
    let view = world.view(id);
    assert!(view.external.is_some() && view.expires.is_some() && !view.permanent);
    assert_eq!(world.count(|action| matches!(action, Action::Map { lifetime: None, .. })), 0);
}

#[test]
fn a_permanent_mapping_is_the_last_resort() {
    let mut world = World::new(&[Protocol::Upnp, Protocol::NatPmp]);
    world.router.permanent_only = true;
    world.router.delay.insert(Protocol::NatPmp, secs(3));
    let id = world.add(sip());
    world.pass(secs(10));
    assert_eq!(world.view(id).protocol, Some(Protocol::NatPmp));
    assert!(world.remembered.is_empty());
}

#[test]
fn what_a_crash_left_for_good_is_removed_at_the_next_start() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.permanent_only = true;
    world.add(rtp(20_000));
    world.add(rtp(20_001));
    world.pass(secs(30));
    assert_eq!(world.remembered.len(), 2);
    let mut after = World::without_gateway(&[Protocol::Upnp]);
    after.router.rules = world.router.rules.clone();
    after.remembered = world.remembered.clone();
    after.mapper.adopt(after.now, world.remembered);
    after.drain();
    // First it is somewhere else: the leftovers wait for their router.
    after.set_gateway(Some(OTHER_GATEWAY));
    after.pass(secs(3600));
    assert_eq!((after.table().len(), after.remembered.len()), (2, 2));
    after.set_gateway(Some(GATEWAY));
    after.pass(secs(1));
    assert_eq!((after.table(), after.remembered.len()), (vec![], 0));
}

#[test]
fn a_permanent_mapping_that_cannot_be_removed_now_stays_remembered() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.permanent_only = true;
    let id = world.add(rtp(20_000));
    world.pass(secs(20));
    world.router.keeps_all = true;
    world.remove(id);
    world.pass(secs(600));
    assert_eq!(world.remembered.len(), 1);
    assert!(world.count(|action| matches!(action, Action::Unmap { .. })) > 3, "it is tried again");
    world.shut_down();
    world.pass(secs(1));
    assert!(world.mapper.is_idle(), "a stop does not wait for it");
    assert_eq!(world.remembered.len(), 1);
}

#[test]
fn a_permanent_mapping_whose_making_was_not_answered_is_remembered_until_it_is_surely_gone() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.permanent_only = true;
    world.add(rtp(20_000));
    // The first answer comes; that to the second question is lost.
    world.pass(std::time::Duration::from_millis(14_900));
    world.router.speaks.clear();
    world.pass(secs(31));
    let remembered = world.remembered.clone();
    world.router.speaks.insert(Protocol::Upnp);
    world.pass(secs(3600));
    assert_eq!(world.table().len(), 1, "made in the end");
    assert_eq!(world.remembered.len(), 1);
    assert!(remembered.len() <= 1);
}

#[test]
fn a_refusal_is_told_in_the_routers_words() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.router.refuses = Some(Refusal::NotAuthorized);
    let id = world.add(sip());
    world.pass(secs(20));
    let problem = world.view(id).problem.unwrap();
    assert_eq!(problem.to_string(), "the router refuses (pcp): not allowed by the router's settings");
}

#[test]
fn a_lease_that_ends_at_once_is_nonsense() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.router.grants = Some(secs(1));
    let id = world.add(sip());
    world.pass(secs(300));
    assert_eq!(world.external(id), None);
    assert!(matches!(world.view(id).problem, Some(Problem::Nonsense { .. })));
    assert!(world.asked.len() < 40, "{}", world.asked.len());
}
