//! A folder that vanishes with its owner.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

const PREFIX: &str = "tidegate-lab-";

/// A folder under the system's one for temporary files. A process that is killed leaves it, and
/// [`sweep`] finds it by the process's id in its name.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| Error::because(path.display(), e))?;
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failed test's logs are what its reader needs.
        if std::thread::panicking() {
            let kept = PathBuf::from(
                self.path
                    .to_string_lossy()
                    .replace(PREFIX, "tidegate-kept-"),
            );
            let _ = std::fs::remove_dir_all(&kept);
            if std::fs::rename(&self.path, &kept).is_ok() {
                crate::command::tell(&format!("the lab's logs are in {}", kept.display()));
                return;
            }
        }
        remove(&self.path);
    }
}

/// Removes a folder that something may still be writing to: under another name nobody finds it.
fn remove(path: &Path) {
    let gone = path.with_extension("gone");
    let path = match std::fs::rename(path, &gone) {
        Ok(()) => &gone,
        Err(_) => path,
    };
    for _ in 0..3 {
        if std::fs::remove_dir_all(path).is_ok() {
            return;
        }
    }
}

/// Removes the folders of processes that are gone.
pub(crate) fn sweep(is_gone: impl Fn(u32) -> bool) {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok());
        if owner.is_some_and(&is_gone) {
            remove(&entry.path());
        }
    }
}
