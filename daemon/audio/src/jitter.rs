//! The jitter buffer: takes packets as they come, gives them as the clock asks, and says when to wait, to conceal, to drop,
//! and to play faster or slower. It knows sequence numbers, timestamps and arrival times; it does not decode.
//!
//! Sound is pulled: a packet is played when the decoder has run out, whether the buffer likes its timing or not. Delay
//! therefore grows by itself: when nothing is there, 10 ms are concealed and the packet that comes late is played after
//! them, so lateness costs no sound. Delay is steered to its target by stretching what was decoded
//! ([`JitterBuffer::advise`]), and starts there after a pause of the sender. Only at the hard bound packets are dropped.
//!
//! "Delay" counts from the moment at which a packet's sound began, as seen through the fastest packet of the last seconds:
//! it includes the packet's own length. A clean wire with packets of 20 ms has 20 ms and what the clock's phase adds.

mod copy;
mod delay;
mod level;
mod peaks;
mod pool;
mod stream;

pub use level::Advice;

use delay::RelativeDelay;
use level::{Level, Standing};
use pool::{Packet, Pool};
use stream::{Newcomer, Place, Stream};

/// Most packets held.
pub const CAPACITY: usize = 128;
/// Largest payload kept, in bytes: 20 ms of L16 at 48 kHz.
pub const MAX_PAYLOAD: usize = 1920;

/// Without sound for so long, the sender counts as silent.
const SILENT_AFTER: i64 = 500 * MS;
/// A packet late by so much or less loses what was made up in its stead, if the delay would else grow for nothing. Later
/// ones are played whole: the gap was heard anyway, and words count more.
const SKIPPED: i64 = 2 * TICK;
/// Length of the clock's tick.
const TICK: i64 = crate::TICK_NANOS as i64;
const MS: i64 = 1_000_000;

/// A packet as the buffer wants it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Of the timestamp, in hertz.
    pub clock_rate: u32,
    /// RTP synchronisation source.
    pub ssrc: u32,
    /// RTP payload type, handed back with the payload.
    pub payload_type: u8,
    /// RTP marker bit: in audio, the first packet after a silence (RFC 3551 section 4.1). Not relied upon: not every
    /// sender sets it, and timestamps show the silence.
    pub marker: bool,
    /// Monotonic time of arrival in nanoseconds.
    pub at_nanos: u64,
    /// Length of the payload in timestamp units. 0: a packet of the stream that holds no sound (a telephone event); it only
    /// takes its place in the sequence, so that it does not count as lost.
    pub duration: u32,
    /// What to decode.
    pub payload: &'a [u8],
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It will be played, unless delay has to be brought down.
    Kept,
    /// It had come before.
    Duplicate,
    /// Its place had been played, or concealed, before it came.
    Late,
    /// The payload is too long, or the packet is the first of what may be another stream: it is kept aside, and played
    /// after all if the next packet continues it.
    Discarded,
    /// The stream began anew (SSRC change, sequence or timestamp jump), and goes on behind what was held.
    Restarted,
}

/// What to play next.
#[derive(Debug)]
pub enum Next<'a> {
    /// Decode this payload; `payload_type` names its codec.
    Packet {
        /// As it arrived.
        payload_type: u8,
        /// As it arrived.
        payload: &'a [u8],
        /// In nanoseconds.
        duration: u64,
        /// So much of its beginning, in nanoseconds, was made up already because the packet was late. Leaving it out keeps
        /// the delay as it is.
        skip: u64,
        /// The sender had paused before it: since the sound before, nothing was missing.
        paused: bool,
        /// Length in nanoseconds of the packets before it that have not come, where nothing was played in their stead.
        missing: u64,
    },
    /// The next packet is lost: conceal one packet time (as long as the last packet given).
    Lost {
        /// The first packet behind it that is here, which may tell of the lost one.
        later: Later<'a>,
    },
    /// Nothing is to be played now, for reasons that may yet show: conceal 10 ms and ask again.
    Empty,
    /// The sender is silent (before the first packet, or for more than half a second): play silence for 10 ms.
    Silence,
}

/// A packet behind a lost one.
#[derive(Clone, Copy, Debug)]
pub struct Later<'a> {
    /// As it arrived.
    pub payload_type: u8,
    /// As it arrived.
    pub payload: &'a [u8],
    /// Nanoseconds from the end of the lost packet to its beginning: 0 where it is the very next one.
    pub distance: u64,
}

/// Figures of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterFigures {
    /// Delay of what was played last, packet included, in microseconds.
    pub held_us: u64,
    /// Delay aimed at, packet included, in microseconds.
    pub target_us: u64,
    /// Sequence numbers that never came.
    pub lost: u64,
    /// Came after their place had been played.
    pub late: u64,
    /// Came more than once.
    pub duplicate: u64,
    /// Came after one with a higher sequence number.
    pub reordered: u64,
    /// Dropped at the hard bound of the delay, or because they do not fit.
    pub discarded: u64,
    /// Sound left out to bring delay down, in microseconds.
    pub shortened_us: u64,
    /// Sound put in to let delay grow, in microseconds.
    pub lengthened_us: u64,
}

/// The jitter buffer of one stream.
pub struct JitterBuffer {
    /// Bounds of the target delay in nanoseconds.
    min: i64,
    max: i64,
    /// A packet waits at least so long after the fastest one's arrival, in nanoseconds.
    least_wait: i64,
    pool: Pool,
    delay: RelativeDelay,
    level: Level,
    stream: Option<Stream>,
    candidate: Option<Newcomer>,
    playout: Playout,
    figures: JitterFigures,
}

/// Where playing stands.
#[derive(Clone, Copy, Debug)]
enum Playout {
    /// Waits for the first packet of a stream (`fresh`) or of a talk spurt to become due.
    Waiting { fresh: bool },
    /// Plays. `concealed`: nanoseconds made up since the last packet that stand for no sequence number yet.
    Playing { concealed: i64 },
}

/// [`Next`] without its borrow.
enum Step {
    Play { packet: Packet, skip: i64, paused: bool, missing: i64 },
    Lost { later: Packet, distance: i64 },
    Empty,
    Silence,
}

impl JitterBuffer {
    /// Control thread: allocates everything it will ever need. `min_ms`, `max_ms`: bounds of the target delay, which
    /// includes the packet; one packet and a tick are always allowed.
    pub fn new(min_ms: u32, max_ms: u32) -> Self {
        JitterBuffer {
            min: i64::from(min_ms) * MS,
            max: i64::from(max_ms.max(min_ms)) * MS,
            least_wait: 0,
            pool: Pool::new(),
            delay: RelativeDelay::new(),
            level: Level::new(),
            stream: None,
            candidate: None,
            playout: Playout::Waiting { fresh: true },
            figures: JitterFigures::default(),
        }
    }

    /// Whatever was held is dropped, figures go on.
    pub fn restart(&mut self) {
        self.pool.clear();
        self.delay.clear();
        self.level = Level::new();
        self.stream = None;
        self.candidate = None;
        self.playout = Playout::Waiting { fresh: true };
    }

    /// Figures since the buffer was made.
    pub fn figures(&self) -> JitterFigures {
        self.figures
    }

    /// Real-time thread.
    pub fn insert(&mut self, arrival: Arrival<'_>) -> Inserted {
        if arrival.payload.len() > MAX_PAYLOAD {
            self.figures.discarded += 1;
            return Inserted::Discarded;
        }
        let stream = self.stream.get_or_insert_with(|| Stream::begin(&arrival));
        match stream.place(&arrival) {
            Place::Known(packet, current) => {
                self.drop_candidate();
                self.accept(&arrival, packet, current)
            }
            Place::OtherClock => {
                if let Some(stream) = &mut self.stream {
                    stream.change_clock(&arrival, self.delay.base());
                }
                self.insert_again(arrival, Inserted::Kept)
            }
            Place::Strange => match self.candidate.take() {
                Some(candidate) if candidate.confirmed_by(&arrival) => {
                    self.change_source(candidate);
                    self.insert_again(arrival, Inserted::Restarted)
                }
                former => {
                    self.candidate = former;
                    self.drop_candidate();
                    self.keep_candidate(&arrival);
                    Inserted::Discarded
                }
            },
        }
    }

    /// An arrival for which the stream has just been prepared.
    fn insert_again(&mut self, arrival: Arrival<'_>, inserted: Inserted) -> Inserted {
        let place = self.stream.as_ref().map(|stream| stream.place(&arrival));
        match place {
            Some(Place::Known(packet, current)) => match self.accept(&arrival, packet, current) {
                Inserted::Kept => inserted,
                other => other,
            },
            _ => {
                self.figures.discarded += 1;
                Inserted::Discarded
            }
        }
    }

    /// Real-time thread: called when the decoder has run out of samples.
    pub fn next(&mut self, now_nanos: u64) -> Next<'_> {
        let step = self.step(now_nanos.min(1 << 60) as i64);
        self.figures.target_us = (self.target() / 1000) as u64;
        match step {
            Step::Play { packet, skip, paused, missing } => Next::Packet {
                payload_type: packet.payload_type,
                payload: self.pool.payload(&packet),
                duration: packet.duration.unsigned_abs(),
                skip: skip.unsigned_abs(),
                paused,
                missing: missing.unsigned_abs(),
            },
            Step::Lost { later, distance } => {
                let (payload_type, payload) = (later.payload_type, self.pool.payload(&later));
                Next::Lost { later: Later { payload_type, payload, distance: distance.unsigned_abs() } }
            }
            Step::Empty => Next::Empty,
            Step::Silence => Next::Silence,
        }
    }

    /// Real-time thread: what should be done with the sound that is decoded and not yet played, `unplayed_nanos` of it, to
    /// bring the delay nearer to its target. `quiet` tells whether that sound is a pause.
    pub fn advise(&mut self, now_nanos: u64, unplayed_nanos: u64, quiet: impl FnOnce() -> bool) -> Advice {
        let (Some(stream), Playout::Playing { concealed: 0 }) = (&self.stream, self.playout) else {
            return Advice::Keep;
        };
        let (now, unplayed) = (now_nanos.min(1 << 60) as i64, unplayed_nanos.min(1 << 40) as i64);
        let remainder = unplayed % TICK;
        let delay = now + unplayed - stream.position - self.delay.base();
        self.figures.held_us = ((delay + self.packet_length()).max(0) / 1000) as u64;
        let (lateness, wait) = (delay - remainder, self.wait());
        let floor = (self.min - self.packet_length()).max(self.least_wait);
        let enough = self.delay.enough().max(floor).min(wait);
        let safe = self.delay.safe().max(enough).min(wait);
        let wait = wait.max(self.delay.risen());
        let standing = Standing { lateness, remainder, wait, enough, safe };
        self.level.advise(now, standing, quiet)
    }

    /// Real-time thread: the advice was followed, and so much sound is more (or less) than was decoded.
    pub fn stretched(&mut self, now_nanos: u64, by_nanos: i64) {
        self.level.stretched(now_nanos.min(1 << 60) as i64);
        let by_us = by_nanos.unsigned_abs() / 1000;
        match by_nanos < 0 {
            true => self.figures.shortened_us += by_us,
            false => self.figures.lengthened_us += by_us,
        }
    }

    /// Real-time thread: whether the packet that comes next is here.
    pub fn is_next_here(&self) -> bool {
        let (Some(stream), Some(oldest)) = (&self.stream, self.pool.oldest()) else { return false };
        matches!(self.playout, Playout::Playing { concealed: 0 })
            && oldest.sequence == stream.next
            && oldest.duration > 0
            && oldest.time - stream.position < TICK
    }

    /// Takes a packet that belongs to the stream: to its present run, or to the one before.
    fn accept(&mut self, arrival: &Arrival<'_>, packet: Packet, current: bool) -> Inserted {
        let Some(stream) = &mut self.stream else { return Inserted::Discarded };
        if self.pool.get(packet.sequence).is_some_and(|held| held.copy) {
            self.pool.remove(packet.sequence);
        }
        if self.pool.holds(packet.sequence) || stream.has_seen(packet.sequence) {
            self.figures.duplicate += 1;
            return Inserted::Duplicate;
        }
        if packet.sequence < stream.highest() {
            self.figures.reordered += 1;
        }
        if current && let Some(transit) = stream.follow(arrival, &packet) {
            self.delay.observe(packet.at, transit);
        }
        if packet.sequence < stream.next && !stream.untouched() {
            if stream.mark_late(packet.sequence) {
                self.figures.lost = self.figures.lost.saturating_sub(1);
            }
            self.figures.late += 1;
            return Inserted::Late;
        }
        self.make_room(packet.sequence);
        if !self.pool.insert(packet, arrival.payload) {
            self.figures.discarded += 1;
            return Inserted::Discarded;
        }
        if let Some(stream) = &mut self.stream {
            // Nothing has been played yet: the stream simply begins earlier.
            stream.begin_by(packet.sequence);
        }
        self.bound_delay();
        Inserted::Kept
    }

    fn keep_candidate(&mut self, arrival: &Arrival<'_>) {
        let packet = self.pool.store(Newcomer::packet(arrival), arrival.payload);
        self.candidate = packet.map(|packet| Newcomer::new(arrival, packet));
    }

    fn drop_candidate(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.pool.release(&candidate.packet);
            self.figures.discarded += 1;
        }
    }

    /// The candidate is the stream from now on; what is held of the one before is played first.
    fn change_source(&mut self, candidate: Newcomer) {
        let Some(stream) = &mut self.stream else { return };
        let established = stream.is_established();
        let packet = stream.change_source(&candidate, self.delay.base());
        if !established {
            // One packet was no stream: what comes now is the first, and begins as soon as it can.
            while let Some(held) = self.pool.oldest() {
                self.pool.remove(held.sequence);
                self.figures.discarded += 1;
            }
            stream.begin_with(&packet);
            self.playout = Playout::Waiting { fresh: true };
        }
        self.delay.clear();
        if packet.duration > 0 {
            self.delay.observe(packet.at, packet.at - packet.time);
        }
        self.make_room(packet.sequence);
        if !self.pool.adopt(packet) {
            self.pool.release(&packet);
        }
    }

    /// Frees the places that `sequence` pushes out of the window of [`CAPACITY`] sequence numbers.
    fn make_room(&mut self, sequence: i64) {
        while let Some(oldest) = self.pool.oldest() {
            if sequence - oldest.sequence < CAPACITY as i64 {
                break;
            }
            self.discard(oldest);
        }
    }

    /// The hard bound: never more sound than the largest target and a packet. What is left is the target's worth.
    fn bound_delay(&mut self) {
        let Some(newest) = self.pool.newest() else { return };
        if self.held_behind(newest) <= self.max.max(newest.duration + TICK) + newest.duration {
            return;
        }
        let target = self.target();
        while let Some(oldest) = self.pool.oldest() {
            if oldest.sequence == newest.sequence || self.held_behind(newest) <= target {
                break;
            }
            self.discard(oldest);
        }
    }

    /// Nanoseconds from the oldest packet's start to the newest one's end.
    fn held_behind(&self, newest: Packet) -> i64 {
        let Some(oldest) = self.pool.oldest() else { return 0 };
        newest.end() - oldest.time
    }

    /// Drops a held packet: its place counts as played, and what is missing before it as lost.
    fn discard(&mut self, packet: Packet) {
        self.figures.discarded += 1;
        self.take(packet);
    }

    /// Takes a packet out of the pool and moves the play position behind it.
    fn take(&mut self, packet: Packet) {
        self.pool.remove(packet.sequence);
        if let Some(stream) = &mut self.stream {
            self.figures.lost += stream.pass(&packet);
        }
    }

    fn step(&mut self, now: i64) -> Step {
        loop {
            let Some(oldest) = self.pool.oldest() else { return self.starve() };
            if oldest.duration == 0 {
                self.take(oldest);
                continue;
            }
            match self.playout {
                Playout::Waiting { .. } if now < self.due(&oldest) => return Step::Silence,
                Playout::Waiting { fresh } => {
                    let first = if fresh { self.skip_backlog(oldest, now) } else { oldest };
                    return self.play(first, now, 0);
                }
                Playout::Playing { concealed } => {
                    if let Some(step) = self.step_playing(oldest, now, concealed) {
                        return step;
                    }
                }
            }
        }
    }

    /// One step within a talk spurt; `None`: the state has changed, look again.
    fn step_playing(&mut self, oldest: Packet, now: i64, concealed: i64) -> Option<Step> {
        let position = self.stream.as_ref()?.position;
        let awaited = self.least_wait > 0 && now - position - self.delay.base() <= self.least_wait + TICK;
        let stream = self.stream.as_mut()?;
        let missing = oldest.sequence - stream.next;
        let gap = oldest.time - stream.position;
        let packet = stream.duration;
        if missing > 0 {
            if concealed >= packet && !awaited {
                // What was made up while nothing was there stands for the lost packet.
                stream.lose_one();
                self.figures.lost += 1;
                self.playout = Playout::Playing { concealed: concealed - packet };
                return None;
            }
            // What was made up has only brought the delay to where the packet behind the lost one comes in time.
            if concealed > 0 && !awaited {
                return Some(self.starve());
            }
            if 2 * gap < stream.duration {
                // Sequence numbers are missing, but no sound is.
                self.figures.lost += stream.skip_to(oldest.sequence);
                return None;
            }
            stream.lose_one();
            self.figures.lost += 1;
            let next = oldest.sequence == stream.next;
            let distance = if next { 0 } else { (oldest.time - stream.position).max(0) };
            return Some(Step::Lost { later: oldest, distance });
        }
        if stream.pauses_before(&oldest) && now < self.due(&oldest) {
            // The sender had paused: its next sound starts by the clock.
            return Some(self.starve());
        }
        Some(self.play(oldest, now, concealed))
    }

    /// At the start of a stream nothing has been heard yet: what is more than the wait asks for is not played at all.
    fn skip_backlog(&mut self, oldest: Packet, now: i64) -> Packet {
        let mut first = oldest;
        while let Some(second) = self.pool.after(first.sequence) {
            if second.duration == 0 || self.lateness(&second, now) < self.wait() {
                break;
            }
            self.discard(first);
            first = second;
        }
        first
    }

    /// `concealed`: what was made up while the packet was late.
    fn play(&mut self, packet: Packet, now: i64, concealed: i64) -> Step {
        let lateness = self.lateness(&packet, now);
        let enough = self.wait().max(self.delay.risen());
        let needless = concealed <= SKIPPED && lateness - concealed >= enough;
        let skip = if needless { concealed.min(packet.duration) } else { 0 };
        let stream = self.stream.as_ref();
        let paused = stream.is_some_and(|stream| stream.pauses_before(&packet));
        let missing = stream.map_or(0, |stream| stream.missing_before(&packet));
        self.take(packet);
        let left = if needless { concealed - skip } else { 0 };
        self.playout = Playout::Playing { concealed: left };
        self.figures.held_us = ((lateness - skip + self.packet_length()).max(0) / 1000) as u64;
        Step::Play { packet, skip, paused, missing }
    }

    /// Nothing to play for 10 ms.
    fn starve(&mut self) -> Step {
        match &mut self.playout {
            Playout::Playing { concealed } if *concealed < SILENT_AFTER => {
                *concealed += TICK;
                Step::Empty
            }
            Playout::Playing { .. } => {
                self.playout = Playout::Waiting { fresh: false };
                Step::Silence
            }
            Playout::Waiting { .. } => Step::Silence,
        }
    }

    /// When a packet that begins a talk spurt is to be played. A timestamp from far ahead cannot hold it longer than the
    /// largest target.
    fn due(&self, packet: &Packet) -> i64 {
        let by_clock = packet.time + self.delay.base() + self.wait();
        by_clock.min(packet.at + self.max.max(TICK))
    }

    /// How long after the fastest packet's arrival `packet` is played, if it is played now.
    fn lateness(&self, packet: &Packet, now: i64) -> i64 {
        now - packet.time - self.delay.base()
    }

    /// Delay aimed at, packet included, in nanoseconds.
    fn target(&self) -> i64 {
        self.packet_length() + self.wait()
    }

    /// How long after the fastest packet's arrival a packet is due.
    fn wait(&self) -> i64 {
        let packet = self.packet_length();
        let longest = (self.max - packet).max(TICK);
        self.delay.target().max(self.min - packet).max(self.least_wait).min(longest)
    }

    fn packet_length(&self) -> i64 {
        self.stream.as_ref().map_or(0, |stream| stream.duration)
    }
}

/// Timestamp units in nanoseconds, without overflow for any span of 64 bits of nanoseconds.
fn nanos(units: i64, clock_rate: i64) -> i64 {
    (units / clock_rate) * 1_000_000_000 + (units % clock_rate) * 1_000_000_000 / clock_rate
}
