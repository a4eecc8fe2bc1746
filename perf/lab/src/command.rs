//! Other programs: run to their end, or kept running.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Error, Result};

/// Runs a program to its end and returns what it wrote to its standard output.
///
/// # Errors
/// When it cannot be started or ends with another status than 0; the error holds its command line
/// and what it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::because(line_of(command), e))?;
    finish(command, &output)
}

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let attempt = || -> std::io::Result<Output> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let mut attempt = attempt;
    let output = attempt();
    let output = output.map_err(|e| Error::because(line_of(command), e))?;
    finish(command, &output).map_err(|e| Error::new(format!("{e}\n  its input was:\n{input}")))
}

fn finish(command: &Command, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{}: {}: {} {}",
        line_of(command),
        output.status,
        stderr.trim(),
        stdout.trim()
    )))
}

/// The command line as a reader would type it.
#[must_use]
pub fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// A program that runs beside the test. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
}

impl Running {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let line = line_of(command);
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| Error::because(&line, e))?;
        Ok(Self { child, line })
    }

    /// Starts a program that ends when its standard input does: it does not outlive its owner,
    /// whatever becomes of that.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_held(command: &mut Command) -> Result<Self> {
        let line = line_of(command);
        let child = command
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|e| Error::because(&line, e))?;
        Ok(Self { child, line })
    }

    /// Types a line into it, where it was started by [`Running::start_held`].
    ///
    /// # Errors
    /// When it has ended, or does not listen.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let failed = |cause: &dyn std::fmt::Display| Error::because(&self.line, cause);
        let stdin = self.child.stdin.as_mut();
        let mut stdin = stdin.ok_or_else(|| failed(&"it was not started to be typed to"))?;
        writeln!(&mut stdin, "{line}").map_err(|e| failed(&e))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|e| Error::because(&self.line, e))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(process(self.child.id())?, signal)
            .map_err(|e| Error::because(format!("{signal} to {}", self.line), e))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(format!(
                    "{} still runs after {limit:?}",
                    self.line
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it at once and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn process(id: u32) -> Result<Pid> {
    i32::try_from(id)
        .map(Pid::from_raw)
        .map_err(|e| Error::because(format!("process {id}"), e))
}

/// Calls `check` until it answers, at most for `limit`.
///
/// # Errors
/// What `check` said last, when it never answered.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() >= deadline => {
                return Err(Error::new(format!("{what}: not within {limit:?}: {e}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Writes a line for the person at the terminal.
pub fn tell(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{line}");
}
