//! Dialogs (RFC 3261 section 12): tags, sequence numbers, route set and remote target; not what is said in them.

use crate::endpoint::{NextHop, Transport};
use crate::grammar::MAX_LIST;
use crate::headers::{HeaderError, Headers, name};
use crate::message::{Method, Request, Response};
use crate::session::trickle::Support;
use crate::transaction::MAX_FORWARDS;
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// Where SIP is spoken when no port is named (RFC 3261 section 19.1.2).
pub(crate) const SIP_PORT: u16 = 5060;
/// The first CSeq number of what we begin.
pub(crate) const FIRST_CSEQ: u32 = 1;

/// RFC 3261 section 12. A peer of RFC 2543 may have no tag: it is empty here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DialogId {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: String,
}

impl DialogId {
    /// The dialog that a request from the peer names.
    pub(crate) fn of_request(request: &Request) -> Self {
        Self {
            call_id: request.call_id.clone(),
            local_tag: request.to.tag().unwrap_or_default().to_owned(),
            remote_tag: request.from.tag().unwrap_or_default().to_owned(),
        }
    }
}

pub(crate) struct Dialog {
    pub(crate) id: DialogId,
    /// From of our requests.
    local: NameAddr,
    /// To of our requests.
    remote: NameAddr,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route_set: Vec<SipUri>,
    target: SipUri,
    /// It was asked for with `sips:`: it goes over nothing but TLS, and our Contact is a `sips:` URI.
    secure: bool,
    /// The methods in the peer's last Allow; `None` where it sent none.
    remote_allow: Option<Vec<String>>,
    /// What the peer has said of trickling candidates.
    pub(crate) trickle: Support,
}

impl Dialog {
    /// As the caller, from a response to our INVITE (RFC 3261 section 12.1.2).
    ///
    /// # Errors
    /// The peer's Record-Route or Contact leads nowhere.
    pub(crate) fn caller(request: &Request, response: &Response) -> Result<Self, HeaderError> {
        let id = DialogId {
            call_id: request.call_id.clone(),
            local_tag: request.from.tag().unwrap_or_default().to_owned(),
            remote_tag: response.to.tag().unwrap_or_default().to_owned(),
        };
        let mut dialog = Self {
            id,
            local: request.from.clone(),
            remote: response.to.clone(),
            local_cseq: request.cseq,
            remote_cseq: None,
            route_set: Vec::new(),
            // A provisional response need not bring a Contact: until one comes, it is whom we called. A number is
            // nowhere by itself.
            target: match &request.uri {
                Uri::Sip(uri) => uri.clone(),
                Uri::Other { .. } => contact(&response.headers)?
                    .ok_or(HeaderError { name: name::CONTACT, why: "a dialog needs one" })?,
            },
            secure: wants_secure_contact(request),
            remote_allow: None,
            trickle: Support::default(),
        };
        dialog.confirm(response)?;
        Ok(dialog)
    }

    /// As the callee, from the INVITE (RFC 3261 section 12.1.1).
    ///
    /// # Errors
    /// The peer's Record-Route or Contact leads nowhere, or there is no Contact. (A peer of RFC 2543, which has no tag,
    /// need not have one: From is its address then.)
    pub(crate) fn callee(request: &Request, local_tag: &str) -> Result<Self, HeaderError> {
        let id = DialogId { local_tag: local_tag.to_owned(), ..DialogId::of_request(request) };
        let route_set = record_route(&request.headers)?;
        let target = match contact(&request.headers)? {
            Some(contact) => contact,
            None if request.from.tag().is_none() => sip_uri(&request.from.uri, name::FROM)?,
            None => return Err(HeaderError { name: name::CONTACT, why: "a dialog needs one" }),
        };
        // RFC 3261 section 12.1.1.
        let secure = is_secure(&request.uri) || route_set.first().unwrap_or(&target).secure;
        let mut trickle = Support::default();
        trickle.hear(&request.headers);
        Ok(Self {
            id,
            local: request.to.clone().with_tag(local_tag),
            remote: request.from.clone(),
            local_cseq: FIRST_CSEQ - 1,
            remote_cseq: Some(request.cseq),
            route_set,
            target,
            secure,
            remote_allow: allow(&request.headers),
            trickle,
        })
    }

    /// Route set and target as this response has them: a 2xx decides anew (RFC 3261 section 13.2.2.4).
    ///
    /// # Errors
    /// The peer's Record-Route or Contact leads nowhere.
    pub(crate) fn confirm(&mut self, response: &Response) -> Result<(), HeaderError> {
        let mut route_set = record_route(&response.headers)?;
        route_set.reverse();
        self.route_set = route_set;
        self.refresh_target(&response.headers)
    }

    /// Takes the Contact of a target refresh request or of its 2xx (RFC 3261 section 12.2), its Allow, and what it says of
    /// trickling; the route set stays.
    ///
    /// # Errors
    /// There is a Contact that leads nowhere.
    pub(crate) fn refresh_target(&mut self, headers: &Headers) -> Result<(), HeaderError> {
        if let Some(target) = contact(headers)? {
            self.target = target;
        }
        if let Some(methods) = allow(headers) {
            self.remote_allow = Some(methods);
        }
        self.trickle.hear(headers);
        Ok(())
    }

    /// The peer takes requests of this method, or has not said which it takes (RFC 3261 section 20.5).
    pub(crate) fn allows(&self, method: &Method) -> bool {
        self.remote_allow.as_ref().is_none_or(|methods| methods.iter().any(|name| name == method.as_str()))
    }

    /// The peer takes UPDATE, and has said so (RFC 3311 section 4).
    pub(crate) fn takes_update(&self) -> bool {
        self.remote_allow.is_some() && self.allows(&Method::Update)
    }

    /// The peer has an UPDATE refused that it does not know, whatever its Allow says.
    pub(crate) fn without_update(&mut self) {
        if let Some(methods) = &mut self.remote_allow {
            methods.retain(|name| name != Method::Update.as_str());
        }
    }

    /// Takes the sequence number of a request from the peer; `false` when it is not above the last one
    /// (RFC 3261 section 12.2.2).
    pub(crate) fn accept_cseq(&mut self, cseq: u32) -> bool {
        let fresh = self.remote_cseq.is_none_or(|last| cseq > last);
        if fresh {
            self.remote_cseq = Some(cseq);
        }
        fresh
    }

    /// The next request of ours (RFC 3261 section 12.2.1.1).
    pub(crate) fn request(&mut self, method: Method) -> Request {
        self.local_cseq += 1;
        self.request_numbered(method, self.local_cseq)
    }

    /// The number of our next request, where one is sent again with credentials.
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// The number of our last request.
    pub(crate) fn local_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The peer knows our requests up to this number from before: what comes next is above it, and a gap is no error
    /// (RFC 3261 section 12.2.2).
    pub(crate) fn go_on_after(&mut self, cseq: u32) {
        self.local_cseq = self.local_cseq.max(cseq);
    }

    /// The ACK for a 2xx to `invite`: its number and its credentials (RFC 3261 section 13.2.2.4).
    pub(crate) fn ack(&self, invite: &Request) -> Request {
        let mut ack = self.request_numbered(Method::Ack, invite.cseq);
        for name in [name::AUTHORIZATION, name::PROXY_AUTHORIZATION] {
            for value in invite.headers.get_all(name) {
                ack.headers.push(name, value);
            }
        }
        ack
    }

    fn request_numbered(&self, method: Method, cseq: u32) -> Request {
        let (uri, routes) = self.aim();
        let mut headers = Headers::default();
        for route in routes {
            headers.push(name::ROUTE, NameAddr::new(Uri::Sip(route)).to_string());
        }
        Request {
            method,
            uri: Uri::Sip(uri),
            via: Vec::new(),
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.id.call_id.clone(),
            cseq,
            max_forwards: MAX_FORWARDS,
            headers,
            body: Vec::new(),
        }
    }

    /// Request-URI and Route.
    fn aim(&self) -> (SipUri, Vec<SipUri>) {
        match self.route_set.split_first() {
            None => (as_request_uri(&self.target), Vec::new()),
            Some((first, _)) if first.is_loose_router() => {
                (as_request_uri(&self.target), self.route_set.clone())
            }
            // A strict router finds itself in the Request-URI, and the target at the end.
            Some((first, rest)) => {
                let mut routes = rest.to_vec();
                routes.push(self.target.clone());
                (as_request_uri(first), routes)
            }
        }
    }

    /// Where our requests go next: the first router, loose or strict, or the target.
    pub(crate) fn next_hop(&self) -> NextHop {
        let hop = next_hop(self.route_set.first().unwrap_or(&self.target));
        if self.secure { hop.secured() } else { hop }
    }

    /// Our Contact in it must be a `sips:` URI.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }
}

fn is_secure(uri: &Uri) -> bool {
    matches!(uri, Uri::Sip(uri) if uri.secure)
}

/// The first of the Route header field's URIs.
fn top_route(request: &Request) -> Option<Uri> {
    let routes = request.headers.route_set(name::ROUTE).unwrap_or_default();
    routes.into_iter().next().map(|route| route.uri)
}

/// The Contact of this request must be a `sips:` URI (RFC 3261 section 8.1.1.8).
pub(crate) fn wants_secure_contact(request: &Request) -> bool {
    is_secure(&request.uri) || top_route(request).is_some_and(|route| is_secure(&route))
}

/// The place that a request of ours outside of strict routing goes to: its first Route, or its Request-URI.
pub(crate) fn next_hop_of(request: &Request) -> Option<NextHop> {
    match top_route(request).as_ref().unwrap_or(&request.uri) {
        Uri::Sip(uri) => Some(next_hop(uri)),
        Uri::Other { .. } => None,
    }
}

/// The place that a URI names (RFC 3263 section 4): `maddr` stands before the host.
pub(crate) fn next_hop(uri: &SipUri) -> NextHop {
    let maddr = uri.params.value("maddr").map(|maddr| {
        let literal = maddr.trim_start_matches('[').trim_end_matches(']').parse();
        literal.map_or_else(|_| Host::Name(maddr.to_owned()), Host::Ip)
    });
    let transport = uri.params.value("transport").and_then(|name| {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    });
    NextHop { host: maddr.unwrap_or_else(|| uri.host.clone()), port: uri.port, transport, secure: uri.secure }
}

/// Without the parts that a Request-URI must not have (RFC 3261 section 19.1.1, table 1).
pub(crate) fn as_request_uri(uri: &SipUri) -> SipUri {
    let mut uri = uri.clone();
    uri.headers = None;
    uri.params.remove("method");
    uri
}

/// Without the parts that To must not have (RFC 3261 section 19.1.1, table 1).
pub(crate) fn as_address_of_record(uri: &SipUri) -> SipUri {
    let mut uri = as_request_uri(uri);
    uri.port = None;
    for name in ["maddr", "ttl", "transport", "lr"] {
        uri.params.remove(name);
    }
    uri
}

fn allow(headers: &Headers) -> Option<Vec<String>> {
    headers.get(name::ALLOW)?;
    Some(headers.tokens(name::ALLOW).into_iter().take(MAX_LIST).map(str::to_owned).collect())
}

fn record_route(headers: &Headers) -> Result<Vec<SipUri>, HeaderError> {
    let routes = headers.route_set(name::RECORD_ROUTE)?;
    routes.iter().map(|route| sip_uri(&route.uri, name::RECORD_ROUTE)).collect()
}

fn contact(headers: &Headers) -> Result<Option<SipUri>, HeaderError> {
    headers.contacts()?.first().map(|contact| sip_uri(&contact.uri, name::CONTACT)).transpose()
}

fn sip_uri(uri: &Uri, name: &'static str) -> Result<SipUri, HeaderError> {
    match uri {
        Uri::Sip(uri) => Ok(uri.clone()),
        Uri::Other { .. } => Err(HeaderError { name, why: "not a SIP URI" }),
    }
}
