//! Telephone events (RFC 4733) of one stream, both ways; it knows payloads and timestamps, not packets or sockets.

use crate::TICK_NANOS;

/// Events that may wait behind the one being sent.
pub(crate) const QUEUE: usize = 32;
/// Silence between two events, so that the peer hears two (in the range of ITU-T Q.24).
const GAP_MS: u32 = 50;
/// Power of the tone as the peer may render it, in -dBm0.
const VOLUME: u8 = 10;
/// Times that the last packet of an event, and of each of its segments, is sent (RFC 4733 section 2.5.1.4).
const LAST_PACKET_TIMES: u8 = 3;
/// Longest duration that one packet can tell; longer events go in segments (RFC 4733 section 2.5.1.3).
const MAX_DURATION: u32 = 0xFFFF;
/// An event of which nothing has been heard for so long is over: its end packets are lost (RFC 4733 section 2.5.2.2).
const SILENT_NANOS: u64 = 20 * TICK_NANOS;
/// Packets of one event come this close to each other.
const TOGETHER_NANOS: u64 = 10 * TICK_NANOS;
/// No telephone begins events closer to each other than this for long.
const APART_NANOS: u64 = 4 * TICK_NANOS;
/// So many may come in a row, as after a stall of the network; of a flood the rest is dropped.
const ROW: u64 = 32;

/// The event code of a digit (RFC 4733 section 3.2).
pub(crate) fn code_of(digit: char) -> Option<u8> {
    match digit {
        '0'..='9' => Some(digit as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(digit as u8 - b'A' + 12),
        'a'..='d' => Some(digit as u8 - b'a' + 12),
        '!' => Some(16),
        _ => None,
    }
}

fn digit_of(code: u8) -> Option<char> {
    match code {
        0..=9 => Some((b'0' + code) as char),
        10 => Some('*'),
        11 => Some('#'),
        12..=15 => Some((b'A' + code - 12) as char),
        16 => Some('!'),
        _ => None,
    }
}

/// The clocks of a stream that sends events, in hertz: timestamps are in units of the stream's, durations in those of
/// telephone-event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) stream: u32,
    pub(crate) events: u32,
}

impl Clocks {
    /// A time in units of the stream's clock, as one packet tells it.
    fn told(self, units: u32) -> u32 {
        let told = u64::from(units) * u64::from(self.events) / u64::from(self.stream.max(1));
        u32::try_from(told).unwrap_or(u32::MAX).min(MAX_DURATION)
    }

    /// The longest time that one packet can tell, in units of the stream's clock.
    fn longest(self) -> u32 {
        let longest = u64::from(MAX_DURATION) * u64::from(self.stream) / u64::from(self.events.max(1));
        u32::try_from(longest).unwrap_or(u32::MAX).max(1)
    }
}

/// One event packet to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventPacket {
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// RFC 4733 section 2.3.
    pub(crate) payload: [u8; 4],
}

/// What a packet time is used for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Audio,
    /// These packets instead of audio; `sent` names the event that is complete with them.
    Events {
        packets: [Option<EventPacket>; 2],
        sent: Option<char>,
    },
}

/// Sends events one after another. Asked once for each packet time.
pub(crate) struct EventSender {
    queue: [Option<(char, u32)>; QUEUE],
    state: Sending,
}

enum Sending {
    /// Nothing to send before this timestamp, if there is one.
    Idle {
        not_before: Option<u32>,
    },
    Sounding(Sounding),
    /// The last packet is being repeated.
    Ending {
        digit: char,
        packet: EventPacket,
        left: u8,
        not_before: u32,
    },
}

struct Sounding {
    digit: char,
    code: u8,
    /// From the event's beginning to its end, in units of the stream's clock.
    total: u32,
    /// Of the event, then of its current segment.
    timestamp: u32,
    /// Units sent before the current segment.
    before: u32,
    marker: bool,
    /// The end of the segment before this one, and how often it is still to be sent.
    last_segment: Option<(EventPacket, u8)>,
}

impl EventSender {
    pub(crate) fn new() -> Self {
        EventSender { queue: [None; QUEUE], state: Sending::Idle { not_before: None } }
    }

    /// `false` when the queue is full.
    pub(crate) fn push(&mut self, digit: char, duration_ms: u32) -> bool {
        match self.queue.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some((digit, duration_ms));
                true
            }
            None => false,
        }
    }

    /// Forgets the event being sent, because sending has stopped; names it. What waits goes on waiting.
    pub(crate) fn interrupt(&mut self) -> Option<char> {
        match std::mem::replace(&mut self.state, Sending::Idle { not_before: None }) {
            Sending::Idle { .. } => None,
            Sending::Sounding(Sounding { digit, .. }) | Sending::Ending { digit, .. } => Some(digit),
        }
    }

    /// What to send for the packet time of `span` timestamp units that began at `start`.
    pub(crate) fn turn(&mut self, start: u32, span: u32, clocks: Clocks) -> Turn {
        match &mut self.state {
            Sending::Idle { not_before } => {
                if not_before.is_some_and(|time| start.wrapping_sub(time) as i32 >= 0) {
                    *not_before = None;
                }
                if not_before.is_some() {
                    return Turn::Audio;
                }
                let Some((digit, duration_ms)) = self.pop() else { return Turn::Audio };
                let Some(code) = code_of(digit) else { return Turn::Audio };
                let total = u64::from(duration_ms) * u64::from(clocks.stream) / 1000;
                self.state = Sending::Sounding(Sounding {
                    digit,
                    code,
                    total: u32::try_from(total).unwrap_or(u32::MAX / 2),
                    timestamp: start,
                    before: 0,
                    marker: true,
                    last_segment: None,
                });
                self.sound(start, span, clocks)
            }
            Sending::Sounding(_) => self.sound(start, span, clocks),
            Sending::Ending { digit, packet, left, not_before } => {
                let packets = [Some(*packet), None];
                *left -= 1;
                let sent = (*left == 0).then_some(*digit);
                if sent.is_some() {
                    self.state = Sending::Idle { not_before: Some(*not_before) };
                }
                Turn::Events { packets, sent }
            }
        }
    }

    fn sound(&mut self, start: u32, span: u32, clocks: Clocks) -> Turn {
        let Sending::Sounding(event) = &mut self.state else { return Turn::Audio };
        let mut packets = [None; 2];
        // The packet is sent at the end of the packet time, as audio is, and tells the time up to there.
        let mut duration = start.wrapping_add(span).wrapping_sub(event.timestamp);
        let longest = clocks.longest();
        if duration > longest {
            // The segment is told as full, without the E bit; the next goes on where it ended, without the M bit.
            let full = event.packet(MAX_DURATION, false);
            event.last_segment = Some((full, LAST_PACKET_TIMES));
            event.timestamp = event.timestamp.wrapping_add(longest);
            event.before = event.before.saturating_add(longest);
            duration -= longest;
        }
        if let Some((packet, left)) = &mut event.last_segment {
            packets[0] = Some(*packet);
            *left -= 1;
            if *left == 0 {
                event.last_segment = None;
            }
        }
        let ended = event.before.saturating_add(duration) >= event.total;
        let packet = event.packet(clocks.told(duration), ended);
        event.marker = false;
        packets[1] = Some(packet);
        if ended {
            self.state = Sending::Ending {
                digit: event.digit,
                packet: EventPacket { marker: false, ..packet },
                left: LAST_PACKET_TIMES - 1,
                not_before: start.wrapping_add(span).wrapping_add(GAP_MS * clocks.stream / 1000),
            };
        }
        Turn::Events { packets, sent: None }
    }

    fn pop(&mut self) -> Option<(char, u32)> {
        let first = self.queue.first_mut()?.take();
        self.queue.rotate_left(1);
        first
    }
}

impl Sounding {
    /// `duration` in units of the events' clock.
    fn packet(&self, duration: u32, ended: bool) -> EventPacket {
        let [_, _, high, low] = duration.to_be_bytes();
        let end = if ended { 0x80 } else { 0 };
        EventPacket {
            timestamp: self.timestamp,
            marker: self.marker,
            payload: [self.code, end | VOLUME, high, low],
        }
    }
}

/// An event that the peer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedEvent {
    pub(crate) digit: char,
    pub(crate) duration_ms: u32,
}

/// Makes one [`ReceivedEvent`] out of the many packets of an event.
pub(crate) struct EventReceiver {
    current: Option<Current>,
    /// The last event that was reported: its late and repeated packets are known by it.
    reported: Option<Reported>,
    /// When the next event may begin, if those before had come [`APART_NANOS`] apart.
    next_nanos: u64,
}

struct Reported {
    code: u8,
    timestamp: u32,
    duration: u32,
}

struct Current {
    code: u8,
    timestamp: u32,
    duration: u32,
    /// Units of the segments before this one.
    before: u32,
    rate: u32,
    heard_nanos: u64,
}

impl EventReceiver {
    pub(crate) fn new() -> Self {
        EventReceiver { current: None, reported: None, next_nanos: 0 }
    }

    /// One event payload at `rate` hertz. Answers the event that it ends: its own, or the one before, whose end
    /// packets were lost.
    pub(crate) fn packet(
        &mut self,
        timestamp: u32,
        payload: &[u8],
        rate: u32,
        now_nanos: u64,
    ) -> [Option<ReceivedEvent>; 2] {
        let &[code, flags, high, low, ..] = payload else { return [None; 2] };
        let duration = u32::from(u16::from_be_bytes([high, low]));
        let ended = flags & 0x80 != 0;
        if self.is_old(timestamp, rate) {
            return [None; 2];
        }
        if ended
            && self.current.is_none()
            && let Some(reported) = &mut self.reported
            && reported.ends_again(code, timestamp, duration)
        {
            reported.timestamp = timestamp;
            return [None; 2];
        }
        let mut before = None;
        match &mut self.current {
            Some(current) if current.timestamp == timestamp => {
                current.duration = current.duration.max(duration);
                current.heard_nanos = now_nanos;
            }
            Some(current) if (timestamp.wrapping_sub(current.timestamp) as i32) < 0 => return [None; 2],
            // The next segment of a long event begins where a full one ended (RFC 4733 section 2.5.1.3); that the
            // full one's last packet may be lost does not matter for the timestamp.
            Some(current)
                if current.code == code && timestamp.wrapping_sub(current.timestamp) == MAX_DURATION =>
            {
                current.before = current.before.saturating_add(MAX_DURATION);
                current.timestamp = timestamp;
                current.duration = duration;
                current.heard_nanos = now_nanos;
            }
            Some(current) if current.goes_on(code, timestamp, duration, now_nanos) => {
                current.timestamp = timestamp;
                current.duration = duration;
                current.heard_nanos = now_nanos;
            }
            other => {
                if self.next_nanos.saturating_sub(now_nanos) >= ROW * APART_NANOS {
                    return [None; 2];
                }
                self.next_nanos = self.next_nanos.max(now_nanos).saturating_add(APART_NANOS);
                before = other.take().and_then(|current| current.report());
                let (rate, heard_nanos) = (rate.max(1), now_nanos);
                *other = Some(Current { code, timestamp, duration, before: 0, rate, heard_nanos });
            }
        }
        [before, if ended { self.finish() } else { None }]
    }

    /// The event of which nothing has been heard for too long, once.
    pub(crate) fn expire(&mut self, now_nanos: u64) -> Option<ReceivedEvent> {
        let heard = self.current.as_ref()?.heard_nanos;
        if now_nanos.saturating_sub(heard) < SILENT_NANOS { None } else { self.finish() }
    }

    /// The sender has begun anew: its timestamps say nothing about those before.
    pub(crate) fn restart(&mut self) -> Option<ReceivedEvent> {
        let last = self.finish();
        self.reported = None;
        last
    }

    fn finish(&mut self) -> Option<ReceivedEvent> {
        let current = self.current.take()?;
        let Current { code, timestamp, duration, .. } = current;
        self.reported = Some(Reported { code, timestamp, duration });
        current.report()
    }

    /// Belongs to the event reported last or to one before it; what is older by far more than a network delays is
    /// taken for a sender that has set its clock back.
    fn is_old(&self, timestamp: u32, rate: u32) -> bool {
        self.reported
            .as_ref()
            .is_some_and(|reported| reported.timestamp.wrapping_sub(timestamp) <= rate.saturating_mul(10))
    }
}

impl Reported {
    /// The end told once more under a later timestamp, as [`Current::goes_on`] knows it: another event cannot have begun
    /// before this one was over.
    fn ends_again(&self, code: u8, timestamp: u32, duration: u32) -> bool {
        (self.code, self.duration) == (code, duration)
            && timestamp.wrapping_sub(self.timestamp) < self.duration
    }
}

impl Current {
    /// Some gateways move the timestamp on with each packet of an event, though it is that of its beginning (RFC 4733
    /// section 2.2.1). Its duration goes on growing all the same, where that of another event begins small.
    fn goes_on(&self, code: u8, timestamp: u32, duration: u32, now_nanos: u64) -> bool {
        self.code == code
            && duration >= self.duration
            && timestamp.wrapping_sub(self.timestamp) <= duration
            && now_nanos.saturating_sub(self.heard_nanos) < TOGETHER_NANOS
    }

    fn report(&self) -> Option<ReceivedEvent> {
        let units = u64::from(self.before) + u64::from(self.duration);
        let duration_ms = u32::try_from(units * 1000 / u64::from(self.rate)).unwrap_or(u32::MAX);
        Some(ReceivedEvent { digit: digit_of(self.code)?, duration_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: u32 = 160;

    const NARROW: Clocks = Clocks { stream: 8000, events: 8000 };
    const WIDE: Clocks = Clocks { stream: 48_000, events: 48_000 };
    /// Opus towards a peer that has telephone-event at 8000 Hz only.
    const UNEQUAL: Clocks = Clocks { stream: 48_000, events: 8000 };

    /// Everything that is sent for packet times from timestamp 1000 on, with the packet time's number.
    fn run(
        sender: &mut EventSender,
        turns: u32,
        span: u32,
        clocks: Clocks,
    ) -> (Vec<(u32, EventPacket)>, Vec<char>) {
        let (mut all, mut done) = (Vec::new(), Vec::new());
        for turn in 0..turns {
            if let Turn::Events { packets, sent } = sender.turn(1000 + turn * span, span, clocks) {
                all.extend(packets.into_iter().flatten().map(|packet| (turn, packet)));
                done.extend(sent);
            }
        }
        (all, done)
    }

    fn duration(packet: &EventPacket) -> u32 {
        u32::from(u16::from_be_bytes([packet.payload[2], packet.payload[3]]))
    }

    #[test]
    fn an_event_grows_and_ends_three_times() {
        let mut sender = EventSender::new();
        assert!(sender.push('5', 100));
        let (packets, sent) = run(&mut sender, 20, SPAN, NARROW);
        let told: Vec<_> =
            packets.iter().map(|(_, packet)| (packet.marker, duration(packet), packet.payload[1])).collect();
        assert_eq!(
            told,
            [
                (true, 160, 10),
                (false, 320, 10),
                (false, 480, 10),
                (false, 640, 10),
                (false, 800, 0x8A),
                (false, 800, 0x8A),
                (false, 800, 0x8A)
            ]
        );
        assert!(packets.iter().all(|(_, packet)| packet.timestamp == 1000 && packet.payload[0] == 5));
        assert_eq!(packets.iter().map(|(turn, _)| *turn).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(sent, ['5']);
    }

    #[test]
    fn two_events_are_kept_apart() {
        let mut sender = EventSender::new();
        assert!(sender.push('1', 40) && sender.push('1', 40));
        let (packets, sent) = run(&mut sender, 30, SPAN, NARROW);
        let starts: Vec<_> =
            packets.iter().filter(|(_, packet)| packet.marker).map(|(_, packet)| packet.timestamp).collect();
        // The first ends 320 units after 1000; the next packet time that begins 400 units (50 ms) later is the sixth.
        assert_eq!(starts, [1000, 1000 + 5 * SPAN]);
        assert_eq!(sent, ['1', '1']);
    }

    #[test]
    fn a_long_event_goes_in_segments() {
        let mut sender = EventSender::new();
        assert!(sender.push('9', 3000));
        let (packets, sent) = run(&mut sender, 200, 960, WIDE);
        assert_eq!(sent, ['9']);
        let timestamps: std::collections::BTreeSet<_> =
            packets.iter().map(|(_, packet)| packet.timestamp).collect();
        assert_eq!(timestamps.into_iter().collect::<Vec<_>>(), [1000, 1000 + 0xFFFF, 1000 + 2 * 0xFFFF]);
        assert_eq!(packets.iter().filter(|(_, packet)| packet.marker).count(), 1);
        let full: Vec<_> = packets.iter().filter(|(_, packet)| duration(packet) == 0xFFFF).collect();
        assert_eq!(full.len(), 6);
        assert!(full.iter().all(|(_, packet)| packet.payload[1] == 10));
        let ends: Vec<_> = packets.iter().filter(|(_, packet)| packet.payload[1] & 0x80 != 0).collect();
        assert_eq!(ends.len(), 3);
        assert!(ends.iter().all(|(_, packet)| duration(packet) == 144_000 - 2 * 0xFFFF));

        let mut receiver = EventReceiver::new();
        let mut heard = Vec::new();
        for (turn, packet) in &packets {
            let now = u64::from(*turn) * 2 * TICK_NANOS;
            heard.extend(
                receiver.packet(packet.timestamp, &packet.payload, 48_000, now).into_iter().flatten(),
            );
        }
        assert_eq!(heard, [ReceivedEvent { digit: '9', duration_ms: 3000 }]);
    }

    #[test]
    fn durations_are_told_in_the_events_clock_and_timestamps_in_the_streams() {
        let mut sender = EventSender::new();
        assert!(sender.push('5', 100) && sender.push('6', 100));
        let (packets, sent) = run(&mut sender, 40, 960, UNEQUAL);
        assert_eq!(sent, ['5', '6']);
        let durations: Vec<u32> = packets.iter().take(7).map(|(_, packet)| duration(packet)).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        // The second waits until 50 ms after the first ended: 150 ms, and so the eighth packet time, in 48 kHz units.
        let starts: Vec<u32> =
            packets.iter().filter(|(_, packet)| packet.marker).map(|(_, packet)| packet.timestamp).collect();
        assert_eq!(starts, [1000, 1000 + 8 * 960]);

        let mut receiver = EventReceiver::new();
        let mut heard = Vec::new();
        for (turn, packet) in &packets {
            let now = u64::from(*turn) * 2 * TICK_NANOS;
            heard.extend(receiver.packet(packet.timestamp, &packet.payload, 8000, now).into_iter().flatten());
        }
        let event = |digit| ReceivedEvent { digit, duration_ms: 100 };
        assert_eq!(heard, [event('5'), event('6')]);
    }

    #[test]
    fn segments_of_unequal_clocks_follow_the_streams_time() {
        let mut sender = EventSender::new();
        assert!(sender.push('9', 10_000));
        let (packets, sent) = run(&mut sender, 600, 960, UNEQUAL);
        assert_eq!(sent, ['9']);
        let timestamps: std::collections::BTreeSet<_> =
            packets.iter().map(|(_, packet)| packet.timestamp).collect();
        assert_eq!(timestamps.into_iter().collect::<Vec<_>>(), [1000, 1000 + 6 * 0xFFFF]);
        let end = packets.last().map(|(_, packet)| duration(packet));
        assert_eq!(end, Some(80_000 - 0xFFFF));
    }

    #[test]
    fn an_interrupted_event_is_named_and_the_next_still_comes() {
        let mut sender = EventSender::new();
        assert!(sender.push('1', 100) && sender.push('2', 40));
        assert!(matches!(sender.turn(0, SPAN, NARROW), Turn::Events { .. }));
        assert_eq!(sender.interrupt(), Some('1'));
        assert_eq!(run(&mut sender, 10, SPAN, NARROW).1, ['2']);
        assert_eq!(sender.interrupt(), None);
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut sender = EventSender::new();
        for _ in 0..QUEUE {
            assert!(sender.push('0', 40));
        }
        assert!(!sender.push('1', 40));
        assert_eq!(run(&mut sender, 500, SPAN, NARROW).1.len(), QUEUE);
    }

    #[test]
    fn every_digit_has_a_code() {
        for digit in "0123456789*#ABCD!".chars() {
            assert_eq!(code_of(digit).and_then(digit_of), Some(digit));
        }
        assert_eq!(code_of('x'), None);
        assert_eq!(digit_of(200), None);
    }

    fn payload(code: u8, ended: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [code, if ended { 0x8A } else { 0x0A }, high, low]
    }

    #[test]
    fn lost_ends_are_found_by_the_next_event_and_by_silence() {
        let mut receiver = EventReceiver::new();
        assert_eq!(receiver.packet(1000, &payload(1, false, 320), 8000, 0), [None; 2]);
        let next = receiver.packet(3000, &payload(2, false, 160), 8000, TICK_NANOS);
        assert_eq!(next, [Some(ReceivedEvent { digit: '1', duration_ms: 40 }), None]);
        assert_eq!(receiver.expire(2 * TICK_NANOS), None);
        let expired = receiver.expire(TICK_NANOS + SILENT_NANOS);
        assert_eq!(expired, Some(ReceivedEvent { digit: '2', duration_ms: 20 }));
        // Its end comes after all: it was reported already.
        assert_eq!(receiver.packet(3000, &payload(2, true, 800), 8000, SILENT_NANOS * 2), [None; 2]);
        assert_eq!(receiver.packet(1000, &payload(1, true, 800), 8000, SILENT_NANOS * 2), [None; 2]);
    }

    #[test]
    fn an_end_alone_is_an_event() {
        let mut receiver = EventReceiver::new();
        let heard = receiver.packet(500, &payload(11, true, 800), 8000, 0);
        assert_eq!(heard, [None, Some(ReceivedEvent { digit: '#', duration_ms: 100 })]);
        assert_eq!(receiver.packet(500, &payload(11, true, 800), 8000, 0), [None; 2]);
    }

    #[test]
    fn an_event_whose_timestamp_moves_on_is_one_event() {
        let mut receiver = EventReceiver::new();
        for press in 0..3_u32 {
            let start = 1000 + 2000 * press;
            let mut heard = Vec::new();
            for n in 0..8_u32 {
                let now = u64::from(start / 80 + 2 * n) * TICK_NANOS;
                let duration = (160 * (n + 1)).min(800) as u16;
                let packet = payload(5, n >= 5, duration);
                heard.extend(receiver.packet(start + 160 * n, &packet, 8000, now).into_iter().flatten());
                heard.extend(receiver.expire(now));
            }
            assert_eq!(heard, [ReceivedEvent { digit: '5', duration_ms: 100 }], "press {press}");
        }
    }

    #[test]
    fn the_same_key_again_is_another_event_though_ends_are_lost() {
        let mut receiver = EventReceiver::new();
        assert_eq!(receiver.packet(1000, &payload(5, false, 160), 8000, 0), [None; 2]);
        let next = receiver.packet(1720, &payload(5, false, 160), 8000, 9 * TICK_NANOS);
        assert_eq!(next, [Some(ReceivedEvent { digit: '5', duration_ms: 20 }), None]);
        let ended = receiver.packet(1720, &payload(5, true, 320), 8000, 11 * TICK_NANOS);
        assert_eq!(ended, [None, Some(ReceivedEvent { digit: '5', duration_ms: 40 })]);
        let last = receiver.packet(2440, &payload(5, true, 320), 8000, 20 * TICK_NANOS);
        assert_eq!(last, [None, Some(ReceivedEvent { digit: '5', duration_ms: 40 })]);
    }

    #[test]
    fn a_flood_of_events_is_cut_to_what_a_telephone_sends() {
        let mut receiver = EventReceiver::new();
        let mut heard = 0;
        // All in one second.
        for n in 0..10_000_u32 {
            let now = u64::from(n) * TICK_NANOS / 100;
            let events = receiver.packet(1000 + 160 * n, &payload(5, true, 160), 8000, now);
            heard += events.into_iter().flatten().count();
        }
        assert!((32..=32 + 25).contains(&heard), "{heard}");
        // A row of digits that comes at once behind a stall is heard whole.
        for n in 20_000..20_032_u32 {
            let events = receiver.packet(160 * n, &payload(1, true, 160), 8000, 500 * TICK_NANOS);
            assert_eq!(events.into_iter().flatten().count(), 1, "{n}");
        }
    }

    #[test]
    fn unknown_events_and_short_payloads_tell_nothing() {
        let mut receiver = EventReceiver::new();
        assert_eq!(receiver.packet(500, &payload(99, true, 800), 0, 0), [None; 2]);
        assert_eq!(receiver.packet(900, &[1, 2, 3], 8000, 0), [None; 2]);
        assert_eq!(receiver.packet(900, &[], 8000, 0), [None; 2]);
    }
}
