//! Friends: the meeting point on this machine, where it is one, and others' that were joined.

mod contacts;
mod joining;
mod point;
mod salts;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_agent::{AccountId, AccountView};
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{Flow, TransportError};
use voipd_sip::rendezvous::{Event, Output};

use super::lending::Lending;
use super::{Driver, unix_micros};
use crate::api::{ErrorKind, FriendsRequest, FriendsView, RequestError, Update};
use crate::config;
use crate::store;
use crate::transport::Transport;
use crate::turn_server::{Relay, is_public};
use contacts::Contacts;
use joining::Joining;
use point::Point;
use salts::Salts;

/// Everything about friends.
pub struct Friends {
    point: Option<Point>,
    joining: BTreeMap<AccountId, Joining>,
    contacts: Contacts,
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
    pub fn new(mut parts: FriendParts<'_>, transport: &Transport) -> Self {
        let mut salts = Salts::new(parts.seed);
        let lending = Lending::new(parts.config.offer_relay.clone(), parts.relay.clone(), salts.draw());
        let point = Point::new(&mut parts, transport, &mut salts);
        Self { point, joining: BTreeMap::new(), contacts: Contacts::default(), salts, lending }
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
        if let Some(point) = &mut self.point {
            point.handle_timeout(now);
        }
        for joining in self.joining.values_mut() {
            joining.handle_timeout(now);
        }
        self.contacts.handle_timeout(now);
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
        let point = self.point.as_ref().and_then(Point::wake_at);
        joining.chain(self.contacts.wake_at()).chain(point).min()
    }

    /// An account fares otherwise: one that waits to be let in may be let in, or refused.
    pub(super) fn account_changed(&mut self, view: &AccountView) {
        self.contacts.account_changed(view);
        if let Some(joining) = self.joining.get_mut(&view.id) {
            joining.account_changed(view);
        }
    }

    /// An account is no more.
    pub(super) fn account_removed(&mut self, account: AccountId) {
        self.contacts.account_removed(account);
    }

    /// By which account a friend of that name is called.
    pub(super) fn account_of(&self, name: &str) -> Option<AccountId> {
        self.contacts.account_of(name)
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
        is_public(ip) || self.point.as_ref().is_some_and(|point| point.has_network_of(ip))
    }

    pub(super) fn draw_seed(&mut self) -> [u8; 32] {
        self.salts.seed()
    }
}

impl Driver {
    /// Carries out what the meeting point wants, and ends joining that has come to its end. `false`: there was nothing.
    pub(super) fn carry_out_friends(&mut self) -> bool {
        let mut acted = false;
        while let Some(output) = self.friends.point.as_mut().and_then(Point::poll) {
            acted = true;
            self.carry_out_for_point(output);
        }
        acted |= self.answer_listings();
        acted |= self.end_joining();
        acted
    }

    fn carry_out_for_point(&mut self, output: Output) {
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
                if let Some(point) = &self.friends.point {
                    point.grant(login);
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

    pub(super) fn friends_request(&mut self, now: Instant, request: FriendsRequest) {
        match request {
            FriendsRequest::Invite { name, lasts, reply } => match self.invite(now, &name, lasts) {
                Ok((text, kept)) => self.answer_when_stored(reply, text, kept),
                Err(error) => self.answer(reply, Err(error)),
            },
            FriendsRequest::Join { invitation, account, reply } => {
                self.join(now, &invitation, account, reply);
            }
            FriendsRequest::Remove { name, reply } => {
                if self.friends.point.as_mut().is_some_and(|point| point.remove(&name)) {
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
        let (text, invitation) = point.invite(now, name, lasts, pin)?;
        Ok((text.to_string(), self.store.put_invitation(invitation)))
    }

    pub(super) fn publish_friends(&mut self) {
        let view = self.friends.view();
        self.tell(Update::Friends(view));
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unix_seconds() -> u64 {
    unix_micros() / 1_000_000
}
