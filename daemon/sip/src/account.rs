//! What an identity has beyond its configuration: its contact, its servers, its credentials' state, what its registrar
//! told it; not how it registers.

use std::net::IpAddr;

use crate::auth::Auth;
use crate::dialog::{self, SIP_PORT};
use crate::endpoint::{Binding, ContactPolicy, Flow, Identity, NextHop, Push};
use crate::leg::Disclosure;
use crate::registration::RegId;
use crate::rendezvous::RelayOffer;
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// The preloaded routes.
enum Proxies {
    /// The most wanted first; there may be none.
    Loose(Vec<SipUri>),
    /// One is no SIP URI. Going past it would tell the network what the proxy was to hide.
    Unsupported,
}

/// What a binding was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BoundFlow {
    reg_id: RegId,
    flow: Flow,
    kind: FlowKind,
}

/// How a binding finds us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowKind {
    /// By its Contact.
    Plain,
    /// By the flow that it was made on, whatever its Contact says (RFC 5626).
    Outbound,
}

/// Where the registrar sent us instead (RFC 3261 section 21.3).
pub(crate) enum Detour {
    /// To another registrar: 300, 301, 302.
    Target(SipUri),
    /// To the same by way of this proxy: 305.
    Proxy(SipUri),
}

/// Who is called.
pub(crate) struct Called {
    /// Where the way there leads; of a number, to the identity's own server.
    pub(crate) target: SipUri,
    /// What stands behind `tel:` in the Request-URI that says so.
    pub(crate) telephone: Option<String>,
}

pub(crate) struct Account {
    pub(crate) aor: NameAddr,
    registrar: Option<SipUri>,
    outbound_proxies: Proxies,
    /// User part of our Contact: a token that nobody can guess, so that what names it knows the binding.
    pub(crate) contact_user: String,
    pub(crate) auth: Auth,
    /// What the next hops of this identity resolved to last.
    servers: Vec<(NextHop, Vec<IpAddr>)>,
    /// What bindings were made on, by their reg-id.
    flows: Vec<BoundFlow>,
    /// Our Contact names the address that the identity's servers see, where that is another than ours.
    follows_translation: bool,
    pub(crate) instance: Option<String>,
    pub(crate) wants_gruu: bool,
    pub(crate) push: Option<Push>,
    /// A relay for the friends at the meeting point that is the registrar.
    pub(crate) relay_offer: Option<RelayOffer>,
    binding: Binding,
    detour: Option<Detour>,
}

impl Account {
    pub(crate) fn new(identity: Identity, contact_user: String) -> Self {
        let proxies: Option<Vec<SipUri>> =
            identity.outbound_proxies.into_iter().map(|proxy| sip(proxy).map(loose)).collect();
        Self {
            aor: identity.aor,
            registrar: identity.registrar.and_then(sip),
            outbound_proxies: proxies.map_or(Proxies::Unsupported, Proxies::Loose),
            contact_user,
            auth: Auth::new(identity.credentials),
            servers: Vec::new(),
            flows: Vec::new(),
            follows_translation: identity.contact == ContactPolicy::Auto,
            instance: identity.instance,
            wants_gruu: identity.gruu,
            push: identity.push,
            relay_offer: None,
            binding: Binding::default(),
            detour: None,
        }
    }

    fn proxies(&self) -> &[SipUri] {
        match &self.outbound_proxies {
            Proxies::Loose(proxies) => proxies,
            Proxies::Unsupported => &[],
        }
    }

    /// The proxy that a binding is made by way of: each has its own, where there are as many.
    fn proxy_of(&self, reg_id: RegId) -> Option<&SipUri> {
        let proxies = self.proxies();
        proxies.get(reg_id.index()).or(proxies.first())
    }

    /// The proxy of the first binding that stands; where none does, the most wanted.
    fn proxy(&self) -> Option<&SipUri> {
        self.proxy_of(self.flows.first().map_or(RegId::FIRST, |bound| bound.reg_id))
    }

    /// What the first binding that stands was made on.
    pub(crate) fn registered(&self) -> Option<Flow> {
        self.flows.first().map(|bound| bound.flow)
    }

    /// What all bindings were made on.
    pub(crate) fn bound_flows(&self) -> impl Iterator<Item = Flow> {
        self.flows.iter().map(|bound| bound.flow)
    }

    /// What this binding was made on.
    pub(crate) fn flow_of(&self, reg_id: RegId) -> Option<Flow> {
        self.flows.iter().find(|bound| bound.reg_id == reg_id).map(|bound| bound.flow)
    }

    /// Where a flow stands among those that carry bindings: those that carry none come last.
    pub(crate) fn rank(&self, flow: Flow) -> usize {
        self.flows.iter().position(|bound| bound.flow == flow).unwrap_or(self.flows.len())
    }

    /// Another binding than this one was made with the far end of `flow`.
    pub(crate) fn is_used_by_other(&self, reg_id: RegId, flow: Flow) -> bool {
        let other = |bound: &BoundFlow| bound.reg_id != reg_id && bound.flow.far_end() == flow.far_end();
        self.flows.iter().any(other)
    }

    /// Another binding than this one stands.
    pub(crate) fn has_other(&self, reg_id: RegId) -> bool {
        self.flows.iter().any(|bound| bound.reg_id != reg_id)
    }

    /// A binding carries its requests by this flow.
    pub(crate) fn is_bound_to(&self, flow: Flow) -> bool {
        self.flows.iter().any(|bound| bound.flow == flow)
    }

    /// The bindings that were made with the far end of `flow`.
    pub(crate) fn bound_with(&self, flow: Flow) -> Vec<RegId> {
        let with = self.flows.iter().filter(|bound| bound.flow.far_end() == flow.far_end());
        with.map(|bound| bound.reg_id).collect()
    }

    /// A binding stands; answers what it was made on before.
    pub(crate) fn bind(&mut self, reg_id: RegId, flow: Flow, kind: FlowKind) -> Option<Flow> {
        let before = self.unbind(reg_id);
        self.flows.push(BoundFlow { reg_id, flow, kind });
        self.flows.sort_by_key(|bound| bound.reg_id);
        before
    }

    /// A binding stands no more; answers what it was made on.
    pub(crate) fn unbind(&mut self, reg_id: RegId) -> Option<Flow> {
        let place = self.flows.iter().position(|bound| bound.reg_id == reg_id)?;
        Some(self.flows.remove(place).flow)
    }

    /// How a binding that was made on `flow` finds us.
    pub(crate) fn kind_of(&self, flow: Flow) -> FlowKind {
        self.flows.iter().find(|bound| bound.flow == flow).map_or(FlowKind::Plain, |bound| bound.kind)
    }

    /// It can be called by way of a server.
    pub(crate) fn has_registrar(&self) -> bool {
        self.registrar.is_some()
    }

    /// Our Contact on this flow is to name the address that the far end sees.
    pub(crate) fn follows_translation_on(&self, flow: Flow) -> bool {
        self.follows_translation && self.kind_of(flow) == FlowKind::Plain && self.is_server(flow.remote.ip())
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

    /// Where the REGISTER of a binding goes, and by way of which route.
    pub(crate) fn registrar(&self, reg_id: RegId) -> Option<(&SipUri, Option<&SipUri>)> {
        let proxy = self.proxy_of(reg_id);
        match &self.detour {
            Some(Detour::Target(target)) => Some((target, proxy)),
            Some(Detour::Proxy(proxy)) => Some((self.registrar.as_ref()?, Some(proxy))),
            None => Some((self.registrar.as_ref()?, proxy)),
        }
    }

    /// REGISTER is a `sips:` request.
    pub(crate) fn is_secure(&self) -> bool {
        self.registrar(RegId::FIRST)
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

    /// The GRUU for a dialog on this flow; a public one has the address of record in it (RFC 5627 section 3.1).
    pub(crate) fn gruu_on(&self, flow: Flow, disclosure: Disclosure) -> Option<&SipUri> {
        let gruu = match disclosure {
            Disclosure::Open => &self.binding.public_gruu,
            Disclosure::Anonymous => &self.binding.temporary_gruu,
        };
        gruu.as_ref().filter(|_| self.is_server(flow.remote.ip()))
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

    /// Who is called, as far as this identity can call them.
    pub(crate) fn called(&self, target: Uri) -> Option<Called> {
        match (target, &self.aor.uri) {
            (Uri::Sip(target), _) => Some(Called { target, telephone: None }),
            (Uri::Other { scheme, rest }, Uri::Sip(aor)) if scheme == "tel" && self.server().is_some() => {
                let mut target = SipUri::new(Some(&rest.replace('#', "%23")), aor.host.clone(), aor.port);
                target.secure = aor.secure;
                target.params.set("user", Some("phone"));
                Some(Called { target, telephone: Some(rest) })
            }
            _ => None,
        }
    }

    /// Requests can be sent for this identity.
    pub(crate) fn can_send(&self) -> bool {
        !matches!(self.outbound_proxies, Proxies::Unsupported)
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
        let registering =
            self.registrar(RegId::FIRST).map(|(target, route)| dialog::next_hop(route.unwrap_or(target)));
        let routed = self.routes().first().map(dialog::next_hop);
        let proxies = self.proxies().iter().map(dialog::next_hop);
        // The way of a `sips:` request to the same server.
        let is_own = |own: NextHop| own == *hop || own.secured() == *hop;
        [self.server(), registering, routed].into_iter().flatten().chain(proxies).any(is_own)
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
        for ip in resolved.chain(self.flows.iter().map(|bound| bound.flow.remote.ip())) {
            if !servers.contains(&ip) {
                servers.push(ip);
            }
        }
        servers
    }

    pub(crate) fn is_server(&self, ip: IpAddr) -> bool {
        self.servers.iter().any(|(_, ips)| ips.contains(&ip))
            || self.flows.iter().any(|bound| bound.flow.remote.ip() == ip)
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
