//! REGISTER as it is written (RFC 3261 section 10.2): one after the other by one Call-ID, asking for less where a registrar
//! wants that.

use std::time::Instant;

use super::BindingId;
use super::contact::Contacts;
use crate::auth::Rounds;
use crate::binding;
use crate::core::Core;
use crate::dialog::{self, FIRST_CSEQ};
use crate::endpoint::Flow;
use crate::headers::{Headers, name};
use crate::message::{Method, Request, Response};
use crate::rendezvous::OFFER;
use crate::transaction::{ClientId, MAX_FORWARDS, Owner};
use crate::uri::{NameAddr, Uri};

/// No registrar is followed to a longer time with its Min-Expires, or believed to grant one.
const EXPIRES_MAX: u32 = 7 * 24 * 3600;

/// How much is asked for beyond RFC 3261: less after a registrar refused it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Full,
    /// 555: the registrar cannot send push notifications (RFC 8599 section 4.1.3).
    WithoutPush,
    /// 420, or 439 (RFC 5626 section 6): something on the way stumbles over extensions.
    Plain,
}

/// The REGISTERs of a binding.
pub(super) struct Registers {
    id: BindingId,
    call_id: String,
    cseq: u32,
    /// Seconds to ask for: the configuration's, or the registrar's minimum.
    expires: u32,
    manner: Manner,
}

impl Registers {
    pub(super) fn new(id: BindingId, call_id: String, expires: u32) -> Self {
        Self { id, call_id, cseq: FIRST_CSEQ - 1, expires, manner: Manner::Full }
    }

    /// Asks for everything again.
    pub(super) fn begin(&mut self) {
        self.manner = Manner::Full;
    }

    /// One that makes or keeps the binding.
    pub(super) fn binding(&self, core: &mut Core, contacts: &Contacts, flow: Flow) -> Option<Request> {
        self.request(core, contacts, flow, self.expires)
    }

    /// One that removes it.
    pub(super) fn unbinding(&self, core: &mut Core, contacts: &Contacts, flow: Flow) -> Option<Request> {
        self.request(core, contacts, flow, 0)
    }

    fn request(&self, core: &mut Core, contacts: &Contacts, flow: Flow, expires: u32) -> Option<Request> {
        let mut request = register(core, self.id, &self.call_id, self.manner)?;
        request.headers.push(name::EXPIRES, expires.to_string());
        contacts.write(core, &mut request, self.id, flow, self.manner, expires);
        Some(request)
    }

    /// Writes the Contacts of one that makes the binding anew: it is known better now as whom we are seen.
    pub(super) fn rewrite(&self, core: &Core, contacts: &Contacts, request: &mut Request, flow: Flow) {
        contacts.write(core, request, self.id, flow, self.manner, self.expires);
    }

    pub(super) fn send(
        &mut self,
        core: &mut Core,
        now: Instant,
        flow: Flow,
        mut request: Request,
        rounds: Rounds,
    ) -> ClientId {
        self.cseq += 1;
        request.cseq = self.cseq;
        // RFC 6223 section 4.1: keep-alives are offered.
        request.via = vec![core.via(flow)];
        request.via.iter_mut().for_each(|via| via.params.set(binding::KEEP, None));
        core.send(now, flow, request, rounds, Some(self.id.identity), Owner::Registration(self.id))
    }

    /// For how many seconds a 2xx to `sent` has made the binding.
    pub(super) fn granted(&self, core: &Core, sent: &Request, response: &Response) -> u32 {
        let account = core.accounts.get(&self.id.identity);
        let granted = account.and_then(|account| binding::granted(response, account, sent));
        granted.unwrap_or(self.expires).min(EXPIRES_MAX)
    }

    /// Asks for less beyond RFC 3261 from now on, where a response with that status wants it. `false`: it is asked for as
    /// little already.
    pub(super) fn lower(&mut self, status: u16) -> bool {
        self.manner = match (status, self.manner) {
            // RFC 5626 section 4.2.1: the proxy cannot keep flows, or stumbles over extensions.
            (420 | 439, Manner::Full | Manner::WithoutPush) => Manner::Plain,
            (555, Manner::Full) => Manner::WithoutPush,
            _ => return false,
        };
        true
    }

    /// Asks for as long a time as a 423 wants. `false`: it wants none that we go to.
    pub(super) fn raise(&mut self, response: &Response) -> bool {
        let minimum = response.headers.number(name::MIN_EXPIRES).ok().flatten();
        let minimum = minimum.filter(|&minimum| minimum > self.expires && minimum <= EXPIRES_MAX);
        if let Some(minimum) = minimum {
            self.expires = minimum;
        }
        minimum.is_some()
    }
}

/// REGISTER of a binding, without Contact.
fn register(core: &mut Core, id: BindingId, call_id: &str, manner: Manner) -> Option<Request> {
    let account = core.accounts.get(&id.identity)?;
    // Request-URI: the domain, without a user (section 10.2).
    let (registrar, route) = account.registrar(id.reg_id)?;
    let mut registrar = dialog::as_request_uri(registrar);
    registrar.user = None;
    registrar.password = None;
    let mut headers = Headers::default();
    if let Some(route) = route {
        headers.push(name::ROUTE, NameAddr::new(Uri::Sip(route.clone())).to_string());
    }
    if manner != Manner::Plain {
        headers.push(name::SUPPORTED, binding::PATH);
        if account.instance.is_some() {
            headers.push(name::SUPPORTED, binding::OUTBOUND);
            if account.wants_gruu {
                headers.push(name::SUPPORTED, binding::GRUU);
            }
        }
    }
    if let Some(offer) = &account.relay_offer {
        headers.push(OFFER, offer.to_string());
    }
    let (from, to) = (account.aor.clone().with_tag(&core.random.tag()), account.aor.clone());
    Some(Request {
        method: Method::Register,
        uri: Uri::Sip(registrar),
        via: Vec::new(),
        from,
        to,
        call_id: call_id.to_owned(),
        cseq: 0,
        max_forwards: MAX_FORWARDS,
        headers,
        body: Vec::new(),
    })
}
