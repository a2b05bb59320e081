//! `voipctl nat`: ports that the router maps, `Mappings` of `org.voipd.Nat1`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::{Instant, sleep};
use voipd_dbus::{MappingOptions, names};

use crate::cli::{AddMappingArgs, MappedProtocol};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::nat::dicts;
use crate::objects::Object;
use crate::output::{Output, dict_to_json};
use crate::text::table;

/// The slowest router that answers at all has answered by then.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);

/// Asks for a mapping and waits until it is there.
pub(crate) async fn add(daemon: &Daemon, out: Output, args: AddMappingArgs) -> Result<(), Failure> {
    let protocol = match args.protocol {
        MappedProtocol::Udp => "udp",
        MappedProtocol::Tcp => "tcp",
    };
    let options = MappingOptions { external_port: args.external.map(u32::from), lifetime: args.lifetime };
    let id = daemon.nat().await?.add_mapping(protocol, args.port, &options).await?;
    let until = Instant::now() + PATIENCE;
    loop {
        let nat = Object {
            path: names::NAT_PATH.to_owned(),
            properties: daemon.properties(names::NAT_PATH, names::NAT).await?,
        };
        let mapping =
            dicts(&nat, "Mappings").into_iter().find(|mapping| mapping.number("id") == u64::from(id));
        let Some(mapping) = mapping else {
            return Err(Failure::failed(format!("mapping {id} is gone: somebody has removed it")));
        };
        if !mapping.text("external").is_empty() {
            return match out.json {
                true => out.document(&Value::from(dict_to_json(&mapping.properties))),
                false => out.line(&format!(
                    "mapping {id}: {protocol} port {} is reached at {} ({})",
                    args.port,
                    mapping.text("external"),
                    mapping.text("by")
                )),
            };
        }
        let reason = match mapping.text("reason") {
            "" if Instant::now() < until => {
                sleep(LOOK).await;
                continue;
            }
            "" => "the router has not answered yet",
            reason => reason,
        };
        let retry = format!("voipd goes on trying: `voipctl nat remove {id}` ends that");
        return Err(Failure::failed(format!("mapping {id} is not there: {reason}; {retry}")));
    }
}

/// The mappings as a table, or nothing.
pub(crate) fn lines(mappings: &[Object], now: u64) -> Vec<String> {
    if mappings.is_empty() {
        return Vec::new();
    }
    let row = |mapping: &Object| {
        let purpose = match mapping.number("call") {
            0 => mapping.text("purpose").to_owned(),
            call => format!("{} of call {call}", mapping.text("purpose")),
        };
        let expires = match (mapping.number("expires"), mapping.text("external")) {
            (_, "") => mapping.text("reason").to_owned(),
            (0, _) => "when removed".to_owned(),
            (at, _) => format!("in {} s", at.saturating_sub(now)),
        };
        let text = |key| mapping.text(key).to_owned();
        vec![
            mapping.number("id").to_string(),
            text("protocol"),
            text("internal"),
            text("external"),
            purpose,
            text("by"),
            expires,
        ]
    };
    let heads = ["MAPPING", "PROTOCOL", "INTERNAL", "EXTERNAL", "FOR", "BY", "EXPIRES"];
    let rows: Vec<_> = mappings.iter().map(row).collect();
    std::iter::once(String::new()).chain(table(&heads, &rows)).collect()
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    #[test]
    fn each_mapping_says_where_it_leads_and_how_long() {
        let shown = call(
            1,
            &[
                ("protocol", "udp"),
                ("internal", "192.168.1.10:5060"),
                ("external", "203.0.113.5:5060"),
                ("purpose", "sip"),
                ("by", "pcp"),
            ],
            &[],
        );
        let missing = call(
            2,
            &[
                ("protocol", "tcp"),
                ("internal", "192.168.1.10:80"),
                ("purpose", "user"),
                ("reason", "no room"),
            ],
            &[],
        );
        let lines = lines(&[shown, missing], 1000).join("\n");
        assert!(lines.contains("203.0.113.5:5060") && lines.contains("when removed"), "{lines}");
        assert!(lines.contains("no room"), "{lines}");
        assert_eq!(super::lines(&[], 0), Vec::<String>::new());
    }
}
