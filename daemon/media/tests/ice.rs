//! ICE in offers and answers (RFC 8839): who says what, what is taken, and when the call goes without.

use crate::support::*;
use voipd_media::ice::{Candidate, CandidateKind, Credentials, LocalIce, PeerIce, RemoteIce};
use voipd_media::{Agreement, Direction, Negotiation, NegotiationError};

const CREDENTIALS: &str = "a=ice-ufrag:9uB6\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yh";
const HOST: &str = "a=candidate:1 1 UDP 2130706431 192.0.2.2 4000 typ host";

fn with_ice() -> Negotiation {
    let mut side = side(&ALL);
    side.set_ice(Some(ice()));
    side
}

/// What becomes of a peer's offer with these attributes: our answer and what is agreed.
fn answered(attributes: &str) -> (Vec<u8>, Agreement) {
    let mut side = with_ice();
    side.handle_offer(&peer(&format!("m=audio 4000 RTP/AVP 0\n{attributes}"))).unwrap();
    side.make_answer(here(), Direction::SendRecv).unwrap()
}

fn offered(attributes: &str) -> RemoteIce {
    let (_, agreement) = answered(attributes);
    agreement.ice.offered().unwrap_or_else(|| panic!("no ICE: {:?}: {attributes}", agreement.ice)).clone()
}

fn addresses(ice: &RemoteIce) -> Vec<String> {
    ice.candidates.iter().map(|candidate| candidate.address.to_string()).collect()
}

#[test]
fn an_offer_of_ours_names_credentials_and_both_components() {
    let offer = with_ice().make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&offer, "a=ice-ufrag:"), ["a=ice-ufrag:8hhY"]);
    assert_eq!(lines_with(&offer, "a=ice-pwd:"), ["a=ice-pwd:asd88fgpdd777uzjYhagZg"]);
    assert_eq!(lines_with(&offer, "a=ice-options:"), ["a=ice-options:ice2"]);
    assert_eq!(
        lines_with(&offer, "a=candidate:"),
        [
            "a=candidate:1 1 UDP 2130706431 192.0.2.1 30000 typ host",
            "a=candidate:1 2 UDP 2130706430 192.0.2.1 30001 typ host",
        ]
    );
    // RFC 5761 section 5.1.3.
    assert!(has_line(&offer, "a=rtcp-mux") && has_line(&offer, "a=rtcp:30001"));
    assert_eq!(lines_with(&offer, "a=end-of-candidates").len(), 0, "that is for those who trickle");
}

#[test]
fn two_of_us_agree_on_ice_and_share_one_port() {
    let (mut caller, mut callee) = (with_ice(), with_ice());
    let offer = caller.make_offer(here(), Direction::SendRecv);
    callee.handle_offer(&offer).unwrap();
    let PeerIce::Offered(theirs) = callee.offered_ice().unwrap() else { panic!("no ICE") };
    assert_eq!(theirs.candidates, ice().candidates);
    assert_eq!(theirs.credentials, ice().credentials);
    assert!(theirs.complete && !theirs.lite && !theirs.trickle);
    let (answer, agreement) = callee.make_answer(here(), Direction::SendRecv).unwrap();
    assert!(agreement.ice.offered().is_some() && agreement.rtcp_mux);
    assert_eq!(lines_with(&answer, "a=candidate:").len(), 1, "RTCP shares the port");
    let agreement = caller.handle_answer(&answer).unwrap();
    assert_eq!(agreement.ice.offered().unwrap().candidates.len(), 1);
    // Now that it is agreed, a new offer names one component as well.
    let again = caller.make_offer(here(), Direction::SendRecv);
    assert_eq!(lines_with(&again, "a=candidate:").len(), 1);
}

#[test]
fn what_is_not_offered_is_not_answered() {
    let (answer, agreement) = answered("a=sendrecv");
    assert_eq!(agreement.ice, PeerIce::Absent);
    assert!(!lines(&answer).iter().any(|line| line.contains("ice-") || line.contains("candidate")));
}

#[test]
fn a_side_without_ice_answers_and_agrees_without() {
    let mut plain = side(&ALL);
    plain.handle_offer(&peer(&format!("m=audio 4000 RTP/AVP 0\n{CREDENTIALS}\n{HOST}"))).unwrap();
    let (answer, agreement) = plain.make_answer(here(), Direction::SendRecv).unwrap();
    assert_eq!(agreement.ice, PeerIce::Absent);
    assert!(!lines(&answer).iter().any(|line| line.contains("ice-")));
    // An answer must not bring what was not offered.
    plain.make_offer(here(), Direction::SendRecv);
    let agreement =
        plain.handle_answer(&peer(&format!("m=audio 4000 RTP/AVP 0\n{CREDENTIALS}\n{HOST}"))).unwrap();
    assert_eq!(agreement.ice, PeerIce::Absent);
}

#[test]
fn an_answer_without_ice_leaves_the_plain_way() {
    let mut side = with_ice();
    side.make_offer(here(), Direction::SendRecv);
    let agreement = side.handle_answer(&peer("m=audio 4000 RTP/AVP 0")).unwrap();
    assert_eq!((agreement.ice, agreement.remote_rtp.port()), (PeerIce::Absent, 4000));
}

#[test]
fn all_kinds_are_read() {
    let ice = offered(&format!(
        "{CREDENTIALS}\n{HOST}\n\
         a=candidate:2 1 udp 1694498815 203.0.113.7 50000 typ srflx raddr 192.0.2.2 rport 4000\n\
         a=candidate:Ab+/ 2 UDP 1 2001:db8::7 9 typ prflx generation 0 network-id 3\n\
         a=candidate:3 1 UDP 16777215 198.51.100.9 49152 typ relay raddr 203.0.113.7\na=rtcp-mux"
    ));
    let kinds: Vec<CandidateKind> = ice.candidates.iter().map(|candidate| candidate.kind).collect();
    use CandidateKind::*;
    assert_eq!(kinds, [Host, ServerReflexive, PeerReflexive, Relayed]);
    assert_eq!(ice.candidates[1].related, Some("192.0.2.2:4000".parse().unwrap()));
    assert_eq!(ice.candidates[3].related, None, "half an address is none");
    assert_eq!((ice.candidates[2].component, ice.candidates[2].foundation.as_str()), (2, "Ab+/"));
    assert_eq!(addresses(&ice)[2], "[2001:db8::7]:9");
}

#[test]
fn candidates_of_no_use_are_left_out() {
    for bad in [
        "9 1 TCP 2105458943 192.0.2.2 9 typ host tcptype active",
        "9 3 UDP 1 192.0.2.2 4000 typ host",
        "9 0 UDP 1 192.0.2.2 4000 typ host",
        "9 256 UDP 1 192.0.2.2 4000 typ host",
        "9 1 UDP 0 192.0.2.2 4000 typ host",
        "9 1 UDP 2147483648 192.0.2.2 4000 typ host",
        "9 1 UDP -1 192.0.2.2 4000 typ host",
        "9 1 UDP 1 192.0.2.2 0 typ host",
        "9 1 UDP 1 192.0.2.2 65536 typ host",
        "9 1 UDP 1 192.0.2.2 4000 typ future",
        "9 1 UDP 1 192.0.2.2 4000 type host",
        "9 1 UDP 1 192.0.2.2 4000",
        "9 1 UDP 1 224.0.0.1 4000 typ host",
        "9 1 UDP 1 ::ffff:224.0.0.1 4000 typ host",
        "9 1 UDP 1 255.255.255.255 4000 typ host",
        "9 1 UDP 1 0.0.0.0 4000 typ host",
        "9 1 UDP 1 ff02::1 4000 typ host",
        "a_b 1 UDP 1 192.0.2.3 4000 typ host",
        "123456789012345678901234567890123 1 UDP 1 192.0.2.3 4000 typ host",
        "",
    ] {
        let ice = offered(&format!("{CREDENTIALS}\na=candidate:{bad}\n{HOST}"));
        assert_eq!(addresses(&ice), ["192.0.2.2:4000"], "{bad}");
    }
    // The same address twice.
    let ice = offered(&format!("{CREDENTIALS}\n{HOST}\na=candidate:7 1 UDP 5 192.0.2.2 4000 typ srflx"));
    assert_eq!(ice.candidates.len(), 1);
}

#[test]
fn a_flood_of_candidates_is_cut() {
    let many: String =
        (1..200).map(|n| format!("a=candidate:1 1 UDP {n} 192.0.2.2 {} typ host\n", 3999 + n)).collect();
    assert_eq!(offered(&format!("{CREDENTIALS}\n{many}")).candidates.len(), 24);
}

#[test]
fn credentials_have_their_lengths_and_characters() {
    let pwd = "YH75Fviy6338Vbrhrlp8Yh";
    for (ufrag, password) in [
        ("abc", pwd),
        ("abcd", &pwd[1..]),
        ("ab-d", pwd),
        ("ab d", pwd),
        (&"x".repeat(257), pwd),
        ("abcd", &"x".repeat(257)),
        ("", ""),
    ] {
        let (answer, agreement) = answered(&format!("a=ice-ufrag:{ufrag}\na=ice-pwd:{password}\n{HOST}"));
        assert_eq!(agreement.ice, PeerIce::Absent, "{ufrag} {password}");
        assert_eq!(lines_with(&answer, "a=ice-ufrag").len(), 0);
    }
    let longest = "x".repeat(256);
    let ice = offered(&format!("a=ice-ufrag:{longest}\na=ice-pwd:{longest}\n{HOST}"));
    assert_eq!(ice.credentials, Credentials::new(&longest, &longest).unwrap());
    // One of the two says nothing.
    assert_eq!(answered(&format!("a=ice-ufrag:abcd\n{HOST}")).1.ice, PeerIce::Absent);
    assert!(!format!("{:?}", ice.credentials).contains(&format!("password: \"{longest}")));
}

#[test]
fn credentials_and_options_of_the_session_hold_for_the_stream() {
    let text = format!(
        "v=0\nc=IN IP4 192.0.2.2\na=ice-lite\na=ice-options:rtp+ecn trickle\n{CREDENTIALS}\n\
         m=audio 4000 RTP/AVP 0\n{HOST}\n"
    );
    let mut side = with_ice();
    side.handle_offer(text.as_bytes()).unwrap();
    let ice = side.offered_ice().unwrap().offered().unwrap();
    assert!(ice.lite && ice.trickle && !ice.complete);
    // Those of the stream come before those of the session.
    let own = "a=ice-ufrag:mine\na=ice-pwd:YH75Fviy6338Vbrhrlp8Yx\n";
    side.handle_offer(format!("{text}{own}a=end-of-candidates\n").as_bytes()).unwrap();
    let ice = side.offered_ice().unwrap().offered().unwrap();
    assert_eq!(ice.credentials.ufrag, "mine");
    assert!(ice.complete);
}

#[test]
fn an_address_that_was_rewritten_switches_ice_off_and_says_so() {
    let candidate = "a=candidate:1 1 UDP 2130706431 10.0.0.2 4000 typ host";
    let (answer, agreement) = answered(&format!("{CREDENTIALS}\n{candidate}"));
    assert_eq!(agreement.ice, PeerIce::Mismatch);
    assert_eq!(agreement.remote_rtp, "192.0.2.2:4000".parse().unwrap(), "the plain way");
    assert!(has_line(&answer, "a=ice-mismatch"));
    assert_eq!(lines_with(&answer, "a=candidate").len(), 0);
    // The port alone, too.
    let candidate = "a=candidate:1 1 UDP 2130706431 192.0.2.2 4002 typ host";
    assert_eq!(answered(&format!("{CREDENTIALS}\n{candidate}")).1.ice, PeerIce::Mismatch);
    // RTCP's, where it has a port of its own.
    let both = format!("{CREDENTIALS}\n{HOST}\na=candidate:1 2 UDP 2130706430 192.0.2.2 4009 typ host");
    assert_eq!(answered(&both).1.ice, PeerIce::Mismatch);
    assert!(answered(&format!("{both}\na=rtcp:4009")).1.ice.offered().is_some());
    assert!(answered(&format!("{both}\na=rtcp-mux")).1.ice.offered().is_some());
}

#[test]
fn an_answer_that_was_rewritten_or_says_mismatch_leaves_the_plain_way() {
    for (attributes, ice) in [
        (format!("{CREDENTIALS}\na=candidate:1 1 UDP 1 10.0.0.2 4000 typ host"), PeerIce::Mismatch),
        ("a=ice-mismatch".to_owned(), PeerIce::Refused),
    ] {
        let mut side = with_ice();
        side.make_offer(here(), Direction::SendRecv);
        let agreement = side.handle_answer(&peer(&format!("m=audio 4000 RTP/AVP 0\n{attributes}"))).unwrap();
        assert_eq!((agreement.ice, agreement.remote_rtp.port()), (ice, 4000));
    }
}

#[test]
fn names_in_candidates_are_nobodys_mismatch() {
    let name = "a=candidate:1 1 UDP 2130706431 4f1c2e.local 4000 typ host";
    let ice = offered(&format!("{CREDENTIALS}\n{name}"));
    assert_eq!(ice.candidates, []);
    let other = "a=candidate:2 1 UDP 5 203.0.113.7 50000 typ srflx raddr 0.0.0.0 rport 0";
    assert_eq!(addresses(&offered(&format!("{CREDENTIALS}\n{name}\n{other}"))), ["203.0.113.7:50000"]);
}

#[test]
fn a_peer_that_trickles_may_begin_with_nothing() {
    let text = format!("v=0\nc=IN IP4 0.0.0.0\nm=audio 9 RTP/AVP 0\na=ice-options:trickle\n{CREDENTIALS}\n");
    let mut side = with_ice();
    side.handle_offer(text.as_bytes()).unwrap();
    let (_, agreement) = side.make_answer(here(), Direction::SendRecv).unwrap();
    assert!(!agreement.remote_hold && agreement.direction == Direction::SendRecv, "no hold");
    let ice = agreement.ice.offered().unwrap();
    assert!(ice.candidates.is_empty() && ice.trickle && !ice.complete);
}

#[test]
fn a_peer_with_tcp_candidates_alone_is_met_without_ice() {
    let tcp = "a=candidate:1 1 TCP 2105458943 192.0.2.2 4000 typ host tcptype passive";
    assert_eq!(answered(&format!("{CREDENTIALS}\n{tcp}")).1.ice, PeerIce::Absent);
}

#[test]
fn a_default_address_of_the_other_kind_is_none_to_fail_for() {
    let text = format!(
        "v=0\nc=IN IP6 2001:db8::2\nm=audio 4000 RTP/AVP 0\n{CREDENTIALS}\n\
         a=candidate:1 1 UDP 9 2001:db8::2 4000 typ host\n{HOST}\n"
    );
    let mut side = with_ice();
    side.handle_offer(text.as_bytes()).unwrap();
    assert!(side.make_answer(here(), Direction::SendRecv).is_ok());
    let mut plain = crate::support::side(&ALL);
    plain.handle_offer(text.replace("a=ice-pwd", "a=x").as_bytes()).unwrap();
    assert!(matches!(plain.make_answer(here(), Direction::SendRecv), Err(NegotiationError::Address(_))));
}

#[test]
fn the_selected_pairs_are_named_and_read() {
    let mut caller = with_ice();
    let remote = "203.0.113.7:50000".parse().unwrap();
    caller.set_ice(Some(LocalIce { remote_candidates: vec![(1, remote)], ..ice() }));
    let offer = caller.make_offer(here(), Direction::SendRecv);
    assert!(has_line(&offer, "a=remote-candidates:1 203.0.113.7 50000"));
    let ice = offered(&format!(
        "{CREDENTIALS}\n{HOST}\na=remote-candidates:1 192.0.2.1 30000 2 2001:db8::1 30001 3 x"
    ));
    assert_eq!(
        ice.remote_candidates,
        [(1, "192.0.2.1:30000".parse().unwrap()), (2, "[2001:db8::1]:30001".parse().unwrap())]
    );
    assert_eq!(offered(&format!("{CREDENTIALS}\n{HOST}\na=remote-candidates:x y z 1")).remote_candidates, []);
}

#[test]
fn a_candidate_reads_as_it_was_written() {
    let candidate = Candidate {
        foundation: "Sf+9/".to_owned(),
        component: 2,
        priority: 1_694_498_814,
        address: "[2001:db8::9]:4001".parse().unwrap(),
        kind: CandidateKind::ServerReflexive,
        related: Some("[2001:db8::2]:4001".parse().unwrap()),
    };
    let ice = offered(&format!("{CREDENTIALS}\n{HOST}\na=rtcp-mux\na=candidate:{candidate}"));
    assert_eq!(ice.candidates[1], candidate);
}
