//! Where the packets of a jitter buffer lie: by sequence number, payloads in cells made once. It knows no time.

use super::{CAPACITY, MAX_PAYLOAD};

/// Bytes of a cell: 20 ms of G.711. A longer payload lies in a chain of cells.
const CELL: usize = 160;
/// Number of cells: room for the longest delay (400 ms) at Opus's highest rate (510 kbit/s), and for a small packet in
/// every place.
const CELLS: usize = 192;
const _: () = assert!(CELLS > CAPACITY && CELLS <= u8::MAX as usize + 1);

/// A packet held; its payload is in the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) sequence: i64,
    /// Where its sound begins, in nanoseconds.
    pub(super) time: i64,
    /// Arrival in nanoseconds.
    pub(super) at: i64,
    /// Of its sound, in nanoseconds.
    pub(super) duration: i64,
    pub(super) payload_type: u8,
    /// It came in a later packet (RFC 2198).
    pub(super) copy: bool,
    pub(super) length: u16,
    /// First cell of the payload.
    pub(super) cell: u8,
}

impl Packet {
    pub(super) const EMPTY: Packet =
        Packet { sequence: 0, time: 0, at: 0, duration: 0, payload_type: 0, copy: false, length: 0, cell: 0 };

    /// Where its sound ends, in nanoseconds.
    pub(super) fn end(&self) -> i64 {
        self.time + self.duration
    }
}

/// Packets within a window of [`CAPACITY`] sequence numbers.
pub(super) struct Pool {
    places: Box<[Option<Packet>]>,
    cells: Box<[[u8; CELL]]>,
    /// The cell that continues each cell's payload.
    links: [u8; CELLS],
    /// Cells not in use, a stack: the few that a call needs are used over and over and stay in the processor's cache.
    free: [u8; CELLS],
    free_count: usize,
    /// Held packets, and the sequence numbers that bound them while there are any.
    count: usize,
    lowest: i64,
    highest: i64,
    /// Where a payload of several cells is put together for the decoder.
    whole: Box<[u8; MAX_PAYLOAD]>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Pool {
            places: vec![None; CAPACITY].into_boxed_slice(),
            cells: vec![[0; CELL]; CELLS].into_boxed_slice(),
            links: [0; CELLS],
            free: ALL_FREE,
            free_count: CELLS,
            count: 0,
            lowest: 0,
            highest: 0,
            whole: Box::new([0; MAX_PAYLOAD]),
        }
    }

    pub(super) fn clear(&mut self) {
        self.places.fill(None);
        self.free = ALL_FREE;
        self.free_count = CELLS;
        self.count = 0;
    }

    pub(super) fn holds(&self, sequence: i64) -> bool {
        self.get(sequence).is_some()
    }

    pub(super) fn get(&self, sequence: i64) -> Option<Packet> {
        self.places[place(sequence)].filter(|packet| packet.sequence == sequence)
    }

    /// Held packet with the lowest sequence number.
    pub(super) fn oldest(&self) -> Option<Packet> {
        if self.count == 0 { None } else { self.get(self.lowest) }
    }

    /// Held packet with the highest sequence number.
    pub(super) fn newest(&self) -> Option<Packet> {
        if self.count == 0 { None } else { self.get(self.highest) }
    }

    /// Held packet next behind `sequence`.
    pub(super) fn after(&self, sequence: i64) -> Option<Packet> {
        if self.count == 0 {
            return None;
        }
        (sequence.max(self.lowest - 1) + 1..=self.highest).find_map(|sequence| self.get(sequence))
    }

    /// Puts `packet` in its place with a copy of `payload`; `false` if the place is taken or out of the window.
    pub(super) fn insert(&mut self, packet: Packet, payload: &[u8]) -> bool {
        let Some(stored) = self.store(packet, payload) else { return false };
        self.adopt(stored) || {
            self.release(&stored);
            false
        }
    }

    /// Copies the payload of a packet that gets no place yet; `None` when there is no room for it.
    pub(super) fn store(&mut self, packet: Packet, payload: &[u8]) -> Option<Packet> {
        let left = self.free_count.checked_sub(cells_of(payload.len()))?;
        let chain = self.free.get(left..self.free_count)?;
        // From the end of the chain to its beginning, so that each cell is linked to the one behind it.
        let mut next = *chain.first()?;
        for (cell, bytes) in chain.iter().zip(payload.chunks(CELL).rev()) {
            self.cells.get_mut(usize::from(*cell))?.get_mut(..bytes.len())?.copy_from_slice(bytes);
            *self.links.get_mut(usize::from(*cell))? = next;
            next = *cell;
        }
        self.free_count = left;
        Some(Packet { length: payload.len() as u16, cell: next, ..packet })
    }

    /// Puts a stored packet in its place; `false` as for [`Pool::insert`], and the packet still to be released.
    pub(super) fn adopt(&mut self, packet: Packet) -> bool {
        let (lowest, highest) = match self.count {
            0 => (packet.sequence, packet.sequence),
            _ => (self.lowest.min(packet.sequence), self.highest.max(packet.sequence)),
        };
        let entry = &mut self.places[place(packet.sequence)];
        if entry.is_some() || highest - lowest >= CAPACITY as i64 {
            return false;
        }
        *entry = Some(packet);
        self.count += 1;
        (self.lowest, self.highest) = (lowest, highest);
        true
    }

    /// Gives a stored packet's cells back.
    pub(super) fn release(&mut self, packet: &Packet) {
        let mut cell = packet.cell;
        for _ in 0..cells_of(packet.length.into()) {
            if let Some(free) = self.free.get_mut(self.free_count) {
                *free = cell;
                self.free_count += 1;
            }
            cell = self.links.get(usize::from(cell)).copied().unwrap_or_default();
        }
    }

    /// Takes a packet out. Its payload can be read until the next packet is put in.
    pub(super) fn remove(&mut self, sequence: i64) -> Option<Packet> {
        let packet = self.get(sequence)?;
        self.places[place(sequence)] = None;
        self.release(&packet);
        self.count -= 1;
        if self.count > 0 {
            while !self.holds(self.lowest) {
                self.lowest += 1;
            }
            while !self.holds(self.highest) {
                self.highest -= 1;
            }
        }
        Some(packet)
    }

    /// What a packet holds that was not put out of the pool before the last one came in.
    pub(super) fn payload(&mut self, packet: &Packet) -> &[u8] {
        let length = usize::from(packet.length);
        let mut cell = usize::from(packet.cell);
        if length <= CELL {
            return self.cells.get(cell).and_then(|cell| cell.get(..length)).unwrap_or_default();
        }
        for piece in self.whole.get_mut(..length).unwrap_or_default().chunks_mut(CELL) {
            if let Some(bytes) = self.cells.get(cell) {
                piece.copy_from_slice(bytes.get(..piece.len()).unwrap_or_default());
            }
            cell = self.links.get(cell).copied().unwrap_or_default().into();
        }
        self.whole.get(..length).unwrap_or_default()
    }
}

/// The free cells of an empty pool: the lowest is taken first.
const ALL_FREE: [u8; CELLS] = {
    let mut free = [0; CELLS];
    let mut index = 0;
    while index < CELLS {
        free[index] = (CELLS - 1 - index) as u8;
        index += 1;
    }
    free
};

/// How many cells a payload takes; an empty one has a cell too.
fn cells_of(length: usize) -> usize {
    length.div_ceil(CELL).max(1)
}

/// CAPACITY is a power of two: negative sequence numbers fall into place as well.
fn place(sequence: i64) -> usize {
    const { assert!(CAPACITY.is_power_of_two()) };
    (sequence & (CAPACITY as i64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: i64) -> Packet {
        Packet { sequence, ..Packet::EMPTY }
    }

    /// Bytes that differ from packet to packet and from place to place.
    fn payload(sequence: i64, length: usize) -> Vec<u8> {
        (0..length).map(|n| (n as i64 * 7 + sequence * 31) as u8).collect()
    }

    #[test]
    fn payloads_of_every_length_come_back_as_they_were() {
        let mut pool = Pool::new();
        let lengths = [0, 1, CELL - 1, CELL, CELL + 1, 3 * CELL, MAX_PAYLOAD];
        for round in 0..100 {
            let sequence = |n: usize| (round * lengths.len() + n) as i64;
            for (n, length) in lengths.iter().enumerate() {
                assert!(pool.insert(packet(sequence(n)), &payload(sequence(n), *length)));
            }
            for (n, length) in lengths.iter().enumerate().rev() {
                let held = pool.remove(sequence(n)).expect("it was put in");
                assert_eq!(pool.payload(&held), payload(sequence(n), *length));
            }
            assert_eq!(pool.free_count, CELLS, "every cell has come back");
        }
    }

    #[test]
    fn what_has_no_room_is_refused_and_takes_none() {
        let mut pool = Pool::new();
        let most = CELLS / cells_of(MAX_PAYLOAD);
        for sequence in 0..most as i64 {
            assert!(pool.insert(packet(sequence), &payload(sequence, MAX_PAYLOAD)));
        }
        let left = pool.free_count;
        assert!(!pool.insert(packet(most as i64), &payload(0, MAX_PAYLOAD)));
        assert_eq!(pool.free_count, left);
        for sequence in 0..most as i64 {
            let held = pool.remove(sequence).expect("it was put in");
            assert_eq!(pool.payload(&held), payload(sequence, MAX_PAYLOAD));
        }
        assert_eq!(pool.free_count, CELLS);
        pool.clear();
        assert!((0..CAPACITY as i64).all(|sequence| pool.insert(packet(sequence), &[1; CELL])));
    }
}
