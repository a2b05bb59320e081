//! SIP over TCP and TLS on real sockets: what is accepted, what is refused and why, and who is hung up on.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use voipd::config::{SipConfig, TlsConfig};
use voipd::tls::{ServerFiles, material};
use voipd::transport::{Arrival, Place, Transport};
use voipd_agent::TlsSettings;
use voipd_agent::account::ClientCertificate;
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{CertificateFault, Flow, TlsRequirement, Transport as Protocol, TransportError};
use voipd_sip::uri::Host;
use voipd_tests::authority::{Authority, Certificate, Validity, self_signed};

/// Longer than anything here takes, timeouts of the daemon among it.
const PATIENCE: Duration = Duration::from_secs(60);

fn config() -> SipConfig {
    SipConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        tcp: true,
        tls: None,
        user_agent: "test".to_owned(),
        name_servers: Vec::new(),
    }
}

fn message(number: usize) -> Vec<u8> {
    format!("OPTIONS sip:a@b SIP/2.0\r\nCSeq: {number} OPTIONS\r\nContent-Length: 4\r\n\r\nbody").into_bytes()
}

/// Where the transport listens; its flows say so.
fn listening(transport: &Transport, protocol: Protocol) -> SocketAddr {
    let place = Place { transport: protocol, remote: "127.0.0.1:9".parse().unwrap() };
    transport.flow_to(place, TlsRequirement::default()).unwrap().local
}

async fn next(transport: &mut Transport) -> Arrival {
    tokio::time::timeout(PATIENCE, transport.receive()).await.expect("something arrives")
}

#[track_caller]
fn is_message(arrival: Arrival) -> (Flow, Vec<u8>) {
    match arrival {
        Arrival::Message { flow, bytes } => (flow, bytes),
        other => panic!("{other:?} is no message"),
    }
}

#[track_caller]
fn is_failure(arrival: Arrival) -> (Flow, TransportError) {
    match arrival {
        Arrival::Failed { flow, error } => (flow, error),
        other => panic!("{other:?} is no failure"),
    }
}

async fn tcp_flow(transport: &Transport, remote: SocketAddr) -> Flow {
    transport.flow_to(Place { transport: Protocol::Tcp, remote }, TlsRequirement::default()).unwrap()
}

#[tokio::test]
async fn an_inbound_connection_is_answered_on_itself() {
    let mut transport = Transport::bind(&config()).unwrap();
    let mut peer = TcpStream::connect(listening(&transport, Protocol::Tcp)).await.unwrap();
    // Two messages and a half in one piece, then the rest.
    let third = message(3);
    peer.write_all(&[message(1), message(2), third[..30].to_vec()].concat()).await.unwrap();
    let (flow, bytes) = is_message(next(&mut transport).await);
    assert_eq!(bytes, message(1));
    assert_eq!((flow.transport, flow.remote), (Protocol::Tcp, peer.local_addr().unwrap()));
    assert_eq!(flow.local, peer.peer_addr().unwrap());
    assert_eq!(is_message(next(&mut transport).await), (flow, message(2)));
    peer.write_all(&third[30..]).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await), (flow, third));
    transport.send(&flow, b"answer").unwrap();
    let mut buffer = [0; 6];
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"answer");
    drop(peer);
    assert_eq!(is_failure(next(&mut transport).await), (flow, TransportError::Closed));
}

#[tokio::test]
async fn two_line_ends_are_answered_with_one() {
    let transport = Transport::bind(&config()).unwrap();
    let mut peer = TcpStream::connect(listening(&transport, Protocol::Tcp)).await.unwrap();
    peer.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    peer.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test]
async fn one_flow_is_one_connection_and_a_lost_one_is_made_anew() {
    let mut transport = Transport::bind(&config()).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flow = tcp_flow(&transport, server.local_addr().unwrap()).await;
    assert_eq!(flow.local, listening(&transport, Protocol::Tcp), "Via names where we listen");
    transport.send(&flow, &message(1)).unwrap();
    transport.send(&flow, &message(2)).unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    let mut both = vec![0; message(1).len() * 2];
    stream.read_exact(&mut both).await.unwrap();
    assert_eq!(both, [message(1), message(2)].concat());
    stream.write_all(&message(3)).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await), (flow, message(3)));
    drop(stream);
    assert_eq!(is_failure(next(&mut transport).await), (flow, TransportError::Closed));
    transport.send(&flow, &message(4)).unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    let mut again = vec![0; message(4).len()];
    stream.read_exact(&mut again).await.unwrap();
    assert_eq!(again, message(4));
}

#[tokio::test]
async fn a_closed_port_is_refused_and_one_that_says_nothing_times_out() {
    let mut transport = Transport::bind(&config()).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let flow = tcp_flow(&transport, closed).await;
    transport.send(&flow, &message(1)).unwrap();
    assert_eq!(is_failure(next(&mut transport).await), (flow, TransportError::Refused));

    // TCP alone would come about; TLS does not.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let requirement = transport.require(&Host::Name("silent.test".into()), &TlsSettings::default()).unwrap();
    let place = Place { transport: Protocol::Tls, remote: silent.local_addr().unwrap() };
    let flow = transport.flow_to(place, requirement).unwrap();
    transport.send(&flow, &message(1)).unwrap();
    assert_eq!(is_failure(next(&mut transport).await), (flow, TransportError::TimedOut));
}

#[tokio::test]
async fn bytes_that_are_no_sip_end_their_connection_and_no_other() {
    let mut transport = Transport::bind(&config()).unwrap();
    let at = listening(&transport, Protocol::Tcp);
    let mut good = TcpStream::connect(at).await.unwrap();
    let mut bad = TcpStream::connect(at).await.unwrap();
    bad.write_all(b"INVITE sip:a@b SIP/2.0\r\nContent-Length: 99999999999999999999\r\n\r\n").await.unwrap();
    let (flow, error) = is_failure(next(&mut transport).await);
    assert_eq!((flow.remote, error), (bad.local_addr().unwrap(), TransportError::Closed));
    let mut rest = Vec::new();
    bad.read_to_end(&mut rest).await.unwrap();
    good.write_all(&message(1)).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await).1, message(1));
}

#[tokio::test]
async fn who_does_not_read_is_hung_up_on_and_others_are_served() {
    let mut transport = Transport::bind(&config()).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flow = tcp_flow(&transport, server.local_addr().unwrap()).await;
    let big = vec![b'x'; 60_000];
    // The kernel holds some of it; what we hold is bounded.
    let mut sent = 0;
    let refused = loop {
        match transport.send(&flow, &big) {
            Ok(()) => sent += big.len(),
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "the queue has no bound");
        tokio::task::yield_now().await;
    };
    assert_eq!(refused, TransportError::Closed);
    let mut peer = TcpStream::connect(listening(&transport, Protocol::Tcp)).await.unwrap();
    peer.write_all(&message(1)).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await).1, message(1));
}

#[tokio::test]
async fn one_source_gets_only_so_many_connections() {
    let mut transport = Transport::bind(&config()).unwrap();
    let at = listening(&transport, Protocol::Tcp);
    let mut peers = Vec::new();
    for number in 0..32 {
        let mut peer = TcpStream::connect(at).await.unwrap();
        peer.write_all(&message(number)).await.unwrap();
        is_message(next(&mut transport).await);
        peers.push(peer);
    }
    let mut surplus = TcpStream::connect(at).await.unwrap();
    assert_eq!(surplus.read(&mut [0; 1]).await.unwrap_or(0), 0, "the 33rd is closed at once");
    // Another source finds room.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(at).await.unwrap();
    other.write_all(&message(99)).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await).1, message(99));
    // Room that is given back can be taken again.
    drop(peers.pop());
    is_failure(next(&mut transport).await);
    let mut again = TcpStream::connect(at).await.unwrap();
    again.write_all(&message(100)).await.unwrap();
    assert_eq!(is_message(next(&mut transport).await).1, message(100));
}

#[tokio::test]
async fn one_address_gets_only_so_many_connections_of_ours() {
    let mut transport = Transport::bind(&config()).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flow = tcp_flow(&transport, server.local_addr().unwrap()).await;
    let greedy: Vec<_> = (61_001..=61_300_u16)
        .map(|port| Flow { remote: SocketAddr::from(([127, 0, 0, 2], port)), ..flow })
        .map(|flow| transport.send(&flow, &message(1)))
        .collect();
    assert_eq!(greedy.iter().position(Result::is_err), Some(64), "{greedy:?}");
    assert!(greedy[64..].iter().all(|sent| *sent == Err(TransportError::NoRoute)), "{greedy:?}");
    // Another finds room.
    transport.send(&flow, &message(2)).unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    let mut all = vec![0; message(2).len()];
    stream.read_exact(&mut all).await.unwrap();
    assert_eq!(all, message(2));
}

#[tokio::test]
async fn closing_writes_what_is_left() {
    let mut transport = Transport::bind(&config()).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flow = tcp_flow(&transport, server.local_addr().unwrap()).await;
    transport.send(&flow, &message(1)).unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    transport.send(&flow, &message(2)).unwrap();
    transport.close_all().await;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [message(1), message(2)].concat());
}

/// A TLS server of ours, and what it takes to believe it.
struct Server {
    transport: Transport,
    at: SocketAddr,
    files: tempfile::TempDir,
}

impl Server {
    fn new(certificate: &Certificate, client_authorities: Option<String>) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
        std::fs::write(&chain, &certificate.chain).unwrap();
        std::fs::write(&key, &certificate.key).unwrap();
        let files_of = ServerFiles { certificate: chain, key, client_authorities };
        let tls = Some(TlsConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], files: files_of });
        let transport = Transport::bind(&SipConfig { tls, ..config() }).unwrap();
        let at = listening(&transport, Protocol::Tls);
        Self { transport, at, files }
    }
}

/// What becomes of a message that a client sends to a server of this name: it arrives, or the error.
async fn attempt(
    client: &mut Transport,
    server: &mut Server,
    name: &str,
    settings: &TlsSettings,
) -> Result<Flow, TransportError> {
    let host = name.parse().map_or_else(|_| Host::Name(name.to_owned()), Host::Ip);
    let requirement = client.require(&host, settings).unwrap();
    let flow = client.flow_to(Place { transport: Protocol::Tls, remote: server.at }, requirement).unwrap();
    client.send(&flow, &message(1)).unwrap();
    let both = async {
        tokio::select! {
            arrival = server.transport.receive() => {
                let (arrived, bytes) = is_message(arrival);
                assert_eq!((arrived.transport, bytes), (Protocol::Tls, message(1)));
                Ok(arrived)
            }
            arrival = client.receive() => Err(is_failure(arrival).1),
        }
    };
    let arrived = tokio::time::timeout(PATIENCE, both).await.expect("it arrives or fails")?;
    // And back on the same connection.
    server.transport.send(&arrived, &message(2)).unwrap();
    assert_eq!(is_message(next(client).await), (flow, message(2)));
    Ok(flow)
}

/// The fault that a client finds with a certificate.
async fn fault(certificate: &Certificate, name: &str, settings: &TlsSettings) -> Option<CertificateFault> {
    let mut client = Transport::bind(&config()).unwrap();
    let mut server = Server::new(certificate, None);
    match attempt(&mut client, &mut server, name, settings).await {
        Ok(_) => None,
        Err(TransportError::Certificate(fault)) => Some(fault),
        Err(other) => panic!("{other:?} is no fault of a certificate"),
    }
}

fn believing(pem: String) -> TlsSettings {
    TlsSettings { authorities: Some(pem), ..TlsSettings::default() }
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_told_apart() {
    let authority = Authority::new("voipd test authority");
    let trust = believing(authority.pem());
    let good = authority.issue(&["sip.example.org"], Validity::Good);
    assert_eq!(fault(&good, "sip.example.org", &trust).await, None);
    assert_eq!(fault(&good, "SIP.Example.ORG.", &trust).await, None);
    assert_eq!(fault(&good, "example.org", &trust).await, Some(CertificateFault::WrongName));
    assert_eq!(fault(&good, "common.name.test", &trust).await, Some(CertificateFault::WrongName));
    let expired = authority.issue(&["sip.example.org"], Validity::Expired);
    assert_eq!(fault(&expired, "sip.example.org", &trust).await, Some(CertificateFault::Expired));
    let early = authority.issue(&["sip.example.org"], Validity::NotYet);
    assert_eq!(fault(&early, "sip.example.org", &trust).await, Some(CertificateFault::NotYetValid));
    let stranger = Authority::new("voipd test authority").issue(&["sip.example.org"], Validity::Good);
    assert_eq!(fault(&stranger, "sip.example.org", &trust).await, Some(CertificateFault::UnknownIssuer));
    let own = self_signed(&["sip.example.org"], Validity::Good);
    assert_eq!(fault(&own, "sip.example.org", &trust).await, Some(CertificateFault::UnknownIssuer));
    let system = TlsSettings::default();
    assert_eq!(fault(&good, "sip.example.org", &system).await, Some(CertificateFault::UnknownIssuer));
}

#[tokio::test]
async fn a_self_signed_certificate_is_good_where_it_is_the_authority_and_no_longer_than_its_dates() {
    let own = self_signed(&["pbx.test"], Validity::Good);
    let trust = believing(own.chain.clone());
    assert_eq!(fault(&own, "pbx.test", &trust).await, None);
    assert_eq!(fault(&own, "other.test", &trust).await, Some(CertificateFault::WrongName));
    let old = self_signed(&["pbx.test"], Validity::Expired);
    assert_eq!(fault(&old, "pbx.test", &believing(old.chain.clone())).await, Some(CertificateFault::Expired));
}

/// RFC 5922 section 7.
#[tokio::test]
async fn sip_domains_come_before_dns_names_and_wildcards_name_nobody() {
    let authority = Authority::new("voipd test authority");
    let trust = believing(authority.pem());
    let uri = authority.issue(&["sip:example.org", "host7.example.net"], Validity::Good);
    assert_eq!(fault(&uri, "example.org", &trust).await, None);
    assert_eq!(fault(&uri, "host7.example.net", &trust).await, Some(CertificateFault::WrongName));
    let person = authority.issue(&["sip:alice@example.org", "example.net"], Validity::Good);
    assert_eq!(fault(&person, "example.org", &trust).await, Some(CertificateFault::WrongName));
    assert_eq!(fault(&person, "example.net", &trust).await, None);
    let wildcard = authority.issue(&["*.example.org"], Validity::Good);
    assert_eq!(fault(&wildcard, "sip.example.org", &trust).await, Some(CertificateFault::WrongName));
    let address = authority.issue(&["192.0.2.7"], Validity::Good);
    assert_eq!(fault(&address, "192.0.2.7", &trust).await, None);
    assert_eq!(fault(&address, "192.0.2.8", &trust).await, Some(CertificateFault::WrongName));
}

#[tokio::test]
async fn a_pin_is_all_that_counts() {
    use sha2::{Digest, Sha256};
    let old = self_signed(&["elsewhere.test"], Validity::Expired);
    let fingerprint: [u8; 32] = Sha256::digest(&old.der).into();
    let pinned = TlsSettings { pin: Some(fingerprint), ..TlsSettings::default() };
    assert_eq!(fault(&old, "pbx.test", &pinned).await, None);
    let other = self_signed(&["pbx.test"], Validity::Good);
    assert_eq!(fault(&other, "pbx.test", &pinned).await, Some(CertificateFault::NotPinned));
    assert_eq!(material::pin(&material::pin_text(&fingerprint)), Ok(fingerprint));
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_gets_it_or_says_no() {
    let authority = Authority::new("voipd test authority");
    let clients = Authority::new("clients");
    let certificate = authority.issue(&["pbx.test"], Validity::Good);
    let mut server = Server::new(&certificate, Some(clients.pem()));
    let mut client = Transport::bind(&config()).unwrap();
    let none = believing(authority.pem());
    let refused = Err(TransportError::ClientCertificate);
    assert_eq!(attempt(&mut client, &mut server, "pbx.test", &none).await, refused);
    let shown = |certificate: Certificate| TlsSettings {
        client: Some(ClientCertificate { chain: certificate.chain, key: Secret::new(certificate.key) }),
        ..none.clone()
    };
    let strange = shown(authority.issue(&["alice"], Validity::Good));
    assert_eq!(attempt(&mut client, &mut server, "pbx.test", &strange).await, refused);
    let expired = shown(clients.issue(&["alice"], Validity::Expired));
    assert_eq!(attempt(&mut client, &mut server, "pbx.test", &expired).await, refused);
    let known = shown(clients.issue(&["alice"], Validity::Good));
    assert!(attempt(&mut client, &mut server, "pbx.test", &known).await.is_ok());
}

#[tokio::test]
async fn the_second_connection_resumes_the_first_ones_session() {
    let authority = Authority::new("voipd test authority");
    let mut server = Server::new(&authority.issue(&["pbx.test"], Validity::Good), None);
    let mut client = Transport::bind(&config()).unwrap();
    let trust = believing(authority.pem());
    let flow = attempt(&mut client, &mut server, "pbx.test", &trust).await.unwrap();
    let first = client.security(&flow).unwrap();
    assert_eq!((first.version.as_str(), first.peer.as_str(), first.resumed), ("TLSv1.3", "pbx.test", false));
    assert!(first.cipher.starts_with("TLS_"), "{first:?}");
    client.close(&flow);
    is_failure(next(&mut server.transport).await);
    let again = attempt(&mut client, &mut server, "pbx.test", &trust).await.unwrap();
    assert_eq!(again, flow);
    assert!(client.security(&again).unwrap().resumed);
    // Another account's settings are another requirement: no session is shared, and no connection.
    let other = TlsSettings { authorities: Some(format!("{}\n", authority.pem())), ..TlsSettings::default() };
    let other = attempt(&mut client, &mut server, "pbx.test", &other).await.unwrap();
    assert_ne!(other, flow);
    assert!(!client.security(&other).unwrap().resumed);
}

#[tokio::test]
async fn slow_handshakes_stall_nobody_and_are_bounded() {
    let authority = Authority::new("voipd test authority");
    let mut server = Server::new(&authority.issue(&["pbx.test"], Validity::Good), None);
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(TcpStream::connect(server.at).await.unwrap());
    }
    // From another source: that of the slow ones has all its handshakes under way.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut surplus = socket.connect(server.at).await.unwrap();
    assert_eq!(surplus.read(&mut [0; 1]).await.unwrap_or(0), 0, "the ninth is closed at once");
    let mut client =
        Transport::bind(&SipConfig { listen: vec!["127.0.0.2:0".parse().unwrap()], ..config() }).unwrap();
    attempt(&mut client, &mut server, "pbx.test", &believing(authority.pem())).await.unwrap();
    // Those who go on saying nothing are hung up on.
    let closed = tokio::time::timeout(PATIENCE, slow[0].read(&mut [0; 1])).await.expect("it is hung up on");
    assert_eq!(closed.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let authority = Authority::new("voipd test authority");
    let mut server = Server::new(&authority.issue(&["old.test"], Validity::Good), None);
    let mut client = Transport::bind(&config()).unwrap();
    let trust = believing(authority.pem());
    let wrong = Err(TransportError::Certificate(CertificateFault::WrongName));
    assert_eq!(attempt(&mut client, &mut server, "new.test", &trust).await, wrong);
    let renewed = authority.issue(&["new.test"], Validity::Good);
    let (chain, key) = (server.files.path().join("chain.pem"), server.files.path().join("key.pem"));
    // In between, the two files do not fit: the old certificate stays.
    std::fs::write(&chain, &renewed.chain).unwrap();
    server.transport.refresh_certificate();
    assert!(attempt(&mut client, &mut server, "old.test", &trust).await.is_ok());
    std::fs::write(&key, &renewed.key).unwrap();
    server.transport.refresh_certificate();
    assert!(attempt(&mut client, &mut server, "new.test", &trust).await.is_ok());
}

#[tokio::test]
async fn plain_tcp_where_tls_is_spoken_is_no_connection() {
    let authority = Authority::new("voipd test authority");
    let server = Server::new(&authority.issue(&["pbx.test"], Validity::Good), None);
    let mut client = Transport::bind(&config()).unwrap();
    // TLS to a port that speaks plain SIP.
    let plain = listening(&server.transport, Protocol::Tcp);
    let requirement = client.require(&Host::Name("pbx.test".into()), &TlsSettings::default()).unwrap();
    let flow = client.flow_to(Place { transport: Protocol::Tls, remote: plain }, requirement).unwrap();
    client.send(&flow, &message(1)).unwrap();
    assert_eq!(is_failure(next(&mut client).await), (flow, TransportError::Handshake));
}

/// A server of another make, which speaks nothing newer than TLS 1.2 and wants a certificate of `clients`.
async fn old_server(
    certificate: &Certificate,
    clients: Option<&Authority>,
) -> (TcpListener, tokio_rustls::TlsAcceptor) {
    use rustls::server::WebPkiClientVerifier;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let own = material::certified_key(&certificate.chain, &certificate.key).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(material::authorities(&authority.pem()).unwrap());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(own)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener, tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)))
}

#[tokio::test]
async fn tls_1_2_will_do_and_its_refusals_are_understood() {
    let authority = Authority::new("voipd test authority");
    let certificate = authority.issue(&["old.test"], Validity::Good);
    let mut client = Transport::bind(&config()).unwrap();
    let requirement = client.require(&Host::Name("old.test".into()), &believing(authority.pem())).unwrap();

    let (listener, acceptor) = old_server(&certificate, None).await;
    let remote = listener.local_addr().unwrap();
    let flow = client.flow_to(Place { transport: Protocol::Tls, remote }, requirement).unwrap();
    client.send(&flow, &message(1)).unwrap();
    let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
    let mut received = vec![0; message(1).len()];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(received, message(1));
    assert_eq!(client.security(&flow).unwrap().version, "TLSv1.2");

    let (listener, acceptor) = old_server(&certificate, Some(&Authority::new("clients"))).await;
    let remote = listener.local_addr().unwrap();
    let flow = client.flow_to(Place { transport: Protocol::Tls, remote }, requirement).unwrap();
    client.send(&flow, &message(1)).unwrap();
    assert!(acceptor.accept(listener.accept().await.unwrap().0).await.is_err());
    assert_eq!(is_failure(next(&mut client).await), (flow, TransportError::ClientCertificate));
}
