//! `voipctl wait`: blocks until something is so.

use serde_json::{Value, json};
use voipd_dbus::{AccountState, CallState, names};

use crate::cli::{WaitArgs, WaitFor, seconds};
use crate::daemon::Daemon;
use crate::dial::end_words;
use crate::events::{Event, Events};
use crate::exit::{Exit, Failure};
use crate::objects::{Object, Snapshot};
use crate::output::Output;

pub(crate) async fn run(daemon: &Daemon, out: Output, args: WaitArgs) -> Result<(), Failure> {
    let limit = args.timeout.map(|value| seconds(value, "--timeout")).transpose()?;
    if args.account.is_some() && args.what != WaitFor::Registered {
        return Err(Failure::usage("--account goes with 'wait registered' only."));
    }
    if args.call.is_some() && args.what == WaitFor::Registered {
        return Err(Failure::usage("--call goes with 'wait active' and 'wait ended' only."));
    }
    let waiting = wait(daemon, &args);
    let objects = match limit {
        None => waiting.await?,
        Some(limit) => match tokio::time::timeout(limit, waiting).await {
            Ok(objects) => objects?,
            Err(_) => return Err(Failure::new(Exit::Timeout, "the time of --timeout passed.")),
        },
    };
    if out.json {
        return out.document(&objects.iter().map(Object::to_json).collect::<Value>());
    }
    if args.what == WaitFor::Active {
        // What a script needs next.
        objects.iter().try_for_each(|call| out.line(&call.path))?;
    }
    Ok(())
}

async fn wait(daemon: &Daemon, args: &WaitArgs) -> Result<Vec<Object>, Failure> {
    let named = args.call.as_ref().map(|call| call.path());
    // Asked for first, so that nothing happens unseen between the look and the wait.
    let mut events = daemon.events().await?;
    let mut snapshot = daemon.snapshot().await?;
    loop {
        let now = match args.what {
            WaitFor::Registered => registered(&snapshot, args.account.as_deref())?,
            WaitFor::Active => active(&snapshot, named.as_deref())?,
            WaitFor::Ended => ended(&snapshot, named.as_deref())?,
        };
        if let Some(objects) = now {
            return Ok(objects);
        }
        if let Some(path) = change(&mut events, args.what, named.as_deref()).await? {
            // It may be active no more when the next look is taken.
            return Ok(vec![snapshot_of(daemon, path).await]);
        }
        snapshot = daemon.snapshot().await?;
    }
}

/// Waits for something after which to look again; the path of a call when it became active and that was waited for.
async fn change(events: &mut Events, what: WaitFor, named: Option<&str>) -> Result<Option<String>, Failure> {
    loop {
        match events.next().await {
            Event::Gone => return Err(Failure::gone()),
            Event::StateChanged { path, interface, new, .. } => {
                let meant = interface == names::CALL && named.is_none_or(|named| named == path);
                let active = what == WaitFor::Active && new == CallState::Active.as_str();
                return Ok((meant && active).then_some(path));
            }
            Event::Added { .. } | Event::Removed { .. } | Event::Changed { .. } => return Ok(None),
            _ => {}
        }
    }
}

async fn snapshot_of(daemon: &Daemon, path: String) -> Object {
    let properties = daemon.properties(&path, names::CALL).await.unwrap_or_default();
    Object { path, properties }
}

/// The accounts when all that are meant are registered.
fn registered(snapshot: &Snapshot, name: Option<&str>) -> Result<Option<Vec<Object>>, Failure> {
    let meant: Vec<&Object> = match name {
        Some(name) => vec![snapshot.account(name)?],
        None => snapshot.accounts.iter().filter(|a| a.flag("Enabled") && a.flag("Registers")).collect(),
    };
    if meant.is_empty() {
        return Err(Failure::failed(
            "there is no enabled account that registers. 'voipctl account list' shows the accounts.",
        ));
    }
    for account in &meant {
        let name = account.text("Name");
        match (account.account_state(), account.text("Reason")) {
            (Some(AccountState::Disabled), _) => {
                let sentence =
                    format!("account '{name}' is disabled. 'voipctl account enable {name}' enables it.");
                return Err(Failure::failed(sentence));
            }
            (Some(AccountState::Ready), _) => {
                return Err(Failure::failed(format!("account '{name}' is not set to register.")));
            }
            // Further tries with the same password end the same way.
            (Some(AccountState::Failed), reason) => {
                if let Some(why) = refusal(reason) {
                    return Err(Failure::new(Exit::Credentials, format!("account '{name}': {why}")));
                }
                if Exit::of_call(reason, false) == Exit::TlsFailed {
                    let sentence = format!("account '{name}': {}.", end_words(reason, 0, false));
                    return Err(Failure::new(Exit::TlsFailed, sentence));
                }
            }
            _ => {}
        }
    }
    let done = meant.iter().all(|account| account.account_state() == Some(AccountState::Registered));
    Ok(done.then(|| meant.into_iter().cloned().collect()))
}

/// What the server asks of the account and does not get, where further tries end the same way.
fn refusal(reason: &str) -> Option<&'static str> {
    match reason {
        "credentials" | "foreign-realm" => Some("the server refused the user name or the password."),
        "weak-digest" => Some(
            "the server knows nothing better than MD5, and the account's 'allow-md5 = false' refuses that.",
        ),
        "unknown-digest" => Some("the server asks for a proof of the password that voipd does not know."),
        _ => None,
    }
}

/// The call that is active; an error when the one that is meant can no longer become so.
fn active(snapshot: &Snapshot, named: Option<&str>) -> Result<Option<Vec<Object>>, Failure> {
    if let Some(path) = named {
        let call = find(snapshot, path)?;
        return match call.call_state() {
            Some(CallState::Active) => Ok(Some(vec![call.clone()])),
            Some(CallState::Ended) => {
                let answered = call.number("AnsweredAt") != 0;
                // An answered call was active, and is no more: not what was waited for.
                let exit = match Exit::of_call(call.text("EndReason"), answered) {
                    Exit::Ok => Exit::Failed,
                    exit => exit,
                };
                Err(Failure::new(exit, format!("call {} has ended: {}.", call.id(), call.text("EndReason"))))
            }
            _ => Ok(None),
        };
    }
    let is_active = |call: &&Object| call.call_state() == Some(CallState::Active);
    Ok(snapshot.calls.iter().find(is_active).map(|call| vec![call.clone()]))
}

/// The calls when all that are meant have ended. The one that is named also tells how it ended.
fn ended(snapshot: &Snapshot, named: Option<&str>) -> Result<Option<Vec<Object>>, Failure> {
    let over = |call: &Object| call.call_state() == Some(CallState::Ended);
    if let Some(path) = named {
        let call = find(snapshot, path)?;
        if !over(call) {
            return Ok(None);
        }
        let exit = Exit::of_call(call.text("EndReason"), call.number("AnsweredAt") != 0);
        return match exit {
            Exit::Ok => Ok(Some(vec![call.clone()])),
            exit => {
                Err(Failure::new(exit, format!("call {} has ended: {}.", call.id(), call.text("EndReason"))))
            }
        };
    }
    Ok(snapshot.calls.iter().all(over).then(|| snapshot.calls.clone()))
}

fn find<'s>(snapshot: &'s Snapshot, path: &str) -> Result<&'s Object, Failure> {
    let gone = || {
        let number = json!(names::call_number(path));
        Failure::failed(format!("there is no call {number}, or it ended more than 30 seconds ago."))
    };
    snapshot.calls.iter().find(|call| call.path == path).ok_or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    fn account(name: &str, state: &str, reason: &str) -> Object {
        call(1, &[("Name", name), ("State", state), ("Reason", reason)], &["Enabled", "Registers"])
    }

    fn accounts(accounts: Vec<Object>) -> Snapshot {
        Snapshot { accounts, ..Snapshot::default() }
    }

    fn calls(calls: Vec<Object>) -> Snapshot {
        Snapshot { calls, ..Snapshot::default() }
    }

    #[test]
    fn all_accounts_that_register_must_be_registered() {
        let waiting = accounts(vec![account("a", "registered", ""), account("b", "registering", "")]);
        assert!(registered(&waiting, None).unwrap().is_none());
        assert_eq!(registered(&waiting, Some("a")).unwrap().unwrap().len(), 1);
        let retrying = accounts(vec![account("a", "failed", "timeout")]);
        assert!(registered(&retrying, None).unwrap().is_none());
    }

    #[test]
    fn what_cannot_become_registered_is_not_waited_for() {
        let refused = accounts(vec![account("a", "failed", "credentials")]);
        assert_eq!(registered(&refused, None).unwrap_err().exit, Exit::Credentials);
        assert!(registered(&accounts(Vec::new()), None).is_err());
        assert!(registered(&accounts(vec![account("a", "disabled", "")]), Some("a")).is_err());
        assert!(registered(&accounts(vec![account("a", "ready", "")]), Some("a")).is_err());
        assert!(registered(&accounts(vec![account("a", "registered", "")]), Some("b")).is_err());
    }

    #[test]
    fn a_call_that_ends_instead_of_becoming_active_gives_its_code() {
        let path = names::call_path(3);
        let state = |state, reason| calls(vec![call(3, &[("State", state), ("EndReason", reason)], &[])]);
        assert!(active(&state("ringing", ""), Some(&path)).unwrap().is_none());
        assert!(active(&state("active", ""), Some(&path)).unwrap().is_some());
        assert_eq!(active(&state("ended", "busy"), Some(&path)).unwrap_err().exit, Exit::Busy);
        assert_eq!(active(&state("active", ""), Some("/org/voipd/call/9")).unwrap_err().exit, Exit::Failed);
        assert!(active(&state("ended", "busy"), None).unwrap().is_none());
    }

    #[test]
    fn ended_means_all_calls_or_the_one_that_is_named() {
        let mut talk = call(3, &[("State", "ended"), ("EndReason", "remote")], &[]);
        talk.properties.insert("AnsweredAt".into(), 7u64.into());
        let both = calls(vec![talk.clone(), call(4, &[("State", "active")], &[])]);
        assert!(ended(&both, None).unwrap().is_none());
        assert!(ended(&both, Some(&names::call_path(3))).unwrap().is_some());
        assert!(ended(&both, Some(&names::call_path(4))).unwrap().is_none());
        assert!(ended(&calls(vec![talk]), None).unwrap().is_some());
        assert!(ended(&calls(Vec::new()), None).unwrap().is_some());
        let refused = calls(vec![call(5, &[("State", "ended"), ("EndReason", "not-found")], &[])]);
        assert_eq!(ended(&refused, Some(&names::call_path(5))).unwrap_err().exit, Exit::NotFound);
    }
}
