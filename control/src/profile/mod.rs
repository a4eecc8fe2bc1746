//! Profiles: the YAML files that say what an appliance is.
//!
//! [`load`] reads one and checks all of it: first the places of its keys and values (`tree`) and
//! its form (`shape`, into the structs of `raw`), then what it means (`resolve`). It gives a
//! [`Profile`] that the daemon is built from, or every error found, each with its line, its column
//! and a remedy.

mod address;
mod diagnostic;
pub mod keys;
mod machine;
mod model;
mod model_replication;
mod raw;
mod raw_replication;
mod raw_words;
mod resolve;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod tree;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

pub use address::{AddressError, InterfaceAddress, Prefix};
pub use diagnostic::{Diagnostic, Diagnostics, Mark, Severity};
pub use machine::{Machine, parse_core_list};
pub use model::*;
pub use model_replication::*;
pub use schema::json_schema_text;

/// Workers of one process.
pub const MAXIMUM_WORKERS: usize = dataplane::limits::MAX_WORKERS;
/// Queues of one device.
pub const MAXIMUM_QUEUES: u16 = 64;
/// Rules of one profile, the default left out.
pub const MAXIMUM_RULES: usize = dataplane::limits::MAX_RULES;
/// Conditions within each other: each is at most two levels of the packet path's tree.
pub const MAXIMUM_CONDITION_DEPTH: usize = dataplane::limits::MAX_CONDITION_DEPTH / 2;
/// A profile's size.
const MAXIMUM_PROFILE_BYTES: u64 = 1 << 20;
/// The form of names of appliances, ports and file prefixes.
const NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$";

/// What a profile is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// To be checked, perhaps on another machine than the one it is for: a core that is missing
    /// here, and a key file that has not been made yet, are warnings.
    Check,
    /// To be run, here and now: those are errors.
    Run,
}

/// A profile that can be used, and what is to be said of it all the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The profile.
    pub profile: Profile,
    /// Warnings; never errors.
    pub warnings: Diagnostics,
}

/// Reads the profile `file` and checks it against this machine.
///
/// # Errors
/// Everything that is wrong with it; at least one is an error, others may be warnings.
pub fn load(file: &Path, strictness: Strictness) -> Result<Loaded, Diagnostics> {
    load_for(file, &Machine::read(Path::new("/")), strictness)
}

/// Reads the profile `file` and checks it against `machine`, as a process must that has itself
/// left most of the machine's cores to its workers.
///
/// # Errors
/// As [`load`].
pub fn load_for(
    file: &Path,
    machine: &Machine,
    strictness: Strictness,
) -> Result<Loaded, Diagnostics> {
    let text = read(file).map_err(|what| {
        let remedy = "name a profile, such as conf/guard.yaml".into();
        let mark = Mark { line: 1, column: 1 };
        let severity = Severity::Error;
        Diagnostics::new(
            file,
            vec![Diagnostic {
                severity,
                mark,
                what,
                remedy,
            }],
        )
    })?;
    parse(&text, file, machine, strictness)
}

fn read(file: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("the profile cannot be read: {error}");
    if !fs::metadata(file).map_err(cannot)?.is_file() {
        return Err("the profile is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(cannot)?;
    opened
        .take(MAXIMUM_PROFILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > MAXIMUM_PROFILE_BYTES {
        return Err(format!(
            "the profile has more than {MAXIMUM_PROFILE_BYTES} bytes"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..place]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("the profile is not UTF-8 text: line {line} has other bytes")
    })
}

/// Checks the text of a profile; `file` is what errors name, and its folder is what paths in the
/// profile start from.
///
/// # Errors
/// Everything that is wrong with it; at least one is an error, others may be warnings.
pub fn parse(
    text: &str,
    file: &Path,
    machine: &Machine,
    strictness: Strictness,
) -> Result<Loaded, Diagnostics> {
    let (raw, root) = shape::read(text).map_err(|errors| Diagnostics::new(file, errors))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut checker = resolve::Checker {
        folder,
        machine,
        strictness,
        diagnostics: Vec::new(),
    };
    let profile = resolve::resolve(&raw, &root, &mut checker);
    let said = Diagnostics::new(file, checker.diagnostics);
    match profile {
        Some(profile) => Ok(Loaded {
            profile,
            warnings: said,
        }),
        None => Err(said),
    }
}
