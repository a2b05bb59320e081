//! The names of dialogs as Record-Route has them: sealed, so that nobody else makes one, and with all that it takes to go
//! on with a dialog after a restart, hidden from those whom it passes. Knows no tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE32_NOPAD_NOCASE;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use super::bindings::Device;
use super::dialogs::Party;
use crate::digest::Secret;
use crate::endpoint::{Flow, TlsRequirement, Transport};
use crate::message::Request;

/// What this version writes first.
const VERSION: u8 = 1;
/// Bytes drawn for each name, with which it is encrypted.
const DRAWN: usize = 12;
/// Minutes for which a name is good, whatever is heard in the dialog.
const LIFE: u32 = 7 * 24 * 60;
/// Longest name read.
const LONGEST: usize = 400;

/// What dialogs are named with.
pub(super) struct Tokens(Option<LessSafeKey>);

impl Tokens {
    pub(super) fn new(key: &Secret) -> Self {
        let own = Sha256::new_with_prefix(b"voipd dialog names\0").chain_update(key.expose()).finalize();
        // A key of this length is never refused.
        Self(UnboundKey::new(&CHACHA20_POLY1305, &own).ok().map(LessSafeKey::new))
    }

    /// A name for a dialog that an INVITE may begin, of the time `unix` in seconds. No two are written with the same
    /// `drawn`.
    pub(super) fn write(
        &self,
        invite: &Request,
        parties: [&Party; 2],
        unix: u64,
        drawn: [u8; DRAWN],
    ) -> String {
        let mut text = vec![VERSION];
        text.extend(minutes(unix).to_be_bytes());
        for party in parties {
            put_party(&mut text, party);
        }
        let dialog = dialog(&invite.call_id, invite.from.tag().unwrap_or_default());
        let nonce = Nonce::assume_unique_for_key(drawn);
        let sealed = self.0.as_ref().map(|key| key.seal_in_place_append_tag(nonce, dialog, &mut text));
        if !matches!(sealed, Some(Ok(()))) {
            // The name is nobody's then, and the dialog ends with this process.
            text.clear();
        }
        let mut name = BASE32_NOPAD_NOCASE.encode(&[&drawn, text.as_slice()].concat());
        name.make_ascii_lowercase();
        name
    }

    /// Caller's tag, caller and callee of the dialog that a request belongs to, if this name of it is ours and not too old.
    pub(super) fn read(&self, name: &str, request: &Request, unix: u64) -> Option<(String, [Party; 2])> {
        if name.len() > LONGEST {
            return None;
        }
        let bytes = BASE32_NOPAD_NOCASE.decode(name.as_bytes()).ok()?;
        let (drawn, sealed) = bytes.split_first_chunk::<DRAWN>()?;
        let key = self.0.as_ref()?;
        // Either of them may send it.
        let tags = [request.from.tag(), request.to.tag()];
        let (caller_tag, text) = tags.into_iter().flatten().find_map(|tag| {
            let nonce = Nonce::assume_unique_for_key(*drawn);
            let mut sealed = sealed.to_vec();
            let text = key.open_in_place(nonce, dialog(&request.call_id, tag), &mut sealed).ok()?.to_vec();
            Some((tag.to_owned(), text))
        })?;
        let (version, rest) = text.split_first()?;
        let (written, rest) = rest.split_first_chunk::<4>()?;
        let age = minutes(unix).saturating_sub(u32::from_be_bytes(*written));
        if *version != VERSION || age > LIFE {
            return None;
        }
        let (caller, rest) = take_party(rest)?;
        let (callee, rest) = take_party(rest)?;
        rest.is_empty().then_some((caller_tag, [caller, callee]))
    }
}

/// What a name is good for alone.
fn dialog(call_id: &str, caller_tag: &str) -> Aad<Vec<u8>> {
    let length = u32::try_from(call_id.len()).unwrap_or(u32::MAX).to_be_bytes();
    Aad::from([&length, call_id.as_bytes(), caller_tag.as_bytes()].concat())
}

fn minutes(unix: u64) -> u32 {
    u32::try_from(unix / 60).unwrap_or(u32::MAX)
}

fn put_party(text: &mut Vec<u8>, party: &Party) {
    // Members' names have 32 letters at most.
    let length = u8::try_from(party.member.len()).unwrap_or(0);
    text.push(length);
    text.extend(party.member.as_bytes().iter().take(length.into()));
    match party.device {
        None => text.push(0),
        Some(Device(device)) => {
            text.push(1);
            text.extend(device.to_be_bytes());
        }
    }
    // A connection does not outlive us.
    match party.flow.filter(|flow| flow.transport == Transport::Udp) {
        None => text.push(0),
        Some(flow) => {
            text.push(1);
            for address in [flow.local, flow.remote] {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        text.push(4);
                        text.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        text.push(6);
                        text.extend(ip.octets());
                    }
                }
                text.extend(address.port().to_be_bytes());
            }
        }
    }
}

fn take_party(text: &[u8]) -> Option<(Party, &[u8])> {
    let (length, rest) = text.split_first()?;
    let (member, rest) = rest.split_at_checked((*length).into())?;
    let member = std::str::from_utf8(member).ok()?.to_owned();
    let (has_device, rest) = rest.split_first()?;
    let (device, rest) = match has_device {
        0 => (None, rest),
        _ => {
            let (device, rest) = rest.split_first_chunk::<8>()?;
            (Some(Device(u64::from_be_bytes(*device))), rest)
        }
    };
    let (has_flow, rest) = rest.split_first()?;
    let (flow, rest) = match has_flow {
        0 => (None, rest),
        _ => {
            let (local, rest) = take_address(rest)?;
            let (remote, rest) = take_address(rest)?;
            (Some(udp(local, remote)), rest)
        }
    };
    Some((Party { member, device, flow }, rest))
}

fn udp(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local, remote, tls: TlsRequirement::default() }
}

fn take_address(text: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (family, rest) = text.split_first()?;
    let (ip, rest): (IpAddr, _) = match family {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))?,
        _ => rest.split_first_chunk::<16>().map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))?,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::wire;

    fn request(call_id: &str, from: &str, to: &str) -> Request {
        let to = if to.is_empty() { String::new() } else { format!(";tag={to}") };
        let text = format!(
            "BYE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag={from}\r\n\
             To: <sip:c@d>{to}\r\nCall-ID: {call_id}\r\nCSeq: 1 BYE\r\n\r\n"
        );
        let Ok(Some(Message::Request(request))) = wire::read_datagram(text.as_bytes()) else { panic!() };
        request
    }

    fn party(member: &str, device: Option<u64>, remote: Option<&str>) -> Party {
        let local = "198.51.100.1:5060".parse().unwrap();
        let flow = remote.map(|remote| udp(local, remote.parse().unwrap()));
        Party { member: member.to_owned(), device: device.map(Device), flow }
    }

    #[test]
    fn a_name_is_read_in_its_own_dialog_by_its_own_key_and_for_a_week() {
        let tokens = Tokens::new(&Secret::new("key"));
        let invite = request("call", "caller", "");
        let both =
            [party("alice", Some(7), Some("203.0.113.5:5060")), party("bob", None, Some("203.0.113.6:1"))];
        let [alice, bob] = &both;
        let week = 7 * 24 * 3600;
        let name = tokens.write(&invite, [alice, bob], 1000, [5; 12]);
        assert!(name.len() < 180, "{name}");
        assert_ne!(name, tokens.write(&invite, [alice, bob], 1000, [6; 12]));
        for (request, unix) in
            [(request("call", "caller", "callee"), 1000), (request("call", "callee", "caller"), 1000 + week)]
        {
            let (tag, [caller, callee]) = tokens.read(&name, &request, unix).unwrap();
            assert_eq!(tag, "caller");
            for (read, written) in [(&caller, alice), (&callee, bob)] {
                assert_eq!(
                    (&read.member, read.device, read.flow),
                    (&written.member, written.device, written.flow)
                );
            }
        }
        let own = request("call", "caller", "callee");
        assert!(tokens.read(&name, &own, 1000 + week + 120).is_none());
        assert!(tokens.read(&name, &request("other", "caller", "callee"), 1000).is_none());
        assert!(tokens.read(&name, &request("call", "x", "y"), 1000).is_none());
        assert!(Tokens::new(&Secret::new("yek")).read(&name, &own, 1000).is_none());
        assert!(tokens.read(&name.to_ascii_uppercase(), &own, 1000).is_some(), "case does not matter");
        for place in 0..name.len() {
            let mut forged = name.clone().into_bytes();
            forged[place] = if forged[place] == b'a' { b'b' } else { b'a' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(tokens.read(&forged, &own, 1000).is_none(), "{place}");
            assert!(tokens.read(&name[..place], &own, 1000).is_none());
        }
        // Neither names nor addresses can be read by who carries it.
        let bytes = BASE32_NOPAD_NOCASE.decode(name.as_bytes()).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alice"));
        assert!(!bytes.windows(4).any(|part| part == [203, 0, 113, 5]));
    }

    #[test]
    fn connections_are_not_remembered_and_the_longest_name_fits() {
        let tokens = Tokens::new(&Secret::new("key"));
        let local = "[2001:db8::1]:5060".parse().unwrap();
        let remote = "[2001:db8::2]:5060".parse().unwrap();
        let flow = Some(udp(local, remote));
        let long = Party { member: "x".repeat(32), device: Some(Device(u64::MAX)), flow };
        let name = tokens.write(&request("c", "t", ""), [&long, &long], u64::MAX, [255; 12]);
        assert!(tokens.read(&"a".repeat(LONGEST + 8), &request("c", "t", "u"), 0).is_none());
        assert!(name.len() <= LONGEST, "{}", name.len());
        let connected = Party { flow: flow.map(|flow| Flow { transport: Transport::Tcp, ..flow }), ..long };
        let name = tokens.write(&request("c", "t", ""), [&connected, &connected], 0, [0; 12]);
        let (_, [read, _]) = tokens.read(&name, &request("c", "t", "u"), 0).unwrap();
        assert_eq!(read.flow, None);
    }
}
