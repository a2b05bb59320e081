//! Calls with SIPp about what a call goes by besides INVITE: PRACK, UPDATE, session timers and offers that cross. Its
//! scenarios are in `tests/interop/`.

use voipd_tests::sipp::{Script, Sipp};
use voipd_tests::{Config, Lab, SOON, Voipd, until};

/// A telephone without a server.
async fn phone(lab: &Lab) -> Voipd {
    Voipd::start(lab, "voipd", Config::at(lab.address())).await
}

#[tokio::test]
async fn a_reliable_early_answer_is_acknowledged_and_changed() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("prack-callee")).await;
    let call = phone.dial(&format!("sip:{}", peer.address)).await;
    call.is("held").await;
    assert!(call.proxy.remote_hold().await.unwrap(), "the UPDATE holds still");
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_caller_that_requires_reliability_gets_the_offer_with_the_ringing() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::caller(&lab, phone.address, Script::scenario("prack-caller"));
    let call = phone.incoming().await;
    call.accept().await;
    call.is("active").await;
    let codec = async || Some(call.proxy.codec().await.unwrap()).filter(|codec| codec == "PCMU");
    until("the answer has come", SOON, codec).await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_session_interval_that_the_callee_finds_too_short_is_raised_and_kept_fresh() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("session-timer-callee")).await;
    let call = phone.dial(&format!("sip:{}", peer.address)).await;
    assert_eq!(call.ended().await.0, "remote");
    assert_ne!(call.proxy.answered_at().await.unwrap(), 0);
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_caller_s_session_interval_that_is_too_short_is_refused_and_the_next_kept_fresh() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::caller(&lab, phone.address, Script::scenario("session-timer-caller"));
    let call = phone.incoming().await;
    call.accept().await;
    assert_eq!(call.ended().await.0, "remote");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn offers_that_cross_are_both_refused_and_the_callee_s_comes_first() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("glare")).await;
    let call = phone.dial(&format!("sip:{}", peer.address)).await;
    call.is("active").await;
    call.hold().await;
    assert_eq!(call.ended().await.0, "remote");
    assert!(call.proxy.local_hold().await.unwrap());
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_offer_that_was_put_off_is_made_again() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("glare-retry")).await;
    let call = phone.dial(&format!("sip:{}", peer.address)).await;
    call.is("active").await;
    call.hold().await;
    assert_eq!(call.ended().await.0, "remote");
    assert!(call.proxy.local_hold().await.unwrap());
    peer.succeeds().await;
    phone.stop().await;
}
