//! Parsers of SIP, and the endpoint that acts on what they have read.

use std::time::{Duration, Instant};

use voipd_sip::digest::{self, Secret};
use voipd_sip::endpoint::{
    Credentials, EndpointConfig, Event, Flow, Identity, Output, TlsRequirement, Transport,
};
use voipd_sip::headers::name;
use voipd_sip::wire::{MAX_MESSAGE, read_datagram, write};
use voipd_sip::{Endpoint, Message, NameAddr, Uri};

/// What is read can be written, and reads back as the same message, whose text then stays as it is.
pub fn sip_datagram(bytes: &[u8]) {
    match read_datagram(bytes) {
        Ok(Some(message)) => {
            let written = write(&message);
            // A value may be longer when it is written in full form; the limits are for what comes in.
            if written.len() > MAX_MESSAGE {
                return;
            }
            match read_datagram(&written) {
                Ok(Some(again)) => assert_eq!(write(&again), written, "the second reading differs"),
                other => panic!("what was written does not read: {other:?}\n{}", written.escape_ascii()),
            }
            touch(&message);
        }
        Ok(None) => {}
        Err(error) => {
            assert!(!error.what.contains(['\r', '\n']), "a line of the peer's in the log: {}", error.what);
            if let Some(reply) = error.reply {
                let written = write(&Message::Response(*reply));
                // It repeats what cannot be read, but adds little: nobody uses us to send more than he sent.
                assert!(
                    written.len() <= bytes.len() + 500,
                    "{} bytes back for {}",
                    written.len(),
                    bytes.len()
                );
            }
        }
    }
}

/// All that is parsed only when somebody asks.
fn touch(message: &Message) {
    let headers = match message {
        Message::Request(request) => &request.headers,
        Message::Response(response) => &response.headers,
    };
    _ = headers.contacts();
    for list in [name::ROUTE, name::RECORD_ROUTE] {
        _ = headers.route_set(list);
    }
    _ = headers.number("Expires");
    _ = headers.content_type();
    for list in [name::WWW_AUTHENTICATE, name::PROXY_AUTHENTICATE] {
        _ = digest::challenges(headers, list);
    }
}

/// A URI, and the same text as a name-addr: what reads is written and reads back equal.
pub fn uri(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(uri) = text.parse::<Uri>() {
        let written = uri.to_string();
        assert_eq!(written.parse::<Uri>().as_ref(), Ok(&uri), "{written}");
        if let Uri::Sip(uri) = &uri {
            assert!(uri.equivalent(uri), "{written}: not equivalent to itself");
        }
    }
    // The writer makes spaces of what would end a line.
    if let Ok(address) = text.replace(['\r', '\n', '\0'], "").parse::<NameAddr>() {
        let written = address.to_string();
        assert!(!written.contains(['\r', '\n']), "{written:?}");
        assert_eq!(written.parse::<NameAddr>().as_ref(), Ok(&address), "{written}");
    }
}

fn message_with(field: &str, value: &[u8], via: &[u8]) -> Vec<u8> {
    let start: &[u8] = b"SIP/2.0 401 No\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: c\r\n\
                         CSeq: 1 REGISTER\r\nContent-Length: 0\r\n";
    [start, b"Via: ", via, b"\r\n", field.as_bytes(), b": ", value, b"\r\n\r\n"].concat()
}

/// The value of a Via.
pub fn via(bytes: &[u8]) {
    sip_datagram(&message_with("X-Nothing", b"1", bytes));
}

/// The value of WWW-Authenticate.
pub fn challenges(bytes: &[u8]) {
    let message = message_with(name::WWW_AUTHENTICATE, bytes, b"SIP/2.0/UDP h;branch=z9hG4bK1");
    if let Ok(Some(Message::Response(response))) = read_datagram(&message) {
        let read = digest::challenges(&response.headers, name::WWW_AUTHENTICATE);
        let more = read.is_ok_and(|offer| offer.challenges.len() > bytes.len());
        assert!(!more, "more challenges than the bytes hold");
    }
    sip_datagram(&message);
}

/// Datagrams, each led by its length in two bytes, to an endpoint that registers, calls, and answers every call: no
/// panic, and in the end nothing is left of it.
pub fn sip_endpoint(bytes: &[u8]) {
    const MOST_SESSIONS: usize = 8;
    let start = Instant::now();
    let config = EndpointConfig {
        product: "voipd-fuzz".to_owned(),
        max_sessions: MOST_SESSIONS,
        max_transactions: 32,
        session_expires: Some(1800),
    };
    let mut host = Host { endpoint: Endpoint::new(config, [7; 32]), sent: 0 };
    let Ok(registrar) = "sip:192.0.2.1".parse() else { return };
    let (Ok(aor), Ok(target)) = ("sip:alice@192.0.2.1".parse(), "sip:bob@192.0.2.1".parse()) else { return };
    let identity = host.endpoint.add_identity(Identity {
        aor: NameAddr::new(aor),
        registrar: Some(registrar),
        outbound_proxy: None,
        credentials: Some(Credentials {
            user: "alice".to_owned(),
            password: Secret::new("x"),
            realms: Vec::new(),
            allow_md5: true,
        }),
        expires: 60,
        instance: Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
        gruu: true,
        push: None,
    });
    _ = host.endpoint.register(start, identity);
    host.drain(start);
    _ = host.endpoint.invite(start, identity, target);
    host.drain(start);
    let (mut rest, mut now) = (bytes, start);
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (datagram, tail) = tail.split_at(length);
        host.endpoint.handle_datagram(now, flow(), datagram);
        host.drain(now);
        now += Duration::from_millis(100);
        host.endpoint.handle_timeout(now);
        host.drain(now);
        rest = tail;
    }
    host.endpoint.remove_identity(now, identity);
    host.drain(now);
    // Longer than any timer of an unanswered peer.
    for _ in 0..400 {
        now += Duration::from_secs(1);
        host.endpoint.handle_timeout(now);
        host.drain(now);
    }
    assert!(host.sent < 2000 + 100 * bytes.len(), "{} messages for {} bytes", host.sent, bytes.len());
}

struct Host {
    endpoint: Endpoint,
    sent: usize,
}

impl Host {
    fn drain(&mut self, now: Instant) {
        const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
                             m=audio 4000 RTP/AVP 0\r\n";
        loop {
            let endpoint = &mut self.endpoint;
            match endpoint.poll_output() {
                Output::Event(Event::Incoming(incoming)) => {
                    _ = endpoint.ring(now, incoming.session, None);
                    _ = endpoint.accept(now, incoming.session, SDP.to_vec());
                }
                Output::Event(Event::OfferWanted { session, .. }) => {
                    _ = endpoint.send_invite(now, session, SDP.to_vec());
                }
                Output::Event(Event::Offered { session, .. }) => {
                    _ = endpoint.answer_offer(now, session, Ok(SDP.to_vec()));
                }
                Output::Event(Event::Answered { session, .. }) => {
                    _ = endpoint.offer(now, session, SDP.to_vec());
                }
                Output::Event(_) => {}
                Output::Transmit { bytes, .. } => {
                    self.sent += 1;
                    // A refusal may repeat what could not be read.
                    let readable =
                        bytes.starts_with(b"SIP/2.0 ") || matches!(read_datagram(&bytes), Ok(Some(_)));
                    assert!(readable, "we sent {}", bytes.escape_ascii());
                }
                Output::Resolve { id, .. } => endpoint.handle_resolved(now, id, Ok(vec![flow()])),
                Output::Timeout(_) => return,
            }
        }
    }
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: ([192, 0, 2, 2], 5060).into(),
        remote: ([192, 0, 2, 1], 5060).into(),
        tls: TlsRequirement::default(),
    }
}
