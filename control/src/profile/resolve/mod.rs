//! From a profile's raw form to what it means: names, nets, ranges, cores, files.

mod guard;
mod ports;
mod reach;
mod replication;
mod routes;
mod rules;
mod runtime;
mod wire;
mod words;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::model::{Port, Profile};
use super::raw::RawProfile;
use super::{Machine, Strictness};
use yaml::{Diagnostic, Mark, Node, Severity, suggest};

pub(super) use words::protocol_names;

/// What the checks of a profile share.
pub(super) struct Checker<'a> {
    pub(super) folder: &'a Path,
    pub(super) machine: &'a Machine,
    pub(super) strictness: Strictness,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn say(&mut self, severity: Severity, mark: Mark, what: String, remedy: String) {
        self.diagnostics.push(Diagnostic {
            severity,
            mark,
            what,
            remedy,
        });
    }

    fn error(&mut self, mark: Mark, what: impl Into<String>, remedy: impl Into<String>) {
        self.say(Severity::Error, mark, what.into(), remedy.into());
    }

    fn warning(&mut self, mark: Mark, what: impl Into<String>, remedy: impl Into<String>) {
        self.say(Severity::Warning, mark, what.into(), remedy.into());
    }

    /// What keeps the profile from running on this machine as it is now.
    fn unfit(&mut self, mark: Mark, what: impl Into<String>, remedy: impl Into<String>) {
        let severity = match self.strictness {
            Strictness::Check => Severity::Warning,
            Strictness::Run => Severity::Error,
        };
        self.say(severity, mark, what.into(), remedy.into());
    }

    /// Whether a number is in its range; says so if it is not.
    fn in_range(&mut self, node: &Node, key: &str, value: u32, range: RangeInclusive<u32>) -> bool {
        let fits = range.contains(&value);
        if !fits {
            self.error(
                node.get(key).mark,
                format!("`{key}` cannot be {value}"),
                format!("write a number from {} to {}", range.start(), range.end()),
            );
        }
        fits
    }

    /// The index of a port by its name.
    fn port(&mut self, ports: &[Port], node: &Node, name: &str) -> Option<usize> {
        let found = ports.iter().position(|port| port.name == name);
        if found.is_none() {
            self.error(
                node.mark,
                format!("there is no port `{name}`"),
                suggest(name, ports.iter().map(|port| port.name.as_str())),
            );
        }
        found
    }

    /// A path as the profile means it: from the profile's own folder.
    fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }
}

fn is_name(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    text.len() <= 63
        && text.bytes().all(sign)
        && text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
}

const NAME_REMEDY: &str =
    "write a letter or digit, then letters, digits, `-` and `_`, at most 63 in all";

/// Checks everything and gives the profile; what is wrong is left in the checker.
pub(super) fn resolve(raw: &RawProfile, root: &Node, checker: &mut Checker<'_>) -> Option<Profile> {
    let name = raw.appliance.name.clone();
    if !is_name(&name) {
        let mark = root.get("appliance").get("name").mark;
        checker.error(mark, format!("`{name}` cannot be a name"), NAME_REMEDY);
    }
    let runtime = runtime::resolve(&raw.runtime, &name, root.get("runtime"), checker);
    let errors_before_ports = checker.errors();
    let mut ports = ports::resolve(&raw.ports, root.get("ports"), checker);
    let ports_are_whole = checker.errors() == errors_before_ports;
    let routes = routes::resolve(&raw.routes, &ports, ports_are_whole, root, checker);
    let routes_are_whole = ports_are_whole && routes.len() == raw.routes.len();
    let guard = raw.guard.as_ref().and_then(|raw| {
        let scene = guard::Scene {
            ports: &ports,
            routes: &routes,
            whole: routes_are_whole,
        };
        guard::resolve(raw, &scene, root.get("guard"), checker)
    });
    if let Some(guard) = guard.as_ref().filter(|guard| guard.wire.is_some()) {
        wire::check(guard, &ports, &routes, raw, root, checker);
        wire::hear_everything(guard, &mut ports);
    }
    let replication = raw.replication.as_ref().and_then(|raw_replication| {
        let scene = guard::Scene {
            ports: &ports,
            routes: &routes,
            whole: routes_are_whole,
        };
        let has_guard = raw.guard.is_some();
        let node = root.get("replication");
        replication::resolve(raw_replication, &scene, has_guard, node, checker)
    });
    let given = rules::Given {
        ports: &ports,
        has_guard: raw.guard.is_some(),
        has_replication: raw.replication.is_some(),
    };
    let (rules, default_action) = rules::resolve(&raw.rules, &given, root, checker);
    if checker.errors() > 0 {
        return None;
    }
    Some(Profile {
        name,
        runtime,
        ports,
        routes,
        guard,
        replication,
        rules,
        default_action,
    })
}

impl Checker<'_> {
    /// How many errors have been found.
    pub(super) fn errors(&self) -> usize {
        self.diagnostics
            .iter()
            .filter(|said| said.severity == Severity::Error)
            .count()
    }
}
