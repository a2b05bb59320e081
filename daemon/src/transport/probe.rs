//! Knocks at a server's door to see whether it is there: by sockets of its own, which end with it. It registers nothing
//! and calls nobody.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use voipd_sip::uri::Host;

use super::local_ip_towards_ip;
use super::udp::{Received, UdpSocket};
use crate::doctor::PATIENCE;
use crate::tls::{self, Requirement};

/// T1 of RFC 3261: how long the first answer is waited for; then twice as long.
const T1: Duration = Duration::from_millis(500);
/// Requests that are sent: at 0, 0.5 and 1.5 s.
const REQUESTS: u32 = 3;

/// Asks a SIP server by UDP what it can (OPTIONS, RFC 3261 section 11). Any answer will do.
///
/// # Errors
/// A few words about why there is none.
pub async fn options(server: SocketAddr, host: &Host, seed: [u8; 32]) -> Result<(), String> {
    let local = local_ip_towards_ip(server.ip()).ok_or("there is no route to it")?;
    let socket = UdpSocket::bind(SocketAddr::new(local, 0)).map_err(|error| error.to_string())?;
    let (request, call_id) = request(socket.bound(), host, seed);
    let asked = async {
        let mut wait = T1;
        for _ in 0..REQUESTS {
            socket.send(local, server, request.as_bytes()).map_err(|error| words(&error))?;
            if let Ok(answer) = timeout(wait, answer(&socket, server, &call_id)).await {
                return answer;
            }
            wait *= 2;
        }
        // The last answer may still be on its way, until the patience ends.
        answer(&socket, server, &call_id).await
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}

/// Connects by TCP and, where `tls` says what the server must prove, makes a TLS handshake.
///
/// # Errors
/// A few words about why that fails.
pub async fn connect(server: SocketAddr, tls: Option<&Arc<Requirement>>) -> Result<(), String> {
    let connected = async {
        let stream = TcpStream::connect(server).await.map_err(|error| words(&error))?;
        let Some(requirement) = tls else { return Ok(()) };
        let connector = TlsConnector::from(Arc::clone(&requirement.config));
        match connector.connect(requirement.indication.clone(), stream).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let meaning = tls::failure(&error, requirement.was_asked());
                Err(meaning.map_or_else(|| words(&error), |meaning| meaning.to_string()))
            }
        }
    };
    timeout(PATIENCE, connected).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
}

async fn answer(socket: &UdpSocket, server: SocketAddr, call_id: &str) -> Result<(), String> {
    let mut buffer = [0; 4096];
    loop {
        match socket.receive(&mut buffer).await.map_err(|error| words(&error))? {
            Received::Datagram { len, .. } => {
                let text = String::from_utf8_lossy(buffer.get(..len).unwrap_or_default());
                // From whatever address: a server with several may answer from another one.
                if text.starts_with("SIP/2.0 ") && text.contains(call_id) {
                    return Ok(());
                }
            }
            Received::Unreachable(remote) if remote == server => {
                return Err("nothing listens there".to_owned());
            }
            Received::Unreachable(_) => {}
        }
    }
}

fn request(local: SocketAddr, host: &Host, seed: [u8; 32]) -> (String, String) {
    let mut rng = ChaCha8Rng::from_seed(seed);
    let mut token = || format!("{:016x}", rng.next_u64());
    let (branch, tag, call_id) = (token(), token(), token());
    let request = format!(
        "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:voipd@{from}>;tag={tag}\r\nTo: <sip:{host}>\r\nCall-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n\
         Contact: <sip:voipd@{local}>\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n",
        from = Host::Ip(local.ip()),
    );
    (request, call_id)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::TimedOut => "it does not answer".to_owned(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => "it hangs up".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_answers_with_sip_is_there_and_who_does_not_is_not() {
        let host = Host::Ip("127.0.0.1".parse().unwrap());
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serve = async {
            let mut buffer = [0; 4096];
            loop {
                let (len, from) = server.recv_from(&mut buffer).await.unwrap();
                let text = std::str::from_utf8(&buffer[..len]).unwrap();
                assert!(text.starts_with("OPTIONS sip:127.0.0.1 SIP/2.0\r\n"), "{text}");
                let call_id = text.lines().find(|line| line.starts_with("Call-ID")).unwrap();
                // Noise, another's answer, and then ours.
                for answer in [
                    "noise".to_owned(),
                    "SIP/2.0 200 OK\r\n\r\n".to_owned(),
                    format!("SIP/2.0 404 No\r\n{call_id}\r\n\r\n"),
                ] {
                    server.send_to(answer.as_bytes(), from).await.unwrap();
                }
            }
        };
        let found = tokio::select! {
            found = options(address, &host, [1; 32]) => found,
            () = serve => unreachable!(),
        };
        assert_eq!(found, Ok(()));
        drop(server);
        assert_eq!(options(address, &host, [1; 32]).await, Err("nothing listens there".to_owned()));
    }

    #[tokio::test]
    async fn a_port_that_takes_connections_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connect(address, None).await, Ok(()));
        drop(listener);
        assert_eq!(connect(address, None).await, Err("nothing listens there".to_owned()));
    }
}
