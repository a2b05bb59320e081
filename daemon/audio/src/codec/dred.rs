//! Deep redundancy (DRED, draft-ietf-mlcodec-opus-dred) as it is read: packets of Opus that carry, in their padding, a coarse
//! description of the sound before them, from which libopus speaks again what was lost. libopus reads it from 1.5 on, where
//! it was built with it; what belongs to it is looked for in the library that the program runs with.

use std::ffi::{CStr, c_float, c_int, c_uchar, c_void};
use std::mem::transmute_copy;
use std::ptr::NonNull;
use std::sync::{Once, OnceLock};

use audiopus::{Application, Bitrate, Channels, SampleRate, coder, ffi};

use super::libopus::Library;
use super::opus::padding_length;

/// Most samples at 48 kHz that sound waits for a description of it: 60 ms.
const PATIENCE: usize = 2_880;
/// The extension that carries it, and what its content begins with while the draft is one.
const EXTENSION: u8 = 126;
const DRAFT: u8 = b'D';
/// libopus's request for most frames of 10 ms that packets describe.
const SET_DURATION: i32 = 4050;
/// Nothing is described that is longer ago, in samples at 48 kHz: a second. What a peer's timestamps make of it can be hours.
const LONGEST: usize = 48_000;
/// Least part of a lost packet, in samples at 48 kHz, that a description is worth using for.
const WORTH: usize = 480;

/// What libopus has for it.
#[derive(Clone, Copy)]
struct Functions {
    create: unsafe extern "C" fn(*mut c_int) -> *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void),
    alloc: unsafe extern "C" fn(*mut c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    parse: Parse,
    decode: Decode,
}

type Parse =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_uchar, i32, i32, i32, *mut c_int, c_int) -> c_int;
type Decode = unsafe extern "C" fn(*mut ffi::OpusDecoder, *const c_void, i32, *mut c_float, i32) -> c_int;

impl Functions {
    /// Control thread: takes the loader's lock.
    fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            Some(Functions {
                create: function(c"opus_dred_decoder_create")?,
                destroy: function(c"opus_dred_decoder_destroy")?,
                alloc: function(c"opus_dred_alloc")?,
                free: function(c"opus_dred_free")?,
                parse: function(c"opus_dred_parse")?,
                decode: function(c"opus_decoder_dred_decode_float")?,
            })
        })
    }
}

/// The function of this name in what the program is linked with. `F` is its type.
fn function<F: Copy>(name: &CStr) -> Option<F> {
    // SAFETY: the name ends with a zero, and the handle stands for all libraries of the program.
    #[allow(unsafe_code, reason = "a libopus before 1.5 has none of them, and is linked with as well")]
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: `F` is a pointer to a function by all uses above, with the arguments that libopus declares.
    #[allow(unsafe_code, reason = "a pointer becomes a function")]
    NonNull::new(found).map(|found| unsafe { transmute_copy(&found.as_ptr()) })
}

/// Reads descriptions for one stream.
pub(super) struct Dred {
    functions: Functions,
    reader: NonNull<c_void>,
    description: NonNull<c_void>,
}

// SAFETY: the memory behind the pointers is this value's alone, and libopus shares nothing between two of them.
#[allow(unsafe_code, reason = "pointers to memory of its own")]
unsafe impl Send for Dred {}

impl Dred {
    /// Control thread: libopus allocates here, and never again. `None`: it cannot.
    pub(super) fn new() -> Option<Self> {
        let functions = Functions::find()?;
        let mut fault = ffi::OPUS_OK;
        // SAFETY: `fault` is a valid place to write to; null is what is answered on a fault.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let reader = NonNull::new(unsafe { (functions.create)(&raw mut fault) })?;
        // SAFETY: as above.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let description = NonNull::new(unsafe { (functions.alloc)(&raw mut fault) });
        let Some(description) = description else {
            // SAFETY: it has just been made, and is not used again.
            #[allow(unsafe_code, reason = "libopus is a C library")]
            unsafe {
                (functions.destroy)(reader.as_ptr());
            }
            return None;
        };
        static WARM: Once = Once::new();
        let mut dred = Dred { functions, reader, description };
        WARM.call_once(|| {
            // What writes none has none to read.
            dred.warm();
        });
        Some(dred)
    }

    /// Reads one description. The weights of its network come from the disk where they are touched for the first time: here, and
    /// not within a tick.
    fn warm(&mut self) -> Option<()> {
        const FRAME: usize = 960;
        let mut encoder = coder::Encoder::new(SampleRate::Hz48000, Channels::Mono, Application::Voip).ok()?;
        encoder.set_bitrate(Bitrate::BitsPerSecond(64_000)).ok()?;
        encoder.set_packet_loss_perc(20).ok()?;
        encoder.set_encoder_ctl_request(SET_DURATION, 20).ok()?;
        // Pulses, a hundred a second, which it takes for a voice.
        let sound: [f32; FRAME] = std::array::from_fn(|place| if place % 480 < 20 { 0.5 } else { 0.0 });
        let mut packet = [0; 1275];
        for _ in 0..50 {
            let length = encoder.encode_float(&sound, &mut packet).ok()?;
            let payload = packet.get(..length)?;
            if is_described(payload) && self.parse(payload, PATIENCE, false).is_some() {
                break;
            }
        }
        Some(())
    }

    /// How many samples at 48 kHz before a packet it describes, as far as sound waits for it.
    pub(super) fn reach(&mut self, payload: &[u8]) -> usize {
        let described = is_described(payload).then(|| self.parse(payload, PATIENCE, true)).flatten();
        described.map_or(0, |described| described.from.min(PATIENCE))
    }

    /// Speaks `samples` again, which begin `before` samples at 48 kHz before the packet, by what the packet tells of them;
    /// answers how many were written. `None`: nothing was touched.
    pub(super) fn decode(
        &mut self,
        decoder: &mut Library,
        payload: &[u8],
        before: usize,
        samples: &mut [f32],
    ) -> Option<usize> {
        if before > LONGEST || !is_described(payload) {
            return None;
        }
        let described = self.parse(payload, before, false)?;
        // The sender leaves out what was silent at the end.
        if described.from + WORTH < before || described.until >= before {
            return None;
        }
        let (before, room) = (i32::try_from(before).ok()?, i32::try_from(samples.len()).ok()?);
        // SAFETY: both states are alive, and libopus writes at most `room` samples.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let decoded = unsafe {
            let description = self.description.as_ptr();
            (self.functions.decode)(decoder.state().as_ptr(), description, before, samples.as_mut_ptr(), room)
        };
        usize::try_from(decoded).ok()
    }

    /// `most`: samples at 48 kHz that are of use. `deferred`: it is only to be known what there is.
    fn parse(&mut self, payload: &[u8], most: usize, deferred: bool) -> Option<Described> {
        let (length, most) = (i32::try_from(payload.len()).ok()?, i32::try_from(most).ok()?);
        let mut until = 0;
        // SAFETY: both states are alive; libopus reads `length` bytes and writes one number.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        let from = unsafe {
            (self.functions.parse)(
                self.reader.as_ptr(),
                self.description.as_ptr(),
                payload.as_ptr(),
                length,
                most,
                48_000,
                &raw mut until,
                deferred.into(),
            )
        };
        let (from, until) = (usize::try_from(from).ok()?, usize::try_from(until).ok()?);
        (from > 0).then_some(Described { from, until })
    }
}

impl Drop for Dred {
    fn drop(&mut self) {
        // SAFETY: both came from libopus and are not used again.
        #[allow(unsafe_code, reason = "libopus is a C library")]
        unsafe {
            (self.functions.free)(self.description.as_ptr());
            (self.functions.destroy)(self.reader.as_ptr());
        }
    }
}

/// What a packet tells of: sound from so many samples before it until so many before it.
struct Described {
    from: usize,
    until: usize,
}

/// Whether the padding of a packet (RFC 6716 section 3.2.5) begins with a description. libopus puts it there; whoever sends
/// it behind other extensions is not waited for.
fn is_described(payload: &[u8]) -> bool {
    let padding = padding(payload).unwrap_or_default();
    match padding {
        // Without a length: all that is left.
        [id, first, ..] if *id == EXTENSION << 1 => *first == DRAFT,
        [id, length, first, ..] if *id == EXTENSION << 1 | 1 => *length > 0 && *first == DRAFT,
        _ => false,
    }
}

/// A packet's padding (RFC 6716 section 3.2.5): only those with a count of frames have any, and it stands at their end.
fn padding(payload: &[u8]) -> Option<&[u8]> {
    let [toc, count, rest @ ..] = payload else { return None };
    if toc & 3 != 3 || count & 0x40 == 0 {
        return None;
    }
    let (length, behind) = padding_length(rest)?;
    behind.get(behind.len().checked_sub(length)?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_seen_in_the_padding_alone() {
        // One frame of two bytes, and five bytes of padding.
        assert_eq!(padding(&[0x6b, 0x41, 5, 1, 2, 252, 68, 12, 7, 9]), Some(&[252, 68, 12, 7, 9][..]));
        assert!(is_described(&[0x6b, 0x41, 5, 1, 2, 252, 68, 12, 7, 9]));
        assert!(is_described(&[0x6b, 0x41, 6, 1, 2, 253, 3, 68, 12, 7, 0]));
        // Nothing but padding, another extension, another draft, no length, a sound that looks so.
        for padding in [[0, 0, 0, 0], [64, 68, 12, 7], [252, 12, 68, 7], [253, 0, 68, 12], [252, 0, 0, 0]] {
            let mut packet = vec![0x6b, 0x41, 4, 1, 2];
            packet.extend(padding);
            assert!(!is_described(&packet), "{padding:?}");
        }
        assert!(!is_described(&[0x68, 252, 68, 12, 7]));
        assert!(!is_described(&[0x6b, 0x01, 252, 68, 12, 7]));
        let mut long = vec![0x6b, 0x41, 255, 2];
        long.extend([1; 3]);
        long.extend([252, 68]);
        long.extend([9; 254]);
        assert!(is_described(&long));
    }

    #[test]
    fn padding_that_is_longer_than_its_packet_is_none() {
        for packet in [&[][..], &[0x6b], &[0x6b, 0x41], &[0x6b, 0x41, 255], &[0x6b, 0x41, 3, 252, 68]] {
            assert_eq!(padding(packet), None, "{packet:?}");
            assert!(!is_described(packet));
        }
    }
}
