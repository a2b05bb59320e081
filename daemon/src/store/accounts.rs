//! Accounts as rows. What an account may say is known to the configuration, which reads the rows again.

use rusqlite::{Connection, Row, params};
use voipd_agent::AccountSettings;
use voipd_sip::digest::Secret;

use crate::config::account::{codec_name, from_entries, kind_name, transport_name};
use crate::config::fields::{Entry, Placed, Value};
use crate::tls::material::pin_text;

/// Between realms, which may hold anything but control characters.
const REALM_BREAK: &str = "\n";

/// Writes an account, in place of one with the same name.
pub(super) fn put(connection: &Connection, account: &AccountSettings) -> rusqlite::Result<()> {
    let client = account.tls.client.as_ref();
    let codecs: Vec<&str> = account.codecs.iter().map(|codec| codec_name(*codec)).collect();
    let allow_from: Vec<String> = account.allow_from.iter().map(ToString::to_string).collect();
    connection
        .execute(
            "INSERT OR REPLACE INTO account (name, kind, address, display_name, registrar, outbound_proxy, \
             auth_user, password, realm, register, expires, codecs, ptime, enabled, allow_from, allow_md5, \
             push_provider, push_prid, push_param, gruu, transport, tls_ca, tls_pin, tls_certificate, tls_key) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
            params![
                account.name,
                kind_name(account.kind),
                account.address.as_ref().map(ToString::to_string),
                account.display_name,
                account.registrar.as_ref().map(ToString::to_string),
                account.outbound_proxy.as_ref().map(ToString::to_string),
                account.auth_user,
                account.password.as_ref().map(Secret::expose),
                (!account.realms.is_empty()).then(|| account.realms.join(REALM_BREAK)),
                account.register,
                account.expires,
                codecs.join(" "),
                account.ptime_ms,
                account.enabled,
                allow_from.join(" "),
                account.allow_md5,
                account.push.as_ref().map(|push| &push.provider),
                account.push.as_ref().map(|push| &push.prid),
                account.push.as_ref().and_then(|push| push.param.as_ref()),
                account.gruu,
                account.transport.map(transport_name),
                account.tls.authorities,
                account.tls.pin.as_ref().map(pin_text),
                client.map(|client| &client.chain),
                client.map(|client| client.key.expose()),
            ],
        )
        .map(drop)
}

/// All accounts by name, and the names of those that make no sense with what is wrong.
#[expect(clippy::type_complexity)]
pub(super) fn all(
    connection: &Connection,
) -> rusqlite::Result<(Vec<AccountSettings>, Vec<(String, String)>)> {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    let mut statement = connection.prepare("SELECT * FROM account ORDER BY name")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match from_entries(entries(row)?) {
            Ok(account) => good.push(account),
            Err(faults) => {
                let wrong: Vec<String> =
                    faults.iter().map(|fault| format!("{} {}", fault.key, fault.message)).collect();
                bad.push((row.get("name")?, wrong.join("; ")));
            }
        }
    }
    Ok((good, bad))
}

fn entries(row: &Row<'_>) -> rusqlite::Result<Vec<Entry>> {
    let texts = [
        ("name", "name"),
        ("kind", "kind"),
        ("address", "address"),
        ("display-name", "display_name"),
        ("registrar", "registrar"),
        ("outbound-proxy", "outbound_proxy"),
        ("auth-user", "auth_user"),
        ("password", "password"),
        ("push-provider", "push_provider"),
        ("push-prid", "push_prid"),
        ("push-param", "push_param"),
        ("transport", "transport"),
        ("tls-ca", "tls_ca"),
        ("tls-pin", "tls_pin"),
        ("tls-certificate", "tls_certificate"),
        ("tls-key", "tls_key"),
    ];
    let mut entries = Vec::new();
    for (key, column) in texts {
        let text: Option<String> = row.get(column)?;
        entries.extend(text.map(|text| Entry::new(key, Value::Text(text))));
    }
    for key in ["expires", "ptime"] {
        entries.push(Entry::new(key, Value::Number(row.get(key)?)));
    }
    let flags =
        [("register", "register"), ("enabled", "enabled"), ("allow-md5", "allow_md5"), ("gruu", "gruu")];
    for (key, column) in flags {
        entries.push(Entry::new(key, Value::Flag(row.get(column)?)));
    }
    let element = |word: &str| Placed { value: Value::Text(word.to_owned()), at: None };
    if let Some(realms) = row.get::<_, Option<String>>("realm")? {
        entries.push(Entry::new("realm", Value::List(realms.split(REALM_BREAK).map(element).collect())));
    }
    for (key, column) in [("codecs", "codecs"), ("allow-from", "allow_from")] {
        let text: String = row.get(column)?;
        entries.push(Entry::new(key, Value::List(text.split_ascii_whitespace().map(element).collect())));
    }
    Ok(entries)
}
