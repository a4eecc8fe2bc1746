//! `tidegate-perf test`: measures what stands between two devices.
//!
//! The devices are the user's, with an appliance between them, or this program's own, with
//! subjects that it starts one after the other. Each scenario gets a [`Bench`]: testers, one for
//! each subject, and the report.

mod attacks;
mod connections;
mod cost;
mod devices;
mod proved;
mod searches;
mod traffic;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::progress::Progress;
use crate::report::Report;
use crate::subjects::{Cores, Ground, Job, Kind, Over, Settings, Subject};
use crate::tester::{Engine, EngineSettings, Patience, Stop, Tester};
use crate::traffic::Traffic;
use crate::units;
use crate::wiring::Wiring;

/// What `test` is told.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// What is measured.
    scenario: Scenario,
    #[command(flatten)]
    devices: devices::Devices,
    /// Who is measured, instead of what stands between devices of yours: started here, one after
    /// the other.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["tx", "rx"])]
    subject: Vec<Kind>,
    /// How such subjects are joined to the tester.
    #[arg(long, default_value = "memif")]
    over: Over,
    /// What is sent, as a file of conf/traffic describes it; by default UDP both ways.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["one_way", "ipv6"])]
    traffic: Option<PathBuf>,
    /// Sizes of frames, check sequence included: numbers, `imix`, or letters of an IMIX genome; by
    /// default those of the file, or of RFC 2544 and the mix.
    #[arg(long, value_delimiter = ',', value_name = "SIZE")]
    sizes: Vec<String>,
    /// Sends from the first device to the second only.
    #[arg(long)]
    one_way: bool,
    /// Sends over IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Frames a second, both directions together, for scenarios that do not search.
    #[arg(long, value_name = "FRAMES", value_parser = frames)]
    rate: Option<f64>,
    /// The most frames a second that a search tries; by default what the line carries.
    #[arg(long, value_name = "FRAMES", value_parser = frames)]
    limit: Option<f64>,
    /// How long one trial sends; by default each scenario's own.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// How long the search for one size may take; what was found until then is told.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "3600s")]
    time: Duration,
    /// How often `cost` measures each subject, and `attacks` each attack.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long links may take to come up.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "5s")]
    link_wait: Duration,
    /// After such a time without a frame the missing ones are lost: longer than the way takes.
    #[arg(long, value_parser = duration, value_name = "TIME", default_value = "200ms")]
    late: Duration,
    #[command(flatten)]
    connections: connections::Options,
    /// Where reports are written.
    #[arg(long, default_value = "target/perf", value_name = "FOLDER")]
    output: PathBuf,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The traffic once, at its own rate or the one given: what came of it.
    Traffic,
    /// Throughput at no loss (NDR) and at 0.5 % (PDR) by size, by the method of MLRsearch.
    Ndr,
    /// RFC 2544: throughput, latency, frame loss and back-to-back by size.
    Rfc2544,
    /// Latency and jitter at 10, 50 and 90 % of the throughput at no loss.
    Latency,
    /// One load for long: whether loss or latency drift.
    Soak,
    /// The most connections a second that are complete, asked and answered (RFC 9411 §7.2).
    Setups,
    /// Many connections at once: opened, held, proved to live, closed (RFC 9411 §7.5).
    Concurrent,
    /// Times to SYN-ACK, first and last octet, at half of the most set-ups (RFC 9411 §7.4).
    Ttfb,
    /// What is left of legitimate connections while spoofed SYNs and forged ACKs come.
    GuardFlood,
    /// What is left of legitimate connections to the daemon while each known attack comes.
    Attacks,
    /// What a packet takes of the time of each subject, round by round.
    Cost,
}

impl Scenario {
    /// What it measures of connections, if it does.
    fn of_connections(self) -> Option<connections::Kind> {
        match self {
            Self::Setups => Some(connections::Kind::Setups),
            Self::Concurrent => Some(connections::Kind::Concurrent),
            Self::Ttfb => Some(connections::Kind::Ttfb),
            Self::GuardFlood => Some(connections::Kind::GuardFlood),
            _ => None,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = units::time(text).map(Duration::from_nanos)?;
    if time.is_zero() {
        return Err("a time must be longer than nothing".into());
    }
    Ok(time)
}

fn frames(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..1e12).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate of frames a second")),
    }
}

/// One who is measured.
struct Place {
    name: String,
    tester: Tester,
    /// None for what the user put there.
    subject: Option<Box<dyn Subject>>,
}

/// What a scenario measures with.
struct Bench {
    places: Vec<Place>,
    report: Report,
    progress: Progress,
    stop: Stop,
}

/// Whether a scenario was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Interrupted,
}

/// What crosses threads.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures, writes the reports and returns the table.
///
/// # Errors
/// When the arguments contradict each other, the tester cannot begin, or a trial fails. What was
/// measured until then is in the reports.
pub fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let stop = Stop::on_interrupt()?;
    if arguments.scenario == Scenario::Attacks {
        return attacks::run(arguments, stop).map_err(|failure| -> Box<dyn Error> { failure });
    }
    if let Some(kind) = arguments.scenario.of_connections() {
        return connections::run(arguments, kind, stop)
            .map_err(|failure| -> Box<dyn Error> { failure });
    }
    if arguments.subject.is_empty() {
        let largest = arguments
            .largest()
            .map_err(|failure| -> Box<dyn Error> { failure })?;
        let wiring = arguments.devices.wiring(largest)?;
        return with_devices(arguments, &wiring, stop)
            .map_err(|failure| -> Box<dyn Error> { failure });
    }
    let settings = Settings {
        over: arguments.over,
        job: Job::Forward,
        ..Settings::default()
    };
    let ground = Arc::new(Ground::new(settings, Cores::choose())?);
    let (inner, arguments) = (Arc::clone(&ground), arguments.clone());
    // Ports on links of the kernel's are opened where those are.
    let table = ground
        .tester()
        .within(move || with_subjects(&arguments, &inner, stop))?;
    table.map_err(|failure| -> Box<dyn Error> { failure })
}

/// Measures what the user put between two devices.
fn with_devices(arguments: &Arguments, wiring: &Wiring, stop: Stop) -> Result<String, Failure> {
    let engine = Engine::start(&arguments.devices.engine(arguments.largest()?))?;
    let tester = arguments.open(&engine, wiring, &stop)?;
    let place = Place {
        name: "subject".into(),
        tester,
        subject: None,
    };
    arguments.measure(vec![place], &[], &engine, wiring, stop)
}

/// Measures subjects that are started here.
fn with_subjects(arguments: &Arguments, ground: &Ground, stop: Stop) -> Result<String, Failure> {
    let mut skipped = Vec::new();
    let subjects = ground.start_all(&arguments.subject, |absent| {
        lab::command::tell(&absent.to_string());
        skipped.push(absent.to_string());
    })?;
    let engine = Engine::start(&EngineSettings {
        cores: vec![Cores::choose().tester],
        largest_frame: arguments.largest()?,
        pairs: subjects.len(),
        ..EngineSettings::default()
    })?;
    let mut places = Vec::new();
    let mut wiring = None;
    for mut subject in subjects {
        subject.resume()?;
        let tester = arguments.open(&engine, subject.wiring(), &stop)?;
        subject.rest()?;
        wiring.get_or_insert_with(|| subject.wiring().clone());
        places.push(Place {
            name: subject.kind().name().into(),
            tester,
            subject: Some(subject),
        });
    }
    let Some(wiring) = wiring else {
        return Err(format!("there is nobody to measure: {}", skipped.join("; ")).into());
    };
    arguments.measure(places, &skipped, &engine, &wiring, stop)
}

impl Arguments {
    fn open(&self, engine: &Engine, wiring: &Wiring, stop: &Stop) -> Result<Tester, Failure> {
        let patience = Patience {
            link: self.link_wait,
            quiet: self.late,
            longest: self.late.max(Patience::default().longest),
        };
        let mut all = self.traffics()?;
        let tester = Tester::open(engine, wiring, all[0].clone(), patience, stop)?;
        for traffic in all.drain(1..) {
            tester.has_room_for(&traffic)?;
        }
        Ok(tester)
    }

    /// The largest frame that is sent.
    fn largest(&self) -> Result<usize, Failure> {
        let largest = self.traffics()?.iter().map(Traffic::largest).max();
        Ok(largest.unwrap_or(0))
    }

    /// What is sent: that of the file, or the built-in, in each of the sizes. At least one.
    fn traffics(&self) -> Result<Vec<Traffic>, Failure> {
        let of_file = self
            .traffic
            .as_deref()
            .map(crate::traffic::load)
            .transpose()?;
        let sizes = match &of_file {
            Some(traffic) if self.sizes.is_empty() => return Ok(vec![traffic.clone()]),
            _ => traffic::sizes(&self.sizes, self.ipv6)?,
        };
        let of_size = |(name, sizes): &traffic::Named| match &of_file {
            Some(traffic) => {
                let traffic = traffic.clone().with_sizes(sizes);
                let name = format!("{}.{name}", traffic.name);
                Traffic { name, ..traffic }
            }
            None if self.one_way => Traffic::both_ways(name, sizes, self.ipv6).one_way_only(),
            None => Traffic::both_ways(name, sizes, self.ipv6),
        };
        Ok(sizes.iter().map(of_size).collect())
    }

    /// Runs the scenario and writes the reports, whatever came of it.
    fn measure(
        &self,
        places: Vec<Place>,
        skipped: &[String],
        engine: &Engine,
        wiring: &Wiring,
        stop: Stop,
    ) -> Result<String, Failure> {
        let mut report = Report::new(engine.cores()[0], engine.has_huge_pages());
        let devices = [&wiring.outside.device, &wiring.inside.device];
        report.devices(devices.map(String::as_str), wiring.is_physical);
        for place in &places {
            if let Some(subject) = &place.subject {
                report.subject(&place.name, subject.version());
            }
        }
        for who in skipped {
            report.note(who);
        }
        if let Some(traffic) = self.traffics()?.first() {
            traffic::tell_cuts(traffic, &mut report);
        }
        let mut bench = Bench {
            places,
            report,
            progress: Progress::on_stderr(),
            stop,
        };
        let end = match self.scenario {
            Scenario::Traffic => traffic::run(self, &mut bench),
            Scenario::Ndr => searches::ndr(self, &mut bench),
            Scenario::Rfc2544 => searches::rfc2544(self, &mut bench),
            Scenario::Latency => searches::latency(self, &mut bench),
            Scenario::Soak => searches::soak(self, &mut bench),
            Scenario::Setups
            | Scenario::Concurrent
            | Scenario::Ttfb
            | Scenario::GuardFlood
            | Scenario::Attacks => Err("connections are measured by their own ends".into()),
            Scenario::Cost => cost::run(self, &mut bench),
        };
        bench.progress.finish();
        match &end {
            Ok(End::Whole) if !bench.stop.is_raised() => {}
            Ok(_) => bench.report.partial("interrupted"),
            Err(failure) => bench.report.partial(&failure.to_string()),
        }
        bench.report.write_all(&self.output)?;
        end?;
        Ok(bench.report.table())
    }
}
