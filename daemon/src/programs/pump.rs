//! The pump between a program's socket and the rings of its port: moves what both have room for, and waits for neither.

use std::io;
use std::time::Duration;

use rtrb::{Consumer, Producer};
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval};

use super::format;
use crate::api::ports::AudioWish;

/// How often sound is moved.
const PERIOD: Duration = Duration::from_millis(10);
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// One program's sound on its way.
pub(super) struct Pump {
    wish: AudioWish,
    /// To the peer; `None` for one that listens only.
    said: Option<Producer<f32>>,
    heard: Consumer<f32>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// The beginning of a frame whose end has not come yet.
    unread: Vec<u8>,
    piece: Box<[u8]>,
    says_no_more: bool,
    hears_no_more: bool,
}

impl Pump {
    pub(super) fn new(wish: AudioWish, said: Option<Producer<f32>>, heard: Consumer<f32>) -> Self {
        let piece = vec![0; PIECE].into_boxed_slice();
        let (unsent, unread) = (Vec::new(), Vec::new());
        Self { wish, said, heard, unsent, unread, piece, says_no_more: false, hears_no_more: false }
    }

    /// Until the program has left, and all that it said has been heard.
    pub(super) async fn run(mut self, stream: UnixStream) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over() {
            clock.tick().await;
            // What the system says of readiness is asked for again only after "not now": both are tried each time.
            self.send(&stream);
            self.receive(&stream);
        }
    }

    fn is_over(&self) -> bool {
        match &self.said {
            None => self.hears_no_more,
            Some(said) => {
                let all_heard = said.slots() == said.buffer().capacity();
                self.says_no_more
                    && all_heard
                    && (self.hears_no_more || self.wish.end_with_input || self.wish.side.is_none())
            }
        }
    }

    /// What the program hears.
    fn send(&mut self, stream: &UnixStream) {
        loop {
            if self.unsent.is_empty() && !self.take_heard() {
                return;
            }
            if self.hears_no_more {
                self.unsent.clear();
                continue;
            }
            match stream.try_write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It has closed its end, or shut down reading.
                Err(_) => self.hears_no_more = true,
            }
        }
    }

    /// Makes bytes of what is in the ring; `false` when there is nothing.
    fn take_heard(&mut self) -> bool {
        let Ok(chunk) = self.heard.read_chunk(self.heard.slots()) else { return false };
        let some = !chunk.is_empty();
        format::encode(self.wish.format, chunk.into_iter(), &mut self.unsent);
        some
    }

    /// What the program says.
    fn receive(&mut self, stream: &UnixStream) {
        let frame = self.wish.format.bytes() * self.wish.channels();
        while !self.says_no_more {
            // Whoever only listens may say what he likes.
            let room = self.said.as_ref().map_or(PIECE, |said| said.slots() * frame);
            let room = room.saturating_sub(self.unread.len()).min(PIECE);
            let Some(piece) = self.piece.get_mut(..room).filter(|piece| !piece.is_empty()) else { return };
            match stream.try_read(piece) {
                Ok(0) => self.says_no_more = true,
                Ok(count) => {
                    self.unread.extend(piece.get(..count).unwrap_or_default());
                    self.say(frame);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.says_no_more = true,
            }
        }
    }

    /// Puts whole frames into the ring, their channels mixed to one.
    fn say(&mut self, frame: usize) {
        let whole = self.unread.len() / frame * frame;
        let (format, channels) = (self.wish.format, self.wish.channels());
        for bytes in self.unread.drain(..whole).as_slice().chunks_exact(frame) {
            let sum: f32 = bytes.chunks_exact(format.bytes()).map(|one| format::decode(format, one)).sum();
            if let Some(said) = &mut self.said {
                // There is room: no more was read than fits, and this side alone fills the ring.
                let _ = said.push(sum / channels as f32);
            }
        }
    }
}
