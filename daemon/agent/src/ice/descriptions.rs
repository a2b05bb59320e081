//! What descriptions and fragments of ours say about a call's ICE: candidates, the default ones among them, and whether the
//! peer is told one after the other.

use std::net::SocketAddr;
use std::time::Instant;

use voipd_media::LocalMedia;
use voipd_media::ice::{Candidate, LocalIce};
use voipd_nat::ice::{self, MediaPath, Role, State};

use super::{CallIce, media_kind, remote_of};
use crate::ice_settings::IcePolicy;
use crate::trickle::Trickle;

impl CallIce {
    /// What a description of ours says.
    pub(crate) fn describe(&mut self, local: LocalMedia, trickles: bool, trickle: &mut Trickle) -> LocalIce {
        if local != self.local {
            // The call has moved to another network: what is gathered there later is told later.
            self.restart(self.latest, Some(local), true);
        }
        self.late_at = None;
        let credentials = self.agent.credentials();
        let candidates = self.candidates();
        let complete =
            trickle.describe(self.latest, &credentials.ufrag, &candidates, self.agent.is_gathered());
        LocalIce {
            credentials: voipd_media::ice::Credentials {
                ufrag: credentials.ufrag.clone(),
                password: credentials.password.clone(),
            },
            candidates,
            trickle: trickles,
            complete,
            remote_candidates: self.remote_candidates(),
        }
    }

    /// The peer takes candidates in INFO, by its description.
    pub(crate) fn peer_trickles(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.trickle)
    }

    /// What is new may still be of use, and belongs to what the peer has described (RFC 8838 section 13).
    pub(crate) fn may_trickle(&self) -> bool {
        self.peer_trickles() && matches!(self.agent.state(), State::Checking | State::Failed)
    }

    /// What the peer is told next, and nothing that it knows.
    pub(crate) fn next_fragment(&self, now: Instant, trickle: &mut Trickle) -> Option<LocalIce> {
        let credentials = self.agent.credentials();
        let all = self.agent.candidates().iter().map(|candidate| self.written(candidate)).collect();
        let (candidates, complete) = trickle.take(now, &credentials.ufrag, all, self.agent.is_gathered())?;
        Some(LocalIce {
            credentials: voipd_media::ice::Credentials {
                ufrag: credentials.ufrag.clone(),
                password: credentials.password.clone(),
            },
            candidates,
            trickle: true,
            complete,
            remote_candidates: Vec::new(),
        })
    }

    /// All that there are; once a way is chosen, those alone that it takes (RFC 8839 section 4.4.1.2.2).
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        if self.agent.state() == State::Connected {
            return [1, 2]
                .into_iter()
                .filter_map(|of| self.default_candidate(of))
                .map(|c| self.written(c))
                .collect();
        }
        self.agent.candidates().iter().map(|c| self.written(c)).collect()
    }

    pub(super) fn written(&self, candidate: &ice::Candidate) -> Candidate {
        let nowhere = |address: SocketAddr| match address.is_ipv4() {
            true => SocketAddr::from(([0, 0, 0, 0], 9)),
            false => SocketAddr::from(([0_u16; 8], 9)),
        };
        Candidate {
            foundation: candidate.foundation.clone(),
            component: u8::try_from(candidate.component).unwrap_or(u8::MAX),
            priority: candidate.priority,
            address: candidate.address,
            kind: media_kind(candidate.kind),
            // RFC 8828 section 5.2: what was hidden on purpose is not told beside.
            related: candidate.related.map(|related| match self.policy {
                IcePolicy::Relay => nowhere(related),
                IcePolicy::Auto | IcePolicy::Off => related,
            }),
        }
    }

    /// RFC 8839 section 5.2: by whoever controls, once all is decided.
    pub(super) fn remote_candidates(&self) -> Vec<(u8, SocketAddr)> {
        if self.agent.role() != Role::Controlling || self.agent.state() != State::Connected {
            return Vec::new();
        }
        let pairs = self.selected.iter().flatten().filter(|pair| pair.nominated);
        pairs.map(|pair| (u8::try_from(pair.component).unwrap_or(u8::MAX), remote_of(pair.path))).collect()
    }

    /// Where media comes to without ICE. Not by a relay, unless nothing else is wanted: a relay lets in only whom it was
    /// told of, and a peer without ICE does not say where it sends from. Within a private network the machine's own
    /// address is the better one: many routers do not lead back what is sent to their outer address from inside.
    pub(crate) fn default_media(&self) -> LocalMedia {
        let Some(rtp) = self.default_candidate(1) else { return self.local };
        let rtcp = self.default_candidate(2).filter(|rtcp| rtcp.address.ip() == rtp.address.ip());
        LocalMedia {
            address: rtp.address.ip(),
            rtp_port: rtp.address.port(),
            rtcp_port: rtcp.map_or(self.local.rtcp_port, |rtcp| rtcp.address.port()),
        }
    }

    pub(super) fn default_candidate(&self, component: u16) -> Option<&ice::Candidate> {
        let by_relay = self.selected[0].is_some_and(|pair| pair.local == ice::CandidateKind::Relayed);
        let wanted = match self.policy {
            IcePolicy::Relay => ice::CandidateKind::Relayed,
            IcePolicy::Auto | IcePolicy::Off if by_relay => ice::CandidateKind::Relayed,
            IcePolicy::Auto | IcePolicy::Off if self.abroad => ice::CandidateKind::ServerReflexive,
            IcePolicy::Auto | IcePolicy::Off => ice::CandidateKind::Host,
        };
        let of = |kind: ice::CandidateKind| {
            let of_component = self.agent.candidates().iter().filter(move |c| c.component == component);
            of_component.filter(|c| c.kind == kind).max_by_key(|c| c.priority)
        };
        let same_family = |c: &&ice::Candidate| c.address.is_ipv4() == self.local.address.is_ipv4();
        // Once a pair is nominated, it is the one (RFC 8839 section 4.4.1.2.2).
        let nominated = self.selected.get(usize::from(component).wrapping_sub(1)).copied().flatten();
        if let Some(MediaPath::Direct { base, .. }) =
            nominated.filter(|_| self.agent.state() == State::Connected).map(|pair| pair.path)
        {
            let of_base = |c: &&ice::Candidate| c.address == base || c.related == Some(base);
            let of_base = self.agent.candidates().iter().filter(|c| c.component == component).filter(of_base);
            let best = of_base.filter(same_family).max_by_key(|c| (c.kind == wanted, c.priority));
            if best.is_some() {
                return best;
            }
        }
        of(wanted).filter(same_family).or_else(|| {
            let own = (self.policy != IcePolicy::Relay).then(|| of(ice::CandidateKind::Host));
            own.flatten().filter(same_family)
        })
    }
}
