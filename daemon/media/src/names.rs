//! Host names where a session description should have addresses (RFC 8866 section 5.7 allows them): finding them, and
//! putting addresses in their places. It asks nobody.

use std::net::IpAddr;

/// Most names of one description that are worth a question.
const MAX_NAMES: usize = 4;
/// Longest name (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;

/// A name in a session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without a dot at its end.
    pub name: String,
    /// Whether the description calls it an IPv6 name.
    pub ipv6: bool,
}

/// The host names of an audio description's c= and a=rtcp lines, each once and at most four; none where all addresses
/// are numbers. What could be no host name is left alone.
pub fn host_names(sdp: &[u8]) -> Vec<HostName> {
    let mut names: Vec<HostName> = Vec::new();
    let text = String::from_utf8_lossy(sdp);
    for place in audio_lines(&text).filter_map(Place::find) {
        if names.len() < MAX_NAMES && names.iter().all(|known| known.name != place.host.name) {
            names.push(place.host);
        }
    }
    names
}

/// The description with addresses in the places of those names that `address_of` knows. Line ends become LF.
pub fn with_addresses(sdp: &[u8], address_of: impl Fn(&str) -> Option<IpAddr>) -> Vec<u8> {
    let text = String::from_utf8_lossy(sdp);
    let mut written = String::with_capacity(text.len());
    for line in lines(&text) {
        let known = Place::find(line).and_then(|place| Some((place.before, address_of(&place.host.name)?)));
        match known {
            Some((before, address)) => {
                let family = if address.is_ipv4() { "IP4" } else { "IP6" };
                written.extend([before, "IN ", family, " ", &address.to_string()]);
            }
            None => written.push_str(line),
        }
        written.push('\n');
    }
    written.into_bytes()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty())
}

/// The lines of the session as a whole and of its audio streams.
fn audio_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut audio = true;
    lines(text).filter(move |line| {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_whitespace();
            let kind = words.next().unwrap_or_default();
            audio = kind.eq_ignore_ascii_case("audio") && words.next() != Some("0");
        }
        audio
    })
}

/// Where a name stands.
struct Place<'a> {
    /// The line up to the network type.
    before: &'a str,
    host: HostName,
}

impl<'a> Place<'a> {
    fn find(line: &'a str) -> Option<Self> {
        let (before, rest) = if let Some(rest) = line.strip_prefix("c=") {
            ("c=", rest)
        } else {
            // a=rtcp:53020 IN IP4 host.example (RFC 3605)
            let rest = line.strip_prefix("a=rtcp:")?;
            let port = rest.split_whitespace().next()?;
            let end = "a=rtcp:".len() + port.len() + 1;
            let (before, rest) = line.split_at_checked(end)?;
            (before, rest)
        };
        let mut words = rest.split_whitespace();
        let (net, family, host) = (words.next()?, words.next()?, words.next()?);
        let ipv6 = family.eq_ignore_ascii_case("IP6");
        let known = net.eq_ignore_ascii_case("IN") && (ipv6 || family.eq_ignore_ascii_case("IP4"));
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        (known && is_name(&host)).then_some(Place { before, host: HostName { name: host, ipv6 } })
    }
}

/// Letters, digits, hyphens and underscores between dots, and not only digits: those are an address, well written or
/// not.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= LONGEST
        && host.split('.').all(label)
        && host.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        host_names(text.as_bytes()).into_iter().map(|host| host.name).collect()
    }

    #[test]
    fn names_are_found_and_addresses_are_none() {
        assert_eq!(
            names("v=0\r\nc=IN IP4 Media.Example.COM.\r\nm=audio 4000 RTP/AVP 0\r\n"),
            ["media.example.com"]
        );
        assert_eq!(
            names("c=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=rtcp:53020 IN IP4 rtcp.example"),
            ["rtcp.example"]
        );
        for address in [
            "IP4 192.0.2.1",
            "IP4 224.1.1.1/127",
            "IP6 2001:db8::1",
            "IP4 1.2.3",
            "IP4 256.1.1.1",
            "ATM x.example",
            "IP4 a..b",
            "IP4 b\u{fc}ro.example",
        ] {
            assert_eq!(names(&format!("c=IN {address}\nm=audio 1 RTP/AVP 0\n")), [""; 0], "{address}");
        }
    }

    #[test]
    fn names_of_other_media_are_not_asked_for() {
        let text = "m=video 1 RTP/AVP 96\nc=IN IP4 video.example\nm=audio 0 RTP/AVP 0\nc=IN IP4 none.example\nm=audio 1 RTP/AVP 0\nc=IN IP6 audio.example\n";
        assert_eq!(host_names(text.as_bytes()), [HostName { name: "audio.example".to_owned(), ipv6: true }]);
    }

    #[test]
    fn a_flood_of_names_is_four() {
        let text: String = (0..100).map(|n| format!("c=IN IP4 host{n}.example\n")).collect();
        assert_eq!(names(&text).len(), 4);
        assert_eq!(names(&"c=IN IP4 one.example\n".repeat(100)).len(), 1);
    }

    #[test]
    fn addresses_take_the_places_of_names() {
        let text = "v=0\r\nc=IN IP4 media.example\r\nm=audio 1 RTP/AVP 0\r\na=rtcp:9 IN IP4 MEDIA.example\r\na=x:c=IN IP4 media.example\r\n";
        let written = with_addresses(text.as_bytes(), |_| "2001:db8::7".parse().ok());
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "v=0\nc=IN IP6 2001:db8::7\nm=audio 1 RTP/AVP 0\na=rtcp:9 IN IP6 2001:db8::7\na=x:c=IN IP4 media.example\n"
        );
        let unknown = with_addresses(text.as_bytes(), |_| None);
        assert_eq!(String::from_utf8(unknown).unwrap(), text.replace("\r\n", "\n"));
    }
}
