//! `org.voipd.CallStatistics1`: figures of a call's media, always those of the moment.

use voipd_agent::quality::Quality;
use voipd_agent::view::CallId;
use voipd_media::rtcp::VoipMetrics;
use zbus::message::Body;

use super::outcome::{Answer, Dict, Failure, Outcome, Reply, Requests, arguments, nothing, unknown_method};
use crate::api::{CallStatistics, Figure, GraphNode, Request};

/// What stands for a figure that only the peer could tell and has not told.
const UNKNOWN: f64 = -1.0;

fn figures(statistics: &CallStatistics) -> Dict {
    let stream = &statistics.stream;
    let expected = stream.packets_received + stream.packets_lost;
    let loss = if expected == 0 { 0.0 } else { 100.0 * stream.packets_lost as f64 / expected as f64 };
    let ms = |microseconds: u64| microseconds as f64 / 1000.0;
    let quality = &statistics.quality;
    let percent = |part: u64, whole: u64| if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    let known = |value: Option<f64>| value.unwrap_or(UNKNOWN).into();
    let inbound = |figure: fn(&Quality) -> f64| known(quality.inbound.as_ref().map(figure));
    let outbound = |figure: fn(&Quality) -> f64| known(quality.outbound.as_ref().map(figure));
    let reported = |figure: fn(&VoipMetrics) -> f64| known(quality.reported.as_ref().map(figure));
    Dict::from([
        ("PacketsSent", stream.packets_sent.into()),
        ("PacketsReceived", stream.packets_received.into()),
        ("OctetsSent", stream.octets_sent.into()),
        ("OctetsReceived", stream.octets_received.into()),
        ("PacketsLost", stream.packets_lost.into()),
        ("PacketsLate", stream.packets_late.into()),
        ("PacketsDuplicate", stream.packets_duplicate.into()),
        ("PacketsReordered", stream.packets_reordered.into()),
        ("PacketsInvalid", stream.packets_invalid.into()),
        ("PacketsDiscarded", stream.packets_discarded.into()),
        ("FramesPlayed", stream.frames_played.into()),
        ("FramesConcealed", stream.frames_concealed.into()),
        ("LossPercent", loss.into()),
        ("JitterMs", ms(stream.jitter_us).into()),
        ("BufferMs", ms(stream.buffer_us).into()),
        ("BufferTargetMs", ms(stream.buffer_target_us).into()),
        ("RoundTripMs", statistics.round_trip_ms.unwrap_or(UNKNOWN).into()),
        ("RemoteLossPercent", statistics.remote_loss_percent.unwrap_or(UNKNOWN).into()),
        ("RemoteJitterMs", statistics.remote_jitter_ms.unwrap_or(UNKNOWN).into()),
        ("LevelIn", f64::from(stream.level_in_dbov).into()),
        ("LevelOut", f64::from(stream.level_out_dbov).into()),
        ("Bursts", stream.bursts.into()),
        ("BurstDensity", percent(stream.burst_missing, stream.burst_packets).into()),
        ("GapDensity", percent(stream.gap_missing, stream.gap_packets).into()),
        ("ConcealedPercent", (100.0 * quality.concealed).into()),
        ("OneWayDelayMs", known(quality.one_way_ms)),
        ("RatingIn", inbound(|quality| quality.rating)),
        ("MosListeningIn", inbound(|quality| quality.listening_opinion)),
        ("MosConversationIn", inbound(|quality| quality.conversation_opinion)),
        ("RatingOut", outbound(|quality| quality.rating)),
        ("MosListeningOut", outbound(|quality| quality.listening_opinion)),
        ("MosConversationOut", outbound(|quality| quality.conversation_opinion)),
        ("ReportedMos", known(quality.reported.and_then(|told| told.conversation_opinion).map(f64::from))),
        ("ReportedBurstDensity", reported(|told| 100.0 * f64::from(told.burst_density))),
        ("ReportedDiscardPercent", reported(|told| 100.0 * f64::from(told.discarded))),
        ("ReportedBufferMs", reported(|told| f64::from(told.buffer_ms))),
        ("PacketsRestored", stream.packets_restored.into()),
        ("PacketsCorrected", stream.packets_corrected.into()),
        ("QueuedMs", ms(stream.queued_us).into()),
        ("SendBitrate", stream.send_bitrate.into()),
        ("SendPtimeMs", u32::from(stream.send_ptime_ms).into()),
        ("SendCopies", u32::from(stream.send_copies).into()),
        ("SendFec", (stream.send_fec > 0).into()),
    ])
}

fn node(node: GraphNode) -> Dict {
    let mut dict = Dict::from([
        ("id", node.id.into()),
        ("kind", node.kind.into()),
        ("name", node.name.into()),
        ("to", node.to.into()),
    ]);
    dict.extend(node.figures.into_iter().map(|(key, figure)| match figure {
        Figure::Number(number) => (key, number.into()),
        Figure::Text(text) => (key, text.into()),
    }));
    dict
}

/// Asks for all figures at one instant.
pub(super) fn ask(
    requests: &Requests,
    call: CallId,
    reply: impl FnOnce(Dict) -> Answer + Send + 'static,
) -> Result<Outcome, Failure> {
    let request = |reply| Request::CallStatistics { call, reply };
    requests.ask(request, |statistics| reply(figures(&statistics)))
}

pub(super) fn call(requests: &Requests, call: CallId, member: &str, body: &Body) -> Result<Outcome, Failure> {
    match member {
        "Get" => {
            nothing(member, body)?;
            ask(requests, call, |figures| Ok(Reply::Dict(figures)))
        }
        "Graph" => {
            nothing(member, body)?;
            let request = |reply| Request::CallGraph { call, reply };
            requests
                .ask(request, |nodes: Vec<GraphNode>| Ok(Reply::Dicts(nodes.into_iter().map(node).collect())))
        }
        "WatchActivity" => {
            Ok(Outcome::WatchActivity(arguments(member, "how many seconds of silence are told", body)?))
        }
        "UnwatchActivity" => nothing(member, body).map(|()| Outcome::UnwatchActivity),
        "Watch" => Ok(Outcome::Watch(arguments(member, "an interval in milliseconds", body)?)),
        "Unwatch" => nothing(member, body).map(|()| Outcome::Unwatch),
        _ => Err(unknown_method(member)),
    }
}
