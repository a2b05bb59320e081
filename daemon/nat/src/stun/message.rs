//! Binding requests and the answers to them (RFC 8489), with the attributes of RFC 5780. It knows no transaction.

use std::net::SocketAddr;

use bytecodec::{DecodeExt, EncodeExt};
use stun_codec::rfc5389::attributes::{ErrorCode, Fingerprint, MappedAddress, XorMappedAddress};
use stun_codec::rfc5389::methods::BINDING;
use stun_codec::rfc5780::attributes::{ChangeRequest, OtherAddress};
use stun_codec::{
    Message, MessageClass, MessageDecoder, MessageEncoder, TransactionId, define_attribute_enums,
};

/// Longest message that is read: a Binding response is far shorter, and a longer one has come in fragments.
const LONGEST: usize = 1500;

define_attribute_enums!(
    Attribute,
    AttributeDecoder,
    AttributeEncoder,
    [MappedAddress, XorMappedAddress, ErrorCode, Fingerprint, ChangeRequest, OtherAddress]
);

/// From where the server is asked to answer (RFC 5780 section 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// From its other address.
    pub(super) ip: bool,
    /// From its other port.
    pub(super) port: bool,
}

/// A message that has to do with a Binding transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A request, such as one of our own that a NAT turned back.
    Request([u8; 12]),
    /// What a server says to a request.
    Response([u8; 12], Response),
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// Where the request came from.
    Success {
        mapped: SocketAddr,
        /// Where the server can also be asked (RFC 5780 section 7.4).
        other: Option<SocketAddr>,
    },
    /// The code of an error, 300 to 599.
    Error(u16),
    /// A success without an address, or what cannot be read.
    Unreadable,
}

/// A Binding request, ready to be sent.
pub(super) fn request(id: [u8; 12], change: Change) -> Vec<u8> {
    let mut message = Message::<Attribute>::new(MessageClass::Request, BINDING, TransactionId::new(id));
    if change != Change::default() {
        message.add_attribute(ChangeRequest::new(change.ip, change.port));
    }
    // It fails only for messages of 64 KiB.
    MessageEncoder::new().encode_into_bytes(message).unwrap_or_default()
}

/// What a datagram says; `None` when it is not about Binding, or no STUN at all.
pub(super) fn read(bytes: &[u8]) -> Option<Received> {
    if bytes.len() > LONGEST {
        return None;
    }
    let decoded = MessageDecoder::<Attribute>::new().decode_from_bytes(bytes).ok()?;
    let message = match decoded {
        Ok(message) => message,
        // Whose answer it is can be read, the answer cannot.
        Err(broken) if broken.method() == BINDING => {
            let id = *broken.transaction_id().as_bytes();
            let is_response =
                matches!(broken.class(), MessageClass::SuccessResponse | MessageClass::ErrorResponse);
            return is_response.then_some(Received::Response(id, Response::Unreadable));
        }
        Err(_) => return None,
    };
    if message.method() != BINDING {
        return None;
    }
    let id = *message.transaction_id().as_bytes();
    match message.class() {
        MessageClass::Request => Some(Received::Request(id)),
        MessageClass::Indication => None,
        MessageClass::SuccessResponse => Some(Received::Response(id, success(&message))),
        MessageClass::ErrorResponse => {
            let code = message.get_attribute::<ErrorCode>().map(ErrorCode::code);
            Some(Received::Response(id, code.map_or(Response::Unreadable, Response::Error)))
        }
    }
}

fn success(message: &Message<Attribute>) -> Response {
    // RFC 8489 section 14.2: what rewrites addresses in packets on the way does not recognize the XORed one, so that
    // one is right where the two differ. RFC 3489's servers send the plain one alone.
    let xor = message.get_attribute::<XorMappedAddress>().map(XorMappedAddress::address);
    let plain = || message.get_attribute::<MappedAddress>().map(MappedAddress::address);
    let other = message.get_attribute::<OtherAddress>().map(OtherAddress::address);
    match xor.or_else(plain) {
        Some(mapped) => Response::Success { mapped, other },
        None => Response::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn message(class: MessageClass, attributes: Vec<Attribute>) -> Vec<u8> {
        let mut message = Message::<Attribute>::new(class, BINDING, TransactionId::new([7; 12]));
        attributes.into_iter().for_each(|attribute| message.add_attribute(attribute));
        MessageEncoder::new().encode_into_bytes(message).unwrap()
    }

    #[test]
    fn a_request_is_that_of_the_rfc() {
        let plain = request([3; 12], Change::default());
        assert_eq!(plain, [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[3; 12]].concat());
        let change = request([3; 12], Change { ip: true, port: true });
        assert_eq!(&change[2..4], [0, 8]);
        assert_eq!(&change[20..], [0, 3, 0, 4, 0, 0, 0, 6]);
        assert_eq!(read(&plain), Some(Received::Request([3; 12])));
    }

    #[test]
    fn the_response_of_rfc_5769_section_2_2_is_read() {
        let head = "0101003c2112a442b7e7a701bc34d686fa87dfae";
        let rest = "8022000b7465737420766563746f7220002000080001a147e112a643\
                    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
        let text = format!("{head}{rest}");
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect();
        let Some(Received::Response(_, Response::Success { mapped, other })) = read(&bytes) else { panic!() };
        assert_eq!((mapped, other), (address("192.0.2.1:32853"), None));
    }

    #[test]
    fn the_xored_address_is_believed_where_a_router_has_rewritten_the_plain_one() {
        let both = vec![
            MappedAddress::new(address("192.168.1.7:5000")).into(),
            XorMappedAddress::new(address("203.0.113.9:40001")).into(),
        ];
        let Some(Received::Response(_, Response::Success { mapped, .. })) =
            read(&message(MessageClass::SuccessResponse, both))
        else {
            panic!()
        };
        assert_eq!(mapped, address("203.0.113.9:40001"));
    }

    #[test]
    fn the_plain_address_of_an_old_server_is_taken() {
        let plain = vec![MappedAddress::new(address("[2001:db8::9]:40001")).into()];
        let other = vec![
            MappedAddress::new(address("203.0.113.9:1")).into(),
            OtherAddress::new(address("198.51.100.2:3479")).into(),
        ];
        for (attributes, wanted) in [(plain, None), (other, Some(address("198.51.100.2:3479")))] {
            let bytes = message(MessageClass::SuccessResponse, attributes);
            let Some(Received::Response(_, Response::Success { other, .. })) = read(&bytes) else { panic!() };
            assert_eq!(other, wanted);
        }
    }

    #[test]
    fn answers_without_sense_are_known_as_answers() {
        let empty = message(MessageClass::SuccessResponse, Vec::new());
        assert_eq!(read(&empty), Some(Received::Response([7; 12], Response::Unreadable)));
        let error =
            message(MessageClass::ErrorResponse, vec![ErrorCode::new(420, "no".to_owned()).unwrap().into()]);
        assert_eq!(read(&error), Some(Received::Response([7; 12], Response::Error(420))));
        // A family that does not exist.
        let mut wrong = message(
            MessageClass::SuccessResponse,
            vec![XorMappedAddress::new(address("203.0.113.9:1")).into()],
        );
        wrong[25] = 9;
        assert_eq!(read(&wrong), Some(Received::Response([7; 12], Response::Unreadable)));
        // An indication, and another method.
        assert_eq!(read(&message(MessageClass::Indication, Vec::new())), None);
        let mut allocate = empty.clone();
        allocate[1] = 3;
        assert_eq!(read(&allocate), None);
        assert_eq!(read(&[0; 2000]), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn a_harmed_response_is_read_without_harm(
            place in 0usize..60, byte in any::<u8>(), cut in 0usize..60,
        ) {
            let mut bytes = message(MessageClass::SuccessResponse, vec![
                XorMappedAddress::new(address("203.0.113.9:40001")).into(),
                OtherAddress::new(address("198.51.100.2:3479")).into(),
                ErrorCode::new(500, "text".to_owned()).unwrap().into(),
            ]);
            if let Some(harmed) = bytes.get_mut(place) {
                *harmed = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            read(&bytes);
        }
    }
}
