//! Proves over the whole media path that a tick allocates nothing, frees nothing, takes no lock and makes no system call
//! but those of its sockets, its waker and its clock.
#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code)]

mod guard;

use std::ffi::{c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use guard::{catch_forbidden_calls, confine, findings, sleep_for_ever, watch_allocator};
use voipd::realtime::{EngineWaker, Gate, UdpMediaSocket, bind_pair, run_ticks};
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::engine::{
    Clip, Controller, DevicePort, Listener, Pace, ProgramPort, RelayPacket, Side, engine, insert, relay_rings,
};
use voipd_audio::plan::{
    Codec, EngineCounters, EngineEvent, Heard, Path, Protection, ReceiveKind, SendPlan, Steering,
};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Signal, Tone};
use voipd_audio::voice::Stages;
use voipd_audio::{PortId, StreamPlan};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EVENTS: u8 = 101;
const REDUNDANT: u8 = 102;

unsafe extern "C" {
    fn opus_encoder_create(rate: i32, channels: c_int, application: c_int, error: *mut c_int) -> *mut c_void;
    fn opus_encoder_destroy(encoder: *mut c_void);
}

/// The guard itself: it must see what it is there to see.
fn the_guard_sees() {
    let before = findings();
    let text = c"text";
    watch_allocator(true);
    // SAFETY: a valid string; what the C library allocates for it is given back.
    unsafe { libc::free(libc::strdup(text.as_ptr()).cast()) };
    watch_allocator(false);
    let c_library = findings();
    assert_eq!(c_library.allocator_calls, before.allocator_calls + 2, "strdup and free in the C library");

    watch_allocator(true);
    // SAFETY: arguments as documented (48 kHz, mono, VoIP); libopus gives the encoder and takes it back.
    unsafe { opus_encoder_destroy(opus_encoder_create(48_000, 1, 2048, &mut 0)) };
    watch_allocator(false);
    let libopus = findings();
    assert!(libopus.allocator_calls >= c_library.allocator_calls + 2, "libopus's own allocation");

    watch_allocator(true);
    drop(std::hint::black_box(vec![0_u8; 100]));
    watch_allocator(false);
    assert!(findings().allocator_calls > libopus.allocator_calls, "Rust's allocation");

    let done = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let done = done.clone();
        move || {
            confine(&[-1], -1);
            // SAFETY: takes nothing.
            unsafe { libc::syscall(libc::SYS_getppid) };
            let word = 0_u32;
            // SAFETY: wakes nobody on a valid word.
            unsafe { libc::syscall(libc::SYS_futex, &word, libc::FUTEX_WAKE, 0) };
            done.store(true, Ordering::SeqCst);
            sleep_for_ever();
        }
    });
    wait("the confined thread", || done.load(Ordering::SeqCst));
    let confined = findings();
    assert_eq!(confined.forbidden_calls, before.forbidden_calls + 2);
    assert_eq!(i64::from(confined.last_forbidden), libc::SYS_futex);
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited too long: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn plan(codec: Codec, payload_type: u8, ssrc: u32, remote: SocketAddr) -> StreamPlan {
    let send = SendPlan {
        codec,
        payload_type,
        ptime_ms: 20,
        events: Some((EVENTS, codec.clock_rate())),
        bitrate: None,
        fec: true,
        dtx: false,
        cbr: false,
        max_playback_rate: None,
        comfort_noise: None,
        redundancy: Some(REDUNDANT),
    };
    StreamPlan {
        generation: 1,
        path: Path::Udp { remote, symmetric: true },
        protection: Protection::None,
        ssrc,
        send: Some(send),
        keep_open: None,
        receive: vec![
            (0, ReceiveKind::Audio(Codec::Pcmu)),
            (8, ReceiveKind::Audio(Codec::Pcma)),
            (9, ReceiveKind::Audio(Codec::G722)),
            (96, ReceiveKind::Audio(Codec::Opus)),
            (EVENTS, ReceiveKind::Events(codec.clock_rate())),
            (REDUNDANT, ReceiveKind::Redundant),
        ],
        play: true,
    }
}

/// A peer behind a TURN server that is reached by datagrams, and one behind a connection: their packets, garbage and
/// control messages, with changes of the path in between.
fn relayed(scene: &mut Scene, [by_channel, by_stream]: [PortId; 2]) {
    const CHANNEL: u16 = 0x4001;
    let server = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let at = server.local_addr().expect("bound");
    let pairs = [0, 1].map(|_| bind_pair(LOCAL, 42_000..=42_999, 46).expect("ports"));
    let to = pairs[0].rtp.local_addr().expect("bound");
    let channel = |generation| {
        let path = Path::TurnChannel { server: at, channel: CHANNEL };
        StreamPlan { generation, path, ..plan(Codec::Opus, 96, 0x8000, at) }
    };
    let stream = StreamPlan {
        path: Path::Stream { peer: at, link: 1, channel: CHANNEL },
        ..plan(Codec::Pcmu, 0, 0x8001, at)
    };
    let [first, second] = pairs;
    scene.controller.open_stream(by_channel, channel(1), first.rtp).expect("room");
    scene.controller.open_stream(by_stream, stream, second.rtp).expect("room");
    let (port, mut ends) = relay_rings();
    scene.controller.attach_relay(by_stream, Some(port)).expect("a stream");
    for port in [by_channel, by_stream] {
        scene.controller.connect(port, &[port]).expect("open");
    }
    let frame = |packet: &[u8]| {
        let mut framed = CHANNEL.to_be_bytes().to_vec();
        framed.extend((packet.len() as u16).to_be_bytes());
        framed.extend(packet);
        framed
    };
    let mut by_stream_sent = 0;
    for number in 0..60_u16 {
        let mut packet = vec![0x80, 0];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 160).to_be_bytes());
        packet.extend([0, 0, 0xBE, 0xEF]);
        packet.extend([number as u8; 160]);
        let send = |bytes: &[u8]| drop(server.send_to(bytes, to));
        send(&frame(&packet));
        send(&frame(&[0x80, 200, 0, 1, 0, 0, 0, 0]));
        send(&frame(&[0; 20]));
        send(&frame(&packet)[..100]);
        send(&[0; 40]);
        for bytes in [frame(&packet), frame(&[0; 20]), vec![0x40; 3]] {
            ends.push(RelayPacket::new(&bytes, 0).expect("short"));
        }
        // By a relay without a channel, and no sound.
        for bytes in [&packet[..], &[0; 20]] {
            scene.controller.hand(by_channel, bytes, 0).expect("a stream");
        }
        match number {
            20 => {
                let path = Path::Udp { remote: at, symmetric: false };
                let direct = StreamPlan { generation: 2, path, ..channel(2) };
                scene.controller.update_stream(by_channel, direct).expect("a stream");
                let (port, others) = relay_rings();
                ends = others;
                scene.controller.attach_relay(by_stream, Some(port)).expect("a stream");
            }
            40 => scene.controller.update_stream(by_channel, channel(3)).expect("a stream"),
            // Nobody takes what the tick sends for a while: its ring fills.
            _ => {}
        }
        scene.run(20);
        if !(25..59).contains(&number) {
            by_stream_sent += std::iter::from_fn(|| ends.outgoing.pop().ok()).count();
        }
    }
    let counters =
        [by_channel, by_stream].map(|port| scene.controller.stream_counters(port).expect("a stream"));
    assert!(counters.iter().all(|counters| counters.packets_received > 20), "{counters:?}");
    assert!(counters.iter().all(|counters| counters.packets_sent > 20), "{counters:?}");
    assert!(by_stream_sent > 10 && counters[1].packets_invalid > 20, "{by_stream_sent} {counters:?}");
    for port in [by_channel, by_stream] {
        scene.controller.close(port);
    }
    scene.run(50);
}

/// A microphone that is processed, switched, late, and given another thread; volumes.
fn processed(scene: &mut Scene, [microphone, loudspeaker]: [PortId; 2], waker: EngineWaker) {
    let (port, mut ends, switch) = insert(loudspeaker, Box::new(waker));
    scene.controller.attach_insert(microphone, Some(port)).expect("a device");
    let echo = Stages { echo: true, ..Stages::NONE };
    for stages in [echo, Stages::NONE, Stages { noise: true, gain: true, ..echo }] {
        switch.set(stages);
        for volume in [0.5, 1.0] {
            scene.controller.set_volume(microphone, volume).expect("a device");
            scene.controller.set_volume(loudspeaker, 2.0 * volume).expect("a device");
            for _ in 0..10 {
                scene.run(10);
                ends.process();
            }
        }
    }
    // The thread stands still.
    scene.run(100);
    let (blocks, late) = switch.blocks();
    assert!(blocks > 30 && late > 5 && late < blocks, "{late} of {blocks}");
    scene.controller.set_volume(loudspeaker, 1.0).expect("a device");
    scene.controller.attach_insert(microphone, None).expect("a device");
    scene.run(50);
    assert!(!ends.process(), "the port is gone");
}

/// Programs that listen and speak at odd rates, one of which stops reading; and own sound in the place of a tone.
fn programs(scene: &mut Scene, stream: PortId, ports: [PortId; 2]) {
    let mut clients = Vec::new();
    for (port, (side, rate)) in ports.into_iter().zip([(Side::Stereo, 44_100), (Side::Both, 11_025)]) {
        let (mut said, source) = rtrb::RingBuffer::new(rate as usize);
        let (ring, heard) = rtrb::RingBuffer::new(rate as usize / 5 * side.channels());
        let dropped = Arc::new(AtomicU64::new(0));
        let listener = Some(Listener { side, ring, dropped: dropped.clone() });
        scene
            .controller
            .open_program(port, ProgramPort { source: Some(source), listener, rate }, stream)
            .expect("room");
        said.push_entire_slice(&vec![0.1; rate as usize / 3 + 7]).expect("room");
        clients.push((said, heard, dropped));
    }
    scene.controller.connect(stream, &ports).expect("open");
    let tone = scene.controller.play_clip(stream, Arc::new(Clip::new(&[0.1; 9600])));
    tone.expect("open");
    for _ in 0..40 {
        scene.run(10);
        // The second does not read.
        while clients[0].1.pop().is_ok() {}
    }
    assert_eq!(clients[0].2.load(Ordering::Relaxed), 0);
    assert!(clients[1].2.load(Ordering::Relaxed) > 0);
    scene
        .controller
        .play_tone(stream, Some(Country::by_code("27").expect("known").tone(Signal::Dial)))
        .expect("open");
    scene.run(100);
    scene.controller.play_tone(stream, None).expect("open");
    for port in ports {
        scene.controller.close(port);
    }
    scene.run(50);
}

/// The engine under guard, and what has happened in it.
struct Scene {
    controller: Controller<UdpMediaSocket>,
    gate: Arc<Gate>,
    events: Vec<EngineEvent>,
    strays: usize,
    cards: Vec<Card>,
}

/// A sound card: gives and takes 10 ms at a time.
struct Card {
    record: rtrb::Producer<f32>,
    play: rtrb::Consumer<f32>,
    rate: u32,
    phase: f32,
}

impl Card {
    fn run(&mut self, ms: u32) {
        for _ in 0..self.rate * ms / 1000 {
            self.phase = (self.phase + 300.0 / self.rate as f32).fract();
            let _ = self.record.push(0.3 * (self.phase * std::f32::consts::TAU).sin());
            let _ = self.play.pop();
        }
    }
}

impl Scene {
    /// Real time passes: cards play, the control side does what it does.
    fn run(&mut self, ms: u64) {
        self.gate.open();
        for _ in 0..ms / 10 {
            thread::sleep(Duration::from_millis(10));
            self.cards.iter_mut().for_each(|card| card.run(10));
            self.controller.service();
            self.events.extend(std::iter::from_fn(|| self.controller.poll_event()));
            self.strays += std::iter::from_fn(|| self.controller.poll_stray()).count();
            self.gate.open();
        }
    }

    fn open_card(&mut self, port: PortId, rate: u32, pace: Pace) {
        let (record, capture) = rtrb::RingBuffer::new(rate as usize);
        let (playback, play) = rtrb::RingBuffer::new(rate as usize);
        let device = DevicePort { capture: Some(capture), playback: Some(playback), rate, pace };
        self.controller.open_device(port, device).expect("room");
        self.cards.push(Card { record, play, rate, phase: 0.0 });
    }

    /// Two streams that talk to each other over loopback.
    fn open_call(&mut self, ports: [PortId; 2], codec: Codec, payload_type: u8) {
        let sockets = [0, 1].map(|_| bind_pair(LOCAL, 42_000..=42_999, 46).expect("ports").rtp);
        let addresses = [0, 1].map(|end: usize| sockets[end].local_addr().expect("bound"));
        for ((end, port), socket) in ports.into_iter().enumerate().zip(sockets) {
            let plan = plan(codec, payload_type, 0x5000 + port.0, addresses[1 - end]);
            self.controller.open_stream(port, plan, socket).expect("room");
        }
    }

    fn saw(&self, wanted: impl Fn(&EngineEvent) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

/// All hear each other; of the first it is watched whether it talks, and it does after a while.
fn confer(scene: &mut Scene, members: [PortId; 6]) {
    for member in members {
        let others: Vec<PortId> = members.into_iter().filter(|other| *other != member).collect();
        scene.controller.connect(member, &others).expect("open");
    }
    let [first, second, ..] = members;
    // From silence the noise is learned, and not while the stream is muted.
    scene.controller.connect(first, &[]).expect("open");
    for port in [first, second] {
        scene.controller.watch_activity(port, true).expect("a stream");
    }
    scene.run(100);
    scene.controller.set_muted(first, true).expect("open");
    scene.run(100);
    scene.controller.connect(first, &members[1..]).expect("open");
    scene.controller.set_muted(first, false).expect("open");
    scene.run(200);
    let talks = |event: &EngineEvent| matches!(event, EngineEvent::Activity { port, heard: Heard::Near, talking: true, .. } if *port == first);
    assert!(scene.saw(talks), "{:?}", scene.events);
    for port in [first, second] {
        scene.controller.watch_activity(port, false).expect("a stream");
    }
}

/// A peer that misbehaves: loses, doubles and reorders packets, changes its SSRC and codec, sends garbage.
fn misbehave(scene: &mut Scene, socket: &UdpSocket, target: SocketAddr) {
    let settings = EncoderSettings { fec: true, ..EncoderSettings::new(Codec::Opus, 5) };
    let mut encoder = Encoder::new(settings).expect("an encoder");
    encoder.set_fec(true);
    let stranger = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let mut late = None;
    for number in 0..150_u16 {
        let sound: Vec<f32> =
            (0..960).map(|n| 0.3 * (n as f32 * 0.05 * (1.0 + f32::from(number % 7))).sin()).collect();
        let mut payload = [0; 1275];
        let length = encoder.encode(&sound, &mut payload).expect("a packet");
        let (payload_type, body) = match number {
            60..70 => (0, vec![number as u8; 160]),
            // With a copy of the frame before, 960 units older, and one that is longer than the packet.
            30..60 if number % 3 == 0 => {
                let copy = [0x80 | 96, 0x0F, 0x00, 3, 96, 1, 2, 3];
                (REDUNDANT, copy.into_iter().chain(payload[..length].iter().copied()).collect())
            }
            100..105 => (REDUNDANT, vec![0x80 | 96, 0xFF, 0xFF, 0xFF, 96, 1]),
            70..90 => (9, vec![number as u8; 160]),
            110..114 => (EVENTS, vec![4, if number > 111 { 0x8A } else { 0x0A }, 3, 0xC0]),
            _ => (96, payload[..length].to_vec()),
        };
        let sound_at = if (110..114).contains(&number) { 110 } else { u32::from(number) };
        let ssrc = if number < 100 { 0xABCD_u32 } else { 0xDCBA };
        let mut packet = vec![0x80, payload_type];
        packet.extend(number.to_be_bytes());
        packet.extend((sound_at * 960).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend(body);
        let send = |bytes: &[u8]| drop(socket.send_to(bytes, target));
        match number % 10 {
            3 => {}
            5 => late = Some(packet),
            6 => {
                send(&packet);
                late.take().into_iter().for_each(|packet| send(&packet));
            }
            7 => {
                send(&packet);
                send(&packet);
            }
            _ => send(&packet),
        }
        send(&[number as u8; 40]);
        send(&[0x80, 200, 0, 1, 0, 0, 0, 0]);
        let _ = stranger.send_to(&vec![0x80; 12 + usize::from(number) * 11], target);
        scene.run(20);
    }
}

#[test]
fn a_tick_neither_allocates_nor_locks_nor_calls_the_system() {
    catch_forbidden_calls();
    the_guard_sees();

    let waker = EngineWaker::new().expect("a descriptor");
    let waker_fd = waker.raw();
    let voice_waker = EngineWaker::new().expect("a descriptor");
    let voice_fd = voice_waker.raw();
    let (controller, mut processor) = engine::<UdpMediaSocket>(32, Box::new(waker));
    let gate = Arc::new(Gate::new().expect("a descriptor"));
    let stopped = Arc::new(AtomicBool::new(false));
    let clean = findings();
    thread::spawn({
        let (gate, stopped) = (gate.clone(), stopped.clone());
        move || {
            confine(&[waker_fd, voice_fd], gate.raw());
            watch_allocator(true);
            run_ticks(&mut processor, &gate);
            watch_allocator(false);
            stopped.store(true, Ordering::SeqCst);
            sleep_for_ever();
        }
    });

    let mut scene = Scene { controller, gate: gate.clone(), events: vec![], strays: 0, cards: vec![] };
    wait("nothing is wanted", || gate.is_parked());
    let [pcmu, pcmu_far, opus, opus_far, pcma, pcma_far, g722, g722_far] =
        [1, 2, 3, 4, 5, 6, 7, 8].map(PortId);
    let (card, fast_card, file, peer) = (PortId(10), PortId(11), PortId(12), PortId(13));
    scene.open_call([pcmu, pcmu_far], Codec::Pcmu, 0);
    scene.open_call([opus, opus_far], Codec::Opus, 96);
    scene.open_call([pcma, pcma_far], Codec::Pcma, 8);
    scene.open_call([g722, g722_far], Codec::G722, 9);
    scene.open_card(card, 48_000, Pace::Device { target: 960 });
    scene.open_card(fast_card, 44_100, Pace::Device { target: 882 });
    scene.open_card(file, 16_000, Pace::Tick);
    let connections = [
        (g722, vec![card, pcma]),
        (g722_far, vec![g722_far, file, opus]),
        (pcmu, vec![card, file, opus, g722]),
        (pcmu_far, vec![pcmu_far]),
        (opus, vec![fast_card, pcmu]),
        (opus_far, vec![opus_far, pcma]),
        (pcma, vec![card]),
        (pcma_far, vec![file]),
        (card, vec![pcmu, opus, pcma, g722]),
        (fast_card, vec![opus, opus_far]),
        (file, vec![pcmu, pcma_far]),
    ];
    let connect = |scene: &mut Scene| {
        for (sink, sources) in &connections {
            scene.controller.connect(*sink, sources).expect("open ports");
        }
    };
    connect(&mut scene);
    scene.run(300);
    assert_eq!(findings(), clean, "four calls, two cards and a file");

    for (port, digits) in [(pcmu, "12#"), (opus, "*0D")] {
        for digit in digits.chars() {
            scene.controller.send_dtmf(port, digit, 60).expect("events");
        }
    }
    scene.controller.play_tone(card, Some(Country::RECOMMENDED.tone(Signal::Ringback))).expect("open");
    scene.controller.play_tone(pcma, Some(Tone::test(500.0, 100))).expect("open");
    scene.controller.set_muted(card, true).expect("open");
    let steering =
        Steering { bitrate: Some(20_000), ptime_ms: Some(40), fec: true, careful: true, copies: 2 };
    for port in [opus, pcmu] {
        scene.controller.steer(port, steering).expect("a stream");
    }
    scene.run(800);
    scene.controller.play_tone(card, None).expect("open");
    scene.controller.set_muted(card, false).expect("open");
    assert_eq!(findings(), clean, "digits and tones");

    confer(&mut scene, [pcmu, pcma, opus, g722, card, file]);
    connect(&mut scene);
    assert_eq!(findings(), clean, "a conference in which talk is watched for");

    // Plans: another codec, hold and resume, another SSRC and packet time.
    let remote = |scene: &Scene, port: PortId| scene.controller.stream_counters(port).expect("a stream");
    let target = SocketAddr::from((LOCAL, 42_999));
    let other_codec = StreamPlan { generation: 2, ..plan(Codec::Opus, 96, 0x6000, target) };
    let held = StreamPlan { generation: 2, send: None, play: false, ..plan(Codec::Opus, 96, 0x6001, target) };
    let resumed = StreamPlan { generation: 3, ..plan(Codec::Pcma, 8, 0x6001, target) };
    scene.controller.update_stream(pcmu_far, other_codec).expect("a stream");
    scene.controller.update_stream(opus_far, held).expect("a stream");
    scene.run(200);
    scene.controller.update_stream(opus_far, resumed).expect("a stream");
    scene.run(200);
    assert_eq!(findings(), clean, "new plans");

    processed(&mut scene, [fast_card, card], voice_waker);
    assert_eq!(findings(), clean, "a microphone that is processed");

    let socket = UdpSocket::bind((LOCAL, 0)).expect("a socket");
    let pair = bind_pair(LOCAL, 42_000..=42_999, 46).expect("ports");
    let to = pair.rtp.local_addr().expect("bound");
    let wanted = plan(Codec::Opus, 96, 0x7000, socket.local_addr().expect("bound"));
    scene.controller.open_stream(peer, wanted, pair.rtp).expect("room");
    scene.controller.connect(card, &[peer, pcma]).expect("open");
    scene.controller.connect(peer, &[peer]).expect("open");
    misbehave(&mut scene, &socket, to);
    assert_eq!(findings(), clean, "a peer that misbehaves");

    programs(&mut scene, opus, [PortId(14), PortId(15)]);
    scene.controller.connect(opus, &[fast_card, pcmu]).expect("open");
    assert_eq!(findings(), clean, "programs, and clips in the place of tones");

    relayed(&mut scene, [PortId(14), PortId(15)]);
    assert_eq!(findings(), clean, "peers behind relays");

    guard::codecs::every_codec(&mut scene, 100, card);
    assert_eq!(findings(), clean, "every codec");

    // What has been shown was really there.
    assert!(remote(&scene, pcmu).send_copies == 2 && remote(&scene, opus).send_fec == 1);
    let heard = remote(&scene, peer);
    assert!(heard.packets_lost > 5 && heard.frames_concealed > 0 && heard.packets_duplicate > 5, "{heard:?}");
    assert!(
        heard.packets_invalid > 100 && heard.packets_reordered > 5 && heard.remote_ssrc == 0xDCBA,
        "{heard:?}"
    );
    for port in [pcmu, opus, pcma, pcma_far, g722, g722_far] {
        let counters = remote(&scene, port);
        assert!(counters.packets_sent > 100 && counters.packets_received > 20, "{port:?}: {counters:?}");
        assert!(counters.level_out_dbov > -60, "{port:?}: {counters:?}");
    }
    for digit in "12#*0D4".chars() {
        let is = |event: &EngineEvent| matches!(event, EngineEvent::DtmfReceived { digit: heard, .. } if *heard == digit);
        assert!(scene.saw(is), "digit {digit} in {:?}", scene.events);
    }
    assert!(scene.saw(|event| matches!(event, EngineEvent::ToneEnded { port } if *port == pcma)));
    assert!(scene.saw(|event| matches!(event, EngineEvent::SsrcChanged { .. })));
    assert!(scene.saw(|event| matches!(event, EngineEvent::FirstPacket { .. })));
    assert!(scene.strays > 100);

    // The end of a file, closing, rest, and work again after it.
    scene.cards.clear();
    scene.run(1500);
    assert!(scene.saw(|event| matches!(event, EngineEvent::SourceEnded { port } if *port == file)));
    for port in [pcmu, pcmu_far, opus, opus_far, pcma, pcma_far, g722, g722_far, card, fast_card, file, peer]
    {
        scene.controller.close(port);
    }
    scene.run(50);
    wait("nothing is wanted any more", || gate.is_parked());
    let resting = scene.controller.counters();
    assert!(resting.ticks > 500, "{resting:?}");
    let ends = [PortId(20), PortId(21)];
    scene.open_call(ends, Codec::Pcmu, 0);
    for end in ends {
        scene.controller.connect(end, &[]).expect("open");
    }
    scene.run(400);
    let worked = scene.controller.counters();
    let woken = |counters: &EngineCounters| counters.lateness.iter().sum::<u64>();
    assert!(worked.ticks > resting.ticks + 10, "{worked:?}");
    let (woken, ticks) = (woken(&worked) - woken(&resting), worked.ticks - resting.ticks);
    assert!(woken + 5 < ticks, "without a device, ticks are served in twos: {ticks}, woken {woken} times");
    gate.stop();
    wait("the end", || stopped.load(Ordering::SeqCst));
    assert_eq!(findings(), clean, "closing, rest and work after it");
}
