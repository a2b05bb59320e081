//! `voipctl stats`: the figures of a call's media, `org.voipd.CallStatistics1`.

use serde_json::json;
use voipd_dbus::{Dict, Figures};

use crate::cli::StatsArgs;
use crate::daemon::Daemon;
use crate::events::Event;
use crate::exit::Failure;
use crate::objects::Fit;
use crate::output::{Output, dict_to_json};
use crate::text::{cut, level, meter};

/// Distance of two lines of `--watch`.
const INTERVAL_MS: u32 = 1000;
/// Silence that `--watch` tells, in seconds.
const SILENCE: u32 = 10;

pub(crate) async fn run(daemon: &Daemon, out: Output, args: StatsArgs) -> Result<(), Failure> {
    let snapshot = daemon.snapshot().await?;
    let named = args.call.call.as_ref();
    if args.watch {
        return watch(daemon, out, &snapshot.call(named, Fit::Unended)?.path).await;
    }
    // An ended call's figures can be read too, when no other call is meant.
    let call = match snapshot.call(named, Fit::Unended) {
        Err(_) if named.is_none() && snapshot.calls.len() == 1 => snapshot.call(None, Fit::Any)?,
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

/// Figures and events as they come, until the call ends.
async fn watch(daemon: &Daemon, out: Output, call: &str) -> Result<(), Failure> {
    let mut events = daemon.events().await?;
    let statistics = daemon.statistics(call).await?;
    statistics.watch(INTERVAL_MS).await?;
    statistics.watch_activity(SILENCE).await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            failure = out.reader_left() => return Err(failure),
        };
        if event.ends(call)? {
            return finish(out);
        }
        match event {
            Event::Statistics { path, figures } if path == call => show(out, &figures)?,
            event => {
                if let Some((words, record)) = told(call, &event) {
                    match out.json {
                        true => out.record(&record)?,
                        false if out.is_terminal() => {
                            // The line of figures makes room.
                            out.redraw("")?;
                            out.line(&words)?;
                        }
                        false => out.line(&words)?,
                    }
                }
            }
        }
    }
}

fn finish(out: Output) -> Result<(), Failure> {
    if out.is_terminal() && !out.json { out.redraw("") } else { Ok(()) }
}

fn show(out: Output, figures: &Dict) -> Result<(), Failure> {
    if out.json {
        return out.record(&json!({"event": "statistics", "statistics": dict_to_json(figures)}));
    }
    let line = line(&Figures::from_dict(figures));
    match out.is_terminal() {
        true => out.redraw(&cut(&line, out.width() - 1)),
        false => out.line(&line),
    }
}

/// What an event of this call says, in words and for programs.
fn told(call: &str, event: &Event) -> Option<(String, serde_json::Value)> {
    let side = |direction: &str| if direction == "near" { "this side" } else { "the peer" };
    match event {
        Event::Activity { path, direction, talking } if path == call => Some((
            format!("{} {}", side(direction), if *talking { "talks" } else { "is silent" }),
            json!({"event": "activity", "direction": direction, "talking": talking}),
        )),
        Event::Silence { path, direction, seconds } if path == call => Some((
            format!("{} has been silent for {seconds} seconds", side(direction)),
            json!({"event": "silence", "direction": direction, "seconds": seconds}),
        )),
        Event::Quality { path, direction, quality, mos, cause } if path == call => Some((
            quality_words(direction, quality, *mos, cause),
            json!({"event": "quality", "direction": direction, "quality": quality, "mos": mos, "cause": cause}),
        )),
        _ => None,
    }
}

/// What a warning says.
pub(crate) fn quality_words(direction: &str, quality: &str, mos: f64, cause: &str) -> String {
    let place = if direction == "outbound" { "at the peer" } else { "here" };
    let because = match cause {
        "" => String::new(),
        "jitter" => ", packets come too late".to_owned(),
        cause => format!(", {cause}"),
    };
    format!("sounds {quality} {place}: MOS {mos:.1}{because}")
}

/// The opinions of both directions, as far as they are known.
pub(crate) fn opinions(figures: &Figures) -> Option<String> {
    let known = |mos: f64, place: &str| (mos >= 0.0).then(|| format!("{mos:.1} {place}"));
    let both =
        [known(figures.mos_conversation_in, "here"), known(figures.mos_conversation_out, "at the peer")];
    let words: Vec<String> = both.into_iter().flatten().collect();
    (!words.is_empty()).then(|| format!("MOS {}", words.join(", ")))
}

/// The same in little room: here, and at the peer.
pub(crate) fn short_opinions(figures: &Figures) -> Option<String> {
    let word = |mos: f64| if mos < 0.0 { "-".to_owned() } else { format!("{mos:.1}") };
    let both = (word(figures.mos_conversation_in), word(figures.mos_conversation_out));
    (both.0 != "-" || both.1 != "-").then(|| format!("MOS {}/{}", both.0, both.1))
}

/// The figures that change, in one line.
fn line(f: &Figures) -> String {
    let mut parts = vec![
        opinions(f).unwrap_or_else(|| "MOS unknown".to_owned()),
        format!("lost {:.1} %", f.loss_percent),
        format!("concealed {:.1} %", f.concealed_percent),
        format!("jitter {:.1} ms", f.jitter_ms),
        format!("buffer {:.0} ms", f.buffer_ms),
    ];
    if f.round_trip_ms >= 0.0 {
        parts.push(format!("round trip {:.0} ms", f.round_trip_ms));
    }
    if f.remote_loss_percent >= 0.0 {
        parts.push(format!("lost at the peer {:.1} %", f.remote_loss_percent));
    }
    parts.push(format!("in {}", meter(f.level_in)));
    parts.push(format!("out {}", meter(f.level_out)));
    parts.join("  ")
}

fn lines(f: &Figures) -> Vec<String> {
    let known = |value: f64, unit: &str| {
        if value < 0.0 { "unknown".to_owned() } else { format!("{value:.1} {unit}") }
    };
    let quality = |mos: f64, rating: f64| {
        if mos < 0.0 { "unknown".to_owned() } else { format!("MOS {mos:.1}, R {rating:.0}") }
    };
    let reported =
        if f.reported_mos < 0.0 { "unknown".to_owned() } else { format!("MOS {:.1}", f.reported_mos) };
    [
        ("Sounds here", quality(f.mos_conversation_in, f.rating_in)),
        ("Sounds at the peer", quality(f.mos_conversation_out, f.rating_out)),
        ("By the peer itself", reported),
        ("Sent", format!("{} packets, {} octets", f.packets_sent, f.octets_sent)),
        ("Received", format!("{} packets, {} octets", f.packets_received, f.octets_received)),
        ("Lost", format!("{} packets, {:.1} %", f.packets_lost, f.loss_percent)),
        (
            "Bursts",
            format!("{}, {:.1} % lost in them, {:.1} % else", f.bursts, f.burst_density, f.gap_density),
        ),
        ("Late", format!("{} packets", f.packets_late)),
        ("Duplicate", format!("{} packets", f.packets_duplicate)),
        ("Reordered", format!("{} packets", f.packets_reordered)),
        ("Invalid", format!("{} packets", f.packets_invalid)),
        ("Discarded", format!("{} packets", f.packets_discarded)),
        ("Played", format!("{} frames", f.frames_played)),
        ("Concealed", format!("{} frames, {:.1} % of late", f.frames_concealed, f.concealed_percent)),
        (
            "Brought back",
            format!("{} packets by copies, {} by error correction", f.packets_restored, f.packets_corrected),
        ),
        ("Sent now", sending(f)),
        ("Jitter", format!("{:.1} ms", f.jitter_ms)),
        ("Jitter buffer", format!("{:.0} ms, aims at {:.0} ms", f.buffer_ms, f.buffer_target_ms)),
        ("Round trip", known(f.round_trip_ms, "ms")),
        ("Delay to here", known(f.one_way_delay_ms, "ms")),
        ("Loss at the peer", known(f.remote_loss_percent, "%")),
        ("Jitter at the peer", known(f.remote_jitter_ms, "ms")),
        ("Late at the peer", known(f.reported_discard_percent, "%")),
        ("Level in", level(f.level_in)),
        ("Level out", level(f.level_out)),
    ]
    .into_iter()
    .map(|(key, value)| format!("{:<20}{value}", format!("{key}:")))
    .collect()
}

/// How the network has the stream sent at the moment.
fn sending(f: &Figures) -> String {
    if f.send_ptime_ms == 0 {
        return "nothing".to_owned();
    }
    let mut parts = vec![format!("{} ms packets", f.send_ptime_ms)];
    if f.send_bitrate > 0 {
        parts.push(format!("{:.1} kbit/s", f64::from(f.send_bitrate) / 1000.0));
    }
    if f.send_fec {
        parts.push("error correction".to_owned());
    }
    if f.send_copies > 0 {
        parts.push(format!("{} in each from before", f.send_copies));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_figures_are_called_so() {
        let figures = Figures { round_trip_ms: -1.0, remote_loss_percent: 0.0, ..Figures::default() };
        let all = lines(&figures);
        assert!(all.contains(&"Round trip:         unknown".to_owned()), "{all:?}");
        assert!(all.contains(&"Loss at the peer:   0.0 %".to_owned()), "{all:?}");
        assert!(all.contains(&"Sounds here:        unknown".to_owned()), "{all:?}");
        assert!(line(&figures).starts_with("MOS unknown  lost 0.0 %"));
    }

    #[test]
    fn quality_is_told_in_words() {
        let figures = Figures { mos_conversation_in: 4.38, rating_in: 91.2, ..Figures::default() };
        assert!(lines(&figures).contains(&"Sounds here:        MOS 4.4, R 91".to_owned()));
        assert!(lines(&figures).contains(&"By the peer itself: unknown".to_owned()));
        let told = Figures { reported_mos: 3.1, ..Figures::default() };
        assert!(lines(&told).contains(&"By the peer itself: MOS 3.1".to_owned()));
        assert_eq!(opinions(&figures).unwrap(), "MOS 4.4 here");
        assert_eq!(opinions(&Figures::default()), None);
        assert_eq!(
            quality_words("inbound", "poor", 2.31, "jitter"),
            "sounds poor here: MOS 2.3, packets come too late"
        );
        assert_eq!(quality_words("outbound", "good", 4.2, ""), "sounds good at the peer: MOS 4.2");
    }

    #[test]
    fn only_events_of_the_call_are_told() {
        let activity =
            |path: &str, talking| Event::Activity { path: path.into(), direction: "far".into(), talking };
        let (words, record) = told("/a", &activity("/a", true)).unwrap();
        assert_eq!((words.as_str(), &record["talking"]), ("the peer talks", &json!(true)));
        assert_eq!(told("/a", &activity("/a", false)).unwrap().0, "the peer is silent");
        assert!(told("/a", &activity("/b", true)).is_none());
        let silence = Event::Silence { path: "/a".into(), direction: "near".into(), seconds: 10 };
        assert_eq!(told("/a", &silence).unwrap().0, "this side has been silent for 10 seconds");
    }
}
