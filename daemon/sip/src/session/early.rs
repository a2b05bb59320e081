//! Early dialogs of an outbound session (RFC 3261 section 12): what each callee has answered so far, and offered since.

use super::offers::{Offers, Party, Role, Verdict};
use super::reliable::{self, Received};
use super::{Cx, Purpose, common, sdp, update};
use crate::dialog::{Dialog, DialogId};
use crate::leg::Leg;
use crate::message::{Method, Request, Response, StatusCode};
use crate::transaction::{Report, ServerId};

pub(super) struct Early {
    pub(super) leg: Leg,
    pub(super) offers: Offers,
    received: Received,
    /// The callee's last session description.
    sdp: Option<Vec<u8>>,
}

/// What a provisional response brings.
pub(super) enum News {
    /// It is not to be processed: a repetition, or one that came too early.
    None,
    /// An answer to the INVITE's offer, or no description.
    Progress(Option<Vec<u8>>),
}

impl Early {
    pub(super) fn new(leg: Leg) -> Self {
        let offers = Offers::begun(Role::Caller, Party::Us);
        Self { leg, offers, received: Received::default(), sdp: None }
    }

    pub(super) fn is(&self, tag: &str) -> bool {
        self.leg.dialog.id.remote_tag == tag
    }

    /// Takes a provisional response above 100, and acknowledges it where it is a reliable one.
    pub(super) fn on_provisional(&mut self, cx: &mut Cx<'_>, invite: &Request, response: &Response) -> News {
        let rseq = reliable::rseq(response);
        if rseq.is_some_and(|rseq| !self.received.is_next(rseq)) {
            return News::None;
        }
        // What cannot be read leaves the dialog as it was: the 2xx decides.
        _ = self.leg.dialog.refresh_target(&response.headers);
        if let Some(rseq) = rseq {
            let prack = reliable::prack(&mut self.leg, rseq, invite);
            cx.send(&mut self.leg, prack, Purpose::Prack);
        }
        // The first description that must arrive is the answer, and no other is (RFC 3261 section 13.2.1).
        let answer = sdp(&response.headers, &response.body).filter(|_| self.offers.unanswered().is_some());
        if answer.is_some() {
            self.sdp.clone_from(&answer);
            if rseq.is_some() {
                self.offers.answered();
            }
        }
        News::Progress(answer)
    }

    /// A request of the callee. `heard`: the answer in this dialog is the one that the user knows; what belongs to
    /// another must not change what is said there.
    pub(super) fn on_request(&mut self, cx: &mut Cx<'_>, server: ServerId, request: Request, heard: bool) {
        let Some(request) = common(cx, &mut self.leg, server, request) else { return };
        match request.method {
            Method::Update => {
                let offer = sdp(&request.headers, &request.body);
                if offer.is_some() && self.offers.is_stable() {
                    if !heard {
                        return cx.refuse(server, &request, StatusCode::NOT_ACCEPTABLE_HERE);
                    }
                    self.sdp = offer;
                }
                update::receive(cx, &mut self.leg, &mut self.offers, None, server, request);
            }
            // Our INVITE is still under way (RFC 3261 section 14.2).
            Method::Invite => cx.refuse(server, &request, StatusCode::REQUEST_PENDING),
            // The callee cannot end what it has not answered (RFC 3261 section 15), nor does it get provisional
            // responses to acknowledge.
            _ => cx.refuse(server, &request, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        }
    }

    /// How a PRACK or an UPDATE of ours ended. What becomes of the dialog, the INVITE decides.
    pub(super) fn on_report(&mut self, cx: &mut Cx<'_>, report: &Report, purpose: Purpose) {
        if purpose == Purpose::Update && self.offers.is_ours(report) {
            match self.offers.on_report(cx, &mut self.leg, report) {
                Verdict::GoesOn => {}
                Verdict::Lost(_) => self.offers.refused(cx, StatusCode::REQUEST_TIMEOUT),
                Verdict::Gone => {
                    self.offers.refused(cx, StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
                }
            }
        } else if purpose == Purpose::Prack {
            cx.answer_if_challenged(&mut self.leg, report, purpose);
        }
    }

    /// What a 2xx in this dialog answers to the INVITE's offer. `heard` as above.
    pub(super) fn answer(&mut self, response: &Response, heard: bool) -> Option<Vec<u8>> {
        let known = self.sdp.take().filter(|_| !heard);
        if self.offers.unanswered().is_none() {
            return known;
        }
        self.offers.answered();
        sdp(&response.headers, &response.body).or(known)
    }

    /// The callee's last session description.
    pub(super) fn description(&self) -> Option<Vec<u8>> {
        self.sdp.clone()
    }

    pub(super) fn id(&self) -> &DialogId {
        &self.leg.dialog.id
    }

    pub(super) fn dialog(&self) -> &Dialog {
        &self.leg.dialog
    }
}
