//! Media of calls: streams follow what was agreed, RTCP is spoken, silence of the peer is noticed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::rand_core::Rng;
use voipd_audio::plan::{EngineEvent, Steering, StreamCounters, StreamPlan};
use voipd_media::Agreement;
use voipd_media::rtcp::{ReceivedCounters, RemoteView, RtcpEvent, RtcpSession, SentCounters};
use voipd_sip::endpoint::SessionId;

use crate::adaptation::Adaptation;
use crate::agent::{Agent, ENDED_FOR};
use crate::call::{Call, Media, Phase, Stream};
use crate::digits::Way;
use crate::ice::CallIce;
use crate::output::{Output, Weight};
use crate::plan::{clock_rate, described_codec, limits, stream_plan};
use crate::quality::{CallQuality, Look, QualityMonitor};
use crate::view::{CallId, CallView, Reason};
use crate::vigil::{LOOK, PLAIN_LOOK};

/// How often a stream's counters are looked at.
const CHECK: Duration = Duration::from_secs(1);
/// The same while much is to be learned of the network.
const WATCH: Duration = Duration::from_millis(100);
/// How long nothing may come before a peer counts as not heard that is asked by ICE within a second, and one that
/// sends RTCP: its reports are at most 7.5 s apart (RFC 3550 section 6.3.1).
const UNHEARD: Duration = Duration::from_secs(2);
const PLAIN_UNHEARD: Duration = Duration::from_secs(8);
/// Most addresses under our SSRC that are taken for colliding peers; more can only be a loop.
const MAX_CONFLICTS: usize = 4;

impl Agent {
    /// Starts or changes the call's stream as agreed; that of an inbound call when it is answered.
    pub(crate) fn apply_agreement(&mut self, now: Instant, id: CallId) {
        if self
            .calls
            .get(&id)
            .is_some_and(|call| !matches!(call.phase, Phase::Incoming { .. } | Phase::Accepting))
        {
            self.agree_on_ice(now, id);
        }
        self.follow_agreement(now, id);
    }

    /// Starts or changes the stream by what is known of its way now.
    pub(crate) fn follow_agreement(&mut self, now: Instant, id: CallId) {
        let ntp = self.ntp(now);
        let Some(call) = self.calls.get_mut(&id) else { return };
        self.touched.insert(id);
        if matches!(call.phase, Phase::Incoming { .. } | Phase::Accepting) {
            return;
        }
        let Some(agreement) = call.negotiation.agreement() else { return };
        let moved = call.forks.take_moved();
        let rate = clock_rate(agreement);
        let port = call.stream_port;
        let way = call.ice.as_deref();
        let mut goodbye = None;
        match &mut call.media {
            Media::Bound(local) => {
                let ssrc = new_ssrc(&mut self.rng);
                let mut plan = stream_plan(agreement, ssrc, 1, call.local_hold);
                if let Some(ice) = way {
                    ice.apply(&mut plan, agreement);
                }
                self.outputs.push_back(Output::OpenStream { call: id, port, plan: Box::new(plan.clone()) });
                if call.muted {
                    self.outputs.push_back(Output::SetMuted { port, muted: true });
                }
                let adaptation = Adaptation::new(limits(agreement, &plan));
                let own = SocketAddr::new(local.address, local.rtp_port);
                let socket = way.and_then(CallIce::socket).unwrap_or(own);
                if socket != own {
                    self.outputs.push_back(Output::UseSocket { call: id, port, socket });
                }
                let stream = Stream {
                    local: *local,
                    socket,
                    plan,
                    rtcp: new_rtcp(now, &mut self.rng, ssrc, rate),
                    clock_rate: rate,
                    counters: StreamCounters::default(),
                    adaptation,
                    steering: Steering::default(),
                    quiet_since: now,
                    moved_to: None,
                    rtcp_from: None,
                    rtcp_at: None,
                    counted_before: StreamCounters::default(),
                    conflicts: Vec::new(),
                    quality: QualityMonitor::default(),
                };
                call.media = Media::Streaming(Box::new(stream));
                call.next_check = Some(now + WATCH);
            }
            Media::Streaming(stream) => {
                let old = &stream.plan;
                // A source keeps its clock (RFC 7160): with another one it is a new source. Another peer has never
                // heard of the old one.
                let same_source = rate == stream.clock_rate && !moved;
                let ssrc = if same_source { old.ssrc } else { new_ssrc(&mut self.rng) };
                let mut plan = stream_plan(agreement, ssrc, old.generation, call.local_hold);
                if let Some(ice) = way {
                    ice.apply(&mut plan, agreement);
                }
                let own = SocketAddr::new(stream.local.address, stream.local.rtp_port);
                let socket = way.map_or(Some(own), CallIce::socket).unwrap_or(stream.socket);
                if socket != stream.socket {
                    stream.socket = socket;
                    self.outputs.push_back(Output::UseSocket { call: id, port, socket });
                }
                let limits = limits(agreement, &plan);
                if plan == *old {
                    // `b=AS` and `a=maxptime` bound what may be chosen, and are in no plan.
                    stream.adaptation.set_limits(limits);
                    return self.steer(id);
                }
                plan.generation += 1;
                match moved {
                    true => stream.adaptation = Adaptation::new(limits),
                    false => stream.adaptation.set_limits(limits),
                }
                if moved || plan.path != old.path {
                    (stream.moved_to, stream.rtcp_from) = (None, None);
                    stream.adaptation.way_changed(now);
                }
                if moved {
                    // The peer before is left without a word: its early dialog is over, or not heard any more.
                    stream.rtcp = new_rtcp(now, &mut self.rng, ssrc, rate);
                    stream.clock_rate = rate;
                    stream.counted_before = stream.counters;
                    stream.conflicts.clear();
                    stream.quality.forget();
                } else if !same_source {
                    goodbye = stream.change_source(ntp, agreement, ssrc, rate);
                }
                stream.quiet_since = now;
                self.outputs.push_back(Output::UpdateStream { port, plan: Box::new(plan.clone()) });
                stream.plan = plan;
            }
            Media::None | Media::Wanted(_) | Media::Binding => {}
        }
        call.review_digits();
        self.steer(id);
        if let Some((remote, bytes)) = goodbye {
            self.send_rtcp(id, remote, bytes);
        }
    }

    /// The call goes on to somebody else: nothing more is sent to whom it was with, and nothing heard of it.
    pub(crate) fn hush(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let port = call.stream_port;
        let Some(stream) = call.stream_mut() else { return };
        if stream.plan.send.is_none() && stream.plan.keep_open.is_none() && !stream.plan.play {
            return;
        }
        let generation = stream.plan.generation + 1;
        stream.plan =
            StreamPlan { generation, send: None, keep_open: None, play: false, ..stream.plan.clone() };
        self.outputs.push_back(Output::UpdateStream { port, plan: Box::new(stream.plan.clone()) });
    }

    /// Lets the call's stream be sent as the network is thought to want it.
    fn steer(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let port = call.stream_port;
        let Some(stream) = call.stream_mut() else { return };
        let steering = stream.adaptation.steering();
        if steering != stream.steering {
            stream.steering = steering;
            self.outputs.push_back(Output::SteerStream { port, steering });
        }
    }

    pub(crate) fn engine_event(&mut self, now: Instant, event: EngineEvent) {
        match event {
            EngineEvent::DtmfReceived { port, digit, duration_ms } => {
                if let Some(call) = self.call_at(port) {
                    self.digit_heard(now, call, digit, duration_ms, Way::Event);
                }
            }
            EngineEvent::DtmfSent { port, .. } => {
                if let Some(id) = self.call_at(port) {
                    self.event_sent(now, id);
                }
            }
            EngineEvent::RemoteChanged { port, remote } => {
                if let Some(id) = self.call_at(port) {
                    if let Some(stream) = self.calls.get_mut(&id).and_then(Call::stream_mut) {
                        stream.moved_to = Some(remote);
                        stream.adaptation.way_changed(now);
                    }
                    self.touched.insert(id);
                    self.note(Weight::Info, Some(id), format!("the peer's media now comes from {remote}"));
                }
            }
            EngineEvent::SsrcCollision { port, source } => {
                if let Some(id) = self.call_at(port) {
                    self.ssrc_taken(now, id, source);
                }
            }
            EngineEvent::Reflected { port, source } => {
                let text = format!("what is sent comes back from {source}: an echo test, or a loop");
                self.note(Weight::Info, self.call_at(port), text);
            }
            EngineEvent::FirstPacket { port } | EngineEvent::SsrcChanged { port, .. } => {
                if let Some(call) = self.call_at(port).and_then(|id| self.calls.get_mut(&id)) {
                    call.hear_early();
                }
            }
            EngineEvent::SourceEnded { .. }
            | EngineEvent::Activity { .. }
            | EngineEvent::ToneEnded { .. } => {}
        }
    }

    pub(crate) fn rtcp(&mut self, now: Instant, id: CallId, source: SocketAddr, bytes: &[u8]) {
        let ntp = self.ntp(now);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let expected = call.ice.as_ref().is_some_and(|ice| ice.expects_from(source));
        let Some((agreement, stream)) = call.agreed_stream() else { return };
        if expected || stream.expects_rtcp_from(agreement, source) {
            (stream.rtcp_from, stream.rtcp_at) = (Some(source), Some(now));
            // The figures are kept by the session; a BYE ends nothing that signalling has not ended.
            let events = stream.rtcp.handle_packet(now, ntp, bytes);
            let queued = Duration::from_micros(stream.counters.queued_now_us);
            for event in &events {
                if let RtcpEvent::Report(view) = event {
                    stream.adaptation.reported(now, view, queued);
                }
            }
            call.vigil.hear(now);
            if events.contains(&RtcpEvent::Collision) {
                self.ssrc_taken(now, id, source);
            }
            self.steer(id);
        }
    }

    /// Packets of somebody else's come from `source` under the SSRC that we send with (RFC 3550 section 8.2): we take
    /// another one, once for each address.
    fn ssrc_taken(&mut self, now: Instant, id: CallId, source: SocketAddr) {
        let ntp = self.ntp(now);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let port = call.stream_port;
        let Some((agreement, stream)) = call.agreed_stream() else { return };
        if stream.conflicts.contains(&source) || stream.conflicts.len() >= MAX_CONFLICTS {
            // It follows us: what it sends is ours after all, and comes back changed.
            let text = format!("{source} goes on using our SSRC, whatever it is: keeping it");
            return self.note(Weight::Info, Some(id), text);
        }
        stream.conflicts.push(source);
        let ssrc = new_ssrc(&mut self.rng);
        let goodbye = stream.change_source(ntp, agreement, ssrc, stream.clock_rate);
        stream.plan.ssrc = ssrc;
        stream.plan.generation += 1;
        let plan = Box::new(stream.plan.clone());
        if let Some((remote, bytes)) = goodbye {
            self.send_rtcp(id, remote, bytes);
        }
        self.outputs.push_back(Output::UpdateStream { port, plan });
        self.note(Weight::Info, Some(id), format!("{source} uses our SSRC: taking another one"));
    }

    /// Looks at a stream's counters: RTCP that is due is sent, and a peer that has fallen silent is asked whether it
    /// still lives.
    pub(crate) fn counters(&mut self, now: Instant, now_nanos: u64, id: CallId, counters: &StreamCounters) {
        let ntp = self.ntp(now);
        let media_timeout = self.config.media_timeout;
        let begun = self.begun;
        let Some(call) = self.calls.get_mut(&id) else { return };
        let session = call.session;
        let waiting = call.whereabouts.is_stranded();
        let expects = call.expects_sound();
        let ice_heard = call.ice.as_deref().filter(|_| call.uses_ice()).map(|ice| ice.heard_at());
        let Some((agreement, stream)) = call.agreed_stream() else { return };
        let flows = counters.packets_received > stream.counters.packets_received;
        if flows {
            stream.quiet_since = now;
        }
        let just_sent = now_nanos.saturating_sub(counters.last_sent_nanos) < CHECK.as_nanos() as u64;
        let active = counters.packets_sent > stream.counters.packets_sent || just_sent;
        stream.counters = *counters;
        stream.adaptation.counted(now, counters);
        let (view, reported) = (stream.rtcp.dated_view(), stream.rtcp.remote_metrics());
        let patience = match (ice_heard, stream.rtcp_at) {
            (Some(_), _) => Some(UNHEARD),
            (None, Some(_)) => Some(PLAIN_UNHEARD),
            (None, None) => None,
        };
        let look = Look {
            counters,
            view,
            reported,
            round_trip: stream.rtcp.round_trip(),
            answered: stream.rtcp_at.max(ice_heard.flatten()),
            patience: patience.filter(|_| expects),
            codec: agreement.send.codec,
            codec_heard: counters.received_codec().and_then(described_codec).unwrap_or(agreement.send.codec),
            // Adaptation may have left the agreed one; before anything is sent there is no other.
            packet_ms: match counters.send_ptime_ms {
                0 => agreement.send.ptime_ms,
                in_force => in_force,
            },
        };
        let warnings = stream.quality.look(now, &look);
        let usual = now >= stream.rtcp.poll_timeout();
        if let Some(bandwidth) = stream.adaptation.wants_report(now, counters) {
            stream.rtcp.hurry(now, bandwidth);
        }
        let due = now >= stream.rtcp.poll_timeout();
        // Reports that are in a hurry are short.
        if usual && counters.packets_received > 0 {
            stream.rtcp.set_metrics(counters.remote_ssrc, stream.quality.metrics(&look));
        }
        let sent = stream.sent_counters(now_nanos, active);
        let packet =
            due.then(|| stream.rtcp.poll_packet(now, ntp, &sent, &received_counters(counters))).flatten();
        if packet.is_some() {
            stream.adaptation.told(counters);
        }
        let watchful = stream.adaptation.is_watchful();
        let remote = stream.rtcp_remote(agreement);
        let quiet = now.saturating_duration_since(stream.quiet_since) >= media_timeout;
        if quiet || waiting {
            stream.quiet_since = now;
        }
        let report_due = stream.rtcp.poll_timeout();
        if flows {
            call.vigil.hear(now);
            if call.hear_early() {
                self.touched.insert(id);
            }
        }
        let look = match call.expects_sound() {
            true if call.uses_ice() => LOOK,
            true => PLAIN_LOOK,
            false => CHECK,
        };
        let regular = beat(begun, now, if watchful { WATCH } else { look });
        // A report may wait for the next beat: its interval is random and seconds long.
        let report = beat(begun, report_due.max(now), look.min(PLAIN_LOOK));
        call.next_check = Some(report.min(regular));
        if let Some(bytes) = packet {
            self.send_rtcp(id, remote, bytes);
        }
        for warning in warnings.into_iter().flatten() {
            self.outputs.push_back(Output::QualityChanged { call: id, warning });
        }
        if quiet && !waiting {
            self.ask_for_life(now, id, session);
        }
        self.steer(id);
        self.keep_vigil(now, id);
    }

    fn ask_for_life(&mut self, now: Instant, id: CallId, session: SessionId) {
        let active = self.calls.get(&id).is_some_and(|call| call.phase == Phase::Active);
        if active {
            self.note(
                Weight::Info,
                Some(id),
                "no sound from the peer: asking whether it is there".to_owned(),
            );
            // A session that ended meanwhile has reported it.
            let _ = self.endpoint.probe(now, session);
            self.drain_endpoint();
        }
    }

    pub(crate) fn probed(&mut self, now: Instant, session: SessionId, alive: bool) {
        if let Some(id) = self.by_session.get(&session).copied()
            && !alive
            && !self.waits_for_network(session)
        {
            self.hang_up_for(now, id, Some(Reason::Network));
        }
    }

    /// The last RTCP packet of a call's stream.
    pub(crate) fn say_goodbye(&mut self, now: Instant, id: CallId) {
        let ntp = self.ntp(now);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some((agreement, stream)) = call.agreed_stream() else { return };
        let Some((remote, bytes)) = stream.goodbye(ntp, agreement) else { return };
        self.send_rtcp(id, remote, bytes);
    }

    /// What the peer last reported of a call's sound.
    pub fn remote_view(&self, id: CallId) -> Option<RemoteView> {
        match &self.calls.get(&id)?.media {
            Media::Streaming(stream) => stream.rtcp.remote_view(),
            _ => None,
        }
    }

    /// How a call sounds in both directions, as of the last look at its counters.
    pub fn quality(&self, id: CallId) -> CallQuality {
        match self.calls.get(&id).map(|call| &call.media) {
            Some(Media::Streaming(stream)) => stream.quality.quality(),
            _ => CallQuality::default(),
        }
    }

    /// What is known of a call.
    pub fn call_view(&self, id: CallId) -> Option<CallView> {
        self.calls.get(&id).map(Call::view)
    }

    /// The port of a call's stream while it has one.
    pub fn stream_port(&self, id: CallId) -> Option<voipd_audio::PortId> {
        self.calls.get(&id).filter(|call| call.is_streaming()).map(|call| call.stream_port)
    }

    /// Everything in calls that waited for this moment.
    pub(crate) fn call_timeouts(&mut self, now: Instant) {
        let patience = self.config.network_timeout;
        let due: Vec<CallId> = self
            .calls
            .values()
            .filter(|call| call.next_timeout(ENDED_FOR, patience).is_some_and(|at| at <= now))
            .map(|call| call.id)
            .collect();
        for id in due {
            self.call_timeout(now, id);
        }
    }

    fn call_timeout(&mut self, now: Instant, id: CallId) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let patience = self.config.network_timeout;
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.is_ended() {
            return self.forget_call(id);
        }
        let network = call.whereabouts.next_timeout(patience);
        if is_due(call.next_check) {
            call.next_check = Some(now + CHECK);
            let port = call.stream_port;
            self.outputs.push_back(Output::WantCounters { call: id, port });
        }
        if is_due(call.ring_deadline) {
            call.ring_deadline = None;
            return self.give_up_ringing(now, id);
        }
        if is_due(call.dtmf.busy_until) {
            self.next_digit(now, id);
        }
        if is_due(network) {
            self.whereabouts_timeout(now, id);
        }
        self.ice_timeout(now, id);
        self.keep_vigil(now, id);
    }

    fn give_up_ringing(&mut self, now: Instant, id: CallId) {
        let inbound =
            self.calls.get(&id).is_some_and(|call: &Call| matches!(call.phase, Phase::Incoming { .. }));
        if inbound {
            self.refuse(now, id, 480, None, Reason::NoAnswer);
        } else {
            self.hang_up_for(now, id, Some(Reason::NoAnswer));
        }
    }
}

impl Stream {
    /// What was sent under the SSRC of now. `now_nanos`: the clock that the counters speak of.
    fn sent_counters(&self, now_nanos: u64, active: bool) -> SentCounters {
        let (counters, before) = (&self.counters, &self.counted_before);
        let since = now_nanos.saturating_sub(counters.last_sent_nanos);
        let ticks = u128::from(since) * u128::from(self.clock_rate) / 1_000_000_000;
        SentCounters {
            // The sender report's counters are modulo 2^32, and begin anew with an SSRC (RFC 3550 section 6.4.1).
            packets: counters.packets_sent.saturating_sub(before.packets_sent) as u32,
            octets: counters.octets_sent.saturating_sub(before.octets_sent) as u32,
            rtp_timestamp: counters.last_sent_timestamp.wrapping_add(ticks as u32),
            active,
        }
    }

    /// The last RTCP packet under the SSRC of now, and where it goes without ICE.
    fn goodbye(&mut self, ntp: u64, agreement: &Agreement) -> Option<(Option<SocketAddr>, Vec<u8>)> {
        let remote = self.rtcp_remote(agreement);
        let sent = self.sent_counters(self.counters.last_sent_nanos, false);
        let bytes = self.rtcp.goodbye(ntp, &sent, &received_counters(&self.counters))?;
        Some((remote, bytes))
    }

    /// From now on RTCP speaks for another source of ours; answers the goodbye of the old one.
    fn change_source(
        &mut self,
        ntp: u64,
        agreement: &Agreement,
        ssrc: u32,
        clock_rate: u32,
    ) -> Option<(Option<SocketAddr>, Vec<u8>)> {
        let goodbye = self.goodbye(ntp, agreement);
        self.rtcp.change_source(ssrc, clock_rate);
        self.clock_rate = clock_rate;
        self.counted_before = self.counters;
        goodbye
    }
}

fn received_counters(counters: &StreamCounters) -> Vec<ReceivedCounters> {
    if counters.packets_received == 0 {
        return Vec::new();
    }
    vec![ReceivedCounters {
        ssrc: counters.remote_ssrc,
        base_extended_seq: counters.base_extended_seq,
        highest_extended_seq: counters.highest_extended_seq,
        // Others of the stream came from other sources.
        packets: counters.source_received as u32,
        jitter: counters.jitter_timestamp_units,
    }]
}

/// The next of the moments that come `each` so often, counted from `begun`. What is due for many calls is done then for all
/// of them: waking up costs more than one look.
fn beat(begun: Instant, now: Instant, each: Duration) -> Instant {
    let passed = now.saturating_duration_since(begun).as_nanos();
    let rest = each.as_nanos().saturating_sub(passed % each.as_nanos().max(1));
    now + Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX))
}

/// 0 is left out: counters say it for "none yet".
fn new_ssrc(rng: &mut impl Rng) -> u32 {
    rng.next_u32().max(1)
}

fn new_rtcp(now: Instant, rng: &mut impl Rng, ssrc: u32, clock_rate: u32) -> RtcpSession {
    let name = cname(rng);
    RtcpSession::new(now, ssrc, name, clock_rate, rng.next_u64())
}

/// A canonical name that says nothing about the machine (RFC 7022 section 4.2): 96 random bits.
fn cname(rng: &mut impl Rng) -> String {
    format!("{:08x}{:016x}", rng.next_u32(), rng.next_u64())
}
