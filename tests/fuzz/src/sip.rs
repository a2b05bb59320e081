//! Parsers of SIP.

use voipd_sip::caller::Caller;
use voipd_sip::digest;
use voipd_sip::headers::name;
use voipd_sip::multipart;
use voipd_sip::reason::Reasons;
use voipd_sip::wire::{MAX_FIELDS, MAX_MESSAGE, read_datagram, write};
use voipd_sip::{Message, NameAddr, Uri};

/// What is read can be written, and reads back as the same message, whose text then stays as it is.
pub fn sip_datagram(bytes: &[u8]) {
    match read_datagram(bytes) {
        Ok(Some(message)) => {
            let written = write(&message);
            // A value may be longer when it is written in full form, and a list of values is written as one field for each;
            // the limits are for what comes in.
            if written.len() > MAX_MESSAGE || fields(&written) > MAX_FIELDS {
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

/// Header fields of a message that we have written: lines between the first and the empty one.
fn fields(message: &[u8]) -> usize {
    message.split(|byte| *byte == b'\n').take_while(|line| *line != b"\r").count().saturating_sub(1)
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
    let from = match message {
        Message::Request(request) => &request.from,
        Message::Response(response) => &response.from,
    };
    _ = Caller::of(from, headers);
    let reasons = Reasons::of(headers);
    for reason in [reasons.sip, reasons.q850].into_iter().flatten() {
        assert!(!reason.to_string().contains(['\r', '\n']), "{reason}");
    }
}

/// A Content-Type's value on the first line, and a body of several parts behind it: each part's content is a piece of
/// the body, and a part that is of several parts itself is cut open as well.
pub fn multipart(bytes: &[u8]) {
    let (content_type, body) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let content_type = String::from_utf8_lossy(content_type);
    let mut open = vec![(content_type.into_owned(), body)];
    for _ in 0..64 {
        let Some((content_type, body)) = open.pop() else { return };
        let Ok(parts) = multipart::read(&content_type, body) else { continue };
        assert!((1..=multipart::MAX_PARTS).contains(&parts.len()));
        let all: usize = parts.iter().map(|part| part.body.len()).sum();
        assert!(all <= body.len(), "more content than there is");
        for part in parts {
            assert!(part.headers.iter().count() <= multipart::MAX_FIELDS);
            open.extend(part.headers.get("Content-Type").map(|inside| (inside.to_owned(), part.body)));
        }
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
