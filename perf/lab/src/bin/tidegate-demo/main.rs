//! The demo. In its first act a server is under a flood of spoofed SYNs and forged ACKs, first
//! without the guard, then with it. In its second one three guards share the same server's
//! connections, while routers spray every packet over them and one of them dies and comes back.
//! Ends with 0 only when every connection through guards was served byte for byte and no packet of
//! the flood reached the server.
#![forbid(unsafe_code)]

mod clients;
mod guard;
mod latency;
mod report;
mod share;
mod share_report;
mod show;
mod trouble;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lab::daemon::beside_this_program;
use lab::server::Site;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long the flood lasts before the first client asks.
const HEAD_START: Duration = Duration::from_secs(1);

/// What can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Act {
    /// One guard before a server under flood.
    Guard,
    /// Several guards that share its connections.
    Share,
}

/// Shows a server under flood without and with Tidegate's guard, in name spaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "tidegate-demo", version)]
struct Arguments {
    /// The act to play; both when it is not given.
    #[arg(long)]
    act: Option<Act>,
    /// The daemon; by default the one that was built with this program.
    #[arg(long)]
    tidegate: Option<PathBuf>,
    /// Packets of the flood a second.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// How long the flood lasts without the guard, in seconds.
    #[arg(long, default_value_t = 8)]
    without: u64,
    /// How long clients ask while it lasts with the guard, in seconds.
    #[arg(long, default_value_t = 15)]
    with: u64,
    /// How long clients ask while several guards share, in seconds.
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u64).range(8..=300))]
    share: u64,
    /// The large body, in megabytes.
    #[arg(long, default_value_t = 100)]
    large: u64,
}

fn main() -> ExitCode {
    clean_up_when_interrupted();
    let outcome = demonstrate(&Arguments::parse());
    let left = lab::namespace::left_behind();
    if !left.is_empty() {
        return failure(&format!("left behind: {}", left.join(", ")));
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failure(&reason),
    }
}

fn failure(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "tidegate-demo: {reason}");
    ExitCode::FAILURE
}

/// Writes a line for the one who watches.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}

/// Leaves nothing behind when a person has seen enough, or when something panics.
fn clean_up_when_interrupted() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        lab::namespace::sweep_own();
    }));
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                lab::namespace::sweep_own();
                std::process::exit(128 + signal);
            }
        });
    }
}

/// Plays one act and tells whether all was as it should be.
fn play(act: Act, arguments: &Arguments, binary: &Path, site: &Arc<Site>) -> Result<(), String> {
    match act {
        Act::Guard => {
            let report = guard::demonstrate(arguments, binary, site).map_err(|e| e.to_string())?;
            report.verdict()?;
            say("The guard held: every connection was served, byte for byte, and no packet of the");
            say("flood reached the server.\n");
        }
        Act::Share => {
            let report = share::demonstrate(arguments, binary, site).map_err(|e| e.to_string())?;
            report.verdict()?;
            say(
                "The guards shared: any packet took any path, one guard died and came back, and every",
            );
            say("connection was served, byte for byte.\n");
        }
    }
    Ok(())
}

/// Plays what was asked for, one act after the other.
fn demonstrate(arguments: &Arguments) -> Result<(), String> {
    let failed = |error: lab::Error| error.to_string();
    let binary = match &arguments.tidegate {
        Some(path) => path.clone(),
        None => beside_this_program().map_err(failed)?,
    };
    let _exclusive = lab::exclusive().map_err(failed)?;
    let site = Site::write(arguments.large * 1_000_000).map_err(failed)?;
    let acts = match arguments.act {
        Some(act) => vec![act],
        None => vec![Act::Guard, Act::Share],
    };
    let played = acts
        .into_iter()
        .map(|act| play(act, arguments, &binary, &site));
    let wrong: Vec<String> = played.filter_map(Result::err).collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}
