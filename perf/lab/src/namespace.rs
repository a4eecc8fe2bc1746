//! Network name spaces that vanish with their owner.

use std::fs::File;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};

use crate::command::{process, run, run_with_input};
use crate::{Error, Result, scratch};

const PREFIX: &str = "tidegate-";
const FOLDER: &str = "/run/netns";

/// A network name space. Dropping it kills the processes inside and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a name space for `role`, with its loopback up.
    ///
    /// # Errors
    /// When `ip netns` fails, as it does without root.
    pub fn create(role: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it, one command a line.
    ///
    /// # Errors
    /// When one of the lines fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        run_with_input(&mut command, lines).map(drop)
    }

    /// Loads rules of nftables into it, all or none.
    ///
    /// # Errors
    /// When there is no `nft`, or it refuses the rules.
    pub fn nft(&self, rules: &str) -> Result<()> {
        run_with_input(self.command("nft").args(["-f", "-"]), rules).map(drop)
    }

    /// Sets kernel variables of the name space, `key=value` each.
    ///
    /// # Errors
    /// When the kernel has no such variable or refuses the value.
    pub fn sysctl(&self, settings: &[&str]) -> Result<()> {
        self.run("sysctl", &[&["-q", "-w"], settings].concat())
            .map(drop)
    }

    /// Runs a program in it to its end and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// A command that runs in it. The process keeps its id: nothing stands between.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Moves the calling thread into it, for good; threads that it starts from then on are in it, too.
    ///
    /// # Errors
    /// When the name space cannot be entered, as without root.
    pub fn enter(&self) -> Result<()> {
        enter(&format!("{FOLDER}/{}", self.name))
    }

    /// Runs `work` on a thread of this process that lives in the name space.
    ///
    /// # Errors
    /// When the name space or the thread cannot be entered or made.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let path = format!("{FOLDER}/{}", self.name);
        std::thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || {
                enter(&path)?;
                Ok(work())
            })
            .map_err(|e| Error::because("a thread", e))
    }

    /// Runs `work` in the name space and waits for it.
    ///
    /// # Errors
    /// As [`Namespace::thread`], and when `work` panics.
    pub fn within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        self.thread(work)?
            .join()
            .map_err(|_| Error::new(format!("a thread in {} panicked", self.name)))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn enter(path: &str) -> Result<()> {
    let place = File::open(path).map_err(|e| Error::because(path, e))?;
    setns(place, CloneFlags::CLONE_NEWNET).map_err(|e| Error::because(path, e))
}

/// Kills what runs in a name space, by process id, and removes it.
fn remove(name: &str) {
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        if pid != std::process::id()
            && let Ok(pid) = process(pid)
        {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    let _ = run(Command::new("ip").args(["netns", "delete", name]));
}

/// Removes the name spaces and folders of this process: for one that is about to end without
/// dropping its lab.
pub fn sweep_own() {
    let own = std::process::id();
    sweep_where(|pid| pid == own);
    scratch::sweep(|pid| pid == own);
}

/// The name spaces and folders of this process that are still there.
#[must_use]
pub fn left_behind() -> Vec<String> {
    let own = std::process::id();
    let folders = scratch::of(|pid| pid == own);
    let folders = folders.iter().map(|path| path.display().to_string());
    of(|pid| pid == own).into_iter().chain(folders).collect()
}

/// Removes what processes that are gone have left: they were killed before they could clean up.
/// Another process that had this one's id is gone, too.
pub fn sweep() {
    let own = std::process::id();
    let gone = |pid| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    sweep_where(|pid| pid == own || gone(pid));
    scratch::sweep(gone);
}

fn sweep_where(is_gone: impl Fn(u32) -> bool) {
    for name in of(is_gone) {
        remove(&name);
    }
}

/// The names of the name spaces that belong to the processes of these ids.
fn of(is_owner: impl Fn(u32) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| owner_of(name).is_some_and(&is_owner))
        .collect()
}

/// The process that made the name space of this name, if it is a lab's.
fn owner_of(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next()?;
    Some(pid)
}

#[cfg(test)]
mod tests {
    use super::owner_of;

    #[test]
    fn only_names_that_a_lab_gives_have_an_owner() {
        assert_eq!(owner_of("tidegate-123-0-clients"), Some(123));
        assert_eq!(owner_of("tidegate-production"), None);
        assert_eq!(owner_of("tidegate-12-x-clients"), None);
        assert_eq!(owner_of("other-12-0-clients"), None);
    }
}
