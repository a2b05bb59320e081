//! `voipctl trace` and `Manager1.Trace` with real calls: the flow can be read, secrets cannot, and nobody holds voipd up.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use voipd_dbus::{DialOptions, TraceOptions};
use voipd_tests::sipp::{Script, Sipp, pcmu};
use voipd_tests::{Config, Lab, SOON, Voipctl, Voipd, until};

/// A daemon whose account `desk` has a password at a server.
async fn phone(lab: &Lab, server: Ipv4Addr) -> Voipd {
    let account =
        format!("name = \"desk\"\naddress = \"sip:alice@{server}\"\npassword = \"secret\"\nregister = false");
    Voipd::start(lab, "phone", Config::at(lab.address()).account(account)).await
}

async fn trace(phone: &Voipd, options: &[&str], says: &str) -> Voipctl {
    let mut trace = Voipctl::start(phone.voipctl(&[&["trace"], options].concat()));
    trace.says(says).await;
    trace
}

/// Waits for the answer to BYE; then ends the trace by Ctrl-C and gives what it printed.
async fn whole_call(trace: Voipctl) -> String {
    until("the trace shows the answer to BYE", SOON, async || {
        let output = trace.output().replace("\\r\\n", "\n");
        let mut answers = output.split("SIP/2.0 200 ").skip(1);
        let method = |answer: &str| answer.lines().find(|line| line.contains("CSeq: ")).map(str::to_owned);
        answers.any(|answer| method(answer).is_some_and(|line| line.ends_with(" BYE"))).then_some(())
    })
    .await;
    trace.signal(Signal::SIGINT);
    trace.ends().await.well().to_owned()
}

/// Records of `--json`, without its first line.
fn records(output: &str) -> Vec<Value> {
    let mut lines = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(lines.next().unwrap()["event"], "started");
    lines.collect()
}

/// Direction, start line and CSeq of each message, without repetitions.
fn flow(records: &[Value]) -> Vec<String> {
    let mut flow = Vec::new();
    for record in records {
        let text = record["text"].as_str().unwrap();
        let start: Vec<&str> = text.split_whitespace().take(2).collect();
        let what = if start[0] == "SIP/2.0" { start[1] } else { start[0] };
        let number = text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
        let step = format!("{} {what} ({number})", record["direction"].as_str().unwrap());
        if !flow.contains(&step) {
            flow.push(step);
        }
    }
    flow
}

/// A packet of a capture file.
struct Packet {
    micros: u64,
    from: String,
    to: String,
    payload: Vec<u8>,
}

/// Reads a capture of IPv4 and UDP packets as the formats' specifications say.
fn packets(file: &[u8]) -> Vec<Packet> {
    let little = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(
        (little(0), little(4), little(20)),
        (0xa1b2_c3d4, 0x0004_0002, 101),
        "magic, version, LINKTYPE_RAW"
    );
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let (seconds, micros, kept, length) = (little(at), little(at + 4), little(at + 8), little(at + 12));
        assert!(kept == length && kept < little(16) && micros < 1_000_000);
        let packet = &file[at + 16..at + 16 + kept as usize];
        at += 16 + kept as usize;
        let big = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!((packet[0], packet[9], u32::from(big(2))), (0x45, 17, kept), "IPv4 without options, UDP");
        let sum: u32 = (0..10).map(|word| u32::from(big(word * 2))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header's checksum");
        assert_eq!(u32::from(big(24)) + 20, kept, "UDP's length");
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        packets.push(Packet {
            micros: u64::from(seconds) * 1_000_000 + u64::from(micros),
            from: format!("{}:{}", address(12), big(20)),
            to: format!("{}:{}", address(16), big(22)),
            payload: packet[28..].to_vec(),
        });
    }
    packets
}

#[tokio::test]
async fn a_challenged_call_is_shown_without_what_proves_the_password() {
    let lab = Lab::shared();
    let server = lab.address();
    let phone = phone(&lab, server).await;
    let challenge = format!(
        "WWW-Authenticate: Digest realm=\"{server}\", nonce=\"n0nce-of-the-server\", algorithm=SHA-256, qop=\"auth\"\n"
    );
    let script = Script::callee()
        .invited()
        .reply_with("401 Unauthorized", &challenge, "")
        .receive("ACK")
        .invited()
        .answer(&pcmu(&["a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:S2V5T2ZNZWRpYQ"]))
        .receive("ACK")
        .hung_up();
    let peer = Sipp::callee_at(&lab, server, script, &[]).await;
    let file = lab.path("trace.pcap");
    // Two at once.
    let text = trace(&phone, &["--pcap", file.to_str().unwrap()], "tracing voipd").await;
    let json = trace(&phone, &["--json"], "started").await;

    let options = DialOptions { account: Some("desk".into()), ..DialOptions::default() };
    let call = phone.dial_with("bob", options).await;
    call.is("active").await;
    call.hang_up().await;
    let (text, json) = (whole_call(text).await, whole_call(json).await);
    let sent = peer.messages();
    peer.succeeds().await;

    let records = records(&json);
    assert_eq!(
        flow(&records),
        [
            "out INVITE (1 INVITE)",
            "in 401 (1 INVITE)",
            "out ACK (1 ACK)",
            "out INVITE (2 INVITE)",
            "in 200 (2 INVITE)",
            "out ACK (2 ACK)",
            "out BYE (3 BYE)",
            "in 200 (3 BYE)",
        ]
    );
    let (local, remote) = (format!("{}:5060", phone.address), format!("{server}:5060"));
    for record in &records {
        assert_eq!(record["call"], 1, "{record}");
        assert_eq!(
            (record["transport"].as_str(), record["local"].as_str()),
            (Some("UDP"), Some(local.as_str()))
        );
        assert_eq!(record["remote"], remote.as_str());
    }
    assert!(text.contains(&format!(" {local} -> {remote} UDP call 1\n    INVITE sip:bob@")), "{text}");
    assert!(
        text.contains(&format!(" {local} <- {remote} UDP call 1\n    SIP/2.0 401 Unauthorized\n")),
        "{text}"
    );

    let capture = std::fs::read(&file).unwrap();
    let packets = packets(&capture);
    // One of the two may have heard of a repetition that came at the end.
    assert!(packets.len() >= flow(&records).len(), "{} packets", packets.len());
    for (packet, record) in packets.iter().zip(&records) {
        let (from, to) = if record["direction"] == "out" { (&local, &remote) } else { (&remote, &local) };
        assert_eq!((&packet.from, &packet.to), (from, to));
        assert_eq!(packet.payload, record["text"].as_str().unwrap().as_bytes());
        // The clock is read once for both.
        assert_eq!(Some(packet.micros), record["time"].as_u64());
    }

    // What was on the wire, and may be nowhere here.
    let value = |name: &str| {
        let (_, rest) = sent.split_once(name).unwrap_or_else(|| panic!("no {name} in:\n{sent}"));
        rest.split('"').next().unwrap().to_owned()
    };
    let capture = String::from_utf8_lossy(&capture);
    let secrets =
        [value("response=\""), value("cnonce=\""), "n0nce-of-the-server".into(), "S2V5T2ZNZWRpYQ".into()];
    for secret in secrets {
        assert!(secret.len() > 5 && sent.contains(&secret), "{secret}");
        for shown in [&text, &json, &*capture] {
            assert!(!shown.contains(&secret), "{secret} is in:\n{shown}");
        }
    }
    assert!(text.contains("username=\"alice\"") && text.contains("response=***"), "{text}");
    assert!(text.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 ***"), "{text}");
    phone.stop().await;
}

#[tokio::test]
async fn one_call_alone_can_be_traced() {
    let lab = Lab::shared();
    let alice = phone(&lab, lab.address()).await;
    let echo = Config::at(lab.address()).account("name = \"echo\"\nkind = \"echo\"");
    let echo = Voipd::start(&lab, "echo", echo).await;
    let target = format!("sip:echo@{}", echo.address);
    let first = alice.dial(&target).await;
    first.is("active").await;
    let second = alice.dial(&target).await;
    second.is("active").await;
    first.is("held").await;

    // What began before is known as well.
    let brief = trace(&alice, &["--call", "2", "--brief"], "tracing voipd").await;
    let all = trace(&alice, &["--json"], "started").await;
    first.hang_up().await;
    let all = whole_call(all).await;
    assert_eq!(flow(&records(&all)).len(), 2, "{all}");
    assert!(records(&all).iter().all(|record| record["call"] == 1), "{all}");
    second.hang_up().await;
    let brief = whole_brief(brief).await;
    let lines: Vec<&str> = brief.lines().skip(1).collect();
    assert!(lines.iter().all(|line| line.contains(" UDP call 2: ")), "{brief}");
    assert!(lines[0].contains(" -> ") && lines[0].contains(": BYE sip:"), "{brief}");
    assert!(lines[lines.len() - 1].ends_with(": SIP/2.0 200 OK"), "{brief}");

    let strange = Voipctl::start(alice.voipctl(&["trace", "--call", "7"])).ends().await;
    strange.fails(1, &["7"]);
    alice.stop().await;
    echo.stop().await;
}

async fn whole_brief(mut trace: Voipctl) -> String {
    trace.says(": SIP/2.0 200 OK").await;
    trace.signal(Signal::SIGINT);
    trace.ends().await.well().to_owned()
}

/// A stranger who sends requests and waits for the answers.
struct Stranger(UdpSocket, u32);

impl Stranger {
    fn at(lab: &Lab, phone: &Voipd) -> Self {
        let socket = UdpSocket::bind((lab.address(), 0)).unwrap();
        socket.connect((phone.address, 5060)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(socket, 0)
    }

    /// Sends a request of some length; it or its answer may be lost.
    fn ask(&mut self, length: usize) {
        self.1 += 1;
        let (number, own, filling) = (self.1, self.0.local_addr().unwrap(), "x".repeat(length));
        let request = format!(
            "OPTIONS sip:phone@host SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{number}\r\nFrom: <sip:s@{own}>;tag=1\r\n\
             To: <sip:phone@host>\r\nCall-ID: {number}@stranger\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
             Subject: {filling}\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.send(request.as_bytes()).unwrap();
        let _ = self.0.recv(&mut [0; 4096]);
    }
}

async fn reader(phone: &Voipd) -> Lines<BufReader<UnixStream>> {
    let pipe: OwnedFd = phone.manager().await.trace(&TraceOptions::default()).await.unwrap().into();
    let socket = Socket::from(pipe);
    socket.set_nonblocking(true).unwrap();
    BufReader::new(UnixStream::from_std(socket).unwrap()).lines()
}

async fn next(reader: &mut Lines<BufReader<UnixStream>>) -> Value {
    let line = tokio::time::timeout(SOON, reader.next_line()).await.expect("a record in time");
    serde_json::from_str(&line.unwrap().expect("the trace goes on")).unwrap()
}

#[tokio::test]
async fn a_reader_that_is_too_slow_loses_messages_and_is_told_how_many() {
    let lab = Lab::shared();
    let phone = phone(&lab, lab.address()).await;
    let mut slow = reader(&phone).await;
    let mut stranger = Stranger::at(&lab, &phone);
    for _ in 0..1000 {
        stranger.ask(3000);
    }
    // What is waiting is read, and what comes then is complete again.
    let (mut shown, mut lost) = (0, 0);
    let last = loop {
        let record = next(&mut slow).await;
        match (record["lost"].as_u64(), record["text"].as_str()) {
            (Some(more), _) => lost += more,
            (None, Some(text)) if text.contains("Subject: x\r\n") => break record,
            _ => shown += 1,
        }
        stranger.ask(1);
    };
    assert!(shown > 100 && lost > 100, "{shown} shown, {lost} lost");
    assert_eq!((&last["direction"], &last["call"]), (&Value::from("in"), &Value::Null));
    phone.stop().await;
}

#[tokio::test]
async fn voipd_goes_on_when_readers_leave() {
    let lab = Lab::shared();
    let phone = phone(&lab, lab.address()).await;
    let mut stranger = Stranger::at(&lab, &phone);
    // More than there may be at once, one after the other: the places of those who left are free again.
    for _ in 0..20 {
        let mut one = reader(&phone).await;
        stranger.ask(1);
        assert_eq!(next(&mut one).await["direction"], "in");
    }
    let mut stays = reader(&phone).await;
    let killed = trace(&phone, &["--brief"], "tracing voipd").await;
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.ends().await.code, 128 + 9);
    stranger.ask(1);
    assert_eq!(next(&mut stays).await["direction"], "in");
    assert_eq!(next(&mut stays).await["direction"], "out");
    let watched = trace(&phone, &[], "tracing voipd").await;
    phone.stop().await;
    watched_to_the_end(watched).await;
}

/// A trace of a daemon that has ended says so.
async fn watched_to_the_end(trace: Voipctl) {
    let ended = trace.ends().await;
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.errors.contains("voipd went away"), "{}", ended.errors);
}
