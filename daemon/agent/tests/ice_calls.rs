//! Calls between telephones behind NATs: a way is found, offered and answered in time, and used.

use std::time::Duration;

use crate::common::ice::{Two, asks, kinds, nobody_trickles, off};
use crate::common::internet::nat::Kind;
use crate::common::internet::{STUN, address};
use voipd_agent::ice_settings::IceSettings;
use voipd_agent::view::{CallState, MediaWay};
use voipd_audio::plan::Path;
use voipd_media::ice::CandidateKind::{Host, ServerReflexive};

#[test]
fn two_behind_cone_nats_hear_each_other_without_a_relay() {
    for kinds in [
        [Kind::PortRestricted, Kind::PortRestricted],
        [Kind::FullCone, Kind::AddressRestricted],
        [Kind::Open, Kind::Symmetric],
        [Kind::Symmetric, Kind::FullCone],
    ] {
        let mut two = Two::new(kinds, [asks(&[]), asks(&[])]);
        let (out, inb) = two.talking();
        assert_eq!(two.flows(out, inb), [true, true], "{kinds:?}");
        for (host, call) in [(two.alice, out), (two.bob, inb)] {
            let (local, _) = crate::common::ice::kinds(&two.world, host, call);
            assert_eq!(local, Host, "{kinds:?}: no relay");
        }
    }
}

#[test]
fn without_ice_the_same_two_hear_nothing() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [off(), off()]);
    let (out, inb) = two.talking();
    assert_eq!(two.flows(out, inb), [false, false]);
    assert!(matches!(two.world.view(two.alice, out).media_way, MediaWay::Plain { .. }));
}

#[test]
fn an_offer_names_what_was_gathered_and_the_reflexive_address_by_default() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), off()]);
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(1);
    let offer = two.world.last_sdp(two.alice);
    assert_eq!(offer.matches("a=candidate:").count(), 4, "two kinds for each component: {offer}");
    assert!(offer.contains("c=IN IP4 203.0.113.10"), "{offer}");
    assert!(offer.contains(" typ host") && offer.contains(" typ srflx raddr 10.0.0.2"), "{offer}");
    assert!(offer.contains("a=rtcp-mux") && offer.contains("a=rtcp:"), "{offer}");
}

#[test]
fn a_peer_without_ice_is_called_as_ever_at_the_address_that_the_internet_sees() {
    let mut two = Two::new([Kind::FullCone, Kind::Open], [asks(&[]), off()]);
    let (out, inb) = two.talking();
    assert!(!two.world.last_sdp(two.bob).contains("ice"));
    assert_eq!(two.flows(out, inb), [true, true]);
    assert!(matches!(two.world.view(two.alice, out).media_way, MediaWay::Plain { .. }));
    // What was said once is said again.
    two.world.hold(two.alice, out);
    two.world.run_s(1);
    let offer = two.world.last_sdp(two.alice);
    assert!(offer.contains("c=IN IP4 203.0.113.10") && !offer.contains("a=ice"), "{offer}");
}

#[test]
fn a_peer_with_ice_is_answered_with_ice_also_without_servers() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), IceSettings::default()]);
    let (out, inb) = two.talking();
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(kinds(&two.world, two.bob, inb), (Host, ServerReflexive));
    let answer = two.world.last_sdp(two.bob);
    assert_eq!(answer.matches("a=candidate:").count(), 1, "RTCP shares the port: {answer}");
    let plan = two.world.plan(two.alice, out);
    assert!(matches!(plan.path, Path::Udp { symmetric: false, .. }), "{plan:?}");
}

#[test]
fn without_anything_to_gain_no_ice_is_offered() {
    let mut two = Two::new([Kind::Open, Kind::Open], [IceSettings::default(), IceSettings::default()]);
    two.talking();
    assert!(!two.world.last_sdp(two.alice).contains("ice"));
}

#[test]
fn a_dead_stun_server_delays_an_offer_by_half_a_second_at_most() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), off()]);
    two.world.internet.dark.push(address(STUN));
    let began = two.world.now;
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(499);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), 0);
    two.world.run_ms(1);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), 1, "{:?}", two.world.now - began);
    assert!(two.world.asked(STUN));
    let offer = two.world.last_sdp(two.alice);
    assert!(offer.contains("c=IN IP4 10.0.0.2") && offer.contains("typ host"), "{offer}");
    assert!(!offer.contains("srflx"), "{offer}");
}

#[test]
fn an_offer_waits_no_longer_than_servers_take() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&[]), off()]);
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    // Two questions, 20 ms apart, there and back.
    two.world.run_ms(60);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), 1);
}

#[test]
fn gathering_while_it_rings_makes_the_answer_immediate() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    two.world.internet.dark.push(address(STUN));
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_s(2);
    let call = two.world.live_call(two.bob);
    two.world.accept(two.bob, call);
    assert_eq!(two.world.count_said(two.bob, "200"), 1, "at once");
}

#[test]
fn an_answer_before_candidates_are_there_waits_for_them_where_nobody_trickles() {
    let mut two = Two::new([Kind::Open, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    two.world.tamper = Some(nobody_trickles);
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(60);
    while two.world.calls(two.bob).is_empty() {
        two.world.run_ms(1);
    }
    let call = two.world.live_call(two.bob);
    two.world.accept(two.bob, call);
    assert_eq!(two.world.count_said(two.bob, "200"), 0);
    two.world.run_ms(60);
    assert!(two.world.last_sdp(two.bob).contains("srflx"));
}

#[test]
fn hanging_up_while_candidates_are_gathered_leaves_nothing() {
    let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(&["turn:198.51.100.9"]), off()]);
    let call = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(10);
    two.world.hang_up(two.alice, call);
    two.world.run_s(5);
    assert_eq!(two.world.state(two.alice, call), CallState::Ended);
    assert_eq!(two.world.media_open(two.alice), 0);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), 0);
}

#[test]
fn a_way_is_found_through_a_network_that_loses_packets() {
    for seed in 0..6 {
        let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
        two.world.media_loss = 200;
        two.world.run_ms(seed * 7);
        let (out, inb) = two.talking();
        two.world.run_s(5);
        two.world.media_loss = 0;
        assert_eq!(two.flows(out, inb), [true, true], "{seed}");
        assert_eq!(kinds(&two.world, two.alice, out).0, Host);
    }
}

#[test]
fn hold_and_resume_keep_the_way_and_the_credentials() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    let ufrag = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=ice-ufrag:")).map(str::to_owned);
    let before = (ufrag(&two.world.last_sdp(two.alice)), ufrag(&two.world.last_sdp(two.bob)));
    let way = two.world.view(two.alice, out).media_way;
    assert!(before.0.is_some() && before.1.is_some());
    two.world.hold(two.alice, out);
    two.world.run_s(1);
    assert_eq!(two.world.state(two.bob, inb), CallState::Held);
    two.world.resume(two.alice, out);
    two.world.run_s(1);
    let after = (ufrag(&two.world.last_sdp(two.alice)), ufrag(&two.world.last_sdp(two.bob)));
    assert_eq!(before, after);
    assert_eq!(two.world.view(two.alice, out).media_way, way);
    assert_eq!(two.flows(out, inb), [true, true]);
    // Once the way is chosen, descriptions name no other candidates, and whoever controls names both ends.
    let offer = two.world.last_sdp(two.alice);
    assert_eq!(offer.matches("a=candidate:").count(), 1, "{offer}");
    assert!(offer.contains("a=remote-candidates:1 "), "{offer}");
}

#[test]
fn session_refreshes_keep_the_way() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, inb) = two.talking();
    let way = two.world.view(two.alice, out).media_way;
    two.world.run(Duration::from_secs(2000));
    assert_eq!(two.world.view(two.alice, out).media_way, way);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(two.world.state(two.bob, inb), CallState::Active);
}

#[test]
fn rtcp_takes_the_way_of_rtp() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let (out, _) = two.talking();
    two.world.rtcp.clear();
    two.world.run_s(20);
    let remote = two.world.plan(two.alice, out).path.remote();
    let from = two.world.local_media(two.alice, out);
    let ways: Vec<_> = two.world.rtcp.iter().filter(|(source, _, _)| *source == from).collect();
    assert!(!ways.is_empty() && ways.iter().all(|(_, to, _)| *to == remote));
    let bob = two.world.live_call(two.bob);
    let bob = two.world.local_media(two.bob, bob);
    assert!(two.world.internet.rtcp.iter().any(|(at, _)| *at == bob), "and arrives");
}

#[test]
fn what_was_found_too_late_for_the_offer_is_told_in_another_where_nobody_trickles() {
    let mut two = Two::new([Kind::PortRestricted, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    two.world.tamper = Some(nobody_trickles);
    two.world.internet.dark.push(address(STUN));
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(700);
    assert!(!two.world.last_sdp(two.alice).contains("srflx"));
    two.world.internet.dark.clear();
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_s(6);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(two.world.count_said(two.alice, "INVITE") + two.world.count_said(two.bob, "INVITE"), 2);
    assert_eq!(two.world.count_said(two.alice, "INFO") + two.world.count_said(two.bob, "INFO"), 0);
}

/// Servers that have answered are not waited for.
#[test]
fn an_offer_leaves_as_soon_as_all_servers_have_answered() {
    for relays in [&[][..], &["turn:198.51.100.9"][..]] {
        let mut two = Two::new([Kind::PortRestricted, Kind::Open], [asks(relays), off()]);
        two.world.run_s(2);
        two.world.dial(two.alice, "sip:bob@192.0.2.2");
        two.world.run_ms(200);
        assert_eq!(two.world.count_said(two.alice, "INVITE"), 1, "{relays:?}");
        assert!(two.world.last_sdp(two.alice).contains("a=end-of-candidates"), "{relays:?}");
    }
}
