//! SIP over TCP and TLS with real peers: calls with sound, registrations, and certificates that are not good.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use voipd_dbus::DialOptions;
use voipd_tests::authority::{Authority, Certificate, Validity, self_signed};
use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::sipp::{Script, Sipp, pcmu};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::{reading, writing};
use voipd_tests::{Call, Config, Lab, SOON, Voipctl, Voipd, needs_root, pause, timely, until};

/// Writes a file of a test.
fn file(lab: &Lab, name: &str, text: &str) -> PathBuf {
    let path = lab.path(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A telephone that takes TLS connections at its address, with this certificate.
fn secured(lab: &Lab, config: Config, address: std::net::Ipv4Addr, certificate: &Certificate) -> Config {
    let chain = file(lab, "own.pem", &certificate.chain);
    let key = file(lab, "own.key", &certificate.key);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    config
        .line("sip", format!("tls-listen = [\"{address}:5061\"]"))
        .line("sip", format!("tls-certificate = \"{}\"", chain.display()))
        .line("sip", format!("tls-key = \"{}\"", key.display()))
}

/// Says a sentence into a call to an echo service, and hears it back whole.
async fn echo_is_heard(lab: &Lab, phone: &Voipd, target: &str, what: &str) -> Call {
    let (said, heard) = (speech(Speaker::Alice, 8000), lab.path("heard.wav"));
    let call = phone.dial_speaking(target, &said, &heard).await;
    call.is("active").await;
    let said = Sound::load(&said);
    pause(said.seconds() + 0.5).await;
    call.assert_no_loss(what).await;
    call.hang_up().await;
    compare(&said, &Sound::load(&heard), Codec::Waveform).assert_heard(what, 0.97);
    call
}

/// Panics unless all that a telephone has sent and received went by this transport.
fn carried_by(phone: &Voipd, transport: &str) {
    let log = phone.log();
    let carried = |line: &&str| line.contains("SIP from ") || line.contains("SIP to ");
    let messages: Vec<&str> = log.lines().filter(carried).collect();
    assert!(messages.len() > 5, "{log}");
    let stray = messages.iter().find(|line| !line.contains(&format!(" by {transport}: ")));
    assert!(stray.is_none(), "{stray:?} in\n{log}");
}

/// A trace of a telephone, begun now.
async fn traced(phone: &Voipd) -> Voipctl {
    let mut trace = Voipctl::start(phone.voipctl(&["trace", "--brief"]));
    trace.says("tracing voipd").await;
    trace
}

/// Panics unless a trace shows a whole call by this transport.
async fn shows_the_call(mut trace: Voipctl, transport: &str) {
    trace.says(": BYE sip:").await;
    trace.signal(Signal::SIGINT);
    let shown = trace.ends().await.well().to_owned();
    for (way, what) in
        [("->", "INVITE sip:echo@"), ("<-", "SIP/2.0 200 "), ("->", "ACK sip:"), ("->", "BYE sip:")]
    {
        let found = shown.lines().any(|line| {
            line.contains(&format!(" {way} ")) && line.contains(&format!(" {transport} call 1: {what}"))
        });
        assert!(found, "no {way} {what} by {transport} in\n{shown}");
    }
}

const ECHO: &str = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"127.0.0.0/8\", \"198.18.0.0/15\"]\ncodecs = [\"PCMU\"]";

#[timely]
async fn two_telephones_call_each_other_over_tcp() {
    let lab = Lab::alone();
    let callee = Voipd::start(&lab, "callee", Config::at(lab.address()).account(ECHO)).await;
    let caller = Voipd::start(&lab, "caller", Config::at(lab.address())).await;
    let target = format!("sip:echo@{};transport=tcp", callee.address);
    let trace = traced(&caller).await;
    echo_is_heard(&lab, &caller, &target, "echo over TCP").await;
    shows_the_call(trace, "TCP").await;
    carried_by(&callee, "TCP");
    caller.stop().await;
    callee.stop().await;
}

#[timely]
async fn two_telephones_call_each_other_over_tls() {
    let lab = Lab::alone();
    let authority = Authority::new("voipd test authority");
    let address = lab.address();
    let certificate = authority.issue(&[&address.to_string()], Validity::Good);
    let callee = secured(&lab, Config::at(address).account(ECHO), address, &certificate);
    let callee = Voipd::start(&lab, "callee", callee).await;
    let ca = file(&lab, "ca.pem", &authority.pem());
    let trusting = Config::at(lab.address()).line("direct", format!("tls-ca = \"{}\"", ca.display()));
    let caller = Voipd::start(&lab, "caller", trusting).await;
    let target = format!("sip:echo@{address};transport=tls");
    let trace = traced(&caller).await;
    echo_is_heard(&lab, &caller, &target, "echo over TLS").await;
    shows_the_call(trace, "TLS").await;
    carried_by(&callee, "TLS");

    // Who does not know the authority places no call, by this way or another.
    let stranger = Voipd::start(&lab, "stranger", Config::at(lab.address())).await;
    let call = stranger.dial(&target).await;
    assert_eq!(call.ended().await, ("certificate-unknown-issuer".into(), 0));
    for phone in [caller, stranger, callee] {
        phone.stop().await;
    }
}

/// The lines of an account at a registrar, by a transport.
fn account(registrar: &Kamailio, user: &str, transport: &str, more: &str) -> String {
    format!("{}\ntransport = \"{transport}\"\n{more}", registrar.account(user))
}

/// Alice's way to the registrar is the one under test; Bob is there by datagrams.
async fn a_call_by_way_of_the_registrar(transport: &str, security: &str) {
    let lab = Lab::alone();
    let authority = Authority::new("voipd test authority");
    let ca = file(&lab, "ca.pem", &authority.pem());
    let address = lab.address();
    let certificate = authority.issue(&[&address.to_string()], Validity::Good);
    let registrar = Kamailio::start_at(&lab, Digest::Sha256, address, Some(&certificate)).await;
    let trust = format!("tls-ca = \"{}\"", ca.display());
    let alice = Config::at(lab.address()).account(account(&registrar, "alice", transport, &trust));
    let alice = Voipd::start(&lab, "alice", alice).await;
    let bob = Config::at(lab.address()).account(registrar.account("bob"));
    let bob = Voipd::start(&lab, "bob", bob).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let shown = alice.account("alice").await;
    assert_eq!(shown.transport().await.unwrap(), transport);
    let protected = shown.security().await.unwrap();
    assert!(protected.starts_with(security), "{protected}");
    assert!(registrar.log().contains(&format!("by {transport}")), "{}", registrar.log());

    let (from_alice, from_bob) = (speech(Speaker::Alice, 8000), speech(Speaker::Bob, 8000));
    for alice_calls in [true, false] {
        let (caller, callee) = if alice_calls { (&alice, &bob) } else { (&bob, &alice) };
        let (at_caller, at_callee) = (lab.path("at-caller.wav"), lab.path("at-callee.wav"));
        let options = DialOptions {
            account: Some(if alice_calls { "alice" } else { "bob" }.into()),
            play: Some(reading(&from_alice)),
            record: Some(writing(&at_caller)),
            ..DialOptions::default()
        };
        let call = caller.dial_with(if alice_calls { "bob" } else { "alice" }, options).await;
        let answered = callee.incoming().await;
        answered.accept_speaking(&from_bob, &at_callee).await;
        call.is("active").await;
        answered.is("active").await;
        pause(5.5).await;
        call.assert_no_loss("at the caller").await;
        answered.assert_no_loss("at the callee").await;
        // Requests of both sides within the call find their way.
        answered.hold().await;
        call.is("held").await;
        answered.resume().await;
        call.is("active").await;
        call.hang_up().await;
        assert_eq!(answered.ended().await.0, "remote");
        let heard = |said: &_, heard: &_| compare(&Sound::load(said), &Sound::load(heard), Codec::Perceptual);
        heard(&from_alice, &at_callee).assert_heard("caller at callee", 0.85);
        heard(&from_bob, &at_caller).assert_heard("callee at caller", 0.85);
    }
    alice.stop().await;
    bob.stop().await;
    let log = registrar.log();
    let unregistered =
        log.lines().any(|line| line.contains("REGISTERED alice") && line.contains("expires=0"));
    let explicit = log.lines().any(|line| line.contains("REGISTERED alice expires 0"));
    assert!(unregistered || explicit, "alice did not take back the registration:\n{log}");
}

#[timely]
async fn a_registrar_is_used_over_tcp() {
    a_call_by_way_of_the_registrar("tcp", "none").await;
}

#[timely]
async fn a_registrar_is_used_over_tls() {
    a_call_by_way_of_the_registrar("tls", "TLSv1.3 TLS_").await;
}

#[tokio::test]
async fn each_bad_certificate_of_a_registrar_has_its_reason_and_nothing_goes_another_way() {
    let lab = Lab::shared();
    let authority = Authority::new("voipd test authority");
    let ca = file(&lab, "ca.pem", &authority.pem());
    let address = lab.address();
    let name = address.to_string();
    let cases = [
        (authority.issue(&[&name], Validity::Expired), "certificate-expired"),
        (authority.issue(&[&name], Validity::NotYet), "certificate-not-yet-valid"),
        (authority.issue(&["other.voipd.test"], Validity::Good), "certificate-wrong-name"),
        (self_signed(&[&name], Validity::Good), "certificate-unknown-issuer"),
    ];
    for (certificate, reason) in cases {
        let registrar = Kamailio::start_at(&lab, Digest::Md5, address, Some(&certificate)).await;
        let trust = format!("tls-ca = \"{}\"", ca.display());
        let config = Config::at(lab.address()).account(account(&registrar, "alice", "tls", &trust));
        let phone = Voipd::start(&lab, reason, config).await;
        phone.account_is("alice", "failed", SOON).await;
        let shown = phone.account("alice").await;
        assert_eq!(shown.reason().await.unwrap(), reason);
        assert_eq!(shown.security().await.unwrap(), "");
        assert!(shown.retry_in().await.unwrap() > 0, "voipd has given up");
        let options = DialOptions { account: Some("alice".into()), ..DialOptions::default() };
        let call = phone.dial_with("bob", options).await;
        assert_eq!(call.ended().await, (reason.into(), 0));
        let status = phone.voipctl(&["wait", "registered", "--account", "alice"]).output().unwrap();
        assert_eq!(status.status.code(), Some(23), "{}", String::from_utf8_lossy(&status.stderr));
        assert!(!registrar.log().contains("REGISTERED"), "{}", registrar.log());
        phone.stop().await;
    }
}

#[tokio::test]
async fn an_account_that_comes_over_the_bus_brings_its_authority_and_keeps_it() {
    let lab = Lab::shared();
    let authority = Authority::new("voipd test authority");
    let ca = file(&lab, "ca.pem", &authority.pem());
    let address = lab.address();
    let certificate = authority.issue(&[&address.to_string()], Validity::Good);
    let registrar = Kamailio::start_at(&lab, Digest::Md5, address, Some(&certificate)).await;
    let mut phone = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let secret = file(&lab, "secret", "alice-secret\n");
    let mut add = phone.voipctl(&["account", "add", "alice", "--address", &format!("sip:alice@{address}")]);
    add.args(["--transport", "tls", "--realm", "voipd.test", "--password-stdin", "--tls-ca"]).arg(&ca);
    let added = add.stdin(std::fs::File::open(secret).unwrap()).output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    phone.account_is("alice", "registered", SOON).await;
    phone.restart().await;
    phone.account_is("alice", "registered", SOON).await;
    assert!(phone.account("alice").await.security().await.unwrap().starts_with("TLSv1.3"));
    assert!(registrar.log().contains("by tls"), "{}", registrar.log());
    assert!(phone.ctl(&["account", "show", "alice"]).contains("TLSv1.3"));
    phone.stop().await;
}

#[timely]
async fn sipp_calls_and_is_called_over_tcp() {
    let lab = Lab::alone();
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address()).account(ECHO)).await;
    let script = Script::caller().call(&pcmu(&[])).hung_up();
    let peer = Sipp::caller_at(&lab, lab.address(), phone.address, script, &["-t", "t1"]);
    let call = phone.incoming().await;
    call.accept().await;
    call.is("active").await;
    pause(0.5).await;
    call.hang_up().await;
    peer.succeeds().await;

    let script = Script::callee().invited().reply("180 Ringing").answer(&pcmu(&[])).receive("ACK").hung_up();
    let peer = Sipp::callee_at(&lab, lab.address(), script, &["-t", "t1"]).await;
    let target = format!("sip:echo@{};transport=tcp", peer.address);
    echo_is_heard(&lab, &phone, &target, "through SIPp over TCP").await;
    peer.succeeds().await;
    phone.stop().await;
}

/// baresip is called and calls, over a transport.
async fn baresip_over(transport: &str) {
    let lab = Lab::alone();
    let wire = Wire::new();
    let authority = Authority::new("voipd test authority");
    let ca = file(&lab, "ca.pem", &authority.pem());
    let names = [wire.here.to_string(), wire.there.to_string()];
    let certificate = |name: &str| authority.issue(&[name], Validity::Good);
    let config = Config::at(wire.here).line("direct", format!("tls-ca = \"{}\"", ca.display()));
    let config = secured(&lab, config, wire.here, &certificate(&names[0]));
    let phone = Voipd::start(&lab, "voipd", config).await;
    let mut baresip =
        Baresip::start_with_tls(&lab, &wire, "PCMU/8000/1", Answer::Auto, &certificate(&names[1]), &ca).await;
    let (said, theirs) = (speech(Speaker::Alice, 8000), speech(Speaker::Bob, 8000));
    for voipd_calls in [true, false] {
        let heard = lab.path("heard.wav");
        let call = if voipd_calls {
            let target = format!("sip:bob@{};transport={transport}", wire.there);
            phone.dial_speaking(&target, &said, &heard).await
        } else {
            let target = format!("sip:voipd@{};transport={transport}", wire.here);
            baresip.command("dial", &target).await;
            let call = phone.incoming().await;
            call.accept_speaking(&said, &heard).await;
            call
        };
        baresip.event("CALL_ESTABLISHED").await;
        call.is("active").await;
        pause(6.0).await;
        call.assert_no_loss("with baresip").await;
        if voipd_calls {
            call.hang_up().await;
            baresip.event("CALL_CLOSED").await;
        } else {
            baresip.command("hangup", "").await;
            assert_eq!(call.ended().await.0, "remote");
        }
        pause(0.3).await;
        let who = if voipd_calls { "voipd calls" } else { "baresip calls" };
        compare(&Sound::load(&theirs), &Sound::load(&heard), Codec::Waveform)
            .assert_heard(&format!("{transport}, {who}: at voipd"), 0.97);
    }
    phone.stop().await;
}

#[timely]
async fn baresip_is_spoken_with_over_tcp() {
    if needs_root("baresip_is_spoken_with_over_tcp") {
        baresip_over("tcp").await;
    }
}

#[timely]
async fn baresip_is_spoken_with_over_tls() {
    if needs_root("baresip_is_spoken_with_over_tls") {
        baresip_over("tls").await;
    }
}

#[tokio::test]
async fn a_call_outlives_a_restart_of_the_proxy_that_a_connection_leads_to() {
    let lab = Lab::shared();
    let authority = Authority::new("voipd test authority");
    let ca = file(&lab, "ca.pem", &authority.pem());
    let address = lab.address();
    let certificate = authority.issue(&[&address.to_string()], Validity::Good);
    let mut registrar = Kamailio::start_at(&lab, Digest::Sha256, address, Some(&certificate)).await;
    let trust = format!("tls-ca = \"{}\"", ca.display());
    let alice = Config::at(lab.address()).account(account(&registrar, "alice", "tls", &trust));
    let alice = Voipd::start(&lab, "alice", alice).await;
    let bob = Config::at(lab.address()).account(registrar.account("bob"));
    let bob = Voipd::start(&lab, "bob", bob).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let call = alice.dial("bob").await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    answered.is("active").await;

    registrar.crash();
    let lost = alice.account("alice").await;
    until("the connection is missed", SOON, async || {
        (lost.state().await.unwrap() != "registered").then_some(())
    })
    .await;
    registrar.revive().await;
    // By itself, and in seconds: the proxy knew the way to alice by the lost connection alone.
    alice.account_is("alice", "registered", SOON).await;
    until("the callee has heard of it", SOON, async || {
        let log = bob.log();
        let (_, since) = log.split_once("ACK sip:").unwrap_or_default();
        since.contains(": INVITE sip:").then_some(())
    })
    .await;
    answered.hold().await;
    until("the caller is held", SOON, async || call.proxy.remote_hold().await.unwrap().then_some(())).await;
    answered.hang_up().await;
    assert_eq!(call.ended().await.0, "remote");
    for phone in [alice, bob] {
        phone.stop().await;
    }
}
