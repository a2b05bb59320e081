//! Two sources with one SSRC, and packets of ours that come back (RFC 3550 section 8.2).

use std::time::Instant;

use voipd_media::rtcp::{RtcpEvent, RtcpSession, SentCounters};

const NTP: u64 = 3_976_214_400 << 32;

fn session(ssrc: u32, name: &str) -> RtcpSession {
    RtcpSession::new(Instant::now(), ssrc, name.to_owned(), 8_000, 1)
}

fn active() -> SentCounters {
    SentCounters { packets: 100, octets: 16_000, rtp_timestamp: 16_000, active: true }
}

fn report_of(session: &mut RtcpSession) -> Vec<u8> {
    let at = session.poll_timeout();
    session.poll_packet(at, NTP, &active(), &[]).unwrap()
}

#[test]
fn somebody_else_under_our_number_is_a_collision() {
    let (mut us, mut other) = (session(7, "us"), session(7, "other"));
    let report = report_of(&mut other);
    assert_eq!(us.handle_packet(Instant::now(), NTP, &report), [RtcpEvent::Collision]);
    assert_eq!(us.ignored(), 1);
}

#[test]
fn our_own_report_come_back_is_none() {
    let mut us = session(7, "us");
    let report = report_of(&mut us);
    assert_eq!(us.handle_packet(Instant::now(), NTP, &report), []);
    assert_eq!(us.ignored(), 1);
}

#[test]
fn a_report_without_a_name_is_taken_for_a_collision_once() {
    let mut us = session(7, "us");
    // Two receiver reports without blocks under our number in one packet.
    let report = [[0x80, 201, 0, 1, 0, 0, 0, 7]; 2].concat();
    assert_eq!(us.handle_packet(Instant::now(), NTP, &report), [RtcpEvent::Collision]);
}

#[test]
fn the_new_source_keeps_its_name_and_says_goodbye_only_for_itself() {
    let mut us = session(7, "us");
    report_of(&mut us);
    let goodbye = us.goodbye(NTP, &active(), &[]).unwrap();
    us.change_source(8, 8_000);
    let mut peer = session(1, "peer");
    assert_eq!(peer.handle_packet(Instant::now(), NTP, &goodbye), [RtcpEvent::Bye { ssrc: 7 }]);
    let report = report_of(&mut us);
    assert_eq!(peer.handle_packet(Instant::now(), NTP, &report), []);
    let contains = |wanted: &[u8]| report.windows(wanted.len()).any(|part| part == wanted);
    assert!(contains(&[0, 0, 0, 8, 1, 2, b'u', b's']), "a description of source 8 with our name");
    // Nothing has been said under a number that was just drawn.
    us.change_source(9, 8_000);
    assert_eq!(us.goodbye(NTP, &SentCounters::default(), &[]), None);
}
