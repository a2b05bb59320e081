//! `voipctl wait` and `voipctl monitor`: what scripts stand on.

use serde_json::Value;
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::{Config, Lab, Voipd};

use super::{at, ctl, echo_at, friend, phone, start, talk};

#[tokio::test]
async fn a_time_out_is_5() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    for what in [&["wait", "active", "--timeout", "0.2"][..], &["wait", "active", "--timeout", "0", "--json"]]
    {
        ctl(&phone, what).await.fails(5, &["the time of --timeout passed"]);
    }
    let friend = friend(&lab).await;
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    ctl(&phone, &["wait", "ended", "--timeout", "0.2"]).await.fails(5, &["--timeout"]);
    ctl(&phone, &["wait", "ended", "--timeout", "0.2", "--call", &number]).await.fails(5, &["--timeout"]);
    for timeout in ["-1", "soon", "1e300"] {
        ctl(&phone, &["wait", "ended", &format!("--timeout={timeout}")]).await.fails(2, &["--timeout"]);
    }
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_script_can_take_a_call_and_stay_until_its_end() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    // Nothing to wait for: at once.
    ctl(&friend, &["wait", "ended"]).await.silent();
    let active = start(&friend, &["wait", "active"]);
    let call = start(&phone, &["call", "--wait", &at(&friend)]);
    friend.incoming().await;
    ctl(&friend, &["answer"]).await.silent();
    assert_eq!(active.ends().await.well(), "/org/voipd/call/1\n");
    let by_path = ctl(&friend, &["wait", "active", "--call", "/org/voipd/call/1", "--json"]).await.json();
    assert_eq!((&by_path[0]["number"], &by_path[0]["state"]), (&1.into(), &"active".into()));
    let all = start(&friend, &["wait", "ended"]);
    let one = start(&friend, &["wait", "ended", "--call", "1", "--json"]);
    ctl(&friend, &["hangup"]).await.silent();
    all.ends().await.silent();
    assert_eq!(one.ends().await.json()[0]["end_reason"], "local");
    // It was active, and is so no more.
    ctl(&friend, &["wait", "active", "--call", "1"]).await.fails(1, &["call 1 has ended: local"]);
    call.ends().await.well();
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn registration_can_be_waited_for() {
    let lab = Lab::shared();
    let mut registrar = Kamailio::start(&lab, Digest::Md5).await;
    registrar.crash();
    let config = Config::at(lab.address())
        .account(registrar.account("alice"))
        .account(format!("name = \"off\"\naddress = \"sip:off@{}\"\nenabled = false", registrar.address))
        .account(format!(
            "name = \"quiet\"\naddress = \"sip:quiet@{}\"\nregister = false",
            registrar.address
        ));
    let phone = Voipd::start(&lab, "phone", config).await;
    // A server that is not there may come back: that is waited for.
    let timeout = ["--timeout", "0.2"];
    ctl(&phone, &[&["wait", "registered"], &timeout[..]].concat()).await.fails(5, &["--timeout"]);
    let all = start(&phone, &["wait", "registered", "--timeout", "20"]);
    let one = start(&phone, &["wait", "registered", "--account", "alice", "--json", "--timeout", "20"]);
    registrar.revive().await;
    ctl(&phone, &["account", "register", "alice"]).await.silent();
    all.ends().await.silent();
    let one = one.ends().await.json();
    assert_eq!((&one[0]["name"], &one[0]["state"]), (&"alice".into(), &"registered".into()));
    // What cannot become so is not waited for.
    let registered = ["wait", "registered", "--account"];
    ctl(&phone, &[&registered[..], &["off"]].concat()).await.fails(1, &["account enable off"]);
    ctl(&phone, &[&registered[..], &["quiet"]].concat()).await.fails(1, &["not set to register"]);
    ctl(&phone, &[&registered[..], &["nobody"]].concat()).await.fails(1, &["'nobody'", "account list"]);
    ctl(&phone, &["account", "disable", "alice"]).await.silent();
    ctl(&phone, &["wait", "registered"]).await.fails(1, &["no enabled account that registers"]);
    phone.stop().await;
}

/// The lines of `monitor --json` about an object, each parsed.
fn records(output: &str, path: &str) -> Vec<Value> {
    let records = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["path"] == path).collect()
}

#[tokio::test]
async fn the_monitor_tells_a_whole_call_one_document_a_line() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let (mut here, mut there) =
        (start(&phone, &["monitor", "--json"]), start(&friend, &["monitor", "--json"]));
    let mut people = start(&phone, &["monitor"]);
    for monitor in [&mut here, &mut there] {
        monitor.says("started").await;
        let first: Value = serde_json::from_str(monitor.output().lines().next().unwrap()).unwrap();
        assert_eq!((&first["event"], &first["bus"]), (&"started".into(), &"session".into()));
    }
    people.says("watching voipd").await;
    let number = talk(&phone, &echo_at(&friend), &[]).await;
    ctl(&phone, &["dtmf", &number, "1#"]).await.silent();
    there.says("\"digit\":\"#\"").await;
    ctl(&phone, &["hangup", &number]).await.silent();
    here.says("\"new\":\"ended\"").await;
    people.says("-> ended (local").await;

    let output = here.output();
    let records_here = records(&output, "/org/voipd/call/1");
    assert_eq!(records_here[0]["event"], "added");
    let added = &records_here[0]["properties"];
    assert_eq!((&added["state"], &added["direction"]), (&"dialing".into(), &"outbound".into()));
    let states: Vec<_> = records_here.iter().filter(|record| record["event"] == "state").collect();
    assert!(states.windows(2).all(|pair| pair[0]["new"] == pair[1]["old"]), "{output}");
    assert_eq!(states[0]["old"], "dialing");
    assert!(
        states.iter().any(|record| record["new"] == "active" && record["reason"] == "remote"),
        "{output}"
    );
    let last = states.last().unwrap();
    assert_eq!((&last["new"], &last["reason"]), (&"ended".into(), &"local".into()));
    for record in &records_here {
        assert_eq!((&record["object"], &record["number"]), (&"call".into(), &1.into()));
        let time = record["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
    // The times go on, and so does each document's line.
    let times: Vec<_> =
        output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].clone()).collect();
    assert!(times.windows(2).all(|pair| pair[0].as_str() <= pair[1].as_str()), "{times:?}");
    let digits: Vec<_> = records(&there.output(), "/org/voipd/call/1")
        .into_iter()
        .filter(|record| record["event"] == "digit")
        .collect();
    assert_eq!(digits.iter().map(|d| d["digit"].as_str().unwrap()).collect::<String>(), "1#");
    assert!(digits.iter().all(|digit| digit["duration_ms"].as_u64() > Some(0)), "{digits:?}");
    let people = people.output();
    assert!(people.contains(" call 1 added: Direction 'outbound', "), "{people}");
    assert!(people.lines().all(|line| line.as_bytes()[..24].ends_with(b"Z")), "{people}");
    phone.stop().await;
    friend.stop().await;
}
