//! Handshakes that have been used and may be used again: their sessions have left the table while
//! their cookies can still be good.
//!
//! A copy of such a handshake must not open the server side a second time, or the request behind it
//! is served twice. So nothing leaves the table before its cookie is dead unless it stands here, and
//! what stands here makes no room for others: who finds none must not leave.

use crate::siphash::SipKey;

use super::cookie::MAX_AGE_S;
use super::session::SessionKey;
use crate::flow::table::Key;

/// Nanoseconds of one unit of time, as a power of two: 1.07 s.
const UNIT_SHIFT: u32 = 30;
/// Units that a handshake is remembered: as long as a cookie can be good, and one for rounding.
const KEPT: u64 = (MAX_AGE_S * 1_000_000_000).div_ceil(1 << UNIT_SHIFT) + 1;
/// Bits of a place that tell the time; the others tell the handshake.
const TIME_BITS: u32 = 20;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Places of one line of the cache.
const LINE: usize = 8;

/// The handshakes, each in one of the two lines that it may stand in.
pub(super) struct SpentTable {
    /// Zero where nothing stands. Fresh zeroed memory costs nothing until it is used.
    places: Vec<u64>,
    /// Where the first line begins, so that none lies in two of the cache.
    start: usize,
    lines: usize,
    key: SipKey,
    /// Until when anything here counts.
    until_ns: u64,
}

/// Where a handshake may stand, and how it is told from others there.
struct Sought {
    /// The first places of its two lines.
    lines: [usize; 2],
    mark: u64,
}

impl SpentTable {
    /// Room for `places` handshakes, rounded up to whole lines. `seed` must be secret.
    pub(super) fn new(places: usize, seed: [u64; 2]) -> Self {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&seed[1].to_le_bytes());
        secret[8..].copy_from_slice(&seed[0].rotate_left(32).to_le_bytes());
        let lines = places.div_ceil(LINE).max(2);
        let places = vec![0; (lines + 1) * LINE];
        let start = places.as_ptr().align_offset(LINE * size_of::<u64>());
        Self {
            start: start.min(LINE),
            places,
            lines,
            key: SipKey::new(&secret),
            until_ns: 0,
        }
    }

    /// Bytes that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }

    /// Whether the session of these ports that began with `client_isn` stands here.
    #[inline]
    pub(super) fn contains(&self, key: &SessionKey, client_isn: u32, now_ns: u64) -> bool {
        now_ns <= self.until_ns && self.finds(key, client_isn, now_ns)
    }

    fn finds(&self, key: &SessionKey, client_isn: u32, now_ns: u64) -> bool {
        let sought = self.seek(key, client_isn);
        let counts = |place: &u64| place & !TIME_MASK == sought.mark && is_kept(*place, now_ns);
        let mut lines = sought.lines.into_iter();
        lines.any(|line| self.places[line..line + LINE].iter().any(counts))
    }

    /// Remembers a handshake whose session leaves the table now; false when there is no room.
    #[must_use]
    pub(super) fn insert(&mut self, key: &SessionKey, client_isn: u32, now_ns: u64) -> bool {
        let sought = self.seek(key, client_isn);
        let is_free = |place: &u64| !is_kept(*place, now_ns);
        let free = |line| {
            self.places[line..line + LINE]
                .iter()
                .filter(|place| is_free(place))
        };
        // The emptier line, so that both fill evenly.
        let rooms = sought.lines.map(|line| free(line).count());
        let line = sought.lines[usize::from(rooms[1] > rooms[0])];
        let mut places = self.places[line..line + LINE].iter_mut();
        let Some(place) = places.find(|place| is_free(place)) else {
            return false;
        };
        *place = sought.mark | now_ns >> UNIT_SHIFT & TIME_MASK;
        self.until_ns = now_ns + ((KEPT + 1) << UNIT_SHIFT);
        true
    }

    /// Leaves no room, for tests.
    #[cfg(test)]
    pub(super) fn fill(&mut self, now_ns: u64) {
        let time = now_ns >> UNIT_SHIFT & TIME_MASK;
        self.places.fill(1 << TIME_BITS | time);
    }

    fn seek(&self, key: &SessionKey, client_isn: u32) -> Sought {
        let [first, second, third] = key.words();
        let hash = self.key.hash(&[first, second, third, client_isn.into()]);
        // A place of 0 is empty.
        let mark = (hash.second() & !TIME_MASK).max(TIME_MASK + 1);
        let lines = [hash.first() as u32, (hash.first() >> 32) as u32];
        Sought {
            lines: lines.map(|part| self.start + ((part as usize * self.lines) >> 32) * LINE),
            mark,
        }
    }
}

/// Whether what stands at a place still counts.
fn is_kept(place: u64, now_ns: u64) -> bool {
    let age = (now_ns >> UNIT_SHIFT).wrapping_sub(place) & TIME_MASK;
    place != 0 && age <= KEPT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::Address;

    const SECOND_NS: u64 = 1_000_000_000;

    fn key(port: u16) -> SessionKey {
        SessionKey {
            client: Address::from_v4([198, 51, 100, 7]),
            client_port: port,
            server_port: 80,
            server: 3,
        }
    }

    #[test]
    fn d_a_handshake_is_remembered_for_as_long_as_its_cookie_can_be_good() {
        let mut spent = SpentTable::new(64, [1, 2]);
        let began_ns = 7 * SECOND_NS + 1;
        assert!(!spent.contains(&key(1), 9, began_ns));
        assert!(spent.insert(&key(1), 9, began_ns));
        for after_ns in [0, SECOND_NS, MAX_AGE_S * SECOND_NS] {
            assert!(spent.contains(&key(1), 9, began_ns + after_ns));
        }
        assert!(!spent.contains(&key(1), 9 + 65_536, began_ns));
        assert!(!spent.contains(&key(2), 9, began_ns));
        assert!(!spent.contains(&key(1), 9, began_ns + (MAX_AGE_S + 4) * SECOND_NS));
    }

    #[test]
    fn d_what_counts_makes_no_room_and_what_does_not_makes_some() {
        let mut spent = SpentTable::new(64, [1, 2]);
        let taken = (0..1000).filter(|&port| spent.insert(&key(port), 5, SECOND_NS));
        let taken: Vec<u16> = taken.collect();
        assert!((40..=64).contains(&taken.len()), "{}", taken.len());
        let all_stand = |spent: &SpentTable| {
            taken
                .iter()
                .all(|&port| spent.contains(&key(port), 5, 2 * SECOND_NS))
        };
        assert!(all_stand(&spent));
        // Much later the same places serve others, as often as needed.
        let later_ns = 1000 * SECOND_NS;
        let again = (0..1000).filter(|&port| spent.insert(&key(port), 6, later_ns));
        assert!(again.count() >= 40);
    }
}
