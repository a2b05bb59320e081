//! Where log records go: to the systemd journal with structured fields when standard error leads there, else to
//! standard error as text.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// Crates whose debug and trace records tell nothing about telephony.
const CHATTY: [&str; 3] = ["hickory_", "zbus", "mio"];
/// Crates that call it an error when a sound server goes away or a file holds no sound, or that warn of every packet of a
/// stranger's and write passwords into their traces; voipd says what matters in words of its own.
const UNHEARD: [&str; 7] = ["pulseaudio", "cpal", "pipewire", "rice_", "stun_", "symphonia", "turn_"];

/// Sets up logging; the first call wins. Keys of a record (`call`, `account`, `peer`…) become journal fields in upper
/// case. The level can be changed afterwards with [`log::set_max_level`].
pub fn init(level: LevelFilter) {
    let journal = connected_to_journal().then(JournalLog::empty).and_then(Result::ok);
    let installed = match journal {
        Some(journal) => {
            let inner = journal.with_syslog_identifier("voipd".to_owned());
            log::set_boxed_logger(Box::new(Quieter { inner }))
        }
        None => log::set_boxed_logger(Box::new(Quieter { inner: Stderr })),
    };
    if installed.is_ok() {
        log::set_max_level(level);
    }
}

/// Keeps back what [`CHATTY`] crates say below warnings, and all that [`UNHEARD`] ones say.
struct Quieter<L> {
    inner: L,
}

impl<L: Log> Log for Quieter<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let from = |crates: &[&str]| crates.iter().any(|name| metadata.target().starts_with(name));
        !from(&UNHEARD) && (metadata.level() <= log::Level::Warn || !from(&CHATTY))
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.inner.log(record);
        }
    }
    fn flush(&self) {
        self.inner.flush();
    }
}

/// Lines of text: time in UTC, level, module, message, key-values.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &Record<'_>) {
        // One write for each line, so that lines of two threads do not mix; a closed standard error is no reason to
        // stop.
        let _ = std::io::stderr().write_all(line(record, SystemTime::now()).as_bytes());
    }
    fn flush(&self) {}
}

fn line(record: &Record<'_>, now: SystemTime) -> String {
    let mut line = String::with_capacity(128);
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(line, "{} {:5} {}: ", utc(since_epoch.as_millis()), record.level(), record.target());
    printable(&mut line, &record.args().to_string());
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push('\n');
    line
}

/// Control characters could end a line early or command a terminal.
fn printable(line: &mut String, text: &str) {
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
}

struct Pairs<'l>(&'l mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(' ');
        self.0.push_str(key.as_str());
        self.0.push('=');
        printable(self.0, &value.to_string());
        Ok(())
    }
}

/// `2026-01-31T23:59:59.123Z`.
fn utc(millis: u128) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let (days, in_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of the Gregorian calendar from days since 1970-01-01. Years are counted from 1 March, so that
/// the leap day ends a year, and in cycles of 400 years, which all have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_0000 = days + 719_468;
    let cycle = from_march_0000.div_euclid(146_097);
    let day_of_cycle = from_march_0000.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_is_written_as_people_read_it() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn libraries_that_warn_of_strangers_packets_are_not_heard() {
        let heard = |target| {
            let metadata = Metadata::builder().target(target).level(log::Level::Warn).build();
            Quieter { inner: Stderr }.enabled(&metadata)
        };
        assert!(heard("voipd_nat::ice") && heard("voipd::relay") && heard("zbus"));
        assert!(
            ![
                "rice_proto::conncheck",
                "stun_types::message",
                "symphonia_core::formats",
                "turn_client_proto::protocol"
            ]
            .into_iter()
            .any(heard)
        );
    }

    #[test]
    fn a_record_is_one_line_whatever_a_peer_puts_into_it() {
        let pairs = [("call", 7)];
        let record = |args: std::fmt::Arguments<'_>| {
            let record = Record::builder()
                .level(log::Level::Warn)
                .target("voipd::driver")
                .key_values(&pairs)
                .args(args)
                .build();
            line(&record, UNIX_EPOCH + Duration::from_millis(1))
        };
        assert_eq!(
            record(format_args!("from {}", "bob\n\x1b[2J")),
            "1970-01-01T00:00:00.001Z WARN  voipd::driver: from bob\\n\\u{1b}[2J call=7\n"
        );
    }
}
