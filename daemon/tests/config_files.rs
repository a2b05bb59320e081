//! Configuration files: which are read, and what is told of their permissions.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use voipd::config::{ConfigError, Scope, load};
use voipd_tests::authority::{Authority, Validity};

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const ACCOUNT: &str = "[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\n";

#[test]
fn a_file_that_was_named_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gone.toml");
    let error = load(Some(&file), Scope::System).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("gone.toml"), "{error}");
    assert!(
        load(Some(directory.path()), Scope::System).unwrap_err().to_string().contains("not a regular file")
    );
}

#[test]
fn a_password_that_others_can_read_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("voipd.toml");
    let text = format!("{ACCOUNT}password = \"x\"\n");
    write(&file, &text, 0o644);
    let loaded = load(Some(&file), Scope::System).unwrap();
    let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    // The file is root's: without the group, the service could not read it any more.
    let remedy = format!("`chgrp voipd {0} && chmod 640 {0}`", file.display());
    assert!(warning.contains(&remedy), "{warning}");
    let session = load(Some(&file), Scope::Session).unwrap().warnings;
    assert!(session[0].contains("`chmod o-r ") && !session[0].contains("chgrp"), "{session:?}");
    write(&file, &text, 0o640);
    assert!(load(Some(&file), Scope::System).unwrap().warnings.is_empty());
    write(&file, ACCOUNT, 0o644);
    assert!(load(Some(&file), Scope::System).unwrap().warnings.is_empty());
}

#[test]
fn each_secret_that_others_can_read_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("voipd.toml");
    let warnings = |text: &str| {
        write(&file, text, 0o644);
        load(Some(&file), Scope::System).unwrap().warnings
    };
    let own = Authority::new("voipd test authority").issue(&["a.example"], Validity::Good);
    let relays = "relays = [\"turn:c.example\"]\nrelay-user = \"a\"\nrelay-password = \"x\"\n";
    for text in [
        format!("{ACCOUNT}{relays}"),
        format!("[direct]\n{relays}"),
        format!("{ACCOUNT}tls-certificate = '''{}'''\ntls-key = '''{}'''\n", own.chain, own.key),
        "account = [{ name = \"a\", address = \"sip:a@b.example\", password = \"x\" }]\n".to_owned(),
    ] {
        let told = warnings(&text);
        assert!(told.len() == 1 && told[0].contains("voipd.toml holds a secret"), "{text}: {told:?}");
    }
    assert!(warnings(&format!("{ACCOUNT}# password = \"x\"\n")).is_empty());
}

#[test]
fn a_password_file_is_found_beside_the_configuration_and_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("voipd.toml");
    write(&file, &format!("{ACCOUNT}password-file = \"secret\"\n"), 0o644);
    write(&directory.path().join("secret"), "hunter2\n", 0o604);
    let loaded = load(Some(&file), Scope::System).unwrap();
    assert_eq!(loaded.config.accounts[0].password.as_ref().unwrap().expose(), "hunter2");
    assert!(loaded.warnings[0].contains("secret"), "{:?}", loaded.warnings);
    write(&directory.path().join("secret"), "hunter2\n", 0o600);
    assert!(load(Some(&file), Scope::System).unwrap().warnings.is_empty());
}
