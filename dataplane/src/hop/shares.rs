//! Who pays for a neighbour's place. Strangers choose which addresses are asked for and who claims
//! to be on a link, so each kind of neighbour has places of its own: a scan or a flood of claims
//! can only crowd out what came in the same way.

use crate::limits::{
    MAX_NEIGHBOURS, MAX_NEIGHBOURS_ASKED, MAX_NEIGHBOURS_CLAIMED, MAX_NEIGHBOURS_RESERVED,
    NEIGHBOUR_PLACES,
};

/// Whose places an entry is counted among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Of those that were asked for and have not answered. A scan fills these.
    Asked,
    /// Of those that spoke first and were never asked. A flood of spoofed ARP requests fills these.
    Claimed,
    /// Of those that have answered.
    Known,
    /// Of those that the configuration names: protected servers, routers, peers.
    Reserved,
}

impl Share {
    const ALL: usize = 4;

    fn capacity(self) -> usize {
        match self {
            Self::Asked => MAX_NEIGHBOURS_ASKED,
            Self::Claimed => MAX_NEIGHBOURS_CLAIMED,
            Self::Known => MAX_NEIGHBOURS,
            Self::Reserved => MAX_NEIGHBOURS_RESERVED,
        }
    }
}

const NONE: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct List {
    first: u16,
    last: u16,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u16,
    after: u16,
}

/// The taken slots of each share, the one that has been there longest first.
#[derive(Debug)]
pub(super) struct Shares {
    lists: [List; Share::ALL],
    links: Box<[Link]>,
}

impl Shares {
    pub(super) fn new() -> Self {
        let empty = List {
            first: NONE,
            last: NONE,
            length: 0,
        };
        let alone = Link {
            before: NONE,
            after: NONE,
        };
        Self {
            lists: [empty; Share::ALL],
            links: vec![alone; NEIGHBOUR_PLACES].into(),
        }
    }

    /// Whether the share has a place left.
    pub(super) fn has_room(&self, share: Share) -> bool {
        self.lists[share as usize].length < share.capacity()
    }

    /// The slot that has been in the share longest.
    pub(super) fn first(&self, share: Share) -> Option<u16> {
        let first = self.lists[share as usize].first;
        (first != NONE).then_some(first)
    }

    /// Adds a slot that is in no share.
    pub(super) fn add(&mut self, share: Share, slot: u16) {
        let list = &mut self.lists[share as usize];
        self.links[usize::from(slot)] = Link {
            before: list.last,
            after: NONE,
        };
        match list.last {
            NONE => list.first = slot,
            last => self.links[usize::from(last)].after = slot,
        }
        list.last = slot;
        list.length += 1;
    }

    /// Takes a slot out of the share that it is in.
    pub(super) fn remove(&mut self, share: Share, slot: u16) {
        let list = &mut self.lists[share as usize];
        let Link { before, after } = self.links[usize::from(slot)];
        match before {
            NONE => list.first = after,
            before => self.links[usize::from(before)].after = after,
        }
        match after {
            NONE => list.last = before,
            after => self.links[usize::from(after)].before = before,
        }
        list.length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_queues(steps in proptest::collection::vec((0u16..9, 0usize..4), 0..200)) {
            const SHARES: [Share; 4] = [Share::Asked, Share::Claimed, Share::Known, Share::Reserved];
            let mut shares = Shares::new();
            let mut model: [Vec<u16>; 4] = Default::default();
            for (slot, to) in steps {
                if let Some(from) = model.iter().position(|queue| queue.contains(&slot)) {
                    shares.remove(SHARES[from], slot);
                    model[from].retain(|&other| other != slot);
                }
                if slot % 3 > 0 {
                    shares.add(SHARES[to], slot);
                    model[to].push(slot);
                }
                for (share, queue) in SHARES.into_iter().zip(&model) {
                    prop_assert_eq!(shares.first(share), queue.first().copied());
                    prop_assert_eq!(shares.lists[share as usize].length, queue.len());
                }
            }
        }
    }
}
