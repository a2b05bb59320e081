//! The insert of a microphone's port: its sound goes block by block to a thread that processes it (echo, noise, gain)
//! and comes back. The tick never waits: what is not back in time is passed on as it was. It does not know what is done to
//! a block.
//!
//! Where the processing thread is quick enough, a block is recorded and sent a moment ahead of the tick that passes it on
//! ([`crate::HEAD_START_NANOS`]); where it is not, in one tick, to be passed on in the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::MAX_FRAME;
use crate::engine::Waker;
use crate::plan::PortId;
use crate::voice::{Block, EchoFigures, Stages, VoiceProcessor, cross_fade};

/// Blocks that may wait in each direction.
const BLOCKS: usize = 4;
/// Blocks that must come back in time, one after the other, before they are heard (again).
const TRUST: u32 = 5;
/// What a late block weighs against those in time: so many in a row make up for it.
const LATE: u32 = 500;
/// Three late ones within ten seconds: a moment is not enough for this machine.
const TOO_LATE: u32 = 2 * LATE;

/// What the control side, the tick and the processing thread know of one insert.
struct Shared {
    /// The port is gone.
    closed: AtomicBool,
    stages: AtomicU8,
    late: AtomicU64,
    blocks: AtomicU64,
    /// Milliseconds; `u64::MAX`: not known.
    echo_delay: AtomicU64,
    /// dB, as the bits of an `f32`; NaN: not known.
    enhancement: AtomicU64,
}

/// The tick's ends of an insert.
pub struct InsertPort {
    to: rtrb::Producer<Block>,
    from: rtrb::Consumer<Block>,
    shared: Arc<Shared>,
    reference: PortId,
    waker: Box<dyn Waker>,
}

/// The processing thread's ends.
pub struct InsertEnds {
    to: rtrb::Consumer<Block>,
    from: rtrb::Producer<Block>,
    shared: Arc<Shared>,
    voice: VoiceProcessor,
}

/// The control side's handle: switches stages while the sound runs, and reads figures.
#[derive(Clone)]
pub struct InsertSwitch(Arc<Shared>);

/// Makes an insert. `reference`: the port of the loudspeaker whose echo the microphone hears; `waker` wakes the
/// processing thread, at most once a tick and only while something is switched on.
#[must_use]
pub fn insert(reference: PortId, waker: Box<dyn Waker>) -> (InsertPort, InsertEnds, InsertSwitch) {
    let (to, sent) = rtrb::RingBuffer::new(BLOCKS);
    let (done, from) = rtrb::RingBuffer::new(BLOCKS);
    let shared = Arc::new(Shared {
        closed: AtomicBool::new(false),
        stages: AtomicU8::new(Stages::NONE.to_bits()),
        late: AtomicU64::new(0),
        blocks: AtomicU64::new(0),
        echo_delay: AtomicU64::new(u64::MAX),
        enhancement: AtomicU64::new(u64::from(f32::NAN.to_bits())),
    });
    let port = InsertPort { to, from, shared: shared.clone(), reference, waker };
    let ends = InsertEnds { to: sent, from: done, shared: shared.clone(), voice: VoiceProcessor::new() };
    (port, ends, InsertSwitch(shared))
}

impl InsertEnds {
    /// Processing thread, when it is woken: processes all that waits. `false` when the port is closed.
    pub fn process(&mut self) -> bool {
        while let Ok(mut block) = self.to.pop() {
            self.voice.process(&mut block);
            let EchoFigures { delay_ms, enhancement_db } = self.voice.echo_figures();
            let delay = delay_ms.map_or(u64::MAX, u64::from);
            self.shared.echo_delay.store(delay, Ordering::Relaxed);
            let enhancement = u64::from(enhancement_db.unwrap_or(f32::NAN).to_bits());
            self.shared.enhancement.store(enhancement, Ordering::Relaxed);
            // A tick that takes nothing back has closed the port, or is far behind and would not hear it anyway.
            let _ = self.from.push(block);
        }
        !self.shared.closed.load(Ordering::Acquire)
    }
}

/// Wherever the port ends, the processing thread hears of it.
impl Drop for InsertPort {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl InsertSwitch {
    /// Switches stages, from the next tick on.
    pub fn set(&self, stages: Stages) {
        self.0.stages.store(stages.to_bits(), Ordering::Relaxed);
    }

    /// What is switched on.
    #[must_use]
    pub fn stages(&self) -> Stages {
        Stages::from_bits(self.0.stages.load(Ordering::Relaxed))
    }

    /// Blocks that were to be processed, and those of them that were passed on as they were because the processing
    /// thread was late.
    #[must_use]
    pub fn blocks(&self) -> (u64, u64) {
        (self.0.blocks.load(Ordering::Relaxed), self.0.late.load(Ordering::Relaxed))
    }

    /// What the echo canceller has found out.
    #[must_use]
    pub fn echo_figures(&self) -> EchoFigures {
        let delay = self.0.echo_delay.load(Ordering::Relaxed);
        let enhancement = f32::from_bits(self.0.enhancement.load(Ordering::Relaxed) as u32);
        EchoFigures {
            delay_ms: u32::try_from(delay).ok(),
            enhancement_db: (!enhancement.is_nan()).then_some(enhancement),
        }
    }
}

/// What a device's port last played.
pub(crate) struct Played {
    /// Hertz.
    pub(crate) rate: u32,
    pub(crate) sound: [f32; MAX_FRAME],
}

/// An insert as the tick sees it.
pub(crate) struct Insert {
    port: InsertPort,
    /// Slot in which the reference was last found.
    pub(crate) reference_slot: usize,
    reference: Played,
    next: u64,
    /// What is heard.
    heard: Heard,
    /// Last sample that was passed on.
    last: f32,
    /// A block was sent in the tick before, for this one.
    awaited: bool,
    /// What the block that was sent ahead of the tick is for.
    ahead: Option<Stages>,
    lateness: u32,
    /// The thread is too slow for a head start of a moment; until everything is switched off.
    slow: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Heard {
    /// The sound as it is; so many blocks have come back in time.
    Raw {
        trusted: u32,
    },
    Processed,
}

impl Insert {
    pub(crate) fn new(port: InsertPort) -> Self {
        Insert {
            port,
            reference_slot: 0,
            reference: Played { rate: 0, sound: [0.0; MAX_FRAME] },
            next: 0,
            heard: Heard::Raw { trusted: 0 },
            last: 0.0,
            awaited: false,
            ahead: None,
            lateness: 0,
            slow: false,
        }
    }

    /// The port whose sound is the reference.
    pub(crate) fn reference_port(&self) -> PortId {
        self.port.reference
    }

    /// Whether anything is switched on, or is still to be faded out.
    pub(crate) fn is_active(&self) -> bool {
        self.stages().any() || self.heard == Heard::Processed
    }

    /// Whether its sound is to be recorded a moment ahead of each tick.
    pub(crate) fn wants_head_start(&self) -> bool {
        self.is_active() && !self.slow
    }

    /// Takes what the loudspeaker played.
    pub(crate) fn hear(&mut self, played: Option<&Played>) {
        match played {
            Some(Played { rate, sound }) => {
                (self.reference.rate, self.reference.sound) = (*rate, *sound);
            }
            None => self.reference.rate = 0,
        }
    }

    fn stages(&self) -> Stages {
        Stages::from_bits(self.port.shared.stages.load(Ordering::Relaxed))
    }

    /// Sends the sound of the tick that comes to be processed.
    pub(crate) fn send_ahead(&mut self, rate: u32, sound: &[f32]) {
        let stages = self.stages();
        self.ahead = Some(stages);
        self.send(stages, rate, sound);
    }

    /// Leaves in the place of this tick's sound what is heard; sends it to be processed, if that is not done yet.
    pub(crate) fn pass(&mut self, rate: u32, sound: &mut [f32]) {
        if let Some(stages) = self.ahead.take() {
            return self.pass_ahead(stages, rate, sound);
        }
        let stages = self.stages();
        let back = self.take(sound.len(), rate);
        let late = std::mem::replace(&mut self.awaited, stages.any()) && stages.any();
        if stages.any() {
            self.send(stages, rate, sound);
        } else if self.heard != Heard::Processed {
            (self.slow, self.lateness) = (false, 0);
            self.heard = Heard::Raw { trusted: 0 };
            return;
        }
        self.lead_over(stages, back, late, sound);
    }

    fn pass_ahead(&mut self, stages: Stages, rate: u32, sound: &mut [f32]) {
        self.awaited = false;
        let back = self.take(sound.len(), rate);
        self.lateness = match back {
            Some(_) => self.lateness.saturating_sub(1),
            None => self.lateness.saturating_add(LATE),
        };
        self.slow = self.lateness > TOO_LATE;
        match back {
            // The last block leads from the processed sound to that of this very tick by itself.
            Some(block) if !stages.any() => {
                sound.copy_from_slice(block.microphone.get(..sound.len()).unwrap_or_default());
                self.heard = Heard::Raw { trusted: 0 };
                self.last = sound.last().copied().unwrap_or_default();
            }
            back => self.lead_over(stages, back, stages.any(), sound),
        }
    }

    /// From what was heard in the tick before to what is to be heard now.
    fn lead_over(&mut self, stages: Stages, back: Option<Block>, late: bool, sound: &mut [f32]) {
        match (back, self.heard) {
            (Some(block), heard) => {
                let processed = block.microphone.get(..sound.len()).unwrap_or_default();
                let trusted = if let Heard::Raw { trusted } = heard { trusted + 1 } else { TRUST };
                match (heard, stages.any()) {
                    (Heard::Processed, true) => sound.copy_from_slice(processed),
                    (Heard::Processed, false) => {
                        cross_fade(processed, sound);
                        self.heard = Heard::Raw { trusted: 0 };
                    }
                    (Heard::Raw { .. }, _) if trusted < TRUST => self.heard = Heard::Raw { trusted },
                    (Heard::Raw { .. }, _) => {
                        let mut raw = [0.0; MAX_FRAME];
                        let raw = raw.get_mut(..sound.len()).unwrap_or_default();
                        raw.copy_from_slice(sound);
                        sound.copy_from_slice(processed);
                        cross_fade(raw, sound);
                        self.heard = Heard::Processed;
                    }
                }
            }
            (None, heard) => {
                if heard == Heard::Processed {
                    self.level_out(sound);
                }
                if late {
                    self.port.shared.late.fetch_add(1, Ordering::Relaxed);
                }
                self.heard = Heard::Raw { trusted: 0 };
            }
        }
        self.last = sound.last().copied().unwrap_or_default();
    }

    fn send(&mut self, stages: Stages, rate: u32, sound: &[f32]) {
        let mut microphone = [0.0; MAX_FRAME];
        for (to, from) in microphone.iter_mut().zip(sound) {
            *to = *from;
        }
        let block = Block {
            number: self.next,
            stages,
            rate,
            reference_rate: self.reference.rate,
            microphone,
            reference: self.reference.sound,
        };
        self.next += 1;
        self.port.shared.blocks.fetch_add(1, Ordering::Relaxed);
        // Without room the thread is far behind: the block does not come back, which counts.
        let _ = self.port.to.push(block);
        self.port.waker.wake();
    }

    /// The block that was sent last, if it is back.
    fn take(&mut self, len: usize, rate: u32) -> Option<Block> {
        let wanted = self.next.checked_sub(1)?;
        while let Ok(block) = self.port.from.pop() {
            if block.number == wanted && block.rate == rate && len <= MAX_FRAME {
                return Some(block);
            }
        }
        None
    }

    /// Takes the step out of the beginning of `sound`: nothing is there to fade from.
    fn level_out(&self, sound: &mut [f32]) {
        let step = self.last - sound.first().copied().unwrap_or_default();
        let share = 1.0 / sound.len().max(1) as f32;
        for (place, sample) in sound.iter_mut().enumerate() {
            *sample += step * (1.0 - place as f32 * share);
        }
    }
}
