//! Numbers as `tel:` URIs in the Request-URI (RFC 3966, RFC 3261 section 19.1.6): the identity's own server knows the way.

use crate::common::home::*;
use crate::common::*;
use voipd_sip::endpoint::{Event, InviteOptions, SessionError};

#[test]
fn a_number_is_asked_of_the_own_server_and_the_call_goes_on_with_its_contact() {
    let mut home = Home::open(telephone()).registered(&[]);
    home.set(|request| match request.method.as_str() {
        "INVITE" => {
            let contact = "<sip:gateway@198.51.100.1>";
            with_sdp(with_contact(answer(request, 200, "gateway"), contact), ANSWER)
        }
        "CANCEL" | "BYE" => answer(request, 200, "gateway"),
        _ => grant(request, &[]),
    });
    let (id, phone) = (home.id, home.phone);
    let target = "tel:+4930123".parse().unwrap();
    let session = home.net.with(phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    home.net.with(phone, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    home.net.run_ms(100);
    let events = home.net.events(phone);
    assert!(events.iter().any(|event| matches!(event, Event::Answered { .. })), "{events:?}");
    home.net.with(phone, |e, now| e.hangup(now, session)).unwrap();
    home.net.run_ms(100);
    let server = home.server;
    let seen: Vec<(String, String, String)> = home
        .net
        .seen(server)
        .into_iter()
        .filter(|(_, request)| request.method != method("REGISTER"))
        .map(|(_, request)| {
            (request.method.as_str().to_owned(), request.uri.to_string(), request.to.uri.to_string())
        })
        .collect();
    let line = |method: &str, uri: &str| (method.to_owned(), uri.to_owned(), "tel:+4930123".to_owned());
    assert_eq!(
        seen,
        [
            line("INVITE", "tel:+4930123"),
            line("ACK", "sip:gateway@198.51.100.1"),
            line("BYE", "sip:gateway@198.51.100.1"),
        ]
    );
}

#[test]
fn a_gateway_that_rings_without_a_contact_is_waited_for() {
    let mut home = Home::open(telephone()).registered(&[]);
    home.set(|request| answer(request, 180, "gateway"));
    let (id, phone) = (home.id, home.phone);
    let target = "tel:112;phone-context=example.org".parse().unwrap();
    let session = home.net.with(phone, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
    home.net.with(phone, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
    home.net.run_ms(100);
    let events = home.net.events(phone);
    assert!(events.iter().any(|event| matches!(event, Event::Progress { .. })), "{events:?}");
    home.net.with(phone, |e, now| e.hangup(now, session)).unwrap();
    home.net.run_ms(100);
    assert_eq!(times(&home.net, phone, "CANCEL").len(), 1);
}

#[test]
fn a_number_needs_a_server() {
    let mut net = Net::new();
    let alice = net.agent("192.0.2.1:5060");
    let id = net.with(alice, |e, _| e.add_identity(crate::common::identity("<sip:alice@192.0.2.1>")));
    let target = "tel:+4930123".parse().unwrap();
    let result = net.with(alice, |e, now| e.invite(now, id, target, InviteOptions::default()));
    assert_eq!(result, Err(SessionError::NotASipUri));
}
