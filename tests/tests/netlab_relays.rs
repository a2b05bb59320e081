//! Calls that take a relay although nothing else forces them to: `ice = "relay"`.

use voipd_tests::exchange::{Conversation, Exchange, phone};
use voipd_tests::netlab::{Internet, Kind};
use voipd_tests::{Lab, needs_root};

#[tokio::test]
async fn by_relays_alone_both_are_heard_and_neither_is_seen() {
    if !needs_root("by_relays_alone_both_are_heard_and_neither_is_seen") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let sites = [Kind::Open, Kind::Open].map(|kind| internet.site(kind));
    let exchange = Exchange::start(&lab, &internet).await;
    let hiding = |user, site: usize| format!("{}\nice = \"relay\"", exchange.account(user, sites[site].kind));
    let alice = phone(&lab, "alice", &sites[0], hiding("alice", 0)).await;
    let bob = phone(&lab, "bob", &sites[1], hiding("bob", 1)).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    assert_eq!(conversation.ways().await, ["relayed", "relayed"]);
    for call in [&conversation.near, &conversation.far] {
        assert_eq!(call.path_word("local-type").await, "relay");
        assert!(call.path_word("remote").await.starts_with(&format!("{}:", Internet::SERVER)));
    }
    let relays = alice.ctl(&["nat"]);
    assert!(relays.contains("reachable"), "{relays}");
    let calls = alice.ctl(&["calls"]);
    assert!(calls.contains("relayed"), "{calls}");
    conversation.end().await.assert_both_heard("by relays alone");
    alice.stop().await;
    bob.stop().await;
}
