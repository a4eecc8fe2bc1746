//! The clear header of a frame. `docs/wire/replication.md` tells the layout.

use super::PeerId;
use super::tally::Tally;

/// The version of the frame; a frame of another one is refused.
pub const MAJOR: u8 = 1;
/// What this version adds to the frame without breaking older readers, who skip the items that they
/// do not know.
pub const MINOR: u8 = 1;
/// Octets of the header.
pub const HEADER_BYTES: usize = 40;
/// Octets of the header that its check covers.
pub(super) const CHECKED_BYTES: usize = 32;
/// Octets of the tag behind the sealed items.
pub const TAG_BYTES: usize = 16;
/// The target of a frame that is for everyone, so no appliance may have this number.
pub(super) const EVERYONE: u8 = 255;

/// One life of an appliance, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId {
    /// When it began, in milliseconds since 1970. A later life is told from an earlier one by it.
    pub started_ms: u64,
    /// Random bits, so that two lives never share their keys.
    pub random: u64,
}

/// What stands before the sealed items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) minor: u8,
    pub(super) sender: PeerId,
    /// The number of the one that it is for, or [`EVERYONE`].
    pub(super) target: u8,
    /// Low bits of the time from which the key is used.
    pub(super) epoch: u32,
    pub(super) boot: BootId,
    /// Never used twice in one life: the nonce.
    pub(super) number: u64,
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(field)
}

impl Header {
    /// Reads the header of a frame that is long enough to have a tag too. The version is looked at
    /// first, since it decides what the rest means.
    pub(super) fn read(payload: &[u8]) -> Result<Self, Tally> {
        match payload.first() {
            None => return Err(Tally::RefusedTruncated),
            Some(&major) if major != MAJOR => return Err(Tally::RefusedVersion),
            Some(_) => {}
        }
        if payload.len() < HEADER_BYTES + TAG_BYTES {
            return Err(Tally::RefusedTruncated);
        }
        Ok(Self {
            minor: payload[1],
            sender: PeerId(payload[2]),
            target: payload[3],
            epoch: u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]),
            boot: BootId {
                started_ms: u64_at(payload, 8),
                random: u64_at(payload, 16),
            },
            number: u64_at(payload, 24),
        })
    }

    /// Its octets that the check covers.
    pub(super) fn write(&self) -> [u8; CHECKED_BYTES] {
        let mut bytes = [0; CHECKED_BYTES];
        bytes[..4].copy_from_slice(&[MAJOR, self.minor, self.sender.0, self.target]);
        bytes[4..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.boot.started_ms.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.boot.random.to_be_bytes());
        bytes[24..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_reads_as_it_was_written(bytes in any::<[u8; HEADER_BYTES + TAG_BYTES]>()) {
            let mut bytes = bytes;
            bytes[0] = MAJOR;
            let header = Header::read(&bytes).unwrap();
            prop_assert_eq!(&header.write()[..], &bytes[..CHECKED_BYTES]);
        }

        #[test]
        fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::read(&bytes);
        }
    }

    #[test]
    fn the_version_is_judged_before_the_length() {
        // CASES 14
        assert_eq!(Header::read(&[]), Err(Tally::RefusedTruncated));
        assert_eq!(Header::read(&[2]), Err(Tally::RefusedVersion));
        let short = [MAJOR; HEADER_BYTES + TAG_BYTES - 1];
        assert_eq!(Header::read(&short), Err(Tally::RefusedTruncated));
    }
}
