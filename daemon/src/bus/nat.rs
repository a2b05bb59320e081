//! `org.voipd.Nat1`: how this machine looks from outside.

use std::net::IpAddr;

use zbus::message::Body;

use super::outcome::{Dict, Failure, Outcome, Requests, unknown_method};
use crate::api::nat::{NatState, NatView, PathView, ServerState, ServerView};

pub(super) fn properties(view: &NatView) -> Dict {
    let first = view.paths.first();
    let mut public: Vec<String> = Vec::new();
    for address in view.paths.iter().flat_map(|path| &path.public) {
        let address = address.to_string();
        if !public.contains(&address) {
            public.push(address);
        }
    }
    let local: Vec<String> = view.local_addresses.iter().map(IpAddr::to_string).collect();
    Dict::from([
        ("NetworkState", view.network.name().into()),
        ("LocalAddresses", local.into()),
        ("State", state(view.state).into()),
        ("Reason", view.reason.clone().into()),
        ("PublicAddresses", public.into()),
        ("MappingBehaviour", first.map(|path| path.mapping).unwrap_or_default().name().into()),
        ("FilteringBehaviour", first.map(|path| path.filtering).unwrap_or_default().name().into()),
        ("Paths", view.paths.iter().map(path).collect::<Vec<_>>().into()),
        ("Servers", view.servers.iter().map(server).collect::<Vec<_>>().into()),
    ])
}

pub(super) fn call(_requests: &Requests, member: &str, _body: &Body) -> Result<Outcome, Failure> {
    Err(unknown_method(member))
}

fn path(path: &PathView) -> Dict {
    Dict::from([
        ("local", path.local.to_string().into()),
        ("public", path.public.iter().map(IpAddr::to_string).collect::<Vec<_>>().into()),
        ("mapping", path.mapping.name().into()),
        ("filtering", path.filtering.name().into()),
        ("ports", path.ports.name().into()),
        ("hairpin", path.hairpin.name().into()),
    ])
}

fn server(server: &ServerView) -> Dict {
    let text = |address: Option<std::net::SocketAddr>| address.map(|at| at.to_string()).unwrap_or_default();
    let rtt_ms = server.rtt.map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0);
    Dict::from([
        ("name", server.name.clone().into()),
        ("source", server.source.clone().into()),
        ("address", text(server.address).into()),
        ("state", server_state(server.state).into()),
        ("reason", server.reason.clone().into()),
        ("rtt-ms", rtt_ms.into()),
        ("public", text(server.public).into()),
    ])
}

fn state(state: NatState) -> &'static str {
    match state {
        NatState::Unknown => "unknown",
        NatState::Discovering => "discovering",
        NatState::Known => "known",
        NatState::Failed => "failed",
    }
}

fn server_state(state: ServerState) -> &'static str {
    match state {
        ServerState::Unknown => "unknown",
        ServerState::Asking => "asking",
        ServerState::Works => "works",
        ServerState::Failed => "failed",
    }
}
