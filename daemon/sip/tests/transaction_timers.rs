//! Transactions' timers (RFC 3261 tables 4 and section 17, RFC 6026): when each repetition goes out, and when they end.

use std::time::Duration;

use crate::common::*;
use voipd_sip::endpoint::{EndCause, Event, InviteOptions, SessionId};
use voipd_sip::message::{Message, Request, Response};

const LATENCY: u64 = 10;

/// An endpoint and a scripted peer.
struct Script {
    net: Net,
    alice: HostId,
    peer: HostId,
}

impl Script {
    fn new() -> Self {
        let mut net = Net::new();
        let alice = net.agent("192.0.2.1:5060");
        let peer = net.raw("192.0.2.9:5060");
        Self { net, alice, peer }
    }

    /// INVITE at time 0; its first copy.
    fn invite(&mut self) -> (SessionId, Request) {
        let id = self.net.with(self.alice, |e, _| e.add_identity(identity("<sip:alice@192.0.2.1>")));
        let target = "sip:peer@192.0.2.9".parse().unwrap();
        let session =
            self.net.with(self.alice, |e, now| e.invite(now, id, target, InviteOptions::default())).unwrap();
        self.net.with(self.alice, |e, now| e.send_invite(now, session, OFFER.to_vec())).unwrap();
        self.net.events(self.alice);
        self.net.run_ms(LATENCY);
        (session, self.net.requests(self.peer).remove(0))
    }

    /// A call that Alice has placed and that stands; the INVITE and its 2xx.
    fn placed(&mut self) -> (SessionId, Request, Response) {
        let (session, invite) = self.invite();
        let ok = with_sdp(with_contact(answer(&invite, 200, "peer"), "<sip:peer@192.0.2.9>"), ANSWER);
        self.net.respond(self.peer, self.alice, &ok);
        self.net.run_ms(2 * LATENCY);
        let ack = self.net.requests(self.peer).remove(0);
        assert_eq!(ack.method, method("ACK"));
        self.net.events(self.alice);
        (session, invite, ok)
    }

    /// The peer's INVITE has come.
    fn called(&mut self) -> (SessionId, Request) {
        let (alice, peer) = (self.alice, self.peer);
        self.net.say(peer, alice, INVITE);
        self.net.run_ms(LATENCY);
        let session = incoming(&self.net.events(alice));
        let Message::Request(invite) = read(crlf(INVITE).as_bytes()) else { panic!() };
        (session, invite)
    }

    fn times(&self, word: &str) -> Vec<u64> {
        times(&self.net, self.alice, word)
    }

    fn at(&self) -> u64 {
        self.net.elapsed().as_millis() as u64
    }
}

const INVITE: &str = "INVITE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKinvite1;rport
Max-Forwards: 70
From: <sip:peer@192.0.2.9>;tag=peer
To: <sip:alice@192.0.2.1>
Call-ID: inbound-1
CSeq: 7 INVITE
Contact: <sip:peer@192.0.2.9:5060>
Content-Type: application/sdp
Content-Length: 87

v=0
o=- 1 1 IN IP4 192.0.2.9
s=-
c=IN IP4 192.0.2.9
t=0 0
m=audio 4000 RTP/AVP 0
";

/// Sums of intervals from a start.
fn from(start: u64, intervals: &[u64]) -> Vec<u64> {
    let mut at = start;
    let later = intervals.iter().map(|interval| {
        at += interval;
        at
    });
    [start].into_iter().chain(later).collect()
}

#[test]
fn timer_a_doubles_and_timer_b_ends_an_invite_at_64_t1() {
    let mut script = Script::new();
    let (session, _) = script.invite();
    script.net.run(Duration::from_secs(100));
    assert_eq!(script.times("INVITE"), [0, 500, 1500, 3500, 7500, 15500, 31500]);
    let events = script.net.timed_events(script.alice);
    let [(at, Event::Ended { session: ended, end })] = &events[..] else { panic!("{events:?}") };
    assert_eq!((at.as_millis(), *ended, end.cause), (32_000, session, EndCause::Timeout));
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    let mut script = Script::new();
    let (_, invite) = script.invite();
    script.net.respond(script.peer, script.alice, &answer(&invite, 100, ""));
    script.net.run(Duration::from_secs(300));
    assert_eq!(script.times("INVITE"), [0]);
    assert!(script.net.events(script.alice).is_empty(), "100 is no progress, and no end comes");
}

#[test]
fn timer_d_acknowledges_repeated_refusals_for_32_seconds() {
    let mut script = Script::new();
    let (session, invite) = script.invite();
    let busy = answer(&invite, 486, "peer");
    script.net.respond(script.peer, script.alice, &busy);
    script.net.run_ms(LATENCY);
    assert_eq!(end_of(&script.net.events(script.alice), session).status, Some(486));
    let completed = script.at();
    // Just inside and just outside of the 32 s.
    script.net.run_ms(32_000 - LATENCY - 1);
    script.net.respond(script.peer, script.alice, &busy);
    script.net.run_ms(LATENCY);
    assert_eq!(script.times("ACK"), [completed, completed + 31_999]);
    script.net.respond(script.peer, script.alice, &busy);
    script.net.run_ms(1000);
    assert_eq!(script.times("ACK").len(), 2, "the transaction is over");
    assert!(script.net.events(script.alice).is_empty());
    let acks = script.net.requests(script.peer);
    let [ack, again] = &acks[..] else { panic!("{acks:?}") };
    assert_eq!(ack, again);
    // RFC 3261 section 17.1.1.3.
    assert_eq!((&ack.uri, &ack.via, &ack.from), (&invite.uri, &invite.via, &invite.from));
    assert_eq!((&ack.to, &ack.call_id, ack.cseq), (&busy.to, &invite.call_id, invite.cseq));
}

#[test]
fn timer_m_hears_repeated_answers_for_32_seconds() {
    let mut script = Script::new();
    let (_, _, ok) = script.placed();
    let accepted = 2 * LATENCY;
    script.net.run_ms(accepted + 32_000 - LATENCY - 1 - script.at());
    script.net.respond(script.peer, script.alice, &ok);
    script.net.run_ms(LATENCY);
    assert_eq!(script.times("ACK"), [accepted, accepted + 31_999]);
    script.net.run_ms(LATENCY);
    assert_eq!(script.net.requests(script.peer).len(), 1);
    script.net.respond(script.peer, script.alice, &ok);
    script.net.run_ms(1000);
    assert_eq!(script.times("ACK").len(), 2);
    assert!(script.net.events(script.alice).is_empty(), "a repetition is no news");
}

#[test]
fn timer_e_doubles_to_t2_and_timer_f_ends_a_request_at_64_t1() {
    let mut script = Script::new();
    let (session, ..) = script.placed();
    let start = script.at();
    script.net.with(script.alice, |e, now| e.probe(now, session)).unwrap();
    script.net.run(Duration::from_secs(100));
    let intervals = [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
    assert_eq!(script.times("OPTIONS"), from(start, &intervals));
    let events = script.net.timed_events(script.alice);
    let [(probed, Event::Probed { alive: false, .. }), (ended, Event::Ended { end, .. })] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((probed.as_millis() as u64, ended), (start + 32_000, probed));
    assert_eq!(end.cause, EndCause::Timeout);
    assert_eq!(script.times("BYE")[0], start + 32_000);
}

#[test]
fn timer_e_runs_at_t2_after_a_provisional_response() {
    let mut script = Script::new();
    let (session, ..) = script.placed();
    let start = script.at();
    script.net.with(script.alice, |e, now| e.probe(now, session)).unwrap();
    script.net.run_ms(LATENCY);
    let options = script.net.requests(script.peer).remove(0);
    script.net.respond(script.peer, script.alice, &answer(&options, 100, ""));
    script.net.run(Duration::from_secs(100));
    assert_eq!(script.times("OPTIONS"), from(start, &[500, 4000, 4000, 4000, 4000, 4000, 4000, 4000]));
}

#[test]
fn timer_k_swallows_repeated_answers() {
    let mut script = Script::new();
    let (session, ..) = script.placed();
    script.net.with(script.alice, |e, now| e.probe(now, session)).unwrap();
    script.net.run_ms(LATENCY);
    let options = script.net.requests(script.peer).remove(0);
    let ok = answer(&options, 200, "peer");
    for _ in 0..3 {
        script.net.respond(script.peer, script.alice, &ok);
        script.net.run_ms(2500);
    }
    let events = script.net.events(script.alice);
    assert!(matches!(events[..], [Event::Probed { alive: true, .. }]), "{events:?}");
    assert_eq!(script.times("OPTIONS").len(), 1);
}

#[test]
fn trying_goes_out_after_200_ms_and_again_for_each_repetition() {
    let mut script = Script::new();
    script.called();
    script.net.run_ms(1000);
    assert_eq!(script.times("100"), [LATENCY + 200]);
    script.net.say(script.peer, script.alice, INVITE);
    script.net.run_ms(100);
    assert_eq!(script.times("100"), [LATENCY + 200, 1010 + LATENCY]);
    assert!(script.net.events(script.alice).is_empty());
    let trying = script.net.responses(script.peer).remove(0);
    assert_eq!(trying.to.tag(), None);
}

#[test]
fn no_trying_when_the_user_is_quick() {
    let mut script = Script::new();
    let (session, _) = script.called();
    script.net.with(script.alice, |e, now| e.ring(now, session, None)).unwrap();
    script.net.run(Duration::from_secs(10));
    assert_eq!(script.times("100"), Vec::<u64>::new());
    script.net.say(script.peer, script.alice, INVITE);
    script.net.run_ms(100);
    assert_eq!(
        script.times("180"),
        [LATENCY, 10_000 + 2 * LATENCY],
        "the last provisional response is repeated"
    );
}

#[test]
fn timer_g_doubles_to_t2_and_timer_h_gives_up_at_64_t1() {
    let mut script = Script::new();
    let (session, _) = script.called();
    script.net.with(script.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    let start = script.at();
    script.net.run(Duration::from_secs(100));
    let intervals = [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
    assert_eq!(script.times("486"), from(start, &intervals));
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
}

#[test]
fn an_ack_stops_timer_g_and_timer_i_swallows_its_repetitions() {
    let mut script = Script::new();
    let (session, invite) = script.called();
    script.net.with(script.alice, |e, now| e.reject(now, session, status(486), None)).unwrap();
    script.net.run_ms(LATENCY);
    let busy = script.net.responses(script.peer).remove(0);
    let mut ack = invite.clone();
    ack.method = method("ACK");
    ack.to = busy.to.clone();
    script.net.request(script.peer, script.alice, &ack);
    script.net.run_ms(LATENCY);
    end_of(&script.net.events(script.alice), session);
    assert!(script.net.with(script.alice, |e, _| e.is_idle()));
    // Within T4 the INVITE's repetitions find their transaction, which says no more.
    script.net.run_ms(4900);
    script.net.request(script.peer, script.alice, &ack);
    script.net.request(script.peer, script.alice, &invite);
    script.net.run_ms(50);
    assert_eq!(script.times("486").len(), 1);
    assert!(script.net.events(script.alice).is_empty());
    // Then it is forgotten, and the same INVITE would be a new one.
    script.net.run_ms(100);
    script.net.request(script.peer, script.alice, &invite);
    script.net.run_ms(50);
    incoming(&script.net.events(script.alice));
}

#[test]
fn a_2xx_is_repeated_to_t2_until_64_t1_then_bye_ends_the_call() {
    let mut script = Script::new();
    let (session, _) = script.called();
    script.net.with(script.alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let start = script.at();
    script.net.run(Duration::from_secs(100));
    let intervals = [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000, 4000];
    assert_eq!(script.times("200"), from(start, &intervals));
    let events = script.net.timed_events(script.alice);
    let [(at, Event::Ended { end, .. })] = &events[..] else { panic!("{events:?}") };
    assert_eq!((at.as_millis() as u64, end.cause), (start + 32_000, EndCause::Timeout));
    assert_eq!(script.times("BYE")[0], start + 32_000);
}

#[test]
fn timer_l_swallows_repeated_invites_after_a_2xx() {
    let mut script = Script::new();
    let (session, invite) = script.called();
    script.net.with(script.alice, |e, now| e.accept(now, session, ANSWER.to_vec())).unwrap();
    let accepted = script.at();
    script.net.run_ms(LATENCY);
    let ok = script.net.responses(script.peer).remove(0);
    let mut ack = invite.clone();
    ack.method = method("ACK");
    ack.to = ok.to.clone();
    ack.via[0].params.set("branch", Some("z9hG4bKack"));
    script.net.request(script.peer, script.alice, &ack);
    script.net.run_ms(LATENCY);
    let events = script.net.events(script.alice);
    assert!(matches!(events[..], [Event::Confirmed { .. }]), "{events:?}");
    script.net.run_ms(accepted + 32_000 - LATENCY - 1 - script.at());
    script.net.request(script.peer, script.alice, &invite);
    script.net.run_ms(LATENCY);
    assert!(script.net.events(script.alice).is_empty());
    assert_eq!(script.times("200").len(), 1, "the session repeats its 2xx, not the transaction");
    assert!(script.net.inbox(script.peer).is_empty());
}

#[test]
fn timer_j_answers_repeated_requests_for_32_seconds() {
    let mut script = Script::new();
    let (session, invite, ok) = script.placed();
    let bye = format!(
        "BYE sip:alice@192.0.2.1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKbye
From: {}
To: {}
Call-ID: {}
CSeq: 1 BYE
Content-Length: 0

",
        ok.to, invite.from, invite.call_id
    );
    script.net.say(script.peer, script.alice, &bye);
    script.net.run_ms(LATENCY);
    assert_eq!(end_of(&script.net.events(script.alice), session).cause, EndCause::Remote);
    script.net.run_ms(32_000 - LATENCY - 1);
    script.net.say(script.peer, script.alice, &bye);
    script.net.run_ms(2 * LATENCY);
    let answers = script.net.responses(script.peer);
    assert_eq!(answers.iter().map(|answer| answer.status.get()).collect::<Vec<_>>(), [200, 200]);
    assert_eq!(answers[0], answers[1]);
    // Timer J has fired, and so has the INVITE's Timer M: nobody knows the dialog.
    script.net.run_ms(100);
    script.net.say(script.peer, script.alice, &bye);
    script.net.run_ms(2 * LATENCY);
    assert_eq!(script.net.responses(script.peer)[0].status.get(), 481);
}

#[test]
fn the_user_s_provisional_response_is_repeated_each_minute() {
    let mut script = Script::new();
    let (session, _) = script.called();
    script.net.with(script.alice, |e, now| e.ring(now, session, Some(ANSWER.to_vec()))).unwrap();
    script.net.run(Duration::from_secs(190));
    assert_eq!(script.times("183"), from(LATENCY, &[60_000, 60_000, 60_000]));
    let progress = script.net.responses(script.peer);
    assert!(progress.iter().all(|response| response == &progress[0] && response.body == ANSWER));
}
