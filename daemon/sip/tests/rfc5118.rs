//! What a user agent does with the cases of RFC 5118 (IPv6 in SIP), one test for each of its sections. The messages are
//! our own, made as the sections describe.

use std::net::{IpAddr, Ipv6Addr};

use crate::common::*;
use voipd_sip::endpoint::{Event, Incoming};
use voipd_sip::message::Response;
use voipd_sip::uri::{Host, SipUri};
use voipd_sip::{Method, Request, Uri};

const ALICE: &str = "[2001:db8::1]:5060";
const PEER: &str = "[2001:db8::9:1]:5060";

/// A request with these parts, as the peer sends it.
fn text(method: &str, uri: &str, vias: &[&str], extra: &str, body: &str) -> String {
    let vias: String = vias.iter().map(|via| format!("Via: SIP/2.0/UDP {via}\n")).collect();
    format!(
        "{method} {uri} SIP/2.0
{vias}From: <sip:peer@[2001:db8::9:1]>;tag=81x2
To: <sip:alice@example.com>
Call-ID: rfc5118@[2001:db8::9:1]
CSeq: 98176 {method}
Max-Forwards: 70
{extra}Content-Length: {}

{body}",
        crlf(body).len()
    )
}

struct Talk {
    net: Net,
    alice: HostId,
    peer: HostId,
}

impl Talk {
    fn new() -> Self {
        let mut net = Net::new();
        let (alice, peer) = (net.agent(ALICE), net.raw(PEER));
        Self { net, alice, peer }
    }

    fn say(&mut self, text: &str) -> Vec<Response> {
        self.net.say(self.peer, self.alice, text);
        self.net.run_ms(30);
        self.net.responses(self.peer)
    }

    /// The only answer.
    fn ask(&mut self, text: &str) -> Response {
        let mut responses = self.say(text);
        assert_eq!(responses.len(), 1, "{text}");
        responses.remove(0)
    }

    /// The INVITE rings.
    fn ring(&mut self, text: &str) -> Incoming {
        assert!(self.say(text).is_empty(), "{text}");
        match self.net.events(self.alice).remove(0) {
            Event::Incoming(incoming) => incoming,
            other => panic!("{other:?}"),
        }
    }
}

fn request(text: &str) -> Request {
    match read(crlf(text).as_bytes()) {
        voipd_sip::Message::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn sip(uri: &Uri) -> &SipUri {
    match uri {
        Uri::Sip(uri) => uri,
        Uri::Other { .. } => panic!("{uri}"),
    }
}

fn v6(text: &str) -> Host {
    Host::Ip(IpAddr::V6(text.parse::<Ipv6Addr>().unwrap()))
}

const VIA: &str = "[2001:db8::9:1];branch=z9hG4bKas3-111";

#[test]
fn section_4_1_a_message_with_ipv6_references_is_valid() {
    let mut talk = Talk::new();
    let text = text("REGISTER", "sip:[2001:db8::10]", &[VIA], "Contact: <sip:peer@[2001:db8::9:1]>\n", "");
    let register = request(&text);
    assert_eq!(sip(&register.uri).host, v6("2001:db8::10"));
    assert_eq!(sip(&register.headers.contacts().unwrap()[0].uri).host, v6("2001:db8::9:1"));
    let response = talk.ask(&text);
    assert_eq!(response.status.get(), 405, "understood, but this is no registrar");
    assert_eq!(response.via[0].to_string(), "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111");
}

#[test]
fn section_4_2_an_ipv6_address_without_brackets_in_the_request_uri_is_refused() {
    let mut talk = Talk::new();
    let response = talk.ask(&text("REGISTER", "sip:2001:db8::10", &[VIA], "", ""));
    assert_eq!(response.status.get(), 400);
    assert_eq!(response.call_id, "rfc5118@[2001:db8::9:1]");
}

#[test]
fn section_4_3_what_stands_within_the_brackets_is_the_address_and_no_port() {
    let mut talk = Talk::new();
    let text = text("REGISTER", "sip:[2001:db8::10:5070]", &[VIA], "", "");
    let register = request(&text);
    let uri = sip(&register.uri);
    assert_eq!((&uri.host, uri.port), (&v6("2001:db8::10:5070"), None));
    assert_eq!(talk.ask(&text).status.get(), 405);
}

#[test]
fn section_4_4_a_port_stands_behind_the_brackets() {
    let mut talk = Talk::new();
    let text = text("REGISTER", "sip:[2001:db8::10]:5070", &[VIA], "", "");
    let register = request(&text);
    let uri = sip(&register.uri);
    assert_eq!((&uri.host, uri.port), (&v6("2001:db8::10"), Some(5070)));
    assert_eq!(talk.ask(&text).status.get(), 405);
}

#[test]
fn section_4_5_received_is_understood_with_and_without_brackets() {
    for received in ["[2001:db8::9:255]", "2001:db8::9:255"] {
        let mut talk = Talk::new();
        let via = format!("[2001:db8::9:1];received={received};branch=z9hG4bKas3-111");
        let lower = format!("[2001:db8::7];received={received};branch=z9hG4bKlower");
        let text = text("BYE", "sip:alice@[2001:db8::1]", &[&via, &lower], "", "");
        assert_eq!(request(&text).via[0].params.value("received"), Some(received));
        let response = talk.ask(&text);
        assert_eq!(response.status.get(), 481, "read, and of no dialog");
        // The topmost is ours to correct, the others stay as they came.
        assert_eq!(response.via[0].params.value("received"), None, "it came from where it says");
        assert_eq!(response.via[1].params.value("received"), Some(received));
    }
    // What we write ourselves has no brackets, as RFC 3261 has it.
    let mut talk = Talk::new();
    let via = "[2001:db8::7]:5060;rport;branch=z9hG4bKnat";
    let response = talk.ask(&text("OPTIONS", "sip:alice@[2001:db8::1]", &[via], "", ""));
    assert_eq!(response.via[0].params.value("received"), Some("2001:db8::9:1"));
}

#[test]
fn section_4_6_an_offer_with_ipv6_addresses_reaches_the_user() {
    let mut talk = Talk::new();
    let body = "v=0\no=peer 971731711378798081 0 IN IP6 2001:db8::20\ns=-\nc=IN IP6 2001:db8::20\nt=0 0\n\
                m=audio 6000 RTP/AVP 0\n";
    let extra = "Contact: <sip:peer@[2001:db8::9:1]>\nContent-Type: application/sdp\n";
    let incoming = talk.ring(&text("INVITE", "sip:alice@[2001:db8::1]", &[VIA], extra, body));
    assert_eq!(incoming.offer.as_deref(), Some(crlf(body).as_bytes()));
    talk.net.with(talk.alice, |e, now| e.accept(now, incoming.session, ANSWER.to_vec())).unwrap();
    talk.net.run_ms(30);
    let ok = talk.net.responses(talk.peer).pop().unwrap();
    assert_eq!(sip(&ok.headers.contacts().unwrap()[0].uri).host, v6("2001:db8::1"));
}

#[test]
fn section_4_7_addresses_of_both_families_stand_side_by_side() {
    let mut talk = Talk::new();
    let vias = [
        "[2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
        "192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144",
        "[2001:db8::20];branch=z9hG4bK451jj;received=192.0.2.200",
    ];
    let near = talk.net.raw("[2001:db8::9:1]:6050");
    let extra = "Contact: <sip:peer@[2001:db8::20]>, <sip:peer@192.0.2.20>\n";
    let incoming = talk.ring(&text("INVITE", "sip:alice@[2001:db8::1]", &vias, extra, ""));
    talk.net.with(talk.alice, |e, now| e.ring(now, incoming.session, None)).unwrap();
    talk.net.run_ms(30);
    let ringing = talk.net.responses(near).remove(0);
    let written: Vec<_> = ringing.via.iter().map(|via| via.to_string()).collect();
    assert_eq!(written, vias.map(|via| format!("SIP/2.0/UDP {via}")));
}

#[test]
fn section_4_8_an_offer_of_streams_on_both_families_reaches_the_user() {
    let mut talk = Talk::new();
    let body = "v=0\no=bob 280744730 28977631 IN IP4 host.example.com\ns=-\nt=0 0\n\
                m=audio 22334 RTP/AVP 0\nc=IN IP4 192.0.2.1\n\
                m=video 6024 RTP/AVP 107\nc=IN IP6 2001:db8::1\na=rtpmap:107 H263-1998/90000\n";
    let extra = "Contact: <sip:peer@[2001:db8::9:1]>\nContent-Type: application/sdp\n";
    let incoming = talk.ring(&text("INVITE", "sip:alice@[2001:db8::1]", &[VIA], extra, body));
    assert_eq!(incoming.offer.as_deref(), Some(crlf(body).as_bytes()));
}

#[test]
fn section_4_9_ipv4_mapped_addresses_are_addresses() {
    let mut talk = Talk::new();
    let vias =
        ["[::ffff:192.0.2.10]:19823;rport;branch=z9hG4bKbh19", "[::ffff:192.0.2.2];branch=z9hG4bKas3-111"];
    let body = "v=0\no=bob 280744730 28977631 IN IP6 ::ffff:192.0.2.2\ns=-\nc=IN IP6 ::ffff:192.0.2.2\nt=0 0\n\
                m=audio 22334 RTP/AVP 0\n";
    let extra = "Contact: \"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>\nContent-Type: application/sdp\n";
    let text = text("INVITE", "sip:alice@[2001:db8::1]", &vias, extra, body);
    let invite = request(&text);
    assert_eq!(invite.via[1].host, v6("::ffff:192.0.2.2"));
    assert_eq!((&invite.via[0].host, invite.via[0].port), (&v6("::ffff:192.0.2.10"), Some(19823)));
    let contact = invite.headers.contacts().unwrap().remove(0);
    assert_eq!(contact.display_name.as_deref(), Some("T. desk phone"));
    assert_eq!(contact.uri.to_string(), "sip:ted@[::ffff:192.0.2.2]");
    assert!(talk.ring(&text).offer.is_some());
}

#[test]
fn section_4_10_the_third_colon_of_rfc_3261_s_grammar_is_tolerated() {
    for uri in ["sip:user@[2001:db8:::192.0.2.1]", "sip:user@[2001:db8::192.0.2.1]"] {
        let mut talk = Talk::new();
        let text = text("OPTIONS", uri, &["[2001:db8:::192.0.2.1];branch=z9hG4bKas3-111"], "", "")
            .replace("<sip:alice@example.com>", &format!("<{uri}>"));
        let options = request(&text);
        assert_eq!(options.method, Method::Options);
        assert_eq!(sip(&options.uri).host, v6("2001:db8::192.0.2.1"));
        assert_eq!(options.via[0].host, v6("2001:db8::192.0.2.1"));
        let response = talk.ask(&text);
        assert_eq!(response.status.get(), 200);
        // We do not write it so.
        assert_eq!(sip(&response.to.uri).host, v6("2001:db8::192.0.2.1"));
        assert!(!response.to.to_string().contains(":::"), "{}", response.to);
    }
    // Nowhere else, and not twice.
    for bad in
        ["[2001:db8:::1]", "[:::]", "[2001:::db8:::192.0.2.1]", "[2001::db8:::192.0.2.1]", "[1::::192.0.2.1]"]
    {
        assert!(format!("sip:user@{bad}").parse::<Uri>().is_err(), "{bad}");
    }
}
