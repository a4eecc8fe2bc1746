//! The processor's time-stamp counter: a time that costs some twenty cycles and no system call.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The counter's value now.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and nothing forbids it in user space.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter.
    unsafe {
        dpdk_sys::shim_cycles()
    }
}

/// How many of them make a second: EAL's measure where EAL runs, else our own, taken once.
pub fn cycles_per_second() -> u64 {
    // SAFETY: reads a number that EAL sets once while it starts.
    match unsafe { dpdk_sys::rte_get_tsc_hz() } {
        0 => measured(),
        frequency => frequency,
    }
}

fn measured() -> u64 {
    static MEASURED: OnceLock<u64> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let (began, first) = (Instant::now(), cycles());
        std::thread::sleep(Duration::from_millis(50));
        let (took, last) = (began.elapsed(), cycles());
        let frequency = u128::from(last.wrapping_sub(first)) * 1_000_000_000 / took.as_nanos();
        u64::try_from(frequency).unwrap_or(u64::MAX).max(1)
    })
}

/// Turns the counter into nanoseconds since the clock was made. A copy tells the same time, on
/// every core.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start_cycles: u64,
    /// Nanoseconds per cycle, as a fraction of 2^32.
    scale: u64,
}

impl Clock {
    /// A clock that begins at zero, now.
    pub fn start() -> Self {
        Self {
            start_cycles: cycles(),
            scale: scale_of(cycles_per_second()),
        }
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.elapsed_ns(cycles().saturating_sub(self.start_cycles))
    }

    /// How many nanoseconds so many cycles take.
    #[inline]
    pub fn elapsed_ns(&self, cycles: u64) -> u64 {
        // The product of two 64-bit numbers has 128 bits; the shift brings it back, and exceeds
        // 64 bits only after 584 years.
        ((u128::from(cycles) * u128::from(self.scale)) >> 32) as u64
    }
}

fn scale_of(cycles_per_second: u64) -> u64 {
    ((1_000_000_000_u128 << 32) / u128::from(cycles_per_second)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_without_drift() {
        for frequency in [1_000_000_000, 2_000_000_000, 2_099_999_999, 3_700_000_000] {
            let clock = Clock {
                start_cycles: 0,
                scale: scale_of(frequency),
            };
            let day = 86_400;
            let wrong = clock
                .elapsed_ns(frequency * day)
                .abs_diff(day * 1_000_000_000);
            assert!(
                wrong < 86_400 * 2,
                "{frequency} Hz: {wrong} ns wrong after a day"
            );
        }
    }

    #[test]
    fn follows_the_system_clock() {
        let (began, clock) = (Instant::now(), Clock::start());
        std::thread::sleep(Duration::from_millis(200));
        let (ours, theirs) = (clock.now_ns() as f64, began.elapsed().as_nanos() as f64);
        assert!(
            (ours / theirs - 1.0).abs() < 0.05,
            "{ours} ns against {theirs} ns"
        );
    }
}
