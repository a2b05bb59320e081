//! What a fuzzer calls with its bytes, one function for each parser, and what must hold whatever the bytes are. The
//! functions panic where it does not hold. `make fuzz` runs them in a fuzzer; `cargo test` runs each over its corpus.

#![allow(clippy::missing_panics_doc, reason = "to panic is how these functions speak")]

mod dns;
mod endpoint;
mod media;
mod nat;
mod pinholes;
mod rtp;
mod sip;
mod stream;

pub use dns::dns;
pub use endpoint::sip_endpoint;
pub use media::{fragment, rtcp, sdp};
pub use nat::{ice, stun};
pub use pinholes::pinholes;
pub use rtp::rtp;
pub use sip::{challenges, multipart, sip_datagram, uri, via};
pub use stream::sip_stream;

/// A target's name and its function. The name is that of its binary and of its folder under `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("challenges", challenges),
    ("dns", dns),
    ("fragment", fragment),
    ("ice", ice),
    ("multipart", multipart),
    ("pinholes", pinholes),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sdp", sdp),
    ("sip_datagram", sip_datagram),
    ("sip_endpoint", sip_endpoint),
    ("sip_stream", sip_stream),
    ("stun", stun),
    ("uri", uri),
    ("via", via),
];
