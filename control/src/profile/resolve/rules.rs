//! The `rules` section.

use dataplane::limits::MAX_CONDITIONS;

use super::Checker;
use super::words::{joined, not_empty, port_ranges, prefixes, protocols, tcp_flags};
use crate::profile::address::Prefix;
use crate::profile::model::{Action, Condition, Port, Rule};
use crate::profile::raw::{RawAction, RawCondition, RawRule};
use crate::profile::raw_words::OneOrMany;
use crate::profile::{MAXIMUM_CONDITION_DEPTH, MAXIMUM_RULES};
use yaml::Node;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn action(raw: RawAction) -> Action {
    match raw {
        RawAction::Deny => Action::Deny,
        RawAction::Reject => Action::Reject,
        RawAction::Forward => Action::Forward,
        RawAction::Guard => Action::Guard,
    }
}

/// What rules may refer to.
pub(super) struct Given<'a> {
    pub(super) ports: &'a [Port],
    pub(super) has_guard: bool,
    pub(super) has_replication: bool,
}

pub(super) fn resolve(
    raw: &[RawRule],
    given: &Given<'_>,
    root: &Node,
    checker: &mut Checker<'_>,
) -> (Vec<Rule>, Action) {
    let node = root.get("rules");
    let has_guard = given.has_guard;
    let unwritten = if has_guard {
        Action::Guard
    } else {
        Action::Forward
    };
    if raw.is_empty() {
        return (Vec::new(), unwritten);
    }
    let count = raw.iter().filter(|rule| rule.default.is_none()).count();
    if count > MAXIMUM_RULES {
        checker.error(
            node.mark,
            format!("{count} rules are too many"),
            format!("write at most {MAXIMUM_RULES}"),
        );
        return (Vec::new(), unwritten);
    }
    let mut rules = Vec::new();
    let mut default = None;
    for (index, raw) in raw.iter().enumerate() {
        let node = node.item(index);
        for (key, written) in [("then", raw.then), ("default", raw.default)] {
            if written == Some(RawAction::Guard) && !has_guard {
                checker.error(
                    node.get(key).mark,
                    "the profile has no guard to give packets to",
                    "add a `guard:` section, or write `forward`, `deny` or `reject`",
                );
            }
        }
        if let Some((line, _)) = default {
            checker.error(
                node.mark,
                format!("this rule stands after the default of line {line}, so it never matches"),
                "move the default to the end, and keep one of it",
            );
        }
        if let Some(found) = raw.default {
            default = default.or(Some((node.mark.line, action(found))));
        }
        rules.extend(rule(raw, given, node, checker));
    }
    let conditions: usize = rules.iter().map(|rule| tests(&rule.when)).sum();
    if conditions > MAX_CONDITIONS {
        checker.error(
            node.mark,
            format!("the rules ask {conditions} things in all"),
            format!("write at most {MAX_CONDITIONS}; each prefix and each range of a list is one"),
        );
    }
    if rules.len() == count {
        super::reach::check(&rules, node, checker);
    }
    let Some((_, default)) = default else {
        checker.error(
            node.key_mark(),
            "the rules have no default",
            "add `- { default: guard }`, or another action, at the end",
        );
        return (rules, unwritten);
    };
    (rules, default)
}

/// Only what is guarded is shared, and only where there is somebody to share it with.
fn check_share(raw: &RawRule, given: &Given<'_>, node: &Node, checker: &mut Checker<'_>) {
    if raw.share.is_none() {
        return;
    }
    let mark = node.get("share").key_mark();
    if raw.then != Some(RawAction::Guard) {
        checker.error(
            mark,
            "only sessions that are guarded are shared",
            "write `then: guard`, or take `share` away",
        );
    } else if !given.has_replication {
        checker.error(
            mark,
            "there is no other guard to share sessions with",
            "add a `replication:` section, or take `share` away",
        );
    }
}

/// How many single things the packet path asks for a condition.
fn tests(condition: &Condition) -> usize {
    match condition {
        Condition::All(list) | Condition::Any(list) => list.iter().map(tests).sum(),
        Condition::Not(inner) => tests(inner),
        Condition::Source(list) | Condition::Destination(list) => list.len(),
        Condition::SourcePort(list) | Condition::DestinationPort(list) => list.len(),
        Condition::Protocol(list) => list.len(),
        Condition::Port(list) => list.len(),
        Condition::Vlan(list) => list.len(),
        Condition::Fragment(_) | Condition::TcpFlags(_) => 1,
    }
}

fn rule(raw: &RawRule, given: &Given<'_>, node: &Node, checker: &mut Checker<'_>) -> Option<Rule> {
    check_share(raw, given, node, checker);
    if raw.default.is_some() {
        if raw.when.is_some() || raw.then.is_some() {
            checker.error(
                node.get("default").key_mark(),
                "a rule has either a default, or `when` and `then`",
                "write the default as an item of its own at the end",
            );
        }
        return None;
    }
    let when = raw.when.as_ref().and_then(|when| {
        let mut scene = Scene {
            ports: given.ports,
            checker,
            depth: 0,
        };
        scene.condition(when, node.get("when"))
    });
    match (&raw.when, raw.then) {
        (Some(_), Some(then)) => when.map(|when| Rule {
            when,
            then: action(then),
            share: raw.share.map(super::replication::share),
            line: node.mark.line,
        }),
        (Some(_), None) => {
            checker.error(
                node.mark,
                "the rule does not say what to do",
                "add `then: deny`, `reject`, `forward` or `guard`",
            );
            None
        }
        (None, _) => {
            checker.error(
                node.mark,
                "the rule does not say what it matches",
                "add `when: { … }`, or write `default: …` if it is the last",
            );
            None
        }
    }
}

struct Scene<'a, 'b> {
    ports: &'a [Port],
    checker: &'a mut Checker<'b>,
    depth: usize,
}

impl Scene<'_, '_> {
    /// A map's condition: all of its keys; `None` if it has none or if one is wrong.
    fn condition(&mut self, raw: &RawCondition, node: &Node) -> Option<Condition> {
        if self.depth >= MAXIMUM_CONDITION_DEPTH {
            self.checker.error(
                node.mark,
                format!("conditions are nested more than {MAXIMUM_CONDITION_DEPTH} deep"),
                "write it flatter",
            );
            return None;
        }
        self.depth += 1;
        let errors = self.checker.errors();
        let mut parts = Vec::new();
        self.trees(raw, node, &mut parts);
        self.addresses(raw, node, &mut parts);
        self.transport(raw, node, &mut parts);
        self.link(raw, node, &mut parts);
        self.depth -= 1;
        if self.checker.errors() > errors {
            return None;
        }
        if parts.len() > 1 {
            return Some(Condition::All(parts));
        }
        if parts.is_empty() {
            self.checker.error(
                node.mark,
                "this condition says nothing",
                "add a key such as `source`, `destination_port` or `protocol`",
            );
        }
        parts.pop()
    }

    fn trees(&mut self, raw: &RawCondition, node: &Node, parts: &mut Vec<Condition>) {
        if let Some(all) = &raw.all {
            parts.push(Condition::All(self.list(all, node.get("all"))));
        }
        if let Some(any) = &raw.any {
            parts.push(Condition::Any(self.list(any, node.get("any"))));
        }
        if let Some(not) = &raw.not
            && let Some(inner) = self.condition(not, node.get("not"))
        {
            parts.push(Condition::Not(Box::new(inner)));
        }
    }

    fn list(&mut self, list: &[RawCondition], node: &Node) -> Vec<Condition> {
        if list.is_empty() {
            self.checker
                .error(node.mark, "this list is empty", "add a condition");
        }
        let items = list.iter().enumerate();
        items
            .filter_map(|(index, raw)| self.condition(raw, node.item(index)))
            .collect()
    }

    fn addresses(&mut self, raw: &RawCondition, node: &Node, parts: &mut Vec<Condition>) {
        let mut read = |key: &str, list: &Option<OneOrMany<String>>| {
            list.as_ref()
                .map(|list| prefixes(self.checker, node.get(key), list))
        };
        let source = read("source", &raw.source);
        let destination = read("destination", &raw.destination);
        let family = |prefixes: &[Prefix], ipv4| prefixes.iter().any(|one| one.is_ipv4() == ipv4);
        if let (Some(source), Some(destination)) = (&source, &destination)
            && !source.is_empty()
            && !destination.is_empty()
            && ![true, false]
                .into_iter()
                .any(|v4| family(source, v4) && family(destination, v4))
        {
            self.checker.error(
                node.get("destination").mark,
                "source and destination are of different families, so this never matches",
                "write both as IPv4 or both as IPv6",
            );
        }
        parts.extend(source.map(Condition::Source));
        parts.extend(destination.map(Condition::Destination));
    }

    fn transport(&mut self, raw: &RawCondition, node: &Node, parts: &mut Vec<Condition>) {
        let protocols = raw
            .protocol
            .as_ref()
            .map(|list| protocols(self.checker, node.get("protocol"), list));
        let has = |wanted: &[u8]| {
            let of_list = |list: &Vec<u8>| list.iter().any(|number| wanted.contains(number));
            protocols
                .as_ref()
                .is_none_or(|list| list.is_empty() || of_list(list))
        };
        let ports_match = has(&[TCP, UDP]);
        let flags_match = has(&[TCP]);
        for (key, list) in [
            ("source_port", &raw.source_port),
            ("destination_port", &raw.destination_port),
        ] {
            let Some(list) = list else { continue };
            let node = node.get(key);
            let ranges = port_ranges(self.checker, node, list)
                .into_iter()
                .map(|(range, _)| range);
            let ranges = joined(ranges.collect());
            if !ports_match {
                self.checker.error(
                    node.key_mark(),
                    "only TCP and UDP have ports, so this never matches",
                    "write `protocol: tcp` or `udp`, or take the ports away",
                );
            }
            parts.push(if key == "source_port" {
                Condition::SourcePort(ranges)
            } else {
                Condition::DestinationPort(ranges)
            });
        }
        if let Some(list) = &raw.tcp_flags {
            let node = node.get("tcp_flags");
            parts.push(Condition::TcpFlags(tcp_flags(self.checker, node, list)));
            if !flags_match {
                self.checker.error(
                    node.key_mark(),
                    "only TCP has these flags, so this never matches",
                    "write `protocol: tcp`, or take the flags away",
                );
            }
        }
        parts.extend(protocols.map(Condition::Protocol));
    }

    fn link(&mut self, raw: &RawCondition, node: &Node, parts: &mut Vec<Condition>) {
        if let Some(names) = &raw.port {
            let node = node.get("port");
            not_empty(self.checker, node, names);
            let named = names.0.iter().enumerate();
            let indices = named
                .filter_map(|(index, name)| self.checker.port(self.ports, node.item(index), name))
                .collect();
            parts.push(Condition::Port(indices));
        }
        if let Some(vlans) = &raw.vlan {
            let node = node.get("vlan");
            not_empty(self.checker, node, vlans);
            for (index, vlan) in vlans.0.iter().enumerate() {
                self.checker
                    .in_range(node.item(index), "vlan", *vlan, 1..=4094);
            }
            let numbers = vlans.0.iter().filter_map(|vlan| u16::try_from(*vlan).ok());
            parts.push(Condition::Vlan(numbers.collect()));
        }
        parts.extend(raw.fragment.map(|truth| Condition::Fragment(truth.0)));
    }
}
