//! Packets of flows that no table here knows, until a peer has told of them: the server's answer
//! that overtakes the record of its client's handshake, and the like.
//!
//! They wait for some milliseconds, then they are decided on without it.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::flow::table::{Entry, Hash, Id, Table};
use crate::guard::session::SessionKey;
use crate::io::InterfaceId;
use crate::limits::{MAX_WAITING_FLOWS, MAX_WAITING_FRAMES, MAX_WAITING_PER_FLOW};

/// A frame and the interface that it came by.
pub(super) type Frame<B> = (InterfaceId, B);
/// The frames of one flow, in the order in which they came.
pub(super) type Frames<B> = ArrayVec<Frame<B>, MAX_WAITING_PER_FLOW>;

/// A flow that frames wait for. Where its frames are is told by its own place.
#[derive(Clone, Copy, Debug, Default)]
struct Ticket {
    key: Option<SessionKey>,
}

impl Entry for Ticket {
    type Key = SessionKey;

    fn key(&self) -> SessionKey {
        self.key.unwrap_or(SessionKey {
            client: crate::wire::address::Address::UNSPECIFIED,
            client_port: 0,
            server_port: 0,
            server: 0,
        })
    }

    fn matches(&self, key: &SessionKey) -> bool {
        self.key.as_ref() == Some(key)
    }
}

/// All that waits at one worker.
pub(super) struct Waiting<B> {
    tickets: Table<Ticket>,
    frames: Vec<Frames<B>>,
    /// Which flow is due when. All wait equally long, so the first to come is the first to go; a
    /// flow that has gone earlier is recognised by its count.
    due: VecDeque<(u64, Id, u32)>,
    /// Counts the flows that have used each place.
    uses: Vec<u32>,
    held: usize,
}

impl<B> Waiting<B> {
    pub(super) fn new(is_on: bool, seed: [u64; 2]) -> Self {
        let flows = if is_on { MAX_WAITING_FLOWS } else { 0 };
        Self {
            tickets: Table::with_capacity(flows as u32, seed),
            frames: (0..flows).map(|_| Frames::new()).collect(),
            due: VecDeque::with_capacity(flows * 4),
            uses: vec![0; flows],
            held: 0,
        }
    }

    /// Frames that wait.
    pub(super) fn frames(&self) -> usize {
        self.held
    }

    pub(super) fn hash(&self, key: &SessionKey) -> Hash {
        self.tickets.hash(key)
    }

    /// When the first flow has waited long enough.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        self.due.front().map(|&(deadline_ns, ..)| deadline_ns)
    }

    /// Makes a frame wait until `deadline_ns`; tells whether it is its flow's first one.
    ///
    /// # Errors
    /// The frame, when there is no room for it.
    pub(super) fn push(
        &mut self,
        hash: Hash,
        key: &SessionKey,
        frame: Frame<B>,
        deadline_ns: u64,
    ) -> Result<bool, B> {
        if self.held >= MAX_WAITING_FRAMES {
            return Err(frame.1);
        }
        let known = self.tickets.find(hash, key);
        let id = match known {
            Some(id) => id,
            None => {
                if self.due.len() == self.due.capacity() {
                    return Err(frame.1);
                }
                let ticket = Ticket { key: Some(*key) };
                let Ok(id) = self.tickets.insert(hash, ticket) else {
                    return Err(frame.1);
                };
                self.due
                    .push_back((deadline_ns, id, self.uses[id.0 as usize]));
                id
            }
        };
        match self.frames[id.0 as usize].try_push(frame) {
            Ok(()) => {
                self.held += 1;
                Ok(known.is_none())
            }
            Err(full) => Err(full.element().1),
        }
    }

    /// Whether frames of this flow wait.
    pub(super) fn has(&self, key: &SessionKey) -> bool {
        self.held > 0 && self.tickets.find(self.tickets.hash(key), key).is_some()
    }

    /// Takes the frames of a flow that has become known.
    pub(super) fn take(&mut self, key: &SessionKey) -> Option<Frames<B>> {
        if self.held == 0 {
            return None;
        }
        let id = self.tickets.find(self.tickets.hash(key), key)?;
        Some(self.remove(id))
    }

    /// Takes the frames of a flow that has waited long enough.
    pub(super) fn pop_expired(&mut self, now_ns: u64) -> Option<Frames<B>> {
        while let Some(&(deadline_ns, id, uses)) = self.due.front() {
            let is_gone = self.uses[id.0 as usize] != uses;
            if !is_gone && deadline_ns > now_ns {
                return None;
            }
            self.due.pop_front();
            if !is_gone {
                return Some(self.remove(id));
            }
        }
        None
    }

    fn remove(&mut self, id: Id) -> Frames<B> {
        let place = id.0 as usize;
        self.tickets.remove(id);
        self.uses[place] = self.uses[place].wrapping_add(1);
        let frames = std::mem::take(&mut self.frames[place]);
        self.held -= frames.len();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::Address;

    fn key(port: u16) -> SessionKey {
        SessionKey {
            client: Address::from_v4([198, 51, 100, 7]),
            client_port: port,
            server_port: 80,
            server: 0,
        }
    }

    fn push(waiting: &mut Waiting<u32>, port: u16, frame: u32, due_ns: u64) -> Result<bool, u32> {
        let hash = waiting.hash(&key(port));
        waiting.push(hash, &key(port), (InterfaceId(0), frame), due_ns)
    }

    #[test]
    fn frames_wait_in_order_until_they_are_explained_or_due() {
        // CASES 16
        let mut waiting = Waiting::new(true, [1, 2]);
        assert_eq!(push(&mut waiting, 1, 10, 100), Ok(true));
        assert_eq!(push(&mut waiting, 1, 11, 110), Ok(false));
        assert_eq!(push(&mut waiting, 2, 20, 120), Ok(true));
        let first: Vec<u32> = waiting
            .take(&key(1))
            .unwrap()
            .into_iter()
            .map(|f| f.1)
            .collect();
        assert_eq!(first, [10, 11]);
        assert!(waiting.take(&key(1)).is_none());
        // The same ports again: what was due for the first time round does not count.
        assert_eq!(push(&mut waiting, 1, 12, 130), Ok(true));
        assert!(waiting.pop_expired(119).is_none());
        assert_eq!(waiting.pop_expired(120).unwrap()[0].1, 20);
        assert!(waiting.pop_expired(129).is_none());
        assert_eq!(waiting.pop_expired(130).unwrap()[0].1, 12);
        assert_eq!((waiting.frames(), waiting.next_deadline_ns()), (0, None));
    }

    #[test]
    fn flows_and_frames_are_bounded() {
        // CASES 2
        let mut waiting = Waiting::new(true, [1, 2]);
        for frame in 0..MAX_WAITING_PER_FLOW as u32 {
            assert!(push(&mut waiting, 1, frame, 100).is_ok());
        }
        assert_eq!(push(&mut waiting, 1, 99, 100), Err(99));
        let mut refused = 0;
        for port in 2..=u16::MAX {
            refused += usize::from(push(&mut waiting, port, 1, 100).is_err());
        }
        assert!(refused >= usize::from(u16::MAX) - 1 - MAX_WAITING_FLOWS);
        assert!(waiting.frames() <= MAX_WAITING_FRAMES);
        let mut freed = 0;
        while let Some(frames) = waiting.pop_expired(100) {
            freed += frames.len();
        }
        assert_eq!(waiting.frames(), 0);
        assert!(freed > MAX_WAITING_PER_FLOW);
    }
}
