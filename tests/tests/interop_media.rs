//! Media with real peers: G.722 and RTCP multiplexing with baresip, changes in mid-call and host names with SIPp.

use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::sipp::{Script, Sipp, audio, pcmu};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, SOON, Voipd, needs_root, pause, timely, until};

const G722: &str = "G722/16000/1";

/// The sentence is all there, and so is what lies above the telephone band.
fn assert_wideband(what: &str, said: &Sound, heard: &Sound) {
    compare(said, heard, Codec::Wideband).assert_heard(what, 0.95);
    let (sent, arrived) = (said.upper_level(), heard.resampled(16_000).upper_level());
    println!("{what}: above 4 kHz {sent:.1} dB were sent, {arrived:.1} dB arrived");
    // The recording holds the same sentence with more silence around it.
    assert!((sent - arrived).abs() < 6.0, "{what}: {sent:.1} dB sent above 4 kHz, {arrived:.1} dB heard");
}

async fn wideband_speech_crosses(voipd_calls: bool) {
    let lab = Lab::alone();
    let wire = Wire::new();
    let phone = Voipd::start(&lab, "voipd", Config::at(wire.here)).await;
    let answer = if voipd_calls { Answer::Auto } else { Answer::Manual };
    let mut baresip = Baresip::start(&lab, &wire, G722, answer).await;
    let (mine, heard) = (speech(Speaker::Alice, 16_000), lab.path("heard.wav"));
    let call = if voipd_calls {
        phone.dial_speaking(&format!("sip:bob@{}", wire.there), &mine, &heard).await
    } else {
        baresip.command("dial", &format!("sip:voipd@{}", wire.here)).await;
        let call = phone.incoming().await;
        call.accept_speaking(&mine, &heard).await;
        call
    };
    baresip.event("CALL_ESTABLISHED").await;
    call.is("active").await;
    assert_eq!(call.proxy.codec().await.unwrap(), "G722");
    pause(6.0).await;
    call.assert_no_loss("with baresip").await;
    call.hang_up().await;
    baresip.event("CALL_CLOSED").await;
    pause(0.3).await;
    assert_wideband("at voipd", &Sound::load(&speech(Speaker::Bob, 16_000)), &Sound::load(&heard));
    assert_wideband("at baresip", &Sound::load(&mine), &baresip.heard());
    phone.stop().await;
}

#[timely]
async fn wideband_speech_crosses_to_baresip() {
    if needs_root("wideband_speech_crosses_to_baresip") {
        wideband_speech_crosses(true).await;
    }
}

#[timely]
async fn wideband_speech_crosses_from_baresip() {
    if needs_root("wideband_speech_crosses_from_baresip") {
        wideband_speech_crosses(false).await;
    }
}

/// RTCP arrives though nothing passes to the ports where it goes without multiplexing.
async fn rtcp_shares_the_port(voipd_calls: bool) {
    let lab = Lab::alone();
    let wire = Wire::new();
    wire.drop_rtcp_ports();
    let phone = Voipd::start(&lab, "voipd", Config::at(wire.here)).await;
    let answer = if voipd_calls { Answer::Auto } else { Answer::Manual };
    let mut baresip = Baresip::start_with(&lab, &wire, "PCMU/8000/1", answer, "rtcp_mux yes\n").await;
    let call = if voipd_calls {
        phone.dial(&format!("sip:bob@{}", wire.there)).await
    } else {
        baresip.command("dial", &format!("sip:voipd@{}", wire.here)).await;
        let call = phone.incoming().await;
        call.accept().await;
        call
    };
    baresip.event("CALL_ESTABLISHED").await;
    call.is("active").await;
    until("baresip's report of our report", 2 * SOON, async || {
        (call.figures().await.round_trip_ms >= 0.0).then_some(())
    })
    .await;
    assert_eq!(call.figures().await.packets_invalid, 0);
    call.hang_up().await;
    phone.stop().await;
}

#[timely]
async fn rtcp_shares_the_port_of_rtp_when_voipd_offers_it() {
    if needs_root("rtcp_shares_the_port_of_rtp_when_voipd_offers_it") {
        rtcp_shares_the_port(true).await;
    }
}

#[timely]
async fn rtcp_shares_the_port_of_rtp_when_baresip_offers_it() {
    if needs_root("rtcp_shares_the_port_of_rtp_when_baresip_offers_it") {
        rtcp_shares_the_port(false).await;
    }
}

#[timely]
async fn codec_and_packet_time_change_in_mid_call() {
    let lab = Lab::alone();
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let changed = audio(&[(9, "G722/8000"), (101, "telephone-event/8000")], &["a=ptime:40"]);
    let script = Script::callee()
        .invited()
        .answer(&pcmu(&[]))
        .receive("ACK")
        .pause(2500)
        .request("INVITE", &changed)
        .expect(200)
        .request("ACK", "")
        .hung_up();
    let peer = Sipp::callee(&lab, script).await;
    let (said, heard) = (speech(Speaker::Alice, 16_000), lab.path("heard.wav"));
    let call = phone.dial_speaking(&format!("sip:echo@{}", peer.address), &said, &heard).await;
    call.is("active").await;
    assert_eq!(call.proxy.codec().await.unwrap(), "PCMU");
    until("the codec changes", SOON, async || (call.proxy.codec().await.unwrap() == "G722").then_some(()))
        .await;
    let before = call.figures().await;
    pause(2.0).await;
    let after = call.figures().await;
    let sent = after.packets_sent - before.packets_sent;
    assert!((40..=60).contains(&sent), "packets of 40 ms: {sent} in two seconds");
    assert_eq!((after.packets_lost, after.packets_invalid), (0, 0), "{after:?}");
    call.hang_up().await;
    peer.succeeds().await;
    // Across the change the words are there; where it happens, a packet time or two may be made up.
    let verdict = compare(&Sound::load(&said), &Sound::load(&heard), Codec::Waveform);
    println!("through the change: {verdict}");
    assert!(verdict.missing_ms() <= 120 && verdict.correlation > 0.85, "{verdict}");
    phone.stop().await;
}

#[timely]
async fn media_at_a_host_name_is_found() {
    let lab = Lab::alone();
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let named = pcmu(&[]).replace("c=IN IP4 [local_ip]", "c=IN IP4 localhost");
    let peer = Sipp::callee(&lab, Script::callee().invited().answer(&named).receive("ACK").hung_up()).await;
    let call = phone.dial(&format!("sip:somebody@{}", peer.address)).await;
    call.is("active").await;
    assert!(call.proxy.remote_media().await.unwrap().starts_with("127.0.0.1:"));
    until("sound is sent there", SOON, async || (call.figures().await.packets_sent > 10).then_some(())).await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_offer_of_encrypted_media_is_refused_by_name() {
    let lab = Lab::shared();
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address())).await;
    let secure = pcmu(&[]).replace("RTP/AVP", "RTP/SAVP");
    let script = Script::caller().invite(&secure).perhaps(100).expect(488).acknowledge_refusal();
    let peer = Sipp::caller(&lab, phone.address, script);
    peer.succeeds().await;
    let path = phone.manager().await.calls().await.unwrap().remove(0);
    let call = voipd_dbus::CallProxy::builder(&phone.connection).path(path).build().await.unwrap();
    assert_eq!(call.end_reason().await.unwrap(), "encryption-required");
    assert_eq!(call.sip_status().await.unwrap(), 488);
    phone.stop().await;
}
