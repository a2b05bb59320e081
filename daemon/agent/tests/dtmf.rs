//! Digits: one after the other, with pauses, to peers that take them.

use std::time::Duration;

use crate::common::peer::{Called, Peer};
use crate::common::{HostId, Pair, World, crlf, direct, status};
use voipd_agent::view::CallId;
use voipd_agent::{AccountSettings, AgentError, DtmfMethod, Output};
use voipd_audio::plan::EngineEvent;
use voipd_sip::message::{Method, Request};

fn send(world: &mut World, host: HostId, call: CallId, digits: &str) -> Result<(), AgentError> {
    world.act(host, |agent, now| agent.send_dtmf(now, call, digits))
}

/// Digits that the engine was asked to send since the last time.
fn asked(world: &mut World, host: HostId) -> String {
    let outputs = world.outputs(host);
    let digits = outputs.iter().filter_map(|output| match output {
        Output::SendDtmf { digit, duration_ms: 120, .. } => Some(*digit),
        _ => None,
    });
    digits.collect()
}

#[test]
fn digits_arrive_in_order_and_commas_pause() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    send(world, pair.alice, out, "12,*d").unwrap();
    assert_eq!(asked(world, pair.alice), "1", "one at a time");
    world.run_ms(175);
    assert_eq!(asked(world, pair.alice), "2");
    world.run_ms(180);
    assert_eq!(world.digits_heard(pair.bob, inb), "12");
    // The pause.
    world.run_ms(1900);
    assert_eq!(asked(world, pair.alice), "");
    world.run_s(1);
    assert_eq!(world.digits_heard(pair.bob, inb), "12*D");
    // Later digits come behind those that wait.
    send(world, pair.alice, out, "3,").unwrap();
    send(world, pair.alice, out, "4").unwrap();
    world.run_s(3);
    assert_eq!(world.digits_heard(pair.bob, inb), "12*D34");
    assert_eq!(world.digits_heard(pair.alice, out), "");
}

#[test]
fn what_cannot_be_sent_is_refused_with_a_reason() {
    let mut pair = Pair::new();
    let (out, inb) = pair.ringing();
    let world = &mut pair.world;
    let early = send(world, pair.alice, out, "1").unwrap_err();
    assert_eq!(early.to_string(), "sending digits is not possible: the call is ringing");
    world.accept(pair.bob, inb);
    world.run_ms(100);
    assert_eq!(send(world, pair.alice, out, "12x"), Err(AgentError::BadDigit('X')));
    assert_eq!(send(world, pair.alice, out, &"1".repeat(129)), Err(AgentError::TooManyDigits(128)));
    assert_eq!(asked(world, pair.alice), "", "all or nothing");
    assert_eq!(send(world, pair.alice, out, &"1".repeat(128)), Ok(()));
    // One is under way.
    assert_eq!(send(world, pair.alice, out, "12"), Err(AgentError::TooManyDigits(128)));
}

#[test]
fn digits_that_wait_are_forgotten_on_hold() {
    let mut pair = Pair::new();
    let (out, inb) = pair.talking();
    let world = &mut pair.world;
    send(world, pair.alice, out, "1,2").unwrap();
    world.run_ms(500);
    world.hold(pair.alice, out);
    world.run_ms(100);
    let held = send(world, pair.alice, out, "3").unwrap_err();
    assert_eq!(held.to_string(), "sending digits is not possible: the call is held");
    let held = send(world, pair.bob, inb, "3").unwrap_err();
    assert_eq!(held.to_string(), "sending digits is not possible: the call is held");
    world.resume(pair.alice, out);
    world.run_s(5);
    assert_eq!(world.digits_heard(pair.bob, inb), "1");
    send(world, pair.alice, out, "4").unwrap();
    world.run_s(1);
    assert_eq!(world.digits_heard(pair.bob, inb), "14");
}

#[test]
fn a_lost_report_of_the_engine_does_not_stop_the_queue() {
    let Called { mut world, alice, raw, call, invite, .. } = Called::new();
    world.speakers.insert("192.0.2.9:4000".parse().unwrap());
    let answer = crate::common::peer::sdp("192.0.2.9", 4000, "sendrecv");
    Peer::called(raw, alice, &invite).answer(&mut world, &invite, 200, &answer);
    world.run_ms(50);
    world.deaf_engine = true;
    send(&mut world, alice, call, "12").unwrap();
    assert_eq!(asked(&mut world, alice), "1");
    world.run_s(1);
    assert_eq!(asked(&mut world, alice), "");
    world.run(Duration::from_millis(1500));
    assert_eq!(asked(&mut world, alice), "2");
}

/// A call to a scripted peer that takes no telephone events; its answer has these fields besides.
fn plain_call(dtmf: DtmfMethod, allow: &str) -> (World, HostId, HostId, CallId) {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    world.account(alice, AccountSettings { dtmf, ..direct() });
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let mut answer = invite.response(status(200));
    answer.to.params.set("tag", Some("peer"));
    answer.headers.push("Contact", "<sip:peer@192.0.2.9>");
    answer.headers.push("Content-Type", "application/sdp");
    if !allow.is_empty() {
        answer.headers.push("Allow", allow);
    }
    let plain = "v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=audio 4000 RTP/AVP 0\n";
    answer.body = crlf(plain).into_bytes();
    world.respond(raw, alice, &answer);
    world.run_ms(50);
    world.requests(raw);
    (world, alice, raw, call)
}

/// The bodies of INFO requests since the last time, each answered with `code`.
fn infos(world: &mut World, raw: HostId, alice: HostId, code: u16) -> Vec<String> {
    let requests = world.requests(raw).into_iter().filter(|request| request.method == Method::Info);
    let requests: Vec<Request> = requests.collect();
    for request in &requests {
        assert_eq!(request.headers.get("Content-Type"), Some("application/dtmf-relay"));
        world.respond(raw, alice, &request.response(status(code)));
    }
    requests.into_iter().map(|request| String::from_utf8(request.body).unwrap()).collect()
}

#[test]
fn a_peer_without_telephone_event_gets_none_where_the_account_sends_nothing_else() {
    let (mut world, alice, _, call) = plain_call(DtmfMethod::Rtp, "");
    assert_eq!(send(&mut world, alice, call, "1"), Err(AgentError::NoDtmf));
    let (mut world, alice, _, call) = plain_call(DtmfMethod::Auto, "INVITE, ACK, BYE, CANCEL");
    assert_eq!(send(&mut world, alice, call, "1"), Err(AgentError::NoDtmf), "and it takes no INFO");
}

#[test]
fn a_peer_without_telephone_event_gets_its_digits_in_info() {
    let (mut world, alice, raw, call) = plain_call(DtmfMethod::Auto, "INVITE, ACK, BYE, CANCEL, INFO");
    send(&mut world, alice, call, "1#,2").unwrap();
    world.run_ms(20);
    assert_eq!(infos(&mut world, raw, alice, 200), ["Signal=1\r\nDuration=120\r\n"]);
    world.run_ms(100);
    assert!(infos(&mut world, raw, alice, 200).is_empty(), "the first one would sound still");
    world.run_ms(60);
    assert_eq!(infos(&mut world, raw, alice, 200), ["Signal=#\r\nDuration=120\r\n"]);
    world.run_ms(2000);
    assert!(infos(&mut world, raw, alice, 200).is_empty(), "the pause");
    world.run_ms(300);
    assert_eq!(infos(&mut world, raw, alice, 200), ["Signal=2\r\nDuration=120\r\n"]);
    world.run_s(1);
    assert_eq!(asked(&mut world, alice), "", "and none as telephone events");
}

#[test]
fn an_account_may_send_digits_in_info_only() {
    let mut pair = Pair::new();
    let carol = pair.world.agent("192.0.2.3:5060");
    pair.world.account(carol, AccountSettings { dtmf: DtmfMethod::Info, ..direct() });
    let out = pair.world.dial(carol, "sip:bob@192.0.2.2");
    pair.world.run_ms(100);
    let inb = pair.world.live_call(pair.bob);
    pair.world.accept(pair.bob, inb);
    pair.world.run_ms(100);
    send(&mut pair.world, carol, out, "12a*").unwrap();
    pair.world.run_s(2);
    assert_eq!(pair.world.digits_heard(pair.bob, inb), "12A*", "told as any other digit");
    assert_eq!((asked(&mut pair.world, carol).as_str(), pair.world.count_said(carol, "INFO")), ("", 4));
}

#[test]
fn a_digit_that_the_peer_does_not_take_ends_the_row_and_not_the_call() {
    let (mut world, alice, raw, call) = plain_call(DtmfMethod::Info, "");
    send(&mut world, alice, call, "123").unwrap();
    world.run_ms(20);
    assert_eq!(infos(&mut world, raw, alice, 415).len(), 1);
    world.run_s(3);
    assert!(infos(&mut world, raw, alice, 200).is_empty());
    assert_eq!(world.state(alice, call), voipd_agent::view::CallState::Active);
    assert!(
        world.log(alice).iter().any(|line| line.contains("did not take a digit")),
        "{:?}",
        world.log(alice)
    );
    send(&mut world, alice, call, "4").unwrap();
    world.run_ms(20);
    assert_eq!(infos(&mut world, raw, alice, 200), ["Signal=4\r\nDuration=120\r\n"]);
}

#[test]
fn digits_after_the_end_are_nobodys() {
    let mut pair = Pair::new();
    let (out, _) = pair.talking();
    let world = &mut pair.world;
    let port = world.stream_port(pair.alice, out);
    send(world, pair.alice, out, "1,2").unwrap();
    world.hang_up(pair.alice, out);
    world.outputs(pair.alice);
    world.engine_says(pair.alice, EngineEvent::DtmfReceived { port, digit: '1', duration_ms: 100 });
    world.engine_says(pair.alice, EngineEvent::DtmfSent { port, digit: '1' });
    world.run_s(5);
    assert_eq!(asked(world, pair.alice), "");
    assert_eq!(world.digits_heard(pair.alice, out), "");
}
