//! One RTP stream: a socket, the two halves that receive and send, and the plan in force.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtp_rs::RtpReader;

use crate::TICK_NANOS;
use crate::codec::{Decoder, Encoder};
use crate::engine::counters::{LevelMeter, StreamShared, pack_stream};
use crate::engine::decoding::Meanings;
use crate::engine::dtmf::ReceivedEvent;
use crate::engine::effort::Effort;
use crate::engine::packet::{Content, Packet};
use crate::engine::port::{Converters, SourceFrame};
use crate::engine::processor::Outbox;
use crate::engine::receive::{Receiver, Sender as Origin};
use crate::engine::relay::{Channels, RELAY_PACKETS, RelayPacket, RelayPort, mark};
use crate::engine::route::{Route, Verdict};
use crate::engine::send::{Outgoing, Sender};
use crate::engine::watch::ActivityWatch;
use crate::engine::{BATCH, Batch, Datagram, MAX_DATAGRAM, MediaSocket};
use crate::plan::{Codec, EngineEvent, Path, PortId, Protection, SendPlan, Steering, StreamCounters};
use crate::sums::is_silent;

/// Batches taken from one socket in one tick: a flood costs this much and no more.
const MAX_BATCHES: usize = 4;
/// Packets for the control side that one stream hands over in one tick: a flood at its port leaves room for those of the
/// other calls.
const MAX_STRAYS: u8 = 16;

/// A [`crate::StreamPlan`] made ready by the control side, with whatever must be allocated for it. What it replaces is
/// left in it, to be freed there.
pub(crate) struct StreamSetup {
    pub(crate) path: Path,
    pub(crate) protection: Protection,
    pub(crate) ssrc: u32,
    pub(crate) send: Option<SendPlan>,
    pub(crate) keep_open: Option<u8>,
    pub(crate) meanings: Meanings,
    pub(crate) play: bool,
    /// Only where the one in use does not do.
    pub(crate) encoder: Option<Encoder>,
    /// Those that the stream does not have yet.
    pub(crate) decoders: [Option<Decoder>; Codec::COUNT],
    pub(crate) converters: Converters,
}

/// One RTP stream. It lies in memory in this order, and what it is made of does, too: what every tick touches is together,
/// what is sent is, and what few touch is behind it or in a box. After a rest the first look at a page costs more than
/// what is done there.
#[repr(C)]
pub(crate) struct Stream<S> {
    receiver: Receiver,
    socket: S,
    /// The last tick has asked what has come.
    looked: bool,
    /// Packets handed to the control side in this tick.
    strays: u8,
    protection: Protection,
    /// To a connection with a TURN server.
    relay: Option<Box<RelayPort>>,
    /// Room for a packet with the header of its channel.
    marked: Box<[u8; MAX_DATAGRAM]>,
    route: Route,
    path: Path,
    channels: Channels,
    /// Time of the tick whose packets are ready.
    sent_nanos: u64,
    level_in: LevelMeter,
    level_out: LevelMeter,
    pub(crate) watch: Option<Box<ActivityWatch>>,
    /// The SSRC of ours under which packets have come in, as was reported.
    own_ssrc_heard: Option<u32>,
    counters: StreamCounters,
    shared: Arc<StreamShared>,
    sender: Sender,
    pub(crate) converters: Converters,
}

/// Ticks that have to be made up for, or none.
pub(crate) struct LeftTicks<'a> {
    /// When the first and the last of them were due; the last is before the first where there is none.
    pub(crate) first_nanos: u64,
    pub(crate) last_nanos: u64,
    /// What the stream gives in them.
    pub(crate) frame: &'a mut SourceFrame,
    pub(crate) effort: &'a mut Effort,
}

impl LeftTicks<'_> {
    fn is_none(&self) -> bool {
        self.first_nanos > self.last_nanos
    }
}

impl<S: MediaSocket> Stream<S> {
    /// Control thread. `likely`: the codec that is most likely to come.
    pub(crate) fn new(socket: S, mut setup: StreamSetup, likely: Codec, shared: Arc<StreamShared>) -> Self {
        let mut stream = Stream {
            socket,
            looked: false,
            strays: 0,
            relay: None,
            route: Route::new(setup.path),
            path: setup.path,
            channels: Channels::default(),
            marked: Box::new([0; MAX_DATAGRAM]),
            protection: setup.protection,
            receiver: Receiver::new(likely),
            sender: Sender::new(setup.ssrc, likely),
            sent_nanos: 0,
            converters: Converters::default(),
            level_in: LevelMeter::new(),
            level_out: LevelMeter::new(),
            watch: None,
            own_ssrc_heard: None,
            counters: StreamCounters::default(),
            shared,
        };
        stream.replace(&mut setup);
        stream.publish();
        stream
    }

    /// Puts another plan in force; answers the event whose sending it broke off.
    pub(crate) fn replace(&mut self, setup: &mut StreamSetup) -> Option<char> {
        self.route.replace(setup.path);
        self.path = setup.path;
        self.channels.follow(setup.path);
        self.protection = setup.protection;
        self.receiver.meanings = setup.meanings;
        for (held, new) in self.receiver.decoding.decoders.iter_mut().zip(&mut setup.decoders) {
            if new.is_some() {
                std::mem::swap(held, new);
            }
        }
        self.converters.replace(&mut setup.converters);
        self.receiver.set_play(setup.play);
        let broken_off = self.sender.replace(setup.ssrc, setup.send.take(), &mut setup.encoder);
        self.sender.keep_open(setup.keep_open);
        self.counters.events_sent += u64::from(broken_off.is_some());
        broken_off
    }

    /// Goes on with another socket; answers the one before. What waits in that one is lost.
    pub(crate) fn move_to(&mut self, socket: S) -> S {
        std::mem::replace(&mut self.socket, socket)
    }

    /// Takes what has arrived, if it looks for it. `left`: ticks that are served later than at their time. Packets tell when
    /// they came, not when they were read: each tick knows of those that it would have known. `all_read`: nothing can have
    /// come since the last tick.
    pub(crate) fn receive(
        &mut self,
        id: PortId,
        now_nanos: u64,
        mut left: LeftTicks<'_>,
        all_read: bool,
        batch: &mut Batch,
        outbox: &mut Outbox,
    ) {
        if left.is_none() {
            self.looked = self.looks();
            if all_read || !self.looked {
                return;
            }
        }
        self.strays = 0;
        for _ in 0..MAX_BATCHES {
            batch.len = 0;
            self.socket.receive(batch);
            for datagram in batch.datagrams.iter_mut().take(batch.len) {
                let Datagram { bytes, len, source, at_nanos } = datagram;
                let bytes = bytes.get_mut(..*len).unwrap_or_default();
                self.make_up_for(id, &mut left, *at_nanos, outbox);
                self.datagram(id, bytes, *source, *at_nanos, outbox);
            }
            if batch.len < BATCH {
                break;
            }
        }
        self.receive_by_relay(id, &mut left, outbox);
        self.make_up_for(id, &mut left, u64::MAX, outbox);
        if let Some(event) = self.receiver.expire_event(now_nanos) {
            outbox.event(dtmf_received(id, event));
        }
    }

    /// Takes what has come by the connection with a TURN server.
    fn receive_by_relay(&mut self, id: PortId, left: &mut LeftTicks<'_>, outbox: &mut Outbox) {
        let Some(relay) = &mut self.relay else { return };
        self.counters.packets_discarded += relay.dropped.swap(0, Ordering::Relaxed);
        for _ in 0..RELAY_PACKETS {
            let Some(relay) = &mut self.relay else { return };
            let Ok(mut packet) = relay.incoming.pop() else { return };
            self.make_up_for(id, left, packet.at_nanos, outbox);
            let inside = self.channels.inside(None, packet.message());
            match inside.and_then(|inside| packet.bytes.get_mut(inside)) {
                Some(bytes) if Class::of(bytes) == Class::Rtp => {
                    self.rtp(id, bytes, self.path.remote(), packet.at_nanos, outbox);
                }
                // Whoever has the connection keeps back what is not RTP.
                _ => self.counters.packets_invalid += 1,
            }
        }
    }

    /// Serves those of the ticks left that know nothing of a packet that came at `until_nanos`.
    fn make_up_for(&mut self, id: PortId, left: &mut LeftTicks<'_>, until_nanos: u64, outbox: &mut Outbox) {
        while !left.is_none() {
            let looks = self.looks();
            if looks && left.first_nanos >= until_nanos {
                return;
            }
            self.looked = looks;
            self.fill(id, left.first_nanos, left.frame, left.effort, outbox);
            left.first_nanos += TICK_NANOS;
        }
    }

    /// Whether the tick that comes asks what has come. Whoever has sound for it is asked again in the next one: with packets
    /// of 20 ms half of all looks would find nothing, or something that is not wanted yet.
    fn looks(&self) -> bool {
        !(self.looked && self.receiver.has_sound())
    }

    /// Takes a packet of the peer's that the control side has found in what a relay sent.
    pub(crate) fn take(&mut self, id: PortId, packet: &mut RelayPacket, outbox: &mut Outbox) {
        let RelayPacket { bytes, len, at_nanos } = packet;
        match bytes.get_mut(..*len) {
            Some(bytes) if Class::of(bytes) == Class::Rtp => {
                self.rtp(id, bytes, self.path.remote(), *at_nanos, outbox);
            }
            _ => self.counters.packets_invalid += 1,
        }
    }

    fn datagram(
        &mut self,
        id: PortId,
        bytes: &mut [u8],
        source: SocketAddr,
        at_nanos: u64,
        outbox: &mut Outbox,
    ) {
        let mut bytes = bytes;
        let mut class = Class::of(bytes);
        if let Some(inside) = self.channels.inside(Some(source), bytes) {
            let carried = Class::of(bytes.get(inside.clone()).unwrap_or_default());
            // The control side wants STUN and DTLS as they came: only the whole says by which relay.
            if matches!(carried, Class::Rtp | Class::Rtcp) {
                class = carried;
                bytes = bytes.get_mut(inside).unwrap_or_default();
            }
        }
        match class {
            Class::Rtp => self.rtp(id, bytes, source, at_nanos, outbox),
            Class::Rtcp | Class::Control => {
                if self.strays < MAX_STRAYS && outbox.stray(id, source, at_nanos, bytes) {
                    self.strays += 1;
                } else {
                    self.counters.packets_discarded += 1;
                }
            }
            Class::Unknown => self.counters.packets_invalid += 1,
        }
    }

    fn rtp(&mut self, id: PortId, bytes: &mut [u8], source: SocketAddr, at_nanos: u64, outbox: &mut Outbox) {
        let Some(bytes) = unprotect(self.protection, bytes) else {
            self.counters.packets_invalid += 1;
            return;
        };
        let valid = RtpReader::new(bytes).ok().and_then(|reader| {
            let packet = Packet {
                sequence: reader.sequence_number().into(),
                timestamp: reader.timestamp(),
                ssrc: reader.ssrc(),
                payload_type: reader.payload_type(),
                marker: reader.mark(),
                at_nanos,
                payload: reader.payload(),
            };
            let octets = packet.payload.len() as u64;
            let (packet, redundant) = self.receiver.unpack(packet)?;
            let content = match self.receiver.content(packet.payload_type, packet.payload) {
                // What keeps the way open (RFC 6263 section 4.6) takes its place in the sequence, or it would be missed.
                None if packet.payload.is_empty() && self.receiver.ssrc() == Some(packet.ssrc) => {
                    Content::Nothing
                }
                content => content?,
            };
            Some((packet, redundant, content, octets))
        });
        let Some((packet, redundant, content, octets)) = valid else {
            self.counters.packets_invalid += 1;
            return;
        };
        let known = self.receiver.ssrc();
        let verdict = self.route.judge(source, packet.ssrc, packet.sequence, at_nanos, known);
        let (trusted, moved) = match verdict {
            Verdict::Foreign => {
                self.counters.packets_invalid += 1;
                return;
            }
            Verdict::Accept => (false, None),
            Verdict::AcceptAndMove { remote } => (false, Some(remote)),
            Verdict::AcceptNewcomer { moved } => (true, moved),
        };
        if let Some(remote) = moved {
            outbox.event(EngineEvent::RemoteChanged { port: id, remote });
        }
        if packet.ssrc == self.sender.ssrc() && self.own_ssrc_heard != Some(packet.ssrc) {
            self.own_ssrc_heard = Some(packet.ssrc);
            outbox.event(match self.sender.has_sent(packet.sequence, packet.timestamp) {
                true => EngineEvent::Reflected { port: id, source },
                false => EngineEvent::SsrcCollision { port: id, source },
            });
        }
        match self.receiver.admit(packet.ssrc, packet.sequence, trusted) {
            Origin::Known => {}
            Origin::First => outbox.event(EngineEvent::FirstPacket { port: id }),
            Origin::Changed => {
                if let Some(event) = self.receiver.restart_events() {
                    outbox.event(dtmf_received(id, event));
                }
                outbox.event(EngineEvent::SsrcChanged { port: id, ssrc: packet.ssrc });
            }
            Origin::OnProbation => {
                self.counters.packets_invalid += 1;
                if let Content::Audio { codec, duration } = content {
                    self.receiver.keep_aside(packet, codec, duration);
                }
                return;
            }
        }
        self.counters.packets_received += 1;
        self.counters.octets_received += octets;
        self.counters.last_received_nanos = at_nanos;
        match content {
            Content::Audio { codec, duration } => {
                self.receiver.audio(packet, codec, duration, redundant, &mut self.counters);
            }
            Content::Event(rate) => {
                for event in self.receiver.event(packet, rate).into_iter().flatten() {
                    outbox.event(dtmf_received(id, event));
                }
            }
            Content::Noise(rate) => self.receiver.noise(packet, rate),
            Content::Nothing => self.receiver.nothing(packet),
        }
    }

    /// Gives what was received for this tick.
    pub(crate) fn fill(
        &mut self,
        id: PortId,
        now_nanos: u64,
        frame: &mut SourceFrame,
        effort: &mut Effort,
        outbox: &mut Outbox,
    ) {
        self.receiver.fill(now_nanos, frame, effort);
        self.level_in.add(frame.own());
        if let Some(watch) = &mut self.watch {
            // Silence before the first packet is ours, not the peer's.
            let heard: &[f32] = if self.receiver.decoding.has_begun() { frame.own() } else { &[] };
            watch.far(id, frame.rate, heard, outbox);
        }
    }

    /// Takes what this tick sends, and makes it ready for [`Stream::send`]: 10 ms at the rate of the plan's codec, and whether
    /// it is muted, so that there is nothing in it but a tone. `tick`: number of the tick, shifted by the stream's phase.
    pub(crate) fn transmit(
        &mut self,
        id: PortId,
        now_nanos: u64,
        (samples, muted): (&[f32], bool),
        tick: u64,
        complexity: u8,
        outbox: &mut Outbox,
    ) {
        self.level_out.add(samples);
        if let Some(watch) = &mut self.watch {
            let unheard = muted && is_silent(samples);
            let heard: &[f32] = if unheard { &[] } else { samples };
            watch.near(id, samples.len() as u32 * 100, heard, outbox);
        }
        if let Some(digit) = self.sender.push(samples, tick, complexity) {
            self.counters.events_sent += 1;
            outbox.event(EngineEvent::DtmfSent { port: id, digit });
        }
        self.sent_nanos = now_nanos;
    }

    /// Sends what this tick has made ready.
    pub(crate) fn send(&mut self, outbox: &mut Outbox) {
        let Stream { socket, relay, route, path, marked, protection, sender, counters, sent_nanos, .. } =
            self;
        sender.emit(|outgoing| {
            let Outgoing { buffer, len, octets, audio_timestamp, counted } = outgoing;
            let taken = protect(*protection, buffer, len).is_some_and(|packet| match *path {
                Path::Udp { .. } => socket.send(route.remote(), packet),
                Path::TurnChannel { server, channel } => {
                    mark(marked, channel, packet).is_some_and(|marked| socket.send(server, marked))
                }
                Path::Stream { channel, .. } => {
                    let sent = mark(marked, channel, packet).is_some_and(|marked| send(relay, marked));
                    outbox.told |= sent;
                    sent
                }
            });
            if !counted {
                return;
            }
            if !taken {
                counters.packets_unsent += 1;
                return;
            }
            counters.packets_sent += 1;
            counters.octets_sent += octets as u64;
            if let Some(timestamp) = audio_timestamp {
                (counters.last_sent_timestamp, counters.last_sent_nanos) = (timestamp, *sent_nanos);
            }
        });
    }

    /// Other rings, or none; answers those that were.
    pub(crate) fn attach(&mut self, relay: Option<Box<RelayPort>>) -> Option<Box<RelayPort>> {
        std::mem::replace(&mut self.relay, relay)
    }

    /// A tick in which the plan sends nothing.
    pub(crate) fn rest(&mut self, id: PortId, outbox: &mut Outbox) {
        self.level_out.add(&[]);
        if let Some(watch) = &mut self.watch {
            watch.near(id, 0, &[], outbox);
        }
        self.sender.rest();
    }

    /// `ticks` were left out.
    pub(crate) fn skip(&mut self, ticks: u64) {
        self.sender.skip(ticks);
    }

    /// How packets are sent from now on.
    pub(crate) fn steer(&mut self, steering: Steering) {
        self.sender.steer(steering);
    }

    /// Queues a telephone event; `false` when the queue is full.
    pub(crate) fn send_event(&mut self, digit: char, duration_ms: u32) -> bool {
        self.sender.events.push(digit, duration_ms)
    }

    pub(crate) fn publish(&mut self) {
        self.receiver.count(&mut self.counters);
        self.sender.count(&mut self.counters);
        self.counters.level_in_dbov = self.level_in.dbov();
        self.counters.level_out_dbov = self.level_out.dbov();
        self.shared.publish(&pack_stream(&self.counters));
    }
}

impl<S> Stream<S> {
    /// Rate of the sound that this stream wants to send, in hertz; `None`: it sends nothing now.
    pub(crate) fn sink_rate(&self) -> Option<u32> {
        self.sender.rate()
    }

    /// Whether it may send something in the tick that comes.
    pub(crate) fn is_due(&self) -> bool {
        self.sender.is_due()
    }

    /// Whether its encoder takes no time to speak of, so that many may work in the same tick.
    pub(crate) fn encodes_at_once(&self) -> bool {
        self.sender.encodes_at_once()
    }

    /// Whether it encodes with something that may try more or less.
    pub(crate) fn encodes_by_effort(&self) -> bool {
        self.sender.encodes_by_effort()
    }
}

fn dtmf_received(port: PortId, event: ReceivedEvent) -> EngineEvent {
    EngineEvent::DtmfReceived { port, digit: event.digit, duration_ms: event.duration_ms }
}

/// Gives a packet to the connection; `false` when there is none, or no room.
fn send(relay: &mut Option<Box<RelayPort>>, message: &[u8]) -> bool {
    let Some(relay) = relay else { return false };
    RelayPacket::new(message, 0).is_some_and(|packet| relay.outgoing.push(packet).is_ok())
}

/// What a datagram is, by its first bytes (RFC 7983 section 7, RFC 5761 section 4).
#[derive(Debug, PartialEq, Eq)]
enum Class {
    Rtp,
    Rtcp,
    /// STUN, DTLS or TURN channel data.
    Control,
    Unknown,
}

impl Class {
    fn of(bytes: &[u8]) -> Class {
        match bytes {
            [128..=191, 192..=223, ..] => Class::Rtcp,
            [128..=191, ..] => Class::Rtp,
            [0..=3 | 20..=79, ..] => Class::Control,
            _ => Class::Unknown,
        }
    }
}

/// Takes the protection off a received packet, in place; `None` when it is not authentic.
fn unprotect(protection: Protection, packet: &mut [u8]) -> Option<&[u8]> {
    match protection {
        Protection::None => Some(packet),
    }
}

/// Protects a packet of `len` bytes in place; `buffer` has room behind it for what that adds.
fn protect(protection: Protection, buffer: &mut [u8; MAX_DATAGRAM], len: usize) -> Option<&[u8]> {
    match protection {
        Protection::None => buffer.get(..len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        assert_eq!(Class::of(&[0x80, 0]), Class::Rtp);
        assert_eq!(Class::of(&[0x80, 0x80 | 96]), Class::Rtp);
        assert_eq!(Class::of(&[0x80, 200]), Class::Rtcp);
        assert_eq!(Class::of(&[0, 1]), Class::Control);
        assert_eq!(Class::of(&[22, 254]), Class::Control);
        assert_eq!(Class::of(&[0x40, 1]), Class::Control);
        assert_eq!(Class::of(&[16]), Class::Unknown);
        assert_eq!(Class::of(b"GARBAGE"), Class::Control);
        assert_eq!(Class::of(&[255]), Class::Unknown);
        assert_eq!(Class::of(&[]), Class::Unknown);
    }
}
