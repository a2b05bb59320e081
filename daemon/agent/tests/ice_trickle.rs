//! Candidates that are told one after the other (RFC 8838, RFC 8840): what does not wait for them, and who is told
//! otherwise.

use std::time::Duration;

use crate::common::Tamper;
use crate::common::ice::{Two, asks, hides, kinds, nobody_trickles, put};
use crate::common::internet::nat::Kind;
use crate::common::internet::{STUN, address};
use voipd_agent::view::{CallId, CallState, MediaWay};
use voipd_media::LocalMedia;
use voipd_media::ice::CandidateKind;

const NATS: [Kind; 2] = [Kind::PortRestricted, Kind::PortRestricted];

fn two() -> Two {
    Two::new(NATS, [asks(&[]), asks(&[])])
}

/// How many INFOs each side has sent.
fn infos(two: &Two) -> [usize; 2] {
    [two.alice, two.bob].map(|host| two.world.count_said(host, "INFO"))
}

/// How many INVITEs both have sent.
fn invites(two: &Two) -> usize {
    two.world.count_said(two.alice, "INVITE") + two.world.count_said(two.bob, "INVITE")
}

/// The bodies of the INFOs that a side has sent.
fn fragments(two: &Two, host: crate::common::HostId) -> Vec<String> {
    let own = two.world.address(host);
    let sent = two.world.capture.iter().filter(|(from, _, _)| *from == own);
    let texts = sent.map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let infos = texts.filter(|text| text.starts_with("INFO "));
    infos.map(|text| text.split_once("\r\n\r\n").unwrap().1.to_owned()).collect()
}

/// The STUN server does not answer before it is let.
fn silence_stun(two: &mut Two) {
    two.world.internet.dark.push(address(STUN));
}

/// Bob's telephone answers in the moment in which it rings.
fn accept_at_once(two: &mut Two) -> CallId {
    while two.world.calls(two.bob).is_empty() {
        two.world.run_ms(1);
    }
    let call = two.world.live_call(two.bob);
    two.world.accept(two.bob, call);
    call
}

#[test]
fn an_ordinary_call_says_all_in_its_descriptions() {
    let mut two = two();
    let (out, inb) = two.talking();
    assert_eq!((infos(&two), invites(&two)), ([0, 0], 1));
    for host in [two.alice, two.bob] {
        let sdp = two.world.last_sdp(host);
        assert!(sdp.contains("a=ice-options:ice2 trickle") && sdp.contains("a=mid:0"), "{sdp}");
        assert!(sdp.contains("srflx") && sdp.contains("a=end-of-candidates"), "{sdp}");
    }
    assert_eq!(two.flows(out, inb), [true, true]);
}

#[test]
fn an_answer_to_a_peer_that_trickles_does_not_wait_for_a_slow_server() {
    let mut two = Two::new([Kind::Open, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(60);
    silence_stun(&mut two);
    let inb = accept_at_once(&mut two);
    assert_eq!(two.world.count_said(two.bob, "200"), 1, "at once");
    let answer = two.world.last_sdp(two.bob);
    assert!(!answer.contains("srflx") && !answer.contains("a=end-of-candidates"), "{answer}");
    two.world.internet.dark.clear();
    two.world.run_s(2);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(invites(&two), 1);
    // The same, where the offer is not known to trickle: half a second.
    let mut plain = Two::new([Kind::Open, Kind::PortRestricted], [asks(&[]), asks(&[])]);
    plain.world.tamper = Some(nobody_trickles);
    plain.world.dial(plain.alice, "sip:bob@192.0.2.2");
    plain.world.run_ms(60);
    silence_stun(&mut plain);
    accept_at_once(&mut plain);
    plain.world.run_ms(480);
    assert_eq!(plain.world.count_said(plain.bob, "200"), 0);
    plain.world.run_ms(40);
    assert_eq!(plain.world.count_said(plain.bob, "200"), 1);
}

#[test]
fn what_comes_after_the_answer_goes_by_info_and_makes_the_call_heard() {
    let mut two = two();
    silence_stun(&mut two);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(530);
    let inb = accept_at_once(&mut two);
    two.world.run_ms(100);
    assert_eq!(two.flows(out, inb), [false, false], "two NATs, and no address beyond them");
    two.world.internet.dark.clear();
    two.world.run_s(3);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(invites(&two), 1, "no other offer was needed");
    let told = fragments(&two, two.alice);
    assert!(!told.is_empty() && infos(&two)[1] > 0);
    for fragment in &told {
        assert!(fragment.starts_with("m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:"), "{fragment}");
        assert!(!fragment.contains(" typ host"), "nothing that the offer has said: {fragment}");
    }
    assert!(told.concat().contains(" typ srflx raddr 10.0.0.2 "));
    let (local, remote) = kinds(&two.world, two.alice, out);
    assert_eq!((local, remote), (CandidateKind::Host, CandidateKind::ServerReflexive));
}

#[test]
fn who_is_known_to_trickle_is_called_at_once() {
    let mut two = two();
    let (out, _) = two.talking();
    two.world.hang_up(two.alice, out);
    two.world.run_s(1);
    silence_stun(&mut two);
    let before = two.world.count_said(two.alice, "INVITE");
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    assert_eq!(two.world.count_said(two.alice, "INVITE"), before + 1, "in the same moment");
    assert!(!two.world.last_sdp(two.alice).contains("srflx"));
    two.world.run_ms(40);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_ms(100);
    two.world.internet.dark.clear();
    two.world.run_s(3);
    assert_eq!(two.flows(out, inb), [true, true]);
    assert_eq!(two.world.count_said(two.alice, "INVITE"), before + 1);
}

#[test]
fn another_telephone_that_answers_without_ice_is_told_the_right_address() {
    let mut two = Two::new([Kind::FullCone, Kind::Open], [asks(&[]), asks(&[])]);
    let (out, _) = two.talking();
    two.world.hang_up(two.alice, out);
    two.world.run_s(1);
    two.world.tamper = Some(|bytes| put(bytes, "a=ice-ufrag", "a=1ce-ufrag"));
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    assert!(two.world.last_sdp(two.alice).contains("c=IN IP4 10.0.0.2"), "before the server has answered");
    two.world.run_ms(100);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_s(1);
    assert!(two.world.last_sdp(two.alice).contains("c=IN IP4 203.0.113.10"));
    assert_eq!(two.flows(out, inb), [true, true]);
    assert!(matches!(two.world.view(two.alice, out).media_way, MediaWay::Plain { .. }));
    // It is not taken for one that trickles any more.
    two.world.hang_up(two.alice, out);
    two.world.run_s(1);
    let before = two.world.count_said(two.alice, "INVITE");
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    assert_eq!(two.world.count_said(two.alice, "INVITE"), before);
}

#[test]
fn a_peer_that_refuses_fragments_is_told_by_another_offer() {
    let nameless = |bytes: &[u8]| put(bytes, "Info-Package:", "Info-Packoge:");
    // As a fragment without its user name fragment.
    let headless = |bytes: &[u8]| {
        put(bytes, "m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-u", "m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=ice-x")
    };
    let tampers: [(Tamper, &str); 2] = [(nameless, "415"), (headless, "400")];
    for (tamper, status) in tampers {
        let mut two = two();
        two.world.tamper = Some(tamper);
        silence_stun(&mut two);
        let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
        two.world.run_ms(700);
        let inb = two.world.live_call(two.bob);
        two.world.accept(two.bob, inb);
        two.world.run_ms(100);
        two.world.internet.dark.clear();
        two.world.run_s(6);
        assert!(two.world.count_said(two.bob, status) > 0, "{status}: {:?}", two.world.said(two.bob));
        assert_eq!(two.flows(out, inb), [true, true], "{status}");
        assert!(invites(&two) > 1, "{status}");
        assert_eq!(two.world.state(two.bob, inb), CallState::Active);
    }
}

#[test]
fn a_fragment_of_a_foreign_generation_is_taken_and_changes_nothing() {
    fn foreign(bytes: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        match text.starts_with("INFO ").then(|| text.find("a=ice-ufrag:")).flatten() {
            Some(place) => [&text[..place + 12], "zzzzzzzz", &text[place + 20..]].concat().into_bytes(),
            None => bytes.to_vec(),
        }
    }
    let mut two = two();
    two.world.tamper = Some(foreign);
    silence_stun(&mut two);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(700);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_ms(100);
    two.world.internet.dark.clear();
    two.world.run_s(4);
    assert!(infos(&two).iter().all(|infos| *infos > 0));
    assert!(!two.world.said(two.bob).iter().any(|line| line.contains(" 4") && !line.contains("INFO")));
    assert_eq!(two.flows(out, inb), [false, false]);
    assert_eq!(two.world.state(two.alice, out), CallState::Active);
}

#[test]
fn a_mapping_that_a_router_makes_late_is_told_by_info() {
    // Without any server, the routers' mappings are all that leads through.
    let mut two = two();
    silence_stun(&mut two);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.act(two.alice, |agent, _| agent.expect_mapping(out));
    two.world.run_ms(700);
    let offer = two.world.last_sdp(two.alice);
    assert!(!offer.contains("a=end-of-candidates"), "{offer}");
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_ms(200);
    let told = infos(&two)[0];
    let mapped = LocalMedia { address: "203.0.113.99".parse().unwrap(), rtp_port: 7000, rtcp_port: 7001 };
    two.world.act(two.alice, |agent, now| agent.handle_media_mapped(now, out, Some(mapped)));
    two.world.run_ms(100);
    assert_eq!(infos(&two)[0], told + 1);
    assert!(fragments(&two, two.alice).concat().contains("203.0.113.99 7000 typ srflx"));
    assert_eq!(invites(&two), 1);
}

#[test]
fn the_end_of_candidates_is_told_when_nothing_answers() {
    let mut two = two();
    silence_stun(&mut two);
    two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(700);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_s(10);
    for host in [two.alice, two.bob] {
        let told = fragments(&two, host);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("a=end-of-candidates") && !told[0].contains("a=candidate"), "{told:?}");
    }
    // And not again.
    two.world.run(Duration::from_secs(60));
    assert_eq!(infos(&two), [1, 1]);
}

#[test]
fn what_comes_to_light_when_all_was_said_is_told_by_another_generation() {
    let mut two = two();
    silence_stun(&mut two);
    let out = two.world.dial(two.alice, "sip:bob@192.0.2.2");
    two.world.run_ms(700);
    let inb = two.world.live_call(two.bob);
    two.world.accept(two.bob, inb);
    two.world.run_s(8);
    assert_eq!((infos(&two), invites(&two)), ([1, 1], 1));
    let mapped = LocalMedia { address: "203.0.113.10".parse().unwrap(), rtp_port: 7000, rtcp_port: 7001 };
    two.world.internet.dark.clear();
    two.world.act(two.alice, |agent, now| agent.handle_media_mapped(now, out, Some(mapped)));
    two.world.run_s(4);
    assert_eq!(invites(&two), 2);
    assert_eq!(two.flows(out, inb), [true, true]);
}

#[test]
fn who_hides_tells_relays_alone_also_by_info() {
    let relay = "turn:198.51.100.9";
    let mut two = Two::new(NATS, [hides(&[relay]), asks(&[relay])]);
    let (out, inb) = two.talking();
    assert_eq!(two.flows(out, inb), [true, true]);
    let all = [two.world.last_sdp(two.alice), fragments(&two, two.alice).concat()].concat();
    assert!(all.contains("typ relay") && !all.contains("typ host") && !all.contains("10.0.0.2"), "{all}");
}

#[test]
fn a_peer_of_the_older_standard_hears_of_the_nominated_pair_in_one_offer() {
    let old: fn(&[u8]) -> Vec<u8> = |bytes| put(bytes, "a=ice-options:ice2", "a=ice-options:ice1");
    for (tamper, offers) in [(None, 1), (Some(old), 2)] {
        let mut two = Two::new([Kind::FullCone, Kind::Symmetric], [asks(&[]), asks(&[])]);
        two.world.tamper = tamper;
        let (out, inb) = two.talking();
        assert_eq!(two.flows(out, inb), [true, true]);
        two.world.run(Duration::from_secs(30));
        assert_eq!(invites(&two), offers);
        if tamper.is_some() {
            let offer = two.world.last_sdp(two.alice);
            assert!(offer.contains("a=remote-candidates:1 "), "{offer}");
            assert_eq!(offer.matches("a=candidate:").count(), 1, "{offer}");
        }
    }
    // Where the descriptions name what was nominated, there is nothing to tell.
    let mut two = Two::new([Kind::Open, Kind::Open], [asks(&[]), asks(&[])]);
    two.world.tamper = Some(old);
    two.talking();
    assert_eq!(invites(&two), 1);
}

#[test]
fn a_call_whose_machine_gets_another_address_is_heard_again_by_a_restart() {
    for trickles in [true, false] {
        let mut two = Two::new([Kind::Open, Kind::PortRestricted], [asks(&[]), asks(&[])]);
        two.world.station(two.alice).media_at = None;
        if !trickles {
            two.world.tamper = Some(nobody_trickles);
        }
        let (out, inb) = two.talking();
        assert_eq!(two.flows(out, inb), [true, true]);
        let ufrag = |two: &Two| {
            let sdp = two.world.last_sdp(two.alice);
            sdp.lines().find(|line| line.starts_with("a=ice-ufrag:")).map(str::to_owned)
        };
        let before = ufrag(&two);
        // Its server is far away by then: nothing of this waits for it.
        silence_stun(&mut two);
        let moved_at = two.world.now;
        two.world.move_to(two.alice, "192.0.2.31:5060");
        let told = two.world.count_said(two.alice, "INVITE");
        while two.flows(out, inb) != [true, true] {
            assert!(two.world.now - moved_at < Duration::from_secs(3), "silence: {trickles}");
        }
        assert_ne!(ufrag(&two), before, "a restart");
        assert_eq!(two.world.local_media(two.alice, out).ip().to_string(), "192.0.2.31");
        assert_eq!(told > 0, trickles, "who trickles tells it in the same moment");
        let longest = two.speak(out, inb, Duration::from_secs(5));
        assert!(longest.iter().all(|silence| *silence < Duration::from_millis(300)), "{longest:?}");
        assert_eq!(two.world.state(two.bob, inb), CallState::Active);
    }
}
