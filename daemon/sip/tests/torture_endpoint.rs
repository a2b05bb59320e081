//! What a user agent does with each torture message of RFC 4475: whom it rings, what it answers, what it drops; and
//! that nothing is left of any of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{Event, Incoming};
use voipd_sip::message::{Message, Response};

/// What becomes of a message.
enum Verdict {
    /// The user is asked; what the INVITE is for.
    Rings(&'static str),
    /// A final response at once.
    Answered(u16),
    /// Nothing at all.
    Dropped,
}

use Verdict::{Answered, Dropped, Rings};

/// Every message, with the section that tells of it.
const VERDICTS: [(&str, Verdict); 49] = [
    // 3.1.1: valid.
    ("wsinv", Answered(481)),   // 3.1.1.1: in a dialog that does not exist
    ("intmeth", Answered(501)), // 3.1.1.2: of a method that nobody knows
    ("esc01", Rings("sip:sips%3Auser%40example.com@example.net")), // 3.1.1.3
    ("escnull", Answered(405)), // 3.1.1.4: to register here is not possible
    ("esc02", Answered(501)),   // 3.1.1.5: RE%47IST%45R is not REGISTER
    ("lwsdisp", Answered(200)), // 3.1.1.6
    ("longreq", Rings("sip:user@example.com")), // 3.1.1.7
    ("dblreq", Answered(405)),  // 3.1.1.8: and the INVITE behind it is no message
    ("semiuri", Answered(200)), // 3.1.1.9
    ("transports", Answered(200)), // 3.1.1.10
    ("mpart01", Answered(405)), // 3.1.1.11: no MESSAGE is taken
    ("unreason", Dropped),      // 3.1.1.12: a response to nothing of ours
    ("noreason", Dropped),      // 3.1.1.13: the same
    // 3.1.2: invalid.
    ("badinv01", Answered(400)),
    ("clerr", Answered(400)),
    ("ncl", Answered(400)),
    ("scalar02", Answered(400)),
    ("scalarlg", Dropped),
    ("quotbal", Answered(400)),
    ("ltgtruri", Answered(400)),
    ("lwsruri", Answered(400)),
    ("lwsstart", Answered(400)),
    ("trws", Answered(400)),
    ("escruri", Answered(400)),
    ("baddate", Rings("sip:user@example.com")), // 3.1.2.12: Date means nothing to us
    ("regbadct", Answered(405)),                // 3.1.2.13: the method is judged first
    ("badaspec", Answered(400)),
    ("baddn", Answered(400)),
    ("badvers", Answered(505)),
    ("mismatch01", Answered(400)),
    ("mismatch02", Answered(400)),
    ("bigcode", Dropped),
    // 3.2: the transaction layer.
    ("badbranch", Answered(200)),
    // 3.3: the application layer.
    ("insuf", Answered(400)),
    ("unkscm", Answered(416)),
    ("novelsc", Answered(416)),
    ("unksm2", Answered(405)),
    ("bext01", Answered(420)),
    ("invut", Answered(415)),
    ("regaut01", Answered(405)),
    ("multi01", Answered(400)),
    ("mcl01", Answered(400)),
    ("bcast", Dropped),        // 3.3.10: two Vias
    ("zeromf", Answered(200)), // 3.3.11: it is at its end here; only a proxy would have to pass it on
    ("cparam01", Answered(405)),
    ("cparam02", Answered(405)),
    ("regescrt", Answered(405)),
    ("sdp01", Answered(406)), // 3.3.15: it takes no SDP in an answer
    // 3.4: backward compatibility.
    ("inv2543", Rings("sip:UserB@example.com")),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{file}.dat"))).unwrap()
}

/// First lines of what Alice has sent since the message of that number.
fn answers(net: &Net, alice: HostId, since: usize) -> Vec<(String, Vec<u8>)> {
    let address = net.address(alice);
    let sent = net.capture.iter().skip(since).filter(|(_, from, _, _)| *from == address);
    sent.map(|(_, _, _, bytes)| (first_line(bytes), bytes.clone())).collect()
}

fn status_of(line: &str) -> u16 {
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {line}"))
}

#[test]
fn every_message_has_its_verdict() {
    let verdicts: BTreeSet<String> = VERDICTS.iter().map(|(file, _)| format!("{file}.dat")).collect();
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let files: BTreeSet<String> =
        names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".dat")).collect();
    assert_eq!(verdicts, files);
}

#[test]
fn every_message_gets_its_verdict_and_nothing_is_left_of_it() {
    for (file, verdict) in &VERDICTS {
        let mut net = Net::new();
        let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
        net.send(peer, alice, &bytes(file));
        net.run_ms(50);
        let events = net.events(alice);
        let sent = answers(&net, alice, 0);
        match verdict {
            Rings(target) => {
                let [Event::Incoming(Incoming { session, request_uri, .. })] = &events[..] else {
                    panic!("{file}: {events:?}, {sent:?}")
                };
                assert_eq!(request_uri.to_string(), *target, "{file}");
                net.with(alice, |e, now| e.reject(now, *session, status(486), None)).unwrap();
                let sent = answers(&net, alice, 0);
                assert_eq!(sent.iter().map(|(line, _)| status_of(line)).collect::<Vec<_>>(), [486], "{file}");
            }
            Answered(status) => {
                assert!(events.is_empty(), "{file}: {events:?}");
                assert_eq!(
                    sent.iter().map(|(line, _)| status_of(line)).collect::<Vec<_>>(),
                    [*status],
                    "{file}"
                );
            }
            Dropped => assert!(events.is_empty() && sent.is_empty(), "{file}: {events:?}, {sent:?}"),
        }
        // Longer than the final response to an INVITE that nobody acknowledges is repeated.
        net.run(Duration::from_secs(40));
        net.events(alice);
        assert!(net.with(alice, |e, _| e.is_idle()), "{file}: something is left");
    }
}

/// What the response to a request of the torture says besides its status.
fn answer_to(file: &str) -> Response {
    let mut net = Net::new();
    let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
    net.send(peer, alice, &bytes(file));
    net.run_ms(50);
    let (_, bytes) = answers(&net, alice, 0).remove(0);
    let Message::Response(response) = read(&bytes) else { panic!("{file}: no response") };
    response
}

#[test]
fn refusals_say_what_would_be_taken() {
    for file in ["esc02", "escnull", "mpart01", "intmeth"] {
        assert!(answer_to(file).headers.tokens("Allow").contains(&"INVITE"), "{file}");
    }
    let extensions = answer_to("bext01");
    // Proxy-Require is for proxies.
    assert_eq!(
        extensions.headers.tokens("Unsupported"),
        ["nothingSupportsThis", "nothingSupportsThisEither"]
    );
    assert!(answer_to("invut").headers.tokens("Accept").contains(&"application/sdp"));
    let options = answer_to("zeromf");
    assert!(options.headers.get("Allow").is_some() && options.to.tag().is_some());
}

#[test]
fn a_response_goes_back_over_every_via_as_it_came() {
    let transports = answer_to("transports");
    let vias: Vec<_> = transports.via.iter().map(|via| via.transport.as_str()).collect();
    assert_eq!(vias, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    assert_eq!(transports.via[0].params.value("received"), Some("192.0.2.9"));
}

/// The INVITE of `inv2543` has neither tag nor branch nor Contact: requests of ours go to its From.
#[test]
fn a_caller_of_rfc_2543_is_talked_to() {
    let mut net = Net::new();
    let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
    net.name("ss1.example.com", &["192.0.2.9:5060"]);
    net.send(peer, alice, &bytes("inv2543"));
    net.run_ms(30);
    let session = incoming(&net.events(alice));
    net.with(alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    net.run_ms(30);
    let ok = net.responses(peer).pop().unwrap();
    assert_eq!((ok.status.get(), ok.from.tag()), (200, None));
    let ack = format!(
        "ACK sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP iftgw.example.com\nFrom: {}\nTo: {}\n\
         Call-ID: {}\nCSeq: 56 ACK\n\n",
        ok.from, ok.to, ok.call_id
    );
    net.say(peer, alice, &ack);
    net.run_ms(30);
    assert!(matches!(net.events(alice)[..], [Event::Confirmed { .. }]));
    net.with(alice, |e, now| e.hangup(now, session)).unwrap();
    net.run_ms(30);
    let bye = net.requests(peer).pop().unwrap();
    assert_eq!(bye.method.as_str(), "BYE");
    // The route is a strict router's: it stands in the Request-URI, and the caller in Route.
    assert_eq!(bye.uri.to_string(), "sip:UserB@example.com;maddr=ss1.example.com");
    assert_eq!(bye.headers.get("Route"), Some("<sip:+13035551111@ift.client.example.net;user=phone>"));
}

/// A response of the torture, made one to Alice's INVITE, `leaving` that many of its Vias.
fn to_our_invite(file: &str, vias: usize) -> (Net, HostId) {
    let mut pair = Pair::new();
    pair.invite();
    let invite = pair.net.capture.iter().find_map(|(_, _, _, bytes)| match read(bytes) {
        Message::Request(request) => Some(request),
        Message::Response(_) => None,
    });
    let invite = invite.unwrap();
    let Message::Response(mut response) = read(&bytes(file)) else { panic!("{file}") };
    response.via.splice(..response.via.len() + 1 - vias, invite.via);
    (response.from, response.call_id, response.cseq.seq) = (invite.from, invite.call_id, invite.cseq);
    let Pair { mut net, alice, bob, .. } = pair;
    net.respond(bob, alice, &response);
    net.run_ms(15);
    (net, alice)
}

#[test]
fn a_response_with_an_unusual_reason_phrase_or_none_is_understood() {
    let (mut net, alice) = to_our_invite("unreason", 1);
    let events = net.events(alice);
    assert!(matches!(&events[..], [Event::Answered { sdp: Some(_), .. }]), "{events:?}");
    let (mut net, alice) = to_our_invite("noreason", 1);
    assert!(net.events(alice).is_empty(), "100 is no progress");
    // Nothing is repeated after a 100.
    net.run(Duration::from_secs(2));
    assert_eq!(times(&net, alice, "INVITE").len(), 1);
}

#[test]
fn a_response_with_two_vias_is_not_ours() {
    let (mut net, alice) = to_our_invite("bcast", 1);
    assert!(matches!(net.events(alice)[..], [Event::Answered { .. }]), "with one Via it is");
    let (mut net, alice) = to_our_invite("bcast", 2);
    assert!(net.events(alice).is_empty());
}

/// RFC 4475 section 3.2.1: a branch of the magic cookie alone names no transaction.
#[test]
fn a_branch_that_is_only_the_cookie_does_not_join_two_calls() {
    let mut net = Net::new();
    let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
    let text = String::from_utf8(bytes("badbranch")).unwrap().replace("OPTIONS", "INVITE");
    let invite = text.replace("Accept: application/sdp", "Contact: <sip:caller@192.0.2.9>");
    net.say(peer, alice, &invite);
    net.say(peer, alice, &invite.replace("badbranch.", "other."));
    net.run_ms(30);
    assert_eq!(net.events(alice).len(), 2);
}
