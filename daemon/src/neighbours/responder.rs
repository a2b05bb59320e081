//! Whether our own announcement is answered: it asks by multicast DNS as any program on the network would, and looks
//! whether we are among those who answer. Only the head of an answer is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::table::local_networks;

/// RFC 6762 section 3.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// A question may be lost, and answers to it may be delayed by 120 ms (RFC 6762 section 6).
const QUESTIONS: u32 = 3;
/// Between them, and for the last one's answer.
const WAIT: Duration = Duration::from_millis(500);
/// `_sip._udp.local`, PTR, IN (RFC 1035 section 4.1.2).
const QUESTION: &[u8] = b"\x04_sip\x04_udp\x05local\0\0\x0c\0\x01";
/// Length of a message's head.
const HEAD: usize = 12;

/// Whether the announcement is answered on every network that this machine is on, to a question from a port of its own
/// (RFC 6762 section 6.7). `id`: of the question.
///
/// # Errors
/// In which network it is not, in words.
pub async fn answers(id: u16) -> Result<(), String> {
    let networks = local_networks();
    if networks.is_empty() {
        return Err("this machine is on no network".to_owned());
    }
    let asked = networks.iter().map(async |(address, _)| match ask(*address, id).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("nothing answers multicast DNS on the network of {address}")),
        Err(error) => Err(format!("multicast DNS cannot be asked from {address}: {error}")),
    });
    join_all(asked).await.into_iter().collect()
}

/// Whether this machine itself answers in the network of that address of ours.
async fn ask(address: Ipv4Addr, id: u16) -> io::Result<bool> {
    // Bound to an address, what goes to a group leaves by that address's interface, and comes back to this machine.
    let socket = UdpSocket::bind((address, 0)).await?;
    let mut question = vec![0; HEAD];
    question[..2].copy_from_slice(&id.to_be_bytes());
    question[5] = 1;
    question.extend_from_slice(QUESTION);
    for _ in 0..QUESTIONS {
        socket.send_to(&question, GROUP).await?;
        let until = Instant::now() + WAIT;
        let mut answer = [0; 1500];
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut answer)).await {
            let (length, source) = received?;
            if is_answer(answer.get(..length).unwrap_or_default(), id) && is_ours(source) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A response to this question with at least one record.
fn is_answer(message: &[u8], id: u16) -> bool {
    let Some(&[a, b, flags, _, _, _, high, low, ..]) = message.get(..HEAD) else { return false };
    u16::from_be_bytes([a, b]) == id && flags & 0x80 != 0 && u16::from_be_bytes([high, low]) != 0
}

fn is_ours(source: SocketAddr) -> bool {
    local_networks().iter().any(|(address, _)| source.ip() == IpAddr::V4(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_our_question_counts() {
        let mut answer = [7, 8, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        assert!(is_answer(&answer, 0x0708));
        assert!(!is_answer(&answer, 0x0709) && !is_answer(&answer[..11], 0x0708));
        answer[7] = 0;
        assert!(!is_answer(&answer, 0x0708), "it holds nothing");
        let question = [7, 8, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        assert!(!is_answer(&question, 0x0708));
    }
}
