//! `voipctl account`: accounts that are added while voipd runs.

use std::os::unix::fs::PermissionsExt;

use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::{Config, Lab, SOON, Voipctl, Voipd, until};

use super::{ctl, phone, start};

/// The password of the registrar's user.
const SECRET: &str = "alice-secret";

/// Adds the registrar's user as an account, with a password from standard input.
fn add(phone: &Voipd, registrar: &Kamailio, name: &str) -> Voipctl {
    let address = format!("sip:alice@{}", registrar.address);
    start(
        phone,
        &["account", "add", name, "--address", &address, "--realm", "voipd.test", "--password-stdin"],
    )
}

#[tokio::test]
async fn a_password_from_standard_input_works_and_shows_nowhere() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Sha256).await;
    // Nothing is logged at a finer level.
    let config = Config::at(lab.address()).line("log", "level = \"trace\"");
    let mut phone = Voipd::start(&lab, "phone", config).await;
    let mut monitors = [start(&phone, &["monitor"]), start(&phone, &["monitor", "--json"])];
    monitors[0].says("watching voipd").await;
    monitors[1].says("started").await;
    let mut adding = add(&phone, &registrar, "work");
    // What every user of the machine sees while it waits for the password and afterwards.
    let process = format!("/proc/{}", adding.id());
    let seen = until("voipctl runs", SOON, async || {
        let line = std::fs::read(format!("{process}/cmdline")).unwrap();
        line.windows(8).any(|word| word == b"/voipctl").then_some(())?;
        (!line.starts_with(b"setpriv")).then_some(line)
    });
    let seen = String::from_utf8(seen.await).unwrap();
    assert!(seen.contains("--password-stdin"), "{seen}");
    adding.is_told(&format!("{SECRET}\nnot this line\n"));
    assert_eq!(adding.ends().await.well(), "/org/voipd/account/2\n");
    ctl(&phone, &["wait", "registered", "--account", "work", "--timeout", "10"]).await.silent();
    for monitor in &mut monitors {
        monitor.says("registered").await;
    }

    let shown = ctl(&phone, &["account", "show", "work", "--json"]).await.json();
    assert_eq!((&shown["has_password"], &shown["origin"]), (&true.into(), &"bus".into()));
    let objects = voipd_dbus::names::ROOT_PATH;
    let manager = zbus::fdo::ObjectManagerProxy::new(&phone.connection, voipd_dbus::names::BUS_NAME, objects);
    let objects = format!("{:?}", manager.await.unwrap().get_managed_objects().await.unwrap());
    assert!(objects.contains("HasPassword"), "{objects}");
    let mut texts = vec![
        ("the bus", objects),
        ("the log", phone.log()),
        ("a command line", seen),
        ("the monitor", monitors[0].output()),
        ("the monitor's JSON", monitors[1].output()),
    ];
    for arguments in [&["account", "show", "work"][..], &["account", "list", "--json"], &["status", "--json"]]
    {
        texts.push(("a command's output", ctl(&phone, arguments).await.well().to_owned()));
    }
    for (place, text) in texts {
        assert!(!text.contains(SECRET), "the password is in {place}: {text}");
    }

    // It lies in a file that nobody else reads, and outlives the daemon.
    let state = phone.directory().join("state");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&state), 0o700);
    for file in std::fs::read_dir(&state).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    phone.restart().await;
    ctl(&phone, &["wait", "registered", "--account", "work", "--timeout", "10"]).await.silent();
    assert!(!phone.log().contains(SECRET), "the password is in the log");
    ctl(&phone, &["account", "remove", "work"]).await.silent();
    let kept = std::fs::read(state.join("voipd.sqlite")).unwrap();
    assert!(!kept.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "a removed password is kept");
    phone.restart().await;
    ctl(&phone, &["account", "show", "work"]).await.fails(1, &["there is no account 'work'"]);
    phone.stop().await;
}

#[tokio::test]
async fn a_wrong_password_is_16() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Md5).await;
    let phone = phone(&lab).await;
    let mut adding = add(&phone, &registrar, "work");
    adding.is_told("wrong-secret");
    adding.ends().await.well();
    let refused = ["the server refused the user name or the password"];
    ctl(&phone, &["wait", "registered", "--timeout", "10"]).await.fails(16, &refused);
    let list = ctl(&phone, &["account", "list"]).await;
    let line = list.well().lines().find(|line| line.starts_with("work ")).unwrap();
    assert!(line.contains("failed") && line.contains("credentials (401)"), "{line}");
    // Its calls are refused for the same reason.
    let call = ctl(&phone, &["call", "bob", "--account", "work", "--wait"]).await;
    assert_eq!(call.code, 16, "{}", call.output);
    assert!(!phone.log().contains("wrong-secret"), "the password is in the log");
    phone.stop().await;
}

#[tokio::test]
async fn an_account_is_added_listed_switched_and_removed() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Md5).await;
    let config = Config::at(lab.address()).account("name = \"hall\"\nkind = \"echo\"");
    let mut phone = Voipd::start(&lab, "phone", config).await;
    let mut adding = add(&phone, &registrar, "work");
    adding.is_told(SECRET);
    adding.ends().await.well();
    ctl(&phone, &["wait", "registered", "--timeout", "10"]).await.silent();
    let more = ctl(
        &phone,
        &[
            "account",
            "add",
            "second",
            "--address",
            "sip:bob@192.0.2.1",
            "--display-name",
            "Bob B.",
            "--registrar",
            "sip:192.0.2.2",
            "--outbound-proxy",
            "sip:192.0.2.3:5080",
            "--auth-user",
            "b17",
            "--no-register",
            "--codecs",
            "PCMA,opus",
            "--disabled",
            "--json",
        ],
    )
    .await
    .json();
    assert_eq!((&more["path"], &more["number"]), (&"/org/voipd/account/4".into(), &4.into()));
    let shown = ctl(&phone, &["account", "show", "second"]).await;
    for line in [
        "Name:                second",
        "Kind:                sip",
        "Origin:              bus",
        "Enabled:             no",
        "State:               disabled",
        "Address:             sip:bob@192.0.2.1",
        "Display name:        Bob B.",
        "Registers:           no",
        "Registrar:           sip:192.0.2.2",
        "Outbound proxy:      sip:192.0.2.3:5080",
        "Authentication user: b17",
        "Password:            none",
        "Codecs:              PCMA, opus",
    ] {
        assert!(shown.well().lines().any(|shown| shown == line), "{line}\n{}", shown.output);
    }
    let names = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    let list = ctl(&phone, &["account", "list", "--json"]).await.json();
    assert_eq!(names(&list), ["direct", "hall", "work", "second"]);

    let state = async |phone: &Voipd, name: &str| {
        ctl(phone, &["account", "show", name, "--json"]).await.json()["state"].clone()
    };
    ctl(&phone, &["account", "unregister", "work"]).await.silent();
    phone.account_is("work", "unregistered", SOON).await;
    ctl(&phone, &["account", "register", "work"]).await.silent();
    ctl(&phone, &["wait", "registered", "--account", "work", "--timeout", "10"]).await.silent();
    ctl(&phone, &["account", "disable", "work"]).await.silent();
    ctl(&phone, &["account", "disable", "hall"]).await.silent();
    ctl(&phone, &["account", "enable", "second"]).await.silent();
    ctl(&phone, &["call", "bob", "--account", "work"])
        .await
        .fails(1, &["'work' is disabled", "enable it first"]);
    phone.restart().await;
    assert_eq!(state(&phone, "work").await, "disabled");
    assert_eq!(state(&phone, "hall").await, "disabled");
    assert_eq!(state(&phone, "second").await, "ready");
    // By path as well as by name.
    let path = phone.account("work").await.inner().path().to_string();
    ctl(&phone, &["account", "enable", &path]).await.silent();
    ctl(&phone, &["wait", "registered", "--timeout", "10"]).await.silent();
    ctl(&phone, &["account", "remove", &path]).await.silent();
    ctl(&phone, &["account", "remove", "second"]).await.silent();
    ctl(&phone, &["account", "remove", "second"]).await.fails(1, &["there is no account 'second'"]);
    assert_eq!(names(&ctl(&phone, &["account", "list", "--json"]).await.json()), ["direct", "hall"]);
    phone.stop().await;
}

#[tokio::test]
async fn an_account_that_cannot_be_says_why() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).account("name = \"hall\"\nkind = \"echo\"");
    let phone = Voipd::start(&lab, "phone", config).await;
    let add = ["account", "add"];
    for (arguments, words) in [
        (&["hall", "--kind", "echo"][..], &["an account 'hall' already", "another name"][..]),
        (&["direct", "--address", "sip:a@192.0.2.1"], &["built-in account", "choose another"]),
        (&["work"], &["address is missing", "sip:alice@example.org"]),
        (&["work", "--address", "alice"], &["address", "sip:"]),
        (&["a b", "--address", "sip:a@192.0.2.1"], &["name", "letters"]),
        (&["work", "--address", "sip:a@192.0.2.1", "--codecs", "PCMU,G729"], &["codecs", "G729"]),
        (&["work", "--address", "sip:a@192.0.2.1", "--expires", "5"], &["expires", "60"]),
        (&["work", "--address", "sip:a@192.0.2.1", "--ptime", "21"], &["ptime", "20"]),
        (&["work", "--kind", "fax", "--address", "sip:a@192.0.2.1"], &["kind", "echo"]),
        (&["work", "--kind", "echo", "--allow-from", "home"], &["allow-from", "192.168.0.0/16"]),
        (&["work", "--address", "sip:a@192.0.2.1", "--password-stdin"], &["first line of standard input"]),
    ] {
        ctl(&phone, &[&add[..], arguments].concat()).await.fails(1, words);
    }
    // A password among the arguments is refused, and not repeated.
    for option in [&["--password", "geheim"][..], &["--password=geheim"]] {
        let ended =
            ctl(&phone, &[&add[..], &["work", "--address", "sip:a@192.0.2.1"], option].concat()).await;
        ended.fails(2, &["--password-stdin"]);
        assert!(!ended.errors.contains("geheim"), "{}", ended.errors);
    }
    ctl(&phone, &["account", "remove", "hall"]).await.fails(1, &["configuration", "disable it"]);
    ctl(&phone, &["account", "remove", "direct"]).await.fails(1, &["direct"]);
    ctl(&phone, &["account", "register", "hall"]).await.fails(1, &["'hall' does not register"]);
    ctl(&phone, &["account", "unregister", "direct"]).await.fails(1, &["'direct' does not register"]);
    for command in ["show", "remove", "enable", "disable", "register", "unregister"] {
        let missing = ["there is no account 'nobody'", "voipctl account list"];
        ctl(&phone, &["account", command, "nobody"]).await.fails(1, &missing);
        ctl(&phone, &["account", command]).await.fails(2, &["<ACCOUNT>"]);
    }
    assert_eq!(ctl(&phone, &["account", "list", "--json"]).await.json().as_array().unwrap().len(), 2);
    phone.stop().await;
}

#[tokio::test]
async fn the_way_of_media_is_set_shown_kept_and_explained() {
    let lab = Lab::shared();
    let mut phone = phone(&lab).await;
    let secret = lab.path("relay-password");
    std::fs::write(&secret, "relay-geheim\nnot this line\n").unwrap();
    let secret = secret.to_str().unwrap();
    let nobody = lab.address();
    let (stun, udp, tls) =
        (format!("stun:{nobody}:3479"), format!("turn:{nobody}"), format!("turns:{nobody}:443"));
    let add = ["account", "add", "work", "--address", "sip:a@192.0.2.1", "--no-register", "--no-password"];
    let relays = format!("{udp},{tls}");
    let way = ["--ice", "relay", "--stun", &stun, "--relay", &relays, "--relay-user", "anna"];
    let login = ["--relay-password-file", secret];
    ctl(&phone, &[&add[..], &way[..], &login[..]].concat()).await.well();
    for restarted in [false, true] {
        if restarted {
            phone.restart().await;
        }
        let shown = ctl(&phone, &["account", "show", "work"]).await;
        let lines = [
            "ICE:                 relay".to_owned(),
            format!("STUN:                {stun}"),
            format!("Relays:              {udp}, {tls}"),
        ];
        for line in lines {
            assert!(shown.well().lines().any(|shown| shown == line), "{line}\n{}", shown.output);
        }
        let json = ctl(&phone, &["account", "show", "work", "--json"]).await.json();
        assert_eq!(
            (&json["ice"], &json["stun"], &json["relays"]),
            (&"relay".into(), &serde_json::json!([stun]), &serde_json::json!([udp, tls]))
        );
        let nat = ctl(&phone, &["nat"]).await;
        assert!(nat.well().lines().any(|line| line.starts_with(&udp)), "{}", nat.output);
        for text in [&shown.output, &json.to_string(), &nat.output, &phone.log()] {
            assert!(!text.contains("geheim"), "{text}");
        }
    }
    ctl(&phone, &["account", "remove", "work"]).await.silent();
    // What is not said is as in the configuration.
    ctl(&phone, &add).await.well();
    let plain = ctl(&phone, &["account", "show", "work", "--json"]).await.json();
    let none = serde_json::json!([]);
    assert_eq!((&plain["ice"], &plain["stun"], &plain["relays"]), (&"auto".into(), &none, &none));
    ctl(&phone, &["account", "remove", "work"]).await.silent();

    let empty = lab.path("empty");
    std::fs::write(&empty, "\nsecond line\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, code, words) in [
        (&["--ice", "maybe"][..], 1, &["ice is 'maybe'", "auto", "off", "relay"][..]),
        (&["--ice", "relay"], 1, &["relays is missing", "nothing else is used"]),
        (&["--stun", "turn:192.0.2.9"], 1, &["'turn:192.0.2.9' is no STUN server", "stun:HOST"]),
        (&["--relay", "stun:192.0.2.9", "--relay-user", "anna", "--relay-password-file", secret], 1, {
            &["'stun:192.0.2.9' is no relay", "turns:HOST"]
        }),
        (&["--relay", "turn:192.0.2.9"], 2, &["--relay-user"]),
        (&["--relay", "turn:192.0.2.9", "--relay-user", "anna"], 2, &["--relay-password-file"]),
        (&["--relay-user", "anna", "--relay-password-file", empty], 1, &["no password in the first line"]),
        (&["--relay-user", "anna", "--relay-password-file", "/nowhere"], 1, &["cannot read /nowhere"]),
    ] {
        ctl(&phone, &[&add[..], arguments].concat()).await.fails(code, words);
    }
    phone.stop().await;
}
