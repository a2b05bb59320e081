//! A call between Alice, an endpoint, and a peer that says what the test tells it to.

use std::time::Duration;

use voipd_sip::endpoint::{Event, InviteOptions, SessionError, SessionId};
use voipd_sip::message::{Message, Request, Response};
use voipd_sip::{Endpoint, Method};

use super::{ANSWER, HostId, Net, OFFER, answer, crlf, identity, incoming, read, with_sdp};

/// One way through the network.
const LATENCY: u64 = 10;

pub struct Script {
    pub net: Net,
    pub alice: HostId,
    pub peer: HostId,
    pub session: SessionId,
    /// Of the call, as it came first.
    pub invite: Request,
    /// From and To of the peer's requests.
    from: String,
    to: String,
    call_id: String,
    /// Number of the peer's last request, and of its last INVITE.
    cseq: u32,
    invited: u32,
}

impl Script {
    /// The peer's INVITE has reached Alice.
    pub fn calls(headers: &str, sdp: &[u8]) -> Self {
        let mut script = Self::try_call(Net::new(), headers, sdp);
        script.session = incoming(&script.events());
        script
    }

    /// The peer's INVITE has been sent to whoever answers it.
    pub fn try_call(mut net: Net, headers: &str, sdp: &[u8]) -> Self {
        let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
        Self::between(net, alice, peer, headers, sdp)
    }

    pub fn between(net: Net, alice: HostId, peer: HostId, headers: &str, sdp: &[u8]) -> Self {
        let Message::Request(blank) = read(crlf(BLANK).as_bytes()) else { unreachable!() };
        let (from, to) = ("<sip:peer@192.0.2.9>;tag=peer".to_owned(), "<sip:alice@192.0.2.1>".to_owned());
        let (session, call_id) = (SessionId(0), "script-1".to_owned());
        let mut script =
            Self { net, alice, peer, session, invite: blank, from, to, call_id, cseq: 0, invited: 0 };
        script.invite = script.request("INVITE", headers, sdp);
        script
    }

    /// Alice's INVITE has reached the peer.
    pub fn called() -> Self {
        let mut net = Net::new();
        let (alice, peer) = (net.agent("192.0.2.1:5060"), net.raw("192.0.2.9:5060"));
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let target = "sip:peer@192.0.2.9".parse().unwrap();
        let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        net.run_ms(LATENCY);
        net.events(alice);
        let invite = net.requests(peer).remove(0);
        let (from, to) = (format!("{};tag=peer", invite.to), invite.from.to_string());
        let call_id = invite.call_id.clone();
        Self { net, alice, peer, session, invite, from, to, call_id, cseq: 0, invited: 0 }
    }

    /// The peer has called, and Alice has answered; `headers` are those of the INVITE.
    pub fn talks(headers: &str) -> Self {
        let mut script = Self::calls(headers, OFFER);
        script.act(|e, now, session| e.accept(now, session, ANSWER.to_vec())).unwrap();
        script.response(200);
        script.ack(b"");
        assert!(matches!(script.event(), Event::Confirmed { .. }));
        script
    }

    /// Alice has called, and the peer has answered; `headers` are those of its 2xx.
    pub fn answered(headers: &str) -> Self {
        let mut script = Self::called();
        script.respond(200, headers, ANSWER);
        assert!(matches!(script.event(), Event::Answered { .. }));
        script.next("ACK");
        script
    }

    pub fn act<R>(&mut self, act: impl FnOnce(&mut Endpoint, std::time::Instant, SessionId) -> R) -> R {
        let session = self.session;
        self.net.with(self.alice, |endpoint, now| act(endpoint, now, session))
    }

    pub fn offer(&mut self, sdp: &[u8]) -> Result<(), SessionError> {
        self.act(|e, now, session| e.offer(now, session, sdp.to_vec()))
    }

    pub fn answer_offer(&mut self, sdp: &[u8]) {
        self.act(|e, now, session| e.answer_offer(now, session, Ok(sdp.to_vec()))).unwrap();
    }

    // The peer speaks.

    /// The peer's next request in the dialog; it reaches Alice.
    pub fn request(&mut self, name: &str, headers: &str, sdp: &[u8]) -> Request {
        self.cseq += 1;
        if name == "INVITE" {
            self.invited = self.cseq;
        }
        self.request_numbered(name, self.cseq, headers, sdp)
    }

    pub fn request_numbered(&mut self, name: &str, cseq: u32, headers: &str, sdp: &[u8]) -> Request {
        let described = !sdp.is_empty() && !headers.contains("Content-Type:");
        let content = if described { "Content-Type: application/sdp\n" } else { "" };
        let placed = !headers.contains("Contact:");
        let contact = if placed { "Contact: <sip:peer@192.0.2.9:5060>\n" } else { "" };
        let text = format!(
            "{name} sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{name}{cseq}
From: {}
To: {}
Call-ID: {}
CSeq: {cseq} {name}
{contact}{headers}{content}Content-Length: {}

",
            self.from,
            self.to,
            self.call_id,
            sdp.len()
        );
        let bytes = [crlf(&text).as_bytes(), sdp].concat();
        self.net.send(self.peer, self.alice, &bytes);
        self.net.run_ms(LATENCY);
        let Message::Request(request) = read(&bytes) else { unreachable!() };
        request
    }

    /// ACK for the final response to the peer's last INVITE.
    pub fn ack(&mut self, sdp: &[u8]) {
        self.request_numbered("ACK", self.invited, "", sdp);
    }

    /// The peer acknowledges a provisional response.
    pub fn prack(&mut self, response: &Response, sdp: &[u8]) -> Request {
        let rseq = response.headers.get("RSeq").expect("a reliable response");
        assert_eq!(response.headers.tokens("Require"), ["100rel"]);
        let header = format!("RAck: {rseq} {}\n", response.cseq);
        self.request("PRACK", &header, sdp)
    }

    /// The peer answers Alice's INVITE; the response reaches her.
    pub fn respond(&mut self, code: u16, headers: &str, sdp: &[u8]) {
        let invite = self.invite.clone();
        self.reply(&invite, code, headers, sdp);
    }

    /// A reliable provisional response to Alice's INVITE.
    pub fn respond_reliably(&mut self, code: u16, rseq: u32, sdp: &[u8]) {
        let headers = format!("Require: 100rel\nRSeq: {rseq}\nAllow: INVITE, ACK, BYE, UPDATE, PRACK\n");
        self.respond(code, &headers, sdp);
    }

    /// The peer answers a request of Alice's.
    pub fn reply(&mut self, request: &Request, code: u16, headers: &str, sdp: &[u8]) {
        let mut response = answer(request, code, "peer");
        for line in headers.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            response.headers.push(name, value);
        }
        if request.method == Method::Invite || request.method == Method::Update {
            response.headers.push("Contact", "<sip:peer@192.0.2.9:5060>");
        }
        let response = if sdp.is_empty() { response } else { with_sdp(response, sdp) };
        self.net.respond(self.peer, self.alice, &response);
        self.net.run_ms(LATENCY);
    }

    // The peer listens.

    /// All requests that have come.
    pub fn requests(&mut self) -> Vec<Request> {
        self.net.run_ms(LATENCY);
        self.net.requests(self.peer)
    }

    /// The only request that has come.
    pub fn next(&mut self, name: &str) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), [name]);
        requests.remove(0)
    }

    /// The next request, which comes within so many seconds.
    pub fn wait(&mut self, name: &str, seconds: u64) -> Request {
        for _ in 0..seconds * 100 {
            let requests = self.requests();
            if !requests.is_empty() {
                assert_eq!(
                    requests.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(),
                    [name]
                );
                return requests.into_iter().next().unwrap();
            }
        }
        panic!("no {name} came in {seconds} s");
    }

    /// The only response that has come; Alice's To tag is known from then on.
    pub fn response(&mut self, code: u16) -> Response {
        self.net.run_ms(LATENCY);
        let mut responses = self.net.responses(self.peer);
        assert_eq!(responses.iter().map(|response| response.status.get()).collect::<Vec<_>>(), [code]);
        let response = responses.remove(0);
        if !self.to.contains("tag=") {
            self.to = response.to.to_string();
        }
        response
    }

    /// Status codes of what has come.
    pub fn statuses(&mut self) -> Vec<u16> {
        self.net.run_ms(LATENCY);
        self.net.responses(self.peer).iter().map(|response| response.status.get()).collect()
    }

    // Alice tells.

    pub fn events(&mut self) -> Vec<Event> {
        self.net.events(self.alice)
    }

    /// The only event since.
    pub fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    pub fn no_event(&mut self) {
        let events = self.events();
        assert!(events.is_empty(), "{events:?}");
    }

    pub fn run_s(&mut self, seconds: u64) {
        self.net.run(Duration::from_secs(seconds));
    }

    /// Alice hangs up, and the peer takes it: nothing is left, and no event but the end has come.
    pub fn ends_well(mut self) {
        self.no_event();
        self.act(|e, now, session| e.hangup(now, session)).unwrap();
        let bye = self.next("BYE");
        self.reply(&bye, 200, "", b"");
        assert!(matches!(self.event(), Event::Ended { .. }));
        self.run_s(70);
        assert!(self.act(|e, _, _| e.is_idle()));
    }
}

const BLANK: &str = "OPTIONS sip:a SIP/2.0
Via: SIP/2.0/UDP a;branch=z9hG4bK0
From: <sip:a>;tag=a
To: <sip:a>
Call-ID: a
CSeq: 1 OPTIONS
Content-Length: 0

";
