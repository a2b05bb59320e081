//! Where the audio engine meets the system: the thread that ticks, the sockets it reads, the descriptors that wake.
//!
//! All unsafe code of the media path is in this folder, in functions that say why they are sound.

mod clock;
mod event;
mod ports;
mod scheduling;
mod socket;
mod thread;
mod voice;

pub(crate) use clock::read_clock;
pub use clock::{monotonic_nanos, run_ticks};
pub use event::{EngineWaker, Gate, WakeSignal};
pub use ports::{BindError, PortPair, bind_pair};
pub use scheduling::{Policy, Scheduling};
pub use socket::UdpMediaSocket;
pub use thread::{RealtimeThread, serve_devices_in_time, start};
pub use voice::start_voice_processing;
