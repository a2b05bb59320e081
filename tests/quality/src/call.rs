//! One call through two real engines and a channel, in virtual time. It knows cells and channels; it judges nothing.

use voipd_agent::adaptation::{Adaptation, Limits};
use voipd_audio::plan::{Codec, ReceiveKind, SendPlan, StreamPlan};

use crate::channel::{Channel, Weather};
use crate::corpus::WARM_UP;
use crate::reports::Reports;
use crate::world::{STREAM, World, address, plan};

/// What is spoken with: one row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// As the table calls it.
    pub name: &'static str,
    pub codec: Codec,
    /// Most bits per second that the peer wants on the wire, headers included (SDP's `b=AS`).
    pub bandwidth: Option<u32>,
    /// Both sides offer RFC 2198.
    pub redundancy: bool,
    /// Rate at which it is scored in hertz: 8000 by P.862, 16000 by P.862.2.
    pub rate: u32,
}

const fn cell(name: &'static str, codec: Codec, redundancy: bool, rate: u32) -> Cell {
    Cell { name, codec, bandwidth: None, redundancy, rate }
}

impl Cell {
    /// Bits per second that packets of 20 ms leave for the codec, where the peer sets a limit.
    pub fn left_at_20_ms(&self) -> Option<u32> {
        self.bandwidth.map(|bandwidth| bandwidth - (HEADERS as u32 + RTP_HEADER) * 8 * 50)
    }

    /// Bits per second and milliseconds in a packet, as the daemon sends where nothing gets lost.
    pub fn undisturbed(self) -> (Option<u32>, u16) {
        let limits = limits(self);
        let steering = Adaptation::new(limits).steering();
        (steering.bitrate, steering.ptime_ms.unwrap_or(limits.ptime_ms))
    }
}

/// Payload type of RFC 2198 here.
const REDUNDANT: u8 = 121;
/// Bytes of IPv4 and UDP, and of RTP.
const HEADERS: usize = 28;
const RTP_HEADER: u32 = 12;
/// Sound that is listened for behind the end of what was said, in milliseconds.
const TAIL: u64 = 500;

/// Those that the figures are asked of.
pub const CELLS: [Cell; 5] = [
    cell("PCMU", Codec::Pcmu, false, 8000),
    cell("PCMU, RFC 2198", Codec::Pcmu, true, 8000),
    cell("G.722", Codec::G722, false, 16_000),
    Cell { bandwidth: Some(32_000), ..cell("Opus, 32 kbit/s on the wire", Codec::Opus, true, 16_000) },
    cell("Opus, free", Codec::Opus, true, 16_000),
];

/// The other codecs, one seed of each, for who has to choose.
pub const OTHERS: [Cell; 6] = [
    cell("PCMA", Codec::Pcma, false, 8000),
    cell("G.726", Codec::G726, false, 8000),
    cell("GSM 06.10", Codec::Gsm, false, 8000),
    cell("Speex, narrow", Codec::SpeexNarrow, false, 8000),
    cell("Speex, wide", Codec::SpeexWide, false, 16_000),
    cell("L16, 16 kHz", Codec::L16Wide, false, 16_000),
];

/// What came of a call, from the end of its warm-up on.
pub struct Heard {
    pub samples: Vec<f32>,
    /// Bits per second on the wire, IPv4, UDP and RTP headers among them.
    pub wire: f64,
    /// Share of what was heard that was made up, 0 to 1.
    pub concealed: f64,
    /// Share of the time that was left out or put in, 0 to 1.
    pub stretched: f64,
    /// Mean length of a packet in milliseconds.
    pub ptime_ms: f64,
}

fn limits(cell: Cell) -> Limits {
    Limits {
        codec: cell.codec,
        ptime_ms: 20,
        max_ptime_ms: 60,
        max_bitrate: None,
        bandwidth: cell.bandwidth,
        fec: true,
        copies: if cell.redundancy { 2 } else { 0 },
        packet_overhead: HEADERS as u16,
    }
}

/// Speaks `speech`, which is at the cell's rate, through a call; its first [`WARM_UP`] seconds are not answered.
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
    let mut weather = Weather::new(channel, seed);
    world.network().weather = Box::new(move |sent| {
        if sent.from == address(0) {
            weather.arrival(sent.at_nanos).map(|due| due - sent.at_nanos).into_iter().collect()
        } else {
            Vec::new()
        }
    });
    near.feed(speech);
    let mut reports = Reports::new(limits(cell), channel, seed);
    let mut steering = None;
    let warm_up = WARM_UP as u64 * 1000;
    let ms = speech.len() as u64 * 1000 / u64::from(cell.rate) + TAIL;
    let begin = world.network().now_nanos;
    let (mut before, mut ptimes) = (None, 0);
    for tick in 0..ms / 10 {
        if tick * 10 == warm_up {
            before = Some((world.network().now_nanos, world.sides[1].counters(STREAM)));
        }
        if steering != Some(reports.steering()) {
            steering = Some(reports.steering());
            world.sides[0].controller.steer(STREAM, reports.steering()).unwrap();
        }
        world.tick();
        let now = world.network().now_nanos - begin;
        let (sent, received) = (world.sides[0].counters(STREAM), world.sides[1].counters(STREAM));
        reports.tick(now, &sent, &received);
        if before.is_some() {
            ptimes += u64::from(sent.send_ptime_ms);
        }
    }
    let (since, before) = before.expect("a warm-up");
    let all = world.network().sent_from(address(0));
    let bytes: usize =
        all.iter().filter(|sent| sent.at_nanos > since).map(|sent| sent.bytes.len() + HEADERS).sum();
    let after = world.sides[1].counters(STREAM);
    let measured = ms - warm_up;
    let stretched = after.accelerated_us - before.accelerated_us + after.expanded_us - before.expanded_us;
    let concealed = after.frames_concealed - before.frames_concealed;
    Heard {
        samples: far.recorded().split_off(WARM_UP * cell.rate as usize),
        wire: bytes as f64 * 8000.0 / measured as f64,
        concealed: concealed as f64 * 10.0 / measured as f64,
        stretched: stretched as f64 / 1000.0 / measured as f64,
        ptime_ms: ptimes as f64 * 10.0 / measured as f64,
    }
}
