//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624).

use crate::wire::address::{Address, Family};
use crate::wire::bytes::{put_u16, put_u32, u16_at, u32_at};

/// Adds the 16-bit words of `bytes` to a running sum. An odd last octet counts as the high half of
/// a word, so only the last piece of a message may be odd. The result never exceeds `0x2_fffd`, so
/// any number of pieces may be added up.
#[inline]
pub fn sum(bytes: &[u8], initial: u32) -> u32 {
    // Native order, 32 bits at a time: the sum does not care (RFC 1071 §2.B), and compilers make
    // vector instructions of it.
    let mut words = bytes.chunks_exact(4);
    let mut total = 0u64;
    for word in &mut words {
        total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut last = [0u8; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    (initial & 0xffff) + (initial >> 16) + u32::from(u16::from_be(fold_wide(total)))
}

/// Folds a running sum to 16 bits. The checksum is its complement.
#[inline]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
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
