//! Outbound sessions up to their INVITE (RFC 3261 section 8.1): where the next target is, and what is asked of it.

use super::attempts::Attempts;
use super::outbound::Calling;
use super::timer::Clock;
use super::{Cx, Purpose, State};
use crate::account::Called;
use crate::auth::Rounds;
use crate::caller;
use crate::core::{Asker, SDP};
use crate::dialog::{self, FIRST_CSEQ};
use crate::endpoint::{
    EndCause, Event, Flow, InviteOptions, ResolveError, ResolveId, SessionError, Transport, TransportError,
};
use crate::headers::{Headers, name};
use crate::message::{Method, Request};
use crate::redirect::Targets;
use crate::transaction::{ClientId, MAX_FORWARDS, Owner};
use crate::uri::{NameAddr, SipUri, Uri};

/// What stays the same while the INVITE goes from target to target.
pub(super) struct Invitation {
    options: InviteOptions,
    pub(super) targets: Targets,
    /// The number that is called, as a `tel:` URI has it, as long as it is its own server that is asked.
    pub(super) telephone: Option<String>,
    /// As it was sent to the target before: the next one has its Call-ID, From and To (RFC 3261 section 8.1.3.4).
    pub(super) sent: Option<Request>,
    /// How safe the way to each target must be, as the way to those before was.
    pub(super) least: Protection,
}

/// How a request is protected on its way to the next hop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protection {
    None,
    Tls,
}

impl Protection {
    /// A redirection that was itself read by nobody else must not make the call one that is.
    pub(super) fn of(flow: Flow) -> Self {
        if flow.transport == Transport::Tls { Self::Tls } else { Self::None }
    }
}

/// Waits for the resolver.
pub(super) struct Resolving {
    pub(super) asked: ResolveId,
    target: SipUri,
    invitation: Invitation,
}

impl Resolving {
    pub(super) fn begin(
        cx: &mut Cx<'_>,
        called: Called,
        options: InviteOptions,
    ) -> Result<Self, SessionError> {
        let Called { target, telephone } = called;
        let targets = Targets::new(target.clone(), options.follow);
        let invitation = Invitation { options, targets, telephone, sent: None, least: Protection::None };
        Self::ask(cx, target, invitation)
    }

    fn ask(cx: &mut Cx<'_>, target: SipUri, invitation: Invitation) -> Result<Self, SessionError> {
        let identity = cx.sender.identity.ok_or(SessionError::NoSuchIdentity)?;
        let account = cx.core.accounts.get(&identity).ok_or(SessionError::NoSuchIdentity)?;
        let hop = account.next_hop(&target);
        let asked = cx.core.resolve(cx.now, hop, cx.sender.identity, Asker::Session(cx.sender.session));
        Ok(Self { asked, target, invitation })
    }

    /// Goes to another target, or to the same once more.
    pub(super) fn redirected(cx: &mut Cx<'_>, target: SipUri, invitation: Invitation) -> State {
        let uri = match &invitation.telephone {
            Some(number) => telephone_uri(number),
            None => Uri::Sip(target.clone()),
        };
        match Self::ask(cx, target, invitation) {
            Ok(resolving) => {
                cx.event(|session| Event::Redirected { session, target: uri });
                State::Resolving(resolving)
            }
            Err(_) => {
                cx.ended(EndCause::Unresolvable, None, None);
                State::Over(None)
            }
        }
    }

    pub(super) fn on_resolved(mut self, cx: &mut Cx<'_>, result: Result<Vec<Flow>, ResolveError>) -> State {
        let (mut flows, nowhere) = match result {
            Ok(flows) => (flows, EndCause::Unresolvable),
            // The name is known; the network is what is missing.
            Err(ResolveError::NoRoute(_)) => (Vec::new(), EndCause::Unreachable(TransportError::NoRoute)),
            Err(_) => (Vec::new(), EndCause::Unresolvable),
        };
        if self.invitation.least == Protection::Tls {
            flows.retain(|flow| flow.transport == Transport::Tls);
        }
        let Some(&flow) = flows.first() else {
            if let Some(target) = self.invitation.targets.after_failure(None) {
                return Self::redirected(cx, target, self.invitation);
            }
            cx.ended(nowhere, None, None);
            return State::Over(None);
        };
        cx.event(|session| Event::OfferWanted { session, flow });
        State::Offering(Offering { flows, target: self.target, invitation: self.invitation })
    }
}

/// Waits for the offer.
pub(super) struct Offering {
    /// At least one.
    pub(super) flows: Vec<Flow>,
    target: SipUri,
    invitation: Invitation,
}

impl Offering {
    pub(super) fn send(mut self, cx: &mut Cx<'_>, offer: Vec<u8>) -> State {
        let account = cx.sender.identity.and_then(|identity| cx.core.accounts.get(&identity));
        let (Some(account), false) = (account, self.flows.is_empty()) else {
            cx.ended(EndCause::Unresolvable, None, None);
            return State::Over(None);
        };
        let flow = self.flows.remove(0);
        let mut headers = Headers::default();
        for route in account.routes() {
            headers.push(name::ROUTE, NameAddr::new(Uri::Sip(route)).to_string());
        }
        cx.core.introduce(&mut headers, cx.sender);
        headers.push(name::CONTENT_TYPE, SDP);
        let aor = account.aor_on(flow);
        if self.invitation.options.anonymous {
            headers.push(name::PRIVACY, "id");
            // RFC 3325 section 9.2: only who can keep it is told.
            if account.is_server(flow.remote.ip()) {
                headers.push(name::P_PREFERRED_IDENTITY, aor.to_string());
            }
        }
        let target = dialog::as_request_uri(&self.target);
        let (uri, callee) = match self.invitation.telephone.take() {
            Some(number) => (telephone_uri(&number), telephone_uri(&number)),
            None => {
                let callee = Uri::Sip(dialog::as_address_of_record(&target));
                (Uri::Sip(target), callee)
            }
        };
        let (from, to, call_id, cseq) = match self.invitation.sent.take() {
            Some(sent) => (sent.from, sent.to, sent.call_id, sent.cseq + 1),
            None => {
                let from = if self.invitation.options.anonymous { caller::anonymous() } else { aor };
                (
                    from.with_tag(&cx.core.random.tag()),
                    NameAddr::new(callee),
                    cx.core.random.call_id(),
                    FIRST_CSEQ,
                )
            }
        };
        let mut request = Request {
            method: Method::Invite,
            uri,
            via: Vec::new(),
            from,
            to,
            call_id,
            cseq,
            max_forwards: MAX_FORWARDS,
            headers,
            body: offer,
        };
        let clock = Clock::new();
        clock.ask(cx, &mut request);
        let attempts = Attempts::begin(cx, request, flow, self.flows);
        State::Calling(Calling::new(attempts, clock, self.invitation))
    }
}

/// The `tel:` URI of a number (RFC 3966).
fn telephone_uri(number: &str) -> Uri {
    Uri::Other { scheme: "tel".to_owned(), rest: number.to_owned() }
}

/// Sends an INVITE in a new transaction, with our Contact on this flow.
pub(super) fn send(cx: &mut Cx<'_>, mut request: Request, flow: Flow, rounds: Rounds) -> ClientId {
    request.via.clear();
    request.headers.remove(name::CONTACT);
    let contact = cx.core.contact(cx.sender, flow, dialog::wants_secure_contact(&request));
    request.headers.push(name::CONTACT, contact.to_string());
    let owner = Owner::Session(cx.sender.session, Purpose::Invite);
    cx.core.send(cx.now, flow, request, rounds, cx.sender.identity, owner)
}
