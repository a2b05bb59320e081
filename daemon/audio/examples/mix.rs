//! What a conference costs: `cargo run --release -p voipd-audio --example mix [PARTIES]`. Ports without codecs and
//! network, 8 kHz, once in a conference where everybody talks and once with nobody connected; the mixer's share, limiter
//! included, is the difference.

use std::time::Instant;

use voipd_audio::TICK_NANOS;
use voipd_audio::engine::{Batch, Controller, DevicePort, MediaSocket, Pace, Processor, Waker, engine};
use voipd_audio::plan::PortId;

struct NoSocket;
impl MediaSocket for NoSocket {
    fn receive(&mut self, _batch: &mut Batch) {}
    fn send(&mut self, _remote: std::net::SocketAddr, _datagram: &[u8]) -> bool {
        false
    }
}

struct NoWaker;
impl Waker for NoWaker {
    fn wake(&mut self) {}
}

struct Party {
    says: rtrb::Producer<f32>,
    hears: rtrb::Consumer<f32>,
}

fn parties(count: u32, connected: bool) -> (Controller<NoSocket>, Processor<NoSocket>, Vec<Party>) {
    let (mut controller, processor) = engine(count as usize, Box::new(NoWaker));
    let mut parties = Vec::new();
    for number in 0..count {
        let (says, capture) = rtrb::RingBuffer::new(800);
        let (playback, hears) = rtrb::RingBuffer::new(800);
        let port =
            DevicePort { capture: Some(capture), playback: Some(playback), rate: 8_000, pace: Pace::Tick };
        controller.open_device(PortId(number), port).expect("room");
        parties.push(Party { says, hears });
    }
    for number in (0..count).filter(|_| connected) {
        let others: Vec<PortId> = (0..count).filter(|other| *other != number).map(PortId).collect();
        controller.connect(PortId(number), &others).expect("open");
    }
    (controller, processor, parties)
}

/// Microseconds for 20 ms of sound, the best of many rounds of a second.
fn cost(count: u32, connected: bool) -> f64 {
    let (mut controller, mut processor, mut parties) = parties(count, connected);
    let voice: Vec<f32> = (0..80).map(|n| 0.1 + 0.05 * (n as f32 * 0.7).sin()).collect();
    let mut heard = [0.0; 80];
    let mut now = TICK_NANOS;
    let mut second = || {
        let mut spent = 0;
        for _ in 0..100 {
            for party in &mut parties {
                let _ = party.says.push_partial_slice(&voice);
                let _ = party.hears.pop_partial_slice(&mut heard);
            }
            let start = Instant::now();
            processor.tick(now, 0);
            spent += start.elapsed().as_nanos();
            now += TICK_NANOS;
            controller.service();
        }
        spent as f64 / 50.0 / 1000.0
    };
    (0..50).map(|_| second()).fold(f64::MAX, f64::min)
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(18);
    let (apart, together) = (cost(count, false), cost(count, true));
    println!("{count} parties, 20 ms at 8 kHz: {apart:.2} us apart, {together:.2} us in conference");
    println!("the mixer's share: {:.2} us", together - apart);
}
