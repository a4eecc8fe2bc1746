//! The command line: one file for each command.
//!
//! A command writes to the two streams it is handed and gives back its exit code, so that a test
//! can call it as the shell does.

mod capture;
mod check;
mod doctor;
mod end;
mod keygen;
mod reload;
mod run;
mod schema;
mod show;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client;
use crate::failure::Failure;

/// A command's end: 0 done, 1 refused or failed, 2 called wrongly; 3 is `show peers --check`'s no.
pub(crate) type Outcome = io::Result<u8>;

/// Where a command writes: what was asked for, and what is wrong.
pub(crate) struct Streams<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
}

/// One appliance for the edge of a network.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an appliance, in the foreground, until it is told to stop
    Run(run::Arguments),
    /// Check profiles wholly, with no packet sent
    Check(check::Arguments),
    /// Make or rotate the file of the cookie keys
    Keygen(keygen::Arguments),
    /// Say what this machine lacks for DPDK or for a profile, and how to cure it
    Doctor(doctor::Arguments),
    /// Show what a running daemon knows
    Show(show::Arguments),
    /// Copy packets of a running daemon into a pcapng file
    Capture(capture::Arguments),
    /// End one session of a running daemon: both of its ends are reset
    End(end::Arguments),
    /// Have a running daemon read its profile and keys again; bad ones change nothing
    Reload(reload::Arguments),
    /// Print the JSON Schema of profiles
    #[command(hide = true)]
    Schema,
}

/// Which daemon is meant.
#[derive(Debug, clap::Args)]
struct SocketArguments {
    /// The daemon's control socket; without it, $TIDEGATE_SOCKET, or the only one in /run/tidegate
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArguments {
    fn path(&self) -> Result<PathBuf, Failure> {
        let environment = std::env::var_os(client::SOCKET_VARIABLE);
        client::find_socket(self.socket.as_deref(), environment, None)
    }
}

/// Runs the process's own command line.
#[must_use]
pub fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    ExitCode::from(run(std::env::args_os(), &mut out, &mut err))
}

/// Runs one command line, the name of the command included, and gives its exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let mut streams = Streams { out, err };
    let outcome = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => dispatch(&arguments.command, &mut streams),
        Err(usage) => {
            let code = u8::try_from(usage.exit_code()).unwrap_or(2);
            let stream = if usage.use_stderr() {
                &mut streams.err
            } else {
                &mut streams.out
            };
            write!(stream, "{usage}").map(|()| code)
        }
    };
    match outcome.and_then(|code| streams.out.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // With no stream left to say it on, the exit code is all that remains.
            let _ = writeln!(streams.err, "tidegate: {error}");
            1
        }
    }
}

fn dispatch(command: &Command, streams: &mut Streams<'_>) -> Outcome {
    match command {
        Command::Run(arguments) => run::run(arguments, streams),
        Command::Show(arguments) => show::run(arguments, streams),
        Command::Capture(arguments) => capture::run(arguments, streams),
        Command::End(arguments) => end::run(arguments, streams),
        Command::Reload(arguments) => reload::run(arguments, streams),
        Command::Check(arguments) => check::run(arguments, streams),
        Command::Keygen(arguments) => keygen::run(arguments, streams),
        Command::Doctor(arguments) => doctor::run(arguments, streams),
        Command::Schema => schema::run(streams),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs a command line as the shell does: exit code, output, errors.
    pub(crate) fn shell<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = words.iter().map(|word| word.as_ref().to_owned());
        let line = std::iter::once(OsString::from("tidegate")).chain(words);
        let code = run(line, &mut out, &mut err);
        (
            code,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_calls_end_with_two_and_say_what_was_meant() {
        let (code, out, err) = shell(&["chek"]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("'check'"), "{err}");
        assert_eq!(shell::<&str>(&[]).0, 2);
        assert_eq!(shell(&["show", "ports", "--check"]).0, 2);
        assert_eq!(shell(&["show", "peers", "--check", "--json"]).0, 2);
        assert_eq!(shell(&["show", "ports", "--state", "opening"]).0, 2);
        assert_eq!(shell(&["end", "198.51.100.7", "10.0.0.10:80"]).0, 2);
        let nobody = ["show", "peers", "--check", "--socket", "/nowhere"];
        assert_eq!(shell(&nobody).0, 1);
        let (code, out, _) = shell(&["--help"]);
        assert_eq!(code, 0);
        assert!(out.contains("doctor") && !out.contains("schema"), "{out}");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let line = ["tidegate", "schema"].map(OsString::from);
        assert_eq!(run(line, &mut Closed, &mut Vec::new()), 0);
    }
}
