//! Talks with routers about port mappings, each request in a task of its own. What to ask and what to make of the answer
//! is `voipd_nat::mapping`'s business.

mod pcp;
pub mod route;
mod upnp;

use std::net::Ipv4Addr;
use std::sync::Arc;

use voipd_nat::mapping::{Action, Answer, Gateway, Protocol, Refusal};

use upnp::Upnp;

/// Carries out requests; all clones share what was found out about routers.
#[derive(Clone, Default)]
pub struct Talker {
    upnp: Arc<Upnp>,
}

impl Talker {
    /// Asks the router; always answers within the time that the policy gives.
    pub async fn ask(&self, action: Action) -> Answer {
        match action.lease().protocol {
            Protocol::Upnp => self.upnp.ask(action).await,
            Protocol::NatPmp => pcp::ask_nat_pmp(action).await,
            Protocol::Pcp => pcp::ask_pcp(action).await,
        }
    }

    /// Asks the router whether it speaks a protocol and which address it has outside, where that can be asked without a
    /// mapping. A device of UPnP is found by it, and need not be searched for again.
    ///
    /// # Errors
    /// What the router refuses with; [`Refusal::NoAnswer`] where nobody speaks the protocol.
    pub async fn look(&self, protocol: Protocol, gateway: Gateway) -> Result<Option<Ipv4Addr>, Refusal> {
        match protocol {
            Protocol::Upnp => self.upnp.look(gateway).await.map(Some),
            Protocol::NatPmp => pcp::look_by_nat_pmp(gateway).await.map(Some),
            Protocol::Pcp => pcp::look_by_pcp(gateway).await.map(|()| None),
        }
    }
}

/// Seconds as routers count them; a fraction of one is a whole one.
fn seconds(lifetime: std::time::Duration) -> u32 {
    u32::try_from(lifetime.as_secs().max(1)).unwrap_or(u32::MAX)
}
