//! `voipctl play` and `voipctl record`: files at a call that is there.

use std::path::PathBuf;

use voipd_dbus::{CallProxy, PlayOptions, RecordOptions, names};

use crate::call::{open_to_play, open_to_record, path_of, recording_format};
use crate::cli::{PlayArgs, RecordArgs};
use crate::daemon::Daemon;
use crate::events::Event;
use crate::exit::Failure;
use crate::objects::{CallName, Fit};

pub(crate) async fn play(daemon: &Daemon, args: PlayArgs) -> Result<(), Failure> {
    let (named, file) = call_and_file(&args.words, args.stop)?;
    let path = path_of(daemon, named.as_ref(), Fit::Unended).await?;
    let call = daemon.call(&path).await?;
    let Some(file) = file else { return Ok(call.stop_playing().await?) };
    let opened = open_to_play(&file)?;
    let options =
        PlayOptions { mode: args.replace.then(|| "replace".to_owned()), repeat: args.repeat.then_some(true) };
    // Asked for first: a short file may be over before the answer is here.
    let mut events = daemon.events().await?;
    call.play(&opened.into(), &options).await?;
    if args.wait {
        while !is_over(&events.next().await, &path)? {}
    }
    Ok(())
}

/// Whether this tells that nothing is played any more.
fn is_over(event: &Event, path: &str) -> Result<bool, Failure> {
    match event {
        Event::Gone => Err(Failure::gone()),
        Event::Changed { path: changed, interface, properties } => {
            let playing =
                properties.get("Playing").is_some_and(|value| **value == zbus::Variant::Bool(false));
            Ok(changed == path && interface == names::CALL && playing)
        }
        Event::Removed { path: removed } => Ok(removed == path),
        _ => Ok(false),
    }
}

pub(crate) async fn record(daemon: &Daemon, args: RecordArgs) -> Result<(), Failure> {
    let (named, file) = call_and_file(&args.words, args.stop)?;
    let path = path_of(daemon, named.as_ref(), Fit::Unended).await?;
    let call: CallProxy<'_> = daemon.call(&path).await?;
    let Some(file) = file else { return Ok(call.stop_recording().await?) };
    let opened = open_to_record(&file)?;
    let options = RecordOptions {
        side: args.side.map(|side| side.word().to_owned()),
        format: recording_format(&file).map(str::to_owned),
    };
    Ok(call.start_recording(&opened.into(), &options).await?)
}

/// The call may stand before the file; with --stop there is no file.
fn call_and_file(words: &[String], stop: bool) -> Result<(Option<CallName>, Option<PathBuf>), Failure> {
    let call = |word: &String| word.parse::<CallName>().map_err(Failure::usage);
    match (words, stop) {
        ([], true) => Ok((None, None)),
        ([one], true) => Ok((Some(call(one)?), None)),
        ([file], false) => Ok((None, Some(file.into()))),
        ([one, file], false) => Ok((Some(call(one)?), Some(file.into()))),
        (_, true) => Err(Failure::usage("with --stop, say the call at most.")),
        (_, false) => Err(Failure::usage("say the file, or the call and the file.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_may_be_left_out_and_the_file_may_not() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let named = |text, stop| {
            let (call, file) = call_and_file(&words(text), stop).ok()?;
            Some((call.is_some(), file))
        };
        assert_eq!(named("a.wav", false), Some((false, Some("a.wav".into()))));
        assert_eq!(named("3 a.wav", false), Some((true, Some("a.wav".into()))));
        assert_eq!(named("", true), Some((false, None)));
        assert_eq!(named("3", true), Some((true, None)));
        for (text, stop) in [("", false), ("3 a.wav", true), ("seven a.wav", false), ("1 2 3", false)] {
            assert_eq!(named(text, stop), None, "{text}");
        }
    }
}
