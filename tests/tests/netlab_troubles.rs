//! Calls through NAT when something goes wrong: servers that are gone, lines that go dead, routers that change their
//! address or meddle with SIP.

use std::time::Duration;

use voipd_tests::exchange::{Conversation, Exchange, phone};
use voipd_tests::netlab::{Coturn, Host, Internet, Kind, Nat, Router};
use voipd_tests::{Call, Lab, SOON, Voipd, needs_root, pause, until};

const CONE: Kind = Kind::Behind(Nat::Cone);
const SYMMETRIC: Kind = Kind::Behind(Nat::Symmetric);

/// How long a call may be without sound after its way broke: consent runs out after 30 s at the latest (RFC 7675 section
/// 5.1), and then another way is looked for.
const RECOVERY: Duration = Duration::from_secs(45);

/// Two telephones of alice and bob, each with a relay at each of some hosts.
async fn phones(
    lab: &Lab,
    internet: &Internet,
    exchange: &Exchange,
    kinds: [Kind; 2],
    relays: &[&Host],
) -> [Voipd; 2] {
    let names: Vec<String> = relays.iter().map(|host| format!("\"turn:{}\"", host.address)).collect();
    let mut phones = Vec::new();
    for (user, kind) in ["alice", "bob"].into_iter().zip(kinds) {
        let account = format!(
            "{}\nrelays = [{}]\nrelay-user = \"{user}\"\nrelay-password = \"{user}-secret\"",
            exchange.registrar.account(user),
            names.join(", ")
        );
        phones.push(phone(lab, user, &internet.site(kind), account).await);
    }
    phones.try_into().unwrap()
}

/// Waits until a call hears its peer again.
async fn hears_again(call: &Call, who: &str) {
    let before = call.figures().await.packets_received;
    until(&format!("{who} hears again"), RECOVERY, async || {
        (call.figures().await.packets_received > before + 25).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stun_server_that_is_gone_delays_nothing() {
    if !needs_root("a_stun_server_that_is_gone_delays_nothing") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let exchange = Exchange::start(&lab, &internet).await;
    let dead = internet.host("dead");
    let sites = [internet.site(CONE), internet.site(CONE)];
    let account = |user, kind| {
        let account = exchange.account(user, kind);
        account.replace("stun = [", &format!("stun = [\"stun:{}\", ", dead.address))
    };
    let alice = phone(&lab, "alice", &sites[0], account("alice", CONE)).await;
    let bob = phone(&lab, "bob", &sites[1], account("bob", CONE)).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    println!("{:?}", conversation.way().await);
    conversation.end().await.assert_both_heard("a STUN server is gone");
    alice.stop().await;
    bob.stop().await;
}
