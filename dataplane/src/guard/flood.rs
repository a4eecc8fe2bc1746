//! Whether there is a flood of SYNs, by their measured rate.

use super::config::FloodThresholds;

/// The span over which SYNs are counted.
const SPAN_NS: u64 = 100_000_000;
const SPANS_PER_S: u64 = 10;

/// A change of the meter's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodChange {
    /// A flood has begun.
    Entered,
    /// It is over.
    Left,
}

/// Counts SYNs in spans of a tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct FloodMeter {
    is_flood: bool,
    span_start_ns: u64,
    span_syns: u64,
    rate_per_s: u64,
    calm_since_ns: u64,
}

impl FloodMeter {
    /// Whether there is a flood.
    #[inline]
    pub fn is_flood(&self) -> bool {
        self.is_flood
    }

    /// SYNs a second in the last full span.
    pub fn rate_per_s(&self) -> u64 {
        self.rate_per_s
    }

    /// When [`Self::turn`] may next find that a flood is over.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.is_flood.then_some(self.span_start_ns + SPAN_NS)
    }

    /// Counts a SYN. A span whose SYNs already exceed a whole span's worth need not end first.
    #[inline(always)]
    pub fn count(&mut self, now_ns: u64, thresholds: &FloodThresholds) -> Option<FloodChange> {
        self.span_syns += 1;
        let is_within = now_ns.saturating_sub(self.span_start_ns) < SPAN_NS;
        // With nothing to decide, nothing is called.
        if is_within && !self.is_over(thresholds) {
            return None;
        }
        self.turn(now_ns, thresholds)
    }

    /// Whether the span's SYNs already exceed a whole span's worth.
    #[inline(always)]
    fn is_over(&self, thresholds: &FloodThresholds) -> bool {
        self.span_syns * SPANS_PER_S > thresholds.enter_syns_per_s.max(SPANS_PER_S)
    }

    /// Says that a flood is on for another reason than its rate.
    pub fn enter(&mut self, now_ns: u64) -> Option<FloodChange> {
        self.calm_since_ns = now_ns;
        (!std::mem::replace(&mut self.is_flood, true)).then_some(FloodChange::Entered)
    }

    /// Ends a span when its time is over; to be called now and then also without SYNs.
    #[inline]
    pub fn turn(&mut self, now_ns: u64, thresholds: &FloodThresholds) -> Option<FloodChange> {
        let elapsed_ns = now_ns.saturating_sub(self.span_start_ns);
        if elapsed_ns < SPAN_NS {
            return if self.is_over(thresholds) {
                self.enter(now_ns)
            } else {
                None
            };
        }
        self.end_span(now_ns, elapsed_ns, thresholds)
    }

    #[cold]
    fn end_span(
        &mut self,
        now_ns: u64,
        elapsed_ns: u64,
        thresholds: &FloodThresholds,
    ) -> Option<FloodChange> {
        self.rate_per_s =
            (u128::from(self.span_syns) * 1_000_000_000 / u128::from(elapsed_ns)) as u64;
        self.span_syns = 0;
        self.span_start_ns = now_ns;
        if self.rate_per_s >= thresholds.enter_syns_per_s {
            return self.enter(now_ns);
        }
        if self.rate_per_s >= thresholds.leave_syns_per_s {
            self.calm_since_ns = now_ns;
        }
        let is_calm = now_ns.saturating_sub(self.calm_since_ns) >= thresholds.hold_ns;
        if self.is_flood && is_calm {
            self.is_flood = false;
            return Some(FloodChange::Left);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: FloodThresholds = FloodThresholds {
        enter_syns_per_s: 1000,
        leave_syns_per_s: 500,
        hold_ns: 2_000_000_000,
    };

    #[test]
    fn protection_goes_on_with_the_flood_and_off_some_time_after_it() {
        // CASES 7
        let mut meter = FloodMeter::default();
        let mut now_ns = 0;
        let mut run = |syns_per_s: u64, seconds: u64, meter: &mut FloodMeter| {
            let mut changes = Vec::new();
            for _ in 0..seconds * 10 {
                for _ in 0..syns_per_s / 10 {
                    now_ns += SPAN_NS / (syns_per_s / 10);
                    changes.extend(meter.count(now_ns, &THRESHOLDS));
                }
            }
            changes
        };
        assert_eq!(run(900, 3, &mut meter), []);
        assert_eq!(run(2000, 1, &mut meter), [FloodChange::Entered]);
        assert_eq!(
            run(700, 5, &mut meter),
            [],
            "between the thresholds nothing changes"
        );
        assert_eq!(run(400, 5, &mut meter), [FloodChange::Left]);
        assert_eq!(run(900, 3, &mut meter), []);
    }

    #[test]
    fn it_ends_also_when_no_syn_comes_any_more() {
        let mut meter = FloodMeter::default();
        assert_eq!(meter.enter(0), Some(FloodChange::Entered));
        let left = (0..40).find_map(|n| meter.turn(n * SPAN_NS, &THRESHOLDS));
        assert_eq!(left, Some(FloodChange::Left));
    }
}
