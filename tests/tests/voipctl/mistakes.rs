//! What a person writes wrong: each mistake is answered with what to write.

use voipd_tests::{Config, Lab, Voipd};

use super::{at, ctl, echo_at, friend, phone, start, talk};

#[tokio::test]
async fn a_wrong_command_line_is_2_and_says_what_to_write() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    for (arguments, words) in [
        (&["cal", "sip:bob@192.0.2.1"][..], &["'cal'", "call"][..]),
        (&["acount", "list"], &["'acount'", "account"]),
        (&["account", "ad"], &["'ad'", "add"]),
        (&["call"], &["<TARGET>"]),
        (&["call", "sip:b@192.0.2.1", "--recrod", "a.wav"], &["'--recrod'", "--record"]),
        (&["call", "sip:b@192.0.2.1", "--wait", "--detach"], &["--wait", "--detach"]),
        (&["call", "sip:b@192.0.2.1", "--hangup-after", "-1"], &["--hangup-after"]),
        (&["call", "sip:b@192.0.2.1", "--hangup-after=-1"], &["--hangup-after -1 is no number of seconds"]),
        (&["call", "sip:b@192.0.2.1", "--hangup-after", "soon"], &["'soon'", "--hangup-after"]),
        (&["hold", "seven"], &["'seven'", "a call is a number such as 3"]),
        (&["hangup", "/org/voipd/account/1"], &["a call is a number such as 3"]),
        (&["hangup", "1", "--all"], &["--all"]),
        (&["reject", "--busy", "--decline"], &["--busy", "--decline"]),
        (&["dtmf"], &["<DIGITS>"]),
        (&["dtmf", "one", "1"], &["a call is a number such as 3"]),
        (&["dnd", "maybe"], &["'maybe'", "on, off"]),
        (&["wait"], &["<registered|active|ended>"]),
        (&["wait", "regstered"], &["'regstered'", "registered"]),
        (&["wait", "active", "--account", "work"], &["--account goes with 'wait registered' only"]),
        (&["wait", "registered", "--call", "1"], &["--call goes with 'wait active' and 'wait ended' only"]),
        (&["devices", "select", "inptu", "null"], &["'inptu'", "input"]),
        (&["devices", "select"], &["<input|output|ringer>"]),
        (&["devices", "test", "--seconds", "60"], &["60", "1..=10"]),
        (&["--system", "--session", "status"], &["--system", "--session"]),
        (&["--json", "trace", "--brief"], &["--brief", "--json"]),
    ] {
        ctl(&phone, arguments).await.fails(2, words);
    }
    let alone = ctl(&phone, &[]).await;
    assert_eq!(alone.code, 2);
    assert!(alone.errors.contains("Usage: voipctl") && alone.errors.contains("  call "), "{}", alone.errors);
    phone.stop().await;
}

#[tokio::test]
async fn a_target_that_is_none_says_what_to_write() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).line("calls", "max = 1");
    let phone = Voipd::start(&lab, "phone", config).await;
    for (target, words) in [
        ("", "sip:bob@example.org"),
        ("bob", "write the whole address as sip:user@host"),
        ("sip:", "write sip:user@host"),
        ("sip:bob@192.0.2.1:99999", "write sip:user@host"),
        ("bob smith@192.0.2.1", "write sip:user@host"),
        ("<sip:bob@192.0.2.1>", "write sip:user@host"),
        ("http://192.0.2.1", "only sip:, sips: and tel: ones"),
        ("mailto:bob@example.org", "only sip:, sips: and tel: ones"),
    ] {
        ctl(&phone, &["call", target]).await.fails(1, &[words]);
    }
    ctl(&phone, &["call", "bob", "--account", "wrok"]).await.fails(1, &["there is no account 'wrok'"]);
    ctl(&phone, &["call", &"x".repeat(2000)]).await.fails(1, &["too long"]);
    ctl(&phone, &["account", "disable", "direct"]).await.silent();
    ctl(&phone, &["call", "sip:bob@192.0.2.1"]).await.fails(1, &["no account can place this call"]);
    ctl(&phone, &["account", "enable", "direct"]).await.silent();
    let friend = friend(&lab).await;
    talk(&phone, &echo_at(&friend), &[]).await;
    ctl(&phone, &["call", &echo_at(&friend)]).await.fails(1, &["there are 1 calls already", "end one first"]);
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_call_that_is_not_there_or_not_so_far_says_so() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    for (command, words) in [
        ("answer", "there is no call that rings here"),
        ("reject", "there is no call that rings here"),
        ("silence", "there is no call that rings here"),
        ("hangup", "there is no call that goes on"),
        ("mute", "there is no call that goes on"),
        ("unmute", "there is no call that goes on"),
        ("stats", "there is no call that goes on"),
        ("hold", "there is no call that can be held"),
        ("resume", "there is no call on hold"),
    ] {
        ctl(&phone, &[command]).await.fails(1, &[words, "'voipctl calls' shows the calls"]);
        for name in ["7", "/org/voipd/call/7"] {
            ctl(&phone, &[command, name]).await.fails(1, &["there is no call 7"]);
        }
    }
    ctl(&phone, &["codec", "G722"]).await.fails(1, &["there is no call whose codec can be chosen"]);
    for what in ["active", "ended"] {
        ctl(&phone, &["wait", what, "--call", "7"]).await.fails(1, &["there is no call 7"]);
    }
    // In the wrong state, the daemon's sentence is passed on.
    let call = start(&phone, &["call", "--wait", &at(&friend)]);
    let incoming = friend.incoming().await;
    for (voipd, command, words) in [
        (&phone, "answer", "answering is not possible"),
        (&phone, "reject", "rejecting is not possible"),
        (&phone, "hold", "holding is not possible"),
        (&friend, "hold", "holding is not possible: the call is incoming"),
        (&friend, "resume", "is not possible: the call is incoming"),
    ] {
        ctl(voipd, &[command, "1"]).await.fails(1, &[words]);
    }
    ctl(&friend, &["dtmf", "1", "5"]).await.fails(1, &["the call is incoming"]);
    ctl(&friend, &["reject"]).await.silent();
    assert_eq!(call.ends().await.code, 12);
    incoming.is("ended").await;
    for command in ["answer", "reject", "hangup", "hold", "resume", "mute", "silence"] {
        ctl(&friend, &[command, "1"]).await.fails(1, &["is not possible: the call is ended"]);
    }
    // Its figures can still be read.
    assert_eq!(ctl(&friend, &["stats", "--json"]).await.json()["packets_sent"], 0);
    phone.stop().await;
    friend.stop().await;
}
