//! What a new profile changes in what is protected.

use std::fmt;
use std::net::IpAddr;

use crate::profile::{Action, Condition, Guard, GuardMode, PortRange, Profile};

/// TCP's protocol number.
const TCP: u8 = 6;

/// What differs between two profiles for the protected servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What was protected and is so no more, or less.
    pub less: Vec<String>,
    /// What is protected now, or more.
    pub more: Vec<String>,
    /// What is protected as before, at other bounds.
    pub other: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("less: ", &self.less),
            ("more: ", &self.more),
            ("as before, but ", &self.other),
        ];
        let parts = parts.iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = parts
            .map(|(name, list)| format!("{name}{}", list.join(", ")))
            .collect();
        if parts.is_empty() {
            return out.write_str("protection as before");
        }
        write!(out, "protection {}", parts.join("; "))
    }
}

impl Change {
    /// What changes when `after` takes the place of `before`.
    #[must_use]
    pub fn between(before: &Profile, after: &Profile) -> Self {
        let mut change = Self::default();
        change.modes(before, after);
        change.servers(before, after);
        if let (Some(from), Some(to)) = (&before.guard, &after.guard) {
            if from.inside != to.inside {
                let name = |guard: &Guard| after.ports[guard.inside].name.clone();
                // What comes by the inside port is the servers' own.
                change.lose(before, format!("inside port {} → {}", name(from), name(to)));
            }
            let (from, to) = (from.on_flood, to.on_flood);
            if from.enter_syns_per_second != to.enter_syns_per_second {
                change.other.push(format!(
                    "a flood begins at {} SYNs/s, not {}",
                    to.enter_syns_per_second, from.enter_syns_per_second
                ));
            }
        }
        change
    }

    /// Who did not guard before has nothing to lose.
    fn lose(&mut self, before: &Profile, what: String) {
        if rank(before) >= ON_FLOOD {
            self.less.push(what);
        } else {
            self.other.push(what);
        }
    }

    fn modes(&mut self, before: &Profile, after: &Profile) {
        let (from, to) = (mode_of(before), mode_of(after));
        if from == to {
            return;
        }
        let text = match (&before.guard, &after.guard) {
            (Some(_), None) => format!("no `guard` any more (it was `{from}`)"),
            (None, Some(_)) => format!("a guard, `{to}`"),
            _ => format!("mode `{from}` → `{to}`"),
        };
        if rank(after) < rank(before) {
            self.lose(before, text);
        } else {
            self.more.push(text);
        }
    }

    fn servers(&mut self, before: &Profile, after: &Profile) {
        let (from, to) = (services(before), services(after));
        for (server, ports) in &from {
            // That there is no guard any more is said.
            if after.guard.is_none() {
                break;
            }
            let still = ports_of(&to, *server);
            let gone = without(ports, still);
            if still.is_empty() && !ports.is_empty() {
                self.lose(before, format!("{server} not protected"));
            } else if !gone.is_empty() {
                self.lose(
                    before,
                    format!("{server} port {} not protected", text_of(&gone)),
                );
            }
            for range in ports {
                let kept = still.iter().filter_map(|other| overlap(range, other));
                for kept in kept {
                    self.rules(before, after, *server, kept);
                }
            }
        }
        for (server, ports) in &to {
            let had = ports_of(&from, *server);
            let new = without(ports, had);
            if !new.is_empty() {
                self.more
                    .push(format!("{server} port {} protected", text_of(&new)));
            }
        }
    }

    /// Rules that let through now what others did not.
    fn rules(&mut self, before: &Profile, after: &Profile, server: IpAddr, ports: PortRange) {
        let (from, to) = (chain(before, server, ports), chain(after, server, ports));
        if let Some(step) = newly_forwarded(&from, &to) {
            let by = match step.line {
                Some(line) => format!("the rule of line {line}"),
                None => "the default rule".into(),
            };
            self.lose(
                before,
                format!("{by} forwards {server} port {ports} unguarded"),
            );
        } else if newly_forwarded(&to, &from).is_some() {
            self.more.push(format!(
                "rules forward less of {server} port {ports} unguarded"
            ));
        }
    }
}

/// From here on unproved clients are kept away.
const ON_FLOOD: u8 = 2;

fn rank(profile: &Profile) -> u8 {
    match profile.guard.as_ref().map(|guard| guard.mode) {
        None | Some(GuardMode::Off) => 0,
        Some(GuardMode::Monitor) => 1,
        Some(GuardMode::OnFlood) => ON_FLOOD,
        Some(GuardMode::Always) => 3,
    }
}

/// The guard's mode in one word.
#[must_use]
pub fn mode_of(profile: &Profile) -> &'static str {
    match profile.guard.as_ref().map(|guard| guard.mode) {
        None => "none",
        Some(GuardMode::Off) => "off",
        Some(GuardMode::Monitor) => "monitor",
        Some(GuardMode::OnFlood) => "on-flood",
        Some(GuardMode::Always) => "always",
    }
}

/// What is protected, in a few words.
#[must_use]
pub fn summary(profile: &Profile) -> String {
    let servers = services(profile).len();
    match mode_of(profile) {
        "none" => "none: the profile has no `guard`".into(),
        mode => format!("{mode}, {servers} servers"),
    }
}

type Service = (IpAddr, Vec<PortRange>);

fn services(profile: &Profile) -> Vec<Service> {
    let protect = profile.guard.iter().flat_map(|guard| &guard.protect);
    protect.map(|one| (one.server, one.ports.clone())).collect()
}

fn ports_of(services: &[Service], server: IpAddr) -> &[PortRange] {
    let found = services.iter().find(|(other, _)| *other == server);
    found.map_or(&[], |(_, ports)| ports)
}

fn text_of(ranges: &[PortRange]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn overlap(one: &PortRange, other: &PortRange) -> Option<PortRange> {
    let (first, last) = (one.first.max(other.first), one.last.min(other.last));
    (first <= last).then_some(PortRange { first, last })
}

/// The ports of `all` that are in none of `taken`; both ascend.
fn without(all: &[PortRange], taken: &[PortRange]) -> Vec<PortRange> {
    let mut left = Vec::new();
    for range in all {
        let mut next = u32::from(range.first);
        for taken in taken.iter().filter_map(|taken| overlap(range, taken)) {
            if u32::from(taken.first) > next {
                left.push(PortRange {
                    first: next as u16,
                    last: taken.first - 1,
                });
            }
            next = u32::from(taken.last) + 1;
        }
        if next <= u32::from(range.last) {
            left.push(PortRange {
                first: next as u16,
                last: range.last,
            });
        }
    }
    left
}

/// A rule that a client's packet to a service may meet.
struct Step<'a> {
    /// `None` for the default.
    when: Option<&'a Condition>,
    forwards: bool,
    line: Option<u32>,
}

/// The rules that a client's packet to these ports of a server may meet, in order.
fn chain(profile: &Profile, server: IpAddr, ports: PortRange) -> Vec<Step<'_>> {
    let inside = profile.guard.as_ref().map(|guard| guard.inside);
    let mut steps = Vec::new();
    for rule in &profile.rules {
        let matches = matches(&rule.when, server, ports, inside);
        if matches == Matches::Never {
            continue;
        }
        steps.push(Step {
            when: Some(&rule.when),
            forwards: rule.then == Action::Forward,
            line: Some(rule.line),
        });
        if matches == Matches::Always {
            return steps;
        }
    }
    steps.push(Step {
        when: None,
        forwards: profile.default_action == Action::Forward,
        line: None,
    });
    steps
}

/// The first rule of `to` that may forward what `from` did not: one that stands in `from` no more, or
/// behind fewer rules that take packets from it.
fn newly_forwarded<'a>(from: &[Step<'_>], to: &'a [Step<'a>]) -> Option<&'a Step<'a>> {
    let takes_before = |steps: &[Step<'_>], wanted: &Step<'_>| {
        steps
            .iter()
            .any(|step| !step.forwards && step.when == wanted.when)
    };
    let forwards = to.iter().enumerate().filter(|(_, step)| step.forwards);
    let mut new = forwards.filter(|(place, step)| {
        let former = from
            .iter()
            .position(|former| former.forwards && former.when == step.when);
        let is_as_before = former.is_some_and(|former| {
            let mut takers = from[..former].iter().filter(|step| !step.forwards);
            takers.all(|taker| takes_before(&to[..*place], taker))
        });
        !is_as_before
    });
    new.next().map(|(_, step)| step)
}

/// Whether a client's SYN to a service meets a condition, as far as the service tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Matches {
    Never,
    Perhaps,
    Always,
}

fn matches(
    condition: &Condition,
    server: IpAddr,
    ports: PortRange,
    inside: Option<usize>,
) -> Matches {
    use Matches::{Always, Never, Perhaps};
    let inner = |one: &Condition| matches(one, server, ports, inside);
    let perhaps_if = |may: bool| if may { Perhaps } else { Never };
    match condition {
        Condition::All(list) => list.iter().map(inner).min().unwrap_or(Always),
        Condition::Any(list) => list.iter().map(inner).max().unwrap_or(Never),
        Condition::Not(one) => match inner(one) {
            Never => Always,
            Perhaps => Perhaps,
            Always => Never,
        },
        Condition::Destination(list) => {
            if list.iter().any(|net| net.contains(server)) {
                Always
            } else {
                Never
            }
        }
        Condition::DestinationPort(list) => {
            let covers = |range: &PortRange| range.first <= ports.first && ports.last <= range.last;
            if list.iter().any(covers) {
                Always
            } else {
                perhaps_if(list.iter().any(|range| overlap(range, &ports).is_some()))
            }
        }
        Condition::Protocol(list) => {
            if list.contains(&TCP) {
                Always
            } else {
                Never
            }
        }
        Condition::Port(list) => perhaps_if(list.iter().any(|port| Some(*port) != inside)),
        Condition::TcpFlags(_)
        | Condition::Source(_)
        | Condition::SourcePort(_)
        | Condition::Vlan(_)
        | Condition::Fragment(_) => Perhaps,
    }
}

#[cfg(test)]
mod tests;
