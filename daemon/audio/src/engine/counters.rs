//! Counters that the real-time side writes and the control side reads without disturbing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI8, AtomicU32, AtomicU64, Ordering, fence};

use crate::plan::{EngineCounters, StreamCounters};
use crate::sums::squares;

/// Words that one thread writes as a whole and another reads as a whole: a sequence lock whose data are atomics, so
/// that a reader never sees half of one tick and half of the next, and the writer never waits.
pub(crate) struct Published<const N: usize> {
    /// Odd while the words are being written.
    version: AtomicU32,
    words: [AtomicU64; N],
}

impl<const N: usize> Published<N> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Published { version: AtomicU32::new(0), words: [const { AtomicU64::new(0) }; N] })
    }

    /// Real-time thread; the only writer.
    pub(crate) fn publish(&self, words: &[u64; N]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, word) in self.words.iter().zip(words) {
            cell.store(*word, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Control thread. The writer needs well under a microsecond, so this settles at once; on a machine where the
    /// writer was stopped half-way, the words as they are must do.
    pub(crate) fn read(&self) -> [u64; N] {
        let mut words = [0; N];
        for _ in 0..1000 {
            let before = self.version.load(Ordering::Acquire);
            for (word, cell) in words.iter_mut().zip(&self.words) {
                *word = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                break;
            }
            std::hint::spin_loop();
        }
        words
    }
}

/// Lists a struct's integer fields once, for both directions.
macro_rules! words {
    ($type:ident, $words:ident, $pack:ident, $unpack:ident: $($field:ident),+ $(,)?) => {
        pub(crate) const $words: usize = [$(stringify!($field)),+].len();
        pub(crate) fn $pack(counters: &$type) -> [u64; $words] {
            [$(counters.$field as u64),+]
        }
        pub(crate) fn $unpack(words: [u64; $words]) -> $type {
            let [$($field),+] = words;
            $type { $($field: $field as _),+ }
        }
    };
}

words!(StreamCounters, STREAM_WORDS, pack_stream, unpack_stream:
    packets_received, octets_received, packets_sent, octets_sent, packets_unsent, events_sent, packets_lost, packets_late, packets_duplicate,
    packets_reordered, packets_invalid, packets_discarded, packets_restored, packets_corrected, queued_us, queued_now_us, sent_ssrc, sent_sequence,
    send_bitrate, send_ptime_ms, send_copies, send_fec, frames_played, frames_concealed, bursts, burst_packets, burst_missing, gap_packets,
    gap_missing, loss_runs, jitter_us, buffer_us, buffer_target_us, accelerated_us, expanded_us, level_in_dbov, level_out_dbov,
    remote_ssrc, base_extended_seq, highest_extended_seq, source_received, receive_ptime_ms, receive_codec,
    jitter_timestamp_units, last_sent_timestamp, last_sent_nanos, last_received_nanos,
);

impl Default for StreamCounters {
    fn default() -> Self {
        let zero = unpack_stream([0; STREAM_WORDS]);
        StreamCounters { level_in_dbov: SILENCE_DBOV, level_out_dbov: SILENCE_DBOV, ..zero }
    }
}

pub(crate) type StreamShared = Published<STREAM_WORDS>;

const LATENESS: usize = 8;
pub(crate) const ENGINE_WORDS: usize = 9 + LATENESS;
pub(crate) type EngineShared = Published<ENGINE_WORDS>;

pub(crate) fn pack_engine(counters: &EngineCounters) -> [u64; ENGINE_WORDS] {
    let EngineCounters {
        ticks,
        ticks_late,
        ticks_missed,
        lateness: [a, b, c, d, e, f, g, h],
        longest_tick_us,
        most_gap_work,
        gaps_spared,
        events_dropped,
        device_underruns,
        device_overruns,
    } = *counters;
    [
        ticks,
        ticks_late,
        ticks_missed,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        longest_tick_us,
        most_gap_work,
        gaps_spared,
        events_dropped,
        device_underruns,
        device_overruns,
    ]
}

pub(crate) fn unpack_engine(words: [u64; ENGINE_WORDS]) -> EngineCounters {
    let [
        ticks,
        ticks_late,
        ticks_missed,
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        longest_tick_us,
        most_gap_work,
        gaps_spared,
        dropped,
        underruns,
        overruns,
    ] = words;
    EngineCounters {
        ticks,
        ticks_late,
        ticks_missed,
        lateness: [a, b, c, d, e, f, g, h],
        longest_tick_us,
        most_gap_work,
        gaps_spared,
        events_dropped: dropped,
        device_underruns: underruns,
        device_overruns: overruns,
    }
}

/// Adds one tick's lateness to the counters.
pub(crate) fn count_lateness(counters: &mut EngineCounters, late_nanos: u64) {
    /// Upper bounds of the histogram's buckets in microseconds; the last bucket has none.
    const BOUNDS: [u64; LATENESS - 1] = [50, 100, 200, 500, 1000, 2000, 5000];
    let us = late_nanos / 1000;
    let bucket = BOUNDS.iter().position(|bound| us < *bound).unwrap_or(LATENESS - 1);
    if let Some(count) = counters.lateness.get_mut(bucket) {
        *count += 1;
    }
    if late_nanos > crate::TICK_NANOS / 2 {
        counters.ticks_late += 1;
    }
}

/// The levels of a device port, in dBov.
pub(crate) struct DeviceShared {
    pub(crate) capture: AtomicI8,
    pub(crate) playback: AtomicI8,
}

impl DeviceShared {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(DeviceShared { capture: AtomicI8::new(SILENCE_DBOV), playback: AtomicI8::new(SILENCE_DBOV) })
    }
}

/// Level of digital silence.
pub(crate) const SILENCE_DBOV: i8 = -127;

/// RMS over the last 100 ms.
pub(crate) struct LevelMeter {
    squares: f32,
    samples: u32,
    frames: u32,
    dbov: i8,
}

impl LevelMeter {
    const FRAMES: u32 = 10;

    pub(crate) fn new() -> Self {
        LevelMeter { squares: 0.0, samples: 0, frames: 0, dbov: SILENCE_DBOV }
    }

    /// Takes one 10 ms frame.
    pub(crate) fn add(&mut self, frame: &[f32]) {
        self.squares += squares(frame);
        self.samples += frame.len() as u32;
        self.frames += 1;
        if self.frames == Self::FRAMES {
            let mean = self.squares / self.samples.max(1) as f32;
            // Silence has no logarithm, and the C library takes long to say so. NaN becomes a bound: a float converts
            // saturating.
            self.dbov = match mean {
                0.0 => SILENCE_DBOV,
                mean => ((10.0 * mean.log10()).round() as i8).clamp(SILENCE_DBOV, 0),
            };
            (self.squares, self.samples, self.frames) = (0.0, 0, 0);
        }
    }

    pub(crate) fn dbov(&self) -> i8 {
        self.dbov
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_counters_survive_the_way_through_words() {
        let mut words = [0; STREAM_WORDS];
        for (place, word) in words.iter_mut().enumerate() {
            *word = place as u64 + 1;
        }
        let counters = StreamCounters { level_in_dbov: -127, ..unpack_stream(words) };
        let shared = StreamShared::new();
        shared.publish(&pack_stream(&counters));
        assert_eq!(unpack_stream(shared.read()), counters);
        assert_eq!(counters.last_received_nanos, STREAM_WORDS as u64);
    }

    #[test]
    fn engine_counters_survive_the_way_through_words() {
        let words = std::array::from_fn(|place| place as u64 + 1);
        assert_eq!(pack_engine(&unpack_engine(words)), words);
    }

    #[test]
    fn lateness_falls_into_its_bucket() {
        let mut counters = EngineCounters::default();
        for us in [0, 49, 50, 4999, 5000, 6000] {
            count_lateness(&mut counters, us * 1000);
        }
        assert_eq!(counters.lateness, [2, 1, 0, 0, 0, 0, 1, 2]);
        assert_eq!(counters.ticks_late, 1);
    }

    #[test]
    fn a_full_scale_sine_is_at_minus_three_dbov() {
        let mut meter = LevelMeter::new();
        assert_eq!(meter.dbov(), SILENCE_DBOV);
        for _ in 0..10 {
            let frame: Vec<f32> = (0..80).map(|n| (n as f32 * std::f32::consts::TAU / 8.0).sin()).collect();
            meter.add(&frame);
        }
        assert_eq!(meter.dbov(), -3);
        for _ in 0..10 {
            meter.add(&[0.0; 80]);
        }
        assert_eq!(meter.dbov(), SILENCE_DBOV);
    }
}
