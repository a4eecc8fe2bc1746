//! AES-128 in CBC-MAC over few blocks, by the processor's own instructions where it has them.
//!
//! A cookie is made for every SYN, so what counts is a call of two blocks: the whole chain is one
//! function that keeps its state in a register, and blocks come and go as pairs of numbers, not by
//! way of memory.

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// A key, expanded; wiped when dropped.
///
/// CBC-MAC is a pseudo-random function over inputs none of which begins another (Bellare, Kilian
/// and Rogaway, 2000). Whoever calls [`CipherKey::code`] sees to that.
pub struct CipherKey(Rounds);

enum Rounds {
    /// Only where the processor was found to have AES instructions.
    #[cfg(target_arch = "x86_64")]
    Processor(Box<x86::Keys>),
    Software(Aes128Enc),
}

impl CipherKey {
    /// From 16 secret octets.
    pub fn new(secret: &[u8; 16]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = x86::Keys::new(secret) {
            return Self(Rounds::Processor(Box::new(keys)));
        }
        Self::in_software(secret)
    }

    fn in_software(secret: &[u8; 16]) -> Self {
        Self(Rounds::Software(Aes128Enc::new(secret.into())))
    }

    /// The code of `blocks`, which are their octets as little-endian numbers, as is the result: all
    /// 128 bits of the last block.
    #[inline(always)]
    pub fn code<const BLOCKS: usize>(&self, blocks: [u128; BLOCKS]) -> u128 {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Rounds::Processor(keys) => keys.code(blocks),
            Rounds::Software(cipher) => chain_in_software(cipher, &blocks),
        }
    }
}

impl CipherKey {
    /// The codes of many inputs of two blocks, told in their order. They are made eight at a time:
    /// the rounds of one would have to wait for each other.
    #[inline]
    pub fn code_all(&self, inputs: &[[u128; 2]], mut tell: impl FnMut(u128)) {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Rounds::Processor(keys) => {
                let (whole, rest) = inputs.as_chunks();
                for inputs in whole {
                    keys.code_abreast(inputs).into_iter().for_each(&mut tell);
                }
                if !rest.is_empty() {
                    let mut abreast = [[0; 2]; x86::ABREAST];
                    abreast[..rest.len()].copy_from_slice(rest);
                    let codes = keys.code_abreast(&abreast);
                    codes.into_iter().take(rest.len()).for_each(tell);
                }
            }
            Rounds::Software(cipher) => {
                let codes = inputs
                    .iter()
                    .map(|blocks| chain_in_software(cipher, blocks));
                codes.for_each(tell);
            }
        }
    }
}

#[cold]
fn chain_in_software(cipher: &Aes128Enc, blocks: &[u128]) -> u128 {
    blocks.iter().fold(0, |state, block| {
        let mut octets = (state ^ block).to_le_bytes().into();
        cipher.encrypt_block(&mut octets);
        u128::from_le_bytes(octets.into())
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128,
        _mm_cvtsi128_si64, _mm_extract_epi64, _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi32,
        _mm_slli_si128, _mm_xor_si128,
    };

    use zeroize::Zeroize;

    /// The round keys. There are none without AES instructions to use them by.
    pub(super) struct Keys([__m128i; 11]);

    impl Keys {
        pub(super) fn new(secret: &[u8; 16]) -> Option<Self> {
            let has_instructions = is_x86_feature_detected!("aes")
                && is_x86_feature_detected!("sse4.1")
                && is_x86_feature_detected!("sse2");
            // SAFETY: the processor has just been found to have what `expand` is compiled for.
            has_instructions.then(|| Self(unsafe { expand(u128::from_le_bytes(*secret)) }))
        }

        #[inline(always)]
        pub(super) fn code<const BLOCKS: usize>(&self, blocks: [u128; BLOCKS]) -> u128 {
            let halves = blocks.map(|block| (block as i64, (block >> 64) as i64));
            // SAFETY: that `self` was made shows that the processor has what `chain` is compiled
            // for.
            let (low, high) = unsafe { chain(&self.0, halves) };
            u128::from(high as u64) << 64 | u128::from(low as u64)
        }
    }

    /// Inputs that are enciphered together: as many as keep the unit for it busy.
    pub(super) const ABREAST: usize = 8;

    impl Keys {
        #[inline(always)]
        pub(super) fn code_abreast(&self, inputs: &[[u128; 2]; ABREAST]) -> [u128; ABREAST] {
            // SAFETY: as for `code`.
            unsafe { chain_abreast(&self.0, inputs) }
        }
    }

    impl Drop for Keys {
        fn drop(&mut self) {
            self.0.zeroize();
        }
    }

    #[target_feature(enable = "aes,sse4.1,sse2")]
    fn chain<const BLOCKS: usize>(
        keys: &[__m128i; 11],
        blocks: [(i64, i64); BLOCKS],
    ) -> (i64, i64) {
        let mut state = _mm_setzero_si128();
        for (low, high) in blocks {
            state = _mm_xor_si128(state, _mm_xor_si128(_mm_set_epi64x(high, low), keys[0]));
            for key in &keys[1..10] {
                state = _mm_aesenc_si128(state, *key);
            }
            state = _mm_aesenclast_si128(state, keys[10]);
        }
        (_mm_cvtsi128_si64(state), _mm_extract_epi64::<1>(state))
    }

    #[target_feature(enable = "aes,sse4.1,sse2")]
    fn chain_abreast(keys: &[__m128i; 11], inputs: &[[u128; 2]; ABREAST]) -> [u128; ABREAST] {
        let mut states = [_mm_setzero_si128(); ABREAST];
        for block in 0..2 {
            for (state, input) in states.iter_mut().zip(inputs) {
                let (low, high) = (input[block] as i64, (input[block] >> 64) as i64);
                let added = _mm_xor_si128(_mm_set_epi64x(high, low), keys[0]);
                *state = _mm_xor_si128(*state, added);
            }
            for key in &keys[1..10] {
                for state in &mut states {
                    *state = _mm_aesenc_si128(*state, *key);
                }
            }
            for state in &mut states {
                *state = _mm_aesenclast_si128(*state, keys[10]);
            }
        }
        states.map(|state| {
            let (low, high) = (_mm_cvtsi128_si64(state), _mm_extract_epi64::<1>(state));
            u128::from(high as u64) << 64 | u128::from(low as u64)
        })
    }

    /// The key schedule (FIPS 197 §5.2).
    #[target_feature(enable = "aes,sse4.1,sse2")]
    fn expand(secret: u128) -> [__m128i; 11] {
        let first = _mm_set_epi64x((secret >> 64) as i64, secret as i64);
        let mut keys = [first; 11];
        keys[1] = next(keys[0], _mm_aeskeygenassist_si128::<0x01>(keys[0]));
        keys[2] = next(keys[1], _mm_aeskeygenassist_si128::<0x02>(keys[1]));
        keys[3] = next(keys[2], _mm_aeskeygenassist_si128::<0x04>(keys[2]));
        keys[4] = next(keys[3], _mm_aeskeygenassist_si128::<0x08>(keys[3]));
        keys[5] = next(keys[4], _mm_aeskeygenassist_si128::<0x10>(keys[4]));
        keys[6] = next(keys[5], _mm_aeskeygenassist_si128::<0x20>(keys[5]));
        keys[7] = next(keys[6], _mm_aeskeygenassist_si128::<0x40>(keys[6]));
        keys[8] = next(keys[7], _mm_aeskeygenassist_si128::<0x80>(keys[7]));
        keys[9] = next(keys[8], _mm_aeskeygenassist_si128::<0x1b>(keys[8]));
        keys[10] = next(keys[9], _mm_aeskeygenassist_si128::<0x36>(keys[9]));
        keys
    }

    #[target_feature(enable = "aes,sse4.1,sse2")]
    fn next(key: __m128i, assist: __m128i) -> __m128i {
        let one = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
        let two = _mm_xor_si128(one, _mm_slli_si128::<8>(one));
        _mm_xor_si128(two, _mm_shuffle_epi32::<0xff>(assist))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(secret: [u8; 16]) -> [CipherKey; 2] {
        [CipherKey::new(&secret), CipherKey::in_software(&secret)]
    }

    #[test]
    fn one_block_is_the_example_of_fips_197() {
        // Appendix C.1.
        let secret = std::array::from_fn(|place| place as u8);
        let plain: [u8; 16] = std::array::from_fn(|place| place as u8 * 0x11);
        for key in both(secret) {
            let code = key.code([u128::from_le_bytes(plain)]);
            let expected = 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128;
            assert_eq!(code.swap_bytes(), expected);
        }
    }

    #[test]
    fn several_blocks_are_the_last_of_cbc_mode() {
        // NIST SP 800-38A, F.2.1, whose initial vector is added to the first block.
        let secret = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128;
        let vector = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128;
        let plain = [
            0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a ^ vector,
            0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51,
            0x30c8_1c46_a35c_e411_e5fb_c119_1a0a_52ef,
        ];
        let [first, second, third] = plain.map(u128::swap_bytes);
        for key in both(secret.to_be_bytes()) {
            let codes = [
                key.code([first]),
                key.code([first, second]),
                key.code([first, second, third]),
            ];
            let expected = [
                0x7649_abac_8119_b246_cee9_8e9b_12e9_197d,
                0x5086_cb9b_5072_19ee_95db_113a_9176_78b2,
                0x73be_d6b8_e3c1_743b_7116_e69e_2222_9516,
            ];
            assert_eq!(codes.map(u128::swap_bytes), expected);
        }
    }

    #[test]
    fn both_ways_agree_whatever_the_key() {
        let mut number = 0x9e37_79b9_7f4a_7c15_u128;
        let mut next = || {
            number = number.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645) + 1;
            number
        };
        for _ in 0..1000 {
            let [processor, software] = both(next().to_le_bytes());
            let blocks = [next(), next()];
            assert_eq!(processor.code(blocks), software.code(blocks));
        }
    }

    #[test]
    fn many_are_each_as_if_alone() {
        for key in both([7; 16]) {
            for count in 0..40_u128 {
                let inputs: Vec<[u128; 2]> = (0..count).map(|n| [n << 64 | 5, !n]).collect();
                let mut codes = Vec::new();
                key.code_all(&inputs, |code| codes.push(code));
                let alone: Vec<u128> = inputs.iter().map(|&blocks| key.code(blocks)).collect();
                assert_eq!(codes, alone);
            }
        }
    }
}
