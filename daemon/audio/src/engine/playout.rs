//! Sound between decoder and mixer: what is decoded and not yet played, with what was played last behind it, so that it can
//! be stretched and carried over a change of rate. It knows samples, not packets.

use crate::engine::port::frame_len;
use crate::stretch::{Cut, HISTORY_MS, LONGEST_MS, go_on};
use crate::sums::mean_square;
use crate::{BUS_RATE, MAX_FRAME};

/// Longest packet that is played: 120 ms, the longest that Opus has (RFC 6716 section 2.1.4).
pub(crate) const MAX_PACKET: usize = 12 * MAX_FRAME;
/// Sound that stretching wants to see before it: 30 ms. No more is ever decoded ahead for it.
const AHEAD_MS: usize = 30;
/// Most samples in a millisecond.
const MS: usize = BUS_RATE as usize / 1000;
const ROOM: usize = HISTORY_MS * MS + AHEAD_MS * MS + MAX_PACKET + LONGEST_MS * MS;

/// Mean square of a pause's sound: at most this (-45 dBov), and at most four times (6 dB) the quietest that was heard
/// lately.
const PAUSE: f32 = 3.2e-5;
const ABOVE_FLOOR: f32 = 4.0;
/// The quietest counts for less and less: 3 dB in a second; and nothing is quieter than -80 dBov.
const FLOOR_RISE: f32 = 1.007;
const LEAST_FLOOR: f32 = 1e-8;

/// Decoded sound on its way to the mixer.
pub(crate) struct Playout {
    samples: Box<[f32]>,
    /// First sample that is not played.
    start: usize,
    end: usize,
    /// In hertz.
    rate: u32,
    /// What the sound before would have gone on with, fading out under the first of what is added next.
    bridge: Box<[f32; MAX_FRAME]>,
    bridged: usize,
    /// Mean square of the quietest sound lately.
    floor: f32,
}

impl Playout {
    /// Control thread: allocates.
    pub(crate) fn new(rate: u32) -> Self {
        let history = HISTORY_MS * MS;
        Playout {
            samples: vec![0.0; ROOM].into_boxed_slice(),
            start: history,
            end: history,
            rate,
            bridge: Box::new([0.0; MAX_FRAME]),
            bridged: 0,
            floor: PAUSE,
        }
    }

    /// In hertz.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples that are not played.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// The same in nanoseconds.
    pub(crate) fn len_nanos(&self) -> u64 {
        nanos(self.len(), self.rate).unsigned_abs()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, rate: u32) {
        self.samples.fill(0.0);
        (self.start, self.end, self.bridged) = (HISTORY_MS * MS, HISTORY_MS * MS, 0);
        (self.rate, self.floor) = (rate, PAUSE);
    }

    /// Where the next samples go: room for a whole packet at least while there is less than [`AHEAD_MS`] to be played.
    pub(crate) fn room(&mut self) -> &mut [f32] {
        let keep = HISTORY_MS * self.rate as usize / 1000;
        if self.start > keep {
            self.samples.copy_within(self.start - keep..self.end, 0);
            (self.start, self.end) = (keep, self.end - self.start + keep);
        }
        self.samples.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` samples of decoded sound were written to [`Playout::room`]. They are held to full scale: what a stranger
    /// makes up can be fifty times as loud by Opus.
    pub(crate) fn add(&mut self, count: usize) {
        let end = (self.end + count).min(self.samples.len());
        for sample in self.samples.get_mut(self.end..end).unwrap_or_default() {
            *sample = sample.clamp(-1.0, 1.0);
        }
        if self.bridged > 0 {
            let new = self.samples.get_mut(self.end..end).unwrap_or_default();
            let step = 1.0 / (self.bridged + 1) as f32;
            for (index, (new, old)) in new.iter_mut().zip(self.bridge.iter().take(self.bridged)).enumerate() {
                let weight = (index + 1) as f32 * step;
                *new = weight * *new + (1.0 - weight) * old;
            }
            self.bridged = 0;
        }
        self.end = end;
    }

    /// As [`Playout::add`], without the first `skip` of the samples; answers how many are left.
    pub(crate) fn add_behind(&mut self, skip: usize, count: usize) -> usize {
        let skip = skip.min(count);
        let end = (self.end + count).min(self.samples.len());
        if skip > 0 && self.end + skip <= end {
            self.samples.copy_within(self.end + skip..end, self.end);
        }
        self.add(count - skip);
        count - skip
    }

    /// Adds silence.
    pub(crate) fn silence(&mut self, count: usize) {
        let room = self.room();
        let count = count.min(room.len());
        room.iter_mut().take(count).for_each(|sample| *sample = 0.0);
        self.end += count;
    }

    /// Adds silence up to one frame; nothing is left over then that would delay what follows.
    pub(crate) fn silence_frame(&mut self) {
        self.silence(frame_len(self.rate).saturating_sub(self.len()));
    }

    /// Goes on at another rate: what is not played, and what was played last, is converted.
    pub(crate) fn set_rate(&mut self, rate: u32) {
        if rate == self.rate {
            return;
        }
        let keep = HISTORY_MS * self.rate as usize / 1000;
        let mut old = [0.0; (HISTORY_MS + AHEAD_MS + LONGEST_MS) * MS];
        let first = self.start.saturating_sub(keep);
        let (history, unplayed) = (self.start - first, self.len());
        let count = (history + unplayed).min(old.len());
        let old = old.get_mut(..count).unwrap_or_default();
        old.copy_from_slice(self.samples.get(first..first + count).unwrap_or_default());
        let place = |samples: usize| samples * rate as usize / self.rate.max(1) as usize;
        let (history, whole) = (place(history), place(count));
        self.start = HISTORY_MS * MS;
        self.end = self.start + whole - history;
        self.samples.fill(0.0);
        let from = self.start - history;
        convert(old, self.samples.get_mut(from..self.end).unwrap_or_default());
        self.rate = rate;
    }

    /// What is added next takes over from the sound before, within `ms` milliseconds.
    pub(crate) fn bridge(&mut self, ms: usize) {
        self.bridged = (ms * self.rate as usize / 1000).min(MAX_FRAME);
        let first = self.end.saturating_sub(HISTORY_MS * self.rate as usize / 1000);
        let sound = self.samples.get(first..self.end).unwrap_or_default();
        go_on(sound, self.rate, self.bridge.get_mut(..self.bridged).unwrap_or_default());
    }

    /// Adds a frame of what the sound before would have gone on with.
    pub(crate) fn go_on(&mut self) {
        self.bridge(10);
        let (tail, count) = (*self.bridge, std::mem::take(&mut self.bridged));
        let room = self.room().get_mut(..count).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(tail) {
            *to = from;
        }
        self.add(count);
    }

    /// Whether nothing but a pause is to be played: every piece of 5 ms is quiet.
    pub(crate) fn is_quiet(&self) -> bool {
        let limit = (self.floor * ABOVE_FLOOR).min(PAUSE);
        let piece = (frame_len(self.rate) / 2).max(1);
        let unplayed = self.samples.get(self.start..self.end).unwrap_or_default();
        unplayed.chunks(piece).all(|piece| mean_square(piece) <= limit)
    }

    /// Whether there is as much as stretching wants to see.
    pub(crate) fn is_ahead(&self) -> bool {
        self.len() >= AHEAD_MS * self.rate as usize / 1000
    }

    /// Leaves out at most `most` nanoseconds; answers how many (negative), or 0 where nothing is alike enough.
    pub(crate) fn shorten(&mut self, most: i64, likeness: f32) -> i64 {
        let rate = self.rate;
        let most = (most.max(0) / 1000 * i64::from(rate) / 1_000_000) as usize;
        let gone = self.cut(|cut| cut.shorten(most, likeness));
        self.end -= gone;
        -nanos(gone, rate)
    }

    /// Puts in a piece of at most `wanted` nanoseconds, or 10 ms; answers its length in nanoseconds, or 0 as above.
    pub(crate) fn lengthen(&mut self, wanted: i64, likeness: f32) -> i64 {
        let most = (wanted.max(0) / 1000 * i64::from(self.rate) / 1_000_000) as usize;
        let most = most.max(frame_len(self.rate));
        let more = self.cut(|cut| cut.lengthen(most, likeness));
        self.end += more;
        nanos(more, self.rate)
    }

    fn cut(&mut self, stretch: impl FnOnce(&mut Cut<'_>) -> usize) -> usize {
        // What lies before the history at this rate is of another time.
        let first = self.start.saturating_sub(HISTORY_MS * self.rate as usize / 1000);
        let samples = self.samples.get_mut(first..).unwrap_or_default();
        let mut cut = Cut { samples, end: self.end - first, place: self.start - first, rate: self.rate };
        stretch(&mut cut)
    }

    /// Moves samples to `out`; what is missing is silence.
    pub(crate) fn take(&mut self, out: &mut [f32]) {
        out.fill(0.0);
        let held = self.samples.get(self.start..self.end).unwrap_or_default();
        for (to, from) in out.iter_mut().zip(held) {
            *to = *from;
        }
        self.start += self.len().min(out.len());
        let level = mean_square(out);
        // Silence that nobody recorded says nothing of a room.
        if level > 0.0 {
            self.floor = (self.floor * FLOOR_RISE).min(level).max(LEAST_FLOOR);
        }
    }
}

fn nanos(samples: usize, rate: u32) -> i64 {
    samples as i64 * 1_000_000_000 / i64::from(rate.max(1))
}

/// Stretches `from` over `to`, good enough for a few milliseconds: straight lines between its samples, or their means.
fn convert(from: &[f32], to: &mut [f32]) {
    let (count, wanted) = (from.len(), to.len());
    if count == 0 {
        to.fill(0.0);
        return;
    }
    for (index, sample) in to.iter_mut().enumerate() {
        if count > wanted {
            let (first, last) = (index * count / wanted, (index + 1) * count / wanted);
            let piece = from.get(first..last.max(first + 1)).unwrap_or_default();
            *sample = piece.iter().sum::<f32>() / piece.len().max(1) as f32;
        } else {
            let place = index as f32 * count as f32 / wanted as f32;
            let (whole, part) = (place as usize, place.fract());
            let at = |index: usize| from.get(index).copied().unwrap_or_default();
            // The last line goes on as it came.
            let slope = if whole + 1 < count {
                at(whole + 1) - at(whole)
            } else {
                at(whole) - at(whole.saturating_sub(1))
            };
            *sample = at(whole) + part * slope;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, frequency: f32, from: usize, count: usize) -> Vec<f32> {
        let step = std::f32::consts::TAU * frequency / rate as f32;
        (from..from + count).map(|n| 0.5 * (n as f32 * step).sin()).collect()
    }

    fn push(playout: &mut Playout, sound: &[f32]) {
        playout.room()[..sound.len()].copy_from_slice(sound);
        playout.add(sound.len());
    }

    #[test]
    fn what_is_left_goes_on_at_another_rate() {
        for (from, to) in [(8_000, 48_000), (48_000, 8_000), (16_000, 8_000), (8_000, 16_000)] {
            let mut playout = Playout::new(from);
            let sound = tone(from, 400.0, 0, from as usize / 50 + from as usize / 200);
            push(&mut playout, &sound);
            playout.take(&mut vec![0.0; from as usize / 50]);
            playout.set_rate(to);
            assert_eq!(playout.len(), to as usize / 200);
            let mut rest = vec![0.0; playout.len()];
            playout.take(&mut rest);
            let wanted = tone(to, 400.0, to as usize / 50, to as usize / 200);
            let worst = rest.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 0.1, "{from} to {to}: {worst}");
        }
    }

    #[test]
    fn a_pause_is_quiet_and_a_voice_is_not() {
        let mut playout = Playout::new(8_000);
        let mut out = [0.0; 80];
        let noise: Vec<f32> = (0..160).map(|n| ((n * 7919 % 97) as f32 - 48.0) / 30_000.0).collect();
        for _ in 0..200 {
            push(&mut playout, &noise);
            assert!(playout.is_quiet());
            playout.take(&mut out);
            playout.take(&mut out);
        }
        push(&mut playout, &tone(8_000, 300.0, 0, 160));
        assert!(!playout.is_quiet());
    }

    #[test]
    fn any_row_of_calls_stays_in_bounds() {
        let mut playout = Playout::new(8_000);
        for round in 0..5_000_usize {
            let rate = [8_000, 16_000, 48_000][round / 7 % 3];
            if round % 7 == 0 {
                playout.set_rate(rate);
            }
            while playout.len() < frame_len(rate) {
                let count = (round * 31 % 13 + 1) * rate as usize / 400;
                let room = playout.room().len();
                assert!(room >= MAX_PACKET);
                playout.add(count.min(room));
            }
            let before = playout.len();
            match round % 3 {
                0 => drop(playout.shorten((round as i64 * 7 % 40) * 1_000_000, 0.0)),
                1 if before <= 60 * MS => drop(playout.lengthen(0, 0.0)),
                _ => {}
            }
            let mut out = [0.0; MAX_FRAME];
            playout.take(&mut out[..frame_len(rate)]);
            assert!(playout.start <= playout.end && playout.end <= ROOM);
        }
    }
}
