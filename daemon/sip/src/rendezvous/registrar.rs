//! The registrar (RFC 3261 section 10.3): REGISTER of members makes, refreshes and removes their bindings.

use std::time::Instant;

use super::Rendezvous;
use super::bindings::{Occasion, OutOfOrder, Wanted, sip_contact};
use super::directory::DIRECTORY;
use super::words::Event;
use crate::endpoint::{Flow, Transport};
use crate::grammar::MAX_LIST;
use crate::headers::name;
use crate::message::{Request, Response, StatusCode};
use crate::uri::{NameAddr, SipUri, Uri};

/// Seconds that a binding lasts when nothing is said.
const EXPIRES: u32 = 600;
/// The shortest binding: more registering would be flooding.
const MIN_EXPIRES: u32 = 30;
/// The longest binding: who has gone is shown as there for no longer.
const MAX_EXPIRES: u32 = 3600;
/// What REGISTER may require.
const SUPPORTED: [&str; 2] = ["path", "outbound"];

/// Why a REGISTER is refused.
type Refusal = (StatusCode, &'static str);

impl Rendezvous {
    /// A REGISTER for our domain. `reply` is where its responses go.
    pub(super) fn on_register(&mut self, now: Instant, flow: Flow, reply: Flow, request: Request) {
        let mut unsupported = request.headers.tokens(name::REQUIRE);
        unsupported.retain(|tag| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag)));
        unsupported.truncate(MAX_LIST);
        if !unsupported.is_empty() {
            let unsupported = unsupported.join(", ");
            let mut response = self.response(&request, StatusCode::BAD_EXTENSION);
            response.headers.push(name::UNSUPPORTED, unsupported);
            return self.respond_stateless(reply, response);
        }
        let Some(member) = self.authenticate(now, reply, &request, name::AUTHORIZATION) else { return };
        if !self.may(now, reply, &request, &member) {
            return;
        }
        let server = self.serve(now, reply, &request);
        let response = match self.register(now, flow, &request, &member) {
            Ok(response) => response,
            Err((status, why)) => {
                let mut response = self.response(&request, status);
                why.clone_into(&mut response.reason);
                if status == StatusCode::INTERVAL_TOO_BRIEF {
                    response.headers.push(name::MIN_EXPIRES, MIN_EXPIRES.to_string());
                }
                response
            }
        };
        self.respond(now, server, response);
    }

    fn register(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        member: &str,
    ) -> Result<Response, Refusal> {
        let bad = |why| (StatusCode::BAD_REQUEST, why);
        // RFC 3261 section 10.3 step 4: a third party registers for nobody here.
        if !self.is_address_of(&request.to, member, flow) {
            return Err((StatusCode::FORBIDDEN, "These Credentials Are Not This Address's"));
        }
        let default = request.headers.number(name::EXPIRES).map_err(|_| bad("Expires Cannot Be Read"))?;
        let path: Vec<String> = match request.headers.route_set(name::PATH) {
            Ok(path) => path.iter().map(NameAddr::to_string).collect(),
            Err(_) => return Err(bad("Path Cannot Be Read")),
        };
        if !path.is_empty() && !supports(request, "path") {
            // RFC 3327 section 5.3: whoever registers must know what it is added to.
            return Err((StatusCode::BAD_EXTENSION, "Path Without Its Support"));
        }
        let occasion = Occasion { flow, path: &path, call_id: &request.call_id, cseq: request.cseq };
        let was_online = self.is_online(now, member);
        let late = |_: OutOfOrder| (StatusCode::SERVER_INTERNAL_ERROR, "Out Of Order");
        let mut outbound = false;
        if request.headers.get_all(name::CONTACT).any(|value| value.trim() == "*") {
            if default != Some(0) || request.headers.get_all(name::CONTACT).count() != 1 {
                return Err(bad("Contact * Stands Alone And Expires At Once"));
            }
            self.bindings.clear(member, &occasion).map_err(late)?;
        } else {
            let contacts = request.headers.contacts().map_err(|_| bad("Contact Cannot Be Read"))?;
            let wanted = self.wanted(request, contacts, default.unwrap_or(EXPIRES))?;
            // With datagrams it would promise to answer STUN too (RFC 5626 section 5.4), and nobody here does.
            outbound = flow.transport.is_reliable() && wanted.iter().any(|wanted| wanted.reg_id.is_some());
            self.bindings.update(now, member, &occasion, wanted).map_err(late)?;
        }
        self.take_offer(now, flow, request, member);
        let is_online = self.is_online(now, member);
        if was_online != is_online {
            self.event(Event::Moved { member: member.to_owned(), online: is_online });
        }
        let mut response = self.response(request, StatusCode::OK);
        for value in &path {
            response.headers.push(name::PATH, value.clone());
        }
        if outbound {
            // RFC 5626 section 6: so a client knows that its flow is used.
            response.headers.push(name::REQUIRE, "outbound");
        }
        for (binding, _) in self.bindings.of(now, member) {
            let mut contact = binding.contact.clone();
            let left = binding.expires.saturating_duration_since(now).as_secs();
            contact.params.set("expires", Some(&left.to_string()));
            response.headers.push(name::CONTACT, contact.to_string());
        }
        if is_online {
            response.headers.push(name::CONTENT_TYPE, DIRECTORY);
            response.body = self.directory(now, member).to_string().into_bytes();
        }
        Ok(response)
    }

    fn wanted(
        &self,
        request: &Request,
        contacts: Vec<NameAddr>,
        default: u32,
    ) -> Result<Vec<Wanted>, Refusal> {
        // With several hops in between, the flow is a proxy's: only that one could speak for the client's (RFC 5626
        // section 6).
        let is_direct = request.via.len() == 1 && supports(request, "outbound");
        let mut all = Vec::new();
        for mut contact in contacts {
            let expires = match contact.params.value("expires") {
                None => default,
                // RFC 3261 section 20.10: what is malformed counts as 3600.
                Some(text) => text.parse().unwrap_or(3600),
            };
            if (1..MIN_EXPIRES).contains(&expires) {
                return Err((StatusCode::INTERVAL_TOO_BRIEF, StatusCode::INTERVAL_TOO_BRIEF.reason()));
            }
            contact.params.remove("expires");
            let uri =
                sip_contact(&contact).ok_or((StatusCode::BAD_REQUEST, "Contact Is No Plain SIP Address"))?;
            // RFC 5630 section 5.1.1.1: what is reached by `sips:` alone must say so.
            if matches!(&request.to.uri, Uri::Sip(to) if to.secure) && !uri.secure {
                return Err((StatusCode::BAD_REQUEST, "A sips: Address Needs A sips: Contact"));
            }
            let instance = contact.params.value("+sip.instance").map(str::to_owned);
            let reg_id = contact.params.value("reg-id").and_then(|id| id.parse().ok());
            let reg_id = reg_id.filter(|_| is_direct && instance.is_some());
            let expires = expires.min(MAX_EXPIRES);
            all.push(Wanted { contact, uri, instance, reg_id, expires });
        }
        Ok(all)
    }

    /// The member is registered from somewhere.
    pub(super) fn is_online(&self, now: Instant, member: &str) -> bool {
        self.bindings.of(now, member).next().is_some()
    }
}

fn supports(request: &Request, tag: &str) -> bool {
    request.headers.tokens(name::SUPPORTED).iter().any(|known| known.eq_ignore_ascii_case(tag))
}

/// A `sips:` request reaches only what is registered over TLS and as `sips:` (RFC 5630 section 5.3).
pub(super) fn is_reached(contact: &SipUri, flow: Flow, secure: bool) -> bool {
    !secure || (contact.secure && flow.transport == Transport::Tls)
}
