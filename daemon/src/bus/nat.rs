//! `org.voipd.Nat1`: how this machine looks from outside.

use std::net::IpAddr;

use voipd_agent::{RelayState, RelayView};
use voipd_nat::stun::{PathReport, ServerReport};
use voipd_sip::rendezvous::OfferState;
use zbus::message::Body;

use super::mappings;
use super::outcome::{Dict, Failure, Outcome, Requests, nothing, unknown_method};
use crate::api::Request;
use crate::api::mappings::MappingView;
use crate::api::nat::{NatView, OfferView};

pub(super) fn properties(view: &NatView, mapped: &[MappingView]) -> Dict {
    let network = view.network.name();
    let local: Vec<String> = view.local_addresses.iter().map(IpAddr::to_string).collect();
    let relays: Vec<Dict> = view.relays.iter().map(relay).chain(view.offers.iter().map(offer)).collect();
    let view = &view.discovery;
    let first = view.paths.first();
    let mut public: Vec<String> = Vec::new();
    for address in view.paths.iter().flat_map(|path| &path.public) {
        let address = address.to_string();
        if !public.contains(&address) {
            public.push(address);
        }
    }
    Dict::from([
        ("NetworkState", network.into()),
        ("LocalAddresses", local.into()),
        ("State", view.state.name().into()),
        ("Reason", view.reason.clone().into()),
        ("PublicAddresses", public.into()),
        ("MappingBehaviour", first.map(|path| path.mapping).unwrap_or_default().name().into()),
        ("FilteringBehaviour", first.map(|path| path.filtering).unwrap_or_default().name().into()),
        ("Paths", view.paths.iter().map(path).collect::<Vec<_>>().into()),
        ("Relays", relays.into()),
        ("Servers", view.servers.iter().map(server).collect::<Vec<_>>().into()),
        ("Mappings", mapped.iter().map(mappings::properties).collect::<Vec<_>>().into()),
    ])
}

pub(super) fn call(requests: &Requests, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "AddMapping" => mappings::add(requests, body),
        "RemoveMapping" => mappings::remove(requests, body),
        "Discover" => {
            nothing(member, body)?;
            requests.order(|reply| Request::Discover { reply })
        }
        _ => Err(unknown_method(member)),
    }
}

fn relay(relay: &RelayView) -> Dict {
    let (state, reason) = match &relay.state {
        RelayState::Unknown => ("unknown", ""),
        RelayState::Reachable => ("reachable", ""),
        RelayState::Failed(why) => ("failed", why.as_str()),
    };
    let rtt_ms = relay.round_trip.map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0);
    Dict::from([
        ("uri", relay.uri.clone().into()),
        ("state", state.into()),
        ("reason", reason.to_owned().into()),
        ("rtt-ms", rtt_ms.into()),
        ("lent-by", relay.friend.clone().unwrap_or_default().into()),
        ("offered-to", String::new().into()),
    ])
}

fn offer(offer: &OfferView) -> Dict {
    let (state, reason) = match &offer.state {
        OfferState::Checking => ("unknown", ""),
        OfferState::Lent => ("reachable", ""),
        OfferState::Refused(why) => ("failed", why.as_str()),
    };
    Dict::from([
        ("uri", offer.uri.clone().into()),
        ("state", state.into()),
        ("reason", reason.to_owned().into()),
        ("rtt-ms", 0.0.into()),
        ("lent-by", String::new().into()),
        ("offered-to", offer.point.clone().into()),
    ])
}

fn path(path: &PathReport) -> Dict {
    Dict::from([
        ("local", path.local.to_string().into()),
        ("public", path.public.iter().map(IpAddr::to_string).collect::<Vec<_>>().into()),
        ("mapping", path.mapping.name().into()),
        ("filtering", path.filtering.name().into()),
        ("ports", path.ports.name().into()),
        ("hairpin", path.hairpin.name().into()),
    ])
}

fn server(server: &ServerReport) -> Dict {
    let text = |address: Option<std::net::SocketAddr>| address.map(|at| at.to_string()).unwrap_or_default();
    let rtt_ms = server.rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0);
    Dict::from([
        ("name", server.name.clone().into()),
        ("source", server.source.to_string().into()),
        ("address", text(server.address).into()),
        ("state", server.state.name().into()),
        ("reason", server.reason.clone().into()),
        ("rtt-ms", rtt_ms.into()),
        ("public", text(server.public).into()),
    ])
}
