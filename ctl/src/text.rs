//! Text for terminals: makes strangers' words harmless, and lays out tables, bars and times.

use std::time::Duration;

/// Longest cell of a table; a stranger chooses the length of a name.
const CELL: usize = 64;

/// The text without anything that moves a cursor, rings a bell or turns the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect()
}

fn harmless(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    let unseen = matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    !(c.is_control() || turns || breaks || unseen)
}

/// The text with each control character as a picture of itself (`␛`), and whatever else misleads as a replacement.
pub(crate) fn visible(text: &str) -> String {
    let picture = |c: char| match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        c if harmless(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    };
    text.chars().map(picture).collect()
}

/// At most so many characters, with an ellipsis where text was cut off.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of columns that stand below each other. Cells are cleaned.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let clean_rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cut(&clean(cell), CELL)).collect()).collect();
    let header: Vec<String> = header.iter().map(|&h| h.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(&clean_rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.into_iter().map(line).collect()
}

/// `0:07`, `12:34`, `1:00:00`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A level in dBov as ten cells from -60 to 0, and in figures.
pub(crate) fn level(dbov: f64) -> String {
    const CELLS: f64 = 10.0;
    let share = ((dbov + 60.0) / 60.0).clamp(0.0, 1.0);
    // NaN casts to 0.
    let full = (share * CELLS).round() as usize;
    let bar: String = (0..CELLS as usize).map(|cell| if cell < full { '#' } else { '.' }).collect();
    if dbov > -120.0 { format!("[{bar}] {dbov:>4.0} dB") } else { format!("[{bar}] silent ") }
}

/// A level in dBov in little room.
pub(crate) fn meter(dbov: f64) -> String {
    const CELLS: f64 = 6.0;
    let full = (((dbov + 60.0) / 60.0).clamp(0.0, 1.0) * CELLS).round() as usize;
    let bar: String = (0..CELLS as usize).map(|cell| if cell < full { '#' } else { '.' }).collect();
    format!("{bar} {:>4.0}", dbov.max(-127.0))
}

/// Microseconds since 1970 as `2026-11-21T02:08:49.123Z`.
pub(crate) fn instant(unix_micros: u64) -> String {
    let (days, in_day) = (unix_micros / 86_400_000_000, unix_micros % 86_400_000_000);
    let (year, month, day) = date(days);
    let millis = in_day / 1000;
    let (hour, minute, second, milli) =
        (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60, millis % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Day, month and year of the Gregorian calendar, so many days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March put the leap day at their end: then the days before a month follow a straight line.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Microseconds since 1970, now.
pub(crate) fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_name_cannot_write_over_the_screen() {
        assert_eq!(clean("Bob\x1b[2J\x07\r\n"), "Bob\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(clean("\u{9b}31m \u{202e}gnp.exe\u{2028}"), "\u{fffd}31m \u{fffd}gnp.exe\u{fffd}");
        assert_eq!(clean("Zoë Åström 李"), "Zoë Åström 李");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows =
            [vec!["1".into(), "Zoë".into(), "a\tb".into()], vec!["12".into(), String::new(), "x".repeat(99)]];
        let lines = table(&["#", "NAME", "REST"], &rows);
        assert_eq!(lines[0], "#   NAME  REST");
        assert_eq!(lines[1], "1   Zoë   a\u{fffd}b");
        assert_eq!(lines[2].chars().count(), 10 + CELL);
        assert!(lines[2].ends_with('…'));
    }

    #[test]
    fn durations_read_like_a_telephone_bill() {
        assert_eq!(clock(Duration::from_millis(7999)), "0:07");
        assert_eq!(clock(Duration::from_secs(754)), "12:34");
        assert_eq!(clock(Duration::from_secs(3600)), "1:00:00");
    }

    #[test]
    fn levels_fill_the_bar() {
        assert_eq!(level(0.0), "[##########]    0 dB");
        assert_eq!(level(-30.0), "[#####.....]  -30 dB");
        assert_eq!(level(-127.0), "[..........] silent ");
        assert_eq!(level(f64::NAN), "[..........] silent ");
        assert_eq!(level(12.0), "[##########]   12 dB");
        assert_eq!(meter(-30.0), "###...  -30");
        assert_eq!(meter(f64::NEG_INFINITY), "...... -127");
    }

    #[test]
    fn days_fall_on_their_dates() {
        assert_eq!(instant(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(instant(951_782_400_000_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(instant(1_795_226_929_123_456), "2026-11-21T02:08:49.123Z");
        assert_eq!(instant(4_107_542_399_000_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(instant(4_107_542_400_000_000), "2100-03-01T00:00:00.000Z");
    }
}
