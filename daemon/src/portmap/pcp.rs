//! Speaks NAT-PMP (RFC 6886) and PCP (RFC 6887) with a router. It keeps nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU16;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig,
    natpmp, pcp,
};
use voipd_nat::mapping::{Action, Answer, Gateway, Granted, Lease, Memory, Refusal, Transport};

use super::seconds;

/// RFC 6886 section 3.1: 250 ms, then twice as long each time. Both protocols are asked so, because a call may wait; after
/// four packets in 3.75 s a router does not speak the protocol.
const PATIENCE: TimeoutConfig =
    TimeoutConfig { initial_timeout: Duration::from_millis(250), max_retries: 3, max_retry_timeout: None };

/// The port whose mapping is removed to see whether a router speaks PCP: discard, which nobody has mapped.
const NOBODYS_PORT: NonZeroU16 = NonZeroU16::new(9).unwrap();
/// It names no mapping, so that it need not be secret.
const NO_NONCE: [u32; 3] = [0; 3];

/// The router's address outside, by NAT-PMP (RFC 6886 section 3.2).
pub(super) async fn look_by_nat_pmp(gateway: Gateway) -> Result<Ipv4Addr, Refusal> {
    let router = GatewayAddress::IpV4(gateway.router);
    natpmp::external_address(router, Some(PATIENCE)).await.map_err(|error| nat_pmp_refusal(&error))
}

/// Whether the router speaks PCP. It has no question that changes nothing but the announcement (RFC 6887 section 14.1),
/// which the library does not speak: so what is not there is removed (section 15), which is answered all the same.
pub(super) async fn look_by_pcp(gateway: Gateway) -> Result<(), Refusal> {
    let router = GatewayAddress::IpV4(gateway.router);
    let nothing =
        pcp::DropMappingRange::Single { protocol: InternetProtocol::Udp, internal_port: NOBODYS_PORT };
    let client = IpAddr::V4(gateway.local);
    match pcp::try_drop_mapping(router, client, NO_NONCE, nothing, Some(PATIENCE)).await {
        Ok(()) => Ok(()),
        // It says no in PCP: who lets others map can refuse to remove what is not there.
        Err(error) => match pcp_refusal(&error) {
            refusal @ (Refusal::NoAnswer | Refusal::Unsupported) => Err(refusal),
            _ => Ok(()),
        },
    }
}

/// Answers an action in NAT-PMP.
pub(super) async fn ask_nat_pmp(action: Action) -> Answer {
    let lease = *action.lease();
    let Some(port) = NonZeroU16::new(lease.internal_port) else { return no_port() };
    let router = GatewayAddress::IpV4(lease.gateway.router);
    let lifetime = match action {
        Action::Unmap { .. } => {
            let removed =
                natpmp::try_drop_mapping(router, protocol(lease.transport), Some(port), Some(PATIENCE)).await;
            return match removed {
                Ok(()) => Answer::Unmapped,
                Err(error) => Answer::Refused(nat_pmp_refusal(&error)),
            };
        }
        Action::Map { lifetime, .. } | Action::Check { lifetime, .. } => lifetime,
    };
    let options = options(&lease, lifetime);
    let mapping = match natpmp::port_mapping(router, protocol(lease.transport), port, options).await {
        Ok(mapping) => mapping,
        Err(error) => return Answer::Refused(nat_pmp_refusal(&error)),
    };
    match natpmp::external_address(router, Some(PATIENCE)).await {
        Ok(address) => granted(&mapping, IpAddr::V4(address)),
        Err(error) => Answer::Refused(nat_pmp_refusal(&error)),
    }
}

/// Answers an action in PCP.
pub(super) async fn ask_pcp(action: Action) -> Answer {
    let lease = *action.lease();
    let Some(internal_port) = NonZeroU16::new(lease.internal_port) else { return no_port() };
    let router = GatewayAddress::IpV4(lease.gateway.router);
    let client = IpAddr::V4(lease.gateway.local);
    let protocol = protocol(lease.transport);
    let lifetime = match action {
        Action::Unmap { .. } => {
            let which = pcp::DropMappingRange::Single { protocol, internal_port };
            return match pcp::try_drop_mapping(router, client, lease.nonce, which, Some(PATIENCE)).await {
                Ok(()) => Answer::Unmapped,
                Err(error) => Answer::Refused(pcp_refusal(&error)),
            };
        }
        Action::Map { lifetime, .. } | Action::Check { lifetime, .. } => lifetime,
    };
    let request = pcp::BaseMapRequest::new(router, client, protocol, internal_port);
    match pcp::port_mapping(request, Some(lease.nonce), None, options(&lease, lifetime)).await {
        Ok(mapping) => match mapping.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => granted(&mapping, external_ip),
            PortMappingType::NatPmp => Answer::Refused(Refusal::Unsupported),
        },
        Err(error) => Answer::Refused(pcp_refusal(&error)),
    }
}

fn protocol(transport: Transport) -> InternetProtocol {
    match transport {
        Transport::Udp => InternetProtocol::Udp,
        Transport::Tcp => InternetProtocol::Tcp,
    }
}

fn options(lease: &Lease, lifetime: Option<Duration>) -> PortMappingOptions {
    PortMappingOptions {
        external_port: NonZeroU16::new(lease.external_port),
        lifetime_seconds: lifetime.map(seconds),
        timeout_config: Some(PATIENCE),
    }
}

fn granted(mapping: &PortMapping, external: IpAddr) -> Answer {
    let IpAddr::V4(address) = external.to_canonical() else {
        return Answer::Refused(Refusal::Other("its external address is none of IPv4".to_owned()));
    };
    Answer::Mapped(Granted {
        external: SocketAddrV4::new(address, mapping.external_port().get()),
        lifetime: Some(Duration::from_secs(mapping.lifetime().into())),
        memory: Memory::Epoch(mapping.gateway_epoch()),
    })
}

fn nat_pmp_refusal(failure: &natpmp::Failure) -> Refusal {
    match failure {
        // A router without the service says by ICMP that nobody is there.
        natpmp::Failure::Timeout | natpmp::Failure::Socket(_) => Refusal::NoAnswer,
        natpmp::Failure::UnsupportedVersion(_) | natpmp::Failure::UnsupportedOpcode => Refusal::Unsupported,
        natpmp::Failure::NotAuthorized => Refusal::NotAuthorized,
        natpmp::Failure::NetworkFailure => Refusal::NoNetwork,
        natpmp::Failure::OutOfResources => Refusal::NoRoom,
        natpmp::Failure::InvalidResponse(error) => Refusal::Other(error.to_string()),
    }
}

fn pcp_refusal(failure: &pcp::Failure) -> Refusal {
    match failure {
        pcp::Failure::Timeout | pcp::Failure::Socket(_) => Refusal::NoAnswer,
        pcp::Failure::UnsupportedVersion(_)
        | pcp::Failure::UnsupportedOpcode
        | pcp::Failure::UnsupportedOption
        | pcp::Failure::UnsupportedProtocol => Refusal::Unsupported,
        pcp::Failure::NotAuthorized(_) => Refusal::NotAuthorized,
        pcp::Failure::NetworkFailure(_) => Refusal::NoNetwork,
        pcp::Failure::NoResources(_) | pcp::Failure::UserExceededQuota(_) => Refusal::NoRoom,
        pcp::Failure::CannotProvideExternal(_) => Refusal::PortInUse,
        other => Refusal::Other(other.to_string()),
    }
}

fn no_port() -> Answer {
    Answer::Refused(Refusal::Other("port 0 cannot be mapped".to_owned()))
}
