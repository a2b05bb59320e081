//! The agent: accounts and calls behind one input and one output. It knows no socket, no clock and no bus.
//!
//! Call one `handle_*` or one application method, then drain [`Agent::poll_output`] until it answers
//! [`Output::Timeout`], before the next.

mod accounts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use voipd_audio::PortId;
use voipd_audio::plan::{EngineEvent, StreamCounters};
use voipd_audio::tone::national::Country;
use voipd_media::LocalMedia;
use voipd_sip::Endpoint;
use voipd_sip::digest::Secret;
use voipd_sip::endpoint::{
    self, EndpointConfig, Event, Flow, ResolveError, ResolveId, SessionError, SessionId, TransportError,
};

use crate::account::{AccountId, AccountKind};
use crate::accounts::Accounts;
use crate::call::{Call, Phase};
use crate::complaints::Complaints;
use crate::conference::Conferences;
use crate::error::AgentError;
use crate::names::{MediaNameId, MediaNames};
use crate::neighbours::Neighbour;
use crate::output::{FIRST_CALL_PORT, Note, Output, Weight};
use crate::roaming::NetworkChange;
use crate::servers::Servers;
use crate::sound::Routing;
use crate::trickle::TricklePeers;
use crate::view::{CallId, Reason, printable};

/// How long an ended call can still be read.
pub const ENDED_FOR: Duration = Duration::from_secs(30);
/// Most accounts: a client on the bus must not be able to fill the memory with them.
const MAX_ACCOUNTS: usize = 1000;
/// Most server transactions at once. Each lives 32 s (RFC 3261 timers H to J) after it was answered: room for some
/// hundred calls a second, and a few dozen megabytes at the worst.
const MAX_TRANSACTIONS: usize = 32_768;
/// Most ended calls kept at once, so that a flood of short calls cannot grow memory.
const MAX_ENDED: usize = 128;

/// What the whole agent has in common.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Whose signals callers hear; `None`: those of the account's country, where its dial plan names one.
    pub tones: Option<&'static Country>,
    /// User-Agent and Server, `voipd/0.1.0`.
    pub product: String,
    /// URN that names this device for good, `urn:uuid:…`; see [`Identity::instance`](endpoint::Identity::instance).
    pub instance: Option<String>,
    /// What the Contacts of accounts that register are made of, so that they are the same at each start. `None`: they are
    /// not.
    pub contact_key: Option<Secret>,
    /// Most calls at once.
    pub max_calls: usize,
    /// How long an unanswered call rings, either way.
    pub ring_timeout: Duration,
    /// How long the peer may send no RTP before it is asked for a sign of life.
    pub media_timeout: Duration,
    /// How long a call waits for a network when none leads to its peer any more, or when nobody answers its offers.
    pub network_timeout: Duration,
    /// Seconds that a call may go without a refresh of its session (RFC 4028), as we ask for it; at least 90. `None`: no
    /// session timers.
    pub session_timer: Option<u32>,
}

/// Accounts, calls and policy of one daemon.
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) endpoint: Endpoint,
    pub(crate) rng: ChaCha8Rng,
    /// When all began: what is done again and again for each call is done for all of them at once, counted from here.
    pub(crate) begun: Instant,
    /// For people: follows the system's clock.
    clock: WallClock,
    /// For RTCP, whose delays are differences: runs evenly from the first reading on, whatever is set later.
    even_clock: WallClock,
    pub(crate) accounts: Accounts,
    pub(crate) calls: BTreeMap<CallId, Call>,
    pub(crate) by_session: BTreeMap<SessionId, CallId>,
    pub(crate) by_port: BTreeMap<PortId, CallId>,
    last_call: u32,
    last_port: u32,
    pub(crate) do_not_disturb: bool,
    pub(crate) routing: Routing,
    pub(crate) conferences: Conferences,
    pub(crate) media_names: MediaNames,
    pub(crate) neighbours: Vec<Neighbour>,
    /// How everybody was reached after the last change; `None` before the first.
    pub(crate) network: Option<NetworkChange>,
    pub(crate) servers: Servers,
    pub(crate) trickle_peers: TricklePeers,
    /// Calls whose views may have changed.
    pub(crate) touched: BTreeSet<CallId>,
    /// About those who are turned away without a call.
    pub(crate) complaints: Complaints,
    events: VecDeque<Event>,
    endpoint_timeout: Option<Instant>,
    pub(crate) outputs: VecDeque<Output>,
}

/// Which wall-clock time belongs to which instant.
#[derive(Clone, Copy)]
struct WallClock {
    at: Instant,
    unix_micros: u64,
}

impl WallClock {
    /// Unix microseconds.
    fn read(self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.at).as_micros();
        self.unix_micros.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

impl Agent {
    /// `unix_micros`: wall-clock time at `now`.
    pub fn new(config: AgentConfig, seed: [u8; 32], now: Instant, unix_micros: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut endpoint_seed = [0; 32];
        rng.fill_bytes(&mut endpoint_seed);
        let endpoint = Endpoint::new(
            EndpointConfig {
                product: config.product.clone(),
                max_sessions: config.max_calls.saturating_mul(2).max(16),
                max_transactions: MAX_TRANSACTIONS,
                session_expires: config.session_timer,
                network_timeout: config.network_timeout,
            },
            endpoint_seed,
        );
        Self {
            config,
            endpoint,
            rng,
            begun: now,
            clock: WallClock { at: now, unix_micros },
            even_clock: WallClock { at: now, unix_micros },
            accounts: Accounts::default(),
            calls: BTreeMap::new(),
            by_session: BTreeMap::new(),
            by_port: BTreeMap::new(),
            last_call: 0,
            last_port: FIRST_CALL_PORT,
            do_not_disturb: false,
            routing: Routing::default(),
            conferences: Conferences::default(),
            media_names: MediaNames::default(),
            neighbours: Vec::new(),
            network: None,
            servers: Servers::default(),
            trickle_peers: TricklePeers::default(),
            touched: BTreeSet::new(),
            complaints: Complaints::default(),
            events: VecDeque::new(),
            endpoint_timeout: None,
            outputs: VecDeque::new(),
        }
    }

    // Inputs.

    /// A datagram on a SIP socket.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        self.endpoint.handle_datagram(now, flow, bytes);
        self.settle(now);
    }

    /// A message that came whole on a SIP connection.
    pub fn handle_message(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        self.endpoint.handle_message(now, flow, bytes);
        self.settle(now);
    }

    /// The far end of a SIP connection has answered a ping.
    pub fn handle_pong(&mut self, now: Instant, flow: Flow) {
        self.endpoint.handle_pong(flow);
        self.settle(now);
    }

    /// A registration or a call relies on the connection of `flow`.
    pub fn uses(&self, flow: Flow) -> bool {
        self.endpoint.uses(flow)
    }

    /// The answer to [`Output::Resolve`].
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, result: Result<Vec<Flow>, ResolveError>) {
        self.endpoint.handle_resolved(now, id, result);
        self.settle(now);
    }

    /// The SIP transport could not deliver on `flow`, or its connection is lost.
    pub fn handle_failed(&mut self, now: Instant, flow: Flow, error: TransportError) {
        self.endpoint.handle_failed(now, flow, error);
        self.settle(now);
    }

    /// A SIP connection on `flow` does not come about yet, though it has been tried for [`endpoint::PATIENCE`].
    pub fn handle_slow(&mut self, now: Instant, flow: Flow) {
        self.endpoint.handle_slow(now, flow);
        self.settle(now);
    }

    /// The answer to [`Output::ResolveMedia`]: all addresses of the name, best first, or a sentence for the log. Answers
    /// that come too late, or for a session that is over, change nothing.
    pub fn handle_media_resolved(
        &mut self,
        now: Instant,
        id: MediaNameId,
        result: Result<Vec<IpAddr>, String>,
    ) {
        self.media_resolved(now, id, result);
        self.settle(now);
    }

    /// Sockets that are bound for a call beside those that the answer to [`Output::BindMedia`] or [`Output::MoveMedia`] will
    /// name, at other addresses of this machine, the best first: ICE offers them, too. To be told before that answer, where
    /// [`Agent::wants_sockets_beside`]; those of before are void by then.
    pub fn handle_media_beside(&mut self, call: CallId, beside: Vec<LocalMedia>) {
        self.media_beside(call, beside);
    }

    /// The answer to [`Output::BindMedia`]; the error is a sentence for the log.
    pub fn handle_media_bound(&mut self, now: Instant, call: CallId, result: Result<LocalMedia, String>) {
        self.media_bound(now, call, result);
        self.settle(now);
    }

    /// What the audio engine reports.
    pub fn handle_engine_event(&mut self, now: Instant, event: EngineEvent) {
        self.engine_event(now, event);
        self.settle(now);
    }

    /// A packet on a call's RTCP port. `now`: when it came.
    pub fn handle_rtcp(&mut self, now: Instant, call: CallId, source: SocketAddr, bytes: &[u8]) {
        self.rtcp(now, call, source, bytes);
        self.settle_figures(now);
    }

    /// The answer to [`Output::WantCounters`]. `now_nanos`: the monotonic clock that the counters speak of.
    pub fn handle_counters(&mut self, now: Instant, now_nanos: u64, call: CallId, counters: &StreamCounters) {
        self.counters(now, now_nanos, call, counters);
        self.settle_figures(now);
    }

    /// The time that [`Output::Timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.endpoint_timeout.is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
            self.drain_endpoint();
        }
        self.call_timeouts(now);
        self.media_name_timeouts(now);
        self.server_timeouts(now);
        self.routing.handle_timeout(now);
        self.settle(now);
    }

    /// The wall clock was set, or some time has passed: `unix_micros` is the time now. The times of calls follow it;
    /// RTCP keeps to the first reading.
    pub fn set_wall_clock(&mut self, now: Instant, unix_micros: u64) {
        self.clock = WallClock { at: now, unix_micros };
    }

    /// The next thing to do; [`Output::Timeout`] when there is nothing.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let patience = self.config.network_timeout;
        let calls = self.calls.values().filter_map(|call| call.next_timeout(ENDED_FOR, patience));
        let others = [
            self.endpoint_timeout,
            self.routing.next_timeout(),
            self.media_names.next_timeout(),
            self.servers.next_timeout(),
        ];
        Output::Timeout(calls.chain(others.into_iter().flatten()).min())
    }

    /// While on, inbound calls are answered 480 at once and nothing rings.
    pub fn set_do_not_disturb(&mut self, now: Instant, on: bool) {
        self.do_not_disturb = on;
        self.settle(now);
    }

    /// The call whose messages have this Call-ID. For traces: it looks at all.
    pub fn call_of(&self, call_id: &str) -> Option<CallId> {
        let session = self.endpoint.session_of(call_id)?;
        self.calls.values().find(|call| call.session == session).map(|call| call.id)
    }

    /// The account that a call belongs to.
    pub fn account_of_call(&self, id: CallId) -> Option<AccountId> {
        self.calls.get(&id).map(|call| call.account)
    }

    /// # Errors
    /// [`AgentError::NoSuchCall`] where there is none of that number, not even an ended one.
    pub fn find_call(&self, id: CallId) -> Result<(), AgentError> {
        self.calls.get(&id).map(|_| ()).ok_or(AgentError::NoSuchCall(id.0))
    }

    // The end.

    /// Hangs up every call and removes every registration; nothing can be placed or taken any more. Go on until
    /// [`Agent::is_idle`].
    pub fn shut_down(&mut self, now: Instant) {
        self.hang_up_all(now, |_| true);
        let accounts: Vec<AccountId> = self.accounts.iter().map(|(id, _)| id).collect();
        for id in accounts {
            self.switch_off(now, id);
        }
        self.settle(now);
    }

    /// Nothing is left to send or to wait for.
    pub fn is_idle(&self) -> bool {
        self.outputs.is_empty() && self.endpoint.is_idle()
    }

    pub(crate) fn hang_up_all(&mut self, now: Instant, which: impl Fn(&Call) -> bool) {
        let live = self.calls.values().filter(|call| !call.is_ended() && which(call));
        let calls: Vec<CallId> = live.map(|call| call.id).collect();
        for id in calls {
            self.hang_up_for(now, id, Some(Reason::Local));
        }
    }

    // What the other halves of this type share.

    /// Handles what signalling has to say, then brings sound and views up to date.
    pub(crate) fn settle(&mut self, now: Instant) {
        self.drain_endpoint();
        while let Some(event) = self.events.pop_front() {
            self.handle_event(now, event);
            self.drain_endpoint();
        }
        self.route(now);
        self.publish();
        self.publish_conferences();
        self.forget_old_calls();
    }

    /// The same where figures have come: unless they lead to more, nobody hears another than before, and no call looks
    /// different. They come each second for each call.
    fn settle_figures(&mut self, now: Instant) {
        self.drain_endpoint();
        if !self.events.is_empty() || !self.touched.is_empty() {
            self.settle(now);
        }
    }

    /// Takes all outputs of the endpoint: to be done after each call of one of its methods.
    pub(crate) fn drain_endpoint(&mut self) {
        loop {
            match self.endpoint.poll_output() {
                endpoint::Output::Transmit { flow, bytes } => {
                    self.outputs.push_back(Output::Transmit { flow, bytes });
                }
                endpoint::Output::Resolve { id, identity, next_hop } => {
                    let account = identity.and_then(|identity| self.accounts.of_identity(identity));
                    self.outputs.push_back(Output::Resolve { id, account, next_hop });
                }
                endpoint::Output::Disconnect { flow } => {
                    self.outputs.push_back(Output::Disconnect { flow });
                }
                endpoint::Output::Event(event) => self.events.push_back(event),
                endpoint::Output::Timeout(at) => {
                    self.endpoint_timeout = at;
                    return;
                }
            }
        }
    }

    pub(crate) fn handle_event(&mut self, now: Instant, event: Event) {
        let event = match event {
            // Whether an INVITE is anybody's is asked before its names are.
            Event::Incoming(incoming) => Some(Event::Incoming(incoming)),
            event => self.await_names(now, event),
        };
        let Some(event) = event else { return };
        match event {
            Event::Registration { identity, state } => self.registration(identity, state),
            Event::Digest { identity, algorithm } => self.digest_in_use(identity, algorithm),
            Event::Bound { identity, binding } => self.bound(identity, *binding),
            Event::Seen { identity, flow, before, address } => {
                if let Some(account) = self.accounts.of_identity(identity) {
                    if before.is_some() {
                        self.seen_elsewhere(now, account);
                    }
                    self.outputs.push_back(Output::SeenAs { account, flow, address });
                }
            }
            Event::Incoming(incoming) => self.incoming(now, incoming),
            Event::OfferWanted { session, flow } => self.offer_wanted(now, session, flow),
            Event::Progress { session, status, sdp, dialog } => {
                self.progress(now, session, status, sdp.as_deref(), &dialog);
            }
            Event::Redirected { session, target } => self.redirected(now, session, target),
            Event::Answered { session, sdp, peer, asserted } => {
                self.answered(now, session, sdp.as_deref(), peer, asserted);
            }
            Event::Confirmed { session, sdp } => self.confirmed(now, session, sdp.as_deref()),
            Event::Offered { session, sdp } => self.offered(now, session, sdp.as_deref()),
            Event::OfferDone { session, result } => self.offer_done(now, session, result),
            Event::RefreshWanted { session } => self.refresh_wanted(now, session),
            Event::Digit { session, digit, duration_ms } => {
                self.digit_received(now, session, digit, duration_ms);
            }
            Event::DigitSent { session, taken } => self.info_sent(now, session, taken),
            Event::Fragment { session, id, body } => self.fragment(now, session, id, &body),
            Event::FragmentSent { session, taken } => self.fragment_sent(now, session, taken),
            Event::Reconnected { session } => self.reconnected(now, session),
            Event::Probed { session, alive } => self.probed(now, session, alive),
            Event::Ended { session, end } => {
                self.media_names.forget(session);
                self.session_ended(now, session, &end);
            }
        }
    }

    fn switch_on(&mut self, now: Instant, id: AccountId) {
        let Some(account) = self.accounts.get(id) else { return };
        let register = account.wants_registration();
        let contact_user = self.config.contact_key.as_ref().and_then(|key| account.contact_user(key));
        let identity = account.identity(self.config.instance.clone(), contact_user);
        let identity = self.endpoint.add_identity(identity);
        self.accounts.set_identity(id, Some(identity));
        if register {
            // An address without a server is shown as unregistered.
            let _: Result<(), SessionError> = self.endpoint.register(now, identity);
        }
        self.drain_endpoint();
    }

    fn switch_off(&mut self, now: Instant, id: AccountId) {
        if let Some(identity) = self.accounts.get(id).and_then(|account| account.identity) {
            self.endpoint.remove_identity(now, identity);
            self.drain_endpoint();
            self.accounts.set_identity(id, None);
        }
    }

    pub(crate) fn account_changed(&mut self, id: AccountId) {
        if let Some(account) = self.accounts.get(id) {
            self.outputs.push_back(Output::AccountChanged(Box::new(account.view(id))));
        }
    }

    /// Tells front ends what has changed in the touched calls.
    fn publish(&mut self) {
        while let Some(id) = self.touched.pop_first() {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            let view = call.view();
            let old = call.published.replace(view.clone());
            if old.as_ref() == Some(&view) {
                continue;
            }
            let change = old.map(|old| old.state).filter(|old| *old != view.state).map(|old| {
                Output::CallStateChanged {
                    call: id,
                    old,
                    new: view.state,
                    reason: view.reason,
                    sip_status: view.sip_status,
                }
            });
            self.outputs.push_back(Output::CallChanged(Box::new(view)));
            self.outputs.extend(change);
        }
    }

    /// Ended calls beyond the limit go before their time, those that ended first before the others.
    fn forget_old_calls(&mut self) {
        let mut ended: Vec<(Instant, CallId)> = Vec::new();
        for call in self.calls.values() {
            if let Phase::Ended { at, .. } = call.phase {
                ended.push((at, call.id));
            }
        }
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        if surplus > 0 {
            ended.sort_unstable();
            for (_, id) in ended.into_iter().take(surplus) {
                self.forget_call(id);
            }
        }
    }

    pub(crate) fn forget_call(&mut self, id: CallId) {
        self.touched.remove(&id);
        if let Some(call) = self.calls.remove(&id)
            && call.published.is_some()
        {
            self.outputs.push_back(Output::CallRemoved(id));
        }
    }

    pub(crate) fn new_call_id(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    pub(crate) fn new_port(&mut self) -> PortId {
        self.last_port += 1;
        PortId(self.last_port)
    }

    pub(crate) fn live_calls(&self) -> usize {
        self.calls.values().filter(|call| !call.is_ended()).count()
    }

    pub(crate) fn is_echo(&self, id: AccountId) -> bool {
        self.accounts.get(id).is_some_and(|account| account.settings.kind == AccountKind::Echo)
    }

    /// Wall-clock time in Unix microseconds.
    pub(crate) fn unix_micros(&self, now: Instant) -> u64 {
        self.clock.read(now)
    }

    /// The time for RTCP as a 64-bit NTP timestamp (RFC 3550 section 4).
    pub(crate) fn ntp(&self, now: Instant) -> u64 {
        const UNIX_TO_NTP: u64 = 2_208_988_800;
        let micros = self.even_clock.read(now);
        let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
        ((micros / 1_000_000).wrapping_add(UNIX_TO_NTP) << 32) | fraction
    }

    pub(crate) fn note(&mut self, weight: Weight, call: Option<CallId>, text: String) {
        let account = call
            .and_then(|id| self.calls.get(&id))
            .and_then(|call| self.accounts.get(call.account))
            .map(|account| account.settings.name.clone());
        self.outputs.push_back(Output::Log(Note { weight, text: printable(&text), call, account }));
    }
}
