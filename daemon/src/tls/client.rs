//! Connections that we make: what the far end must prove, and what we show it, numbered for signalling.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use voipd_agent::account::TlsSettings;
use voipd_sip::endpoint::TlsRequirement;
use voipd_sip::uri::Host;

use super::verify::{Trust, Verifier};
use super::{TlsError, material, provider};

/// Most requirements that are remembered: a target that somebody dials makes one.
const MOST_REQUIREMENTS: usize = 1024;
/// Sessions that are kept for resumption with each server (RFC 8446 section 2.2).
const SESSIONS: usize = 8;

/// All that was asked of servers so far.
#[derive(Debug, Default)]
pub struct TlsClient {
    requirements: BTreeMap<TlsRequirement, Arc<Requirement>>,
    last: u32,
    system: OnceLock<Arc<RootCertStore>>,
}

/// What a server must prove, and what it is shown. Connections of one requirement resume each other's sessions.
#[derive(Debug)]
pub struct Requirement {
    /// Whose certificate it must be: the domain that was asked for, not where its records led.
    pub name: Host,
    settings: TlsSettings,
    /// How to connect.
    pub config: Arc<ClientConfig>,
    /// Server name indication (RFC 6066 section 3); none for an address.
    pub indication: ServerName<'static>,
    shown: Arc<Shown>,
}

impl Requirement {
    /// The server has asked for a certificate of ours.
    pub fn was_asked(&self) -> bool {
        self.shown.asked.load(Ordering::Relaxed)
    }

    /// There is a certificate to show.
    pub fn has_certificate(&self) -> bool {
        self.shown.certificate.is_some()
    }
}

impl TlsClient {
    /// The number of what a server of this name must prove to an account with these settings. The same question has
    /// the same number as long as it is remembered; `in_use` tells which must not be forgotten.
    ///
    /// # Errors
    /// The settings hold no usable certificates.
    pub fn require(
        &mut self,
        name: &Host,
        settings: &TlsSettings,
        in_use: impl Fn(TlsRequirement) -> bool,
    ) -> Result<TlsRequirement, TlsError> {
        let name = match name {
            Host::Name(name) => Host::Name(name.trim_end_matches('.').to_ascii_lowercase()),
            Host::Ip(ip) => Host::Ip(*ip),
        };
        let known = |known: &Requirement| known.name == name && known.settings == *settings;
        if let Some((number, _)) = self.requirements.iter().find(|(_, requirement)| known(requirement)) {
            return Ok(*number);
        }
        let requirement = self.make(name, settings)?;
        while self.requirements.len() >= MOST_REQUIREMENTS {
            let Some(idle) = self.requirements.keys().copied().find(|number| !in_use(*number)) else { break };
            self.requirements.remove(&idle);
        }
        self.last += 1;
        let number = TlsRequirement(self.last);
        self.requirements.insert(number, Arc::new(requirement));
        Ok(number)
    }

    /// What stands behind a number; `None` when it was forgotten, or is that of no requirement.
    pub fn get(&self, number: TlsRequirement) -> Option<&Arc<Requirement>> {
        self.requirements.get(&number)
    }

    fn make(&self, name: Host, settings: &TlsSettings) -> Result<Requirement, TlsError> {
        let provider = provider();
        let verifier = Verifier {
            name: name.clone(),
            trust: self.trust(settings)?,
            algorithms: provider.signature_verification_algorithms,
        };
        let certificate = match &settings.client {
            None => None,
            Some(client) => {
                let certified = material::certified_key(&client.chain, client.key.expose())
                    .map_err(|(_, wrong)| TlsError(format!("the client certificate {wrong}")))?;
                if let Some(wrong) = material::out_of_date(&certified) {
                    log::warn!("the certificate that is shown to {name} {wrong}");
                }
                Some(Arc::new(certified))
            }
        };
        let shown = Arc::new(Shown { certificate, asked: AtomicBool::new(false) });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesClientCert>);
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        // An address is never indicated; of a name that is none for DNS, there is nothing to indicate.
        let none = || ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
        let indication = match &name {
            Host::Name(name) => ServerName::try_from(name.clone()).unwrap_or_else(|_| none()),
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        };
        Ok(Requirement { name, settings: settings.clone(), config: Arc::new(config), indication, shown })
    }

    fn trust(&self, settings: &TlsSettings) -> Result<Trust, TlsError> {
        if let Some(pin) = settings.pin {
            return Ok(Trust::Pin(pin));
        }
        let Some(pem) = &settings.authorities else {
            let anchors = Arc::clone(self.system.get_or_init(system_authorities));
            return Ok(Trust::Authorities { anchors, themselves: Vec::new() });
        };
        let themselves =
            material::authorities(pem).map_err(|wrong| TlsError(format!("the account's tls-ca {wrong}")))?;
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(themselves.iter().cloned());
        Ok(Trust::Authorities { anchors: Arc::new(anchors), themselves })
    }
}

/// The authorities that this machine believes.
fn system_authorities() -> Arc<RootCertStore> {
    let mut anchors = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        log::warn!("a certificate authority of this machine cannot be read: {error}");
    }
    anchors.add_parsable_certificates(found.certs);
    if anchors.is_empty() {
        log::warn!(
            "this machine knows no certificate authorities, so that no TLS server is believed: install the package \
             ca-certificates, or name the server's authority with tls-ca"
        );
    }
    Arc::new(anchors)
}

/// Our certificate, where there is one, and whether it was ever asked for.
#[derive(Debug)]
struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        // Also without one we want to be asked: that tells why a server hangs up.
        true
    }
}
