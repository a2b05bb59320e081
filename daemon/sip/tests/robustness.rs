//! Hostile input: garbage, cut and changed messages, floods. Nothing panics, nothing grows without a bound.

use std::time::{Duration, Instant};

use crate::common::*;
use proptest::prelude::*;
use voipd_sip::Endpoint;
use voipd_sip::endpoint::{EndpointConfig, Event, Flow, InviteOptions, Output, TlsRequirement, Transport};

/// Everything that was said in a call with hold, probe and hang-up, and in one that was cancelled.
fn conversation() -> Vec<Vec<u8>> {
    let mut pair = Pair::new();
    let (caller, callee) = pair.talking();
    pair.net.with(pair.alice, |e, now| e.offer(now, caller, OFFER.to_vec())).unwrap();
    pair.net.run_ms(15);
    pair.net.with(pair.bob, |e, now| e.answer_offer(now, callee, Ok(ANSWER.to_vec()))).unwrap();
    pair.net.run_ms(100);
    pair.net.with(pair.bob, |e, now| e.probe(now, callee)).unwrap();
    pair.net.run_ms(100);
    pair.net.with(pair.alice, |e, now| e.hangup(now, caller)).unwrap();
    pair.net.run_ms(100);
    pair.net.events(pair.alice);
    pair.net.events(pair.bob);
    let (caller, _) = pair.ringing();
    pair.net.with(pair.alice, |e, now| e.hangup(now, caller)).unwrap();
    pair.net.run_ms(100);
    pair.net.capture.into_iter().map(|(_, _, _, bytes)| bytes).collect()
}

fn endpoint(max_sessions: usize, max_transactions: usize) -> Endpoint {
    let config = EndpointConfig {
        product: "voipd-test".to_owned(),
        max_sessions,
        max_transactions,
        session_expires: Some(1800),
        network_timeout: Duration::ZERO,
    };
    Endpoint::new(config, [3; 32])
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.2:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        tls: TlsRequirement::default(),
    }
}

/// Drains; the messages that went out.
fn drain(endpoint: &mut Endpoint) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    loop {
        match endpoint.poll_output() {
            Output::Transmit { bytes, .. } => sent.push(bytes),
            Output::Timeout(_) => return sent,
            Output::Resolve { .. } | Output::Disconnect { .. } | Output::Event(_) => {}
        }
    }
}

/// Takes bytes and answers every call, so that deeper states are reached too.
fn take(endpoint: &mut Endpoint, now: Instant, bytes: &[u8]) {
    endpoint.handle_datagram(now, flow(), bytes);
    loop {
        match endpoint.poll_output() {
            Output::Event(Event::Incoming(incoming)) => {
                _ = endpoint.ring(now, incoming.session, None);
                _ = endpoint.accept(now, incoming.session, ANSWER.to_vec());
            }
            Output::Event(Event::Offered { session, .. }) => {
                _ = endpoint.answer_offer(now, session, Ok(ANSWER.to_vec()));
            }
            Output::Event(_) | Output::Disconnect { .. } | Output::Transmit { .. } => {}
            Output::Resolve { id, .. } => endpoint.handle_resolved(now, id, Ok(vec![flow()])),
            Output::Timeout(_) => return,
        }
    }
}

#[test]
fn every_cut_and_every_flipped_byte_of_a_conversation_is_survived() {
    let start = Instant::now();
    for message in conversation() {
        let mut endpoint = endpoint(1000, 1000);
        for end in 0..=message.len() {
            take(&mut endpoint, start, &message[..end]);
        }
        for place in 0..message.len() {
            let mut changed = message.clone();
            changed[place] ^= 0x55;
            take(&mut endpoint, start, &changed);
        }
        endpoint.handle_timeout(start + Duration::from_secs(3600));
        drain(&mut endpoint);
    }
}

#[test]
fn a_call_goes_on_under_garbage() {
    let mut pair = Pair::new();
    let (caller, _) = pair.talking();
    let mallory = pair.net.raw("203.0.113.66:5060");
    let garbage: [&[u8]; 6] = [
        b"",
        b"\r\n\r\n",
        b"\0\xff\xfe garbage",
        b"INVITE",
        b"SIP/2.0 200 OK\r\n\r\n",
        b"BYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: x\r\n\r\n",
    ];
    for bytes in garbage {
        pair.net.send(mallory, pair.bob, bytes);
        pair.net.send(mallory, pair.alice, &bytes.repeat(2000));
    }
    pair.net.run_ms(100);
    assert!(pair.net.events(pair.bob).is_empty() && pair.net.events(pair.alice).is_empty());
    pair.net.with(pair.alice, |e, now| e.probe(now, caller)).unwrap();
    pair.net.run_ms(100);
    assert!(matches!(pair.net.events(pair.alice)[..], [Event::Probed { alive: true, .. }]));
}

#[test]
fn a_request_that_cannot_be_read_is_told_so_where_it_came_from() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw("192.0.2.9:40000");
    let text = "OPTIONS sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bKx;rport
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: x
CSeq: 1 OPTIONS
Max-Forwards: many
Content-Length: 0

";
    net.say(peer, alice, text);
    net.run_ms(50);
    let responses = net.responses(peer);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].status.get(), 400);
    assert_eq!(responses[0].via[0].params.value("rport"), Some("40000"));
    assert!(responses[0].to.tag().is_some());
}

fn request(name: &str, number: u32, extra: &str) -> Vec<u8> {
    let text = format!(
        "{name} sip:bob@192.0.2.2 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKflood{number}
From: <sip:flood@192.0.2.1>;tag=f{number}
To: <sip:bob@192.0.2.2>
Call-ID: flood-{number}
CSeq: 1 {name}
{extra}Content-Length: 0

"
    );
    crlf(&text).into_bytes()
}

const CONTACT: &str = "Contact: <sip:flood@192.0.2.1>\n";

#[test]
fn a_flood_of_invites_meets_full_tables() {
    let now = Instant::now();
    let mut endpoint = endpoint(5, 50);
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..10_000 {
        endpoint.handle_datagram(now, flow(), &request("INVITE", number, CONTACT));
        for bytes in drain(&mut endpoint) {
            *codes.entry(first_line(&bytes)[8..11].to_owned()).or_default() += 1;
        }
    }
    let expected = [("486".to_owned(), 45), ("503".to_owned(), 9_950)];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), expected, "five ring, the table holds fifty");
    // When nobody has acknowledged for 64*T1, there is room again.
    let mut later = now;
    while let Output::Timeout(Some(at)) = endpoint.poll_output()
        && at <= now + Duration::from_secs(33)
    {
        later = at;
        endpoint.handle_timeout(at);
        drain(&mut endpoint);
    }
    endpoint.handle_datagram(later, flow(), &request("INVITE", 20_000, CONTACT));
    assert_eq!(first_line(&drain(&mut endpoint)[0]), "SIP/2.0 486 Busy Here");
}

#[test]
fn requests_without_a_call_leave_nothing_behind() {
    let now = Instant::now();
    let mut endpoint = endpoint(5, 50);
    for number in 0..1000 {
        for name in ["OPTIONS", "BYE", "MESSAGE", "REGISTER", "CANCEL", "ACK", "NOTIFY", "WHATEVER"] {
            endpoint.handle_datagram(now, flow(), &request(name, number, ""));
        }
    }
    let answers = drain(&mut endpoint);
    assert_eq!(answers.len(), 7000, "all but ACK");
    assert!(answers.iter().all(|bytes| !first_line(bytes).contains("503")));
    assert!(matches!(endpoint.poll_output(), Output::Timeout(None)), "no timer runs");
    assert!(endpoint.is_idle());
    // The same request gets the same answer.
    endpoint.handle_datagram(now, flow(), &request("BYE", 1, ""));
    endpoint.handle_datagram(now, flow(), &request("BYE", 1, ""));
    let answers = drain(&mut endpoint);
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_call_can_end_while_strangers_fill_the_table() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let bob = net.agent_with("192.0.2.2:5060", 5, 50);
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
    let session = net
        .with(alice, |e, now| {
            e.invite(now, id, "sip:bob@192.0.2.2".parse().unwrap(), InviteOptions::default())
        })
        .unwrap();
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(20);
    let callee = incoming(&net.events(bob));
    net.with(bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    net.run_ms(50);
    let mallory = net.raw("203.0.113.66:5060");
    for number in 0..200 {
        net.send(mallory, bob, &request("INVITE", number, CONTACT));
    }
    net.run_ms(50);
    net.events(bob);
    net.with(alice, |e, now| e.hangup(now, session)).unwrap();
    net.run_ms(50);
    end_of(&net.events(bob), callee);
}

#[test]
fn one_seed_one_conversation() {
    assert_eq!(conversation(), conversation());
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut endpoint = endpoint(5, 50);
        take(&mut endpoint, Instant::now(), &bytes);
    }

    /// Messages of a conversation in any order, some doubled, some with a header field's value exchanged.
    #[test]
    fn a_shuffled_conversation_is_survived(
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>(), 0_u64..4000), 0..60)
    ) {
        let messages = conversation();
        let mut endpoint = endpoint(5, 50);
        let mut now = Instant::now();
        for (message, line, swap, wait) in picks {
            let mut bytes = message.get(&messages).clone();
            if swap {
                let other = line.get(&messages);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let donor = String::from_utf8_lossy(other).into_owned();
                let names = ["Via", "From", "To", "Call-ID", "CSeq", "Contact"];
                let name = names[line.index(names.len())];
                let find = |text: &str| text.lines().find(|l| l.starts_with(&format!("{name}:"))).map(str::to_owned);
                if let (Some(ours), Some(theirs)) = (find(&text), find(&donor)) {
                    bytes = text.replacen(&ours, &theirs, 1).into_bytes();
                }
            }
            take(&mut endpoint, now, &bytes);
            now += Duration::from_millis(wait);
            endpoint.handle_timeout(now);
        }
        // Whatever happened, it comes to an end.
        let end = now + Duration::from_secs(200);
        while let Output::Timeout(Some(at)) = { drain(&mut endpoint); endpoint.poll_output() } && at <= end {
            endpoint.handle_timeout(at);
        }
    }
}
