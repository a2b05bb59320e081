//! Another codec or packet time by re-INVITE in the middle of a call, from either side: one new plan for all of it, and
//! what is under way in the old way is still understood (RFC 3264 section 8.3).

use crate::common::peer::Peer;
use crate::common::{HostId, World};
use voipd_agent::view::{CallId, CallState};
use voipd_audio::plan::{Codec, ReceiveKind};
use voipd_media::Codec as Named;

fn sdp(media: &str) -> String {
    format!("v=0\no=- 1 1 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\n{media}\n")
}

/// A call to a scripted peer that answers with `media`.
fn called(media: &str) -> (World, HostId, CallId, Peer) {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let mut account = crate::common::direct();
    account.codecs = vec![Named::Opus, Named::G722, Named::Pcmu, Named::Pcma];
    world.account(alice, account);
    let raw = world.raw("192.0.2.9:5060");
    let call = world.dial(alice, "sip:peer@192.0.2.9");
    world.run_ms(50);
    let invite = world.requests(raw).remove(0);
    let peer = Peer::called(raw, alice, &invite);
    peer.answer(&mut world, &invite, 200, &sdp(media));
    world.run_ms(50);
    world.inbox(raw);
    (world, alice, call, peer)
}

fn sends(world: &World, host: HostId, call: CallId) -> (Codec, u8, u16) {
    let send = world.plan(host, call).send.unwrap();
    (send.codec, send.payload_type, send.ptime_ms)
}

#[test]
fn the_peer_changes_codec_numbers_and_packet_time_in_one_plan() {
    let (mut world, alice, call, mut peer) = called("m=audio 4000 RTP/AVP 0");
    let before = world.plan(alice, call);
    assert_eq!(world.view(alice, call).codec, "PCMU");
    let offer = "m=audio 4000 RTP/AVP 9 102\na=rtpmap:102 telephone-event/8000\na=ptime:30";
    peer.request(&mut world, "INVITE", &sdp(offer));
    world.run_ms(50);
    let plan = world.plan(alice, call);
    assert_eq!(sends(&world, alice, call), (Codec::G722, 9, 30));
    assert_eq!(plan.send.unwrap().events, Some((102, 8000)));
    assert_eq!(plan.generation, before.generation + 1, "all at once");
    assert_eq!(plan.ssrc, before.ssrc, "the same clock is the same source (RFC 7160)");
    for (number, codec) in [(0, Codec::Pcmu), (9, Codec::G722)] {
        assert!(plan.receive.contains(&(number, ReceiveKind::Audio(codec))), "{codec:?}");
    }
    assert_eq!(world.view(alice, call).codec, "G722");
    assert_eq!(world.state(alice, call), CallState::Active);
}

#[test]
fn another_clock_is_another_source_which_the_old_one_leaves_with_a_goodbye() {
    let (mut world, alice, call, mut peer) = called("m=audio 4000 RTP/AVP 0");
    world.run_s(10);
    let before = world.plan(alice, call);
    world.rtcp.clear();
    let offer = "m=audio 4000 RTP/AVP 111\na=rtpmap:111 opus/48000/2";
    peer.request(&mut world, "INVITE", &sdp(offer));
    world.run_ms(50);
    let plan = world.plan(alice, call);
    assert_eq!(sends(&world, alice, call), (Codec::Opus, 111, 20));
    assert_ne!(plan.ssrc, before.ssrc);
    let goodbye = &world.rtcp[0].2;
    let [.., a, b, c, d] = goodbye[..] else { panic!("{goodbye:?}") };
    assert_eq!((goodbye[goodbye.len() - 7], u32::from_be_bytes([a, b, c, d])), (203, before.ssrc));
}

#[test]
fn the_answer_to_our_own_reinvite_may_change_them() {
    let (mut world, alice, call, peer) = called("m=audio 4000 RTP/AVP 0");
    world.hold(alice, call);
    world.run_ms(50);
    let hold = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &hold, 200, &sdp("m=audio 4000 RTP/AVP 0\na=recvonly"));
    world.run_ms(50);
    world.inbox(peer.host);
    world.resume(alice, call);
    world.run_ms(50);
    let resume = world.requests(peer.host).pop().unwrap();
    peer.answer(&mut world, &resume, 200, &sdp("m=audio 4000 RTP/AVP 8\na=ptime:40"));
    world.run_ms(50);
    assert_eq!(sends(&world, alice, call), (Codec::Pcma, 8, 40));
}

#[test]
fn what_our_reinvite_offers_is_understood_before_it_is_answered() {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    let mut account = crate::common::direct();
    account.codecs = vec![Named::G722, Named::Pcmu];
    world.account(alice, account);
    let raw = world.raw("192.0.2.9:5060");
    let mut peer = Peer::calling(&world, raw, alice, "sip:alice@192.0.2.1");
    peer.request(&mut world, "INVITE", &sdp("m=audio 4000 RTP/AVP 0"));
    world.run_ms(50);
    let call = world.live_call(alice);
    world.accept(alice, call);
    world.run_ms(50);
    let ok = world.responses(raw).pop().unwrap();
    peer.learn(&ok);
    peer.request(&mut world, "ACK", "");
    world.run_ms(50);
    let g722 = (9, ReceiveKind::Audio(Codec::G722));
    assert!(!world.plan(alice, call).receive.contains(&g722), "it was not offered");
    world.hold(alice, call);
    world.run_ms(50);
    assert!(world.plan(alice, call).receive.contains(&g722), "offered and not yet answered");
}

#[test]
fn an_offer_that_changes_nothing_changes_no_plan() {
    let (mut world, alice, call, mut peer) = called("m=audio 4000 RTP/AVP 9");
    let before = world.plan(alice, call);
    for _ in 0..3 {
        peer.request(&mut world, "INVITE", &sdp("m=audio 4000 RTP/AVP 9"));
        world.run_ms(50);
        peer.request(&mut world, "ACK", "");
    }
    assert_eq!(world.plan(alice, call), before);
}

#[test]
fn another_codec_can_be_asked_for_and_the_peer_decides() {
    let (mut world, alice, call, peer) = called("m=audio 4000 RTP/AVP 0");
    let before = world.plan(alice, call);
    world.act(alice, |agent, now| agent.set_codec(now, call, Named::G722)).unwrap();
    world.run_ms(50);
    let invite = world.requests(peer.host).pop().unwrap();
    let offer = String::from_utf8(invite.body.clone()).unwrap();
    assert!(offer.contains("RTP/AVP 9 "), "{offer}");
    peer.answer(&mut world, &invite, 200, &sdp("m=audio 4000 RTP/AVP 9"));
    world.run_ms(50);
    assert_eq!(sends(&world, alice, call), (Codec::G722, 9, 20));
    // What is under way in the old codec is still understood: no packet is lost.
    assert!(world.plan(alice, call).receive.contains(&(0, ReceiveKind::Audio(Codec::Pcmu))));
    assert_eq!(world.plan(alice, call).ssrc, before.ssrc);
    // The peer may keep to what it has; then nothing more is asked.
    world.act(alice, |agent, now| agent.set_codec(now, call, Named::Opus)).unwrap();
    world.run_ms(50);
    let invite = world.requests(peer.host).pop().unwrap();
    assert!(String::from_utf8_lossy(&invite.body).contains("RTP/AVP 96 "), "Opus first");
    peer.answer(&mut world, &invite, 200, &sdp("m=audio 4000 RTP/AVP 9"));
    world.run_s(5);
    assert_eq!(world.view(alice, call).codec, "G722");
    assert_eq!(world.requests(peer.host).iter().filter(|r| r.method.as_str() == "INVITE").count(), 0);
}
