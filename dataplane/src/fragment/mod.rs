//! Virtual reassembly: fragments wait until their datagram is complete and consistent, and then go
//! on as they came. Nothing is copied together; only the first one's headers are looked at and
//! changed, the others follow it.

mod piece;

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use crate::context::Context;
use crate::counters::Event;
use crate::deadlines::Deadlines;
use crate::drop_reason::DropReason;
use crate::io::{InterfaceId, Io};
use crate::keyed::Keyed;
use crate::limits::{
    MAX_DATAGRAMS, MAX_DATAGRAMS_PER_SOURCE, MAX_FRAGMENT_BYTES, MAX_FRAGMENT_BYTES_PER_SOURCE,
    MAX_FRAGMENT_TIMERS, MAX_FRAGMENTS, MAX_FRAGMENTS_PER_DATAGRAM, MAX_FRAGMENTS_PER_SOURCE,
};
use crate::packet::Buffer;
use crate::parse::Parsed;
use crate::wire::address::{Address, Family};

use piece::{Key, Piece};

/// How long a datagram may take to be complete. Its fragments leave their source back to back, so
/// two seconds allow for any reordering of paths; hosts wait 30 to 60 s (RFC 8200 §4.5), which
/// would let a flood of fragments hold its memory that much longer (CVE-2018-5391).
pub const TIMEOUT_NS: u64 = 2_000_000_000;

/// A complete datagram's fragments with the facts of each, in order; the first has the ports.
pub type Fragments<B> = ArrayVec<(B, Parsed), MAX_FRAGMENTS_PER_DATAGRAM>;

/// What became of a fragment.
#[derive(Debug)]
#[must_use]
pub enum FragmentOutcome<B> {
    /// It waits for the others.
    Held,
    /// It was the last one missing.
    Complete(Fragments<B>),
    /// It ends here.
    Drop(B, DropReason),
}

/// The incomplete datagrams of one worker.
///
/// Give it every fragment ([`crate::parse::Fragment`] other than `Whole`) that was admitted for
/// transit, and call [`Reassembler::tick`] once a loop. All fragments of a datagram must come to
/// the same worker: those that follow the first have no ports, so they are steered by their
/// addresses alone.
///
/// A datagram whose fragments overlap or contradict each other is refused whole, what comes later
/// included (RFC 5722); an exact copy of a held fragment is dropped and does no harm. IPv4 is held
/// to the same rule.
#[derive(Debug)]
pub struct Reassembler<B> {
    datagrams: Box<[Datagram]>,
    free_datagrams: Vec<u16>,
    slots: HashMap<Key, u16, Keyed>,
    sources: HashMap<Address, Held, Keyed>,
    deadlines: Deadlines,
    fragments: Box<[Option<Stored<B>>]>,
    /// The next fragment of the same datagram, or the next free place.
    next: Box<[u16]>,
    free_fragment: u16,
    held: Held,
}

/// What is held, of one source or in all.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    datagrams: usize,
    fragments: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    key: Option<Key>,
    /// Its fragments, by their place in it.
    first: u16,
    fragments: usize,
    /// Octets of payload that are here.
    bytes: usize,
    /// Octets of payload in all, once the last fragment is here.
    end: Option<usize>,
    /// Why no more of it is taken.
    refused: Option<DropReason>,
}

#[derive(Debug)]
struct Stored<B> {
    buffer: B,
    parsed: Parsed,
    piece: Piece,
}

const NONE: u16 = u16::MAX;
const FREE: Datagram = Datagram {
    key: None,
    first: NONE,
    fragments: 0,
    bytes: 0,
    end: None,
    refused: None,
};

impl<B: Buffer> Reassembler<B> {
    /// Nothing held. `key` should be random: it keeps strangers from choosing colliding keys.
    pub fn new(key: u128) -> Self {
        // Twice what they hold: with less, erased ones would make the tables grow.
        let capacity = 2 * MAX_DATAGRAMS;
        Self {
            datagrams: vec![FREE; MAX_DATAGRAMS].into(),
            free_datagrams: (0..MAX_DATAGRAMS as u16).rev().collect(),
            slots: HashMap::with_capacity_and_hasher(capacity, Keyed::new(key)),
            sources: HashMap::with_capacity_and_hasher(capacity, Keyed::new(!key)),
            deadlines: Deadlines::new(MAX_DATAGRAMS),
            fragments: (0..MAX_FRAGMENTS).map(|_| None).collect(),
            next: (1..MAX_FRAGMENTS as u16).chain([NONE]).collect(),
            free_fragment: 0,
            held: Held::default(),
        }
    }

    /// Takes a fragment that came in by `interface`.
    pub fn insert<I: Io<Buffer = B>>(
        &mut self,
        interface: InterfaceId,
        buffer: B,
        parsed: &Parsed,
        ctx: &mut Context<'_, I>,
    ) -> FragmentOutcome<B> {
        let (key, piece) = match piece::read(buffer.bytes(), parsed, interface) {
            Ok(found) => found,
            Err(reason) => return FragmentOutcome::Drop(buffer, reason),
        };
        let slot = match self.slots.get(&key) {
            Some(&slot) => slot,
            None => match self.begin(key, ctx) {
                Some(slot) => slot,
                None => return FragmentOutcome::Drop(buffer, DropReason::FragmentLimit),
            },
        };
        if let Some(reason) = self.datagrams[usize::from(slot)].refused {
            return FragmentOutcome::Drop(buffer, reason);
        }
        let bytes = buffer.bytes().len();
        let checked = self
            .place_of(slot, piece, buffer.bytes())
            .and_then(|before| {
                let fits =
                    self.is_within_share(slot, key, bytes) && self.make_room(slot, bytes, ctx);
                fits.then_some(before).ok_or(DropReason::FragmentLimit)
            });
        match checked {
            Ok(before) => self.store(
                slot,
                key,
                before,
                Stored {
                    buffer,
                    parsed: *parsed,
                    piece,
                },
            ),
            Err(DropReason::FragmentDuplicate) => {
                return FragmentOutcome::Drop(buffer, DropReason::FragmentDuplicate);
            }
            Err(reason) => {
                // The rest of it can never be completed, so it need not be kept either.
                self.release(slot, reason, ctx);
                self.datagrams[usize::from(slot)].refused = Some(reason);
                return FragmentOutcome::Drop(buffer, reason);
            }
        }
        let datagram = &self.datagrams[usize::from(slot)];
        if datagram.end != Some(datagram.bytes) {
            return FragmentOutcome::Held;
        }
        ctx.counters.count(Event::Reassembled);
        let mut complete = Fragments::new();
        while let Some(stored) = self.pop(slot) {
            complete.push((stored.buffer, stored.parsed));
        }
        self.end(slot);
        FragmentOutcome::Complete(complete)
    }

    /// Frees datagrams that were not complete in time.
    pub fn tick<I: Io<Buffer = B>>(&mut self, ctx: &mut Context<'_, I>) {
        for _ in 0..MAX_FRAGMENT_TIMERS {
            let Some(slot) = self.deadlines.pop_due(ctx.now_ns) else {
                return;
            };
            self.release(slot, DropReason::FragmentTimeout, ctx);
            self.end(slot);
        }
    }

    /// When [`Reassembler::tick`] next has something to do.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.deadlines.next_ns()
    }

    /// How many fragments wait.
    pub fn held(&self) -> usize {
        self.held.fragments
    }

    fn begin<I: Io<Buffer = B>>(&mut self, key: Key, ctx: &mut Context<'_, I>) -> Option<u16> {
        let source = source_of(key);
        let held = self.sources.get(&source).copied().unwrap_or_default();
        if held.datagrams == MAX_DATAGRAMS_PER_SOURCE {
            return None;
        }
        if self.free_datagrams.is_empty() {
            self.evict(None, ctx);
        }
        let slot = self.free_datagrams.pop()?;
        self.datagrams[usize::from(slot)].key = Some(key);
        self.slots.insert(key, slot);
        self.sources.entry(source).or_default().datagrams += 1;
        self.held.datagrams += 1;
        self.deadlines.set(slot, ctx.now_ns + TIMEOUT_NS);
        Some(slot)
    }

    /// Gives up the datagram that has waited longest, unless it is `but`; whether there was one.
    /// What a flood of spoofed fragments began makes room for what comes after it: fragments of an
    /// honest datagram come close together, and meet before their turn has come.
    #[cold]
    fn evict<I: Io<Buffer = B>>(&mut self, but: Option<u16>, ctx: &mut Context<'_, I>) -> bool {
        let Some(slot) = self.deadlines.first().filter(|&slot| Some(slot) != but) else {
            return false;
        };
        self.release(slot, DropReason::FragmentLimit, ctx);
        self.end(slot);
        true
    }

    /// Makes room for one more fragment of the datagram in `slot`, if need be at the cost of those
    /// that have waited longer.
    fn make_room<I: Io<Buffer = B>>(
        &mut self,
        slot: u16,
        bytes: usize,
        ctx: &mut Context<'_, I>,
    ) -> bool {
        for _ in 0..MAX_FRAGMENT_TIMERS {
            let has_room = self.held.fragments < MAX_FRAGMENTS
                && self.held.bytes + bytes <= MAX_FRAGMENT_BYTES;
            if has_room || !self.evict(Some(slot), ctx) {
                return has_room;
            }
        }
        false
    }

    /// The fragment after which `piece` belongs, if it contradicts none.
    fn place_of(&self, slot: u16, piece: Piece, frame: &[u8]) -> Result<u16, DropReason> {
        let datagram = &self.datagrams[usize::from(slot)];
        let mut before = NONE;
        let mut at = datagram.first;
        let mut last_end = 0;
        while let Some(Some(other)) = self.fragments.get(usize::from(at)) {
            if other.piece.begin < piece.end && piece.begin < other.piece.end {
                let same = same_octets(other, piece, frame);
                return Err(match same {
                    true => DropReason::FragmentDuplicate,
                    false => DropReason::FragmentOverlap,
                });
            }
            if other.piece.begin < piece.begin {
                before = at;
            }
            last_end = other.piece.end;
            at = self.next[usize::from(at)];
        }
        // There is one end, and nothing lies beyond it.
        let contradicts = match (datagram.end, piece.more) {
            (Some(end), more) => piece.end > end || !more,
            (None, false) => last_end > piece.end,
            (None, true) => false,
        };
        match contradicts {
            true => Err(DropReason::FragmentOverlap),
            false => Ok(before),
        }
    }

    /// Whether neither the datagram nor its source has as much as it may.
    fn is_within_share(&self, slot: u16, key: Key, bytes: usize) -> bool {
        let source = self
            .sources
            .get(&source_of(key))
            .copied()
            .unwrap_or_default();
        self.datagrams[usize::from(slot)].fragments < MAX_FRAGMENTS_PER_DATAGRAM
            && source.fragments < MAX_FRAGMENTS_PER_SOURCE
            && source.bytes + bytes <= MAX_FRAGMENT_BYTES_PER_SOURCE
    }

    /// Keeps a fragment after the one at `before`; room was found for it.
    fn store(&mut self, slot: u16, key: Key, before: u16, stored: Stored<B>) {
        let bytes = stored.buffer.bytes().len();
        let source = self.sources.entry(source_of(key)).or_default();
        for held in [source, &mut self.held] {
            held.fragments += 1;
            held.bytes += bytes;
        }
        let datagram = &mut self.datagrams[usize::from(slot)];
        datagram.fragments += 1;
        datagram.bytes += stored.piece.end - stored.piece.begin;
        if !stored.piece.more {
            datagram.end = Some(stored.piece.end);
        }
        let place = self.free_fragment;
        self.free_fragment = self.next[usize::from(place)];
        self.fragments[usize::from(place)] = Some(stored);
        let link = match before {
            NONE => &mut datagram.first,
            before => &mut self.next[usize::from(before)],
        };
        let after = std::mem::replace(link, place);
        self.next[usize::from(place)] = after;
    }

    /// Takes the first of a datagram's fragments.
    fn pop(&mut self, slot: u16) -> Option<Stored<B>> {
        let datagram = &mut self.datagrams[usize::from(slot)];
        let place = datagram.first;
        let stored = self.fragments.get_mut(usize::from(place))?.take()?;
        datagram.first = self.next[usize::from(place)];
        datagram.fragments -= 1;
        self.next[usize::from(place)] = self.free_fragment;
        self.free_fragment = place;
        let source = datagram.key.map(source_of);
        let source = source.and_then(|source| self.sources.get_mut(&source));
        for held in source.into_iter().chain([&mut self.held]) {
            held.fragments -= 1;
            held.bytes -= stored.buffer.bytes().len();
        }
        Some(stored)
    }

    /// Frees a datagram's fragments.
    fn release<I: Io<Buffer = B>>(
        &mut self,
        slot: u16,
        reason: DropReason,
        ctx: &mut Context<'_, I>,
    ) {
        while let Some(stored) = self.pop(slot) {
            ctx.discard(stored.buffer, reason);
        }
    }

    /// Forgets a datagram that holds no fragment any more.
    fn end(&mut self, slot: u16) {
        let datagram = std::mem::replace(&mut self.datagrams[usize::from(slot)], FREE);
        let Some(key) = datagram.key else {
            return;
        };
        self.slots.remove(&key);
        self.deadlines.clear(slot);
        self.free_datagrams.push(slot);
        self.held.datagrams -= 1;
        let source = source_of(key);
        if let Some(held) = self.sources.get_mut(&source) {
            held.datagrams -= 1;
            if held.datagrams == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// Whom a fragment is charged to. A host has a whole /64 of IPv6 addresses to choose from.
fn source_of(key: Key) -> Address {
    match key.source.family() {
        Family::V4 => key.source,
        Family::V6 => Address::from_bits(key.source.to_bits() & !u128::from(u64::MAX)),
    }
}

/// Whether a fragment is an exact copy of one that is held.
fn same_octets<B: Buffer>(held: &Stored<B>, piece: Piece, frame: &[u8]) -> bool {
    let length = piece.end - piece.begin;
    let place = |piece: Piece| (piece.begin, piece.end, piece.more);
    place(held.piece) == place(piece)
        && frame.get(piece.data..piece.data + length)
            == held
                .buffer
                .bytes()
                .get(held.piece.data..held.piece.data + length)
}

#[cfg(test)]
mod tests;
