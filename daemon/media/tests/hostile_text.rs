//! No text from the network makes us panic, grow, or write a line that it chose.

use crate::support::*;
use proptest::prelude::*;
use voipd_media::names::{host_names, with_addresses};
use voipd_media::{Direction, NegotiationError};

const NAMED: &str = "v=0\r\nc=IN IP4 media.example.com\r\nm=audio 4000 RTP/AVP 0 9\r\n\
    a=rtcp:53020 IN IP6 rtcp.example.com\r\na=rtcp-mux\r\n";

const ICE: &str = "v=0\r\nc=IN IP4 192.0.2.2\r\na=ice-options:trickle ice2\r\na=ice-lite\r\nm=audio 4000 RTP/AVP 0\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
    a=candidate:1 1 UDP 2130706431 192.0.2.2 4000 typ host\r\n\
    a=candidate:2 2 UDP 1694498814 198.51.100.2 4001 typ srflx raddr 192.0.2.2 rport 4001\r\n\
    a=candidate:3 1 UDP 1694498 2001:db8::7 4001 typ relay raddr :: rport 9 generation 0\r\n\
    a=candidate:4 1 UDP 169 0b6c.local 4001 typ host\r\n\
    a=remote-candidates:1 192.0.2.1 30000 2 192.0.2.1 30001\r\na=end-of-candidates\r\n";

const PEERS: [&str; 8] = [
    ICE,
    NAMED,
    include_str!("peers/asterisk.sdp"),
    include_str!("peers/baresip.sdp"),
    include_str!("peers/desk_phone.sdp"),
    include_str!("peers/linphone.sdp"),
    include_str!("peers/sipp.sdp"),
    include_str!("peers/web_gateway.sdp"),
];

/// Takes it as an offer and as an answer; whatever comes out obeys the rules.
fn swallow(text: &[u8]) {
    let mut callee = side(&ALL);
    callee.set_ice(Some(ice()));
    match callee.handle_offer(text) {
        Ok(()) => {
            let address = match callee.offered_address() {
                Some(address) if address.is_ipv6() => local("2001:db8::1"),
                _ => here(),
            };
            let (answer, agreement) = callee.make_answer(address, Direction::SendRecv).unwrap();
            assert!(answer.len() <= 3 * text.len() + 1000);
            for line in lines(&answer) {
                assert!(line.is_ascii() && !line.contains(['\r', '\n', '\0']), "{line}");
                assert_eq!(line.as_bytes()[1], b'=');
            }
            assert!(agreement.send.payload_type < 128);
            assert!([10, 20, 30, 40, 60].contains(&agreement.send.ptime_ms));
            assert_ne!(agreement.remote_rtp.port(), 0);
            if let Some(ice) = agreement.ice.offered() {
                assert!(ice.candidates.len() <= 24 && ice.remote_candidates.len() <= 2);
                assert!(ice.candidates.iter().all(|candidate| !candidate.address.ip().is_multicast()));
            }
            // Our next offer is still one that we read ourselves.
            let offer = callee.make_offer(address, Direction::SendRecv);
            side(&ALL).handle_offer(&offer).unwrap();
        }
        Err(error) => check_message(&error),
    }
    let mut caller = side(&ALL);
    caller.set_ice(Some(ice()));
    caller.make_offer(here(), Direction::SendRecv);
    if let Err(error) = caller.handle_answer(text) {
        check_message(&error);
    }
    let names = host_names(text);
    assert!(names.len() <= 4);
    assert!(names.iter().all(|host| host.name.is_ascii() && host.name.len() <= 253));
    // With an address for each there are none left that were asked for.
    let numbered = with_addresses(text, |_| Some([192, 0, 2, 7].into()));
    assert_eq!(host_names(&numbered), []);
}

fn check_message(error: &NegotiationError) {
    let message = error.to_string();
    assert!(message.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{message}");
    assert!(message.len() < 1200);
    assert!(matches!(error.status().0, 400 | 488));
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Repeat(usize, usize),
    Drop(usize, usize),
    Insert(usize, &'static str),
}

fn harm() -> impl Strategy<Value = Harm> {
    let words = [
        "\r\n",
        "\n",
        "\0",
        "=",
        " ",
        "/",
        ":",
        "0",
        "4294967296",
        "-1",
        "\u{202e}",
        "m=audio 1 RTP/AVP 0\n",
        "a=rtpmap:0 opus/48000/2\n",
        "c=IN IP4 0.0.0.0\n",
        "a=inactive\n",
        "a=rtcp:0\n",
        "a=ptime:0\n",
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Harm::Flip(at, byte)),
        any::<usize>().prop_map(Harm::Cut),
        (any::<usize>(), 1..400_usize).prop_map(|(at, length)| Harm::Repeat(at, length)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Harm::Drop(at, length)),
        (any::<usize>(), proptest::sample::select(words.to_vec()))
            .prop_map(|(at, word)| Harm::Insert(at, word)),
    ]
}

fn apply(text: &mut Vec<u8>, harm: &Harm) {
    if text.is_empty() {
        return;
    }
    let length = text.len();
    match *harm {
        Harm::Flip(at, byte) => text[at % length] = byte,
        Harm::Cut(at) => text.truncate(at % length),
        Harm::Repeat(at, count) => {
            let start = at % length;
            let piece = text[start..(start + count).min(length)].to_vec();
            text.splice(start..start, piece);
        }
        Harm::Drop(at, count) => {
            let start = at % length;
            text.drain(start..(start + count).min(length));
        }
        Harm::Insert(at, word) => {
            let start = at % length;
            text.splice(start..start, word.bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes(text in proptest::collection::vec(any::<u8>(), 0..600)) {
        swallow(&text);
    }

    #[test]
    fn lines_of_any_bytes(
        lines in proptest::collection::vec(
            (proptest::sample::select(b"vosctmab=".to_vec()), proptest::collection::vec(any::<u8>(), 0..40)),
            0..30,
        ),
    ) {
        let mut text = b"v=0\n".to_vec();
        for (key, value) in lines {
            text.extend([key, b'=']);
            text.extend(value);
            text.push(b'\n');
        }
        swallow(&text);
    }

    #[test]
    fn harmed_offers_of_real_peers(
        peer in proptest::sample::select(&PEERS),
        harms in proptest::collection::vec(harm(), 1..8),
    ) {
        let mut text = peer.as_bytes().to_vec();
        for harm in &harms {
            apply(&mut text, harm);
        }
        swallow(&text);
    }
}

#[test]
fn the_largest_text_is_read_in_no_time() {
    let formats: String = (0..128).map(|number| format!(" {number}")).collect();
    let mut text = format!("v=0\nc=IN IP4 192.0.2.2\nm=audio 4000 RTP/AVP{formats}\n");
    while text.len() < 16_000 {
        text.push_str("a=fmtp:99 =;=;=\n");
    }
    swallow(text.as_bytes());
    text.push_str(&"a=x\n".repeat(200));
    assert!(matches!(side(&ALL).handle_offer(text.as_bytes()), Err(NegotiationError::Malformed(_))));
}

#[test]
fn refused_lines_cannot_smuggle_lines_into_the_answer() {
    let offer = "v=0\nc=IN IP4 192.0.2.2\nm=audio 4000 RTP/AVP 0\nm=vid\u{e9}o 1 RTP/AVP 96\n";
    assert!(matches!(side(&ALL).handle_offer(offer.as_bytes()), Err(NegotiationError::Malformed(_))));
    let offer = "v=0\nc=IN IP4 192.0.2.2\nm=audio 4000 RTP/AVP 0\nm=video 1 RTP/AVP 96\rc=IN IP4 6.6.6.6\n";
    let mut callee = side(&ALL);
    callee.handle_offer(offer.as_bytes()).unwrap();
    let (answer, _) = callee.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(lines_with(&answer, "c="), ["c=IN IP4 192.0.2.1"]);
}
