//! The patchbay: which port hears which and which tone sounds where, remembered for ports that are not open yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use voipd_audio::engine::{Clip, Controller, EngineError, MediaSocket, ProgramPort};
use voipd_audio::tone::{Signal, Tone};
use voipd_audio::{PortId, StreamPlan};

/// Where the ringer's sound comes back, when it sounds at the output's device.
pub const RING_RETURN: PortId = PortId(4);

/// The engine's ports and what is wanted of them.
pub struct Patchbay<S: MediaSocket> {
    controller: Controller<S>,
    open: BTreeSet<PortId>,
    wanted: BTreeMap<PortId, Vec<PortId>>,
    /// Programs and recorders, and the stream that each hears by itself.
    taps: BTreeMap<PortId, PortId>,
    /// What a sink hears besides.
    joined: BTreeMap<PortId, PortId>,
    tones: BTreeMap<PortId, Tone>,
    /// What is heard in the place of tones.
    clips: BTreeMap<Signal, Arc<Clip>>,
    /// Programs whose stream is not open yet, and which stream that is.
    waiting: BTreeMap<PortId, (ProgramPort, PortId)>,
}

impl<S: MediaSocket> Patchbay<S> {
    /// Nothing is connected.
    pub fn new(controller: Controller<S>) -> Self {
        Self {
            controller,
            open: BTreeSet::new(),
            wanted: BTreeMap::new(),
            taps: BTreeMap::new(),
            joined: BTreeMap::new(),
            tones: BTreeMap::new(),
            clips: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The engine behind it, for what concerns one port alone.
    pub fn controller(&mut self) -> &mut Controller<S> {
        &mut self.controller
    }

    /// Opens a stream and connects it as wanted.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_stream(&mut self, port: PortId, plan: StreamPlan, socket: S) -> Result<(), EngineError> {
        self.controller.open_stream(port, plan, socket)?;
        self.opened(port);
        let (now, later) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, wait)| wait.1 == port);
        self.waiting = later;
        let now: BTreeMap<PortId, (ProgramPort, PortId)> = now;
        for (program, (rings, stream)) in now {
            if let Err(error) = self.open_program(program, rings, stream) {
                log::warn!("a program cannot join its call: {error}");
            }
        }
        Ok(())
    }

    /// Opens a device or a file and connects it as wanted.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_device(
        &mut self,
        port: PortId,
        device: voipd_audio::engine::DevicePort,
    ) -> Result<(), EngineError> {
        if self.open.contains(&port) {
            self.controller.close(port);
        }
        self.controller.open_device(port, device)?;
        self.opened(port);
        Ok(())
    }

    /// Opens a program's port as soon as the stream that it hears is open, and connects it as wanted.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_program(
        &mut self,
        port: PortId,
        rings: ProgramPort,
        stream: PortId,
    ) -> Result<(), EngineError> {
        if self.open.contains(&stream) {
            self.controller.open_program(port, rings, stream)?;
            self.taps.insert(port, stream);
            self.opened(port);
        } else {
            self.waiting.insert(port, (rings, stream));
        }
        Ok(())
    }

    /// Closes a port; what is wanted of it stays remembered for when it opens again.
    pub fn close(&mut self, port: PortId) {
        if self.open.remove(&port) {
            self.controller.close(port);
        }
    }

    /// Closes a port that will never open again.
    pub fn forget(&mut self, port: PortId) {
        self.close(port);
        self.wanted.remove(&port);
        self.tones.remove(&port);
        self.taps.retain(|program, stream| *program != port && *stream != port);
        self.waiting.retain(|program, (_, stream)| *program != port && *stream != port);
        for sources in self.wanted.values_mut() {
            sources.retain(|source| *source != port);
        }
    }

    /// What `sink` shall hear from now on.
    pub fn connect(&mut self, sink: PortId, sources: Vec<PortId>) {
        if sources.is_empty() {
            self.wanted.remove(&sink);
        } else {
            self.wanted.insert(sink, sources);
        }
        self.apply(sink);
    }

    /// What `sink` hears, of all that is open.
    pub fn heard_by(&self, sink: PortId) -> Vec<PortId> {
        let wanted = self.wanted.get(&sink).map(Vec::as_slice).unwrap_or_default();
        wanted.iter().copied().filter(|source| self.open.contains(source)).collect()
    }

    /// Who hears `source`, of all that is open.
    pub fn listeners_of(&self, source: PortId) -> Vec<PortId> {
        let hears = |sink: &&PortId| {
            self.wanted.get(sink).is_some_and(|sources| sources.contains(&source))
                || self.taps.get(sink) == Some(&source)
        };
        self.open.iter().filter(hears).copied().collect()
    }

    /// What `sink` shall hear besides what it is connected to.
    pub fn join(&mut self, sink: PortId, source: Option<PortId>) {
        match source {
            Some(source) => self.joined.insert(sink, source),
            None => self.joined.remove(&sink),
        };
        self.apply(sink);
    }

    /// Which tone shall sound at `port` from now on.
    pub fn play_tone(&mut self, port: PortId, tone: Option<Tone>) {
        match tone {
            Some(tone) => self.tones.insert(port, tone),
            None => self.tones.remove(&port),
        };
        if self.open.contains(&port) {
            self.sound(port, tone);
        }
    }

    /// Which tone sounds at `port`, now or when it opens.
    #[cfg(test)]
    pub fn tone_at(&self, port: PortId) -> Option<Tone> {
        self.tones.get(&port).copied()
    }

    /// What is heard in the place of a tone from now on.
    pub fn set_clip(&mut self, signal: Signal, clip: Clip) {
        self.clips.insert(signal, Arc::new(clip));
    }

    fn sound(&mut self, port: PortId, tone: Option<Tone>) {
        match tone.and_then(|tone| self.clips.get(&tone.signal)).cloned() {
            Some(clip) => self.report(port, |controller| controller.play_clip(port, clip)),
            None => self.report(port, |controller| controller.play_tone(port, tone)),
        }
    }

    fn opened(&mut self, port: PortId) {
        self.open.insert(port);
        self.apply(port);
        let hearing: Vec<PortId> = self
            .wanted
            .iter()
            .filter(|(sink, sources)| **sink != port && sources.contains(&port))
            .map(|(sink, _)| *sink)
            .collect();
        for sink in hearing {
            self.apply(sink);
        }
        if let Some(tone) = self.tones.get(&port).copied() {
            self.sound(port, Some(tone));
        }
    }

    /// Connects what is open of what is wanted.
    fn apply(&mut self, sink: PortId) {
        if !self.open.contains(&sink) {
            return;
        }
        let mut wanted = self.wanted.get(&sink).cloned().unwrap_or_default();
        wanted.extend(self.joined.get(&sink));
        let sources: Vec<PortId> = wanted.into_iter().filter(|source| self.open.contains(source)).collect();
        self.report(sink, |controller| controller.connect(sink, &sources));
    }

    /// The patchbay speaks only of ports that it opened: the engine's refusal would be a bug here.
    fn report(&mut self, port: PortId, act: impl FnOnce(&mut Controller<S>) -> Result<(), EngineError>) {
        if let Err(error) = act(&mut self.controller) {
            log::error!("the audio engine refused a change of port {}: {error}", port.0);
        }
    }
}
