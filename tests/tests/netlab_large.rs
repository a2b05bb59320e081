//! docs/large.md: kamailio as registrar and coturn as relay, with the very files and records that the page shows.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use voipd_tests::authority::{Authority, Validity};
use voipd_tests::exchange::Conversation;
use voipd_tests::netlab::{Host, Internet, Kind, NameServer, Nat, Site};
use voipd_tests::process::{Process, program, run};
use voipd_tests::sockets::{Transport, listens};
use voipd_tests::{Config, Lab, SOON, Voipd, needs_root, timely, until};

/// The page, with the places of this test in place of its own.
struct Page {
    text: String,
}

impl Page {
    fn new(places: &[(&str, &str)]) -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/large.md");
        let mut text = std::fs::read_to_string(page).unwrap();
        for (there, here) in places {
            assert!(text.contains(there), "the page does not speak of {there}");
            text = text.replace(there, here);
        }
        Self { text }
    }

    /// The only block of a language, or the last of several.
    fn block(&self, language: &str) -> &str {
        let (_, rest) = self.text.rsplit_once(&format!("```{language}\n")).expect(language);
        rest.split_once("```").unwrap().0
    }
}

async fn started(mut process: Process, transport: Transport, port: u16) -> Process {
    until(&format!("port {port} is served"), SOON, async || {
        assert!(process.ended().is_none(), "it does not start:\n{}", process.output());
        listens(process.id(), transport, None, port).then_some(())
    })
    .await;
    process
}

async fn kamailio(lab: &Lab, host: &Host, page: &Page, authority: &Authority) -> Process {
    let directory = lab.directory("kamailio");
    let certificate = authority.issue(&["example.org"], Validity::Good);
    std::fs::write(directory.join("example.org.pem"), &certificate.chain).unwrap();
    std::fs::write(directory.join("example.org.key"), &certificate.key).unwrap();
    let mut users = page.block("users").to_owned();
    for user in ["alice", "bob"] {
        let digest = page.block("sh").replace("alice", user).replace("PASSWORD", &format!("{user}-secret"));
        let digest = run(program("sh").args(["-c", &digest]));
        let digest = digest.split_whitespace().next().unwrap();
        users = users.replacen("DIGEST", digest, 1);
    }
    std::fs::create_dir(directory.join("users")).unwrap();
    std::fs::write(directory.join("users/subscriber"), users).unwrap();
    let file = directory.join("kamailio.cfg");
    std::fs::write(&file, page.block("kamailio")).unwrap();
    let mut command = host.namespace.program("kamailio");
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(&file);
    command.arg("-Y").arg(&directory).arg("-w").arg(&directory);
    started(Process::start("kamailio", command, &directory.join("log")), Transport::Tcp, 5061).await
}

async fn coturn(lab: &Lab, host: &Host, page: &Page, authority: &Authority) -> Process {
    let directory = lab.directory("coturn");
    let certificate = authority.issue(&["relay.example.org"], Validity::Good);
    std::fs::write(directory.join("relay.example.org.pem"), &certificate.chain).unwrap();
    std::fs::write(directory.join("relay.example.org.key"), &certificate.key).unwrap();
    let file = directory.join("turnserver.conf");
    let mut config = page.block("turnserver").to_owned();
    for user in ["alice", "bob"] {
        config = config.replace(&format!("user={user}:PASSWORD"), &format!("user={user}:{user}-relay"));
    }
    std::fs::write(&file, config).unwrap();
    let mut command = host.namespace.program("turnserver");
    // Where it runs as a service, Debian's package has made a place for these.
    command.arg("-c").arg(&file).arg("--userdb").arg(directory.join("turndb"));
    command.arg("--pidfile").arg(directory.join("pid")).args(["--log-file=stdout", "--simple-log"]);
    started(Process::start("coturn", command, &directory.join("log")), Transport::Tcp, 5349).await
}

async fn phone(lab: &Lab, site: &Site, user: &str, page: &Page, authority: &Path) -> Voipd {
    let directory = lab.directory(user);
    for (name, password) in [("password", "secret"), ("relay-password", "relay")] {
        let file = directory.join(format!("{user}.{name}"));
        std::fs::write(&file, format!("{user}-{password}\n")).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    let account = page.block("toml").replace("alice", user);
    let account = account.strip_prefix("[[account]]\n").unwrap();
    let account = format!("{account}\ntls-ca = \"{}\"", authority.display());
    let names = format!("name-servers = [\"{}\"]", Internet::SERVER);
    let config = Config::on(site.client(), site.address).line("sip", names).account(account);
    let phone = Voipd::start(lab, user, config).await;
    phone.account_is(user, "registered", SOON).await;
    phone
}

#[timely]
async fn the_set_up_of_the_page_carries_a_call_where_nothing_else_does() {
    if !needs_root("the_set_up_of_the_page_carries_a_call_where_nothing_else_does") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let (registrar, relay) = (internet.host("registrar"), internet.host("relay"));
    let second = internet.second_address(&relay);
    let kamailio_files = format!("{}/", lab.directory("kamailio").display());
    let coturn_files = format!("{}/", lab.directory("coturn").display());
    let page = Page::new(&[
        ("203.0.113.5", &registrar.address.to_string()),
        ("203.0.113.6", &relay.address.to_string()),
        ("203.0.113.7", &second.to_string()),
        ("/etc/kamailio/", &kamailio_files),
        ("/etc/coturn/", &coturn_files),
    ]);
    let authority = Authority::new("Everybody believes this");
    let believed = lab.path("authority.pem");
    std::fs::write(&believed, authority.pem()).unwrap();
    let _names = NameServer::start(&lab, internet.core(), Internet::SERVER, page.block("zone")).await;
    let _registrar = kamailio(&lab, &registrar, &page, &authority).await;
    let _relay = coturn(&lab, &relay, &page, &authority).await;
    let sites = [Kind::Behind(Nat::TcpOnly), Kind::Behind(Nat::Symmetric)].map(|kind| internet.site(kind));
    let alice = phone(&lab, &sites[0], "alice", &page, &believed).await;
    let bob = phone(&lab, &sites[1], "bob", &page, &believed).await;
    let judgement = Conversation::begin(&lab, &alice, ("bob", &bob)).await.end().await;
    judgement.assert_both_heard("docs/large.md");
    alice.stop().await;
    bob.stop().await;
}
