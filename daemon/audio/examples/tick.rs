//! What a tick costs: streams that send and receive, beside a sound device, in virtual time and without a system.
//!
//! `cargo run --release -p voipd-audio --example tick [STREAMS]`

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use voipd_audio::engine::{Batch, DevicePort, MediaSocket, Pace, Waker, engine};
use voipd_audio::plan::{Codec, Path, PortId, Protection, ReceiveKind, SendPlan, StreamPlan};
use voipd_audio::{TICK_NANOS, tone::Tone};

const SECONDS: u64 = 20;

/// What is sent comes back in the next tick.
struct Loopback {
    packets: Arc<Mutex<VecDeque<Vec<u8>>>>,
    spare: Vec<Vec<u8>>,
    now: Arc<Mutex<u64>>,
}

impl MediaSocket for Loopback {
    fn receive(&mut self, batch: &mut Batch) {
        let mut packets = self.packets.lock().expect("one thread");
        while let Some(bytes) = packets.pop_front() {
            let datagram = &mut batch.datagrams[batch.len];
            datagram.len = bytes.len();
            datagram.bytes[..bytes.len()].copy_from_slice(&bytes);
            datagram.at_nanos = *self.now.lock().expect("one thread");
            batch.len += 1;
            self.spare.push(bytes);
        }
    }

    fn send(&mut self, _remote: SocketAddr, datagram: &[u8]) -> bool {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.packets.lock().expect("one thread").push_back(bytes);
        true
    }
}

struct NoWaker;
impl Waker for NoWaker {
    fn wake(&mut self) {}
}

fn measure(name: &str, codec: Codec, streams: u32, connect: impl Fn(PortId) -> Vec<PortId>) {
    let (mut controller, mut processor) = engine(streams as usize + 1, Box::new(NoWaker));
    let now = Arc::new(Mutex::new(0));
    let device = PortId(0);
    let (_feed, capture) = rtrb::RingBuffer::new(480);
    let (playback, mut speaker) = rtrb::RingBuffer::new(4800);
    let port =
        DevicePort { capture: Some(capture), playback: Some(playback), rate: 48_000, pace: Pace::Tick };
    controller.open_device(device, port).expect("room");
    for number in 1..=streams {
        let port = PortId(number);
        let socket = Loopback { packets: Arc::default(), spare: Vec::new(), now: now.clone() };
        let plan = StreamPlan {
            generation: 1,
            path: Path::Udp { remote: SocketAddr::from(([127, 0, 0, 1], 4000)), symmetric: false },
            protection: Protection::None,
            ssrc: number,
            send: Some(SendPlan {
                codec,
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
            }),
            receive: vec![(0, ReceiveKind::Audio(codec))],
            play: true,
        };
        controller.open_stream(port, plan, socket).expect("room");
        controller.connect(port, &connect(port)).expect("open");
        controller.play_tone(port, Some(Tone::test(440.0, u32::MAX))).expect("open");
    }
    controller.connect(device, &[PortId(1)]).expect("open");
    let (mut spent, mut longest) = (0, 0);
    for tick in 1..=SECONDS * 100 {
        *now.lock().expect("one thread") = tick * TICK_NANOS;
        let start = Instant::now();
        processor.tick(tick * TICK_NANOS, 0);
        let took = start.elapsed().as_nanos() as u64;
        processor.tick_took(took);
        (spent, longest) = (spent + took, longest.max(took));
        controller.service();
        while speaker.pop().is_ok() {}
    }
    let share = spent as f64 / (SECONDS * 1_000_000_000) as f64 * 100.0;
    let mean = spent as f64 / (SECONDS * 100) as f64 / 1000.0;
    println!("{name}: {share:.2} % of a core, tick {mean:.0} us, longest {} us", longest / 1000);
}

fn main() {
    let streams = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    println!("{streams} streams, without the system's share");
    measure("PCMU, null device", Codec::Pcmu, streams, |_| vec![PortId(0)]);
    measure("PCMU, echo", Codec::Pcmu, streams, |port| vec![port]);
    measure("Opus, null device", Codec::Opus, streams, |_| vec![PortId(0)]);
}
