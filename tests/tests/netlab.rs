//! The matrix: telephones behind every kind of NAT talk with each other, and take the way that the kinds allow.

use std::path::Path;

use voipd_tests::exchange::{Conversation, Exchange};
use voipd_tests::netlab::{Internet, Kind, Nat};
use voipd_tests::{Lab, needs_root};

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

/// Two telephones at sites of these kinds talk; answers with the way that each one's sound took.
async fn talk(caller: Kind, callee: Kind) -> [String; 2] {
    let what = format!("{caller} with {callee}");
    let lab = Lab::alone();
    let internet = Internet::new();
    let sites = [caller, callee].map(|kind| internet.site(kind));
    let exchange = Exchange::start(&lab, &internet).await;
    let alice = exchange.phone(&lab, "alice", &sites[0]).await;
    let bob = exchange.phone(&lab, "bob", &sites[1]).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    let ways = conversation.ways().await;
    println!("{what}: {} and {}", ways[0], ways[1]);
    conversation.end().await.assert_both_heard(&what);
    let relayed = ways.iter().any(|way| way.contains("relay"));
    assert_eq!(relayed, !reach_each_other(caller, callee), "{what} took {ways:?}");
    alice.stop().await;
    bob.stop().await;
    ways
}

/// A pair of the quick form.
macro_rules! pair {
    ($name:ident, $caller:expr, $callee:expr) => {
        #[tokio::test]
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

#[tokio::test]
#[ignore = "takes minutes: make netlab"]
async fn every_pair_talks() {
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
                let [near, far] = talk(caller, callee).await;
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
