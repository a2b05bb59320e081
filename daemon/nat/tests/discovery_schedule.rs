//! When servers are asked, in virtual time: at once, every ten minutes, after growing waits, and when the network changes.

use std::time::Duration;

use crate::stun_lab::{By, Lab, Manner, Nat, StunServer, at, only_path};
use voipd_nat::stun::{Gathered, Mapping, Reflexive, ServerState, Source, State};

const FIRST: &str = "198.51.100.1:3478";
const SECOND: &str = "198.51.100.77:3478";

fn cone() -> Nat {
    Nat::new(By::Nothing, By::AddressAndPort)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_silent_server_is_asked_seven_times_and_given_up_after_39_and_a_half_seconds() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST).with(Manner::Silent)]);
    lab.run_for(Duration::from_millis(39_400));
    assert_eq!((lab.report().state, lab.sent.len()), (State::Discovering, 7));
    lab.run_for(Duration::from_millis(200));
    assert_eq!((lab.report().state, lab.sent.len()), (State::Failed, 7));
}

#[test]
fn the_first_answer_is_told_while_others_are_still_waited_for() {
    let servers = vec![StunServer::plain(FIRST).with(Manner::Silent), StunServer::plain(SECOND)];
    let mut lab = Lab::new(cone(), servers);
    lab.run_for(Duration::from_millis(25));
    let report = lab.report();
    assert_eq!((report.state, only_path(&report).public.len()), (State::Known, 1));
    assert_eq!(crate::stun_lab::server(&report, FIRST).state, ServerState::Asking);
}

#[test]
fn servers_that_answer_are_asked_again_after_about_ten_minutes() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.run_for(seconds(3600));
    assert!((5..=8).contains(&lab.rounds.len()), "{:?}", lab.rounds);
    for pair in lab.rounds.windows(2) {
        assert!((seconds(480)..seconds(730)).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
}

#[test]
fn waits_grow_while_nobody_answers_and_shrink_when_somebody_does() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST).with(Manner::Refused)]);
    lab.run_for(seconds(4000));
    let waits: Vec<Duration> = lab.rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (wait, nominal) in waits.iter().zip([5, 10, 20, 40, 80, 160, 320, 600, 600]) {
        let (least, most) = (seconds(nominal) * 4 / 5, seconds(nominal) * 6 / 5 + Duration::from_millis(50));
        assert!((least..=most).contains(wait), "{nominal}: {waits:?}");
    }
    assert!(waits.len() >= 9, "{waits:?}");
    assert!(waits.iter().any(|wait| wait.subsec_millis() != 0), "no jitter: {waits:?}");
    lab.servers[0].manner = Manner::Honest;
    lab.run_for(seconds(730));
    assert_eq!(lab.report().state, State::Known);
}

#[test]
fn a_changed_network_is_looked_at_at_once_and_the_old_address_is_forgotten() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.run_round();
    assert_eq!(lab.report().state, State::Known);
    lab.nat = Nat { public: Some("203.0.113.200".parse().unwrap()), ..cone() };
    lab.discovery.network_changed(lab.now);
    let report = lab.report();
    assert_eq!((report.state, report.paths.len(), report.servers.len()), (State::Discovering, 0, 0));
    lab.run_round();
    assert_eq!(only_path(&lab.report()).public, [at("203.0.113.200:1").ip()]);
}

#[test]
fn a_change_in_the_middle_of_a_round_begins_a_new_one() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST).with(Manner::Silent)]);
    lab.run_for(seconds(2));
    let sent = lab.sent.len();
    lab.discovery.network_changed(lab.now);
    lab.discovery.network_changed(lab.now);
    lab.drain();
    assert_eq!(lab.rounds.len(), 2, "two changes at once are one round");
    lab.run_for(seconds(2));
    assert_eq!(lab.sent.len(), 2 * sent, "the round before is over");
}

#[test]
fn what_is_known_stays_while_it_is_asked_again() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.run_round();
    let known = lab.report();
    lab.servers[0].manner = Manner::Silent;
    lab.discovery.ask_again(lab.now);
    lab.run_for(seconds(10));
    assert_eq!(lab.report(), known);
    lab.run_for(seconds(35));
    assert_eq!(lab.report().state, State::Failed);
    lab.servers.push(StunServer::plain(SECOND));
    lab.discovery.ask_again(lab.now);
    lab.run_for(seconds(45));
    assert_eq!(lab.report().state, State::Known);
}

#[test]
fn without_servers_nothing_is_sent_and_that_is_said() {
    let mut lab = Lab::new(cone(), Vec::new());
    lab.run_for(seconds(700));
    let report = lab.report();
    assert_eq!((report.state, lab.sent.len()), (State::Unknown, 0));
    assert!(report.reason.contains("name one as stun under [nat]"), "{}", report.reason);
}

#[test]
fn sockets_that_never_come_are_asked_for_again_and_come_too_late_then() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.gathers = false;
    lab.run_for(seconds(15));
    let late = lab.gathered();
    lab.run_for(seconds(1));
    lab.discovery.handle_gathered(lab.now, 1, late);
    lab.drain();
    assert!(lab.sent.is_empty());
    lab.gathers = true;
    lab.run_round();
    assert_eq!(lab.report().state, State::Known);
}

#[test]
fn an_answer_to_an_earlier_question_for_sockets_is_ignored() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.gathers = false;
    lab.run_for(Duration::from_millis(1));
    lab.discovery.network_changed(lab.now);
    assert_eq!([1, 2, 3].map(|number| lab.discovery.awaits(number)), [false, true, false]);
    lab.discovery.handle_gathered(lab.now, 1, Gathered::default());
    assert_eq!(lab.report().state, State::Discovering);
    let gathered = lab.gathered();
    lab.discovery.handle_gathered(lab.now, 2, gathered);
    assert!(!lab.discovery.awaits(2), "it is there");
}

#[test]
fn registrars_tell_the_address_without_being_asked() {
    let mut lab = Lab::new(cone(), Vec::new());
    lab.run_round_without_servers();
    let seen = |public: &str, server: &str| Reflexive {
        local: at("192.168.1.7:5060"),
        public: at(public),
        server: at(server),
    };
    lab.discovery.handle_reflexive("home", seen("203.0.113.9:40777", "192.0.2.1:5060"));
    let report = lab.report();
    assert_eq!(only_path(&report).public, [at("203.0.113.9:1").ip()]);
    assert_eq!(only_path(&report).mapping, Mapping::Unknown);
    assert_eq!(report.servers[0].source, Source::Registration("home".into()));
    // A second registrar sees the same port, a third one another address altogether.
    lab.discovery.handle_reflexive("work", seen("203.0.113.9:40777", "192.0.2.2:5060"));
    assert_eq!(only_path(&lab.report()).mapping, Mapping::EndpointIndependent);
    lab.discovery.handle_reflexive("liar", seen("10.0.0.1:1", "192.0.2.3:5060"));
    assert_eq!(lab.report().servers.len(), 2);
    lab.discovery.forget_reflexive("work");
    assert_eq!(only_path(&lab.report()).mapping, Mapping::Unknown);
    for n in 0..200 {
        lab.discovery.handle_reflexive(&format!("account-{n}"), seen("203.0.113.9:40777", "192.0.2.1:5060"));
    }
    assert!(lab.report().servers.len() <= 64);
    lab.discovery.network_changed(lab.now);
    assert!(lab.report().servers.is_empty());
}

#[test]
fn only_what_changes_is_told() {
    let mut lab = Lab::new(cone(), vec![StunServer::plain(FIRST)]);
    lab.run_round();
    let changes = lab.changes;
    assert!(changes >= 1);
    lab.run_for(seconds(1300));
    // Each round has new sockets, and so new public ports.
    assert!(lab.changes <= changes + lab.rounds.len(), "{} {}", lab.changes, lab.rounds.len());
}
