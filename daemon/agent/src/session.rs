//! Session events: what signalling reports, and what becomes of the calls.

use std::net::IpAddr;
use std::time::Instant;

use voipd_media::{LocalMedia, NegotiationError};
use voipd_sip::endpoint::{Event, Flow, Incoming, SessionEnd, SessionId};
use voipd_sip::message::StatusCode;
use voipd_sip::uri::{NameAddr, Uri};

use crate::agent::Agent;
use crate::call::{EarlySound, Media, Offering, Phase, Sound};
use crate::digits::DtmfQueue;
use crate::output::{Output, Weight};
use crate::reason;
use crate::view::{CallDirection, CallId, Reason};

impl Agent {
    pub(crate) fn incoming(&mut self, now: Instant, incoming: Incoming) {
        let remote = incoming.flow.remote;
        let Some(account) = self.accounts.for_incoming(&incoming) else {
            let why = || format!("turned away a call from {remote}: it fits no account");
            return self.turn_away(now, incoming.session, StatusCode::NOT_FOUND, Some(&why));
        };
        let echo = self.is_echo(account);
        if self.do_not_disturb && !echo {
            return self.turn_away(now, incoming.session, StatusCode::TEMPORARILY_UNAVAILABLE, None);
        }
        let most = self.config.max_calls;
        if self.live_calls() >= most {
            let why = || format!("turned away a call from {remote}: there are {most} calls already");
            return self.turn_away(now, incoming.session, StatusCode::BUSY_HERE, Some(&why));
        }
        let Some(Event::Incoming(incoming)) = self.await_names(now, Event::Incoming(incoming)) else {
            return;
        };
        let id = self.add_call(
            now,
            account,
            incoming.session,
            CallDirection::Inbound,
            Phase::Incoming { silenced: echo },
            incoming.from,
            Media::Wanted(incoming.flow.local.ip()),
        );
        let known = self.known(account, remote.ip(), incoming.caller);
        let policy =
            self.accounts.get(account).map(|account| account.settings.ice.policy).unwrap_or_default();
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.known = known;
        call.faces = Some(remote.ip());
        if echo {
            call.sound = Sound::Echo;
        }
        match incoming.offer.map(|offer| call.negotiation.handle_offer(&offer)) {
            None => call.offering = Offering::InAnswer,
            Some(Ok(())) => {}
            Some(Err(error)) => return self.refuse_offer(now, id, &error),
        }
        if call.offers_no_relay(policy) {
            let why = "this side takes media by relays alone, and the offer has no ICE".to_owned();
            return self.refuse(now, id, 488, Some((399, why)), Reason::Policy);
        }
        let offers_first = incoming.reliable && call.offering == Offering::InAnswer;
        let gathers_early = call.wants_ice_early(policy);
        self.note(Weight::Info, Some(id), "call comes in".to_owned());
        if offers_first {
            // The caller hears ringing when the offer that goes with it can be made.
            self.bind_media(id);
        } else {
            // The session was made a moment ago; if it is gone, its end is reported next.
            let _ = self.endpoint.ring(now, incoming.session, None);
            self.drain_endpoint();
        }
        if gathers_early {
            self.bind_media(id);
        }
        if echo {
            self.begin_accepting(now, id);
        }
    }

    /// Refuses what becomes no call.
    fn turn_away(
        &mut self,
        now: Instant,
        session: SessionId,
        status: StatusCode,
        why: Option<&dyn Fn() -> String>,
    ) {
        if let Some(text) = why.and_then(|why| self.complaints.add(now, why)) {
            self.note(Weight::Info, None, text);
        }
        // Nothing else knows this session.
        let _ = self.endpoint.reject(now, session, status, None);
        self.drain_endpoint();
    }

    /// The call ends at once, and can be read as any other.
    fn refuse_offer(&mut self, now: Instant, id: CallId, error: &NegotiationError) {
        let (status, warning) = error.status();
        self.note(Weight::Warning, Some(id), format!("the peer's offer cannot be taken: {error}"));
        self.refuse(now, id, status, Some((warning, error.to_string())), reason::of_negotiation(error));
    }

    pub(crate) fn offer_wanted(&mut self, now: Instant, session: SessionId, flow: Flow) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        // After a redirection: what is bound stays, unless another network is used now and nothing streams yet.
        let gone =
            |address: IpAddr| self.network.as_ref().is_some_and(|network| network.media.is_gone(address));
        let kept = call.local().filter(|local| {
            local.address == flow.local.ip() || (call.is_streaming() && !gone(local.address))
        });
        if let Some(local) = kept {
            let offer = call.first_offer(local);
            // A session that ended meanwhile has reported it.
            let _ = self.endpoint.send_invite(now, session, offer);
            return self.drain_endpoint();
        }
        call.faces = Some(flow.remote.ip());
        if call.is_streaming() {
            return self.move_media(id, flow.local.ip());
        }
        call.media = Media::Binding;
        // Where the peer's media is, only its answer will tell.
        self.outputs.push_back(Output::BindMedia { call: id, address: flow.local.ip(), peer: None });
    }

    pub(crate) fn media_bound(&mut self, now: Instant, id: CallId, result: Result<LocalMedia, String>) {
        if self.media_moved(now, id, &result) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.media, Media::Binding)) else {
            self.outputs.push_back(Output::CloseMedia { call: id, ports: Vec::new() });
            return;
        };
        let local = match result {
            Ok(local) => local,
            Err(why) => {
                call.media = Media::None;
                let inbound = call.direction == CallDirection::Inbound;
                self.note(Weight::Warning, Some(id), why);
                match inbound {
                    true => self.refuse(now, id, 500, None, Reason::Network),
                    false => self.hang_up_for(now, id, Some(Reason::Network)),
                }
                return;
            }
        };
        call.media = Media::Bound(local);
        self.end_ice(now, id);
        if let Some(call) = self.calls.get_mut(&id) {
            call.advertised = None;
        }
        self.begin_ice(now, id, local);
        self.media_ready(now, id);
    }

    /// Answers the INVITE of a call that is accepted.
    pub(crate) fn answer_invite(&mut self, now: Instant, id: CallId, local: LocalMedia) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let description = match call.offering {
            Offering::InAnswer => Ok(call.offer(local)),
            _ if call.negotiation.has_their_offer() => call.answer(local),
            // What we offered while it rang is answered, or will be.
            _ => Ok(Vec::new()),
        };
        match description {
            Ok(description) => {
                let _ = self.endpoint.accept(now, call.session, description);
                self.drain_endpoint();
                self.activate(now, id, Reason::Local);
            }
            Err(error) => self.refuse_offer(now, id, &error),
        }
    }

    /// A 3xx is followed.
    pub(crate) fn redirected(&mut self, now: Instant, session: SessionId, target: Uri) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let text = if call.peer.uri == target {
            "the network has changed: calling again".to_owned()
        } else {
            call.peer = NameAddr::new(target);
            format!("redirected: calling {}", call.peer.uri)
        };
        call.start_over();
        if let Some(ice) = &mut call.ice {
            ice.forget_peer();
            call.trickle.forget_peer();
            ice.agent_mut().restart(now, None);
        }
        self.hush(id);
        self.touched.insert(id);
        self.note(Weight::Info, Some(id), text);
    }

    pub(crate) fn progress(
        &mut self,
        now: Instant,
        session: SessionId,
        status: StatusCode,
        sdp: Option<&[u8]>,
        dialog: &str,
    ) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let answer = sdp.map(|sdp| call.take_first_answer(sdp));
        let agreed = matches!(answer, Some(Ok(())));
        if agreed {
            call.forks.hear(dialog);
        }
        call.sip_status = status.get();
        let before = call.state();
        let rings = status == StatusCode::RINGING;
        let early = Phase::Early(if rings { EarlySound::Missing } else { EarlySound::Expected });
        let moved = call.forks.has_moved();
        call.phase = match call.phase {
            Phase::Dialing | Phase::Ringing if agreed => early,
            Phase::Dialing if rings => Phase::Ringing,
            // Nothing has been heard of this callee yet, whatever came from the one before.
            Phase::Early(_) if moved && (agreed || rings) => early,
            Phase::Early(EarlySound::Expected) if rings && call.forks.hears(dialog) => early,
            phase => phase,
        };
        if agreed {
            self.apply_agreement(now, id);
        }
        self.explain_change(id, before, Reason::Remote);
        if let Some(Err(error)) = answer {
            let text = format!("the session description in {} cannot be taken: {error}", status.get());
            self.note(Weight::Info, Some(id), text);
        }
        self.tell_news(now, id);
    }

    pub(crate) fn answered(
        &mut self,
        now: Instant,
        session: SessionId,
        sdp: Option<&[u8]>,
        peer: NameAddr,
        asserted: Vec<NameAddr>,
    ) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let tag = peer.tag().unwrap_or_default();
        let goes_on = call.forks.hears(tag);
        call.forks.hear(tag);
        call.known.asserted = asserted.into_iter().next();
        if peer.display_name.is_some() {
            call.peer.display_name = peer.display_name;
        }
        let result = match sdp {
            Some(sdp) => call.take_first_answer(sdp),
            // The early answer was the answer (RFC 3261 section 13.2.1): that of the fork that has won.
            None if goes_on && call.agreement().is_some() => Ok(()),
            None => Err(missing()),
        };
        match result {
            Ok(()) => self.activate(now, id, Reason::Remote),
            Err(error) => {
                self.note(Weight::Warning, Some(id), format!("the peer's answer cannot be taken: {error}"));
                self.hang_up_for(now, id, Some(reason::of_negotiation(&error)));
            }
        }
    }

    /// The call is answered: sound starts.
    fn activate(&mut self, now: Instant, id: CallId, reason: Reason) {
        let answered_at = self.unix_micros(now);
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.phase = Phase::Active;
        call.reason = reason;
        call.sip_status = StatusCode::OK.get();
        call.ring_deadline = None;
        call.invited = None;
        call.answered_at = answered_at;
        let codec = call.agreement().map_or("", |agreement| agreement.send.codec.name());
        self.note(Weight::Info, Some(id), format!("call answered: {codec}"));
        self.open_ports(id);
        self.touched.insert(id);
        self.apply_agreement(now, id);
        self.catch_up(id);
        self.remember_trickling(id);
        self.tell_news(now, id);
    }

    pub(crate) fn confirmed(&mut self, now: Instant, session: SessionId, sdp: Option<&[u8]>) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        if matches!(call.offering, Offering::InAnswer | Offering::InRinging) {
            call.offering = Offering::Idle;
            let before = call.state();
            let waiting = call.phase != Phase::Active;
            match sdp.map_or_else(|| Err(missing()), |sdp| call.negotiation.handle_answer(sdp)) {
                Ok(_) => {
                    self.apply_agreement(now, id);
                    self.explain_change(id, before, Reason::Remote);
                }
                Err(error) => {
                    call.negotiation.withdraw_offer();
                    let lost = call.agreement().is_none();
                    let text = format!("the peer's answer in ACK or PRACK cannot be taken: {error}");
                    self.note(Weight::Warning, Some(id), text);
                    if waiting {
                        return self.refuse_offer(now, id, &error);
                    }
                    if lost {
                        return self.hang_up_for(now, id, Some(reason::of_negotiation(&error)));
                    }
                }
            }
        }
        self.tell_news(now, id);
    }

    pub(crate) fn offered(&mut self, now: Instant, session: SessionId, sdp: Option<&[u8]>) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let before = call.state();
        let kept = (call.negotiation.clone(), call.offering, call.told_hold);
        let answer = match (call.local(), sdp) {
            // Not before there is media: it was bound before the first 2xx.
            (None, _) => Err(NegotiationError::Unexpected),
            (Some(local), None) => {
                call.offering = Offering::InAnswer;
                Ok(call.offer(local))
            }
            (Some(local), Some(sdp)) => call.negotiation.handle_offer(sdp).and_then(|()| {
                call.hear_ice(now);
                call.answer(local)
            }),
        };
        if answer.is_ok() && call.whereabouts.is_due() {
            // Our answer tells it, and our Contact with it.
            call.whereabouts.telling();
            call.whereabouts.heard();
        }
        let answer = answer.map_err(|error| {
            self.note(Weight::Warning, Some(id), format!("the peer's new offer cannot be taken: {error}"));
            StatusCode::new(error.status().0).unwrap_or(StatusCode::NOT_ACCEPTABLE_HERE)
        });
        // An offer that was taken back meanwhile, or whose callee is not heard any more, has changed nothing.
        if self.endpoint.answer_offer(now, session, answer).is_err()
            && let Some(call) = self.calls.get_mut(&id)
        {
            (call.negotiation, call.offering, call.told_hold) = kept;
        }
        self.drain_endpoint();
        self.apply_agreement(now, id);
        self.explain_change(id, before, Reason::Remote);
        // What is due still, where the peer's offer came between and was refused.
        self.tell_news(now, id);
    }

    /// The session timer wants an offer that changes nothing.
    pub(crate) fn refresh_wanted(&mut self, now: Instant, session: SessionId) {
        if let Some(id) = self.by_session.get(&session).copied() {
            self.offer_anew(now, id);
        }
    }

    pub(crate) fn offer_done(
        &mut self,
        now: Instant,
        session: SessionId,
        result: Result<Option<Vec<u8>>, StatusCode>,
    ) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let before = call.state();
        let offering = std::mem::replace(&mut call.offering, Offering::Idle);
        let result_status = result.as_ref().err().copied();
        let failed = match result {
            Ok(Some(sdp)) => call.negotiation.handle_answer(&sdp).err().map(|error| error.to_string()),
            Ok(None) => Some(missing().to_string()),
            Err(StatusCode::REQUEST_PENDING) => {
                call.whereabouts.unheard();
                // The peer's own offer came between; our answer to it, or another offer, will tell.
                let wish = call.negotiation.wish();
                call.negotiation.withdraw_offer();
                call.ice_news |= call.ice.as_ref().is_some_and(|ice| ice.is_restarting());
                wish.map(|codec| call.negotiation.prefer(codec));
                if let Offering::Outstanding { told_before } = offering {
                    call.told_hold = told_before;
                }
                None
            }
            Err(status) if is_undelivered(status) && call.whereabouts.undelivered(now) => {
                let wish = call.negotiation.wish();
                call.negotiation.withdraw_offer();
                wish.map(|codec| call.negotiation.prefer(codec));
                None
            }
            Err(status) => Some(format!("refused with {}", status.get())),
        };
        let undelivered = result_status.filter(|status| is_undelivered(*status));
        if undelivered.is_none() {
            call.whereabouts.heard();
        }
        // What was refused is not tried again by itself: the peer would refuse it again.
        if let Some(why) = failed {
            call.negotiation.withdraw_offer();
            self.note(Weight::Warning, Some(id), format!("the peer has not taken our new offer: {why}"));
        } else if let Some(status) = undelivered {
            let text = format!("our new offer has not reached the peer ({}): trying again", status.get());
            self.note(Weight::Info, Some(id), text);
        }
        self.apply_agreement(now, id);
        self.explain_change(id, before, Reason::Remote);
        self.tell_news(now, id);
    }

    pub(crate) fn session_ended(&mut self, now: Instant, session: SessionId, end: &SessionEnd) {
        let Some(id) = self.by_session.remove(&session) else { return };
        let ended_at = self.unix_micros(now);
        self.say_goodbye(now, id);
        self.end_ice(now, id);
        let at_device = self.calls.get(&id).is_some_and(|call| self.uses_device(call));
        let Some(call) = self.calls.get_mut(&id) else { return };
        let listens = call.direction == CallDirection::Outbound && at_device && !call.local_hold;
        call.seat = None;
        let answered = call.answered_at != 0;
        let reason =
            call.ending.take().unwrap_or_else(|| reason::of_session_end(end, call.direction, answered));
        call.phase = Phase::Ended { at: now, reason };
        call.reason = reason;
        call.sip_status = end.status.unwrap_or(call.sip_status);
        call.q850 = end.q850.unwrap_or(0);
        call.contacts.clone_from(&end.contacts);
        call.ended_at = ended_at;
        call.ring_deadline = None;
        call.next_check = None;
        call.dtmf = DtmfQueue::default();
        let signal = reason::signal(reason, call.sip_status).filter(|_| listens && !answered);
        let had_media = !matches!(call.media, Media::None | Media::Wanted(_));
        call.media = Media::None;
        let mut ports = vec![call.stream_port];
        ports.extend(call.ports.drain(..).map(|port| port.port));
        self.by_port.remove(&call.stream_port);
        if let Some(signal) = signal {
            let tone = self.country_of(self.calls.get(&id)).tone(signal);
            self.routing.sound_failure(now, tone);
        }
        for port in &ports {
            self.routing.forget(*port);
        }
        if had_media || ports.len() > 1 {
            self.outputs.push_back(Output::CloseMedia { call: id, ports });
        }
        self.touched.insert(id);
        let phrase = end.text.as_deref().map(|text| format!(" ({text})")).unwrap_or_default();
        self.note(Weight::Info, Some(id), format!("call ended: {}{phrase}", reason.name()));
    }
}

/// The peer was not reached, and may come back: nobody answered, flow failed, temporarily unavailable, and servers that are
/// not in order.
fn is_undelivered(status: StatusCode) -> bool {
    matches!(status.get(), 408 | 430 | 480 | 500 | 502..=504)
}

/// A message lacks the answer that it must carry.
fn missing() -> NegotiationError {
    NegotiationError::Malformed("there is none".to_owned())
}
