//! How a call sounds, in both directions: figures of the last seconds, the E-model's judgement of them, and when it is
//! worth a warning. It knows counters and reports; where they come from, and who is told, others know.

mod reach;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_audio::plan::StreamCounters;
use voipd_media::Codec;
use voipd_media::emodel::{Impairment, Path, burst_ratio, opinion, rating};
use voipd_media::rtcp::{RemoteView, VoipMetrics};

use self::reach::Reach;

/// What is judged are the last seconds; older losses are forgiven.
const WINDOW: Duration = Duration::from_secs(8);
/// Looks at the counters that the window holds at most, whatever their distance.
const MOST_LOOKS: usize = 100;
/// What a sound device and its drivers add to each end, as far as is known, in milliseconds.
const DEVICE_MS: f64 = 20.0;
/// Longest delay of our jitter buffer, in milliseconds.
const BUFFER_LIMIT_MS: u16 = 400;
/// For how long the peer's report, and its own rating, are of the present: five of RTCP's intervals (RFC 3550 section
/// 6.3.5), since packets without one may come between, and a peer may stop telling any.
const PRESENT: Duration = Duration::from_secs(25);

/// Ratings below which users are no longer satisfied, and above which they are again (ITU-T G.109: 70 and 80).
const POOR: f64 = 70.0;
const GOOD: f64 = 80.0;
/// For how long a rating must stay there before anybody is told.
const FALLS: Duration = Duration::from_secs(3);
const RECOVERS: Duration = Duration::from_secs(8);

/// One direction of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// The E-model's R: 0 to 93 in narrow band.
    pub rating: f64,
    /// Mean opinion score of what is heard, 1.0 to 4.5.
    pub listening_opinion: f64,
    /// The same of the conversation: with delay.
    pub conversation_opinion: f64,
}

impl Quality {
    /// With the peer's own judgement where that is worse: in its reports of loss, packets that come too late count as
    /// received (RFC 3550 section 6.4.1).
    fn lowered(self, told: &VoipMetrics) -> Self {
        let mut quality = self;
        if let Some(rating) = told.rating.map(f64::from).filter(|rating| *rating < self.rating) {
            (quality.rating, quality.conversation_opinion) = (rating, opinion(rating));
        }
        if let Some(listening) = told.listening_opinion {
            quality.listening_opinion = self.listening_opinion.min(f64::from(listening));
        }
        quality
    }
}

/// Figures of a call's sound beside the plain counters. What cannot be known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallQuality {
    /// How the peer sounds here.
    pub inbound: Option<Quality>,
    /// How this end sounds at the peer, by its reports of loss or by its own rating: the worse of both.
    pub outbound: Option<Quality>,
    /// What the peer says of how it hears us (RFC 3611).
    pub reported: Option<VoipMetrics>,
    /// Network round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// From the peer's microphone to the loudspeaker here, as far as is known: half of the round trip, and the jitter
    /// buffer, which counts from the beginning of a packet's sound. In milliseconds.
    pub one_way_ms: Option<f64>,
    /// Share of the sound of the last seconds that was made up, 0.0 to 1.0.
    pub concealed: f64,
}

/// Which direction of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// What the peer says, as it is heard here.
    Inbound,
    /// What this end says, as the peer hears it.
    Outbound,
}

impl Flow {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Flow::Inbound => "inbound",
            Flow::Outbound => "outbound",
        }
    }
}

/// What makes a call sound bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing: it is good.
    None,
    /// Packets do not arrive.
    Loss,
    /// They arrive, but too late.
    Jitter,
    /// All takes too long.
    Delay,
}

impl Cause {
    /// The word on D-Bus.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::None => "",
            Cause::Loss => "loss",
            Cause::Jitter => "jitter",
            Cause::Delay => "delay",
        }
    }
}

/// A direction's quality has fallen or recovered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warning {
    /// Which direction.
    pub flow: Flow,
    /// It is bad from now on; else it is good again.
    pub poor: bool,
    /// Mean opinion score of the conversation.
    pub opinion: f64,
    /// What is most to blame; [`Cause::None`] when it is good again.
    pub cause: Cause,
}

/// What is known of a stream at one moment.
pub(crate) struct Look<'a> {
    pub(crate) counters: &'a StreamCounters,
    /// The peer's last report of what we send, and when that came.
    pub(crate) view: Option<(Instant, RemoteView)>,
    /// What the peer says of how it hears us, and when that came.
    pub(crate) reported: Option<(Instant, VoipMetrics)>,
    pub(crate) round_trip: Option<Duration>,
    /// When the peer last gave another sign of life than sound: RTCP, or an answer to ICE's questions.
    pub(crate) answered: Option<Instant>,
    /// How long nothing at all may come before the peer counts as not heard; `None` where it may be silent, or never gives
    /// another sign.
    pub(crate) patience: Option<Duration>,
    /// Of what we send.
    pub(crate) codec: Codec,
    /// Of what the peer sends: each end chooses among what the other one takes.
    pub(crate) codec_heard: Codec,
    /// Length of the packets that we send.
    pub(crate) packet_ms: u16,
}

/// Watches one call.
#[derive(Debug, Default)]
pub(crate) struct QualityMonitor {
    looks: VecDeque<(Instant, StreamCounters)>,
    quality: CallQuality,
    inbound: Alarm,
    outbound: Alarm,
    reach: Reach,
    /// Longest delay of the jitter buffer so far, in milliseconds.
    buffer_max_ms: u16,
    /// When sound came last, and what had come and been played until then.
    heard: Option<(Instant, u64)>,
}

impl QualityMonitor {
    pub(crate) fn quality(&self) -> CallQuality {
        self.quality
    }

    /// The peer is another one, or the stream is: what was heard before says nothing.
    pub(crate) fn forget(&mut self) {
        self.looks.clear();
        self.reach = Reach::default();
        self.heard = None;
    }

    /// Whether nothing comes of a peer that has been heard before: no sound, no noise of a pause, no sign of life.
    fn is_unheard(&mut self, now: Instant, look: &Look<'_>) -> bool {
        let so_far = look.counters.packets_received + look.counters.frames_played;
        let known = self.heard.filter(|(_, known)| *known == so_far && look.patience.is_some());
        let (at, _) = *self.heard.insert(known.unwrap_or((now, so_far)));
        let sign = look.answered.map_or(at, |answered| answered.max(at));
        so_far > 0 && look.patience.is_some_and(|patience| now >= sign + patience)
    }

    /// Takes in what is known now; answers what somebody should be told.
    pub(crate) fn look(&mut self, now: Instant, look: &Look<'_>) -> [Option<Warning>; 2] {
        let Look { counters, .. } = look;
        while self.looks.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
            || self.looks.len() >= MOST_LOOKS
        {
            self.looks.pop_front();
        }
        let before = self.looks.front().map(|(_, counters)| *counters);
        self.looks.push_back((now, **counters));
        self.buffer_max_ms = self.buffer_max_ms.max(milliseconds(counters.buffer_us));

        let mut recent = Recent::between(before.as_ref(), counters);
        if self.is_unheard(now, look) {
            // What is missing is counted when something comes again; whoever waits for it wants to know now.
            recent = Recent { heard: true, concealed: 1.0, burst_ratio: 1.0, ..recent };
        }
        let round_trip_ms = look.round_trip.map(|trip| trip.as_secs_f64() * 1000.0);
        // With the packet that it plays: the peer's, whose length has nothing to do with that of ours.
        let here = counters.buffer_us as f64 / 1000.0;
        let one_way_ms = round_trip_ms.map(|trip| trip / 2.0 + here);
        let inbound = recent.heard.then(|| {
            let path = Path {
                codec: Impairment::of(look.codec_heard.encoding_name()),
                loss_percent: 100.0 * recent.concealed,
                burst_ratio: recent.burst_ratio,
                delay_ms: one_way_ms.unwrap_or(here) + DEVICE_MS,
                ..Path::default()
            };
            (judged(&path), path)
        });
        let reported = look.reported.map(|(_, reported)| reported);
        let is_present = |at: Instant| now.saturating_duration_since(at) <= PRESENT;
        let present = look.reported.filter(|(at, _)| is_present(*at)).map(|(_, told)| told);
        let stuck = self.reach.is_stuck(look.view, counters.packets_sent, look.packet_ms);
        let outbound = look.view.filter(|_| counters.packets_sent > 0).and_then(|(at, view)| {
            let lost = match (is_present(at), present.and_then(|told| told.rating)) {
                (true, _) if stuck => 1.0,
                (true, _) => f64::from(view.fraction_lost),
                // It hears nothing to report of, and yet says how that sounds.
                (false, Some(_)) => 0.0,
                (false, None) => return None,
            };
            // Its buffer is not known: what its jitter calls for, if it does not say.
            let jitter_ms = view.jitter.as_secs_f64() * 1000.0;
            let buffer = present.map_or(20.0 + 3.0 * jitter_ms, |reported| f64::from(reported.buffer_ms));
            let path = Path {
                codec: Impairment::of(look.codec.encoding_name()),
                loss_percent: 100.0 * lost,
                delay_ms: round_trip_ms.unwrap_or(0.0) / 2.0 + f64::from(look.packet_ms) + buffer + DEVICE_MS,
                ..Path::default()
            };
            let ours = judged(&path);
            Some((present.map_or(ours, |told| ours.lowered(&told)), ours, path))
        });
        self.quality = CallQuality {
            inbound: inbound.map(|(quality, _)| quality),
            outbound: outbound.map(|(quality, ..)| quality),
            reported,
            round_trip_ms,
            one_way_ms: one_way_ms.filter(|_| recent.heard),
            concealed: recent.concealed,
        };
        let told_here = inbound.and_then(|(quality, path)| {
            let late = recent.late > recent.lost;
            self.inbound.look(now, Flow::Inbound, quality, || cause(&path, late))
        });
        let told_there = outbound.and_then(|(quality, ours, path)| {
            self.outbound.look(now, Flow::Outbound, quality, || match present {
                Some(told) => cause_there(&path, ours, quality, &told),
                None => cause(&path, false),
            })
        });
        [told_here, told_there]
    }

    /// What the peer is told of how it is heard here (RFC 3611 section 4.7): of the whole call, as the RFC wants it.
    pub(crate) fn metrics(&self, look: &Look<'_>) -> VoipMetrics {
        let counters = look.counters;
        let expected = counters.packets_received + counters.packets_lost;
        let packet_ms = u64::from(counters.receive_ptime_ms);
        // There is a gap before, after and between bursts.
        let mean = |packets: u64, count: u64| {
            field(packets.saturating_mul(packet_ms).checked_div(count).unwrap_or(0))
        };
        let inbound = self.quality.inbound;
        VoipMetrics {
            loss: share(counters.packets_lost, expected),
            discarded: share(counters.packets_late + counters.packets_discarded, expected),
            burst_density: share(counters.burst_missing, counters.burst_packets),
            gap_density: share(counters.gap_missing, counters.gap_packets),
            burst_ms: mean(counters.burst_packets, counters.bursts),
            gap_ms: mean(counters.gap_packets, counters.bursts + 1),
            round_trip_ms: look.round_trip.map_or(0, |trip| field(trip.as_millis() as u64)),
            end_system_ms: milliseconds(counters.buffer_us)
                .saturating_add(look.packet_ms)
                .saturating_add(2 * DEVICE_MS as u16),
            signal_dbov: Some(counters.level_in_dbov).filter(|level| *level > -127),
            noise_dbov: None,
            echo_return_loss_db: None,
            rating: inbound.map(|quality| quality.rating.round().clamp(0.0, 100.0) as u8),
            listening_opinion: inbound.map(|quality| quality.listening_opinion as f32),
            conversation_opinion: inbound.map(|quality| quality.conversation_opinion as f32),
            buffer_ms: milliseconds(counters.buffer_target_us),
            buffer_max_ms: self.buffer_max_ms,
            buffer_limit_ms: BUFFER_LIMIT_MS,
        }
    }
}

/// What happened within the window.
struct Recent {
    /// Something was played or made up.
    heard: bool,
    concealed: f64,
    burst_ratio: f64,
    lost: u64,
    /// Arrived and were not played.
    late: u64,
}

impl Recent {
    fn between(before: Option<&StreamCounters>, now: &StreamCounters) -> Self {
        let zero = StreamCounters::default();
        let before = before.unwrap_or(&zero);
        let since = |field: fn(&StreamCounters) -> u64| field(now).saturating_sub(field(before));
        let made_up = since(|c| c.frames_concealed);
        let all = since(|c| c.frames_played) + made_up;
        let missing = since(|c| c.burst_missing + c.gap_missing);
        let packets = since(|c| c.burst_packets + c.gap_packets);
        let mean_run = missing as f64 / since(|c| c.loss_runs).max(1) as f64;
        Recent {
            heard: all > 0,
            concealed: f64::from(share(made_up, all)),
            burst_ratio: burst_ratio(mean_run, f64::from(share(missing, packets))),
            lost: since(|c| c.packets_lost),
            late: since(|c| c.packets_late + c.packets_discarded),
        }
    }
}

fn judged(path: &Path) -> Quality {
    let rated = rating(path);
    let listening = rating(&Path { delay_ms: 0.0, ..*path });
    Quality {
        rating: rated.clamp(0.0, 100.0),
        listening_opinion: opinion(listening),
        conversation_opinion: opinion(rated),
    }
}

/// What is most to blame; `late`: of what is missing, most came too late.
fn cause(path: &Path, late: bool) -> Cause {
    let (delay, missing) = costs(path);
    blamed(delay, missing, late)
}

/// The same at the peer, whose own rating may be lower than `ours`: it knows what it has thrown away, and delay that we do
/// not. Of `discarded`, which is of the whole call, little is left after an hour: it settles only what the rest leaves open.
fn cause_there(path: &Path, ours: Quality, quality: Quality, told: &VoipMetrics) -> Cause {
    let (delay, lost) = costs(path);
    let beyond = ours.rating - quality.rating;
    let discards = told.discarded > 0.0;
    // What is thrown away spoils listening too, delay only the conversation.
    let missing = told.listening_opinion.map_or(discards, |_| {
        2.0 * (ours.listening_opinion - quality.listening_opinion)
            >= ours.conversation_opinion - quality.conversation_opinion
    });
    if missing {
        // Its report of loss may be newer, and better, than its rating.
        let late = beyond > lost && (discards || told.loss <= 0.0);
        blamed(delay, lost + beyond, late)
    } else {
        blamed(delay + beyond, lost, false)
    }
}

/// What delay and what loss take from the rating.
fn costs(path: &Path) -> (f64, f64) {
    let rated = rating(path);
    let without_delay = rating(&Path { delay_ms: 0.0, ..*path });
    let without_loss = rating(&Path { loss_percent: 0.0, ..*path });
    (without_delay - rated, without_loss - rated)
}

/// What costs more: delay, or what is missing.
fn blamed(delay: f64, missing: f64, late: bool) -> Cause {
    match (delay > missing, late) {
        (true, _) => Cause::Delay,
        (false, true) => Cause::Jitter,
        (false, false) => Cause::Loss,
    }
}

fn share(part: u64, whole: u64) -> f32 {
    if whole == 0 { 0.0 } else { (part as f32 / whole as f32).min(1.0) }
}

fn milliseconds(us: u64) -> u16 {
    field(us / 1000)
}

fn field(ms: u64) -> u16 {
    u16::try_from(ms).unwrap_or(u16::MAX)
}

/// Tells when quality has fallen or recovered, and not each time that it wavers.
#[derive(Debug, Default)]
struct Alarm {
    poor: bool,
    /// Since when it is otherwise.
    turned: Option<Instant>,
}

impl Alarm {
    fn look(
        &mut self,
        now: Instant,
        flow: Flow,
        quality: Quality,
        cause: impl FnOnce() -> Cause,
    ) -> Option<Warning> {
        let turned = if self.poor { quality.rating > GOOD } else { quality.rating < POOR };
        if !turned {
            self.turned = None;
            return None;
        }
        let since = *self.turned.get_or_insert(now);
        let patience = if self.poor { RECOVERS } else { FALLS };
        if now.saturating_duration_since(since) < patience {
            return None;
        }
        (self.poor, self.turned) = (!self.poor, None);
        let cause = if self.poor { cause() } else { Cause::None };
        Some(Warning { flow, poor: self.poor, opinion: quality.conversation_opinion, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of 20 ms packets of which so many get lost; a lost packet is made up.
    fn second(counters: &mut StreamCounters, lost: u64) {
        counters.packets_received += 50 - lost;
        counters.packets_lost += lost;
        counters.packets_sent += 50;
        counters.frames_played += 100 - 2 * lost;
        counters.frames_concealed += 2 * lost;
        counters.gap_packets += 50;
        counters.gap_missing += lost;
        counters.loss_runs += lost;
        counters.buffer_us = 40_000;
        counters.receive_ptime_ms = 20;
    }

    /// With a report that comes now.
    fn look(now: Instant, counters: &StreamCounters, sent_lost: f32, trip_ms: u64) -> Look<'_> {
        let view = Some((now, RemoteView { fraction_lost: sent_lost, ..RemoteView::default() }));
        let round_trip = Some(Duration::from_millis(trip_ms));
        Look {
            counters,
            view,
            reported: None,
            round_trip,
            answered: None,
            patience: None,
            codec: Codec::Pcmu,
            codec_heard: Codec::Pcmu,
            packet_ms: 20,
        }
    }

    /// Runs through seconds of these inbound losses; answers the second and the warning.
    fn run(losses: impl IntoIterator<Item = u64>) -> Vec<(usize, Warning)> {
        let start = Instant::now();
        let (mut monitor, mut counters, mut warnings) =
            (QualityMonitor::default(), StreamCounters::default(), Vec::new());
        for (place, lost) in losses.into_iter().enumerate() {
            second(&mut counters, lost);
            let now = start + Duration::from_secs(place as u64);
            let told = monitor.look(now, &look(now, &counters, 0.0, 50));
            warnings.extend(told.into_iter().flatten().map(|warning| (place, warning)));
        }
        warnings
    }

    #[test]
    fn a_clean_call_is_good_and_nobody_is_told() {
        assert_eq!(run([0; 60]), []);
        let counters = {
            let mut counters = StreamCounters::default();
            second(&mut counters, 0);
            counters
        };
        let mut monitor = QualityMonitor::default();
        monitor.look(Instant::now(), &look(Instant::now(), &counters, 0.0, 50));
        let quality = monitor.quality();
        let (inbound, outbound) = (quality.inbound.unwrap(), quality.outbound.unwrap());
        assert!(inbound.conversation_opinion > 4.35 && outbound.conversation_opinion > 4.35, "{quality:?}");
        assert_eq!(quality.one_way_ms, Some(25.0 + 40.0));
    }

    #[test]
    fn each_codec_is_judged_as_what_it_is() {
        let mut counters = StreamCounters::default();
        second(&mut counters, 0);
        let rated = |codec| {
            let mut monitor = QualityMonitor::default();
            let look = look(Instant::now(), &counters, 0.0, 50);
            // Each direction by its own codec, and the other one does not matter.
            monitor.look(Instant::now(), &Look { codec_heard: codec, ..look });
            let inbound = monitor.quality().inbound.unwrap().rating;
            monitor.look(Instant::now(), &Look { codec, ..look });
            let outbound = monitor.quality().outbound.unwrap().rating;
            assert!((inbound - outbound).abs() < 0.1, "{codec:?}: {inbound} here, {outbound} there");
            inbound
        };
        let best = rated(Codec::Pcmu);
        for (codec, impairment) in
            [(Codec::SpeexNarrow, 11.0), (Codec::SpeexWide, 11.0), (Codec::Gsm, 20.0), (Codec::L16Wide, 0.0)]
        {
            assert!((best - rated(codec) - impairment).abs() < 0.1, "{codec:?}: {} of {best}", rated(codec));
        }
    }

    #[test]
    fn a_fall_and_a_recovery_are_told_once_each() {
        let losses = [0; 10].into_iter().chain([10; 20]).chain([0; 30]);
        let warnings = run(losses);
        let [(fell, worse), (rose, better)] = warnings[..] else { panic!("{warnings:?}") };
        assert!((13..20).contains(&fell) && worse.poor && worse.cause == Cause::Loss, "{fell} {worse:?}");
        assert_eq!(worse.flow, Flow::Inbound);
        assert!(worse.opinion < 3.6 && better.opinion > 4.0);
        assert!((37..50).contains(&rose) && !better.poor && better.cause == Cause::None, "{rose} {better:?}");
    }

    #[test]
    fn what_wavers_is_told_seldom() {
        // A bad second in ten, and then one bad second in two.
        let waver = (0..300).map(|second| if second % 10 == 0 { 8 } else { 0 });
        assert_eq!(run(waver), []);
        let waver = (0..300).map(|second| if second % 2 == 0 { 20 } else { 0 });
        assert_eq!(run(waver).len(), 1);
    }

    #[test]
    fn delay_and_late_packets_are_told_apart_from_loss() {
        let start = Instant::now();
        let (mut monitor, mut counters, mut causes) =
            (QualityMonitor::default(), StreamCounters::default(), Vec::new());
        for place in 0..20 {
            second(&mut counters, 0);
            let now = start + Duration::from_secs(place);
            let told = monitor.look(now, &look(now, &counters, 0.0, 900));
            causes.extend(told.into_iter().flatten().map(|warning| (warning.flow, warning.cause)));
        }
        assert_eq!(causes, [(Flow::Inbound, Cause::Delay), (Flow::Outbound, Cause::Delay)]);

        let (mut monitor, mut counters, mut causes) =
            (QualityMonitor::default(), StreamCounters::default(), Vec::new());
        for place in 0..20 {
            second(&mut counters, 10);
            counters.packets_lost -= 10;
            counters.packets_late += 10;
            let now = start + Duration::from_secs(place);
            let told = monitor.look(now, &look(now, &counters, 0.25, 50));
            causes.extend(told.into_iter().flatten().map(|warning| (warning.flow, warning.cause)));
        }
        assert_eq!(causes, [(Flow::Inbound, Cause::Jitter), (Flow::Outbound, Cause::Loss)]);
    }

    /// What a peer tells that throws a tenth away.
    const THROWS_AWAY: VoipMetrics = VoipMetrics {
        loss: 0.0,
        discarded: 0.1,
        burst_density: 0.0,
        gap_density: 0.1,
        burst_ms: 0,
        gap_ms: 10_000,
        round_trip_ms: 50,
        end_system_ms: 100,
        signal_dbov: None,
        noise_dbov: None,
        echo_return_loss_db: None,
        rating: Some(60),
        listening_opinion: Some(3.3),
        conversation_opinion: Some(3.1),
        buffer_ms: 40,
        buffer_max_ms: 60,
        buffer_limit_ms: 400,
    };

    /// Runs through seconds in which the peer's last report is so old; answers the second and the outbound warning, and
    /// the last judgement.
    fn run_there(
        ages: impl IntoIterator<Item = u64>,
        sent_lost: f32,
        told: VoipMetrics,
    ) -> (Vec<(u64, bool, Cause)>, Quality) {
        let start = Instant::now() + Duration::from_secs(100);
        let (mut monitor, mut counters, mut warnings) =
            (QualityMonitor::default(), StreamCounters::default(), Vec::new());
        for (place, age) in (0..).zip(ages) {
            second(&mut counters, 0);
            let now = start + Duration::from_secs(place);
            let reported = Some((now - Duration::from_secs(age), told));
            let [_, warning] = monitor.look(now, &Look { reported, ..look(now, &counters, sent_lost, 50) });
            warnings.extend(warning.map(|warning| (place, warning.poor, warning.cause)));
            assert_eq!(monitor.quality().reported, Some(told));
        }
        (warnings, monitor.quality().outbound.unwrap())
    }

    #[test]
    fn what_the_peer_throws_away_is_heard_there() {
        let (warnings, outbound) = run_there([0; 20], 0.0, THROWS_AWAY);
        assert_eq!(warnings, [(3, true, Cause::Jitter)]);
        assert_eq!((outbound.rating, outbound.conversation_opinion), (60.0, opinion(60.0)));
        assert_eq!(outbound.listening_opinion, f64::from(3.3_f32));
    }

    #[test]
    fn the_worse_of_loss_and_the_peers_own_rating_counts() {
        let content = VoipMetrics { rating: Some(93), listening_opinion: Some(4.5), ..THROWS_AWAY };
        let (warnings, outbound) = run_there([0; 20], 0.25, content);
        assert_eq!(warnings, [(3, true, Cause::Loss)]);
        assert!(outbound.rating < 50.0 && outbound.listening_opinion < 2.6, "{outbound:?}");
        let silent = VoipMetrics { rating: None, listening_opinion: None, ..THROWS_AWAY };
        let (warnings, outbound) = run_there([0; 20], 0.0, silent);
        assert_eq!(warnings, []);
        assert!(outbound.rating > 90.0 && outbound.listening_opinion > 4.35, "{outbound:?}");
    }

    #[test]
    fn the_peers_own_rating_has_a_cause() {
        let because = |sent_lost, told| match run_there([0; 20], sent_lost, told).0[..] {
            [(3, true, cause)] => cause,
            ref warnings => panic!("{warnings:?}"),
        };
        let told = THROWS_AWAY;
        // Of a long call, what was thrown away in the last seconds is no measurable share.
        assert_eq!(because(0.0, VoipMetrics { discarded: 0.0, ..told }), Cause::Jitter);
        assert_eq!(because(0.0, VoipMetrics { listening_opinion: None, ..told }), Cause::Jitter);
        // Delay that only the peer knows.
        assert_eq!(because(0.0, VoipMetrics { listening_opinion: Some(4.4), ..told }), Cause::Delay);
        let unheard = VoipMetrics { discarded: 0.0, listening_opinion: None, ..told };
        assert_eq!(because(0.0, unheard), Cause::Delay);
        // Losses that it finds worse than we do, or that its newest report does not have any more.
        let lost = VoipMetrics { loss: 0.2, discarded: 0.0, ..told };
        let worse = VoipMetrics { rating: Some(40), listening_opinion: Some(2.0), ..lost };
        assert_eq!((because(0.25, worse), because(0.0, lost)), (Cause::Loss, Cause::Loss));
    }

    #[test]
    fn an_old_rating_of_the_peers_says_nothing_any_more() {
        let (warnings, outbound) = run_there(0..60, 0.0, THROWS_AWAY);
        assert_eq!(warnings, [(3, true, Cause::Jitter), (34, false, Cause::None)]);
        assert!(outbound.rating > 90.0, "{outbound:?}");
    }

    #[test]
    fn an_old_word_of_the_peers_buffer_delays_nothing_any_more() {
        let slow = VoipMetrics { rating: None, listening_opinion: None, buffer_ms: 800, ..THROWS_AWAY };
        let (warnings, outbound) = run_there([0; 20], 0.0, slow);
        assert_eq!(warnings, [(3, true, Cause::Delay)]);
        assert!(outbound.rating < POOR, "{outbound:?}");
        let (warnings, outbound) = run_there([60; 20], 0.0, slow);
        assert_eq!(warnings, []);
        assert!(outbound.rating > 90.0, "{outbound:?}");
    }

    #[test]
    fn an_old_report_of_loss_says_nothing_any_more() {
        let start = Instant::now();
        let mut counters = StreamCounters::default();
        second(&mut counters, 0);
        let outbound = |after, reported| {
            let (mut monitor, now) = (QualityMonitor::default(), start + Duration::from_secs(after));
            monitor.look(now, &Look { reported, ..look(start, &counters, 0.25, 50) });
            monitor.quality().outbound
        };
        assert!(outbound(25, None).is_some_and(|quality| quality.rating < 60.0));
        assert_eq!(outbound(26, None), None);
        // A peer that hears nothing leaves us out of its reports, and may yet tell its rating.
        let told = |rating| Some((start + Duration::from_secs(20), VoipMetrics { rating, ..THROWS_AWAY }));
        assert_eq!(outbound(26, told(Some(17))).map(|quality| quality.rating), Some(17.0));
        assert_eq!(outbound(26, told(None)), None);
    }

    #[test]
    fn a_peer_that_gets_nothing_at_all_misses_everything() {
        let start = Instant::now();
        let (mut monitor, mut counters, mut warnings) =
            (QualityMonitor::default(), StreamCounters::default(), Vec::new());
        for place in 0..40_u64 {
            second(&mut counters, 0);
            let now = start + Duration::from_secs(place);
            // A report each fifth second; nothing of what was sent after the tenth arrives.
            let at = now - Duration::from_secs(place % 5);
            let highest_seq = (50 * (place - place % 5)).min(500) as u32;
            let view = Some((at, RemoteView { highest_seq, ..RemoteView::default() }));
            let [_, warning] = monitor.look(now, &Look { view, ..look(now, &counters, 0.0, 50) });
            warnings.extend(warning.map(|warning| (place, warning.poor, warning.cause)));
        }
        assert_eq!(warnings, [(18, true, Cause::Loss)]);
        assert!(monitor.quality().outbound.is_some_and(|quality| quality.rating < 30.0));
    }

    #[test]
    fn the_peer_is_told_the_figures_of_the_whole_call() {
        let mut counters = StreamCounters::default();
        (0..10).for_each(|_| second(&mut counters, 5));
        let mut monitor = QualityMonitor::default();
        let look = look(Instant::now(), &counters, 0.0, 120);
        monitor.look(Instant::now(), &look);
        let metrics = monitor.metrics(&look);
        assert!((metrics.loss - 0.1).abs() < 1e-6 && metrics.discarded == 0.0);
        assert!((metrics.gap_density - 0.1).abs() < 1e-6 && metrics.burst_density == 0.0);
        assert_eq!((metrics.gap_ms, metrics.burst_ms, metrics.round_trip_ms), (10_000, 0, 120));
        assert!(metrics.rating.is_some_and(|rating| rating < 75), "{metrics:?}");
    }

    #[test]
    fn the_length_of_our_packets_says_nothing_of_what_comes() {
        let mut counters = StreamCounters::default();
        (0..10).for_each(|_| second(&mut counters, 5));
        let heard = |packet_ms| {
            let mut monitor = QualityMonitor::default();
            let look = Look { packet_ms, ..look(Instant::now(), &counters, 0.0, 120) };
            monitor.look(Instant::now(), &look);
            let (quality, metrics) = (monitor.quality(), monitor.metrics(&look));
            assert_eq!(metrics.end_system_ms, 40 + packet_ms + 2 * DEVICE_MS as u16);
            (quality.inbound, quality.one_way_ms, metrics.gap_ms, metrics.burst_ms)
        };
        assert_eq!(heard(60), heard(20));
    }

    #[test]
    fn a_call_without_sound_has_no_quality() {
        let counters = StreamCounters::default();
        let mut monitor = QualityMonitor::default();
        let look = Look { view: None, round_trip: None, ..look(Instant::now(), &counters, 0.0, 0) };
        assert_eq!(monitor.look(Instant::now(), &look), [None, None]);
        assert_eq!((monitor.quality().inbound, monitor.quality().outbound), (None, None));
    }
}
