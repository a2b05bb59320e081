//! 3xx to an INVITE (RFC 3261 sections 8.1.3.4 and 21.3): followed where the user agrees, else told and nothing more.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionId};
use voipd_sip::message::{Method, Request};

/// Alice, and hosts that answer every INVITE as they are told.
struct Redirected {
    net: Net,
    alice: HostId,
    session: SessionId,
}

type Places<'a> = &'a [(&'a str, u16, &'a str)];

impl Redirected {
    /// Each place is an address, the status that it answers with, and its contacts.
    fn new(options: InviteOptions, places: Places<'_>) -> (Self, Vec<HostId>) {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let hosts = places
            .iter()
            .map(|(address, code, contacts)| {
                let (code, contacts) = (*code, (*contacts).to_owned());
                net.server(&format!("{address}:5060"), move |_, request| match request.method {
                    Method::Invite if code < 300 => {
                        vec![with_sdp(with_contact(answer(request, code, "x"), &contacts), ANSWER)]
                    }
                    Method::Invite => vec![with_contact(answer(request, code, "x"), &contacts)],
                    Method::Ack => vec![],
                    _ => vec![answer(request, 200, "x")],
                })
            })
            .collect();
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let target = format!("sip:bob@{}", places[0].0).parse().unwrap();
        let session = net.with(alice, |e, now| e.invite(now, id, target, options)).unwrap();
        let mut redirected = Self { net, alice, session };
        redirected.run(Duration::from_secs(1));
        (redirected, hosts)
    }

    /// Every question for an offer is answered.
    fn run(&mut self, time: Duration) {
        let session = self.session;
        let offer = |net: &mut Net, host| {
            net.with(host, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        };
        let asked = |event: &Event| matches!(event, Event::OfferWanted { .. });
        // The first question is asked before time passes.
        if self.net.elapsed().is_zero() {
            assert!(self.net.events(self.alice).iter().any(asked));
            offer(&mut self.net, self.alice);
        }
        self.net.run_with(time, |net, host, event| {
            if asked(&event) {
                offer(net, host);
            }
        });
    }

    fn invites(&mut self, host: HostId) -> Vec<Request> {
        let seen = self.net.seen(host).into_iter().map(|(_, request)| request);
        seen.filter(|request| request.method == Method::Invite).collect()
    }

    fn end(&mut self) -> (EndCause, Option<u16>, Option<String>, Vec<String>) {
        let end = end_of(&self.net.events(self.alice), self.session);
        let contacts = end.contacts.iter().map(|contact| contact.uri.to_string()).collect();
        (end.cause, end.status, end.text, contacts)
    }
}

const FOLLOW: InviteOptions = InviteOptions { anonymous: false, follow: true };

#[test]
fn without_consent_a_redirection_ends_the_call_and_names_its_contacts() {
    let contacts = "<sip:c@192.0.2.3>;q=0.2, \"C\" <tel:+4930123>";
    let (mut call, hosts) = Redirected::new(
        InviteOptions::default(),
        &[("192.0.2.2", 302, contacts), ("192.0.2.3", 200, "<sip:c@192.0.2.3>")],
    );
    let contacts = ["tel:+4930123", "sip:c@192.0.2.3"].map(str::to_owned).to_vec();
    assert_eq!(call.end(), (EndCause::Refused, Some(302), Some("Moved Temporarily".to_owned()), contacts));
    assert!(call.invites(hosts[1]).is_empty());
}

#[test]
fn a_redirection_is_followed_with_the_same_call_id_from_and_to() {
    let (mut call, hosts) = Redirected::new(
        FOLLOW,
        &[("192.0.2.2", 302, "<sip:carol@192.0.2.3>"), ("192.0.2.3", 200, "<sip:carol@192.0.2.3>")],
    );
    let (first, second) = (call.invites(hosts[0]).remove(0), call.invites(hosts[1]).remove(0));
    assert_eq!(second.uri.to_string(), "sip:carol@192.0.2.3");
    assert_eq!((&first.call_id, &first.from, &first.to), (&second.call_id, &second.from, &second.to));
    assert_eq!((second.cseq, second.body.as_slice()), (first.cseq + 1, OFFER));
    assert_ne!(first.via[0].branch(), second.via[0].branch());
    let events = call.net.events(call.alice);
    let told = events.iter().find_map(|event| match event {
        Event::Redirected { target, .. } => Some(target.to_string()),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("sip:carol@192.0.2.3"));
    assert!(matches!(events.last(), Some(Event::Answered { .. })), "{events:?}");
    let session = call.session;
    call.net.with(call.alice, |e, now| e.hangup(now, session)).unwrap();
    call.run(Duration::from_secs(1));
    assert_eq!(times(&call.net, call.alice, "BYE").len(), 1);
}

#[test]
fn contacts_are_tried_one_after_the_other_until_one_answers() {
    let (mut call, hosts) = Redirected::new(
        FOLLOW,
        &[
            ("192.0.2.2", 300, "<sip:c@192.0.2.4>;q=0.1, <sip:c@192.0.2.3>;q=0.9"),
            ("192.0.2.3", 404, ""),
            ("192.0.2.4", 200, "<sip:c@192.0.2.4>"),
        ],
    );
    assert_eq!(call.invites(hosts[1]).len(), 1);
    assert_eq!(call.invites(hosts[2])[0].cseq, 3);
    assert!(matches!(call.net.events(call.alice).last(), Some(Event::Answered { .. })));
}

#[test]
fn a_contact_that_is_not_there_gives_way_to_the_next() {
    let contacts = "<sip:c@nowhere.example>, <sip:c@192.0.2.99>;q=0.9, <sip:c@192.0.2.3>;q=0.8";
    let (mut call, hosts) =
        Redirected::new(FOLLOW, &[("192.0.2.2", 302, contacts), ("192.0.2.3", 200, "<sip:c@192.0.2.3>")]);
    call.run(Duration::from_secs(40));
    assert_eq!(call.invites(hosts[1]).len(), 1, "the name is unknown, and the address silent");
}

#[test]
fn a_circle_of_redirections_finds_an_end() {
    let (mut call, hosts) = Redirected::new(
        FOLLOW,
        &[("192.0.2.2", 302, "<sip:bob@192.0.2.3>"), ("192.0.2.3", 302, "<sip:bob@192.0.2.2>")],
    );
    let (cause, status, text, contacts) = call.end();
    assert_eq!(
        (cause, status, text.as_deref()),
        (EndCause::Refused, Some(302), Some("redirected in a circle"))
    );
    assert_eq!(contacts, ["sip:bob@192.0.2.2"]);
    assert_eq!((call.invites(hosts[0]).len(), call.invites(hosts[1]).len()), (1, 1));
}

#[test]
fn a_chain_of_redirections_is_not_followed_for_ever() {
    let places: Vec<(String, String)> =
        (2..12).map(|n| (format!("192.0.2.{n}"), format!("<sip:bob@192.0.2.{}>", n + 1))).collect();
    let places: Vec<_> = places.iter().map(|(at, to)| (at.as_str(), 302, to.as_str())).collect();
    let (mut call, hosts) = Redirected::new(FOLLOW, &places);
    assert_eq!(call.end().2.as_deref(), Some("redirected too often"));
    let invited: Vec<usize> = hosts.iter().map(|host| call.invites(*host).len()).collect();
    assert_eq!(invited, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
}

#[test]
fn who_declines_for_all_ends_the_search() {
    let (mut call, hosts) = Redirected::new(
        FOLLOW,
        &[
            ("192.0.2.2", 302, "<sip:c@192.0.2.3>, <sip:c@192.0.2.4>;q=0.5"),
            ("192.0.2.3", 603, ""),
            ("192.0.2.4", 200, "<sip:c@192.0.2.4>"),
        ],
    );
    assert_eq!(call.end().1, Some(603));
    assert!(call.invites(hosts[2]).is_empty());
}

#[test]
fn a_call_that_is_hung_up_while_its_next_target_is_looked_for_is_over() {
    let (mut call, hosts) =
        Redirected::new(FOLLOW, &[("192.0.2.2", 302, "<sip:c@192.0.2.3>"), ("192.0.2.3", 180, "")]);
    let session = call.session;
    call.net.with(call.alice, |e, now| e.hangup(now, session)).unwrap();
    call.run(Duration::from_secs(60));
    assert_eq!(call.end().0, EndCause::Local);
    assert_eq!(times(&call.net, call.alice, "CANCEL").len(), 1);
    assert_eq!(call.invites(hosts[1])[0].cseq, 2);
    assert!(call.net.with(call.alice, |e, _| e.is_idle()));
}
