//! Reasons: what the ends of sessions mean to a person.

use voipd_audio::tone::Signal;
use voipd_media::NegotiationError;
use voipd_sip::endpoint::{CertificateFault, EndCause, SessionEnd, TransportError};
use voipd_sip::reason::{self as sip, Protocol};

use crate::view::{CallDirection, Reason};

/// Why a call ended, from how its session ended.
pub(crate) fn of_session_end(end: &SessionEnd, direction: CallDirection, answered: bool) -> Reason {
    match end.cause {
        EndCause::Local => Reason::Local,
        EndCause::Remote | EndCause::Cancelled if !answered && is_elsewhere(end) => Reason::AnsweredElsewhere,
        EndCause::Remote => Reason::Remote,
        EndCause::Cancelled => Reason::Cancelled,
        EndCause::Refused => of_refusal(end),
        EndCause::Timeout | EndCause::Unreachable(_) if answered || direction == CallDirection::Inbound => {
            Reason::Network
        }
        EndCause::Timeout => Reason::Unreachable,
        EndCause::Unreachable(error) => of_transport(error),
        EndCause::Unresolvable => Reason::Unresolvable,
        EndCause::Protocol => Reason::Protocol,
    }
}

/// Another phone has taken the call (RFC 3326 section 3.1; Q.850 cause 26 is "non-selected user clearing").
fn is_elsewhere(end: &SessionEnd) -> bool {
    end.status == Some(200) || end.q850 == Some(26)
}

/// What a final response to our INVITE means. Where its status says little, the telephone network's cause says more
/// (RFC 6432; the causes are those of RFC 3398 section 7.2.4.1).
fn of_refusal(end: &SessionEnd) -> Reason {
    let status = end.status.unwrap_or(500);
    match (of_status(status), end.q850) {
        (Reason::Rejected, Some(1 | 2 | 3 | 22 | 28)) => Reason::NotFound,
        (Reason::Rejected | Reason::NoAnswer, Some(17)) => Reason::Busy,
        (Reason::Rejected, Some(18..=20)) => Reason::NoAnswer,
        (Reason::Rejected | Reason::NoAnswer, Some(21)) => Reason::Declined,
        (Reason::Rejected, Some(27 | 34 | 38 | 41 | 42 | 47)) => Reason::Unreachable,
        (reason, _) => reason,
    }
}

/// What CANCEL or BYE tell the peer of a reason of ours; `None` where it is a hang-up and nothing more.
pub(crate) fn told(reason: Reason) -> Option<sip::Reason> {
    let (protocol, cause, text) = match reason {
        Reason::NoAnswer => (Protocol::Q850, 19, "No answer from user (user alerted)"),
        Reason::NoCommonCodec => (Protocol::Sip, 488, "Not Acceptable Here"),
        Reason::Protocol => (Protocol::Q850, 111, "Protocol error"),
        _ => return None,
    };
    Some(sip::Reason { protocol, cause: Some(cause), text: text.to_owned() })
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
        300..=399 => Reason::Redirected,
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

/// What a caller hears whose call ended so: nothing, where it came about or by the caller's own will.
pub(crate) fn signal(reason: Reason, status: u16) -> Option<Signal> {
    match reason {
        // A server of ours waited for an answer of the next one, not for one of a person.
        Reason::NoAnswer if status == 408 => Some(Signal::Congestion),
        Reason::Local | Reason::Remote | Reason::Cancelled | Reason::AnsweredElsewhere => None,
        Reason::Busy | Reason::Declined | Reason::NoAnswer => Some(Signal::Busy),
        Reason::NotFound | Reason::Unresolvable | Reason::Redirected => Some(Signal::Information),
        _ => Some(Signal::Congestion),
    }
}
