//! The Contacts in a REGISTER: ours as the registrar's side sees it, and the one before, which is taken back.

use super::BindingId;
use super::register::Manner;
use crate::account::FlowKind;
use crate::binding::{self, place, same_place};
use crate::core::Core;
use crate::endpoint::Flow;
use crate::headers::name;
use crate::message::{Request, Response};
use crate::uri::{Host, NameAddr, Uri};

/// How often in a row a binding is moved to where we are seen: there are routers that translate anew at each packet.
const MAX_MOVES: u8 = 3;

/// What a registrar knows of our address.
#[derive(Default)]
pub(super) struct Contacts {
    /// Our Contact as we wrote it last.
    bound: Option<NameAddr>,
    /// Where the registrar has it.
    granted: Granted,
    taking_back: TakingBack,
    moves: u8,
}

/// Whether the Contact before is taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TakingBack {
    #[default]
    Yes,
    /// It was, and the new one has gone with it: a SIP ALG has made one of both.
    Never,
}

/// What a 2xx to REGISTER has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Stands,
    /// Our Contact was taken back with the one before: it is to be bound once more.
    Lost,
}

/// Where a registrar's answer has our Contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Granted {
    /// There, or nowhere.
    #[default]
    AsWritten,
    /// Elsewhere: a SIP ALG stands between, or it writes what it sees.
    At(Host, Option<u16>),
}

impl Contacts {
    /// A registration begins from nothing.
    pub(super) fn begin(&mut self) {
        self.moves = 0;
    }

    /// Puts into a REGISTER what is to be bound for so many seconds, and what is not to be any more.
    pub(super) fn write(
        &self,
        core: &Core,
        request: &mut Request,
        id: BindingId,
        flow: Flow,
        manner: Manner,
        expires: u32,
    ) {
        request.headers.remove(name::CONTACT);
        let now = own(core, id, flow, manner);
        let contacts = match &self.bound {
            // What is bound is what is to go.
            Some(bound) if expires == 0 => vec![(bound, 0)],
            // RFC 5626 section 4.2.1: what has a reg-id stands alone, and takes the place of the one before. And who has
            // rewritten our address once would make of the old one the new one.
            Some(bound)
                if !same_place(bound, &now)
                    && self.granted == Granted::AsWritten
                    && self.taking_back == TakingBack::Yes
                    && !is_outbound(core, id, flow) =>
            {
                vec![(&now, expires), (bound, 0)]
            }
            _ => vec![(&now, expires)],
        };
        let stands_alone = contacts.len() == 1;
        for (contact, expires) in contacts {
            let mut contact = contact.clone();
            // Beside another, the reg-id would be that one's; alone, it is what the binding is found by (RFC 5626
            // section 6).
            if expires == 0 && !stands_alone {
                contact.params.remove(binding::REG_ID);
            }
            contact.params.set("expires", Some(&expires.to_string()));
            request.headers.push(name::CONTACT, contact.to_string());
        }
    }

    /// A REGISTER has been granted.
    pub(super) fn bound(
        &mut self,
        core: &Core,
        id: BindingId,
        request: &Request,
        response: &Response,
    ) -> Bound {
        let written = request.headers.contacts().unwrap_or_default();
        self.bound = written.first().cloned();
        let Some(account) = core.accounts.get(&id.identity) else { return Bound::Stands };
        let contacts = response.headers.contacts().unwrap_or_default();
        let granted = binding::ours(&contacts, account, written.first());
        if written.len() > 1 && granted.is_none() {
            self.taking_back = TakingBack::Never;
            return Bound::Lost;
        }
        self.granted = match (granted, &self.bound) {
            (Some(granted), Some(bound)) if !same_place(granted, bound) => match place(granted) {
                Some((host, port)) => Granted::At(host.clone(), port),
                None => Granted::AsWritten,
            },
            _ => Granted::AsWritten,
        };
        Bound::Stands
    }

    /// The binding is gone.
    pub(super) fn unbound(&mut self) {
        self.bound = None;
        self.granted = Granted::AsWritten;
    }

    /// The registrar sees us elsewhere than our Contact says, and is to be told.
    pub(super) fn are_to_be_moved(&mut self, core: &Core, id: BindingId, flow: Flow) -> bool {
        let now = own(core, id, flow, Manner::Plain);
        let is_there = match &self.granted {
            Granted::At(host, port) => place(&now) == Some((host, *port)),
            Granted::AsWritten => false,
        };
        let is_written = self.bound.as_ref().is_none_or(|bound| same_place(bound, &now));
        if is_outbound(core, id, flow) || is_there || is_written {
            self.moves = 0;
            return false;
        }
        self.moves = self.moves.saturating_add(1);
        self.moves <= MAX_MOVES
    }

    /// The registrar's answer has another address in our Contact than we wrote.
    pub(super) fn are_rewritten(&self) -> bool {
        self.granted != Granted::AsWritten
    }
}

/// Our Contact with all that a REGISTER says of it but its time.
fn own(core: &Core, id: BindingId, flow: Flow, manner: Manner) -> NameAddr {
    let account = core.accounts.get(&id.identity);
    let secure = account.is_some_and(crate::account::Account::is_secure);
    let mut contact = core.local_contact(Some(id.identity), flow, secure);
    let Some(account) = account.filter(|_| manner != Manner::Plain) else { return contact };
    if let Some(instance) = &account.instance {
        contact.params.set(binding::INSTANCE, Some(&format!("<{instance}>")));
        contact.params.set(binding::REG_ID, Some(&id.reg_id.to_string()));
    }
    if let (Manner::Full, Some(push), Uri::Sip(uri)) = (manner, &account.push, &mut contact.uri) {
        // RFC 8599 section 4.1.2: in the URI, so that a proxy finds them in the Request-URI of what comes. Tokens of
        // push services end in equals signs, which no parameter may hold.
        let mut set = |name, value: &str| uri.params.set(name, Some(&value.replace('=', "%3D")));
        set("pn-provider", &push.provider);
        if let Some(param) = &push.param {
            set("pn-param", param);
        }
        set("pn-prid", &push.prid);
    }
    contact
}

fn is_outbound(core: &Core, id: BindingId, flow: Flow) -> bool {
    core.accounts.get(&id.identity).is_some_and(|account| account.kind_of(flow) == FlowKind::Outbound)
}
