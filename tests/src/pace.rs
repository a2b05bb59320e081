//! Whether the machine keeps pace. Sound in real time is as good as the machine lets it be: a processor that stands still
//! for longer than a jitter buffer is deep, be it for other guests of its host, tears a hole into every call. What fails
//! then says nothing of voipd, and is run again once the machine keeps pace. A witness without priority can be late for
//! voipd's own sake; what voipd does wrong each time fails each time all the same.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

/// How late a thread that only sleeps may wake: less than the least depth of a jitter buffer.
const LATE: Duration = Duration::from_millis(15);
/// How often a test is run at most.
const RUNS: u32 = 3;
/// How long the machine has to keep pace before a test is run again, and how many such stretches are waited for at most:
/// what a machine stands still for (its disk, a neighbour on its host) goes on for a while.
const CALM: Duration = Duration::from_secs(3);
const STRETCHES: u32 = 20;
/// How long witnesses sleep.
const NAP: Duration = Duration::from_millis(4);
/// Priority of the witnesses that have one: above voipd's real-time thread (20), which they must not take for the machine.
const PRIORITY: &str = "50";

thread_local! {
    /// The run of a test that is this thread's.
    static THIS: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// One run of a test.
struct Run {
    again: bool,
    /// How late its latest witness was, in microseconds.
    latest: Arc<AtomicU64>,
}

/// What was until now does not count: the test waited for its turn, and others worked. A test that is run again and has
/// the machine to itself waits until the machine keeps pace.
pub(crate) fn begin(alone: bool) {
    THIS.with_borrow(|run| {
        let Some(Run { again, latest }) = run else { return };
        latest.store(0, Ordering::Relaxed);
        if *again && alone {
            wait_for_calm(|| {
                std::thread::sleep(CALM);
                Duration::from_micros(latest.swap(0, Ordering::Relaxed))
            });
        }
    });
}

/// Lets one stretch after the other pass, each of which says how late the machine was in it, until it kept pace in one.
fn wait_for_calm(mut stretch: impl FnMut() -> Duration) {
    let _ = (0..STRETCHES).find(|_| stretch() <= LATE);
}

/// Runs a test, or a part of one, in a runtime of its own, and again where it fails while the machine was late.
pub fn run<F: Future>(name: &str, test: impl Fn() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut run = 1;
    loop {
        let witnesses = Witnesses::begin();
        THIS.set(Some(Run { again: run > 1, latest: Arc::clone(&witnesses.latest) }));
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test())));
        let latest = witnesses.end();
        match outcome {
            Ok(outcome) => return outcome,
            Err(failure) if run < RUNS && latest > LATE => {
                let said = failure.downcast_ref::<String>().map(String::as_str);
                let said = said.or_else(|| failure.downcast_ref::<&str>().copied()).unwrap_or_default();
                // Past the harness, which shows nothing of what ends well.
                let line = format!(
                    "{name}: run again, for the machine stood still for {latest:?}; it failed with: {said}\n"
                );
                drop(std::io::stderr().write_all(line.as_bytes()));
                run += 1;
            }
            Err(failure) => {
                eprintln!("The machine was late by {latest:?} at most.");
                resume_unwind(failure);
            }
        }
    }
}

/// Threads that only sleep, two on each processor: one with a priority like that of voipd's sound, one with none like
/// most peers.
struct Witnesses {
    threads: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    latest: Arc<AtomicU64>,
}

impl Witnesses {
    fn begin() -> Self {
        let (done, latest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..processors).flat_map(|processor| [false, true].map(|urgent| (processor, urgent)));
        let threads = threads.map(|(processor, urgent)| {
            let (done, latest) = (Arc::clone(&done), Arc::clone(&latest));
            std::thread::spawn(move || {
                settle(processor, urgent);
                while !done.load(Ordering::Relaxed) {
                    let due = Instant::now() + NAP;
                    std::thread::sleep(NAP);
                    let late = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                    latest.fetch_max(late, Ordering::Relaxed);
                }
            })
        });
        Self { threads: threads.collect(), done, latest }
    }

    /// How late the latest of them was.
    fn end(self) -> Duration {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Duration::from_micros(self.latest.load(Ordering::Relaxed))
    }
}

/// Binds the calling thread to a processor, and takes a real-time priority where it may (sched(7)).
fn settle(processor: usize, urgent: bool) {
    let mut only = CpuSet::new();
    // A processor that is not ours to use is watched by whichever thread gets there.
    let _ = only.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &only));
    if urgent {
        let thread = gettid().to_string();
        let mut chrt = Command::new("chrt");
        // Who may not have it goes without.
        drop(chrt.args(["--fifo", "--pid", PRIORITY, &thread]).stderr(Stdio::null()).status());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "wrong")]
    fn what_fails_each_time_fails() {
        run("wrong", async || panic!("wrong"));
    }

    #[test]
    fn what_fails_while_everything_stands_still_is_run_again() {
        let runs = AtomicU64::new(0);
        run("stopped", async || {
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                // This whole program stands still, and its witnesses with it.
                let script = "kill -STOP $PPID; sleep 0.06; kill -CONT $PPID";
                Command::new("sh").args(["-c", script]).status().unwrap();
                panic!("stopped");
            }
        });
        assert_eq!(runs.into_inner(), 2);
    }

    #[test]
    fn what_was_before_the_turn_of_a_test_excuses_nothing() {
        let latest = Arc::new(AtomicU64::new(60_000));
        THIS.set(Some(Run { again: false, latest: Arc::clone(&latest) }));
        drop(crate::Lab::shared());
        assert_eq!(latest.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_run_again_waits_until_the_machine_keeps_pace() {
        let mut stretches = [60, 16, 15, 60].map(Duration::from_millis).into_iter();
        wait_for_calm(|| stretches.next().unwrap());
        assert_eq!(stretches.len(), 1);
    }

    #[test]
    fn a_machine_that_never_keeps_pace_is_not_waited_for_without_end() {
        let mut stretches = 0;
        wait_for_calm(|| {
            stretches += 1;
            2 * LATE
        });
        assert_eq!(stretches, STRETCHES);
    }

    #[test]
    fn only_what_is_run_again_and_alone_waits_for_calm() {
        for (again, alone, waits) in
            [(false, false, false), (false, true, false), (true, false, false), (true, true, true)]
        {
            THIS.set(Some(Run { again, latest: Arc::default() }));
            let begun = Instant::now();
            begin(alone);
            assert_eq!(begun.elapsed() >= CALM, waits, "again {again}, alone {alone}");
        }
    }
}
