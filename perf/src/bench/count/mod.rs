//! What the hot path costs in instructions: fixed packets through the worker under callgrind.
//!
//! A count does not depend on how busy a machine is, so that it can fail a build that is to blame
//! for more. It says nothing of memory: `bench` measures that.
//!
//! The program runs itself under callgrind, which looks at the worker's turns alone and writes what
//! it has counted at the end of each scenario.

mod callgrind;
mod record;

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;
use std::path::PathBuf;

use bindings::eal;
use dataplane::guard::config::{Mode, Sharing};

use self::record::{Record, Toolchain};
use super::rig::Rig;
use super::rings::BATCH;
use super::{Bench, Kind, Random, begin_eal, pin, put, turns};

/// Where to compare, or to write.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The recorded counts.
    #[arg(long, default_value = "perf/instructions.json")]
    file: PathBuf,
    /// Record what is counted, in place of comparing.
    #[arg(long)]
    record: bool,
    /// What callgrind is to look at.
    #[arg(long, hide = true)]
    inside: bool,
}

/// Batches of a scenario that are counted.
const BATCHES: usize = 8;
/// Sessions of those that are spliced.
const SESSIONS: u32 = 1_000;
/// Sessions that are set up.
const SETUPS: u32 = 1_024;

/// What is counted for each packet, by name; whole set-ups are counted for each session.
const SCENARIOS: [(&str, Work); 8] = [
    ("loop", Work::Packets(Kind::Bare)),
    ("hop.forward", Work::Packets(Kind::Forward)),
    ("guard.syn", Work::Packets(Kind::Syn)),
    ("guard.bad_ack", Work::Packets(Kind::BadAck)),
    ("echo.syn", Work::Packets(Kind::EchoSyn)),
    ("guard.splice.1k", Work::Packets(Kind::Splice(SESSIONS))),
    ("share.splice.1k", Work::Shared),
    ("guard.setup", Work::SetUps),
];

#[derive(Clone, Copy)]
enum Work {
    Packets(Kind),
    /// Segments of sessions that another guard is told of.
    Shared,
    SetUps,
}

/// Counts, and compares or records.
///
/// # Errors
/// When callgrind cannot be run, or a scenario takes more instructions than was recorded.
pub fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    if arguments.inside {
        return inside();
    }
    let (toolchain, counts) = callgrind::count()?;
    let record = Record::of(toolchain, counts);
    if arguments.record {
        record.write(&arguments.file)?;
        let file = arguments.file.display();
        return Ok(format!("{}\nrecorded in {file}", record.counts.table()));
    }
    Record::read(&arguments.file)?.judge(&record)
}

/// What callgrind looks at. Prints the toolchain, then each scenario with what it is counted for.
fn inside() -> Result<String, Box<dyn Error>> {
    let arguments = super::Arguments {
        scenarios: Vec::new(),
        rounds: 1,
        frames: BATCH as u32,
        core: None,
        huge_pages: false,
        profile: false,
        include: Vec::new(),
        output: PathBuf::new(),
    };
    let eal = begin_eal(pin(None)?, false)?;
    let _registration = eal::register_thread()?;
    let bench = Bench::new(eal, &arguments)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&Toolchain::of_this())?)?;
    for (name, work) in SCENARIOS {
        let counted_for = bench.count(work)?;
        writeln!(out, "{name} {counted_for}")?;
        scenario_is_over(name);
    }
    Ok(String::new())
}

/// Callgrind writes its counts, and begins anew, when this returns.
#[inline(never)]
fn scenario_is_over(name: &str) {
    black_box(name);
}

impl Bench<'_> {
    /// Does a scenario's work; for how many packets or sessions that was.
    fn count(&self, work: Work) -> Result<usize, Box<dyn Error>> {
        let wrong = "the packets did not meet the fate that this scenario is about";
        let (kind, mut rig) = match work {
            Work::Packets(kind) => (kind, self.rig_of(kind)?),
            Work::Shared => {
                let kind = Kind::Splice(SESSIONS);
                (kind, self.opened(SESSIONS, Some(Sharing::default()))?)
            }
            Work::SetUps => {
                let mut rig = Rig::new(&self.eal, &self.pool, SETUPS, Mode::Always)?;
                rig.open(0, SETUPS, &mut turns);
                let is_right = rig.worker.guard().status().live == SETUPS as usize;
                return is_right.then_some(SETUPS as usize).ok_or(wrong.into());
            }
        };
        let mut random = Random(0x1234_5678_9abc_def1);
        // The first packets find tables and rings as they never are again.
        warm_up(self, kind, &mut rig, &mut random);
        let mut packets = 0;
        for _ in 0..BATCHES {
            let (_, count, is_right) = self.serve(kind, &mut rig, &mut random);
            if !is_right {
                return Err(wrong.into());
            }
            packets += count;
        }
        Ok(packets)
    }
}

/// A batch that is not counted.
fn warm_up(bench: &Bench<'_>, kind: Kind, rig: &mut Rig, random: &mut Random) {
    let frames = bench.batch(kind, rig, random);
    put(&mut rig.peer, frames);
    while rig.poll() > 0 {}
    rig.discard();
}
