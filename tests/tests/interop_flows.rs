//! kamailio as a registrar that binds the flows of registrations (RFC 5626), with real sockets.

use std::time::Duration;

use voipd_tests::host::Wire;
use voipd_tests::kamailio::Kamailio;
use voipd_tests::voipd::Config;
use voipd_tests::{Lab, SOON, Voipd, needs_root};

/// Longer than two keep-alives at the registrar's patience of 10 s, and the 10 s that an answer may take.
const NOTICED: Duration = Duration::from_secs(40);

/// Over addresses that are not loopback, where nothing is kept open.
#[tokio::test]
async fn a_registrar_that_dies_is_missed_in_seconds_and_found_again() {
    if needs_root("a_registrar_that_dies_is_missed_in_seconds_and_found_again") {
        return;
    }
    let lab = Lab::shared();
    let (one, other) = (Wire::new(), Wire::new());
    let mut registrar = Kamailio::start_with_flows(&lab, one.here).await;
    let config = Config::at(other.here).account(format!("{}\nexpires = 3600", registrar.account("alice")));
    let phone = Voipd::start(&lab, "voipd", config).await;
    phone.account_is("alice", "registered", SOON).await;
    // Nobody sends anything but keep-alives, and the binding lasts for an hour.
    registrar.crash();
    let account = phone.account("alice").await;
    voipd_tests::until("the account misses its registrar", NOTICED, async || {
        (account.state().await.unwrap() != "registered").then_some(())
    })
    .await;
    registrar.revive().await;
    account.register().await.unwrap();
    phone.account_is("alice", "registered", SOON).await;
    let log = registrar.log();
    assert!(log.contains("reg-id=1"), "the binding is no flow's:\n{log}");
    phone.stop().await;
}
