//! As whom the accounts' servers see us by UDP (RFC 3581), as long as the accounts are registered.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountView};
use voipd_nat::stun::{Discovery, Reflexive};
use voipd_sip::endpoint::{Flow, Transport as Protocol};

/// What was told of each account, whether it counts now or not.
#[derive(Default)]
pub(super) struct Registrations {
    accounts: BTreeMap<AccountId, Registration>,
}

#[derive(Default)]
struct Registration {
    name: String,
    registered: bool,
    seen: Option<Reflexive>,
}

impl Registrations {
    /// An account as it is now.
    pub(super) fn put_account(&mut self, view: &AccountView, discovery: &mut Discovery) {
        let registration = self.accounts.entry(view.id).or_default();
        registration.name.clone_from(&view.settings.name);
        registration.registered = view.state == AccountState::Registered;
        registration.tell(discovery);
    }

    /// A server of the account sees us as `address`, or, where that is absent, as we are. Ports of connections say
    /// nothing about others.
    pub(super) fn seen(
        &mut self,
        id: AccountId,
        flow: Flow,
        address: Option<SocketAddr>,
        discovery: &mut Discovery,
    ) {
        if flow.transport == Protocol::Udp {
            let registration = self.accounts.entry(id).or_default();
            let public = address.unwrap_or(flow.local);
            registration.seen = Some(Reflexive { local: flow.local, public, server: flow.remote });
            registration.tell(discovery);
        }
    }

    pub(super) fn remove_account(&mut self, id: AccountId, discovery: &mut Discovery) {
        if let Some(registration) = self.accounts.remove(&id) {
            discovery.forget_reflexive(&registration.name);
        }
    }

    /// Tells everything anew to a discovery that has forgotten it.
    pub(super) fn tell_all(&self, discovery: &mut Discovery) {
        self.accounts.values().for_each(|registration| registration.tell(discovery));
    }
}

impl Registration {
    fn tell(&self, discovery: &mut Discovery) {
        match self.seen.filter(|_| self.registered) {
            Some(seen) => discovery.handle_reflexive(&self.name, seen),
            None => discovery.forget_reflexive(&self.name),
        }
    }
}
