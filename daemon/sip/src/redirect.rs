//! Redirection (RFC 3261 sections 8.1.3.4 and 21.3): which contacts of a 3xx an INVITE may go to, in which order, and
//! when enough is enough. Whether it may be followed at all is the user's decision.

use crate::grammar;
use crate::headers::Headers;
use crate::message::{Response, StatusCode};
use crate::uri::{NameAddr, SipUri, Uri};

/// Most 3xx that one call follows.
const MAX_HOPS: usize = 5;
/// Most targets of one call, the first included.
const MAX_TARGETS: usize = 10;

/// Where a call has been, and where it can go still.
pub(crate) struct Targets {
    tried: Vec<SipUri>,
    /// The next one first.
    waiting: Vec<SipUri>,
    hops: usize,
    may_follow: bool,
}

/// Why a 3xx leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeadEnd {
    /// Nobody has agreed to follow, or it is no kind of 3xx that can be followed.
    NotFollowed,
    TooManyHops,
    /// Every contact was tried before.
    Loop,
    /// No contact can be called, or none is as safe as the first target.
    NoTarget,
}

impl DeadEnd {
    /// For people; `None` where the response says enough.
    pub(crate) fn words(self) -> Option<&'static str> {
        match self {
            Self::NotFollowed => None,
            Self::TooManyHops => Some("redirected too often"),
            Self::Loop => Some("redirected in a circle"),
            Self::NoTarget => Some("redirected to no address that can be called, or to a less secure one"),
        }
    }
}

impl Targets {
    pub(crate) fn new(first: SipUri, may_follow: bool) -> Self {
        Self { tried: vec![first], waiting: Vec::new(), hops: 0, may_follow }
    }

    /// Takes the contacts of a 3xx, and says where to go now.
    pub(crate) fn redirected(&mut self, response: &Response) -> Result<SipUri, DeadEnd> {
        // 305 would have a stranger choose our proxy, and 380 describes another service than a call.
        let followable = matches!(response.status.get(), 300..=302);
        if !self.may_follow || !followable {
            return Err(DeadEnd::NotFollowed);
        }
        self.hops += 1;
        if self.hops > MAX_HOPS {
            return Err(DeadEnd::TooManyHops);
        }
        let least = self.tried.first().map_or(Safety::Plain, Safety::of);
        let usable: Vec<SipUri> = contacts(&response.headers)
            .into_iter()
            .filter_map(|contact| match contact.uri {
                // Headers in a contact would be the redirecting server's words in our mouth.
                Uri::Sip(uri) => Some(crate::dialog::as_request_uri(&uri)),
                Uri::Other { .. } => None,
            })
            .filter(|uri| Safety::of(uri) >= least)
            .collect();
        if usable.is_empty() && self.waiting.is_empty() {
            return Err(DeadEnd::NoTarget);
        }
        let known = |targets: &[SipUri], uri: &SipUri| targets.iter().any(|target| target.equivalent(uri));
        let mut fresh: Vec<SipUri> = Vec::new();
        for uri in usable {
            if !known(&self.tried, &uri) && !known(&self.waiting, &uri) && !known(&fresh, &uri) {
                fresh.push(uri);
            }
        }
        // What is new comes before what other redirections left.
        fresh.append(&mut self.waiting);
        self.waiting = fresh;
        self.next().ok_or(DeadEnd::Loop)
    }

    /// The next target after one that failed. One that declined for all its places ends the search (6xx).
    pub(crate) fn after_failure(&mut self, status: Option<StatusCode>) -> Option<SipUri> {
        if status.is_some_and(|status| status.get() >= 600) {
            return None;
        }
        self.next()
    }

    fn next(&mut self) -> Option<SipUri> {
        if self.waiting.is_empty() || self.tried.len() >= MAX_TARGETS {
            return None;
        }
        let next = self.waiting.remove(0);
        self.tried.push(next.clone());
        Some(next)
    }
}

/// How well a URI protects signalling on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Safety {
    Plain,
    /// TLS to the next hop.
    Hop,
    /// TLS all the way (RFC 3261 section 26.2.2).
    Way,
}

impl Safety {
    fn of(uri: &SipUri) -> Self {
        let transport = uri.params.value("transport").unwrap_or_default();
        if uri.secure {
            Self::Way
        } else if ["tls", "wss"].iter().any(|safe| transport.eq_ignore_ascii_case(safe)) {
            Self::Hop
        } else {
            Self::Plain
        }
    }
}

/// The contacts of a response, the most wanted first: by `q`, then as they stand. None where they cannot be read.
pub(crate) fn contacts(headers: &Headers) -> Vec<NameAddr> {
    let mut contacts = headers.contacts().unwrap_or_default();
    contacts.sort_by_key(|contact| std::cmp::Reverse(q(contact.params.value("q"))));
    contacts
}

/// A q value in thousandths (RFC 3261 section 25.1); 1 where there is none or it makes no sense.
fn q(value: Option<&str>) -> u32 {
    const ONE: u32 = 1000;
    let Some(value) = value else { return ONE };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    match (grammar::number(whole, 1), grammar::number(&thousandths, 999)) {
        (Some(0), Some(thousandths)) => thousandths,
        _ => ONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(text: &str) -> SipUri {
        match text.parse() {
            Ok(Uri::Sip(uri)) => uri,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn response(code: u16, contacts: &str) -> Response {
        let text = format!(
            "SIP/2.0 {code} x\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
             Call-ID: 1\r\nCSeq: 1 INVITE\r\nContact: {contacts}\r\nContent-Length: 0\r\n\r\n"
        );
        match crate::wire::read_datagram(text.as_bytes()) {
            Ok(Some(crate::Message::Response(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    fn order(mut targets: Targets, code: u16, contacts: &str) -> Vec<String> {
        let first = targets.redirected(&response(code, contacts));
        let mut order: Vec<_> = first.iter().map(|uri| Uri::Sip(uri.clone()).to_string()).collect();
        while let Some(uri) = targets.after_failure(StatusCode::new(404)) {
            order.push(Uri::Sip(uri).to_string());
        }
        order
    }

    #[test]
    fn contacts_are_tried_by_their_q_value_then_as_they_stand() {
        let targets = Targets::new(sip("sip:b@b"), true);
        let list =
            "<sip:1@c>;q=0.5, <sip:2@c>;q=0.75, <sip:3@c>, <sip:4@c>;q=1.000, <sip:5@c>;q=0.7, <tel:+1>";
        assert_eq!(order(targets, 302, list), ["sip:3@c", "sip:4@c", "sip:2@c", "sip:5@c", "sip:1@c"]);
    }

    #[test]
    fn nobody_is_called_twice() {
        let mut targets = Targets::new(sip("sip:b@b"), true);
        let circle = response(302, "<sip:b@B>, <sip:b@b;x=1>");
        assert_eq!(targets.redirected(&circle), Err(DeadEnd::Loop));
        assert_eq!(order(targets, 302, "<sip:c@c>, <sip:c@C>;q=0.1, <sip:b@b>"), ["sip:c@c"]);
    }

    #[test]
    fn the_search_finds_an_end() {
        let mut targets = Targets::new(sip("sip:b@b"), true);
        for hop in 1..=MAX_HOPS {
            assert!(targets.redirected(&response(302, &format!("<sip:{hop}@c>"))).is_ok());
        }
        assert_eq!(targets.redirected(&response(302, "<sip:99@c>")), Err(DeadEnd::TooManyHops));
        let list: Vec<String> = (0..30).map(|n| format!("<sip:{n}@c>")).collect();
        assert_eq!(order(Targets::new(sip("sip:b@b"), true), 300, &list.join(",")).len(), MAX_TARGETS - 1);
    }

    #[test]
    fn a_less_secure_contact_is_never_taken() {
        for (first, contact, taken) in [
            ("sips:b@b", "sip:c@c", false),
            ("sips:b@b", "sip:c@c;transport=tls", false),
            ("sips:b@b", "sips:c@c", true),
            ("sip:b@b;transport=tls", "sip:c@c", false),
            ("sip:b@b;transport=tls", "sip:c@c;transport=TLS", true),
            ("sip:b@b;transport=tls", "sips:c@c", true),
            ("sip:b@b", "sips:c@c", true),
        ] {
            let result = Targets::new(sip(first), true).redirected(&response(302, &format!("<{contact}>")));
            assert_eq!(result.is_ok(), taken, "{first} {contact}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_not() {
        let followed = |code, may_follow| {
            Targets::new(sip("sip:b@b"), may_follow).redirected(&response(code, "<sip:c@c>"))
        };
        assert!(followed(300, true).is_ok() && followed(301, true).is_ok());
        assert_eq!(followed(302, false), Err(DeadEnd::NotFollowed));
        assert_eq!(followed(305, true), Err(DeadEnd::NotFollowed));
        assert_eq!(followed(380, true), Err(DeadEnd::NotFollowed));
        let mut targets = Targets::new(sip("sip:b@b"), true);
        assert_eq!(targets.redirected(&response(302, "<tel:+1>")), Err(DeadEnd::NoTarget));
        assert_eq!(targets.redirected(&response(302, "nonsense")), Err(DeadEnd::NoTarget));
    }

    #[test]
    fn a_headers_part_of_a_contact_is_left_out() {
        let mut targets = Targets::new(sip("sip:b@b"), true);
        let target = targets.redirected(&response(302, "<sip:c@c;method=BYE?Replaces=1>")).unwrap();
        assert_eq!(Uri::Sip(target).to_string(), "sip:c@c");
    }

    #[test]
    fn a_global_refusal_ends_the_search() {
        let mut targets = Targets::new(sip("sip:b@b"), true);
        targets.redirected(&response(302, "<sip:c@c>, <sip:d@d>")).unwrap();
        assert_eq!(targets.after_failure(StatusCode::new(603)), None);
        assert!(targets.after_failure(None).is_some());
    }

    #[test]
    fn q_values_are_thousandths() {
        for (text, value) in
            [("1", 1000), ("0", 0), ("0.5", 500), ("0.057", 57), ("1.0", 1000), ("2", 1000), ("x", 1000)]
        {
            assert_eq!(q(Some(text)), value, "{text}");
        }
        assert_eq!(q(None), 1000);
    }
}
