//! What the router of the local network says of itself in each protocol, before anything is mapped: whether it answers,
//! and which address it has outside. It decides no mapping; who waits for one learns whether that is worth it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::address::is_public;
use super::entry::State;
use super::mapper::{Mapper, Quiet};
use super::{Output, Problem, Protocol, Refusal, RequestId};

/// How long a call waits for its ports where the router is known, or has been asked before: it answers in a tenth of it.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Who has not answered by then is silent. UPnP devices answer a search within three seconds, and then tell their address.
pub const SURVEY: Duration = Duration::from_secs(5);

/// What a router has said in one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Not yet anything.
    Asked,
    /// It speaks it; its address outside, where it tells that without a mapping.
    Answers(Option<Ipv4Addr>),
    /// It does not, or not with us.
    Refused(Refusal),
}

impl Spoken {
    /// The router's address outside, where it has answered, and where it has told one.
    pub fn external(&self) -> Option<Option<Ipv4Addr>> {
        match self {
            Self::Answers(external) => Some(*external),
            Self::Asked | Self::Refused(_) => None,
        }
    }
}

/// The questions of one look at the router, and what came of them.
#[derive(Debug, Default)]
pub(super) struct Survey {
    asked: BTreeMap<RequestId, Protocol>,
    spoken: BTreeMap<Protocol, Spoken>,
    until: Option<Instant>,
}

impl Survey {
    /// When the look ends at the latest, while it lasts.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Forgets everything: it was another router.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn note(&mut self, protocol: Protocol, spoken: Spoken) {
        self.spoken.insert(protocol, spoken);
        if self.asked.is_empty() {
            self.until = None;
        }
    }

    /// It answers, and with an address that is of use where it tells one.
    fn is_useful(&self) -> bool {
        let answers = || self.spoken.values().filter_map(Spoken::external);
        let told = || answers().flatten();
        told().any(is_public) || told().next().is_none() && answers().next().is_some()
    }

    /// Why no mapping will be of use, once everything was said.
    fn verdict(&self) -> Problem {
        match self.spoken.values().filter_map(Spoken::external).flatten().next() {
            None => Problem::Silent,
            Some(address) if address.is_unspecified() => Problem::NoExternal,
            Some(address) => Problem::NotPublic(address),
        }
    }
}

impl Mapper {
    /// Asks the router in every protocol whether it speaks it and which address it has outside, unless it is being asked.
    /// Nothing is mapped for it. To be done before anybody waits for a mapping: a device of UPnP takes up to three seconds
    /// to be found, and is known from then on.
    pub fn look(&mut self, now: Instant) {
        let Some(gateway) = self.gateway.filter(|_| self.survey.until.is_none() && !self.stopping) else {
            return;
        };
        self.survey.until = Some(now + SURVEY);
        for protocol in Protocol::ALL {
            self.last_request += 1;
            let id = RequestId(self.last_request);
            self.survey.asked.insert(id, protocol);
            self.survey.spoken.entry(protocol).or_insert(Spoken::Asked);
            self.outputs.push_back(Output::Look { id, protocol, gateway });
        }
    }

    /// The answer to [`Output::Look`]: the router's address outside, where the protocol tells it; late ones change nothing.
    pub fn handle_seen(&mut self, now: Instant, id: RequestId, seen: Result<Option<Ipv4Addr>, Refusal>) {
        let Some(protocol) = self.survey.asked.remove(&id) else { return };
        let spoken = match seen {
            Ok(external) => Spoken::Answers(external),
            Err(refusal) => Spoken::Refused(refusal),
        };
        self.survey.note(protocol, spoken);
        self.conclude(now);
        self.settle(now);
    }

    /// Who has not answered by now is silent.
    pub(super) fn survey_timeout(&mut self, now: Instant) {
        if self.survey.until.is_some_and(|until| until <= now) {
            for protocol in std::mem::take(&mut self.survey.asked).into_values() {
                self.survey.note(protocol, Spoken::Refused(Refusal::NoAnswer));
            }
            self.conclude(now);
        }
    }

    /// What the router has said in each protocol, as far as it was asked, and whether more may come.
    pub fn surveyed(&self) -> (&BTreeMap<Protocol, Spoken>, bool) {
        (&self.survey.spoken, self.survey.until.is_some())
    }

    /// How long a call that needs a mapping waits for it at the most, if it is worth waiting at all; `eagerly`: nothing
    /// else can tell its peer where to send. Where the router is still being looked at for the first time, such a call
    /// waits until that is over; all others wait [`PATIENCE`].
    pub fn worth_waiting(&self, now: Instant, eagerly: bool) -> Option<Instant> {
        if self.gateway.is_none() || self.stopping || self.quiet.is_some() {
            return None;
        }
        let unknown = eagerly && self.preferred.is_none() && !self.survey.is_useful();
        let known_at = self.survey.until.filter(|_| unknown).map_or(now, |until| until.max(now));
        Some(known_at + PATIENCE)
    }

    /// Once the look is over: nobody waits for a router that is of no use, and one that has come to life is asked again.
    fn conclude(&mut self, now: Instant) {
        let useful = self.survey.is_useful();
        let lifts = |quiet: &Quiet| {
            matches!(quiet.problem, Problem::Silent | Problem::NoExternal | Problem::NotPublic(_))
        };
        if useful && self.quiet.as_ref().is_some_and(lifts) {
            self.quiet = None;
            for entry in self.entries.values_mut() {
                if let State::Waiting(waiting) = &mut entry.state {
                    waiting.at = Some(now);
                }
            }
        }
        // It was not asked for a mapping yet: that it is of no use is not proved, and the first who wants one may try.
        let unproved = self.preferred.is_none() && self.quiet.is_none();
        if self.survey.until.is_none() && !useful && unproved {
            self.quiet = Some(Quiet { until: now, problem: self.survey.verdict() });
        }
    }
}
