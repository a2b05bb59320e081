//! The sending half of a stream: from 10 ms of sound to RTP packets. It knows no sockets and no addresses.

use crate::MAX_FRAME;
use crate::codec::Encoder;
use crate::engine::MAX_DATAGRAM;
use crate::engine::controller::packet_time;
use crate::engine::dtmf::{Clocks, EventPacket, EventSender, Turn};
use crate::engine::load::complexity_of;
use crate::engine::port::frame_len;
use crate::engine::redundancy::History;
use crate::engine::suppression::{self, Suppressor};
use crate::plan::{Codec, SendPlan, Steering, StreamCounters};
use crate::sums::is_silent;

/// Bytes of an RTP header without CSRC list and extension (RFC 3550 section 5.1).
const HEADER: usize = 12;
/// How far back a packet of ours is known again when it comes back.
const RECENT_PACKETS: u16 = 512;
const RECENT_SECONDS: u32 = 10;
/// Longest packet time, in ticks.
const MAX_TICKS: usize = 6;
/// The sound of a packet in which nothing is heard.
static SILENCE: [f32; MAX_TICKS * MAX_FRAME] = [0.0; MAX_TICKS * MAX_FRAME];

/// Ticks from one packet that keeps the way open to the next, as RFC 6263 recommends; and to another one behind it, should
/// it be lost.
const KEEP_OPEN_TICKS: u16 = 1500;
const KEEP_OPEN_AGAIN: u16 = 20;

/// A packet that is ready to be protected and sent.
pub(crate) struct Outgoing<'a> {
    /// The packet, and behind it room for what protection adds.
    pub(crate) buffer: &'a mut [u8; MAX_DATAGRAM],
    pub(crate) len: usize,
    /// Of the payload.
    pub(crate) octets: usize,
    /// `None` for event packets: their timestamp does not belong to the moment of sending.
    pub(crate) audio_timestamp: Option<u32>,
    /// Not for what only keeps the way open.
    pub(crate) counted: bool,
}

/// What is to be sent at the end of the tick.
enum Waiting {
    Nothing,
    /// The packet that has been written.
    Packet {
        len: usize,
        octets: usize,
        timestamp: u32,
    },
    /// Events of this payload type, to be written one after another.
    Events {
        payload_type: u8,
        packets: [Option<EventPacket>; 2],
    },
    /// A header that has been written, and nothing else.
    KeepOpen,
}

/// The sending half of a stream; what is large lies behind the rest.
#[repr(C)]
pub(crate) struct Sender {
    plan: Option<SendPlan>,
    ssrc: u32,
    pub(crate) encoder: Option<Encoder>,
    complexity: u8,
    steering: Steering,
    /// The encoder spends bits on FEC.
    fec: bool,
    history: Box<History>,
    /// Earlier frames in the packet of sound that was sent last.
    copies: u8,
    suppressor: Suppressor,
    sequence: u16,
    /// RTP timestamp of the tick that comes: it goes on with time, whether something is sent or not.
    clock: u32,
    /// Of the last plan that sent: it says how fast `clock` runs, and at which rate sound is taken.
    codec: Codec,
    filled: usize,
    /// What is filled is silence, and not written.
    silent: bool,
    /// Ticks in the packet that is being filled.
    packet_ticks: usize,
    /// Packets begin on a tick of their own phase, so that many streams do not encode in the same tick.
    in_phase: bool,
    /// The next packet begins a talk spurt (RFC 3551 section 4.1).
    marker: bool,
    pub(crate) events: EventSender,
    /// Payload type of what is sent for the way alone while the plan sends nothing.
    keep_open: Option<u8>,
    /// Ticks since such a packet was due.
    rested: u16,
    waiting: Waiting,
    packet: [u8; MAX_DATAGRAM],
    samples: [f32; MAX_TICKS * MAX_FRAME],
}

impl Sender {
    /// Control thread.
    pub(crate) fn new(ssrc: u32, codec: Codec) -> Self {
        let (sequence, clock) = beginning(ssrc);
        Sender {
            plan: None,
            ssrc,
            encoder: None,
            complexity: u8::MAX,
            steering: Steering::default(),
            fec: false,
            history: Box::new(History::new()),
            copies: 0,
            suppressor: Suppressor::new(codec),
            sequence,
            clock,
            codec,
            samples: [0.0; MAX_TICKS * MAX_FRAME],
            filled: 0,
            silent: true,
            packet_ticks: 1,
            in_phase: false,
            marker: true,
            events: EventSender::new(),
            keep_open: None,
            rested: 0,
            packet: [0; MAX_DATAGRAM],
            waiting: Waiting::Nothing,
        }
    }

    /// What we send with.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Whether a packet with these numbers is one of ours of the last seconds. A peer that has drawn our SSRC by chance
    /// meets both numbers with a probability of less than one in a million.
    pub(crate) fn has_sent(&self, sequence: u16, timestamp: u32) -> bool {
        let behind = self.sequence.wrapping_sub(sequence);
        let age = self.clock.wrapping_sub(timestamp);
        (1..=RECENT_PACKETS).contains(&behind) && age <= RECENT_SECONDS * self.codec.clock_rate()
    }

    /// Rate of the sound wanted, in hertz; `None`: nothing is sent.
    pub(crate) fn rate(&self) -> Option<u32> {
        self.plan.as_ref().map(|plan| plan.codec.sample_rate())
    }

    /// Whether all such streams may encode in the same tick.
    pub(crate) fn encodes_at_once(&self) -> bool {
        self.encoder.as_ref().is_some_and(Encoder::is_light)
    }

    /// See [`Encoder::set_complexity`].
    pub(crate) fn encodes_by_effort(&self) -> bool {
        self.plan.is_some() && self.encoder.as_ref().is_some_and(Encoder::has_complexity)
    }

    /// A new plan, and its encoder in exchange for the old one where another is needed. Answers the event whose
    /// sending it broke off.
    pub(crate) fn replace(
        &mut self,
        ssrc: u32,
        plan: Option<SendPlan>,
        encoder: &mut Option<Encoder>,
    ) -> Option<char> {
        let anew = ssrc != self.ssrc;
        if anew {
            self.ssrc = ssrc;
            (self.sequence, self.clock) = beginning(ssrc);
        }
        if encoder.is_some() {
            std::mem::swap(&mut self.encoder, encoder);
            self.complexity = u8::MAX;
            self.steer(self.steering);
        }
        let shape = |plan: &SendPlan| (plan.codec, plan.ptime_ms, plan.events, plan.comfort_noise);
        let reshaped = plan.as_ref().map(shape) != self.plan.as_ref().map(shape);
        let mut broken_off = None;
        if anew || reshaped {
            broken_off = self.events.interrupt();
            self.pause();
        }
        if reshaped {
            (self.filled, self.in_phase) = (0, false);
        }
        if let Some(plan) = &plan {
            // With another clock rate the timestamps go on from where they are (RFC 7160 section 4.1).
            self.codec = plan.codec;
        }
        self.plan = plan;
        broken_off
    }

    /// See [`crate::StreamPlan::keep_open`]. The first packet goes out at once: the peer may wait for it before it sends.
    pub(crate) fn keep_open(&mut self, payload_type: Option<u8>) {
        (self.keep_open, self.rested) = (payload_type, 0);
    }

    /// How packets are sent from now on.
    pub(crate) fn steer(&mut self, steering: Steering) {
        self.steering = steering;
        if let Some(encoder) = &mut self.encoder {
            encoder.set_bitrate(steering.bitrate);
            self.fec = encoder.set_fec(steering.fec);
        }
    }

    /// Writes what this half knows into the stream's counters.
    pub(crate) fn count(&self, counters: &mut StreamCounters) {
        (counters.sent_ssrc, counters.sent_sequence) = (self.ssrc, self.sequence);
        counters.send_copies = self.plan.as_ref().map_or(0, |_| self.copies);
        counters.send_ptime_ms = self.plan.as_ref().map_or(0, |plan| self.ticks(plan) as u16 * 10);
        let encoder = self.encoder.as_ref().filter(|_| self.plan.is_some());
        counters.send_bitrate = encoder.map_or(0, Encoder::bitrate);
        counters.send_fec = u8::from(encoder.is_some() && self.fec);
    }

    /// Ticks in a packet that begins now.
    fn ticks(&self, plan: &SendPlan) -> usize {
        let ptime_ms = self.steering.ptime_ms.map_or(plan.ptime_ms, |wanted| packet_time(plan.codec, wanted));
        usize::from(ptime_ms / 10).clamp(1, MAX_TICKS)
    }

    /// Whether the tick that comes may complete a packet.
    pub(crate) fn is_due(&self) -> bool {
        let Some(plan) = &self.plan else {
            return self.keep_open.is_some() && self.keeps_open();
        };
        let frame = frame_len(self.codec.sample_rate());
        let ticks = if self.filled == 0 { self.ticks(plan) } else { self.packet_ticks };
        self.filled + frame >= ticks * frame
    }

    /// Whether a packet that keeps the way open belongs to this tick.
    fn keeps_open(&self) -> bool {
        matches!(self.rested, 0 | KEEP_OPEN_AGAIN)
    }

    /// What comes next begins a talk spurt.
    fn pause(&mut self) {
        self.marker = true;
        self.history.clear();
    }

    /// `ticks` were left out: time went on without us.
    pub(crate) fn skip(&mut self, ticks: u64) {
        self.clock = self.clock.wrapping_add((ticks as u32).wrapping_mul(self.tick_units()));
        (self.filled, self.in_phase) = (0, false);
        self.pause();
    }

    /// A tick of a stream that sends nothing.
    pub(crate) fn rest(&mut self) {
        self.clock = self.clock.wrapping_add(self.tick_units());
        let Some(payload_type) = self.keep_open else { return };
        if self.keeps_open() {
            self.write_header(false, payload_type, self.clock);
            self.sequence = self.sequence.wrapping_add(1);
            self.waiting = Waiting::KeepOpen;
        }
        self.rested = (self.rested + 1) % KEEP_OPEN_TICKS;
    }

    /// Timestamp units of a tick.
    fn tick_units(&self) -> u32 {
        frame_len(self.codec.clock_rate()) as u32
    }

    /// Takes 10 ms and makes the packets ready that are complete with them; answers the event whose sending is. `tick`:
    /// number of the tick, shifted by the stream's phase.
    pub(crate) fn push(&mut self, samples: &[f32], tick: u64, complexity: u8) -> Option<char> {
        let frame = frame_len(self.codec.sample_rate());
        self.clock = self.clock.wrapping_add(self.tick_units());
        let plan = self.plan?;
        if self.filled == 0 {
            self.packet_ticks = self.ticks(&plan);
        }
        let ticks = self.packet_ticks;
        if !self.in_phase {
            if !tick.is_multiple_of(ticks as u64) {
                return None;
            }
            self.in_phase = true;
        }
        self.take(samples);
        self.filled += frame;
        if self.filled < ticks * frame {
            return None;
        }
        let samples = std::mem::take(&mut self.filled);
        let span = ticks as u32 * self.tick_units();
        let start = self.clock.wrapping_sub(span);
        if let Some((payload_type, events)) = plan.events
            && let Turn::Events { packets, sent } =
                self.events.turn(start, span, Clocks { stream: self.codec.clock_rate(), events })
        {
            self.waiting = Waiting::Events { payload_type, packets };
            self.pause();
            self.suppressor.forget();
            return sent;
        }
        let SendPlan { payload_type, redundancy, comfort_noise, .. } = plan;
        if let Some(number) = comfort_noise
            && self.codec != Codec::Opus
            && self.suppress(number, samples, start)
        {
            return None;
        }
        let encoder = self.encoder.as_mut()?;
        let complexity = complexity_of(complexity, self.steering.careful);
        if complexity != self.complexity {
            encoder.set_complexity(complexity);
            self.complexity = complexity;
        }
        let sound = if self.silent { &SILENCE } else { &self.samples }.get(..samples).unwrap_or_default();
        let room = self.packet.get_mut(HEADER..).unwrap_or_default();
        match encoder.encode(sound, room) {
            Ok(octets) if octets > 0 => {
                let copies = self.steering.copies.into();
                let wrapped = redundancy.and_then(|redundant| {
                    let (octets, copies) = self.history.add(copies, payload_type, start, octets, room)?;
                    Some((octets, copies, redundant))
                });
                let (octets, copies, number) = wrapped.unwrap_or((octets, 0, payload_type));
                self.copies = copies;
                self.write_header(self.marker, number, start);
                self.marker = false;
                self.sequence = self.sequence.wrapping_add(1);
                let len = (HEADER + octets).min(MAX_DATAGRAM);
                self.waiting = Waiting::Packet { len, octets, timestamp: start };
            }
            // Discontinuous transmission, or an encoder that refuses: what follows begins a talk spurt.
            _ => self.pause(),
        }
        None
    }

    /// Puts samples behind those of the packet that is being filled. Silence is not written: many calls in which nobody
    /// speaks would bring memory into the processor's cache for nothing.
    fn take(&mut self, samples: &[f32]) {
        let silent = is_silent(samples);
        if self.filled == 0 {
            self.silent = silent;
        } else if self.silent && !silent {
            self.samples.iter_mut().take(self.filled).for_each(|sample| *sample = 0.0);
            self.silent = false;
        }
        if !self.silent {
            for (to, from) in self.samples.iter_mut().skip(self.filled).zip(samples) {
                *to = *from;
            }
        }
    }

    /// Gives what is ready to `send`.
    pub(crate) fn emit(&mut self, mut send: impl FnMut(Outgoing<'_>)) {
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Packet { len, octets, timestamp } => {
                let audio_timestamp = Some(timestamp);
                send(Outgoing { buffer: &mut self.packet, len, octets, audio_timestamp, counted: true });
            }
            Waiting::KeepOpen => {
                let (len, octets, audio_timestamp) = (HEADER, 0, None);
                send(Outgoing { buffer: &mut self.packet, len, octets, audio_timestamp, counted: false });
            }
            Waiting::Events { payload_type, packets } => {
                for packet in packets.into_iter().flatten() {
                    self.write_header(packet.marker, payload_type, packet.timestamp);
                    for (to, from) in self.packet.iter_mut().skip(HEADER).zip(packet.payload) {
                        *to = from;
                    }
                    self.sequence = self.sequence.wrapping_add(1);
                    let octets = packet.payload.len();
                    let len = HEADER + octets;
                    let audio_timestamp = None;
                    send(Outgoing { buffer: &mut self.packet, len, octets, audio_timestamp, counted: true });
                }
            }
        }
    }

    /// Makes a description of the noise ready, or nothing, where the packet has no talk in it; then answers `true`.
    fn suppress(&mut self, payload_type: u8, samples: usize, start: u32) -> bool {
        let sound = if self.silent { &SILENCE } else { &self.samples }.get(..samples).unwrap_or_default();
        let room = self.packet.get_mut(HEADER..).unwrap_or_default();
        match self.suppressor.packet(sound, self.codec, room) {
            suppression::Turn::Talk => return false,
            suppression::Turn::Silence => {}
            suppression::Turn::Describe(octets) => {
                self.write_header(false, payload_type, start);
                self.sequence = self.sequence.wrapping_add(1);
                self.waiting = Waiting::Packet { len: HEADER + octets, octets, timestamp: start };
            }
        }
        self.pause();
        true
    }

    fn write_header(&mut self, marker: bool, payload_type: u8, timestamp: u32) {
        let [s0, s1] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.to_be_bytes();
        let second = (u8::from(marker) << 7) | (payload_type & 0x7F);
        let header: [u8; HEADER] = [0x80, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        for (to, from) in self.packet.iter_mut().zip(header) {
            *to = from;
        }
    }
}

/// First sequence number and timestamp of an SSRC. RFC 3550 section 5.1 wants them hard to guess for who does not see
/// the stream; the SSRC, which the control side draws, is the randomness they are made of. The sequence number begins
/// in the lower half, so that a late first SRTP packet cannot be taken for one before the wrap (RFC 3711 section 3.3.1).
fn beginning(ssrc: u32) -> (u16, u32) {
    // The finaliser of SplitMix64: spreads every bit of the SSRC over all bits of the result.
    let mut mixed = u64::from(ssrc).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    ((mixed >> 48) as u16 & 0x7FFF, mixed as u32)
}
