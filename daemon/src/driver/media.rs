//! Media ports: the RTP and RTCP sockets of calls, from binding until the call ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use voipd_agent::quality::CallQuality;
use voipd_agent::view::CallId;
use voipd_audio::PortId;
use voipd_audio::plan::StreamCounters;
use voipd_media::LocalMedia;
use voipd_media::rtcp::RemoteView;
use voipd_nat::ice::StreamId;
use voipd_sip::endpoint::{NextHop, Transport};
use voipd_sip::uri::Host;

use super::ice::is_ice;
use crate::api::CallStatistics;
use crate::config::RtpConfig;
use crate::realtime::{self, UdpMediaSocket};

/// RTCP packets that wait for the driver; more are dropped, as the network might have done.
const QUEUE: usize = 64;
/// Largest RTCP packet read, in bytes.
const MAX_PACKET: usize = 1500;

/// A packet that the real-time thread does not see.
pub struct ControlPacket {
    /// Whose port it was.
    pub call: CallId,
    /// The address of the socket that it came to.
    pub at: SocketAddr,
    /// Where it came from.
    pub source: SocketAddr,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The sockets of all calls.
pub struct MediaPorts {
    config: RtpConfig,
    calls: BTreeMap<CallId, CallPorts>,
    by_port: BTreeMap<PortId, CallId>,
    packets: mpsc::Sender<ControlPacket>,
}

struct CallPorts {
    /// The first is the one that descriptions name.
    places: Vec<Place>,
    /// Index of that whose RTP socket the stream has, or will have.
    current: usize,
    stream: Option<PortId>,
    /// The connection with a relay that the stream's packets take.
    relay: Option<StreamId>,
}

/// The sockets at one address.
struct Place {
    local: LocalMedia,
    /// Until the stream takes it.
    media: Option<UdpMediaSocket>,
    /// The same socket, for all that is not sound.
    rtp: std::net::UdpSocket,
    /// The other port's, for sending: what is read by a task is first writable when that has been polled.
    rtcp: std::net::UdpSocket,
    reading: AbortHandle,
    /// Reads the RTP port for ICE while the stream does not.
    early: Option<AbortHandle>,
}

impl Place {
    fn rtp_at(&self) -> SocketAddr {
        SocketAddr::new(self.local.address, self.local.rtp_port)
    }

    fn rtcp_at(&self) -> SocketAddr {
        SocketAddr::new(self.local.address, self.local.rtcp_port)
    }

    fn read_early(&mut self, call: CallId, packets: &mpsc::Sender<ControlPacket>) {
        if self.early.is_none()
            && let Ok(socket) = self.rtp.try_clone().and_then(UdpSocket::from_std)
        {
            let reading = tokio::spawn(read(call, self.rtp_at(), true, socket, packets.clone()));
            self.early = Some(reading.abort_handle());
        }
    }

    /// The RTP socket for the stream, which reads it from then on.
    fn take(&mut self) -> Option<UdpMediaSocket> {
        if let Some(early) = self.early.take() {
            early.abort();
        }
        // The stream has had it before, and gave it up for another one.
        let again = || self.rtp.try_clone().and_then(UdpMediaSocket::new).ok();
        self.media.take().or_else(again)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.reading.abort();
        if let Some(early) = self.early.take() {
            early.abort();
        }
    }
}

impl MediaPorts {
    /// The second value gives the packets that arrive on RTCP ports, and those of ICE on RTP ports before their streams.
    pub fn new(config: RtpConfig) -> (Self, mpsc::Receiver<ControlPacket>) {
        let (packets, receiver) = mpsc::channel(QUEUE);
        (Self { config, calls: BTreeMap::new(), by_port: BTreeMap::new(), packets }, receiver)
    }

    /// Binds a pair of ports for a call on the local address that reaches the peer, or on the configured one; and, unless
    /// that is configured, one at each address beside it that can be had.
    pub fn bind(
        &mut self,
        call: CallId,
        address: IpAddr,
        beside: &[IpAddr],
    ) -> Result<Vec<LocalMedia>, String> {
        let fixed = self.fixed_address(address);
        let mut places = vec![self.place(call, fixed.unwrap_or(address))?];
        if self.config.bind.is_none() {
            for ip in beside {
                match self.place(call, *ip) {
                    Ok(place) => places.push(place),
                    Err(why) => log::debug!(call = call.0; "no further way for media: {why}"),
                }
            }
        }
        self.close(call);
        let bound = places.iter().map(|place| place.local).collect();
        self.calls.insert(call, CallPorts { places, current: 0, stream: None, relay: None });
        Ok(bound)
    }

    fn place(&self, call: CallId, address: IpAddr) -> Result<Place, String> {
        let pair = realtime::bind_pair(address, self.config.ports.clone(), self.config.dscp)
            .map_err(|error| error.to_string())?;
        let local = LocalMedia { address, rtp_port: pair.rtp_port, rtcp_port: pair.rtcp_port };
        let rtcp = pair.rtcp.try_clone().map_err(|error| format!("RTCP socket: {error}"))?;
        let read_rtcp = UdpSocket::from_std(pair.rtcp).map_err(|error| format!("RTCP socket: {error}"))?;
        let rtp = pair.rtp.sender().map_err(|error| format!("RTP socket: {error}"))?;
        let at = SocketAddr::new(address, pair.rtcp_port);
        let reading = tokio::spawn(read(call, at, false, read_rtcp, self.packets.clone())).abort_handle();
        Ok(Place { local, media: Some(pair.rtp), rtp, rtcp, reading, early: None })
    }

    /// The configured address, where it is of the same family as the peer's.
    pub fn fixed_address(&self, peer: IpAddr) -> Option<IpAddr> {
        self.config.bind.filter(|bind| bind.is_ipv4() == peer.is_ipv4())
    }

    /// The RTP socket, for the stream that takes it over.
    pub fn take_rtp(&mut self, call: CallId, stream: PortId) -> Option<UdpMediaSocket> {
        let ports = self.calls.get_mut(&call)?;
        ports.stream = Some(stream);
        self.by_port.insert(stream, call);
        let current = ports.current;
        ports.places.get_mut(current)?.take()
    }

    /// Another of the call's RTP sockets, for the stream to go on with; that of before is read for ICE from now on. `None`
    /// where the call has none at this address.
    pub fn switch(&mut self, call: CallId, socket: SocketAddr) -> Option<UdpMediaSocket> {
        let ports = self.calls.get_mut(&call)?;
        let next = ports.places.iter().position(|place| place.rtp_at() == socket)?;
        let media = ports.places.get_mut(next)?.take()?;
        if let Some(before) = ports.places.get_mut(ports.current).filter(|_| next != ports.current) {
            before.read_early(call, &self.packets);
        }
        ports.current = next;
        Some(media)
    }

    /// The address of the RTP socket that a call's stream is on.
    pub fn socket_of(&self, call: CallId) -> Option<SocketAddr> {
        let ports = self.calls.get(&call)?;
        ports.places.get(ports.current).map(Place::rtp_at)
    }

    /// Whose stream is on this port.
    pub fn call_at(&self, stream: PortId) -> Option<CallId> {
        self.by_port.get(&stream).copied()
    }

    /// Sends an RTCP packet, best effort; `muxed`: from the port of RTP. The other port stays bound, so that nobody else
    /// gets it and the peer may change its mind.
    pub fn send_rtcp(&self, call: CallId, remote: SocketAddr, muxed: bool, bytes: &[u8]) {
        let Some(ports) = self.calls.get(&call) else { return };
        let faces = |place: &&Place| place.local.address.is_ipv4() == remote.is_ipv4();
        let current = ports.places.get(ports.current).into_iter();
        let Some(place) = current.chain(&ports.places).find(faces) else { return };
        let sent = match muxed {
            true => place.rtp.send_to(bytes, remote),
            false => place.rtcp.send_to(bytes, remote),
        };
        if let Err(error) = sent {
            log::debug!(call = call.0; "RTCP to {remote}: {error}");
        }
    }

    /// Sends a packet of ICE's or TURN's, best effort. From the first one on, answers are read as well.
    pub fn send_stun(&mut self, call: CallId, from: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        let Some(ports) = self.calls.get_mut(&call) else { return };
        let streaming = ports.stream.map(|_| ports.current);
        let mut places = ports.places.iter_mut().enumerate();
        let is_there = |place: &Place| [place.rtp_at(), place.rtcp_at()].contains(&from);
        let Some((index, place)) = places.find(|(_, place)| is_there(place)) else { return };
        let sent = if from == place.rtp_at() {
            if streaming != Some(index) {
                place.read_early(call, &self.packets);
            }
            place.rtp.send_to(bytes, remote)
        } else {
            place.rtcp.send_to(bytes, remote)
        };
        if let Err(error) = sent {
            log::debug!(call = call.0; "STUN to {remote}: {error}");
        }
    }

    /// The connection with a relay that the packets of a call's stream take.
    pub fn relay_of(&self, call: CallId) -> Option<StreamId> {
        self.calls.get(&call)?.relay
    }

    /// They take another one from now on.
    pub fn set_relay(&mut self, call: CallId, relay: Option<StreamId>) {
        if let Some(ports) = self.calls.get_mut(&call) {
            ports.relay = relay;
        }
    }

    /// Closes a call's sockets; the RTP socket closes with its stream.
    pub fn close(&mut self, call: CallId) {
        if let Some(stream) = self.calls.remove(&call).and_then(|ports| ports.stream) {
            self.by_port.remove(&stream);
        }
    }
}

/// A host of media as the resolver is asked for it: with a port (the answer's is of no use) only addresses count.
pub fn host(name: String) -> NextHop {
    NextHop { host: Host::Name(name), port: Some(1), transport: Some(Transport::Udp), secure: false }
}

async fn read(
    call: CallId,
    at: SocketAddr,
    rtp: bool,
    socket: UdpSocket,
    packets: mpsc::Sender<ControlPacket>,
) {
    let mut buffer = [0; MAX_PACKET];
    loop {
        // An error is ICMP's about an earlier packet of ours: the peer may not listen for RTCP.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = buffer.get(..len).unwrap_or_default();
        // Sound before there is a stream is nobody's.
        if rtp && !is_ice(bytes) {
            continue;
        }
        let packet = ControlPacket { call, at, source, bytes: bytes.to_vec() };
        if let Err(mpsc::error::TrySendError::Closed(_)) = packets.try_send(packet) {
            return;
        }
    }
}

/// What front ends see of a stream's figures.
pub fn statistics(
    stream: StreamCounters,
    remote: Option<RemoteView>,
    quality: CallQuality,
) -> CallStatistics {
    CallStatistics {
        stream,
        round_trip_ms: quality.round_trip_ms,
        remote_loss_percent: remote.map(|view| f64::from(view.fraction_lost) * 100.0),
        remote_jitter_ms: remote.map(|view| view.jitter.as_secs_f64() * 1000.0),
        quality,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const CALL: CallId = CallId(1);
    const STUN: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// The address that the next packet came to, and the one that it came from.
    async fn next(packets: &mut mpsc::Receiver<ControlPacket>) -> (SocketAddr, SocketAddr) {
        let packet =
            timeout(Duration::from_secs(10), packets.recv()).await.expect("in time").expect("a packet");
        assert_eq!((packet.call, packet.bytes.as_slice()), (CALL, &STUN[..]));
        (packet.at, packet.source)
    }

    #[tokio::test]
    async fn a_stream_changes_between_a_calls_sockets_and_the_others_are_read() {
        let (mut ports, mut packets) =
            MediaPorts::new(RtpConfig { bind: None, ports: 42_000..=42_999, dscp: 46 });
        let addresses: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let bound = ports.bind(CALL, addresses[0], &addresses[1..]).expect("sockets");
        let rtp = |local: &LocalMedia| SocketAddr::new(local.address, local.rtp_port);
        let (first, second) = (rtp(&bound[0]), rtp(&bound[1]));
        let peer = UdpSocket::bind("127.0.0.1:0").await.expect("a peer");
        let at = peer.local_addr().expect("its address");

        // Before there is a stream, both are read from the first packet that they send.
        for socket in [first, second] {
            ports.send_stun(CALL, socket, at, &STUN);
            let (len, from) = peer.recv_from(&mut [0; 64]).await.expect("a packet");
            assert_eq!((len, from), (STUN.len(), socket));
            peer.send_to(&STUN, socket).await.expect("sent");
            assert_eq!(next(&mut packets).await, (socket, at));
        }
        let taken = ports.take_rtp(CALL, PortId(20)).expect("the first");
        assert_eq!(taken.local_addr().ok(), Some(first));
        assert_eq!(ports.socket_of(CALL), Some(first));

        // The stream goes on with the second, and comes back.
        let (mut one, mut other) = (first, second);
        for _ in 0..3 {
            let taken = ports.switch(CALL, other).expect("the other one");
            assert_eq!((taken.local_addr().ok(), ports.socket_of(CALL)), (Some(other), Some(other)));
            peer.send_to(&STUN, one).await.expect("sent");
            assert_eq!(next(&mut packets).await, (one, at), "what the stream has left is read");
            (one, other) = (other, one);
        }
        assert!(ports.switch(CALL, at).is_none(), "a socket of somebody else");
        ports.close(CALL);
        assert!(ports.socket_of(CALL).is_none() && ports.call_at(PortId(20)).is_none());
    }
}
