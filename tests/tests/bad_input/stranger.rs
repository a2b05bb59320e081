//! A stranger with a UDP socket, who sends whatever comes to mind, and the messages it sends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use voipd_tests::{Lab, SOON};

/// A socket at an address of its own.
pub struct Stranger {
    pub socket: UdpSocket,
    pub address: Ipv4Addr,
}

impl Stranger {
    pub async fn new(lab: &Lab) -> Self {
        Self::at(lab.address(), 5060).await
    }

    pub async fn at(address: Ipv4Addr, port: u16) -> Self {
        Self { socket: UdpSocket::bind((address, port)).await.unwrap(), address }
    }

    pub async fn send(&self, to: impl Into<SocketAddr>, bytes: &[u8]) {
        self.socket.send_to(bytes, to.into()).await.unwrap();
    }

    /// The next message, with its sender.
    pub async fn receive(&self) -> (String, SocketAddr) {
        self.receive_within(SOON).await.expect("a message")
    }

    /// The next message within a time.
    pub async fn receive_within(&self, limit: Duration) -> Option<(String, SocketAddr)> {
        let mut buffer = vec![0; 65_536];
        let (len, from) =
            tokio::time::timeout(limit, self.socket.recv_from(&mut buffer)).await.ok()?.unwrap();
        Some((String::from_utf8_lossy(&buffer[..len]).into_owned(), from))
    }

    /// Everything that has come so far and comes within a moment.
    pub async fn inbox(&self) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some((message, _)) = self.receive_within(Duration::from_millis(200)).await {
            messages.push(message);
        }
        messages
    }

    /// A request that is well made, to `user` at a host. `number` makes it another one.
    pub fn request(&self, method: &str, user: &str, host: Ipv4Addr, number: u32, body: &str) -> String {
        let own = self.address;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:{user}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {own}:5060;branch=z9hG4bK-{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:stranger@{own}>;tag=t{number}\r\nTo: <sip:{user}@{host}>\r\n\
             Call-ID: {number}@{own}\r\nCSeq: 1 {method}\r\nContact: <sip:stranger@{own}:5060>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// An offer of PCMU to a port of this address.
    pub fn offer(&self, port: u16) -> String {
        let own = self.address;
        format!(
            "v=0\r\no=- 1 1 IN IP4 {own}\r\ns=-\r\nc=IN IP4 {own}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\n"
        )
    }

    /// Asks the daemon at `host` whether it is there, as any peer may, and waits for the answer.
    pub async fn is_answered(&self, host: Ipv4Addr, number: u32) {
        let request = self.request("OPTIONS", "phone", host, number, "");
        let mark = format!("branch=z9hG4bK-{number}");
        for _ in 0..20 {
            self.send((host, 5060), request.as_bytes()).await;
            while let Some((message, _)) = self.receive_within(Duration::from_millis(500)).await {
                if message.contains(&mark) {
                    assert!(message.starts_with("SIP/2.0 "), "{message}");
                    return;
                }
            }
        }
        panic!("no answer from {host}");
    }
}

/// The status code of a response.
pub fn status(message: &str) -> u16 {
    let code = message.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no response: {message}"))
}

/// A header's value.
pub fn header<'m>(message: &'m str, name: &str) -> &'m str {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name}: {message}"))
}

/// A response to a request, with header lines, each with its line end, and a body.
pub fn response(request: &str, status: &str, headers: &str, body: &str) -> String {
    let to = header(request, "To");
    let tag = if to.contains("tag=") { "" } else { ";tag=stranger" };
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        header(request, "Via"),
        header(request, "From"),
        header(request, "Call-ID"),
        header(request, "CSeq"),
        body.len()
    )
}

/// Bytes that look like chance and are the same in each run (xorshift).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
