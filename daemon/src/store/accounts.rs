//! Accounts as rows. What an account may say is known to the configuration, which reads the rows again.

use rusqlite::{Connection, Row, ToSql, params_from_iter};
use voipd_agent::AccountSettings;
use voipd_sip::digest::Secret;

use crate::config::account::{
    contact_name, dtmf_name, from_entries, kind_name, redirect_name, transport_name,
};
use crate::config::dialplan::{format_name, uri_name};
use crate::config::fields::{Entry, Placed, Value};
use crate::config::ice::ice_name;
use crate::tls::material::pin_text;

/// Between realms, which may hold anything but control characters.
const REALM_BREAK: &str = "\n";

/// Writes an account, in place of one with the same name.
pub(super) fn put(connection: &Connection, account: &AccountSettings) -> rusqlite::Result<()> {
    let columns = columns(account);
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let places = vec!["?"; names.len()];
    let statement =
        format!("INSERT OR REPLACE INTO account ({}) VALUES ({})", names.join(", "), places.join(", "));
    connection.execute(&statement, params_from_iter(columns.iter().map(|(_, value)| value))).map(drop)
}

/// What stands in each column of an account's row.
fn columns(account: &AccountSettings) -> Vec<(&'static str, Box<dyn ToSql + '_>)> {
    let codecs: Vec<&str> = account.codecs.iter().map(|codec| codec.name()).collect();
    let allow_from: Vec<String> = account.allow_from.iter().map(ToString::to_string).collect();
    let client = account.tls.client.as_ref();
    let plan = &account.dial_plan;
    let proxies: Vec<String> = account.outbound_proxies.iter().map(ToString::to_string).collect();
    let rewrite: Vec<String> = plan.rewrite.iter().map(ToString::to_string).collect();
    let login = account.ice.login.as_ref();
    let realms = (!account.realms.is_empty()).then(|| account.realms.join(REALM_BREAK));
    vec![
        ("name", Box::new(&account.name)),
        ("kind", Box::new(kind_name(account.kind))),
        ("address", Box::new(account.address.as_ref().map(ToString::to_string))),
        ("display_name", Box::new(&account.display_name)),
        ("registrar", Box::new(account.registrar.as_ref().map(ToString::to_string))),
        ("outbound_proxy", Box::new((!proxies.is_empty()).then(|| proxies.join(" ")))),
        ("auth_user", Box::new(&account.auth_user)),
        ("password", Box::new(account.password.as_ref().map(Secret::expose))),
        ("realm", Box::new(realms)),
        ("register", Box::new(account.register)),
        ("expires", Box::new(account.expires)),
        ("codecs", Box::new(codecs.join(" "))),
        ("ptime", Box::new(account.ptime_ms)),
        ("enabled", Box::new(account.enabled)),
        ("allow_from", Box::new(allow_from.join(" "))),
        ("allow_md5", Box::new(account.allow_md5)),
        ("push_provider", Box::new(account.push.as_ref().map(|push| &push.provider))),
        ("push_prid", Box::new(account.push.as_ref().map(|push| &push.prid))),
        ("push_param", Box::new(account.push.as_ref().and_then(|push| push.param.as_ref()))),
        ("gruu", Box::new(account.gruu)),
        ("redundancy", Box::new(account.redundancy)),
        ("silence_suppression", Box::new(account.silence_suppression)),
        ("redirect", Box::new(redirect_name(account.redirect))),
        ("dtmf", Box::new(dtmf_name(account.dtmf))),
        ("contact", Box::new(contact_name(account.contact))),
        ("country", Box::new(&plan.country)),
        ("area", Box::new(&plan.area)),
        ("trunk_prefix", Box::new(&plan.trunk_prefix)),
        ("international_prefix", Box::new(&plan.international_prefix)),
        ("outside_prefix", Box::new(&plan.outside_prefix)),
        ("local_digits", Box::new(plan.local_digits)),
        ("rewrite", Box::new(rewrite.join(" "))),
        ("number_format", Box::new(plan.format.map(format_name))),
        ("number_uri", Box::new(uri_name(plan.uri))),
        ("emergency", Box::new(plan.emergency.as_ref().map(|numbers| numbers.join(" ")))),
        ("blocked", Box::new(plan.blocked.join(" "))),
        ("transport", Box::new(account.transport.map(transport_name))),
        ("tls_ca", Box::new(&account.tls.authorities)),
        ("tls_pin", Box::new(account.tls.pin.as_ref().map(pin_text))),
        ("tls_certificate", Box::new(client.map(|client| &client.chain))),
        ("tls_key", Box::new(client.map(|client| client.key.expose()))),
        ("ice", Box::new(ice_name(account.ice.policy))),
        ("stun", Box::new(words(&account.ice.stun))),
        ("relays", Box::new(words(&account.ice.relays))),
        ("relay_user", Box::new(login.map(|login| &login.user))),
        ("relay_password", Box::new(login.map(|login| login.password.expose()))),
    ]
}

fn words(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
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
        ("auth-user", "auth_user"),
        ("password", "password"),
        ("push-provider", "push_provider"),
        ("push-prid", "push_prid"),
        ("push-param", "push_param"),
        ("country", "country"),
        ("area", "area"),
        ("trunk-prefix", "trunk_prefix"),
        ("international-prefix", "international_prefix"),
        ("outside-prefix", "outside_prefix"),
        ("number-format", "number_format"),
        ("number-uri", "number_uri"),
        ("redirect", "redirect"),
        ("dtmf", "dtmf"),
        ("contact", "contact"),
        ("transport", "transport"),
        ("tls-ca", "tls_ca"),
        ("tls-pin", "tls_pin"),
        ("tls-certificate", "tls_certificate"),
        ("tls-key", "tls_key"),
        ("ice", "ice"),
        ("relay-user", "relay_user"),
        ("relay-password", "relay_password"),
    ];
    let mut entries = Vec::new();
    for (key, column) in texts {
        let text: Option<String> = row.get(column)?;
        entries.extend(text.map(|text| Entry::new(key, Value::Text(text))));
    }
    for key in ["expires", "ptime"] {
        entries.push(Entry::new(key, Value::Number(row.get(key)?)));
    }
    let flags = [
        ("register", "register"),
        ("enabled", "enabled"),
        ("allow-md5", "allow_md5"),
        ("gruu", "gruu"),
        ("redundancy", "redundancy"),
        ("silence-suppression", "silence_suppression"),
    ];
    for (key, column) in flags {
        entries.push(Entry::new(key, Value::Flag(row.get(column)?)));
    }
    let element = |word: &str| Placed { value: Value::Text(word.to_owned()), at: None };
    if let Some(realms) = row.get::<_, Option<String>>("realm")? {
        entries.push(Entry::new("realm", Value::List(realms.split(REALM_BREAK).map(element).collect())));
    }
    let digits: Option<i64> = row.get("local_digits")?;
    entries.extend(digits.map(|digits| Entry::new("local-digits", Value::Number(digits))));
    let lists = [
        ("outbound-proxy", "outbound_proxy"),
        ("codecs", "codecs"),
        ("allow-from", "allow_from"),
        ("rewrite", "rewrite"),
        ("emergency", "emergency"),
        ("blocked", "blocked"),
        ("stun", "stun"),
        ("relays", "relays"),
    ];
    for (key, column) in lists {
        let text: Option<String> = row.get(column)?;
        // Not there: as usual. Empty: none.
        let Some(text) = text else { continue };
        entries.push(Entry::new(key, Value::List(text.split_ascii_whitespace().map(element).collect())));
    }
    Ok(entries)
}
