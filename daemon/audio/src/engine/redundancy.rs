//! Redundant audio data (RFC 2198): earlier frames beside the newest one in a packet. It knows the payload's format, what
//! was sent before and where a copy belongs in the stream; what is played when is the jitter buffer's.

use crate::engine::packet::Packet;

/// Earlier frames that are sent with a packet at the most.
pub(crate) const MAX_COPIES: usize = 2;
/// Longest block: ten bits tell its length (RFC 2198 section 3).
const MAX_BLOCK: usize = 0x3FF;
/// A copy is at most so old: 14 bits tell how many timestamp units.
const MAX_OFFSET: u32 = 0x3FFF;
/// Bytes before each copy, and before the newest frame.
const COPY_HEADER: usize = 4;
const LAST_HEADER: usize = 1;
/// Longest payload that copies are added to. With RTP's header, SRTP's tag, a TURN channel, UDP and IPv6 around it (80 bytes)
/// it still fits in a tunnel of 1420 bytes, and there is room for two frames of L16 at 16 kHz.
const MAX_PAYLOAD: usize = 1300;
/// Blocks of a packet that are looked at; nobody sends so many.
const MAX_BLOCKS: usize = 16;
/// Restored packets that are remembered: the packet itself may still come, late.
const RESTORED: usize = 16;

/// How many earlier frames a packet has room for where each frame has `bytes` bytes; at most 2, as more are never sent.
pub fn copies_that_fit(bytes: usize) -> u8 {
    let fits = |copies: &usize| LAST_HEADER + bytes + copies * (COPY_HEADER + bytes) <= MAX_PAYLOAD;
    (0..=MAX_COPIES).rev().filter(|_| bytes <= MAX_BLOCK).find(fits).unwrap_or(0) as u8
}

/// The blocks of a redundant payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redundant<'a> {
    /// Payload type of the newest frame.
    pub(crate) payload_type: u8,
    /// The newest frame.
    pub(crate) payload: &'a [u8],
    /// The headers of the copies, four bytes each, the oldest first.
    headers: &'a [u8],
    /// What the copies hold, one after the other.
    copies: &'a [u8],
}

/// A frame that has been sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy<'a> {
    pub(crate) payload_type: u8,
    /// How much older than the packet it is, in timestamp units.
    pub(crate) offset: u32,
    /// How many copies of the packet are at most as old: 1 is the newest.
    pub(crate) rank: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Redundant<'a> {
    /// Reads a payload; `None` where headers or blocks do not fit in it, or are too many.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut length = 0;
        for blocks in 0..=MAX_BLOCKS {
            match rest {
                [first, behind @ ..] if first & 0x80 == 0 => {
                    let (copies, payload) = behind.split_at_checked(length)?;
                    let headers = bytes.get(..blocks * COPY_HEADER)?;
                    return Some(Redundant { payload_type: *first, payload, headers, copies });
                }
                [_, _, high, low, behind @ ..] => {
                    length += usize::from(u16::from_be_bytes([high & 0x03, *low]));
                    rest = behind;
                }
                _ => return None,
            }
        }
        None
    }

    /// The copies that hold something, the oldest first.
    pub(crate) fn copies(self) -> impl Iterator<Item = Copy<'a>> {
        let count = self.headers.len() / COPY_HEADER;
        let mut rest = self.copies;
        self.headers.chunks_exact(COPY_HEADER).enumerate().filter_map(move |(place, header)| {
            let &[first, high, middle, low] = header else { return None };
            let length = usize::from(u16::from_be_bytes([middle & 0x03, low]));
            let (payload, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let offset = u32::from(high) << 6 | u32::from(middle) >> 2;
            let rank = (count - place) as u16;
            let copy = Copy { payload_type: first & 0x7F, offset, rank, payload };
            (offset > 0 && !payload.is_empty()).then_some(copy)
        })
    }
}

/// What was sent last, for the packets that follow.
pub(crate) struct History {
    /// The newest first.
    kept: [Kept; MAX_COPIES],
}

struct Kept {
    bytes: [u8; MAX_BLOCK],
    /// 0: nothing is kept here.
    len: usize,
    timestamp: u32,
    payload_type: u8,
}

impl History {
    pub(crate) fn new() -> Self {
        let empty = || Kept { bytes: [0; MAX_BLOCK], len: 0, timestamp: 0, payload_type: 0 };
        History { kept: std::array::from_fn(|_| empty()) }
    }

    /// What comes is no continuation of what was.
    pub(crate) fn clear(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.len = 0);
    }

    /// Makes a redundant payload of the frame of `len` bytes at the beginning of `room`, as far as there are copies to add,
    /// and remembers it. Answers the payload's length and how many copies are in it; `None` where it stays as it was.
    pub(crate) fn add(
        &mut self,
        copies: usize,
        payload_type: u8,
        timestamp: u32,
        len: usize,
        room: &mut [u8],
    ) -> Option<(usize, u8)> {
        let wrapped = self.wrap(copies, payload_type, timestamp, len, room);
        let end = wrapped.map_or(len, |(length, _)| length);
        self.keep(payload_type, timestamp, room.get(end - len..end).unwrap_or_default());
        wrapped
    }

    fn keep(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        self.kept.rotate_right(1);
        if let Some(kept) = self.kept.first_mut() {
            kept.len = 0;
            if let Some(bytes) = kept.bytes.get_mut(..payload.len()) {
                bytes.copy_from_slice(payload);
                (kept.len, kept.timestamp, kept.payload_type) = (payload.len(), timestamp, payload_type);
            }
        }
    }

    /// Puts at most `copies` earlier frames before the one in `room`.
    fn wrap(
        &self,
        copies: usize,
        payload_type: u8,
        timestamp: u32,
        len: usize,
        room: &mut [u8],
    ) -> Option<(usize, u8)> {
        let mut total = LAST_HEADER + len;
        let fits = |kept: &&Kept| {
            let offset = timestamp.wrapping_sub(kept.timestamp);
            let longer = total + COPY_HEADER + kept.len;
            let fits = kept.len > 0 && (1..=MAX_OFFSET).contains(&offset) && longer <= MAX_PAYLOAD;
            if fits {
                total = longer;
            }
            fits
        };
        let count = self.kept.iter().take(copies).take_while(fits).count();
        let room = room.get_mut(..total).filter(|_| count > 0)?;
        room.copy_within(..len, total - len);
        let (headers, mut blocks) = room.split_at_mut_checked(count * COPY_HEADER + LAST_HEADER)?;
        let mut headers = headers.chunks_mut(COPY_HEADER);
        for kept in self.kept.iter().take(count).rev() {
            let (block, behind) = blocks.split_at_mut_checked(kept.len)?;
            block.copy_from_slice(kept.bytes.get(..kept.len)?);
            blocks = behind;
            let offset = timestamp.wrapping_sub(kept.timestamp);
            let word = u32::from(0x80 | kept.payload_type) << 24 | offset << 10 | kept.len as u32;
            headers.next()?.copy_from_slice(&word.to_be_bytes());
        }
        *headers.next()?.first_mut()? = payload_type & 0x7F;
        Some((total, count as u8))
    }
}

/// What the receiving half knows of copies.
#[derive(Default)]
pub(crate) struct Restored {
    /// The newest packet that came, and its timestamp.
    last: Option<(u16, u32)>,
    /// Sequence numbers that a copy stood in for.
    numbers: [Option<u16>; RESTORED],
    next: usize,
}

impl Restored {
    /// Another source, or another clock.
    pub(crate) fn clear(&mut self) {
        *self = Restored::default();
    }

    /// A packet has come; to be called behind [`Restored::place`] for its copies.
    pub(crate) fn arrived(&mut self, sequence: u16, timestamp: u32) {
        let newer = |last: u16| (sequence.wrapping_sub(last) as i16) > 0;
        if self.last.is_none_or(|(last, _)| newer(last)) {
            self.last = Some((sequence, timestamp));
        }
    }

    /// The sequence number that a copy of `duration` timestamp units seems to have had.
    ///
    /// A block tells its time alone. Where it is younger than the newest packet, it is one of those that are missing
    /// between that and this one: by its time where that is a whole number of frames, and by its rank after a pause of the
    /// sender. Where it is older, only its time can tell.
    pub(crate) fn place(&self, packet: &Packet<'_>, copy: &Copy<'_>, duration: u32) -> Option<u16> {
        let (last, last_timestamp) = self.last?;
        let missing = packet.sequence.wrapping_sub(last).wrapping_sub(1);
        let since_last = packet.timestamp.wrapping_sub(last_timestamp);
        if missing >= 1 << 15 || since_last >= 1 << 31 {
            return None;
        }
        let frames = copy.offset.checked_div(duration).filter(|frames| frames * duration == copy.offset);
        let by_time = frames.and_then(|frames| u16::try_from(frames).ok());
        let back = if copy.offset < since_last {
            let back = by_time.filter(|back| *back <= missing).unwrap_or(copy.rank);
            (1..=missing).contains(&back).then_some(back)
        } else {
            by_time.filter(|back| *back > missing)
        };
        back.map(|back| packet.sequence.wrapping_sub(back))
    }

    /// A copy stands in for this packet.
    pub(crate) fn note(&mut self, sequence: u16) {
        if let Some(place) = self.numbers.get_mut(self.next) {
            *place = Some(sequence);
            self.next = (self.next + 1) % RESTORED;
        }
    }

    /// Whether a copy has stood in for this packet, which has come after all.
    pub(crate) fn take(&mut self, sequence: u16) -> bool {
        let found = self.numbers.iter_mut().find(|number| **number == Some(sequence));
        found.and_then(Option::take).is_some()
    }
}

/// How long after a loss the next one is expected.
const EXPECTED_NANOS: u64 = 10_000_000_000;

/// How long protection is remembered.
const REACH_NANOS: u64 = 3_000_000_000;

/// How far back what has come with a packet can restore what is lost, in timestamp units.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reach {
    /// As a whole.
    pub(crate) whole: u32,
    /// As far as packets are missing.
    pub(crate) coarse: u32,
}

/// How long to wait for what may bring lost packets back: not at all where nothing gets lost, since not every peer asks
/// whether its protection is needed.
#[derive(Default)]
pub(crate) struct Patience {
    lost: u64,
    expected_until: u64,
    /// Most packets that were lost in a row while losses are expected.
    run: u32,
    /// How far back what came lately reached, and when: silence is not protected.
    reach: u32,
    reached_at: u64,
}

impl Patience {
    /// How long a packet of `duration` shall wait, both in timestamp units, where what comes has this reach and so many packets
    /// are lost by now.
    pub(crate) fn wait(&mut self, reach: Reach, duration: u32, lost: u64, now_nanos: u64) -> u32 {
        if lost > self.lost {
            let run = u32::try_from(lost - self.lost).unwrap_or(u32::MAX);
            self.run = if now_nanos < self.expected_until { self.run.max(run) } else { run };
            self.expected_until = now_nanos.saturating_add(EXPECTED_NANOS);
        }
        self.lost = lost;
        let reach = reach.whole.max(reach.coarse.min(self.run.saturating_mul(duration)));
        if reach >= self.reach || now_nanos >= self.reached_at.saturating_add(REACH_NANOS) {
            (self.reach, self.reached_at) = (reach, now_nanos);
        }
        if now_nanos < self.expected_until { self.reach } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, timestamp: u32) -> Packet<'static> {
        Packet { sequence, timestamp, ssrc: 1, payload_type: 0, marker: false, at_nanos: 0, payload: &[] }
    }

    /// Payload type, offset, rank and payload of a copy.
    type CopyRead = (u8, u32, u16, Vec<u8>);

    fn read(bytes: &[u8]) -> Option<(u8, Vec<u8>, Vec<CopyRead>)> {
        let redundant = Redundant::read(bytes)?;
        let copies = redundant
            .copies()
            .map(|copy| (copy.payload_type, copy.offset, copy.rank, copy.payload.to_vec()))
            .collect();
        Some((redundant.payload_type, redundant.payload.to_vec(), copies))
    }

    #[test]
    fn what_is_written_is_read() {
        let mut history = History::new();
        let mut room = [0; 1400];
        room[..3].copy_from_slice(&[7, 8, 9]);
        assert_eq!(history.wrap(2, 96, 960, 3, &mut room), None, "nothing was sent before");
        assert_eq!(room[..3], [7, 8, 9]);
        history.keep(96, u32::MAX - 959, &[1]);
        history.keep(96, 0, &[4, 5]);
        let (length, count) = history.wrap(2, 96, 960, 3, &mut room).unwrap();
        assert_eq!((length, count), (3 + 2 + 1 + 2 * 4 + 1, 2));
        let copies = vec![(96, 1920, 2, vec![1]), (96, 960, 1, vec![4, 5])];
        assert_eq!(read(&room[..length]), Some((96, vec![7, 8, 9], copies)));
        room[..3].copy_from_slice(&[7, 8, 9]);
        let (length, _) = history.wrap(1, 96, 960, 3, &mut room).unwrap();
        assert_eq!(read(&room[..length]), Some((96, vec![7, 8, 9], vec![(96, 960, 1, vec![4, 5])])));
        history.clear();
        assert_eq!(history.wrap(2, 96, 960, 3, &mut room), None);
    }

    #[test]
    fn copies_that_the_format_or_a_packet_has_no_room_for_are_left_out() {
        let mut room = [0; 1460];
        let mut history = History::new();
        history.keep(0, 0, &[1; 160]);
        assert!(history.wrap(1, 0, MAX_OFFSET, 160, &mut room).is_some());
        assert_eq!(history.wrap(1, 0, MAX_OFFSET + 1, 160, &mut room), None, "too long ago");
        assert_eq!(history.wrap(1, 0, 0, 160, &mut room), None, "of the same moment");
        history.keep(0, 160, &[1; MAX_BLOCK + 1]);
        assert_eq!(history.wrap(2, 0, 320, 160, &mut room), None, "a frame that is too long breaks the row");
        history.keep(0, 320, &[1; 700]);
        assert_eq!(history.wrap(2, 0, 480, 700, &mut room), None, "longer than a packet");
        let fitting = history.wrap(2, 0, 480, 400, &mut room);
        assert_eq!(fitting, Some((400 + 700 + 5, 1)), "as many as fit, the newest first");
    }

    #[test]
    fn what_fits_is_known_before_it_is_sent() {
        // PCMU, L16 at 16 kHz and at 48 kHz.
        assert_eq!([160, 640, 960, 1920].map(copies_that_fit), [2, 1, 0, 0]);
        for bytes in 1..=MAX_BLOCK {
            let mut history = History::new();
            let mut room = [0; 1460];
            (0..2).for_each(|frame| history.keep(0, frame * 160, &vec![1; bytes]));
            let sent = history.wrap(2, 0, 320, bytes, &mut room).map_or(0, |(_, count)| count);
            assert_eq!(copies_that_fit(bytes), sent, "{bytes} bytes");
        }
    }

    #[test]
    fn blocks_that_do_not_fit_are_refused() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0]), Some((0, vec![], vec![])));
        assert_eq!(read(&[0x80]), None, "a header is cut off");
        assert_eq!(read(&[0x80, 0, 0, 1]), None, "the last header is missing");
        assert_eq!(read(&[0x80, 0, 4, 2, 0, 1]), None, "a block is cut off");
        // A block of the same moment, and an empty one: there is nothing in them.
        assert_eq!(read(&[0x80, 0, 0, 1, 0, 1, 2]), Some((0, vec![2], vec![])));
        assert_eq!(read(&[0x80, 0, 4, 0, 8, 2]), Some((8, vec![2], vec![])));
        let many = |count: usize| {
            let mut bytes = [0x80, 0, 4, 0].repeat(count);
            bytes.push(0);
            read(&bytes).is_some()
        };
        assert!(many(MAX_BLOCKS) && !many(MAX_BLOCKS + 1));
    }

    #[test]
    fn no_bytes_whatever_are_read_beyond_their_end() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut good = 0;
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> = (0..random() % 64).map(|_| random()).collect();
            // Random lengths are mostly too long: small ones, so that some fit.
            bytes.iter_mut().skip(2).step_by(4).for_each(|byte| *byte &= 0xFC);
            bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte &= 0x07);
            let Some((payload_type, payload, copies)) = read(&bytes) else { continue };
            let held: usize = copies.iter().map(|(.., payload)| payload.len()).sum();
            assert!(payload_type < 128 && payload.len() + held < bytes.len());
            assert!(copies.iter().all(|(number, offset, ..)| *number < 128 && *offset <= MAX_OFFSET));
            good += usize::from(!copies.is_empty());
        }
        assert!(good > 1000, "{good}");
    }

    #[test]
    fn a_copy_belongs_where_a_packet_is_missing() {
        let copy = |offset: u32, rank: u16| Copy { payload_type: 0, offset, rank, payload: &[1] };
        let place = |last: (u16, u32), now: (u16, u32), offset: u32, rank: u16| {
            let mut restored = Restored::default();
            restored.arrived(last.0, last.1);
            restored.place(&packet(now.0, now.1), &copy(offset, rank), 160)
        };
        assert_eq!(place((8, 1280), (10, 1600), 160, 1), Some(9));
        assert_eq!(place((9, 1440), (10, 1600), 320, 1), Some(8), "older than the packet before");
        assert_eq!(place((8, 1280), (10, 1600), 250, 1), Some(9), "no whole number of frames: by its rank");
        assert_eq!(place((9, 1440), (10, 1600), 150, 1), None, "nothing is missing");
        assert_eq!(place((65_534, 1280), (0, 1600), 160, 1), Some(65_535));
        // Only every second frame is repeated.
        assert_eq!(place((6, 960), (10, 1600), 320, 1), Some(8));
        // The sender had paused for a second.
        assert_eq!(place((8, 1280), (10, 9600), 8000, 1), Some(9));
        // A packet from before the newest, and one that is far off.
        assert_eq!(place((11, 1760), (10, 1600), 160, 1), None);
        assert_eq!(place((11, 1760), (10, u32::MAX), 160, 1), None);
        assert_eq!(Restored::default().place(&packet(10, 1600), &copy(160, 1), 160), None);
    }

    #[test]
    fn copies_are_waited_for_while_packets_get_lost() {
        let mut patience = Patience::default();
        let mut wait =
            |whole, lost, now_nanos| patience.wait(Reach { whole, coarse: 0 }, 160, lost, now_nanos);
        assert_eq!(wait(160, 0, 1), 0);
        assert_eq!(wait(320, 1, 2), 320);
        assert_eq!(wait(0, 1, REACH_NANOS), 320, "a pause");
        assert_eq!(wait(160, 1, REACH_NANOS + 2), 160);
        assert_eq!(wait(160, 1, EXPECTED_NANOS + 1), 160);
        assert_eq!(wait(160, 1, EXPECTED_NANOS + 2), 0);
        assert_eq!(wait(160, 0, EXPECTED_NANOS + 3), 0, "it came late");
    }

    #[test]
    fn what_is_only_described_is_waited_for_as_long_as_losses_in_a_row_were() {
        let mut patience = Patience::default();
        let mut wait =
            |lost, now_nanos| patience.wait(Reach { whole: 960, coarse: 2_880 }, 960, lost, now_nanos);
        assert_eq!(wait(0, 1), 0);
        assert_eq!(wait(1, 2), 960, "one packet");
        assert_eq!(wait(3, 3), 1_920, "two");
        assert_eq!(wait(4, 4), 1_920);
        assert_eq!(wait(40, 5), 2_880, "no longer than described");
        assert_eq!(wait(40, 4 + EXPECTED_NANOS), 2_880);
        assert_eq!(wait(41, 5 + EXPECTED_NANOS + REACH_NANOS), 960, "the runs are long ago");
    }

    #[test]
    fn a_packet_that_was_restored_is_known_once_and_forgotten_in_time() {
        let mut restored = Restored::default();
        restored.note(5);
        assert!(restored.take(5) && !restored.take(5));
        (0..RESTORED as u16 + 1).for_each(|number| restored.note(number));
        assert!(!restored.take(0) && restored.take(1));
    }
}
