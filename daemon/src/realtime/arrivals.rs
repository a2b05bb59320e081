//! At which sockets datagrams wait: one question to the system a tick, in place of one to each socket.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Sockets that one question tells of.
const SOME: usize = 64;

/// What the system tells of sockets. Those beyond its room are not told of: they are read in each tick.
pub struct Arrivals {
    epoll: Epoll,
    /// Whether something waits there, by the numbers of [`Told`].
    waiting: Box<[AtomicBool]>,
    /// Numbers that no socket has. The real-time thread does not touch them.
    free: Mutex<Vec<usize>>,
}

/// A socket's place among those that are told of. To be given up before the socket is closed.
pub(super) struct Told {
    arrivals: Arc<Arrivals>,
    number: usize,
}

impl Arrivals {
    /// With room for `most` sockets.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(most: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            waiting: (0..most).map(|_| AtomicBool::new(false)).collect(),
            free: Mutex::new((0..most).collect()),
        }))
    }

    /// Asks the system, at the beginning of a tick.
    pub(super) fn look(&self) {
        let mut events = [EpollEvent::empty(); SOME];
        // Who was told of comes last the next time, so that each has its turn.
        for _ in 0..=self.waiting.len() / SOME {
            let found = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for event in events.iter().take(found) {
                if let Some(waiting) = self.waiting.get(event.data() as usize) {
                    waiting.store(true, Ordering::Relaxed);
                }
            }
            if found < SOME {
                break;
            }
        }
    }

    /// Tells of a socket from now on; `None` where there is no room.
    pub(super) fn tell_of(self: &Arc<Self>, socket: impl AsFd) -> Option<Told> {
        let number = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        let told = Told { arrivals: self.clone(), number };
        // What waits already is found by the first look, too.
        self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64)).ok()?;
        Some(told)
    }
}

impl Told {
    /// Whether something waits at the socket, by the last look.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting().is_some_and(|waiting| waiting.load(Ordering::Relaxed))
    }

    /// Nothing waits there any more.
    pub(super) fn emptied(&self) {
        if let Some(waiting) = self.waiting() {
            waiting.store(false, Ordering::Relaxed);
        }
    }

    /// Tells of the socket no longer, which others may hold on to.
    pub(super) fn forget(&self, socket: impl AsFd) {
        // The system knows it, or nothing is told of it.
        let _ = self.arrivals.epoll.delete(socket);
    }

    fn waiting(&self) -> Option<&AtomicBool> {
        self.arrivals.waiting.get(self.number)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.emptied();
        self.arrivals.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}
