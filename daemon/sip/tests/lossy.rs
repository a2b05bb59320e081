//! Calls over a network that loses a fifth of the datagrams, doubles some and lets them overtake each other.

use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, RegistrationState};

const LINK: Link =
    Link { latency: Duration::from_millis(20), loss: 200, doubling: 100, jitter: Duration::from_millis(150) };

#[test]
fn calls_are_answered_changed_and_ended() {
    let mut losses = 0;
    for seed in 1..=200 {
        let mut pair = Pair::seeded(seed);
        pair.net.link = LINK;
        let (alice, bob) = (pair.alice, pair.bob);
        let caller = pair.invite();
        // Bob rings, answers, and takes the new offer; Alice offers anew when answered, then hangs up.
        let mut log = Vec::new();
        let mut reinvited = None;
        let mut deadline = None;
        for _ in 0..600 {
            pair.net.run_with(Duration::from_millis(100), |net, host, event| {
                match &event {
                    Event::Incoming(incoming) => {
                        net.with(bob, |e, now| e.ring(now, incoming.session, None)).unwrap();
                        net.with(bob, |e, now| e.accept(now, incoming.session, ANSWER.to_vec())).unwrap();
                    }
                    Event::Answered { .. } => {
                        net.with(alice, |e, now| e.offer(now, caller, OFFER.to_vec())).unwrap();
                    }
                    Event::Offered { session, .. } => {
                        net.with(bob, |e, now| e.answer_offer(now, *session, Ok(ANSWER.to_vec()))).unwrap();
                    }
                    Event::OfferDone { result, .. } => {
                        reinvited = Some(result.is_ok());
                        net.with(alice, |e, now| e.hangup(now, caller)).unwrap();
                    }
                    _ => {}
                }
                log.push((host, event));
            });
            if log.iter().filter(|(_, event)| matches!(event, Event::Ended { .. })).count() == 2 {
                deadline = Some(pair.net.elapsed());
                break;
            }
        }
        let all: Vec<_> = log.iter().map(|(_, event)| event.clone()).collect();
        assert_eq!(reinvited, Some(true), "seed {seed}: {all:?}");
        assert!(deadline.is_some(), "seed {seed}: {all:?}");
        let ends: Vec<_> = log
            .iter()
            .filter_map(|(host, event)| match event {
                Event::Ended { end, .. } => Some((*host, end.cause)),
                _ => None,
            })
            .collect();
        assert_eq!(ends, [(alice, EndCause::Local), (bob, EndCause::Remote)], "seed {seed}");
        let once = [
            all.iter().filter(|event| matches!(event, Event::Incoming(_))).count(),
            all.iter().filter(|event| matches!(event, Event::Answered { .. })).count(),
            all.iter().filter(|event| matches!(event, Event::Offered { .. })).count(),
        ];
        assert_eq!(once, [1, 1, 1], "seed {seed}: {all:?}");
        // Nothing is left behind, and nothing more is told.
        pair.net.run_with(Duration::from_secs(120), |_, _, event| panic!("seed {seed}: {event:?}"));
        for host in [alice, bob] {
            assert!(pair.net.with(host, |e, _| e.is_idle()), "seed {seed}");
        }
        losses += usize::from(times(&pair.net, alice, "INVITE").len() > 2);
    }
    assert!(losses > 20, "the network was to lose something: {losses}");
}

#[test]
fn cancelled_calls_leave_nobody_ringing() {
    for seed in 1..=200 {
        let mut pair = Pair::seeded(seed);
        pair.net.link = LINK;
        let (alice, bob) = (pair.alice, pair.bob);
        let caller = pair.invite();
        // Somewhere between the first INVITE and long after Bob has answered.
        pair.net.run_with(Duration::from_millis(10 * seed), |net, host, event| {
            if let (true, Event::Incoming(incoming)) = (host == bob, &event) {
                net.with(bob, |e, now| e.ring(now, incoming.session, None)).unwrap();
            }
        });
        let callee = pair.net.events(bob).iter().find_map(|event| match event {
            Event::Incoming(incoming) => Some(incoming.session),
            _ => None,
        });
        if let (Some(callee), true) = (callee, seed % 2 == 0) {
            pair.net.with(bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
        }
        pair.net.with(alice, |e, now| e.hangup(now, caller)).unwrap();
        pair.net.run_with(Duration::from_secs(200), |net, host, event| {
            if let (true, Event::Incoming(incoming)) = (host == bob, &event) {
                net.with(bob, |e, now| e.ring(now, incoming.session, None)).unwrap();
            }
        });
        assert_eq!(end_of(&pair.net.events(alice), caller).cause, EndCause::Local, "seed {seed}");
        let events = pair.net.events(bob);
        let came = events.iter().filter(|event| matches!(event, Event::Incoming(_))).count()
            + usize::from(callee.is_some());
        let ended = events.iter().filter(|event| matches!(event, Event::Ended { .. })).count();
        assert_eq!(came, ended, "seed {seed}: {events:?}");
        for host in [alice, bob] {
            assert!(pair.net.with(host, |e, _| e.is_idle()), "seed {seed}");
        }
    }
}

#[test]
fn registrations_are_made_and_kept() {
    for seed in 1..=100 {
        let mut net = Net::seeded(seed);
        net.link = LINK;
        let alice = net.agent("192.0.2.1:5060");
        let registrar = Registrar::new();
        registrar.borrow_mut().max_expires = 300;
        net.server("192.0.2.100:5060", Registrar::serve(&registrar));
        net.name("example.org", &["192.0.2.100:5060"]);
        let id = net.with(alice, |e, _| {
            e.add_identity(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"))
        });
        net.with(alice, |e, now| e.register(now, id)).unwrap();
        net.run(Duration::from_secs(3600));
        let states: Vec<_> = net.events(alice).into_iter().collect();
        assert!(
            matches!(
                states.last(),
                Some(Event::Registration { state: RegistrationState::Registered { expires: 300 }, .. })
            ),
            "seed {seed}: {states:?}"
        );
        assert_eq!(registrar.borrow().refused, 0, "seed {seed}");
        assert!(registrar.borrow().counts.len() >= 12, "seed {seed}");
    }
}
