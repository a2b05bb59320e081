//! Where sound goes: which port hears which, which tone sounds where, and whether the sound card is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use voipd_audio::PortId;
use voipd_audio::tone::national::Country;
use voipd_audio::tone::{Signal, Tone};

use crate::agent::Agent;
use crate::call::{Call, Phase, Sound};
use crate::conference::Circle;
use crate::error::AgentError;
use crate::output::{DEVICE_INPUT, DEVICE_OUTPUT, Output, RINGER};
use crate::view::CallId;

/// How long it is told that a call did not come about: busy, or so; special information, which needs two rounds.
const BUSY_TONE: Duration = Duration::from_secs(3);
const INFORMATION_TONE: Duration = Duration::from_secs(4);
/// How long a dial tone waits for somebody to dial.
const DIAL_TONE: Duration = Duration::from_secs(30);

/// What was last asked of the engine and of the devices.
#[derive(Default)]
pub(crate) struct Routing {
    connected: BTreeMap<PortId, Vec<PortId>>,
    tones: BTreeMap<PortId, Tone>,
    device: bool,
    ringer: bool,
    /// What became of the last call that did not come about, and until when it is told.
    failure: Option<(Tone, Instant)>,
    /// Somebody is about to dial, and until when this is believed.
    dial_tone: Option<Instant>,
    /// Front ends were told that the dial tone sounds.
    told_dial_tone: bool,
}

impl Routing {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.failure.map(|(_, until)| until).into_iter().chain(self.dial_tone).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.failure = self.failure.filter(|(_, until)| *until > now);
        self.dial_tone = self.dial_tone.filter(|until| *until > now);
    }

    /// A call did not come about: let it be heard.
    pub(crate) fn sound_failure(&mut self, now: Instant, tone: Tone) {
        let time = if tone.signal == Signal::Information { INFORMATION_TONE } else { BUSY_TONE };
        self.failure = Some((tone, now + time));
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
    /// Lets the dial tone sound at the output (the receiver is off the hook), or ends it (a first digit is pressed). It
    /// ends by itself with the next call that has the sound device, and after half a minute.
    ///
    /// # Errors
    /// A call is at the sound device.
    pub fn set_dial_tone(&mut self, now: Instant, on: bool) -> Result<(), AgentError> {
        if on && self.calls.values().any(|call| self.prepares_device(call)) {
            return Err(AgentError::DeviceInUse);
        }
        self.routing.dial_tone = on.then_some(now + DIAL_TONE);
        // Whoever lifts the receiver again has heard how the last call ended.
        self.routing.failure = self.routing.failure.filter(|_| !on);
        self.settle(now);
        Ok(())
    }

    /// Works out where all sound should go, and asks for what differs from now.
    pub(crate) fn route(&mut self, now: Instant) {
        let mut voices: BTreeMap<Circle, Vec<PortId>> = BTreeMap::new();
        let (mut at_device, mut talking, mut heard) = (0, false, Vec::new());
        for call in self.calls.values().filter(|call| call.is_audible()) {
            let circle = self.circle(call);
            if let Some(circle) = circle.filter(|_| call.is_heard_by_others()) {
                voices.entry(circle).or_default().push(call.stream_port);
            }
            if circle == Some(Circle::Device) {
                at_device += 1;
                talking |= !call.wants_ringback();
                heard.extend(call.is_heard_here().then_some(call.stream_port));
            }
        }
        self.note_mixing(at_device);
        let mut wanted: BTreeMap<PortId, Vec<PortId>> = BTreeMap::new();
        for call in self.calls.values().filter(|call| call.is_audible()) {
            wanted.insert(call.stream_port, self.sources_of(call, &voices));
        }
        wanted.insert(DEVICE_OUTPUT, heard);
        if self.calls.values().any(|call| self.prepares_device(call)) {
            self.routing.dial_tone = None;
        }
        let dial_tone = self.routing.dial_tone.is_some();
        if std::mem::replace(&mut self.routing.told_dial_tone, dial_tone) != dial_tone {
            self.outputs.push_back(Output::DialTone(dial_tone));
        }
        let tones = self.wanted_tones(now, talking);
        let device = at_device > 0
            || tones.contains_key(&DEVICE_OUTPUT)
            || self.calls.values().any(|call| self.prepares_device(call));
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
        let changed: Vec<(CallId, bool)> = self
            .calls
            .values()
            .map(|call| (call, at_device > 1 && call.is_audible() && self.uses_device(call)))
            .filter(|(call, mixed)| call.mixed != *mixed)
            .map(|(call, mixed)| (call.id, mixed))
            .collect();
        for (id, mixed) in changed {
            if let Some(call) = self.calls.get_mut(&id) {
                call.mixed = mixed;
                self.touched.insert(id);
            }
        }
    }

    fn connect(&mut self, mut wanted: BTreeMap<PortId, Vec<PortId>>) {
        wanted.retain(|_, sources| !sources.is_empty());
        let connected = &self.routing.connected;
        // Nearly always: with many calls in a conference, each hears all the others.
        if wanted == *connected {
            return;
        }
        let new = wanted.keys().filter(|sink| !connected.contains_key(sink));
        for sink in connected.keys().chain(new) {
            // Of a port whose sources have all gone nothing need be said.
            let [sources, before] =
                [&wanted, connected].map(|sources| sources.get(sink).map_or(&[][..], Vec::as_slice));
            if sources != before {
                self.outputs.push_back(Output::Connect { sink: *sink, sources: sources.to_vec() });
            }
        }
        self.routing.connected = wanted;
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

    /// Whose signals are heard in a call.
    pub(crate) fn country_of(&self, call: Option<&Call>) -> &'static Country {
        let of_account = || {
            let account = self.accounts.get(call?.account)?;
            Country::by_code(account.settings.dial_plan.country.as_deref()?)
        };
        self.config.tones.or_else(of_account).unwrap_or(&Country::RECOMMENDED)
    }

    /// Whose dial tone is heard: of the account that calls when none is named.
    fn dialling_country(&self) -> &'static Country {
        let account = self.accounts.for_target(None).and_then(|id| self.accounts.get(id));
        let letters = account.and_then(|account| account.settings.dial_plan.country.as_deref());
        self.config.tones.or_else(|| Country::by_code(letters?)).unwrap_or(&Country::RECOMMENDED)
    }

    fn wanted_tones(&self, now: Instant, talking: bool) -> BTreeMap<PortId, Tone> {
        let rings = self.calls.values().any(|call| call.phase == Phase::Incoming { silenced: false });
        let ringing = self.calls.values().find(|call| call.wants_ringback() && self.prepares_device(call));
        let talks = self
            .calls
            .values()
            .find(|call| call.is_audible() && !call.wants_ringback() && self.uses_device(call));
        let national = |call: Option<&Call>, signal| self.country_of(call).tone(signal);
        let mut tones = BTreeMap::new();
        if rings && !talking {
            tones.insert(RINGER, Tone::RING);
        }
        if rings && talking {
            tones.insert(DEVICE_OUTPUT, national(talks, Signal::CallWaiting));
        } else if ringing.is_some() && !talking {
            tones.insert(DEVICE_OUTPUT, national(ringing, Signal::Ringback));
        } else if self.routing.dial_tone.is_some() {
            tones.insert(DEVICE_OUTPUT, self.dialling_country().tone(Signal::Dial));
        } else if let Some((tone, _)) = self.routing.failure.filter(|(_, until)| *until > now)
            && !talking
        {
            tones.insert(DEVICE_OUTPUT, tone);
        }
        tones
    }

    /// What a call's peer hears.
    fn sources_of(&self, call: &Call, voices: &BTreeMap<Circle, Vec<PortId>>) -> Vec<PortId> {
        let mut sources = match self.circle(call) {
            Some(circle) => {
                let others = voices.get(&circle).map_or(&[][..], Vec::as_slice).iter().copied();
                let microphone = self.hears_microphone(call) && !call.is_replaced();
                let microphone = microphone.then_some(DEVICE_INPUT);
                microphone.into_iter().chain(others.filter(|port| *port != call.stream_port)).collect()
            }
            // The sound that comes back is an echo service's microphone.
            None if call.sound == Sound::Echo && !call.is_replaced() => vec![call.stream_port],
            None => Vec::new(),
        };
        sources.extend(call.voices());
        sources
    }

    /// Calls that will need the sound device in a moment: it is opened while they ring, so that no word is lost.
    fn prepares_device(&self, call: &Call) -> bool {
        self.uses_device(call)
            && !call.local_hold
            && match call.phase {
                Phase::Dialing | Phase::Ringing | Phase::Early(_) | Phase::Accepting | Phase::Active => true,
                Phase::Incoming { .. } | Phase::Ended { .. } => false,
            }
    }
}
