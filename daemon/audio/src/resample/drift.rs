//! Drift control: from the filling of a ring between two clocks to the correction that keeps it. It does not resample.
//!
//! A proportional-integral controller. The ring integrates the difference of the clocks, so the loop is of second order;
//! it is damped critically. It starts quick, to learn the drift, and turns slow: a device whose period is a multiple of
//! the tick draws a sawtooth of a whole period on the filling, as slow as its clock drifts, and the loop should rather
//! look through it than follow it.

/// Natural frequency in radians per second, at first and for good. At first a step of 300 ppm moves the filling by
/// 2.2 ms at most.
const FIRST_FREQUENCY: f64 = 0.05;
const FREQUENCY: f64 = 0.02;
/// Seconds in which the one turns into the other (to within 1/e).
const SETTLING: f64 = 60.0;
/// Most that is corrected: 0.05 % of pitch, a twentieth of what a good ear tells apart in a single tone.
const MAX_CORRECTION: f64 = 500e-6;
/// Of the smoothing before the controller, in seconds.
const SMOOTHING: f64 = 1.0;
/// Between two updates, in seconds.
const TICK: f64 = crate::TICK_NANOS as f64 * 1e-9;

/// Steers a [`super::Resampler`] so that a ring between two clocks stays at its target filling.
pub struct DriftControl {
    rate: f64,
    target: f64,
    /// Smoothed filling in samples; `None` before the first update.
    filling: Option<f64>,
    /// What the integral has learnt of the clocks' difference.
    drift: f64,
    correction: f64,
    frequency: f64,
}

impl DriftControl {
    /// `rate` of the device in hertz; `target`: filling to hold, in samples.
    pub fn new(rate: u32, target: usize) -> Self {
        DriftControl {
            rate: f64::from(rate.max(1)),
            target: target as f64,
            filling: None,
            drift: 0.0,
            correction: 0.0,
            frequency: FIRST_FREQUENCY,
        }
    }

    /// Called every tick with the ring's filling; answers the correction in ppm (positive: the ring is too full, read
    /// faster). Smooth enough not to be heard (changes of pitch under 0.05 %), quick enough for 300 ppm of drift.
    pub fn update(&mut self, filling: usize) -> f32 {
        let now = filling as f64;
        let before = self.filling.unwrap_or(now);
        let smooth = before + (now - before) * (TICK / SMOOTHING);
        self.filling = Some(smooth);

        let error = (smooth - self.target) / self.rate;
        let wanted = self.drift + 2.0 * self.frequency * error;
        self.correction = wanted.clamp(-MAX_CORRECTION, MAX_CORRECTION);
        // At the limit the error says nothing of the clocks: nothing is learnt from it.
        if wanted == self.correction {
            self.drift += self.frequency * self.frequency * error * TICK;
        }
        self.frequency += (FREQUENCY - self.frequency) * (TICK / SETTLING);
        (self.correction * 1e6) as f32
    }

    /// So many samples have been taken out of the ring: that says nothing of the clocks.
    pub fn skip(&mut self, samples: usize) {
        self.filling = self.filling.map(|filling| filling - samples as f64);
    }

    /// The difference of the clocks as learnt so far, in ppm (positive: what fills the ring is faster).
    pub fn drift_ppm(&self) -> f32 {
        (self.drift * 1e6) as f32
    }
}
