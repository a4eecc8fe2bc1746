//! Rules that no packet can reach: a rule before them takes all that they match, or they contradict
//! themselves. What is found is so; not everything that is so is found.

use super::Checker;
use crate::profile::address::Prefix;
use crate::profile::model::{Condition, PortRange, Rule};
use yaml::Node;

/// Comparisons of conditions for one profile: thousands of rules must not hold up a start.
const MAXIMUM_STEPS: usize = 2_000_000;

/// Warns of each rule that never matches. `node` is the list of rules as it is written.
pub(super) fn check(rules: &[Rule], node: &Node, checker: &mut Checker<'_>) {
    let mut steps = 0;
    for (place, rule) in rules.iter().enumerate() {
        let mark = |line: u32| {
            let items = (0..).map(|index| node.item(index).mark);
            items
                .take(rules.len() + 1)
                .find(|mark| mark.line == line)
                .unwrap_or(node.mark)
        };
        if is_void(&rule.when) {
            checker.warning(
                mark(rule.line),
                "this rule never matches: what it asks for contradicts itself",
                "take it away, or write `any` where you mean one of several things",
            );
            continue;
        }
        let before = rules[..place].iter().find(|before| {
            steps += 1;
            steps < MAXIMUM_STEPS && covers(&before.when, &rule.when, &mut steps)
        });
        if let Some(before) = before {
            checker.warning(
                mark(rule.line),
                format!(
                    "this rule never matches: the rule of line {} takes all that it would",
                    before.line
                ),
                "move it before that one, or take it away",
            );
        }
    }
}

/// Whether every packet that `inner` matches is matched by `outer`, too.
fn covers(outer: &Condition, inner: &Condition, steps: &mut usize) -> bool {
    *steps += 1;
    if *steps >= MAXIMUM_STEPS {
        return false;
    }
    match (outer, inner) {
        (Condition::All(list), _) => list.iter().all(|part| covers(part, inner, steps)),
        (_, Condition::Any(list)) => list.iter().all(|part| covers(outer, part, steps)),
        (Condition::Any(list), _) if list.iter().any(|part| covers(part, inner, steps)) => true,
        (_, Condition::All(list)) => list.iter().any(|part| covers(outer, part, steps)),
        (Condition::Not(outer), Condition::Not(inner)) => covers(inner, outer, steps),
        (Condition::Not(outer), _) => are_apart(outer, inner),
        (Condition::Source(outer), Condition::Source(inner))
        | (Condition::Destination(outer), Condition::Destination(inner)) => {
            all_within(inner, outer, holds)
        }
        (Condition::SourcePort(outer), Condition::SourcePort(inner))
        | (Condition::DestinationPort(outer), Condition::DestinationPort(inner)) => {
            all_within(inner, outer, |outer, inner| {
                outer.first <= inner.first && inner.last <= outer.last
            })
        }
        (Condition::Protocol(outer), Condition::Protocol(inner)) => {
            all_within(inner, outer, |outer, inner| outer == inner)
        }
        (Condition::Port(outer), Condition::Port(inner)) => {
            all_within(inner, outer, |outer, inner| outer == inner)
        }
        (Condition::Vlan(outer), Condition::Vlan(inner)) => {
            all_within(inner, outer, |outer, inner| outer == inner)
        }
        (Condition::Fragment(outer), Condition::Fragment(inner)) => outer == inner,
        (Condition::TcpFlags(outer), Condition::TcpFlags(inner)) => {
            outer.set & !inner.set == 0 && outer.clear & !inner.clear == 0
        }
        _ => false,
    }
}

fn holds(outer: &Prefix, inner: &Prefix) -> bool {
    outer.length() <= inner.length() && outer.contains(inner.address())
}

fn all_within<T>(inner: &[T], outer: &[T], holds: impl Fn(&T, &T) -> bool) -> bool {
    inner
        .iter()
        .all(|one| outer.iter().any(|other| holds(other, one)))
}

/// Whether no packet is matched by both: of two conditions of one kind.
fn are_apart(one: &Condition, other: &Condition) -> bool {
    fn none<T>(one: &[T], other: &[T], meet: impl Fn(&T, &T) -> bool) -> bool {
        !one.iter()
            .any(|one| other.iter().any(|other| meet(one, other)))
    }
    let touch =
        |one: &PortRange, other: &PortRange| one.first <= other.last && other.first <= one.last;
    match (one, other) {
        (Condition::Source(one), Condition::Source(other))
        | (Condition::Destination(one), Condition::Destination(other)) => {
            none(one, other, Prefix::overlaps)
        }
        (Condition::SourcePort(one), Condition::SourcePort(other))
        | (Condition::DestinationPort(one), Condition::DestinationPort(other)) => {
            none(one, other, touch)
        }
        (Condition::Protocol(one), Condition::Protocol(other)) => none(one, other, u8::eq),
        (Condition::Port(one), Condition::Port(other)) => none(one, other, usize::eq),
        (Condition::Vlan(one), Condition::Vlan(other)) => none(one, other, u16::eq),
        (Condition::Fragment(one), Condition::Fragment(other)) => one != other,
        (Condition::TcpFlags(one), Condition::TcpFlags(other)) => {
            one.set & other.clear != 0 || one.clear & other.set != 0
        }
        _ => false,
    }
}

/// Whether no packet is matched.
fn is_void(condition: &Condition) -> bool {
    match condition {
        Condition::All(list) => {
            let parts = flat(list);
            let pairs = parts.iter().enumerate();
            list.iter().any(is_void)
                || pairs
                    .into_iter()
                    .any(|(place, one)| parts[..place].iter().any(|other| are_apart(one, other)))
        }
        Condition::Any(list) => list.iter().all(is_void),
        _ => false,
    }
}

/// The parts of a conjunction, those of conjunctions within it included.
fn flat(list: &[Condition]) -> Vec<&Condition> {
    let mut parts = Vec::new();
    for part in list {
        match part {
            Condition::All(inner) => parts.extend(flat(inner)),
            part => parts.push(part),
        }
    }
    parts
}
