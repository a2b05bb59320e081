//! What a tick costs: streams that send and receive, beside a sound device, in virtual time and without a system.
//!
//! `cargo run --release -p voipd-audio --example tick`

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use voipd_audio::engine::{Batch, DevicePort, MediaSocket, Pace, Waker, engine};
use voipd_audio::plan::{Codec, Path, PortId, Protection, ReceiveKind, SendPlan, StreamPlan};
use voipd_audio::{TICK_NANOS, tone::Tone};

const SECONDS: u64 = 5;
/// How many streams at once.
const STREAMS: [u32; 4] = [1, 18, 100, 500];
/// Where packets get lost: what all streams send in 20 ms, once in so many ticks.
const LOSS_EACH: u64 = 50;

/// What is sent comes back in the next tick, or is lost.
struct Loopback {
    packets: Arc<Mutex<VecDeque<Vec<u8>>>>,
    spare: Vec<Vec<u8>>,
    now: Arc<Mutex<u64>>,
    lossy: bool,
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
        let tick = *self.now.lock().expect("one thread") / TICK_NANOS;
        if self.lossy && tick % LOSS_EACH < 2 {
            return true;
        }
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

fn measure(name: &str, codec: Codec, streams: u32, lossy: bool, connect: impl Fn(PortId) -> Vec<PortId>) {
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
        let socket = Loopback { packets: Arc::default(), spare: Vec::new(), now: now.clone(), lossy };
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
            keep_open: None,
            receive: vec![(0, ReceiveKind::Audio(codec))],
            play: true,
        };
        controller.open_stream(port, plan, socket).expect("room");
        controller.play_tone(port, Some(Tone::test(440.0, u32::MAX))).expect("open");
    }
    for port in (1..=streams).map(PortId) {
        controller.connect(port, &connect(port)).expect("open");
        // Commands have a queue; half a thousand ports fill it.
        processor.tick(0, 0);
        controller.service();
    }
    controller.connect(device, &[PortId(1)]).expect("open");
    let mut ticks = Vec::new();
    for tick in 1..=SECONDS * 100 {
        *now.lock().expect("one thread") = tick * TICK_NANOS;
        let start = Instant::now();
        processor.tick(tick * TICK_NANOS, 0);
        let took = start.elapsed().as_nanos() as u64;
        processor.tick_took(took);
        ticks.push(took as f64 / 1000.0);
        controller.service();
        while speaker.pop().is_ok() {}
    }
    let mean = ticks.iter().sum::<f64>() / ticks.len() as f64;
    ticks.sort_by(f64::total_cmp);
    let at = |share: f64| ticks.get((share * (ticks.len() - 1) as f64) as usize).copied().unwrap_or_default();
    let (median, late, most) = (at(0.5), at(0.99), at(1.0));
    let share = 100.0 * mean / (TICK_NANOS as f64 / 1000.0);
    println!("| {name} | {streams} | {share:.1} % | {median:.0} us | {late:.0} us | {most:.0} us |");
}

fn main() {
    println!("| a tick, without the system's share | streams | of a core | median | 99 of 100 | longest |");
    println!("|---|---|---|---|---|---|");
    for streams in STREAMS {
        let mix = |_: PortId| vec![PortId(0)];
        measure("PCMU, each hears the null device", Codec::Pcmu, streams, false, mix);
        measure("PCMU, echo", Codec::Pcmu, streams, false, |port| vec![port]);
        measure("Opus, each hears the null device", Codec::Opus, streams, false, mix);
        let all = |port| (1..=streams).map(PortId).filter(|other| *other != port).collect();
        measure("PCMU, one conference", Codec::Pcmu, streams, false, all);
        for codec in [Codec::Pcmu, Codec::G722, Codec::L16Wide, Codec::Opus] {
            measure(&format!("{codec:?}, all lose a packet at once"), codec, streams, true, mix);
        }
    }
}
