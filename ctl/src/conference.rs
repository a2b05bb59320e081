//! `voipctl conference`: calls that hear each other, `org.voipd.Conference1`.

use serde_json::{Value, json};
use voipd_dbus::{ConferenceOptions, names};

use crate::cli::{ConferenceCommand, DeviceWord};
use crate::daemon::Daemon;
use crate::events::Event;
use crate::exit::Failure;
use crate::objects::{CallName, ConferenceName, Fit, Object, Snapshot, object_path};
use crate::output::Output;
use crate::text::table;

pub(crate) async fn run(
    daemon: &Daemon,
    out: Output,
    command: Option<ConferenceCommand>,
) -> Result<(), Failure> {
    match command.unwrap_or(ConferenceCommand::List) {
        ConferenceCommand::List => list(daemon, out).await,
        ConferenceCommand::Open { calls, device } => open(daemon, out, &calls, device).await,
        ConferenceCommand::Join { call, to } => {
            let snapshot = daemon.snapshot().await?;
            let conference = snapshot.conference(to.as_ref())?.path.clone();
            let call = snapshot.call(call.call.as_ref(), Fit::Unended)?;
            Ok(daemon.conference(&conference).await?.join(&object_path(&call.path)?).await?)
        }
        ConferenceCommand::Leave(one) => {
            let (conference, call) = seat(daemon, one.call.as_ref()).await?;
            Ok(daemon.conference(&conference).await?.leave(&object_path(&call)?).await?)
        }
        ConferenceCommand::Mute(one) => mute(daemon, one.call.as_ref(), true).await,
        ConferenceCommand::Unmute(one) => mute(daemon, one.call.as_ref(), false).await,
        ConferenceCommand::Device { device, conference } => {
            let path = path_of(daemon, conference.as_ref()).await?;
            Ok(daemon.conference(&path).await?.set_device(device.word()).await?)
        }
        ConferenceCommand::End { conference } => {
            let path = path_of(daemon, conference.as_ref()).await?;
            Ok(daemon.conference(&path).await?.end().await?)
        }
        ConferenceCommand::Watch { conference } => watch(daemon, out, conference.as_ref()).await,
    }
}

async fn path_of(daemon: &Daemon, named: Option<&ConferenceName>) -> Result<String, Failure> {
    Ok(daemon.snapshot().await?.conference(named)?.path.clone())
}

/// Paths of a call and of the conference that it is in.
async fn seat(daemon: &Daemon, named: Option<&CallName>) -> Result<(String, String), Failure> {
    let snapshot = daemon.snapshot().await?;
    let call = snapshot.call(named, Fit::InConference)?;
    match call.text("Conference") {
        "" | "/" => Err(Failure::failed(format!(
            "call {} is in no conference. 'voipctl conference' shows who is in which.",
            call.id()
        ))),
        conference => Ok((conference.to_owned(), call.path.clone())),
    }
}

async fn mute(daemon: &Daemon, named: Option<&CallName>, muted: bool) -> Result<(), Failure> {
    let (conference, call) = seat(daemon, named).await?;
    Ok(daemon.conference(&conference).await?.set_muted(&object_path(&call)?, muted).await?)
}

async fn open(
    daemon: &Daemon,
    out: Output,
    calls: &[CallName],
    device: Option<DeviceWord>,
) -> Result<(), Failure> {
    let snapshot = daemon.snapshot().await?;
    let calls = calls.iter().map(|call| Ok(snapshot.call(Some(call), Fit::Any)?.path.as_str()));
    let calls = calls.collect::<Result<Vec<&str>, Failure>>()?;
    let calls = calls.into_iter().map(object_path).collect::<Result<Vec<_>, Failure>>()?;
    let options = ConferenceOptions { device: device.map(|device| device.word().to_owned()) };
    let path = daemon.manager().await?.open_conference(&calls, &options).await?;
    match out.json {
        true => {
            out.document(&json!({"path": path.as_str(), "number": names::conference_number(path.as_str())}))
        }
        false => out.line(path.as_str()),
    }
}

async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let snapshot = daemon.snapshot().await?;
    match out.json {
        true => out.document(&snapshot.conferences.iter().map(Object::to_json).collect::<Value>()),
        false if snapshot.conferences.is_empty() => out.line("There are no conferences."),
        false => out.lines(&conferences_table(&snapshot)),
    }
}

/// The table of `conference` and `status`.
pub(crate) fn conferences_table(snapshot: &Snapshot) -> Vec<String> {
    let row = |conference: &Object| {
        let muted = conference.paths("MutedMembers");
        let member = |path: &String| {
            let call = snapshot.calls.iter().find(|call| call.path == *path);
            let peer = call.map(|call| format!(" {}", call.peer())).unwrap_or_default();
            let mark = if muted.contains(path) { " (muted)" } else { "" };
            format!("{}{peer}{mark}", names::call_number(path).unwrap_or_default())
        };
        let members: Vec<String> = conference.paths("Members").iter().map(member).collect();
        vec![conference.id().to_string(), conference.text("Device").to_owned(), members.join(", ")]
    };
    let rows: Vec<_> = snapshot.conferences.iter().map(row).collect();
    table(&["CONFERENCE", "DEVICE", "CALLS"], &rows)
}

/// A line for whoever begins to speak, until the conference is over.
async fn watch(daemon: &Daemon, out: Output, named: Option<&ConferenceName>) -> Result<(), Failure> {
    let path = path_of(daemon, named).await?;
    // Asked for first, so that nothing happens unseen between the two.
    let mut events = daemon.events().await?;
    daemon.conference(&path).await?.watch_speaker().await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            failure = out.reader_left() => return Err(failure),
        };
        match event {
            Event::Gone => return Err(Failure::gone()),
            Event::Removed { path: removed } if removed == path => return Ok(()),
            Event::Changed { path: changed, properties, .. } if changed == path => {
                let conference = Object { path: changed, properties };
                let speaker = conference.text("ActiveSpeaker");
                if speaker.is_empty() {
                    continue;
                }
                let snapshot = daemon.snapshot().await?;
                let call = snapshot.calls.iter().find(|call| call.path == speaker);
                match out.json {
                    true => out.record(&json!({"speaker": call.map(Object::id)}))?,
                    false => out.line(&call.map_or_else(
                        || "nobody speaks".to_owned(),
                        |call| format!("{} {} speaks", call.id(), call.peer()),
                    ))?,
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::{call, paths};

    #[test]
    fn a_conference_is_shown_with_its_calls() {
        let mut conference = call(0, &[("Device", "away")], &[]);
        conference.path = names::conference_path(2);
        conference.properties.insert("Members".into(), paths(&[names::call_path(3), names::call_path(4)]));
        conference.properties.insert("MutedMembers".into(), paths(&[names::call_path(4)]));
        let calls = vec![
            call(3, &[("Peer", "sip:a@example.org")], &[]),
            call(4, &[("Peer", "sip:b@example.org")], &[]),
        ];
        let snapshot = Snapshot { calls, conferences: vec![conference], ..Snapshot::default() };
        let shown = conferences_table(&snapshot);
        assert!(shown[1].starts_with("2 ") && shown[1].contains("away"), "{shown:?}");
        assert!(shown[1].ends_with("3 sip:a@example.org, 4 sip:b@example.org (muted)"), "{shown:?}");
    }
}
