//! Speaks UPnP's Internet Gateway Device protocol with the router. It remembers where the router's control point is, and
//! what was mapped there by this process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use igd_next::aio::Gateway as Igd;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{
    AddPortError, GetExternalIpError, GetGenericPortMappingEntryError, PortMappingEntry, PortMappingProtocol,
    RemovePortError, RequestError, SearchOptions,
};
use tokio::sync::Mutex;
use voipd_nat::mapping::{Action, Answer, Gateway, Granted, Lease, Memory, Refusal, Transport};

use super::seconds;

/// A device answers within three seconds (the `MX` of the search).
const SEARCH: Duration = Duration::from_secs(4);
/// For everything about one request.
const WHOLE: Duration = Duration::from_secs(12);
/// SSDP's port.
const SSDP: u16 = 1900;
/// As routers' administrators see our mappings.
const DESCRIPTION: &str = "voipd";
/// Most entries of a router's table that are looked at for one of ours.
const MOST_ENTRIES: u32 = 64;

/// One router's control point, once it is found.
#[derive(Default)]
pub(super) struct Upnp {
    found: Mutex<Option<(Gateway, Igd<Tokio>)>>,
    /// External ports that this process has mapped, and so may remove without a look.
    made: std::sync::Mutex<BTreeSet<(Ipv4Addr, Transport, u16)>>,
}

impl Upnp {
    /// Answers an action.
    pub(super) async fn ask(&self, action: Action) -> Answer {
        match tokio::time::timeout(WHOLE, self.ask_patiently(action)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Refused(Refusal::NoAnswer),
        }
    }

    /// Finds the router's control point, and asks it for its address outside.
    pub(super) async fn look(&self, gateway: Gateway) -> Result<Ipv4Addr, Refusal> {
        let asked = tokio::time::timeout(WHOLE, async {
            let (igd, _) = self.find(gateway).await.ok_or(Refusal::NoAnswer)?;
            external(&igd).await
        });
        let seen = asked.await.unwrap_or(Err(Refusal::NoAnswer));
        if seen == Err(Refusal::NoAnswer) {
            // After a restart its control point may be another one.
            *self.found.lock().await = None;
        }
        seen
    }

    async fn ask_patiently(&self, action: Action) -> Answer {
        let gateway = action.lease().gateway;
        let Some((igd, fresh)) = self.find(gateway).await else { return Answer::Refused(Refusal::NoAnswer) };
        let answer = self.carry_out(&igd, &action).await;
        if answer != Answer::Refused(Refusal::NoAnswer) || fresh {
            return answer;
        }
        // After a restart its control point may be another one.
        *self.found.lock().await = None;
        match self.find(gateway).await {
            Some((igd, _)) => self.carry_out(&igd, &action).await,
            None => answer,
        }
    }

    /// The control point of this router, and whether it was found just now.
    async fn find(&self, gateway: Gateway) -> Option<(Igd<Tokio>, bool)> {
        // Whoever comes second waits here and need not search again.
        let mut found = self.found.lock().await;
        if let Some((_, igd)) = found.as_ref().filter(|(known, _)| *known == gateway) {
            return Some((igd.clone(), false));
        }
        // Some routers answer questions to themselves alone, some those to all alone.
        let to_all = search(gateway, SocketAddr::from(([239, 255, 255, 250], SSDP)));
        let to_it = search(gateway, SocketAddr::from((gateway.router, SSDP)));
        let (mut to_all, mut to_it) = (std::pin::pin!(to_all), std::pin::pin!(to_it));
        let igd = tokio::select! {
            Some(igd) = &mut to_all => Some(igd),
            Some(igd) = &mut to_it => Some(igd),
            else => None,
        }?;
        *found = Some((gateway, igd.clone()));
        Some((igd, true))
    }

    async fn carry_out(&self, igd: &Igd<Tokio>, action: &Action) -> Answer {
        match action {
            Action::Map { lease, lifetime } => self.map(igd, lease, *lifetime, Memory::Unknown).await,
            Action::Check { lease, lifetime } => match entry(igd, lease).await {
                Ok(Some(entry)) if is_ours(&entry, lease) => {
                    let left = Duration::from_secs(entry.lease_duration.into());
                    let lifetime = (entry.lease_duration != 0).then_some(left);
                    granted(igd, lease, lifetime, Memory::Kept).await
                }
                Ok(_) => self.map(igd, lease, *lifetime, Memory::Lost).await,
                Err(refusal @ Refusal::NoAnswer) => Answer::Refused(refusal),
                // It does not show its table.
                Err(_) => self.map(igd, lease, *lifetime, Memory::Unknown).await,
            },
            Action::Unmap { lease } => self.unmap(igd, lease).await,
        }
    }

    async fn map(
        &self,
        igd: &Igd<Tokio>,
        lease: &Lease,
        lifetime: Option<Duration>,
        memory: Memory,
    ) -> Answer {
        let client = SocketAddr::from((lease.gateway.local, lease.internal_port));
        // 0 is permanent.
        let lease_seconds = lifetime.map_or(0, seconds);
        let protocol = protocol(lease.transport);
        match igd.add_port(protocol, lease.external_port, client, lease_seconds, DESCRIPTION).await {
            Ok(()) => {
                self.made(|made| made.insert(key(lease)));
                granted(igd, lease, lifetime, memory).await
            }
            Err(error) => Answer::Refused(match error {
                AddPortError::PortInUse => Refusal::PortInUse,
                AddPortError::SamePortValuesRequired => Refusal::SamePort,
                AddPortError::OnlyPermanentLeasesSupported => Refusal::OnlyPermanent,
                AddPortError::ActionNotAuthorized => Refusal::NotAuthorized,
                AddPortError::RequestError(error) => refusal(&error),
                other => Refusal::Other(other.to_string()),
            }),
        }
    }

    async fn unmap(&self, igd: &Igd<Tokio>, lease: &Lease) -> Answer {
        if !self.made(|made| made.contains(&key(lease))) {
            // Of an earlier run: by now it may be somebody else's.
            match entry(igd, lease).await {
                Ok(Some(entry)) if is_ours(&entry, lease) => {}
                Ok(_) => return Answer::Unmapped,
                Err(refusal) => return Answer::Refused(refusal),
            }
        }
        match igd.remove_port(protocol(lease.transport), lease.external_port).await {
            Ok(()) | Err(RemovePortError::NoSuchPortMapping) => {
                self.made(|made| made.remove(&key(lease)));
                Answer::Unmapped
            }
            Err(RemovePortError::ActionNotAuthorized) => Answer::Refused(Refusal::NotAuthorized),
            Err(RemovePortError::RequestError(error)) => Answer::Refused(refusal(&error)),
        }
    }

    fn made<T>(&self, work: impl FnOnce(&mut BTreeSet<(Ipv4Addr, Transport, u16)>) -> T) -> T {
        work(&mut self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn key(lease: &Lease) -> (Ipv4Addr, Transport, u16) {
    (lease.gateway.router, lease.transport, lease.external_port)
}

/// The router's control point. Other devices that call themselves gateways are passed over: what leaves this machine does
/// not pass them, so that a mapping of theirs would lead nowhere.
async fn search(gateway: Gateway, towards: SocketAddr) -> Option<Igd<Tokio>> {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::from((gateway.local, 0));
    options.broadcast_address = towards;
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    match search_gateway(options).await {
        Ok(igd) if igd.addr.ip() == IpAddr::V4(gateway.router) => Some(igd),
        Ok(igd) => {
            log::debug!("{} calls itself a gateway, but the way out is {}", igd.addr.ip(), gateway.router);
            None
        }
        Err(error) => {
            log::debug!("UPnP: {error}");
            None
        }
    }
}

/// The mapping stands; where does it lead from?
async fn granted(igd: &Igd<Tokio>, lease: &Lease, lifetime: Option<Duration>, memory: Memory) -> Answer {
    match external(igd).await {
        Ok(address) => {
            let external = SocketAddrV4::new(address, lease.external_port);
            Answer::Mapped(Granted { external, lifetime, memory })
        }
        Err(refusal) => Answer::Refused(refusal),
    }
}

/// The router's address outside.
async fn external(igd: &Igd<Tokio>) -> Result<Ipv4Addr, Refusal> {
    match igd.get_external_ip().await {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(Refusal::Other("its external address is none of IPv4".to_owned())),
        Err(GetExternalIpError::ActionNotAuthorized) => Err(Refusal::NotAuthorized),
        // miniupnpd leaves the element empty where its own way out has a private address.
        Err(GetExternalIpError::RequestError(RequestError::InvalidResponse(_))) => {
            let why = "it names no external address: it is behind another router, or not connected";
            Err(Refusal::Other(why.to_owned()))
        }
        Err(GetExternalIpError::RequestError(error)) => Err(refusal(&error)),
    }
}

/// What the router's table has at the external port of this lease. `Err` when it does not show its table.
async fn entry(igd: &Igd<Tokio>, lease: &Lease) -> Result<Option<PortMappingEntry>, Refusal> {
    for index in 0..MOST_ENTRIES {
        match igd.get_generic_port_mapping_entry(index).await {
            Ok(entry) => {
                let same = entry.external_port == lease.external_port
                    && entry.protocol.to_string() == protocol(lease.transport).to_string();
                if same {
                    return Ok(Some(entry));
                }
            }
            Err(GetGenericPortMappingEntryError::SpecifiedArrayIndexInvalid) => return Ok(None),
            Err(GetGenericPortMappingEntryError::ActionNotAuthorized) => return Err(Refusal::NotAuthorized),
            Err(GetGenericPortMappingEntryError::RequestError(error)) => return Err(refusal(&error)),
        }
    }
    Err(Refusal::Other(format!("its table has more than {MOST_ENTRIES} entries")))
}

fn is_ours(entry: &PortMappingEntry, lease: &Lease) -> bool {
    entry.internal_port == lease.internal_port
        && entry.internal_client.parse() == Ok(IpAddr::V4(lease.gateway.local))
}

fn protocol(transport: Transport) -> PortMappingProtocol {
    match transport {
        Transport::Udp => PortMappingProtocol::UDP,
        Transport::Tcp => PortMappingProtocol::TCP,
    }
}

fn refusal(error: &RequestError) -> Refusal {
    match error {
        RequestError::IoError(_) | RequestError::HyperError(_) | RequestError::HyperClientError(_) => {
            Refusal::NoAnswer
        }
        RequestError::ErrorCode(718, _) => Refusal::PortInUse,
        RequestError::ErrorCode(401, _) | RequestError::UnsupportedAction(_) => Refusal::Unsupported,
        RequestError::ErrorCode(501, text) => Refusal::Other(format!("action failed: {}", printable(text))),
        RequestError::ErrorCode(code, text) => Refusal::Other(format!("error {code}: {}", printable(text))),
        // The text is a whole document.
        RequestError::InvalidResponse(_) => Refusal::Other("an answer that makes no sense".to_owned()),
        other => Refusal::Other(printable(&other.to_string())),
    }
}

/// A router's words, fit for a log and a terminal.
fn printable(text: &str) -> String {
    const MOST: usize = 100;
    text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect()
}
