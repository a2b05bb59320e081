//! Every codec at once, each with a peer that loses packets, falls silent, stalls and repeats what it sent.

use std::net::UdpSocket;

use voipd::realtime::bind_pair;
use voipd_audio::PortId;
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::plan::{Codec, ReceiveKind, SendPlan, StreamCounters, StreamPlan};

use crate::{EVENTS, LOCAL, REDUNDANT, Scene, Steering, plan};

/// Payload types: of the codec itself and of its comfort noise.
const SOUND: u8 = 110;
const NOISE: u8 = 13;
/// What peers do, by the number of the packet. They send one each 20 ms.
const PACKETS: u16 = 290;
const STALL: std::ops::Range<u16> = 60..70;
const SILENCE: std::ops::Range<u16> = 100..130;
/// They send one each 30 ms: what they say has to be lengthened.
const SLOW: std::ops::Range<u16> = 230..290;
/// We fall silent, too.
const MUTED: std::ops::Range<u16> = 70..140;

/// A peer that speaks one codec.
struct Peer {
    codec: Codec,
    port: PortId,
    socket: UdpSocket,
    to: std::net::SocketAddr,
    encoder: Encoder,
    /// What a stall held back.
    held: Vec<Vec<u8>>,
    before: Vec<u8>,
    /// Payload types that came from us.
    heard: [bool; 128],
}

impl Peer {
    fn open(scene: &mut Scene, codec: Codec, port: PortId) -> Self {
        let socket = UdpSocket::bind((LOCAL, 0)).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let pair = bind_pair(LOCAL, 42_000..=42_999, 46).expect("ports");
        let to = pair.rtp.local_addr().expect("bound");
        let rate = codec.clock_rate();
        let call = plan(codec, SOUND, 0x9000 + port.0, socket.local_addr().expect("bound"));
        let send = call.send.expect("it sends");
        let ptime_ms = if codec == Codec::L16Full { 10 } else { 20 };
        let noise = (codec != Codec::Opus).then_some(NOISE);
        let plan = StreamPlan {
            send: Some(SendPlan { dtx: true, comfort_noise: noise, ptime_ms, ..send }),
            receive: vec![
                (SOUND, ReceiveKind::Audio(codec)),
                (NOISE, ReceiveKind::ComfortNoise(rate)),
                (EVENTS, ReceiveKind::Events(rate)),
                (REDUNDANT, ReceiveKind::Redundant),
            ],
            ..call
        };
        scene.controller.open_stream(port, plan, pair.rtp).expect("room");
        let settings = EncoderSettings { fec: true, ..EncoderSettings::new(codec, 5) };
        let mut encoder = Encoder::new(settings).expect("an encoder");
        encoder.set_fec(true);
        Peer { codec, port, socket, to, encoder, held: vec![], before: vec![], heard: [false; 128] }
    }

    /// Sends packet `number`, or does with it what else is due, and takes what has come.
    fn turn(&mut self, number: u16) {
        let ms = if self.codec == Codec::L16Full { 10 } else { 20 };
        let rate = self.codec.sample_rate() as usize;
        let sound: Vec<f32> = (0..rate * ms / 1000)
            .map(|n| n as f32 / rate as f32 + f32::from(number) * 0.02)
            .map(|at| 0.3 * (at * 900.0 * (1.0 + 0.1 * (at * 3.0).sin())).sin())
            .collect();
        let mut payload = [0; 1400];
        let length = self.encoder.encode(&sound, &mut payload).expect("a packet");
        let payload = payload[..length].to_vec();
        let units = self.codec.clock_rate() / 50;
        let (payload_type, body) = match number {
            _ if SILENCE.contains(&number) => (NOISE, vec![40 + number as u8 % 20, 100, 120, 140]),
            // What fits a datagram goes with a copy of the packet before.
            _ if number % 5 < 2 && !self.before.is_empty() && length < 500 => {
                let [high, low] = ((units << 2) as u16 | (self.before.len() as u16 >> 8)).to_be_bytes();
                let mut body = vec![0x80 | SOUND, high, low, self.before.len() as u8, SOUND];
                body.extend(&self.before);
                body.extend(&payload);
                (REDUNDANT, body)
            }
            _ => (SOUND, payload.clone()),
        };
        let mut packet = vec![0x80, payload_type];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * units).to_be_bytes());
        packet.extend((0xC000 + self.port.0).to_be_bytes());
        packet.extend(body);
        self.before = payload;
        // Lost ones, some of which the next packet repeats and some of which it does not.
        let lost = number % 8 == 3 || (SILENCE.contains(&number) && !number.is_multiple_of(10));
        if !lost {
            self.held.push(packet);
        }
        if !STALL.contains(&number) {
            for packet in self.held.drain(..) {
                let _ = self.socket.send_to(&packet, self.to);
            }
        }
        let mut bytes = [0; 1500];
        while let Ok(length @ 2..) = self.socket.recv(&mut bytes) {
            let _ = length;
            self.heard[usize::from(bytes[1] & 0x7F)] = true;
        }
    }
}

/// All that are built, in streams from `first` on; they hear `card`, a microphone.
pub fn every_codec(scene: &mut Scene, first: u32, card: PortId) {
    let built = Codec::ALL.into_iter().filter(|codec| codec.is_built());
    let mut peers: Vec<Peer> =
        built.zip(first..).map(|(codec, port)| Peer::open(scene, codec, PortId(port))).collect();
    let ports: Vec<PortId> = peers.iter().map(|peer| peer.port).collect();
    for (place, port) in ports.iter().enumerate() {
        // Some hear a microphone, some a microphone and each other.
        let mut sources = vec![card];
        sources.extend(ports.iter().skip(place).step_by(3).filter(|other| *other != port));
        scene.controller.connect(*port, &sources).expect("open");
        let steering = Steering { copies: (place % 3) as u8, fec: true, ..Steering::default() };
        scene.controller.steer(*port, steering).expect("a stream");
    }
    for number in 0..PACKETS {
        for port in &ports {
            match number {
                30 => scene.controller.send_dtmf(*port, '7', 60).expect("events"),
                _ if number == MUTED.start || number == MUTED.end => {
                    scene.controller.set_muted(*port, MUTED.contains(&number)).expect("open");
                }
                _ => {}
            }
        }
        peers.iter_mut().for_each(|peer| peer.turn(number));
        scene.run(if SLOW.contains(&number) { 30 } else { 20 });
    }
    let mut all = StreamCounters::default();
    for Peer { codec, port, heard, .. } in &peers {
        let counters = scene.controller.stream_counters(*port).expect("a stream");
        assert!(counters.packets_received > 100 && counters.frames_concealed > 0, "{codec:?}: {counters:?}");
        assert!(counters.loss_runs > 5 && counters.level_out_dbov > -60, "{codec:?}: {counters:?}");
        assert!(heard[usize::from(SOUND)] && heard[usize::from(EVENTS)], "{codec:?}");
        assert!(heard[usize::from(NOISE)] || *codec == Codec::Opus, "{codec:?} describes its silence");
        all.packets_restored += counters.packets_restored;
        all.packets_corrected += counters.packets_corrected;
        all.accelerated_us += counters.accelerated_us + counters.expanded_us;
    }
    assert!(all.packets_restored > 10 && all.packets_corrected > 0 && all.accelerated_us > 0, "{all:?}");
    assert!(peers.iter().any(|peer| peer.heard[usize::from(REDUNDANT)]), "copies of ours");
    let engine = scene.controller.counters();
    assert!(engine.most_gap_work > 0, "gaps filled from both sides: {engine:?}");
    for port in ports {
        scene.controller.close(port);
    }
    scene.run(50);
}
