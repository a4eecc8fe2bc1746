//! Octets that came behind a gap: verified as they come, so that only their places are kept.

use arrayvec::ArrayVec;
use dataplane::tcp::sequence::{after, before};

/// Ranges of one connection; what makes one more is dropped, and comes again.
const MAX_RANGES: usize = 16;

/// What came of one connection behind a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps {
    /// First octet, and the one behind the last; they neither touch nor overlap, in no order.
    ranges: ArrayVec<(u32, u32), MAX_RANGES>,
}

impl Gaps {
    /// Notes the octets from `from` up to `to`.
    pub(super) fn note(&mut self, mut from: u32, mut to: u32) {
        self.ranges.retain(|&mut (first, behind)| {
            let is_apart = before(behind, from) || after(first, to);
            if !is_apart {
                from = if before(first, from) { first } else { from };
                to = if after(behind, to) { behind } else { to };
            }
            is_apart
        });
        let _ = self.ranges.try_push((from, to));
    }

    /// Where the octets from `next` on end, and forgets what lies before.
    pub(super) fn pass(&mut self, mut next: u32) -> u32 {
        // A range that begins behind another's end cannot touch it, so one reaches farthest.
        let reaching = self
            .ranges
            .iter()
            .find(|&&(first, behind)| !after(first, next) && after(behind, next));
        if let Some(&(_, behind)) = reaching {
            next = behind;
        }
        self.ranges.retain(|&mut (_, behind)| after(behind, next));
        next
    }

    /// Whether nothing is noted.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_came_in_any_order_is_passed_once_the_gap_is_filled(
            base in any::<u32>(),
            pieces in proptest::collection::vec((1u32..40, 1u32..9), 1..14),
        ) {
            let mut gaps = Gaps::default();
            let mut came = [false; 64];
            for &(from, length) in &pieces {
                gaps.note(base.wrapping_add(from), base.wrapping_add(from + length));
                came[from as usize..(from + length) as usize].fill(true);
            }
            for next in 0..64u32 {
                let passed = gaps.clone().pass(base.wrapping_add(next)).wrapping_sub(base);
                let run = came[next as usize..].iter().take_while(|&&came| came).count() as u32;
                prop_assert_eq!(passed, next + run);
            }
            prop_assert_eq!(gaps.pass(base.wrapping_add(63)), base.wrapping_add(63));
            prop_assert!(gaps.is_empty());
        }
    }
}
