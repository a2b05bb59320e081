//! Calls through NAT when something goes wrong: servers that are gone, lines that go dead, routers that change their
//! address or meddle with SIP.

use std::time::{Duration, Instant};

use voipd_tests::exchange::{Conversation, Exchange, Scene, phone};
use voipd_tests::netlab::{Coturn, Host, Internet, Kind, Nat, Site};
use voipd_tests::{Call, Lab, SOON, Voipd, needs_root, pause, timely, until};

const CONE: Kind = Kind::Behind(Nat::Cone);
const SYMMETRIC: Kind = Kind::Behind(Nat::Symmetric);

/// How long a call may be without sound after its way broke: consent runs out after 30 s at the latest (RFC 7675 section
/// 5.1), and then another way is looked for.
const RECOVERY: Duration = Duration::from_secs(60);

/// Two telephones at cones, of alice and bob.
async fn cones(lab: &Lab, internet: &Internet, exchange: &Exchange) -> ([Site; 2], [Voipd; 2]) {
    let sites = [internet.site(CONE), internet.site(CONE)];
    let alice = exchange.phone(lab, "alice", &sites[0]).await;
    let bob = exchange.phone(lab, "bob", &sites[1]).await;
    (sites, [alice, bob])
}

/// Alice calls bob; all of ICE is done, not only the choice of a way.
async fn settled(lab: &Lab, phones: &[Voipd; 2]) -> Conversation {
    let conversation = Conversation::begin_after(lab, &phones[0], ("bob", &phones[1]), 0.0).await;
    println!("{:?}", conversation.way().await);
    pause(3.0).await;
    conversation
}

/// How much sound may be lost, in seconds, when a way breaks and the peer can follow: that nothing is heard is noticed
/// after six tenths of one, servers that could tell why are given a few tenths to answer, and a restart takes a few
/// round trips. A machine that has other things to do takes longer.
const LOST: f64 = 3.0;

/// Packets of one side that are under way, and counted at different moments.
const UNDER_WAY: u64 = 25;

/// What each side has sent and has received.
async fn counted(conversation: &Conversation) -> [(u64, u64); 2] {
    let [near, far] = [conversation.near.figures().await, conversation.far.figures().await];
    [(near.packets_sent, far.packets_received), (far.packets_sent, near.packets_received)]
}

/// Panics when more sound is lost, in whichever direction, than may be while `trouble` passes.
async fn loses_little(conversation: &Conversation, what: &str, trouble: impl AsyncFnOnce()) {
    let before = counted(conversation).await;
    trouble().await;
    hear_again(conversation).await;
    pause(3.0).await;
    let after = counted(conversation).await;
    for (place, who) in ["the caller", "the callee"].into_iter().enumerate() {
        let sent = after[place].0 - before[place].0;
        let heard = after[place].1 - before[place].1;
        let lost = sent.saturating_sub(heard + UNDER_WAY) as f64 / 50.0;
        println!("{what}: {lost:.1} s of what {who} said are lost");
        assert!(lost <= LOST, "{what}: {lost:.1} s of what {who} said are lost");
    }
}

/// Waits until both sides of a call hear each other again.
async fn hear_again(conversation: &Conversation) {
    for (call, who) in [(&conversation.near, "the caller"), (&conversation.far, "the callee")] {
        let before = call.figures().await.packets_received;
        until(&format!("{who} hears again"), RECOVERY, async || {
            (call.figures().await.packets_received > before + 25).then_some(())
        })
        .await;
    }
}

/// How many packets come to a call within a second.
async fn packets_in_a_second(call: &Call) -> u64 {
    let before = call.figures().await.packets_received;
    pause(1.0).await;
    call.figures().await.packets_received - before
}

async fn stop(phones: [Voipd; 2]) {
    for phone in phones {
        phone.stop().await;
    }
}

#[timely]
async fn a_stun_server_that_is_gone_is_not_missed() {
    if !needs_root("a_stun_server_that_is_gone_is_not_missed") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let dead = internet.host("dead");
    let account = |user: &str| {
        let account = exchange.account(user, CONE);
        account.replace("stun = [", &format!("stun = [\"stun:{}\", ", dead.address))
    };
    let sites = [internet.site(CONE), internet.site(CONE)];
    let alice = phone(&lab, "alice", &sites[0], account("alice")).await;
    let bob = phone(&lab, "bob", &sites[1], account("bob")).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    println!("{:?}", conversation.way().await);
    conversation.end().await.assert_both_heard("a STUN server is gone");
    stop([alice, bob]).await;
}

#[timely]
async fn a_sip_alg_does_not_break_a_call() {
    if !needs_root("a_sip_alg_does_not_break_a_call") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let sites = [internet.site(CONE), internet.site(CONE)];
    for site in &sites {
        site.router().sip_alg(true);
    }
    let alice = exchange.phone(&lab, "alice", &sites[0]).await;
    let bob = exchange.phone(&lab, "bob", &sites[1]).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    println!("{:?}", conversation.way().await);
    conversation.end().await.assert_both_heard("SIP ALGs on both sides");
    stop([alice, bob]).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_goes_on_after_a_blackout() {
    if !needs_root("a_call_goes_on_after_a_blackout") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let (sites, phones) = cones(&lab, &internet, &exchange).await;
    let conversation = Conversation::begin_after(&lab, &phones[0], ("bob", &phones[1]), 10.0).await;
    conversation.way().await;
    sites[0].router().blackout(true);
    assert!(packets_in_a_second(&conversation.far).await < 10, "the line is not dead");
    pause(3.0).await;
    sites[0].router().blackout(false);
    hear_again(&conversation).await;
    // Both sentences were said after that.
    conversation.end_after(10.0).await.assert_both_heard("after a blackout");
    stop(phones).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_goes_on_when_the_router_gets_another_address() {
    if needs_root("a_call_goes_on_when_the_router_gets_another_address") {
        routers_change("").await;
    }
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_goes_on_when_connections_of_signalling_break_with_the_routers_address() {
    if needs_root("a_call_goes_on_when_connections_of_signalling_break_with_the_routers_address") {
        routers_change("\ntransport = \"tcp\"").await;
    }
}

/// First the caller's router gets another address in mid-call, then the callee's. `transport`: a line of the accounts.
async fn routers_change(transport: &str) {
    let Scene { lab, internet, exchange } = Scene::set().await;
    let sites = [internet.site(CONE), internet.site(CONE)];
    let account = |user: &str| format!("{}{transport}", exchange.account(user, CONE));
    let alice = phone(&lab, "alice", &sites[0], account("alice")).await;
    let bob = phone(&lab, "bob", &sites[1], account("bob")).await;
    let phones = [alice, bob];
    let conversation = settled(&lab, &phones).await;
    for (site, whose) in sites.iter().zip(["the caller", "the callee"]) {
        let what = format!("the router of {whose} has another address");
        loses_little(&conversation, &what, async || {
            site.router().rebind();
        })
        .await;
        println!("{:?}", conversation.way().await);
    }
    // Either side is reached where it is now, also by signalling.
    conversation.far.hang_up().await;
    conversation.near.is("ended").await;
    stop(phones).await;
}

/// Two telephones at symmetric NATs, which need a relay, with these relays.
async fn with_relays(
    lab: &Lab,
    internet: &Internet,
    exchange: &Exchange,
    relays: &[&Coturn],
) -> ([Site; 2], [Voipd; 2]) {
    each_with_relays(lab, internet, exchange, [relays; 2]).await
}

/// The same, each with relays of its own.
async fn each_with_relays(
    lab: &Lab,
    internet: &Internet,
    exchange: &Exchange,
    relays: [&[&Coturn]; 2],
) -> ([Site; 2], [Voipd; 2]) {
    let account = |user: &str, relays: &[&Coturn]| {
        let names: Vec<String> = relays.iter().map(|relay| format!("\"turn:{}\"", relay.address)).collect();
        format!(
            "{}\nrelays = [{}]\nrelay-user = \"{user}\"\nrelay-password = \"{user}-secret\"",
            exchange.registrar.account(user),
            names.join(", ")
        )
    };
    let sites = [internet.site(SYMMETRIC), internet.site(SYMMETRIC)];
    let alice = phone(lab, "alice", &sites[0], account("alice", relays[0])).await;
    let bob = phone(lab, "bob", &sites[1], account("bob", relays[1])).await;
    (sites, [alice, bob])
}

/// Milliseconds from the caller to the callee and back, as soon as they are measured.
async fn round_trip(conversation: &Conversation) -> f64 {
    let round_trip = until("the round trip is measured", 2 * SOON, async || {
        let figures = conversation.near.figures().await;
        (figures.round_trip_ms >= 0.0).then_some(figures.round_trip_ms)
    })
    .await;
    println!("the round trip takes {round_trip:.0} ms");
    round_trip
}

async fn relay(lab: &Lab, host: &Host, name: &str) -> Coturn {
    Coturn::start(lab, name, &host.namespace, &[host.address]).await
}

#[timely]
async fn the_nearer_relay_is_taken() {
    if !needs_root("the_nearer_relay_is_taken") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let far_away = Duration::from_millis(150);
    let far = internet.distant_host("far", far_away);
    let near = internet.distant_host("near", Duration::from_millis(5));
    let (far, near) = (relay(&lab, &far, "coturn-far").await, relay(&lab, &near, "coturn-near").await);
    let (_sites, phones) = with_relays(&lab, &internet, &exchange, &[&far, &near]).await;
    let conversation = Conversation::begin_after(&lab, &phones[0], ("bob", &phones[1]), 5.0).await;
    println!("{:?}", conversation.way().await);
    let round_trip = round_trip(&conversation).await;
    // By way of the far one each packet would cross its cable twice, and so would each answer.
    assert!(round_trip < 4.0 * far_away.as_millis() as f64, "{round_trip} ms");
    conversation.end_after(5.0).await.assert_both_heard("by the nearer relay");
    stop(phones).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn of_each_ones_relay_the_one_that_is_nearer_for_both_is_taken_whoever_calls() {
    if !needs_root("of_each_ones_relay_the_one_that_is_nearer_for_both_is_taken_whoever_calls") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let far = internet.distant_host("far", Duration::from_millis(150));
    let near = internet.distant_host("near", Duration::from_millis(5));
    let (far, near) = (relay(&lab, &far, "coturn-far").await, relay(&lab, &near, "coturn-near").await);
    let (_sites, phones) = each_with_relays(&lab, &internet, &exchange, [&[&far], &[&near]]).await;
    for (caller, callee, name) in [(0, 1, "bob"), (1, 0, "alice")] {
        let conversation =
            Conversation::begin_after(&lab, &phones[caller], (name, &phones[callee]), 5.0).await;
        println!("{:?}", conversation.way().await);
        let round_trip = round_trip(&conversation).await;
        // By the far one alone it would be 600 ms, and by both more.
        assert!(round_trip < 300.0, "{round_trip} ms");
        conversation.end_after(5.0).await.assert_both_heard("by the relay that is nearer for both");
    }
    stop(phones).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_goes_on_when_its_relay_is_gone() {
    if !needs_root("a_call_goes_on_when_its_relay_is_gone") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let second = internet.distant_host("second", Duration::from_millis(30));
    let first = internet.host("first");
    let (mut first, second) = (relay(&lab, &first, "coturn-1").await, relay(&lab, &second, "coturn-2").await);
    let (_sites, phones) = with_relays(&lab, &internet, &exchange, &[&first, &second]).await;
    let conversation = settled(&lab, &phones).await;
    loses_little(&conversation, "the relay is gone", async || first.cut()).await;
    conversation.near.hang_up().await;
    conversation.far.is("ended").await;
    stop(phones).await;
}

/// A telephone that has nothing but IPv6, alice's, and one that has both and uses IPv4 with the registrar, bob's.
async fn ipv6_alone(lab: &Lab, exchange: &Exchange, sites: &[Site; 2]) -> [Voipd; 2] {
    sites[0].remove_ipv4();
    let server = format!("registrar = \"sip:[{0}]\"\noutbound-proxy = \"sip:[{0}]\"", Internet::SERVER6);
    let account = |user: &str| {
        let account = exchange.registrar.account(user);
        account.replace(&format!("@{}", Internet::SERVER), "@voipd.test")
    };
    let alice = format!("{}\n{server}\nice = \"auto\"", account("alice"));
    let alice = phone(lab, "alice", &sites[0], alice).await;
    let server = format!("registrar = \"sip:{0}\"\noutbound-proxy = \"sip:{0}\"", Internet::SERVER);
    let stun = format!("stun = [\"stun:{}\"]", Internet::SERVER);
    let bob = phone(lab, "bob", &sites[1], format!("{}\n{server}\n{stun}", account("bob"))).await;
    [alice, bob]
}

#[timely]
async fn a_telephone_with_ipv6_alone_calls_and_is_called() {
    if !needs_root("a_telephone_with_ipv6_alone_calls_and_is_called") {
        return;
    }
    let lab = Lab::alone();
    let internet = Internet::new();
    let sites = [internet.site(CONE), internet.site(CONE)];
    internet.add_ipv6(&[&sites[0], &sites[1]]);
    let exchange = Exchange::start(&lab, &internet).await;
    let [alice, bob] = ipv6_alone(&lab, &exchange, &sites).await;
    let conversation = Conversation::begin(&lab, &alice, ("bob", &bob)).await;
    println!("{:?}", conversation.way().await);
    conversation.end().await.assert_both_heard("calling with IPv6 alone");
    let conversation = Conversation::begin(&lab, &bob, ("alice", &alice)).await;
    println!("{:?}", conversation.way().await);
    conversation.end().await.assert_both_heard("called with IPv6 alone");
    stop([alice, bob]).await;
}

/// How long after the last sign of consent something may still be sent (RFC 7675 section 5.1), and what it takes to
/// notice.
const CONSENT: Duration = Duration::from_secs(33);

/// Waits until nothing is sent any more, and says how long that took.
async fn falls_silent(call: &Call) -> Duration {
    let began = Instant::now();
    until("nothing is sent any more", 2 * CONSENT, async || {
        let before = call.figures().await.packets_sent;
        pause(0.5).await;
        (call.figures().await.packets_sent == before).then_some(())
    })
    .await;
    began.elapsed()
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn nothing_is_sent_to_who_has_vanished_and_the_call_finds_him_again() {
    if !needs_root("nothing_is_sent_to_who_has_vanished_and_the_call_finds_him_again") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let (sites, phones) = cones(&lab, &internet, &exchange).await;
    let conversation = settled(&lab, &phones).await;
    // By signalling he is there.
    sites[1].router().media_blackout(true);
    let silent = falls_silent(&conversation.near).await;
    println!("nothing is sent any more after {silent:?}");
    assert!(silent <= CONSENT, "consent is over, and still something is sent after {silent:?}");
    assert_eq!(conversation.near.state().await, "active");
    sites[1].router().media_blackout(false);
    hear_again(&conversation).await;
    conversation.far.hang_up().await;
    conversation.near.is("ended").await;
    stop(phones).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_with_who_has_vanished_altogether_ends_and_says_why() {
    if !needs_root("a_call_with_who_has_vanished_altogether_ends_and_says_why") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let (sites, phones) = cones(&lab, &internet, &exchange).await;
    let conversation = settled(&lab, &phones).await;
    sites[1].router().blackout(true);
    for call in [&conversation.near, &conversation.far] {
        call.is_within("ended", 3 * RECOVERY).await;
        assert_eq!(call.proxy.end_reason().await.unwrap(), "network");
    }
    stop(phones).await;
}

#[timely]
#[ignore = "takes long: make netlab"]
async fn a_call_goes_over_to_an_interface_that_came_in_mid_call_when_the_old_one_dies() {
    if !needs_root("a_call_goes_over_to_an_interface_that_came_in_mid_call_when_the_old_one_dies") {
        return;
    }
    let Scene { lab, internet, exchange } = Scene::set().await;
    let (sites, phones) = cones(&lab, &internet, &exchange).await;
    let mobile = sites[0].second_way(&internet, Nat::Cone);
    let conversation = settled(&lab, &phones).await;
    // Beside the old one it changes nothing for the ear.
    let before = counted(&conversation).await;
    mobile.appears(&sites[0]);
    pause(4.0).await;
    let after = counted(&conversation).await;
    for (before, after) in before.into_iter().zip(after) {
        let (sent, heard) = (after.0 - before.0, after.1 - before.1);
        assert!(sent <= heard + UNDER_WAY, "{} of {sent} packets are lost", sent - heard);
    }
    loses_little(&conversation, "the old interface is gone", async || {
        sites[0].client().ip("link set eth0 down\n");
    })
    .await;
    assert_eq!(conversation.way().await, ["srflx", "srflx"]);
    // His request has to find her where she is now.
    conversation.far.hang_up().await;
    conversation.near.is("ended").await;
    stop(phones).await;
}
