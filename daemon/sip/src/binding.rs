//! What a 2xx to REGISTER says of our binding (RFC 3261 section 10.2.4 and its extensions), and which of the bindings
//! in it is ours.

use crate::account::Account;
use crate::endpoint::Binding;
use crate::grammar::Scanner;
use crate::headers::name;
use crate::message::{Request, Response};
use crate::rendezvous::{DIRECTORY, Directory, LONGEST_DIRECTORY};
use crate::uri::{Host, NameAddr, Params, SipUri, Uri};

/// Option tags of REGISTER: proxies may put themselves into the way back (RFC 3327); see also [`GRUU`] and [`OUTBOUND`].
pub(crate) const PATH: &str = "path";
/// GRUUs are wanted (RFC 5627 section 4.1).
pub(crate) const GRUU: &str = "gruu";
/// The registrar may bind the flow that a REGISTER came on (RFC 5626 section 4.2.1).
pub(crate) const OUTBOUND: &str = "outbound";
/// Contact parameter that names the device (RFC 5626 section 4.1).
pub(crate) const INSTANCE: &str = "+sip.instance";
/// Contact parameter that names the binding among those of the device (RFC 5626 section 4.2).
pub(crate) const REG_ID: &str = "reg-id";
/// Via parameter that offers and takes keep-alives (RFC 6223 section 4.1).
pub(crate) const KEEP: &str = "keep";
/// How long the edge proxy waits for a keep-alive, in seconds (RFC 5626 section 4.4.1).
pub(crate) const FLOW_TIMER: &str = "Flow-Timer";
/// Most of what is kept of one list.
const MAX_KEPT: usize = 8;

/// Seconds granted to the binding that `request` asked for: of its own Contact, else of the response (RFC 3261 section
/// 10.2.4). Other devices' bindings say nothing about ours; but where there is only one, the registrar has rewritten it.
pub(crate) fn granted(response: &Response, account: &Account, request: &Request) -> Option<u32> {
    let written = request.headers.contacts().unwrap_or_default();
    let contacts = response.headers.contacts().unwrap_or_default();
    let own = ours(&contacts, account, written.first()).or(match &contacts[..] {
        [only] => Some(only),
        _ => None,
    });
    own.and_then(|contact| contact.params.value("expires")?.parse().ok())
        .or_else(|| response.headers.number(name::EXPIRES).ok().flatten())
}

/// What cannot be read counts as absent: a registration is worth more than its extensions.
pub(crate) fn read(response: &Response, account: &Account, request: &Request) -> Binding {
    let written = request.headers.contacts().unwrap_or_default();
    let headers = &response.headers;
    let contacts = headers.contacts().unwrap_or_default();
    let own = ours(&contacts, account, written.first()).filter(|_| account.wants_gruu);
    let gruu = |name| own.and_then(|contact| read_gruu(contact.params.value(name)?));
    let mut associated = headers.route_set(name::P_ASSOCIATED_URI).unwrap_or_default();
    associated.truncate(MAX_KEPT);
    let route = headers.route_set(name::SERVICE_ROUTE).unwrap_or_default();
    let service_route: Vec<SipUri> = route.iter().filter_map(|hop| loose_route(&hop.uri)).collect();
    // Half a route leads to the wrong place.
    let whole = service_route.len() == route.len() && route.len() <= MAX_KEPT;
    Binding {
        associated,
        public_gruu: gruu("pub-gruu"),
        temporary_gruu: gruu("temp-gruu"),
        service_route: if whole { service_route } else { Vec::new() },
        push_service: headers.get_all(name::FEATURE_CAPS).find_map(|value| feature(value, "+sip.pns")),
        directory: directory(response),
    }
}

/// What a meeting point tells of friends.
fn directory(response: &Response) -> Option<Directory> {
    let is_one = response.headers.content_type().as_deref() == Some(DIRECTORY);
    let body = response.body.get(..response.body.len().min(LONGEST_DIRECTORY)).filter(|_| is_one)?;
    std::str::from_utf8(body).ok()?.parse().ok()
}

/// The contact with our user part: nobody else has it. Where one was left behind at another address, the one that stands
/// where `written` does. Where something on the way has rewritten the user as well, the one with our instance, and of
/// several the one whose reg-id is written last.
pub(crate) fn ours<'a>(
    contacts: &'a [NameAddr],
    account: &Account,
    written: Option<&NameAddr>,
) -> Option<&'a NameAddr> {
    let has_our_user = |contact: &&NameAddr| match &contact.uri {
        Uri::Sip(uri) => uri.user.as_deref() == Some(&account.contact_user),
        Uri::Other { .. } => false,
    };
    let instance = account.instance.as_ref().map(|instance| format!("<{instance}>"));
    let is_of_ours =
        |contact: &&NameAddr| instance.is_some() && contact.params.value(INSTANCE) == instance.as_deref();
    let as_written =
        |contact: &&NameAddr| has_our_user(contact) && written.is_some_and(|to| same_place(to, contact));
    let exactly = contacts.iter().find(as_written);
    exactly.or_else(|| contacts.iter().find(has_our_user)).or_else(|| contacts.iter().rfind(is_of_ours))
}

pub(crate) fn same_place(one: &NameAddr, two: &NameAddr) -> bool {
    place(one) == place(two)
}

pub(crate) fn place(contact: &NameAddr) -> Option<(&Host, Option<u16>)> {
    match &contact.uri {
        Uri::Sip(uri) => Some((&uri.host, uri.port)),
        Uri::Other { .. } => None,
    }
}

/// A GRUU is a SIP URI with the parameter `gr` (RFC 5627 section 3.1).
fn read_gruu(text: &str) -> Option<SipUri> {
    match text.parse() {
        Ok(Uri::Sip(uri)) if uri.params.get("gr").is_some() && uri.headers.is_none() => Some(uri),
        _ => None,
    }
}

/// Service routes are loose routers (RFC 3608 section 6.2).
fn loose_route(uri: &Uri) -> Option<SipUri> {
    match uri {
        Uri::Sip(uri) if uri.is_loose_router() => Some(uri.clone()),
        _ => None,
    }
}

/// The value of a capability in one Feature-Caps field (RFC 6809 section 6.3.1).
fn feature(value: &str, name: &str) -> Option<String> {
    let mut scanner = Scanner::new(value);
    scanner.skip_white();
    if !scanner.eat('*') {
        return None;
    }
    let mut params = Params::default();
    // What was read before a fault counts.
    let _ = scanner.header_params(&mut params);
    params.value(name).filter(|value| !value.is_empty()).map(str::to_owned)
}
