//! What sessions, registrations and the answering of strangers share: transactions, accounts, questions, random values.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::account::{Account, FlowKind};
use crate::auth::{Denied, Rounds};
use crate::avoided::Avoided;
use crate::dialog::{self, DialogId};
use crate::digest::Proof;
use crate::endpoint::{
    EndpointConfig, Event, Flow, IdentityId, NextHop, Output, ResolveId, SessionId, Transport, TransportError,
};
use crate::headers::{Headers, Via, name};
use crate::leg::{Disclosure, Sender};
use crate::mapped::Mapped;
use crate::message::{Message, Method, Request, Response, StatusCode};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::reflexive::Reflexive;
use crate::registration::BindingId;
use crate::session::trickle;
use crate::timer::Timer;
use crate::transaction::{ClientId, Owner, Report, Sent, ServerId, Transactions};
use crate::uri::{Host, NameAddr, Params, SipUri, Uri};
use crate::wire;

/// What we take part in (RFC 3261 section 20.5).
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, PRACK, UPDATE";
/// What a session is described with.
pub(crate) const SDP: &str = "application/sdp";
/// Bodies of INVITE that are read (RFC 3261 section 20.1).
pub(crate) const ACCEPT: &str = "application/sdp, multipart/mixed, multipart/alternative";
/// A resolver that takes longer has no answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest request that goes as a datagram, in bytes, where nobody knows the path's MTU (RFC 3261 section 18.1.1).
const MAX_DATAGRAM: usize = 1300;

/// Who asked the resolver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Registration(BindingId),
    Session(SessionId),
    /// The responses of a transaction whose connection is lost.
    Response(ServerId),
}

pub(crate) struct Core {
    pub(crate) config: EndpointConfig,
    pub(crate) random: Random,
    pub(crate) outbox: Outbox,
    pub(crate) transactions: Transactions,
    pub(crate) accounts: BTreeMap<IdentityId, Account>,
    pub(crate) dialogs: BTreeMap<DialogId, SessionId>,
    pub(crate) avoided: Avoided,
    /// Streams that large requests were sent by in vain.
    pub(crate) dead_streams: Avoided,
    pub(crate) reflexive: Reflexive,
    pub(crate) mapped: Mapped,
    /// Flows that a keep-alive has found not to deliver.
    pub(crate) given_up: Vec<(Flow, TransportError)>,
    /// Answers to strangers' OPTIONS say that candidates are trickled.
    pub(crate) announces_trickle: bool,
    pub(crate) fragments: trickle::Waiting,
    questions: BTreeMap<ResolveId, (Asker, NextHop)>,
    last_question: u64,
    /// To tag of responses without a transaction: a repeated request must get the same (RFC 3261 section 8.2.7).
    stateless_tag: String,
    /// User part of our Contact where no identity is involved.
    contact_user: String,
}

impl Core {
    pub(crate) fn new(config: EndpointConfig, seed: [u8; 32]) -> Self {
        let mut random = Random::new(seed);
        let (stateless_tag, contact_user) = (random.tag(), random.token(12));
        Self {
            config,
            random,
            outbox: Outbox::default(),
            transactions: Transactions::default(),
            accounts: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            avoided: Avoided::default(),
            dead_streams: Avoided::default(),
            reflexive: Reflexive::default(),
            mapped: Mapped::default(),
            given_up: Vec::new(),
            announces_trickle: false,
            fragments: trickle::Waiting::default(),
            questions: BTreeMap::new(),
            last_question: 0,
            stateless_tag,
            contact_user,
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outbox.event(event);
    }

    /// The extensions that we take part in (RFC 3261 section 20.37). `trickle`: where candidates are trickled.
    pub(crate) fn supported(&self, trickle: bool) -> &'static str {
        match (self.config.session_expires.is_some(), trickle) {
            (true, false) => "199, 100rel, timer",
            (false, false) => "199, 100rel",
            (true, true) => "199, 100rel, timer, trickle-ice",
            (false, true) => "199, 100rel, trickle-ice",
        }
    }

    /// What a message that begins or keeps a session says of us: methods, extensions, Info packages (RFC 6086 section
    /// 4.2.1).
    pub(crate) fn introduce(&self, headers: &mut Headers, sender: Sender) {
        headers.push(name::ALLOW, ALLOW);
        headers.push(name::SUPPORTED, self.supported(sender.trickle));
        if sender.trickle {
            headers.push(name::RECV_INFO, trickle::TAG);
        }
    }

    // Names to addresses.

    pub(crate) fn resolve(
        &mut self,
        now: Instant,
        next_hop: NextHop,
        identity: Option<IdentityId>,
        asker: Asker,
    ) -> ResolveId {
        self.last_question += 1;
        let id = ResolveId(self.last_question);
        self.questions.insert(id, (asker, next_hop.clone()));
        self.outbox.timers.set(Timer::Resolve(id), now + RESOLVE_TIMEOUT);
        self.outbox.push(Output::Resolve { id, identity, next_hop });
        id
    }

    /// Ends a question: who asked it, and what.
    pub(crate) fn answered(&mut self, id: ResolveId) -> Option<(Asker, NextHop)> {
        self.outbox.timers.stop(Timer::Resolve(id));
        self.questions.remove(&id)
    }

    /// Puts a resolver's answer in the order in which it is tried: what did not answer lately comes last, and among its
    /// equals the server that holds our binding, and so knows us, comes first. Where TLS is preferred, there is nothing
    /// else to fall back to: who can break TLS must not get to read what it would have hidden.
    pub(crate) fn order(&self, now: Instant, identity: Option<IdentityId>, flows: &mut Vec<Flow>) {
        if flows.first().is_some_and(|flow| flow.transport == Transport::Tls) {
            flows.retain(|flow| flow.transport == Transport::Tls);
        }
        let account = identity.and_then(|identity| self.accounts.get(&identity));
        let rank = |flow: &Flow| account.map_or(0, |account| account.rank(*flow));
        flows.sort_by_key(|flow| (self.avoided.holds(now, *flow), rank(flow)));
    }

    // Requests of ours.

    /// Sends a request in a transaction of its own. A request without Via gets a new branch. One that is too large for a
    /// datagram goes by TCP (RFC 3261 section 18.1.1), and as a datagram still where TCP is refused.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        flow: Flow,
        mut request: Request,
        rounds: Rounds,
        identity: Option<IdentityId>,
        owner: Owner,
    ) -> ClientId {
        request.headers.remove(name::AUTHORIZATION);
        request.headers.remove(name::PROXY_AUTHORIZATION);
        let account = identity.and_then(|id| self.accounts.get_mut(&id));
        // CANCEL cannot be challenged (RFC 3261 section 22.1).
        if let Some(account) = account.filter(|account| account.is_server(flow.remote.ip()))
            && request.method != Method::Cancel
        {
            account.auth.authorize(&mut self.random, &mut request, &rounds);
        }
        self.finish(flow, &mut request);
        let carrier = self.carry(now, flow, &mut request, identity);
        self.transactions.send(&mut self.outbox, now, Sent { request, flow, rounds }, carrier, owner)
    }

    /// What a finished request for `flow` travels on; its Via says so too.
    pub(crate) fn carry(
        &self,
        now: Instant,
        flow: Flow,
        request: &mut Request,
        identity: Option<IdentityId>,
    ) -> Flow {
        let carrier = self.carrier(now, flow, request, identity);
        if let Some(via) = request.via.first_mut() {
            carrier.transport.name().clone_into(&mut via.transport);
        }
        carrier
    }

    fn carrier(&self, now: Instant, flow: Flow, request: &Request, identity: Option<IdentityId>) -> Flow {
        let stream = Flow { transport: Transport::Tcp, ..flow };
        let is_free = || {
            let hop = dialog::next_hop_of(request);
            let account = identity.and_then(|identity| self.accounts.get(&identity));
            hop.is_some_and(|hop| {
                let fixed = hop.secure || hop.transport.is_some();
                !fixed && account.is_none_or(|account| !account.fixes_transport(&hop))
            })
        };
        if flow.transport == Transport::Udp
            // CANCEL goes the way of its INVITE (section 9.1).
            && request.method != Method::Cancel
            && wire::write(&Message::Request(request.clone())).len() > MAX_DATAGRAM
            && is_free()
            && !self.avoided.holds(now, stream)
            && !self.dead_streams.holds(now, stream)
        {
            stream
        } else {
            flow
        }
    }

    /// The topmost Via of a new request on `flow`; `rport` asks for the way back (RFC 3581 section 3).
    pub(crate) fn via(&mut self, flow: Flow) -> Via {
        via(flow, &self.random.branch())
    }

    /// A flow does not deliver, though its transport says nothing.
    pub(crate) fn give_up(&mut self, flow: Flow, error: TransportError) {
        self.given_up.push((flow, error));
    }

    /// Adds what the flow decides, and who we are.
    pub(crate) fn finish(&mut self, flow: Flow, request: &mut Request) {
        if request.via.is_empty() {
            request.via.push(self.via(flow));
        }
        if request.headers.get(name::USER_AGENT).is_none() {
            request.headers.push(name::USER_AGENT, self.config.product.clone());
        }
    }

    /// A request again, with credentials for the challenge in `response`; without Via, its CSeq still as it was.
    ///
    /// # Errors
    /// The challenge is not one that this identity answers.
    pub(crate) fn answer_challenge(
        &mut self,
        identity: Option<IdentityId>,
        report: &Report,
        response: &Response,
    ) -> Result<(Request, Rounds), Denied> {
        let account = identity.and_then(|id| self.accounts.get_mut(&id)).ok_or(Denied::Credentials)?;
        if !account.is_server(report.sent.flow.remote.ip()) {
            return Err(Denied::ForeignRealm);
        }
        let rounds = account.auth.learn(response, report.sent.rounds.clone())?;
        if let (Some(algorithm), Some(identity)) = (account.auth.news(), identity) {
            self.outbox.event(Event::Digest { identity, algorithm });
        }
        let mut request = report.sent.request.clone();
        request.via.clear();
        Ok((request, rounds))
    }

    /// Takes the next nonce of a 2xx, and answers what its server's proof is worth.
    pub(crate) fn confirm_server(
        &mut self,
        identity: Option<IdentityId>,
        report: &Report,
        response: &Response,
    ) -> Proof {
        let account = identity.and_then(|id| self.accounts.get_mut(&id));
        account.map_or(Proof::Missing, |account| account.auth.confirm(&report.sent.request, response))
    }

    /// Our Contact in a dialog on a flow: the GRUU where the identity's server has given one, since others than its own
    /// server could not follow it (RFC 5627 section 4.4.1). `secure` where it must be a `sips:` one (RFC 3261 sections
    /// 8.1.1.8 and 12.1.1).
    pub(crate) fn contact(&self, sender: Sender, flow: Flow, secure: bool) -> NameAddr {
        let identity = sender.identity;
        let account = identity.and_then(|id| self.accounts.get(&id));
        match account.and_then(|account| account.gruu_on(flow, sender.disclosure)) {
            Some(gruu) => NameAddr::new(Uri::Sip(SipUri { secure: gruu.secure || secure, ..gruu.clone() })),
            None => {
                let mut contact = self.local_contact(identity, flow, secure);
                if let Uri::Sip(uri) = &mut contact.uri {
                    // Who calls without a name is not to be known again by what the account's other calls say.
                    if sender.disclosure == Disclosure::Anonymous {
                        uri.user = Some(self.contact_user.clone());
                    }
                    if account.is_some_and(|account| account.kind_of(flow) == FlowKind::Outbound) {
                        // RFC 5626 section 4.3: requests in the dialog are to come by the flow that carries the binding.
                        uri.params.set("ob", None);
                    }
                }
                contact
            }
        }
    }

    /// Our address on a flow; where an identity's server sees another, that one. Who has no server is found where the
    /// router lets calls in.
    pub(crate) fn local_contact(&self, identity: Option<IdentityId>, flow: Flow, secure: bool) -> NameAddr {
        let account = identity.and_then(|id| self.accounts.get(&id));
        let user = account.map_or(&self.contact_user, |account| &account.contact_user);
        let follows = account.is_some_and(|account| account.follows_translation_on(flow));
        let serverless = account.is_none_or(|account| !account.has_registrar());
        let seen = self.reflexive.of(flow).filter(|_| follows);
        let mapped = || self.mapped.of(flow).filter(|_| serverless);
        let address = seen.or_else(mapped).unwrap_or(flow.local);
        let mut uri = SipUri::new(Some(user), Host::Ip(address.ip()), Some(address.port()));
        uri.secure = secure;
        if !secure {
            // `transport=tls` is deprecated (RFC 5630 section 3.1.4), but what else says TLS without the promises of
            // `sips:` is understood by nobody.
            let transport = match flow.transport {
                Transport::Udp => None,
                Transport::Tcp => Some("tcp"),
                Transport::Tls => Some("tls"),
            };
            if transport.is_some() {
                uri.params.set("transport", transport);
            }
        }
        NameAddr::new(Uri::Sip(uri))
    }

    // Responses of ours.

    /// A response with a To tag (unless it is a 100) and our name.
    pub(crate) fn response(&mut self, request: &Request, status: StatusCode) -> Response {
        let mut response = request.response(status);
        if status.get() > 100 && response.to.tag().is_none() {
            response.to.params.set("tag", Some(&self.random.tag()));
        }
        response.headers.push(name::SERVER, self.config.product.clone());
        response
    }

    pub(crate) fn respond(&mut self, now: Instant, server: ServerId, response: Response) -> Option<Vec<u8>> {
        self.transactions.respond(&mut self.outbox, now, server, response)
    }

    /// Answers a request in its transaction with no more than a status.
    pub(crate) fn refuse(&mut self, now: Instant, server: ServerId, request: &Request, status: StatusCode) {
        let response = self.response(request, status);
        self.respond(now, server, response);
    }

    /// Answers without a transaction (RFC 3261 section 8.2.7).
    pub(crate) fn respond_stateless(&mut self, flow: Flow, mut response: Response) {
        if response.to.tag().is_none() {
            response.to.params.set("tag", Some(&self.stateless_tag));
        }
        if response.headers.get(name::SERVER).is_none() {
            response.headers.push(name::SERVER, self.config.product.clone());
        }
        self.outbox.transmit(flow, wire::write(&Message::Response(response)));
    }
}

/// The topmost Via of a request on `flow`; `rport` asks for the way back (RFC 3581 section 3).
pub(crate) fn via(flow: Flow, branch: &str) -> Via {
    let mut params = Params::default();
    params.set("rport", None);
    params.set("branch", Some(branch));
    Via {
        transport: flow.transport.name().to_owned(),
        host: Host::Ip(flow.local.ip()),
        port: Some(flow.local.port()),
        params,
    }
}
