//! The call flows of RFC 3665 chapter 3, between two endpoints and the proxies between them.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{Credentials, EndCause, Event, IdentityId, InviteOptions, SessionId};
use voipd_sip::message::Message;

/// Alice in Atlanta, Bob in Biloxi, and the proxies of both towns.
struct Towns {
    net: Net,
    alice: HostId,
    bob: HostId,
    proxies: [HostId; 2],
    id: IdentityId,
}

const ALICE: &str = "192.0.2.101:5060";
const ATLANTA: &str = "192.0.2.111:5060";
const BILOXI: &str = "192.0.2.222:5060";
const BOB: &str = "192.0.2.201:5060";

impl Towns {
    fn new(realms: [Option<&'static str>; 2]) -> Self {
        let mut net = Net::new();
        let (alice, bob) = (net.agent(ALICE), net.agent(BOB));
        let proxies = [net.proxy(ATLANTA, BILOXI, realms[0]), net.proxy(BILOXI, BOB, realms[1])];
        let mut identity = identity("Alice <sip:alice@atlanta.example.com>");
        identity.outbound_proxies = vec!["sip:192.0.2.111;lr".parse().unwrap()];
        identity.credentials = realms[0].map(|_| Credentials {
            user: "alice".to_owned(),
            password: voipd_sip::digest::Secret::new("secret"),
            realms: Vec::new(),
            allow_md5: true,
        });
        let id = net.with(alice, |e, _| e.add_identity(identity));
        Self { net, alice, bob, proxies, id }
    }

    fn dial(&mut self) -> SessionId {
        let id = self.id;
        let target = "sip:bob@biloxi.example.com".parse().unwrap();
        let session =
            self.net.with(self.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        self.net.with(self.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        self.net.events(self.alice);
        session
    }

    /// Bob's telephone rings: both sides' sessions.
    fn ringing(&mut self) -> (SessionId, SessionId) {
        let caller = self.dial();
        self.net.run_ms(150);
        let callee = incoming(&self.net.events(self.bob));
        self.net.with(self.bob, |e, now| e.ring(now, callee, None)).unwrap();
        self.net.run_ms(100);
        let events = self.net.events(self.alice);
        assert!(
            matches!(events.last(), Some(Event::Progress { status, .. }) if status.get() == 180),
            "{events:?}"
        );
        (caller, callee)
    }

    fn talking(&mut self) -> (SessionId, SessionId) {
        let (caller, callee) = self.ringing();
        self.net.with(self.bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
        self.net.run_ms(100);
        assert!(matches!(self.net.events(self.alice)[..], [Event::Answered { sdp: Some(_), .. }]));
        assert!(matches!(self.net.events(self.bob)[..], [Event::Confirmed { .. }]));
        (caller, callee)
    }

    /// First words of what was sent from one place to another: methods and status codes.
    fn said(&self, from: HostId, to: HostId) -> Vec<String> {
        let (from, to) = (self.net.address(from), self.net.address(to));
        let sent = self.net.capture.iter().filter(|(_, source, target, _)| (*source, *target) == (from, to));
        sent.map(|(_, _, _, bytes)| match read(bytes) {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => format!("{} {}", response.status, response.cseq.method),
        })
        .collect()
    }

    fn end(&mut self, host: HostId, session: SessionId) -> (EndCause, Option<u16>) {
        let events = self.net.events(host);
        let end = end_of(&events, session);
        (end.cause, end.status)
    }

    /// What nobody has lost sight of is over some time later.
    fn ends_quietly(mut self) {
        self.net.run(Duration::from_secs(120));
        for host in [self.alice, self.bob] {
            assert!(self.net.events(host).is_empty());
            assert!(self.net.with(host, |e, _| e.is_idle()));
        }
    }
}

#[test]
fn s3_1_successful_session_establishment() {
    let mut pair = Pair::new();
    let (_, callee) = pair.talking();
    pair.net.with(pair.bob, |e, now| e.hangup(now, callee)).unwrap();
    pair.net.run_ms(100);
    let words = |host| sent(&pair.net, host).into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    let alice: Vec<_> = words(pair.alice).iter().map(|line| line[..7].to_owned()).collect();
    assert_eq!(alice, ["INVITE ", "ACK sip", "SIP/2.0"]);
    assert_eq!(
        words(pair.bob)[..2],
        ["SIP/2.0 180 Ringing".to_owned(), "SIP/2.0 200 OK".to_owned()],
        "and then BYE"
    );
    assert!(words(pair.bob)[2].starts_with("BYE "));
}

#[test]
fn s3_2_session_establishment_through_two_proxies() {
    let mut towns = Towns::new([Some("atlanta.example.com"), None]);
    let (caller, callee) = towns.talking();
    towns.net.with(towns.bob, |e, now| e.hangup(now, callee)).unwrap();
    towns.net.run_ms(200);
    assert_eq!(towns.end(towns.bob, callee).0, EndCause::Local);
    assert_eq!(towns.end(towns.alice, caller).0, EndCause::Remote);
    let [atlanta, biloxi] = towns.proxies;
    assert_eq!(towns.said(towns.alice, atlanta), ["INVITE", "ACK", "INVITE", "ACK", "200 BYE"]);
    assert_eq!(towns.said(atlanta, towns.alice), ["407 INVITE", "180 INVITE", "200 INVITE", "BYE"]);
    assert_eq!(towns.said(biloxi, towns.bob)[0], "INVITE");
    assert_eq!(towns.said(towns.bob, biloxi), ["180 INVITE", "200 INVITE", "BYE"]);
    assert!(towns.said(towns.alice, towns.bob).is_empty(), "both stay in the path");
    towns.ends_quietly();
}

#[test]
fn s3_3_session_establishment_with_multiple_proxy_authentication() {
    let mut towns = Towns::new([Some("atlanta.example.com"), Some("biloxi.example.com")]);
    let (_, callee) = towns.talking();
    let bob = towns.net.address(towns.bob);
    let to_bob = towns.net.capture.iter().find(|(_, _, to, _)| *to == bob).unwrap();
    let Message::Request(invite) = read(&to_bob.3) else { panic!() };
    let realms: Vec<_> = invite.headers.get_all("Proxy-Authorization").collect();
    assert_eq!(realms.len(), 2, "{realms:?}");
    let [atlanta, biloxi] = towns.proxies;
    assert_eq!(towns.said(towns.alice, atlanta), ["INVITE", "ACK", "INVITE", "ACK", "INVITE", "ACK"]);
    assert_eq!(towns.said(biloxi, towns.bob), ["INVITE", "ACK"]);
    towns.net.with(towns.bob, |e, now| e.hangup(now, callee)).unwrap();
    towns.net.run_ms(200);
    for host in [towns.alice, towns.bob] {
        assert!(matches!(towns.net.events(host)[..], [Event::Ended { .. }]));
    }
    towns.ends_quietly();
}

#[test]
fn s3_4_successful_session_with_proxy_failure() {
    // The first proxy says nothing: the second, which the name has too, is tried.
    let mut net = Net::new();
    let (alice, bob) = (net.agent(ALICE), net.agent(BOB));
    net.raw("192.0.2.112:5060");
    net.proxy(ATLANTA, BOB, None);
    net.name("proxy.example.com", &["192.0.2.112:5060", ATLANTA]);
    let mut identity = identity("<sip:alice@atlanta.example.com>");
    identity.outbound_proxies = vec!["sip:proxy.example.com;lr".parse().unwrap()];
    let id = net.with(alice, |e, _| e.add_identity(identity));
    let target = "sip:bob@biloxi.example.com".parse().unwrap();
    let caller = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    net.with(alice, |e, now| e.send_invite(now, caller, OFFER.to_vec())).unwrap();
    net.run_with(Duration::from_secs(35), |net, host, event| {
        if let (true, Event::Incoming(incoming)) = (host == bob, event) {
            net.with(bob, |e, now| e.accept(now, incoming.session, ANSWER.to_vec())).unwrap();
        }
    });
    assert!(net.events(alice).iter().any(|event| matches!(event, Event::Answered { .. })));
    net.with(alice, |e, now| e.hangup(now, caller)).unwrap();
    net.run_ms(200);
    assert!(matches!(net.events(bob).last(), Some(Event::Ended { .. })));
}

#[test]
fn s3_7_session_with_reinvite() {
    let mut towns = Towns::new([None, None]);
    let (caller, callee) = towns.talking();
    towns.net.with(towns.bob, |e, now| e.offer(now, callee, OFFER.to_vec())).unwrap();
    towns.net.run_ms(100);
    assert!(
        matches!(&towns.net.events(towns.alice)[..], [Event::Offered { sdp: Some(sdp), .. }] if sdp == OFFER)
    );
    towns.net.with(towns.alice, |e, now| e.answer_offer(now, caller, Ok(ANSWER.to_vec()))).unwrap();
    towns.net.run_ms(200);
    assert!(matches!(towns.net.events(towns.bob)[..], [Event::OfferDone { result: Ok(Some(_)), .. }]));
    assert!(matches!(towns.net.events(towns.alice)[..], [Event::Confirmed { .. }]));
    towns.net.with(towns.alice, |e, now| e.hangup(now, caller)).unwrap();
    towns.net.run_ms(200);
    assert_eq!(towns.end(towns.bob, callee).0, EndCause::Remote);
    towns.net.events(towns.alice);
    let [_, biloxi] = towns.proxies;
    assert_eq!(
        towns.said(biloxi, towns.bob),
        ["INVITE", "ACK", "200 INVITE", "BYE"],
        "also the new offer goes by the proxies"
    );
    towns.ends_quietly();
}

#[test]
fn s3_8_unsuccessful_no_answer() {
    let mut towns = Towns::new([None, None]);
    let (caller, callee) = towns.ringing();
    towns.net.run(Duration::from_secs(20));
    towns.net.with(towns.alice, |e, now| e.hangup(now, caller)).unwrap();
    towns.net.run_ms(200);
    assert_eq!(towns.end(towns.bob, callee).0, EndCause::Cancelled);
    assert_eq!(towns.end(towns.alice, caller).0, EndCause::Local);
    let [atlanta, biloxi] = towns.proxies;
    assert_eq!(towns.said(towns.alice, atlanta), ["INVITE", "CANCEL", "ACK"]);
    assert_eq!(towns.said(towns.bob, biloxi), ["180 INVITE", "200 CANCEL", "487 INVITE"]);
    towns.ends_quietly();
}

#[test]
fn s3_9_and_3_11_unsuccessful_busy_and_temporarily_unavailable() {
    for code in [486, 480] {
        let mut towns = Towns::new([None, None]);
        let caller = towns.dial();
        towns.net.run_ms(150);
        let callee = incoming(&towns.net.events(towns.bob));
        towns.net.with(towns.bob, |e, now| e.reject(now, callee, status(code), None)).unwrap();
        towns.net.run_ms(200);
        assert_eq!(towns.end(towns.alice, caller), (EndCause::Refused, Some(code)));
        towns.net.events(towns.bob);
        let [atlanta, _] = towns.proxies;
        assert_eq!(towns.said(towns.alice, atlanta), ["INVITE", "ACK"]);
        towns.ends_quietly();
    }
}

#[test]
fn s3_10_unsuccessful_no_response_from_user_agent() {
    let mut net = Net::new();
    let alice = net.agent(ALICE);
    net.proxy(ATLANTA, BILOXI, None);
    net.proxy(BILOXI, "192.0.2.202:5060", None);
    let mut identity = identity("<sip:alice@atlanta.example.com>");
    identity.outbound_proxies = vec!["sip:192.0.2.111;lr".parse().unwrap()];
    let id = net.with(alice, |e, _| e.add_identity(identity));
    let target = "sip:bob@biloxi.example.com".parse().unwrap();
    let caller = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    net.with(alice, |e, now| e.send_invite(now, caller, OFFER.to_vec())).unwrap();
    net.run(Duration::from_secs(33));
    assert_eq!(times(&net, alice, "INVITE"), [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(end_of(&net.events(alice), caller).cause, EndCause::Timeout);
    net.run(Duration::from_secs(60));
    assert!(net.with(alice, |e, _| e.is_idle()));
}

/// 3.6: a redirect server sends Alice on, and her telephone offers nothing: Bob's 200 has the offer, and the ACK answers.
#[test]
fn session_via_redirect_and_proxy_servers_with_sdp_in_ack() {
    let mut net = Net::new();
    let bob = net.agent(BOB);
    let alice = net.raw(ALICE);
    let redirect = net.server("192.0.2.110:5060", |_, request| match request.method == method("INVITE") {
        true => vec![with_contact(answer(request, 302, "redirect"), "<sip:bob@192.0.2.222>")],
        false => Vec::new(),
    });
    let proxy = net.proxy(BILOXI, BOB, None);
    net.with(bob, |e, _| e.add_identity(identity("<sip:bob@biloxi.example.com>")));
    let invite = |uri: &str, cseq: u32| {
        format!(
            "INVITE {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK{cseq};rport
Max-Forwards: 70
From: <sip:alice@atlanta.example.com>;tag=a
To: <sip:bob@biloxi.example.com>
Call-ID: 3665-6
CSeq: {cseq} INVITE
Contact: <sip:alice@192.0.2.101>
Content-Length: 0

"
        )
    };
    net.say(alice, redirect, &invite("sip:bob@biloxi.example.com", 1));
    net.run_ms(50);
    let moved = net.responses(alice).remove(0);
    assert_eq!((moved.status.get(), moved.headers.get("Contact")), (302, Some("<sip:bob@192.0.2.222>")));
    net.say(alice, proxy, &invite("sip:bob@biloxi.example.com", 2));
    net.run_ms(50);
    let events = net.events(bob);
    let Some(Event::Incoming(call)) = events.first() else { panic!("{events:?}") };
    assert_eq!(call.offer, None);
    let session = call.session;
    net.with(bob, |e, now| e.ring(now, session, None)).unwrap();
    net.with(bob, |e, now| e.accept(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(50);
    let ok = net.responses(alice).pop().unwrap();
    assert_eq!((ok.status.get(), ok.body.as_slice()), (200, OFFER));
    let (contact, tag) = (ok.headers.contacts().unwrap()[0].uri.to_string(), ok.to.tag().unwrap().to_owned());
    let ack = format!(
        "ACK {contact} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKack;rport
Max-Forwards: 70
From: <sip:alice@atlanta.example.com>;tag=a
To: <sip:bob@biloxi.example.com>;tag={tag}
Call-ID: 3665-6
CSeq: 2 ACK
Route: <sip:192.0.2.222;lr>
Content-Type: application/sdp
Content-Length: {}

",
        ANSWER.len()
    );
    let ack = [crlf(&ack).as_bytes(), ANSWER].concat();
    net.send(alice, proxy, &ack);
    net.run_ms(50);
    let events = net.events(bob);
    assert!(matches!(&events[..], [Event::Confirmed { sdp: Some(sdp), .. }] if sdp == ANSWER), "{events:?}");
}

/// 3.5: a SIP ALG before Alice writes its own address into Via, Contact and the offer.
#[test]
fn session_through_a_sip_alg() {
    let mut net = Net::new();
    let (alice, bob) = (net.agent("192.168.1.2:5060"), net.agent(BOB));
    net.nat("192.168.1.2:5060", "192.0.2.128", crate::common::nat::Mapping::Cone, Duration::from_secs(120));
    net.router("192.0.2.128").alg = Some(Box::new(|way, inside, outside, text| match way {
        crate::common::nat::Way::Out => text
            .replace(&inside.to_string(), &outside.to_string())
            .replace("IN IP4 192.168.1.2", "IN IP4 192.0.2.128"),
        crate::common::nat::Way::In => text.replace(&outside.to_string(), &inside.to_string()),
    }));
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@atlanta.example.com>")));
    net.with(bob, |e, _| e.add_identity(identity("<sip:bob@192.0.2.201>")));
    let target = "sip:bob@192.0.2.201".parse().unwrap();
    let caller = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    let offer = String::from_utf8(OFFER.to_vec()).unwrap().replace("192.0.2.1\r", "192.168.1.2\r");
    net.with(alice, |e, now| e.send_invite(now, caller, offer.into_bytes())).unwrap();
    net.run_ms(50);
    let events = net.events(bob);
    let Some(Event::Incoming(call)) = events.first() else { panic!("{events:?}") };
    let offer = String::from_utf8(call.offer.clone().unwrap()).unwrap();
    assert!(offer.contains("c=IN IP4 192.0.2.128\r\n") && offer.ends_with("RTP/AVP 0\r\n"), "{offer}");
    let callee = call.session;
    net.with(bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    net.run_ms(50);
    assert!(matches!(net.events(bob)[..], [Event::Confirmed { .. }]));
    // Bob finds Alice by what the ALG has written into her Contact.
    net.with(bob, |e, now| e.hangup(now, callee)).unwrap();
    net.run_ms(50);
    assert_eq!(end_of(&net.events(alice), caller).cause, EndCause::Remote);
}
