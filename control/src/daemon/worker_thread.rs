//! A worker's thread: pinned to its core, it polls, and backs off when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bindings::Clock;
use bindings::system::{Affinity, set_timer_slack_ns};
use dataplane::io::Io;
use dataplane::worker::{Time, Worker};

use crate::profile::Poll;

/// Empty polls before a worker begins to give its core away.
const SPINS: u32 = 256;
/// Empty polls, those before counted, before it begins to sleep.
const YIELDS: u32 = SPINS + 64;
/// Its first sleeps, in nanoseconds, and how many they are.
const SHORT_SLEEP_NS: u64 = 20_000;
const SHORT_SLEEPS: u32 = YIELDS + 50;
/// Its later ones. With the time that waking takes, a packet waits less than 100 µs.
const LONG_SLEEP_NS: u64 = 50_000;
/// How often the loop's own figures are made visible.
const PUBLISH_NS: u64 = 1_000_000;

/// The wall clock for workers, which make no system call: what to add to their own clock.
#[derive(Debug)]
pub(super) struct WallClock {
    base_ns: AtomicU64,
    clock: Clock,
}

impl WallClock {
    /// A wall clock over the workers' clock.
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let wall = Self {
            base_ns: AtomicU64::new(0),
            clock,
        };
        wall.set();
        Arc::new(wall)
    }

    /// Follows the system's time; to be called now and then.
    pub(super) fn set(&self) {
        let since_1970 = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let unix_ns = u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX);
        let base_ns = unix_ns.saturating_sub(self.clock.now_ns());
        self.base_ns.store(base_ns, Ordering::Relaxed);
    }

    /// One reading of both clocks.
    #[inline]
    pub(super) fn now(&self) -> Time {
        let now_ns = self.clock.now_ns();
        Time {
            now_ns,
            unix_ms: self.unix_ns(now_ns) / 1_000_000,
        }
    }

    /// The time since 1970 at a time of the workers' clock, in nanoseconds.
    #[inline]
    pub(super) fn unix_ns(&self, now_ns: u64) -> u64 {
        self.base_ns.load(Ordering::Relaxed) + now_ns
    }
}

/// How a worker's loop turns: written by the worker, read by the control thread.
#[derive(Debug, Default)]
pub(super) struct LoopFigures {
    /// Turns of the loop.
    pub(super) loops: AtomicU64,
    /// Turns that found something to do.
    pub(super) busy_loops: AtomicU64,
    /// Nanoseconds spent in those.
    pub(super) busy_ns: AtomicU64,
    /// Nanoseconds since the loop began.
    pub(super) total_ns: AtomicU64,
    /// Times that the worker slept.
    pub(super) sleeps: AtomicU64,
}

#[derive(Default)]
struct Figures {
    loops: u64,
    busy_loops: u64,
    busy_ns: u64,
    sleeps: u64,
    published_ns: u64,
}

impl Figures {
    fn publish(&mut self, to: &LoopFigures, began_ns: u64, now_ns: u64) {
        self.published_ns = now_ns;
        to.loops.store(self.loops, Ordering::Relaxed);
        to.busy_loops.store(self.busy_loops, Ordering::Relaxed);
        to.busy_ns.store(self.busy_ns, Ordering::Relaxed);
        to.sleeps.store(self.sleeps, Ordering::Relaxed);
        to.total_ns.store(now_ns - began_ns, Ordering::Relaxed);
    }
}

/// What an idle worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Spin,
    Yield,
    Sleep(u64),
}

/// What to do after so many empty polls, with the next timer due in `due_ns`.
#[inline]
fn idle(poll: Poll, empty: u32, due_ns: u64) -> Idle {
    if poll == Poll::Busy || empty < SPINS || due_ns < SHORT_SLEEP_NS {
        Idle::Spin
    } else if empty < YIELDS {
        Idle::Yield
    } else if empty < SHORT_SLEEPS {
        Idle::Sleep(SHORT_SLEEP_NS)
    } else {
        Idle::Sleep(LONG_SLEEP_NS.min(due_ns))
    }
}

/// Pins the calling thread to a worker's core and makes its sleeps exact.
pub(super) fn settle(core: u32) -> Result<(), bindings::Error> {
    Affinity::of(&[core as usize])?.apply()?;
    set_timer_slack_ns(1)
}

/// Polls until the worker is told to stop.
pub(super) fn run<I: Io>(
    worker: &mut Worker<I>,
    wall: &WallClock,
    poll: Poll,
    visible: &LoopFigures,
) {
    let mut time = wall.now();
    let began_ns = time.now_ns;
    let mut figures = Figures::default();
    let mut empty = 0_u32;
    while !worker.is_stopped() {
        let served = worker.poll(time);
        let after = wall.now();
        figures.loops += 1;
        if served > 0 {
            empty = 0;
            figures.busy_loops += 1;
            figures.busy_ns += after.now_ns.saturating_sub(time.now_ns);
        } else {
            empty = empty.saturating_add(1);
        }
        if after.now_ns.wrapping_sub(figures.published_ns) >= PUBLISH_NS {
            figures.publish(visible, began_ns, after.now_ns);
        }
        time = after;
        if empty > 0 && rest(worker, poll, empty, time.now_ns) {
            figures.sleeps += 1;
            time = wall.now();
        }
    }
    figures.publish(visible, began_ns, time.now_ns);
}

/// Rests as an idle worker may; tells whether it slept.
#[inline]
fn rest<I: Io>(worker: &Worker<I>, poll: Poll, empty: u32, now_ns: u64) -> bool {
    if poll == Poll::Busy || empty < SPINS {
        std::hint::spin_loop();
        return false;
    }
    let due_ns = worker
        .next_deadline_ns()
        .map_or(u64::MAX, |deadline_ns| deadline_ns.saturating_sub(now_ns));
    match idle(poll, empty, due_ns) {
        Idle::Spin => std::hint::spin_loop(),
        Idle::Yield => thread::yield_now(),
        Idle::Sleep(sleep_ns) => {
            thread::sleep(Duration::from_nanos(sleep_ns));
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_worker_backs_off_and_never_sleeps_past_a_timer() {
        let far_ns = u64::MAX;
        assert_eq!(idle(Poll::Adaptive, 1, far_ns), Idle::Spin);
        assert_eq!(idle(Poll::Adaptive, SPINS, far_ns), Idle::Yield);
        assert_eq!(
            idle(Poll::Adaptive, YIELDS, far_ns),
            Idle::Sleep(SHORT_SLEEP_NS)
        );
        assert_eq!(
            idle(Poll::Adaptive, u32::MAX, far_ns),
            Idle::Sleep(LONG_SLEEP_NS)
        );
        assert_eq!(idle(Poll::Adaptive, u32::MAX, 30_000), Idle::Sleep(30_000));
        assert_eq!(idle(Poll::Adaptive, u32::MAX, 10_000), Idle::Spin);
        assert_eq!(idle(Poll::Busy, u32::MAX, far_ns), Idle::Spin);
    }

    #[test]
    fn workers_know_the_time_without_asking_the_system() {
        let wall = WallClock::new(Clock::start());
        let unix_s = || {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        let before_s = unix_s();
        let time = wall.now();
        assert!((before_s..=unix_s()).contains(&time.unix_s()));
        wall.set();
        assert!(wall.now().now_ns >= time.now_ns);
    }
}
