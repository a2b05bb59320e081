//! A program that has nothing to do but the packets of a telephone's calls: what the system takes for them at least.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use crate::grid::{nanos, take_priority};
use crate::host::{Wire, inside};

/// Nanoseconds from one look to the next, as a telephone's audio thread has them.
const TICK: i64 = 10_000_000;
/// As long as a packet of PCMU.
const LENGTH: usize = 172;

/// A thread on the far host of a wire with a socket for each call. Every 20 ms it sends a packet from each, and 10 ms later it
/// takes what has come back to each.
#[derive(Debug)]
pub struct Bare(JoinHandle<(Duration, u64)>, JoinHandle<()>);

impl Bare {
    /// Starts it for so long.
    pub fn start(wire: &Wire, calls: u32, time: Duration) -> Self {
        let far_end = UdpSocket::bind((wire.here, 0)).unwrap();
        far_end.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let to = far_end.local_addr().unwrap();
        let sockets: Vec<UdpSocket> =
            inside(wire.name(), || (0..calls).map(|_| UdpSocket::bind((wire.there, 0)).unwrap()).collect());
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        let ticks = time.as_nanos() as i64 / TICK;
        let bare = std::thread::spawn(move || {
            take_priority();
            let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
            let before = used();
            let mut due = nanos(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
            let (mut packet, mut back) = ([0; LENGTH], 0);
            for tick in 0..ticks {
                due += TICK;
                let until = TimeSpec::new(due / 1_000_000_000, due % 1_000_000_000);
                let absolute = ClockNanosleepFlags::TIMER_ABSTIME;
                while clock_nanosleep(ClockId::CLOCK_MONOTONIC, absolute, &until).is_err() {}
                for socket in &sockets {
                    if tick % 2 == 0 {
                        socket.send_to(&packet, to).unwrap();
                    } else {
                        match socket.recv_from(&mut packet) {
                            Ok(_) => back += 1,
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            }
            (used() - before, back)
        });
        let peer = std::thread::spawn(move || {
            let (end, mut bytes) = (Instant::now() + time, [0; 1500]);
            while Instant::now() < end {
                // Nothing came for a while.
                let Ok((length, from)) = far_end.recv_from(&mut bytes) else { continue };
                let _ = far_end.send_to(&bytes[..length], from);
            }
        });
        Self(bare, peer)
    }

    /// When it is done: the processor time that it took, and how many packets came back.
    pub fn used(self) -> (Duration, u64) {
        self.1.join().unwrap();
        self.0.join().unwrap()
    }
}
