//! What the network does with the packets that one stream sends, and how the stream is to send therefore: bit rate, packet
//! time, forward error correction, redundancy. It knows reports and counters; it sends nothing.
//!
//! A queue on the way is seen by the delay of the peer's reports: the time since the first packet was sent that a report
//! does not know of yet, against the least of such times. What has left the queue in the meantime tells the link's rate.
//! Losses without a queue are met with protection; losses that go away when less is sent were the link's. Until the peer has
//! reported, what comes from it must do: a queue that it fills on its way to us is likely to have a twin on the way back.

mod choice;
mod delay;
mod inbound;
mod losses;
mod opening;

use std::time::{Duration, Instant};

use voipd_audio::Codec;
use voipd_audio::plan::{Steering, StreamCounters};
use voipd_media::rtcp::RemoteView;

pub use choice::Limits;
use choice::{Allowed, Choice};
use delay::Delay;
use inbound::Inbound;
use losses::Losses;
use opening::{Opening, PATIENCE};

/// A queue of this length calls for less, whether it grows or not.
const LONG: Duration = Duration::from_millis(65);
/// One of this length does where it grows.
const GROWING: Duration = Duration::from_millis(60);
/// Below this it is none, but the measure's own coarseness.
const SHORT: Duration = Duration::from_millis(50);
/// What a slow peer's report may say of a queue at the most for more to be tried.
const NONE: Duration = Duration::from_millis(30);
/// With so many losses a queue must be seen twice, or be of this length.
const LOSSY: f64 = 0.02;
const BEYOND_DOUBT: Duration = Duration::from_millis(400);
/// Losses in the first report of a slow peer that may be a full router's, and the queue that is thought to be in it.
const FULL_ROUTER: f64 = 0.03;
/// More than a link loses that is only too slow: there was none for a while.
const OUTAGE: f64 = 0.75;
const UNSEEN: Duration = Duration::from_millis(700);
/// Share of what the link carries that is used once it is known.
const SHARE: f64 = 0.82;
/// The same where it is only to be seen whether losses go away.
const TRIED: f64 = 0.97;
/// Time in which a queue is to be emptied.
const DRAIN: Duration = Duration::from_secs(2);
/// Least share of the link's rate that is sent while a queue empties.
const LEAST_SHARE: f64 = 0.5;
/// How long nothing is raised after the link was found too slow: the first time, and at most.
const HOLD: Duration = Duration::from_secs(10);
const LONGEST_HOLD: Duration = Duration::from_secs(80);
/// After so long without trouble the next one is the first again.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// Growth a second: where nothing is known of the link, and near the rate at which it was too slow.
const FAST: f64 = 0.014;
const SLOW: f64 = 0.004;
/// Where the peer's queue lets ours be guessed: how long it will be, how long nothing is raised then, and what each good
/// report allows: near the rate that was guessed, and far above it.
const GUESSED: Duration = Duration::from_millis(700);
const GUESS_HOLD: Duration = Duration::from_secs(3);
const GUESS_NEAR: f64 = 1.08;
const GUESS_FAR: f64 = 1.3;
/// Bits per second under which nothing is sent, packet headers included.
const FLOOR: f64 = 12_000.0;

/// How one stream adapts to its network.
#[derive(Debug)]
pub struct Adaptation {
    limits: Limits,
    /// Bits per second that may be sent, packet headers included.
    rate: f64,
    delay: Delay,
    losses: Losses,
    /// The rate at which the link was too slow, as it was estimated last.
    knee: Option<f64>,
    hold: Duration,
    hold_until: Option<Instant>,
    /// The link is too slow by its queue, and not by losses alone.
    queues: bool,
    last: Option<Instant>,
    /// By the last report.
    queue: Duration,
    opening: Opening,
    inbound: Inbound,
    guess: Guess,
    choice: Choice,
}

/// Whether what comes from the peer tells what becomes of what is sent.
#[derive(Clone, Copy, Debug)]
enum Guess {
    /// It may.
    Possible,
    /// It has: this much was sent before, and nothing is raised before `until`.
    Made { before: f64, until: Instant },
    /// The link is not the same both ways, or nobody says whether it is.
    Wrong,
}

impl Adaptation {
    /// For a stream that begins.
    pub fn new(limits: Limits) -> Self {
        let rate = limits.most();
        Adaptation {
            limits,
            rate,
            delay: Delay::default(),
            losses: Losses::default(),
            knee: None,
            hold: HOLD,
            hold_until: None,
            queues: false,
            last: None,
            queue: Duration::ZERO,
            opening: Opening::default(),
            inbound: Inbound::default(),
            guess: Guess::Possible,
            choice: Choice::new(&limits, rate),
        }
    }

    /// Another agreement holds: what is known of the network stays known.
    pub fn set_limits(&mut self, limits: Limits) {
        if limits != self.limits {
            // What was not limited by the network before is not now.
            let free = self.rate >= self.limits.most();
            self.rate = if free { limits.most() } else { self.rate.min(limits.most()) };
            self.limits = limits;
            self.choice = Choice::new(&limits, self.rate);
        }
    }

    /// Packets take another way from now on: how long that is, and what waits on it, is learned anew. What was found to be
    /// too much before stays so until reports say otherwise.
    pub fn way_changed(&mut self, now: Instant) {
        // At the beginning, ICE still looks for the way, and what is known is worth more than what is not.
        if !self.opening.is_young() {
            self.delay.way_changed(now);
            self.inbound.way_changed();
            self.queue = Duration::ZERO;
        }
    }

    /// How the stream is to be sent.
    pub fn steering(&self) -> Steering {
        self.choice.steering(&self.limits)
    }

    /// The stream's counters at `now`: to be told every second or so, ten times as often where
    /// [`Adaptation::is_watchful`], and before each report.
    pub fn counted(&mut self, now: Instant, counters: &StreamCounters) {
        let overhead = self.limits.overhead();
        self.delay.sent(now, counters, overhead);
        self.inbound.look(now, counters, overhead);
        if counters.packets_sent > 0 {
            self.opening.sends(now);
        }
        if let Some((carried, queue)) = self.inbound.overrun(now) {
            self.guess(now, carried, queue);
        }
        self.drop_guess(now);
        self.follow(now);
    }

    /// Whether the stream's counters are worth a look ten times a second.
    pub fn is_watchful(&self) -> bool {
        // A codec of one rate begins with all it has: nothing is held back that could be let go.
        let opens = self.limits.codec == Codec::Opus && self.opening.is_young();
        opens || self.inbound.is_watchful()
    }

    /// Whether the peer should be told soon how it is heard; then, bits per second of both directions, of which RTCP has its
    /// share ([`voipd_media::rtcp::RtcpSession::hurry`]).
    pub fn wants_report(&mut self, now: Instant, counters: &StreamCounters) -> Option<f64> {
        self.inbound.wants_report(now, counters)
    }

    /// The peer has been sent a report.
    pub fn told(&mut self, counters: &StreamCounters) {
        self.inbound.told(counters);
    }

    /// The peer's report has come; the last look at the counters may be some packets old. `queued`: how long what comes from
    /// the peer, and so its report, waits in queues of its own direction.
    pub fn reported(&mut self, now: Instant, view: &RemoteView, queued: Duration) {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let Some(seen) = self.delay.report(now, view, queued) else {
            self.opening.report(now, true, true);
            return self.follow(now);
        };
        let loss = f64::from(view.fraction_lost);
        self.losses.report(now, loss, seen.queue >= LONG && seen.earlier >= SHORT);
        // Packets that were lost right before the report look like late ones, which the round trip does not confirm.
        let doubtful = loss > LOSSY && seen.queue < BEYOND_DOUBT && seen.earlier < SHORT && self.queue < LONG;
        self.queue = seen.queue;
        let overrun = seen.queue >= LONG && seen.growth > -0.05
            || seen.queue >= GROWING && seen.growth > 0.01
            || seen.queue >= SHORT / 2 && seen.earlier >= LONG && seen.growth > -0.05;
        let overrun = overrun && !doubtful;
        if self.opening.is_unsure(now)
            && loss < OUTAGE
            && (loss >= FULL_ROUTER || loss > 0.0 && seen.queue >= LONG)
        {
            // A router that is full loses what comes, and no queue is seen as long as none was ever shorter.
            self.losses.suspect(now, self.rate);
            self.rate = self.rate.min(self.opening.most(now));
            self.opening.end();
            self.lower(now, seen.carried, UNSEEN);
        } else if overrun {
            if let Guess::Made { .. } = self.guess {
                self.guess = Guess::Possible;
            }
            self.rate = self.rate.min(self.opening.most(now));
            self.opening.end();
            self.queues = true;
            self.lower(now, seen.carried, seen.queue);
        } else if self.losses.suspects_link(now, self.rate) {
            self.try_less(now, seen.carried);
        } else if let Some(rate) = self.losses.exonerates_link(now) {
            self.rate = rate.min(self.limits.most());
            (self.knee, self.hold_until, self.queues) = (None, None, false);
        } else if !self.opening.is_young() && (doubtful || seen.queue.max(seen.earlier) < SHORT) {
            self.raise(now, since);
        }
        let fair = !overrun && (doubtful || seen.queue < SHORT) && queued < SHORT && loss < FULL_ROUTER;
        self.opening.report(now, fair, fair && seen.at_most < NONE);
        self.follow(now);
    }

    fn follow(&mut self, now: Instant) {
        let most = if self.limits.codec == Codec::Opus { self.opening.most(now) } else { f64::INFINITY };
        let allowed = Allowed { rate: self.rate.min(most), held: most < self.rate, queues: self.queues };
        self.choice.follow(&self.limits, allowed, self.losses.level());
    }

    /// What comes from the peer queues: what is sent likely does, at the other end of the same link.
    fn guess(&mut self, now: Instant, carried: f64, queue: Duration) {
        let before = self.rate;
        let fits = carried * SHARE >= before.min(self.opening.most(now));
        if fits || self.limits.codec != Codec::Opus || !matches!(self.guess, Guess::Possible) {
            return;
        }
        self.lower(now, carried, queue.max(GUESSED));
        let until = now + GUESS_HOLD;
        self.hold_until = Some(until);
        self.guess = Guess::Made { before, until };
    }

    /// Without reports nothing would ever be raised again: a guess that none has confirmed holds back no longer than the
    /// peer's queue lasts.
    fn drop_guess(&mut self, now: Instant) {
        let Guess::Made { before, until } = self.guess else { return };
        let heard = self.last.map_or(until, |last| last.max(until));
        // What a report has called for since is no guess.
        let guessed = self.hold_until.is_none_or(|held| held == until);
        if guessed && now.saturating_duration_since(heard) >= PATIENCE && !self.inbound.queues() {
            self.rate = before.min(self.limits.most());
            (self.guess, self.knee, self.hold_until) = (Guess::Wrong, None, None);
        }
    }

    /// The link carries less than is sent.
    fn lower(&mut self, now: Instant, carried: f64, queue: Duration) {
        let carried = carried.clamp(FLOOR, self.limits.most().max(FLOOR));
        // A try that has failed is made again later and later.
        self.hold = match self.hold_until {
            Some(until) if now < until => self.hold,
            Some(until) if now < until + FORGOTTEN => (2 * self.hold).min(LONGEST_HOLD),
            _ => HOLD,
        };
        self.knee = Some(carried);
        self.hold_until = Some(now + self.hold);
        let draining = queue.as_secs_f64() / DRAIN.as_secs_f64();
        let wanted = carried * (SHARE - draining).max(LEAST_SHARE);
        self.rate = self.rate.min(wanted).max(FLOOR);
    }

    /// The losses may be the link's: as much as has come through would then go through without any.
    fn try_less(&mut self, now: Instant, carried: f64) {
        let rate = self.rate;
        self.lower(now, carried, Duration::ZERO);
        self.rate = (carried * TRIED).clamp(FLOOR.min(rate), rate);
    }

    /// There is no queue.
    fn raise(&mut self, now: Instant, since: Duration) {
        let seconds = since.as_secs_f64().min(10.0);
        let known = self.knee.map(|knee| (SHARE * knee).min(self.limits.most()));
        if let Some(known) = known.filter(|known| self.rate < *known) {
            // It has emptied: back to what the link was found to carry.
            self.rate = known;
            return;
        }
        if self.hold_until.is_some_and(|until| now < until) {
            return;
        }
        if let Guess::Made { before, .. } = self.guess {
            let near = self.knee.is_some_and(|knee| self.rate < 1.2 * knee);
            let climb = if near { GUESS_NEAR } else { GUESS_FAR };
            self.rate = (self.rate * climb).min(before).min(self.limits.most());
            if self.rate >= before {
                (self.guess, self.knee) = (Guess::Wrong, None);
            }
            return;
        }
        let near = self.knee.is_some_and(|knee| self.rate < 1.3 * knee);
        let growth = if near { SLOW } else { FAST };
        self.rate = (self.rate * (1.0 + growth * seconds)).min(self.limits.most());
        if self.knee.is_some_and(|knee| self.rate >= 2.0 * knee) || self.rate >= self.limits.most() {
            // It is another link by now.
            (self.knee, self.queues) = (None, false);
        }
    }
}
