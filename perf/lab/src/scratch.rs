//! A folder that vanishes with its owner.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Error, Result};

const PREFIX: &str = "tidegate-lab-";

/// A folder under the system's one for temporary files. A process that is killed leaves it, and
/// [`sweep`] finds it by the process's id in its name.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: AtomicBool,
    /// Whether a failed test leaves it to its reader.
    holds_logs: bool,
}

impl Scratch {
    /// Makes an empty folder for profiles and logs: a failed test leaves it to its reader.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        Self::make(true)
    }

    /// Makes an empty folder for what nobody will want to read.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn for_bodies() -> Result<Self> {
        Self::make(false)
    }

    fn make(holds_logs: bool) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| Error::because(path.display(), e))?;
        Ok(Self {
            path,
            keep: AtomicBool::new(false),
            holds_logs,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder under another name when this is dropped, and tells it.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let has_failed = std::thread::panicking() && self.holds_logs;
        if has_failed || self.keep.load(Ordering::Relaxed) {
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
    for folder in of(is_gone) {
        remove(&folder);
    }
}

/// The folders that belong to the processes of these ids.
pub(crate) fn of(is_owner: impl Fn(u32) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return Vec::new();
    };
    let owner =
        |name: &str| -> Option<u32> { name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok() };
    let is_wanted = |entry: &DirEntry| {
        let name = entry.file_name();
        name.to_str().and_then(owner).is_some_and(&is_owner)
    };
    let wanted = entries.flatten().filter(is_wanted);
    wanted.map(|entry| entry.path()).collect()
}
