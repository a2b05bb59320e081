//! Where a registrar's redirections lead (RFC 3261 section 8.1.3.4), and how far they are followed.

use crate::account::Detour;
use crate::dialog;
use crate::endpoint::{Flow, Transport};
use crate::message::Response;
use crate::redirect;
use crate::uri::{SipUri, Uri};

/// Redirections followed one after the other: no honest registrar needs more.
const MAX_DETOURS: u8 = 3;

/// Redirections since the last binding or failure.
#[derive(Default)]
pub(super) struct Detours {
    followed: u8,
    /// What the one came on that is followed.
    redirected_on: Option<Flow>,
}

impl Detours {
    /// Where a 3xx that came on `flow` points, to be followed; `None` where it points nowhere, or all too often.
    pub(super) fn follow(&mut self, flow: Flow, response: &Response, secure: bool) -> Option<Detour> {
        let target = redirection(response, secure).filter(|_| self.followed < MAX_DETOURS)?;
        self.followed += 1;
        self.redirected_on = Some(flow);
        Some(match response.status.get() {
            305 => Detour::Proxy(target),
            _ => Detour::Target(target),
        })
    }

    /// One is followed.
    pub(super) fn is_any(&self) -> bool {
        self.redirected_on.is_some()
    }

    /// What was protected until now stays so, whatever the registrar says.
    pub(super) fn may_lead_by(&self, flow: Flow) -> bool {
        let protected = self.redirected_on.is_some_and(|flow| flow.transport == Transport::Tls);
        !protected || flow.transport == Transport::Tls
    }
}

/// The most wanted SIP URI of a redirection; a `secure` registration is not led away from `sips:`.
fn redirection(response: &Response, secure: bool) -> Option<SipUri> {
    redirect::contacts(&response.headers).into_iter().find_map(|contact| match contact.uri {
        // Headers in a contact would be the redirecting server's words in our mouth.
        Uri::Sip(uri) if uri.secure || !secure => Some(dialog::as_request_uri(&uri)),
        _ => None,
    })
}
