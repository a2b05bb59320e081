//! What accounts show of their registrations beyond the state: the digest in use, what the registrar says, and what it
//! is told.

use crate::common::{HostId, World, sip};
use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountSettings};
use voipd_sip::digest::Algorithm;
use voipd_sip::endpoint::{Binding, Push};

const PASSWORD: &str = "secret-pw";

fn world() -> (World, HostId, HostId) {
    let mut world = World::new();
    let host = world.phone("192.0.2.2:5060");
    let registrar = world.registrar("203.0.113.1:5060", "alice", PASSWORD);
    world.name("example.org", &["203.0.113.1:5060"]);
    (world, host, registrar)
}

fn work() -> AccountSettings {
    sip("work", "sip:alice@example.org", PASSWORD)
}

fn digest(world: &World, host: HostId, account: AccountId) -> Option<Algorithm> {
    world.account_view(host, account).digest
}

#[test]
fn md5_in_use_is_shown_and_noted_once() {
    let (mut world, host, _) = world();
    let account = world.account(host, work());
    assert_eq!(digest(&world, host, account), None, "nothing was asked yet");
    world.run_s(3600);
    assert_eq!(world.account_state(host, account), AccountState::Registered);
    assert_eq!(digest(&world, host, account), Some(Algorithm::Md5));
    let log = world.log(host);
    let notes: Vec<&String> = log.iter().filter(|line| line.contains("MD5")).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("allow-md5 = false"), "it says what to do: {notes:?}");
    // Switched off, it has proved nothing to anybody.
    world.act(host, |agent, now| agent.enable_account(now, account, false)).unwrap();
    assert_eq!(digest(&world, host, account), None);
}

#[test]
fn a_strong_digest_is_shown_and_not_noted() {
    let (mut world, host, registrar) = world();
    world.registrar_at(registrar).digest = "algorithm=SHA-512-256";
    let account = world.account(host, work());
    world.run_s(1);
    assert_eq!(world.account_state(host, account), AccountState::Registered);
    assert_eq!(digest(&world, host, account), Some(Algorithm::Sha512_256));
    assert!(world.log(host).iter().all(|line| !line.contains("weak")));
}

#[test]
fn an_account_that_refuses_md5_says_so_and_sends_no_digest() {
    let (mut world, host, registrar) = world();
    let account = world.account(host, AccountSettings { allow_md5: false, ..work() });
    world.run_s(600);
    let view = world.account_view(host, account);
    assert_eq!((view.state, view.reason, view.sip_status), (AccountState::Failed, "weak-digest", 401));
    assert_eq!((view.retry_at, view.digest), (None, None));
    let seen = &world.registrar_at(registrar).seen;
    assert!(seen.iter().all(|request| request.headers.get("Authorization").is_none()), "{seen:?}");

    world.registrar_at(registrar).digest = "algorithm=SHA3-512";
    world.act(host, |agent, now| agent.register_account(now, account, true)).unwrap();
    world.run_s(1);
    assert_eq!(world.account_view(host, account).reason, "unknown-digest");
}

#[test]
fn what_the_registrar_says_is_shown_while_the_registration_lasts() {
    let (mut world, host, registrar) = world();
    let script = world.registrar_at(registrar);
    script.contact_params = ";pub-gruu=\"sip:alice@example.org;gr=x\"";
    script.fields = vec![
        ("P-Associated-URI", "<sip:+15551234@example.org>"),
        ("Service-Route", "<sip:203.0.113.1;lr>"),
        ("Feature-Caps", "*;+sip.pns=\"fcm\""),
    ];
    let push = Push { provider: "fcm".to_owned(), prid: "device".to_owned(), param: None };
    let account = world.account(host, AccountSettings { gruu: true, push: Some(push), ..work() });
    world.run_s(1);
    let binding = world.account_view(host, account).binding;
    assert_eq!(binding.public_gruu.unwrap().to_string(), "sip:alice@example.org;gr=x");
    assert_eq!(binding.associated[0].uri.to_string(), "sip:+15551234@example.org");
    assert_eq!(binding.service_route[0].to_string(), "sip:203.0.113.1;lr");
    assert_eq!(binding.push_service.as_deref(), Some("fcm"));
    let contact = world.registrar_at(registrar).seen[0].headers.get("Contact").unwrap().to_owned();
    assert!(contact.contains(";pn-provider=fcm;pn-prid=device>"), "{contact}");
    assert!(
        contact.contains("+sip.instance=\"<urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6>\""),
        "{contact}"
    );
    world.act(host, |agent, now| agent.register_account(now, account, false)).unwrap();
    world.run_s(1);
    assert_eq!(world.account_view(host, account).binding, Binding::default());
}
