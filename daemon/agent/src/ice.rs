//! One call's ICE: the agent that gathers and checks, what the peer was told of it and has told, and the way that its
//! media takes. It knows neither signalling nor sockets.

mod descriptions;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_audio::plan::{Path, StreamPlan};
use voipd_media::ice::{Candidate, CandidateKind, Fragment, PeerIce, RemoteIce};
use voipd_media::{Agreement, LocalMedia};
use voipd_nat::ice::{self, Base, IceAgent, MediaPath, Role, SelectedPair, Settings, State};
use voipd_nat::turn::RelayServer;
use voipd_nat::turn::frame::channel_header;

use crate::ice_settings::IcePolicy;
use crate::trickle::Trickle;
use crate::view::MediaWay;

/// How long a description waits for candidates: servers that are not dead have answered long before.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two restarts after a way was lost; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// Restarts without success until nothing more is tried: what is silent for so long is asked for a sign of life, and ended.
const MOST_TRIES: u8 = 8;
/// Candidates that came too late for a description are told in another one if no way is found without them by then.
const LATE: Duration = Duration::from_millis(500);
/// Between the local preferences of two addresses of the machine (RFC 8445 section 5.1.2.1).
const APART: u16 = 256;
/// A side that does not control leaves the first restart to the other for so long.
const COURTESY: Duration = Duration::from_secs(3);

/// What a call's ICE begins with.
pub(crate) struct Beginning {
    pub(crate) policy: IcePolicy,
    pub(crate) local: LocalMedia,
    /// At other addresses of the machine, the best first.
    pub(crate) beside: Vec<LocalMedia>,
    /// We offer.
    pub(crate) offers: bool,
    /// RTCP has no socket of its own.
    pub(crate) muxed: bool,
    /// Signalling goes out into the Internet, and media with it.
    pub(crate) abroad: bool,
    pub(crate) stun: Vec<SocketAddr>,
    /// The nearest first.
    pub(crate) relays: Vec<RelayServer>,
    pub(crate) seed: [u8; 32],
    /// The peer can be told later of what is not there yet.
    pub(crate) later: bool,
}

/// See the module.
pub(crate) struct CallIce {
    agent: IceAgent,
    policy: IcePolicy,
    abroad: bool,
    local: LocalMedia,
    beside: Vec<LocalMedia>,
    /// When anything happened last.
    latest: Instant,
    /// When servers were asked in doubt.
    asked_at: Option<Instant>,
    /// A description waits for candidates until then.
    waits_until: Option<Instant>,
    wake_at: Option<Instant>,
    /// What the peer said last, of what the agent was told.
    told: Option<RemoteIce>,
    /// By component.
    selected: [Option<SelectedPair>; 2],
    /// Of the selected ones those by which nothing may be sent any more (RFC 7675).
    withdrawn: [bool; 2],
    recovery: Recovery,
    /// When candidates are told that came too late for our description.
    late_at: Option<Instant>,
}

/// Getting back a way that was lost.
#[derive(Clone, Copy, Debug, Default)]
struct Recovery {
    /// When a restart is due.
    at: Option<Instant>,
    /// Between the last one and the next.
    pause: Duration,
    /// Since there was a way; `None` before the first.
    tries: Option<u8>,
}

/// How an RTCP packet goes.
pub(crate) enum RtcpWay {
    /// From the socket of RTP, or from that of RTCP.
    Socket { remote: SocketAddr, muxed: bool, bytes: Vec<u8> },
    /// By a connection with a relay.
    Relay { stream: ice::StreamId, bytes: Vec<u8> },
}

impl CallIce {
    pub(crate) fn new(now: Instant, beginning: Beginning) -> Self {
        let Beginning { policy, local, beside, offers, muxed, abroad, stun, relays, seed, later } = beginning;
        let settings = Settings {
            role: if offers { Role::Controlling } else { Role::Controlled },
            components: if muxed { 1 } else { 2 },
            bases: bases(local, &beside, muxed),
            stun_servers: stun,
            relays,
        };
        let agent = match policy {
            IcePolicy::Relay => IceAgent::by_relays_only(now, settings, seed),
            IcePolicy::Auto | IcePolicy::Off => IceAgent::new(now, settings, seed),
        };
        Self {
            agent,
            policy,
            abroad,
            local,
            beside,
            latest: now,
            asked_at: None,
            waits_until: (!later).then_some(now + PATIENCE),
            wake_at: None,
            told: None,
            selected: [None, None],
            withdrawn: [false; 2],
            recovery: Recovery::default(),
            late_at: None,
        }
    }

    // Gathering.

    /// A description waits for candidates.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits_until.is_some()
    }

    /// What waits goes out with what there is; answers whether anything waited.
    pub(crate) fn stop_waiting(&mut self) -> bool {
        self.waits_until.take().is_some()
    }

    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.waits_until.is_some_and(|at| at <= now)
    }

    /// Nothing but relays is wanted.
    pub(crate) fn hides(&self) -> bool {
        self.policy == IcePolicy::Relay
    }

    /// Nothing but relays is wanted, and there is none.
    pub(crate) fn lacks_relay(&self) -> bool {
        self.policy == IcePolicy::Relay && self.default_candidate(1).is_none()
    }

    /// There are candidates that the peer, which has answered, does not know, and is not told of in INFO.
    pub(crate) fn note_late(&mut self, now: Instant, trickle: &Trickle) {
        let mut for_rtp = self.agent.candidates().iter().filter(|candidate| candidate.component == 1);
        let news = for_rtp.any(|candidate| trickle.is_news(&self.written(candidate)));
        let by_info = self.peer_trickles() && !trickle.is_refused() && !trickle.is_closed();
        if self.told.is_some() && news && !by_info && self.selected[0].is_none() {
            self.late_at.get_or_insert(now + LATE);
        }
    }

    /// They are to be told now.
    pub(crate) fn take_late(&mut self, now: Instant) -> bool {
        let due = self.late_at.is_some_and(|at| at <= now);
        if due {
            self.late_at = None;
        }
        due && self.selected[0].is_none()
    }

    // The peer.

    /// A description of the peer's that is going to be answered. Another pair of credentials means that it begins anew
    /// (RFC 8839 section 4.4.3.1.1), and so do we.
    pub(crate) fn hear_offer(&mut self, now: Instant, ice: &PeerIce) {
        if let Some(credentials) = ice.offered().and_then(|remote| credentials(&remote.credentials))
            && self.agent.is_peer_restart(&credentials)
        {
            self.agent.set_role(Role::Controlled);
            self.agent.restart(now, None);
            self.recovery.at = None;
        }
    }

    /// What was agreed: checks begin, or go on with what is new.
    pub(crate) fn agree(&mut self, now: Instant, remote: &RemoteIce, muxed: bool, trickle: &mut Trickle) {
        if muxed {
            self.agent.multiplex(now);
            self.selected[1] = None;
        }
        if self.told.as_ref() == Some(remote) {
            return;
        }
        let Some(credentials) = credentials(&remote.credentials) else { return };
        let candidates = remote.candidates.iter().map(heard).collect();
        let trickles = remote.trickle && !remote.complete;
        self.agent.set_remote(now, ice::Remote { credentials, lite: remote.lite, candidates, trickles });
        if remote.complete {
            self.agent.end_of_remote_candidates(now);
        }
        self.told = Some(remote.clone());
        if let Some(early) = trickle.take_early(&remote.credentials.ufrag) {
            self.take_fragment(now, early);
        }
        self.note_late(now, trickle);
    }

    /// Candidates of the peer's by INFO. What belongs to another generation than the one that was agreed is nothing to us
    /// (RFC 8838 section 10), unless that generation has still to be agreed.
    pub(crate) fn hear_fragment(&mut self, now: Instant, fragment: Fragment, trickle: &mut Trickle) {
        match self.told.as_ref().filter(|_| !self.is_restarting()) {
            None => trickle.keep(fragment),
            Some(told) if told.credentials.ufrag == fragment.ufrag => self.take_fragment(now, fragment),
            Some(_) => {}
        }
    }

    fn take_fragment(&mut self, now: Instant, fragment: Fragment) {
        for candidate in &fragment.candidates {
            self.agent.add_remote_candidate(now, heard(candidate));
        }
        if fragment.complete {
            self.agent.end_of_remote_candidates(now);
        }
    }

    /// This side controls, and the peer is one that wants to hear of it in an offer where the nominated pair is not what the
    /// descriptions name (RFC 8839 section 4.3.4). `ours`: what our last description named.
    pub(crate) fn needs_offer(&self, ours: Option<LocalMedia>, agreement: &Agreement) -> bool {
        let heeds = self.told.as_ref().is_some_and(|told| told.ice2);
        if heeds || !self.is_controlling() || self.agent.state() != State::Connected {
            return false;
        }
        let mut pairs = self.selected.iter().flatten();
        ours.is_some_and(|ours| ours != self.default_media())
            || pairs.any(|pair| {
                let theirs = if pair.component == 1 { agreement.remote_rtp } else { agreement.remote_rtcp };
                remote_of(pair.path) != theirs
            })
    }

    /// The call goes to somebody else than before: what was found leads nowhere.
    pub(crate) fn forget_peer(&mut self) {
        (self.selected, self.withdrawn) = ([None, None], [false; 2]);
        self.told = None;
    }

    /// Began anew, and the peer has not answered yet.
    pub(crate) fn is_restarting(&self) -> bool {
        self.told.is_some() && self.agent.state() == State::New
    }

    /// Begins anew; the next offer tells it, and where `later`, it does not wait for what can be told after it. With
    /// `local`, the sockets are others.
    pub(crate) fn restart(&mut self, now: Instant, local: Option<LocalMedia>, later: bool) {
        self.agent.set_role(Role::Controlling);
        if let Some(local) = local {
            self.local = local;
            (self.selected, self.withdrawn) = ([None, None], [false; 2]);
        }
        self.agent.give_up_silent_relays(now);
        self.agent.restart(now, local.map(|local| bases(local, &self.beside, false)));
        let patience = self.asked_at.take().unwrap_or(now) + PATIENCE;
        let waits = !self.agent.is_gathered() && now < patience && !(later && self.policy == IcePolicy::Auto);
        self.waits_until = waits.then_some(patience);
        self.recovery.at = None;
    }

    // The machine.

    pub(crate) fn agent_mut(&mut self) -> &mut IceAgent {
        &mut self.agent
    }

    pub(crate) fn base(&self, muxed: bool) -> SocketAddr {
        let port = if muxed { self.local.rtp_port } else { self.local.rtcp_port };
        SocketAddr::new(self.local.address, port)
    }

    pub(crate) fn wakes_at(&mut self, now: Instant, at: Option<Instant>) {
        (self.latest, self.wake_at) = (now, at);
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.wake_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.wake_at, self.waits_until, self.recovery.at, self.late_at].into_iter().flatten().min()
    }

    pub(crate) fn select(&mut self, pair: SelectedPair) {
        if let Some(place) = self.selected.get_mut(usize::from(pair.component).wrapping_sub(1)) {
            *place = Some(pair);
            self.set_withdrawn(pair.component, false);
        }
    }

    /// Nothing is sent by the way that was found, until there is another.
    pub(crate) fn withdraw(&mut self, component: u16) {
        let is_selected =
            self.selected.get(usize::from(component).wrapping_sub(1)).is_some_and(Option::is_some);
        self.set_withdrawn(component, is_selected);
    }

    fn set_withdrawn(&mut self, component: u16, withdrawn: bool) {
        if let Some(place) = self.withdrawn.get_mut(usize::from(component).wrapping_sub(1)) {
            *place = withdrawn;
        }
    }

    /// Media may go where the peer's description says: no way has been found, and none was lost.
    pub(crate) fn sends_plainly(&self) -> bool {
        self.selected[0].is_none() && (self.recovery.tries.is_none() || self.agent.state() != State::Failed)
    }

    /// The state has changed: a way that is lost wants a restart, one that is found none.
    pub(crate) fn state_changed(&mut self, now: Instant, state: State) {
        match state {
            State::Connected => self.recovery = Recovery { pause: Duration::ZERO, tries: Some(0), at: None },
            // Where there never was a way, looking for it again would find none either.
            // What has begun anew since then needs nothing more.
            State::Lost | State::Failed if self.agent.state() != state => {}
            State::Lost | State::Failed if self.recovery.tries.is_some_and(|tries| tries < MOST_TRIES) => {
                self.recovery.tries = self.recovery.tries.map(|tries| tries + 1);
                let recovery = &mut self.recovery;
                recovery.pause = match recovery.pause.is_zero() {
                    true if self.agent.role() == Role::Controlling => Duration::ZERO,
                    true => COURTESY,
                    false => recovery.pause,
                };
                recovery.at = Some(now + recovery.pause);
                recovery.pause = (recovery.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            }
            State::New | State::Checking | State::Lost | State::Failed => {}
        }
    }

    // Doubts.

    /// A way is chosen, or lost: nothing is under way that would find one.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.agent.state(), State::Connected | State::Lost)
    }

    pub(crate) fn is_controlling(&self) -> bool {
        self.agent.role() == Role::Controlling
    }

    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.agent.heard_at()
    }

    pub(crate) fn is_at_fault(&self, now: Instant) -> bool {
        self.agent.is_at_fault(now)
    }

    /// Servers are asked whether we are elsewhere; a restart that follows does not wait for them once more.
    pub(crate) fn look_around(&mut self, now: Instant) {
        self.agent.look_around(now);
        self.asked_at = Some(now);
    }

    /// A restart is due, and is taken for begun.
    pub(crate) fn take_recovery(&mut self, now: Instant) -> bool {
        let due = self.recovery.at.is_some_and(|at| at <= now);
        if due {
            self.recovery.at = None;
        }
        due
    }

    // The way of media.

    /// Sockets at other addresses, for the next restart on another network.
    pub(crate) fn set_beside(&mut self, beside: Vec<LocalMedia>) {
        self.beside = beside;
    }

    /// The RTP socket that media leaves from, where that is settled.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        self.selected[0].and_then(|pair| local_of(pair.path))
    }

    /// Puts the way that was found into a plan; before there is one, media goes where the peer's description says, as it
    /// would without ICE. Nothing is sent to a peer that has stopped consenting (RFC 7675), or past the relays where
    /// nothing else is wanted.
    pub(crate) fn apply(&self, plan: &mut StreamPlan, agreement: &Agreement) {
        let Some(_) = agreement.ice.offered() else { return };
        // Its checks, or those for consent, keep every way open.
        plan.keep_open = None;
        match self.selected[0] {
            Some(pair) => plan.path = engine_path(pair.path),
            None if self.sends_plainly() && self.may_begin_plainly(agreement.remote_rtp) => {}
            None => plan.send = None,
        }
        if self.agent.state() == State::Lost || self.withdrawn[0] {
            plan.send = None;
        }
    }

    fn may_begin_plainly(&self, remote: SocketAddr) -> bool {
        self.policy != IcePolicy::Relay
            && !remote.ip().is_unspecified()
            && remote.is_ipv4() == self.local.address.is_ipv4()
    }

    /// How RTCP goes that would go to `plain` without ICE.
    pub(crate) fn rtcp_way(
        &self,
        agreement: &Agreement,
        plain: Option<SocketAddr>,
        bytes: Vec<u8>,
    ) -> Option<RtcpWay> {
        let muxed = agreement.rtcp_mux;
        let (place, withdrawn) = match muxed {
            true => (self.selected[0], self.withdrawn[0]),
            false => (self.selected[1], self.withdrawn[1]),
        };
        if self.agent.state() == State::Lost || withdrawn {
            return None;
        }
        match place.filter(|_| agreement.ice.offered().is_some()).map(|pair| pair.path) {
            None => {
                let plain = plain
                    .filter(|plain| agreement.ice.offered().is_none() || self.may_begin_plainly(*plain))?;
                Some(RtcpWay::Socket { remote: plain, muxed, bytes })
            }
            Some(MediaPath::Direct { remote, .. }) => Some(RtcpWay::Socket { remote, muxed, bytes }),
            Some(MediaPath::Channel { server, channel, .. }) => {
                Some(RtcpWay::Socket { remote: server, muxed, bytes: framed(channel, &bytes) })
            }
            Some(MediaPath::Stream { stream, channel, .. }) => {
                Some(RtcpWay::Relay { stream, bytes: framed(channel, &bytes) })
            }
        }
    }

    /// Whether RTCP from there is the peer's by what was found.
    pub(crate) fn expects_from(&self, source: SocketAddr) -> bool {
        let known = |pair: &SelectedPair| match pair.path {
            MediaPath::Direct { remote, .. } => remote.ip().to_canonical() == source.ip().to_canonical(),
            MediaPath::Channel { server, peer, .. } => [server.ip(), peer.ip()].contains(&source.ip()),
            MediaPath::Stream { peer, .. } => peer.ip() == source.ip(),
        };
        self.selected.iter().flatten().any(known)
    }

    /// For front ends.
    pub(crate) fn way(&self) -> MediaWay {
        match (self.selected[0], self.agent.state()) {
            (_, State::Lost) => MediaWay::Lost,
            (Some(_), _) if self.withdrawn[0] => MediaWay::Lost,
            (Some(pair), _) => MediaWay::Selected {
                local_kind: media_kind(pair.local),
                remote_kind: media_kind(pair.remote),
                local: local_of(pair.path),
                remote: remote_of(pair.path),
            },
            (None, State::Failed) => MediaWay::Failed,
            (None, State::New | State::Checking | State::Connected) => MediaWay::Checking,
        }
    }
}

/// The sockets, the best first.
fn bases(local: LocalMedia, beside: &[LocalMedia], muxed: bool) -> Vec<Base> {
    let of = |(place, local): (u16, &LocalMedia)| {
        let base = |component: u16, port: u16| Base {
            component,
            address: SocketAddr::new(local.address, port),
            preference: u16::MAX - place * APART,
        };
        let rtcp = (!muxed).then(|| base(2, local.rtcp_port));
        [Some(base(1, local.rtp_port)), rtcp].into_iter().flatten()
    };
    (0..).zip(std::iter::once(&local).chain(beside)).flat_map(of).collect()
}

fn credentials(written: &voipd_media::ice::Credentials) -> Option<ice::Credentials> {
    // Both ends of this know the same rules: what was read is right.
    ice::Credentials::new(&written.ufrag, &written.password).ok()
}

fn heard(candidate: &Candidate) -> ice::Candidate {
    ice::Candidate {
        foundation: candidate.foundation.clone(),
        component: u16::from(candidate.component),
        priority: candidate.priority,
        address: candidate.address,
        kind: match candidate.kind {
            CandidateKind::Host => ice::CandidateKind::Host,
            CandidateKind::ServerReflexive => ice::CandidateKind::ServerReflexive,
            CandidateKind::PeerReflexive => ice::CandidateKind::PeerReflexive,
            CandidateKind::Relayed => ice::CandidateKind::Relayed,
        },
        related: candidate.related,
    }
}

fn media_kind(kind: ice::CandidateKind) -> CandidateKind {
    match kind {
        ice::CandidateKind::Host => CandidateKind::Host,
        ice::CandidateKind::ServerReflexive => CandidateKind::ServerReflexive,
        ice::CandidateKind::PeerReflexive => CandidateKind::PeerReflexive,
        ice::CandidateKind::Relayed => CandidateKind::Relayed,
    }
}

/// The pair was checked: packets from elsewhere do not move it.
fn engine_path(path: MediaPath) -> Path {
    match path {
        MediaPath::Direct { remote, .. } => Path::Udp { remote, symmetric: false },
        MediaPath::Channel { server, channel, .. } => Path::TurnChannel { server, channel },
        MediaPath::Stream { stream, channel, peer } => Path::Stream { peer, link: stream.0, channel },
    }
}

fn remote_of(path: MediaPath) -> SocketAddr {
    match path {
        MediaPath::Direct { remote, .. } => remote,
        MediaPath::Channel { peer, .. } | MediaPath::Stream { peer, .. } => peer,
    }
}

/// Our end as the machine has it; none for a connection.
fn local_of(path: MediaPath) -> Option<SocketAddr> {
    match path {
        MediaPath::Direct { base, .. } | MediaPath::Channel { base, .. } => Some(base),
        MediaPath::Stream { .. } => None,
    }
}

fn framed(channel: u16, bytes: &[u8]) -> Vec<u8> {
    let mut framed = channel_header(channel, u16::try_from(bytes.len()).unwrap_or(u16::MAX)).to_vec();
    framed.extend_from_slice(bytes);
    framed
}

/// Not an address of a private network, of this machine or of its link.
pub(crate) fn is_abroad(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_private() || ip.is_loopback() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}
