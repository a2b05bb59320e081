//! What an identity has beyond its configuration: its contact, its servers, its credentials' state; not its registration.

use std::net::IpAddr;

use crate::auth::Auth;
use crate::dialog::{self, SIP_PORT};
use crate::endpoint::{Flow, Identity, NextHop};
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// The preloaded route.
enum Proxy {
    None,
    Loose(SipUri),
    /// A proxy that cannot be reached yet. Going past it would tell the network what the proxy was to hide.
    Unsupported,
}

pub(crate) struct Account {
    pub(crate) aor: NameAddr,
    pub(crate) registrar: Option<SipUri>,
    outbound_proxy: Proxy,
    /// User part of our Contact: a token that nobody can guess, so that what names it knows the binding.
    pub(crate) contact_user: String,
    pub(crate) auth: Auth,
    /// Addresses that the next hop of this identity resolved to last.
    servers: Vec<IpAddr>,
    /// What the binding was made on.
    pub(crate) registered: Option<Flow>,
}

impl Account {
    pub(crate) fn new(identity: Identity, contact_user: String) -> Self {
        let outbound_proxy = match identity.outbound_proxy.map(sip) {
            None => Proxy::None,
            Some(None) => Proxy::Unsupported,
            Some(Some(mut proxy)) => {
                // A preloaded route to a strict router would lose the Request-URI.
                if !proxy.is_loose_router() {
                    proxy.params.set("lr", None);
                }
                Proxy::Loose(proxy)
            }
        };
        Self {
            aor: identity.aor,
            registrar: identity.registrar.and_then(sip),
            outbound_proxy,
            contact_user,
            auth: Auth::new(identity.credentials),
            servers: Vec::new(),
            registered: None,
        }
    }

    /// The preloaded Route of requests outside of a dialog (RFC 3261 section 8.1.1.1).
    pub(crate) fn route(&self) -> Option<&SipUri> {
        match &self.outbound_proxy {
            Proxy::Loose(proxy) => Some(proxy),
            Proxy::None | Proxy::Unsupported => None,
        }
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

    /// The identity's own server: everything sent there may carry credentials.
    fn server(&self) -> Option<NextHop> {
        self.route().or(self.registrar.as_ref()).map(dialog::next_hop)
    }

    /// Where a request for `target` goes: by the proxy; to the registrar, where the target is of its domain; else to
    /// the target itself.
    pub(crate) fn next_hop(&self, target: &SipUri) -> NextHop {
        let own_domain = matches!(&self.aor.uri, Uri::Sip(aor) if same_host(aor, target));
        match self.server() {
            Some(server) if self.route().is_some() || own_domain => server,
            _ => dialog::next_hop(target),
        }
    }

    /// Takes note of what `hop` resolved to.
    pub(crate) fn resolved(&mut self, hop: &NextHop, flows: &[Flow]) {
        if self.server().as_ref() == Some(hop) {
            self.servers = flows.iter().map(|flow| flow.remote.ip()).collect();
        }
    }

    pub(crate) fn servers(&self) -> Vec<IpAddr> {
        let mut servers = self.servers.clone();
        if let Some(flow) = self.registered
            && !servers.contains(&flow.remote.ip())
        {
            servers.push(flow.remote.ip());
        }
        servers
    }

    pub(crate) fn is_server(&self, ip: IpAddr) -> bool {
        self.servers.contains(&ip) || self.registered.is_some_and(|flow| flow.remote.ip() == ip)
    }
}

fn sip(uri: Uri) -> Option<SipUri> {
    match uri {
        Uri::Sip(uri) if !uri.secure => Some(uri),
        Uri::Sip(_) | Uri::Other { .. } => None,
    }
}

fn same_host(one: &SipUri, two: &SipUri) -> bool {
    match (&one.host, &two.host) {
        (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
        (one, two) => one == two,
    }
}
