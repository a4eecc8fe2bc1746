//! `tidegate-perf link`: a slow or lossy link between two interfaces.

use clap::Args;
use lab::emulator::{self, MAXIMUM_SECONDS, Settings};
use lab::{Error, Result};
use simulator::{LinkCounters, LinkSettings};

use crate::units;

/// What `link` is told. Every number holds for both directions.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One end.
    #[arg(long)]
    a: String,
    /// The other end.
    #[arg(long)]
    b: String,
    /// The 802.1Q identifier of frames at `b`; those at `a` are untagged.
    #[arg(long)]
    b_vlan: Option<u16>,
    /// Bits a second; without it there is no limit.
    #[arg(long, value_parser = units::rate, default_value = "0bit")]
    rate: u64,
    /// How long every packet is on its way.
    #[arg(long, value_parser = units::time, default_value = "0ms")]
    delay: u64,
    /// Up to how much longer it may be.
    #[arg(long, value_parser = units::time, default_value = "0ms")]
    jitter: u64,
    /// The share of packets that are lost.
    #[arg(long, value_parser = units::share, default_value = "0%")]
    loss: f64,
    /// The share of packets that others pass.
    #[arg(long, value_parser = units::share, default_value = "0%")]
    reorder: f64,
    /// How long those are held back.
    #[arg(long, value_parser = units::time, default_value = "5ms")]
    reorder_delay: u64,
    /// The share of packets that arrive twice.
    #[arg(long, value_parser = units::share, default_value = "0%")]
    duplicate: f64,
    /// How much waits for a link with a rate before it refuses more.
    #[arg(long, value_parser = units::bytes, default_value = "1mb")]
    queue: u64,
    /// What makes two runs decide alike.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When it ends.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MAXIMUM_SECONDS))]
    seconds: u64,
}

/// Carries frames until the time is over and returns what was done, in JSON.
pub fn run(arguments: &Arguments) -> Result<String> {
    let link = LinkSettings {
        rate_bits_per_second: arguments.rate,
        delay_ns: arguments.delay,
        jitter_ns: arguments.jitter,
        loss: arguments.loss,
        reorder: arguments.reorder,
        reorder_delay_ns: arguments.reorder_delay,
        duplicate: arguments.duplicate,
        queue_bytes: arguments.queue,
    };
    let report = emulator::run(&Settings {
        a: arguments.a.clone(),
        b: arguments.b.clone(),
        b_vlan: arguments.b_vlan,
        forward: link,
        backward: link,
        seed: arguments.seed,
        seconds: arguments.seconds,
    })?;
    let json = serde_json::json!({
        "forward": counters(report.forward),
        "backward": counters(report.backward),
    });
    serde_json::to_string(&json).map_err(|e| Error::because("report", e))
}

fn counters(counters: LinkCounters) -> serde_json::Value {
    serde_json::json!({
        "offered": counters.offered,
        "delivered": counters.delivered,
        "lost": counters.lost,
        "refused": counters.refused,
        "duplicated": counters.duplicated,
        "reordered": counters.reordered,
    })
}
