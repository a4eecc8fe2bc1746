//! Pages that speak of the code say what it is: `docs/operations.md` of every drop reason what it
//! suggests, `docs/architecture.md` of all state which test shows what may change it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dataplane::drop_reason::DropReason;

const PAGE: &str = include_str!("../../docs/operations.md");
const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");

#[test]
fn every_drop_reason_has_its_line() {
    let (_, table) = PAGE
        .split_once("| reason | what it suggests |")
        .expect("the table of drop reasons");
    let told: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(" |").next())
        .flat_map(|reasons| reasons.split(", "))
        .map(|reason| reason.trim_matches('`'))
        .collect();
    let known: BTreeSet<&str> = DropReason::ALL
        .iter()
        .map(|reason| reason.label())
        .collect();
    let missing: Vec<_> = known.difference(&told).collect();
    let stale: Vec<_> = told.difference(&known).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing: {missing:?}, stale: {stale:?}"
    );
}

/// All that is written in Rust below `folder`.
fn read_all(folder: &Path, into: &mut String) {
    let entries = fs::read_dir(folder).expect("a folder");
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a text"));
        }
    }
}

#[test]
fn each_row_of_what_a_packet_can_change_names_tests_that_there_are() {
    let (_, table) = ARCHITECTURE
        .split_once("## What a packet can change")
        .expect("the table of state");
    let table = table.split("\n## ").next().expect("it ends");
    let mut sources = String::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests", "simulator/src", "simulator/tests"] {
        read_all(&here.join(folder), &mut sources);
    }
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    // The first row is the head, the second the rule below it.
    for row in rows.skip(2) {
        let cell = row.trim_end_matches(" |").rsplit(" | ").next();
        let names: Vec<_> = cell
            .expect("a cell")
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(!names.is_empty(), "nothing shows: {row}");
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")),
                "no such test: {name}"
            );
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
