//! The counts that were recorded, and how new ones stand beside them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a count depends on, besides the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Toolchain {
    pub(super) architecture: String,
    pub(super) rustc: String,
    pub(super) dpdk: String,
    pub(super) valgrind: String,
    /// Whether the build was optimised as a release is.
    pub(super) is_release: bool,
    /// Those of the processor's instruction sets, as valgrind imitates it, that code is chosen by.
    pub(super) features: Vec<String>,
}

impl Toolchain {
    /// What this program was built by, and the processor that it sees.
    pub(super) fn of_this() -> Self {
        Self {
            architecture: std::env::consts::ARCH.into(),
            rustc: env!("TIDEGATE_RUSTC").into(),
            dpdk: bindings::eal::version(),
            valgrind: String::new(),
            is_release: !cfg!(debug_assertions),
            features: features(),
        }
    }

    /// What is different, in words.
    fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = [
            ("architecture", &self.architecture, &other.architecture),
            ("rustc", &self.rustc, &other.rustc),
            ("DPDK", &self.dpdk, &other.dpdk),
            ("valgrind", &self.valgrind, &other.valgrind),
            ("build", &self.build(), &other.build()),
            (
                "processor",
                &self.features.join(" "),
                &other.features.join(" "),
            ),
        ];
        let different = pairs.iter().filter(|(_, recorded, now)| recorded != now);
        different
            .map(|(what, recorded, now)| format!("{what}: recorded with {recorded}, now {now}"))
            .collect()
    }

    fn build(&self) -> String {
        if self.is_release { "release" } else { "debug" }.into()
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<String> {
    let known = [
        ("aes", is_x86_feature_detected!("aes")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("vaes", is_x86_feature_detected!("vaes")),
    ];
    let there = known.into_iter().filter(|(_, is_there)| *is_there);
    there.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<String> {
    Vec::new()
}

/// Instructions for each packet, by scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Counts(BTreeMap<String, f64>);

impl Counts {
    /// Rounded to a tenth: a file that changes should change for a reason.
    pub(super) fn new(counts: impl IntoIterator<Item = (String, f64)>) -> Self {
        let counts = counts.into_iter();
        Self(
            counts
                .map(|(name, count)| (name, (count * 10.0).round() / 10.0))
                .collect(),
        )
    }

    pub(super) fn table(&self) -> String {
        let mut table = format!("{:<20} {:>12}", "scenario", "instructions");
        for (name, count) in &self.0 {
            let _ = write!(table, "\n{name:<20} {count:>12.1}");
        }
        table
    }
}

/// How much more a scenario may take than was recorded; less by as much is worth recording.
const TOLERANCE: f64 = 0.02;
/// The same where another compiler, library or processor makes other instructions of one source.
const TOLERANCE_OF_ANOTHER: f64 = 0.15;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    toolchain: Toolchain,
    tolerance: f64,
    tolerance_of_another_toolchain: f64,
    #[serde(rename = "instructions_per_packet")]
    pub(super) counts: Counts,
}

impl Record {
    pub(super) fn of(toolchain: Toolchain, counts: Counts) -> Self {
        Self {
            toolchain,
            tolerance: TOLERANCE,
            tolerance_of_another_toolchain: TOLERANCE_OF_ANOTHER,
            counts,
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let told = |error: &dyn std::fmt::Display| {
            format!(
                "{}: {error}; `make instructions` writes it anew",
                path.display()
            )
        };
        let text = fs::read_to_string(path).map_err(|error| told(&error))?;
        Ok(serde_json::from_str(&text).map_err(|error| told(&error))?)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// Sets what was counted beside what is recorded.
    ///
    /// # Errors
    /// When a scenario takes more than was recorded, or is not recorded at all.
    pub(super) fn judge(&self, now: &Self) -> Result<String, Box<dyn Error>> {
        let differences = self.toolchain.differences(&now.toolchain);
        let tolerance = match differences.is_empty() {
            true => self.tolerance,
            false => self.tolerance_of_another_toolchain,
        };
        let mut told = String::new();
        for difference in &differences {
            let _ = writeln!(told, "NOT THE SAME TOOLCHAIN: {difference}");
        }
        if !differences.is_empty() {
            let percent = tolerance * 100.0;
            let _ = writeln!(
                told,
                "so {percent:.0} % more are let pass; `make instructions` records anew"
            );
        }
        if self.toolchain.architecture != now.toolchain.architecture {
            let _ = writeln!(
                told,
                "Instructions of two architectures cannot be compared: NOTHING WAS CHECKED."
            );
            return Ok(told + &now.counts.table());
        }
        let (table, sentences, is_worse) = self.compare(&now.counts, tolerance);
        told += &table;
        for sentence in &sentences {
            let _ = write!(told, "\n{sentence}");
        }
        if is_worse { Err(told.into()) } else { Ok(told) }
    }

    /// A table, what is to be said of it, and whether that is bad.
    fn compare(&self, now: &Counts, tolerance: f64) -> (String, Vec<String>, bool) {
        let mut table = format!(
            "{:<20} {:>12} {:>12} {:>8}",
            "scenario", "recorded", "instructions", "change"
        );
        let (mut sentences, mut is_worse) = (Vec::new(), false);
        for (name, &count) in &now.0 {
            let Some(&recorded) = self.counts.0.get(name) else {
                is_worse = true;
                sentences.push(format!(
                    "{name} is not recorded: `make instructions` records it."
                ));
                continue;
            };
            let change = count / recorded - 1.0;
            let percent = change * 100.0;
            let _ = write!(
                table,
                "\n{name:<20} {recorded:>12.1} {count:>12.1} {percent:>+7.1} %"
            );
            if change > tolerance {
                is_worse = true;
                sentences.push(format!(
                    "{name} takes {percent:.1} % more instructions a packet than recorded ({count:.1}, \
                     not {recorded:.1}; {:.0} % are let pass): find out why with `valgrind \
                     --tool=callgrind`, or accept it with `make instructions` and say in the commit \
                     what it is for.",
                    tolerance * 100.0
                ));
            } else if change < -tolerance {
                sentences.push(format!(
                    "{name} takes {:.1} % fewer instructions than recorded: keep that with `make \
                     instructions`.",
                    -percent
                ));
            }
        }
        for name in self
            .counts
            .0
            .keys()
            .filter(|name| !now.0.contains_key(*name))
        {
            is_worse = true;
            sentences.push(format!(
                "{name} is recorded and no longer counted: `make instructions`."
            ));
        }
        (table, sentences, is_worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(counts: &[(&str, f64)]) -> Record {
        let toolchain = Toolchain {
            architecture: "x86_64".into(),
            rustc: "rustc 1.91.0".into(),
            ..Toolchain::default()
        };
        let counts = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        Record::of(toolchain, Counts::new(counts))
    }

    #[test]
    fn more_than_is_let_pass_fails_and_says_which_and_what_to_do() {
        let recorded = record(&[("loop", 400.0), ("guard.syn", 900.0)]);
        let judged = recorded.judge(&record(&[("loop", 407.0), ("guard.syn", 900.0)]));
        assert!(judged.is_ok(), "{judged:?}");
        let error = recorded
            .judge(&record(&[("loop", 412.0), ("guard.syn", 900.0)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("loop takes 3.0 % more"), "{error}");
        assert!(error.contains("make instructions"), "{error}");
        assert!(!error.contains("guard.syn takes"), "{error}");
    }

    #[test]
    fn fewer_pass_and_are_asked_to_be_recorded() {
        let told = record(&[("loop", 400.0)])
            .judge(&record(&[("loop", 300.0)]))
            .unwrap();
        assert!(told.contains("loop takes 25.0 % fewer"), "{told}");
    }

    #[test]
    fn another_compiler_is_said_aloud_and_given_more_room() {
        let recorded = record(&[("loop", 400.0)]);
        let mut now = record(&[("loop", 440.0)]);
        now.toolchain.rustc = "rustc 1.99.0".into();
        let told = recorded.judge(&now).unwrap();
        assert!(
            told.contains("recorded with rustc 1.91.0, now rustc 1.99.0"),
            "{told}"
        );
        now.counts = Counts::new([("loop".to_owned(), 480.0)]);
        assert!(recorded.judge(&now).is_err());
        now.toolchain.architecture = "aarch64".into();
        assert!(
            recorded
                .judge(&now)
                .unwrap()
                .contains("NOTHING WAS CHECKED")
        );
    }

    #[test]
    fn scenarios_that_came_or_went_are_to_be_recorded() {
        let recorded = record(&[("loop", 400.0)]);
        let more = recorded.judge(&record(&[("loop", 400.0), ("new", 1.0)]));
        assert!(
            more.unwrap_err()
                .to_string()
                .contains("new is not recorded")
        );
        let fewer = recorded.judge(&record(&[]));
        assert!(fewer.unwrap_err().to_string().contains("no longer counted"));
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instructions.json");
        let written = record(&[("loop", 400.04)]);
        written.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), written);
        let error = Record::read(&folder.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("make instructions"), "{error}");
    }
}
