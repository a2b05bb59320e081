//! Commands: what people ask of calls.

use std::time::Instant;

use voipd_audio::PortId;
use voipd_media::{Codec, Negotiation, Preferences};
use voipd_sip::Uri;
use voipd_sip::endpoint::{InviteOptions, SessionError, SessionId};
use voipd_sip::message::StatusCode;
use voipd_sip::uri::NameAddr;

use crate::account::{AccountId, AccountKind, RedirectPolicy};
use crate::agent::Agent;
use crate::call::{Call, DialOptions, Media, Offering, Phase, Sound, SoundChoice};
use crate::caller::Known;
use crate::digits::DtmfQueue;
use crate::error::AgentError;
use crate::forks::Forks;
use crate::heard_digits::HeardDigits;
use crate::ice_settings::IcePolicy;
use crate::output::{Output, Weight};
use crate::reason;
use crate::roaming::Whereabouts;
use crate::target::{self, Home, Target};
use crate::trickle::Trickle;
use crate::view::{CallDirection, CallId, CallState, ConferenceId, Reason};
use crate::vigil::Vigil;
use rand_chacha::rand_core::Rng;

impl Agent {
    /// Places a call. Without `account`, the one that fits the target is taken. The sound device belongs to the call
    /// that was dialled, accepted or resumed last: others that use it are held, unless this one is to be mixed.
    ///
    /// # Errors
    /// A target that is no address, no usable account, too many calls, leave to follow redirections where the account
    /// never does, a conference that is not there.
    pub fn dial(
        &mut self,
        now: Instant,
        target: &str,
        account: Option<AccountId>,
        options: impl Into<DialOptions>,
    ) -> Result<CallId, AgentError> {
        let options = options.into();
        options.sound.conference.map_or(Ok(()), |conference| self.conferences.check(conference))?;
        let (account, Target { uri, emergency }) = self.choose_account(target, account)?;
        if self.live_calls() >= self.config.max_calls && !emergency {
            return Err(AgentError::TooManyCalls(self.config.max_calls));
        }
        let chosen = self.accounts.get(account).ok_or(AgentError::NoSuchAccount)?;
        let identity =
            chosen.identity.ok_or_else(|| AgentError::AccountDisabled(chosen.settings.name.clone()))?;
        let follow = match (chosen.settings.redirect, options.follow) {
            (RedirectPolicy::Never, true) => {
                return Err(AgentError::RedirectionForbidden(chosen.settings.name.clone()));
            }
            (RedirectPolicy::Ask, follow) => follow,
            (policy, _) => policy == RedirectPolicy::Follow,
        };
        let wanted = InviteOptions { anonymous: options.anonymous, follow };
        let session = self.endpoint.invite(now, identity, uri.clone(), wanted).map_err(|error| match error {
            SessionError::TooMany => AgentError::TooManyCalls(self.config.max_calls),
            _ => AgentError::NoUsableAccount,
        });
        self.drain_endpoint();
        let id = self.add_call(
            now,
            account,
            session?,
            CallDirection::Outbound,
            Phase::Dialing,
            NameAddr::new(uri),
            Media::None,
        );
        if let Some(call) = self.calls.get_mut(&id) {
            call.known.anonymous = options.anonymous;
            if let Some(codecs) = options.codecs {
                call.negotiation.use_codecs(codecs);
            }
        }
        self.place_sound(now, id, options.sound);
        self.note(Weight::Info, Some(id), "call placed".to_owned());
        self.settle(now);
        Ok(id)
    }

    /// Which account calls which address.
    fn choose_account(
        &self,
        text: &str,
        account: Option<AccountId>,
    ) -> Result<(AccountId, Target), AgentError> {
        let id = match account {
            Some(id) => id,
            None => {
                let whole = match target::parse(text, None) {
                    Ok(Target { uri: Uri::Sip(uri), .. }) => Some(uri),
                    _ => None,
                };
                self.accounts.for_target(whole.as_ref()).ok_or(AgentError::NoUsableAccount)?
            }
        };
        let account = self.accounts.get(id).ok_or(AgentError::NoSuchAccount)?;
        let plan = &account.settings.dial_plan;
        let home = account.sip_uri().map(|address| Home { address, plan });
        if account.settings.kind == AccountKind::Direct
            && let Some(neighbour) = self.neighbour(text)
        {
            return Ok((id, neighbour));
        }
        Ok((id, target::parse(text, home)?))
    }

    /// Answers an inbound call.
    ///
    /// # Errors
    /// The call is not incoming, or there is no such conference.
    pub fn accept(&mut self, now: Instant, id: CallId, sound: SoundChoice) -> Result<(), AgentError> {
        sound.conference.map_or(Ok(()), |conference| self.conferences.check(conference))?;
        self.in_phase(id, "answering", |phase| matches!(phase, Phase::Incoming { .. }))?;
        self.place_sound(now, id, sound);
        self.begin_accepting(now, id);
        self.settle(now);
        Ok(())
    }

    /// Turns an inbound call away: `Busy` (486), `Declined` (603), or else without a word (480).
    ///
    /// # Errors
    /// The call is not incoming.
    pub fn reject(&mut self, now: Instant, id: CallId, reason: Reason) -> Result<(), AgentError> {
        self.in_phase(id, "rejecting", |phase| matches!(phase, Phase::Incoming { .. }))?;
        let (status, reason) = match reason {
            Reason::Busy => (486, Reason::Busy),
            Reason::Declined => (603, Reason::Declined),
            _ => (480, Reason::Local),
        };
        self.refuse(now, id, status, None, reason);
        self.settle(now);
        Ok(())
    }

    /// Ends a call in whatever state it is.
    ///
    /// # Errors
    /// There is no such call, or it has ended.
    pub fn hang_up(&mut self, now: Instant, id: CallId) -> Result<(), AgentError> {
        let phase = self.in_phase(id, "hanging up", |phase| !matches!(phase, Phase::Ended { .. }))?;
        match phase {
            Phase::Incoming { .. } => self.refuse(now, id, 603, None, Reason::Local),
            _ => self.hang_up_for(now, id, Some(Reason::Local)),
        }
        self.settle(now);
        Ok(())
    }

    /// Holds a call: nothing is sent or played here from now on, and the peer is told.
    ///
    /// # Errors
    /// The call is not answered.
    pub fn hold(&mut self, now: Instant, id: CallId) -> Result<(), AgentError> {
        self.in_phase(id, "holding", |phase| phase == Phase::Active)?;
        self.set_hold(now, id, true);
        self.settle(now);
        Ok(())
    }

    /// Takes a held call back, also one that was held before it was answered; unless it is mixed, other calls at the
    /// sound device are held.
    ///
    /// # Errors
    /// The call is an inbound one that is not answered, or it has ended.
    pub fn resume(&mut self, now: Instant, id: CallId, mix: bool) -> Result<(), AgentError> {
        self.in_phase(id, "resuming", can_be_held)?;
        if !mix {
            self.yield_device(now, id);
        }
        self.set_hold(now, id, false);
        self.settle(now);
        Ok(())
    }

    /// Stops ringing for an inbound call here; the caller goes on hearing that it rings.
    ///
    /// # Errors
    /// The call is not incoming.
    pub fn silence(&mut self, now: Instant, id: CallId) -> Result<(), AgentError> {
        self.in_phase(id, "silencing", |phase| matches!(phase, Phase::Incoming { .. }))?;
        if let Some(call) = self.calls.get_mut(&id) {
            call.phase = Phase::Incoming { silenced: true };
        }
        self.settle(now);
        Ok(())
    }

    /// Mutes or unmutes what the peer hears. May be said before the call is answered.
    ///
    /// # Errors
    /// There is no such call, or it has ended.
    pub fn set_muted(&mut self, now: Instant, id: CallId, muted: bool) -> Result<(), AgentError> {
        self.in_phase(id, "muting", |phase| !matches!(phase, Phase::Ended { .. }))?;
        if let Some(call) = self.calls.get_mut(&id) {
            call.muted = muted;
            if call.is_streaming() {
                self.outputs.push_back(Output::SetMuted { port: call.stream_port, muted });
            }
            self.touched.insert(id);
        }
        self.settle(now);
        Ok(())
    }

    /// Asks the peer for another codec of the account's in mid-call, by re-INVITE. What comes of it shows in the call's
    /// codec: the peer may keep to the one in use.
    ///
    /// # Errors
    /// The call is not answered, or the account has no such codec.
    pub fn set_codec(&mut self, now: Instant, id: CallId, codec: Codec) -> Result<(), AgentError> {
        self.in_phase(id, "changing the codec", |phase| phase == Phase::Active)?;
        let Some(call) = self.calls.get_mut(&id) else { return Err(AgentError::NoSuchCall(id.0)) };
        let in_use = call.negotiation.agreement().is_some_and(|agreement| agreement.send.codec == codec);
        if !in_use {
            if !call.negotiation.prefer(codec) {
                return Err(AgentError::CodecNotAllowed(codec.name()));
            }
            self.tell_news(now, id);
        }
        self.settle(now);
        Ok(())
    }

    // Helpers of commands and of session events.

    #[allow(
        clippy::too_many_arguments,
        reason = "one place makes calls, and these are what a call is made of"
    )]
    pub(crate) fn add_call(
        &mut self,
        now: Instant,
        account: AccountId,
        session: SessionId,
        direction: CallDirection,
        phase: Phase,
        peer: NameAddr,
        media: Media,
    ) -> CallId {
        let id = self.new_call_id();
        let stream_port = self.new_port();
        let preferences = self.accounts.get(account).map(|account| Preferences {
            codecs: account.settings.codecs.clone(),
            ptime_ms: account.settings.ptime_ms,
            redundancy: account.settings.redundancy,
            silence_suppression: account.settings.silence_suppression,
        });
        let preferences = preferences.unwrap_or(Preferences {
            codecs: Vec::new(),
            ptime_ms: 20,
            redundancy: false,
            silence_suppression: false,
        });
        // 62 bits: some peers read the o= number as a signed 64-bit one.
        let negotiation = Negotiation::new(self.rng.next_u64() >> 2, preferences);
        let call = Call {
            id,
            account,
            session,
            direction,
            phase,
            reason: if direction == CallDirection::Outbound { Reason::Local } else { Reason::Remote },
            sip_status: 0,
            peer,
            known: Known::default(),
            contacts: Vec::new(),
            q850: 0,
            negotiation,
            forks: Forks::default(),
            invited: None,
            media,
            ice: None,
            trickle: Trickle::default(),
            described_media: None,
            ice_news: false,
            advertised: None,
            faces: None,
            beside: Vec::new(),
            mapped: None,
            told_media: None,
            offering: Offering::Idle,
            told_hold: false,
            ending: None,
            stream_port,
            sound: Sound::Device,
            ports: Vec::new(),
            mixed: false,
            seat: None,
            muted: false,
            local_hold: false,
            dtmf: DtmfQueue::default(),
            heard_digits: HeardDigits::default(),
            ring_deadline: Some(now + self.config.ring_timeout),
            next_check: None,
            whereabouts: Whereabouts::default(),
            vigil: Vigil::default(),
            created_at: self.unix_micros(now),
            answered_at: 0,
            ended_at: 0,
            published: None,
        };
        self.by_session.insert(session, id);
        self.by_port.insert(stream_port, id);
        let policy = self.accounts.get(call.account).map(|account| account.settings.ice.policy);
        // An offer of ours says nothing of what it has no use for: it is to fit into a datagram.
        let trickles = match call.direction {
            CallDirection::Inbound => policy.is_some_and(|policy| policy != IcePolicy::Off),
            CallDirection::Outbound => self.wants_ice(&call),
        };
        self.endpoint.set_trickle(session, trickles);
        self.calls.insert(id, call);
        self.touched.insert(id);
        id
    }

    /// Where the sound of a call that is dialled or accepted goes; others give the device up for it.
    fn place_sound(&mut self, now: Instant, id: CallId, choice: SoundChoice) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.sound = if choice.ports { Sound::Ports } else { Sound::Device };
            call.seat = choice.conference.map(|conference| self.conferences.seat(conference));
        }
        if !choice.mix {
            self.yield_device(now, id);
        }
    }

    /// The phase of a call, if it is one of those wanted.
    pub(crate) fn in_phase(
        &self,
        id: CallId,
        what: &'static str,
        wanted: impl Fn(Phase) -> bool,
    ) -> Result<Phase, AgentError> {
        let call = self.calls.get(&id).ok_or(AgentError::NoSuchCall(id.0))?;
        if wanted(call.phase) {
            Ok(call.phase)
        } else {
            Err(AgentError::WrongState { what, state: call.state() })
        }
    }

    /// Lets this call have the sound device, alone or with its conference.
    fn yield_device(&mut self, now: Instant, to: CallId) {
        if let Some(call) = self.calls.get(&to).filter(|call| self.uses_device(call)) {
            self.yield_device_to(now, Some(to), call.conference());
        }
    }

    /// Holds every other call at the sound device; those that are not answered yet will be on hold when they are. Other
    /// conferences go on without the device.
    pub(crate) fn yield_device_to(
        &mut self,
        now: Instant,
        to: Option<CallId>,
        conference: Option<ConferenceId>,
    ) {
        self.conferences.yield_device(conference);
        let others: Vec<CallId> = self
            .calls
            .values()
            .filter(|call| Some(call.id) != to && call.seat.is_none() && self.uses_device(call))
            .filter(|call| can_be_held(call.phase))
            .map(|call| call.id)
            .collect();
        for id in others {
            self.set_hold(now, id, true);
        }
    }

    /// The wish takes effect here at once; the peer is told by re-INVITE, as soon as one is possible.
    pub(crate) fn set_hold(&mut self, now: Instant, id: CallId, hold: bool) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.local_hold != hold) else { return };
        let before = call.state();
        call.local_hold = hold;
        self.apply_agreement(now, id);
        self.explain_change(id, before, Reason::Local);
        self.tell_news(now, id);
    }

    /// Gives the reason for what has become of a call's state since it was `before`.
    pub(crate) fn explain_change(&mut self, id: CallId, before: CallState, reason: Reason) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.state() != before {
            call.reason = reason;
        }
        self.touched.insert(id);
    }

    /// Tells the peer about holding, resuming, another codec that is wanted, what is new of ICE or where we are now, if it
    /// is due and nothing else is under way: by re-INVITE, or by UPDATE before the answer, where the peer takes it.
    pub(crate) fn tell_news(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let due = call.told_hold != call.local_hold
            || call.negotiation.has_wish()
            || call.has_ice_news()
            || call.has_moved_untold();
        if due && !call.whereabouts.is_patient() && matches!(call.phase, Phase::Early(_) | Phase::Active) {
            self.offer_anew(now, id);
        }
        self.trickle(now, id);
    }

    /// Offers what this side wants now, if nothing else is under way.
    pub(crate) fn offer_anew(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(local) = call.local() else { return };
        // While another offer is under way: tried again when that is over.
        if call.offering != Offering::Idle || !self.endpoint.can_offer(call.session) {
            return;
        }
        let told_before = call.told_hold;
        let offer = call.offer(local);
        call.whereabouts.telling();
        call.offering = Offering::Outstanding { told_before };
        // A session that ended meanwhile has reported it.
        let _ = self.endpoint.offer(now, call.session, offer);
        self.drain_endpoint();
        // What is offered may come from now on.
        self.apply_agreement(now, id);
    }

    /// Answers an inbound call that is not taken.
    pub(crate) fn refuse(
        &mut self,
        now: Instant,
        id: CallId,
        status: u16,
        warning: Option<(u16, String)>,
        why: Reason,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.ending = Some(why);
        call.sip_status = status;
        if let Some(status) = StatusCode::new(status) {
            // A session that is gone already has reported its end.
            let _ = self.endpoint.reject(now, call.session, status, warning);
        }
        self.drain_endpoint();
    }

    /// Ends the session; the call ends with `why`, or with what the session's end means.
    pub(crate) fn hang_up_for(&mut self, now: Instant, id: CallId, why: Option<Reason>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.ending = why;
        // A session that is gone already has reported its end.
        let _ = match why.and_then(reason::told) {
            Some(told) => self.endpoint.hangup_for(now, call.session, told),
            None => self.endpoint.hangup(now, call.session),
        };
        self.drain_endpoint();
    }

    /// Answers the INVITE as soon as there are media sockets.
    pub(crate) fn begin_accepting(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.phase = Phase::Accepting;
        self.touched.insert(id);
        match call.media {
            Media::Bound(_) => self.media_ready(now, id),
            _ => self.bind_media(id),
        }
    }

    /// Asks for media sockets, unless that is done already.
    pub(crate) fn bind_media(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Media::Wanted(address) = call.media else { return };
        call.media = Media::Binding;
        let peer = call.negotiation.offered_address().filter(|address| !address.is_unspecified());
        self.outputs.push_back(Output::BindMedia { call: id, address, peer });
    }

    /// The call whose stream is on this port.
    pub(crate) fn call_at(&self, port: PortId) -> Option<CallId> {
        self.by_port.get(&port).copied()
    }
}

/// Answered calls, and those that may be answered at any moment.
fn can_be_held(phase: Phase) -> bool {
    matches!(phase, Phase::Dialing | Phase::Ringing | Phase::Early(_) | Phase::Accepting | Phase::Active)
}
