//! Friends at the meeting points that were joined: what those have told last of who is there and which relays they lend,
//! and the lists for which they are asked to tell it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use voipd_agent::ice_settings::{self, Lent, LentRelay, RelayLogin};
use voipd_agent::{AccountId, AccountView};
use voipd_sip::rendezvous::{self, Directory};
use voipd_sip::uri::SipUri;

use super::shown;
use crate::api::{ErrorKind, FriendView, Presence, Reply, RequestError};
use crate::driver::Driver;

/// How long a meeting point may take to tell who is there; what was known before is shown then.
const LISTING: Duration = Duration::from_secs(3);
/// Most lists that are waited for at once.
const MAX_LISTINGS: usize = 64;

/// A list that is shown when all meeting points have told anew who is there.
struct Listing {
    waiting: BTreeSet<AccountId>,
    until: Instant,
    reply: Reply<Vec<FriendView>>,
}

#[derive(Default)]
pub(super) struct Contacts {
    /// What the meeting points have told last, by the accounts there.
    told: BTreeMap<AccountId, Directory>,
    listings: Vec<Listing>,
}

impl Contacts {
    /// An account fares otherwise: its meeting point may have told something.
    pub(super) fn account_changed(&mut self, view: &AccountView) {
        match &view.binding.directory {
            Some(told) if self.told.get(&view.id) != Some(told) => {
                self.told.insert(view.id, told.clone());
                self.told_anew(view.id);
            }
            Some(_) => {}
            None => self.account_removed(view.id),
        }
    }

    /// An account is no more, or at no meeting point.
    pub(super) fn account_removed(&mut self, account: AccountId) {
        self.told.remove(&account);
        self.told_anew(account);
    }

    fn told_anew(&mut self, account: AccountId) {
        for listing in &mut self.listings {
            listing.waiting.remove(&account);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for listing in self.listings.iter_mut().filter(|listing| listing.until <= now) {
            listing.waiting.clear();
        }
    }

    /// When [`Contacts::handle_timeout`] wants to be called.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.listings.iter().map(|listing| listing.until).min()
    }

    /// By which account a friend of that name is called.
    pub(super) fn account_of(&self, name: &str) -> Option<AccountId> {
        let knows = |told: &Directory| told.contacts.iter().any(|(contact, _)| contact == name);
        self.told.iter().find(|(_, told)| knows(told)).map(|(account, _)| *account)
    }

    /// The relays that an account's meeting point lends, those of friends among them, and what opens them.
    fn relays_of(&self, account: AccountId) -> Option<Lent> {
        let told = self.told.get(&account)?;
        let login = |login: &rendezvous::RelayLogin| RelayLogin {
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let of_friends = told.friend_relays.iter().filter_map(|lent| {
            let relay = lent.relay.parse().ok()?;
            Some(LentRelay { friend: lent.friend.clone(), relay, login: login(&lent.login) })
        });
        Some(Lent {
            relays: told.relays.iter().filter_map(|uri| uri.parse().ok()).collect(),
            login: told.login.as_ref().map(login),
            of_friends: of_friends.collect(),
        })
    }

    /// A list for which nothing is waited any more.
    fn take_ready(&mut self) -> Option<Reply<Vec<FriendView>>> {
        let at = self.listings.iter().position(|listing| listing.waiting.is_empty())?;
        Some(self.listings.swap_remove(at).reply)
    }
}

impl Driver {
    /// Asks all meeting points that were joined who is there: each tells it when we register.
    pub(super) fn list_friends(&mut self, now: Instant, reply: Reply<Vec<FriendView>>) {
        if self.friends.contacts.listings.len() >= MAX_LISTINGS {
            let message = "too many ask for the friends at once: try again in a moment".to_owned();
            return self.answer(reply, Err(RequestError { kind: ErrorKind::LimitReached, message }));
        }
        let told: BTreeSet<AccountId> = self.friends.contacts.told.keys().copied().collect();
        for account in &told {
            // One that is not registered any more tells nothing, and its list is forgotten.
            let _ = self.agent.register_account(now, *account, true);
        }
        self.friends.contacts.listings.push(Listing { waiting: told, until: now + LISTING, reply });
    }

    /// Answers who has waited long enough for a list. `false`: nobody has.
    pub(super) fn answer_listings(&mut self) -> bool {
        let mut answered = false;
        while let Some(reply) = self.friends.contacts.take_ready() {
            answered = true;
            let friends = self.known_friends(Instant::now());
            self.answer(reply, Ok(friends));
        }
        answered
    }

    /// What is known now: the members of our own meeting point, then the contacts at others.
    fn known_friends(&self, now: Instant) -> Vec<FriendView> {
        let mut friends = self.friends.point.as_ref().map_or_else(Vec::new, |point| point.members(now));
        for (account, told) in &self.friends.contacts.told {
            let Some(settings) = self.agent.account_settings(*account) else { continue };
            let Some(voipd_sip::Uri::Sip(own)) = &settings.address else { continue };
            for (name, online) in &told.contacts {
                let uri = SipUri::new(Some(name), own.host.clone(), own.port);
                let address = uri.to_string();
                let lent = told.friend_relays.iter().find(|lent| lent.friend == *name);
                let relay = lent.map(|lent| (shown_relay(&lent.relay), "lent".to_owned()));
                if let Some(member) = friends.iter_mut().find(|friend| friend.address == address) {
                    member.account = Some(*account);
                    member.relay = relay.or(member.relay.take());
                    continue;
                }
                friends.push(FriendView {
                    name: name.clone(),
                    address,
                    presence: if *online { Presence::Online } else { Presence::Offline },
                    devices: 0,
                    invited_for: 0,
                    account: Some(*account),
                    relay,
                });
            }
        }
        friends
    }

    /// The relays that a meeting point lends become the account's, where it has none of its own.
    pub(in crate::driver) fn take_relays(&mut self, now: Instant, account: AccountId) {
        if let Some(lent) = self.friends.contacts.relays_of(account) {
            self.agent.lend_relays(now, account, lent);
        }
    }
}

/// A relay's URI as accounts have it.
fn shown_relay(uri: &str) -> String {
    uri.parse::<ice_settings::Relay>().map_or_else(|_| shown(uri), |relay| relay.to_string())
}
