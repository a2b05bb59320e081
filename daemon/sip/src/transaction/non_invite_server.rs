//! The non-INVITE server transaction (RFC 3261 section 17.2.2).
//!
//! Provisional responses to non-INVITE requests are never sent (RFC 4320 section 4.1), so there is no Proceeding.

use super::{Expiry, Io};
use crate::timer::{ServerTimer, TRANSACTION_TIMEOUT};

pub(super) enum NonInviteServer {
    /// Not answered yet: repetitions are swallowed.
    Trying,
    /// Answered: repetitions get the same answer.
    Completed { response: Vec<u8> },
}

impl NonInviteServer {
    pub(super) fn repeated(&self, io: &mut Io<'_>) {
        if let Self::Completed { response } = self {
            io.transmit(response.clone());
        }
    }

    pub(super) fn respond(&mut self, io: &mut Io<'_>, bytes: Vec<u8>) {
        if matches!(self, Self::Trying) {
            io.transmit(bytes.clone());
            io.set_server(ServerTimer::J, io.against_repetitions(TRANSACTION_TIMEOUT));
            *self = Self::Completed { response: bytes };
        }
    }

    pub(super) fn timer(&self, timer: ServerTimer) -> Expiry {
        match (self, timer) {
            (Self::Completed { .. }, ServerTimer::J) => Expiry::Over,
            _ => Expiry::GoesOn,
        }
    }
}
