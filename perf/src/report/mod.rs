//! What was measured: as a table for a terminal, a page for people, and files for programs.
//!
//! [`Report::add`] takes figures, [`Report::plot`] lines of plots, [`Report::cost`] where a
//! packet's time goes. [`Report::write_all`] writes `report.json` (whose schema is
//! `perf/report.schema.json`), `report.csv` and `report.html`. A run that was interrupted calls
//! [`Report::partial`] and writes what there is.

mod conclusion;
pub mod disturbance;
mod figure;
mod history;
mod include;
pub mod line_rate;
mod machine;
mod page;
mod schema;
mod spreadsheet;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::Serialize;

use self::disturbance::Watch;
use self::machine::Machine;
use crate::trial::Disturbance;

pub use self::figure::{
    Cost, FRAMES_PER_S, Measured, NS_PER_PACKET, Series, Stage, TIDEGATE, axis, median,
};
pub use self::schema::json_schema_text;

/// Said of figures that virtual devices gave.
pub const FUNCTIONAL: &str = "functional, not line rate";

/// Everything of one run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Report of tidegate-perf")]
pub struct Report {
    /// The version of this program.
    version: String,
    /// The commit of this program's sources, or `unknown`.
    commit: String,
    /// DPDK's version, as the library says it.
    dpdk: String,
    /// The command line of this run.
    command: Vec<String>,
    /// When this run began, in seconds since 1970 UTC.
    started_unix_s: u64,
    /// How long it took, in seconds.
    took_s: f64,
    /// Whether it ended before everything was measured.
    is_partial: bool,
    /// What holds for every figure, such as `functional, not line rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// What it ran on.
    machine: Machine,
    /// The core that measured.
    core: usize,
    /// The processor's name.
    cpu: String,
    /// Whether packet memory was in huge pages.
    huge_pages: bool,
    /// The devices between which frames went, as they were given.
    devices: Vec<String>,
    /// Who was measured, and of which version.
    subjects: BTreeMap<String, String>,
    /// What was chosen: the parameters of searches, rounds, seeds.
    parameters: BTreeMap<String, String>,
    /// What the machine took over the whole run.
    disturbance: Disturbance,
    /// What a reader must know besides.
    notes: Vec<String>,
    /// The figures.
    results: Vec<Measured>,
    /// The lines of plots.
    series: Vec<Series>,
    /// Where a packet's time goes.
    costs: Vec<Cost>,
    #[serde(skip)]
    began: Instant,
    #[serde(skip)]
    watch: Watch,
}

impl Report {
    /// An empty report of a run on this core.
    #[must_use]
    pub fn new(core: usize, huge_pages: bool) -> Self {
        let machine = Machine::of_this();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: machine::commit(),
            dpdk: bindings::eal::version(),
            command: machine::command(),
            started_unix_s: now.map_or(0, |now| now.as_secs()),
            took_s: 0.0,
            is_partial: false,
            label: None,
            core,
            cpu: machine.cpu.clone(),
            machine,
            huge_pages,
            devices: Vec::new(),
            subjects: BTreeMap::new(),
            parameters: BTreeMap::new(),
            disturbance: Disturbance::default(),
            notes: Vec::new(),
            results: Vec::new(),
            series: Vec::new(),
            costs: Vec::new(),
            began: Instant::now(),
            watch: Watch::begin(&[]),
        }
    }

    /// Adds a figure. One that is no number is a note instead.
    pub fn add(&mut self, mut measured: Measured) {
        let [low, high] = measured.spread;
        if ![measured.value, low, high]
            .iter()
            .all(|value| value.is_finite())
        {
            let Measured {
                scenario, metric, ..
            } = &measured;
            self.notes
                .push(format!("{scenario}: no {metric} was measured."));
            return;
        }
        measured.complete();
        self.results.push(measured);
    }

    /// Adds a line of a plot, without the points that are no numbers.
    pub fn plot(&mut self, mut series: Series) {
        series
            .points
            .retain(|point| point.iter().all(|value| value.is_finite()));
        self.series.push(series);
    }

    /// Adds points to a line of a plot, which is begun where there is none yet.
    pub fn extend(&mut self, more: Series) {
        let key = |series: &Series| {
            let Series {
                scenario,
                subject,
                x,
                y,
                ..
            } = series;
            [scenario, subject, x, y].map(String::clone)
        };
        match self.series.iter_mut().find(|line| key(line) == key(&more)) {
            Some(line) => line.points.extend(more.points),
            None => self.series.push(more),
        }
    }

    /// Adds where a packet's time goes.
    pub fn cost(&mut self, cost: Cost) {
        self.costs.push(cost);
    }

    /// Says between which devices frames go, and whether frames on a cable pass them; where not,
    /// every figure is labelled so.
    pub fn devices<'a>(&mut self, devices: impl IntoIterator<Item = &'a str>, is_physical: bool) {
        self.devices.extend(devices.into_iter().map(str::to_owned));
        if !is_physical {
            self.label = Some(FUNCTIONAL.to_owned());
        }
    }

    /// Says who is measured, and of which version.
    pub fn subject(&mut self, name: &str, version: &str) {
        self.subjects.insert(name.to_owned(), version.to_owned());
    }

    /// Says what was chosen.
    pub fn parameter(&mut self, name: &str, value: impl ToString) {
        self.parameters.insert(name.to_owned(), value.to_string());
    }

    /// Says what a reader must know besides.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says that the run ended before everything was measured, and why.
    pub fn partial(&mut self, why: &str) {
        self.is_partial = true;
        self.notes
            .push(format!("Not everything was measured: {why}."));
    }

    /// What the figures come to, in sentences.
    fn conclusions(&self) -> Vec<String> {
        let flood = conclusion::under_flood(&self.results);
        flood
            .into_iter()
            .chain(conclusion::limits(&self.results))
            .collect()
    }

    /// The figures so far.
    #[must_use]
    pub fn results(&self) -> &[Measured] {
        &self.results
    }

    /// Writes `report.json` and its companions into the folder.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write_all(&mut self, folder: &Path) -> io::Result<()> {
        self.write(&folder.join("report.json"))
    }

    /// Writes the report as JSON, and its companions beside it.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write(&mut self, path: &Path) -> io::Result<()> {
        self.took_s = self.began.elapsed().as_secs_f64();
        self.disturbance = self.watch.end();
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder != Path::new("") {
            fs::create_dir_all(folder)?;
        }
        let json = serde_json::to_string_pretty(self)? + "\n";
        replace(path, &json)?;
        replace(&path.with_extension("csv"), &spreadsheet::text(self)?)?;
        let earlier = history::extend(folder, self)?;
        replace(&path.with_extension("html"), &page::page(self, &earlier))
    }

    /// Writes the report as it would stand if the run ended here: partial.
    ///
    /// # Errors
    /// When the folder or a file cannot be written.
    pub fn write_so_far(&mut self, path: &Path) -> io::Result<()> {
        let (is_partial, notes) = (self.is_partial, self.notes.clone());
        if !is_partial {
            self.partial("interrupted");
        }
        let written = self.write(path);
        (self.is_partial, self.notes) = (is_partial, notes);
        written
    }

    /// The table shown on a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let has_peers = self.results.iter().any(|row| row.subject != TIDEGATE);
        let mut table = String::new();
        let label = self.label.as_ref().map(|label| format!("{label}\n"));
        table.push_str(&label.unwrap_or_default());
        let subject = |name: &str| match has_peers {
            true => format!("{name:<16} "),
            false => String::new(),
        };
        let width = |of: fn(&Measured) -> &str| {
            let lengths = self.results.iter().map(|row| of(row).len());
            lengths.max().unwrap_or(0).max(20)
        };
        let (first, third) = (width(|row| &row.scenario), width(|row| &row.metric));
        let _ = writeln!(
            table,
            "{:<first$} {}{:<third$} {:>12} {:>9} {:>7} {:>7}   spread",
            "scenario",
            subject("subject"),
            "metric",
            "value",
            "floor",
            "ratio",
            "goal"
        );
        let cell = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        // Many rows have the same notes: they stand once, below.
        let mut notes: Vec<&str> = Vec::new();
        for row in &self.results {
            let _ = write!(
                table,
                "{:<first$} {}{:<third$} {:>12.1} {:>9} {:>7} {:>7}   {:.1} to {:.1}",
                row.scenario,
                subject(&row.subject),
                row.metric,
                row.value,
                cell(row.floor),
                cell(row.ratio),
                cell(row.goal),
                row.spread[0],
                row.spread[1],
            );
            for note in &row.notes {
                let known = notes.iter().position(|known| known == note);
                let place = known.unwrap_or(notes.len());
                if known.is_none() {
                    notes.push(note);
                }
                let _ = write!(table, " [{}]", place + 1);
            }
            table.push('\n');
        }
        for (place, note) in notes.iter().enumerate() {
            let _ = writeln!(table, "[{}] {note}", place + 1);
        }
        for note in &self.notes {
            let _ = writeln!(table, "{note}");
        }
        for sentence in self.conclusions() {
            let _ = writeln!(table, "{sentence}");
        }
        table
    }
}

/// Puts a text in a file's place: whoever interrupts this leaves the old one whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_value_floor_ratio_and_goal() {
        let mut report = Report::new(1, false);
        report.add(Measured::new(
            "loop",
            NS_PER_PACKET,
            &[20.0, 30.0, 25.0],
            10.0,
            1.15,
        ));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["results"][0]["ratio"], 2.5);
        assert_eq!(json["results"][0]["spread"][1], 30.0);
        assert_eq!(json["results"][0]["is_met"], false);
        assert!(report.table().contains("2.50"));
    }

    #[test]
    fn what_is_written_on_the_way_is_partial_and_the_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.json");
        let is_partial = || {
            let json: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (
                json["is_partial"].clone(),
                json["notes"].as_array().unwrap().len(),
            )
        };
        let mut report = Report::new(0, false);
        report.write_so_far(&path).unwrap();
        assert_eq!(is_partial(), (true.into(), 1));
        report.write(&path).unwrap();
        assert_eq!(is_partial(), (false.into(), 0));
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["history.jsonl", "other.csv", "other.html", "other.json"]
        );
    }

    #[test]
    fn what_virtual_devices_gave_is_labelled() {
        let mut report = Report::new(0, false);
        report.devices(["net_memif0,role=client"], false);
        assert!(report.table().starts_with("functional, not line rate"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["label"], FUNCTIONAL);
        assert_eq!(json["devices"][0], "net_memif0,role=client");
    }

    #[test]
    fn a_note_of_many_rows_stands_once_below_the_table() {
        let mut report = Report::new(1, false);
        for (scenario, notes) in [("a", vec!["both"]), ("b", vec!["both", "b alone"])] {
            let mut row = Measured::alone(scenario, "frames_per_s", &[1.0]);
            row.notes = notes.into_iter().map(str::to_owned).collect();
            report.add(row);
        }
        let table = report.table();
        assert!(table.contains("1.0 to 1.0 [1]\n"), "{table}");
        assert!(table.contains("1.0 to 1.0 [1] [2]\n"), "{table}");
        assert!(table.ends_with("[1] both\n[2] b alone\n"), "{table}");
    }

    #[test]
    fn an_interrupted_run_writes_a_valid_report_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new(0, false);
        report.add(Measured::alone("ndr", FRAMES_PER_S, &[1e6]).of("testpmd-mac"));
        report.partial("interrupted");
        report.write_all(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("report.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["is_partial"], true);
        assert!(json["notes"][0].as_str().unwrap().ends_with("interrupted."));
        assert!(json["took_s"].as_f64().unwrap() >= 0.0);
    }
}
