//! Redirection (RFC 3261 section 21.3): followed where somebody has agreed, else told to front ends.

use crate::common::peer::{Peer, sdp};
use crate::common::{HostId, World, direct, status};
use voipd_agent::view::{CallId, CallState, Reason};
use voipd_agent::{AccountSettings, AgentError, DialOptions, RedirectPolicy, SoundChoice};
use voipd_sip::message::Request;

const FOLLOW: DialOptions = DialOptions {
    sound: SoundChoice { ports: false, mix: false, conference: None },
    codecs: None,
    anonymous: false,
    follow: true,
};

struct Call {
    world: World,
    alice: HostId,
    first: HostId,
    second: HostId,
    id: CallId,
    invite: Request,
}

fn dialled(redirect: RedirectPolicy, options: DialOptions) -> Call {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    world.account(alice, AccountSettings { redirect, ..direct() });
    let (first, second) = (world.raw("192.0.2.8:5060"), world.raw("192.0.2.9:5060"));
    let id = world.dial_with(alice, "sip:bob@192.0.2.8", options);
    world.run_ms(50);
    let invite = world.requests(first).remove(0);
    Call { world, alice, first, second, id, invite }
}

impl Call {
    fn redirect(&mut self, contacts: &str) {
        let mut response = self.invite.response(status(302));
        response.to.params.set("tag", Some("first"));
        response.headers.push("Contact", contacts);
        self.world.respond(self.first, self.alice, &response);
        self.world.run_ms(50);
    }
}

#[test]
fn a_redirection_that_nobody_agreed_to_ends_the_call_and_shows_where_it_leads() {
    for (policy, options) in
        [(RedirectPolicy::Ask, DialOptions::default()), (RedirectPolicy::Never, DialOptions::default())]
    {
        let mut call = dialled(policy, options);
        call.redirect("<sip:carol@192.0.2.9>;q=0.1, \"D\" <tel:+4930123>");
        assert_eq!(call.world.end(call.alice, call.id), (Reason::Redirected, 302));
        assert_eq!(call.world.view(call.alice, call.id).contacts, ["tel:+4930123", "sip:carol@192.0.2.9"]);
        assert!(call.world.requests(call.second).is_empty());
        assert_eq!(call.world.media_open(call.alice), 0);
    }
}

#[test]
fn a_redirection_is_followed_with_consent_or_by_the_account_s_policy() {
    for (policy, options) in [(RedirectPolicy::Ask, FOLLOW), (RedirectPolicy::Follow, DialOptions::default())]
    {
        let mut call = dialled(policy, options);
        call.redirect("<sip:carol@192.0.2.9>");
        let view = call.world.view(call.alice, call.id);
        assert_eq!((view.state, view.peer.as_str()), (CallState::Dialing, "sip:carol@192.0.2.9"));
        let invites = call.world.requests(call.second);
        let [invite] = &invites[..] else { panic!("{invites:?}") };
        assert_eq!(
            (invite.call_id.as_str(), &invite.body),
            (call.invite.call_id.as_str(), &call.invite.body)
        );
        let peer = Peer::called(call.second, call.alice, invite);
        peer.answer(&mut call.world, invite, 200, &sdp("192.0.2.9", 4000, "sendrecv"));
        call.world.run_ms(50);
        let view = call.world.view(call.alice, call.id);
        assert_eq!((view.state, view.contacts.len()), (CallState::Active, 0));
        call.world.hang_up(call.alice, call.id);
        call.world.run_ms(50);
        assert_eq!(call.world.end(call.alice, call.id).0, Reason::Local);
        assert_eq!(call.world.media_open(call.alice), 0);
    }
}

#[test]
fn leave_to_follow_is_refused_where_the_account_never_does() {
    let mut world = World::new();
    let alice = world.agent("192.0.2.1:5060");
    world.account(alice, AccountSettings { redirect: RedirectPolicy::Never, ..direct() });
    let result = world.act(alice, |agent, now| agent.dial(now, "sip:bob@192.0.2.8", None, FOLLOW));
    assert_eq!(result, Err(AgentError::RedirectionForbidden("direct".to_owned())));
    assert!(world.calls(alice).is_empty());
}

#[test]
fn early_sound_of_who_redirects_stops_and_the_next_one_s_is_heard() {
    let mut call = dialled(RedirectPolicy::Follow, DialOptions::default());
    let announcer = Peer::called(call.first, call.alice, &call.invite);
    let invite = call.invite.clone();
    announcer.answer(&mut call.world, &invite, 183, &sdp("192.0.2.8", 4000, "sendrecv"));
    call.world.run_ms(50);
    let first = call.world.plan(call.alice, call.id);
    call.redirect("<sip:carol@192.0.2.9>");
    let quiet = call.world.plan(call.alice, call.id);
    assert_eq!((quiet.send, quiet.play), (None, false), "nothing more is sent to the announcement");
    let next = call.world.requests(call.second).remove(0);
    let peer = Peer::called(call.second, call.alice, &next);
    peer.answer(&mut call.world, &next, 200, &sdp("192.0.2.9", 5000, "sendrecv"));
    call.world.run_ms(50);
    let plan = call.world.plan(call.alice, call.id);
    assert!(plan.play && plan.send.is_some());
    assert_ne!(plan.ssrc, first.ssrc);
    assert_eq!(call.world.state(call.alice, call.id), CallState::Active);
    // The call's time and figures go on: an hour is no trouble.
    call.world.run_s(5);
    call.world.hang_up(call.alice, call.id);
    assert_eq!(call.world.media_open(call.alice), 0);
}

#[test]
fn ringing_does_not_stop_when_the_call_goes_on() {
    let mut call = dialled(RedirectPolicy::Follow, DialOptions::default());
    let ringer = Peer::called(call.first, call.alice, &call.invite);
    let invite = call.invite.clone();
    ringer.answer(&mut call.world, &invite, 180, "");
    call.world.run_ms(50);
    call.redirect("<sip:carol@192.0.2.9>");
    assert_eq!(call.world.state(call.alice, call.id), CallState::Ringing);
    let next = call.world.requests(call.second).remove(0);
    let peer = Peer::called(call.second, call.alice, &next);
    peer.answer(&mut call.world, &next, 486, "");
    call.world.run_ms(50);
    assert_eq!(call.world.end(call.alice, call.id), (Reason::Busy, 486));
}

#[test]
fn a_call_that_is_not_answered_at_its_second_target_ends_in_time() {
    let mut call = dialled(RedirectPolicy::Follow, DialOptions::default());
    call.redirect("<sip:carol@192.0.2.9>");
    let next = call.world.requests(call.second).remove(0);
    let peer = Peer::called(call.second, call.alice, &next);
    peer.answer(&mut call.world, &next, 180, "");
    call.world.run_s(61);
    assert_eq!(call.world.end(call.alice, call.id).0, Reason::NoAnswer);
    let cancel = call.world.requests(call.second).remove(0);
    assert_eq!(cancel.method.to_string(), "CANCEL");
    assert_eq!(
        cancel.headers.get("Reason"),
        Some("Q.850;cause=19;text=\"No answer from user (user alerted)\"")
    );
}
