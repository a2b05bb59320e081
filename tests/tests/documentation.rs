//! Every `busctl` line of docs/voipctl.md does against a running daemon what stands beside it.

use std::path::Path;
use std::time::Duration;

use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::process::{Process, program};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Call, Config, Lab, SOON, Voipd, pause};

/// The lines in the page's `busctl` blocks.
fn lines() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/voipctl.md");
    let text = std::fs::read_to_string(page).unwrap();
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        match line {
            "```busctl" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines
}

/// A call in the state that a line is for.
async fn call_for(line: &str, phone: &Voipd, friend: &Voipd) -> Call {
    let needs = |members: &[&str]| members.iter().any(|member| line.contains(&format!("Call1 {member}")));
    if needs(&["Accept", "Reject", "Silence"]) {
        friend.dial(&format!("sip:{}", phone.address)).await;
        return phone.incoming().await;
    }
    let call = phone.dial(&format!("sip:echo@{}", friend.address)).await;
    call.is("active").await;
    if needs(&["StopPlaying"]) {
        phone.ctl(&["play", "--loop", speech(Speaker::Alice, 8000).to_str().unwrap()]);
    }
    if needs(&["StopRecording"]) {
        phone.ctl(&["record", phone.directory().join("call.wav").to_str().unwrap()]);
    }
    if needs(&["Resume"]) {
        call.hold().await;
    }
    call
}

#[tokio::test]
async fn every_busctl_line_works() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Md5).await;
    let address = lab.address();
    let phone = Config::at(address)
        .account(registrar.account("alice"))
        .line("rendezvous", "enabled = true")
        .line("rendezvous", format!("address = \"{address}\""));
    let phone = Voipd::start(&lab, "phone", phone).await;
    let friend = Config::at(lab.address()).account("name = \"echo\"\nkind = \"echo\"");
    let friend = Voipd::start(&lab, "friend", friend).await;
    phone.account_is("alice", "registered", SOON).await;
    let lines = lines();
    assert!(lines.len() > 40, "only {} lines were found", lines.len());

    for line in &lines {
        // An earlier line may have disabled it.
        phone.account("alice").await.enable().await.unwrap();
        let removes = line.contains("RemoveAccount");
        let account = phone.account(if removes { "work" } else { "alice" }).await.inner().path().to_string();
        let call = if line.contains("$CALL") { Some(call_for(line, &phone, &friend).await) } else { None };
        let mut command = program("bash");
        command.args(["-c", &format!("exec {line}")]).env("DBUS_SESSION_BUS_ADDRESS", phone.bus());
        command.env("ACCOUNT", account).env("TARGET", format!("sip:echo@{}", friend.address));
        command.env("CALL", call.as_ref().map(Call::path).unwrap_or_default());
        if line.contains("$CONFERENCE") {
            let members: Vec<String> = call.as_ref().map(Call::path).into_iter().collect();
            let conference = phone.open_conference(&members, "joined").await;
            command.env("CONFERENCE", conference.as_str());
        }
        if line.contains("$INVITATION") {
            // Whoever has a meeting point can join it as well.
            command.env("INVITATION", phone.ctl(&["friends", "invite", "guest"]).trim());
        }
        let mut busctl = Process::start("busctl", command, &lab.path("busctl.log"));
        if line.contains(" monitor ") {
            pause(0.7).await;
            assert!(busctl.ended().is_none(), "{line} ended:\n{}", busctl.output());
        } else {
            let status = busctl.wait(Duration::from_secs(15)).await;
            assert!(status.success(), "{line} failed ({status}):\n{}", busctl.output());
        }
        // The next line begins without calls.
        for path in phone.manager().await.calls().await.unwrap() {
            // Those that have ended refuse it.
            let _ = voipd_dbus::CallProxy::new(&phone.connection, path).await.unwrap().hangup().await;
        }
    }
    phone.stop().await;
    friend.stop().await;
}
