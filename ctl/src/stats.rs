//! `voipctl stats`: the figures of a call's media, `org.voipd.CallStatistics1`.

use serde_json::json;
use voipd_dbus::Figures;

use crate::cli::OneCall;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::Fit;
use crate::output::{Output, dict_to_json};
use crate::text::level;

pub(crate) async fn run(daemon: &Daemon, out: Output, one: OneCall) -> Result<(), Failure> {
    let snapshot = daemon.snapshot().await?;
    // An ended call's figures can be read too, when no other call is meant.
    let call = match snapshot.call(one.call.as_ref(), Fit::Unended) {
        Err(_) if one.call.is_none() && snapshot.calls.len() == 1 => snapshot.call(None, Fit::Any)?,
        found => found?,
    };
    let dict = daemon.statistics(&call.path).await?.get().await?;
    if out.json {
        let mut object = dict_to_json(&dict);
        object.insert("path".into(), json!(call.path));
        object.insert("number".into(), json!(call.id()));
        return out.document(&object.into());
    }
    out.lines(&lines(&Figures::from_dict(&dict)))
}

fn lines(f: &Figures) -> Vec<String> {
    let known = |value: f64, unit: &str| {
        if value < 0.0 { "unknown".to_owned() } else { format!("{value:.1} {unit}") }
    };
    [
        ("Sent", format!("{} packets, {} octets", f.packets_sent, f.octets_sent)),
        ("Received", format!("{} packets, {} octets", f.packets_received, f.octets_received)),
        ("Lost", format!("{} packets, {:.1} %", f.packets_lost, f.loss_percent)),
        ("Late", format!("{} packets", f.packets_late)),
        ("Duplicate", format!("{} packets", f.packets_duplicate)),
        ("Reordered", format!("{} packets", f.packets_reordered)),
        ("Invalid", format!("{} packets", f.packets_invalid)),
        ("Discarded", format!("{} packets", f.packets_discarded)),
        ("Played", format!("{} frames", f.frames_played)),
        ("Concealed", format!("{} frames", f.frames_concealed)),
        ("Jitter", format!("{:.1} ms", f.jitter_ms)),
        ("Jitter buffer", format!("{:.0} ms, aims at {:.0} ms", f.buffer_ms, f.buffer_target_ms)),
        ("Round trip", known(f.round_trip_ms, "ms")),
        ("Loss at the peer", known(f.remote_loss_percent, "%")),
        ("Jitter at the peer", known(f.remote_jitter_ms, "ms")),
        ("Level in", level(f.level_in)),
        ("Level out", level(f.level_out)),
    ]
    .into_iter()
    .map(|(key, value)| format!("{:<20}{value}", format!("{key}:")))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_figures_are_called_so() {
        let figures = Figures { round_trip_ms: -1.0, remote_loss_percent: 0.0, ..Figures::default() };
        let lines = lines(&figures);
        assert!(lines.contains(&"Round trip:         unknown".to_owned()), "{lines:?}");
        assert!(lines.contains(&"Loss at the peer:   0.0 %".to_owned()), "{lines:?}");
    }
}
