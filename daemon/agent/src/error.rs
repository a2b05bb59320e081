//! What is wrong with a command; each sentence tells a person what to do.

use crate::target::TargetError;
use crate::view::CallState;

/// The caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// No call of that number.
    #[error("there is no call {0}; list the calls to see which there are")]
    NoSuchCall(u32),
    /// No account of that number.
    #[error("there is no such account; list the accounts to see which there are")]
    NoSuchAccount,
    /// No account can place this call.
    #[error("no account can place this call: enable one, or the built-in account 'direct'")]
    NoUsableAccount,
    /// The account is switched off.
    #[error("the account '{0}' is disabled; enable it first")]
    AccountDisabled(String),
    /// The account has no server to register with.
    #[error("the account '{0}' does not register: it has no sip: address")]
    DoesNotRegister(String),
    /// A built-in or configured account cannot be removed.
    #[error("the account '{0}' comes from the configuration; disable it, or take it out of the file")]
    NotRemovable(String),
    /// Names are unique.
    #[error("there is an account '{0}' already; remove it first or choose another name")]
    AlreadyExists(String),
    /// The target is no address.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The call is not in a state that allows it.
    #[error("{what} is not possible: the call is {}", .state.name())]
    WrongState {
        /// What was asked for.
        what: &'static str,
        /// Where the call is.
        state: CallState,
    },
    /// A dial tone in somebody's ear who listens to something else.
    #[error("there is no dial tone while a call is at the sound device: hold it or hang it up first")]
    DeviceInUse,
    /// Another way for media is found by ICE alone.
    #[error("the call {0} does not use ICE: its media can only go where the peer says")]
    NoIce(u32),
    /// A limit of the configuration.
    #[error("there are {0} calls already, and no more are allowed; end one first")]
    TooManyCalls(usize),
    /// A limit for each call.
    #[error(
        "{0} files and programs have joined the call already, and no more are allowed; end one of them first"
    )]
    TooManyPorts(usize),
    /// No conference of that number.
    #[error("there is no conference {0}; list the conferences to see which there are")]
    NoSuchConference(u32),
    /// The call is not a member.
    #[error("the call {call} is not in the conference {conference}; let it join first")]
    NotInConference {
        /// The call.
        call: u32,
        /// The conference.
        conference: u32,
    },
    /// More conferences than anybody has use for.
    #[error("there are {0} conferences already, and no more are allowed; end one first")]
    TooManyConferences(usize),
    /// More accounts than anybody has use for.
    #[error("there are {0} accounts already, and no more are allowed; remove one first")]
    TooManyAccounts(usize),
    /// Not a digit.
    #[error("'{}' is no DTMF digit: use 0-9, *, #, A-D, and ',' for a pause of 2 seconds", .0.escape_debug())]
    BadDigit(char),
    /// More digits than are kept waiting.
    #[error("these are too many digits: no more than {0} can wait to be sent")]
    TooManyDigits(usize),
    /// The peer takes no digits in the way that the account sends them.
    #[error(
        "the peer takes no DTMF digits in this call: it did not agree to telephone-event, and INFO is not possible \
         either, or the account's dtmf setting excludes it"
    )]
    NoDtmf,
    /// The account's settings, or the call's, leave the codec out.
    #[error("the call does not have the codec {0} among its codecs: add it to those of its account")]
    CodecNotAllowed(&'static str),
    /// Leave to follow was given, and the account never follows.
    #[error(
        "the account '{0}' never follows redirections: set its redirect to \"ask\", or call without follow"
    )]
    RedirectionForbidden(String),
}
