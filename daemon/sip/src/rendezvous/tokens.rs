//! The names of dialogs as Record-Route has them: sealed, so that nobody else makes one, and with all that it takes to go
//! on with a dialog after a restart, hidden from those whom it passes. Knows no tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sha2::{Digest as _, Sha256};

use super::bindings::Device;
use super::dialogs::Party;
use crate::digest::{Secret, equal};
use crate::endpoint::{Flow, TlsRequirement, Transport};
use crate::message::Request;

/// What this version writes first.
const VERSION: u8 = 1;
/// Bytes of the seal, which is what the rest is hidden with, too.
const SEAL: usize = 16;
/// Minutes for which a name is good, whatever is heard in the dialog.
const LIFE: u32 = 7 * 24 * 60;
/// Longest name read.
const LONGEST: usize = 400;
const BLOCK: usize = 64;
const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// What dialogs are named with.
pub(super) struct Tokens {
    sealing: [u8; 32],
    hiding: [u8; 32],
}

impl Tokens {
    pub(super) fn new(key: &Secret) -> Self {
        let own = |what: &str| hmac(key.expose().as_bytes(), &[what.as_bytes()]);
        Self { sealing: own("voipd dialog seal"), hiding: own("voipd dialog cover") }
    }

    /// A name for a dialog that an INVITE may begin; `drawn` keeps two of them apart, `unix` is the time in seconds.
    pub(super) fn write(&self, invite: &Request, parties: [&Party; 2], unix: u64, drawn: [u8; 12]) -> String {
        let mut text = vec![VERSION];
        text.extend(minutes(unix).to_be_bytes());
        text.extend(drawn);
        for party in parties {
            put_party(&mut text, party);
        }
        let seal = self.seal(&text, &invite.call_id, invite.from.tag().unwrap_or_default());
        self.cover(&seal, &mut text);
        encode(&[&seal, text.as_slice()].concat())
    }

    /// Caller's tag, caller and callee of the dialog that a request belongs to, if this name of it is ours and not too old.
    pub(super) fn read(&self, name: &str, request: &Request, unix: u64) -> Option<(String, [Party; 2])> {
        let bytes = decode(name)?;
        let (seal, text) = bytes.split_first_chunk::<SEAL>()?;
        let mut text = text.to_vec();
        self.cover(seal, &mut text);
        let tags = [request.from.tag(), request.to.tag()].into_iter().flatten();
        let is_right = |tag: &&str| equal(&self.seal(&text, &request.call_id, tag), seal);
        let caller_tag = tags.into_iter().find(is_right)?.to_owned();
        let (version, rest) = text.split_first()?;
        let (written, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<12>()?;
        let age = minutes(unix).saturating_sub(u32::from_be_bytes(*written));
        if *version != VERSION || age > LIFE {
            return None;
        }
        let (caller, rest) = take_party(rest)?;
        let (callee, rest) = take_party(rest)?;
        rest.is_empty().then_some((caller_tag, [caller, callee]))
    }

    fn seal(&self, text: &[u8], call_id: &str, tag: &str) -> [u8; SEAL] {
        let length = u32::try_from(call_id.len()).unwrap_or(u32::MAX).to_be_bytes();
        let whole = hmac(&self.sealing, &[text, &length, call_id.as_bytes(), tag.as_bytes()]);
        let mut seal = [0; SEAL];
        seal.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        seal
    }

    /// Hides, and shows again: a stream that hangs on all that is sealed (as in RFC 5297).
    fn cover(&self, seal: &[u8; SEAL], text: &mut [u8]) {
        for (place, part) in text.chunks_mut(32).enumerate() {
            let count = u32::try_from(place).unwrap_or(u32::MAX).to_be_bytes();
            let stream = hmac(&self.hiding, &[seal, &count]);
            part.iter_mut().zip(stream).for_each(|(byte, with)| *byte ^= with);
        }
    }
}

fn minutes(unix: u64) -> u32 {
    u32::try_from(unix / 60).unwrap_or(u32::MAX)
}

/// RFC 2104 with SHA-256; keys are no longer than a block.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut padded = [0; BLOCK];
    if key.len() > BLOCK {
        padded.iter_mut().zip(Sha256::digest(key)).for_each(|(to, from)| *to = from);
    } else {
        padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    }
    let mut inner = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
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

/// Five bits a letter, whose case does not matter.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for part in bytes.chunks(5) {
        let bits =
            part.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - part.len()));
        for place in 0..(part.len() * 8).div_ceil(5) {
            let digit = usize::try_from(bits >> (35 - 5 * place) & 31).unwrap_or(0);
            text.push(DIGITS.get(digit).map_or('a', |digit| char::from(*digit)));
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() > LONGEST || matches!(text.len() % 8, 1 | 3 | 6) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 8 * 5 + 4);
    for part in text.as_bytes().chunks(8) {
        let mut bits = 0_u64;
        for letter in part {
            let letter = letter.to_ascii_lowercase();
            let digit = DIGITS.iter().position(|digit| *digit == letter)?;
            bits = bits << 5 | u64::try_from(digit).ok()?;
        }
        bits <<= 5 * (8 - part.len());
        bytes.extend(bits.to_be_bytes().iter().skip(3).take(part.len() * 5 / 8));
    }
    Some(bytes)
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
    fn hmac_is_that_of_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"])),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"])),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn letters_hold_bytes_of_every_length() {
        for length in 0..100_u8 {
            let bytes: Vec<u8> = (0..length).map(|n| n.wrapping_mul(37)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes), "{length}");
        }
        assert_eq!(decode("a"), None);
        assert_eq!(decode("ab*d"), None);
        assert_eq!(decode("ABCD"), decode("abcd"));
        assert_eq!(decode(&"A".repeat(LONGEST + 1)), None);
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
        for place in 0..name.len() {
            let mut forged = name.clone().into_bytes();
            forged[place] = if forged[place] == b'a' { b'b' } else { b'a' };
            let forged = String::from_utf8(forged).unwrap();
            // The last letter has bits that mean nothing.
            let is_last = place + 1 == name.len();
            assert!(is_last || tokens.read(&forged, &own, 1000).is_none(), "{place}");
            assert!(tokens.read(&name[..place], &own, 1000).is_none());
        }
        // Neither names nor addresses can be read by who carries it.
        let bytes = decode(&name).unwrap();
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
        assert!(name.len() <= LONGEST, "{}", name.len());
        let connected = Party { flow: flow.map(|flow| Flow { transport: Transport::Tcp, ..flow }), ..long };
        let name = tokens.write(&request("c", "t", ""), [&connected, &connected], 0, [0; 12]);
        let (_, [read, _]) = tokens.read(&name, &request("c", "t", "u"), 0).unwrap();
        assert_eq!(read.flow, None);
    }
}
