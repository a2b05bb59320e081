//! Mappings go when nobody wants them any more.

use std::time::Duration;

use crate::mapping_common::*;
use voipd_nat::mapping::{Action, AddError, Protocol};

#[test]
fn a_mapping_is_removed_when_its_call_ends() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        let (call, sip) = (world.add(rtp(20_000)), world.add(sip()));
        world.pass(secs(1));
        world.remove(call);
        world.pass(secs(1));
        assert_eq!(world.table(), [(5060, protocol)]);
        assert!(world.external(sip).is_some());
    }
}

#[test]
fn a_mapping_that_is_granted_after_the_hang_up_is_removed() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        world.router.delay.insert(protocol, secs(2));
        let id = world.add(rtp(20_000));
        world.pass(secs(1));
        world.remove(id);
        world.pass(secs(10));
        assert_eq!(world.table(), [], "{protocol:?}");
    }
}

#[test]
fn a_yes_that_comes_after_its_time_is_undone() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.delay.insert(Protocol::Upnp, secs(25));
    let id = world.add(rtp(20_000));
    world.pass(secs(16));
    assert_eq!(world.external(id), None);
    world.router.delay.clear();
    world.pass(secs(12));
    assert_eq!(world.table(), []);
}

#[test]
fn a_stop_removes_everything_and_takes_nothing_on() {
    let mut world = World::new(&[Protocol::Upnp]);
    for port in 0..10 {
        world.add(rtp(20_000 + port));
    }
    world.pass(secs(1));
    assert_eq!(world.table().len(), 10);
    world.shut_down();
    assert!(!world.mapper.is_idle());
    assert!(matches!(world.mapper.add(world.now, sip()), Err(AddError::Stopping)));
    world.pass(secs(1));
    assert!(world.mapper.is_idle());
    assert_eq!(world.table(), []);
}

#[test]
fn a_stop_waits_for_what_is_being_made() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.router.delay.insert(Protocol::Pcp, secs(1));
    world.add(sip());
    world.shut_down();
    assert!(!world.mapper.is_idle());
    world.pass(secs(3));
    assert_eq!(world.table(), []);
}

#[test]
fn a_stop_without_mappings_waits_for_nothing() {
    let mut world = World::new(&[]);
    world.add(sip());
    world.pass(secs(100));
    world.shut_down();
    assert!(world.mapper.is_idle());
}

#[test]
fn removing_is_tried_again_a_few_times() {
    let mut world = World::new(&[Protocol::NatPmp]);
    let id = world.add(rtp(20_000));
    world.pass(secs(1));
    world.router.speaks.clear();
    world.remove(id);
    world.pass(secs(20));
    world.router.speaks.insert(Protocol::NatPmp);
    world.pass(secs(20));
    assert_eq!(world.table(), []);
    world.pass(Duration::from_secs(3600));
    assert!(world.count(|action| matches!(action, Action::Unmap { .. })) <= 3);
}

#[test]
fn a_port_that_is_used_again_while_removing_is_tried_again_keeps_its_new_mapping() {
    let mut world = World::new(&[Protocol::NatPmp]);
    let id = world.add(rtp(20_000));
    world.pass(secs(1));
    world.router.speaks.clear();
    world.remove(id);
    // Nobody has answered, and the second attempt is to come.
    world.pass(secs(16));
    world.router.speaks.insert(Protocol::NatPmp);
    let next = world.add(rtp(20_000));
    world.pass(secs(10));
    assert!(world.external(next).is_some());
    assert_eq!(world.table(), [(20_000, Protocol::NatPmp)]);
    // A router that stays silent is waited for no longer than it is asked.
    world.router.speaks.clear();
    world.remove(next);
    let last = world.add(rtp(20_000));
    world.pass(secs(60));
    world.router.speaks.insert(Protocol::NatPmp);
    world.pass(secs(60));
    assert!(world.external(last).is_some());
}

#[test]
fn two_thousand_calls_leave_nothing_behind() {
    let mut world = World::new(&Protocol::ALL);
    for round in 0..20 {
        let ids: Vec<_> = (0..100).map(|port| world.add(rtp(20_000 + port))).collect();
        world.pass(secs(1));
        assert_eq!(world.table().len(), 100, "round {round}");
        for id in ids {
            world.remove(id);
        }
        world.pass(secs(1));
        assert_eq!(world.table(), []);
        world.asked.clear();
    }
    assert_eq!(world.mapper.views().count(), 0);
}

#[test]
fn a_port_that_is_used_again_at_once_keeps_its_new_mapping() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(rtp(20_000));
    world.pass(secs(1));
    world.router.delay.insert(Protocol::Pcp, secs(1));
    world.remove(id);
    let next = world.add(rtp(20_000));
    assert!(matches!(world.asked.last().unwrap().1, Action::Unmap { .. }), "the old one goes first");
    world.pass(secs(3));
    assert!(world.external(next).is_some());
    assert_eq!(world.table(), [(20_000, Protocol::Pcp)]);
}
