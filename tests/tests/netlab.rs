//! The matrix: telephones behind every kind of NAT talk with each other, and take the way that the kinds allow.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use voipd_tests::exchange::{Conversation, Exchange, Scene};
use voipd_tests::netlab::{Coturn, Host, Internet, Kind, Nat, Site};
use voipd_tests::{Config, Lab, SOON, Voipctl, Voipd, needs_root, pace, timely};

/// Whether datagrams of one side can reach the other without a relay.
fn reach_each_other(one: Kind, other: Kind) -> bool {
    let symmetric = |kind| kind == Kind::Behind(Nat::Symmetric);
    // Lets in what comes from a port that nobody has named.
    let welcoming = |kind| matches!(kind, Kind::Open | Kind::Behind(Nat::FullCone));
    one.passes_datagrams()
        && other.passes_datagrams()
        && (!symmetric(one) || welcoming(other))
        && (!symmetric(other) || welcoming(one))
}

/// Two telephones at sites of these kinds talk; answers with the ends of the way that their sound took.
async fn talk(caller: Kind, callee: Kind) -> [String; 2] {
    let what = format!("{caller} with {callee}");
    let lab = Lab::alone();
    let internet = Internet::new();
    let sites = [caller, callee].map(|kind| internet.site(kind));
    let exchange = Exchange::start(&lab, &internet).await;
    let alice = exchange.phone(&lab, "alice", &sites[0]).await;
    let bob = exchange.phone(&lab, "bob", &sites[1]).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    let way = conversation.way().await;
    println!("{what}: {way:?}");
    conversation.end().await.assert_both_heard(&what);
    let relayed = way.iter().any(|end| end == "relay");
    assert_eq!(relayed, !reach_each_other(caller, callee), "{what}: {way:?}");
    alice.stop().await;
    bob.stop().await;
    way
}

/// A pair of the quick form.
macro_rules! pair {
    ($name:ident, $caller:expr, $callee:expr) => {
        #[timely]
        async fn $name() {
            if needs_root(stringify!($name)) {
                talk($caller, $callee).await;
            }
        }
    };
}

pair!(open_calls_cone, Kind::Open, Kind::Behind(Nat::Cone));
pair!(cone_calls_two_nats, Kind::Behind(Nat::Cone), Kind::TwoNats);
pair!(symmetric_calls_full_cone, Kind::Behind(Nat::Symmetric), Kind::Behind(Nat::FullCone));
pair!(symmetric_calls_symmetric, Kind::Behind(Nat::Symmetric), Kind::Behind(Nat::Symmetric));
pair!(udp_blocked_calls_cone, Kind::Behind(Nat::TcpOnly), Kind::Behind(Nat::Cone));

#[timely]
#[ignore = "takes long: make netlab"]
async fn two_homes_with_the_same_private_addresses_talk() {
    if !needs_root("two_homes_with_the_same_private_addresses_talk") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let first = internet.site(Kind::Behind(Nat::Cone));
    let second = internet.twin(Kind::Behind(Nat::Cone), &first);
    assert_eq!(first.address, second.address);
    let exchange = Exchange::start(&lab, &internet).await;
    let alice = exchange.phone(&lab, "alice", &first).await;
    let bob = exchange.phone(&lab, "bob", &second).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    assert_eq!(conversation.way().await, ["srflx", "srflx"]);
    conversation.end().await.assert_both_heard("homes with the same addresses");
    alice.stop().await;
    bob.stop().await;
}

/// A meeting point on the public network, with a relay for its friends.
async fn meeting_point(lab: &Lab, internet: &Internet) -> (Host, Voipd) {
    let host = internet.host("point");
    let config = Config::on(&host.namespace, host.address)
        .line("rendezvous", "enabled = true")
        .line("rendezvous", format!("address = \"{}\"", host.address))
        .line("rendezvous", "relay = true");
    let point = Voipd::start(lab, "point", config).await;
    (host, point)
}

/// A friend at a site, who has joined by an invitation and is registered.
async fn joined(lab: &Lab, point: &Voipd, name: &str, site: &Site) -> Voipd {
    let phone = Voipd::start(lab, name, Config::on(site.client(), site.address)).await;
    let invitation = point.ctl(&["friends", "invite", name]);
    phone.ctl(&["friends", "join", invitation.trim()]);
    phone.account_is(&point.address.to_string(), "registered", SOON).await;
    phone
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn three_friends_behind_nats_need_nobody_but_their_meeting_point() {
    if !needs_root("three_friends_behind_nats_need_nobody_but_their_meeting_point") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let (_host, mut point) = meeting_point(&lab, &internet).await;
    let kinds = [Kind::Behind(Nat::Cone), Kind::Behind(Nat::Symmetric), Kind::TwoNats];
    let sites = kinds.map(|kind| internet.site(kind));
    let names = ["alice", "bob", "carol"];
    let mut friends = Vec::new();
    for (name, site) in names.into_iter().zip(&sites) {
        friends.push(joined(&lab, &point, name, site).await);
    }
    for (caller, callee) in [(0, 1), (1, 2), (2, 0)] {
        let what = format!("{} calls {}", kinds[caller], kinds[callee]);
        let conversation =
            Conversation::begin(&lab, &friends[caller], (names[callee], &friends[callee])).await;
        let way = conversation.way().await;
        println!("{what}: {way:?}");
        conversation.end().await.assert_both_heard(&what);
        let relayed = way.iter().any(|end| end == "relay");
        assert_eq!(relayed, !reach_each_other(kinds[caller], kinds[callee]), "{what}: {way:?}");
    }

    // What goes on while the meeting point restarts goes on, as long as it does not pass there.
    let conversation = Conversation::begin_after(&lab, &friends[2], ("alice", &friends[0]), 10.0).await;
    conversation.way().await;
    point.restart().await;
    conversation.end_after(10.0).await.assert_both_heard("the meeting point has restarted");
    for phone in friends.into_iter().chain([point]) {
        phone.stop().await;
    }
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_friend_whose_udp_is_blocked_talks_by_the_meeting_points_relay() {
    if !needs_root("a_friend_whose_udp_is_blocked_talks_by_the_meeting_points_relay") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let (_host, point) = meeting_point(&lab, &internet).await;
    let sites = [Kind::Behind(Nat::TcpOnly), Kind::Behind(Nat::Cone)].map(|kind| internet.site(kind));
    let alice = joined(&lab, &point, "alice", &sites[0]).await;
    let bob = joined(&lab, &point, "bob", &sites[1]).await;
    for (caller, callee, name) in [(&alice, &bob, "bob"), (&bob, &alice, "alice")] {
        let conversation = Conversation::begin(&lab, caller, (name, callee)).await;
        let way = conversation.way().await;
        println!("{name} is called: {way:?}");
        assert!(way.contains(&"relay".to_owned()), "{way:?}");
        conversation.end().await.assert_both_heard("UDP is blocked at one end");
    }
    for phone in [alice, bob, point] {
        phone.stop().await;
    }
}

/// What a telephone has traced of its calls, one JSON record for each message.
async fn traced(trace: Voipctl) -> Vec<Value> {
    trace.signal(Signal::SIGINT);
    let ended = trace.ends().await;
    let lines = ended.well().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|record| record["text"].is_string()).collect()
}

/// The messages of a call that go out or come in and begin so.
fn messages<'a>(records: &'a [Value], call: u64, direction: &str, start: &str) -> Vec<&'a str> {
    let of_call = records.iter().filter(|record| record["call"] == call && record["direction"] == direction);
    of_call.filter_map(|record| record["text"].as_str()).filter(|text| text.starts_with(start)).collect()
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn candidates_are_trickled_to_who_is_known_to_take_them() {
    if !needs_root("candidates_are_trickled_to_who_is_known_to_take_them") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    // What it says takes 120 ms, and the offer of a first call waits 500 ms for it at most.
    let stun = internet.distant_host("stun", Duration::from_millis(60));
    let stun = Coturn::start(&lab, "stun", &stun.namespace, &[stun.address]).await;
    let account =
        |user: &str| format!("{}\nstun = [\"stun:{}\"]", exchange.registrar.account(user), stun.address);
    let sites = [(); 2].map(|()| internet.site(Kind::Behind(Nat::Cone)));
    let telephone = async |user: &str, site: &Site| {
        // A router that is still to answer would be waited for, too.
        let config = Config::on(site.client(), site.address).line("nat", "port-mapping = false");
        let telephone = Voipd::start(&lab, user, config.account(account(user))).await;
        telephone.account_is(user, "registered", SOON).await;
        telephone
    };
    let (alice, bob) = (telephone("alice", &sites[0]).await, telephone("bob", &sites[1]).await);
    let mut trace = Voipctl::start(alice.voipctl(&["trace", "--json"]));
    trace.says("\"started\"").await;
    for what in ["candidates by halves", "candidates one after the other"] {
        let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
        assert_eq!(conversation.way().await, ["srflx", "srflx"], "{what}");
        conversation.end().await.assert_both_heard(what);
    }
    let records = traced(trace).await;
    let fragment = "Content-Type: application/trickle-ice-sdpfrag";
    let fragments = |call, direction| {
        let infos = messages(&records, call, direction, "INFO ");
        infos
            .iter()
            .filter(|info| info.contains(fragment) && info.contains("Info-Package: trickle-ice"))
            .count()
    };
    // A peer that nobody knows is told all at once (RFC 8840 section 4.1.3), and shows by its answer what it takes.
    let first = messages(&records, 1, "out", "INVITE ");
    assert!(first[0].contains("a=ice-options:") && first[0].contains("trickle"), "{}", first[0]);
    assert!(first[0].contains("typ srflx") && first[0].contains("a=end-of-candidates"), "{}", first[0]);
    assert_eq!(fragments(1, "out"), 0);
    // Then no offer waits for a server, and what it says follows.
    let second = messages(&records, 2, "out", "INVITE ");
    assert!(second[0].contains("typ host") && !second[0].contains("typ srflx"), "{}", second[0]);
    assert!(!second[0].contains("a=end-of-candidates"), "{}", second[0]);
    assert!(fragments(2, "out") > 0, "nothing has followed");
    let answered = messages(&records, 2, "in", "SIP/2.0 200 ");
    assert!(answered.iter().any(|text| text.contains(" INFO\r\n")), "the peer takes none");
    for phone in [alice, bob] {
        phone.stop().await;
    }
}

#[test]
#[ignore = "takes minutes: make netlab"]
fn every_pair_talks() {
    if !needs_root("every_pair_talks") {
        return;
    }
    let mut table = String::from("| |");
    for kind in Kind::ALL {
        table += &format!(" {kind} |");
    }
    table += &format!("\n|---{}|\n", "|---".repeat(Kind::ALL.len()));
    for (row, caller) in Kind::ALL.into_iter().enumerate() {
        table += &format!("| **{caller}** |");
        for (column, callee) in Kind::ALL.into_iter().enumerate() {
            if column < row {
                table += " |";
            } else {
                let pair = format!("{caller} with {callee}");
                let [near, far] = pace::run(&pair, || talk(caller, callee));
                table += &format!(" {near}, {far} |");
            }
        }
        table += "\n";
    }
    println!("{table}");
    write_table(&table);
}

/// Puts the table into docs/nat.md in place of the one that is there.
fn write_table(table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nat.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- make netlab writes this -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- until here -->\n").unwrap();
    let whole = format!("{before}<!-- make netlab writes this -->\n{table}<!-- until here -->\n{after}");
    std::fs::write(page, whole).unwrap();
}
