//! `voipctl friends`: who can be reached by way of a meeting point, inviting and joining.

use serde_json::{Value, json};
use voipd_dbus::friends::{InviteOptions, JoinOptions};
use voipd_dbus::names;

use crate::cli::FriendsCommand;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::Object;
use crate::output::Output;
use crate::text::{clean, table};

pub(crate) async fn run(
    daemon: &Daemon,
    out: Output,
    command: Option<FriendsCommand>,
) -> Result<(), Failure> {
    match command {
        None | Some(FriendsCommand::List) => list(daemon, out).await,
        Some(FriendsCommand::Invite { name, lasts }) => {
            let options = InviteOptions { lasts: lasts.map(|hours| hours.saturating_mul(3600)) };
            let invitation = daemon.friends().await?.invite(&name, &options).await?;
            match out.json {
                true => out.document(&json!({"name": name, "invitation": invitation})),
                false => out.line(&clean(&invitation)),
            }
        }
        Some(FriendsCommand::Join { invitation, account }) => {
            let path = daemon.friends().await?.join(&invitation, &JoinOptions { account }).await?;
            let address = daemon.account(path.as_str()).await?.address().await?;
            match out.json {
                true => out.document(&json!({
                    "path": path.as_str(),
                    "number": names::account_number(path.as_str()),
                    "address": address,
                })),
                false => out.line(&format!("You are {}", clean(&address))),
            }
        }
        Some(FriendsCommand::Remove { name }) => Ok(daemon.friends().await?.remove(&name).await?),
    }
}

async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let friends = daemon.friends().await?.list().await?;
    let friends: Vec<Object> =
        friends.into_iter().map(|properties| Object { path: String::new(), properties }).collect();
    if out.json {
        let json = |friend: &Object| {
            json!({
                "name": friend.text("name"),
                "address": friend.text("address"),
                "presence": friend.text("presence"),
                "devices": friend.number("devices"),
                "invited_for": friend.number("invited-for"),
                "relay": friend.text("relay"),
                "relay_state": friend.text("relay-state"),
            })
        };
        return out.document(&friends.iter().map(json).collect::<Value>());
    }
    let row = |friend: &Object| {
        vec![
            friend.text("name").to_owned(),
            friend.text("presence").to_owned(),
            friend.text("address").to_owned(),
            relay(friend.text("relay"), friend.text("relay-state")),
            invited(friend.number("invited-for")),
        ]
    };
    out.lines(&table(
        &["NAME", "PRESENCE", "ADDRESS", "RELAY", ""],
        &friends.iter().map(row).collect::<Vec<_>>(),
    ))
}

/// The relay that a friend offers, and why others are not told of it.
fn relay(uri: &str, state: &str) -> String {
    match state {
        "" | "lent" => uri.to_owned(),
        state => format!("{uri} ({})", state.replacen("refused ", "refused: ", 1)),
    }
}

/// How long an invitation lasts that was not used.
fn invited(seconds: u64) -> String {
    match seconds {
        0 => String::new(),
        1..120 => format!("invited for {seconds} s"),
        120..7200 => format!("invited for {} min", seconds / 60),
        7200..172_800 => format!("invited for {} h", seconds / 3600),
        _ => format!("invited for {} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::{invited, relay};

    #[test]
    fn a_relay_that_is_not_lent_says_why() {
        assert_eq!(relay("", ""), "");
        assert_eq!(relay("turn:a:1", "lent"), "turn:a:1");
        assert_eq!(relay("turn:a:1", "refused no answer"), "turn:a:1 (refused: no answer)");
    }

    #[test]
    fn an_invitations_time_is_told_in_a_fitting_unit() {
        let told = [0, 60, 3600, 7200, 604_800].map(invited);
        assert_eq!(
            told,
            ["", "invited for 60 s", "invited for 60 min", "invited for 2 h", "invited for 7 days"]
        );
    }
}
