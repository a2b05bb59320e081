//! Whatever packets come, for every codec: the way from the socket to the mixer neither panics nor allocates, gives finite
//! sound of a bounded loudness and delay, and plays well again as soon as the sender sends well again.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use voipd_audio::TICK_NANOS;
use voipd_audio::codec::{Encoder, EncoderSettings};
use voipd_audio::engine::{DevicePort, Pace};
use voipd_audio::plan::{Codec, Path, Protection, ReceiveKind, StreamPlan};

use crate::bare::{Bare, Peer, socket};
use crate::world::sound::{find, speech};
use crate::world::{EVENTS, STREAM, TAPE, address, payload_type, rtp};

const NOISE: u8 = 13;
const REDUNDANT: u8 = 121;
/// A payload type without a meaning.
const UNKNOWN: u8 = 122;
const MS: u64 = 1_000_000;

/// Of an RTP packet.
#[derive(Clone, Copy)]
struct Numbers {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

/// One datagram of the storm: what is in it, how its numbers step on from those before, and when it comes.
#[derive(Clone, Debug)]
struct Step {
    content: Content,
    ms: u16,
    sequence: i16,
    ticks: i32,
    source: u8,
    flags: u8,
    marker: bool,
    stranger: bool,
    after_ms: u64,
}

#[derive(Clone, Debug)]
enum Content {
    /// As the codec's own encoder gives it.
    Sound,
    /// The same with octets overwritten, and cut.
    Broken { at: Vec<(usize, u8)>, cut: usize },
    /// Anything in the codec's payload type.
    Bytes(Vec<u8>),
    /// Anything, or the codec's sound, in another payload type.
    Other { payload_type: u8, bytes: Vec<u8> },
    /// A packet of RFC 2198 around the codec's sound.
    Redundant { offset: u16, length: u16, copies: usize },
    /// No RTP at all.
    Datagram(Vec<u8>),
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..1_600);
    let short = || prop::collection::vec(any::<u8>(), 0..80);
    let other = prop_oneof![
        2 => Just(EVENTS),
        2 => Just(NOISE),
        2 => Just(REDUNDANT),
        1 => Just(UNKNOWN),
        4 => prop::sample::select(Codec::ALL.as_slice()).prop_map(payload_type),
    ];
    prop_oneof![
        8 => Just(Content::Sound),
        3 => (prop::collection::vec((0_usize..1_500, any::<u8>()), 1..8), 0_usize..200)
            .prop_map(|(at, cut)| Content::Broken { at, cut }),
        2 => short().prop_map(Content::Bytes),
        1 => bytes().prop_map(Content::Bytes),
        3 => (other, short()).prop_map(|(payload_type, bytes)| Content::Other { payload_type, bytes }),
        2 => (any::<u16>(), 0_u16..1_024, 0_usize..5)
            .prop_map(|(offset, length, copies)| Content::Redundant { offset, length, copies }),
        1 => bytes().prop_map(Content::Datagram),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let usual = (Just(1_i16), Just(0_i32), Just(0_u8));
    let odd = (-60_i16..60, -4_000_i32..4_000, 0_u8..3);
    let wild = (any::<i16>(), any::<i32>(), any::<u8>());
    let numbers = prop_oneof![8 => usual, 3 => odd, 1 => wild];
    let ms = prop_oneof![6 => Just(20_u16), 1 => Just(10), 1 => Just(60), 1 => Just(40)];
    let after_ms = prop_oneof![8 => 0_u64..45, 1 => 0_u64..400];
    let flags = prop_oneof![8 => Just(0x80_u8), 1 => any::<u8>()];
    (content(), ms, numbers, flags, any::<bool>(), prop::bool::weighted(0.1), after_ms).prop_map(
        |(content, ms, (sequence, ticks, source), flags, marker, stranger, after_ms)| Step {
            content,
            ms,
            sequence,
            ticks,
            source,
            flags,
            marker,
            stranger,
            after_ms,
        },
    )
}

/// A call in one codec whose receiver knows all others, too.
struct Call {
    bare: Bare,
    peer: Peer,
    codec: Codec,
    encoder: Encoder,
    heard: rtrb::Consumer<f32>,
    /// Keeps the tape's microphone open.
    _silence: rtrb::Producer<f32>,
}

impl Call {
    fn new(codec: Codec) -> Self {
        let mut bare = Bare::new();
        let (socket, peer) = socket(address(0));
        let mut receive = vec![
            (EVENTS, ReceiveKind::Events(codec.clock_rate())),
            (NOISE, ReceiveKind::ComfortNoise(codec.clock_rate())),
            (REDUNDANT, ReceiveKind::Redundant),
        ];
        let built = Codec::ALL.into_iter().filter(|codec| codec.is_built());
        receive.extend(built.map(|codec| (payload_type(codec), ReceiveKind::Audio(codec))));
        let plan = StreamPlan {
            generation: 1,
            path: Path::Udp { remote: address(0), symmetric: true },
            protection: Protection::None,
            ssrc: 0x1001,
            send: None,
            keep_open: None,
            receive,
            play: true,
        };
        bare.controller.open_stream(STREAM, plan, socket).unwrap();
        let rate = codec.sample_rate();
        let (silence, capture) = rtrb::RingBuffer::new(1);
        let (playback, heard) = rtrb::RingBuffer::new(rate as usize * 60);
        let tape = DevicePort { capture: Some(capture), playback: Some(playback), rate, pace: Pace::Tick };
        bare.controller.open_device(TAPE, tape).unwrap();
        bare.controller.connect(TAPE, &[STREAM]).unwrap();
        let settings = EncoderSettings { fec: true, ..EncoderSettings::new(codec, 2) };
        let mut encoder = Encoder::new(settings).unwrap();
        encoder.set_fec(true);
        Call { bare, peer, codec, encoder, heard, _silence: silence }
    }

    /// What has been played; everything that was is checked.
    fn played(&mut self) -> Result<Vec<f32>, TestCaseError> {
        let played: Vec<f32> = std::iter::from_fn(|| self.heard.pop().ok()).collect();
        let codec = self.codec;
        for sample in &played {
            prop_assert!(
                sample.is_finite() && sample.abs() <= LOUDEST,
                "{:?}: a sample of {}",
                codec,
                sample
            );
        }
        Ok(played)
    }

    /// As many ticks as are due until `until`.
    fn run_until(&mut self, until: u64) -> Result<(), TestCaseError> {
        while self.bare.now_nanos + TICK_NANOS <= until {
            self.bare.tick();
            let counters = self.bare.controller.stream_counters(STREAM).unwrap();
            let told = [counters.buffer_us, counters.queued_us, counters.queued_now_us, counters.jitter_us];
            prop_assert!(told.into_iter().all(|us| us <= MOST_TOLD_US), "{:?}: {:?}", self.codec, counters);
            prop_assert!(counters.buffer_target_us <= MOST_AIMED_AT_US, "{:?}: {:?}", self.codec, counters);
        }
        Ok(())
    }

    fn sound(&mut self, samples: &[f32]) -> Vec<u8> {
        let mut payload = [0; 6_000];
        let length = self.encoder.encode(samples, &mut payload).unwrap();
        payload[..length].to_vec()
    }

    /// Answers the numbers that would come next.
    fn storm(&mut self, steps: Vec<Step>) -> Result<Numbers, TestCaseError> {
        let words = speech(self.codec.sample_rate(), 4.0, 5);
        let (mut sequence, mut timestamp, mut at, mut said) =
            (65_500_u16, u32::MAX - 9_000, self.bare.now_nanos, 0);
        let mut before = Vec::new();
        for step in steps {
            at += step.after_ms * MS;
            self.run_until(at)?;
            let ms = if self.codec == Codec::L16Full { 10 } else { step.ms };
            let ms = if matches!(self.codec, Codec::Gsm | Codec::SpeexNarrow | Codec::SpeexWide) && ms == 10 {
                20
            } else {
                ms
            };
            let samples = self.codec.sample_rate() as usize / 1000 * usize::from(ms);
            let from = said % (words.len() - samples);
            let sound = self.sound(&words[from..from + samples]);
            said += samples;
            let own = payload_type(self.codec);
            let (number, body) = match step.content {
                Content::Sound => (own, sound.clone()),
                Content::Broken { at, cut } => {
                    let mut body = sound.clone();
                    for (place, octet) in at {
                        let place = place % body.len();
                        body[place] = octet;
                    }
                    body.truncate(body.len().saturating_sub(cut % 30));
                    (own, body)
                }
                Content::Bytes(bytes) => (own, bytes),
                Content::Other { payload_type, bytes } => (payload_type, bytes),
                Content::Redundant { offset, length, copies } => {
                    let mut body = Vec::new();
                    for copy in 0..copies {
                        let offset = if copy == 0 {
                            offset >> 2
                        } else {
                            (self.codec.clock_rate() / 50) as u16 & 0x3FFF
                        };
                        let length = if copy == 0 { length } else { before.len() as u16 & 0x3FF };
                        let block = u32::from(offset) << 10 | u32::from(length);
                        body.push(0x80 | own);
                        body.extend(&block.to_be_bytes()[1..]);
                    }
                    body.push(own);
                    body.extend(before.repeat(copies));
                    body.extend(&sound);
                    (REDUNDANT, body)
                }
                Content::Datagram(bytes) => {
                    self.peer.send(at, &bytes);
                    continue;
                }
            };
            before = sound;
            sequence = sequence.wrapping_add_signed(step.sequence);
            let units = self.codec.clock_rate() / 1000 * u32::from(ms);
            timestamp = timestamp.wrapping_add(units).wrapping_add_signed(step.ticks);
            let marked = number | if step.marker { 0x80 } else { 0 };
            let ssrc = 0xAB00 + u32::from(step.source);
            let mut packet = rtp(marked, sequence, timestamp, ssrc, &body);
            packet[0] = step.flags;
            if step.stranger {
                self.peer.send_from(address(7), at, &packet);
            } else {
                self.peer.send(at, &packet);
            }
        }
        self.run_until(at + 100 * MS)?;
        Ok(Numbers { sequence: sequence.wrapping_add(1), timestamp, ssrc: 0xAB00 })
    }

    /// The peer sends well from now on; a few seconds later, it is heard well.
    fn recovers(&mut self, first: Numbers) -> Result<(), TestCaseError> {
        let rate = self.codec.sample_rate() as usize;
        let words = speech(rate as u32, RECOVERY_MS as f32 / 1000.0, 6);
        let ms = if self.codec == Codec::L16Full { 10 } else { 20 };
        self.played()?;
        let (start, mut heard, mut made_up) = (self.bare.now_nanos, Vec::new(), 0);
        for (number, packet) in words.chunks_exact(rate / 1000 * ms).enumerate() {
            let at = start + (number * ms) as u64 * MS;
            self.run_until(at)?;
            let payload = self.sound(packet);
            let units = self.codec.clock_rate() / 1000 * ms as u32;
            let sequence = first.sequence.wrapping_add(number as u16);
            let timestamp = first.timestamp.wrapping_add(number as u32 * units);
            let packet = rtp(payload_type(self.codec), sequence, timestamp, first.ssrc, &payload);
            self.peer.send(at, &packet);
            heard.extend(self.played()?);
            if number * ms == RECOVERY_MS - 1_000 {
                made_up = self.bare.controller.stream_counters(STREAM).unwrap().frames_concealed;
            }
        }
        self.run_until(start + RECOVERY_MS as u64 * MS)?;
        heard.extend(self.played()?);
        let counters = self.bare.controller.stream_counters(STREAM).unwrap();
        prop_assert_eq!(counters.frames_concealed, made_up, "{:?}: {:?}", self.codec, counters);
        // The last second in pieces, one of which stretching may have cut through.
        let (words, heard) = (coarse(&words, rate), coarse(&heard, rate));
        let (said, last) = (words.len() - 8_000 - MOST_DELAY, heard.len() - 8_000);
        let alike: Vec<f32> = (0..8_000)
            .step_by(1_600)
            .map(|at| {
                let said = &words[said + at..said + at + MOST_DELAY + 1_600];
                find(&heard[last + at..last + at + 1_600], said, MOST_DELAY).0
            })
            .collect();
        let good = alike.iter().filter(|alike| **alike > 0.5).count();
        prop_assert!(good >= 4, "{:?}: {:?}: {:?}", self.codec, alike, counters);
        Ok(())
    }
}

/// The same sound at 8 kHz, well enough to be known again.
fn coarse(samples: &[f32], rate: usize) -> Vec<f32> {
    let each = rate / 8_000;
    samples.chunks_exact(each).map(|samples| samples.iter().sum::<f32>() / each as f32).collect()
}

/// Full scale, and what filters between two rates make of garbage at it.
const LOUDEST: f32 = 3.0;
/// Delay aimed at: the largest, and the longest packet with a tick.
const MOST_AIMED_AT_US: u64 = 400_000 + 130_000;
/// Delays that are told, by timestamps that nobody can verify: to more than 2 s off they are not believed.
const MOST_TOLD_US: u64 = 4_100_000;
/// How long the peer sends well, and what its sound may be delayed by in the end, at 8 kHz.
const RECOVERY_MS: usize = 6_000;
const MOST_DELAY: usize = 1_000;

fn any_packets(codec: Codec) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    // The same packets in each run; more of them are had with PROPTEST_CASES.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let steps = (prop::collection::vec(step(), 1..150), any::<bool>());
    let outcome = runner.run(&steps, |(steps, same_source)| {
        let mut call = Call::new(codec);
        let next = call.storm(steps)?;
        let another = Numbers { sequence: 9, timestamp: 0, ssrc: 0x00C0_FFEE };
        call.recovers(if same_source { next } else { another })?;
        prop_assert_eq!(call.bare.allocations, 0);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{codec:?}: {error}");
    }
}

#[test]
fn every_codec() {
    for codec in Codec::ALL.into_iter().filter(|codec| codec.is_built()) {
        any_packets(codec);
    }
}
