//! Which places names lead to, and by what SIP messages go there; what the log says of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use voipd_agent::view::AccountState;
use voipd_agent::{AccountId, AccountView, MediaNameId, TlsSettings};
use voipd_sip::endpoint::{Flow, NextHop, ResolveError, ResolveId, TlsRequirement, Transport as Protocol};
use voipd_sip::redact::redact;
use voipd_sip::uri::Host;

use super::traces::Direction;
use super::{Driver, Finished, media, unix_micros};
use crate::transport::Place;

impl Driver {
    /// The ways to all places that this machine reaches.
    pub(super) fn flows_to(
        &mut self,
        places: &[Place],
        host: &Host,
        account: Option<AccountId>,
    ) -> Result<Vec<Flow>, ResolveError> {
        let tls = if places.iter().any(|place| place.transport == Protocol::Tls) {
            self.tls_requirement(host, account)
        } else {
            None
        };
        let flow_to = |place: &Place| {
            let tls = if place.transport == Protocol::Tls { tls? } else { TlsRequirement::default() };
            self.transport.flow_to(*place, tls)
        };
        let flows: Vec<Flow> = places.iter().filter_map(flow_to).collect();
        match (flows.is_empty(), places.first()) {
            (true, Some(place)) => Err(ResolveError::NoRoute(place.remote.to_string())),
            _ => Ok(flows),
        }
    }

    pub(super) fn tls_requirement(
        &mut self,
        host: &Host,
        account: Option<AccountId>,
    ) -> Option<TlsRequirement> {
        let settings = account.and_then(|account| self.agent.account_settings(account));
        let settings = settings.map_or_else(TlsSettings::default, |settings| settings.tls.clone());
        match self.transport.require(host, &settings) {
            Ok(number) => Some(number),
            Err(error) => {
                log::warn!("no TLS connection with {host}: {error}");
                None
            }
        }
    }

    /// A server sees us as somebody else than it did.
    pub(super) fn seen_as(&mut self, account: AccountId, flow: Flow, address: Option<SocketAddr>) {
        self.nat.seen_as(account, flow, address);
        let name = self.agent.account_settings(account).map(|settings| settings.name.as_str());
        match address {
            Some(address) => {
                log::info!(account = name; "{} sees {} as {address}", flow.remote, flow.local);
            }
            None => log::info!(account = name; "{} sees {} as it is", flow.remote, flow.local),
        }
    }

    /// Sends a SIP message, whoever has made it.
    pub(super) fn transmit(&mut self, flow: &Flow, bytes: &[u8]) {
        if !is_keep_alive(bytes) {
            log::debug!("SIP to {} by {}: {}", flow.remote, flow.transport.name(), start_line(bytes));
            let call = self.traces.call(&self.agent, bytes);
            self.traces.record(unix_micros(), Direction::Out, flow, call, bytes);
        }
        if let Err(error) = self.transport.send(flow, bytes)
            && !self.is_offline()
        {
            self.agent.handle_failed(Instant::now(), *flow, error);
            self.friends.handle_failed(Instant::now(), *flow, error);
        }
    }

    pub(super) fn resolve(&self, id: ResolveId, account: Option<AccountId>, next_hop: NextHop) {
        let (resolver, finished) = (Arc::clone(&self.resolver), self.finished.clone());
        tokio::spawn(async move {
            let result = resolver.resolve(&next_hop).await;
            // The driver is gone when nobody listens.
            let _ = finished.send(Finished::Resolved { id, host: next_hop.host, account, result });
        });
    }

    pub(super) fn resolve_media(&self, id: MediaNameId, name: String) {
        let (resolver, finished) = (self.resolver.clone(), self.finished.clone());
        tokio::spawn(async move {
            let result = resolver.resolve(&media::host(name)).await;
            let result = result.map_err(|error| error.to_string());
            let result = result.map(|found| found.into_iter().map(|place| place.remote.ip()).collect());
            let _ = finished.send(Finished::MediaResolved { id, result });
        });
    }

    pub(super) fn account_security(&mut self, view: &AccountView) -> String {
        let Some(flow) = self.agent.registered_on(view.id).filter(|_| view.state == AccountState::Registered)
        else {
            return String::new();
        };
        match self.transport.security(&flow) {
            Some(security) => format!("{} {}", security.version, security.cipher),
            None => "none".to_owned(),
        }
    }
}

/// The first line of a SIP message as it is fit for a log: a URI may hold a password.
pub(super) fn start_line(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let bytes = redact(bytes);
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line.get(..LONGEST).unwrap_or(line));
    line.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Line ends, zeros or STUN on a SIP socket (RFC 5626 section 3.5): no message that anybody wants to read.
pub(super) fn is_keep_alive(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first < 4) || bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::start_line;

    #[test]
    fn a_start_line_in_the_log_holds_no_password_and_no_control_characters() {
        let line = start_line(b"INVITE sip:alice:hunter2@example.org SIP/2.0\r\nCall-ID: x\r\n\r\n");
        assert!(line.starts_with("INVITE sip:alice:") && line.ends_with("@example.org SIP/2.0"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
        assert!(!start_line(b"OPTIONS \x1b[2J SIP/2.0\r\n\r\n").contains('\x1b'));
    }
}
