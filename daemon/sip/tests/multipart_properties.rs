//! Properties of bodies of several parts: what is written as parts reads back, and no bytes make the reader panic.

use proptest::collection::vec;
use proptest::prelude::*;
use voipd_sip::multipart::{MAX_FIELDS, MAX_PARTS, read};

/// A part as it is written: fields and content.
fn part() -> impl Strategy<Value = (Vec<(String, String)>, Vec<u8>)> {
    let field = ("[A-Z][a-zA-Z-]{2,12}", "[!-~]([ -~]{0,20}[!-~])?");
    (vec(field, 0..4), vec(any::<u8>(), 0..60))
}

fn boundary() -> impl Strategy<Value = String> {
    "[0-9a-zA-Z'()+_,./:=? -]{0,40}[0-9a-zA-Z'()+_,./:=?-]"
}

proptest! {
    #[test]
    fn parts_read_back(boundary in boundary(), parts in vec(part(), 1..8), preamble in "[a-z \r\n]{0,20}") {
        // A boundary is one that does not occur in the parts (RFC 2046 section 5.1.1).
        let delimiter = format!("--{boundary}");
        let holds = |bytes: &[u8]| bytes.windows(delimiter.len()).any(|window| window == delimiter.as_bytes());
        prop_assume!(!parts.iter().any(|(_, body)| holds(body)));
        let mut text = preamble.into_bytes();
        for (fields, body) in &parts {
            text.extend(format!("\r\n{delimiter}\r\n").bytes());
            for (name, value) in fields {
                text.extend(format!("{name}: {value}\r\n").bytes());
            }
            text.extend(b"\r\n");
            text.extend(body);
        }
        text.extend(format!("\r\n{delimiter}--\r\n").bytes());
        let content_type = format!("multipart/mixed;boundary=\"{boundary}\"");
        let found = read(&content_type, &text).unwrap();
        prop_assert_eq!(found.len(), parts.len());
        for (found, (fields, body)) in found.iter().zip(&parts) {
            prop_assert_eq!(found.body, body.as_slice());
            let there: Vec<_> = found.headers.iter().collect();
            let written: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(there, written);
        }
    }

    #[test]
    fn any_bytes_give_parts_within_the_limits_or_an_error(
        content_type in ".{0,60}|multipart/mixed;boundary=[ab\"-]{1,4}",
        body in vec(prop_oneof![Just(b'-'), Just(b'a'), Just(b'b'), Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..400),
    ) {
        if let Ok(parts) = read(&content_type, &body) {
            prop_assert!((1..=MAX_PARTS).contains(&parts.len()));
            for part in parts {
                prop_assert!(part.headers.iter().count() <= MAX_FIELDS);
                prop_assert!(part.body.len() <= body.len());
            }
        }
    }
}
