//! The thread that processes a microphone's sound: one priority below the tick, woken by it block by block. What is done
//! is the engine's.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use voipd_audio::PortId;
use voipd_audio::engine::{InsertPort, InsertSwitch, insert};

use super::event::BlockingWaker;
use super::scheduling;
use super::thread::PRIORITY;

/// Starts the thread of one microphone's insert; it ends when the port is closed. `reference`: the loudspeaker's port.
///
/// # Errors
/// When the system has no thread or no descriptor left.
pub fn start_voice_processing(reference: PortId) -> io::Result<(InsertPort, InsertSwitch)> {
    let waker = BlockingWaker::new()?;
    let (port, mut ends, switch) = insert(reference, Box::new(waker.share()));
    let work = move || {
        scheduling::become_fifo_with_children(PRIORITY - 1);
        let served = catch_unwind(AssertUnwindSafe(|| {
            while ends.process() {
                waker.wait();
            }
        }));
        if served.is_err() {
            log::error!("voice processing has panicked: this call's microphone is sent as it is");
        }
    };
    std::thread::Builder::new().name("voipd-voice".to_owned()).spawn(work)?;
    Ok((port, switch))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use voipd_audio::engine::{DevicePort, Pace};
    use voipd_audio::voice::Stages;

    use super::*;

    #[test]
    fn the_thread_processes_and_ends_with_its_port() {
        let (mut controller, thread) = super::super::start(4).expect("a thread");
        let (mut feed, capture) = rtrb::RingBuffer::new(48_000);
        let device = DevicePort { capture: Some(capture), playback: None, rate: 48_000, pace: Pace::Tick };
        controller.open_device(PortId(1), device).expect("room");
        let (port, switch) = start_voice_processing(PortId(2)).expect("a thread");
        controller.attach_insert(PortId(1), Some(port)).expect("a device");
        switch.set(Stages { noise: true, ..Stages::NONE });
        thread.wanted(controller.needs_ticks());
        let start = Instant::now();
        // How many are late is the machine's affair; that some are not shows that the thread works.
        while switch.blocks().0 < 20 || switch.blocks().1 + 5 > switch.blocks().0 {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", switch.blocks());
            while feed.push(0.0).is_ok() {}
            controller.service();
            std::thread::sleep(Duration::from_millis(5));
        }
        controller.close(PortId(1));
        thread.wanted(controller.needs_ticks());
        let running = || {
            let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
            tasks.flatten().any(|task| {
                std::fs::read_to_string(task.path().join("comm"))
                    .is_ok_and(|name| name.trim() == "voipd-voice")
            })
        };
        while running() {
            assert!(start.elapsed() < Duration::from_secs(10), "the thread does not end");
            controller.service();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
