//! What the tests of the whole share: a place to run in, the programs that run there, and the judge of what was heard.
//! It knows voipd only from outside: its command line, its bus and what it sends.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot go on panics")]

pub mod authority;
pub mod bare;
pub mod baresip;
pub mod bus;
pub mod exchange;
pub mod gate;
pub mod grid;
pub mod host;
pub mod kamailio;
pub mod lab;
pub mod load;
pub mod measure;
pub mod netlab;
pub mod pace;
pub mod process;
pub mod pulse;
pub mod sipp;
pub mod sockets;
pub mod speech;
pub mod voipctl;
pub mod voipd;

pub use lab::Lab;
pub use voipctl::{Ended, Voipctl};
pub use voipd::{Call, Config, Voipd};
pub use voipd_judge as judge;
pub use voipd_timely::timely;

use std::time::{Duration, Instant};

/// How long something may take that usually takes a moment. Generous: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks again and again until there is an answer; panics with what it waited for after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// A real-time pause, for sound to flow.
pub async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Whether the test runs as root. If not, says on standard output that the named test is skipped.
pub fn needs_root(test: &str) -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        println!("SKIPPED (needs root): {test}");
    }
    root
}
