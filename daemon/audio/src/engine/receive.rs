//! The receiving half of a stream: from RTP packets to 10 ms of sound. It knows no sockets and no addresses.

use crate::engine::bursts::Bursts;
use crate::engine::decoding::{Decoding, Meanings};
use crate::engine::dtmf::{EventReceiver, ReceivedEvent};
use crate::engine::effort::Effort;
use crate::engine::packet::{Content, Packet};
use crate::engine::playout::MAX_PACKET;
use crate::engine::port::{SourceFrame, frame_len};
use crate::engine::queueing::Queueing;
use crate::engine::reception::Reception;
use crate::engine::redundancy::{Patience, Reach, Redundant, Restored};
use crate::jitter::{Advice, Inserted, JitterBuffer};
use crate::plan::{Codec, ReceiveKind, StreamCounters};

/// Bounds of the jitter buffer's target delay, in milliseconds.
pub(crate) const JITTER_MS: (u32, u32) = (20, 400);
/// Peers send no audio during a telephone event: what is missing for so long after its last packet is no loss.
const EVENT_PAUSE_NANOS: u64 = 400_000_000;

/// Whose a packet is, by its SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    First,
    Known,
    Changed,
    /// Another SSRC, which must come twice in a row to be believed (RFC 3550 appendix A.1).
    OnProbation,
}

/// The receiving half of a stream; what is large lies behind the rest.
#[repr(C)]
pub(crate) struct Receiver {
    play: bool,
    ssrc: Option<u32>,
    /// The SSRC and sequence number that would confirm another sender.
    newcomer: Option<(u32, u16)>,
    reception: Reception,
    queueing: Queueing,
    restored: Restored,
    patience: Patience,
    bursts: Bursts,
    jitter: JitterBuffer,
    /// Of what came last, in hertz.
    clock_rate: u32,
    /// Length of the packet of sound that came last.
    packet_ms: u16,
    events: EventReceiver,
    events_until_nanos: u64,
    pub(crate) decoding: Decoding,
    pub(crate) meanings: Meanings,
}

impl Receiver {
    /// Control thread. `likely`: the codec that is most likely to come.
    pub(crate) fn new(likely: Codec) -> Self {
        Receiver {
            meanings: [None; 128],
            play: false,
            ssrc: None,
            newcomer: None,
            reception: Reception::default(),
            queueing: Queueing::default(),
            restored: Restored::default(),
            patience: Patience::default(),
            bursts: Bursts::default(),
            jitter: JitterBuffer::new(JITTER_MS.0, JITTER_MS.1),
            decoding: Decoding::new(likely.sample_rate()),
            clock_rate: likely.clock_rate(),
            packet_ms: 0,
            events: EventReceiver::new(),
            events_until_nanos: 0,
        }
    }

    pub(crate) fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    pub(crate) fn set_play(&mut self, play: bool) {
        if play && !self.play {
            self.begin();
        }
        self.play = play;
    }

    /// The newest frame of a packet of RFC 2198, and the packet's blocks; any other packet as it is. `None` where the
    /// payload is malformed.
    pub(crate) fn unpack<'a>(&self, packet: Packet<'a>) -> Option<(Packet<'a>, Option<Redundant<'a>>)> {
        let meaning = self.meanings.get(usize::from(packet.payload_type)).copied().flatten();
        if meaning != Some(ReceiveKind::Redundant) || packet.payload.is_empty() {
            return Some((packet, None));
        }
        let redundant = Redundant::read(packet.payload)?;
        let Redundant { payload_type, payload, .. } = redundant;
        Some((Packet { payload_type, payload, ..packet }, Some(redundant)))
    }

    /// What the payload is; `None` where this stream has no use for it.
    pub(crate) fn content(&self, payload_type: u8, payload: &[u8]) -> Option<Content> {
        let kind = (*self.meanings.get(usize::from(payload_type))?)?;
        if payload.is_empty() {
            return Some(Content::Nothing);
        }
        match kind {
            ReceiveKind::Events(rate) => Some(Content::Event(rate)),
            ReceiveKind::ComfortNoise(rate) => Some(Content::Noise(rate)),
            // A block in a block.
            ReceiveKind::Redundant => None,
            ReceiveKind::Audio(codec) => {
                let decoder = self.decoding.decoder(codec)?;
                let samples =
                    decoder.duration(payload).ok().filter(|samples| (1..=MAX_PACKET).contains(samples))?;
                let units = samples * codec.clock_rate() as usize / codec.sample_rate() as usize;
                Some(Content::Audio { codec, duration: units as u32 })
            }
        }
    }

    /// Whose packet this is. `trusted`: its address has proved itself, and the SSRC with it.
    pub(crate) fn admit(&mut self, ssrc: u32, sequence: u16, trusted: bool) -> Sender {
        let sender = match self.ssrc {
            None => Sender::First,
            Some(known) if known == ssrc => Sender::Known,
            Some(_) if trusted || self.newcomer == Some((ssrc, sequence)) => Sender::Changed,
            Some(_) => {
                self.newcomer = Some((ssrc, sequence.wrapping_add(1)));
                return Sender::OnProbation;
            }
        };
        (self.ssrc, self.newcomer) = (Some(ssrc), None);
        if sender == Sender::Changed {
            self.reception.restart();
            self.queueing.restart();
            self.restored.clear();
            self.bursts.restart();
        }
        sender
    }

    /// The events of the sender before this one are over.
    pub(crate) fn restart_events(&mut self) -> Option<ReceivedEvent> {
        self.events.restart()
    }

    /// An admitted packet of sound.
    pub(crate) fn audio(
        &mut self,
        packet: Packet<'_>,
        codec: Codec,
        duration: u32,
        redundant: Option<Redundant<'_>>,
        counters: &mut StreamCounters,
    ) {
        if codec.clock_rate() != self.clock_rate {
            self.clock_rate = codec.clock_rate();
            self.reception.reset_timing();
            self.queueing.restart();
            self.restored.clear();
        }
        self.packet_ms = (u64::from(duration) * 1_000 / u64::from(self.clock_rate.max(1))) as u16;
        self.reception.timing(packet.timestamp, packet.at_nanos, self.clock_rate);
        self.queueing.observe(packet.timestamp, packet.at_nanos, self.clock_rate);
        if !self.play {
            self.reception.packet(packet.sequence);
            self.bursts.packet(packet.sequence, true);
            return;
        }
        let inserted = self.insert(packet, codec.clock_rate(), duration);
        match inserted {
            Inserted::Kept | Inserted::Restarted => {}
            Inserted::Duplicate if self.restored.take(packet.sequence) => {}
            Inserted::Duplicate => {
                counters.packets_duplicate += 1;
                return;
            }
            Inserted::Late => counters.packets_late += 1,
            Inserted::Discarded => counters.packets_discarded += 1,
        }
        self.reception.packet(packet.sequence);
        self.bursts.packet(packet.sequence, matches!(inserted, Inserted::Kept | Inserted::Restarted));
        let reach = redundant.map_or(0, |redundant| self.copies(packet, codec, redundant, counters));
        self.restored.arrived(packet.sequence, packet.timestamp);
        let told = self.decoding.reach(codec, packet.payload, duration);
        let reach = Reach { whole: told.whole.max(reach), ..told };
        let wait = self.patience.wait(reach, duration, self.reception.lost(), packet.at_nanos);
        self.jitter.set_least_wait(u64::from(wait) * 1_000_000_000 / u64::from(self.clock_rate.max(1)));
    }

    /// The copies of earlier frames that came with `packet`, which has been taken: where one of those frames is missing, its
    /// copy is played in its place. Answers how far back they reach, in timestamp units.
    fn copies(
        &mut self,
        packet: Packet<'_>,
        codec: Codec,
        redundant: Redundant<'_>,
        counters: &mut StreamCounters,
    ) -> u32 {
        let mut reach = 0;
        for copy in redundant.copies() {
            let content = self.content(copy.payload_type, copy.payload);
            // A copy may be of another codec, but not on another clock.
            let Some(Content::Audio { codec: other, duration }) = content else { continue };
            if other.clock_rate() != codec.clock_rate() {
                continue;
            }
            reach = reach.max(copy.offset);
            let Some(sequence) = self.restored.place(&packet, &copy, duration) else { continue };
            let copied = Packet {
                sequence,
                timestamp: packet.timestamp.wrapping_sub(copy.offset),
                payload_type: copy.payload_type,
                marker: false,
                payload: copy.payload,
                ..packet
            };
            if self.jitter.insert_copy(copied.arrival(codec.clock_rate(), duration)) {
                self.restored.note(sequence);
                counters.packets_restored += 1;
            }
        }
        reach
    }

    /// A packet of sound from a sender on probation: the jitter buffer keeps it aside, so that nothing is lost when the
    /// next one confirms it.
    pub(crate) fn keep_aside(&mut self, packet: Packet<'_>, codec: Codec, duration: u32) {
        if self.play {
            self.insert(packet, codec.clock_rate(), duration);
        }
    }

    fn insert(&mut self, packet: Packet<'_>, clock_rate: u32, duration: u32) -> Inserted {
        self.jitter.insert(packet.arrival(clock_rate, duration))
    }

    /// An admitted telephone-event packet at `rate` hertz.
    pub(crate) fn event(&mut self, packet: Packet<'_>, rate: u32) -> [Option<ReceivedEvent>; 2] {
        self.nothing(packet);
        self.events_until_nanos = packet.at_nanos.saturating_add(EVENT_PAUSE_NANOS);
        self.events.packet(packet.timestamp, packet.payload, rate, packet.at_nanos)
    }

    /// An admitted description of noise (RFC 3389) at `rate` hertz: it takes its place among the sound.
    pub(crate) fn noise(&mut self, packet: Packet<'_>, rate: u32) {
        self.reception.packet(packet.sequence);
        self.bursts.packet(packet.sequence, true);
        if !self.play {
            return;
        }
        if rate == self.clock_rate {
            self.insert(packet, rate, frame_len(rate) as u32);
        } else {
            // Its time says nothing on this clock; but it came, and is not missing in the sequence.
            self.insert(Packet { payload: &[], ..packet }, self.clock_rate, 0);
        }
    }

    /// An admitted packet without sound: it only takes its place in the sequence.
    pub(crate) fn nothing(&mut self, packet: Packet<'_>) {
        self.reception.packet(packet.sequence);
        self.bursts.packet(packet.sequence, true);
        if self.play {
            self.insert(Packet { payload: &[], ..packet }, self.clock_rate, 0);
        }
    }

    /// An event whose end packets did not come.
    pub(crate) fn expire_event(&mut self, now_nanos: u64) -> Option<ReceivedEvent> {
        self.events.expire(now_nanos)
    }

    /// Whether this tick's sound is decoded already.
    pub(crate) fn has_sound(&self) -> bool {
        let playout = &self.decoding.playout;
        self.play && self.ssrc.is_some() && playout.len() >= frame_len(playout.rate())
    }

    /// Gives this tick's sound.
    pub(crate) fn fill(&mut self, now_nanos: u64, frame: &mut SourceFrame, effort: &mut Effort) {
        if !self.play || self.ssrc.is_none() {
            frame.rate = 0;
            return;
        }
        self.fetch(now_nanos, effort);
        if self.stretch(now_nanos, effort) {
            self.fetch(now_nanos, effort);
        }
        let playout = &mut self.decoding.playout;
        playout.take(frame.begin(playout.rate()));
    }

    /// Decodes until there is sound for this tick.
    fn fetch(&mut self, now_nanos: u64, effort: &mut Effort) {
        // Each round gives at least one sample; most give all. A peer that sends crumbs gets silence for the rest.
        for _ in 0..4 {
            if self.has_sound() {
                break;
            }
            self.decode_next(now_nanos, effort);
        }
    }

    /// Brings the delay nearer to its target by playing faster or slower; answers whether anything was done.
    fn stretch(&mut self, now_nanos: u64, effort: &mut Effort) -> bool {
        let Receiver { jitter, decoding: Decoding { playout, .. }, .. } = self;
        let by = match jitter.advise(now_nanos, playout.len_nanos(), || playout.is_quiet()) {
            Advice::Keep => return false,
            Advice::Lengthen { wanted, likeness } => playout.lengthen(wanted, likeness),
            Advice::Shorten { most, likeness } => {
                // What is to be left out is here: the more of it is seen, the better the cut.
                for _ in 0..3 {
                    if self.decoding.playout.is_ahead() || !self.jitter.is_next_here() {
                        break;
                    }
                    self.decode_next(now_nanos, effort);
                }
                self.decoding.playout.shorten(most, likeness)
            }
        };
        if by != 0 {
            self.jitter.stretched(now_nanos, by);
        }
        true
    }

    fn decode_next(&mut self, now_nanos: u64, effort: &mut Effort) {
        let in_event = now_nanos < self.events_until_nanos;
        self.decoding.play(self.jitter.next(now_nanos), &self.meanings, in_event, effort);
    }

    /// Begins anew.
    fn begin(&mut self) {
        self.jitter.restart();
        self.reception.reset_timing();
        self.queueing.restart();
        self.restored.clear();
        self.decoding.begin();
    }

    /// Writes what this half knows into the stream's counters.
    pub(crate) fn count(&self, counters: &mut StreamCounters) {
        let figures = self.jitter.figures();
        let jitter = self.reception.jitter();
        self.bursts.count(counters);
        self.decoding.count(counters);
        counters.packets_lost = self.reception.lost();
        counters.packets_reordered = figures.reordered;
        counters.buffer_us = figures.held_us;
        counters.buffer_target_us = figures.target_us;
        counters.accelerated_us = figures.shortened_us;
        counters.expanded_us = figures.lengthened_us;
        counters.queued_us = self.queueing.queued_us();
        counters.queued_now_us = self.queueing.queued_now_us();
        counters.jitter_timestamp_units = jitter;
        counters.jitter_us = u64::from(jitter) * 1_000_000 / u64::from(self.clock_rate.max(1));
        counters.remote_ssrc = self.ssrc.unwrap_or(0);
        counters.base_extended_seq = self.reception.base_extended();
        counters.highest_extended_seq = self.reception.highest_extended();
        counters.source_received = self.reception.received();
        counters.receive_ptime_ms = self.packet_ms;
    }
}
