//! The proxies against the XML: every member is used over a real connection, whose far end answers as the XML says.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::net::UnixStream;

use futures_util::StreamExt;
use voipd_dbus::friends::{InviteOptions, JoinOptions};
use voipd_dbus::{
    AcceptOptions, AccountProxy, AccountSettings, AudioOptions, AudioProxy, CallProxy, CallStatisticsProxy,
    ConferenceOptions, ConferenceProxy, DeviceSettings, DialOptions, FriendsProxy, ManagerProxy,
    MappingOptions, NatProxy, PlayOptions, RecordOptions, ResumeOptions, TestOptions, TraceOptions, XML,
};
use zbus::wire::{Array, Dict as DictValue, Structure, StructureBuilder};
use zbus::{
    Connection, Guid, Message, MessageStream, ObjectPath, OwnedFd, Signature, Variant, connection, message,
};
use zbus_xml::{ArgDirection, Interface, Node};

fn contract() -> Vec<Interface<'static>> {
    XML.iter()
        .map(|(name, xml)| Node::from_reader(xml.as_bytes()).expect(name).interfaces()[0].to_owned())
        .collect()
}

/// Some value of a type.
fn sample(signature: &Signature) -> Variant<'static> {
    match signature {
        Signature::Bool => true.into(),
        Signature::U16 => 7u16.into(),
        Signature::I32 => (-7i32).into(),
        Signature::U32 => 7u32.into(),
        Signature::U64 => 7u64.into(),
        Signature::F64 => 0.5f64.into(),
        Signature::Str => "text".into(),
        Signature::ObjectPath => ObjectPath::from_static_str_unchecked("/org/voipd/call/7").into(),
        Signature::Fd => {
            let file = std::os::fd::OwnedFd::from(File::open("/dev/null").unwrap());
            Variant::Fd(file.into())
        }
        Signature::Variant => Variant::Variant(Box::new(7u32.into())),
        Signature::Array(child) => {
            let mut array = Array::new(child.signature());
            array.append(sample(child.signature())).unwrap();
            array.into()
        }
        Signature::Dict { key, value } => {
            let mut dict = DictValue::new(key.signature(), value.signature());
            dict.append(sample(key.signature()), sample(value.signature())).unwrap();
            dict.into()
        }
        other => panic!("no sample of {other}"),
    }
}

fn body<'s>(signatures: impl Iterator<Item = &'s Signature>) -> Option<Structure<'static>> {
    let mut builder = StructureBuilder::new();
    signatures.for_each(|s| builder.push_value(sample(s)));
    builder.build().ok()
}

fn bare(signature: &Signature) -> String {
    signature.to_string_no_parens()
}

/// Answers one call as the XML says and notes which member it was for; panics where the caller strays from the XML.
fn answer(contract: &[Interface<'static>], call: &Message, used: &mut BTreeSet<String>) -> Message {
    let header = call.header();
    let (interface, member) = (header.interface().unwrap().as_str(), header.member().unwrap().as_str());
    let find =
        |name: &str| contract.iter().find(|i| i.name().as_str() == name).unwrap_or_else(|| panic!("{name}"));
    let reply = Message::method_return(&header);

    if interface == "org.freedesktop.DBus.Properties" {
        let call_body = call.body();
        let (owner, name, value) = match member {
            "Get" => {
                let (owner, name): (String, String) = call_body.deserialize().unwrap();
                (owner, name, None)
            }
            "Set" => {
                let (owner, name, value): (String, String, Variant<'_>) = call_body.deserialize().unwrap();
                let signature = value.value_signature().clone();
                (owner, name, Some(signature))
            }
            other => panic!("{other} is not expected of an uncached proxy"),
        };
        let property = find(&owner).properties().find(|p| p.name().as_str() == name);
        let property = property.unwrap_or_else(|| panic!("{owner} has no property {name}"));
        used.insert(format!("{member} {owner}.{name}"));
        return match value {
            None => reply.build(&sample(property.ty())).unwrap(),
            Some(signature) => {
                assert!(property.access().write() && *property.ty() == signature, "{owner}.{name}");
                reply.build(&()).unwrap()
            }
        };
    }

    let method = find(interface).methods().find(|m| m.name().as_str() == member);
    let method = method.unwrap_or_else(|| panic!("{interface} has no method {member}"));
    let of =
        |direction| method.args().iter().filter(move |a| a.direction() == Some(direction)).map(|a| a.ty());
    let wanted: String = of(ArgDirection::In).map(bare).collect();
    assert_eq!(bare(call.body().signature()), wanted, "{interface}.{member}");
    used.insert(format!("Call {interface}.{member}"));
    match body(of(ArgDirection::Out)) {
        Some(values) => reply.build(&values).unwrap(),
        None => reply.build(&()).unwrap(),
    }
}

/// Every use that the XML allows, but for signals.
fn all_uses(contract: &[Interface<'static>]) -> BTreeSet<String> {
    let mut uses = BTreeSet::new();
    for interface in contract {
        let name = interface.name();
        uses.extend(interface.methods().map(|m| format!("Call {name}.{}", m.name())));
        uses.extend(interface.properties().map(|p| format!("Get {name}.{}", p.name())));
        let writable = interface.properties().filter(|p| p.access().write());
        uses.extend(writable.map(|p| format!("Set {name}.{}", p.name())));
    }
    uses
}

/// Without a bus nobody knows who owns org.voipd: the far end is meant by its own name.
const FAR_END: &str = ":1.7";

/// Two ends of one connection.
async fn pair() -> (Connection, Connection) {
    let (near, far) = UnixStream::pair().unwrap();
    let guid = Guid::generate();
    let server = connection::Builder::unix_stream(far).server(guid).p2p();
    let client = connection::Builder::unix_stream(near).p2p();
    let (server, client) = tokio::join!(server.build(), client.build());
    (client.unwrap(), server.unwrap())
}

macro_rules! proxy {
    ($proxy:ident, $connection:expr) => {
        $proxy::builder(&$connection)
            .path("/org/voipd/call/7")
            .destination(FAR_END)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .unwrap()
    };
}

macro_rules! get {
    ($proxy:ident: $($property:ident),+ $(,)?) => { $($proxy.$property().await.expect(stringify!($property));)+ };
}

async fn use_everything(client: &Connection) {
    let null = || Some(OwnedFd::from(std::os::fd::OwnedFd::from(std::fs::File::open("/dev/null").unwrap())));
    let path = ObjectPath::from_static_str_unchecked("/org/voipd/account/1");

    let manager = proxy!(ManagerProxy, client);
    let options = DialOptions {
        account: Some("work".into()),
        play: null(),
        record: null(),
        record_format: Some("flac".into()),
        programs: Some(true),
        mix: Some(true),
        conference: Some(path.clone().into()),
        codecs: Some(vec!["PCMU".into()]),
        anonymous: Some(true),
        follow: Some(true),
    };
    assert_eq!(manager.dial("sip:echo@127.0.0.1", &options).await.unwrap().as_str(), "/org/voipd/call/7");
    let settings = AccountSettings { codecs: Some(vec!["opus".into()]), ..AccountSettings::default() };
    manager.add_account(&settings).await.unwrap();
    manager.remove_account(&path).await.unwrap();
    let conference = ConferenceOptions { device: Some("away".into()) };
    manager.open_conference(std::slice::from_ref(&path), &conference).await.unwrap();
    manager.trace(&TraceOptions { call: Some(3) }).await.unwrap();
    manager.set_do_not_disturb(true).await.unwrap();
    manager.set_dial_tone(true).await.unwrap();
    get!(manager: diagnose, version, codecs, scope, do_not_disturb, dial_tone, accounts, calls, conferences, active_speaker, neighbours);

    let account = proxy!(AccountProxy, client);
    get!(account: enable, disable, register, unregister, name, kind, origin, enabled, address, display_name,
        registrar, outbound_proxy, transport, security, auth_user, has_password, registers, codecs, redundancy, silence_suppression, redirect, dtmf,
        state, reason,
        dial_plan, sip_status, expires, retry_in, allow_md5, push_provider, digest_algorithm, public_gruu, temporary_gruu,
        associated_addresses, service_route, push_service, ice, stun, relays);

    let call = proxy!(CallProxy, client);
    call.accept(&AcceptOptions { play: null(), ..AcceptOptions::default() }).await.unwrap();
    call.reject("busy").await.unwrap();
    call.resume(&ResumeOptions { mix: Some(true) }).await.unwrap();
    call.set_codec("opus").await.unwrap();
    call.send_dtmf("1").await.unwrap();
    call.set_muted(true).await.unwrap();
    let options = AudioOptions { end_with_input: Some(true), ..AudioOptions::default() };
    call.open_audio(&options).await.unwrap();
    call.open_audio_socket(&options).await.unwrap();
    let file = null().unwrap();
    call.play(&file, &PlayOptions { mode: Some("inject".into()), repeat: Some(true) }).await.unwrap();
    call.start_recording(&file, &RecordOptions { side: Some("stereo".into()), format: None }).await.unwrap();
    get!(call: hangup, hold, silence, direction, state, reason, peer, peer_name, asserted_identity, asserted_name,
        anonymous, diversion, diversion_reason, redirect_contacts, q850_cause, account, codec, security, muted,
        local_hold, remote_hold, mixed, conference, network_state, sound, playing, recording, stop_playing, stop_recording, list_ports, end_reason, sip_status, created_at, answered_at, ended_at,
        remote_media, media_path);

    let conference = proxy!(ConferenceProxy, client);
    conference.join(&path).await.unwrap();
    conference.leave(&path).await.unwrap();
    conference.set_muted(&path, true).await.unwrap();
    conference.set_device("away").await.unwrap();
    get!(conference: end, watch_speaker, unwatch_speaker, members, muted_members, device, active_speaker);

    let statistics = proxy!(CallStatisticsProxy, client);
    statistics.watch(1000).await.unwrap();
    statistics.watch_activity(10).await.unwrap();
    get!(statistics: get, unwatch, graph, unwatch_activity, bursts, burst_density, gap_density, concealed_percent, one_way_delay_ms, rating_in, mos_listening_in, mos_conversation_in, rating_out, mos_listening_out, mos_conversation_out, reported_mos, reported_burst_density, reported_discard_percent, reported_buffer_ms, packets_restored, packets_corrected, queued_ms, send_bitrate, send_ptime_ms, send_copies, send_fec, packets_sent, packets_received, octets_sent, octets_received, packets_lost,
        packets_late, packets_duplicate, packets_reordered, packets_invalid, packets_discarded, frames_played,
        frames_concealed, loss_percent, jitter_ms, buffer_ms, buffer_target_ms, round_trip_ms,
        remote_loss_percent, remote_jitter_ms, level_in, level_out);

    let audio = proxy!(AudioProxy, client);
    audio.select_device("input", "default").await.unwrap();
    audio
        .configure_device("input", &DeviceSettings { volume: Some(80), ..Default::default() })
        .await
        .unwrap();
    audio.start_test(&TestOptions { output: Some(true), input: None }).await.unwrap();
    audio.watch(1000).await.unwrap();
    get!(audio: list_devices, stop_test, unwatch, input, output, ringer, in_use, input_settings,
        output_settings, ringer_settings, state, reason, scheduling,
        scheduling_reason, priority, memory_locked, parked, input_level, output_level, counters);

    let nat = proxy!(NatProxy, client);
    let options = MappingOptions { external_port: Some(5080), lifetime: Some(600) };
    nat.add_mapping("udp", 5060, &options).await.unwrap();
    nat.remove_mapping(1).await.unwrap();
    get!(nat: discover, network_state, local_addresses, state, reason, public_addresses, mapping_behaviour,
        filtering_behaviour, paths, servers, relays, mappings);
    let friends = proxy!(FriendsProxy, client);
    friends.invite("bob", &InviteOptions::default()).await.unwrap();
    friends.join("text", &JoinOptions::default()).await.unwrap();
    friends.remove("bob").await.unwrap();
    get!(friends: list, meeting_point, address);
}

#[tokio::test]
async fn proxies_use_every_member_as_the_xml_says() {
    let contract = contract();
    let (client, server) = pair().await;
    let mut incoming = MessageStream::from(&server);
    let mut used = BTreeSet::new();
    let far_end = async {
        while let Some(Ok(call)) = incoming.next().await {
            if call.message_type() == message::Type::MethodCall {
                server.send(&answer(&contract, &call, &mut used)).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = use_everything(&client) => {}
        () = far_end => panic!("the connection broke"),
    }
    assert_eq!(used, all_uses(&contract));
}

#[tokio::test]
async fn proxies_read_every_signal_of_the_xml() {
    let contract = contract();
    let (client, server) = pair().await;
    let call = proxy!(CallProxy, client);
    let account = proxy!(AccountProxy, client);
    let statistics = proxy!(CallStatisticsProxy, client);
    let audio = proxy!(AudioProxy, client);
    let mut call_states = call.receive_state_transition().await.unwrap();
    let mut digits = call.receive_dtmf_received().await.unwrap();
    let mut account_states = account.receive_state_transition().await.unwrap();
    let mut figures = statistics.receive_statistics().await.unwrap();
    let mut qualities = statistics.receive_quality_changed().await.unwrap();
    let mut activities = statistics.receive_activity_changed().await.unwrap();
    let mut silences = statistics.receive_silence_timeout().await.unwrap();
    let mut levels = audio.receive_levels().await.unwrap();

    let mut sent = BTreeSet::new();
    for interface in &contract {
        for signal in interface.signals() {
            let values = body(signal.args().iter().map(|a| a.ty())).unwrap();
            let message = Message::signal("/org/voipd/call/7", interface.name(), signal.name())
                .sender(FAR_END)
                .build(&values);
            server.send(&message.unwrap()).await.unwrap();
            sent.insert(format!("{}.{}", interface.name(), signal.name()));
        }
    }

    let state = call_states.next().await.unwrap();
    let state = state.args().unwrap();
    assert_eq!((state.old, state.new, state.reason, state.sip_status), ("text", "text", "text", 7));
    let digit = digits.next().await.unwrap();
    assert_eq!(digit.args().unwrap().duration_ms, 7);
    assert_eq!(account_states.next().await.unwrap().args().unwrap().sip_status, 7);
    assert!(figures.next().await.unwrap().args().unwrap().statistics.contains_key("text"));
    assert_eq!(qualities.next().await.unwrap().args().unwrap().cause, "text");
    assert_eq!(activities.next().await.unwrap().args().unwrap().direction, "text");
    assert_eq!(silences.next().await.unwrap().args().unwrap().seconds, 7);
    assert!(levels.next().await.unwrap().args().unwrap().levels.contains_key("text"));
    let read = [
        "org.voipd.Account1.StateChanged",
        "org.voipd.Audio1.Levels",
        "org.voipd.Call1.DtmfReceived",
        "org.voipd.Call1.StateChanged",
        "org.voipd.CallStatistics1.ActivityChanged",
        "org.voipd.CallStatistics1.QualityChanged",
        "org.voipd.CallStatistics1.SilenceTimeout",
        "org.voipd.CallStatistics1.Statistics",
    ];
    assert_eq!(sent, read.map(str::to_owned).into());
}
