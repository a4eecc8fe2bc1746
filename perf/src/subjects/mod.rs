//! What stands between the tester's two devices: Tidegate as it is deployed, and what else could
//! stand there, on the same links, with the same addresses.
//!
//! [`Ground::new`] makes the place, [`Ground::start`] a subject in it. Of several subjects on one
//! core, all but one [`rest`](Subject::rest) while it is measured: [`resume`](Subject::resume) one,
//! read its [`account`](Subject::account), offer the load, read the account again and let
//! [`proof::prove`] compare it with what the tester has seen. A figure of a subject that was not
//! proved to be in the path is worth nothing. Dropping a subject ends it, and dropping the ground
//! takes away the rest.

mod bare;
mod ground;
mod haproxy;
mod kernel;
mod plan;
pub mod proof;
mod telemetry;
mod testpmd;
mod tidegate;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::wiring::Wiring;
use lab::Namespace;
use lab::command::run;
use lab::daemon::Daemon;

pub use ground::{Cores, Ground, Settings};
pub use proof::{Account, Busy, Seen, prove};
pub use tidegate::{METRICS, TOLD_WITHIN};

/// How the tester and a subject are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// Rings in memory that two processes share.
    Memif,
    /// Links of the kernel's between name spaces.
    Veth,
}

/// What a subject is set up to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// To carry everything on, by its addresses.
    Forward,
    /// To stand before servers and let no connection reach them that has not proved its client.
    Guard,
    /// The same without an address of its own.
    Wire,
}

/// Who can stand between the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Kind {
    /// The daemon, by its own profile.
    Tidegate,
    /// The daemon on AF_XDP sockets in place of packet sockets.
    TidegateXdp,
    /// `dpdk-testpmd` that looks at nothing.
    TestpmdIo,
    /// `dpdk-testpmd` that rewrites station addresses: the floor of what forwards.
    TestpmdMac,
    /// `dpdk-testpmd` that computes checksums anew.
    TestpmdCsum,
    /// The kernel's own forwarding.
    Kernel,
    /// The kernel's nftables SYNPROXY.
    Synproxy,
    /// HAProxy in TCP mode.
    Haproxy,
    /// Nobody: the path itself.
    Bare,
}

/// A subject that is missing here, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject} is skipped: {why}")]
pub struct Absent {
    /// Who.
    pub subject: Kind,
    /// What is missing, and how to get it.
    pub why: String,
}

/// Why a subject does not stand.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not installed: to be told, and the others measured.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// Nobody can have it so.
    #[error("{0} cannot {1}: {2}")]
    Unfit(Kind, &'static str, &'static str),
    /// It did not start.
    #[error(transparent)]
    Failed(#[from] lab::Error),
}

impl Kind {
    /// Its name, as on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tidegate => crate::report::TIDEGATE,
            Self::TidegateXdp => "tidegate-xdp",
            Self::TestpmdIo => "testpmd-io",
            Self::TestpmdMac => "testpmd-mac",
            Self::TestpmdCsum => "testpmd-csum",
            Self::Kernel => "kernel",
            Self::Synproxy => "synproxy",
            Self::Haproxy => "haproxy",
            Self::Bare => "bare",
        }
    }

    /// Whether it can do the job on such links.
    ///
    /// # Errors
    /// When it cannot, with the reason.
    pub fn fits(self, over: Over, job: Job) -> Result<(), StartError> {
        let testpmd = matches!(self, Self::TestpmdIo | Self::TestpmdMac | Self::TestpmdCsum);
        let reason = match (over, job) {
            (Over::Memif, _) if !testpmd && self != Self::Tidegate => (
                "stand over memif",
                "the kernel has no such links; take --over veth",
            ),
            (Over::Veth, _) if testpmd => (
                "stand over veth",
                "there it would measure AF_PACKET's sockets; take --over memif",
            ),
            (_, Job::Guard | Job::Wire) if testpmd || self == Self::Kernel => {
                ("guard servers", "it forwards only")
            }
            (_, Job::Wire) if matches!(self, Self::Synproxy | Self::Haproxy) => {
                ("be a wire", "it needs addresses")
            }
            (_, Job::Forward) if matches!(self, Self::Synproxy | Self::Haproxy) => (
                "forward",
                "it proxies TCP; measure it with set-ups or a flood",
            ),
            _ => return Ok(()),
        };
        Err(StartError::Unfit(self, reason.0, reason.1))
    }

    /// Where its program is.
    ///
    /// # Errors
    /// When it is not installed, with how to install it.
    pub fn program(self) -> Result<PathBuf, Absent> {
        let absent = |why: String| Absent { subject: self, why };
        match self {
            Self::Tidegate | Self::TidegateXdp => {
                lab::daemon::beside_this_program().map_err(|error| absent(error.to_string()))
            }
            Self::TestpmdIo | Self::TestpmdMac | Self::TestpmdCsum => {
                on_path("dpdk-testpmd", "dpdk-dev").map_err(absent)
            }
            Self::Haproxy => on_path("haproxy", "haproxy").map_err(absent),
            Self::Synproxy | Self::Kernel => on_path("nft", "nftables").map_err(absent),
            Self::Bare => on_path("ip", "iproute2").map_err(absent),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A program's path, where a shell of root's would find it.
fn on_path(program: &str, package: &str) -> Result<PathBuf, String> {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let own = std::env::var("PATH").unwrap_or_default();
    let places = own.split(':').chain(usual.split(':'));
    let found = places
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| PathBuf::from(folder).join(program))
        .find(|path| path.is_file());
    found
        .ok_or_else(|| format!("there is no {program} here; install it: apt-get install {package}"))
}

/// One of them, started.
pub trait Subject: fmt::Debug {
    /// Who it is.
    fn kind(&self) -> Kind;

    /// Its version, for a report.
    fn version(&self) -> &str;

    /// How the tester is joined to it.
    fn wiring(&self) -> &Wiring;

    /// The station addresses that frames come from towards outside and inside, where it writes its
    /// own into them.
    fn stations(&self) -> Option<[[u8; 6]; 2]>;

    /// The daemon and where it lives, if it is ours: it tells more than its account.
    fn daemon(&self) -> Option<(&Daemon, &Namespace)> {
        None
    }

    /// What it has counted so far. Not while it rests.
    ///
    /// # Errors
    /// When it does not answer, or has ended.
    fn account(&mut self) -> lab::Result<Account>;

    /// Takes no processor time from now on.
    ///
    /// # Errors
    /// When it has ended.
    fn rest(&mut self) -> lab::Result<()>;

    /// Works again.
    ///
    /// # Errors
    /// When it has ended.
    fn resume(&mut self) -> lab::Result<()>;
}

/// The line of what a program says of its version that has a digit in it.
fn version_line(command: &mut Command) -> String {
    let text = run(command).unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.contains(|c: char| c.is_ascii_digit()));
    line.unwrap_or("of an unknown version").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.get_name(), kind.name());
        }
    }

    #[test]
    fn who_cannot_do_a_job_says_why() {
        let error = Kind::Haproxy.fits(Over::Veth, Job::Forward).unwrap_err();
        assert_eq!(
            error.to_string(),
            "haproxy cannot forward: it proxies TCP; measure it with set-ups or a flood"
        );
        for (kind, over, job) in [
            (Kind::Synproxy, Over::Memif, Job::Guard),
            (Kind::TestpmdMac, Over::Veth, Job::Forward),
            (Kind::TestpmdMac, Over::Memif, Job::Guard),
            (Kind::Haproxy, Over::Veth, Job::Wire),
            (Kind::TidegateXdp, Over::Memif, Job::Forward),
        ] {
            assert!(kind.fits(over, job).is_err(), "{kind} {over:?} {job:?}");
        }
        for (kind, over, job) in [
            (Kind::Tidegate, Over::Memif, Job::Wire),
            (Kind::TestpmdMac, Over::Memif, Job::Forward),
            (Kind::Kernel, Over::Veth, Job::Forward),
            (Kind::Bare, Over::Veth, Job::Guard),
            (Kind::Haproxy, Over::Veth, Job::Guard),
        ] {
            assert!(kind.fits(over, job).is_ok(), "{kind} {over:?} {job:?}");
        }
    }

    #[test]
    fn what_is_not_installed_is_told_with_its_package() {
        let why = on_path("no-such-program", "a-package").unwrap_err();
        let absent = Absent {
            subject: Kind::Haproxy,
            why,
        };
        assert_eq!(
            absent.to_string(),
            "haproxy is skipped: there is no no-such-program here; install it: apt-get install \
             a-package"
        );
    }
}
