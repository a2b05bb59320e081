//! `org.voipd.Friends1`: a meeting point of one's own, and those of others.

use std::time::Duration;

use zbus::message::Body;

use super::options::{Options, Received};
use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, invalid, nothing, unknown_method};
use super::tree::Object;
use crate::api::{FriendView, FriendsRequest, FriendsView, Presence, Request};

/// Longest text of an invitation or name that is looked at, in bytes.
const LONGEST: usize = 1024;
/// How long an invitation opens the door when nothing is said: a week.
const LASTS: u32 = 7 * 86_400;
/// The longest and the shortest time, in seconds.
const LONGEST_LIFE: u32 = 90 * 86_400;
const SHORTEST_LIFE: u32 = 60;

pub(super) fn properties(view: &FriendsView) -> Dict {
    Dict::from([("MeetingPoint", view.enabled.into()), ("Address", view.address.clone().into())])
}

pub(super) fn call(requests: &Requests, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "Invite" => {
            let (name, options): (String, Received) = arguments(member, "a name and options", body)?;
            let name = limited(name, "the name")?;
            let mut options = Options::new(options);
            let lasts = options.number("lasts")?.unwrap_or(LASTS);
            options.finish()?;
            if !(SHORTEST_LIFE..=LONGEST_LIFE).contains(&lasts) {
                return Err(invalid(format!(
                    "an invitation lasts {SHORTEST_LIFE} to {LONGEST_LIFE} seconds, not {lasts}"
                )));
            }
            let lasts = Duration::from_secs(lasts.into());
            requests.ask(
                |reply| Request::Friends(FriendsRequest::Invite { name, lasts, reply }),
                |text| Ok(Reply::Text(text)),
            )
        }
        "Join" => {
            let (invitation, options): (String, Received) =
                arguments(member, "an invitation and options", body)?;
            let invitation = limited(invitation, "the invitation")?;
            let mut options = Options::new(options);
            let account = options.text("account")?;
            options.finish()?;
            requests.ask(
                |reply| Request::Friends(FriendsRequest::Join { invitation, account, reply }),
                |account| Ok(Reply::Path(Object::Account(account).path())),
            )
        }
        "Remove" => {
            let name = limited(arguments(member, "a name", body)?, "the name")?;
            requests.order(|reply| Request::Friends(FriendsRequest::Remove { name, reply }))
        }
        "List" => {
            nothing(member, body)?;
            let friends =
                |friends: Vec<FriendView>| Ok(Reply::Dicts(friends.into_iter().map(friend).collect()));
            requests.ask(|reply| Request::Friends(FriendsRequest::List { reply }), friends)
        }
        _ => Err(unknown_method(member)),
    }
}

fn limited(text: String, what: &str) -> Result<String, Failure> {
    match text.len() {
        1..=LONGEST => Ok(text),
        0 => Err(invalid(format!("{what} is empty"))),
        _ => Err(invalid(format!("{what} is longer than {LONGEST} bytes"))),
    }
}

fn friend(friend: FriendView) -> Dict {
    let mut dict = Dict::from([
        ("name", friend.name.into()),
        ("address", friend.address.into()),
        ("presence", presence(friend.presence).into()),
        ("devices", friend.devices.into()),
        ("invited-for", friend.invited_for.into()),
    ]);
    if let Some((relay, state)) = friend.relay {
        dict.insert("relay", relay.into());
        dict.insert("relay-state", state.into());
    }
    if let Some(account) = friend.account {
        dict.insert("account", Object::Account(account).path().into());
    }
    dict
}

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
        Presence::Unknown => "unknown",
    }
}
