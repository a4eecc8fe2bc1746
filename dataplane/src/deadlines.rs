//! Which slot is due next: a binary heap of fixed size whose entries can be moved.

/// One deadline for each of a fixed number of slots.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// Slots, heap-ordered by `due_ns`.
    heap: Vec<u16>,
    /// Where each slot stands in the heap; `NOWHERE` when it has no deadline.
    place: Box<[u16]>,
    due_ns: Box<[u64]>,
}

const NOWHERE: u16 = u16::MAX;

impl Deadlines {
    /// No deadline yet for any of `slots` slots (fewer than 65,535).
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            heap: Vec::with_capacity(slots),
            place: vec![NOWHERE; slots].into(),
            due_ns: vec![0; slots].into(),
        }
    }

    /// Sets or moves the deadline of `slot`.
    pub(crate) fn set(&mut self, slot: u16, due_ns: u64) {
        self.due_ns[usize::from(slot)] = due_ns;
        let mut at = self.place[usize::from(slot)];
        if at == NOWHERE {
            at = self.heap.len() as u16;
            self.heap.push(slot);
            self.place[usize::from(slot)] = at;
        }
        self.sift(at);
    }

    /// Takes the deadline of `slot` away.
    pub(crate) fn clear(&mut self, slot: u16) {
        let at = self.place[usize::from(slot)];
        if at == NOWHERE {
            return;
        }
        self.place[usize::from(slot)] = NOWHERE;
        self.heap.swap_remove(usize::from(at));
        if let Some(&moved) = self.heap.get(usize::from(at)) {
            self.place[usize::from(moved)] = at;
            self.sift(at);
        }
    }

    /// The earliest deadline.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap
            .first()
            .map(|&slot| self.due_ns[usize::from(slot)])
    }

    /// The slot with the earliest deadline.
    pub(crate) fn first(&self) -> Option<u16> {
        self.heap.first().copied()
    }

    /// Takes the slot with the earliest deadline, if that has come.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<u16> {
        let slot = *self.heap.first()?;
        if self.due_ns[usize::from(slot)] > now_ns {
            return None;
        }
        self.clear(slot);
        Some(slot)
    }

    fn due_at(&self, at: usize) -> u64 {
        self.due_ns[usize::from(self.heap[at])]
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[usize::from(self.heap[a])] = a as u16;
        self.place[usize::from(self.heap[b])] = b as u16;
    }

    fn sift(&mut self, at: u16) {
        let mut at = usize::from(at);
        while at > 0 && self.due_at(at) < self.due_at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        loop {
            let children = (2 * at + 1)..(2 * at + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.due_at(child)) else {
                return;
            };
            if self.due_at(at) <= self.due_at(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map(
            steps in proptest::collection::vec((0u16..12, 0u64..100, 0u8..4), 0..200),
        ) {
            let mut deadlines = Deadlines::new(12);
            let mut model = BTreeMap::new();
            for (slot, due, action) in steps {
                match action {
                    0 | 1 => {
                        deadlines.set(slot, due);
                        model.insert(slot, due);
                    }
                    2 => {
                        deadlines.clear(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        let first = model.values().min().copied();
                        let popped = deadlines.pop_due(due);
                        prop_assert_eq!(popped.is_some(), first.is_some_and(|first| first <= due));
                        if let Some(popped) = popped {
                            prop_assert_eq!(model.remove(&popped), first);
                        }
                    }
                }
                prop_assert_eq!(deadlines.next_ns(), model.values().min().copied());
            }
        }
    }
}
