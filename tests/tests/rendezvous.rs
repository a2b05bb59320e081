//! A meeting point of one's own: invitations, calls between friends, and strangers who stay outside.

use voipd_dbus::friends::{InviteOptions, JoinOptions};
use voipd_dbus::{Dict, Error, FriendsProxy};
use voipd_tests::authority::{Validity, self_signed};
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, until};

async fn friends(voipd: &Voipd) -> FriendsProxy<'static> {
    FriendsProxy::new(&voipd.connection).await.unwrap()
}

fn text(friend: &Dict, key: &str) -> String {
    friend[key].downcast_ref::<&str>().unwrap().to_owned()
}

/// A meeting point at an address of the lab.
async fn meeting_point(lab: &Lab, config: impl FnOnce(Config) -> Config) -> Voipd {
    let address = lab.address();
    let config = config(
        Config::at(address)
            .line("rendezvous", "enabled = true")
            .line("rendezvous", format!("address = \"{address}\"")),
    );
    Voipd::start(lab, "point", config).await
}

/// A telephone that joins as `name`.
async fn joined(lab: &Lab, point: &Voipd, name: &str) -> Voipd {
    let phone = Voipd::start(lab, name, Config::at(lab.address())).await;
    let invitation = point.ctl(&["friends", "invite", name]);
    let said = phone.ctl(&["friends", "join", invitation.trim()]);
    assert_eq!(said.trim(), format!("You are sip:{name}@{}", point.address));
    phone
}

/// Who is there, as the meeting point sees it.
async fn presence(voipd: &Voipd) -> Vec<(String, String)> {
    let list = friends(voipd).await.list().await.unwrap();
    list.iter().map(|friend| (text(friend, "name"), text(friend, "presence"))).collect()
}

/// Two people talk, and each hears all that the other says.
async fn they_talk(lab: &Lab, caller: &Voipd, callee: &Voipd, target: &str) {
    let (alice, bob) = (speech(Speaker::Alice, 48_000), speech(Speaker::Bob, 48_000));
    let (by_alice, by_bob) = (lab.path("heard-by-alice.wav"), lab.path("heard-by-bob.wav"));
    let call = caller.dial_speaking(target, &alice, &by_alice).await;
    let answered = callee.incoming().await;
    answered.accept_speaking(&bob, &by_bob).await;
    call.is("active").await;
    answered.is("active").await;
    pause(Sound::load(&alice).seconds().max(Sound::load(&bob).seconds()) + 0.7).await;
    for call in [&call, &answered] {
        call.assert_no_loss("a call between friends").await;
    }
    call.hang_up().await;
    assert_eq!(answered.ended().await.0, "remote");
    for (said, heard, what) in [(&bob, &by_alice, "the caller"), (&alice, &by_bob, "the callee")] {
        compare(&Sound::load(said), &Sound::load(heard), Codec::Perceptual).assert_whole(what, 0.88);
    }
}

#[tokio::test]
async fn friends_join_and_call_each_other_by_name() {
    let lab = Lab::alone();
    let point = meeting_point(&lab, |config| config).await;
    assert_eq!(friends(&point).await.address().await.unwrap(), point.address.to_string());
    let alice = joined(&lab, &point, "alice").await;
    let bob = joined(&lab, &point, "bob").await;
    let there = [("alice", "online"), ("bob", "online")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(presence(&point).await, there);

    they_talk(&lab, &alice, &bob, "bob").await;
    // All signalling went by the meeting point.
    let straight = format!("SIP to {}:5060", bob.address);
    assert!(!alice.log().contains(&straight), "{}", alice.log());

    bob.stop().await;
    until("bob is gone", SOON, async || (presence(&point).await[1].1 == "offline").then_some(())).await;
    let call = alice.dial("bob").await;
    assert_eq!(call.ended().await.1, 480);
    for phone in [alice, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn an_invitation_opens_once_and_a_removed_friend_stays_outside() {
    let lab = Lab::shared();
    let mut point = meeting_point(&lab, |config| config).await;
    let invitation = friends(&point).await.invite("bob", &InviteOptions::default()).await.unwrap();
    assert_eq!(presence(&point).await, [("bob".to_owned(), "unknown".to_owned())]);
    // What is not used yet outlives a restart.
    point.restart().await;
    let bob = Voipd::start(&lab, "bob", Config::at(lab.address())).await;
    let path = friends(&bob).await.join(&invitation, &JoinOptions::default()).await.unwrap();
    assert!(path.as_str().starts_with("/org/voipd/account/"));

    let thief = Voipd::start(&lab, "thief", Config::at(lab.address())).await;
    let refused = friends(&thief).await.join(&invitation, &JoinOptions::default()).await;
    let Err(Error::NotPermitted(sentence)) = refused else { panic!("{refused:?}") };
    assert!(sentence.contains("was used") && sentence.contains("ask for another"), "{sentence}");
    // Nothing of the try is left.
    assert_eq!(thief.manager().await.accounts().await.unwrap().len(), 1);

    // The same person twice is told so, and no second account is made.
    let twice = friends(&bob).await.join(&invitation, &JoinOptions::default()).await;
    assert!(matches!(&twice, Err(Error::AlreadyExists(why)) if why.contains("account remove")), "{twice:?}");

    // Members outlive a restart, and come back by themselves.
    point.restart().await;
    assert_eq!(presence(&point).await, [("bob".to_owned(), "offline".to_owned())]);
    let account = point.address.to_string();
    bob.account(&account).await.register().await.unwrap();
    until("bob is back", SOON, async || (presence(&point).await[0].1 == "online").then_some(())).await;

    point.ctl(&["friends", "remove", "bob"]);
    assert_eq!(presence(&point).await, []);
    bob.account(&account).await.register().await.unwrap();
    bob.account_is(&account, "failed", SOON).await;
    for phone in [bob, thief, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let lab = Lab::shared();
    let plain = Voipd::start(&lab, "plain", Config::at(lab.address())).await;
    let proxy = friends(&plain).await;
    assert!(!proxy.meeting_point().await.unwrap());
    let invited = proxy.invite("bob", &InviteOptions::default()).await;
    assert!(matches!(&invited, Err(Error::InvalidState(why)) if why.contains("[rendezvous]")), "{invited:?}");
    let joined = proxy.join("voipd-friend:bob@", &JoinOptions::default()).await;
    assert!(
        matches!(&joined, Err(Error::InvalidArgument(why)) if why.contains("copy the whole")),
        "{joined:?}"
    );
    let removed = proxy.remove("bob").await;
    assert!(
        matches!(&removed, Err(Error::InvalidArgument(why)) if why.contains("no friend 'bob'")),
        "{removed:?}"
    );

    let point = meeting_point(&lab, |config| config).await;
    let proxy = friends(&point).await;
    let invited = proxy.invite("Bob Smith", &InviteOptions::default()).await;
    assert!(
        matches!(&invited, Err(Error::InvalidArgument(why)) if why.contains("lower-case")),
        "{invited:?}"
    );
    let invited = proxy.invite("bob", &InviteOptions { lasts: Some(1) }).await;
    assert!(matches!(&invited, Err(Error::InvalidArgument(_))), "{invited:?}");
    // Nobody listens there any more.
    let invitation = proxy.invite("bob", &InviteOptions::default()).await.unwrap();
    point.stop().await;
    let joined = friends(&plain).await.join(&invitation, &JoinOptions::default()).await;
    assert!(matches!(&joined, Err(Error::Failed(why)) if why.contains("does not answer")), "{joined:?}");
    plain.stop().await;
}

#[tokio::test]
async fn friends_meet_over_tls_without_an_authority() {
    let lab = Lab::alone();
    let certificate = self_signed(&["meeting.point"], Validity::Good);
    let (chain, key) = (lab.path("own.pem"), lab.path("own.key"));
    std::fs::write(&chain, &certificate.chain).unwrap();
    std::fs::write(&key, &certificate.key).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let point = meeting_point(&lab, |config| {
        let tls = config
            .line("sip", format!("tls-certificate = \"{}\"", chain.display()))
            .line("sip", format!("tls-key = \"{}\"", key.display()));
        tls.line("sip", "tls-listen = [\"0.0.0.0:5061\"]")
    })
    .await;
    let alice = joined(&lab, &point, "alice").await;
    let bob = joined(&lab, &point, "bob").await;
    let account = alice.account(&point.address.to_string()).await;
    assert!(account.security().await.unwrap().starts_with("TLS"), "{}", account.security().await.unwrap());
    they_talk(&lab, &alice, &bob, "bob").await;
    let plain = |log: &str| log.lines().any(|line| line.contains("SIP ") && line.contains(" by UDP"));
    assert!(!plain(&alice.log()) && !plain(&bob.log()));
    for phone in [alice, bob, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn a_stranger_reaches_no_friend_and_nobody_through_us() {
    let lab = Lab::shared();
    let point = meeting_point(&lab, |config| config).await;
    let bob = joined(&lab, &point, "bob").await;
    // A telephone that has not joined.
    let stranger = Voipd::start(&lab, "stranger", Config::at(lab.address())).await;
    let call = stranger.dial(&format!("sip:bob@{}", point.address)).await;
    let (_, status) = call.ended().await;
    assert_eq!(status, 407);
    assert_eq!(bob.manager().await.calls().await.unwrap().len(), 0);
    for phone in [stranger, bob, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn who_owns_the_machine_is_a_friend_as_well() {
    let lab = Lab::alone();
    let point = meeting_point(&lab, |config| config).await;
    let invitation = point.ctl(&["friends", "invite", "owner"]);
    point.ctl(&["friends", "join", invitation.trim()]);
    let bob = joined(&lab, &point, "bob").await;
    they_talk(&lab, &point, &bob, "bob").await;
    they_talk(&lab, &bob, &point, "owner").await;
    for phone in [bob, point] {
        phone.stop().await;
    }
}
