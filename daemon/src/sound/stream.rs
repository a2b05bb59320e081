//! What stands between a device's callbacks and the rings to the engine: sample formats, channels, counters, and the
//! judgement that a device is lost. Knows no sound system's names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpal::{ErrorKind, FromSample, Sample};
use rtrb::{Consumer, Producer, RingBuffer};

/// Sizes, in samples, that follow from a device's rate and callback size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Filling of the ring that the engine steers to: what one tick takes or gives, and one callback.
    pub(super) target: usize,
    /// More waiting for a loudspeaker than this can only be left over from a stall.
    pub(super) most_waiting: usize,
    pub(super) capacity: usize,
}

impl Sizes {
    pub(super) fn new(rate: u32, period: usize) -> Self {
        let tick = (rate as usize).div_ceil(100);
        let target = tick + period;
        // Ticks and callbacks may come 40 ms late before sound is thrown away.
        let most_waiting = target + tick + period + 4 * tick;
        Self { target, most_waiting, capacity: 2 * most_waiting }
    }
}

/// Figures of the streams that have been open, since the start. Written by callbacks, without order among them.
#[derive(Debug, Default)]
pub struct SoundCounters {
    /// Interruptions that the sound system reported.
    pub xruns: AtomicU64,
    /// Other errors that the sound system reported while a stream was open.
    pub errors: AtomicU64,
    /// Callbacks of a loudspeaker for which the engine had not given enough.
    pub underruns: AtomicU64,
    /// Callbacks of a microphone whose samples the engine had left no room for.
    pub overruns: AtomicU64,
    /// Samples thrown away because a loudspeaker had stalled and they had become old.
    pub trimmed: AtomicU64,
    /// Streams that were lost.
    pub losses: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Whether callbacks still come.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    fn beat(&self) {
        add(&self.0, 1);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The microphone's end of a ring. Runs in the device's callback: neither locks nor allocates.
pub(super) struct CaptureEnd {
    ring: Producer<f32>,
    channels: usize,
    pulse: Arc<Pulse>,
    counters: Arc<SoundCounters>,
}

impl CaptureEnd {
    pub(super) fn new(
        sizes: Sizes,
        channels: u16,
        pulse: &Arc<Pulse>,
        counters: &Arc<SoundCounters>,
    ) -> (Self, Consumer<f32>) {
        let (ring, engine_end) = RingBuffer::new(sizes.capacity);
        let channels = usize::from(channels.max(1));
        (Self { ring, channels, pulse: pulse.clone(), counters: counters.clone() }, engine_end)
    }

    /// Takes interleaved frames.
    pub(super) fn take<T: Copy>(&mut self, data: &[T])
    where
        f32: FromSample<T>,
    {
        self.pulse.beat();
        let frames = data.len() / self.channels;
        let room = frames.min(self.ring.slots());
        if room < frames && !self.ring.is_abandoned() {
            add(&self.counters.overruns, 1);
        }
        let Ok(chunk) = self.ring.write_chunk_uninit(room) else { return };
        let scale = 1.0 / self.channels as f32;
        chunk.fill_from_iter(data.chunks_exact(self.channels).map(|frame| {
            let sum: f32 = frame.iter().map(|sample| f32::from_sample_(*sample)).sum();
            let mean = sum * scale;
            if mean.is_finite() { mean } else { 0.0 }
        }));
    }
}

/// The loudspeaker's end of a ring. Runs in the device's callback: neither locks nor allocates.
pub(super) struct PlaybackEnd {
    ring: Consumer<f32>,
    channels: usize,
    sizes: Sizes,
    /// The engine has begun: from now on, not enough is an underrun.
    begun: bool,
    pulse: Arc<Pulse>,
    counters: Arc<SoundCounters>,
}

impl PlaybackEnd {
    pub(super) fn new(
        sizes: Sizes,
        channels: u16,
        pulse: &Arc<Pulse>,
        counters: &Arc<SoundCounters>,
    ) -> (Self, Producer<f32>) {
        let (engine_end, ring) = RingBuffer::new(sizes.capacity);
        let channels = usize::from(channels.max(1));
        (
            Self { ring, channels, sizes, begun: false, pulse: pulse.clone(), counters: counters.clone() },
            engine_end,
        )
    }

    /// Fills interleaved frames.
    pub(super) fn give<T: Sample + FromSample<f32>>(&mut self, data: &mut [T]) {
        self.pulse.beat();
        let frames = data.len() / self.channels;
        self.trim(frames);
        let ready = frames.min(self.ring.slots());
        self.begun |= ready > 0;
        if ready < frames && self.begun && !self.ring.is_abandoned() {
            add(&self.counters.underruns, 1);
        }
        let (filled, silent) = data.split_at_mut(ready * self.channels);
        if let Ok(chunk) = self.ring.read_chunk(ready) {
            for (frame, sample) in filled.chunks_exact_mut(self.channels).zip(chunk) {
                frame.fill(T::from_sample(sample.clamp(-1.0, 1.0)));
            }
        }
        silent.fill(T::EQUILIBRIUM);
    }

    /// A device that stalls (PulseAudio: up to two seconds at the start) leaves old sound in the ring; played, it
    /// would delay everything after it.
    fn trim(&mut self, frames: usize) {
        let waiting = self.ring.slots();
        if waiting <= self.sizes.most_waiting.max(frames) {
            return;
        }
        let old = waiting - self.sizes.target.max(frames);
        if let Ok(chunk) = self.ring.read_chunk(old) {
            chunk.commit_all();
            add(&self.counters.trimmed, old as u64);
        }
    }
}

/// Xruns in a second that make a stream useless.
const MOST_XRUNS: u32 = 80;
/// Other errors in a second that mean the device is gone.
const MOST_ERRORS: u32 = 20;
/// How long an error callback is held up when it comes again and again: ALSA's plugins call it without a pause once
/// their server has died.
const STORM_PAUSE: Duration = Duration::from_millis(20);

/// Who is told, in words, that a stream is lost.
pub(super) type Lost = Arc<dyn Fn(String) + Send + Sync>;

/// Judges the errors of one stream. Runs in the sound system's error callback.
pub(super) struct ErrorGate {
    /// Told once.
    lost: Option<Lost>,
    counters: Arc<SoundCounters>,
    /// Set when the stream is being closed: what it reports from then on tells nothing.
    closing: Arc<AtomicBool>,
    since: Instant,
    xruns: u32,
    errors: u32,
}

impl ErrorGate {
    pub(super) fn new(counters: &Arc<SoundCounters>, closing: &Arc<AtomicBool>, lost: Lost) -> Self {
        Self {
            lost: Some(lost),
            counters: counters.clone(),
            closing: closing.clone(),
            since: Instant::now(),
            xruns: 0,
            errors: 0,
        }
    }

    pub(super) fn report(&mut self, error: &cpal::Error) {
        if self.closing.load(Ordering::Relaxed) || self.lost.is_none() {
            thread::sleep(STORM_PAUSE);
            return;
        }
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.since, self.xruns, self.errors) = (Instant::now(), 0, 0);
        }
        match error.kind() {
            // The sound goes on, elsewhere or with a lower priority.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            ErrorKind::Xrun => {
                add(&self.counters.xruns, 1);
                self.xruns += 1;
                if self.xruns >= MOST_XRUNS {
                    self.lose("the sound breaks up all the time: the device cannot keep up".to_owned());
                }
            }
            ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated | ErrorKind::HostUnavailable => {
                add(&self.counters.errors, 1);
                self.lose(loss_words(error));
            }
            _ => {
                add(&self.counters.errors, 1);
                self.errors += 1;
                if self.errors >= MOST_ERRORS {
                    self.lose(loss_words(error));
                } else if self.errors > MOST_ERRORS / 4 {
                    thread::sleep(STORM_PAUSE);
                }
            }
        }
    }

    fn lose(&mut self, reason: String) {
        if let Some(lost) = self.lost.take() {
            add(&self.counters.losses, 1);
            lost(reason);
        }
    }
}

fn loss_words(error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceNotAvailable => "the device was taken away".to_owned(),
        ErrorKind::StreamInvalidated | ErrorKind::HostUnavailable => {
            format!("the sound server ended the stream ({error})")
        }
        _ => format!("the device fails again and again ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn parts() -> (Arc<Pulse>, Arc<SoundCounters>) {
        Default::default()
    }

    #[test]
    fn a_stereo_microphone_of_16_bits_becomes_mono() {
        let (pulse, counters) = parts();
        let (mut end, mut ring) = CaptureEnd::new(Sizes::new(48_000, 240), 2, &pulse, &counters);
        end.take(&[16_384i16, 0, -32_768, -32_768, 7]);
        assert_eq!([ring.pop(), ring.pop()], [Ok(0.25), Ok(-1.0)]);
        assert!(ring.is_empty(), "half a frame is no sample");
        end.take(&[f32::NAN, 0.5]);
        assert_eq!(ring.pop(), Ok(0.0));
        assert_eq!(pulse.count(), 2);
    }

    #[test]
    fn what_the_engine_does_not_take_is_dropped_and_counted() {
        let (pulse, counters) = parts();
        let sizes = Sizes::new(8_000, 40);
        let (mut end, ring) = CaptureEnd::new(sizes, 1, &pulse, &counters);
        let second = [0.1f32; 8_000];
        end.take(&second);
        assert_eq!(ring.slots(), sizes.capacity);
        assert_eq!(counters.overruns.load(Ordering::Relaxed), 1);
        drop(ring);
        end.take(&second);
        assert_eq!(counters.overruns.load(Ordering::Relaxed), 1, "nobody misses it");
    }

    #[test]
    fn a_loudspeaker_gets_both_channels_and_silence_for_what_is_missing() {
        let (pulse, counters) = parts();
        let (mut end, mut ring) = PlaybackEnd::new(Sizes::new(48_000, 240), 2, &pulse, &counters);
        let mut data = [1u8; 4];
        end.give(&mut data);
        assert_eq!(data, [128; 4]);
        assert_eq!(counters.underruns.load(Ordering::Relaxed), 0, "the engine has not begun");
        ring.push(2.0).unwrap();
        let mut data = [1i16; 4];
        end.give(&mut data);
        assert_eq!(data, [i16::MAX, i16::MAX, 0, 0]);
        assert_eq!(counters.underruns.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn old_sound_is_thrown_away_after_a_stall() {
        let (pulse, counters) = parts();
        let sizes = Sizes::new(48_000, 240);
        let (mut end, mut ring) = PlaybackEnd::new(sizes, 1, &pulse, &counters);
        for sample in 0..sizes.most_waiting {
            ring.push(sample as f32 / 1e6).unwrap();
        }
        let mut data = [0f32; 240];
        end.give(&mut data);
        assert_eq!(counters.trimmed.load(Ordering::Relaxed), 0);
        for _ in 0..241 {
            ring.push(0.0).unwrap();
        }
        end.give(&mut data);
        assert_eq!(counters.trimmed.load(Ordering::Relaxed), (sizes.most_waiting + 1 - sizes.target) as u64);
        assert_eq!(sizes.capacity - ring.slots(), sizes.target - 240);
    }

    #[test]
    fn an_error_storm_is_one_loss_and_does_not_spin() {
        let (_, counters) = parts();
        let (told, losses) = mpsc::channel();
        let mut gate =
            ErrorGate::new(&counters, &Arc::default(), Arc::new(move |words| told.send(words).unwrap()));
        let storm = cpal::Error::with_message(ErrorKind::BackendError, "broken pipe");
        let start = Instant::now();
        for _ in 0..30 {
            gate.report(&storm);
        }
        assert_eq!(losses.try_iter().collect::<Vec<_>>(), ["the device fails again and again (broken pipe)"]);
        assert_eq!(counters.losses.load(Ordering::Relaxed), 1);
        assert!(start.elapsed() >= 20 * STORM_PAUSE, "each error from the sixth on waits");
    }

    #[test]
    fn a_few_errors_are_borne_and_a_closing_stream_loses_nothing() {
        let (_, counters) = parts();
        let (told, losses) = mpsc::channel();
        let mut gate =
            ErrorGate::new(&counters, &Arc::default(), Arc::new(move |words| told.send(words).unwrap()));
        for _ in 0..5 {
            gate.report(&cpal::Error::new(ErrorKind::BackendError));
            gate.report(&cpal::Error::new(ErrorKind::Xrun));
            gate.report(&cpal::Error::new(ErrorKind::DeviceChanged));
        }
        assert_eq!((counters.xruns.load(Ordering::Relaxed), counters.errors.load(Ordering::Relaxed)), (5, 5));
        gate.closing.store(true, Ordering::Relaxed);
        gate.report(&cpal::Error::new(ErrorKind::StreamInvalidated));
        assert_eq!(losses.try_recv().ok(), None);
    }
}
