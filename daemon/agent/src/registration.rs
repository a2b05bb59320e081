//! How the accounts' registrations fare, as front ends and the log are told of it.

use voipd_sip::digest::Algorithm;
use voipd_sip::endpoint::{Binding, IdentityId, RegistrationFailure, RegistrationState};

use crate::account::AccountId;
use crate::accounts::failure_name;
use crate::agent::Agent;
use crate::output::{Note, Output, Weight};

impl Agent {
    pub(crate) fn registration(&mut self, identity: IdentityId, state: RegistrationState) {
        let Some(id) = self.accounts.set_registration(identity, state.clone()) else { return };
        match state {
            RegistrationState::Registered { expires } => {
                self.account_note(id, Weight::Info, format!("registered for {expires} s"));
            }
            RegistrationState::Failed { reason: RegistrationFailure::NoNetwork, .. } => {
                self.account_note(id, Weight::Info, "waiting for a network".to_owned());
            }
            RegistrationState::Failed { reason, status, retry } => {
                let status = status.map(|s| format!(" ({s})")).unwrap_or_default();
                let next = if retry.is_some() { "; trying again" } else { "; not tried again" };
                let text = format!("registration failed: {}{status}{next}", failure_name(reason));
                self.account_note(id, Weight::Warning, text);
            }
            RegistrationState::Unregistered => {
                self.account_note(id, Weight::Info, "not registered any more".to_owned());
            }
            RegistrationState::Registering => {}
        }
        self.account_changed(id);
    }

    /// What the registrar says of the registration has changed.
    pub(crate) fn bound(&mut self, identity: IdentityId, binding: Binding) {
        if let Some(id) = self.accounts.set_binding(identity, binding) {
            self.account_changed(id);
        }
    }

    /// The servers' challenges are answered with another algorithm than before.
    pub(crate) fn digest_in_use(&mut self, identity: IdentityId, algorithm: Algorithm) {
        let Some(id) = self.accounts.set_digest(identity, algorithm) else { return };
        if algorithm.is_weak() {
            let text = format!(
                "the server has the password proved with {}, which is weak; \"allow-md5 = false\" refuses that",
                algorithm.name()
            );
            self.account_note(id, Weight::Info, text);
        }
        self.account_changed(id);
    }

    fn account_note(&mut self, id: AccountId, weight: Weight, text: String) {
        let account = self.accounts.get(id).map(|account| account.settings.name.clone());
        self.outputs.push_back(Output::Log(Note { weight, text, call: None, account }));
    }
}
