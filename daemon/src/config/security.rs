//! Certificates, keys and pins of accounts and of the daemon itself. Here they are read and checked; what TLS does with
//! them is not known here.

use std::path::{Path, PathBuf};

use voipd_agent::TlsSettings;
use voipd_agent::account::ClientCertificate;
use voipd_sip::digest::Secret;

use super::account::{FileText, Holds, ReadFile};
use super::fields::Fields;
use crate::tls::{ServerFiles, material};

/// What PEM text begins with.
const PEM: &str = "-----BEGIN ";
/// Longest PEM text over the bus or from the store, in bytes.
const LONGEST_PEM: usize = 256 * 1024;

/// What an account asks of TLS servers and shows them.
pub(super) fn read_account(fields: &mut Fields<'_>, read_file: Option<ReadFile<'_>>) -> TlsSettings {
    let authorities =
        pem(fields, "tls-ca", Holds::Public, read_file, |text| material::authorities(text).map(drop));
    let pin = fields.parse("tls-pin", material::pin);
    if authorities.is_some() && pin.is_some() {
        fields.reject("tls-pin", "is there beside \"tls-ca\": a pin stands for itself; remove one of them");
    }
    let there = Pair::there(fields);
    let any = |_: &str| Ok(());
    let chain = pem(fields, "tls-certificate", Holds::Public, read_file, any);
    let key = pem(fields, "tls-key", Holds::Secret, read_file, any);
    let client = there
        .read(fields, chain, key)
        .map(|(chain, key)| ClientCertificate { chain: chain.text, key: Secret::new(key.text) });
    TlsSettings { authorities: authorities.map(|authorities| authorities.text), pin, client }
}

/// The daemon's own certificate, from the section `[sip]`: `Some(None)` when it has none, `None` after a fault.
pub(super) fn read_server(fields: &mut Fields<'_>, read_file: ReadFile<'_>) -> Option<Option<ServerFiles>> {
    let there = Pair::there(fields);
    let given = there.certificate || there.key;
    let read = |fields: &mut Fields<'_>, key, holds| fields.parse(key, |path| file(path, holds, read_file));
    let chain = read(fields, "tls-certificate", Holds::Public);
    let key = read(fields, "tls-key", Holds::Secret);
    let asks = fields.has("tls-client-ca");
    let client_authorities = pem(fields, "tls-client-ca", Holds::Public, Some(read_file), |text| {
        material::authorities(text).map(drop)
    });
    if asks && !given {
        fields.reject(
            "tls-client-ca",
            "means nothing without a certificate: add \"tls-certificate\" and \"tls-key\"",
        );
    }
    if !given {
        return Some(None);
    }
    let (chain, key) = there.read(fields, chain, key)?;
    let client_authorities = client_authorities.map(|authorities| authorities.text);
    Some(Some(ServerFiles { certificate: chain.path, key: key.path, client_authorities }))
}

/// A certificate and the key that belongs to it: whether each is written.
struct Pair {
    certificate: bool,
    key: bool,
}

impl Pair {
    fn there(fields: &Fields<'_>) -> Self {
        Self { certificate: fields.has("tls-certificate"), key: fields.has("tls-key") }
    }

    /// Both, if they belong together.
    fn read(
        self,
        fields: &mut Fields<'_>,
        chain: Option<FileText>,
        key: Option<FileText>,
    ) -> Option<(FileText, FileText)> {
        if self.certificate && !self.key {
            fields.reject("tls-key", "is missing: a certificate is of no use without its key");
        }
        if self.key && !self.certificate {
            fields.reject("tls-certificate", "is missing: a key is of no use without its certificate");
        }
        let (chain, key) = (chain?, key?);
        match material::certified_key(&chain.text, &key.text) {
            Ok(_) => Some((chain, key)),
            Err((of_key, wrong)) => {
                let (name, file) = if of_key { ("tls-key", &key) } else { ("tls-certificate", &chain) };
                fields.reject(name, named(file, &wrong));
                None
            }
        }
    }
}

/// PEM text: itself, or where files are read, the name of one.
fn pem(
    fields: &mut Fields<'_>,
    key: &'static str,
    holds: Holds,
    read_file: Option<ReadFile<'_>>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<FileText> {
    fields.parse_lines(key, |text| {
        let found = match read_file {
            _ if text.len() > LONGEST_PEM => {
                return Err(format!("is longer than {LONGEST_PEM} bytes: leave out what is not needed"));
            }
            _ if text.trim_start().starts_with(PEM) => {
                FileText { path: PathBuf::new(), text: text.to_owned() }
            }
            Some(read_file) => file(text, holds, read_file)?,
            // The daemon may read what the caller may not.
            None => {
                return Err("is no PEM text: send what the file holds, from -----BEGIN on, and not its name"
                    .to_owned());
            }
        };
        check(&found.text).map_err(|wrong| named(&found, &wrong))?;
        Ok(found)
    })
}

fn file(path: &str, holds: Holds, read_file: ReadFile<'_>) -> Result<FileText, String> {
    read_file(Path::new(path), holds).map_err(|error| format!("cannot be read: {path}: {error}"))
}

/// A fault of PEM text, with the name of its file where there is one.
fn named(file: &FileText, wrong: &str) -> String {
    match file.path.as_os_str().is_empty() {
        true => wrong.to_owned(),
        false => format!("names {}, which {wrong}", file.path.display()),
    }
}
