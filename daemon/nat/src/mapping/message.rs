//! The messages of PCP that open and close pinholes: MAP requests and their answers (RFC 6887 sections 7 and 11.1), for
//! IPv6 alone and without options.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::Transport;

const VERSION: u8 = 2;
const MAP: u8 = 1;
/// The bit that makes an answer of an opcode.
const ANSWER: u8 = 0x80;
/// Octets of a request or an answer without options.
const LENGTH: usize = 60;

/// Wants a pinhole, or with no lifetime does not want it any more.
pub(super) struct Request {
    pub(super) client: Ipv6Addr,
    pub(super) nonce: [u8; 12],
    pub(super) transport: Transport,
    pub(super) port: u16,
    pub(super) lifetime: Duration,
}

/// What the router says.
pub(super) struct Response {
    pub(super) nonce: [u8; 12],
    pub(super) transport: Transport,
    pub(super) internal_port: u16,
    /// Seconds since it forgot everything.
    pub(super) epoch: u32,
    /// Or its result code, which is not 0.
    pub(super) outcome: Result<Grant, u8>,
}

/// What it lets in.
pub(super) struct Grant {
    pub(super) address: Ipv6Addr,
    pub(super) port: u16,
    pub(super) lifetime: Duration,
}

impl Request {
    pub(super) fn write(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let seconds = u32::try_from(self.lifetime.as_secs()).unwrap_or(u32::MAX);
        // What we would like to be reached at is what we are; nothing is asked for when it is to be closed (section 15).
        let (port, address) = match seconds {
            0 => (0, Ipv6Addr::UNSPECIFIED),
            _ => (self.port, self.client),
        };
        let mut rest = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            let taken = std::mem::take(&mut rest);
            if let Some((field, behind)) = taken.split_at_mut_checked(part.len()) {
                field.copy_from_slice(part);
                rest = behind;
            }
        };
        put(&[VERSION, MAP, 0, 0]);
        put(&seconds.to_be_bytes());
        put(&self.client.octets());
        put(&self.nonce);
        put(&[number(self.transport), 0, 0, 0]);
        put(&self.port.to_be_bytes());
        put(&port.to_be_bytes());
        put(&address.octets());
        bytes
    }
}

impl Response {
    /// `None`: it is no answer to a MAP request.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [version, opcode, _, result] = *take::<4>(&mut rest)?;
        if version != VERSION || opcode != ANSWER | MAP {
            return None;
        }
        let lifetime = u32::from_be_bytes(*take(&mut rest)?);
        let epoch = u32::from_be_bytes(*take(&mut rest)?);
        take::<12>(&mut rest)?;
        let nonce = *take(&mut rest)?;
        let [protocol, ..] = *take::<4>(&mut rest)?;
        let transport = [Transport::Udp, Transport::Tcp].into_iter().find(|one| number(*one) == protocol)?;
        let internal_port = u16::from_be_bytes(*take(&mut rest)?);
        let port = u16::from_be_bytes(*take(&mut rest)?);
        let address = Ipv6Addr::from(*take::<16>(&mut rest)?);
        let lifetime = Duration::from_secs(lifetime.into());
        let outcome = if result == 0 { Ok(Grant { address, port, lifetime }) } else { Err(result) };
        Some(Self { nonce, transport, internal_port, epoch, outcome })
    }
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (part, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(part)
}

/// As IANA numbers them.
fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 17,
        Transport::Tcp => 6,
    }
}
