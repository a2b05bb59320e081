//! `org.voipd.Manager1`: the telephone as a whole.

use voipd_agent::view::CallId;
use voipd_agent::{AccountId, Neighbour, built_codecs};
use voipd_dbus::{Error, names};
use voipd_media::Codec;
use zbus::message::Body;
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::conference;
use super::options::{Options, Received, entries};
use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, invalid, nothing, unknown_method};
use super::tree::{Object, Tree};
use crate::api::Request;
use crate::config::account;
use crate::doctor::Check;

/// Longest target of a call in bytes: far more than an address needs.
const LONGEST_TARGET: usize = 1024;

pub(super) fn properties(tree: &Tree) -> Dict {
    let accounts: Vec<_> = tree.accounts.keys().map(|id| Object::Account(*id).path()).collect();
    let calls: Vec<_> = tree.calls.keys().map(|id| Object::Call(*id).path()).collect();
    let conferences: Vec<_> = tree.conferences.keys().map(|id| Object::Conference(*id).path()).collect();
    let nobody = || ObjectPath::from_static_str_unchecked("/");
    let speaker = tree.speaker.map_or_else(nobody, |call| Object::Call(call).path());
    Dict::from([
        ("Version", env!("CARGO_PKG_VERSION").into()),
        ("Codecs", built_codecs().map(Codec::name).collect::<Vec<_>>().into()),
        ("Scope", tree.scope.to_string().into()),
        ("DoNotDisturb", tree.do_not_disturb.into()),
        ("DialTone", tree.dial_tone.into()),
        ("Accounts", accounts.into()),
        ("Calls", calls.into()),
        ("Conferences", conferences.into()),
        ("ActiveSpeaker", speaker.into()),
        ("Neighbours", tree.neighbours.iter().map(neighbour).collect::<Vec<_>>().into()),
    ])
}

fn neighbour(neighbour: &Neighbour) -> Dict {
    Dict::from([("name", neighbour.name.clone().into()), ("address", neighbour.address.to_string().into())])
}

pub(super) fn call(requests: &Requests, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "Dial" => {
            let (target, options): (String, Received) = arguments(member, "a target and options", body)?;
            if target.is_empty() || target.len() > LONGEST_TARGET {
                return Err(invalid(
                    "the target is empty or too long: give a SIP address, such as sip:bob@example.org",
                ));
            }
            let mut options = Options::new(options);
            let account = options.account("account")?;
            let sound = options.sound()?;
            let codecs = options.codecs("codecs")?;
            let anonymous = options.flag("anonymous")?.unwrap_or(false);
            let follow = options.flag("follow")?.unwrap_or(false);
            options.finish()?;
            requests.ask(
                |reply| Request::Dial { target, account, sound, codecs, anonymous, follow, reply },
                |call| Ok(Reply::Path(Object::Call(call).path())),
            )
        }
        "AddAccount" => {
            let settings: Received = arguments(member, "the account's settings", body)?;
            let settings = account::from_entries(entries(settings)).map_err(|faults| {
                let sentences: Vec<String> =
                    faults.iter().map(|fault| format!("{} {}", fault.key, fault.message)).collect();
                invalid(sentences.join("; "))
            })?;
            requests.ask(
                |reply| Request::AddAccount { settings: Box::new(settings), reply },
                |account| Ok(Reply::Path(Object::Account(account).path())),
            )
        }
        "RemoveAccount" => {
            let path: OwnedObjectPath = arguments(member, "the path of an account", body)?;
            let number = names::account_number(path.as_str()).ok_or_else(|| -> Failure {
                Box::new(Error::NoSuchAccount(format!(
                    "{path} is no account: the property Accounts of /org/voipd lists them"
                )))
            })?;
            requests.order(|reply| Request::RemoveAccount { account: AccountId(number), reply })
        }
        "OpenConference" => conference::open(requests, member, body),
        "Trace" => {
            let options: Received = arguments(member, "options", body)?;
            let mut options = Options::new(options);
            let call = options.number("call")?.map(CallId);
            options.finish()?;
            requests.ask(|reply| Request::Trace { call, reply }, |file| Ok(Reply::File(file.into())))
        }
        "Diagnose" => {
            nothing(member, body)?;
            let checks = |checks: Vec<Check>| Ok(Reply::Dicts(checks.into_iter().map(check).collect()));
            requests.ask(|reply| Request::Diagnose { reply }, checks)
        }
        _ => Err(unknown_method(member)),
    }
}

fn check(check: Check) -> Dict {
    Dict::from([
        ("id", check.id.into()),
        ("state", check.state.name().into()),
        ("sentence", check.sentence.into()),
        ("remedy", check.remedy.into()),
    ])
}

pub(super) fn set(
    requests: &Requests,
    property: &str,
    value: &Variant<'_>,
) -> Option<Result<Outcome, Failure>> {
    match (property, value) {
        ("DoNotDisturb", Variant::Bool(on)) => {
            Some(requests.order(|reply| Request::SetDoNotDisturb { on: *on, reply }))
        }
        ("DialTone", Variant::Bool(on)) => {
            Some(requests.order(|reply| Request::SetDialTone { on: *on, reply }))
        }
        ("DialTone", _) => Some(Err(invalid("DialTone is a boolean (b): write true or false"))),
        ("DoNotDisturb", _) => Some(Err(invalid("DoNotDisturb is a boolean (b): write true or false"))),
        _ => None,
    }
}
