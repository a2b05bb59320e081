//! What an identity has beyond its configuration: its contact, its servers, its credentials' state, what its registrar
//! told it; not how it registers.

use std::net::IpAddr;

use crate::auth::Auth;
use crate::dialog::{self, SIP_PORT};
use crate::endpoint::{Binding, Flow, Identity, NextHop, Push};
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// The preloaded route.
enum Proxy {
    None,
    Loose(SipUri),
    /// A proxy that is no SIP URI. Going past it would tell the network what the proxy was to hide.
    Unsupported,
}

/// Where the registrar sent us instead (RFC 3261 section 21.3).
pub(crate) enum Detour {
    /// To another registrar: 300, 301, 302.
    Target(SipUri),
    /// To the same by way of this proxy: 305.
    Proxy(SipUri),
}

pub(crate) struct Account {
    pub(crate) aor: NameAddr,
    registrar: Option<SipUri>,
    outbound_proxy: Proxy,
    /// User part of our Contact: a token that nobody can guess, so that what names it knows the binding.
    pub(crate) contact_user: String,
    pub(crate) auth: Auth,
    /// What the next hops of this identity resolved to last.
    servers: Vec<(NextHop, Vec<IpAddr>)>,
    /// What the binding was made on.
    pub(crate) registered: Option<Flow>,
    /// The address that it was made with.
    pub(crate) bound_contact: Option<SipUri>,
    pub(crate) instance: Option<String>,
    pub(crate) wants_gruu: bool,
    pub(crate) push: Option<Push>,
    binding: Binding,
    detour: Option<Detour>,
}

impl Account {
    pub(crate) fn new(identity: Identity, contact_user: String) -> Self {
        let outbound_proxy = match identity.outbound_proxy.map(sip) {
            None => Proxy::None,
            Some(None) => Proxy::Unsupported,
            Some(Some(proxy)) => Proxy::Loose(loose(proxy)),
        };
        Self {
            aor: identity.aor,
            registrar: identity.registrar.and_then(sip),
            outbound_proxy,
            contact_user,
            auth: Auth::new(identity.credentials),
            servers: Vec::new(),
            registered: None,
            bound_contact: None,
            instance: identity.instance,
            wants_gruu: identity.gruu,
            push: identity.push,
            binding: Binding::default(),
            detour: None,
        }
    }

    fn proxy(&self) -> Option<&SipUri> {
        match &self.outbound_proxy {
            Proxy::Loose(proxy) => Some(proxy),
            Proxy::None | Proxy::Unsupported => None,
        }
    }

    /// The preloaded Route of requests outside of a dialog: the outbound proxy, then the registrar's Service-Route
    /// (RFC 3261 section 8.1.1.1, RFC 3608 section 6.1).
    pub(crate) fn routes(&self) -> Vec<SipUri> {
        let mut routes: Vec<SipUri> = self.proxy().cloned().into_iter().collect();
        let service = &self.binding.service_route;
        let named_twice = routes.first().zip(service.first()).is_some_and(|(a, b)| a.equivalent(b));
        routes.extend(service.iter().skip(usize::from(named_twice)).cloned());
        routes
    }

    /// Where REGISTER goes, and by way of which route.
    pub(crate) fn registrar(&self) -> Option<(&SipUri, Option<&SipUri>)> {
        match &self.detour {
            Some(Detour::Target(target)) => Some((target, self.proxy())),
            Some(Detour::Proxy(proxy)) => Some((self.registrar.as_ref()?, Some(proxy))),
            None => Some((self.registrar.as_ref()?, self.proxy())),
        }
    }

    /// REGISTER is a `sips:` request.
    pub(crate) fn is_secure(&self) -> bool {
        self.registrar()
            .is_some_and(|(target, route)| target.secure || route.is_some_and(|route| route.secure))
    }

    pub(crate) fn set_detour(&mut self, detour: Option<Detour>) {
        self.detour = detour.map(|detour| match detour {
            Detour::Proxy(proxy) => Detour::Proxy(loose(proxy)),
            target => target,
        });
    }

    /// Takes what the registrar says of the binding; answers whether it is new.
    pub(crate) fn set_binding(&mut self, binding: Binding) -> bool {
        let is_new = self.binding != binding;
        self.binding = binding;
        is_new
    }

    /// The GRUU for a dialog on this flow.
    pub(crate) fn gruu_on(&self, flow: Flow) -> Option<&SipUri> {
        self.binding.public_gruu.as_ref().filter(|_| self.is_server(flow.remote.ip()))
    }

    /// The URI is this identity's Contact: as its registrar knows it, or a GRUU that its proxy did not translate.
    pub(crate) fn is_reached_by(&self, uri: &SipUri) -> bool {
        let is_gruu = |gruu: &SipUri| {
            gruu.user == uri.user
                && same_host(&gruu.host, &uri.host)
                && gruu.params.get("gr") == uri.params.get("gr")
        };
        uri.user.as_deref() == Some(&self.contact_user)
            || [&self.binding.public_gruu, &self.binding.temporary_gruu].into_iter().flatten().any(is_gruu)
    }

    /// Requests can be sent for this identity.
    pub(crate) fn can_send(&self) -> bool {
        !matches!(self.outbound_proxy, Proxy::Unsupported)
    }

    /// The identity can register.
    pub(crate) fn can_register(&self) -> bool {
        self.can_send() && self.registrar.is_some()
    }

    /// The address of record as a caller on this flow says it.
    pub(crate) fn aor_on(&self, flow: Flow) -> NameAddr {
        let mut aor = self.aor.clone();
        if let Uri::Sip(uri) = &mut aor.uri
            && matches!(uri.host, Host::Ip(ip) if ip.is_unspecified())
        {
            uri.host = Host::Ip(flow.local.ip());
            uri.port = Some(flow.local.port()).filter(|port| *port != SIP_PORT);
        }
        aor
    }

    /// The identity's own server.
    fn server(&self) -> Option<NextHop> {
        self.proxy().or(self.registrar.as_ref()).map(dialog::next_hop)
    }

    /// Everything sent there may carry credentials: the configured server, and those that it has named.
    fn is_own(&self, hop: &NextHop) -> bool {
        let registering = self.registrar().map(|(target, route)| dialog::next_hop(route.unwrap_or(target)));
        let routed = self.routes().first().map(dialog::next_hop);
        // The way of a `sips:` request to the same server.
        let is_own = |own: NextHop| own == *hop || own.secured() == *hop;
        [self.server(), registering, routed].into_iter().flatten().any(is_own)
    }

    /// Where a request for `target` goes: by the route; to the registrar, where the target is of its domain; else to
    /// the target itself.
    pub(crate) fn next_hop(&self, target: &SipUri) -> NextHop {
        let own_domain = matches!(&self.aor.uri, Uri::Sip(aor) if same_host(&aor.host, &target.host));
        let hop = match (self.routes().first(), self.server()) {
            (Some(route), _) => dialog::next_hop(route),
            (None, Some(server)) if own_domain => server,
            _ => dialog::next_hop(target),
        };
        // RFC 3261 section 26.2.2: each hop of a request for a `sips:` URI is TLS, the first one too.
        if target.secure { hop.secured() } else { hop }
    }

    /// `hop` is this identity's own server, and the configuration says how to get there.
    pub(crate) fn fixes_transport(&self, hop: &NextHop) -> bool {
        let server = self.server().filter(|server| same_host(&server.host, &hop.host));
        server.is_some_and(|server| server.secure || server.transport.is_some())
    }

    /// Takes note of what `hop` resolved to.
    pub(crate) fn resolved(&mut self, hop: &NextHop, flows: &[Flow]) {
        if self.is_own(hop) {
            let mut servers = std::mem::take(&mut self.servers);
            servers.retain(|(known, _)| known != hop && self.is_own(known));
            servers.push((hop.clone(), flows.iter().map(|flow| flow.remote.ip()).collect()));
            self.servers = servers;
        }
    }

    /// Each address once.
    pub(crate) fn servers(&self) -> Vec<IpAddr> {
        let resolved = self.servers.iter().flat_map(|(_, ips)| ips.iter().copied());
        let mut servers = Vec::new();
        for ip in resolved.chain(self.registered.map(|flow| flow.remote.ip())) {
            if !servers.contains(&ip) {
                servers.push(ip);
            }
        }
        servers
    }

    pub(crate) fn is_server(&self, ip: IpAddr) -> bool {
        self.servers.iter().any(|(_, ips)| ips.contains(&ip))
            || self.registered.is_some_and(|flow| flow.remote.ip() == ip)
    }
}

/// A preloaded route to a strict router would lose the Request-URI.
fn loose(mut proxy: SipUri) -> SipUri {
    if !proxy.is_loose_router() {
        proxy.params.set("lr", None);
    }
    proxy
}

fn sip(uri: Uri) -> Option<SipUri> {
    match uri {
        Uri::Sip(uri) => Some(uri),
        Uri::Other { .. } => None,
    }
}

fn same_host(one: &Host, two: &Host) -> bool {
    match (one, two) {
        (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
        (one, two) => one == two,
    }
}
