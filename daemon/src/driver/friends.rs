//! Friends: the meeting point on this machine, where it is one, and joining others'.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_agent::ice_settings::{self, Lent, LentRelay, RelayLogin};
use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountSettings, AccountView};
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{Flow, Transport as Protocol, TransportError};
use voipd_sip::rendezvous::{self, Directory, Event, InvitationText, Output, Rendezvous, RendezvousConfig};
use voipd_sip::uri::SipUri;

use super::lending::{Lending, uri_of};
use super::{Driver, unix_micros};
use crate::api::{ErrorKind, FriendView, FriendsRequest, FriendsView, Presence, Reply, RequestError, Update};
use crate::config::account::{from_entries, transport_name};
use crate::config::fields::{Entry, Value};
use crate::config::{self};
use crate::store;
use crate::tls::material::pin_text;
use crate::transport::Transport;
use crate::turn_server::{Relay, is_public};

/// How long a meeting point may take to let us in. Less than callers on the bus wait.
const JOINING: Duration = Duration::from_secs(20);
/// Most transactions at once of a meeting point.
const MAX_TRANSACTIONS: usize = 4096;
/// How long a meeting point may take to tell who is there; what was known before is shown then.
const LISTING: Duration = Duration::from_secs(3);
/// Most lists that are waited for at once.
const MAX_LISTINGS: usize = 64;
/// Letters that a device draws to make its password of an invitation.
const SALT_LENGTH: usize = 16;

/// How others come to the meeting point.
struct Entrance {
    transport: Protocol,
    port: u16,
}

struct Point {
    rendezvous: Rendezvous,
    config: config::RendezvousConfig,
    entrance: Entrance,
    relay: Option<Relay>,
    wake_at: Option<Instant>,
}

/// An account that an invitation has made, which waits for its first registration.
struct Joining {
    settings: AccountSettings,
    until: Instant,
    reply: Reply<AccountId>,
    /// What has come of it.
    end: Option<Result<(), RequestError>>,
}

/// A list that is shown when all meeting points have told anew who is there.
struct Listing {
    waiting: BTreeSet<AccountId>,
    until: Instant,
    reply: Reply<Vec<FriendView>>,
}

/// Everything about friends.
pub struct Friends {
    point: Option<Point>,
    joining: BTreeMap<AccountId, Joining>,
    /// Names of the accounts that invitations made.
    joined: BTreeSet<String>,
    /// What the meeting points of those accounts have told last.
    told: BTreeMap<AccountId, Directory>,
    listings: Vec<Listing>,
    /// What the letters of salts are drawn from.
    salts: Salts,
    /// The relay that we offer to others.
    pub(super) lending: Lending,
}

/// What [`Friends`] is made of.
pub struct FriendParts<'a> {
    /// As it was read.
    pub config: &'a config::Config,
    /// Value of Server.
    pub product: &'a str,
    /// What was kept.
    pub kept: store::Friends,
    /// Relays for the friends of the meeting point.
    pub relay: Option<Relay>,
    /// What dialogs are named with, also after a restart.
    pub key: Secret,
    /// Everything random comes from it.
    pub seed: [u8; 32],
}

impl Friends {
    /// With what was kept. `transport` says how the meeting point is reached.
    pub fn new(parts: FriendParts<'_>, transport: &Transport) -> Self {
        let FriendParts { config, product, kept, relay, key, seed } = parts;
        let now = Instant::now();
        let mut salts = Salts::new(seed);
        let lending = Lending::new(config.offer_relay.clone(), relay.clone(), salts.draw());
        let point = config.rendezvous.as_ref().and_then(|config| {
            let (protocol, port) = transport.entrance()?;
            let settings = RendezvousConfig {
                product: product.to_owned(),
                host: config.host.clone(),
                port: config.port,
                key: key.clone(),
                max_transactions: MAX_TRANSACTIONS,
            };
            let mut rendezvous = Rendezvous::new(settings, salts.seed(), now, unix_seconds());
            for credential in kept.credentials {
                rendezvous.add_credential(credential);
            }
            for invitation in kept.invitations {
                if let Err(error) = rendezvous.add_invitation(now, invitation) {
                    log::warn!("a kept invitation is left out: {error}");
                }
            }
            for (one, other) in &kept.contacts {
                rendezvous.add_contacts(one, other);
            }
            rendezvous.set_relays(relay.iter().flat_map(Relay::uris).collect());
            let entrance = Entrance { transport: protocol, port };
            Some(Point { rendezvous, config: config.clone(), entrance, relay, wake_at: None })
        });
        Self {
            point,
            joining: BTreeMap::new(),
            joined: kept.joined,
            told: BTreeMap::new(),
            listings: Vec::new(),
            salts,
            lending,
        }
    }

    /// As the bus shows it.
    pub(super) fn view(&self) -> FriendsView {
        self.point
            .as_ref()
            .map_or_else(FriendsView::default, |point| FriendsView { enabled: true, address: point.domain() })
    }

    /// A message came in. `false`: it is not for the meeting point.
    pub(super) fn handle(&mut self, now: Instant, flow: Flow, bytes: &[u8]) -> bool {
        self.point.as_mut().is_some_and(|point| point.rendezvous.handle(now, flow, bytes))
    }

    pub(super) fn handle_failed(&mut self, now: Instant, flow: Flow, error: TransportError) {
        if let Some(point) = &mut self.point {
            point.rendezvous.handle_failed(now, flow, error);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(point) = self.point.as_mut().filter(|point| point.wake_at.is_some_and(|at| at <= now)) {
            point.rendezvous.handle_timeout(now);
        }
        for joining in self.joining.values_mut().filter(|joining| joining.until <= now) {
            joining.end.get_or_insert_with(|| Err(unreachable_point(&joining.settings)));
        }
        for listing in self.listings.iter_mut().filter(|listing| listing.until <= now) {
            listing.waiting.clear();
        }
    }

    pub(super) fn set_wall_clock(&mut self, now: Instant) {
        if let Some(point) = &mut self.point {
            point.rendezvous.set_wall_clock(now, unix_seconds());
        }
    }

    /// A friend relies on the connection.
    pub(super) fn uses(&self, flow: Flow) -> bool {
        self.point.as_ref().is_some_and(|point| point.rendezvous.uses(flow))
    }

    /// When [`Friends::handle_timeout`] wants to be called.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let joining = self.joining.values().map(|joining| joining.until);
        let listings = self.listings.iter().map(|listing| listing.until);
        joining.chain(listings).chain(self.point.as_ref().and_then(|point| point.wake_at)).min()
    }

    /// The next thing that the meeting point wants done.
    fn poll(&mut self) -> Option<Output> {
        let point = self.point.as_mut()?;
        match point.rendezvous.poll_output() {
            Output::Timeout(at) => {
                point.wake_at = at;
                None
            }
            output => Some(output),
        }
    }

    /// An account fares otherwise: one that waits to be let in may be let in, or refused.
    pub(super) fn account_changed(&mut self, view: &AccountView) {
        match &view.binding.directory {
            Some(told) if self.told.get(&view.id) != Some(told) => {
                self.told.insert(view.id, told.clone());
                self.told_anew(view.id);
            }
            Some(_) => {}
            None => {
                self.told.remove(&view.id);
                self.told_anew(view.id);
            }
        }
        let Some(joining) = self.joining.get_mut(&view.id).filter(|joining| joining.end.is_none()) else {
            return;
        };
        joining.end = match (view.state, view.sip_status) {
            (AccountState::Registered, _) => Some(Ok(())),
            (AccountState::Failed, 401 | 403 | 407) => Some(Err(RequestError {
                kind: ErrorKind::NotPermitted,
                message: format!(
                    "the meeting point {} does not take this invitation: it was used, has run out or was taken \
                     back; ask for another",
                    domain_of(&joining.settings)
                ),
            })),
            (AccountState::Failed, _) => Some(Err(unreachable_point(&joining.settings))),
            _ => None,
        };
    }
}

impl Friends {
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

    /// What a friend who offers a relay here has to show for it.
    pub(super) fn relay_checked(&mut self, member: &str, address: SocketAddr, result: Result<(), String>) {
        if let Some(point) = &mut self.point {
            match &result {
                Ok(()) => log::info!("the relay of {member} at {address} works, and is lent to his contacts"),
                Err(why) => log::info!("the relay of {member} at {address} is not lent: {why}"),
            }
            point.rendezvous.relay_checked(member, address, result);
        }
    }

    /// The friends of this meeting point may have relays there.
    pub(super) fn may_be_relay(&self, ip: IpAddr) -> bool {
        let networks = self.point.as_ref().map(|point| &point.config.networks);
        is_public(ip) || networks.is_some_and(|networks| networks.iter().any(|network| network.contains(ip)))
    }

    pub(super) fn draw_seed(&mut self) -> [u8; 32] {
        self.salts.seed()
    }

    fn told_anew(&mut self, account: AccountId) {
        for listing in &mut self.listings {
            listing.waiting.remove(&account);
        }
    }

    /// An account is no more.
    pub(super) fn account_removed(&mut self, account: AccountId) {
        self.told.remove(&account);
        self.told_anew(account);
    }

    /// By which account a friend of that name is called.
    pub(super) fn account_of(&self, name: &str) -> Option<AccountId> {
        let knows = |told: &Directory| told.contacts.iter().any(|(contact, _)| contact == name);
        self.told.iter().find(|(_, told)| knows(told)).map(|(account, _)| *account)
    }
}

impl Point {
    fn domain(&self) -> String {
        match self.config.port {
            Some(port) => format!("{}:{port}", self.config.host),
            None => self.config.host.to_string(),
        }
    }
}

impl Driver {
    /// Carries out what the meeting point wants, and ends joining that has come to its end. `false`: there was nothing.
    pub(super) fn carry_out_friends(&mut self) -> bool {
        let mut acted = false;
        while let Some(output) = self.friends.poll() {
            acted = true;
            match output {
                Output::Transmit { flow, bytes } => self.transmit(&flow, &bytes),
                Output::Event(Event::Joined(credential)) => {
                    log::info!("{} has joined with a new device", credential.member);
                    let kept = self.store.put_credential(credential);
                    tokio::spawn(async move {
                        if let Err(error) = kept.await {
                            log::warn!("a friend who has joined will be unknown after a restart: {error}");
                        }
                    });
                }
                Output::Event(Event::Met { one, other }) => {
                    let kept = self.store.put_contacts(one, other);
                    tokio::spawn(async move {
                        if let Err(error) = kept.await {
                            log::warn!("two friends will not see each other after a restart: {error}");
                        }
                    });
                }
                Output::Event(Event::Granted(login)) => {
                    let relay = self.friends.point.as_ref().and_then(|point| point.relay.as_ref());
                    if let Some(relay) = relay {
                        relay.grant(login.user, login.password);
                    }
                }
                Output::Event(Event::Offered { member, address, login }) => {
                    self.look_at_relay(member, address, login);
                }
                Output::Event(Event::Moved { member, online }) => {
                    log::info!("{member} is {}", if online { "there" } else { "gone" });
                }
                Output::Timeout(_) => {}
            }
        }
        while let Some(at) = self.friends.listings.iter().position(|listing| listing.waiting.is_empty()) {
            acted = true;
            let listing = self.friends.listings.swap_remove(at);
            let friends = self.known_friends(Instant::now());
            self.answer(listing.reply, Ok(friends));
        }
        let ended = self.friends.joining.iter().find(|(_, joining)| joining.end.is_some());
        if let Some(id) = ended.map(|(id, _)| *id) {
            acted = true;
            self.end_joining(id);
        }
        acted
    }

    fn end_joining(&mut self, id: AccountId) {
        let Some(Joining { settings, reply, end: Some(end), .. }) = self.friends.joining.remove(&id) else {
            return;
        };
        match end {
            Ok(()) => {
                let name = settings.name.clone();
                self.friends.joined.insert(name.clone());
                let (account, joined) = (self.store.put_account(settings), self.store.put_joined(name));
                self.answer_when_stored(reply, id, async move { account.await.and(joined.await) });
            }
            Err(error) => {
                // It is ours, and was made by us just now.
                let _ = self.agent.remove_account(Instant::now(), id);
                self.answer(reply, Err(error));
            }
        }
    }

    pub(super) fn friends_request(&mut self, now: Instant, request: FriendsRequest) {
        match request {
            FriendsRequest::Invite { name, lasts, reply } => match self.invite(now, &name, lasts) {
                Ok((text, kept)) => self.answer_when_stored(reply, text, kept),
                Err(error) => self.answer(reply, Err(error)),
            },
            FriendsRequest::Join { invitation, account, reply } => {
                match self.join(now, &invitation, account) {
                    Ok((id, settings)) => {
                        let joining = Joining { settings, until: now + JOINING, reply, end: None };
                        self.friends.joining.insert(id, joining);
                    }
                    Err(error) => self.answer(reply, Err(error)),
                }
            }
            FriendsRequest::Remove { name, reply } => {
                let removed = self.friends.point.as_mut().is_some_and(|point| point.rendezvous.remove(&name));
                if removed {
                    let point = self.friends.point.as_ref();
                    if let Some(relay) = point.and_then(|point| point.relay.as_ref()) {
                        relay.revoke(name.clone());
                    }
                    let forgotten = self.store.remove_friend(name);
                    self.answer_when_stored(reply, (), forgotten);
                } else {
                    let message = format!(
                        "there is no friend '{}': list the friends to see which there are",
                        shown(&name)
                    );
                    self.answer(reply, Err(RequestError { kind: ErrorKind::InvalidArgument, message }));
                }
            }
            FriendsRequest::List { reply } => self.list_friends(now, reply),
        }
    }

    fn invite(
        &mut self,
        now: Instant,
        name: &str,
        lasts: Duration,
    ) -> Result<(String, store::Change), RequestError> {
        let pin = self.transport.own_pin();
        let point = self.friends.point.as_mut().ok_or_else(|| RequestError {
            kind: ErrorKind::InvalidState,
            message: "this voipd is no meeting point: set enabled = true and address in [rendezvous] of its \
                      configuration, and restart it"
                .to_owned(),
        })?;
        let invited = point.rendezvous.invite(now, name, lasts);
        let (invitation, secret) = invited.map_err(|error| {
            use voipd_sip::rendezvous::InviteError;
            let kind = match error {
                InviteError::BadName(_) => ErrorKind::InvalidArgument,
                InviteError::TooManyMembers(_) | InviteError::TooManyDevices { .. } => {
                    ErrorKind::LimitReached
                }
            };
            RequestError { kind, message: error.to_string() }
        })?;
        let Point { config, entrance, .. } = point;
        let usual = config.port.unwrap_or(entrance.transport.default_port());
        let text = InvitationText {
            member: invitation.member.clone(),
            host: config.host.clone(),
            port: config.port,
            server_port: Some(entrance.port).filter(|port| *port != usual),
            transport: entrance.transport,
            secret,
            pin: pin.filter(|_| entrance.transport == Protocol::Tls),
            expires: invitation.expires,
        };
        Ok((text.to_string(), self.store.put_invitation(invitation)))
    }

    /// Makes the account of an invitation, which registers at once.
    fn join(
        &mut self,
        now: Instant,
        text: &str,
        account: Option<String>,
    ) -> Result<(AccountId, AccountSettings), RequestError> {
        let wrong = |message: String| RequestError { kind: ErrorKind::InvalidArgument, message };
        let invitation: InvitationText =
            text.parse().map_err(|error: voipd_sip::rendezvous::InvitationError| wrong(error.to_string()))?;
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

    /// Asks all meeting points that were joined who is there: each tells it when we register.
    fn list_friends(&mut self, now: Instant, reply: Reply<Vec<FriendView>>) {
        if self.friends.listings.len() >= MAX_LISTINGS {
            let message = "too many ask for the friends at once: try again in a moment".to_owned();
            return self.answer(reply, Err(RequestError { kind: ErrorKind::LimitReached, message }));
        }
        let told: BTreeSet<AccountId> = self.friends.told.keys().copied().collect();
        for account in &told {
            // One that is not registered any more tells nothing, and its list is forgotten.
            let _ = self.agent.register_account(now, *account, true);
        }
        self.friends.listings.push(Listing { waiting: told, until: now + LISTING, reply });
    }

    /// What is known now: the members of our own meeting point, then the contacts at others.
    fn known_friends(&self, now: Instant) -> Vec<FriendView> {
        let mut friends = self.members(now);
        for (account, told) in &self.friends.told {
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

    fn members(&self, now: Instant) -> Vec<FriendView> {
        let Some(point) = &self.friends.point else { return Vec::new() };
        let domain = point.domain();
        let unix = unix_seconds();
        let members = point.rendezvous.members(now).into_iter();
        let view = |member: voipd_sip::rendezvous::Member| FriendView {
            address: format!("sip:{}@{domain}", member.name),
            presence: match (member.devices, member.addresses.is_empty()) {
                (0, _) => Presence::Unknown,
                (_, true) => Presence::Offline,
                (_, false) => Presence::Online,
            },
            devices: u32::try_from(member.devices).unwrap_or(u32::MAX),
            invited_for: member
                .invited_until
                .map_or(0, |until| u32::try_from(until.saturating_sub(unix)).unwrap_or(u32::MAX)),
            account: None,
            relay: point
                .rendezvous
                .offer_of(now, &member.name)
                .map(|(at, state)| (uri_of(at), state.to_string())),
            name: member.name,
        };
        members.map(view).collect()
    }

    /// The relays that a meeting point lends become the account's, where it has none of its own.
    pub(super) fn take_relays(&mut self, now: Instant, account: AccountId) {
        if let Some(lent) = self.friends.relays_of(account) {
            self.agent.lend_relays(now, account, lent);
        }
    }

    pub(super) fn publish_friends(&mut self) {
        let view = self.friends.view();
        self.tell(Update::Friends(view));
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

/// A relay's URI as accounts have it.
fn shown_relay(uri: &str) -> String {
    uri.parse::<ice_settings::Relay>().map_or_else(|_| shown(uri), |relay| relay.to_string())
}

fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unix_seconds() -> u64 {
    unix_micros() / 1_000_000
}

/// Letters that nobody guesses.
struct Salts(rand_chacha::ChaCha12Rng);

impl Salts {
    fn new(seed: [u8; 32]) -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self(rand_chacha::ChaCha12Rng::from_seed(seed))
    }

    fn seed(&mut self) -> [u8; 32] {
        use rand_chacha::rand_core::Rng;
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    fn draw(&mut self) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let bytes = self.seed();
        bytes.iter().take(SALT_LENGTH).map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
    }
}
