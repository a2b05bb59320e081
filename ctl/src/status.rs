//! `voipctl status` and `voipctl dnd`: the daemon as a whole, `org.voipd.Manager1`.

use serde_json::json;
use voipd_dbus::names;

use crate::account::accounts_table;
use crate::call::{calls_table, calls_to_json};
use crate::cli::{StatusArgs, Switch};
use crate::conference::conferences_table;
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::Object;
use crate::output::{Output, dict_to_json};

pub(crate) async fn run(daemon: &Daemon, out: Output, args: StatusArgs) -> Result<(), Failure> {
    let read = async |path: &str, interface| {
        let properties = daemon.properties(path, interface).await?;
        Ok::<_, Failure>(Object { path: path.to_owned(), properties })
    };
    let manager = read(names::ROOT_PATH, names::MANAGER).await?;
    let audio = read(names::AUDIO_PATH, names::AUDIO).await?;
    let mut snapshot = daemon.snapshot().await?;
    daemon.add_retries(&mut snapshot.accounts).await?;
    if out.json {
        return out.document(&json!({
            "version": manager.text("Version"),
            "scope": manager.text("Scope"),
            "bus": daemon.bus.name(),
            "codecs": manager.to_json()["codecs"],
            "do_not_disturb": manager.flag("DoNotDisturb"),
            "audio": dict_to_json(&audio.properties),
            "accounts": snapshot.accounts.iter().map(Object::to_json).collect::<Vec<_>>(),
            "calls": calls_to_json(&snapshot),
            "conferences": snapshot.conferences.iter().map(Object::to_json).collect::<Vec<_>>(),
        }));
    }
    out.line(&format!("voipd {} on the {} bus", manager.text("Version"), daemon.bus.name()))?;
    if manager.flag("DoNotDisturb") {
        out.line("Do not disturb: inbound calls are refused")?;
    }
    out.line(&format!("Codecs: {}", manager.list("Codecs")))?;
    out.lines(&audio_lines(&audio))?;
    out.line("")?;
    match snapshot.accounts.is_empty() {
        true => out.line("There are no accounts.")?,
        false => out.lines(&accounts_table(&snapshot.accounts))?,
    }
    out.line("")?;
    match snapshot.calls.is_empty() {
        true => out.line("There are no calls.")?,
        false => out.lines(&calls_table(&snapshot))?,
    }
    if !snapshot.conferences.is_empty() {
        out.line("")?;
        out.lines(&conferences_table(&snapshot))?;
    }
    if args.counters {
        out.line("")?;
        let counters = daemon.audio().await?.counters().await?;
        let mut counters: Vec<_> = counters.into_iter().collect();
        counters.sort();
        let width = counters.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, count) in counters {
            out.line(&format!("{name:<width$}  {count}"))?;
        }
    }
    Ok(())
}

/// The sound devices and how the real-time thread is scheduled.
fn audio_lines(audio: &Object) -> Vec<String> {
    let (state, reason) = (audio.text("State"), audio.text("Reason"));
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let scheduling = match audio.text("Scheduling") {
        "fifo" => "real-time, SCHED_FIFO".to_owned(),
        "rtkit" => "real-time, SCHED_FIFO through rtkit".to_owned(),
        "other" => format!("not real-time{}", because(audio.text("SchedulingReason"))),
        unknown => unknown.to_owned(),
    };
    let mut lines = vec![
        format!("Sound:  {state}{}", because(reason)),
        format!(
            "        input {}, output {}, ringer {}",
            audio.text("Input"),
            audio.text("Output"),
            audio.text("Ringer")
        ),
        format!("Thread: {scheduling}"),
    ];
    let parked = if audio.flag("Parked") { "parked" } else { "awake" };
    let locked = match (audio.flag("MemoryLocked"), audio.text("Scheduling"), audio.text("SchedulingReason"))
    {
        (true, ..) => "memory locked",
        // The reason is that of the scheduling, or there is none.
        (false, "other", _) | (false, _, "") => "memory not locked",
        (false, _, reason) => reason,
    };
    lines.push(format!("        {parked}, {locked}"));
    lines
}

/// `voipctl dnd`.
pub(crate) async fn do_not_disturb(
    daemon: &Daemon,
    out: Output,
    switch: Option<Switch>,
) -> Result<(), Failure> {
    let manager = daemon.manager().await?;
    match switch {
        Some(switch) => Ok(manager.set_do_not_disturb(matches!(switch, Switch::On)).await?),
        None => show_switch(out, "do_not_disturb", manager.do_not_disturb().await?),
    }
}

/// `voipctl dial-tone`.
pub(crate) async fn dial_tone(daemon: &Daemon, out: Output, switch: Option<Switch>) -> Result<(), Failure> {
    let manager = daemon.manager().await?;
    match switch {
        Some(switch) => Ok(manager.set_dial_tone(matches!(switch, Switch::On)).await?),
        None => show_switch(out, "dial_tone", manager.dial_tone().await?),
    }
}

fn show_switch(out: Output, key: &str, on: bool) -> Result<(), Failure> {
    match out.json {
        true => out.document(&json!({ key: on })),
        false => out.line(if on { "on" } else { "off" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    #[test]
    fn a_missing_device_and_missing_rights_are_explained() {
        let audio = call(
            1,
            &[
                ("State", "unavailable"),
                ("Reason", "busy: PipeWire holds it"),
                ("Scheduling", "other"),
                ("SchedulingReason", "no right to it"),
                ("Input", "default"),
                ("Output", "null"),
                ("Ringer", "default"),
            ],
            &["Parked"],
        );
        assert_eq!(
            audio_lines(&audio),
            [
                "Sound:  unavailable: busy: PipeWire holds it",
                "        input default, output null, ringer default",
                "Thread: not real-time: no right to it",
                "        parked, memory not locked",
            ]
        );
    }

    #[test]
    fn memory_that_is_not_locked_is_explained() {
        let lines = |reason: &str| {
            let texts = [("State", "idle"), ("Scheduling", "fifo"), ("SchedulingReason", reason)];
            audio_lines(&call(1, &texts, &[]))
        };
        let told = lines("memory is not locked: allow it");
        assert_eq!(
            told[2..],
            ["Thread: real-time, SCHED_FIFO", "        awake, memory is not locked: allow it"]
        );
        assert_eq!(lines("")[3], "        awake, memory not locked");
    }
}
