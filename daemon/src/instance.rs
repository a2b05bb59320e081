//! The name of an installation: a UUID as a URN, which its registrars know it by (RFC 5626 section 4.1).

/// A version 4 UUID (RFC 9562 section 5.4) made of the first half of random bytes.
pub fn urn(random: [u8; 32]) -> String {
    let [mut high, mut low] = [0_u64; 2];
    for (place, byte) in random.into_iter().enumerate() {
        match place {
            0..8 => high = high << 8 | u64::from(byte),
            8..16 => low = low << 8 | u64::from(byte),
            _ => {}
        }
    }
    // The version and the variant have fixed places.
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "urn:uuid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_stand_in_their_places() {
        assert_eq!(urn([0xff; 32]), "urn:uuid:ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(urn([0; 32]), "urn:uuid:00000000-0000-4000-8000-000000000000");
        let counted: Vec<u8> = (0..32).collect();
        assert_eq!(urn(counted.try_into().unwrap()), "urn:uuid:00010203-0405-4607-8809-0a0b0c0d0e0f");
    }
}
