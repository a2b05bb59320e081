//! `voipctl doctor`: each thing that is broken on purpose is found, named, and has a remedy.

use serde_json::Value;
use voipd_tests::bus::Bus;
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::{Config, Lab, SOON, Voipctl, Voipd};

use super::{ctl, friend, phone};

/// The check with this name; panics where there is none.
#[track_caller]
fn check<'d>(diagnosis: &'d Value, id: &str) -> &'d Value {
    let checks = diagnosis["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id} in {diagnosis:#}"))
}

#[track_caller]
fn is(diagnosis: &Value, id: &str, state: &str, words: &str) {
    let check = check(diagnosis, id);
    assert_eq!(check["state"], state, "{check:#}");
    let text = format!("{} -> {}", check["sentence"].as_str().unwrap(), check["remedy"].as_str().unwrap());
    assert!(text.contains(words), "{text}");
    // What is skipped may have one: it says how it could be looked at.
    match state {
        "ok" => assert_eq!(check["remedy"], "", "{check:#}"),
        "failed" | "warning" => assert_ne!(check["remedy"], "", "{check:#}"),
        _ => {}
    }
}

/// What the doctor says; the exit code must be that of what it says.
async fn doctor(phone: &Voipd) -> Value {
    let ended = ctl(phone, &["doctor", "--json"]).await;
    let diagnosis = ended.json();
    let count = |state: &str| {
        diagnosis["checks"].as_array().unwrap().iter().filter(|check| check["state"] == state).count()
    };
    let code = match (count("failed"), count("warning")) {
        (0, 0) => 0,
        (0, _) => 6,
        _ => 7,
    };
    assert_eq!((ended.code, ended.errors.as_str()), (code, ""), "{diagnosis:#}");
    for (key, state) in [("ok", "ok"), ("warnings", "warning"), ("failed", "failed"), ("skipped", "skipped")]
    {
        assert_eq!(diagnosis[key], count(state), "{key}");
    }
    diagnosis
}

#[tokio::test]
async fn what_works_is_said_to_work() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Sha256).await;
    let config = Config::at(lab.address()).account(registrar.account("alice"));
    let phone = Voipd::start(&lab, "phone", config).await;
    phone.account_is("alice", "registered", SOON).await;
    let diagnosis = doctor(&phone).await;
    is(&diagnosis, "daemon", "ok", "voipd runs on the session bus");
    is(&diagnosis, "configuration", "ok", "has no faults");
    is(&diagnosis, "account.alice", "ok", "is registered");
    is(&diagnosis, "dns.alice", "ok", &registrar.address.to_string());
    is(&diagnosis, "udp.alice", "ok", "by UDP answers within");
    is(&diagnosis, "sound.input", "ok", "silent, as it was chosen");
    is(&diagnosis, "nat", "skipped", "no STUN server is asked");
    // Bound to the loopback, nothing that a router opens could lead here.
    is(&diagnosis, "router", "skipped", "there is no router to be asked for ports");
    is(&diagnosis, "neighbours", "skipped", "not announced");
    check(&diagnosis, "realtime");
    check(&diagnosis, "clock");
    assert_eq!(diagnosis["failed"], 0, "{diagnosis:#}");
    let text = ctl(&phone, &["doctor"]).await;
    assert!(text.output.contains("ok       Account alice is registered: calls come in\n"), "{}", text.output);
    phone.stop().await;
}

#[tokio::test]
async fn what_is_broken_is_said_with_a_remedy() {
    let lab = Lab::shared();
    let nobody = lab.address();
    let config = Config::at(lab.address())
        .account(format!("name = \"udp\"\naddress = \"sip:a@{nobody}\""))
        .account(format!("name = \"tls\"\naddress = \"sip:a@{nobody}\"\ntransport = \"tls\""))
        .account("name = \"lost\"\naddress = \"sip:a@no-such-host.invalid\"\nregister = false")
        .account(format!("name = \"off\"\naddress = \"sip:a@{nobody}\"\nenabled = false"))
        .line("audio", "input = \"alsa:NoSuchCard,0\"")
        .line("nat", format!("stun = [\"stun:{nobody}\"]"))
        .line("nat", "port-mapping = false")
        // Nobody there answers: names are found nowhere.
        .line("sip", format!("name-servers = [\"{nobody}:5300\"]"));
    let phone = Voipd::start(&lab, "phone", config).await;
    phone.account_is("udp", "failed", SOON).await;
    phone.account_is("tls", "failed", SOON).await;
    let diagnosis = doctor(&phone).await;
    is(&diagnosis, "account.udp", "failed", "is not registered: nothing can be sent to the server");
    is(&diagnosis, "udp.udp", "failed", "is not reached: nothing listens there -> is the server running");
    is(&diagnosis, "tls.tls", "failed", "by TLS is not reached: nothing listens there");
    is(&diagnosis, "dns.lost", "failed", "name server");
    is(&diagnosis, "account.off", "skipped", "is not enabled");
    is(&diagnosis, "sound.input", "failed", "voipctl devices select input");
    is(&diagnosis, "nat", "failed", "the public address is not known");
    is(&diagnosis, "router", "skipped", "port-mapping is off");
    is(&diagnosis, &format!("stun.{nobody}"), "warning", "nothing listens there");
    let text = ctl(&phone, &["doctor"]).await;
    assert_eq!(text.code, 7);
    assert!(text.output.contains("\n         -> "), "{}", text.output);
    assert!(text.output.trim_end().ends_with("do not work."), "{}", text.output);
    phone.stop().await;
}

#[tokio::test]
async fn a_configuration_that_was_broken_since_is_told_before_the_next_start_fails() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    is(&doctor(&phone).await, "configuration", "ok", "has no faults");
    let file = phone.directory().join("voipd.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n[calls]\nmax = 0\n")).unwrap();
    let diagnosis = doctor(&phone).await;
    is(&diagnosis, "configuration", "failed", "calls.max is 0");
    is(
        &diagnosis,
        "configuration",
        "failed",
        &format!("`voipctl --session config check {}`", file.display()),
    );
    std::fs::write(&file, &text).unwrap();
    is(&doctor(&phone).await, "configuration", "warning", "has changed since voipd read it");
    std::fs::remove_file(&file).unwrap();
    is(&doctor(&phone).await, "configuration", "failed", "cannot be read");
    phone.stop().await;
}

#[tokio::test]
async fn two_daemons_and_none_are_told_apart() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let nobody = Bus::start(&lab.directory("empty")).await;
    let on = async |session: &str, system: &str, options: &[&str]| {
        let mut command = phone.voipctl(&[&["doctor", "--json"], options].concat());
        command.env("DBUS_SESSION_BUS_ADDRESS", session).env("DBUS_SYSTEM_BUS_ADDRESS", system);
        // The configuration that a daemon would read.
        command.env("HOME", lab.root()).env_remove("XDG_CONFIG_HOME");
        let ended = Voipctl::start(command).ends().await;
        (ended.code, ended.json())
    };
    let (_, both) = on(&phone.bus(), &friend.bus(), &[]).await;
    is(&both, "daemon", "warning", "runs on the session bus and on the system bus");
    let empty = nobody.address();
    let (code, none) = on(&empty, &empty, &["--session"]).await;
    assert_eq!(code, 7);
    is(&none, "daemon", "failed", "systemctl --user start voipd");
    is(&none, "configuration", "ok", "could start with its configuration");
    let directory = lab.directory(".config/voipd");
    std::fs::write(directory.join("voipd.toml"), "[sip]\nlisen = []\n").unwrap();
    let (_, none) = on(&empty, &empty, &["--session"]).await;
    is(&none, "configuration", "failed", "sip.lisen is not a key here");
    is(&none, "configuration", "failed", "`voipctl --session config check`");
    phone.stop().await;
    friend.stop().await;
}
