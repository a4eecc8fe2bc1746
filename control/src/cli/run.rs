//! `tidegate run PROFILE`: the daemon, in the foreground.

use std::path::PathBuf;

use super::{Outcome, Streams};
use crate::daemon;
use crate::profile::{self, Strictness};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    let file = &arguments.profile;
    let loaded = match profile::load(file, Strictness::Run) {
        Ok(loaded) => loaded,
        Err(errors) => {
            writeln!(streams.err, "{errors}")?;
            return Ok(1);
        }
    };
    match daemon::run(file, loaded) {
        Ok(()) => Ok(0),
        Err(failure) => {
            writeln!(streams.err, "tidegate: {failure}")?;
            Ok(1)
        }
    }
}
