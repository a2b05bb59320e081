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

#[tokio::test]
async fn neighbours_are_found_called_by_name_and_gone_when_they_stop() {
    if !needs_root("neighbours_are_found_called_by_name_and_gone_when_they_stop") {
        return;
    }
    let lab = Lab::shared();
    let network = Internet::new();
    let [hall, kitchen, other] = ["hall", "kitchen", "other"].map(|role| network.host(role));
    let on = |host: &voipd_tests::netlab::Host| {
        Config::on(&host.namespace, host.address).line("direct", "allow-from = [\"12.34.56.0/24\"]")
    };
    let hall = Voipd::start(&lab, "hall", on(&hall).line("direct", "neighbours = true")).await;
    let kitchen_address = kitchen.address;
    let kitchen = Voipd::start(&lab, "kitchen", on(&kitchen).line("direct", "announce = \"kitchen\"")).await;
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
    second.stop().await;
    knows(&hall, &["kitchen"]).await;
    kitchen.stop().await;
    knows(&hall, &[]).await;
}
