//! What the daemon's own state means: configuration, scheduling, sound, registrations.

use std::path::PathBuf;
use std::time::SystemTime;

use voipd_agent::AccountView;
use voipd_agent::view::AccountState;

use super::Check;
use crate::api::{AudioView, DeviceView};
use crate::config::{ConfigError, Loaded, Scope, no_file};

/// The configuration as it would be read now.
pub(super) fn configuration(
    named: &Option<PathBuf>,
    scope: Scope,
    loaded: Result<Loaded, ConfigError>,
    read_at: SystemTime,
) -> Check {
    const ID: &str = "configuration";
    let command = match named {
        Some(file) => format!("voipctl --{scope} config check {}", file.display()),
        None => format!("voipctl --{scope} config check"),
    };
    match loaded {
        Err(ConfigError::Unreadable { path, error }) => Check::failed(
            ID,
            format!("the configuration {} cannot be read: {error}", path.display()),
            "voipd runs with what it read before, and does not start again like this: give it a file that it can read",
        ),
        Err(ConfigError::Faulty(faults)) => {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            let more = match faults.len() {
                0 | 1 => String::new(),
                many => format!(", and {} more", many - 1),
            };
            Check::failed(
                ID,
                format!("the configuration has faults: {first}{more}"),
                format!("voipd does not start again like this: mend it, and look with `{command}`"),
            )
        }
        Ok(loaded) => {
            let Some(file) = loaded.file else {
                return Check::ok(ID, no_file(scope));
            };
            if !loaded.warnings.is_empty() {
                return Check::warning(ID, loaded.warnings.join("; "), "do as it says");
            }
            let changed = std::fs::metadata(&file).and_then(|file| file.modified());
            if changed.is_ok_and(|changed| changed > read_at) {
                return Check::warning(
                    ID,
                    format!("{} has changed since voipd read it", file.display()),
                    "restart voipd, so that it takes effect; this ends calls",
                );
            }
            Check::ok(ID, format!("the configuration {} has no faults", file.display()))
        }
    }
}

/// The thread that sound goes through.
pub(super) fn realtime(audio: &AudioView) -> Check {
    const ID: &str = "realtime";
    match audio.scheduling {
        "fifo" | "rtkit" => {
            Check::ok(ID, format!("sound goes through a real-time thread of priority {}", audio.priority))
        }
        _ => Check::warning(
            ID,
            "sound goes through an ordinary thread: it may stutter while the machine is busy",
            audio.scheduling_reason.clone(),
        ),
    }
}

/// The chosen devices; `None` of them: the sound systems do not answer.
pub(super) fn sound(audio: &AudioView, devices: Option<&[DeviceView]>, scope: Scope) -> Vec<Check> {
    let Some(devices) = devices else {
        return vec![Check::failed(
            "sound",
            "the sound system does not say which devices there are",
            "restart it (PipeWire: systemctl --user restart pipewire pipewire-pulse), then look at `voipctl devices`",
        )];
    };
    let mut checks: Vec<Check> = [
        ("input", "the microphone", &audio.input),
        ("output", "the loudspeaker", &audio.output),
        ("ringer", "the ringer", &audio.ringer),
    ]
    .into_iter()
    .map(|(role, what, name)| device(role, what, name, devices, scope))
    .collect();
    if !audio.reason.is_empty() {
        checks.push(Check::failed(
            "sound",
            format!("a call has no sound: {}", audio.reason),
            "choose another device with `voipctl devices select`, or free this one",
        ));
    }
    checks
}

fn device(role: &str, what: &str, name: &str, devices: &[DeviceView], scope: Scope) -> Check {
    let id = format!("sound.{role}");
    let select =
        format!("`voipctl devices` lists them; choose one with `voipctl devices select {role} NAME`");
    if name == "null" {
        return Check::ok(id, format!("{what} is silent, as it was chosen"));
    }
    if name.starts_with("file:") {
        return Check::ok(id, format!("{what} is a file, {name}"));
    }
    let Some(device) = devices.iter().find(|device| device.name == name) else {
        return Check::failed(id, format!("{what} is not there: no device is called '{name}'"), select);
    };
    let fits = if role == "input" { device.input } else { device.output };
    if !fits {
        return Check::failed(id, format!("{what} is '{name}', which cannot be one"), select);
    }
    if !device.available {
        return Check::failed(id, format!("{what}, '{name}', cannot be used: {}", device.reason), select);
    }
    if device.host == "null" {
        let remedy = match scope {
            Scope::System => {
                "if it has one, see that the user voipd is in the group audio; if the sound belongs to a \
                              desktop session, run the session service: systemctl --user start voipd"
            }
            Scope::Session => {
                "if it has one, start the session's sound server: systemctl --user start pipewire \
                               pipewire-pulse"
            }
        };
        return Check::warning(id, format!("{what} is silent: this machine shows no sound device"), remedy);
    }
    Check::ok(id, format!("{what} is {}", device.description))
}

/// The registration.
pub(super) fn account(view: &AccountView) -> Check {
    let name = &view.settings.name;
    let id = format!("account.{name}");
    match view.state {
        AccountState::Disabled => Check::skipped(id, format!("account {name} is not enabled")),
        AccountState::Ready => Check::ok(id, format!("account {name} works without a registration")),
        AccountState::Registered => Check::ok(id, format!("account {name} is registered: calls come in")),
        AccountState::Registering => Check::warning(
            id,
            format!("account {name} is just being registered; the server has not answered yet"),
            "look again in a moment",
        ),
        AccountState::Unregistered => Check::warning(
            id,
            format!("account {name} is not registered: no calls come in"),
            format!("register it: voipctl account register {name}"),
        ),
        AccountState::Failed => {
            let (why, remedy) = failure(view.reason, view.sip_status);
            Check::failed(id, format!("account {name} is not registered: {why}"), remedy)
        }
    }
}

/// What a reason of `Account1.Reason` means, and what to do about it.
fn failure(reason: &str, sip_status: u16) -> (String, &'static str) {
    let (why, remedy) = match reason {
        "credentials" => (
            "the server refuses the user name or the password",
            "correct password and, where the provider gives another user name for it, auth-user",
        ),
        "foreign-realm" => (
            "the server asks for a password of another realm",
            "if it is your provider's, write its name as realm in the account",
        ),
        "weak-digest" => (
            "the server knows nothing better than MD5, which this account does not allow",
            "allow it with allow-md5 = true, if the password is long and used nowhere else",
        ),
        "unknown-digest" => {
            ("the server asks for a proof that voipd does not know", "ask the provider for another one")
        }
        "server-proof" => (
            "whoever answers does not know the password: it is not the server",
            "is the registrar's name right? Somebody may be in between",
        ),
        "rejected" => {
            let why = format!("the server refuses it (SIP status {sip_status})");
            return (why, "is the address right, and the account active at the provider?");
        }
        "timeout" => (
            "the server does not answer",
            "a router may stop SIP over UDP: try transport = \"tcp\" or \"tls\" in the account",
        ),
        "unresolvable" => (
            "the server's name is not found",
            "is it written right, and does this machine reach a name server (/etc/resolv.conf)?",
        ),
        "unreachable" => {
            ("nothing can be sent to the server", "is this machine online? Is the server's port right?")
        }
        "no-network" => (
            "this machine has no network that leads to the server",
            "connect it: the account registers as soon as there is a network",
        ),
        "certificate-expired" => (
            "the server's certificate has expired",
            "check this machine's clock; if it is right, tell the provider",
        ),
        "certificate-not-yet-valid" => {
            ("the server's certificate is not valid yet", "check this machine's clock")
        }
        "certificate-wrong-name" => (
            "the server's certificate is for another name",
            "write the name that stands in the certificate as registrar",
        ),
        "certificate-unknown-issuer" => (
            "the server's certificate is signed by nobody known here",
            "install ca-certificates, or name the server's authority as tls-ca",
        ),
        "certificate-not-pinned" => (
            "the server's certificate is not the pinned one",
            "if the server has a new one, write its fingerprint as tls-pin",
        ),
        "certificate-unfit" => ("the server's certificate cannot be used", "tell the provider"),
        "client-certificate" => (
            "the server wants a certificate of ours that it accepts",
            "name it with tls-certificate and tls-key",
        ),
        "tls-failed" => ("no TLS connection comes about", "is it TLS that the server speaks at this port?"),
        _ => ("it failed", "`voipctl account show` and the log say more"),
    };
    (why.to_owned(), remedy)
}

#[cfg(test)]
mod tests {
    use super::super::CheckState;
    use super::*;
    use crate::api::DeviceState;

    fn audio() -> AudioView {
        AudioView {
            in_use: Default::default(),
            settings: Default::default(),
            input: "default".into(),
            output: "alsa:PCH,0".into(),
            ringer: "null".into(),
            state: DeviceState::Closed,
            reason: String::new(),
            scheduling: "fifo",
            scheduling_reason: String::new(),
            priority: 40,
            memory_locked: true,
        }
    }

    fn card(name: &str, host: &str, reason: &str) -> DeviceView {
        DeviceView {
            name: name.into(),
            description: "Analog".into(),
            host: host.into(),
            input: true,
            output: true,
            default: false,
            available: reason.is_empty(),
            reason: reason.into(),
        }
    }

    #[test]
    fn an_ordinary_thread_is_a_warning_that_says_what_to_do() {
        assert_eq!(realtime(&audio()).state, CheckState::Ok);
        let ordinary =
            AudioView { scheduling: "other", scheduling_reason: "install rtkit".into(), ..audio() };
        let check = realtime(&ordinary);
        assert_eq!((check.state, check.remedy.as_str()), (CheckState::Warning, "install rtkit"));
    }

    #[test]
    fn each_role_is_told_with_who_holds_its_device() {
        let devices =
            [card("default", "pipewire", ""), card("alsa:PCH,0", "alsa", "busy: pipewire (77) holds it")];
        let checks = sound(&audio(), Some(&devices), Scope::System);
        let states: Vec<_> = checks.iter().map(|check| check.state).collect();
        assert_eq!(states, [CheckState::Ok, CheckState::Failed, CheckState::Ok]);
        assert!(checks[1].sentence.ends_with("cannot be used: busy: pipewire (77) holds it"), "{checks:?}");
        assert!(checks[1].remedy.contains("voipctl devices select output NAME"), "{checks:?}");
    }

    #[test]
    fn a_device_that_is_gone_or_of_the_wrong_kind_fails_and_a_silent_machine_is_warned_of() {
        let gone = sound(&audio(), Some(&[card("default", "null", "")]), Scope::Session);
        let states: Vec<_> = gone.iter().map(|check| check.state).collect();
        assert_eq!(states, [CheckState::Warning, CheckState::Failed, CheckState::Ok]);
        let deaf = DeviceView { input: false, ..card("default", "alsa", "") };
        assert_eq!(sound(&audio(), Some(&[deaf]), Scope::Session)[0].state, CheckState::Failed);
        let silent = sound(&audio(), None, Scope::Session);
        assert_eq!((silent.len(), silent[0].state), (1, CheckState::Failed));
        let lost = AudioView { reason: "unplugged".into(), ..audio() };
        let checks = sound(&lost, Some(&[card("default", "alsa", "")]), Scope::Session);
        assert!(checks.iter().any(|check| check.id == "sound" && check.sentence.ends_with("unplugged")));
    }

    #[test]
    fn each_reason_of_the_contract_has_words_and_a_remedy_of_its_own() {
        let (_, xml) = voipd_dbus::XML.iter().find(|(name, _)| *name == voipd_dbus::names::ACCOUNT).unwrap();
        let from = xml.find("<property name=\"Reason\"").unwrap();
        let text = xml[from..].split("org.voipd.Doc.Valid").next().unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let reasons: Vec<&str> = text
            .split(": ")
            .filter_map(|part| part.rsplit(' ').next())
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            .collect();
        assert!(reasons.contains(&"credentials") && reasons.contains(&"tls-failed"), "{reasons:?}");
        for reason in reasons {
            assert_ne!(failure(reason, 403).0, "it failed", "{reason}");
        }
    }

    #[test]
    fn the_configuration_is_judged_as_it_would_be_read_now() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("voipd.toml");
        let judged = |text: &str, read_at| {
            std::fs::write(&file, text).unwrap();
            let named = Some(file.clone());
            let loaded = crate::config::load(Some(&file), Scope::Session);
            configuration(&named, Scope::Session, loaded, read_at)
        };
        let later = SystemTime::now() + std::time::Duration::from_secs(3600);
        assert_eq!(judged("", later).state, CheckState::Ok);
        assert_eq!(judged("", SystemTime::UNIX_EPOCH).state, CheckState::Warning);
        let faulty = judged("[sip]\ntcp = 1\nudp = 2\n", later);
        assert_eq!(faulty.state, CheckState::Failed);
        assert!(
            faulty.sentence.contains("voipd.toml:2:7: sip.tcp") && faulty.sentence.ends_with("and 1 more")
        );
        assert!(faulty.remedy.contains("`voipctl --session config check /"), "{}", faulty.remedy);
        std::fs::remove_file(&file).unwrap();
        let gone = crate::config::load(Some(&file), Scope::Session);
        assert_eq!(configuration(&Some(file), Scope::Session, gone, later).state, CheckState::Failed);
    }
}
