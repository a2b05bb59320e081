//! Why offer and answer did not meet, and what that is in SIP; every text is fit for a log line and a header.

/// Why no agreement came about. Each maps to a SIP status with [`NegotiationError::status`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// The peer's text is no session description, or breaks the rules of offer/answer.
    #[error("the session description cannot be read: {0}")]
    Malformed(String),
    /// No audio line, or only with port 0.
    #[error("no audio stream is offered")]
    NoAudio,
    /// Each side's codecs by name.
    #[error("no common codec: the peer has {theirs}, this account has {ours}")]
    NoCommonCodec {
        /// What the peer named.
        theirs: String,
        /// What this account may use.
        ours: String,
    },
    /// SAVP, alone or in one of its kinds: the peer wants its media encrypted.
    #[error("the peer wants encrypted media ({0}), and this account has none")]
    Encryption(String),
    /// Another profile that is not built.
    #[error("the media profile {0} is not supported")]
    Profile(String),
    /// A host name, a multicast group, or another IP version than ours.
    #[error("the address type of the peer's media is not supported: {0}")]
    Address(String),
    /// An answer without an offer of ours, or the wish to answer without an offer of the peer's.
    #[error("an answer came without an offer")]
    Unexpected,
}

impl NegotiationError {
    /// The SIP status for a refused offer and its Warning code (RFC 3261 section 20.43).
    pub const fn status(&self) -> (u16, u16) {
        match self {
            // 307: session description parameter not understood.
            NegotiationError::Malformed(_) => (400, 307),
            // 304: media type not available.
            NegotiationError::NoAudio => (488, 304),
            // 305: incompatible media format.
            NegotiationError::NoCommonCodec { .. } => (488, 305),
            // 302: incompatible transport protocol.
            NegotiationError::Encryption(_) | NegotiationError::Profile(_) => (488, 302),
            // 301: incompatible network address formats.
            NegotiationError::Address(_) => (488, 301),
            // 399: miscellaneous.
            NegotiationError::Unexpected => (400, 399),
        }
    }

    pub(crate) fn malformed(reason: impl AsRef<str>) -> Self {
        NegotiationError::Malformed(printable(reason.as_ref()))
    }

    pub(crate) fn profile(protocol: &str) -> Self {
        // RTP/SAVP, RTP/SAVPF (RFC 3711, RFC 5124), and those in UDP/TLS/ and TCP/DTLS/ (RFC 5764).
        let words = protocol.rsplit('/').next().unwrap_or_default();
        match ["SAVP", "SAVPF"].iter().any(|secure| words.eq_ignore_ascii_case(secure)) {
            true => NegotiationError::Encryption(printable(protocol)),
            false => NegotiationError::Profile(printable(protocol)),
        }
    }

    pub(crate) fn address(address: &str) -> Self {
        NegotiationError::Address(printable(address))
    }
}

/// The peer's words in a form that breaks no log line and no header: printable ASCII, at most 80 characters.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 80;
    text.chars().flat_map(char::escape_default).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_a_failure_status_and_a_warning_code() {
        let errors = [
            (NegotiationError::malformed("x"), (400, 307)),
            (NegotiationError::NoAudio, (488, 304)),
            (NegotiationError::NoCommonCodec { theirs: "G729".into(), ours: "PCMU".into() }, (488, 305)),
            (NegotiationError::profile("RTP/SAVP"), (488, 302)),
            (NegotiationError::profile("udptl"), (488, 302)),
            (NegotiationError::address("host.example"), (488, 301)),
            (NegotiationError::Unexpected, (400, 399)),
        ];
        for (error, status) in errors {
            assert_eq!(error.status(), status, "{error}");
        }
    }

    #[test]
    fn the_peers_words_cannot_break_a_line() {
        let shown = printable("a\r\nWarning: \u{1b}[31m\u{202e}\0");
        assert!(shown.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{shown}");
        assert_eq!(printable(&"x".repeat(1000)).len(), 80);
    }
}
