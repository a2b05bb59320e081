//! Requests for addresses of both families, as servers understand them that know the attribute by its number of before
//! RFC 8656: coturn until 4.6. Knows no state.

use stun_proto::types::attribute::{
    Attribute, AttributeStaticType, AttributeType, Fingerprint, MessageIntegrity, RawAttribute, Realm,
};
use stun_proto::types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageClass, MessageIntegrityCredentials,
    MessageWrite, MessageWriteExt, MessageWriteVec,
};
use turn_client_proto::types::attribute::AdditionalAddressFamily;
use turn_client_proto::types::message::ALLOCATE;

use super::allocation::is_signed;

/// ADDITIONAL-ADDRESS-FAMILY in the drafts, and in coturn (its issue 1740): who does not know it passes over it.
const OLD: AttributeType = AttributeType::new(0x8032);

/// A request for addresses of both families once more, with the attribute under its old number as well, and signed anew;
/// `None` where it is no such request, or one that is protected in a way that no server of that time knows.
pub(super) fn in_old_words(bytes: &[u8], (user, password): &(String, String)) -> Option<Vec<u8>> {
    let request = Message::from_bytes(bytes).ok()?;
    if !request.has_class(MessageClass::Request) || !request.has_method(ALLOCATE) {
        return None;
    }
    let family = request.raw_attribute(AdditionalAddressFamily::TYPE)?;
    let mut again =
        Message::builder(request.get_type(), request.transaction_id(), MessageWriteVec::with_capacity(512));
    again.add_attribute(&RawAttribute::new(OLD, &family.value)).ok()?;
    let closes = [MessageIntegrity::TYPE, Fingerprint::TYPE];
    for (_, attribute) in request.iter_attributes() {
        if !closes.contains(&attribute.get_type()) {
            again.add_attribute(&attribute).ok()?;
        }
    }
    if is_signed(&request) {
        let realm = request.attribute::<Realm>().ok()?.realm().to_owned();
        let key = LongTermCredentials::new(user.clone(), password.clone()).to_key(realm);
        let key = MessageIntegrityCredentials::from(key);
        // Proves that this is how the request was signed.
        let signed_with = request.validate_integrity(&key).ok()?;
        if signed_with != IntegrityAlgorithm::Sha1 {
            return None;
        }
        again.add_message_integrity(&key, IntegrityAlgorithm::Sha1).ok()?;
    }
    if request.has_attribute(Fingerprint::TYPE) {
        again.add_fingerprint().ok()?;
    }
    Some(again.finish())
}
