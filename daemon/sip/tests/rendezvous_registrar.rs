//! A meeting point as registrar (RFC 3261 section 10.3): who may register, and what his bindings become.

use std::time::Duration;

use crate::common::meeting::{DOMAIN, UNIX};
use crate::common::{HostId, Net, answer, sent};
use voipd_sip::digest::{Covered, Exchange, Login, Secret, authorization, challenges};
use voipd_sip::endpoint::{Event, RegistrationFailure, RegistrationState, Transport};
use voipd_sip::headers::name;
use voipd_sip::message::{Message, Method, Request, Response};
use voipd_sip::rendezvous::{self, InvitationText, InviteError};
use voipd_sip::wire;

const POINT: &str = "198.51.100.1:5060";

fn state(net: &mut Net, host: HostId) -> RegistrationState {
    let events = net.events(host).into_iter();
    let mut states = events.filter_map(|event| match event {
        Event::Registration { state, .. } => Some(state),
        _ => None,
    });
    states.next_back().expect("a registration")
}

/// A telephone written by hand, which has joined as bob.
struct Hand {
    net: Net,
    point: HostId,
    host: HostId,
    user: String,
    password: Secret,
    cseq: u32,
    /// More header fields of the next request.
    more: String,
    expires: Option<u32>,
    uri: String,
    to: String,
}

impl Hand {
    fn new() -> Self {
        let mut net = Net::new();
        let point = net.meeting(POINT);
        let host = net.raw("203.0.113.5:5060");
        let (user, password) = net.invitation(point, "bob").login("salt");
        let (uri, to) = (format!("sip:{DOMAIN}"), format!("sip:bob@{DOMAIN}"));
        Self { net, point, host, user, password, cseq: 0, more: String::new(), expires: None, uri, to }
    }

    fn request(&mut self, contact: &str, credentials: &str) -> Response {
        self.cseq += 1;
        let expires = self.expires.map(|expires| format!("Expires: {expires}\n")).unwrap_or_default();
        let contact = if contact.is_empty() { String::new() } else { format!("Contact: {contact}\n") };
        let (cseq, more, uri, to) = (self.cseq, &self.more, &self.uri, &self.to);
        let text = format!(
            "REGISTER {uri} SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5:5060;rport;branch=z9hG4bKhand{cseq}\n\
             From: <sip:bob@{DOMAIN}>;tag=f\nTo: <{to}>\nCall-ID: hand\nCSeq: {cseq} REGISTER\n\
             Max-Forwards: 70\n{contact}{expires}{more}{credentials}\n"
        );
        let (host, point) = (self.host, self.point);
        self.net.say(host, point, &text);
        self.net.run_ms(100);
        self.net.responses(host).pop().expect("a response")
    }

    fn credentials(&mut self, challenged: &Response, count: u32) -> String {
        let offer = challenges(&challenged.headers, name::WWW_AUTHENTICATE).unwrap();
        let covered = Covered { method: &Method::Register, uri: &self.uri, body: &[] };
        let exchange = Exchange { nonce_count: count, cnonce: "c", first_nonce: "" };
        let login = Login { user: &self.user, password: &self.password };
        format!("Authorization: {}\n", authorization(&offer.challenges[0], login, covered, exchange))
    }

    /// REGISTER with a challenge answered.
    fn register(&mut self, contact: &str) -> Response {
        let challenged = self.request("", "");
        assert_eq!(challenged.status.get(), 401, "{challenged:?}");
        let credentials = self.credentials(&challenged, 1);
        self.request(contact, &credentials)
    }

    fn contacts(&mut self, contact: &str) -> Vec<String> {
        let response = self.register(contact);
        assert_eq!(response.status.get(), 200, "{response:?}");
        let contacts = response.headers.contacts().unwrap();
        contacts.iter().map(|contact| contact.uri.to_string()).collect()
    }
}

#[test]
fn an_invitation_makes_a_member_once() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let (bob, thief) = (net.agent("203.0.113.5:5060"), net.agent("203.0.113.6:5060"));
    let invitation = net.invitation(point, "bob");
    let first = net.invited(bob, &invitation, "first");
    net.with(bob, |endpoint, now| endpoint.register(now, first)).unwrap();
    net.run_ms(500);
    assert_eq!(state(&mut net, bob), RegistrationState::Registered { expires: 3600 });
    let told = net.told(point);
    let rendezvous::Event::Joined(credential) = &told[0] else { panic!("{told:?}") };
    assert_eq!((credential.member.as_str(), credential.user.as_str()), ("bob", "bob.first"));

    // The same text again, on another telephone.
    let second = net.invited(thief, &invitation, "second");
    net.with(thief, |endpoint, now| endpoint.register(now, second)).unwrap();
    net.run_ms(500);
    let refused = state(&mut net, thief);
    let RegistrationState::Failed { reason, status, .. } = refused else { panic!("{refused:?}") };
    assert_eq!((reason, status), (RegistrationFailure::Rejected, Some(403)));
    // The first goes on.
    net.with(bob, |endpoint, now| endpoint.register(now, first)).unwrap();
    net.run_ms(500);
    assert_eq!(net.with_meeting(point, |point, now| point.members(now)).unwrap()[0].addresses.len(), 1);
}

#[test]
fn an_invitation_ends() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let bob = net.agent("203.0.113.5:5060");
    let invitation = net.invitation(point, "bob");
    assert_eq!(invitation.expires, UNIX + 3600);
    let id = net.invited(bob, &invitation, "salt");
    net.run(Duration::from_secs(3601));
    net.with(bob, |endpoint, now| endpoint.register(now, id)).unwrap();
    net.run_ms(500);
    assert!(matches!(state(&mut net, bob), RegistrationState::Failed { status: Some(403), .. }));
    assert_eq!(net.with_meeting(point, |point, now| point.members(now)), Some(vec![]));
}

#[test]
fn a_second_invitation_voids_the_first_and_leaves_devices() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let desk = net.friend(point, "bob", "203.0.113.5:5060");
    let (lost, phone) = (net.agent("203.0.113.6:5060"), net.agent("203.0.113.77:5060"));
    let first = net.invitation(point, "bob");
    let second = net.invitation(point, "bob");
    let wrong = net.invited(lost, &first, "a");
    net.with(lost, |endpoint, now| endpoint.register(now, wrong)).unwrap();
    let right = net.invited(phone, &second, "b");
    net.run_ms(500);
    // It is answered as a wrong password is: the second one is still open.
    assert!(matches!(
        state(&mut net, lost),
        RegistrationState::Failed { reason: RegistrationFailure::Credentials, .. }
    ));
    net.with(phone, |endpoint, now| endpoint.register(now, right)).unwrap();
    net.with(desk.host, |endpoint, now| endpoint.register(now, desk.id)).unwrap();
    net.run_ms(500);
    let bob = net.with_meeting(point, |point, now| point.members(now)).unwrap().remove(0);
    assert_eq!((bob.devices, bob.addresses.len(), bob.invited_until), (2, 2, None));
}

#[test]
fn kept_members_and_invitations_hold_after_a_restart() {
    let mut net = Net::new();
    let old = net.meeting(POINT);
    let bob = net.friend(old, "bob", "203.0.113.5:5060");
    let carol = net.invitation(old, "carol");
    let told = net.told(old);
    let rendezvous::Event::Joined(credential) = told[0].clone() else { panic!("{told:?}") };
    net.forget(POINT);
    let new = net.meeting(POINT);
    let kept = rendezvous::Invitation {
        member: "carol".to_owned(),
        key: rendezvous::InvitationKey::of(&carol.secret),
        expires: carol.expires,
    };
    net.with_meeting(new, |point, now| {
        point.add_credential(credential);
        point.add_invitation(now, kept).unwrap();
    });
    let host = net.agent("203.0.113.6:5060");
    let id = net.invited(host, &carol, "salt");
    net.with(host, |endpoint, now| endpoint.register(now, id)).unwrap();
    net.with(bob.host, |endpoint, now| endpoint.register(now, bob.id)).unwrap();
    net.run_ms(500);
    let members = net.with_meeting(new, |point, now| point.members(now)).unwrap();
    let online: Vec<_> = members.iter().map(|m| (m.name.as_str(), m.addresses.len())).collect();
    assert_eq!(online, [("bob", 1), ("carol", 1)]);
}

#[test]
fn names_that_mislead_are_not_invited() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    for bad in ["", "Bob", "bob.x", "bob@x", "b b", "é", &"b".repeat(33)] {
        let invited = net.with_meeting(point, |point, now| point.invite(now, bad, Duration::from_secs(60)));
        assert!(matches!(invited, Some(Err(InviteError::BadName(_)))), "{bad}");
    }
}

#[test]
fn a_removed_member_is_nobody() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let bob = net.friend(point, "bob", "203.0.113.5:5060");
    net.told(point);
    assert_eq!(net.with_meeting(point, |point, _| point.remove("bob")), Some(true));
    assert_eq!(net.with_meeting(point, |point, _| point.remove("bob")), Some(false));
    assert_eq!(net.told(point), [rendezvous::Event::Moved { member: "bob".to_owned(), online: false }]);
    net.with(bob.host, |endpoint, now| endpoint.register(now, bob.id)).unwrap();
    net.run_ms(500);
    assert!(matches!(state(&mut net, bob.host), RegistrationState::Failed { status: Some(403), .. }));
}

#[test]
fn rfc3261_10_3_a_register_without_credentials_is_challenged() {
    let mut hand = Hand::new();
    let challenged = hand.request("<sip:bob@10.0.0.5>", "");
    assert_eq!(challenged.status.get(), 401);
    let value = challenged.headers.get(name::WWW_AUTHENTICATE).unwrap();
    assert!(value.contains("algorithm=SHA-256") && value.contains(r#"realm="meet.example.org""#), "{value}");
    assert!(challenged.to.tag().is_some());
}

#[test]
fn rfc7616_a_count_is_good_once_and_the_next_one_is_not_challenged() {
    let mut hand = Hand::new();
    let challenged = hand.request("", "");
    let first = hand.credentials(&challenged, 1);
    assert_eq!(hand.request("<sip:bob@10.0.0.5>", &first).status.get(), 200);
    let replayed = hand.request("<sip:eve@10.0.0.6>", &first);
    assert_eq!(replayed.status.get(), 401);
    assert!(replayed.headers.get(name::WWW_AUTHENTICATE).unwrap().contains("stale=true"));
    let second = hand.credentials(&challenged, 2);
    assert_eq!(hand.request("<sip:bob@10.0.0.5>", &second).status.get(), 200);
}

#[test]
fn rfc7616_an_old_nonce_is_stale() {
    let mut hand = Hand::new();
    let challenged = hand.request("", "");
    hand.net.run(Duration::from_secs(601));
    let credentials = hand.credentials(&challenged, 1);
    let refused = hand.request("<sip:bob@10.0.0.5>", &credentials);
    assert!(refused.headers.get(name::WWW_AUTHENTICATE).unwrap().contains("stale=true"), "{refused:?}");
}

#[test]
fn rfc7616_credentials_for_another_request_are_refused() {
    let mut hand = Hand::new();
    let challenged = hand.request("", "");
    let credentials = hand.credentials(&challenged, 1).replace("uri=\"sip:meet", "uri=\"sip:meat");
    assert_eq!(hand.request("<sip:bob@10.0.0.5>", &credentials).status.get(), 400);
}

#[test]
fn rfc3261_10_3_4_nobody_registers_for_another() {
    let mut hand = Hand::new();
    hand.net.invitation(hand.point, "carol");
    hand.to = format!("sip:carol@{DOMAIN}");
    assert_eq!(hand.register("<sip:bob@10.0.0.5>").status.get(), 403);
}

#[test]
fn rfc3261_10_3_8_the_answer_lists_all_bindings_with_their_time() {
    let mut hand = Hand::new();
    hand.expires = Some(120);
    assert_eq!(hand.contacts("<sip:one@10.0.0.5>"), ["sip:one@10.0.0.5"]);
    let response = hand.register("<sip:two@10.0.0.6>;expires=60, <sip:three@10.0.0.7>;expires=99999");
    let contacts = response.headers.contacts().unwrap();
    let left: Vec<_> = contacts.iter().map(|c| c.params.value("expires").unwrap()).collect();
    assert_eq!(left.len(), 3);
    assert!(left[0].parse::<u32>().unwrap() >= 118 && left[1..] == ["60", "3600"], "{left:?}");
}

#[test]
fn rfc3261_10_3_7_a_binding_ends_with_its_time_or_by_expires_0() {
    let mut hand = Hand::new();
    assert_eq!(hand.contacts("<sip:one@10.0.0.5>;expires=60, <sip:two@10.0.0.5>").len(), 2);
    hand.net.run(Duration::from_secs(61));
    assert_eq!(hand.contacts(""), ["sip:two@10.0.0.5"]);
    assert!(hand.contacts("<sip:TWO@10.0.0.5>;expires=0").len() == 1, "user parts know case");
    assert!(hand.contacts("<sip:two@10.0.0.5>;expires=0").is_empty());
}

#[test]
fn rfc3261_10_3_6_contact_star_removes_all_and_stands_alone() {
    let mut hand = Hand::new();
    hand.contacts("<sip:one@10.0.0.5>, <sip:two@10.0.0.5>");
    assert_eq!(hand.register("*").status.get(), 400, "without Expires: 0");
    hand.expires = Some(0);
    assert_eq!(hand.register("*\nContact: <sip:one@10.0.0.5>").status.get(), 400);
    assert_eq!(hand.contacts("*"), Vec::<String>::new());
}

#[test]
fn rfc3261_10_3_7_an_interval_too_brief_is_refused_with_423() {
    let mut hand = Hand::new();
    let refused = hand.register("<sip:one@10.0.0.5>;expires=5");
    assert_eq!((refused.status.get(), refused.headers.get(name::MIN_EXPIRES)), (423, Some("30")));
}

#[test]
fn rfc3261_10_3_7_an_older_register_changes_nothing() {
    let mut hand = Hand::new();
    hand.contacts("<sip:one@10.0.0.5>");
    hand.cseq -= 2;
    let challenged = hand.request("", "");
    // The branch of the first try would be a repetition of it.
    hand.more = "Subject: late\n".to_owned();
    hand.cseq -= 1;
    let credentials = hand.credentials(&challenged, 1);
    hand.net.run(Duration::from_secs(33));
    let refused = hand.request("<sip:one@10.0.0.5>;expires=0", &credentials);
    assert_eq!(refused.status.get(), 500);
    hand.cseq += 10;
    assert_eq!(hand.contacts(""), ["sip:one@10.0.0.5"]);
}

#[test]
fn rfc3261_10_3_2_unknown_extensions_are_refused_with_420() {
    let mut hand = Hand::new();
    hand.more = "Require: path, teleport\n".to_owned();
    let refused = hand.request("<sip:one@10.0.0.5>", "");
    assert_eq!((refused.status.get(), refused.headers.get(name::UNSUPPORTED)), (420, Some("teleport")));
}

#[test]
fn rfc3327_a_path_is_kept_and_told_to_who_supports_it() {
    let mut hand = Hand::new();
    hand.more = "Path: <sip:edge.example.net;lr>\n".to_owned();
    assert_eq!(hand.register("<sip:one@10.0.0.5>").status.get(), 420);
    hand.more.push_str("Supported: path\n");
    let response = hand.register("<sip:one@10.0.0.5>");
    assert_eq!(response.headers.get(name::PATH), Some("<sip:edge.example.net;lr>"));
}

#[test]
fn rfc5626_6_a_device_replaces_its_own_binding_on_the_same_flow_only() {
    let mut hand = Hand::new();
    hand.more = "Supported: path, outbound\n".to_owned();
    let contact =
        |user: &str, flow: u32| format!("<sip:{user}@10.0.0.5>;+sip.instance=\"<urn:uuid:1>\";reg-id={flow}");
    assert_eq!(hand.contacts(&contact("one", 1)), ["sip:one@10.0.0.5"]);
    assert_eq!(hand.contacts(&contact("two", 2)).len(), 2);
    assert_eq!(hand.contacts(&contact("three", 1)), ["sip:two@10.0.0.5", "sip:three@10.0.0.5"]);
}

#[test]
fn rfc5626_5_4_outbound_is_promised_where_keep_alives_are_answered() {
    for (transport, promised) in [(Transport::Udp, false), (Transport::Tcp, true)] {
        let mut net = Net::new();
        let point = net.meeting(POINT);
        let bob = net.device_by(point, "bob", "203.0.113.5:5060", transport);
        let promise = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("\r\nRequire: outbound\r\n");
        assert_eq!(net.capture.iter().any(|(.., bytes)| promise(bytes)), promised, "{transport:?}");
        // A promise that is not kept would show here.
        net.run(Duration::from_secs(300));
        let events = net.events(bob.host);
        assert!(events.is_empty(), "{transport:?}: {events:?}");
        let lines = sent(&net, bob.host).into_iter();
        let registers = lines.filter(|(_, line)| line.starts_with("REGISTER")).count();
        assert_eq!(registers, 2, "{transport:?}: one is challenged, and one is taken");
    }
}

#[test]
fn rfc5626_6_a_device_takes_its_flow_back_with_and_without_its_number() {
    let mut hand = Hand::new();
    hand.more = "Supported: path, outbound\n".to_owned();
    let own = "<sip:one@10.0.0.5>;+sip.instance=\"<urn:uuid:1>\"";
    for taken_back in [format!("{own};expires=0"), format!("{own};reg-id=1;expires=0")] {
        assert_eq!(hand.contacts(&format!("{own};reg-id=1")), ["sip:one@10.0.0.5"]);
        assert_eq!(hand.contacts(&taken_back), Vec::<String>::new(), "{taken_back}");
    }
    // Another flow is another binding, though it leads to the same address.
    assert_eq!(hand.contacts(&format!("{own};reg-id=1")).len(), 1);
    assert_eq!(hand.contacts(&format!("{own};reg-id=2")).len(), 2);
    assert_eq!(hand.contacts(&format!("{own};reg-id=2;expires=0")).len(), 1);
}

#[test]
fn a_device_that_names_itself_has_one_binding() {
    let mut hand = Hand::new();
    hand.contacts("<sip:before-the-restart@10.0.0.5>;+sip.instance=\"<urn:uuid:1>\"");
    let now = hand.contacts("<sip:after-the-restart@10.0.0.5>;+sip.instance=\"<urn:uuid:1>\"");
    assert_eq!(now, ["sip:after-the-restart@10.0.0.5"]);
}

#[test]
fn a_member_has_ten_bindings_at_most() {
    let mut hand = Hand::new();
    for n in 0..15 {
        hand.contacts(&format!("<sip:n{n}@10.0.0.5>"));
    }
    let last = hand.contacts("");
    assert_eq!((last.len(), last[0].as_str()), (10, "sip:n5@10.0.0.5"));
}

#[test]
fn a_member_who_asks_too_often_is_told_to_wait() {
    let mut hand = Hand::new();
    let challenged = hand.request("", "");
    let statuses: Vec<u16> = (1..=90)
        .map(|count| {
            let credentials = hand.credentials(&challenged, count);
            hand.cseq += 1;
            let (host, point, cseq) = (hand.host, hand.point, hand.cseq);
            let text = format!(
                "REGISTER sip:{DOMAIN} SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;rport;branch=z9hG4bKfast{cseq}\n\
                 From: <sip:bob@{DOMAIN}>;tag=f\nTo: <sip:bob@{DOMAIN}>\nCall-ID: fast\n\
                 CSeq: {cseq} REGISTER\nMax-Forwards: 70\n{credentials}\n"
            );
            hand.net.say(host, point, &text);
            hand.net.run_ms(21);
            hand.net.responses(host).pop().unwrap().status.get()
        })
        .collect();
    assert!(statuses[..60].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.contains(&503), "{statuses:?}");
    hand.net.run(Duration::from_secs(10));
    assert_eq!(hand.register("").status.get(), 200, "who waits is served again");
}

#[test]
fn a_lost_connection_takes_its_binding_along() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let bob = net.friend_by(point, "bob", "203.0.113.5:5060", Transport::Tcp);
    net.told(point);
    // The friend has gone for good: nobody registers again.
    net.with(bob.host, |endpoint, now| endpoint.remove_identity(now, bob.id));
    net.run_ms(500);
    assert_eq!(net.told(point), [rendezvous::Event::Moved { member: "bob".to_owned(), online: false }]);

    let carol = net.friend_by(point, "carol", "203.0.113.66:5060", Transport::Tcp);
    net.told(point);
    net.fault(Transport::Tcp, POINT, Some(voipd_sip::endpoint::TransportError::Refused));
    net.cut(carol.host, point);
    net.run_ms(500);
    assert_eq!(net.told(point), [rendezvous::Event::Moved { member: "carol".to_owned(), online: false }]);
}

#[test]
fn a_register_for_another_domain_is_not_ours() {
    let mut hand = Hand::new();
    hand.uri = "sip:elsewhere.example.net".to_owned();
    // The user agent that shares the socket takes no REGISTER.
    assert_eq!(hand.request("<sip:bob@10.0.0.5>", "").status.get(), 405);
}

#[test]
fn a_member_is_lent_the_relay_with_a_login_that_is_renewed_before_it_ends() {
    let mut hand = Hand::new();
    let point = hand.point;
    let lent = |response: &Response| {
        let told: rendezvous::Directory = std::str::from_utf8(&response.body).unwrap().parse().unwrap();
        (told.relays, told.login)
    };
    assert_eq!(lent(&hand.register("<sip:bob@10.0.0.5>")), (Vec::new(), None));
    let relays = vec!["turn:198.51.100.1:3478".to_owned()];
    hand.net.with_meeting(point, |point, _| point.set_relays(relays.clone()));
    hand.net.told(point);
    let (told, login) = lent(&hand.register("<sip:bob@10.0.0.5>"));
    let login = login.unwrap();
    assert_eq!(told, relays);
    // The relay learns of it once.
    assert_eq!(hand.net.told(point), [rendezvous::Event::Granted(login.clone())]);
    assert_eq!(lent(&hand.register("<sip:bob@10.0.0.5>")).1, Some(login.clone()));
    assert_eq!(hand.net.told(point), []);
    let expiry = |login: &rendezvous::RelayLogin| {
        let (expiry, name) = login.user.split_once(':').unwrap();
        assert_eq!(name, "bob");
        expiry.parse::<u64>().unwrap()
    };
    let hours = |hours: u64| hours * 3600;
    assert!((UNIX + hours(6)..=UNIX + hours(12) + 60).contains(&expiry(&login)), "{login:?}");

    // Another comes long before it ends.
    hand.net.run_ms(hours(6) * 1000);
    hand.net.told(point);
    let next = lent(&hand.register("<sip:bob@10.0.0.5>")).1.unwrap();
    assert!(expiry(&next) == expiry(&login) + hours(6) && next.password != login.password, "{next:?}");
    let granted = hand.net.told(point);
    assert!(granted.contains(&rendezvous::Event::Granted(next)), "{granted:?}");
}

#[test]
fn strangers_leave_nothing_behind() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    net.friend(point, "bob", "203.0.113.5:5060");
    let eve = net.raw("203.0.113.66:5060");
    for n in 0..1000 {
        let text = format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\nVia: SIP/2.0/UDP 203.0.113.66;branch=z9hG4bKeve{n}\n\
             From: <sip:eve{n}@{DOMAIN}>;tag={n}\nTo: <sip:eve{n}@{DOMAIN}>\nCall-ID: {n}\nCSeq: 1 REGISTER\n\
             Contact: <sip:x@y>\nMax-Forwards: 70\n\n"
        );
        net.say(eve, point, &text);
    }
    net.run_ms(100);
    let statuses: Vec<u16> = net.responses(eve).iter().map(|response| response.status.get()).collect();
    assert_eq!((statuses.len(), statuses.iter().all(|status| *status == 401)), (1000, true));
    // A member is served as before: nothing of theirs fills a table.
    let members = net.with_meeting(point, |point, now| point.members(now)).unwrap();
    assert_eq!(members.len(), 1);
}

/// What a device writes for itself alone.
#[test]
fn an_invitation_text_is_all_that_joining_takes() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let text = net.invitation(point, "bob").to_string();
    let read: InvitationText = text.parse().unwrap();
    let bob = net.agent("203.0.113.5:5060");
    let id = net.invited(bob, &read, "salt");
    net.with(bob, |endpoint, now| endpoint.register(now, id)).unwrap();
    net.run_ms(500);
    assert!(matches!(state(&mut net, bob), RegistrationState::Registered { .. }));
    // Neither the secret nor the password was ever sent.
    let (_, password) = read.login("salt");
    for secret in [read.secret.expose(), password.expose()] {
        let is_in = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(secret);
        assert!(!net.capture.iter().any(|(_, _, _, bytes)| is_in(bytes)));
    }
}

/// Keeps the helpers of this file's kind in use where a test needs a peer that answers.
#[test]
fn responses_that_belong_to_nothing_are_left_to_the_user_agent() {
    let mut net = Net::new();
    let point = net.meeting(POINT);
    let peer = net.raw("203.0.113.5:5060");
    let text = "INVITE sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKnobodys\r\n\
                From: <sip:a@b>;tag=1\r\nTo: <sip:x@y>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
    let Ok(Some(Message::Request(request))) = wire::read_datagram(text.as_bytes()) else { panic!() };
    let request: Request = request;
    net.respond(peer, point, &answer(&request, 200, "t"));
    net.run_ms(100);
    assert_eq!(net.inbox(peer), []);
}
