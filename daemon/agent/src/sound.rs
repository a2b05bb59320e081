//! Where sound goes: which port hears which, which tone sounds where, and whether the sound card is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use voipd_audio::PortId;
use voipd_audio::tone::Tone;

use crate::agent::Agent;
use crate::call::{Call, Phase, Sound};
use crate::output::{DEVICE_INPUT, DEVICE_OUTPUT, Output, RINGER};

/// How long the busy tone sounds.
const BUSY_TONE: Duration = Duration::from_secs(3);

/// What was last asked of the engine and of the devices.
#[derive(Default)]
pub(crate) struct Routing {
    connected: BTreeMap<PortId, Vec<PortId>>,
    tones: BTreeMap<PortId, Tone>,
    device: bool,
    ringer: bool,
    busy_until: Option<Instant>,
}

impl Routing {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.busy_until
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.busy_until = self.busy_until.filter(|until| *until > now);
    }

    /// A call to somebody who does not want it ended: let it be heard.
    pub(crate) fn sound_busy(&mut self, now: Instant) {
        self.busy_until = Some(now + BUSY_TONE);
    }

    /// A port is gone, and with it what was connected to it.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.connected.remove(&port);
        for sources in self.connected.values_mut() {
            sources.retain(|source| *source != port);
        }
    }
}

impl Agent {
    /// Works out where all sound should go, and asks for what differs from now.
    pub(crate) fn route(&mut self, now: Instant) {
        let at_device: Vec<PortId> = self
            .calls
            .values()
            .filter(|call| call.uses_device() && call.is_audible())
            .map(|call| call.stream_port)
            .collect();
        self.note_mixing(at_device.len());
        let mut wanted: BTreeMap<PortId, Vec<PortId>> = BTreeMap::new();
        for call in self.calls.values().filter(|call| call.is_audible()) {
            wanted.insert(call.stream_port, sources_of(call, &at_device));
        }
        let talking = !at_device.is_empty();
        wanted.insert(DEVICE_OUTPUT, at_device);
        let tones = self.wanted_tones(now, talking);
        let device =
            talking || tones.contains_key(&DEVICE_OUTPUT) || self.calls.values().any(prepares_device);
        let ringer = tones.contains_key(&RINGER);

        // What is needed is opened before it is used, and closed after.
        if device && !self.routing.device {
            self.outputs.push_back(Output::UseDevice(true));
        }
        if ringer && !self.routing.ringer {
            self.outputs.push_back(Output::UseRinger(true));
        }
        self.connect(wanted);
        self.sound_tones(tones);
        if !device && self.routing.device {
            self.outputs.push_back(Output::UseDevice(false));
        }
        if !ringer && self.routing.ringer {
            self.outputs.push_back(Output::UseRinger(false));
        }
        (self.routing.device, self.routing.ringer) = (device, ringer);
    }

    fn note_mixing(&mut self, at_device: usize) {
        for call in self.calls.values_mut() {
            let mixed = at_device > 1 && call.uses_device() && call.is_audible();
            if call.mixed != mixed {
                call.mixed = mixed;
                self.touched.insert(call.id);
            }
        }
    }

    fn connect(&mut self, wanted: BTreeMap<PortId, Vec<PortId>>) {
        let sinks: Vec<PortId> = self.routing.connected.keys().chain(wanted.keys()).copied().collect();
        for sink in sinks {
            let sources = wanted.get(&sink).cloned().unwrap_or_default();
            let current = self.routing.connected.get(&sink);
            if current.map_or(!sources.is_empty(), |current| *current != sources) {
                self.outputs.push_back(Output::Connect { sink, sources: sources.clone() });
            }
            if sources.is_empty() {
                self.routing.connected.remove(&sink);
            } else {
                self.routing.connected.insert(sink, sources);
            }
        }
    }

    fn sound_tones(&mut self, wanted: BTreeMap<PortId, Tone>) {
        for port in [DEVICE_OUTPUT, RINGER] {
            let tone = wanted.get(&port).copied();
            if tone != self.routing.tones.get(&port).copied() {
                self.outputs.push_back(Output::PlayTone { port, tone });
            }
        }
        self.routing.tones = wanted;
    }

    fn wanted_tones(&self, now: Instant, talking: bool) -> BTreeMap<PortId, Tone> {
        let rings = self.calls.values().any(|call| call.phase == Phase::Incoming { silenced: false });
        let hears_ringback =
            self.calls.values().any(|call| call.phase == Phase::Ringing && prepares_device(call));
        let mut tones = BTreeMap::new();
        if rings && !talking {
            tones.insert(RINGER, Tone::RING);
        }
        if rings && talking {
            tones.insert(DEVICE_OUTPUT, Tone::CALL_WAITING);
        } else if hears_ringback && !talking {
            tones.insert(DEVICE_OUTPUT, Tone::RINGBACK);
        } else if self.routing.busy_until.is_some_and(|until| until > now) && !talking {
            tones.insert(DEVICE_OUTPUT, Tone::BUSY);
        }
        tones
    }
}

/// What a call's peer hears.
fn sources_of(call: &Call, at_device: &[PortId]) -> Vec<PortId> {
    let mut sources: Vec<PortId> = match call.sound {
        _ if call.is_replaced() => Vec::new(),
        Sound::Device => {
            let others = at_device.iter().copied().filter(|port| *port != call.stream_port);
            std::iter::once(DEVICE_INPUT).chain(others).collect()
        }
        Sound::Ports => Vec::new(),
        Sound::Echo => vec![call.stream_port],
    };
    sources.extend(call.voices());
    sources
}

/// Calls that will need the sound device in a moment: it is opened while they ring, so that no word is lost.
fn prepares_device(call: &Call) -> bool {
    call.uses_device()
        && !call.local_hold
        && match call.phase {
            Phase::Dialing | Phase::Ringing | Phase::Early | Phase::Accepting | Phase::Active => true,
            Phase::Incoming { .. } | Phase::Ended { .. } => false,
        }
}
