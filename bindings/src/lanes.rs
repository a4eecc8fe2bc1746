//! Eight numbers of sixteen bits, compared at once.

/// A bit for each of the eight lanes of `words`, lowest first, that is `wanted`.
#[inline(always)]
pub fn equal_to(words: [u64; 2], wanted: u16) -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
            _mm_setzero_si128,
        };
        // SAFETY: every x86-64 processor has SSE2, and none of these touches memory.
        unsafe {
            let lanes = _mm_set_epi64x(words[1] as i64, words[0] as i64);
            let equal = _mm_cmpeq_epi16(lanes, _mm_set1_epi16(wanted as i16));
            _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u8
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    plainly(words, wanted)
}

/// The same, lane by lane.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn plainly(words: [u64; 2], wanted: u16) -> u8 {
    (0..8).fold(0, |found, lane| {
        let tag = (words[lane / 4] >> (lane % 4 * 16)) as u16;
        found | u8::from(tag == wanted) << lane
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_is_found_alone_and_with_others() {
        for set in 0..=u8::MAX {
            for wanted in [0, 1, 0x7fff, 0x8000, 0xffff] {
                let lane = |lane: usize| match set >> lane & 1 {
                    0 => u64::from(wanted ^ 1 << (lane * 2)),
                    _ => u64::from(wanted),
                };
                let word = |from: usize| (0..4).map(|n| lane(from + n) << (n * 16)).sum();
                let words = [word(0), word(4)];
                assert_eq!(equal_to(words, wanted), set, "{words:x?}");
                assert_eq!(plainly(words, wanted), set, "{words:x?}");
            }
        }
    }
}
