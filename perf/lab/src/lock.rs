//! One lab at a time on a machine: its tests measure time, and there may be two cores only.

use std::fs::File;

use crate::{Error, Result};

/// Holds the machine's lab until it is dropped.
#[derive(Debug)]
pub struct Exclusive {
    _file: File,
}

/// Waits until no other test or demo uses a lab on this machine.
///
/// # Errors
/// When the lock file cannot be made.
pub fn exclusive() -> Result<Exclusive> {
    let path = std::env::temp_dir().join("tidegate-lab.lock");
    let file = File::create(&path).map_err(|e| Error::because(path.display(), e))?;
    file.lock().map_err(|e| Error::because(path.display(), e))?;
    Ok(Exclusive { _file: file })
}
