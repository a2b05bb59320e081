//! Authentication and registration extensions with real peers: chains of servers, weak digests, bodies covered, GRUUs.

use voipd_dbus::DialOptions;
use voipd_tests::gate::Gate;
use voipd_tests::kamailio::{Digest, Kamailio};
use voipd_tests::sipp::{Script, Sipp, pcmu};
use voipd_tests::{Config, Lab, SOON, Voipd};

async fn phone(lab: &Lab, user: &str, account: String) -> Voipd {
    Voipd::start(lab, user, Config::at(lab.address()).account(account)).await
}

/// A call from alice to bob, answered, held and ended: requests of both sides find their way, in and out of dialogs.
async fn a_call_goes_through(alice: &Voipd, bob: &Voipd) {
    let options = DialOptions { account: Some("alice".into()), ..DialOptions::default() };
    let call = alice.dial_with("bob", options).await;
    let answered = bob.incoming().await;
    answered.accept().await;
    call.is("active").await;
    answered.is("active").await;
    answered.hold().await;
    call.is("held").await;
    answered.resume().await;
    call.is("active").await;
    call.hang_up().await;
    assert_eq!(answered.ended().await.0, "remote");
}

#[tokio::test]
async fn registration_and_calls_go_through_a_chain_of_servers_that_all_want_the_password() {
    let lab = Lab::shared();
    let gate = Gate::start(&lab).await;
    let alice = phone(&lab, "alice", gate.account("alice")).await;
    let bob = phone(&lab, "bob", gate.account("bob")).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let account = alice.account("alice").await;
    assert_eq!(account.digest_algorithm().await.unwrap(), "MD5", "the weakest of the two");
    assert_eq!(account.service_route().await.unwrap(), [format!("sip:{};lr", gate.edge)]);
    assert_eq!(account.associated_addresses().await.unwrap(), ["sip:alice@home.test"]);
    assert_eq!(account.public_gruu().await.unwrap(), "", "none was asked for");
    a_call_goes_through(&alice, &bob).await;
    let (edge, home) = (gate.edge_log(), gate.home_log());
    for (log, line) in [
        (&edge, "PASSED REGISTER of alice with Digest username=\"alice\", realm=\"edge.test\""),
        (&edge, "PASSED INVITE of alice with Digest username=\"alice\", realm=\"edge.test\""),
        (&home, "REGISTERED alice path <sip:"),
        (&home, "PASSED INVITE of alice with Digest username=\"alice\", realm=\"home.test\""),
    ] {
        assert!(log.contains(line), "{line} is not in:\n{log}");
    }
    assert!(edge.contains("algorithm=SHA-256") && home.contains("algorithm=MD5"));
    // The home server's proof of the password was right, or nobody would be registered.
    assert!(
        edge.lines().any(|line| line.contains("PROOF 200 REGISTER") && line.contains("rspauth=")),
        "{edge}"
    );
    let weak = alice.log().matches("which is weak").count();
    assert_eq!(weak, 1, "it is noted once:\n{}", alice.log());
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn gruus_are_the_contacts_of_calls_where_the_server_routes_them() {
    let lab = Lab::shared();
    let gate = Gate::start(&lab).await;
    let with_gruu = |user| format!("{}\ngruu = true", gate.account(user));
    let mut alice = phone(&lab, "alice", with_gruu("alice")).await;
    let bob = phone(&lab, "bob", with_gruu("bob")).await;
    alice.account_is("alice", "registered", SOON).await;
    bob.account_is("bob", "registered", SOON).await;
    let gruu = alice.account("alice").await.public_gruu().await.unwrap();
    let start = format!("sip:alice@{};gr=urn:uuid:", gate.home);
    assert!(gruu.starts_with(&start), "{gruu}");
    a_call_goes_through(&alice, &bob).await;
    assert!(bob.log().contains(&gruu), "bob sent nothing to alice's GRUU:\n{}", bob.log());
    // It names the device, and so outlives the daemon.
    alice.restart().await;
    alice.account_is("alice", "registered", SOON).await;
    assert_eq!(alice.account("alice").await.public_gruu().await.unwrap(), gruu);
    alice.stop().await;
    bob.stop().await;
}

/// kamailio cannot check `auth-int` (5.6 hashes no body, and says so in its source); SIPp can.
#[tokio::test]
async fn bodies_are_covered_where_the_server_asks_for_it() {
    let lab = Lab::shared();
    let address = lab.address();
    let account = format!(
        "name = \"desk\"\naddress = \"sip:alice@{address}\"\npassword = \"secret\"\nregister = false"
    );
    let phone = phone(&lab, "phone", account).await;
    let header = format!(
        "WWW-Authenticate: Digest realm=\"{address}\", nonce=\"abc\", algorithm=MD5, qop=\"auth-int\"\n"
    );
    let verify = "<recv request=\"INVITE\"><action>\
         <ereg regexp=\"qop=auth-int\" search_in=\"msg\" check_it=\"true\" assign_to=\"covered\"/>\
         <verifyauth assign_to=\"right\" username=\"alice\" password=\"secret\"/>\
         </action></recv><Reference variables=\"covered\"/>\
         <nop next=\"1\" test=\"right\"/>";
    let script = Script::callee()
        .invited()
        .reply_with("401 Unauthorized", &header, "")
        .receive("ACK")
        .step(verify)
        .reply("403 Forbidden")
        .receive("ACK")
        .step("<label id=\"1\"/>")
        .answer(&pcmu(&[]))
        .receive("ACK")
        .hung_up();
    let peer = Sipp::callee_at(&lab, address, script, &[]).await;
    let options = DialOptions { account: Some("desk".into()), ..DialOptions::default() };
    let call = phone.dial_with("bob", options).await;
    call.is("active").await;
    call.hang_up().await;
    peer.succeeds().await;
    phone.stop().await;
}

#[tokio::test]
async fn md5_is_shown_and_can_be_refused() {
    let lab = Lab::shared();
    let weak = Kamailio::start(&lab, Digest::Md5).await;
    let lax = phone(&lab, "lax", weak.account("alice")).await;
    lax.account_is("alice", "registered", SOON).await;
    let account = lax.account("alice").await;
    assert!(account.allow_md5().await.unwrap());
    assert_eq!(account.digest_algorithm().await.unwrap(), "MD5");
    let strict = format!("{}\nallow-md5 = false", weak.account("bob"));
    let strict = phone(&lab, "strict", strict).await;
    strict.account_is("bob", "failed", SOON).await;
    let account = strict.account("bob").await;
    assert_eq!(account.reason().await.unwrap(), "weak-digest");
    assert_eq!((account.sip_status().await.unwrap(), account.retry_in().await.unwrap()), (401, 0));
    assert_eq!(account.digest_algorithm().await.unwrap(), "");
    assert!(!weak.log().contains("REGISTERED bob"));
    lax.stop().await;
    strict.stop().await;
}

#[tokio::test]
async fn a_server_that_knows_better_than_md5_is_served_where_md5_is_refused() {
    let lab = Lab::shared();
    let registrar = Kamailio::start(&lab, Digest::Sha256).await;
    let strict = phone(&lab, "strict", format!("{}\nallow-md5 = false", registrar.account("alice"))).await;
    strict.account_is("alice", "registered", SOON).await;
    assert_eq!(strict.account("alice").await.digest_algorithm().await.unwrap(), "SHA-256");
    assert!(!strict.log().contains("which is weak"), "{}", strict.log());
    strict.stop().await;
}
