//! Load on a telephone: many calls at once, calls one after another, and calls at a rate.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::Lab;
use crate::process::{Process, program};
use crate::sipp::{Script, Sipp, pcmu};

/// So many PCMU calls that last so long, all begun within a second. What the telephone sends comes back to it.
///
/// `user` names who is called; it may hold `[call_number]`.
pub fn calls(lab: &Lab, from: Ipv4Addr, to: Ipv4Addr, user: &str, count: u32, time: Duration) -> Sipp {
    calls_with(lab, (from, to), user, count, time, &pcmu(&[]))
}

/// The same with a session description of one's own: what the telephone sends goes where that says.
pub fn calls_with(
    lab: &Lab,
    (from, to): (Ipv4Addr, Ipv4Addr),
    user: &str,
    count: u32,
    time: Duration,
    description: &str,
) -> Sipp {
    let line = format!("INVITE sip:{user}@[remote_ip]:[remote_port] SIP/2.0");
    let script = Script::caller()
        .invite_as(&line, "", description)
        .perhaps(100)
        .perhaps(180)
        .expect(200)
        .request("ACK", "")
        .pause(u32::try_from(time.as_millis()).unwrap())
        .hang_up();
    let count = count.to_string();
    Sipp::caller_at(lab, from, to, script, &["-r", &count, "-m", &count])
}

/// How calls at a rate went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Calls a second that were really made.
    pub rate: f64,
    /// Calls that failed.
    pub failed: u64,
    /// Messages that SIPp had to send again, because the answer did not come within half a second.
    pub retransmissions: u64,
}

/// Makes short calls at a rate, hung up as soon as they are answered.
pub async fn calls_at_rate(
    lab: &Lab,
    (from, to): (Ipv4Addr, Ipv4Addr),
    user: &str,
    rate: u32,
    time: Duration,
) -> Outcome {
    let line = format!("INVITE sip:{user}@[remote_ip]:[remote_port] SIP/2.0");
    let script = Script::caller()
        .invite_as(&line, "", &pcmu(&[]))
        .perhaps(100)
        .perhaps(180)
        .expect(200)
        .request("ACK", "")
        .hang_up();
    let files = lab.directory(&format!("load-{user}-{to}-{rate}"));
    std::fs::write(files.join("script.xml"), script.xml()).unwrap();
    let calls = u64::from(rate) * time.as_secs();
    let limit = 3 * time + Duration::from_secs(10);
    let mut command = program("sipp");
    command.arg(format!("{to}:5060")).args(["-sf", "script.xml", "-p", "5060", "-i"]).arg(from.to_string());
    command.args(["-r", &rate.to_string(), "-m", &calls.to_string(), "-l", &(3 * rate).to_string()]);
    command.args(["-nostdin", "-skip_rlimit", "-trace_stat", "-fd", "1", "-stf", "statistics.csv"]);
    // What SIPp has not done until then has failed.
    command.args(["-timeout", &limit.as_secs().to_string(), "-timeout_error"]);
    command.current_dir(&files);
    let mut process = Process::start("SIPp", command, &files.join("screen"));
    process.wait(limit + Duration::from_secs(40)).await;
    let statistics = std::fs::read_to_string(files.join("statistics.csv")).unwrap();
    let mut lines = statistics.lines();
    let names: Vec<&str> = lines.next().unwrap().split(';').collect();
    let values: Vec<&str> = lines.last().unwrap().split(';').collect();
    let value = |name: &str| {
        let index = names.iter().position(|found| *found == name);
        let index = index.unwrap_or_else(|| panic!("SIPp's statistics have no {name}: {names:?}"));
        values[index]
    };
    let number = |name: &str| value(name).parse::<u64>().unwrap();
    let done = number("SuccessfulCall(C)");
    Outcome {
        rate: value("CallRate(C)").parse().unwrap(),
        failed: calls.saturating_sub(done),
        retransmissions: number("Retransmissions(C)"),
    }
}

/// Calls again and again, one call after the other, and answers how many milliseconds each INVITE waited for its 200.
pub fn answer_times(from: Ipv4Addr, to: Ipv4Addr, user: &str, count: u32) -> Vec<f64> {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect(SocketAddr::from((to, 5060))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let local = socket.local_addr().unwrap();
    let sdp = format!(
        "v=0\r\no=peer 1 1 IN IP4 {from}\r\ns=-\r\nc=IN IP4 {from}\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\n"
    );
    let mut buffer = [0; 4096];
    // Waits for the final response to a request.
    let mut response = |method: &str, number: u32| loop {
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("no answer to {method} {number} from {to}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.starts_with("SIP/2.0 1") || !text.contains(&format!("CSeq: {number} {method}")) {
            continue;
        }
        assert!(text.starts_with("SIP/2.0 200"), "{method} {number}: {text}");
        break text;
    };
    let header = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    let mut times = Vec::new();
    for number in 1..=count {
        let request = |method: &str, cseq: u32, target: &str, to: &str, body: &str| {
            let length = body.len();
            let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
            format!(
                "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-{method}-{cseq}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:peer@{local}>;tag={number}\r\nTo: {to}\r\n\
                 Call-ID: {number}@{local}\r\nCSeq: {cseq} {method}\r\nContact: <sip:peer@{local}>\r\n\
                 {kind}Content-Length: {length}\r\n\r\n{body}"
            )
        };
        // Numbers go on from call to call, so that a late message of the call before is told apart.
        let cseq = 2 * number;
        let target = format!("sip:{user}@{to}");
        let invite = request("INVITE", cseq, &target, &format!("<{target}>"), &sdp);
        let start = Instant::now();
        socket.send(invite.as_bytes()).unwrap();
        let answer = response("INVITE", cseq);
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        let to = header(&answer, "To:");
        let contact = header(&answer, "Contact:");
        let target = contact.split(['<', '>']).nth(1).unwrap_or(&contact);
        socket.send(request("ACK", cseq, target, &to, "").as_bytes()).unwrap();
        socket.send(request("BYE", cseq + 1, target, &to, "").as_bytes()).unwrap();
        response("BYE", cseq + 1);
        std::thread::sleep(Duration::from_millis(10));
    }
    times
}
