//! A meeting point of one's own: invitations, calls between friends, and strangers who stay outside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use voipd_dbus::friends::{InviteOptions, JoinOptions};
use voipd_dbus::{Dict, Error, FriendsProxy, NatProxy};
use voipd_tests::authority::{Validity, self_signed};
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, pause, timely, until};

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

fn hexadecimal(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A telephone that joins as `name` with an account of its own making, whose media takes relays alone
/// (docs/rendezvous.md, "How joining works").
async fn joined_by_relay(lab: &Lab, point: &Voipd, name: &str) -> Voipd {
    let invitation = point.ctl(&["friends", "invite", name]);
    let field = |name: &str| {
        let mut fields = invitation.trim().split(';');
        fields.find_map(|field| field.strip_prefix(name)).unwrap().to_owned()
    };
    let key = hexadecimal(&format!("voipd invitation:{}", field("key=")));
    let password = hexadecimal(&format!("voipd friend:{key}:salt"));
    let (domain, transport) = (point.address, field("by="));
    let account = format!(
        "name = \"friends\"\naddress = \"sip:{name}@{domain}\"\ntransport = \"{transport}\"\nallow-md5 = false\n\
         auth-user = \"{name}.salt\"\npassword = \"{password}\"\nrealm = \"{domain}\"\nice = \"relay\"\nrelays = []"
    );
    let phone = Voipd::start(lab, name, Config::at(lab.address()).account(account)).await;
    let relays = [format!("turn:{domain}"), format!("turn:{domain}?transport=tcp")];
    let accounts = async || phone.manager().await.accounts().await.unwrap().len();
    until("the account is there", SOON, async || (accounts().await == 2).then_some(())).await;
    let account = phone.account("friends").await;
    until("the meeting point lends its relay", SOON, async || {
        (account.relays().await.unwrap() == relays).then_some(())
    })
    .await;
    phone
}

/// Who is there, as the meeting point sees it.
async fn presence(voipd: &Voipd) -> Vec<(String, String)> {
    let list = friends(voipd).await.list().await.unwrap();
    list.iter().map(|friend| (text(friend, "name"), text(friend, "presence"))).collect()
}

/// Two people talk, and each hears all that the other says.
async fn they_talk(lab: &Lab, caller: &Voipd, callee: &Voipd, target: &str) {
    they_talk_by(lab, caller, callee, target, false).await;
}

/// The same, all by way of a relay or not.
async fn they_talk_by(lab: &Lab, caller: &Voipd, callee: &Voipd, target: &str, relayed: bool) {
    let (alice, bob) = (speech(Speaker::Alice, 48_000), speech(Speaker::Bob, 48_000));
    let (by_alice, by_bob) = (lab.path("heard-by-alice.wav"), lab.path("heard-by-bob.wav"));
    let call = caller.dial_speaking(target, &alice, &by_alice).await;
    let answered = callee.incoming().await;
    answered.accept_speaking(&bob, &by_bob).await;
    call.is("active").await;
    answered.is("active").await;
    if relayed {
        for call in [&call, &answered] {
            assert_eq!(call.way().await, ["relay", "relay"]);
        }
    }
    pause(Sound::load(&alice).seconds().max(Sound::load(&bob).seconds()) + 0.7).await;
    for call in [&call, &answered] {
        call.assert_no_loss("a call between friends").await;
    }
    call.hang_up().await;
    assert_eq!(answered.ended().await.0, "remote");
    for (said, heard, what) in [(&bob, &by_alice, "the caller"), (&alice, &by_bob, "the callee")] {
        compare(&Sound::load(said), &Sound::load(heard), Codec::Perceptual).assert_heard(what, 0.88);
    }
}

#[timely]
async fn friends_join_and_call_each_other_by_name() {
    let lab = Lab::alone();
    let point = meeting_point(&lab, |config| config).await;
    assert_eq!(friends(&point).await.address().await.unwrap(), point.address.to_string());
    let alice = joined(&lab, &point, "alice").await;
    let bob = joined(&lab, &point, "bob").await;
    let there = [("alice", "online"), ("bob", "online")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(presence(&point).await, there);

    // Who has never talked to her is nobody that she may see.
    assert_eq!(presence(&alice).await, []);
    they_talk(&lab, &alice, &bob, "bob").await;
    assert_eq!(presence(&alice).await, [("bob".to_owned(), "online".to_owned())]);
    assert_eq!(presence(&bob).await, [("alice".to_owned(), "online".to_owned())]);
    let shown = alice.ctl(&["friends"]);
    assert!(shown.contains(&format!("sip:bob@{}", point.address)) && shown.contains("online"), "{shown}");
    // All signalling went by the meeting point.
    let straight = format!("SIP to {}:5060", bob.address);
    assert!(!alice.log().contains(&straight), "{}", alice.log());

    bob.stop().await;
    until("bob is gone", SOON, async || (presence(&point).await[1].1 == "offline").then_some(())).await;
    assert_eq!(presence(&alice).await, [("bob".to_owned(), "offline".to_owned())]);
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

    // Members outlive a restart, and come back by themselves, some at once.
    point.restart().await;
    let [(name, _)] = presence(&point).await.try_into().unwrap();
    assert_eq!(name, "bob");
    until("bob is back", SOON, async || (presence(&point).await[0].1 == "online").then_some(())).await;
    let account = point.address.to_string();

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

/// A meeting point that vouches for itself; its certificate and key are in the files.
async fn tls_meeting_point(lab: &Lab) -> (Voipd, [PathBuf; 2]) {
    let files = [lab.path("own.pem"), lab.path("own.key")];
    vouch_for_itself(&files);
    let point = meeting_point(lab, |config| {
        let tls = config
            .line("sip", format!("tls-certificate = \"{}\"", files[0].display()))
            .line("sip", format!("tls-key = \"{}\"", files[1].display()));
        tls.line("sip", "tls-listen = [\"0.0.0.0:5061\"]")
    })
    .await;
    (point, files)
}

/// Puts a new certificate and its key into the files.
fn vouch_for_itself([chain, key]: &[PathBuf; 2]) {
    let certificate = self_signed(&["meeting.point"], Validity::Good);
    std::fs::write(chain, &certificate.chain).unwrap();
    std::fs::write(key, &certificate.key).unwrap();
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[timely]
async fn friends_meet_over_tls_without_an_authority() {
    let lab = Lab::alone();
    let (point, _) = tls_meeting_point(&lab).await;
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
async fn an_invitation_names_the_certificate_that_is_shown_now() {
    let lab = Lab::alone();
    let (point, files) = tls_meeting_point(&lab).await;
    vouch_for_itself(&files);
    until("the new certificate is used", SOON, async || {
        point.log().contains("is used from now on").then_some(())
    })
    .await;
    let alice = joined(&lab, &point, "alice").await;
    for phone in [alice, point] {
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

#[timely]
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

#[timely]
async fn friends_whom_nothing_else_connects_talk_by_the_meeting_points_relay() {
    let lab = Lab::alone();
    let point = meeting_point(&lab, |config| {
        let config = config.line("rendezvous", "relay = true");
        config.line("rendezvous", "relay-networks = [\"127.0.0.0/8\"]")
    })
    .await;
    let alice = joined_by_relay(&lab, &point, "alice").await;
    let bob = joined_by_relay(&lab, &point, "bob").await;
    they_talk_by(&lab, &alice, &bob, "bob", true).await;

    // Who is no friend gets nothing: Allocate (RFC 8656 section 7) is answered 401, of 20 bytes and four attributes.
    let stranger = UdpSocket::bind((lab.address(), 0)).await.unwrap();
    let mut allocate = vec![0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42];
    allocate.extend([7; 12]);
    allocate.extend([0, 0x19, 0, 4, 17, 0, 0, 0]);
    stranger.send_to(&allocate, SocketAddr::from((point.address, 3478))).await.unwrap();
    let mut answer = [0; 512];
    let (length, _) =
        timeout(Duration::from_secs(15), stranger.recv_from(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[..2], [1, 0x13], "{:x?}", &answer[..length]);
    assert!(answer[20..length].starts_with(&[0, 9]) && answer[26..28] == [4, 1], "{:x?}", &answer[..length]);
    for phone in [alice, bob, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn a_call_goes_on_when_the_meeting_point_restarts() {
    let lab = Lab::shared();
    let mut point = meeting_point(&lab, |config| config).await;
    let alice = joined(&lab, &point, "alice").await;
    let bob = joined(&lab, &point, "bob").await;
    let call = alice.dial("bob").await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    answered.is("active").await;
    point.restart().await;
    let account = point.address.to_string();
    for phone in [&alice, &bob] {
        // By itself it may take its time: nobody knows how long the other end is away.
        phone.account(&account).await.register().await.unwrap();
    }
    let there = [("alice", "online"), ("bob", "online")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    until("both are back", SOON, async || (presence(&point).await == there).then_some(())).await;
    // What either side asks for gets to the other one.
    answered.hold().await;
    until("the caller is held", SOON, async || call.proxy.remote_hold().await.unwrap().then_some(())).await;
    answered.resume().await;
    call.is("active").await;
    call.hang_up().await;
    assert_eq!(answered.ended().await.0, "remote");
    for phone in [alice, bob, point] {
        phone.stop().await;
    }
}

/// One calls and the other answers: from then on they know each other.
async fn they_meet(caller: &Voipd, callee: &Voipd, target: &str) {
    let call = caller.dial(target).await;
    let answered = callee.incoming().await;
    answered.accept().await;
    call.is("active").await;
    call.hang_up().await;
    assert_eq!(answered.ended().await.0, "remote");
}

/// The relays that a telephone knows: URI, state, who lends it, to whom it is offered.
async fn relays(voipd: &Voipd) -> Vec<[String; 4]> {
    let nat = NatProxy::new(&voipd.connection).await.unwrap();
    let relays = nat.relays().await.unwrap();
    let row = |relay: &Dict| ["uri", "state", "lent-by", "offered-to"].map(|key| text(relay, key));
    relays.iter().map(row).collect()
}

#[timely]
async fn a_friends_relay_is_found_tried_lent_to_contacts_and_withdrawn_with_him() {
    let lab = Lab::alone();
    let near = "relay-networks = [\"127.0.0.0/8\"]";
    let point = meeting_point(&lab, |config| config.line("rendezvous", near)).await;
    let alice = joined(&lab, &point, "alice").await;
    let carol = joined(&lab, &point, "carol").await;
    let offering = |config: Config| config.line("rendezvous", "offer-relay = true");
    let lender =
        Voipd::start(&lab, "bob", offering(Config::at(lab.address()).line("rendezvous", near))).await;
    let invitation = point.ctl(&["friends", "invite", "bob"]);
    lender.ctl(&["friends", "join", invitation.trim()]);
    let uri = format!("turn:{}", lender.address);

    // The meeting point has been relayed there, and the lender is told.
    until("the relay is lent", SOON, async || {
        let shown = point.ctl(&["friends"]);
        shown.lines().any(|line| line.contains("bob") && line.trim().ends_with(&uri)).then_some(())
    })
    .await;
    let account = point.address.to_string();
    lender.account(&account).await.register().await.unwrap();
    let ours = [uri.clone(), "reachable".into(), String::new(), point.address.to_string()];
    until("the lender knows", SOON, async || (relays(&lender).await == [ours.clone()]).then_some(())).await;

    // Contacts alone hear of it.
    they_meet(&alice, &lender, "bob").await;
    assert_eq!(presence(&carol).await, []);
    assert_eq!(presence(&alice).await, [("bob".to_owned(), "online".to_owned())]);
    let lent = [uri.clone(), "reachable".into(), "bob".into(), String::new()];
    until("alice has measured it", SOON, async || (relays(&alice).await == [lent.clone()]).then_some(()))
        .await;
    assert_eq!(relays(&carol).await, Vec::<[String; 4]>::new());
    assert!(alice.ctl(&["nat"]).contains("lent by bob"), "{}", alice.ctl(&["nat"]));
    assert!(alice.ctl(&["friends"]).contains(&uri), "{}", alice.ctl(&["friends"]));

    // Carol gets to know bob, and with him his relay.
    they_meet(&carol, &lender, "bob").await;
    assert_eq!(presence(&carol).await.len(), 1);
    until("carol has measured it", SOON, async || (relays(&carol).await == [lent.clone()]).then_some(()))
        .await;

    // It goes with him.
    lender.stop().await;
    until("bob is gone", SOON, async || {
        let gone = presence(&alice).await == [("bob".to_owned(), "offline".to_owned())];
        (gone && relays(&alice).await.is_empty()).then_some(())
    })
    .await;
    for phone in [alice, carol, point] {
        phone.stop().await;
    }
}

#[tokio::test]
async fn a_relay_that_is_not_what_it_is_said_to_be_is_not_lent() {
    let lab = Lab::shared();
    // The meeting point lends nothing at addresses that not everybody reaches, whatever the lender thinks of them.
    let point = meeting_point(&lab, |config| config).await;
    let wide = |config: Config| {
        let config = config.line("rendezvous", "offer-relay = true");
        config.line("rendezvous", "relay-networks = [\"127.0.0.0/8\"]")
    };
    let account = point.address.to_string();
    let refused = async |phone: &Voipd, reason: &str| {
        until("the offer is refused", SOON, async || {
            let shown = phone.ctl(&["nat"]);
            shown.contains(reason).then_some(())
        })
        .await;
    };
    let lender = Voipd::start(&lab, "lender", wide(Config::at(lab.address()))).await;
    let invitation = point.ctl(&["friends", "invite", "lender"]);
    lender.ctl(&["friends", "join", invitation.trim()]);
    until("the meeting point has seen through it", SOON, async || {
        point.ctl(&["friends"]).contains("is no public address").then_some(())
    })
    .await;
    lender.account(&account).await.register().await.unwrap();
    refused(&lender, "is no public address").await;
    assert!(point.ctl(&["friends"]).contains("refused"), "{}", point.ctl(&["friends"]));

    // One who names another machine's address is seen through, and one without a public address offers nothing.
    let elsewhere = format!("relay-address = \"{}\"", lab.address());
    let liar =
        Voipd::start(&lab, "liar", wide(Config::at(lab.address())).line("rendezvous", elsewhere)).await;
    let invitation = point.ctl(&["friends", "invite", "liar"]);
    liar.ctl(&["friends", "join", invitation.trim()]);
    refused(&liar, "there is a NAT between").await;
    let plain = Config::at(lab.address()).line("rendezvous", "offer-relay = true");
    let inside = Voipd::start(&lab, "inside", plain).await;
    let invitation = point.ctl(&["friends", "invite", "inside"]);
    inside.ctl(&["friends", "join", invitation.trim()]);
    refused(&inside, "is no public address").await;
    for phone in [lender, liar, inside, point] {
        phone.stop().await;
    }
}
