//! Speex in narrowband and wideband (RFC 5574) through the system's libspeex. How many frames a payload has is read here
//! from their mode bits, both because nothing else says it and because libspeex prints to standard error what it finds
//! wrong with a stream: it is given none that it would complain about.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;

use super::pcm::{from_i16, to_i16};
use super::{CodecError, MISSING};
use crate::plan::Codec;

/// Samples of the longest frame: 20 ms at 16 kHz.
const MAX_FRAME: usize = 320;
/// Octets of the longest payload that is written or read.
const MAX_PAYLOAD: usize = 1500;
/// Bits of what stands before a frame's parameters: one for the band, four for the mode.
const PREFIX: usize = 5;
/// Bits of the same before the parameters of the upper band: one and three.
const UPPER_PREFIX: usize = 4;
/// Bits of a narrowband frame by mode, and of an upper band by mode; 0: there is no such mode.
const NARROW_BITS: [usize; 9] = [5, 43, 119, 160, 220, 300, 364, 492, 79];
const UPPER_BITS: [usize; 8] = [4, 36, 112, 192, 352, 0, 0, 0];
/// Quality in which we encode: 15 kbit/s in narrowband, 27.8 in wideband.
const QUALITY: c_int = 8;

/// What libspeex declares in `speex.h` and `speex_bits.h`.
mod library {
    use std::ffi::{c_char, c_int, c_void};

    pub(super) const SET_QUALITY: c_int = 4;
    pub(super) const RESET_STATE: c_int = 26;
    pub(super) const NARROWBAND: c_int = 0;
    pub(super) const WIDEBAND: c_int = 1;

    /// `SpeexBits`: a stream of bits in somebody's memory.
    #[repr(C)]
    pub(super) struct Bits {
        chars: *mut c_char,
        length: c_int,
        octet: c_int,
        bit: c_int,
        owner: c_int,
        overflow: c_int,
        room: c_int,
        reserved: c_int,
        reserved_pointer: *mut c_void,
    }

    impl Bits {
        /// For libspeex to fill in.
        pub(super) const fn blank() -> Self {
            Bits {
                chars: std::ptr::null_mut(),
                length: 0,
                octet: 0,
                bit: 0,
                owner: 0,
                overflow: 0,
                room: 0,
                reserved: 0,
                reserved_pointer: std::ptr::null_mut(),
            }
        }
    }

    #[link(name = "speex")]
    #[allow(unsafe_code, reason = "libspeex is a C library")]
    unsafe extern "C" {
        pub(super) fn speex_lib_get_mode(mode: c_int) -> *const c_void;
        pub(super) fn speex_encoder_init(mode: *const c_void) -> *mut c_void;
        pub(super) fn speex_encoder_destroy(state: *mut c_void);
        pub(super) fn speex_encoder_ctl(state: *mut c_void, request: c_int, value: *mut c_void) -> c_int;
        pub(super) fn speex_encode_int(state: *mut c_void, samples: *mut i16, bits: *mut Bits) -> c_int;
        pub(super) fn speex_decoder_init(mode: *const c_void) -> *mut c_void;
        pub(super) fn speex_decoder_destroy(state: *mut c_void);
        pub(super) fn speex_decoder_ctl(state: *mut c_void, request: c_int, value: *mut c_void) -> c_int;
        pub(super) fn speex_decode_int(state: *mut c_void, bits: *mut Bits, samples: *mut i16) -> c_int;
        pub(super) fn speex_bits_init_buffer(bits: *mut Bits, room: *mut c_void, length: c_int);
        pub(super) fn speex_bits_set_bit_buffer(bits: *mut Bits, room: *mut c_void, length: c_int);
        pub(super) fn speex_bits_write(bits: *mut Bits, octets: *mut c_char, length: c_int) -> c_int;
    }
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Band {
    Narrow,
    Wide,
}

impl Band {
    /// Samples of a frame: 20 ms.
    pub(super) const fn frame(self) -> usize {
        match self {
            Band::Narrow => 160,
            Band::Wide => MAX_FRAME,
        }
    }

    const fn codec(self) -> Codec {
        match self {
            Band::Narrow => Codec::SpeexNarrow,
            Band::Wide => Codec::SpeexWide,
        }
    }

    fn mode(self) -> *const c_void {
        let number = match self {
            Band::Narrow => library::NARROWBAND,
            Band::Wide => library::WIDEBAND,
        };
        // SAFETY: both numbers exist; the answer points to constants of the library.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            library::speex_lib_get_mode(number)
        }
    }
}

pub(super) struct Encoder {
    state: NonNull<c_void>,
    band: Band,
    /// Where libspeex collects a payload's bits.
    room: Box<[u8; MAX_PAYLOAD]>,
}

// SAFETY: the memory behind the pointer is this value's alone, and libspeex has no state besides.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Encoder {}

impl Encoder {
    /// Control thread: libspeex allocates here, and never again.
    pub(super) fn new(band: Band) -> Result<Self, CodecError> {
        // SAFETY: a mode of the library's own; null is what it answers when there is no memory.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        let state = unsafe { library::speex_encoder_init(band.mode()) };
        let state = NonNull::new(state).ok_or(CodecError::Library(band.codec(), MISSING))?;
        let encoder = Encoder { state, band, room: Box::new([0; MAX_PAYLOAD]) };
        let mut quality = QUALITY;
        // SAFETY: this request reads one integer.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            let value = (&raw mut quality).cast();
            library::speex_encoder_ctl(encoder.state.as_ptr(), library::SET_QUALITY, value);
        }
        Ok(encoder)
    }

    /// Whole frames, six at most; answers the octets written.
    pub(super) fn encode(&mut self, samples: &[f32], payload: &mut [u8]) -> Result<usize, CodecError> {
        let frame = self.band.frame();
        let whole = !samples.is_empty() && samples.len().is_multiple_of(frame) && samples.len() <= 6 * frame;
        if !whole {
            return Err(CodecError::Buffer);
        }
        let mut bits = library::Bits::blank();
        // SAFETY: `bits` uses `room` only as long as this call lasts, and knows its length.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            library::speex_bits_init_buffer(
                &raw mut bits,
                self.room.as_mut_ptr().cast(),
                MAX_PAYLOAD as c_int,
            );
        }
        for samples in samples.chunks_exact(frame) {
            let mut linear = [0_i16; MAX_FRAME];
            for (linear, sample) in linear.iter_mut().zip(samples) {
                *linear = to_i16(*sample);
            }
            // SAFETY: libspeex reads (and may change) a frame, which is no longer than the array.
            #[allow(unsafe_code, reason = "libspeex is a C library")]
            unsafe {
                library::speex_encode_int(self.state.as_ptr(), linear.as_mut_ptr(), &raw mut bits);
            }
        }
        let length = payload.len().min(MAX_PAYLOAD) as c_int;
        // SAFETY: it writes at most `length` octets.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        let written = unsafe {
            library::speex_bits_write(&raw mut bits, payload.as_mut_ptr().cast::<c_char>(), length)
        };
        // A payload that was cut short has fewer frames.
        let written = usize::try_from(written).map_err(|_| CodecError::Buffer)?;
        let told = payload.get(..written).and_then(|payload| duration(self.band, payload).ok());
        if told == Some(samples.len()) { Ok(written) } else { Err(CodecError::Buffer) }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: it came from `speex_encoder_init` and is not used again.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            library::speex_encoder_destroy(self.state.as_ptr());
        }
    }
}

pub(super) struct Decoder {
    state: NonNull<c_void>,
    band: Band,
    room: Box<[u8; MAX_PAYLOAD]>,
    /// Made-up sound beyond what was asked for: libspeex makes whole frames.
    made_up: Box<[f32; MAX_FRAME]>,
    /// How much of it is left, at its end.
    left: usize,
}

// SAFETY: the memory behind the pointer is this value's alone, and libspeex has no state besides.
#[allow(unsafe_code, reason = "a pointer to memory of its own")]
unsafe impl Send for Decoder {}

impl Decoder {
    /// Control thread: libspeex allocates here, and never again.
    pub(super) fn new(band: Band) -> Result<Self, CodecError> {
        // SAFETY: a mode of the library's own; null is what it answers when there is no memory.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        let state = unsafe { library::speex_decoder_init(band.mode()) };
        let state = NonNull::new(state).ok_or(CodecError::Library(band.codec(), MISSING))?;
        let room = Box::new([0; MAX_PAYLOAD]);
        Ok(Decoder { state, band, room, made_up: Box::new([0.0; MAX_FRAME]), left: 0 })
    }

    /// Samples in the payload.
    pub(super) fn duration(&self, payload: &[u8]) -> Result<usize, CodecError> {
        duration(self.band, payload)
    }

    /// `samples`: [`Decoder::duration`] of the payload.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) -> Result<(), CodecError> {
        self.left = 0;
        let room = self.room.get_mut(..payload.len()).ok_or(CodecError::Malformed)?;
        room.copy_from_slice(payload);
        let mut bits = library::Bits::blank();
        // SAFETY: `bits` uses `room` only as long as this call lasts, and knows how much of it is the payload.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            let length = payload.len() as c_int;
            library::speex_bits_set_bit_buffer(&raw mut bits, room.as_mut_ptr().cast(), length);
        }
        for samples in samples.chunks_exact_mut(self.band.frame()) {
            if !self.frame(Some(&mut bits), samples) {
                return Err(CodecError::Malformed);
            }
        }
        Ok(())
    }

    /// Forgets what was heard.
    pub(super) fn reset(&mut self) {
        self.left = 0;
        // SAFETY: this request reads no value.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            library::speex_decoder_ctl(self.state.as_ptr(), library::RESET_STATE, std::ptr::null_mut());
        }
    }

    /// Makes up samples as libspeex does.
    pub(super) fn conceal(&mut self, samples: &mut [f32]) {
        let frame = self.band.frame();
        for sample in samples {
            if self.left == 0 {
                let mut made_up = [0.0; MAX_FRAME];
                self.frame(None, made_up.get_mut(..frame).unwrap_or_default());
                (*self.made_up, self.left) = (made_up, frame);
            }
            *sample = self.made_up.get(frame - self.left).copied().unwrap_or_default();
            self.left -= 1;
        }
    }

    /// One frame, out of `bits` or made up.
    fn frame(&mut self, bits: Option<&mut library::Bits>, samples: &mut [f32]) -> bool {
        let bits = bits.map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let mut linear = [0_i16; MAX_FRAME];
        // SAFETY: libspeex writes a frame, which is no longer than the array.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        let done = unsafe { library::speex_decode_int(self.state.as_ptr(), bits, linear.as_mut_ptr()) };
        for (sample, linear) in samples.iter_mut().zip(linear) {
            *sample = from_i16(linear);
        }
        done == 0
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: it came from `speex_decoder_init` and is not used again.
        #[allow(unsafe_code, reason = "libspeex is a C library")]
        unsafe {
            library::speex_decoder_destroy(self.state.as_ptr());
        }
    }
}

/// Samples in the payload: its frames, counted by their mode bits.
fn duration(band: Band, payload: &[u8]) -> Result<usize, CodecError> {
    let mut reader = Reader { payload, at: 0 };
    let mut frames = 0;
    while reader.frame(band)? {
        frames += 1;
    }
    if frames == 0 { Err(CodecError::Malformed) } else { Ok(frames * band.frame()) }
}

/// Bits of a payload.
struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        (self.payload.len() * 8).saturating_sub(self.at)
    }

    /// The next bits, which stay; those behind the end are zeros.
    fn peek(&self, count: usize) -> usize {
        (self.at..self.at + count).fold(0, |value, place| {
            let octet = self.payload.get(place / 8).copied().unwrap_or_default();
            value << 1 | usize::from(octet >> (7 - place % 8) & 1)
        })
    }

    fn skip(&mut self, count: usize) -> Result<(), CodecError> {
        if count > self.left() {
            return Err(CodecError::Malformed);
        }
        self.at += count;
        Ok(())
    }

    /// Passes over the next frame with what stands before it; `false` where there is no more.
    fn frame(&mut self, band: Band) -> Result<bool, CodecError> {
        loop {
            // A narrowband decoder meets the upper band of wideband frames, a wideband one that of ultra-wideband.
            // libspeex does not find its way past one without parameters.
            let mut layers = 0;
            while self.left() >= PREFIX && self.peek(1) == 1 {
                layers += 1;
                if layers > 2 || self.peek(UPPER_PREFIX) & 7 == 0 {
                    return Err(CodecError::Malformed);
                }
                self.upper()?;
            }
            if self.left() < PREFIX {
                return Ok(false);
            }
            let mode = self.peek(PREFIX) & 0xf;
            match mode {
                15 => return Ok(false),
                // A message to the other codec; its code tells its length.
                14 => {
                    self.skip(PREFIX)?;
                    let code = self.peek(4);
                    let length = [1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64];
                    self.skip(4 + length.get(code).copied().unwrap_or_default())?;
                }
                // A message to the other application.
                13 => {
                    self.skip(PREFIX)?;
                    let octets = self.peek(4);
                    self.skip(4 + 5 + 8 * octets)?;
                }
                mode => {
                    self.skip(NARROW_BITS.get(mode).copied().ok_or(CodecError::Malformed)?)?;
                    if band == Band::Wide && self.left() >= UPPER_PREFIX && self.peek(1) == 1 {
                        self.upper()?;
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// Passes over an upper band.
    fn upper(&mut self) -> Result<(), CodecError> {
        let bits = UPPER_BITS.get(self.peek(UPPER_PREFIX) & 7).copied().filter(|bits| *bits > 0);
        self.skip(bits.ok_or(CodecError::Malformed)?)
    }
}
