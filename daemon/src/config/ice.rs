//! The keys of an account about the way of its media: `ice`, `stun`, `relays`, `relay-user`, `relay-password`.

use std::path::Path;

use voipd_agent::ice_settings::{IcePolicy, IceSettings, MAX_SERVERS, RelayLogin};
use voipd_sip::digest::Secret;

use super::account::{Holds, ReadFile, limited};
use super::fields::Fields;

/// The policy as it is written.
pub fn ice_name(policy: IcePolicy) -> &'static str {
    match policy {
        IcePolicy::Auto => "auto",
        IcePolicy::Off => "off",
        IcePolicy::Relay => "relay",
    }
}

/// Without `read_file` there is no key `relay-password-file`.
pub(super) fn read(fields: &mut Fields<'_>, read_file: Option<ReadFile<'_>>) -> IceSettings {
    let policy = fields.parse("ice", |text| {
        let all = [IcePolicy::Auto, IcePolicy::Off, IcePolicy::Relay];
        let known = all.into_iter().find(|policy| ice_name(*policy) == text);
        known.ok_or_else(|| format!("is '{text}': write \"auto\", \"off\" or \"relay\""))
    });
    let policy = policy.unwrap_or_default();
    let names_relays = fields.has("relays");
    let stun = fields.parse_list("stun", |text| text.parse().map_err(|error| format!("holds {error}")));
    let relays = fields.parse_list("relays", |text| text.parse().map_err(|error| format!("holds {error}")));
    let (stun, relays) = (stun.unwrap_or_default(), relays.unwrap_or_default());
    let has_user = fields.has("relay-user");
    let has_password = fields.has("relay-password") || fields.has("relay-password-file");
    let user = fields.parse("relay-user", limited);
    let password = password(fields, read_file);
    for (key, count) in [("stun", stun.len()), ("relays", relays.len())] {
        if count > MAX_SERVERS {
            fields.reject(key, format!("names {count} servers: name {MAX_SERVERS} at most"));
        }
    }
    if !relays.is_empty() && !has_user {
        fields.reject("relay-user", "is missing: write the user name that the relays know");
    }
    if has_user && !has_password {
        fields.reject("relay-password", "is missing: write the password that goes with \"relay-user\"");
    }
    // An empty list is no oversight: they are lent by a meeting point.
    if policy == IcePolicy::Relay && !names_relays {
        fields.reject(
            "relays",
            "is missing: with ice = \"relay\" nothing else is used; name at least one, or write [] where a meeting \
             point lends its own",
        );
    }
    let login = user.zip(password).map(|(user, password)| RelayLogin { user, password });
    IceSettings { policy, stun, relays, login, lent: Vec::new() }
}

fn password(fields: &mut Fields<'_>, read_file: Option<ReadFile<'_>>) -> Option<Secret> {
    let given = fields.parse("relay-password", |text| limited(text).map(Secret::new));
    let Some(read_file) = read_file else { return given };
    let from_file = fields.parse("relay-password-file", |path| {
        let file = read_file(Path::new(path), Holds::Secret);
        let text = file.map_err(|error| format!("cannot be read: {path}: {error}"))?.text;
        let wrong = |wrong| format!("names {path}, whose text {wrong}");
        super::account::only_line(&text, path).and_then(|line| limited(line).map(Secret::new).map_err(wrong))
    });
    if given.is_some() && from_file.is_some() {
        fields.reject("relay-password-file", "is there beside \"relay-password\": remove one of them");
    }
    given.or(from_file)
}
