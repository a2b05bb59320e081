//! What is known of the other side of a call beside its address: asserted identity, anonymity, diversions.

use std::net::IpAddr;

use voipd_sip::caller::{Caller, Diversion};
use voipd_sip::uri::NameAddr;

use crate::account::AccountId;
use crate::agent::Agent;

/// What a call's own server, or the caller, says of it.
#[derive(Default)]
pub(crate) struct Known {
    /// Who the other side is, in the words of the account's own server (RFC 3325). Never that of a stranger.
    pub(crate) asserted: Option<NameAddr>,
    /// Inbound: the caller wants to stay unknown. Outbound: this side does.
    pub(crate) anonymous: bool,
    /// Whom an inbound call was meant for before, the latest first; as the caller says.
    pub(crate) diversions: Vec<Diversion>,
}

impl Agent {
    /// What an INVITE that came from `source` tells of its caller, as far as it is to be believed.
    pub(crate) fn known(&self, account: AccountId, source: IpAddr, caller: Caller) -> Known {
        let identity = self.accounts.get(account).and_then(|account| account.identity);
        let trusted = identity.is_some_and(|identity| self.endpoint.servers(identity).contains(&source));
        Known {
            asserted: caller.asserted.into_iter().next().filter(|_| trusted),
            anonymous: caller.anonymous,
            diversions: caller.diversions,
        }
    }
}
