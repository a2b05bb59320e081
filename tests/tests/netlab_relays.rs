//! Calls that take a relay although nothing else forces them to: `ice = "relay"`.

use voipd_dbus::Dict;
use voipd_tests::exchange::{Conversation, Exchange, phone};
use voipd_tests::netlab::{Internet, Kind};
use voipd_tests::{Lab, SOON, needs_root, timely, until};

/// A word of the property `MediaPath`; empty where it is not there.
fn word(path: &Dict, key: &str) -> String {
    path.get(key).and_then(|value| value.downcast_ref::<String>().ok()).unwrap_or_default()
}

#[timely]
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
    for call in [&conversation.near, &conversation.far] {
        let path = until("a way for the sound is found", SOON, async || {
            let path = call.proxy.media_path().await.unwrap();
            (word(&path, "kind") != "checking").then_some(path)
        })
        .await;
        assert_eq!([word(&path, "kind"), word(&path, "local-type")], ["relayed", "relay"]);
        assert!(word(&path, "remote").starts_with(&format!("{}:", Internet::SERVER)));
    }
    let relays = alice.ctl(&["nat"]);
    assert!(relays.contains("reachable"), "{relays}");
    let calls = alice.ctl(&["calls"]);
    assert!(calls.contains("relayed"), "{calls}");
    conversation.end().await.assert_both_heard("by relays alone");
    alice.stop().await;
    bob.stop().await;
}
