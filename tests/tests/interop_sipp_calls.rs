//! Forks, redirections and digits in INFO with SIPp, by the scenario files in `tests/interop/`.

use std::time::Duration;

use voipd_dbus::DialOptions;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::sipp::{Script, Sipp, audio};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely, until};

/// A telephone without a server.
async fn phone(lab: &Lab) -> Voipd {
    Voipd::start(lab, "voipd", Config::at(lab.address())).await
}

#[timely]
async fn of_several_forks_the_newest_is_heard_and_the_winner_stays() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("fork")).await;
    let (said, heard) = (speech(Speaker::Alice, 8000), lab.path("heard.wav"));
    let call = phone.dial_speaking(&format!("sip:bob@{}", peer.address), &said, &heard).await;
    call.is("early").await;
    let (desk, mobile) = (format!("{}:6002", peer.address), format!("{}:6000", peer.address));
    // The first one's sound may be over before it can be asked for.
    let first = call.proxy.remote_media().await.unwrap();
    assert!(first == desk || first == mobile, "{first}");
    until("the newer fork's media", SOON, async || {
        (call.proxy.remote_media().await.unwrap() == mobile).then_some(())
    })
    .await;
    call.is("active").await;
    assert_eq!(call.proxy.remote_media().await.unwrap(), mobile);
    let said = Sound::load(&said);
    pause(said.seconds() + 0.5).await;
    call.hang_up().await;
    peer.succeeds().await;
    compare(&said, &Sound::load(&heard), Codec::Waveform).assert_heard("the winner", 0.97);
    phone.stop().await;
}

#[tokio::test]
async fn a_redirection_without_consent_ends_the_call_and_shows_where_it_leads() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("moved")).await;
    let call = phone.dial(&format!("sip:bob@{}", peer.address)).await;
    assert_eq!(call.ended().await, ("redirected".to_owned(), 302));
    let contacts = ["moved", "there"].map(|user| format!("sip:{user}@{}:5060", peer.address));
    assert_eq!(call.proxy.redirect_contacts().await.unwrap(), contacts);
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_redirection_is_followed_with_consent_to_who_answers() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, Script::scenario("redirect")).await;
    let options = DialOptions { follow: Some(true), ..DialOptions::default() };
    let call = phone.dial_with(&format!("sip:bob@{}", peer.address), options).await;
    call.is("active").await;
    assert_eq!(call.proxy.peer().await.unwrap(), format!("sip:there@{}:5060", peer.address));
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_anonymous_call_says_so_and_nothing_else() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::callee()
        .receive_with(
            "INVITE",
            "From: &quot;Anonymous&quot; &lt;sip:anonymous@anonymous.invalid&gt;;tag=.*Privacy: id",
        )
        .reply("603 Decline")
        .receive("ACK");
    let peer = Sipp::callee(&lab, script).await;
    let options = DialOptions { anonymous: Some(true), ..DialOptions::default() };
    let call = phone.dial_with(&format!("sip:bob@{}", peer.address), options).await;
    assert!(call.proxy.anonymous().await.unwrap());
    assert_eq!(call.ended().await, ("declined".to_owned(), 603));
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn digits_go_in_info_to_a_peer_without_telephone_events() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let plain = audio(&[(0, "PCMU/8000")], &[]);
    let digit = |signal: &str| format!("application/dtmf-relay.*Signal={signal}.*Duration=120");
    let script = Script::callee()
        .invited()
        .reply("180 Ringing")
        .answer(&plain)
        .receive("ACK")
        .receive_with("INFO", &digit("4"))
        .reply_with("200 OK", "", "")
        .receive_with("INFO", &digit("#"))
        .reply_with("200 OK", "", "")
        .hung_up();
    let peer = Sipp::callee(&lab, script).await;
    let call = phone.dial(&format!("sip:bob@{}", peer.address)).await;
    call.is("active").await;
    call.proxy.send_dtmf("4#").await.unwrap();
    until("both digits", Duration::from_secs(20), async || {
        peer.messages().contains("Signal=#").then_some(())
    })
    .await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}
