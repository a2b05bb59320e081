//! ICE's hands: packets of STUN and TURN between media sockets and the agent, connections with relays, and what is asked
//! about servers. It decides nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use voipd_agent::view::CallId;
use voipd_agent::{Agent, RelayStream, ServerId};
use voipd_audio::PortId;
use voipd_audio::plan::{Path, StreamPlan};
use voipd_media::LocalMedia;
use voipd_nat::ice::StreamId;
use voipd_nat::turn::{RelayServer, RelayTransport};
use voipd_sip::uri::Host;

use super::{Driver, Finished, media};
use crate::relay::{RelayEvent, RelayHappened};
use crate::transport::local_ip_towards_ip;

/// How long a relay may take to answer while it is measured, and after how long it is asked once more.
const MEASURING: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(700);
/// A Binding request (RFC 8489 section 5) without its transaction ID: no attributes, the magic cookie.
const BINDING_REQUEST: [u8; 8] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
/// Bytes of a STUN header.
const STUN_HEADER: usize = 20;

/// Where a packet that is no RTP belongs (RFC 7983): STUN, and TURN's ChannelData, to ICE.
pub(super) fn is_ice(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0..=3 | 64..=79))
}

impl Driver {
    /// A packet on the media socket at `at` that is not RTP, and when it came.
    pub(super) fn control_packet(
        &mut self,
        call: CallId,
        at: SocketAddr,
        source: SocketAddr,
        bytes: &[u8],
        came: Instant,
    ) {
        match is_ice(bytes) {
            true => self.agent.handle_stun(Instant::now(), call, at, source, bytes),
            false => self.agent.handle_rtcp(came, call, source, bytes),
        }
    }

    /// What happened to a connection with a relay.
    pub(super) fn relay_event(&mut self, event: &RelayEvent) {
        self.relays.note(event);
        let happened = match &event.happened {
            RelayHappened::Opened => RelayStream::Opened,
            RelayHappened::Message(bytes) => RelayStream::Message(bytes),
            RelayHappened::Closed(why) => RelayStream::Closed(why),
        };
        self.agent.handle_relay(Instant::now(), event.call, event.stream, happened);
    }

    pub(super) fn open_relay(&mut self, call: CallId, stream: StreamId, server: &RelayServer) {
        let tls = match server.transport {
            RelayTransport::Tls => {
                let host = server.name.parse().map_or_else(|_| Host::Name(server.name.clone()), Host::Ip);
                let account = self.agent.account_of_call(call);
                let settings = account.and_then(|account| self.agent.account_settings(account));
                let settings = settings.map(|settings| settings.tls.clone()).unwrap_or_default();
                let requirement = self.transport.requirement(&host, &settings);
                requirement.map_err(|error| log::warn!(call = call.0; "no TLS with {host}: {error}")).ok()
            }
            RelayTransport::Udp | RelayTransport::Tcp => None,
        };
        self.relays.open(call, stream, server, tls);
    }

    /// Binds a call's media sockets on an address, and beside it where the call has a use for more.
    pub(super) fn bind_media(&mut self, call: CallId, address: IpAddr) -> Result<LocalMedia, String> {
        let beside = match self.agent.wants_sockets_beside(call) {
            true => self.network.beside(address),
            false => Vec::new(),
        };
        let mut bound = self.media.bind(call, address, &beside)?.into_iter();
        let first = bound.next().ok_or("no socket is bound")?;
        self.agent.handle_media_beside(call, bound.collect());
        Ok(first)
    }

    /// The stream of a call goes on with another of its sockets.
    pub(super) fn use_socket(&mut self, call: CallId, port: PortId, socket: SocketAddr) {
        let Some(socket) = self.media.switch(call, socket) else {
            return log::error!(call = call.0; "a stream was to use a socket that the call does not have");
        };
        super::report("move a stream", self.patchbay.controller().move_stream(port, socket));
    }

    /// A stream whose packets take a connection with a relay gets the rings to it.
    pub(super) fn attach_relay(&mut self, call: CallId, port: PortId, plan: &StreamPlan) {
        let wanted = match plan.path {
            Path::Stream { link, .. } => Some(StreamId(link)),
            Path::Udp { .. } | Path::TurnChannel { .. } => None,
        };
        if self.media.relay_of(call) == wanted {
            return;
        }
        self.media.set_relay(call, wanted);
        let rings = wanted.and_then(|stream| self.relays.attach(call, stream));
        super::report("give a stream its relay", self.patchbay.controller().attach_relay(port, rings));
    }

    pub(super) fn resolve_server(&self, id: ServerId, name: String) {
        let (resolver, finished) = (Arc::clone(&self.resolver), self.finished.clone());
        tokio::spawn(async move {
            let result = resolver.resolve(&media::host(name)).await;
            let result = result.map_err(|error| error.to_string());
            let result = result.map(|found| found.into_iter().map(|place| place.remote.ip()).collect());
            // The driver is gone when nobody listens.
            let _ = finished.send(Finished::Server(ServerAnswer::Resolved { id, result }));
        });
    }

    pub(super) fn measure_relay(&self, id: ServerId, address: SocketAddr, transport: RelayTransport) {
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let measuring = async {
                match transport {
                    RelayTransport::Udp => by_binding(id, address).await,
                    RelayTransport::Tcp | RelayTransport::Tls => by_connecting(address).await,
                }
            };
            let result = match timeout(MEASURING, measuring).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("the relay does not answer".to_owned()),
            };
            let _ = finished.send(Finished::Server(ServerAnswer::Measured { id, result }));
        });
    }
}

/// What was found out about a server.
pub(super) enum ServerAnswer {
    Resolved { id: ServerId, result: Result<Vec<IpAddr>, String> },
    Measured { id: ServerId, result: Result<Duration, String> },
}

impl ServerAnswer {
    pub(super) fn tell(self, agent: &mut Agent) {
        let now = Instant::now();
        match self {
            Self::Resolved { id, result } => agent.handle_server_resolved(now, id, result),
            Self::Measured { id, result } => agent.handle_relay_measured(now, id, result),
        }
    }
}

/// One round trip by a Binding request, which TURN servers answer to anybody.
async fn by_binding(id: ServerId, address: SocketAddr) -> std::io::Result<Duration> {
    let no_route = || std::io::Error::other("this machine has no route to it");
    let local = local_ip_towards_ip(address.ip()).ok_or_else(no_route)?;
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await?;
    socket.connect(address).await?;
    for attempt in 0_u32.. {
        // The ID tells the answers to repeated requests apart; nobody gains by guessing it.
        let mut request = [0; STUN_HEADER];
        let (head, transaction) = request.split_at_mut(BINDING_REQUEST.len());
        head.copy_from_slice(&BINDING_REQUEST);
        let number = (u128::from(id.number()) << 32) | u128::from(attempt);
        transaction.copy_from_slice(&number.to_be_bytes()[4..]);
        let asked = Instant::now();
        socket.send(&request).await?;
        let mut answer = [0; 548];
        let answered = async {
            loop {
                let len = socket.recv(&mut answer).await?;
                let same = answer.get(..len.min(STUN_HEADER)).and_then(|answer| answer.get(8..));
                if same == Some(&request[8..]) {
                    return Ok::<_, std::io::Error>(asked.elapsed());
                }
            }
        };
        if let Ok(round_trip) = timeout(ASK_AGAIN, answered).await {
            return round_trip;
        }
    }
    unreachable!("the caller's patience ends before the numbers do")
}

/// The time that a TCP connection takes to stand is one round trip.
async fn by_connecting(address: SocketAddr) -> std::io::Result<Duration> {
    let asked = Instant::now();
    TcpStream::connect(address).await?;
    Ok(asked.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_and_channels_are_ices_and_rtcp_is_not() {
        assert!(is_ice(&BINDING_REQUEST) && is_ice(&[0x40, 1, 0, 0]) && is_ice(&[0x4f, 0xff]));
        // RTCP, DTLS, nothing.
        assert!(!is_ice(&[0x80, 200]) && !is_ice(&[22, 254]) && !is_ice(&[]));
    }

    #[tokio::test]
    async fn a_round_trip_is_that_of_the_answer_to_this_request() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = server.local_addr().expect("address");
        let answering = tokio::spawn(async move {
            let mut request = [0; 64];
            let (len, from) = server.recv_from(&mut request).await.expect("a request");
            assert_eq!(len, STUN_HEADER);
            // Somebody else's answer first.
            server.send_to(&[1; 20], from).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(50)).await;
            request[0] = 1;
            server.send_to(&request[..len], from).await.expect("sent");
        });
        let round_trip = by_binding(ServerId::default(), address).await.expect("an answer");
        assert!(round_trip >= Duration::from_millis(50));
        answering.await.expect("answered");
    }
}
