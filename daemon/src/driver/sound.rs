//! Streams of calls at the audio engine: opened, counted and listened to; and the files that are heard as tones.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use voipd_agent::view::CallId;
use voipd_audio::PortId;
use voipd_audio::engine::Clip;
use voipd_audio::plan::EngineEvent;
use voipd_audio::tone::Signal;

use super::{Driver, Finished, media, report};
use crate::api::Update;
use crate::realtime::monotonic_nanos;

impl Driver {
    pub(super) fn read_tones(&self, files: BTreeMap<Signal, PathBuf>) {
        for (signal, path) in files {
            let finished = self.finished.clone();
            tokio::spawn(async move {
                let clip = crate::sound::read_clip(path).await;
                let _ = finished.send(Finished::ToneRead { signal, clip });
            });
        }
    }

    pub(super) fn tone_read(&mut self, signal: Signal, clip: Result<Clip, String>) {
        match clip {
            Ok(clip) => self.patchbay.set_clip(signal, clip),
            Err(why) => log::warn!("the usual tone is heard instead of a file of [audio]: {why}"),
        }
    }

    /// After a wake of the audio engine: its events, and packets on media ports that are not RTP.
    pub(super) fn serve_engine(&mut self) {
        self.patchbay.controller().service();
        self.relays.kick();
        while let Some(event) = self.patchbay.controller().poll_event() {
            if let EngineEvent::Activity { port, heard, talking, level_dbov } = event {
                if let Some(call) = self.media.call_at(port) {
                    self.tell(Update::Activity { call, heard, talking, level_dbov });
                }
                continue;
            }
            if let EngineEvent::SourceEnded { port } = event {
                self.port_over(port);
            }
            self.agent.handle_engine_event(Instant::now(), event);
            self.carry_out();
        }
        while let Some(stray) = self.patchbay.controller().poll_stray() {
            let call = self.media.call_at(stray.port);
            // It has waited for a tick. A round-trip time is no longer for it.
            let now = Instant::now();
            let waited = Duration::from_nanos(monotonic_nanos().saturating_sub(stray.at_nanos));
            let came = now.checked_sub(waited).unwrap_or(now);
            if let Some((call, at)) = call.and_then(|call| Some((call, self.media.socket_of(call)?))) {
                self.control_packet(call, at, stray.source, &stray.bytes, came);
                self.carry_out();
            }
        }
    }

    pub(super) fn open_stream(&mut self, call: CallId, port: PortId, plan: voipd_audio::StreamPlan) {
        let path = plan.clone();
        let opened = match self.media.take_rtp(call, port) {
            Some(socket) => self.patchbay.open_stream(port, plan, socket).map_err(|error| error.to_string()),
            None => Err("there is no socket for it".to_owned()),
        };
        if let Err(why) = opened {
            log::warn!(call = call.0; "the call ends, as it can have no sound: {why}");
            // It may have ended meanwhile.
            let _ = self.agent.hang_up(Instant::now(), call);
            return;
        }
        self.attach_relay(call, port, &path);
        if self.listened.contains(&call) {
            report("listen", self.patchbay.controller().watch_activity(port, true));
        }
    }

    pub(super) fn count(&mut self, call: CallId, port: PortId) {
        let Some(counters) = self.patchbay.controller().stream_counters(port) else { return };
        self.agent.handle_counters(Instant::now(), monotonic_nanos(), call, &counters);
        let remote = self.agent.remote_view(call);
        self.statistics.insert(call, media::statistics(counters, remote, self.agent.quality(call)));
    }

    /// Somebody wants to know who talks in a call, or nobody does any more.
    pub(super) fn listen(&mut self, call: CallId, on: bool) {
        // The last word of a listener may come behind the end of the call.
        let known = self.agent.find_call(call).is_ok();
        let changed = if on { known && self.listened.insert(call) } else { self.listened.remove(&call) };
        if changed && let Some(port) = self.agent.stream_port(call) {
            report("listen", self.patchbay.controller().watch_activity(port, on));
        }
    }

    /// An ended call's figures can still be read: they are those of its last moment.
    pub(super) fn keep_last_counters(&mut self, call: CallId, ports: &[PortId]) {
        let counters = ports.iter().find_map(|port| self.patchbay.controller().stream_counters(*port));
        if let Some(counters) = counters {
            self.statistics.entry(call).or_default().stream = counters;
        }
    }
}
