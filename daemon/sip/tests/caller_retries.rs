//! What a caller does about an answer that is none of the callee's own: an INVITE that has met itself (RFC 3261 section
//! 8.2.2.2), one whose extensions are refused (section 8.1.3.5), a redirection to where anybody listens.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, IdentityId, InviteOptions, SessionId, Transport};
use voipd_sip::message::{Request, Response};

struct Caller {
    net: Net,
    alice: HostId,
    id: IdentityId,
}

impl Caller {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let id = net.with(alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        Self { net, alice, id }
    }

    fn call(&mut self, target: &str, options: InviteOptions) -> SessionId {
        let (id, target) = (self.id, target.parse().unwrap());
        let session = self.net.with(self.alice, |e, now| e.invite(now, id, target, options)).unwrap();
        self.offer(session);
        session
    }

    fn offer(&mut self, session: SessionId) {
        self.net.with(self.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        self.net.run_ms(50);
    }

    fn respond(&mut self, host: HostId, response: Response) {
        self.net.respond(host, self.alice, &response);
        self.net.run_ms(50);
    }
}

// An INVITE that has met itself.

/// Two proxies of one domain, the first of which is slow; both have the INVITE.
fn with_both_asked() -> (Caller, SessionId, [(HostId, Request); 2]) {
    let mut caller = Caller::new();
    let hosts = [caller.net.raw("192.0.2.11:5060"), caller.net.raw("192.0.2.12:5060")];
    caller.net.name("example.net", &["192.0.2.11:5060", "192.0.2.12:5060"]);
    let session = caller.call("sip:bob@example.net", InviteOptions::default());
    caller.net.run(Duration::from_secs(4));
    let asked = hosts.map(|host| (host, caller.net.requests(host).remove(0)));
    caller.net.events(caller.alice);
    (caller, session, asked)
}

fn ok(invite: &Request) -> Response {
    with_sdp(with_contact(answer(invite, 200, "bob"), "<sip:bob@192.0.2.20>"), ANSWER)
}

#[test]
fn a_callee_that_two_servers_have_asked_is_not_lost_by_its_482() {
    for trying_first in [false, true] {
        let (mut caller, _, [(slow, early), (quick, late)]) = with_both_asked();
        if trying_first {
            caller.respond(quick, answer(&late, 100, ""));
        }
        // The callee had it by way of the slow one, and answers the other so.
        caller.respond(quick, answer(&late, 482, "bob"));
        caller.respond(slow, answer(&early, 180, "bob"));
        caller.respond(slow, ok(&early));
        let events = caller.net.events(caller.alice);
        assert!(
            matches!(events[..], [Event::Progress { .. }, Event::Answered { .. }]),
            "100 of the quick one first: {trying_first}: {events:?}"
        );
        assert!(times(&caller.net, caller.alice, "CANCEL").is_empty());
    }
}

#[test]
fn the_482_may_come_behind_the_answer() {
    let (mut caller, _, [(slow, early), (quick, late)]) = with_both_asked();
    caller.respond(quick, answer(&late, 100, ""));
    caller.respond(slow, ok(&early));
    caller.respond(quick, answer(&late, 482, "bob"));
    let events = caller.net.events(caller.alice);
    assert!(matches!(events[..], [Event::Answered { .. }]), "{events:?}");
}

#[test]
fn a_482_that_stands_alone_ends_the_call() {
    let (mut caller, session, [(slow, early), (quick, late)]) = with_both_asked();
    caller.respond(quick, answer(&late, 482, "bob"));
    caller.respond(slow, answer(&early, 482, "bob"));
    let end = end_of(&caller.net.events(caller.alice), session);
    assert_eq!((end.cause, end.status), (EndCause::Refused, Some(482)));
}

#[test]
fn giving_up_cancels_all_that_were_heard() {
    let (mut caller, session, [(slow, early), (quick, late)]) = with_both_asked();
    caller.respond(quick, answer(&late, 100, ""));
    caller.respond(slow, answer(&early, 100, ""));
    caller.net.with(caller.alice, |e, now| e.hangup(now, session)).unwrap();
    caller.net.run_ms(50);
    for host in [slow, quick] {
        let methods: Vec<_> = caller.net.requests(host).into_iter().map(|request| request.method).collect();
        assert!(methods.contains(&method("CANCEL")), "{methods:?}");
    }
}

// Extensions.

#[test]
fn refused_extensions_are_left_out_once() {
    let mut caller = Caller::new();
    let peer = caller.net.raw("192.0.2.9:5060");
    let session = caller.call("sip:bob@192.0.2.9", InviteOptions::default());
    let first = caller.net.requests(peer).remove(0);
    assert_eq!(first.headers.tokens("Supported"), ["199", "100rel", "timer"]);
    let mut refusal = answer(&first, 420, "bob");
    refusal.headers.push("Unsupported", "timer, 100REL");
    caller.respond(peer, refusal);
    let second = caller.net.requests(peer).pop().unwrap();
    assert_eq!(second.headers.tokens("Supported"), ["199"]);
    assert_eq!((second.headers.get("Session-Expires"), second.cseq), (None, first.cseq + 1));
    // Who goes on refusing what is not asked for any more has refused the call.
    let mut refusal = answer(&second, 420, "bob");
    refusal.headers.push("Unsupported", "timer, 100rel");
    caller.respond(peer, refusal);
    assert_eq!(end_of(&caller.net.events(caller.alice), session).status, Some(420));
}

// Redirection.

#[test]
fn a_call_that_was_redirected_over_tls_goes_on_over_nothing_else() {
    for (place, followed) in [(Transport::Udp, false), (Transport::Tls, true)] {
        let mut caller = Caller::new();
        let server = |code: u16, contact: &'static str| {
            move |_: std::time::Instant, request: &Request| match request.method == method("INVITE") {
                true => vec![with_contact(answer(request, code, "x"), contact)],
                false => Vec::new(),
            }
        };
        let first = caller.net.server("192.0.2.9:5061", server(302, "<sip:carol@other.example>"));
        let other = caller.net.server("192.0.2.10:5061", server(486, "<sip:carol@192.0.2.10>"));
        // Its URI does not say how it is reached: DNS does.
        caller.net.name_on("example.net", &[(Transport::Tls, "192.0.2.9:5061")]);
        caller.net.name_on("other.example", &[(place, "192.0.2.10:5061")]);
        let options = InviteOptions { anonymous: false, follow: true };
        let (id, alice) = (caller.id, caller.alice);
        let target = "sip:bob@example.net".parse().unwrap();
        let session = caller.net.with(alice, |e, now| e.invite(now, id, target, options)).unwrap();
        caller.net.with(alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        caller.net.events(alice);
        caller.net.run_with(Duration::from_secs(2), |net, host, event| {
            if let Event::OfferWanted { session, .. } = event {
                net.with(host, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
            }
        });
        assert!(!caller.net.seen(first).is_empty());
        assert_eq!(!caller.net.seen(other).is_empty(), followed, "{place:?}");
        let end = end_of(&caller.net.events(alice), session);
        assert_eq!(end.status == Some(486), followed, "{place:?}: {end:?}");
    }
}
