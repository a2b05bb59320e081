//! Who calls (RFC 3323, RFC 3325, RFC 5806), and why calls are given up (RFC 3326): what front ends see of it.

use crate::common::{HostId, World, crlf, sip};
use voipd_agent::view::{CallView, Reason};
use voipd_agent::{DialOptions, SoundChoice};

/// Alice, registered at the server of example.org, and what came of an INVITE from `source` with these fields.
fn called(source: &str, fields: &str) -> (World, HostId, HostId, String) {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let registrar = world.registrar("192.0.2.100:5060", "alice", "secret");
    world.name("example.org", &["192.0.2.100:5060"]);
    let mut account = sip("home", "sip:alice@example.org", "secret");
    account.allow_from = vec!["203.0.113.0/24".parse().unwrap()];
    world.account(alice, account);
    world.run_ms(200);
    let contact = world.registrar_at(registrar).binding.clone().unwrap();
    let peer = world.raw(source);
    let invite = format!(
        "INVITE {contact} SIP/2.0
Via: SIP/2.0/UDP {source};branch=z9hG4bKcaller
Max-Forwards: 70
From: \"Bob\" <sip:bob@example.net>;tag=bob
To: <sip:alice@example.org>
Call-ID: callers
CSeq: 1 INVITE
Contact: <sip:bob@{source}>
{fields}Content-Length: 0

"
    );
    world.say(peer, alice, &invite);
    world.run_ms(50);
    (world, alice, peer, crlf(&invite))
}

fn view(world: &World, alice: HostId) -> CallView {
    world.view(alice, world.live_call(alice))
}

const SERVER: &str = "192.0.2.100:5070";
const STRANGER: &str = "203.0.113.7:5060";
const ASSERTED: &str = "P-Asserted-Identity: \"Robert\" <sip:+4930123@example.org>, <tel:+4930123>\n";

#[test]
fn the_own_server_s_word_stands_beside_the_caller_s_own() {
    let (world, alice, ..) = called(SERVER, ASSERTED);
    let view = view(&world, alice);
    assert_eq!((view.peer.as_str(), view.peer_name.as_str()), ("sip:bob@example.net", "Bob"));
    assert_eq!((view.asserted.as_str(), view.asserted_name.as_str()), ("sip:+4930123@example.org", "Robert"));
    assert!(!view.anonymous);
}

#[test]
fn a_stranger_s_word_about_itself_is_not_believed() {
    let (world, alice, ..) = called(STRANGER, ASSERTED);
    let view = view(&world, alice);
    assert_eq!((view.asserted.as_str(), view.asserted_name.as_str()), ("", ""));
}

#[test]
fn a_caller_that_wants_to_stay_unknown_does() {
    let (world, alice, ..) = called(SERVER, &format!("Privacy: id\n{ASSERTED}"));
    let view = view(&world, alice);
    assert_eq!((view.anonymous, view.asserted.as_str()), (true, ""));
}

#[test]
fn the_way_of_a_diverted_call_is_shown() {
    let fields =
        "Diversion: <sip:office@example.org>;reason=no-answer, <tel:+4930999>;reason=unconditional\n";
    let (world, alice, ..) = called(SERVER, fields);
    let view = view(&world, alice);
    assert_eq!(view.diversions, ["sip:office@example.org", "tel:+4930999"]);
    assert_eq!(view.diversion_reason, "no-answer");
}

/// How a call ends that is cancelled with this Reason.
fn cancelled(reason: &str) -> (Reason, u16, u16) {
    let (mut world, alice, peer, invite) = called(SERVER, "");
    let call = world.live_call(alice);
    let fields = "\r\nContact: <sip:bob@192.0.2.100:5070>\r\n";
    assert!(invite.contains(fields));
    let cancel = invite.replace("INVITE", "CANCEL").replace(fields, &format!("\r\n{reason}"));
    world.send(peer, alice, cancel.as_bytes());
    world.run_ms(50);
    let (end, status) = world.end(alice, call);
    (end, status, world.view(alice, call).q850)
}

#[test]
fn a_call_that_somebody_else_answered_is_not_missed() {
    let elsewhere = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
    assert_eq!(cancelled(elsewhere), (Reason::AnsweredElsewhere, 200, 0));
    assert_eq!(cancelled("Reason: Q.850;cause=26\r\n"), (Reason::AnsweredElsewhere, 0, 26));
}

#[test]
fn a_caller_that_gives_up_is_missed() {
    assert_eq!(cancelled(""), (Reason::Cancelled, 0, 0));
    assert_eq!(cancelled("Reason: SIP;cause=487;text=\"ORIGINATOR_CANCEL\"\r\n").0, Reason::Cancelled);
    assert_eq!(cancelled("Reason: Q.850;cause=16\r\n"), (Reason::Cancelled, 0, 16));
}

/// How a call to a gateway ends that refuses it so.
fn refused(status: &str, reason: &str) -> Reason {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let gateway = world.raw("192.0.2.9:5060");
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(gateway).remove(0);
    let mut response = invite.response(crate::common::status(status.parse().unwrap()));
    response.to.params.set("tag", Some("x"));
    response.headers.push("Reason", reason);
    world.respond(gateway, alice, &response);
    world.run_ms(50);
    world.end(alice, call).0
}

#[test]
fn the_telephone_network_s_cause_says_what_a_status_does_not() {
    for (status, cause, reason) in [
        ("500", "Q.850;cause=1", Reason::NotFound),
        ("503", "Q.850;cause=17;text=\"User busy\"", Reason::Busy),
        ("480", "Q.850;cause=17", Reason::Busy),
        ("480", "Q.850;cause=19", Reason::NoAnswer),
        ("500", "Q.850;cause=20", Reason::NoAnswer),
        ("403", "Q.850;cause=21", Reason::Declined),
        ("503", "Q.850;cause=34", Reason::Unreachable),
        ("486", "Q.850;cause=1", Reason::Busy),
        ("500", "Q.850;cause=16", Reason::Rejected),
        ("500", "nonsense", Reason::Rejected),
    ] {
        assert_eq!(refused(status, cause), reason, "{status} {cause}");
    }
}

#[test]
fn an_anonymous_call_says_so_here_and_nothing_there() {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let peer = world.raw("192.0.2.9:5060");
    let options = DialOptions { sound: SoundChoice::default(), codecs: None, anonymous: true, follow: false };
    let call = world.dial_with(alice, "sip:peer@192.0.2.9", options);
    world.run_ms(50);
    assert!(world.view(alice, call).anonymous);
    let invite = world.requests(peer).remove(0);
    assert_eq!(invite.from.uri.to_string(), "sip:anonymous@anonymous.invalid");
    assert_eq!(invite.headers.get("Privacy"), Some("id"));
}
