//! `tidegate-perf link`: a slow or lossy link between two devices.
//!
//! What happens to each frame is decided by [`simulator::Link`], one for each direction, so that a
//! seed repeats a run as far as frames come at the same times. Frames stay in packet memory from the
//! device that received them to the one that sends them.

mod carrier;
mod line;
mod plan;
mod settings;

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use self::carrier::{Carried, Carrier};
use self::plan::Plan;
use self::settings::Changes;
use crate::tester::Stop;
use crate::units;

/// No emulated link lives longer than this.
const MAXIMUM_SECONDS: u64 = 24 * 3600;

/// What `link` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One end: a network interface, or a DPDK device as in a profile.
    #[arg(long, value_name = "DEVICE")]
    a: String,
    /// The other end.
    #[arg(long, value_name = "DEVICE")]
    b: String,
    /// The 802.1Q identifier of frames at `b`; those at `a` are untagged.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    b_vlan: Option<u16>,
    /// Both directions, and what changes when, from a YAML file. What is given beside it counts
    /// more at the start.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Bits a second, of whole frames without their check sequence; without it there is no limit.
    #[arg(long, value_parser = units::rate)]
    rate: Option<u64>,
    /// How long every frame is on its way.
    #[arg(long, value_parser = units::time)]
    delay: Option<u64>,
    /// Up to how much longer it may be; no frame passes another for it.
    #[arg(long, value_parser = units::time)]
    jitter: Option<u64>,
    /// The share of frames that are lost.
    #[arg(long, value_parser = units::share)]
    loss: Option<f64>,
    /// Loss in bursts (Gilbert–Elliott): the shares of frames with which a bad time begins, with
    /// which it ends, and that it loses, as in `0.1%:25%:100%`.
    #[arg(long, value_name = "ENTER:LEAVE:LOSS", value_parser = settings::bursts)]
    bursts: Option<simulator::Bursts>,
    /// The share of frames that others pass.
    #[arg(long, value_parser = units::share)]
    reorder: Option<f64>,
    /// How long those are held back; 5ms without.
    #[arg(long, value_parser = units::time)]
    reorder_delay: Option<u64>,
    /// The share of frames that arrive twice.
    #[arg(long, value_parser = units::share)]
    duplicate: Option<f64>,
    /// How much waits for a link with a rate before it refuses more; 1mb without.
    #[arg(long, value_parser = units::bytes)]
    queue: Option<u64>,
    /// From `a` to `b` alone: any of the above, as in `rate=10mbit,delay=300ms,loss=1%`.
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = Changes::parse)]
    a_to_b: Option<Changes>,
    /// From `b` to `a` alone, likewise.
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = Changes::parse)]
    b_to_a: Option<Changes>,
    /// What makes two runs decide alike.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When it ends; Ctrl-C ends it sooner.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAXIMUM_SECONDS))]
    seconds: u64,
    /// Frames that are on their way at most, both directions together.
    #[arg(long, default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(1024..=4_000_000))]
    frames: u32,
    /// The core to carry frames on; the last one when not given.
    #[arg(long)]
    core: Option<usize>,
}

impl Arguments {
    /// What is said of both directions.
    fn both(&self) -> Changes {
        Changes {
            rate: self.rate,
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            bursts: self.bursts,
            reorder: self.reorder,
            reorder_delay: self.reorder_delay,
            duplicate: self.duplicate,
            queue: self.queue,
        }
    }

    fn plan(&self) -> Result<Plan, Box<dyn Error>> {
        let mut plan = match &self.file {
            Some(file) => Plan::read(file)?,
            None => Plan::default(),
        };
        let both = self.both();
        for (direction, own) in plan.start.iter_mut().zip([&self.a_to_b, &self.b_to_a]) {
            both.apply(direction);
            own.iter().for_each(|own| own.apply(direction));
        }
        Ok(plan)
    }
}

/// Carries frames until the time is over and returns what was done, in JSON.
///
/// # Errors
/// When the file or a device is wrong.
pub fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let plan = arguments.plan()?;
    let stop = Stop::on_interrupt()?;
    let mut carrier = Carrier::open(arguments)?;
    let carried = carrier.carry(&plan, arguments, &stop);
    Ok(report(&carried, stop.is_raised()).to_string())
}

fn report(carried: &Carried, is_interrupted: bool) -> Value {
    let [forward, backward] = carried.lines.map(|line| {
        let link = line.link;
        json!({
            "offered": link.offered,
            "delivered": link.delivered,
            "lost": link.lost,
            "refused": link.refused,
            "duplicated": link.duplicated,
            "reordered": link.reordered,
            "no_room": line.no_room,
            "late": line.late,
            "latest_us": line.latest_ns as f64 / 1e3,
        })
    });
    json!({
        "forward": forward,
        "backward": backward,
        "seconds": carried.seconds,
        "interrupted": is_interrupted,
    })
}
