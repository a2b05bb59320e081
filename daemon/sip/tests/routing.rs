//! Where messages go: proxies, route sets loose and strict, Via and rport (RFC 3261 sections 12.2, 18.2, RFC 3581).

use crate::common::*;
use voipd_sip::endpoint::{Event, Identity, InviteOptions, SessionId};
use voipd_sip::message::Request;

/// Alice's INVITE arrives at a scripted host.
struct Out {
    net: Net,
    alice: HostId,
    session: SessionId,
}

impl Out {
    fn new(identity: Identity, names: &[(&str, &str)], target: &str) -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        names.iter().for_each(|(name, address)| net.name(name, &[address]));
        let id = net.with(alice, |e, _| e.add_identity(identity));
        let session = net
            .with(alice, |e, now| e.invite(now, id, target.parse().unwrap(), InviteOptions::default()))
            .unwrap();
        net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        Self { net, alice, session }
    }

    fn invite(&mut self, host: HostId) -> Request {
        self.net.run_ms(10);
        self.net.requests(host).pop().expect("an INVITE")
    }
}

fn routes(request: &Request) -> Vec<String> {
    request.headers.get_all("Route").map(str::to_owned).collect()
}

/// First copies of the INVITE, before a host was there to hear them.
fn first_sent_to(net: &Net) -> (String, Request) {
    let (_, _, to, bytes) = &net.capture[0];
    let voipd_sip::Message::Request(request) = read(bytes) else { panic!() };
    (to.to_string(), request)
}

#[test]
fn a_target_elsewhere_is_called_directly() {
    let identity = subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "x");
    let out = Out::new(identity, &[("b.example", "192.0.2.30:5062")], "sip:bob@b.example");
    let (to, invite) = first_sent_to(&out.net);
    assert_eq!(to, "192.0.2.30:5062");
    assert_eq!((invite.uri.to_string().as_str(), routes(&invite).len()), ("sip:bob@b.example", 0));
}

#[test]
fn a_target_in_the_own_domain_goes_to_the_registrar() {
    let identity = subscriber("<sip:alice@example.org>", "sip:reg.example.org:5070", "alice", "x");
    let out = Out::new(identity, &[("reg.example.org", "192.0.2.30:5070")], "sip:bob@Example.org");
    let (to, invite) = first_sent_to(&out.net);
    assert_eq!(to, "192.0.2.30:5070");
    assert!(invite.uri.to_string().eq_ignore_ascii_case("sip:bob@example.org"));
    assert_eq!(routes(&invite).len(), 0);
}

#[test]
fn an_outbound_proxy_takes_everything_by_a_loose_route() {
    let identity = Identity {
        outbound_proxies: vec!["sip:proxy.example.org".parse().unwrap()],
        ..subscriber("<sip:alice@example.org>", "sip:example.org", "alice", "x")
    };
    let names = [("proxy.example.org", "192.0.2.30:5060"), ("b.example", "192.0.2.31:5060")];
    let out = Out::new(identity, &names, "sip:bob@b.example?Subject=hello");
    let (to, invite) = first_sent_to(&out.net);
    assert_eq!(to, "192.0.2.30:5060");
    assert_eq!(invite.uri.to_string(), "sip:bob@b.example");
    assert_eq!(routes(&invite), ["<sip:proxy.example.org;lr>"]);
}

#[test]
fn the_target_s_port_and_maddr_are_followed() {
    let out = Out::new(identity("<sip:alice@192.0.2.1>"), &[], "sip:bob@b.example:5099;maddr=192.0.2.40");
    let (to, _) = first_sent_to(&out.net);
    assert_eq!(to, "192.0.2.40:5099");
}

#[test]
fn to_names_whom_not_where() {
    let out =
        Out::new(identity("<sip:alice@192.0.2.1>"), &[], "sip:bob@192.0.2.7:5080;transport=udp;user=phone");
    let (_, invite) = first_sent_to(&out.net);
    assert_eq!(invite.uri.to_string(), "sip:bob@192.0.2.7:5080;transport=udp;user=phone");
    assert_eq!(invite.to.uri.to_string(), "sip:bob@192.0.2.7;user=phone");
}

#[test]
fn an_ipv6_peer_is_called() {
    let mut net = Net::new();
    let alice = net.agent("[2001:db8::1]:5060");
    let bob = net.agent("[2001:db8::2]:5080");
    let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@[2001:db8::1]>")));
    let target = "sip:bob@[2001:db8::2]:5080".parse().unwrap();
    let session = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    net.run_ms(20);
    let callee = incoming(&net.events(bob));
    net.with(bob, |e, now| e.accept(now, callee, ANSWER.to_vec())).unwrap();
    net.run_ms(50);
    net.events(bob);
    net.with(bob, |e, now| e.hangup(now, callee)).unwrap();
    net.run_ms(50);
    end_of(&net.events(alice), session);
}

/// Alice's call through a scripted proxy that answers 200 with these Record-Routes; then what BYE looks like, and
/// where it goes.
fn bye_after(record_routes: &[&str], contact: &str, names: &[(&str, &str)]) -> (String, Request, Request) {
    let mut out = Out::new(identity("<sip:alice@192.0.2.1>"), names, "sip:bob@192.0.2.9");
    let proxy = out.net.raw("192.0.2.9:5060");
    out.net.run_ms(600);
    let invite = out.invite(proxy);
    let mut ok = with_sdp(with_contact(answer(&invite, 200, "bob"), contact), ANSWER);
    record_routes.iter().for_each(|route| ok.headers.push("Record-Route", *route));
    out.net.respond(proxy, out.alice, &ok);
    out.net.run_ms(20);
    let session = out.session;
    out.net.with(out.alice, |e, now| e.hangup(now, session)).unwrap();
    let mut last = out.net.capture.iter().rev();
    let (_, _, to, bytes) = last.next().unwrap();
    let (_, _, ack_to, ack) = last.next().unwrap();
    assert_eq!(to, ack_to, "ACK and BYE take the same way");
    match (read(bytes), read(ack)) {
        (voipd_sip::Message::Request(bye), voipd_sip::Message::Request(ack)) => (to.to_string(), bye, ack),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_record_route_the_peer_is_talked_to_directly() {
    let (to, bye, ack) = bye_after(&[], "<sip:bob@192.0.2.77:5066>", &[]);
    assert_eq!(to, "192.0.2.77:5066");
    assert_eq!((ack.method.as_str(), bye.method.as_str()), ("ACK", "BYE"));
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.77:5066");
    assert_eq!(ack.uri, bye.uri);
    assert!(routes(&bye).is_empty() && routes(&ack).is_empty());
    assert_eq!((ack.cseq, bye.cseq), (1, 2));
}

#[test]
fn loose_routers_are_followed_in_reverse_order() {
    let routers = ["<sip:far.example;lr>", "<sip:192.0.2.9;lr;x=y>"];
    let (to, bye, ack) = bye_after(&routers, "<sip:bob@192.0.2.77>", &[]);
    assert_eq!(to, "192.0.2.9:5060");
    assert_eq!(bye.uri.to_string(), "sip:bob@192.0.2.77");
    assert_eq!(routes(&bye), ["<sip:192.0.2.9;lr;x=y>", "<sip:far.example;lr>"]);
    assert_eq!(routes(&ack), routes(&bye));
}

#[test]
fn a_strict_router_gets_the_request_uri_and_the_target_comes_last() {
    let routers = ["<sip:far.example;lr>, <sip:strict.example:5077>"];
    let (to, bye, _) = bye_after(&routers, "<sip:bob@192.0.2.77>", &[("strict.example", "192.0.2.66:5077")]);
    assert_eq!(to, "192.0.2.66:5077");
    assert_eq!(bye.uri.to_string(), "sip:strict.example:5077");
    assert_eq!(routes(&bye), ["<sip:far.example;lr>", "<sip:bob@192.0.2.77>"]);
}

/// A scripted peer calls Alice.
fn invite_text(via: &str, extra: &str) -> String {
    format!(
        "INVITE sip:alice@192.0.2.1 SIP/2.0
{via}
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: routed
CSeq: 1 INVITE
Contact: <sip:peer@192.0.2.88:5088>
{extra}Content-Length: 0

"
    )
}

#[test]
fn a_callee_follows_record_route_in_order_and_copies_it() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let proxy = net.raw("192.0.2.9:5060");
    let vias = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb\nVia: SIP/2.0/UDP 192.0.2.88;branch=z9hG4bKa;received=1.2.3.4";
    let record = "Record-Route: <sip:192.0.2.9;lr>\nRecord-Route: <sip:edge.example;lr>\n";
    net.say(proxy, alice, &invite_text(vias, record));
    net.run_ms(10);
    let session = incoming(&net.events(alice));
    net.with(alice, |e, now| e.ring(now, session, None)).unwrap();
    net.with(alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    net.run_ms(10);
    for response in net.responses(proxy) {
        assert_eq!(response.via.len(), 2);
        assert_eq!(
            response.via[1].params.value("received"),
            Some("1.2.3.4"),
            "only the top one is ours to stamp"
        );
        let copied: Vec<_> = response.headers.get_all("Record-Route").collect();
        assert_eq!(copied, ["<sip:192.0.2.9;lr>", "<sip:edge.example;lr>"]);
        assert!(response.headers.get("Contact").unwrap().contains("@192.0.2.1:5060"));
    }
    let ack = invite_text("Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKc", "").replace("INVITE", "ACK");
    let tag = {
        let (_, _, _, bytes) = net.capture.last().unwrap();
        let voipd_sip::Message::Response(response) = read(bytes) else { panic!() };
        response.to.tag().unwrap().to_owned()
    };
    net.say(
        proxy,
        alice,
        &ack.replace("To: <sip:alice@192.0.2.1>", &format!("To: <sip:alice@192.0.2.1>;tag={tag}")),
    );
    net.run_ms(10);
    assert!(matches!(net.events(alice)[..], [Event::Confirmed { .. }]));
    net.with(alice, |e, now| e.hangup(now, session)).unwrap();
    net.run_ms(10);
    let bye = net.requests(proxy).remove(0);
    assert_eq!(bye.uri.to_string(), "sip:peer@192.0.2.88:5088");
    assert_eq!(routes(&bye), ["<sip:192.0.2.9;lr>", "<sip:edge.example;lr>"]);
    assert_eq!((bye.from.tag(), bye.to.tag()), (Some(tag.as_str()), Some("peer")));
}

/// Where Alice's 100 to an INVITE with this Via goes, and the Via it has.
fn trying(via: &str, source: &str) -> (String, String) {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let peer = net.raw(source);
    net.say(peer, alice, &invite_text(&format!("Via: SIP/2.0/UDP {via};branch=z9hG4bKx"), ""));
    net.run_ms(300);
    let (_, _, to, bytes) = net.capture.last().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let via = text.lines().find(|line| line.starts_with("Via:")).unwrap().to_owned();
    assert!(text.starts_with("SIP/2.0 100"), "{text}");
    (to.to_string(), via)
}

#[test]
fn responses_go_where_via_and_the_source_say() {
    // As it should be: nothing to add.
    let (to, via) = trying("198.51.100.7:5071", "198.51.100.7:5071");
    assert_eq!((to.as_str(), via.contains("received")), ("198.51.100.7:5071", false));
    // No port in Via, no rport: 5060, whatever the source was (RFC 3261 section 18.2.2).
    let (to, _) = trying("198.51.100.7", "198.51.100.7:40000");
    assert_eq!(to, "198.51.100.7:5060");
    // A name, or another address: `received`.
    for sent_by in ["phone.example:5071", "10.0.0.9:5071"] {
        let (to, via) = trying(sent_by, "198.51.100.7:40000");
        assert_eq!(to, "198.51.100.7:5071");
        assert!(via.contains(";received=198.51.100.7"), "{via}");
    }
    // rport: to the source port, and both are taken down (RFC 3581 section 4).
    let (to, via) = trying("10.0.0.9:5071;rport", "198.51.100.7:40000");
    assert_eq!(to, "198.51.100.7:40000");
    assert!(via.contains(";received=198.51.100.7") && via.contains(";rport=40000"), "{via}");
    // What the peer claims of itself counts for nothing.
    let claims = "198.51.100.7:5071;received=203.0.113.66;maddr=203.0.113.67";
    let (to, via) = trying(claims, "198.51.100.7:5071");
    assert_eq!(to, "198.51.100.7:5071");
    assert!(!via.contains("203.0.113.66"), "{via}");
}

#[test]
fn responses_for_others_are_dropped() {
    let mut pair = Pair::new();
    pair.invite();
    pair.net.run_ms(10);
    let (_, _, _, bytes) = pair.net.capture[0].clone();
    let voipd_sip::Message::Request(invite) = read(&bytes) else { panic!() };
    let stranger = pair.net.raw("203.0.113.1:5060");
    let mut two_vias = answer(&invite, 486, "x");
    two_vias.via.push(invite.via[0].clone());
    let mut other_branch = answer(&invite, 486, "x");
    other_branch.via[0].params.set("branch", Some("z9hG4bKother"));
    let mut other_host = answer(&invite, 486, "x");
    other_host.via[0].port = Some(5061);
    let mut other_method = answer(&invite, 486, "x");
    other_method.cseq.method = method("BYE");
    for response in [two_vias, other_branch, other_host, other_method] {
        pair.net.respond(stranger, pair.alice, &response);
    }
    pair.net.run_ms(100);
    assert!(pair.net.events(pair.alice).is_empty());
}
