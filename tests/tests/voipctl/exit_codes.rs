//! How a call ends is told by the exit code.

use voipd_tests::sipp::{Script, Sipp};
use voipd_tests::{Config, Lab, Voipd};

use super::{at, ctl, echo_at, friend, phone, start};

#[tokio::test]
async fn a_refusal_is_told_by_its_reason() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let refusals = [
        ("486 Busy Here", 10, "busy", "the peer is busy (486)"),
        ("600 Busy Everywhere", 10, "busy", "the peer is busy (600)"),
        ("603 Decline", 11, "declined", "the peer declined (603)"),
        ("480 Temporarily Unavailable", 12, "no-answer", "nobody answered (480)"),
        ("488 Not Acceptable Here", 14, "no-common-codec", "no codec fits both sides (488)"),
        ("404 Not Found", 15, "not-found", "the server does not know the peer (404)"),
        ("407 Proxy Authentication Required", 16, "credentials", "user name or password was refused (407)"),
        ("500 Server Internal Error", 19, "rejected", "refused (500)"),
    ];
    for (status, code, reason, words) in refusals {
        let script = Script::callee().invited().reply(status).receive("ACK");
        let peer = Sipp::callee(&lab, script.clone()).await;
        let target = format!("sip:peer@{}", peer.address);
        let plain = ctl(&phone, &["call", &target]).await;
        peer.succeeds().await;
        assert_eq!((plain.code, plain.errors.as_str()), (code, ""), "{status}: {}", plain.output);
        let line = plain.output.lines().find(|line| line.starts_with("Call ")).unwrap_or_default();
        assert!(line.ends_with(&format!(" with {target}: {words}")), "{status}: {}", plain.output);

        let peer = Sipp::callee(&lab, script).await;
        let json = ctl(&phone, &["call", "--json", &format!("sip:peer@{}", peer.address)]).await;
        assert_eq!(json.code, code, "{status}: {}", json.errors);
        let report = json.json();
        assert_eq!((&report["exit_code"], &report["end_reason"]), (&code.into(), &reason.into()), "{status}");
        assert_eq!(report["sip_status"].to_string(), status[..3], "{status}");
        // Who comes later is told the same.
        let number = report["number"].to_string();
        ctl(&phone, &["wait", "ended", "--call", &number]).await.fails(code, &[reason]);
        peer.succeeds().await;
    }
    phone.stop().await;
}

#[tokio::test]
async fn a_number_that_the_account_blocks_is_not_called() {
    let lab = Lab::shared();
    let account = "name = \"work\"\naddress = \"sip:alice@127.0.0.1\"\nregister = false\nblocked = [\"0900\"]\ncountry = \"49\"";
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address()).account(account)).await;
    ctl(&phone, &["call", "0900 123", "--account", "work"]).await.fails(17, &["0900"]);
    let shown = ctl(&phone, &["account", "show", "work"]).await;
    assert!(shown.output.contains("country = 49, blocked = 0900"), "{}", shown.output);
    phone.stop().await;
}

#[tokio::test]
async fn a_person_who_rejects_is_told_by_how_it_was_done() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    for (refusal, code) in [
        (&["reject", "--busy"][..], 10),
        (&["reject", "--decline"], 11),
        (&["reject"], 12),
        (&["hangup"], 11),
        (&["hangup", "--all"], 11),
    ] {
        let call = start(&phone, &["call", "--wait", &at(&friend)]);
        let incoming = friend.incoming().await;
        ctl(&friend, refusal).await.silent();
        incoming.is("ended").await;
        let ended = call.ends().await;
        assert_eq!((ended.code, ended.errors.as_str()), (code, ""), "{refusal:?}: {}", ended.output);
    }
    ctl(&friend, &["dnd", "on"]).await.silent();
    assert_eq!(ctl(&friend, &["dnd"]).await.well(), "on\n");
    assert_eq!(ctl(&phone, &["call", &at(&friend)]).await.code, 12, "do not disturb");
    ctl(&friend, &["dnd", "off"]).await.silent();
    assert_eq!(ctl(&friend, &["dnd"]).await.well(), "off\n");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_call_that_was_answered_and_hung_up_is_a_success() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let here = ctl(&phone, &["call", &echo_at(&friend), "--hangup-after", "0.3"]).await;
    let lines: Vec<&str> = here.well().lines().collect();
    assert!(lines.contains(&"call 1: active") && lines.contains(&"call 1: ended, local"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(": hung up here after ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(" packets sent, ")), "{lines:?}");

    let call = start(&phone, &["call", &at(&friend), "--wait"]);
    friend.incoming().await;
    ctl(&friend, &["answer"]).await.silent();
    ctl(&friend, &["wait", "active", "--timeout", "10"]).await.well();
    ctl(&friend, &["hangup"]).await.silent();
    let there = call.ends().await;
    let lines: Vec<&str> = there.well().lines().collect();
    assert!(lines[0].contains(": the peer hung up after "), "{lines:?}");
    assert!(
        lines[1].starts_with("  ") && lines[1].ends_with(", active, ended; opus, plain path"),
        "{lines:?}"
    );
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn nobody_who_answers_in_time_is_12() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let absent = Config::at(lab.address()).line("calls", "ring-timeout = 5");
    let absent = Voipd::start(&lab, "absent", absent).await;
    let ended = ctl(&phone, &["call", "--json", &at(&absent)]).await;
    assert_eq!(ended.code, 12, "{}", ended.errors);
    let report = ended.json();
    assert_eq!(report["end_reason"], "no-answer");
    assert_eq!(report["states"].as_array().unwrap().last().unwrap(), "ended");
    // There, it is a call that nobody took.
    let missed = ctl(&absent, &["calls", "--json"]).await.json();
    assert_eq!((&missed[0]["state"], &missed[0]["end_reason"]), (&"ended".into(), &"no-answer".into()));
    phone.stop().await;
    absent.stop().await;
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_or_found_is_13() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let closed = format!("sip:bob@{}:9", lab.address());
    let ended = ctl(&phone, &["call", "--wait", &closed]).await;
    assert_eq!(ended.code, 13, "{}", ended.output);
    assert!(ended.output.contains("the peer cannot be reached"), "{}", ended.output);
    // Without a name server it takes a while to find that out.
    let ended = ctl(&phone, &["call", "--wait", "sip:bob@voipd-test.invalid:5060"]).await;
    assert_eq!(ended.code, 13, "{}", ended.output);
    assert!(ended.output.contains("the host name was not found"), "{}", ended.output);
    phone.stop().await;
}

#[tokio::test]
async fn a_peer_without_a_common_codec_is_14() {
    let lab = Lab::shared();
    let with = |codec| Config::at(lab.address()).line("direct", format!("codecs = [\"{codec}\"]"));
    let phone = Voipd::start(&lab, "phone", with("PCMU")).await;
    let other = Voipd::start(&lab, "other", with("PCMA")).await;
    let ended = ctl(&phone, &["call", &at(&other)]).await;
    assert_eq!(ended.code, 14, "{}", ended.output);
    assert!(ended.output.contains("no codec fits both sides (488)"), "{}", ended.output);
    phone.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_18() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::callee().invited().answer("this is no description").receive("ACK").hung_up();
    let peer = Sipp::callee(&lab, script).await;
    let ended = ctl(&phone, &["call", &format!("sip:peer@{}", peer.address)]).await;
    assert_eq!(ended.code, 18, "{}", ended.output);
    assert!(ended.output.contains("the peer broke the protocol"), "{}", ended.output);
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_20_and_the_other_side_is_told_which_call() {
    let lab = Lab::shared();
    let phone = Config::at(lab.address()).line("calls", "media-timeout = 5");
    let phone = Voipd::start(&lab, "phone", phone).await;
    let mut friend = friend(&lab).await;
    let mut call = start(&phone, &["call", &echo_at(&friend)]);
    call.says("call 1: active").await;
    friend.cut();
    let ended = call.ends().await;
    assert_eq!((ended.code, ended.errors.as_str()), (20, ""), "{}", ended.output);
    assert!(ended.output.contains("the peer fell silent after "), "{}", ended.output);
    ctl(&phone, &["wait", "ended", "--call", "1"]).await.fails(20, &["call 1 has ended: network"]);
    phone.stop().await;
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_3() {
    let lab = Lab::shared();
    let (mut phone, friend) = (phone(&lab).await, friend(&lab).await);
    let mut call = start(&phone, &["call", &echo_at(&friend)]);
    call.says("call 1: active").await;
    let mut monitor = start(&phone, &["monitor"]);
    monitor.says("watching voipd").await;
    let wait = start(&phone, &["wait", "ended"]);
    phone.cut();
    let ended = call.ends().await;
    assert_eq!(ended.code, 3, "{}", ended.output);
    assert!(ended.errors.starts_with("voipctl: voipd went away. "), "{}", ended.errors);
    let ended = monitor.ends().await;
    assert_eq!(ended.code, 3, "{}", ended.output);
    assert!(ended.errors.contains("systemctl status voipd"), "{}", ended.errors);
    assert!(ended.errors.contains("systemctl --user status voipd"), "{}", ended.errors);
    // It may not have found the daemon any more.
    wait.ends().await.fails(3, &["voipd ", "systemctl"]);
    ctl(&phone, &["calls"]).await.fails(3, &["voipd does not run", "systemctl --user start voipd"]);
    friend.stop().await;
}
