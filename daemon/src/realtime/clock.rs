//! The 10 ms clock: runs a processor's ticks at absolute times, late or not.

use voipd_audio::engine::{MediaSocket, Processor};
use voipd_audio::{HEAD_START_NANOS, TICK_NANOS};

use super::Gate;

/// Behind by more than this, ticks are left out instead of being caught up with: a machine that was suspended must not
/// send a burst of old sound.
const MOST_BEHIND: u64 = 5 * TICK_NANOS;

/// Runs ticks until the gate stops them. Within a tick there are no system calls but those of the sockets, of the
/// waker and of the clock.
pub fn run_ticks<S: MediaSocket>(processor: &mut Processor<S>, gate: &Gate) {
    let mut due = monotonic_nanos();
    let mut ended = due;
    while !gate.is_stopped() {
        // Where it is behind, each tick is served by itself.
        let ticks = if due > ended && processor.can_wait() { 2 } else { 1 };
        due += (ticks - 1) * TICK_NANOS;
        if processor.wants_head_start() {
            sleep_until(due.saturating_sub(HEAD_START_NANOS));
            processor.record_ahead();
        }
        sleep_until(due);
        let now = monotonic_nanos();
        let late = now.saturating_sub(due);
        if late > MOST_BEHIND {
            due += late / TICK_NANOS * TICK_NANOS;
        }
        let late = now.saturating_sub(due);
        let wanted = if ticks == 2 { processor.two_ticks(now, late) } else { processor.tick(now, late) };
        ended = monotonic_nanos();
        (0..ticks).for_each(|_| processor.tick_took(ended.saturating_sub(now) / ticks));
        due += TICK_NANOS;
        if !wanted {
            gate.rest(processor);
            due = monotonic_nanos();
        }
    }
}

/// Now, on the clock that no one sets.
#[allow(unsafe_code)]
pub fn monotonic_nanos() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// A clock's time in nanoseconds.
#[allow(unsafe_code)]
pub(crate) fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the call to write to.
    unsafe { libc::clock_gettime(clock, &mut time) };
    nanos(time)
}

/// A time in nanoseconds.
pub(super) fn nanos(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[allow(unsafe_code)]
fn sleep_until(due: u64) {
    let time = libc::timespec { tv_sec: (due / 1_000_000_000) as _, tv_nsec: (due % 1_000_000_000) as _ };
    // SAFETY: `time` is valid and the call does not keep it; an absolute sleep has no remainder to write.
    let sleep = || unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &time, std::ptr::null_mut())
    };
    while sleep() == libc::EINTR {}
}
