//! GSM 06.10 full rate at 13 kbit/s through the system's libgsm: frames of 20 ms in 33 octets (RFC 3551 section 4.5.8).

use std::ffi::c_void;
use std::ptr::NonNull;

use super::pcm::{from_i16, to_i16};
use super::{CodecError, MISSING};
use crate::plan::Codec;

/// Samples and octets of a frame.
pub(super) const SAMPLES: usize = 160;
pub(super) const OCTETS: usize = 33;
/// The upper half of each frame's first octet.
const MAGIC: u8 = 0xd;

/// What libgsm declares in `gsm.h`.
mod library {
    use std::ffi::{c_int, c_void};

    #[link(name = "gsm")]
    #[allow(unsafe_code, reason = "libgsm is a C library")]
    unsafe extern "C" {
        pub(super) fn gsm_create() -> *mut c_void;
        pub(super) fn gsm_destroy(state: *mut c_void);
        pub(super) fn gsm_encode(state: *mut c_void, samples: *mut i16, frame: *mut u8);
        pub(super) fn gsm_decode(state: *mut c_void, frame: *mut u8, samples: *mut i16) -> c_int;
    }
}

/// One direction's memory: libgsm has one kind for both.
struct State(NonNull<c_void>);

// SAFETY: the memory behind the pointer is this value's alone, and libgsm has no state besides.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for State {}

impl State {
    /// Control thread: libgsm allocates here, and never again.
    fn new() -> Result<Self, CodecError> {
        // SAFETY: no arguments; null is what it answers when there is no memory.
        #[allow(unsafe_code, reason = "libgsm is a C library")]
        let state = unsafe { library::gsm_create() };
        NonNull::new(state).map(State).ok_or(CodecError::Library(Codec::Gsm, MISSING))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: it came from `gsm_create` and is not used again.
        #[allow(unsafe_code, reason = "libgsm is a C library")]
        unsafe {
            library::gsm_destroy(self.0.as_ptr());
        }
    }
}

pub(super) struct Encoder(State);

impl Encoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        State::new().map(Encoder)
    }

    /// Whole frames; answers the octets written.
    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        let frames = samples.len() / SAMPLES;
        let payload = payload.get_mut(..frames * OCTETS).ok_or(CodecError::Buffer)?;
        if frames == 0 || !samples.len().is_multiple_of(SAMPLES) {
            return Err(CodecError::Buffer);
        }
        for (samples, octets) in samples.chunks_exact(SAMPLES).zip(payload.chunks_exact_mut(OCTETS)) {
            let mut linear = [0_i16; SAMPLES];
            for (linear, sample) in linear.iter_mut().zip(samples) {
                *linear = to_i16(*sample);
            }
            let mut frame = [0; OCTETS];
            // SAFETY: libgsm reads 160 samples and writes 33 octets, which is what the arrays hold.
            #[allow(unsafe_code, reason = "libgsm is a C library")]
            unsafe {
                library::gsm_encode(self.0.0.as_ptr(), linear.as_mut_ptr(), frame.as_mut_ptr());
            }
            octets.copy_from_slice(&frame);
        }
        Ok(payload.len())
    }
}

pub(super) struct Decoder(State);

impl Decoder {
    pub(super) fn new() -> Result<Self, CodecError> {
        State::new().map(Decoder)
    }

    /// `samples`: [`duration`] of the payload.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) -> Result<(), CodecError> {
        for (octets, samples) in payload.chunks_exact(OCTETS).zip(samples.chunks_exact_mut(SAMPLES)) {
            let mut frame = [0; OCTETS];
            frame.copy_from_slice(octets);
            let mut linear = [0_i16; SAMPLES];
            // SAFETY: libgsm reads 33 octets and writes 160 samples, which is what the arrays hold.
            #[allow(unsafe_code, reason = "libgsm is a C library")]
            let refused =
                unsafe { library::gsm_decode(self.0.0.as_ptr(), frame.as_mut_ptr(), linear.as_mut_ptr()) };
            if refused != 0 {
                return Err(CodecError::Malformed);
            }
            for (sample, linear) in samples.iter_mut().zip(linear) {
                *sample = from_i16(linear);
            }
        }
        Ok(())
    }
}

/// Samples in the payload: whole frames, each with its mark.
pub(super) fn duration(payload: &[u8]) -> Result<usize, CodecError> {
    let marked = |frame: &[u8]| frame.first().is_some_and(|first| first >> 4 == MAGIC);
    let whole = !payload.is_empty() && payload.len().is_multiple_of(OCTETS);
    if whole && payload.chunks_exact(OCTETS).all(marked) {
        Ok(payload.len() / OCTETS * SAMPLES)
    } else {
        Err(CodecError::Malformed)
    }
}
