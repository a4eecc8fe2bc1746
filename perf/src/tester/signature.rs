//! What a frame bears at its end, so that it is known again behind whatever carries it: routers
//! change stations and TTL, guards change ports and numbers, but payloads stay.

use std::hash::{BuildHasher, RandomState};

pub(super) use crate::traffic::SIGNATURE_BYTES;

/// The times in signatures count these; they come round again after 17 s.
pub(super) const TICK_NS: u64 = 4;
/// Set in the flow numbers of the second side, so that a side knows what it sent itself.
pub(super) const SECOND_SIDE: u32 = 1 << 31;

/// A frame's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// The trial that sent it.
    pub(super) trial: u16,
    /// Its flow among those of its side, and which side that is.
    pub(super) flow: u32,
    /// Its number in its flow.
    pub(super) sequence: u32,
    /// When it was sent, in ticks.
    pub(super) time: u32,
}

/// What proves that a signature is of this process: other testers on the link have other keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; 2]);

/// What the end of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A signature of this process.
    Valid(Signature),
    /// Octets that were perhaps one before they were changed.
    Doubtful(Signature),
}

impl Key {
    /// A key that nobody can know.
    pub(super) fn random() -> Self {
        // The standard library's hash keys come from the system's random numbers.
        Self([1_u8, 2].map(|number| RandomState::new().hash_one(number)))
    }

    /// A fast mixing of all fields; it finds chance and errors, not forgers.
    #[inline]
    fn check(self, signature: Signature) -> u32 {
        let first = u64::from(signature.flow) << 32 | u64::from(signature.sequence);
        let second = u64::from(signature.time) << 16 | u64::from(signature.trial);
        let product = u128::from(first ^ self.0[0]) * u128::from(second ^ self.0[1]);
        let folded = (product as u64) ^ ((product >> 64) as u64);
        (folded ^ (folded >> 32)) as u32
    }
}

impl Signature {
    #[inline]
    pub(super) fn write(self, key: Key) -> [u8; SIGNATURE_BYTES] {
        let mut octets = [0; SIGNATURE_BYTES];
        octets[0..2].copy_from_slice(&self.trial.to_be_bytes());
        octets[2..6].copy_from_slice(&self.flow.to_be_bytes());
        octets[6..10].copy_from_slice(&self.sequence.to_be_bytes());
        octets[10..14].copy_from_slice(&self.time.to_be_bytes());
        octets[14..18].copy_from_slice(&key.check(self).to_be_bytes());
        octets
    }

    /// Reads the last octets of a frame.
    #[inline]
    pub(super) fn read(octets: &[u8; SIGNATURE_BYTES], key: Key) -> Found {
        let word = |at: usize| {
            u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        let signature = Self {
            trial: u16::from_be_bytes([octets[0], octets[1]]),
            flow: word(2),
            sequence: word(6),
            time: word(10),
        };
        if key.check(signature) == word(14) {
            Found::Valid(signature)
        } else {
            Found::Doubtful(signature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_read_as_it_was_written_and_a_changed_bit_is_found() {
        let key = Key::random();
        let signature = Signature {
            trial: 7,
            flow: SECOND_SIDE | 3,
            sequence: 9,
            time: 12,
        };
        let octets = signature.write(key);
        assert_eq!(Signature::read(&octets, key), Found::Valid(signature));
        for bit in 0..SIGNATURE_BYTES * 8 {
            let mut changed = octets;
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = Signature::read(&changed, key);
            assert!(matches!(found, Found::Doubtful(_)), "bit {bit}");
        }
    }

    #[test]
    fn another_process_has_another_key() {
        let signature = Signature {
            trial: 7,
            flow: 0,
            sequence: 0,
            time: 0,
        };
        let octets = signature.write(Key::random());
        assert!(matches!(
            Signature::read(&octets, Key::random()),
            Found::Doubtful(_)
        ));
    }
}
