//! Programs at calls: plain samples over a socket, to and from a port of the mixer. Knows sockets, formats and rings, not
//! whose call it is.

mod format;
mod pump;
mod socket;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rtrb::RingBuffer;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use voipd_audio::engine::{Listener, ProgramPort};

use crate::api::ports::{AudioMode, AudioWish};
use pump::Pump;
use socket::NamedSocket;

pub use socket::directory;

/// Sound that a program may be ahead of what the peer hears, in the ring; the socket holds more.
const AHEAD_MS: usize = 200;
/// Sound that waits for a program that does not read; what comes then is dropped.
const BEHIND_MS: usize = 500;
/// How long a socket with a name waits for a client once sound flows: the microphone may be silent meanwhile.
const CLIENT_WAIT: Duration = Duration::from_secs(30);

/// A program that is joined to a call. Dropping it closes its socket.
pub struct Program {
    wish: AudioWish,
    begin: Option<oneshot::Sender<()>>,
    task: AbortHandle,
    dropped: Arc<AtomicU64>,
}

impl Program {
    /// Joins whoever holds the other end of what this answers with. `over` is called when it has left. Nothing flows
    /// before [`Program::begin`].
    ///
    /// # Errors
    /// The system's, when it gives no socket.
    pub fn join(
        wish: AudioWish,
        over: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, ProgramPort, OwnedFd)> {
        let (ours, theirs) = Socket::pair()?;
        bound_buffers(&ours, wish)?;
        bound_buffers(&theirs, wish)?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let (port, pump, dropped) = rings(wish);
        let (begin, begun) = oneshot::channel();
        let task = tokio::spawn(async move {
            if begun.await.is_ok() {
                pump.run(stream).await;
                over();
            }
        });
        Ok((Self { wish, begin: Some(begin), task: task.abort_handle(), dropped }, port, theirs.into()))
    }

    /// Joins whoever connects first to a socket of that name in the directory; it is over, too, when nobody has within
    /// half a minute from [`Program::begin`]. The file is gone when the program is.
    ///
    /// # Errors
    /// The system's, when the socket cannot be made.
    pub fn listen(
        wish: AudioWish,
        directory: &Path,
        name: &str,
        over: impl FnOnce() + Send + 'static,
    ) -> io::Result<(Self, ProgramPort, PathBuf)> {
        let socket = NamedSocket::bind(directory, name)?;
        let path = socket.path().to_owned();
        let (port, pump, dropped) = rings(wish);
        let (begin, begun) = oneshot::channel();
        let task = tokio::spawn(async move {
            match first_client(&socket, begun).await {
                Ok(Some(stream)) => {
                    if let Err(error) = bound_buffers(&stream, wish) {
                        log::debug!("the buffers of a program's socket are as they are: {error}");
                    }
                    pump.run(stream).await;
                }
                Ok(None) => log::warn!("{}: nobody has connected: given up", socket.path().display()),
                Err(error) => log::warn!("{}: nobody can connect: {error}", socket.path().display()),
            }
            over();
        });
        Ok((Self { wish, begin: Some(begin), task: task.abort_handle(), dropped }, port, path))
    }

    /// Lets sound flow.
    pub fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // The program may have left before.
            let _ = begin.send(());
        }
    }

    /// Whether sound flows.
    pub fn has_begun(&self) -> bool {
        self.begin.is_none()
    }

    /// How it was joined.
    pub fn wish(&self) -> AudioWish {
        self.wish
    }

    /// Milliseconds of sound that it did not read in time.
    pub fn dropped_ms(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) * 1000 / u64::from(self.wish.rate.max(1))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who has connected when sound flows, or does so soon enough.
async fn first_client(
    socket: &NamedSocket,
    mut begun: oneshot::Receiver<()>,
) -> io::Result<Option<UnixStream>> {
    // Sound is sure to flow: without the program, which begins it, this task is gone, too.
    tokio::select! {
        stream = socket.accept() => {
            let stream = stream?;
            let _ = begun.await;
            Ok(Some(stream))
        }
        _ = &mut begun => timeout(CLIENT_WAIT, socket.accept()).await.ok().transpose(),
    }
}

fn rings(wish: AudioWish) -> (ProgramPort, Pump, Arc<AtomicU64>) {
    let samples = |ms: usize| wish.rate as usize * ms / 1000;
    let (ring, heard) = RingBuffer::new(samples(BEHIND_MS) * wish.channels());
    let dropped = Arc::new(AtomicU64::new(0));
    let listener = wish.side.map(|side| Listener { side, ring, dropped: dropped.clone() });
    let (said, source) = match wish.mode {
        AudioMode::Tap => (None, None),
        AudioMode::Inject | AudioMode::Replace => {
            let (said, source) = RingBuffer::new(samples(AHEAD_MS));
            (Some(said), Some(source))
        }
    };
    (ProgramPort { source, listener, rate: wish.rate }, Pump::new(wish, said, heard), dropped)
}

/// A socket holds about twice as much sound as the ring does, or less where it comes in small pieces, so that nobody hears what
/// is seconds old: the kernel doubles what is asked for, for what it needs itself.
fn bound_buffers(socket: &impl std::os::fd::AsFd, wish: AudioWish) -> io::Result<()> {
    let second = wish.rate as usize * wish.channels() * wish.format.bytes();
    socket2::SockRef::from(socket).set_send_buffer_size(second * AHEAD_MS / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ports::SampleFormat;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::sync::atomic::AtomicBool;
    use voipd_audio::engine::Side;

    const WISH: AudioWish = AudioWish {
        mode: AudioMode::Inject,
        format: SampleFormat::S16le,
        rate: 8000,
        side: Some(Side::Far),
        end_with_input: false,
    };

    /// A joined program, and whether it is over.
    struct Lab {
        program: Program,
        port: ProgramPort,
        client: Socket,
        over: Arc<AtomicBool>,
    }

    fn join(wish: AudioWish) -> Lab {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let (program, port, client) =
            Program::join(wish, move || told.store(true, Ordering::SeqCst)).unwrap();
        let client = Socket::from(client);
        client.set_nonblocking(true).unwrap();
        Lab { program, port, client, over }
    }

    impl Lab {
        fn is_over(&self) -> bool {
            self.over.load(Ordering::SeqCst)
        }

        /// As much as the tick takes.
        fn take(&mut self) -> Vec<f32> {
            let source = self.port.source.as_mut().unwrap();
            std::iter::from_fn(|| source.pop().ok()).collect()
        }

        fn give(&mut self, samples: &[f32]) {
            self.port.listener.as_mut().unwrap().ring.push_entire_slice(samples).unwrap();
        }

        /// Whatever can be read now.
        fn read(&mut self) -> Vec<u8> {
            let mut bytes = Vec::new();
            let _ = self.client.read_to_end(&mut bytes);
            bytes
        }
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let wait = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
    }

    /// Writes without waiting for more than the reactor.
    async fn write_all(client: &mut Socket, mut bytes: &[u8]) {
        let wait = async {
            while !bytes.is_empty() {
                match client.write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("all is written");
    }

    #[tokio::test]
    async fn nothing_is_read_before_sound_flows_and_nothing_is_lost() {
        let mut lab = join(WISH);
        write_all(&mut lab.client, &[0, 0x40, 0, 0xc0, 0]).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(lab.take().is_empty());
        assert!(!lab.program.has_begun());
        lab.program.begin();
        let mut heard = Vec::new();
        until("both samples", || {
            heard.extend(lab.take());
            heard == [0.5, -0.5]
        })
        .await;
        // The half of a sample waits for the other.
        write_all(&mut lab.client, &[0x20]).await;
        until("the third", || {
            heard.extend(lab.take());
            heard == [0.5, -0.5, 0.25]
        })
        .await;
    }

    /// Bytes that were written and not read.
    #[allow(unsafe_code)]
    fn waiting(socket: &Socket) -> libc::c_int {
        let mut bytes = 0;
        // SAFETY: the pointer is to a c_int, which is what this request writes.
        let result =
            unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(socket), libc::TIOCOUTQ, &raw mut bytes) };
        assert_eq!(result, 0);
        bytes
    }

    #[tokio::test]
    async fn who_writes_ahead_is_held_back_until_the_tick_has_taken() {
        let mut lab = join(WISH);
        lab.program.begin();
        let sound: Vec<u8> = (0..160_000_u32).map(|n| (n / 2 % 251) as u8).collect();
        let (mut client, bytes) = (lab.client.try_clone().unwrap(), sound.clone());
        let writer = tokio::spawn(async move { write_all(&mut client, &bytes).await });
        let ahead = AHEAD_MS * 8;
        until("the ring is full", || lab.port.source.as_ref().unwrap().slots() == ahead).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!writer.is_finished(), "ten seconds do not fit");
        assert!(waiting(&lab.client) <= 2 * 8000, "{} bytes of sound wait", waiting(&lab.client));
        let mut taken = Vec::new();
        until("all of it", || {
            taken.extend(lab.take());
            taken.len() == 80_000
        })
        .await;
        writer.await.unwrap();
        let expected = sound.chunks(2).map(|bytes| format::decode(SampleFormat::S16le, bytes));
        assert!(taken.into_iter().eq(expected));
    }

    #[tokio::test]
    async fn who_does_not_read_fills_the_ring_and_reads_on_when_he_likes() {
        let mut lab = join(AudioWish { side: Some(Side::Stereo), ..WISH });
        lab.program.begin();
        let room = |lab: &Lab| lab.port.listener.as_ref().unwrap().ring.slots();
        let mut given: u64 = 0;
        // The socket and the ring fill up; then the tick has no room.
        let full = async {
            let mut stuck = 0;
            while stuck < 20 {
                if room(&lab) >= 160 {
                    lab.give(&[0.25, -0.25].repeat(80));
                    (given, stuck) = (given + 80, 0);
                } else {
                    stuck += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), full).await.expect("full");
        assert!(given < 8000 * 20, "{given} frames: it has no bound");
        let mut bytes = Vec::new();
        until("all that was given", || {
            bytes.extend(lab.read());
            bytes.len() as u64 == given * 4
        })
        .await;
        assert!(bytes.chunks(4).all(|frame| frame == [0, 0x20, 0, 0xe0]), "frames are whole");
        assert!(!lab.is_over());
    }

    #[tokio::test]
    async fn a_program_that_says_all_and_leaves_is_heard_to_the_end() {
        let mut lab = join(WISH);
        lab.program.begin();
        lab.give(&[0.5; 80]);
        write_all(&mut lab.client, &[0, 0x40].repeat(800)).await;
        // It has read nothing of what it heard.
        lab.client = Socket::pair().unwrap().0;
        let source = |lab: &Lab| lab.port.source.as_ref().unwrap().slots();
        until("it has been read", || source(&lab) == 800).await;
        lab.give(&[0.5; 80]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!lab.is_over(), "the tick has not taken it");
        assert_eq!(lab.take(), vec![0.5; 800]);
        until("the end", || lab.is_over()).await;
    }

    #[tokio::test]
    async fn an_input_that_ends_leaves_the_listener_there_unless_it_ends_with_it() {
        for end_with_input in [false, true] {
            let mut lab = join(AudioWish { end_with_input, ..WISH });
            lab.program.begin();
            write_all(&mut lab.client, &[0; 160]).await;
            lab.client.shutdown(Shutdown::Write).unwrap();
            let mut heard = 0;
            until("the input", || {
                heard += lab.take().len();
                heard == 80
            })
            .await;
            if end_with_input {
                until("the end", || lab.is_over()).await;
                continue;
            }
            lab.give(&[0.5; 80]);
            let mut bytes = Vec::new();
            until("what it hears", || {
                bytes.extend(lab.read());
                bytes.len() == 160
            })
            .await;
            assert!(!lab.is_over());
        }
    }

    #[tokio::test]
    async fn a_tap_that_leaves_is_noticed_and_what_it_says_is_not_heard() {
        let mut lab = join(AudioWish { mode: AudioMode::Tap, ..WISH });
        assert!(lab.port.source.is_none());
        lab.program.begin();
        write_all(&mut lab.client, &[0; 1_000_000]).await;
        lab.client = Socket::pair().unwrap().0;
        until("the end", || {
            // There is always something to hear in a call.
            if lab.port.listener.as_ref().unwrap().ring.slots() > 80 {
                lab.give(&[0.0; 80]);
            }
            lab.is_over()
        })
        .await;
    }

    #[tokio::test]
    async fn the_end_of_the_call_closes_the_socket() {
        let mut lab = join(WISH);
        drop(lab.program);
        until("the end", || lab.client.read(&mut [0; 8]).is_ok_and(|count| count == 0)).await;
    }

    #[tokio::test]
    async fn a_named_socket_is_for_its_owner_and_for_one_client() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("run/audio");
        let (mut program, mut port, path) = Program::listen(WISH, &directory, "call.sock", || ()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&directory)), (0o600, 0o700));
        program.begin();
        let mut client = Socket::connect(&path).unwrap();
        client.set_nonblocking(true).unwrap();
        write_all(&mut client, &[0, 0x40]).await;
        until("it is heard", || port.source.as_mut().unwrap().pop() == Ok(0.5)).await;
        drop(program);
        until("the file is gone", || !path.exists()).await;
        // What a killed daemon has left does not matter.
        std::fs::write(&path, "").unwrap();
        drop(Program::listen(WISH, &directory, "call.sock", || ()).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_named_socket_waits_half_a_minute_for_a_client_once_sound_flows() {
        let folder = tempfile::tempdir().unwrap();
        let over: [Arc<AtomicBool>; 3] = Default::default();
        let is_over = || over.each_ref().map(|over| over.load(Ordering::SeqCst));
        let [mut nobody, mut early, mut late] = [0, 1, 2].map(|at: usize| {
            let told = over[at].clone();
            let over = move || told.store(true, Ordering::SeqCst);
            Program::listen(WISH, folder.path(), &format!("{at}.sock"), over).unwrap()
        });
        // The call may ring for longer.
        let _early = Socket::connect(&early.2).unwrap();
        tokio::time::sleep(CLIENT_WAIT * 10).await;
        assert_eq!(is_over(), [false; 3]);

        for (program, ..) in [&mut nobody, &mut early, &mut late] {
            program.begin();
        }
        let moment = Duration::from_secs(1);
        tokio::time::sleep(CLIENT_WAIT - moment).await;
        assert_eq!(is_over(), [false; 3]);
        let _late = Socket::connect(&late.2).unwrap();
        tokio::time::sleep(moment * 2).await;
        assert_eq!(is_over(), [true, false, false]);
        assert!(!nobody.2.exists(), "the file is gone");
        tokio::time::sleep(CLIENT_WAIT * 2).await;
        assert_eq!(is_over(), [true, false, false], "who has come may stay");
    }
}
