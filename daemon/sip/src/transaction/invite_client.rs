//! The INVITE client transaction (RFC 3261 section 17.1.1, RFC 6026 section 8.4).

use std::time::Duration;

use super::{Deliver, Expiry, Io};
use crate::message::{Message, Method, Request, Response};
use crate::timer::{ClientTimer, T1, TRANSACTION_TIMEOUT};
use crate::wire;

pub(super) enum InviteClient {
    /// No response yet; as a datagram, the INVITE is repeated at growing intervals.
    Calling { interval: Duration },
    /// A provisional response came. Timer B runs only where the INVITE is being cancelled (RFC 3261 section 9.1).
    Proceeding,
    /// A final response other than 2xx came: its repetitions are acknowledged here.
    Completed { ack: Vec<u8> },
    /// A 2xx came: its repetitions and those of other forks are the session's.
    Accepted,
}

impl InviteClient {
    pub(super) fn start(io: &mut Io<'_>) -> Self {
        if !io.is_reliable() {
            io.set_client(ClientTimer::A, T1);
        }
        io.set_client(ClientTimer::B, TRANSACTION_TIMEOUT);
        Self::Calling { interval: T1 }
    }

    pub(super) fn response(&mut self, io: &mut Io<'_>, request: &Request, response: &Response) -> Deliver {
        match self {
            Self::Calling { .. } | Self::Proceeding => {
                let first = matches!(self, Self::Calling { .. });
                if first || !response.status.is_provisional() {
                    io.stop_client(ClientTimer::A);
                    io.stop_client(ClientTimer::B);
                }
                if response.status.is_provisional() {
                    *self = Self::Proceeding;
                } else if response.status.is_success() {
                    io.set_client(ClientTimer::M, TRANSACTION_TIMEOUT);
                    *self = Self::Accepted;
                } else {
                    let ack = wire::write(&Message::Request(ack(request, response)));
                    io.transmit(ack.clone());
                    io.set_client(ClientTimer::D, io.against_repetitions(TRANSACTION_TIMEOUT));
                    *self = Self::Completed { ack };
                }
                Deliver::Yes
            }
            Self::Completed { ack } => {
                if !response.status.is_provisional() && !response.status.is_success() {
                    io.transmit(ack.clone());
                }
                Deliver::No
            }
            Self::Accepted if response.status.is_success() => Deliver::Yes,
            Self::Accepted => Deliver::No,
        }
    }

    pub(super) fn timer(&mut self, io: &mut Io<'_>, timer: ClientTimer, bytes: &[u8]) -> Expiry {
        match (self, timer) {
            (Self::Calling { interval }, ClientTimer::A) => {
                io.transmit(bytes.to_vec());
                *interval *= 2;
                io.set_client(ClientTimer::A, *interval);
                Expiry::GoesOn
            }
            (Self::Calling { .. } | Self::Proceeding, ClientTimer::B) => Expiry::TimedOut,
            (Self::Completed { .. }, ClientTimer::D) | (Self::Accepted, ClientTimer::M) => Expiry::Over,
            _ => Expiry::GoesOn,
        }
    }

    /// No response has come yet.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Calling { .. })
    }

    /// A final response is still to come.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Calling { .. } | Self::Proceeding)
    }
}

/// The ACK for a response other than 2xx (RFC 3261 section 17.1.1.3).
fn ack(request: &Request, response: &Response) -> Request {
    let mut ack = Request {
        method: Method::Ack,
        uri: request.uri.clone(),
        via: request.via.first().cloned().into_iter().collect(),
        from: request.from.clone(),
        to: response.to.clone(),
        call_id: request.call_id.clone(),
        cseq: request.cseq,
        max_forwards: super::MAX_FORWARDS,
        headers: Default::default(),
        body: Vec::new(),
    };
    for route in request.headers.get_all(crate::headers::name::ROUTE) {
        ack.headers.push(crate::headers::name::ROUTE, route);
    }
    ack
}
