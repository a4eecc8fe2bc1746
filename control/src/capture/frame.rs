//! A copied packet on its way through the control socket, after the response's line: 24 octets,
//! little-endian, and then the packet's own. `docs/wire/control.md` has the table.

use dataplane::capture::{Passage, SNAP_BYTES};

/// Octets before a packet's own.
pub const HEADER_BYTES: usize = 24;
/// In place of the kept length: the capture is over, and the time says how many copies were lost.
const END: u32 = u32::MAX;

/// What precedes a packet's octets, or ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A packet follows.
    Packet {
        /// Octets of it that follow.
        kept_bytes: u32,
        /// Octets that it had.
        original_bytes: u32,
        /// When, in nanoseconds since 1970.
        unix_ns: u64,
        /// The number of the port, in the order that the response told.
        port: u8,
        /// Which way it went.
        passage: Passage,
    },
    /// Nothing follows.
    End {
        /// Packets that are missing because they came faster than they were taken.
        lost: u64,
    },
}

impl Header {
    /// The header's octets.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        match self {
            Self::Packet {
                kept_bytes,
                original_bytes,
                unix_ns,
                port,
                passage,
            } => {
                bytes[..4].copy_from_slice(&kept_bytes.to_le_bytes());
                bytes[4..8].copy_from_slice(&original_bytes.to_le_bytes());
                bytes[8..16].copy_from_slice(&unix_ns.to_le_bytes());
                bytes[16] = port;
                bytes[17] = u8::from(passage == Passage::Out);
            }
            Self::End { lost } => {
                bytes[..4].copy_from_slice(&END.to_le_bytes());
                bytes[8..16].copy_from_slice(&lost.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads a header; `None` for one that promises more than a copy can hold.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = u64::from(word(8)) | u64::from(word(12)) << 32;
        let kept_bytes = word(0);
        if kept_bytes == END {
            return Some(Self::End { lost: long });
        }
        (kept_bytes as usize <= SNAP_BYTES).then_some(Self::Packet {
            kept_bytes,
            original_bytes: word(4),
            unix_ns: long,
            port: bytes[16],
            passage: if bytes[17] == 0 {
                Passage::In
            } else {
                Passage::Out
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_socket() {
        let headers = [
            Header::Packet {
                kept_bytes: 60,
                original_bytes: 9000,
                unix_ns: 1_700_000_000_123_456_789,
                port: 1,
                passage: Passage::Out,
            },
            Header::End { lost: u64::MAX - 1 },
        ];
        for header in headers {
            assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        }
    }

    #[test]
    fn more_than_a_copy_holds_is_refused() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&(SNAP_BYTES as u32 + 1).to_le_bytes());
        assert_eq!(Header::from_bytes(&bytes), None);
    }
}
