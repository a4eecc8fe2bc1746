//! What the guard adds to the time to the first byte: the same fetches, by turns, through the
//! kernel and through the guard.

use std::time::Duration;

use lab::address::{SERVER, client};
use lab::curl::{Request, fetch};
use lab::{Lab, Result};

/// Turns, and fetches of each family in a turn.
const TURNS: u8 = 5;
const FETCHES: u32 = 60;

/// Microseconds from a fetch's start to its first byte, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    direct_us: Vec<u64>,
    guarded_us: Vec<u64>,
}

impl Latency {
    /// What the direct way takes, and what the guard adds to it, at this percentile.
    pub(crate) fn at(&self, percentile: usize) -> (u64, i64) {
        let direct = at(&self.direct_us, percentile);
        let guarded = at(&self.guarded_us, percentile);
        (direct, guarded.cast_signed() - direct.cast_signed())
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, late] = [50, 99].map(|percentile| self.at(percentile));
        write!(
            formatter,
            "median {} µs and {:+} µs with the guard; 99th percentile {} µs and {:+} µs",
            median.0, median.1, late.0, late.1
        )
    }
}

fn at(sorted: &[u64], percentile: usize) -> u64 {
    let index = sorted.len() * percentile / 100;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// Measures both labs, one after the other and again.
pub(crate) fn measure(direct: &Lab, guarded: &Lab) -> Result<Latency> {
    let mut latency = Latency::default();
    for turn in 0..TURNS {
        for family in [0, 1] {
            latency.direct_us.extend(turn_of(direct, turn, family)?);
            latency.guarded_us.extend(turn_of(guarded, turn, family)?);
        }
    }
    latency.direct_us.sort_unstable();
    latency.guarded_us.sort_unstable();
    Ok(latency)
}

fn turn_of(lab: &Lab, turn: u8, family: usize) -> Result<Vec<u64>> {
    let request = Request {
        body: &lab.server_process.site.small,
        server: SERVER[family],
        port: 80,
        client: client(turn)[family],
        count: FETCHES,
        parallel: 1,
        limit: Duration::from_secs(5),
    };
    let outcome = fetch(&lab.clients, &request, &lab.scratch.file("latency"))?;
    outcome.whole()?;
    // curl's first fetch pays for its start.
    Ok(outcome.first_byte_us.into_iter().skip(1).collect())
}
