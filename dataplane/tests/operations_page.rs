//! `docs/operations.md` says of every drop reason what it suggests.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use dataplane::drop_reason::DropReason;

const PAGE: &str = include_str!("../../docs/operations.md");

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
