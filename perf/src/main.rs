//! Tidegate's measuring tools: a packet generator and a link emulator.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use perf::{bench, flood, link, report, test, traffic};

/// Measures Tidegate, and makes the traffic to do so. Use it only on links of your own.
#[derive(Debug, Parser)]
#[command(name = "tidegate-perf", version)]
struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Measures the daemon's worker against the floor, in one process.
    Bench(bench::Arguments),
    /// Counts the hot path's instructions by callgrind, against those that were recorded.
    Count(bench::count::Arguments),
    /// Sends spoofed SYNs and forged ACKs, bounded in rate and time.
    Flood(flood::Arguments),
    /// Carries frames between two devices as a slow or lossy link would.
    Link(Box<link::Arguments>),
    /// Prints the JSON Schema of report.json, or of descriptions of traffic.
    Schema {
        /// Of what.
        #[arg(default_value = "report")]
        of: Described,
    },
    /// Measures what stands between two devices.
    Test(Box<test::Arguments>),
}

/// What has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Described {
    /// What a run writes.
    Report,
    /// What `test --traffic` reads.
    Traffic,
}

fn main() -> ExitCode {
    let report: Result<String, Box<dyn Error>> = match Arguments::parse().tool {
        Tool::Bench(arguments) => bench::run(&arguments),
        Tool::Count(arguments) => bench::count::run(&arguments),
        Tool::Flood(arguments) => flood::run(&arguments).map_err(Into::into),
        Tool::Link(arguments) => link::run(&arguments),
        Tool::Schema { of } => Ok(match of {
            Described::Report => report::json_schema_text(),
            Described::Traffic => traffic::json_schema_text(),
        }
        .trim_end()
        .to_owned()),
        Tool::Test(arguments) => test::run(&arguments),
    };
    match report {
        Ok(report) => {
            let _ = writeln!(std::io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tidegate-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
