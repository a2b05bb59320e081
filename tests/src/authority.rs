//! A certificate authority that lives as long as a test, and certificates with the faults that a test wants.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType, date_time_ymd,
};

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Good,
    /// It was until 2001.
    Expired,
    /// It will be from 2900 on.
    NotYet,
}

/// A certificate and its key, both as PEM text.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// The certificate as DER.
    pub der: Vec<u8>,
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one; nobody knows it.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = common_name(name);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate as PEM text.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for names, addresses and `sip:` URIs.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let certificate = params(names, validity).signed_by(&key, &self.issuer).unwrap();
        written(&certificate, &key)
    }
}

/// A certificate that signed itself, marked as an authority's, as `openssl req -x509` makes it.
pub fn self_signed(names: &[&str], validity: Validity) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = params(names, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    written(&params.self_signed(&key).unwrap(), &key)
}

fn written(certificate: &rcgen::Certificate, key: &KeyPair) -> Certificate {
    Certificate { chain: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
}

fn params(names: &[&str], validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Never looked at: names stand in the extension (RFC 5922 section 7.1).
    params.distinguished_name = common_name("common.name.test");
    let name = |name: &&str| match name.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) if name.starts_with("sip:") => SanType::URI((*name).try_into().unwrap()),
        Err(_) => SanType::DnsName((*name).try_into().unwrap()),
    };
    params.subject_alt_names = names.iter().map(name).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = match validity {
        Validity::Good => (date_time_ymd(2000, 1, 1), date_time_ymd(2900, 1, 1)),
        Validity::Expired => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
        Validity::NotYet => (date_time_ymd(2900, 1, 1), date_time_ymd(2901, 1, 1)),
    };
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
