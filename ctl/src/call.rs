//! What can be done with a call that is there: `org.voipd.Call1`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use serde_json::{Value, json};
use voipd_dbus::{AcceptOptions, CallState, Dict, ResumeOptions, names};

use crate::cli::{AnswerArgs, CodecArgs, DtmfArgs, HangupArgs, OneCall, RejectArgs, ResumeArgs, SoundArgs};
use crate::daemon::Daemon;
use crate::exit::Failure;
use crate::objects::{CallName, Fit, Object, Snapshot};
use crate::output::Output;
use crate::text::{clock, table};

/// `voipctl calls`.
pub(crate) async fn list(daemon: &Daemon, out: Output) -> Result<(), Failure> {
    let snapshot = daemon.snapshot().await?;
    match out.json {
        true => out.document(&calls_to_json(&snapshot)),
        false if snapshot.calls.is_empty() => out.line("There are no calls."),
        false => out.lines(&calls_table(&snapshot)),
    }
}

/// Calls with the names of their accounts, for programs.
pub(crate) fn calls_to_json(snapshot: &Snapshot) -> Value {
    let one = |call: &Object| {
        let mut value = call.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("account_name".into(), json!(snapshot.account_name(call.text("Account"))));
        }
        value
    };
    snapshot.calls.iter().map(one).collect()
}

/// The table of `calls` and `status`.
pub(crate) fn calls_table(snapshot: &Snapshot) -> Vec<String> {
    let row = |call: &Object| {
        vec![
            call.id().to_string(),
            call.text("Direction").to_owned(),
            state_words(call),
            if call.number("AnsweredAt") == 0 { String::new() } else { clock(call.talk_time()) },
            call.text("Codec").to_owned(),
            media_path(call),
            snapshot.account_name(call.text("Account")).to_owned(),
            peer_words(call),
        ]
    };
    let rows: Vec<_> = snapshot.calls.iter().map(row).collect();
    table(&["CALL", "DIRECTION", "STATE", "TIME", "CODEC", "PATH", "ACCOUNT", "PEER"], &rows)
}

/// The kind of way that media takes; nothing before there is media.
pub(crate) fn media_path(call: &Object) -> String {
    let properties =
        call.properties.get("MediaPath").and_then(|value| Dict::try_from(value.try_clone().ok()?).ok());
    let path = Object { path: String::new(), properties: properties.unwrap_or_default() };
    Some(path.text("kind")).filter(|kind| *kind != "none").unwrap_or_default().to_owned()
}

/// The peer, with what is known of it from others than itself.
fn peer_words(call: &Object) -> String {
    let mut words = vec![call.peer()];
    if call.flag("Anonymous") {
        words.push("anonymous".to_owned());
    }
    let asserted = call.asserted().filter(|_| call.text("AssertedIdentity") != call.text("Peer"));
    words.extend(asserted.map(|asserted| format!("the server says {asserted}")));
    let diverted = call.list("Diversion");
    if !diverted.is_empty() {
        words.push(format!("diverted from {diverted} ({})", call.text("DiversionReason")));
    }
    let contacts = call.list("RedirectContacts");
    if !contacts.is_empty() {
        words.push(format!("is at {contacts}"));
    }
    words.join(", ")
}

/// State of a call with what else matters to someone who looks at it.
pub(crate) fn state_words(call: &Object) -> String {
    let mut words = vec![call.text("State").to_owned()];
    let ended = call.call_state() == Some(CallState::Ended);
    if ended {
        words.push(call.text("EndReason").to_owned());
    } else {
        let marks = [
            ("LocalHold", "by this side"),
            ("RemoteHold", "by the peer"),
            ("Muted", "muted"),
            ("Mixed", "mixed"),
        ];
        words.extend(marks.iter().filter(|(key, _)| call.flag(key)).map(|(_, word)| (*word).to_owned()));
        if let Some(number) = names::conference_number(call.text("Conference")) {
            words.push(format!("in conference {number}"));
        }
        match call.text("NetworkState") {
            "waiting" => words.push("waiting for a network".to_owned()),
            "moving" => words.push("moving to another network".to_owned()),
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

/// Path of the call that is meant.
pub(crate) async fn path_of(daemon: &Daemon, named: Option<&CallName>, fit: Fit) -> Result<String, Failure> {
    Ok(daemon.snapshot().await?.call(named, fit)?.path.clone())
}

pub(crate) async fn answer(daemon: &Daemon, args: AnswerArgs) -> Result<(), Failure> {
    let path = path_of(daemon, args.call.call.as_ref(), Fit::Incoming).await?;
    let files = open_files(&args.sound)?;
    let options = AcceptOptions {
        play: files.play.map(Into::into),
        record: files.record.map(Into::into),
        record_format: files.record_format,
        programs: None,
        mix: args.sound.mix.then_some(true),
        conference: args.sound.conference()?,
    };
    Ok(daemon.call(&path).await?.accept(&options).await?)
}

pub(crate) async fn reject(daemon: &Daemon, args: RejectArgs) -> Result<(), Failure> {
    let path = path_of(daemon, args.call.call.as_ref(), Fit::Incoming).await?;
    let reason = match (args.busy, args.decline) {
        (true, _) => "busy",
        (_, true) => "declined",
        _ => "",
    };
    Ok(daemon.call(&path).await?.reject(reason).await?)
}

pub(crate) async fn hang_up(daemon: &Daemon, args: HangupArgs) -> Result<(), Failure> {
    if !args.all {
        let path = path_of(daemon, args.call.call.as_ref(), Fit::Unended).await?;
        return Ok(daemon.call(&path).await?.hangup().await?);
    }
    let snapshot = daemon.snapshot().await?;
    let mut result = Ok(());
    for call in snapshot.calls.iter().filter(|call| call.call_state() != Some(CallState::Ended)) {
        match daemon.call(&call.path).await?.hangup().await {
            // It ended by itself in between.
            Err(error) if error.is_gone() || matches!(error, voipd_dbus::Error::InvalidState(_)) => {}
            Err(error) => result = Err(error.into()),
            Ok(()) => {}
        }
    }
    result
}

pub(crate) async fn hold(daemon: &Daemon, one: OneCall) -> Result<(), Failure> {
    let path = path_of(daemon, one.call.as_ref(), Fit::Holdable).await?;
    Ok(daemon.call(&path).await?.hold().await?)
}

pub(crate) async fn resume(daemon: &Daemon, args: ResumeArgs) -> Result<(), Failure> {
    let path = path_of(daemon, args.call.call.as_ref(), Fit::OnHold).await?;
    Ok(daemon.call(&path).await?.resume(&ResumeOptions { mix: args.mix.then_some(true) }).await?)
}

pub(crate) async fn mute(daemon: &Daemon, one: OneCall, muted: bool) -> Result<(), Failure> {
    let path = path_of(daemon, one.call.as_ref(), Fit::Unended).await?;
    Ok(daemon.call(&path).await?.set_muted(muted).await?)
}

pub(crate) async fn silence(daemon: &Daemon, one: OneCall) -> Result<(), Failure> {
    let path = path_of(daemon, one.call.as_ref(), Fit::Incoming).await?;
    Ok(daemon.call(&path).await?.silence().await?)
}

pub(crate) async fn set_codec(daemon: &Daemon, args: CodecArgs) -> Result<(), Failure> {
    let (named, codec) = call_and_word(&args.words, "the codec")?;
    let path = path_of(daemon, named.as_ref(), Fit::Answered).await?;
    Ok(daemon.call(&path).await?.set_codec(codec).await?)
}

/// What the last word is about may stand before it.
fn call_and_word<'a>(words: &'a [String], what: &str) -> Result<(Option<CallName>, &'a String), Failure> {
    match words {
        [word] => Ok((None, word)),
        [call, word] => Ok((Some(call.parse::<CallName>().map_err(Failure::usage)?), word)),
        _ => Err(Failure::usage(format!("say {what}, or the call and {what}."))),
    }
}

pub(crate) async fn send_dtmf(daemon: &Daemon, args: DtmfArgs) -> Result<(), Failure> {
    let (named, digits) = call_and_word(&args.words, "the digits")?;
    let path = path_of(daemon, named.as_ref(), Fit::Sounding).await?;
    Ok(daemon.call(&path).await?.send_dtmf(digits).await?)
}

/// Files that a call's sound comes from and goes to.
#[derive(Debug, Default)]
pub(crate) struct SoundFiles {
    pub(crate) play: Option<OwnedFd>,
    pub(crate) record: Option<OwnedFd>,
    pub(crate) record_format: Option<String>,
}

/// Opens the files here: the daemon need not be allowed to.
pub(crate) fn open_files(args: &SoundArgs) -> Result<SoundFiles, Failure> {
    // What is played is opened first: when it is not there, no empty recording is left behind.
    let play = args.play.as_deref().map(open_to_play).transpose()?;
    let record = args.record.as_deref().map(open_to_record).transpose()?;
    let record_format = args.record.as_deref().and_then(recording_format).map(str::to_owned);
    Ok(SoundFiles { play, record, record_format })
}

pub(crate) fn open_to_play(path: &Path) -> Result<OwnedFd, Failure> {
    opened(path, "to play it", File::open(path))
}

/// What a recording becomes is told by the file's name; the daemon's usual format is WAV.
pub(crate) fn recording_format(file: &Path) -> Option<&'static str> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "ogg" | "oga" | "opus" => Some("ogg"),
        "flac" => Some("flac"),
        _ => None,
    }
}

/// What the file holds stays until the recording begins.
pub(crate) fn open_to_record(path: &Path) -> Result<OwnedFd, Failure> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    opened(path, "to record", file)
}

fn opened(path: &Path, what: &str, file: std::io::Result<File>) -> Result<OwnedFd, Failure> {
    file.map(OwnedFd::from)
        .map_err(|error| Failure::failed(format!("cannot open {} {what}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::tests::call;

    #[test]
    fn the_state_tells_who_holds_and_why_it_ended() {
        assert_eq!(
            state_words(&call(1, &[("State", "held")], &["LocalHold", "Muted"])),
            "held, by this side, muted"
        );
        assert_eq!(
            state_words(&call(1, &[("State", "active"), ("NetworkState", "waiting")], &[])),
            "active, waiting for a network"
        );
        assert_eq!(
            state_words(&call(1, &[("State", "ended"), ("EndReason", "busy")], &["Muted"])),
            "ended, busy"
        );
        assert_eq!(state_words(&call(1, &[("State", "ringing")], &[])), "ringing");
    }

    #[test]
    fn the_peer_is_shown_with_what_others_say_of_it() {
        let plain = call(1, &[("Peer", "sip:b@example.org"), ("AssertedIdentity", "sip:b@example.org")], &[]);
        assert_eq!(peer_words(&plain), "sip:b@example.org");
        let mut diverted = call(
            1,
            &[
                ("Peer", "sip:anonymous@anonymous.invalid"),
                ("AssertedIdentity", "tel:+4930123"),
                ("AssertedName", "Bob"),
                ("DiversionReason", "user-busy"),
            ],
            &["Anonymous"],
        );
        let from = zbus::Variant::from(vec!["sip:c@example.org", "sip:d@example.org"]);
        diverted.properties.insert("Diversion".into(), from.try_into().unwrap());
        assert_eq!(
            peer_words(&diverted),
            "sip:anonymous@anonymous.invalid, anonymous, the server says Bob <tel:+4930123>, \
             diverted from sip:c@example.org, sip:d@example.org (user-busy)"
        );
    }

    #[test]
    fn the_name_tells_the_format() {
        let cases = [
            ("a.wav", None),
            ("a.opus", Some("ogg")),
            ("a.OGG", Some("ogg")),
            ("a.flac", Some("flac")),
            ("ogg", None),
        ];
        for (name, format) in cases {
            assert_eq!(recording_format(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn opening_files_leaves_an_older_recording_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (play, record) = (directory.path().join("missing.wav"), directory.path().join("kept.wav"));
        std::fs::write(&record, "old").unwrap();
        let args = SoundArgs {
            play: Some(play.clone()),
            record: Some(record.clone()),
            mix: false,
            conference: None,
        };
        let sentence = open_files(&args).unwrap_err().sentence.unwrap();
        assert!(sentence.contains("missing.wav to play it"), "{sentence}");
        std::fs::write(&play, "sound").unwrap();
        open_files(&args).unwrap();
        assert_eq!(std::fs::read_to_string(&record).unwrap(), "old");
    }

    #[test]
    fn calls_name_their_account() {
        let mut with_account = call(3, &[("State", "active"), ("Peer", "sip:b@example.org")], &[]);
        let path = zbus::Variant::from(zbus::ObjectPath::from_static_str_unchecked("/org/voipd/account/1"));
        with_account.properties.insert("Account".into(), path.try_into().unwrap());
        let name = zbus::Variant::from("work").try_into().unwrap();
        let account =
            Object { path: "/org/voipd/account/1".into(), properties: [("Name".to_owned(), name)].into() };
        let snapshot = Snapshot { accounts: vec![account], calls: vec![with_account], ..Snapshot::default() };
        let json = calls_to_json(&snapshot);
        assert_eq!((&json[0]["account_name"], &json[0]["number"]), (&json!("work"), &json!(3)));
        assert!(calls_table(&snapshot)[1].contains("work"));
    }
}
