//! Whether a microphone hears the loudspeaker at all: with a headset it does not, and a canceller that takes an echo for
//! granted would make who speaks at the same time as the far end quieter. It knows powers of blocks of 4 ms, in samples of
//! 16 bit.
//!
//! The sign of an echo is that the canceller's linear filter makes the microphone's sound weaker: it can do that only
//! with what it can predict from the loudspeaker's. Against a voice it wins 3 dB in 120 ms by chance, no more.

use crate::sums::mean_square;

/// Blocks of a window, 40 ms.
const WINDOW: u32 = 10;
/// Windows that are looked at together, too.
const WINDOWS: usize = 3;
/// Of a block.
const SECONDS: f32 = 0.004;
/// The loudspeaker plays something: -50 dBFS.
const TALK: f32 = power(-50.0);
/// A microphone whose sound is weaker than -90 dBFS is switched off, and shows nothing.
const DEAF: f32 = power(-90.0);
/// Below -60 dBFS no echo is looked for.
const AUDIBLE: f32 = power(-60.0);
/// Seconds of the far end's talk without a sign of an echo after which there is none.
const LIMIT: f32 = 3.0;
/// What a clear sign earns: the path is known for so many seconds of talk more.
const CREDIT: f32 = 5.0;
/// What a weak sign earns.
const BELIEF: f32 = 1.0;
/// As far as doubt goes: one weak sign alone, which chance makes in a minute or two of both talking, moves nothing.
const CERTAINTY: f32 = 4.4;

/// A power in squares of 16 bit samples, at compile time: dB are counted down in steps of ten.
const fn power(mut decibels: f32) -> f32 {
    let mut power = 32_768.0 * 32_768.0;
    while decibels < 0.0 {
        power /= 10.0;
        decibels += 10.0;
    }
    power
}

/// Power of the microphone's sound, and of what the linear filter leaves of it.
#[derive(Clone, Copy, Default)]
struct Window {
    heard: f32,
    left: f32,
}

impl Window {
    /// Whether the filter takes off more than `times` the power that it leaves, of something audible.
    fn shows(self, times: f32, blocks: f32) -> bool {
        self.heard > AUDIBLE * blocks && self.heard > times * self.left
    }

    fn add(self, other: Window) -> Window {
        Window { heard: self.heard + other.heard, left: self.left + other.left }
    }
}

/// What is known of the way from a loudspeaker to a microphone.
pub(super) struct EchoPath {
    /// Seconds of the far end's talk without a sign of an echo.
    doubt: f32,
    talking: bool,
    filling: Window,
    blocks: u32,
    /// The last ones, in no order.
    windows: [Window; WINDOWS],
    oldest: usize,
}

impl Default for EchoPath {
    /// There is an echo until it is shown that there is none: one that is heard is worse than a quieter voice.
    fn default() -> Self {
        EchoPath {
            doubt: 0.0,
            talking: false,
            filling: Window::default(),
            blocks: 0,
            windows: [Window::default(); WINDOWS],
            oldest: 0,
        }
    }
}

impl EchoPath {
    /// A block that the loudspeaker plays.
    pub(super) fn hear_reference(&mut self, reference: &[f32]) {
        self.talking = mean_square(reference) > TALK;
    }

    /// A block of the microphone, and what the linear filter has left of it.
    pub(super) fn hear(&mut self, heard: &[f32], left: &[f32]) {
        let block = Window { heard: mean_square(heard), left: mean_square(left) };
        if self.talking && block.heard > DEAF {
            self.doubt = (self.doubt + SECONDS).min(CERTAINTY);
        }
        self.filling = self.filling.add(block);
        self.blocks += 1;
        if self.blocks == WINDOW {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let short = std::mem::take(&mut self.filling);
        self.blocks = 0;
        if let Some(window) = self.windows.get_mut(self.oldest) {
            *window = short;
        }
        self.oldest = (self.oldest + 1) % WINDOWS;
        let long = self.windows.iter().fold(Window::default(), |sum, window| sum.add(*window));
        let (short_blocks, long_blocks) = (WINDOW as f32, (WINDOW * WINDOWS as u32) as f32);
        // 10 and 6 dB, then 6 and 3.5 dB.
        if short.shows(10.0, short_blocks) || long.shows(4.0, long_blocks) {
            self.doubt = -CREDIT;
        } else if short.shows(4.0, short_blocks) || long.shows(2.24, long_blocks) {
            self.doubt = (self.doubt - BELIEF).max(-CREDIT);
        }
    }

    /// Whether there is an echo, as far as can be known.
    pub(super) fn exists(&self) -> bool {
        self.doubt < LIMIT
    }
}
