//! ICE and TURN with baresip behind NAT: its modules `ice`, `stun` and `turn` are another's work.

use std::time::Instant;

use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::exchange::Exchange;
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::kamailio::Digest;
use voipd_tests::netlab::{Internet, Kind, Nat};
use voipd_tests::speech::{Speaker, speech, speech_after};
use voipd_tests::{Config, Lab, Voipd, needs_root, pause, timely};

/// How long voipd is silent first, in seconds: baresip looks at one pair of addresses after the other, and takes its time.
const LEAD: f64 = 12.0;

/// What stands in baresip's account for a way through NAT.
const ICE_WITH_STUN: &str = "medianat=ice;stunserver=stun:12.34.56.1:3478";
const ICE_WITH_TURN: &str = "medianat=ice;stunserver=turn:12.34.56.1:3478;stunuser=bob;stunpass=bob-secret";
const TURN: &str = "medianat=turn;stunserver=turn:12.34.56.1:3478;stunuser=bob;stunpass=bob-secret";

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Voipd,
    Baresip,
}

/// The two talk, voipd at one site and baresip at another; answers whether voipd sends by a relay.
async fn talk(caller: Caller, voipd_at: Kind, baresip_at: Kind, medianat: &str) -> bool {
    let lab = Lab::alone();
    let internet = Internet::new();
    let sites = [voipd_at, baresip_at].map(|kind| internet.site(kind));
    // It knows no other digest.
    let exchange = Exchange::start_with(&lab, &internet, Digest::Md5).await;
    let phone = exchange.phone(&lab, "alice", &sites[0]).await;
    let account = format!("<sip:bob@{}>;auth_pass=bob-secret;regint=600;{medianat}", Internet::SERVER);
    let modules = "module ice.so\nmodule stun.so\nmodule turn.so\n";
    let answer = if caller == Caller::Voipd { Answer::Auto } else { Answer::Manual };
    let mut baresip = Baresip::at_site(&lab, &sites[1], "PCMU/8000/1", answer, &account, modules).await;
    baresip.registered().await;
    let (mine, heard) = (speech_after(Speaker::Alice, 8000, LEAD), lab.path("heard.wav"));
    let call = if caller == Caller::Voipd {
        phone.dial_speaking("bob", &mine, &heard).await
    } else {
        baresip.command("dial", &format!("sip:alice@{}", Internet::SERVER)).await;
        let call = phone.incoming().await;
        call.accept_speaking(&mine, &heard).await;
        call
    };
    baresip.event("CALL_ESTABLISHED").await;
    call.is("active").await;
    let answered = Instant::now();
    let way = call.way().await;
    println!("{way:?}");
    pause(LEAD + 5.5 - answered.elapsed().as_secs_f64()).await;
    call.hang_up().await;
    baresip.event("CALL_CLOSED").await;
    pause(0.3).await;
    let said = |speaker| Sound::load(&speech(speaker, 8000));
    let verdict = compare(&said(Speaker::Alice), &baresip.heard(), Codec::Waveform);
    println!("at baresip: {verdict}");
    assert!(verdict.correlation > 0.8 && verdict.missing_ms() <= 160, "at baresip: {verdict}");
    // baresip speaks from the first moment on, also while a way is being looked for.
    let verdict = compare(&said(Speaker::Bob), &Sound::load(&heard), Codec::Waveform);
    println!("at voipd: {verdict}");
    assert!(verdict.correlation > 0.5 && verdict.missing_ms() <= 1500, "at voipd: {verdict}");
    phone.stop().await;
    way.iter().any(|end| end == "relay")
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn ice_with_baresip_behind_a_cone() {
    if needs_root("ice_with_baresip_behind_a_cone") {
        let relayed = talk(Caller::Voipd, Kind::Behind(Nat::Cone), Kind::TwoNats, ICE_WITH_STUN).await;
        assert!(!relayed);
    }
}

#[timely]
async fn ice_with_baresip_by_its_relay() {
    if needs_root("ice_with_baresip_by_its_relay") {
        let symmetric = Kind::Behind(Nat::Symmetric);
        let relayed = talk(Caller::Baresip, symmetric, symmetric, ICE_WITH_TURN).await;
        assert!(relayed);
    }
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn baresip_with_a_relay_and_without_ice() {
    if needs_root("baresip_with_a_relay_and_without_ice") {
        talk(Caller::Voipd, Kind::Behind(Nat::Cone), Kind::Behind(Nat::Symmetric), TURN).await;
    }
}

/// Bits per second of Opus where the network sets no limit. Until baresip's first reports, every five seconds, less is sent.
const UNDISTURBED: u32 = 32_000;

/// voipd speaks Opus to baresip over a link of so many kbit/s (token bucket, headers of Ethernet included) until it must
/// have learned from baresip's reports what that carries; answers the bits per second that Opus has in the end.
async fn narrow_link(kbit: u32) -> u32 {
    /// Sentences of about four seconds; the first ones are spoken while the link is found out.
    const SENTENCES: usize = 7;
    let lab = Lab::alone();
    let wire = Wire::new();
    let phone =
        Voipd::start(&lab, "phone", Config::at(wire.here).line("direct", "codecs = [\"opus\"]")).await;
    let mut baresip = Baresip::start(&lab, &wire, "opus/48000/2", Answer::Auto).await;
    wire.narrow(kbit);
    let sentence = Sound::load(&speech(Speaker::Alice, 48_000));
    let (mine, heard) = (lab.path("sentences.wav"), lab.path("heard.wav"));
    Sound { rate: sentence.rate, samples: sentence.samples.repeat(SENTENCES) }.save(&mine);
    let call = phone.dial_speaking(&format!("sip:bob@{}", wire.there), &mine, &heard).await;
    baresip.event("CALL_ESTABLISHED").await;
    call.is("active").await;
    let started = Instant::now();
    let spoken = SENTENCES as f64 * sentence.seconds();
    let mut first = 0;
    let mut queues = Vec::new();
    while started.elapsed().as_secs_f64() < spoken {
        pause(0.25).await;
        if first == 0 {
            first = call.figures().await.send_bitrate;
        }
        let (bytes, _) = wire.waiting();
        queues.push((started.elapsed().as_secs_f64(), bytes * 8 / u64::from(kbit)));
    }
    let last = call.figures().await.send_bitrate;
    pause(1.0).await;
    call.hang_up().await;
    baresip.event("CALL_CLOSED").await;
    pause(0.3).await;
    println!("{kbit} kbit/s: Opus {first}, later {last} bit/s; at second, queue in ms: {queues:.1?}");
    let settled = queues.iter().filter(|(at, _)| *at > 0.6 * spoken);
    let longest = settled.map(|(_, ms)| *ms).max().unwrap();
    assert!(longest <= 200, "{longest} ms wait in the link");
    let whole = baresip.heard();
    let end = whole.between(whole.seconds() - 2.2 * sentence.seconds(), whole.seconds());
    let verdict = compare(&sentence, &end, Codec::Perceptual);
    println!("at baresip: {verdict}");
    assert!(verdict.correlation > 0.8 && verdict.missing_ms() <= 160, "at baresip: {verdict}");
    phone.stop().await;
    last
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn opus_fits_into_a_narrow_link_to_baresip() {
    if needs_root("opus_fits_into_a_narrow_link_to_baresip") {
        let last = narrow_link(32).await;
        assert!(last < UNDISTURBED, "{last} bit/s");
    }
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn opus_stays_as_it_is_where_it_fits() {
    if needs_root("opus_stays_as_it_is_where_it_fits") {
        assert_eq!(narrow_link(64).await, UNDISTURBED, "bit/s");
    }
}
