//! The driver: the one loop that feeds the agent and carries out what it asks. It decides nothing about calls.

mod devices;
mod doctor;
mod finished;
mod friends;
mod graph;
mod ice;
mod lending;
mod mappings;
mod media;
mod nat;
mod neighbours;
mod network;
mod outbox;
mod patchbay;
mod pinholes;
mod ports;
mod requests;
mod signalling;
mod sound;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use voipd_agent::output::{Note, Weight};
use voipd_agent::view::CallId;
use voipd_agent::{Agent, Output};
use voipd_audio::tone::Signal;
use voipd_sip::endpoint::Flow;

use crate::api::{CallStatistics, Request, Update};
use crate::config::{NatConfig, RtpConfig};
use crate::doctor::ConfigSource;
use crate::neighbours::NeighbourConfig;
use crate::network::{NetworkWatch, Snapshot};
use crate::realtime::{RealtimeThread, UdpMediaSocket, monotonic_nanos};
use crate::relay::Relays;
use crate::store::Store;
use crate::transport::{Arrival, Resolver, Transport};
pub use devices::DeviceSetup;
use devices::Devices;
use doctor::Doctor;
use finished::Finished;
pub use friends::{FriendParts, Friends};
pub use mappings::MappingParts;
use mappings::Mappings;
use media::MediaPorts;
use nat::Nat;
use outbox::Outbox;
use patchbay::Patchbay;
use pinholes::Door;
use ports::Ports;
use signalling::{is_keep_alive, start_line};
use traces::{Direction, Traces};

/// How often the engine's counters, the wall clock and the watchdog are served.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long a stop may take: time to tell every peer and registrar, with one retransmission or two.
const STOP_TIME: Duration = Duration::from_secs(4);

/// Everything that the driver is made of.
pub struct Parts {
    /// Accounts and calls.
    pub agent: Agent,
    /// SIP sockets.
    pub transport: Transport,
    /// Names.
    pub resolver: Resolver,
    /// Control half of the audio engine.
    pub controller: voipd_audio::Controller<UdpMediaSocket>,
    /// The thread that runs the other half.
    pub realtime: RealtimeThread,
    /// Sound devices.
    pub sound: crate::sound::SoundSystem,
    /// Where sockets for programs are made; `None`: nowhere.
    pub sockets: Option<PathBuf>,
    /// Which devices are used, and how.
    pub devices: DeviceSetup,
    /// Files that are heard in the place of tones.
    pub tone_files: BTreeMap<Signal, PathBuf>,
    /// Ports and marking of media.
    pub rtp: RtpConfig,
    /// The way through NAT.
    pub nat: NatConfig,
    /// Port mappings at the router.
    pub mappings: MappingParts,
    /// How telephones of the local network are found.
    pub neighbours: NeighbourConfig,
    /// For random values of the driver's own.
    pub seed: [u8; 32],
    /// Where the configuration came from.
    pub config: ConfigSource,
    /// The meeting point on this machine, and others that were joined.
    pub friends: Friends,
    /// What is kept across restarts.
    pub store: Store,
    /// The network as it is, and the watch on it.
    pub network: (Snapshot, NetworkWatch),
    /// To the bus.
    pub updates: mpsc::UnboundedSender<Update>,
}

/// The loop and what it holds.
pub struct Driver {
    agent: Agent,
    transport: Transport,
    resolver: Arc<Resolver>,
    patchbay: Patchbay<UdpMediaSocket>,
    realtime: RealtimeThread,
    devices: Devices,
    media: MediaPorts,
    relays: Relays,
    nat: Nat,
    doctor: Doctor,
    /// What the router's firewall lets in by IPv6.
    door: Door,
    mappings: Mappings,
    call_ports: Ports,
    statistics: BTreeMap<CallId, CallStatistics>,
    /// Calls in which somebody wants to know who talks.
    listened: BTreeSet<CallId>,
    friends: Friends,
    store: Store,
    network: Snapshot,
    updates: Outbox,
    traces: Traces,
    finished: mpsc::UnboundedSender<Finished>,
    /// What the agent asked to be woken for.
    wake_at: Option<Instant>,
}

impl Driver {
    /// Serves until `stop` resolves; then ends every call and registration, and returns.
    pub async fn run(parts: Parts, mut requests: mpsc::Receiver<Request>, stop: impl Future<Output = ()>) {
        let (finished, mut results) = mpsc::unbounded_channel();
        let (media, mut rtcp) = MediaPorts::new(parts.rtp);
        let (network, mut watch) = parts.network;
        let (relays, mut relay_events) = Relays::new();
        let resolver = Arc::new(parts.resolver);
        let mut driver = Self {
            agent: parts.agent,
            transport: parts.transport,
            resolver: Arc::clone(&resolver),
            patchbay: Patchbay::new(parts.controller),
            realtime: parts.realtime,
            devices: Devices::new(parts.sound, parts.devices),
            media,
            doctor: Doctor::new(parts.config, parts.seed),
            relays,
            nat: Nat::new(&parts.nat, resolver, parts.seed),
            door: Door::new(parts.mappings.sip_ipv6.clone(), parts.mappings.seed),
            mappings: Mappings::new(parts.mappings, Instant::now()),
            call_ports: Ports::new(parts.sockets),
            statistics: BTreeMap::new(),
            listened: BTreeSet::new(),
            friends: parts.friends,
            store: parts.store,
            network,
            updates: Outbox::new(parts.updates),
            traces: Traces::default(),
            finished,
            wake_at: None,
        };
        driver.read_tones(parts.tone_files);
        let (found, mut neighbours) = mpsc::unbounded_channel();
        let search = driver.find_neighbours(&parts.neighbours, found);
        let wake = driver.realtime.wake_signal();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        let mut stop = std::pin::pin!(stop);
        let mut stop_by: Option<Instant> = None;
        driver.publish_audio();
        driver.publish_friends();
        loop {
            driver.carry_out();
            driver.serve_nat();
            let quiet = driver.agent.is_idle()
                && driver.updates.held_until().is_none()
                && driver.mappings.is_idle()
                && driver.door.is_idle();
            if stop_by.is_some_and(|by| quiet || Instant::now() >= by) {
                driver.transport.close_all().await;
                if let Some(search) = search {
                    search.stop().await;
                }
                return;
            }
            let held = driver.updates.held_until();
            let others = [
                stop_by,
                held,
                driver.nat.wake_at(),
                driver.friends.wake_at(),
                driver.mappings.wake_at(),
                driver.door.wake_at(),
            ];
            let wake_at = driver.wake_at.into_iter().chain(others.into_iter().flatten()).min();
            tokio::select! {
                arrival = driver.transport.receive() => driver.arrival(arrival),
                Some(result) = results.recv() => driver.task_finished(result),
                Some(request) = requests.recv() => driver.request(request),
                Some(found) = neighbours.recv() => driver.neighbours_found(found),
                () = wake.woken() => driver.serve_engine(),
                Some(packet) = rtcp.recv() => {
                    driver.control_packet(packet.call, packet.at, packet.source, &packet.bytes, Instant::now());
                }
                Some(event) = relay_events.recv() => driver.relay_event(&event),
                event = watch.next() => driver.network_event(event),
                event = driver.devices.next_event() => {
                    driver.devices.handle_event(event, &mut driver.patchbay);
                    driver.publish_audio();
                }
                event = driver.nat.next_event() => driver.nat.handle_event(event),
                () = sleep_until(wake_at) => {
                    let now = Instant::now();
                    driver.updates.handle_timeout(now);
                    driver.agent.handle_timeout(now);
                    driver.mappings_timeout(now);
                    driver.pinholes_timeout(now);
                    driver.nat.handle_timeout(now);
                    driver.friends.handle_timeout(now);
                }
                _ = housekeeping.tick() => driver.keep_house(),
                () = &mut stop, if stop_by.is_none() => {
                    log::info!("stopping: ending calls and registrations");
                    let now = Instant::now();
                    stop_by = Some(now + STOP_TIME);
                    driver.agent.shut_down(now);
                    driver.remove_all_mappings(now);
                    driver.close_all_pinholes(now);
                }
            }
        }
    }

    fn arrival(&mut self, arrival: Arrival) {
        let now = Instant::now();
        match arrival {
            Arrival::Datagram { flow, bytes } => self.received(now, flow, &bytes, Agent::handle_datagram),
            Arrival::Message { flow, bytes } => self.received(now, flow, &bytes, Agent::handle_message),
            Arrival::Failed { flow, error } => {
                self.agent.handle_failed(now, flow, error);
                self.friends.handle_failed(now, flow, error);
            }
            Arrival::Slow { flow } => self.agent.handle_slow(now, flow),
            Arrival::Pong { flow } => self.agent.handle_pong(now, flow),
            Arrival::Idle { flow } => {
                if !self.agent.uses(flow) && !self.friends.uses(flow) {
                    log::debug!("the connection with {} is closed: nobody uses it", flow.remote);
                    self.transport.close(&flow);
                }
            }
        }
    }

    /// A message came in, by whatever transport.
    fn received(
        &mut self,
        now: Instant,
        flow: Flow,
        bytes: &[u8],
        handle: impl FnOnce(&mut Agent, Instant, Flow, &[u8]),
    ) {
        if is_keep_alive(bytes) {
            return handle(&mut self.agent, now, flow, bytes);
        }
        log::debug!("SIP from {} by {}: {}", flow.remote, flow.transport.name(), start_line(bytes));
        let call = self.traces.call(&self.agent, bytes);
        if !self.friends.handle(now, flow, bytes) {
            handle(&mut self.agent, now, flow, bytes);
        }
        // A new call exists only now.
        let call = call.or_else(|| self.traces.call(&self.agent, bytes));
        self.traces.record(unix_micros(), Direction::In, &flow, call, bytes);
    }

    fn task_finished(&mut self, result: Finished) {
        match result {
            Finished::Resolved { id, host, account, result } => {
                let flows = result.and_then(|places| self.flows_to(&places, &host, account));
                if let Err(error) = &flows {
                    log::info!("{error}");
                }
                self.agent.handle_resolved(Instant::now(), id, flows);
            }
            Finished::MediaResolved { id, result } => {
                self.agent.handle_media_resolved(Instant::now(), id, result);
            }
            Finished::PlayerOpened { call, port, device } => self.player_opened(call, port, device),
            Finished::RecorderOpened { call, port, recorder } => self.recorder_opened(call, port, recorder),
            Finished::RouterSaid(bytes) => self.router_said(&bytes),
            Finished::RouterSeen { id, seen } => self.router_seen(id, seen),
            Finished::RouterAnswered { id, answer } => self.router_answered(id, answer),
            Finished::RecordingDone { call, port, result } => self.recording_done(call, port, result),
            Finished::ToneRead { signal, clip } => self.tone_read(signal, clip),
            Finished::PortOver { port } => self.port_over(port),
            Finished::Server(answer) => answer.tell(&mut self.agent),
            Finished::RelayChecked { member, address, result } => {
                self.friends.relay_checked(&member, address, result);
            }
            Finished::Answer(answer) => self.tell(answer),
            Finished::FilesChecked(request) => self.carry_out_request(*request),
            Finished::DeviceFound { role, name, found, reply } => {
                self.select_device(role, name, found, reply);
            }
        }
    }

    /// Tells those who keep times of day what time it is.
    fn follow_wall_clock(&mut self) {
        self.agent.set_wall_clock(Instant::now(), unix_micros());
        self.friends.set_wall_clock(Instant::now());
    }

    fn keep_house(&mut self) {
        self.follow_wall_clock();
        self.patchbay.controller().service();
        self.devices.handle_timeout(Instant::now(), &mut self.patchbay);
        self.transport.refresh_certificate();
        self.review_mappings();
        self.publish_audio();
        crate::service::watchdog();
    }

    /// Carries out everything that the agent asks for.
    fn carry_out(&mut self) {
        loop {
            match self.agent.poll_output() {
                Output::Timeout(at) => {
                    self.wake_at = at;
                    if !self.carry_out_friends() {
                        break;
                    }
                }
                output => self.carry_out_one(output),
            }
        }
        self.realtime.wanted(self.patchbay.controller().needs_ticks());
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => self.transmit(&flow, &bytes),
            Output::Disconnect { flow } => self.transport.disconnect(&flow),
            Output::SeenAs { account, flow, address } => self.seen_as(account, flow, address),
            Output::Resolve { id, account, next_hop } => self.resolve(id, account, next_hop),
            Output::ResolveMedia { id, name } => self.resolve_media(id, name),
            Output::BindMedia { call, address, peer } => {
                // Where SDP names the peer's media, the route to it decides; else the one that signalling takes.
                let address = peer.and_then(crate::transport::local_ip_towards_ip).unwrap_or(address);
                let bound = self.bind_media(call, address);
                self.media_bound(call, bound);
            }
            Output::MoveMedia { call, port, address, peer } => {
                let address = peer.and_then(crate::transport::local_ip_towards_ip).unwrap_or(address);
                let moved = self.move_media(call, port, address);
                self.media_moved(call, moved);
            }
            Output::CheckNetwork => self.check_network(false),
            Output::OpenStream { call, port, plan } => self.open_stream(call, port, *plan),
            Output::UpdateStream { port, plan } => {
                if let Some(call) = self.media.call_at(port) {
                    self.attach_relay(call, port, &plan);
                }
                let result = self.patchbay.controller().update_stream(port, *plan);
                report("change a stream", result);
            }
            Output::CloseMedia { call, ports } => {
                self.keep_last_counters(call, &ports);
                self.updates.hold_for_recording(call, Instant::now());
                for port in ports {
                    self.close_port(port);
                }
                self.media.close(call);
                self.media_unmapped(call);
                self.relays.close_call(call);
            }
            Output::OpenPort { call, port, stream } => self.open_port(call, port, stream),
            Output::ClosePort { port } => self.close_port(port),
            Output::Connect { sink, sources } => self.patchbay.connect(sink, sources),
            Output::SteerStream { port, steering } => {
                report("steer a stream", self.patchbay.controller().steer(port, steering));
            }
            Output::SetMuted { port, muted } => {
                let result = self.patchbay.controller().set_muted(port, muted);
                report("mute a stream", result);
            }
            Output::SendDtmf { port, digit, duration_ms } => {
                let result = self.patchbay.controller().send_dtmf(port, digit, duration_ms);
                report("send a digit", result);
            }
            Output::PlayTone { port, tone } => self.patchbay.play_tone(port, tone),
            Output::UseDevice(wanted) => {
                self.devices.use_for_calls(wanted, &mut self.patchbay);
                self.publish_audio();
            }
            Output::UseRinger(wanted) => {
                self.devices.use_ringer(wanted, &mut self.patchbay);
                self.publish_audio();
            }
            Output::SendRtcp { call, remote, muxed, bytes } => {
                self.media.send_rtcp(call, remote, muxed, &bytes);
            }
            Output::SendStun { call, from, remote, bytes } => {
                self.media.send_stun(call, from, remote, &bytes);
            }
            Output::UseSocket { call, port, socket } => self.use_socket(call, port, socket),
            Output::OpenRelay { call, stream, server } => self.open_relay(call, stream, &server),
            Output::SendRelay { call, stream, bytes } => self.relays.send(call, stream, bytes),
            Output::PlayPacket { port, bytes, .. } => {
                let handed = self.patchbay.controller().hand(port, &bytes, monotonic_nanos());
                report("hand a packet to a stream", handed);
            }
            Output::CloseRelay { call, stream } => self.relays.close(call, stream),
            Output::ResolveServer { id, name } => self.resolve_server(id, name),
            Output::MeasureRelay { id, address, transport } => self.measure_relay(id, address, transport),
            Output::RelaysChanged(relays) => self.nat.set_relays(relays),
            Output::WantCounters { call, port } => self.count(call, port),
            Output::AccountChanged(view) => {
                let security = self.account_security(&view);
                self.nat.put_account(&view);
                self.doctor.put_account(&view);
                self.friends.account_changed(&view);
                self.take_relays(Instant::now(), view.id);
                self.offer_relay(Instant::now(), &view);
                self.tell(Update::Account { view, security });
            }
            Output::AccountRemoved(id) => {
                self.friends.account_removed(id);
                self.take_back_relay(id);
                self.nat.remove_account(id);
                self.doctor.remove_account(id);
                self.tell(Update::AccountRemoved(id));
            }
            Output::CallChanged(view) => self.tell(Update::Call(view)),
            Output::CallStateChanged { call, old, new, reason, sip_status } => {
                self.tell(Update::CallStateChanged { call, old, new, reason, sip_status });
            }
            Output::DtmfReceived { call, digit, duration_ms } => {
                self.tell(Update::DtmfReceived { call, digit, duration_ms });
            }
            Output::QualityChanged { call, warning } => self.tell(Update::QualityChanged { call, warning }),
            Output::ConferenceChanged(view) => self.tell(Update::Conference(view)),
            Output::DialTone(on) => self.tell(Update::DialTone(on)),
            Output::ConferenceRemoved(id) => self.tell(Update::ConferenceRemoved(id)),
            Output::CallRemoved(call) => {
                self.statistics.remove(&call);
                self.listened.remove(&call);
                self.tell(Update::CallRemoved(call));
            }
            Output::Log(note) => write_log(&note),
            Output::Timeout(_) => {}
        }
    }

    fn tell(&mut self, update: Update) {
        self.updates.send(update);
    }

    fn publish_audio(&mut self) {
        if let Some(view) = self.devices.changed_view(self.realtime.scheduling()) {
            self.tell(Update::Audio(Box::new(view)));
        }
    }
}

/// The engine speaks only of ports that were opened; what it refuses is logged, and the call goes on.
fn report(what: &str, result: Result<(), voipd_audio::engine::EngineError>) {
    if let Err(error) = result {
        log::warn!("cannot {what}: {error}");
    }
}

fn write_log(note: &Note) {
    let level = match note.weight {
        Weight::Info => log::Level::Info,
        Weight::Warning => log::Level::Warn,
    };
    let account = note.account.as_deref().unwrap_or("");
    match note.call {
        Some(call) => log::log!(level, call = call.0, account = account; "{}", note.text),
        None => log::log!(level, account = account; "{}", note.text),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Wall-clock time in Unix microseconds.
pub fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
