//! Profiles: the YAML files that say what an appliance is.
//!
//! [`load`] reads one and checks all of it: first its form (`yaml`, into the
//! structs of `raw`), then what it means (`resolve`). It gives a
//! [`Profile`] that the daemon is built from, or every error found, each with its line, its column
//! and a remedy.

mod address;
pub mod keys;
mod machine;
mod model;
mod model_replication;
mod raw;
mod raw_replication;
mod raw_words;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use address::{AddressError, InterfaceAddress, Prefix};
pub use machine::{Machine, parse_core_list};
pub use model::*;
pub use model_replication::*;
pub use schema::json_schema_text;
pub use yaml::{Diagnostic, Diagnostics, Mark, Severity};

/// Workers of one process.
pub const MAXIMUM_WORKERS: usize = dataplane::limits::MAX_WORKERS;
/// Queues of one device.
pub const MAXIMUM_QUEUES: u16 = 64;
/// Rules of one profile, the default left out.
pub const MAXIMUM_RULES: usize = dataplane::limits::MAX_RULES;
/// Conditions within each other: each is at most two levels of the packet path's tree.
pub const MAXIMUM_CONDITION_DEPTH: usize = dataplane::limits::MAX_CONDITION_DEPTH / 2;
/// Where who has no profile begins.
const EXAMPLE: &str = "conf/guard.yaml";
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
    let text = yaml::read_file(file, EXAMPLE)?;
    parse(&text, file, machine, strictness)
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
    let ranges = |key: &str| schema::ranges().get(key).copied().flatten();
    let (raw, root) =
        yaml::read_with(text, EXAMPLE, &ranges).map_err(|errors| Diagnostics::new(file, errors))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut checker = resolve::Checker {
        folder,
        machine,
        strictness,
        diagnostics: Vec::new(),
    };
    let profile = resolve::resolve(&raw, &root, &mut checker);
    if profile.is_none() {
        checker.diagnostics.extend(yaml::typographic(text));
    }
    let said = Diagnostics::new(file, checker.diagnostics);
    match profile {
        Some(profile) => Ok(Loaded {
            profile,
            warnings: said,
        }),
        None => Err(said),
    }
}
