//! The daemon in the guard's name space.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{Running, run, wait_until};
use crate::profile::Profile;
use crate::{Error, Lab, Namespace, Result};

/// How long the daemon may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A daemon that answers on its control socket. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
    binary: PathBuf,
    socket: PathBuf,
    profile: PathBuf,
    log: PathBuf,
}

/// The files of a daemon.
#[derive(Clone, Debug)]
pub struct Files {
    /// Its profile, which is there.
    pub profile: PathBuf,
    /// Its control socket, as the profile names it.
    pub socket: PathBuf,
    /// Where what it logs is appended.
    pub log: PathBuf,
}

impl Daemon {
    /// Writes the profile and the key file, starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not; the error holds the end of its log.
    pub fn start(lab: &Lab, binary: &Path, profile: &Profile) -> Result<Self> {
        let keys = lab.scratch.file("cookie.key");
        if !keys.exists() {
            run(Command::new(binary).arg("keygen").arg(&keys))?;
        }
        let path = lab.scratch.file("profile.yaml");
        let socket = lab.scratch.file("control.sock");
        let text = profile.text(lab, &socket, &keys);
        std::fs::write(&path, text).map_err(|e| Error::because(path.display(), e))?;
        Self::start_with(lab, binary, &path, &socket)
    }

    /// Starts the daemon with a profile that is there, and waits until it answers on `socket`.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(lab: &Lab, binary: &Path, profile: &Path, socket: &Path) -> Result<Self> {
        let files = Files {
            profile: profile.to_owned(),
            socket: socket.to_owned(),
            log: lab.scratch.file("tidegate.log"),
        };
        Self::start_in(&lab.guard, binary, files)
    }

    /// Starts the daemon in a name space, with a profile that is there, and waits until it
    /// answers. What an earlier one has logged stays.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_in(namespace: &Namespace, binary: &Path, files: Files) -> Result<Self> {
        let command = namespace.command(&binary.to_string_lossy());
        Self::start_as(command, binary, files)
    }

    /// Starts the daemon by a command that lacks only `run PROFILE`, such as one that begins in a
    /// name space, and waits until it answers.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_as(mut command: Command, binary: &Path, files: Files) -> Result<Self> {
        let Files {
            profile,
            socket,
            log,
        } = files;
        let output = File::options().create(true).append(true).open(&log);
        let output = output.map_err(|e| Error::because(log.display(), e))?;
        let errors = output
            .try_clone()
            .map_err(|e| Error::because(log.display(), e))?;
        command.arg("run").arg(&profile);
        let running = Running::start(command.stdout(output).stderr(errors))?;
        let mut daemon = Self {
            running,
            binary: binary.to_owned(),
            socket,
            profile,
            log,
        };
        wait_until("the daemon", START_LIMIT, || daemon.answers())
            .and_then(|answered| answered)
            .map_err(|e| Error::new(format!("{e}\n{}", daemon.log_end())))?;
        Ok(daemon)
    }

    /// Whether it answers. The outer error is worth another try, the inner one is not.
    fn answers(&mut self) -> Result<Result<()>> {
        if let Some(status) = self.running.ended()? {
            return Ok(Err(Error::new(format!("the daemon ended: {status}"))));
        }
        self.show("ports").map(|_| Ok(()))
    }

    /// What `tidegate show WHAT --json` says.
    ///
    /// # Errors
    /// When the daemon does not answer, or not in JSON.
    pub fn show(&self, what: &str) -> Result<Value> {
        let text = self.control(&["show", what, "--json"])?;
        serde_json::from_str(&text)
            .map_err(|e| Error::because(format!("tidegate show {what} --json said {text:?}"), e))
    }

    /// Runs `tidegate ARGUMENTS --socket …` and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new(&self.binary)
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .stderr(Stdio::piped()))
    }

    /// Replaces the profile's text, for a `reload`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_profile(&self, text: &str) -> Result<()> {
        std::fs::write(&self.profile, text).map_err(|e| Error::because(self.profile.display(), e))
    }

    /// The profile's text.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_profile(&self) -> Result<String> {
        std::fs::read_to_string(&self.profile)
            .map_err(|e| Error::because(self.profile.display(), e))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running.signal(signal)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.running.ended()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still there after `limit`; the error holds the end of its log.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.running
            .wait(limit)
            .map_err(|e| Error::new(format!("{e}\n{}", self.log_end())))
    }

    /// Kills it as a crash would.
    pub fn crash(&mut self) {
        self.running.kill();
    }

    /// All that it has logged.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let end = &lines[lines.len().saturating_sub(25)..];
        format!("{} ends so:\n{}", self.log.display(), end.join("\n"))
    }
}

/// Where `tidegate` is: beside the running program, or beside a test's folder.
///
/// # Errors
/// When it has not been built.
pub fn beside_this_program() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|e| Error::because("this program's path", e))?;
    let places = own.ancestors().skip(1).take(2);
    for folder in places {
        let path = folder.join("tidegate");
        if path.is_file() {
            return Ok(path);
        }
    }
    Err(Error::new(format!(
        "tidegate is not beside {}: build it (cargo build -p tidegate)",
        own.display()
    )))
}
