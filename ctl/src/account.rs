//! `voipctl account`: accounts, `org.voipd.Account1` and the account side of `org.voipd.Manager1`.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use voipd_dbus::{AccountSettings, AccountState, names};

use crate::cli::{AccountCommand, AddArgs};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::{Object, object_path};
use crate::output::Output;
use crate::text::table;

pub(crate) async fn run(daemon: &Daemon, out: Output, command: AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Add(args) => add(daemon, out, *args).await,
        AccountCommand::List => list(daemon, out).await,
        AccountCommand::Show(one) => show(daemon, out, &one.account).await,
        AccountCommand::Remove(one) => {
            let path = path_of(daemon, &one.account).await?;
            Ok(daemon.manager().await?.remove_account(&object_path(&path)?).await?)
        }
        AccountCommand::Enable(one) => {
            let path = path_of(daemon, &one.account).await?;
            Ok(daemon.account(&path).await?.enable().await?)
        }
        AccountCommand::Disable(one) => {
            let path = path_of(daemon, &one.account).await?;
            Ok(daemon.account(&path).await?.disable().await?)
        }
        AccountCommand::Register(one) => {
            let path = path_of(daemon, &one.account).await?;
            Ok(daemon.account(&path).await?.register().await?)
        }
        AccountCommand::Unregister(one) => {
            let path = path_of(daemon, &one.account).await?;
            Ok(daemon.account(&path).await?.unregister().await?)
        }
    }
}

async fn path_of(daemon: &Daemon, name: &str) -> Result<String, Failure> {
    Ok(daemon.snapshot().await?.account(name)?.path.clone())
}

async fn add(daemon: &Daemon, out: Output, args: AddArgs) -> Result<(), Failure> {
    let file = |path: &Option<PathBuf>| path.as_deref().map(read_pem).transpose();
    let (tls_ca, tls_certificate, tls_key) =
        (file(&args.tls_ca)?, file(&args.tls_certificate)?, file(&args.tls_key)?);
    let password = read_password(&args)?;
    let relay_password = args.relay_password_file.as_deref().map(read_line).transpose()?;
    let yes_unless = |no: bool| no.then_some(false);
    let mut settings = AccountSettings {
        register: yes_unless(args.no_register),
        enabled: yes_unless(args.disabled),
        allow_md5: yes_unless(args.no_md5),
        name: Some(args.name),
        kind: args.kind,
        address: args.address,
        display_name: args.display_name,
        registrar: args.registrar,
        outbound_proxy: args.outbound_proxy,
        transport: args.transport,
        tls_ca,
        tls_pin: args.tls_pin,
        tls_certificate,
        tls_key,
        auth_user: args.auth_user,
        password,
        realm: args.realm,
        expires: args.expires,
        gruu: args.gruu.then_some(true),
        push_provider: args.push_provider,
        push_prid: args.push_prid,
        push_param: args.push_param,
        contact: args.contact,
        codecs: args.codecs,
        ptime: args.ptime,
        redundancy: args.no_redundancy.then_some(false),
        silence_suppression: args.silence_suppression.then_some(true),
        redirect: args.redirect,
        dtmf: args.dtmf,
        ice: args.ice,
        stun: args.stun,
        relays: args.relays,
        relay_user: args.relay_user,
        relay_password,
        allow_from: args.allow_from,
        ..AccountSettings::default()
    };
    args.dial_plan.add_to(&mut settings);
    let path = daemon.manager().await?.add_account(&settings).await?;
    match out.json {
        true => out.document(&json!({"path": path.as_str(), "number": names::account_number(path.as_str())})),
        false => out.line(path.as_str()),
    }
}

/// PEM text goes over the bus, not the name of its file: voipd reads no files for its callers.
fn read_pem(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
}

/// The first line of a file: passwords are no arguments, since every user sees those.
fn read_line(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => {
            Err(Failure::failed(format!("there is no password in the first line of {}.", path.display())))
        }
    }
}

/// The password from the place that was asked for. It never is an argument: every user sees those.
fn read_password(args: &AddArgs) -> Result<Option<String>, Failure> {
    let some = |password: String| Some(password).filter(|p| !p.is_empty());
    if args.password_stdin {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.map_err(|error| {
            Failure::failed(format!("cannot read the password from standard input: {error}"))
        })?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(Failure::failed("there is no password in the first line of standard input."));
        }
        return Ok(some(password.to_owned()));
    }
    let asks = !args.no_password && args.kind.as_deref() != Some("echo") && std::io::stdin().is_terminal();
    if !asks {
        return Ok(None);
    }
    let whose = args.address.as_deref().unwrap_or(&args.name);
    let prompt = format!("Password for {} (empty for none): ", crate::text::clean(whose));
    let password = rpassword::prompt_password(prompt);
    Ok(some(password.map_err(|error| Failure::failed(format!("cannot read the password: {error}")))?))
}

async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let mut accounts = daemon.snapshot().await?.accounts;
    daemon.add_retries(&mut accounts).await?;
    match out.json {
        true => out.document(&accounts.iter().map(Object::to_json).collect::<Value>()),
        false => out.lines(&accounts_table(&accounts)),
    }
}

/// The table of `account list` and `status`.
pub(crate) fn accounts_table(accounts: &[Object]) -> Vec<String> {
    let row = |account: &Object| {
        vec![
            account.text("Name").to_owned(),
            account.text("Kind").to_owned(),
            account.text("Origin").to_owned(),
            account.text("State").to_owned(),
            account.text("Address").to_owned(),
            detail(account),
        ]
    };
    table(
        &["ACCOUNT", "KIND", "ORIGIN", "STATE", "ADDRESS", ""],
        &accounts.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Why a registration fails and when it is tried again.
fn detail(account: &Object) -> String {
    let mut parts = Vec::new();
    if account.account_state() != Some(AccountState::Registered) {
        let (reason, status) = (account.text("Reason"), account.number("SipStatus"));
        match (reason, status) {
            ("", _) => {}
            (reason, 0) => parts.push(reason.to_owned()),
            (reason, status) => parts.push(format!("{reason} ({status})")),
        }
        match account.number("RetryIn") {
            0 => {}
            seconds => parts.push(format!("next try in {seconds} s")),
        }
    }
    parts.join(", ")
}

async fn show(daemon: &Daemon, out: Output, name: &str) -> Result<(), Failure> {
    let mut snapshot = daemon.snapshot().await?;
    daemon.add_retries(&mut snapshot.accounts).await?;
    let account = snapshot.account(name)?;
    match out.json {
        true => out.document(&account.to_json()),
        false => out.lines(&description(account)),
    }
}

fn description(account: &Object) -> Vec<String> {
    let yes = |key: &str| if account.flag(key) { "yes" } else { "no" };
    let seconds = |key: &str| match account.number(key) {
        0 => String::new(),
        n => format!("{n} s"),
    };
    let status =
        Some(account.number("SipStatus")).filter(|s| *s != 0).map(|s| s.to_string()).unwrap_or_default();
    [
        ("Name", account.text("Name").to_owned()),
        ("Kind", account.text("Kind").to_owned()),
        ("Origin", account.text("Origin").to_owned()),
        ("Path", account.path.clone()),
        ("Enabled", yes("Enabled").to_owned()),
        ("State", account.text("State").to_owned()),
        ("Reason", account.text("Reason").to_owned()),
        ("SIP status", status),
        ("Registration", seconds("Expires")),
        ("Next try in", seconds("RetryIn")),
        ("Address", account.text("Address").to_owned()),
        ("Display name", account.text("DisplayName").to_owned()),
        ("Registers", yes("Registers").to_owned()),
        ("Registrar", account.text("Registrar").to_owned()),
        ("Outbound proxy", account.text("OutboundProxy").to_owned()),
        ("Transport", account.text("Transport").to_owned()),
        ("Security", account.text("Security").to_owned()),
        ("Authentication user", account.text("AuthUser").to_owned()),
        ("Password", if account.flag("HasPassword") { "known" } else { "none" }.to_owned()),
        ("MD5", if account.flag("AllowMd5") { "allowed" } else { "refused" }.to_owned()),
        ("Digest", digest(account)),
        ("Push provider", account.text("PushProvider").to_owned()),
        ("Push service", account.text("PushService").to_owned()),
        ("Public GRUU", account.text("PublicGruu").to_owned()),
        ("Temporary GRUU", account.text("TemporaryGruu").to_owned()),
        ("Associated", account.list("AssociatedAddresses")),
        ("Service route", account.list("ServiceRoute")),
        ("Codecs", account.list("Codecs")),
        ("Pauses", if account.flag("SilenceSuppression") { "not sent" } else { "" }.to_owned()),
        ("Dial plan", account.list("DialPlan")),
        ("ICE", account.text("Ice").to_owned()),
        ("STUN", account.list("Stun")),
        ("Relays", account.list("Relays")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| format!("{:<21}{value}", format!("{key}:")))
    .collect()
}

/// The algorithm in use, with a word about a weak one.
fn digest(account: &Object) -> String {
    match account.text("DigestAlgorithm") {
        weak @ ("MD5" | "MD5-sess") => format!("{weak} (weak)"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn account(properties: Vec<(&str, Variant<'static>)>) -> Object {
        let properties = properties.into_iter().map(|(k, v)| (k.to_owned(), v.try_into().unwrap())).collect();
        Object { path: "/org/voipd/account/2".into(), properties }
    }

    #[test]
    fn a_failed_registration_says_why_and_when_it_goes_on() {
        let failed = account(vec![
            ("Name", "work".into()),
            ("State", "failed".into()),
            ("Reason", "rejected".into()),
            ("SipStatus", 503u16.into()),
            ("RetryIn", 30u32.into()),
        ]);
        assert_eq!(detail(&failed), "rejected (503), next try in 30 s");
        let lines = accounts_table(&[failed]);
        assert!(
            lines[1].starts_with("work") && lines[1].ends_with("rejected (503), next try in 30 s"),
            "{lines:?}"
        );
        assert_eq!(detail(&account(vec![("State", "registered".into()), ("SipStatus", 200u16.into())])), "");
    }

    #[test]
    fn a_description_leaves_out_what_is_not_there() {
        let lines = description(&account(vec![
            ("Name", "work".into()),
            ("Codecs", vec!["opus", "PCMU"].into()),
            ("HasPassword", true.into()),
            ("DigestAlgorithm", "MD5".into()),
        ]));
        assert!(lines.contains(&"Digest:              MD5 (weak)".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Codecs:              opus, PCMU".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Password:            known".to_owned()), "{lines:?}");
        assert!(
            !lines.iter().any(|line| line.starts_with("Registrar") || line.starts_with("SIP status")),
            "{lines:?}"
        );
    }
}
