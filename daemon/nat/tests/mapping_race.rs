//! Which protocol makes a mapping.

use crate::mapping_common::*;
use voipd_nat::mapping::{Action, AddError, Problem, Protocol, Refusal, Want};

#[test]
fn the_first_good_answer_wins_and_what_the_others_made_elsewhere_is_removed() {
    let mut world = World::new(&Protocol::ALL);
    world.router.own_ports = true;
    world.router.delay.insert(Protocol::Upnp, secs(3));
    world.router.delay.insert(Protocol::Pcp, secs(2));
    let id = world.add(sip());
    world.pass(secs(1));
    assert_eq!(world.view(id).protocol, Some(Protocol::NatPmp));
    let port = world.external(id).unwrap().port();
    world.pass(secs(10));
    assert_eq!(world.table(), [(port, Protocol::NatPmp)]);
}

#[test]
fn one_rule_made_by_all_protocols_stays_until_nobody_wants_it() {
    let mut world = World::new(&Protocol::ALL);
    let id = world.add(sip());
    world.pass(secs(10));
    assert_eq!(world.table().len(), 1);
    assert_eq!(world.count(|action| matches!(action, Action::Unmap { .. })), 0);
    world.remove(id);
    world.pass(secs(10));
    assert_eq!(world.table(), []);
}

#[test]
fn each_protocol_is_enough() {
    for protocol in Protocol::ALL {
        let mut world = World::new(&[protocol]);
        let id = world.add(rtp(20_000));
        world.pass(secs(1));
        let view = world.view(id);
        assert_eq!(view.external, Some(format!("{PUBLIC}:20000").parse().unwrap()), "{protocol:?}");
        assert_eq!(view.protocol, Some(protocol));
        assert_eq!(view.expires, Some(world.now - secs(1) + std::time::Duration::from_millis(5) + secs(600)));
        assert_eq!(view.problem, None);
    }
}

#[test]
fn what_has_worked_is_asked_alone_and_without_it_all_are_asked_again() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.add(sip());
    world.pass(secs(1));
    world.asked.clear();
    let second = world.add(rtp(20_000));
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.asked[0].1.lease().protocol, Protocol::NatPmp);
    world.pass(secs(1));
    assert!(world.external(second).is_some());
    // Its administrator switches to PCP.
    world.router.speaks = [Protocol::Pcp].into();
    let third = world.add(rtp(20_002));
    world.pass(secs(20));
    assert_eq!(world.view(third).protocol, Some(Protocol::Pcp));
}

#[test]
fn one_mapping_finds_out_for_all_what_the_router_speaks() {
    let mut world = World::new(&[Protocol::Pcp]);
    let ids = [rtp(20_000), rtp(20_001), rtp(20_002)].map(|want| world.add(want));
    assert_eq!(world.asked.len(), 3, "one for each protocol");
    world.pass(secs(1));
    assert!(ids.iter().all(|id| world.external(*id).is_some()));
    assert_eq!(world.asked.len(), 5);
}

#[test]
fn a_silent_router_is_asked_ever_more_seldom_and_by_one_mapping_alone() {
    let mut world = World::new(&[]);
    let ids = [rtp(20_000), rtp(20_001), rtp(20_002)].map(|want| world.add(want));
    world.pass(secs(20));
    assert!(ids.iter().all(|id| world.view(*id).problem == Some(Problem::Silent)));
    assert_eq!(world.mapper.worth_waiting(world.now, true), None);
    // Times at which it was asked; all three protocols each time.
    world.pass(secs(4 * 3600));
    let mut times: Vec<_> = world.asked.iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len() % 3, 0);
    times.dedup();
    assert!((8..=16).contains(&times.len()), "{}", times.len());
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.first().unwrap() < &secs(60) && gaps.last().unwrap() > &secs(1500), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= secs(2100)), "{gaps:?}");
    // It comes to life: all get their mappings with the next attempt.
    world.router.speaks = [Protocol::Upnp].into();
    world.pass(secs(2100));
    assert!(ids.iter().all(|id| world.external(*id).is_some()));
}

#[test]
fn a_new_mapping_does_not_wake_a_router_that_is_left_alone() {
    let mut world = World::new(&[]);
    world.add(sip());
    world.pass(secs(20));
    let asked = world.asked.len();
    for port in 0..50 {
        world.add(rtp(20_000 + port));
    }
    world.pass(secs(5));
    assert_eq!(world.asked.len(), asked);
}

#[test]
fn without_a_gateway_nobody_is_asked() {
    let mut world = World::without_gateway(&Protocol::ALL);
    let id = world.add(sip());
    world.pass(secs(3600));
    assert_eq!(world.view(id).problem, Some(Problem::NoGateway));
    assert!(world.asked.is_empty());
    world.set_gateway(Some(GATEWAY));
    world.pass(secs(1));
    assert!(world.external(id).is_some());
}

#[test]
fn another_network_means_new_mappings() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(sip());
    world.pass(secs(1));
    assert!(world.external(id).is_some());
    world.set_gateway(Some(OTHER_GATEWAY));
    assert_eq!(world.external(id), None, "the old address leads nowhere now");
    assert_eq!(world.asked.last().unwrap().1.lease().gateway, OTHER_GATEWAY);
    world.set_gateway(Some(GATEWAY));
    world.pass(secs(1));
    assert!(world.external(id).is_some());
}

#[test]
fn a_taken_port_is_no_obstacle() {
    let mut world = World::new(&[Protocol::Upnp]);
    let neighbour =
        Rule { client: "192.168.1.99".parse().unwrap(), port: 1, until: None, by: Protocol::Upnp };
    world.router.rules.insert((sip().transport, 5060), neighbour.clone());
    let id = world.add(sip());
    world.pass(secs(2));
    let external = world.external(id).unwrap();
    assert!(external.port() >= 49_152, "{external}");
    assert_eq!(world.router.rules[&(sip().transport, 5060)], neighbour);
    assert_eq!(world.mapper.views().count(), 1);
}

#[test]
fn a_router_that_has_every_port_taken_is_not_asked_without_end() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.refuses = Some(Refusal::PortInUse);
    let id = world.add(sip());
    world.pass(secs(20));
    assert_eq!(world.count(|action| action.lease().protocol == Protocol::Upnp), 6);
    let problem = world.view(id).problem;
    assert_eq!(problem, Some(Problem::Refused { protocol: Protocol::Upnp, refusal: Refusal::PortInUse }));
}

#[test]
fn a_router_that_wants_the_same_port_on_both_sides_gets_it() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.same_port_only = true;
    let id = world.add(Want { external_port: Some(5070), ..sip() });
    world.pass(secs(2));
    assert_eq!(world.external(id).unwrap().port(), 5060);
}

#[test]
fn another_port_than_asked_for_is_taken_as_it_is() {
    for protocol in [Protocol::NatPmp, Protocol::Pcp] {
        let mut world = World::new(&[protocol]);
        world.router.gives_port = Some(40_404);
        let id = world.add(sip());
        world.pass(secs(400));
        assert_eq!(world.external(id).unwrap().port(), 40_404);
        world.remove(id);
        world.pass(secs(1));
        assert_eq!(world.table(), []);
    }
}

#[test]
fn a_port_is_mapped_once() {
    let mut world = World::new(&[Protocol::Pcp]);
    let id = world.add(sip());
    let again = world.mapper.add(world.now, sip());
    assert!(matches!(again, Err(AddError::Exists { id: known, .. }) if known == id));
}
