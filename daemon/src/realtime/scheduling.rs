//! How the system schedules the real-time thread, and whether its memory stays in RAM.

use std::io;

/// Which scheduling the thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// SCHED_FIFO, which the process was allowed to take.
    Fifo,
    /// Real-time scheduling that rtkit granted.
    Rtkit,
    /// None of its own: ticks come late when the machine is busy.
    Other,
}

impl Policy {
    /// `fifo`, `rtkit` or `other`.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Fifo => "fifo",
            Policy::Rtkit => "rtkit",
            Policy::Other => "other",
        }
    }
}

/// The scheduling in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// Which.
    pub policy: Policy,
    /// 1 to 99; 0 without real-time scheduling.
    pub priority: i32,
    /// Why it is no better, and what to do; empty where nothing is to be wished for.
    pub reason: String,
    /// Memory once touched stays in RAM.
    pub memory_locked: bool,
}

/// Asks for SCHED_FIFO at `wanted`, or as much of it as the limit allows, for the calling thread. Threads that it might
/// start do not inherit it. Answers the priority, or why there is none.
pub(super) fn become_fifo(wanted: i32) -> Result<i32, String> {
    let first = match set_fifo(wanted) {
        Ok(()) => return Ok(wanted),
        Err(error) => error,
    };
    let limit = limit(libc::RLIMIT_RTPRIO).map_or(0, |limit| i32::try_from(limit).unwrap_or(wanted));
    if (1..wanted).contains(&limit) && set_fifo(limit).is_ok() {
        return Ok(limit);
    }
    Err(format!(
        "SCHED_FIFO was refused ({first}; the limit RLIMIT_RTPRIO is {limit}): install rtkit, or allow it with \
         LimitRTPRIO={wanted} in the unit, for a session service in that of user@.service"
    ))
}

/// Asks for SCHED_FIFO at `priority` for the calling thread and all that it starts from now on. A refusal leaves things
/// as they are: whether real-time scheduling is to be had is told for the thread that ticks.
pub(super) fn become_fifo_with_children(priority: i32) {
    let _ = set_scheduler(libc::SCHED_FIFO, priority);
}

fn set_fifo(priority: i32) -> io::Result<()> {
    set_scheduler(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, priority)
}

#[allow(unsafe_code)]
fn set_scheduler(policy: libc::c_int, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` is valid and not kept; 0 means the calling thread.
    check(unsafe { libc::sched_setscheduler(0, policy, &parameters) })
}

/// Makes the calling thread's timers exact where it stays without real-time scheduling: by default they may be 50 µs
/// late, to be served together with others.
#[allow(unsafe_code)]
pub(super) fn sharpen_timers() {
    // SAFETY: this option takes a number and no pointer. A refusal leaves things as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong) };
}

/// What rtkit demands of a thread before it grants anything: SCHED_RESET_ON_FORK, so that the grant cannot be passed on,
/// and a limit on the time that the process may run without sleeping, after which the kernel stops it.
#[allow(unsafe_code)]
pub(super) fn prepare_for_rtkit(thread: libc::pid_t, longest_run_us: u64) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is valid and not kept.
    check(unsafe {
        libc::sched_setscheduler(thread, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, &parameters)
    })?;
    let longest = longest_run_us as libc::rlim_t;
    let limit = libc::rlimit { rlim_cur: longest, rlim_max: longest };
    // SAFETY: `limit` is valid and not kept.
    check(unsafe { libc::setrlimit(libc::RLIMIT_RTTIME, &limit) })
}

/// The real-time priority that a thread has now, if it has one.
#[allow(unsafe_code)]
pub(super) fn priority_of(thread: libc::pid_t) -> Option<i32> {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is a valid place for the call to write to.
    check(unsafe { libc::sched_getparam(thread, &mut parameters) }).ok()?;
    (parameters.sched_priority > 0).then_some(parameters.sched_priority)
}

/// The calling thread's number in the system.
#[allow(unsafe_code)]
pub(super) fn thread_id() -> libc::pid_t {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Keeps what is touched in RAM. Only where there is no limit on it: with one, every later allocation of the whole
/// daemon could fail for it.
#[allow(unsafe_code)]
pub(super) fn lock_memory() -> Result<(), String> {
    if limit(libc::RLIMIT_MEMLOCK).is_some() && !has_capability(CAP_IPC_LOCK) {
        let words = "memory is not locked: allow it with LimitMEMLOCK=infinity in the unit, for a session service in \
                     that of user@.service";
        return Err(words.to_owned());
    }
    // SAFETY: takes flags only.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) })
        .map_err(|error| format!("memory is not locked: {error}"))
}

const CAP_IPC_LOCK: u32 = 14;

/// Whether the process has a capability (capabilities(7)) in effect.
fn has_capability(capability: u32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .is_some_and(|effective| effective >> capability & 1 == 1)
}

/// A resource limit in force; `None` where there is none.
#[allow(unsafe_code)]
#[allow(clippy::unnecessary_cast)] // Narrower where the system has 32 bits.
fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the call to write to.
    check(unsafe { libc::getrlimit(resource, &mut limit) }).ok()?;
    (limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as u64)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
