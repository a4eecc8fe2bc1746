//! SipHash-2-4 with 128 bits of result, over whole 64-bit words: a cookie's code (Aumasson and
//! Bernstein, 2012).
//!
//! A cookie's input has one of two fixed lengths, so nothing need be gathered, and the second half
//! of the result is only computed for who asks.

/// A key, mixed into the initial state.
#[derive(Clone)]
pub(crate) struct SipKey(State);

/// The first half of a result, and what the second is made of.
#[derive(Clone, Copy)]
pub(crate) struct SipHash {
    first: u64,
    state: State,
}

#[derive(Clone, Copy)]
struct State([u64; 4]);

impl SipKey {
    /// From 16 secret octets.
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        let number = u128::from_le_bytes(*secret);
        let (low, high) = (number as u64, (number >> 64) as u64);
        Self(State([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ]))
    }

    /// The hash of the octets that `words` are in little-endian order.
    #[inline(always)]
    pub(crate) fn hash<const WORDS: usize>(&self, words: &[u64; WORDS]) -> SipHash {
        let mut state = self.0;
        for &word in words {
            state = state.take(word);
        }
        let mut state = state.take(((WORDS * 8) as u64) << 56);
        state.0[2] ^= 0xee;
        let state = state.mix().mix().mix().mix();
        SipHash {
            first: state.folded(),
            state,
        }
    }

    /// Makes the key unreadable.
    pub(crate) fn erase(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0.0);
    }
}

impl SipHash {
    /// The first 64 bits.
    #[inline(always)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The other 64.
    #[inline(always)]
    pub(crate) fn second(&self) -> u64 {
        let mut state = self.state;
        state.0[1] ^= 0xdd;
        state.mix().mix().mix().mix().folded()
    }
}

impl State {
    #[inline(always)]
    fn take(mut self, word: u64) -> Self {
        self.0[3] ^= word;
        let mut mixed = self.mix().mix();
        mixed.0[0] ^= word;
        mixed
    }

    #[inline(always)]
    fn mix(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        Self([a, b, c, d])
    }

    #[inline(always)]
    fn folded(self) -> u64 {
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip128::{Hasher128, SipHasher24};

    use super::*;

    fn reference(secret: &[u8; 16], words: &[u64]) -> (u64, u64) {
        let octets: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut hasher = SipHasher24::new_with_key(secret);
        hasher.write(&octets);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    proptest! {
        #[test]
        fn it_agrees_with_another_implementation(
            secret in any::<[u8; 16]>(), three in any::<[u64; 3]>(), six in any::<[u64; 6]>(),
        ) {
            let key = SipKey::new(&secret);
            let hash = key.hash(&three);
            prop_assert_eq!((hash.first(), hash.second()), reference(&secret, &three));
            let hash = key.hash(&six);
            prop_assert_eq!((hash.first(), hash.second()), reference(&secret, &six));
        }
    }
}
