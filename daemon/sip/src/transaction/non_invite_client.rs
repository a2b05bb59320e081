//! The non-INVITE client transaction (RFC 3261 section 17.1.2).

use std::time::Duration;

use super::{Deliver, Expiry, Io};
use crate::message::Response;
use crate::timer::{ClientTimer, T1, T2, T4, TRANSACTION_TIMEOUT};

pub(super) enum NonInviteClient {
    /// No response yet; as a datagram, the request is repeated at intervals that grow to T2.
    Trying { interval: Duration },
    /// A provisional response came; as a datagram, the request is repeated each T2.
    Proceeding,
    /// The final response came; its repetitions are swallowed.
    Completed,
}

impl NonInviteClient {
    pub(super) fn start(io: &mut Io<'_>) -> Self {
        if !io.is_reliable() {
            io.set_client(ClientTimer::E, T1);
        }
        io.set_client(ClientTimer::F, TRANSACTION_TIMEOUT);
        Self::Trying { interval: T1 }
    }

    pub(super) fn response(&mut self, io: &mut Io<'_>, response: &Response) -> Deliver {
        match self {
            Self::Completed => return Deliver::No,
            // Timer E runs on: only its next interval is T2 (section 17.1.2.2).
            _ if response.status.is_provisional() => *self = Self::Proceeding,
            _ => {
                io.stop_client(ClientTimer::E);
                io.stop_client(ClientTimer::F);
                io.set_client(ClientTimer::K, io.against_repetitions(T4));
                *self = Self::Completed;
            }
        }
        Deliver::Yes
    }

    pub(super) fn timer(&mut self, io: &mut Io<'_>, timer: ClientTimer, bytes: &[u8]) -> Expiry {
        match (self, timer) {
            (Self::Trying { interval }, ClientTimer::E) => {
                io.transmit(bytes.to_vec());
                *interval = T2.min(*interval * 2);
                io.set_client(ClientTimer::E, *interval);
                Expiry::GoesOn
            }
            (Self::Proceeding, ClientTimer::E) => {
                io.transmit(bytes.to_vec());
                io.set_client(ClientTimer::E, T2);
                Expiry::GoesOn
            }
            (Self::Trying { .. } | Self::Proceeding, ClientTimer::F) => Expiry::TimedOut,
            (Self::Completed, ClientTimer::K) => Expiry::Over,
            _ => Expiry::GoesOn,
        }
    }

    /// No response has come yet.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Trying { .. })
    }

    /// A final response is still to come.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Trying { .. } | Self::Proceeding)
    }
}
