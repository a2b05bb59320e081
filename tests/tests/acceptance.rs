//! What a sceptical user tries with real daemons.

use std::net::Ipv4Addr;

use voipd_tests::{Config, Lab, Voipd, timely};

/// A telephone at the lab's address and at `[::1]`, for calls over IPv6.
fn dual(address: Ipv4Addr, port: u16) -> Config {
    Config::at(address)
        .line("sip", format!("listen = [\"{address}:5060\", \"[::1]:{port}\"]"))
        .line("direct", "allow-from = [\"127.0.0.0/8\", \"::1\"]")
}

#[timely]
async fn a_call_over_ipv6_can_be_called_back_and_ends_when_the_bus_is_lost() {
    let lab = Lab::alone();
    let alice = Voipd::start(&lab, "alice", dual(lab.address(), 20_961)).await;
    let mut bob = Voipd::start(&lab, "bob", dual(lab.address(), 20_962)).await;
    let call = alice.dial("sip:[::1]:20962").await;
    let answered = bob.incoming().await;
    let peer = answered.proxy.peer().await.unwrap();
    assert_eq!(peer, "sip:voipd@[::1]:20961");
    answered.accept().await;
    call.is("active").await;
    assert!(call.proxy.remote_media().await.unwrap().starts_with("[::1]:"));
    call.hang_up().await;
    answered.ended().await;

    let back = bob.dial(&peer).await;
    let callback = alice.incoming().await;
    callback.accept().await;
    back.is("active").await;
    bob.lose_bus();
    assert_eq!(callback.ended().await.0, "remote");
    assert!(!bob.wait().await.success());
}
