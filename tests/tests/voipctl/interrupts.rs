//! Signals and readers that leave.

use nix::sys::signal::Signal;
use voipd_tests::process::{Process, program};
use voipd_tests::voipd::built;
use voipd_tests::{Lab, SOON, Voipctl, Voipd, pause};

use super::{at, ctl, echo_at, friend, phone, start, talk};

#[tokio::test]
async fn an_interrupt_hangs_up_and_sums_the_call_up() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let call = start(&phone, &["call", "--wait", &at(&friend)]);
        let incoming = friend.incoming().await;
        incoming.accept().await;
        incoming.is("active").await;
        ctl(&phone, &["wait", "active", "--timeout", "10"]).await.well();
        call.signal(signal);
        let ended = call.ends().await;
        assert!(ended.well().contains(": hung up here after "), "{signal}: {}", ended.output);
        assert_eq!(incoming.ended().await.0, "remote", "{signal}");
    }
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    // As nohup starts it.
    let mut command = program("env");
    command.arg("--ignore-signal=HUP").arg(built("voipctl")).args(["call", "--wait", &at(&friend)]);
    let like = phone.voipctl(&[]);
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let call = Voipctl::start(command);
    let incoming = friend.incoming().await;
    incoming.accept().await;
    ctl(&phone, &["wait", "active", "--timeout", "10"]).await.well();
    call.signal(Signal::SIGHUP);
    pause(0.5).await;
    assert_eq!(incoming.state().await, "active");
    call.signal(Signal::SIGTERM);
    let ended = call.ends().await;
    assert!(ended.well().contains(": hung up here after "), "{}", ended.output);
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn an_interrupt_before_the_answer_takes_the_call_back() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let call = start(&phone, &["call", "--json", &at(&friend)]);
    let incoming = friend.incoming().await;
    call.signal(Signal::SIGINT);
    let ended = call.ends().await;
    assert_eq!((ended.code, ended.errors.as_str()), (4, ""), "{}", ended.output);
    assert_eq!(ended.json()["end_reason"], "local");
    assert_eq!(incoming.ended().await.0, "cancelled");
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn an_interrupt_ends_what_only_looks_and_leaves_the_calls() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    talk(&phone, &echo_at(&friend), &[]).await;
    let mut monitor = start(&phone, &["monitor", "--json"]);
    monitor.says("started").await;
    monitor.signal(Signal::SIGINT);
    let wait = start(&phone, &["wait", "ended"]);
    wait.signal(Signal::SIGINT);
    // The shell's way to say that a signal ended it.
    assert_eq!((monitor.ends().await.code, wait.ends().await.code), (130, 130));
    assert_eq!(ctl(&phone, &["calls", "--json"]).await.json()[0]["state"], "active");
    phone.stop().await;
    friend.stop().await;
}

/// Runs a line of bash in which `$V` is voipctl; gives everything that it wrote, and its exit code.
async fn bash(lab: &Lab, phone: &Voipd, line: &str) -> (String, Option<i32>) {
    let log = tempfile::NamedTempFile::new_in(lab.root()).unwrap();
    let mut command = program("bash");
    command.args(["-c", line]).env("V", built("voipctl"));
    for (name, value) in phone.voipctl(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    let mut process = Process::start("bash", command, log.path());
    let status = process.wait(2 * SOON).await;
    (process.output(), status.code())
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_without_a_word() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    talk(&phone, &echo_at(&friend), &[]).await;
    for (command, first) in [
        ("status", "voipd "),
        ("status --counters", "voipd "),
        ("account list", "ACCOUNT"),
        ("calls --json", "["),
        ("stats", "Sounds here:"),
    ] {
        let line = format!("\"$V\" {command} | head -1; exit ${{PIPESTATUS[0]}}");
        let (output, code) = bash(&lab, &phone, &line).await;
        assert!(output.starts_with(first) && output.lines().count() == 1, "{command}: {output}");
        // It may be through before its reader has left.
        assert!([Some(0), Some(141)].contains(&code), "{command}: {code:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = phone.voipctl(&command.split(' ').collect::<Vec<_>>());
        let ended = command.stdout(writer).output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(141), &b""[..]), "{command:?}");
    }
    // One that has nothing to write finds out by itself.
    let (output, code) = bash(&lab, &phone, "\"$V\" monitor | head -1; exit ${PIPESTATUS[0]}").await;
    assert!(output.contains("watching voipd") && output.lines().count() == 1, "{output}");
    assert_eq!(code, Some(141));
    phone.stop().await;
    friend.stop().await;
}

#[tokio::test]
async fn a_call_whose_reader_has_left_is_hung_up() {
    let lab = Lab::shared();
    let (phone, friend) = (phone(&lab).await, friend(&lab).await);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = phone.voipctl(&["call", &echo_at(&friend)]).stdout(writer).output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(141), &b""[..]));
    let call = ctl(&phone, &["wait", "ended", "--timeout", "10", "--json"]).await.json();
    assert_eq!((&call[0]["number"], &call[0]["end_reason"]), (&1.into(), &"local".into()));
    phone.stop().await;
    friend.stop().await;
}
