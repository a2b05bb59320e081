//! A router's SIP ALG that rewrites what it should leave alone, in the ways that real ones do: registrations and calls
//! go on.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::home::*;
use crate::common::nat::{Mapping, Way};
use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, RegistrationState, SessionId};

const FRIEND: &str = "198.51.100.7:5060";

/// Writes one address in place of another, in the lines that begin with one of these.
fn replace(text: &str, fields: &[&str], from: SocketAddr, to: SocketAddr) -> String {
    let lines = text.split("\r\n").map(|line| {
        let is_meant = fields.iter().any(|field| line.starts_with(field));
        let (whole, host) = (from.to_string(), from.ip().to_string());
        match is_meant {
            true if line.contains(&whole) => line.replace(&whole, &to.to_string()),
            true => line.replace(&host, &to.ip().to_string()),
            false => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// The telephone at home, whose SDP names its own address, and a friend outside who calls it by what he sees.
struct Meddled {
    home: Home,
    friend: HostId,
}

fn offer_from(place: SocketAddr, port: u16) -> Vec<u8> {
    let ip = place.ip();
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=sendrecv\r\n")
        .into_bytes()
}

impl Meddled {
    fn new(alg: impl FnMut(Way, SocketAddr, SocketAddr, String) -> String + 'static) -> Self {
        let mut home = Home::behind(Mapping::Cone, Duration::from_secs(120));
        home.net.router(OUTSIDE).alg = Some(Box::new(alg));
        let friend = home.net.agent(FRIEND);
        home.net.with(friend, |e, _| e.add_identity(identity("<sip:bob@198.51.100.7>")));
        Self { home, friend }
    }

    /// A call from inside, through offer, answer and hold, ended by the friend.
    fn call_out(&mut self) -> Vec<Vec<u8>> {
        let (phone, id) = (self.home.phone, self.home.id);
        let inside: SocketAddr = INSIDE.parse().unwrap();
        let target = "sip:bob@198.51.100.7".parse().unwrap();
        let net = &mut self.home.net;
        let call = net.with(phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        net.with(phone, |e, now| e.send_invite(now, call, offer_from(inside, 4000))).unwrap();
        net.run_ms(100);
        let (theirs, offer) = self.rings();
        let mut offers = vec![offer];
        let net = &mut self.home.net;
        net.with(self.friend, |e, now| e.accept(now, theirs, ANSWER.to_vec())).unwrap();
        net.run_ms(100);
        let events = net.events(phone);
        assert!(events.iter().any(|event| matches!(event, Event::Answered { .. })), "{events:?}");
        let events = net.events(self.friend);
        assert!(events.iter().any(|event| matches!(event, Event::Confirmed { .. })), "{events:?}");
        // Both sides find each other in the dialog.
        net.with(phone, |e, now| e.offer(now, call, offer_from(inside, 4002))).unwrap();
        net.run_ms(100);
        let events = net.events(self.friend);
        let Some(Event::Offered { sdp: Some(sdp), .. }) = events.first() else { panic!("{events:?}") };
        offers.push(sdp.clone());
        net.with(self.friend, |e, now| e.answer_offer(now, theirs, Ok(ANSWER.to_vec()))).unwrap();
        net.run_ms(100);
        net.events(phone);
        net.with(self.friend, |e, now| e.offer(now, theirs, ANSWER.to_vec())).unwrap();
        net.run_ms(100);
        let events = net.events(phone);
        assert!(matches!(events[..], [Event::Offered { .. }]), "{events:?}");
        net.with(phone, |e, now| e.answer_offer(now, call, Ok(offer_from(inside, 4002)))).unwrap();
        net.run_ms(100);
        net.with(self.friend, |e, now| e.hangup(now, theirs)).unwrap();
        net.run_ms(100);
        assert_eq!(end_of(&net.events(phone), call).cause, EndCause::Remote);
        offers
    }

    fn rings(&mut self) -> (SessionId, Vec<u8>) {
        let events = self.home.net.events(self.friend);
        let Some(Event::Incoming(incoming)) = events.first() else { panic!("{events:?}") };
        (incoming.session, incoming.offer.clone().expect("an offer"))
    }

    /// A call of the friend's to the registered Contact, as the registrar passes it on; answered and ended inside.
    fn call_in(&mut self) {
        let (_, register) = self.home.registers(self.home.server).pop().unwrap();
        let contact = register.headers.contacts().unwrap()[0].uri.to_string();
        let (place, _) = contacts(&register)[0].clone();
        let invite = format!(
            "INVITE {contact} SIP/2.0
Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKinvite1
Max-Forwards: 70
From: <sip:peer@example.org>;tag=peer
To: <sip:alice@example.org>
Call-ID: inbound-1
CSeq: 7 INVITE
Contact: <sip:peer@198.51.100.1:5060>
Content-Length: 0

"
        );
        let (phone, server) = (self.home.phone, self.home.server);
        self.home.net.events(phone);
        self.home.net.send_to(server, &place, crlf(&invite).as_bytes());
        self.home.net.run_ms(100);
        let events = self.home.net.events(phone);
        let Some(Event::Incoming(call)) = events.first() else { panic!("{events:?}") };
        assert_eq!(call.identity, Some(self.home.id), "the call is the account's");
    }

    fn is_registered(&mut self) {
        self.home.register();
        let states = self.home.states();
        assert!(matches!(states.last(), Some(RegistrationState::Registered { .. })), "{states:?}");
    }
}

const SIP_ADDRESSES: &[&str] = &["Via:", "Contact:"];
const SDP_ADDRESSES: &[&str] = &["o=", "c="];

/// One that knows what it does: all there, and back.
fn both_ways(way: Way, inside: SocketAddr, outside: SocketAddr, text: String) -> String {
    let fields = [SIP_ADDRESSES, SDP_ADDRESSES, &["INVITE ", "BYE ", "ACK "]].concat();
    match way {
        Way::Out => with_length(&replace(&text, &fields, inside, outside)),
        Way::In => with_length(&replace(&text, &fields, outside, inside)),
    }
}

/// One that forgets what it has written: there, and not back.
fn outwards_only(way: Way, inside: SocketAddr, outside: SocketAddr, text: String) -> String {
    let fields = [SIP_ADDRESSES, SDP_ADDRESSES].concat();
    match way {
        Way::Out => with_length(&replace(&text, &fields, inside, outside)),
        Way::In => text,
    }
}

/// One that writes longer addresses into SDP and leaves Content-Length as it was.
fn with_the_old_length(way: Way, inside: SocketAddr, outside: SocketAddr, text: String) -> String {
    match way {
        Way::Out => replace(&text, &[SIP_ADDRESSES, SDP_ADDRESSES].concat(), inside, outside),
        Way::In => text,
    }
}

/// One that knows Contact and nothing else, and puts its own name where our user part was.
fn with_another_user(way: Way, inside: SocketAddr, outside: SocketAddr, text: String) -> String {
    let lines = text.split("\r\n").map(|line| match (way, line.strip_prefix("Contact: <sip:")) {
        (Way::In, Some(rest)) if rest.contains(&outside.to_string()) => {
            let rest = rest.split_once('@').unwrap().1;
            format!("Contact: <sip:line1@{rest}").replace(&outside.to_string(), &inside.to_string())
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

fn with_length(text: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let head = head.split("\r\n").map(|line| match line.starts_with("Content-Length:") {
        true => format!("Content-Length: {}", body.len()),
        false => line.to_owned(),
    });
    format!("{}\r\n\r\n{body}", head.collect::<Vec<_>>().join("\r\n"))
}

#[test]
fn one_that_rewrites_both_ways_is_lived_with() {
    let mut meddled = Meddled::new(both_ways);
    meddled.is_registered();
    // Taking our own address back has taken back what it makes of it: that is noticed, and not done again.
    let all = meddled.home.net.capture.clone();
    let registers = all.iter().filter(|(.., bytes)| bytes.starts_with(b"REGISTER"));
    let counts: Vec<usize> = registers
        .map(|(.., bytes)| match read(bytes) {
            voipd_sip::Message::Request(request) => contacts(&request).len(),
            voipd_sip::Message::Response(_) => 0,
        })
        .collect();
    assert_eq!(counts, [1, 2, 1]);
    meddled.call_in();
    meddled.call_out();
}

#[test]
fn one_that_rewrites_via_and_contact_and_never_back_is_lived_with() {
    let mut meddled = Meddled::new(outwards_only);
    meddled.is_registered();
    // The responses have another address in Via and Contact than we wrote.
    // What it has written in our place is where we are seen: there is nothing to correct, least of all by taking back
    // what it would make of our own address.
    assert_eq!(times(&meddled.home.net, meddled.home.phone, "REGISTER").len(), 1);
    meddled.call_in();
    meddled.call_out();
}

#[test]
fn a_description_whose_length_was_forgotten_is_read_whole() {
    let mut meddled = Meddled::new(with_the_old_length);
    meddled.is_registered();
    for (offer, port) in meddled.call_out().iter().zip([4000, 4002]) {
        let offer = String::from_utf8(offer.clone()).unwrap();
        assert!(offer.contains("c=IN IP4 203.0.113.5\r\n"), "{offer}");
        assert!(offer.contains(&format!("m=audio {port}")), "{offer}");
        assert!(offer.ends_with("a=sendrecv\r\n"), "{offer}");
    }
}

#[test]
fn our_binding_is_known_by_its_instance_where_even_its_user_was_rewritten() {
    let mut meddled = Meddled::new(with_another_user);
    meddled.home.set(|request| {
        let mut response = grant(request, &[]);
        response.headers.push("Contact", "<sip:desk@192.0.2.77>;expires=5");
        response
    });
    meddled.is_registered();
    let mut last = None;
    meddled.home.register();
    for state in meddled.home.states() {
        last = Some(state);
    }
    // Not the other telephone's five seconds.
    assert!(matches!(last, None | Some(RegistrationState::Registered { expires: 3600 })), "{last:?}");
}

#[test]
fn what_an_alg_keeps_open_is_kept_open_by_us_as_well() {
    let mut meddled = Meddled::new(outwards_only);
    meddled.is_registered();
    meddled.home.net.run(Duration::from_secs(120));
    assert!(meddled.home.pings().len() >= 4, "{:?}", meddled.home.pings());
}
