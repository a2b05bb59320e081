//! Joining others' meeting points: the account that an invitation makes, and whether it is let in.

use std::time::{Duration, Instant};

use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountSettings, AccountView};
use voipd_sip::rendezvous::{InvitationError, InvitationText};

use super::unix_seconds;
use crate::api::{ErrorKind, Reply, RequestError};
use crate::config::account::{from_entries, transport_name};
use crate::config::fields::{Entry, Value};
use crate::driver::Driver;
use crate::tls::material::pin_text;

/// How long a meeting point may take to let us in. Less than callers on the bus wait.
const JOINING: Duration = Duration::from_secs(20);

/// An account that an invitation has made, which waits for its first registration.
pub(super) struct Joining {
    settings: AccountSettings,
    pub(super) until: Instant,
    reply: Reply<AccountId>,
    /// What has come of it.
    end: Option<Result<(), RequestError>>,
}

impl Joining {
    /// The account fares otherwise: it may have been let in, or refused.
    pub(super) fn account_changed(&mut self, view: &AccountView) {
        if self.end.is_some() {
            return;
        }
        self.end = match (view.state, view.sip_status) {
            (AccountState::Registered, _) => Some(Ok(())),
            (AccountState::Failed, 401 | 403 | 407) => Some(Err(RequestError {
                kind: ErrorKind::NotPermitted,
                message: format!(
                    "the meeting point {} does not take this invitation: it was used, has run out or was taken \
                     back; ask for another",
                    domain_of(&self.settings)
                ),
            })),
            (AccountState::Failed, _) => Some(Err(unreachable_point(&self.settings))),
            _ => None,
        };
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.until <= now {
            self.end.get_or_insert_with(|| Err(unreachable_point(&self.settings)));
        }
    }
}

impl Driver {
    /// Joins by an invitation, and answers when the account is let in or is not.
    pub(super) fn join(
        &mut self,
        now: Instant,
        invitation: &str,
        account: Option<String>,
        reply: Reply<AccountId>,
    ) {
        match self.add_joining_account(now, invitation, account) {
            Ok((id, settings)) => {
                let joining = Joining { settings, until: now + JOINING, reply, end: None };
                self.friends.joining.insert(id, joining);
            }
            Err(error) => self.answer(reply, Err(error)),
        }
    }

    /// Makes the account of an invitation, which registers at once.
    fn add_joining_account(
        &mut self,
        now: Instant,
        text: &str,
        account: Option<String>,
    ) -> Result<(AccountId, AccountSettings), RequestError> {
        let wrong = |message: String| RequestError { kind: ErrorKind::InvalidArgument, message };
        let invitation: InvitationText =
            text.parse().map_err(|error: InvitationError| wrong(error.to_string()))?;
        if invitation.expires <= unix_seconds() {
            return Err(RequestError {
                kind: ErrorKind::NotPermitted,
                message: "this invitation has run out: ask for another (or is this machine's clock wrong?)"
                    .to_owned(),
            });
        }
        let address = invitation.address().to_string();
        let same =
            |view: &AccountSettings| view.address.as_ref().map(ToString::to_string) == Some(address.clone());
        if let Some(known) = self.agent.find_account_where(same) {
            return Err(RequestError {
                kind: ErrorKind::AlreadyExists,
                message: format!(
                    "the account '{known}' is {address} already: remove it first (voipctl account remove {known})"
                ),
            });
        }
        let name = account.unwrap_or_else(|| account_name(&invitation));
        let (user, password) = invitation.login(&self.friends.salts.draw());
        let texts = [
            ("name", name),
            ("address", address),
            ("registrar", invitation.registrar().to_string()),
            ("transport", transport_name(invitation.transport).to_owned()),
            ("auth-user", user),
            ("password", password.expose().to_owned()),
            ("realm", invitation.host.to_string()),
        ];
        let mut entries: Vec<Entry> =
            texts.into_iter().map(|(key, text)| Entry::new(key, Value::Text(text))).collect();
        entries.push(Entry::new("allow-md5", Value::Flag(false)));
        entries.extend(invitation.pin.map(|pin| Entry::new("tls-pin", Value::Text(pin_text(&pin)))));
        let settings = from_entries(entries).map_err(|faults| {
            let faults: Vec<String> =
                faults.iter().map(|fault| format!("{} {}", fault.key, fault.message)).collect();
            wrong(faults.join("; "))
        })?;
        let id = self.agent.add_account(now, settings.clone())?;
        Ok((id, settings))
    }

    /// Ends joining that has come to its end. `false`: there is none.
    pub(super) fn end_joining(&mut self) -> bool {
        let ended = self.friends.joining.iter().find(|(_, joining)| joining.end.is_some());
        let Some(id) = ended.map(|(id, _)| *id) else { return false };
        let Some(Joining { settings, reply, end: Some(end), .. }) = self.friends.joining.remove(&id) else {
            return false;
        };
        match end {
            Ok(()) => {
                let stored = self.store.put_account(settings);
                self.answer_when_stored(reply, id, stored);
            }
            Err(error) => {
                // It is ours, and was made by us just now.
                let _ = self.agent.remove_account(Instant::now(), id);
                self.answer(reply, Err(error));
            }
        }
        true
    }
}

fn unreachable_point(settings: &AccountSettings) -> RequestError {
    RequestError {
        kind: ErrorKind::Failed,
        message: format!(
            "the meeting point {} does not answer: is this machine online, and does it run? The invitation can be \
             used again",
            domain_of(settings)
        ),
    }
}

fn domain_of(settings: &AccountSettings) -> String {
    let realm = settings.realms.first().cloned();
    realm.unwrap_or_default()
}

/// The meeting point's name, as far as accounts may be named so.
fn account_name(invitation: &InvitationText) -> String {
    let host = invitation.host.to_string();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let host: String = host.trim_matches(['[', ']']).chars().map(|c| if fits(c) { c } else { '-' }).collect();
    host.chars().take(64).collect()
}
