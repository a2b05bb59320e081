//! A long cable: two interfaces of the kernel's TAP driver, and a thread that carries each frame from one to the other
//! when its time has come. The machine's kernel may have no netem.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Namespace;

/// Longest frame: an Ethernet header and the usual most.
const FRAME: usize = 14 + 1500;

/// One that is there until it is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    /// Closed to end the thread.
    stop: Option<std::io::PipeWriter>,
    carrier: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins a new interface of one host to a new one of another; each frame takes this long, either way.
    pub(super) fn new(ends: [(&Namespace, &str); 2], delay: Duration) -> Self {
        let [one, other] = ends.map(|(host, interface)| host.inside(|| tap(interface)));
        let (stopped, stop) = std::io::pipe().unwrap();
        let carrier = std::thread::spawn(move || carry([one, other], &stopped, delay));
        Self { stop: Some(stop), carrier: Some(carrier) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.carrier.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "a wire broke");
    }
}

fn carry(mut ends: [File; 2], stopped: &std::io::PipeReader, delay: Duration) {
    // Of the same delay, frames leave in the order in which they came: with the time, the end that they go to.
    let mut under_way: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    loop {
        let wait = under_way.front().map(|(due, ..)| due.saturating_duration_since(Instant::now()));
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut sources = [readable(ends[0].as_fd()), readable(ends[1].as_fd()), readable(stopped.as_fd())];
        ppoll(&mut sources, wait.map(TimeSpec::from), None).unwrap();
        if sources[2].any() == Some(true) {
            return;
        }
        for (from, end) in ends.iter_mut().enumerate() {
            let mut frame = [0; FRAME];
            loop {
                match end.read(&mut frame) {
                    Ok(length) => {
                        under_way.push_back((Instant::now() + delay, 1 - from, frame[..length].to_vec()));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // One of the hosts is gone.
                    Err(_) => return,
                }
            }
        }
        while under_way.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
            let Some((_, to, frame)) = under_way.pop_front() else { break };
            // An interface that is down takes nothing, like one without a cable.
            let _ = ends[to].write(&frame);
        }
    }
}

/// Makes an interface in the thread's network namespace; it is gone when the file is closed.
fn tap(name: &str) -> File {
    let file =
        File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun").unwrap();
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: (libc::IFF_TAP | libc::IFF_NO_PI) as i16 },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open, and the request is a whole `ifreq` that lives through the call (netdevice(7)).
    #[allow(unsafe_code)]
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "no interface {name}: {}", std::io::Error::last_os_error());
    file
}
