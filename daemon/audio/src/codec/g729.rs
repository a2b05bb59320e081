//! G.729 annex A at 8 kbit/s through the system's libbcg729: frames of 10 ms in ten octets, and in two those that only
//! describe the noise of a pause (annex B; RFC 3551 section 4.5.6). A pause is never sent.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::pcm::{from_i16, to_i16};
use super::{CodecError, MISSING};
use crate::plan::Codec;

/// Samples and octets of a frame.
const SAMPLES: usize = 80;
const OCTETS: usize = 10;
/// Octets of a frame that describes noise; it is a payload's last.
const NOISE_OCTETS: usize = 2;

/// What libbcg729 declares in `encoder.h` and `decoder.h`.
mod library {
    use std::ffi::c_void;

    #[link(name = "bcg729")]
    #[allow(unsafe_code, reason = "libbcg729 is a C library")]
    #[allow(non_snake_case, reason = "the library's names")]
    unsafe extern "C" {
        pub(super) fn initBcg729EncoderChannel(pauses: u8) -> *mut c_void;
        pub(super) fn closeBcg729EncoderChannel(state: *mut c_void);
        pub(super) fn bcg729Encoder(state: *mut c_void, samples: *const i16, frame: *mut u8, length: *mut u8);
        pub(super) fn initBcg729DecoderChannel() -> *mut c_void;
        pub(super) fn closeBcg729DecoderChannel(state: *mut c_void);
        pub(super) fn bcg729Decoder(
            state: *mut c_void,
            frame: *const u8,
            length: u8,
            lost: u8,
            noise: u8,
            comfort_noise: u8,
            samples: *mut i16,
        );
    }
}

pub(super) struct Encoder(NonNull<c_void>);

// SAFETY: the memory behind the pointer is this value's alone, and libbcg729 has no state besides.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Encoder {}

impl Encoder {
    /// Control thread: libbcg729 allocates here, and never again.
    pub(super) fn new() -> Result<Self, CodecError> {
        // SAFETY: null is what it answers when there is no memory.
        #[allow(unsafe_code, reason = "libbcg729 is a C library")]
        let state = unsafe { library::initBcg729EncoderChannel(0) };
        NonNull::new(state).map(Encoder).ok_or(CodecError::Library(Codec::G729, MISSING))
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
            let (mut frame, mut length) = ([0; OCTETS], 0);
            // SAFETY: libbcg729 reads 80 samples and writes at most ten octets, which is what the arrays hold.
            #[allow(unsafe_code, reason = "libbcg729 is a C library")]
            unsafe {
                library::bcg729Encoder(self.0.as_ptr(), linear.as_ptr(), frame.as_mut_ptr(), &raw mut length);
            }
            octets.copy_from_slice(&frame);
        }
        Ok(payload.len())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: it came from `initBcg729EncoderChannel` and is not used again.
        #[allow(unsafe_code, reason = "libbcg729 is a C library")]
        unsafe {
            library::closeBcg729EncoderChannel(self.0.as_ptr());
        }
    }
}

pub(super) struct Decoder(NonNull<c_void>);

// SAFETY: the memory behind the pointer is this value's alone, and libbcg729 has no state besides.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Decoder {}

impl Decoder {
    /// Control thread: libbcg729 allocates here, and never again.
    pub(super) fn new() -> Result<Self, CodecError> {
        // SAFETY: null is what it answers when there is no memory.
        #[allow(unsafe_code, reason = "libbcg729 is a C library")]
        let state = unsafe { library::initBcg729DecoderChannel() };
        NonNull::new(state).map(Decoder).ok_or(CodecError::Library(Codec::G729, MISSING))
    }

    /// `samples`: [`duration`] of the payload.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) {
        for (octets, samples) in payload.chunks(OCTETS).zip(samples.chunks_exact_mut(SAMPLES)) {
            self.frame(octets, samples);
        }
    }

    /// Makes up frames of 10 ms as libbcg729 does: the noise that was described last, where the sender had stopped.
    pub(super) fn conceal(&mut self, samples: &mut [f32]) {
        samples.chunks_mut(SAMPLES).for_each(|samples| self.frame(&[], samples));
    }

    /// One frame; without octets it is lost.
    fn frame(&mut self, octets: &[u8], samples: &mut [f32]) {
        let mut frame = [0; OCTETS];
        for (to, from) in frame.iter_mut().zip(octets) {
            *to = *from;
        }
        let (lost, noise) = (u8::from(octets.is_empty()), u8::from(octets.len() == NOISE_OCTETS));
        let mut linear = [0_i16; SAMPLES];
        // SAFETY: libbcg729 reads at most ten octets and writes 80 samples, which is what the arrays hold.
        #[allow(unsafe_code, reason = "libbcg729 is a C library")]
        unsafe {
            let (state, length) = (self.0.as_ptr(), octets.len().min(OCTETS) as u8);
            library::bcg729Decoder(state, frame.as_ptr(), length, lost, noise, 0, linear.as_mut_ptr());
        }
        for (sample, linear) in samples.iter_mut().zip(linear) {
            *sample = from_i16(linear);
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: it came from `initBcg729DecoderChannel` and is not used again.
        #[allow(unsafe_code, reason = "libbcg729 is a C library")]
        unsafe {
            library::closeBcg729DecoderChannel(self.0.as_ptr());
        }
    }
}

/// Samples in the payload: whole frames, and perhaps one that describes noise.
pub(super) fn duration(payload: &[u8]) -> Result<usize, CodecError> {
    match payload.len() % OCTETS {
        0 | NOISE_OCTETS if !payload.is_empty() => Ok(payload.len().div_ceil(OCTETS) * SAMPLES),
        _ => Err(CodecError::Malformed),
    }
}
