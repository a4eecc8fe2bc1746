//! What the machine took from a measurement: time that its hypervisor gave to others, and times
//! at which the measuring loop stood still.

use crate::trial::Disturbance;

/// A loop that is away for longer than this has stood still.
pub const STALL_NS: u64 = 100_000;

/// Watches one measurement; [`Watch::end`] says what it saw.
#[derive(Clone, Debug)]
pub struct Watch {
    cores: Vec<usize>,
    before: Ticks,
    stalls: u64,
    longest_ns: u64,
}

/// Ticks of the kernel's clock, added up over cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Watch {
    /// Begins to watch these cores, or all when none is named.
    #[must_use]
    pub fn begin(cores: &[usize]) -> Self {
        Self {
            cores: cores.to_vec(),
            before: ticks(&statistics(), cores),
            stalls: 0,
            longest_ns: 0,
        }
    }

    /// Tells that the loop was away for so long. Costs a comparison where that is short, so a
    /// loop can call it each turn.
    pub fn was_away(&mut self, away_ns: u64) {
        if away_ns > STALL_NS {
            self.stalls += 1;
            self.longest_ns = self.longest_ns.max(away_ns);
        }
    }

    /// What was seen since the beginning.
    #[must_use]
    pub fn end(&self) -> Disturbance {
        let now = ticks(&statistics(), &self.cores);
        let all = now.all.saturating_sub(self.before.all);
        let stolen = now.stolen.saturating_sub(self.before.stolen);
        Disturbance {
            steal: if all == 0 {
                0.0
            } else {
                stolen as f64 / all as f64
            },
            stalls: self.stalls,
            longest_stall_us: self.longest_ns as f64 / 1e3,
        }
    }
}

impl Disturbance {
    /// Both together: the worse share of steal and the longer stall; stalls are added up.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            steal: self.steal.max(other.steal),
            stalls: self.stalls + other.stalls,
            longest_stall_us: self.longest_stall_us.max(other.longest_stall_us),
        }
    }
}

fn statistics() -> String {
    std::fs::read_to_string("/proc/stat").unwrap_or_default()
}

/// Lines of proc_stat(5): `cpuN user nice system idle iowait irq softirq steal guest guest_nice`;
/// the time of guests is part of user's and nice's.
fn ticks(statistics: &str, cores: &[usize]) -> Ticks {
    let mut sum = Ticks::default();
    for line in statistics.lines() {
        let mut words = line.split_whitespace();
        let number = words
            .next()
            .and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok());
        let Some(core) = number else { continue };
        if !cores.is_empty() && !cores.contains(&core) {
            continue;
        }
        let times: Vec<u64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
        sum.all += times.iter().sum::<u64>();
        sum.stolen += times.get(7).copied().unwrap_or(0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATISTICS: &str = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\n\
                              cpu1 10 0 0 0 0 0 0 30 0 0\nintr 5 6\n";

    #[test]
    fn steal_is_counted_on_the_cores_that_measure() {
        assert_eq!(ticks(STATISTICS, &[0]), Ticks { all: 36, stolen: 8 });
        assert_eq!(
            ticks(STATISTICS, &[1]),
            Ticks {
                all: 40,
                stolen: 30
            }
        );
        assert_eq!(
            ticks(STATISTICS, &[]),
            Ticks {
                all: 76,
                stolen: 38
            }
        );
        assert_eq!(ticks("", &[]), Ticks::default());
    }

    #[test]
    fn only_long_absences_are_stalls() {
        let mut watch = Watch::begin(&[]);
        watch.was_away(STALL_NS);
        watch.was_away(250_000);
        watch.was_away(101_000);
        let seen = watch.end();
        assert_eq!((seen.stalls, seen.longest_stall_us), (2, 250.0));
        assert!((0.0..=1.0).contains(&seen.steal));
    }
}
