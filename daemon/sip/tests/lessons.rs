//! What has hurt other SIP stacks, one test for each lesson: odd names, odd bytes, odd numbers, odd addresses.

use std::time::Duration;

use crate::common::script::Script;
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, Incoming, RegistrationState};
use voipd_sip::message::Response;

/// An INVITE of a stranger. Tests replace lines of it.
const INVITE: &str = "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKlesson
Max-Forwards: 70
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: lesson
CSeq: 1 INVITE
Contact: <sip:peer@192.0.2.9>
Content-Type: application/sdp
Content-Length: 4

v=0
";

struct Stranger {
    net: Net,
    alice: HostId,
    peer: HostId,
}

impl Stranger {
    fn new() -> Self {
        let mut net = Net::new();
        let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
        Self { net, alice, peer }
    }

    /// Sends bytes: the calls that come in, and the answers.
    fn send(&mut self, bytes: &[u8]) -> (Vec<Incoming>, Vec<Response>) {
        self.net.send(self.peer, self.alice, bytes);
        self.net.run_ms(30);
        let events = self.net.events(self.alice).into_iter().filter_map(|event| match event {
            Event::Incoming(incoming) => Some(incoming),
            _ => None,
        });
        (events.collect(), self.net.responses(self.peer))
    }
}

fn with(line: &str, other: &str) -> Vec<u8> {
    let text = INVITE.replace(line, other);
    assert_ne!(text, INVITE, "{line}");
    crlf(&text).into_bytes()
}

/// The INVITE with this change rings.
fn rings(line: &str, other: &str) -> Incoming {
    let (mut calls, responses) = Stranger::new().send(&with(line, other));
    assert!(responses.is_empty() && calls.len() == 1, "{other}: {responses:?}");
    calls.remove(0)
}

/// The INVITE with this change gets that final response at once, readable or not: it may repeat what is wrong.
fn refused(line: &str, other: &str) -> u16 {
    let mut stranger = Stranger::new();
    let (calls, _) = stranger.send(&with(line, other));
    let answers = sent(&stranger.net, stranger.alice);
    assert!(calls.is_empty() && answers.len() == 1, "{other}: {calls:?} {answers:?}");
    answers[0].1.split(' ').nth(1).unwrap().parse().unwrap()
}

const FROM: &str = "From: <sip:peer@192.0.2.9>";

#[test]
fn a_display_name_never_becomes_the_caller() {
    for (name, shown) in [
        (r#""Mallory <sip:ceo@bank.example>""#, "Mallory <sip:ceo@bank.example>"),
        (r#""\"<sip:ceo@bank.example>\"""#, r#""<sip:ceo@bank.example>""#),
        (r#""Mallory \\\" <sip:ceo@bank.example>;tag=1, ""#, r#"Mallory \" <sip:ceo@bank.example>;tag=1, "#),
        (r#""<sip:ceo@bank.example>\\""#, r"<sip:ceo@bank.example>\"),
    ] {
        let from = rings(FROM, &format!("From: {name} <sip:peer@192.0.2.9>")).from;
        assert_eq!(from.uri.to_string(), "sip:peer@192.0.2.9");
        assert_eq!(from.display_name.as_deref(), Some(shown));
        assert_eq!(from.tag(), Some("peer"));
    }
}

#[test]
fn a_quoted_string_that_ends_in_a_backslash_is_refused() {
    assert_eq!(refused(FROM, r#"From: "Mallory\" <sip:peer@192.0.2.9>"#), 400);
    assert_eq!(refused(FROM, r#"From: "Mallory\"#), 400);
    assert_eq!(refused(";tag=peer", r#";tag="peer\"#), 400);
}

#[test]
fn percent_encoding_is_kept_as_it_came() {
    let uri = "sip:%61l%0d%0aVia%3a%20x%00%25%2561%FF@192.0.2.1;p%61r=%3B";
    let incoming = rings("INVITE sip:alice@192.0.2.1", &format!("INVITE {uri}"));
    assert_eq!(incoming.request_uri.to_string(), uri);
    // And goes back where it came from.
    let mut script = Script::talks("Contact: <sip:%70eer%0D%0a@192.0.2.9;x=%2541>\n");
    script.act(|e, now, session| e.hangup(now, session)).unwrap();
    assert_eq!(script.next("BYE").uri.to_string(), "sip:%70eer%0D%0a@192.0.2.9;x=%2541");
    for bad in ["sip:%6@192.0.2.1", "sip:%@192.0.2.1", "sip:%zz@192.0.2.1", "sip:a%"] {
        assert_eq!(refused("INVITE sip:alice@192.0.2.1", &format!("INVITE {bad}")), 400, "{bad}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_latin_1() {
    let mut bytes = with(FROM, "From: \"caf\u{1}\" <sip:peer@192.0.2.9>");
    let place = bytes.iter().position(|byte| *byte == 1).unwrap();
    bytes[place] = 0xe9;
    let (calls, responses) = Stranger::new().send(&bytes);
    assert!(responses.is_empty());
    assert_eq!(calls[0].from.display_name.as_deref(), Some("café"));
}

#[test]
fn nul_bytes_end_no_text_and_stand_in_no_word() {
    let incoming = rings(FROM, "From: \"a\0b\" <sip:peer@192.0.2.9>");
    assert_eq!(incoming.from.display_name.as_deref(), Some("a\u{fffd}b"));
    for (line, other) in [
        ("Call-ID: lesson", "Call-ID: les\0son"),
        (";tag=peer", ";tag=pe\0er"),
        ("CSeq: 1 INVITE", "CSeq: 1\0 INVITE"),
        ("sip:peer@", "sip:pe\0er@"),
        ("Max-Forwards: 70", "Max-Forwards: 70\0"),
        ("INVITE sip:alice@192.0.2.1", "INVITE sip:alice\0@192.0.2.1"),
    ] {
        assert_eq!(refused(line, other), 400, "{other:?}");
    }
    // Without a Via or a method that can be read, nobody can be answered.
    for (line, other) in
        [("INVITE sip", "INV\0ITE sip"), ("SIP/2.0/UDP 192.0.2.9", "SIP/2.0/UDP 192.0\0.2.9")]
    {
        let (calls, responses) = Stranger::new().send(&with(line, other));
        assert!(calls.is_empty() && responses.is_empty(), "{other:?}");
    }
}

#[test]
fn lines_may_end_in_line_feeds_alone() {
    let (calls, responses) = Stranger::new().send(INVITE.as_bytes());
    assert!(responses.is_empty());
    assert_eq!(calls[0].offer.as_deref(), Some(&b"v=0\n"[..]));
}

#[test]
fn a_datagram_without_content_length_ends_its_body() {
    assert_eq!(rings("Content-Length: 4\n", "").offer.as_deref(), Some(&b"v=0\r\n"[..]));
}

#[test]
fn content_length_is_read_with_white_space_and_never_beyond_the_datagram() {
    for line in ["Content-Length : 3", "Content-Length\t:\t3", "content-length:3", "l : 0003"] {
        assert_eq!(rings("Content-Length: 4", line).offer.as_deref(), Some(&b"v=0"[..]), "{line}");
    }
    let beyond = [
        "6",
        "65536",
        "2147483648",
        "4294967295",
        "4294967299",
        "18446744073709551619",
        "-3",
        "+3",
        "3 3",
        "3,3",
        "0x3",
    ];
    for length in beyond {
        assert_eq!(refused("Content-Length: 4", &format!("Content-Length: {length}")), 400, "{length}");
    }
    assert_eq!(refused("Content-Length: 4", "Content-Length: 3\nContent-Length: 3"), 400);
    assert_eq!(refused("Content-Length: 4", "Content-Length: 3\nl: 4"), 400);
}

#[test]
fn methods_are_judged_by_their_exact_name() {
    for (method, status) in
        [("MESSAGE", 405), ("PUBLISH", 405), ("Invite", 501), ("invite", 501), ("INVITES", 501), ("X", 501)]
    {
        let text = INVITE.replace("INVITE", method);
        let (calls, responses) = Stranger::new().send(crlf(&text).as_bytes());
        assert!(calls.is_empty());
        assert_eq!(responses[0].status.get(), status, "{method}");
        assert!(responses[0].headers.tokens("Allow").contains(&"INVITE"));
    }
    // In a call as well: no other way of writing it ends it.
    let mut script = Script::talks("");
    script.request("bye", "", b"");
    script.response(501);
    script.request("BYE2", "", b"");
    script.response(501);
    script.ends_well();
}

#[test]
fn an_unknown_status_is_what_its_class_is() {
    let mut script = Script::called();
    script.respond(189, "", b"");
    assert!(matches!(script.event(), Event::Progress { status, .. } if status.get() == 189));
    script.respond(299, "", ANSWER);
    assert!(matches!(script.event(), Event::Answered { .. }));
    script.next("ACK");
    script.ends_well();
    for code in [399, 499, 599, 699] {
        let mut script = Script::called();
        script.respond(code, "", b"");
        let end = end_of(&script.events(), script.session);
        assert_eq!((end.cause, end.status), (EndCause::Refused, Some(code)));
        script.next("ACK");
        script.run_s(40);
        assert!(script.act(|e, _, _| e.is_idle()));
    }
}

#[test]
fn numbers_out_of_range_are_refused_where_they_matter_and_passed_over_elsewhere() {
    for cseq in ["2147483648", "4294967296", "18446744073709551617", "-1", "+1", "1.0", ""] {
        assert_eq!(refused("CSeq: 1 INVITE", &format!("CSeq: {cseq} INVITE")), 400, "{cseq}");
    }
    for hops in ["256", "-1", "1e1", "99999999999999999999"] {
        assert_eq!(refused("Max-Forwards: 70", &format!("Max-Forwards: {hops}")), 400, "{hops}");
    }
    for port in ["0", "-1", "65536", "4294968356"] {
        let via = format!("Via: SIP/2.0/UDP 192.0.2.9:{port};");
        let (calls, responses) = Stranger::new().send(&with("Via: SIP/2.0/UDP 192.0.2.9;", &via));
        assert!(calls.is_empty() && responses.is_empty(), "{port}: no way back");
        assert_eq!(refused("<sip:peer@192.0.2.9>;", &format!("<sip:peer@192.0.2.9:{port}>;")), 400, "{port}");
    }
    for expires in ["-1", "99999999999999999999", "soon", "4294967296"] {
        rings("Max-Forwards: 70", &format!("Max-Forwards: 70\nExpires: {expires}"));
    }
}

#[test]
fn the_greatest_cseq_is_a_number_like_others() {
    let mut script = Script::talks("");
    script.request_numbered("INFO", 2_147_483_647, "", b"");
    assert_eq!(script.statuses().len(), 1);
    script.request_numbered("INFO", 2_147_483_646, "", b"");
    script.response(500);
    script.events();
    script.ends_well();
}

#[test]
fn an_invitation_may_wait_longer_than_any_clock() {
    let mut stranger = Stranger::new();
    let (calls, _) = stranger.send(&with("Max-Forwards: 70", "Max-Forwards: 70\nExpires: 4294967295"));
    stranger.net.run(Duration::from_secs(3600));
    assert!(stranger.net.events(stranger.alice).is_empty());
    let session = calls[0].session;
    stranger.net.with(stranger.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
}

#[test]
fn a_registration_for_longer_than_a_week_is_cut_to_one() {
    for expires in ["4294967295", "31536000"] {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let value = expires.to_owned();
        net.server("192.0.2.100:5060", move |_, request| {
            let mut response = answer(request, 200, "r");
            for contact in request.headers.get_all("Contact") {
                let contact = contact.split(";expires").next().unwrap();
                response.headers.push("Contact", format!("{contact};expires={value}"));
            }
            response.headers.push("Expires", value.clone());
            vec![response]
        });
        net.name("example.org", &["192.0.2.100:5060"]);
        let id = net.with(alice, |e, _| {
            e.add_identity(subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "x"))
        });
        net.with(alice, |e, now| e.register(now, id)).unwrap();
        net.run_ms(100);
        let granted = net.events(alice).into_iter().find_map(|event| match event {
            Event::Registration { state: RegistrationState::Registered { expires }, .. } => Some(expires),
            _ => None,
        });
        assert_eq!(granted, Some(7 * 24 * 3600), "{expires}");
    }
}

#[test]
fn an_ipv6_reference_stands_with_and_without_a_port() {
    for (contact, port) in [("[2001:db8::9]", 5060), ("[2001:db8::9]:5070", 5070)] {
        let mut net = Net::new();
        let alice = net.agent("[2001:db8::1]:5060");
        let peer = net.raw("[2001:db8::9]:5060");
        let near = if port == 5060 { peer } else { net.raw("[2001:db8::9]:5070") };
        let text = INVITE.replace("192.0.2.9", "[2001:db8::9]").replace("192.0.2.1", "[2001:db8::1]");
        let text =
            text.replace("Contact: <sip:peer@[2001:db8::9]>", &format!("Contact: <sip:peer@{contact}>"));
        net.say(peer, alice, &text);
        net.run_ms(30);
        let session = incoming(&net.events(alice));
        net.with(alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
        net.run_ms(30);
        net.inbox(peer);
        let ok = net.capture.last().unwrap().3.clone();
        let voipd_sip::Message::Response(ok) = read(&ok) else { panic!("no response") };
        let ack =
            text.replace("INVITE", "ACK").replace("To: <sip:alice@[2001:db8::1]>", &format!("To: {}", ok.to));
        net.say(peer, alice, &ack.replace("z9hG4bKlesson", "z9hG4bKack"));
        net.run_ms(30);
        net.with(alice, |e, now| e.hangup(now, session)).unwrap();
        net.run_ms(30);
        let bye = net.requests(near).pop().expect("a BYE");
        assert_eq!(bye.uri.to_string(), format!("sip:peer@{contact}"));
    }
}

#[test]
fn a_response_must_have_our_sent_by_branch_and_method() {
    let mut script = Script::called();
    let right = answer(&script.invite, 486, "peer");
    let mut wrong = vec![right.clone(), right.clone(), right.clone(), right.clone()];
    wrong[0].via[0].host = "192.0.2.77".parse().unwrap();
    wrong[1].via[0].port = Some(5999);
    wrong[2].via[0].params.set("branch", Some("z9hG4bKguessed"));
    wrong[3].cseq.method = method("BYE");
    for response in &wrong {
        script.net.respond(script.peer, script.alice, response);
        script.run_s(1);
        script.no_event();
    }
    script.net.respond(script.peer, script.alice, &right);
    script.run_s(1);
    assert_eq!(end_of(&script.events(), script.session).status, Some(486));
}

#[test]
fn a_via_cannot_aim_our_answers_at_somebody_else() {
    for via in [
        "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bKlesson",
        "SIP/2.0/UDP 192.0.2.9;maddr=198.51.100.7;branch=z9hG4bKlesson",
        "SIP/2.0/UDP 192.0.2.9;received=198.51.100.7;branch=z9hG4bKlesson",
        "SIP/2.0/UDP victim.example;received=198.51.100.7;rport=53;branch=z9hG4bKlesson",
    ] {
        let mut stranger = Stranger::new();
        let victim = stranger.net.raw("198.51.100.7:5060");
        let text =
            INVITE.replace("INVITE", "OPTIONS").replace("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKlesson", via);
        let (_, responses) = stranger.send(crlf(&text).as_bytes());
        assert_eq!(responses.len(), 1, "{via}");
        assert!(stranger.net.inbox(victim).is_empty(), "{via}");
    }
}
