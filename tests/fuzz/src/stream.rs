//! The framing of SIP on a stream.

use std::net::SocketAddr;

use voipd_sip::wire::read_datagram;
use voipd_sip::wire::stream::{Frame, StreamError, StreamReader};

/// The first byte says how the others are cut on their way. However they are cut, they are the same messages, line ends
/// and error; what a frame holds is one message, or no message at all.
pub fn sip_stream(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let whole = frames(bytes.chunks(bytes.len().max(1)));
    let cut = frames(bytes.chunks(usize::from(size % 64) + 1));
    assert_eq!(whole, cut, "the frames depend on how the stream was cut into {} bytes", size % 64 + 1);
    let (frames, error) = whole;
    let mut length = 0;
    for frame in &frames {
        match frame {
            Frame::Message(message) => {
                length += message.len();
                assert!(!matches!(read_datagram(message), Ok(None)), "a message of line ends");
            }
            Frame::Ping | Frame::Pong => length += 1,
        }
    }
    assert!(length <= bytes.len(), "more came out than went in");
    if let Some(StreamError { what, reply }) = error {
        assert!(!what.contains(['\r', '\n']), "a line of the peer's in the log: {what}");
        assert!(reply.is_none_or(|reply| reply.starts_with(b"SIP/2.0 ")), "an answer that is none");
    }
}

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<StreamError>) {
    let mut reader = StreamReader::new(SocketAddr::from(([192, 0, 2, 1], 5060)));
    let mut frames = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
