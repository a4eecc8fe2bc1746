//! The demo: a server under a flood of spoofed SYNs and forged ACKs, first without the guard, then
//! with it. Ends with 0 only when every connection through the guard was served byte for byte and
//! no packet of the flood reached the server.
#![forbid(unsafe_code)]

mod clients;
mod latency;
mod report;
mod show;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use lab::address::SERVER;
use lab::daemon::{Daemon, beside_this_program};
use lab::filter::Interest;
use lab::flood::{self, Flood, Kind};
use lab::observer::Observer;
use lab::profile::Profile;
use lab::server::Site;
use lab::{Forwarder, Lab, Options, Result};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::report::{Attack, Report};

/// How long the flood lasts before the first client asks.
const HEAD_START: Duration = Duration::from_secs(1);

/// Shows a server under flood without and with Tidegate's guard, in name spaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "tidegate-demo", version)]
struct Arguments {
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
    match outcome
        .map_err(|error| error.to_string())
        .and_then(|report| report.verdict())
    {
        Ok(()) => {
            say("The guard held: every connection was served, byte for byte, and no packet of the");
            say("flood reached the server.");
            ExitCode::SUCCESS
        }
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

/// Builds the labs, shows everything and prints the table. When something was not as it should be,
/// the logs of the guarded lab are kept.
fn demonstrate(arguments: &Arguments) -> Result<Report> {
    let binary = match &arguments.tidegate {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let _exclusive = lab::exclusive()?;
    let started = Instant::now();
    say("Two labs of name spaces, clients – guard – server, alike but for what forwards:");
    say("  in one the kernel, in the other Tidegate. The servers' SYN cookies are off.");
    let site = Site::write(arguments.large * 1_000_000)?;
    let direct = Lab::build(Options::default(), Forwarder::Kernel, &site)?;
    let guarded = Lab::build(Options::default(), Forwarder::Daemon, &site)?;
    let report = show_all(arguments, direct, &guarded, &binary);
    if !report.as_ref().is_ok_and(|report| report.verdict().is_ok()) {
        guarded.scratch.keep();
    }
    let report = Report {
        took: started.elapsed(),
        ..report?
    };
    say(&report.table());
    Ok(report)
}

fn show_all(arguments: &Arguments, direct: Lab, guarded: &Lab, binary: &Path) -> Result<Report> {
    let mut daemon = Daemon::start(guarded, binary, &Profile::default())?;
    say("\nWithout a flood: the time to the first byte, by turns through both.");
    let latency = latency::measure(&direct, guarded)?;
    say(&format!("  {latency}"));

    say(&format!(
        "\nWithout the guard: {} spoofed SYNs and forged ACKs a second.",
        arguments.rate
    ));
    let settings = clients::Settings {
        duration: Duration::from_secs(arguments.without),
        patience: Duration::from_secs(3),
        with_large: false,
    };
    let without = attack(&direct, arguments.rate, settings)?;
    drop(direct);

    say(&format!(
        "\nWith the guard: the same, and bodies of {} MB too.",
        arguments.large
    ));
    let settings = clients::Settings {
        duration: Duration::from_secs(arguments.with),
        patience: Duration::from_secs(40),
        with_large: true,
    };
    let with = attack(guarded, arguments.rate, settings)?;
    let shown = show::read(&daemon)?;
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait(Duration::from_secs(20))?;
    Ok(Report {
        latency,
        without,
        with,
        shown,
        daemon_ended_well: status.success(),
        took: Duration::ZERO,
    })
}

/// Floods the lab's server while clients ask, and prints a line each second.
fn attack(lab: &Lab, rate: u64, settings: clients::Settings) -> Result<Attack> {
    let outside = Observer::start(&lab.clients, "wan0", Interest::SynAcksOfClients)?;
    let inside = Observer::start(&lab.server, "lan0", Interest::SynsAndSpoofed)?;
    let destinations = SERVER.map(|address| (address, 80).into()).to_vec();
    let gateway = lab.guard_hardware_address()?;
    let flooded = flood::Settings::of_lab("wan0", gateway, destinations, Kind::Mixed, rate, 120);
    let flood = Flood::start(&lab.clients, flooded)?;
    std::thread::sleep(HEAD_START);
    let served = clients::run(lab, settings, |second, progress| {
        let (syns, acks) = flood.so_far();
        let came = inside.spoofed_syns();
        say(&format!(
            "  {second:2} s  {progress}  flood: {syns:7} SYNs, {acks:7} ACKs; at the server: {came:6} SYNs"
        ));
    })?;
    let sent = flood.stop()?;
    // What is on its way still arrives.
    std::thread::sleep(Duration::from_millis(300));
    let inside = inside.stop()?;
    let outside = outside.stop()?;
    Ok(Attack {
        served,
        sent,
        sequence_numbers: inside.compare(&outside),
        inside,
    })
}
