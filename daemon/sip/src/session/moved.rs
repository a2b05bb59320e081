//! Sessions whose network changes: dialogs go on from where their peers are reached now, calls that are being placed are
//! placed again.

use std::net::IpAddr;

use super::inviting::Offering;
use super::outbound::{Calling, Cancelling};
use super::{Cx, Purpose, Session, State};
use crate::endpoint::{Event, Flow, Transport};
use crate::faces::{Face, Faces};
use crate::leg::Leg;

impl Session {
    /// What its dialogs and its INVITE travel on.
    pub(crate) fn flows(&self) -> Vec<Flow> {
        let offering = match &self.state {
            State::Offering(offering) => offering.flows.as_slice(),
            _ => &[],
        };
        self.legs().flat_map(Leg::flows).chain(offering.iter().copied()).collect()
    }

    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        let offering = match &self.state {
            State::Offering(offering) => offering.flows.first().copied(),
            _ => None,
        };
        offering.or_else(|| self.legs().next().map(Leg::contact_flow)).map(|flow| flow.local.ip())
    }

    pub(crate) fn wants_offer(&self) -> bool {
        matches!(self.state, State::Offering(_))
    }

    /// The network has changed; `true` where the peer must be told where we are.
    pub(crate) fn on_network(&mut self, cx: &mut Cx<'_>, faces: &Faces) -> bool {
        let mut moved = false;
        self.note_early_cseq();
        for fork in &mut self.forks {
            fork.relocate(faces);
        }
        self.state = match self.take() {
            State::Offering(mut offering) => {
                offering.relocate(cx, faces);
                State::Offering(offering)
            }
            State::Calling(calling) => calling.on_network(cx, faces, &mut moved),
            State::Cancelling(cancelling) => State::Cancelling(cancelling.on_network(cx, faces)),
            State::Alerting(mut alerting) => {
                moved = alerting.leg.relocate(faces);
                State::Alerting(alerting)
            }
            State::Active(mut active) => {
                // After a sleep its connection is a new one, and servers on the way may know us by the old one alone.
                let reconnects = faces.recheck && active.leg.contact_flow().transport != Transport::Udp;
                moved = active.leg.relocate(faces) || reconnects;
                State::Active(active)
            }
            State::Unacknowledged(mut active, why) => {
                active.leg.relocate(faces);
                State::Unacknowledged(active, why)
            }
            State::Over(Some(mut leg)) => {
                leg.relocate(faces);
                // The peer must hear of the end all the same.
                if cx.core.transactions.has_stranded(cx.sender.session, Purpose::Bye, faces) {
                    cx.bye(&mut leg, Purpose::Bye, None);
                }
                State::Over(Some(leg))
            }
            state => state,
        };
        moved
    }
}

impl Offering {
    /// The offer that is waited for was asked for another network.
    fn relocate(&mut self, cx: &mut Cx<'_>, faces: &Faces) {
        let before = self.flows.first().copied();
        for flow in &mut self.flows {
            *flow = faces.moved(*flow).unwrap_or(*flow);
        }
        if self.flows.iter().any(|flow| faces.of(*flow) != Face::Nowhere) {
            self.flows.retain(|flow| faces.of(*flow) != Face::Nowhere);
        }
        if let Some(&flow) = self.flows.first()
            && before != Some(flow)
        {
            cx.event(|session| Event::OfferWanted { session, flow });
        }
    }
}

impl Calling {
    /// An INVITE whose answer cannot come any more is taken back, and goes out anew: to the same target, with the same
    /// Call-ID, From and To. While its answer can still come, only the early dialogs move.
    fn on_network(mut self, cx: &mut Cx<'_>, faces: &Faces, moved: &mut bool) -> State {
        if !self.attempts.are_stranded(cx, faces) {
            for early in self.early_mut() {
                *moved |= early.leg.relocate(faces);
            }
            return State::Calling(self);
        }
        // Where there is nowhere to go yet, it waits.
        let Some(sent) = self.attempts.take_back(cx, faces) else { return State::Calling(self) };
        self.place_again(cx, &sent)
    }
}

impl Cancelling {
    /// The CANCEL may not have arrived.
    fn on_network(mut self, cx: &mut Cx<'_>, faces: &Faces) -> Self {
        let stranded = cx.core.transactions.is_stranded(self.client, faces);
        cx.core.transactions.relocate(self.client, faces);
        if stranded && !cx.core.transactions.is_stranded(self.client, faces) {
            self.repeat_cancel(cx);
        }
        self
    }
}
