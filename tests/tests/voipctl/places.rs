//! Which daemon a command means, the configuration that is checked, and the sound devices.

use std::path::Path;

use voipd_tests::bus::Bus;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Ended, Lab, Voipctl, Voipd};

use super::{ctl, echo_at, friend, phone, talk};

#[tokio::test]
async fn the_daemon_that_runs_is_meant_and_of_two_the_one_that_is_named() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let nobody = Bus::start(&lab.directory("empty")).await;
    let none = format!("unix:path={}/none", lab.root().display());
    let on = async |session: &str, system: &str, arguments: &[&str]| -> Ended {
        let mut command = phone.voipctl(arguments);
        command.env("DBUS_SESSION_BUS_ADDRESS", session).env("DBUS_SYSTEM_BUS_ADDRESS", system);
        Voipctl::start(command).ends().await
    };
    let (phones, friends, empty) = (phone.bus(), friend.bus(), nobody.address());
    let bus = |ended: Ended| {
        ended.well();
        ended.json()["bus"].as_str().unwrap().to_owned()
    };
    let status = ["status", "--json"];
    assert_eq!(bus(on(&phones, &empty, &status).await), "session");
    assert_eq!(bus(on(&phones, &none, &status).await), "session");
    assert_eq!(bus(on(&empty, &friends, &status).await), "system");
    assert_eq!(bus(on(&none, &friends, &status).await), "system");
    // Both run.
    on(&phones, &friends, &status).await.fails(3, &["runs both", "say --session or --system"]);
    let accounts = async |which: &str| {
        let list = on(&phones, &friends, &[which, "account", "list", "--json"]).await;
        list.well();
        list.json().as_array().unwrap().len()
    };
    assert_eq!((accounts("--session").await, accounts("--system").await), (1, 2));
    // None runs, or none where it is looked for.
    let start = ["systemctl --user start voipd", "sudo systemctl start voipd"];
    on(&empty, &empty, &status).await.fails(3, &["voipd does not run", start[0], start[1]]);
    on(&none, &none, &status).await.fails(3, &["voipd does not run", start[0], start[1]]);
    on(&empty, &friends, &["--session", "calls"]).await.fails(3, &["on the session bus", start[0]]);
    on(&phones, &empty, &["--system", "calls"]).await.fails(3, &["on the system bus", start[1]]);
    on(&phones, &none, &["--system", "calls"]).await.fails(3, &["the system bus cannot be reached"]);
    phone.stop().await;
    friend.stop().await;
}

/// `voipctl config check`, where the daemon's own file would lie in the lab.
async fn check(lab: &Lab, arguments: &[&str]) -> Ended {
    let mut command = voipd_tests::process::program(voipd_tests::voipd::built("voipctl"));
    command.args(["config", "check"]).args(arguments);
    command.env("HOME", lab.root()).env_remove("XDG_CONFIG_HOME");
    Voipctl::start(command).ends().await
}

#[tokio::test]
async fn a_configuration_is_checked_without_a_daemon() {
    let lab = Lab::shared();
    let file = lab.path("voipd.toml");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "[calls]\nmax = 3\n").unwrap();
    assert_eq!(check(&lab, &[name]).await.well(), format!("{name}: no faults\n"));
    // Every fault at once, each with file, line, column, key and remedy.
    let broken = "[sip]\nlisten = [\"0.0.0.0\"]\n\n[[account]]\nname = \"work\"\nadress = \"sip:a@192.0.2.1\"\n\n[calls]\nmax = \"many\"\n";
    std::fs::write(&file, broken).unwrap();
    let ended = check(&lab, &[name]).await;
    assert_eq!((ended.code, ended.output.as_str()), (1, ""), "{}", ended.errors);
    for (place, words) in [
        (":2:11: sip.listen ", "write an address and a port"),
        (":6:1: account.adress ", "did you mean 'address'?"),
        (":9:7: calls.max ", "a whole number without quotes"),
    ] {
        let line = ended.errors.lines().find(|line| line.contains(&format!("{name}{place}")));
        assert!(line.is_some_and(|line| line.contains(words)), "{place}{words}: {}", ended.errors);
    }
    std::fs::write(&file, "[sip\n").unwrap();
    let ended = check(&lab, &[name]).await;
    assert!(ended.code == 1 && ended.errors.contains(&format!("{name}:1:")), "{}", ended.errors);
    let ended = check(&lab, &["/nonexistent/voipd.toml"]).await;
    assert!(
        ended.code == 1 && ended.errors.contains("cannot read /nonexistent/voipd.toml"),
        "{}",
        ended.errors
    );
    // Without a name, the one that the service reads.
    let ended = check(&lab, &["--session"]).await;
    let own = lab.directory(".config/voipd").join("voipd.toml");
    assert_eq!(ended.well(), format!("there is no {}; the defaults hold\n", own.display()));
    std::fs::write(&own, "[log]\nlevel = \"loud\"\n").unwrap();
    let ended = check(&lab, &["--session"]).await;
    assert!(
        ended.code == 1 && ended.errors.contains(&format!("{}:2:9: log.level ", own.display())),
        "{}",
        ended.errors
    );
    // As everywhere, the voipd that runs is meant.
    let phone = phone(&lab).await;
    let mut command = phone.voipctl(&["config", "check"]);
    command.env("HOME", lab.root()).env_remove("XDG_CONFIG_HOME");
    let meant = Voipctl::start(command).ends().await;
    assert_eq!((meant.code, &meant.errors), (1, &ended.errors));
    phone.stop().await;
}

/// A telephone with these files or names for microphone and loudspeaker.
async fn with_devices(lab: &Lab, name: &str, input: &str, output: &str) -> Voipd {
    let config = Config::at(lab.address())
        .line("audio", format!("input = \"{input}\""))
        .line("audio", format!("output = \"{output}\""));
    Voipd::start(lab, name, config).await
}

#[tokio::test]
async fn a_device_test_says_what_was_heard() {
    let lab = Lab::shared();
    // The null device is silent.
    let phone = phone(&lab).await;
    let ended = ctl(&phone, &["devices", "test", "--seconds", "1"]).await;
    let lines: Vec<_> = ended.well().lines().collect();
    assert_eq!(lines[0], "Speak into the microphone.");
    assert!(lines[1].starts_with("microphone [") && lines[1].contains("  loudspeaker ["), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("Nothing was heard from the microphone"), "{lines:?}");
    let ended = ctl(&phone, &["devices", "test", "--seconds", "1", "--no-microphone"]).await;
    assert!(
        ended.well().ends_with("The tone was played; the microphone was left closed.\n"),
        "{}",
        ended.output
    );
    phone.stop().await;

    // A file that speaks, and one that takes the tone.
    let (said, tone) = (speech(Speaker::Bob, 48_000), lab.path("tone.wav"));
    let files = format!("file:{}", said.display());
    let phone = with_devices(&lab, "files", &files, &format!("file:{}", tone.display())).await;
    let ended = ctl(&phone, &["devices", "test", "--seconds", "2", "--json"]).await;
    ended.well();
    let report = ended.json();
    assert_eq!(report["heard"], true, "{report}");
    assert!(report["measurements"].as_u64() >= Some(2), "{report}");
    for key in ["input_peak_dbov", "output_peak_dbov"] {
        assert!((-55.0..=0.0).contains(&report[key].as_f64().unwrap()), "{report}");
    }
    assert!(
        std::fs::metadata(&tone).unwrap().len() > 48_000,
        "the tone was written to the loudspeaker's file"
    );
    // Nothing is left open.
    let status = ctl(&phone, &["status", "--json"]).await.json();
    assert_eq!(status["audio"]["state"], "closed");
    phone.stop().await;
}

#[tokio::test]
async fn a_device_that_is_not_there_is_explained() {
    let lab = Lab::shared();
    let missing = "file:/nonexistent/voice.wav";
    let (phone, friend) = (with_devices(&lab, "phone", missing, "null").await, friend(&lab).await);
    talk(&phone, &echo_at(&friend), &[]).await;
    let reason = voipd_tests::until("the device is missed", voipd_tests::SOON, async || {
        let status = ctl(&phone, &["status"]).await;
        let line = status.well().lines().find(|line| line.starts_with("Sound:  unavailable: "))?.to_owned();
        Some(line)
    })
    .await;
    assert!(reason.contains("/nonexistent/voice.wav"), "{reason}");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_chosen_device_is_kept_and_a_wrong_name_refused() {
    let lab = Lab::shared();
    let mut phone = with_devices(&lab, "phone", "null", "null").await;
    for role in ["input", "output", "ringer"] {
        ctl(&phone, &["devices", "select", role, "default"]).await.silent();
    }
    ctl(&phone, &["devices", "select", "ringer", "null"]).await.silent();
    for name in ["", "jackdaw:7", "hw:0", "alsa:"] {
        ctl(&phone, &["devices", "select", "input", name]).await.fails(1, &["null", "device"]);
    }
    ctl(&phone, &["devices", "select", "output", "file:/a.wav"])
        .await
        .fails(1, &["configuration", "[audio]"]);
    phone.restart().await;
    let chosen = ctl(&phone, &["devices", "--json"]).await.json();
    assert_eq!(
        [&chosen["input"], &chosen["output"], &chosen["ringer"]],
        [&"default".into(), &"default".into(), &serde_json::Value::from("null")]
    );
    let list = ctl(&phone, &["devices"]).await;
    assert!(
        list.well().starts_with("input   100 %  default\noutput  100 %  default\nringer  100 %  null\n"),
        "{}",
        list.output
    );
    let line = list.well().lines().find(|line| line.starts_with("null ")).unwrap();
    assert!(line.contains("input, output"), "{line}");
    assert!(Path::new(&phone.directory().join("state")).exists());
    phone.stop().await;
}
