//! Reliable provisional responses (RFC 3262): ours until their PRACK, and the order of the peer's.

use std::time::Duration;

use super::{Answer, Cx};
use crate::grammar;
use crate::headers::{Headers, name};
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::timer::{SessionTimer, T1, TRANSACTION_TIMEOUT};
use crate::transaction::ServerId;

/// The extension's option tag.
const TAG: &str = "100rel";

/// Which response a PRACK acknowledges: an RAck value (section 7.2) whose method is INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RAck {
    rseq: u32,
    cseq: u32,
}

impl RAck {
    fn read(headers: &Headers) -> Option<Self> {
        let mut words = headers.get(name::RACK)?.split_ascii_whitespace();
        let mut number = || grammar::number(words.next()?, u32::MAX);
        let (rseq, cseq) = (number()?, number()?);
        (words.next() == Some(Method::Invite.as_str()) && words.next().is_none())
            .then_some(Self { rseq, cseq })
    }
}

/// Takes a PRACK: `false` where it acknowledges nothing that waits for it (section 3).
pub(super) fn acknowledge(leg: &mut Leg, prack: &Request) -> bool {
    let awaited = leg.awaited.is_some() && RAck::read(&prack.headers) == leg.awaited;
    if awaited {
        leg.awaited = None;
    }
    awaited
}

/// The peer's reliable provisional responses in one early dialog (section 4).
#[derive(Default)]
pub(super) struct Received {
    last: Option<u32>,
}

impl Received {
    /// Takes a reliable response's number: `false` where the response is a repetition, or came before one that it
    /// follows. Neither is acknowledged, nor processed: the peer repeats what was not.
    pub(super) fn is_next(&mut self, rseq: u32) -> bool {
        let next = self.last.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if next {
            self.last = Some(rseq);
        }
        next
    }
}

/// The number of a response that is to be acknowledged.
pub(super) fn rseq(response: &Response) -> Option<u32> {
    let rseq = response.headers.number(name::RSEQ).ok().flatten().filter(|rseq| *rseq > 0)?;
    has_tag(&response.headers, name::REQUIRE).then_some(rseq)
}

/// The PRACK for a response of that number to `invite`.
pub(super) fn prack(leg: &mut Leg, rseq: u32, invite: &Request) -> Request {
    let mut prack = leg.dialog.request(Method::Prack);
    prack.headers.push(name::RACK, format!("{rseq} {} {}", invite.cseq, Method::Invite));
    prack
}

/// What the caller wants of our provisional responses (section 3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reliability {
    /// It does not know the extension.
    Never,
    /// What carries a session description is reliable: the answer must arrive.
    Descriptions,
    Always,
}

impl Reliability {
    pub(super) fn of(invite: &Request) -> Self {
        if has_tag(&invite.headers, name::REQUIRE) {
            Self::Always
        } else if has_tag(&invite.headers, name::SUPPORTED) {
            Self::Descriptions
        } else {
            Self::Never
        }
    }
}

/// Our reliable provisional responses to one INVITE: one at a time is under way.
pub(super) struct Sending {
    wanted: Reliability,
    last: Option<u32>,
    unacknowledged: Option<Unacknowledged>,
    /// What comes after the one that is under way.
    next: Option<(StatusCode, Option<Vec<u8>>)>,
}

struct Unacknowledged {
    /// As sent; `None` where its transaction was gone.
    sent: Option<Answer>,
    interval: Duration,
    describes: bool,
}

impl Sending {
    pub(super) fn new(invite: &Request) -> Self {
        Self { wanted: Reliability::of(invite), last: None, unacknowledged: None, next: None }
    }

    /// Whether a response has to be reliable.
    pub(super) fn is_wanted(&self, describes: bool) -> bool {
        match self.wanted {
            Reliability::Never => false,
            Reliability::Descriptions => describes,
            Reliability::Always => true,
        }
    }

    /// Keeps a response back while another is under way: then `None`.
    pub(super) fn turn(
        &mut self,
        status: StatusCode,
        sdp: Option<Vec<u8>>,
    ) -> Option<(StatusCode, Option<Vec<u8>>)> {
        if self.unacknowledged.is_none() {
            return Some((status, sdp));
        }
        // A description that waits already is not lost by what comes behind it.
        let waiting = self.next.take().and_then(|(_, sdp)| sdp);
        self.next = Some((status, sdp.or(waiting)));
        None
    }

    /// Sends a response, whose turn it is, until its PRACK comes.
    pub(super) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        leg: &mut Leg,
        server: ServerId,
        invite: &Request,
        mut response: Response,
    ) {
        let rseq = self.last.map_or_else(|| cx.core.random.rseq(), |last| last.saturating_add(1));
        self.last = Some(rseq);
        response.headers.push(name::REQUIRE, TAG);
        response.headers.push(name::RSEQ, rseq.to_string());
        leg.awaited = Some(RAck { rseq, cseq: invite.cseq });
        let describes = !response.body.is_empty();
        let sent = cx.respond(server, response);
        cx.set(SessionTimer::Retransmit, T1);
        cx.set(SessionTimer::Acknowledge, TRANSACTION_TIMEOUT);
        self.unacknowledged = Some(Unacknowledged { sent, interval: T1, describes });
    }

    pub(super) fn retransmit(&mut self, cx: &mut Cx<'_>) {
        let Some(Unacknowledged { sent, interval, .. }) = &mut self.unacknowledged else { return };
        if let Some(sent) = sent {
            cx.repeat(sent);
        }
        *interval *= 2;
        cx.set(SessionTimer::Retransmit, *interval);
    }

    /// The PRACK came: what is to be sent next.
    pub(super) fn acknowledged(&mut self, cx: &mut Cx<'_>) -> Option<(StatusCode, Option<Vec<u8>>)> {
        self.stop(cx);
        cx.stop(SessionTimer::Acknowledge);
        self.next.take()
    }

    /// No 2xx may be sent now: a description has not been acknowledged.
    pub(super) fn holds_back_2xx(&self) -> bool {
        self.unacknowledged.as_ref().is_some_and(|unacknowledged| unacknowledged.describes)
    }

    /// The final response ends repetitions; a PRACK that is under way is awaited as long as before.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Retransmit);
        self.unacknowledged = None;
    }
}

fn has_tag(headers: &Headers, field: &str) -> bool {
    headers.tokens(field).iter().any(|tag| tag.eq_ignore_ascii_case(TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rack_names_an_invite() {
        let read = |value: &str| {
            let mut headers = Headers::default();
            headers.push(name::RACK, value);
            RAck::read(&headers)
        };
        assert_eq!(read("776656  1 INVITE"), Some(RAck { rseq: 776_656, cseq: 1 }));
        for bad in [
            "",
            "1",
            "1 2",
            "1 2 UPDATE",
            "1 2 invite",
            "1 2 INVITE x",
            "-1 2 INVITE",
            "+1 2 INVITE",
            "4294967296 1 INVITE",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_written_rack_reads_back(rseq: u32, cseq in 0..1_u32 << 31, white in "[ \\t]{1,3}") {
            let mut headers = Headers::default();
            headers.push(name::RACK, format!("{rseq}{white}{cseq}{white}INVITE"));
            proptest::prop_assert_eq!(RAck::read(&headers), Some(RAck { rseq, cseq }));
        }

        #[test]
        fn any_text_is_a_rack_or_not(text in "[0-9+ -]{0,14}(INVITE|PRACK)?.{0,3}") {
            let mut headers = Headers::default();
            headers.push(name::RACK, text);
            if let Some(RAck { rseq, cseq }) = RAck::read(&headers) {
                let words: Vec<_> = headers.get(name::RACK).unwrap().split_ascii_whitespace().collect();
                let digits = |word: &str| word.trim_start_matches('0').to_owned();
                proptest::prop_assert_eq!(digits(words[0]), digits(&rseq.to_string()));
                proptest::prop_assert_eq!(digits(words[1]), digits(&cseq.to_string()));
                proptest::prop_assert_eq!(&words[2..], ["INVITE"]);
            }
        }
    }

    #[test]
    fn only_the_next_number_is_next() {
        let mut received = Received::default();
        assert!(received.is_next(9));
        assert!(!received.is_next(9), "repeated");
        assert!(!received.is_next(11), "one is missing");
        assert!(received.is_next(10));
        assert!(!received.is_next(8));
        let mut last = Received::default();
        assert!(last.is_next(u32::MAX));
        assert!(!last.is_next(0) && !last.is_next(1));
    }
}
