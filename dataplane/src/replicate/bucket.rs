//! A token bucket.

/// A limit on how often something is done, in the form of one number (the generic cell rate
/// algorithm): the time at which the bucket will be full again.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    interval_ns: u64,
    depth_ns: u64,
    full_ns: u64,
}

impl Bucket {
    /// So many a second, and so many at once after a pause.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        let interval_ns = 1_000_000_000 / per_second.clamp(1, 1_000_000_000);
        Self {
            interval_ns,
            depth_ns: interval_ns.saturating_mul(burst.max(1)),
            full_ns: 0,
        }
    }

    /// One, and none more before this time is over.
    pub(super) fn every(interval_ns: u64) -> Self {
        Self {
            interval_ns,
            depth_ns: interval_ns,
            full_ns: 0,
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let full_ns = self.full_ns.max(now_ns).saturating_add(self.interval_ns);
        let allowed = full_ns <= now_ns.saturating_add(self.depth_ns);
        if allowed {
            self.full_ns = full_ns;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(1_000, 5);
        let taken = |bucket: &mut Bucket, now_ns| (0..100).filter(|_| bucket.take(now_ns)).count();
        assert_eq!(taken(&mut bucket, 0), 5);
        assert_eq!(taken(&mut bucket, 999_999), 0);
        assert_eq!(taken(&mut bucket, 3_000_000), 3);
        assert_eq!(taken(&mut bucket, 1_000_000_000), 5);
    }
}
