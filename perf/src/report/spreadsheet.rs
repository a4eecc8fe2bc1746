//! The figures as comma-separated values (RFC 4180), one a row.

use std::io;

use super::line_rate::SPEEDS_GBIT;
use super::{Measured, Report};

const COLUMNS: [&str; 15] = [
    "scenario",
    "subject",
    "metric",
    "value",
    "lowest",
    "highest",
    "floor",
    "ratio",
    "goal",
    "is_met",
    "frame_bytes",
    "cores",
    "steal",
    "stalls",
    "longest_stall_us",
];

/// The whole table.
pub(super) fn text(report: &Report) -> io::Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut header: Vec<String> = COLUMNS.iter().map(|&column| column.to_owned()).collect();
    for speed in SPEEDS_GBIT {
        header.push(format!("share_of_{speed}g_per_core"));
        header.push(format!("cores_for_{speed}g"));
    }
    header.push("notes".to_owned());
    table.write_record(header)?;
    for measured in &report.results {
        table.write_record(row(report, measured))?;
    }
    let bytes = table
        .into_inner()
        .map_err(|error| io::Error::other(error.to_string()))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn row(report: &Report, measured: &Measured) -> Vec<String> {
    fn optional(value: Option<impl ToString>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    let mut row = vec![
        measured.scenario.clone(),
        measured.subject.clone(),
        measured.metric.clone(),
        measured.value.to_string(),
        measured.spread[0].to_string(),
        measured.spread[1].to_string(),
        optional(measured.floor),
        optional(measured.ratio),
        optional(measured.goal),
        optional(measured.is_met),
        optional(measured.frame_bytes),
        measured.cores.to_string(),
        measured.disturbance.steal.to_string(),
        measured.disturbance.stalls.to_string(),
        measured.disturbance.longest_stall_us.to_string(),
    ];
    for speed in SPEEDS_GBIT {
        let share = measured
            .line_rates
            .iter()
            .find(|share| share.speed_gbit == speed);
        row.push(optional(share.map(|share| share.share_per_core)));
        row.push(optional(share.map(|share| share.cores)));
    }
    let mut notes = measured.notes.clone();
    notes.extend(report.label.clone());
    row.push(notes.join("; "));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_a_row_whatever_its_notes_hold() {
        let mut report = Report::new(0, false);
        let loop_ = Measured::new("loop", "ns_per_packet", &[20.0], 10.0, 1.5);
        report.add(loop_.note("first, \"second\"\nthird"));
        report.add(Measured::alone("setups", "sessions_per_second", &[1e6]));
        let text = text(&report).unwrap();
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let columns = table.headers().unwrap().clone();
        let rows: Vec<_> = table.records().map(Result::unwrap).collect();
        let cell = |row: usize, column: &str| {
            let place = columns.iter().position(|name| name == column).unwrap();
            rows[row][place].to_owned()
        };
        assert_eq!(rows.len(), 2);
        assert_eq!([cell(0, "ratio"), cell(0, "is_met")], ["2", "false"]);
        assert_eq!(cell(0, "notes"), "first, \"second\"\nthird");
        assert_eq!(cell(0, "cores_for_10g"), "1");
        assert_eq!([cell(1, "ratio"), cell(1, "cores_for_10g")], ["", ""]);
    }
}
