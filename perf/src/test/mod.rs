//! `tidegate-perf test`: measures what stands between two devices.

mod devices;
mod traffic;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::report::Report;
use crate::tester::{Engine, Patience, Stop, Tester};
use crate::traffic::Traffic;
use crate::units;

/// What `test` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What is measured.
    scenario: Scenario,
    #[command(flatten)]
    devices: devices::Devices,
    /// Sizes of frames, check sequence included: numbers and `imix`; by default those of RFC 2544
    /// and the mix.
    #[arg(long, value_delimiter = ',', value_name = "SIZE")]
    sizes: Vec<String>,
    /// Sends from the first device to the second only.
    #[arg(long)]
    one_way: bool,
    /// Sends over IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Frames a second, both directions together, for scenarios that do not search.
    #[arg(long, value_name = "FRAMES")]
    rate: Option<f64>,
    /// The most frames a second that a search tries.
    #[arg(long, value_name = "FRAMES")]
    limit: Option<f64>,
    /// How long one trial sends; by default each scenario's own.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Where reports are written.
    #[arg(long, default_value = "target/perf", value_name = "FOLDER")]
    output: PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The traffic once, at its own rate or the one given: what came of it.
    Traffic,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::time(text).map(Duration::from_nanos)
}

/// A run: the tester, and what it has to tell.
struct Session {
    tester: Tester,
    report: Report,
    stop: Stop,
}

/// Measures, writes the reports and returns the table.
///
/// # Errors
/// When the arguments contradict each other, the tester cannot begin, or a trial fails.
pub fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let stop = Stop::on_interrupt()?;
    let wiring = arguments.devices.wiring()?;
    let sizes = traffic::sizes(&arguments.sizes, arguments.ipv6)?;
    let largest = sizes.iter().map(|(_, sizes)| sizes.largest()).max();
    let engine = Engine::start(&arguments.devices.engine(largest.unwrap_or(1518)))?;
    let first = arguments.traffic(&sizes[0])?;
    let tester = Tester::open(&engine, &wiring, first, Patience::default(), &stop)?;
    let mut report = Report::new(engine.cores()[0], false);
    let devices = [&wiring.outside.device, &wiring.inside.device];
    report.devices(devices.map(String::as_str), wiring.is_physical);
    let mut session = Session {
        tester,
        report,
        stop,
    };
    match arguments.scenario {
        Scenario::Traffic => traffic::run(arguments, &sizes, &mut session)?,
    }
    if session.stop.is_raised() {
        session.report.partial("interrupted");
    }
    session.report.write_all(&arguments.output)?;
    Ok(session.report.table())
}

impl Arguments {
    /// The built-in traffic of these sizes.
    fn traffic(&self, sizes: &traffic::Named) -> Result<Traffic, Box<dyn Error>> {
        let traffic = Traffic::both_ways(&sizes.0, &sizes.1, self.ipv6);
        Ok(if self.one_way {
            traffic.one_way_only()
        } else {
            traffic
        })
    }
}
