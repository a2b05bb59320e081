//! How voipctl ends: exit codes that scripts can tell apart, and the sentence that goes with a failure.

use voipd_dbus::{Error, Reason};

/// Exit codes. They are part of the interface: scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    Usage,
    NoDaemon,
    NotAnswered,
    Timeout,
    Warnings,
    Faults,
    Busy,
    Declined,
    NoAnswer,
    Unreachable,
    NoCommonCodec,
    EncryptionRequired,
    NotFound,
    Credentials,
    Policy,
    Protocol,
    Rejected,
    Network,
    Redirected,
    TlsFailed,
    BrokenPipe,
}

impl Exit {
    /// Every code with what it means, in the order of `--help`.
    pub(crate) const ALL: &[(Self, u8, &str)] = &[
        (Self::Ok, 0, "done; for a call: it was answered, and someone hung up"),
        (Self::Failed, 1, "voipd refused, or something failed; a sentence on standard error says what to do"),
        (Self::Usage, 2, "the command line is wrong"),
        (Self::NoDaemon, 3, "voipd does not run, went away, or runs on both buses"),
        (
            Self::NotAnswered,
            4,
            "the call ended before it was answered here: hung up, given up by the caller, or answered elsewhere",
        ),
        (Self::Timeout, 5, "the time of --timeout passed"),
        (Self::Warnings, 6, "doctor: everything works, and something could be better"),
        (Self::Faults, 7, "doctor: something does not work"),
        (Self::Busy, 10, "the peer is busy"),
        (Self::Declined, 11, "the peer declined the call"),
        (Self::NoAnswer, 12, "nobody answered"),
        (Self::Unreachable, 13, "the peer or its server could not be reached, or its name not be found"),
        (Self::NoCommonCodec, 14, "no codec fits both sides"),
        (Self::NotFound, 15, "the server does not know the peer"),
        (Self::Credentials, 16, "user name or password was refused"),
        (Self::Policy, 17, "voipd's settings forbid the call"),
        (Self::Protocol, 18, "the peer broke the protocol"),
        (Self::Rejected, 19, "the call or the registration was refused for another reason"),
        (Self::Network, 20, "the peer fell silent in mid-call"),
        (Self::EncryptionRequired, 21, "the peer wants encrypted media, and the account has none"),
        (Self::Redirected, 22, "the peer is somewhere else, and --follow was not given"),
        (
            Self::TlsFailed,
            23,
            "no TLS connection: a certificate is not good, or the two sides have no TLS in common",
        ),
        (Self::BrokenPipe, 141, "the reader of the output went away"),
    ];

    /// The number that the process ends with.
    pub(crate) fn code(self) -> u8 {
        Self::ALL.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }

    /// How a call's end is told to a script.
    pub(crate) fn of_call(end_reason: &str, answered: bool) -> Self {
        match Reason::from_word(end_reason) {
            Some(Reason::Local | Reason::Remote) if answered => Self::Ok,
            // A peer that ends a call without an answer gives it up.
            Some(Reason::Local | Reason::Remote | Reason::Cancelled | Reason::AnsweredElsewhere) => {
                Self::NotAnswered
            }
            Some(Reason::Redirected) => Self::Redirected,
            Some(Reason::Busy) => Self::Busy,
            Some(Reason::Declined) => Self::Declined,
            Some(Reason::NoAnswer) => Self::NoAnswer,
            Some(Reason::Unreachable | Reason::Unresolvable) => Self::Unreachable,
            Some(
                Reason::CertificateExpired
                | Reason::CertificateNotYetValid
                | Reason::CertificateWrongName
                | Reason::CertificateUnknownIssuer
                | Reason::CertificateNotPinned
                | Reason::CertificateUnfit
                | Reason::ClientCertificate
                | Reason::TlsFailed,
            ) => Self::TlsFailed,
            Some(Reason::Network) => Self::Network,
            Some(Reason::NoCommonCodec) => Self::NoCommonCodec,
            Some(Reason::EncryptionRequired) => Self::EncryptionRequired,
            Some(Reason::NotFound) => Self::NotFound,
            Some(Reason::Credentials) => Self::Credentials,
            Some(Reason::Policy) => Self::Policy,
            Some(Reason::Protocol) => Self::Protocol,
            Some(Reason::Rejected) => Self::Rejected,
            None => Self::Failed,
        }
    }

    /// The text of `--help` about exit codes.
    pub(crate) fn help() -> String {
        let lines = Self::ALL.iter().map(|(_, code, meaning)| format!("  {code:>3}  {meaning}\n"));
        format!("Exit codes:\n{}", lines.collect::<String>())
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Goes to standard error as `voipctl: …`.
    pub(crate) sentence: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: Some(sentence.into()) }
    }

    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// Everything has been said already.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, sentence: None }
    }

    pub(crate) fn gone() -> Self {
        Self::new(
            Exit::NoDaemon,
            "voipd went away. 'systemctl status voipd', for that of a session 'systemctl --user status voipd', and its \
             journal tell why.",
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        use zbus::fdo;
        if let Error::Bus(zbus::Error::FDO(inner)) = &error {
            match **inner {
                fdo::Error::ServiceUnknown(_)
                | fdo::Error::NameHasNoOwner(_)
                | fdo::Error::Disconnected(_) => {
                    return Self::gone();
                }
                fdo::Error::AccessDenied(_) => {
                    return Self::failed(
                        "you may not use this voipd: only root and members of the group voip may. \
                         'sudo adduser NAME voip' adds someone, from the next login on.",
                    );
                }
                // What the bus says of a call whose callee has left it.
                fdo::Error::NoReply(ref why) if why.contains("disconnected") => return Self::gone(),
                fdo::Error::NoReply(_) | fdo::Error::TimedOut(_) | fdo::Error::Timeout(_) => {
                    return Self::failed("voipd does not answer. Its journal may tell why.");
                }
                _ => {}
            }
        }
        match error {
            Error::Bus(zbus::Error::InputOutput(e)) if e.kind() == std::io::ErrorKind::TimedOut => {
                Self::failed("voipd does not answer. Its journal may tell why.")
            }
            Error::Bus(zbus::Error::InputOutput(_)) => Self::gone(),
            error => Self::failed(error.to_string()),
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Self::from(Error::from(error))
    }
}

impl From<zbus::fdo::Error> for Failure {
    fn from(error: zbus::fdo::Error) -> Self {
        Self::from(Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_named_once() {
        for (index, (_, code, _)) in Exit::ALL.iter().enumerate() {
            let twins = Exit::ALL.iter().filter(|(_, other, _)| other == code).count();
            assert_eq!(twins, 1, "entry {index}");
        }
    }

    #[test]
    fn each_reason_has_a_code_and_only_a_talk_is_a_success() {
        for reason in Reason::ALL {
            let unanswered = Exit::of_call(reason.as_str(), false);
            assert!(!matches!(unanswered, Exit::Ok | Exit::Failed), "{reason}");
        }
        assert_eq!(Exit::of_call("remote", true), Exit::Ok);
        assert_eq!(Exit::of_call("network", true).code(), 20);
        assert_eq!(Exit::of_call("local", false).code(), 4);
        assert_eq!(Exit::of_call("a-word-of-tomorrow", true), Exit::Failed);
    }

    #[test]
    fn the_documentation_lists_the_codes_with_their_meaning() {
        let page = include_str!("../../docs/voipctl.md");
        for (_, code, meaning) in Exit::ALL {
            assert!(page.contains(&format!("| {code} | {meaning} |")), "| {code} | {meaning} |");
        }
    }
}
