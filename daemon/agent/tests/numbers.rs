//! Numbers and names: what goes out when a person dials them.

use crate::common::{HostId, World, config, direct, sip};
use voipd_agent::dialplan::DialPlan;
use voipd_agent::{AccountSettings, AgentConfig, AgentError, SoundChoice, TargetError};

fn germany() -> AccountSettings {
    let country = Some("49".to_owned());
    let dial_plan = DialPlan { country, blocked: vec!["0900".to_owned()], ..DialPlan::default() };
    AccountSettings { register: false, dial_plan, ..sip("work", "sip:alice@example.org", "secret") }
}

/// A telephone with an account at a server, and what that server hears.
fn with_server(max_calls: usize) -> (World, HostId, HostId) {
    let mut world = World::new();
    let config = AgentConfig { max_calls, ..config() };
    let host = world.agent_with("192.0.2.2:5060", config);
    let server = world.raw("203.0.113.1:5060");
    world.name("example.org", &["203.0.113.1:5060"]);
    world.account(host, direct());
    world.account(host, germany());
    (world, host, server)
}

fn dial(world: &mut World, host: HostId, target: &str) -> Result<(), AgentError> {
    world.act(host, |agent, now| agent.dial(now, target, None, SoundChoice::default())).map(drop)
}

/// Request-URI and To of the INVITEs that a host has heard.
fn invited(world: &mut World, host: HostId) -> Vec<(String, String)> {
    world.run_ms(300);
    let invites = world.requests(host);
    invites.iter().map(|invite| (invite.uri.to_string(), invite.to.uri.to_string())).collect()
}

fn twice(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

#[test]
fn a_number_goes_to_the_accounts_server_as_its_dial_plan_says() {
    for target in ["030 1234-567", "+49 (0) 30 1234567", "tel:+49-30-1234567"] {
        let (mut world, host, server) = with_server(4);
        dial(&mut world, host, target).unwrap();
        assert_eq!(invited(&mut world, server), [twice("sip:+49301234567@example.org")], "{target}");
    }
}

#[test]
fn a_blocked_number_sends_nothing_and_says_why() {
    let (mut world, host, server) = with_server(4);
    for target in ["0900 123", "+49 900 123", "sip:0900123@example.org"] {
        let refused = dial(&mut world, host, target).unwrap_err();
        assert!(matches!(refused, AgentError::Target(TargetError::Blocked { .. })), "{target}: {refused}");
    }
    assert_eq!(invited(&mut world, server), []);
}

#[test]
fn an_emergency_number_is_called_though_there_are_too_many_calls() {
    let (mut world, host, server) = with_server(1);
    dial(&mut world, host, "030 1").unwrap();
    assert_eq!(dial(&mut world, host, "030 2"), Err(AgentError::TooManyCalls(1)));
    dial(&mut world, host, "112").unwrap();
    assert_eq!(invited(&mut world, server), [twice("sip:+49301@example.org"), twice("sip:112@example.org")]);
}

#[test]
fn a_name_with_a_dot_is_a_host_though_there_is_an_account_with_a_server() {
    let (mut world, host, server) = with_server(4);
    let door = world.raw("192.0.2.9:5060");
    world.name("door.local", &["192.0.2.9:5060"]);
    dial(&mut world, host, "door.local").unwrap();
    assert_eq!(invited(&mut world, door), [twice("sip:door.local")]);
    dial(&mut world, host, "door").unwrap();
    assert_eq!(invited(&mut world, server), [twice("sip:door@example.org")]);
}
