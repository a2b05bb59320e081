//! What configuration text means, and what is told of text that is wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use voipd::config::account::{FileText, Holds, local_networks};
use voipd::config::{AudioConfig, Config, ConfigError, ConfigFault, Scope, SipConfig, parse};
use voipd_agent::AccountKind;
use voipd_media::Codec;
use voipd_tests::authority::{Authority, Certificate, Validity};

fn read(text: &str) -> Result<Config, Vec<ConfigFault>> {
    read_for(text, Scope::System)
}

fn read_for(text: &str, scope: Scope) -> Result<Config, Vec<ConfigFault>> {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("voipd test authority"));
    static CERTIFICATE: LazyLock<Certificate> =
        LazyLock::new(|| AUTHORITY.issue(&["phone.test"], Validity::Good));
    let files = |path: &Path, _: Holds| {
        let text = match path.to_str() {
            Some("home.password" | "safe.password" | "office.password") => "hunter2\n",
            Some("two-lines") => "one\ntwo\n",
            Some("house-ca.pem" | "office-ca.pem") => &AUTHORITY.pem(),
            Some("phone.pem" | "alice.pem" | "me.pem") => CERTIFICATE.chain.as_str(),
            Some("phone.key" | "alice.key" | "me.key") => CERTIFICATE.key.as_str(),
            _ => return Err(std::io::ErrorKind::NotFound.into()),
        };
        Ok(FileText { path: path.to_owned(), text: text.to_owned() })
    };
    parse(text, Path::new("voipd.toml"), scope, &files).map_err(|error| match error {
        ConfigError::Faulty(faults) => faults,
        other => panic!("{other}"),
    })
}

/// The faults of a text as they are printed.
#[track_caller]
fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("the text is wrong").iter().map(ToString::to_string).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_written_means_the_defaults() {
    let config = read("").unwrap();
    assert_eq!(config.sip.listen, ["0.0.0.0:5060".parse().unwrap(), "[::]:5060".parse().unwrap()]);
    assert_eq!(config.rtp.ports, 16384..=32766);
    assert_eq!((config.rtp.bind, config.rtp.dscp), (None, 46));
    assert_eq!(config.audio.input, "default");
    assert_eq!((config.calls.max, config.calls.ring_timeout), (64, Duration::from_secs(120)));
    assert_eq!(config.calls.media_timeout, Duration::from_secs(20));
    assert_eq!(config.calls.network_timeout, Duration::from_secs(60));
    assert_eq!(config.calls.session_timer, Some(1800));
    assert_eq!(config.log_level, log::LevelFilter::Info);
    assert!(config.accounts.is_empty());
}

#[test]
fn calls_without_a_server_are_taken_in_a_session_and_refused_by_the_system_service() {
    let system = read_for("", Scope::System).unwrap().direct;
    assert_eq!((system.kind, system.enabled, system.register), (AccountKind::Direct, true, false));
    assert!(system.allow_from.is_empty());
    let session = read_for("", Scope::Session).unwrap().direct;
    assert!(session.allow_from.iter().any(|network| network.contains(ip("192.168.3.4"))));
    assert!(!session.allow_from.iter().any(|network| network.contains(ip("8.8.8.8"))));
    let opened =
        read_for("[direct]\ninbound = true\nallow-from = [\"192.0.2.0/24\"]", Scope::System).unwrap();
    assert!(opened.direct.allow_from[0].contains(ip("192.0.2.9")));
    let closed = read_for("[direct]\ninbound = false", Scope::Session).unwrap();
    assert!(closed.direct.allow_from.is_empty());
}

#[test]
fn local_networks_hold_what_is_local() {
    let local = |address| local_networks().iter().any(|network| network.contains(ip(address)));
    for address in
        ["127.0.0.1", "::1", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.9.9", "fd00::1", "fe80::1"]
    {
        assert!(local(address), "{address}");
    }
    for address in ["172.32.0.1", "192.169.0.1", "2001:db8::1", "203.0.113.1", "::2"] {
        assert!(!local(address), "{address}");
    }
}

#[test]
fn an_account_needs_a_name_and_an_address_and_gets_the_rest() {
    let text = "[[account]]\nname = \"home\"\naddress = \"sip:alice@example.org\"\npassword-file = \"home.password\"";
    let config = read(text).unwrap();
    let [account] = config.accounts.as_slice() else { panic!() };
    assert_eq!((account.name.as_str(), account.kind), ("home", AccountKind::Sip));
    assert_eq!(account.address.as_ref().unwrap().to_string(), "sip:alice@example.org");
    assert_eq!(account.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!((account.register, account.enabled, account.expires), (true, true, 600));
    assert_eq!(
        (account.codecs.as_slice(), account.ptime_ms),
        ([Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma].as_slice(), 20)
    );
    assert!(account.allow_from.is_empty());
}

#[test]
fn realms_are_one_or_several_and_md5_and_push_are_asked_for() {
    let home = "[[account]]\nname = \"home\"\naddress = \"sip:alice@example.org\"\n";
    let account = |text: &str| read(&format!("{home}{text}")).unwrap().accounts.remove(0);
    let plain = account("");
    assert!(plain.realms.is_empty() && plain.allow_md5 && !plain.gruu && plain.push.is_none());
    assert!(plain.redundancy && !account("redundancy = false").redundancy);
    assert_eq!(account("realm = \"a, b\"").realms, ["a, b"]);
    let all = account(
        "realm = [\"a\", \"b\"]\nallow-md5 = false\ngruu = true\npush-provider = \"apns\"\npush-prid = \"t=\"",
    );
    assert_eq!(all.realms, ["a", "b"]);
    assert!(!all.allow_md5 && all.gruu);
    let push = all.push.unwrap();
    assert_eq!((push.provider.as_str(), push.prid.as_str(), push.param), ("apns", "t=", None));
    let place = "voipd.toml";
    for (text, fault) in [
        (
            "push-provider = \"apns\"",
            format!(
                "{place}:1:1: account.push-prid is missing: write what names this device at the push service"
            ),
        ),
        (
            "push-param = \"x\"",
            format!(
                "{place}:1:1: account.push-provider is missing: name the push service, such as \"apns\" or \"fcm\""
            ),
        ),
        ("realm = [\"a\", \"a\"]", format!("{place}:4:15: account.realm names 'a' twice: remove one")),
        ("realm = 5", format!("{place}:4:9: account.realm must be a string in quotes, not a number")),
        (
            "allow-md5 = \"no\"",
            format!("{place}:4:13: account.allow-md5 must be true or false without quotes, not a string"),
        ),
    ] {
        assert_eq!(faults(&format!("{home}{text}")), [fault]);
    }
}

#[test]
fn an_echo_service_without_an_address_is_local() {
    let config = read("[[account]]\nname = \"echo\"\nkind = \"echo\"").unwrap();
    assert!(!config.accounts[0].register);
    assert!(config.accounts[0].allow_from.iter().any(|network| network.contains(ip("127.0.0.1"))));
    assert_eq!(
        faults("[[account]]\nname = \"echo\"\nkind = \"echo\"\nregister = true"),
        [
            "voipd.toml:1:1: account.register means nothing without an address: add \"address\" or remove this key"
        ]
    );
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let text = "\
[sip]
listen = [\"0.0.0.0:5060\", \"5060\"]
lisen = []

[rtp]
ports = \"9-8\"
dscp = \"46\"

[calls]
max = 0

[[account]]
name = \"home\"
adress = \"sip:alice@example.org\"
expires = 5
ptime = 25
codecs = [\"opus\", \"iLBC\", \"opus\"]
";
    assert_eq!(
        faults(text),
        [
            "voipd.toml:2:27: sip.listen holds '5060': write an address and a port, such as \"0.0.0.0:5060\" or \"[::]:5060\"",
            "voipd.toml:3:1: sip.lisen is not a key here: did you mean 'listen'?",
            "voipd.toml:6:9: rtp.ports is '9-8': the ports begin at 1024 or above and hold an even one and the next",
            "voipd.toml:7:8: rtp.dscp must be a whole number without quotes, not a string",
            "voipd.toml:10:7: calls.max is 0: write a number from 1 to 1000",
            "voipd.toml:12:1: account.ptime is 25 ms: write 10, 20, 30, 40 or 60",
            "voipd.toml:12:1: account.address is missing: give the account's SIP address, such as \"sip:alice@example.org\"",
            "voipd.toml:14:1: account.adress is not a key here: did you mean 'address'?",
            "voipd.toml:15:11: account.expires is 5: write a number from 60 to 86400",
            "voipd.toml:17:19: account.codecs names the codec 'iLBC': write opus, G722, PCMU, PCMA, speex/16000, G726-32, AAL2-G726-32, GSM, speex/8000, L16/48000, L16/16000, L16/8000",
            "voipd.toml:17:27: account.codecs names 'opus' twice: remove one",
        ]
    );
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place_and_never_shown() {
    let all = faults("[[account]]\nname = \"home\"\npassword = \"top-secret\nregister = true\n");
    assert!(all[0].starts_with("voipd.toml:3:"), "{all:?}");
    assert!(!all.join("").contains("top-secret"), "{all:?}");
    assert!(faults("[sip\n")[0].starts_with("voipd.toml:1:5: is not TOML: "));
}

#[test]
fn a_wrong_password_never_appears_in_a_fault() {
    let all = faults(
        "[[account]]\nname = \"a\"\naddress = \"sip:alice:geheim1@example.org\"\npassword = [\"geheim2\"]\n\
         [[account]]\nname = \"b\"\naddress = \"sip:b@example.org\"\npassword = \"geheim3\\n\"\n",
    )
    .join("\n");
    assert!(!all.contains("geheim"), "{all}");
    assert!(all.contains("account.password must be a string in quotes, not a list"), "{all}");
    assert!(all.contains("account.password holds a line break"), "{all}");
    assert!(all.contains("account.address holds a password"), "{all}");
}

#[test]
fn addresses_that_are_none_are_refused_with_a_remedy() {
    let address = |text: &str| faults(&format!("[[account]]\nname = \"a\"\naddress = \"{text}\"")).join("\n");
    assert!(address("alice@example.org").contains("with 'sip:' in front"));
    assert!(address("sip:example.org").contains("has no user"));
    assert!(address("sip:alice@example.org?Subject=x").contains("headers after '?'"));
    assert!(address("sip:alice@").contains("is no SIP address"));
    assert!(address("tel:+123").contains("is no SIP address"));
    let registrar =
        faults("[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\nregistrar = \"sip:a@b.example\"");
    assert!(registrar[0].contains("which names a user"), "{registrar:?}");
}

#[test]
fn names_are_unique_and_direct_is_taken() {
    let twice = "[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\n".repeat(2);
    assert_eq!(faults(&twice), ["voipd.toml:4:1: account.name 'a' names two accounts: rename one of them"]);
    let reserved = faults("[[account]]\nname = \"direct\"\naddress = \"sip:a@b.example\"");
    assert!(reserved[0].contains("built-in account"), "{reserved:?}");
    let odd = faults("[[account]]\nname = \"a b\"\naddress = \"sip:a@b.example\"");
    assert!(odd[0].contains("is no account name"), "{odd:?}");
}

#[test]
fn password_files_hold_one_line_and_exclude_a_password() {
    let with = |key: &str| {
        faults(&format!(
            "[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\npassword-file = \"{key}\""
        ))
        .join("")
    };
    assert!(with("two-lines").contains("on one line"));
    assert!(with("gone").contains("cannot be read: gone"));
    let both = "[[account]]\nname = \"a\"\naddress = \"sip:a@b.example\"\npassword = \"x\"\npassword-file = \"home.password\"";
    assert!(faults(both)[0].contains("remove one of them"));
}

#[test]
fn sections_have_their_brackets() {
    assert!(faults("[account]\nname = \"a\"")[0].contains("write [[account]]"));
    assert!(faults("[[sip]]\nlisten = []")[0].contains("write [sip]"));
    assert!(faults("[acount]\n")[0].contains("did you mean 'account'?"));
    assert!(faults("sip = 3\n")[0].contains("write [sip]"));
}

#[test]
fn sound_files_have_whole_paths() {
    assert!(faults("[audio]\ninput = \"file:tone.wav\"")[0].contains("file:/PATH.wav"));
    assert!(faults("[audio]\nringer = \"jackdaw:7\"")[0].contains("`voipctl devices` shows"));
    assert_eq!(read("[audio]\noutput = \"null\"").unwrap().audio.output, "null");
}

#[test]
fn the_microphones_processing_is_configured() {
    let plain = read("").unwrap().audio;
    assert!(plain.fallback && plain.defaults.echo_cancellation);
    assert!(!plain.defaults.noise_suppression && !plain.defaults.gain_control);
    let other =
        "[audio]\nfallback = false\necho-cancellation = false\nnoise-suppression = true\ngain-control = true";
    let other = read(other).unwrap().audio;
    assert!(!other.fallback && !other.defaults.echo_cancellation);
    assert!(other.defaults.noise_suppression && other.defaults.gain_control);
    assert!(faults("[audio]\nnoise-supression = true")[0].contains("did you mean 'noise-suppression'?"));
    assert!(faults("[audio]\ngain-control = 3")[0].contains("gain-control"));
}

#[test]
fn session_timers_have_a_shortest_time_and_can_be_switched_off() {
    let timer = |seconds: u32| read(&format!("[calls]\nsession-timer = {seconds}"));
    assert_eq!(timer(0).unwrap().calls.session_timer, None);
    assert_eq!(timer(90).unwrap().calls.session_timer, Some(90));
    let told = faults("[calls]\nsession-timer = 89");
    assert!(
        matches!(&told[..], [told] if told.contains("calls.session-timer") && told.contains("90 or more")),
        "{told:?}"
    );
}

#[test]
fn the_example_parses_with_and_without_its_comments() {
    let text = include_str!("../voipd.toml");
    read(text).unwrap();
    // A commented key has no space after the number sign; prose has one.
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        // Each stands beside another that says the same in its own way.
        .filter(|line| {
            !["password =", "relay-password =", "tls-pin ="].iter().any(|key| line.starts_with(key))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = read_for(&uncommented, Scope::Session).unwrap();
    assert_eq!(config.accounts.len(), 2);
    let defaults = read_for("", Scope::Session).unwrap();
    let tls = config.sip.tls.clone().unwrap();
    assert_eq!(tls.listen, ["0.0.0.0:5061".parse().unwrap(), "[::]:5061".parse().unwrap()]);
    let sip = SipConfig { tls: None, ..config.sip };
    assert_eq!((sip, config.calls), (defaults.sip, defaults.calls));
    assert_eq!(config.rtp.ports, defaults.rtp.ports);
    assert_eq!(config.audio.tone_files.len(), 7);
    let audio = AudioConfig { tones: None, tone_files: BTreeMap::new(), ..config.audio };
    assert_eq!(audio, defaults.audio);
    assert_eq!(config.direct.allow_from, defaults.direct.allow_from);
    assert_eq!((config.rendezvous, config.offer_relay), (None, None));
}

#[test]
fn the_example_has_every_key_there_is() {
    let text = include_str!("../voipd.toml");
    let sections = ["sip", "rtp", "audio", "nat", "direct", "calls", "rendezvous", "log"];
    let heads = sections.map(|name| format!("[{name}]")).into_iter().chain(["[[account]]".to_owned()]);
    for head in heads {
        let faults = faults(&format!("{head}\nnothing-like-a-key = 1"));
        let (_, keys) = faults.iter().find_map(|fault| fault.split_once("the keys are ")).unwrap();
        let lines = text.lines().map(|line| line.trim_start_matches('#'));
        let lines = lines.skip_while(|line| *line != head).skip(1).take_while(|line| !line.starts_with('['));
        let written: Vec<&str> = lines.filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        for key in keys.split(", ") {
            assert!(written.contains(&key), "{head} lacks {key}");
        }
    }
}

#[test]
fn relays_need_a_login_and_have_their_forms() {
    let account =
        |lines: &str| format!("[[account]]\nname = \"a\"\naddress = \"sip:a@example.org\"\n{lines}\n");
    let good = "stun = [\"stun:192.0.2.1\"]\nrelays = [\"turns:relay.example.org\"]\nrelay-user = \"u\"\n\
                relay-password-file = \"home.password\"\nice = \"relay\"";
    let ice = read(&account(good)).unwrap().accounts.remove(0).ice;
    assert_eq!(ice.relays[0].to_string(), "turns:relay.example.org");
    assert_eq!((ice.login.as_ref().unwrap().password.expose(), ice.has_servers()), ("hunter2", true));
    for (lines, words) in [
        ("relays = [\"turn:a\"]", "relay-user is missing"),
        ("relays = [\"turn:a\"]\nrelay-user = \"u\"", "relay-password is missing"),
        ("ice = \"relay\"", "relays is missing"),
        ("ice = \"on\"", "write \"auto\", \"off\" or \"relay\""),
        ("stun = [\"turn:a\"]", "write stun:HOST or stun:HOST:PORT"),
        ("relays = [\"turn:a?transport=sctp\"]", "'turn:a?transport=sctp' is no relay"),
    ] {
        let all = faults(&account(lines)).join("\n");
        assert!(all.contains(words), "{lines}: {all}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("\"stun:host{n}\"")).collect();
    let all = faults(&account(&format!("stun = [{}]", many.join(", ")))).join("\n");
    assert!(all.contains("name 16 at most"), "{all}");
}

#[test]
fn every_snippet_of_the_documentation_parses() {
    let page = include_str!("../../docs/configuration.md");
    let snippets: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect();
    assert!(snippets.len() >= 7);
    for snippet in snippets {
        if let Err(faults) = read(snippet) {
            panic!("{snippet}\n{faults:?}");
        }
    }
}

#[test]
fn neighbours_are_a_matter_of_asking_and_names_are_such_as_people_say() {
    let neighbours = |text: &str| {
        let config = read(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        (config.neighbours.announce, config.neighbours.discover)
    };
    assert_eq!(neighbours(""), (None, false));
    assert_eq!(neighbours("[direct]\nneighbours = true"), (None, true));
    let announced = Some("Küche 2".to_owned());
    assert_eq!(neighbours("[direct]\ninbound = true\nannounce = \"Küche 2\""), (announced.clone(), true));
    let quiet = "[direct]\ninbound = true\nannounce = \"Küche 2\"\nneighbours = false";
    assert_eq!(neighbours(quiet), (announced, false));
    let announce = |name: &str| faults(&format!("[direct]\ninbound = true\nannounce = \"{name}\"")).remove(0);
    for wrong in ["", "  ", "110", "a.b", "a@b", " hall", &"x".repeat(33)] {
        let fault = announce(wrong);
        assert!(fault.contains("direct.announce") && fault.contains("such as \"kitchen\""), "{fault}");
    }
    assert!(announce("\\u001b[2J").contains("control character"));
    // Nobody is told of a telephone that takes no calls.
    let faults = faults("[direct]\nannounce = \"hall\"");
    assert!(faults[0].contains("inbound = true"), "{faults:?}");
}

#[test]
fn routers_are_asked_unless_the_configuration_forbids_it() {
    assert!(read("").unwrap().nat.port_mapping);
    assert!(!read("[nat]\nport-mapping = false").unwrap().nat.port_mapping);
    assert!(faults("[nat]\nport-mapping = 1")[0].contains("nat.port-mapping"));
}
