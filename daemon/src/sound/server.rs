//! The sound servers of the user's session: whether one answers, without starting it or waiting for it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::cards::Cards;
use super::name::HostKind;

/// Bytes that every PulseAudio client must send as its cookie, whether or not the server looks at them.
const COOKIE_LENGTH: u64 = 256;

/// Where the sockets of the sound servers are, taken from the environment as the client libraries do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Servers {
    pulse: Option<PathBuf>,
    pipewire: Option<PathBuf>,
}

impl Servers {
    pub(super) fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        let pulse = match variable("PULSE_SERVER") {
            Some(server) => server.strip_prefix("unix:").map(PathBuf::from),
            None => variable("PULSE_RUNTIME_PATH")
                .map(|path| Path::new(&path).join("pulse/native"))
                .or_else(|| runtime.as_ref().map(|path| path.join("pulse/native"))),
        };
        let remote = variable("PIPEWIRE_REMOTE").unwrap_or_else(|| "pipewire-0".to_owned());
        let pipewire = match variable("PIPEWIRE_RUNTIME_DIR").map(PathBuf::from).or(runtime) {
            _ if remote.starts_with('/') => Some(PathBuf::from(remote)),
            directory => directory.map(|directory| directory.join(remote)),
        };
        Self { pulse, pipewire }
    }

    /// Whether the server takes connections now; if not, why, in words. Hangs with a server that takes none any more.
    pub(super) fn reach(&self, host: HostKind) -> Result<(), String> {
        let socket = match host {
            HostKind::Alsa => return Ok(()),
            HostKind::PulseAudio => self.pulse.as_ref(),
            HostKind::PipeWire if cfg!(feature = "pipewire") => self.pipewire.as_ref(),
            HostKind::PipeWire => return Err("this voipd was built without PipeWire".to_owned()),
        };
        let socket = socket.ok_or_else(|| format!("{host} does not run for this user"))?;
        UnixStream::connect(socket).map_err(|error| unreachable_words(host, socket, &error))?;
        Ok(())
    }

    /// What a server that was reached asks of its clients; if it cannot be had, why, in words.
    pub(super) fn prepare(&self, host: HostKind) -> Result<(), String> {
        match host {
            HostKind::PulseAudio => {
                ensure_cookie(std::env::var_os("PULSE_COOKIE").map(PathBuf::from), std::env::home_dir())
            }
            HostKind::Alsa | HostKind::PipeWire => Ok(()),
        }
    }
}

/// Where `default` leads: to the user's sound server that runs, else to ALSA if it has cards or a configuration made for
/// this process, else nowhere.
pub(super) fn default_host(cards: &Cards, runs: impl Fn(HostKind) -> bool) -> Option<HostKind> {
    let server = [HostKind::PulseAudio, HostKind::PipeWire].into_iter().find(|kind| runs(*kind));
    let has_alsa = || !cards.pcms().is_empty() || std::env::var_os("ALSA_CONFIG_PATH").is_some();
    server.or_else(|| has_alsa().then_some(HostKind::Alsa))
}

fn unreachable_words(host: HostKind, socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("{host} does not run for this user ({socket} is not there)"),
        io::ErrorKind::ConnectionRefused => format!("{host} does not run (nobody listens on {socket})"),
        io::ErrorKind::PermissionDenied => format!("{host} belongs to another user ({socket})"),
        _ => format!("{host} cannot be reached: {socket}: {error}"),
    }
}

/// Makes sure that there is a cookie to send: a client without one is thrown out even where none is asked for. As
/// PulseAudio's own clients do, the first one makes it.
fn ensure_cookie(variable: Option<PathBuf>, home: Option<PathBuf>) -> Result<(), String> {
    let home = home.ok_or("PulseAudio needs a home folder for its cookie: set HOME")?;
    let usual = home.join(".config/pulse/cookie");
    let candidates = variable.into_iter().chain([usual.clone(), home.join(".pulse-cookie")]);
    let Some(found) = candidates.into_iter().find(|path| path.exists()) else {
        return match make_cookie(&usual) {
            // Another thread or another client was faster: its cookie is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(format!("PulseAudio's cookie {} cannot be made: {error}", usual.display())),
            Ok(()) => Ok(()),
        };
    };
    match fs::metadata(&found) {
        Ok(data) if data.len() == COOKIE_LENGTH => Ok(()),
        Ok(data) => Err(format!(
            "PulseAudio's cookie {} has {} bytes instead of {COOKIE_LENGTH}: delete it",
            found.display(),
            data.len()
        )),
        Err(error) => Err(format!("PulseAudio's cookie {} cannot be read: {error}", found.display())),
    }
}

/// The cookie appears whole: who looks for it meanwhile finds none or all of it.
fn make_cookie(path: &Path) -> io::Result<()> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut cookie = [0; COOKIE_LENGTH as usize];
    fs::File::open("/dev/urandom")?.read_exact(&mut cookie)?;
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("voipd-{}-{number}", std::process::id()));
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let linked = file.and_then(|mut file| file.write_all(&cookie)).and_then(|()| fs::hard_link(&new, path));
    _ = fs::remove_file(&new);
    linked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn servers(variables: &[(&str, &str)]) -> Servers {
        Servers::of(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn sockets_are_found_as_the_clients_find_them() {
        let found = servers(&[("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(found.pulse, Some("/run/user/7/pulse/native".into()));
        assert_eq!(found.pipewire, Some("/run/user/7/pipewire-0".into()));
        let found = servers(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("PULSE_SERVER", "tcp:nas:4713")]);
        assert_eq!(found.pulse, None);
        let found = servers(&[("PULSE_SERVER", "unix:/x"), ("PIPEWIRE_REMOTE", "/y")]);
        assert_eq!((found.pulse, found.pipewire), (Some("/x".into()), Some("/y".into())));
        assert_eq!(servers(&[]), Servers::default());
    }

    #[test]
    fn a_missing_and_a_dead_server_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("native");
        let found = servers(&[("PULSE_SERVER", &format!("unix:{}", socket.display()))]);
        assert!(found.reach(HostKind::PulseAudio).unwrap_err().contains("is not there"));
        drop(UnixListener::bind(&socket).unwrap());
        assert!(found.reach(HostKind::PulseAudio).unwrap_err().contains("nobody listens"));
        assert!(servers(&[]).reach(HostKind::PulseAudio).unwrap_err().contains("does not run for this user"));
    }

    #[test]
    fn whoever_comes_at_the_same_time_finds_the_same_whole_cookie() {
        let home = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let ensure = || {
            start.wait();
            ensure_cookie(None, Some(home.path().to_owned()))
        };
        let ensured = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ensure)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(ensured, vec![Ok(()); 8]);
        let folder = fs::read_dir(home.path().join(".config/pulse")).unwrap();
        assert_eq!(folder.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["cookie"]);
    }

    #[test]
    fn a_cookie_is_made_once_and_a_damaged_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".config/pulse/cookie");
        let ensure = || ensure_cookie(None, Some(home.path().to_owned()));
        ensure().unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(first.len(), 256);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        ensure().unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        fs::write(&path, "short").unwrap();
        assert!(ensure().unwrap_err().contains("has 5 bytes instead of 256"));
    }
}
