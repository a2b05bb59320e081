//! How speech sounds behind a bad network. `make quality` runs it; docs/quality.md holds method and figures.
//!
//! `quality DIRECTORY PYTHON SEEDS [PAGE | CELL[/NETWORK]...]` renders into DIRECTORY and scores with PYTHON's `pesq`. The
//! tables of a whole run go into PAGE; parts of it are only printed. Ends with 1 where a figure is missed.

mod call;
mod channel;
mod corpus;
mod figures;
mod reference;
mod report;
mod reports;
mod score;
mod wav;
#[path = "../../../daemon/audio/tests/world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use call::{CELLS, Cell, Heard, OTHERS, call};
use channel::{CHANNELS, Channel};
use corpus::{VOICES, WARM_UP, resampled, with_warm_up};
use figures::{figures, list};
use report::{Row, by_voice, table, write_into};
use score::{Question, Score, score};
use voipd_audio::Codec;

/// What is rendered for a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Alone,
    PlainFec(Channel),
    Call(Channel),
}

/// One rendering.
struct Job {
    cell: Cell,
    kind: Kind,
    voice: usize,
    seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
struct Done {
    wire: f64,
    concealed: f64,
    stretched: f64,
    ptime_ms: f64,
    score: Score,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().unwrap_or_else(|| panic!("quality: {what} is missing"));
    let (directory, python) = (PathBuf::from(next("DIRECTORY")), PathBuf::from(next("PYTHON")));
    let seeds = next("SEEDS").parse().expect("a number of seeds");
    let mut wanted: Vec<String> = arguments.collect();
    let page = wanted.pop_if(|last| last.ends_with(".md"));
    std::fs::create_dir_all(&directory).unwrap();
    let voices: Vec<Vec<f32>> = VOICES.iter().map(|voice| voice.speech(&directory)).collect();
    for rate in [8000, 16_000] {
        for (number, voice) in voices.iter().enumerate() {
            wav::save(&spoken(&directory, number, rate), rate, &resampled(voice, corpus::RATE, rate));
        }
    }
    let is_wanted = |cell: Cell, channel: Option<Channel>| {
        let fits = |wanted: &String| {
            let (cells, channels) = wanted.split_once('/').unwrap_or((wanted, ""));
            cell.name.starts_with(cells) && channel.is_none_or(|channel| channel.name.starts_with(channels))
        };
        wanted.is_empty() || wanted.iter().any(fits)
    };
    let jobs = jobs(seeds, is_wanted);
    let results = run(&directory, &python, &voices, &jobs);
    let (main, others) = (rows(&CELLS, &jobs, &results), rows(&OTHERS, &jobs, &results));
    let found = figures(&main);
    let tables = format!(
        "{}\n{}\nThe same by voice:\n\n{}\nOther codecs, one seed:\n\n{}",
        list(&found),
        table(&main),
        by_voice(&main),
        table(&others)
    );
    println!("{tables}");
    if let Some(page) = page {
        write_into(Path::new(&page), &tables);
    }
    let missed = found.iter().filter(|figure| !figure.is_met()).count();
    println!("{} figures, {missed} missed", found.len());
    ExitCode::from(u8::from(missed > 0))
}

fn spoken(directory: &Path, voice: usize, rate: u32) -> PathBuf {
    directory.join(format!("voice-{voice}-{rate}.wav"))
}

fn jobs(seeds: u64, wanted: impl Fn(Cell, Option<Channel>) -> bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for cell in CELLS.into_iter().chain(OTHERS) {
        let other = OTHERS.contains(&cell);
        let mut kinds = vec![Kind::Alone];
        if cell.codec == Codec::Opus {
            kinds.extend(CHANNELS.into_iter().filter(|channel| channel.loss > 0).map(Kind::PlainFec));
        }
        let random = |channel: &Channel| channel.loss > 0 && channel.burst == 1;
        kinds.extend(CHANNELS.into_iter().filter(|channel| !other || random(channel)).map(Kind::Call));
        let seeds = if other { 1 } else { seeds };
        for kind in kinds {
            let channel = match kind {
                Kind::Alone => None,
                Kind::PlainFec(channel) | Kind::Call(channel) => Some(channel),
            };
            if !wanted(cell, channel) {
                continue;
            }
            let chance = channel.is_some_and(|channel| channel.loss > 0 || channel.jitter > 0);
            for voice in 0..VOICES.len() {
                jobs.extend((1..=if chance { seeds } else { 1 }).map(|seed| Job { cell, kind, voice, seed }));
            }
        }
    }
    jobs
}

fn rows(cells: &[Cell], jobs: &[Job], results: &[Done]) -> Vec<Row> {
    let of = |cell: Cell, kind: Kind, voice: Option<usize>| -> Vec<Done> {
        let fits =
            |job: &Job| job.cell == cell && job.kind == kind && voice.is_none_or(|voice| job.voice == voice);
        jobs.iter().zip(results).filter(|(job, _)| fits(job)).map(|(_, done)| *done).collect()
    };
    let mean = |of: &[Done], figure: fn(&Done) -> f64| of.iter().map(figure).sum::<f64>() / of.len() as f64;
    let mut rows = Vec::new();
    for &cell in cells {
        for channel in CHANNELS {
            let heard = of(cell, Kind::Call(channel), None);
            if heard.is_empty() {
                continue;
            }
            let alone = of(cell, Kind::Alone, None);
            let fec = of(cell, Kind::PlainFec(channel), None);
            let voice = |voice| mean(&of(cell, Kind::Call(channel), Some(voice)), |done| done.score.pesq);
            rows.push(Row {
                cell,
                channel,
                pesq: mean(&heard, |done| done.score.pesq),
                voices: (0..VOICES.len()).map(voice).collect(),
                alone: mean(&alone, |done| done.score.pesq),
                plain_fec: (!fec.is_empty()).then(|| mean(&fec, |done| done.score.pesq)),
                wire: mean(&heard, |done| done.wire),
                delay: mean(&heard, |done| done.score.delay),
                alone_delay: mean(&alone, |done| done.score.delay),
                concealed: mean(&heard, |done| done.concealed),
                stretched: mean(&heard, |done| done.stretched),
                ptime_ms: mean(&heard, |done| done.ptime_ms),
            });
        }
    }
    rows
}

/// Renders with as many threads as there are processors, then scores.
fn run(directory: &Path, python: &Path, voices: &[Vec<f32>], jobs: &[Job]) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let rendered: Vec<Mutex<Done>> = jobs.iter().map(|_| Mutex::default()).collect();
    let file = |number: usize| directory.join(format!("heard-{number}.wav"));
    let work = || {
        while let number = next.fetch_add(1, Ordering::Relaxed)
            && let Some(job) = jobs.get(number)
        {
            let speech = resampled(&with_warm_up(&voices[job.voice]), corpus::RATE, job.cell.rate);
            let (samples, done) = render(job, &speech);
            wav::save(&file(number), job.cell.rate, &samples);
            *rendered[number].lock().unwrap() = done;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let question = |(number, job): (usize, &Job)| Question {
        reference: spoken(directory, job.voice, job.cell.rate),
        recording: file(number),
        rate: job.cell.rate,
    };
    let questions: Vec<Question> = jobs.iter().enumerate().map(question).collect();
    let scores = score(python, &questions);
    let done = |(score, rendered): (Score, Mutex<Done>)| Done { score, ..rendered.into_inner().unwrap() };
    scores.into_iter().zip(rendered).map(done).collect()
}

fn render(job: &Job, speech: &[f32]) -> (Vec<f32>, Done) {
    // Each voice meets other weather.
    let seed = job.seed * 1000 + job.voice as u64;
    let heard = match job.kind {
        Kind::Alone => reference::codec_alone(job.cell, speech),
        Kind::PlainFec(channel) => reference::plain_fec(job.cell, channel, seed, speech),
        Kind::Call(channel) => {
            let heard = call(job.cell, channel, seed, speech);
            let Heard { samples, wire, concealed, stretched, ptime_ms } = heard;
            return (samples, Done { wire, concealed, stretched, ptime_ms, score: Score::default() });
        }
    };
    (heard[WARM_UP * job.cell.rate as usize..].to_vec(), Done::default())
}
