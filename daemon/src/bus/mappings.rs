//! Port mappings on `org.voipd.Nat1`.

use std::net::SocketAddr;
use std::time::Duration;

use voipd_nat::mapping::{Protocol, Transport};
use zbus::message::Body;

use super::options::{Options, Received};
use super::outcome::{Dict, Failure, Outcome, Reply, Requests, arguments, invalid};
use crate::api::Request;
use crate::api::mappings::{MappingView, MappingWish};

/// Shorter ones are not worth the router's trouble.
const SHORTEST: u32 = 60;
/// A year.
const LONGEST: u32 = 31_536_000;

pub(super) fn properties(view: &MappingView) -> Dict {
    let internal = match view.internal_address {
        Some(address) => SocketAddr::new(address, view.internal_port).to_string(),
        None => format!(":{}", view.internal_port),
    };
    Dict::from([
        ("id", view.id.into()),
        ("protocol", view.transport.name().into()),
        ("internal", internal.into()),
        ("external", view.external.map(|at| at.to_string()).unwrap_or_default().into()),
        ("purpose", view.purpose.name().into()),
        ("call", view.call.map_or(0, |call| call.0).into()),
        ("by", view.by.map_or("", Protocol::name).into()),
        ("expires", view.expires.unwrap_or(0).into()),
        ("reason", view.reason.clone().into()),
    ])
}

pub(super) fn add(requests: &Requests, body: &Body) -> Result<Outcome, Failure> {
    let (transport, internal_port, options): (&str, u16, Received) =
        arguments("AddMapping", "a protocol, a port and options", body)?;
    let transport = match transport {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return Err(invalid("the protocol is 'udp' or 'tcp'")),
    };
    if internal_port == 0 {
        return Err(invalid("the port is 0: name one from 1 to 65535"));
    }
    let mut options = Options::new(options);
    let external_port = match options.number("external-port")? {
        None => None,
        Some(port) => Some(u16::try_from(port).ok().filter(|port| *port != 0).ok_or_else(|| {
            invalid(format!("the option 'external-port' is {port}: name a port from 1 to 65535"))
        })?),
    };
    let keep_for = options.number("lifetime")?;
    if let Some(seconds) = keep_for.filter(|seconds| !(SHORTEST..=LONGEST).contains(seconds)) {
        return Err(invalid(format!(
            "the option 'lifetime' is {seconds}: name {SHORTEST} to {LONGEST} seconds, or leave it out"
        )));
    }
    options.finish()?;
    let keep_for = keep_for.map(|seconds| Duration::from_secs(seconds.into()));
    let wish = MappingWish { transport, internal_port, external_port, keep_for };
    requests.ask(|reply| Request::AddMapping { wish, reply }, |id| Ok(Reply::Number(id)))
}

pub(super) fn remove(requests: &Requests, body: &Body) -> Result<Outcome, Failure> {
    let mapping = arguments("RemoveMapping", "the number of a mapping", body)?;
    requests.order(|reply| Request::RemoveMapping { mapping, reply })
}
