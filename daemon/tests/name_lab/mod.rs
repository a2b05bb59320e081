//! A real name server (dnsmasq) on this machine's loopback, with a zone of the test's own, and what it was asked.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use voipd::transport::{Place, Resolver, ResolverSettings};
use voipd_sip::endpoint::{NextHop, ResolveError, Transport};

/// How long anything here may take before the test is called off.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running name server; it ends with this value.
pub struct NameServer {
    child: Child,
    address: SocketAddr,
    log: Receiver<String>,
    /// Where its configuration is.
    _directory: tempfile::TempDir,
}

impl NameServer {
    /// Serves the zone `test` with authority. `zone` holds lines such as `srv-host=…` and `host-record=…`.
    pub fn with_zone(zone: &[&str]) -> Self {
        let authority = [
            "auth-server=ns.test,127.0.0.1",
            "auth-zone=test",
            "auth-ttl=600",
            "auth-soa=1,hostmaster.test,1200,120,604800",
        ];
        Self::start(&[&authority[..], zone].concat())
    }

    /// dnsmasq with these lines of configuration besides those that keep it to itself.
    pub fn start(lines: &[&str]) -> Self {
        let by = Instant::now() + PATIENCE;
        loop {
            let address = free_port();
            // Somebody may take the port before dnsmasq does.
            if let Some(server) = Self::try_start(address, lines) {
                return server;
            }
            assert!(Instant::now() < by, "dnsmasq finds no free port");
        }
    }

    fn try_start(address: SocketAddr, lines: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dnsmasq.conf");
        let port = format!("port={}", address.port());
        let own = [
            "keep-in-foreground",
            "no-resolv",
            "no-hosts",
            "bind-interfaces",
            "listen-address=127.0.0.1",
            "log-queries",
            "log-facility=-",
            "pid-file",
            "user",
            &port,
        ];
        std::fs::write(&file, [&own[..], lines].concat().join("\n") + "\n").unwrap();
        let program =
            ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].into_iter().find(|p| std::path::Path::new(p).exists());
        let program = program.expect("dnsmasq is needed: make test-deps installs it");
        // It ends with this test's thread, also when that is killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .arg(format!("--conf-file={}", file.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("dnsmasq starts");
        let (sender, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let server = Self { child, address, log, _directory: directory };
        let mut said = Vec::new();
        loop {
            match server.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains("failed to create listening socket") => return None,
                Ok(line) if line.contains(": started, version") => return Some(server),
                Ok(line) => said.push(line),
                Err(_) => panic!("dnsmasq does not start: {said:?}"),
            }
        }
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The questions since the last call, as `TYPE name`, in their order.
    pub fn questions(&self) -> Vec<String> {
        // Its log says what it was asked before it answers: when this question is answered, all before it are there.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x0dend-of-part-1\x04test\0\0\x01\0\x01");
        socket.send_to(&question, self.address).unwrap();
        socket.recv_from(&mut [0; 512]).expect("dnsmasq answers");
        let mut questions = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE).expect("dnsmasq logs");
            let Some(question) = question_in(&line) else { continue };
            if question == "A end-of-part-1.test" {
                return questions;
            }
            questions.push(question);
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `dnsmasq[7]: auth[SRV] _sip._udp.example.test from 127.0.0.1`
fn question_in(line: &str) -> Option<String> {
    let rest = line.split_once(": ")?.1;
    let rest = rest.strip_prefix("auth[").or_else(|| rest.strip_prefix("query["))?;
    let (kind, rest) = rest.split_once("] ")?;
    let (name, _) = rest.split_once(" from ")?;
    Some(format!("{kind} {name}"))
}

/// A port of 127.0.0.1 that is free for both UDP and TCP now.
fn free_port() -> SocketAddr {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A name server that hears and never answers.
pub struct SilentServer(UdpSocket);

impl SilentServer {
    pub fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

pub fn resolver(servers: &[SocketAddr], transports: &[Transport], seed: u8) -> Resolver {
    Resolver::new(ResolverSettings {
        name_servers: servers.to_vec(),
        transports: transports.to_vec(),
        seed: [seed; 32],
    })
}

pub fn hop(host: &str, port: Option<u16>, transport: Option<Transport>) -> NextHop {
    NextHop { host: host.parse().unwrap(), port, transport, secure: false }
}

/// The next hop of a `sips:` URI.
pub fn secure_hop(host: &str, port: Option<u16>) -> NextHop {
    NextHop { secure: true, ..hop(host, port, None) }
}

/// Asks, and gives up the test when the answer takes for ever.
pub async fn resolve(resolver: &Resolver, next_hop: &NextHop) -> Result<Vec<Place>, ResolveError> {
    tokio::time::timeout(PATIENCE, resolver.resolve(next_hop)).await.expect("an answer in time")
}

/// Places as text, `UDP 127.0.0.2:5060`.
pub fn text(places: &[Place]) -> Vec<String> {
    let name = |transport| match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
    };
    places.iter().map(|place| format!("{} {}", name(place.transport), place.remote)).collect()
}

/// The IPv6 loopback can be used here.
pub fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Answers every question over UDP with what `answer` makes of it, until it is dropped.
pub struct Forger {
    address: SocketAddr,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forger {
    pub fn new(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&answer(&buffer[..len]), from);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
