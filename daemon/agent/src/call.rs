//! A call: one session, its media and where its sound goes. It knows its own state; the agent moves it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_audio::plan::{SendPlan, Steering, StreamCounters};
use voipd_audio::{PortId, StreamPlan};
use voipd_media::rtcp::RtcpSession;
use voipd_media::{Agreement, Codec, Direction, LocalMedia, Negotiation, NegotiationError};
use voipd_sip::endpoint::SessionId;
use voipd_sip::uri::NameAddr;

use crate::account::AccountId;
use crate::adaptation::Adaptation;
use crate::call_ports::CallPort;
use crate::caller::Known;
use crate::conference::Seat;
use crate::digits::DtmfQueue;
use crate::forks::Forks;
use crate::heard_digits::HeardDigits;
use crate::ice::CallIce;
use crate::quality::QualityMonitor;
use crate::roaming::Whereabouts;
use crate::trickle::Trickle;
use crate::view::{
    CallDirection, CallId, CallNetwork, CallState, CallView, ConferenceId, MediaWay, Reason, SoundPlace,
    printable,
};
use crate::vigil::Vigil;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Dialing,
    Ringing,
    /// An answer has come before the call is taken.
    Early(EarlySound),
    Incoming {
        silenced: bool,
    },
    /// Accepted here; the answer leaves as soon as the media sockets are bound.
    Accepting,
    Active,
    Ended {
        at: Instant,
        reason: Reason,
    },
}

/// What is heard of the peer before it takes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlySound {
    /// Nothing yet.
    Expected,
    /// Nothing, and the peer rings: the tone that says so is made here (RFC 3960 section 3.2).
    Missing,
    /// Its packets come.
    Heard,
}

/// How far a call's media has come.
pub(crate) enum Media {
    None,
    /// Inbound: to be bound on this local address when the call is accepted.
    Wanted(IpAddr),
    Binding,
    Bound(LocalMedia),
    Streaming(Box<Stream>),
}

/// A running stream.
pub(crate) struct Stream {
    pub(crate) local: LocalMedia,
    /// The RTP socket that the stream is on: at `local`, or where ICE has found a better way.
    pub(crate) socket: SocketAddr,
    pub(crate) plan: StreamPlan,
    pub(crate) rtcp: RtcpSession,
    /// Of the sound sent, in hertz.
    pub(crate) clock_rate: u32,
    pub(crate) counters: StreamCounters,
    pub(crate) adaptation: Adaptation,
    /// How the stream is sent now.
    pub(crate) steering: Steering,
    /// Since when no packet has come, or when the peer was last asked for a sign of life.
    pub(crate) quiet_since: Instant,
    /// Where the peer's media comes from, where that is not where it said (symmetric RTP, RFC 4961).
    pub(crate) moved_to: Option<SocketAddr>,
    /// Where its RTCP came from last.
    pub(crate) rtcp_from: Option<SocketAddr>,
    /// When that came.
    pub(crate) rtcp_at: Option<Instant>,
    /// What was counted under SSRCs of ours that are past.
    pub(crate) counted_before: StreamCounters,
    /// Where packets under an SSRC of ours have come from (RFC 3550 section 8.2).
    pub(crate) conflicts: Vec<SocketAddr>,
    pub(crate) quality: QualityMonitor,
}

impl Stream {
    /// Whether RTCP from there is believed: from where the peer said, or from where its media comes.
    pub(crate) fn expects_rtcp_from(&self, agreement: &Agreement, source: SocketAddr) -> bool {
        let said = agreement.remote_rtcp.ip().to_canonical();
        let moved = self.moved_to.map(|moved| moved.ip().to_canonical());
        [Some(said), moved].contains(&Some(source.ip().to_canonical()))
    }

    /// Where RTCP goes, if anywhere: a peer that holds with c=0.0.0.0 has no address. A peer behind a NAT, whose media
    /// comes from elsewhere than it said, gets it where its own comes from: for RTP and RTCP on one port, that is known.
    pub(crate) fn rtcp_remote(&self, agreement: &Agreement) -> Option<SocketAddr> {
        let heard = self.moved_to.and_then(|moved| match agreement.rtcp_mux {
            true => Some(moved),
            false => self.rtcp_from,
        });
        let remote = heard.unwrap_or(agreement.remote_rtcp);
        is_address(remote).then_some(remote)
    }
}

fn shown_uri(address: &NameAddr) -> String {
    printable(&address.uri.to_string())
}

fn shown_name(address: &NameAddr) -> String {
    address.display_name.as_deref().map(printable).unwrap_or_default()
}

/// Not the place holder of a peer that holds.
pub(crate) fn is_address(address: SocketAddr) -> bool {
    !address.ip().is_unspecified() && address.port() != 0
}

/// Our own offer in an established session: one at a time (RFC 3264 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offering {
    Idle,
    /// In a re-INVITE or UPDATE; what the peer knew of our hold before.
    Outstanding {
        told_before: bool,
    },
    /// In a 2xx to an INVITE that had none; the ACK brings the answer.
    InAnswer,
    /// In a provisional response to such an INVITE; the PRACK brings the answer (RFC 3262 section 5).
    InRinging,
}

/// What our INVITE offered: each callee answers it for itself.
#[derive(Clone)]
pub(crate) struct Invited {
    negotiation: Negotiation,
    told_hold: bool,
}

/// Where a call's sound comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    Device,
    /// Only the call's ports speak and listen: files and programs.
    Ports,
    Echo,
}

/// What a caller of `dial` or `accept` wants for sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoundChoice {
    /// Files and programs speak and listen, and the sound device does not.
    pub ports: bool,
    /// Other calls stay where they are and are mixed with this one.
    pub mix: bool,
    /// The call is one of this conference.
    pub conference: Option<ConferenceId>,
}

/// What a caller of `dial` wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialOptions {
    /// Where the sound comes from and goes to.
    pub sound: SoundChoice,
    /// In place of the account's codecs, the most wanted first.
    pub codecs: Option<Vec<Codec>>,
    /// The callee is not told who calls.
    pub anonymous: bool,
    /// The call may go on to whom it is redirected to.
    pub follow: bool,
}

impl From<SoundChoice> for DialOptions {
    fn from(sound: SoundChoice) -> Self {
        Self { sound, ..Self::default() }
    }
}

/// One call. It has ended when its phase says so; then nothing but its number, times and reasons is left.
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
    pub(crate) direction: CallDirection,
    pub(crate) phase: Phase,
    /// Reason of the last change of phase, and the SIP status that came with it.
    pub(crate) reason: Reason,
    pub(crate) sip_status: u16,
    pub(crate) peer: NameAddr,
    pub(crate) known: Known,
    /// Where a redirection that was not followed leads, the most wanted first.
    pub(crate) contacts: Vec<NameAddr>,
    /// The telephone network's cause of the end; 0 where none was given.
    pub(crate) q850: u16,
    pub(crate) negotiation: Negotiation,
    pub(crate) forks: Forks,
    /// Until the call is answered.
    pub(crate) invited: Option<Box<Invited>>,
    pub(crate) media: Media,
    /// From when sockets are bound until the peer has turned out to know nothing of it.
    pub(crate) ice: Option<Box<CallIce>>,
    /// What the peer knows of our candidates, where they are told one after the other.
    pub(crate) trickle: Trickle,
    /// Where media comes to without ICE, as our last description had it.
    pub(crate) described_media: Option<LocalMedia>,
    /// An offer that begins ICE anew, or names more candidates, is due.
    pub(crate) ice_news: bool,
    /// Where media comes to, as the peer was told while ICE was still thought of.
    pub(crate) advertised: Option<LocalMedia>,
    /// The far end of signalling.
    pub(crate) faces: Option<IpAddr>,
    /// Media sockets at other addresses of the machine, for ICE.
    pub(crate) beside: Vec<LocalMedia>,
    /// Where the media ports are reached from outside, by the router's account.
    pub(crate) mapped: Option<LocalMedia>,
    /// Where the peer was last told to send.
    pub(crate) told_media: Option<LocalMedia>,
    pub(crate) offering: Offering,
    /// The hold state that the peer was told last; differs from `local_hold` while a re-INVITE is due.
    pub(crate) told_hold: bool,
    /// Why we hang up, where the session's own end would not tell.
    pub(crate) ending: Option<Reason>,
    pub(crate) stream_port: PortId,
    pub(crate) sound: Sound,
    pub(crate) ports: Vec<CallPort>,
    pub(crate) mixed: bool,
    pub(crate) seat: Option<Seat>,
    pub(crate) muted: bool,
    pub(crate) local_hold: bool,
    pub(crate) dtmf: DtmfQueue,
    pub(crate) heard_digits: HeardDigits,
    pub(crate) ring_deadline: Option<Instant>,
    /// Next look at the stream's counters.
    pub(crate) next_check: Option<Instant>,
    pub(crate) whereabouts: Whereabouts,
    pub(crate) vigil: Vigil,
    pub(crate) created_at: u64,
    pub(crate) answered_at: u64,
    pub(crate) ended_at: u64,
    /// What front ends were told last.
    pub(crate) published: Option<CallView>,
}

impl Call {
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    pub(crate) fn agreement(&self) -> Option<&Agreement> {
        self.negotiation.agreement()
    }

    pub(crate) fn remote_hold(&self) -> bool {
        self.agreement().is_some_and(|a| a.remote_hold)
    }

    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.media {
            Media::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    /// The stream, and what it carries out.
    pub(crate) fn agreed_stream(&mut self) -> Option<(&Agreement, &mut Stream)> {
        match (self.negotiation.agreement(), &mut self.media) {
            (Some(agreement), Media::Streaming(stream)) => Some((agreement, stream)),
            _ => None,
        }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.media, Media::Streaming(_))
    }

    pub(crate) fn local(&self) -> Option<LocalMedia> {
        match &self.media {
            Media::Bound(local) => Some(*local),
            Media::Streaming(stream) => Some(stream.local),
            Media::None | Media::Wanted(_) | Media::Binding => None,
        }
    }

    /// The direction this side would like (RFC 3264 section 8.4: holding is sending only).
    fn wanted_direction(&self) -> Direction {
        if self.local_hold { Direction::SendOnly } else { Direction::SendRecv }
    }

    /// An offer of ours; it tells whether we hold.
    pub(crate) fn offer(&mut self, local: LocalMedia) -> Vec<u8> {
        self.told_hold = self.local_hold;
        let local = self.announced(local);
        self.negotiation.make_offer(local, self.wanted_direction())
    }

    /// The offer of our INVITE.
    pub(crate) fn first_offer(&mut self, local: LocalMedia) -> Vec<u8> {
        let offer = self.offer(local);
        let invited = Invited { negotiation: self.negotiation.clone(), told_hold: self.told_hold };
        self.invited = Some(Box::new(invited));
        offer
    }

    /// The INVITE goes to somebody else: what was agreed on the way is void.
    pub(crate) fn start_over(&mut self) {
        self.forks.forget();
        if let Some(invited) = self.invited.take() {
            let Invited { mut negotiation, told_hold } = *invited;
            negotiation.withdraw_offer();
            (self.negotiation, self.told_hold) = (negotiation, told_hold);
        }
        self.offering = Offering::Idle;
    }

    /// Takes an answer to the offer of our INVITE. It undoes what was agreed with another callee.
    pub(crate) fn take_first_answer(&mut self, sdp: &[u8]) -> Result<(), NegotiationError> {
        let invited = self.invited.as_deref().cloned();
        let Invited { mut negotiation, told_hold } = invited.ok_or(NegotiationError::Unexpected)?;
        negotiation.handle_answer(sdp)?;
        (self.negotiation, self.told_hold) = (negotiation, told_hold);
        self.offering = Offering::Idle;
        Ok(())
    }

    /// Our answer to the peer's offer; it tells whether we hold.
    pub(crate) fn answer(&mut self, local: LocalMedia) -> Result<Vec<u8>, NegotiationError> {
        let local = self.announced(local);
        let (answer, _) = self.negotiation.make_answer(local, self.wanted_direction())?;
        self.told_hold = self.local_hold;
        Ok(answer)
    }

    /// How the stream sends, if there is one and nobody holds.
    pub(crate) fn send_plan(&self) -> Option<&SendPlan> {
        match &self.media {
            Media::Streaming(stream) => stream.plan.send.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn conference(&self) -> Option<ConferenceId> {
        self.seat.map(|seat| seat.conference)
    }

    /// Sound flows now: there is a stream, and nobody here holds it.
    pub(crate) fn is_audible(&self) -> bool {
        self.is_streaming() && !self.local_hold && matches!(self.phase, Phase::Early(_) | Phase::Active)
    }

    /// The peer rings, and nothing is heard of it.
    pub(crate) fn wants_ringback(&self) -> bool {
        matches!(self.phase, Phase::Ringing | Phase::Early(EarlySound::Missing))
    }

    /// A packet of the peer's has come; answers whether that is news.
    pub(crate) fn hear_early(&mut self) -> bool {
        // What comes after a redirection is still of the one before.
        let news = matches!(self.phase, Phase::Early(EarlySound::Expected | EarlySound::Missing))
            && !self.forks.has_moved();
        if news {
            self.phase = Phase::Early(EarlySound::Heard);
        }
        news
    }

    pub(crate) fn state(&self) -> CallState {
        match self.phase {
            Phase::Dialing => CallState::Dialing,
            Phase::Ringing => CallState::Ringing,
            Phase::Early(_) => CallState::Early,
            Phase::Incoming { .. } | Phase::Accepting => CallState::Incoming,
            Phase::Active if self.local_hold || self.remote_hold() => CallState::Held,
            Phase::Active => CallState::Active,
            Phase::Ended { .. } => CallState::Ended,
        }
    }

    fn sound_place(&self) -> SoundPlace {
        match self.sound {
            _ if !self.is_audible() => SoundPlace::None,
            _ if self.seat.is_some() => SoundPlace::Conference,
            Sound::Device => SoundPlace::Device,
            Sound::Ports if self.has_programs() => SoundPlace::Programs,
            Sound::Ports => SoundPlace::Files,
            Sound::Echo => SoundPlace::Echo,
        }
    }

    pub(crate) fn view(&self) -> CallView {
        let agreement = self.agreement();
        CallView {
            id: self.id,
            account: self.account,
            direction: self.direction,
            state: self.state(),
            reason: self.reason,
            end_reason: match self.phase {
                Phase::Ended { reason, .. } => Some(reason),
                _ => None,
            },
            sip_status: self.sip_status,
            peer: shown_uri(&self.peer),
            peer_name: shown_name(&self.peer),
            codec: agreement.map_or("", |a| a.send.codec.name()),
            muted: self.muted,
            local_hold: self.local_hold,
            remote_hold: self.remote_hold(),
            mixed: self.mixed,
            conference: self.conference(),
            network: if self.is_ended() { CallNetwork::Ok } else { self.whereabouts.shown() },
            sound: self.sound_place(),
            playing: self.plays(),
            recording: self.records(),
            media_way: self.media_way(),
            remote_media: agreement.map(|a| a.remote_rtp).filter(|remote| is_address(*remote)),
            asserted: self.known.asserted.as_ref().map(shown_uri).unwrap_or_default(),
            asserted_name: self.known.asserted.as_ref().map(shown_name).unwrap_or_default(),
            anonymous: self.known.anonymous,
            diversions: self.known.diversions.iter().map(|by| printable(&by.from.to_string())).collect(),
            diversion_reason: self
                .known
                .diversions
                .first()
                .map(|by| printable(&by.reason))
                .unwrap_or_default(),
            contacts: self.contacts.iter().map(shown_uri).collect(),
            q850: self.q850,
            created_at: self.created_at,
            answered_at: self.answered_at,
            ended_at: self.ended_at,
        }
    }

    fn media_way(&self) -> MediaWay {
        match (&self.ice, &self.media) {
            _ if self.is_ended() => MediaWay::None,
            (Some(ice), _) if self.uses_ice() => ice.way(),
            (_, Media::Streaming(stream)) => MediaWay::Plain {
                local: SocketAddr::new(stream.local.address, stream.local.rtp_port),
                remote: stream
                    .moved_to
                    .or(self.agreement().map(|a| a.remote_rtp))
                    .filter(|to| is_address(*to)),
            },
            _ => MediaWay::None,
        }
    }

    /// When this call wants to be looked at again.
    pub(crate) fn next_timeout(&self, ended_for: Duration, patience: Duration) -> Option<Instant> {
        if let Phase::Ended { at, .. } = self.phase {
            return Some(at + ended_for);
        }
        let network = self.whereabouts.next_timeout(patience);
        let ice = self.ice.as_ref().and_then(|ice| ice.next_timeout());
        let trickles = self.ice.as_ref().is_some_and(|ice| ice.may_trickle());
        let trickle = self.trickle.next_timeout().filter(|_| trickles);
        let own = [
            self.ring_deadline,
            self.next_check,
            self.dtmf.busy_until,
            ice,
            trickle,
            network,
            self.vigil.next_timeout(),
        ];
        own.into_iter().flatten().min()
    }
}
