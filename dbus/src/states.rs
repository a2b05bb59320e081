//! States and reasons as they are written on the bus.

/// Defines an enum whose variants are words on the bus.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word on the bus.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the word means; `None` for a word that this version does not know.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// State of a call, `Call1.State`.
    CallState {
        /// Outbound: sent, no word from the peer yet.
        Dialing = "dialing",
        /// Outbound: the peer rings.
        Ringing = "ringing",
        /// Outbound: the peer sends sound before it answers.
        Early = "early",
        /// Inbound: rings here.
        Incoming = "incoming",
        /// Both sides can talk.
        Active = "active",
        /// On hold by either side.
        Held = "held",
        /// Over.
        Ended = "ended",
    }
}

words! {
    /// Why a call ended or changed its state, `Call1.EndReason` and `Call1.Reason`.
    Reason {
        /// This side did it.
        Local = "local",
        /// The peer did it.
        Remote = "remote",
        /// The peer is busy.
        Busy = "busy",
        /// The peer does not want the call.
        Declined = "declined",
        /// Nobody answered in time.
        NoAnswer = "no-answer",
        /// The caller gave up.
        Cancelled = "cancelled",
        /// Nothing could be sent, or nothing answered.
        Unreachable = "unreachable",
        /// The server's certificate has expired.
        CertificateExpired = "certificate-expired",
        /// The server's certificate is not valid yet; most often this machine's clock is wrong.
        CertificateNotYetValid = "certificate-not-yet-valid",
        /// The server's certificate is for another name.
        CertificateWrongName = "certificate-wrong-name",
        /// The server's certificate is signed by nobody known here.
        CertificateUnknownIssuer = "certificate-unknown-issuer",
        /// The server's certificate is not the pinned one.
        CertificateNotPinned = "certificate-not-pinned",
        /// The server's certificate was revoked, is for another purpose, or cannot be read.
        CertificateUnfit = "certificate-unfit",
        /// The server does not accept this account's client certificate, or asks for one.
        ClientCertificate = "client-certificate",
        /// The two ends have no TLS in common, or the server speaks none.
        TlsFailed = "tls-failed",
        /// The host's name was not found.
        Unresolvable = "unresolvable",
        /// The peer fell silent in mid-call.
        Network = "network",
        /// No codec fits both sides.
        NoCommonCodec = "no-common-codec",
        /// The peer wants encrypted media, and the account has none.
        EncryptionRequired = "encryption-required",
        /// The server does not know the peer.
        NotFound = "not-found",
        /// User name or password was refused.
        Credentials = "credentials",
        /// The daemon's settings forbid it.
        Policy = "policy",
        /// The peer broke the protocol.
        Protocol = "protocol",
        /// Refused with the SIP status, for another reason.
        Rejected = "rejected",
        /// Somebody else answered the call.
        AnsweredElsewhere = "answered-elsewhere",
        /// The peer is somewhere else, and nobody agreed to follow.
        Redirected = "redirected",
    }
}

words! {
    /// State of an account, `Account1.State`.
    AccountState {
        /// Not enabled.
        Disabled = "disabled",
        /// Enabled, and nothing to register.
        Ready = "ready",
        /// Enabled, without a registration.
        Unregistered = "unregistered",
        /// A first registration is under way.
        Registering = "registering",
        /// The server sends calls here.
        Registered = "registered",
        /// The last try to register failed.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a property's documentation.
    fn documented(interface: &str, property: &str) -> String {
        let (_, xml) = crate::XML.iter().find(|(name, _)| *name == interface).unwrap();
        let from = xml.find(&format!("<property name=\"{property}\"")).unwrap();
        let length = xml[from..].find("</property>").unwrap();
        xml[from..from + length].split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_word_is_explained_in_the_contract() {
        let state = documented(crate::names::CALL, "State");
        CallState::ALL.iter().for_each(|word| assert!(state.contains(&format!("{word}: ")), "{word}"));
        let reason = documented(crate::names::CALL, "EndReason");
        Reason::ALL.iter().for_each(|word| assert!(reason.contains(&format!("{word}: ")), "{word}"));
        let state = documented(crate::names::ACCOUNT, "State");
        AccountState::ALL.iter().for_each(|word| assert!(state.contains(&format!("{word}: ")), "{word}"));
    }

    #[test]
    fn words_are_read_back() {
        Reason::ALL.iter().for_each(|r| assert_eq!(Reason::from_word(r.as_str()), Some(*r)));
        assert_eq!(Reason::from_word("Busy"), None);
    }
}
