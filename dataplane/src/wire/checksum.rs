//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

use crate::wire::address::{Address, Family};
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};

/// Adds the 16-bit words of `bytes` to a running sum. An odd last octet counts as the high half of
/// a word, so only the last piece of a message may be odd. The result never exceeds `0x2_fffd`, so
/// any number of pieces may be added up.
#[inline]
pub fn sum(bytes: &[u8], initial: u32) -> u32 {
    if bytes.len() <= SHORT_BYTES {
        return sum_short(bytes, initial);
    }
    // Native order, 32 bits at a time: the sum does not care (RFC 1071 §2.B), and compilers make
    // vector instructions of it.
    let (words, rest) = bytes.as_chunks::<4>();
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    let mut total = u64::from(u32::from_ne_bytes(last));
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    (initial & 0xffff) + (initial >> 16) + u32::from(u16::from_be(fold_wide(total)))
}

/// Up to here, headers mostly, a vector loop takes longer to begin than to run.
const SHORT_BYTES: usize = 96;

/// [`sum`] of few bytes, 64 bits at a time with the carry brought around.
#[inline(always)]
fn sum_short(bytes: &[u8], initial: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut total = 0u64;
    let mut add = |word: u64| {
        let (sum, carry) = total.overflowing_add(word);
        total = sum + u64::from(carry);
    };
    for word in words {
        add(u64::from_ne_bytes(*word));
    }
    let (half, rest) = match rest.split_first_chunk::<4>() {
        Some((half, rest)) => (u32::from_ne_bytes(*half), rest),
        None => (0, rest),
    };
    let last = match *rest {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    add(u64::from(half) + u64::from(u32::from_ne_bytes(last)));
    (initial & 0xffff) + (initial >> 16) + u32::from(u16::from_be(fold_wide(total)))
}

/// Folds a running sum to 16 bits. The checksum is its complement.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// The checksum of what adds up to `sum` in big-endian words of 16 or 32 bits.
#[inline]
pub(crate) const fn checksum_of_sum(sum: u64) -> u16 {
    !fold_wide(sum)
}

#[inline]
const fn fold_wide(sum: u64) -> u16 {
    let once = (sum & 0xffff_ffff) + (sum >> 32);
    let twice = (once & 0xffff_ffff) + (once >> 32);
    let halves = (twice & 0xffff) + (twice >> 16);
    fold(halves as u32)
}

/// The checksum of a whole message: what belongs in its checksum field while that holds 0, and 0
/// when the field already holds what it should.
#[inline]
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) of a transport message of `length`
/// octets. Both addresses are of one family.
#[inline]
pub fn pseudo_header(source: Address, destination: Address, protocol: u8, length: usize) -> u32 {
    let addresses = match source.family() {
        Family::V4 => {
            u64::from(u32::from_be_bytes(source.v4_octets()))
                + u64::from(u32::from_be_bytes(destination.v4_octets()))
        }
        Family::V6 => address_sum(source) + address_sum(destination),
    };
    u32::from(fold_wide(addresses + u64::from(protocol) + length as u64))
}

#[inline]
fn address_sum(address: Address) -> u64 {
    let bits = address.to_bits();
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// The checksum of a transport message, from its header to its end, over `pseudo`: what belongs in
/// the checksum field while that holds 0, and 0 when the field already holds what it should.
#[inline]
pub fn transport(message: &[u8], pseudo: u32) -> u16 {
    !fold(sum(message, pseudo))
}

/// Whether a transport message bears the right checksum.
#[inline]
pub fn transport_is_valid(message: &[u8], pseudo: u32) -> bool {
    transport(message, pseudo) == 0
}

/// Changes to checksummed fields, gathered and then applied at once (RFC 1624 eqn 3):
/// `HC' = ~(~HC + ~m + m')`. Unlike eqn 4, it meets 0x0000 and 0xFFFF as a full computation does.
///
/// A checksum that was wrong before stays wrong: what was damaged on the way in is not made to look
/// whole. Any number of changes up to 2³¹ may be gathered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the change is lost unless it is applied to a checksum"]
pub struct Update(u64);

impl Update {
    /// No change.
    #[inline]
    pub const fn new() -> Self {
        Self(0)
    }

    /// A 16-bit word at an even offset changed.
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A 32-bit field at an even offset changed.
    #[inline]
    pub const fn long(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A 16-bit field at an odd offset changed: its octets stand in the other halves of two words.
    #[inline]
    pub const fn word_at_odd_offset(self, old: u16, new: u16) -> Self {
        self.word(old.swap_bytes(), new.swap_bytes())
    }

    /// A 32-bit field at an odd offset changed.
    #[inline]
    pub const fn long_at_odd_offset(self, old: u32, new: u32) -> Self {
        self.long(old.rotate_left(8), new.rotate_left(8))
    }

    /// An address changed to another of its family.
    #[inline]
    pub const fn address(self, old: Address, new: Address) -> Self {
        let (old, new) = (old.to_bits(), new.to_bits());
        self.long((old >> 96) as u32, (new >> 96) as u32)
            .long((old >> 64) as u32, (new >> 64) as u32)
            .long((old >> 32) as u32, (new >> 32) as u32)
            .long(old as u32, new as u32)
    }

    /// Both changes.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Sets the 16-bit field at `offset` of `bytes`, which begin at an even offset of the message.
    ///
    /// # Panics
    /// When the field reaches past the end.
    #[inline]
    pub fn set_word(self, bytes: &mut [u8], offset: usize, new: u16) -> Self {
        let old = u16_at(bytes, offset);
        put_u16(bytes, offset, new);
        if offset.is_multiple_of(2) {
            self.word(old, new)
        } else {
            self.word_at_odd_offset(old, new)
        }
    }

    /// Sets the 32-bit field at `offset` of `bytes`, which begin at an even offset of the message.
    ///
    /// # Panics
    /// When the field reaches past the end.
    #[inline]
    pub fn set_long(self, bytes: &mut [u8], offset: usize, new: u32) -> Self {
        let old = u32_at(bytes, offset);
        put_u32(bytes, offset, new);
        if offset.is_multiple_of(2) {
            self.long(old, new)
        } else {
            self.long_at_odd_offset(old, new)
        }
    }

    /// The checksum after the changes.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold_wide(self.0 + (!checksum) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's definition, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    /// Octets in which 0x00 and 0xFF are as likely as all others.
    fn octet() -> impl Strategy<Value = u8> {
        prop_oneof![Just(0u8), Just(0xff), any::<u8>()]
    }

    /// 32-bit values of which the corners are as likely as all others.
    fn long() -> impl Strategy<Value = u32> {
        prop_oneof![
            Just(0u32),
            Just(u32::MAX),
            Just(0xffff),
            Just(0xffff_0000),
            Just(1),
            any::<u32>()
        ]
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)), 0xddf2);
        assert_eq!(internet_checksum(&bytes), 0x220d);
        assert_eq!(internet_checksum(&[]), 0xffff);
    }

    #[test]
    fn an_update_meets_every_pair_of_corner_words_as_a_full_computation_does() {
        // CASES 10
        let corners = [0u16, 1, 2, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff];
        for other in corners {
            for old in corners {
                for new in corners {
                    let message = |word: u16| {
                        let [a, b, c, d] = (u32::from(other) << 16 | u32::from(word)).to_be_bytes();
                        internet_checksum(&[a, b, c, d, 0x40, 0x06])
                    };
                    let update = Update::new().word(old, new);
                    assert_eq!(
                        update.apply(message(old)),
                        message(new),
                        "{other} {old} {new}"
                    );
                }
            }
        }
        // RFC 1624 §4's own example, where eqn 4 gives 0xFFFF.
        assert_eq!(Update::new().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let (old, new) = ([0x12, 0x34, 0xab, 0xcd], [0x12, 0x34, 0x00, 0xff]);
        let wrong = internet_checksum(&old) ^ 0x0100;
        let update = Update::new().word(0xabcd, 0x00ff);
        assert_ne!(update.apply(wrong), internet_checksum(&new));
    }

    proptest! {
        #[test]
        fn the_sum_is_rfc_1071s_however_it_is_split(
            bytes in proptest::collection::vec(octet(), 0..300),
            at in 0usize..150,
        ) {
            prop_assert_eq!(internet_checksum(&bytes), plain(&bytes));
            let (front, back) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(!fold(sum(back, sum(front, 0))), plain(&bytes));
        }

        #[test]
        fn a_message_with_its_checksum_in_place_sums_to_zero(
            mut bytes in proptest::collection::vec(octet(), 2..120),
            pseudo in any::<u32>(),
        ) {
            bytes[..2].fill(0);
            let checksum = transport(&bytes, pseudo);
            bytes[..2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(transport_is_valid(&bytes, pseudo));
        }

        // CASES 10
        #[test]
        fn gathered_updates_equal_a_full_computation(
            mut bytes in proptest::collection::vec(octet(), 8..64),
            edits in proptest::collection::vec((0usize..60, long(), any::<bool>()), 1..12),
        ) {
            // A message is never all zero: its pseudo header is not.
            bytes.extend([0x40, 0x06]);
            if bytes.len() % 2 == 1 {
                bytes.push(0);
            }
            let before = internet_checksum(&bytes);
            let editable = bytes.len() - 3;
            let mut update = Update::new();
            for (at, value, wide) in edits {
                let at = at % (editable - 3);
                update = if wide {
                    update.set_long(&mut bytes[..editable], at, value)
                } else {
                    update.set_word(&mut bytes[..editable], at, value as u16)
                };
            }
            prop_assert_eq!(update.apply(before), internet_checksum(&bytes));
            prop_assert_eq!(Update::new().and(update).apply(before), internet_checksum(&bytes));
        }

        #[test]
        fn the_pseudo_header_is_that_of_the_rfcs(
            source in any::<u128>(),
            destination in any::<u128>(),
            mapped in any::<bool>(),
            protocol in any::<u8>(),
            length in 0usize..70_000,
        ) {
            let address = |bits: u128| match mapped {
                true => Address::from_v4((bits as u32).to_be_bytes()),
                false => Address::from_bits(bits | 1 << 127),
            };
            let (source, destination) = (address(source), address(destination));
            let length = if mapped { length & 0xffff } else { length };
            let mut bytes = Vec::new();
            if mapped {
                bytes.extend(source.v4_octets());
                bytes.extend(destination.v4_octets());
                bytes.extend([0, protocol]);
                bytes.extend((length as u16).to_be_bytes());
            } else {
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend((length as u32).to_be_bytes());
                bytes.extend([0, 0, 0, protocol]);
            }
            let pseudo = pseudo_header(source, destination, protocol, length);
            prop_assert_eq!(!fold(pseudo), plain(&bytes));
        }

        #[test]
        fn another_address_is_an_update(old in any::<u128>(), new in any::<u128>()) {
            let (old, new) = (Address::from_bits(old | 1 << 127), Address::from_bits(new | 1 << 127));
            let before = internet_checksum(&old.octets());
            let update = Update::new().address(old, new);
            prop_assert_eq!(update.apply(before), internet_checksum(&new.octets()));
        }
    }
}
