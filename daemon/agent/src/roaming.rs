//! Networks that change: calls and registrations go on from where their far ends are reached now. A call whose peer no
//! route leads to waits for a network, for a while.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use voipd_media::LocalMedia;
use voipd_sip::endpoint::SessionId;
use voipd_sip::faces::{Face, Faces, Way};

use crate::agent::Agent;
use crate::call::{Call, Media, Phase};
use crate::output::{Output, Weight};
use crate::view::{CallId, CallNetwork, Reason};

/// How long after a peer could not be told where we are it is told again: a network that has just come may not carry
/// the first packets.
const TELL_AGAIN: Duration = Duration::from_secs(2);
/// How often it is told at most for one change.
const MOST_TOLD: u8 = 5;

/// The ways that may change with the network: what [`NetworkChange`] must name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faced {
    /// To servers and peers of signalling.
    pub signalling: BTreeSet<Way>,
    /// To where peers receive media.
    pub media: BTreeSet<Way>,
}

/// What has become of the ways in [`Faced`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// Those of signalling.
    pub signalling: Faces,
    /// Those of media.
    pub media: Faces,
}

/// What a call's peer knows of where we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    All,
    /// We are elsewhere: it is told as soon as that is possible.
    Due,
    /// An offer that tells it is under way.
    UnderWay,
}

/// Where a call is in the network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whereabouts {
    told: Told,
    tries: u8,
    /// When it is told again.
    again_at: Option<Instant>,
    /// New sockets are being bound.
    moving: bool,
    /// The network has changed before it was known where the peer's media is.
    outdated: bool,
    /// Since when no route leads to the peer.
    stranded: Option<Instant>,
}

impl Whereabouts {
    /// The peer must hear of a change, and can.
    pub(crate) fn is_due(&self) -> bool {
        self.told == Told::Due && !self.moving && self.stranded.is_none() && self.again_at.is_none()
    }

    /// The call's media is about to go on with other sockets.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving
    }

    pub(crate) fn is_stranded(&self) -> bool {
        self.stranded.is_some()
    }

    /// An offer or an answer with all that is new goes out.
    pub(crate) fn telling(&mut self) {
        if self.told == Told::Due && !self.moving {
            self.told = Told::UnderWay;
        }
    }

    /// The peer must hear of a change.
    pub(crate) fn due(&mut self) {
        (self.told, self.tries, self.again_at) = (Told::Due, 0, None);
    }

    /// The offer was answered or refused: the peer has heard it.
    pub(crate) fn heard(&mut self) {
        self.tries = 0;
        if self.told == Told::UnderWay {
            self.told = Told::All;
        }
    }

    /// The offer came to nothing since the peer's own came between.
    pub(crate) fn unheard(&mut self) {
        if self.told == Told::UnderWay {
            self.told = Told::Due;
        }
    }

    /// The offer did not arrive, whatever it was to tell; `true` where another one will.
    pub(crate) fn undelivered(&mut self, now: Instant) -> bool {
        self.tries += 1;
        if self.tries >= MOST_TOLD {
            (self.told, self.tries, self.again_at) = (Told::All, 0, None);
            return false;
        }
        (self.told, self.again_at) = (Told::Due, Some(now + TELL_AGAIN));
        true
    }

    /// An offer that did not arrive is made again, and not yet.
    pub(crate) fn is_patient(&self) -> bool {
        self.again_at.is_some()
    }

    pub(crate) fn shown(&self) -> CallNetwork {
        match (self.stranded, self.told) {
            (Some(_), _) => CallNetwork::Waiting,
            (None, Told::All) if !self.moving => CallNetwork::Ok,
            (None, _) => CallNetwork::Moving,
        }
    }

    /// `patience`: how long a call waits for a network.
    pub(crate) fn next_timeout(&self, patience: Duration) -> Option<Instant> {
        self.stranded.map(|since| since + patience).into_iter().chain(self.again_at).min()
    }
}

impl Agent {
    /// The ways that may change with the network.
    pub fn faced(&self) -> Faced {
        let live = self.calls.values().filter(|call| !call.is_ended());
        let way = |call: &Call| Some((call.media_address()?, call.media_peer()?));
        Faced { signalling: self.endpoint.ways(), media: live.filter_map(way).collect() }
    }

    /// Addresses or routes have changed. What still goes the way it went is left alone.
    pub fn handle_network_changed(&mut self, now: Instant, change: NetworkChange) {
        let moved = self.endpoint.handle_network(now, &change.signalling);
        self.drain_endpoint();
        let recheck = change.signalling.recheck;
        self.network = Some(change);
        for session in moved {
            if let Some(call) = self.by_session.get(&session).and_then(|id| self.calls.get_mut(id)) {
                call.whereabouts.due();
            }
        }
        let live: Vec<CallId> =
            self.calls.values().filter(|call| !call.is_ended()).map(|call| call.id).collect();
        for id in live {
            if let Some(call) = self.calls.get_mut(&id).filter(|call| call.phase != Phase::Active) {
                call.whereabouts.outdated = true;
            }
            let was_stranded = self.find_way(now, id);
            self.touched.insert(id);
            self.tell_news(now, id);
            // What was agreed may be over at the other end.
            let Some(call) = self.calls.get(&id) else { continue };
            let as_before = call.whereabouts.shown() == CallNetwork::Ok;
            if call.phase == Phase::Active && as_before && (recheck || was_stranded) {
                let _ = self.endpoint.probe(now, call.session);
                self.drain_endpoint();
            }
        }
        self.settle(now);
    }

    /// A call is answered that was placed or came in before the network changed: its peer's media could not be faced then.
    pub(crate) fn catch_up(&mut self, id: CallId) {
        let whereabouts = self.calls.get_mut(&id).map(|call| &mut call.whereabouts);
        if whereabouts.is_some_and(|whereabouts| std::mem::take(&mut whereabouts.outdated)) {
            self.outputs.push_back(Output::CheckNetwork);
        }
    }

    /// Looks where a call's peer is reached now, and moves its media there; whether it could not be reached before, and
    /// can now.
    fn find_way(&mut self, now: Instant, id: CallId) -> bool {
        let patience = self.config.network_timeout;
        let Some((network, call)) = self.network.as_ref().zip(self.calls.get_mut(&id)) else { return false };
        let fallback = self.endpoint.local_address(call.session);
        if let Media::Wanted(address) = &mut call.media {
            // To be bound when the call is accepted.
            *address = fallback.unwrap_or(*address);
            return false;
        }
        let Some(address) = call.media_address() else { return false };
        let face = match call.media_peer() {
            Some(peer) => network.media.face(address, peer),
            None => Face::Same,
        };
        let gone = network.media.is_gone(address);
        let to = match face {
            Face::Moved(ip) => Some(ip),
            Face::Same if gone => fallback.filter(|ip| *ip != address),
            Face::Same | Face::Nowhere => None,
        };
        if face == Face::Nowhere {
            if call.whereabouts.stranded.is_none() {
                call.whereabouts.stranded = Some(now);
                let text = format!("no network leads to the peer: waiting {} s for one", patience.as_secs());
                self.note(Weight::Warning, Some(id), text);
            }
            return false;
        }
        let was_stranded = call.whereabouts.stranded.take().is_some();
        if let Some(address) = to
            && call.is_streaming()
        {
            self.move_media(id, address);
        }
        was_stranded
    }

    /// The stream of a call goes on with sockets on another address.
    pub(crate) fn move_media(&mut self, id: CallId, address: IpAddr) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.whereabouts.due();
        call.whereabouts.moving = true;
        let (port, peer) = (call.stream_port, call.media_peer());
        self.outputs.push_back(Output::MoveMedia { call: id, port, address, peer });
        self.note(Weight::Info, Some(id), format!("the network has changed: going on from {address}"));
    }

    /// The answer to [`Output::MoveMedia`]; `false` where it is none.
    pub(crate) fn media_moved(
        &mut self,
        now: Instant,
        id: CallId,
        result: &Result<LocalMedia, String>,
    ) -> bool {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.whereabouts.moving) else { return false };
        call.whereabouts.moving = false;
        match result {
            Ok(local) => {
                // What led to the sockets before leads nowhere.
                (call.advertised, call.mapped) = (None, None);
                if let Some(stream) = call.stream_mut() {
                    stream.local = *local;
                    stream.socket = SocketAddr::new(local.address, local.rtp_port);
                    stream.quiet_since = now;
                    stream.adaptation.way_changed(now);
                }
                let wanted = self.endpoint.wants_offer(call.session);
                if wanted {
                    // The INVITE that goes out anew tells it.
                    call.whereabouts.telling();
                    call.whereabouts.heard();
                }
                match (call.ice.is_some(), wanted || call.phase == Phase::Active) {
                    (true, true) => self.restart_ice(now, id, Some(*local)),
                    (false, _) if wanted => self.media_ready(now, id),
                    _ => {}
                }
            }
            // The address has gone again: the network's next change will tell more.
            Err(why) => self.note(Weight::Warning, Some(id), why.clone()),
        }
        self.touched.insert(id);
        self.tell_news(now, id);
        true
    }

    /// Waiting for a network has an end; telling the peer where we are is tried again.
    pub(crate) fn whereabouts_timeout(&mut self, now: Instant, id: CallId) {
        let patience = self.config.network_timeout;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.whereabouts.stranded.is_some_and(|since| since + patience <= now) {
            call.whereabouts.stranded = None;
            return self.hang_up_for(now, id, Some(Reason::Network));
        }
        if call.whereabouts.again_at.is_some_and(|at| at <= now) {
            call.whereabouts.again_at = None;
            self.tell_news(now, id);
        }
    }

    /// Nothing is to be asked of a peer that cannot be reached.
    pub(crate) fn waits_for_network(&self, session: SessionId) -> bool {
        let call = self.by_session.get(&session).and_then(|id| self.calls.get(id));
        call.is_some_and(|call| call.whereabouts.is_stranded())
    }
}

impl Call {
    /// The peer has to be told where we are, and can be: with ICE not before there are candidates.
    pub(crate) fn has_moved_untold(&self) -> bool {
        self.whereabouts.is_due() && !self.ice.as_ref().is_some_and(|ice| ice.is_waiting())
    }

    /// The address of ours that media goes from.
    fn media_address(&self) -> Option<IpAddr> {
        match &self.media {
            Media::Streaming(stream) => Some(stream.socket.ip()),
            _ => self.local().map(|local| local.address),
        }
    }

    /// Where our media goes: to the peer, or to a relay of ours.
    fn media_peer(&self) -> Option<IpAddr> {
        let said = self.agreement().map(|agreement| agreement.remote_rtp.ip());
        let heard = match &self.media {
            Media::Streaming(stream) if self.has_ice_way() => Some(stream.plan.path.remote().ip()),
            Media::Streaming(stream) => stream.moved_to.map(|moved| moved.ip()),
            _ => None,
        };
        // ICE may not have found yet how a peer of the other family is reached.
        let family = self.media_address().map(|ip| ip.is_ipv4());
        heard.or(said).filter(|ip| !ip.is_unspecified() && Some(ip.is_ipv4()) == family)
    }

    fn has_ice_way(&self) -> bool {
        self.uses_ice() && self.ice.as_ref().is_some_and(|ice| ice.socket().is_some())
    }
}
