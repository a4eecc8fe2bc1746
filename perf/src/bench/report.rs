//! What was measured, as a table for people and as a file for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) scenario: &'static str,
    metric: &'static str,
    /// The median of the rounds.
    value: f64,
    /// The floor in the same run, by the same metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    /// `value` to `floor`; where the metric has no floor, absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<f64>,
    /// The lowest and highest round.
    spread: [f64; 2],
}

impl Measured {
    pub(super) fn new(
        scenario: &'static str,
        metric: &'static str,
        rounds: &[f64],
        floor: f64,
        goal: f64,
    ) -> Self {
        let value = median(rounds);
        Self {
            scenario,
            metric,
            value,
            floor: Some(floor),
            ratio: Some(value / floor),
            goal: Some(goal),
            spread: spread(rounds),
        }
    }

    /// A figure to set beside its floor, without a goal.
    pub(super) fn beside(
        scenario: &'static str,
        metric: &'static str,
        rounds: &[f64],
        floor: f64,
    ) -> Self {
        Self {
            floor: Some(floor),
            ratio: Some(median(rounds) / floor),
            ..Self::alone(scenario, metric, rounds)
        }
    }

    /// A figure that has neither floor nor goal.
    pub(super) fn alone(scenario: &'static str, metric: &'static str, rounds: &[f64]) -> Self {
        Self {
            scenario,
            metric,
            value: median(rounds),
            floor: None,
            ratio: None,
            goal: None,
            spread: spread(rounds),
        }
    }
}

/// The middle of the values.
pub(super) fn median(values: &[f64]) -> f64 {
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
pub(super) struct Report {
    version: &'static str,
    core: usize,
    cpu: String,
    huge_pages: bool,
    results: Vec<Measured>,
}

impl Report {
    pub(super) fn new(core: usize, huge_pages: bool) -> Self {
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
        }
    }

    pub(super) fn add(&mut self, measured: Measured) {
        self.results.push(measured);
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// The table shown on a terminal.
    pub(super) fn table(&self) -> String {
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
