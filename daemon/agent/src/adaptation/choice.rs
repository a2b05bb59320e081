//! What is best sent at a given rate and with given losses. docs/decisions.md has the measurements.

use voipd_audio::Codec;
use voipd_audio::codec::OPUS_BITRATE;
use voipd_audio::engine::copies_that_fit;
use voipd_audio::plan::Steering;

/// Opus never has less, in bits per second.
const LEAST_BITRATE: f64 = 6_000.0;
/// With FEC, in the place of headers that longer packets save.
const PROTECTED_BITRATE: f64 = 40_000.0;
/// Where packets of 20 ms leave less, longer ones sound better: headers cost 16 kbit/s at 20 ms, 8 at 40 and 5 at 60.
const SHORT_PACKETS: f64 = 24_000.0;
const MIDDLE_PACKETS: f64 = 14_000.0;
/// libopus sends FEC from here on, and has room for it.
const LEAST_FEC: f64 = 18_000.0;
const LEAST_PROTECTED: f64 = 18_500.0;
/// Below this the encoder's care is heard.
const SCARCE: f64 = 28_000.0;
/// Where FEC and packets of 20 ms leave less, FEC costs more than 40 ms do.
const SHORT_PROTECTED: f64 = 44_000.0;
/// How much more there must be before packets become shorter again.
const MARGIN: f64 = 1.15;
/// The same for codecs of one rate, between whose packet times there is no more than a tenth.
const FIXED_MARGIN: f64 = 1.03;
/// Losses at which protection begins and ends, and at which one copy is not enough, 0 to 1.
const PROTECT: f64 = 0.008;
const UNPROTECT: f64 = 0.003;
const SEVERE: f64 = 0.08;
const MODERATE: f64 = 0.05;
/// Bytes that RFC 2198 adds to a packet, and for each copy.
const RED_HEADER: f64 = 1.0;
const COPY_HEADER: f64 = 4.0;

/// What the agreement and the way allow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// What is sent.
    pub codec: Codec,
    /// As agreed, in milliseconds.
    pub ptime_ms: u16,
    /// Longest that the peer takes, in milliseconds.
    pub max_ptime_ms: u16,
    /// Opus: most bits per second that the peer wants.
    pub max_bitrate: Option<u32>,
    /// Most bits per second that the peer wants, packet headers included.
    pub bandwidth: Option<u32>,
    /// Opus: the peer can use in-band FEC.
    pub fec: bool,
    /// Most earlier frames in a packet (RFC 2198): 0 where the peer takes none.
    pub copies: u8,
    /// Bytes of IP, UDP and whatever else is around an RTP packet.
    pub packet_overhead: u16,
}

impl Limits {
    /// Most earlier frames that a packet of `ptime_ms` has room for (RFC 2198).
    pub(crate) fn room_for_copies(codec: Codec, ptime_ms: u16) -> u8 {
        match codec {
            // Its frames are the shorter the more of them a packet has.
            Codec::Opus => copies_that_fit(0),
            _ => copies_that_fit((bitrate_of(codec) * f64::from(ptime_ms) / 8_000.0).ceil() as usize),
        }
    }

    /// Bytes of each packet around its payload.
    pub(super) fn overhead(&self) -> u32 {
        const RTP_HEADER: u32 = 12;
        u32::from(self.packet_overhead) + RTP_HEADER
    }

    /// Bits per second that the headers of packets of this time take, with so many copies in each.
    fn headers(&self, ptime_ms: u16, copies: u8) -> f64 {
        let red = if copies > 0 { RED_HEADER + COPY_HEADER * f64::from(copies) } else { 0.0 };
        (f64::from(self.overhead()) + red) * 8_000.0 / f64::from(ptime_ms.max(10))
    }

    /// Most bits per second that are sent where the network sets no limit, packet headers included.
    pub(super) fn most(&self) -> f64 {
        let bitrate = match self.codec {
            Codec::Opus => f64::from(OPUS_BITRATE.min(self.max_bitrate.unwrap_or(u32::MAX))),
            codec => f64::from(1 + self.copies) * bitrate_of(codec),
        };
        let copies = if self.codec == Codec::Opus { 0 } else { self.copies };
        let usual = bitrate + self.headers(self.ptime_ms, copies);
        self.bandwidth.map_or(usual, |bandwidth| usual.min(f64::from(bandwidth)))
    }

    /// The packet times that can be chosen, the shortest first.
    fn packet_times(&self) -> impl Iterator<Item = u16> {
        let (agreed, most) = (self.ptime_ms, self.max_ptime_ms);
        let longer = [20, 40, 60].into_iter().filter(move |time| *time > agreed && *time <= most);
        std::iter::once(agreed).chain(longer)
    }
}

/// Bits per second of a codec that has one rate only.
fn bitrate_of(codec: Codec) -> f64 {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => 64_000.0,
        Codec::L16Narrow | Codec::L16Wide | Codec::L16Full => 16.0 * f64::from(codec.sample_rate()),
        Codec::G726 | Codec::G726Aal2 => 32_000.0,
        Codec::Gsm => 13_200.0,
        Codec::SpeexNarrow => 15_000.0,
        Codec::SpeexWide => 28_000.0,
        Codec::G729 => 8_000.0,
        Codec::Opus => f64::from(OPUS_BITRATE),
    }
}

/// What the network allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// Bits per second that may be sent, packet headers included.
    pub(super) rate: f64,
    /// It is only held back for as long as nothing is known of the network.
    pub(super) held: bool,
    /// A queue has told that the link carries no more.
    pub(super) queues: bool,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    ptime_ms: u16,
    bitrate: f64,
    protected: bool,
    copies: u8,
}

impl Choice {
    pub(super) fn new(limits: &Limits, rate: f64) -> Self {
        let mut choice = Choice { ptime_ms: limits.ptime_ms, bitrate: 0.0, protected: false, copies: 0 };
        choice.follow(limits, Allowed { rate, held: false, queues: false }, 0.0);
        choice
    }

    /// `loss`: 0 to 1.
    pub(super) fn follow(&mut self, limits: &Limits, allowed: Allowed, loss: f64) {
        self.protected = loss >= if self.protected { UNPROTECT } else { PROTECT };
        if limits.codec == Codec::Opus {
            self.follow_opus(limits, allowed);
        } else {
            self.follow_fixed(limits, allowed, loss);
        }
    }

    fn follow_opus(&mut self, limits: &Limits, allowed: Allowed) {
        let Allowed { rate, held, .. } = allowed;
        // Both bring single losses back; FEC needs fewer bits for it.
        self.copies = u8::from(self.protected && !limits.fec).min(limits.copies);
        let frames = 1.0 + f64::from(self.copies);
        let left = |ptime_ms: u16| (rate - limits.headers(ptime_ms, self.copies)) / frames;
        let protected = self.protected;
        let fits = |ptime_ms: u16, margin: f64| {
            let wanted = match (ptime_ms, protected) {
                (..40, true) => SHORT_PROTECTED / frames,
                (..40, false) => SHORT_PACKETS.min(f64::from(limits.max_bitrate.unwrap_or(u32::MAX))),
                // Few long packets, of which some get lost, would tell little of a network that is to be learned of.
                (_, true) if limits.fec && !held => LEAST_PROTECTED,
                _ => MIDDLE_PACKETS / frames,
            };
            left(ptime_ms) >= wanted * margin
        };
        let now = self.ptime_ms;
        let chosen = limits.packet_times().find(|time| fits(*time, if *time < now { MARGIN } else { 1.0 }));
        self.ptime_ms = chosen.or_else(|| limits.packet_times().last()).unwrap_or(limits.ptime_ms);
        let most = if self.protected { PROTECTED_BITRATE } else { f64::from(OPUS_BITRATE) };
        self.bitrate = left(self.ptime_ms).min(most).max(LEAST_BITRATE);
    }

    /// Codecs with one rate only: what can be given up is protection, and then headers.
    fn follow_fixed(&mut self, limits: &Limits, allowed: Allowed, loss: f64) {
        let Allowed { rate, queues, .. } = allowed;
        let wanted = match (self.protected, self.copies) {
            (false, _) => 0,
            (true, 2) if loss >= MODERATE => 2,
            (true, _) if loss >= SEVERE => 2,
            (true, _) => 1,
        };
        let takes = |ptime_ms: u16, copies: u8| {
            bitrate_of(limits.codec) * (1.0 + f64::from(copies)) + limits.headers(ptime_ms, copies)
        };
        let fits = |copies: &u8| takes(limits.ptime_ms, *copies) <= rate;
        self.copies = (0..=wanted.min(limits.copies)).rev().find(fits).unwrap_or(0);
        let (copies, now) = (self.copies, self.ptime_ms);
        let fits = |time: &u16| takes(*time, copies) * if *time < now { FIXED_MARGIN } else { 1.0 } <= rate;
        // Where no queue sets a limit, what was agreed stays: also with a peer that wants less than the codec has. Losses alone
        // are no reason: each takes more sound with it the longer packets are, and there is no FEC that this would pay for.
        self.ptime_ms = match queues {
            true => {
                limits.packet_times().find(fits).or(limits.packet_times().last()).unwrap_or(limits.ptime_ms)
            }
            false => limits.ptime_ms,
        };
    }

    pub(super) fn steering(&self, limits: &Limits) -> Steering {
        let opus = limits.codec == Codec::Opus;
        // In steps: an encoder is not changed for nothing.
        let bitrate = (self.bitrate / 500.0).round() * 500.0;
        Steering {
            bitrate: opus.then_some(bitrate as u32),
            ptime_ms: (self.ptime_ms != limits.ptime_ms).then_some(self.ptime_ms),
            fec: opus && self.protected && limits.fec && bitrate >= LEAST_FEC,
            careful: opus && (self.protected || self.bitrate < SCARCE),
            copies: self.copies,
        }
    }
}
