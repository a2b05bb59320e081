//! Certificates, keys and pins as they are written, made into what TLS works with. Each error is a sentence that goes
//! on after the name of the key or the file.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};

use super::provider;

/// Most certificates in one file.
const MOST_CERTIFICATES: usize = 1000;

/// Certificates of authorities, from PEM text.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates(pem)?;
    for (index, certificate) in found.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|error| {
            format!("holds a certificate, number {}, that cannot be used: {error}", index + 1)
        })?;
    }
    Ok(found)
}

/// A certificate with those that lead to its authority, and its key, both from PEM text.
///
/// # Errors
/// `Err((true, …))` is about the key, else about the certificates.
pub fn certified_key(chain: &str, key: &str) -> Result<CertifiedKey, (bool, String)> {
    let chain = certificates(chain).map_err(|wrong| (false, wrong))?;
    let key = private_key(key).map_err(|wrong| (true, wrong))?;
    let provider = provider();
    let signer = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| (true, format!("holds a private key that cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err((true, "holds the key of another certificate: name the one that belongs to it".to_owned()))
        }
        Err(error) => Err((false, format!("holds a certificate that cannot be used: {error}"))),
    }
}

/// Whether a certificate of ours is good by its dates: a sentence where it is not. Others will refuse it.
pub(super) fn out_of_date(certified: &CertifiedKey) -> Option<&'static str> {
    let certificate = certified.cert.first()?;
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    // Dates come before anything else, so that no authority is needed to hear of them.
    let found = parsed.verify_for_usage(
        provider().signature_verification_algorithms.all,
        &[],
        &[],
        UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    );
    match found {
        Err(webpki::Error::CertExpired { .. }) => Some("has expired: renew it"),
        Err(webpki::Error::CertNotValidYet { .. }) => Some("is not valid yet: check this machine's clock"),
        _ => None,
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(MOST_CERTIFICATES).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("holds no certificate: write it as PEM, from -----BEGIN CERTIFICATE----- on".to_owned()),
        Err(error) => Err(format!("is no PEM text ({error}): write each certificate as PEM")),
    }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    if pem.contains("ENCRYPTED") {
        return Err(
            "holds a private key with a pass phrase, which nobody is there to type: remove it with `openssl pkey`"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "holds no private key: write it as PEM, from -----BEGIN PRIVATE KEY----- on".to_owned())
}

/// A SHA-256 of a certificate or of its public key: 64 hexadecimal digits, as they come or with colons between.
///
/// # Errors
/// It is none.
pub fn pin(text: &str) -> Result<[u8; 32], String> {
    let wrong = || {
        "is no SHA-256: write its 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them"
            .to_owned()
    };
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |all, d| all * 16 + d)).collect();
    if digits.len() != 64 {
        return Err(wrong());
    }
    bytes.try_into().map_err(|_| wrong())
}

/// A pin as it is written.
pub fn pin_text(pin: &[u8; 32]) -> String {
    pin.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_with_and_without_colons() {
        let plain = "00ff".repeat(16);
        let read = pin(&plain).unwrap();
        assert_eq!((read[0], read[1]), (0, 255));
        assert_eq!(pin_text(&read), plain);
        let colons: Vec<&str> = plain.as_bytes().chunks(2).map(|c| std::str::from_utf8(c).unwrap()).collect();
        assert_eq!(pin(&colons.join(":").to_uppercase()), Ok(read));
        for wrong in ["", "00", "zz", &"0".repeat(63), &"0".repeat(66)] {
            assert!(pin(wrong).unwrap_err().contains("64 hexadecimal digits"), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_told_apart_from_no_key_and_no_certificate() {
        let one = rcgen::generate_simple_self_signed(["one.test".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["two.test".to_owned()]).unwrap();
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        assert!(certified_key(&chain, &key).is_ok());
        let (of_key, wrong) = certified_key(&chain, &two.signing_key.serialize_pem()).unwrap_err();
        assert!(of_key && wrong.contains("another certificate"), "{wrong}");
        let (of_key, wrong) = certified_key(&key, &key).unwrap_err();
        assert!(!of_key && wrong.contains("holds no certificate"), "{wrong}");
        let (of_key, wrong) = certified_key(&chain, &chain).unwrap_err();
        assert!(of_key && wrong.contains("holds no private key"), "{wrong}");
        assert!(authorities("nothing").unwrap_err().contains("holds no certificate"));
        let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(authorities(garbled).unwrap_err().contains("number 1"));
    }

    #[test]
    fn a_certificate_out_of_date_is_noticed_without_its_authority() {
        let with = |from: i32, to: i32| {
            let mut params = rcgen::CertificateParams::new(["one.test".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            certified_key(&certificate.pem(), &key.serialize_pem()).unwrap()
        };
        assert_eq!(out_of_date(&with(2000, 2900)), None);
        assert_eq!(out_of_date(&with(2000, 2001)), Some("has expired: renew it"));
        assert!(out_of_date(&with(2899, 2900)).unwrap().contains("clock"));
    }
}
