//! Telephones of the local network, called by their names.

use crate::common::{HostId, World, direct, sip};
use voipd_agent::{AgentError, DialOptions, Neighbour};

fn neighbour(name: &str, address: &str) -> Neighbour {
    Neighbour { name: name.to_owned(), address: address.parse().unwrap() }
}

fn home() -> (World, HostId, HostId) {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let kitchen = world.raw("192.0.2.7:5070");
    let known = vec![neighbour("Kitchen", "192.0.2.7:5070"), neighbour("110", "192.0.2.7:5070")];
    world.act(alice, |agent, _| agent.set_neighbours(known));
    (world, alice, kitchen)
}

#[test]
fn a_name_reaches_the_neighbour_where_it_says_it_is() {
    let (mut world, alice, kitchen) = home();
    world.account(alice, direct());
    world.dial(alice, " kitchen");
    world.run_ms(50);
    assert_eq!(world.requests(kitchen)[0].method.as_str(), "INVITE");
}

#[test]
fn a_name_that_nobody_has_is_refused_as_before() {
    let (mut world, alice, _) = home();
    world.account(alice, direct());
    for name in ["cellar", "110", "kitchen@192.0.2.99x"] {
        let dialled = world.act(alice, |agent, now| agent.dial(now, name, None, DialOptions::default()));
        assert!(name.contains('@') || matches!(dialled, Err(AgentError::Target(_))), "{name}: {dialled:?}");
    }
    let gone = world.act(alice, |agent, now| {
        agent.set_neighbours(Vec::new());
        agent.dial(now, "kitchen", None, DialOptions::default())
    });
    assert!(matches!(gone, Err(AgentError::Target(_))), "{gone:?}");
}

#[test]
fn nobody_on_the_network_takes_the_calls_of_an_account_with_a_server() {
    let (mut world, alice, kitchen) = home();
    let direct = world.account(alice, direct());
    world.registrar("192.0.2.9:5060", "alice", "secret");
    world.account(alice, sip("home", "sip:alice@192.0.2.9", "secret"));
    world.run_ms(500);
    world.dial(alice, "kitchen");
    world.run_ms(50);
    assert!(world.requests(kitchen).is_empty(), "that is a name at the account's server");
    // Who means the neighbour says so.
    world.act(alice, |agent, now| agent.dial(now, "kitchen", Some(direct), DialOptions::default()).unwrap());
    world.run_ms(50);
    assert_eq!(world.requests(kitchen).len(), 1);
}
