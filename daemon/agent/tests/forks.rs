//! One INVITE, several callees (RFC 3261 section 13.2.2.4): whose sound is heard before the answer, and after it.

use std::net::SocketAddr;

use crate::common::peer::sdp;
use crate::common::{HostId, World, crlf, status};
use voipd_agent::output::{DEVICE_OUTPUT, Output};
use voipd_agent::view::{CallId, CallState, Reason};
use voipd_audio::StreamPlan;
use voipd_audio::plan::EngineEvent;
use voipd_audio::tone::Signal;
use voipd_audio::tone::national::Country;
use voipd_sip::message::Request;

/// Alice's call by a proxy that forks it.
struct Forked {
    world: World,
    alice: HostId,
    proxy: HostId,
    call: CallId,
    invite: Request,
}

impl Forked {
    fn new() -> Self {
        let mut world = World::new();
        let alice = world.phone("192.0.2.1:5060");
        let proxy = world.raw("192.0.2.9:5060");
        let call = world.dial(alice, "sip:bob@192.0.2.9");
        world.run_ms(50);
        let invite = world.requests(proxy).remove(0);
        Self { world, alice, proxy, call, invite }
    }

    /// A response of the phone with this tag.
    fn respond(&mut self, phone: &str, code: u16, sdp: &str) {
        let mut response = self.invite.response(status(code));
        response.to.params.set("tag", Some(phone));
        response.headers.push("Contact", "<sip:bob@192.0.2.9>");
        if !sdp.is_empty() {
            response.headers.push("Content-Type", "application/sdp");
            response.body = crlf(sdp).into_bytes();
        }
        self.world.respond(self.proxy, self.alice, &response);
        self.world.run_ms(50);
    }

    fn plan(&self) -> StreamPlan {
        self.world.plan(self.alice, self.call)
    }

    fn remote(&self) -> SocketAddr {
        self.plan().path.remote()
    }

    fn state(&self) -> CallState {
        self.world.state(self.alice, self.call)
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// A description with PCMA instead of PCMU.
fn alaw(address: &str, port: u16) -> String {
    sdp(address, port, "sendrecv").replace("RTP/AVP 0 101", "RTP/AVP 8 101")
}

#[test]
fn the_newest_early_sound_is_heard_with_its_own_codec_and_source() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    let first = forked.plan();
    assert_eq!(
        (forked.remote(), forked.world.view(forked.alice, forked.call).codec),
        (at("192.0.2.21:4000"), "PCMU")
    );
    forked.respond("mobile", 183, &alaw("192.0.2.22", 5000));
    let second = forked.plan();
    assert_eq!(
        (forked.remote(), forked.world.view(forked.alice, forked.call).codec),
        (at("192.0.2.22:5000"), "PCMA")
    );
    assert_ne!(first.ssrc, second.ssrc, "a new peer, a new source");
    assert_eq!(second.send.unwrap().payload_type, 8);
    // The first repeats itself: nothing changes.
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    assert_eq!(forked.plan(), second);
    assert_eq!(forked.state(), CallState::Early);
}

#[test]
fn the_winner_s_sound_takes_the_place_of_every_early_one() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    forked.respond("mobile", 183, &sdp("192.0.2.22", 5000, "sendrecv"));
    let early = forked.plan();
    forked.respond("desk", 200, &sdp("192.0.2.21", 4002, "sendrecv"));
    assert_eq!((forked.state(), forked.remote()), (CallState::Active, at("192.0.2.21:4002")));
    assert_ne!(forked.plan().ssrc, early.ssrc);
}

#[test]
fn an_answer_without_a_description_means_the_winner_s_own_early_one() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    forked.respond("mobile", 183, &sdp("192.0.2.22", 5000, "sendrecv"));
    forked.respond("desk", 200, "");
    assert_eq!((forked.state(), forked.remote()), (CallState::Active, at("192.0.2.21:4000")));
}

#[test]
fn the_one_that_is_heard_wins_and_its_stream_goes_on() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    forked.respond("mobile", 183, &sdp("192.0.2.22", 5000, "sendrecv"));
    let early = forked.plan();
    forked.respond("mobile", 200, "");
    assert_eq!(forked.plan(), early, "nothing has changed for the stream");
}

#[test]
fn a_winner_without_any_description_ends_the_call_with_a_reason() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    forked.world.requests(forked.proxy);
    forked.respond("mobile", 200, "");
    assert_eq!(forked.world.end(forked.alice, forked.call), (Reason::Protocol, 183));
    let requests = forked.world.requests(forked.proxy);
    let told: Vec<_> = requests.iter().map(|r| (r.method.to_string(), r.headers.get("Reason"))).collect();
    let why = Some("Q.850;cause=111;text=\"Protocol error\"");
    assert_eq!(told, [("ACK".to_owned(), None), ("BYE".to_owned(), why)]);
}

#[test]
fn an_early_dialog_that_is_over_gives_way_to_the_one_before() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    forked.respond("mobile", 183, &sdp("192.0.2.22", 5000, "sendrecv"));
    forked.respond("mobile", 199, "");
    assert_eq!(forked.remote(), at("192.0.2.21:4000"));
    forked.respond("desk", 199, "");
    assert_eq!(forked.remote(), at("192.0.2.21:4000"), "there is nothing else to hear");
    assert_eq!(forked.state(), CallState::Early);
}

#[test]
fn a_phone_that_only_rings_does_not_silence_one_that_speaks() {
    let mut forked = Forked::new();
    forked.respond("desk", 180, "");
    assert_eq!(
        forked.world.tone(forked.alice, DEVICE_OUTPUT),
        Some(Country::RECOMMENDED.tone(Signal::Ringback))
    );
    forked.respond("mobile", 183, &sdp("192.0.2.22", 5000, "sendrecv"));
    forked.respond("desk", 180, "");
    assert_eq!(forked.world.tone(forked.alice, DEVICE_OUTPUT), None);
    assert_eq!((forked.state(), forked.remote()), (CallState::Early, at("192.0.2.22:5000")));
}

#[test]
fn another_phone_that_rings_without_sound_is_heard_ringing() {
    let mut forked = Forked::new();
    forked.respond("desk", 183, &sdp("192.0.2.21", 4000, "sendrecv"));
    let port = forked.world.stream_port(forked.alice, forked.call);
    forked.world.engine_says(forked.alice, EngineEvent::FirstPacket { port });
    forked.respond("mobile", 180, &sdp("192.0.2.22", 5000, "sendrecv"));
    let ringback = Some(Country::RECOMMENDED.tone(Signal::Ringback));
    assert_eq!(forked.world.tone(forked.alice, DEVICE_OUTPUT), ringback);
}

#[test]
fn a_flood_of_forks_is_heard_one_after_the_other_and_costs_no_stream() {
    let mut forked = Forked::new();
    for fork in 0..100 {
        forked.respond(&format!("f{fork}"), 183, &sdp("192.0.2.21", 4000 + 2 * fork, "sendrecv"));
    }
    assert_eq!(forked.remote(), at("192.0.2.21:4198"));
    let opened = forked.world.outputs(forked.alice);
    let opened = opened.iter().filter(|output| matches!(output, Output::OpenStream { .. })).count();
    assert_eq!(opened, 1);
    forked.respond("f99", 486, "");
    assert_eq!(forked.world.media_open(forked.alice), 0);
}
