//! Digits on their way to the peer: one after the other, as telephone events (RFC 4733) or in INFO.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use voipd_sip::dtmf_info::Digit;
use voipd_sip::endpoint::SessionId;

use crate::account::DtmfMethod;
use crate::agent::Agent;
use crate::call::{Call, Phase};
use crate::error::AgentError;
use crate::output::{Output, Weight};
use crate::view::CallId;

/// Length of a digit sent by a command.
const DIGIT_MS: u32 = 120;
/// Pause behind a digit in INFO; the engine makes its own behind a telephone event.
const GAP: Duration = Duration::from_millis(50);
/// What ',' means between digits.
const DIGIT_PAUSE: Duration = Duration::from_secs(2);
/// How long after its end a digit is taken for sent when the engine has not said so.
const DIGIT_GRACE: Duration = Duration::from_secs(2);
/// An INFO is answered or given up before (RFC 3261 timer F).
const INFO_TIMEOUT: Duration = Duration::from_secs(40);
/// Most digits waiting in one call.
pub const MOST_DIGITS: usize = 128;

/// Digits that wait to be sent.
#[derive(Default)]
pub(crate) struct DtmfQueue {
    digits: VecDeque<char>,
    /// A digit or a pause is under way, until then at the latest.
    pub(crate) busy_until: Option<Instant>,
    /// When the digit in INFO that is under way would have sounded.
    sounded: Option<Instant>,
}

/// How a digit travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Event,
    Info,
}

impl Agent {
    /// Sends digits, one after the other; ',' pauses for 2 seconds. They go as telephone events (RFC 4733) or in INFO,
    /// as the account is set. Digits that still wait when the call is held are forgotten.
    ///
    /// # Errors
    /// A character that is no digit, too many of them, a call without media or on hold, a peer that takes no digits
    /// that way.
    pub fn send_dtmf(&mut self, now: Instant, id: CallId, digits: &str) -> Result<(), AgentError> {
        const WHAT: &str = "sending digits";
        let digits = digits.chars().map(|digit| digit.to_ascii_uppercase());
        if let Some(bad) = digits.clone().find(|digit| !"0123456789*#ABCD,".contains(*digit)) {
            return Err(AgentError::BadDigit(bad));
        }
        self.in_phase(id, WHAT, |phase| matches!(phase, Phase::Active | Phase::Early(_)))?;
        let way = self.digit_way(id);
        let call = self.calls.get_mut(&id).ok_or(AgentError::NoSuchCall(id.0))?;
        if call.send_plan().is_none() {
            return Err(AgentError::WrongState { what: WHAT, state: call.state() });
        }
        if way.is_none() {
            return Err(AgentError::NoDtmf);
        }
        if digits.clone().count() > MOST_DIGITS.saturating_sub(call.dtmf.digits.len()) {
            return Err(AgentError::TooManyDigits(MOST_DIGITS));
        }
        call.dtmf.digits.extend(digits);
        self.next_digit(now, id);
        self.settle(now);
        Ok(())
    }

    /// How digits reach the peer of this call; `None` where they do not.
    fn digit_way(&self, id: CallId) -> Option<Way> {
        let call = self.calls.get(&id)?;
        let event = call.send_plan().is_some_and(|plan| plan.events.is_some()).then_some(Way::Event);
        let info = self.endpoint.takes_digits(call.session).then_some(Way::Info);
        match self.accounts.get(call.account)?.settings.dtmf {
            DtmfMethod::Auto => event.or(info),
            DtmfMethod::Rtp => event,
            DtmfMethod::Info => info,
        }
    }

    /// Sends the next waiting digit, if none is under way.
    pub(crate) fn next_digit(&mut self, now: Instant, id: CallId) {
        let way = self.digit_way(id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.dtmf.busy_until.is_some_and(|until| now < until) {
            return;
        }
        let Some(way) = way else {
            call.dtmf = DtmfQueue::default();
            return;
        };
        call.dtmf.busy_until = match (call.dtmf.digits.pop_front(), way) {
            (Some(','), _) => Some(now + DIGIT_PAUSE),
            (Some(digit), Way::Event) => {
                let port = call.stream_port;
                self.outputs.push_back(Output::SendDtmf { port, digit, duration_ms: DIGIT_MS });
                Some(now + Duration::from_millis(DIGIT_MS.into()) + DIGIT_GRACE)
            }
            (Some(digit), Way::Info) => {
                let digit = Digit { digit, duration_ms: DIGIT_MS };
                // A session that ended meanwhile has reported it.
                let _ = self.endpoint.send_digit(now, call.session, digit);
                call.dtmf.sounded = Some(now + Duration::from_millis(DIGIT_MS.into()) + GAP);
                Some(now + INFO_TIMEOUT)
            }
            (None, _) => None,
        };
        self.drain_endpoint();
    }

    /// The engine has sent a digit.
    pub(crate) fn event_sent(&mut self, now: Instant, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.dtmf.busy_until = None;
        }
        self.next_digit(now, id);
    }

    /// A digit in INFO was answered. The next one follows when this one would have sounded.
    pub(crate) fn info_sent(&mut self, now: Instant, session: SessionId, taken: bool) {
        let Some(id) = self.by_session.get(&session).copied() else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !taken {
            call.dtmf = DtmfQueue::default();
            let text = "the peer did not take a digit in INFO: the digits behind it are forgotten";
            return self.note(Weight::Warning, Some(id), text.to_owned());
        }
        call.dtmf.busy_until = call.dtmf.sounded.take().filter(|sounded| *sounded > now);
        self.next_digit(now, id);
    }
}

impl Call {
    /// Digits that wait are forgotten where nothing is sent any more.
    pub(crate) fn review_digits(&mut self) {
        if self.send_plan().is_none() {
            self.dtmf = DtmfQueue::default();
        }
    }
}
