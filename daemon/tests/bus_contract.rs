//! What the daemon serves against the contract's XML: properties, arguments, replies and signals, with their types.

#![allow(clippy::unwrap_used)]

mod desk;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use desk::{Desk, account, audio, call, conference, friends, invoke, nat, subscribe};
use futures_util::StreamExt;
use voipd::api::Update;
use voipd_agent::quality::{Cause, Flow, Warning};
use voipd_agent::view::{AccountState, CallId, CallState, Reason};
use voipd_audio::plan::Heard;
use voipd_dbus::{XML, names};
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};
use zbus_xml::{ArgDirection, Interface, Node};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

fn contract() -> Vec<Interface<'static>> {
    XML.iter().map(|(_, xml)| Node::from_reader(xml.as_bytes()).unwrap().interfaces()[0].to_owned()).collect()
}

/// The object on which the test looks at an interface.
fn object_of(interface: &str) -> &'static str {
    match interface {
        names::MANAGER => "/org/voipd",
        names::ACCOUNT => "/org/voipd/account/1",
        names::AUDIO => "/org/voipd/audio",
        names::NAT => "/org/voipd/nat",
        names::FRIENDS => "/org/voipd/friends",
        names::CONFERENCE => "/org/voipd/conference/2",
        _ => "/org/voipd/call/7",
    }
}

async fn desk() -> Desk {
    let mut desk = Desk::start().await;
    desk.tell(account(1, AccountState::Registered));
    desk.tell(call(7, CallState::Active));
    desk.tell(audio());
    desk.tell(nat());
    desk.tell(friends());
    desk.tell(conference(2, &[(7, true)]));
    desk.answer_everything();
    desk
}

fn emits(property: &zbus_xml::Property<'_>) -> bool {
    !property
        .annotations()
        .iter()
        .any(|a| a.name() == "org.freedesktop.DBus.Property.EmitsChangedSignal" && a.value() == "false")
}

fn signature(args: &[zbus_xml::Arg<'_>], direction: ArgDirection) -> String {
    args.iter().filter(|arg| arg.direction() == Some(direction)).map(|arg| arg.ty().to_string()).collect()
}

#[tokio::test]
async fn introspection_is_the_contract() {
    let desk = desk().await;
    for wanted in contract() {
        let path = object_of(wanted.name().as_str());
        let reply =
            invoke(&desk.client, path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).await;
        let xml: String = reply.unwrap().body().deserialize().unwrap();
        let (node, warnings) = Node::from_reader_with_warnings(xml.as_bytes()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let served = node.interfaces().iter().find(|i| i.name() == wanted.name()).expect(path);
        assert_eq!(served, &wanted);
    }
    let children = async |path: &str| {
        let reply =
            invoke(&desk.client, path, "org.freedesktop.DBus.Introspectable", "Introspect", &()).await;
        let xml: String = reply.unwrap().body().deserialize().unwrap();
        let node = Node::from_reader(xml.as_bytes()).unwrap();
        node.nodes().iter().filter_map(|node| node.name().map(ToOwned::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(children("/").await, ["org"]);
    assert_eq!(children("/org/voipd").await, ["nat", "call", "audio", "account", "friends", "conference"]);
    assert_eq!(children("/org/voipd/call").await, ["7"]);
    assert!(children("/org/voipd/call/7").await.is_empty());
}

#[tokio::test]
async fn properties_have_the_contracts_names_and_types() {
    let desk = desk().await;
    for interface in contract() {
        let name = interface.name();
        let path = object_of(name.as_str());
        let wanted: BTreeMap<String, String> =
            interface.properties().map(|p| (p.name().to_string(), p.ty().to_string())).collect();
        let reply = invoke(&desk.client, path, PROPERTIES, "GetAll", &name.as_str()).await.unwrap();
        let all: HashMap<String, OwnedVariant> = reply.body().deserialize().unwrap();
        let got: BTreeMap<String, String> =
            all.iter().map(|(name, value)| (name.clone(), value.value_signature().to_string())).collect();
        assert_eq!(got, wanted, "{name}");
        for (property, wanted) in &wanted {
            let one =
                invoke(&desk.client, path, PROPERTIES, "Get", &(name.as_str(), property)).await.unwrap();
            let one: OwnedVariant = one.body().deserialize().unwrap();
            assert_eq!(&one.value_signature().to_string(), wanted, "{name}.{property}");
        }
    }
}

#[tokio::test]
async fn objects_are_told_with_the_properties_that_emit_changes_and_no_others() {
    let desk = desk().await;
    let reply =
        invoke(&desk.client, "/org/voipd", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &())
            .await;
    let reply = reply.unwrap();
    let objects: HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>> =
        reply.body().deserialize().unwrap();
    let paths: BTreeSet<&str> = objects.keys().map(|path| path.as_str()).collect();
    assert_eq!(
        paths,
        BTreeSet::from([
            "/org/voipd/account/1",
            "/org/voipd/audio",
            "/org/voipd/call/7",
            "/org/voipd/conference/2",
            "/org/voipd/friends",
            "/org/voipd/nat"
        ])
    );
    for interface in contract().iter().filter(|interface| interface.name().as_str() != names::MANAGER) {
        let name = interface.name();
        let path = ObjectPath::try_from(object_of(name.as_str())).unwrap();
        let told: BTreeSet<&str> =
            objects[&OwnedObjectPath::from(path)][name.as_str()].keys().map(String::as_str).collect();
        let wanted: BTreeSet<String> =
            interface.properties().filter(|p| emits(p)).map(|p| p.name().to_string()).collect();
        assert_eq!(told, wanted.iter().map(String::as_str).collect(), "{name}");
    }
}

#[tokio::test]
async fn methods_take_and_answer_what_the_contract_says() {
    let desk = desk().await;
    let none = HashMap::<&str, Variant<'_>>::new;
    let call_path = || ObjectPath::from_static_str_unchecked("/org/voipd/call/7");
    for interface in contract() {
        let name = interface.name();
        let path = object_of(name.as_str());
        for method in interface.methods() {
            let member = method.name();
            // The wrong argument: the error names the right ones.
            let (error, sentence) =
                invoke(&desk.client, path, name.as_str(), member.as_str(), &1u8).await.unwrap_err();
            assert_eq!(error, "org.voipd.Error.InvalidArgument", "{name}.{member}");
            let wanted = signature(method.args(), ArgDirection::In);
            assert!(
                sentence.contains(&format!("(signature '{wanted}'), and was called with 'y'")),
                "{sentence}"
            );
            // The right ones.
            let (client, name, member) = (&desk.client, name.as_str(), member.as_str());
            let reply = match (member, wanted.as_str()) {
                (_, "") => invoke(client, path, name, member, &()).await,
                ("AddAccount", _) => {
                    let settings = HashMap::from([
                        ("name", Variant::from("work")),
                        ("address", Variant::from("sip:bob@example.org")),
                        ("expires", Variant::from(300u32)),
                        ("codecs", Variant::from(vec!["opus"])),
                        ("register", Variant::from(false)),
                    ]);
                    invoke(client, path, name, member, &settings).await
                }
                (_, "a{sv}") => invoke(client, path, name, member, &none()).await,
                (_, "sqa{sv}") => invoke(client, path, name, member, &("udp", 5060u16, none())).await,
                ("ConfigureDevice", _) => {
                    let settings = HashMap::from([("volume", Variant::from(50u32))]);
                    invoke(client, path, name, member, &("ringer", settings)).await
                }
                (_, "sa{sv}") => invoke(client, path, name, member, &("sip:bob@example.org", none())).await,
                ("Join" | "Leave", "o") => invoke(client, path, name, member, &call_path()).await,
                (_, "ob") => invoke(client, path, name, member, &(call_path(), true)).await,
                (_, "aoa{sv}") => invoke(client, path, name, member, &(vec![call_path()], none())).await,
                (_, "o") => {
                    let account = ObjectPath::from_static_str_unchecked("/org/voipd/account/1");
                    invoke(client, path, name, member, &account).await
                }
                (_, "ha{sv}") => {
                    let file = std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
                    invoke(client, path, name, member, &(zbus::OwnedFd::from(file), none())).await
                }
                ("SetCodec", _) => invoke(client, path, name, member, &"opus").await,
                ("Reject", _) => invoke(client, path, name, member, &"busy").await,
                (_, "s") => invoke(client, path, name, member, &"12#").await,
                (_, "ss") => invoke(client, path, name, member, &("ringer", "null")).await,
                (_, "u") => invoke(client, path, name, member, &60_000u32).await,
                other => panic!("a call of {other:?} is missing here"),
            };
            let reply = reply.unwrap();
            let got = reply.body().signature().to_string_no_parens();
            assert_eq!(got, signature(method.args(), ArgDirection::Out), "{name}.{member}");
        }
    }
}

#[tokio::test]
async fn signals_carry_what_the_contract_says() {
    let desk = desk().await;
    let mut messages = subscribe(&desk.client).await;
    invoke(&desk.client, object_of(names::AUDIO), names::AUDIO, "Watch", &100u32).await.unwrap();
    invoke(&desk.client, object_of(names::CALL), names::CALL_STATISTICS, "Watch", &100u32).await.unwrap();
    invoke(&desk.client, object_of(names::CALL), names::CALL_STATISTICS, "WatchActivity", &1u32)
        .await
        .unwrap();
    desk.tell(Update::Activity { call: CallId(7), heard: Heard::Near, talking: true, level_dbov: -20 });
    let warning = Warning { flow: Flow::Inbound, poor: true, opinion: 2.5, cause: Cause::Delay };
    desk.tell(Update::QualityChanged { call: CallId(7), warning });
    desk.tell(account(1, AccountState::Failed));
    desk.tell(Update::DtmfReceived { call: CallId(7), digit: '#', duration_ms: 100 });
    desk.tell(Update::CallStateChanged {
        call: CallId(7),
        old: CallState::Active,
        new: CallState::Ended,
        reason: Reason::NoCommonCodec,
        sip_status: 488,
    });
    let mut wanted: BTreeMap<(String, String), String> = contract()
        .iter()
        .flat_map(|interface| {
            let name = interface.name().to_string();
            interface
                .signals()
                .map(|s| {
                    (
                        (name.clone(), s.name().to_string()),
                        s.args().iter().map(|a| a.ty().to_string()).collect(),
                    )
                })
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(wanted.len() >= 5);
    while !wanted.is_empty() {
        let message = messages.next().await.unwrap().unwrap();
        let header = message.header();
        let Some((interface, member)) = header.interface().zip(header.member()) else { continue };
        if let Some(signature) = wanted.remove(&(interface.to_string(), member.to_string())) {
            assert_eq!(message.body().signature().to_string_no_parens(), signature, "{interface}.{member}");
        }
    }
}
