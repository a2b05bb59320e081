//! The way back of a request (RFC 3261 section 18.2): what is noted in its topmost Via, and where its responses go.

use std::net::SocketAddr;

use crate::dialog::SIP_PORT;
use crate::endpoint::{Flow, NextHop, Transport};
use crate::headers::Via;
use crate::message::Request;
use crate::uri::Host;

/// Takes down in the topmost Via where a request came from (RFC 3261 section 18.2.1, RFC 3581 section 4), and says
/// where its responses go (section 18.2.2): on a stream the way that the request came.
///
/// `maddr` is passed over: it is for multicast, and would let anyone aim our responses at a third party.
pub(crate) fn find(via: &mut [Via], flow: Flow) -> Flow {
    let remote = stamp(via, flow.remote);
    if flow.transport.is_reliable() { flow } else { Flow { remote, ..flow } }
}

/// Takes down the source; where the answer to a datagram from it goes.
pub(crate) fn stamp(via: &mut [Via], source: SocketAddr) -> SocketAddr {
    let Some(via) = via.first_mut() else { return source };
    let ip = source.ip().to_string();
    if via.params.get("rport").is_some() {
        via.params.set("rport", Some(&source.port().to_string()));
        via.params.set("received", Some(&ip));
        return source;
    }
    if via.host == Host::Ip(source.ip()) {
        via.params.remove("received");
    } else {
        via.params.set("received", Some(&ip));
    }
    SocketAddr::new(source.ip(), via.port.unwrap_or(SIP_PORT))
}

/// Where a server transaction's responses go: the way that the request came; where that was a connection and is lost, a
/// new one to the topmost Via's sent-by (RFC 3261 section 18.2.2).
pub(crate) struct WayBack {
    state: State,
    sent_by: NextHop,
}

enum State {
    Arrived(Flow),
    /// The connection is lost, and sent-by is being looked up.
    Asking,
    Found(Flow),
    /// The new connection failed as well.
    Lost,
}

impl WayBack {
    /// `flow` is where responses go at first.
    pub(crate) fn new(request: &Request, flow: Flow) -> Self {
        let via = request.via.first();
        // Who comes by TLS is found again by the name that its certificate must show, others by their address.
        let named = via.map(|via| via.host.clone()).filter(|_| flow.transport == Transport::Tls);
        let port = via.and_then(|via| via.port).unwrap_or_else(|| flow.transport.default_port());
        let sent_by = NextHop {
            host: named.unwrap_or(Host::Ip(flow.remote.ip())),
            port: Some(port),
            transport: Some(flow.transport),
            secure: flow.transport == Transport::Tls,
        };
        Self { state: State::Arrived(flow), sent_by }
    }

    pub(crate) fn flow(&self) -> Option<Flow> {
        match self.state {
            State::Arrived(flow) | State::Found(flow) => Some(flow),
            State::Asking | State::Lost => None,
        }
    }

    /// A flow does not deliver any more: whom to ask for, where this was ours and there is another way.
    pub(crate) fn lose(&mut self, flow: Flow) -> Option<NextHop> {
        match self.state {
            State::Arrived(ours) if ours.far_end() == flow.far_end() && flow.transport.is_reliable() => {
                self.state = State::Asking;
                Some(self.sent_by.clone())
            }
            State::Found(ours) if ours.far_end() == flow.far_end() => {
                self.state = State::Lost;
                None
            }
            _ => None,
        }
    }

    /// A datagram's answer leaves from another address of ours.
    pub(crate) fn leave_from(&mut self, flow: Flow) {
        if let State::Arrived(ours) | State::Found(ours) = &mut self.state {
            *ours = flow;
        }
    }

    pub(crate) fn found(&mut self, flow: Flow) {
        if matches!(self.state, State::Asking) {
            self.state = State::Found(flow);
        }
    }
}
