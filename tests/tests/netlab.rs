//! Two telephones that are reached through NAT, in a laboratory of network namespaces.

use std::time::Instant;

use voipd_tests::exchange::{Conversation, Exchange};
use voipd_tests::netlab::{Internet, Kind, Nat};
use voipd_tests::{Lab, needs_root};

/// Two telephones at sites of these kinds talk.
async fn talk(kinds: [Kind; 2]) {
    let lab = Lab::alone();
    let begun = Instant::now();
    let internet = Internet::new();
    let sites = kinds.map(|kind| internet.site(kind));
    println!("the laboratory took {:?}", begun.elapsed());
    let exchange = Exchange::start(&lab, &internet).await;
    let alice = exchange.phone(&lab, "alice", &sites[0]).await;
    let bob = exchange.phone(&lab, "bob", &sites[1]).await;
    let judgement = Conversation::begin(&lab, &alice, ("bob", &bob)).await.end().await;
    judgement.assert_both_heard(&format!("{} with {}", kinds[0], kinds[1]));
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn cone_with_open() {
    if needs_root("cone_with_open") {
        talk([Kind::Behind(Nat::Cone), Kind::TwoNats]).await;
    }
}
