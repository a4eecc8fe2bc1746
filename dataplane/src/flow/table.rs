//! The session table: an index of one-cache-line buckets over a slab of one-cache-line entries.
//!
//! A look-up reads the key's home bucket and the entry that its tag points to: two lines, both of
//! which a burst has prefetched. An entry that found its home full lives in the one other bucket
//! that its tag allows; the home counts those, so that a look-up of what is not there ends after
//! one line unless that count says otherwise. `docs/decisions/0002-flow-table.md` has the numbers.

use crate::limits::BURST;

#[cfg(test)]
mod tests;

/// What an entry is found by: 24 bytes, as three words.
pub trait Key: Copy {
    /// The key's words; equal keys have equal words.
    fn words(&self) -> [u64; 3];
}

/// What stands in the table. It should be one cache line: 64 bytes, aligned to 64.
pub trait Entry: Copy + Default {
    /// What it is found by.
    type Key: Key;

    /// Its key, which never changes while it is in a table.
    fn key(&self) -> Self::Key;

    /// Whether `key` is its key.
    fn matches(&self, key: &Self::Key) -> bool;
}

/// A key's hash, keyed by the table's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// No key's.
    pub(crate) const NONE: Self = Self(0);

    /// All of it.
    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

/// The place of an entry, until it is removed; then the place is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u32);

impl Id {
    /// The place as an index into arrays beside the table.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The most entries of one table: numbers above stand for no entry.
const MAX_ENTRIES: u32 = u32::MAX - 2;
/// No entry of that hash.
const ABSENT: u32 = u32::MAX;
/// If there is an entry of that hash, it is in its other bucket.
const ELSEWHERE: u32 = u32::MAX - 1;

/// No entry can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session table is full")]
pub struct Full;

/// Entries of one bucket.
const SLOTS: usize = 8;
/// Entries for each bucket when the table is at its capacity: at five of eight slots, one entry in
/// forty lives away from home, and one in sixteen after long use.
const ENTRIES_PER_BUCKET: u32 = 5;
/// An odd number whose bits look random (the golden ratio's).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Below this a bucket's two choices coincide too often.
const MIN_BUCKETS: u32 = 16;

/// One cache line of the index.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// Sixteen bits of each slot's hash, four slots a word; 0 marks a free slot.
    tags: [u64; 2],
    /// Where each slot's entry stands in the slab.
    entries: [u32; SLOTS],
    /// Entries whose home this is and that live in their other bucket.
    away: u32,
    /// One bit a slot: the entry lives here because its home was full.
    guests: u8,
}

impl Bucket {
    /// The slots whose tag is `tag`.
    #[inline(always)]
    fn matching(&self, tag: u16) -> Slots {
        Slots(bindings::lanes::equal_to(self.tags, tag))
    }

    #[inline]
    fn free_slot(&self) -> Option<usize> {
        self.matching(0).next()
    }

    #[inline]
    fn tag(&self, slot: usize) -> u16 {
        (self.tags[slot / 4] >> (slot % 4 * 16)) as u16
    }

    #[inline]
    fn fill(&mut self, slot: usize, tag: u16, entry: u32, guest: bool) {
        let lane = slot % 4 * 16;
        let word = &mut self.tags[slot / 4];
        *word = *word & !(0xffff << lane) | u64::from(tag) << lane;
        self.entries[slot] = entry;
        self.guests = self.guests & !(1 << slot) | u8::from(guest) << slot;
    }
}

/// Slot numbers, one bit each.
#[derive(Clone, Copy)]
struct Slots(u8);

impl Iterator for Slots {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(slot % SLOTS)
    }
}

/// The session table of one worker.
///
/// For a burst: [`hash`](Self::hash) all keys and [`prefetch_bucket`](Self::prefetch_bucket) them,
/// then [`prefetch_entry`](Self::prefetch_entry) all, then [`find`](Self::find) all. Only what was
/// not found may be inserted. All memory is taken, and touched, at construction.
pub struct Table<E: Entry> {
    buckets: Vec<Bucket>,
    entries: Vec<E>,
    /// Free places, the next one last.
    free: Vec<u32>,
    live: LiveSet,
    keys: [u64; 4],
    /// Counts insertions and removals.
    changes: u32,
}

/// What a burst's second step found out about a key, for its third.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    entry: u32,
    /// The table's count of changes then: another one makes this void.
    changes: u32,
}

impl Candidate {
    /// Whether there was no entry then.
    #[inline(always)]
    pub(crate) fn is_absent(self) -> bool {
        self.entry == ABSENT
    }

    /// Nothing found out.
    pub const UNKNOWN: Self = Self {
        entry: ELSEWHERE,
        changes: 0,
    };
}

impl<E: Entry> Table<E> {
    /// A table for `entries` entries. `seed` must be secret: who knows it can choose keys that
    /// collide.
    pub fn with_capacity(entries: u32, seed: [u64; 2]) -> Self {
        let entries = entries.min(MAX_ENTRIES);
        let buckets = entries.div_ceil(ENTRIES_PER_BUCKET).max(MIN_BUCKETS);
        Self {
            buckets: super::filled(buckets as usize, |_| Bucket::default()),
            entries: super::filled(entries as usize, |_| E::default()),
            free: super::filled(entries as usize, |place| entries - 1 - place as u32),
            live: LiveSet::new(entries as usize),
            keys: derive_keys(seed),
            changes: 0,
        }
    }

    /// Entries present.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that there is room for in all.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Octets taken by the table.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(self.buckets.as_slice())
            + size_of_val(self.entries.as_slice())
            + self.free.capacity() * size_of::<u32>()
            + self.live.memory_bytes()
    }

    /// The hash of `key`, which every look-up and insertion begins with.
    #[inline]
    pub fn hash(&self, key: &E::Key) -> Hash {
        let words = key.words();
        let first = fold(words[0] ^ self.keys[0], words[1] ^ self.keys[1]);
        let second = fold(words[2] ^ self.keys[2], first ^ self.keys[3]);
        // One product alone maps counting keys to too regular a pattern.
        Hash(fold(second, MIX))
    }

    /// Brings the home bucket's line near.
    #[inline]
    pub fn prefetch_bucket(&self, hash: Hash) {
        super::prefetch(&self.buckets[self.home(hash)]);
    }

    /// Brings near the line of the entry that `hash` points to; its bucket's line should be near.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) -> Candidate {
        let entry = self.candidate(hash);
        if let Some(entry) = self.entries.get(entry as usize) {
            super::prefetch(entry);
        }
        Candidate {
            entry,
            changes: self.changes,
        }
    }

    /// [`find`](Self::find) by what [`prefetch_entry`](Self::prefetch_entry) found out.
    #[inline(always)]
    pub fn find_prefetched(&self, candidate: Candidate, hash: Hash, key: &E::Key) -> Option<Id> {
        if candidate.changes == self.changes {
            match self.entries.get(candidate.entry as usize) {
                Some(entry) if entry.matches(key) => return Some(Id(candidate.entry)),
                None if candidate.entry == ABSENT => return None,
                _ => {}
            }
        }
        self.find_again(hash, key)
    }

    /// The place of the entry of `key`.
    #[inline]
    pub fn find(&self, hash: Hash, key: &E::Key) -> Option<Id> {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let bucket = &self.buckets[home];
        let found = self.find_in(bucket, tag, key);
        if found.is_some() || bucket.away == 0 {
            return found;
        }
        self.find_in(&self.buckets[self.other(home, tag)], tag, key)
    }

    #[inline]
    fn find_in(&self, bucket: &Bucket, tag: u16, key: &E::Key) -> Option<Id> {
        bucket
            .matching(tag)
            .map(|slot| bucket.entries[slot])
            .find(|&entry| self.entries[entry as usize].matches(key))
            .map(Id)
    }

    /// What [`find`](Self::find) says of each of up to [`BURST`] keys, whose buckets' lines should
    /// be near: every entry is asked for before the first is looked at.
    #[inline]
    pub fn find_burst(&self, hashes: &[Hash], keys: &[E::Key], found: &mut [Option<Id>]) {
        let mut candidates = [ABSENT; BURST];
        for (candidate, &hash) in candidates.iter_mut().zip(hashes) {
            *candidate = self.candidate(hash);
            if let Some(entry) = self.entries.get(*candidate as usize) {
                super::prefetch(entry);
            }
        }
        let burst = candidates.iter().zip(hashes).zip(keys);
        for (((&candidate, &hash), key), found) in burst.zip(found.iter_mut()) {
            *found = match self.entries.get(candidate as usize) {
                Some(entry) if entry.matches(key) => Some(Id(candidate)),
                None if candidate == ABSENT => None,
                _ => self.find_again(hash, key),
            };
        }
    }

    /// [`find`](Self::find), kept out of the burst's loop, where it is seldom needed.
    #[inline(never)]
    fn find_again(&self, hash: Hash, key: &E::Key) -> Option<Id> {
        self.find(hash, key)
    }

    /// The entry that most likely is the one of `hash`; [`ABSENT`] when there is none.
    #[inline]
    fn candidate(&self, hash: Hash) -> u32 {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let bucket = &self.buckets[home];
        if let Some(slot) = bucket.matching(tag).next() {
            return bucket.entries[slot];
        }
        if bucket.away == 0 {
            return ABSENT;
        }
        super::prefetch(&self.buckets[self.other(home, tag)]);
        ELSEWHERE
    }

    /// The entry at `id`. What stands at a place whose entry was removed is unspecified.
    ///
    /// # Panics
    /// When `id` is not of this table.
    #[inline]
    pub fn get(&self, id: Id) -> &E {
        &self.entries[id.index()]
    }

    /// The entry at `id`; its key must not be changed. What stands at a place whose entry was
    /// removed is unspecified.
    ///
    /// # Panics
    /// When `id` is not of this table.
    #[inline]
    pub fn get_mut(&mut self, id: Id) -> &mut E {
        &mut self.entries[id.index()]
    }

    /// Whether an entry stands at `id`.
    #[inline]
    pub fn contains(&self, id: Id) -> bool {
        self.live.contains(id.index())
    }

    /// Adds an entry, whose key hashes to `hash` and is not in the table yet.
    ///
    /// # Errors
    /// [`Full`] at capacity, or when neither of its buckets can take it even by moving another
    /// entry.
    #[inline]
    pub fn insert(&mut self, hash: Hash, entry: E) -> Result<Id, Full> {
        debug_assert_eq!(self.find(hash, &entry.key()), None);
        let Some(&place) = self.free.last() else {
            return Err(Full);
        };
        let (home, tag) = (self.home(hash), tag_of(hash));
        if let Some(slot) = self.buckets[home].free_slot() {
            self.buckets[home].fill(slot, tag, place, false);
        } else {
            self.insert_crowded(home, tag, place)?;
        }
        self.changes = self.changes.wrapping_add(1);
        self.free.pop();
        self.live.insert(place as usize);
        self.entries[place as usize] = entry;
        Ok(Id(place))
    }

    /// Finds a slot for an entry whose home is full: where a guest of its home can go back to its
    /// own, or in its other bucket, or where one of the sixteen entries in its way can be moved.
    #[cold]
    fn insert_crowded(&mut self, home: usize, tag: u16, place: u32) -> Result<(), Full> {
        let guests = self.buckets[home].guests;
        if let Some(slot) = self.make_room(home, guests) {
            self.buckets[home].fill(slot, tag, place, false);
            return Ok(());
        }
        let other = self.other(home, tag);
        let free = self.buckets[other].free_slot();
        if free.is_none()
            && let Some(slot) = self.make_room(home, !guests)
        {
            self.buckets[home].fill(slot, tag, place, false);
            return Ok(());
        }
        let slot = free
            .or_else(|| self.make_room(other, u8::MAX))
            .ok_or(Full)?;
        self.buckets[other].fill(slot, tag, place, true);
        self.buckets[home].away += 1;
        Ok(())
    }

    /// Frees a slot of a full bucket, one of those whose bit is set in `slots`, by moving its
    /// entry to that entry's other bucket.
    fn make_room(&mut self, crowded: usize, slots: u8) -> Option<usize> {
        let full = self.buckets[crowded];
        for slot in (0..SLOTS).filter(|slot| slots >> slot & 1 != 0) {
            let (tag, place) = (full.tag(slot), full.entries[slot]);
            let other = self.other(crowded, tag);
            let Some(room) = self.buckets[other].free_slot() else {
                continue;
            };
            let was_guest = full.guests >> slot & 1 != 0;
            self.buckets[other].fill(room, tag, place, !was_guest);
            if was_guest {
                self.buckets[other].away -= 1;
            } else {
                self.buckets[crowded].away += 1;
            }
            return Some(slot);
        }
        None
    }

    /// Removes the entry at `id`; `false` when there is none.
    #[inline]
    pub fn remove(&mut self, id: Id) -> bool {
        if !self.live.contains(id.index()) {
            return false;
        }
        let hash = self.hash(&self.entries[id.index()].key());
        let (home, tag) = (self.home(hash), tag_of(hash));
        if !self.vacate(home, tag, id.0) {
            let vacated = self.vacate(self.other(home, tag), tag, id.0);
            debug_assert!(vacated, "the key of a live entry was changed");
            self.buckets[home].away -= u32::from(vacated);
        }
        self.changes = self.changes.wrapping_add(1);
        self.live.remove(id.index());
        self.free.push(id.0);
        true
    }

    #[inline]
    fn vacate(&mut self, bucket: usize, tag: u16, place: u32) -> bool {
        let bucket = &mut self.buckets[bucket];
        let slot = bucket
            .matching(tag)
            .find(|&slot| bucket.entries[slot] == place);
        if let Some(slot) = slot {
            bucket.fill(slot, 0, 0, false);
        }
        slot.is_some()
    }

    /// The first entry by place, or the next one after the place `after`, whether or not that
    /// still holds one: so a listing goes on from where its last page ended. Looks at no more
    /// than one word for every 4,096 places.
    pub fn next_after(&self, after: Option<Id>) -> Option<Id> {
        let from = after.map_or(0, |id| id.index() + 1);
        self.live.first_from(from).map(|place| Id(place as u32))
    }

    #[inline]
    fn home(&self, hash: Hash) -> usize {
        scale(hash.0 >> 32, self.buckets.len())
    }

    /// The other bucket of an entry that is in, or comes to, `bucket`: their sum is fixed by the
    /// tag, so each is found from the other without the entry's key.
    #[inline]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        let count = self.buckets.len();
        let sum = scale(u64::from(u32::from(tag).wrapping_mul(0x9e37_79b9)), count);
        if sum >= bucket {
            sum - bucket
        } else {
            sum + count - bucket
        }
    }
}

#[inline]
fn tag_of(hash: Hash) -> u16 {
    (hash.0 as u16).max(1)
}

/// A 32-bit fraction of `count`.
#[inline]
fn scale(fraction: u64, count: usize) -> usize {
    ((fraction * count as u64) >> 32) as usize
}

/// Both halves of a 128-bit product, mixed.
#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

/// Four hash keys out of a seed, by SplitMix64's finaliser.
fn derive_keys(seed: [u64; 2]) -> [u64; 4] {
    let mut state = seed[0];
    let mut next = |added: u64| {
        state = state.wrapping_add(added).wrapping_add(MIX);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    [next(0), next(seed[1]), next(0), next(seed[1])]
}

/// The places that hold an entry, with a summary bit for every word.
struct LiveSet {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl LiveSet {
    fn new(places: usize) -> Self {
        let words = places.div_ceil(64);
        Self {
            words: super::filled(words, |_| 0),
            summary: super::filled(words.div_ceil(64), |_| 0),
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self.words.as_slice()) + size_of_val(self.summary.as_slice())
    }

    #[inline]
    fn contains(&self, place: usize) -> bool {
        self.words
            .get(place / 64)
            .is_some_and(|word| word >> (place % 64) & 1 != 0)
    }

    #[inline]
    fn insert(&mut self, place: usize) {
        self.words[place / 64] |= 1 << (place % 64);
        self.summary[place / 4096] |= 1 << (place / 64 % 64);
    }

    #[inline]
    fn remove(&mut self, place: usize) {
        self.words[place / 64] &= !(1 << (place % 64));
        if self.words[place / 64] == 0 {
            self.summary[place / 4096] &= !(1 << (place / 64 % 64));
        }
    }

    fn first_from(&self, place: usize) -> Option<usize> {
        let word = place / 64;
        let rest = self.words.get(word)? & u64::MAX << (place % 64);
        if rest != 0 {
            return Some(word * 64 + rest.trailing_zeros() as usize);
        }
        let word = first_set_from(&self.summary, word + 1)?;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }
}

fn first_set_from(words: &[u64], bit: usize) -> Option<usize> {
    let mut mask = u64::MAX << (bit % 64);
    for (index, word) in words.iter().enumerate().skip(bit / 64) {
        if word & mask != 0 {
            return Some(index * 64 + (word & mask).trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}
