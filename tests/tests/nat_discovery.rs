//! Discovery against a real STUN server: coturn with two addresses on loopback.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use voipd_tests::process::{Process, program};
use voipd_tests::{Config, Lab, SOON, Voipctl, Voipd, until};

const PORT: u16 = 3478;
/// What coturn calls its other port.
const OTHER_PORT: u16 = 3479;

/// A STUN server, which ends with the value; with two addresses it knows RFC 5780.
async fn stun_server(lab: &Lab, addresses: &[Ipv4Addr]) -> Process {
    let directory = lab.directory("coturn");
    let mut command = program("turnserver");
    command.args(["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"]);
    command.args(["--log-file=stdout", "--simple-log"]);
    command.arg(format!("--listening-port={PORT}")).arg(format!("--alt-listening-port={OTHER_PORT}"));
    command.arg(format!("--userdb={}", directory.join("turndb").display()));
    command.arg(format!("--pidfile={}", directory.join("pid").display()));
    command.args(addresses.iter().map(|address| format!("--listening-ip={address}")));
    let mut process = Process::start("coturn", command, &directory.join("log"));
    until("coturn listens", SOON, async || {
        assert!(process.ended().is_none(), "coturn does not start:\n{}", process.output());
        addresses.iter().all(|address| listens(*address)).then_some(())
    })
    .await;
    process
}

fn listens(address: Ipv4Addr) -> bool {
    let wanted = format!("{:08X}:{PORT:04X}", u32::from(address).swap_bytes());
    std::fs::read_to_string("/proc/net/udp").unwrap().contains(&wanted)
}

/// What `voipctl nat` says, as soon as it is as wanted.
async fn nat_is(voipd: &Voipd, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, Duration::from_secs(30), async || {
        let nat = Voipctl::start(voipd.voipctl(&["nat", "--json"])).ends().await.json();
        wanted(&nat).then_some(nat)
    })
    .await
}

#[tokio::test]
async fn a_server_with_two_addresses_tells_address_mapping_and_filtering() {
    let lab = Lab::shared();
    let [first, second] = [lab.address(), lab.address()];
    let _server = stun_server(&lab, &[first, second]).await;
    let config = Config::at(lab.address()).line("nat", format!("stun = [\"stun:{first}\"]"));
    let phone = Voipd::start(&lab, "phone", config).await;
    let nat = nat_is(&phone, "the filter is known", |nat| nat["filtering_behaviour"] != "unknown").await;
    assert_eq!((&nat["state"], &nat["reason"]), (&"known".into(), &"".into()));
    assert_eq!((&nat["mapping_behaviour"], &nat["filtering_behaviour"]), (&"none".into(), &"none".into()));
    assert_eq!(nat["public_addresses"], serde_json::json!(["127.0.0.1"]));
    let [path] = nat["paths"].as_array().unwrap().as_slice() else { panic!("{nat}") };
    assert_eq!((&path["local"], &path["ports"]), (&"127.0.0.1".into(), &"preserved".into()));
    let [server] = nat["servers"].as_array().unwrap().as_slice() else { panic!("{nat}") };
    assert_eq!((&server["name"], &server["state"]), (&format!("stun:{first}").into(), &"works".into()));
    assert_eq!(server["address"], format!("{first}:{PORT}"));
    assert!(server["rtt_ms"].as_f64() > Some(0.0), "{server}");
    assert!(phone.ctl(&["nat"]).starts_with("There is no NAT. Public: 127.0.0.1\n"));
    phone.stop().await;
}

#[tokio::test]
async fn a_server_that_comes_later_is_found_when_it_is_looked_for() {
    let lab = Lab::shared();
    let address = lab.address();
    let config = Config::at(lab.address()).account(format!(
        "name = \"work\"\naddress = \"sip:a@{address}\"\nregister = false\nstun = [\"stun:{address}\"]"
    ));
    let phone = Voipd::start(&lab, "phone", config).await;
    let nat = nat_is(&phone, "the server is not there", |nat| nat["state"] == "failed").await;
    assert_eq!(nat["servers"][0]["source"], "account:work");
    let reason = nat["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("stun:{address} nothing listens there")), "{reason}");
    assert!(phone.ctl(&["nat"]).contains("The public address is not known: stun:"));

    let _server = stun_server(&lab, &[address]).await;
    let found = Voipctl::start(phone.voipctl(&["nat", "discover", "--json"])).ends().await;
    found.well();
    let nat = found.json();
    assert_eq!((&nat["state"], &nat["mapping_behaviour"]), (&"known".into(), &"none".into()));
    assert_eq!(nat["filtering_behaviour"], "unknown", "one address cannot tell");
    phone.stop().await;
}

#[tokio::test]
async fn without_servers_nobody_is_asked_and_the_state_says_what_to_do() {
    let lab = Lab::shared();
    let phone = Voipd::start(&lab, "phone", Config::at(lab.address())).await;
    let nat = nat_is(&phone, "nobody is asked", |nat| nat["state"] == "unknown").await;
    assert_eq!((&nat["servers"], &nat["public_addresses"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    assert!(nat["reason"].as_str().unwrap().contains("name one as stun under [nat]"), "{nat}");
    phone.stop().await;
}
