//! Registrations whose network changes, goes away, flaps, or swallows everything without a word.

use std::time::Duration;

use crate::common::{HostId, World, sip};
use voipd_agent::AccountId;
use voipd_agent::view::AccountState;
use voipd_sip::message::Request;

struct Setup {
    world: World,
    alice: HostId,
    server: HostId,
    account: AccountId,
}

impl Setup {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let mut world = World::seeded(seed);
        let server = world.registrar("198.51.100.10:5060", "alice", "secret-word");
        let alice = world.agent("192.0.2.1:5060");
        let account = world.account(alice, sip("home", "sip:alice@198.51.100.10", "secret-word"));
        world.run_s(1);
        let mut setup = Self { world, alice, server, account };
        assert_eq!(setup.state(), AccountState::Registered);
        assert!(setup.binding().unwrap().contains("@192.0.2.1:5060"));
        setup.asked();
        setup
    }

    fn state(&self) -> AccountState {
        self.world.account_state(self.alice, self.account)
    }

    fn binding(&mut self) -> Option<String> {
        self.world.registrar_at(self.server).binding.clone()
    }

    /// What the registrar was asked since the last time.
    fn asked(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.world.registrar_at(self.server).seen)
    }
}

fn contacts(request: &Request) -> Vec<String> {
    request.headers.get_all("Contact").map(str::to_owned).collect()
}

#[test]
fn another_address_is_registered_at_once_and_the_old_one_removed() {
    let mut setup = Setup::new();
    setup.world.move_to(setup.alice, "192.0.2.77:5060");
    setup.world.run_ms(100);
    assert_eq!(setup.state(), AccountState::Registered);
    assert!(setup.binding().unwrap().contains("@192.0.2.77:5060"));
    let asked = setup.asked();
    let contacts = contacts(asked.last().unwrap()).join(", ");
    let (new, old) = contacts.split_once("192.0.2.1:5060").expect("the old contact comes last");
    assert!(new.contains("192.0.2.77:5060") && old.contains("expires=0"), "{contacts}");
    // From now on nothing speaks of it any more.
    setup.world.run_s(3600);
    assert!(
        setup
            .asked()
            .iter()
            .all(|request| !request.headers.get_all("Contact").any(|c| c.contains("192.0.2.1:")))
    );
}

#[test]
fn a_registrar_that_takes_one_contact_at_a_time_gets_the_new_one() {
    let mut setup = Setup::new();
    setup.world.registrar_at(setup.server).one_contact = true;
    setup.world.move_to(setup.alice, "192.0.2.77:5060");
    setup.world.run_ms(200);
    assert_eq!(setup.state(), AccountState::Registered);
    assert!(setup.binding().unwrap().contains("@192.0.2.77:5060"));
}

#[test]
fn an_unrelated_interface_is_no_reason_to_register() {
    let mut setup = Setup::new();
    setup.world.route(setup.alice, &[("10.0.0.0/8", "10.9.9.9")]);
    setup.world.run_s(5);
    assert!(setup.asked().is_empty());
}

#[test]
fn accounts_go_by_the_interfaces_that_lead_to_their_registrars() {
    let mut setup = Setup::new();
    let office = setup.world.registrar("10.0.0.10:5060", "alice", "secret-word");
    setup.world.route(setup.alice, &[("10.0.0.0/8", "10.9.9.9")]);
    let work = setup.world.account(setup.alice, sip("work", "sip:alice@10.0.0.10", "secret-word"));
    setup.world.run_s(1);
    assert_eq!(setup.world.account_state(setup.alice, work), AccountState::Registered);
    assert!(setup.world.registrar_at(office).binding.as_ref().unwrap().contains("@10.9.9.9:5060"));
    setup.world.registrar_at(office).seen.clear();
    setup.asked();
    // The VPN gets another address: that is the office's business alone.
    setup.world.route(setup.alice, &[("10.0.0.0/8", "10.9.9.10")]);
    setup.world.run_s(1);
    assert!(setup.world.registrar_at(office).binding.as_ref().unwrap().contains("@10.9.9.10:5060"));
    assert!(setup.asked().is_empty());
}

#[test]
fn a_registration_waits_for_a_network() {
    let mut setup = Setup::new();
    setup.world.go_offline(setup.alice);
    let view = setup.world.account_view(setup.alice, setup.account);
    assert_eq!((view.state, view.reason), (AccountState::Failed, "no-network"));
    let said = setup.world.capture.len();
    setup.world.run_s(600);
    assert_eq!(setup.world.capture.len(), said, "nothing is said into the void");
    assert!(setup.world.log(setup.alice).iter().any(|line| line == "waiting for a network"));
    setup.world.move_to(setup.alice, "192.0.2.77:5060");
    setup.world.run_s(1);
    assert_eq!(setup.state(), AccountState::Registered);
    assert!(setup.binding().unwrap().contains("@192.0.2.77:5060"));
}

#[test]
fn a_link_that_flaps_is_not_followed_with_a_storm() {
    let mut setup = Setup::new();
    for _ in 0..100 {
        setup.world.go_offline(setup.alice);
        setup.world.run_ms(100);
        setup.world.come_back(setup.alice);
        setup.world.run_ms(100);
    }
    let asked = setup.asked().len();
    // One try takes two requests: the second has credentials.
    assert!(asked <= 30, "{asked} requests in twenty seconds");
    setup.world.run_s(3);
    assert_eq!(setup.state(), AccountState::Registered);
}

#[test]
fn a_dead_registrar_is_tried_at_once_when_the_network_changes() {
    let mut setup = Setup::new();
    setup.world.blackout = true;
    setup.world.run_s(4000);
    assert_eq!(setup.state(), AccountState::Failed);
    setup.world.blackout = false;
    let before = setup.world.now;
    setup.world.route(setup.alice, &[("10.0.0.0/8", "10.9.9.9")]);
    setup.world.run_s(1);
    assert_eq!(setup.state(), AccountState::Registered, "after {:?}", setup.world.now - before);
}

#[test]
fn a_wrong_password_is_not_tried_again_on_another_network() {
    let mut setup = Setup::new();
    setup.world.registrar_at(setup.server).refuses = Some(403);
    let other = setup.world.account(setup.alice, sip("other", "sip:alice@198.51.100.10", "wrong"));
    setup.world.registrar_at(setup.server).refuses = None;
    setup.world.act(setup.alice, |agent, now| agent.register_account(now, other, true)).unwrap();
    setup.world.run_s(120);
    assert_eq!(setup.world.account_view(setup.alice, other).reason, "credentials");
    setup.asked();
    setup.world.route(setup.alice, &[("10.0.0.0/8", "10.9.9.9")]);
    setup.world.run_s(5);
    assert!(setup.asked().is_empty(), "it would lock the account");
}

#[test]
fn after_a_blackout_of_a_minute_everything_is_registered_within_fifteen_seconds() {
    let mut longest = Duration::ZERO;
    for seed in 1..=60 {
        let mut setup = Setup::seeded(seed);
        // The refresh falls into the blackout: at the latest 540 s after the binding.
        setup.world.run_s(470 + seed);
        setup.world.blackout = true;
        setup.world.run_s(60);
        setup.world.blackout = false;
        let back = setup.world.now;
        let mut away = Duration::ZERO;
        for _ in 0..150 {
            setup.world.run_ms(100);
            if setup.state() != AccountState::Registered {
                away = setup.world.now - back;
            }
        }
        assert_eq!(setup.state(), AccountState::Registered, "seed {seed}");
        longest = longest.max(away);
    }
    assert!(longest > Duration::from_secs(1), "the blackout was noticed");
}

#[test]
fn after_a_sleep_every_binding_is_looked_after() {
    let mut setup = Setup::new();
    setup.world.network_changed(setup.alice, true);
    setup.world.run_s(1);
    assert!(!setup.asked().is_empty());
    assert_eq!(setup.state(), AccountState::Registered);
}
