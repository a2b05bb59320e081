//! Relays between friends: ours, offered to the friends at the meeting points that we have joined, and those that friends
//! offer at ours, which are tried before anybody is told of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountView, ice_settings};
use voipd_sip::digest::{Login, UserHash};
use voipd_sip::rendezvous::{OfferState, RelayKey, RelayLogin, RelayOffer};

use super::{Driver, Finished};
use crate::api::nat::OfferView;
use crate::config::OfferConfig;
use crate::transport::explained;
use crate::turn_server::{Relay, is_public, try_relay};

/// What the relay's logins are for, in its own words: it says nothing of whose it is.
const REALM: &str = "voipd";

/// A relay over UDP, as everything else shows it.
pub(super) fn uri_of(address: SocketAddr) -> String {
    let (host, port) = (address.ip().to_string(), address.port());
    ice_settings::Relay { host, port, transport: ice_settings::RelayTransport::Udp }.to_string()
}

/// The relay that this machine offers.
pub(super) struct Lending {
    config: Option<OfferConfig>,
    relay: Option<Relay>,
    salt: String,
    offered: BTreeMap<AccountId, Offered>,
}

struct Offered {
    /// The meeting point, as its logins name it.
    point: String,
    /// Where it is offered; `None` where it is not, for what `state` says.
    address: Option<SocketAddr>,
    state: OfferState,
}

impl Lending {
    /// `relay` is one that runs already, `salt` letters that nobody guesses.
    pub(super) fn new(config: Option<OfferConfig>, relay: Option<Relay>, salt: String) -> Self {
        Self { config, relay, salt, offered: BTreeMap::new() }
    }

    /// The relay that is to be offered by an account that is registered from `own`, running.
    fn at(&mut self, own: IpAddr, seed: u64) -> Result<Relay, String> {
        let config = self.config.as_ref().ok_or("none is offered")?;
        // One that runs at an address which is still ours is not moved for another account's sake.
        let is_ours = |ip: IpAddr| std::net::UdpSocket::bind((ip, 0)).is_ok();
        let runs_at = self.relay.as_ref().map(|relay| relay.listen().ip()).filter(|ip| is_ours(*ip));
        let config = config.at(runs_at.unwrap_or(own));
        let ip = config.listen.ip();
        if !is_public(ip) && !config.networks.iter().any(|network| network.contains(ip)) {
            return Err(format!("{ip} is no public address: a relay needs one of this machine's own"));
        }
        if let Some(relay) = self.relay.as_ref().filter(|relay| relay.listen().ip() == ip) {
            return Ok(relay.clone());
        }
        let listen = config.listen;
        // What ran at another address leads nowhere any more.
        self.relay = None;
        let relay = Relay::start(config, REALM.to_owned(), seed).map_err(|error| {
            let error = explained(listen, error);
            format!("it cannot be reached at {listen} ({error}): set relay-address in [rendezvous]")
        })?;
        self.relay = Some(relay.clone());
        Ok(relay)
    }

    fn view(&self) -> Vec<OfferView> {
        let view = |offered: &Offered| OfferView {
            uri: offered.address.map(uri_of).unwrap_or_default(),
            point: offered.point.clone(),
            state: offered.state.clone(),
        };
        self.offered.values().map(view).collect()
    }
}

impl Driver {
    /// An account has changed: where it is registered at a meeting point, our relay is offered there.
    pub(super) fn offer_relay(&mut self, now: Instant, view: &AccountView) {
        if self.friends.lending.config.is_none() {
            return;
        }
        let Some(told) = &view.binding.directory else {
            // It is offered anew with the next registration; who is relayed is relayed on.
            self.friends.lending.offered.remove(&view.id);
            return self.nat.set_offers(self.friends.lending.view());
        };
        let registered = self.agent.registered_on(view.id);
        let Some(flow) = registered.filter(|_| view.state == AccountState::Registered) else { return };
        let settings = &view.settings;
        let (Some(user), Some(password), Some(point)) =
            (&settings.auth_user, &settings.password, settings.realms.first())
        else {
            return;
        };
        let own = flow.local.ip();
        let [a, b, c, d, e, f, g, h, ..] = self.friends.draw_seed();
        let lending = &mut self.friends.lending;
        let relay = lending.at(own, u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
        let before = lending.offered.get(&view.id).and_then(|offered| offered.address);
        let (address, state) = match &relay {
            Ok(relay) => (Some(relay.listen()), told.offer.clone().unwrap_or(OfferState::Checking)),
            Err(why) => (None, OfferState::Refused(why.clone())),
        };
        let is_new = match lending.offered.get(&view.id) {
            Some(offered) => offered.address != address || offered.point != *point,
            None => true,
        };
        if let Some(address) = address.filter(|_| is_new) {
            let hash = UserHash::of(point, Login { user, password });
            let salt = lending.salt.clone();
            if let Ok(relay) = &relay {
                relay.trust(point.clone(), RelayKey::of(&hash, &salt));
            }
            log::info!("a relay at {address} is offered to friends at {point}");
            self.agent.offer_relay(view.id, Some(RelayOffer { address, salt }));
            // The meeting point hears of it now, and not with the next refresh.
            let _ = self.agent.register_account(now, view.id, true);
        } else if is_new && before.is_some() {
            self.agent.offer_relay(view.id, None);
        }
        if let Err(why) = relay
            && is_new
        {
            log::warn!("no relay is offered to friends at {point}: {why}");
        }
        let offered = Offered { point: point.clone(), address, state };
        self.friends.lending.offered.insert(view.id, offered);
        self.nat.set_offers(self.friends.lending.view());
    }

    /// An account is no more, and with it the friends who might use our relay.
    pub(super) fn take_back_relay(&mut self, account: AccountId) {
        let lending = &mut self.friends.lending;
        if let Some(offered) = lending.offered.remove(&account) {
            if let Some(relay) = &lending.relay {
                relay.distrust(offered.point);
            }
            self.nat.set_offers(lending.view());
        }
    }

    /// A friend offers a relay at our meeting point.
    pub(super) fn look_at_relay(&mut self, member: String, address: SocketAddr, login: RelayLogin) {
        if !self.friends.may_be_relay(address.ip()) {
            let why = format!("{} is no public address", address.ip());
            return self.friends.relay_checked(&member, address, Err(why));
        }
        let (finished, seed) = (self.finished.clone(), self.friends.draw_seed());
        tokio::spawn(async move {
            let result = try_relay(address, login, seed).await;
            let _ = finished.send(Finished::RelayChecked { member, address, result });
        });
    }
}
