//! What each section of the configuration may say, and what holds when it says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use voipd_agent::AccountSettings;
use voipd_agent::account::AccountOrigin;
use voipd_audio::tone::Signal;
use voipd_audio::tone::national::Country;

use super::account::{self, ReadFile};
use super::fields::{Entry, Fault, Fields, Placed, Source};
use super::{
    AudioConfig, CallsConfig, Config, RtpConfig, Scope, SipConfig, TlsConfig, nat, rendezvous, security,
};
use crate::api::devices::{DeviceChange, DeviceSettings};
use crate::sound::DeviceName;

/// The port that SIP has (RFC 3261 section 19.1.2).
const SIP_PORT: u16 = 5060;
/// The same over TLS.
const SIPS_PORT: u16 = 5061;
const MOST_SOCKETS: usize = 16;
/// RFC 1035 section 4.2.1.
const DNS_PORT: u16 = 53;
const MOST_NAME_SERVERS: usize = 8;
const RTP_PORTS: RangeInclusive<u16> = 16_384..=32_766;
/// Expedited forwarding (RFC 3246), which RFC 4594 section 4.1 names for telephony.
const DSCP: u32 = 46;
/// More calls would need more ports than an audio engine can have.
const MOST_CALLS: u32 = 1000;
const CALLS: u32 = 64;
const RING_SECONDS: u32 = 120;
const MEDIA_SECONDS: u32 = 20;
const NETWORK_SECONDS: u32 = 60;
/// RFC 4028 section 4 recommends it, and allows 90 at the least.
const SESSION_SECONDS: u32 = 1800;
const SHORTEST_SESSION: u32 = 90;
const USER_AGENT: &str = concat!("voipd/", env!("CARGO_PKG_VERSION"));

/// Reads all sections. `None` when there was a fault.
pub(super) fn read(
    entries: Vec<Entry>,
    scope: Scope,
    read_file: ReadFile<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Config> {
    let mut top = Fields::new("", Source::Toml, None, entries, faults);
    let names = ["sip", "rtp", "audio", "nat", "direct", "calls", "rendezvous", "log"];
    let [sip, rtp, audio, nat, direct, calls, meeting, log] = names.map(|name| top.table(name));
    let accounts = top.tables("account");
    top.finish();

    let sip = read_sip(section("sip", sip, faults), read_file);
    let rtp = read_rtp(section("rtp", rtp, faults));
    let audio = read_audio(section("audio", audio, faults));
    let nat = nat::read(section("nat", nat, faults));
    let direct = account::read_direct(section("direct", direct, faults), scope == Scope::Session, read_file);
    let calls = read_calls(section("calls", calls, faults));
    let meeting = rendezvous::read(section("rendezvous", meeting, faults));
    let log_level = read_log(section("log", log, faults));
    let accounts = read_accounts(accounts, read_file, faults);
    if !faults.is_empty() {
        return None;
    }
    let (direct, neighbours) = direct?;
    let meeting = meeting?;
    Some(Config {
        sip: sip?,
        rtp: rtp?,
        audio: audio?,
        nat: nat?,
        calls: calls?,
        rendezvous: meeting.point,
        offer_relay: meeting.offer,
        log_level: log_level?,
        direct,
        neighbours,
        accounts,
    })
}

fn section<'f>(name: &str, table: Option<Placed<Vec<Entry>>>, faults: &'f mut Vec<Fault>) -> Fields<'f> {
    let table = table.unwrap_or(Placed { value: Vec::new(), at: None });
    Fields::new(name, Source::Toml, table.at, table.value, faults)
}

fn read_sip(mut fields: Fields<'_>, read_file: ReadFile<'_>) -> Option<SipConfig> {
    let listen = sockets(&mut fields, "listen", SIP_PORT);
    let tcp = fields.flag("tcp").unwrap_or(true);
    let tls_listen = sockets(&mut fields, "tls-listen", SIPS_PORT);
    let files = security::read_server(&mut fields, read_file);
    if tls_listen.is_some() && files == Some(None) {
        fields.reject(
            "tls-listen",
            "means nothing without a certificate: add \"tls-certificate\" and \"tls-key\"",
        );
    }
    let user_agent = fields.parse("user-agent", |text| match text.len() {
        1..=100 if text.is_ascii() => Ok(text.to_owned()),
        _ => Err("must be 1 to 100 ASCII characters, such as \"voipd/0.1.0\"".to_owned()),
    });
    let name_servers = fields.parse_list("name-servers", name_server);
    if let Some(servers) = &name_servers
        && servers.len() > MOST_NAME_SERVERS
    {
        let message = format!("names {} servers: name {MOST_NAME_SERVERS} at most", servers.len());
        fields.reject("name-servers", message);
    }
    fields.finish().then(|| SipConfig {
        name_servers: name_servers.unwrap_or_default(),
        listen: listen.unwrap_or_else(|| everywhere(SIP_PORT)),
        tcp,
        tls: files
            .flatten()
            .map(|files| TlsConfig { listen: tls_listen.unwrap_or_else(|| everywhere(SIPS_PORT)), files }),
        user_agent: user_agent.unwrap_or_else(|| USER_AGENT.to_owned()),
    })
}

fn sockets(fields: &mut Fields<'_>, key: &'static str, port: u16) -> Option<Vec<SocketAddr>> {
    let sockets = fields.parse_list(key, |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "holds '{text}': write an address and a port, such as \"0.0.0.0:{port}\" or \"[::]:{port}\""
            )
        })
    });
    if let Some(sockets) = &sockets
        && !(1..=MOST_SOCKETS).contains(&sockets.len())
    {
        fields.reject(key, format!("names {} addresses: name 1 to {MOST_SOCKETS}", sockets.len()));
    }
    sockets
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
    ]
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
    match address {
        Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(address),
        _ => Err(format!(
            "holds '{text}': write the address of a name server, such as \"192.0.2.53\" or \"127.0.0.1:5353\""
        )),
    }
}

fn read_rtp(mut fields: Fields<'_>) -> Option<RtpConfig> {
    let ports = fields.parse("ports", port_range);
    let bind = fields.parse("bind", |text| {
        text.parse::<IpAddr>()
            .map_err(|_| format!("is '{text}': write one of this machine's addresses, such as \"192.0.2.7\""))
    });
    let dscp = fields.number("dscp", 0..=63).unwrap_or(DSCP);
    fields.finish().then(|| RtpConfig {
        ports: ports.unwrap_or(RTP_PORTS),
        bind: bind.filter(|address| !address.is_unspecified()),
        dscp: u8::try_from(dscp).unwrap_or(0),
    })
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("is '{text}': write the first and the last port, such as \"16384-32766\"");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: u16 = first.trim().parse().map_err(|_| wrong())?;
    let last: u16 = last.trim().parse().map_err(|_| wrong())?;
    // RFC 3550 section 11: RTP on an even port, RTCP on the next one.
    let first_pair = first.checked_next_multiple_of(2);
    if first < 1024 || first_pair.is_none_or(|even| even >= last) {
        return Err(format!(
            "is '{text}': the ports begin at 1024 or above and hold an even one and the next"
        ));
    }
    Ok(first..=last)
}

/// Keys of files that are heard in place of synthesised signals.
const TONE_FILES: [(&str, Signal); 7] = [
    ("dial-file", Signal::Dial),
    ("ring-file", Signal::Ring),
    ("ringback-file", Signal::Ringback),
    ("busy-file", Signal::Busy),
    ("congestion-file", Signal::Congestion),
    ("call-waiting-file", Signal::CallWaiting),
    ("information-file", Signal::Information),
];

fn read_audio(mut fields: Fields<'_>) -> Option<AudioConfig> {
    let known = |text: &str| match device_name(text)?.parse::<DeviceName>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "is '{text}': write \"default\", \"null\", \"file:/PATH.wav\" or a name that `voipctl devices` shows"
        )),
    };
    let mut device = |key| fields.parse(key, known).unwrap_or_else(|| "default".to_owned());
    let (input, output, ringer) = (device("input"), device("output"), device("ringer"));
    let fallback = fields.flag("fallback").unwrap_or(true);
    let defaults = DeviceSettings::default().changed(DeviceChange {
        echo_cancellation: fields.flag("echo-cancellation"),
        noise_suppression: fields.flag("noise-suppression"),
        gain_control: fields.flag("gain-control"),
        ..DeviceChange::default()
    });
    let tones = fields.parse("tones", |letters| {
        Country::by_letters(letters).ok_or_else(|| {
            let known: Vec<&str> = Country::all().iter().map(|country| country.iso).collect();
            format!("is '{letters}': write the two letters of a country: {}", known.join(", "))
        })
    });
    let file = |path: &str| match Path::new(path).is_absolute() {
        true => Ok(PathBuf::from(path)),
        false => Err(format!("is '{path}': write the file with its whole path")),
    };
    let tone_files =
        TONE_FILES.into_iter().filter_map(|(key, signal)| Some((signal, fields.parse(key, file)?))).collect();
    fields.finish().then_some(AudioConfig { input, output, ringer, fallback, defaults, tones, tone_files })
}

/// Checks how a device is named; whether there is one is known only when it is used.
pub(crate) fn device_name(text: &str) -> Result<String, String> {
    match text.strip_prefix("file:") {
        Some(path) if !Path::new(path).is_absolute() => {
            Err(format!("is '{text}': write the file with its whole path, \"file:/PATH.wav\""))
        }
        None if text.trim().is_empty() => {
            Err("is empty: write \"default\", \"null\", \"file:/PATH.wav\" or a device's name".to_owned())
        }
        _ if text.len() > 512 => Err("is longer than 512 bytes: name one of `voipctl devices`".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn read_calls(mut fields: Fields<'_>) -> Option<CallsConfig> {
    let max = fields.number("max", 1..=MOST_CALLS).unwrap_or(CALLS);
    let ring = fields.number("ring-timeout", 5..=3600).unwrap_or(RING_SECONDS);
    let media = fields.number("media-timeout", 5..=3600).unwrap_or(MEDIA_SECONDS);
    let network = fields.number("network-timeout", 5..=3600).unwrap_or(NETWORK_SECONDS);
    let session = fields.number("session-timer", 0..=86_400).unwrap_or(SESSION_SECONDS);
    if (1..SHORTEST_SESSION).contains(&session) {
        let message =
            format!("is {session}: write {SHORTEST_SESSION} or more seconds, or 0 for no session timers");
        fields.reject("session-timer", message);
    }
    fields.finish().then(|| CallsConfig {
        max: max as usize,
        ring_timeout: Duration::from_secs(ring.into()),
        media_timeout: Duration::from_secs(media.into()),
        network_timeout: Duration::from_secs(network.into()),
        session_timer: Some(session).filter(|seconds| *seconds > 0),
    })
}

fn read_log(mut fields: Fields<'_>) -> Option<LevelFilter> {
    let level = fields.parse("level", |text| match text {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        "trace" => Ok(LevelFilter::Trace),
        _ => Err(format!("is '{text}': write error, warn, info, debug or trace")),
    });
    fields.finish().then(|| level.unwrap_or(LevelFilter::Info))
}

fn read_accounts(
    tables: Vec<Placed<Vec<Entry>>>,
    read_file: ReadFile<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<AccountSettings> {
    let mut accounts: Vec<AccountSettings> = Vec::new();
    for table in tables {
        let at = table.at;
        let fields = Fields::new("account", Source::Toml, at, table.value, faults);
        let Some(account) = account::read(fields, AccountOrigin::Config, Some(read_file)) else { continue };
        if accounts.iter().any(|other| other.name == account.name) {
            let message = format!("'{}' names two accounts: rename one of them", account.name);
            faults.push(Fault { key: "account.name".to_owned(), message, at });
        }
        accounts.push(account);
    }
    accounts
}
