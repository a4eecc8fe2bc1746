//! Which place a neighbour takes, and who gives way to it.

use std::sync::Arc;

use super::super::shares::Share;
use super::{Entry, FREE, NeighbourState, Neighbours, is_known};
use crate::io::InterfaceId;
use crate::wire::address::Address;

/// Entries that are looked at for one to give up when a share is full.
const EVICTION_TRIES: usize = 16;

impl Neighbours {
    /// From now on these have reserved places; [`Self::reclassify`] those that there are.
    pub(crate) fn reserve(&mut self, reserved: Arc<[(InterfaceId, Address)]>) {
        self.reserved = reserved;
    }

    /// Has a neighbour pay where it now belongs; whether there was a place for it.
    pub(crate) fn reclassify(&mut self, slot: u16) -> bool {
        let entry = &self.entries[usize::from(slot)];
        let reserved = self.is_reserved(entry.interface, entry.address);
        if reserved == (entry.share == Share::Reserved) {
            return true;
        }
        let to = match (reserved, is_known(entry.state)) {
            (true, _) => Share::Reserved,
            (false, true) => Share::Known,
            (false, false) => Share::Asked,
        };
        let has_room = self.make_room(to);
        if has_room {
            self.move_to(to, slot);
        }
        // Who loses nothing stays where it was.
        has_room || reserved
    }

    /// Whether a neighbour has a reserved place.
    fn is_reserved(&self, interface: InterfaceId, address: Address) -> bool {
        self.reserved.binary_search(&(interface, address)).is_ok()
    }

    /// Whether the neighbour in `slot` has a reserved place.
    pub(crate) fn has_reserved_place(&self, slot: u16) -> bool {
        self.entries[usize::from(slot)].share == Share::Reserved
    }

    /// Counts an entry among those that have answered, or at least said that they are there. Where
    /// these are all in use it stays where it is, and is used all the same.
    pub(super) fn raise(&mut self, slot: u16, answered: bool) {
        let to = if answered {
            Share::Known
        } else {
            Share::Claimed
        };
        let raised = match self.entries[usize::from(slot)].share {
            Share::Asked => true,
            Share::Claimed => answered,
            Share::Known | Share::Reserved => false,
        };
        if raised && self.make_room(to) {
            self.move_to(to, slot);
        }
    }

    fn move_to(&mut self, to: Share, slot: u16) {
        let share = &mut self.entries[usize::from(slot)].share;
        self.shares.remove(*share, slot);
        *share = to;
        self.shares.add(to, slot);
    }

    /// A slot for a neighbour that has none, among those of `share` unless it has a reserved one; the
    /// caller gives it a state and a deadline.
    pub(super) fn insert(
        &mut self,
        interface: InterfaceId,
        address: Address,
        share: Share,
    ) -> Option<u16> {
        let reserved =
            self.shares.has_room(Share::Reserved) && self.is_reserved(interface, address);
        let share = if reserved { Share::Reserved } else { share };
        if !self.make_room(share) {
            return None;
        }
        let slot = self.free.pop()?;
        self.entries[usize::from(slot)] = Entry {
            interface,
            address,
            share,
            ..FREE
        };
        self.shares.add(share, slot);
        self.slots.insert((interface.0, address), slot);
        Some(slot)
    }

    /// Whether the share has room, if need be by giving up one of its own that nothing is sent to.
    fn make_room(&mut self, share: Share) -> bool {
        if self.shares.has_room(share) {
            return true;
        }
        if !matches!(share, Share::Claimed | Share::Known) {
            return false;
        }
        for _ in 0..EVICTION_TRIES {
            let Some(slot) = self.shares.first(share) else {
                return false;
            };
            if self.entries[usize::from(slot)].state == Some(NeighbourState::Stale) {
                self.remove(slot);
                return true;
            }
            // In use: it comes to the end of the queue.
            self.move_to(share, slot);
        }
        false
    }

    pub(super) fn remove(&mut self, slot: u16) {
        self.version += 1;
        let entry = &mut self.entries[usize::from(slot)];
        self.slots.remove(&(entry.interface.0, entry.address));
        self.shares.remove(entry.share, slot);
        *entry = FREE;
        self.deadlines.clear(slot);
        self.free.push(slot);
    }
}
