//! Sessions whose connection with a server is lost: their peers are told as soon as there is another (RFC 5626 section
//! 4.3), since what servers on the way have noted of us leads to the lost one.

use super::{Session, State};
use crate::account::Account;
use crate::endpoint::{Flow, TransportError};
use crate::registration::RegId;

/// What a session waits for whose connection is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutOff {
    /// The bindings that were lost with it, to be made anew: a proxy that restarts takes nothing before.
    Bindings(Vec<RegId>),
    /// Nothing: no binding was made on it, and the next request makes another.
    Request,
}

impl CutOff {
    /// What the loss of a connection with an account's server means; `bound`: the bindings that it carried.
    /// One that never came about is no loss.
    pub(crate) fn of(bound: Vec<RegId>, error: TransportError) -> Option<Self> {
        match (bound.is_empty(), error) {
            (false, _) => Some(Self::Bindings(bound)),
            (true, TransportError::Closed) => Some(Self::Request),
            (true, _) => None,
        }
    }

    fn is_over(&self, account: &Account) -> bool {
        match self {
            Self::Bindings(lost) => lost.iter().any(|reg_id| account.flow_of(*reg_id).is_some()),
            Self::Request => true,
        }
    }
}

impl Session {
    /// A connection with a server of the session's account is lost.
    pub(crate) fn on_cut_off(&mut self, flow: Flow, cut_off: &CutOff) {
        let travels = |known: &Flow| known.far_end() == flow.far_end();
        if matches!(self.state, State::Active(_)) && self.flows().iter().any(travels) {
            self.cut_off.get_or_insert_with(|| cut_off.clone());
        }
    }

    /// Whether there is a connection again in place of the one that was lost: told once.
    pub(crate) fn is_reconnected(&mut self, account: &Account) -> bool {
        let over = self.cut_off.as_ref().is_some_and(|cut_off| cut_off.is_over(account));
        if over {
            self.cut_off = None;
        }
        over && matches!(self.state, State::Active(_))
    }
}
