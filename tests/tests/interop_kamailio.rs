//! kamailio as registrar and record-routing proxy.

use std::time::Duration;

use voipd_dbus::DialOptions;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::{reading, writing};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely};

/// A telephone of one of the registrar's users.
async fn phone(lab: &Lab, registrar: &Kamailio, user: &str) -> Voipd {
    Voipd::start(lab, user, Config::at(lab.address()).account(registrar.account(user))).await
}

async fn two_phones_register_and_talk(digest: Digest) {
    let lab = Lab::alone();
    let registrar = Kamailio::start(&lab, digest).await;
    let alice = phone(&lab, &registrar, "alice").await;
    let bob = phone(&lab, &registrar, "bob").await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let account = alice.account("alice").await;
    assert_eq!(account.expires().await.unwrap(), 600);
    assert_eq!(account.sip_status().await.unwrap(), 200);

    let (from_alice, from_bob) = (speech(Speaker::Alice, 8000), speech(Speaker::Bob, 8000));
    let (at_alice, at_bob) = (lab.path("at-alice.wav"), lab.path("at-bob.wav"));
    let options = DialOptions {
        account: Some("alice".into()),
        play: Some(reading(&from_alice)),
        record: Some(writing(&at_alice)),
        ..DialOptions::default()
    };
    let call = alice.dial_with("bob", options).await;
    let answered = bob.incoming().await;
    let peer = answered.proxy.peer().await.unwrap();
    assert_eq!(peer, format!("sip:alice@{}", registrar.address));
    answered.accept_speaking(&from_bob, &at_bob).await;
    call.is("active").await;
    answered.is("active").await;
    pause(5.5).await;
    call.assert_no_loss("at alice").await;
    answered.assert_no_loss("at bob").await;
    // The proxy stays in the dialog (Record-Route): requests of both sides find their way through it.
    answered.hold().await;
    call.is("held").await;
    answered.resume().await;
    call.is("active").await;
    answered.hang_up().await;
    assert_eq!(call.ended().await.0, "remote");
    assert_eq!(call.proxy.codec().await.unwrap(), "opus");
    let heard = |said: &_, heard: &_| compare(&Sound::load(said), &Sound::load(heard), Codec::Perceptual);
    heard(&from_alice, &at_bob).assert_heard("alice at bob", 0.85);
    heard(&from_bob, &at_alice).assert_heard("bob at alice", 0.85);

    // Who is not registered cannot be called.
    let options = DialOptions { account: Some("alice".into()), ..DialOptions::default() };
    let nobody = alice.dial_with("nobody", options).await;
    assert_eq!(nobody.ended().await, ("not-found".into(), 404));
    let gone = "expires 0";
    alice.stop().await;
    bob.stop().await;
    let log = registrar.log();
    for user in ["alice", "bob"] {
        let unregistered = log.lines().any(|line| {
            line.contains(&format!("REGISTERED {user}"))
                && (line.contains(gone) || line.contains("expires=0"))
        });
        assert!(unregistered, "{user} did not take back the registration:\n{log}");
    }
}

#[timely]
async fn two_phones_register_and_talk_with_md5() {
    two_phones_register_and_talk(Digest::Md5).await;
}

#[timely]
async fn two_phones_register_and_talk_with_sha_256() {
    two_phones_register_and_talk(Digest::Sha256).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_tried_again_and_again() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Sha256).await;
    let account = registrar.account("alice").replace("alice-secret", "guess");
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address()).account(account)).await;
    phone.account_is("alice", "failed", SOON).await;
    let account = phone.account("alice").await;
    assert_eq!(account.reason().await.unwrap(), "credentials");
    assert_eq!(account.sip_status().await.unwrap(), 401);
    assert!(!phone.log().contains("guess"), "the password is in the log:\n{}", phone.log());
    phone.stop().await;
}

#[tokio::test]
async fn registration_recovers_after_the_registrar_was_away() {
    let lab = Lab::shared();
    let mut registrar = Kamailio::start(&lab, Digest::Md5).await;
    let phone = phone(&lab, &registrar, "alice").await;
    phone.account_is("alice", "registered", SOON).await;
    registrar.crash();
    let account = phone.account("alice").await;
    account.register().await.unwrap();
    phone.account_is("alice", "failed", Duration::from_secs(40)).await;
    let reason = account.reason().await.unwrap();
    assert!(["timeout", "unreachable"].contains(&reason.as_str()), "{reason}");
    assert!(account.retry_in().await.unwrap() > 0, "voipd has given up");
    registrar.revive().await;
    account.register().await.unwrap();
    phone.account_is("alice", "registered", SOON).await;
    account.unregister().await.unwrap();
    phone.account_is("alice", "unregistered", SOON).await;
    account.disable().await.unwrap();
    phone.account_is("alice", "disabled", SOON).await;
    account.enable().await.unwrap();
    phone.account_is("alice", "registered", SOON).await;
    phone.stop().await;
}

#[tokio::test]
async fn an_account_that_comes_over_the_bus_is_kept() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Md5).await;
    let mut phone = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let settings = voipd_dbus::AccountSettings {
        name: Some("alice".into()),
        address: Some(format!("sip:alice@{}", registrar.address)),
        password: Some("alice-secret".into()),
        realm: Some(vec!["voipd.test".into()]),
        ..voipd_dbus::AccountSettings::default()
    };
    phone.manager().await.add_account(&settings).await.unwrap();
    phone.account_is("alice", "registered", SOON).await;
    phone.restart().await;
    phone.account_is("alice", "registered", SOON).await;
    let account = phone.account("alice").await;
    assert!(account.has_password().await.unwrap());
    assert_eq!(account.origin().await.unwrap(), "bus");
    let path = account.inner().path().to_owned();
    phone.manager().await.remove_account(&path).await.unwrap();
    phone.restart().await;
    let accounts = phone.manager().await.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1, "only the direct account is left: {accounts:?}");
    // Only its owner can read what holds passwords.
    for file in std::fs::read_dir(phone.directory().join("state")).unwrap() {
        let file = file.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} is readable by others", file.path().display());
    }
    phone.stop().await;
}
