//! Who talks on a stream, found out only while somebody wants to know it.

use crate::activity::ActivityDetector;
use crate::engine::processor::Outbox;
use crate::plan::{Codec, EngineEvent, Heard, PortId};

/// Pauses up to so long belong to what is said, in milliseconds: events of talk and silence follow sentences, not words.
const HANGOVER_MS: u32 = 600;

/// Both directions of a stream.
pub(crate) struct ActivityWatch {
    far: Ear,
    near: Ear,
}

/// One direction.
struct Ear {
    detector: ActivityDetector,
    /// Hertz.
    rate: u32,
    talking: bool,
    /// Loudest frame since the last change, in dBov.
    loudest: f32,
}

impl ActivityWatch {
    /// Control thread.
    pub(crate) fn new(codec: Codec) -> Self {
        let rate = codec.sample_rate();
        ActivityWatch { far: Ear::new(rate), near: Ear::new(rate) }
    }

    /// 10 ms of what the peer says; nothing while it is not heard, or has not begun.
    pub(crate) fn far(&mut self, port: PortId, rate: u32, frame: &[f32], outbox: &mut Outbox) {
        self.far.listen(port, Heard::Far, rate, frame, outbox);
    }

    /// 10 ms of what the peer hears; nothing while nothing is sent, or it is muted.
    pub(crate) fn near(&mut self, port: PortId, rate: u32, frame: &[f32], outbox: &mut Outbox) {
        self.near.listen(port, Heard::Near, rate, frame, outbox);
    }
}

impl Ear {
    fn new(rate: u32) -> Self {
        Ear { detector: ActivityDetector::new(rate, HANGOVER_MS), rate, talking: false, loudest: -127.0 }
    }

    fn listen(&mut self, port: PortId, heard: Heard, rate: u32, frame: &[f32], outbox: &mut Outbox) {
        if rate != 0 && rate != self.rate {
            // Another codec: the noise is learned anew, and who talks goes on talking.
            self.detector = ActivityDetector::new(rate, HANGOVER_MS);
            self.rate = rate;
        }
        let activity = if frame.is_empty() { self.detector.pause() } else { self.detector.frame(frame) };
        self.loudest = self.loudest.max(activity.level);
        if activity.talking != self.talking {
            self.talking = activity.talking;
            let level_dbov = std::mem::replace(&mut self.loudest, -127.0).round() as i8;
            outbox.event(EngineEvent::Activity { port, heard, talking: self.talking, level_dbov });
        }
    }
}
