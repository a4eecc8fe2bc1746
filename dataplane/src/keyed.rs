//! Keyed hashes for tables and caches whose keys strangers choose.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Builds SipHash-1-3 hashers of one key, so that nobody outside can make keys collide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    low: u64,
    high: u64,
}

impl Keyed {
    /// A hash under `key`, which should be random.
    pub(crate) fn new(key: u128) -> Self {
        Self {
            low: key as u64,
            high: (key >> 64) as u64,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.low, self.high)
    }
}

/// Where a cache with one place for each index keeps a key: by multipliers that nobody outside knows.
///
/// Of two keys that a stranger chose the chance to meet is about two in the number of places
/// (multiply-shift hashing is universal), and it costs no more than a multiplier that everybody
/// knows. That does for a cache, where keys that meet cost a look-up; a table takes [`Keyed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread([u64; 2]);

impl Spread {
    /// An index under `secret`, which should be random.
    pub(crate) fn new(secret: u64) -> Self {
        // Odd ones, whose bits look random whatever the secret is (SplitMix64's finaliser).
        let mixed = |state: u64| {
            let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (state ^ state >> 31) | 1
        };
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let first = secret.wrapping_add(GOLDEN);
        Self([mixed(first), mixed(first.wrapping_add(GOLDEN))])
    }

    /// The place of a key among `PLACES`, a power of two.
    #[inline(always)]
    pub(crate) fn place<const PLACES: usize>(self, key: u64) -> usize {
        (key.wrapping_mul(self.0[0]) >> (64 - PLACES.trailing_zeros())) as usize % PLACES
    }

    /// The same of a key of two words.
    #[inline(always)]
    pub(crate) fn place_of_two<const PLACES: usize>(self, low: u64, high: u64) -> usize {
        let mixed = low
            .wrapping_mul(self.0[0])
            .wrapping_add(high.wrapping_mul(self.0[1]));
        (mixed >> (64 - PLACES.trailing_zeros())) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 256;

    /// How many places so many keys take.
    fn taken(keys: impl Iterator<Item = usize>) -> usize {
        keys.collect::<std::collections::HashSet<_>>().len()
    }

    // F4: who knows where keys lie under one secret, or folds two words into one, aims at nothing
    // under another.
    #[test]
    fn f4_keys_that_meet_under_one_secret_part_under_another() {
        let known = Spread::new(1);
        let aimed: Vec<u64> = (0..1 << 16)
            .filter(|&key| known.place::<PLACES>(key) == 3)
            .collect();
        assert!(aimed.len() > 100);
        let folded: Vec<u64> = (0..200).collect();
        for secret in [2, 3, 0xdead_beef] {
            let other = Spread::new(secret);
            let parted = taken(aimed.iter().map(|&key| other.place::<PLACES>(key)));
            assert!(parted > 50, "{parted}");
            let of_two = folded
                .iter()
                .map(|&word| other.place_of_two::<PLACES>(word, word ^ 0x2001_0db8));
            let parted = taken(of_two);
            assert!(parted > 50, "{parted}");
        }
    }
}
