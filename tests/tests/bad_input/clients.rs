//! Clients of the bus that ask for what cannot be, or go away.

use serde::Serialize;
use voipd_dbus::names::{
    ACCOUNT, AUDIO, AUDIO_PATH, BUS_NAME, CALL, CALL_STATISTICS, CONFERENCE, FRIENDS, FRIENDS_PATH, MANAGER,
    ROOT_PATH,
};
use voipd_dbus::{DialOptions, ManagerProxy};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::reading;
use voipd_tests::{Config, Lab, SOON, Voipd, pause, until};
use zbus::wire::DynamicType;
use zbus::{Connection, DBusError, ObjectPath, Variant};

use super::stranger::Stranger;
use super::witness::{Witness, with_echo};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A client that says whatever it likes.
struct Client {
    connection: Connection,
}

impl Client {
    /// Calls a method; panics unless that fails. Answers the error's name, without the common beginning, and sentence.
    async fn fails(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &(impl Serialize + DynamicType),
    ) -> (String, String) {
        let called = self.connection.call_method(Some(BUS_NAME), path, Some(interface), member, body).await;
        match called {
            Err(zbus::Error::MethodError(name, sentence, _)) => {
                let name = name.as_str().trim_start_matches("org.voipd.Error.").to_owned();
                (name, sentence.unwrap_or_default())
            }
            Err(zbus::Error::FDO(error)) => {
                let name = error.name().as_str().trim_start_matches("org.freedesktop.DBus.Error.").to_owned();
                (name, error.description().unwrap_or_default().to_owned())
            }
            other => panic!("{member} on {path}: {other:?}"),
        }
    }

    /// As [`Client::fails`], with this error, and a sentence that tells a person something.
    async fn is_told(
        &self,
        error: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &(impl Serialize + DynamicType),
    ) -> String {
        let (name, sentence) = self.fails(path, interface, member, body).await;
        assert_eq!(name, error, "{member} on {path}: {sentence}");
        assert!(sentence.split_whitespace().count() >= 4, "{member} on {path}: {sentence}");
        sentence
    }
}

type Options<'o> = std::collections::HashMap<&'o str, Variant<'o>>;

fn none() -> Options<'static> {
    Options::new()
}

#[tokio::test]
async fn methods_with_wrong_types_are_refused_with_what_they_take() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let client = Client { connection: voipd.connection.clone() };
    let call = voipd.manager().await.calls().await.unwrap()[0].to_string();
    let account = voipd.manager().await.accounts().await.unwrap()[0].to_string();
    let wrong = "InvalidArgument";
    for (path, interface, member, takes) in [
        (ROOT_PATH, MANAGER, "Dial", "'sa{sv}'"),
        (ROOT_PATH, MANAGER, "AddAccount", "'a{sv}'"),
        (ROOT_PATH, MANAGER, "RemoveAccount", "'o'"),
        (&account, ACCOUNT, "Enable", "''"),
        (&account, ACCOUNT, "Disable", "''"),
        (&account, ACCOUNT, "Register", "''"),
        (&account, ACCOUNT, "Unregister", "''"),
        (&call, CALL, "Accept", "'a{sv}'"),
        (&call, CALL, "Reject", "'s'"),
        (&call, CALL, "Hangup", "''"),
        (&call, CALL, "Hold", "''"),
        (&call, CALL, "Resume", "'a{sv}'"),
        (&call, CALL, "Silence", "''"),
        (&call, CALL, "SendDtmf", "'s'"),
        (&call, CALL_STATISTICS, "Get", "''"),
        (&call, CALL_STATISTICS, "Watch", "'u'"),
        (&call, CALL_STATISTICS, "Unwatch", "''"),
        (AUDIO_PATH, AUDIO, "ListDevices", "''"),
        (AUDIO_PATH, AUDIO, "SelectDevice", "'ss'"),
        (AUDIO_PATH, AUDIO, "StartTest", "'a{sv}'"),
        (AUDIO_PATH, AUDIO, "StopTest", "''"),
        (AUDIO_PATH, AUDIO, "Watch", "'u'"),
        (AUDIO_PATH, AUDIO, "Unwatch", "''"),
        (FRIENDS_PATH, FRIENDS, "Invite", "'sa{sv}'"),
        (FRIENDS_PATH, FRIENDS, "Join", "'sa{sv}'"),
        (FRIENDS_PATH, FRIENDS, "Remove", "'s'"),
        (FRIENDS_PATH, FRIENDS, "List", "''"),
        (ROOT_PATH, PROPERTIES, "Get", "'ss'"),
        (ROOT_PATH, PROPERTIES, "GetAll", "'s'"),
        (ROOT_PATH, PROPERTIES, "Set", "'ssv'"),
    ] {
        // A type that no method takes, and a few too many of it.
        let sentence = client.is_told(wrong, path, interface, member, &(1_i64, vec![2_i16], 3.0)).await;
        assert!(sentence.contains(takes) && sentence.contains("'xand'"), "{sentence}");
    }
    for (member, key, value) in [
        ("Dial", "mix", Variant::from("yes")),
        ("Dial", "account", Variant::from(7_u32)),
        ("Dial", "play", Variant::from("/etc/passwd")),
        ("Dial", "recrod", Variant::from(true)),
    ] {
        let options = Options::from([(key, value)]);
        let sentence = client.is_told(wrong, ROOT_PATH, MANAGER, member, &("sip:a@127.0.0.1", options)).await;
        assert!(sentence.contains(key), "{sentence}");
    }
    for (settings, word) in [
        (Options::from([("name", Variant::from("a b")), ("address", Variant::from("sip:a@b"))]), "name"),
        (Options::from([("name", Variant::from("a")), ("address", Variant::from("b"))]), "address"),
        (
            Options::from([("name", Variant::from("a")), ("adress", Variant::from("sip:a@b"))]),
            "did you mean 'address'",
        ),
        (Options::from([("name", Variant::from(1_u32))]), "name"),
        (none(), "name"),
    ] {
        let sentence = client.is_told(wrong, ROOT_PATH, MANAGER, "AddAccount", &(settings,)).await;
        assert!(sentence.contains(word), "{sentence}");
    }
    for target in ["", "not an address", "sip:", "sip:a@b:99999", "mailto:a@b", "tel:+49", "h323:a@127.0.0.1"]
    {
        client.is_told(wrong, ROOT_PATH, MANAGER, "Dial", &(target, none())).await;
    }
    client.is_told(wrong, &call, CALL, "Reject", &("rude",)).await;
    client.is_told(wrong, &call, CALL, "SendDtmf", &("12x",)).await;
    client.is_told(wrong, &call, CALL, "SendDtmf", &("",)).await;
    client.is_told(wrong, &call, CALL, "SendDtmf", &("1".repeat(1000),)).await;
    client.is_told(wrong, &call, CALL_STATISTICS, "Watch", &(1_u32,)).await;
    client.is_told(wrong, AUDIO_PATH, AUDIO, "Watch", &(99_u32,)).await;
    client.is_told(wrong, AUDIO_PATH, AUDIO, "SelectDevice", &("nose", "null")).await;
    client.is_told("NoSuchDevice", AUDIO_PATH, AUDIO, "SelectDevice", &("input", "jackdaw:7")).await;
    client.is_told(wrong, &call, PROPERTIES, "Set", &(CALL, "Muted", Variant::from("yes"))).await;
    client
        .is_told(wrong, ROOT_PATH, PROPERTIES, "Set", &(MANAGER, "DoNotDisturb", Variant::from(1_u32)))
        .await;
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn calls_and_accounts_in_the_wrong_state_say_so() {
    let lab = Lab::shared();
    let peer = Stranger::new(&lab).await;
    let config = with_echo(&lab)
        .account(format!("name = \"off\"\naddress = \"sip:a@{}\"\nenabled = false", peer.address));
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let mut witness = Witness::call(&voipd).await;
    let client = Client { connection: voipd.connection.clone() };
    let wrong = "InvalidState";
    // Dialled, and nobody answers yet.
    let dialling = voipd.dial(&format!("sip:peer@{}", peer.address)).await;
    let path = dialling.path();
    client.is_told(wrong, &path, CALL, "Accept", &(none(),)).await;
    client.is_told(wrong, &path, CALL, "Reject", &("busy",)).await;
    client.is_told(wrong, &path, CALL, "Silence", &()).await;
    client.is_told(wrong, &path, CALL, "Hold", &()).await;
    client.is_told(wrong, &path, CALL, "SendDtmf", &("1",)).await;
    // Ringing here.
    let invite = peer.request("INVITE", "phone", voipd.address, 1, &peer.offer(6000));
    peer.send((voipd.address, 5060), invite.as_bytes()).await;
    let ringing = voipd.incoming().await;
    client.is_told(wrong, &ringing.path(), CALL, "Hold", &()).await;
    client.is_told(wrong, &ringing.path(), CALL, "Resume", &(none(),)).await;
    client.is_told(wrong, &ringing.path(), CALL, "SendDtmf", &("1",)).await;
    ringing.proxy.reject("declined").await.unwrap();
    // Ended.
    assert_eq!(ringing.ended().await, ("declined".to_owned(), 603));
    let path = ringing.path();
    client.is_told(wrong, &path, CALL, "Accept", &(none(),)).await;
    client.is_told(wrong, &path, CALL, "Reject", &("",)).await;
    client.is_told(wrong, &path, CALL, "Hangup", &()).await;
    client.is_told(wrong, &path, CALL, "Hold", &()).await;
    client.is_told(wrong, &path, CALL, "Resume", &(none(),)).await;
    client.is_told(wrong, &path, CALL, "Silence", &()).await;
    client.is_told(wrong, &path, CALL, "SendDtmf", &("1",)).await;
    client.is_told(wrong, &path, PROPERTIES, "Set", &(CALL, "Muted", Variant::from(true))).await;

    let account = async |name: &str| voipd.account(name).await.inner().path().to_string();
    let (off, direct) = (account("off").await, account("direct").await);
    client.is_told(wrong, &off, ACCOUNT, "Register", &()).await;
    client.is_told(wrong, &off, ACCOUNT, "Unregister", &()).await;
    client.is_told("InvalidArgument", &direct, ACCOUNT, "Register", &()).await;
    client.is_told("InvalidArgument", &direct, ACCOUNT, "Unregister", &()).await;
    let with =
        |account: &'static str| ("sip:a@127.0.0.1", Options::from([("account", Variant::from(account))]));
    client.is_told("NotReady", ROOT_PATH, MANAGER, "Dial", &with("off")).await;
    client.is_told("NoSuchAccount", ROOT_PATH, MANAGER, "Dial", &with("nobody")).await;
    for configured in [&off, &direct] {
        let path = ObjectPath::try_from(configured.as_str()).unwrap();
        client.is_told("NotPermitted", ROOT_PATH, MANAGER, "RemoveAccount", &(path,)).await;
    }
    let taken =
        Options::from([("name", Variant::from("off")), ("address", Variant::from("sip:a@192.0.2.1"))]);
    client.is_told("AlreadyExists", ROOT_PATH, MANAGER, "AddAccount", &(taken,)).await;
    let taken =
        Options::from([("name", Variant::from("direct")), ("address", Variant::from("sip:a@192.0.2.1"))]);
    client.fails(ROOT_PATH, MANAGER, "AddAccount", &(taken,)).await;
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn objects_members_and_properties_that_are_not_there_are_named() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let client = Client { connection: voipd.connection.clone() };
    for (error, path, interface, member) in [
        ("NoSuchCall", "/org/voipd/call/4711", CALL, "Hangup"),
        ("NoSuchCall", "/org/voipd/call/4711", CALL_STATISTICS, "Get"),
        ("NoSuchAccount", "/org/voipd/account/4711", ACCOUNT, "Enable"),
        ("UnknownObject", "/org/voipd/call/4711x", CALL, "Hangup"),
        ("NoSuchConference", "/org/voipd/conference/4711", CONFERENCE, "End"),
        ("UnknownInterface", "/org/voipd/conference/1", CALL, "Hangup"),
        ("UnknownObject", "/org/voipd/intercom/1", CALL, "Hangup"),
        ("UnknownObject", "/", MANAGER, "Dial"),
        ("UnknownInterface", ROOT_PATH, CALL, "Hangup"),
        ("UnknownInterface", ROOT_PATH, "org.voipd.Manager2", "Dial"),
        ("UnknownMethod", ROOT_PATH, MANAGER, "Fly"),
        ("UnknownMethod", AUDIO_PATH, AUDIO, "Explode"),
        ("UnknownMethod", ROOT_PATH, PROPERTIES, "Steal"),
    ] {
        client.is_told(error, path, interface, member, &()).await;
    }
    let missing = ObjectPath::try_from("/org/voipd/account/4711").unwrap();
    client.is_told("NoSuchAccount", ROOT_PATH, MANAGER, "RemoveAccount", &(missing,)).await;
    for (path, interface) in [(ROOT_PATH, MANAGER), (AUDIO_PATH, AUDIO), ("/org/voipd/account/1", ACCOUNT)] {
        client.is_told("UnknownProperty", path, PROPERTIES, "Get", &(interface, "Colour")).await;
    }
    for (path, interface, property) in [
        (ROOT_PATH, MANAGER, "Version"),
        (AUDIO_PATH, AUDIO, "Input"),
        ("/org/voipd/account/1", ACCOUNT, "Name"),
    ] {
        let set = (interface, property, Variant::from("x"));
        client.is_told("PropertyReadOnly", path, PROPERTIES, "Set", &set).await;
    }
    client.is_told("NoSuchCall", "/org/voipd/call/9", PROPERTIES, "Get", &(CALL, "State")).await;
    voipd.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_call_and_takes_its_watches() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let open_files = || std::fs::read_dir(format!("/proc/{}/fd", voipd.id())).unwrap().count();
    let before = open_files();
    let bus = voipd.bus();
    for _ in 0..20 {
        let client = zbus::connection::Builder::address(bus.as_str()).build().await.unwrap();
        let path = voipd.manager().await.calls().await.unwrap()[0].clone();
        for (path, interface) in [(path.as_str(), CALL_STATISTICS), (AUDIO_PATH, AUDIO)] {
            client.call_method(Some(BUS_NAME), path, Some(interface), "Watch", &(100_u32,)).await.unwrap();
        }
        // An answer that nobody waits for.
        let message = zbus::Message::method_call(AUDIO_PATH, "ListDevices");
        let message = message.destination(BUS_NAME).interface(AUDIO).build(&()).unwrap();
        client.send(&message).await.unwrap();
        drop(client);
    }
    // A call that was placed by someone who has left goes on.
    let client = zbus::connection::Builder::address(bus.as_str()).build().await.unwrap();
    let options = DialOptions { play: Some(reading(&speech(Speaker::Bob, 8000))), ..DialOptions::default() };
    let target = format!("sip:echo@{}", voipd.address);
    let path = ManagerProxy::new(&client).await.unwrap().dial(&target, &options).await.unwrap();
    drop(client);
    until("the call of a client that has left is active", SOON, async || {
        let get = ("org.voipd.Call1", "State");
        let state = voipd.connection.call_method(Some(BUS_NAME), &path, Some(PROPERTIES), "Get", &get).await;
        let state: zbus::OwnedVariant = state.unwrap().body().deserialize().unwrap();
        (String::try_from(state).unwrap() == "active").then_some(())
    })
    .await;
    pause(0.3).await;
    witness.goes_on().await;
    voipd.connection.call_method(Some(BUS_NAME), &path, Some(CALL), "Hangup", &()).await.unwrap();
    until("what was open for the clients is closed", SOON, async || (open_files() <= before).then_some(()))
        .await;
    voipd.stop().await;
}
