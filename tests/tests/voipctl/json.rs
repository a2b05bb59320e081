//! `--json`: every command that prints data prints a document, with the keys that the contract promises.

use serde_json::Value;
use voipd_tests::{Config, Lab, Voipd};

use super::{ctl, echo_at, friend, start, talk};

/// The properties of an interface in the contract, as keys of JSON.
fn keys(interface: &str) -> Vec<String> {
    let (_, xml) = voipd_dbus::XML.iter().find(|(name, _)| *name == interface).unwrap();
    let names = xml.split("<property name=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let snake = |name: &str| {
        let words = name.chars().enumerate().map(|(index, c)| match c {
            'A'..='Z' if index > 0 => format!("_{}", c.to_ascii_lowercase()),
            c => c.to_ascii_lowercase().to_string(),
        });
        words.collect::<String>()
    };
    let keys: Vec<_> = names.map(snake).collect();
    assert!(keys.len() > 3, "{interface}: {keys:?}");
    keys
}

/// Panics unless an object has all the keys.
#[track_caller]
fn has(object: &Value, keys: &[String]) {
    for key in keys {
        assert!(object.get(key).is_some_and(|value| !value.is_null()), "no '{key}' in {object}");
    }
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn every_command_that_prints_data_prints_a_document() {
    let lab = Lab::shared();
    let friend = friend(&lab).await;
    let config = Config::at(lab.address())
        .account(format!("name = \"work\"\naddress = \"sip:a@{}\"\nregister = false", friend.address));
    let phone = Voipd::start(&lab, "phone", config).await;
    let json = async |arguments: &[&str]| {
        let ended = ctl(&phone, &[arguments, &["--json"]].concat()).await;
        ended.well();
        ended.json()
    };
    let call_keys = [keys("org.voipd.Call1"), named(&["path", "number"])].concat();
    let listed = [call_keys.clone(), named(&["account_name"])].concat();
    let account_keys = [keys("org.voipd.Account1"), named(&["path", "number"])].concat();
    let figures = keys("org.voipd.CallStatistics1");

    assert_eq!(json(&["calls"]).await, Value::Array(Vec::new()));
    let detached = json(&["call", &echo_at(&friend), "--detach", "--account", "direct"]).await;
    assert_eq!((&detached["path"], &detached["number"]), (&"/org/voipd/call/1".into(), &1.into()));
    let active = json(&["wait", "active", "--call", "1", "--timeout", "10"]).await;
    has(&active[0], &call_keys);
    let calls = json(&["calls"]).await;
    assert_eq!(calls.as_array().unwrap().len(), 1);
    has(&calls[0], &listed);
    assert_eq!((&calls[0]["account_name"], &calls[0]["codec"]), (&"direct".into(), &"opus".into()));
    assert_eq!(calls[0]["peer"], echo_at(&friend));
    has(&json(&["stats"]).await, &[figures.clone(), named(&["path", "number"])].concat());
    assert_eq!(json(&["stats", "1"]).await["number"], 1);

    let status = json(&["status"]).await;
    has(&status, &named(&["version", "scope", "bus", "do_not_disturb", "audio", "accounts", "calls"]));
    assert_eq!((&status["scope"], &status["bus"]), (&"session".into(), &"session".into()));
    assert_eq!(status["codecs"][0], "opus");
    let socket = json(&["audio", "1", "--socket"]).await;
    assert!(socket["socket"].as_str().unwrap().ends_with(".sock"), "{socket}");
    has(&status["audio"], &keys("org.voipd.Audio1"));
    has(&status["calls"][0], &listed);
    has(&status["accounts"][1], &account_keys);
    let counters = json(&["status", "--counters"]).await;
    assert!(counters["audio"]["counters"]["ticks"].as_u64() > Some(0), "{counters}");

    has(&json(&["nat"]).await, &keys("org.voipd.Nat1"));

    let accounts = json(&["account", "list"]).await;
    accounts.as_array().unwrap().iter().for_each(|account| has(account, &account_keys));
    let work = json(&["account", "show", "work"]).await;
    assert_eq!(work, accounts[1]);
    assert_eq!((&work["state"], &work["codecs"][0]), (&"ready".into(), &"opus".into()));
    let added = json(&["account", "add", "more", "--kind", "echo"]).await;
    assert_eq!((&added["path"], &added["number"]), (&"/org/voipd/account/3".into(), &3.into()));

    let devices = json(&["devices"]).await;
    assert_eq!(devices, json(&["devices", "list"]).await);
    assert_eq!((&devices["input"], &devices["ringer"]), (&"null".into(), &"null".into()));
    let device_keys =
        named(&["name", "description", "host", "input", "output", "default", "available", "reason"]);
    let all = devices["devices"].as_array().unwrap();
    all.iter().for_each(|device| has(device, &device_keys));
    assert!(all.iter().any(|device| device["name"] == "null" && device["available"] == true), "{devices}");
    assert_eq!(json(&["dnd"]).await, serde_json::json!({"do_not_disturb": false}));

    let ended = start(&phone, &["wait", "ended", "--json"]);
    ctl(&phone, &["hangup", "--json"]).await.silent();
    let ended = ended.ends().await;
    ended.well();
    has(&ended.json()[0], &call_keys);
    let report = json(&["call", &echo_at(&friend), "--hangup-after", "0.1"]).await;
    has(&report, &call_keys);
    has(&report, &named(&["states", "duration_seconds", "statistics", "exit_code"]));
    has(&report["statistics"], &figures);
    assert_eq!(report["states"].as_array().unwrap().last().unwrap(), "ended");
    assert!(report["duration_seconds"].as_f64() >= Some(0.1), "{report}");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_name_from_a_stranger_is_a_text_and_not_a_command_for_the_screen() {
    let lab = Lab::shared();
    let friend = friend(&lab).await;
    let config = Config::at(lab.address()).line("direct", "display-name = \"Eve \\\"E\\\" 李\"");
    let phone = Voipd::start(&lab, "phone", config).await;
    talk(&phone, &echo_at(&friend), &[]).await;
    let calls = ctl(&friend, &["calls", "--json"]).await.json();
    assert_eq!(calls[0]["peer_name"], "Eve \"E\" 李");
    assert!(ctl(&friend, &["calls"]).await.well().contains("Eve \"E\" 李 <sip:"));
    phone.stop().await;
    friend.stop().await;
}
