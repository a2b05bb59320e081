//! No RTCP packet makes us panic or grow, and lies about round trips and strangers are not believed.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use voipd_media::rtcp::{ReceivedCounters, RtcpEvent, RtcpSession, SentCounters};

const OURS: u32 = 0x0a0b_0c0d;
const NTP: u64 = 3_976_214_400 << 32;

fn session(now: Instant) -> RtcpSession {
    RtcpSession::new(now, OURS, "us".to_owned(), 8_000, 1)
}

fn active() -> SentCounters {
    SentCounters { packets: 100, octets: 16_000, rtp_timestamp: 16_000, active: true }
}

/// A receiver report about us from `from`.
fn report(from: u32, last_report: u32, delay: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    for word in [from, OURS, 0x4000_0001, 100, 8, last_report, delay] {
        packet.extend(word.to_be_bytes());
    }
    packet
}

fn view(events: &[RtcpEvent]) -> voipd_media::rtcp::RemoteView {
    match events {
        [RtcpEvent::Report(view)] => *view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_round_trip_needs_a_report_that_we_sent() {
    let start = Instant::now();
    let mut session = session(start);
    let sent_at = session.poll_timeout();
    session.poll_packet(sent_at, NTP, &active(), &[]).unwrap();
    let stamp = (NTP >> 16) as u32;
    let now = sent_at + Duration::from_millis(500);

    let honest = view(&session.handle_packet(now, NTP, &report(7, stamp, 65_536 / 4)));
    assert_eq!(honest.round_trip, Some(Duration::from_millis(250)));
    assert_eq!((honest.fraction_lost, honest.cumulative_lost), (0.25, 1));
    assert_eq!(honest.jitter, Duration::from_millis(1));

    for (last_report, delay) in [(0, 0), (stamp ^ 1, 0), (stamp, u32::MAX), (stamp, 65_536)] {
        let lie = view(&session.handle_packet(now, NTP, &report(7, last_report, delay)));
        assert_eq!(lie.round_trip, None, "{last_report:x} {delay}");
    }
}

#[test]
fn what_speaks_of_others_or_in_our_name_is_counted_and_ignored() {
    let now = Instant::now();
    let mut session = session(now);
    let mut about_others = report(7, 0, 0);
    about_others[11] ^= 1;
    assert_eq!(session.handle_packet(now, NTP, &about_others), []);
    assert_eq!(session.ignored(), 1);
    // Our own BYE come back.
    let ours = session.goodbye(NTP, &active(), &[]).unwrap();
    assert_eq!(session.handle_packet(now, NTP, &ours), []);
    assert_eq!(session.ignored(), 3, "the report and the BYE");
    assert_eq!(session.handle_packet(now, NTP, b"SIP/2.0 200 OK\r\n"), []);
    assert_eq!(session.ignored(), 4);
    assert_eq!(session.remote_view(), None);
}

#[test]
fn many_reports_in_one_packet_give_one_event() {
    let now = Instant::now();
    let mut session = session(now);
    let packet = report(7, 0, 0).repeat(40);
    assert_eq!(session.handle_packet(now, NTP, &packet).len(), 1);
}

#[test]
fn a_flood_of_senders_does_not_forget_how_to_report() {
    let start = Instant::now();
    let mut session = session(start);
    for ssrc in 0..10_000 {
        session.handle_packet(start, NTP, &report(ssrc, 0, 0));
    }
    let heard = ReceivedCounters { ssrc: 9_999, packets: 10, highest_extended_seq: 9, ..Default::default() };
    let due = session.poll_timeout();
    let packet = session.poll_packet(due, NTP, &active(), &[heard]).unwrap();
    assert_eq!((packet[0], packet[1]), (0x81, 200), "a sender report with one block");
    assert!(packet.len() < 100);
}

#[test]
fn a_clock_set_back_does_no_harm() {
    let start = Instant::now();
    let mut session = session(start);
    let mut sender_report = vec![0x80, 200, 0, 6];
    for word in [7_u32, 1, 2, 3, 4, 5] {
        sender_report.extend(word.to_be_bytes());
    }
    session.handle_packet(start, NTP, &sender_report);
    let heard = ReceivedCounters { ssrc: 7, packets: 10, highest_extended_seq: 9, ..Default::default() };
    let due = session.poll_timeout();
    let packet = session.poll_packet(due, NTP - (1 << 40), &active(), &[heard]).unwrap();
    // LSR and DLSR say that there is nothing to measure with.
    assert_eq!(packet[44..52], [0; 8]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5)) {
        let now = Instant::now();
        let mut session = session(now);
        for packet in &packets {
            session.handle_packet(now, NTP, packet);
        }
    }

    #[test]
    fn valid_frames_of_any_content(
        parts in proptest::collection::vec(
            (0x80..=0xbf_u8, 199..=208_u8, proptest::collection::vec(any::<u32>(), 0..20)),
            1..8,
        ),
    ) {
        let mut packet = Vec::new();
        for (flags, kind, words) in parts {
            packet.extend([flags, kind, 0, words.len() as u8]);
            packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        }
        let now = Instant::now();
        let mut session = session(now);
        prop_assert!(session.handle_packet(now, NTP, &packet).len() <= 1 + 8);
    }

    #[test]
    fn any_counters(
        counters in proptest::collection::vec(any::<(u32, u32, u32, u32, u32)>(), 0..50),
        ntp in any::<u64>(),
        sent in any::<(u32, u32, u32, bool)>(),
    ) {
        let (packets, octets, rtp_timestamp, active) = sent;
        let sent = SentCounters { packets, octets, rtp_timestamp, active };
        let received: Vec<_> = counters
            .into_iter()
            .map(|(ssrc, base_extended_seq, highest_extended_seq, packets, jitter)| ReceivedCounters {
                ssrc, base_extended_seq, highest_extended_seq, packets, jitter,
            })
            .collect();
        let mut session = session(Instant::now());
        for _ in 0..3 {
            let due = session.poll_timeout();
            session.poll_packet(due, ntp, &sent, &received).unwrap();
        }
        // What we write is valid, whatever stands in it.
        let now = session.poll_timeout();
        let packet = session.goodbye(ntp, &sent, &received).unwrap();
        let events = RtcpSession::new(now, 1, String::new(), 8_000, 1).handle_packet(now, ntp, &packet);
        prop_assert_eq!(events.last(), Some(&RtcpEvent::Bye { ssrc: OURS }));
    }
}
