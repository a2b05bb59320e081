//! `org.voipd.CallStatistics1`: figures of a call's media, always those of the moment.

use voipd_agent::view::CallId;
use zbus::message::Body;

use super::outcome::{Answer, Dict, Failure, Outcome, Reply, Requests, arguments, nothing, unknown_method};
use crate::api::{CallStatistics, Request};

/// What stands for a figure that only the peer could tell and has not told.
const UNKNOWN: f64 = -1.0;

fn figures(statistics: &CallStatistics) -> Dict {
    let stream = &statistics.stream;
    let expected = stream.packets_received + stream.packets_lost;
    let loss = if expected == 0 { 0.0 } else { 100.0 * stream.packets_lost as f64 / expected as f64 };
    let ms = |microseconds: u64| microseconds as f64 / 1000.0;
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
    ])
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
        "Watch" => Ok(Outcome::Watch(arguments(member, "an interval in milliseconds", body)?)),
        "Unwatch" => nothing(member, body).map(|()| Outcome::Unwatch),
        _ => Err(unknown_method(member)),
    }
}
