//! Who calls (RFC 3323, RFC 3325, RFC 5806): what an INVITE of ours tells of us, and what one of a peer's tells us.

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{Event, Incoming, InviteOptions};
use voipd_sip::message::Request;

/// The INVITE that arrives at `target`'s host.
fn invite(anonymous: bool, target: &str) -> Request {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let proxy = net.raw("192.0.2.9:5060");
    let other = net.raw("192.0.2.8:5060");
    net.name("example.org", &["192.0.2.9:5060"]);
    let alice_of = subscriber("\"Alice\" <sip:alice@example.org>", "sip:example.org", "alice", "secret");
    let id = net.with(alice, |e, _| e.add_identity(alice_of));
    let options = InviteOptions { anonymous, follow: false };
    let session = net.with(alice, |e, now| e.invite(now, id, target.parse().unwrap(), options)).unwrap();
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(50);
    let mut requests = net.requests(proxy);
    requests.extend(net.requests(other));
    requests.remove(0)
}

#[test]
fn an_anonymous_call_tells_who_calls_to_the_own_server_alone() {
    let named = invite(false, "sip:bob@example.org");
    assert_eq!(named.from.display_name.as_deref(), Some("Alice"));
    assert_eq!((named.headers.get("Privacy"), named.headers.get("P-Preferred-Identity")), (None, None));

    let hidden = invite(true, "sip:bob@example.org");
    assert!(hidden.from.to_string().starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag="));
    assert_eq!(hidden.headers.get("Privacy"), Some("id"));
    let preferred = hidden.headers.get("P-Preferred-Identity").unwrap();
    assert!(preferred.contains("sip:alice@example.org"), "{preferred}");
    assert!(!hidden.headers.get("Contact").unwrap().contains("alice"));

    let direct = invite(true, "sip:bob@192.0.2.8");
    assert_eq!(direct.headers.get("P-Preferred-Identity"), None);
    let text = String::from_utf8(voipd_sip::wire::write(&voipd_sip::Message::Request(direct))).unwrap();
    assert!(!text.contains("alice") && !text.contains("Alice") && !text.contains("example.org"), "{text}");
}

#[test]
fn an_anonymous_call_is_not_known_again_by_its_contact() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
    let contacts = [true, false].map(|anonymous| {
        let options = InviteOptions { anonymous, follow: false };
        let target = "sip:bob@192.0.2.9".parse().unwrap();
        let session = net.with(alice, |e, now| e.invite(now, id, target, options)).unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.run_ms(50);
        net.requests(peer).remove(0).headers.get("Contact").unwrap().to_owned()
    });
    assert_ne!(contacts[0], contacts[1]);
}

#[test]
fn what_an_invite_says_of_its_caller_is_read() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:5060");
    net.say(
        peer,
        alice,
        "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1
From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=1
To: <sip:alice@192.0.2.1>
Call-ID: x
CSeq: 1 INVITE
Contact: <sip:peer@192.0.2.9>
P-Asserted-Identity: \"Bob\" <sip:bob@example.org>, <tel:+4930123>
Diversion: <sip:office@example.org>;reason=no-answer
Alert-Info: <http://evil.example/ring.wav>;info=alert-internal
Call-Info: <http://evil.example/photo.jpg>;purpose=icon, <javascript:alert(1)>;purpose=info
Content-Length: 0

",
    );
    net.run_ms(20);
    let events = net.events(alice);
    let [Event::Incoming(Incoming { caller, .. })] = &events[..] else { panic!("{events:?}") };
    assert!(caller.anonymous);
    let asserted: Vec<_> = caller.asserted.iter().map(|identity| identity.uri.to_string()).collect();
    assert_eq!(asserted, ["sip:bob@example.org", "tel:+4930123"]);
    assert_eq!(caller.diversions.len(), 1);
    assert_eq!(caller.diversions[0].from.to_string(), "sip:office@example.org");
}

/// What a 200 says of who has answered, where it came from `server`.
fn connected(registered: bool) -> Vec<String> {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let registrar = Registrar::new();
    let mut register = Registrar::serve(&registrar);
    net.server("192.0.2.9:5060", move |now, request| match request.method.as_str() {
        "INVITE" => {
            let response = with_sdp(with_contact(answer(request, 200, "x"), "<sip:bob@192.0.2.9>"), ANSWER);
            let mut response = response;
            response.headers.push("P-Asserted-Identity", "\"Bob\" <sip:bob@example.org>");
            vec![response]
        }
        _ => register(now, request),
    });
    net.name("example.org", &["192.0.2.9:5060"]);
    let alice_of = match registered {
        true => subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"),
        false => identity("<sip:alice@192.0.2.1>"),
    };
    let id = net.with(alice, |e, _| e.add_identity(alice_of));
    let target = "sip:bob@192.0.2.9".parse().unwrap();
    let session = net
        .with(alice, |e, now| {
            _ = e.register(now, id);
            e.invite(now, id, target, InviteOptions::default())
        })
        .unwrap();
    net.run_ms(100);
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(100);
    let answered = net.events(alice).into_iter().find_map(|event| match event {
        Event::Answered { asserted, .. } => Some(asserted),
        _ => None,
    });
    answered.unwrap().iter().map(|identity| identity.uri.to_string()).collect()
}

#[test]
fn who_has_answered_is_believed_from_the_own_server_alone() {
    assert_eq!(connected(true), ["sip:bob@example.org"]);
    assert!(connected(false).is_empty());
}
