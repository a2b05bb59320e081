//! The daemon under test: started with a configuration, a state directory and a bus of its own, and used over that bus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{File, Permissions};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use voipd_dbus::{
    AcceptOptions, AccountProxy, AudioProxy, CallProxy, CallStatisticsProxy, ConferenceOptions, DialOptions,
    Figures, ManagerProxy, NatProxy, ResumeOptions, names,
};
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath};

use crate::bus::Bus;
use crate::host::{Wire, program_in};
use crate::netlab::Namespace;
use crate::process::{Process, program, run};
use crate::{Lab, SOON, speech, until};

/// A configuration: sections with their lines.
#[derive(Clone, Debug)]
pub struct Config {
    sections: BTreeMap<&'static str, Vec<String>>,
    accounts: Vec<String>,
    environment: Vec<(&'static str, String)>,
    address: Ipv4Addr,
    /// The far host that the telephone is on.
    host: Option<String>,
}

impl Config {
    /// A telephone at an address, on the usual ports, without sound devices, that takes calls from everywhere.
    pub fn at(address: Ipv4Addr) -> Self {
        Self::anywhere(address)
            .line("sip", format!("listen = [\"{address}:5060\"]"))
            .line("rtp", format!("bind = \"{address}\""))
    }

    /// A telephone that is bound to no address.
    fn anywhere(address: Ipv4Addr) -> Self {
        let config = Self {
            sections: BTreeMap::new(),
            accounts: Vec::new(),
            environment: Vec::new(),
            address,
            host: None,
        };
        config
            .line("rtp", "ports = \"16384-16584\"")
            .line("direct", "allow-from = [\"127.0.0.0/8\", \"198.18.0.0/15\"]")
            .line("audio", "input = \"null\"")
            .line("audio", "output = \"null\"")
            .line("audio", "ringer = \"null\"")
            .line("log", "level = \"debug\"")
    }

    /// A telephone on a far host, else like [`Config::at`].
    pub fn beyond(wire: &Wire) -> Self {
        Self { host: Some(wire.name().to_owned()), ..Self::at(wire.there) }
    }

    /// A telephone on a host of the NAT laboratory, which has it for itself; else like [`Config::at`].
    pub fn on(host: &Namespace, address: Ipv4Addr) -> Self {
        Self { host: Some(host.name().to_owned()), ..Self::anywhere(address) }
    }

    /// A telephone on a far host whose addresses change: it listens on all of them.
    pub fn roaming(wire: &Wire) -> Self {
        Self::beyond(wire).line("sip", "listen = [\"0.0.0.0:5060\"]").without("rtp", "bind")
    }

    /// Leaves a key of a section at its default.
    pub fn without(mut self, section: &'static str, key: &str) -> Self {
        let lines = self.sections.entry(section).or_default();
        lines.retain(|line| line.split('=').next().is_none_or(|name| name.trim() != key));
        self
    }

    /// Sets a key of a section; a later line for a key replaces an earlier one.
    pub fn line(mut self, section: &'static str, line: impl Into<String>) -> Self {
        let line = line.into();
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
        let lines = self.sections.entry(section).or_default();
        lines.retain(|old| key(old) != key(&line));
        lines.push(line);
        self
    }

    /// Adds an account: the lines of its section.
    pub fn account(mut self, lines: impl Into<String>) -> Self {
        self.accounts.push(lines.into());
        self
    }

    /// Sets a variable of the daemon's environment.
    pub fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (section, lines) in &self.sections {
            writeln!(text, "[{section}]\n{}\n", lines.join("\n")).unwrap();
        }
        for lines in &self.accounts {
            writeln!(text, "[[account]]\n{lines}\n").unwrap();
        }
        text
    }
}

/// Path of a program of the workspace; panics with what to do when it was not built.
pub fn built(name: &str) -> PathBuf {
    let path = speech::programs().join(name);
    assert!(path.exists(), "{} is not there: build the workspace first (make test does)", path.display());
    path
}

/// A running daemon.
#[derive(Debug)]
pub struct Voipd {
    name: String,
    process: Process,
    bus: Bus,
    /// A client's connection to the bus.
    pub connection: Connection,
    /// Where it listens.
    pub address: Ipv4Addr,
    directory: PathBuf,
    host: Option<String>,
    environment: Vec<(&'static str, String)>,
    may_log_errors: bool,
}

impl Voipd {
    /// Starts a daemon and waits until it can be used. Its files lie in a directory of that name in the lab.
    pub async fn start(lab: &Lab, name: &str, config: Config) -> Self {
        let directory = lab.directory(name);
        let file = directory.join("voipd.toml");
        std::fs::write(&file, config.text()).unwrap();
        // It may hold passwords, and voipd warns of such a file.
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let bus = Bus::start(&directory).await;
        let connection = bus.connect().await;
        let process = start(name, &directory, &bus.address(), config.host.as_deref(), &config.environment);
        let mut voipd = Self {
            name: name.to_owned(),
            process,
            bus,
            connection,
            address: config.address,
            directory,
            host: config.host,
            environment: config.environment,
            may_log_errors: false,
        };
        voipd.ready().await;
        voipd
    }

    async fn ready(&mut self) {
        let bus = zbus::fdo::DBusProxy::new(&self.connection).await.unwrap();
        let end = std::time::Instant::now() + SOON;
        loop {
            let owned = bus.name_has_owner(names::BUS_NAME.try_into().unwrap()).await.unwrap();
            if owned && self.manager().await.version().await.is_ok() {
                return;
            }
            if let Some(status) = self.process.ended() {
                panic!("{} ended ({status}) instead of serving:\n{}", self.name, self.process.output());
            }
            assert!(
                std::time::Instant::now() < end,
                "{} is not on the bus:\n{}",
                self.name,
                self.process.output()
            );
            crate::pause(0.01).await;
        }
    }

    /// Ends the daemon and starts it anew, with the same configuration, state and bus.
    pub async fn restart(&mut self) {
        assert!(self.process.stop().await.success());
        let host = self.host.as_deref();
        self.process = start(&self.name, &self.directory, &self.bus.address(), host, &self.environment);
        self.ready().await;
    }

    /// This test provokes what the daemon logs as an error.
    pub fn may_log_errors(&mut self) {
        self.may_log_errors = true;
    }

    /// The daemon's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Address of its bus.
    pub fn bus(&self) -> String {
        self.bus.address()
    }

    /// Its directory: configuration, state, log.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends the daemon at once, as a power cut does.
    pub fn cut(&mut self) {
        self.process.cut();
    }

    /// Ends the daemon's bus.
    pub fn lose_bus(&mut self) {
        self.bus.cut();
    }

    /// Ends the daemon as the service manager does; panics unless it ends well and soon.
    pub async fn stop(mut self) {
        let status = self.process.stop().await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// Waits for it to end by itself.
    pub async fn wait(&mut self) -> ExitStatus {
        self.process.wait(SOON).await
    }

    /// The telephone as a whole.
    pub async fn manager(&self) -> ManagerProxy<'static> {
        let builder = ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No);
        builder.build().await.unwrap()
    }

    /// The sound devices.
    pub async fn audio(&self) -> AudioProxy<'static> {
        let builder = AudioProxy::builder(&self.connection).cache_properties(CacheProperties::No);
        builder.build().await.unwrap()
    }

    /// The way through NAT.
    pub async fn nat(&self) -> NatProxy<'static> {
        let builder = NatProxy::builder(&self.connection).cache_properties(CacheProperties::No);
        builder.build().await.unwrap()
    }

    /// The account with a name.
    pub async fn account(&self, name: &str) -> AccountProxy<'static> {
        for path in self.manager().await.accounts().await.unwrap() {
            let builder = AccountProxy::builder(&self.connection).cache_properties(CacheProperties::No);
            let account = builder.path(path).build().await.unwrap();
            if account.name().await.unwrap() == name {
                return account;
            }
        }
        panic!("{} has no account {name}", self.name);
    }

    /// Waits until an account is in a state.
    pub async fn account_is(&self, name: &str, state: &str, limit: Duration) {
        let account = self.account(name).await;
        let mut last = String::new();
        let what = format!("account {name} of {} becomes {state}", self.name);
        let end = std::time::Instant::now() + limit;
        loop {
            let now = account.state().await.unwrap();
            if now == state {
                return;
            }
            if now != last {
                println!("{}: account {name} is {now} {}", self.name, account.reason().await.unwrap());
                last = now;
            }
            assert!(std::time::Instant::now() < end, "waited {limit:?} in vain: {what}; it is {last}");
            crate::pause(0.02).await;
        }
    }

    /// Calls somebody, without sound of one's own.
    pub async fn dial(&self, target: &str) -> Call {
        self.dial_with(target, DialOptions::default()).await
    }

    /// Calls somebody with options.
    pub async fn dial_with(&self, target: &str, options: DialOptions) -> Call {
        let path = self.manager().await.dial(target, &options).await.unwrap();
        Call::at(&self.connection, path).await
    }

    /// Calls somebody, speaks from one file and records to another.
    pub async fn dial_speaking(&self, target: &str, play: &Path, record: &Path) -> Call {
        let options = DialOptions {
            play: Some(reading(play)),
            record: Some(writing(record)),
            ..DialOptions::default()
        };
        self.dial_with(target, options).await
    }

    /// Opens a conference of these calls.
    pub async fn open_conference(&self, calls: &[String], device: &str) -> OwnedObjectPath {
        let calls: Vec<zbus::ObjectPath<'_>> =
            calls.iter().map(|call| call.as_str().try_into().unwrap()).collect();
        let options = ConferenceOptions { device: Some(device.to_owned()) };
        self.manager().await.open_conference(&calls, &options).await.unwrap()
    }

    /// Waits for a call that rings here.
    pub async fn incoming(&self) -> Call {
        until(&format!("{} rings", self.name), SOON, async || {
            for path in self.manager().await.calls().await.unwrap() {
                let call = Call::at(&self.connection, path).await;
                if call.state().await == "incoming" {
                    return Some(call);
                }
            }
            None
        })
        .await
    }

    /// A command of `voipctl`, ready to run.
    pub fn voipctl(&self, arguments: &[&str]) -> Command {
        let mut command = program(built("voipctl"));
        command.args(arguments).env("DBUS_SESSION_BUS_ADDRESS", self.bus());
        // Without a system bus, only the session's daemon is there.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}/none", self.directory.display()));
        command
    }

    /// Runs `voipctl`; panics when it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        run(&mut self.voipctl(arguments))
    }
}

fn start(
    name: &str,
    directory: &Path,
    bus: &str,
    host: Option<&str>,
    environment: &[(&'static str, String)],
) -> Process {
    let mut command = match host {
        Some(host) => program_in(host, built("voipd")),
        None => program(built("voipd")),
    };
    command.arg("--session").arg("--config").arg(directory.join("voipd.toml"));
    command.arg("--state-directory").arg(directory.join("state"));
    command.env("DBUS_SESSION_BUS_ADDRESS", bus).env("HOME", directory).env("XDG_RUNTIME_DIR", directory);
    // Whatever the machine has: a test that wants a sound server names it.
    command.env_remove("PULSE_SERVER").env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    Process::start(name, command, &directory.join("log"))
}

impl Drop for Voipd {
    fn drop(&mut self) {
        if std::thread::panicking() || self.may_log_errors {
            return;
        }
        // "An ERROR in the log always means a bug", and so does a panic.
        let log = self.log();
        let wrong = |line: &&str| line.contains("ERROR") || line.contains("panicked at");
        if let Some(line) = log.lines().find(wrong) {
            panic!("{} has logged a bug: {line}\n{log}", self.name);
        }
    }
}

/// A file to read from, as an option of a call.
pub fn reading(path: &Path) -> zbus::OwnedFd {
    OwnedFd::from(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).into()
}

/// A new file to write to, as an option of a call.
pub fn writing(path: &Path) -> zbus::OwnedFd {
    OwnedFd::from(File::create(path).unwrap()).into()
}

/// A call of a daemon.
#[derive(Debug)]
pub struct Call {
    /// Everything that its interface offers.
    pub proxy: CallProxy<'static>,
    statistics: CallStatisticsProxy<'static>,
}

impl Call {
    async fn at(connection: &Connection, path: OwnedObjectPath) -> Self {
        let builder = CallProxy::builder(connection).cache_properties(CacheProperties::No);
        let proxy = builder.path(path.clone()).build().await.unwrap();
        let builder = CallStatisticsProxy::builder(connection).cache_properties(CacheProperties::No);
        Self { proxy, statistics: builder.path(path).build().await.unwrap() }
    }

    /// Its object path.
    pub fn path(&self) -> String {
        self.proxy.inner().path().to_string()
    }

    /// Its state now.
    pub async fn state(&self) -> String {
        self.proxy.state().await.unwrap()
    }

    /// Waits until it is in a state.
    pub async fn is(&self, state: &str) -> &Self {
        self.is_within(state, SOON).await
    }

    /// Waits until it is in a state, at most this long.
    pub async fn is_within(&self, state: &str, limit: Duration) -> &Self {
        let end = std::time::Instant::now() + limit;
        loop {
            let now = self.state().await;
            if now == state {
                return self;
            }
            let reason = self.proxy.reason().await.unwrap();
            let over = now == "ended" || std::time::Instant::now() > end;
            assert!(!over, "the call should become {state}; it is {now} ({reason})");
            crate::pause(0.01).await;
        }
    }

    /// Waits until it is over and answers why, with the SIP status.
    pub async fn ended(&self) -> (String, u16) {
        self.is("ended").await;
        (self.proxy.end_reason().await.unwrap(), self.proxy.sip_status().await.unwrap())
    }

    /// Answers without sound of one's own.
    pub async fn accept(&self) {
        self.proxy.accept(&AcceptOptions::default()).await.unwrap();
    }

    /// Answers, speaks from one file and records to another.
    pub async fn accept_speaking(&self, play: &Path, record: &Path) {
        let options = AcceptOptions {
            play: Some(reading(play)),
            record: Some(writing(record)),
            ..AcceptOptions::default()
        };
        self.proxy.accept(&options).await.unwrap();
    }

    /// Hangs up and waits until the call is over.
    pub async fn hang_up(&self) {
        self.proxy.hangup().await.unwrap();
        assert_eq!(self.ended().await.0, "local");
    }

    /// How both ends of the way were found that its media takes, this one and the peer's: `host`, `srflx`, `prflx` or
    /// `relay`, and `plain` without ICE. Waits until there is one.
    pub async fn way(&self) -> [String; 2] {
        until("media finds its way", SOON, async || {
            let path = self.proxy.media_path().await.unwrap();
            let text = |key: &str| path.get(key).and_then(|value| value.downcast_ref::<String>().ok());
            match (text("kind")?.as_str(), text("local-type"), text("remote-type")) {
                ("direct" | "reflexive" | "relayed", Some(local), Some(remote)) => Some([local, remote]),
                ("plain", ..) => Some(["plain", "plain"].map(str::to_owned)),
                _ => None,
            }
        })
        .await
    }

    /// Puts the peer on hold and waits until it knows.
    pub async fn hold(&self) {
        self.proxy.hold().await.unwrap();
        self.is("held").await;
    }

    /// Takes the peer off hold and waits until it knows.
    pub async fn resume(&self) {
        self.proxy.resume(&ResumeOptions::default()).await.unwrap();
        self.is("active").await;
    }

    /// Its figures now.
    pub async fn figures(&self) -> Figures {
        Figures::from_dict(&self.statistics.get().await.unwrap())
    }

    /// Panics when packets were lost, late or made up on a wire that loses none.
    pub async fn assert_no_loss(&self, what: &str) {
        let figures = self.figures().await;
        println!("{what}: {figures:?}");
        let sent_and_received = figures.packets_sent > 50 && figures.packets_received > 50;
        assert!(sent_and_received, "{what}: hardly any packets: {figures:?}");
        let troubles = figures.packets_lost + figures.packets_invalid + figures.packets_discarded;
        assert_eq!(troubles, 0, "{what}: {figures:?}");
    }
}
