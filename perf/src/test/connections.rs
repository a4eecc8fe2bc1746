//! `test setups`, `concurrent`, `ttfb` and `guard-flood`: connections, complete and verified.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnetwork::IpNetwork;

use super::{Arguments, Failure, duration};
use crate::endpoints::device::DevicePort;
use crate::endpoints::scenario::{self, ConcurrentConfig, Findings, SetupsConfig, UnderFlood};
use crate::endpoints::site::SiteSettings;
use crate::endpoints::{Arena, Close, End};
use crate::progress::Progress;
use crate::report::Report;
use crate::subjects::{Cores, Ground, Job, Seen, Settings, Subject, prove};
use crate::tester::{Engine, EngineSettings, Patience, Stop};
use crate::trial::TrialError;
use crate::wiring::Wiring;

/// What connections are like.
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Who is asked, behind the second device; by default port 80 of each single address there.
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Vec<SocketAddr>,
    /// The most connections at once; for `concurrent`, how many are opened.
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER",
          value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    connections: u32,
    /// Connections a second; by default each scenario's own.
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    per_s: Option<f64>,
    /// Octets of each request.
    #[arg(long, default_value_t = 128, value_name = "OCTETS")]
    request_bytes: u32,
    /// Octets of each response behind its head.
    #[arg(long, default_value_t = 1024, value_name = "OCTETS")]
    response_bytes: u32,
    /// Who closes.
    #[arg(long, default_value = "client")]
    close: Closing,
    /// How long concurrent connections are held.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    hold: Duration,
    /// Packets a second of the flood, one step each.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0,1000,10000,100000,1000000",
        value_name = "RATE", value_parser = flood_rate
    )]
    floods: Vec<f64>,
    /// Where the flood claims to come from; by default nets that nobody has.
    #[arg(long, value_name = "PREFIX")]
    spoofed: Vec<IpNetwork>,
}

impl Options {
    /// Connections a second, where the user says so.
    pub(super) fn per_s(&self) -> Option<f64> {
        self.per_s
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Closing {
    /// The client, by FIN.
    Client,
    /// The server, by FIN.
    Server,
    /// The client, by RST.
    Reset,
}

/// What can be measured with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Setups,
    Concurrent,
    Ttfb,
    GuardFlood,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Setups => "setups",
            Self::Concurrent => "concurrent",
            Self::Ttfb => "ttfb",
            Self::GuardFlood => "guard-flood",
        }
    }
}

fn flood_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1e8).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is no rate of packets a second")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if rate > 0.0 && rate.is_finite() {
        Ok(rate)
    } else {
        Err(format!("{text} is no rate"))
    }
}

/// Legitimate connections a second beside a flood, and the rate at which concurrent ones come up.
const BESIDE_FLOOD_PER_S: f64 = 500.0;
const OPENED_PER_S: f64 = 20_000.0;
/// The share of the largest rate of set-ups at which times are taken (RFC 9411 §7.4.3).
const TTFB_SHARE: f64 = 0.5;
/// How long connections are begun at one rate, by default.
const TRIAL: Duration = Duration::from_secs(3);

/// Measures, writes the reports and returns the table.
pub(super) fn run(arguments: &Arguments, kind: Kind, stop: Stop) -> Result<String, Failure> {
    if arguments.subject.is_empty() {
        let wiring = arguments.devices.wiring(LARGEST_FRAME)?;
        let engine = Engine::start(&arguments.devices.engine(LARGEST_FRAME))?;
        let mut run = Run::new(arguments, kind, &engine, &wiring, stop);
        // Ports belong to the thread that polls them, which is not this one.
        let end = std::thread::scope(|scope| {
            let thread = scope.spawn(|| run.measure(&engine, &wiring, "subject"));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        return run.finish(end);
    }
    let settings = Settings {
        over: arguments.over,
        job: Job::Guard,
        sessions: arguments
            .connections
            .connections
            .saturating_mul(2)
            .max(262_144),
        ..Settings::default()
    };
    let ground = Arc::new(Ground::new(settings, Cores::choose())?);
    let (inner, arguments) = (Arc::clone(&ground), arguments.clone());
    // Ports on links of the kernel's are opened where those are.
    ground
        .tester()
        .within(move || with_subjects(&arguments, kind, &inner, stop))?
}

/// Measures subjects that are started here, one after the other on one core.
fn with_subjects(
    arguments: &Arguments,
    kind: Kind,
    ground: &Ground,
    stop: Stop,
) -> Result<String, Failure> {
    let mut skipped = Vec::new();
    let subjects = ground.start_all(&arguments.subject, |absent| {
        lab::command::tell(&absent.to_string());
        skipped.push(absent.to_string());
    })?;
    let engine = Engine::start(&EngineSettings {
        cores: vec![Cores::choose().tester],
        largest_frame: LARGEST_FRAME,
        pairs: subjects.len(),
        ..EngineSettings::default()
    })?;
    let Some(wiring) = subjects.first().map(|subject| subject.wiring().clone()) else {
        return Err(format!("there is nobody to measure: {}", skipped.join("; ")).into());
    };
    let mut run = Run::new(arguments, kind, &engine, &wiring, stop);
    skipped.iter().for_each(|skipped| run.report.note(skipped));
    let mut end = Ok(());
    for mut subject in subjects {
        if end.is_ok() && !run.stop.is_raised() {
            end = run.measure_subject(&engine, subject.as_mut());
        }
    }
    run.finish(end)
}

/// Octets of an ordinary frame with its check sequence.
const LARGEST_FRAME: usize = 1518;

/// One run, and what it has to tell.
struct Run<'a> {
    arguments: &'a Arguments,
    kind: Kind,
    report: Report,
    progress: Progress,
    stop: Stop,
}

impl<'a> Run<'a> {
    fn new(
        arguments: &'a Arguments,
        kind: Kind,
        engine: &Engine,
        wiring: &Wiring,
        stop: Stop,
    ) -> Self {
        let mut report = Report::new(engine.cores()[0], engine.has_huge_pages());
        let devices = [&wiring.outside.device, &wiring.inside.device];
        report.devices(devices.map(String::as_str), wiring.is_physical);
        let options = &arguments.connections;
        for (name, value) in [
            ("connections", options.connections),
            ("request_bytes", options.request_bytes),
            ("response_bytes", options.response_bytes),
        ] {
            report.parameter(name, value);
        }
        Self {
            arguments,
            kind,
            report,
            progress: Progress::on_stderr(),
            stop,
        }
    }

    /// Measures a subject that was started here, if it is proved to be in the path.
    fn measure_subject(
        &mut self,
        engine: &Engine,
        subject: &mut dyn Subject,
    ) -> Result<(), Failure> {
        let name = subject.kind().name();
        self.report.subject(name, subject.version());
        subject.resume()?;
        let before = subject.account()?;
        let wiring = subject.wiring().clone();
        let seen = self.measure(engine, &wiring, name)?;
        let after = subject.account()?;
        subject.rest()?;
        prove(subject.kind(), &before, &after, &seen)?;
        Ok(())
    }

    /// Measures what is between the wiring's devices, and says what the tester saw.
    fn measure(
        &mut self,
        engine: &Engine,
        wiring: &Wiring,
        subject: &str,
    ) -> Result<Seen, Failure> {
        let word = self.kind.name();
        self.progress.begin(&format!("{word} of {subject}"));
        let settings = self.settings();
        let patience = Patience {
            link: self.arguments.link_wait,
            ..Patience::default()
        };
        let polled = engine.polling(|| -> Result<_, Failure> {
            let mut arena = settings.open(engine, wiring, patience, &self.stop)?;
            let mut findings = Findings::default();
            let end = self.offer(&mut arena, subject, &mut findings);
            let servers = arena.servers.as_ref();
            let answered = servers.map_or(0, |servers| servers.segments_sent());
            let seen = Seen {
                sent_frames: arena.clients.segments_sent() + answered,
                carried_frames: None,
                connections: arena.clients.ends().of(End::Completed),
            };
            Ok((findings, end, seen))
        })?;
        let (findings, end, seen) = polled?;
        let Findings { measured, series } = findings;
        measured.into_iter().for_each(|row| self.report.add(row));
        series.into_iter().for_each(|line| self.report.plot(line));
        match end {
            Ok(()) | Err(TrialError::Interrupted) => Ok(seen),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes the reports, whatever came of the run.
    fn finish<T>(mut self, end: Result<T, Failure>) -> Result<String, Failure> {
        self.progress.finish();
        match &end {
            Ok(_) if !self.stop.is_raised() => {}
            Ok(_) => self.report.partial("interrupted"),
            Err(failure) => self.report.partial(&failure.to_string()),
        }
        self.report.write_all(&self.arguments.output)?;
        end?;
        Ok(self.report.table())
    }

    fn settings(&self) -> SiteSettings {
        let options = &self.arguments.connections;
        let mut settings = SiteSettings {
            servers: options.server.clone(),
            connections: options.connections,
            request_bytes: options.request_bytes,
            body_bytes: options.response_bytes,
            close: match (self.kind, options.close) {
                (Kind::Concurrent, _) => Close::Hold,
                (_, Closing::Client) => Close::Client,
                (_, Closing::Server) => Close::Server,
                (_, Closing::Reset) => Close::Reset,
            },
            ..SiteSettings::default()
        };
        if !options.spoofed.is_empty() {
            settings.spoofed.clone_from(&options.spoofed);
        }
        settings
    }

    fn offer(
        &self,
        arena: &mut Arena<DevicePort>,
        subject: &str,
        findings: &mut Findings,
    ) -> Result<(), TrialError> {
        let options = &self.arguments.connections;
        let trial = self.arguments.duration.unwrap_or(TRIAL);
        let defaults = SetupsConfig::default();
        let search = SetupsConfig {
            trial,
            most_per_s: self.arguments.limit.unwrap_or(defaults.most_per_s),
            first_per_s: options.per_s.unwrap_or(defaults.first_per_s),
            ..defaults
        };
        match (self.kind, options.per_s) {
            (Kind::Setups, _) | (Kind::Ttfb, None) => {
                let setups = scenario::search_setups(arena, &search)?;
                findings.extend(scenario::setups_findings(subject, &setups));
                match &setups.found {
                    Some((rate, _)) if self.kind == Kind::Ttfb && !setups.is_interrupted => {
                        scenario::ttfb(arena, subject, (rate * TTFB_SHARE, trial), findings)
                    }
                    _ => Ok(()),
                }
            }
            (Kind::Ttfb, Some(per_s)) => scenario::ttfb(arena, subject, (per_s, trial), findings),
            (Kind::Concurrent, per_s) => {
                let config = ConcurrentConfig {
                    connections: options.connections.into(),
                    per_s: per_s.unwrap_or(OPENED_PER_S),
                    hold: options.hold,
                };
                let became = scenario::concurrent(arena, &config)?;
                findings.extend(scenario::concurrent_findings(subject, &became));
                Ok(())
            }
            (Kind::GuardFlood, per_s) => {
                let config = UnderFlood {
                    per_s: per_s.unwrap_or(BESIDE_FLOOD_PER_S),
                    step: trial,
                    floods_per_s: options.floods.clone(),
                };
                scenario::under_flood(arena, subject, &config, findings)
            }
        }
    }
}
