//! Wake-ups between the real-time thread and the rest of the daemon, both ways, as event descriptors.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use tokio::io::unix::AsyncFd;
use voipd_audio::engine::{MediaSocket, Processor, Waker};

/// A counter in the kernel: a write adds to it, a read takes all of it and waits while there is nothing.
struct EventFd(File);

impl EventFd {
    #[allow(unsafe_code)]
    fn new(blocking: bool) -> io::Result<Self> {
        let flags = libc::EFD_CLOEXEC | if blocking { 0 } else { libc::EFD_NONBLOCK };
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(EventFd(unsafe { File::from_raw_fd(fd) }))
    }

    /// One system call. That the counter is full cannot be, and would be no loss: the reader wakes all the same.
    fn signal(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Takes the counter.
    fn take(&self) -> io::Result<()> {
        let mut count = [0; 8];
        (&self.0).read(&mut count).map(|_| ())
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The engine's way to wake the daemon.
pub struct EngineWaker(Arc<EventFd>);

impl EngineWaker {
    /// Makes the descriptor.
    ///
    /// # Errors
    /// When the process or the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(EngineWaker(Arc::new(EventFd::new(false)?)))
    }

    /// The other end, to be called once. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch another descriptor.
    #[allow(unsafe_code)]
    pub fn signal(&self) -> io::Result<WakeSignal> {
        let event = EventFd(self.0.0.try_clone()?);
        // SAFETY: the event owns its descriptor, gives the same one each time it is asked, and closes it only when it is
        // dropped, which the returned value does behind the registration.
        let registered = unsafe { AsyncFd::register(event) }?;
        Ok(WakeSignal(registered))
    }

    /// The descriptor.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn share(&self) -> Self {
        EngineWaker(self.0.clone())
    }
}

impl Waker for EngineWaker {
    fn wake(&mut self) {
        self.0.signal();
    }
}

/// The tick's way to wake a thread that waits for it.
pub(super) struct BlockingWaker(Arc<EventFd>);

impl BlockingWaker {
    /// Makes the descriptor.
    ///
    /// # Errors
    /// When the process or the system has no descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(BlockingWaker(Arc::new(EventFd::new(true)?)))
    }

    pub(super) fn share(&self) -> Self {
        BlockingWaker(self.0.clone())
    }

    /// Waits until it is woken; a wake before is not lost. An interrupted wait costs one look too many.
    pub(super) fn wait(&self) {
        let _ = self.0.take();
    }
}

impl Waker for BlockingWaker {
    fn wake(&mut self) {
        self.0.signal();
    }
}

/// Tells that the engine has something to tell.
pub struct WakeSignal(AsyncFd<EventFd>);

impl WakeSignal {
    /// Resolves once after one or more wakes. Cancel-safe.
    pub async fn woken(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            if let Ok(Ok(())) = ready.try_io(|event| event.get_ref().take()) {
                return;
            }
        }
    }
}

/// Where the real-time thread rests while nothing wants ticks, and how it is stopped.
pub struct Gate {
    event: EventFd,
    parked: AtomicBool,
    stopped: AtomicBool,
}

impl Gate {
    /// Makes the descriptor.
    ///
    /// # Errors
    /// When the process or the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Gate {
            event: EventFd::new(true)?,
            parked: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        })
    }

    /// The real-time thread rests until somebody opens the gate. A command that came between the last tick and now is
    /// seen: either here, or by [`Gate::open`], which then sees that the thread rests.
    pub(super) fn rest<S: MediaSocket>(&self, processor: &Processor<S>) {
        self.parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !processor.wants_ticks() && !self.is_stopped() {
            // An interrupted or failed wait costs one tick.
            let _ = self.event.take();
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    /// Control side, after commands: the thread goes on, if it rests. Costs a system call only then.
    pub fn open(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.event.signal();
        }
    }

    /// Ends [`super::run_ticks`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.event.signal();
    }

    /// Whether the thread rests.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// The descriptor that the thread waits on.
    pub fn raw(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
