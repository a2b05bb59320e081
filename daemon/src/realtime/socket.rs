//! The RTP socket as the tick uses it: many datagrams with one call, each with the time at which the kernel got it.

use std::io;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use voipd_audio::engine::{BATCH, Batch, MediaSocket};

use super::clock::{monotonic_nanos, nanos, read_clock};

/// Room for one control message with a timestamp, with as much again for alignment.
const CONTROL: usize = 64;
/// One more than the datagrams that usually wait at one socket: two 20 ms packets where every other waking reads. The one
/// more finds none, and so tells that these were all.
const USUAL: usize = 3;
/// A timestamp older than this says that somebody has set the wall clock between arrival and reading.
const OLDEST_NANOS: u64 = 2_000_000_000;

/// An RTP socket.
pub struct UdpMediaSocket(UdpSocket);

/// What the kernel reads and writes in a `recvmmsg` of `N` datagrams besides them. It lies on the stack, which is in the
/// processor's cache: of thirty sockets, none that had its own would be.
struct Scratch<const N: usize> {
    headers: [libc::mmsghdr; N],
    buffers: [libc::iovec; N],
    names: [libc::sockaddr_storage; N],
    controls: [Control; N],
}

#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl UdpMediaSocket {
    /// Takes a bound socket.
    ///
    /// # Errors
    /// When the socket cannot be set to non-blocking. A kernel without timestamps is no error: packets then have the time
    /// at which they are read.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let _ = enable_timestamps(&socket);
        Ok(UdpMediaSocket(socket))
    }

    /// The same socket for whoever sends what is not RTP from its port (RTCP: RFC 5761). Its calls do not block either.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn sender(&self) -> io::Result<UdpSocket> {
        self.0.try_clone()
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl MediaSocket for UdpMediaSocket {
    fn receive(&mut self, batch: &mut Batch) {
        // Nearly always there are two datagrams at most: preparing for a whole batch costs more than they do.
        self.receive_at::<USUAL>(batch, 0);
        if batch.len == USUAL {
            self.receive_at::<{ BATCH - USUAL }>(batch, USUAL);
        }
    }

    fn send(&mut self, remote: SocketAddr, datagram: &[u8]) -> bool {
        self.0.send_to(datagram, remote).is_ok()
    }
}

impl UdpMediaSocket {
    /// Fills the batch with at most `N` datagrams from number `first` on, as far as there are any.
    // Each has its room on the stack only while it works.
    #[inline(never)]
    #[allow(unsafe_code)]
    fn receive_at<const N: usize>(&mut self, batch: &mut Batch, first: usize) {
        let mut scratch = Scratch::<N>::new();
        let Scratch { headers, buffers, names, controls } = &mut scratch;
        let parts = headers.iter_mut().zip(buffers.iter_mut()).zip(names.iter_mut()).zip(controls.iter_mut());
        let datagrams = batch.datagrams.iter_mut().skip(first);
        let wanted = N.min(BATCH.saturating_sub(first));
        for ((((header, buffer), name), control), datagram) in parts.zip(datagrams) {
            buffer.iov_base = datagram.bytes.as_mut_ptr().cast();
            buffer.iov_len = datagram.bytes.len();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = buffer;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        // SAFETY: each of the first `wanted` headers, at most N, points to buffers of the stated lengths, which live in
        // `batch` and in `scratch`, are borrowed mutably here and outlive the call; the call does not block and keeps
        // nothing.
        let received = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                headers.as_mut_ptr(),
                wanted as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).unwrap_or(0);
        batch.len = first + received;
        if received == 0 {
            return;
        }
        let now = monotonic_nanos();
        let wall = read_clock(libc::CLOCK_REALTIME);
        let parts = headers.iter().zip(names.iter()).zip(batch.datagrams.iter_mut().skip(first));
        for ((header, name), datagram) in parts.take(received) {
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            datagram.len = if whole { header.msg_len as usize } else { 0 };
            datagram.source = address(name).unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
            let age = arrival(&header.msg_hdr).map_or(0, |at| wall.saturating_sub(at));
            datagram.at_nanos = if age > OLDEST_NANOS { now } else { now.saturating_sub(age) };
        }
    }
}

impl<const N: usize> Scratch<N> {
    #[allow(unsafe_code)]
    fn new() -> Self {
        // SAFETY: all fields are integers, arrays of integers and raw pointers, for which zero is a value.
        unsafe { MaybeUninit::<Self>::zeroed().assume_init() }
    }
}

/// When the kernel got the datagram, on the wall clock; `None` where it does not say.
#[allow(unsafe_code)]
fn arrival(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel has filled `header`: its control pointer and length describe whole control messages within the
    // socket's own buffer, which is aligned for them. The timestamp is read by copy, only from a message of that type
    // and of its full length.
    unsafe {
        let timestamp_len = libc::CMSG_LEN(size_of::<libc::timespec>() as _) as _;
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(found) = message.as_ref() {
            if found.cmsg_level == libc::SOL_SOCKET
                && found.cmsg_type == libc::SCM_TIMESTAMPNS
                && found.cmsg_len >= timestamp_len
            {
                return Some(nanos(libc::CMSG_DATA(message).cast::<libc::timespec>().read_unaligned()));
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// The address that the kernel wrote; `None` for a family that is not IP.
#[allow(unsafe_code)]
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    const { assert!(offset_of!(libc::sockaddr_storage, ss_family) == offset_of!(libc::sockaddr_in, sin_family)) };
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: `sockaddr_storage` is larger than and aligned for every address type, and the family says which.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(name.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id)))
        }
        _ => None,
    }
}

#[allow(unsafe_code)]
fn enable_timestamps(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a c_int and the length is a c_int's; the call does not keep it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    fn pair(local: &str) -> (UdpMediaSocket, UdpSocket) {
        let socket = UdpMediaSocket::new(UdpSocket::bind(local).expect("bind")).expect("socket");
        (socket, UdpSocket::bind(local).expect("bind"))
    }

    #[test]
    fn datagrams_come_with_their_source_and_cut_ones_not_at_all() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (mut socket, peer) = pair(local);
            let to = socket.local_addr().expect("address");
            let mut batch = Batch::new();
            socket.receive(&mut batch);
            assert_eq!(batch.len, 0);
            peer.send_to(b"first", to).expect("send");
            peer.send_to(&[7; 3000], to).expect("send");
            socket.receive(&mut batch);
            assert_eq!(batch.len, 2);
            let first = &batch.datagrams[0];
            assert_eq!(&first.bytes[..first.len], b"first");
            assert_eq!(first.source, peer.local_addr().expect("address"));
            assert_eq!(batch.datagrams[1].len, 0, "cut datagrams are no datagrams");
        }
    }

    /// The kernel begins to note the time of arrival some time after it was told to, and the two clocks are read one
    /// after the other, between which anything may come on a busy machine: one datagram with the right time proves it.
    #[test]
    fn datagrams_come_with_the_time_of_arrival_not_of_reading() {
        const LATER: Duration = Duration::from_millis(100);
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (mut socket, peer) = pair(local);
            let to = socket.local_addr().expect("address");
            let mut batch = Batch::new();
            let stamped = (0..100).any(|_| {
                let before = monotonic_nanos();
                peer.send_to(b"when?", to).expect("send");
                let after = monotonic_nanos();
                sleep(LATER);
                socket.receive(&mut batch);
                assert_eq!(batch.len, 1);
                const SLACK: u64 = 40_000_000;
                (before - SLACK..after + SLACK).contains(&batch.datagrams[0].at_nanos)
            });
            assert!(stamped, "{local}: always the time of reading");
        }
    }

    #[test]
    fn a_batch_is_bounded_and_the_rest_waits() {
        let (mut socket, peer) = pair("127.0.0.1:0");
        let to = socket.local_addr().expect("address");
        for number in 0..40_u8 {
            peer.send_to(&[number], to).expect("send");
        }
        let mut batch = Batch::new();
        socket.receive(&mut batch);
        assert_eq!((batch.len, batch.datagrams[31].bytes[0]), (BATCH, 31));
        socket.receive(&mut batch);
        assert_eq!((batch.len, batch.datagrams[7].bytes[0]), (8, 39));
        assert!(socket.send(peer.local_addr().expect("address"), b"back"));
        let mut answer = [0; 8];
        assert_eq!(peer.recv(&mut answer).expect("answer"), 4);
    }
}
