//! baresip as caller and callee over a wire, with spoken sound both ways. Needs root for the far host.

use futures_util::StreamExt;
use voipd_tests::baresip::{Answer, Baresip};
use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Call, Config, Lab, SOON, Voipd, needs_root, pause, timely, until};

/// A wire with voipd at this end and baresip at the other.
struct Line {
    phone: Voipd,
    baresip: Baresip,
    wire: Wire,
    lab: Lab,
}

impl Line {
    async fn new(codec: &str, answer: Answer) -> Self {
        let lab = Lab::alone();
        let wire = Wire::new();
        let phone = Voipd::start(&lab, "voipd", Config::at(wire.here)).await;
        let baresip = Baresip::start(&lab, &wire, codec, answer).await;
        Self { phone, baresip, wire, lab }
    }

    /// An answered call from voipd.
    async fn call(&mut self) -> Call {
        let call = self.phone.dial(&format!("sip:bob@{}", self.wire.there)).await;
        self.baresip.event("CALL_ESTABLISHED").await;
        call.is("active").await;
        call
    }
}

/// Both hear each other, whoever calls.
async fn speech_crosses(codec: &str, fidelity: Codec, least: f64) {
    let rate = if codec.starts_with("opus") { 48_000 } else { 8000 };
    let (mine, theirs) = (speech(Speaker::Alice, rate), speech(Speaker::Bob, rate));
    for voipd_calls in [true, false] {
        let answer = if voipd_calls { Answer::Auto } else { Answer::Manual };
        let mut line = Line::new(codec, answer).await;
        let heard = line.lab.path("heard.wav");
        let call = if voipd_calls {
            line.phone.dial_speaking(&format!("sip:bob@{}", line.wire.there), &mine, &heard).await
        } else {
            line.baresip.command("dial", &format!("sip:voipd@{}", line.wire.here)).await;
            let call = line.phone.incoming().await;
            call.accept_speaking(&mine, &heard).await;
            call
        };
        line.baresip.event("CALL_ESTABLISHED").await;
        call.is("active").await;
        assert!(codec.starts_with(&call.proxy.codec().await.unwrap()));
        pause(6.0).await;
        call.assert_no_loss("with baresip").await;
        if voipd_calls {
            call.hang_up().await;
            line.baresip.event("CALL_CLOSED").await;
        } else {
            line.baresip.command("hangup", "").await;
            assert_eq!(call.ended().await.0, "remote");
        }
        pause(0.3).await;
        let who = if voipd_calls { "voipd calls" } else { "baresip calls" };
        let said = Sound::load(&theirs);
        compare(&said, &Sound::load(&heard), fidelity)
            .assert_heard(&format!("{codec}, {who}: at voipd"), least);
        let said = Sound::load(&mine);
        compare(&said, &line.baresip.heard(), fidelity)
            .assert_heard(&format!("{codec}, {who}: at baresip"), least);
        line.phone.stop().await;
    }
}

#[timely]
async fn speech_crosses_in_pcmu() {
    if needs_root("speech_crosses_in_pcmu") {
        speech_crosses("PCMU/8000/1", Codec::Waveform, 0.97).await;
    }
}

#[timely]
async fn speech_crosses_in_pcma() {
    if needs_root("speech_crosses_in_pcma") {
        speech_crosses("PCMA/8000/1", Codec::Waveform, 0.97).await;
    }
}

#[timely]
async fn speech_crosses_in_opus() {
    if needs_root("speech_crosses_in_opus") {
        speech_crosses("opus/48000/2", Codec::Perceptual, 0.85).await;
    }
}

#[timely]
async fn both_sides_hold_and_resume() {
    if !needs_root("both_sides_hold_and_resume") {
        return;
    }
    let mut line = Line::new("PCMU/8000/1", Answer::Auto).await;
    let call = line.call().await;
    call.hold().await;
    pause(0.3).await;
    let before = call.figures().await.packets_sent;
    pause(0.5).await;
    assert!(call.figures().await.packets_sent < before + 3, "voipd sends though it holds");
    call.resume().await;
    line.baresip.command("hold", "").await;
    call.is("held").await;
    assert!(call.proxy.remote_hold().await.unwrap() && !call.proxy.local_hold().await.unwrap());
    line.baresip.command("resume", "").await;
    call.is("active").await;
    let before = call.figures().await;
    pause(1.0).await;
    let after = call.figures().await;
    assert!(after.packets_received > before.packets_received + 40, "{before:?} {after:?}");
    assert!(after.packets_sent > before.packets_sent + 40, "{before:?} {after:?}");
    call.hang_up().await;
    line.phone.stop().await;
}

#[timely]
async fn digits_arrive_both_ways() {
    if !needs_root("digits_arrive_both_ways") {
        return;
    }
    let mut line = Line::new("PCMU/8000/1", Answer::Auto).await;
    let call = line.call().await;
    pause(0.5).await;
    call.proxy.send_dtmf("17*").await.unwrap();
    for digit in ["1", "7", "*"] {
        let event = line.baresip.event("CALL_DTMF_START").await;
        assert_eq!(event["param"], digit, "{event}");
        line.baresip.event("CALL_DTMF_END").await;
    }
    let mut digits = call.proxy.receive_dtmf_received().await.unwrap();
    for digit in ["4", "#"] {
        line.baresip.press(digit);
        let signal = tokio::time::timeout(SOON, digits.next()).await.expect("no digit came").unwrap();
        assert_eq!(signal.args().unwrap().digit, digit);
    }
    call.hang_up().await;
    line.phone.stop().await;
}

#[timely]
async fn baresip_hears_voipd_before_it_answers() {
    if !needs_root("baresip_hears_voipd_before_it_answers") {
        return;
    }
    let mut line = Line::new("PCMU/8000/1", Answer::Early).await;
    let call = line.phone.dial(&format!("sip:bob@{}", line.wire.there)).await;
    call.is("early").await;
    line.baresip.event("CALL_RTPESTAB").await;
    assert_eq!(call.state().await, "early");
    line.baresip.command("accept", "").await;
    call.is("active").await;
    call.hang_up().await;
    line.phone.stop().await;
}

#[timely]
async fn refusals_cross_both_ways() {
    if !needs_root("refusals_cross_both_ways") {
        return;
    }
    let mut line = Line::new("PCMU/8000/1", Answer::Manual).await;
    let call = line.phone.dial(&format!("sip:bob@{}", line.wire.there)).await;
    call.is("ringing").await;
    line.baresip.command("hangup", "").await;
    let (reason, status) = call.ended().await;
    assert!(["busy", "declined"].contains(&reason.as_str()), "{reason} {status}");
    line.baresip.event("CALL_CLOSED").await;

    line.baresip.command("dial", &format!("sip:voipd@{}", line.wire.here)).await;
    let call = line.phone.incoming().await;
    call.proxy.reject("busy").await.unwrap();
    assert_eq!(call.ended().await.0, "busy");
    let closed = line.baresip.event("CALL_CLOSED").await;
    assert!(closed.to_string().contains("486"), "{closed}");

    line.baresip.command("dial", &format!("sip:voipd@{}", line.wire.here)).await;
    let call = line.phone.incoming().await;
    line.baresip.command("hangup", "").await;
    assert_eq!(call.ended().await.0, "cancelled");
    line.phone.stop().await;
}

#[timely]
async fn speech_survives_a_lossy_wire() {
    if !needs_root("speech_survives_a_lossy_wire") {
        return;
    }
    let line = Line::new("PCMU/8000/1", Answer::Auto).await;
    // Drops what voipd sends; baresip's RTCP tells voipd of it.
    line.wire.drop_rtp(5);
    let heard = line.lab.path("heard.wav");
    let mine = speech(Speaker::Alice, 8000);
    let call = line.phone.dial_speaking(&format!("sip:bob@{}", line.wire.there), &mine, &heard).await;
    call.is("active").await;
    until("the peer reports loss", SOON, async || {
        (call.figures().await.remote_loss_percent > 0.5).then_some(())
    })
    .await;
    assert_eq!(call.figures().await.packets_lost, 0, "the other direction is whole");
    call.hang_up().await;
    line.phone.stop().await;
}
