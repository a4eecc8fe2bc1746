//! What a link is like at its start, and what changes when, as a file tells it.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use simulator::LinkSettings;

use super::settings::{Changes, time};

/// The largest file, in octets.
const MAXIMUM_FILE_BYTES: u64 = 1 << 20;

/// What happens to a link over its life.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// From a to b, and from b to a.
    pub(super) start: [LinkSettings; 2],
    /// In the order of their times.
    steps: Vec<Step>,
}

/// Something that changes.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    at_ns: u64,
    change: Change,
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    /// From a to b, and from b to a.
    Settings(Box<[Changes; 2]>),
    /// Both directions lose everything, or no longer do.
    Outage(bool),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct File {
    both: Changes,
    a_to_b: Changes,
    b_to_a: Changes,
    schedule: Vec<Entry>,
}

/// An entry of the schedule: changes, or an outage.
#[derive(Default)]
struct Entry {
    at_ns: u64,
    changes: [Changes; 3],
    outage_ns: Option<u64>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct InFile {
            #[serde(deserialize_with = "time")]
            at: Option<u64>,
            #[serde(default)]
            both: Changes,
            #[serde(default)]
            a_to_b: Changes,
            #[serde(default)]
            b_to_a: Changes,
            #[serde(default, deserialize_with = "time")]
            outage: Option<u64>,
        }
        let read = InFile::deserialize(from)?;
        let changes = [read.both, read.a_to_b, read.b_to_a];
        let is_changed = changes.iter().any(|changes| *changes != Changes::default());
        if is_changed == read.outage.is_some() {
            return Err(serde::de::Error::custom(
                "an entry has an `outage` or changes (`both`, `a_to_b`, `b_to_a`), one of them",
            ));
        }
        Ok(Self {
            at_ns: read.at.unwrap_or_default(),
            changes,
            outage_ns: read.outage,
        })
    }
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub(super) fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let length = fs::metadata(path).map_err(|error| told(&error))?.len();
        if length > MAXIMUM_FILE_BYTES {
            return Err(told(&"this is no description of a link: it is larger than 1 MiB").into());
        }
        let text = fs::read_to_string(path).map_err(|error| told(&error))?;
        Ok(Self::parse(&text).map_err(|error| told(&error))?)
    }

    fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        let file: File = match text.trim().is_empty() {
            true => File::default(),
            false => serde_yaml::from_str(text)?,
        };
        let mut plan = Self::default();
        for (direction, own) in plan.start.iter_mut().zip([file.a_to_b, file.b_to_a]) {
            file.both.apply(direction);
            own.apply(direction);
        }
        for entry in file.schedule {
            plan.add(&entry);
        }
        // What is due at once keeps its order.
        plan.steps.sort_by_key(|step| step.at_ns);
        Ok(plan)
    }

    fn add(&mut self, entry: &Entry) {
        let mut step = |at_ns, change| self.steps.push(Step { at_ns, change });
        if let Some(outage_ns) = entry.outage_ns {
            step(entry.at_ns, Change::Outage(true));
            step(entry.at_ns.saturating_add(outage_ns), Change::Outage(false));
            return;
        }
        let [both, a_to_b, b_to_a] = entry.changes;
        step(entry.at_ns, Change::Settings([both, both].into()));
        step(entry.at_ns, Change::Settings([a_to_b, b_to_a].into()));
    }

    /// The plan's course, from its start.
    pub(super) fn begin(&self) -> Course<'_> {
        Course {
            steps: &self.steps,
            settings: self.start,
            outages: 0,
        }
    }
}

/// A plan that is carried out.
pub(super) struct Course<'a> {
    /// Those that are not yet due.
    steps: &'a [Step],
    settings: [LinkSettings; 2],
    /// Outages that last.
    outages: u32,
}

impl Course<'_> {
    /// What holds now: from a to b, and from b to a.
    pub(super) fn settings(&self) -> [LinkSettings; 2] {
        match self.outages {
            0 => self.settings,
            _ => self.settings.map(|settings| LinkSettings {
                loss: 1.0,
                bursts: None,
                ..settings
            }),
        }
    }

    /// When something changes next.
    pub(super) fn next_ns(&self) -> u64 {
        self.steps.first().map_or(u64::MAX, |step| step.at_ns)
    }

    /// Makes the changes that are due; whether there were any.
    pub(super) fn advance(&mut self, now_ns: u64) -> bool {
        let mut has_changed = false;
        while let [step, rest @ ..] = self.steps
            && step.at_ns <= now_ns
        {
            self.steps = rest;
            has_changed = true;
            match &step.change {
                Change::Outage(true) => self.outages += 1,
                Change::Outage(false) => self.outages -= 1,
                Change::Settings(changes) => {
                    for (direction, changes) in self.settings.iter_mut().zip(changes.iter()) {
                        changes.apply(direction);
                    }
                }
            }
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    const FILE: &str = "
both: { delay: 300ms, loss: 0.1% }
a_to_b:
  rate: 10mbit
  bursts: { enter: 0.1%, leave: 25% }
schedule:
  - { at: 20s, a_to_b: { loss: 5% } }
  - at: 5s
    both:
      delay: 600ms
  - { at: 10s, outage: 500ms }
  - { at: 10200ms, outage: 1s }
";

    #[test]
    fn changes_and_outages_come_when_they_are_due() {
        let plan = Plan::parse(FILE).unwrap();
        let mut course = plan.begin();
        let loss = |course: &Course<'_>| course.settings().map(|settings| settings.loss);
        let [forward, backward] = course.settings();
        assert_eq!(
            (forward.rate_bits_per_second, backward.rate_bits_per_second),
            (10_000_000, 0)
        );
        assert_eq!(forward.bursts.map(|bursts| bursts.loss), Some(1.0));
        assert!(backward.bursts.is_none());
        assert!(!course.advance(5 * S - 1));
        assert_eq!(course.next_ns(), 5 * S);
        assert!(course.advance(5 * S));
        assert_eq!(course.settings()[1].delay_ns, 600_000_000);
        // Two outages that overlap end with the later one.
        for (at_ms, expected) in [
            (9_999, 0.001),
            (10_000, 1.0),
            (10_600, 1.0),
            (11_200, 0.001),
        ] {
            course.advance(at_ms * 1_000_000);
            assert_eq!(loss(&course), [expected; 2], "{at_ms}");
        }
        course.advance(20 * S);
        assert_eq!(loss(&course), [0.05, 0.001]);
        assert_eq!(course.next_ns(), u64::MAX);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, line, expected) in [
            ("both:\n  rate: fast\n", 2, "50mbit"),
            ("both:\n  speed: 1mbit\n", 2, "speed"),
            ("schedule:\n  - { at: 5s }\n", 2, "outage"),
            (
                "schedule:\n  - { at: 5s, outage: 1s }\n  - { at: soon, outage: 1s }\n",
                3,
                "300ms",
            ),
            ("schedule:\n  - { outage: 1s }\n", 2, "at"),
            (
                "a_to_b:\n  bursts: { enter: 1%, leave: 0% }\n",
                2,
                "never left",
            ),
        ] {
            let error = Plan::parse(text).unwrap_err();
            let (told, place) = (error.to_string(), error.location());
            assert!(told.contains(expected), "{text}: {told}");
            assert!(told.contains("column"), "{text}: {told}");
            assert_eq!(
                place.map(|place| place.line()),
                Some(line),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn an_empty_file_is_a_link_that_changes_nothing() {
        assert_eq!(Plan::parse("\n").unwrap(), Plan::default());
    }
}
