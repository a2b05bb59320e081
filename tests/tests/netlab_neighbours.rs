//! Two telephones on one network find each other by multicast DNS and call each other by name.

use voipd_tests::netlab::Internet;
use voipd_tests::voipd::{Config, Voipd};
use voipd_tests::{Lab, SOON, needs_root, until};

async fn names(phone: &Voipd) -> Vec<String> {
    let neighbours = phone.manager().await.neighbours().await.unwrap();
    neighbours.iter().map(|neighbour| neighbour["name"].to_string().trim_matches('"').to_owned()).collect()
}

async fn knows(phone: &Voipd, wanted: &[&str]) {
    until(&format!("the neighbours are {wanted:?}"), SOON, async || {
        (names(phone).await == wanted).then_some(())
    })
    .await;
}

/// What the doctor says of the neighbours.
#[track_caller]
fn doctor(phone: &Voipd, state: &str, words: &str) {
    let output = phone.voipctl(&["doctor", "--json"]).output().unwrap();
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = diagnosis["checks"].as_array().unwrap().iter().find(|check| check["id"] == "neighbours");
    let check = check.expect("the neighbours are looked at");
    assert_eq!(check["state"], state, "{check:#}");
    assert!(check["sentence"].as_str().unwrap().contains(words), "{check:#}");
}

#[tokio::test]
async fn who_announces_itself_may_know_nobody() {
    if !needs_root("who_announces_itself_may_know_nobody") {
        return;
    }
    let lab = Lab::shared();
    let network = Internet::new();
    let [hall, quiet, kitchen] = ["hall", "quiet", "kitchen"].map(|role| network.host(role));
    let on = |host: &voipd_tests::netlab::Host| Config::on(&host.namespace, host.address);
    let hall = Voipd::start(&lab, "hall", on(&hall).line("direct", "announce = \"hall\"")).await;
    let alone = on(&quiet).line("direct", "announce = \"quiet\"").line("direct", "neighbours = false");
    let quiet = Voipd::start(&lab, "quiet", alone).await;
    knows(&hall, &["quiet"]).await;
    let kitchen = Voipd::start(&lab, "kitchen", on(&kitchen).line("direct", "announce = \"kitchen\"")).await;
    knows(&hall, &["kitchen", "quiet"]).await;
    knows(&kitchen, &["hall", "quiet"]).await;
    assert_eq!(names(&quiet).await, Vec::<String>::new());
}

#[tokio::test]
async fn neighbours_are_found_called_by_name_and_gone_when_they_stop() {
    if !needs_root("neighbours_are_found_called_by_name_and_gone_when_they_stop") {
        return;
    }
    let lab = Lab::shared();
    let network = Internet::new();
    let [hall, kitchen_host, other] = ["hall", "kitchen", "other"].map(|role| network.host(role));
    let on = |host: &voipd_tests::netlab::Host| {
        Config::on(&host.namespace, host.address).line("direct", "allow-from = [\"12.34.56.0/24\"]")
    };
    let hall = Voipd::start(&lab, "hall", on(&hall).line("direct", "neighbours = true")).await;
    let kitchen_address = kitchen_host.address;
    let kitchen =
        Voipd::start(&lab, "kitchen", on(&kitchen_host).line("direct", "announce = \"kitchen\"")).await;
    knows(&hall, &["kitchen"]).await;
    assert_eq!(names(&kitchen).await, Vec::<String>::new(), "the hall only listens");
    let shown = hall.ctl(&["neighbours"]);
    assert!(shown.contains(&format!("{kitchen_address}:5060")), "{shown}");
    let call = hall.dial("kitchen").await;
    let incoming = kitchen.incoming().await;
    incoming.accept().await;
    call.is("active").await;
    call.hang_up().await;

    // Another one of that name is renamed, not mistaken for the first.
    let second = Voipd::start(&lab, "second", on(&other).line("direct", "announce = \"kitchen\"")).await;
    knows(&hall, &["kitchen", "kitchen (2)"]).await;
    doctor(&hall, "ok", "are looked for: 2 other telephones are known");
    doctor(&kitchen, "ok", "announced to the local network as 'kitchen'");
    doctor(&second, "warning", "is called 'kitchen': this one is 'kitchen (2)' there");
    kitchen_host.namespace.nft(
        "table inet firewall {\nchain input {\ntype filter hook input priority 0\nudp dport 5353 drop\n}\n}\n",
    );
    doctor(&kitchen, "failed", &format!("nothing answers multicast DNS on the network of {kitchen_address}"));
    kitchen_host.namespace.nft("delete table inet firewall\n");
    doctor(&kitchen, "ok", "as 'kitchen'");
    second.stop().await;
    knows(&hall, &["kitchen"]).await;
    kitchen.stop().await;
    knows(&hall, &[]).await;
}
