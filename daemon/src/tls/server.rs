//! Connections that come to us: our certificate, taken anew from its files when they have changed, and whom we let in.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::{TlsError, material, provider};

/// Where our certificate and its key are, and who must show one to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// PEM: our certificate, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// PEM text: authorities of which each client must show a certificate; `None` asks for none.
    pub client_authorities: Option<String>,
}

/// How to answer TLS clients.
#[derive(Debug)]
pub struct TlsServer {
    /// For every handshake.
    pub config: Arc<ServerConfig>,
    certificate: Arc<OwnCertificate>,
}

impl TlsServer {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or hold something else.
    pub fn new(files: &ServerFiles) -> Result<Self, TlsError> {
        let certificate = Arc::new(OwnCertificate {
            current: Mutex::new(read(files)?),
            changed: Mutex::new(changes(files)),
            files: files.clone(),
        });
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let wrong = |wrong: String| TlsError(format!("[sip] tls-client-ca {wrong}"));
                let mut anchors = RootCertStore::empty();
                anchors.add_parsable_certificates(material::authorities(pem).map_err(wrong)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider)
                    .build()
                    .map_err(|error| wrong(format!("cannot be used: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let resolver = Arc::clone(&certificate) as Arc<dyn ResolvesServerCert>;
        Ok(Self { config: Arc::new(builder.with_cert_resolver(resolver)), certificate })
    }

    /// SHA-256 of our certificate, where it vouches for itself: nobody else can know that it is ours.
    pub fn own_pin(&self) -> Option<[u8; 32]> {
        let current = self.certificate.current.lock().unwrap_or_else(PoisonError::into_inner);
        let certificate = current.cert.first()?;
        let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
        (parsed.issuer() == parsed.subject()).then(|| material::sha256(certificate))
    }

    /// Takes the certificate from its files again when they have changed. What is wrong with them is logged, and the
    /// old certificate stays.
    pub fn refresh(&self) {
        let own = &self.certificate;
        let now = changes(&own.files);
        let mut seen = own.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        match read(&own.files) {
            Ok(certificate) => {
                log::info!("{} is used from now on", own.files.certificate.display());
                *own.current.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
            }
            Err(error) => log::warn!("the changed certificate is not used: {error}"),
        }
    }
}

#[derive(Debug)]
struct OwnCertificate {
    current: Mutex<Arc<CertifiedKey>>,
    changed: Mutex<[Option<SystemTime>; 2]>,
    files: ServerFiles,
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(files: &ServerFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let text = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|error| TlsError(format!("{} cannot be read: {error}", path.display())))
    };
    let certified = material::certified_key(&text(&files.certificate)?, &text(&files.key)?);
    let certified = certified.map_err(|(of_key, wrong)| {
        let path = if of_key { &files.key } else { &files.certificate };
        TlsError(format!("{} {wrong}", path.display()))
    })?;
    if let Some(wrong) = material::out_of_date(&certified) {
        log::warn!("the certificate in {} {wrong}", files.certificate.display());
    }
    Ok(Arc::new(certified))
}

/// When each file was changed last.
fn changes(files: &ServerFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}
