//! The Reason header field (RFC 3326): why the peer ended a session.

use crate::headers::{Headers, name};

/// Status and text of the SIP reason, if one is there.
pub(super) fn read(headers: &Headers) -> (Option<u16>, Option<String>) {
    for value in headers.get_all(name::REASON).flat_map(|field| split(field, ',')) {
        let mut parts = split(value, ';').into_iter();
        if !parts.next().is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("SIP")) {
            continue;
        }
        let (mut cause, mut text) = (None, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "cause" => cause = value.trim().parse().ok(),
                "text" => text = Some(unquote(value.trim())),
                _ => {}
            }
        }
        return (cause, text);
    }
    (None, None)
}

/// Splits outside of quoted strings.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let here = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        here
    })
    .collect()
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> (Option<u16>, Option<String>) {
        let mut headers = Headers::default();
        values.iter().for_each(|value| headers.push(name::REASON, *value));
        read(&headers)
    }

    #[test]
    fn the_sip_reason_is_found_among_others() {
        let elsewhere = (Some(200), Some("Call completed; \"elsewhere\", it says".to_owned()));
        assert_eq!(
            of(&[r#"Q.850;cause=16, SIP ;cause=200 ;text="Call completed; \"elsewhere\", it says""#]),
            elsewhere
        );
        assert_eq!(of(&["Q.850;cause=16", "sip;CAUSE=480"]), (Some(480), None));
    }

    #[test]
    fn nonsense_gives_nothing() {
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&["Q.850;cause=16;text=\"a,SIP;cause=1"]), (None, None));
        assert_eq!(of(&["SIP;cause=99999999;text=\""]), (None, Some("\"".to_owned())));
    }
}
