//! When connections begin: so many a second whatever becomes of them (open loop), or as many at
//! once as there may be (closed loop), after a ramp.

use std::time::Duration;

/// A load of connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many a second.
    Rate {
        /// Connections a second, once the ramp is over.
        per_s: f64,
    },
    /// So many at once: one that ends is followed by another.
    Parallel {
        /// Connections at once, once the ramp is over.
        connections: u64,
    },
    /// So many in all, at a rate, and no more.
    Count {
        /// Connections in all.
        connections: u64,
        /// Connections a second.
        per_s: f64,
    },
}

/// Connections that may begin in one turn, so that what comes is looked at between them.
const MOST_AT_ONCE: u64 = 64;

/// Says how many connections are to begin now.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    load: Load,
    ramp_ns: f64,
    begun_ns: u64,
    /// Connections that were begun, or due and given up.
    given: u64,
}

impl Pacer {
    /// A load that begins at `now_ns` and is whole after `ramp`.
    #[must_use]
    pub fn new(load: Load, ramp: Duration, now_ns: u64) -> Self {
        Self {
            load,
            ramp_ns: ramp.as_nanos() as f64,
            begun_ns: now_ns,
            given: 0,
        }
    }

    /// How many connections are to begin at `now_ns`, while `open` are under way: at most as many
    /// as fit in a turn. Tell by [`Pacer::begun`] how many did.
    #[must_use]
    pub fn due(&self, now_ns: u64, open: u64) -> u64 {
        self.owed(now_ns, open).min(MOST_AT_ONCE)
    }

    /// How many are behind their time.
    #[must_use]
    pub fn owed(&self, now_ns: u64, open: u64) -> u64 {
        let elapsed_ns = now_ns.saturating_sub(self.begun_ns) as f64;
        match self.load {
            Load::Rate { per_s } => self.ramped(per_s, elapsed_ns).saturating_sub(self.given),
            Load::Count { connections, per_s } => {
                let until_now = self.ramped(per_s, elapsed_ns).min(connections);
                until_now.saturating_sub(self.given)
            }
            Load::Parallel { connections } => {
                let share = if elapsed_ns < self.ramp_ns {
                    elapsed_ns / self.ramp_ns
                } else {
                    1.0
                };
                ((connections as f64 * share).ceil() as u64).saturating_sub(open)
            }
        }
    }

    /// Whether all were begun, of a load that has an end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.load, Load::Count { connections, .. } if self.given >= connections)
    }

    /// Counts connections that were begun, or could not be.
    pub fn begun(&mut self, connections: u64) {
        self.given += connections;
    }

    /// Connections that are due `elapsed_ns` after the begin, at a rate that rises evenly.
    fn ramped(&self, per_s: f64, elapsed_ns: f64) -> u64 {
        let per_ns = per_s / 1e9;
        let rising_ns = elapsed_ns.min(self.ramp_ns);
        let risen = match self.ramp_ns {
            0.0 => 0.0,
            ramp_ns => rising_ns * rising_ns / (2.0 * ramp_ns),
        };
        ((risen + (elapsed_ns - rising_ns)) * per_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_rate_rises_evenly_and_then_stays() {
        let load = Load::Rate { per_s: 1000.0 };
        let pacer = Pacer::new(load, Duration::from_secs(2), 5 * SECOND_NS);
        let owed = |seconds: f64| pacer.owed((5.0e9 + seconds * 1e9) as u64, 0);
        assert_eq!(owed(0.0), 0);
        assert_eq!(owed(1.0), 250);
        assert_eq!(owed(2.0), 1000);
        assert_eq!(owed(3.0), 2000);
    }

    #[test]
    fn what_has_begun_is_not_due_again_and_a_turn_is_bounded() {
        let mut pacer = Pacer::new(Load::Rate { per_s: 1e6 }, Duration::ZERO, 0);
        assert_eq!(pacer.due(SECOND_NS, 0), MOST_AT_ONCE);
        pacer.begun(999_999);
        assert_eq!(pacer.due(SECOND_NS, 0), 1);
        pacer.begun(1);
        assert_eq!(pacer.due(SECOND_NS, 0), 0);
    }

    #[test]
    fn a_closed_loop_fills_up_what_has_ended() {
        let load = Load::Parallel { connections: 10 };
        let pacer = Pacer::new(load, Duration::from_secs(1), 0);
        assert_eq!(pacer.due(SECOND_NS / 2, 0), 5);
        assert_eq!(pacer.due(SECOND_NS, 7), 3);
        assert_eq!(pacer.due(SECOND_NS, 12), 0);
    }

    #[test]
    fn a_count_is_not_exceeded() {
        let load = Load::Count {
            connections: 10,
            per_s: 1e6,
        };
        let mut pacer = Pacer::new(load, Duration::ZERO, 0);
        assert_eq!(pacer.due(SECOND_NS, 0), 10);
        pacer.begun(10);
        assert_eq!(pacer.due(9 * SECOND_NS, 0), 0);
    }
}
