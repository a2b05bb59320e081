//! A meeting point: registrar and stateful proxy for the members of one domain, without I/O. It knows who they are, where
//! they are and which of their requests run by way of it; nothing of media, files and sockets.
//!
//! Nothing passes that is not from one member to another: it is no open proxy. What is for nobody here is left to the
//! user agent that shares the sockets ([`Rendezvous::handle`] answers `false`).
//!
//! Call one `handle_*` or application method, then drain [`Rendezvous::poll_output`] until it answers
//! [`Output::Timeout`], before the next.

mod bindings;
mod dialogs;
mod directory;
mod forks;
mod guard;
mod invitation;
mod limits;
mod members;
mod offers;
mod proxy;
mod registrar;
mod tokens;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::digest::{Presented, Secret};
use crate::endpoint::{self, Flow, TransportError};
use crate::headers::name;
use crate::message::{Message, Method, Request, Response, StatusCode};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::timer::{Timer, Timers};
use crate::transaction::{ClientId, Match, ServerId, Transactions};
use crate::uri::{Host, NameAddr, SipUri, Uri};
use crate::way_back;
use crate::wire;
use bindings::Bindings;
use dialogs::Dialogs;
use directory::Contacts;
use forks::{Context, ContextId};
use guard::{Freshness, Guard};
use limits::Limits;
use members::Members;
use offers::Offers;
use tokens::Tokens;

pub(crate) use directory::LONGEST as LONGEST_DIRECTORY;
pub use directory::{DIRECTORY, Directory, DirectoryError, RelayLogin};
pub use invitation::{InvitationError, InvitationKey, InvitationText};
pub(crate) use offers::OFFER;
pub use offers::{FriendRelay, OfferError, OfferState, RelayKey, RelayOffer};
pub use words::{Credential, Event, Invitation, InviteError, Member, Output, RendezvousConfig};

/// Letters of an invitation's secret, and of a relay's password, of five bits each: nobody finds it by trying.
const SECRET_LENGTH: usize = 26;
/// How often expired bindings, dialogs and invitations are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Timers that are not a transaction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// Timer C: nothing was heard of an INVITE that rings (RFC 3261 section 16.6 step 11).
    C(ClientId),
    /// Something may have expired.
    Sweep,
}

/// Which wall-clock time belongs to which instant.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    unix: u64,
}

/// A meeting point.
pub struct Rendezvous {
    config: RendezvousConfig,
    random: Random,
    outbox: Outbox,
    alarms: Timers<Alarm>,
    events: VecDeque<Event>,
    transactions: Transactions,
    guard: Guard,
    members: Members,
    bindings: Bindings,
    dialogs: Dialogs,
    tokens: Tokens,
    contacts: Contacts,
    last_directory: u64,
    relays: Vec<String>,
    offers: Offers,
    /// The login that each member was given last.
    granted: BTreeMap<String, RelayLogin>,
    contexts: BTreeMap<ContextId, Context>,
    by_client: BTreeMap<ClientId, ContextId>,
    by_server: BTreeMap<ServerId, ContextId>,
    last_context: u64,
    limits: Limits,
    /// What the branches that were made here begin with.
    branch: String,
    /// To tag of responses without a transaction.
    tag: String,
    clock: Clock,
}

impl Rendezvous {
    /// A meeting point without members. All its random values come from `seed`; `unix` is the wall-clock time at `now`,
    /// in seconds.
    pub fn new(config: RendezvousConfig, seed: [u8; 32], now: Instant, unix: u64) -> Self {
        let mut random = Random::new(seed);
        let mut branch = String::from("z9hG4bK");
        branch.push_str(&random.token(8));
        Self {
            tokens: Tokens::new(&config.key),
            config,
            guard: Guard::new(&mut random, now),
            tag: random.tag(),
            random,
            outbox: Outbox::default(),
            alarms: Timers::default(),
            events: VecDeque::new(),
            transactions: Transactions::default(),
            members: Members::default(),
            bindings: Bindings::default(),
            dialogs: Dialogs::default(),
            contacts: Contacts::default(),
            last_directory: 0,
            relays: Vec::new(),
            offers: Offers::default(),
            granted: BTreeMap::new(),
            contexts: BTreeMap::new(),
            by_client: BTreeMap::new(),
            by_server: BTreeMap::new(),
            last_context: 0,
            limits: Limits::default(),
            branch,
            clock: Clock { at: now, unix },
        }
    }

    // Members.

    /// Takes a credential that was kept ([`Event::Joined`]).
    pub fn add_credential(&mut self, credential: Credential) {
        self.members.add(credential);
    }

    /// Takes an invitation that was kept.
    ///
    /// # Errors
    /// The name is unfit, or there is no room.
    pub fn add_invitation(&mut self, now: Instant, invitation: Invitation) -> Result<(), InviteError> {
        self.wake_to_sweep(now);
        self.members.invite(invitation)
    }

    /// Invites someone, or a further device of a member: what is to be kept, and the secret, which is not. An earlier
    /// invitation for the same name that was not used is void.
    ///
    /// # Errors
    /// The name is unfit, or there is no room.
    pub fn invite(
        &mut self,
        now: Instant,
        name: &str,
        lasts: Duration,
    ) -> Result<(Invitation, Secret), InviteError> {
        let secret = Secret::new(self.random.token(SECRET_LENGTH));
        let invitation = Invitation {
            member: name.to_owned(),
            key: InvitationKey::of(&secret),
            expires: self.unix(now).saturating_add(lasts.as_secs()),
        };
        self.add_invitation(now, invitation.clone())?;
        Ok((invitation, secret))
    }

    /// Removes a member with all its devices, or an invited name: it can do nothing here any more. `false` where there is
    /// none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        self.guard.forget(name);
        self.limits.forget(name);
        self.dialogs.forget_member(name);
        self.contacts.forget(name);
        self.granted.remove(name);
        self.offers.remove(name);
        if self.bindings.remove(name) {
            self.event(Event::Moved { member: name.to_owned(), online: false });
        }
        self.members.remove(name)
    }

    /// All members and invited names.
    pub fn members(&self, now: Instant) -> Vec<Member> {
        let unix = self.unix(now);
        let member = |name: &String| Member {
            name: name.clone(),
            devices: self.members.devices(name),
            addresses: self.bindings.of(now, name).map(|(_, flow)| flow.remote).collect(),
            invited_until: self.members.invited_until(name, unix),
        };
        self.members.names().map(member).collect()
    }

    // Inputs.

    /// The wall clock was set, or some time has passed: `unix` is the time now, in seconds.
    pub fn set_wall_clock(&mut self, now: Instant, unix: u64) {
        self.clock = Clock { at: now, unix };
    }

    fn unix(&self, now: Instant) -> u64 {
        self.clock.unix.saturating_add(now.saturating_duration_since(self.clock.at).as_secs())
    }

    /// A datagram or a whole message of a stream came. `false`: it is not for the meeting point, and nothing was done.
    pub fn handle(&mut self, now: Instant, flow: Flow, bytes: &[u8]) -> bool {
        match wire::read_datagram(bytes) {
            Ok(Some(Message::Request(request))) => self.on_request(now, flow, request),
            Ok(Some(Message::Response(response))) => self.on_response(now, response),
            // The user agent answers keep-alives and complains of what cannot be read.
            Ok(None) | Err(_) => false,
        }
    }

    /// The transport could not deliver on `flow`, or its connection is lost.
    pub fn handle_failed(&mut self, now: Instant, flow: Flow, error: TransportError) {
        if flow.transport.is_reliable() {
            for member in self.bindings.cut_off(flow) {
                if !self.is_online(now, &member) {
                    self.event(Event::Moved { member, online: false });
                }
            }
            self.dialogs.cut_off(flow);
            // Who has lost the connection asks again, or hears nothing: nobody is called back for a response.
            self.transactions.cut_off(flow);
        }
        for report in self.transactions.failed(&mut self.outbox, &mut self.random, now, flow, error) {
            self.on_report(now, report);
        }
    }

    /// The time of [`Output::Timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.outbox.timers.pop_due(now) {
            match timer {
                Timer::Client(id, timer) => {
                    let report = self.transactions.client_timer(&mut self.outbox, now, id, timer);
                    if let Some(report) = report {
                        self.on_report(now, report);
                    }
                }
                Timer::Server(id, timer) => {
                    self.transactions.server_timer(&mut self.outbox, now, id, timer);
                }
                Timer::Session(..) | Timer::Registration(..) | Timer::Resolve(_) => {}
            }
        }
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::C(client) => self.on_timer_c(now, client),
                Alarm::Sweep => self.sweep(now),
            }
        }
    }

    /// A binding or a dialog relies on the connection of `flow`.
    pub fn uses(&self, flow: Flow) -> bool {
        self.bindings.uses(flow) || self.dialogs.uses(flow)
    }

    /// Nothing that was passed on waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.contexts.is_empty() && self.transactions.is_idle()
    }

    /// The next thing to do; [`Output::Timeout`] when there is nothing.
    pub fn poll_output(&mut self) -> Output {
        if let Some(event) = self.events.pop_front() {
            return Output::Event(event);
        }
        loop {
            match self.outbox.pop() {
                endpoint::Output::Transmit { flow, bytes } => return Output::Transmit { flow, bytes },
                endpoint::Output::Timeout(at) => {
                    return Output::Timeout(at.into_iter().chain(self.alarms.next()).min());
                }
                // Nothing here asks for names, gives up connections or tells of sessions.
                endpoint::Output::Resolve { .. }
                | endpoint::Output::Disconnect { .. }
                | endpoint::Output::Event(_) => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn wake_to_sweep(&mut self, now: Instant) {
        if !self.alarms.is_set(Alarm::Sweep) {
            self.alarms.set(Alarm::Sweep, now + SWEEP);
        }
    }

    fn sweep(&mut self, now: Instant) {
        for member in self.bindings.forget_expired(now) {
            if !self.is_online(now, &member) {
                self.event(Event::Moved { member, online: false });
            }
        }
        self.dialogs.forget_expired(now);
        self.forget_offers(now);
        self.members.forget_expired(self.unix(now));
        if self.members.names().next().is_some() {
            self.wake_to_sweep(now);
        }
    }

    fn on_request(&mut self, now: Instant, flow: Flow, mut request: Request) -> bool {
        let reply = way_back::find(&mut request.via, flow);
        if request.method == Method::Ack {
            let ends = self.transactions.receive_ack(&mut self.outbox, now, &request);
            return ends || self.relay_ack(now, flow, request);
        }
        // A merged request is no fault for a proxy: both copies are passed on (RFC 3261 section 16.3 step 4).
        if let Match::Repeated = self.transactions.match_request(&mut self.outbox, now, &request) {
            return true;
        }
        if request.method == Method::Cancel {
            return self.on_cancel(now, reply, &request);
        }
        if request.method == Method::Register {
            let is_ours = matches!(&request.uri, Uri::Sip(uri) if self.is_here(uri, flow));
            if is_ours {
                self.wake_to_sweep(now);
                self.on_register(now, flow, reply, request);
            }
            return is_ours;
        }
        self.relay(now, flow, reply, request)
    }

    // Who and where we are.

    /// The URI is of our domain, or names the socket that was reached.
    fn is_here(&self, uri: &SipUri, flow: Flow) -> bool {
        let is_host = match (&uri.host, &self.config.host) {
            (Host::Name(name), Host::Name(ours)) => name.eq_ignore_ascii_case(ours),
            (host, ours) => host == ours || *host == Host::Ip(flow.local.ip()),
        };
        let ports = [self.config.port, Some(flow.local.port())];
        is_host && (uri.port.is_none() || ports.contains(&uri.port))
    }

    /// The address is the member's.
    fn is_address_of(&self, address: &NameAddr, member: &str, flow: Flow) -> bool {
        match &address.uri {
            Uri::Sip(uri) => uri.user.as_deref() == Some(member) && self.is_here(uri, flow),
            Uri::Other { .. } => false,
        }
    }

    fn realm(&self) -> String {
        self.config.host.to_string()
    }

    // Proof.

    /// Which member has sent a request; `None` when it was answered with a challenge or a refusal.
    fn authenticate(
        &mut self,
        now: Instant,
        reply: Flow,
        request: &Request,
        header: &'static str,
    ) -> Option<String> {
        let realm = self.realm();
        let presented = request.headers.get_all(header).filter_map(Presented::read);
        let Some(presented) = presented.into_iter().find(|presented| presented.realm == realm) else {
            self.challenge(now, reply, request, false);
            return None;
        };
        // RFC 7616 section 3.4.6: what is covered must be what is asked for.
        if presented.uri != request.uri.to_string() {
            self.refuse_stateless(reply, request, StatusCode::BAD_REQUEST, "The Digest Is Another Request's");
            return None;
        }
        if self.guard.look(now, &presented) != Freshness::Fresh {
            self.challenge(now, reply, request, true);
            return None;
        }
        let unix = self.unix(now);
        let Some(known) = self.members.prove(&realm, &presented, &request.method, unix) else {
            if self.members.expects(&presented.user, unix) {
                self.challenge(now, reply, request, false);
            } else {
                // An invitation opens once: this one was used, is over, or was taken back.
                let why = "No Such Device: The Invitation Is Void";
                self.refuse_stateless(reply, request, StatusCode::FORBIDDEN, why);
            }
            return None;
        };
        if !self.guard.spend(&presented) {
            self.challenge(now, reply, request, true);
            return None;
        }
        if let Some(credential) = known.joined {
            self.event(Event::Joined(credential));
        }
        Some(known.member)
    }

    /// 401 to REGISTER, 407 to what is passed on.
    fn challenge(&mut self, now: Instant, reply: Flow, request: &Request, stale: bool) {
        let (status, field) = match request.method {
            Method::Register => (StatusCode::UNAUTHORIZED, name::WWW_AUTHENTICATE),
            _ => (StatusCode::PROXY_AUTHENTICATION_REQUIRED, name::PROXY_AUTHENTICATE),
        };
        let mut response = self.response(request, status);
        let realm = self.realm();
        response.headers.push(field, self.guard.challenge(&mut self.random, now, &realm, stale));
        self.respond_stateless(reply, response);
    }

    /// The member has not asked too often lately; otherwise 503.
    fn may(&mut self, now: Instant, reply: Flow, request: &Request, member: &str) -> bool {
        let may = self.limits.take(now, member);
        if !may {
            self.overloaded(reply, request);
        }
        may
    }

    fn overloaded(&mut self, reply: Flow, request: &Request) {
        let mut response = self.response(request, StatusCode::SERVICE_UNAVAILABLE);
        response.headers.push(name::RETRY_AFTER, "5");
        self.respond_stateless(reply, response);
    }

    // Responses.

    fn response(&self, request: &Request, status: StatusCode) -> Response {
        let mut response = request.response(status);
        if status != StatusCode::TRYING && response.to.tag().is_none() {
            response.to.params.set("tag", Some(&self.tag));
        }
        response.headers.push(name::SERVER, self.config.product.clone());
        response
    }

    /// Begins a transaction for a request that is taken.
    fn serve(&mut self, now: Instant, reply: Flow, request: &Request) -> ServerId {
        let trying = (request.method == Method::Invite).then(|| self.response(request, StatusCode::TRYING));
        self.transactions.serve(&mut self.outbox, now, reply, request, trying.as_ref())
    }

    fn respond(&mut self, now: Instant, server: ServerId, response: Response) {
        self.transactions.respond(&mut self.outbox, now, server, response);
    }

    /// Answers without a transaction (RFC 3261 section 8.2.7): strangers cost no memory.
    fn respond_stateless(&mut self, reply: Flow, response: Response) {
        self.outbox.transmit(reply, wire::write(&Message::Response(response)));
    }

    fn refuse_stateless(&mut self, reply: Flow, request: &Request, status: StatusCode, why: &str) {
        let mut response = self.response(request, status);
        if !why.is_empty() {
            why.clone_into(&mut response.reason);
        }
        self.respond_stateless(reply, response);
    }
}
