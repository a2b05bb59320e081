//! Spoken sentences to send, made once and kept in the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// About three seconds.
    Alice,
    /// About three seconds, another voice with other words.
    Bob,
}

/// The directory of the built programs: `target/debug` or `target/release`.
pub fn programs() -> PathBuf {
    // A test lies in its `deps`, a program in itself.
    let executable = std::env::current_exe().unwrap();
    let directory = executable.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap().to_owned() } else { directory.to_owned() }
}

/// A WAV file (mono, 16 bit) of a sentence, with half a second of silence around it.
pub fn speech(speaker: Speaker, rate: u32) -> PathBuf {
    let (voice, words) = match speaker {
        Speaker::Alice => ("en-gb+f3", "The quick brown fox jumps over the lazy dog, nine times today."),
        Speaker::Bob => ("en-us+m3", "Seven wizards were brewing a purple potion under the old bridge."),
    };
    make(&format!("{speaker:?}-{rate}.wav").to_lowercase(), |raw, file| {
        run(Command::new("espeak-ng").args(["-v", voice, "-s", "175", "-w"]).arg(raw).arg(words));
        let shape = ["-c", "1", "-b", "16", "-r", &rate.to_string()];
        run(Command::new("sox")
            .arg("-R")
            .arg(raw)
            .args(shape)
            .arg(file)
            .args(["gain", "-n", "-6", "pad", "0.5", "0.5"]));
    })
}

/// A sentence and then silence, so that a peer that ends the call at the end of its file does not end it too early.
pub fn speech_then_silence(speaker: Speaker, rate: u32, channels: u32) -> PathBuf {
    make(&format!("{speaker:?}-{rate}-{channels}-padded.wav").to_lowercase(), |_, file| {
        let shape = ["-c", &channels.to_string()];
        run(Command::new("sox").arg(speech(speaker, rate)).args(shape).arg(file).args(["pad", "0", "60"]));
    })
}

/// Silence of so many seconds, and then a sentence.
pub fn speech_after(speaker: Speaker, rate: u32, seconds: f64) -> PathBuf {
    make(&format!("{speaker:?}-{rate}-after-{seconds}.wav").to_lowercase(), |_, file| {
        run(Command::new("sox").arg(speech(speaker, rate)).arg(file).args([
            "pad",
            &seconds.to_string(),
            "0",
        ]));
    })
}

/// A sentence in PCMU without a header, as SIPp speaks it.
pub fn raw(speaker: Speaker) -> PathBuf {
    make(&format!("{speaker:?}.ulaw").to_lowercase(), |_, file| {
        run(Command::new("sox").arg(speech(speaker, 8000)).args(["-t", "ul"]).arg(file));
    })
}

fn make(name: &str, write: impl FnOnce(&Path, &Path)) -> PathBuf {
    let directory = programs().with_file_name("voipd-tests");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join(name);
    if !file.exists() {
        // Several tests may make it at once: each its own, the last one stays.
        let scratch = tempfile::tempdir_in(&directory).unwrap();
        let (raw, made) = (scratch.path().join("raw.wav"), scratch.path().join("made.wav"));
        write(&raw, &made);
        fs::rename(&made, &file).unwrap();
    }
    file
}
