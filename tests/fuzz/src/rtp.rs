//! The engine behind a socket that the fuzzer fills.

use std::collections::VecDeque;
use std::net::SocketAddr;

use voipd_audio::TICK_NANOS;
use voipd_audio::engine::{Batch, DevicePort, MediaSocket, Pace, Waker, engine};
use voipd_audio::plan::{Codec, Path, PortId, Protection, ReceiveKind, SendPlan, StreamPlan};

const STREAM: PortId = PortId(1);
const TAPE: PortId = PortId(2);
const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 4000);

struct Socket {
    waiting: VecDeque<Vec<u8>>,
    peer: SocketAddr,
}

impl MediaSocket for Socket {
    fn receive(&mut self, batch: &mut Batch) {
        // One datagram a tick, so that what the fuzzer wrote is spread over time.
        if let (Some(bytes), Some(datagram)) = (self.waiting.pop_front(), batch.datagrams.get_mut(batch.len))
        {
            let length = bytes.len().min(datagram.bytes.len());
            datagram.bytes[..length].copy_from_slice(&bytes[..length]);
            (datagram.len, datagram.source, datagram.at_nanos) = (length, self.peer, 0);
            batch.len += 1;
        }
    }

    fn send(&mut self, _: SocketAddr, _: &[u8]) -> bool {
        true
    }
}

struct Deaf;

impl Waker for Deaf {
    fn wake(&mut self) {}
}

/// RTP packets, each led by its length in two bytes, one a tick, to a stream that knows all codecs: what is played
/// stays a sound.
pub fn rtp(bytes: &[u8]) {
    let mut waiting = VecDeque::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (packet, tail) = tail.split_at(length);
        waiting.push_back(packet.to_vec());
        rest = tail;
    }
    let ticks = waiting.len().min(500) + 20;
    let peer = SocketAddr::from(PEER);
    let (mut controller, mut processor) = engine(4, Box::new(Deaf));
    let plan = StreamPlan {
        generation: 1,
        path: Path::Udp { remote: peer, symmetric: true },
        protection: Protection::None,
        ssrc: 0x1000,
        send: Some(SendPlan {
            codec: Codec::Pcmu,
            payload_type: 0,
            ptime_ms: 20,
            events: Some((101, 8000)),
            bitrate: None,
            fec: false,
            dtx: false,
            redundancy: Some(102),
            cbr: false,
            max_playback_rate: None,
            comfort_noise: Some(13),
        }),
        keep_open: None,
        receive: vec![
            (0, ReceiveKind::Audio(Codec::Pcmu)),
            (8, ReceiveKind::Audio(Codec::Pcma)),
            (3, ReceiveKind::Audio(Codec::Gsm)),
            (9, ReceiveKind::Audio(Codec::G722)),
            (13, ReceiveKind::ComfortNoise(8000)),
            (96, ReceiveKind::Audio(Codec::Opus)),
            (97, ReceiveKind::Audio(Codec::L16Narrow)),
            (98, ReceiveKind::Audio(Codec::L16Wide)),
            (99, ReceiveKind::Audio(Codec::L16Full)),
            (101, ReceiveKind::Events(8000)),
            (102, ReceiveKind::Redundant),
            (103, ReceiveKind::Audio(Codec::G726)),
            (104, ReceiveKind::Audio(Codec::SpeexNarrow)),
            (105, ReceiveKind::Audio(Codec::SpeexWide)),
            (106, ReceiveKind::Events(48_000)),
            (107, ReceiveKind::ComfortNoise(16_000)),
        ],
        play: true,
    };
    let (_input, capture) = rtrb::RingBuffer::new(4800);
    let (playback, mut output) = rtrb::RingBuffer::new(4800);
    let device =
        DevicePort { capture: Some(capture), playback: Some(playback), rate: 48_000, pace: Pace::Tick };
    assert!(controller.open_stream(STREAM, plan, Socket { waiting, peer }).is_ok());
    assert!(controller.open_device(TAPE, device).is_ok());
    assert!(controller.connect(TAPE, &[STREAM]).is_ok() && controller.connect(STREAM, &[TAPE]).is_ok());
    for tick in 1..=ticks as u64 {
        processor.tick(tick * TICK_NANOS, 0);
        controller.service();
        while controller.poll_event().is_some() {}
        while controller.poll_stray().is_some() {}
        while let Ok(sample) = output.pop() {
            // Resampling noise of full scale overshoots; the sound system clips.
            assert!(sample.abs() < 4.0, "{sample} is far beyond full scale");
        }
    }
}
