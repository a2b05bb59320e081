//! The way back of a request (RFC 3261 section 18.2): what is noted in its topmost Via, and where its responses go.

use std::net::SocketAddr;

use crate::dialog::SIP_PORT;
use crate::endpoint::Flow;
use crate::headers::Via;
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
