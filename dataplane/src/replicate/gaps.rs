//! Which batches of a peer's stream have come, and when to ask for those that have not.

use arrayvec::ArrayVec;

use super::item::Range;

/// Ranges of one request.
pub(super) const MAX_RANGES: usize = 32;
/// Batches that one request asks for.
const MAX_ASKED: u32 = 512;
/// How far behind the newest batch a missing one is kept in mind.
pub(super) const WINDOW_BATCHES: u64 = 16_384;
/// The longest time between two requests.
const MAX_INTERVAL_NS: u64 = 200_000_000;

/// What has come of one stream.
pub(super) struct Gaps {
    /// Every batch up to this one has come, or is not waited for.
    through: u64,
    /// The highest that has come.
    highest: u64,
    /// The highest that exists, as far as is known.
    known: u64,
    /// A bit for each batch behind `through` that has come.
    bits: Box<[u64]>,
    /// What was missing when the timer was set is asked for when it ends: what is merely out of
    /// order has come by then.
    asked_below: u64,
    ask_at_ns: Option<u64>,
    interval_ns: u64,
    delay_ns: u64,
}

/// What a batch is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    New,
    Duplicate,
    /// So far ahead that what is missing before it cannot be kept in mind.
    TooFar,
}

impl Gaps {
    /// Waits for the batch after `through`, and asks for a missing one after `delay_ns`.
    pub(super) fn new(through: u64, delay_ns: u64) -> Self {
        Self {
            through,
            highest: through,
            known: through,
            bits: vec![0; (WINDOW_BATCHES / 64) as usize].into(),
            asked_below: 0,
            ask_at_ns: None,
            interval_ns: delay_ns,
            delay_ns,
        }
    }

    pub(super) fn through(&self) -> u64 {
        self.through
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// How many batches are known to be missing.
    pub(super) fn missing(&self) -> u64 {
        let come: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        self.known - self.through - u64::from(come)
    }

    fn has(&self, batch: u64) -> bool {
        let at = batch % WINDOW_BATCHES;
        self.bits[(at / 64) as usize] & 1 << (at % 64) != 0
    }

    fn set(&mut self, batch: u64, come: bool) {
        let at = batch % WINDOW_BATCHES;
        let word = &mut self.bits[(at / 64) as usize];
        *word = *word & !(1 << (at % 64)) | u64::from(come) << (at % 64);
    }

    /// What `batch` would be. Nothing is noted.
    pub(super) fn judge(&self, batch: u64) -> Arrival {
        if batch <= self.through {
            return Arrival::Duplicate;
        }
        if batch - self.through >= WINDOW_BATCHES {
            return Arrival::TooFar;
        }
        if self.has(batch) {
            Arrival::Duplicate
        } else {
            Arrival::New
        }
    }

    /// Notes a batch that is [new](Arrival::New).
    pub(super) fn note(&mut self, batch: u64, now_ns: u64) {
        self.set(batch, true);
        self.highest = self.highest.max(batch);
        self.known = self.known.max(batch);
        self.advance();
        self.set_timer(now_ns);
    }

    /// There is a batch of this number.
    pub(super) fn announce(&mut self, newest: u64, now_ns: u64) {
        self.known = self.known.max(newest);
        self.set_timer(now_ns);
    }

    /// No batch up to `through` is waited for any more.
    pub(super) fn skip_to(&mut self, through: u64) {
        if through <= self.through {
            return;
        }
        if through - self.through >= WINDOW_BATCHES {
            self.bits.fill(0);
        } else {
            for batch in self.through + 1..=through {
                self.set(batch, false);
            }
        }
        self.through = through;
        self.highest = self.highest.max(through);
        self.known = self.known.max(through);
        self.advance();
    }

    fn advance(&mut self) {
        let before = self.through;
        while self.through < self.highest && self.has(self.through + 1) {
            self.set(self.through + 1, false);
            self.through += 1;
        }
        if self.through > before {
            self.interval_ns = self.delay_ns;
        }
        if self.through >= self.known {
            self.ask_at_ns = None;
        }
    }

    fn set_timer(&mut self, now_ns: u64) {
        if self.ask_at_ns.is_none() && self.through < self.known {
            self.ask_at_ns = Some(now_ns.saturating_add(self.delay_ns));
            self.asked_below = self.known;
        }
    }

    /// When [`Self::ask`] is to be called.
    pub(super) fn ask_at_ns(&self) -> Option<u64> {
        self.ask_at_ns
    }

    /// What to ask for now, if it is time to; the next time is later and later while nothing comes.
    pub(super) fn ask(&mut self, now_ns: u64) -> ArrayVec<Range, MAX_RANGES> {
        let mut ranges = ArrayVec::new();
        if self.ask_at_ns.is_none_or(|at_ns| at_ns > now_ns) {
            return ranges;
        }
        self.collect(&mut ranges);
        self.interval_ns = (self.interval_ns * 2).min(MAX_INTERVAL_NS);
        self.ask_at_ns = Some(now_ns.saturating_add(self.interval_ns));
        self.asked_below = self.known;
        ranges
    }

    fn collect(&self, ranges: &mut ArrayVec<Range, MAX_RANGES>) {
        let end = self
            .asked_below
            .min(self.known)
            .min(self.through.saturating_add(WINDOW_BATCHES - 1));
        let mut asked = 0;
        for batch in self.through.saturating_add(1)..=end {
            if self.has(batch) {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.first.wrapping_add(u64::from(range.count)) == batch => {
                    range.count += 1
                }
                _ => {
                    let range = Range {
                        first: batch,
                        count: 1,
                    };
                    if ranges.try_push(range).is_err() {
                        return;
                    }
                }
            }
            asked += 1;
            if asked == MAX_ASKED {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const DELAY_NS: u64 = 2_000_000;

    fn ranges(gaps: &mut Gaps, now_ns: u64) -> Vec<(u64, u32)> {
        let asked = gaps.ask(now_ns);
        asked
            .iter()
            .map(|range| (range.first, range.count))
            .collect()
    }

    #[test]
    fn what_is_out_of_order_is_not_asked_for() {
        // CASES 15
        let mut gaps = Gaps::new(0, DELAY_NS);
        for batch in [2, 3, 1] {
            assert_eq!(gaps.judge(batch), Arrival::New);
            gaps.note(batch, 1_000);
        }
        assert_eq!((gaps.through(), gaps.ask_at_ns()), (3, None));
        assert_eq!(gaps.judge(2), Arrival::Duplicate);
    }

    #[test]
    fn a_gap_is_asked_for_after_the_delay_and_then_less_and_less_often() {
        // CASES 15
        let mut gaps = Gaps::new(0, DELAY_NS);
        gaps.note(4, 0);
        gaps.announce(9, 0);
        assert_eq!(gaps.missing(), 8);
        assert_eq!(ranges(&mut gaps, DELAY_NS - 1), []);
        assert_eq!(ranges(&mut gaps, DELAY_NS), [(1, 3)]);
        let mut asked_ns = Vec::new();
        for now_ns in (0..2_000_000_000).step_by(1_000_000) {
            let asked = ranges(&mut gaps, now_ns);
            if !asked.is_empty() {
                assert_eq!(asked, [(1, 3), (5, 5)]);
                asked_ns.push(now_ns);
            }
        }
        assert!(asked_ns.len() < 20, "{asked_ns:?}");
        for batch in [1, 2, 3, 5, 6, 7, 8, 9] {
            gaps.note(batch, 0);
        }
        assert_eq!((gaps.through(), gaps.ask_at_ns()), (9, None));
    }

    #[test]
    fn a_request_is_bounded() {
        // CASES 15
        let mut gaps = Gaps::new(0, DELAY_NS);
        (1..1_000).for_each(|batch| gaps.note(batch * 2, 0));
        assert_eq!(ranges(&mut gaps, DELAY_NS), [(1, 1)]);
        let asked = gaps.ask(DELAY_NS * 100);
        assert_eq!(asked.len(), MAX_RANGES);
        let mut gaps = Gaps::new(0, DELAY_NS);
        gaps.announce(10_000, 0);
        assert_eq!(ranges(&mut gaps, DELAY_NS), [(1, MAX_ASKED)]);
        assert_eq!(gaps.judge(u64::MAX), Arrival::TooFar);
        gaps.skip_to(u64::MAX - 5);
        assert_eq!(gaps.judge(u64::MAX), Arrival::New);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec((0u8..8, 1u64..300), 1..200)) {
            // CASES 15
            let mut gaps = Gaps::new(0, DELAY_NS);
            let mut come = BTreeSet::new();
            let mut through = 0;
            for (what, number) in steps {
                let batch = through + number;
                if what == 0 {
                    gaps.skip_to(batch);
                    come.extend(1..=batch);
                } else {
                    let new = gaps.judge(batch) == Arrival::New;
                    prop_assert_eq!(new, !come.contains(&batch));
                    if new {
                        gaps.note(batch, 0);
                        come.insert(batch);
                    }
                }
                while come.contains(&(through + 1)) {
                    through += 1;
                }
                let highest = come.last().copied().unwrap_or(0);
                prop_assert_eq!((gaps.through(), gaps.highest()), (through, highest));
                let absent = (1..=highest).filter(|batch| !come.contains(batch)).count();
                prop_assert_eq!(gaps.missing(), absent as u64);
                prop_assert_eq!(gaps.ask_at_ns().is_some(), through < highest);
            }
        }
    }
}
