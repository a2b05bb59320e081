//! The media path of a call as it runs now: what gives sound to what, each with its figures.

use std::collections::BTreeMap;

use voipd_agent::described_codec;
use voipd_agent::output::{DEVICE_INPUT, DEVICE_OUTPUT, RINGER};
use voipd_agent::view::{CallId, MediaWay};
use voipd_audio::PortId;
use voipd_media::Codec;

use super::Driver;
use crate::api::{Figure, GraphNode};

/// Who gives sound to a call's mixer, or takes it: devices, files, other calls.
enum End {
    Microphone,
    Loudspeaker,
    Ringer,
    Call(CallId),
    File,
}

impl Driver {
    /// Nodes in the order in which sound passes them: first what the peer hears, then what it says. Without a stream
    /// there are none.
    pub(super) fn graph(&mut self, call: CallId) -> Vec<GraphNode> {
        let Some(stream) = self.agent.stream_port(call) else { return Vec::new() };
        let Some(view) = self.agent.call_view(call) else { return Vec::new() };
        let statistics = self.call_statistics(call);
        let (counters, quality) = (statistics.stream, statistics.quality);
        let ms = |us: u64| us as f64 / 1000.0;
        let way = || {
            let mut node = GraphNode::new("", "path", view.media_way.name());
            if let MediaWay::Plain { remote: Some(remote), .. } | MediaWay::Selected { remote, .. } =
                view.media_way
            {
                node = node.text("remote", remote.to_string());
            }
            node.known("round-trip-ms", quality.round_trip_ms)
        };
        let mut nodes = Vec::new();

        // What the peer hears.
        let sources = self.patchbay.heard_by(stream);
        let into = format!("mixer-{}", stream.0);
        for source in &sources {
            // Its own voice, and that of other calls, comes out of a decoder.
            if *source != stream {
                let source = self.source(*source);
                match self.voice_node().filter(|_| source.kind == "microphone") {
                    Some(voice) => nodes.extend([source.to(&voice.id), voice.to(&into)]),
                    None => nodes.push(source.to(&into)),
                }
            }
        }
        nodes.push(
            mixer(&into, sources.len()).number("level-dbov", counters.level_out_dbov.into()).to("encoder"),
        );
        nodes.push(
            GraphNode::new("encoder", "encoder", view.codec)
                .number("packets", counters.packets_sent as f64)
                .number("octets", counters.octets_sent as f64)
                .to("path-out"),
        );
        let mut out = way().known("loss-percent", statistics.remote_loss_percent);
        out.id = "path-out".to_owned();
        nodes.push(out.known("jitter-ms", statistics.remote_jitter_ms).to("peer-hears"));
        nodes.push(
            GraphNode::new("peer-hears", "peer", &view.peer)
                .known("mos", quality.outbound.map(|quality| quality.conversation_opinion)),
        );

        // What the peer says.
        nodes.push(GraphNode::new("peer-says", "peer", &view.peer).to("path-in"));
        let mut back = way().number("packets", counters.packets_received as f64);
        back.id = "path-in".to_owned();
        nodes.push(
            back.number("lost", counters.packets_lost as f64)
                .number("jitter-ms", ms(counters.jitter_us))
                .to("jitter-buffer"),
        );
        nodes.push(
            GraphNode::new("jitter-buffer", "jitter-buffer", "")
                .number("delay-ms", ms(counters.buffer_us))
                .number("target-ms", ms(counters.buffer_target_us))
                .number("late", counters.packets_late as f64)
                .to("decoder"),
        );
        let heard = counters.received_codec().and_then(described_codec).map_or(view.codec, Codec::name);
        let mut decoder = GraphNode::new("decoder", "decoder", heard)
            .number("concealed-percent", 100.0 * quality.concealed)
            .number("level-dbov", counters.level_in_dbov.into())
            .known("mos", quality.inbound.map(|quality| quality.conversation_opinion));
        let mut sinks = Vec::new();
        for sink in self.patchbay.listeners_of(stream) {
            let mixed = format!("mixer-{}", sink.0);
            if sink == stream {
                decoder = decoder.to(&mixed);
                continue;
            }
            let end = self.sink(sink);
            match self.patchbay.heard_by(sink).len() {
                // It hears the call alone, as it is.
                0 => decoder = decoder.to(&end.id),
                sources => {
                    decoder = decoder.to(&mixed);
                    sinks.push(mixer(&mixed, sources).to(&end.id));
                }
            }
            sinks.push(end);
        }
        nodes.push(decoder);
        nodes.extend(sinks);
        nodes
    }

    fn end(&self, port: PortId) -> End {
        match port {
            DEVICE_INPUT => End::Microphone,
            DEVICE_OUTPUT => End::Loudspeaker,
            RINGER => End::Ringer,
            _ => self.media.call_at(port).map_or(End::File, End::Call),
        }
    }

    /// What processes the microphone's sound, if anything does.
    fn voice_node(&self) -> Option<GraphNode> {
        let (stages, echo) = self.devices.voice();
        let names = [(stages.echo, "echo"), (stages.noise, "noise"), (stages.gain, "gain")];
        let name =
            names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect::<Vec<_>>().join(" ");
        stages.any().then(|| {
            GraphNode::new("voice", "voice-processing", &name)
                .known("echo-delay-ms", echo.delay_ms.map(f64::from))
                .known("echo-reduced-db", echo.enhancement_db.map(f64::from))
        })
    }

    fn source(&mut self, port: PortId) -> GraphNode {
        let id = format!("source-{}", port.0);
        let level = self.patchbay.controller().device_levels(port).map(|(captured, _)| f64::from(captured));
        let node = match self.end(port) {
            End::Call(call) => GraphNode::new(&id, "call", &call.0.to_string()),
            End::Microphone => GraphNode::new(&id, "microphone", ""),
            End::Loudspeaker | End::Ringer | End::File => {
                GraphNode::new(&id, self.call_ports.kind(port).unwrap_or("player"), "")
            }
        };
        node.known("level-dbov", level)
    }

    fn sink(&mut self, port: PortId) -> GraphNode {
        let id = format!("sink-{}", port.0);
        let level = self.patchbay.controller().device_levels(port).map(|(_, played)| f64::from(played));
        let node = match self.end(port) {
            End::Call(call) => GraphNode::new(&id, "call", &call.0.to_string()),
            End::Loudspeaker => GraphNode::new(&id, "loudspeaker", ""),
            End::Ringer => GraphNode::new(&id, "ringer", ""),
            End::Microphone | End::File => {
                GraphNode::new(&id, self.call_ports.kind(port).unwrap_or("recorder"), "")
            }
        };
        node.known("level-dbov", level)
    }
}

fn mixer(id: &str, sources: usize) -> GraphNode {
    GraphNode::new(id, "mixer", "").number("sources", sources as f64)
}

impl GraphNode {
    fn new(id: &str, kind: &'static str, name: &str) -> Self {
        let (to, figures) = (Vec::new(), BTreeMap::new());
        GraphNode { id: id.to_owned(), kind, name: name.to_owned(), to, figures }
    }

    /// Its sound goes there.
    fn to(mut self, id: &str) -> Self {
        self.to.push(id.to_owned());
        self
    }

    fn number(mut self, key: &'static str, value: f64) -> Self {
        self.figures.insert(key, Figure::Number(value));
        self
    }

    fn known(self, key: &'static str, value: Option<f64>) -> Self {
        match value {
            Some(value) => self.number(key, value),
            None => self,
        }
    }

    fn text(mut self, key: &'static str, value: String) -> Self {
        self.figures.insert(key, Figure::Text(value));
        self
    }
}
