//! What a device's ring holds beyond need: delay that is left over from a start or a stall, and how it is taken out. A
//! drift correction of 0.05 % would need a minute for 30 ms.

use crate::resample::DriftControl;

/// Ticks over which a ring is watched.
const WINDOW: u32 = 100;
/// Ticks that a surplus waits for a pause, in which nobody hears it go.
const PATIENCE: u32 = 300;
/// Sound that stays below this, of full scale, is a pause: -40 dBFS.
const PAUSE: f32 = 0.01;

/// The least that a ring has held in a while.
pub(crate) struct Slack {
    target: usize,
    /// More than the target by so much is taken out; less is the drift correction's affair.
    tolerance: usize,
    least: usize,
    ticks: u32,
    /// Samples that are still to be taken out.
    surplus: usize,
    /// Ticks that they have waited.
    waited: u32,
}

impl Slack {
    /// `target`: what the ring shall hold; `frame`: 10 ms. Both in samples.
    pub(crate) fn new(target: usize, frame: usize) -> Self {
        // Drift correction lets the filling swing by 5 ms and a callback: that must not be mistaken for surplus.
        let tolerance = (frame * 3 / 4).max(target.saturating_sub(frame));
        Slack { target, tolerance, least: usize::MAX, ticks: 0, surplus: 0, waited: 0 }
    }

    /// Every tick, with the ring's filling: how many samples shall be left out in this tick, `most` at most. `sound`: what
    /// is heard there now.
    pub(crate) fn update(&mut self, filling: usize, most: usize, sound: &[f32]) -> usize {
        self.least = self.least.min(filling);
        self.ticks += 1;
        if self.ticks == WINDOW {
            let surplus = self.least.saturating_sub(self.target);
            self.surplus = if surplus > self.tolerance { surplus } else { 0 };
            (self.least, self.ticks) = (usize::MAX, 0);
        }
        if self.surplus == 0 {
            self.waited = 0;
            return 0;
        }
        self.waited += 1;
        if self.waited < PATIENCE && sound.iter().any(|sample| sample.abs() > PAUSE) {
            return 0;
        }
        let now = self.surplus.min(most);
        self.surplus -= now;
        if self.surplus == 0 {
            self.waited = 0;
        }
        // What was seen before is true no more.
        (self.least, self.ticks) = (usize::MAX, 0);
        now
    }

    /// The ring has run empty, or was emptied.
    pub(crate) fn forget(&mut self) {
        (self.surplus, self.waited) = (0, 0);
        (self.least, self.ticks) = (usize::MAX, 0);
    }
}

/// Steers by the filling, of which `left_out` samples are about to go.
pub(crate) fn steer(drift: &mut DriftControl, filling: usize, left_out: usize) -> f32 {
    if left_out > 0 {
        drift.skip(left_out);
    }
    drift.update(filling.saturating_sub(left_out))
}

/// Shortens `samples` by the first `left_out`: what is left begins as the whole did and ends as it did. Answers how
/// many are left.
pub(crate) fn shorten(samples: &mut [f32], left_out: usize) -> usize {
    let rest = samples.len().saturating_sub(left_out);
    let step = 1.0 / rest.max(1) as f32;
    for place in 0..rest {
        if let Ok([early, late]) = samples.get_disjoint_mut([place, place + left_out]) {
            *early += (*late - *early) * (place as f32 * step);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: usize = 720;
    const FRAME: usize = 480;

    #[test]
    fn what_a_ring_never_needs_is_taken_out_in_pieces() {
        let mut slack = Slack::new(TARGET, FRAME);
        let mut filling = 2000;
        let mut taken = 0;
        for tick in 0..400 {
            // Callbacks make the filling swing.
            let out = slack.update(filling + tick % 3 * 240, 240, &[0.0]);
            assert!(out <= 240);
            (filling, taken) = (filling - out, taken + out);
        }
        assert_eq!((filling, taken), (TARGET, 2000 - TARGET));
    }

    #[test]
    fn what_is_needed_now_and_then_stays() {
        let mut slack = Slack::new(TARGET, FRAME);
        for tick in 0..1000 {
            let filling = if tick % 90 == 0 { TARGET + FRAME / 2 } else { 2000 };
            assert_eq!(slack.update(filling, 240, &[0.0]), 0);
        }
    }

    #[test]
    fn a_voice_is_not_cut_while_a_pause_may_come() {
        let run = |pause: std::ops::Range<u32>| {
            let mut slack = Slack::new(TARGET, FRAME);
            let sound = |tick| [if pause.contains(&tick) { 0.001 } else { 0.3 }];
            (0..600).find(|tick| slack.update(2000, 240, &sound(*tick)) > 0)
        };
        assert_eq!(run(150..160), Some(150));
        assert_eq!(run(0..0), Some(WINDOW + PATIENCE - 2));
    }

    #[test]
    fn shortened_sound_has_no_step() {
        let sine: Vec<f32> = (0..720).map(|n| (n as f32 * 0.05).sin()).collect();
        let mut samples = sine.clone();
        let rest = shorten(&mut samples, 240);
        assert_eq!(rest, 480);
        assert_eq!(samples[0], sine[0]);
        assert!((samples[479] - sine[719]).abs() < 0.06);
        assert!(samples[..rest].windows(2).all(|two| (two[1] - two[0]).abs() < 0.07));
        assert_eq!(shorten(&mut samples[..10], 20), 0);
    }
}
