//! Capture files as Wireshark and tcpdump read them: each message in a made-up UDP packet between its addresses.

use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::exit::Failure;
use crate::trace::{Direction, Message};

/// Packets begin with an IP header, of version 4 or 6.
const LINKTYPE_RAW: u32 = 101;
/// Longest message that fits into an IPv4 packet with a UDP header; longer ones are cut off.
const LONGEST: usize = 65_535 - IPV4_HEADER - UDP_HEADER;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const HOPS: u8 = 64;

/// A capture file.
pub(crate) struct Capture {
    name: String,
    file: File,
}

impl Capture {
    /// A new file; one that exists is replaced.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| cannot_write(&name, &error))?;
        let mut capture = Self { name, file };
        // Magic number of times in microseconds, version 2.4, UTC, accuracy, longest packet, link type.
        let header: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535 + 40, LINKTYPE_RAW];
        capture.write(&header.map(u32::to_le_bytes).concat())?;
        Ok(capture)
    }

    /// Appends a message.
    pub(crate) fn add(&mut self, message: &Message) -> Result<(), Failure> {
        let (from, to) = match message.direction {
            Direction::In => (message.remote, message.local),
            Direction::Out => (message.local, message.remote),
        };
        let bytes = message.bytes();
        let packet = packet(from, to, bytes.get(..LONGEST).unwrap_or(&bytes));
        // Seconds wrap in 2106.
        let (seconds, micros) = ((message.time / 1_000_000) as u32, (message.time % 1_000_000) as u32);
        let length = packet.len() as u32;
        let header = [seconds, micros, length, length].map(u32::to_le_bytes).concat();
        self.write(&[header, packet].concat())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| cannot_write(&self.name, &error))
    }
}

fn cannot_write(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write the capture to {name}: {error}"))
}

/// An IP packet with a UDP datagram (RFC 791, RFC 8200, RFC 768). `payload`: at most [`LONGEST`] bytes.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = (UDP_HEADER + payload.len()) as u16;
    let mut udp = Vec::with_capacity(usize::from(length));
    for field in [from.port(), to.port(), length, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(payload);
    let (source, destination) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (source.octets().to_vec(), destination.octets().to_vec())
        }
        (source, destination) => (v6(source).octets().to_vec(), v6(destination).octets().to_vec()),
    };
    let pseudo = [&source[..], &destination, &[0, UDP], &length.to_be_bytes()].concat();
    // Zero would say that there is none.
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut header = if source.len() == 4 {
        let total = (IPV4_HEADER + udp.len()) as u16;
        // Version and length of the header, no fragments.
        let start = [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0, 0x40, 0, HOPS, UDP, 0, 0]];
        let mut header = start.concat();
        header.extend([&source[..], &destination].concat());
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    } else {
        [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[UDP, HOPS], &source, &destination].concat()
    };
    header.extend(udp);
    header
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// RFC 1071. All parts but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 =
        words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low))).sum();
    let folded = (0..3).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_what_the_rfcs_say() {
        let packet = packet("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5070".parse().unwrap(), b"odd");
        assert_eq!(packet.len(), 31);
        assert_eq!(packet[..4], [0x45, 0, 0, 31]);
        assert_eq!(packet[12..20], [192, 0, 2, 1, 192, 0, 2, 2]);
        assert_eq!(packet[20..26], [0x13, 0xc4, 0x13, 0xce, 0, 11]);
        assert_eq!(checksum(&[&packet[..20]]), 0, "the header's own checksum counts in");
        let pseudo = [&packet[12..20], &[0, 17, 0, 11]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
    }

    #[test]
    fn the_checksum_of_rfc_1071_comes_out() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn ipv6_packets_have_their_checksum_too() {
        let packet =
            packet("[2001:db8::1]:5060".parse().unwrap(), "[2001:db8::2]:5060".parse().unwrap(), b"text");
        assert_eq!((packet[0], packet[6], packet.len()), (0x60, 17, 40 + 8 + 4));
        let pseudo = [&packet[8..40], &[0, 17, 0, 12]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[40..]]), 0);
    }
}
