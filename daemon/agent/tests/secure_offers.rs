//! Offers of encrypted media while there is no encryption (RFC 3711, RFC 5124, RFC 5764): refused with a reason that
//! says so, on the wire and here; taken where a plain alternative stands beside.

use crate::common::peer::{Called, Peer};
use crate::common::{HostId, World};
use voipd_agent::view::{CallState, Reason};

const SECURE: [&str; 4] = ["RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"];

fn sdp(media: &str) -> String {
    format!("v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\n{media}\n")
}

fn offered(media: &str) -> (World, HostId, Peer) {
    let mut world = World::new();
    let alice = world.phone("192.0.2.1:5060");
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    peer.request(&mut world, "INVITE", &sdp(media));
    world.run_ms(50);
    (world, alice, peer)
}

#[test]
fn an_offer_of_encrypted_media_is_refused_with_its_reason() {
    for profile in SECURE {
        let (mut world, alice, peer) = offered(&format!("m=audio 4000 {profile} 0"));
        let call = world.calls(alice)[0];
        assert_eq!(world.end(alice, call), (Reason::EncryptionRequired, 488));
        assert_eq!(Reason::EncryptionRequired.name(), "encryption-required");
        let refusal = world.responses(peer.host).pop().unwrap();
        let warning = refusal.headers.get("Warning").unwrap();
        assert!(warning.starts_with("302 ") && warning.contains(profile), "{warning}");
        assert!(!world.ringer_open(alice));
    }
}

#[test]
fn a_plain_alternative_is_taken() {
    let (mut world, alice, peer) = offered("m=audio 4000 RTP/SAVP 0\nm=audio 4002 RTP/AVP 0");
    let call = world.live_call(alice);
    world.accept(alice, call);
    world.run_ms(50);
    let answer = world.last_sdp(alice);
    assert!(answer.contains("m=audio 0 RTP/SAVP 0\r\n"), "{answer}");
    assert_eq!(world.view(alice, call).remote_media, Some("192.0.2.9:4002".parse().unwrap()));
    assert_eq!(world.state(alice, call), CallState::Active);
    assert!(!world.responses(peer.host).is_empty());
}

#[test]
fn an_encrypted_answer_to_a_plain_offer_ends_the_call_with_the_reason() {
    let Called { mut world, alice, raw, call, invite, .. } = Called::new();
    Peer::called(raw, alice, &invite).answer(&mut world, &invite, 200, &sdp("m=audio 4000 RTP/SAVP 0"));
    world.run_ms(50);
    assert_eq!(world.end(alice, call).0, Reason::EncryptionRequired);
}

#[test]
fn a_reinvite_to_encrypted_media_is_refused_and_the_call_stays_as_it_was() {
    let (mut world, alice, mut peer) = offered("m=audio 4000 RTP/AVP 0");
    let call = world.live_call(alice);
    world.accept(alice, call);
    world.run_ms(50);
    let ok = world.responses(peer.host).pop().unwrap();
    peer.learn(&ok);
    peer.request(&mut world, "ACK", "");
    let before = world.plan(alice, call);
    peer.request(&mut world, "INVITE", &sdp("m=audio 4000 RTP/SAVP 0"));
    world.run_ms(50);
    assert_eq!(world.responses(peer.host).pop().unwrap().status.get(), 488);
    assert_eq!((world.state(alice, call), world.plan(alice, call)), (CallState::Active, before));
}
