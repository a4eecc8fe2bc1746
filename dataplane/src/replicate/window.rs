//! Which frames of a peer's life have come: each is read once.

const WORDS: usize = 64;
/// How far behind the highest number a frame may come.
pub(super) const WINDOW_FRAMES: u64 = (WORDS as u64 - 1) * 64;

/// A sliding window over frame numbers in the manner of RFC 6479: blocks in a ring, so that moving
/// it on shifts no bits.
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow {
    highest: u64,
    blocks: [u64; WORDS],
}

impl ReplayWindow {
    pub(super) fn new() -> Self {
        Self {
            highest: 0,
            blocks: [0; WORDS],
        }
    }

    /// Whether a frame of this number has not come yet. Numbers begin at 1.
    pub(super) fn is_new(&self, number: u64) -> bool {
        if number == 0 || self.highest.saturating_sub(number) >= WINDOW_FRAMES {
            return false;
        }
        let (block, bit) = place(number);
        number > self.highest || self.blocks[block] & bit == 0
    }

    /// Notes that it has come. Only for what was authentic and [new](Self::is_new).
    pub(super) fn note(&mut self, number: u64) {
        if number > self.highest {
            let steps = (number / 64 - self.highest / 64).min(WORDS as u64);
            for step in 1..=steps {
                self.blocks[((self.highest / 64 + step) % WORDS as u64) as usize] = 0;
            }
            self.highest = number;
        }
        let (block, bit) = place(number);
        self.blocks[block] |= bit;
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64 % WORDS as u64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..6000), 1..400)) {
            // CASES 14
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut highest = 0u64;
            for (ahead, distance) in steps {
                let number = if ahead { highest + distance } else { highest.saturating_sub(distance) };
                let expected = number > 0
                    && number + WINDOW_FRAMES > highest
                    && !seen.contains(&number);
                prop_assert_eq!(window.is_new(number), expected, "{}", number);
                if expected {
                    window.note(number);
                    seen.insert(number);
                    highest = highest.max(number);
                }
            }
        }
    }

    #[test]
    fn the_last_numbers_do_not_wrap() {
        let mut window = ReplayWindow::new();
        window.note(u64::MAX);
        assert!(!window.is_new(u64::MAX));
        assert!(window.is_new(u64::MAX - 1));
        assert!(!window.is_new(1));
    }
}
