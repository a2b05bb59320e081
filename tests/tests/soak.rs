//! What only time shows: sessions that are refreshed, registrations that are renewed, memory that does not grow.
//! `make soak` runs it, SOAK_SECONDS long.

use std::time::{Duration, Instant};

use voipd_tests::host::Wire;
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::load::{calls, calls_at_rate};
use voipd_tests::measure::{Cost, Holdings};
use voipd_tests::sipp::{Script, Sipp, pcmu};
use voipd_tests::{Config, Lab, SOON, Voipd, needs_root, pause};

/// Calls a second, hung up as soon as they are answered.
const RATE: u32 = 50;
/// How much more memory than after the first round is no growth, in MB.
const SLACK_MB: f64 = 2.0;

fn length() -> Duration {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(300))
}

#[tokio::test]
#[ignore = "make soak runs it"]
async fn rfc_4028_both_sides_refresh_a_session_again_and_again() {
    let lab = Lab::alone();
    // One telephone would hold the first call while it places the second.
    let phone = Voipd::start(&lab, "phone", Config::at(lab.address())).await;
    let other = Voipd::start(&lab, "other", Config::at(lab.address())).await;
    // The shortest session that may be asked for (RFC 4028 section 4) is refreshed after half its time.
    let answer = |refresher: &str| {
        Script::callee()
            .invited()
            .reply("180 Ringing")
            .reply_with(
                "200 OK",
                &format!("Allow: INVITE, ACK, BYE, UPDATE\nRequire: timer\nSession-Expires: 90;refresher={refresher}"),
                &pcmu(&[]),
            )
            .receive("ACK")
    };
    let refreshed = || {
        let headers = "Session-Expires: 90;refresher=uac\nRequire: timer";
        answer("uac")
            .receive("UPDATE")
            .reply_with("200 OK", headers, "")
            .receive("UPDATE")
            .reply_with("200 OK", headers, "")
    };
    let ours = Sipp::callee(&lab, refreshed().hung_up()).await;
    // A peer that has promised to refresh and does not is gone when the session's time is over.
    let theirs = Sipp::callee(&lab, answer("uas").hung_up()).await;
    let refreshing = phone.dial(&format!("sip:bob@{}", ours.address)).await;
    let waiting = other.dial(&format!("sip:carol@{}", theirs.address)).await;
    refreshing.is("active").await;
    waiting.is("active").await;
    let begun = Instant::now();
    waiting.is_within("ended", Duration::from_secs(100)).await;
    assert!(begun.elapsed() > Duration::from_secs(45), "it ended before its time");
    pause((95.0 - begun.elapsed().as_secs_f64()).max(0.0)).await;
    assert_eq!(refreshing.state().await, "active");
    refreshing.hang_up().await;
    ours.succeeds().await;
    theirs.succeeds().await;
    phone.stop().await;
    other.stop().await;
}

#[tokio::test]
#[ignore = "make soak runs it"]
async fn thousands_of_calls_leave_nothing_behind() {
    if !needs_root("thousands_of_calls_leave_nothing_behind") {
        return;
    }
    let (lab, wire) = (Lab::alone(), Wire::new());
    let config = Config::beyond(&wire)
        .line("log", "level = \"warn\"")
        .line("calls", "max = 1000")
        .account("name = \"echo\"\nkind = \"echo\"\nallow-from = [\"198.18.0.0/15\"]");
    let phone = Voipd::start(&lab, "phone", config).await;
    let end = Instant::now() + length();
    let (mut rounds, mut made, mut first) = (0, 0, None);
    while Instant::now() < end || rounds < 3 {
        let short = calls_at_rate(&lab, (wire.here, wire.there), "echo", RATE, Duration::from_secs(20)).await;
        assert_eq!(short.failed, 0, "round {rounds}: {short:?}");
        let long = calls(&lab, wire.here, wire.there, "echo", 20, Duration::from_secs(8));
        pause(1.0).await;
        long.succeeds().await;
        // Objects of ended calls stay for half a minute.
        pause(35.0).await;
        made += u64::from(RATE) * 20 + 20;
        rounds += 1;
        let cost = Cost::of(phone.id(), Duration::from_secs(1)).await;
        let holdings = Holdings::of(phone.id());
        println!("after {made} calls: {:.1} MB, {holdings:?}", cost.rss_mb);
        let Some((memory, held)) = first else {
            first = Some((cost.rss_mb, holdings));
            continue;
        };
        assert!(cost.rss_mb < memory + SLACK_MB, "memory grew from {memory:.1} MB to {:.1} MB", cost.rss_mb);
        assert_eq!(holdings, held, "files or threads are left over");
        assert_eq!(phone.manager().await.calls().await.unwrap(), [], "calls are left over");
    }
    phone.stop().await;
}

#[tokio::test]
#[ignore = "make soak runs it"]
async fn a_registration_is_renewed_before_it_ends() {
    let lab = Lab::shared();
    let kamailio = Kamailio::start(&lab, Digest::Md5).await;
    let start = async |name: &str, more: &str| {
        let account = kamailio.account(name) + more;
        let phone = Voipd::start(&lab, name, Config::at(lab.address()).account(account)).await;
        phone.account_is(name, "registered", SOON).await;
        phone
    };
    let (alice, bob) = (start("alice", "\nexpires = 60").await, start("bob", "").await);
    // Longer than two registrations last.
    for _ in 0..5 {
        pause(30.0).await;
        let call = bob.dial(&format!("sip:alice@{}", kamailio.address)).await;
        alice.incoming().await.accept().await;
        call.is("active").await;
        call.hang_up().await;
    }
    alice.stop().await;
    bob.stop().await;
}
