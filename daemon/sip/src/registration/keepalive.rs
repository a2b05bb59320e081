//! What keeps a binding's flow open, and finds out that it is not (RFC 5626 sections 3.5 and 4.4, RFC 6223).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::BindingId;
use crate::binding;
use crate::core::Core;
use crate::endpoint::Flow;
use crate::headers::name;
use crate::message::Response;
use crate::stun;
use crate::timer::{RegistrationTimer, Timer};

/// A ping on a connection (RFC 5626 section 3.5.1). As a datagram it is passed over by whoever reads SIP, and holds a
/// translation all the same.
const LINE_ENDS: &[u8] = b"\r\n\r\n";
/// How often on connections, where the registrar does not say it (RFC 5626 section 4.4.1).
const ON_STREAMS: (Duration, Duration) = (Duration::from_secs(95), Duration::from_secs(120));
/// How often with datagrams: below the half minute for which the least patient routers keep a translation (RFC 5626
/// section 4.4.2).
const WITH_DATAGRAMS: (Duration, Duration) = (Duration::from_secs(24), Duration::from_secs(29));
/// How often while a call needs the flow: what the peer says of it, its BYE above all, has no other way to us.
const WITH_CALLS: (Duration, Duration) = (LEAST, Duration::from_secs(12));
/// How often at most, whatever the registrar says.
const LEAST: Duration = Duration::from_secs(10);
/// How often the interval is halved where translations are forgotten sooner.
const MAX_SHORTENED: u32 = 2;
/// How long an answer may take (RFC 5626 section 4.4.1). It is as long for datagrams, where RFC 8489 would wait for 39.5 s.
const ANSWER: Duration = Duration::from_secs(10);
/// First wait for the answer to a STUN request (RFC 8489 section 6.2.1), doubled with each further one.
const STUN_RTO: Duration = Duration::from_millis(500);
/// After how many flows without a single answer none is expected any more: not every server that should answer does.
const MAX_UNANSWERED: u8 = 2;

/// What a registrar's response says about keep-alives.
pub(super) struct Said {
    /// It finds us by the flow, and so answers keep-alives (RFC 5626 section 6).
    pub(super) outbound: bool,
    /// It takes keep-alives (RFC 6223); perhaps it says how often, in seconds.
    keep: Option<Option<u32>>,
    /// Its patience, in seconds (RFC 5626 section 4.4.1).
    flow_timer: Option<u32>,
    /// Our address is not what we believe, or something on the way has rewritten it.
    pub(super) translated: bool,
    /// As whom the registrar sees us, where it says so.
    mapped: Option<SocketAddr>,
}

impl Said {
    pub(super) fn read(core: &Core, flow: Flow, response: &Response) -> Self {
        let via = response.via.first();
        let keep = via.and_then(|via| via.params.value(binding::KEEP)).map(|keep| {
            // RFC 6223 section 4.2.2: 0 recommends nothing.
            keep.parse().ok().filter(|seconds| *seconds > 0)
        });
        let seen = core.reflexive.of(flow);
        let told = via.is_some_and(|via| via.params.value("received").is_some());
        Self {
            outbound: requires_outbound(response),
            keep,
            flow_timer: response.headers.number(binding::FLOW_TIMER).ok().flatten(),
            translated: seen.is_some(),
            mapped: seen.or(told.then_some(flow.local)),
        }
    }

    fn expects_keep_alives(&self) -> bool {
        self.outbound || self.keep.is_some() || self.flow_timer.is_some()
    }

    /// Whoever promises outbound or keep-alives answers them (RFC 5626 section 5.4, RFC 6223 section 4.4).
    fn promises_answers(&self) -> bool {
        self.outbound || self.keep.is_some()
    }

    fn interval(&self, flow: Flow) -> (Duration, Duration) {
        let named = self.flow_timer.or(self.keep.flatten());
        let patience = named.map(|seconds| Duration::from_secs(seconds.into()).max(LEAST));
        match patience {
            Some(patience) => (patience * 4 / 5, patience),
            None if flow.transport.is_reliable() => ON_STREAMS,
            None => WITH_DATAGRAMS,
        }
    }
}

/// The registrar has bound the flow (RFC 5626 section 6).
fn requires_outbound(response: &Response) -> bool {
    response.headers.tokens(name::REQUIRE).iter().any(|tag| tag.eq_ignore_ascii_case(binding::OUTBOUND))
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    LineEnds,
    Stun,
}

/// What is waited for.
enum Awaited {
    Nothing,
    Pong,
    Stun { id: stun::TransactionId, sent: u32 },
}

/// What is known of the answers of the far end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// So many flows have failed for want of the first.
    None(u8),
    Given,
}

/// What a keep-alive has found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The flow stands, or nobody knows better.
    Stands,
    /// It does not: whatever is sent to us by it is lost.
    Failed,
}

pub(super) struct KeepAlive {
    binding: BindingId,
    flow: Option<Flow>,
    method: Method,
    interval: (Duration, Duration),
    /// When the next is sent, where the flow has to be kept.
    due: Option<Instant>,
    /// A call needs the flow.
    with_calls: bool,
    expects_answers: bool,
    awaited: Awaited,
    answers: Answers,
    /// How often the interval is halved on this network.
    shortened: u32,
    /// As whom the far end sees us.
    mapped: Option<SocketAddr>,
}

impl KeepAlive {
    pub(super) fn new(binding: BindingId) -> Self {
        Self {
            binding,
            flow: None,
            method: Method::LineEnds,
            interval: WITH_DATAGRAMS,
            due: None,
            with_calls: false,
            expects_answers: false,
            awaited: Awaited::Nothing,
            answers: Answers::None(0),
            shortened: 0,
            mapped: None,
        }
    }

    /// Keeps the flow of a binding from now on, where anything can forget it.
    pub(super) fn begin(&mut self, core: &mut Core, now: Instant, flow: Flow, said: &Said) {
        self.stop(core);
        if self.flow.is_some_and(|before| before.local.ip() != flow.local.ip()) {
            // Another network.
            self.shortened = 0;
        }
        self.flow = Some(flow);
        self.mapped = said.mapped;
        self.interval = said.interval(flow);
        let believed = self.answers != Answers::None(MAX_UNANSWERED);
        let stream = flow.transport.is_reliable();
        self.expects_answers = believed && (said.promises_answers() || self.answers == Answers::Given);
        self.method = match !stream && self.expects_answers {
            true => Method::Stun,
            false => Method::LineEnds,
        };
        let local = flow.local.ip();
        let forgotten = stream || said.expects_keep_alives() || said.translated || is_behind_firewall(local);
        if forgotten && !local.is_loopback() {
            self.schedule(core, now);
        }
    }

    /// Whether a call needs the flow: its failure is found sooner then, where keep-alives can find it.
    pub(super) fn set_calls(&mut self, core: &mut Core, now: Instant, any: bool) {
        let begins = any && !self.with_calls && self.finds_failures();
        self.with_calls = any;
        // Who calls again and again does not put off what is due.
        if begins && self.due.is_some_and(|due| due > now + WITH_CALLS.1) {
            self.schedule(core, now);
        }
    }

    /// A failed flow shows: by the answer that is missing, or, on a connection, by TCP alone.
    fn finds_failures(&self) -> bool {
        self.expects_answers || self.flow.is_some_and(|flow| flow.transport.is_reliable())
    }

    /// The flow is not the binding's any more.
    pub(super) fn stop(&mut self, core: &mut Core) {
        self.due = None;
        self.awaited = Awaited::Nothing;
        for timer in [RegistrationTimer::KeepAlive, RegistrationTimer::Answer] {
            core.outbox.timers.stop(Timer::Registration(self.binding, timer));
        }
    }

    /// A translation on the way was forgotten though it was kept open.
    pub(super) fn shorten(&mut self) {
        self.shortened = (self.shortened + 1).min(MAX_SHORTENED);
    }

    fn schedule(&mut self, core: &mut Core, now: Instant) {
        let (least, most) = match self.with_calls && self.finds_failures() {
            true => (self.interval.0.min(WITH_CALLS.0), self.interval.1.min(WITH_CALLS.1)),
            false => self.interval,
        };
        let shorter = |time: Duration| (time / 2_u32.pow(self.shortened)).max(LEAST * 4 / 5);
        let wait = core.random.between(shorter(least), shorter(most).max(LEAST));
        self.due = Some(now + wait);
        self.set(core, now, RegistrationTimer::KeepAlive, wait);
    }

    fn set(&self, core: &mut Core, now: Instant, timer: RegistrationTimer, wait: Duration) {
        core.outbox.timers.set(Timer::Registration(self.binding, timer), now + wait);
    }

    /// It is time for the next.
    pub(super) fn send(&mut self, core: &mut Core, now: Instant) {
        let Some(flow) = self.flow else { return };
        self.schedule(core, now);
        match (self.method, &self.awaited) {
            // The one before is still repeated.
            (Method::Stun, Awaited::Stun { .. }) => {}
            (Method::Stun, _) => {
                let id = core.random.bytes();
                self.awaited = Awaited::Stun { id, sent: 1 };
                core.outbox.transmit(flow, stun::request(id));
                self.set(core, now, RegistrationTimer::Answer, STUN_RTO);
            }
            (Method::LineEnds, awaited) => {
                core.outbox.transmit(flow, LINE_ENDS.to_vec());
                if self.expects_answers && matches!(awaited, Awaited::Nothing) {
                    self.awaited = Awaited::Pong;
                    self.set(core, now, RegistrationTimer::Answer, ANSWER);
                } else if flow.transport.is_reliable() && matches!(awaited, Awaited::Nothing) {
                    // Nothing depends on it, but who has answered once will always answer.
                    self.awaited = Awaited::Pong;
                }
            }
        }
    }

    /// An answer is late.
    pub(super) fn on_late(&mut self, core: &mut Core, now: Instant) -> Verdict {
        let Some(flow) = self.flow else { return Verdict::Stands };
        match &mut self.awaited {
            Awaited::Stun { id, sent } => {
                // Sent at 0, 0.5, 1.5, 3.5 and 7.5 s.
                let waited = STUN_RTO * (2_u32.pow(*sent) - 1);
                if waited < ANSWER {
                    *sent += 1;
                    let wait = (STUN_RTO * 2_u32.pow(*sent - 1)).min(ANSWER.saturating_sub(waited));
                    core.outbox.transmit(flow, stun::request(*id));
                    self.set(core, now, RegistrationTimer::Answer, wait);
                    return Verdict::Stands;
                }
            }
            Awaited::Pong => {}
            Awaited::Nothing => return Verdict::Stands,
        }
        self.awaited = Awaited::Nothing;
        match &mut self.answers {
            Answers::None(flows) => *flows = (*flows + 1).min(MAX_UNANSWERED),
            Answers::Given => self.shorten(),
        }
        Verdict::Failed
    }

    /// The far end of a connection has answered a ping.
    pub(super) fn on_pong(&mut self, core: &mut Core, flow: Flow) {
        if self.flow == Some(flow) && matches!(self.awaited, Awaited::Pong) {
            self.answers = Answers::Given;
            self.expects_answers = true;
            self.on_life(core, flow);
        }
    }

    /// Something has come from the far end of a connection: it lives.
    pub(super) fn on_life(&mut self, core: &mut Core, flow: Flow) {
        if self.flow == Some(flow) && matches!(self.awaited, Awaited::Pong) {
            self.awaited = Awaited::Nothing;
            core.outbox.timers.stop(Timer::Registration(self.binding, RegistrationTimer::Answer));
        }
    }

    /// The answer to a STUN request, if it is ours: the flow has failed where we are another by now (RFC 5626 section
    /// 4.4.2).
    pub(super) fn on_stun(&mut self, core: &mut Core, flow: Flow, answer: stun::Answer) -> Verdict {
        let awaited = matches!(self.awaited, Awaited::Stun { id, .. } if id == answer.id);
        if !awaited || self.flow.is_none_or(|ours| ours.remote != flow.remote) {
            return Verdict::Stands;
        }
        self.awaited = Awaited::Nothing;
        self.answers = Answers::Given;
        core.outbox.timers.stop(Timer::Registration(self.binding, RegistrationTimer::Answer));
        let Some(mapped) = answer.mapped else { return Verdict::Stands };
        if *self.mapped.get_or_insert(mapped) == mapped {
            return Verdict::Stands;
        }
        self.shorten();
        Verdict::Failed
    }
}

/// Nobody translates such an address, but the router of a home keeps no way in open for long either (RFC 6092 section
/// 3.1).
fn is_behind_firewall(local: IpAddr) -> bool {
    match local {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unique_local(),
    }
}
