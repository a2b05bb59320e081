//! Books on one agent's outputs: what is open, connected and shown; every output is checked against them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, RINGER};
use voipd_agent::view::{AccountView, CallId, CallState, CallView};
use voipd_agent::{AccountId, Output, RelayView};
use voipd_audio::plan::StreamCounters;
use voipd_audio::tone::Tone;
use voipd_audio::{PortId, StreamPlan};
use voipd_media::LocalMedia;

/// A stream that the engine would run.
pub struct SimStream {
    pub call: CallId,
    pub local: SocketAddr,
    pub plan: StreamPlan,
    pub counters: StreamCounters,
    pub counted_at: Option<Duration>,
}

#[derive(Default)]
pub struct Books {
    pub calls: BTreeMap<CallId, CallView>,
    pub states: Vec<(CallId, CallState)>,
    pub accounts: BTreeMap<AccountId, AccountView>,
    pub streams: BTreeMap<PortId, SimStream>,
    /// RTP and RTCP address of each call.
    pub bound: BTreeMap<CallId, (SocketAddr, SocketAddr)>,
    /// Those of it at other addresses.
    pub beside: BTreeMap<CallId, Vec<(SocketAddr, SocketAddr)>>,
    pub connected: BTreeMap<PortId, Vec<PortId>>,
    pub tones: BTreeMap<PortId, Tone>,
    pub digits: Vec<(CallId, char)>,
    pub log: Vec<String>,
    pub device: bool,
    pub ringer: bool,
    pub relays: Vec<RelayView>,
    /// Of players, recorders and programs.
    call_ports: BTreeSet<PortId>,
    gone_calls: BTreeSet<CallId>,
    gone_ports: BTreeSet<PortId>,
    gone_accounts: BTreeSet<AccountId>,
    /// A changed state that no signal has told yet.
    untold: Option<(CallId, CallState)>,
}

impl Books {
    pub fn stream_of(&self, call: CallId) -> Option<&SimStream> {
        self.streams.values().find(|stream| stream.call == call)
    }

    pub fn stream_port_of(&self, call: CallId) -> Option<PortId> {
        self.streams.iter().find(|(_, stream)| stream.call == call).map(|(port, _)| *port)
    }

    pub fn open_things(&self) -> usize {
        self.streams.len() + self.bound.len() + self.call_ports.len()
    }

    pub fn bind(&mut self, call: CallId, local: LocalMedia) {
        let rtp = SocketAddr::new(local.address, local.rtp_port);
        let rtcp = SocketAddr::new(local.address, local.rtcp_port);
        assert!(self.bound.insert(call, (rtp, rtcp)).is_none(), "{call:?} has sockets already");
    }

    pub fn bind_beside(&mut self, call: CallId, beside: &[LocalMedia]) {
        let pair = |local: &LocalMedia| {
            let at = |port| SocketAddr::new(local.address, port);
            (at(local.rtp_port), at(local.rtcp_port))
        };
        self.beside.insert(call, beside.iter().map(pair).collect());
    }

    /// Whose socket is at an address, and whether it is one for RTP.
    pub fn socket(&self, at: SocketAddr) -> Option<(CallId, bool)> {
        let beside = self.beside.iter().flat_map(|(call, pairs)| pairs.iter().map(move |pair| (call, pair)));
        let mut all = self.bound.iter().chain(beside);
        let (call, (rtp, _)) = all.find(|(_, (rtp, rtcp))| [*rtp, *rtcp].contains(&at))?;
        Some((*call, *rtp == at))
    }

    /// The stream of a call goes on with other sockets.
    pub fn move_to(&mut self, call: CallId, port: PortId, local: LocalMedia) {
        self.bound.remove(&call);
        self.bind(call, local);
        let stream = self.streams.get_mut(&port).expect("an open stream");
        assert_eq!(stream.call, call);
        stream.local = SocketAddr::new(local.address, local.rtp_port);
    }

    /// All outputs are drained.
    pub fn settled(&self, _: Option<Instant>) {
        assert_eq!(self.untold, None, "a change of state without its signal");
        let playing: Vec<PortId> = self.connected.values().flatten().copied().collect();
        for port in self.connected.keys().copied().chain(playing) {
            assert!(!self.gone_ports.contains(&port), "{port:?} is closed and still connected");
        }
        if self.tones.contains_key(&RINGER) {
            assert!(self.ringer, "a tone at a ringer that nobody wants");
        }
        if self.tones.contains_key(&DEVICE_OUTPUT) || self.connected.contains_key(&DEVICE_OUTPUT) {
            assert!(self.device, "sound at a device that nobody wants");
        }
    }

    pub fn check(&mut self, output: &Output) {
        match output {
            Output::BindMedia { call, .. } => {
                assert!(
                    self.stream_of(*call).is_none(),
                    "{call:?} asks for sockets while its stream has some"
                );
                self.bound.remove(call);
                self.beside.remove(call);
            }
            Output::MoveMedia { call, port, .. } => {
                assert_eq!(self.streams[port].call, *call, "a stream of another call is moved");
            }
            Output::OpenStream { call, port, plan } => {
                let (local, _) = *self.bound.get(call).expect("a stream needs sockets");
                self.is_usable(*port);
                check_plan(plan);
                let stream = SimStream {
                    call: *call,
                    local,
                    plan: (**plan).clone(),
                    counters: StreamCounters::default(),
                    counted_at: None,
                };
                assert!(self.streams.insert(*port, stream).is_none(), "{port:?} is open already");
            }
            Output::UpdateStream { port, plan } => {
                check_plan(plan);
                let stream = self.streams.get_mut(port).expect("an open stream");
                assert!(plan.generation > stream.plan.generation, "an old generation");
                let same = StreamPlan { generation: stream.plan.generation, ..(**plan).clone() };
                assert_ne!(same, stream.plan, "a plan that changes nothing");
                stream.plan = (**plan).clone();
            }
            Output::CloseMedia { call, ports } => {
                self.bound.remove(call);
                self.beside.remove(call);
                for port in ports {
                    self.streams.remove(port);
                    self.call_ports.remove(port);
                    self.connected.remove(port);
                    self.gone_ports.insert(*port);
                    for sources in self.connected.values_mut() {
                        sources.retain(|source| source != port);
                    }
                }
                self.connected.retain(|_, sources| !sources.is_empty());
                assert!(self.streams.values().all(|stream| stream.call != *call), "a stream stays open");
            }
            Output::OpenPort { port, .. } => {
                self.is_usable(*port);
                assert!(self.call_ports.insert(*port), "{port:?} is open already");
            }
            Output::ClosePort { port } => {
                self.call_ports.remove(port);
                self.gone_ports.insert(*port);
            }
            Output::Connect { sink, sources } => self.connect(*sink, sources),
            Output::SetMuted { port, .. }
            | Output::SendDtmf { port, .. }
            | Output::SteerStream { port, .. } => {
                assert!(self.streams.contains_key(port), "{output:?} for no stream");
            }
            Output::WantCounters { call, port } => {
                assert_eq!(self.streams[port].call, *call);
            }
            Output::PlayTone { port, tone } => {
                assert!([DEVICE_OUTPUT, RINGER].contains(port));
                assert_ne!(self.tones.get(port).copied(), *tone, "the same tone again");
                match tone {
                    Some(tone) => self.tones.insert(*port, *tone),
                    None => self.tones.remove(port),
                };
            }
            Output::UseDevice(wanted) => {
                assert_ne!(self.device, *wanted);
                self.device = *wanted;
            }
            Output::UseRinger(wanted) => {
                assert_ne!(self.ringer, *wanted);
                self.ringer = *wanted;
            }
            Output::SendRtcp { call, remote, .. } => {
                assert!(self.bound.contains_key(call), "RTCP without a socket");
                assert!(!remote.ip().is_unspecified() && remote.port() != 0, "RTCP to {remote}");
            }
            Output::UseSocket { call, port, socket } => {
                assert_eq!(self.socket(*socket), Some((*call, true)), "no socket of the call is there");
                let stream = self.streams.get_mut(port).expect("an open stream");
                assert_ne!(stream.local, *socket, "it is there already");
                stream.local = *socket;
            }
            Output::SendStun { call, from, remote, .. } => {
                assert_eq!(
                    self.socket(*from).map(|(of, _)| of),
                    Some(*call),
                    "STUN without a socket: {from}"
                );
                assert!(!remote.ip().is_unspecified() && remote.port() != 0, "STUN to {remote}");
            }
            Output::RelaysChanged(relays) => {
                assert_ne!(self.relays, *relays, "nothing has changed");
                self.relays.clone_from(relays);
            }
            Output::AccountChanged(view) => {
                assert!(!self.gone_accounts.contains(&view.id), "{view:?} was removed");
                let shown = format!("{view:?}");
                assert!(!shown.contains("secret"), "a password is shown: {shown}");
                self.accounts.insert(view.id, (**view).clone());
            }
            Output::AccountRemoved(id) => {
                assert!(self.accounts.remove(id).is_some());
                self.gone_accounts.insert(*id);
            }
            Output::CallChanged(view) => self.call_changed(view),
            Output::CallStateChanged { call, old, new, reason, sip_status } => {
                let view = &self.calls[call];
                assert_eq!((view.state, view.reason, view.sip_status), (*new, *reason, *sip_status));
                assert_eq!(self.untold.take(), Some((*call, *old)));
            }
            Output::CallRemoved(id) => {
                let view = self.calls.remove(id).expect("a call");
                assert_eq!(view.state, CallState::Ended);
                self.gone_calls.insert(*id);
            }
            Output::DtmfReceived { call, digit, .. } => {
                assert!(self.calls.contains_key(call));
                self.digits.push((*call, *digit));
            }
            Output::Log(note) => {
                assert!(!note.text.contains("secret") && !note.text.contains(char::is_control), "{note:?}");
                self.log.push(note.text.clone());
            }
            Output::PlayPacket { call, port, bytes } => {
                assert_eq!(self.stream_port_of(*call), Some(*port), "no stream is there");
                assert!(matches!(bytes[..], [128..=191, 0..=127, ..]), "no RTP: {bytes:?}");
            }
            Output::QualityChanged { .. }
            | Output::Transmit { .. }
            | Output::Disconnect { .. }
            | Output::SeenAs { .. }
            | Output::Resolve { .. }
            | Output::ResolveMedia { .. }
            | Output::CheckNetwork
            | Output::OpenRelay { .. }
            | Output::SendRelay { .. }
            | Output::CloseRelay { .. }
            | Output::ResolveServer { .. }
            | Output::MeasureRelay { .. }
            | Output::ConferenceChanged(_)
            | Output::DialTone(_)
            | Output::ConferenceRemoved(_)
            | Output::Timeout(_) => {}
        }
    }

    fn is_usable(&self, port: PortId) {
        assert!(!self.gone_ports.contains(&port), "{port:?} is closed");
    }

    fn connect(&mut self, sink: PortId, sources: &[PortId]) {
        assert!(sink == DEVICE_OUTPUT || self.streams.contains_key(&sink), "{sink:?} is no open sink");
        for source in sources {
            let is_source = *source == DEVICE_INPUT
                || self.streams.contains_key(source)
                || self.call_ports.contains(source);
            assert!(is_source, "{source:?} is no open source");
        }
        let before = self.connected.get(&sink).map(Vec::as_slice).unwrap_or_default();
        assert_ne!(before, sources, "{sink:?} is connected so already");
        if sources.is_empty() {
            self.connected.remove(&sink);
        } else {
            self.connected.insert(sink, sources.to_vec());
        }
    }

    fn call_changed(&mut self, view: &CallView) {
        assert_eq!(self.untold, None, "a change of state without its signal");
        assert!(!self.gone_calls.contains(&view.id), "{view:?} was removed");
        assert_eq!(view.end_reason.is_some(), view.state == CallState::Ended);
        assert_eq!(view.ended_at != 0, view.state == CallState::Ended);
        let before = self.calls.insert(view.id, view.clone());
        assert_ne!(before.as_ref(), Some(view), "nothing has changed");
        match before {
            Some(before) if before.state == view.state => {}
            Some(before) => {
                assert!(may_follow(before.state, view.state), "{:?} after {:?}", view.state, before.state);
                self.states.push((view.id, view.state));
                self.untold = Some((view.id, before.state));
            }
            None => self.states.push((view.id, view.state)),
        }
    }
}

fn may_follow(before: CallState, after: CallState) -> bool {
    use CallState::{Active, Dialing, Early, Ended, Held, Incoming, Ringing};
    match before {
        Dialing => true,
        Ringing => matches!(after, Early | Active | Held | Ended),
        Early => matches!(after, Active | Held | Ended),
        Incoming => matches!(after, Active | Held | Ended),
        Active => matches!(after, Held | Ended),
        Held => matches!(after, Active | Ended),
        Ended => false,
    }
}

fn check_plan(plan: &StreamPlan) {
    let remote = plan.path.remote();
    if plan.send.is_some() {
        assert!(!remote.ip().is_unspecified() && remote.port() != 0, "sends to {remote}");
    }
    assert_ne!(plan.ssrc, 0);
}
