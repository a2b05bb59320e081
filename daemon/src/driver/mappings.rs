//! Port mappings: what calls, the configuration and the bus want of the router, and what becomes of it. The policy decides;
//! here its requests are carried out and its news are passed on.

mod look;
mod shown;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use tokio::sync::oneshot;
use voipd_agent::account::AccountSettings;
use voipd_agent::view::CallId;
use voipd_media::LocalMedia;
use voipd_nat::mapping::{
    Action, AddError, Answer, Gateway, Lease, Mapper, MappingId, MappingView, Output, PinholeView, Purpose,
    RequestId, Transport, Want,
};
use voipd_sip::endpoint::Transport as SipTransport;

use super::{Driver, Finished};
use crate::api::mappings::MappingWish;
use crate::api::{ErrorKind, RequestError};
use crate::config::Config;
use crate::doctor::RouterFacts;
use crate::portmap::{Talker, route};

/// Most mappings that the bus may ask for.
const MOST_WISHES: usize = 64;

/// What the driver begins with.
pub struct MappingParts {
    /// Routers are asked at all.
    pub enabled: bool,
    /// For the policy.
    pub seed: [u8; 32],
    /// What an earlier run has left at routers for good.
    pub leftovers: Vec<Lease>,
    /// Where SIP is taken without TLS: who calls without a server expects it there.
    pub sip: Vec<(Transport, SocketAddr)>,
    /// The same over IPv6, where routers are asked at all.
    pub sip_ipv6: Vec<(Transport, SocketAddr)>,
}

impl MappingParts {
    /// As the configuration has it.
    pub fn new(config: &Config, seed: [u8; 32], leftovers: Vec<Lease>) -> Self {
        let listen = |ipv4| {
            let listen = config.sip.listen.iter().filter(move |at| at.is_ipv4() == ipv4);
            let udp = listen.clone().map(|at| (Transport::Udp, *at));
            let tcp = listen.filter(|_| config.sip.tcp).map(|at| (Transport::Tcp, *at));
            udp.chain(tcp).collect::<Vec<_>>()
        };
        Self { enabled: config.nat.port_mapping, seed, leftovers, sip: listen(true), sip_ipv6: listen(false) }
    }
}

/// All mappings.
pub(super) struct Mappings {
    enabled: bool,
    mapper: Mapper,
    talker: Talker,
    sip: Vec<(Transport, SocketAddr)>,
    number: u32,
    sip_mapped: Vec<MappingId>,
    calls: BTreeMap<CallId, CallMappings>,
    wishes: Vec<MappingId>,
    /// What routers keep until it is removed.
    permanent: Vec<Lease>,
    told: Vec<MappingView>,
    told_pinholes: Vec<PinholeView>,
    /// The last problem that the log has.
    complaint: Option<String>,
    wake_at: Option<Instant>,
    /// The network may be another one since the router was last looked for.
    stale: bool,
    /// This machine has slept since then.
    slept: bool,
    /// They want to know what the router says of itself.
    curious: Vec<oneshot::Sender<RouterFacts>>,
}

/// The ports of a call.
struct CallMappings {
    rtp: MappingId,
    rtcp: MappingId,
    local: LocalMedia,
    /// The call goes on at this time at the latest.
    waits_until: Option<Instant>,
}

impl Mappings {
    pub(super) fn new(parts: MappingParts, now: Instant) -> Self {
        let [a, b, c, d, ..] = parts.seed;
        let mut mapper = Mapper::new(parts.seed);
        mapper.adopt(now, parts.leftovers.iter().copied());
        Self {
            enabled: parts.enabled,
            mapper,
            talker: Talker::default(),
            sip: parts.sip,
            number: u32::from_be_bytes([a, b, c, d]),
            sip_mapped: Vec::new(),
            calls: BTreeMap::new(),
            wishes: Vec::new(),
            permanent: parts.leftovers,
            told: Vec::new(),
            told_pinholes: Vec::new(),
            complaint: None,
            wake_at: None,
            stale: true,
            slept: false,
            curious: Vec::new(),
        }
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self.calls.values().filter_map(|call| call.waits_until);
        self.wake_at.into_iter().chain(waiting).min()
    }

    /// Where SIP over UDP is taken.
    pub(super) fn sip_port(&self) -> Option<u16> {
        self.sip.iter().find(|(transport, _)| *transport == Transport::Udp).map(|(_, at)| at.port())
    }

    /// A number that other machines hardly have.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Nothing is left to do before a stop.
    pub(super) fn is_idle(&self) -> bool {
        self.mapper.is_idle()
    }

    /// Where this machine stands, when anything depends on it. `slept`: what the router had for us may be gone.
    fn look_around(&mut self, now: Instant, slept: bool) {
        let gateway = route::gateway();
        let moved = gateway != self.mapper.gateway();
        if moved || slept {
            self.mapper.set_gateway(now, gateway);
        }
        if moved {
            match gateway {
                Some(Gateway { router, local }) => log::debug!("port mappings: {local} is behind {router}"),
                None => log::debug!("port mappings: there is no router to ask"),
            }
            // The first who needs a port shall not have to wait for the router to be found.
            if self.serves(gateway) {
                self.mapper.look(now);
            }
        }
    }

    fn is_in_use(&self) -> bool {
        self.enabled && (self.mapper.views().next().is_some() || !self.permanent.is_empty())
    }

    fn want_for_call(&mut self, now: Instant, call: CallId, local: LocalMedia) -> Option<CallMappings> {
        self.forget_call(now, call);
        let want = |internal_port, purpose| Want {
            transport: Transport::Udp,
            internal_port,
            external_port: None,
            purpose,
            keep_for: None,
        };
        let rtp = self.mapper.add(now, want(local.rtp_port, Purpose::Rtp)).ok()?;
        let Ok(rtcp) = self.mapper.add(now, want(local.rtcp_port, Purpose::Rtcp)) else {
            self.mapper.remove(now, rtp);
            return None;
        };
        Some(CallMappings { rtp, rtcp, local, waits_until: None })
    }

    fn forget_call(&mut self, now: Instant, call: CallId) {
        if let Some(ports) = self.calls.remove(&call) {
            self.mapper.remove(now, ports.rtp);
            self.mapper.remove(now, ports.rtcp);
        }
    }

    /// Where a call's media is reached from outside; only where both ports are, at one address.
    fn mapped(&self, ports: &CallMappings) -> Option<LocalMedia> {
        let external = |id| self.mapper.view(id).and_then(|view| view.external);
        let (rtp, rtcp) = (external(ports.rtp)?, external(ports.rtcp)?);
        (rtp.ip() == rtcp.ip()).then(|| LocalMedia {
            address: IpAddr::V4(*rtp.ip()),
            rtp_port: rtp.port(),
            rtcp_port: rtcp.port(),
        })
    }

    /// Nothing will come of a call's mappings soon.
    fn is_hopeless(&self, ports: &CallMappings) -> bool {
        let failed = |id| self.mapper.view(id).is_none_or(|view| view.problem.is_some());
        failed(ports.rtp) || failed(ports.rtcp)
    }

    fn call_of(&self, id: MappingId) -> Option<CallId> {
        self.calls.iter().find(|(_, ports)| ports.rtp == id || ports.rtcp == id).map(|(call, _)| *call)
    }

    /// The ports that SIP listens on, where strangers from outside the private networks may call without a server.
    fn want_sip(&mut self, now: Instant, wanted: bool) {
        let local = self.mapper.gateway().map(|gateway| IpAddr::V4(gateway.local));
        let wanted = wanted && local.is_some();
        if !wanted {
            for id in std::mem::take(&mut self.sip_mapped) {
                self.mapper.remove(now, id);
            }
            return;
        }
        if !self.sip_mapped.is_empty() {
            return;
        }
        for (transport, at) in &self.sip {
            if !at.ip().is_unspecified() && Some(at.ip()) != local {
                continue;
            }
            let want = Want {
                transport: *transport,
                internal_port: at.port(),
                external_port: None,
                purpose: Purpose::Sip,
                keep_for: None,
            };
            if let Ok(id) = self.mapper.add(now, want) {
                self.sip_mapped.push(id);
            }
        }
    }

    /// Whether this request makes something that is remembered.
    fn kept(&self, action: &Action) -> bool {
        matches!(action, Action::Map { lease, lifetime: None }
            if self.permanent.iter().any(|known| is_same_port(known, lease)))
    }

    /// Says once what keeps all mappings from being made.
    fn explain(&mut self, view: &MappingView) {
        let what = format!("{} port {}", view.want.transport.name(), view.want.internal_port);
        match (&view.external, &view.problem) {
            (Some(external), _) => {
                self.complaint = None;
                let by = view.protocol.map_or("", |protocol| protocol.name());
                log::info!("port mapping: {what} is reached at {external} ({by})");
            }
            (None, Some(problem)) => {
                let problem = problem.to_string();
                if self.complaint.as_ref() != Some(&problem) {
                    log::info!("port mapping of {what}: {problem}");
                    self.complaint = Some(problem);
                }
            }
            (None, None) => {}
        }
    }
}

impl Driver {
    /// Media sockets are bound: the agent hears of it when their mappings are there, where it wants some.
    pub(super) fn media_bound(&mut self, call: CallId, bound: Result<LocalMedia, String>) {
        let now = Instant::now();
        if let Ok(local) = bound
            && self.mappings.enabled
        {
            self.open_for_call(now, call, local);
        }
        if let Ok(local) = bound
            && self.mappings.enabled
            && self.agent.wants_mapping(call)
        {
            self.mappings.look_around(now, false);
            let ours = self.mappings.mapper.gateway().map(|gateway| IpAddr::V4(gateway.local));
            if ours == Some(local.address)
                && let Some(mut ports) = self.mappings.want_for_call(now, call, local)
            {
                // Where ICE is spoken, the peer hears of what is mapped later; where it takes candidates at any time, it is
                // not kept waiting at all.
                let eagerly = !self.agent.offers_ice(call);
                let worth = self.mappings.mapper.worth_waiting(now, eagerly);
                ports.waits_until = worth.filter(|_| self.agent.waits_for_mapping(call));
                let waits = ports.waits_until.is_some();
                if worth.is_some() && !waits {
                    self.agent.expect_mapping(call);
                }
                self.mappings.calls.insert(call, ports);
                self.serve_mappings(now);
                if waits {
                    return;
                }
            }
        }
        self.agent.handle_media_bound(now, call, bound);
    }

    /// A call goes on with other sockets: what led to those before is given up, and asked for anew where that is worth it.
    /// The call does not wait for it: its peer hears of our own address first.
    pub(super) fn media_moved(&mut self, call: CallId, moved: Result<LocalMedia, String>) {
        let now = Instant::now();
        let local = moved.as_ref().ok().copied();
        if local.is_some() {
            self.media_unmapped(call);
        }
        self.agent.handle_media_bound(now, call, moved);
        let Some(local) = local.filter(|_| self.mappings.enabled) else { return };
        self.open_for_call(now, call, local);
        let ours = self.mappings.mapper.gateway().map(|gateway| IpAddr::V4(gateway.local));
        if ours == Some(local.address)
            && self.agent.wants_mapping(call)
            && let Some(ports) = self.mappings.want_for_call(now, call, local)
        {
            self.mappings.calls.insert(call, ports);
            self.serve_mappings(now);
        }
    }

    /// The call needs its ports no more.
    pub(super) fn media_unmapped(&mut self, call: CallId) {
        let now = Instant::now();
        self.mappings.forget_call(now, call);
        self.serve_mappings(now);
        self.close_for_call(now, call);
    }

    pub(super) fn router_answered(&mut self, id: RequestId, answer: Answer) {
        let now = Instant::now();
        self.mappings.mapper.handle_answer(now, id, answer);
        self.serve_mappings(now);
    }

    pub(super) fn mappings_timeout(&mut self, now: Instant) {
        if self.mappings.wake_at.is_some_and(|at| at <= now) {
            self.mappings.mapper.handle_timeout(now);
        }
        self.serve_mappings(now);
    }

    /// Once a second, and when the network has changed: routes and settings may be others.
    pub(super) fn review_mappings(&mut self) {
        let now = Instant::now();
        if !self.mappings.enabled {
            return;
        }
        let direct = self.agent.find_account("direct").and_then(|id| self.agent.account_settings(id));
        let wanted = direct.is_some_and(takes_calls_from_outside);
        let strangers = direct.is_some_and(takes_ipv6_calls_from_outside);
        let slept = std::mem::take(&mut self.mappings.slept);
        if std::mem::take(&mut self.mappings.stale) || wanted || self.mappings.is_in_use() {
            self.mappings.look_around(now, slept);
        }
        self.mappings.want_sip(now, wanted);
        self.serve_mappings(now);
        self.review_pinholes(now, strangers, slept);
    }

    pub(super) fn remove_all_mappings(&mut self, now: Instant) {
        self.mappings.mapper.shut_down(now);
        self.serve_mappings(now);
    }

    pub(super) fn add_mapping(&mut self, wish: MappingWish) -> Result<u32, RequestError> {
        let refused = |kind, message: String| Err(RequestError { kind, message });
        if !self.mappings.enabled {
            let message = "port mapping is switched off: set port-mapping = true under [nat]".to_owned();
            return refused(ErrorKind::NotPermitted, message);
        }
        if self.mappings.wishes.len() >= MOST_WISHES {
            let message = format!("there are {MOST_WISHES} mappings already: remove one first");
            return refused(ErrorKind::LimitReached, message);
        }
        let now = Instant::now();
        self.mappings.look_around(now, false);
        let want = Want {
            transport: wish.transport,
            internal_port: wish.internal_port,
            external_port: wish.external_port,
            purpose: Purpose::User,
            keep_for: wish.keep_for,
        };
        let added = self.mappings.mapper.add(now, want);
        match added {
            Ok(id) => {
                self.mappings.wishes.push(id);
                self.serve_mappings(now);
                Ok(id.0)
            }
            Err(error) => refused(
                match error {
                    AddError::Exists { .. } => ErrorKind::AlreadyExists,
                    AddError::TooMany => ErrorKind::LimitReached,
                    AddError::Stopping => ErrorKind::NotReady,
                },
                error.to_string(),
            ),
        }
    }

    pub(super) fn remove_mapping(&mut self, id: u32) -> Result<(), RequestError> {
        let id = MappingId(id);
        let now = Instant::now();
        if self.mappings.mapper.view(id).is_none() {
            let message = format!("there is no mapping {}: list the mappings to see which there are", id.0);
            return Err(RequestError { kind: ErrorKind::InvalidArgument, message });
        }
        if !self.mappings.wishes.contains(&id) {
            let message = format!("mapping {} is voipd's own: it goes when it is not needed any more", id.0);
            return Err(RequestError { kind: ErrorKind::NotPermitted, message });
        }
        self.mappings.mapper.remove(now, id);
        self.serve_mappings(now);
        Ok(())
    }

    /// Carries out all that the policy asks for; calls that wait go on when there is no more reason to.
    fn serve_mappings(&mut self, now: Instant) {
        let mut moved = Vec::new();
        let mut changed = false;
        loop {
            match self.mappings.mapper.poll_output() {
                Output::Request { id, action } => {
                    let (talker, finished) = (self.mappings.talker.clone(), self.finished.clone());
                    // What a crash would leave for good stands in the store before it is made.
                    let kept = self.mappings.kept(&action);
                    let kept = kept.then(|| self.store.set_port_mappings(&self.mappings.permanent));
                    tokio::spawn(async move {
                        if let Some(Err(error)) = match kept {
                            Some(kept) => Some(kept.await),
                            None => None,
                        } {
                            log::warn!("port mapping: {error}");
                        }
                        let answer = talker.ask(action).await;
                        // The driver is gone when nobody listens.
                        let _ = finished.send(Finished::RouterAnswered { id, answer });
                    });
                }
                Output::Look { id, protocol, gateway } => {
                    let (talker, finished) = (self.mappings.talker.clone(), self.finished.clone());
                    tokio::spawn(async move {
                        let seen = talker.look(protocol, gateway).await;
                        // The driver is gone when nobody listens.
                        let _ = finished.send(Finished::RouterSeen { id, seen });
                    });
                }
                Output::Changed(id) => {
                    changed = true;
                    if let Some(view) = self.mappings.mapper.view(id) {
                        let known = self.mappings.told.iter().find(|known| known.id == id);
                        let news = known.is_none_or(|known| {
                            (known.external, &known.problem) != (view.external, &view.problem)
                        });
                        if view.want.purpose == Purpose::Sip {
                            let transport = match view.want.transport {
                                Transport::Udp => SipTransport::Udp,
                                Transport::Tcp => SipTransport::Tcp,
                            };
                            let external = view.external.map(SocketAddr::V4);
                            self.agent.handle_sip_mapped(transport, view.want.internal_port, external);
                        }
                        if news {
                            self.mappings.explain(&view);
                        }
                    }
                    moved.extend(self.mappings.call_of(id));
                }
                Output::Removed(id) => {
                    changed = true;
                    self.mappings.wishes.retain(|wish| *wish != id);
                }
                Output::Remember(lease) => self.mappings.permanent.push(lease),
                Output::Forget(lease) => {
                    self.mappings.permanent.retain(|known| !is_same_port(known, &lease));
                    // A store that cannot be written says so with the next change that someone waits for.
                    drop(self.store.set_port_mappings(&self.mappings.permanent));
                }
                Output::Timeout(at) => {
                    self.mappings.wake_at = at;
                    break;
                }
            }
        }
        moved.dedup();
        for call in moved {
            let mapped = self.mappings.calls.get(&call).and_then(|ports| self.mappings.mapped(ports));
            self.agent.handle_media_mapped(now, call, mapped);
        }
        if changed {
            self.publish_mappings(now);
        }
        self.satisfy_the_curious();
        self.release_calls(now);
    }

    /// Calls whose mappings are there, or that have waited long enough.
    fn release_calls(&mut self, now: Instant) {
        let mappings = &self.mappings;
        let hopeless = mappings.mapper.worth_waiting(now, true).is_none();
        let ready = mappings.calls.iter().filter(|(_, ports)| {
            ports.waits_until.is_some_and(|at| at <= now)
                || ports.waits_until.is_some()
                    && (hopeless || mappings.mapped(ports).is_some() || mappings.is_hopeless(ports))
        });
        let may_come = |ports: &CallMappings| {
            !hopeless && mappings.mapped(ports).is_none() && !mappings.is_hopeless(ports)
        };
        let ready: Vec<(CallId, LocalMedia, bool)> =
            ready.map(|(call, ports)| (*call, ports.local, may_come(ports))).collect();
        for (call, local, may_come) in ready {
            if let Some(ports) = self.mappings.calls.get_mut(&call) {
                ports.waits_until = None;
            }
            if may_come {
                self.agent.expect_mapping(call);
            }
            self.agent.handle_media_bound(now, call, Ok(local));
        }
    }
}

fn is_same_port(one: &Lease, other: &Lease) -> bool {
    let port = |lease: &Lease| (lease.gateway, lease.transport, lease.external_port);
    port(one) == port(other)
}

/// Somebody outside the private networks may call without a server.
fn takes_calls_from_outside(direct: &AccountSettings) -> bool {
    direct.enabled && direct.allow_from.iter().any(|network| voipd_agent::is_outside(network.address()))
}

/// The same by IPv6.
fn takes_ipv6_calls_from_outside(direct: &AccountSettings) -> bool {
    let anybody = |address: IpAddr| match address {
        IpAddr::V6(ip) => ip.is_unspecified() || voipd_agent::is_global_ipv6(ip),
        IpAddr::V4(_) => false,
    };
    direct.enabled && direct.allow_from.iter().any(|network| anybody(network.address()))
}
