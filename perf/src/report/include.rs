//! What other runs of one measurement have told, taken into one report.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::{Cost, Measured, Report, Series};

/// What is taken from the file of another run.
#[derive(Debug, Deserialize)]
struct Included {
    is_partial: bool,
    label: Option<String>,
    subjects: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    notes: Vec<String>,
    results: Vec<Measured>,
    series: Vec<Series>,
    costs: Vec<Cost>,
}

impl Report {
    /// Takes the figures, plots, subjects and parameters of a `report.json` in. What held for all
    /// of its figures is said of each of them; parameters are told by the file's folder.
    ///
    /// # Errors
    /// When there is no such file, or it is no report.
    pub fn include(&mut self, path: &Path) -> io::Result<()> {
        let failed = |error: &dyn std::fmt::Display| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {error}", path.display()),
            )
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let included: Included = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let name = folder.to_string_lossy();
        if included.is_partial {
            self.partial(&format!("{name} ended before everything was measured"));
        }
        for mut measured in included.results {
            measured.notes.extend(included.label.clone());
            self.add(measured);
        }
        self.series.extend(included.series);
        self.costs.extend(included.costs);
        self.notes.extend(included.notes);
        self.subjects.extend(included.subjects);
        let parameters = included.parameters.into_iter();
        self.parameters
            .extend(parameters.map(|(key, value)| (format!("{name}: {key}"), value)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::FUNCTIONAL;

    #[test]
    fn figures_of_another_run_are_told_with_what_held_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut other = Report::new(0, false);
        other.devices(["net_memif0"], false);
        other.subject("testpmd-mac", "DPDK 22.11");
        other.parameter("rounds", 3);
        other.add(Measured::new(
            "loop.memif.64",
            "ns_per_packet",
            &[50.0],
            40.0,
            1.15,
        ));
        other.plot(Series::new(
            "ndr",
            "testpmd-mac",
            "frame_bytes",
            "frames_per_s",
            vec![[60.0, 1e6]],
        ));
        other.note("haproxy is skipped");
        other.write_all(folder.path()).unwrap();
        let path = folder.path().join("report.json");
        let mut report = Report::new(1, false);
        report.include(&path).unwrap();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["results"][0]["ratio"], 1.25);
        assert_eq!(json["results"][0]["is_met"], false);
        assert_eq!(json["results"][0]["notes"][0], FUNCTIONAL);
        assert_eq!(json["series"][0]["points"][0][1], 1e6);
        assert_eq!(json["subjects"]["testpmd-mac"], "DPDK 22.11");
        assert_eq!(json["notes"][0], "haproxy is skipped");
        assert!(json["label"].is_null());
    }

    #[test]
    fn what_is_no_report_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let missing = Report::new(0, false).include(&path).unwrap_err();
        assert!(missing.to_string().contains("report.json"), "{missing}");
        std::fs::write(&path, "{}").unwrap();
        let wrong = Report::new(0, false).include(&path).unwrap_err();
        assert!(wrong.to_string().contains("report.json"), "{wrong}");
    }
}
