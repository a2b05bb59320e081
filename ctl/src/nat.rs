//! `voipctl nat`: how this machine looks from outside, `org.voipd.Nat1`.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use voipd_dbus::{Dict, names};
use zbus::Variant;

use crate::cli::NatCommand;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::mappings;
use crate::objects::Object;
use crate::output::{Output, dict_to_json};
use crate::text::table;

/// Longer than the daemon waits for a silent server.
const LONGEST_ROUND: Duration = Duration::from_secs(60);
/// How often the state is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn run(daemon: &Daemon, out: Output, command: Option<NatCommand>) -> Result<(), Failure> {
    match command.unwrap_or(NatCommand::Show) {
        NatCommand::Show => show(out, &read(daemon).await?),
        NatCommand::Discover => discover(daemon, out).await,
        NatCommand::Add(args) => mappings::add(daemon, out, args).await,
        NatCommand::Remove { mapping } => Ok(daemon.nat().await?.remove_mapping(mapping).await?),
    }
}

/// The object as it is now.
pub(crate) async fn read(daemon: &Daemon) -> Result<Object, Failure> {
    let properties = daemon.properties(names::NAT_PATH, names::NAT).await?;
    Ok(Object { path: names::NAT_PATH.to_owned(), properties })
}

fn show(out: Output, nat: &Object) -> Result<(), Failure> {
    match out.json {
        true => out.document(&Value::from(dict_to_json(&nat.properties))),
        false => out.lines(&lines(nat)),
    }
}

/// Waits until no server is being asked any more, or until each has had its time.
async fn discover(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let until = Instant::now() + LONGEST_ROUND;
    daemon.nat().await?.discover().await?;
    loop {
        let nat = read(daemon).await?;
        let asking = dicts(&nat, "Servers").iter().any(|server| server.text("state") == "asking");
        if (nat.text("State") != "discovering" && !asking) || Instant::now() >= until {
            return show(out, &nat);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn lines(nat: &Object) -> Vec<String> {
    let mut lines = vec![headline(nat)];
    lines.extend(network(nat));
    let paths = dicts(nat, "Paths");
    if !paths.is_empty() {
        lines.push(String::new());
        let keys = ["local", "public", "mapping", "filtering", "ports", "hairpin"];
        let rows: Vec<_> = paths.iter().map(|path| keys.map(|key| cell(path, key)).to_vec()).collect();
        lines.extend(table(&["LOCAL", "PUBLIC", "MAPPING", "FILTERING", "PORTS", "HAIRPIN"], &rows));
    }
    let servers = dicts(nat, "Servers");
    if !servers.is_empty() {
        lines.push(String::new());
        let row = |server: &Object| {
            let mut row =
                ["name", "source", "address", "state", "rtt-ms", "public"].map(|key| cell(server, key));
            // Beside a state that needs no explanation, there is nothing.
            if !server.text("reason").is_empty() {
                row[3] = format!("{}: {}", row[3], server.text("reason"));
            }
            row.to_vec()
        };
        let rows: Vec<_> = servers.iter().map(row).collect();
        lines.extend(table(&["SERVER", "SOURCE", "ADDRESS", "STATE", "RTT", "SEES"], &rows));
    }
    let relays = dicts(nat, "Relays");
    if !relays.is_empty() {
        lines.push(String::new());
        let row = |relay: &Object| {
            let mut row = ["uri", "state", "rtt-ms"].map(|key| cell(relay, key)).to_vec();
            if !relay.text("reason").is_empty() {
                row[1] = format!("{}: {}", row[1], relay.text("reason"));
            }
            row.push(match (relay.text("lent-by"), relay.text("offered-to")) {
                ("", "") => String::new(),
                (friend, "") => format!("lent by {friend}"),
                (_, point) => format!("ours, offered to friends at {point}"),
            });
            row
        };
        lines.extend(table(&["RELAY", "STATE", "RTT", ""], &relays.iter().map(row).collect::<Vec<_>>()));
    }
    lines.extend(mappings::lines(&dicts(nat, "Mappings"), mappings::unix_now()));
    lines
}

/// What this machine has of a network, for people.
fn network(nat: &Object) -> Option<String> {
    let addresses = nat.list("LocalAddresses");
    match nat.text("NetworkState") {
        "offline" => Some("This machine has no network".to_owned()),
        "local" => Some(format!("This machine reaches its neighbours alone. Its addresses: {addresses}")),
        "online" => Some(format!("This machine's addresses: {addresses}")),
        _ => None,
    }
}

/// What the NAT is, for people.
fn headline(nat: &Object) -> String {
    let addresses = nat.list("PublicAddresses");
    match nat.text("State") {
        "known" => {
            let mapping = match nat.text("MappingBehaviour") {
                "none" => "There is no NAT",
                "endpoint-independent" => "There is a NAT that keeps one public port for each local one",
                "address-dependent" | "address-and-port-dependent" | "destination-dependent" => {
                    "There is a NAT that takes another public port for each peer"
                }
                _ => "How the NAT behaves is not known",
            };
            format!("{mapping}. Public: {addresses}")
        }
        state => match (nat.text("Reason"), addresses.as_str()) {
            ("", "") => format!("The public address: {state}"),
            ("", known) => format!("The public address: {state}; last known: {known}"),
            (reason, "") => format!("The public address is not known: {reason}"),
            (reason, known) => format!("The public address was {known}: {reason}"),
        },
    }
}

/// The dictionaries of a list.
pub(crate) fn dicts(object: &Object, key: &str) -> Vec<Object> {
    let Some(Variant::Array(array)) = object.properties.get(key).map(|value| &**value) else {
        return Vec::new();
    };
    let dict = |value: &Variant<'_>| {
        let properties = Dict::try_from(value.try_clone().ok()?).ok()?;
        Some(Object { path: String::new(), properties })
    };
    array.inner().iter().filter_map(dict).collect()
}

/// A value as it stands in a table.
fn cell(object: &Object, key: &str) -> String {
    match object.properties.get(key).map(|value| &**value) {
        Some(Variant::F64(number)) if *number > 0.0 => format!("{number:.1} ms"),
        Some(Variant::F64(_)) => String::new(),
        Some(Variant::Array(_)) => object.list(key),
        _ => object.text(key).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    #[test]
    fn a_machine_without_a_network_is_told_so() {
        let nat = call(1, &[("State", "unknown"), ("NetworkState", "offline")], &[]);
        assert_eq!(lines(&nat)[1], "This machine has no network");
    }

    #[test]
    fn what_is_not_known_is_said_with_its_reason() {
        let nat = call(1, &[("State", "unknown"), ("Reason", "no server was asked")], &[]);
        assert_eq!(lines(&nat), ["The public address is not known: no server was asked"]);
    }
}
