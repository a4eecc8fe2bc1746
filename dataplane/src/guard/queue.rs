//! Sessions in a row, of which any can step out at once: an insertion that needs a place never
//! searches for it among those that have left.

use crate::flow::table::Id;

/// No place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

/// Who stands in no row points to itself.
const fn alone(place: u32) -> Link {
    Link {
        before: place,
        after: place,
    }
}

/// A row of places of the session table, each at most once.
#[derive(Debug)]
pub(super) struct Queue {
    links: Box<[Link]>,
    first: u32,
    last: u32,
}

impl Queue {
    /// Nobody of `capacity` places yet.
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            links: (0..capacity).map(alone).collect(),
            first: NONE,
            last: NONE,
        }
    }

    /// Bytes that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.links)
    }

    /// Who has stood here longest.
    pub(super) fn first(&self) -> Option<Id> {
        (self.first != NONE).then_some(Id(self.first))
    }

    /// Comes to the end of the row, wherever it stood before.
    pub(super) fn push(&mut self, id: Id) {
        self.remove(id);
        self.links[id.index()] = Link {
            before: self.last,
            after: NONE,
        };
        match self.last {
            NONE => self.first = id.0,
            last => self.links[last as usize].after = id.0,
        }
        self.last = id.0;
    }

    /// Steps out of the row, if it stands there.
    pub(super) fn remove(&mut self, id: Id) {
        let Link { before, after } = self.links[id.index()];
        if before == id.0 {
            return;
        }
        match before {
            NONE => self.first = after,
            before => self.links[before as usize].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.links[after as usize].before = before,
        }
        self.links[id.index()] = alone(id.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn f4_it_agrees_with_a_queue_that_is_searched(
            steps in proptest::collection::vec((0u32..7, any::<bool>()), 0..200),
        ) {
            let mut queue = Queue::new(7);
            let mut model = VecDeque::new();
            for (id, pushes) in steps {
                model.retain(|&other| other != id);
                if pushes {
                    queue.push(Id(id));
                    model.push_back(id);
                } else {
                    queue.remove(Id(id));
                }
                prop_assert_eq!(queue.first(), model.front().copied().map(Id));
            }
            for &id in &model {
                prop_assert_eq!(queue.first(), Some(Id(id)));
                queue.remove(Id(id));
            }
            prop_assert_eq!(queue.first(), None);
        }
    }
}
