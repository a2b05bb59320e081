//! Candidates that are told one after the other (RFC 8838, RFC 8840): what the peer of a call knows of ours, what it is told
//! next in INFO, and what it tells us so. Peers that do not trickle are told everything at once, as ever.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voipd_media::ice::{Candidate, Fragment};
use voipd_sip::endpoint::{FragmentId, SessionId};
use voipd_sip::message::StatusCode;
use voipd_sip::uri::Uri;

use crate::agent::Agent;
use crate::ice_settings::IcePolicy;
use crate::output::Weight;
use crate::view::CallId;

/// A generation stays open for candidates for so long at most: servers and routers that have not answered by then are
/// not worth waiting for.
const OPEN_FOR: Duration = Duration::from_secs(5);
/// Candidates of a peer that are kept until its description comes.
const EARLY: usize = 48;
/// Peers that are remembered to trickle.
const PEERS: usize = 256;

/// What the peer knows of our candidates.
#[derive(Debug, Default)]
pub(crate) struct Trickle {
    /// Which generation this is about: our user name fragment.
    ufrag: String,
    named: Vec<Place>,
    /// The peer was told that nothing follows.
    ended: bool,
    /// The same of our description alone, which every callee of a fork has.
    described: (Vec<Place>, bool),
    /// In the INFO that is not answered yet.
    under_way: Option<UnderWay>,
    /// The peer takes no such INFO, whatever it has said.
    refused: bool,
    /// A router may still answer.
    expects_mapping: bool,
    open_until: Option<Instant>,
    /// What has come before the description that it belongs to.
    early: Option<Fragment>,
}

/// Component and address of a candidate.
type Place = (u8, SocketAddr);

#[derive(Debug)]
struct UnderWay {
    ufrag: String,
    named: Vec<Place>,
    ended: bool,
}

fn place(candidate: &Candidate) -> Place {
    (candidate.component, candidate.address)
}

impl Trickle {
    pub(crate) fn expect_mapping(&mut self, expected: bool) {
        self.expects_mapping = expected;
    }

    /// Nothing can follow: all servers have answered, and no router is waited for.
    fn is_over(&self, now: Instant, gathered: bool) -> bool {
        (gathered && !self.expects_mapping) || self.open_until.is_none_or(|at| at <= now)
    }

    /// A description of ours names these. Answers whether it may say that nothing follows.
    pub(crate) fn describe(
        &mut self,
        now: Instant,
        ufrag: &str,
        candidates: &[Candidate],
        gathered: bool,
    ) -> bool {
        if self.ufrag != ufrag {
            ufrag.clone_into(&mut self.ufrag);
            (self.named, self.ended) = (Vec::new(), false);
            self.open_until = Some(now + OPEN_FOR);
        }
        for candidate in candidates {
            self.name(place(candidate));
        }
        self.ended |= self.is_over(now, gathered);
        self.described = (self.named.clone(), self.ended);
        self.ended
    }

    /// The call goes to somebody else, who has our description and nothing more.
    pub(crate) fn forget_peer(&mut self) {
        (self.named, self.ended) = self.described.clone();
        (self.under_way, self.refused) = (None, false);
    }

    fn name(&mut self, place: Place) {
        if !self.named.contains(&place) {
            self.named.push(place);
        }
    }

    /// The peer has not heard of this candidate.
    pub(crate) fn is_news(&self, candidate: &Candidate) -> bool {
        !self.named.contains(&place(candidate))
    }

    /// What is new may be told in INFO: the peer knows of the generation, has not been told that it is complete, and
    /// takes INFO.
    fn is_open(&self, ufrag: &str) -> bool {
        self.ufrag == ufrag && !self.ended && !self.refused
    }

    /// What is new can be told by nothing but another generation (RFC 8838 section 13).
    pub(crate) fn is_closed(&self) -> bool {
        self.ended && !self.refused
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// When the peer is told that nothing follows, if it has not been told yet.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.open_until.filter(|_| !self.ended && !self.refused)
    }

    /// That time has come: nothing more is waited for. Answers whether it has.
    pub(crate) fn close(&mut self, now: Instant) -> bool {
        let due = self.next_timeout().is_some_and(|at| at <= now);
        if due {
            self.open_until = None;
        }
        due
    }

    /// What goes out now, if anything does: one INFO at a time, so that they cannot overtake one another.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        ufrag: &str,
        all: Vec<Candidate>,
        gathered: bool,
    ) -> Option<(Vec<Candidate>, bool)> {
        let over = self.is_over(now, gathered);
        if self.under_way.is_some() || !self.is_open(ufrag) {
            return None;
        }
        let news: Vec<Candidate> = all.into_iter().filter(|candidate| self.is_news(candidate)).collect();
        if news.is_empty() && !over {
            return None;
        }
        let named = news.iter().map(place).collect();
        self.under_way = Some(UnderWay { ufrag: ufrag.to_owned(), named, ended: over });
        Some((news, over))
    }

    /// The INFO was answered.
    fn arrived(&mut self, taken: bool) {
        let Some(UnderWay { ufrag, named, ended }) = self.under_way.take() else { return };
        if !taken {
            self.refused = true;
        } else if ufrag == self.ufrag {
            named.into_iter().for_each(|place| self.name(place));
            self.ended |= ended;
        }
    }

    /// Keeps what the peer has sent ahead of its description.
    pub(crate) fn keep(&mut self, fragment: Fragment) {
        match &mut self.early {
            Some(early) if early.ufrag == fragment.ufrag => {
                let room = EARLY.saturating_sub(early.candidates.len());
                let new: Vec<Candidate> =
                    fragment.candidates.into_iter().filter(|new| !early.candidates.contains(new)).collect();
                early.candidates.extend(new.into_iter().take(room));
                early.complete |= fragment.complete;
            }
            early => *early = Some(fragment),
        }
    }

    /// What has come ahead of the description with this user name fragment.
    pub(crate) fn take_early(&mut self, ufrag: &str) -> Option<Fragment> {
        self.early.take().filter(|early| early.ufrag == ufrag)
    }
}

/// Peers that have trickled when they were last talked with, the latest at the end.
#[derive(Debug, Default)]
pub(crate) struct TricklePeers(VecDeque<String>);

impl TricklePeers {
    fn note(&mut self, peer: String, trickles: bool) {
        self.0.retain(|known| *known != peer);
        if trickles {
            if self.0.len() >= PEERS {
                self.0.pop_front();
            }
            self.0.push_back(peer);
        }
    }

    fn holds(&self, peer: &str) -> bool {
        self.0.iter().any(|known| known == peer)
    }
}

/// The address that somebody is called by, without what may differ from call to call.
fn name_of(uri: &Uri) -> Option<String> {
    match uri {
        Uri::Sip(uri) => Some(format!("{}@{}", uri.user.as_deref().unwrap_or_default(), uri.host)),
        Uri::Other { .. } => None,
    }
}

impl Agent {
    /// A router may still map a call's media ports: what it gives is told when it comes. To be told before the answer to
    /// [`crate::Output::BindMedia`], where that does not wait any longer.
    pub fn expect_mapping(&mut self, call: CallId) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.trickle.expect_mapping(true);
        }
    }

    /// Whether a call's description is worth holding back until a router has mapped its ports: not where the peer can be
    /// told later.
    pub fn waits_for_mapping(&self, id: CallId) -> bool {
        !self.peer_takes_later(id)
    }

    /// The peer's description, or what is remembered of it, says that it takes candidates later on.
    pub(crate) fn peer_takes_later(&self, id: CallId) -> bool {
        let Some(call) = self.calls.get(&id) else { return false };
        let account = self.accounts.get(call.account);
        if account.is_none_or(|account| account.settings.ice.policy != IcePolicy::Auto) {
            return false;
        }
        match call.negotiation.offered_ice() {
            Some(theirs) => {
                theirs.offered().is_some_and(|ice| ice.trickle) && self.endpoint.peer_trickles(call.session)
            }
            None => name_of(&call.peer.uri).is_some_and(|peer| self.trickle_peers.holds(&peer)),
        }
    }

    /// What the peer's answer or offer has shown is remembered for the next call.
    pub(crate) fn remember_trickling(&mut self, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some(agreement) = call.agreement() else { return };
        let trickles = agreement.ice.offered().is_some_and(|ice| ice.trickle)
            && self.endpoint.peer_trickles(call.session);
        if let Some(peer) = name_of(&call.peer.uri) {
            self.trickle_peers.note(peer, trickles);
        }
    }

    /// Tells the peer in INFO of candidates that it does not know, and that there will be no more.
    pub(crate) fn trickle(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (Some(ice), Some(agreement)) = (&call.ice, call.negotiation.agreement()) else { return };
        if !ice.may_trickle() || !self.endpoint.takes_fragments(call.session) {
            return;
        }
        let Some(news) = ice.next_fragment(now, &mut call.trickle) else { return };
        let fragment = news.fragment(call.negotiation.mid(), agreement.rtcp_mux);
        let sent = self.endpoint.send_fragment(now, call.session, fragment);
        self.drain_endpoint();
        if sent.is_err() {
            self.fragment_ended(now, id, false);
        }
    }

    /// Our INFO has ended. A peer that does not take it after all is told by a new offer, as others are.
    pub(crate) fn fragment_sent(&mut self, now: Instant, session: SessionId, taken: bool) {
        if let Some(id) = self.by_session.get(&session).copied() {
            self.fragment_ended(now, id, taken);
            self.trickle(now, id);
        }
    }

    fn fragment_ended(&mut self, now: Instant, id: CallId, taken: bool) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.trickle.arrived(taken);
        if let Some(ice) = &mut call.ice {
            ice.note_late(now, &call.trickle);
        }
    }

    /// The peer has sent candidates.
    pub(crate) fn fragment(&mut self, now: Instant, session: SessionId, id: FragmentId, body: &[u8]) {
        let call = self.by_session.get(&session).and_then(|call| self.calls.get_mut(call));
        let Some(call) = call else {
            let gone = StatusCode::CALL_OR_TRANSACTION_DOES_NOT_EXIST;
            self.endpoint.answer_fragment(now, id, Err((gone, "Call Does Not Exist")));
            return self.drain_endpoint();
        };
        let call_id = call.id;
        match Fragment::read(body, call.negotiation.mid()) {
            Ok(fragment) => {
                match &mut call.ice {
                    Some(ice) => ice.hear_fragment(now, fragment, &mut call.trickle),
                    // Sockets are being bound, or there will be none, and then nobody asks for it.
                    None => call.trickle.keep(fragment),
                }
                self.endpoint.answer_fragment(now, id, Ok(()));
            }
            Err(error) => {
                let status = StatusCode::new(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                self.endpoint.answer_fragment(now, id, Err((status, &error.to_string())));
                let text = format!("the peer's candidates cannot be read: {error}");
                self.note(Weight::Info, Some(call_id), text);
            }
        }
        self.drain_endpoint();
        self.drain_ice(now, call_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_remembered_up_to_a_bound_and_forgotten_when_they_change() {
        let mut peers = TricklePeers::default();
        for n in 0..=PEERS {
            peers.note(format!("{n}@example.org"), true);
        }
        assert_eq!(peers.0.len(), PEERS);
        assert!(!peers.holds("0@example.org") && peers.holds("1@example.org"));
        peers.note("1@example.org".to_owned(), false);
        assert!(!peers.holds("1@example.org"));
    }

    #[test]
    fn what_comes_ahead_of_its_description_is_bounded_and_belongs_to_one_generation() {
        let candidate = |port: u16| Candidate {
            foundation: "1".to_owned(),
            component: 1,
            priority: 1,
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            kind: voipd_media::ice::CandidateKind::Host,
            related: None,
        };
        let of = |ufrag: &str, ports: std::ops::Range<u16>| Fragment {
            ufrag: ufrag.to_owned(),
            candidates: ports.map(candidate).collect(),
            complete: false,
        };
        let mut trickle = Trickle::default();
        trickle.keep(of("abcd", 1..25));
        trickle.keep(of("abcd", 20..100));
        assert_eq!(trickle.early.as_ref().unwrap().candidates.len(), EARLY);
        trickle.keep(of("efgh", 1..2));
        assert_eq!(trickle.take_early("efgh").unwrap().candidates.len(), 1);
        trickle.keep(of("abcd", 1..2));
        assert_eq!(trickle.take_early("efgh"), None);
    }
}
