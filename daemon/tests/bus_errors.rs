//! Calls that cannot be: each ends in an error with a name and a sentence, and nothing reaches the driver.

mod desk;

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use desk::{Desk, account, answer, call, invoke};
use tokio::sync::mpsc;
use voipd::api::{ErrorKind, Request, RequestError};
use voipd::bus::{self, BusError};
use voipd::config::Scope;
use voipd_agent::view::{AccountState, CallState};
use voipd_dbus::names;
use zbus::{Fd, ObjectPath, Variant};

type Options = HashMap<&'static str, Variant<'static>>;

async fn desk() -> Desk {
    let desk = Desk::start().await;
    desk.tell(account(1, AccountState::Registered));
    desk.tell(call(1, CallState::Active));
    desk.tell(desk::audio());
    desk.tell(desk::nat());
    desk
}

/// The sentence of an `org.voipd.Error.InvalidArgument`.
#[track_caller]
fn invalid(result: Result<zbus::Message, (String, String)>) -> String {
    let (name, sentence) = result.expect_err("the call is wrong");
    assert_eq!(name, "org.voipd.Error.InvalidArgument", "{sentence}");
    sentence
}

#[tokio::test]
async fn options_of_the_wrong_type_or_name_are_named() {
    let mut desk = desk().await;
    let dial = async |key: &'static str, value: Variant<'static>| {
        let options = Options::from([(key, value)]);
        invalid(
            invoke(&desk.client, "/org/voipd", names::MANAGER, "Dial", &("sip:b@c.example", options)).await,
        )
    };
    assert_eq!(
        dial("mix", "yes".into()).await,
        "the option 'mix' must be a boolean (b), not a value of type 's'"
    );
    assert!(dial("play", "tone.wav".into()).await.contains("'play' must be an open file (h)"));
    assert!(dial("account", 1u32.into()).await.contains("name (s) or path (o)"));
    assert_eq!(dial("mixx", true.into()).await, "there is no option 'mixx': did you mean 'mix'?");
    assert_eq!(
        dial("record-format", "mp3".into()).await,
        "the option 'record-format' cannot be 'mp3': it is one of wav, ogg, flac"
    );
    let known = "the options are account, play, record, record-format, mix";
    assert!(dial("colour", 1u8.into()).await.contains(known));
    let long = "x".repeat(100_000);
    let options = HashMap::from([(long.as_str(), Variant::from(1u8))]);
    let sentence = invalid(
        invoke(&desk.client, "/org/voipd", names::MANAGER, "Dial", &("sip:b@c.example", options)).await,
    );
    assert!(sentence.len() < 300);
    assert!(desk.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_account_is_held_to_the_rules_of_the_configuration() {
    let mut desk = desk().await;
    let add = async |settings: Options| {
        invalid(invoke(&desk.client, "/org/voipd", names::MANAGER, "AddAccount", &settings).await)
    };
    let sentence = add(Options::from([
        ("name", "work".into()),
        ("address", "sip:a@b.example".into()),
        ("expires", "600".into()),
        ("codecs", vec![1u32].into()),
        ("adress", "x".into()),
        ("password-file", "/etc/shadow".into()),
    ]))
    .await;
    for part in [
        "expires must be an unsigned 32-bit integer (u), not a string",
        "codecs must be an array of strings (as), not a value of type 'au'",
        "adress is not a key here: did you mean 'address'?",
        "password-file is not a key here",
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
    let secret = add(Options::from([("name", "work".into()), ("password", vec!["geheim"].into())])).await;
    assert!(!secret.contains("geheim"), "{secret}");
    assert!(desk.requests.try_recv().is_err());
}

#[tokio::test]
async fn what_is_not_there_is_said_not_to_be() {
    let desk = desk().await;
    let client = &desk.client;
    let error = async |path: &str, interface: &str, member: &str| {
        invoke(client, path, interface, member, &()).await.unwrap_err().0
    };
    assert_eq!(error("/org/voipd/call/99", names::CALL, "Hangup").await, "org.voipd.Error.NoSuchCall");
    assert_eq!(
        error("/org/voipd/account/99", names::ACCOUNT, "Enable").await,
        "org.voipd.Error.NoSuchAccount"
    );
    let standard = |name: &str| format!("org.freedesktop.DBus.Error.{name}");
    assert_eq!(error("/org/voipd/call/01", names::CALL, "Hangup").await, standard("UnknownObject"));
    assert_eq!(error("/org/voipd/call/1", names::ACCOUNT, "Enable").await, standard("UnknownInterface"));
    assert_eq!(error("/org/voipd/call/1", names::CALL, "Explode").await, standard("UnknownMethod"));
    assert_eq!(
        error("/nowhere", "org.freedesktop.DBus.Introspectable", "Introspect").await,
        standard("UnknownObject")
    );
    assert!(invoke(client, "/nowhere", "org.freedesktop.DBus.Peer", "Ping", &()).await.is_ok());
    let properties = "org.freedesktop.DBus.Properties";
    let get = invoke(client, "/org/voipd/call/1", properties, "Get", &(names::CALL, "Colour")).await;
    assert_eq!(get.unwrap_err().0, standard("UnknownProperty"));
    let gone = invoke(client, "/org/voipd/call/99", properties, "GetAll", &names::CALL).await;
    assert_eq!(gone.unwrap_err().0, "org.voipd.Error.NoSuchCall");
    let account = ObjectPath::from_static_str_unchecked("/org/voipd/call/1");
    let remove = invoke(client, "/org/voipd", names::MANAGER, "RemoveAccount", &account).await;
    assert_eq!(remove.unwrap_err().0, "org.voipd.Error.NoSuchAccount");
}

#[tokio::test]
async fn only_writable_properties_are_written_and_only_with_their_type() {
    let desk = desk().await;
    let set = async |path: &str, interface: &str, property: &str, value: Variant<'static>| {
        let body = (interface, property, value);
        invoke(&desk.client, path, "org.freedesktop.DBus.Properties", "Set", &body).await
    };
    let call = "/org/voipd/call/1";
    assert!(invalid(set(call, names::CALL, "Muted", "yes".into()).await).contains("boolean (b)"));
    assert!(
        invalid(set("/org/voipd", names::MANAGER, "DoNotDisturb", 1u32.into()).await).contains("boolean (b)")
    );
    let (name, _) = set(call, names::CALL, "State", "ended".into()).await.unwrap_err();
    assert_eq!(name, "org.freedesktop.DBus.Error.PropertyReadOnly");
}

#[tokio::test]
async fn the_drivers_refusal_reaches_the_caller_with_its_name_and_sentence() {
    let mut desk = desk().await;
    let client = desk.client.clone();
    let accept = tokio::spawn(async move {
        invoke(&client, "/org/voipd/call/1", names::CALL, "Accept", &Options::new()).await
    });
    let Request::Accept { reply, .. } = desk.request().await else { panic!() };
    let message = "the call is active: only an incoming one can be accepted".to_owned();
    desk.tell(answer(reply, Err(RequestError { kind: ErrorKind::InvalidState, message: message.clone() })));
    assert_eq!(accept.await.unwrap().unwrap_err(), ("org.voipd.Error.InvalidState".to_owned(), message));
}

#[tokio::test]
async fn values_out_of_range_are_refused() {
    let desk = desk().await;
    let client = &desk.client;
    let (call, audio) = ("/org/voipd/call/1", "/org/voipd/audio");
    assert!(invalid(invoke(client, call, names::CALL, "Reject", &"later").await).contains("'busy'"));
    assert!(invalid(invoke(client, call, names::CALL, "SetCodec", &"G729").await).contains("opus"));
    assert!(invalid(invoke(client, call, names::CALL, "SendDtmf", &"1".repeat(129)).await).contains("128"));
    assert!(
        invalid(invoke(client, call, names::CALL_STATISTICS, "Watch", &99u32).await).contains("100 to 60000")
    );
    let configure = async |role: &'static str, key: &'static str, value: Variant<'static>| {
        let settings = Options::from([(key, value)]);
        invalid(invoke(client, audio, names::AUDIO, "ConfigureDevice", &(role, settings)).await)
    };
    assert!(configure("nose", "muted", true.into()).await.contains("'ringer'"));
    assert_eq!(configure("input", "volume", 151u32.into()).await, "the volume is 0 to 150 per cent");
    assert!(configure("input", "muted", "yes".into()).await.contains("must be a boolean (b)"));
    assert!(configure("input", "echo", true.into()).await.contains("echo-cancellation"));
    assert!(
        invalid(invoke(client, audio, names::AUDIO, "SelectDevice", &("nose", "null")).await)
            .contains("ringer")
    );
    assert!(
        invalid(invoke(client, audio, names::AUDIO, "SelectDevice", &("input", "file:a.wav")).await)
            .contains("whole path")
    );
    let mapping = async |protocol: &str, port: u16, key: &'static str, value: u32| {
        let options = Options::from([(key, value.into())]);
        let body = (protocol, port, options);
        invalid(invoke(client, names::NAT_PATH, names::NAT, "AddMapping", &body).await)
    };
    assert!(mapping("sctp", 5060, "lifetime", 600).await.contains("'tcp'"));
    assert!(mapping("udp", 0, "lifetime", 600).await.contains("1 to 65535"));
    assert!(mapping("udp", 5060, "lifetime", 59).await.contains("60 to"));
    assert!(mapping("udp", 5060, "external-port", 65_536).await.contains("1 to 65535"));
    assert!(mapping("udp", 5060, "externalport", 1).await.contains("did you mean 'external-port'"));
    let target = ("x".repeat(2000), Options::new());
    assert!(invalid(invoke(client, "/org/voipd", names::MANAGER, "Dial", &target).await).contains("target"));
}

#[tokio::test]
async fn too_many_requests_are_refused_and_the_bus_goes_on() {
    let desk = desk().await;
    let calls: Vec<_> = (0..400)
        .map(|_| {
            let client = desk.client.clone();
            tokio::spawn(async move { invoke(&client, "/org/voipd/call/1", names::CALL, "Hold", &()).await })
        })
        .collect();
    // The driver is silent: the first are queued, the others refused.
    let refused = async {
        let mut refused = 0;
        for call in calls.into_iter().skip(64) {
            let (name, _) = call.await.unwrap().unwrap_err();
            assert_eq!(name, "org.voipd.Error.LimitReached");
            refused += 1;
        }
        refused
    };
    assert_eq!(refused.await, 400 - 64);
    assert!(invoke(&desk.client, "/org/voipd", "org.freedesktop.DBus.Peer", "Ping", &()).await.is_ok());
}

#[tokio::test]
async fn what_is_refused_for_too_much_unanswered_never_reaches_the_driver() {
    let mut desk = desk().await;
    let (mut taken, mut refused) = (Vec::new(), 0);
    // A driver that takes every request and answers none.
    for _ in 0..300 {
        let client = desk.client.clone();
        let mut call =
            tokio::spawn(async move { invoke(&client, "/org/voipd/call/1", names::CALL, "Hold", &()).await });
        tokio::select! {
            request = desk.requests.recv() => taken.push((request, call)),
            answer = &mut call => {
                assert_eq!(answer.unwrap().unwrap_err().0, "org.voipd.Error.LimitReached");
                refused += 1;
            }
        }
    }
    assert_eq!((taken.len(), refused), (256, 44));
}

#[tokio::test]
async fn a_file_that_is_passed_by_mistake_is_refused_and_closed() {
    let desk = desk().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let options = Options::from([("mix", Fd::from(OwnedFd::from(writer)).into())]);
    assert!(
        invalid(invoke(&desk.client, "/org/voipd/call/1", names::CALL, "Resume", &options).await)
            .contains("'h'")
    );
    drop(options);
    let end = tokio::task::spawn_blocking(move || std::io::Read::read(&mut reader, &mut [0; 1]).unwrap());
    assert_eq!(end.await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_daemon_is_told_that_there_is_one() {
    let desk = desk().await;
    let (requests, _requests) = mpsc::channel(1);
    let (_updates, updates) = mpsc::unbounded_channel();
    let second = bus::connect_at(&desk.private.address, Scope::Session, false, requests, updates).await;
    let error = second.unwrap_err();
    assert!(matches!(error, BusError::NameTaken(Scope::Session)));
    assert!(error.to_string().contains("another voipd"), "{error}");
    assert!(invoke(&desk.client, "/org/voipd", "org.freedesktop.DBus.Peer", "Ping", &()).await.is_ok());
}

#[tokio::test]
async fn no_bus_and_a_lost_bus_are_told() {
    let (requests, _requests) = mpsc::channel(1);
    let (_updates, updates) = mpsc::unbounded_channel();
    let nowhere =
        bus::connect_at("unix:path=/nonexistent/bus", Scope::System, false, requests, updates).await;
    assert!(matches!(nowhere, Err(BusError::Unreachable { .. })));

    let mut desk = desk().await;
    desk.private.stop();
    desk.bus.lost().await;
}

#[tokio::test]
async fn a_stopping_daemon_writes_everything_and_frees_the_name() {
    let mut desk = desk().await;
    let client = desk.client.clone();
    let hold =
        tokio::spawn(async move { invoke(&client, "/org/voipd/call/1", names::CALL, "Hold", &()).await });
    let Request::Hold { reply, .. } = desk.request().await else { panic!() };
    drop(reply);
    drop(desk.updates);
    drop(desk.requests);
    desk.bus.close().await;
    assert_eq!(hold.await.unwrap().unwrap_err().0, "org.voipd.Error.NotReady");
    let dbus = zbus::fdo::DBusProxy::new(&desk.client).await.unwrap();
    while dbus.name_has_owner(names::BUS_NAME.try_into().unwrap()).await.unwrap() {
        tokio::task::yield_now().await;
    }
}
