//! The real-time half: one tick every 10 ms. Nothing here locks, allocates, frees, formats or logs.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::engine::command::{Command, Returned, StrayRecord};
use crate::engine::counters::{EngineShared, count_lateness, pack_engine};
use crate::engine::effort::Effort;
use crate::engine::insert::Insert;
use crate::engine::load::Load;
use crate::engine::mixer::{self, Mixer};
use crate::engine::port::{Kind, Port, PortSet, RATES, SourceFrame, frame_len};
use crate::engine::stream::{LeftTicks, Stream};
use crate::engine::{Batch, MAX_DATAGRAM, MediaSocket, Waker};
use crate::plan::{EngineCounters, EngineEvent, PortId};
use crate::{MAX_FRAME, TICK_NANOS};

/// The real-time half of an engine.
pub struct Processor<S: MediaSocket> {
    pub(crate) ports: Box<[Option<Port<S>>]>,
    /// Which slots have a port.
    pub(crate) open: PortSet,
    /// What each port gives in this tick, by slot: as many as have been needed. There is room for all.
    pub(crate) frames: Vec<SourceFrame>,
    pub(crate) mixer: Mixer,
    pub(crate) commands: rtrb::Consumer<Command<S>>,
    pub(crate) returned: rtrb::Producer<Returned<S>>,
    pub(crate) outbox: Outbox,
    pub(crate) batch: Batch,
    pub(crate) waker: Box<dyn Waker>,
    pub(crate) counters: EngineCounters,
    pub(crate) shared: Arc<EngineShared>,
    pub(crate) load: Load,
    pub(crate) effort: Effort,
    /// Ports that are recorded a moment ahead of the next tick.
    pub(crate) hurried: PortSet,
    /// When the last tick was due; `None` after a rest.
    pub(crate) last_due: Option<u64>,
    /// Ticks up to that one for which nothing was received.
    pub(crate) unheard: u64,
    /// Some port hears a stream.
    pub(crate) peers_heard: bool,
}

impl<S: MediaSocket> Processor<S> {
    /// One tick. `now_nanos`: monotonic clock; `late_nanos`: how long after its due time the tick started.
    /// Answers whether another tick is wanted; `false` parks the thread until the controller unparks it.
    pub fn tick(&mut self, now_nanos: u64, late_nanos: u64) -> bool {
        let all_read = self.unheard > 0;
        self.catch_up();
        self.tick_behind(now_nanos, late_nanos, all_read)
    }

    /// A tick before which all that was left is served. `all_read`: what had come was read for that.
    pub(super) fn tick_behind(&mut self, now_nanos: u64, late_nanos: u64, all_read: bool) -> bool {
        self.obey();
        self.keep_time(now_nanos, late_nanos);
        self.receive(now_nanos, 0, all_read);
        self.serve(now_nanos)
    }

    /// Lets streams take what has come. `left`: so many ticks up to this one are served late, and filled from what had come
    /// by their time. `all_read`: nothing can have come since.
    pub(super) fn receive(&mut self, now_nanos: u64, left: u64, all_read: bool) {
        // One kind of work after another: after a rest of 10 ms most of what a tick costs is to bring code back into the
        // processor's cache, the system's above all, and what a step brings is used best by the same step of the next port.
        let Self { ports, frames, batch, effort, outbox, .. } = self;
        for slot in self.open.iter() {
            if let (Some(Some(port)), Some(frame)) = (ports.get_mut(slot), frames.get_mut(slot))
                && let Kind::Stream(stream) = &mut port.kind
            {
                let first_nanos = now_nanos + TICK_NANOS - left * TICK_NANOS;
                let last_nanos = now_nanos;
                let ticks = LeftTicks { first_nanos, last_nanos, frame: &mut *frame, effort: &mut *effort };
                stream.receive(port.id, now_nanos, ticks, all_read, batch, outbox);
                if left > 0 {
                    frame.listen();
                }
            }
        }
    }

    /// Serves a tick for which everything has been received; answers whether another one is wanted.
    fn serve(&mut self, now_nanos: u64) -> bool {
        let open = self.open;
        self.hurried = PortSet::EMPTY;
        self.effort.begin(self.load.complexity());
        for slot in open.iter() {
            self.lend_reference(slot);
            self.fill(slot, now_nanos);
        }
        self.effort.count(&mut self.counters);
        self.mix(now_nanos, true);
        self.send();
        self.publish_streams();
        self.publish();
        let wanted = self.wants_ticks();
        if !wanted {
            self.last_due = None;
        }
        wanted
    }

    /// Gives everyone what the others have given for this tick. `heard`: `false` where it is known that there is nothing.
    pub(super) fn mix(&mut self, now_nanos: u64, heard: bool) {
        let (open, tick) = (self.open, self.counters.ticks);
        if heard {
            self.convert(open);
        }
        if self.mixer.is_stale() {
            let ports = &self.ports;
            let port = |slot: usize| ports.get(slot)?.as_ref();
            let hears = |sink: &Port<S>| sink.sources.iter().filter_map(port).any(Port::is_stream);
            self.peers_heard = open.iter().filter_map(port).any(hears);
            let adapts =
                |slot: &usize| matches!(ports.get(*slot), Some(Some(port)) if port.encodes_by_effort());
            self.load.expect(open.iter().filter(adapts).count());
            self.mixer.arrange(open.iter().filter_map(|slot| {
                let port = ports.get(slot)?.as_ref()?;
                Some((slot, port.sink_rate(), port.sources))
            }));
        }
        self.mixer.begin();
        let mut place = 0;
        while let Some(slot) = self.mixer.slot(place) {
            self.play((place, slot), tick, now_nanos, heard);
            place += 1;
        }
    }

    /// Whether [`Processor::record_ahead`] is to be called [`crate::HEAD_START_NANOS`] before the next tick.
    pub fn wants_head_start(&self) -> bool {
        !self.hurried.is_empty()
    }

    /// Records what microphones hear whose sound is processed, and sends it to be processed, so that it is back when the
    /// tick begins.
    pub fn record_ahead(&mut self) {
        for slot in self.hurried.iter() {
            self.lend_reference(slot);
            let Self { ports, counters, outbox, .. } = self;
            if let Some(Some(port)) = ports.get_mut(slot)
                && let Kind::Device(device) = &mut port.kind
            {
                device.record_ahead(port.id, counters, outbox);
            }
        }
    }

    /// Whether there is anything to do: a port, or a command that waits.
    pub fn wants_ticks(&self) -> bool {
        !self.open.is_empty() || !self.commands.is_empty()
    }

    /// How long the last tick took, or each of the last two, in nanoseconds: the engine reads no clock of its own.
    pub fn tick_took(&mut self, nanos: u64) {
        self.counters.longest_tick_us = self.counters.longest_tick_us.max(nanos / 1000);
        self.load.add(nanos);
    }

    pub(super) fn keep_time(&mut self, now_nanos: u64, late_nanos: u64) {
        let due = now_nanos.saturating_sub(late_nanos);
        let ticks = self.last_due.map_or(1, |last| (due.saturating_sub(last) + TICK_NANOS / 2) / TICK_NANOS);
        self.last_due = Some(due);
        self.counters.ticks += 1;
        self.outbox.calm = self.outbox.calm.saturating_add(1);
        count_lateness(&mut self.counters, late_nanos);
        if ticks > 1 {
            self.counters.ticks_missed += ticks - 1;
            for slot in self.open.iter() {
                if let Some(Some(port)) = self.ports.get_mut(slot)
                    && let Kind::Stream(stream) = &mut port.kind
                {
                    stream.skip(ticks - 1);
                }
            }
        }
    }

    pub(crate) fn port(&mut self, slot: usize) -> Option<&mut Port<S>> {
        self.ports.get_mut(slot)?.as_mut()
    }

    /// Shows a microphone's insert what the loudspeaker played in the tick before.
    fn lend_reference(&mut self, slot: usize) {
        let Some(insert) = self.insert(slot) else { return };
        if !insert.is_active() {
            return;
        }
        let (wanted, last) = (insert.reference_port(), insert.reference_slot);
        let hurried = insert.wants_head_start();
        if hurried {
            self.hurried.insert(slot);
        }
        let is_wanted = |ports: &[Option<Port<S>>], slot: usize| matches!(ports.get(slot), Some(Some(port)) if port.id == wanted);
        let found = if is_wanted(&self.ports, last) {
            Some(last)
        } else {
            self.open.iter().find(|slot| is_wanted(&self.ports, *slot))
        };
        // Two ports are needed at once: the insert is taken out of its own meanwhile.
        let Some(Kind::Device(device)) = self.port(slot).map(|port| &mut port.kind) else { return };
        let Some(mut insert) = device.insert.take() else { return };
        let played = found.and_then(|slot| match &self.ports.get(slot)?.as_ref()?.kind {
            Kind::Device(device) => device.played(),
            Kind::Stream(_) | Kind::Program(_) => None,
        });
        insert.hear(played);
        insert.reference_slot = found.unwrap_or_default();
        if let Some(Kind::Device(device)) = self.port(slot).map(|port| &mut port.kind) {
            device.insert = Some(insert);
        }
    }

    fn insert(&mut self, slot: usize) -> Option<&mut Insert> {
        match &mut self.port(slot)?.kind {
            Kind::Device(device) => device.insert.as_deref_mut(),
            Kind::Stream(_) | Kind::Program(_) => None,
        }
    }

    fn stream(&mut self, slot: usize) -> Option<&mut Stream<S>> {
        match &mut self.port(slot)?.kind {
            Kind::Stream(stream) => Some(stream),
            Kind::Device(_) | Kind::Program(_) => None,
        }
    }

    /// Lets streams send what they have made ready.
    pub(super) fn send(&mut self) {
        let Self { open, ports, outbox, .. } = self;
        for slot in open.iter() {
            if let Some(Some(port)) = ports.get_mut(slot)
                && let Kind::Stream(stream) = &mut port.kind
            {
                stream.send(outbox);
            }
        }
    }

    /// Shows the control side what streams have counted.
    pub(super) fn publish_streams(&mut self) {
        for slot in self.open.iter() {
            if let Some(stream) = self.stream(slot) {
                stream.publish();
            }
        }
    }

    /// Shows the control side what the engine has counted, and wakes it where it was told something.
    pub(super) fn publish(&mut self) {
        self.counters.events_dropped = self.outbox.dropped;
        self.shared.publish(&pack_engine(&self.counters));
        if std::mem::take(&mut self.outbox.told) {
            self.waker.wake();
        }
    }

    /// Lets a port give its sound for this tick.
    fn fill(&mut self, slot: usize, now_nanos: u64) {
        let (Some(Some(port)), Some(frame)) = (self.ports.get_mut(slot), self.frames.get_mut(slot)) else {
            return;
        };
        let Port { id, muted, kind, .. } = port;
        match kind {
            Kind::Stream(stream) => {
                stream.fill(*id, now_nanos, frame, &mut self.effort, &mut self.outbox);
            }
            Kind::Device(device) => device.fill(*id, *muted, frame, &mut self.counters, &mut self.outbox),
            Kind::Program(program) => program.fill(*muted, frame),
        }
        frame.listen();
    }

    /// Converts what some sink hears at another rate than its own: each source once, however many hear it.
    fn convert(&mut self, sinks: PortSet) {
        let mut heard = [PortSet::EMPTY; RATES.len()];
        for slot in sinks.iter() {
            if let Some(Some(port)) = self.ports.get(slot) {
                let wanted = match &port.kind {
                    Kind::Program(program) => program.hears(self.told(program.stream)),
                    Kind::Stream(_) | Kind::Device(_) => port.sink_rate().map(|rate| (rate, port.sources)),
                };
                for (heard, rate) in heard.iter_mut().zip(RATES) {
                    if let Some((_, sources)) = wanted.filter(|(wanted, _)| *wanted == rate) {
                        heard.add(sources);
                    }
                }
            }
        }
        for (heard, rate) in heard.into_iter().zip(RATES) {
            for slot in heard.iter() {
                if let (Some(Some(port)), Some(frame)) = (self.ports.get_mut(slot), self.frames.get_mut(slot))
                    && frame.rate != rate
                    && frame.is_sounding()
                {
                    frame.convert(rate, port.converters());
                }
            }
        }
    }

    /// What the peer of the stream in a slot is told in this tick.
    fn told(&self, stream: Option<usize>) -> PortSet {
        let port = stream.and_then(|slot| self.ports.get(slot)?.as_ref());
        port.filter(|port| !port.muted && port.sink_rate().is_some())
            .map_or(PortSet::EMPTY, |port| port.sources)
    }

    /// Gives a port what it hears. `place`: that of the port with the mixer; `tick`: number of the tick; `heard`: see
    /// [`Processor::mix`].
    fn play(&mut self, (place, slot): (usize, usize), tick: u64, now_nanos: u64, heard: bool) {
        if let Some(Some(port)) = self.ports.get(slot)
            && let Kind::Program(program) = &port.kind
        {
            let told = self.told(program.stream);
            if let Some(Some(port)) = self.ports.get_mut(slot)
                && let Kind::Program(program) = &mut port.kind
            {
                program.listen(&self.frames, told);
            }
            return;
        }
        let Some(Some(port)) = self.ports.get_mut(slot) else { return };
        let Some(rate) = port.sink_rate() else {
            if let Kind::Stream(stream) = &mut port.kind {
                stream.rest(port.id, &mut self.outbox);
            }
            return;
        };
        let mut sound = [0.0; MAX_FRAME];
        let sound = sound.get_mut(..frame_len(rate)).unwrap_or_default();
        if heard {
            self.mixer.mix(place, &self.frames, port.sources, rate, sound);
        }
        let Port { id, muted, tone, kind, .. } = port;
        if *muted && matches!(kind, Kind::Stream(_)) {
            sound.fill(0.0);
        }
        if let Some(played) = tone
            && !played.is_over()
        {
            if !played.mix_into(sound, rate) {
                self.outbox.event(EngineEvent::ToneEnded { port: *id });
            }
            mixer::limit(sound);
        }
        match kind {
            Kind::Stream(stream) => {
                // Costly encoders do not all work in the same tick; the others do, and their packets go out together.
                let tick = if stream.encodes_at_once() { tick } else { tick.wrapping_add(slot as u64) };
                let complexity = self.load.complexity();
                stream.transmit(*id, now_nanos, (sound, *muted), tick, complexity, &mut self.outbox);
            }
            Kind::Device(device) => device.play(sound, &mut self.counters),
            Kind::Program(_) => {}
        }
    }
}

/// What goes to the control side: bounded, and counted where it has no room.
pub(crate) struct Outbox {
    pub(crate) events: rtrb::Producer<EngineEvent>,
    pub(crate) strays: rtrb::Producer<StrayRecord>,
    pub(crate) dropped: u64,
    /// Something was said in this tick.
    pub(crate) told: bool,
    /// Wakings since the control side was last given a packet, or has changed something.
    pub(crate) calm: u32,
}

impl Outbox {
    pub(crate) fn event(&mut self, event: EngineEvent) {
        match self.events.push(event) {
            Ok(()) => self.told = true,
            Err(_) => self.dropped += 1,
        }
    }

    /// `false` when there is no room.
    pub(crate) fn stray(&mut self, port: PortId, source: SocketAddr, at_nanos: u64, datagram: &[u8]) -> bool {
        if self.strays.is_full() {
            return false;
        }
        let mut bytes = [0; MAX_DATAGRAM];
        let len = datagram.len().min(MAX_DATAGRAM);
        for (to, from) in bytes.iter_mut().zip(datagram) {
            *to = *from;
        }
        (self.told, self.calm) = (true, 0);
        self.strays.push(StrayRecord { port, source, at_nanos, len, bytes }).is_ok()
    }
}
