//! One call through two real engines and a channel, in virtual time. It knows cells and channels; it judges nothing.

use voipd_audio::plan::{Codec, ReceiveKind, SendPlan, Steering, StreamCounters, StreamPlan};

use crate::channel::{Channel, Weather};
use crate::world::{STREAM, World, address, plan};

/// What is spoken with: one row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// As the table calls it.
    pub name: &'static str,
    pub codec: Codec,
    /// Bits per second of Opus where the link has no more; headers are not counted.
    pub bitrate: Option<u32>,
    /// Both sides offer RFC 2198.
    pub redundancy: bool,
    /// Rate at which it is scored in hertz: 8000 by P.862, 16000 by P.862.2.
    pub rate: u32,
}

const fn cell(name: &'static str, codec: Codec, bitrate: Option<u32>, redundancy: bool, rate: u32) -> Cell {
    Cell { name, codec, bitrate, redundancy, rate }
}

/// Payload type of RFC 2198 here.
const REDUNDANT: u8 = 121;

/// All that are measured.
pub const CELLS: [Cell; 5] = [
    cell("PCMU", Codec::Pcmu, None, false, 8000),
    cell("PCMU, RFC 2198", Codec::Pcmu, None, true, 8000),
    cell("G.722", Codec::G722, None, false, 16_000),
    cell("Opus, 32 kbit/s on the wire", Codec::Opus, Some(24_000), false, 16_000),
    cell("Opus, free", Codec::Opus, None, false, 16_000),
];

/// What came of a call.
pub struct Heard {
    pub samples: Vec<f32>,
    /// Bits per second on the wire, IPv4, UDP and RTP headers among them.
    pub wire: f64,
    /// The receiving stream's own figures.
    pub counters: StreamCounters,
}

/// How the daemon sends after some reports of such losses (`agent::adaptation`, which is tested by itself).
fn steering(cell: Cell, channel: Channel) -> Steering {
    let lossy = channel.loss > 0;
    let copies = match channel.loss {
        _ if !cell.redundancy => 0,
        0 => 0,
        1..8 => 1,
        _ => 2,
    };
    match (cell.codec, cell.bitrate) {
        // Headers take 16 kbit/s at 20 ms and 8 at 40.
        (Codec::Opus, Some(_)) => {
            Steering { bitrate: Some(24_000), ptime_ms: Some(40), fec: lossy, ..Steering::default() }
        }
        (Codec::Opus, None) if lossy => {
            Steering { bitrate: Some(40_000), ptime_ms: Some(40), fec: true, ..Steering::default() }
        }
        _ => Steering { copies, ..Steering::default() },
    }
}

/// Speaks `speech`, which is at the cell's rate, through a call.
pub fn call(cell: Cell, channel: Channel, seed: u64, speech: &[f32]) -> Heard {
    let (mut world, mut near, mut far) = World::call(cell.codec, cell.rate);
    let first = plan(cell.codec, 0, address(1));
    let redundancy = cell.redundancy.then_some(REDUNDANT);
    let send = first.send.map(|send| SendPlan { bitrate: None, fec: true, redundancy, ..send });
    let mut receive = first.receive.clone();
    receive.extend(redundancy.map(|number| (number, ReceiveKind::Redundant)));
    for (this, other) in [(0, 1), (1, 0)] {
        let plan = plan(cell.codec, this, address(other));
        let plan = StreamPlan { generation: 2, send, receive: receive.clone(), ..plan };
        world.sides[this].controller.update_stream(STREAM, plan).unwrap();
    }
    world.sides[0].controller.steer(STREAM, steering(cell, channel)).unwrap();
    let mut weather = Weather::new(channel, seed);
    world.network().weather = Box::new(move |sent| {
        if sent.from == address(0) {
            weather.arrival(sent.at_nanos).map(|due| due - sent.at_nanos).into_iter().collect()
        } else {
            Vec::new()
        }
    });
    near.feed(speech);
    let ms = speech.len() as u64 * 1000 / u64::from(cell.rate) + 500;
    world.run_ms(ms);
    /// IPv4 and UDP.
    const HEADERS: usize = 28;
    let bytes: usize =
        world.network().sent_from(address(0)).iter().map(|sent| sent.bytes.len() + HEADERS).sum();
    Heard {
        samples: far.recorded(),
        wire: bytes as f64 * 8000.0 / ms as f64,
        counters: world.sides[1].counters(STREAM),
    }
}
