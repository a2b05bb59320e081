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
    /// It came to the port of RTP, before there was a stream; else to that of RTCP.
    pub rtp: bool,
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
    /// Until the stream takes it.
    rtp: Option<UdpMediaSocket>,
    /// The same socket, for RTCP that shares it.
    muxed: std::net::UdpSocket,
    /// The other port's, for sending: what is read by a task is first writable when that has been polled.
    rtcp: std::net::UdpSocket,
    reading: AbortHandle,
    /// Reads the RTP port for ICE, until the stream does.
    early: Option<AbortHandle>,
    stream: Option<PortId>,
    /// The connection with a relay that the stream's packets take.
    relay: Option<StreamId>,
}

impl MediaPorts {
    /// The second value gives the packets that arrive on RTCP ports, and those of ICE on RTP ports before their streams.
    pub fn new(config: RtpConfig) -> (Self, mpsc::Receiver<ControlPacket>) {
        let (packets, receiver) = mpsc::channel(QUEUE);
        (Self { config, calls: BTreeMap::new(), by_port: BTreeMap::new(), packets }, receiver)
    }

    /// Binds a pair of ports for a call on the local address that reaches the peer, or on the configured one.
    pub fn bind(&mut self, call: CallId, address: IpAddr) -> Result<LocalMedia, String> {
        let address = self.fixed_address(address).unwrap_or(address);
        let pair = realtime::bind_pair(address, self.config.ports.clone(), self.config.dscp)
            .map_err(|error| error.to_string())?;
        let local = LocalMedia { address, rtp_port: pair.rtp_port, rtcp_port: pair.rtcp_port };
        let rtcp = pair.rtcp.try_clone().map_err(|error| format!("RTCP socket: {error}"))?;
        let read_rtcp = UdpSocket::from_std(pair.rtcp).map_err(|error| format!("RTCP socket: {error}"))?;
        let muxed = pair.rtp.sender().map_err(|error| format!("RTP socket: {error}"))?;
        let reading = tokio::spawn(read(call, false, read_rtcp, self.packets.clone())).abort_handle();
        self.close(call);
        let rtp = Some(pair.rtp);
        let ports = CallPorts { rtp, muxed, rtcp, reading, early: None, stream: None, relay: None };
        self.calls.insert(call, ports);
        Ok(local)
    }

    /// The configured address, where it is of the same family as the peer's.
    pub fn fixed_address(&self, peer: IpAddr) -> Option<IpAddr> {
        self.config.bind.filter(|bind| bind.is_ipv4() == peer.is_ipv4())
    }

    /// The RTP socket, for the stream that takes it over.
    pub fn take_rtp(&mut self, call: CallId, stream: PortId) -> Option<UdpMediaSocket> {
        let ports = self.calls.get_mut(&call)?;
        ports.stream = Some(stream);
        if let Some(early) = ports.early.take() {
            early.abort();
        }
        self.by_port.insert(stream, call);
        ports.rtp.take()
    }

    /// Whose stream is on this port.
    pub fn call_at(&self, stream: PortId) -> Option<CallId> {
        self.by_port.get(&stream).copied()
    }

    /// Sends an RTCP packet, best effort; `muxed`: from the port of RTP. The other port stays bound, so that nobody else
    /// gets it and the peer may change its mind.
    pub fn send_rtcp(&self, call: CallId, remote: SocketAddr, muxed: bool, bytes: &[u8]) {
        let Some(ports) = self.calls.get(&call) else { return };
        let sent = match muxed {
            true => ports.muxed.send_to(bytes, remote),
            false => ports.rtcp.send_to(bytes, remote),
        };
        if let Err(error) = sent {
            log::debug!(call = call.0; "RTCP to {remote}: {error}");
        }
    }

    /// Sends a packet of ICE's or TURN's, best effort. From the first one on, answers are read as well.
    pub fn send_stun(&mut self, call: CallId, rtp: bool, remote: SocketAddr, bytes: &[u8]) {
        let Some(ports) = self.calls.get_mut(&call) else { return };
        if rtp
            && ports.stream.is_none()
            && ports.early.is_none()
            && let Ok(socket) = ports.muxed.try_clone().and_then(UdpSocket::from_std)
        {
            let reading = tokio::spawn(read(call, true, socket, self.packets.clone()));
            ports.early = Some(reading.abort_handle());
        }
        let sent = match rtp {
            true => ports.muxed.send_to(bytes, remote),
            false => ports.rtcp.send_to(bytes, remote),
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
        if let Some(ports) = self.calls.remove(&call) {
            ports.reading.abort();
            if let Some(early) = ports.early {
                early.abort();
            }
            if let Some(stream) = ports.stream {
                self.by_port.remove(&stream);
            }
        }
    }
}

/// A host of media as the resolver is asked for it: with a port (the answer's is of no use) only addresses count.
pub fn host(name: String) -> NextHop {
    NextHop { host: Host::Name(name), port: Some(1), transport: Some(Transport::Udp), secure: false }
}

async fn read(call: CallId, rtp: bool, socket: UdpSocket, packets: mpsc::Sender<ControlPacket>) {
    let mut buffer = [0; MAX_PACKET];
    loop {
        // An error is ICMP's about an earlier packet of ours: the peer may not listen for RTCP.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = buffer.get(..len).unwrap_or_default();
        // Sound before there is a stream is nobody's.
        if rtp && !is_ice(bytes) {
            continue;
        }
        let packet = ControlPacket { call, rtp, source, bytes: bytes.to_vec() };
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
