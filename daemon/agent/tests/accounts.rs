//! Accounts: registration, switching on and off, removal, and which of them places a call.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, Pair, World, config, direct, sip};
use voipd_agent::view::{AccountState, CallState, Reason};
use voipd_agent::{AccountId, AccountOrigin, AgentConfig, AgentError, SoundChoice};
use voipd_sip::digest::Secret;

const PASSWORD: &str = "secret-pw";

fn with_registrar() -> (World, HostId, HostId) {
    let mut world = World::new();
    let host = world.phone("192.0.2.2:5060");
    let registrar = world.registrar("203.0.113.1:5060", "alice", PASSWORD);
    world.name("example.org", &["203.0.113.1:5060"]);
    (world, host, registrar)
}

fn registers(world: &mut World, host: HostId) -> AccountId {
    let account = world.account(host, sip("work", "sip:alice@example.org", PASSWORD));
    assert_eq!(world.account_state(host, account), AccountState::Registering);
    world.run_s(1);
    assert_eq!(world.account_state(host, account), AccountState::Registered);
    account
}

#[test]
fn an_account_registers_and_stays_registered() {
    let (mut world, host, registrar) = with_registrar();
    let account = registers(&mut world, host);
    let view = world.account_view(host, account);
    assert_eq!((view.expires, view.sip_status, view.reason), (600, 200, ""));
    let asked = world.registrar_at(registrar).seen.len();
    world.run_s(1800);
    let refreshed = world.registrar_at(registrar).seen.len() - asked;
    assert!((3..=8).contains(&refreshed), "{refreshed} requests in three lives of the binding");
    assert_eq!(world.account_state(host, account), AccountState::Registered);
}

#[test]
fn a_wrong_password_fails_with_its_reason() {
    let (mut world, host, registrar) = with_registrar();
    let account = world.account(host, sip("work", "sip:alice@example.org", "secret-but-wrong"));
    world.run_s(10);
    let view = world.account_view(host, account);
    assert_eq!((view.state, view.reason), (AccountState::Failed, "credentials"));
    assert_eq!(view.retry_at, None, "the same password would be as wrong again");
    let asked = world.registrar_at(registrar).seen.len();
    world.run_s(600);
    assert_eq!(world.registrar_at(registrar).seen.len(), asked);
}

#[test]
fn other_failures_are_told_and_tried_again() {
    let (mut world, host, registrar) = with_registrar();
    world.registrar_at(registrar).refuses = Some(403);
    let refused = world.account(host, sip("work", "sip:alice@example.org", PASSWORD));
    let unknown = world.account(host, sip("lost", "sip:alice@nowhere.invalid", PASSWORD));
    world.run_s(1);
    let view = world.account_view(host, refused);
    assert_eq!((view.state, view.reason, view.sip_status), (AccountState::Failed, "rejected", 403));
    let view = world.account_view(host, unknown);
    assert_eq!((view.state, view.reason), (AccountState::Failed, "unresolvable"));
    assert!(view.retry_at.is_some());
    world.name("nowhere.invalid", &["203.0.113.1:5060"]);
    world.registrar_at(registrar).refuses = None;
    world.run_s(600);
    assert_eq!(world.account_state(host, unknown), AccountState::Registered);
}

#[test]
fn switching_off_unregisters_and_switching_on_registers() {
    let (mut world, host, registrar) = with_registrar();
    let account = registers(&mut world, host);
    world.act(host, |agent, now| agent.enable_account(now, account, false)).unwrap();
    assert_eq!(world.account_state(host, account), AccountState::Disabled);
    world.run_s(1);
    assert_eq!(world.registrar_at(registrar).binding, None);
    let dial = |world: &mut World, target: &'static str| {
        world.act(host, |agent, now| agent.dial(now, target, Some(account), SoundChoice::default()))
    };
    assert_eq!(dial(&mut world, "bob"), Err(AgentError::AccountDisabled("work".to_owned())));
    let register = world.act(host, |agent, now| agent.register_account(now, account, true));
    assert_eq!(register, Err(AgentError::AccountDisabled("work".to_owned())));
    world.act(host, |agent, now| agent.enable_account(now, account, true)).unwrap();
    world.run_s(1);
    assert_eq!(world.account_state(host, account), AccountState::Registered);
    assert!(world.registrar_at(registrar).binding.is_some());
}

#[test]
fn an_account_has_the_same_contact_after_a_sudden_end() {
    let (mut world, _, registrar) = with_registrar();
    let mut user = |address: &str, key: &str| {
        let config = AgentConfig { contact_key: Some(Secret::new(key)), ..config() };
        let host = world.agent_with(address, config);
        registers(&mut world, host);
        let binding = world.registrar_at(registrar).binding.clone().unwrap();
        binding.split('@').next().unwrap().to_owned()
    };
    let before = user("192.0.2.11:5060", "one key");
    assert_eq!(user("192.0.2.12:5060", "one key"), before);
    assert_ne!(user("192.0.2.13:5060", "another key"), before);
}

#[test]
fn what_still_unregisters_cannot_take_the_new_registration_with_it() {
    let (mut world, _, registrar) = with_registrar();
    let config = AgentConfig { contact_key: Some(Secret::new("key")), ..config() };
    let host = world.agent_with("192.0.2.11:5060", config);
    let account = registers(&mut world, host);
    let binding = world.registrar_at(registrar).binding.clone().unwrap();
    world.registrar_at(registrar).seen.clear();
    for enabled in [false, true] {
        world.act(host, |agent, now| agent.enable_account(now, account, enabled)).unwrap();
    }
    world.run_s(1);
    let seen = &world.registrar_at(registrar).seen;
    let contacts: Vec<&str> = seen.iter().filter_map(|request| request.headers.get("Contact")).collect();
    let (ends, begins): (Vec<&str>, Vec<&str>) =
        contacts.into_iter().partition(|contact| contact.contains(&binding));
    assert!(!ends.is_empty() && ends.iter().all(|contact| contact.contains("expires=0")), "{ends:?}");
    assert!(!begins.is_empty() && begins.iter().all(|contact| !contact.contains("expires=0")), "{begins:?}");
}

#[test]
fn unregistering_lasts_until_told_otherwise() {
    let (mut world, host, registrar) = with_registrar();
    let account = registers(&mut world, host);
    world.act(host, |agent, now| agent.register_account(now, account, false)).unwrap();
    world.run_s(3600);
    assert_eq!(world.account_state(host, account), AccountState::Unregistered);
    assert_eq!(world.registrar_at(registrar).binding, None);
    world.act(host, |agent, now| agent.register_account(now, account, true)).unwrap();
    world.run_s(1);
    assert_eq!(world.account_state(host, account), AccountState::Registered);
}

#[test]
fn accounts_without_a_server_do_not_register() {
    let mut world = World::new();
    let host = world.agent("192.0.2.2:5060");
    let account = world.account(host, direct());
    assert_eq!(world.account_state(host, account), AccountState::Ready);
    let result = world.act(host, |agent, now| agent.register_account(now, account, true));
    assert_eq!(result, Err(AgentError::DoesNotRegister("direct".to_owned())));
    let mut tel = sip("tel", "tel:+4930123", PASSWORD);
    tel.registrar = None;
    let account = world.account(host, tel);
    let result = world.act(host, |agent, now| agent.register_account(now, account, true));
    assert_eq!(result, Err(AgentError::DoesNotRegister("tel".to_owned())));
}

#[test]
fn calls_of_an_account_that_is_switched_off_go_on() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    let account = world.view(pair.alice, out).account;
    world.act(pair.alice, |agent, now| agent.enable_account(now, account, false)).unwrap();
    world.run_s(1);
    assert_eq!(world.account_state(pair.alice, account), AccountState::Disabled);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    world.hold(pair.alice, out);
    world.run_s(1);
    assert!(world.view(pair.bob, inb).remote_hold);
    world.resume(pair.alice, out);
    world.run_s(1);
    world.hold(pair.bob, inb);
    world.run_s(1);
    assert!(world.view(pair.alice, out).remote_hold, "the peer still reaches it");
    world.hang_up(pair.bob, inb);
    world.run_s(1);
    assert_eq!(world.end(pair.alice, out).0, Reason::Remote);
    // But nothing new comes in or goes out.
    let again = world.dial(pair.bob, "sip:192.0.2.1");
    world.run_s(1);
    assert_eq!(world.end(pair.bob, again), (Reason::NotFound, 404));
    let dial =
        |agent: &mut voipd_agent::Agent, now| agent.dial(now, "sip:192.0.2.2", None, SoundChoice::default());
    assert_eq!(world.act(pair.alice, dial), Err(AgentError::NoUsableAccount));
}

#[test]
fn a_call_that_rings_survives_its_account_being_switched_off() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    for (host, call) in [(pair.alice, out), (pair.bob, inb)] {
        let account = world.view(host, call).account;
        world.act(host, |agent, now| agent.enable_account(now, account, false)).unwrap();
    }
    world.accept(pair.bob, inb);
    world.run_s(1);
    assert_eq!(world.state(pair.alice, out), CallState::Active);
    assert_eq!(world.state(pair.bob, inb), CallState::Active);
}

#[test]
fn removing_an_account_ends_its_calls_and_unregisters() {
    let (mut world, host, registrar) = with_registrar();
    let account = registers(&mut world, host);
    let raw = world.raw("192.0.2.9:5060");
    let call = world
        .act(host, |agent, now| agent.dial(now, "sip:peer@192.0.2.9", Some(account), SoundChoice::default()))
        .unwrap();
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, host, &invite);
    peer.answer(&mut world, &invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
    world.run_ms(50);
    let other = world.dial(host, "sip:192.0.2.200");
    let settings = world.act(host, |agent, now| agent.remove_account(now, account)).unwrap();
    assert_eq!(settings.name, "work");
    assert_eq!(world.end(host, call).0, Reason::Local);
    assert_eq!(world.state(host, other), CallState::Dialing, "calls of other accounts go on");
    world.run_s(1);
    let methods: Vec<String> = world.requests(raw).iter().map(|r| r.method.as_str().to_owned()).collect();
    assert!(methods.contains(&"BYE".to_owned()), "{methods:?}");
    assert_eq!(world.registrar_at(registrar).binding, None);
    let gone = world.act(host, |agent, now| agent.remove_account(now, account));
    assert_eq!(gone.err(), Some(AgentError::NoSuchAccount));
    // Its name is free, its number is not used again.
    let again = world.account(host, sip("work", "sip:alice@example.org", PASSWORD));
    assert!(again > account);
}

#[test]
fn what_the_configuration_says_stays() {
    let mut world = World::new();
    let host = world.phone("192.0.2.2:5060");
    let mut settings = sip("work", "sip:alice@example.org", PASSWORD);
    settings.origin = AccountOrigin::Config;
    let account = world.account(host, settings.clone());
    let removed = world.act(host, |agent, now| agent.remove_account(now, account));
    assert!(removed.unwrap_err().to_string().contains("take it out of the file"));
    let again = world.act(host, |agent, now| agent.add_account(now, settings));
    assert_eq!(again, Err(AgentError::AlreadyExists("work".to_owned())));
}

#[test]
fn passwords_are_not_shown() {
    let mut world = World::new();
    let host = world.agent("192.0.2.2:5060");
    let account = world.account(host, sip("work", "sip:alice@example.org", PASSWORD));
    let shown = format!("{:?}", world.account_view(host, account));
    assert!(shown.contains("password") && !shown.contains(PASSWORD), "{shown}");
}

#[test]
fn the_account_fits_the_target() {
    let (mut world, host, _) = with_registrar();
    let direct = world.act(host, |agent, _| agent.find_account("direct")).unwrap();
    let other = world.account(host, sip("other", "sip:bob@example.net", PASSWORD));
    let work = registers(&mut world, host);
    let mut lan = sip("lan", "sip:7@192.0.2.250", PASSWORD);
    lan.registrar = Some("sip:192.0.2.250:5070".parse().unwrap());
    let lan = world.account(host, lan);
    world.name("somewhere.example", &["198.51.100.1:5060"]);
    for (target, account, peer) in [
        ("sip:carol@example.org", work, "sip:carol@example.org"),
        ("sip:carol@Example.NET", other, "sip:carol@Example.NET"),
        ("carol@somewhere.example", work, "sip:carol@somewhere.example"),
        ("carol", work, "sip:carol@example.org"),
        ("+4930123", work, "sip:+4930123@example.org"),
        ("sip:192.0.2.7", direct, "sip:192.0.2.7"),
        ("192.0.2.7:5080", direct, "sip:192.0.2.7:5080"),
        ("sip:user@[2001:db8::1]", direct, "sip:user@[2001:db8::1]"),
        ("door.local", direct, "sip:door.local"),
        ("tel:+49-30-123", work, "sip:+4930123@example.org"),
        ("sip:door.local", direct, "sip:door.local"),
        ("sip:8@192.0.2.250", lan, "sip:8@192.0.2.250"),
        ("sip:8@192.0.2.250:5070", lan, "sip:8@192.0.2.250:5070"),
        ("sip:8@192.0.2.250:5090", direct, "sip:8@192.0.2.250:5090"),
    ] {
        let call = world.dial(host, target);
        let view = world.view(host, call);
        assert_eq!((view.account, view.peer.as_str()), (account, peer), "{target}");
        if view.state != CallState::Ended {
            world.hang_up(host, call);
        }
    }
}

#[test]
fn without_a_server_a_bare_name_needs_more() {
    let mut world = World::new();
    let host = world.phone("192.0.2.2:5060");
    let dial = |world: &mut World, target: &'static str| {
        let result = world.act(host, |agent, now| agent.dial(now, target, None, SoundChoice::default()));
        result.unwrap_err().to_string()
    };
    assert!(dial(&mut world, "carol").contains("needs an account with a server"));
    assert!(dial(&mut world, "tel:+4930123").contains("needs an account with a server"));
    assert!(dial(&mut world, "mailto:carol@example.org").contains("only sip:"));
    assert!(dial(&mut world, "h323:carol@example.org").contains("only sip:"));
    assert_eq!(world.calls(host), []);
    let empty = world.agent("192.0.2.3:5060");
    let result = world.act(empty, |agent, now| agent.dial(now, "sip:1.2.3.4", None, SoundChoice::default()));
    assert_eq!(result, Err(AgentError::NoUsableAccount));
}
