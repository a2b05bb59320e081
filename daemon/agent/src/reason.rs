//! Reasons: what the ends of sessions mean to a person.

use voipd_media::NegotiationError;
use voipd_sip::endpoint::{EndCause, SessionEnd};

use crate::view::{CallDirection, Reason};

/// Why a call ended, from how its session ended.
pub(crate) fn of_session_end(end: &SessionEnd, direction: CallDirection, answered: bool) -> Reason {
    match end.cause {
        EndCause::Local => Reason::Local,
        EndCause::Remote => Reason::Remote,
        EndCause::Cancelled => Reason::Cancelled,
        EndCause::Refused => of_status(end.status.unwrap_or(500)),
        EndCause::Timeout | EndCause::Unreachable if answered || direction == CallDirection::Inbound => {
            Reason::Network
        }
        EndCause::Timeout | EndCause::Unreachable => Reason::Unreachable,
        EndCause::Unresolvable => Reason::Unresolvable,
        EndCause::Protocol => Reason::Protocol,
    }
}

/// What a final response to our INVITE means (RFC 3261 section 21).
fn of_status(status: u16) -> Reason {
    match status {
        401 | 407 => Reason::Credentials,
        404 | 410 | 484 | 604 => Reason::NotFound,
        408 | 480 => Reason::NoAnswer,
        486 | 600 => Reason::Busy,
        487 => Reason::Cancelled,
        415 | 488 | 606 => Reason::NoCommonCodec,
        603 => Reason::Declined,
        _ => Reason::Rejected,
    }
}

/// Why no agreement on media came about.
pub(crate) fn of_negotiation(error: &NegotiationError) -> Reason {
    match error {
        NegotiationError::Malformed(_) | NegotiationError::Unexpected => Reason::Protocol,
        NegotiationError::Encryption(_) => Reason::EncryptionRequired,
        NegotiationError::NoAudio
        | NegotiationError::NoCommonCodec { .. }
        | NegotiationError::Profile(_)
        | NegotiationError::Address(_) => Reason::NoCommonCodec,
    }
}

/// Whether a caller whose call ended so hears the busy tone: it did not come about, and not by the caller's will.
pub(crate) fn sounds_busy(reason: Reason) -> bool {
    !matches!(reason, Reason::Local | Reason::Remote | Reason::Cancelled)
}
