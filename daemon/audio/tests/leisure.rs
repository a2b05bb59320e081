//! Two ticks at once, where nobody would notice.

use voipd_audio::engine::{DevicePort, Pace};
use voipd_audio::plan::{Codec, SendPlan, Steering, StreamCounters};
use voipd_audio::{PortId, StreamPlan, TICK_NANOS};

use crate::bare::{Bare, Peer, socket};
use crate::tick_paths::any_plan;
use crate::world::address;

const STREAM: PortId = PortId(1);
const OTHER: PortId = PortId(2);

/// Of a stream that sends all the time.
fn plan(codec: Codec, generation: u32, ssrc: u32) -> StreamPlan {
    let plan = any_plan(codec, generation, ssrc);
    let send = plan.send.map(|send| SendPlan { dtx: false, comfort_noise: None, redundancy: None, ..send });
    StreamPlan { send, ..plan }
}

fn open(bare: &mut Bare, port: PortId, codec: Codec) -> Peer {
    let (socket, peer) = socket(address(port.0 as usize));
    bare.controller.open_stream(port, plan(codec, 1, 0x1000 + port.0), socket).unwrap();
    peer
}

/// A packet of PCMU that hums.
fn packet(number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 160).to_be_bytes());
    packet.extend(7_u32.to_be_bytes());
    packet.extend((0..160).map(|at: usize| if at % 16 < 8 { 0x20 } else { 0xA0 }));
    packet
}

/// Ten seconds of a call in which one of twenty packets is lost and some are late, and which is held from the second one on:
/// what was sent, and the figures.
fn held_call(at_once: bool) -> (Vec<Vec<u8>>, StreamCounters) {
    let mut bare = Bare::new();
    let mut peer = open(&mut bare, STREAM, Codec::Pcmu);
    let mut sent = Vec::new();
    let (begin, mut number) = (bare.now_nanos, 0_u16);
    while bare.now_nanos < begin + 1000 * TICK_NANOS {
        let held = bare.now_nanos > begin + 100 * TICK_NANOS;
        let ticks = if at_once && held { bare.processor.ticks_at_once() } else { 1 };
        loop {
            let late = if number % 7 == 3 { 12_000_000 } else { 0 };
            let at = begin + 3_000_000 + u64::from(number) * 2 * TICK_NANOS + late;
            if at > bare.now_nanos + ticks * TICK_NANOS {
                break;
            }
            if number % 20 != 11 {
                peer.send(at, &packet(number));
            }
            number += 1;
        }
        bare.ticks(ticks, 0);
        sent.extend(std::iter::from_fn(|| peer.received()).map(|mail| mail.bytes().to_vec()));
    }
    assert_eq!(bare.allocations, 0);
    let figures = bare.controller.counters();
    assert_eq!(figures.ticks_missed, 0);
    assert!((1000..=1001).contains(&figures.ticks), "{}", figures.ticks);
    assert_eq!(figures.lateness[0] < 600, at_once, "how often it was woken: {:?}", figures.lateness);
    (sent, bare.controller.stream_counters(STREAM).unwrap())
}

#[test]
fn a_call_that_nobody_hears_is_the_same_in_half_the_wakings() {
    let (one_by_one, each) = held_call(false);
    let (at_once, both) = held_call(true);
    assert!((499..=500).contains(&one_by_one.len()) && one_by_one.len().abs_diff(at_once.len()) <= 1);
    assert!(one_by_one.iter().zip(&at_once).all(|(a, b)| a == b), "the same packets");
    let same = |counters: &StreamCounters| {
        (counters.packets_lost, counters.packets_late, counters.packets_discarded)
    };
    assert_eq!(same(&each), same(&both));
    assert!(each.frames_played.abs_diff(both.frames_played) <= 2, "{each:#?}\n{both:#?}");
    assert!(each.frames_concealed.abs_diff(both.frames_concealed) <= 2, "{each:?}\n{both:?}");
}

#[test]
fn whoever_hears_or_is_heard_is_served_in_every_tick() {
    let mut bare = Bare::new();
    let at_once = |bare: &mut Bare| {
        bare.tick();
        bare.processor.ticks_at_once()
    };
    let _peers = [open(&mut bare, STREAM, Codec::Pcmu), open(&mut bare, OTHER, Codec::Opus)];
    assert_eq!(at_once(&mut bare), 2);
    // A conference.
    bare.controller.connect(STREAM, &[OTHER]).unwrap();
    assert_eq!(at_once(&mut bare), 1);
    bare.controller.connect(STREAM, &[]).unwrap();
    assert_eq!(at_once(&mut bare), 2);
    // Packets of 10 ms.
    let short = Steering { ptime_ms: Some(10), ..Steering::default() };
    bare.controller.steer(STREAM, short).unwrap();
    assert_eq!(at_once(&mut bare), 1);
    // Packets of 30 ms would be ready in the first of two ticks, then in the second.
    bare.controller.steer(STREAM, Steering { ptime_ms: Some(30), ..short }).unwrap();
    assert_eq!(at_once(&mut bare), 1);
    bare.controller.steer(STREAM, Steering::default()).unwrap();
    assert_eq!(at_once(&mut bare), 2);
    // A sound card, though nothing is connected to it yet; silence in its place is none.
    let device = |capture| DevicePort { capture, playback: None, rate: 48_000, pace: Pace::Tick };
    let (_feed, capture) = rtrb::RingBuffer::new(4800);
    bare.controller.open_device(PortId(3), device(Some(capture))).unwrap();
    assert_eq!(at_once(&mut bare), 1);
    bare.controller.close(PortId(3));
    bare.controller.open_device(PortId(4), device(None)).unwrap();
    bare.controller.connect(STREAM, &[PortId(4)]).unwrap();
    assert_eq!(at_once(&mut bare), 2);
    // A call that sends nothing at all.
    let held = StreamPlan { send: None, generation: 2, ..plan(Codec::Pcmu, 2, 0x1001) };
    bare.controller.update_stream(STREAM, held).unwrap();
    assert_eq!(at_once(&mut bare), 2);
}

#[test]
fn packets_of_every_time_keep_their_distance() {
    for (ptime_ms, ticks) in [(20, 2), (40, 4), (60, 6)] {
        let mut bare = Bare::new();
        let mut peer = open(&mut bare, STREAM, Codec::Pcmu);
        let usual = plan(Codec::Pcmu, 2, 0x1001);
        let send = SendPlan { ptime_ms, ..usual.send.unwrap() };
        bare.controller.update_stream(STREAM, StreamPlan { send: Some(send), ..usual }).unwrap();
        bare.tick();
        let begin = bare.now_nanos;
        let mut sent = Vec::new();
        while bare.now_nanos < begin + 240 * TICK_NANOS {
            let ticks = bare.processor.ticks_at_once();
            assert_eq!(ticks, 2);
            bare.ticks(ticks, 0);
            sent.extend(std::iter::from_fn(|| peer.received()));
        }
        assert!(sent.len().abs_diff(240 / ticks) <= 1, "{} packets of {ptime_ms} ms", sent.len());
        for pair in sent.windows(2) {
            let [earlier, later] = [&pair[0], &pair[1]].map(|mail| {
                let bytes = mail.bytes();
                u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
            });
            assert_eq!(later.wrapping_sub(earlier), u32::from(ptime_ms) * 8, "{ptime_ms} ms");
        }
    }
}

#[test]
fn what_is_commanded_in_between_is_served_once() {
    let mut bare = Bare::new();
    let mut peer = open(&mut bare, STREAM, Codec::Pcmu);
    assert_eq!(bare.processor.ticks_at_once(), 1, "something is commanded");
    bare.tick();
    assert_eq!(bare.processor.ticks_at_once(), 2);
    bare.ticks(2, 0);
    let before = std::iter::from_fn(|| peer.received()).last().expect("a packet");
    // While the thread sleeps for two ticks, a loudspeaker is opened, and packets are to be of 10 ms.
    let (playback, mut played) = rtrb::RingBuffer::new(4800);
    let device = DevicePort { capture: None, playback: Some(playback), rate: 48_000, pace: Pace::Tick };
    bare.controller.open_device(PortId(3), device).unwrap();
    let short = Steering { ptime_ms: Some(10), ..Steering::default() };
    bare.controller.steer(STREAM, short).unwrap();
    bare.ticks(2, 0);
    let filled = played.slots();
    assert_eq!(bare.processor.ticks_at_once(), 1);
    played.read_chunk(filled).unwrap().commit_all();
    let mut fresh = Bare::new();
    let (playback, alone) = rtrb::RingBuffer::new(4800);
    let device = DevicePort { capture: None, playback: Some(playback), rate: 48_000, pace: Pace::Tick };
    fresh.controller.open_device(PortId(3), device).unwrap();
    fresh.tick();
    assert_eq!(filled, alone.slots(), "as much as of a tick by itself");
    bare.run_ms(100);
    let numbers = std::iter::once(before).chain(std::iter::from_fn(|| peer.received()));
    let numbers: Vec<u16> =
        numbers.map(|mail| u16::from_be_bytes([mail.bytes()[2], mail.bytes()[3]])).collect();
    assert!(
        numbers.len() > 10 && numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)),
        "{numbers:?}"
    );
}
