//! Host names in session descriptions: what signalling reports with one waits until the name has an address, or is given
//! up, and so does what comes behind it in the same session. It knows names and events, not what becomes of them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use voipd_media::names::{HostName, host_names, with_addresses};
use voipd_sip::endpoint::{Event, SessionId};

use crate::agent::Agent;
use crate::output::{Output, Weight};

/// How long an answer may take: less than a caller's patience, more than two tries of a resolver.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer holds within its session; a later description asks anew.
const FRESH: Duration = Duration::from_secs(60);
/// Most sessions that wait at once: strangers must not be able to have the whole world looked up.
const MAX_WAITING: usize = 64;
/// Most events that wait in one session; later ones are lost, as on a bad network.
const MAX_HELD: usize = 16;

/// A question for the addresses of a name in a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaNameId(u64);

/// All questions.
#[derive(Default)]
pub(crate) struct MediaNames {
    last: u64,
    sessions: BTreeMap<SessionId, SessionNames>,
}

/// The names of one session.
struct SessionNames {
    asked: Vec<(MediaNameId, HostName)>,
    asked_at: Instant,
    /// `None`: it has no address.
    known: BTreeMap<String, Option<IpAddr>>,
    held: VecDeque<Event>,
}

impl MediaNames {
    /// When the oldest question is given up.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting().map(|(_, names)| names.asked_at + PATIENCE).min()
    }

    /// The session is over, and with it whatever waits.
    pub(crate) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    fn waiting(&self) -> impl Iterator<Item = (SessionId, &SessionNames)> {
        self.sessions.iter().filter(|(_, names)| !names.asked.is_empty()).map(|(id, names)| (*id, names))
    }

    /// The session that asked, and the name.
    fn take_question(&mut self, id: MediaNameId) -> Option<(SessionId, HostName)> {
        self.sessions.iter_mut().find_map(|(session, names)| {
            let place = names.asked.iter().position(|(asked, _)| *asked == id)?;
            Some((*session, names.asked.remove(place).1))
        })
    }
}

impl Agent {
    /// The event, with addresses in the places of host names; `None`: it waits for them.
    pub(crate) fn await_names(&mut self, now: Instant, mut event: Event) -> Option<Event> {
        let Some(session) = session_of(&event) else { return Some(event) };
        if let Some(names) = self.media_names.sessions.get_mut(&session)
            && !names.asked.is_empty()
        {
            if names.held.len() < MAX_HELD {
                names.held.push_back(event);
            }
            return None;
        }
        let Some(description) = description_of(&mut event) else { return Some(event) };
        let wanted = host_names(description);
        if wanted.is_empty() {
            return Some(event);
        }
        let full = self.media_names.waiting().count() >= MAX_WAITING;
        let MediaNames { last, sessions } = &mut self.media_names;
        let new = || SessionNames {
            asked: Vec::new(),
            asked_at: now,
            known: BTreeMap::new(),
            held: VecDeque::new(),
        };
        let names = sessions.entry(session).or_insert_with(new);
        if now.saturating_duration_since(names.asked_at) > FRESH {
            names.known.clear();
        }
        let unknown: Vec<HostName> =
            wanted.into_iter().filter(|host| !names.known.contains_key(&host.name)).collect();
        if unknown.is_empty() || full {
            let address = |name: &str| names.known.get(name).copied().flatten();
            *description = with_addresses(description, address);
            return Some(event);
        }
        names.asked_at = now;
        for host in unknown {
            *last += 1;
            let id = MediaNameId(*last);
            self.outputs.push_back(Output::ResolveMedia { id, name: host.name.clone() });
            names.asked.push((id, host));
        }
        names.held.push_back(event);
        None
    }

    pub(crate) fn media_resolved(
        &mut self,
        now: Instant,
        id: MediaNameId,
        result: Result<Vec<IpAddr>, String>,
    ) {
        let Some((session, host)) = self.media_names.take_question(id) else { return };
        let address = match result {
            Ok(addresses) => {
                // RFC 8866 section 5.7: the address type says which kind of address the name is for.
                let called = addresses.iter().find(|address| address.is_ipv6() == host.ipv6);
                called.or(addresses.first()).copied()
            }
            Err(why) => {
                let call = self.by_session.get(&session).copied();
                self.note(Weight::Warning, call, format!("the peer's media at {}: {why}", host.name));
                None
            }
        };
        if let Some(names) = self.media_names.sessions.get_mut(&session) {
            names.known.insert(host.name, address);
        }
        self.let_go(now, session);
    }

    /// Gives up what was asked too long ago.
    pub(crate) fn media_name_timeouts(&mut self, now: Instant) {
        let late = |(_, names): &(SessionId, &SessionNames)| names.asked_at + PATIENCE <= now;
        let due: Vec<SessionId> =
            self.media_names.waiting().filter(late).map(|(session, _)| session).collect();
        for session in due {
            let Some(names) = self.media_names.sessions.get_mut(&session) else { continue };
            let given_up = std::mem::take(&mut names.asked);
            names.known.extend(given_up.iter().map(|(_, host)| (host.name.clone(), None)));
            let call = self.by_session.get(&session).copied();
            for (_, host) in given_up {
                let text = format!("the peer's media at {}: no name server has answered", host.name);
                self.note(Weight::Warning, call, text);
            }
            self.let_go(now, session);
        }
    }

    /// When nothing more is asked, what was held goes its way.
    fn let_go(&mut self, now: Instant, session: SessionId) {
        let Some(names) = self.media_names.sessions.get_mut(&session) else { return };
        if names.asked.is_empty() {
            for event in std::mem::take(&mut names.held) {
                self.handle_event(now, event);
                self.drain_endpoint();
            }
        }
    }
}

/// The session of an event that has its place behind the descriptions before it.
fn session_of(event: &Event) -> Option<SessionId> {
    match event {
        Event::Incoming(incoming) => Some(incoming.session),
        Event::Progress { session, .. }
        | Event::Answered { session, .. }
        | Event::Confirmed { session, .. }
        | Event::Offered { session, .. }
        | Event::OfferDone { session, .. }
        // It belongs to a description that may be among those.
        | Event::Fragment { session, .. } => Some(*session),
        // Named one by one: whoever adds an event with a description shall be asked.
        Event::Registration { .. }
        | Event::Digest { .. }
        | Event::Bound { .. }
        | Event::Seen { .. }
        | Event::OfferWanted { .. }
        | Event::RefreshWanted { .. }
        | Event::Redirected { .. }
        | Event::Digit { .. }
        | Event::DigitSent { .. }
        | Event::FragmentSent { .. }
        | Event::Reconnected { .. }
        | Event::Probed { .. }
        | Event::Ended { .. } => None,
    }
}

/// The peer's session description in an event.
fn description_of(event: &mut Event) -> Option<&mut Vec<u8>> {
    match event {
        Event::Incoming(incoming) => incoming.offer.as_mut(),
        Event::Progress { sdp, .. }
        | Event::Answered { sdp, .. }
        | Event::Confirmed { sdp, .. }
        | Event::Offered { sdp, .. } => sdp.as_mut(),
        Event::OfferDone { result, .. } => result.as_mut().ok()?.as_mut(),
        _ => None,
    }
}
