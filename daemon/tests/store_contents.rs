//! The store: what it keeps, for whose eyes, and what it does with files that are not as they should be.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

use voipd::api::DeviceRole;
use voipd::config::account::from_entries;
use voipd::config::fields::{Entry, Placed, Value};
use voipd::store::{Contents, Store, StoreError};
use voipd_agent::AccountSettings;
use voipd_sip::digest::Secret;
use voipd_tests::authority::{Authority, Certificate, Validity};

fn account(name: &str) -> AccountSettings {
    let text = |text: &str| Value::Text(text.to_owned());
    let list = |items: &[&str]| {
        Value::List(
            items.iter().map(|item| Placed { value: Value::Text((*item).to_owned()), at: None }).collect(),
        )
    };
    static CERTIFICATE: LazyLock<Certificate> =
        LazyLock::new(|| Authority::new("store").issue(&["alice"], Validity::Good));
    from_entries(vec![
        Entry::new("name", text(name)),
        Entry::new("address", text("sip:alice@example.org")),
        Entry::new("display-name", text("Alice \"A\" O'Hara")),
        Entry::new("registrar", text("sip:192.0.2.1:5070")),
        Entry::new("outbound-proxy", list(&["sip:proxy.example.org;lr", "sip:192.0.2.7"])),
        Entry::new("contact", text("local")),
        Entry::new("transport", text("tls")),
        Entry::new("tls-ca", text(&CERTIFICATE.chain)),
        Entry::new("tls-certificate", text(&CERTIFICATE.chain)),
        Entry::new("tls-key", text(&CERTIFICATE.key)),
        Entry::new("auth-user", text("alice-auth")),
        Entry::new("password", text("pass word'; --")),
        Entry::new("realm", list(&["example.org", "core, of \"example\""])),
        Entry::new("allow-md5", Value::Flag(false)),
        Entry::new("gruu", Value::Flag(true)),
        Entry::new("redundancy", Value::Flag(false)),
        Entry::new("push-provider", text("webpush")),
        Entry::new("push-prid", text("https://push.example.org/a?b=c")),
        Entry::new("push-param", text("key")),
        Entry::new("register", Value::Flag(false)),
        Entry::new("expires", Value::Number(3600)),
        Entry::new("codecs", list(&["PCMA", "opus"])),
        Entry::new("ptime", Value::Number(30)),
        Entry::new("redirect", text("follow")),
        Entry::new("dtmf", text("info")),
        Entry::new("ice", text("relay")),
        Entry::new("stun", list(&["stun:stun.example.org"])),
        Entry::new("relays", list(&["turn:192.0.2.7:443?transport=tcp", "turns:relay.example.org"])),
        Entry::new("relay-user", text("alice")),
        Entry::new("relay-password", text("pass'; --")),
        Entry::new("enabled", Value::Flag(false)),
        Entry::new("allow-from", list(&["192.0.2.0/24", "2001:db8::/32"])),
        Entry::new("country", text("49")),
        Entry::new("area", text("30")),
        Entry::new("trunk-prefix", text("")),
        Entry::new("international-prefix", text("000")),
        Entry::new("outside-prefix", text("0")),
        Entry::new("local-digits", Value::Number(4)),
        Entry::new("rewrite", list(&["7$:+4930", "9:"])),
        Entry::new("number-format", text("national")),
        Entry::new("number-uri", text("phone")),
        Entry::new("emergency", list(&[])),
        Entry::new("blocked", list(&["0900", "+1900"])),
    ])
    .unwrap()
}

/// `Secret` shows itself in no format, so that it is compared by itself.
fn same(a: &AccountSettings, b: &AccountSettings) -> bool {
    let relay_password =
        |account: &AccountSettings| account.ice.login.as_ref().map(|login| login.password.clone());
    format!("{a:?}") == format!("{b:?}")
        && a.password == b.password
        && a.tls == b.tls
        && relay_password(a) == relay_password(b)
}

#[track_caller]
fn reopen(directory: &Path) -> (Store, Contents) {
    Store::open(directory).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("state/voipd");
    let (store, contents) = reopen(&directory);
    assert!(contents.accounts.is_empty() && contents.enabled.is_empty() && !contents.do_not_disturb);
    store.put_account(account("work")).await.unwrap();
    store.put_account(account("gone")).await.unwrap();
    store.set_enabled("work".into(), true).await.unwrap();
    store.set_enabled("gone".into(), true).await.unwrap();
    store.set_enabled("from-config".into(), false).await.unwrap();
    store.remove_account("gone".into()).await.unwrap();
    store.set_device(DeviceRole::Ringer, "old".into()).await.unwrap();
    store.set_device(DeviceRole::Ringer, "alsa:Speaker".into()).await.unwrap();
    for settings in ["volume=5", "volume=80 muted=no"] {
        store.set_device_settings(DeviceRole::Output, "pulseaudio:a b", settings.into()).await.unwrap();
    }
    // Nobody waits for this one: it is made all the same.
    drop(store.set_do_not_disturb(true));
    drop(store.set_instance("urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6".into()));
    drop(store.set_contact_key("0123abcd"));
    drop(store);

    let (store, contents) = reopen(&directory);
    let [kept] = contents.accounts.as_slice() else { panic!("{contents:?}") };
    assert!(same(kept, &account("work")), "{kept:?}");
    assert_eq!(contents.enabled, [("from-config".to_owned(), false), ("work".to_owned(), true)].into());
    assert_eq!((contents.devices.input, contents.devices.ringer), (None, Some("alsa:Speaker".to_owned())));
    let output = (DeviceRole::Output, "pulseaudio:a b".to_owned(), "volume=80 muted=no".to_owned());
    assert_eq!(contents.device_settings, [output]);
    assert!(contents.do_not_disturb);
    assert_eq!(contents.instance.as_deref(), Some("urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6"));
    assert_eq!(contents.contact_key.as_ref().map(Secret::expose), Some("0123abcd"));
    drop(store);
}

#[tokio::test]
async fn accounts_of_which_little_is_said_come_back_as_they_were() {
    let home = tempfile::tempdir().unwrap();
    let entry = |key, text: &str| Entry::new(key, Value::Text(text.to_owned()));
    let echo = from_entries(vec![entry("name", "echo"), entry("kind", "echo")]).unwrap();
    let sip = from_entries(vec![entry("name", "sip"), entry("address", "sip:alice@example.org")]).unwrap();
    let (store, _) = reopen(home.path());
    store.put_account(echo.clone()).await.unwrap();
    store.put_account(sip.clone()).await.unwrap();
    drop(store);
    let (_store, contents) = reopen(home.path());
    let [first, second] = contents.accounts.as_slice() else { panic!("{contents:?}") };
    assert!(same(first, &echo), "{first:?}");
    assert!(same(second, &sip), "{second:?}");
}

/// The first format, as voipd 0.1.0 wrote it.
#[test]
fn a_store_of_the_first_format_is_brought_up_to_date() {
    let home = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(home.path().join("voipd.sqlite")).unwrap();
    old.execute_batch(
        "CREATE TABLE account (name TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, address TEXT, \
         display_name TEXT, registrar TEXT, outbound_proxy TEXT, auth_user TEXT, password TEXT, realm TEXT, \
         register INTEGER NOT NULL, expires INTEGER NOT NULL, codecs TEXT NOT NULL, ptime INTEGER NOT NULL, \
         enabled INTEGER NOT NULL, allow_from TEXT NOT NULL) STRICT; \
         CREATE TABLE enabled (account TEXT NOT NULL PRIMARY KEY, enabled INTEGER NOT NULL) STRICT; \
         CREATE TABLE setting (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT; \
         INSERT INTO account VALUES ('work', 'sip', 'sip:alice@example.org', NULL, NULL, NULL, NULL, 'pw', \
         'example.org', 1, 600, 'opus PCMA', 20, 1, ''); \
         INSERT INTO setting VALUES ('do-not-disturb', 'yes'); \
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    for _ in 0..2 {
        let (store, contents) = reopen(home.path());
        let [kept] = contents.accounts.as_slice() else { panic!("{contents:?}") };
        assert_eq!(
            (kept.name.as_str(), kept.realms.as_slice()),
            ("work", ["example.org".to_owned()].as_slice())
        );
        assert!(kept.allow_md5 && !kept.gruu && kept.push.is_none() && kept.redundancy);
        assert!(contents.do_not_disturb && contents.instance.is_none());
        drop(store);
    }
}

#[tokio::test]
async fn nobody_else_can_read_it_and_removed_passwords_are_wiped() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("voipd");
    // An existing directory and file that are too open are closed first.
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    let file = directory.join("voipd.sqlite");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    let (store, _) = reopen(&directory);
    store.put_account(account("work")).await.unwrap();
    assert_eq!(mode(&directory), 0o700);
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    store.remove_account("work".into()).await.unwrap();
    // Neither in the database nor in its journal, while it is open.
    for entry in std::fs::read_dir(&directory).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"pass word"));
    }
}

#[test]
fn a_shared_directory_is_refused_and_left_as_it_is() {
    let shared = tempfile::tempdir().unwrap();
    std::fs::set_permissions(shared.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    let error = Store::open(shared.path()).unwrap_err();
    assert!(error.to_string().contains("shared with other users"), "{error}");
    assert_eq!(mode(shared.path()), 0o1777);
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = home.path().join("elsewhere");
    std::fs::write(&elsewhere, "").unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o644)).unwrap();
    let directory = home.path().join("voipd");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.join("voipd.sqlite")).unwrap();
    assert!(matches!(Store::open(&directory), Err(StoreError::Place { .. })));
    assert_eq!(mode(&elsewhere), 0o644);
}

#[test]
fn a_second_daemon_is_told_that_the_store_is_in_use() {
    let home = tempfile::tempdir().unwrap();
    let (store, _) = reopen(home.path());
    assert!(matches!(Store::open(home.path()), Err(StoreError::InUse(_))));
    drop(store);
    drop(reopen(home.path()));
}

#[test]
fn damaged_and_newer_files_are_told_apart_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("voipd.sqlite");
    std::fs::write(&file, "this is no database, and it is long enough to be looked at").unwrap();
    let error = Store::open(home.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("this is no database"));

    std::fs::remove_file(&file).unwrap();
    drop(reopen(home.path()));
    let tamper = rusqlite::Connection::open(&file).unwrap();
    tamper.pragma_update(None, "user_version", 99).unwrap();
    drop(tamper);
    match Store::open(home.path()) {
        Err(StoreError::Newer { found: 99, .. }) => {}
        other => panic!("{:?}", other.map(|(_, contents)| contents)),
    }
}

#[tokio::test]
async fn an_account_that_makes_no_sense_costs_only_itself() {
    let home = tempfile::tempdir().unwrap();
    let (store, _) = reopen(home.path());
    store.put_account(account("good")).await.unwrap();
    store.put_account(account("bad")).await.unwrap();
    drop(store);
    let tamper = rusqlite::Connection::open(home.path().join("voipd.sqlite")).unwrap();
    tamper.execute("UPDATE account SET kind = 'skype' WHERE name = 'bad'", []).unwrap();
    drop(tamper);
    let (store, contents) = reopen(home.path());
    assert_eq!(contents.accounts.len(), 1);
    let [(name, wrong)] = contents.unreadable.as_slice() else { panic!() };
    assert_eq!(name, "bad");
    assert!(wrong.contains("kind") && !wrong.contains("pass word"), "{wrong}");
    drop(store);
}

#[tokio::test]
async fn accounts_of_the_second_format_are_kept_and_get_no_dial_plan() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("voipd");
    drop(reopen(&directory));
    let database = rusqlite::Connection::open(directory.join("voipd.sqlite")).unwrap();
    let later = [
        "country",
        "area",
        "trunk_prefix",
        "international_prefix",
        "outside_prefix",
        "local_digits",
        "rewrite",
        "number_format",
        "number_uri",
        "emergency",
        "blocked",
        "redirect",
        "dtmf",
        "transport",
        "tls_ca",
        "tls_pin",
        "tls_certificate",
        "tls_key",
        "ice",
        "stun",
        "relays",
        "relay_user",
        "relay_password",
        "contact",
        "redundancy",
        "silence_suppression",
    ];
    for column in later {
        database.execute_batch(&format!("ALTER TABLE account DROP COLUMN {column}")).unwrap();
    }
    for table in ["friend", "invitation", "contact"] {
        database.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    database
        .execute_batch(
            "INSERT INTO account (name, kind, address, register, expires, codecs, ptime, enabled, allow_from) \
             VALUES ('old', 'sip', 'sip:a@example.org', 1, 600, 'opus', 20, 1, ''); PRAGMA user_version = 2;",
        )
        .unwrap();
    drop(database);
    let (store, contents) = reopen(&directory);
    let [kept] = contents.accounts.as_slice() else { panic!("{contents:?}") };
    assert_eq!((kept.name.as_str(), &kept.dial_plan), ("old", &voipd_agent::dialplan::DialPlan::default()));
    store.put_account(account("old")).await.unwrap();
    drop(store);
    assert!(same(&reopen(&directory).1.accounts[0], &account("old")));
}
