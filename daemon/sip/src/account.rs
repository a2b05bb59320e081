//! What an identity has beyond its configuration: its contact, its servers, its credentials' state; not its registration.

use std::net::IpAddr;

use crate::auth::Auth;
use crate::dialog::{self, SIP_PORT};
use crate::endpoint::{Flow, Identity, NextHop};
use crate::uri::{Host, NameAddr, SipUri, Uri};

/// Most addresses of an identity's own servers.
const MAX_SERVERS: usize = 64;

/// The preloaded route.
enum Proxy {
    None,
    Loose(SipUri),
    /// A proxy that is no SIP URI. Going past it would tell the network what the proxy was to hide.
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
        let own_domain = matches!(&self.aor.uri, Uri::Sip(aor) if same_host(&aor.host, &target.host));
        let hop = match self.server() {
            Some(server) if self.route().is_some() || own_domain => server,
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
        let Some(server) = self.server().filter(|server| same_host(&server.host, &hop.host)) else { return };
        if server == *hop {
            self.servers = flows.iter().map(|flow| flow.remote.ip()).collect();
            return;
        }
        // The same server by another transport may be at other addresses.
        for ip in flows.iter().map(|flow| flow.remote.ip()) {
            if self.servers.len() < MAX_SERVERS && !self.servers.contains(&ip) {
                self.servers.push(ip);
            }
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
