//! What was measured, as a table for people and as a file for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::trial::Disturbance;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was measured, such as `guard.syn` or `ndr`.
    pub scenario: String,
    /// Who was measured: `tidegate`, `testpmd-mac`, `synproxy`, …
    pub subject: String,
    /// By what, its unit last, such as `ns_per_packet`.
    pub metric: String,
    /// The median of the rounds.
    pub value: f64,
    /// The floor in the same run, by the same metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// `value` to `floor`; where the metric has no floor, absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What the ratio, or the value where there is none, should not be above (or below).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
    /// The lowest and highest round.
    pub spread: [f64; 2],
    /// What the machine took meanwhile.
    pub disturbance: Disturbance,
    /// What a reader must know beside the figure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The subject of everything that is measured in one process.
pub const TIDEGATE: &str = "tidegate";

impl Measured {
    /// A figure with its floor and its goal as a ratio to it.
    #[must_use]
    pub fn new(scenario: &str, metric: &str, rounds: &[f64], floor: f64, goal: f64) -> Self {
        Self {
            goal: Some(goal),
            ..Self::beside(scenario, metric, rounds, floor)
        }
    }

    /// A figure to set beside its floor, without a goal.
    #[must_use]
    pub fn beside(scenario: &str, metric: &str, rounds: &[f64], floor: f64) -> Self {
        Self {
            floor: Some(floor),
            ratio: Some(median(rounds) / floor),
            ..Self::alone(scenario, metric, rounds)
        }
    }

    /// A figure that has neither floor nor goal.
    #[must_use]
    pub fn alone(scenario: &str, metric: &str, rounds: &[f64]) -> Self {
        Self {
            scenario: scenario.to_owned(),
            subject: TIDEGATE.to_owned(),
            metric: metric.to_owned(),
            value: median(rounds),
            floor: None,
            ratio: None,
            goal: None,
            spread: spread(rounds),
            disturbance: Disturbance::default(),
            notes: Vec::new(),
        }
    }

    /// The same figure of another subject.
    #[must_use]
    pub fn of(self, subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            ..self
        }
    }
}

/// A line of a plot.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The plot it belongs to: series of one scenario and metric share it.
    pub scenario: String,
    /// Who was measured.
    pub subject: String,
    /// What the first number of a point is, its unit last, such as `frame_bytes`.
    pub x: String,
    /// What the second number of a point is, its unit last, such as `frames_per_s`.
    pub y: String,
    /// In the order of the first number.
    pub points: Vec<[f64; 2]>,
}

/// The middle of the values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

fn spread(values: &[f64]) -> [f64; 2] {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [low, high]
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    core: usize,
    cpu: String,
    huge_pages: bool,
    results: Vec<Measured>,
    series: Vec<Series>,
}

impl Report {
    /// An empty report of a run on this core.
    #[must_use]
    pub fn new(core: usize, huge_pages: bool) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name\t: "));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            core,
            cpu: model.unwrap_or("unknown").to_owned(),
            huge_pages,
            results: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn add(&mut self, measured: Measured) {
        self.results.push(measured);
    }

    /// Adds a line of a plot.
    pub fn plot(&mut self, series: Series) {
        self.series.push(series);
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// The table shown on a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<20} {:<20} {:>12} {:>9} {:>7} {:>7}   spread\n",
            "scenario", "metric", "value", "floor", "ratio", "goal"
        );
        let cell = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for row in &self.results {
            let _ = writeln!(
                table,
                "{:<20} {:<20} {:>12.1} {:>9} {:>7} {:>7}   {:.1} to {:.1}",
                row.scenario,
                row.metric,
                row.value,
                cell(row.floor),
                cell(row.ratio),
                cell(row.goal),
                row.spread[0],
                row.spread[1],
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_row_says_value_floor_ratio_and_goal() {
        let mut report = Report::new(1, false);
        report.add(Measured::new(
            "loop",
            "ns_per_packet",
            &[20.0, 30.0, 25.0],
            10.0,
            1.15,
        ));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["results"][0]["ratio"], 2.5);
        assert_eq!(json["results"][0]["spread"][1], 30.0);
        assert!(report.table().contains("2.50"));
    }
}
