//! The receiving half of a stream: from RTP packets to 10 ms of sound. It knows no sockets and no addresses.

use crate::codec::Decoder;
use crate::comfort::{Description, Generator};
use crate::engine::bursts::Bursts;
use crate::engine::dtmf::{EventReceiver, ReceivedEvent};
use crate::engine::playout::{MAX_PACKET, Playout};
use crate::engine::port::{SourceFrame, frame_len};
use crate::engine::queueing::Queueing;
use crate::engine::reception::Reception;
use crate::engine::redundancy::{Patience, Redundant, Restored};
use crate::jitter::{Advice, Arrival, Inserted, JitterBuffer, Next};
use crate::plan::{Codec, ReceiveKind, StreamCounters};

/// Bounds of the jitter buffer's target delay, in milliseconds.
pub(crate) const JITTER_MS: (u32, u32) = (20, 400);
/// Peers send no audio during a telephone event: what is missing for so long after its last packet is no loss.
const EVENT_PAUSE_NANOS: u64 = 400_000_000;

/// What each payload type means.
pub(crate) type Meanings = [Option<ReceiveKind>; 128];

/// One RTP packet, read.
#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) at_nanos: u64,
    pub(crate) payload: &'a [u8],
}

/// What a payload is to this stream.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    Audio {
        codec: Codec,
        /// In timestamp units.
        duration: u32,
    },
    /// At this clock rate.
    Event(u32),
    /// A description of the noise in a pause, at this clock rate.
    Noise(u32),
    /// No payload: something that keeps a NAT's binding open (RFC 6263 section 4.6).
    Nothing,
}

/// Whose a packet is, by its SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    First,
    Known,
    Changed,
    /// Another SSRC, which must come twice in a row to be believed (RFC 3550 appendix A.1).
    OnProbation,
}

/// The receiving half of a stream.
pub(crate) struct Receiver {
    pub(crate) meanings: Meanings,
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
    pub(crate) decoders: [Option<Decoder>; Codec::COUNT],
    /// Of what was decoded last.
    codec: Option<Codec>,
    /// Of what came last, in hertz.
    clock_rate: u32,
    /// Samples of the packet decoded last.
    last_duration: usize,
    playout: Playout,
    /// What was made up last is not the decoder's: it stands where it did before.
    beside: bool,
    /// What a pause sounds like.
    noise: Generator,
    /// The sender has told of a pause, and not spoken since.
    in_pause: bool,
    events: EventReceiver,
    events_until_nanos: u64,
    played_us: u64,
    concealed_us: u64,
    /// Packets that FEC has brought back.
    corrected: u64,
}

impl Receiver {
    /// Control thread. `likely`: the codec that is most likely to come.
    pub(crate) fn new(likely: Codec) -> Self {
        let (clock_rate, rate) = (likely.clock_rate(), likely.sample_rate());
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
            decoders: [const { None }; Codec::COUNT],
            codec: None,
            clock_rate,
            last_duration: 2 * frame_len(rate),
            playout: Playout::new(rate),
            beside: false,
            noise: Generator::default(),
            in_pause: false,
            events: EventReceiver::new(),
            events_until_nanos: 0,
            played_us: 0,
            concealed_us: 0,
            corrected: 0,
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
                let decoder = self.decoders.get(codec.index())?.as_ref()?;
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
        let decoder = self.decoders.get(codec.index()).and_then(Option::as_ref);
        let helps =
            decoder.is_some_and(|decoder| decoder.carries_fec(packet.payload) || decoder.looks_ahead());
        let reach = redundant.map_or(0, |redundant| self.copies(packet, codec, redundant, counters));
        self.restored.arrived(packet.sequence, packet.timestamp);
        let reach = reach.max(if helps { duration } else { 0 });
        let wait = self.patience.wait(reach, self.reception.lost(), packet.at_nanos);
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
            if self.jitter.insert_copy(arrival(copied, codec.clock_rate(), duration)) {
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
        self.jitter.insert(arrival(packet, clock_rate, duration))
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
        // Whoever sends no sound at that clock has nothing to pause.
        if self.play && rate == self.clock_rate {
            self.insert(packet, rate, frame_len(rate) as u32);
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

    /// Gives this tick's sound.
    pub(crate) fn fill(&mut self, now_nanos: u64, frame: &mut SourceFrame) {
        if !self.play || self.ssrc.is_none() {
            frame.rate = 0;
            return;
        }
        self.fetch(now_nanos);
        if self.stretch(now_nanos) {
            self.fetch(now_nanos);
        }
        self.playout.take(frame.begin(self.playout.rate()));
    }

    /// Decodes until there is sound for this tick.
    fn fetch(&mut self, now_nanos: u64) {
        // Each round gives at least one sample; most give all. A peer that sends crumbs gets silence for the rest.
        for _ in 0..4 {
            if self.playout.len() >= frame_len(self.playout.rate()) {
                break;
            }
            self.decode_next(now_nanos);
        }
    }

    /// Brings the delay nearer to its target by playing faster or slower; answers whether anything was done.
    fn stretch(&mut self, now_nanos: u64) -> bool {
        let Receiver { jitter, playout, .. } = self;
        let by = match jitter.advise(now_nanos, playout.len_nanos(), || playout.is_quiet()) {
            Advice::Keep => return false,
            Advice::Lengthen { wanted, likeness } => playout.lengthen(wanted, likeness),
            Advice::Shorten { most, likeness } => {
                // What is to be left out is here: the more of it is seen, the better the cut.
                for _ in 0..3 {
                    if self.playout.is_ahead() || !self.jitter.is_next_here() {
                        break;
                    }
                    self.decode_next(now_nanos);
                }
                self.playout.shorten(most, likeness)
            }
        };
        if by != 0 {
            self.jitter.stretched(now_nanos, by);
        }
        true
    }

    fn decode_next(&mut self, now_nanos: u64) {
        let in_event = now_nanos < self.events_until_nanos;
        match self.jitter.next(now_nanos) {
            Next::Packet { payload_type, payload, skip, duration } => {
                let meaning = self.meanings.get(usize::from(payload_type)).copied().flatten();
                if let Some(ReceiveKind::ComfortNoise(_)) = meaning {
                    let description = Description::read(payload);
                    return self.pause(description);
                }
                // It was good when it came; a new plan may have no place for it.
                let Some(ReceiveKind::Audio(codec)) = meaning else { return self.playout.silence_frame() };
                let Some(Some(decoder)) = self.decoders.get_mut(codec.index()) else {
                    return self.playout.silence_frame();
                };
                if self.codec != Some(codec) {
                    // What is left of the codec before is played at the rate of this one, and fades over into it.
                    decoder.reset();
                    self.playout.set_rate(codec.sample_rate());
                    if self.codec.is_some() {
                        self.playout.bridge(10);
                    }
                    self.codec = Some(codec);
                    self.last_duration = 2 * frame_len(self.playout.rate());
                }
                let rate = self.playout.rate();
                if std::mem::take(&mut self.in_pause) {
                    // The noise fades out under the first word.
                    self.playout.bridge(10);
                }
                if std::mem::take(&mut self.beside) || skip > 0 && skip < duration {
                    // What was made up fades out where the packet's sound takes over in its midst.
                    self.playout.bridge(5);
                }
                match decoder.decode(payload, self.playout.room()) {
                    Ok(samples) if samples > 0 => {
                        self.last_duration = samples;
                        let skipped = (skip * u64::from(rate) / 1_000_000_000) as usize;
                        let added = self.playout.add_behind(skipped, samples);
                        self.played_us += duration_us(added, rate);
                    }
                    _ => {
                        let made = conceal(decoder, &mut self.playout, frame_len(rate));
                        self.concealed_us += duration_us(made, rate);
                    }
                }
            }
            _ if self.in_pause => self.noise_frame(),
            Next::Silence => self.playout.silence_frame(),
            Next::Lost { .. } if in_event => self.playout.silence(self.last_duration),
            Next::Empty if in_event => self.playout.silence(frame_len(self.playout.rate())),
            missing => {
                let rate = self.playout.rate();
                let decoder = self.codec.and_then(|codec| self.decoders.get_mut(codec.index())?.as_mut());
                let Some(decoder) = decoder else { return self.playout.silence_frame() };
                let beside = std::mem::take(&mut self.beside);
                if matches!(missing, Next::Empty) && !beside && decoder.is_moved_by_concealment() {
                    // A packet that is a little late still finds the decoder as it left it.
                    self.beside = true;
                    self.concealed_us += 10_000;
                    return self.playout.go_on();
                }
                if beside {
                    self.playout.bridge(5);
                }
                let length = match missing {
                    Next::Lost { following: Some(following) } => {
                        let room = self.playout.room().get_mut(..self.last_duration).unwrap_or_default();
                        if let Some(samples) =
                            decoder.decode_fec(following, room).filter(|samples| *samples > 0)
                        {
                            self.playout.add(samples);
                            self.played_us += duration_us(samples, rate);
                            self.corrected += 1;
                            return;
                        }
                        if let Some(samples) = decoder.interpolate(following, room) {
                            self.playout.add(samples);
                            self.concealed_us += duration_us(samples, rate);
                            return;
                        }
                        self.last_duration
                    }
                    Next::Lost { following: None } => self.last_duration,
                    _ => frame_len(rate),
                };
                let made = conceal(decoder, &mut self.playout, length);
                self.concealed_us += duration_us(made, rate);
            }
        }
    }

    /// The sender has told what its pause sounds like.
    fn pause(&mut self, description: Option<Description>) {
        if let Some(description) = description {
            if self.in_pause {
                self.noise.describe(description);
            } else {
                self.noise.restart(description);
                self.in_pause = true;
                if self.codec.is_some() {
                    // The last word fades out under the noise.
                    self.playout.bridge(10);
                }
            }
        }
        self.noise_frame();
    }

    /// Adds the noise of the pause up to one frame.
    fn noise_frame(&mut self) {
        let count = frame_len(self.playout.rate()).saturating_sub(self.playout.len());
        let room = self.playout.room().get_mut(..count).unwrap_or_default();
        self.noise.fill(room);
        let count = room.len();
        self.playout.add(count);
        self.played_us += duration_us(count, self.playout.rate());
    }

    /// Begins anew.
    fn begin(&mut self) {
        self.in_pause = false;
        self.jitter.restart();
        self.reception.reset_timing();
        self.queueing.restart();
        self.restored.clear();
        self.playout.clear(self.playout.rate());
        (self.codec, self.beside) = (None, false);
    }

    /// Writes what this half knows into the stream's counters.
    pub(crate) fn count(&self, counters: &mut StreamCounters) {
        let figures = self.jitter.figures();
        let jitter = self.reception.jitter();
        self.bursts.count(counters);
        counters.packets_lost = self.reception.lost();
        counters.packets_reordered = figures.reordered;
        counters.buffer_us = figures.held_us;
        counters.buffer_target_us = figures.target_us;
        counters.accelerated_us = figures.shortened_us;
        counters.expanded_us = figures.lengthened_us;
        counters.frames_played = self.played_us / 10_000;
        counters.frames_concealed = self.concealed_us / 10_000;
        counters.packets_corrected = self.corrected;
        counters.queued_us = self.queueing.queued_us();
        counters.jitter_timestamp_units = jitter;
        counters.jitter_us = u64::from(jitter) * 1_000_000 / u64::from(self.clock_rate.max(1));
        counters.remote_ssrc = self.ssrc.unwrap_or(0);
        counters.base_extended_seq = self.reception.base_extended();
        counters.highest_extended_seq = self.reception.highest_extended();
    }
}

/// A packet as the jitter buffer wants it. `clock_rate`: in hertz; `duration`: in timestamp units.
fn arrival(packet: Packet<'_>, clock_rate: u32, duration: u32) -> Arrival<'_> {
    Arrival {
        sequence: packet.sequence,
        timestamp: packet.timestamp,
        clock_rate,
        ssrc: packet.ssrc,
        payload_type: packet.payload_type,
        marker: packet.marker,
        at_nanos: packet.at_nanos,
        duration,
        payload: packet.payload,
    }
}

/// Length of so many samples in microseconds.
fn duration_us(samples: usize, rate: u32) -> u64 {
    samples as u64 * 1_000_000 / u64::from(rate.max(1))
}

/// Makes up `length` samples, in frames of 10 ms; answers how many.
fn conceal(decoder: &mut Decoder, playout: &mut Playout, length: usize) -> usize {
    let frame = frame_len(playout.rate());
    let mut made = 0;
    while made < length {
        let samples = frame.min(length - made);
        let Some(room) = playout.room().get_mut(..samples) else { break };
        decoder.conceal(room);
        playout.add(samples);
        made += samples;
    }
    made
}
