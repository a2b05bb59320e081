//! How speech sounds behind a bad network. `make quality` runs it; docs/quality.md holds method and figures.
//!
//! `quality DIRECTORY PYTHON [SEEDS] [CELL[/CHANNEL]...]` renders into DIRECTORY, scores with PYTHON's `pesq`.

mod call;
mod channel;
mod corpus;
mod reference;
mod score;
mod wav;
#[path = "../../../daemon/audio/tests/world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use call::{CELLS, Cell, call};
use channel::{CHANNELS, Channel};
use corpus::{VOICES, resampled};
use score::{Question, Score, score};
use voipd_audio::Codec;

/// What is rendered for a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Alone,
    PlainFec(Channel),
    Call(Channel),
}

struct Job {
    cell: Cell,
    kind: Kind,
    voice: usize,
    seed: u64,
}

struct Done {
    wire: f64,
    concealed: f64,
    score: Score,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let python = PathBuf::from(arguments.next().expect("a Python"));
    let seeds: u64 = arguments.next().map_or(3, |seeds| seeds.parse().expect("a number of seeds"));
    let wanted: Vec<String> = arguments.collect();
    std::fs::create_dir_all(&directory).unwrap();
    let voices: Vec<Vec<f32>> = VOICES.iter().map(|voice| voice.speech(&directory)).collect();
    for rate in [8000, 16_000] {
        for (number, voice) in voices.iter().enumerate() {
            wav::save(&spoken(&directory, number, rate), rate, &resampled(voice, corpus::RATE, rate));
        }
    }
    let jobs = jobs(seeds, |cell, channel| {
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                let (cells, channels) = wanted.split_once('/').unwrap_or((wanted, ""));
                cell.name.starts_with(cells) && channel.is_none_or(|channel| channel.name.starts_with(channels))
            })
    });
    let results = run(&directory, &python, &voices, &jobs);
    for cell in CELLS {
        for kind in kinds(cell) {
            let of: Vec<(&Job, &Done)> =
                jobs.iter().zip(&results).filter(|(job, _)| job.cell == cell && job.kind == kind).collect();
            if of.is_empty() {
                continue;
            }
            let mean = |of: &[(&Job, &Done)], figure: &dyn Fn(&Done) -> f64| {
                of.iter().map(|(_, done)| figure(done)).sum::<f64>() / of.len() as f64
            };
            let name = match kind {
                Kind::Alone => "codec alone".to_owned(),
                Kind::PlainFec(channel) => format!("libopus, plain FEC: {}", channel.name),
                Kind::Call(channel) => channel.name.to_owned(),
            };
            print!(
                "{:<16} {name:<40} {:.3}  {:6.1} kbit/s  {:6.1} ms  {:4.1} %  ",
                cell.name,
                mean(&of, &|done| done.score.pesq),
                mean(&of, &|done| done.wire) / 1000.0,
                mean(&of, &|done| done.score.delay),
                mean(&of, &|done| done.concealed) * 100.0,
            );
            for voice in 0..VOICES.len() {
                let own: Vec<(&Job, &Done)> = of.iter().copied().filter(|(job, _)| job.voice == voice).collect();
                print!(" {:.2}", mean(&own, &|done| done.score.pesq));
            }
            println!();
        }
    }
}

fn spoken(directory: &Path, voice: usize, rate: u32) -> PathBuf {
    directory.join(format!("voice-{voice}-{rate}.wav"))
}

fn kinds(cell: Cell) -> Vec<Kind> {
    let mut kinds = vec![Kind::Alone];
    if cell.codec == Codec::Opus {
        kinds.extend(CHANNELS.map(Kind::PlainFec));
    }
    kinds.extend(CHANNELS.map(Kind::Call));
    kinds
}

fn jobs(seeds: u64, wanted: impl Fn(Cell, Option<Channel>) -> bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for cell in CELLS {
        for kind in kinds(cell) {
            let channel = match kind {
                Kind::Alone => None,
                Kind::PlainFec(channel) | Kind::Call(channel) => Some(channel),
            };
            if !wanted(cell, channel) {
                continue;
            }
            let chance = channel.is_some_and(|channel| channel.loss > 0 || channel.jitter > 0);
            for voice in 0..VOICES.len() {
                for seed in 1..=if chance { seeds } else { 1 } {
                    jobs.push(Job { cell, kind, voice, seed });
                }
            }
        }
    }
    jobs
}

/// Renders with as many threads as there are processors, then scores.
fn run(directory: &Path, python: &Path, voices: &[Vec<f32>], jobs: &[Job]) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let rendered: Vec<Mutex<(f64, f64)>> = jobs.iter().map(|_| Mutex::default()).collect();
    let file = |number: usize| directory.join(format!("heard-{number}.wav"));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(Job { cell, kind, voice, seed }) = jobs.get(number) else { break };
                    let speech = resampled(&voices[*voice], corpus::RATE, cell.rate);
                    // Each voice meets other weather.
                    let seed = seed * 1000 + *voice as u64;
                    let (samples, wire, concealed) = match kind {
                        Kind::Alone => (reference::codec_alone(*cell, &speech), 0.0, 0.0),
                        Kind::PlainFec(channel) => {
                            (reference::plain_fec(*cell, *channel, seed, &speech), 0.0, 0.0)
                        }
                        Kind::Call(channel) => {
                            let heard = call(*cell, *channel, seed, &speech);
                            let figures = heard.counters;
                            let all = figures.frames_concealed + figures.frames_played;
                            (heard.samples, heard.wire, figures.frames_concealed as f64 / all as f64)
                        }
                    };
                    wav::save(&file(number), cell.rate, &samples);
                    *rendered[number].lock().unwrap() = (wire, concealed);
                }
            });
        }
    });
    let question = |(number, job): (usize, &Job)| Question {
        reference: spoken(directory, job.voice, job.cell.rate),
        recording: file(number),
        rate: job.cell.rate,
    };
    let questions: Vec<Question> = jobs.iter().enumerate().map(question).collect();
    let scores = score(python, &questions);
    let done = |(score, rendered): (Score, Mutex<(f64, f64)>)| {
        let (wire, concealed) = rendered.into_inner().unwrap();
        Done { wire, concealed, score }
    };
    scores.into_iter().zip(rendered).map(done).collect()
}
