//! The tables of what was measured, for people and for docs/quality.md.

use std::fmt::Write as _;
use std::path::Path;

use crate::call::Cell;
use crate::channel::{Channel, LATENCY};
use crate::corpus::VOICES;

/// Between these lines docs/quality.md holds what the last whole run found.
const BEGIN: &str = "<!-- figures: written by make quality -->";
const END: &str = "<!-- end of figures -->";

/// What a tape gives at once, in milliseconds: the first sample of a packet has waited for the rest of it by so much less.
const TAPE: f64 = 10.0;

/// Means of one cell behind one channel.
pub struct Row {
    pub cell: Cell,
    pub channel: Channel,
    pub pesq: f64,
    /// Of each voice.
    pub voices: Vec<f64>,
    /// The codec alone, and libopus with plain FEC behind the same losses.
    pub alone: f64,
    pub plain_fec: Option<f64>,
    /// Bits per second.
    pub wire: f64,
    /// How late sound came, and how late the codec alone gives it, in milliseconds.
    pub delay: f64,
    pub alone_delay: f64,
    /// Share of what was heard that was made up.
    pub concealed: f64,
    /// Share of the time that was left out or put in.
    pub stretched: f64,
    /// Mean length of a packet in milliseconds.
    pub ptime_ms: f64,
}

impl Row {
    /// Delay above the network's own and the codec's, in milliseconds: the packet, and the buffer.
    fn added(&self) -> f64 {
        self.delay - self.alone_delay + TAPE - LATENCY as f64 / 1e6
    }

    /// Buffer above the network's own delay, in milliseconds; the packet itself is none.
    pub fn buffer(&self) -> f64 {
        self.added() - self.ptime_ms
    }
}

/// What was heard with each cell behind each channel.
pub fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| | network | PESQ | codec alone | libopus, plain FEC | on the wire, kbit/s | packet, ms | buffer, ms | made up | stretched |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let fec = row.plain_fec.map_or_else(String::new, |fec| format!("{fec:.2}"));
        writeln!(
            table,
            "| {} | {} | **{:.2}** | {:.2} | {fec} | {:.1} | {:.0} | {:.0} | {:.1} % | {:.2} % |",
            row.cell.name,
            row.channel.name,
            row.pesq,
            row.alone,
            row.wire / 1000.0,
            row.ptime_ms,
            row.buffer(),
            100.0 * row.concealed,
            100.0 * row.stretched,
        )
        .unwrap();
    }
    table
}

/// PESQ of each voice.
pub fn by_voice(rows: &[Row]) -> String {
    let mut table = String::from("| | network |");
    VOICES.iter().for_each(|voice| write!(table, " {} |", voice.name).unwrap());
    table.push_str("\n|---|---|");
    VOICES.iter().for_each(|_| table.push_str("---|"));
    table.push('\n');
    for row in rows {
        write!(table, "| {} | {} |", row.cell.name, row.channel.name).unwrap();
        row.voices.iter().for_each(|score| write!(table, " {score:.2} |").unwrap());
        table.push('\n');
    }
    table
}

/// Puts the table into `page`, in the place of the one before.
pub fn write_into(page: &Path, table: &str) {
    let text = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let (before, rest) = text.split_once(BEGIN).expect("a place for the figures");
    let (_, after) = rest.split_once(END).expect("an end of the figures");
    std::fs::write(page, format!("{before}{BEGIN}\n\n{table}\n{END}{after}")).unwrap();
}
