//! One device port: the rings of a sound device or a file, brought to the tick's clock and rate.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::counters::{DeviceShared, LevelMeter};
use crate::engine::insert::{Insert, Played};
use crate::engine::mixer;
use crate::engine::port::{Converters, SourceFrame, frame_len};
use crate::engine::processor::Outbox;
use crate::engine::slack::{Slack, shorten, steer};
use crate::engine::{DevicePort, Pace};
use crate::plan::{EngineCounters, EngineEvent, PortId};
use crate::resample::{DriftControl, Resampler};
use crate::{BUS_RATE, MAX_FRAME};

/// Rate inside the engine of a port whose device runs at `rate`: converted only when it must be.
pub(crate) const fn inner_rate(rate: u32) -> u32 {
    if rate == 8_000 || rate == 16_000 { rate } else { BUS_RATE }
}

/// One device port.
pub(crate) struct Device {
    rate: u32,
    capture: Option<Capture>,
    playback: Option<Playback>,
    pub(crate) converters: Converters,
    /// What processes the captured sound.
    pub(crate) insert: Option<Box<Insert>>,
    volume: Volume,
    ahead: Ahead,
    /// What was played last; kept where there is a playback.
    played: Played,
    level_in: LevelMeter,
    level_out: LevelMeter,
    shared: Arc<DeviceShared>,
}

impl Device {
    /// Control thread.
    pub(crate) fn new(port: DevicePort, shared: Arc<DeviceShared>) -> Self {
        let DevicePort { capture, playback, rate, pace } = port;
        let inner = inner_rate(rate);
        let mut converters = Converters::default();
        if capture.is_some() {
            converters.equip(inner);
        }
        Device {
            rate: inner,
            capture: capture.map(|ring| Capture::new(ring, rate, pace)),
            playback: playback.map(|ring| Playback::new(ring, rate, pace)),
            converters,
            insert: None,
            volume: Volume::FULL,
            ahead: Ahead { alive: None, sound: [0.0; MAX_FRAME] },
            played: Played { rate: inner, sound: [0.0; MAX_FRAME] },
            level_in: LevelMeter::new(),
            level_out: LevelMeter::new(),
            shared,
        }
    }

    /// Whether it is silence in the place of a device.
    pub(crate) fn is_silent(&self) -> bool {
        self.capture.is_none() && self.playback.is_none()
    }

    /// Rate at which this port hears; `None` where it has no playback.
    pub(crate) fn sink_rate(&self) -> Option<u32> {
        self.playback.as_ref().map(|_| self.rate)
    }

    /// What was played in the last tick.
    pub(crate) fn played(&self) -> Option<&Played> {
        self.playback.as_ref().map(|_| &self.played)
    }

    pub(crate) fn set_volume(&mut self, gain: f32) {
        self.volume.goal = gain;
    }

    /// Records for the tick that comes, and sends it to be processed.
    pub(crate) fn record_ahead(&mut self, id: PortId, counters: &mut EngineCounters, outbox: &mut Outbox) {
        let (Some(capture), Some(insert)) = (&mut self.capture, &mut self.insert) else { return };
        if !insert.wants_head_start() || self.ahead.alive.is_some() {
            return;
        }
        let sound = self.ahead.sound.get_mut(..frame_len(self.rate)).unwrap_or_default();
        let alive = capture.record(id, sound, counters, outbox);
        if alive {
            insert.send_ahead(self.rate, sound);
        }
        self.ahead.alive = Some(alive);
    }

    /// Gives what was recorded for this tick.
    pub(crate) fn fill(
        &mut self,
        id: PortId,
        muted: bool,
        frame: &mut SourceFrame,
        counters: &mut EngineCounters,
        outbox: &mut Outbox,
    ) {
        let Some(capture) = &mut self.capture else {
            frame.rate = 0;
            return;
        };
        let out = frame.begin(self.rate);
        let alive = match self.ahead.alive.take() {
            Some(alive) => {
                out.copy_from_slice(self.ahead.sound.get(..out.len()).unwrap_or_default());
                alive
            }
            None => capture.record(id, out, counters, outbox),
        };
        if !alive {
            frame.rate = 0;
        } else {
            let out = frame.begin(self.rate);
            if let Some(insert) = &mut self.insert {
                insert.pass(self.rate, out);
            }
            self.volume.apply(out);
        }
        // Behind the insert, which would else forget the room.
        if muted {
            frame.begin(self.rate).fill(0.0);
        }
        self.level_in.add(frame.own());
        self.shared.capture.store(self.level_in.dbov(), Ordering::Relaxed);
    }

    /// Takes what the device shall play: 10 ms at [`Device::sink_rate`].
    pub(crate) fn play(&mut self, samples: &[f32], counters: &mut EngineCounters) {
        let Some(playback) = &mut self.playback else { return };
        let Some(played) = self.played.sound.get_mut(..samples.len()) else { return };
        played.copy_from_slice(samples);
        self.volume.apply(played);
        let samples: &[f32] = played;
        match playback.give(samples) {
            Given::All => {}
            Given::AfterUnderrun => counters.device_underruns += 1,
            Given::Overrun => counters.device_overruns += 1,
        }
        self.level_out.add(samples);
        self.shared.playback.store(self.level_out.dbov(), Ordering::Relaxed);
    }
}

/// What was recorded a moment before the tick that it is for.
struct Ahead {
    /// Whether the source goes on; `None`: nothing was recorded ahead.
    alive: Option<bool>,
    sound: [f32; MAX_FRAME],
}

/// How loud a device is: a factor that changes without a step.
struct Volume {
    now: f32,
    goal: f32,
}

impl Volume {
    /// As it is.
    const FULL: Volume = Volume { now: 1.0, goal: 1.0 };

    fn apply(&mut self, samples: &mut [f32]) {
        if self.now == 1.0 && self.goal == 1.0 {
            return;
        }
        let step = (self.goal - self.now) / samples.len().max(1) as f32;
        let loudest = self.now.max(self.goal);
        for sample in samples.iter_mut() {
            self.now += step;
            *sample *= self.now;
        }
        self.now = self.goal;
        if loudest > 1.0 {
            mixer::limit(samples);
        }
    }
}

fn slack_of(pace: Pace, rate: u32) -> Slack {
    let target = match pace {
        Pace::Device { target } => target,
        Pace::Tick => usize::MAX,
    };
    Slack::new(target, frame_len(rate))
}

/// A ring's filling, in samples, that is too far from `target` to be steered back: half as much again and 40 ms. First
/// callbacks of a device may come 2 s late, and then all at once.
fn far_too_full(target: usize, rate: u32) -> usize {
    target + target / 2 + (rate / 25) as usize
}

struct Capture {
    ring: rtrb::Consumer<f32>,
    /// Hertz, the device's.
    rate: u32,
    pace: Pace,
    limit: usize,
    /// Absent where the device's rate is the port's and no clock has to be followed.
    converter: Option<Resampler>,
    drift: Option<DriftControl>,
    slack: Slack,
    input: Box<[f32]>,
    /// The ring has been filled to its target since it was last empty.
    primed: bool,
    ended: bool,
}

enum Taken {
    Sound,
    /// Not running yet.
    Nothing,
    Underrun,
    /// Sound, after some was thrown away.
    Overrun,
    End {
        first: bool,
    },
}

impl Capture {
    fn new(ring: rtrb::Consumer<f32>, rate: u32, pace: Pace) -> Self {
        let inner = inner_rate(rate);
        let (limit, drift) = match pace {
            Pace::Device { target } => (far_too_full(target, rate), Some(DriftControl::new(rate, target))),
            Pace::Tick => (usize::MAX, None),
        };
        let converter =
            (drift.is_some() || rate != inner).then(|| Resampler::new(rate, inner, frame_len(inner)));
        let input = vec![0.0; 3 * frame_len(rate.max(inner)) + 64].into_boxed_slice();
        let slack = slack_of(pace, rate);
        Capture { ring, rate, pace, limit, converter, drift, slack, input, primed: false, ended: false }
    }

    /// Fills `out`, which is at the inner rate, with sound or silence; `false` when the source has ended.
    fn record(
        &mut self,
        id: PortId,
        out: &mut [f32],
        counters: &mut EngineCounters,
        outbox: &mut Outbox,
    ) -> bool {
        match self.take(out) {
            Taken::Sound => {}
            Taken::Nothing => out.fill(0.0),
            Taken::Underrun => {
                out.fill(0.0);
                counters.device_underruns += 1;
            }
            Taken::Overrun => counters.device_overruns += 1,
            Taken::End { first } => {
                out.fill(0.0);
                if first {
                    outbox.event(EngineEvent::SourceEnded { port: id });
                }
                return false;
            }
        }
        true
    }

    /// Fills `out`, which is at the inner rate.
    fn take(&mut self, out: &mut [f32]) -> Taken {
        match self.pace {
            Pace::Device { target } => self.take_drifting(target, out),
            Pace::Tick => self.take_ticking(out),
        }
    }

    fn take_drifting(&mut self, target: usize, out: &mut [f32]) -> Taken {
        let mut filling = self.ring.slots();
        let mut taken = Taken::Sound;
        if filling > self.limit {
            discard(&mut self.ring, filling - target);
            self.slack.forget();
            filling = target;
            taken = Taken::Overrun;
        }
        let (Some(converter), Some(drift)) = (&mut self.converter, &mut self.drift) else {
            return Taken::Nothing;
        };
        let mut left_out = 0;
        if self.primed {
            // What was taken last stands for what comes: `out` still holds it.
            left_out = self.slack.update(filling, frame_len(self.rate) / 2, out);
            converter.set_drift_ppm(steer(drift, filling, left_out));
        }
        let needed = converter.input_needed(out.len()).min(self.input.len());
        if !self.primed {
            if filling < target.max(needed) {
                return Taken::Nothing;
            }
            self.primed = true;
        }
        if filling < needed {
            self.primed = false;
            self.slack.forget();
            return Taken::Underrun;
        }
        let input = self.input.get_mut(..needed + left_out).unwrap_or_default();
        let _ = self.ring.pop_partial_slice(input);
        shorten(input, left_out);
        converter.process(input.get(..needed).unwrap_or_default(), out);
        taken
    }

    fn take_ticking(&mut self, out: &mut [f32]) -> Taken {
        // Asked before the filling is: what is abandoned then gets no more.
        let abandoned = self.ring.is_abandoned();
        let filling = self.ring.slots();
        if filling == 0 && abandoned {
            let first = !self.ended;
            self.ended = true;
            return Taken::End { first };
        }
        let needed = match &self.converter {
            Some(converter) => converter.input_needed(out.len()).min(self.input.len()),
            None => out.len(),
        };
        if filling < needed && !abandoned {
            return if self.primed { Taken::Underrun } else { Taken::Nothing };
        }
        self.primed = true;
        let held = filling.min(needed);
        match &mut self.converter {
            Some(converter) => {
                let input = self.input.get_mut(..held).unwrap_or_default();
                let _ = self.ring.pop_partial_slice(input);
                converter.process(input, out);
            }
            None => {
                out.fill(0.0);
                let _ = self.ring.pop_partial_slice(out.get_mut(..held).unwrap_or_default());
            }
        }
        Taken::Sound
    }
}

fn discard(ring: &mut rtrb::Consumer<f32>, samples: usize) {
    if let Ok(chunk) = ring.read_chunk(samples) {
        chunk.commit_all();
    }
}

struct Playback {
    ring: rtrb::Producer<f32>,
    pace: Pace,
    limit: usize,
    /// Samples of 10 ms at the device's rate.
    frame: usize,
    converter: Option<Resampler>,
    drift: Option<DriftControl>,
    slack: Slack,
    /// Sound at the inner rate that the converter has not taken yet.
    queue: Box<[f32]>,
    queued: usize,
    output: Box<[f32]>,
    started: bool,
    /// The ring was far too full; nothing is given until it is at its target again.
    draining: bool,
}

enum Given {
    All,
    AfterUnderrun,
    Overrun,
}

impl Playback {
    fn new(ring: rtrb::Producer<f32>, rate: u32, pace: Pace) -> Self {
        let inner = inner_rate(rate);
        let (limit, drift) = match pace {
            Pace::Device { target } => (far_too_full(target, rate), Some(DriftControl::new(rate, target))),
            Pace::Tick => (usize::MAX, None),
        };
        let frame = frame_len(rate);
        let most = 2 * frame + 2;
        let converter = (drift.is_some() || rate != inner).then(|| Resampler::new(inner, rate, most));
        Playback {
            ring,
            pace,
            limit,
            frame,
            converter,
            drift,
            slack: slack_of(pace, rate),
            queue: vec![0.0; 4 * frame_len(inner)].into_boxed_slice(),
            queued: 0,
            output: vec![0.0; most].into_boxed_slice(),
            started: false,
            draining: false,
        }
    }

    fn give(&mut self, samples: &[f32]) -> Given {
        if self.ring.is_abandoned() {
            return Given::All;
        }
        let mut given = Given::All;
        let mut left_out = 0;
        if let Pace::Device { target } = self.pace {
            let filling = self.ring.buffer().capacity() - self.ring.slots();
            if filling > self.limit && !self.draining {
                self.draining = true;
                given = Given::Overrun;
            }
            if self.draining {
                if filling > target {
                    return given;
                }
                self.slack.forget();
                self.draining = false;
            }
            if filling == 0 {
                self.slack.forget();
                // The cushion that the drift correction keeps.
                if self.started {
                    given = Given::AfterUnderrun;
                }
                for _ in 0..target {
                    if self.ring.push(0.0).is_err() {
                        break;
                    }
                }
            } else if let (Some(converter), Some(drift)) = (&mut self.converter, &mut self.drift) {
                // Both are 10 ms and a part of it, at the device's rate and at the inner one.
                let device = self.slack.update(filling, self.frame / 2, samples);
                left_out = device * samples.len() / self.frame.max(1);
                converter.set_drift_ppm(steer(drift, filling, device));
            }
            self.started = true;
        }
        let all = match &mut self.converter {
            None => self.ring.push_entire_slice(samples).is_ok(),
            Some(converter) => {
                let room = self.queue.len() - self.queued;
                let new = self.queue.get_mut(self.queued..).unwrap_or_default();
                for (to, from) in new.iter_mut().zip(samples) {
                    *to = *from;
                }
                let new = new.get_mut(..samples.len().min(room)).unwrap_or_default();
                self.queued += shorten(new, left_out);
                // As much as the queue allows: its rest of less than one output sample waits for the next tick.
                let mut count = self.frame * (samples.len() - left_out) / samples.len().max(1);
                while count > 0 && converter.input_needed(count) > self.queued {
                    count -= 1;
                }
                while count < self.output.len() && converter.input_needed(count + 1) <= self.queued {
                    count += 1;
                }
                let needed = converter.input_needed(count).min(self.queued);
                let output = self.output.get_mut(..count).unwrap_or_default();
                converter.process(self.queue.get(..needed).unwrap_or_default(), output);
                self.queue.copy_within(needed..self.queued, 0);
                self.queued -= needed;
                self.ring.push_entire_slice(output).is_ok()
            }
        };
        if all { given } else { Given::Overrun }
    }
}
