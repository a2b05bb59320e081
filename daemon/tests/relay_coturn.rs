//! Sound by way of a real TURN server (coturn) over UDP, TCP and TLS: allocation, checks, channel, and packets both ways
//! between two streams of the real engine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use voipd::realtime::{EngineWaker, Gate, UdpMediaSocket, bind_pair, run_ticks};
use voipd::relay::{RelayHappened, Relays};
use voipd::tls::TlsClient;
use voipd_agent::account::TlsSettings;
use voipd_agent::view::CallId;
use voipd_audio::engine::{Controller, engine};
use voipd_audio::plan::{Codec, Path, PortId, Protection, ReceiveKind, SendPlan, StreamPlan};
use voipd_nat::ice::{
    Base, Candidate, CandidateKind, IceAgent, MediaPath, Output, Remote, Role, Settings, StreamId,
};
use voipd_nat::turn::{RelayError, RelayServer, RelayTransport};
use voipd_sip::uri::Host;

/// How long anything here may take before the test is called off.
const PATIENCE: Duration = Duration::from_secs(60);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CALL: CallId = CallId(1);
/// Behind the relay, and on the other side of it.
const NEAR: PortId = PortId(1);
const FAR: PortId = PortId(2);

/// A running coturn; it ends with this value.
struct Coturn {
    child: Child,
    plain: SocketAddr,
    secure: SocketAddr,
    certificate: String,
    _directory: tempfile::TempDir,
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Coturn {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[String]) -> Self {
        let by = Instant::now() + PATIENCE;
        loop {
            // Somebody may take a port before coturn does.
            if let Some(coturn) = Self::try_start(more) {
                return coturn;
            }
            assert!(Instant::now() < by, "coturn finds no free port");
        }
    }

    fn try_start(more: &[String]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["relay.test".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap()
            .pem();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (plain, secure) = (free_port(), free_port());
        let empty = file("turnserver.conf", "");
        let pid_file = directory.path().join("pid").display().to_string();
        let database = directory.path().join("turndb").display().to_string();
        let program =
            ["/usr/bin/turnserver", "/usr/sbin/turnserver"].into_iter().find(|p| FilePath::new(p).exists());
        let program = program.expect("coturn is needed: make test-deps installs it");
        // It ends with this test's thread, also when that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(["-c", &empty, "--pidfile", &pid_file, "--userdb", &database, "--log-file", "stdout"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--allow-loopback-peers"])
            .args([
                "--listening-port",
                &plain.port().to_string(),
                "--tls-listening-port",
                &secure.port().to_string(),
            ])
            .args([
                "--cert",
                &file("cert.pem", &certificate),
                "--pkey",
                &file("key.pem", &key.serialize_pem()),
            ])
            .args(["--lt-cred-mech", "--user", "user:secret", "--realm", "relay.test"])
            .args(more)
            .args(["--no-cli", "--no-dtls", "--no-multicast-peers", "--relay-threads", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("coturn starts");
        let mut coturn = Coturn { child, plain, secure, certificate, _directory: directory };
        let by = Instant::now() + PATIENCE;
        while Instant::now() < by {
            if coturn.child.try_wait().unwrap().is_some() {
                return None;
            }
            if [plain, secure].iter().all(|at| TcpStream::connect(at).is_ok()) {
                return Some(coturn);
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("coturn does not listen");
    }

    fn server(&self, transport: RelayTransport) -> RelayServer {
        RelayServer {
            name: "relay.test".to_owned(),
            address: if transport == RelayTransport::Tls { self.secure } else { self.plain },
            transport,
            username: "user".to_owned(),
            password: "secret".to_owned(),
        }
    }
}

/// A port that is free with TCP and with UDP.
fn free_port() -> SocketAddr {
    let by = Instant::now() + PATIENCE;
    loop {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
        assert!(Instant::now() < by, "no free port");
    }
}

fn plan(generation: u32, path: Path, sends: bool) -> StreamPlan {
    let send = SendPlan {
        codec: Codec::Pcmu,
        payload_type: 0,
        ptime_ms: 20,
        events: None,
        bitrate: None,
        fec: false,
        dtx: false,
        cbr: false,
        max_playback_rate: None,
        comfort_noise: None,
        redundancy: None,
    };
    let receive = vec![(0, ReceiveKind::Audio(Codec::Pcmu))];
    let ssrc = if matches!(path, Path::Udp { .. }) { 0xF00 } else { 0xBA0 };
    StreamPlan {
        generation,
        path,
        protection: Protection::None,
        ssrc,
        send: sends.then_some(send),
        keep_open: None,
        receive,
        play: true,
    }
}

/// One end: its agent, its socket as the control side has it, and what was selected.
struct End {
    agent: IceAgent,
    port: PortId,
    socket: UdpSocket,
    base: SocketAddr,
    path: Option<MediaPath>,
    gathered: bool,
    failed: Option<RelayError>,
    wake: Option<Instant>,
}

struct Scene {
    controller: Controller<UdpMediaSocket>,
    gate: Arc<Gate>,
    signal: voipd::realtime::WakeSignal,
    relays: Relays,
    events: tokio::sync::mpsc::Receiver<voipd::relay::RelayEvent>,
    tls: TlsClient,
    authority: String,
    ends: BTreeMap<PortId, End>,
    /// Where the relay is, and where it may send us.
    relays_at: Vec<SocketAddr>,
    /// Of the plan made last.
    generation: u32,
    by: Instant,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.gate.stop();
    }
}

impl Scene {
    fn new(coturn: &Coturn, server: RelayServer) -> Self {
        let waker = EngineWaker::new().unwrap();
        let signal = waker.signal().unwrap();
        let (mut controller, mut processor) = engine::<UdpMediaSocket>(4, Box::new(waker));
        let gate = Arc::new(Gate::new().unwrap());
        thread::spawn({
            let gate = gate.clone();
            move || run_ticks(&mut processor, &gate)
        });
        let (relays, events) = Relays::new();
        let mut ends = BTreeMap::new();
        for port in [NEAR, FAR] {
            let pair = bind_pair(LOCAL, 43_000..=43_999, 0).unwrap();
            let socket = pair.rtp.sender().unwrap();
            let base = pair.rtp.local_addr().unwrap();
            // Behind a relay that is reached by a connection, nothing but that connection is there.
            let has_base = port == FAR || server.transport == RelayTransport::Udp;
            let bases = has_base.then_some(Base { component: 1, address: base, preference: 1 });
            let settings = Settings {
                role: if port == NEAR { Role::Controlling } else { Role::Controlled },
                components: 1,
                bases: bases.into_iter().collect(),
                stun_servers: vec![],
                relays: if port == NEAR { vec![server.clone()] } else { vec![] },
            };
            let silent = plan(1, Path::Udp { remote: base, symmetric: false }, false);
            controller.open_stream(port, silent, pair.rtp).unwrap();
            let agent = IceAgent::new(Instant::now(), settings, [port.0 as u8; 32]);
            let (path, gathered, failed, wake) = (None, false, None, None);
            ends.insert(port, End { agent, port, socket, base, path, gathered, failed, wake });
        }
        gate.open();
        Scene {
            controller,
            gate,
            signal,
            relays,
            events,
            tls: TlsClient::default(),
            authority: coturn.certificate.clone(),
            ends,
            relays_at: vec![server.address],
            generation: 1,
            by: Instant::now() + PATIENCE,
        }
    }

    fn end(&mut self, port: PortId) -> &mut End {
        self.ends.get_mut(&port).unwrap()
    }

    /// Lets everything happen until `done`.
    async fn run_until(&mut self, what: &str, done: impl Fn(&mut Scene) -> bool) {
        loop {
            self.drain();
            if done(self) {
                return;
            }
            assert!(Instant::now() < self.by, "waited too long: {what}");
            let wake = self.ends.values().filter_map(|end| end.wake).min().unwrap_or(self.by).min(self.by);
            tokio::select! {
                () = sleep_until(wake.into()) => {}
                () = self.signal.woken() => {}
                event = self.events.recv() => {
                    let event = event.unwrap();
                    self.relays.note(&event);
                    let now = Instant::now();
                    let agent = &mut self.end(NEAR).agent;
                    match event.happened {
                        RelayHappened::Opened => agent.handle_stream_opened(now, event.stream),
                        RelayHappened::Message(bytes) => agent.handle_stream_message(now, event.stream, &bytes),
                        RelayHappened::Closed(why) => agent.handle_stream_closed(now, event.stream, &why),
                    }
                }
            }
            self.relays.kick();
            self.controller.service();
            while self.controller.poll_event().is_some() {}
            while let Some(stray) = self.controller.poll_stray() {
                let end = self.ends.get_mut(&stray.port).unwrap();
                end.agent.handle_datagram(Instant::now(), end.base, stray.source, &stray.bytes);
            }
            for end in self.ends.values_mut() {
                end.agent.handle_timeout(Instant::now());
            }
            self.gate.open();
        }
    }

    fn drain(&mut self) {
        for port in [NEAR, FAR] {
            loop {
                let end = self.ends.get_mut(&port).unwrap();
                match end.agent.poll_output() {
                    Output::Timeout(at) => {
                        end.wake = at;
                        break;
                    }
                    // No way but the relay: as behind a firewall that lets nothing else out.
                    Output::Transmit { remote, bytes, .. }
                        if port == FAR || self.relays_at.contains(&remote) =>
                    {
                        let _ = end.socket.send_to(&bytes, remote);
                    }
                    Output::Transmit { .. }
                    | Output::Candidate(_)
                    | Output::State(_)
                    | Output::Withdrawn { .. }
                    | Output::Received { .. } => {}
                    Output::OpenStream { stream, server } => self.open(stream, &server),
                    Output::TransmitStream { stream, bytes } => self.relays.send(CALL, stream, bytes),
                    Output::CloseStream { stream } => self.relays.close(CALL, stream),
                    Output::GatheringComplete => end.gathered = true,
                    Output::RelayFailed { error, .. } => end.failed = Some(error),
                    Output::Selected(pair) => {
                        end.path = Some(pair.path);
                        self.follow(port, pair.path);
                    }
                }
            }
        }
    }

    fn open(&mut self, stream: StreamId, server: &RelayServer) {
        let settings = TlsSettings { authorities: Some(self.authority.clone()), ..TlsSettings::default() };
        let number = self.tls.require(&Host::Name(server.name.clone()), &settings, |_| true).unwrap();
        let requirement = self.tls.get(number).cloned();
        self.relays.open(CALL, stream, server, requirement);
    }

    fn follow(&mut self, port: PortId, path: MediaPath) {
        self.generation += 1;
        let generation = self.generation;
        let path = match path {
            MediaPath::Direct { remote, .. } => Path::Udp { remote, symmetric: false },
            MediaPath::Channel { server, channel, .. } => Path::TurnChannel { server, channel },
            MediaPath::Stream { stream, channel, peer } => {
                let rings = self.relays.attach(CALL, stream);
                assert!(rings.is_some());
                self.controller.attach_relay(port, rings).unwrap();
                Path::Stream { peer, link: stream.0, channel }
            }
        };
        self.controller.update_stream(port, plan(generation, path, true)).unwrap();
    }

    fn describe(&mut self, port: PortId) -> Remote {
        let agent = &self.end(port).agent;
        let told = |candidate: &&Candidate| port == FAR || candidate.kind == CandidateKind::Relayed;
        let candidates = agent.candidates().iter().filter(told).cloned().collect();
        Remote { credentials: agent.credentials().clone(), lite: false, candidates, trickles: false }
    }

    async fn call(&mut self) {
        self.run_until("gathering", |scene| scene.ends.values().all(|end| end.gathered)).await;
        let (near, far) = (self.describe(NEAR), self.describe(FAR));
        assert_eq!(near.candidates.len(), 1, "{:?}", self.end(NEAR).failed);
        self.end(FAR).agent.set_remote(Instant::now(), near);
        self.end(NEAR).agent.set_remote(Instant::now(), far);
        self.run_until("paths", |scene| scene.ends.values().all(|end| end.path.is_some())).await;
        self.run_until("sound both ways", |scene| {
            let received = |port| {
                scene.controller.stream_counters(port).is_some_and(|counters| counters.packets_received >= 50)
            };
            received(NEAR) && received(FAR)
        })
        .await;
    }

    async fn hang_up(&mut self) {
        for end in self.ends.values_mut() {
            end.agent.close(Instant::now());
            self.controller.close(end.port);
        }
        self.drain();
        // A last round, so that what was said goes out.
        self.run_until("the end", |_| true).await;
    }
}

async fn call_by(transport: RelayTransport) -> MediaPath {
    let coturn = Coturn::start();
    let mut scene = Scene::new(&coturn, coturn.server(transport));
    scene.call().await;
    let path = scene.end(NEAR).path.unwrap();
    scene.hang_up().await;
    path
}

#[tokio::test]
async fn sound_crosses_a_relay_that_is_reached_by_udp() {
    let path = call_by(RelayTransport::Udp).await;
    assert!(matches!(path, MediaPath::Channel { channel: 0x4000..=0x4FFF, .. }), "{path:?}");
}

#[tokio::test]
async fn sound_crosses_a_relay_that_is_reached_by_tcp() {
    let path = call_by(RelayTransport::Tcp).await;
    assert!(matches!(path, MediaPath::Stream { channel: 0x4000..=0x4FFF, .. }), "{path:?}");
}

#[tokio::test]
async fn sound_crosses_a_relay_that_is_reached_by_tls() {
    let path = call_by(RelayTransport::Tls).await;
    assert!(matches!(path, MediaPath::Stream { channel: 0x4000..=0x4FFF, .. }), "{path:?}");
}

#[tokio::test]
async fn a_relay_that_cannot_be_used_says_why() {
    let coturn = Coturn::start();
    let wrong = RelayServer { password: "wrong".to_owned(), ..coturn.server(RelayTransport::Udp) };
    let mut scene = Scene::new(&coturn, wrong);
    scene.run_until("a refusal", |scene| scene.end(NEAR).failed.is_some()).await;
    assert_eq!(scene.end(NEAR).failed, Some(RelayError::Credentials));

    let foreign = RelayServer { name: "other.test".to_owned(), ..coturn.server(RelayTransport::Tls) };
    let mut scene = Scene::new(&coturn, foreign);
    scene.run_until("a refusal", |scene| scene.end(NEAR).failed.is_some()).await;
    let Some(RelayError::Connection(why)) = scene.end(NEAR).failed.clone() else { panic!("no connection") };
    assert!(why.contains("certificate"), "{why}");

    let closed = RelayServer { address: free_port(), ..coturn.server(RelayTransport::Tcp) };
    let mut scene = Scene::new(&coturn, closed);
    scene.run_until("a refusal", |scene| scene.end(NEAR).failed.is_some()).await;
    assert!(matches!(scene.end(NEAR).failed, Some(RelayError::Connection(_))));
}

#[tokio::test]
async fn sound_crosses_the_relay_that_another_one_sends_us_to() {
    let second = Coturn::start();
    let first = Coturn::start_with(&[format!("--alternate-server={}", second.plain)]);
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        let mut scene = Scene::new(&first, first.server(transport));
        scene.relays_at.push(second.plain);
        scene.call().await;
        if let Some(MediaPath::Channel { server, .. }) = scene.end(NEAR).path {
            assert_eq!(server, second.plain);
        }
        scene.hang_up().await;
    }
}

/// One that relays with both families, also where it is asked in the words of RFC 8656 for the second.
#[tokio::test]
async fn a_relay_gives_an_address_of_each_family() {
    let coturn = Coturn::start_with(&["--relay-ip=::1".to_owned()]);
    for transport in [RelayTransport::Udp, RelayTransport::Tcp] {
        let mut scene = Scene::new(&coturn, coturn.server(transport));
        // Whoever has an IPv6 address asks for one at the relay.
        let ours = UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap();
        let base = Base { component: 1, address: ours, preference: 0 };
        let settings = Settings {
            role: Role::Controlling,
            components: 1,
            bases: vec![Base { component: 1, address: scene.end(NEAR).base, preference: 1 }, base],
            stun_servers: vec![],
            relays: vec![coturn.server(transport)],
        };
        scene.end(NEAR).agent = IceAgent::new(Instant::now(), settings, [9; 32]);
        scene.end(NEAR).gathered = false;
        scene.run_until("gathering", |scene| scene.end(NEAR).gathered).await;
        let candidates = scene.end(NEAR).agent.candidates().to_vec();
        let relayed = candidates.iter().filter(|candidate| candidate.kind == CandidateKind::Relayed);
        let mut families: Vec<bool> = relayed.map(|candidate| candidate.address.is_ipv6()).collect();
        families.sort_unstable();
        assert_eq!(families, [false, true], "{transport:?}: {candidates:?}");
        scene.hang_up().await;
    }
}
