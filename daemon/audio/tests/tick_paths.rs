//! Every path of the tick in one engine, each command and what follows from it: nothing on it allocates or frees. It sees
//! Rust's allocator alone; daemon/tests/realtime_guard.rs sees that of the C libraries as well.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::bare::{Bare, BareSocket, Mail, Nobody, Peer, socket};
use crate::world::{EVENTS, address, payload_type, plan, rtp};
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::engine::{
    Clip, DevicePort, InsertEnds, Listener, Pace, ProgramPort, RelayPacket, Side, insert, relay_rings,
};
use voipd_audio::plan::{
    Codec, EngineEvent, Path, PortId, ReceiveKind, SendPlan, Steering, StreamCounters, StreamPlan,
};
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Signal, Tone};
use voipd_audio::voice::Stages;

const NOISE: u8 = 13;
const REDUNDANT: u8 = 121;
const STREAMS: [PortId; 2] = [PortId(1), PortId(2)];
const CARD: PortId = PortId(3);
const LOUDSPEAKER: PortId = PortId(4);

fn built() -> Vec<Codec> {
    Codec::ALL.into_iter().filter(|codec| codec.is_built()).collect()
}

/// A plan in `codec` whose stream takes all that are built.
fn any_plan(codec: Codec, generation: u32, ssrc: u32) -> StreamPlan {
    let usual = plan(codec, 1, address(0));
    let mut receive: Vec<_> =
        built().into_iter().map(|codec| (payload_type(codec), ReceiveKind::Audio(codec))).collect();
    receive.extend([
        (EVENTS, ReceiveKind::Events(codec.clock_rate())),
        (NOISE, ReceiveKind::ComfortNoise(codec.clock_rate())),
        (REDUNDANT, ReceiveKind::Redundant),
    ]);
    let send = usual.send.map(|send| SendPlan {
        fec: true,
        dtx: true,
        comfort_noise: (codec != Codec::Opus).then_some(NOISE),
        redundancy: Some(REDUNDANT),
        ..send
    });
    StreamPlan { generation, ssrc, send, receive, ..usual }
}

/// Two streams whose packets go to each other, by way of the test.
struct Pair {
    bare: Bare,
    peers: [Peer; 2],
    ticks: u64,
    packets: u64,
}

/// What becomes of the packet with this number from this side: copies, and by how many ticks each is late.
type Weather = fn(u64) -> &'static [u64];

const CALM: Weather = |_| &[0];
/// Lost, doubled, late and in the wrong order.
const BAD: Weather = |number| match number % 17 {
    3 | 4 => &[],
    7 => &[0, 0],
    9 => &[3],
    13 => &[9],
    _ => &[0],
};

impl Pair {
    fn new(codec: Codec) -> Self {
        let mut bare = Bare::new();
        let peers = [0, 1].map(|end: usize| {
            let (socket, peer) = socket(address(0));
            let plan = any_plan(codec, 1, 0x1000 + end as u32);
            bare.controller.open_stream(STREAMS[end], plan, socket).unwrap();
            peer
        });
        Pair { bare, peers, ticks: 0, packets: 0 }
    }

    fn run(&mut self, ticks: u64, weather: Weather) {
        let mut late: Vec<(u64, usize, Mail)> = Vec::new();
        let end = self.ticks + ticks;
        while self.ticks < end || !late.is_empty() {
            self.bare.tick();
            self.ticks += 1;
            for from in [0, 1] {
                while let Some(mail) = self.peers[from].received() {
                    self.packets += 1;
                    for after in weather(self.packets) {
                        late.push((self.ticks + after, 1 - from, mail.clone()));
                    }
                }
            }
            let (due, kept) = late.into_iter().partition(|(at, ..)| *at <= self.ticks || self.ticks >= end);
            late = kept;
            for (_, to, mail) in due {
                self.peers[to].send(self.bare.now_nanos, mail.bytes());
            }
            if self.ticks > end + 20 {
                break;
            }
        }
    }

    fn counters(&self, end: usize) -> StreamCounters {
        self.bare.controller.stream_counters(STREAMS[end]).unwrap()
    }
}

/// A sound card: what it records, and what it is given to play.
struct Card {
    record: rtrb::Producer<f32>,
    play: rtrb::Consumer<f32>,
    rate: u32,
    phase: f32,
    time: f32,
}

impl Card {
    fn open(bare: &mut Bare, port: PortId, rate: u32, pace: Pace) -> Self {
        let (record, capture) = rtrb::RingBuffer::new(rate as usize);
        let (playback, play) = rtrb::RingBuffer::new(rate as usize);
        let device = DevicePort { capture: Some(capture), playback: Some(playback), rate, pace };
        bare.controller.open_device(port, device).unwrap();
        Card { record, play, rate, phase: 0.0, time: 0.0 }
    }

    /// So much time passes for the card.
    fn run(&mut self, ms: u32) {
        for _ in 0..self.rate * ms / 1000 {
            self.phase = (self.phase + 300.0 / self.rate as f32).fract();
            // In syllables: a steady tone would count as noise.
            self.time += 1.0 / self.rate as f32;
            let level = if self.time % 0.3 < 0.2 { 0.3 } else { 0.001 };
            let _ = self.record.push(level * (self.phase * std::f32::consts::TAU).sin());
            let _ = self.play.pop();
        }
    }
}

fn run(bare: &mut Bare, cards: &mut [&mut Card], ticks: usize) {
    for _ in 0..ticks {
        cards.iter_mut().for_each(|card| card.run(10));
        bare.tick();
    }
}

#[test]
fn what_a_tick_allocates_is_seen() {
    struct Careless(BareSocket);
    impl voipd_audio::engine::MediaSocket for Careless {
        fn receive(&mut self, batch: &mut voipd_audio::engine::Batch) {
            drop(std::hint::black_box(vec![0_u8; 10]));
            self.0.receive(batch);
        }
        fn send(&mut self, remote: std::net::SocketAddr, datagram: &[u8]) -> bool {
            self.0.send(remote, datagram)
        }
    }
    let (mut controller, mut processor) = voipd_audio::engine::engine::<Careless>(4, Box::new(Nobody));
    let (socket, _peer) = socket(address(0));
    controller.open_stream(STREAMS[0], any_plan(Codec::Pcmu, 1, 7), Careless(socket)).unwrap();
    assert_eq!(crate::counting::allocations(|| assert!(processor.tick(1_000_000_000, 0))), 2);
}

#[test]
fn every_codec_after_every_other() {
    let codecs = built();
    let mut pair = Pair::new(codecs[0]);
    let mut card = Card::open(&mut pair.bare, CARD, 48_000, Pace::Tick);
    pair.bare.controller.connect(STREAMS[0], &[CARD]).unwrap();
    pair.bare.controller.connect(STREAMS[1], &[CARD]).unwrap();
    pair.bare.controller.connect(CARD, &STREAMS).unwrap();
    let mut generation = 1;
    for from in &codecs {
        for to in codecs.iter().filter(|to| *to != from) {
            for codec in [from, to] {
                let ssrc = 0x1000 + generation / 50;
                generation += 1;
                for (end, port) in STREAMS.into_iter().enumerate() {
                    let plan = any_plan(*codec, generation, ssrc + 0x10_0000 * end as u32);
                    pair.bare.controller.update_stream(port, plan).unwrap();
                }
                card.run(60);
                pair.run(6, BAD);
            }
        }
    }
    assert_eq!(pair.bare.allocations, 0);
    for end in [0, 1] {
        let counters = pair.counters(end);
        assert!(counters.packets_sent > 200 && counters.packets_received > 200, "{counters:?}");
        assert!(counters.frames_played > 400 && counters.frames_concealed > 10, "{counters:?}");
    }
}

#[test]
fn a_bad_network_and_what_makes_up_for_it() {
    for codec in built() {
        let mut pair = Pair::new(codec);
        let mut card = Card::open(&mut pair.bare, CARD, codec.sample_rate(), Pace::Tick);
        for port in STREAMS {
            pair.bare.controller.connect(port, &[CARD]).unwrap();
        }
        pair.bare.controller.connect(CARD, &STREAMS).unwrap();
        let (fec, copies) = (true, Steering { copies: 2, ..Steering::default() });
        for (steering, weather) in [
            (Steering::default(), CALM),
            (Steering { fec, bitrate: Some(16_000), ..Steering::default() }, BAD),
            (Steering { ptime_ms: Some(40), ..copies }, BAD),
            (copies, CALM),
        ] {
            for port in STREAMS {
                pair.bare.controller.steer(port, steering).unwrap();
            }
            for _ in 0..6 {
                card.run(200);
                pair.run(20, weather);
            }
        }
        let counters = pair.counters(1);
        assert_eq!(pair.bare.allocations, 0, "{codec:?}");
        assert!(counters.frames_concealed > 3 && counters.packets_duplicate > 3, "{codec:?}: {counters:?}");
        assert!(counters.packets_reordered > 3, "{codec:?}: {counters:?}");
    }
}

#[test]
fn ticks_that_are_left_to_the_next_one() {
    for codec in built() {
        let mut pair = Pair::new(codec);
        pair.bare.leaves = true;
        for (end, stream) in STREAMS.into_iter().enumerate() {
            let plan = any_plan(codec, 2, 0x1000 + end as u32);
            // Nobody speaks, and that is to be sent.
            let send = plan.send.map(|send| SendPlan { comfort_noise: None, dtx: false, ..send });
            pair.bare.controller.update_stream(stream, StreamPlan { send, ..plan }).unwrap();
        }
        let tone = Country::RECOMMENDED.tone(Signal::Ringback);
        for weather in [CALM, BAD, CALM] {
            pair.bare.controller.watch_activity(STREAMS[0], true).unwrap();
            pair.bare.controller.play_tone(STREAMS[1], Some(tone)).unwrap();
            pair.run(60, weather);
            pair.bare.controller.send_dtmf(STREAMS[1], '5', 60).unwrap();
            pair.bare.controller.play_tone(STREAMS[1], None).unwrap();
            pair.run(60, weather);
        }
        let counters = pair.bare.controller.counters();
        let woken: u64 = counters.lateness.iter().sum();
        assert_eq!(pair.bare.allocations, 0, "{codec:?}");
        // Costly encoders take turns, so that each tick has a packet of one of them.
        let light = matches!(codec, Codec::Pcmu | Codec::Pcma);
        assert!(!light || woken * 3 < counters.ticks * 2, "{codec:?}: {counters:?}");
        assert!(pair.counters(1).frames_concealed > 3, "{codec:?}: {:?}", pair.counters(1));
    }
}

#[test]
fn a_packet_that_is_late_goes_on_where_the_sound_had_been_carried_on() {
    // These are decoded by what they remember: what is made up in the meantime is made beside the decoder.
    for codec in built()
        .into_iter()
        .filter(|codec| matches!(codec, Codec::Opus | Codec::SpeexNarrow | Codec::SpeexWide | Codec::G729))
    {
        let mut bare = Bare::new();
        let (socket, mut peer) = socket(address(0));
        bare.controller.open_stream(STREAMS[0], any_plan(codec, 1, 7), socket).unwrap();
        let mut card = Card::open(&mut bare, CARD, codec.sample_rate(), Pace::Tick);
        bare.controller.connect(CARD, &[STREAMS[0]]).unwrap();
        let settings = EncoderSettings::new(codec, 5);
        let mut encoder = Encoder::new(settings).unwrap();
        let frame = codec.sample_rate() as usize / 50;
        let mut carried_on = 0;
        for number in 0..100_u16 {
            let sound: Vec<f32> = (0..frame).map(|n| 0.3 * (n as f32 * 0.05).sin()).collect();
            let mut payload = [0; 1_400];
            let length = encoder.encode(&sound, &mut payload).unwrap();
            let at = u32::from(number) * codec.clock_rate() / 50;
            let packet = rtp(payload_type(codec), number, at, 9, &payload[..length]);
            // Each tenth comes a tick too late, once the delay has found its place.
            let before = bare.controller.stream_counters(STREAMS[0]).unwrap().frames_concealed;
            if number % 10 != 9 {
                peer.send(bare.now_nanos, &packet);
            }
            run(&mut bare, &mut [&mut card], 1);
            if number % 10 == 9 {
                run(&mut bare, &mut [&mut card], 2);
                peer.send(bare.now_nanos, &packet);
            }
            run(&mut bare, &mut [&mut card], 1);
            let after = bare.controller.stream_counters(STREAMS[0]).unwrap();
            carried_on += u64::from(after.frames_concealed > before && after.packets_lost == 0);
        }
        assert_eq!(bare.allocations, 0, "{codec:?}");
        assert!(carried_on > 3, "{codec:?}: {carried_on}");
    }
}

#[test]
fn who_joins_and_leaves_a_conference() {
    let mut bare = Bare::new();
    let codecs = built();
    let ports: Vec<PortId> = (0..codecs.len() as u32 + 2).map(|number| PortId(100 + number)).collect();
    let mut peers = Vec::new();
    let mut cards = Vec::new();
    for (place, port) in ports.iter().enumerate() {
        match codecs.get(place) {
            Some(codec) => {
                let (socket, peer) = socket(address(0));
                bare.controller.open_stream(*port, any_plan(*codec, 1, port.0), socket).unwrap();
                peers.push(peer);
            }
            None => {
                let pace = Pace::Device { target: 441 };
                cards.push(Card::open(&mut bare, *port, 44_100, pace));
            }
        }
    }
    let confer = |bare: &mut Bare, members: &[PortId]| {
        for port in &ports {
            let others = members.iter().filter(|member| *member != port && members.contains(port));
            bare.controller.connect(*port, &others.copied().collect::<Vec<_>>()).unwrap();
        }
    };
    let mut all: Vec<&mut Card> = cards.iter_mut().collect();
    for count in (0..=ports.len()).chain((0..ports.len()).rev()) {
        confer(&mut bare, &ports[..count]);
        if let Some(port) = ports[..codecs.len()].get(count) {
            bare.controller.watch_activity(*port, true).unwrap();
            bare.controller.set_muted(*port, count % 2 == 0).unwrap();
        }
        run(&mut bare, &mut all, 5);
    }
    confer(&mut bare, &ports);
    for port in &ports[..codecs.len()] {
        bare.controller.set_muted(*port, false).unwrap();
    }
    run(&mut bare, &mut all, 100);
    let talks = |event: &EngineEvent| matches!(event, EngineEvent::Activity { talking: true, .. });
    assert!(bare.events.iter().any(talks), "{:?}", bare.events);
    for port in &ports {
        bare.controller.close(*port);
        run(&mut bare, &mut all, 2);
    }
    assert_eq!(bare.allocations, 0);
    assert!(!bare.processor.wants_ticks());
    assert!(peers.iter_mut().all(|peer| peer.received().is_some()));
}

#[test]
fn devices_that_stall_overflow_and_vanish() {
    for (rate, pace) in [
        (48_000, Pace::Device { target: 960 }),
        (44_100, Pace::Device { target: 441 }),
        (16_000, Pace::Tick),
        (22_050, Pace::Tick),
    ] {
        let mut pair = Pair::new(Codec::Pcmu);
        let mut card = Card::open(&mut pair.bare, CARD, rate, pace);
        pair.bare.controller.connect(STREAMS[0], &[CARD]).unwrap();
        pair.bare.controller.connect(CARD, &STREAMS).unwrap();
        let bare = &mut pair.bare;
        run(bare, &mut [&mut card], 100);
        // It stands still, then makes up for it at once, then runs faster and slower than the tick.
        run(bare, &mut [], 30);
        card.run(300);
        for ms in [9, 11, 0, 40] {
            bare.controller.set_volume(CARD, ms as f32 / 10.0).unwrap();
            for _ in 0..50 {
                card.run(ms);
                bare.tick();
            }
        }
        for late in [1, 6, 40, 500] {
            bare.now_nanos += late * 1_000_000;
            bare.late_tick(late * 1_000_000);
            run(bare, &mut [&mut card], 5);
        }
        drop(card);
        run(bare, &mut [], 100);
        bare.controller.close(CARD);
        let mut back = Card::open(bare, CARD, rate, pace);
        bare.controller.connect(STREAMS[0], &[CARD]).unwrap();
        run(bare, &mut [&mut back], 50);
        assert_eq!(bare.allocations, 0, "{rate} Hz, {pace:?}");
        let counters = bare.controller.counters();
        assert!(counters.ticks_missed > 40 && counters.ticks_late > 0, "{counters:?}");
        if let Pace::Device { .. } = pace {
            assert!(counters.device_underruns > 0 && counters.device_overruns > 0, "{counters:?}");
        } else {
            assert!(bare.events.contains(&EngineEvent::SourceEnded { port: CARD }), "{:?}", bare.events);
        }
    }
}

#[test]
fn a_microphone_that_is_processed() {
    let mut bare = Bare::new();
    let device = Pace::Device { target: 960 };
    let mut microphone = Card::open(&mut bare, CARD, 48_000, device);
    let mut loudspeaker = Card::open(&mut bare, LOUDSPEAKER, 16_000, Pace::Tick);
    bare.controller.connect(LOUDSPEAKER, &[CARD]).unwrap();
    let (port, mut ends, switch) = insert(LOUDSPEAKER, Box::new(Nobody));
    bare.controller.attach_insert(CARD, Some(port)).unwrap();
    let echo = Stages { echo: true, ..Stages::NONE };
    let mut work = |bare: &mut Bare, ends: &mut InsertEnds, ticks: usize, prompt: bool| {
        for tick in 0..ticks {
            microphone.run(10);
            loudspeaker.run(10);
            bare.record_ahead();
            // A thread that is slow comes behind the tick, and every seventh time not at all.
            if prompt {
                ends.process();
            }
            bare.tick();
            if !prompt && tick % 7 != 0 {
                ends.process();
            }
        }
    };
    for stages in [echo, Stages { noise: true, gain: true, ..echo }, Stages::NONE, echo] {
        switch.set(stages);
        work(&mut bare, &mut ends, 30, true);
        work(&mut bare, &mut ends, 30, false);
    }
    let (blocks, late) = switch.blocks();
    assert!(blocks > 150 && late > 10 && late < blocks, "{late} of {blocks}");
    // The loudspeaker goes, then the insert.
    bare.controller.close(LOUDSPEAKER);
    work(&mut bare, &mut ends, 30, true);
    bare.controller.attach_insert(CARD, None).unwrap();
    work(&mut bare, &mut ends, 10, true);
    assert!(!ends.process(), "the insert is gone");
    assert_eq!(bare.allocations, 0);
}

#[test]
fn players_recorders_and_programs() {
    for rate in [8_000, 11_025, 44_100, 48_000] {
        for side in [Side::Far, Side::Near, Side::Both, Side::Stereo] {
            let mut pair = Pair::new(Codec::G722);
            let program = PortId(9);
            let (mut said, source) = rtrb::RingBuffer::new(rate as usize);
            // Room for 200 ms: a recorder that does not keep up loses, and is not waited for.
            let (ring, mut heard) = rtrb::RingBuffer::new(rate as usize / 5 * side.channels());
            let dropped = Arc::new(AtomicU64::new(0));
            let listener = Some(Listener { side, ring, dropped: dropped.clone() });
            let port = ProgramPort { source: Some(source), listener, rate };
            pair.bare.controller.open_program(program, port, STREAMS[0]).unwrap();
            pair.bare.controller.connect(STREAMS[0], &[program]).unwrap();
            pair.bare.controller.connect(STREAMS[1], &[STREAMS[1]]).unwrap();
            said.push_entire_slice(&vec![0.2; rate as usize / 3]).unwrap();
            pair.run(40, CALM);
            let most = dropped.load(std::sync::atomic::Ordering::Relaxed);
            assert!(most > 0, "{rate} Hz, {side:?}: nobody reads");
            while heard.pop().is_ok() {}
            pair.run(10, CALM);
            // Its stream goes, then whoever listens, then the port.
            pair.bare.controller.close(STREAMS[0]);
            pair.run(5, CALM);
            drop((said, heard));
            pair.run(5, CALM);
            pair.bare.controller.close(program);
            pair.run(5, CALM);
            assert_eq!(pair.bare.allocations, 0, "{rate} Hz, {side:?}");
        }
    }
}

#[test]
fn tones_clips_and_digits() {
    let mut pair = Pair::new(Codec::Pcmu);
    let mut card = Card::open(&mut pair.bare, CARD, 48_000, Pace::Tick);
    pair.bare.controller.connect(CARD, &STREAMS).unwrap();
    let clip = Arc::new(Clip::new(&[0.1; 4_800]));
    for port in [CARD, STREAMS[0]] {
        for signal in [Signal::Dial, Signal::Busy, Signal::CallWaiting] {
            let tone = Country::RECOMMENDED.tone(signal);
            pair.bare.controller.play_tone(port, Some(tone)).unwrap();
            card.run(100);
            pair.run(10, CALM);
        }
        pair.bare.controller.play_clip(port, clip.clone()).unwrap();
        pair.run(15, CALM);
        // One that ends by itself, at another rate than it began.
        pair.bare.controller.play_tone(port, Some(Tone::test(500.0, 100))).unwrap();
        let other = any_plan(if port == CARD { Codec::Opus } else { Codec::Pcmu }, 2 + port.0, 0x1000);
        pair.bare.controller.update_stream(STREAMS[0], other).unwrap();
        pair.run(15, CALM);
        assert!(pair.bare.events.contains(&EngineEvent::ToneEnded { port }), "{:?}", pair.bare.events);
        pair.bare.controller.play_tone(port, None).unwrap();
        pair.run(2, CALM);
    }
    for digit in "1#D!".chars() {
        pair.bare.controller.send_dtmf(STREAMS[1], digit, 60).unwrap();
    }
    // The last is broken off by a plan that sends nothing, and one that does.
    pair.run(70, BAD);
    pair.bare.controller.send_dtmf(STREAMS[1], '7', 400).unwrap();
    pair.run(6, CALM);
    let held =
        StreamPlan { send: None, keep_open: Some(127), play: false, ..any_plan(Codec::Pcmu, 9, 0x1001) };
    pair.bare.controller.update_stream(STREAMS[1], held).unwrap();
    pair.run(60, CALM);
    pair.bare.controller.update_stream(STREAMS[1], any_plan(Codec::Pcmu, 10, 0x1001)).unwrap();
    pair.run(30, CALM);
    assert_eq!(pair.bare.allocations, 0);
    for digit in "1#D!7".chars() {
        let is = |event: &EngineEvent| matches!(event, EngineEvent::DtmfSent { digit: sent, .. } if *sent == digit);
        assert!(pair.bare.events.iter().any(is), "{digit}: {:?}", pair.bare.events);
    }
    let received = |event: &EngineEvent| matches!(event, EngineEvent::DtmfReceived { .. });
    assert!(pair.bare.events.iter().filter(|event| received(event)).count() >= 4);
}

#[test]
fn other_ways_floods_and_garbage() {
    const CHANNEL: u16 = 0x4001;
    let mut pair = Pair::new(Codec::Pcmu);
    let (port, mut ends) = relay_rings();
    pair.bare.controller.attach_relay(STREAMS[0], Some(port)).unwrap();
    let stream = Path::Stream { peer: address(3), link: 1, channel: CHANNEL };
    let channel = Path::TurnChannel { server: address(0), channel: CHANNEL };
    let straight = Path::Udp { remote: address(5), symmetric: true };
    for (generation, path) in [(2, stream), (3, channel), (4, straight), (5, stream)] {
        let plan = StreamPlan { path, ..any_plan(Codec::Pcmu, generation, 0x1000) };
        pair.bare.controller.update_stream(STREAMS[0], plan).unwrap();
        for number in 0..10_u16 {
            let packet = rtp(0, number, u32::from(number) * 160, 0xBEEF + generation, &[0x40; 160]);
            let framed = [&CHANNEL.to_be_bytes()[..], &172_u16.to_be_bytes(), &packet].concat();
            let now = pair.bare.now_nanos;
            for bytes in [&packet[..], &framed, &framed[..40], &[0x80, 200, 0, 1], &[0; 20], &[0xFF; 3]] {
                pair.peers[0].send(now, bytes);
                pair.peers[0].send_from(address(5), now, bytes);
                ends.push(RelayPacket::new(bytes, now).unwrap());
            }
            pair.bare.controller.hand(STREAMS[0], &packet, now).unwrap();
            // More than is taken in one tick.
            for _ in 0..if number == 5 { 200 } else { 0 } {
                pair.peers[0].send_from(address(9), now, &packet);
            }
            pair.bare.tick();
            pair.bare.tick();
        }
        // The peer has moved.
        for number in 10..40_u16 {
            let packet = rtp(0, number, u32::from(number) * 160, 0xBEEF + generation, &[0x40; 160]);
            pair.peers[0].send_from(address(6), pair.bare.now_nanos, &packet);
            pair.bare.run_ms(20);
        }
        let (other, peer) = socket(address(0));
        pair.bare.controller.move_stream(STREAMS[0], other).unwrap();
        pair.peers[0] = peer;
        pair.bare.run_ms(50);
    }
    pair.bare.controller.attach_relay(STREAMS[0], None).unwrap();
    pair.bare.run_ms(30);
    assert_eq!(pair.bare.allocations, 0);
    let counters = pair.counters(0);
    assert!(counters.packets_received > 40 && counters.packets_invalid > 100, "{counters:?}");
    let moved = |event: &EngineEvent| matches!(event, EngineEvent::RemoteChanged { .. });
    assert!(pair.bare.events.iter().any(moved), "{:?}", pair.bare.events);
    assert!(ends.outgoing.pop().is_ok());
}
