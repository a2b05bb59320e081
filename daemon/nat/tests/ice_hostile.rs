//! Packets of people who mean harm, on every socket and connection: nothing panics, nothing grows, no call ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::world::nat::Kind;
use crate::world::{STUN, Setup, TURN, World, address, relay};
use proptest::prelude::*;
use stun_proto::types::attribute::{RawAttribute, Username, XorMappedAddress};
use stun_proto::types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageIntegrityCredentials, MessageWrite, MessageWriteExt,
    MessageWriteVec, ShortTermCredentials,
};
use voipd_nat::ice::{Candidate, Credentials, IceError, Output, Role, State, StreamId};
use voipd_nat::turn::RelayTransport;

fn setup(kind: Kind) -> Setup {
    Setup { relays: vec![relay(RelayTransport::Udp), relay(RelayTransport::Tcp)], ..Setup::new(kind) }
}

fn checking() -> World {
    let mut world = World::new([setup(Kind::Symmetric), setup(Kind::Symmetric)]);
    world.gather();
    let answer = world.describe(1);
    let now = world.now;
    world.peers[0].agent.set_remote(now, answer);
    world.run_for(Duration::from_millis(10));
    world
}

/// Everything that comes out, until there is nothing more: how many, and the bytes sent.
fn drain(world: &mut World) -> (usize, usize) {
    let mut outputs = 0;
    let mut sent = 0;
    loop {
        match world.peers[0].agent.poll_output() {
            Output::Timeout(_) => return (outputs, sent),
            Output::Transmit { bytes, .. } => sent += bytes.len(),
            _ => {}
        }
        outputs += 1;
    }
}

fn attack(world: &mut World, from: SocketAddr, bytes: &[u8]) {
    let base = world.peers[0].nat.base(1);
    let now = world.now;
    let agent = &mut world.peers[0].agent;
    agent.handle_datagram(now, base, from, bytes);
    for stream in 0..3 {
        agent.handle_stream_message(now, StreamId(stream), bytes);
    }
}

/// STUN of any method with any attributes, with right lengths and cookie.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let attribute = (any::<u16>(), prop::collection::vec(any::<u8>(), 0..24));
    let known = (
        prop::sample::select(vec![
            1, 6, 8, 9, 0xA, 0xC, 0xD, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1C, 0x20, 0x24, 0x25,
            0x8028, 0x8029, 0x802A,
        ]),
        prop::collection::vec(any::<u8>(), 0..24),
    );
    let attributes = prop::collection::vec(prop_oneof![attribute, known], 0..12);
    let kind = prop_oneof![
        Just(0x0001_u16),
        Just(0x0101),
        Just(0x0111),
        Just(0x0011),
        Just(0x0103),
        Just(0x0113),
        Just(0x0017),
        Just(0x0116),
        Just(0x0108),
        Just(0x0109),
        any::<u16>().prop_map(|kind| kind & 0x3FFF)
    ];
    (kind, any::<[u8; 12]>(), attributes).prop_map(|(kind, id, attributes)| {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend_from_slice(&kind.to_be_bytes());
            body.extend_from_slice(&(value.len() as u16).to_be_bytes());
            body.extend_from_slice(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&body);
        bytes
    })
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => message(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (message(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, value)| {
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes
        }),
        1 => (message(), 0..64_usize).prop_map(|(mut bytes, cut)| {
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes
        }),
        1 => (0x4000..=0x4FFF_u16, prop::collection::vec(any::<u8>(), 0..64), any::<u16>()).prop_map(
            |(channel, data, length)| {
                let mut bytes = voipd_nat::turn::frame::channel_header(channel, length % 80).to_vec();
                bytes.extend_from_slice(&data);
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_from_anybody_do_no_harm(packets in prop::collection::vec(packet(), 1..40)) {
        let mut world = checking();
        drain(&mut world);
        for packet in packets {
            for from in [STUN, TURN, "203.0.113.11:40001", "192.0.2.66:666"] {
                attack(&mut world, address(from), &packet);
            }
            let (outputs, sent) = drain(&mut world);
            prop_assert!(outputs < 64, "{outputs}");
            prop_assert!(sent <= 8 * packet.len() + 4096, "{sent}");
        }
        prop_assert_eq!(world.peers[0].agent.state(), State::Checking);
    }

    /// Whoever knows the password (the peer, or a thief of the description) can send signed nonsense.
    #[test]
    fn signed_nonsense_does_no_harm(
        attributes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
        role in any::<bool>(),
    ) {
        let mut world = checking();
        let local = world.peers[0].agent.credentials().clone();
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        let name = format!("{}:{}", local.ufrag, "peer");
        request.add_attribute(&Username::new(&name).unwrap()).unwrap();
        let tie = [if role { 0xFF } else { 0 }; 8];
        let _ = request.add_attribute(&RawAttribute::new(0x802A.into(), &tie));
        let _ = request.add_attribute(&RawAttribute::new(0x0024.into(), &[0x6E, 0, 1, 0xFF]));
        for (kind, value) in &attributes {
            if ![0x0008, 0x001C, 0x8028].contains(kind) {
                let _ = request.add_attribute(&RawAttribute::new((*kind).into(), value));
            }
        }
        let key: MessageIntegrityCredentials = ShortTermCredentials::new(local.password).into();
        request.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
        let bytes = request.finish();
        for port in 1024..1100 {
            attack(&mut world, SocketAddr::from(([192, 0, 2, 9], port)), &bytes);
            drain(&mut world);
        }
        world.run_for(Duration::from_secs(3));
    }

    #[test]
    fn any_text_as_a_candidate_is_read_or_refused(text in ".{0,120}") {
        if let Ok(candidate) = text.parse::<Candidate>() {
            prop_assert_eq!(candidate.to_string().parse::<Candidate>(), Ok(candidate));
        }
    }
}

#[test]
fn requests_without_the_password_are_refused_and_change_nothing() {
    let mut world = checking();
    drain(&mut world);
    let local = world.peers[0].agent.credentials().clone();
    for (name, password) in
        [(format!("{}:x", local.ufrag), Some("wrong-wrong-wrong-wrong")), ("x:y".to_owned(), None)]
    {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_attribute(&Username::new(&name).unwrap()).unwrap();
        if let Some(password) = password {
            let key: MessageIntegrityCredentials = ShortTermCredentials::new(password.to_owned()).into();
            request.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
        }
        let bytes = request.finish();
        let base = world.peers[0].nat.base(1);
        let now = world.now;
        world.peers[0].agent.handle_datagram(now, base, address("192.0.2.66:666"), &bytes);
        match world.peers[0].agent.poll_output() {
            Output::Transmit { bytes: answer, .. } => {
                let answer = Message::from_bytes(&answer).unwrap();
                assert!(answer.has_class(stun_proto::types::message::MessageClass::Error));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_forged_reflexive_address_is_not_believed() {
    let mut world = checking();
    let known = world.peers[0].agent.candidates().len();
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let request = Message::from_bytes(&request).unwrap();
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response
        .add_attribute(&XorMappedAddress::new(address("192.0.2.66:666"), request.transaction_id()))
        .unwrap();
    let bytes = response.finish();
    attack(&mut world, address(STUN), &bytes);
    assert_eq!(world.peers[0].agent.candidates().len(), known);
}

#[test]
fn a_flood_of_media_before_the_path_is_bounded() {
    let mut world = checking();
    drain(&mut world);
    for _ in 0..10_000 {
        attack(&mut world, address("192.0.2.66:666"), &[0x80; 172]);
    }
    assert!(drain(&mut world).0 <= 64);
}

/// A peer that uses every port it has, each time with a right signature.
#[test]
fn checks_from_thousands_of_addresses_make_few_of_our_own() {
    let mut world =
        World::with_roles([(setup(Kind::Open), Role::Controlled), (setup(Kind::Open), Role::Controlling)]);
    world.gather();
    let answer = world.describe(1);
    let now = world.now;
    let peer = answer.credentials.clone();
    world.peers[0].agent.set_remote(now, answer);
    let local = world.peers[0].agent.credentials().clone();
    for port in 1024..6000_u16 {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_attribute(&Username::new(&format!("{}:{}", local.ufrag, peer.ufrag)).unwrap()).unwrap();
        request.add_attribute(&RawAttribute::new(0x0024.into(), &[0x6E, 0, 1, 0xFF])).unwrap();
        request.add_attribute(&RawAttribute::new(0x802A.into(), &[7; 8])).unwrap();
        let key: MessageIntegrityCredentials = ShortTermCredentials::new(local.password.clone()).into();
        request.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
        let bytes = request.finish();
        let base = world.peers[0].nat.base(1);
        world.peers[0].agent.handle_datagram(now, base, SocketAddr::from(([192, 0, 2, 9], port)), &bytes);
    }
    drain(&mut world);
    let before = world.datagrams;
    world.run_for(Duration::from_secs(15));
    let checks = world.datagrams - before;
    assert!(checks < 1000, "{checks} datagrams, each check is sent a few times");
}

#[test]
fn credentials_of_the_wrong_form_are_refused() {
    let long = "p".repeat(22);
    assert_eq!(Credentials::new("abc", &long), Err(IceError::Ufrag));
    assert_eq!(Credentials::new("ab cd", &long), Err(IceError::Ufrag));
    assert_eq!(Credentials::new("abcd", "short"), Err(IceError::Password));
    assert_eq!(Credentials::new(&"u".repeat(257), &long), Err(IceError::Ufrag));
    let credentials = Credentials::new("abcd", &long).unwrap();
    assert!(!format!("{credentials:?}").contains(&long), "passwords are not shown");
}
