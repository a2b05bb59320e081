//! Ports mapped at a real router: by each protocol alone and by all of them, for whoever asks and for calls.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::time::Duration;

use voipd_tests::netlab::{Coturn, Internet, Kind, Miniupnpd, Namespace, Nat, Protocol, Router, Site};
use voipd_tests::process::run;
use voipd_tests::voipd::{Config, Voipd};
use voipd_tests::{Lab, SOON, needs_root, pause, until};

const ALL: [Protocol; 3] = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp];
const CONE: Kind = Kind::Behind(Nat::Cone);
/// How long it is waited for a datagram that must not come.
const SILENCE: Duration = Duration::from_millis(150);

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Upnp => "upnp",
        Protocol::NatPmp => "nat-pmp",
        Protocol::Pcp => "pcp",
    }
}

fn socket(host: &Namespace, address: Ipv4Addr, port: u16) -> UdpSocket {
    host.inside(|| UdpSocket::bind((address, port)).unwrap())
}

/// What comes in at the router's public side: external port and where it goes.
fn rules(router: &Router) -> Vec<String> {
    let listing =
        run(router.namespace().program("nft").args(["list", "chain", "inet", "mappings", "inbound_ports"]));
    listing.lines().filter(|line| line.contains("dnat")).map(|line| line.trim().to_owned()).collect()
}

async fn no_rules_left(router: &Router) {
    until("the router has no mapping any more", SOON, async || rules(router).is_empty().then_some(())).await;
}

/// A voipd behind a router.
async fn phone(lab: &Lab, name: &str, site: &Site) -> Voipd {
    // Nobody outside may call it directly, so that the port of SIP stays closed.
    let config = Config::on(site.client(), site.address).line("direct", "allow-from = [\"192.168.0.0/16\"]");
    Voipd::start(lab, name, config).await
}

/// A datagram of a stranger's to a public port: does it come in?
fn comes_in(internet: &Internet, inside: &UdpSocket, at: SocketAddrV4, expected: bool) {
    let stranger = socket(internet.core(), Internet::SECOND, 0);
    stranger.send_to(b"hello", at).unwrap();
    inside.set_read_timeout(Some(if expected { SOON } else { SILENCE })).unwrap();
    let mut buffer = [0; 64];
    let received = inside.recv_from(&mut buffer);
    assert_eq!(received.is_ok(), expected, "{received:?} at {at}");
}

#[tokio::test]
async fn each_protocol_alone_opens_a_port_and_closes_it() {
    if !needs_root("each_protocol_alone_opens_a_port_and_closes_it") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    for protocol in ALL {
        let site = internet.site(CONE);
        let service = Miniupnpd::start(&lab, site.router(), &[protocol]).await;
        let phone = phone(&lab, word(protocol), &site).await;
        let inside = socket(site.client(), site.address, 4000);
        let at = SocketAddrV4::new(site.public_address(), 41_000);
        comes_in(&internet, &inside, at, false);
        let said = phone.ctl(&["nat", "add", "udp", "4000", "--external", "41000"]);
        let id = said.strip_prefix("mapping ").and_then(|rest| rest.split(':').next()).expect("a number");
        assert_eq!(
            said.trim(),
            format!("mapping {id}: udp port 4000 is reached at {at} ({})", word(protocol))
        );
        comes_in(&internet, &inside, at, true);
        let shown = phone.ctl(&["nat"]);
        let row = shown.lines().find(|line| line.contains(&at.to_string())).expect("it is listed");
        assert!(row.contains("user") && row.contains(word(protocol)) && row.contains(" in "), "{row}");
        phone.ctl(&["nat", "add", "tcp", "4001"]);
        assert_eq!(rules(site.router()).len(), 2, "{}", service.log());
        phone.ctl(&["nat", "remove", id]);
        until("the first mapping is gone", SOON, async || (rules(site.router()).len() == 1).then_some(()))
            .await;
        comes_in(&internet, &inside, at, false);
        phone.stop().await;
        assert_eq!(rules(site.router()), Vec::<String>::new(), "a stop removes all");
    }
}

#[tokio::test]
async fn all_protocols_at_once_make_one_mapping() {
    if !needs_root("all_protocols_at_once_make_one_mapping") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let service = Miniupnpd::start(&lab, site.router(), &ALL).await;
    let phone = phone(&lab, "phone", &site).await;
    let inside = socket(site.client(), site.address, 4000);
    let said = phone.ctl(&["nat", "add", "udp", "4000", "--external", "41000"]);
    // The slowest protocol has had its say when a second mapping was made and removed.
    phone.ctl(&["nat", "add", "udp", "4002"]);
    let at = SocketAddrV4::new(site.public_address(), 41_000);
    comes_in(&internet, &inside, at, true);
    assert_eq!(rules(site.router()).len(), 2, "{said}{}", service.log());
    phone.stop().await;
    no_rules_left(site.router()).await;
}

#[tokio::test]
async fn a_call_outwards_is_mapped_until_it_ends_is_stopped_or_crashes() {
    if !needs_root("a_call_outwards_is_mapped_until_it_ends_is_stopped_or_crashes") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let _service = Miniupnpd::start(&lab, site.router(), &ALL).await;
    let host = internet.host("peer");
    let echo = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"0.0.0.0/0\"]";
    let peer = Voipd::start(&lab, "peer", Config::on(&host.namespace, host.address).account(echo)).await;
    let mut phone = phone(&lab, "phone", &site).await;
    let target = format!("sip:echo@{}", host.address);

    let call = phone.dial(&target).await;
    call.is("active").await;
    assert_eq!(rules(site.router()).len(), 2, "RTP and RTCP");
    let path = peer.manager().await.calls().await.unwrap().pop().expect("the peer has the call");
    let heard = voipd_dbus::CallProxy::builder(&peer.connection).path(path).build().await.unwrap();
    let media = heard.remote_media().await.unwrap();
    let mapped = phone.ctl(&["nat"]);
    assert!(media.starts_with(&format!("{}:", site.public_address())), "{media}\n{mapped}");
    assert!(mapped.contains(&media) && mapped.contains("rtp of call"), "{media}\n{mapped}");
    until("sound comes back", SOON, async || (call.figures().await.packets_received > 10).then_some(()))
        .await;
    call.hang_up().await;
    no_rules_left(site.router()).await;

    let call = phone.dial(&target).await;
    call.is("active").await;
    assert_eq!(rules(site.router()).len(), 2);
    phone.restart().await;
    assert_eq!(rules(site.router()), Vec::<String>::new(), "a stop in mid-call");

    let call = phone.dial(&target).await;
    call.is("active").await;
    for mapping in phone.nat().await.mappings().await.unwrap() {
        let expires = u64::try_from(&mapping["expires"]).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(
            (1..=600).contains(&(expires.saturating_sub(now))),
            "a crash leaves it for ten minutes at most"
        );
    }
    phone.cut();
    assert_eq!(rules(site.router()).len(), 2, "nobody could remove them");
}

#[tokio::test]
async fn a_call_that_moves_to_another_address_has_its_new_sockets_mapped() {
    if !needs_root("a_call_that_moves_to_another_address_has_its_new_sockets_mapped") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let _service = Miniupnpd::start(&lab, site.router(), &ALL).await;
    let host = internet.host("peer");
    let echo = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"0.0.0.0/0\"]";
    let _peer = Voipd::start(&lab, "peer", Config::on(&host.namespace, host.address).account(echo)).await;
    let phone = phone(&lab, "phone", &site).await;
    let call = phone.dial(&format!("sip:echo@{}", host.address)).await;
    call.is("active").await;
    assert_eq!(rules(site.router()).len(), 2, "RTP and RTCP");

    let [a, b, c, _] = site.address.octets();
    let address = Ipv4Addr::new(a, b, c, 77);
    site.client().ip(&format!(
        "address del {}/24 dev eth0\naddress add {address}/24 dev eth0\nroute add default via {}\n",
        site.address,
        site.router().gateway()
    ));
    // What leads to the address of before ends with its lease.
    let mapped = || -> Vec<u16> {
        let to = format!("{address}:");
        let rules = rules(site.router());
        let places =
            rules.iter().filter_map(|rule| rule.split_whitespace().find_map(|word| word.strip_prefix(&to)));
        places.map(|port| port.parse().unwrap()).collect()
    };
    // Nobody else on that machine can have a port that the call has.
    let taken = |port: &u16| site.client().inside(|| UdpSocket::bind((address, *port)).is_err());
    until("the ports that the call has now are mapped, and no others", SOON, async || {
        let ports = mapped();
        (ports.len() == 2 && ports.iter().all(taken)).then_some(())
    })
    .await;
    let before = call.figures().await.packets_received;
    until("sound comes back", SOON, async || {
        (call.figures().await.packets_received > before + 20).then_some(())
    })
    .await;
    call.hang_up().await;
    until("they are mapped no more", SOON, async || mapped().is_empty().then_some(())).await;
    phone.stop().await;
}

#[tokio::test]
async fn a_call_within_the_local_network_is_not_mapped() {
    if !needs_root("a_call_within_the_local_network_is_not_mapped") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let _service = Miniupnpd::start(&lab, site.router(), &ALL).await;
    let phone = phone(&lab, "phone", &site).await;
    let neighbour = socket(site.router().namespace(), site.router().gateway(), 5060);
    let call = phone.dial(&format!("sip:neighbour@{}", site.router().gateway())).await;
    neighbour.set_read_timeout(Some(SOON)).unwrap();
    let mut buffer = [0; 4000];
    let (length, _) = neighbour.recv_from(&mut buffer).unwrap();
    let invite = String::from_utf8_lossy(&buffer[..length]);
    assert!(invite.contains(&format!("c=IN IP4 {}\r\n", site.address)), "{invite}");
    assert_eq!(rules(site.router()), Vec::<String>::new());
    drop(call);
}

#[tokio::test]
async fn a_router_that_starts_anew_is_told_again() {
    if !needs_root("a_router_that_starts_anew_is_told_again") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let service = Miniupnpd::start(&lab, site.router(), &[Protocol::Pcp]).await;
    let phone = phone(&lab, "phone", &site).await;
    phone.ctl(&["nat", "add", "udp", "4000"]);
    // An epoch may be two seconds off (RFC 6887 section 8.5): one that was younger would not show the restart.
    pause(4.0).await;
    phone.ctl(&["nat", "add", "udp", "4001"]);
    drop(service);
    site.router()
        .namespace()
        .nft("flush chain inet mappings inbound_ports\nflush chain inet nat forward_ports\n");
    assert_eq!(rules(site.router()), Vec::<String>::new());
    let _service = Miniupnpd::start(&lab, site.router(), &[Protocol::Pcp]).await;
    // The first answer to anything shows by its epoch that all was forgotten.
    phone.ctl(&["nat", "add", "udp", "4002"]);
    until("all three are there", SOON, async || (rules(site.router()).len() == 3).then_some(())).await;
}

#[tokio::test]
async fn a_router_behind_a_carriers_nat_is_of_no_use_and_delays_no_call() {
    if !needs_root("a_router_behind_a_carriers_nat_is_of_no_use_and_delays_no_call") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(Kind::TwoNats);
    let _service = Miniupnpd::start(&lab, site.router(), &ALL).await;
    let host = internet.host("peer");
    let echo = "name = \"echo\"\nkind = \"echo\"\nallow-from = [\"0.0.0.0/0\"]";
    let _peer = Voipd::start(&lab, "peer", Config::on(&host.namespace, host.address).account(echo)).await;
    let phone = phone(&lab, "phone", &site).await;
    let refused = phone.voipctl(&["nat", "add", "udp", "4000"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    println!("{said}");
    let call = phone.dial(&format!("sip:echo@{}", host.address)).await;
    call.is("active").await;
    assert_eq!(rules(site.router()), Vec::<String>::new());
}

#[tokio::test]
async fn a_router_of_upnp_that_has_no_public_address_is_told_from_one_that_talks_nonsense() {
    if !needs_root("a_router_of_upnp_that_has_no_public_address_is_told_from_one_that_talks_nonsense") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(Kind::TwoRouters);
    let _service = Miniupnpd::start(&lab, site.router(), &[Protocol::Upnp]).await;
    let phone = phone(&lab, "phone", &site).await;
    says(&phone, "router", "warning", "it is behind another router");
}

#[tokio::test]
async fn sip_is_mapped_where_strangers_outside_may_call_and_leads_to_the_telephone() {
    if !needs_root("sip_is_mapped_where_strangers_outside_may_call_and_leads_to_the_telephone") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let _service = Miniupnpd::start(&lab, site.router(), &[Protocol::NatPmp]).await;
    let config = Config::on(site.client(), site.address).line("direct", "allow-from = [\"0.0.0.0/0\"]");
    let phone = Voipd::start(&lab, "phone", config).await;
    until("UDP and TCP are mapped", SOON, async || (rules(site.router()).len() == 2).then_some(())).await;
    let host = internet.host("caller");
    let caller = Voipd::start(&lab, "caller", Config::on(&host.namespace, host.address)).await;
    let call = caller.dial(&format!("sip:phone@{}", site.public_address())).await;
    let incoming = phone.incoming().await;
    incoming.accept().await;
    call.is("active").await;
    assert_eq!(rules(site.router()).len(), 4, "the media ports too");
    call.hang_up().await;
    until("those of the call are gone", SOON, async || (rules(site.router()).len() == 2).then_some(())).await;
    phone.stop().await;
    no_rules_left(site.router()).await;
}

/// What the doctor says of one thing: its state, and its sentence.
fn doctor(phone: &Voipd, id: &str) -> (String, String) {
    let output = phone.voipctl(&["doctor", "--json"]).output().unwrap();
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = diagnosis["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == id);
    let check = check.unwrap_or_else(|| panic!("no {id} in {diagnosis:#}"));
    let text = |key: &str| check[key].as_str().unwrap().to_owned();
    assert_eq!(
        text("state") == "warning" || text("state") == "failed",
        !text("remedy").is_empty(),
        "{check:#}"
    );
    // A warning is told by the exit code, too.
    let failed = diagnosis["failed"].as_u64() != Some(0);
    let warned = diagnosis["warnings"].as_u64() != Some(0);
    let code = if failed {
        7
    } else if warned {
        6
    } else {
        0
    };
    assert_eq!(output.status.code(), Some(code), "{diagnosis:#}");
    (text("state"), text("sentence"))
}

#[track_caller]
fn says(phone: &Voipd, id: &str, state: &str, words: &str) {
    let (found, sentence) = doctor(phone, id);
    println!("{found}: {sentence}");
    assert_eq!(found, state, "{sentence}");
    assert!(sentence.contains(words), "{sentence}");
}

#[tokio::test]
async fn the_doctor_knows_what_the_router_opens() {
    if !needs_root("the_doctor_knows_what_the_router_opens") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let config = Config::on(site.client(), site.address)
        .line("nat", format!("stun = [\"stun:{}\"]", Internet::SERVER))
        .line("direct", "allow-from = [\"192.168.0.0/16\"]");
    let _stun = Coturn::start(&lab, "coturn", internet.core(), &[Internet::SERVER, Internet::SECOND]).await;
    let phone = Voipd::start(&lab, "phone", config).await;
    let public = site.public_address();
    // A cone lets calls through without any help.
    until("the NAT is known", SOON, async || {
        doctor(&phone, "nat").1.contains("direct calls get through").then_some(())
    })
    .await;
    says(&phone, "router", "ok", "answers neither PCP nor NAT-PMP nor UPnP; calls find their way without");

    let service = Miniupnpd::start(&lab, site.router(), &[Protocol::Upnp, Protocol::NatPmp]).await;
    says(
        &phone,
        "router",
        "ok",
        &format!("opens ports by UPnP and NAT-PMP; its address outside is {public}, as"),
    );
    says(&phone, "mappings", "ok", "no port has to be open now");
    phone.ctl(&["nat", "add", "udp", "4000", "--external", "41000"]);
    says(&phone, "mappings", "ok", &format!("UDP port 4000 at {public}:41000 ("));
    phone.ctl(&["nat", "remove", "1"]);
    drop(service);

    let service =
        Miniupnpd::start_with(&lab, site.router(), &[Protocol::NatPmp], "ext_ip=12.99.99.99\n").await;
    says(&phone, "router", "warning", &format!("outside is 12.99.99.99, but servers see {public}"));
    drop(service);
    phone.stop().await;
}

/// A router that tells by NAT-PMP (RFC 6886 section 3.2) which address it has outside, whichever that is: miniupnpd says
/// nothing where it is no public one.
/// It ends with what is answered.
#[must_use]
fn tells_its_address(router: &Router) -> Sender<()> {
    let service = socket(router.namespace(), router.gateway(), 5351);
    service.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let outside = router.outside().octets();
    let (stop, stopped) = channel::<()>();
    std::thread::spawn(move || {
        let mut asked = [0; 64];
        while stopped.try_recv() != Err(TryRecvError::Disconnected) {
            let Ok((length, client)) = service.recv_from(&mut asked) else { continue };
            if asked[..length] == [0, 0] {
                let answer = [[0, 128, 0, 0], [0, 0, 0, 1], outside].concat();
                service.send_to(&answer, client).unwrap();
            }
        }
    });
    stop
}

#[tokio::test]
async fn the_doctor_tells_a_router_behind_a_carriers_nat() {
    if !needs_root("the_doctor_tells_a_router_behind_a_carriers_nat") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(Kind::TwoNats);
    let _service = tells_its_address(site.router());
    let phone = phone(&lab, "phone", &site).await;
    says(&phone, "router", "warning", "carrier-grade NAT");
    phone.stop().await;
}

#[tokio::test]
async fn the_doctor_tells_two_routers_in_a_row() {
    if !needs_root("the_doctor_tells_two_routers_in_a_row") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(Kind::TwoRouters);
    let _service = tells_its_address(site.router());
    let phone = phone(&lab, "phone", &site).await;
    says(&phone, "router", "warning", "two routers stand in a row (double NAT)");
    phone.stop().await;
}

#[tokio::test]
async fn the_first_call_behind_a_router_of_upnp_names_its_mapped_ports() {
    if !needs_root("the_first_call_behind_a_router_of_upnp_names_its_mapped_ports") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(CONE);
    let _service = Miniupnpd::start(&lab, site.router(), &[Protocol::Upnp]).await;
    let host = internet.host("peer");
    let peer = socket(&host.namespace, host.address, 5060);
    let offered = |phone: &Voipd| {
        peer.set_read_timeout(Some(SOON)).unwrap();
        let mut buffer = [0; 4000];
        let (length, _) = peer.recv_from(&mut buffer).unwrap();
        let invite = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(
            invite.contains(&format!("c=IN IP4 {}\r\n", site.public_address())),
            "{invite}\n{}",
            phone.ctl(&["nat"])
        );
    };
    // As soon as it runs: the router has not been found yet.
    let mut phone = phone(&lab, "phone", &site).await;
    let call = phone.dial(&format!("sip:peer@{}", host.address)).await;
    offered(&phone);
    drop(call);
    phone.restart().await;
    // And when it has been.
    until("the router is found", SOON, async || (doctor(&phone, "router").0 == "ok").then_some(())).await;
    while peer.set_nonblocking(true).is_ok() && peer.recv(&mut [0; 4000]).is_ok() {}
    peer.set_nonblocking(false).unwrap();
    let call = phone.dial(&format!("sip:peer@{}", host.address)).await;
    offered(&phone);
    drop(call);
}

/// What the firewall lets in by IPv6.
fn pinholes(router: &Router) -> Vec<String> {
    let listing =
        run(router.namespace().program("nft").args(["list", "chain", "inet", "nat", "forward_ports"]));
    listing.lines().filter(|line| line.contains("accept")).map(|line| line.trim().to_owned()).collect()
}

#[tokio::test]
async fn strangers_who_may_call_by_ipv6_are_let_in_by_the_routers_firewall() {
    if !needs_root("strangers_who_may_call_by_ipv6_are_let_in_by_the_routers_firewall") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let sites = [internet.site(CONE), internet.site(CONE)];
    internet.add_ipv6(&[&sites[0], &sites[1]]);
    let _service = Miniupnpd::start(&lab, sites[0].router(), &[Protocol::Pcp]).await;
    let on = |site: &Site, from: &str| {
        Config::on(site.client(), site.address)
            .line("sip", "listen = [\"0.0.0.0:5060\", \"[::]:5060\"]")
            .line("direct", format!("allow-from = [\"{from}\"]"))
    };
    let phone = Voipd::start(&lab, "phone", on(&sites[0], "2001:db8::/32")).await;
    let caller = Voipd::start(&lab, "caller", on(&sites[1], "192.168.0.0/16")).await;
    until("UDP and TCP are let in", SOON, async || (pinholes(sites[0].router()).len() == 2).then_some(()))
        .await;
    let listed = phone.ctl(&["nat"]);
    let ours = sites[0].address6();
    assert!(listed.contains(&format!("[{ours}]:5060")) && listed.contains("pcp"), "{listed}");

    says(&phone, "pinholes", "ok", &format!("port 5060 at [{ours}]:5060 (PCP), and 1 more"));
    says(&caller, "pinholes", "ok", "nothing has to be let in by IPv6 now");

    let call = caller.dial(&format!("sip:phone@[{ours}]")).await;
    let incoming = phone.incoming().await;
    incoming.accept().await;
    call.is("active").await;
    until("the ports of sound are let in, too", SOON, async || {
        (pinholes(sites[0].router()).len() == 4).then_some(())
    })
    .await;
    until("sound comes in", SOON, async || (incoming.figures().await.packets_received > 10).then_some(()))
        .await;
    call.hang_up().await;
    until("those of the call are closed", SOON, async || {
        (pinholes(sites[0].router()).len() == 2).then_some(())
    })
    .await;
    phone.stop().await;
    assert_eq!(pinholes(sites[0].router()), Vec::<String>::new(), "a stop closes all");
}
