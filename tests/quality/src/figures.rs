//! The figures that are asked for, and whether they are met.

use std::fmt::Write as _;

use crate::report::Row;

/// What a codec may lose in a call behind a network that harms nothing.
const CALL: f64 = 0.05;
/// What jitter may cost.
const JITTER: f64 = 0.10;
/// How much better than libopus with plain FEC Opus is to be, and with how many bits per second on the wire.
const BETTER: f64 = 0.15;
const WIRE: f64 = 32_000.0;

/// Least PESQ of a cell behind a channel.
const LEAST: [(&str, &str, f64); 6] = [
    ("PCMU", "3 % random", 3.65),
    ("PCMU", "10 % random", 3.10),
    ("PCMU, RFC 2198", "3 % random", 3.85),
    ("PCMU, RFC 2198", "10 % random", 3.70),
    ("Opus, free", "3 % random", 3.60),
    ("Opus, free", "10 % random", 3.40),
];

/// One figure.
pub struct Figure {
    what: String,
    found: f64,
    limit: f64,
    /// `limit` is the most; else the least.
    at_most: bool,
}

impl Figure {
    pub fn is_met(&self) -> bool {
        // As it is printed: PESQ is not known better.
        let (found, limit) = ((100.0 * self.found).round(), (100.0 * self.limit).round());
        if self.at_most { found <= limit } else { found >= limit }
    }
}

/// Those that `rows` can tell of.
pub fn figures(rows: &[Row]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |what: String, found: f64, limit: f64, at_most: bool| {
        figures.push(Figure { what, found, limit, at_most });
    };
    let calm = |row: &&Row| row.channel.loss == 0 && row.channel.jitter == 0;
    for row in rows {
        let what = format!("{}, {}", row.cell.name, row.channel.name);
        if calm(&row) {
            add(format!("{what}: PESQ lost against the codec alone"), row.alone - row.pesq, CALL, true);
        }
        let least =
            LEAST.iter().find(|(cell, channel, _)| (*cell, *channel) == (row.cell.name, row.channel.name));
        if let Some((.., least)) = least {
            add(format!("{what}: PESQ"), row.pesq, *least, false);
        }
        if let (Some(plain_fec), Some(_), 1) = (row.plain_fec, row.cell.bandwidth, row.channel.burst) {
            add(format!("{what}: PESQ above libopus with plain FEC"), row.pesq - plain_fec, BETTER, false);
            add(format!("{what}: kbit/s on the wire"), row.wire / 1000.0, WIRE / 1000.0, true);
        }
        let undisturbed = rows.iter().find(|other| other.cell == row.cell && calm(other));
        if let (Some(undisturbed), true) = (undisturbed, row.channel.jitter > 0) {
            add(format!("{what}: PESQ that jitter costs"), undisturbed.pesq - row.pesq, JITTER, true);
        }
        add(format!("{what}: buffer, ms"), row.buffer(), row.channel.allowed, true);
    }
    figures
}

/// The figures as a table.
pub fn list(figures: &[Figure]) -> String {
    let mut list = String::from("| figure | wanted | found | |\n|---|---|---|---|\n");
    for figure in figures {
        let Figure { what, found, limit, at_most } = figure;
        let (bound, verdict) =
            (if *at_most { "at most" } else { "at least" }, if figure.is_met() { "PASS" } else { "MISS" });
        writeln!(list, "| {what} | {bound} {limit:.2} | {found:.2} | {verdict} |").unwrap();
    }
    list
}
