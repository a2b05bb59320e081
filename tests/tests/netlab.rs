//! Two telephones that are reached through NAT, in a laboratory of network namespaces.

use std::time::Instant;

use voipd_tests::kamailio::Kamailio;
use voipd_tests::netlab::{Internet, Kind, Nat, Site};
use voipd_tests::{Config, Lab, SOON, Voipd, needs_root};

/// A telephone of one of the registrar's users at a site.
async fn phone(lab: &Lab, registrar: &Kamailio, user: &str, site: &Site) -> Voipd {
    let config = Config::on(site.client(), site.address).account(registrar.account(user));
    Voipd::start(lab, user, config).await
}

#[tokio::test]
async fn two_telephones_behind_nat_register_and_are_called() {
    if !needs_root("two_telephones_behind_nat_register_and_are_called") {
        return;
    }
    let lab = Lab::alone();
    let begun = Instant::now();
    let internet = Internet::new();
    let sites = [internet.site(Kind::Behind(Nat::Cone)), internet.site(Kind::TwoNats)];
    println!("the laboratory took {:?}", begun.elapsed());
    let registrar = Kamailio::start_on(&lab, internet.core(), Internet::SERVER).await;
    let alice = phone(&lab, &registrar, "alice", &sites[0]).await;
    let bob = phone(&lab, &registrar, "bob", &sites[1]).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let call = alice.dial("bob").await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    answered.is("active").await;
    answered.hang_up().await;
    assert_eq!(call.ended().await.0, "remote");
    alice.stop().await;
    bob.stop().await;
}
