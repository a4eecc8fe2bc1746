//! Packets that wait for a neighbour's answer: one bounded list a neighbour, all in one pool.

use crate::io::InterfaceId;
use crate::limits::{MAX_HELD_FOR_NEIGHBOURS, MAX_HELD_PER_NEIGHBOUR, MAX_NEIGHBOURS};

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
}

const NONE: u16 = u16::MAX;
const EMPTY: List = List {
    first: NONE,
    last: NONE,
    length: 0,
};

/// The packets that wait for neighbours, by the neighbour's slot.
#[derive(Debug)]
pub(crate) struct HeldPackets<B> {
    packets: Box<[Option<Held<B>>]>,
    next: Box<[u16]>,
    free: u16,
    lists: Box<[List]>,
    count: usize,
}

impl<B> HeldPackets<B> {
    pub(crate) fn new() -> Self {
        let slots = MAX_HELD_FOR_NEIGHBOURS as u16;
        Self {
            packets: (0..slots).map(|_| None).collect(),
            next: (1..slots).chain([NONE]).collect(),
            free: 0,
            lists: vec![EMPTY; MAX_NEIGHBOURS].into(),
            count: 0,
        }
    }

    /// How many packets wait.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Holds a packet. One that finds no room comes back: with the neighbour's list full the
    /// oldest of that (RFC 4861 §7.2.2), with the pool full the new one.
    pub(crate) fn push(&mut self, neighbour: u16, packet: Held<B>) -> Option<Held<B>> {
        let full = usize::from(self.lists[usize::from(neighbour)].length) == MAX_HELD_PER_NEIGHBOUR;
        let displaced = if full { self.pop(neighbour) } else { None };
        let slot = self.free;
        if slot == NONE {
            return Some(packet);
        }
        self.free = self.next[usize::from(slot)];
        self.next[usize::from(slot)] = NONE;
        self.packets[usize::from(slot)] = Some(packet);
        let list = &mut self.lists[usize::from(neighbour)];
        match list.last {
            NONE => list.first = slot,
            last => self.next[usize::from(last)] = slot,
        }
        list.last = slot;
        list.length += 1;
        self.count += 1;
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
        self.next[usize::from(slot)] = self.free;
        self.free = slot;
        self.count -= 1;
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
            assert!(held.push(7, packet(count)).is_none());
        }
        assert_eq!(number(held.push(7, packet(1000))), Some(0));
        assert_eq!(held.count(), MAX_HELD_PER_NEIGHBOUR);
        let neighbours = (MAX_HELD_FOR_NEIGHBOURS / MAX_HELD_PER_NEIGHBOUR) as u16;
        for neighbour in 100..100 + neighbours - 1 {
            for count in 0..MAX_HELD_PER_NEIGHBOUR as u32 {
                assert!(held.push(neighbour, packet(count)).is_none());
            }
        }
        assert_eq!(number(held.push(99, packet(2000))), Some(2000));
        assert_eq!(number(held.push(7, packet(3000))), Some(1), "its own place");
        assert_eq!(number(held.pop(7)), Some(2));
        assert!(held.push(99, packet(2000)).is_none());
        let rest: Vec<_> = std::iter::from_fn(|| number(held.pop(7))).collect();
        assert_eq!(rest.len(), MAX_HELD_PER_NEIGHBOUR - 1);
        assert_eq!(rest[rest.len() - 2..], [1000, 3000]);
        assert_eq!(number(held.pop(99)), Some(2000));
        assert_eq!(number(held.pop(99)), None);
    }
}
