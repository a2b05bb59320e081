//! RTCP between the two ends of a call, and what the sender makes of it: the daemon's own sessions and its adaptation, on
//! counters of the engines. It knows no sound.

use std::time::{Duration, Instant};

use voipd_agent::adaptation::{Adaptation, Limits};
use voipd_audio::plan::{Steering, StreamCounters};
use voipd_media::rtcp::{ReceivedCounters, RtcpEvent, RtcpSession, SentCounters};

use crate::channel::{Channel, Weather};

/// How often the daemon looks at a stream's counters while it learns of the network, and later.
const WATCH: u64 = 100_000_000;
const LOOK: u64 = 250_000_000;
/// Seconds from the NTP era to the beginning of the simulation.
const ERA: u64 = 1000;
/// SSRC of the sender in both sessions.
const SENDER: u32 = 1;

/// Both ends' RTCP sessions, and the adaptation of the first.
pub struct Reports {
    start: Instant,
    clock_rate: u32,
    sender: RtcpSession,
    receiver: RtcpSession,
    adaptation: Adaptation,
    /// The other end's: it knows when a report is in a hurry.
    listener: Adaptation,
    there: Weather,
    back: Weather,
    /// Due, to the receiver or back, and what.
    under_way: Vec<(u64, bool, Vec<u8>)>,
    looked_at: u64,
}

impl Reports {
    /// The reports get lost and come late as sound does.
    pub fn new(limits: Limits, channel: Channel, seed: u64) -> Self {
        let start = Instant::now();
        let clock_rate = limits.codec.clock_rate();
        let session = |ssrc, seed| RtcpSession::new(start, ssrc, "someone".to_owned(), clock_rate, seed);
        Reports {
            start,
            clock_rate,
            sender: session(SENDER, 2 * seed),
            receiver: session(2, 2 * seed + 1),
            adaptation: Adaptation::new(limits),
            listener: Adaptation::new(limits),
            there: Weather::new(channel, seed ^ 0x7E57),
            back: Weather::new(channel, seed ^ 0xBAC4),
            under_way: Vec::new(),
            looked_at: 0,
        }
    }

    /// How the stream is to be sent.
    pub fn steering(&self) -> Steering {
        self.adaptation.steering()
    }

    /// A tick at `now_nanos`, by when both engines count so much.
    pub fn tick(&mut self, now_nanos: u64, near: &StreamCounters, far: &StreamCounters) {
        let now = self.start + Duration::from_nanos(now_nanos);
        let ntp = (ERA << 32) + (now_nanos as f64 / 1e9 * 4_294_967_296.0) as u64;
        let watchful = self.adaptation.is_watchful() || self.listener.is_watchful();
        if now_nanos >= self.looked_at + if watchful { WATCH } else { LOOK } {
            self.looked_at = now_nanos;
            self.adaptation.counted(now, near);
            self.listener.counted(now, far);
            if let Some(bandwidth) = self.listener.wants_report(now, far) {
                self.receiver.hurry(now, bandwidth);
            }
        }
        let sent = SentCounters {
            packets: near.packets_sent as u32,
            octets: near.octets_sent as u32,
            rtp_timestamp: (now_nanos / 1000 * u64::from(self.clock_rate) / 1_000_000) as u32,
            active: true,
        };
        if let Some(report) = self.sender.poll_packet(now, ntp, &sent, &[]) {
            let due = self.there.arrival(now_nanos);
            self.under_way.extend(due.map(|due| (due, true, report)));
        }
        let heard = (far.packets_received > 0).then_some(ReceivedCounters {
            ssrc: SENDER,
            base_extended_seq: far.base_extended_seq,
            highest_extended_seq: far.highest_extended_seq,
            packets: far.source_received as u32,
            jitter: far.jitter_timestamp_units,
        });
        if let Some(report) = self.receiver.poll_packet(now, ntp, &SentCounters::default(), heard.as_slice())
        {
            self.listener.told(far);
            let due = self.back.arrival(now_nanos);
            self.under_way.extend(due.map(|due| (due, false, report)));
        }
        while let Some(place) = self.under_way.iter().position(|(due, ..)| *due <= now_nanos) {
            let (_, there, report) = self.under_way.remove(place);
            if there {
                self.receiver.handle_packet(now, ntp, &report);
                continue;
            }
            self.adaptation.counted(now, near);
            for event in self.sender.handle_packet(now, ntp, &report) {
                if let RtcpEvent::Report(view) = event {
                    self.adaptation.reported(now, &view, Duration::ZERO);
                }
            }
        }
    }
}
