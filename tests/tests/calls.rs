//! Two voipds call each other without a server.

use std::net::UdpSocket;
use std::time::Duration;

use voipd_tests::host::Wire;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::{Config, Lab, Voipd, needs_root, pause, timely};

#[timely]
async fn speech_crosses_a_call_both_ways_in_every_codec() {
    let lab = Lab::alone();
    for (codec, rate, fidelity, least) in [
        ("PCMU", 8000, Codec::Waveform, 0.97),
        ("PCMA", 8000, Codec::Waveform, 0.97),
        ("opus", 48_000, Codec::Perceptual, 0.88),
    ] {
        let codecs = format!("codecs = [\"{codec}\"]");
        let alice = Config::at(lab.address()).line("direct", &codecs);
        let alice = Voipd::start(&lab, &format!("alice-{codec}"), alice).await;
        let bob = Config::at(lab.address()).line("direct", &codecs);
        let bob = Voipd::start(&lab, &format!("bob-{codec}"), bob).await;
        let (from_alice, from_bob) = (speech(Speaker::Alice, rate), speech(Speaker::Bob, rate));
        let (at_alice, at_bob) = (lab.path("at-alice.wav"), lab.path("at-bob.wav"));

        let call = alice.dial_speaking(&format!("sip:{}", bob.address), &from_alice, &at_alice).await;
        let answered = bob.incoming().await;
        assert_eq!(answered.proxy.direction().await.unwrap(), "inbound");
        answered.accept_speaking(&from_bob, &at_bob).await;
        call.is("active").await;
        answered.is("active").await;
        assert_eq!(call.proxy.codec().await.unwrap(), codec);
        assert_eq!(call.proxy.security().await.unwrap(), "none");
        assert_eq!(call.proxy.sound().await.unwrap(), "files");
        pause(Sound::load(&from_alice).seconds().max(Sound::load(&from_bob).seconds()) + 0.5).await;
        call.assert_no_loss("at alice").await;
        answered.assert_no_loss("at bob").await;
        call.hang_up().await;
        assert_eq!(answered.ended().await.0, "remote");

        let heard = |reference: &_, recording: &_| {
            compare(&Sound::load(reference), &Sound::load(recording), fidelity)
        };
        heard(&from_alice, &at_bob).assert_heard(&format!("{codec}: alice at bob"), least);
        heard(&from_bob, &at_alice).assert_heard(&format!("{codec}: bob at alice"), least);
        alice.stop().await;
        bob.stop().await;
    }
}

#[tokio::test]
async fn a_name_that_hangs_delays_neither_the_start_nor_another_call() {
    if !needs_root("a_name_that_hangs_delays_neither_the_start_nor_another_call") {
        return;
    }
    let (lab, wire) = (Lab::shared(), Wire::new());
    let silent = UdpSocket::bind((wire.here, 53)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    wire.name_server(wire.here);
    let account = "name = \"work\"\naddress = \"sip:alice@hangs.test\"\npassword = \"secret\"";
    let alice = Voipd::start(&lab, "alice", Config::beyond(&wire).account(account)).await;
    let bob = Voipd::start(&lab, "bob", Config::at(wire.here)).await;
    silent.recv(&mut [0; 512]).expect("the account's registrar is looked up");

    let hanging = alice.dial("sip:carol@elsewhere.test").await;
    let call = alice.dial(&format!("sip:{}", bob.address)).await;
    bob.incoming().await.accept().await;
    call.is("active").await;
    assert_eq!(hanging.state().await, "dialing");
    assert_eq!(alice.account("work").await.state().await.unwrap(), "registering");
    call.hang_up().await;
    hanging.hang_up().await;
    alice.stop().await;
    bob.stop().await;
}
