//! `test attacks`: what is left of legitimate connections under each attack that is known, against
//! none and against as many harmless packets, in turn.
//!
//! Client, servers and attacker are one thread, and the daemon has the other core. So part of a
//! slow-down may be the tester's and the links' own: what as many harmless packets do, which a
//! router would carry, is the floor.

mod figures;
mod siege;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;

use self::figures::{Rounds, add_attack, add_baseline};
use self::siege::Siege;
use super::{Arguments, Failure};
use crate::endpoints::device::DevicePort;
use crate::endpoints::flood::Kind;
use crate::endpoints::site::SiteSettings;
use crate::endpoints::{Arena, Came, Offer};
use crate::progress::Progress;
use crate::report::Report;
use crate::subjects::{self, Cores, Ground, Job, Settings, Subject, TOLD_WITHIN};
use crate::tester::{Engine, EngineSettings, Patience, Stop};
use crate::trial::TrialError;

/// Octets of an ordinary frame with its check sequence.
const LARGEST_FRAME: usize = 1518;
/// Packets a second of each attack, by default.
const ATTACK_PER_S: f64 = 50_000.0;
/// Legitimate connections a second, by default.
const CONNECTIONS_PER_S: f64 = 500.0;
/// How long each step lasts, by default.
const STEP: Duration = Duration::from_secs(3);

/// What comes beside the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Packets(Kind),
    /// Connections to the control socket and the metrics that say nothing.
    Idle,
}

/// What is compared with.
const BASELINES: [(&str, Beside); 2] = [
    ("none", Beside::Nothing),
    ("harmless", Beside::Packets(Kind::Harmless)),
];
const ATTACKS: [(&str, Beside); 7] = [
    ("syns", Beside::Packets(Kind::Syns)),
    ("forged_acks", Beside::Packets(Kind::Acks)),
    ("scan", Beside::Packets(Kind::Scan)),
    ("fragments", Beside::Packets(Kind::Fragments)),
    ("icmp_errors", Beside::Packets(Kind::Errors)),
    ("expired", Beside::Packets(Kind::Expired)),
    ("idle", Beside::Idle),
];

/// What came of one step.
struct Step {
    came: Came,
    first_byte_ns: Histogram<u64>,
    /// What the guard counted meanwhile.
    counted: BTreeMap<String, u64>,
    /// How often the control socket and the metrics answered, of how many times, where that was asked.
    answers: Option<siege::Answers>,
}

/// Measures, writes the reports and returns the table.
pub(super) fn run(arguments: &Arguments, stop: Stop) -> Result<String, Failure> {
    let kind = match arguments.subject[..] {
        [kind @ (subjects::Kind::Tidegate | subjects::Kind::TidegateXdp)] => kind,
        _ => return Err("attacks are measured on the daemon alone: --subject tidegate".into()),
    };
    let settings = Settings {
        over: arguments.over,
        job: Job::Guard,
        under_attack: true,
        ..Settings::default()
    };
    let ground = Arc::new(Ground::new(settings, Cores::choose())?);
    let (inner, arguments) = (Arc::clone(&ground), arguments.clone());
    // Ports on links of the kernel's are opened where those are.
    ground.tester().within(move || {
        let mut subject = inner.start(kind)?;
        measure(&arguments, subject.as_mut(), &stop)
    })?
}

fn measure(
    arguments: &Arguments,
    subject: &mut dyn Subject,
    stop: &Stop,
) -> Result<String, Failure> {
    let engine = Engine::start(&EngineSettings {
        cores: vec![Cores::choose().tester],
        largest_frame: LARGEST_FRAME,
        ..EngineSettings::default()
    })?;
    let wiring = subject.wiring().clone();
    let mut report = Report::new(engine.cores()[0], engine.has_huge_pages());
    let devices = [&wiring.outside.device, &wiring.inside.device];
    report.devices(devices.map(String::as_str), wiring.is_physical);
    report.subject(subject.kind().name(), subject.version());
    let per_s = arguments.rate.unwrap_or(ATTACK_PER_S);
    let connections = arguments.connections.per_s().unwrap_or(CONNECTIONS_PER_S);
    report.parameter("attack_per_s", per_s);
    report.parameter("connections_per_s", connections);
    report.parameter("rounds", arguments.rounds);
    let progress = Progress::on_stderr();
    let site = SiteSettings {
        connections: 20_000,
        ..SiteSettings::default()
    };
    let patience = Patience {
        link: arguments.link_wait,
        ..Patience::default()
    };
    let polled = engine.polling(|| -> Result<Rounds, Failure> {
        let mut arena = site.open(&engine, &wiring, patience, stop)?;
        let offer = Offer {
            flood_per_s: per_s,
            ..Offer::rate(connections, arguments.duration.unwrap_or(STEP))
        };
        let mut rounds = Rounds::default();
        // What is asked for first is learned before anything is measured.
        let warm_up = step(&mut arena, subject, &offer, Beside::Nothing);
        ended(warm_up)?;
        for round in 0..arguments.rounds {
            for (name, beside) in BASELINES.into_iter().chain(ATTACKS) {
                progress.begin(&format!(
                    "{name}, round {} of {}",
                    round + 1,
                    arguments.rounds
                ));
                match ended(step(&mut arena, subject, &offer, beside))? {
                    Some(step) => rounds.add(name, step),
                    None => return Ok(rounds),
                }
            }
        }
        Ok(rounds)
    })?;
    progress.finish();
    match &polled {
        Ok(rounds) => {
            let subject = subject.kind().name();
            for (name, _) in BASELINES {
                add_baseline(&mut report, subject, rounds, name);
            }
            for (name, beside) in ATTACKS {
                let is_flood = beside != Beside::Idle;
                add_attack(
                    &mut report,
                    subject,
                    rounds,
                    name,
                    is_flood.then_some(per_s),
                );
            }
            if stop.is_raised() {
                report.partial("interrupted");
            }
        }
        Err(failure) => report.partial(&failure.to_string()),
    }
    report.write_all(&arguments.output)?;
    polled?;
    Ok(report.table())
}

/// A step's outcome; `None` where the user wants no more.
fn ended(step: Result<Step, Failure>) -> Result<Option<Step>, Failure> {
    match step {
        Ok(step) => Ok(Some(step)),
        Err(failure) => match failure.downcast_ref::<TrialError>() {
            Some(TrialError::Interrupted) => Ok(None),
            _ => Err(failure),
        },
    }
}

/// Offers the connections, and what comes beside them.
fn step(
    arena: &mut Arena<DevicePort>,
    subject: &mut dyn Subject,
    offer: &Offer,
    beside: Beside,
) -> Result<Step, Failure> {
    let (daemon, namespace) = subject.daemon().ok_or("there is no daemon to be asked")?;
    let before = counters(subject)?;
    let siege = match beside {
        Beside::Idle => Some(Siege::begin(daemon.socket(), namespace)?),
        Beside::Nothing | Beside::Packets(_) => None,
    };
    let came = arena.run(&Offer {
        flood_per_s: match beside {
            Beside::Packets(_) => offer.flood_per_s,
            Beside::Nothing | Beside::Idle => 0.0,
        },
        flood: match beside {
            Beside::Packets(kind) => kind,
            Beside::Nothing | Beside::Idle => Kind::Harmless,
        },
        ..*offer
    })?;
    let answers = match siege {
        Some(siege) => Some(siege.end(daemon, namespace)?),
        None => None,
    };
    let mut counted = counters(subject)?;
    for (name, count) in &mut counted {
        *count -= before.get(name).copied().unwrap_or(0);
    }
    counted.retain(|_, count| *count > 0);
    Ok(Step {
        first_byte_ns: came.latencies.first_byte_ns.clone(),
        came,
        counted,
        answers,
    })
}

/// What the daemon has counted of packets that it did not simply carry: drops by reason, and what it
/// made itself.
fn counters(subject: &dyn Subject) -> Result<BTreeMap<String, u64>, Failure> {
    const EVENTS: [&str; 4] = [
        "cookie_sent",
        "forwarded",
        "icmp_error_sent",
        "icmp_error_suppressed",
    ];
    let (daemon, _) = subject.daemon().ok_or("there is no daemon to be asked")?;
    std::thread::sleep(TOLD_WITHIN);
    let rows = |value: &Value, list: &str| value[list].as_array().cloned().unwrap_or_default();
    let mut counted = BTreeMap::new();
    for row in rows(&daemon.show("drops")?, "drops") {
        let reason = row["reason"].as_str().unwrap_or_default().to_owned();
        counted.insert(reason, row["count"].as_u64().unwrap_or(0));
    }
    for worker in rows(&daemon.show("workers")?, "workers") {
        for event in EVENTS {
            let count = worker["events"][event].as_u64().unwrap_or(0);
            *counted.entry(event.to_owned()).or_default() += count;
        }
    }
    Ok(counted)
}
