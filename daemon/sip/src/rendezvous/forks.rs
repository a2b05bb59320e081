//! Response contexts (RFC 3261 section 16.7): what a request has become that was passed on, to one place or to several,
//! and which answer goes back.

use std::collections::BTreeMap;

use crate::message::{Method, Request, Response, StatusCode};
use crate::transaction::{ClientId, ServerId};

/// Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ContextId(pub(super) u64);

/// One place that a request was passed on to.
#[derive(Debug)]
pub(super) struct Fork {
    /// The dialog that its Record-Route names.
    pub(super) token: Option<String>,
    pub(super) progress: Progress,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has come back.
    Silent,
    /// Nothing has come back, and CANCEL goes out as soon as something does (RFC 3261 section 9.1), with this Reason.
    Unwanted(Option<String>),
    /// A provisional response came.
    Ringing,
    /// CANCEL is sent.
    Cancelled,
    /// It has its final response.
    Ended,
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) server: ServerId,
    /// As it came, with what is noted in its Via.
    pub(super) request: Request,
    /// Whose limits it counts for.
    pub(super) caller: Option<String>,
    /// Whom it is for, outside of a dialog.
    pub(super) callee: Option<String>,
    pub(super) forks: BTreeMap<ClientId, Fork>,
    /// The best final response that is not sent yet.
    best: Option<Response>,
    /// A final response is sent.
    pub(super) answered: bool,
    /// The dialog that it belongs to.
    pub(super) dialog: Option<String>,
}

impl Context {
    pub(super) fn new(
        server: ServerId,
        request: Request,
        members: Option<(String, String)>,
        dialog: Option<String>,
    ) -> Self {
        let (caller, callee) = members.unzip();
        Self { server, request, caller, callee, forks: BTreeMap::new(), best: None, answered: false, dialog }
    }

    pub(super) fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    /// Keeps a final response other than 2xx, unless there is a better one (RFC 3261 section 16.7 step 6).
    pub(super) fn consider(&mut self, response: Response) {
        if self.best.as_ref().is_none_or(|best| rank(response.status) < rank(best.status)) {
            self.best = Some(response);
        }
    }

    /// What goes back when nothing better can come any more.
    pub(super) fn take_best(&mut self) -> Option<Response> {
        self.best.take()
    }

    /// No fork waits for its final response.
    pub(super) fn is_decided(&self) -> bool {
        self.forks.values().all(|fork| fork.progress == Progress::Ended)
    }

    /// Whether it says that nobody anywhere will answer (RFC 3261 section 16.7 step 5).
    pub(super) fn is_hopeless(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.status.get() >= 600)
    }
}

/// The lower, the better: 6xx first, then the lowest class; in it, what tells the caller how to do better.
fn rank(status: StatusCode) -> (u16, bool) {
    let class = status.get() / 100;
    let helps = matches!(status.get(), 401 | 407 | 415 | 420 | 484);
    (if class == 6 { 0 } else { class }, !helps)
}

#[cfg(test)]
mod tests {
    use super::rank;
    use crate::message::StatusCode;

    fn better(one: u16, two: u16) -> bool {
        rank(StatusCode::new(one).unwrap()) < rank(StatusCode::new(two).unwrap())
    }

    #[test]
    fn rfc3261_16_7_6_the_best_response_is_a_6xx_or_of_the_lowest_class() {
        assert!(better(603, 302) && better(603, 404) && better(302, 486) && better(486, 500));
        assert!(better(415, 404) && better(407, 486) && !better(404, 415));
        assert!(!better(404, 486) && !better(486, 404), "the first of a class stays");
    }
}
