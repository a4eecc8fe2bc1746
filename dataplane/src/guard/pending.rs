//! What a session needs only until its server has answered.

use arrayvec::ArrayVec;

use super::cookie::{Agreed, Cookie};
use crate::limits::{MAX_HELD, MAX_HELD_PER_SESSION};

/// A server side that is being opened.
#[derive(Debug)]
pub(super) struct Pending<B> {
    /// The client's initial sequence number.
    pub(super) client_sequence: u32,
    /// What the client was sent.
    pub(super) cookie: Cookie,
    /// What the client and the guard agreed on.
    pub(super) agreed: Agreed,
    /// The client's timestamp value in its ACK.
    pub(super) client_timestamp: u32,
    /// The client's window in octets, scaled.
    pub(super) client_window_bytes: u32,
    /// SYNs sent so far.
    pub(super) attempts: u8,
    /// The server spoke as if another guard had opened it.
    pub(super) is_elsewhere: bool,
    /// Some of what is held is the client's data, which the client repeats as long as it waits.
    pub(super) has_data: bool,
    /// When the last SYN was sent.
    pub(super) asked_ns: u64,
    /// What the client sent meanwhile, from the IP header on, its handshake ACK first.
    pub(super) held: ArrayVec<B, MAX_HELD_PER_SESSION>,
}

/// All server sides of one worker that are being opened.
#[derive(Debug)]
pub(super) struct PendingTable<B> {
    slots: Vec<Option<Pending<B>>>,
    free: Vec<u32>,
    held: usize,
    sources: SourceLimits,
}

/// Why something cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All places are taken.
    Full,
    /// The source has its share already.
    Source,
}

impl<B> PendingTable<B> {
    /// Room for `capacity` server sides.
    pub(super) fn new(capacity: usize, seed: u64) -> Self {
        Self {
            slots: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u32).rev().collect(),
            held: 0,
            sources: SourceLimits::new(seed),
        }
    }

    /// How many server sides are being opened.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Segments that wait.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether another one may be opened for `source` (see [`source_of`]).
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&self, source: u64, per_source: u16) -> Result<(), Refused> {
        if self.free.is_empty() {
            return Err(Refused::Full);
        }
        if self.sources.count(source) >= per_source {
            Err(Refused::Source)
        } else {
            Ok(())
        }
    }

    /// Takes `pending` in. To be called only after [`Self::admit`].
    pub(super) fn insert(&mut self, pending: Pending<B>, source: u64) -> Option<u32> {
        let place = self.free.pop()?;
        self.held += pending.held.len();
        self.slots[place as usize] = Some(pending);
        self.sources.add(source);
        Some(place)
    }

    /// Whether there is room for another one.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// The server side at `place`.
    pub(super) fn get(&self, place: u32) -> Option<&Pending<B>> {
        self.slots.get(place as usize)?.as_ref()
    }

    /// The server side at `place`.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut Pending<B>> {
        self.slots.get_mut(place as usize)?.as_mut()
    }

    /// Keeps `packet` until the server has answered; gives it back when there is no room.
    pub(super) fn hold(&mut self, place: u32, packet: B) -> Result<(), B> {
        if self.held >= MAX_HELD {
            return Err(packet);
        }
        let Some(Some(pending)) = self.slots.get_mut(place as usize) else {
            return Err(packet);
        };
        pending
            .held
            .try_push(packet)
            .map_err(|full| full.element())?;
        self.held += 1;
        Ok(())
    }

    /// Takes the server side at `place` out.
    pub(super) fn remove(&mut self, place: u32, source: u64) -> Option<Pending<B>> {
        let pending = self.slots.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.held -= pending.held.len();
        self.sources.subtract(source);
        Some(pending)
    }
}

/// The number by which a source is limited: an IPv4 address, or an IPv6 /64.
#[inline]
pub(super) fn source_of(client: crate::wire::address::Address) -> u64 {
    match client.family() {
        crate::wire::address::Family::V4 => client.to_bits() as u64,
        crate::wire::address::Family::V6 => (client.to_bits() >> 64) as u64,
    }
}

const SOURCE_SLOTS: usize = 1 << 15;

/// Counts per source in two rows of counters, of which the smaller counts: sources that share a
/// counter in one row hardly share one in both.
#[derive(Debug)]
struct SourceLimits {
    rows: [Box<[u16]>; 2],
    seed: u64,
}

impl SourceLimits {
    fn new(seed: u64) -> Self {
        let row = || vec![0; SOURCE_SLOTS].into_boxed_slice();
        Self {
            rows: [row(), row()],
            seed,
        }
    }

    fn places(&self, source: u64) -> [usize; 2] {
        let mixed =
            u128::from(source ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let folded = (mixed as u64 ^ (mixed >> 64) as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        [
            (folded >> 49) as usize % SOURCE_SLOTS,
            (folded >> 20) as usize % SOURCE_SLOTS,
        ]
    }

    fn count(&self, source: u64) -> u16 {
        let [first, second] = self.places(source);
        self.rows[0][first].min(self.rows[1][second])
    }

    fn add(&mut self, source: u64) {
        let places = self.places(source);
        for (row, place) in self.rows.iter_mut().zip(places) {
            row[place] = row[place].saturating_add(1);
        }
    }

    fn subtract(&mut self, source: u64) {
        let places = self.places(source);
        for (row, place) in self.rows.iter_mut().zip(places) {
            row[place] = row[place].saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(held: &[u8]) -> Pending<u8> {
        Pending {
            client_sequence: 1,
            cookie: Cookie {
                sequence: 2,
                timestamp: 3,
            },
            agreed: Agreed::default(),
            client_timestamp: 0,
            client_window_bytes: 0,
            attempts: 1,
            is_elsewhere: false,
            has_data: false,
            asked_ns: 0,
            held: held.iter().copied().collect(),
        }
    }

    #[test]
    fn places_sources_and_held_segments_are_bounded_and_given_back() {
        let mut table = PendingTable::new(2, 9);
        assert_eq!(table.admit(7, 2), Ok(()));
        let first = table.insert(pending(&[1]), 7).unwrap();
        let second = table.insert(pending(&[1]), 7).unwrap();
        assert_eq!(table.admit(7, 2), Err(Refused::Full));
        table.remove(first, 7).unwrap();
        assert_eq!(table.admit(7, 1), Err(Refused::Source));
        assert_eq!(table.admit(8, 1), Ok(()));
        for n in 1..MAX_HELD_PER_SESSION as u8 {
            assert_eq!(table.hold(second, n), Ok(()));
        }
        assert_eq!(table.hold(second, 99), Err(99));
        assert_eq!(table.held(), MAX_HELD_PER_SESSION);
        table.remove(second, 7).unwrap();
        assert!(table.remove(second, 7).is_none());
        assert_eq!((table.held(), table.len()), (0, 0));
        assert_eq!(table.admit(7, 1), Ok(()));
    }
}
