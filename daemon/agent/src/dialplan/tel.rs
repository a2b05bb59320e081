//! `tel:` URIs (RFC 3966) and the users of SIP URIs that are telephone numbers (RFC 3261 section 19.1.6).

use super::Number;

/// A `tel:` URI in its parts. Parameters that no number needs are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Telephone {
    pub(crate) number: Number,
    /// Where a local number is a number: the beginning of global ones, or a domain (section 5.1.5).
    pub(crate) context: Option<Context>,
    /// Digits of an extension (section 5.3).
    extension: Option<String>,
    /// As it came (section 5.2).
    subaddress: Option<String>,
}

/// `phone-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// `+49`, `+4930`: without separators.
    Digits(String),
    /// `example.org`, in lower case.
    Domain(String),
}

impl Telephone {
    /// Reads what stands behind `tel:`. A local number without `phone-context`, which section 5.1.5 demands, is as a
    /// person would dial it: links are written so.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let number = parts.next()?;
        // Blanks and slashes are a person's separators, not a URI's.
        if number.contains([' ', '/', '\u{a0}']) {
            return None;
        }
        let mut telephone =
            Self { number: Number::read(number)?, context: None, extension: None, subaddress: None };
        let mut names: Vec<String> = Vec::new();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = name.to_ascii_lowercase();
            // Section 3: each parameter at most once.
            if name.is_empty() || names.contains(&name) {
                return None;
            }
            match name.as_str() {
                "ext" => telephone.extension = Some(digits(value)?),
                "isub" => telephone.subaddress = Some(value.to_owned()).filter(|value| !value.is_empty()),
                "phone-context" => telephone.context = Some(Context::read(value)?),
                _ => {}
            }
            names.push(name);
        }
        let global = telephone.number.as_str().starts_with('+');
        // A global number is one everywhere.
        if global {
            telephone.context = None;
        }
        Some(telephone)
    }

    /// The parameters that must go with the number, in the order of section 3: `;ext=55`.
    pub(crate) fn params(&self, with_context: bool) -> String {
        let mut params = String::new();
        let extension = self.extension.as_deref().map(|value| ("ext", value));
        let subaddress = self.subaddress.as_deref().map(|value| ("isub", value));
        let context =
            self.context.as_ref().filter(|_| with_context).map(|context| ("phone-context", context.as_str()));
        for (name, value) in extension.into_iter().chain(subaddress).chain(context) {
            params.push_str(&format!(";{name}={value}"));
        }
        params
    }
}

impl Context {
    fn read(text: &str) -> Option<Self> {
        if text.starts_with('+') {
            return Number::read(text).map(|number| Self::Digits(number.0));
        }
        let fits =
            |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let domain = text.trim_end_matches('.');
        domain.split('.').all(fits).then(|| Self::Domain(domain.to_ascii_lowercase()))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Digits(text) | Self::Domain(text) => text,
        }
    }
}

/// The number that the user part of a SIP URI stands for, if it is one: escapes read, parameters left out.
pub(crate) fn number_of_user(user: &str) -> Option<Number> {
    let mut text = String::new();
    let mut bytes = user.split(';').next()?.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        };
        text.push(char::from(byte));
    }
    Number::read(&text)
}

fn digits(text: &str) -> Option<String> {
    let kept: String = text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
    (!kept.is_empty() && kept.len() <= 20 && kept.chars().all(|c| c.is_ascii_digit())).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, String) {
        let telephone = Telephone::read(text).unwrap_or_else(|| panic!("'{text}' is a telephone number"));
        (telephone.number.as_str().to_owned(), telephone.params(true))
    }

    fn both(number: &str, params: &str) -> (String, String) {
        (number.to_owned(), params.to_owned())
    }

    #[test]
    fn rfc_3966_section_6_examples_are_read() {
        assert_eq!(read("+1-201-555-0123"), both("+12015550123", ""));
        assert_eq!(read("7042;phone-context=example.com"), both("7042", ";phone-context=example.com"));
        assert_eq!(read("863-1234;phone-context=+1-914-555"), both("8631234", ";phone-context=+1914555"));
    }

    #[test]
    fn rfc_3966_section_3_parameters_keep_their_order_and_those_of_no_use_are_left_out() {
        assert_eq!(
            read("+49.30.(123);Phone-Context=+49;npdi;ISUB=17;ext=5-5;rn=+4930"),
            both("+4930123", ";ext=55;isub=17")
        );
        assert_eq!(read("112"), both("112", ""));
    }

    #[test]
    fn what_is_no_telephone_number_is_refused() {
        for text in [
            "",
            "+",
            "alice",
            "+49 30",
            "030/1",
            "+49;ext=",
            "+49;ext=x",
            "+49;ext=1;ext=2",
            "7;phone-context=",
            "7;phone-context=a..b",
            "7;phone-context=a b",
            "7;phone-context=+",
            "+49;;",
        ] {
            assert_eq!(Telephone::read(text), None, "{text}");
        }
    }

    #[test]
    fn the_users_of_sip_uris_are_numbers_however_they_are_escaped() {
        let number = |user: &str| number_of_user(user).map(|number| number.as_str().to_owned());
        assert_eq!(number("%30900123").as_deref(), Some("0900123"));
        assert_eq!(number("%2b49-900;ext=1").as_deref(), Some("+49900"));
        for user in ["alice", "09%", "09%zz", "0900a", ""] {
            assert_eq!(number(user), None, "{user}");
        }
    }
}
