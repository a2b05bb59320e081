//! Talks with routers about port mappings, each request in a task of its own. What to ask and what to make of the answer
//! is `voipd_nat::mapping`'s business.

mod pcp;
pub mod route;
mod upnp;

use std::sync::Arc;

use voipd_nat::mapping::{Action, Answer, Protocol};

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
}

/// Seconds as routers count them; a fraction of one is a whole one.
fn seconds(lifetime: std::time::Duration) -> u32 {
    u32::try_from(lifetime.as_secs().max(1)).unwrap_or(u32::MAX)
}
