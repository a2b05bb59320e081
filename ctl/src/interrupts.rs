//! Signals that end a command in good order.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Signals that are waited for.
pub(crate) struct Interrupts(Vec<Signal>);

impl Interrupts {
    /// Takes these signals. What is ignored when voipctl starts stays so: `nohup` wants a call to outlive its terminal.
    pub(crate) fn take(kinds: &[SignalKind]) -> Result<Self, Failure> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let meant = kinds.iter().filter(|kind| !is_ignored(&status, **kind));
        let taken: Result<Vec<Signal>, std::io::Error> = meant.map(|kind| signal(*kind)).collect();
        taken.map(Self).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
    }

    /// Waits for one of them.
    pub(crate) async fn next(&mut self) {
        poll_fn(|context| match self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await
    }
}

/// Whether /proc/PID/status says that a signal is ignored.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    ignored & (1_u64 << (kind.as_raw_value() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_bits_are_read() {
        // As nohup starts it; SIGPIPE is Rust's.
        let status = "Name:\tvoipctl\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(is_ignored(status, SignalKind::hangup()) && is_ignored(status, SignalKind::pipe()));
        assert!(!is_ignored(status, SignalKind::interrupt()) && !is_ignored(status, SignalKind::terminate()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
