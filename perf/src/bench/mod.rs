//! What the daemon's worker costs, in one process over rings, each scenario against the floor.
//!
//! A batch of frames is put before the ports, the worker's turns until it has served them are
//! timed, and what left is checked and freed outside the timed part. Floor and scenario take
//! turns, so that a change of the machine's speed meets both.

pub mod count;
mod endpoints;
mod floor;
mod profile;
mod rig;
mod rings;
mod share;
mod sheet;

use std::error::Error;

use bindings::clock;
use bindings::eal::{self, EalConfig};
use bindings::mempool::MempoolConfig;
use bindings::{Eal, LogLevel, Mempool};
use dataplane::counters::Event;
use dataplane::drop_reason::DropReason;
use dataplane::guard::config::Mode;

use self::floor::{Floor, Work};
use self::profile::Profile;
use self::rig::{Connection, INSIDE, OUTSIDE, Rig};
use self::rings::{BATCH, Batch, Peer, ports};
use self::sheet::Sheet;
use crate::report::{Measured, Report, median};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The scenarios to run; all when none is named.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Rounds of floor and scenario in turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Frames of one round.
    #[arg(long, default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1024..))]
    frames: u32,
    /// The core to measure on; the last one when not given.
    #[arg(long)]
    core: Option<usize>,
    /// Take packet memory from huge pages, which must have been reserved.
    #[arg(long)]
    huge_pages: bool,
    /// Tell each scenario's nanoseconds by the stages of a worker's turn as well.
    #[arg(long)]
    profile: bool,
    /// A `report.json` of another part of this measurement, which the report takes in.
    #[arg(long, value_name = "FILE")]
    include: Vec<std::path::PathBuf>,
    /// Where the report goes.
    #[arg(long, default_value = "perf/out/report.json")]
    output: std::path::PathBuf,
}

/// What each scenario sends, and its goal as a ratio to the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Packets on a wire on which there is nothing to decide.
    Bare,
    /// Packets that no rule guards, routed.
    Forward,
    /// SYNs, each answered by a cookie.
    Syn,
    /// SYNs on a transparent wire, each carried to its server in an echo request.
    EchoSyn,
    /// ACKs with forged cookies, each refused.
    BadAck,
    /// Segments of so many open sessions, both ways, in random order.
    Splice(u32),
}

struct Scenario {
    name: &'static str,
    kind: Kind,
    goal: Option<f64>,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "loop",
        kind: Kind::Bare,
        goal: Some(1.15),
    },
    Scenario {
        name: "hop.forward",
        kind: Kind::Forward,
        goal: None,
    },
    Scenario {
        name: "guard.syn",
        kind: Kind::Syn,
        goal: Some(2.0),
    },
    Scenario {
        name: "guard.bad_ack",
        kind: Kind::BadAck,
        goal: Some(2.0),
    },
    Scenario {
        name: "echo.syn",
        kind: Kind::EchoSyn,
        goal: Some(2.0),
    },
    Scenario {
        name: "guard.splice.1k",
        kind: Kind::Splice(1_000),
        goal: Some(2.6),
    },
    Scenario {
        name: "guard.splice.1m",
        kind: Kind::Splice(1_000_000),
        goal: Some(2.6),
    },
    Scenario {
        name: "guard.splice.10m",
        kind: Kind::Splice(10_000_000),
        goal: Some(3.2),
    },
];
const FLOOR_READ: &str = "floor.read";
const SETUPS: &str = "guard.setups";
const SESSION_BYTES: &str = "guard.session_bytes";
/// Sessions opened to measure a set-up.
const SETUPS_OPENED: u32 = 200_000;
/// Octets that a session may take.
const SESSION_BYTES_GOAL: f64 = 128.0;

/// Runs the scenarios and writes the report; gives back the table.
pub fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let known = SCENARIOS
        .iter()
        .map(|s| s.name)
        .chain([FLOOR_READ, SETUPS, SESSION_BYTES])
        .chain(share::ALL)
        .chain(endpoints::ALL);
    let known: Vec<&str> = known.collect();
    if let Some(unknown) = arguments
        .scenarios
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        return Err(format!("no scenario {unknown}; there are: {}", known.join(", ")).into());
    }
    let core = pin(arguments.core)?;
    let eal = begin_eal(core, arguments.huge_pages)?;
    let _registration = eal::register_thread()?;
    let bench = Bench::new(eal, arguments)?;
    let mut report = Report::new(core, arguments.huge_pages);
    report.parameter("rounds", arguments.rounds);
    report.parameter("frames of a round", arguments.frames);
    if arguments.profile {
        report.note("stages are measured by the worker's stopwatch, whose own cost is taken off");
    }
    for path in &arguments.include {
        report.include(path)?;
    }
    let steps = known.iter().filter(|name| bench.wants(name)).count();
    let mut sheet = Sheet::new(report, &arguments.output, core, steps);
    bench.measure(&mut sheet)?;
    Ok(sheet.finish()?.table())
}

fn begin_eal(core: usize, huge_pages: bool) -> Result<Eal, bindings::Error> {
    Eal::init(&EalConfig {
        program: "tidegate-perf".into(),
        file_prefix: format!("tidegate-perf-{}", std::process::id()),
        huge_pages,
        memory_mib: 128,
        main_core: core,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })
}

fn pin(core: Option<usize>) -> Result<usize, Box<dyn Error>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let chosen = match core {
        Some(core) => cores.iter().find(|id| id.id == core),
        None => cores.last(),
    };
    let chosen = *chosen.ok_or("no such core; see `nproc` and taskset")?;
    if !core_affinity::set_for_current(chosen) {
        return Err(format!("core {} cannot be used", chosen.id).into());
    }
    Ok(chosen.id)
}

struct Bench<'a> {
    eal: Eal,
    pool: Mempool,
    arguments: &'a Arguments,
}

/// A source of numbers in no order, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }
}

impl<'a> Bench<'a> {
    fn new(eal: Eal, arguments: &'a Arguments) -> Result<Self, bindings::Error> {
        let pool = Mempool::new(
            &eal,
            &MempoolConfig {
                count: 4095,
                ..MempoolConfig::default()
            },
        )?;
        Ok(Self {
            eal,
            pool,
            arguments,
        })
    }
}

impl Bench<'_> {
    fn measure(&self, sheet: &mut Sheet<'_>) -> Result<(), Box<dyn Error>> {
        if self.wants(FLOOR_READ) {
            sheet.begin(FLOOR_READ);
            sheet.end([self.read_headers()?])?;
        }
        for scenario in &SCENARIOS {
            if self.wants(scenario.name) {
                sheet.begin(scenario.name);
                let (compared, profile) = self.compare(scenario)?;
                sheet.end([compared])?;
                if let Some(profile) = profile {
                    profile.put_into(&mut sheet.report);
                }
            }
        }
        if self.wants(SETUPS) || self.wants(SESSION_BYTES) {
            sheet.begin(SETUPS);
            let mut figures = self.set_ups()?;
            figures.retain(|measured| self.wants(&measured.scenario));
            sheet.end(figures)?;
        }
        if share::ALL.iter().any(|name| self.wants(name)) {
            sheet.begin("share");
            sheet.end(self.share()?)?;
        }
        if endpoints::ALL.iter().any(|name| self.wants(name)) {
            sheet.begin("endpoints");
            sheet.end(self.endpoints()?)?;
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.arguments.scenarios.is_empty() || self.arguments.scenarios.iter().any(|s| s == name)
    }

    /// A worker that stands as the scenario wants it.
    fn rig_of(&self, kind: Kind) -> Result<Rig, Box<dyn Error>> {
        let (capacity, mode) = match kind {
            Kind::Splice(sessions) => (sessions, Mode::Always),
            Kind::Bare | Kind::Forward => (1024, Mode::Off),
            _ => (1024, Mode::Always),
        };
        let mut rig = match kind {
            Kind::EchoSyn => Rig::transparent(&self.eal, &self.pool, capacity)?,
            Kind::Bare => Rig::wire(&self.eal, &self.pool)?,
            _ => Rig::new(&self.eal, &self.pool, capacity, mode)?,
        };
        if let Kind::Splice(sessions) = kind {
            rig.open(0, sessions, &mut |rig| while rig.poll() > 0 {});
            let opened = rig.worker.guard().status().live;
            if opened != sessions as usize {
                return Err(format!("{opened} of {sessions} sessions opened").into());
            }
        } else {
            rig.told = vec![Default::default(); 1_000_000];
        }
        Ok(rig)
    }

    /// One batch through a worker: cycles, frames, and whether all met their fate.
    fn serve(&self, kind: Kind, rig: &mut Rig, random: &mut Random) -> (u64, usize, bool) {
        let frames = self.batch(kind, rig, random);
        let before = progress(kind, rig);
        let count = put(&mut rig.peer, frames);
        let start = clock::cycles();
        turns(rig);
        let cycles = clock::cycles() - start;
        rig.discard();
        let is_right = progress(kind, rig) - before == count as u64;
        (cycles, count, is_right)
    }

    /// Measures one scenario in turn with the floor under the same frames.
    fn compare(&self, scenario: &Scenario) -> Result<(Measured, Option<Profile>), Box<dyn Error>> {
        let mut rig = self.rig_of(scenario.kind)?;
        let (io, peer) = ports(&self.eal, &self.pool)?;
        let mut floor = (Floor::new(io, Work::Write), peer);
        let mut random = Random(0x1234_5678_9abc_def1);
        let (mut costs, mut floors) = (Vec::new(), Vec::new());
        // The first pair only warms up.
        for _ in 0..=self.arguments.rounds {
            floors.push(self.round(|| {
                let frames = self.batch(scenario.kind, &rig, &mut random);
                carry(&mut floor, frames)
            })?);
            costs.push(self.round(|| self.serve(scenario.kind, &mut rig, &mut random))?);
        }
        let floor_ns = median(&floors[1..]);
        let (name, metric, costs) = (scenario.name, "ns_per_packet", &costs[1..]);
        let cost = match scenario.goal {
            Some(goal) => Measured::new(name, metric, costs, floor_ns, goal),
            None => Measured::beside(name, metric, costs, floor_ns),
        };
        let profile = if self.arguments.profile {
            Some(self.profile(scenario, &mut rig, &mut random)?)
        } else {
            None
        };
        Ok((cost, profile))
    }

    /// What the floor takes when it reads the headers as well: a reference, not a goal.
    fn read_headers(&self) -> Result<Measured, Box<dyn Error>> {
        let mut rig = Rig::new(&self.eal, &self.pool, 1024, Mode::Off)?;
        rig.told = vec![Default::default(); 1_000_000];
        let mut random = Random(0x1234_5678_9abc_def1);
        let mut rounds: [Vec<f64>; 2] = Default::default();
        let mut floors = Vec::new();
        for work in [Work::Write, Work::Read] {
            let (io, peer) = ports(&self.eal, &self.pool)?;
            floors.push((Floor::new(io, work), peer));
        }
        for _ in 0..=self.arguments.rounds {
            for (floor, rounds) in floors.iter_mut().zip(&mut rounds) {
                rounds.push(self.round(|| {
                    let frames = self.batch(Kind::Forward, &rig, &mut random);
                    carry(floor, frames)
                })?);
            }
        }
        let [written, read] = rounds;
        let floor_ns = median(&written[1..]);
        Ok(Measured::beside(
            FLOOR_READ,
            "ns_per_packet",
            &read[1..],
            floor_ns,
        ))
    }

    /// Nanoseconds a frame in one round: the median of its batches, since a batch that the
    /// machine interrupted says nothing of its cost.
    fn round(&self, mut batch: impl FnMut() -> (u64, usize, bool)) -> Result<f64, Box<dyn Error>> {
        let (mut costs, mut frames) = (Vec::new(), 0);
        while frames < self.arguments.frames as usize {
            let (spent, served, is_right) = batch();
            if !is_right {
                return Err("the frames did not meet the fate that this scenario is about".into());
            }
            costs.push(spent as f64 / served as f64);
            frames += served;
        }
        Ok(median(&costs) * 1e9 / clock::cycles_per_second() as f64)
    }

    /// Frames for both ports.
    fn batch(&self, kind: Kind, rig: &Rig, random: &mut Random) -> [Batch; 2] {
        let mut batches = [Batch::new(), Batch::new()];
        for n in 0..BATCH {
            let (port, frame) = match kind {
                Kind::Bare | Kind::Forward => {
                    (OUTSIDE, rig.first_ack(Connection(random.below(1_000_000))))
                }
                Kind::Syn | Kind::EchoSyn => {
                    (OUTSIDE, rig.syn(Connection(random.below(1_000_000))))
                }
                Kind::BadAck => {
                    let forged = random.next();
                    (
                        OUTSIDE,
                        rig.forged_ack(Connection(random.below(1_000_000)), forged),
                    )
                }
                Kind::Splice(sessions) => {
                    let connection = Connection(random.below(sessions));
                    if n % 2 == 0 {
                        (OUTSIDE, rig.client_segment(connection))
                    } else {
                        (INSIDE, rig.server_segment(connection))
                    }
                }
            };
            batches[port].push(frame);
        }
        batches
    }

    /// Whole set-ups, from SYN to the server's SYN-ACK, and what a session takes.
    fn set_ups(&self) -> Result<Vec<Measured>, Box<dyn Error>> {
        let (mut costs, mut bytes) = (Vec::new(), 0.0);
        for _ in 0..self.arguments.rounds {
            let mut rig = Rig::new(&self.eal, &self.pool, SETUPS_OPENED, Mode::Always)?;
            // Three exchanges make a set-up: SYN, ACK, and the server's SYN-ACK.
            let mut exchanges: [Vec<f64>; 3] = Default::default();
            let mut turn = 0;
            rig.open(0, SETUPS_OPENED, &mut |rig| {
                let start = clock::cycles();
                while rig.poll() > 0 {}
                exchanges[turn % 3].push((clock::cycles() - start) as f64);
                turn += 1;
            });
            let status = rig.worker.guard().status();
            if status.live != SETUPS_OPENED as usize || rig.peer.in_use() == usize::MAX {
                return Err(format!("{} of {SETUPS_OPENED} sessions opened", status.live).into());
            }
            bytes = status.memory_bytes as f64 / f64::from(SETUPS_OPENED);
            let cycles: f64 = exchanges.iter().map(|cycles| median(cycles)).sum();
            let seconds = cycles / clock::cycles_per_second() as f64;
            costs.push((BATCH / 2) as f64 / seconds);
        }
        Ok(vec![
            Measured::alone(SETUPS, "sessions_per_second", &costs),
            Measured::new(SESSION_BYTES, "bytes", &[bytes], 1.0, SESSION_BYTES_GOAL),
        ])
    }
}

/// Turns of a worker until nothing is left. [`count`] has callgrind look at this function alone.
#[inline(never)]
fn turns(rig: &mut Rig) {
    while rig.poll() > 0 {}
}

/// One batch through a floor: cycles, frames, and whether all of them left.
fn carry((floor, peer): &mut (Floor, Peer), frames: [Batch; 2]) -> (u64, usize, bool) {
    let count = put(peer, frames);
    let start = clock::cycles();
    while floor.poll() > 0 {}
    let cycles = clock::cycles() - start;
    let left = peer.receive(OUTSIDE).len() + peer.receive(INSIDE).len();
    (cycles, count, left == count)
}

/// Puts both batches before their ports; how many frames that is.
fn put(peer: &mut Peer, batches: [Batch; 2]) -> usize {
    let mut count = 0;
    for (port, mut batch) in batches.into_iter().enumerate() {
        count += batch.len();
        peer.send(port, &mut batch);
    }
    count
}

/// How many packets have met the fate that the scenario is about.
fn progress(kind: Kind, rig: &Rig) -> u64 {
    let counters = rig.worker.counters();
    match kind {
        Kind::Bare => counters.event(Event::Bridged),
        Kind::Forward => counters.event(Event::Forwarded),
        Kind::Syn => counters.event(Event::CookieSent),
        Kind::EchoSyn => counters.event(Event::EchoCarried),
        Kind::BadAck => counters.drops(DropReason::CookieInvalid),
        Kind::Splice(_) => counters.event(Event::Spliced),
    }
}
