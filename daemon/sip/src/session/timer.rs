//! Session timers (RFC 4028): how long a session lives without a refresh, who refreshes it, and when it is given up.

use std::time::{Duration, Instant};

use super::Cx;
use super::offers::Party;
use crate::headers::{Headers, name};
use crate::message::{Request, Response, StatusCode};
use crate::timer::{SessionTimer, TRANSACTION_TIMEOUT};

/// The extension's option tag.
pub(crate) const TAG: &str = "timer";
/// The shortest interval that anyone may ask for, in seconds (section 4).
const SHORTEST: u32 = 90;
/// How often a 422 is obeyed: each has to name a longer interval than the last.
const MOST_RAISES: u8 = 4;

/// A session's timer.
pub(super) struct Clock {
    /// The largest Min-SE that a 422 has named, in seconds.
    floor: u32,
    raises: u8,
    running: Option<Running>,
}

/// As the last 2xx to an INVITE or UPDATE has it.
#[derive(Clone, Copy)]
struct Running {
    /// In seconds.
    interval: u32,
    refresher: Party,
    /// When the session is given up.
    ends: Instant,
}

/// A Session-Expires value (section 4).
struct SessionExpires {
    seconds: u32,
    /// `true` for the user agent client of the transaction.
    by_client: Option<bool>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { floor: SHORTEST, raises: 0, running: None }
    }

    /// Writes into an INVITE or UPDATE of ours what we want (sections 7.1 and 7.4).
    pub(super) fn ask(&self, cx: &Cx<'_>, request: &mut Request) {
        let Some(wanted) = cx.core.config.session_expires else { return };
        request.headers.remove(name::SESSION_EXPIRES);
        request.headers.remove(name::MIN_SE);
        let value = match self.running {
            Some(Running { interval, refresher, .. }) => {
                let refresher = if refresher == Party::Us { "uac" } else { "uas" };
                format!("{};refresher={refresher}", interval.max(self.floor))
            }
            None => wanted.max(self.floor).to_string(),
        };
        request.headers.push(name::SESSION_EXPIRES, value);
        if self.floor > SHORTEST {
            request.headers.push(name::MIN_SE, self.floor.to_string());
        }
    }

    /// Takes a 422: `true` where the request is to be sent again, with what [`Clock::ask`] says now (section 7.3).
    pub(super) fn raise(&mut self, request: &Request, response: &Response) -> bool {
        let asked = SessionExpires::read(&request.headers).map_or(0, |asked| asked.seconds);
        let Some(floor) = response.headers.number(name::MIN_SE).ok().flatten() else { return false };
        if floor <= asked || self.raises >= MOST_RAISES {
            return false;
        }
        (self.floor, self.raises) = (floor, self.raises + 1);
        true
    }

    /// Takes a 2xx to an INVITE or UPDATE of ours (section 7.2).
    pub(super) fn agreed(&mut self, cx: &mut Cx<'_>, response: &Response) {
        let agreed = SessionExpires::read(&response.headers);
        match agreed.filter(|agreed| agreed.seconds >= SHORTEST && cx.core.config.session_expires.is_some()) {
            Some(SessionExpires { seconds, by_client }) => {
                let refresher = if by_client.unwrap_or(true) { Party::Us } else { Party::Peer };
                self.start(cx, seconds, refresher);
            }
            None => self.stop(cx),
        }
    }

    /// Writes into our 2xx to an INVITE or UPDATE what is agreed (section 9, table 2).
    pub(super) fn answer(&mut self, cx: &mut Cx<'_>, request: &Request, response: &mut Response) {
        let Some(wanted) = cx.core.config.session_expires else { return };
        let supported = supports(request);
        let asked = SessionExpires::read(&request.headers).filter(|asked| asked.seconds >= SHORTEST);
        let floor = request.headers.number(name::MIN_SE).ok().flatten().unwrap_or(SHORTEST).max(SHORTEST);
        let agreed = match (asked, self.running) {
            (Some(SessionExpires { seconds, .. }), _) if !supported => Some((seconds, Party::Us)),
            (Some(SessionExpires { seconds, by_client: Some(true) }), _) => Some((seconds, Party::Peer)),
            (Some(SessionExpires { seconds, by_client: Some(false) }), _) => Some((seconds, Party::Us)),
            // Who asked for a timer keeps it up, unless somebody does already.
            (Some(SessionExpires { seconds, .. }), running) => {
                Some((seconds, running.map_or(Party::Peer, |running| running.refresher)))
            }
            (None, Some(running)) if supported || running.refresher == Party::Us => {
                Some((running.interval.max(floor), running.refresher))
            }
            (None, None) if supported => Some((wanted.max(floor), Party::Us)),
            (None, _) => None,
        };
        let Some((seconds, refresher)) = agreed else { return self.stop(cx) };
        let word = if refresher == Party::Us { "uas" } else { "uac" };
        response.headers.push(name::SESSION_EXPIRES, format!("{seconds};refresher={word}"));
        if supported {
            response.headers.push(name::REQUIRE, TAG);
        }
        self.start(cx, seconds, refresher);
    }

    /// Sections 10: BYE shortly before the interval is over, a refresh of ours when half of it is.
    fn start(&mut self, cx: &mut Cx<'_>, interval: u32, refresher: Party) {
        let margin = (interval / 3).min(32);
        let life = Duration::from_secs(interval.saturating_sub(margin).into());
        cx.set(SessionTimer::Expiry, life);
        match refresher {
            Party::Us => cx.set(SessionTimer::Refresh, Duration::from_secs((interval / 2).into())),
            Party::Peer => cx.stop(SessionTimer::Refresh),
        }
        self.running = Some(Running { interval, refresher, ends: cx.now + life });
    }

    /// The session lives without refreshes, or not any more.
    pub(super) fn stop(&mut self, cx: &mut Cx<'_>) {
        cx.stop(SessionTimer::Expiry);
        cx.stop(SessionTimer::Refresh);
        self.running = None;
    }

    /// A refresh that was sent, or could not be, may fail: another is due when half of what is left is over.
    pub(super) fn refresh_again(&self, cx: &mut Cx<'_>) {
        let Some(running) = self.running else { return };
        let half = running.ends.saturating_duration_since(cx.now) / 2;
        if half >= TRANSACTION_TIMEOUT {
            cx.set(SessionTimer::Refresh, half);
        }
    }
}

/// The 422 to an INVITE or UPDATE whose interval is too short (section 9). A peer without the extension would not
/// understand it: what a proxy has written for it is passed over.
pub(super) fn refusal(cx: &mut Cx<'_>, request: &Request) -> Option<Response> {
    cx.core.config.session_expires?;
    let asked = SessionExpires::read(&request.headers)?;
    if asked.seconds >= SHORTEST || !supports(request) {
        return None;
    }
    let mut response = cx.core.response(request, StatusCode::SESSION_INTERVAL_TOO_SMALL);
    response.headers.push(name::MIN_SE, SHORTEST.to_string());
    Some(response)
}

impl SessionExpires {
    /// What cannot be read is not there.
    fn read(headers: &Headers) -> Option<Self> {
        let seconds = headers.number(name::SESSION_EXPIRES).ok().flatten()?;
        let mut params = headers.get(name::SESSION_EXPIRES)?.split(';').skip(1);
        let by_client = params.find_map(|param| {
            let (key, value) = param.split_once('=')?;
            match value.trim().to_ascii_lowercase().as_str() {
                _ if !key.trim().eq_ignore_ascii_case("refresher") => None,
                "uac" => Some(true),
                "uas" => Some(false),
                _ => None,
            }
        });
        Some(Self { seconds, by_client })
    }
}

fn supports(request: &Request) -> bool {
    [name::SUPPORTED, name::REQUIRE]
        .iter()
        .any(|field| request.headers.tokens(field).iter().any(|tag| tag.eq_ignore_ascii_case(TAG)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_expires_is_read_with_its_refresher() {
        let read = |value: &str| {
            let mut headers = Headers::default();
            headers.push("x", value);
            SessionExpires::read(&headers).map(|read| (read.seconds, read.by_client))
        };
        assert_eq!(read("1800"), Some((1800, None)));
        assert_eq!(read("90;refresher=uac"), Some((90, Some(true))));
        assert_eq!(read("4000 ; a=b ; Refresher = UAS"), Some((4000, Some(false))));
        assert_eq!(read("90;refresher=nobody"), Some((90, None)));
        for bad in ["", "soon", "-1", "4294967296"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_written_interval_reads_back(
            seconds: u32,
            refresher in proptest::option::of(proptest::bool::ANY),
            other in "(;[a-q]{1,5}(=[a-z0-9]{1,4})?){0,2}",
        ) {
            let word = refresher.map(|by_client| if by_client { ";refresher=uac" } else { ";refresher=uas" });
            let mut headers = Headers::default();
            headers.push(name::SESSION_EXPIRES, format!("{seconds}{other}{}", word.unwrap_or_default()));
            let read = SessionExpires::read(&headers).map(|read| (read.seconds, read.by_client));
            proptest::prop_assert_eq!(read, Some((seconds, refresher)));
        }

        #[test]
        fn any_text_is_an_interval_or_not(text in "[0-9 ;=+-]{0,8}(refresher=)?.{0,8}") {
            let mut headers = Headers::default();
            headers.push(name::SESSION_EXPIRES, text);
            _ = SessionExpires::read(&headers);
        }
    }
}
