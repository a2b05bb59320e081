//! The NAT laboratory itself: its routers translate as they say, and nothing is left of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use voipd_tests::netlab::{Coturn, Internet, Kind, Miniupnpd, Namespace, Nat, Protocol, Site, own};
use voipd_tests::process::{Process, program, run};
use voipd_tests::{Lab, SOON, needs_root, until};

/// How long it is waited for a datagram that must not come: within one machine, one that comes is there at once.
const SILENCE: Duration = Duration::from_millis(150);

fn socket(host: &Namespace, address: impl Into<IpAddr>, port: u16) -> UdpSocket {
    let address = address.into();
    host.inside(|| UdpSocket::bind((address, port)).unwrap())
}

/// What comes: its source and text. Panics when something comes though it must not, or the other way round.
fn receive(socket: &UdpSocket, expected: bool) -> Option<(SocketAddr, String)> {
    socket.set_read_timeout(Some(if expected { SOON } else { SILENCE })).unwrap();
    let mut buffer = [0; 1500];
    let received = socket.recv_from(&mut buffer);
    assert_eq!(received.is_ok(), expected, "{received:?}");
    let (length, source) = received.ok()?;
    Some((source, String::from_utf8_lossy(&buffer[..length]).into_owned()))
}

/// A client at a site and two servers that it has sent something.
struct Trial {
    client: UdpSocket,
    server: UdpSocket,
    /// What the server and the other server saw as the client's address.
    mapped: Option<SocketAddr>,
    mapped_for_other: Option<SocketAddr>,
}

impl Trial {
    fn new(internet: &Internet, site: &Site) -> Self {
        let client = socket(site.client(), site.address, 4000);
        let server = socket(internet.core(), Internet::SERVER, 7000);
        let other = socket(internet.core(), Internet::SECOND, 7001);
        let mapped = |to: &UdpSocket| {
            client.send_to(b"hello", to.local_addr().unwrap()).unwrap();
            receive(to, site.kind.passes_datagrams()).map(|(source, _)| source)
        };
        let (mapped, mapped_for_other) = (mapped(&server), mapped(&other));
        Self { client, server, mapped, mapped_for_other }
    }

    /// The client hears a stranger, or not, at an address and a port where it has never sent anything.
    fn hears(&self, internet: &Internet, address: Ipv4Addr, expected: bool) {
        let stranger = socket(internet.core(), address, 7002);
        stranger.send_to(b"stranger", self.mapped.unwrap()).unwrap();
        receive(&self.client, expected);
    }
}

#[test]
fn routers_translate_as_they_say() {
    if !needs_root("routers_translate_as_they_say") {
        return;
    }
    for kind in Kind::ALL {
        let internet = Internet::new();
        let site = internet.site(kind);
        let trial = Trial::new(&internet, &site);
        if !kind.passes_datagrams() {
            assert_eq!(trial.mapped, None, "{kind}");
            let listener =
                internet.core().inside(|| std::net::TcpListener::bind((Internet::SERVER, 7000)).unwrap());
            site.client().inside(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let (_, source) = listener.accept().unwrap();
            assert_eq!(source.ip(), site.public_address(), "{kind}");
            continue;
        }
        let mapped = trial.mapped.unwrap();
        assert_eq!(mapped.ip(), site.public_address(), "{kind}");
        let one_mapping = trial.mapped_for_other == trial.mapped;
        assert_eq!(one_mapping, kind != Kind::Behind(Nat::Symmetric), "{kind}: {mapped}");
        trial.server.send_to(b"answer", mapped).unwrap();
        assert_eq!(receive(&trial.client, true).unwrap().1, "answer", "{kind}");
        let lets_in = matches!(kind, Kind::Open | Kind::Behind(Nat::FullCone));
        for address in [Internet::SERVER, Internet::SECOND] {
            println!("{kind}: a stranger at {address} is heard: {lets_in}");
            trial.hears(&internet, address, lets_in);
        }
    }
}

#[test]
fn a_full_cone_is_open_only_where_it_was_opened() {
    if !needs_root("a_full_cone_is_open_only_where_it_was_opened") {
        return;
    }
    let internet = Internet::new();
    let site = internet.site(Kind::Behind(Nat::FullCone));
    let client = socket(site.client(), site.address, 4000);
    let stranger = socket(internet.core(), Internet::SERVER, 7000);
    stranger.send_to(b"hello", (site.public_address(), 4000)).unwrap();
    receive(&client, false);
}

#[test]
fn a_router_gets_another_address_and_a_line_goes_dead() {
    if !needs_root("a_router_gets_another_address_and_a_line_goes_dead") {
        return;
    }
    let internet = Internet::new();
    for kind in [Kind::Behind(Nat::Cone), Kind::TwoNats] {
        let site = internet.site(kind);
        let trial = Trial::new(&internet, &site);
        let old = trial.mapped.unwrap();
        let new = site.last_router().rebind();
        assert_ne!(new, old.ip());
        trial.server.send_to(b"too late", old).unwrap();
        receive(&trial.client, false);
        trial.client.send_to(b"again", trial.server.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&trial.server, true).unwrap().0.ip(), new, "{kind}");
        site.router().blackout(true);
        trial.client.send_to(b"again", trial.server.local_addr().unwrap()).unwrap();
        receive(&trial.server, false);
        site.router().blackout(false);
        trial.client.send_to(b"again", trial.server.local_addr().unwrap()).unwrap();
        receive(&trial.server, true);
        let back = site.last_router().rebind();
        assert_eq!(back, old.ip());
    }
}

#[test]
fn a_sip_alg_rewrites_addresses_in_sip() {
    if !needs_root("a_sip_alg_rewrites_addresses_in_sip") {
        return;
    }
    let internet = Internet::new();
    let site = internet.site(Kind::Behind(Nat::Cone));
    let client = socket(site.client(), site.address, 5060);
    let server = socket(internet.core(), Internet::SERVER, 5060);
    let inside = site.address;
    let request = format!(
        "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {inside}:5060;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:me@{inside}>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:me@{inside}:5060>\r\nContent-Length: 0\r\n\r\n",
        server = Internet::SERVER
    );
    for rewrites in [false, true] {
        site.router().sip_alg(rewrites);
        client.send_to(request.as_bytes(), server.local_addr().unwrap()).unwrap();
        let (_, text) = receive(&server, true).unwrap();
        assert_eq!(text.contains(&format!("Contact: <sip:me@{}", site.public_address())), rewrites, "{text}");
    }
}

#[tokio::test]
async fn a_turn_server_answers_at_both_addresses() {
    if !needs_root("a_turn_server_answers_at_both_addresses") {
        return;
    }
    let lab = Lab::shared();
    let internet = Internet::new();
    let site = internet.site(Kind::Behind(Nat::Cone));
    let addresses = [Internet::SERVER, Internet::SECOND];
    let server = Coturn::start(&lab, "coturn", internet.core(), &addresses).await;
    let client = socket(site.client(), site.address, 4000);
    // A binding request of RFC 8489: type, length, magic cookie, transaction.
    let request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction1";
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for address in addresses {
        client.send_to(&request, (address, Coturn::PORT)).unwrap();
        let mut answer = [0; 500];
        let (length, source) = client.recv_from(&mut answer).unwrap();
        assert_eq!(source.ip(), address);
        assert_eq!(answer[..2], [1, 1], "{:?}: {}", &answer[..length], server.log());
    }
}

#[tokio::test]
async fn a_router_maps_ports_by_the_protocols_that_it_speaks() {
    if !needs_root("a_router_maps_ports_by_the_protocols_that_it_speaks") {
        return;
    }
    let internet = Internet::new();
    let sites = [Protocol::Upnp, Protocol::NatPmp, Protocol::Pcp]
        .map(|protocol| (protocol, internet.site(Kind::Behind(Nat::Cone))));
    for (protocol, site) in &sites {
        let lab = Lab::shared();
        let service = Miniupnpd::start(&lab, site.router(), &[*protocol]).await;
        let client = socket(site.client(), site.address, 4000);
        let router = site.router().gateway();
        let search = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
                      ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
        // RFC 6886, section 3.2: version 0, public address wanted.
        let natpmp = [0, 0];
        // RFC 6887, section 7.1: version 2, announce, from an IPv4 address.
        let mut pcp = vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
        pcp.extend(site.address.octets());
        for (other, request, port) in [
            (Protocol::Upnp, search.as_bytes(), 1900),
            (Protocol::NatPmp, &natpmp, 5351),
            (Protocol::Pcp, &pcp, 5351),
        ] {
            println!("asked by {other:?}, speaks {protocol:?}");
            client.send_to(request, (router, port)).unwrap();
            receive(&client, other == *protocol);
        }
        drop(service);
    }
}

#[test]
fn ipv6_is_not_translated_and_lets_nothing_in_unasked() {
    if !needs_root("ipv6_is_not_translated_and_lets_nothing_in_unasked") {
        return;
    }
    let internet = Internet::new();
    let (site, other) = (internet.site(Kind::Behind(Nat::Cone)), internet.site(Kind::Behind(Nat::Cone)));
    internet.add_ipv6(&[&site, &other]);
    site.remove_ipv4();
    let client = socket(site.client(), site.address6(), 4000);
    let server = socket(internet.core(), Internet::SERVER6, 7000);
    let neighbour = socket(other.client(), other.address6(), 4000);
    client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
    assert_eq!(receive(&server, true).unwrap().0, client.local_addr().unwrap());
    server.send_to(b"answer", client.local_addr().unwrap()).unwrap();
    receive(&client, true);
    neighbour.send_to(b"stranger", client.local_addr().unwrap()).unwrap();
    receive(&client, false);
    // Each has sent something to the other: now both firewalls are open.
    client.send_to(b"hello", neighbour.local_addr().unwrap()).unwrap();
    receive(&neighbour, true);
    client.connect((Internet::SERVER, 7000)).unwrap_err();
}

#[test]
fn a_distant_host_answers_later() {
    if !needs_root("a_distant_host_answers_later") {
        return;
    }
    let internet = Internet::new();
    let delay = Duration::from_millis(40);
    let far = internet.distant_host("far", delay);
    let near = socket(internet.core(), Internet::SERVER, 7000);
    let far = socket(&far.namespace, far.address, 7000);
    // The first exchange asks for hardware addresses, too.
    for _ in 0..2 {
        let sent = Instant::now();
        near.send_to(b"there?", far.local_addr().unwrap()).unwrap();
        receive(&far, true);
        assert!(sent.elapsed() >= delay);
        far.send_to(b"here", near.local_addr().unwrap()).unwrap();
        receive(&near, true);
        println!("the answer came after {:?}", sent.elapsed());
        assert!(sent.elapsed() >= 2 * delay);
    }
}

#[tokio::test]
async fn what_a_killed_test_left_is_removed() {
    if !needs_root("what_a_killed_test_left_is_removed") {
        return;
    }
    let lab = Lab::shared();
    // The highest number is given out last: nobody has it. Until its owner is gone no other test may remove what it left.
    let owner = own(250);
    let name = "voipd-netlab-250-left";
    run(program("ip").args(["netns", "add", name]));
    let mut left = program("ip");
    left.args(["netns", "exec", name, "sleep", "1000"]);
    let mut left = Process::start("sleep", left, &lab.path("sleep.log"));
    until("the namespace is in use", SOON, async || {
        let processes = run(program("ip").args(["netns", "pids", name]));
        (!processes.trim().is_empty()).then_some(())
    })
    .await;
    drop(owner);
    drop(Internet::new());
    assert!(!Path::new("/run/netns").join(name).exists());
    left.wait(SOON).await;
}
