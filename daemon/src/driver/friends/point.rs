//! The meeting point on this machine: how others come to it, whom it invites, and who its members are. It knows nothing
//! of others' meeting points.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use voipd_sip::endpoint::Transport as Protocol;
use voipd_sip::rendezvous::{
    Invitation, InvitationText, InviteError, Member, Output, RelayLogin, Rendezvous, RendezvousConfig,
};

use super::salts::Salts;
use super::{FriendParts, unix_seconds};
use crate::api::{ErrorKind, FriendView, Presence, RequestError};
use crate::config;
use crate::driver::lending::uri_of;
use crate::transport::Transport;
use crate::turn_server::Relay;

/// Most transactions at once of a meeting point.
const MAX_TRANSACTIONS: usize = 4096;

/// How others come to the meeting point.
struct Entrance {
    transport: Protocol,
    port: u16,
}

pub(super) struct Point {
    pub(super) rendezvous: Rendezvous,
    config: config::RendezvousConfig,
    entrance: Entrance,
    relay: Option<Relay>,
    wake_at: Option<Instant>,
}

impl Point {
    /// With what was kept; `None` where this machine is no meeting point.
    pub(super) fn new(parts: &mut FriendParts<'_>, transport: &Transport, salts: &mut Salts) -> Option<Self> {
        let config = parts.config.rendezvous.as_ref()?;
        let (protocol, port) = transport.entrance()?;
        let now = Instant::now();
        let settings = RendezvousConfig {
            product: parts.product.to_owned(),
            host: config.host.clone(),
            port: config.port,
            key: parts.key.clone(),
            max_transactions: MAX_TRANSACTIONS,
        };
        let mut rendezvous = Rendezvous::new(settings, salts.seed(), now, unix_seconds());
        let kept = std::mem::take(&mut parts.kept);
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
        rendezvous.set_relays(parts.relay.iter().flat_map(Relay::uris).collect());
        let entrance = Entrance { transport: protocol, port };
        Some(Self { rendezvous, config: config.clone(), entrance, relay: parts.relay.clone(), wake_at: None })
    }

    /// What stands behind the `@` of its members' addresses.
    pub(super) fn domain(&self) -> String {
        match self.config.port {
            Some(port) => format!("{}:{port}", self.config.host),
            None => self.config.host.to_string(),
        }
    }

    /// When [`Point::handle_timeout`] wants to be called.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.rendezvous.handle_timeout(now);
        }
    }

    /// The next thing that it wants done.
    pub(super) fn poll(&mut self) -> Option<Output> {
        match self.rendezvous.poll_output() {
            Output::Timeout(at) => {
                self.wake_at = at;
                None
            }
            output => Some(output),
        }
    }

    /// Whether its members may have relays there beside public addresses.
    pub(super) fn has_network_of(&self, ip: IpAddr) -> bool {
        self.config.networks.iter().any(|network| network.contains(ip))
    }

    /// A member was given a login at our relay.
    pub(super) fn grant(&self, login: RelayLogin) {
        if let Some(relay) = &self.relay {
            relay.grant(login.user, login.password);
        }
    }

    /// Forgets a member, and takes its logins back. `false`: there is none of that name.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let removed = self.rendezvous.remove(name);
        if removed && let Some(relay) = &self.relay {
            relay.revoke(name.to_owned());
        }
        removed
    }

    /// Invites somebody: the text to be passed on, and what is to be kept. `pin` is what our certificate is known by.
    pub(super) fn invite(
        &mut self,
        now: Instant,
        name: &str,
        lasts: Duration,
        pin: Option<[u8; 32]>,
    ) -> Result<(InvitationText, Invitation), RequestError> {
        let (invitation, secret) = self.rendezvous.invite(now, name, lasts).map_err(|error| {
            let kind = match error {
                InviteError::BadName(_) => ErrorKind::InvalidArgument,
                InviteError::TooManyMembers(_) | InviteError::TooManyDevices { .. } => {
                    ErrorKind::LimitReached
                }
            };
            RequestError { kind, message: error.to_string() }
        })?;
        let Self { config, entrance, .. } = self;
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
        Ok((text, invitation))
    }

    /// Who was ever invited, as the bus shows them.
    pub(super) fn members(&self, now: Instant) -> Vec<FriendView> {
        let domain = self.domain();
        let unix = unix_seconds();
        let members = self.rendezvous.members(now).into_iter();
        let view = |member: Member| FriendView {
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
            relay: self
                .rendezvous
                .offer_of(now, &member.name)
                .map(|(at, state)| (uri_of(at), state.to_string())),
            name: member.name,
        };
        members.map(view).collect()
    }
}
