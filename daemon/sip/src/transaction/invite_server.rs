//! The INVITE server transaction (RFC 3261 section 17.2.1, RFC 6026 section 8.5).

use std::time::Duration;

use super::{Expiry, Io};
use crate::message::StatusCode;
use crate::timer::{ServerTimer, T1, T2, T4, TRANSACTION_TIMEOUT};

/// How long the user may think before a 100 goes out (RFC 3261 section 17.2.1).
const TRYING_AFTER: Duration = Duration::from_millis(200);

pub(super) enum InviteServer {
    /// The user has not decided; `last` is what a repeated INVITE gets.
    Proceeding { trying: Vec<u8>, last: Option<Vec<u8>> },
    /// A final response other than 2xx is sent; as a datagram, it is repeated until its ACK.
    Completed { response: Vec<u8>, interval: Duration },
    /// The ACK came; its repetitions are swallowed.
    Confirmed,
    /// A 2xx is sent: the session repeats it and takes its ACK; repeated INVITEs are swallowed.
    Accepted,
}

impl InviteServer {
    /// `trying`: the 100 that is sent when the user takes longer than 200 ms.
    pub(super) fn start(io: &mut Io<'_>, trying: Vec<u8>) -> Self {
        io.set_server(ServerTimer::Trying, TRYING_AFTER);
        Self::Proceeding { trying, last: None }
    }

    pub(super) fn repeated(&self, io: &mut Io<'_>) {
        match self {
            Self::Proceeding { last: Some(bytes), .. } | Self::Completed { response: bytes, .. } => {
                io.transmit(bytes.clone());
            }
            Self::Proceeding { last: None, .. } | Self::Confirmed | Self::Accepted => {}
        }
    }

    pub(super) fn respond(&mut self, io: &mut Io<'_>, status: StatusCode, bytes: Vec<u8>) {
        let Self::Proceeding { last, .. } = self else { return };
        io.stop_server(ServerTimer::Trying);
        io.transmit(bytes.clone());
        if status.is_provisional() {
            *last = Some(bytes);
        } else if status.is_success() {
            io.set_server(ServerTimer::L, TRANSACTION_TIMEOUT);
            *self = Self::Accepted;
        } else {
            if !io.is_reliable() {
                io.set_server(ServerTimer::G, T1);
            }
            io.set_server(ServerTimer::H, TRANSACTION_TIMEOUT);
            *self = Self::Completed { response: bytes, interval: T1 };
        }
    }

    pub(super) fn ack(&mut self, io: &mut Io<'_>) {
        if matches!(self, Self::Completed { .. }) {
            io.stop_server(ServerTimer::G);
            io.stop_server(ServerTimer::H);
            io.set_server(ServerTimer::I, io.against_repetitions(T4));
            *self = Self::Confirmed;
        }
    }

    pub(super) fn timer(&mut self, io: &mut Io<'_>, timer: ServerTimer) -> Expiry {
        match (self, timer) {
            (Self::Proceeding { trying, last }, ServerTimer::Trying) => {
                io.transmit(trying.clone());
                *last = Some(std::mem::take(trying));
                Expiry::GoesOn
            }
            (Self::Completed { response, interval }, ServerTimer::G) => {
                io.transmit(response.clone());
                *interval = T2.min(*interval * 2);
                io.set_server(ServerTimer::G, *interval);
                Expiry::GoesOn
            }
            (Self::Completed { .. }, ServerTimer::H)
            | (Self::Confirmed, ServerTimer::I)
            | (Self::Accepted, ServerTimer::L) => Expiry::Over,
            _ => Expiry::GoesOn,
        }
    }

    /// Nobody has refused it.
    pub(super) fn is_ongoing(&self) -> bool {
        matches!(self, Self::Proceeding { .. } | Self::Accepted)
    }

    /// A final response is sent.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Proceeding { .. })
    }

    /// Something is still to be sent.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Proceeding { .. } | Self::Completed { .. })
    }
}
