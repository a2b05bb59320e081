//! When a binding is refreshed, and when it is tried again (RFC 5626 section 4.5).

use std::time::Duration;

use crate::core::Core;

/// First wait after a failure, doubled with each further one, where nothing reaches us any more.
const BASE_ALL_FAILED: Duration = Duration::from_secs(30);
/// The same where another binding stands.
const BASE_NOT_ALL: Duration = Duration::from_secs(90);
/// Longest wait of our own choosing where nothing reaches us. RFC 5626 proposes half an hour; a telephone should be back
/// sooner.
const MAX_ALL_FAILED: Duration = Duration::from_secs(300);
/// Longest wait where another binding stands.
const MAX_NOT_ALL: Duration = Duration::from_secs(1800);

/// What stands beside the binding that has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    None,
    Some,
}

/// How long to wait after so many failures in a row: by chance between half and the whole, so that not all telephones of
/// a server that comes back come at once.
pub(super) fn backoff(core: &mut Core, failures: u32, others: Others) -> Duration {
    let (base, most) = match others {
        Others::None => (BASE_ALL_FAILED, MAX_ALL_FAILED),
        Others::Some => (BASE_NOT_ALL, MAX_NOT_ALL),
    };
    let most = base.saturating_mul(1 << failures.min(8)).min(most);
    core.random.between(most / 2, most)
}

/// Early enough that a lost request can still be repeated to its end, where the time is long enough for that.
pub(super) fn refresh_after(expires: u32) -> Duration {
    let whole = Duration::from_secs(expires.into());
    match expires {
        120.. => (whole * 9 / 10).min(whole - Duration::from_secs(60)),
        _ => (whole / 2).max(Duration::from_secs(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_comes_before_expiry_with_time_to_spare() {
        let seconds = |expires| refresh_after(expires).as_secs();
        assert_eq!((seconds(1), seconds(10)), (1, 5));
        assert_eq!((seconds(60), seconds(120), seconds(600), seconds(3600)), (30, 60, 540, 3240));
    }
}
