//! voipctl against running daemons: what docs/voipctl.md promises to people and scripts.

mod accounts;
mod audio;
mod calls;
mod conference;
mod doctor;
mod exit_codes;
mod interrupts;
mod json;
mod mistakes;
mod places;
mod quality;
mod terminal;
mod tones;
mod waiting;

use voipd_tests::{Config, Ended, Lab, Voipctl, Voipd};

/// Starts a command against a daemon.
fn start(voipd: &Voipd, arguments: &[&str]) -> Voipctl {
    Voipctl::start(voipd.voipctl(arguments))
}

/// Runs a command against a daemon to its end.
async fn ctl(voipd: &Voipd, arguments: &[&str]) -> Ended {
    start(voipd, arguments).ends().await
}

/// A telephone without a server.
async fn phone(lab: &Lab) -> Voipd {
    Voipd::start(lab, "phone", Config::at(lab.address())).await
}

/// Someone to call, who takes calls by hand, and at `echo` by an echo service.
async fn friend(lab: &Lab) -> Voipd {
    let config = Config::at(lab.address()).account("name = \"echo\"\nkind = \"echo\"");
    Voipd::start(lab, "friend", config).await
}

/// The address that rings at a friend.
fn at(friend: &Voipd) -> String {
    format!("sip:{}", friend.address)
}

/// The address of a friend's echo service.
fn echo_at(friend: &Voipd) -> String {
    format!("sip:echo@{}", friend.address)
}

/// Places a call that goes on by itself, and waits until it is active. Gives its number.
async fn talk(phone: &Voipd, target: &str, options: &[&str]) -> String {
    let path = ctl(phone, &[&["call", target, "--detach"], options].concat()).await;
    let number = path.well().trim().strip_prefix("/org/voipd/call/").unwrap().to_owned();
    ctl(phone, &["wait", "active", "--call", &number, "--timeout", "10"]).await.well();
    number
}
