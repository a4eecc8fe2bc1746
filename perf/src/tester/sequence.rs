//! Which frames of each flow have come, so that each is counted once.

use std::collections::TryReserveError;

/// Bits for all flows together: few flows remember more of their past than many.
const WINDOW_BITS: usize = 1 << 23;
/// Words of one flow's window.
const MOST_WORDS: usize = 256;

/// What a frame's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Later than all before.
    InOrder,
    /// Earlier than one that came before, and not seen yet.
    Reordered,
    /// Seen before.
    Duplicate,
}

/// The windows of all flows.
pub(super) struct Sequences {
    /// Of each flow, the number behind the highest that came.
    next: Vec<u32>,
    /// Of each flow, the time on the way of the frame before, in ticks.
    transits: Vec<u32>,
    windows: Vec<u64>,
    words: usize,
}

impl Sequences {
    /// Room for so many flows.
    pub(super) fn new(flows: usize) -> Result<Self, TryReserveError> {
        let words = (WINDOW_BITS / 64 / flows.max(1)).clamp(1, MOST_WORDS);
        // A power of two, so that a number finds its place by a mask.
        let words = 1 << words.ilog2();
        let mut sequences = Self {
            next: Vec::new(),
            transits: Vec::new(),
            windows: Vec::new(),
            words,
        };
        sequences.next.try_reserve_exact(flows)?;
        sequences.transits.try_reserve_exact(flows)?;
        sequences.windows.try_reserve_exact(flows * words)?;
        sequences.next.resize(flows, 0);
        sequences.transits.resize(flows, 0);
        sequences.windows.resize(flows * words, 0);
        Ok(sequences)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.next.fill(0);
        self.windows.fill(0);
    }

    /// How many flows there are.
    pub(super) fn flows(&self) -> u32 {
        self.next.len() as u32
    }

    /// Asks the processor for what [`Self::arrive`] will need.
    #[inline]
    pub(super) fn prefetch(&self, flow: u32) {
        if let Some(next) = self.next.get(flow as usize) {
            bindings::prefetch(next);
            bindings::prefetch(&self.windows[flow as usize * self.words]);
        }
    }

    /// Notes a frame of a flow that there is.
    ///
    /// A frame that is further behind than the window reaches is taken for reordered: whether it
    /// came before cannot be told any more.
    #[inline]
    pub(super) fn arrive(&mut self, flow: u32, sequence: u32) -> Arrival {
        let flow = flow as usize;
        let bits = (self.words * 64) as u32;
        let window = &mut self.windows[flow * self.words..(flow + 1) * self.words];
        let next = &mut self.next[flow];
        let place = |number: u32| {
            (
                ((number & (bits - 1)) >> 6) as usize,
                1_u64 << (number & 63),
            )
        };
        let (word, bit) = place(sequence);
        if sequence >= *next {
            let ahead = sequence - *next;
            if ahead >= bits {
                window.fill(0);
            } else {
                for skipped in *next..sequence {
                    let (word, bit) = place(skipped);
                    window[word] &= !bit;
                }
            }
            window[word] |= bit;
            *next = sequence.wrapping_add(1);
            return Arrival::InOrder;
        }
        if *next - sequence > bits {
            return Arrival::Reordered;
        }
        if window[word] & bit != 0 {
            return Arrival::Duplicate;
        }
        window[word] |= bit;
        Arrival::Reordered
    }

    /// Notes how long a frame was on its way, and returns how much that differs from the frame
    /// before of its flow, in ticks; none for the first.
    #[inline]
    pub(super) fn transit(&mut self, flow: u32, sequence: u32, ticks: u32) -> Option<u32> {
        let before = std::mem::replace(&mut self.transits[flow as usize], ticks);
        (sequence > 0).then(|| before.abs_diff(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(numbers: &[u32]) -> Vec<Arrival> {
        let mut sequences = Sequences::new(2).unwrap();
        let arrive = |number: &u32| sequences.arrive(1, *number);
        numbers.iter().map(arrive).collect()
    }

    #[test]
    fn order_lateness_and_repetition_are_told_apart() {
        use Arrival::{Duplicate, InOrder, Reordered};
        assert_eq!(
            arrivals(&[0, 1, 3, 2, 2, 3, 4, 0]),
            [
                InOrder, InOrder, InOrder, Reordered, Duplicate, Duplicate, InOrder, Duplicate
            ]
        );
    }

    #[test]
    fn what_was_skipped_long_ago_is_not_taken_for_a_duplicate() {
        use Arrival::{Duplicate, InOrder, Reordered};
        let far = 40_000;
        assert_eq!(
            arrivals(&[0, far, far - 1, far - 1, 5]),
            [InOrder, InOrder, Reordered, Duplicate, Reordered]
        );
    }

    #[test]
    fn flows_do_not_touch_each_other() {
        let mut sequences = Sequences::new(1 << 20).unwrap();
        assert_eq!(sequences.arrive(5, 0), Arrival::InOrder);
        assert_eq!(sequences.arrive(6, 0), Arrival::InOrder);
        assert_eq!(sequences.arrive(5, 0), Arrival::Duplicate);
        sequences.clear();
        assert_eq!(sequences.arrive(5, 0), Arrival::InOrder);
    }

    #[test]
    fn jitter_is_the_difference_to_the_frame_before() {
        let mut sequences = Sequences::new(1).unwrap();
        assert_eq!(sequences.transit(0, 0, 100), None);
        assert_eq!(sequences.transit(0, 1, 130), Some(30));
        assert_eq!(sequences.transit(0, 2, 120), Some(10));
    }
}
