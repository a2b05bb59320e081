//! The control half: builds what the tick runs and frees what it hands back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::BUS_RATE;
use crate::codec::{Decoder, Encoder, EncoderSettings};
use crate::engine::command::{COMMANDS, Command, Returned, StrayRecord};
use crate::engine::counters::{DeviceShared, EngineShared, StreamShared, unpack_engine, unpack_stream};
use crate::engine::device::Device;
use crate::engine::dtmf::{QUEUE, code_of};
use crate::engine::insert::{Insert, InsertPort};
use crate::engine::load::FULL_COMPLEXITY;
use crate::engine::port::{Clip, Converters, Kind, PlayedTone, Port, PortSet, RATES};
use crate::engine::program::{Program, ProgramPort};
use crate::engine::relay::{RelayPacket, RelayPort};
use crate::engine::stream::{Stream, StreamSetup};
use crate::engine::watch::ActivityWatch;
use crate::engine::{DevicePort, EngineError, MediaSocket, Stray};
use crate::plan::{
    Codec, EngineCounters, EngineEvent, PortId, ReceiveKind, SendPlan, Steering, StreamCounters, StreamPlan,
};
use crate::tone::Tone;

/// Commands that wait for the tick, beyond which it is handed no more packets: as sound they would be too late.
const MOST_HANDED: usize = 32;
/// Longest telephone event that can be asked for.
const MAX_EVENT_MS: u32 = 60_000;
/// Most that a device's sound is raised by.
const MAX_GAIN: f32 = 8.0;

/// The control half of an engine. Commands are never lost: what the queue has no room for waits here and is sent by
/// [`Controller::service`].
pub struct Controller<S: MediaSocket> {
    pub(crate) commands: rtrb::Producer<Command<S>>,
    pub(crate) pending: VecDeque<Command<S>>,
    pub(crate) returned: rtrb::Consumer<Returned<S>>,
    pub(crate) events: rtrb::Consumer<EngineEvent>,
    pub(crate) strays: rtrb::Consumer<StrayRecord>,
    pub(crate) shared: Arc<EngineShared>,
    pub(crate) ports: BTreeMap<PortId, Entry>,
    pub(crate) free: BTreeSet<usize>,
}

/// What the control side knows of a port.
pub(crate) struct Entry {
    slot: usize,
    kind: EntryKind,
}

enum EntryKind {
    Stream(Box<StreamEntry>),
    Device(Arc<DeviceShared>),
    Program,
}

/// What the control side knows of a stream: the plan, and what the tick already has to execute it.
struct StreamEntry {
    plan: StreamPlan,
    has: Equipment,
    shared: Arc<StreamShared>,
    events_queued: u64,
}

/// What a stream has been given so far.
#[derive(Clone, Copy, Default)]
struct Equipment {
    encoder: Option<EncoderSettings>,
    decoders: [bool; Codec::COUNT],
    /// Sound at these of [`RATES`] can be converted.
    converters: [bool; RATES.len()],
}

impl<S: MediaSocket> Controller<S> {
    /// Opens a stream on `socket`. It hears nothing and is heard by nobody until [`Controller::connect`].
    pub fn open_stream(&mut self, port: PortId, plan: StreamPlan, socket: S) -> Result<(), EngineError> {
        let mut has = Equipment::default();
        let setup = equip(&plan, &mut has)?;
        let slot = self.take_slot(port)?;
        let shared = StreamShared::new();
        let stream = Stream::new(socket, setup, likely_codec(&plan), shared.clone());
        self.open(slot, port, Kind::Stream(Box::new(stream)));
        let entry = StreamEntry { plan, has, shared, events_queued: 0 };
        self.ports.insert(port, Entry { slot, kind: EntryKind::Stream(Box::new(entry)) });
        Ok(())
    }

    /// Replaces the plan; a lower or equal generation is ignored. Codec state is kept where the codec stays, sequence
    /// numbers and timestamps go on, and nothing audible happens when only the path changes.
    pub fn update_stream(&mut self, port: PortId, plan: StreamPlan) -> Result<(), EngineError> {
        let (slot, entry) = self.stream(port)?;
        if plan.generation <= entry.plan.generation {
            return Ok(());
        }
        let mut has = entry.has;
        let setup = Box::new(equip(&plan, &mut has)?);
        (entry.plan, entry.has) = (plan, has);
        self.send(Command::Plan { slot, setup });
        Ok(())
    }

    /// Goes on with another socket, since the address of the one before is gone or faces the peer no more: sequence
    /// numbers, timestamps, codecs and all connections stay. The socket before is closed.
    pub fn move_stream(&mut self, port: PortId, socket: S) -> Result<(), EngineError> {
        let (slot, _) = self.stream(port)?;
        self.send(Command::Move { slot, socket });
        Ok(())
    }

    /// Gives a stream the rings of a connection with a TURN server, which its path by [`crate::plan::Path::Stream`] takes,
    /// or takes them away.
    pub fn attach_relay(&mut self, port: PortId, relay: Option<RelayPort>) -> Result<(), EngineError> {
        let (slot, _) = self.stream(port)?;
        self.send(Command::Relay { slot, relay: relay.map(Box::new) });
        Ok(())
    }

    /// Hands a stream an RTP packet of its peer's that has come in another way than its path takes: by a relay that has no
    /// channel for the peer yet. `at_nanos`: monotonic time of its arrival. Dropped where it is too long, or where too many
    /// wait already.
    pub fn hand(&mut self, port: PortId, packet: &[u8], at_nanos: u64) -> Result<(), EngineError> {
        let (slot, _) = self.stream(port)?;
        if self.pending.len() < MOST_HANDED
            && let Some(packet) = RelayPacket::new(packet, at_nanos)
        {
            self.send(Command::Packet { slot, packet: Box::new(packet) });
        }
        Ok(())
    }

    /// Opens a port on a device's or a file's rings.
    pub fn open_device(&mut self, port: PortId, device: DevicePort) -> Result<(), EngineError> {
        let slot = self.take_slot(port)?;
        let shared = DeviceShared::new();
        self.open(slot, port, Kind::Device(Box::new(Device::new(device, shared.clone()))));
        self.ports.insert(port, Entry { slot, kind: EntryKind::Device(shared) });
        Ok(())
    }

    /// Opens a port by which somebody besides the sound card hears `stream`, and is heard where it is connected as a
    /// source. It is no sink of its own: what it hears is all that the stream's peer says and is told.
    pub fn open_program(
        &mut self,
        port: PortId,
        program: ProgramPort,
        stream: PortId,
    ) -> Result<(), EngineError> {
        let (stream, _) = self.stream(stream)?;
        let slot = self.take_slot(port)?;
        self.open(slot, port, Kind::Program(Box::new(Program::new(program, stream))));
        self.ports.insert(port, Entry { slot, kind: EntryKind::Program });
        Ok(())
    }

    /// Gives a device's port an insert, which processes what it captures, or takes it away.
    pub fn attach_insert(&mut self, port: PortId, insert: Option<InsertPort>) -> Result<(), EngineError> {
        let slot = self.device(port)?;
        let insert = insert.map(|insert| Box::new(Insert::new(insert)));
        self.send(Command::Insert { slot, insert });
        Ok(())
    }

    /// How loud a device's port captures and plays, as a factor: 1.0 as it is, at most 8.0. Takes effect within 10 ms,
    /// without a click.
    pub fn set_volume(&mut self, port: PortId, gain: f32) -> Result<(), EngineError> {
        let slot = self.device(port)?;
        let gain = if gain.is_nan() { 1.0 } else { gain.clamp(0.0, MAX_GAIN) };
        self.send(Command::Volume { slot, gain });
        Ok(())
    }

    /// Closes a port of any kind and takes it out of every connection.
    pub fn close(&mut self, port: PortId) {
        if let Some(Entry { slot, .. }) = self.ports.remove(&port) {
            // Commands are executed in order: whoever gets the slot next comes behind this.
            self.free.insert(slot);
            self.send(Command::Close { slot, room: Box::new(None) });
        }
    }

    /// What `sink` hears: the sum of `sources` (a stream's received sound, a device's capture). Replaces what was
    /// connected before. A stream may be its own source (echo).
    pub fn connect(&mut self, sink: PortId, sources: &[PortId]) -> Result<(), EngineError> {
        let slot = self.slot(sink)?;
        let mut set = Box::new(PortSet::EMPTY);
        for source in sources {
            set.insert(self.slot(*source)?);
        }
        self.send(Command::Connect { slot, sources: set });
        Ok(())
    }

    /// Mutes what a stream sends (comfort silence is sent) or a device captures.
    pub fn set_muted(&mut self, port: PortId, muted: bool) -> Result<(), EngineError> {
        let slot = self.slot(port)?;
        self.send(Command::Mute { slot, muted });
        Ok(())
    }

    /// Queues one telephone event (RFC 4733) on a stream; `WrongKind` where the plan has no events. While the plan
    /// sends nothing, events wait.
    pub fn send_dtmf(&mut self, port: PortId, digit: char, duration_ms: u32) -> Result<(), EngineError> {
        let (slot, entry) = self.stream(port)?;
        if entry.plan.send.as_ref().is_some_and(|send| send.events.is_none()) {
            return Err(EngineError::WrongKind);
        }
        if code_of(digit).is_none() || !(1..=MAX_EVENT_MS).contains(&duration_ms) {
            return Err(EngineError::InvalidEvent);
        }
        let sent = unpack_stream(entry.shared.read()).events_sent;
        if entry.events_queued.saturating_sub(sent) >= QUEUE as u64 {
            return Err(EngineError::TooManyEvents);
        }
        entry.events_queued += 1;
        self.send(Command::Event { slot, digit, duration_ms });
        Ok(())
    }

    /// Sends a stream otherwise from its next packet on; the plan's limits hold.
    pub fn steer(&mut self, port: PortId, steering: Steering) -> Result<(), EngineError> {
        let (slot, _) = self.stream(port)?;
        self.send(Command::Steer { slot, steering });
        Ok(())
    }

    /// Whether talk and silence on a stream are reported ([`EngineEvent::Activity`]). Unwatched, they cost nothing.
    pub fn watch_activity(&mut self, port: PortId, on: bool) -> Result<(), EngineError> {
        let (slot, entry) = self.stream(port)?;
        let watch = on.then(|| Box::new(ActivityWatch::new(likely_codec(&entry.plan))));
        self.send(Command::Watch { slot, watch });
        Ok(())
    }

    /// Mixes a tone into what `port` plays: a device to its listener, a stream to its peer. `None` stops it.
    pub fn play_tone(&mut self, port: PortId, tone: Option<Tone>) -> Result<(), EngineError> {
        let slot = self.slot(port)?;
        let tone = tone.map(|tone| Box::new(PlayedTone::new(tone, BUS_RATE)));
        self.send(Command::Tone { slot, tone });
        Ok(())
    }

    /// Mixes sound into what `port` plays, again and again, in the place of a tone; [`Controller::play_tone`] stops it.
    pub fn play_clip(&mut self, port: PortId, clip: Arc<Clip>) -> Result<(), EngineError> {
        let slot = self.slot(port)?;
        self.send(Command::Tone { slot, tone: Some(Box::new(PlayedTone::clip(clip))) });
        Ok(())
    }

    /// Sends waiting commands and frees what came back. Call after every wake and from time to time.
    pub fn service(&mut self) {
        while let Ok(returned) = self.returned.pop() {
            drop(returned);
        }
        while let Some(command) = self.pending.pop_front() {
            if let Err(rtrb::PushError::Full(command)) = self.commands.push(command) {
                self.pending.push_front(command);
                break;
            }
        }
    }

    /// What the real-time side has to report, oldest first.
    pub fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop().ok()
    }

    /// Packets on the RTP ports that are not RTP, oldest first.
    pub fn poll_stray(&mut self) -> Option<Stray> {
        let StrayRecord { port, source, at_nanos, len, bytes } = self.strays.pop().ok()?;
        Some(Stray { port, source, at_nanos, bytes: bytes.get(..len).unwrap_or_default().to_vec() })
    }

    /// Figures of a stream; `None` where `port` is none.
    pub fn stream_counters(&self, port: PortId) -> Option<StreamCounters> {
        match &self.ports.get(&port)?.kind {
            EntryKind::Stream(entry) => Some(unpack_stream(entry.shared.read())),
            EntryKind::Device(_) | EntryKind::Program => None,
        }
    }

    /// (capture, playback) levels of a device port in dBov.
    pub fn device_levels(&self, port: PortId) -> Option<(i8, i8)> {
        match &self.ports.get(&port)?.kind {
            EntryKind::Stream(_) | EntryKind::Program => None,
            EntryKind::Device(shared) => {
                Some((shared.capture.load(Ordering::Relaxed), shared.playback.load(Ordering::Relaxed)))
            }
        }
    }

    /// Figures of the engine.
    pub fn counters(&self) -> EngineCounters {
        unpack_engine(self.shared.read())
    }

    /// Whether anything wants ticks: without it the real-time thread parks. Who uses the controller asks this
    /// afterwards, and unparks the thread when the answer is yes.
    pub fn needs_ticks(&self) -> bool {
        !self.ports.is_empty() || !self.pending.is_empty() || self.commands.slots() < COMMANDS
    }

    fn slot(&self, port: PortId) -> Result<usize, EngineError> {
        self.ports.get(&port).map(|entry| entry.slot).ok_or(EngineError::NoSuchPort)
    }

    fn stream(&mut self, port: PortId) -> Result<(usize, &mut StreamEntry), EngineError> {
        match self.ports.get_mut(&port).ok_or(EngineError::NoSuchPort)? {
            Entry { slot, kind: EntryKind::Stream(entry) } => Ok((*slot, entry)),
            Entry { kind: EntryKind::Device(_) | EntryKind::Program, .. } => Err(EngineError::WrongKind),
        }
    }

    fn device(&self, port: PortId) -> Result<usize, EngineError> {
        match self.ports.get(&port).ok_or(EngineError::NoSuchPort)? {
            Entry { slot, kind: EntryKind::Device(_) } => Ok(*slot),
            Entry { kind: EntryKind::Stream(_) | EntryKind::Program, .. } => Err(EngineError::WrongKind),
        }
    }

    fn take_slot(&mut self, port: PortId) -> Result<usize, EngineError> {
        if self.ports.contains_key(&port) {
            return Err(EngineError::PortInUse);
        }
        self.free.pop_first().ok_or(EngineError::Full)
    }

    fn open(&mut self, slot: usize, id: PortId, kind: Kind<S>) {
        let port = Box::new(Some(Port { id, sources: PortSet::EMPTY, muted: false, tone: None, kind }));
        self.send(Command::Open { slot, port });
    }

    fn send(&mut self, command: Command<S>) {
        self.pending.push_back(command);
        self.service();
    }
}

/// The codec whose packets will most likely come.
fn likely_codec(plan: &StreamPlan) -> Codec {
    let received = |wanted: Option<Codec>| {
        plan.receive.iter().find_map(|(_, kind)| match kind {
            ReceiveKind::Audio(codec) if wanted.is_none_or(|wanted| wanted == *codec) => Some(*codec),
            _ => None,
        })
    };
    let sent = plan.send.as_ref().map(|send| send.codec);
    received(sent).or_else(|| received(None)).or(sent).unwrap_or(Codec::Pcmu)
}

/// Makes whatever `plan` needs and the stream does not have.
fn equip(plan: &StreamPlan, has: &mut Equipment) -> Result<StreamSetup, EngineError> {
    let mut meanings = [None; 128];
    for (payload_type, kind) in &plan.receive {
        if let Some(meaning) = meanings.get_mut(usize::from(*payload_type)) {
            *meaning = Some(*kind);
        }
    }
    let mut decoders = [const { None }; Codec::COUNT];
    let mut converters = Converters::default();
    for codec in meanings.iter().filter_map(|meaning| match meaning {
        Some(ReceiveKind::Audio(codec)) => Some(*codec),
        _ => None,
    }) {
        if let (Some(made), Some(has)) =
            (decoders.get_mut(codec.index()), has.decoders.get_mut(codec.index()))
            && !*has
        {
            *made = Some(Decoder::new(codec)?);
            *has = true;
        }
        for (has, rate) in has.converters.iter_mut().zip(RATES) {
            if rate == codec.sample_rate() && !*has {
                converters.equip(rate);
                *has = true;
            }
        }
    }
    let send = plan.send.map(|send| SendPlan { ptime_ms: packet_time(send.codec, send.ptime_ms), ..send });
    let mut encoder = None;
    if let Some(SendPlan { codec, bitrate, fec, dtx, cbr, max_playback_rate, .. }) = send {
        let complexity = FULL_COMPLEXITY;
        let settings = EncoderSettings { codec, bitrate, fec, dtx, cbr, max_playback_rate, complexity };
        if has.encoder != Some(settings) {
            encoder = Some(Encoder::new(settings)?);
            has.encoder = Some(settings);
        }
    }
    let StreamPlan { path, protection, ssrc, keep_open, play, .. } = *plan;
    Ok(StreamSetup { path, protection, ssrc, send, keep_open, meanings, play, encoder, decoders, converters })
}

/// The packet time that is used where `wanted` is asked for: whole ticks, whole frames of the codec, no
/// more than a datagram holds.
pub(crate) fn packet_time(codec: Codec, wanted: u16) -> u16 {
    match (codec, wanted) {
        // RFC 6716 section 2.1.4 has no 30 ms and no 50 ms.
        (Codec::Opus, 30..40) => 20,
        (Codec::Opus, 50..60) => 40,
        (Codec::L16Full, _) => 10,
        (Codec::L16Wide, 41..) => 40,
        (Codec::Gsm | Codec::SpeexNarrow | Codec::SpeexWide, 40..60) => 40,
        (Codec::Gsm | Codec::SpeexNarrow | Codec::SpeexWide, 0..40) => 20,
        (_, 10..=60) => wanted / 10 * 10,
        (_, 0..10) => 20,
        (_, _) => 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_times_are_whole_ticks_that_the_codec_has() {
        assert_eq!(packet_time(Codec::Opus, 30), 20);
        assert_eq!(packet_time(Codec::Opus, 55), 40);
        assert_eq!(packet_time(Codec::Pcmu, 30), 30);
        assert_eq!(packet_time(Codec::Pcmu, 0), 20);
        assert_eq!(packet_time(Codec::Pcma, 25), 20);
        assert_eq!(packet_time(Codec::Opus, 120), 60);
        assert_eq!(packet_time(Codec::Gsm, 30), 20);
        assert_eq!(packet_time(Codec::SpeexWide, 10), 20);
        assert_eq!(packet_time(Codec::SpeexWide, 60), 60);
        assert_eq!(packet_time(Codec::L16Full, 20), 10);
        assert_eq!(packet_time(Codec::L16Wide, 60), 40);
    }
}
