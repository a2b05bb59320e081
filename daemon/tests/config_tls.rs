//! What the configuration says of transports and certificates, read from real files.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use voipd::config::account::from_entries;
use voipd::config::fields::{Entry, Value};
use voipd::config::{ConfigError, Loaded, Scope, load};
use voipd_sip::endpoint::Transport;
use voipd_tests::authority::{Authority, Validity};

/// A directory with a configuration and the files that it may name.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let authority = Authority::new("voipd test authority");
        let one = authority.issue(&["one.test"], Validity::Good);
        let two = authority.issue(&["two.test"], Validity::Good);
        home.write("ca.pem", &authority.pem(), 0o644);
        home.write("one.pem", &one.chain, 0o644);
        home.write("one.key", &one.key, 0o600);
        home.write("two.key", &two.key, 0o644);
        home.write("empty.pem", "", 0o644);
        home
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, text: &str) -> Result<Loaded, ConfigError> {
        self.write("voipd.toml", text, 0o600);
        load(Some(&self.path("voipd.toml")), Scope::System)
    }

    /// The faults of a text, without the directory.
    fn faults(&self, text: &str) -> Vec<String> {
        let Err(ConfigError::Faulty(faults)) = self.load(text) else { panic!("the text is wrong") };
        let directory = format!("{}/", self.0.path().display());
        faults.iter().map(|fault| fault.to_string().replace(&directory, "")).collect()
    }
}

fn account(lines: &str) -> String {
    format!("[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\n{lines}")
}

#[test]
fn an_account_names_its_transport_and_its_files() {
    let home = Home::new();
    let text = account(
        "transport = \"tls\"\ntls-ca = \"ca.pem\"\ntls-certificate = \"one.pem\"\ntls-key = \"one.key\"",
    );
    let loaded = home.load(&text).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let read = |name: &str| std::fs::read_to_string(home.path(name)).unwrap();
    let settings = &loaded.config.accounts[0];
    assert_eq!(settings.transport, Some(Transport::Tls));
    assert_eq!(settings.tls.authorities, Some(read("ca.pem")));
    let client = settings.tls.client.as_ref().unwrap();
    assert_eq!(
        (client.chain.as_str(), client.key.expose()),
        (read("one.pem").as_str(), read("one.key").as_str())
    );
    assert!(!format!("{settings:?}").contains("PRIVATE KEY"));
    let pinned = home.load(&account(&format!("tls-pin = \"{}\"", "AB:".repeat(31) + "cd"))).unwrap();
    let pin = pinned.config.accounts[0].tls.pin.unwrap();
    assert_eq!((pin[0], pin[31]), (0xab, 0xcd));
}

#[test]
fn a_key_that_others_can_read_is_warned_of_and_a_certificate_is_not() {
    let home = Home::new();
    home.write("one.key", &std::fs::read_to_string(home.path("one.key")).unwrap(), 0o644);
    let text = account("tls-certificate = \"one.pem\"\ntls-key = \"one.key\"");
    let warnings = home.load(&text).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("one.key holds a secret"), "{warnings:?}");
}

#[test]
fn each_fault_names_file_key_and_remedy() {
    let home = Home::new();
    let faults = |lines: &str| home.faults(&account(lines));
    assert_eq!(
        faults("tls-ca = \"none.pem\""),
        ["voipd.toml:4:10: account.tls-ca cannot be read: none.pem: No such file or directory (os error 2)"]
    );
    assert_eq!(
        faults("tls-ca = \"empty.pem\""),
        [
            "voipd.toml:4:10: account.tls-ca names empty.pem, which holds no certificate: write it as PEM, from \
          -----BEGIN CERTIFICATE----- on"
        ]
    );
    assert!(faults("tls-certificate = \"one.pem\"")[0].contains("account.tls-key is missing"));
    assert!(faults("tls-key = \"one.key\"")[0].contains("account.tls-certificate is missing"));
    let mismatch = faults("tls-certificate = \"one.pem\"\ntls-key = \"two.key\"");
    assert!(
        mismatch[0].contains("account.tls-key names two.key, which holds the key of another certificate")
    );
    assert!(faults("tls-pin = \"abc\"")[0].contains("64 hexadecimal digits"));
    let both = faults(&format!("tls-ca = \"ca.pem\"\ntls-pin = \"{}\"", "00".repeat(32)));
    assert!(both[0].contains("a pin stands for itself"), "{both:?}");
    assert!(faults("transport = \"carrier-pigeon\"")[0].contains("write \"udp\", \"tcp\" or \"tls\""));
    let secure = "[[account]]\nname = \"a\"\naddress = \"sips:a@b.example\"\n";
    assert!(home.faults(&format!("{secure}transport = \"udp\""))[0].contains("asks for nothing less"));
    assert!(home.load(secure).is_ok());
}

#[test]
fn the_daemon_listens_for_tls_only_with_a_certificate() {
    let home = Home::new();
    let plain = home.load("").unwrap().config.sip;
    assert!(plain.tcp && plain.tls.is_none());
    let own = "[sip]\ntcp = false\ntls-certificate = \"one.pem\"\ntls-key = \"one.key\"\n";
    let sip = home.load(own).unwrap().config.sip;
    assert!(!sip.tcp);
    let tls = sip.tls.unwrap();
    assert_eq!(tls.listen, ["0.0.0.0:5061".parse().unwrap(), "[::]:5061".parse().unwrap()]);
    assert_eq!(tls.files.certificate, home.path("one.pem"));
    assert_eq!(tls.files.client_authorities, None);
    let asking = format!("{own}tls-client-ca = \"ca.pem\"\ntls-listen = [\"192.0.2.1:5071\"]");
    let tls = home.load(&asking).unwrap().config.sip.tls.unwrap();
    assert_eq!(tls.listen, ["192.0.2.1:5071".parse().unwrap()]);
    assert!(tls.files.client_authorities.is_some());
    assert!(
        home.faults("[sip]\ntls-listen = [\"0.0.0.0:5061\"]")[0].contains("nothing without a certificate")
    );
    assert!(home.faults("[sip]\ntls-client-ca = \"ca.pem\"")[0].contains("nothing without a certificate"));
}

#[test]
fn a_caller_on_the_bus_has_no_files_read() {
    let home = Home::new();
    let text = |text: &str| Value::Text(text.to_owned());
    let entries = |value: &str| {
        vec![
            Entry::new("name", text("a")),
            Entry::new("address", text("sip:a@b.example")),
            Entry::new("tls-ca", text(value)),
        ]
    };
    let path = home.path("ca.pem");
    let faults = from_entries(entries(path.to_str().unwrap())).unwrap_err();
    assert!(faults[0].message.contains("send what the file holds"), "{faults:?}");
    let pem = std::fs::read_to_string(&path).unwrap();
    assert_eq!(from_entries(entries(&pem)).unwrap().tls.authorities, Some(pem));
    assert!(from_entries(entries("/etc/shadow")).unwrap_err()[0].message.contains("is no PEM text"));
}
