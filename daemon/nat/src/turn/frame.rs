//! How TURN cuts a byte stream and marks a channel's packets (RFC 8656 section 12.4): the four-byte header of
//! ChannelData, and whole messages out of TCP or TLS.

/// Bytes of the header of ChannelData.
pub const CHANNEL_HEADER: usize = 4;
/// Channel numbers that a client may bind (RFC 8656 section 12).
pub const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;
/// The longest message: a STUN header and 16 bits of length.
pub const MESSAGE_MAX: usize = 20 + 65535;

/// The header of ChannelData for `length` bytes of payload.
#[must_use]
pub fn channel_header(channel: u16, length: u16) -> [u8; CHANNEL_HEADER] {
    let [a, b] = channel.to_be_bytes();
    let [c, d] = length.to_be_bytes();
    [a, b, c, d]
}

/// Channel and payload of ChannelData; padding behind the payload is left out. `None` for anything else.
#[must_use]
pub fn channel_data(message: &[u8]) -> Option<(u16, &[u8])> {
    let (header, rest) = message.split_first_chunk::<CHANNEL_HEADER>()?;
    let [a, b, c, d] = *header;
    let channel = u16::from_be_bytes([a, b]);
    if !CHANNELS.contains(&channel) {
        return None;
    }
    Some((channel, rest.get(..usize::from(u16::from_be_bytes([c, d])))?))
}

/// Zero bytes that ChannelData of `length` bytes of payload needs behind it on a stream (RFC 8656 section 12.5).
#[must_use]
pub const fn stream_padding(length: usize) -> usize {
    (4 - length % 4) % 4
}

/// What cannot be a TURN server's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the relay sends is neither STUN nor ChannelData")]
pub struct FrameError;

/// The length of the first message in `bytes`, with its padding; `None` while its header is not whole.
///
/// # Errors
/// When these bytes begin neither a STUN message nor ChannelData: the stream is lost.
pub fn message_length(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&[a, b, c, d]) = bytes.first_chunk::<4>() else {
        return match bytes.first() {
            Some(first) if *first >= 0x50 => Err(FrameError),
            _ => Ok(None),
        };
    };
    let length = usize::from(u16::from_be_bytes([c, d]));
    if CHANNELS.contains(&u16::from_be_bytes([a, b])) {
        Ok(Some(CHANNEL_HEADER + length + stream_padding(length)))
    } else if a < 4 && length % 4 == 0 {
        Ok(Some(20 + length))
    } else {
        Err(FrameError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_data_is_marked_and_recognised() {
        let mut message = channel_header(0x4001, 5).to_vec();
        message.extend_from_slice(b"hello\0\0\0");
        assert_eq!(channel_data(&message), Some((0x4001, &b"hello"[..])));
        assert_eq!(message_length(&message), Ok(Some(12)));
        assert_eq!(channel_data(&message[..8]), None, "cut");
        assert_eq!(channel_data(&[0x80, 0, 0, 0]), None, "RTP");
        assert_eq!(channel_data(&[0x40]), None);
    }

    #[test]
    fn a_stream_is_cut_or_given_up() {
        assert_eq!(message_length(&[0, 1, 0]), Ok(None));
        assert_eq!(message_length(&[0, 1, 0, 8, 0x21]), Ok(Some(28)));
        assert_eq!(message_length(&[0, 1, 0, 7]), Err(FrameError), "STUN has multiples of four");
        assert_eq!(message_length(b"HTTP"), Ok(Some(4 + 0x5450)), "H is 0x48: a channel");
        assert_eq!(message_length(b"SIP/2.0"), Err(FrameError));
        assert_eq!(message_length(&[]), Ok(None));
    }
}
