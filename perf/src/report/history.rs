//! Earlier runs of this machine, one line of JSON each, beside the report.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Measured, Report};

/// The file's name, beside the report.
const FILE: &str = "history.jsonl";
/// The most runs that are kept, of all machines together; the oldest go.
const RUNS: usize = 500;
/// A file that is longer is not one of ours.
const LONGEST_BYTES: u64 = 64 << 20;

/// One run, as far as later ones are compared with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) machine: String,
    pub(super) started_unix_s: u64,
    pub(super) commit: String,
    pub(super) figures: Vec<Figure>,
}

/// What a figure is, and what it was then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) scenario: String,
    pub(super) subject: String,
    pub(super) metric: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) frame_bytes: Option<f64>,
    pub(super) value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<f64>,
}

impl Figure {
    fn of(measured: &Measured) -> Self {
        Self {
            scenario: measured.scenario.clone(),
            subject: measured.subject.clone(),
            metric: measured.metric.clone(),
            frame_bytes: measured.frame_bytes,
            value: measured.value,
            ratio: measured.ratio,
        }
    }

    /// Whether it is the same figure as this one, measured at another time.
    pub(super) fn is(&self, measured: &Measured) -> bool {
        self.scenario == measured.scenario
            && self.subject == measured.subject
            && self.metric == measured.metric
            && self.frame_bytes == measured.frame_bytes
    }

    /// What is compared: the ratio where there is one, as it means the same on a busy day.
    pub(super) fn compared(&self) -> f64 {
        self.ratio.unwrap_or(self.value)
    }
}

/// The runs of this machine before this one, the oldest first, and adds this one to the file.
pub(super) fn extend(folder: &Path, report: &Report) -> io::Result<Vec<Run>> {
    let path = folder.join(FILE);
    let mut runs = read(&path)?;
    let earlier = runs.iter().filter(|run| {
        run.machine == report.machine.id && run.started_unix_s < report.started_unix_s
    });
    let earlier = earlier.cloned().collect();
    let this = Run {
        machine: report.machine.id.clone(),
        started_unix_s: report.started_unix_s,
        commit: report.commit.clone(),
        figures: report.results.iter().map(Figure::of).collect(),
    };
    // A report that is written again in one run, after each part of it, is one run.
    let is_this =
        |run: &Run| run.machine == this.machine && run.started_unix_s == this.started_unix_s;
    runs.retain(|run| !is_this(run));
    if !this.figures.is_empty() {
        runs.push(this);
    }
    let first = runs.len().saturating_sub(RUNS);
    let mut text = String::new();
    for run in &runs[first..] {
        text.push_str(&serde_json::to_string(run)?);
        text.push('\n');
    }
    super::replace(&path, &text)?;
    Ok(earlier)
}

/// Lines that are no runs, such as those of another version, are left out.
fn read(path: &Path) -> io::Result<Vec<Run>> {
    match fs::metadata(path) {
        Ok(file) if file.len() > LONGEST_BYTES => {
            return Err(io::Error::other(format!(
                "{} is too long to be a history of runs; move it away",
                path.display()
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(started_unix_s: u64, value: f64) -> Report {
        let mut report = Report::new(0, false);
        report.started_unix_s = started_unix_s;
        report.add(Measured::alone("loop", "ns_per_packet", &[value]));
        report
    }

    #[test]
    fn each_run_sees_the_ones_before_it_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(extend(folder.path(), &report(1, 10.0)).unwrap().is_empty());
        let mut other = report(2, 99.0);
        other.machine.id = "another".to_owned();
        assert!(extend(folder.path(), &other).unwrap().is_empty());
        let third = report(3, 11.0);
        let earlier = extend(folder.path(), &third).unwrap();
        assert_eq!(earlier.len(), 1);
        assert!(earlier[0].figures[0].is(&third.results[0]));
        assert_eq!(earlier[0].figures[0].compared(), 10.0);
    }

    #[test]
    fn a_report_written_twice_is_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let report = report(1, 10.0);
        extend(folder.path(), &report).unwrap();
        assert!(extend(folder.path(), &report).unwrap().is_empty());
        assert_eq!(read(&folder.path().join(FILE)).unwrap().len(), 1);
    }

    #[test]
    fn the_history_is_bounded_and_survives_strange_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let line = serde_json::to_string(&Run {
            machine: "m".to_owned(),
            started_unix_s: 1,
            commit: String::new(),
            figures: Vec::new(),
        });
        let line = line.unwrap() + "\n";
        fs::write(&path, line.repeat(RUNS + 7) + "{\"not\": 1}\n\u{1}\n").unwrap();
        extend(folder.path(), &report(5, 1.0)).unwrap();
        let runs = read(&path).unwrap();
        assert_eq!(runs.len(), RUNS);
        assert_eq!(runs[RUNS - 1].started_unix_s, 5);
    }
}
