//! A stateless proxy that records its route (RFC 3261 section 16.11), and may want credentials.

use std::net::SocketAddr;

use voipd_sip::headers::Via;
use voipd_sip::message::{Message, Request};
use voipd_sip::uri::{Host, Uri};
use voipd_sip::{Method, wire};

use super::answer;

/// To tag of a proxy's own responses.
const TAG: &str = "proxy";

/// Where a proxy stands.
pub struct Proxy {
    pub address: SocketAddr,
    /// Where requests go that have no further Route and are not for a literal address.
    pub next: SocketAddr,
    /// What INVITEs without credentials are challenged with.
    pub realm: Option<&'static str>,
}

impl Proxy {
    /// What becomes of a message from `source`: datagrams and where they go.
    pub fn pass(&self, source: SocketAddr, message: Message) -> Vec<(SocketAddr, Vec<u8>)> {
        match message {
            // It ends our own refusal.
            Message::Request(ack) if ack.method == Method::Ack && ack.to.tag() == Some(TAG) => Vec::new(),
            Message::Request(request) => vec![self.forward(source, request)],
            Message::Response(mut response) => {
                response.via.remove(0);
                let Some(via) = response.via.first() else { return Vec::new() };
                let to = reply_to(via);
                vec![(to, wire::write(&Message::Response(response)))]
            }
        }
    }

    fn forward(&self, source: SocketAddr, mut request: Request) -> (SocketAddr, Vec<u8>) {
        let via = &mut request.via[0];
        via.params.set("received", Some(&source.ip().to_string()));
        via.params.set("rport", Some(&source.port().to_string()));
        if let Some(realm) = self.realm
            && request.method == Method::Invite
            && !request
                .headers
                .get_all("Proxy-Authorization")
                .any(|value| value.contains(&format!("realm=\"{realm}\"")))
        {
            let mut response = answer(&request, 407, TAG);
            let challenge = format!("Digest realm=\"{realm}\", nonce=\"n{realm}\", algorithm=MD5");
            response.headers.push("Proxy-Authenticate", challenge);
            return (source, wire::write(&Message::Response(response)));
        }
        let branch = format!("{}.{}", via.branch().unwrap_or_default(), self.address.ip());
        let own = format!("SIP/2.0/UDP {};branch={branch}", self.address);
        request.via.insert(0, own.parse().unwrap());
        let mut routes = request.headers.route_set("Route").unwrap();
        let is_own = |uri: &Uri| matches!(uri, Uri::Sip(uri) if uri.host == Host::Ip(self.address.ip()));
        if routes.first().is_some_and(|route| is_own(&route.uri)) {
            routes.remove(0);
        }
        request.headers.remove("Route");
        for route in &routes {
            request.headers.push("Route", route.to_string());
        }
        if request.to.tag().is_none() {
            let recorded: Vec<String> =
                request.headers.get_all("Record-Route").map(ToOwned::to_owned).collect();
            request.headers.remove("Record-Route");
            request.headers.push("Record-Route", format!("<sip:{};lr>", self.address.ip()));
            for route in recorded {
                request.headers.push("Record-Route", route);
            }
        }
        let to = routes.first().map_or(&request.uri, |route| &route.uri);
        let to = match to {
            Uri::Sip(uri) => match &uri.host {
                Host::Ip(ip) => SocketAddr::new(*ip, uri.port.unwrap_or(5060)),
                Host::Name(_) => self.next,
            },
            Uri::Other { .. } => self.next,
        };
        (to, wire::write(&Message::Request(request)))
    }
}

fn reply_to(via: &Via) -> SocketAddr {
    let Host::Ip(sent_by) = &via.host else { panic!("{via}") };
    let ip = via.params.value("received").map_or(*sent_by, |ip| ip.parse().unwrap());
    let port = via.params.value("rport").and_then(|port| port.parse().ok()).or(via.port);
    SocketAddr::new(ip, port.unwrap_or(5060))
}
