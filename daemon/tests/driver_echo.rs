//! The driver without a bus: calls to its own echo service, over real sockets and the real audio thread.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use voipd::api::devices::DeviceSettings;
use voipd::api::{CallSound, Reply, Request, Update};
use voipd::config::SipConfig;
use voipd::config::{self, Scope};
use voipd::doctor::ConfigSource;
use voipd::driver::{DeviceSetup, Driver, FriendParts, Friends, MappingParts, Parts, unix_micros};
use voipd::sound::SoundSystem;
use voipd::store::Store;
use voipd::transport::{Place, Resolver, ResolverSettings, Transport};
use voipd_agent::view::{CallId, CallState};
use voipd_agent::{Agent, AgentConfig};
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::TlsRequirement;
use voipd_sip::endpoint::Transport::Udp;

const CONFIG: &str = "
[audio]
input = 'null'
output = 'null'
ringer = 'null'

[[account]]
name = 'echo'
kind = 'echo'
";

/// One second of a tone that a telephone codec keeps.
fn tone(path: &std::path::Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..8000 {
        let sample = (n as f32 * 440.0 * std::f32::consts::TAU / 8000.0).sin() * 10_000.0;
        wav.write_sample(sample as i16).unwrap();
    }
    wav.finalize().unwrap();
}

/// A driver with an echo service of its own, and the ways to it.
struct Scene {
    parts: Parts,
    requests: mpsc::Sender<Request>,
    incoming: mpsc::Receiver<Request>,
    updates: mpsc::UnboundedReceiver<Update>,
    /// Where it takes calls.
    port: u16,
}

impl Scene {
    /// With so many ports in its audio engine.
    async fn set(scratch: &Path, ports: usize) -> Self {
        voipd::logging::init(log::LevelFilter::Debug);
        let file = scratch.join("voipd.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let config = config::load(Some(&file), Scope::Session).unwrap().config;
        let now = Instant::now();
        let agent_config = AgentConfig {
            tones: None,
            product: "voipd-test".to_owned(),
            instance: None,
            contact_key: None,
            max_calls: 8,
            ring_timeout: Duration::from_secs(10),
            media_timeout: Duration::from_secs(20),
            network_timeout: Duration::from_secs(60),
            session_timer: Some(1800),
        };
        let mut agent = Agent::new(agent_config, [7; 32], now, unix_micros());
        for settings in std::iter::once(config.direct.clone()).chain(config.accounts.clone()) {
            agent.add_account(now, settings).unwrap();
        }
        let mappings = MappingParts::new(&config, [3; 32], Vec::new());
        let transport = Transport::bind(&SipConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..config.sip.clone()
        })
        .unwrap();
        let friend_parts = FriendParts {
            config: &config,
            product: "voipd",
            kept: Default::default(),
            relay: None,
            key: Secret::new("a key of this test"),
            seed: [2; 32],
        };
        let friends = Friends::new(friend_parts, &transport);
        let place = Place { transport: Udp, remote: "127.0.0.1:9".parse().unwrap() };
        let probe = transport.flow_to(place, TlsRequirement::default()).unwrap();
        let port = probe.local.port();
        let (controller, realtime) = voipd::realtime::start(ports).unwrap();
        let (updates_in, updates) = mpsc::unbounded_channel();
        let (requests, incoming) = mpsc::channel(8);
        let sockets = scratch.join("sockets");
        let parts = Parts {
            agent,
            transport,
            resolver: Resolver::new(ResolverSettings {
                name_servers: Vec::new(),
                transports: vec![Udp],
                seed: [1; 32],
            }),
            controller,
            realtime,
            sound: SoundSystem::start().unwrap(),
            sockets: Some(sockets),
            devices: DeviceSetup {
                names: ["null", "null", "null"].map(str::to_owned),
                defaults: DeviceSettings::default(),
                kept: Vec::new(),
                fallback: true,
            },
            tone_files: Default::default(),
            rtp: config.rtp,
            nat: config.nat,
            mappings,
            neighbours: config.neighbours,
            seed: [3; 32],
            config: ConfigSource { named: Some(file), scope: Scope::Session, read_at: SystemTime::now() },
            friends,
            store: Store::open(&scratch.join("state")).unwrap().0,
            network: voipd::network::NetworkWatch::start().await,
            updates: updates_in,
        };
        Self { parts, requests, incoming, updates, port }
    }
}

/// The wish to call the echo service.
fn dial(port: u16, sound: CallSound, reply: Reply<CallId>) -> Request {
    let target = format!("sip:echo@127.0.0.1:{port}");
    Request::Dial { target, account: None, sound, codecs: None, anonymous: false, follow: false, reply }
}

/// Calls the echo service and waits until the call is active.
async fn active_call(
    requests: &mpsc::Sender<Request>,
    updates: &mut mpsc::UnboundedReceiver<Update>,
    port: u16,
    sound: CallSound,
) -> CallId {
    let (reply, answer) = oneshot::channel();
    requests.send(dial(port, sound, reply)).await.ok().unwrap();
    let mut answer = Some(answer);
    let mut call = None;
    let mut seen = false;
    let deadline = tokio::time::sleep(Duration::from_secs(8));
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            update = updates.recv() => match update.unwrap() {
                Update::Answer(send) => {
                    send();
                    if let Some(answer) = answer.take() {
                        call = Some(answer.await.unwrap().unwrap());
                        assert!(seen, "the call was announced before the reply");
                    }
                }
                Update::Call(view) => {
                    seen = true;
                    if let Some(call) = call && call == view.id && view.state == CallState::Active { return call; }
                }
                _ => {}
            },
            () = &mut deadline => panic!("the call did not become active"),
        }
    }
}

#[tokio::test]
async fn a_call_that_the_audio_engine_has_no_place_for_ends() {
    let scratch = tempfile::tempdir().unwrap();
    // The call out and the same call in need two.
    let Scene { parts, requests, incoming, mut updates, port } = Scene::set(scratch.path(), 1).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = Driver::run(parts, incoming, async move { drop(stopped.await) });
    let client = async move {
        let (reply, _answer) = oneshot::channel();
        let sound = CallSound { programs: true, ..CallSound::default() };
        requests.send(dial(port, sound, reply)).await.ok().unwrap();
        let both_end = async {
            let mut ended = BTreeSet::new();
            while ended.len() < 2 {
                if let Update::CallStateChanged { call, new: CallState::Ended, .. } =
                    updates.recv().await.unwrap()
                {
                    ended.insert(call);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), both_end).await.expect("no call is left without sound");
        stop.send(()).unwrap();
    };
    tokio::join!(driver, client);
}

#[tokio::test]
async fn a_call_to_the_own_echo_service_brings_the_sound_back() {
    let scratch = tempfile::tempdir().unwrap();
    let Scene { parts, requests, incoming, mut updates, port } = Scene::set(scratch.path(), 32).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = Driver::run(parts, incoming, async move { drop(stopped.await) });

    let client = async move {
        let speech = scratch.path().join("tone.wav");
        tone(&speech);
        let record = scratch.path().join("back.wav");
        let sound = CallSound {
            play: Some(OwnedFd::from(File::open(&speech).unwrap())),
            record: Some(OwnedFd::from(File::create(&record).unwrap())),
            ..CallSound::default()
        };
        let call = active_call(&requests, &mut updates, port, sound).await;
        tokio::time::sleep(Duration::from_millis(1700)).await;
        let (reply, answer) = oneshot::channel();
        requests.send(Request::CallStatistics { call, reply }).await.ok().unwrap();
        let statistics = loop {
            if let Update::Answer(send) = updates.recv().await.unwrap() {
                send();
                break answer.await.unwrap().unwrap();
            }
        };
        assert!(statistics.stream.packets_received > 60, "{statistics:?}");
        assert_eq!(statistics.stream.packets_lost, 0, "{statistics:?}");
        let opinion = statistics.quality.inbound.map(|quality| quality.conversation_opinion);
        assert!(opinion.is_some_and(|mos| (3.5..4.5).contains(&mos)), "{statistics:?}");
        let (reply, answer) = oneshot::channel();
        requests.send(Request::CallGraph { call, reply }).await.ok().unwrap();
        let graph = loop {
            if let Update::Answer(send) = updates.recv().await.unwrap() {
                send();
                break answer.await.unwrap().unwrap();
            }
        };
        // The file may have been played to its end.
        let kinds: Vec<&str> = graph.iter().map(|node| node.kind).filter(|kind| *kind != "player").collect();
        let expected =
            ["mixer", "encoder", "path", "peer", "peer", "path", "jitter-buffer", "decoder", "recorder"];
        assert_eq!(kinds, expected, "{graph:?}");
        // Whatever feeds something feeds a part that is there.
        let there = |id: &String| graph.iter().any(|node| node.id == *id);
        assert!(graph.iter().all(|node| node.to.iter().all(there)), "{graph:?}");
        let (reply, _answer) = oneshot::channel();
        requests.send(Request::Hangup { call, reply }).await.ok().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut wav = hound::WavReader::open(&record).unwrap();
        let loudest = wav.samples::<i16>().map(|s| s.unwrap().unsigned_abs()).max().unwrap();
        assert!(loudest > 5_000, "the tone came back at {loudest}");
        stop.send(()).unwrap();
    };
    tokio::join!(driver, client);
}

/// What is told waits until the recording of an ended call is complete, and with it what is answered.
#[tokio::test]
async fn no_answer_overtakes_the_change_that_it_is_about() {
    const CHANGES: usize = 10;
    let scratch = tempfile::tempdir().unwrap();
    let Scene { parts, requests, incoming, mut updates, port } = Scene::set(scratch.path(), 32).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = Driver::run(parts, incoming, async move { drop(stopped.await) });
    let client = async move {
        let record = OwnedFd::from(File::create(scratch.path().join("back.wav")).unwrap());
        let sound = CallSound { record: Some(record), programs: true, ..CallSound::default() };
        let call = active_call(&requests, &mut updates, port, sound).await;
        let (reply, _answer) = oneshot::channel();
        requests.send(Request::Hangup { call, reply }).await.ok().unwrap();
        // At moments before, while and after the recording is completed.
        let mut answers = Vec::new();
        for number in 0..CHANGES {
            let (reply, answer) = oneshot::channel();
            requests.send(Request::SetDoNotDisturb { on: number % 2 == 0, reply }).await.ok().unwrap();
            answers.push(answer);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all_answered = async {
            let (mut told, mut answered) = (0, 0);
            while answered < CHANGES {
                match updates.recv().await.unwrap() {
                    Update::DoNotDisturb(_) => told += 1,
                    Update::Answer(send) => {
                        send();
                        answered += answers.iter_mut().filter_map(|answer| answer.try_recv().ok()).count();
                    }
                    _ => {}
                }
                assert!(answered <= told, "{answered} answers after {told} changes");
            }
        };
        tokio::time::timeout(Duration::from_secs(8), all_answered).await.expect("all are answered");
        stop.send(()).unwrap();
    };
    tokio::join!(driver, client);
}
