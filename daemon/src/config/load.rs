//! Where the configuration lies, and how safely.

use std::io::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::account::{FileText, Holds};
use super::fields::{Entry, Value};
use super::{Config, ConfigError, Scope, text};

/// A configuration, where it came from, and what to warn of.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file; `None` when there is none and the defaults hold.
    pub file: Option<PathBuf>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
}

/// Reads the configuration. A file that was named must be there; the default one need not.
pub fn load(named: Option<&Path>, scope: Scope) -> Result<Loaded, ConfigError> {
    let default = if named.is_none() { default_path(scope) } else { None };
    let Some(file) = named.or(default.as_deref()) else { return defaults(scope) };
    let text = match read_regular(file, scope) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => return defaults(scope),
        Err(error) => return Err(ConfigError::Unreadable { path: file.to_owned(), error }),
    };
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let exposed = std::cell::RefCell::new(Vec::new());
    // `join` leaves an absolute path as it is.
    let read_file = |path: &Path, holds: Holds| {
        let path = directory.join(path);
        let text = read_regular(&path, scope)?;
        if holds == Holds::Secret && readable_by_others(&path) {
            exposed.borrow_mut().push(path.clone());
        }
        Ok(FileText { path, text })
    };
    let config = text::parse(&text, file, scope, &read_file)?;
    let mut exposed = exposed.into_inner();
    // A secret in the file itself; what other files hold has been looked at above.
    if text::read(&text).iter().any(is_secret) && readable_by_others(file) {
        exposed.push(file.to_owned());
    }
    let warn = |path: &PathBuf| {
        let remedy = match scope {
            Scope::System => format!("as root run {}", for_the_service(path)),
            Scope::Session => format!("run `chmod o-r {}`", path.display()),
        };
        format!("{} holds a secret and can be read by every user: {remedy}", path.display())
    };
    Ok(Loaded { config, file: Some(file.to_owned()), warnings: exposed.iter().map(warn).collect() })
}

/// Where the configuration is looked for when none is named: `/etc/voipd/voipd.toml`, or
/// `voipd/voipd.toml` under `$XDG_CONFIG_HOME` (`~/.config`).
pub fn default_path(scope: Scope) -> Option<PathBuf> {
    match scope {
        Scope::System => Some(PathBuf::from("/etc/voipd/voipd.toml")),
        Scope::Session => Some(user_directory("XDG_CONFIG_HOME", ".config")?.join("voipd/voipd.toml")),
    }
}

/// What is said where there is no file: which one was looked for.
pub fn no_file(scope: Scope) -> String {
    match default_path(scope) {
        Some(path) => format!("there is no {}; the defaults hold", path.display()),
        None => "there is no configuration file; the defaults hold".to_owned(),
    }
}

/// Where the store lies: `$STATE_DIRECTORY` when systemd gives one, else `/var/lib/voipd`, or `voipd` under
/// `$XDG_STATE_HOME` (`~/.local/state`).
pub fn state_directory(scope: Scope) -> Option<PathBuf> {
    // systemd separates several directories by colons; ours is the first.
    let given = std::env::var_os("STATE_DIRECTORY").and_then(|given| std::env::split_paths(&given).next());
    if let Some(first) = given.filter(|path| path.is_absolute()) {
        return Some(first);
    }
    match scope {
        Scope::System => Some(PathBuf::from("/var/lib/voipd")),
        Scope::Session => Some(user_directory("XDG_STATE_HOME", ".local/state")?.join("voipd")),
    }
}

/// The XDG base directories must be absolute; others are ignored, as their specification says.
fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(below_home)))
}

fn defaults(scope: Scope) -> Result<Loaded, ConfigError> {
    let nothing = |_: &Path, _: Holds| Err(ErrorKind::NotFound.into());
    let config = text::parse("", Path::new(""), scope, &nothing)?;
    Ok(Loaded { config, file: None, warnings: Vec::new() })
}

/// What lets the system service read a file, and nobody else but root.
fn for_the_service(path: &Path) -> String {
    let path = path.display();
    format!("`chgrp voipd {path} && chmod 640 {path}`")
}

/// A refusal with its remedy.
fn explained(error: Error, path: &Path, scope: Scope) -> Error {
    if error.kind() != ErrorKind::PermissionDenied {
        return error;
    }
    let remedy = match scope {
        Scope::System => format!(
            "to let the service read it, run as root {}; to look at it yourself, use sudo",
            for_the_service(path)
        ),
        Scope::Session => "let your own user read it".to_owned(),
    };
    Error::new(error.kind(), format!("{error}: {remedy}"))
}

/// Reads a file that is one: a FIFO would hold the daemon up for ever.
fn read_regular(path: &Path, scope: Scope) -> std::io::Result<String> {
    read(path).map_err(|error| explained(error, path, scope))
}

fn read(path: &Path) -> std::io::Result<String> {
    const MOST: u64 = 4 << 20;
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if metadata.len() > MOST {
        return Err(Error::new(ErrorKind::InvalidInput, "it is larger than 4 MiB"));
    }
    std::fs::read_to_string(path)
}

fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Whether an entry, or one within it, is a password or a private key.
fn is_secret(entry: &Entry) -> bool {
    matches!(entry.key.value.as_str(), "password" | "relay-password") || holds_secret(&entry.value.value)
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.contains("PRIVATE KEY-----"),
        Value::List(elements) => elements.iter().any(|element| holds_secret(&element.value)),
        Value::Table(entries) => entries.iter().any(is_secret),
        Value::Number(_) | Value::Flag(_) | Value::Other(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Root, as whom tests may run, is refused nothing.
    #[test]
    fn a_refusal_says_who_must_be_let_read() {
        let refused = || Error::from(ErrorKind::PermissionDenied);
        let path = Path::new("/etc/voipd/home.password");
        let system = explained(refused(), path, Scope::System);
        assert_eq!(system.kind(), ErrorKind::PermissionDenied);
        let remedy = "`chgrp voipd /etc/voipd/home.password && chmod 640 /etc/voipd/home.password`";
        assert!(system.to_string().contains(remedy), "{system}");
        let session = explained(refused(), path, Scope::Session).to_string();
        assert!(session.contains("your own user") && !session.contains("chgrp"), "{session}");
        let gone = explained(ErrorKind::NotFound.into(), path, Scope::System).to_string();
        assert!(!gone.contains("chgrp"), "{gone}");
    }
}
