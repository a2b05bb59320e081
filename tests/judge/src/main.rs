//! `judge REFERENCE.wav RECORDING.wav [LEAST-CORRELATION]`: is the one in the other? For shell scripts.

use std::path::Path;
use std::process::ExitCode;

use voipd_judge::{Codec, Sound, compare};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (reference, recording, least) = match arguments.as_slice() {
        [reference, recording] => (reference, recording, Some(0.8)),
        [reference, recording, least] => (reference, recording, least.parse::<f64>().ok()),
        _ => return usage(),
    };
    let Some(least) = least else { return usage() };
    let [reference, recording] = [reference, recording].map(|path| Sound::load(Path::new(path)));
    let verdict = compare(&reference, &recording, Codec::Perceptual);
    println!("{verdict}, level {:.1} dBFS", recording.level());
    if verdict.correlation >= least { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: judge REFERENCE.wav RECORDING.wav [LEAST-CORRELATION, 0.8 if not given]");
    ExitCode::from(2)
}
