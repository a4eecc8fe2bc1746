//! What a machine lacks for DPDK or for a profile: each finding with its cause and its cure.
//!
//! Everything is read below a root folder and everything run goes through one function, so that a
//! test hands in a fixture tree in place of `/`.

mod cores;
mod devices;
mod dpdk;
mod interfaces;
mod memory;
mod rights;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::profile::{Device, Link, Machine, Profile};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could; or some profile may need it.
    Warn,
    /// The profile cannot run.
    Fail,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was examined.
    pub subject: &'static str,
    /// What was found, and what follows from it.
    pub what: String,
    /// What to do about it: most often a command.
    pub cure: Option<String>,
}

/// Runs a program and gives what it prints, if it ends well.
type Runner = Box<dyn Fn(&str, &[&str]) -> Option<String>>;

/// The machine that is examined.
pub struct Host {
    root: PathBuf,
    run: Runner,
    dpdk_version: String,
    /// Whether packet sockets get IPv4 fragments as they were sent.
    hands_over_fragments: bool,
}

impl Host {
    /// This machine, seen below `root`.
    #[must_use]
    pub fn this(root: &Path) -> Self {
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        Self {
            root: root.to_owned(),
            run: Box::new(run),
            dpdk_version: bindings::eal::version(),
            hands_over_fragments: bindings::packet_socket::hands_over_fragments(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text with no space around it; `None` if it cannot be read.
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a folder, sorted; none if it cannot be read.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The last part of where a symbolic link leads.
    fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }
}

/// Examines a machine, for a profile if there is one.
#[must_use]
pub fn examine(host: &Host, profile: Option<&Profile>) -> Vec<Finding> {
    let mut report = Report {
        host,
        profile,
        findings: Vec::new(),
    };
    let machine = Machine::read(&host.root);
    dpdk::examine(&mut report);
    memory::examine(&mut report);
    cores::examine(&mut report, &machine);
    devices::examine(&mut report, &machine);
    interfaces::examine(&mut report);
    rights::examine(&mut report);
    report.findings
}

/// The findings so far, and what they are about.
struct Report<'a> {
    host: &'a Host,
    profile: Option<&'a Profile>,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    fn say(&mut self, level: Level, subject: &'static str, what: String, cure: Option<String>) {
        self.findings.push(Finding {
            level,
            subject,
            what,
            cure,
        });
    }

    fn ok(&mut self, subject: &'static str, what: impl Into<String>) {
        self.say(Level::Ok, subject, what.into(), None);
    }

    fn warn(&mut self, subject: &'static str, what: impl Into<String>, cure: impl Into<String>) {
        self.say(Level::Warn, subject, what.into(), Some(cure.into()));
    }

    fn fail(&mut self, subject: &'static str, what: impl Into<String>, cure: impl Into<String>) {
        self.say(Level::Fail, subject, what.into(), Some(cure.into()));
    }

    /// A failure if the profile needs it, else a warning.
    fn lack(
        &mut self,
        needed: bool,
        subject: &'static str,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let level = if needed { Level::Fail } else { Level::Warn };
        self.say(level, subject, what.into(), Some(cure.into()));
    }

    /// The profile's devices.
    fn devices(&self) -> Vec<&'a Device> {
        let ports = self.profile.map_or(&[][..], |profile| &profile.ports);
        ports
            .iter()
            .filter_map(|port| match &port.link {
                Link::Device(device) => Some(device),
                Link::Parent(_) => None,
            })
            .collect()
    }

    /// The profile's PCI devices, each with its whole address.
    fn pci_addresses(&self) -> Vec<String> {
        let devices = self.devices().into_iter().filter(|device| device.is_pci());
        devices
            .map(|device| {
                let address = device.arguments.split(',').next().unwrap_or_default();
                let address = address.to_lowercase();
                if address.matches(':').count() == 1 {
                    format!("0000:{address}")
                } else {
                    address
                }
            })
            .collect()
    }
}
