//! The table of ways past the guard in `docs/operations.md`: what it counts there is counted, and what it
//! says is shown is shown by a test.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;

const PAGE: &str = include_str!("../../docs/operations.md");
const METRICS: &str = include_str!("../src/daemon/metrics.rs");

/// The rows, each as its cells.
fn rows() -> Vec<Vec<&'static str>> {
    let (_, table) = PAGE
        .split_once("\n## Ways past the guard\n")
        .expect("the table");
    let table = table.split("\n## ").next().expect("it ends");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    // The first row is the head, the second the rule below it.
    let rows = rows.skip(2).map(|row| {
        let row = row.trim_start_matches("| ").trim_end_matches('|');
        row.split(" | ").map(str::trim).collect()
    });
    rows.collect()
}

/// What stands between backquotes.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All that is written in Rust below `folder`.
fn read_all(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn every_way_past_the_guard_has_its_counter_its_word_and_its_test() {
    let mut sources = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in [
        "control/src",
        "control/tests",
        "dataplane/src",
        "dataplane/tests",
    ] {
        read_all(&root.join(folder), &mut sources);
    }
    let labels: Vec<&str> = DropReason::ALL
        .iter()
        .map(|reason| reason.label())
        .chain(Event::ALL.iter().map(|event| event.label()))
        .collect();
    let rows = rows();
    assert!(rows.len() >= 15, "{}", rows.len());
    for row in &rows {
        let [way, _, counted, word, shown] = row[..] else {
            panic!("{} cells: {row:?}", row.len());
        };
        for name in names(counted) {
            let is_metric = name.starts_with("tidegate_") && METRICS.contains(name);
            assert!(is_metric || labels.contains(&name), "{way}: no {name}");
        }
        assert!(word.len() > 3, "{way}: nothing tells of it");
        for name in names(shown) {
            let test = format!("fn {name}(");
            assert!(sources.contains(&test), "{way}: no test {name}");
        }
        // What is not counted is told by somebody; what no test shows is said to be not seen.
        let is_beyond = word.contains("this page") || word.contains("systemd");
        assert!(
            is_beyond || names(shown).next().is_some(),
            "{way}: nothing shows it"
        );
    }
}
