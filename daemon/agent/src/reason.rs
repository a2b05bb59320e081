//! Reasons: what the ends of sessions mean to a person.

use voipd_media::NegotiationError;
use voipd_sip::endpoint::{CertificateFault, EndCause, SessionEnd, TransportError};

use crate::view::{CallDirection, Reason};

/// Why a call ended, from how its session ended.
pub(crate) fn of_session_end(end: &SessionEnd, direction: CallDirection, answered: bool) -> Reason {
    match end.cause {
        EndCause::Local => Reason::Local,
        EndCause::Remote => Reason::Remote,
        EndCause::Cancelled => Reason::Cancelled,
        EndCause::Refused => of_status(end.status.unwrap_or(500)),
        EndCause::Timeout | EndCause::Unreachable(_) if answered || direction == CallDirection::Inbound => {
            Reason::Network
        }
        EndCause::Timeout => Reason::Unreachable,
        EndCause::Unreachable(error) => of_transport(error),
        EndCause::Unresolvable => Reason::Unresolvable,
        EndCause::Protocol => Reason::Protocol,
    }
}

/// Why nothing could be sent to a server.
pub(crate) fn of_transport(error: TransportError) -> Reason {
    match error {
        TransportError::Refused
        | TransportError::NoRoute
        | TransportError::TimedOut
        | TransportError::Closed => Reason::Unreachable,
        TransportError::Certificate(fault) => match fault {
            CertificateFault::Expired => Reason::CertificateExpired,
            CertificateFault::NotYetValid => Reason::CertificateNotYetValid,
            CertificateFault::WrongName => Reason::CertificateWrongName,
            CertificateFault::UnknownIssuer => Reason::CertificateUnknownIssuer,
            CertificateFault::NotPinned => Reason::CertificateNotPinned,
            CertificateFault::Unfit => Reason::CertificateUnfit,
        },
        TransportError::ClientCertificate => Reason::ClientCertificate,
        TransportError::Handshake => Reason::TlsFailed,
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
