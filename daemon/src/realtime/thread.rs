//! The real-time thread: made, scheduled, parked and stopped here; what it does is the engine's.

use std::hint::black_box;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use voipd_audio::engine::{self, Controller, Processor};

use super::event::{EngineWaker, Gate, WakeSignal};
use super::scheduling::{self, Policy, Scheduling};
use super::{UdpMediaSocket, run_ticks};

/// Priority under SCHED_FIFO: above the machine's ordinary work, below its interrupt threads (50).
pub(super) const PRIORITY: i32 = 20;
/// Stack that libopus and the mixer may use; touched before the first tick.
const STACK: usize = 256 * 1024;

/// Gives the calling thread, and every thread that it starts, real-time scheduling just below the tick's, where the
/// system allows it. For threads that open sound devices: the libraries' own threads then serve the devices in time, and
/// none that shares a lock with them waits for its turn on a busy machine.
pub fn serve_devices_in_time() {
    scheduling::become_fifo_with_children(PRIORITY - 1);
}

/// The real-time thread. Dropping it stops it.
pub struct RealtimeThread {
    gate: Arc<Gate>,
    waker: EngineWaker,
    thread: Option<JoinHandle<Processor<UdpMediaSocket>>>,
    thread_id: libc::pid_t,
    scheduling: Scheduling,
}

/// Makes an audio engine for `max_ports` ports and starts its thread, which rests until something wants ticks.
///
/// # Errors
/// When the system has no thread or no descriptor left. Scheduling that is refused is no error: see
/// [`RealtimeThread::scheduling`].
pub fn start(max_ports: usize) -> io::Result<(Controller<UdpMediaSocket>, RealtimeThread)> {
    let waker = EngineWaker::new()?;
    let (controller, mut processor) = engine::engine(max_ports, Box::new(waker.share()));
    let gate = Arc::new(Gate::new()?);
    let locked = scheduling::lock_memory();
    let (answer, answered) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("voipd-audio".to_owned()).stack_size(2 * STACK).spawn({
        let gate = gate.clone();
        move || {
            touch_stack();
            scheduling::sharpen_timers();
            // Whoever started the thread waits for the answer.
            let _ = answer.send((scheduling::thread_id(), scheduling::become_fifo(PRIORITY)));
            drop(answer);
            run_ticks(&mut processor, &gate);
            // Freed by whoever joins the thread.
            processor
        }
    })?;
    let (thread_id, fifo) = answered.recv().map_err(io::Error::other)?;
    let memory_locked = locked.is_ok();
    let scheduling = match fifo {
        Ok(priority) => {
            let reason = locked.err().unwrap_or_default();
            Scheduling { policy: Policy::Fifo, priority, reason, memory_locked }
        }
        Err(reason) => Scheduling { policy: Policy::Other, priority: 0, reason, memory_locked },
    };
    Ok((controller, RealtimeThread { gate, waker, thread: Some(thread), thread_id, scheduling }))
}

impl RealtimeThread {
    /// Lets the thread tick, if it rests. To be told after every use of the controller, with what
    /// [`Controller::needs_ticks`] says.
    pub fn wanted(&self, ticks: bool) {
        if ticks {
            self.gate.open();
        }
    }

    /// Whether the thread rests.
    pub fn is_parked(&self) -> bool {
        self.gate.is_parked()
    }

    /// The scheduling in force.
    pub fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }

    /// Tells when the engine has something to tell: [`Controller::service`] and the polls are due then.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O, or when the process has no descriptor left for it.
    pub fn wake_signal(&self) -> WakeSignal {
        self.waker.signal().expect("one descriptor more for the event loop")
    }

    /// The thread's number, for rtkit's `MakeThreadRealtime`.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Does what rtkit demands before it is asked: `longest_run_us` is its property `RTTimeUSecMax`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn prepare_for_rtkit(&self, longest_run_us: u64) -> io::Result<()> {
        scheduling::prepare_for_rtkit(self.thread_id, longest_run_us)
    }

    /// Takes note of rtkit's answer: what the thread really has now is read from the system.
    pub fn rtkit_answered(&mut self, answer: Result<(), String>) {
        match (answer, scheduling::priority_of(self.thread_id)) {
            (Ok(()), Some(priority)) => {
                (self.scheduling.policy, self.scheduling.priority) = (Policy::Rtkit, priority);
                self.scheduling.reason.clear();
            }
            (Ok(()), None) => self.scheduling.reason.push_str("; rtkit granted nothing"),
            (Err(why), _) => self.scheduling.reason.push_str(&format!("; rtkit: {why}")),
        }
    }
}

impl Drop for RealtimeThread {
    fn drop(&mut self) {
        self.gate.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the real-time thread has panicked");
        }
    }
}

/// Touches the stack that ticks will use, so that no tick waits for a page.
#[inline(never)]
fn touch_stack() {
    let mut stack = [0_u8; STACK];
    black_box(&mut stack);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use voipd_audio::PortId;
    use voipd_audio::engine::{DevicePort, Pace};

    use super::*;

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(5), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn the_thread_rests_works_and_rests_again() {
        let (mut controller, thread) = start(4).expect("a thread");
        until("nothing is wanted", || thread.is_parked());
        let resting = controller.counters().ticks;
        let (_feed, capture) = rtrb::RingBuffer::new(4800);
        let device = DevicePort { capture: Some(capture), playback: None, rate: 48_000, pace: Pace::Tick };
        controller.open_device(PortId(1), device).expect("room");
        thread.wanted(controller.needs_ticks());
        until("ticks are wanted", || controller.counters().ticks > resting + 10);
        assert!(!thread.is_parked());
        controller.close(PortId(1));
        thread.wanted(controller.needs_ticks());
        until("nothing is wanted any more", || thread.is_parked());
        controller.service();
        assert!(!controller.needs_ticks());
        let ticks = controller.counters().ticks;
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(controller.counters().ticks, ticks);
    }

    #[test]
    fn the_engine_wakes_the_event_loop() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut controller, thread) = start(4).expect("a thread");
            let wake = thread.wake_signal();
            let (feed, capture) = rtrb::RingBuffer::new(4800);
            drop(feed);
            let device =
                DevicePort { capture: Some(capture), playback: None, rate: 48_000, pace: Pace::Tick };
            controller.open_device(PortId(1), device).expect("room");
            thread.wanted(controller.needs_ticks());
            let event = tokio::time::timeout(Duration::from_secs(5), async {
                loop {
                    wake.woken().await;
                    controller.service();
                    if let Some(event) = controller.poll_event() {
                        break event;
                    }
                }
            });
            let ended = voipd_audio::plan::EngineEvent::SourceEnded { port: PortId(1) };
            assert_eq!(event.await.expect("within time"), ended);
        });
    }

    #[test]
    fn scheduling_says_what_it_is() {
        let (_controller, thread) = start(1).expect("a thread");
        let scheduling = thread.scheduling();
        match scheduling.policy {
            Policy::Fifo => {
                assert_eq!(scheduling::priority_of(thread.thread_id()), Some(scheduling.priority))
            }
            Policy::Rtkit => panic!("nobody asked rtkit"),
            Policy::Other => {
                let reason = &scheduling.reason;
                // A unit of a session cannot raise the limit by itself.
                assert!(reason.contains("LimitRTPRIO") && reason.contains("user@.service"), "{reason}");
            }
        }
    }
}
