//! The STUN messages that ICE sends beside the library's checks: requests to STUN servers, consent, and answers. Knows
//! no state.

use std::net::SocketAddr;

use rice_stun_types::attribute::{IceControlled, IceControlling, Priority, UseCandidate};
use stun_proto::types::attribute::{AttributeStaticType, ErrorCode, Username, XorMappedAddress};
use stun_proto::types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageClass, MessageIntegrityCredentials, MessageWrite,
    MessageWriteExt, MessageWriteVec, ShortTermCredentials, TransactionId,
};

use super::Credentials;

/// Whether a datagram claims to be STUN (RFC 7983, RFC 8489 section 5).
pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= 20
        && bytes.first().is_some_and(|first| *first < 4)
        && bytes.get(4..8) == Some(&[0x21, 0x12, 0xA4, 0x42])
}

/// Whether a check says that its pair is the one (RFC 8445 section 7.1.1).
pub(crate) fn nominates(message: &Message<'_>) -> bool {
    message.has_attribute(UseCandidate::TYPE)
}

/// A Binding request to a STUN server.
pub(crate) fn server_request() -> Option<(TransactionId, Vec<u8>)> {
    let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
    request.add_fingerprint().ok()?;
    let bytes = request.finish();
    let id = Message::from_bytes(&bytes).ok()?.transaction_id();
    Some((id, bytes))
}

/// A Binding indication, which nobody answers: it keeps a NAT's mapping (RFC 8445 section 11).
pub(crate) fn indication() -> Option<Vec<u8>> {
    let mut indication = Message::builder_indication(BINDING, MessageWriteVec::new());
    indication.add_fingerprint().ok()?;
    Some(indication.finish())
}

/// A Binding request to the peer that nominates nothing: it asks whether the peer still wants our packets (RFC 7675
/// section 5.1), or how far away it is.
pub(crate) fn check_request(
    local: &Credentials,
    remote: &Credentials,
    controlling: bool,
    tie_breaker: u64,
    priority: u32,
) -> Option<(TransactionId, Vec<u8>)> {
    let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
    request.add_attribute(&Username::new(&format!("{}:{}", remote.ufrag, local.ufrag)).ok()?).ok()?;
    request.add_attribute(&Priority::new(priority)).ok()?;
    if controlling {
        request.add_attribute(&IceControlling::new(tie_breaker)).ok()?;
    } else {
        request.add_attribute(&IceControlled::new(tie_breaker)).ok()?;
    }
    request.add_message_integrity(&key(&remote.password), IntegrityAlgorithm::Sha1).ok()?;
    request.add_fingerprint().ok()?;
    let bytes = request.finish();
    let id = Message::from_bytes(&bytes).ok()?.transaction_id();
    Some((id, bytes))
}

/// The answer to a Binding request whose integrity holds.
pub(crate) fn success(request: &Message<'_>, from: SocketAddr, local: &Credentials) -> Option<Vec<u8>> {
    let mut response = Message::builder_success(request, MessageWriteVec::new());
    response.add_attribute(&XorMappedAddress::new(from, request.transaction_id())).ok()?;
    response.add_message_integrity(&key(&local.password), IntegrityAlgorithm::Sha1).ok()?;
    response.add_fingerprint().ok()?;
    Some(response.finish())
}

/// The answer to a Binding request that is not from whom it says (RFC 8489 section 9.1.3): shorter than any such
/// request that names a user.
pub(crate) fn unauthorized(request: &Message<'_>) -> Option<Vec<u8>> {
    let mut response = Message::builder_error(request, MessageWriteVec::new());
    response.add_attribute(&ErrorCode::builder(ErrorCode::UNAUTHORIZED).build().ok()?).ok()?;
    Some(response.finish())
}

/// Whether a request is for `local` and signed with its password.
pub(crate) fn is_for(request: &Message<'_>, local: &Credentials) -> bool {
    let named = request
        .attribute::<Username>()
        .is_ok_and(|user| user.username().split_once(':').is_some_and(|(ufrag, _)| ufrag == local.ufrag));
    named && is_signed(request, &local.password)
}

/// Whether a message is signed with this password.
pub(crate) fn is_signed(message: &Message<'_>, password: &str) -> bool {
    message.validate_integrity(&key(password)).is_ok()
}

/// The address that a success response tells.
pub(crate) fn mapped_address(response: &Message<'_>) -> Option<SocketAddr> {
    if !response.has_class(MessageClass::Success) {
        return None;
    }
    Some(response.attribute::<XorMappedAddress>().ok()?.addr(response.transaction_id()))
}

fn key(password: &str) -> MessageIntegrityCredentials {
    ShortTermCredentials::new(password.to_owned()).into()
}
