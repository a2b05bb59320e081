//! The real-time side: codecs, jitter buffer, concealment, resampler, mixer, tones and voice processing.
//!
//! Two halves share it: [`Controller`] on the control thread builds, changes and frees; [`Processor`] on the real-time
//! thread runs one [`Processor::tick`] every 10 ms and neither locks, allocates, frees, formats nor logs.
//! Samples are `f32` in -1.0..=1.0, mono, in frames of 10 ms.

pub mod activity;
pub mod codec;
pub mod comfort;
pub mod engine;
pub mod jitter;
pub mod plan;
pub mod resample;
pub mod stretch;
mod sums;
pub mod tone;
pub mod voice;

pub use engine::{Controller, Processor};
pub use plan::{Codec, PortId, StreamPlan};

/// Length of a tick in nanoseconds.
pub const TICK_NANOS: u64 = 10_000_000;
/// How long before a tick what microphones hear is recorded and sent to be processed: ten times what that takes on a
/// small board, and so little that with the canceller's own 7 ms it stays at 10.
pub const HEAD_START_NANOS: u64 = 3_000_000;
/// Rate of the mixing bus and of device ports inside the engine, in hertz.
pub const BUS_RATE: u32 = 48_000;
/// Most samples in one 10 ms frame of any port.
pub const MAX_FRAME: usize = (BUS_RATE / 100) as usize;
