//! STUN as a keep-alive of SIP flows (RFC 5626 section 8, RFC 8489): the bare Binding request and what its answer says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a request is known by.
pub(crate) type TransactionId = [u8; 12];

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// The answer to a Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: TransactionId,
    /// Where the request came from; `None` where the server does not say.
    pub(crate) mapped: Option<SocketAddr>,
}

/// A Binding request without attributes: there is nothing to authenticate (RFC 5626 section 8).
pub(crate) fn request(id: TransactionId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    bytes.extend(BINDING_REQUEST.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(MAGIC_COOKIE);
    bytes.extend(id);
    bytes
}

/// A datagram is STUN and no SIP: SIP begins with a letter, or a line end (RFC 5626 section 8.1, RFC 7983).
pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4) && bytes.get(4..8) == Some(&MAGIC_COOKIE)
}

/// Reads the answer to a Binding request, whether it says yes or no: either way somebody is there.
pub(crate) fn read(bytes: &[u8]) -> Option<Answer> {
    let kind = number(bytes, 0)?;
    let length = usize::from(number(bytes, 2)?);
    if !is_stun(bytes) || !matches!(kind, BINDING_SUCCESS | BINDING_ERROR) {
        return None;
    }
    let id: TransactionId = bytes.get(8..20)?.try_into().ok()?;
    let mut attributes = bytes.get(20..)?.get(..length)?;
    let (mut xored, mut plain) = (None, None);
    while let (Some(kind), Some(length)) = (number(attributes, 0), number(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..4 + length)?;
        match kind {
            XOR_MAPPED_ADDRESS => xored = xored.or(address(value, Some(id))),
            MAPPED_ADDRESS => plain = plain.or(address(value, None)),
            _ => {}
        }
        attributes = attributes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Answer { id, mapped: xored.or(plain).filter(|_| kind == BINDING_SUCCESS) })
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The value of (XOR-)MAPPED-ADDRESS (RFC 8489 sections 14.1 and 14.2).
fn address(value: &[u8], xor: Option<TransactionId>) -> Option<SocketAddr> {
    let mask: Vec<u8> =
        xor.map_or_else(|| vec![0; 16], |id| MAGIC_COOKIE.iter().chain(&id).copied().collect());
    let bytes: Vec<u8> = value.get(4..)?.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect();
    let ip = match value.get(1)? {
        1 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?)),
        2 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(..16)?).ok()?)),
        _ => return None,
    };
    let port = number(value, 2)? ^ number(&mask, 0)?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// RFC 5769 section 2.2: SOFTWARE, XOR-MAPPED-ADDRESS 192.0.2.1:32853, MESSAGE-INTEGRITY, FINGERPRINT.
    const RESPONSE: [u8; 80] = [
        0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
        0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
        0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00,
        0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53,
        0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
    ];

    #[test]
    fn the_answer_of_rfc_5769_is_read() {
        let answer = read(&RESPONSE).unwrap();
        assert_eq!(answer, Answer { id: ID, mapped: Some("192.0.2.1:32853".parse().unwrap()) });
    }

    #[test]
    fn a_request_is_twenty_bytes_and_no_answer() {
        let request = request(ID);
        assert_eq!((request.len(), is_stun(&request)), (20, true));
        assert_eq!(read(&request), None);
    }

    #[test]
    fn an_error_is_an_answer_without_an_address() {
        let mut error = RESPONSE;
        error[1] = 0x11;
        assert_eq!(read(&error), Some(Answer { id: ID, mapped: None }));
    }

    #[test]
    fn what_is_cut_short_is_none_and_nothing_panics() {
        for length in 0..RESPONSE.len() {
            assert_eq!(read(&RESPONSE[..length]), None, "{length}");
        }
        assert!(!is_stun(b"SIP/2.0 200 OK\r\n") && !is_stun(b"\r\n\r\n") && !is_stun(b""));
    }
}
