//! The endpoint among peers that the fuzzer plays: it registers, calls, and answers calls.

use std::time::{Duration, Instant};

use voipd_sip::digest::Secret;
use voipd_sip::dtmf_info::Digit;
use voipd_sip::endpoint::{
    ContactPolicy, Credentials, EndpointConfig, Event, Flow, Identity, IdentityId, InviteOptions, Output,
    SessionId, TlsRequirement, Transport, TransportError,
};
use voipd_sip::headers::name;
use voipd_sip::message::{Request, Response, StatusCode};
use voipd_sip::wire::read_datagram;
use voipd_sip::{Endpoint, Message, NameAddr, Uri};

const MOST_SESSIONS: usize = 8;
/// Most pieces of one input that are looked at.
const MOST_STEPS: usize = 200;
const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0\r\n";

/// Pieces, each led by its length in two bytes. A piece that begins with `!` is a word of the owner's, any other a
/// datagram in which `$` words stand for what a peer would know. No panic; and when the owner has ended everything,
/// nothing is left.
pub fn sip_endpoint(bytes: &[u8]) {
    let start = Instant::now();
    let config = EndpointConfig {
        product: "voipd-fuzz".to_owned(),
        max_sessions: MOST_SESSIONS,
        max_transactions: 32,
        session_expires: Some(1800),
        network_timeout: Duration::from_secs(60),
    };
    let mut endpoint = Endpoint::new(config, [7; 32]);
    let Some(identity) = identity() else { return };
    let identity = endpoint.add_identity(identity);
    let mut host =
        Host { endpoint, identity, sent: 0, requests: Vec::new(), answer: None, sessions: Vec::new() };
    let mut now = start;
    let (mut rest, mut steps) = (bytes, 0);
    while let Some((length, tail)) = rest.split_first_chunk::<2>()
        && steps < MOST_STEPS
    {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (piece, tail) = tail.split_at(length);
        match piece.split_first() {
            Some((b'!', word)) => now += host.act(now, word),
            _ => {
                let datagram = host.fill_in(piece);
                host.endpoint.handle_datagram(now, flow(), &datagram);
            }
        }
        host.drain(now);
        now += Duration::from_millis(100);
        host.endpoint.handle_timeout(now);
        host.drain(now);
        rest = tail;
        steps += 1;
    }
    for session in std::mem::take(&mut host.sessions) {
        _ = host.endpoint.hangup(now, session);
    }
    host.drain(now);
    host.endpoint.remove_identity(now, identity);
    host.drain(now);
    // Longer than any timer of an unanswered peer.
    for _ in 0..400 {
        now += Duration::from_secs(1);
        host.endpoint.handle_timeout(now);
        host.drain(now);
    }
    assert!(host.endpoint.is_idle(), "something is left");
    assert!(host.sent < 2000 + 100 * bytes.len(), "{} messages for {} bytes", host.sent, bytes.len());
}

fn identity() -> Option<Identity> {
    Some(Identity {
        aor: NameAddr::new("sip:alice@192.0.2.1".parse().ok()?),
        registrar: Some("sip:192.0.2.1".parse().ok()?),
        outbound_proxies: Vec::new(),
        credentials: Some(Credentials {
            user: "alice".to_owned(),
            password: Secret::new("x"),
            realms: Vec::new(),
            allow_md5: true,
        }),
        expires: 60,
        instance: Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
        contact_user: None,
        gruu: true,
        push: None,
        contact: ContactPolicy::Auto,
    })
}

struct Host {
    endpoint: Endpoint,
    identity: IdentityId,
    /// How many messages.
    sent: usize,
    /// The last request of each method that went out.
    requests: Vec<Request>,
    /// The last response above 100 that went out.
    answer: Option<Response>,
    /// All there were.
    sessions: Vec<SessionId>,
}

impl Host {
    /// What the owner does with the youngest session, or without one: the time that passes.
    fn act(&mut self, now: Instant, word: &[u8]) -> Duration {
        let endpoint = &mut self.endpoint;
        match word {
            b"register" => _ = endpoint.register(now, self.identity),
            b"unregister" => _ = endpoint.unregister(now, self.identity),
            b"call" | b"hidden" => {
                let Ok(target) = "sip:bob@192.0.2.1".parse::<Uri>() else { return Duration::ZERO };
                let options = InviteOptions { anonymous: word == b"hidden", follow: true };
                if let Ok(session) = endpoint.invite(now, self.identity, target, options) {
                    self.sessions.push(session);
                }
            }
            b"second" => return Duration::from_secs(1),
            b"minute" => return Duration::from_secs(60),
            b"refused" => endpoint.handle_failed(now, flow(), TransportError::Refused),
            _ => {
                if let Some(&session) = self.sessions.last() {
                    Self::act_on(endpoint, now, session, word);
                }
            }
        }
        Duration::ZERO
    }

    fn act_on(endpoint: &mut Endpoint, now: Instant, session: SessionId, word: &[u8]) {
        match word {
            b"ring" => _ = endpoint.ring(now, session, None),
            b"early" => _ = endpoint.ring(now, session, Some(SDP.to_vec())),
            b"accept" => _ = endpoint.accept(now, session, SDP.to_vec()),
            b"reject" => _ = endpoint.reject(now, session, StatusCode::BUSY_HERE, None),
            b"offer" => _ = endpoint.offer(now, session, SDP.to_vec()),
            b"agree" => _ = endpoint.answer_offer(now, session, Ok(SDP.to_vec())),
            b"differ" => {
                _ = endpoint.answer_offer(now, session, Err(StatusCode::NOT_ACCEPTABLE_HERE));
            }
            b"probe" => _ = endpoint.probe(now, session),
            b"digit" => {
                _ = endpoint.send_digit(now, session, Digit { digit: '5', duration_ms: 100 });
            }
            b"hangup" => _ = endpoint.hangup(now, session),
            _ => {}
        }
    }

    /// Puts in what the fuzzer cannot know: for `$INVITE` and other methods the header fields that a response to our last
    /// such request has, To at the end so that a tag can follow; for `$CALL` Call-ID and To of a request in the dialog of
    /// our last INVITE, for `$ANSWER` those of one in the dialog of our last answer; `$RSEQ` and `$TARGET` of that answer.
    fn fill_in(&self, datagram: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(datagram) else { return datagram.to_vec() };
        if !text.contains('$') {
            return datagram.to_vec();
        }
        let mut text = text.to_owned();
        for request in &self.requests {
            text = text.replace(&format!("${}", request.method), &head(request));
            if request.method.as_str() == "INVITE" {
                let head = format!("Call-ID: {}\r\nTo: {}", request.call_id, request.from);
                text = text.replace("$CALL", &head);
            }
        }
        if let Some(answer) = &self.answer {
            let head = format!("Call-ID: {}\r\nTo: {}", answer.call_id, answer.to);
            let contact = answer.headers.contacts().ok().and_then(|contacts| contacts.into_iter().next());
            let target = contact.map(|contact| contact.uri.to_string()).unwrap_or_default();
            let rseq = answer.headers.get(name::RSEQ).unwrap_or_default();
            text = text.replace("$ANSWER", &head).replace("$RSEQ", rseq).replace("$TARGET", &target);
        }
        text.into_bytes()
    }

    fn drain(&mut self, now: Instant) {
        loop {
            let endpoint = &mut self.endpoint;
            match endpoint.poll_output() {
                Output::Event(Event::Incoming(incoming)) => {
                    self.sessions.push(incoming.session);
                    // Who calls so wants to be left waiting.
                    if !incoming.call_id.starts_with("wait") {
                        _ = endpoint.ring(now, incoming.session, None);
                        _ = endpoint.accept(now, incoming.session, SDP.to_vec());
                    }
                }
                Output::Event(Event::OfferWanted { session, .. }) => {
                    _ = endpoint.send_invite(now, session, SDP.to_vec());
                }
                Output::Event(_) | Output::Disconnect { .. } => {}
                Output::Transmit { bytes, .. } => self.took(&bytes),
                Output::Resolve { id, .. } => endpoint.handle_resolved(now, id, Ok(vec![flow()])),
                Output::Timeout(_) => return,
            }
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.sent += 1;
        match read_datagram(bytes) {
            Ok(Some(Message::Request(request))) => {
                self.requests.retain(|known| known.method != request.method);
                self.requests.push(request);
            }
            Ok(Some(Message::Response(response))) if response.status > StatusCode::TRYING => {
                self.answer = Some(response);
            }
            // A refusal may repeat what could not be read.
            other => {
                let readable = bytes.starts_with(b"SIP/2.0 ") || matches!(other, Ok(Some(_)));
                assert!(readable, "we sent {}", bytes.escape_ascii());
            }
        }
    }
}

fn head(request: &Request) -> String {
    let vias: String = request.via.iter().map(|via| format!("Via: {via}\r\n")).collect();
    format!(
        "{vias}From: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\nTo: {}",
        request.from, request.call_id, request.cseq, request.method, request.to
    )
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: ([192, 0, 2, 2], 5060).into(),
        remote: ([192, 0, 2, 1], 5060).into(),
        tls: TlsRequirement::default(),
    }
}
