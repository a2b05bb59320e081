//! The endpoint: one user agent's transactions, dialogs, registrations and sessions behind one input and one output.
//!
//! Call one `handle_*` or application method, then drain [`Endpoint::poll_output`] until it answers
//! [`Output::Timeout`], before the next.

mod event;
mod interface;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::account::Account;
use crate::core::Core;
use crate::dispatch::Complaints;
use crate::dtmf_info::Digit;
use crate::faces::{Faces, Way};
use crate::message::StatusCode;
use crate::reason::Reason;
use crate::registration::Registration;
use crate::rendezvous::RelayOffer;
use crate::session::{Cx, Session, trickle};
use crate::stun;
use crate::uri::Uri;

pub use event::*;
pub use interface::*;

/// One user agent.
pub struct Endpoint {
    pub(crate) core: Core,
    pub(crate) registrations: BTreeMap<IdentityId, Registration>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that have not ended yet.
    pub(crate) live_sessions: usize,
    pub(crate) complaints: Complaints,
    last_identity: u32,
    last_session: u32,
}

impl Endpoint {
    /// A user agent that knows nobody yet. All its random values come from `seed`.
    pub fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        Self {
            core: Core::new(config, seed),
            registrations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            live_sessions: 0,
            complaints: Complaints::default(),
            last_identity: 0,
            last_session: 0,
        }
    }

    // Inputs.

    /// A datagram came: from `flow.remote`, to `flow.local`. It may be the answer to a STUN keep-alive.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        if stun::is_stun(bytes) {
            self.on_stun(now, flow, bytes);
        } else {
            self.on_message(now, flow, bytes);
        }
    }

    /// The far end of a connection has answered a ping ([`Frame::Pong`](crate::wire::stream::Frame::Pong)).
    pub fn handle_pong(&mut self, flow: Flow) {
        for registration in self.registrations.values_mut() {
            registration.on_pong(&mut self.core, flow);
        }
    }

    /// A message came whole on a stream ([`Frame::Message`](crate::wire::stream::Frame::Message)). `flow` names the
    /// connection, whoever made it.
    pub fn handle_message(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        self.on_message(now, flow, bytes);
    }

    /// The answer to [`Output::Resolve`]: flows in the order in which they are to be tried.
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, result: Result<Vec<Flow>, ResolveError>) {
        self.on_resolved(now, id, result);
    }

    /// The transport could not deliver on `flow` (ICMP port unreachable, no route), or its connection is lost. What can
    /// be sent in another way is sent so; of the rest those hear `error` who sent it.
    pub fn handle_failed(&mut self, now: Instant, flow: Flow, error: TransportError) {
        self.on_failed(now, flow, error);
    }

    /// A connection on `flow` does not come about yet, though it has been tried for [`PATIENCE`]. Requests that were only
    /// too large for datagrams go as datagrams now, calls that were given up meanwhile are never placed; all others go on
    /// waiting.
    pub fn handle_slow(&mut self, now: Instant, flow: Flow) {
        self.on_slow(now, flow);
    }

    /// A registration or a session relies on `flow`: what the far end sends comes on it, and nowhere else perhaps.
    pub fn uses(&self, flow: Flow) -> bool {
        let registered = |account: &Account| account.is_bound_to(flow);
        self.core.accounts.values().any(registered)
            || self.sessions.values().any(|session| session.uses(flow))
    }

    /// What servers and peers are reached by, or reach us by: what [`Faces::ways`] must name.
    pub fn ways(&self) -> BTreeSet<Way> {
        self.ways_in_use()
    }

    /// The network has changed: registrations are made anew from where their registrars are reached now, calls that are
    /// being placed are placed again, dialogs go on from their new addresses. Answers the sessions whose peers must be
    /// told where we are ([`Endpoint::offer`], as soon as that is possible).
    pub fn handle_network(&mut self, now: Instant, faces: &Faces) -> Vec<SessionId> {
        self.on_network(now, faces)
    }

    /// The time of [`Output::Timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.core.outbox.timers.pop_due(now) {
            self.on_timer(now, timer);
        }
    }

    /// The next thing to do; [`Output::Timeout`] when there is nothing.
    pub fn poll_output(&mut self) -> Output {
        self.core.outbox.pop()
    }

    // Identities and registrations.

    /// Adds an identity; it registers only when told to.
    pub fn add_identity(&mut self, identity: Identity) -> IdentityId {
        self.last_identity += 1;
        let id = IdentityId(self.last_identity);
        // What an identity that is being removed still says must not end the binding of its successor.
        let is_free = |user: &String| !self.core.accounts.values().any(|a| a.contact_user == *user);
        let contact_user = identity.contact_user.clone().filter(is_free);
        let contact_user = contact_user.unwrap_or_else(|| self.core.random.token(12));
        let registration = Registration::new(&mut self.core, id, identity.expires);
        self.registrations.insert(id, registration);
        self.core.accounts.insert(id, Account::new(identity, contact_user));
        id
    }

    /// Unregisters if registered (nobody waits for the answer) and forgets the identity; its sessions go on.
    pub fn remove_identity(&mut self, now: Instant, id: IdentityId) {
        self.with_registration(id, |registration, core| registration.forget(core, now));
    }

    /// Offers a relay of ours, from the next REGISTER on, to the friends at the meeting point that is the identity's
    /// registrar; `None` takes it back.
    pub fn offer_relay(&mut self, id: IdentityId, offer: Option<RelayOffer>) {
        if let Some(account) = self.core.accounts.get_mut(&id) {
            account.relay_offer = offer;
        }
    }

    /// Registers now and keeps registered.
    ///
    /// # Errors
    /// There is no such identity, or it has no registrar that could be reached ([`SessionError::WrongState`]).
    pub fn register(&mut self, now: Instant, id: IdentityId) -> Result<(), SessionError> {
        let account =
            self.core.accounts.get(&id).filter(|_| self.is_known(id)).ok_or(SessionError::NoSuchIdentity)?;
        if !account.can_register() {
            return Err(SessionError::WrongState);
        }
        self.with_registration(id, |registration, core| registration.register(core, now));
        Ok(())
    }

    /// Removes the binding and stops refreshing.
    ///
    /// # Errors
    /// There is no such identity.
    pub fn unregister(&mut self, now: Instant, id: IdentityId) -> Result<(), SessionError> {
        if !self.is_known(id) {
            return Err(SessionError::NoSuchIdentity);
        }
        self.with_registration(id, |registration, core| registration.unregister(core, now));
        Ok(())
    }

    /// Addresses that this identity's registrar and proxy resolved to.
    pub fn servers(&self, id: IdentityId) -> Vec<IpAddr> {
        self.core.accounts.get(&id).map(Account::servers).unwrap_or_default()
    }

    /// What the binding of this identity was made on.
    pub fn registered_on(&self, id: IdentityId) -> Option<Flow> {
        self.core.accounts.get(&id).and_then(Account::registered)
    }

    // Sessions.

    /// Begins an outbound session: resolves, then asks with [`Event::OfferWanted`]. A `tel:` target is sent as it is to
    /// the identity's own server, which knows what to do with numbers (RFC 3261 section 19.1.6).
    ///
    /// # Errors
    /// There is no such identity, there are too many sessions, the outbound proxy is no `sip:` or `sips:` URI, or the
    /// target is neither that nor a `tel:` URI of an identity with a server.
    pub fn invite(
        &mut self,
        now: Instant,
        identity: IdentityId,
        target: Uri,
        options: InviteOptions,
    ) -> Result<SessionId, SessionError> {
        let account = self.core.accounts.get(&identity).filter(|_| self.is_known(identity));
        let account = account.filter(|account| account.can_send()).ok_or(match account {
            Some(_) => SessionError::NotASipUri,
            None => SessionError::NoSuchIdentity,
        })?;
        let target = account.called(target).ok_or(SessionError::NotASipUri)?;
        if self.live_sessions >= self.core.config.max_sessions {
            return Err(SessionError::TooMany);
        }
        let id = self.next_session();
        let session = Session::outbound(&mut self.core, now, id, identity, target, options)?;
        self.begin_session(now, id, session);
        Ok(id)
    }

    /// Sends the INVITE that [`Event::OfferWanted`] asked for.
    ///
    /// # Errors
    /// No offer was asked for.
    pub fn send_invite(
        &mut self,
        now: Instant,
        session: SessionId,
        offer: Vec<u8>,
    ) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.send_invite(cx, offer))
    }

    /// 180, or 183 with early media: an answer, or an offer where the INVITE had none. What describes media is sent
    /// reliably where the caller can take that (RFC 3262), and an offer is left out where it cannot.
    ///
    /// # Errors
    /// The session is not an inbound one that waits for its answer; or the caller wants all provisional responses to be
    /// reliable ([`Incoming::reliable`]), has not offered, and neither does this first one.
    pub fn ring(
        &mut self,
        now: Instant,
        session: SessionId,
        early: Option<Vec<u8>>,
    ) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.ring(cx, early))
    }

    /// 200 with an answer (or an offer, where the INVITE had none), as soon as the PRACK for what
    /// [`Endpoint::ring`] described has come. Where both sides have described their media by then, `sdp` is not used and
    /// may be empty.
    ///
    /// # Errors
    /// The session is not an inbound one that waits for its answer, or a description is missing.
    pub fn accept(&mut self, now: Instant, session: SessionId, sdp: Vec<u8>) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.accept(cx, sdp))
    }

    /// Final response, 300 to 699; `warning` becomes a Warning header field (RFC 3261 section 20.43).
    ///
    /// # Errors
    /// The session is not an inbound one that waits for its answer, or the status is not final.
    pub fn reject(
        &mut self,
        now: Instant,
        session: SessionId,
        status: StatusCode,
        warning: Option<(u16, String)>,
    ) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.reject(cx, status, warning))
    }

    /// Offers anew: by re-INVITE in an established session; before its answer by UPDATE (RFC 3311), where the first offer
    /// is answered reliably and the peer takes UPDATE. [`Event::OfferDone`] tells how it ended.
    ///
    /// # Errors
    /// [`SessionError::WrongState`] while another offer is under way, which it also is until our 2xx is acknowledged
    /// ([`Event::Confirmed`]), and where nothing can be offered yet.
    pub fn offer(&mut self, now: Instant, session: SessionId, offer: Vec<u8>) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.offer(cx, offer))
    }

    /// Our address in a session's dialog, or in the INVITE that is to be sent.
    pub fn local_address(&self, session: SessionId) -> Option<IpAddr> {
        self.sessions.get(&session).and_then(Session::local_address)
    }

    /// Whether [`Endpoint::send_invite`] is waited for.
    pub fn wants_offer(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(Session::wants_offer)
    }

    /// Whether [`Endpoint::offer`] is possible now.
    pub fn can_offer(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(Session::can_offer)
    }

    /// Answers [`Event::Offered`]: with SDP, or with a final response of 300 to 699.
    ///
    /// # Errors
    /// No offer waits for an answer (any more: the peer may have cancelled it).
    pub fn answer_offer(
        &mut self,
        now: Instant,
        session: SessionId,
        answer: Result<Vec<u8>, StatusCode>,
    ) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.answer_offer(cx, answer))
    }

    /// Asks the peer for a sign of life with an in-dialog OPTIONS.
    ///
    /// # Errors
    /// The session is not established.
    pub fn probe(&mut self, now: Instant, session: SessionId) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.probe(cx))
    }

    /// Sends a digit in INFO; [`Event::DigitSent`] tells how it ended.
    ///
    /// # Errors
    /// The session is not established, or the peer has said that it takes no INFO.
    pub fn send_digit(&mut self, now: Instant, session: SessionId, digit: Digit) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.send_digit(cx, digit))
    }

    /// Whether [`Endpoint::send_digit`] is possible.
    pub fn takes_digits(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(Session::takes_digits)
    }

    /// Whether this side trickles candidates in a session (RFC 8840), and says so in what it sends from now on: to be told
    /// before the INVITE is sent, or before it is answered. Not unless told.
    pub fn set_trickle(&mut self, session: SessionId, on: bool) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.set_trickle(on);
        }
    }

    /// Whether OPTIONS outside of sessions is answered with the news that candidates are trickled here.
    pub fn announce_trickle(&mut self, on: bool) {
        self.core.announces_trickle = on;
    }

    /// Whether the peer, as far as it has spoken in the dialog that is heard, takes candidates in INFO.
    pub fn peer_trickles(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(Session::peer_trickles)
    }

    /// Whether [`Endpoint::send_fragment`] is possible now: both sides trickle, and each has the other's description.
    pub fn takes_fragments(&mut self, session: SessionId) -> bool {
        self.sessions.get_mut(&session).is_some_and(Session::takes_fragments)
    }

    /// Sends candidates in INFO (`application/trickle-ice-sdpfrag`); [`Event::FragmentSent`] tells how it ended.
    ///
    /// # Errors
    /// There is no dialog yet with both descriptions at both ends, or the peer has not said that it takes such an INFO.
    pub fn send_fragment(
        &mut self,
        now: Instant,
        session: SessionId,
        fragment: Vec<u8>,
    ) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| session.send_fragment(cx, fragment))
    }

    /// Answers [`Event::Fragment`]: 200, or the status that refuses it, with the words that say why.
    pub fn answer_fragment(&mut self, now: Instant, id: FragmentId, answer: Result<(), (StatusCode, &str)>) {
        trickle::answer(&mut self.core, now, id, answer);
    }

    /// Ends the session from any state: nothing sent yet, CANCEL, 603 or BYE. `Ended` follows at once; what must
    /// still be sent and retransmitted goes on behind it.
    ///
    /// # Errors
    /// There is no such session (any more).
    pub fn hangup(&mut self, now: Instant, session: SessionId) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| {
            session.hangup(cx, None);
            Ok(())
        })
    }

    /// As [`Endpoint::hangup`], and CANCEL or BYE say why (RFC 3326).
    ///
    /// # Errors
    /// There is no such session (any more).
    pub fn hangup_for(&mut self, now: Instant, session: SessionId, why: Reason) -> Result<(), SessionError> {
        self.act(now, session, |session, cx| {
            session.hangup(cx, Some(why));
            Ok(())
        })
    }

    /// The session whose messages have this Call-ID, as long as anything is left of it. For traces: it looks at all.
    pub fn session_of(&self, call_id: &str) -> Option<SessionId> {
        let dialog = self.core.dialogs.iter().find(|(dialog, _)| dialog.call_id == call_id);
        dialog.map(|(_, session)| *session).or_else(|| self.core.transactions.session_of(call_id))
    }

    /// The router of the local network sends what comes in at `external` to the port that we listen on; `None`: not any
    /// more. Identities without a registrar name it in their Contact to peers outside the local network.
    pub fn set_mapped(&mut self, transport: Transport, port: u16, external: Option<SocketAddr>) {
        self.core.mapped.set(transport, port, external);
    }

    /// No live transaction, dialog or registration is left to finish (for an orderly stop).
    pub fn is_idle(&self) -> bool {
        self.sessions.values().all(Session::is_idle)
            && self.registrations.values().all(Registration::is_idle)
            && self.core.transactions.is_idle()
    }

    fn act(
        &mut self,
        now: Instant,
        id: SessionId,
        act: impl FnOnce(&mut Session, &mut Cx<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        if self.sessions.get(&id).is_none_or(Session::has_ended) {
            return Err(SessionError::NoSuchSession);
        }
        self.with_session(now, id, act).unwrap_or(Err(SessionError::NoSuchSession))
    }

    pub(crate) fn next_session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }
}
