//! When packets leave: by the kernel's time at which each is on the wire, against a grid of 20 ms, and beside the packets of
//! a thread that does nothing but sleep and send.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use crate::host::{Wire, inside};
use crate::process::run;

/// Nanoseconds between two packets.
const GRID: i64 = 20_000_000;
/// As long as a packet of PCMU.
const LENGTH: usize = 172;
/// Priority of voipd's real-time thread.
const PRIORITY: &str = "20";

/// One packet: whose it is, which, and when the kernel got it, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    stream: u32,
    sequence: u16,
    at: i64,
}

/// How many milliseconds each packet left behind its grid, which the earliest packet of its stream fixes. Nothing on the way
/// lets a packet come early.
pub fn lateness(packets: &[Departure]) -> Vec<f64> {
    let mut streams: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    let mut first: BTreeMap<u32, u16> = BTreeMap::new();
    for packet in packets {
        let first = *first.entry(packet.stream).or_insert(packet.sequence);
        let number = i64::from(packet.sequence.wrapping_sub(first));
        streams.entry(packet.stream).or_default().push(packet.at - number * GRID);
    }
    let late = streams.values().flat_map(|offsets| {
        let earliest = offsets.iter().copied().min().unwrap_or_default();
        offsets.iter().map(move |offset| (offset - earliest) as f64 / 1e6)
    });
    late.collect()
}

/// A socket that notes when packets come, and sends RTP back.
#[derive(Debug)]
pub struct Ear {
    socket: UdpSocket,
    address: Ipv4Addr,
}

impl Ear {
    /// Binds one.
    pub fn open(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, address }
    }

    /// A session description that leads here.
    pub fn description(&self) -> String {
        let (address, port) = (self.address, self.socket.local_addr().unwrap().port());
        format!(
            "v=0\no=peer 1 1 IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\nm=audio {port} RTP/AVP 0\n\
             a=rtpmap:0 PCMU/8000\n"
        )
    }

    /// Takes packets for so long.
    pub fn listen(&self, time: Duration) -> Vec<Departure> {
        let end = Instant::now() + time;
        let mut packets = Vec::new();
        let mut room = nix::cmsg_space!(TimeSpec);
        let mut bytes = [0; 1500];
        while Instant::now() < end {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let socket = self.socket.as_raw_fd();
            let received = recvmsg::<SockaddrIn>(socket, &mut parts, Some(&mut room), MsgFlags::empty());
            // Nothing came for a while.
            let Ok(received) = received else { continue };
            let at = received.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(time) => Some(nanos(time)),
                _ => None,
            });
            let (length, from) = (received.bytes, received.address.unwrap());
            let packet = &bytes[..length];
            if length != LENGTH {
                continue;
            }
            packets.push(Departure {
                stream: u32::from_be_bytes(packet[8..12].try_into().unwrap()),
                sequence: u16::from_be_bytes([packet[2], packet[3]]),
                at: at.expect("the kernel's time"),
            });
            let mut answer = packet.to_vec();
            answer[8] ^= 0x80;
            let _ = self.socket.send_to(&answer, std::net::SocketAddrV4::from(from));
        }
        packets
    }
}

/// A thread with real-time scheduling that sleeps until each 20 ms and sends a packet, on the same way as the telephone's:
/// from the far host of a wire to this one.
#[derive(Debug)]
pub struct Sleeper(JoinHandle<()>, JoinHandle<Vec<Departure>>);

impl Sleeper {
    /// Starts it for so long.
    pub fn start(wire: &Wire, time: Duration) -> Self {
        let ear = Ear::open(wire.here);
        let to = ear.socket.local_addr().unwrap();
        let socket = inside(wire.name(), || UdpSocket::bind((wire.there, 0)).unwrap());
        let count = time.as_nanos() as i64 / GRID;
        let sleeper = std::thread::spawn(move || {
            take_priority();
            let mut due = nanos(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
            let mut packet = [0; LENGTH];
            for number in 0..count {
                due += GRID;
                let until = TimeSpec::new(due / 1_000_000_000, due % 1_000_000_000);
                let absolute = ClockNanosleepFlags::TIMER_ABSTIME;
                while clock_nanosleep(ClockId::CLOCK_MONOTONIC, absolute, &until).is_err() {}
                packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
                socket.send_to(&packet, to).unwrap();
            }
        });
        Self(sleeper, std::thread::spawn(move || ear.listen(time)))
    }

    /// Its packets, when it is done.
    pub fn packets(self) -> Vec<Departure> {
        self.0.join().unwrap();
        self.1.join().unwrap()
    }
}

/// Gives this thread the scheduling of voipd's real-time thread.
pub(crate) fn take_priority() {
    let thread = nix::unistd::gettid().to_string();
    run(Command::new("chrt").args(["--fifo", "--pid", PRIORITY, &thread]));
}

/// Keeps every core busy until it is dropped.
#[derive(Debug)]
pub struct Busy(Arc<AtomicBool>);

/// As many threads that only compute as there are cores.
pub fn busy() -> Busy {
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..std::thread::available_parallelism().unwrap().get() {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut number = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005));
            }
        });
    }
    Busy(stop)
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn nanos(time: TimeSpec) -> i64 {
    time.tv_sec() * 1_000_000_000 + time.tv_nsec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_counted_from_the_earliest_packet_of_each_stream() {
        let packet = |stream, sequence, at| Departure { stream, sequence, at };
        let packets = [
            packet(1, 65_535, 1_500_000),
            packet(2, 7, 4_000_000),
            // One is lost in between.
            packet(1, 1, 1_000_000 + 2 * GRID),
            packet(2, 8, 4_000_000 + GRID),
        ];
        assert_eq!(lateness(&packets), [0.5, 0.0, 0.0, 0.0]);
    }
}
