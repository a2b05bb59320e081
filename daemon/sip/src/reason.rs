//! The Reason header field (RFC 3326, RFC 6432): why a session or an INVITE was ended, in SIP's words and in those of
//! the telephone network.

use std::fmt;

use crate::grammar::{self, MAX_LIST, Scanner, Why};
use crate::headers::{Headers, name};
use crate::uri::Params;

/// Whose numbers a cause is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Status codes.
    Sip,
    /// Causes of ITU-T Q.850, 1 to 127.
    Q850,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Whose number `cause` is.
    pub protocol: Protocol,
    /// The number; `None` where it is missing or out of range.
    pub cause: Option<u16>,
    /// For people; may be empty.
    pub text: String,
}

impl Reason {
    /// Another callee has answered (RFC 3326 section 3.1).
    pub fn answered_elsewhere() -> Self {
        Self { protocol: Protocol::Sip, cause: Some(200), text: "Call completed elsewhere".to_owned() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            Protocol::Sip => "SIP",
            Protocol::Q850 => "Q.850",
        })?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        if !self.text.is_empty() {
            write!(f, ";text={}", grammar::quoted(&self.text))?;
        }
        Ok(())
    }
}

/// The reasons that a peer gives: the first of each protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// In SIP's words.
    pub sip: Option<Reason>,
    /// In those of the telephone network.
    pub q850: Option<Reason>,
}

impl Reasons {
    /// The reasons of a message. Values of other protocols are passed over, and so is the rest of a field from the first
    /// value on that cannot be read.
    pub fn of(headers: &Headers) -> Self {
        let mut reasons = Self::default();
        for field in headers.get_all(name::REASON) {
            let mut values = Vec::new();
            // What was read before a fault counts.
            _ = Scanner::new(field).list(&mut values, MAX_LIST, read);
            for reason in values.into_iter().flatten() {
                let place = match reason.protocol {
                    Protocol::Sip => &mut reasons.sip,
                    Protocol::Q850 => &mut reasons.q850,
                };
                place.get_or_insert(reason);
            }
        }
        reasons
    }

    /// The SIP status.
    pub(crate) fn status(&self) -> Option<u16> {
        self.sip.as_ref().and_then(|reason| reason.cause)
    }

    /// The cause of Q.850.
    pub(crate) fn q850_cause(&self) -> Option<u16> {
        self.q850.as_ref().and_then(|reason| reason.cause)
    }

    /// The words of one of them.
    pub(crate) fn text(&self) -> Option<String> {
        let texts = [&self.sip, &self.q850].into_iter().flatten().map(|reason| &reason.text);
        texts.into_iter().find(|text| !text.is_empty()).cloned()
    }
}

/// One value of the list; `None` for another protocol.
fn read(scanner: &mut Scanner<'_>) -> Result<Option<Reason>, Why> {
    let protocol = scanner.token().ok_or("a reason names no protocol")?;
    let mut params = Params::default();
    scanner.header_params(&mut params)?;
    let (protocol, range) = match protocol.to_ascii_uppercase().as_str() {
        "SIP" => (Protocol::Sip, 100..=699),
        "Q.850" => (Protocol::Q850, 1..=127),
        _ => return Ok(None),
    };
    let cause = params.value("cause").and_then(|cause| grammar::number(cause, 699));
    Ok(Some(Reason {
        protocol,
        cause: cause.and_then(|cause| u16::try_from(cause).ok()).filter(|cause| range.contains(cause)),
        text: params.value("text").unwrap_or_default().to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Reasons {
        let mut headers = Headers::default();
        values.iter().for_each(|value| headers.push(name::REASON, *value));
        Reasons::of(&headers)
    }

    #[test]
    fn the_first_reason_of_each_protocol_counts() {
        let reasons = of(&[
            r#"Q.850;cause=16, SIP ;cause=200 ;text="Call completed; \"elsewhere\", it says""#,
            "SIP;cause=480",
        ]);
        assert_eq!((reasons.status(), reasons.q850_cause()), (Some(200), Some(16)));
        assert_eq!(reasons.text().as_deref(), Some("Call completed; \"elsewhere\", it says"));
        assert_eq!(of(&["preemption;cause=1;text=\"x\"", "sip;CAUSE=480"]).status(), Some(480));
    }

    #[test]
    fn nonsense_gives_nothing() {
        assert_eq!(of(&[]), Reasons::default());
        assert_eq!(of(&["Q.850;cause=16;text=\"a,SIP;cause=1"]), Reasons::default());
        assert_eq!(of(&["SIP;cause=99999999;text=\"\""]).status(), None);
        assert_eq!(of(&["SIP;cause=99"]).status(), None);
        assert_eq!(of(&["Q.850;cause=0, SIP;cause=+200"]).q850_cause(), None);
        assert_eq!(of(&["Q.850;cause=128"]).q850_cause(), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let reason =
            Reason { protocol: Protocol::Q850, cause: Some(19), text: "no \"answer\", sorry;".to_owned() };
        assert_eq!(of(&[&reason.to_string()]).q850, Some(reason));
        let elsewhere = Reason::answered_elsewhere();
        assert_eq!(elsewhere.to_string(), "SIP;cause=200;text=\"Call completed elsewhere\"");
        assert_eq!(of(&[&elsewhere.to_string()]).sip, Some(elsewhere));
    }
}
