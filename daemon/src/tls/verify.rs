//! Whether a server is who it should be: the chain of its certificate (RFC 5280) and the names in it (RFC 5922), or its
//! pin.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use voipd_sip::uri::Host;
use webpki::{EndEntityCert, KeyUsage};

use super::material::sha256;

/// What makes a certificate good.
#[derive(Debug)]
pub(super) enum Trust {
    /// Who signed it.
    Authorities {
        anchors: Arc<RootCertStore>,
        /// Certificates that are good by themselves: small PBXs sign theirs with itself, and mark it as an authority's.
        themselves: Vec<CertificateDer<'static>>,
    },
    /// The SHA-256 of it or of its public key. Nothing else counts, not even its dates: the pin says it all, as a
    /// DANE-EE record does (RFC 7671 section 5.1).
    Pin([u8; 32]),
}

/// Verifies the certificate of one server.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) name: Host,
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = EndEntityCert::try_from(end_entity).map_err(refusal)?;
        match &self.trust {
            Trust::Pin(pin) => {
                let key = certificate.subject_public_key_info();
                if ![sha256(end_entity), sha256(&key)].contains(pin) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
            Trust::Authorities { anchors, themselves } => {
                let chain = certificate.verify_for_usage(
                    self.algorithms.all,
                    &anchors.roots,
                    intermediates,
                    now,
                    KeyUsage::server_auth(),
                    None,
                    None,
                );
                match chain {
                    Ok(_) => {}
                    // Its dates have been looked at before.
                    Err(webpki::Error::CaUsedAsEndEntity) if themselves.contains(end_entity) => {}
                    Err(error) => return Err(refusal(error)),
                }
                self.verify_name(&certificate)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// RFC 5922 section 7: the domain that was asked for, before any SRV record, must be one of the certificate's SIP
    /// domains. Those are its `sip:` URIs without a user; only where it has none, its DNS names. A wildcard names no
    /// domain (section 7.2), and the common name counts for nothing.
    fn verify_name(&self, certificate: &EndEntityCert<'_>) -> Result<(), Error> {
        let domains: Vec<&str> = certificate.valid_uri_names().filter_map(sip_domain).collect();
        let expected = match &self.name {
            Host::Name(name) => name.trim_end_matches('.').to_owned(),
            ip => ip.to_string(),
        };
        let is = |domain: &str| domain.trim_end_matches('.').eq_ignore_ascii_case(&expected);
        let fits = match &self.name {
            _ if !domains.is_empty() => domains.iter().any(|domain| is(domain)),
            Host::Name(_) => certificate.valid_dns_names().any(is),
            // Beyond RFC 5922, which knows domains only: an address stands for itself (RFC 5280 section 4.2.1.6).
            Host::Ip(ip) => {
                let name = ServerName::IpAddress((*ip).into());
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            }
        };
        if fits {
            return Ok(());
        }
        let uris = certificate.valid_uri_names();
        let presented = uris.chain(certificate.valid_dns_names()).map(str::to_owned).collect();
        Err(match ServerName::try_from(expected) {
            Ok(expected) => CertificateError::NotValidForNameContext { expected, presented },
            Err(_) => CertificateError::NotValidForName,
        }
        .into())
    }
}

/// The domain that a URI of a certificate stands for (RFC 5922 section 7.1). One with a user stands for a person.
fn sip_domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    let end = match rest.strip_prefix('[') {
        Some(reference) => reference.find(']')? + "[]".len(),
        None => rest.find([':', ';', '?']).unwrap_or(rest.len()),
    };
    rest.get(..end).filter(|domain| !domain.is_empty())
}

/// The total map from what webpki finds to what TLS says of it.
fn refusal(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        // An authority's certificate as a server's is one that signed itself. A signature that does not fit is another
        // authority's of the same name.
        webpki::Error::UnknownIssuer
        | webpki::Error::CaUsedAsEndEntity
        | webpki::Error::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_) => {
            CertificateError::BadEncoding
        }
        error => CertificateError::Other(OtherError(Arc::new(error))),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sip_uri_names_a_domain_and_one_with_a_user_a_person() {
        let domains = [
            ("sip:example.org", Some("example.org")),
            ("SIP:example.org:5061;lr", Some("example.org")),
            ("sip:[2001:db8::1]:5061", Some("[2001:db8::1]")),
            ("sip:alice@example.org", None),
            ("sips:example.org", None),
            ("https://example.org", None),
            ("sip:", None),
            ("sip:[2001", None),
        ];
        for (uri, domain) in domains {
            assert_eq!(sip_domain(uri), domain, "{uri}");
        }
    }
}
