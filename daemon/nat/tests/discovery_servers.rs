//! Servers that are silent, broken or lying, in virtual time: what they say is not believed, and harms nothing.

use std::time::Duration;

use crate::stun_lab::{By, Lab, Manner, Nat, StunServer, at, only_path, server};
use voipd_nat::stun::{Filtering, Gathered, Mapping, Report, Server, ServerState, Source, State};

const FIRST: &str = "198.51.100.1:3478";
const OTHER: &str = "198.51.100.2:3479";
const SECOND: &str = "198.51.100.77:3478";
const THIRD: &str = "198.51.100.88:3478";

fn cone() -> Nat {
    Nat::new(By::Nothing, By::AddressAndPort)
}

/// The report of a server with this manner, beside an honest one.
fn beside_an_honest_one(manner: Manner) -> Report {
    Lab::first_round(cone(), vec![StunServer::plain(FIRST).with(manner), StunServer::plain(SECOND)])
}

#[test]
fn a_server_that_fails_says_why_and_the_other_one_is_heard() {
    for (manner, reason) in [
        (Manner::Silent, "does not answer"),
        (Manner::Refused, "nothing listens there"),
        (Manner::Error(420), "refuses to answer (420)"),
        (Manner::Error(401), "wants a user name"),
        (Manner::Error(500), "has trouble of its own (500)"),
        (Manner::Empty, "answers with what is no answer"),
        (Manner::WrongId, "does not answer"),
        (Manner::FromElsewhere, "does not answer"),
        (Manner::Says(at("0.0.0.0:7")), "says that this machine is 0.0.0.0:7, which no machine has"),
        (Manner::Says(at("10.1.2.3:7")), "which cannot be seen from there"),
        (Manner::Says(at("[2001:db8::1]:7")), "which is of another family"),
    ] {
        let report = beside_an_honest_one(manner.clone());
        let broken = server(&report, FIRST);
        assert_eq!(broken.state, ServerState::Failed, "{manner:?}");
        assert!(broken.reason.contains(reason), "{manner:?}: {}", broken.reason);
        assert_eq!((broken.public, broken.rtt), (None, None));
        assert_eq!(server(&report, SECOND).state, ServerState::Works, "{manner:?}");
        assert_eq!(only_path(&report).public, [at("203.0.113.9:1").ip()], "{manner:?}");
        assert_eq!(only_path(&report).mapping, Mapping::Unknown, "{manner:?}");
    }
}

#[test]
fn old_servers_and_routers_that_rewrite_addresses_do_no_harm() {
    for manner in [Manner::Old, Manner::Rewritten(at("192.168.1.7:5000"))] {
        let report = beside_an_honest_one(manner.clone());
        assert_eq!(server(&report, FIRST).state, ServerState::Works, "{manner:?}");
        assert_eq!(only_path(&report).mapping, Mapping::EndpointIndependent, "{manner:?}");
    }
}

#[test]
fn a_lost_request_is_repeated_and_the_answer_counts_without_its_round_trip() {
    let report = beside_an_honest_one(Manner::Deaf(3));
    let late = server(&report, FIRST);
    assert_eq!((late.state, late.rtt), (ServerState::Works, None));
}

#[test]
fn a_lone_liar_is_outvoted_by_two_who_agree() {
    let liar = StunServer::plain(THIRD).with(Manner::Says(at("203.0.113.66:1000")));
    let honest = [FIRST, SECOND].map(StunServer::plain);
    let report = Lab::first_round(cone(), [vec![liar], honest.to_vec()].concat());
    let path = only_path(&report);
    assert_eq!(
        (path.mapping, path.public.as_slice()),
        (Mapping::EndpointIndependent, [at("203.0.113.9:1").ip()].as_slice())
    );
    let liar = server(&report, THIRD);
    assert_eq!(liar.state, ServerState::Failed);
    assert!(
        liar.reason.starts_with("sees 203.0.113.66:1000, where the others see 203.0.113.9:"),
        "{}",
        liar.reason
    );
}

#[test]
fn what_a_server_can_have_us_send_to_a_stranger_is_a_handful_of_small_packets() {
    let victim = at("203.0.113.66:1000");
    let sent_to_victim = |servers: Vec<StunServer>| {
        let mut lab = Lab::new(cone(), servers);
        lab.run_round();
        lab.sent.iter().filter(|to| to.ip() == victim.ip()).count()
    };
    let says = |server: StunServer| server.with(Manner::Says(victim));
    assert_eq!(sent_to_victim(vec![says(StunServer::plain(FIRST)), StunServer::plain(SECOND)]), 0);
    // As its own other address, and as the public address that both its addresses see.
    assert_eq!(sent_to_victim(vec![StunServer::full(FIRST, "203.0.113.66:1000").with(Manner::OtherDead)]), 4);
    assert!(sent_to_victim(vec![says(StunServer::full(FIRST, OTHER))]) <= 8);
}

#[test]
fn an_other_address_that_is_dead_spoils_nothing() {
    let report = Lab::first_round(
        cone(),
        vec![StunServer::full(FIRST, OTHER).with(Manner::OtherDead), StunServer::plain(SECOND)],
    );
    let path = only_path(&report);
    assert_eq!((path.mapping, path.filtering), (Mapping::EndpointIndependent, Filtering::Unknown));
}

#[test]
fn a_server_that_answers_from_the_wrong_place_says_nothing_about_the_filter() {
    let report = Lab::first_round(cone(), vec![StunServer::full(FIRST, OTHER).with(Manner::IgnoresChange)]);
    let path = only_path(&report);
    assert_eq!((path.mapping, path.filtering), (Mapping::EndpointIndependent, Filtering::Unknown));
}

#[test]
fn other_addresses_that_lead_back_into_the_house_are_not_asked() {
    for other in ["192.168.1.1:3479", "127.0.0.1:3479", "198.51.100.1:3479", "198.51.100.2:3478"] {
        let mut lab = Lab::new(cone(), vec![StunServer::full(FIRST, other)]);
        lab.run_round();
        assert!(lab.sent.iter().all(|to| *to == at(FIRST)), "{other}: {:?}", lab.sent);
        assert_eq!(only_path(&lab.report()).mapping, Mapping::Unknown, "{other}");
    }
}

#[test]
fn packets_that_nobody_asked_for_change_nothing() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST).with(Manner::Silent)]);
    lab.run_for(Duration::from_millis(100));
    let before = lab.report();
    let socket = voipd_nat::stun::SocketId { path: 0, role: voipd_nat::stun::Role::Mapping };
    let success = [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[9; 12]].concat();
    for bytes in [&success, &request, &vec![0x80; 40], &Vec::new()] {
        lab.discovery.handle_datagram(lab.now, socket, at(FIRST), bytes);
    }
    assert_eq!(lab.report(), before);
    assert_eq!(before.state, State::Discovering);
}

#[test]
fn no_more_servers_are_asked_than_a_round_has_room_for() {
    let many = (1..=40).map(|n| StunServer::plain(&format!("198.51.100.{n}:3478"))).collect();
    let mut lab = Lab::new(cone(), many);
    lab.run_round();
    assert_eq!(lab.report().servers.len(), voipd_nat::stun::MOST_SERVERS);
}

#[test]
fn a_name_that_leads_nowhere_is_a_failed_server() {
    let mut lab = Lab::new(cone(), Vec::new());
    lab.gathers = false;
    lab.run_for(Duration::from_millis(1));
    let nowhere = Server {
        name: "stun:nowhere.example".into(),
        source: Source::Account("home".into()),
        place: Err("there is no host nowhere.example".into()),
    };
    let gathered = Gathered { paths: Vec::new(), servers: vec![nowhere] };
    lab.discovery.handle_gathered(lab.now, 1, gathered);
    let report = lab.report();
    assert_eq!((report.state, report.servers[0].state), (State::Failed, ServerState::Failed));
    assert_eq!(report.reason, "stun:nowhere.example there is no host nowhere.example");
    assert_eq!(report.servers[0].source.to_string(), "account:home");
}
