//! Packets that wait for a neighbour's answer: one bounded list a neighbour, all in two pools.

use crate::io::InterfaceId;
use crate::limits::{MAX_HELD_FOR_NEIGHBOURS, MAX_HELD_PER_NEIGHBOUR, NEIGHBOUR_PLACES};

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Held<B> {
    /// The packet.
    pub(crate) buffer: B,
    /// Where its IP header begins.
    pub(crate) network: usize,
    /// Where it came in; `None` when it was made here.
    pub(crate) ingress: Option<InterfaceId>,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u16,
    last: u16,
    length: u16,
    /// The pool that its packets are of; it is chosen when the first one comes.
    pool: u16,
}

const NONE: u16 = u16::MAX;
const EMPTY: List = List {
    first: NONE,
    last: NONE,
    length: 0,
    pool: 0,
};
/// One pool for neighbours that have reserved places, and one for all others.
const POOLS: usize = 2;

/// The packets that wait for neighbours, by the neighbour's slot.
#[derive(Debug)]
pub(crate) struct HeldPackets<B> {
    packets: Box<[Option<Held<B>>]>,
    next: Box<[u16]>,
    lists: Box<[List]>,
    pools: [Pool; POOLS],
}

#[derive(Clone, Copy, Debug)]
struct Pool {
    /// The first free place.
    free: u16,
    count: usize,
}

impl Pool {
    /// How many packets may wait for one neighbour: of the pool's second half only one, so that
    /// some neighbours that do not answer leave room for the others' first packets.
    fn most_per_neighbour(&self) -> usize {
        if self.count < MAX_HELD_FOR_NEIGHBOURS / 2 {
            MAX_HELD_PER_NEIGHBOUR
        } else {
            1
        }
    }
}

impl<B> HeldPackets<B> {
    pub(crate) fn new() -> Self {
        let size = MAX_HELD_FOR_NEIGHBOURS as u16;
        let places = POOLS as u16 * size;
        let is_last = |place: u16| (place + 1).is_multiple_of(size);
        let after = |place: u16| if is_last(place) { NONE } else { place + 1 };
        Self {
            packets: (0..places).map(|_| None).collect(),
            next: (0..places).map(after).collect(),
            lists: vec![EMPTY; NEIGHBOUR_PLACES].into(),
            pools: std::array::from_fn(|pool| Pool {
                free: pool as u16 * size,
                count: 0,
            }),
        }
    }

    /// How many packets wait.
    pub(crate) fn count(&self) -> usize {
        self.pools.iter().map(|pool| pool.count).sum()
    }

    /// Holds a packet. One that finds no room comes back: with the neighbour's list full the
    /// oldest of that (RFC 4861 §7.2.2), with the pool full the new one.
    pub(crate) fn push(
        &mut self,
        neighbour: u16,
        reserved: bool,
        packet: Held<B>,
    ) -> Option<Held<B>> {
        let list = &mut self.lists[usize::from(neighbour)];
        if list.length == 0 {
            list.pool = u16::from(reserved);
        }
        let (length, pool) = (usize::from(list.length), usize::from(list.pool));
        let is_full = length >= self.pools[pool].most_per_neighbour();
        let displaced = if is_full { self.pop(neighbour) } else { None };
        let pool = &mut self.pools[pool];
        let slot = pool.free;
        if slot == NONE {
            return Some(packet);
        }
        pool.free = self.next[usize::from(slot)];
        pool.count += 1;
        self.next[usize::from(slot)] = NONE;
        self.packets[usize::from(slot)] = Some(packet);
        let list = &mut self.lists[usize::from(neighbour)];
        match list.last {
            NONE => list.first = slot,
            last => self.next[usize::from(last)] = slot,
        }
        list.last = slot;
        list.length += 1;
        displaced
    }

    /// Takes the oldest packet that waits for `neighbour`.
    pub(crate) fn pop(&mut self, neighbour: u16) -> Option<Held<B>> {
        let list = &mut self.lists[usize::from(neighbour)];
        let slot = list.first;
        let packet = self.packets.get_mut(usize::from(slot))?.take()?;
        list.first = self.next[usize::from(slot)];
        list.length -= 1;
        if list.first == NONE {
            list.last = NONE;
        }
        let pool = &mut self.pools[usize::from(list.pool)];
        self.next[usize::from(slot)] = pool.free;
        pool.free = slot;
        pool.count -= 1;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u32) -> Held<u32> {
        Held {
            buffer: number,
            network: 0,
            ingress: None,
        }
    }

    fn number(held: Option<Held<u32>>) -> Option<u32> {
        held.map(|held| held.buffer)
    }

    #[test]
    fn a_full_list_gives_up_its_oldest_and_a_full_pool_its_newest() {
        let mut held = HeldPackets::new();
        for count in 0..MAX_HELD_PER_NEIGHBOUR as u32 {
            assert!(held.push(7, false, packet(count)).is_none());
        }
        assert_eq!(number(held.push(7, false, packet(1000))), Some(0));
        assert_eq!(held.count(), MAX_HELD_PER_NEIGHBOUR);
        // Past half of the pool one packet each.
        let half = MAX_HELD_FOR_NEIGHBOURS / 2;
        for neighbour in 100..100 + (half / MAX_HELD_PER_NEIGHBOUR) as u16 - 1 {
            for count in 0..MAX_HELD_PER_NEIGHBOUR as u32 {
                assert!(held.push(neighbour, false, packet(count)).is_none());
            }
        }
        assert_eq!(held.count(), half);
        for neighbour in 1000..1000 + half as u16 {
            assert!(held.push(neighbour, false, packet(5)).is_none());
            assert_eq!(number(held.push(neighbour, false, packet(6))), Some(5));
        }
        assert_eq!(held.count(), MAX_HELD_FOR_NEIGHBOURS);
        assert_eq!(number(held.push(99, false, packet(2000))), Some(2000));
        assert_eq!(
            number(held.push(7, false, packet(3000))),
            Some(1),
            "its own place"
        );
        assert_eq!(number(held.pop(7)), Some(2));
        assert!(held.push(99, false, packet(2000)).is_none());
        let rest: Vec<_> = std::iter::from_fn(|| number(held.pop(7))).collect();
        assert_eq!(rest.len(), MAX_HELD_PER_NEIGHBOUR - 1);
        assert_eq!(rest[rest.len() - 2..], [1000, 3000]);
        assert_eq!(number(held.pop(99)), Some(2000));
        assert_eq!(number(held.pop(99)), None);
    }

    #[test]
    fn f1_what_waits_for_strangers_leaves_room_for_servers_and_routers() {
        let mut held = HeldPackets::new();
        for neighbour in 0..2 * MAX_HELD_FOR_NEIGHBOURS as u16 {
            let _ = held.push(neighbour, false, packet(1));
        }
        assert_eq!(held.count(), MAX_HELD_FOR_NEIGHBOURS);
        for count in 0..MAX_HELD_PER_NEIGHBOUR as u32 {
            assert!(held.push(5000, true, packet(count)).is_none());
        }
        // A list stays in its pool until it is empty.
        assert!(held.push(3, true, packet(2)).is_some());
        assert_eq!(number(held.pop(3)), Some(2));
        assert!(held.push(3, true, packet(3)).is_none());
        assert!(held.push(6000, false, packet(4)).is_none());
        assert_eq!(
            held.count(),
            MAX_HELD_FOR_NEIGHBOURS + MAX_HELD_PER_NEIGHBOUR + 1
        );
    }
}
