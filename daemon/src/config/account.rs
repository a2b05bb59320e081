//! The keys of an account, from the configuration, the bus or the store, made into consistent settings. The one place
//! that knows what an account may say.

use std::path::{Path, PathBuf};

use voipd_agent::account::AccountOrigin;
use voipd_agent::dialplan::DialPlan;
use voipd_agent::{AccountKind, AccountSettings, DtmfMethod, Network, RedirectPolicy, built_codecs};
use voipd_media::Codec;
use voipd_sip::Uri;
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{ContactPolicy, Push, Transport};
use voipd_sip::uri::SipUri;

use super::dialplan;
use super::fields::{Entry, Fault, Fields, Source};
use super::ice;
use super::security;
use crate::neighbours::NeighbourConfig;

/// Name of the account for calls without a server.
pub const DIRECT: &str = "direct";
/// Most servers that requests can go by way of: two are enough to be reached when one is lost (RFC 5626 section 4.2).
const MOST_PROXIES: usize = 2;
/// Longest account name in bytes.
const LONGEST_NAME: usize = 64;
/// Longest display name, user, realm or password in bytes.
const LONGEST_TEXT: usize = 255;
/// Longest name of a device at a push service in bytes.
const LONGEST_PUSH_ID: usize = 1024;
/// Registration life in seconds that is asked for when nothing is said.
const EXPIRES: u32 = 600;
/// In the order in which they are offered when nothing is said: the widest band first.
const CODECS: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];
const PTIME_MS: u16 = 20;

/// What a file holds that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A password or a private key: nobody else should be able to read it.
    Secret,
    /// What everybody may know.
    Public,
}

/// How a file that the configuration names is read.
pub type ReadFile<'a> = &'a dyn Fn(&Path, Holds) -> std::io::Result<FileText>;

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileText {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// Networks whose calls are taken when nothing is said: this machine, private networks (RFC 1918, RFC 4193) and
/// link-local ones (RFC 3927, RFC 4291).
pub fn local_networks() -> Vec<Network> {
    [
        "127.0.0.0/8",
        "::1",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ]
    .iter()
    .filter_map(|network| network.parse().ok())
    .collect()
}

/// Settings from the `a{sv}` of `AddAccount` or from the store; otherwise the sentences that say what is wrong.
pub fn from_entries(entries: Vec<Entry>) -> Result<AccountSettings, Vec<Fault>> {
    let mut faults = Vec::new();
    let fields = Fields::new("", Source::Bus, None, entries, &mut faults);
    read(fields, AccountOrigin::Bus, None).ok_or(faults)
}

/// Reads one account. `None` when there was a fault. Without `read_file` there is no key `password-file`: a caller on
/// the bus must not have the daemon read files for it.
pub fn read(
    mut fields: Fields<'_>,
    origin: AccountOrigin,
    read_file: Option<ReadFile<'_>>,
) -> Option<AccountSettings> {
    let has_name = fields.has("name");
    let name = fields.parse("name", account_name);
    let kind = fields.parse("kind", account_kind).unwrap_or(AccountKind::Sip);
    let has_address = fields.has("address");
    let address = fields.parse("address", address_of_record);
    let display_name = fields.parse("display-name", limited);
    let registrar = fields.parse("registrar", |text| server(text, "sip:example.org"));
    let outbound_proxies = fields
        .parse_one_or_list("outbound-proxy", |text| server(text, "sip:proxy.example.org:5060"))
        .unwrap_or_default();
    let contact = fields.parse("contact", |text| {
        let known = [ContactPolicy::Auto, ContactPolicy::Local].into_iter();
        let named = known.into_iter().find(|policy| contact_name(*policy) == text);
        named.ok_or_else(|| format!("is '{text}': write \"auto\" or \"local\""))
    });
    let transport = fields.parse("transport", transport);
    let tls = security::read_account(&mut fields, read_file);
    let auth_user = fields.parse("auth-user", limited);
    let realms = fields.parse_one_or_list("realm", limited);
    let allow_md5 = fields.flag("allow-md5");
    let password = password(&mut fields, read_file);
    let register = fields.flag("register");
    let expires = fields.number("expires", 60..=86_400).unwrap_or(EXPIRES);
    let gruu = fields.flag("gruu").unwrap_or(false);
    let push = push(&mut fields);
    let MediaSettings { codecs, ptime_ms, redundancy, silence_suppression } = media(&mut fields);
    let (redirect, dtmf) = calls(&mut fields);
    let ice = ice::read(&mut fields, read_file);
    let enabled = fields.flag("enabled").unwrap_or(true);
    let allow_from = fields.parse_list("allow-from", network);
    let dial_plan = dialplan::read(&mut fields);

    if !has_name {
        fields.reject("name", "is missing: give the account a name, such as \"home\"");
    }
    if has_address {
        // Nothing more to ask of it.
    } else if kind == AccountKind::Sip {
        fields.reject(
            "address",
            "is missing: give the account's SIP address, such as \"sip:alice@example.org\"",
        );
    } else {
        let needless = [
            ("registrar", registrar.is_some()),
            ("outbound-proxy", !outbound_proxies.is_empty()),
            ("contact", contact == Some(ContactPolicy::Local)),
            ("transport", transport.is_some()),
            ("auth-user", auth_user.is_some()),
            ("password", password.is_some()),
            ("realm", realms.is_some()),
            ("push-provider", push.is_some()),
            ("register", register == Some(true)),
            ("country", dial_plan.country.is_some()),
            ("blocked", !dial_plan.blocked.is_empty()),
        ];
        for (key, _) in needless.iter().filter(|(_, there)| *there) {
            fields.reject(key, "means nothing without an address: add \"address\" or remove this key");
        }
    }
    if outbound_proxies.len() > MOST_PROXIES {
        fields.reject("outbound-proxy", "names more than two servers: name the two that matter");
    }
    let asks_for_tls = |uri: &Uri| matches!(uri, Uri::Sip(uri) if uri.secure);
    let named = [&address, &registrar].into_iter().flatten().chain(&outbound_proxies);
    let promised = named.into_iter().any(asks_for_tls);
    if promised && transport.is_some_and(|transport| transport != Transport::Tls) {
        fields.reject("transport", "is not \"tls\", but a 'sips:' address asks for nothing less: remove one");
    }
    if !fields.finish() {
        return None;
    }
    let with_server = has_address;
    Some(AccountSettings {
        name: name?,
        kind,
        origin,
        enabled,
        address,
        display_name,
        registrar,
        outbound_proxies,
        transport,
        tls,
        auth_user,
        password,
        realms: realms.unwrap_or_default(),
        allow_md5: allow_md5.unwrap_or(true),
        register: register.unwrap_or(with_server),
        expires,
        gruu,
        push,
        codecs,
        ptime_ms,
        redundancy,
        silence_suppression,
        redirect,
        dtmf,
        ice,
        allow_from: allow_from.unwrap_or_else(|| if with_server { Vec::new() } else { local_networks() }),
        dial_plan,
        contact: contact.unwrap_or_default(),
    })
}

/// The built-in account for calls without a server, from the section `[direct]`, and how it finds neighbours. Its inbound
/// side is off when its allow list is empty.
pub fn read_direct(
    mut fields: Fields<'_>,
    inbound_by_default: bool,
    read_file: ReadFile<'_>,
) -> Option<(AccountSettings, NeighbourConfig)> {
    let announce = fields.parse("announce", announced_name);
    let discover = fields.flag("neighbours").unwrap_or(announce.is_some());
    let tls = security::read_account(&mut fields, Some(read_file));
    let inbound = fields.flag("inbound").unwrap_or(inbound_by_default);
    let allow_from = fields.parse_list("allow-from", network).unwrap_or_else(local_networks);
    if announce.is_some() && !inbound {
        fields
            .reject("announce", "means nothing while calls are not taken: set \"inbound = true\" beside it");
    }
    let display_name = fields.parse("display-name", limited);
    let MediaSettings { codecs, ptime_ms, redundancy, silence_suppression } = media(&mut fields);
    let (redirect, dtmf) = calls(&mut fields);
    let ice = ice::read(&mut fields, Some(read_file));
    let settings = fields.finish().then(|| AccountSettings {
        name: DIRECT.to_owned(),
        kind: AccountKind::Direct,
        origin: AccountOrigin::BuiltIn,
        enabled: true,
        address: None,
        display_name,
        registrar: None,
        outbound_proxies: Vec::new(),
        transport: None,
        tls,
        auth_user: None,
        password: None,
        realms: Vec::new(),
        allow_md5: true,
        register: false,
        expires: EXPIRES,
        gruu: false,
        push: None,
        codecs,
        ptime_ms,
        redundancy,
        silence_suppression,
        redirect,
        dtmf,
        ice,
        allow_from: if inbound { allow_from } else { Vec::new() },
        dial_plan: DialPlan::default(),
        contact: ContactPolicy::default(),
    });
    settings.map(|settings| (settings, NeighbourConfig { announce, discover }))
}

/// The name of an instance in DNS-SD (RFC 6763 section 4.1.1), as people can say and type it.
fn announced_name(text: &str) -> Result<String, String> {
    let fits = (1..=32).contains(&text.len()) && text.trim() == text;
    let letters = text.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    match fits && letters && text.chars().any(char::is_alphabetic) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "is '{text}': write a name of letters, digits, spaces, - and _, 32 bytes at most, such as \"kitchen\""
        )),
    }
}

/// The kind as it is written.
pub fn kind_name(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Sip => "sip",
        AccountKind::Direct => "direct",
        AccountKind::Echo => "echo",
    }
}

/// The policy as it is written.
pub fn contact_name(policy: ContactPolicy) -> &'static str {
    match policy {
        ContactPolicy::Auto => "auto",
        ContactPolicy::Local => "local",
    }
}

/// The policy as it is written.
pub fn redirect_name(policy: RedirectPolicy) -> &'static str {
    match policy {
        RedirectPolicy::Ask => "ask",
        RedirectPolicy::Follow => "follow",
        RedirectPolicy::Never => "never",
    }
}

/// The method as it is written.
pub fn dtmf_name(method: DtmfMethod) -> &'static str {
    match method {
        DtmfMethod::Auto => "auto",
        DtmfMethod::Rtp => "rtp",
        DtmfMethod::Info => "info",
    }
}

/// The transport as it is written.
pub fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    }
}

/// How sound is coded and sent.
struct MediaSettings {
    codecs: Vec<Codec>,
    ptime_ms: u16,
    redundancy: bool,
    silence_suppression: bool,
}

fn media(fields: &mut Fields<'_>) -> MediaSettings {
    let codecs = fields.parse_list("codecs", codec);
    if codecs.as_ref().is_some_and(Vec::is_empty) {
        fields.reject("codecs", format!("is empty: name at least one of {}", built_names()));
    }
    let ptime = fields.number("ptime", 10..=60);
    let ptime_ms = match ptime {
        None => PTIME_MS,
        Some(10) => 10,
        Some(20) => 20,
        Some(30) => 30,
        Some(40) => 40,
        Some(60) => 60,
        Some(other) => {
            fields.reject("ptime", format!("is {other} ms: write 10, 20, 30, 40 or 60"));
            PTIME_MS
        }
    };
    let redundancy = fields.flag("redundancy").unwrap_or(true);
    let silence_suppression = fields.flag("silence-suppression").unwrap_or(false);
    let codecs = codecs.unwrap_or_else(|| CODECS.to_vec());
    MediaSettings { codecs, ptime_ms, redundancy, silence_suppression }
}

/// How calls go that are redirected, and how digits are sent.
fn calls(fields: &mut Fields<'_>) -> (RedirectPolicy, DtmfMethod) {
    let redirect = fields.parse("redirect", |text| {
        let all = [RedirectPolicy::Ask, RedirectPolicy::Follow, RedirectPolicy::Never];
        let known = all.into_iter().find(|policy| redirect_name(*policy) == text);
        known.ok_or_else(|| format!("is '{text}': write \"ask\", \"follow\" or \"never\""))
    });
    let dtmf = fields.parse("dtmf", |text| {
        let all = [DtmfMethod::Auto, DtmfMethod::Rtp, DtmfMethod::Info];
        let known = all.into_iter().find(|method| dtmf_name(*method) == text);
        known.ok_or_else(|| format!("is '{text}': write \"auto\", \"rtp\" or \"info\""))
    });
    (redirect.unwrap_or_default(), dtmf.unwrap_or_default())
}

/// RFC 8599 section 4.1.2: a service without this device's name at it wakes nobody.
fn push(fields: &mut Fields<'_>) -> Option<Push> {
    let provider = fields.parse("push-provider", limited);
    let prid = fields.parse("push-prid", push_id);
    let param = fields.parse("push-param", limited);
    match (provider, prid, param) {
        (Some(provider), Some(prid), param) => Some(Push { provider, prid, param }),
        (None, None, None) => None,
        (None, ..) => {
            fields.reject("push-provider", "is missing: name the push service, such as \"apns\" or \"fcm\"");
            None
        }
        (_, None, _) => {
            fields.reject("push-prid", "is missing: write what names this device at the push service");
            None
        }
    }
}

/// Push services name devices by URLs and tokens of some hundred bytes.
fn push_id(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty: leave the key out or give it a value".to_owned()),
        1..=LONGEST_PUSH_ID => Ok(text.to_owned()),
        _ => Err(format!("is longer than {LONGEST_PUSH_ID} bytes: shorten it")),
    }
}

fn password(fields: &mut Fields<'_>, read_file: Option<ReadFile<'_>>) -> Option<Secret> {
    let given = fields.parse("password", |text| limited(text).map(Secret::new));
    let Some(read_file) = read_file else { return given };
    let from_file = fields.parse("password-file", |path| {
        let file = read_file(Path::new(path), Holds::Secret);
        let text = file.map_err(|error| format!("cannot be read: {path}: {error}"))?.text;
        let wrong = |wrong| format!("names {path}, whose text {wrong}");
        only_line(&text, path).and_then(|line| limited(line).map(Secret::new).map_err(wrong))
    });
    if given.is_some() && from_file.is_some() {
        fields.reject("password-file", "is there beside \"password\": remove one of them");
    }
    given.or(from_file)
}

/// The password that a file holds.
pub(super) fn only_line<'a>(text: &'a str, path: &str) -> Result<&'a str, String> {
    // An editor ends the file with a line break, which is no part of the password.
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.chars().any(char::is_control) {
        true => Err(format!("names {path}, which must hold the password alone, on one line")),
        false => Ok(line),
    }
}

fn account_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(fits) {
        return Err(format!(
            "is no account name: use letters, digits, '-', '_' and '.', at most {LONGEST_NAME} of them"
        ));
    }
    if text == DIRECT {
        return Err(
            "is the name of the built-in account for calls without a server: choose another".to_owned()
        );
    }
    Ok(text.to_owned())
}

fn account_kind(text: &str) -> Result<AccountKind, String> {
    match text {
        "sip" => Ok(AccountKind::Sip),
        "echo" => Ok(AccountKind::Echo),
        "direct" => Err("is 'direct', which is built in: configure it in the section [direct]".to_owned()),
        _ => Err(format!("is '{text}': write \"sip\" or \"echo\"")),
    }
}

fn transport(text: &str) -> Result<Transport, String> {
    let known = [Transport::Udp, Transport::Tcp, Transport::Tls];
    let found = known.into_iter().find(|transport| transport_name(*transport).eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("is '{text}': write \"udp\", \"tcp\" or \"tls\", or leave it to DNS"))
}

pub(super) fn limited(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("is empty: leave the key out or give it a value".to_owned()),
        1..=LONGEST_TEXT => Ok(text.to_owned()),
        _ => Err(format!("is longer than {LONGEST_TEXT} bytes: shorten it")),
    }
}

fn address_of_record(text: &str) -> Result<Uri, String> {
    let uri = sip_uri(text, "sip:alice@example.org")?;
    match &uri.user {
        None => Err(format!("is '{text}', which has no user: write sip:USER@HOST")),
        Some(_) => Ok(Uri::Sip(uri)),
    }
}

/// A registrar or proxy. RFC 3261 section 10.2: no user part in the Request-URI of REGISTER.
fn server(text: &str, example: &str) -> Result<Uri, String> {
    let uri = sip_uri(text, example)?;
    match &uri.user {
        Some(_) => Err(format!("is '{text}', which names a user: a server is written {example}")),
        None => Ok(Uri::Sip(uri)),
    }
}

fn sip_uri(text: &str, example: &str) -> Result<SipUri, String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let uri = match scheme.as_deref() {
        Some("sip" | "sips") => {
            text.parse::<Uri>().map_err(|error| format!("is no SIP address ({error}): write {example}"))?
        }
        _ => return Err(format!("is no SIP address: write \"{example}\", with 'sip:' in front")),
    };
    // The text may hold a password, so that the messages above do not repeat it.
    match uri {
        Uri::Sip(uri) if uri.password.is_some() => {
            Err("holds a password: write it as \"password\", outside the address".to_owned())
        }
        Uri::Sip(uri) if uri.headers.is_some() => Err(format!("holds headers after '?': write {example}")),
        Uri::Sip(uri) => Ok(uri),
        Uri::Other { .. } => Err(format!("is no SIP address: write {example}")),
    }
}

/// The codec of that name; otherwise what is wrong with it.
pub fn codec(text: &str) -> Result<Codec, String> {
    if let Some(codec) = built_codecs().find(|codec| codec.name().eq_ignore_ascii_case(text)) {
        return Ok(codec);
    }
    let known = Codec::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(text));
    Err(match known {
        Some(codec) => {
            format!("names the codec {codec}, which this voipd is built without: write {}", built_names())
        }
        None => format!("names the codec '{text}': write {}", built_names()),
    })
}

/// The codecs that can be written, for messages to people.
fn built_names() -> String {
    let names: Vec<&str> = built_codecs().map(Codec::name).collect();
    names.join(", ")
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error| format!("holds an element that is wrong: {error}"))
}
