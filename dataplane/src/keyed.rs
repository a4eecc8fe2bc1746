//! A keyed hash for tables whose keys strangers choose.

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
