//! Complaints about strangers: told once and then counted, so that a flood does not fill the log.

use std::time::{Duration, Instant};

/// How often the log hears of them.
const INTERVAL: Duration = Duration::from_secs(60);

/// Complaints of one kind.
#[derive(Default)]
pub(crate) struct Complaints {
    /// When the next one may be told.
    next: Option<Instant>,
    untold: u64,
}

impl Complaints {
    /// One more: the line for the log, if it is to be told.
    pub(crate) fn add(&mut self, now: Instant, text: impl FnOnce() -> String) -> Option<String> {
        if self.next.is_some_and(|next| now < next) {
            self.untold += 1;
            return None;
        }
        let before = match self.untold {
            0 => String::new(),
            untold => format!(" ({untold} more before)"),
        };
        *self = Self { next: Some(now + INTERVAL), untold: 0 };
        Some(text() + &before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_a_minute() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let told: Vec<String> = (0..1300)
            .filter_map(|tenth| {
                let now = start + Duration::from_millis(100 * tenth);
                complaints.add(now, || "no".to_owned())
            })
            .collect();
        assert_eq!(told, ["no", "no (599 more before)", "no (599 more before)"]);
    }
}
