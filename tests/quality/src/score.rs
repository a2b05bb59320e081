//! Asks PESQ (ITU-T P.862 and P.862.2, by Python's package `pesq`) how recordings sound.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One recording to be judged.
pub struct Question {
    pub reference: PathBuf,
    pub recording: PathBuf,
    /// In hertz: 8000 asks P.862, 16000 asks P.862.2.
    pub rate: u32,
}

/// Means over the pieces of a recording.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub pesq: f64,
    /// How late sound came, in milliseconds.
    pub delay: f64,
}

/// Answers in the order of the questions. `python`: an interpreter that has the packages.
pub fn score(python: &Path, questions: &[Question]) -> Vec<Score> {
    let mut child = Command::new(python)
        .args(["-c", include_str!("pesq.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let mut stdin = child.stdin.take().unwrap();
    for Question { reference, recording, rate } in questions {
        let mode = if *rate == 8000 { "nb" } else { "wb" };
        writeln!(stdin, "{}\t{}\t{mode}", reference.display(), recording.display()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let scores: Vec<Score> = answers.lines().map(read).collect();
    assert_eq!(scores.len(), questions.len(), "PESQ answered: {answers}");
    scores
}

fn read(line: &str) -> Score {
    let figures: Vec<f64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    let mean = |from: usize| {
        let each = figures.iter().skip(from).step_by(2);
        each.clone().sum::<f64>() / each.count() as f64
    };
    Score { pesq: mean(0), delay: mean(1) }
}
