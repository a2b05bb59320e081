//! Offer/answer (RFC 3264) for one audio stream of one call: what we can, what the peer said, what both agreed.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Media, Session};

use crate::codec::Codec;
pub use crate::direction::Direction;
pub use crate::error::NegotiationError;
pub use crate::format::ReceiveFormat;
use crate::format::{NOISE_RATES, PayloadTypes};
use crate::ice::{DEFAULT_MID, LocalIce, PeerIce};
use crate::redundancy;
use crate::sdp::{self, LineIce, LocalWay, MediaHeader, MediaLine, Profile, RemoteAudio, RemoteFormat};

/// Longest packet time that is sent, in milliseconds.
const LONGEST_PTIME: u16 = 60;

/// What this side wants, most wanted codec first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// At least one; the order of our offers. An answer follows the offerer's order (RFC 3264 section 6.1).
    pub codecs: Vec<Codec>,
    /// Packet time in milliseconds: 10, 20, 30, 40 or 60.
    pub ptime_ms: u16,
    /// Redundant audio data (RFC 2198) is offered and taken.
    pub redundancy: bool,
    /// Pauses need not be sent, in either direction: comfort noise (RFC 3389) is offered and taken, and Opus's own way.
    pub silence_suppression: bool,
}

/// Where this side receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// The address that the peer shall send to.
    pub address: IpAddr,
    /// RTP port.
    pub rtp_port: u16,
    /// RTCP port.
    pub rtcp_port: u16,
}

/// What both sides agreed on. `Eq` tells whether a re-INVITE changed anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Where the peer wants RTP. While it holds with c=0.0.0.0 the address is unspecified; `direction` then excludes
    /// sending.
    pub remote_rtp: SocketAddr,
    /// Where the peer wants RTCP.
    pub remote_rtcp: SocketAddr,
    /// RTCP goes by the ports of RTP, both ways (RFC 5761).
    pub rtcp_mux: bool,
    /// What the peer says about ICE, where we have said something of it as well. While it wants it, `remote_rtp` and
    /// `remote_rtcp` are its default candidates: perhaps no address that can be sent to.
    pub ice: PeerIce,
    /// What we may do now.
    pub direction: Direction,
    /// The peer holds the call (its direction excludes receiving, or c=0.0.0.0).
    pub remote_hold: bool,
    /// How we send: the peer's payload type.
    pub send: SendFormat,
    /// Payload types that may arrive, by number: ours as offered or answered (asymmetric types: RFC 3264 section 5.1), now
    /// or before. What was agreed once may still be under way, and a number never changes its meaning.
    pub receive: Vec<(u8, ReceiveFormat)>,
    /// Payload type and clock rate of telephone-event towards the peer (RFC 4733), if it takes them. The clock is that
    /// of the codec, except where the peer has events only at another one.
    pub send_events: Option<(u8, u32)>,
}

/// How to send sound to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendFormat {
    /// The codec.
    pub codec: Codec,
    /// The peer's number for it.
    pub payload_type: u8,
    /// Packet time in milliseconds: 10, 20, 30 (not Opus), 40 or 60.
    pub ptime_ms: u16,
    /// Opus: most bits per second that the peer wants (`maxaveragebitrate`).
    pub max_bitrate: Option<u32>,
    /// Opus: the peer can use in-band FEC.
    pub fec: bool,
    /// Opus: silence is not to be sent, because the peer or this side prefers that.
    pub dtx: bool,
    /// Opus: the peer wants packets of one length (`cbr`).
    pub cbr: bool,
    /// Opus: the highest rate in hertz that the peer plays (`maxplaybackrate`).
    pub max_playback_rate: Option<u32>,
    /// The peer's number for comfort noise at this codec's clock (RFC 3389), if it takes that and this side wants it.
    pub comfort_noise: Option<u8>,
    /// The peer's number for redundant audio data with this codec in it (RFC 2198), if it takes that.
    pub redundancy: Option<u8>,
    /// Longest packet time that the peer takes, in milliseconds, 60 at most.
    pub max_ptime_ms: u16,
    /// Most bits per second that the peer wants to receive, packet headers included (`b=AS`).
    pub bandwidth: Option<u32>,
}

/// One call's offer/answer state.
///
/// A failed call leaves everything as it was. The caller keeps the order of RFC 3264: it answers or refuses the peer's
/// offer before it makes one, and resolves glare (491) itself.
#[derive(Clone, Debug)]
pub struct Negotiation {
    preferences: Preferences,
    session_id: u64,
    payload_types: PayloadTypes,
    ice: Option<LocalIce>,
    /// Identification of our audio line.
    mid: Option<String>,
    /// What was sent last; its origin carries the version.
    written: Option<Session>,
    /// The m= lines of the session. Their number and order never change (RFC 3264 section 8).
    slots: Vec<Slot>,
    exchange: Exchange,
    agreement: Option<Agreement>,
    wish: Wish,
}

/// One m= line of the session.
#[derive(Clone, Debug)]
enum Slot {
    Audio(Profile),
    Refused(MediaHeader),
}

/// The codec that somebody has asked for in mid-call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    None,
    /// The next offer names it first.
    Waits(Codec),
    /// The offer that stands does.
    Offered(Codec),
}

fn once_each(codecs: Vec<Codec>) -> Vec<Codec> {
    let mut seen = Vec::new();
    for codec in codecs {
        if !seen.contains(&codec) {
            seen.push(codec);
        }
    }
    seen
}

/// Whose offer stands.
#[derive(Clone, Debug)]
enum Exchange {
    None,
    /// Ours; answers may come several times.
    Ours {
        offer: Offer,
        agreed_before: Option<Agreement>,
    },
    /// The peer's; it may be answered several times (in a 183, then in the 200).
    Theirs(RemoteOffer),
}

/// Our offer.
#[derive(Clone, Debug)]
struct Offer {
    address: IpAddr,
    direction: Direction,
    /// Place of the audio line.
    index: usize,
    formats: Vec<(u8, ReceiveFormat)>,
    /// It wants ICE.
    ice: bool,
}

/// The peer's offer.
#[derive(Clone, Debug)]
struct RemoteOffer {
    headers: Vec<MediaHeader>,
    /// Place of the audio line that we use.
    index: usize,
    audio: RemoteAudio,
}

impl Negotiation {
    /// `session_id` is the o= line's number, drawn by the caller.
    pub fn new(session_id: u64, mut preferences: Preferences) -> Self {
        preferences.codecs = once_each(preferences.codecs);
        Negotiation {
            preferences,
            session_id,
            payload_types: PayloadTypes::default(),
            ice: None,
            mid: None,
            written: None,
            slots: Vec::new(),
            exchange: Exchange::None,
            agreement: None,
            wish: Wish::None,
        }
    }

    /// From now on these are our codecs, the most wanted first.
    pub fn use_codecs(&mut self, codecs: Vec<Codec>) {
        self.preferences.codecs = once_each(codecs);
    }

    /// Names this codec first in the next offer, in place of the agreed one; `false` where it is none of ours. What comes
    /// of it is the peer's to say.
    pub fn prefer(&mut self, codec: Codec) -> bool {
        let known = self.preferences.codecs.contains(&codec);
        if known {
            self.wish = Wish::Waits(codec);
        }
        known
    }

    /// The codec that was asked for and not answered yet.
    pub fn wish(&self) -> Option<Codec> {
        match self.wish {
            Wish::None => None,
            Wish::Waits(codec) | Wish::Offered(codec) => Some(codec),
        }
    }

    /// A codec is asked for, and no offer has named it yet.
    pub fn has_wish(&self) -> bool {
        matches!(self.wish, Wish::Waits(_))
    }

    fn wish_is_answered(&mut self) {
        if let Wish::Offered(_) = self.wish {
            self.wish = Wish::None;
        }
    }

    /// What holds now.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// The last offer is the peer's: [`Negotiation::make_answer`] has what it needs.
    pub fn has_their_offer(&self) -> bool {
        matches!(self.exchange, Exchange::Theirs(_))
    }

    /// The peer's media address in its offer that is being answered: tells which of our addresses faces it.
    pub fn offered_address(&self) -> Option<IpAddr> {
        match &self.exchange {
            Exchange::Theirs(offer) => Some(offer.audio.rtp.ip()),
            Exchange::None | Exchange::Ours { .. } => None,
        }
    }

    /// What the peer's offer that is being answered says about ICE.
    pub fn offered_ice(&self) -> Option<&PeerIce> {
        match &self.exchange {
            Exchange::Theirs(offer) => Some(&offer.audio.ice),
            Exchange::None | Exchange::Ours { .. } => None,
        }
    }

    /// Whether the peer's offer that is being answered wants RTCP on the port of RTP: then the answer does.
    pub fn offered_rtcp_mux(&self) -> Option<bool> {
        match &self.exchange {
            Exchange::Theirs(offer) => Some(offer.audio.rtcp_mux),
            Exchange::None | Exchange::Ours { .. } => None,
        }
    }

    /// What the descriptions that are written from now on say about ICE: offers say it, answers where the offer wants
    /// ICE. The default candidates are the `local` media that the caller names with each of them.
    pub fn set_ice(&mut self, ice: Option<LocalIce>) {
        self.ice = ice;
    }

    /// The identification of our audio line (RFC 5888), where a description has given it one: that of the peer's offer, or
    /// ours.
    pub fn mid(&self) -> Option<&str> {
        match &self.exchange {
            Exchange::Theirs(offer) => offer.audio.mid.as_deref(),
            Exchange::None | Exchange::Ours { .. } => self.mid.as_deref(),
        }
    }

    /// Writes an offer; a repeated one raises the o= version only when it differs (RFC 3264 section 8). In a re-offer
    /// the agreed codec stays first, payload types keep their meaning, and rejected media lines keep their places.
    pub fn make_offer(&mut self, local: LocalMedia, direction: Direction) -> Vec<u8> {
        if self.slots.is_empty() {
            self.slots.push(Slot::Audio(Profile::Avp));
        }
        let formats = self.formats_to_offer();
        if let Wish::Waits(codec) = self.wish {
            self.wish = Wish::Offered(codec);
        }
        // RFC 3264 section 5.1: from now on, whatever is offered may come.
        if let Some(agreement) = &mut self.agreement {
            agreement.receive = self.payload_types.bound();
        }
        let rtcp_mux_agreed = self.agreement.as_ref().is_some_and(|agreement| agreement.rtcp_mux);
        if self.ice.as_ref().is_some_and(|ice| ice.trickle) {
            self.mid.get_or_insert_with(|| DEFAULT_MID.to_owned());
        }
        let mid = self.mid.as_deref();
        let wanted = |ice| LineIce::Wanted { ice, rtcp_mux_agreed, mid };
        let ice = self.ice.as_ref().map_or(LineIce::Silent, wanted);
        let way = LocalWay { media: local, rtcp_mux: true, extended_reports: true, ice };
        let medias =
            self.media_lines(|profile| sdp::audio_line(way, profile, &formats, &self.preferences, direction));
        let index = self.slots.iter().position(|slot| matches!(slot, Slot::Audio(_))).unwrap_or_default();
        let offer = Offer { address: local.address, direction, index, formats, ice: self.ice.is_some() };
        self.exchange = Exchange::Ours { offer, agreed_before: self.agreement.clone() };
        self.write(local.address, medias)
    }

    /// The answer to our offer; also an early one, which may come several times.
    pub fn handle_answer(&mut self, sdp: &[u8]) -> Result<Agreement, NegotiationError> {
        let Exchange::Ours { offer, .. } = &self.exchange else { return Err(NegotiationError::Unexpected) };
        // RFC 3264 section 6: the answer has a line for each of the offer's, in its place.
        let line = sdp::read(sdp)?.into_iter().nth(offer.index);
        let line =
            line.ok_or_else(|| NegotiationError::malformed("the answer lacks the offered media line"))?;
        let audio = line.audio?;
        let offered = |format: ReceiveFormat| offer.formats.iter().any(|(_, offered)| *offered == format);
        let common: Vec<&RemoteFormat> =
            audio.formats.iter().filter(|format| format.known.is_some_and(offered)).collect();

        // A peer that could not have chosen to receive tells nothing new about its hold.
        let remote_hold = if offer.direction.sends() {
            !audio.direction.receives()
        } else {
            self.agreement.as_ref().is_some_and(|agreement| agreement.remote_hold)
        };
        let agreement = Agreement {
            remote_hold,
            ice: if offer.ice { audio.ice.clone() } else { PeerIce::Absent },
            ..self.agree(&audio, &common, offer.address, offer.direction, &self.payload_types)?
        };
        self.agreement = Some(agreement.clone());
        self.wish_is_answered();
        Ok(agreement)
    }

    /// Our offer was refused (final response without answer): what was agreed before holds again.
    pub fn withdraw_offer(&mut self) {
        if let Exchange::Ours { agreed_before, .. } = &mut self.exchange {
            self.agreement = agreed_before.take();
            self.exchange = Exchange::None;
        }
        self.wish_is_answered();
    }

    /// Reads the peer's offer and keeps it for [`Negotiation::make_answer`]; fails when nothing could be agreed, and
    /// what was agreed before still holds.
    pub fn handle_offer(&mut self, sdp: &[u8]) -> Result<(), NegotiationError> {
        let lines = sdp::read(sdp)?;
        let (index, audio) = self.choose_line(&lines)?;
        let headers = lines.into_iter().map(|line| line.header).collect();
        self.exchange = Exchange::Theirs(RemoteOffer { headers, index, audio });
        Ok(())
    }

    /// Answers the kept offer. `wanted` is what this side would like (SendOnly while it holds the call); the answer's
    /// direction is what both allow (RFC 3264 section 6.1). Unsupported media lines get port 0 in their place.
    pub fn make_answer(
        &mut self,
        local: LocalMedia,
        wanted: Direction,
    ) -> Result<(Vec<u8>, Agreement), NegotiationError> {
        let Exchange::Theirs(RemoteOffer { headers, index, audio }) = &self.exchange else {
            return Err(NegotiationError::Unexpected);
        };
        let mut payload_types = self.payload_types.clone();
        let mut common: Vec<&RemoteFormat> = Vec::new();
        let mut formats: Vec<(u8, ReceiveFormat)> = Vec::new();
        for format in &audio.formats {
            let Some(known) = format.known.filter(|known| self.accepts(*known)) else { continue };
            // A format that is offered twice is answered once.
            if formats.iter().any(|(_, answered)| *answered == known) {
                continue;
            }
            if let Some(number) = payload_types.for_answer(known, format.payload_type) {
                common.push(format);
                formats.push((number, known));
            }
        }
        redundancy::retain_useful(&mut formats, |(_, format)| Some(*format));
        let mut agreement = self.agree(audio, &common, local.address, wanted, &payload_types)?;
        if self.ice.is_none() {
            agreement.ice = PeerIce::Absent;
        }
        let slots = headers.iter().enumerate().map(|(place, header)| {
            if place == *index { Slot::Audio(audio.profile) } else { Slot::Refused(header.clone()) }
        });
        self.slots = slots.collect();
        self.mid.clone_from(&audio.mid);
        self.payload_types = payload_types;
        self.agreement = Some(agreement.clone());
        let rtcp_mux = agreement.rtcp_mux;
        let ice = match (&agreement.ice, &self.ice) {
            (PeerIce::Offered(_), Some(ice)) => {
                LineIce::Wanted { ice, rtcp_mux_agreed: rtcp_mux, mid: self.mid.as_deref() }
            }
            (PeerIce::Mismatch, Some(_)) => LineIce::Mismatch,
            _ => LineIce::Silent,
        };
        let way = LocalWay { media: local, rtcp_mux, extended_reports: audio.extended_reports, ice };
        let medias = self.media_lines(|profile| {
            sdp::audio_line(way, profile, &formats, &self.preferences, agreement.direction)
        });
        Ok((self.write(local.address, medias), agreement))
    }

    /// The audio line of an offer that we can use: the one in use, or else the first. The error is that of the line
    /// that came nearest.
    fn choose_line(&self, lines: &[MediaLine]) -> Result<(usize, RemoteAudio), NegotiationError> {
        let in_use = self.slots.iter().position(|slot| matches!(slot, Slot::Audio(_)));
        let nearness = |error: &NegotiationError| match error {
            NegotiationError::NoCommonCodec { .. } => 3,
            NegotiationError::Address(_) => 2,
            NegotiationError::Encryption(_) | NegotiationError::Profile(_) => 1,
            _ => 0,
        };
        let mut usable: Option<(usize, &RemoteAudio)> = None;
        let mut refusal = NegotiationError::NoAudio;
        for (index, line) in lines.iter().enumerate() {
            let audio = line.audio.as_ref().map_err(Clone::clone).and_then(|audio| self.check_codecs(audio));
            match audio {
                Ok(audio) if usable.is_none() || in_use == Some(index) => usable = Some((index, audio)),
                Ok(_) => {}
                Err(error) if nearness(&error) > nearness(&refusal) => refusal = error,
                Err(_) => {}
            }
        }
        usable.map(|(index, audio)| (index, audio.clone())).ok_or(refusal)
    }

    fn check_codecs<'a>(&self, audio: &'a RemoteAudio) -> Result<&'a RemoteAudio, NegotiationError> {
        let usable = |format: &RemoteFormat| match format.known {
            Some(ReceiveFormat::Audio(codec)) => self.preferences.codecs.contains(&codec),
            Some(_) | None => false,
        };
        if audio.formats.iter().any(usable) { Ok(audio) } else { Err(self.no_common_codec(audio)) }
    }

    fn accepts(&self, format: ReceiveFormat) -> bool {
        match format {
            ReceiveFormat::Audio(codec) => self.preferences.codecs.contains(&codec),
            ReceiveFormat::Redundant(_) => self.preferences.redundancy,
            ReceiveFormat::ComfortNoise(rate) => {
                self.preferences.silence_suppression && self.has_pauses_at(rate)
            }
            ReceiveFormat::Events(8_000) => true,
            ReceiveFormat::Events(rate) => {
                self.preferences.codecs.iter().any(|codec| codec.clock_rate() == rate)
            }
        }
    }

    /// A codec of ours leaves pauses to comfort noise at this clock rate in hertz.
    fn has_pauses_at(&self, rate: u32) -> bool {
        let codecs = self.preferences.codecs.iter();
        NOISE_RATES.contains(&rate) && codecs.into_iter().any(|codec| codec.clock_rate() == rate)
    }

    fn no_common_codec(&self, audio: &RemoteAudio) -> NegotiationError {
        let ours: Vec<&str> = self.preferences.codecs.iter().map(|codec| codec.name()).collect();
        NegotiationError::NoCommonCodec { theirs: audio.codec_names(), ours: ours.join(", ") }
    }

    /// Our codecs, the one that is asked for or else the agreed one first, and events at the clock rates that go with them.
    fn formats_to_offer(&mut self) -> Vec<(u8, ReceiveFormat)> {
        let mut codecs = self.preferences.codecs.clone();
        let agreed = self.agreement.as_ref().map(|agreement| agreement.send.codec);
        if let Some(first) = self.wish().or(agreed) {
            codecs.sort_by_key(|codec| *codec != first);
        }
        // RFC 4733 section 2.1: events keep the clock of the sound beside them. Gateways that know only 8000 are met
        // with it also beside Opus.
        let clocked = |rate: &u32| codecs.iter().any(|codec| codec.clock_rate() == *rate);
        let wider =
            [48_000, 16_000].into_iter().filter(clocked).map(ReceiveFormat::Events).collect::<Vec<_>>();
        let suppressed = NOISE_RATES.into_iter().filter(|_| self.preferences.silence_suppression);
        let noise: Vec<_> =
            suppressed.filter(|rate| self.has_pauses_at(*rate)).map(ReceiveFormat::ComfortNoise).collect();
        let formats = codecs.into_iter().map(ReceiveFormat::Audio);
        let formats = formats.chain(noise).chain(wider).chain([ReceiveFormat::Events(8_000)]);
        // Last: it is sent where packets get lost, not instead of the codecs themselves.
        let redundant = redundancy::RATES.into_iter().map(ReceiveFormat::Redundant);
        let mut formats: Vec<_> = formats.chain(redundant.filter(|_| self.preferences.redundancy)).collect();
        redundancy::retain_useful(&mut formats, |format| Some(*format));
        let formats = formats.into_iter();
        formats.filter_map(|format| Some((self.payload_types.for_offer(format)?, format))).collect()
    }

    /// `common`: the peer's formats that both have, in its order; `ours`: what this side wants to do.
    fn agree(
        &self,
        audio: &RemoteAudio,
        common: &[&RemoteFormat],
        local: IpAddr,
        ours: Direction,
        payload_types: &PayloadTypes,
    ) -> Result<Agreement, NegotiationError> {
        let sound = common.iter().find_map(|format| match format.known {
            Some(ReceiveFormat::Audio(codec)) => Some((codec, *format)),
            Some(_) | None => None,
        });
        let (codec, format) = sound.ok_or_else(|| self.no_common_codec(audio))?;
        let remote = audio.rtp.ip();
        // With ICE there may be a candidate of the right kind beside the default one.
        let reachable = remote.is_ipv4() == local.is_ipv4() || remote.is_unspecified();
        if !reachable && audio.ice.offered().is_none() {
            return Err(NegotiationError::address(&format!("{remote}, while this side uses {local}")));
        }
        let events = common.iter().filter_map(|format| match format.known {
            Some(ReceiveFormat::Events(rate)) => Some((format.payload_type, rate)),
            Some(_) | None => None,
        });
        let clock = ReceiveFormat::Redundant(codec.clock_rate());
        let redundant = |red: &&&RemoteFormat| {
            red.known == Some(clock) && self.accepts(clock) && red.blocks.may_hold(format.payload_type)
        };
        let pauses = ReceiveFormat::ComfortNoise(codec.clock_rate());
        let comfort_noise = common.iter().find(|noise| noise.known == Some(pauses));
        let comfort_noise = comfort_noise.map(|noise| noise.payload_type);
        let redundancy = common.iter().find(redundant).map(|red| red.payload_type);
        let longest = audio.maxptime.unwrap_or(LONGEST_PTIME).min(LONGEST_PTIME);
        let wanted_ptime = audio.ptime.unwrap_or(self.preferences.ptime_ms);
        let ptime = wanted_ptime.min(audio.maxptime.unwrap_or(u16::MAX));
        Ok(Agreement {
            remote_rtp: audio.rtp,
            // We always offer it, so what the peer says decides.
            remote_rtcp: if audio.rtcp_mux { audio.rtp } else { audio.rtcp },
            rtcp_mux: audio.rtcp_mux,
            ice: audio.ice.clone(),
            direction: ours.and(audio.direction.reversed()),
            remote_hold: !audio.direction.receives(),
            send: SendFormat {
                codec,
                payload_type: format.payload_type,
                ptime_ms: codec.packet_time(ptime),
                max_bitrate: format.opus.max_bitrate,
                fec: format.opus.fec,
                dtx: format.opus.dtx || self.preferences.silence_suppression,
                cbr: format.opus.cbr,
                max_playback_rate: format.opus.max_playback_rate,
                comfort_noise,
                redundancy,
                max_ptime_ms: codec.packet_time(longest),
                bandwidth: audio.bandwidth,
            },
            receive: payload_types.bound(),
            send_events: events.min_by_key(|(_, rate)| *rate != codec.clock_rate()),
        })
    }

    fn media_lines(&self, audio: impl Fn(Profile) -> Media) -> Vec<Media> {
        let line = |slot: &Slot| match slot {
            Slot::Audio(profile) => audio(*profile),
            Slot::Refused(header) => sdp::refused_line(header),
        };
        self.slots.iter().map(line).collect()
    }

    /// The session description as text, its version raised by one where it differs from the one before.
    fn write(&mut self, address: IpAddr, medias: Vec<Media>) -> Vec<u8> {
        let version = self.written.as_ref().map_or(1, |session| session.origin.sess_version);
        let mut session = sdp::session(self.session_id, version, address, medias);
        if self.written.as_ref().is_some_and(|written| *written != session) {
            session.origin.sess_version = version.wrapping_add(1);
        }
        let text = session.to_string().into_bytes();
        self.written = Some(session);
        text
    }
}
