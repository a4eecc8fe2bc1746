//! What each protected service does: a server's address may stand for several hosts, and even one
//! host's programs listen with different windows.

use super::server::ServerTraits;
use crate::limits::MAX_SERVICES;

/// A service that has answered.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    key: u32,
    /// What it does.
    pub traits: ServerTraits,
    /// Whether it has answered a SYN that offered everything.
    pub is_learned: bool,
}

impl Service {
    /// Its server's place.
    #[inline]
    pub fn place(&self) -> u16 {
        (self.key >> 16) as u16
    }

    /// Its port.
    #[inline]
    pub fn port(&self) -> u16 {
        self.key as u16
    }
}

const SLOTS: usize = (MAX_SERVICES * 2).next_power_of_two();
/// A place that no server has.
const EMPTY: u32 = u32::MAX;

/// The services that have answered, found by their server's place and their port.
#[derive(Debug)]
pub(super) struct ServiceTable {
    slots: Box<[Service; SLOTS]>,
    len: usize,
}

#[inline]
fn key_of(place: u16, port: u16) -> u32 {
    u32::from(place) << 16 | u32::from(port)
}

#[inline]
fn slot_of(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b9) >> (32 - SLOTS.trailing_zeros())) as usize
}

impl ServiceTable {
    /// No service; `traits` are never read.
    pub(super) fn new(traits: ServerTraits) -> Self {
        let empty = Service {
            key: EMPTY,
            traits,
            is_learned: false,
        };
        Self {
            slots: Box::new([empty; SLOTS]),
            len: 0,
        }
    }

    /// The service, if it has answered.
    #[inline]
    pub(super) fn find(&self, place: u16, port: u16) -> Option<&Service> {
        let key = key_of(place, port);
        let mut slot = slot_of(key);
        loop {
            let known = &self.slots[slot];
            if known.key == key {
                return Some(known);
            }
            if known.key == EMPTY {
                return None;
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// The service, and whether it has answered before: if not, with `traits`. `None` when the table
    /// is full.
    pub(super) fn find_or_add(
        &mut self,
        place: u16,
        port: u16,
        traits: ServerTraits,
    ) -> Option<(&mut Service, bool)> {
        let key = key_of(place, port);
        let mut slot = slot_of(key);
        while self.slots[slot].key != key && self.slots[slot].key != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        let is_known = self.slots[slot].key == key;
        if !is_known {
            if self.is_full() {
                return None;
            }
            self.len += 1;
            self.slots[slot] = Service {
                key,
                traits,
                is_learned: false,
            };
        }
        Some((&mut self.slots[slot], is_known))
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == MAX_SERVICES
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Service> {
        self.slots.iter().filter(|service| service.key != EMPTY)
    }

    /// Forgets the services that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&Service) -> bool) {
        for slot in 0..SLOTS {
            // Another may have moved up.
            while self.slots[slot].key != EMPTY && !keep(&self.slots[slot]) {
                self.remove(slot);
            }
        }
    }

    /// Empties a slot, and moves up those behind it that are found by way of it.
    fn remove(&mut self, mut hole: usize) {
        self.len -= 1;
        let mut slot = hole;
        loop {
            slot = (slot + 1) % SLOTS;
            let key = self.slots[slot].key;
            if key == EMPTY {
                break;
            }
            let from_home = |to: usize| to.wrapping_sub(slot_of(key)) % SLOTS;
            if from_home(hole) < from_home(slot) {
                self.slots[hole] = self.slots[slot];
                hole = slot;
            }
        }
        self.slots[hole].key = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::address::Family;

    fn table() -> ServiceTable {
        ServiceTable::new(ServerTraits::assumed(Family::V4))
    }

    proptest! {
        #[test]
        fn e1_what_is_kept_is_found_and_nothing_else(
            services in proptest::collection::btree_set((0u16..4, 0u16..3000), 0..3000),
            kept in 1u16..5,
        ) {
            let mut table = table();
            for &(place, port) in &services {
                let traits = ServerTraits { mss: port, ..ServerTraits::assumed(Family::V4) };
                prop_assert!(table.find_or_add(place, port, traits).is_some_and(|(_, known)| !known));
            }
            table.retain(|service| service.port() % kept == 0);
            let (stay, go): (BTreeSet<_>, BTreeSet<_>) =
                services.into_iter().partition(|(_, port)| port % kept == 0);
            for &(place, port) in &stay {
                prop_assert_eq!(table.find(place, port).map(|found| found.traits.mss), Some(port));
            }
            for (place, port) in go {
                prop_assert!(table.find(place, port).is_none());
            }
            let left: BTreeSet<_> = table.iter().map(|one| (one.place(), one.port())).collect();
            prop_assert_eq!(left, stay);
        }
    }

    #[test]
    fn e1_a_full_table_takes_none_but_those_it_has() {
        let (mut table, traits) = (table(), ServerTraits::assumed(Family::V4));
        for port in 0..MAX_SERVICES as u16 {
            assert!(table.find_or_add(7, port, traits).is_some());
        }
        assert!(table.is_full());
        assert!(table.find_or_add(7, MAX_SERVICES as u16, traits).is_none());
        assert!(
            table
                .find_or_add(7, 5, traits)
                .is_some_and(|(_, known)| known)
        );
        table.retain(|service| service.port() != 5);
        assert!(table.find_or_add(7, MAX_SERVICES as u16, traits).is_some());
    }
}
