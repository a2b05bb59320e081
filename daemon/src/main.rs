//! voipd: arguments, logging, signals, and the parts put together.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::geteuid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use voipd::bus::{self, BusError};
use voipd::config::{self, Config, RendezvousConfig, Scope};
use voipd::doctor::ConfigSource;
use voipd::driver::{DeviceSetup, Driver, FriendParts, Friends, MappingParts, Parts, unix_micros};
use voipd::network::NetworkWatch;
use voipd::realtime::{self, Policy};
use voipd::rtkit;
use voipd::sound::SoundSystem;
use voipd::store::{Contents, Store};
use voipd::transport::{Resolver, ResolverSettings, Transport, explained};
use voipd::turn_server::Relay;
use voipd::{logging, service};
use voipd_agent::{Agent, AgentConfig};
use voipd_sip::digest::Secret;
use voipd_sip::endpoint;

/// The configuration is wrong (sysexits.h): starting again would not help.
const EX_CONFIG: u8 = 78;
/// Requests from the bus that wait for the driver.
const MAX_REQUESTS: usize = 64;
/// Files that may be open at once, where the system allows so many.
const MOST_FILES: rlim_t = 65_536;

/// The telephone of a Linux machine: a headless VoIP daemon.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Serve the whole machine on the system bus (the default)
    #[arg(long, conflicts_with = "session")]
    system: bool,
    /// Serve one user on the session bus
    #[arg(long)]
    session: bool,
    /// Read this file instead of /etc/voipd/voipd.toml or ~/.config/voipd/voipd.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep accounts and choices in this directory
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
    /// Read the configuration, say what is wrong with it, and stop
    #[arg(long)]
    check_config: bool,
    /// Log this much: error, warn, info, debug or trace (instead of what the configuration says)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<log::LevelFilter>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scope = if arguments.session { Scope::Session } else { Scope::System };
    let config_source = ConfigSource { named: arguments.config.clone(), scope, read_at: SystemTime::now() };
    let loaded = match config::load(arguments.config.as_deref(), scope) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(if arguments.check_config { 1 } else { EX_CONFIG });
        }
    };
    if arguments.check_config {
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        match &loaded.file {
            Some(file) => println!("{}: no faults", file.display()),
            None => println!("{}", config::no_file(scope)),
        }
        let of_the_service = scope == Scope::System && arguments.config.is_none() && loaded.file.is_some();
        if of_the_service && geteuid().is_root() {
            println!(
                "root has read it; whether the service's user may read it, too, and the files that it names, says \
                 `sudo -u voipd voipd --check-config`"
            );
        }
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log_level.unwrap_or(loaded.config.log_level));
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    allow_many_files();
    let Some(state) = arguments.state_directory.or_else(|| config::state_directory(scope)) else {
        return fail("there is no directory to keep accounts in: set HOME, or use --state-directory");
    };
    match run(loaded.config, config_source, &state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// A call has 4 to 19 sockets, signalling and relays have hundreds of connections: the 1024 files that a process may usually
/// have at first are too few. They are so few for programs that use select(2), which nothing here does.
fn allow_many_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(MOST_FILES)), hard));
    if let Err(error) = raised {
        log::warn!("many calls at once may not find enough files: {error}");
    }
}

fn fail(sentence: &str) -> ExitCode {
    complain(sentence);
    ExitCode::FAILURE
}

/// Says why the daemon does not run, where the one who started it looks.
fn complain(sentence: &str) {
    // Under systemd, sd-daemon(3)'s prefix makes it an error in the journal.
    let level = if std::env::var_os("JOURNAL_STREAM").is_some() { "<3>" } else { "" };
    eprintln!("{level}voipd: {sentence}");
}

fn run(config: Config, config_source: ConfigSource, state: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (store, contents) = Store::open(state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, config_source, store, contents))
}

async fn serve(
    mut config: Config,
    config_source: ConfigSource,
    store: Store,
    mut contents: Contents,
) -> Result<(), Box<dyn std::error::Error>> {
    let scope = config_source.scope;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let transport = Transport::bind(&config.sip)?;
    let resolver_settings = ResolverSettings {
        name_servers: config.sip.name_servers.clone(),
        transports: vec![endpoint::Transport::Udp, endpoint::Transport::Tcp, endpoint::Transport::Tls],
        seed: random_seed()?,
    };
    let (requests, incoming_requests) = mpsc::channel(MAX_REQUESTS);
    let (updates, outgoing_updates) = mpsc::unbounded_channel();
    let (controller, mut realtime) = realtime::start(config.calls.ports())?;
    rtkit::ask(&mut realtime).await;
    let network = NetworkWatch::start().await;
    let scheduling = realtime.scheduling();
    let separator = if scheduling.reason.is_empty() { "" } else { ": " };
    let level = if scheduling.policy == Policy::Other { log::Level::Warn } else { log::Level::Info };
    log::log!(level, "audio thread: {}{separator}{}", scheduling.policy.name(), scheduling.reason);
    let key = match config.rendezvous {
        Some(_) => meeting_key(&mut contents, &store).await?,
        None => Secret::new(""),
    };
    // Who sees the name on the bus sees the accounts, too: from here on nothing waits until the driver runs.
    let bus = bus::connect(scope, contents.do_not_disturb, requests, outgoing_updates).await?;

    let mappings = MappingParts::new(&config, random_seed()?, contents.port_mappings.clone());
    let kept = std::mem::take(&mut contents.friends);
    let product = &config.sip.user_agent;
    let relay = start_relay(config.rendezvous.as_ref())?;
    let parts = FriendParts { config: &config, product, kept, relay, key, seed: random_seed()? };
    let friends = Friends::new(parts, &transport);
    let agent = make_agent(&config, contents, &store)?;
    let parts = Parts {
        agent: agent.0,
        transport,
        resolver: Resolver::new(resolver_settings),
        controller,
        realtime,
        sound: SoundSystem::start()?,
        sockets: voipd::programs::directory(scope),
        devices: agent.1,
        tone_files: std::mem::take(&mut config.audio.tone_files),
        rtp: config.rtp,
        nat: config.nat,
        mappings,
        neighbours: config.neighbours,
        seed: random_seed()?,
        config: config_source,
        friends,
        store,
        network,
        updates,
    };
    let mut bus_lost = false;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            // Nobody can steer the calls any more; they end as on a stop, so that no peer is left talking.
            () = bus.lost() => bus_lost = true,
        }
        service::stopping();
    };
    let ready = format!("{scope} bus");
    service::ready(&ready);
    log::info!("voipd {} serves the {scope} bus", env!("CARGO_PKG_VERSION"));
    Driver::run(parts, incoming_requests, stop).await;
    if bus_lost {
        return Err(Box::new(BusError::Lost));
    }
    bus.close().await;
    Ok(())
}

/// What the dialogs of a meeting point are named with: drawn once, and kept.
async fn meeting_key(contents: &mut Contents, store: &Store) -> std::io::Result<Secret> {
    if let Some(key) = contents.meeting_key.take() {
        return Ok(key);
    }
    let key = new_key()?;
    if let Err(error) = store.set_meeting_key(&key).await {
        log::warn!("calls by way of this meeting point will not outlive a restart of it: {error}");
    }
    Ok(Secret::new(key))
}

/// The relay of a meeting point that lends one. Without it there is less, and not nothing.
fn start_relay(point: Option<&RendezvousConfig>) -> std::io::Result<Option<Relay>> {
    let Some((point, relay)) = point.and_then(|point| Some((point, point.relay.clone()?))) else {
        return Ok(None);
    };
    let [a, b, c, d, e, f, g, h, ..] = random_seed()?;
    let seed = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let listen = relay.listen;
    match Relay::start(relay, point.host.to_string(), seed) {
        Ok(relay) => Ok(Some(relay)),
        Err(error) => {
            let error = explained(listen, error);
            log::error!(
                "the relay cannot be reached at {listen} ({error}): set relay-address in [rendezvous] to an address of \
                 this machine and a port that is free"
            );
            Ok(None)
        }
    }
}

/// The agent with all its accounts, and the chosen devices.
fn make_agent(
    config: &Config,
    contents: Contents,
    store: &Store,
) -> Result<(Agent, DeviceSetup), Box<dyn std::error::Error>> {
    let now = Instant::now();
    let agent_config = AgentConfig {
        tones: config.audio.tones,
        product: config.sip.user_agent.clone(),
        instance: Some(instance(contents.instance, store)?),
        contact_key: Some(contact_key(contents.contact_key, store)?),
        max_calls: config.calls.max,
        ring_timeout: config.calls.ring_timeout,
        media_timeout: config.calls.media_timeout,
        network_timeout: config.calls.network_timeout,
        session_timer: config.calls.session_timer,
    };
    let mut agent = Agent::new(agent_config, random_seed()?, now, unix_micros());
    for unreadable in &contents.unreadable {
        log::warn!("the stored account '{}' is left out: {}", unreadable.0, unreadable.1);
    }
    let configured = std::iter::once(config.direct.clone()).chain(config.accounts.iter().cloned());
    for mut settings in configured.chain(contents.accounts) {
        if let Some(enabled) = contents.enabled.get(&settings.name) {
            settings.enabled = *enabled;
        }
        let name = settings.name.clone();
        if let Err(error) = agent.add_account(now, settings) {
            log::warn!("the stored account '{name}' is left out: {error}");
        }
    }
    agent.set_do_not_disturb(now, contents.do_not_disturb);
    let devices = contents.devices;
    let audio = &config.audio;
    let kept = contents.device_settings;
    let names = [
        devices.input.unwrap_or_else(|| audio.input.clone()),
        devices.output.unwrap_or_else(|| audio.output.clone()),
        devices.ringer.unwrap_or_else(|| audio.ringer.clone()),
    ];
    Ok((agent, DeviceSetup { names, defaults: audio.defaults, kept, fallback: audio.fallback }))
}

/// What names this installation to registrars: drawn once, and kept.
fn instance(kept: Option<String>, store: &Store) -> std::io::Result<String> {
    if let Some(urn) = kept {
        return Ok(urn);
    }
    let urn = voipd::instance::urn(random_seed()?);
    // A store that cannot be written says so with the next change that someone waits for.
    drop(store.set_instance(urn.clone()));
    Ok(urn)
}

/// What the accounts' Contacts are made of: drawn once, and kept.
fn contact_key(kept: Option<Secret>, store: &Store) -> std::io::Result<Secret> {
    if let Some(key) = kept {
        return Ok(key);
    }
    let key = new_key()?;
    // As for the name of the installation.
    drop(store.set_contact_key(&key));
    Ok(Secret::new(key))
}

/// A key as text.
fn new_key() -> std::io::Result<String> {
    Ok(random_seed()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// 256 bits from the kernel; everything random in the daemon grows from them.
fn random_seed() -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
