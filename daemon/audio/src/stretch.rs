//! Time-stretching without change of pitch: leaves out or repeats a piece of sound that is like its neighbour (a few pitch
//! periods), and fades over from one to the other. It knows samples; it does not know packets, time or why.
//!
//! The piece is as long as the lag at which the sound around the cut is most like itself, by normalised correlation:
//! searched at about 8 kHz first, then among the neighbours at the full rate.

use crate::sums::dot;

/// Rate of the first search, in hertz.
const COARSE_RATE: usize = 8_000;
/// Most samples of the first search: 40 ms.
const COARSE: usize = COARSE_RATE / 25 + 8;

/// Lengths in samples at one rate.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    /// Shortest and longest piece: 2.5 ms (400 Hz) and 15 ms (66 Hz).
    shortest: usize,
    longest: usize,
    /// What is compared before the cut: 5 ms.
    before: usize,
    /// What is compared behind it: 10 ms, and 5 where there is less.
    behind: usize,
    least_behind: usize,
    /// How many samples make one of the first search.
    coarse: usize,
}

impl Lengths {
    const fn at(rate: u32) -> Self {
        let ms = rate as usize / 1000;
        let coarse = rate as usize / COARSE_RATE;
        Lengths {
            shortest: ms * 5 / 2,
            longest: ms * 15,
            before: ms * 5,
            behind: ms * 10,
            least_behind: ms * 5,
            coarse: if coarse == 0 { 1 } else { coarse },
        }
    }
}

/// Sound that has to be known before a cut, in milliseconds: the longest piece and what is compared before it.
pub const HISTORY_MS: usize = 20;
/// Longest piece put in at once, in milliseconds.
pub const LONGEST_MS: usize = 15;

/// A piece of sound with a place in it at which it can be cut: everything before has been heard.
#[derive(Debug)]
pub struct Cut<'a> {
    /// The sound, and room behind it for [`LONGEST_MS`] more.
    pub samples: &'a mut [f32],
    /// How many of the samples are sound.
    pub end: usize,
    /// The first that has not been heard.
    pub place: usize,
    /// In hertz.
    pub rate: u32,
}

impl Cut<'_> {
    /// Leaves out at most `most` samples behind the cut, where the pieces joined have at least this normalised correlation
    /// (0.0 to 1.0; 0.0 takes any). Answers how many are gone: 0, if there is nothing alike enough.
    pub fn shorten(&mut self, most: usize, likeness: f32) -> usize {
        let lengths = Lengths::at(self.rate);
        let unheard = self.end.saturating_sub(self.place);
        let longest = lengths.longest.min(most).min(unheard.saturating_sub(lengths.least_behind));
        if longest < lengths.shortest || self.end > self.samples.len() {
            return 0;
        }
        let behind = lengths.behind.min(unheard - longest);
        let around = Around { samples: &*self.samples, place: self.place, lengths };
        let Some(lag) = around.find(longest, behind, likeness, Direction::Later) else { return 0 };
        // One piece fades out as the next fades in; then everything moves up.
        let fade = lag.min(unheard - lag);
        let (place, end) = (self.place, self.end);
        let (first, second) = self.samples.split_at_mut(place + lag);
        cross_fade(first.get_mut(place..).unwrap_or_default(), second.get(..fade).unwrap_or_default());
        self.samples.copy_within(place + lag + fade..end, place + fade);
        self.end -= lag;
        lag
    }

    /// Puts in a piece of at most `most` samples at the cut under the same condition. Answers how many samples there are
    /// more.
    pub fn lengthen(&mut self, most: usize, likeness: f32) -> usize {
        let lengths = Lengths::at(self.rate);
        let unheard = self.end.saturating_sub(self.place);
        let room = self.samples.len().saturating_sub(self.end);
        let heard = self.place.saturating_sub(lengths.before);
        let longest = lengths.longest.min(most).min(unheard).min(room).min(heard);
        if longest < lengths.shortest {
            return 0;
        }
        let behind = lengths.behind.min(unheard);
        let around = Around { samples: &*self.samples, place: self.place, lengths };
        let Some(lag) = around.find(longest, behind, likeness, Direction::Earlier) else { return 0 };
        // What is to come fades into what was heard one piece ago, and follows once more behind that.
        let (place, end) = (self.place, self.end);
        self.samples.copy_within(place..end, place + lag);
        let (heard, coming) = self.samples.split_at_mut(place);
        cross_fade(coming, heard.get(place - lag..).unwrap_or_default());
        self.end += lag;
        lag
    }
}

/// Writes what `sound`, at `rate` hertz, would go on with: its last period over and over.
pub fn go_on(sound: &[f32], rate: u32, tail: &mut [f32]) {
    let lengths = Lengths::at(rate);
    let longest = lengths.longest.min(sound.len().saturating_sub(lengths.before));
    let lag = if longest < lengths.shortest {
        None
    } else {
        Around { samples: sound, place: sound.len(), lengths }.find(longest, 0, 0.0, Direction::Earlier)
    };
    let period = lag.and_then(|lag| sound.get(sound.len() - lag..)).unwrap_or(&[0.0]);
    for (sample, from) in tail.iter_mut().zip(period.iter().cycle()) {
        *sample = *from;
    }
}

/// The sound around a place.
struct Around<'a> {
    samples: &'a [f32],
    place: usize,
    lengths: Lengths,
}

impl Around<'_> {
    /// The lag at which it is most like the sound that much later or earlier. `behind`: how many samples behind the place
    /// are compared.
    fn find(&self, longest: usize, behind: usize, likeness: f32, direction: Direction) -> Option<usize> {
        let Around { samples, place, lengths } = *self;
        let before = lengths.before.min(place);
        let (start, end) = match direction {
            Direction::Later => (place - before, place + behind + longest),
            Direction::Earlier => ((place - before).checked_sub(longest)?, place + behind),
        };
        let sound = samples.get(start..end)?;
        let (window, step) = (before + behind, lengths.coarse);
        let best = if step == 1 {
            best_lag(sound, window, lengths.shortest, longest, direction)
        } else {
            let mut coarse = [0.0; COARSE];
            let count = (sound.len() / step).min(COARSE);
            let coarse = coarse.get_mut(..count)?;
            for (sample, piece) in coarse.iter_mut().zip(sound.chunks_exact(step)) {
                *sample = piece.iter().sum();
            }
            let (shortest, furthest) = (lengths.shortest.div_ceil(step), longest / step);
            let coarse_window = (window / step).min(count.checked_sub(furthest)?);
            let (lag, _) = best_lag(coarse, coarse_window, shortest, furthest, direction)?;
            let near = (lag * step).saturating_sub(step).max(lengths.shortest);
            best_lag(sound, window, near, (lag * step + step).min(longest), direction)
        };
        best.filter(|(_, found)| likeness <= 0.0 || *found >= likeness).map(|(lag, _)| lag)
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Later,
    Earlier,
}

/// The lag between `shortest` and `longest` at which a window of `sound` (the first one, compared with later ones; or the
/// last one, with earlier ones) is most like itself, and the normalised correlation there.
fn best_lag(
    sound: &[f32],
    window: usize,
    shortest: usize,
    longest: usize,
    direction: Direction,
) -> Option<(usize, f32)> {
    let last = sound.len().checked_sub(window)?;
    let at = |lag: usize| match direction {
        Direction::Later => Some(lag),
        Direction::Earlier => last.checked_sub(lag),
    };
    let piece = |lag: usize| at(lag).and_then(|start| sound.get(start..start + window));
    let reference = piece(0)?;
    let own = dot(reference, reference);
    let first = piece(shortest)?;
    let mut energy = dot(first, first);
    let mut best: Option<(usize, f32)> = None;
    for lag in shortest..=longest {
        let Some(piece) = piece(lag) else { break };
        // The window has moved on by one sample.
        if lag > shortest {
            let (entered, left) = match direction {
                Direction::Later => (piece.last().copied(), sound.get(lag - 1).copied()),
                Direction::Earlier => {
                    (piece.first().copied(), at(lag).and_then(|start| sound.get(start + window)).copied())
                }
            };
            let (entered, left) = (entered.unwrap_or_default(), left.unwrap_or_default());
            energy = (energy + entered * entered - left * left).max(0.0);
        }
        // The floor keeps silence from being like silence by division.
        let likeness = dot(reference, piece) / (own * energy + 1e-12).sqrt();
        if best.is_none_or(|(_, found)| likeness > found) {
            best = Some((lag, likeness));
        }
    }
    best
}

/// `samples` start as themselves and end as `into`, over as many samples as `into` has.
fn cross_fade(samples: &mut [f32], into: &[f32]) {
    let step = 1.0 / (into.len() + 1) as f32;
    for (index, (sample, into)) in samples.iter_mut().zip(into).enumerate() {
        let weight = (index + 1) as f32 * step;
        *sample += weight * (into - *sample);
    }
}
