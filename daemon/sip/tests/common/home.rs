//! A telephone behind a home's router, and a registrar without passwords outside, which grants what it is told to.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use voipd_sip::endpoint::{Event, Identity, IdentityId, RegistrationState};
use voipd_sip::message::{Method, Request, Response};

use super::nat::Mapping;
use super::{HostId, Net, answer, subscriber};

pub const INSIDE: &str = "192.168.1.2:5060";
pub const OUTSIDE: &str = "203.0.113.5";
pub const REGISTRAR: &str = "198.51.100.1:5060";
pub const SECOND: &str = "198.51.100.2:5060";
pub const INSTANCE: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";

type Script = Box<dyn FnMut(&Request) -> Response>;

pub struct Home {
    pub net: Net,
    pub phone: HostId,
    pub server: HostId,
    pub id: IdentityId,
    script: Rc<RefCell<Script>>,
}

/// 200 with the Contacts of the request and these header fields.
pub fn grant(request: &Request, headers: &[(&str, &str)]) -> Response {
    let mut response = answer(request, 200, "registrar");
    // One after the other: what is taken back behind is gone.
    let gone: Vec<String> = taken_back(request);
    for contact in request.headers.get_all("Contact").filter(|contact| !contact.ends_with("expires=0")) {
        if !gone.iter().any(|uri| contact.starts_with(uri)) {
            response.headers.push("Contact", contact);
        }
    }
    headers.iter().for_each(|(name, value)| response.headers.push(name, *value));
    response
}

/// What a registrar says that binds flows.
pub const BINDS_FLOWS: &[(&str, &str)] = &[("Require", "outbound")];

pub fn telephone() -> Identity {
    let identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "secret");
    Identity { instance: Some(INSTANCE.to_owned()), ..identity }
}

impl Home {
    /// Behind a router that keeps translations for so long.
    pub fn behind(mapping: Mapping, life: Duration) -> Self {
        let mut home = Self::open(telephone());
        home.net.nat(INSIDE, OUTSIDE, mapping, life);
        home
    }

    /// Behind a router that keeps translations for half a minute.
    pub fn new() -> Self {
        Self::behind(Mapping::Cone, Duration::from_secs(30))
    }

    /// Without a router.
    pub fn open(identity: Identity) -> Self {
        let script: Rc<RefCell<Script>> = Rc::new(RefCell::new(Box::new(|request| grant(request, &[]))));
        let mut net = Net::new();
        net.stun = true;
        let phone = net.agent(INSIDE);
        let server = net.server(REGISTRAR, serve(&script));
        net.name("example.org", &[REGISTRAR]);
        let id = net.with(phone, |e, _| e.add_identity(identity));
        Self { net, phone, server, id, script }
    }

    /// Another server, beside the first.
    pub fn second_server(&mut self) -> HostId {
        let second = self.net.server(SECOND, serve(&self.script));
        self.net.name("example.org", &[REGISTRAR, SECOND]);
        second
    }

    /// What REGISTER and all else is answered with.
    pub fn set(&mut self, script: impl FnMut(&Request) -> Response + 'static) {
        *self.script.borrow_mut() = Box::new(script);
    }

    /// The function that its servers answer by.
    pub fn script(&self) -> impl FnMut(std::time::Instant, &Request) -> Vec<Response> + 'static {
        serve(&self.script)
    }

    /// Registered, with these header fields in each 200.
    pub fn registered(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.set(move |request| grant(request, headers));
        self.register();
        assert!(matches!(self.state(), Some(RegistrationState::Registered { .. })));
        self
    }

    pub fn register(&mut self) {
        let id = self.id;
        self.net.with(self.phone, |e, now| e.register(now, id)).unwrap();
        self.net.run_ms(1000);
    }

    pub fn states(&mut self) -> Vec<RegistrationState> {
        let events = self.net.events(self.phone).into_iter();
        events
            .filter_map(|event| match event {
                Event::Registration { state, .. } => Some(state),
                _ => None,
            })
            .collect()
    }

    pub fn state(&mut self) -> Option<RegistrationState> {
        self.states().pop()
    }

    /// REGISTERs that a server has got, with their times.
    pub fn registers(&mut self, server: HostId) -> Vec<(Duration, Request)> {
        let seen = self.net.seen(server).into_iter();
        seen.filter(|(_, request)| request.method == Method::Register).collect()
    }

    /// When the telephone sent what, in seconds.
    pub fn sent(&self, what: impl Fn(&[u8]) -> bool) -> Vec<u64> {
        let inside = self.net.address(self.phone);
        let sent = self.net.capture.iter().filter(|(_, from, _, bytes)| *from == inside && what(bytes));
        sent.map(|(at, ..)| at.as_secs()).collect()
    }

    pub fn pings(&self) -> Vec<u64> {
        self.sent(|bytes| bytes == b"\r\n\r\n")
    }

    pub fn stun_requests(&self) -> Vec<u64> {
        self.sent(|bytes| bytes.starts_with(&[0, 1]))
    }
}

/// The URIs in angle brackets that a REGISTER takes back.
fn taken_back(request: &Request) -> Vec<String> {
    let contacts = request.headers.get_all("Contact").filter(|contact| contact.ends_with("expires=0"));
    contacts.map(|contact| contact.split_inclusive('>').next().unwrap().to_owned()).collect()
}

/// The Contacts of a REGISTER: host and port, and for how long.
pub fn contacts(request: &Request) -> Vec<(String, String)> {
    let contacts = request.headers.contacts().unwrap().into_iter();
    contacts
        .map(|contact| {
            let uri = contact.uri.to_string();
            let place = uri.split('@').nth(1).unwrap().split(';').next().unwrap().to_owned();
            (place, contact.params.value("expires").unwrap().to_owned())
        })
        .collect()
}

fn serve(
    script: &Rc<RefCell<Script>>,
) -> impl FnMut(std::time::Instant, &Request) -> Vec<Response> + 'static {
    let script = Rc::clone(script);
    move |_, request: &Request| match request.method {
        Method::Ack => Vec::new(),
        _ => vec![script.borrow_mut()(request)],
    }
}
