//! Packets that nobody asked for, on the ports of a daemon in a call.

use std::net::SocketAddr;
use std::time::Duration;

use voipd_dbus::Figures;
use voipd_tests::{Config, Lab, Voipd, pause, timely};

use super::stranger::{Chance, Stranger, status};
use super::witness::{Talk, Witness, with_echo};

/// Lines of the log that everyone reads.
fn told(voipd: &Voipd) -> usize {
    voipd.log().lines().filter(|line| line.contains(" INFO ") || line.contains(" WARN ")).count()
}

/// Resident memory in kibibytes.
fn memory(voipd: &Voipd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", voipd.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What is no SIP, or too much of it.
fn junk(stranger: &Stranger, voipd: &Voipd, chance: &mut Chance) -> Vec<Vec<u8>> {
    let host = voipd.address;
    let invite = stranger.request("INVITE", "phone", host, 7, &stranger.offer(6000));
    let options = stranger.request("OPTIONS", "phone", host, 8, "");
    let mut junk = Vec::new();
    for length in [0, 1, 2, 4, 19, 100, 1000, 1472, 9000, 65_507] {
        junk.push(chance.bytes(length));
    }
    // A message that ends too early, at many places.
    junk.extend((1..invite.len()).step_by(13).map(|end| invite.as_bytes()[..end].to_vec()));
    // One byte is another one.
    for _ in 0..150 {
        let mut bytes = options.clone().into_bytes();
        let at = chance.below(bytes.len());
        bytes[at] = chance.bytes(1)[0];
        junk.push(bytes);
    }
    // The largest datagram that UDP over IPv4 carries: in a header, in headers, in the body, in the request line.
    let fill = |before: &str, unit: &str, after: &str| {
        let room = 65_507 - before.len() - after.len();
        format!("{before}{}{after}", unit.repeat(room / unit.len())).into_bytes()
    };
    let (line, rest) = options.split_once("\r\n").unwrap();
    junk.push(fill(&format!("{line}\r\nSubject: "), "x", &format!("\r\n{rest}")));
    junk.push(fill(&format!("{line}\r\n"), "X: y\r\n", rest));
    junk.push(fill(&format!("{line}\r\n"), "Via: SIP/2.0/UDP h;branch=z9hG4bK\r\n", rest));
    junk.push(fill(&options.replace("Content-Length: 0", "Content-Length: 65000"), "b", ""));
    junk.push(fill("OPTIONS sip:", "a", &format!("@{host} SIP/2.0\r\n{rest}")));
    junk.push(fill(&format!("{line}\r\nFrom: "), "(", &format!("\r\n{rest}")));
    // Lengths that lie, addresses that are none, answers to nothing, requests of calls that are not there.
    for (from, to) in [
        ("Content-Length: 0", "Content-Length: 99999999999999999999"),
        ("Content-Length: 0", "Content-Length: -1"),
        ("Content-Length: 0", "Content-Length: 10\r\nContent-Length: 20"),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        ("Via: SIP/2.0/UDP", "Via: SIP/2.0/SCTP"),
        ("CSeq: 1 OPTIONS", "CSeq: 4294967296 OPTIONS"),
        ("CSeq: 1 OPTIONS", "CSeq: 1 BYE"),
        ("Max-Forwards: 70", "Max-Forwards: 0"),
        ("Max-Forwards: 70", "Max-Forwards: 999999999999"),
        ("To: <sip:phone", "To: <sip:\0phone"),
        ("To: <sip:phone", "To: \"\u{202e}\\"),
        ("OPTIONS sip:phone", "DANCE sip:phone"),
        ("OPTIONS sip:", "OPTIONS tel:"),
        ("Contact: ", "Require: telepathy\r\nContact: "),
    ] {
        let changed = options.replace(from, to);
        assert_ne!(changed, options, "{from}");
        junk.push(changed.into_bytes());
    }
    let to = format!("To: <sip:phone@{host}>");
    for method in ["BYE", "CANCEL", "ACK", "INVITE", "INFO", "PRACK", "UPDATE", "REFER", "NOTIFY"] {
        let request = stranger.request(method, "phone", host, 9, "");
        junk.push(request.replace(&to, &format!("{to};tag=nobody")).into_bytes());
    }
    let answer = options.replace(line, "SIP/2.0 200 OK");
    junk.push(answer.replace("OPTIONS", "INVITE").into_bytes());
    junk.push(answer.replace("200 OK", "999 What").into_bytes());
    junk
}

#[timely]
async fn garbage_on_the_sip_port_disturbs_no_call() {
    let lab = Lab::alone();
    let talk = Talk::begin(&lab).await;
    let stranger = Stranger::new(&lab).await;
    let before = told(&talk.alice);
    let mut chance = Chance(0x5EED);
    let junk = junk(&stranger, &talk.alice, &mut chance);
    assert!(junk.len() > 200);
    let pace = Duration::from_secs_f64(talk.seconds()) / u32::try_from(junk.len()).unwrap();
    for (index, bytes) in junk.iter().enumerate() {
        stranger.send((talk.alice.address, 5060), bytes).await;
        tokio::time::sleep(pace).await;
        if index % 100 == 0 {
            stranger.is_answered(talk.alice.address, 1000 + u32::try_from(index).unwrap()).await;
        }
    }
    stranger.is_answered(talk.alice.address, 5000).await;
    assert_eq!(talk.alice.manager().await.calls().await.unwrap().len(), 1, "junk made a call");
    let told = told(&talk.alice) - before;
    assert!(told <= 20, "{told} lines in the log for {} datagrams:\n{}", junk.len(), talk.alice.log());
    talk.ends_whole().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_answered_by_its_status() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let stranger = Stranger::new(&lab).await;
    let host = voipd.address;
    let invite = |number, body: &str| stranger.request("INVITE", "phone", host, number, body);
    let offer = stranger.offer(6000);
    for (wrong, expected) in [
        (stranger.request("DANCE", "phone", host, 1, ""), 501),
        (invite(2, &offer).replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), 505),
        (invite(3, &offer).replace("CSeq: 1 INVITE", "CSeq: one INVITE"), 400),
        (invite(4, &offer).replace("application/sdp", "text/html"), 415),
        (invite(5, &offer).replace("Contact:", "Require: telepathy\r\nContact:"), 420),
        (invite(6, &offer).replace("INVITE sip:phone", "INVITE mailto:phone"), 416),
        (invite(7, &offer.replace("RTP/AVP 0", "RTP/AVP 18").replace("0 PCMU", "18 G729")), 488),
        (invite(8, "v=0\r\nthis is no description\r\n"), 488),
        (
            stranger.request("BYE", "phone", host, 9, "").replace("To: <", "To: <sip:x@y>;tag=gone\r\nX: <"),
            481,
        ),
    ] {
        stranger.send((host, 5060), wrong.as_bytes()).await;
        let answer = loop {
            let (message, _) = stranger.receive().await;
            if status(&message) >= 200 {
                break message;
            }
        };
        assert_eq!(status(&answer), expected, "{wrong}\n{answer}");
    }
    assert_eq!(voipd.log().matches(" ERROR ").count(), 0);
    voipd.stop().await;
}

/// An RTP packet.
fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An RTCP packet of a type with 32-bit words.
fn rtcp(kind: u8, count: u8, words: &[u32]) -> Vec<u8> {
    let mut packet = vec![0x80 | count, kind];
    packet.extend(u16::try_from(words.len()).unwrap().to_be_bytes());
    packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    packet
}

#[timely]
async fn garbage_and_foreign_sound_on_the_media_ports_disturb_no_call() {
    let lab = Lab::alone();
    let talk = Talk::begin(&lab).await;
    let stranger = Stranger::new(&lab).await;
    // Bob sends there: alice's port.
    let media: SocketAddr = talk.answered.proxy.remote_media().await.unwrap().parse().unwrap();
    assert_eq!(media.ip(), talk.alice.address);
    let control = SocketAddr::new(media.ip(), media.port() + 1);
    // The speeches begin after half a second; by now their streams have found each other.
    pause(0.3).await;
    let loud: Vec<u8> = (0..160).map(|n| if n % 16 < 8 { 0x80 } else { 0x00 }).collect();
    let mut chance = Chance(0xBAD);
    let rounds = ((talk.seconds() - 0.3) / 0.01) as u16;
    let mut sent = 0;
    for round in 0..rounds {
        let timestamp = u32::from(round) * 160;
        let length = chance.below(1500);
        for packet in [
            chance.bytes(length),
            // As the peer's would be, but from elsewhere and of another source.
            rtp(0, round, timestamp, 0xDEAD_BEEF, &loud),
            // A source for each packet.
            rtp(0, 7, 7, chance.next() as u32, &loud),
            // A payload type that was not agreed on, no payload, padding that is longer than the packet, an extension
            // that is, and a list of sources that is.
            rtp(77, round, timestamp, 1, &loud),
            rtp(0, round, timestamp, 2, &[]),
            [&[0xA0, 0][..], &rtp(0, round, timestamp, 3, &[0xFF; 4])[2..]].concat(),
            [&[0x90, 0][..], &rtp(0, round, timestamp, 4, &[0xFF; 4])[2..]].concat(),
            [&[0x8F, 0][..], &rtp(0, round, timestamp, 5, &[0; 8])[2..]].concat(),
            // RTCP on the RTP port: goodbye to everyone.
            rtcp(203, 1, &[0xDEAD_BEEF]),
        ] {
            stranger.send(media, &packet).await;
            sent += 1;
        }
        let length = chance.below(600);
        for packet in [
            chance.bytes(length),
            // A report of total loss, goodbyes, a length that lies, an application's packet.
            rtcp(201, 1, &[1, 2, 0xFFFF_FFFF, u32::MAX, u32::MAX, 0, 0]),
            rtcp(200, 31, &[1, 0, 0, 0, 0, 0]),
            rtcp(203, 31, &[9; 31]),
            [&[0x81, 202, 0xFF, 0xFF][..], &[1; 40]].concat(),
            rtcp(204, 0, &[1, 0x6E61_6D65]),
        ] {
            stranger.send(control, &packet).await;
        }
        pause(0.01).await;
    }
    let figures: Figures = talk.call.figures().await;
    assert!(figures.packets_invalid >= sent / 2, "{sent} foreign packets, of which {figures:?}");
    assert!(figures.remote_loss_percent < 1.0, "a stranger's report was believed: {figures:?}");
    talk.ends_whole().await;
}

#[tokio::test]
async fn many_calls_from_a_stranger_ring_nothing_and_keep_nothing() {
    let lab = Lab::shared();
    let address = lab.address();
    // Neither the direct account nor the echo service takes calls from this machine.
    let elsewhere = "allow-from = [\"192.0.2.1\"]";
    let config = Config::at(address).line("direct", elsewhere);
    let config = config.account(format!("name = \"echo\"\nkind = \"echo\"\n{elsewhere}"));
    let voipd = Voipd::start(&lab, "voipd", config).await;
    let stranger = Stranger::new(&lab).await;
    let offer = stranger.offer(6000);
    let flood = async |first: u32| {
        for number in first..first + 500 {
            let invite = stranger.request("INVITE", "phone", address, number, &offer);
            stranger.send((address, 5060), invite.as_bytes()).await;
            if number % 10 == 0 {
                // As fast as a network card of ten years ago; the answers are read, so that none is refused by ICMP.
                pause(0.001).await;
            }
        }
        stranger.inbox().await
    };
    let mut answers = flood(10_000).await;
    let (warm, before) = (memory(&voipd), told(&voipd));
    answers.extend(flood(20_000).await);
    let (hot, told) = (memory(&voipd), told(&voipd) - before);
    assert_eq!(voipd.manager().await.calls().await.unwrap(), []);
    // Whatever it says, it says no, and never that it rings.
    assert!(answers.iter().all(|answer| status(answer) >= 400), "{answers:?}");
    assert!(hot < warm + 8 * 1024, "{warm} KiB became {hot} KiB");
    assert!(told <= 20, "{told} lines in the log for 500 INVITEs:\n{}", voipd.log());
    stranger.is_answered(address, 1).await;
    voipd.stop().await;
}

#[tokio::test]
async fn a_stranger_disturbs_no_call_beside_it() {
    let lab = Lab::shared();
    let voipd = Voipd::start(&lab, "voipd", with_echo(&lab)).await;
    let mut witness = Witness::call(&voipd).await;
    let stranger = Stranger::new(&lab).await;
    // From an address that may call: ringing, and gone without a word.
    let invite = stranger.request("INVITE", "phone", voipd.address, 1, &stranger.offer(6000));
    stranger.send((voipd.address, 5060), invite.as_bytes()).await;
    let call = voipd.incoming().await;
    drop(stranger);
    call.accept().await;
    witness.goes_on().await;
    call.proxy.hangup().await.unwrap();
    witness.goes_on().await;
    voipd.stop().await;
}
