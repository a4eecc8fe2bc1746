//! The records: fixed in size, whole in themselves, and monotonic for each flow.
//!
//! A flow's [`Record::incarnation`] orders the sessions that use the same ports one after the
//! other; within a session the [`Stage`] only rises and the numbers only advance. So a record may
//! be lost, doubled, late or out of order: what is older never undoes what is newer. The layout is
//! told in `docs/wire/replication.md`.

use crate::wire::address::Address;

/// Octets of a record on the wire.
pub const RECORD_BYTES: usize = 84;
/// Octets of a flow's key on the wire.
pub const FLOW_KEY_BYTES: usize = 36;
/// The version of the layout that [`Record::write`] writes.
pub const RECORD_VERSION: u8 = 2;

/// What [`Record::server_first`] is told modulo.
pub const SERVER_FIRST_MODULUS: u32 = 1 << 20;

/// A flow, by the addresses and ports that it has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The server's address.
    pub server: Address,
    /// The client's port.
    pub client_port: u16,
    /// The server's port.
    pub server_port: u16,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Stage {
    /// A SYN was answered by cookie: the interim parameters (seed 000).
    #[default]
    Begun = 0,
    /// The client is proved; the server has been sent a SYN.
    Opening = 1,
    /// Both sides are open and spliced.
    Established = 2,
    /// It is over.
    Closed = 3,
}

/// One session as a peer knows it. Sequence numbers are the server side's, but for the cookie's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// Which flow.
    pub key: FlowKey,
    /// Which of the sessions of this flow, in serial number arithmetic: milliseconds since 1970
    /// when it began, or one more than the session before it, whichever is later.
    pub incarnation: u32,
    /// How far it has come.
    pub stage: Stage,
    /// The session's flags.
    pub flags: u8,
    /// The client's window scale.
    pub client_scale: u8,
    /// The server's window scale; before it has answered, 0.
    pub server_scale: u8,
    /// The window scale that the client was told.
    pub told_scale: u8,
    /// How often the session's end was taken back, modulo 2^8.
    pub revivals: u8,
    /// Before it is established: what the client and the guard agreed on (`Agreed::packed`).
    pub agreed: u16,
    /// Once it is established: the server's initial sequence number, modulo 2^20.
    pub server_first: u32,
    /// The client's initial sequence number.
    pub client_sequence: u32,
    /// Before it is established: the cookie's sequence number; afterwards, what is added to a
    /// number that the client sees to get the server's own.
    pub sequence: u32,
    /// The same for timestamps.
    pub timestamp: u32,
    /// While opening: the client's last timestamp value.
    pub client_timestamp: u32,
    /// One past the highest octet that the client sent.
    pub client_next: u32,
    /// The highest acknowledgement that the server sent.
    pub client_acked: u32,
    /// One past the highest octet that the server ever offered to take.
    pub client_edge: u32,
    /// One past the highest octet that the server sent.
    pub server_next: u32,
    /// The highest acknowledgement that the client sent.
    pub server_acked: u32,
    /// When its last segment passed, as far as its sender knows: milliseconds since 1970, modulo 2^32.
    pub seen_ms: u32,
}

/// Why octets are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Fewer than [`RECORD_BYTES`].
    Truncated,
    /// A layout that this version does not know.
    Version(u8),
    /// A value that no guard writes.
    Invalid,
}

impl FlowKey {
    /// Reads a key from its octets.
    pub fn read(bytes: &[u8; FLOW_KEY_BYTES]) -> Self {
        let address = |from: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[from..from + 16]);
            Address::from_v6(octets)
        };
        let word = |from: usize| u16::from_be_bytes([bytes[from], bytes[from + 1]]);
        Self {
            client: address(0),
            server: address(16),
            client_port: word(32),
            server_port: word(34),
        }
    }

    /// Its octets, numbers in network order, IPv4 addresses mapped.
    pub fn write(&self) -> [u8; FLOW_KEY_BYTES] {
        let mut bytes = [0; FLOW_KEY_BYTES];
        bytes[..16].copy_from_slice(&self.client.octets());
        bytes[16..32].copy_from_slice(&self.server.octets());
        bytes[32..34].copy_from_slice(&self.client_port.to_be_bytes());
        bytes[34..].copy_from_slice(&self.server_port.to_be_bytes());
        bytes
    }
}

/// Where the four-octet numbers begin.
const NUMBERS: usize = 48;

impl Record {
    /// Reads a record from the first [`RECORD_BYTES`] of `bytes`.
    ///
    /// # Errors
    /// When it is none, or of a version that is not known.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let bytes = bytes
            .first_chunk::<RECORD_BYTES>()
            .ok_or(RecordError::Truncated)?;
        if bytes[0] != RECORD_VERSION {
            return Err(RecordError::Version(bytes[0]));
        }
        let stage = match bytes[1] {
            0 => Stage::Begun,
            1 => Stage::Opening,
            2 => Stage::Established,
            3 => Stage::Closed,
            _ => return Err(RecordError::Invalid),
        };
        let key = bytes[12..]
            .first_chunk()
            .map(FlowKey::read)
            .ok_or(RecordError::Truncated)?;
        if key.client.family() != key.server.family() {
            return Err(RecordError::Invalid);
        }
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |place: usize| {
            let at = NUMBERS + place * 4;
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let scales = word(4);
        let is_established = stage >= Stage::Established;
        Ok(Self {
            key,
            stage,
            flags: bytes[2],
            revivals: bytes[3],
            agreed: if is_established { 0 } else { word(6) },
            server_first: if is_established {
                u32::from(scales >> 12) << 16 | u32::from(word(6))
            } else {
                0
            },
            client_scale: scales as u8 & 15,
            server_scale: (scales >> 4) as u8 & 15,
            told_scale: (scales >> 8) as u8 & 15,
            seen_ms: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            incarnation: long(0),
            client_sequence: long(1),
            sequence: long(2),
            timestamp: long(3),
            // While it opens there is no acknowledgement of the client's that counts yet.
            client_timestamp: if is_established { 0 } else { long(8) },
            client_next: long(4),
            client_acked: long(5),
            client_edge: long(6),
            server_next: long(7),
            server_acked: if is_established { long(8) } else { 0 },
        })
    }

    /// Its octets.
    pub fn write(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = RECORD_VERSION;
        bytes[1] = self.stage as u8;
        bytes[2] = self.flags;
        bytes[3] = self.revivals;
        let is_established = self.stage >= Stage::Established;
        let first = self.server_first % SERVER_FIRST_MODULUS;
        let (high, low) = match is_established {
            true => ((first >> 16) as u16, first as u16),
            false => (0, self.agreed),
        };
        let scales = u16::from(self.client_scale & 15)
            | u16::from(self.server_scale & 15) << 4
            | u16::from(self.told_scale & 15) << 8
            | high << 12;
        bytes[4..6].copy_from_slice(&scales.to_be_bytes());
        bytes[6..8].copy_from_slice(&low.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.seen_ms.to_be_bytes());
        bytes[12..NUMBERS].copy_from_slice(&self.key.write());
        let last = match is_established {
            true => self.server_acked,
            false => self.client_timestamp,
        };
        let numbers = [
            self.incarnation,
            self.client_sequence,
            self.sequence,
            self.timestamp,
            self.client_next,
            self.client_acked,
            self.client_edge,
            self.server_next,
            last,
        ];
        for (into, number) in bytes[NUMBERS..].chunks_exact_mut(4).zip(numbers) {
            into.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_the_same_and_nothing_panics(bytes in any::<[u8; RECORD_BYTES]>()) {
            let mut bytes = bytes;
            bytes[0] = RECORD_VERSION;
            bytes[1] &= 3;
            let Ok(record) = Record::read(&bytes) else {
                return Ok(());
            };
            prop_assert_eq!(Record::read(&record.write()), Ok(record));
        }

        #[test]
        fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Record::read(&bytes);
        }
    }

    #[test]
    fn other_versions_stages_and_mixed_families_are_refused() {
        // CASES 14
        let record = Record {
            key: FlowKey {
                client: Address::from_v4([198, 51, 100, 7]),
                server: Address::from_v4([10, 0, 0, 10]),
                client_port: 40_000,
                server_port: 80,
            },
            stage: Stage::Established,
            server_acked: 9,
            ..Record::default()
        };
        let good = record.write();
        assert_eq!(Record::read(&good), Ok(record));
        let with = |at: usize, octet: u8| {
            let mut bytes = good;
            bytes[at] = octet;
            Record::read(&bytes)
        };
        assert_eq!(with(0, 1), Err(RecordError::Version(1)));
        assert_eq!(with(1, 4), Err(RecordError::Invalid));
        assert_eq!(with(12, 0x20), Err(RecordError::Invalid));
        let short = &good[..RECORD_BYTES - 1];
        assert_eq!(Record::read(short), Err(RecordError::Truncated));
    }
}
