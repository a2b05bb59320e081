//! What a device's ring holds beyond need: delay that is left over from a start or a stall, and how it is taken out. A
//! drift correction of 0.05 % would need a minute for 30 ms.

use crate::resample::DriftControl;

/// Ticks over which a ring is watched.
const WINDOW: u32 = 100;

/// The least that a ring has held in a while.
pub(crate) struct Slack {
    target: usize,
    /// More than the target by so much is taken out; less is the drift correction's affair.
    tolerance: usize,
    least: usize,
    ticks: u32,
    /// Samples that are still to be taken out.
    surplus: usize,
}

impl Slack {
    /// `target`: what the ring shall hold; `frame`: 10 ms. Both in samples.
    pub(crate) fn new(target: usize, frame: usize) -> Self {
        // Drift correction lets the filling swing by 5 ms and a callback: that must not be mistaken for surplus.
        let tolerance = (frame * 3 / 4).max(target.saturating_sub(frame));
        Slack { target, tolerance, least: usize::MAX, ticks: 0, surplus: 0 }
    }

    /// Every tick, with the ring's filling: how many samples shall be left out in this tick, `most` at most.
    pub(crate) fn update(&mut self, filling: usize, most: usize) -> usize {
        self.least = self.least.min(filling);
        self.ticks += 1;
        if self.ticks == WINDOW {
            let surplus = self.least.saturating_sub(self.target);
            if surplus > self.tolerance {
                self.surplus = surplus;
            }
            self.restart();
        }
        let now = self.surplus.min(most);
        self.surplus -= now;
        if now > 0 {
            self.restart();
        }
        now
    }

    /// The ring has run empty, or was emptied.
    pub(crate) fn forget(&mut self) {
        self.surplus = 0;
        self.restart();
    }

    fn restart(&mut self) {
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
            let out = slack.update(filling + tick % 3 * 240, 240);
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
            assert_eq!(slack.update(filling, 240), 0);
        }
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
