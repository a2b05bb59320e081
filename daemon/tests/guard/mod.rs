//! Watches one thread: every call of the C allocator, and every system call that a tick may not make.
//!
//! The allocator's functions are defined here, in the test's binary, where the dynamic linker finds them before the C
//! library's: what C libraries allocate is seen as well as what Rust does. System calls are caught by the kernel.
#![allow(unsafe_code, unreachable_pub)]

pub mod codecs;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

thread_local! {
    // Constant and without a destructor: looking at it calls nothing.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATOR_CALLS: AtomicUsize = AtomicUsize::new(0);
static FORBIDDEN_CALLS: AtomicUsize = AtomicUsize::new(0);
/// Number of the last forbidden system call.
static LAST_FORBIDDEN: AtomicI32 = AtomicI32::new(-1);

/// What the watched threads have done so far that they may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    pub allocator_calls: usize,
    pub forbidden_calls: usize,
    pub last_forbidden: i32,
}

pub fn findings() -> Findings {
    Findings {
        allocator_calls: ALLOCATOR_CALLS.load(Ordering::SeqCst),
        forbidden_calls: FORBIDDEN_CALLS.load(Ordering::SeqCst),
        last_forbidden: LAST_FORBIDDEN.load(Ordering::SeqCst),
    }
}

/// Watches the calling thread's allocations from now on, or no longer.
pub fn watch_allocator(on: bool) {
    WATCHED.with(|watched| watched.set(on));
}

fn note() {
    if WATCHED.with(Cell::get) {
        ALLOCATOR_CALLS.fetch_add(1, Ordering::SeqCst);
    }
}

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(old: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
    fn __libc_free(old: *mut c_void);
}

// SAFETY of all that follow: each hands its arguments to the C library's own function of the same contract.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    note();
    unsafe { __libc_malloc(size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    note();
    unsafe { __libc_calloc(count, size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    note();
    unsafe { __libc_realloc(old, size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(old: *mut c_void) {
    note();
    unsafe { __libc_free(old) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    note();
    unsafe { __libc_memalign(alignment, size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    note();
    unsafe { __libc_memalign(alignment, size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    note();
    let new = unsafe { __libc_memalign(alignment, size) };
    if new.is_null() {
        return libc::ENOMEM;
    }
    unsafe { *place = new };
    0
}

/// Counts forbidden system calls of all threads that [`confine`] themselves.
pub fn catch_forbidden_calls() {
    extern "C" fn caught(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
        // The layout of siginfo for SIGSYS (sigaction(2)): call address, system call, architecture.
        #[repr(C)]
        struct Sys {
            head: [c_int; 4],
            call_address: *const c_void,
            system_call: c_int,
        }
        // SAFETY: the kernel hands a siginfo of SIGSYS, which is larger than what is read of it.
        let system_call = unsafe { (*info.cast::<Sys>()).system_call };
        LAST_FORBIDDEN.store(system_call, Ordering::SeqCst);
        FORBIDDEN_CALLS.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: the handler only touches atomics; a zeroed sigaction is an empty one.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = caught as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()), 0);
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Forbids the calling thread, for ever, all system calls but those of a tick: the sockets', the clock's, a write to
/// one of `wakers`; and, between ticks, a read from `gate`. A futex is forbidden at all times.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn confine(wakers: &[RawFd], gate: RawFd) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Offsets in `struct seccomp_data`; of the first argument, its lower half.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const FIRST_ARGUMENT: u32 = 16;
    let load = |offset| libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: offset };
    let skip_unless = |value: u32, skip| libc::sock_filter { code: EQUAL, jt: 0, jf: skip, k: value };
    let result = |value| libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: value };
    let (allow, trap) = (result(libc::SECCOMP_RET_ALLOW), result(libc::SECCOMP_RET_TRAP));

    let native = libc::sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCHITECTURE };
    let mut filter = vec![load(ARCH), native, trap, load(NUMBER)];
    for call in [
        libc::SYS_recvmmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_clock_nanosleep,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigreturn,
    ] {
        filter.extend([skip_unless(call as u32, 1), allow]);
    }
    for (call, descriptors) in [(libc::SYS_write, wakers), (libc::SYS_read, &[gate])] {
        filter.extend([skip_unless(call as u32, 2 * descriptors.len() as u8 + 2), load(FIRST_ARGUMENT)]);
        filter.extend(descriptors.iter().flat_map(|one| [skip_unless(*one as u32, 1), allow]));
        filter.push(trap);
    }
    filter.push(trap);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the call, which copies it; without new privileges it is allowed to everyone.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
    // Freeing the filter may need a system call.
    std::mem::forget(filter);
}

/// A confined thread cannot end: ending needs system calls. It sleeps until the process does.
pub fn sleep_for_ever() -> ! {
    let hour = libc::timespec { tv_sec: 3600, tv_nsec: 0 };
    loop {
        // SAFETY: `hour` is valid; no remainder is asked for.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &hour, std::ptr::null_mut()) };
    }
}
