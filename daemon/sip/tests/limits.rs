//! Hard limits: what goes beyond them gets a status (or nothing), adds no memory, and leaves the call that is under way
//! as it is. The limits of streams are in `stream_framing`, those of forks in `fork`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use common::memory::{Counting, held};
use common::script::Script;
use common::*;
use voipd_sip::Endpoint;
use voipd_sip::endpoint::{Event, Flow, Output, SessionId};
use voipd_sip::wire::{
    MAX_FIELD, MAX_FIELDS, MAX_LIST, MAX_MESSAGE, MAX_PARAMS, MAX_START_LINE, MAX_URI, MAX_VIAS,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SESSIONS: usize = 5;
const TRANSACTIONS: usize = 50;
/// What an answer may add to the request that it repeats, in bytes: nobody uses us to send more than he sent.
const MOST_ADDED: usize = 600;
/// Repetitions of each hostile message.
const TIMES: usize = 500;

/// What became of many messages.
struct Flood {
    /// How often each status was answered with.
    statuses: BTreeMap<u16, usize>,
    /// Bytes held after the last message beyond those held after the first few.
    grown: isize,
    /// Bytes held beyond those before the first.
    taken: isize,
    rang: Vec<SessionId>,
}

impl Flood {
    /// Every message was answered with that status, and nothing was kept.
    fn all(&self, status: u16) {
        assert_eq!(self.statuses, BTreeMap::from([(status, TIMES)]));
        self.nothing_kept();
    }

    /// No message was answered, and nothing was kept.
    fn silent(&self) {
        assert_eq!(self.statuses, BTreeMap::new());
        self.nothing_kept();
    }

    fn nothing_kept(&self) {
        assert!(self.rang.is_empty());
        assert!(self.grown <= 1024, "{} bytes more", self.grown);
    }
}

/// Alice in a call, while others do what they like.
struct Desk(Script);

impl Desk {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent_with("192.0.2.1:5060", SESSIONS, TRANSACTIONS);
        let peer = net.raw("192.0.2.9:5060");
        let mut script = Script::between(net, alice, peer, "", OFFER);
        script.session = incoming(&script.events());
        script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
        script.response(200);
        script.ack(b"");
        assert!(matches!(script.event(), Event::Confirmed { .. }));
        Self(script)
    }

    /// Sends [`TIMES`] messages from a stranger.
    fn flood(&mut self, message: impl Fn(usize) -> Vec<u8>) -> Flood {
        let mallory = udp("192.0.2.1:5060".parse().unwrap(), "203.0.113.66:5060".parse().unwrap());
        self.flood_from(mallory, TIMES, message)
    }

    fn flood_from(&mut self, flow: Flow, count: usize, message: impl Fn(usize) -> Vec<u8>) -> Flood {
        self.0.act(|endpoint, now, _| flood(endpoint, now, flow, count, message))
    }

    /// The call lives, can be ended, and nothing is left then.
    fn goes_on(mut self) {
        self.0.act(|e, now, session| e.probe(now, session)).unwrap();
        let options = self.0.next("OPTIONS");
        self.0.reply(&options, 200, "", b"");
        assert!(matches!(self.0.event(), Event::Probed { alive: true, .. }));
        self.0.ends_well();
    }
}

fn flood(
    endpoint: &mut Endpoint,
    now: Instant,
    flow: Flow,
    count: usize,
    message: impl Fn(usize) -> Vec<u8>,
) -> Flood {
    let mut flood = Flood { statuses: BTreeMap::new(), grown: 0, taken: 0, rang: Vec::with_capacity(count) };
    let before = held();
    let mut settled = before;
    for number in 0..count {
        let bytes = message(number);
        endpoint.handle_datagram(now, flow, &bytes);
        loop {
            match endpoint.poll_output() {
                Output::Transmit { bytes: answer, .. } => {
                    assert!(answer.len() <= bytes.len() + MOST_ADDED, "{} for {}", answer.len(), bytes.len());
                    let code = first_line(&answer)[8..11].parse().unwrap();
                    *flood.statuses.entry(code).or_default() += 1;
                }
                Output::Event(Event::Incoming(incoming)) => flood.rang.push(incoming.session),
                Output::Event(_) | Output::Disconnect { .. } | Output::Resolve { .. } => {}
                Output::Timeout(_) => break,
            }
        }
        drop(bytes);
        if number == 10 {
            settled = held();
        }
    }
    (flood.grown, flood.taken) = (held() - settled, held() - before);
    flood
}

/// A stranger's request; each number makes another one.
fn request(method: &str, number: usize, uri: &str, more: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKm{number}
From: <sip:mallory@203.0.113.66>;tag=m{number}
To: <sip:alice@192.0.2.1>
Call-ID: mallory-{number}
CSeq: 1 {method}
{more}Content-Length: {}

{body}",
        body.len()
    );
    crlf(&text).into_bytes()
}

fn options(number: usize, more: &str) -> Vec<u8> {
    request("OPTIONS", number, "sip:alice@192.0.2.1", more, "")
}

fn invite(number: usize, more: &str, body: &str) -> Vec<u8> {
    let more = format!("Contact: <sip:mallory@203.0.113.66>\n{more}");
    request("INVITE", number, "sip:alice@192.0.2.1", &more, body)
}

#[test]
fn a_message_beyond_the_longest_is_dropped() {
    let mut desk = Desk::new();
    desk.flood(|number| request("OPTIONS", number, "sip:a@192.0.2.1", "", &"x".repeat(MAX_MESSAGE))).silent();
    desk.goes_on();
}

#[test]
fn a_start_line_beyond_the_longest_is_dropped() {
    let mut desk = Desk::new();
    let uri = format!("sip:{}", "a".repeat(MAX_START_LINE));
    desk.flood(|number| request("OPTIONS", number, &uri, "", "")).silent();
    desk.goes_on();
}

#[test]
fn a_request_uri_beyond_the_longest_is_414() {
    let mut desk = Desk::new();
    let uri = format!("sip:{}@192.0.2.1", "a".repeat(MAX_URI));
    desk.flood(|number| request("OPTIONS", number, &uri, "", "")).all(414);
    desk.goes_on();
}

#[test]
fn more_header_fields_than_any_message_needs_are_513() {
    let mut desk = Desk::new();
    desk.flood(|number| options(number, &"X: 1\n".repeat(MAX_FIELDS))).all(513);
    desk.goes_on();
}

#[test]
fn a_header_field_beyond_the_longest_is_513_folded_or_not() {
    let mut desk = Desk::new();
    desk.flood(|number| options(number, &format!("X: {}\n", "x".repeat(MAX_FIELD)))).all(513);
    desk.flood(|number| options(TIMES + number, &format!("X: 1\n{}", " 1\n".repeat(MAX_FIELD / 2)))).all(513);
    desk.goes_on();
}

#[test]
fn more_vias_than_hops_are_400() {
    let mut desk = Desk::new();
    let vias = "Via: SIP/2.0/UDP a\n".repeat(MAX_VIAS);
    desk.flood(|number| options(number, &vias)).all(400);
    let list = format!("Via: {}\n", ["SIP/2.0/UDP a"; MAX_VIAS].join(","));
    desk.flood(|number| options(TIMES + number, &list)).all(400);
    desk.goes_on();
}

#[test]
fn more_parameters_than_any_address_needs_are_400() {
    let mut desk = Desk::new();
    let uri = format!("sip:alice@192.0.2.1{}", ";a".repeat(MAX_PARAMS + 1));
    desk.flood(|number| request("OPTIONS", number, &uri, "", "")).all(400);
    let params = ";a".repeat(MAX_PARAMS + 1);
    let tagged = |number: usize| {
        let text = String::from_utf8(options(TIMES + number, "")).unwrap();
        text.replace("To: <sip:alice@192.0.2.1>", &format!("To: <sip:alice@192.0.2.1>{params}")).into_bytes()
    };
    desk.flood(tagged).all(400);
    desk.goes_on();
}

/// Lists that a dialog would be made of. Each of these INVITEs has a transaction, until the table is full.
#[test]
fn longer_lists_of_contacts_and_routes_than_a_dialog_can_need_are_400() {
    let list = vec!["<sip:a@203.0.113.66;lr>"; MAX_LIST + 1].join(",");
    for field in ["Contact", "Record-Route"] {
        let mut desk = Desk::new();
        let flood = desk.flood(|number| {
            let contact = if field == "Contact" { "" } else { "Contact: <sip:m@203.0.113.66>\n" };
            request("INVITE", number, "sip:alice@192.0.2.1", &format!("{contact}{field}: {list}\n"), "")
        });
        assert_eq!(flood.statuses.keys().copied().collect::<Vec<_>>(), [400, 503], "{field}");
        assert!(flood.rang.is_empty());
        desk.0.run_s(40);
        desk.goes_on();
    }
}

#[test]
fn brackets_comments_and_quotes_are_not_followed_into_the_depth() {
    for deep in ["(", "<", "[", "\"", "\\", "(\"", "\"\\", "<\"", ",", ";", "=", "%", "@", ":", "/"] {
        let mut desk = Desk::new();
        let value = deep.repeat(16_000 / deep.len());
        for field in [
            "To",
            "From",
            "Contact",
            "Accept",
            "Via",
            "Route",
            "Record-Route",
            "Require",
            "Subject",
            "Reason",
        ] {
            let more = format!("{field}: {value}\n");
            let flow = udp("192.0.2.1:5060".parse().unwrap(), "203.0.113.66:5060".parse().unwrap());
            let flood = desk.flood_from(flow, 2, |number| invite(number, &more, ""));
            for session in flood.rang {
                desk.0.act(|e, now, _| e.reject(now, session, status(486), None)).unwrap();
            }
        }
        desk.0.run_s(40);
        desk.0.net.inbox(desk.0.peer);
        desk.goes_on();
    }
}

#[test]
fn a_list_of_thousands_of_extensions_is_420_and_comes_back_once() {
    let mut desk = Desk::new();
    let require = format!("Require: {}\n", vec!["x"; 8000].join(","));
    desk.flood(|number| options(number, &require)).all(420);
    desk.goes_on();
}

#[test]
fn sessions_beyond_the_most_are_486_and_transactions_beyond_the_most_503() {
    let mut desk = Desk::new();
    // As large as messages get: a body that is no description, and fields that a response repeats.
    let more = format!(
        "Record-Route: <sip:203.0.113.66;lr;x={}>\nContent-Type: application/sdp\n",
        "x".repeat(3000)
    );
    let body = "v=0".repeat(19_000);
    let flood = desk.flood(|number| invite(number, &more, &body));
    // One session is the call, and one transaction still that of its INVITE.
    assert_eq!(flood.rang.len(), SESSIONS - 1);
    let taken = TRANSACTIONS - 1;
    assert_eq!(flood.statuses, BTreeMap::from([(486, taken - flood.rang.len()), (503, TIMES - taken)]));
    let most = (SESSIONS * 4 + TRANSACTIONS) * MAX_MESSAGE;
    assert!(flood.taken < most as isize, "{} bytes, at most {most}", flood.taken);
    let again = desk.flood(|number| invite(TIMES + number, &more, &body));
    assert_eq!(again.statuses, BTreeMap::from([(503, TIMES)]));
    again.nothing_kept();
    for session in flood.rang {
        desk.0.act(|e, now, _| e.reject(now, session, status(486), None)).unwrap();
    }
    desk.0.run_s(40);
    desk.0.net.inbox(desk.0.peer);
    desk.0.events();
    let rings = desk.flood(|number| invite(2 * TIMES + number, "", "")).rang;
    assert_eq!(rings.len(), SESSIONS - 1, "there is room again");
    for session in rings {
        desk.0.act(|e, now, _| e.reject(now, session, status(486), None)).unwrap();
    }
    desk.0.run_s(40);
    desk.0.events();
    desk.goes_on();
}

/// The peer of the call itself, who may do more than strangers.
#[test]
fn requests_within_a_call_beyond_the_most_are_503_and_the_call_goes_on() {
    let mut desk = Desk::new();
    let Script { net, peer, alice, invite, .. } = &mut desk.0;
    let (flow, call_id, from) =
        (udp(net.address(*alice), net.address(*peer)), invite.call_id.clone(), invite.from.clone());
    let to = net.capture.iter().find_map(|(_, _, _, bytes)| match read(bytes) {
        voipd_sip::Message::Response(response) => response.to.tag().map(|_| response.to.to_string()),
        voipd_sip::Message::Request(_) => None,
    });
    let to = to.unwrap();
    let count = 2000;
    let flood = desk.flood_from(flow, count, |number| {
        let text = format!(
            "INFO sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKi{number}
From: {from}
To: {to}
Call-ID: {call_id}
CSeq: {} INFO
Content-Type: text/plain
Content-Length: 1000

{}",
            100 + number,
            "x".repeat(1000)
        );
        crlf(&text).into_bytes()
    });
    let refused = flood.statuses[&503];
    // Strangers' room and as much again; the INVITE's transaction has a place of it.
    assert_eq!(refused, count - (2 * TRANSACTIONS - 1), "{:?}", flood.statuses);
    assert!(flood.taken < (2 * TRANSACTIONS * 4000) as isize, "{} bytes", flood.taken);
    desk.0.run_s(40);
    desk.0.events();
    // Its numbers went on.
    desk.goes_on();
}

#[test]
fn responses_to_nothing_of_ours_are_dropped() {
    let mut desk = Desk::new();
    let answer = |number: usize| {
        let text = String::from_utf8(options(number, "")).unwrap();
        text.replace("OPTIONS sip:alice@192.0.2.1 SIP/2.0", "SIP/2.0 200 OK").into_bytes()
    };
    desk.flood(answer).silent();
    desk.goes_on();
}

#[test]
fn acks_and_cancels_of_nothing_leave_nothing() {
    let mut desk = Desk::new();
    desk.flood(|number| request("ACK", number, "sip:alice@192.0.2.1", "", "")).silent();
    desk.flood(|number| request("CANCEL", number, "sip:alice@192.0.2.1", "", "")).all(481);
    desk.flood(|number| request("BYE", number, "sip:alice@192.0.2.1", "", "")).all(481);
    desk.goes_on();
}

#[test]
fn what_cannot_be_read_leaves_nothing() {
    let mut desk = Desk::new();
    let broken = |number: usize| options(number, "Max-Forwards: many\n");
    desk.flood(broken).all(400);
    desk.flood(|number| vec![number as u8; 1000]).silent();
    desk.0.run_s(120);
    desk.goes_on();
}
