//! How long mappings live.

use std::time::Duration;

use crate::mapping_common::*;
use voipd_nat::mapping::{Action, Memory, Output, Protocol, Purpose, RequestId, Want};
use voipd_nat::mapping::{Answer, Granted};

#[test]
fn leases_are_short_and_renewed_at_half_time() {
    for (want, lease) in [(rtp(20_000), 600), (sip(), 3600)] {
        // UPnP is looked after without being asked again.
        let mut world = World::new(&[Protocol::Upnp]);
        let id = world.add(want);
        world.pass(secs(1));
        let asked = world.count(
            |action| matches!(action, Action::Map { lifetime: Some(time), .. } if *time == secs(lease)),
        );
        assert_eq!(asked, 3, "one for each protocol");
        world.asked.clear();
        world.pass(secs(lease / 2 - 2));
        assert_eq!(world.count(|action| matches!(action, Action::Map { .. })), 0);
        world.pass(secs(4));
        assert_eq!(world.count(|action| matches!(action, Action::Map { .. })), 1);
        assert!(world.view(id).expires.unwrap() > world.now + secs(lease - 10));
    }
}

#[test]
fn a_mapping_lives_as_long_as_it_is_wanted() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        let id = world.add(rtp(20_000));
        world.pass(secs(24 * 3600));
        assert!(world.external(id).is_some());
        assert_eq!(world.table(), [(20_000, protocol)]);
    }
}

#[test]
fn nothing_is_left_when_a_crash_stops_the_renewals() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.add(rtp(20_000));
    world.pass(secs(1000));
    assert_eq!(world.table().len(), 1);
    // Nobody drives the mapper any more.
    world.now += secs(601);
    assert_eq!(world.table(), []);
}

#[test]
fn a_router_that_is_silent_for_a_while_is_asked_until_the_lease_ends() {
    let mut world = World::new(&[Protocol::NatPmp]);
    let id = world.add(rtp(20_000));
    world.pass(secs(1));
    world.router.speaks.clear();
    world.pass(secs(550));
    assert!(world.external(id).is_some(), "the lease has not ended");
    let tries = world.count(|action| matches!(action, Action::Map { .. } | Action::Check { .. }));
    assert!((4..40).contains(&tries), "{tries}");
    world.router.speaks.insert(Protocol::NatPmp);
    world.pass(secs(45));
    assert!(world.view(id).expires.unwrap() > world.now + secs(500));
}

#[test]
fn a_lease_that_has_ended_is_no_mapping() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(rtp(20_000));
    world.pass(secs(1));
    world.router.speaks.clear();
    world.pass(secs(700));
    assert_eq!(world.external(id), None);
    assert!(world.view(id).problem.is_some());
    world.router.speaks.insert(Protocol::Pcp);
    world.pass(secs(2100));
    assert!(world.external(id).is_some());
}

#[test]
fn a_router_that_starts_anew_gets_all_mappings_again_within_a_minute() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        let ids = [sip(), rtp(20_000), rtp(20_001)].map(|want| world.add(want));
        world.pass(secs(200));
        world.router.restart(world.now);
        world.pass(secs(62));
        assert_eq!(world.table().len(), 3, "{protocol:?}");
        assert!(ids.iter().all(|id| world.external(*id).is_some()));
    }
}

#[test]
fn a_network_that_comes_back_has_its_mappings_looked_after_at_once() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.add(sip());
    world.add(rtp(20_000));
    world.pass(secs(100));
    world.router.restart(world.now);
    world.set_gateway(Some(GATEWAY));
    world.pass(secs(1));
    assert_eq!(world.table().len(), 2);
}

#[test]
fn what_has_ended_during_a_sleep_is_mapped_again_at_once() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        world.add(sip());
        world.add(rtp(20_000));
        world.pass(secs(100));
        // The router has run on, unlike our clock.
        world.router.rules.clear();
        world.set_gateway(Some(GATEWAY));
        world.pass(secs(1));
        assert_eq!(world.table().len(), 2, "{protocol:?}");
    }
}

#[test]
fn a_new_external_address_is_noticed_within_a_minute() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        let id = world.add(sip());
        world.pass(secs(100));
        world.router.external = "203.0.113.77".parse().unwrap();
        world.changed.clear();
        world.pass(secs(62));
        assert_eq!(world.external(id).unwrap().ip(), &world.router.external, "{protocol:?}");
        assert!(world.changed.contains(&id));
    }
}

#[test]
fn a_shorter_lease_than_asked_for_is_renewed_in_time_and_a_longer_one_as_often_as_ours() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.router.grants = Some(secs(40));
    let id = world.add(sip());
    world.pass(secs(3000));
    assert!(world.external(id).is_some());
    assert_eq!(world.table().len(), 1);

    let mut world = World::new(&[Protocol::NatPmp]);
    world.router.grants = Some(secs(1_000_000));
    for port in 0..20 {
        world.add(rtp(20_000 + port));
    }
    world.pass(secs(1));
    world.asked.clear();
    world.pass(secs(301));
    for port in 0..20 {
        assert!(world.count(|action| action.lease().internal_port == 20_000 + port) >= 1, "{port}");
    }
}

#[test]
fn a_mapping_made_for_some_time_goes_by_itself() {
    let mut world = World::new(&[Protocol::Upnp]);
    let want = Want { keep_for: Some(secs(900)), purpose: Purpose::User, ..rtp(8000) };
    let id = world.add(want);
    world.pass(secs(899));
    assert!(world.external(id).is_some());
    let longest = world.asked.iter().filter_map(|(_, action)| match action {
        Action::Map { lifetime, .. } => *lifetime,
        _ => None,
    });
    assert!(longest.max().unwrap() <= secs(900));
    world.pass(secs(2));
    assert_eq!(world.mapper.view(id), None);
    assert_eq!(world.table(), []);
}

#[test]
fn an_answer_to_a_question_that_was_never_asked_changes_nothing() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(sip());
    world.pass(secs(1));
    let before = world.view(id);
    let granted = Granted {
        external: "198.51.100.1:1".parse().unwrap(),
        lifetime: Some(Duration::from_secs(9999)),
        memory: Memory::Epoch(0),
    };
    world.mapper.handle_answer(world.now, RequestId(1_000_000), Answer::Mapped(granted));
    // Nor does a second answer to a question that was.
    world.mapper.handle_answer(world.now, RequestId(1), Answer::Mapped(granted));
    assert!(matches!(world.mapper.poll_output(), Output::Timeout(_)));
    assert_eq!(world.view(id), before);
}
