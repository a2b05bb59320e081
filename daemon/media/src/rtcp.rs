//! RTCP of one stream (RFC 3550 section 6): when to report, what to say, what the peer's reports mean.
//!
//! Times on the wire are NTP timestamps: seconds since 1900 in the upper 32 bits. The caller's should run evenly (the
//! wall clock read once, then the monotonic clock added), since the delays that we report are differences of them.

mod compound;
mod report;
mod schedule;
mod xr;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::compound::{Heard, Statement};
use self::report::{Reception, middle};
use self::schedule::Schedule;
use self::xr::Block;
pub use self::xr::VoipMetrics;

/// What was sent so far, as the sender report wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentCounters {
    /// RTP packets.
    pub packets: u32,
    /// Payload octets, without headers.
    pub octets: u32,
    /// RTP timestamp that belongs to the moment of the report.
    pub rtp_timestamp: u32,
    /// Something was sent since the last two reports.
    pub active: bool,
}

/// What was received so far, as the receiver report wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedCounters {
    /// The sender of these packets.
    pub ssrc: u32,
    /// First sequence number, extended.
    pub base_extended_seq: u32,
    /// Highest sequence number, extended by its number of cycles.
    pub highest_extended_seq: u32,
    /// Packets that arrived, duplicates and late ones too.
    pub packets: u32,
    /// Interarrival jitter in RTP timestamp units (RFC 3550 section 6.4.1).
    pub jitter: u32,
}

/// What the peer reported about what it hears from us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RemoteView {
    /// 0.0 to 1.0 over the last interval.
    pub fraction_lost: f32,
    /// Packets since the start; negative where duplicates outweigh losses.
    pub cumulative_lost: i32,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Network round trip, without the time that the peer took to answer.
    pub round_trip: Option<Duration>,
    /// Highest sequence number of ours that it had received, with the count of its wraps in the upper half.
    pub highest_seq: u32,
}

/// What a packet told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RtcpEvent {
    /// How the peer hears us.
    Report(RemoteView),
    /// The peer says that the stream with this SSRC ends.
    Bye {
        /// The stream.
        ssrc: u32,
    },
    /// Somebody else speaks under our SSRC (RFC 3550 section 8.2): we need another one.
    Collision,
}

/// Senders remembered, so that a flood of invented ones takes no memory: the least recently heard one goes first.
const MAX_REMOTES: usize = 8;
/// Sender reports of ours that the peer may still answer.
const MAX_SENT_REPORTS: usize = 8;

/// Octets of IPv4 and UDP around a packet, and of a packet with them before one was written.
const AROUND: usize = 28;
const USUAL_OCTETS: usize = 150;

/// RTCP of one stream.
#[derive(Debug)]
pub struct RtcpSession {
    ssrc: u32,
    cname: String,
    clock_rate: u32,
    schedule: Schedule,
    /// Whom we heard RTCP from, the most recent one last.
    remotes: VecDeque<Remote>,
    /// What we reported about each stream that we receive, the most recent one last.
    receptions: VecDeque<Reception>,
    /// Middle 32 bits of the timestamps of our last sender reports, and when they went out.
    sent_reports: VecDeque<(u32, Instant)>,
    has_reported: bool,
    /// Octets of our last packet, with those of IP and UDP.
    written: usize,
    /// What the next report says of how the peer is heard.
    metrics: Option<(u32, VoipMetrics)>,
    /// The last receiver time of the peer's, and our NTP time at its arrival: the next report answers it.
    asked: Option<(u32, u32, u64)>,
    /// Middle 32 bits of our last receiver times, and when they went out.
    receiver_times: VecDeque<(u32, Instant)>,
    /// And when it came.
    remote_view: Option<(Instant, RemoteView)>,
    /// By the answers to `receiver_times`.
    listeners_round_trip: Option<Duration>,
    /// And when they came.
    remote_metrics: Option<(Instant, VoipMetrics)>,
    ignored: u64,
}

/// One participant at the other end.
#[derive(Debug)]
struct Remote {
    ssrc: u32,
    last_report: Option<LastSenderReport>,
}

/// The last sender report of a participant.
#[derive(Clone, Copy, Debug)]
struct LastSenderReport {
    /// Middle 32 bits of the timestamp in it.
    timestamp: u32,
    /// Our NTP time at its arrival.
    arrived: u64,
}

impl RtcpSession {
    /// `clock_rate`: of our media, in hertz. `cname`: per RFC 7022. `seed` spreads the intervals.
    pub fn new(now: Instant, ssrc: u32, cname: String, clock_rate: u32, seed: u64) -> Self {
        RtcpSession {
            ssrc,
            cname: compound::fitting_cname(cname),
            clock_rate,
            schedule: Schedule::new(now, seed),
            remotes: VecDeque::new(),
            receptions: VecDeque::new(),
            sent_reports: VecDeque::new(),
            has_reported: false,
            written: USUAL_OCTETS,
            metrics: None,
            asked: None,
            receiver_times: VecDeque::new(),
            remote_view: None,
            listeners_round_trip: None,
            remote_metrics: None,
            ignored: 0,
        }
    }

    /// A compound packet from the peer. What is malformed or speaks of other streams is ignored and counted. Several
    /// reports about us in one packet give one event, for the last.
    pub fn handle_packet(&mut self, now: Instant, ntp: u64, bytes: &[u8]) -> Vec<RtcpEvent> {
        let Some(statements) = compound::read(bytes) else {
            self.ignored += 1;
            return Vec::new();
        };
        let mut events = Vec::new();
        let mut view = None;
        for statement in statements {
            match statement {
                Statement::Sender { ssrc, .. } if ssrc == self.ssrc => {
                    // RFC 3550 section 8.2: under our own name it is our packet that has come back.
                    if !compound::names(bytes, ssrc, &self.cname) && !events.contains(&RtcpEvent::Collision) {
                        events.push(RtcpEvent::Collision);
                    }
                    self.ignored += 1;
                }
                Statement::Sender { ssrc, ntp: None } => self.remember(ssrc, None),
                Statement::Sender { ssrc, ntp: Some(timestamp) } => {
                    let report = LastSenderReport { timestamp: middle(timestamp), arrived: ntp };
                    self.remember(ssrc, Some(report));
                }
                Statement::Heard(heard) if heard.ssrc == self.ssrc => view = Some(self.view(now, &heard)),
                Statement::Heard(_) => self.ignored += 1,
                Statement::Bye { ssrc } => match self.remotes.iter().position(|remote| remote.ssrc == ssrc) {
                    Some(place) => {
                        self.remotes.remove(place);
                        events.push(RtcpEvent::Bye { ssrc });
                    }
                    None => self.ignored += 1,
                },
                Statement::Extended { from, block } => self.extended(now, ntp, from, block),
            }
        }
        if let Some(view) = view {
            self.remote_view = Some((now, view));
            events.insert(0, RtcpEvent::Report(view));
        }
        events
    }

    /// What we send has another SSRC from now on, and perhaps another clock rate in hertz; our name stays (RFC 3550
    /// section 6.5.1). For the old source, [`RtcpSession::goodbye`] is said before.
    pub fn change_source(&mut self, ssrc: u32, clock_rate: u32) {
        (self.ssrc, self.clock_rate) = (ssrc, clock_rate);
        self.sent_reports.clear();
        self.receiver_times.clear();
        (self.has_reported, self.remote_view, self.remote_metrics) = (false, None, None);
    }

    /// When [`RtcpSession::poll_packet`] wants to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.schedule.due()
    }

    /// The next report matters to the peer: it goes as soon as 5 % of `bandwidth` have room for it, in bits per second of
    /// both directions, packet headers included; the first one at once (RFC 3550 section 6.2).
    pub fn hurry(&mut self, now: Instant, bandwidth: f64) {
        self.schedule.hurry(now, self.written, bandwidth);
    }

    /// The compound packet that is due at `now`: SR or RR, and SDES. `None` before its time.
    pub fn poll_packet(
        &mut self,
        now: Instant,
        ntp: u64,
        sent: &SentCounters,
        received: &[ReceivedCounters],
    ) -> Option<Vec<u8>> {
        if !self.schedule.take(now) {
            return None;
        }
        // A sender report lets the round trip be measured; who sends nothing asks for an answer to its time instead
        // (RFC 3611 section 4.4).
        let times = if sent.active { &mut self.sent_reports } else { &mut self.receiver_times };
        push_bounded(times, (middle(ntp), now), MAX_SENT_REPORTS);
        self.write(ntp, sent, received, false)
    }

    /// RR/SR, SDES and BYE in one: the end of the session, or of its SSRC. `None` when neither RTP nor RTCP was ever sent:
    /// such a participant leaves silently (RFC 3550 section 6.3.7).
    pub fn goodbye(
        &mut self,
        ntp: u64,
        sent: &SentCounters,
        received: &[ReceivedCounters],
    ) -> Option<Vec<u8>> {
        if !self.has_reported && sent.packets == 0 {
            return None;
        }
        self.write(ntp, sent, received, true)
    }

    /// What the next report says of how `ssrc` is heard.
    pub fn set_metrics(&mut self, ssrc: u32, metrics: VoipMetrics) {
        self.metrics = Some((ssrc, metrics));
    }

    /// How the peer hears us in its own figures, where it has sent any (RFC 3611), and when they came.
    pub fn remote_metrics(&self) -> Option<(Instant, VoipMetrics)> {
        self.remote_metrics
    }

    /// Network round trip: by the peer's last report, or while we send nothing, by its answers to our questions.
    pub fn round_trip(&self) -> Option<Duration> {
        self.remote_view.and_then(|(_, view)| view.round_trip).or(self.listeners_round_trip)
    }

    /// How the peer hears us, by its last report.
    pub fn remote_view(&self) -> Option<RemoteView> {
        self.remote_view.map(|(_, view)| view)
    }

    /// The same, and when that report came.
    pub fn dated_view(&self) -> Option<(Instant, RemoteView)> {
        self.remote_view
    }

    /// Packets, and parts of packets, that were malformed or spoke of other streams.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn remember(&mut self, ssrc: u32, report: Option<LastSenderReport>) {
        let known = self.remotes.iter().position(|remote| remote.ssrc == ssrc);
        let known = known.and_then(|place| self.remotes.remove(place));
        let last_report = report.or(known.and_then(|remote| remote.last_report));
        push_bounded(&mut self.remotes, Remote { ssrc, last_report }, MAX_REMOTES);
    }

    fn extended(&mut self, now: Instant, ntp: u64, from: u32, block: Block) {
        match block {
            Block::Voip { ssrc, metrics } if ssrc == self.ssrc && from != self.ssrc => {
                self.remote_metrics = Some((now, metrics));
            }
            Block::ReceiverTime { ntp: theirs } if from != self.ssrc => {
                self.asked = Some((from, middle(theirs), ntp));
            }
            Block::DelaySince { ssrc, last, delay } if ssrc == self.ssrc && from != self.ssrc => {
                let answered = self.receiver_times.iter().find(|(timestamp, _)| *timestamp == last);
                let round_trip = answered
                    .and_then(|(_, sent)| report::round_trip(now.saturating_duration_since(*sent), delay));
                self.listeners_round_trip = round_trip.or(self.listeners_round_trip);
            }
            Block::Voip { .. } | Block::ReceiverTime { .. } | Block::DelaySince { .. } => self.ignored += 1,
        }
    }

    fn view(&self, now: Instant, heard: &Heard) -> RemoteView {
        // A report that we did not send tells nothing.
        let answered = self.sent_reports.iter().find(|(timestamp, _)| *timestamp == heard.last_report);
        let round_trip = answered
            .and_then(|(_, sent)| report::round_trip(now.saturating_duration_since(*sent), heard.delay));
        RemoteView {
            fraction_lost: f32::from(heard.fraction_lost) / 256.0,
            cumulative_lost: heard.cumulative_lost,
            jitter: report::jitter_time(heard.jitter, self.clock_rate),
            round_trip,
            highest_seq: heard.highest_extended_seq,
        }
    }

    fn write(
        &mut self,
        ntp: u64,
        sent: &SentCounters,
        received: &[ReceivedCounters],
        bye: bool,
    ) -> Option<Vec<u8>> {
        let blocks = self.report_blocks(ntp, received);
        let extended = self.extended_blocks(ntp, !sent.active && !bye);
        let packet = compound::write(&compound::Outgoing {
            ssrc: self.ssrc,
            cname: &self.cname,
            sender: sent.active.then_some((ntp, sent)),
            blocks: &blocks,
            extended: &extended,
            bye,
        })?;
        (self.has_reported, self.written) = (true, packet.len() + AROUND);
        Some(packet)
    }

    /// How the peer is heard, the answer to its question for the round trip, and our own where no sender report asks it.
    fn extended_blocks(&mut self, ntp: u64, asks: bool) -> Vec<Block> {
        let metrics = self.metrics.take().map(|(ssrc, metrics)| Block::Voip { ssrc, metrics });
        let answer = self.asked.take().and_then(|(ssrc, last, arrived)| {
            Some(Block::DelaySince { ssrc, last, delay: report::delay(arrived, ntp)? })
        });
        let question = asks.then_some(Block::ReceiverTime { ntp });
        [metrics, answer, question].into_iter().flatten().collect()
    }

    /// A block for each stream that packets came from since the last report (RFC 3550 section 6.4).
    fn report_blocks(&mut self, ntp: u64, received: &[ReceivedCounters]) -> Vec<Heard> {
        let mut blocks = Vec::new();
        for counters in received.iter().take(compound::MAX_BLOCKS) {
            let known = self.receptions.iter().position(|reception| reception.ssrc() == counters.ssrc);
            let known = known.and_then(|place| self.receptions.remove(place));
            let mut reception = known.unwrap_or_else(|| Reception::new(counters));
            let last = self.remotes.iter().find(|remote| remote.ssrc == counters.ssrc);
            let last = last.and_then(|remote| remote.last_report);
            let last = last.and_then(|last| Some((last.timestamp, report::delay(last.arrived, ntp)?)));
            blocks.extend(reception.report(counters, last));
            push_bounded(&mut self.receptions, reception, compound::MAX_BLOCKS);
        }
        blocks
    }
}

/// Appends, and lets the oldest go where there is no room.
fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    while queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}
