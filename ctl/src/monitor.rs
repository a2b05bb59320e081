//! `voipctl monitor`: everything that the daemon tells, as lines or as JSON lines.

use serde_json::{Value, json};
use voipd_dbus::{Dict, names};

use crate::daemon::Daemon;
use crate::events::Event;
use crate::exit::Failure;
use crate::output::{Output, dict_to_json, to_json};
use crate::stats::quality_words;
use crate::text::{instant, now_micros};

pub(crate) async fn run(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let mut events = daemon.events().await?;
    let version = daemon.manager().await?.version().await?;
    let time = instant(now_micros());
    match out.json {
        true => out.record(
            &json!({"time": time, "event": "started", "version": version, "bus": daemon.bus.name()}),
        )?,
        false => out.line(&format!("{time} watching voipd {version} on the {} bus", daemon.bus.name()))?,
    }
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            failure = out.reader_left() => return Err(failure),
        };
        let time = instant(now_micros());
        match (&event, out.json) {
            (Event::Gone, _) => return Err(Failure::gone()),
            (event, true) => {
                if let Some(record) = record(event, &time) {
                    out.record(&record)?;
                }
            }
            (event, false) => {
                if let Some(line) = line(event) {
                    out.line(&format!("{time} {line}"))?;
                }
            }
        }
    }
}

/// An object's kind and number, from its path.
fn object(path: &str) -> (&'static str, Option<u32>) {
    match (names::call_number(path), names::account_number(path)) {
        (Some(number), _) => ("call", Some(number)),
        (_, Some(number)) => ("account", Some(number)),
        _ if names::conference_number(path).is_some() => ("conference", names::conference_number(path)),
        _ if path == names::AUDIO_PATH => ("audio", None),
        _ if path == names::NAT_PATH => ("nat", None),
        _ => ("voipd", None),
    }
}

fn label(path: &str) -> String {
    match object(path) {
        (kind, Some(number)) => format!("{kind} {number}"),
        (kind, None) => kind.to_owned(),
    }
}

/// The properties that describe the object best come with its arrival.
fn own(interfaces: &std::collections::HashMap<String, Dict>) -> Option<&Dict> {
    let described = [names::CALL, names::ACCOUNT, names::CONFERENCE];
    described.iter().find_map(|interface| interfaces.get(*interface))
}

fn line(event: &Event) -> Option<String> {
    let pairs = |dict: &Dict, wanted: &dyn Fn(&str) -> bool| {
        let mut pairs: Vec<_> = dict
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, value)| match to_json(value) {
                Value::String(text) => format!("{key} '{text}'"),
                other => format!("{key} {other}"),
            })
            .collect();
        pairs.sort();
        pairs.join(", ")
    };
    match event {
        Event::Added { path, interfaces } => {
            let keys = ["Direction", "State", "Peer", "AssertedIdentity", "Name", "Members", "Device"];
            // What is empty describes nothing.
            let says = |properties: &Dict, key: &str| {
                properties.get(key).is_some_and(|value| to_json(value) != Value::String(String::new()))
            };
            let described = own(interfaces)
                .map(|properties| pairs(properties, &|key| keys.contains(&key) && says(properties, key)));
            Some(format!("{} added: {}", label(path), described.unwrap_or_default()))
        }
        Event::Removed { path } => Some(format!("{} removed", label(path))),
        Event::Changed { path, properties, .. } => {
            // Which calls, accounts and conferences there are is told by their coming and going.
            let lists =
                |key: &str| path == names::ROOT_PATH && matches!(key, "Calls" | "Accounts" | "Conferences");
            let told = pairs(properties, &|key| !lists(key));
            (!told.is_empty()).then(|| format!("{} has {told}", label(path)))
        }
        Event::StateChanged { path, old, new, reason, sip_status, .. } => {
            let because = match (reason.as_str(), sip_status) {
                ("", 0) => String::new(),
                (reason, 0) => format!(" ({reason})"),
                ("", status) => format!(" ({status})"),
                (reason, status) => format!(" ({reason}, {status})"),
            };
            Some(format!("{} {old} -> {new}{because}", label(path)))
        }
        Event::Digit { path, digit, duration_ms } => {
            Some(format!("{} digit {digit}, {duration_ms} ms", label(path)))
        }
        Event::Quality { path, direction, quality, mos, cause } => {
            Some(format!("{} {}", label(path), quality_words(direction, quality, *mos, cause)))
        }
        _ => None,
    }
}

fn record(event: &Event, time: &str) -> Option<Value> {
    let (name, path) = match event {
        Event::Added { path, .. } => ("added", path),
        Event::Removed { path } => ("removed", path),
        Event::Changed { path, properties, .. } if !properties.is_empty() => ("changed", path),
        Event::StateChanged { path, .. } => ("state", path),
        Event::Digit { path, .. } => ("digit", path),
        Event::Quality { path, .. } => ("quality", path),
        _ => return None,
    };
    let (kind, number) = object(path);
    let mut record = json!({"time": time, "event": name, "object": kind, "number": number, "path": path});
    let more = match event {
        Event::Added { interfaces, .. } => {
            json!({"properties": own(interfaces).map(dict_to_json).unwrap_or_default()})
        }
        Event::Changed { properties, .. } => json!({"properties": dict_to_json(properties)}),
        Event::StateChanged { old, new, reason, sip_status, .. } => {
            json!({"old": old, "new": new, "reason": reason, "sip_status": sip_status})
        }
        Event::Digit { digit, duration_ms, .. } => json!({"digit": digit, "duration_ms": duration_ms}),
        Event::Quality { direction, quality, mos, cause, .. } => {
            json!({"direction": direction, "quality": quality, "mos": mos, "cause": cause})
        }
        _ => json!({}),
    };
    if let (Some(record), Value::Object(more)) = (record.as_object_mut(), more) {
        record.extend(more);
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    fn state_changed(reason: &str, sip_status: u16) -> Event {
        Event::StateChanged {
            path: names::call_path(3),
            interface: names::CALL.into(),
            old: "ringing".into(),
            new: "ended".into(),
            reason: reason.into(),
            sip_status,
        }
    }

    #[test]
    fn events_become_lines() {
        assert_eq!(line(&state_changed("busy", 486)).unwrap(), "call 3 ringing -> ended (busy, 486)");
        assert_eq!(line(&state_changed("", 0)).unwrap(), "call 3 ringing -> ended");
        let digit = Event::Digit { path: names::call_path(3), digit: "5".into(), duration_ms: 160 };
        assert_eq!(line(&digit).unwrap(), "call 3 digit 5, 160 ms");
        let poor = Event::Quality {
            path: names::call_path(3),
            direction: "outbound".into(),
            quality: "poor".into(),
            mos: 2.84,
            cause: "loss".into(),
        };
        assert_eq!(line(&poor).unwrap(), "call 3 sounds poor at the peer: MOS 2.8, loss");
        assert_eq!(record(&poor, "T").unwrap()["cause"], json!("loss"));
        let properties = call(1, &[("Codec", "opus")], &["Muted"]).properties;
        let changed = |properties| Event::Changed {
            path: names::account_path(2),
            interface: names::ACCOUNT.into(),
            properties,
        };
        assert_eq!(line(&changed(properties)).unwrap(), "account 2 has Codec 'opus', Muted true");
        assert!(line(&changed(Dict::new())).is_none());
        let lists = call(1, &[("Calls", "")], &[]).properties;
        let manager = Event::Changed {
            path: names::ROOT_PATH.into(),
            interface: names::MANAGER.into(),
            properties: lists,
        };
        assert!(line(&manager).is_none());
        assert!(record(&manager, "T").is_some());
    }

    #[test]
    fn events_become_records() {
        let record = record(&state_changed("busy", 486), "T").unwrap();
        assert_eq!(
            record,
            json!({
                "time": "T", "event": "state", "object": "call", "number": 3, "path": "/org/voipd/call/3",
                "old": "ringing", "new": "ended", "reason": "busy", "sip_status": 486
            })
        );
    }

    #[test]
    fn a_new_call_is_described() {
        let properties =
            call(1, &[("Peer", "sip:b@example.org"), ("State", "incoming"), ("Codec", "")], &[]).properties;
        let added = Event::Added {
            path: names::call_path(4),
            interfaces: [(names::CALL.to_owned(), properties)].into(),
        };
        assert_eq!(line(&added).unwrap(), "call 4 added: Peer 'sip:b@example.org', State 'incoming'");
        assert_eq!(record(&added, "T").unwrap()["properties"]["state"], json!("incoming"));
    }
}
