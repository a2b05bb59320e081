//! What a program costs while it works: processor time and memory, as the kernel counts them.

use std::fs;
use std::time::{Duration, Instant};

use crate::pause;

/// What a process cost over a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Share of one processor core, in percent.
    pub cpu_percent: f64,
    /// Memory in MB, that which is shared with other processes by halves, thirds and so on.
    pub pss_mb: f64,
    /// Memory in MB, that which is shared counted as the process's own.
    pub rss_mb: f64,
}

impl Cost {
    /// Watches a process.
    pub async fn of(process: u32, time: Duration) -> Self {
        let (start, before) = (Instant::now(), processor_seconds(process));
        pause(time.as_secs_f64()).await;
        let used = processor_seconds(process) - before;
        Self {
            cpu_percent: 100.0 * used / start.elapsed().as_secs_f64(),
            pss_mb: memory_mb(process, "Pss:"),
            rss_mb: memory_mb(process, "Rss:"),
        }
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Open files and sockets.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

impl Holdings {
    /// What a process holds now.
    pub fn of(process: u32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{process}/{what}")).unwrap().count();
        Self { files: count("fd"), threads: count("task") }
    }
}

/// Processor time that a process has used so far, in user and in system mode.
fn processor_seconds(process: u32) -> f64 {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, which may hold anything, stands in parentheses: what follows it is numbers (proc(5)).
    let (_, numbers) = line.rsplit_once(')').unwrap();
    let ticks: Vec<u64> =
        numbers.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    // USER_HZ is 100 on every architecture that voipd runs on.
    ticks.iter().sum::<u64>() as f64 / 100.0
}

fn memory_mb(process: u32, what: &str) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
