//! A scripted SIP peer: says exactly what the test wants, and keeps the numbers of one dialog for it.

use voipd_agent::view::CallId;
use voipd_sip::message::{Request, Response};
use voipd_sip::uri::Uri;

use super::{HostId, World, crlf, status};

/// One dialog of a raw host with an agent.
pub struct Peer {
    pub host: HostId,
    pub agent: HostId,
    pub call_id: String,
    pub cseq: u32,
    branch: u32,
    /// Of its responses to the INVITE that called it.
    pub tag: &'static str,
    /// The peer's own address, with its tag.
    local: String,
    /// The agent's address; with its tag, once that is known.
    remote: String,
    /// The agent's contact.
    target: String,
}

impl Peer {
    /// One that is going to call `uri`.
    pub fn calling(world: &World, host: HostId, agent: HostId, uri: &str) -> Self {
        let address = world.address(host);
        Self {
            host,
            agent,
            call_id: format!("call-{}-{}", address.port(), world.capture.len()),
            cseq: 1,
            branch: 0,
            tag: "peer",
            local: format!("\"Peer\" <sip:peer@{address}>;tag=peer"),
            remote: format!("<{uri}>"),
            target: uri.to_owned(),
        }
    }

    /// One that has been called with this INVITE.
    pub fn called(host: HostId, agent: HostId, invite: &Request) -> Self {
        let contact = invite.headers.contacts().unwrap().remove(0);
        Self {
            host,
            agent,
            call_id: invite.call_id.clone(),
            cseq: 100,
            branch: 0,
            tag: "peer",
            local: format!("{};tag=peer", invite.to),
            remote: invite.from.to_string(),
            target: match contact.uri {
                Uri::Sip(uri) => Uri::Sip(uri).to_string(),
                Uri::Other { .. } => panic!("no contact"),
            },
        }
    }

    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Learns the agent's tag and contact from its 2xx or 18x.
    pub fn learn(&mut self, response: &Response) {
        self.remote = response.to.to_string();
        if let Ok(mut contacts) = response.headers.contacts()
            && !contacts.is_empty()
        {
            self.target = contacts.remove(0).uri.to_string();
        }
    }

    /// Sends a request; all but ACK and CANCEL take a new number.
    pub fn request(&mut self, world: &mut World, method: &str, body: &str) {
        self.request_with(world, method, "", body);
    }

    /// Sends a request with header lines of its own.
    pub fn request_with(&mut self, world: &mut World, method: &str, headers: &str, body: &str) {
        if !matches!(method, "ACK" | "CANCEL") {
            self.cseq += 1;
        }
        // CANCEL has the branch of what it cancels.
        if method != "CANCEL" {
            self.branch += 1;
        }
        self.send(world, method, headers, body);
    }

    /// Sends a request once more.
    pub fn repeat(&self, world: &mut World, method: &str, body: &str) {
        self.send(world, method, "", body);
    }

    fn send(&self, world: &mut World, method: &str, headers: &str, body: &str) {
        let address = world.address(self.host);
        let (host, agent) = (self.host, self.agent);
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
        let Self { call_id, cseq, branch, local, remote, target, .. } = self;
        let body = crlf(body);
        let text = format!(
            "{method} {target} SIP/2.0\n\
             Via: SIP/2.0/UDP {address};branch=z9hG4bK-{call_id}-{branch};rport\n\
             Max-Forwards: 70\nFrom: {local}\nTo: {remote}\nCall-ID: {call_id}\nCSeq: {cseq} {method}\n\
             Contact: <sip:peer@{address}>\n{headers}{kind}Content-Length: {}\n\n",
            body.len()
        );
        world.send(host, agent, (crlf(&text) + &body).as_bytes());
    }

    /// Answers a request.
    pub fn answer(&self, world: &mut World, request: &Request, code: u16, sdp: &str) {
        self.answer_with(world, request, code, "", sdp);
    }

    /// Answers a request with header lines of its own.
    pub fn answer_with(&self, world: &mut World, request: &Request, code: u16, headers: &str, sdp: &str) {
        let mut response = request.response(status(code));
        if code > 100 && response.to.tag().is_none() {
            response.to.params.set("tag", Some(self.tag));
        }
        let address = world.address(self.host);
        response.headers.push("Contact", format!("<sip:peer@{address}>"));
        for line in headers.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            response.headers.push(name, value);
        }
        if !sdp.is_empty() {
            response.headers.push("Content-Type", "application/sdp");
            response.body = crlf(sdp).into_bytes();
        }
        world.respond(self.host, self.agent, &response);
    }
}

/// A telephone that has dialled a scripted peer, whose INVITE waits for the answer.
pub struct Called {
    pub world: World,
    pub alice: HostId,
    pub raw: HostId,
    pub call: CallId,
    pub invite: Request,
    pub peer: Peer,
}

impl Called {
    pub fn new() -> Self {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let raw = world.raw("192.0.2.9:5060");
        let call = world.dial(alice, "sip:peer@192.0.2.9");
        world.run_ms(50);
        let invite = world.requests(raw).remove(0);
        let peer = Peer::called(raw, alice, &invite);
        Self { world, alice, raw, call, invite, peer }
    }
}

/// A session description with PCMU and telephone-event.
pub fn sdp(address: &str, port: u16, direction: &str) -> String {
    format!(
        "v=0\no=- 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio {port} RTP/AVP 0 101\n\
         a=rtpmap:101 telephone-event/8000\na={direction}\n"
    )
}

/// A session description with a codec that nobody here has.
pub fn strange_sdp(address: &str, port: u16) -> String {
    format!(
        "v=0\no=- 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio {port} RTP/AVP 18\n\
         a=rtpmap:18 G729/8000\n"
    )
}
