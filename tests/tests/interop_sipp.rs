//! Calls with SIPp, which follows its script to the letter: what each side may do, and what voipd makes of it.

use std::time::{Duration, Instant};

use voipd_dbus::DialOptions;
use voipd_tests::judge::{Codec, Sound, compare};
use voipd_tests::sipp::{Script, Sipp, audio, pcmu};
use voipd_tests::speech::{Speaker, raw, speech};
use voipd_tests::{Call, Config, Lab, SOON, Voipd, pause, timely, until};

/// A telephone without a server.
async fn phone(lab: &Lab) -> Voipd {
    Voipd::start(lab, "voipd", Config::at(lab.address())).await
}

/// An answered call of the usual kind, up to the ACK.
fn answered(sdp: &str) -> Script {
    Script::callee().invited().reply("180 Ringing").answer(sdp).receive("ACK")
}

/// The telephone calls someone who follows a script.
async fn dialled(lab: &Lab, phone: &Voipd, script: Script) -> (Sipp, Call) {
    let peer = Sipp::callee(lab, script).await;
    let call = phone.dial(&format!("sip:{}", peer.address)).await;
    (peer, call)
}

/// Someone who follows a script calls the telephone, which rings.
async fn called(lab: &Lab, phone: &Voipd, script: Script) -> (Sipp, Call) {
    let peer = Sipp::caller(lab, phone.address, script);
    (peer, phone.incoming().await)
}

#[timely]
async fn a_callee_that_echoes_hears_and_is_heard() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let peer = Sipp::callee(&lab, answered(&pcmu(&[])).hung_up()).await;
    let (said, heard) = (speech(Speaker::Alice, 8000), lab.path("heard.wav"));
    let call = phone.dial_speaking(&format!("sip:echo@{}", peer.address), &said, &heard).await;
    call.is("active").await;
    assert_eq!(call.proxy.codec().await.unwrap(), "PCMU");
    let said = Sound::load(&said);
    pause(said.seconds() + 0.5).await;
    call.assert_no_loss("through SIPp").await;
    call.hang_up().await;
    peer.succeeds().await;
    compare(&said, &Sound::load(&heard), Codec::Waveform).assert_heard("through SIPp", 0.97);
    phone.stop().await;
}

#[timely]
async fn a_caller_that_echoes_hears_and_is_heard() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let (peer, call) = called(&lab, &phone, Script::caller().call(&pcmu(&[])).hung_up()).await;
    assert_eq!(call.proxy.peer_name().await.unwrap(), "Peer");
    let (said, heard) = (speech(Speaker::Bob, 8000), lab.path("heard.wav"));
    call.accept_speaking(&said, &heard).await;
    call.is("active").await;
    let said = Sound::load(&said);
    pause(said.seconds() + 0.5).await;
    call.assert_no_loss("from SIPp").await;
    call.hang_up().await;
    peer.succeeds().await;
    compare(&said, &Sound::load(&heard), Codec::Waveform).assert_heard("from SIPp", 0.97);
    phone.stop().await;
}

#[timely]
async fn early_media_is_heard_before_the_answer() {
    let lab = Lab::alone();
    // The file stands in for the loudspeaker. (A recording begins with the answer.)
    let heard = lab.path("heard.wav");
    let config = Config::at(lab.address()).line("audio", format!("output = \"file:{}\"", heard.display()));
    let phone = Voipd::start(&lab, "voipd", config).await;
    let script = Script::callee()
        .invited()
        .reply("100 Trying")
        .reply("180 Ringing")
        .pause(300)
        .reply_with("183 Session Progress", "", &pcmu(&[]))
        .speak(&raw(Speaker::Bob))
        .pause(5500)
        .answer(&pcmu(&[]))
        .receive("ACK")
        .hung_up();
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("ringing").await;
    call.is("early").await;
    assert_eq!(call.proxy.answered_at().await.unwrap(), 0);
    call.is("active").await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
    let said = Sound::load(&speech(Speaker::Bob, 8000));
    compare(&said, &Sound::load(&heard), Codec::Waveform).assert_heard("early", 0.97);
}

#[tokio::test]
async fn each_refusal_by_a_callee_has_its_reason() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    for (status, reason) in [
        ("486 Busy Here", "busy"),
        ("600 Busy Everywhere", "busy"),
        ("603 Decline", "declined"),
        ("404 Not Found", "not-found"),
        ("480 Temporarily Unavailable", "no-answer"),
        ("488 Not Acceptable Here", "no-common-codec"),
        ("500 Server Internal Error", "rejected"),
        ("699 Beyond the Codes", "rejected"),
    ] {
        let script = Script::callee().invited().reply("180 Ringing").reply(status).receive("ACK");
        let peer = Sipp::callee(&lab, script).await;
        let call = phone.dial(&format!("sip:somebody@{}", peer.address)).await;
        let code: u16 = status[..3].parse().unwrap();
        assert_eq!(call.ended().await, (reason.to_owned(), code), "{status}");
        peer.succeeds().await;
    }
    phone.stop().await;
}

#[tokio::test]
async fn giving_up_before_the_answer_cancels() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::callee()
        .invited()
        .reply("180 Ringing")
        .receive("CANCEL")
        .reply("200 OK")
        .reply_to_invite("487 Request Terminated", "")
        .receive("ACK");
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("ringing").await;
    call.proxy.hangup().await.unwrap();
    let (reason, _) = call.ended().await;
    assert_eq!(reason, "local");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::callee()
        .invited()
        .reply("180 Ringing")
        .receive("CANCEL")
        .reply_to_invite("200 OK", &pcmu(&[]))
        .receive("ACK")
        .hung_up();
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("ringing").await;
    call.proxy.hangup().await.unwrap();
    assert_eq!(call.ended().await.0, "local");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_caller_that_gives_up_stops_the_ringing() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::caller()
        .invite(&pcmu(&[]))
        .perhaps(100)
        .expect(180)
        .pause(300)
        .cancel()
        .expect(200)
        .expect(487)
        .acknowledge_refusal();
    let (peer, call) = called(&lab, &phone, script).await;
    assert_eq!(call.ended().await.0, "cancelled");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_inbound_call_is_refused_with_the_status_of_the_reason() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    for (word, status, reason) in [("busy", 486, "busy"), ("declined", 603, "declined"), ("", 480, "local")] {
        let script = Script::caller().invite(&pcmu(&[])).perhaps(100).perhaps(180);
        let (peer, call) = called(&lab, &phone, script.expect(status).acknowledge_refusal()).await;
        call.proxy.reject(word).await.unwrap();
        assert_eq!(call.ended().await.0, reason, "{word}");
        peer.succeeds().await;
    }
    phone.stop().await;
}

#[tokio::test]
async fn a_call_that_nobody_answers_ends() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).line("calls", "ring-timeout = 5");
    let phone = Voipd::start(&lab, "voipd", config).await;
    let script =
        Script::caller().invite(&pcmu(&[])).perhaps(100).expect(180).expect(480).acknowledge_refusal();
    let (peer, call) = called(&lab, &phone, script).await;
    assert_eq!(call.ended().await.0, "no-answer");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn do_not_disturb_refuses_at_once_and_rings_nothing() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    phone.manager().await.set_do_not_disturb(true).await.unwrap();
    let script = Script::caller().invite(&pcmu(&[])).perhaps(100).expect(480).acknowledge_refusal();
    Sipp::caller(&lab, phone.address, script).succeeds().await;
    let log = phone.log();
    assert!(!log.contains("incoming"), "{log}");
    phone.stop().await;
}

#[tokio::test]
async fn an_offer_without_a_common_codec_is_refused_with_488() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let offer = audio(&[(3, "GSM/8000"), (18, "G729/8000")], &[]);
    let script = Script::caller().invite(&offer).perhaps(100).expect(488).acknowledge_refusal();
    Sipp::caller(&lab, phone.address, script).succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_answer_with_a_codec_that_was_not_offered_ends_the_call() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let (peer, call) = dialled(&lab, &phone, answered(&audio(&[(18, "G729/8000")], &[])).hung_up()).await;
    assert_eq!(call.ended().await.0, "no-common-codec");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_answer_without_a_description_ends_the_call() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let (peer, call) = dialled(&lab, &phone, answered("").hung_up()).await;
    assert_eq!(call.ended().await.0, "protocol");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn video_is_answered_with_port_zero_in_its_place() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let offer = pcmu(&["m=video 7000 RTP/AVP 96", "a=rtpmap:96 VP8/90000"]).replacen(
        "m=audio",
        "m=application 9000 UDP/BFCP *\nm=audio",
        1,
    );
    let script = Script::caller()
        .invite(&offer)
        .perhaps(100)
        .perhaps(180)
        .expect_with(200, "m=application 0 .*m=audio [1-9][0-9]* .*m=video 0 ")
        .request("ACK", "")
        .hang_up();
    let (peer, call) = called(&lab, &phone, script).await;
    call.accept().await;
    assert_eq!(call.ended().await.0, "remote");
    peer.succeeds().await;
    phone.stop().await;
}

#[timely]
async fn a_call_without_an_offer_gets_one_in_the_answer() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let script = Script::caller()
        .invite("")
        .perhaps(100)
        .perhaps(180)
        .expect_with(200, "m=audio [1-9]")
        .request("ACK", &pcmu(&[]))
        .hung_up();
    let (peer, call) = called(&lab, &phone, script).await;
    call.accept().await;
    call.is("active").await;
    until("sound comes back", SOON, async || (call.figures().await.packets_received > 20).then_some(()))
        .await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[timely]
async fn the_peer_holds_and_resumes() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let script = Script::caller()
        .call(&pcmu(&[]))
        .pause(500)
        .request("INVITE", &pcmu(&["a=sendonly"]))
        .perhaps(100)
        .expect_with(200, "a=recvonly")
        .request("ACK", "")
        .pause(1000)
        .request("INVITE", &pcmu(&["a=sendrecv"]))
        .perhaps(100)
        .expect(200)
        .request("ACK", "")
        .hung_up();
    let (peer, call) = called(&lab, &phone, script).await;
    call.accept().await;
    call.is("active").await;
    call.is("held").await;
    assert!(call.proxy.remote_hold().await.unwrap());
    assert!(!call.proxy.local_hold().await.unwrap());
    let before = call.figures().await.packets_sent;
    pause(0.5).await;
    let sent = call.figures().await.packets_sent - before;
    assert!(sent < 3, "{sent} packets were sent to a peer that wants none");
    call.is("active").await;
    assert!(!call.proxy.remote_hold().await.unwrap());
    let before = call.figures().await.packets_sent;
    pause(0.5).await;
    assert!(call.figures().await.packets_sent > before + 15, "no sound after the hold");
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn voipd_holds_and_resumes_and_both_can_hold() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let again = |script: Script, wants: &str, answers: &str| {
        script.receive_with("INVITE", wants).answer(&pcmu(&[answers])).receive("ACK")
    };
    let script = answered(&pcmu(&[]));
    let script = again(script, "a=sendonly", "a=recvonly");
    // The peer holds as well, while it is held: nobody may send.
    let script = script
        .request("INVITE", &pcmu(&["a=sendonly"]))
        .perhaps(100)
        .expect_with(200, "a=(inactive|recvonly)")
        .request("ACK", "")
        .pause(400)
        .request("INVITE", &pcmu(&["a=sendrecv"]))
        .perhaps(100)
        .expect_with(200, "a=sendonly")
        .request("ACK", "");
    let script = again(script, "a=sendrecv", "a=sendrecv").hung_up();
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("active").await;
    call.hold().await;
    assert!(call.proxy.local_hold().await.unwrap());
    until("the peer holds too", SOON, async || call.proxy.remote_hold().await.unwrap().then_some(())).await;
    until("the peer is back", SOON, async || (!call.proxy.remote_hold().await.unwrap()).then_some(())).await;
    assert_eq!(call.state().await, "held");
    call.resume().await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_peer_that_hangs_up_ends_the_call() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let (peer, call) = dialled(&lab, &phone, answered(&pcmu(&[])).pause(300).hang_up()).await;
    call.is("active").await;
    assert_eq!(call.ended().await.0, "remote");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn both_hang_up_at_once() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    // The peer's BYE leaves before it answers voipd's.
    let script = answered(&pcmu(&[])).receive("BYE").request("BYE", "").expect(200);
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("active").await;
    call.proxy.hangup().await.unwrap();
    assert_eq!(call.ended().await.0, "local");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_repeated_answer_is_acknowledged_again() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = answered(&pcmu(&[])).reply_to_invite("200 OK", &pcmu(&[])).hung_up();
    let (peer, call) = dialled(&lab, &phone, script).await;
    call.is("active").await;
    pause(0.3).await;
    call.hang_up().await;
    let acknowledged = peer.messages().matches("\nACK sip:").count();
    assert!(acknowledged >= 2, "the answers were acknowledged {acknowledged} times");
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn the_answer_is_repeated_until_it_is_acknowledged() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let script = Script::caller()
        .invite(&pcmu(&[]))
        .perhaps(100)
        .perhaps(180)
        .expect(200)
        // SIPp takes a repetition for the same message, unless it stands in the script.
        .pause(1200)
        .request("ACK", "")
        .pause(300)
        .hang_up();
    let (peer, call) = called(&lab, &phone, script).await;
    call.accept().await;
    call.ended().await;
    let repeated = peer.messages().matches("SIP/2.0 200 OK").count();
    peer.succeeds().await;
    assert!(repeated >= 3, "the answer came {repeated} times");
    phone.stop().await;
}

#[timely]
async fn digits_come_back_from_the_echo_as_they_were_sent() {
    let lab = Lab::alone();
    let phone = phone(&lab).await;
    let (peer, call) = dialled(&lab, &phone, answered(&pcmu(&[])).hung_up()).await;
    call.is("active").await;
    let mut digits = call.proxy.receive_dtmf_received().await.unwrap();
    call.proxy.send_dtmf("159#D").await.unwrap();
    let mut received = String::new();
    let deadline = Instant::now() + SOON;
    while received.len() < 5 && Instant::now() < deadline {
        let next =
            tokio::time::timeout(Duration::from_secs(5), futures_util::StreamExt::next(&mut digits)).await;
        let signal = next.unwrap_or_else(|_| panic!("only '{received}' came back")).unwrap();
        let digit = signal.args().unwrap();
        assert!((40..400).contains(&digit.duration_ms), "{} lasted {} ms", digit.digit, digit.duration_ms);
        received.push_str(digit.digit);
    }
    assert_eq!(received, "159#D");
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn options_is_answered_inside_and_outside_of_a_call() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    let outside = "OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n\
        Max-Forwards: 70\nFrom: <sip:peer@[local_ip]>;tag=o\nTo: <sip:[remote_ip]:[remote_port]>\n\
        Call-ID: [call_id]\nCSeq: 7 OPTIONS\nContact: <sip:peer@[local_ip]:[local_port]>\nAccept: application/sdp";
    let script = Script::caller().send(outside, "", " retrans=\"500\"").expect_with(200, "Allow:.*INVITE");
    Sipp::caller(&lab, phone.address, script).succeeds().await;
    let (peer, call) =
        dialled(&lab, &phone, answered(&pcmu(&[])).request("OPTIONS", "").expect(200).hung_up()).await;
    call.is("active").await;
    pause(0.3).await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_refused_and_names_what_is_allowed() {
    let lab = Lab::shared();
    let phone = phone(&lab).await;
    for (method, status) in [("PUBLISH", 405), ("FROBNICATE", 501)] {
        let text = format!(
            "{method} sip:[remote_ip]:[remote_port] SIP/2.0\nVia: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n\
             Max-Forwards: 70\nFrom: <sip:peer@[local_ip]>;tag=o\nTo: <sip:[remote_ip]:[remote_port]>\n\
             Call-ID: [call_id]\nCSeq: 7 {method}"
        );
        let script = Script::caller().send(&text, "", "").expect_with(status, "Allow:.*INVITE");
        Sipp::caller(&lab, phone.address, script).succeeds().await;
    }
    phone.stop().await;
}

/// SIPp checks Authorization alone; what a proxy asks for (407) is checked by kamailio in `interop_auth`.
#[tokio::test]
async fn a_challenge_is_answered_with_the_accounts_password() {
    let lab = Lab::shared();
    let peer_address = lab.address();
    let account = format!(
        "name = \"desk\"\naddress = \"sip:alice@{peer_address}\"\npassword = \"secret\"\nregister = false"
    );
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address()).account(account)).await;
    let header = format!(
        "WWW-Authenticate: Digest realm=\"{peer_address}\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\n"
    );
    let verify = "<recv request=\"INVITE\"><action>\
         <verifyauth assign_to=\"right\" username=\"alice\" password=\"secret\"/>\
         </action></recv><nop next=\"1\" test=\"right\"/>";
    let script = Script::callee()
        .invited()
        .reply_with("401 Unauthorized", &header, "")
        .receive("ACK")
        .step(verify)
        .reply("403 Forbidden")
        .receive("ACK")
        .step("<label id=\"1\"/>")
        .answer(&pcmu(&[]))
        .receive("ACK")
        .hung_up();
    let peer = Sipp::callee_at(&lab, peer_address, script, &[]).await;
    let options = DialOptions { account: Some("desk".into()), ..DialOptions::default() };
    let call = phone.dial_with("bob", options).await;
    call.is("active").await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_password_is_not_given_to_a_strange_realm() {
    let lab = Lab::shared();
    let peer_address = lab.address();
    let account = format!(
        "name = \"desk\"\naddress = \"sip:alice@{peer_address}\"\npassword = \"secret\"\nrealm = \"home\"\nregister = false"
    );
    let phone = Voipd::start(&lab, "voipd", Config::at(lab.address()).account(account)).await;
    let header = "WWW-Authenticate: Digest realm=\"elsewhere\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\n";
    let script = Script::callee().invited().reply_with("401 Unauthorized", header, "").receive("ACK");
    let peer = Sipp::callee_at(&lab, peer_address, script, &[]).await;
    let options = DialOptions { account: Some("desk".into()), ..DialOptions::default() };
    let call = phone.dial_with("bob", options).await;
    assert_eq!(call.ended().await, ("credentials".into(), 401));
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn a_peer_that_vanishes_ends_only_its_own_call() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).line("calls", "media-timeout = 5");
    let phone = Voipd::start(&lab, "voipd", config).await;
    let mut gone = Sipp::callee(&lab, answered(&pcmu(&[])).hung_up()).await;
    let stays = Sipp::callee(&lab, answered(&pcmu(&[])).hung_up()).await;
    let lost = phone.dial(&format!("sip:{}", gone.address)).await;
    lost.is("active").await;
    let options = DialOptions { mix: Some(true), ..DialOptions::default() };
    let kept = phone.dial_with(&format!("sip:{}", stays.address), options).await;
    kept.is("active").await;
    gone.cut();
    lost.is_within("ended", Duration::from_secs(45)).await;
    assert_eq!(lost.proxy.end_reason().await.unwrap(), "network");
    assert_eq!(kept.state().await, "active");
    kept.hang_up().await;
    stays.succeeds().await;
    phone.stop().await;
}
