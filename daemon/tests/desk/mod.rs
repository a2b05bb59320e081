//! The bus side of the daemon on a private bus, with the test in the place of the driver.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use voipd::api::conferences::ConferenceRequest;
use voipd::api::nat::NatView;
use voipd::api::ports::{PortView, PortsRequest};
use voipd::api::{
    AudioLive, AudioView, CallStatistics, DeviceState, DeviceView, Figure, FriendView, FriendsRequest,
    FriendsView, GraphNode, Presence, Reply, Request, RequestError, Update,
};
use voipd::bus::{self, Bus};
use voipd::config::Scope;
use voipd::config::account::from_entries;
use voipd::config::fields::{Entry, Value};
use voipd::doctor::{Check, CheckState};
use voipd::network::NetworkState;
use voipd_agent::view::{
    AccountState, CallDirection, CallId, CallNetwork, CallState, MediaWay, Reason, SoundPlace,
};
use voipd_agent::{AccountId, AccountView, CallView, ConferenceId, ConferenceView, DevicePart};
use voipd_dbus::names;
use voipd_nat::stun::{
    Filtering, Hairpin, Mapping, PathReport, Ports, Report, ServerReport, ServerState, Source, State,
};
use voipd_sip::endpoint::Binding;
use zbus::wire::DynamicType;
use zbus::{Connection, DBusError, Message, MessageStream};

/// A bus of its own, which ends with the test.
pub struct PrivateBus {
    child: Child,
    pub address: String,
    /// Where its socket is, which goes with it.
    _directory: TempDir,
}

impl PrivateBus {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--print-address", "--nofork", "--nopidfile"])
            .arg(format!("--address=unix:path={}", directory.path().join("bus").display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon: install the package dbus-daemon");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned(), _directory: directory }
    }

    pub async fn client(&self) -> Connection {
        zbus::connection::Builder::address(self.address.as_str()).build().await.unwrap()
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The daemon's bus side, a client, and the driver's ends.
pub struct Desk {
    pub bus: Bus,
    pub requests: mpsc::Receiver<Request>,
    pub updates: mpsc::UnboundedSender<Update>,
    pub client: Connection,
    pub private: PrivateBus,
}

impl Desk {
    pub async fn start() -> Self {
        let private = PrivateBus::start();
        let (sender, requests) = mpsc::channel(64);
        let (updates, receiver) = mpsc::unbounded_channel();
        let bus = bus::connect_at(&private.address, Scope::Session, false, sender, receiver).await.unwrap();
        let client = private.client().await;
        Self { bus, requests, updates, client, private }
    }

    pub fn tell(&self, update: Update) {
        self.updates.send(update).ok().unwrap();
    }

    pub async fn request(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }

    /// Answers everything with success, from now on.
    pub fn answer_everything(&mut self) {
        let (_, none) = mpsc::channel(1);
        let mut requests = std::mem::replace(&mut self.requests, none);
        let updates = self.updates.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let _ = updates.send(success(request));
            }
        });
    }
}

/// An answer in its place among the updates.
pub fn answer<T: Send + 'static>(reply: Reply<T>, result: Result<T, RequestError>) -> Update {
    Update::Answer(Box::new(move || drop(reply.send(result))))
}

fn success(request: Request) -> Update {
    match request {
        Request::Dial { reply, .. } => answer(reply, Ok(CallId(7))),
        Request::Conference(ConferenceRequest::Open { reply, .. }) => answer(reply, Ok(ConferenceId(2))),
        Request::Conference(
            ConferenceRequest::Join { reply, .. }
            | ConferenceRequest::Leave { reply, .. }
            | ConferenceRequest::SetMuted { reply, .. }
            | ConferenceRequest::SetDevice { reply, .. }
            | ConferenceRequest::End { reply, .. },
        ) => answer(reply, Ok(())),
        Request::AddAccount { reply, .. } => answer(reply, Ok(AccountId(1))),
        Request::CallStatistics { reply, .. } => answer(reply, Ok(statistics())),
        Request::CallGraph { reply, .. } => answer(reply, Ok(vec![node()])),
        // No answer is wanted.
        Request::WatchActivity { .. } => Update::DoNotDisturb(false),
        Request::AddMapping { reply, .. } => answer(reply, Ok(1)),
        Request::ListDevices { reply } => answer(reply, Ok(vec![device()])),
        Request::Diagnose { reply } => answer(reply, Ok(vec![check()])),
        Request::AudioLive { reply } => answer(reply, Ok(live())),
        Request::Trace { reply, .. } => answer(reply, Ok(std::fs::File::open("/dev/null").unwrap().into())),
        Request::Friends(FriendsRequest::Invite { reply, .. }) => {
            answer(reply, Ok("voipd-friend:bob@meet".to_owned()))
        }
        Request::Friends(FriendsRequest::Join { reply, .. }) => answer(reply, Ok(AccountId(1))),
        Request::Friends(FriendsRequest::List { reply }) => answer(reply, Ok(vec![friend()])),
        Request::Ports(PortsRequest::OpenAudio { reply, .. }) => {
            answer(reply, Ok(std::fs::File::open("/dev/null").unwrap().into()))
        }
        Request::Ports(PortsRequest::OpenAudioSocket { reply, .. }) => {
            answer(reply, Ok("/run/voipd/audio/call-7-16.sock".to_owned()))
        }
        Request::Ports(PortsRequest::List { reply, .. }) => answer(reply, Ok(vec![port()])),
        Request::Ports(
            PortsRequest::Play { reply, .. }
            | PortsRequest::StopPlaying { reply, .. }
            | PortsRequest::StartRecording { reply, .. }
            | PortsRequest::StopRecording { reply, .. },
        ) => answer(reply, Ok(())),
        Request::Friends(FriendsRequest::Remove { reply, .. })
        | Request::RemoveAccount { reply, .. }
        | Request::EnableAccount { reply, .. }
        | Request::RegisterAccount { reply, .. }
        | Request::SetDoNotDisturb { reply, .. }
        | Request::SetDialTone { reply, .. }
        | Request::Accept { reply, .. }
        | Request::Reject { reply, .. }
        | Request::Hangup { reply, .. }
        | Request::Hold { reply, .. }
        | Request::Resume { reply, .. }
        | Request::Silence { reply, .. }
        | Request::SetMuted { reply, .. }
        | Request::SetCodec { reply, .. }
        | Request::SendDtmf { reply, .. }
        | Request::SelectDevice { reply, .. }
        | Request::ConfigureDevice { reply, .. }
        | Request::StartTest { reply, .. }
        | Request::StopTest { reply }
        | Request::Discover { reply }
        | Request::RemoveMapping { reply, .. } => answer(reply, Ok(())),
    }
}

pub fn statistics() -> CallStatistics {
    let mut statistics = CallStatistics::default();
    statistics.stream.packets_received = 75;
    statistics.stream.packets_lost = 25;
    statistics.stream.jitter_us = 1500;
    statistics.stream.level_in_dbov = -20;
    statistics
}

pub fn node() -> GraphNode {
    GraphNode {
        id: "decoder".into(),
        kind: "decoder",
        name: "PCMU".into(),
        to: vec!["mixer-2".into()],
        figures: [("level-dbov", Figure::Number(-20.0)), ("remote", Figure::Text("192.0.2.1:4".into()))]
            .into(),
    }
}

pub fn live() -> AudioLive {
    AudioLive {
        parked: true,
        input_level_dbov: -30.0,
        output_level_dbov: -127.0,
        counters: [("ticks", 5)].into(),
    }
}

pub fn check() -> Check {
    Check {
        id: "clock".into(),
        state: CheckState::Warning,
        sentence: "the clock is late".into(),
        remedy: "set it".into(),
    }
}

pub fn port() -> PortView {
    PortView { kind: "player", open: true, program: None, dropped_ms: 0 }
}

pub fn friend() -> FriendView {
    FriendView {
        name: "bob".into(),
        address: "sip:bob@meet.example.org".into(),
        presence: Presence::Online,
        devices: 1,
        invited_for: 60,
        account: Some(AccountId(1)),
        relay: Some(("turn:203.0.113.9:3478".to_owned(), "lent".to_owned())),
    }
}

pub fn friends() -> Update {
    Update::Friends(FriendsView { enabled: true, address: "meet.example.org".into() })
}

pub fn device() -> DeviceView {
    DeviceView {
        name: "null".into(),
        description: "No sound".into(),
        host: "null".into(),
        input: true,
        output: true,
        default: false,
        available: true,
        reason: String::new(),
    }
}

pub fn account(number: u32, state: AccountState) -> Update {
    let text = |text: &str| Value::Text(text.to_owned());
    let settings = from_entries(vec![
        Entry::new("name", text("home")),
        Entry::new("address", text("sip:alice@example.org")),
        Entry::new("password", text("hunter2")),
    ])
    .unwrap();
    let view = Box::new(AccountView {
        id: AccountId(number),
        settings,
        state,
        reason: "",
        sip_status: 0,
        expires: 0,
        retry_at: None,
        digest: None,
        binding: Binding::default(),
    });
    Update::Account { view, security: String::new() }
}

pub fn call_view(number: u32, state: CallState) -> CallView {
    CallView {
        id: CallId(number),
        account: AccountId(1),
        direction: CallDirection::Outbound,
        state,
        reason: Reason::Local,
        end_reason: None,
        sip_status: 0,
        peer: "sip:bob@example.org".into(),
        peer_name: "Bob".into(),
        asserted: String::new(),
        asserted_name: String::new(),
        anonymous: false,
        diversions: Vec::new(),
        diversion_reason: String::new(),
        contacts: Vec::new(),
        q850: 0,
        codec: "",
        muted: false,
        local_hold: false,
        remote_hold: false,
        mixed: false,
        conference: None,
        network: CallNetwork::Ok,
        sound: SoundPlace::None,
        playing: false,
        recording: false,
        media_way: MediaWay::None,
        remote_media: None,
        created_at: 1,
        answered_at: 0,
        ended_at: 0,
    }
}

pub fn call(number: u32, state: CallState) -> Update {
    Update::Call(Box::new(call_view(number, state)))
}

pub fn conference(number: u32, members: &[(u32, bool)]) -> Update {
    let members = members.iter().map(|(call, muted)| (CallId(*call), *muted)).collect();
    Update::Conference(Box::new(ConferenceView {
        id: ConferenceId(number),
        members,
        device: DevicePart::Joined,
    }))
}

pub fn audio() -> Update {
    Update::Audio(Box::new(AudioView {
        input: "default".into(),
        output: "default".into(),
        ringer: "default".into(),
        in_use: [("output".to_owned(), "alsa:PCH,0".to_owned())].into(),
        settings: Default::default(),
        state: DeviceState::Closed,
        reason: String::new(),
        scheduling: "fifo",
        scheduling_reason: String::new(),
        priority: 40,
        memory_locked: true,
    }))
}

pub fn nat() -> Update {
    let address = |text: &str| text.parse().unwrap();
    let discovery = Report {
        state: State::Known,
        reason: String::new(),
        paths: vec![PathReport {
            local: "192.168.1.7".parse().unwrap(),
            public: vec!["203.0.113.9".parse().unwrap()],
            mapping: Mapping::EndpointIndependent,
            filtering: Filtering::AddressDependent,
            ports: Ports::Changed,
            hairpin: Hairpin::Unknown,
        }],
        servers: vec![ServerReport {
            name: "stun:stun.example.org".into(),
            source: Source::Configuration,
            address: Some(address("198.51.100.1:3478")),
            state: ServerState::Works,
            reason: String::new(),
            rtt: Some(std::time::Duration::from_millis(12)),
            public: Some(address("203.0.113.9:40001")),
        }],
    };
    let local_addresses = vec!["192.168.1.7".parse().unwrap()];
    Update::Nat(Box::new(NatView {
        network: NetworkState::Online,
        local_addresses,
        discovery,
        relays: Vec::new(),
        offers: Vec::new(),
    }))
}

/// A method call with its reply or error.
pub async fn invoke<B: serde::Serialize + DynamicType>(
    client: &Connection,
    path: &str,
    interface: &str,
    member: &str,
    body: &B,
) -> Result<Message, (String, String)> {
    let reply = client.call_method(Some(names::BUS_NAME), path, Some(interface), member, body).await;
    reply.map_err(|error| match error {
        zbus::Error::MethodError(name, message, _) => (name.to_string(), message.unwrap_or_default()),
        zbus::Error::FDO(error) => {
            (error.name().to_string(), error.description().unwrap_or_default().to_owned())
        }
        other => panic!("{other}"),
    })
}

/// Everything that the client receives, as one line each: kind, member, path.
pub async fn next_line(messages: &mut MessageStream) -> String {
    loop {
        let message = messages.next().await.unwrap().unwrap();
        let header = message.header();
        if header.sender().is_some_and(|sender| sender.as_str() == "org.freedesktop.DBus") {
            continue;
        }
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        return format!("{:?} {member} {path}", message.message_type()).trim_end().to_owned();
    }
}

/// Has the client receive all signals of the daemon.
pub async fn subscribe(client: &Connection) -> MessageStream {
    let dbus = zbus::fdo::DBusProxy::new(client).await.unwrap();
    let rule = zbus::MatchRule::builder().sender(names::BUS_NAME).build().unwrap();
    dbus.add_match_rule(rule).await.unwrap();
    MessageStream::from(client)
}
