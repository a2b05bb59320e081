//! libopus's decoder. audiopus has one, but no way to its complexity, by which libopus from 1.5 on conceals what is lost with
//! a neural network.

use std::ffi::{CStr, c_int};
use std::ptr::{NonNull, null};
use std::sync::Once;

use audiopus::ffi;

use super::CodecError;

/// The complexity from which on libopus conceals with its network, where it was built with one.
const DEEP: c_int = 5;
/// The first version that has one: major and minor number.
const FIRST_DEEP: (u32, u32) = (1, 5);
/// 20 ms of digital silence, fullband (RFC 6716 section 4.3: the flag for silence is the first that is read).
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// Whether the libopus that this program runs with may have a network. Older ones have no complexity of decoding.
fn has_network() -> bool {
    // SAFETY: no arguments; what is answered is a constant text, or null.
    #[allow(unsafe_code, reason = "libopus is a C library")]
    let version = unsafe {
        NonNull::new(ffi::opus_get_version_string().cast_mut()).map(|text| CStr::from_ptr(text.as_ptr()))
    };
    version.and_then(|text| number(text.to_str().ok()?)).is_some_and(|number| number >= FIRST_DEEP)
}

/// Major and minor number of a version such as `libopus 1.5.2-fixed`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(1)?.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A decoder, mono at 48 kHz.
pub(super) struct Library {
    state: NonNull<ffi::OpusDecoder>,
    may_be_deep: bool,
}

// SAFETY: the memory behind the pointer is this value's alone, and libopus shares nothing between decoders.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Library {}

impl Library {
    /// Control thread: libopus allocates here, and never again.
    pub(super) fn new() -> Result<Self, CodecError> {
        let mut fault = ffi::OPUS_OK;
        // SAFETY: `fault` is a valid place to write to; null is what is answered on a fault.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let state = unsafe { ffi::opus_decoder_create(48_000, 1, &raw mut fault) };
        let state =
            NonNull::new(state).ok_or_else(|| CodecError::Opus(format!("no decoder, fault {fault}")))?;
        let mut library = Library { state, may_be_deep: has_network() };
        if library.may_be_deep {
            static WARM: Once = Once::new();
            WARM.call_once(|| library.warm());
        }
        Ok(library)
    }

    /// Uses the network once. Its weights come from the disk where they are touched for the first time: here, and not within
    /// a tick.
    fn warm(&mut self) {
        // Only what follows a packet is concealed by it.
        self.decode(Some(&SILENCE), &mut [0.0; 960], false);
        self.set_deep(true);
        self.decode(None, &mut [0.0; 480], false);
        self.set_deep(false);
        self.reset();
    }

    /// Whether concealment may be better, and costly.
    pub(super) fn may_be_deep(&self) -> bool {
        self.may_be_deep
    }

    /// How what is lost from now on is concealed.
    pub(super) fn set_deep(&mut self, deep: bool) {
        if self.may_be_deep {
            let complexity = if deep { DEEP } else { 0 };
            // SAFETY: the state is alive, and this request takes one integer. A libopus that does not know it answers so.
            #[allow(unsafe_code, reason = "libopus is a C library")]
            unsafe {
                ffi::opus_decoder_ctl(self.state.as_ptr(), ffi::OPUS_SET_COMPLEXITY_REQUEST, complexity);
            }
        }
    }

    /// Decodes a payload, or its FEC for the packet before it, or makes up what is lost; answers the samples written.
    pub(super) fn decode(&mut self, payload: Option<&[u8]>, samples: &mut [f32], fec: bool) -> Option<usize> {
        let (bytes, length) = match payload {
            Some(payload) => (payload.as_ptr(), c_int::try_from(payload.len()).ok()?),
            None => (null(), 0),
        };
        let room = c_int::try_from(samples.len()).ok()?;
        // SAFETY: the state is alive; libopus reads `length` bytes and writes at most `room` samples, which is what the
        // slices hold.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let decoded = unsafe {
            ffi::opus_decode_float(self.state.as_ptr(), bytes, length, samples.as_mut_ptr(), room, fec.into())
        };
        usize::try_from(decoded).ok()
    }

    /// For what libopus does with a decoder beside decoding; alive as long as this value.
    pub(super) fn state(&mut self) -> NonNull<ffi::OpusDecoder> {
        self.state
    }

    /// Forgets what was decoded.
    pub(super) fn reset(&mut self) {
        // SAFETY: the state is alive, and this request takes no argument.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        unsafe {
            ffi::opus_decoder_ctl(self.state.as_ptr(), ffi::OPUS_RESET_STATE);
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: it came from `opus_decoder_create` and is not used again.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        unsafe {
            ffi::opus_decoder_destroy(self.state.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_has_warmed_up_is_as_new() {
        let mut samples = [0.0; 960];
        let mut packet = [0x5a; 31];
        packet[0] = 0x48;
        let mut heard = |warm: bool| {
            let mut library = Library::new().unwrap();
            assert_eq!(library.decode(Some(&SILENCE), &mut samples, false), Some(960));
            library.reset();
            if warm {
                library.warm();
            }
            assert_eq!(library.decode(Some(&packet), &mut samples, false), Some(960));
            let decoded = samples;
            assert_eq!(library.decode(None, &mut samples, false), Some(960));
            (decoded, samples)
        };
        assert!(heard(true) == heard(false));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(number("libopus 1.3.1"), Some((1, 3)));
        assert_eq!(number("libopus 1.5.2-fixed"), Some((1, 5)));
        assert_eq!(number("libopus 1.10-rc1"), Some((1, 10)));
        assert_eq!(number("libopus unknown"), None);
        assert_eq!(number(""), None);
    }
}
