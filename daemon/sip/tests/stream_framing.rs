//! Streams are cut into messages (RFC 3261 sections 7.5 and 18.3, RFC 5626 section 3.5.1), within hard limits.

use proptest::collection::vec;
use proptest::prelude::*;
use voipd_sip::wire::stream::{Frame, MAX_HEAD, StreamError, StreamReader};
use voipd_sip::wire::{MAX_FIELD, MAX_FIELDS, MAX_MESSAGE, MAX_START_LINE, read_datagram, write};
use voipd_sip::{Message, Response};

const HEAD: &str = "MESSAGE sip:bob@192.0.2.2 SIP/2.0\r\n\
    Via: SIP/2.0/TCP client.example.org:5070;rport;branch=z9hG4bK1\r\n\
    From: <sip:alice@example.org>;tag=1\r\n\
    To: <sip:bob@example.org>\r\n\
    Call-ID: c1\r\n\
    CSeq: 7 MESSAGE\r\n\
    Max-Forwards: 70\r\n";

fn reader() -> StreamReader {
    StreamReader::new("192.0.2.9:40000".parse().unwrap())
}

/// What one push gives.
fn frames(bytes: &[u8]) -> Result<Vec<Frame>, StreamError> {
    let mut reader = reader();
    reader.push(bytes);
    drain(&mut reader)
}

fn drain(reader: &mut StreamReader) -> Result<Vec<Frame>, StreamError> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn message(more: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{more}\r\n{body}").into_bytes()
}

fn response(error: &StreamError) -> Response {
    match read_datagram(error.reply.as_deref().expect("a reply")) {
        Ok(Some(Message::Response(response))) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn content_length_ends_a_message_and_the_next_begins_behind_it() {
    let one = message("Content-Length: 4\r\n", "\r\n\r\n");
    let two = message("l:\r\n 0003\r\n", "abc");
    let three = message("Content-Length : 0\r\n", "");
    let bytes = [one.clone(), two.clone(), three.clone()].concat();
    assert_eq!(frames(&bytes), Ok(vec![Frame::Message(one), Frame::Message(two), Frame::Message(three)]));
}

#[test]
fn line_ends_come_between_messages_as_pings_and_pongs() {
    use Frame::{Ping, Pong};
    assert_eq!(frames(b"\r\n"), Ok(vec![Pong]));
    assert_eq!(frames(b"\r\n\r\n"), Ok(vec![Pong, Ping]));
    assert_eq!(frames(b"\r\n\r\n\r\n\r\n"), Ok(vec![Pong, Ping, Pong, Ping]));
    let one = message("Content-Length: 0\r\n", "");
    let bytes = [b"\r\n", &one[..], b"\r\n", &one[..], b"\r\n\r\n"].concat();
    let expected = vec![Pong, Frame::Message(one.clone()), Pong, Frame::Message(one), Pong, Ping];
    assert_eq!(frames(&bytes), Ok(expected));
}

#[test]
fn answers_that_come_one_by_one_are_no_pings() {
    let mut reader = reader();
    for _ in 0..3 {
        reader.push(b"\r\n");
        assert_eq!(reader.next(), Ok(Some(Frame::Pong)));
        assert_eq!(reader.next(), Ok(None));
        reader.pause();
    }
}

#[test]
fn lines_may_lack_their_cr_as_in_datagrams() {
    let bytes = String::from_utf8(message("Content-Length: 2\r\n", "")).unwrap().replace('\r', "") + "ab";
    assert_eq!(frames(bytes.as_bytes()), Ok(vec![Frame::Message(bytes.clone().into_bytes())]));
    assert!(
        matches!(read_datagram(bytes.as_bytes()), Ok(Some(Message::Request(request))) if request.body == b"ab")
    );
}

#[test]
fn a_stream_message_needs_one_readable_content_length() {
    for bad in ["", "x", "-1", "+4", "4 4", "4,4", "0x4", "18446744073709551620", "4294967296"] {
        let error = frames(&message(&format!("Content-Length: {bad}\r\n"), "body")).expect_err(bad);
        let response = response(&error);
        assert_eq!(response.status.get(), 400, "{bad}");
        assert_eq!(response.reason, "Content-Length: it is no length");
        assert_eq!(error.what, response.reason);
    }
    let missing = response(&frames(&message("", "body")).unwrap_err());
    assert_eq!((missing.status.get(), &*missing.reason), (400, "Content-Length: a stream needs it"));
    let twice = frames(&message("l: 4\r\nContent-Length: 4\r\n", "body")).unwrap_err();
    assert_eq!(response(&twice).reason, "Content-Length: it stands more than once");
}

#[test]
fn the_reply_to_a_broken_stream_finds_its_way() {
    let response = response(&frames(&message("", "")).unwrap_err());
    let via = &response.via[0];
    // RFC 3261 section 18.2.1, RFC 3581 section 4.
    assert_eq!((via.params.value("received"), via.params.value("rport")), (Some("192.0.2.9"), Some("40000")));
    assert!(response.to.tag().is_some_and(|tag| tag.len() >= 8));
    assert_eq!((&*response.call_id, response.cseq.seq), ("c1", 7));
}

#[test]
fn nothing_is_read_behind_an_error() {
    let mut reader = reader();
    reader.push(&message("Content-Length: 0\r\n", ""));
    reader.push(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(reader.next(), Ok(Some(Frame::Message(_)))));
    assert!(reader.next().is_err());
    reader.push(&message("Content-Length: 0\r\n", ""));
    assert_eq!((reader.next(), reader.is_half_sent()), (Ok(None), false));
}

#[test]
fn what_is_no_sip_is_seen_by_its_first_line() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\x00\x01\n", b"hello\n", b" \n"] {
        let error = frames(bytes).expect_err("no SIP");
        assert_eq!((&*error.what, error.reply), ("this is no SIP message", None));
    }
    let endless = vec![b'x'; MAX_START_LINE + 2];
    assert_eq!(frames(&endless).unwrap_err().what, "the start line is too long");
}

#[test]
fn a_malformed_field_is_answered_and_the_connection_goes_on() {
    let odd = message("What is this\r\nContent-Length: 0\r\n", "");
    let next = message("Content-Length: 0\r\n", "");
    let bytes = [odd.clone(), next.clone()].concat();
    assert_eq!(frames(&bytes), Ok(vec![Frame::Message(odd.clone()), Frame::Message(next)]));
    assert_eq!(read_datagram(&odd).unwrap_err().reply.unwrap().status.get(), 400);
}

#[test]
fn sizes_are_limited() {
    let fields = frames(&message(&"X: 1\r\n".repeat(MAX_FIELDS), "")).unwrap_err();
    assert_eq!((response(&fields).status.get(), &*fields.what), (513, "there are too many header fields"));
    // Two fields of the longest kind are more than a head may have.
    let long = format!("X: {}\r\n", "x".repeat(MAX_FIELD - 3));
    let head = frames(&message(&long.repeat(2), "")).unwrap_err();
    assert_eq!((response(&head).status.get(), &*head.what), (513, "the header fields are too long"));
    let body = MAX_MESSAGE - message("Content-Length: 65535\r\n", "").len();
    let fits = message(&format!("Content-Length: {body:05}\r\n"), &"b".repeat(body));
    assert_eq!(frames(&fits), Ok(vec![Frame::Message(fits)]));
    let error = frames(&message(&format!("Content-Length: {:05}\r\n", body + 1), "")).unwrap_err();
    assert_eq!((response(&error).status.get(), &*error.what), (513, "Content-Length: the body is too long"));
    let huge = frames(&message("Content-Length: 4294967295\r\n", "")).unwrap_err();
    assert_eq!(response(&huge).status.get(), 513);
}

#[test]
fn the_reader_says_when_a_message_is_half_sent() {
    let mut reader = reader();
    assert!(!reader.is_half_sent());
    let bytes = message("Content-Length: 4\r\n", "body");
    for (sent, byte) in bytes.iter().enumerate() {
        assert_eq!(reader.is_half_sent(), sent > 0);
        reader.push(&[*byte]);
        let frames = drain(&mut reader).unwrap();
        assert_eq!(frames.len(), usize::from(sent + 1 == bytes.len()), "{sent}");
    }
    assert!(!reader.is_half_sent());
    reader.push(b"\r\n");
    drain(&mut reader).unwrap();
    assert!(!reader.is_half_sent(), "a keep-alive is no message");
}

#[test]
fn an_ack_that_breaks_the_stream_gets_no_reply() {
    let ack = String::from_utf8(message("", "")).unwrap().replace("MESSAGE", "ACK");
    assert_eq!(frames(ack.as_bytes()).unwrap_err().reply, None);
}

/// Frames with their bytes on the wire.
fn frame() -> impl Strategy<Value = (Vec<u8>, Vec<Frame>)> {
    let line_end = prop_oneof![Just("\r\n"), Just("\n")];
    let length = prop_oneof![
        Just("Content-Length: "),
        Just("l:"),
        Just("CONTENT-LENGTH \t: "),
        Just("Content-Length:\r\n  "),
    ];
    let is_response = any::<bool>();
    let body = vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..40);
    let message = (line_end, length, is_response, body).prop_map(|(line_end, length, is_response, body)| {
        let start = if is_response { "SIP/2.0 200 OK\r\n" } else { "" };
        let head = if is_response { HEAD.split_once("\r\n").unwrap().1 } else { HEAD };
        let head = format!("{start}{head}{length}{}\r\nSubject: a\r\n\t b\r\n\r\n", body.len());
        let mut bytes = head.replace("\r\n", line_end).into_bytes();
        bytes.extend(body);
        (bytes.clone(), vec![Frame::Message(bytes)])
    });
    let keep_alive = prop_oneof![
        Just((b"\r\n\r\n".to_vec(), vec![Frame::Pong, Frame::Ping])),
        Just((b"\r\n".to_vec(), vec![Frame::Pong])),
    ];
    // A lone line end and a ping side by side are told apart by nobody: a message stands between them.
    (keep_alive, message).prop_map(|((mut bytes, mut frames), message)| {
        bytes.extend(message.0);
        frames.extend(message.1);
        (bytes, frames)
    })
}

/// Pushes `bytes` in pieces of these lengths, over and over.
fn pushed(bytes: &[u8], pieces: &[usize]) -> (StreamReader, Result<Vec<Frame>, StreamError>) {
    let mut reader = reader();
    let mut all = Vec::new();
    let mut rest = bytes;
    for length in pieces.iter().cycle() {
        let (piece, later) = rest.split_at((*length).min(rest.len()));
        reader.push(piece);
        match drain(&mut reader) {
            Ok(frames) => all.extend(frames),
            Err(error) => return (reader, Err(error)),
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    (reader, Ok(all))
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_messages(
        parts in vec(frame(), 1..5),
        pieces in vec(1..200_usize, 1..10),
    ) {
        let bytes: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let frames: Vec<Frame> = parts.into_iter().flat_map(|(_, frames)| frames).collect();
        let (reader, got) = pushed(&bytes, &pieces);
        prop_assert_eq!(got, Ok(frames));
        prop_assert!(!reader.is_half_sent());
    }

    #[test]
    fn a_message_is_framed_where_the_datagram_reader_ends_it(more in "[ -~\r\n\t:]{0,60}", rest in vec(any::<u8>(), 0..30)) {
        // Whatever the fields are, both readers agree about the head and so about the body.
        let mut bytes = format!("{HEAD}Content-Length: 3\r\n{more}\r\n\r\n").into_bytes();
        bytes.extend(&rest);
        let mut reader = reader();
        reader.push(&bytes);
        if let (Ok(Some(Frame::Message(framed))), Ok(Some(read))) = (reader.next(), read_datagram(&bytes)) {
            prop_assert_eq!(read_datagram(&framed), Ok(Some(read.clone())));
            let Message::Request(request) = &read else { panic!() };
            prop_assert!(framed.ends_with(&request.body) && request.body.len() == 3);
            prop_assert!(frames(&write(&read)).is_ok());
        }
    }

    #[test]
    fn no_bytes_panic_and_memory_is_bounded(
        begin in prop_oneof![Just(Vec::new()), Just(HEAD.as_bytes().to_vec())],
        bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..2000),
        pieces in vec(1..300_usize, 1..10),
    ) {
        let bytes = [begin, bytes].concat();
        let (_, got) = pushed(&bytes, &pieces);
        let (_, whole) = pushed(&bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(got.is_err(), whole.is_err());
    }
}

/// The limit says what a peer that sends for ever can make us keep.
#[test]
fn an_endless_message_ends_at_the_limit() {
    for filler in ["X: 1\r\n", "x", "\r", " \r\n"] {
        let mut reader = reader();
        reader.push(HEAD.as_bytes());
        let mut pushed = 0;
        let ended = loop {
            reader.push(filler.as_bytes());
            pushed += filler.len();
            if drain(&mut reader).is_err() {
                break true;
            }
            if pushed > MAX_HEAD {
                break false;
            }
        };
        assert!(ended, "{filler:?}");
    }
}
