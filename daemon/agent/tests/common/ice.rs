//! Two phones behind NATs that find a way to each other by ICE.

use std::net::SocketAddr;
use std::time::Duration;

use voipd_agent::AccountSettings;
use voipd_agent::ice_settings::{IcePolicy, IceSettings, RelayLogin};
use voipd_agent::view::{CallId, CallState, MediaWay};
use voipd_audio::plan::Path;
use voipd_media::ice::CandidateKind;
use voipd_nat::ice::StreamId;
use voipd_nat::turn::frame::channel_header;
use voipd_sip::digest::Secret;

use super::internet::nat::Kind;
use super::{HostId, World, config, direct};

/// Asks the STUN server, and these relays.
pub fn asks(relays: &[&str]) -> IceSettings {
    IceSettings {
        policy: IcePolicy::Auto,
        stun: vec!["stun:198.51.100.1".parse().unwrap()],
        relays: relays.iter().map(|relay| relay.parse().unwrap()).collect(),
        login: Some(RelayLogin { user: "user".to_owned(), password: Secret::new("secret") }),
        lent: Vec::new(),
    }
}

/// Has relays alone.
pub fn hides(relays: &[&str]) -> IceSettings {
    IceSettings { policy: IcePolicy::Relay, stun: Vec::new(), ..asks(relays) }
}

pub fn off() -> IceSettings {
    IceSettings { policy: IcePolicy::Off, ..IceSettings::default() }
}

pub struct Two {
    pub world: World,
    pub alice: HostId,
    pub bob: HostId,
}

impl Two {
    pub fn new(kinds: [Kind; 2], settings: [IceSettings; 2]) -> Self {
        let mut world = World::new();
        let [(alice_kind, alice_ice), (bob_kind, bob_ice)] = {
            let [a, b] = settings;
            [(kinds[0], a), (kinds[1], b)]
        };
        let alice = phone(&mut world, "192.0.2.1:5060", alice_kind, alice_ice);
        let bob = phone(&mut world, "192.0.2.2:5060", bob_kind, bob_ice);
        Self { world, alice, bob }
    }

    /// Alice's call and Bob's, answered after a second of ringing, and what ICE has made of it after two more.
    pub fn talking(&mut self) -> (CallId, CallId) {
        let out = self.world.dial(self.alice, "sip:bob@192.0.2.2");
        self.world.run_s(1);
        let inb = self.world.live_call(self.bob);
        self.world.accept(self.bob, inb);
        self.world.run_s(3);
        assert_eq!(self.world.state(self.alice, out), CallState::Active);
        assert_eq!(self.world.state(self.bob, inb), CallState::Active);
        (out, inb)
    }

    /// Both speak for so long; answers with the longest time without a packet at Alice's and at Bob's.
    pub fn speak(&mut self, out: CallId, inb: CallId, time: Duration) -> [Duration; 2] {
        let ends = [(self.alice, out), (self.bob, inb)];
        let until = self.world.now + time;
        let mut latest = [self.world.now; 2];
        let mut longest = [Duration::ZERO; 2];
        let mut played = ends.map(|(host, call)| self.world.played(host, call));
        while self.world.now < until {
            for (host, call) in ends {
                self.world.utter(host, call);
            }
            self.world.run_ms(20);
            for (side, (host, call)) in ends.into_iter().enumerate() {
                longest[side] = longest[side].max(self.world.now - latest[side]);
                let now = self.world.played(host, call);
                if now != played[side] {
                    (played[side], latest[side]) = (now, self.world.now);
                }
            }
        }
        longest
    }

    /// Whether RTP goes through: from Alice to Bob, and back.
    pub fn flows(&mut self, out: CallId, inb: CallId) -> [bool; 2] {
        let (alice, bob) = (self.alice, self.bob);
        [self.world.hears(alice, out, bob, inb), self.world.hears(bob, inb, alice, out)]
    }
}

fn phone(world: &mut World, address: &str, kind: Kind, ice: IceSettings) -> HostId {
    let host = world.agent_with(address, config());
    let inside = world.internet.nat(kind);
    world.station(host).media_at = Some(inside);
    world.account(host, AccountSettings { ice, ..direct() });
    host
}

fn in_channel(channel: u16, packet: &[u8]) -> Vec<u8> {
    let mut framed = channel_header(channel, packet.len() as u16).to_vec();
    framed.extend_from_slice(packet);
    framed
}

/// How both ends of the way were found.
pub fn kinds(world: &World, host: HostId, call: CallId) -> (CandidateKind, CandidateKind) {
    match world.view(host, call).media_way {
        MediaWay::Selected { local_kind, remote_kind, .. } => (local_kind, remote_kind),
        other => panic!("no way was found: {other:?}"),
    }
}

impl World {
    /// How much RTP has come to a call's socket.
    pub fn played(&mut self, host: HostId, call: CallId) -> u64 {
        let local = self.local_media(host, call);
        self.internet.played_at(local)
    }

    /// A call's stream sends a packet, if it sends.
    pub fn utter(&mut self, from: HostId, call: CallId) -> Vec<u8> {
        let packet = vec![0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
        let plan = self.plan(from, call);
        let source = self.local_media(from, call);
        match plan.path {
            _ if plan.send.is_none() => {}
            Path::Udp { remote, .. } => self.media_leaves(source, remote, packet.clone()),
            Path::TurnChannel { server, channel } => {
                self.media_leaves(source, server, in_channel(channel, &packet));
            }
            Path::Stream { link, channel, .. } => {
                self.send_relay(from, StreamId(link), &in_channel(channel, &packet));
            }
        }
        packet
    }

    /// Whether an RTP packet that `from` sends by its plan gets to the socket of `to`.
    pub fn hears(&mut self, from: HostId, call: CallId, to: HostId, there: CallId) -> bool {
        let plan = self.plan(from, call);
        if plan.send.is_none() {
            return false;
        }
        let target = self.local_media(to, there);
        self.internet.rtp.clear();
        let packet = self.utter(from, call);
        self.run_ms(200);
        self.internet.rtp.iter().any(|(at, _, bytes)| *at == target && *bytes == packet)
    }

    /// The destinations of STUN so far.
    pub fn asked(&self, to: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        self.internet.asked.contains(&to)
    }
}

/// Puts other words in the place of some, of the same length, so that who reads them does not know them.
pub fn put(bytes: &[u8], word: &str, other: &str) -> Vec<u8> {
    assert_eq!(word.len(), other.len());
    String::from_utf8_lossy(bytes).replace(word, other).into_bytes()
}

/// Neither side hears that the other trickles.
pub fn nobody_trickles(bytes: &[u8]) -> Vec<u8> {
    put(bytes, "trickle", "tr1ckle")
}
