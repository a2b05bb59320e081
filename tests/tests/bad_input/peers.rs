//! Servers and peers that refuse, lie, or vanish.

use std::net::Ipv4Addr;
use std::time::Duration;

use voipd_dbus::DialOptions;
use voipd_tests::speech::{Speaker, speech};
use voipd_tests::voipd::reading;
use voipd_tests::{Config, Lab, SOON, Voipd, pause, until};

use super::stranger::{Stranger, header, response, status};
use super::witness::{Witness, with_echo};

/// An account at a server, with a password.
fn account_at(server: Ipv4Addr) -> String {
    format!("name = \"work\"\naddress = \"sip:alice@{server}\"\npassword = \"correct-horse\"")
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_tried_again_and_again() {
    let lab = Lab::shared();
    let registrar = Stranger::new(&lab).await;
    let config = with_echo(&lab).account(account_at(registrar.address));
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let mut witness = Witness::call(&voipd).await;
    let challenge = |nonce: u32| {
        format!(
            "WWW-Authenticate: Digest realm=\"{}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"\r\n",
            registrar.address
        )
    };
    let mut attempts = Vec::new();
    // Another nonce each time, as a careless server does: no reason to go on with the same password.
    for nonce in 0.. {
        let Some((request, from)) = registrar.receive_within(Duration::from_secs(2)).await else { break };
        assert!(request.starts_with("REGISTER "), "{request}");
        attempts.push(request.contains("\r\nAuthorization: Digest "));
        let answer = response(&request, "401 Unauthorized", &challenge(nonce), "");
        registrar.send(from, answer.as_bytes()).await;
    }
    assert_eq!(attempts, [false, true], "which of the requests carried the password's digest");
    voipd.account_is("work", "failed", SOON).await;
    let account = voipd.account("work").await;
    assert_eq!(account.reason().await.unwrap(), "credentials");
    assert_eq!(account.sip_status().await.unwrap(), 401);
    let log = voipd.log();
    assert!(log.lines().any(|l| l.contains(" WARN ") && l.contains("account=work")), "{log}");
    assert!(!log.contains("correct-horse"), "the password is in the log:\n{log}");
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_tried_again_later() {
    let lab = Lab::shared();
    let nobody = lab.address();
    let config = with_echo(&lab).account(account_at(nobody)).account(
        "name = \"far\"\naddress = \"sip:alice@voipd-test.invalid\"\nregistrar = \"sip:voipd-test.invalid:5060\"",
    );
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let mut witness = Witness::call(&voipd).await;
    voipd.account_is("work", "failed", SOON).await;
    let work = voipd.account("work").await;
    assert_eq!(work.reason().await.unwrap(), "unreachable");
    assert!(work.retry_in().await.unwrap() > 0);
    // Without a name server it takes a while to find that out.
    voipd.account_is("far", "failed", 2 * SOON).await;
    let far = voipd.account("far").await;
    assert_eq!(far.reason().await.unwrap(), "unresolvable");
    assert!(far.retry_in().await.unwrap() > 0);
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn calls_to_nowhere_end_with_a_reason() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let unknown = voipd.dial("sip:bob@voipd-test.invalid:5060").await;
    let closed = voipd.dial(&format!("sip:bob@{}:9", lab.address())).await;
    let no_route = voipd.dial("sip:bob@[fe80::1]").await;
    assert_eq!(closed.ended().await, ("unreachable".to_owned(), 0), "a closed port");
    assert_eq!(no_route.ended().await, ("unreachable".to_owned(), 0), "no route");
    unknown.is_within("ended", 2 * SOON).await;
    assert_eq!(unknown.proxy.end_reason().await.unwrap(), "unresolvable");
    witness.goes_on().await;
    voipd.stop().await;
}

/// Answers the next request, which must be of this method.
async fn answer(peer: &Stranger, method: &str, status: &str, headers: &str, body: &str) -> String {
    let (request, from) = loop {
        let (message, from) = peer.receive().await;
        if !message.starts_with("SIP/2.0 ") {
            break (message, from);
        }
    };
    assert!(request.starts_with(&format!("{method} ")), "{request}");
    peer.send(from, response(&request, status, headers, body).as_bytes()).await;
    request
}

#[tokio::test]
async fn a_peer_that_vanishes_in_mid_call_is_missed() {
    let lab = Lab::shared();
    let config = with_echo(&lab).line("calls", "media-timeout = 5");
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let mut witness = Witness::call(&voipd).await;
    let peer = Stranger::new(&lab).await;
    let media = Stranger::at(peer.address, 6000).await;
    let call = voipd.dial(&format!("sip:peer@{}", peer.address)).await;
    let contact = format!("Contact: <sip:peer@{}>\r\nContent-Type: application/sdp\r\n", peer.address);
    answer(&peer, "INVITE", "200 OK", &contact, &peer.offer(6000)).await;
    call.is("active").await;
    assert!(peer.receive().await.0.starts_with("ACK "));
    // Its system closes its sockets and answers with ICMP from now on.
    drop((peer, media));
    pause(3.0).await;
    assert_eq!(call.state().await, "active", "a pause in the sound ends no call");
    assert_eq!(call.ended().await.0, "network");
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn a_silent_peer_that_still_answers_is_kept() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).line("calls", "media-timeout = 5");
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let peer = Stranger::new(&lab).await;
    let _media = Stranger::at(peer.address, 6000).await;
    let call = voipd.dial(&format!("sip:peer@{}", peer.address)).await;
    let contact = format!("Contact: <sip:peer@{}>\r\nContent-Type: application/sdp\r\n", peer.address);
    answer(&peer, "INVITE", "200 OK", &contact, &peer.offer(6000)).await;
    assert!(peer.receive().await.0.starts_with("ACK "));
    answer(&peer, "OPTIONS", "200 OK", "", "").await;
    pause(0.3).await;
    assert_eq!(call.state().await, "active");
    call.proxy.hangup().await.unwrap();
    answer(&peer, "BYE", "200 OK", "", "").await;
    voipd.stop().await;
}

#[tokio::test]
async fn answers_that_make_no_sense_end_the_call_with_a_reason() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let peer = Stranger::new(&lab).await;
    let contact = format!("Contact: <sip:peer@{}>\r\n", peer.address);
    let described = format!("{contact}Content-Type: application/sdp\r\n");
    let other_codec = peer.offer(6000).replace("RTP/AVP 0", "RTP/AVP 18").replace("0 PCMU", "18 G729");
    for (headers, body, reason) in [
        (&described, "this is no description".to_owned(), "protocol"),
        (&described, other_codec, "no-common-codec"),
    ] {
        let call = voipd.dial(&format!("sip:peer@{}", peer.address)).await;
        answer(&peer, "INVITE", "200 OK", headers, &body).await;
        // RFC 3261 section 13.2.2.4: acknowledged, and then ended.
        assert!(peer.receive().await.0.starts_with("ACK "));
        answer(&peer, "BYE", "200 OK", "", "").await;
        assert_eq!(call.ended().await.0, reason, "{body}");
    }
    // Without Contact there is no dialog; what is no SIP is as if it had not come.
    let call = voipd.dial(&format!("sip:peer@{}", peer.address)).await;
    let (request, from) = peer.receive().await;
    peer.send(from, b"SIP/2.0 OK 200\r\n\r\n").await;
    let other = response(&request, "200 OK", &described, &peer.offer(6000)).replace("branch=", "branch=x");
    peer.send(from, other.as_bytes()).await;
    peer.send(from, response(&request, "486 Busy Here", "", "").as_bytes()).await;
    assert_eq!(call.ended().await, ("busy".to_owned(), 486));
    witness.goes_on().await;
    voipd.stop().await;
}

#[tokio::test]
async fn without_a_free_media_port_a_call_ends_and_the_next_one_works() {
    let lab = Lab::shared();
    let config = Config::at(lab.address()).line("rtp", "ports = \"16384-16385\"");
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let peer = Stranger::new(&lab).await;
    let target = format!("sip:peer@{}", peer.address);
    let contact = format!("Contact: <sip:peer@{}>\r\nContent-Type: application/sdp\r\n", peer.address);
    // With a file for its sound it keeps its state when others want the sound device.
    let options =
        DialOptions { play: Some(reading(&speech(Speaker::Alice, 8000))), ..DialOptions::default() };
    let first = voipd.dial_with(&target, options).await;
    answer(&peer, "INVITE", "200 OK", &contact, &peer.offer(6000)).await;
    first.is("active").await;
    assert!(peer.receive().await.0.starts_with("ACK "));

    let second = voipd.dial(&target).await;
    assert_eq!(second.ended().await, ("network".to_owned(), 0));
    let invite = peer.request("INVITE", "phone", voipd.address, 1, &peer.offer(6002));
    peer.send((voipd.address, 5060), invite.as_bytes()).await;
    let inbound = voipd.incoming().await;
    inbound.accept().await;
    assert_eq!(inbound.ended().await.0, "network");
    let answers = peer.inbox().await;
    assert!(answers.iter().any(|message| message.starts_with("SIP/2.0 5")), "{answers:?}");
    let log = voipd.log();
    let told = log.lines().filter(|line| line.contains("all RTP ports from 16384 to 16385 are in use"));
    assert_eq!(told.filter(|line| line.contains(" WARN ")).count(), 2, "{log}");

    assert_eq!(first.state().await, "active");
    first.proxy.hangup().await.unwrap();
    answer(&peer, "BYE", "200 OK", "", "").await;
    first.ended().await;
    // The audio thread gives the socket back a moment after the call's end.
    let third = until("the port is free again", SOON, async || {
        let call = voipd.dial(&target).await;
        let told = peer.receive_within(Duration::from_millis(300)).await;
        told.is_some_and(|(message, _)| message.starts_with("INVITE ")).then_some(call)
    });
    assert_eq!(third.await.state().await, "dialing");
    voipd.stop().await;
}

#[tokio::test]
async fn no_more_calls_than_are_allowed() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab).line("calls", "max = 4")).await;
    let mut witness = Witness::call(&voipd).await;
    let peer = Stranger::new(&lab).await;
    let target = format!("sip:peer@{}", peer.address);
    let manager = voipd.manager().await;
    let mut calls = Vec::new();
    let mut refusals = 0;
    for _ in 0..50 {
        match manager.dial(&target, &Default::default()).await {
            Ok(call) => calls.push(call),
            Err(voipd_dbus::Error::LimitReached(sentence)) => {
                assert_eq!(sentence, "there are 4 calls already, and no more are allowed; end one first");
                refusals += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    // The witness is two.
    assert_eq!((calls.len(), refusals), (2, 48));
    let invite = peer.request("INVITE", "phone", voipd.address, 1, &peer.offer(6002));
    peer.send((voipd.address, 5060), invite.as_bytes()).await;
    let refused = loop {
        let (message, _) = peer.receive().await;
        if message.starts_with("SIP/2.0 ") && status(&message) >= 200 {
            break message;
        }
    };
    assert_eq!((status(&refused), header(&refused, "Call-ID")), (486, header(&invite, "Call-ID")));
    assert_eq!(manager.calls().await.unwrap().len(), 4);
    witness.goes_on().await;
    voipd.stop().await;
}
