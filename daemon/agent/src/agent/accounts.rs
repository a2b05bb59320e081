//! The agent's accounts: added, switched on and off, registered, removed, and found again.

use std::time::Instant;

use voipd_sip::endpoint::Flow;
use voipd_sip::rendezvous::RelayOffer;

use super::{Agent, MAX_ACCOUNTS};
use crate::account::{AccountId, AccountOrigin, AccountSettings};
use crate::error::AgentError;
use crate::output::Output;

impl Agent {
    /// Adds an account; an enabled one that registers does so at once.
    ///
    /// # Errors
    /// [`AgentError::AlreadyExists`], [`AgentError::TooManyAccounts`].
    pub fn add_account(&mut self, now: Instant, settings: AccountSettings) -> Result<AccountId, AgentError> {
        if self.accounts.find(&settings.name).is_some() {
            return Err(AgentError::AlreadyExists(settings.name));
        }
        if self.accounts.iter().count() >= MAX_ACCOUNTS {
            return Err(AgentError::TooManyAccounts(MAX_ACCOUNTS));
        }
        let enabled = settings.enabled;
        let id = self.accounts.insert(settings);
        if enabled {
            self.switch_on(now, id);
        }
        self.account_changed(id);
        self.review_servers(now);
        self.settle(now);
        Ok(id)
    }

    /// Ends an account's calls, unregisters and forgets it. The built-in account and those of the configuration stay.
    ///
    /// # Errors
    /// [`AgentError::NoSuchAccount`], [`AgentError::NotRemovable`].
    pub fn remove_account(&mut self, now: Instant, id: AccountId) -> Result<AccountSettings, AgentError> {
        let account = self.accounts.get(id).ok_or(AgentError::NoSuchAccount)?;
        if account.settings.origin != AccountOrigin::Bus {
            return Err(AgentError::NotRemovable(account.settings.name.clone()));
        }
        self.hang_up_all(now, |call| call.account == id);
        // What ends is told while the account can still be seen.
        self.settle(now);
        self.switch_off(now, id);
        let account = self.accounts.remove(id).ok_or(AgentError::NoSuchAccount)?;
        self.outputs.push_back(Output::AccountRemoved(id));
        self.review_servers(now);
        self.settle(now);
        Ok(account.settings)
    }

    /// Switches an account on (it registers, takes and places calls) or off (it unregisters; its calls go on).
    ///
    /// # Errors
    /// [`AgentError::NoSuchAccount`].
    pub fn enable_account(&mut self, now: Instant, id: AccountId, enabled: bool) -> Result<(), AgentError> {
        let account = self.accounts.get(id).ok_or(AgentError::NoSuchAccount)?;
        if account.settings.enabled != enabled {
            self.accounts.set_enabled(id, enabled);
            if enabled {
                self.switch_on(now, id);
            } else {
                self.switch_off(now, id);
            }
            self.account_changed(id);
            self.review_servers(now);
        }
        self.settle(now);
        Ok(())
    }

    /// Registers now and keeps registered, or removes the registration until told otherwise.
    ///
    /// # Errors
    /// [`AgentError::NoSuchAccount`], [`AgentError::AccountDisabled`], [`AgentError::DoesNotRegister`].
    pub fn register_account(&mut self, now: Instant, id: AccountId, on: bool) -> Result<(), AgentError> {
        let account = self.accounts.get(id).ok_or(AgentError::NoSuchAccount)?;
        let name = || account.settings.name.clone();
        let identity = account.identity.ok_or_else(|| AgentError::AccountDisabled(name()))?;
        if account.sip_uri().is_none() {
            return Err(AgentError::DoesNotRegister(name()));
        }
        let name = name();
        let result =
            if on { self.endpoint.register(now, identity) } else { self.endpoint.unregister(now, identity) };
        self.settle(now);
        result.map_err(|_| AgentError::DoesNotRegister(name))
    }

    /// The account of that name.
    pub fn find_account(&self, name: &str) -> Option<AccountId> {
        self.accounts.find(name)
    }

    /// Name of the first account whose settings are as wanted.
    pub fn find_account_where(&self, wanted: impl Fn(&AccountSettings) -> bool) -> Option<&str> {
        let mut all = self.accounts.iter().map(|(_, account)| &account.settings);
        all.find(|settings| wanted(settings)).map(|settings| settings.name.as_str())
    }

    /// An account's settings.
    pub fn account_settings(&self, id: AccountId) -> Option<&AccountSettings> {
        self.accounts.get(id).map(|account| &account.settings)
    }

    /// What the account is registered on, if it is.
    pub fn registered_on(&self, id: AccountId) -> Option<Flow> {
        self.accounts
            .get(id)
            .and_then(|account| account.identity)
            .and_then(|id| self.endpoint.registered_on(id))
    }

    /// Offers a relay of this machine to the friends at the account's meeting point, from the next registration on; `None`
    /// takes it back.
    pub fn offer_relay(&mut self, id: AccountId, offer: Option<RelayOffer>) {
        if let Some(identity) = self.accounts.get(id).and_then(|account| account.identity) {
            self.endpoint.offer_relay(identity, offer);
        }
    }
}
