//! ICE in calls: when it begins, what waits for it, what becomes of its outputs, and getting back a way that was lost.

use std::net::SocketAddr;
use std::time::Instant;

use rand_chacha::rand_core::Rng;
use voipd_media::LocalMedia;
use voipd_media::ice::PeerIce;
use voipd_nat::ice::{Output as IceOutput, State, StreamId};

use crate::agent::Agent;
use crate::call::{Call, Media, Offering, Phase};
use crate::error::AgentError;
use crate::ice::{Beginning, CallIce, RtcpWay, is_abroad};
use crate::ice_settings::IcePolicy;
use crate::output::{Output, Weight};
use crate::view::{CallDirection, CallId, Reason};

impl Agent {
    /// A packet on a media socket of a call that is neither RTP nor RTCP (RFC 7983): STUN, or what a relay passes on.
    /// `at`: the socket's address.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        call: CallId,
        at: SocketAddr,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some(ice) = self.ice_of(call) {
            ice.agent_mut().handle_datagram(now, at, source, bytes);
            self.drain_ice(now, call);
        }
        self.settle(now);
    }

    /// The answer to [`Output::OpenRelay`], and whatever comes of the connection afterwards.
    pub fn handle_relay(&mut self, now: Instant, call: CallId, stream: StreamId, happened: RelayStream<'_>) {
        if let Some(ice) = self.ice_of(call) {
            let agent = ice.agent_mut();
            match happened {
                RelayStream::Opened => agent.handle_stream_opened(now, stream),
                RelayStream::Message(bytes) => agent.handle_stream_message(now, stream, bytes),
                RelayStream::Closed(reason) => agent.handle_stream_closed(now, stream, reason),
            }
            self.drain_ice(now, call);
        }
        self.settle(now);
    }

    /// Finds another way for a call's media, because the one that it has may not lead there any more: an ICE restart,
    /// told to the peer by a re-INVITE. Media goes on by the old way until the new one is found.
    ///
    /// # Errors
    /// There is no such call, it is not answered, or it does not use ICE.
    pub fn restart_media(&mut self, now: Instant, id: CallId) -> Result<(), AgentError> {
        self.in_phase(id, "finding another way", |phase| phase == Phase::Active)?;
        let call = self.calls.get(&id).ok_or(AgentError::NoSuchCall(id.0))?;
        if !call.uses_ice() {
            return Err(AgentError::NoIce(id.0));
        }
        self.restart_ice(now, id, None);
        self.settle(now);
        Ok(())
    }

    /// Whether a call has a use for media sockets at further addresses of the machine: with ICE, unless it shall not tell
    /// them. To be asked when [`Output::BindMedia`] or [`Output::MoveMedia`] comes.
    pub fn wants_sockets_beside(&self, id: CallId) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        let policy = self.accounts.get(call.account).map(|account| account.settings.ice.policy);
        policy == Some(IcePolicy::Auto)
            && match &call.ice {
                Some(_) => true,
                None => !call.is_streaming() && self.wants_ice(call),
            }
    }

    /// Whether a call's peer is told by ICE where to send, so that it hears of addresses also when they are known late. To
    /// be asked when [`Output::BindMedia`] comes.
    pub fn offers_ice(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| self.wants_ice(call))
    }

    pub(crate) fn wants_ice(&self, call: &Call) -> bool {
        let Some(account) = self.accounts.get(call.account) else { return false };
        let settings = &account.settings.ice;
        match (settings.policy, call.negotiation.offered_ice()) {
            (IcePolicy::Off, _) => false,
            (_, Some(theirs)) => matches!(theirs, PeerIce::Offered(_) | PeerIce::Mismatch),
            (IcePolicy::Relay, None) => true,
            // Nothing but the machine's own addresses is hardly more than an offer says in any case.
            (IcePolicy::Auto, None) => self.servers.has_any(settings),
        }
    }

    pub(crate) fn media_beside(&mut self, id: CallId, beside: Vec<LocalMedia>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(ice) = &mut call.ice {
            ice.set_beside(beside.clone());
        }
        call.beside = beside;
    }

    /// Media sockets are bound, or were: gathering begins, where the account wants it and the peer may.
    pub(crate) fn begin_ice(&mut self, now: Instant, id: CallId, local: LocalMedia) {
        let Some(call) = self.calls.get(&id).filter(|call| self.wants_ice(call)) else { return };
        let Some(account) = self.accounts.get(call.account) else { return };
        let settings = &account.settings.ice;
        let theirs = call.negotiation.offered_ice();
        let beside = call.beside.clone();
        let families: Vec<bool> =
            [&local].into_iter().chain(&beside).map(|local| local.address.is_ipv4()).collect();
        let beginning = Beginning {
            policy: settings.policy,
            local,
            beside,
            offers: theirs.is_none(),
            muxed: call.negotiation.offered_rtcp_mux() == Some(true),
            abroad: call.faces.is_none_or(is_abroad),
            stun: self.servers.stun_for(settings, &families),
            relays: self.servers.relays_for(settings, &families),
            seed: [0; 32],
            later: self.peer_takes_later(id),
        };
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.ice = Some(Box::new(CallIce::new(now, Beginning { seed, ..beginning })));
        let session = call.session;
        self.endpoint.set_trickle(session, true);
        self.offer_mapped(now, id);
        self.drain_ice(now, id);
    }

    /// What a router has mapped is an address at which ICE may be reached, also where the mapping comes late.
    pub(crate) fn offer_mapped(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((mapped, ice)) = call.mapped.zip(call.ice.as_mut()) else { return };
        call.trickle.expect_mapping(false);
        for (is_rtp, port) in [(true, mapped.rtp_port), (false, mapped.rtcp_port)] {
            let base = ice.base(is_rtp);
            ice.agent_mut().add_mapped(now, base, SocketAddr::new(mapped.address, port));
        }
        self.drain_ice(now, id);
    }

    /// Media sockets are bound and, where ICE is wanted, candidates are there, or not worth waiting for any more: what
    /// waited for them goes out.
    pub(crate) fn media_ready(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(local) = call.local() else { return };
        if call.ice.as_ref().is_some_and(|ice| ice.is_waiting()) {
            return;
        }
        if call.ice.as_ref().is_some_and(|ice| ice.lacks_relay()) && call.phase != Phase::Active {
            return self.give_up_without_relay(now, id);
        }
        match call.phase {
            Phase::Dialing | Phase::Ringing | Phase::Early(_) => {
                let offer = call.first_offer(local);
                // A session that ended meanwhile has reported it.
                let _ = self.endpoint.send_invite(now, call.session, offer);
                self.drain_endpoint();
            }
            Phase::Incoming { .. } if call.offering == Offering::InAnswer => {
                call.offering = Offering::InRinging;
                let offer = call.offer(local);
                let _ = self.endpoint.ring(now, call.session, Some(offer));
                self.drain_endpoint();
            }
            Phase::Accepting => self.answer_invite(now, id, local),
            Phase::Active => self.tell_news(now, id),
            Phase::Incoming { .. } | Phase::Ended { .. } => {}
        }
    }

    fn give_up_without_relay(&mut self, now: Instant, id: CallId) {
        let text =
            "no relay has given an address, and the account uses nothing else (ice = \"relay\")".to_owned();
        self.note(Weight::Warning, Some(id), text);
        let inbound = self.calls.get(&id).is_some_and(|call| call.direction == CallDirection::Inbound);
        match inbound {
            true => self.refuse(now, id, 500, None, Reason::Network),
            false => self.hang_up_for(now, id, Some(Reason::Network)),
        }
    }

    /// What was agreed says whether the peer takes part; called before the stream follows it.
    pub(crate) fn agree_on_ice(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (Some(ice), Some(agreement)) = (&mut call.ice, call.negotiation.agreement()) else { return };
        match &agreement.ice {
            PeerIce::Offered(remote) => {
                if call.forks.has_moved() {
                    ice.forget_peer();
                    call.trickle.forget_peer();
                }
                ice.agree(now, remote, agreement.rtcp_mux, &mut call.trickle);
                self.drain_ice(now, id);
            }
            // Another callee may yet answer otherwise.
            _ if call.phase != Phase::Active => {}
            without => {
                let text = match without {
                    PeerIce::Mismatch => "somebody on the way has changed the peer's media address: no ICE",
                    PeerIce::Refused => {
                        "the peer says that somebody on the way has changed our media address: no ICE"
                    }
                    PeerIce::Absent | PeerIce::Offered(_) => "the peer knows no ICE",
                };
                let hides = ice.hides();
                self.note(Weight::Info, Some(id), text.to_owned());
                if hides {
                    return self.hang_up_for(now, id, Some(Reason::Policy));
                }
                self.end_ice(now, id);
                // The offer may have gone out before it was known as whom the Internet sees us.
                if let Some(call) = self.calls.get_mut(&id)
                    && call.described_media.zip(call.advertised).is_some_and(|(told, now)| told != now)
                {
                    call.whereabouts.due();
                }
            }
        }
    }

    /// Gives back what the call's ICE has; its media goes the plain way from now on.
    pub(crate) fn end_ice(&mut self, now: Instant, id: CallId) {
        if let Some(ice) = self.ice_of(id) {
            ice.agent_mut().close(now);
            self.drain_ice(now, id);
        }
        if let Some(call) = self.calls.get_mut(&id)
            && let Some(ice) = call.ice.take()
        {
            call.advertised = Some(ice.default_media());
        }
    }

    /// Everything that waited for this moment.
    pub(crate) fn ice_timeout(&mut self, now: Instant, id: CallId) {
        let Some(ice) = self.ice_of(id) else { return };
        if ice.is_due(now) {
            ice.agent_mut().handle_timeout(now);
            self.drain_ice(now, id);
        }
        let Some(ice) = self.ice_of(id) else { return };
        if ice.is_late(now) && ice.stop_waiting() {
            self.media_ready(now, id);
        }
        if self.calls.get_mut(&id).is_some_and(|call| call.trickle.close(now)) {
            self.trickle(now, id);
        }
        if self.ice_of(id).is_some_and(|ice| ice.take_late(now))
            && let Some(call) = self.calls.get_mut(&id)
        {
            if call.trickle.is_closed() && call.ice.as_ref().is_some_and(|ice| ice.peer_trickles()) {
                // It has been told that nothing follows, and would not look at more (RFC 8838 section 14).
                return self.restart_ice(now, id, None);
            }
            call.ice_news = true;
            self.tell_news(now, id);
        }
        if self.ice_of(id).is_some_and(|ice| ice.take_recovery(now)) {
            self.note(Weight::Info, Some(id), "looking for another way for the media".to_owned());
            self.restart_ice(now, id, None);
        }
    }

    /// `local`: the sockets are others.
    pub(crate) fn restart_ice(&mut self, now: Instant, id: CallId, local: Option<LocalMedia>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(ice) = &mut call.ice else { return };
        let later = ice.peer_trickles() && !call.trickle.is_refused();
        ice.restart(now, local, later);
        call.ice_news = true;
        self.drain_ice(now, id);
        self.media_ready(now, id);
    }

    fn ice_of(&mut self, id: CallId) -> Option<&mut CallIce> {
        self.calls.get_mut(&id)?.ice.as_deref_mut()
    }

    /// Carries out what a call's ICE agent wants.
    pub(crate) fn drain_ice(&mut self, now: Instant, id: CallId) {
        let mut ready = false;
        let mut concluded = false;
        let mut changed = false;
        loop {
            let Some(call) = self.calls.get_mut(&id) else { return };
            let Some(ice) = call.ice.as_deref_mut() else { return };
            match ice.agent_mut().poll_output() {
                IceOutput::Timeout(at) => {
                    ice.wakes_at(now, at);
                    break;
                }
                IceOutput::Transmit { base, remote, bytes } => {
                    self.outputs.push_back(Output::SendStun { call: id, from: base, remote, bytes });
                }
                IceOutput::OpenStream { stream, server } => {
                    self.outputs.push_back(Output::OpenRelay { call: id, stream, server });
                }
                IceOutput::TransmitStream { stream, bytes } => {
                    self.outputs.push_back(Output::SendRelay { call: id, stream, bytes });
                }
                IceOutput::CloseStream { stream } => {
                    self.outputs.push_back(Output::CloseRelay { call: id, stream });
                }
                // Descriptions take all that there are.
                IceOutput::Candidate(_) => ice.note_late(now, &call.trickle),
                IceOutput::GatheringComplete => ready |= ice.stop_waiting(),
                IceOutput::Selected(pair) => {
                    ice.select(pair);
                    changed = true;
                }
                IceOutput::Withdrawn { component } => {
                    ice.withdraw(component);
                    changed = true;
                }
                IceOutput::RelayFailed { name, error } => {
                    self.note(Weight::Warning, Some(id), format!("{name}: {error}"));
                    self.relay_failed(now, &name, &error.to_string());
                }
                IceOutput::State(state) => {
                    ice.state_changed(now, state);
                    changed = true;
                    concluded |= state == State::Connected;
                    self.tell_ice_state(id, state);
                }
                IceOutput::Received { component: _, bytes } => self.early_packet(now, id, &bytes),
            }
        }
        if changed {
            self.touched.insert(id);
            self.follow_agreement(now, id);
        }
        if ready {
            self.media_ready(now, id);
        }
        if concluded {
            self.conclude(now, id);
        }
        self.trickle(now, id);
    }

    /// A pair is nominated: the peer may have to hear of it in another offer.
    fn conclude(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (Some(ice), Some(agreement)) = (&call.ice, call.negotiation.agreement()) else { return };
        if ice.needs_offer(call.described_media, agreement) {
            call.ice_news = true;
            self.tell_news(now, id);
        }
    }

    fn tell_ice_state(&mut self, id: CallId, state: State) {
        match state {
            State::Failed => {
                let ice = self.calls.get(&id).and_then(|call| call.ice.as_ref());
                let text = match ice.is_some_and(|ice| ice.sends_plainly()) {
                    true => "no way to the peer's media was found by ICE: sending where it says that it is",
                    false => "no other way to the peer's media was found",
                };
                self.note(Weight::Warning, Some(id), text.to_owned());
            }
            State::Lost => {
                let text = "the peer does not answer on the way that its media takes";
                self.note(Weight::Warning, Some(id), text.to_owned());
            }
            State::New | State::Checking | State::Connected => {}
        }
    }

    /// What the peer sends by a relay that has no channel for it: before one is set up, or before the peer knows which way
    /// we have taken.
    fn early_packet(&mut self, now: Instant, id: CallId, bytes: &[u8]) {
        let is_rtcp = bytes.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let source = self.calls.get(&id).and_then(Call::agreement).map(|agreement| agreement.remote_rtcp);
        if let Some(source) = source.filter(|_| is_rtcp) {
            return self.rtcp(now, id, source, bytes);
        }
        let is_rtp = !is_rtcp && bytes.first().is_some_and(|first| (128..=191).contains(first));
        if let Some(call) = self.calls.get(&id).filter(|call| is_rtp && call.is_streaming()) {
            let bytes = bytes.to_vec();
            self.outputs.push_back(Output::PlayPacket { call: id, port: call.stream_port, bytes });
        }
    }

    /// Sends an RTCP packet by the way that the call's media takes; `plain`: where it would go without ICE.
    pub(crate) fn send_rtcp(&mut self, id: CallId, plain: Option<SocketAddr>, bytes: Vec<u8>) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some(agreement) = call.negotiation.agreement() else { return };
        let way = match &call.ice {
            Some(ice) => ice.rtcp_way(agreement, plain, bytes),
            None => plain.map(|remote| RtcpWay::Socket { remote, muxed: agreement.rtcp_mux, bytes }),
        };
        match way {
            Some(RtcpWay::Socket { remote, muxed, bytes }) => {
                self.outputs.push_back(Output::SendRtcp { call: id, remote, muxed, bytes });
            }
            Some(RtcpWay::Relay { stream, bytes }) => {
                self.outputs.push_back(Output::SendRelay { call: id, stream, bytes });
            }
            None => {}
        }
    }
}

/// What happened to a connection with a relay.
#[derive(Clone, Copy, Debug)]
pub enum RelayStream<'a> {
    /// It stands.
    Opened,
    /// A whole message came ([`voipd_nat::turn::frame`]).
    Message(&'a [u8]),
    /// It could not be made, or is over; why, for people to read.
    Closed(&'a str),
}

impl Call {
    /// The peer takes part in ICE.
    pub(crate) fn uses_ice(&self) -> bool {
        self.ice.is_some() && self.agreement().is_some_and(|agreement| agreement.ice.offered().is_some())
    }

    /// What the next description says about ICE; answers where media comes to without it.
    pub(crate) fn describe_ice(&mut self, local: LocalMedia) -> LocalMedia {
        let Some(ice) = &mut self.ice else {
            self.negotiation.set_ice(None);
            return self.advertised.unwrap_or(local);
        };
        // An answer says it where the offer does.
        let theirs = self.negotiation.offered_ice();
        let trickles = theirs.is_none_or(|ice| ice.offered().is_some_and(|ice| ice.trickle));
        self.negotiation.set_ice(Some(ice.describe(local, trickles, &mut self.trickle)));
        self.ice_news = false;
        ice.default_media()
    }

    /// The peer has to be told that ICE begins anew or has found more, and can be.
    pub(crate) fn has_ice_news(&self) -> bool {
        self.ice_news && self.ice.as_ref().is_some_and(|ice| !ice.is_waiting())
    }

    /// The peer wants media to be sent where this side's policy does not let it go.
    pub(crate) fn offers_no_relay(&self, policy: IcePolicy) -> bool {
        let theirs = self.negotiation.offered_ice();
        policy == IcePolicy::Relay && theirs.is_some_and(|ice| ice.offered().is_none())
    }

    /// Media sockets are wanted before the call is accepted, so that candidates are there when it is.
    pub(crate) fn wants_ice_early(&self, policy: IcePolicy) -> bool {
        policy != IcePolicy::Off
            && matches!(self.media, Media::Wanted(_))
            && self.negotiation.offered_ice().is_some_and(|ice| ice.offered().is_some())
    }

    /// Another offer of the peer's is going to be answered.
    pub(crate) fn hear_ice(&mut self, now: Instant) {
        if let (Some(ice), Some(theirs)) = (&mut self.ice, self.negotiation.offered_ice()) {
            ice.hear_offer(now, theirs);
        }
    }
}
