//! TLS for SIP: whom we believe, what we show, and what it means when it fails. It opens no sockets.

mod client;
pub mod material;
mod server;
mod verify;

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, CertificateError};
use voipd_sip::endpoint::{CertificateFault, TransportError};

pub use client::{Requirement, TlsClient};
pub use server::{ServerFiles, TlsServer};

/// The cryptography of every TLS connection.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why TLS cannot be set up from what was configured: a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(pub(crate) String);

/// What a failed handshake, or a failure right behind one, means. `None`: it is no failure of TLS but of the
/// connection below. `asked`: the far end has asked for our certificate.
pub fn failure(error: &io::Error, asked: bool) -> Option<TransportError> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(error) => TransportError::Certificate(fault(error)),
        rustls::Error::AlertReceived(alert) if refuses_certificate(*alert, asked) => {
            TransportError::ClientCertificate
        }
        _ => TransportError::Handshake,
    })
}

/// The far end does not like our certificate, or misses one (RFC 8446 section 6.2).
fn refuses_certificate(alert: AlertDescription, asked: bool) -> bool {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired
        | Alert::NoCertificate
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => true,
        // TLS 1.2 has no alert for a certificate that is missing (RFC 5246 section 7.4.6).
        Alert::HandshakeFailure => asked,
        _ => false,
    }
}

fn fault(error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::WrongName
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::ApplicationVerificationFailure => CertificateFault::NotPinned,
        _ => CertificateFault::Unfit,
    }
}
