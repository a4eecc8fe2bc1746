//! When a stream's frames are due.

use std::sync::Arc;
use std::time::Duration;

use crate::traffic::Shape;

/// How far a stream may catch up after the tester stood still. What is due beyond it stays unsent:
/// a subject must not be blamed for a crowd that the tester made.
const CATCH_UP_NS: f64 = 1e6;
/// The same, in frames, for slow streams: a quarter of the ring that devices usually have.
const CATCH_UP_FRAMES: u64 = 256;

/// One stream's time table within a trial.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    frames_per_ns: f64,
    pattern: Pattern,
    total: u64,
    catch_up: u64,
    /// Frames sent, and given up.
    accounted: u64,
    unsent: u64,
}

#[derive(Clone, Debug)]
enum Pattern {
    Even,
    Bursts {
        frames: f64,
        period_ns: f64,
    },
    /// Times of a capture, and how much faster they pass.
    Recorded(Arc<[u64]>, f64),
}

impl Pace {
    /// A time table at `frames_per_s` while the stream sends, faster than by itself by `factor`,
    /// over `duration` and for `most` frames at the most.
    pub(super) fn new(
        frames_per_s: f64,
        shape: Shape,
        factor: f64,
        duration: Duration,
        most: u64,
    ) -> Self {
        let frames_per_ns = frames_per_s * factor / 1e9;
        let pattern = match shape {
            Shape::Continuous => Pattern::Even,
            Shape::Bursts { frames, period_s } => Pattern::Bursts {
                frames: frames.into(),
                period_ns: period_s * 1e9 / factor,
            },
            Shape::Recorded(times_ns) => Pattern::Recorded(times_ns, factor),
        };
        let mut pace = Self {
            frames_per_ns,
            pattern,
            total: u64::MAX,
            catch_up: CATCH_UP_FRAMES.max((frames_per_ns * CATCH_UP_NS) as u64),
            accounted: 0,
            unsent: 0,
        };
        pace.total = pace.until(duration.as_nanos() as f64, f64::round).min(most);
        pace
    }

    /// How many frames belong into the time up to then; `whole` makes frames of parts of one.
    #[inline]
    fn until(&self, elapsed_ns: f64, whole: impl Fn(f64) -> f64) -> u64 {
        match &self.pattern {
            Pattern::Even => whole(elapsed_ns * self.frames_per_ns) as u64,
            Pattern::Bursts { frames, period_ns } => {
                let periods = (elapsed_ns / period_ns).floor();
                let within = (elapsed_ns - periods * period_ns) * self.frames_per_ns;
                (periods * frames + whole(within).min(*frames)) as u64
            }
            Pattern::Recorded(times_ns, factor) => {
                let elapsed_ns = (elapsed_ns * factor) as u64;
                times_ns.partition_point(|time| *time <= elapsed_ns) as u64
            }
        }
    }

    /// How many frames are due by then: the first at once, each later one when its time has come.
    #[inline]
    fn due_by(&self, elapsed_ns: u64) -> u64 {
        self.until(elapsed_ns as f64, |frames| frames.floor() + 1.0)
            .min(self.total)
    }

    /// How many frames are to be sent now; those that came too late are given up.
    #[inline]
    pub(super) fn due(&mut self, elapsed_ns: u64) -> u64 {
        let behind = self.due_by(elapsed_ns).saturating_sub(self.accounted);
        if behind > self.catch_up {
            let late = behind - self.catch_up;
            self.unsent += late;
            self.accounted += late;
            return self.catch_up;
        }
        behind
    }

    /// So many were sent.
    #[inline]
    pub(super) fn sent(&mut self, count: u64) {
        self.accounted += count;
    }

    /// So many were due, and cannot be sent any more.
    pub(super) fn give_up(&mut self, count: u64) {
        self.unsent += count;
    }

    /// Nothing more will be sent: all that was due by then and was not sent.
    pub(super) fn finish(&mut self, elapsed_ns: u64) -> u64 {
        self.unsent += self.due_by(elapsed_ns).saturating_sub(self.accounted);
        self.accounted = self.total;
        self.unsent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn frames_are_due_at_their_rate_and_none_beyond_the_time() {
        let mut pace = Pace::new(1000.0, Shape::Continuous, 1.0, SECOND, u64::MAX);
        assert_eq!(pace.due(0), 1);
        pace.sent(1);
        assert_eq!(pace.due(999_999), 0);
        assert_eq!(pace.due(1_000_000), 1);
        let mut sent = 1;
        for millisecond in 1..2000 {
            let due = pace.due(millisecond * 1_000_000);
            pace.sent(due);
            sent += due;
        }
        assert_eq!((sent, pace.finish(3_000_000_000)), (1000, 0));
    }

    #[test]
    fn a_tester_that_stood_still_catches_up_a_little_and_owns_up_to_the_rest() {
        let mut pace = Pace::new(1e6, Shape::Continuous, 1.0, SECOND, u64::MAX);
        assert_eq!(pace.due(100_000_000), 1000);
        pace.sent(1000);
        assert_eq!(pace.finish(100_000_000), 99_001);
    }

    #[test]
    fn a_capture_is_sent_at_its_own_times_and_then_no_more() {
        let times: Arc<[u64]> = [0, 10, 1_000_000].into();
        let mut pace = Pace::new(1.0, Shape::Recorded(times), 2.0, SECOND, 3);
        assert_eq!((pace.due(0), pace.due(5), pace.due(499_999)), (1, 2, 2));
        assert_eq!(pace.due(500_000), 3);
        pace.sent(3);
        assert_eq!((pace.due(900_000_000), pace.finish(1_000_000_000)), (0, 0));
    }

    #[test]
    fn bursts_come_in_their_periods() {
        let shape = Shape::Bursts {
            frames: 10,
            period_s: 0.01,
        };
        let mut pace = Pace::new(1e6, shape.clone(), 1.0, SECOND, u64::MAX);
        let mut times = Vec::new();
        for microsecond in 0..25_000_u64 {
            let due = pace.due(microsecond * 1000);
            pace.sent(due);
            times.extend((0..due).map(|_| microsecond));
        }
        assert_eq!(times.len(), 30);
        assert!(
            times[9] < 10 && (9_999..10_001).contains(&times[10]),
            "{times:?}"
        );
        let twice = Pace::new(1e6, shape, 2.0, SECOND, u64::MAX);
        assert_eq!(twice.total, 2000);
    }
}
