//! Calls by way of a meeting point that restarts in the middle of them.

use std::time::Duration;

use crate::common::meeting::{DOMAIN, Friend};
use crate::common::{ANSWER, HostId, Net, OFFER, end_of, incoming};
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionId, Transport};

const POINT: &str = "198.51.100.1:5060";
const KEPT: &str = "kept";

struct World {
    net: Net,
    point: HostId,
    alice: (Friend, SessionId),
    bob: (Friend, SessionId),
}

/// Alice and bob talk.
fn talking(transports: [Transport; 2]) -> World {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let [by_alice, by_bob] = transports;
    let alice = net.friend_by(point, "alice", "203.0.113.5:5060", by_alice);
    let bob = net.friend_by(point, "bob", "203.0.113.66:5060", by_bob);
    let target = format!("sip:bob@{DOMAIN}").parse().unwrap();
    let caller = net
        .with(alice.host, |endpoint, now| endpoint.invite(now, alice.id, target, InviteOptions::default()))
        .unwrap();
    net.with(alice.host, |endpoint, now| endpoint.send_invite(now, caller, OFFER.to_vec())).unwrap();
    net.run_ms(300);
    let callee = incoming(&net.events(bob.host));
    net.with(bob.host, |endpoint, now| endpoint.accept(now, callee, ANSWER.to_vec())).unwrap();
    net.run_ms(300);
    assert!(net.events(alice.host).iter().any(|event| matches!(event, Event::Answered { .. })));
    net.events(bob.host);
    World { net, point, alice: (alice, caller), bob: (bob, callee) }
}

impl World {
    fn restart(&mut self, key: &str) {
        self.net.restart_meeting(self.point, key);
        for (friend, _) in [self.alice, self.bob] {
            self.net.cut(friend.host, self.point);
        }
    }

    fn hang_up(&mut self, (friend, session): (Friend, SessionId)) {
        self.net.with(friend.host, |endpoint, now| endpoint.hangup(now, session)).unwrap();
        self.net.run_ms(1000);
    }
}

const WAYS: [[Transport; 2]; 4] = [
    [Transport::Udp, Transport::Udp],
    [Transport::Tcp, Transport::Tcp],
    [Transport::Udp, Transport::Tcp],
    [Transport::Tcp, Transport::Udp],
];

#[test]
fn a_call_is_changed_and_ended_by_either_side_after_a_restart() {
    for transports in WAYS {
        for by_caller in [true, false] {
            let mut world = talking(transports);
            world.net.run(Duration::from_secs(30));
            world.restart(KEPT);
            // Those with a connection come back by themselves; the others need not.
            world.net.run(Duration::from_secs(60));
            let (one, other) = if by_caller { (world.alice, world.bob) } else { (world.bob, world.alice) };
            world.net.events(one.0.host);
            world.net.events(other.0.host);
            let offer = OFFER.to_vec();
            world.net.with(one.0.host, |endpoint, now| endpoint.offer(now, one.1, offer)).unwrap();
            world.net.run_ms(1000);
            let asked = world.net.events(other.0.host);
            assert!(
                asked.iter().any(|event| matches!(event, Event::Offered { .. })),
                "{transports:?}: {asked:?}"
            );
            let answered = ANSWER.to_vec();
            world
                .net
                .with(other.0.host, |endpoint, now| endpoint.answer_offer(now, other.1, Ok(answered)))
                .unwrap();
            world.net.run_ms(1000);
            // Ended by the other one: both ways are known.
            world.net.events(one.0.host);
            world.hang_up(other);
            assert_eq!(
                end_of(&world.net.events(one.0.host), one.1).cause,
                EndCause::Remote,
                "{transports:?}"
            );
        }
    }
}

#[test]
fn a_call_ends_at_both_sides_at_once_after_a_restart_without_a_registration_in_between() {
    let mut world = talking([Transport::Udp; 2]);
    world.restart(KEPT);
    let (alice, bob) = (world.alice, world.bob);
    world.hang_up(alice);
    assert_eq!(end_of(&world.net.events(bob.0.host), bob.1).cause, EndCause::Remote);
    world.net.run(Duration::from_secs(70));
    assert_eq!(world.net.with_meeting(world.point, |point, _| point.is_idle()), Some(true));
}

#[test]
fn a_name_that_was_made_with_another_key_leads_nowhere() {
    let mut world = talking([Transport::Udp; 2]);
    world.restart("another");
    let (alice, bob) = (world.alice, world.bob);
    world.hang_up(alice);
    let events = world.net.events(bob.0.host);
    assert!(!events.iter().any(|event| matches!(event, Event::Ended { .. })), "{events:?}");
}

#[test]
fn who_was_removed_is_not_served_any_more() {
    let mut world = talking([Transport::Udp; 2]);
    world.restart(KEPT);
    let (alice, bob) = (world.alice, world.bob);
    world.net.with_meeting(world.point, |point, _| point.remove("bob"));
    world.net.events(bob.0.host);
    world.hang_up(alice);
    let events = world.net.events(bob.0.host);
    assert!(!events.iter().any(|event| matches!(event, Event::Ended { .. })), "{events:?}");
}
