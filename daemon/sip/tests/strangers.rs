//! Requests in no dialog of ours (RFC 3261 section 8.2): answered, refused, and whose account an INVITE finds.

use std::time::Duration;

use crate::common::registrar::Registrar;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, Incoming};
use voipd_sip::message::Response;

struct Stranger {
    net: Net,
    alice: HostId,
    peer: HostId,
    count: u32,
}

impl Stranger {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        Self { net, alice, peer, count: 0 }
    }

    fn text(&mut self, method: &str, uri: &str, to_tag: &str, extra: &str, body: &str) -> String {
        self.count += 1;
        format!(
            "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKs{}
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>{to_tag}
Call-ID: stranger-{}
CSeq: 1 {method}
{extra}Content-Length: {}

{body}",
            self.count,
            self.count,
            crlf(body).len()
        )
    }

    fn say(&mut self, text: &str) -> Vec<Response> {
        self.net.say(self.peer, self.alice, text);
        self.net.run_ms(30);
        self.net.responses(self.peer)
    }

    fn ask(&mut self, method: &str, to_tag: &str, extra: &str, body: &str) -> Response {
        let text = self.text(method, "sip:alice@192.0.2.1", to_tag, extra, body);
        let mut responses = self.say(&text);
        assert_eq!(responses.len(), 1, "{text}");
        responses.remove(0)
    }
}

const CONTACT: &str = "Contact: <sip:peer@192.0.2.9>\n";

#[test]
fn options_says_what_we_can() {
    let mut stranger = Stranger::new();
    let response = stranger.ask("OPTIONS", "", "Accept: application/sdp\n", "");
    assert_eq!(response.status.get(), 200);
    let methods = ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "PRACK", "UPDATE"];
    assert_eq!(response.headers.tokens("Allow"), methods);
    assert_eq!(
        response.headers.tokens("Accept"),
        ["application/sdp", "multipart/mixed", "multipart/alternative"]
    );
    assert_eq!(response.headers.tokens("Supported"), ["199", "100rel", "timer"]);
    assert!(response.to.tag().is_some());
    assert_eq!(response.headers.get("Server"), Some("voipd-test"));
}

#[test]
fn what_we_do_not_do_is_refused_with_a_reason() {
    let mut stranger = Stranger::new();
    for method in ["MESSAGE", "SUBSCRIBE", "REFER", "PUBLISH", "REGISTER"] {
        let response = stranger.ask(method, "", "", "");
        assert_eq!(response.status.get(), 405, "{method}");
        assert!(response.headers.get("Allow").is_some());
    }
    assert_eq!(stranger.ask("NEWMETHOD", "", "", "").status.get(), 501);
    for (method, tag) in [
        ("BYE", ""),
        ("INFO", ""),
        ("NOTIFY", ""),
        ("CANCEL", ""),
        ("PRACK", ""),
        ("UPDATE", ""),
        ("BYE", ";tag=x"),
        ("INVITE", ";tag=x"),
        ("PRACK", ";tag=x"),
        ("UPDATE", ";tag=x"),
    ] {
        assert_eq!(stranger.ask(method, tag, CONTACT, "").status.get(), 481, "{method} {tag}");
    }
    let response = stranger.ask("OPTIONS", ";tag=x", "", "");
    assert_eq!((response.status.get(), response.to.tag()), (481, Some("x")));
}

#[test]
fn an_invite_that_asks_too_much_is_refused_and_its_refusal_repeated() {
    let mut stranger = Stranger::new();
    let require = "Require: 100rel, precondition, timer\nRequire: nothing\n".to_owned() + CONTACT;
    let response = stranger.ask("INVITE", "", &require, "");
    assert_eq!(response.status.get(), 420);
    assert_eq!(response.headers.tokens("Unsupported"), ["precondition", "nothing"]);

    let text = "Content-Type: text/plain\n".to_owned() + CONTACT;
    let response = stranger.ask("INVITE", "", &text, "hello");
    assert_eq!((response.status.get(), response.headers.tokens("Accept")[0]), (415, "application/sdp"));
    let zipped = "Content-Type: application/sdp\nContent-Encoding: gzip\n".to_owned() + CONTACT;
    assert_eq!(stranger.ask("INVITE", "", &zipped, "hello").status.get(), 415);

    assert_eq!(stranger.ask("INVITE", "", "", "").status.get(), 400, "no Contact");
    assert_eq!(stranger.ask("INVITE", "", "Contact: <tel:+4930123>\n", "").status.get(), 400);

    assert!(stranger.net.events(stranger.alice).is_empty());
    stranger.net.run_ms(600);
    assert_eq!(stranger.net.responses(stranger.peer).len(), 5, "each waits for its ACK");
}

#[test]
fn a_body_that_may_be_passed_over_is() {
    let mut stranger = Stranger::new();
    let extra =
        "Content-Type: image/gif\nContent-Disposition: icon; handling=optional\n".to_owned() + CONTACT;
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", &extra, "GIF");
    stranger.say(&text);
    let events = stranger.net.events(stranger.alice);
    assert!(matches!(&events[..], [Event::Incoming(Incoming { offer: None, .. })]), "{events:?}");
}

#[test]
fn only_sip_is_spoken() {
    let mut stranger = Stranger::new();
    for uri in ["sips:alice@192.0.2.1", "tel:+4930123", "nobody:knows"] {
        let text = stranger.text("OPTIONS", uri, "", "", "");
        assert_eq!(stranger.say(&text)[0].status.get(), 416, "{uri}");
    }
}

#[test]
fn the_same_invite_by_another_way_is_a_loop() {
    let mut stranger = Stranger::new();
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "");
    assert!(stranger.say(&text).is_empty());
    let session = incoming(&stranger.net.events(stranger.alice));
    let merged = text.replace("branch=z9hG4bKs1", "branch=z9hG4bKother");
    assert_eq!(stranger.say(&merged)[0].status.get(), 482);
    assert!(stranger.net.events(stranger.alice).is_empty());
    stranger.net.with(stranger.alice, |e, now| e.ring(now, session, None)).unwrap();
    assert!(stranger.say(&text).iter().all(|response| response.status.get() == 180), "the first goes on");
}

#[test]
fn an_invite_that_was_refused_may_come_again_by_another_way() {
    let mut stranger = Stranger::new();
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.reject(now, session, status(404), None)).unwrap();
    stranger.net.run_ms(30);
    let refused = stranger.net.responses(stranger.peer).pop().unwrap();
    assert_eq!(refused.status.get(), 404);
    stranger.net.events(stranger.alice);
    // A proxy that forks goes on to another binding, before the refusal is acknowledged and after.
    let before = text.replace("branch=z9hG4bKs1", "branch=z9hG4bKbefore");
    assert!(stranger.say(&before).is_empty());
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.reject(now, session, status(404), None)).unwrap();
    stranger.net.run_ms(30);
    let refused = stranger.net.responses(stranger.peer).pop().unwrap();
    stranger.net.events(stranger.alice);
    let ack =
        before.replace("INVITE", "ACK").replace("To: <sip:alice@192.0.2.1>", &format!("To: {}", refused.to));
    stranger.say(&ack);
    let after = text.replace("branch=z9hG4bKs1", "branch=z9hG4bKafter");
    assert!(stranger.say(&after).is_empty());
    let session = incoming(&stranger.net.events(stranger.alice));
    // What is accepted comes once.
    stranger.net.with(stranger.alice, |e, now| e.accept(now, session, OFFER.to_vec())).unwrap();
    stranger.net.run_ms(30);
    stranger.net.responses(stranger.peer);
    let merged = text.replace("branch=z9hG4bKs1", "branch=z9hG4bKmerged");
    assert_eq!(stranger.say(&merged)[0].status.get(), 482);
}

#[test]
fn an_rfc_2543_peer_without_magic_cookie_is_understood() {
    let mut stranger = Stranger::new();
    let text = stranger
        .text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "")
        .replace(";branch=z9hG4bKs1", ";branch=1");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    // Another call of the same peer, whose branch is as poor.
    let other = stranger
        .text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "")
        .replace(";branch=z9hG4bKs2", ";branch=1");
    stranger.say(&other);
    incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    stranger.net.run_ms(30);
    let busy = stranger.net.responses(stranger.peer).pop().unwrap();
    let ack = text.replace("INVITE", "ACK").replace("To: <sip:alice@192.0.2.1>", &format!("To: {}", busy.to));
    stranger.say(&ack);
    stranger.net.run(Duration::from_secs(3));
    let repeated = stranger.net.responses(stranger.peer);
    assert!(
        repeated.iter().all(|response| response.status.get() != 486),
        "the ACK has ended it: {repeated:?}"
    );
}

#[test]
fn an_rfc_2543_peer_is_acknowledged_in_the_dialog_after_a_2xx() {
    let mut stranger = Stranger::new();
    let text =
        stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "").replace(";branch=z9hG4bKs1", "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    stranger.net.run_ms(30);
    let ok = stranger.net.responses(stranger.peer).pop().unwrap();
    let ack = text.replace("INVITE", "ACK").replace("To: <sip:alice@192.0.2.1>", &format!("To: {}", ok.to));
    stranger.say(&ack);
    assert!(matches!(stranger.net.events(stranger.alice)[..], [Event::Confirmed { .. }]));
}

#[test]
fn a_cancel_says_why_and_is_answered_with_the_invite_s_tag() {
    let mut stranger = Stranger::new();
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\n";
    let cancel = text.replace("INVITE", "CANCEL").replace(CONTACT, reason);
    let responses = stranger.say(&cancel);
    assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [200, 487]);
    assert_eq!(responses[0].to.tag(), responses[1].to.tag());
    let end = end_of(&stranger.net.events(stranger.alice), session);
    assert_eq!((end.cause, end.status), (EndCause::Cancelled, Some(200)));
    assert_eq!(end.text.as_deref(), Some("Call completed elsewhere"));
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut stranger = Stranger::new();
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let cancel = text.replace("INVITE", "CANCEL");
    let responses = stranger.say(&cancel);
    assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [200, 200]);
    assert!(stranger.net.events(stranger.alice).is_empty());
}

#[test]
fn an_invitation_that_expires_is_over() {
    let mut stranger = Stranger::new();
    let extra = "Expires: 20\n".to_owned() + CONTACT;
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", &extra, "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.run(Duration::from_secs(21));
    assert_eq!(end_of(&stranger.net.events(stranger.alice), session).cause, EndCause::Cancelled);
    assert_eq!(times(&stranger.net, stranger.alice, "487")[0], 20_010);
}

#[test]
fn the_caller_ends_an_early_dialog_with_bye() {
    let mut stranger = Stranger::new();
    let text = stranger.text("INVITE", "sip:alice@192.0.2.1", "", CONTACT, "");
    stranger.say(&text);
    let session = incoming(&stranger.net.events(stranger.alice));
    stranger.net.with(stranger.alice, |e, now| e.ring(now, session, None)).unwrap();
    stranger.net.run_ms(30);
    let tag = stranger.net.responses(stranger.peer)[0].to.tag().unwrap().to_owned();
    let in_dialog = |name: &str, cseq: u32| {
        text.replace("branch=z9hG4bKs1", &format!("branch=z9hG4bKd{cseq}{name}"))
            .replace("CSeq: 1 INVITE", &format!("CSeq: {cseq} {name}"))
            .replace("INVITE sip:", &format!("{name} sip:"))
            .replace("To: <sip:alice@192.0.2.1>", &format!("To: <sip:alice@192.0.2.1>;tag={tag}"))
    };
    assert_eq!(stranger.say(&in_dialog("INVITE", 2))[0].status.get(), 500, "not while the first is open");
    assert_eq!(stranger.say(&in_dialog("INFO", 1))[0].status.get(), 500, "out of order");
    assert_eq!(stranger.say(&in_dialog("INFO", 2))[0].status.get(), 500, "a number is used once");
    let codes: Vec<_> =
        stranger.say(&in_dialog("BYE", 3)).iter().map(|response| response.status.get()).collect();
    assert_eq!(codes, [200, 487]);
    assert_eq!(end_of(&stranger.net.events(stranger.alice), session).cause, EndCause::Remote);
}

/// Whose call an INVITE to `uri` from `source` is.
fn owner(source: &str, uri: impl Fn(&str) -> String) -> (bool, bool) {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let registrar = Registrar::new();
    net.server("192.0.2.100:5060", Registrar::serve(&registrar));
    net.name("example.org", &["192.0.2.100:5060"]);
    let id = net.with(alice, |e, _| {
        e.add_identity(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret"))
    });
    net.with(alice, |e, now| e.register(now, id)).unwrap();
    net.run_ms(100);
    net.events(alice);
    let contact = registrar.borrow().bindings.first_key_value().unwrap().0.clone();
    let peer = net.raw(source);
    let text = format!(
        "INVITE {} SIP/2.0
Via: SIP/2.0/UDP {source};branch=z9hG4bKx
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@example.org>
Call-ID: x
CSeq: 1 INVITE
Contact: <sip:peer@192.0.2.9>
Content-Length: 0

",
        uri(&contact)
    );
    net.say(peer, alice, &text);
    net.run_ms(20);
    match &net.events(alice)[..] {
        [Event::Incoming(incoming)] => (true, incoming.identity == Some(id)),
        [] => (false, false),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_finds_its_account_by_the_registered_contact_and_the_server_it_came_from() {
    let same = |contact: &str| contact.to_owned();
    assert_eq!(owner("192.0.2.100:5070", same), (true, true), "the server, whatever its port");
    assert_eq!(owner("203.0.113.66:5060", same), (true, false), "a stranger who knows the contact");
    assert_eq!(
        owner("192.0.2.100:5070", |_| "sip:alice@192.0.2.1".to_owned()),
        (true, false),
        "the user part is no key"
    );
    assert_eq!(owner("192.0.2.100:5070", |_| "sip:192.0.2.1".to_owned()), (true, false));
}
